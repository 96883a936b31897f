//! Room for the units of networks, set aside before an episode, so that no step of it asks for memory.
//!
//! A loop that calls a function, even if it hardly ever does, keeps nothing in vector registers from turn to turn: on x86 no such
//! register survives a call.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::sealed::Sealed;
use crate::line::Line;

/// Lines of the cache that networks are computed in, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room<'a> {
    first: NonNull<Line>,
    lines: usize,
    borrowed: PhantomData<&'a Line>,
}

// SAFETY: a reader of parameters (`Weights`) that has room is one of the crate's own, in lanes. User code meets it in generic
// functions only, where it cannot go to another thread: it holds a `PhantomData<R>`, and of `R: Real` nothing says that it may.
// Readers made by hand have no room, and may go.
unsafe impl Send for Room<'_> {}
// SAFETY: likewise.
unsafe impl Sync for Room<'_> {}

impl<'a> Room<'a> {
    #[inline(always)]
    pub(crate) fn new(lines: &'a mut [Line]) -> Self {
        Self { first: NonNull::from(&mut *lines).cast(), lines: lines.len(), borrowed: PhantomData }
    }

    /// So many numbers, of any values.
    ///
    /// # Safety
    ///
    /// Those that were asked for before are no longer in use.
    ///
    /// # Panics
    ///
    /// If there is no room for so many: then a policy has larger networks than when it was traced.
    #[inline(always)]
    pub(crate) unsafe fn numbers<R: Sealed>(self, count: usize) -> &'a mut [R] {
        const { assert!(align_of::<R>() <= align_of::<Line>(), "a line of the cache suits any number") };
        assert!(count * size_of::<R>() <= self.lines * size_of::<Line>(), "networks are those that were traced");
        // SAFETY: the lines are borrowed as long as this is, they are large enough, and any bytes are numbers; by the caller's
        // promise nobody else has a part of them.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr().cast(), count) }
    }
}
