// The (low, high) halves of a·b. WGSL has no 64-bit product, so the high half comes from four 16-bit ones.
fn mul_wide(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let cross = a1 * b0;
    let middle = (low >> 16u) + (cross & 0xffffu) + a0 * b1;
    return vec2<u32>(a * b, a1 * b1 + (cross >> 16u) + (middle >> 16u));
}
