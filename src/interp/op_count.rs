//! Numbers that count the operations on them: a lower bound on the vector instructions of a piece of model code.

use std::cell::Cell;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::lang::math::Vector;
use crate::lang::register::Register;
use crate::lang::sealed;

/// Vector instructions of a piece of code, by kind.
///
/// Only indispensable instructions are counted, so the total is a lower bound. Operations that AVX-512 fuses into
/// others (a negated factor, one logic operation before another), constants, moves and loop counters are left out.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct OpCount {
    /// Products, fused with a sum or not.
    pub multiply: f64,
    /// Sums, minima, maxima and comparisons.
    pub add: f64,
    /// Quotients and square roots.
    pub divide: f64,
    /// Products of integers.
    pub product: f64,
    /// Sums, shifts and logic of integers.
    pub integer: f64,
    /// Selections between two numbers.
    pub select: f64,
    /// Loads of field samples, as whole registers: four for each lookup.
    pub sample: f64,
}

impl OpCount {
    const NONE: Self =
        Self { multiply: 0.0, add: 0.0, divide: 0.0, product: 0.0, integer: 0.0, select: 0.0, sample: 0.0 };

    /// The sum over all kinds.
    pub fn total(&self) -> f64 {
        let Self { multiply, add, divide, product, integer, select, sample } = *self;
        multiply + add + divide + product + integer + select + sample
    }

    /// The instructions of `times` such pieces of code plus `other`.
    pub(crate) fn times_and(&self, times: f64, other: &Self) -> Self {
        Self {
            multiply: self.multiply * times + other.multiply,
            add: self.add * times + other.add,
            divide: self.divide * times + other.divide,
            product: self.product * times + other.product,
            integer: self.integer * times + other.integer,
            select: self.select * times + other.select,
            sample: self.sample * times + other.sample,
        }
    }
}

thread_local! {
    static DONE: Cell<OpCount> = const { Cell::new(OpCount::NONE) };
}

fn count(what: impl Fn(&mut OpCount)) {
    let mut done = DONE.get();
    what(&mut done);
    DONE.set(done);
}

/// Counts the instructions that `code` executes on this thread.
pub(crate) fn of(code: impl FnOnce()) -> OpCount {
    DONE.set(OpCount::NONE);
    code();
    DONE.get()
}

/// A number that counts the operations on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpCounter(f32);

impl From<f32> for OpCounter {
    fn from(value: f32) -> Self {
        Self(value)
    }
}
impl Neg for OpCounter {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}
// SAFETY: any bytes are a valid number.
unsafe impl sealed::Sealed for OpCounter {}

macro_rules! arithmetic {
    ($($op:ident $method:ident $assign:ident $assign_method:ident $field:ident;)*) => {$(
        impl $op for OpCounter {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                count(|done| done.$field += 1.0);
                Self(self.0.$method(other.0))
            }
        }
        impl $op<f32> for OpCounter {
            type Output = Self;
            fn $method(self, other: f32) -> Self {
                self.$method(Self(other))
            }
        }
        impl $assign for OpCounter {
            fn $assign_method(&mut self, other: Self) {
                *self = self.$method(other);
            }
        }
    )*};
}
arithmetic! {
    Add add AddAssign add_assign add;
    Sub sub SubAssign sub_assign add;
    Mul mul MulAssign mul_assign multiply;
    Div div DivAssign div_assign divide;
}

impl Vector for OpCounter {
    type Bits = u32;
    type Truth = bool;
    type Uniform = u32;

    fn bits(self) -> u32 {
        self.0.to_bits()
    }
    fn from_bits(bits: u32) -> Self {
        Self(f32::from_bits(bits))
    }
    fn splat_bits(bits: u32) -> u32 {
        bits
    }
    fn splat_uniform(word: u32) -> u32 {
        word
    }
    // A ternary logic instruction fuses the `and` into the operation that uses its result.
    fn bits_and(a: u32, b: u32) -> u32 {
        a & b
    }
    fn bits_or(a: u32, b: u32) -> u32 {
        count(|done| done.integer += 1.0);
        a | b
    }
    fn bits_xor(a: u32, b: u32) -> u32 {
        count(|done| done.integer += 1.0);
        a ^ b
    }
    fn bits_add(a: u32, b: u32) -> u32 {
        count(|done| done.integer += 1.0);
        a.wrapping_add(b)
    }
    fn bits_sub(a: u32, b: u32) -> u32 {
        count(|done| done.integer += 1.0);
        a.wrapping_sub(b)
    }
    fn bits_mul(a: u32, b: u32) -> u32 {
        count(|done| done.product += 1.0);
        a.wrapping_mul(b)
    }
    fn bits_shl(a: u32, by: u32) -> u32 {
        count(|done| done.integer += 1.0);
        a << by
    }
    fn bits_shr(a: u32, by: u32) -> u32 {
        count(|done| done.integer += 1.0);
        a >> by
    }
    fn bits_eq(a: u32, b: u32) -> bool {
        count(|done| done.add += 1.0);
        a == b
    }
    fn bits_select(mask: bool, yes: u32, no: u32) -> u32 {
        count(|done| done.select += 1.0);
        if mask { yes } else { no }
    }

    fn bits_xor_of(a: u32, b: u32, c: u32) -> u32 {
        count(|done| done.integer += 1.0);
        a ^ b ^ c
    }
    // See `mul_wide`: two products, a shift of the odd lanes, and two shuffles that separate low from high halves.
    fn bits_mul_wide(a: u32, b: u32) -> (u32, u32) {
        count(|done| (done.product, done.integer) = (done.product + 2.0, done.integer + 3.0));
        f32::bits_mul_wide(a, b)
    }

    fn simd_min(self, other: Self) -> Self {
        count(|done| done.add += 1.0);
        Self(self.0.simd_min(other.0))
    }
    fn simd_max(self, other: Self) -> Self {
        count(|done| done.add += 1.0);
        Self(self.0.simd_max(other.0))
    }
    fn fma(self, a: Self, b: Self) -> Self {
        count(|done| done.multiply += 1.0);
        Self(self.0.fma(a.0, b.0))
    }
    fn simd_sqrt(self) -> Self {
        count(|done| done.divide += 1.0);
        Self(self.0.sqrt())
    }
    fn relu(self) -> Self {
        count(|done| done.add += 1.0);
        Self(self.0.relu())
    }
    fn from_i32(bits: u32) -> Self {
        count(|done| done.integer += 1.0);
        Self(f32::from_i32(bits))
    }
    fn select_by_sign(bits: u32, yes: Self, no: Self) -> Self {
        count(|done| done.select += 1.0);
        Self(f32::select_by_sign(bits, yes.0, no.0))
    }
    fn index(self) -> u32 {
        count(|done| done.add += 1.0);
        self.0.index()
    }
    fn simd_floor(self) -> Self {
        count(|done| done.add += 1.0);
        Self(self.0.simd_floor())
    }
    fn simd_lt(self, other: Self) -> bool {
        count(|done| done.add += 1.0);
        self.0 < other.0
    }
    fn simd_le(self, other: Self) -> bool {
        count(|done| done.add += 1.0);
        self.0 <= other.0
    }
    fn simd_eq(self, other: Self) -> bool {
        count(|done| done.add += 1.0);
        self.0 == other.0
    }
    fn simd_select(mask: bool, yes: Self, no: Self) -> Self {
        count(|done| done.select += 1.0);
        if mask { yes } else { no }
    }
}

impl Register for OpCounter {
    const COUNT: usize = 1;

    fn load(from: &[f32]) -> Self {
        Self(from[0])
    }
    fn store(self, to: &mut [f32]) {
        to[0] = self.0;
    }
    fn iota(first: u32) -> u32 {
        first
    }
    unsafe fn gather_2x2(samples: &[f32], first: u32) -> [Self; 4] {
        count(|done| done.sample += 4.0);
        // SAFETY: by the caller's guarantee.
        unsafe { f32::gather_2x2(samples, first) }.map(Self)
    }
    fn any(mask: bool) -> bool {
        mask
    }
    fn map<const A: usize>(function: impl Fn([f32; A]) -> f32, arguments: [Self; A]) -> Self {
        Self(function(arguments.map(|a| a.0)))
    }
}
