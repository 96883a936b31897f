//! Philox4x32-10. Twin: `shaders/philox.wgsl`.
//!
//! J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, *Parallel random numbers: as easy as 1, 2, 3*, SC 2011.

use crate::scalar::math::Vector;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: u32 = 10;

/// Ten rounds on many counters at once.
#[inline(always)]
pub(crate) fn rounds<V: Vector>(mut counter: [V::Bits; 4], mut key: [u32; 2]) -> [V::Bits; 4] {
    for _ in 0..ROUNDS {
        let (low0, high0) = V::bits_mul(counter[0], V::splat_bits(MULTIPLIERS[0]));
        let (low1, high1) = V::bits_mul(counter[2], V::splat_bits(MULTIPLIERS[1]));
        counter = [
            V::bits_xor(V::bits_xor(high1, counter[1]), V::splat_bits(key[0])),
            low1,
            V::bits_xor(V::bits_xor(high0, counter[3]), V::splat_bits(key[1])),
            low0,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The four words of one counter under one key.
///
/// # Example
///
/// The first known answer of the reference implementation:
///
/// ```
/// use gibbs::noise::philox::philox;
///
/// assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
/// ```
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    rounds::<f32>(counter, key)
}

/// The key of a seed.
#[inline(always)]
pub fn key(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}
