// Four rows per invocation, in vectors. On a software adapter a rollout is one long chain of dependent operations, and
// four independent chains hide its latency. A GPU hides it with other invocations. Twin: src/interp/simd/unroll.rs.

alias F = vec4<f32>;
alias U = vec4<u32>;
alias I = vec4<i32>;
alias B = vec4<bool>;
const WIDE = 4u;

// The row indices k, k + 1, … of an invocation.
fn rows_from(k: u32) -> U {
    return U(k, k + 1u, k + 2u, k + 3u);
}

fn component(x: F, i: u32) -> f32 {
    return x[i];
}

// The sum over an invocation's rows.
fn total(x: F) -> f32 {
    return dot(x, F(1.0));
}

// gibbs_exp of four values, independent of WIDE.
fn four_exps(x: vec4<f32>) -> vec4<f32> {
    return gibbs_exp(x);
}

// Coordinate d of each of an invocation's rows.
fn row_values(k: U, d: u32) -> F {
    return F(rows[address(k.x, d)], rows[address(k.y, d)], rows[address(k.z, d)], rows[address(k.w, d)]);
}
