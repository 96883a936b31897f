//! The four samples around a point of a grid, for every lane: two loads of two neighbours each, put together in registers.
//!
//! The instructions that gather take longer than the loads they stand for, and loads that go through memory wait for it.

use pulp::Simd;

use super::lanes::token;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use super::words::cast;

/// Lane by lane samples i, i + 1, i + up and i + up + 1, with i from `first`.
///
/// # Safety
///
/// All of them must be there.
#[inline(always)]
pub(crate) unsafe fn gather<S: Simd>(samples: &[f32], first: S::u32s, up: usize) -> [S::f32s; 4] {
    let first: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&first));
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        use std::any::TypeId;
        if TypeId::of::<S>() == TypeId::of::<pulp::x86::V4>() {
            let simd = token::<pulp::x86::V4>().avx512f;
            // SAFETY: the caller's promise is the same, and AVX-512 has sixteen lanes.
            let q = unsafe {
                [
                    quarters(samples, first, up, 0),
                    quarters(samples, first, up, 1),
                    quarters(samples, first, up, 2),
                    quarters(samples, first, up, 3),
                ]
            };
            // Register j: lanes j, j + 4, j + 8 and j + 12.
            let [a, b, c, d] = [wide(simd, q, 0), wide(simd, q, 1), wide(simd, q, 2), wide(simd, q, 3)];
            let (ab, cd) = (simd._mm512_unpacklo_ps(a, b), simd._mm512_unpacklo_ps(c, d));
            let (ef, gh) = (simd._mm512_unpackhi_ps(a, b), simd._mm512_unpackhi_ps(c, d));
            return [
                cast(simd._mm512_unpacklo_pd(cast(ab), cast(cd))),
                cast(simd._mm512_unpackhi_pd(cast(ab), cast(cd))),
                cast(simd._mm512_unpacklo_pd(cast(ef), cast(gh))),
                cast(simd._mm512_unpackhi_pd(cast(ef), cast(gh))),
            ];
        }
        if TypeId::of::<S>() == TypeId::of::<pulp::x86::V3>() {
            let simd = token::<pulp::x86::V3>().avx;
            // SAFETY: the caller's promise is the same, and AVX2 has eight lanes.
            let q = unsafe { [quarters(samples, first, up, 0), quarters(samples, first, up, 1)] };
            // Register j: lanes j and j + 4.
            let [a, b, c, d] = [narrow(simd, q, 0), narrow(simd, q, 1), narrow(simd, q, 2), narrow(simd, q, 3)];
            let (ab, cd) = (simd._mm256_unpacklo_ps(a, b), simd._mm256_unpacklo_ps(c, d));
            let (ef, gh) = (simd._mm256_unpackhi_ps(a, b), simd._mm256_unpackhi_ps(c, d));
            return [
                cast(simd._mm256_unpacklo_pd(cast(ab), cast(cd))),
                cast(simd._mm256_unpackhi_pd(cast(ab), cast(cd))),
                cast(simd._mm256_unpacklo_pd(cast(ef), cast(gh))),
                cast(simd._mm256_unpackhi_pd(cast(ef), cast(gh))),
            ];
        }
    }
    let mut found = [token::<S>().splat_f32s(0.0); 4];
    for (corner, found) in found.iter_mut().enumerate() {
        let lanes: &mut [f32] = bytemuck::cast_slice_mut(std::slice::from_mut(found));
        for (lane, first) in lanes.iter_mut().zip(first) {
            *lane = samples[*first as usize + corner % 2 + corner / 2 * up];
        }
    }
    found
}

#[cfg(target_arch = "x86")]
use std::arch::x86 as arch;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as arch;

/// The squares of lanes 4 `which` to 4 `which` + 3, one a register.
///
/// # Safety
///
/// They, and those lanes, must be there.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[inline(always)]
unsafe fn quarters(samples: &[f32], first: &[u32], up: usize, which: usize) -> [arch::__m128; 4] {
    let mut four = [cast([0.0_f32; 4]); 4];
    for (j, square) in four.iter_mut().enumerate() {
        // SAFETY: all four samples are there, two and two of them neighbours.
        unsafe {
            let at = samples.as_ptr().add(*first.get_unchecked(4 * which + j) as usize);
            let low: [f32; 2] = at.cast::<[f32; 2]>().read();
            let high: [f32; 2] = at.add(up).cast::<[f32; 2]>().read();
            *square = cast([low, high]);
        }
    }
    four
}

/// Square j of each quarter, side by side.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[inline(always)]
fn wide(simd: pulp::core_arch::x86::Avx512f, q: [[arch::__m128; 4]; 4], j: usize) -> arch::__m512 {
    let wide = simd._mm512_castps128_ps512(q[0][j]);
    let wide = simd._mm512_insertf32x4::<1>(wide, q[1][j]);
    let wide = simd._mm512_insertf32x4::<2>(wide, q[2][j]);
    simd._mm512_insertf32x4::<3>(wide, q[3][j])
}

/// The same of half the width.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[inline(always)]
fn narrow(simd: pulp::core_arch::x86::Avx, q: [[arch::__m128; 4]; 2], j: usize) -> arch::__m256 {
    simd._mm256_insertf128_ps::<1>(simd._mm256_castps128_ps256(q[0][j]), q[1][j])
}
