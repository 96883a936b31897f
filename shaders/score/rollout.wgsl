// Draw and score: one invocation runs one rollout (or WIDE of them, see vec2.wgsl and vec4.wgsl). The time loop is
// inside it, the state stays in registers. Twin: src/kernels/score/rollout.rs.
//
// The model is generated (src/runtime/gpu/source.rs) and prepended to this file:
//     struct State, struct Control, initial_state()
//     model_advance(t, running, x, before, u): one time step. The cost of having arrived in x by `before` and its
//         demonstration cost, if they count; whether the rollout goes on; the next state under u, which is x if not
//     model_end(t, running, x, before): the same costs of the last time step, and the terminal cost
//     The rules are written in src/model/advance.rs.
//     struct Proposal, proposal()
//     struct Block, struct Draw, centered(start, nominal, factors), coordinates_from(p, d, rows, start), first_of(c),
//         rest_of(c): the next STEPS innovations of some rows. With white noise an innovation is the control of a time
//         step, drawn or given, clamped to the limits.
//     innovations(), struct Filter, entered(f, i, innovation), time_steps_of(i), time_step(i, phase),
//         control_of(p, f, t, phase, nominal, before, changed): the controls of the time steps from innovation i to
//         the next; change_at(p, t, before, changed, u): their changes, if the jerk is limited (src/runtime/gpu/filter.rs)
//     read_fields(): called before the model
//     control_cost(p, about, u)
//     const CONTROL_COST, DEMONSTRATED: which second score is computed

// Runs the rollouts of an invocation, from row k on; stores their scores and returns their keys.
fn roll(k: u32) -> vec3<u32> {
    read_fields();
    let p = proposal();
    var x = initial_state();
    var before = last_control();
    var changed = last_change();
    var running = B(true);
    var sum = Two();
    // Not F(): if a module has both F() and vec4<f32>(), naga defines the zero of float4 twice in HLSL.
    var second = F(0.0);
    let draws = draws_of(rows_from(k));
    var filter_state = Filter();
    for (var start = 0u; start < innovations(); start += STEPS) {
        let center = centered(start, NOMINAL, FACTORS);
        var about = center.center;
        var coordinates = coordinates_from(p, center, draws, start);
        let end = min(start + STEPS, innovations());
        for (var i = start; i < end; i++) {
            filter_state = entered(filter_state, i, first_of(coordinates));
            coordinates = rest_of(coordinates);
            // With white noise this is not a loop: see src/runtime/gpu/filter.rs.
            for (var phase = 0u; phase < time_steps_of(i); phase++) {
                let t = time_step(i, phase);
                let u = control_of(p, filter_state, t, phase, NOMINAL, before, changed);
                if CONTROL_COST {
                    second += control_cost(p, first_of(about), u);
                    about = rest_of(about);
                }
                // The cost of the previous step is evaluated here, together with the next step, so that common
                // subexpressions are computed once.
                let next = model_advance(t, running, x, before, u);
                sum = kahan_add(sum, next.cost);
                if DEMONSTRATED {
                    second += next.demonstration_cost;
                }
                running = next.running;
                x = next.x;
                changed = change_at(p, t, before, changed, u);
                before = u;
            }
        }
    }
    let end = model_end(uniforms.horizon, running, x, before);
    sum = kahan_add(kahan_add(sum, end.cost), end.terminal);
    if DEMONSTRATED {
        second += end.demonstration_cost;
    }

    let at = score_address(k) + scenario_scores();
    var keys = EMPTY_KEYS;
    for (var i = 0u; i < WIDE; i++) {
        let cost = component(sum.x, i);
        scores[at + i] = cost;
        scores[at + TILE + i] = -component(sum.y, i);
        scores[at + 2u * TILE + i] = component(second, i);
        keys = merge_keys(keys, keys_of(k + i < uniforms.rows, cost, component(second, i)));
    }
    return keys;
}

@compute @workgroup_size(TILE_LANES)
fn rollout(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    find_rollout(workgroup.z);
    let tile = workgroup.y * workgroups.x + workgroup.x;
    var keys = EMPTY_KEYS;
    // A workgroup beyond the last tile has no work; the condition is uniform over the workgroup.
    if tile * TILE < uniforms.rows {
        keys = roll(tile * TILE + lane * WIDE);
    }
    // With scenarios, the costs that count are combined later (risk.wgsl).
    if uniforms.scenarios == 0u {
        enter(lane, keys);
    }
}
