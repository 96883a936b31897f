// Kahan's summation: a sum, and what it has rounded away so far.
fn added(sum: vec2<f32>, value: f32) -> vec2<f32> {
    let y = value - sum.y;
    // Compilers may cancel (a + b) - a, and Mesa's does; not if they cannot see that `zero` is 0.
    let total = bitcast<f32>(bitcast<u32>(sum.x + y) ^ update.zero);
    return vec2<f32>(total, (total - sum.x) - y);
}
