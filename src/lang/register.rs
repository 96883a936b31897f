//! [`Register`]: numbers that are loaded and stored together.

use super::Inputs;
use super::math::Vector;

/// Numbers that are loaded and stored as a unit: one register, or several.
pub trait Register: Vector<Uniform = u32> {
    /// The number of lanes.
    const COUNT: usize;
    /// The number of units of a network whose sums are kept in registers: 4, 6 or 8.
    const UNITS: usize = 4;

    /// Loads the first [`Self::COUNT`] numbers of a slice.
    fn load(from: &[f32]) -> Self;
    /// Loads [`Self::COUNT`] / `E` numbers and repeats them `E` times; `E` is 1, 2, 4 or 8.
    #[inline(always)]
    fn load_repeated<const E: usize>(from: &[f32]) -> Self {
        Self::load(from)
    }
    /// As [`load_repeated`](Self::load_repeated), for a number of rows that is a variable; reads beyond them.
    #[inline(always)]
    fn load_rows(from: &[f32], rows: usize) -> Self {
        let _ = rows;
        Self::load(from)
    }
    fn store(self, to: &mut [f32]);
    /// first, first + 1, …
    fn iota(first: u32) -> Self::Bits;
    /// `first` and the rows after it, in the lanes from which [`words`](Vector::words) returns their words in order.
    #[inline(always)]
    fn rows_of_words(first: u32) -> Self::Bits {
        Self::iota(first)
    }
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
