//! Code that depends on which vector instructions there are.

#[cfg(target_arch = "x86")]
pub(super) use std::arch::x86 as arch;
#[cfg(target_arch = "x86_64")]
pub(super) use std::arch::x86_64 as arch;

/// Runs the first block with the instructions of AVX-512, the second with those of AVX2, the third elsewhere. Which one it is
/// is known when the code is compiled. The first two return from the function that it stands in.
macro_rules! by_instructions {
    ($S:ident, |$wide:ident| $avx512:expr, |$narrow:ident| $avx2:expr, $other:expr) => {{
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            use std::any::TypeId;
            if TypeId::of::<$S>() == TypeId::of::<pulp::x86::V4>() {
                let $wide = $crate::scalar::lanes::token::<pulp::x86::V4>();
                return $avx512;
            }
            if TypeId::of::<$S>() == TypeId::of::<pulp::x86::V3>() {
                let $narrow = $crate::scalar::lanes::token::<pulp::x86::V3>();
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
