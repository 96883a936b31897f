//! How words stand in registers while Philox multiplies them.
//!
//! Where the instructions multiply 32 bits of every 64 (AVX2, AVX-512), a register of words is taken apart once: those of even
//! and those of odd lanes, each in the low half of its 64 bits. A product is then one instruction and its high half one shift,
//! and what the high halves of low words hold is never looked at. Put together and taken apart around every product, it would be
//! twice as many. Elsewhere all words stay in the first register and the second is not used.

use pulp::Simd;

use super::lanes::token;

/// Runs the first block with the instructions of AVX-512, the second with those of AVX2, the third elsewhere. Which one it is
/// is known when the code is compiled.
macro_rules! by_instructions {
    ($S:ident, |$wide:ident| $avx512:expr, |$narrow:ident| $avx2:expr, $other:expr) => {{
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            use std::any::TypeId;
            if TypeId::of::<$S>() == TypeId::of::<pulp::x86::V4>() {
                let $wide = token::<pulp::x86::V4>();
                return $avx512;
            }
            if TypeId::of::<$S>() == TypeId::of::<pulp::x86::V3>() {
                let $narrow = token::<pulp::x86::V3>();
                return $avx2;
            }
        }
        $other
    }};
}
pub(super) use by_instructions;

/// The same bits as another type of register.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn cast<A: Copy, B: Copy>(a: A) -> B {
    // Known when it is compiled; not so stated, because branches for other instructions are compiled as well.
    assert!(size_of::<A>() == size_of::<B>(), "registers have the same width");
    // SAFETY: both are registers (or what fills one), for which all bits are valid, and of the same size.
    unsafe { std::mem::transmute_copy(&a) }
}

/// Takes a register apart.
#[inline(always)]
pub(crate) fn spread<S: Simd>(bits: S::u32s) -> [S::u32s; 2] {
    by_instructions!(
        S,
        |v4| [bits, cast(v4.avx512f._mm512_srli_epi64::<32>(cast(bits)))],
        |v3| [bits, cast(v3.avx2._mm256_srli_epi64::<32>(cast(bits)))],
        [bits, token::<S>().splat_u32s(0)]
    )
}

/// Puts a register together again.
#[inline(always)]
pub(crate) fn gather<S: Simd>([even, odd]: [S::u32s; 2]) -> S::u32s {
    by_instructions!(
        S,
        |v4| {
            let odd = v4.avx512f._mm512_slli_epi64::<32>(cast(odd));
            cast(v4.avx512f._mm512_mask_blend_epi32(0b1010_1010_1010_1010, cast(even), odd))
        },
        |v3| {
            let odd = v3.avx2._mm256_slli_epi64::<32>(cast(odd));
            cast(v3.avx2._mm256_blend_epi32::<0b1010_1010>(cast(even), odd))
        },
        even
    )
}

/// The (low, high) halves of the products with one number.
#[inline(always)]
pub(crate) fn multiply<S: Simd>([even, odd]: [S::u32s; 2], by: u32) -> ([S::u32s; 2], [S::u32s; 2]) {
    let by = token::<S>().splat_u32s(by);
    by_instructions!(
        S,
        |v4| {
            let (even, odd) =
                (v4.avx512f._mm512_mul_epu32(cast(even), cast(by)), v4.avx512f._mm512_mul_epu32(cast(odd), cast(by)));
            let high = |product| cast(v4.avx512f._mm512_srli_epi64::<32>(product));
            ([cast(even), cast(odd)], [high(even), high(odd)])
        },
        |v3| {
            let (even, odd) =
                (v3.avx2._mm256_mul_epu32(cast(even), cast(by)), v3.avx2._mm256_mul_epu32(cast(odd), cast(by)));
            let high = |product| cast(v3.avx2._mm256_srli_epi64::<32>(product));
            ([cast(even), cast(odd)], [high(even), high(odd)])
        },
        {
            let (low, high) = token::<S>().widening_mul_u32s(even, by);
            ([low, odd], [high, odd])
        }
    )
}
