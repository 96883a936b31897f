// Philox4x32-10. Twin: src/noise/philox.rs. `mul_wide` is in mul_wide.wgsl or, where the device
// has 64-bit integers, in mul_wide_int64.wgsl.

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
