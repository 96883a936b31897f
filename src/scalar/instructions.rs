//! Code that depends on which vector instructions there are.

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use std::any::TypeId;

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use bytemuck::{AnyBitPattern, NoUninit};
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use pulp::Simd;

#[cfg(target_arch = "x86")]
pub(super) use std::arch::x86 as arch;
#[cfg(target_arch = "x86_64")]
pub(super) use std::arch::x86_64 as arch;

/// Runs the first block with the instructions of AVX-512, the second with those of AVX2, the third elsewhere, as the token `$simd`
/// says. Which one it is is known when the code is compiled. The first two return from the function that it stands in.
macro_rules! by_instructions {
    ($simd:expr, |$wide:ident| $avx512:expr, |$narrow:ident| $avx2:expr, $other:expr) => {{
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            if let Some($wide) = $crate::scalar::instructions::token_as::<_, pulp::x86::V4>($simd) {
                return $avx512;
            }
            if let Some($narrow) = $crate::scalar::instructions::token_as::<_, pulp::x86::V3>($simd) {
                return $avx2;
            }
        }
        $other
    }};
}
pub(super) use by_instructions;

/// A token as one of type `T`, if that is its type.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn token_as<S: Simd, T: Simd>(simd: S) -> Option<T> {
    if TypeId::of::<S>() == TypeId::of::<T>() {
        // SAFETY: it is of that very type, and tokens may be copied.
        Some(unsafe { std::mem::transmute_copy(&simd) })
    } else {
        None
    }
}

/// The same bits as another type of register.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn cast<A: NoUninit, B: AnyBitPattern>(a: A) -> B {
    // Known when it is compiled; not so stated, because branches for other instructions are compiled as well.
    assert!(size_of::<A>() == size_of::<B>(), "registers have the same width");
    // SAFETY: they have the same size, all bits of the one are initialized, and any bits are valid for the other. (Not
    // `bytemuck::cast`, which is not inlined where nothing is optimized.)
    unsafe { std::mem::transmute_copy(&a) }
}
