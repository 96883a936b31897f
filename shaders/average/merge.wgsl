// Merges the partial results of all groups, in a fixed order. Twin: merge and weighted_mean in
// src/kernels/average.rs.
//
// src/runtime/gpu/source.rs supplies what is done with the result: finish(d, mean, second, there), called for each
// coordinate; finish_all(lane, there), called by all invocations afterwards; and close(), called once after the sums
// are stored. A workgroup merges 16 coordinates at a time. With filtered rows finish_all needs all of them, so a single
// workgroup is dispatched.

const COORDINATES = 16u;
const PARTS = LANES / COORDINATES;

@compute @workgroup_size(LANES)
fn merge(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    start_problem(workgroup.z);
    let groups = group_total();
    let len = partial_len();
    let base = partial_at(0u);

    var max_here = MASKED;
    for (var g = lane; g < groups; g += LANES) {
        max_here = max(max_here, partials[base + g * len]);
    }
    let all_max = largest(lane, max_here);
    var mine = vec4<f32>();
    var valid = 0u;
    for (var g = lane; g < groups; g += LANES) {
        let at = base + g * len;
        let scale = relative(partials[at], all_max);
        mine += vec4<f32>(scale * partials[at + 1u], scale * scale * partials[at + 2u], partials[at + 3u], 0.0);
        valid += u32(partials[at + 4u]);
    }
    // The row count is summed in two 16-bit halves, since a float is exact up to 2²⁴ only.
    mine.w = f32(valid & 0xffffu);
    let sums = add_up(lane, mine);
    workgroupBarrier();
    let high = add_up(lane, vec4<f32>(f32(valid >> 16u), 0.0, 0.0, 0.0)).x;
    workgroupBarrier();

    // 16 coordinates per workgroup, the groups split over PARTS invocations each: means and second moments.
    let coordinate = lane % COORDINATES;
    let part = lane / COORDINATES;
    // The mean is undefined if no row has any weight.
    let there = sums.x > 0.0;
    for (var start = workgroup.x * COORDINATES; start < uniforms.coordinates; start += workgroups.x * COORDINATES) {
        let d = start + coordinate;
        var moment = vec2<f32>();
        if d < uniforms.coordinates {
            for (var g = part; g < groups; g += PARTS) {
                let at = base + g * len;
                let scale = relative(partials[at], all_max);
                moment.x = fma(scale, partials[at + HEADER_LEN + d], moment.x);
                if has(FLAG_SECOND_MOMENT) {
                    moment.y = fma(scale, partials[at + HEADER_LEN + uniforms.coordinates + d], moment.y);
                }
            }
        }
        of_lanes[coordinate * PARTS + part] = vec4<f32>(moment, 0.0, 0.0);
        workgroupBarrier();
        let here = start + lane;
        if lane < COORDINATES && here < uniforms.coordinates {
            var all = vec2<f32>();
            for (var i = 0u; i < PARTS; i++) {
                all += of_lanes[lane * PARTS + i].xy;
            }
            let mean = all / select(1.0, sums.x, there);
            finish(here, mean.x, mean.y, there);
        }
        workgroupBarrier();
    }
    finish_all(lane, there);
    if lane == 0u && workgroup.x == 0u {
        record_sums(all_max, sums.xyz, u32(sums.w) + (u32(high) << 16u));
        close();
    }
}
