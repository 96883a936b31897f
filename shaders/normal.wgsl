// Normal deviates from random words (Box–Muller). Twin: src/noise/normal.rs.

struct Normals {
    x: F,
    y: F,
    z: F,
    w: F,
}

// The top 23 bits of a word as a number in [1, 2).
fn in_1_2(word: U) -> F {
    return bitcast<F>((word >> U(9u)) | U(0x3f800000u));
}

// Two normals from two words. The top two bits of the second word select the quadrant of the angle, the remaining bits
// the angle within it.
fn normal_pair(a: U, b: U) -> Two {
    let u = 2.0 - in_1_2(a);
    // The logarithm of a number just below 1 may round to a positive one.
    let r = sqrt(max(gibbs_ln_positive(u) * -2.0, F(0.0)));
    let in_quadrant = (in_1_2(b << U(2u)) - 1.5) * 1.5707964;
    let sc = gibbs_sin_cos_from(b, in_quadrant);
    return Two(r * sc.y, r * sc.x);
}

// Four normals from the four words of one Philox call: one block of a row's draws.
fn normals(row: PhiloxRow, block: u32) -> Normals {
    let words = philox(row, block);
    let first = normal_pair(words.x, words.y);
    let second = normal_pair(words.z, words.w);
    return Normals(first.x, first.y, second.x, second.y);
}
