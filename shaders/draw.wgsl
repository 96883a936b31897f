// Stores the rows of the last update of one problem, for a caller that fetches them: drawn again around the nominal
// from before the step or, if the rows were given, as clamped to the limits.

@compute @workgroup_size(64)
fn draw(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    // `uniforms.begin` selects the problem; this kernel is dispatched for one problem only.
    problem = uniforms.begin;
    find_inputs();
    let k = id.y * workgroups.x * 64u + id.x;
    if k < uniforms.rows {
        let p = proposal();
        let draws = draws_of(k);
        for (var start = 0u; start < uniforms.horizon; start += STEPS) {
            var controls = controls_from(p, centered(start, NOMINAL_BEFORE, FACTORS_BEFORE), draws, start);
            let end = min(start + STEPS, uniforms.horizon);
            for (var t = start; t < end; t++) {
                stored(k, t, first_of(controls));
                controls = rest_of(controls);
            }
        }
    }
}
