// Sums and maxima over the LANES invocations of a workgroup, in a fixed order: ROOT invocations reduce ROOT values
// each, then every invocation that needs the result reduces those ROOT partial results. This takes two barriers; a
// binary tree needs one per bit of LANES.
//
// const LANES, ROOT: LANES = ROOT², prepended by src/runtime/gpu/source.rs.

// The logarithm of 2^-48: rows below this share of the largest weight count as zero. Twin:
// src/kernels/average.rs, which gives the reason.
const LN_NEGLIGIBLE = -33.271065f;

// exp(log_weight − most), or 0 if masked or negligible.
fn relative(log_weight: f32, most: f32) -> f32 {
    let below = max(log_weight - most, LN_NEGLIGIBLE);
    let there = log_weight > MASKED && below > LN_NEGLIGIBLE;
    return select(0.0, exp_of(below), there);
}

// `relative` for four rows.
fn four_relative(log_weights: vec4<f32>, most: f32) -> vec4<f32> {
    let below = max(log_weights - most, vec4<f32>(LN_NEGLIGIBLE));
    let there = (log_weights > vec4<f32>(MASKED)) & (below > vec4<f32>(LN_NEGLIGIBLE));
    return select(vec4<f32>(), four_exps(below), there);
}

fn largest_of(x: vec4<f32>) -> f32 {
    return max(max(x.x, x.y), max(x.z, x.w));
}

// exp and ln of one scalar, independent of WIDE.
fn exp_of(x: f32) -> f32 {
    return component(gibbs_exp(F(x)), 0u);
}

fn ln_of(x: f32) -> f32 {
    return component(gibbs_ln(F(x)), 0u);
}

var<workgroup> of_lanes: array<vec4<f32>, LANES>;
var<workgroup> of_root: array<vec4<f32>, ROOT>;

// Reduces to ROOT partial sums; `root_sum` adds those up.
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

// One component of `root_sum`.
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

// After either reduction, `of_root` must not be written until every invocation has read it. The first barrier of the
// next call ensures that.
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
