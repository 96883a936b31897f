// The weighted mean of one group of rows that are drawn again, STEPS time steps a workgroup: the noise is a function of row
// and coordinate, and computing it twice takes less time than writing it to memory and reading it back.
// Twin: tiles in src/engine/cpu/weighted_mean.rs (the CPU keeps its rows, because its caches do).

@compute @workgroup_size(256)
fn group_mean(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = workgroup.x;
    let w = group_weights(group, lane, workgroup.y == 0u);
    let start = workgroup.y * STEPS;
    var sum = Held();
    if any(w > vec4<f32>()) {
        let p = proposal();
        for (var i = 0u; i < 4u; i++) {
            // Rows beyond the last weigh nothing.
            sum = weighed(sum, w[i], p, min(group * GROUP + lane * 4u + i, update.rows - 1u), start);
        }
    }
    let at = group * partial_len() + HEADER_LEN + start * CONTROLS;
    let left = update.width - start * CONTROLS;
    for (var i = 0u; i < STEPS * CONTROLS; i += 4u) {
        workgroupBarrier();
        let four = add_up(lane, held_four(sum, i));
        if lane < 4u && i + lane < left {
            partials[at + i + lane] = four[lane];
        }
    }
}
