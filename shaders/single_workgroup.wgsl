// A whole pass of one problem by one workgroup, for problems with so few rows that a sequence of dispatches would
// cost more than their work, and for many problems at once. It is built from the functions of the other kernels: roll
// (rollout.wgsl), find_temperature (temperature.wgsl), mean_of_group (mean_of_draws.wgsl), step_coordinate and
// step_controls (step.wgsl).
//
// const SEARCHED: whether any pass needs `find_temperature`; prepended by src/runtime/gpu/source.rs.

@compute @workgroup_size(LANES)
fn whole(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    start_problem(workgroup.z);
    find_inputs();
    var keys = EMPTY_KEYS;
    for (var k = lane * WIDE; k < padded_rows(); k += LANES * WIDE) {
        keys = merge_keys(keys, roll(k));
    }
    atomicMin(&summary[problem].best, keys.x);
    atomicMax(&summary[problem].worst, keys.y);
    atomicMin(&summary[problem].nearest, keys.z);
    storageBarrier();
    workgroupBarrier();
    if SEARCHED && !simple() {
        find_temperature(lane);
        storageBarrier();
        workgroupBarrier();
    }
    mean_of_group(0u, 0u, 1u, lane);
    storageBarrier();
    workgroupBarrier();

    // There is only one group, so its sums need no merge.
    let at = partial_at(0u);
    let sum = partials[at + 1u];
    let there = sum > 0.0;
    for (var d = lane; d < uniforms.coordinates; d += LANES) {
        let mean = partials[at + HEADER_LEN + d] / select(1.0, sum, there);
        var second = 0.0;
        if has(FLAG_SECOND_MOMENT) {
            second = partials[at + HEADER_LEN + uniforms.coordinates + d] / select(1.0, sum, there);
        }
        step_coordinate(d, mean, second, there);
    }
    step_controls(lane, there);
    if lane == 0u {
        record_sums(partials[at], vec3<f32>(sum, partials[at + 2u], partials[at + 3u]), u32(partials[at + 4u]));
        close_summary();
    }
}
