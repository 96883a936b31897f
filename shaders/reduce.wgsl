// Sums and maxima over the LANES invocations of a workgroup, in a fixed order: ROOT invocations take ROOT values each, then
// whoever wants the result takes those ROOT. Two barriers, where a binary tree would need one for each bit of LANES.
//
// const LANES, ROOT: a square and its root, put before this file (src/engine/gpu/source.rs).

// What weighs less than 2^-48 of the heaviest weighs nothing: its logarithm. Twin: src/engine/cpu/weighted_mean.rs, which says why.
const LN_NEGLIGIBLE = -33.271065f;

// The weight of something of this log-weight, relative to another of `most`.
fn relative(log_weight: f32, most: f32) -> f32 {
    let below = max(log_weight - most, LN_NEGLIGIBLE);
    let there = log_weight > MASKED && below > LN_NEGLIGIBLE;
    return select(0.0, exp_of(below), there);
}

// Those of four rows.
fn four_relative(log_weights: vec4<f32>, most: f32) -> vec4<f32> {
    let below = max(log_weights - most, vec4<f32>(LN_NEGLIGIBLE));
    let there = (log_weights > vec4<f32>(MASKED)) & (below > vec4<f32>(LN_NEGLIGIBLE));
    return select(vec4<f32>(), four_exps(below), there);
}

fn largest_of(x: vec4<f32>) -> f32 {
    return max(max(x.x, x.y), max(x.z, x.w));
}

// Of one number, however many rows an invocation has.
fn exp_of(x: f32) -> f32 {
    return component(gibbs_exp(F(x)), 0u);
}

fn ln_of(x: f32) -> f32 {
    return component(gibbs_ln(F(x)), 0u);
}

var<workgroup> of_lanes: array<vec4<f32>, LANES>;
var<workgroup> of_root: array<vec4<f32>, ROOT>;

// Sums up to the last addition, which is `root_sum`.
fn add_to_root(lane: u32, value: vec4<f32>) {
    of_lanes[lane] = value;
    workgroupBarrier();
    if lane < ROOT {
        var sum = of_lanes[lane * ROOT];
        for (var i = 1u; i < ROOT; i++) {
            sum += of_lanes[lane * ROOT + i];
        }
        of_root[lane] = sum;
    }
    workgroupBarrier();
}

fn root_sum() -> vec4<f32> {
    var sum = of_root[0];
    for (var i = 1u; i < ROOT; i++) {
        sum += of_root[i];
    }
    return sum;
}

// One component of it.
fn root_sum_of(component: u32) -> f32 {
    var sum = of_root[0][component];
    for (var i = 1u; i < ROOT; i++) {
        sum += of_root[i][component];
    }
    return sum;
}

fn add_up(lane: u32, value: vec4<f32>) -> vec4<f32> {
    add_to_root(lane, value);
    return root_sum();
}

// After either, nobody may write `of_root` before everybody has read it: the next call's first barrier sees to that.
fn largest(lane: u32, value: f32) -> f32 {
    of_lanes[lane].x = value;
    workgroupBarrier();
    if lane < ROOT {
        var most = of_lanes[lane * ROOT].x;
        for (var i = 1u; i < ROOT; i++) {
            most = max(most, of_lanes[lane * ROOT + i].x);
        }
        of_root[lane].x = most;
    }
    workgroupBarrier();
    var most = of_root[0].x;
    for (var i = 1u; i < ROOT; i++) {
        most = max(most, of_root[i].x);
    }
    return most;
}
