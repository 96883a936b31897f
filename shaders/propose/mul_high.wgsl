// The (low, high) halves of a product of words: what `mul_wide` returns (mul_wide.wgsl, mul_wide_int64.wgsl).
struct Product {
    low: U,
    high: U,
}

// The high half of the product of two words that all rows have in common.
fn mul_high(a: u32, b: u32) -> u32 {
    let cross = (a >> 16u) * (b & 0xffffu);
    let middle = (((a & 0xffffu) * (b & 0xffffu)) >> 16u) + (cross & 0xffffu) + (a & 0xffffu) * (b >> 16u);
    return (a >> 16u) * (b >> 16u) + (cross >> 16u) + (middle >> 16u);
}
