// The partial results of all groups as one, in a fixed order. Twin: merge and weighted_mean in
// src/engine/cpu/weighted_mean.rs.

const COORDINATES = 16u;
const PARTS = 16u; // LANES / COORDINATES

// All groups as one. The mean (and the second moment behind it) goes where another group's would follow the last.
@compute @workgroup_size(256)
fn merge(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    problem = workgroup.z;
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
        let scale = merge_scale(partials[at], all_max);
        mine += vec4<f32>(scale * partials[at + 1u], scale * scale * partials[at + 2u], partials[at + 3u], 0.0);
        valid += u32(partials[at + 4u]);
    }
    // Rows are counted in two halves of their bits, since a float is exact to 2²⁴ only.
    mine.w = f32(valid & 0xffffu);
    let sums = add_up(lane, mine);
    workgroupBarrier();
    let high = add_up(lane, vec4<f32>(f32(valid >> 16u), 0.0, 0.0, 0.0)).x;
    workgroupBarrier();

    // 16 coordinates, counting the second moments on behind the means, a sixteenth of the groups each.
    let coordinate = lane % COORDINATES;
    let part = lane / COORDINATES;
    let width = update.width * moments();
    let d = workgroup.x * COORDINATES + coordinate;
    var mean = 0.0;
    if d < width {
        for (var g = part; g < groups; g += PARTS) {
            let at = base + g * len;
            mean = fma(merge_scale(partials[at], all_max), partials[at + HEADER_LEN + d], mean);
        }
    }
    of_lanes[coordinate * PARTS + part].x = mean;
    workgroupBarrier();
    let here = workgroup.x * COORDINATES + lane;
    if lane < COORDINATES && here < width && sums.x > 0.0 {
        var all = 0.0;
        for (var i = 0u; i < PARTS; i++) {
            all += of_lanes[lane * PARTS + i].x;
        }
        partials[base + groups * len + HEADER_LEN + here] = all / sums.x;
    }
    if lane == 0u && workgroup.x == 0u {
        summary[problem].sums.max = all_max;
        summary[problem].sums.sum = sums.x;
        summary[problem].sums.squares = sums.y;
        summary[problem].sums.logs = sums.z;
        summary[problem].sums.valid = u32(sums.w) + (u32(high) << 16u);
    }
}

fn merge_scale(group_max: f32, all_max: f32) -> f32 {
    return select(0.0, gibbs_exp(max(group_max - all_max, -200.0)), group_max > MASKED);
}
