// The (low, high) halves of a·b. WGSL has no 64-bit product, so both come from four 16-bit ones, which GPUs multiply at
// the full rate; many multiply 32-bit words at a quarter of it.
fn mul_wide(a: U, b: u32) -> Product {
    let half = U(16u);
    let mask = U(0xffffu);
    let a0 = a & mask;
    let a1 = a >> half;
    let b0 = U(b & 0xffffu);
    let b1 = U(b >> 16u);
    let low = a0 * b0;
    // Neither sum overflows: (2¹⁶ - 1)² + 2¹⁶ - 1 < 2³².
    let cross = a1 * b0 + (low >> half);
    let middle = a0 * b1 + (cross & mask);
    return Product((middle << half) | (low & mask), a1 * b1 + (cross >> half) + (middle >> half));
}
