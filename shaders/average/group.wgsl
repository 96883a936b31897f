// One group of 1,024 rows: weights relative to the largest of the group, and the sums over them. Twin: Group in
// src/kernels/average.rs.

const HEADER_LEN = 8u;

// The weights of a group, packed in vectors of four consecutive rows.
var<workgroup> weights: array<vec4<f32>, 256>;

fn moments() -> u32 {
    return select(1u, 2u, has(FLAG_SECOND_MOMENT));
}

fn partial_len() -> u32 {
    return HEADER_LEN + uniforms.coordinates * moments();
}

fn group_total() -> u32 {
    return (uniforms.rows + GROUP - 1u) / GROUP;
}

// The offset of a group's partial result. The merged result of all groups follows that of the last group.
fn partial_at(group: u32) -> u32 {
    return (problem * (group_total() + 1u) + group) * partial_len();
}

// The log-weight of row k of a group of `count` rows, with rows of zero weight and invalid rows mapped to two finite
// sentinels. `log_weight_of` is prepended by src/runtime/gpu/source.rs.
fn sanitized(first: u32, k: u32, count: u32) -> f32 {
    let log_weight = log_weight_of(first + min(k, count - 1u));
    let bits = bitcast<u32>(log_weight);
    // −∞ is a legitimate weight of zero; NaN and +∞ are invalid, and so is the engine's own finite sentinel.
    let masked = bits == 0xff800000u;
    let invalid = k >= count || (!finite(log_weight) && !masked) || bits == bitcast<u32>(INVALID);
    return select(select(max(log_weight, MASKED), MASKED, masked), INVALID, invalid);
}

// The weight of row k of the group.
fn weight(k: u32) -> f32 {
    return weights[k / 4u][k % 4u];
}

// The number of rows in a group; the last group may be partial.
fn group_count(group: u32) -> u32 {
    return min(uniforms.rows - group * GROUP, GROUP);
}

// Computes the weights of a group. If `records`, stores its sums as the header of its partial result, and its
// log-weights if they have not been stored yet.
fn find_weights(group: u32, lane: u32, records: bool) {
    let first = group * GROUP;
    let count = group_count(group);
    var max_here = MASKED;
    for (var at = lane; 4u * at < count; at += LANES) {
        var l: vec4<f32>;
        for (var i = 0u; i < 4u; i++) {
            l[i] = sanitized(first, at * 4u + i, count);
            if WEIGHS && records && at * 4u + i < count {
                log_weights[log_weight_address(first + at * 4u + i)] = l[i];
            }
        }
        weights[at] = l;
        max_here = max(max_here, largest_of(l));
    }
    let group_max = largest(lane, max_here);
    let one = vec4<f32>(1.0);
    let zero = vec4<f32>();
    // (Σ w, Σ w², Σ ℓ, valid rows)
    var sums = zero;
    for (var at = lane; 4u * at < count; at += LANES) {
        let l = weights[at];
        let counts = l > vec4<f32>(MASKED);
        var w: vec4<f32>;
        if has(FLAG_SIGNED) {
            // Signed weights are used unchanged. The mean divides by the number of valid rows, so that number is stored
            // as their sum.
            w = select(zero, l, counts);
            weights[at] = w;
            let valid = dot(select(zero, one, counts), one);
            sums += vec4<f32>(valid, dot(w, w), 0.0, valid);
            continue;
        }
        w = four_relative(l, group_max);
        weights[at] = w;
        let valid = select(zero, one, l > vec4<f32>(INVALID));
        sums += vec4<f32>(dot(w, one), dot(w, w), dot(select(zero, l, counts), one), dot(valid, one));
    }
    sums = add_up(lane, sums);
    if lane == 0u && records {
        let at = partial_at(group);
        partials[at] = select(group_max, 0.0, has(FLAG_SIGNED) && group_max > MASKED);
        partials[at + 1u] = sums.x;
        partials[at + 2u] = sums.y;
        partials[at + 3u] = sums.z;
        partials[at + 4u] = sums.w;
    }
}

// Stores the merged sums of all groups.
fn record_sums(all_max: f32, sums: vec3<f32>, valid: u32) {
    summary[problem].sums.max = all_max;
    summary[problem].sums.sum = sums.x;
    summary[problem].sums.squares = sums.y;
    summary[problem].sums.logs = sums.z;
    summary[problem].sums.valid = valid;
}
