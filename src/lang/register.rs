//! [`Register`]: numbers that are loaded and stored together.

use super::Inputs;
use super::math::Vector;

/// Numbers that are loaded and stored as a unit: one register, or several.
pub trait Register: Vector<Uniform = u32> {
    /// The number of lanes.
    const COUNT: usize;
    /// Whether there are registers enough for the sums of eight units of a network, instead of four.
    const EIGHT_UNITS: bool = false;

    /// Loads the first [`Self::COUNT`] numbers of a slice.
    fn load(from: &[f32]) -> Self;
    /// Where a number consists of two registers, loads one and repeats it; otherwise as [`load`](Self::load).
    #[inline(always)]
    fn load_repeated(from: &[f32]) -> Self {
        Self::load(from)
    }
    fn store(self, to: &mut [f32]);
    /// first, first + 1, …
    fn iota(first: u32) -> Self::Bits;
    /// Loads, in each lane, both samples of pairs i and i + 1, where i is the lane of `first`.
    ///
    /// # Safety
    ///
    /// All of these samples must be within `samples`.
    unsafe fn gather_2x2(samples: &[f32], first: Self::Bits) -> [Self; 4];
    /// Whether the mask is true in any lane.
    fn any(mask: Self::Truth) -> bool;
    /// Adds to a term of the cost. Only single numbers do; kernels record nothing.
    #[inline(always)]
    fn record(inputs: &Inputs<'_>, name: &'static str, value: impl FnOnce() -> Self) {
        let _ = (inputs, name, value);
    }
    /// Applies a scalar function to each lane.
    fn map<const A: usize>(function: impl Fn([f32; A]) -> f32, arguments: [Self; A]) -> Self;
}
