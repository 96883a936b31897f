// Rolls out the first rows of the last pass of one problem once more, and stores their states and weights for a program
// that shares the device. Rows are drawn again around the nominal from before the step, or read as given. The buffer of
// the trajectories is bound in place of the partial means.
//
// The functions that rollout.wgsl lists are prepended to this file, too, and
//     put_point(at, x, weight): stores a state and the weight of its row from address `at` on, POINT numbers in all

@compute @workgroup_size(64)
fn trajectories(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    // `uniforms.begin` selects the problem, and `uniforms.end` is the number of rows that are stored.
    start_problem(uniforms.begin);
    find_inputs();
    let k = id.y * workgroups.x * 64u + id.x;
    if k < min(uniforms.rows, uniforms.end) {
        read_fields();
        // Twin: Samples::weights in src/control/planner/plan.rs.
        let log_weight = log_weights[log_weight_address(k)];
        let relative = gibbs_exp(log_weight - summary[problem].sums.max) / summary[problem].sums.sum;
        let weight = select(0.0, relative, log_weight > MASKED);
        var at = k * (uniforms.horizon + 1u) * POINT;
        let p = proposal();
        let draws = draws_of(k);
        var x = initial_state();
        put_point(at, x, weight);
        var filter_state = Filter();
        var before = last_control();
        var changed = last_change();
        var running = B(true);
        for (var start = 0u; start < innovations(); start += STEPS) {
            var coordinates = coordinates_from(p, centered(start, NOMINAL_BEFORE, FACTORS_BEFORE), draws, start);
            let end = min(start + STEPS, innovations());
            for (var i = start; i < end; i++) {
                filter_state = entered(filter_state, i, first_of(coordinates));
                coordinates = rest_of(coordinates);
                for (var phase = 0u; phase < time_steps_of(i); phase++) {
                    let t = time_step(i, phase);
                    let u = control_of(p, filter_state, t, phase, NOMINAL_BEFORE, before, changed);
                    let next = model_advance(t, running, x, before, u);
                    running = next.running;
                    x = next.x;
                    changed = change_at(p, t, before, changed, u);
                    before = u;
                    at += POINT;
                    put_point(at, x, weight);
                }
            }
        }
    }
}
