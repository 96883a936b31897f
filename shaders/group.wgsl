// A group of 1,024 rows: their weights, relative to the largest of them, and the sums over these. Four rows an invocation.
// Twin: Group in src/engine/cpu/weighted_mean.rs.

const LANES = 256u;
const HEADER_LEN = 8u;

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

// The weights of rows 4 lane to 4 lane + 3 of the group. If `records`, its sums become the head of its partial result.
fn group_weights(group: u32, lane: u32, records: bool) -> vec4<f32> {
    let first = group * GROUP;
    let count = min(update.rows - first, GROUP);
    var l: vec4<f32>;
    for (var i = 0u; i < 4u; i++) {
        l[i] = sanitised(first, lane * 4u + i, count);
    }
    let group_max = largest(lane, max(max(l.x, l.y), max(l.z, l.w)));
    var w: vec4<f32>;
    for (var i = 0u; i < 4u; i++) {
        w[i] = select(0.0, gibbs_exp(min(l[i] - group_max, 0.0)), l[i] > MASKED);
    }
    let one = vec4<f32>(1.0);
    let logs = select(vec4<f32>(), l, l > vec4<f32>(MASKED));
    let valid = select(vec4<f32>(), one, l > vec4<f32>(INVALID));
    let sums = add_up(lane, vec4<f32>(dot(w, one), dot(w, w), dot(logs, one), dot(valid, one)));
    if lane == 0u && records {
        let at = group * partial_len();
        partials[at] = group_max;
        partials[at + 1u] = sums.x;
        partials[at + 2u] = sums.y;
        partials[at + 3u] = sums.z;
        partials[at + 4u] = sums.w;
    }
    return w;
}
