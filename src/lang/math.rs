//! The polynomials that every interpretation of [`Real`] shares; `shaders/generated/math.wgsl` is printed from them.
//!
//! Reductions and coefficients follow S. Moshier's Cephes library (single precision: sinf, expf, exp2f, logf, log2f,
//! atanf), rewritten without branches; only `tanh` is original. They are written against [`Vector`], which both a
//! single number and a SIMD register implement, so that `f32` and lanes give the same bits wherever the hardware has a
//! fused multiply-add.

use std::f32::consts::{FRAC_2_PI, FRAC_PI_2, FRAC_PI_4, LN_2, LOG2_E, PI};
use std::ops::{Add, AddAssign, BitXor, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use super::philox_row::PhiloxRow;
use super::register::Register;
use super::{GradSink, Inputs, Mask, Network, ParamView, Real, Table, WgslFn, network, normal, sealed};
use Value::Number;

/// 1.5 · 2²³: adding it to |x| < 2²² leaves x, rounded to a whole number, in the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;
const SIGN: u32 = 0x8000_0000;

/// Arithmetic on one number or on a register of them, down to the bit patterns.
pub trait Vector:
    sealed::Sealed
    + Copy
    + From<f32>
    + Neg<Output = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Add<f32, Output = Self>
    + Sub<f32, Output = Self>
    + Mul<f32, Output = Self>
    + Div<f32, Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
{
    /// The bit pattern of the number, as unsigned integers.
    type Bits: Copy;
    type Truth: Mask;
    /// A word that is the same in all lanes.
    type Uniform: UniformWord;

    /// The number of registers that the value occupies.
    const REGISTERS: usize = 1;
    /// The number of registers whose words are computed interleaved. A single one is a long dependency chain; the words
    /// of more than this would be spilled.
    const PHILOX_UNROLL: usize = 2;

    fn bits(self) -> Self::Bits;
    fn from_bits(bits: Self::Bits) -> Self;
    fn splat_bits(bits: u32) -> Self::Bits;
    fn splat_uniform(word: Self::Uniform) -> Self::Bits;
    fn bits_and(a: Self::Bits, b: Self::Bits) -> Self::Bits;
    fn bits_or(a: Self::Bits, b: Self::Bits) -> Self::Bits;
    fn bits_xor(a: Self::Bits, b: Self::Bits) -> Self::Bits;
    fn bits_add(a: Self::Bits, b: Self::Bits) -> Self::Bits;
    fn bits_sub(a: Self::Bits, b: Self::Bits) -> Self::Bits;
    fn bits_mul(a: Self::Bits, b: Self::Bits) -> Self::Bits;
    fn bits_shl(a: Self::Bits, by: u32) -> Self::Bits;
    fn bits_shr(a: Self::Bits, by: u32) -> Self::Bits;
    fn bits_eq(a: Self::Bits, b: Self::Bits) -> Self::Truth;
    fn bits_select(mask: Self::Truth, yes: Self::Bits, no: Self::Bits) -> Self::Bits;
    /// `a ^ b ^ c` (one `vpternlog` on AVX-512).
    #[inline(always)]
    fn bits_xor_of(a: Self::Bits, b: Self::Bits, c: Self::Bits) -> Self::Bits {
        Self::bits_xor(Self::bits_xor(a, b), c)
    }
    /// The (low, high) halves of the 64-bit product.
    fn bits_mul_wide(a: Self::Bits, b: u32) -> (Self::Bits, Self::Bits);

    /// The four words of a block for each of the rows, which lanes hold as
    /// [`rows_of_words`](Register::rows_of_words) orders them.
    #[inline(always)]
    fn words(rows: &PhiloxRow<Self>, block: Self::Uniform) -> [Self::Bits; 4] {
        rows.block(block)
    }
    /// Draws one block of normal numbers for each of the rows.
    #[inline(always)]
    fn normals(rows: &PhiloxRow<Self>, block: Self::Uniform) -> [Self; 4] {
        normal::box_muller_4(Self::words(rows, block))
    }

    /// self < other ? self : other, so that a NaN in `other` propagates; NEON propagates any NaN.
    fn simd_min(self, other: Self) -> Self;
    /// self > other ? self : other, so that a NaN in `other` propagates; NEON propagates any NaN.
    fn simd_max(self, other: Self) -> Self;
    fn fma(self, a: Self, b: Self) -> Self;
    fn simd_sqrt(self) -> Self;
    /// self where it is above 0, and 0 elsewhere, including NaN.
    #[inline(always)]
    fn relu(self) -> Self {
        relu(self)
    }
    /// Converts a signed integer to the nearest number.
    fn from_i32(bits: Self::Bits) -> Self;
    /// `yes` where the top bit is set, and `no` where it is not.
    #[inline(always)]
    fn select_by_sign(bits: Self::Bits, yes: Self, no: Self) -> Self {
        select_by_sign(bits, yes, no)
    }
    /// (a, b), and (b, a) where bit 30 is set.
    #[inline(always)]
    fn swap_by_bit_30(bits: Self::Bits, [a, b]: [Self; 2]) -> (Self, Self) {
        let set = Self::bits_shl(bits, 1);
        (Self::select_by_sign(set, b, a), Self::select_by_sign(set, a, b))
    }
    /// (sin, cos) of r + q·π/2 for the top two bits q of `quadrant`, from those of r: swapped where q is odd. The sine
    /// is negative in the third and the fourth quadrant, the cosine in the second and the third one.
    #[inline(always)]
    fn sin_cos_in(quadrant: Self::Bits, within: [Self; 2]) -> (Self, Self) {
        let ((sin, cos), [sin_sign, cos_sign]) =
            (Self::swap_by_bit_30(quadrant, within), sin_cos_signs::<Self>(quadrant));
        (flip_sign(sin, sin_sign), flip_sign(cos, cos_sign))
    }
    /// Converts a number in [0, 2²³) to an integer, rounding down.
    #[inline(always)]
    fn index(self) -> Self::Bits {
        index(self)
    }
    /// The largest whole number that is not above self.
    #[inline(always)]
    fn simd_floor(self) -> Self {
        floor(self)
    }
    fn simd_lt(self, other: Self) -> Self::Truth;
    fn simd_le(self, other: Self) -> Self::Truth;
    fn simd_eq(self, other: Self) -> Self::Truth;
    fn simd_select(mask: Self::Truth, yes: Self, no: Self) -> Self;

    // Shader compilers may reorder sums, simplify (x + 2²³) − 2²³ to x, round an fma twice, and assume that infinity
    // and NaN do not occur. So computations that rely on the exact order of roundings are operations of this trait,
    // which have another form in WGSL, and infinity and NaN are bit patterns, selected by `bits_select`.

    /// |self|.
    #[inline(always)]
    fn magnitude(self) -> Self {
        Self::from_bits(Self::bits_and(self.bits(), Self::splat_bits(!SIGN)))
    }
    /// The whole number nearest to self · `factor`, whose magnitude must be below 2²².
    #[inline(always)]
    fn nearest(self, factor: f32) -> Whole<Self> {
        let shifted = if factor == 1.0 { self + ROUND } else { self.fma(c(factor), c(ROUND)) }.opaque();
        Whole { number: shifted - ROUND, bits: shifted.bits() }
    }

    /// self, rounded to `f32`. Compilers may not simplify expressions across it.
    #[inline(always)]
    fn opaque(self) -> Self {
        self
    }

    /// While WGSL is printed, records a call of function `name` instead of its body. Returns `None` on numbers and
    /// registers, which compile the body in place.
    #[inline(always)]
    fn call<const R: usize>(_name: &'static str, _arguments: &[Value<Self>]) -> Option<[Self; R]> {
        None
    }
    /// As [`call`](Self::call), for functions whose results are words.
    #[inline(always)]
    fn call_words<const R: usize>(_name: &'static str, _arguments: &[Value<Self>]) -> Option<[Self::Bits; R]> {
        None
    }
}

/// An argument or a result of a function that is printed as WGSL.
#[derive(Clone, Copy)]
pub enum Value<V: Vector> {
    Number(V),
    Word(V::Bits),
    Uniform(V::Uniform),
    Truth(V::Truth),
}

/// Arithmetic on a word that is the same in all lanes.
pub trait UniformWord: Copy + From<u32> + BitXor<Output = Self> {
    fn plus(self, other: u32) -> Self;
    fn times(self, other: u32) -> Self;
    /// The high half of the 64-bit product.
    fn times_high(self, other: u32) -> Self;
}

impl UniformWord for u32 {
    #[inline(always)]
    fn plus(self, other: u32) -> u32 {
        self.wrapping_add(other)
    }
    #[inline(always)]
    fn times(self, other: u32) -> u32 {
        self.wrapping_mul(other)
    }
    #[inline(always)]
    fn times_high(self, other: u32) -> u32 {
        ((u64::from(self) * u64::from(other)) >> 32) as u32
    }
}

/// A whole number; see [`Vector::nearest`].
#[derive(Clone, Copy)]
pub struct Whole<V: Vector> {
    pub(crate) number: V,
    /// The integer, in the low 22 bits.
    pub(crate) bits: V::Bits,
}

#[inline(always)]
fn c<V: Vector>(value: f32) -> V {
    V::from(value)
}

/// ((c₀x + c₁)x + c₂)x + …
#[inline(always)]
fn horner<V: Vector, const N: usize>(x: V, coefficients: [f32; N]) -> V {
    let mut sum = c::<V>(coefficients[0]);
    for coefficient in &coefficients[1..] {
        sum = sum.fma(x, c(*coefficient));
    }
    sum
}

#[inline(always)]
pub(crate) fn abs<V: Vector>(x: V) -> V {
    x.magnitude()
}

/// x, which is not negative, with the top bit of `sign` as its sign.
#[inline(always)]
pub(crate) fn with_sign<V: Vector>(x: V, sign: V::Bits) -> V {
    V::from_bits(V::bits_or(V::bits_and(sign, V::splat_bits(SIGN)), x.bits()))
}

/// x with its sign flipped where `sign` has its top bit set.
#[inline(always)]
fn flip_sign<V: Vector>(x: V, sign: V::Bits) -> V {
    V::from_bits(V::bits_xor(x.bits(), V::bits_and(sign, V::splat_bits(SIGN))))
}

#[inline(always)]
pub(crate) fn relu<V: Vector>(x: V) -> V {
    let zero = c::<V>(0.0);
    V::simd_select(zero.simd_lt(x), x, zero)
}

#[inline(always)]
pub(crate) fn select_by_sign<V: Vector>(bits: V::Bits, yes: V, no: V) -> V {
    V::simd_select(V::bits_eq(V::bits_shr(bits, 31), V::splat_bits(1)), yes, no)
}

/// The integer part is the mantissa of x + 2²³: exact, and no conversion instruction is needed.
#[inline(always)]
pub(crate) fn index<V: Vector>(x: V) -> V::Bits {
    V::bits_and((x.simd_floor() + 8_388_608.0).bits(), V::splat_bits(0x7f_ffff))
}

#[inline(always)]
pub(crate) fn floor<V: Vector>(x: V) -> V {
    const WHOLE: f32 = 8_388_608.0; // 2²³: from here on every number is whole
    let size = abs(x);
    let rounded = flip_sign((size + WHOLE) - WHOLE, x.bits());
    let below = V::simd_select(x.simd_lt(rounded), rounded - 1.0, rounded);
    V::simd_select(size.simd_lt(c(WHOLE)), below, x)
}

/// Reduces by the three-part π/2 of Cody and Waite, then evaluates a polynomial on [−π/4, π/4].
#[inline(always)]
pub(crate) fn sin_cos<V: Vector>(x: V) -> (V, V) {
    let n = x.nearest(FRAC_2_PI);
    let r = n.number.fma(c(-1.570_312_5), x);
    let r = apart(n).fma(c(-2029.0 / 4_194_304.0), r); // 4.837513e-4
    let r = n.number.fma(c(-7.549_79e-8), r);
    V::sin_cos_in(V::bits_shl(n.bits, 30), sin_cos_within(r))
}

/// Words whose top bits are the signs of the sine and of the cosine, for [`Vector::sin_cos_in`].
#[inline(always)]
pub(crate) fn sin_cos_signs<V: Vector>(quadrant: V::Bits) -> [V::Bits; 2] {
    [quadrant, V::bits_add(quadrant, V::splat_bits(1 << 30))]
}

/// n, for the second of the parts in which a reduction subtracts a multiple. If all parts had the same factor, a driver
/// could add the constants, and their sum, rounded to one `f32`, loses the precision that the parts provide.
#[inline(always)]
fn apart<V: Vector>(n: Whole<V>) -> V {
    n.number.opaque()
}

/// [sin, cos] of r in [−π/4, π/4].
#[inline(always)]
pub(crate) fn sin_cos_within<V: Vector>(r: V) -> [V; 2] {
    if let Some(pair) = V::call("gibbs_sin_cos_within", &[Number(r)]) {
        return pair;
    }
    let z = r * r;
    let s = (horner(z, [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]) * z).fma(r, r);
    let k = (horner(z, [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2]) * z).fma(z, z.fma(c(-0.5), c(1.0)));
    [s, k]
}

/// 2ⁿ·eʳ. A result below 2.4·10⁻³⁸ may be 0 and is never subnormal, since some processors compute with subnormal
/// numbers a hundred times more slowly.
#[inline(always)]
pub(crate) fn exp<V: Vector>(x: V) -> V {
    let x = c::<V>(-87.3).simd_max(c::<V>(89.0).simd_min(x));
    let n = x.nearest(LOG2_E);
    let r = apart(n).fma(c(-355.0 / 512.0), x); // 0.6933594
    let r = n.number.fma(c(2.121_944_4e-4), r);
    let p = horner(r, [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5]);
    let y = p.fma(r * r, r) + 1.0;
    // 2ⁿ⁻¹ is finite even for the largest n; for the smallest, n = −126, its bits are those of 0.
    let half = V::from_bits(V::bits_add(V::bits_shl(n.bits, 23), V::splat_bits(126 << 23)));
    (y + y) * half
}

/// 2ⁿ·2ʳ, exact where r is 0. Results below 2⁻¹²⁵ may be 0 and are never subnormal, as in [`exp`].
#[inline(always)]
pub(crate) fn exp2<V: Vector>(x: V) -> V {
    let x = c::<V>(-126.0).simd_max(c::<V>(128.0).simd_min(x));
    let n = x.nearest(1.0);
    let r = x - n.number;
    let p = horner(r, [1.535_336_2e-4, 1.339_887_4e-3, 9.618_437e-3, 5.550_332_5e-2, 2.402_264_8e-1, 6.931_472e-1]);
    let y = p.fma(r, c(1.0));
    // As in `exp`.
    let half = V::from_bits(V::bits_add(V::bits_shl(n.bits, 23), V::splat_bits(126 << 23)));
    (y + y) * half
}

/// The bits of √½, the lower bound of the reduced mantissa.
const SQRT_HALF: u32 = 0x3f35_04f3;

/// The coefficients of [`ln_tail`].
const LN_TAIL: [f32; 9] = [
    7.037_683_6e-2,
    -1.151_461e-1,
    1.167_699_9e-1,
    -1.242_014_1e-1,
    1.424_932_3e-1,
    -1.666_805_8e-1,
    2.000_071_5e-1,
    -2.499_999_4e-1,
    3.333_333_1e-1,
];

/// (ln(1 + f) − f + f²/2)/f³, for 1 + f in [√½, √2).
#[inline(always)]
pub(crate) fn ln_tail<V: Vector>(f: V) -> V {
    if let Some([tail]) = V::call("gibbs_ln_tail", &[Number(f)]) {
        return tail;
    }
    horner(f, LN_TAIL)
}

/// ln 2 in two parts.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// 2⁻²³: multiplies the exponent that [`split`] returns, exactly.
const UNIT: f32 = 1.0 / 8_388_608.0;

/// Splits a positive normal number into 2ⁿ·(1 + f), with 1 + f in [√½, √2): returns 2²³·n and f.
#[inline(always)]
pub(crate) fn split<V: Vector>(x: V) -> (V, V) {
    if let Some([e, f]) = V::call("gibbs_split", &[Number(x)]) {
        return (e, f);
    }
    let bits = x.bits();
    let exponent = V::bits_and(V::bits_sub(bits, V::splat_bits(SQRT_HALF)), V::splat_bits(0xff80_0000));
    (V::from_i32(exponent), V::from_bits(V::bits_sub(bits, exponent)) - 1.0)
}

/// ln of a positive normal number: its exponent, and a polynomial on the mantissa in [√½, √2).
#[inline(always)]
pub(crate) fn ln_positive<V: Vector>(x: V) -> V {
    if let Some([y]) = V::call("gibbs_ln_positive", &[Number(x)]) {
        return y;
    }
    let (e, f) = split(x);
    let z = f * f;
    let tail = (ln_tail(f) * f).fma(z, e * (LN_2_LOW * UNIT));
    e.fma(c(LN_2_HIGH * UNIT), f + z.fma(c(-0.5), tail))
}

/// −2 ln x of a positive normal number, to the bit: as [`ln_positive`], with every coefficient times −2.
#[inline(always)]
pub(crate) fn minus_two_ln<V: Vector>(x: V) -> V {
    let (e, f) = split(x);
    let z = f * f;
    let tail = (horner(f, LN_TAIL.map(|coefficient| -2.0 * coefficient)) * f).fma(z, e * (-2.0 * LN_2_LOW * UNIT));
    e.fma(c(-2.0 * LN_2_HIGH * UNIT), f.fma(c(-2.0), z + tail))
}

/// log₂ of a positive normal number, by the same steps as its natural logarithm. The exponent is added last, so that a
/// power of two has a whole logarithm.
#[inline(always)]
pub(crate) fn log2_positive<V: Vector>(x: V) -> V {
    if let Some([y]) = V::call("gibbs_log2_positive", &[Number(x)]) {
        return y;
    }
    /// log₂ e − 1. Adding `f` and `tail` unscaled avoids one rounding.
    const MORE: f32 = 0.442_695_04;
    let (e, f) = split(x);
    let z = f * f;
    let tail = (ln_tail(f) * f).fma(z, z * -0.5);
    let mantissa = tail.fma(c(MORE), f * MORE) + tail + f;
    e.fma(c(UNIT), mantissa)
}

#[inline(always)]
pub(crate) fn ln<V: Vector>(x: V) -> V {
    let small = x.simd_lt(c(f32::MIN_POSITIVE));
    let scaled = V::simd_select(small, x * 8_388_608.0, x);
    logarithm(x, ln_positive(scaled) - V::simd_select(small, c(23.0 * LN_2), c(0.0)))
}

#[inline(always)]
pub(crate) fn log2<V: Vector>(x: V) -> V {
    let small = x.simd_lt(c(f32::MIN_POSITIVE));
    let scaled = V::simd_select(small, x * 8_388_608.0, x);
    logarithm(x, log2_positive(scaled) - V::simd_select(small, c(23.0), c(0.0)))
}

/// Handles the special cases of log x in any base above 1; y is the logarithm of an ordinary x.
#[inline(always)]
pub(crate) fn logarithm<V: Vector>(x: V, y: V) -> V {
    if let Some([y]) = V::call("gibbs_logarithm", &[Number(x), Number(y)]) {
        return y;
    }
    let bits = V::bits_select(x.simd_eq(c(0.0)), V::splat_bits(f32::NEG_INFINITY.to_bits()), y.bits());
    // NaN and +∞ are their own logarithms; below zero the result is NaN.
    let bits = V::bits_select(x.simd_le(c(f32::MAX)), bits, x.bits());
    V::from_bits(V::bits_select(x.simd_lt(c(0.0)), V::splat_bits(f32::NAN.to_bits()), bits))
}

/// Computes atan of the smaller over the larger in one octant, then unfolds it.
#[inline(always)]
pub(crate) fn atan2<V: Vector>(y: V, x: V) -> V {
    if let Some([angle]) = V::call("gibbs_atan2", &[Number(y), Number(x)]) {
        return angle;
    }
    let (ax, ay) = (abs(x), abs(y));
    let (small, large) = (ax.simd_min(ay), ay.simd_max(ax));
    // Above tan(π/8): atan(a) = π/4 + atan((a − 1)/(a + 1)). One division serves both.
    let steep = (large * 0.414_213_57).simd_lt(small);
    let above = V::simd_select(steep, small - large, small);
    let below = V::simd_select(steep, small + large, large);
    let t = above / V::simd_select(below.simd_eq(c(0.0)), c(1.0), below);
    let z = t * t;
    let p = horner(z, [8.053_745e-2, -1.387_768_6e-1, 1.997_771_1e-1, -3.333_295e-1]);
    let angle = (p * z).fma(t, t) + V::simd_select(steep, c(FRAC_PI_4), c(0.0));
    let angle = V::simd_select(ax.simd_lt(ay), -angle + FRAC_PI_2, angle);
    let angle = V::simd_select(x.simd_lt(c(0.0)), -angle + PI, angle);
    flip_sign(angle, y.bits())
}

#[inline(always)]
pub(crate) fn asin<V: Vector>(x: V) -> V {
    let other = ((-x + 1.0) * (x + 1.0)).simd_sqrt();
    V::from_bits(V::bits_select(abs(x).simd_le(c(1.0)), atan2(x, other).bits(), V::splat_bits(f32::NAN.to_bits())))
}

#[inline(always)]
pub(crate) fn acos<V: Vector>(x: V) -> V {
    let other = ((-x + 1.0) * (x + 1.0)).simd_sqrt();
    V::from_bits(V::bits_select(abs(x).simd_le(c(1.0)), atan2(other, x).bits(), V::splat_bits(f32::NAN.to_bits())))
}

/// x P(x²) / Q(x²) up to 8.6, from where on tanh is 1 to within a rounding. With these coefficients the relative error
/// of the quotient is 5·10⁻⁸; all of them are positive, so nothing cancels. The result is clamped to 1, so that
/// rounding cannot push a squashed value past its limits.
#[inline(always)]
pub(crate) fn tanh<V: Vector>(x: V) -> V {
    let size = c::<V>(8.6).simd_min(abs(x));
    let z = size * size;
    let p = horner(z, [1.414_653_9e-8, 2.117_146_9e-5, 3.529_521_4e-3, 1.340_955_3e-1, 1.0]);
    let q = horner(z, [8.097_679e-7, 3.341_273_4e-4, 2.600_592_2e-2, 4.674_287_7e-1, 1.0]);
    flip_sign(c::<V>(1.0).simd_min(size * p / q), x.bits())
}

/// Kahan summation: the pair of a sum and its compensation.
#[inline(always)]
pub(crate) fn kahan_add<V: Vector>([sum, lost]: [V; 2], value: V) -> [V; 2] {
    let y = value - lost;
    let total = (sum + y).opaque();
    [total, (total - sum) - y]
}

/// Whether a number is neither NaN nor infinite, by its exponent.
#[inline(always)]
pub(crate) fn finite<V: Vector>(x: V) -> V::Truth {
    let exponent = V::splat_bits(0x7f80_0000);
    !V::bits_eq(V::bits_and(x.bits(), exponent), exponent)
}

/// Defines every operation once for single numbers and lanes.
impl<V: Register> Real for V {
    type Mask = V::Truth;

    #[inline(always)]
    fn abs(self) -> Self {
        abs(self)
    }
    #[inline(always)]
    fn min(self, other: impl Into<Self>) -> Self {
        self.simd_min(other.into())
    }
    #[inline(always)]
    fn max(self, other: impl Into<Self>) -> Self {
        self.simd_max(other.into())
    }
    #[inline(always)]
    fn mul_add(self, a: impl Into<Self>, b: impl Into<Self>) -> Self {
        self.fma(a.into(), b.into())
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.simd_sqrt()
    }
    #[inline(always)]
    fn floor(self) -> Self {
        self.simd_floor()
    }
    #[inline(always)]
    fn exp(self) -> Self {
        exp(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        ln(self)
    }
    #[inline(always)]
    fn exp2(self) -> Self {
        exp2(self)
    }
    #[inline(always)]
    fn log2(self) -> Self {
        log2(self)
    }
    #[inline(always)]
    fn sin_cos(self) -> (Self, Self) {
        sin_cos(self)
    }
    #[inline(always)]
    fn atan2(self, x: impl Into<Self>) -> Self {
        atan2(self, x.into())
    }
    #[inline(always)]
    fn asin(self) -> Self {
        asin(self)
    }
    #[inline(always)]
    fn acos(self) -> Self {
        acos(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        tanh(self)
    }
    #[inline(always)]
    fn lt(self, other: impl Into<Self>) -> Self::Mask {
        self.simd_lt(other.into())
    }
    #[inline(always)]
    fn le(self, other: impl Into<Self>) -> Self::Mask {
        self.simd_le(other.into())
    }
    #[inline(always)]
    fn cmp_eq(self, other: impl Into<Self>) -> Self::Mask {
        self.simd_eq(other.into())
    }
    #[inline(always)]
    fn select(mask: Self::Mask, yes: impl Into<Self>, no: impl Into<Self>) -> Self {
        V::simd_select(mask, yes.into(), no.into())
    }
    #[inline(always)]
    fn param(inputs: &Inputs<'_>, i: usize) -> Self {
        read(inputs.params, inputs.param_stride, i)
    }
    #[inline(always)]
    fn reference(inputs: &Inputs<'_>, j: usize) -> Self {
        c(inputs.reference[j])
    }
    #[inline(always)]
    fn time(inputs: &Inputs<'_>) -> Self {
        c(inputs.time)
    }
    #[inline(always)]
    fn dt(inputs: &Inputs<'_>) -> Self {
        c(inputs.dt)
    }
    #[inline(always)]
    fn look_up<const D: usize, const C: usize>(
        inputs: &Inputs<'_>,
        field: usize,
        channel: usize,
        point: [Self; D],
    ) -> [Self; C] {
        inputs.fields.values(field, channel, point)
    }
    #[inline(always)]
    fn look_up_slopes<const D: usize, const C: usize>(
        inputs: &Inputs<'_>,
        field: usize,
        channel: usize,
        point: [Self; D],
    ) -> ([Self; C], [[Self; D]; C]) {
        inputs.fields.values_and_slopes(field, channel, point)
    }
    #[inline(always)]
    fn record_term(inputs: &Inputs<'_>, name: &'static str, value: impl FnOnce() -> Self) {
        V::record(inputs, name, value);
    }
    #[inline(always)]
    fn call<const A: usize>(function: &WgslFn<A>, arguments: [Self; A]) -> Self {
        V::map(function.twin, arguments)
    }
    #[inline(always)]
    fn layer(source: &ParamView<'_>, first: usize, x: &[Self], sums: &mut [Self]) {
        if source.stride == 0 {
            network::shared_layer(&source.values[first..], x, sums);
        } else {
            network::own_layer(source, first, x, sums);
        }
    }
    #[inline(always)]
    fn layer_back(source: &ParamView<'_>, first: usize, slopes: &[Self], sums: &mut [Self]) {
        if source.stride == 0 {
            network::shared_layer_back(&source.values[first..], slopes, sums);
        } else {
            network::layer_back(source, first, slopes, sums);
        }
    }
    #[inline(always)]
    fn weight(source: &ParamView<'_>, i: usize) -> Self {
        parameter(source, i)
    }
    #[inline(always)]
    fn weight_at(source: &ParamView<'_>, inputs: &Inputs<'_>, table: Table, j: usize) -> Self {
        parameter(source, place_in::<V>(table, inputs, j))
    }
    #[inline(always)]
    fn accumulate(sink: &mut GradSink<'_>, i: usize, value: Self) {
        let sum = &mut sink.values[i * sink.stride..];
        (V::load(sum) + value).store(sum);
    }
    #[inline(always)]
    fn accumulate_products(sink: &mut GradSink<'_>, first: usize, slope: Self, x: &[Self]) {
        // Bounds are checked before the loop, as for weights.
        let stride = sink.stride;
        let sums = &mut sink.values[first * stride..][..x.len() * stride];
        for (x, sum) in x.iter().zip(sums.chunks_exact_mut(stride)) {
            slope.fma(*x, V::load(sum)).store(sum);
        }
    }
    #[inline(always)]
    fn accumulate_at(sink: &mut GradSink<'_>, inputs: &Inputs<'_>, table: Table, j: usize, value: Self) {
        V::accumulate(sink, place_in::<V>(table, inputs, j), value);
    }
    #[inline(always)]
    fn network<const I: usize, const O: usize>(source: &ParamView<'_>, network: &Network, x: [Self; I]) -> [Self; O] {
        network::forward(source, network, x)
    }
    #[inline(always)]
    fn network_back<const I: usize, const O: usize>(
        source: &ParamView<'_>,
        sink: &mut GradSink<'_>,
        network: &Network,
        x: [Self; I],
        v: [Self; O],
    ) -> [Self; O] {
        network::back(source, sink, network, x, v)
    }
}

/// Returns the index of column `j`. Drivers validate tables before they run on registers; a table read in plain `f32`
/// is not validated and is checked here.
#[inline(always)]
fn place_in<V: Register>(table: Table, inputs: &Inputs<'_>, j: usize) -> usize {
    if V::COUNT == 1 { table.checked_index(inputs.time, j) } else { table.index(inputs.time, j) }
}

/// Loads number `i`: of each lane's own numbers, `stride` apart, or, if `stride` is 0, the one that all lanes share.
#[inline(always)]
fn read<V: Register>(values: &[f32], stride: usize, i: usize) -> V {
    if stride == 0 { c(values[i]) } else { V::load(&values[i * stride..]) }
}

/// Loads parameter `i` of a policy, or of a model's networks.
#[inline(always)]
fn parameter<V: Register>(source: &ParamView<'_>, i: usize) -> V {
    if source.repeated {
        V::load_rows(&source.values[i * source.stride..], source.stride)
    } else {
        read(source.values, source.stride, i)
    }
}

/// Which transcendental functions a model's kernel calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Math {
    /// The crate's polynomials, the same on every backend. See the accuracy table of [`Real`].
    #[default]
    Shared,
    /// The driver's own: faster on some hardware, but only as accurate as WGSL demands (sin: 2⁻¹¹).
    Native,
}
