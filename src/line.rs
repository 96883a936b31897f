//! Memory for what is computed with in whole registers.

use bytemuck::{Pod, Zeroable};

/// A line of the cache, as long as the widest registers are.
///
/// Numbers that begin one go to memory and back in whole lines; off by a few bytes, every such register would touch two.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; 16]);

impl Line {
    pub(crate) const ZERO: Self = Self([0.0; 16]);

    /// How many lines hold so many numbers.
    pub(crate) const fn holding(numbers: usize) -> usize {
        (numbers * size_of::<f32>()).div_ceil(size_of::<Self>())
    }

    /// The numbers in some lines.
    pub(crate) fn numbers(lines: &[Self]) -> &[f32] {
        bytemuck::cast_slice(lines)
    }

    /// The same to write to.
    pub(crate) fn numbers_mut(lines: &mut [Self]) -> &mut [f32] {
        bytemuck::cast_slice_mut(lines)
    }
}
