//! Dispatch on the vector instruction set, resolved at compile time.

#[cfg(any(target_arch = "x86", target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128")))]
use std::any::TypeId;
#[cfg(target_arch = "x86")]
pub(crate) use std::arch::x86 as arch;
#[cfg(target_arch = "x86_64")]
pub(crate) use std::arch::x86_64 as arch;

#[cfg(any(target_arch = "x86", target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128")))]
use bytemuck::{AnyBitPattern, NoUninit};
#[cfg(any(target_arch = "x86", target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128")))]
use pulp::Simd;

/// Runs the first block with AVX-512, the second with AVX2 and the third elsewhere, selected by the type of the token
/// `$simd`. The selection is resolved at compile time. The first two blocks return from the enclosing function.
macro_rules! by_instructions {
    ($simd:expr, |$wide:ident| $avx512:expr, |$narrow:ident| $avx2:expr, $other:expr) => {{
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            if let Some($wide) = $crate::interp::simd::instructions::token_as::<_, pulp::x86::V4>($simd) {
                return $avx512;
            }
            if let Some($narrow) = $crate::interp::simd::instructions::token_as::<_, pulp::x86::V3>($simd) {
                return $avx2;
            }
        }
        $other
    }};
}
pub(crate) use by_instructions;

/// Returns the token as a `T` if that is its type.
#[cfg(any(target_arch = "x86", target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128")))]
#[inline(always)]
pub(crate) fn token_as<S: Simd, T: Simd>(simd: S) -> Option<T> {
    if TypeId::of::<S>() == TypeId::of::<T>() {
        // SAFETY: the types are equal, and tokens are `Copy`.
        Some(unsafe { std::mem::transmute_copy(&simd) })
    } else {
        None
    }
}

/// Reinterprets a register as another register type of the same size.
#[cfg(any(target_arch = "x86", target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128")))]
#[inline(always)]
pub(crate) fn cast<A: NoUninit, B: AnyBitPattern>(a: A) -> B {
    // The sizes are compile-time constants, but this is no `const` assertion: branches for other instruction sets are
    // compiled too.
    assert!(size_of::<A>() == size_of::<B>(), "registers have the same width");
    // SAFETY: the sizes are equal, all bits of `a` are initialized, and any bit pattern is a valid `B`.
    // (`bytemuck::cast` is not inlined in unoptimized builds.)
    unsafe { std::mem::transmute_copy(&a) }
}
