//! Scratch for network activations, allocated before an episode so that the step loop never allocates.
//!
//! A loop that contains a function call, even one that is rarely executed, keeps no values in vector registers across
//! iterations: on x86 all vector registers are caller-saved.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::cache_line::CacheLine;
use super::sealed::Sealed;

/// Contiguous cache lines that hold the activations of one network at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetworkScratch<'a> {
    first: NonNull<CacheLine>,
    lines: usize,
    borrowed: PhantomData<&'a CacheLine>,
}

// SAFETY: only `Params` and `StepContext`s that the crate creates over lanes have scratch. User code handles those in
// generic functions only, where it cannot send them to another thread: they hold a `PhantomData<R>`, and `R: Real` does
// not imply `Send`. Those created by the user have no scratch and may be sent.
unsafe impl Send for NetworkScratch<'_> {}
// SAFETY: as for `Send`.
unsafe impl Sync for NetworkScratch<'_> {}

impl<'a> NetworkScratch<'a> {
    #[inline(always)]
    pub(crate) fn new(lines: &'a mut [CacheLine]) -> Self {
        Self { first: NonNull::from(&mut *lines).cast(), lines: lines.len(), borrowed: PhantomData }
    }

    /// Returns `count` numbers with arbitrary contents.
    ///
    /// # Safety
    ///
    /// No slice returned earlier is still in use.
    ///
    /// # Panics
    ///
    /// If the scratch holds fewer than `count` numbers, which happens if a policy has larger networks than when it was
    /// traced.
    #[inline(always)]
    pub(crate) unsafe fn numbers<R: Sealed>(self, count: usize) -> &'a mut [R] {
        const { assert!(align_of::<R>() <= align_of::<CacheLine>(), "a line of the cache suits any number") };
        assert!(count * size_of::<R>() <= self.lines * size_of::<CacheLine>(), "networks are those that were traced");
        // SAFETY: the lines are borrowed for `'a` and large enough, and any bytes are valid numbers; the caller
        // guarantees that no other slice of them is in use.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr().cast(), count) }
    }
}
