// The (low, high) halves of a·b. WGSL has no 64-bit product, so the high half comes from four 16-bit ones.
fn mul_wide(a: U, b: u32) -> Product {
    let half = U(16u);
    let mask = U(0xffffu);
    let a0 = a & mask;
    let a1 = a >> half;
    let b0 = U(b & 0xffffu);
    let b1 = U(b >> 16u);
    let low = a0 * b0;
    let cross = a1 * b0;
    let middle = (low >> half) + (cross & mask) + a0 * b1;
    return Product(a * b, a1 * b1 + (cross >> half) + (middle >> half));
}
