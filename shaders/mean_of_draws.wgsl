// The weighted mean of one group of rows that are drawn again: the noise is a function of row and coordinate, and computing
// it twice takes less time than writing it to memory and reading it back. The workgroups of a group share its time steps out,
// STEPS at a time. Twin: tiles in src/engine/cpu/weighted_mean.rs (the CPU keeps its rows, because its caches do).

@compute @workgroup_size(64)
fn group_mean(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = workgroup.x;
    find_weights(group, lane, workgroup.y == 0u);
    let p = proposal();
    for (var start = workgroup.y * STEPS; start < update.horizon; start += workgroups.y * STEPS) {
        let centre = nominal_from(start, 0u);
        var sum = Stretch();
        for (var at = lane; 4u * at < group_count(group); at += LANES) {
            let w = weights[at];
            let k = group * GROUP + at * 4u;
            if any(w > vec4<f32>()) {
                sum = weighed(sum, w.x, of_row(p, centre, k, start));
                sum = weighed(sum, w.y, of_row(p, centre, k + 1u, start));
                sum = weighed(sum, w.z, of_row(p, centre, k + 2u, start));
                sum = weighed(sum, w.w, of_row(p, centre, k + 3u, start));
            }
        }
        let at = group * partial_len() + HEADER_LEN + start * CONTROLS;
        let left = update.width - start * CONTROLS;
        for (var i = 0u; i < STEPS * CONTROLS; i += 4u) {
            workgroupBarrier();
            add_to_root(lane, four_of(sum, i));
            if lane < 4u && i + lane < left {
                partials[at + i + lane] = root_sum_of(lane);
            }
        }
    }
}

// Rows beyond the last weigh nothing, but must be somewhere.
fn of_row(p: Proposal, centre: Stretch, k: u32, start: u32) -> Stretch {
    return controls_from(p, centre, min(k, update.rows - 1u), start);
}
