//! Philox4x32-10. Printed as `shaders/generated/philox.wgsl`.
//!
//! J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, *Parallel random numbers: as easy as 1, 2, 3*, SC 2011.

use super::philox_row::PhiloxRow;

pub(crate) const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
pub(crate) const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

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
    let [row, block, pass, stream] = counter;
    PhiloxRow::<f32>::new(row, pass, stream, key).block(block)
}

/// The key of a seed.
#[inline(always)]
pub fn key(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}
