//! Plain `f32`: the reference interpretation.

use crate::lang::math::Vector;
use crate::lang::register::Register;
use crate::lang::{Inputs, Mask, sealed};

// SAFETY: any bytes are a valid `f32`.
unsafe impl sealed::Sealed for f32 {}

/// A single number is a register of one lane.
impl Register for f32 {
    const COUNT: usize = 1;

    #[inline(always)]
    fn load(from: &[f32]) -> f32 {
        from[0]
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[0] = self;
    }
    #[inline(always)]
    fn iota(first: u32) -> u32 {
        first
    }
    #[inline(always)]
    unsafe fn gather_2x2(samples: &[f32], first: u32) -> [f32; 4] {
        let first = 2 * first as usize;
        [samples[first], samples[first + 1], samples[first + 2], samples[first + 3]]
    }
    #[inline(always)]
    fn any(mask: bool) -> bool {
        mask
    }
    #[inline(always)]
    fn record(inputs: &Inputs<'_>, name: &'static str, value: impl FnOnce() -> f32) {
        if let Some(recorder) = inputs.terms {
            recorder.add(name, value());
        }
    }
    #[inline(always)]
    fn map<const A: usize>(function: impl Fn([f32; A]) -> f32, arguments: [Self; A]) -> Self {
        function(arguments)
    }
}

impl Mask for bool {
    #[inline(always)]
    fn splat(value: bool) -> Self {
        value
    }
}

impl Vector for f32 {
    type Bits = u32;
    type Truth = bool;
    type Uniform = u32;

    #[inline(always)]
    fn bits(self) -> u32 {
        self.to_bits()
    }
    #[inline(always)]
    fn from_bits(bits: u32) -> Self {
        f32::from_bits(bits)
    }
    #[inline(always)]
    fn splat_bits(bits: u32) -> u32 {
        bits
    }
    #[inline(always)]
    fn splat_uniform(word: u32) -> u32 {
        word
    }
    #[inline(always)]
    fn bits_and(a: u32, b: u32) -> u32 {
        a & b
    }
    #[inline(always)]
    fn bits_or(a: u32, b: u32) -> u32 {
        a | b
    }
    #[inline(always)]
    fn bits_xor(a: u32, b: u32) -> u32 {
        a ^ b
    }
    #[inline(always)]
    fn bits_add(a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn bits_sub(a: u32, b: u32) -> u32 {
        a.wrapping_sub(b)
    }
    #[inline(always)]
    fn bits_mul(a: u32, b: u32) -> u32 {
        a.wrapping_mul(b)
    }
    #[inline(always)]
    fn bits_shl(a: u32, by: u32) -> u32 {
        a << by
    }
    #[inline(always)]
    fn bits_shr(a: u32, by: u32) -> u32 {
        a >> by
    }
    #[inline(always)]
    fn bits_eq(a: u32, b: u32) -> bool {
        a == b
    }
    #[inline(always)]
    fn bits_select(mask: bool, yes: u32, no: u32) -> u32 {
        if mask { yes } else { no }
    }
    #[inline(always)]
    fn bits_mul_wide(a: u32, b: u32) -> (u32, u32) {
        let product = u64::from(a) * u64::from(b);
        (product as u32, (product >> 32) as u32)
    }
    #[inline(always)]
    fn simd_min(self, other: Self) -> Self {
        if self < other { self } else { other }
    }
    #[inline(always)]
    fn simd_max(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        f32::mul_add(self, a, b)
    }
    #[inline(always)]
    fn simd_sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn from_i32(bits: u32) -> Self {
        bits as i32 as f32
    }
    #[inline(always)]
    fn simd_lt(self, other: Self) -> bool {
        self < other
    }
    #[inline(always)]
    fn simd_le(self, other: Self) -> bool {
        self <= other
    }
    #[inline(always)]
    fn simd_eq(self, other: Self) -> bool {
        self == other
    }
    #[inline(always)]
    fn simd_select(mask: bool, yes: Self, no: Self) -> Self {
        if mask { yes } else { no }
    }
}
