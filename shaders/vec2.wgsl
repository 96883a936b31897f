// Two rows per invocation, in vectors: a row and its opposite, for which the noise is drawn once, or two episodes of
// one row of a policy.

alias F = vec2<f32>;
alias U = vec2<u32>;
alias I = vec2<i32>;
alias B = vec2<bool>;
const WIDE = 2u;

// The row indices k, k + 1, … of an invocation.
fn rows_from(k: u32) -> U {
    return U(k, k + 1u);
}

fn component(x: F, i: u32) -> f32 {
    return x[i];
}

// The sum over an invocation's rows.
fn total(x: F) -> f32 {
    return x.x + x.y;
}

// gibbs_exp of four values, independent of WIDE.
fn four_exps(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(gibbs_exp(x.xy), gibbs_exp(x.zw));
}

// Coordinate d of each of an invocation's rows.
fn row_values(k: U, d: u32) -> F {
    return F(rows[address(k.x, d)], rows[address(k.y, d)]);
}
