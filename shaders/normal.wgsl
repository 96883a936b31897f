// Normal numbers from random words, by Box and Muller. Twin: src/noise/normal.rs.

// The top 23 bits of a word as a number in [1, 2).
fn in_1_2(word: u32) -> f32 {
    return bitcast<f32>((word >> 9u) | 0x3f800000u);
}

// Two normals from two words. The top two bits of the second are the quadrant of the angle, the others the place in it.
fn normal_pair(a: u32, b: u32) -> vec2<f32> {
    let u = 2.0 - in_1_2(a);
    // The logarithm of a number just below 1 may round to a positive one.
    let r = sqrt(max(gibbs_ln_positive(u) * -2.0, 0.0));
    let in_quadrant = (in_1_2(b << 2u) - 1.5) * 1.5707964;
    let sc = gibbs_sin_cos_from(b >> 30u, in_quadrant);
    return vec2<f32>(r * sc.y, r * sc.x);
}

// Four normals from the four words of one Philox call.
fn normals(counter: vec4<u32>) -> vec4<f32> {
    let words = philox(counter, update.seed);
    return vec4<f32>(normal_pair(words.x, words.y), normal_pair(words.z, words.w));
}
