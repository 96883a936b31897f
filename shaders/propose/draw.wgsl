// Stores the rows of the last pass of one problem, for a caller that fetches them: drawn again around the nominal
// from before the step or, if the rows were given, as clamped to the limits.

@compute @workgroup_size(64)
fn draw(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    // `uniforms.begin` selects the problem; this kernel is dispatched for one problem only.
    start_problem(uniforms.begin);
    find_inputs();
    let k = id.y * workgroups.x * 64u + id.x;
    if k < uniforms.rows {
        let p = proposal();
        let draws = draws_of(k);
        var filter_state = Filter();
        var before = last_control();
        var changed = last_change();
        for (var start = 0u; start < innovations(); start += STEPS) {
            var coordinates = coordinates_from(p, centered(start, NOMINAL_BEFORE, FACTORS_BEFORE), draws, start);
            let end = min(start + STEPS, innovations());
            for (var i = start; i < end; i++) {
                filter_state = entered(filter_state, i, first_of(coordinates));
                coordinates = rest_of(coordinates);
                for (var phase = 0u; phase < time_steps_of(i); phase++) {
                    let t = time_step(i, phase);
                    let u = control_of(p, filter_state, t, phase, NOMINAL_BEFORE, before, changed);
                    changed = change_at(p, t, before, changed, u);
                    before = u;
                    stored(k, t, u);
                }
            }
        }
    }
}
