//! Two registers (or two pairs of them), computed with in lockstep.
//!
//! A rollout is one long chain of dependent operations, each with a latency of about four cycles, while a core can
//! start one or two per cycle. Independent chains fill the idle slots.

use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, DivAssign, Mul, MulAssign, Neg, Not, Sub, SubAssign};

use super::lanes::Register;
use super::math::Vector;
use super::{Mask, sealed};
use crate::noise::{Row, normal};

/// Two values, on which every operation is carried out in turn.
#[derive(Clone, Copy)]
pub(crate) struct Pair<T>(pub(crate) T, pub(crate) T);

/// A pair in optimized builds, a single value otherwise: see `build.rs`.
#[cfg(optimized)]
pub(crate) type Abreast<T> = Pair<T>;
#[cfg(not(optimized))]
pub(crate) type Abreast<T> = T;

macro_rules! arithmetic {
    ($($op:ident $method:ident $assign:ident $assign_method:ident;)*) => {$(
        impl<V: Vector> $op for Pair<V> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(self.0.$method(other.0), self.1.$method(other.1))
            }
        }
        impl<V: Vector> $op<f32> for Pair<V> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: f32) -> Self {
                self.$method(Self::from(other))
            }
        }
        impl<V: Vector> $assign for Pair<V> {
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

impl<V: Vector> From<f32> for Pair<V> {
    #[inline(always)]
    fn from(value: f32) -> Self {
        let both = V::from(value);
        Self(both, both)
    }
}
impl<V: Vector> Neg for Pair<V> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self(-self.0, -self.1)
    }
}
impl<T: Mask> BitAnd for Pair<T> {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0, self.1 & other.1)
    }
}
impl<T: Mask> BitOr for Pair<T> {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0, self.1 | other.1)
    }
}
impl<T: Mask> Not for Pair<T> {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        Self(!self.0, !self.1)
    }
}
impl<T: Mask> Mask for Pair<T> {
    #[inline(always)]
    fn splat(value: bool) -> Self {
        Self(T::splat(value), T::splat(value))
    }
}

// SAFETY: any bytes are a valid `V`, hence two of them are a valid pair.
unsafe impl<V: Vector> sealed::Sealed for Pair<V> {}

/// Defines methods that apply the same operation to both values.
macro_rules! both {
    ($(fn $name:ident($($argument:ident: $of:ty),*) -> $to:ty;)*) => {$(
        #[inline(always)]
        fn $name($($argument: $of),*) -> $to {
            Pair(V::$name($($argument.0),*), V::$name($($argument.1),*))
        }
    )*};
}

impl<V: Vector> Vector for Pair<V> {
    type Bits = Pair<V::Bits>;
    type Truth = Pair<V::Truth>;

    const REGISTERS: usize = 2 * V::REGISTERS;
    const DRAWN: usize = V::DRAWN;

    both! {
        fn from_bits(bits: Self::Bits) -> Self;
        fn bits_and(a: Self::Bits, b: Self::Bits) -> Self::Bits;
        fn bits_xor(a: Self::Bits, b: Self::Bits) -> Self::Bits;
        fn bits_add(a: Self::Bits, b: Self::Bits) -> Self::Bits;
        fn bits_mul(a: Self::Bits, b: Self::Bits) -> Self::Bits;
        fn bits_sub(a: Self::Bits, b: Self::Bits) -> Self::Bits;
        fn bits_eq(a: Self::Bits, b: Self::Bits) -> Self::Truth;
        fn choose(mask: Self::Truth, yes: Self, no: Self) -> Self;
        fn of_integer(bits: Self::Bits) -> Self;
        fn by_top_bit(bits: Self::Bits, yes: Self, no: Self) -> Self;
    }
    #[inline(always)]
    fn any(mask: Self::Truth) -> bool {
        V::any(mask.0) | V::any(mask.1)
    }
    #[inline(always)]
    fn bits(self) -> Self::Bits {
        Pair(self.0.bits(), self.1.bits())
    }
    #[inline(always)]
    fn splat_bits(bits: u32) -> Self::Bits {
        Pair(V::splat_bits(bits), V::splat_bits(bits))
    }
    #[inline(always)]
    fn bits_shl(a: Self::Bits, by: u32) -> Self::Bits {
        Pair(V::bits_shl(a.0, by), V::bits_shl(a.1, by))
    }
    #[inline(always)]
    fn bits_shr(a: Self::Bits, by: u32) -> Self::Bits {
        Pair(V::bits_shr(a.0, by), V::bits_shr(a.1, by))
    }
    #[inline(always)]
    fn bits_mul_wide(a: Self::Bits, b: u32) -> (Self::Bits, Self::Bits) {
        let ((low0, high0), (low1, high1)) = (V::bits_mul_wide(a.0, b), V::bits_mul_wide(a.1, b));
        (Pair(low0, low1), Pair(high0, high1))
    }
    #[inline(always)]
    fn normals(rows: &Row<Self>, block: u32) -> [Self; 4] {
        if Self::REGISTERS <= Self::DRAWN {
            return normal::of_words(rows.block(block));
        }
        let (first, second) = rows.split();
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (V::normals(&first, block), V::normals(&second, block));
        [Pair(a0, b0), Pair(a1, b1), Pair(a2, b2), Pair(a3, b3)]
    }
    #[inline(always)]
    fn lower(self, other: Self) -> Self {
        Self(self.0.lower(other.0), self.1.lower(other.1))
    }
    #[inline(always)]
    fn upper(self, other: Self) -> Self {
        Self(self.0.upper(other.0), self.1.upper(other.1))
    }
    #[inline(always)]
    fn fused(self, a: Self, b: Self) -> Self {
        Self(self.0.fused(a.0, b.0), self.1.fused(a.1, b.1))
    }
    #[inline(always)]
    fn root(self) -> Self {
        Self(self.0.root(), self.1.root())
    }
    #[inline(always)]
    fn positive(self) -> Self {
        Self(self.0.positive(), self.1.positive())
    }
    #[inline(always)]
    fn index(self) -> Self::Bits {
        Pair(self.0.index(), self.1.index())
    }
    #[inline(always)]
    fn below(self) -> Self {
        Self(self.0.below(), self.1.below())
    }
    #[inline(always)]
    fn is_lt(self, other: Self) -> Self::Truth {
        Pair(self.0.is_lt(other.0), self.1.is_lt(other.1))
    }
    #[inline(always)]
    fn is_le(self, other: Self) -> Self::Truth {
        Pair(self.0.is_le(other.0), self.1.is_le(other.1))
    }
    #[inline(always)]
    fn is_eq(self, other: Self) -> Self::Truth {
        Pair(self.0.is_eq(other.0), self.1.is_eq(other.1))
    }
    #[inline(always)]
    fn map<const A: usize>(function: impl Fn([f32; A]) -> f32, arguments: [Self; A]) -> Self {
        Self(V::map(&function, arguments.map(|a| a.0)), V::map(&function, arguments.map(|a| a.1)))
    }
}

impl<V: Register> Register for Pair<V> {
    const COUNT: usize = 2 * V::COUNT;

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        Self(V::load(from), V::load(&from[V::COUNT..]))
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        self.0.store(to);
        self.1.store(&mut to[V::COUNT..]);
    }
    #[inline(always)]
    fn counting(first: u32) -> Self::Bits {
        Pair(V::counting(first), V::counting(first + V::COUNT as u32))
    }
    #[inline(always)]
    unsafe fn squares(samples: &[f32], first: Self::Bits) -> [Self; 4] {
        // SAFETY: by the caller's guarantee.
        let ([a0, b0, c0, d0], [a1, b1, c1, d1]) =
            unsafe { (V::squares(samples, first.0), V::squares(samples, first.1)) };
        [Pair(a0, a1), Pair(b0, b1), Pair(c0, c1), Pair(d0, d1)]
    }
}
