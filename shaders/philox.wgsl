// Philox4x32-10. Twin: src/noise/philox.rs.

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

fn philox(start: vec4<u32>, first_key: vec2<u32>) -> vec4<u32> {
    var counter = start;
    var key = first_key;
    for (var round = 0u; round < 10u; round++) {
        let p = mul_wide(counter.x, 0xD2511F53u);
        let q = mul_wide(counter.z, 0xCD9E8D57u);
        counter = vec4<u32>(q.y ^ counter.y ^ key.x, q.x, p.y ^ counter.w ^ key.y, p.x);
        key += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return counter;
}
