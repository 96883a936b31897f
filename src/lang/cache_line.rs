//! Cache-line-aligned memory for numbers that are processed in whole registers.

use bytemuck::{Pod, Zeroable};

/// A cache line, the size of the widest registers.
///
/// Memory aligned to cache lines is loaded and stored a line at a time; a misaligned register of this size would touch
/// two.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct CacheLine([f32; 16]);

impl CacheLine {
    pub(crate) const ZERO: Self = Self([0.0; 16]);

    /// The number of lines that hold `numbers` numbers.
    pub(crate) const fn holding(numbers: usize) -> usize {
        (numbers * size_of::<f32>()).div_ceil(size_of::<Self>())
    }

    /// Views lines as numbers.
    pub(crate) fn numbers(lines: &[Self]) -> &[f32] {
        bytemuck::cast_slice(lines)
    }

    /// Views lines as mutable numbers.
    pub(crate) fn numbers_mut(lines: &mut [Self]) -> &mut [f32] {
        bytemuck::cast_slice_mut(lines)
    }
}
