// The weighted mean: one pass over the rows in groups, each relative to its own largest log-weight, then a merge in fixed
// order. Twin: src/engine/cpu/weighted_mean.rs.
//
// A workgroup of `group_mean` takes one group of 1,024 rows and 16 coordinates; 16 invocations share a coordinate. How they
// share it follows the layout of the rows: see `share` and `moments_of` in rows_in_tiles.wgsl and rows_one_by_one.wgsl.

const LANES = 256u;
const COORDINATES = 16u;
const PARTS = 16u; // LANES / COORDINATES
const HEADER_LEN = 8u;

// The weights of the group's rows, relative to the largest, four neighbours at a time.
var<workgroup> weights: array<vec4<f32>, 256>;

fn moments() -> u32 {
    return select(1u, 2u, has(FLAG_SECOND_MOMENT));
}

fn partial_len() -> u32 {
    return HEADER_LEN + update.width * moments();
}

// The log-weight of row k of a group of `count`: what does not count is one of two finite numbers from here on.
fn sanitised(first: u32, k: u32, count: u32) -> f32 {
    let log_weight = log_weights[first + min(k, count - 1u)];
    let bits = bitcast<u32>(log_weight);
    // −∞ is a legitimate weight of zero; NaN and +∞ are not, and the engine's own mark stays.
    let masked = bits == 0xff800000u;
    let invalid = k >= count || (!finite(log_weight) && !masked) || bits == bitcast<u32>(INVALID);
    return select(select(max(log_weight, MASKED), MASKED, masked), INVALID, invalid);
}

@compute @workgroup_size(256)
fn group_mean(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = workgroup.x;
    let first = group * GROUP;
    let count = min(update.rows - first, GROUP);

    // Four rows each: the largest log-weight, then weights relative to it, and their sums.
    var l: vec4<f32>;
    for (var i = 0u; i < 4u; i++) {
        l[i] = sanitised(first, lane * 4u + i, count);
    }
    let group_max = largest(lane, max(max(l.x, l.y), max(l.z, l.w)));
    var w: vec4<f32>;
    for (var i = 0u; i < 4u; i++) {
        w[i] = select(0.0, gibbs_exp(min(l[i] - group_max, 0.0)), l[i] > MASKED);
    }
    weights[lane] = w;
    let one = vec4<f32>(1.0);
    let logs = select(vec4<f32>(), l, l > vec4<f32>(MASKED));
    let valid = select(vec4<f32>(), one, l > vec4<f32>(INVALID));
    let sums = add_up(lane, vec4<f32>(dot(w, one), dot(w, w), dot(logs, one), dot(valid, one)));
    let at = group * partial_len();
    if lane == 0u && workgroup.y == 0u {
        partials[at] = group_max;
        partials[at + 1u] = sums.x;
        partials[at + 2u] = sums.y;
        partials[at + 3u] = sums.z;
        partials[at + 4u] = sums.w;
    }

    // The moments of 16 coordinates, a sixteenth of the rows each.
    let mine = share(lane);
    let d = workgroup.y * COORDINATES + mine.x;
    var moment = vec2<f32>();
    if d < update.width {
        moment = moments_of(first, count, d, mine.y);
    }
    of_lanes[mine.x * PARTS + mine.y] = vec4<f32>(moment, 0.0, 0.0);
    workgroupBarrier();
    let here = workgroup.y * COORDINATES + lane;
    if lane < COORDINATES && here < update.width {
        var all = of_lanes[lane * PARTS];
        for (var i = 1u; i < PARTS; i++) {
            all += of_lanes[lane * PARTS + i];
        }
        partials[at + HEADER_LEN + here] = all.x;
        if has(FLAG_SECOND_MOMENT) {
            partials[at + HEADER_LEN + update.width + here] = all.y;
        }
    }
}

// All groups as one. The mean (and the second moment behind it) goes where another group's would follow the last.
@compute @workgroup_size(256)
fn merge(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let groups = (update.rows + GROUP - 1u) / GROUP;
    let len = partial_len();

    var max_here = MASKED;
    for (var g = lane; g < groups; g += LANES) {
        max_here = max(max_here, partials[g * len]);
    }
    let all_max = largest(lane, max_here);
    var mine = vec4<f32>();
    var valid = 0u;
    for (var g = lane; g < groups; g += LANES) {
        let at = g * len;
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
            let at = g * len;
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
        partials[groups * len + HEADER_LEN + here] = all / sums.x;
    }
    if lane == 0u && workgroup.x == 0u {
        summary.sums.max = all_max;
        summary.sums.sum = sums.x;
        summary.sums.squares = sums.y;
        summary.sums.logs = sums.z;
        summary.sums.valid = u32(sums.w) + (u32(high) << 16u);
    }
}

fn merge_scale(group_max: f32, all_max: f32) -> f32 {
    return select(0.0, gibbs_exp(max(group_max - all_max, -200.0)), group_max > MASKED);
}
