// Normal numbers from random words, by Box and Muller. Twin: src/noise/normal.rs.

// (h >> 9) · 2⁻²³, in [0, 1).
fn unit(word: u32) -> f32 {
    return bitcast<f32>((word >> 9u) | 0x3f800000u) - 1.0;
}

// Two normals from two words.
fn normal_pair(a: u32, b: u32) -> vec2<f32> {
    let u = 1.0 - unit(a);
    // The logarithm of a number just below 1 may round to a positive one.
    let r = sqrt(max(gibbs_ln_positive(u) * -2.0, 0.0));
    let sc = gibbs_sin_cos(unit(b) * 6.2831855);
    return vec2<f32>(r * sc.y, r * sc.x);
}

// Four normals from the four words of one Philox call.
fn normals(counter: vec4<u32>) -> vec4<f32> {
    let words = philox(counter, update.seed);
    return vec4<f32>(normal_pair(words.x, words.y), normal_pair(words.z, words.w));
}
