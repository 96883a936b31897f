//! Normal numbers from random words, by the Box–Muller transform. Prints `shaders/generated/normal.wgsl`.
//!
//! G. E. P. Box, M. E. Muller, *A note on the generation of random normal deviates*, Ann. Math. Statist. 29 (1958).

use std::f32::consts::FRAC_PI_2;

use super::math::{Value, Vector, abs, minus_two_ln, sin_cos_signs, sin_cos_within, with_sign};
use super::philox;

/// Maps a word of 23 bits to [1, 2): it becomes the mantissa, so no conversion is needed.
#[inline(always)]
fn in_1_2<V: Vector>(mantissa: V::Bits) -> V {
    V::from_bits(V::bits_or(mantissa, V::splat_bits(0x3f80_0000)))
}

/// Two normals from two words: (r cos φ, r sin φ) with r = √(−2 ln u), u in (0, 1], so |z| ≤ 5.65.
///
/// The angle φ is uniform on the circle: the top two bits of its word select the quadrant, the others the angle within
/// it. No range reduction is needed.
#[inline(always)]
pub(crate) fn box_muller<V: Vector>(a: V::Bits, b: V::Bits) -> [V; 2] {
    if let Some(pair) = V::call("box_muller", &[Value::Word(a), Value::Word(b)]) {
        return pair;
    }
    let u = -in_1_2::<V>(V::bits_shr(a, 9)) + 2.0;
    // −2 ln u is not negative, but a driver may round that of 1 to −0, or to less.
    let r = abs(minus_two_ln(u)).simd_sqrt();
    // The 23 bits are masked, not shifted to the top of the word: b is a product with a constant, and the shift of it
    // would become another product.
    let mantissa = V::bits_and(V::bits_shr(b, 7), V::splat_bits(0x7f_ffff));
    let (s, c) = V::swap_by_bit_30(b, sin_cos_within((in_1_2::<V>(mantissa) - 1.5) * FRAC_PI_2));
    let [s_sign, c_sign] = sin_cos_signs::<V>(b);
    [with_sign(r, c_sign) * c, with_sign(r, s_sign) * s]
}

/// Four normals from the four words of one Philox call: one block of draws.
#[inline(always)]
pub(crate) fn box_muller_4<V: Vector>([a, b, c, d]: [V::Bits; 4]) -> [V; 4] {
    let ([z0, z1], [z2, z3]) = (box_muller(a, b), box_muller(c, d));
    [z0, z1, z2, z3]
}

/// The four normals of one counter.
pub(crate) fn box_muller_at(counter: [u32; 4], key: [u32; 2]) -> [f32; 4] {
    box_muller_4::<f32>(philox::philox(counter, key))
}

/// One normal from two words.
pub(crate) fn box_muller_first(a: u32, b: u32) -> f32 {
    box_muller::<f32>(a, b)[0]
}

/// Draws 4·`block` to 4·`block` + 3 of row `row`, in pass `pass` of the seed.
///
/// This is the stream from which the engine draws its rows: coordinate d of a row (for a plan: d = t·M + m) is number d
/// mod 4 of block ⌊d/4⌋.
///
/// # Example
///
/// ```
/// let z = gibbs::noise::normal::normals(7, 0, 0, 0);
/// assert!(z.iter().all(|z| z.abs() < 5.7));
/// ```
pub fn normals(seed: u64, pass: u32, row: u32, block: u32) -> [f32; 4] {
    box_muller_at([row, block, pass, 0], philox::key(seed))
}
