// Kahan summation: the pair of a sum and its compensation.
fn kahan_add(sum: Two, value: F) -> Two {
    let y = value - sum.y;
    // Compilers may simplify (a + b) − a, and Mesa's does. The xor with `zero`, which they cannot evaluate, prevents
    // it.
    let total = bitcast<F>(bitcast<U>(sum.x + y) ^ U(uniforms.zero));
    return Two(total, (total - sum.x) - y);
}
