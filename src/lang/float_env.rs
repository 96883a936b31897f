//! The floating-point environment of a thread: its rounding mode, and whether it flushes subnormal numbers to zero.
//!
//! A program may change it for its own purposes: audio and linear algebra libraries flush subnormals, interval
//! arithmetic rounds up and down. A thread that is started afterwards inherits it, others do not. The scheduler decides
//! which thread computes which rows, so results would depend on scheduling. Hence every call that computes numbers for
//! its caller runs inside [`standard`], and so does every thread that takes part.
//!
//! Plain functions that run on the caller's own thread (models, operations on `f32`, random numbers, derivatives, grid
//! lookups) run in the environment of that thread, as any other arithmetic does.

use std::hint::black_box;

/// Runs `work` in the environment that Rust code is compiled for: round to nearest, subnormals kept, no traps. The
/// caller's environment is restored afterwards, also if `work` panics.
///
/// If nothing has to be changed, which is the common case, this costs a read of the control register and a call.
#[inline]
pub(crate) fn standard<T>(work: impl FnOnce() -> T) -> T {
    let _restore = Restore::new();
    // The compiler assumes that arithmetic does not depend on a control register, so it might move some of it across
    // the change. It cannot move arithmetic out of a function that is not inlined and is hidden behind `black_box`.
    black_box(apart(black_box(work)))
}

#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Whether this thread is in the environment that Rust code is compiled for.
#[inline]
pub(crate) fn is_standard() -> bool {
    control::is_standard(control::read())
}

/// Sets the environment, and restores the previous one when it is dropped.
struct Restore {
    before: Option<control::Word>,
}

impl Restore {
    #[inline]
    fn new() -> Self {
        let now = control::read();
        if control::is_standard(now) {
            return Self { before: None };
        }
        // SAFETY: this is the environment that the compiler assumes everywhere. Code that runs in another one, as this
        // does up to here, is outside of what Rust defines; from here on it is inside again.
        unsafe { control::write(control::STANDARD) };
        Self { before: Some(now) }
    }
}

impl Drop for Restore {
    #[inline]
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // SAFETY: this restores the caller's own environment. No arithmetic of `work` remains: see `standard`.
            unsafe { control::write(before) };
        }
    }
}

/// MXCSR, which controls SSE and AVX. (The x87 control word does not matter: nothing here uses the x87.)
#[cfg(all(any(target_arch = "x86_64", all(target_arch = "x86", target_feature = "sse")), not(miri)))]
mod control {
    use std::arch::asm;

    pub(crate) type Word = u32;

    /// All exceptions masked, round to nearest, neither FTZ nor DAZ.
    pub(crate) const STANDARD: Word = 0x1f80;

    /// Exceptions that have occurred; they change no result.
    const STATUS: Word = 0x3f;

    #[inline(always)]
    pub(crate) fn is_standard(word: Word) -> bool {
        word & !STATUS == STANDARD
    }

    #[inline(always)]
    pub(crate) fn read() -> Word {
        let mut word = 0;
        // SAFETY: it stores four bytes to a valid address, and does nothing else.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
        word
    }

    /// # Safety
    ///
    /// Rust code that runs afterwards, on this thread, is compiled for [`STANDARD`] only.
    #[inline(always)]
    pub(crate) unsafe fn write(word: Word) {
        // SAFETY: it loads four bytes from a valid address. (It also loads the exception flags of `word`, so it does
        // not preserve flags.)
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack)) };
    }
}

/// FPCR.
#[cfg(all(target_arch = "aarch64", not(miri)))]
mod control {
    use std::arch::asm;

    pub(crate) type Word = u64;

    /// No traps, round to nearest, no FZ. Exceptions that have occurred are in another register.
    pub(crate) const STANDARD: Word = 0;

    #[inline(always)]
    pub(crate) fn is_standard(word: Word) -> bool {
        word == STANDARD
    }

    #[inline(always)]
    pub(crate) fn read() -> Word {
        let word: Word;
        // SAFETY: it reads a register and does nothing else.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    /// # Safety
    ///
    /// Rust code that runs afterwards, on this thread, is compiled for [`STANDARD`] only.
    #[inline(always)]
    pub(crate) unsafe fn write(word: Word) {
        // SAFETY: it writes a register that only affects arithmetic.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
    }
}

/// No control register that this crate could set: on other processors, and under Miri, which does not support inline
/// assembly.
#[cfg(any(
    miri,
    not(any(target_arch = "x86_64", all(target_arch = "x86", target_feature = "sse"), target_arch = "aarch64"))
))]
mod control {
    pub(crate) type Word = ();

    pub(crate) const STANDARD: Word = ();

    #[inline(always)]
    pub(crate) fn is_standard((): Word) -> bool {
        true
    }

    #[inline(always)]
    pub(crate) fn read() -> Word {}

    /// # Safety
    ///
    /// None needed.
    #[inline(always)]
    pub(crate) unsafe fn write((): Word) {}
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Environments that round up, down and to zero, and one that flushes subnormals.
    #[cfg(target_arch = "x86_64")]
    const OTHERS: [control::Word; 4] = [0x5f80, 0x3f80, 0x7f80, 0x9fc0];
    #[cfg(target_arch = "aarch64")]
    const OTHERS: [control::Word; 4] = [1 << 22, 2 << 22, 3 << 22, 1 << 24];

    /// Runs a test on a new thread, in the given environment.
    fn within(word: control::Word, test: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let before = control::read();
                // SAFETY: nothing but this test runs on this thread, and the environment is as it was when it ends.
                unsafe { control::write(word) };
                apart(test);
                // SAFETY: as above.
                unsafe { control::write(before) };
            });
        });
    }

    /// Quotients each of which some rounding mode other than to nearest changes, and half of the smallest normal
    /// number.
    fn numbers() -> [u32; 4] {
        let [one, three, small] = black_box([1.0_f32, 3.0, f32::MIN_POSITIVE]);
        [one / three, -one / three, one / (three * three), small / 2.0].map(f32::to_bits)
    }

    #[test]
    fn work_runs_in_the_standard_environment_and_the_callers_is_back_afterwards() {
        let expected = apart(numbers);
        for word in OTHERS {
            within(word, || {
                assert!(!is_standard());
                assert_ne!(apart(numbers), expected, "{word:#x} makes a difference");
                let found = standard(|| {
                    assert!(is_standard());
                    // Nesting changes nothing.
                    standard(|| assert!(is_standard()));
                    assert!(is_standard());
                    numbers()
                });
                assert_eq!(found, expected, "{word:#x}");
                assert_eq!(control::read() & !0x3f, word & !0x3f);
            });
        }
        assert!(is_standard());
        assert_eq!(standard(numbers), expected);
    }

    #[test]
    fn a_panic_leaves_the_callers_environment_as_well() {
        for word in OTHERS {
            within(word, || {
                let result = catch_unwind(AssertUnwindSafe(|| standard(|| std::panic::resume_unwind(Box::new(1)))));
                let _: Box<dyn std::any::Any + Send> = result.expect_err("it panicked");
                assert_eq!(control::read() & !0x3f, word & !0x3f);
            });
        }
    }
}
