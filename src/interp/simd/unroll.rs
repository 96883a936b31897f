//! Two registers (or two pairs of them), computed with in lockstep.
//!
//! A rollout is one long chain of dependent operations, each with a latency of about four cycles, while a core can
//! start one or two per cycle. Independent chains fill the idle slots.

use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, DivAssign, Mul, MulAssign, Neg, Not, Sub, SubAssign};

use crate::lang::math::Vector;
use crate::lang::philox_row::PhiloxRow;
use crate::lang::register::Register;
use crate::lang::{Mask, sealed};

/// Two values, on which every operation is carried out in turn.
#[derive(Clone, Copy)]
pub(crate) struct Unroll2<T>(pub(crate) T, pub(crate) T);

/// Two values in optimized builds, one otherwise: see `build.rs`.
#[cfg(optimized)]
pub(crate) type Unrolled<T> = Unroll2<T>;
#[cfg(not(optimized))]
pub(crate) type Unrolled<T> = T;

macro_rules! arithmetic {
    ($($op:ident $method:ident $assign:ident $assign_method:ident;)*) => {$(
        impl<V: Vector> $op for Unroll2<V> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(self.0.$method(other.0), self.1.$method(other.1))
            }
        }
        impl<V: Vector> $op<f32> for Unroll2<V> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: f32) -> Self {
                self.$method(Self::from(other))
            }
        }
        impl<V: Vector> $assign for Unroll2<V> {
            #[inline(always)]
            fn $assign_method(&mut self, other: Self) {
                *self = self.$method(other);
            }
        }
    )*};
}
arithmetic! {
    Add add AddAssign add_assign;
    Sub sub SubAssign sub_assign;
    Mul mul MulAssign mul_assign;
    Div div DivAssign div_assign;
}

impl<T: Copy> Unroll2<T> {
    /// Repeats a value in both registers.
    #[inline(always)]
    pub(crate) fn twice(value: T) -> Self {
        Self(value, value)
    }
}

impl<V: Vector> From<f32> for Unroll2<V> {
    #[inline(always)]
    fn from(value: f32) -> Self {
        Self::twice(V::from(value))
    }
}
impl<V: Vector> Neg for Unroll2<V> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self(-self.0, -self.1)
    }
}
impl<T: Mask> BitAnd for Unroll2<T> {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0, self.1 & other.1)
    }
}
impl<T: Mask> BitOr for Unroll2<T> {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0, self.1 | other.1)
    }
}
impl<T: Mask> Not for Unroll2<T> {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        Self(!self.0, !self.1)
    }
}
impl<T: Mask> Mask for Unroll2<T> {
    #[inline(always)]
    fn splat(value: bool) -> Self {
        Self(T::splat(value), T::splat(value))
    }
}

// SAFETY: any bytes are a valid `V`, hence two of them are a valid pair.
unsafe impl<V: Vector> sealed::Sealed for Unroll2<V> {}

/// Defines methods that apply the same operation to both values.
macro_rules! both {
    ($(fn $name:ident($($argument:ident: $of:ty),*) -> $to:ty;)*) => {$(
        #[inline(always)]
        fn $name($($argument: $of),*) -> $to {
            Unroll2(V::$name($($argument.0),*), V::$name($($argument.1),*))
        }
    )*};
}

impl<V: Vector> Vector for Unroll2<V> {
    type Bits = Unroll2<V::Bits>;
    type Truth = Unroll2<V::Truth>;
    type Uniform = V::Uniform;

    const REGISTERS: usize = 2 * V::REGISTERS;
    const PHILOX_UNROLL: usize = V::PHILOX_UNROLL;

    both! {
        fn from_bits(bits: Self::Bits) -> Self;
        fn bits_and(a: Self::Bits, b: Self::Bits) -> Self::Bits;
        fn bits_or(a: Self::Bits, b: Self::Bits) -> Self::Bits;
        fn bits_xor(a: Self::Bits, b: Self::Bits) -> Self::Bits;
        fn bits_add(a: Self::Bits, b: Self::Bits) -> Self::Bits;
        fn bits_mul(a: Self::Bits, b: Self::Bits) -> Self::Bits;
        fn bits_sub(a: Self::Bits, b: Self::Bits) -> Self::Bits;
        fn bits_eq(a: Self::Bits, b: Self::Bits) -> Self::Truth;
        fn bits_select(mask: Self::Truth, yes: Self::Bits, no: Self::Bits) -> Self::Bits;
        fn simd_select(mask: Self::Truth, yes: Self, no: Self) -> Self;
        fn from_i32(bits: Self::Bits) -> Self;
        fn select_by_sign(bits: Self::Bits, yes: Self, no: Self) -> Self;
    }
    #[inline(always)]
    fn bits(self) -> Self::Bits {
        Unroll2(self.0.bits(), self.1.bits())
    }
    #[inline(always)]
    fn splat_bits(bits: u32) -> Self::Bits {
        Unroll2(V::splat_bits(bits), V::splat_bits(bits))
    }
    #[inline(always)]
    fn splat_uniform(word: V::Uniform) -> Self::Bits {
        Unroll2(V::splat_uniform(word), V::splat_uniform(word))
    }
    #[inline(always)]
    fn bits_shl(a: Self::Bits, by: u32) -> Self::Bits {
        Unroll2(V::bits_shl(a.0, by), V::bits_shl(a.1, by))
    }
    #[inline(always)]
    fn bits_shr(a: Self::Bits, by: u32) -> Self::Bits {
        Unroll2(V::bits_shr(a.0, by), V::bits_shr(a.1, by))
    }
    #[inline(always)]
    fn bits_mul_wide(a: Self::Bits, b: u32) -> (Self::Bits, Self::Bits) {
        let ((low0, high0), (low1, high1)) = (V::bits_mul_wide(a.0, b), V::bits_mul_wide(a.1, b));
        (Unroll2(low0, low1), Unroll2(high0, high1))
    }
    #[inline(always)]
    fn words(rows: &PhiloxRow<Self>, block: V::Uniform) -> [Self::Bits; 4] {
        if Self::REGISTERS <= Self::PHILOX_UNROLL {
            return rows.block(block);
        }
        let (first, second) = rows.split();
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (V::words(&first, block), V::words(&second, block));
        [Unroll2(a0, b0), Unroll2(a1, b1), Unroll2(a2, b2), Unroll2(a3, b3)]
    }
    #[inline(always)]
    fn simd_min(self, other: Self) -> Self {
        Self(self.0.simd_min(other.0), self.1.simd_min(other.1))
    }
    #[inline(always)]
    fn simd_max(self, other: Self) -> Self {
        Self(self.0.simd_max(other.0), self.1.simd_max(other.1))
    }
    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        Self(self.0.fma(a.0, b.0), self.1.fma(a.1, b.1))
    }
    #[inline(always)]
    fn simd_sqrt(self) -> Self {
        Self(self.0.simd_sqrt(), self.1.simd_sqrt())
    }
    #[inline(always)]
    fn relu(self) -> Self {
        Self(self.0.relu(), self.1.relu())
    }
    #[inline(always)]
    fn index(self) -> Self::Bits {
        Unroll2(self.0.index(), self.1.index())
    }
    #[inline(always)]
    fn simd_floor(self) -> Self {
        Self(self.0.simd_floor(), self.1.simd_floor())
    }
    #[inline(always)]
    fn simd_lt(self, other: Self) -> Self::Truth {
        Unroll2(self.0.simd_lt(other.0), self.1.simd_lt(other.1))
    }
    #[inline(always)]
    fn simd_le(self, other: Self) -> Self::Truth {
        Unroll2(self.0.simd_le(other.0), self.1.simd_le(other.1))
    }
    #[inline(always)]
    fn simd_eq(self, other: Self) -> Self::Truth {
        Unroll2(self.0.simd_eq(other.0), self.1.simd_eq(other.1))
    }
}

impl<V: Register> Register for Unroll2<V> {
    const COUNT: usize = 2 * V::COUNT;
    const UNITS: usize = V::UNITS;

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        Self(V::load(from), V::load(&from[V::COUNT..]))
    }
    #[inline(always)]
    fn load_repeated<const E: usize>(from: &[f32]) -> Self {
        match E {
            1 => Self::load(from),
            2 => Self::twice(V::load(from)),
            4 => Self::twice(V::load_repeated::<2>(from)),
            _ => Self::twice(V::load_repeated::<4>(from)),
        }
    }
    #[inline(always)]
    fn load_rows(from: &[f32], rows: usize) -> Self {
        Self::twice(V::load_rows(from, rows))
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        self.0.store(to);
        self.1.store(&mut to[V::COUNT..]);
    }
    #[inline(always)]
    fn iota(first: u32) -> Self::Bits {
        Unroll2(V::iota(first), V::iota(first + V::COUNT as u32))
    }
    #[inline(always)]
    fn rows_of_words(first: u32) -> Self::Bits {
        Unroll2(V::rows_of_words(first), V::rows_of_words(first + V::COUNT as u32))
    }
    #[inline(always)]
    unsafe fn gather_2x2(samples: &[f32], first: Self::Bits) -> [Self; 4] {
        // SAFETY: by the caller's guarantee.
        let ([a0, b0, c0, d0], [a1, b1, c1, d1]) =
            unsafe { (V::gather_2x2(samples, first.0), V::gather_2x2(samples, first.1)) };
        [Unroll2(a0, a1), Unroll2(b0, b1), Unroll2(c0, c1), Unroll2(d0, d1)]
    }
    #[inline(always)]
    fn any(mask: Self::Truth) -> bool {
        V::any(mask.0) | V::any(mask.1)
    }
    #[inline(always)]
    fn map<const A: usize>(function: impl Fn([f32; A]) -> f32, arguments: [Self; A]) -> Self {
        Self(V::map(&function, arguments.map(|a| a.0)), V::map(&function, arguments.map(|a| a.1)))
    }
}

impl<V: Vector> PhiloxRow<Unroll2<V>> {
    /// Splits the rows into those of the first and those of the second register.
    #[inline(always)]
    pub(crate) fn split(&self) -> (PhiloxRow<V>, PhiloxRow<V>) {
        let Self { key, high, third: [c1, c2], product: [low, high0] } = *self;
        (
            PhiloxRow { key, high, third: [c1.0, c2.0], product: [low.0, high0.0] },
            PhiloxRow { key, high, third: [c1.1, c2.1], product: [low.1, high0.1] },
        )
    }
}
