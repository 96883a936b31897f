// The weighted mean: one pass over the rows in groups, each relative to its own largest log-weight, then a merge in fixed
// order. Twin: src/engine/cpu/weighted_mean.rs.
//
// A workgroup of `group_mean` takes one group of 1,024 rows and 16 coordinates. Which of the 256 invocations takes which
// coordinate follows the layout of the rows, so that neighbours read neighbours.

const LANES = 256u;
const COORDINATES = 16u;
const ROWS = 16u; // LANES / COORDINATES

var<workgroup> weights: array<f32, 1024>;
var<workgroup> lane_values: array<vec4<f32>, 256>;
var<workgroup> lane_counts: array<u32, 256>;

fn header_len() -> u32 {
    return 8u;
}

fn moments() -> u32 {
    return select(1u, 2u, has(SECOND_MOMENT));
}

fn partial_len() -> u32 {
    return header_len() + update.width * moments();
}

// What does not count is one of two finite numbers from here on.
fn sanitised(log_weight: f32) -> f32 {
    let bits = bitcast<u32>(log_weight);
    // −∞ is a legitimate weight of zero; NaN and +∞ are not, and the engine's own mark stays.
    let masked = bits == 0xff800000u;
    let invalid = (!finite(log_weight) && !masked) || bits == bitcast<u32>(INVALID);
    return select(select(max(log_weight, MASKED), MASKED, masked), INVALID, invalid);
}

struct Share {
    coordinate: u32,
    row: u32,
}

// Tiles: 16 neighbouring rows of a coordinate. Row by row: 16 neighbouring coordinates of a row.
fn share(lane: u32) -> Share {
    if update.row_stride == 1u {
        return Share(lane / ROWS, lane % ROWS);
    }
    return Share(lane % COORDINATES, lane / COORDINATES);
}

// The invocations of one coordinate, whichever way they are laid out, from `row` = 0 on.
fn lane_of(coordinate: u32, row: u32) -> u32 {
    if update.row_stride == 1u {
        return coordinate * ROWS + row;
    }
    return row * COORDINATES + coordinate;
}

@compute @workgroup_size(256)
fn group_mean(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = workgroup.x;
    let first = group * GROUP;
    let count = min(update.rows - first, GROUP);

    // The largest log-weight of the group.
    var max_here = MASKED;
    for (var i = lane; i < GROUP; i += LANES) {
        var l = INVALID;
        if i < count {
            l = sanitised(log_weights[first + i]);
        }
        weights[i] = l;
        max_here = max(max_here, l);
    }
    lane_values[lane] = vec4<f32>(max_here, 0.0, 0.0, 0.0);
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if lane < half {
            lane_values[lane].x = max(lane_values[lane].x, lane_values[lane + half].x);
        }
        workgroupBarrier();
    }
    let group_max = lane_values[0].x;
    workgroupBarrier();

    // Weights relative to it, and their sums.
    var sums = vec4<f32>();
    var valid = 0u;
    for (var i = lane; i < GROUP; i += LANES) {
        let l = weights[i];
        let counts = l > MASKED;
        let w = select(0.0, gibbs_exp(min(l - group_max, 0.0)), counts);
        sums += vec4<f32>(0.0, w, w * w, select(0.0, l, counts));
        valid += select(0u, 1u, l > INVALID);
        weights[i] = w;
    }
    lane_values[lane] = sums;
    lane_counts[lane] = valid;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if lane < half {
            lane_values[lane] += lane_values[lane + half];
            lane_counts[lane] += lane_counts[lane + half];
        }
        workgroupBarrier();
    }
    let at = group * partial_len();
    if lane == 0u && workgroup.y == 0u {
        let all = lane_values[0];
        partials[at] = group_max;
        partials[at + 1u] = all.y;
        partials[at + 2u] = all.z;
        partials[at + 3u] = all.w;
        partials[at + 4u] = bitcast<f32>(lane_counts[0]);
    }
    workgroupBarrier();

    // Σ w r and Σ w r² of this invocation's rows of its coordinate. A row of no weight may hold anything.
    let mine = share(lane);
    let d = workgroup.y * COORDINATES + mine.coordinate;
    var moment = vec2<f32>();
    if d < update.width {
        for (var i = mine.row; i < count; i += ROWS) {
            let w = weights[i];
            if w > 0.0 {
                let r = rows[address(first + i, d)];
                moment = fma(vec2<f32>(w, w * r), vec2<f32>(r), moment);
            }
        }
    }
    lane_values[lane] = vec4<f32>(moment, 0.0, 0.0);
    workgroupBarrier();
    for (var half = ROWS / 2u; half > 0u; half >>= 1u) {
        if mine.row < half {
            let other = lane_of(mine.coordinate, mine.row + half);
            lane_values[lane] += lane_values[other];
        }
        workgroupBarrier();
    }
    if mine.row == 0u && d < update.width {
        partials[at + header_len() + d] = lane_values[lane].x;
        if has(SECOND_MOMENT) {
            partials[at + header_len() + update.width + d] = lane_values[lane].y;
        }
    }
}

// The mean of all groups, left in the first partial result's place after the last one: `partials[groups · len …]`.
@compute @workgroup_size(256)
fn merge(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let groups = (update.rows + GROUP - 1u) / GROUP;
    let len = partial_len();

    var max_here = MASKED;
    for (var g = lane; g < groups; g += LANES) {
        max_here = max(max_here, partials[g * len]);
    }
    lane_values[lane] = vec4<f32>(max_here, 0.0, 0.0, 0.0);
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if lane < half {
            lane_values[lane].x = max(lane_values[lane].x, lane_values[lane + half].x);
        }
        workgroupBarrier();
    }
    let all_max = lane_values[0].x;
    workgroupBarrier();

    var sums = vec4<f32>();
    var valid = 0u;
    for (var g = lane; g < groups; g += LANES) {
        let at = g * len;
        let scale = merge_scale(partials[at], all_max);
        sums += vec4<f32>(0.0, scale * partials[at + 1u], scale * scale * partials[at + 2u], partials[at + 3u]);
        valid += bitcast<u32>(partials[at + 4u]);
    }
    lane_values[lane] = sums;
    lane_counts[lane] = valid;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if lane < half {
            lane_values[lane] += lane_values[lane + half];
            lane_counts[lane] += lane_counts[lane + half];
        }
        workgroupBarrier();
    }
    let all = lane_values[0];
    let all_valid = lane_counts[0];
    workgroupBarrier();

    // 16 coordinates, counting the second moments on behind the means.
    let coordinate = lane % COORDINATES;
    let part = lane / COORDINATES;
    let d = workgroup.x * COORDINATES + coordinate;
    var mean = 0.0;
    if d < update.width * moments() {
        for (var g = part; g < groups; g += ROWS) {
            let at = g * len;
            mean = fma(merge_scale(partials[at], all_max), partials[at + header_len() + d], mean);
        }
    }
    lane_values[lane] = vec4<f32>(mean, 0.0, 0.0, 0.0);
    workgroupBarrier();
    for (var half = ROWS / 2u; half > 0u; half >>= 1u) {
        if part < half {
            lane_values[lane].x += lane_values[lane + half * COORDINATES].x;
        }
        workgroupBarrier();
    }
    let result = groups * len;
    if part == 0u && d < update.width * moments() && all.y > 0.0 {
        partials[result + header_len() + d] = lane_values[lane].x / all.y;
    }
    if lane == 0u && workgroup.x == 0u {
        summary.sums.max = all_max;
        summary.sums.sum = all.y;
        summary.sums.squares = all.z;
        summary.sums.logs = all.w;
        summary.sums.valid = all_valid;
    }
}

fn merge_scale(group_max: f32, all_max: f32) -> f32 {
    return select(0.0, gibbs_exp(max(group_max - all_max, -200.0)), group_max > MASKED);
}
