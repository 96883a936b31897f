//! Normal numbers from random words, by Box and Muller. Twin: `shaders/normal.wgsl`.
//!
//! G. E. P. Box, M. E. Muller, *A note on the generation of random normal deviates*, Ann. Math. Statist. 29 (1958).

use std::f32::consts::TAU;

use super::philox;
use crate::scalar::math::{Vector, ln_positive, sin_cos};

/// (h ≫ 9) · 2⁻²³, in [0, 1): 23 bits become a mantissa without a conversion.
#[inline(always)]
fn unit<V: Vector>(word: V::Bits) -> V {
    let in_1_2 = V::from_bits(V::bits_xor(V::bits_shr(word, 9), V::splat_bits(0x3f80_0000)));
    in_1_2 - 1.0
}

/// Two normals from two words: (r cos φ, r sin φ), r = √(−2 ln u), u in (0, 1], φ = 2π u′. So |z| ≤ 5.65.
#[inline(always)]
fn pair<V: Vector>(a: V::Bits, b: V::Bits) -> [V; 2] {
    let u = -unit::<V>(a) + 1.0;
    // The logarithm of a number just below 1 may round to a positive one.
    let r = (ln_positive(u) * -2.0).upper(V::from(0.0)).root();
    let (s, c) = sin_cos(unit::<V>(b) * TAU);
    [r * c, r * s]
}

/// Four normals from the four words of one Philox call.
#[inline(always)]
pub(crate) fn four<V: Vector>(counter: [V::Bits; 4], key: [u32; 2]) -> [V; 4] {
    let [a, b, c, d] = philox::rounds::<V>(counter, key);
    let ([z0, z1], [z2, z3]) = (pair(a, b), pair(c, d));
    [z0, z1, z2, z3]
}

/// Draws 4·`block` to 4·`block` + 3 of row `row`, in update `update` of the seed.
///
/// This is the stream that the engine draws its rows from: coordinate d of a row (for a plan: d = t·M + m) is number
/// d mod 4 of block d / 4.
///
/// # Example
///
/// ```
/// let z = gibbs::noise::normal::normals(7, 0, 0, 0);
/// assert!(z.iter().all(|z| z.abs() < 5.7));
/// ```
pub fn normals(seed: u64, update: u32, row: u32, block: u32) -> [f32; 4] {
    four::<f32>([row, block, update, 0], philox::key(seed))
}
