//! Room for the units of networks, set aside before an episode, so that none of its steps asks for memory.
//!
//! A loop that calls another function, and be it once in a lifetime, keeps nothing in vector registers across its turns: on x86 no
//! such register survives a call.

use std::marker::PhantomData;
use std::ptr::NonNull;

use bytemuck::Pod;

use crate::line::Line;

/// Lines of the cache that networks are computed in, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room<'a> {
    first: NonNull<Line>,
    lines: usize,
    borrowed: PhantomData<&'a mut [Line]>,
}

// SAFETY: a reader of parameters that has room is one of the crate's own, in lanes. User code meets it in generic functions only,
// which know of no `Real` that it may go to another thread, so none ever does. Readers made by hand have no room, and may go.
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
    #[inline(always)]
    pub(crate) unsafe fn numbers<R: Pod>(self, count: usize) -> &'a mut [R] {
        // SAFETY: the lines are borrowed as long as this is, and by the caller's promise nobody else has a part of them.
        let lines = unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.lines) };
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(lines);
        bytemuck::cast_slice_mut(&mut bytes[..count * size_of::<R>()])
    }
}
