//! Gathers the 2 × 2 samples around a grid point in every lane: one 16-byte load per lane, transposed in registers.
//!
//! The hardware's gather instructions take longer than these loads.

use pulp::Simd;

use super::instructions::by_instructions;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use super::instructions::{arch, cast};

/// Loads, in each lane, the samples of pairs i and i + 1, where i is the lane of `first`.
///
/// # Safety
///
/// All of these samples must be within `samples`.
#[inline(always)]
pub(crate) unsafe fn gather_2x2<S: Simd>(simd: S, samples: &[f32], first: S::u32s) -> [S::f32s; 4] {
    let first: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&first));
    by_instructions!(
        simd,
        |v4| {
            let simd = v4.avx512f;
            // SAFETY: by the caller's guarantee; AVX-512 has sixteen lanes.
            let [a, b, c, d] = unsafe {
                [
                    sixteen(simd, samples, first, 0),
                    sixteen(simd, samples, first, 1),
                    sixteen(simd, samples, first, 2),
                    sixteen(simd, samples, first, 3),
                ]
            };
            let (ab, cd) = (simd._mm512_unpacklo_ps(a, b), simd._mm512_unpacklo_ps(c, d));
            let (ef, gh) = (simd._mm512_unpackhi_ps(a, b), simd._mm512_unpackhi_ps(c, d));
            [
                cast(simd._mm512_unpacklo_pd(cast(ab), cast(cd))),
                cast(simd._mm512_unpackhi_pd(cast(ab), cast(cd))),
                cast(simd._mm512_unpacklo_pd(cast(ef), cast(gh))),
                cast(simd._mm512_unpackhi_pd(cast(ef), cast(gh))),
            ]
        },
        |v3| {
            let simd = v3.avx;
            // SAFETY: by the caller's guarantee; AVX2 has eight lanes.
            let [a, b, c, d] = unsafe {
                [
                    eight(simd, samples, first, 0),
                    eight(simd, samples, first, 1),
                    eight(simd, samples, first, 2),
                    eight(simd, samples, first, 3),
                ]
            };
            let (ab, cd) = (simd._mm256_unpacklo_ps(a, b), simd._mm256_unpacklo_ps(c, d));
            let (ef, gh) = (simd._mm256_unpackhi_ps(a, b), simd._mm256_unpackhi_ps(c, d));
            [
                cast(simd._mm256_unpacklo_pd(cast(ab), cast(cd))),
                cast(simd._mm256_unpackhi_pd(cast(ab), cast(cd))),
                cast(simd._mm256_unpacklo_pd(cast(ef), cast(gh))),
                cast(simd._mm256_unpackhi_pd(cast(ef), cast(gh))),
            ]
        },
        {
            let mut found = [simd.splat_f32s(0.0); 4];
            for (corner, found) in found.iter_mut().enumerate() {
                let lanes: &mut [f32] = bytemuck::cast_slice_mut(std::slice::from_mut(found));
                for (lane, first) in lanes.iter_mut().zip(first) {
                    *lane = samples[2 * *first as usize + corner];
                }
            }
            found
        }
    )
}

/// Loads the samples of lanes `j`, `j` + 4, `j` + 8 and `j` + 12 into one register.
///
/// # Safety
///
/// As for [`square`].
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[inline(always)]
unsafe fn sixteen(simd: pulp::core_arch::x86::Avx512f, samples: &[f32], first: &[u32], j: usize) -> arch::__m512 {
    // SAFETY: by the caller's guarantee.
    unsafe {
        let all = simd._mm512_castps128_ps512(square(samples, at(first, j)));
        let all = simd._mm512_insertf32x4::<1>(all, square(samples, at(first, j + 4)));
        let all = simd._mm512_insertf32x4::<2>(all, square(samples, at(first, j + 8)));
        simd._mm512_insertf32x4::<3>(all, square(samples, at(first, j + 12)))
    }
}

/// Loads the samples of lanes `j` and `j` + 4 into one register.
///
/// # Safety
///
/// As for [`square`].
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[inline(always)]
unsafe fn eight(simd: pulp::core_arch::x86::Avx, samples: &[f32], first: &[u32], j: usize) -> arch::__m256 {
    // SAFETY: by the caller's guarantee.
    unsafe {
        let all = simd._mm256_castps128_ps256(square(samples, at(first, j)));
        simd._mm256_insertf128_ps::<1>(all, square(samples, at(first, j + 4)))
    }
}

/// Returns the number in a lane. Two lanes are extracted at once and separated in a general-purpose register.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[inline(always)]
fn at(numbers: &[u32], lane: usize) -> u32 {
    let twos: &[[u32; 2]] = bytemuck::cast_slice(numbers);
    let two: u64 = bytemuck::cast(twos[lane / 2]);
    (two >> (32 * (lane % 2))) as u32
}

/// Loads both samples of pair `pair` and of the next pair.
///
/// # Safety
///
/// All four samples must be within `samples`.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[inline(always)]
unsafe fn square(samples: &[f32], pair: u32) -> arch::__m128 {
    debug_assert!(2 * pair as usize + 4 <= samples.len(), "pair {pair} of {} numbers", samples.len());
    // SAFETY: by the caller's guarantee.
    unsafe { cast(samples.as_ptr().cast::<[f32; 2]>().add(pair as usize).cast::<[f32; 4]>().read()) }
}
