//! The (low, high) halves of 32 × 32-bit products, as Philox needs them. Twin: `shaders/propose/mul_wide.wgsl`.
//!
//! AVX2 and AVX-512 multiply the low 32 bits of each 64-bit element, so one instruction serves the even lanes and
//! another the odd lanes. Each 64-bit product holds both halves, and a shuffle then separates the low halves from the
//! high halves.

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use std::arch::asm;

use pulp::Simd;

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use super::instructions::arch::__m512i;
use super::instructions::by_instructions;
#[cfg(any(target_arch = "x86", target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128")))]
use super::instructions::cast;

/// Computes the (low, high) halves of a·b in each lane.
#[inline(always)]
pub(crate) fn mul_wide<S: Simd>(simd: S, a: S::u32s, b: u32) -> (S::u32s, S::u32s) {
    let b = simd.splat_u32s(b);
    by_instructions!(
        simd,
        |v4| {
            let simd = v4.avx512f;
            let even = simd._mm512_mul_epu32(cast(a), cast(b));
            let odd = simd._mm512_mul_epu32(simd._mm512_srli_epi64::<32>(cast(a)), cast(b));
            // SAFETY: the token proves that AVX-512 is available.
            let [low, high] = unsafe { sorted(even, odd) };
            (cast(low), cast(high))
        },
        |v3| {
            let simd = v3.avx2;
            let even = simd._mm256_mul_epu32(cast(a), cast(b));
            let odd = simd._mm256_mul_epu32(simd._mm256_srli_epi64::<32>(cast(a)), cast(b));
            let low = simd._mm256_blend_epi32::<0b1010_1010>(even, simd._mm256_slli_epi64::<32>(odd));
            let high = simd._mm256_blend_epi32::<0b1010_1010>(simd._mm256_srli_epi64::<32>(even), odd);
            (cast(low), cast(high))
        },
        elsewhere(simd, a, b)
    )
}

/// Computes the products without AVX2.
#[inline(always)]
fn elsewhere<S: Simd>(simd: S, a: S::u32s, b: S::u32s) -> (S::u32s, S::u32s) {
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    if super::instructions::token_as::<_, pulp::wasm::Simd128>(simd).is_some() {
        use std::arch::wasm32::{i32x4_shuffle, u64x2_extmul_high_u32x4, u64x2_extmul_low_u32x4};
        let [first, last] = [u64x2_extmul_low_u32x4(cast(a), cast(b)), u64x2_extmul_high_u32x4(cast(a), cast(b))];
        return (cast(i32x4_shuffle::<0, 2, 4, 6>(first, last)), cast(i32x4_shuffle::<1, 3, 5, 7>(first, last)));
    }
    simd.widening_mul_u32s(a, b)
}

/// Separates the low from the high halves of the products of even and odd lanes.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[target_feature(enable = "avx512f")]
#[inline]
fn sorted(even: __m512i, odd: __m512i) -> [__m512i; 2] {
    /// Overwrites the lanes in `$lanes` with their neighbors in another register. It is written in assembly because the
    /// compiler splits the masked move into two instructions.
    macro_rules! written_over {
        ($instruction:literal, $all:ident, $lanes:literal, $from:ident) => {{
            let mut all = $all;
            // SAFETY: the instruction reads and writes these registers only.
            unsafe {
                asm!(
                    concat!($instruction, " {all} {{{lanes}}}, {from}"),
                    all = inout(zmm_reg) all,
                    lanes = in(kreg) $lanes,
                    from = in(zmm_reg) $from,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
            all
        }};
    }
    [
        written_over!("vmovsldup", even, 0b1010_1010_1010_1010_u16, odd),
        written_over!("vmovshdup", odd, 0b0101_0101_0101_0101_u16, even),
    ]
}
