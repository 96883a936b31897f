// The weighted mean of one group of rows that are drawn again: the noise is a function of row and coordinate, and computing
// it twice takes less time than writing it to memory and reading it back. The workgroups of a group share its time steps out,
// STEPS at a time. Twin: tiles in src/engine/cpu/weighted_mean.rs (the CPU keeps its rows, because its caches do).

@compute @workgroup_size(64)
fn group_mean(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    problem = workgroup.z;
    let group = workgroup.x;
    find_weights(group, lane, workgroup.y == 0u);
    let p = proposal();
    for (var start = workgroup.y * STEPS; start < update.horizon; start += workgroups.y * STEPS) {
        let d = centred(start, NOMINAL, FACTORS);
        var sum = Stretch();
        var squares = Stretch();
        for (var at = lane; 4u * at < group_count(group); at += LANES) {
            let w = weights[at];
            let k = group * GROUP + at * 4u;
            if any(w != vec4<f32>()) {
                let c0 = of_row(p, d, k, start);
                let c1 = of_row(p, d, k + 1u, start);
                let c2 = of_row(p, d, k + 2u, start);
                let c3 = of_row(p, d, k + 3u, start);
                sum = weighed(weighed(weighed(weighed(sum, w.x, c0), w.y, c1), w.z, c2), w.w, c3);
                if SECOND_MOMENT {
                    let two = squared(squared(squares, w.x, c0, d), w.y, c1, d);
                    squares = squared(squared(two, w.z, c2, d), w.w, c3, d);
                }
            }
        }
        let at = partial_at(group) + HEADER_LEN + start * CONTROLS;
        let left = update.width - start * CONTROLS;
        for (var i = 0u; i < STEPS * CONTROLS; i += 4u) {
            workgroupBarrier();
            add_to_root(lane, four_of(sum, i));
            if lane < 4u && i + lane < left {
                partials[at + i + lane] = root_sum_of(lane);
            }
            if SECOND_MOMENT {
                workgroupBarrier();
                add_to_root(lane, four_of(squares, i));
                if lane < 4u && i + lane < left {
                    partials[at + update.width + i + lane] = root_sum_of(lane);
                }
            }
        }
    }
}

// Rows beyond the last weigh nothing, but must be somewhere.
fn of_row(p: Proposal, d: Draw, k: u32, start: u32) -> Stretch {
    return controls_from(p, d, min(k, update.rows - 1u), start);
}
