// One row per invocation: F, U, I and B are scalars. Kernels and models are written in these aliases, so that the same
// code also compiles for four rows per invocation (vec4.wgsl).

alias F = f32;
alias U = u32;
alias I = i32;
alias B = bool;
const WIDE = 1u;

// The row indices k, k + 1, … of an invocation.
fn rows_from(k: u32) -> U {
    return k;
}

fn component(x: F, i: u32) -> f32 {
    return x;
}

// The sum over an invocation's rows.
fn total(x: F) -> f32 {
    return x;
}

// gibbs_exp of four values, independent of WIDE.
fn four_exps(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(gibbs_exp(x.x), gibbs_exp(x.y), gibbs_exp(x.z), gibbs_exp(x.w));
}

// Coordinate d of each of an invocation's rows.
fn row_values(k: U, d: u32) -> F {
    return rows[address(k, d)];
}
