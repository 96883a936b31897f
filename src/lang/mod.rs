//! The language that models, policies and kernels are written in: [`Real`] and what it is used with.
//!
//! A model uses [`Real`], [`Mask`], [`StepContext`], [`Grid`] and [`Params`]. Kernels are also written over `Vector`
//! (bit patterns, in `math.rs`) and `Register`, and draw their noise by [`philox`] and [`normal`]. This module imports
//! only the errors, and names none of the interpretations, which are:
//!
//! | interpretation | type | used for |
//! |---|---|---|
//! | plain number | `f32` | the reference, debugging, a user's own tests |
//! | SIMD lanes | private | the CPU backend: one lane is one rollout |
//! | traced expression | private | the GPU backend: the tape becomes WGSL |
//! | counted operations | private | [`check::op_count`](crate::check::op_count) |
//! | dual number | [`Dual`](crate::derivative::Dual) | derivatives of any model |
//!
//! Start reading at [`Real`] below, then at `math.rs`, which defines its operations once for numbers and lanes.
//!
//! # Accuracy
//!
//! Transcendental functions are the crate's own polynomials on *every* interpretation (`src/lang/math.rs` and its
//! printed form in `shaders/generated/`), not the platform's: WGSL promises only 2⁻¹¹ absolute for `sin` on [−π, π] and
//! nothing outside, `log` 2⁻²¹ near 1, `atan2` 4096 ULP, so a model's numbers would depend on a driver. The bounds
//! below hold on every backend, against an f64 reference; `tests/operations.rs` checks them.
//!
//! | operation | bound | where |
//! |---|---|---|
//! | `+ − ×`, `min`, `max`, `abs`, comparisons, `select` | exact or correctly rounded | finite, not subnormal |
//! | `floor`, `ceil`, `round`, `trunc`, `fract`, `sign`, `copysign` | exact | likewise |
//! | `mul_add` | correctly rounded where the hardware fuses, else as `×` then `+` | likewise |
//! | `÷`, `recip`, `sqrt` | 2.5 ULP (a GPU's; the CPU's are correctly rounded) | likewise |
//! | `sin`, `cos` | 2·10⁻⁷ absolute | \|x\| ≤ 10⁴ |
//! | `tan` | 4·10⁻⁷ relative to 1 + tan² | \|x\| ≤ 10⁴ |
//! | `exp` | 3·10⁻⁷ relative | result above 2.4·10⁻³⁸, below which it may be 0; overflow gives +∞ on the CPU, at least 10³⁸ on a GPU |
//! | `ln` | 3·10⁻⁷ relative to max(1, \|ln x\|) | x > 0 and normal |
//! | `exp2` | 2·10⁻⁷ relative; exact for whole x of at least −125 | as `exp` |
//! | `log2` | 2·10⁻⁷ relative to max(1, \|log₂ x\|); exact for powers of two | x > 0 and normal |
//! | `powf` | 3·10⁻⁷ · (1 + \|y ln x\|) relative | result between 2.4·10⁻³⁸, below which it may be 0, and 3.3·10³⁸ |
//! | `atan2`, `atan` | 5·10⁻⁷ absolute | \|x\| + \|y\| finite; `atan2(±0, ±0)` = ±0 |
//! | `asin`, `acos` | 5·10⁻⁷ absolute | \|x\| ≤ 1; NaN beyond, on the CPU |
//! | `tanh` | 6·10⁻⁷ relative, and \|tanh\| ≤ 1 | everywhere |
//! | `sinh`, `cosh` | 5·10⁻⁷ relative | result finite |
//! | `hypot`, `cbrt` | 5·10⁻⁷ relative | result normal and finite |
//! | `lerp` | 2⁻²² · (\|a\| + \|b\|) · max(1, \|t\|) absolute | finite |
//! | `smoothstep` | 10⁻⁶ absolute | differences finite and normal |
//! | `to_degrees`, `to_radians` | 2⁻²³ relative | finite, not subnormal |
//! | `powi` | \|n\| · 2⁻²³ relative, and a division's error if n < 0 | xⁿ and x⁻ⁿ normal |
//! | `rem_euclid`, `wrap_angle` | 3 ULP of the larger argument | \|x / m\| < 2²⁰ |
//!
//! A GPU may flush subnormal numbers to zero and may assume that there is no NaN and no infinity; the CPU follows
//! IEEE 754. So a *defined* model keeps its values finite, and one that overflows is caught by its cost
//! (see [`Model`](crate::model::Model)). `min` and `max` of a NaN are unspecified.

pub(crate) mod cache_line;
pub(crate) mod clock;
pub(crate) mod escape;
pub(crate) mod float_env;
pub(crate) mod grid;
pub mod linalg;
pub(crate) mod look_up;
pub(crate) mod math;
pub(crate) mod model_params;
pub(crate) mod network;
pub(crate) mod network_scratch;
pub mod normal;
pub(crate) mod params;
pub mod philox;
pub(crate) mod philox_row;
pub(crate) mod random;
#[cfg(feature = "serde")]
pub(crate) mod recorded;
pub(crate) mod register;
pub(crate) mod step_context;
pub(crate) mod stream;
pub(crate) mod term_log;

use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, DivAssign, Mul, MulAssign, Neg, Not, Sub, SubAssign};

pub use escape::WgslFn;
pub use grid::{Block, Ends, FieldSet, Grid, Region};
pub use model_params::ModelParams;
pub(crate) use model_params::ParamNames;
pub use network::{Activation, Network};
pub(crate) use network_scratch::NetworkScratch;
pub(crate) use params::{GradSink, ParamView, WeightsOf};
pub use params::{GradientAccumulator, Params, Table};
pub use random::Random;
pub(crate) use register::Register;
pub use step_context::StepContext;
pub(crate) use step_context::{Inputs, Timeline};
pub(crate) use term_log::{Record, Recorder, TermLog};

pub(crate) mod sealed {
    /// Seals [`Real`](super::Real), so that the crate can add operations to it.
    ///
    /// # Safety
    ///
    /// Any bytes must be a valid value.
    pub unsafe trait Sealed: Copy {}
}

/// A truth value of a [`Real`]: one `bool`, a lane mask, or a traced comparison.
///
/// It cannot be branched on, only passed to [`select`](Real::select): every rollout runs the same instructions. Masks
/// combine with `&`, `|` and `!`; `&&` and `||` would branch, too.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a comparison of two numbers of a model",
    label = "not a mask",
    note = "compare with `x.lt(y)`, `x.le(y)`, `x.cmp_eq(y)`, `x.gt(y)`, …, and choose with `R::select(mask, yes, no)`"
)]
pub trait Mask: Copy + BitAnd<Output = Self> + BitOr<Output = Self> + Not<Output = Self> {
    /// The constant mask.
    fn splat(value: bool) -> Self;
}

/// A number of a model: the operations that mean the same on every backend.
///
/// **A constant goes on the right**: `x * 2.0`. `2.0 * x` and `1.0 - x` do not compile for a generic `R`, and cannot:
/// `Mul` and `f32` both belong to the standard library, so no other crate may implement one for the other and every
/// `R`. **A choice is a [`select`](Self::select)**, not an `if`: an `R` may hold sixteen rollouts, some of which take
/// one branch and some the other.
///
/// | instead of | write | the compiler says |
/// |---|---|---|
/// | `2.0 * x` | `x * 2.0` | cannot multiply `{float}` by `R` (E0277) |
/// | `1.0 + x` | `x + 1.0` | cannot add `R` to `{float}` (E0277) |
/// | `1.0 - x` | `-x + 1.0` or `R::from(1.0) - x` | cannot subtract `R` from `{float}` (E0277) |
/// | `1.0 / x` | `x.recip()` or `R::from(1.0) / x` | cannot divide `{float}` by `R` (E0277) |
/// | `x * 2` | `x * 2.0` | cannot multiply `R` by `{integer}` (E0277) |
/// | `let y: R = 0.0` | `let y = R::from(0.0)` | expected type parameter `R`, found floating-point number (E0308) |
/// | `if x > 1.0 { a } else { b }` | `R::select(x.gt(1.0), a, b)` | binary operation `>` cannot be applied to type `R` (E0369) |
/// | `if x.gt(1.0) { a } else { b }` | `R::select(x.gt(1.0), a, b)` | expected `bool`, found associated type (E0308) |
/// | `x.gt(0.0) && x.lt(1.0)` | `x.gt(0.0) & x.lt(1.0)` | expected `bool`, found associated type (E0308) |
///
/// Besides these messages the compiler suggests bounding `R` by `PartialOrd`, or `<R as Real>::Mask` by `bool`, or
/// adding `where f32: Mul<R>`. Do not: a function with such a bound cannot be called from a model. (A crate cannot
/// change the compiler's messages about `>`, `if` and `*`, which belong to the language.)
///
/// Every argument marked `impl Into<Self>` takes an `f32` too (`x.max(0.0)`). Loops with constant bounds are fine: they
/// are unrolled. Methods have the names and the meanings of those of `f32`, unless documented otherwise.
///
/// # Example
///
/// ```
/// use gibbs::Real;
///
/// /// A smooth step from 0 to 1, flat outside.
/// fn ramp<R: Real>(x: R) -> R {
///     let t = x.clamp(0.0, 1.0);
///     R::select(x.lt(0.0), 0.0, t * t * (-t * 2.0 + 3.0))
/// }
/// assert_eq!(ramp(0.5_f32), 0.5);
/// ```
///
/// What does not compile:
///
/// ```compile_fail,E0277
/// # use gibbs::Real;
/// fn twice<R: Real>(x: R) -> R {
///     2.0 * x
/// }
/// ```
///
/// ```compile_fail,E0277
/// # use gibbs::Real;
/// fn rest<R: Real>(x: R) -> R {
///     1.0 - x
/// }
/// ```
///
/// ```compile_fail,E0369
/// # use gibbs::Real;
/// fn above_one<R: Real>(x: R) -> R {
///     if x > 1.0 { x } else { R::from(1.0) }
/// }
/// ```
///
/// ```compile_fail,E0308
/// # use gibbs::Real;
/// fn above_one<R: Real>(x: R) -> R {
///     if x.gt(1.0) { x } else { R::from(1.0) }
/// }
/// ```
///
/// and what does:
///
/// ```
/// # use gibbs::Real;
/// fn twice<R: Real>(x: R) -> R {
///     x * 2.0
/// }
/// fn rest<R: Real>(x: R) -> R {
///     -x + 1.0
/// }
/// fn above_one<R: Real>(x: R) -> R {
///     R::select(x.gt(1.0), x, 1.0)
/// }
/// assert_eq!([twice(0.25_f32), rest(0.25), above_one(0.25)], [0.5, 0.75, 1.0]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a number of a model",
    label = "neither `f32` nor a generic `R: Real`",
    note = "numbers of models are `f32` or generic: `fn f<R: Real>(x: R) -> R`; `R::from(2.0_f32)` makes one of a constant",
    note = "comparisons are methods (`x.gt(1.0)`), and `R::select(x.gt(1.0), yes, no)` takes the place of `if`"
)]
pub trait Real:
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
    /// The result of a comparison.
    type Mask: Mask;

    /// |self|.
    fn abs(self) -> Self;
    /// The smaller of the two.
    fn min(self, other: impl Into<Self>) -> Self;
    /// The larger of the two.
    fn max(self, other: impl Into<Self>) -> Self;
    /// self·a + b, rounded once where the hardware supports it.
    fn mul_add(self, a: impl Into<Self>, b: impl Into<Self>) -> Self;
    /// √self; NaN below zero on the CPU, unspecified there on a GPU.
    fn sqrt(self) -> Self;
    /// The largest whole number that is not above self.
    fn floor(self) -> Self;
    /// e^self.
    fn exp(self) -> Self;
    /// The natural logarithm; self must be positive.
    fn ln(self) -> Self;
    /// 2^self; exact if self is whole and at least −125. Below that the result may be 0.
    fn exp2(self) -> Self;
    /// The logarithm to base 2; self must be positive.
    fn log2(self) -> Self;
    /// (sin, cos) of an angle (in radians), at little more than the cost of one of them.
    fn sin_cos(self) -> (Self, Self);
    /// The angle (in radians) of the point (x, y) = (`x`, self), in [−π, π].
    fn atan2(self, x: impl Into<Self>) -> Self;
    /// The arc sine (in radians); self in [−1, 1].
    fn asin(self) -> Self;
    /// The arc cosine (in radians); self in [−1, 1].
    fn acos(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;

    /// self < other.
    #[doc(alias = "<")]
    #[doc(alias = "PartialOrd")]
    fn lt(self, other: impl Into<Self>) -> Self::Mask;
    /// self ≤ other.
    #[doc(alias = "<=")]
    fn le(self, other: impl Into<Self>) -> Self::Mask;
    /// self = other.
    #[doc(alias = "==")]
    #[doc(alias = "PartialEq")]
    fn cmp_eq(self, other: impl Into<Self>) -> Self::Mask;
    /// `yes` where the mask is true, `no` elsewhere: the replacement for `if`. Both arguments are evaluated.
    #[doc(alias = "if")]
    fn select(mask: Self::Mask, yes: impl Into<Self>, no: impl Into<Self>) -> Self;

    /// self limited to [`low`, `high`].
    #[inline(always)]
    fn clamp(self, low: impl Into<Self>, high: impl Into<Self>) -> Self {
        self.max(low).min(high)
    }
    /// sin of an angle (in radians).
    #[inline(always)]
    fn sin(self) -> Self {
        self.sin_cos().0
    }
    /// cos of an angle (in radians).
    #[inline(always)]
    fn cos(self) -> Self {
        self.sin_cos().1
    }
    /// tan of an angle (in radians).
    #[inline(always)]
    fn tan(self) -> Self {
        let (s, c) = self.sin_cos();
        s / c
    }
    /// self · self.
    #[inline(always)]
    fn square(self) -> Self {
        self * self
    }
    /// self^n by repeated squaring; `n` may be negative or zero (0⁰ = 1).
    #[inline(always)]
    fn powi(self, n: i32) -> Self {
        let (mut base, mut left, mut result) = (self, n.unsigned_abs(), Self::from(1.0));
        while left > 0 {
            if left & 1 == 1 {
                result *= base;
            }
            left >>= 1;
            if left > 0 {
                base *= base;
            }
        }
        if n < 0 { Self::from(1.0) / result } else { result }
    }
    /// The remainder of self ÷ `modulus`, in [0, `modulus`); `modulus` must be positive.
    #[inline(always)]
    fn rem_euclid(self, modulus: impl Into<Self>) -> Self {
        let modulus = modulus.into();
        let remainder = self - (self / modulus).floor() * modulus;
        // The quotient is rounded before the floor, so the remainder may miss the interval by a rounding on either
        // side.
        let remainder = Self::select(remainder.lt(0.0), remainder + modulus, remainder);
        Self::select(remainder.lt(modulus), remainder, remainder - modulus)
    }
    /// The same angle (in radians) in [−π, π).
    #[inline(always)]
    fn wrap_angle(self) -> Self {
        use std::f32::consts::{FRAC_1_PI, PI, TAU};
        let turns = self.mul_add(0.5 * FRAC_1_PI, 0.5).floor();
        let rest = turns.mul_add(-TAU, self);
        // The number of turns is rounded before the floor, so the rest may miss the interval by a rounding on either
        // side. (It is adjusted by sums and not clamped, since NaN must propagate, on a GPU too.)
        let rest = Self::select(rest.lt(-PI), rest + TAU, rest);
        Self::select(rest.lt(PI), rest, rest - TAU)
    }
    /// self^`exponent`.
    ///
    /// As for `f32`: a negative number has integer powers only ((−2)³ = −8); other exponents give NaN on the CPU and
    /// are unspecified on a GPU. x⁰ = 1 for every x, and 0 to a positive power is 0. 0 to a negative power is +∞ on the
    /// CPU.
    ///
    /// A constant exponent costs a logarithm and an exponential; [`powi`](Self::powi) with a small exponent costs less,
    /// and [`sqrt`](Self::sqrt) and [`cbrt`](Self::cbrt) are cheaper and more accurate than powers of ½ and ⅓.
    #[inline(always)]
    fn powf(self, exponent: impl Into<Self>) -> Self {
        let exponent = exponent.into();
        let half = exponent * 0.5;
        let whole = exponent.cmp_eq(exponent.floor());
        let odd = whole & half.ne(half.floor());
        let zero = self.cmp_eq(0.0);
        // The logarithm of a negative number is NaN, and so is the power, unless the exponent is whole.
        let base = Self::select(whole, self.abs(), self);
        // The logarithm of NaN or ±∞ times 0 would be NaN, and 0 has no finite logarithm, so these bases are replaced
        // by 1.
        let base = Self::select(exponent.cmp_eq(0.0) | (zero & exponent.gt(0.0)), 1.0, base);
        let power = (base.log2() * exponent).exp2();
        let power = Self::select(odd & self.lt(0.0), -power, power);
        Self::select(zero & exponent.gt(0.0), Self::select(exponent.cmp_eq(1.0), self, 0.0), power)
    }
    /// The cube root; negative for a negative number.
    #[inline(always)]
    fn cbrt(self) -> Self {
        let size = self.abs();
        // 0 and ±∞ are their own roots.
        let fixed = size.cmp_eq(0.0) | size.gt(f32::MAX);
        let size = Self::select(fixed, 1.0, size);
        let root = (size.log2() * (1.0 / 3.0)).exp2();
        // One Newton step recovers the digits lost to the logarithm.
        let root = (root + root + size / (root * root)) * (1.0 / 3.0);
        let root = Self::select(self.lt(0.0), -root, root);
        Self::select(fixed, self, root)
    }
    /// √(self² + other²), scaled so that the squares neither overflow nor underflow.
    #[inline(always)]
    fn hypot(self, other: impl Into<Self>) -> Self {
        /// Factor that brings small and large arguments into the range whose squares are normal.
        const SCALE: f32 = (1_u128 << 80) as f32;
        /// The upper bound of that range; its inverse is the lower one.
        const LARGE: f32 = (1_u64 << 63) as f32;
        let other = other.into();
        let size = self.abs().max(other.abs());
        let (small, large) = (size.lt(1.0 / LARGE), size.gt(LARGE));
        let scale = Self::select(large, 1.0 / SCALE, Self::select(small, SCALE, 1.0));
        let back = Self::select(large, SCALE, Self::select(small, 1.0 / SCALE, 1.0));
        let (a, b) = (self * scale, other * scale);
        a.mul_add(a, b * b).sqrt() * back
    }
    /// 1 ÷ self.
    #[inline(always)]
    fn recip(self) -> Self {
        Self::from(1.0) / self
    }
    /// The arc tangent (in radians), in [−π/2, π/2]. For a quotient prefer [`atan2`](Self::atan2).
    #[inline(always)]
    fn atan(self) -> Self {
        self.atan2(1.0)
    }
    /// The hyperbolic sine. Beyond ±89.4 it overflows: to ±∞ on the CPU, to at least 10³⁸ in size on a GPU.
    #[inline(always)]
    fn sinh(self) -> Self {
        // Near 0 the exponentials would cancel. The polynomial is from Cephes (sinhf).
        let z = self * self;
        let p = z.mul_add(2.037_219_1e-4, 8.330_284e-3).mul_add(z, 1.666_671_6e-1);
        let near = (p * z).mul_add(self, self);
        let half = half_exp(self.abs());
        let far = half - Self::from(0.25) / half;
        let far = Self::select(self.lt(0.0), -far, far);
        Self::select(self.abs().lt(1.0), near, far)
    }
    /// The hyperbolic cosine. Beyond ±89.4 it overflows: to +∞ on the CPU, to at least 10³⁸ on a GPU.
    #[inline(always)]
    fn cosh(self) -> Self {
        let half = half_exp(self.abs());
        half + Self::from(0.25) / half
    }
    /// The smallest whole number that is not below self. (−0.5 gives −0.)
    #[inline(always)]
    fn ceil(self) -> Self {
        -(-self).floor()
    }
    /// The integer part: self rounded toward 0.
    #[inline(always)]
    fn trunc(self) -> Self {
        Self::select(self.lt(0.0), self.ceil(), self.floor())
    }
    /// The nearest whole number; ties round away from 0, as for `f32` (and not to even, as in WGSL).
    #[inline(always)]
    fn round(self) -> Self {
        let whole = self.trunc();
        // The difference is exact; self + ½ would not be.
        let away = (self - whole).abs().ge(0.5);
        Self::select(away, whole + Self::select(self.lt(0.0), -1.0, 1.0), whole)
    }
    /// The fractional part, self − [`trunc`](Self::trunc): negative where self is, as for `f32` (and not self −
    /// [`floor`](Self::floor), as in WGSL).
    #[inline(always)]
    fn fract(self) -> Self {
        self - self.trunc()
    }
    /// Linear interpolation, self + (other − self) · t: self at `t` = 0, `other` at `t` = 1, extrapolated elsewhere.
    ///
    /// Exact at 0; at 1 the result may differ from `other` by rounding.
    #[inline(always)]
    fn lerp(self, other: impl Into<Self>, t: impl Into<Self>) -> Self {
        (other.into() - self).mul_add(t, self)
    }
    /// 0 up to `edge0`, 1 from `edge1` on, and in between the cubic t² (3 − 2t) that is flat at both ends.
    ///
    /// As in WGSL, with self as its last argument. With `edge0` above `edge1` it falls from 1 to 0; with both equal it
    /// jumps to 1 there.
    #[inline(always)]
    fn smoothstep(self, edge0: impl Into<Self>, edge1: impl Into<Self>) -> Self {
        let (edge0, edge1) = (edge0.into(), edge1.into());
        let width = edge1 - edge0;
        let jump = width.cmp_eq(0.0);
        let t = (self - edge0) / Self::select(jump, 1.0, width);
        let t = Self::select(jump, Self::select(self.lt(edge0), 0.0, 1.0), t);
        // `clamp` need not propagate NaN; these selects do.
        let t = Self::select(t.lt(0.0), 0.0, t);
        let t = Self::select(t.gt(1.0), 1.0, t);
        t * t * (t * -2.0 + 3.0)
    }
    /// Converts an angle from radians to degrees.
    #[inline(always)]
    fn to_degrees(self) -> Self {
        self * (180.0 / std::f64::consts::PI) as f32
    }
    /// Converts an angle from degrees to radians.
    #[inline(always)]
    fn to_radians(self) -> Self {
        self * (std::f64::consts::PI / 180.0) as f32
    }
    /// self| with the sign of `sign`; a zero of either sign counts as positive.
    #[inline(always)]
    fn copysign(self, sign: impl Into<Self>) -> Self {
        let size = self.abs();
        Self::select(sign.into().lt(0.0), -size, size)
    }
    /// −1, 0 or 1. (The `signum` of an `f32` is 1 at 0.)
    #[doc(alias = "signum")]
    #[inline(always)]
    fn sign(self) -> Self {
        let negative = Self::select(self.lt(0.0), -1.0, 0.0);
        Self::select(self.gt(0.0), 1.0, negative)
    }
    /// self > other.
    #[doc(alias = ">")]
    #[inline(always)]
    fn gt(self, other: impl Into<Self>) -> Self::Mask {
        other.into().lt(self)
    }
    /// self ≥ other.
    #[doc(alias = ">=")]
    #[inline(always)]
    fn ge(self, other: impl Into<Self>) -> Self::Mask {
        other.into().le(self)
    }
    /// self ≠ other.
    #[doc(alias = "!=")]
    #[inline(always)]
    fn ne(self, other: impl Into<Self>) -> Self::Mask {
        !self.cmp_eq(other)
    }
    /// The mask that is true everywhere.
    #[inline(always)]
    fn always() -> Self::Mask {
        Self::Mask::splat(true)
    }
    /// The mask that is false everywhere.
    #[inline(always)]
    fn never() -> Self::Mask {
        Self::Mask::splat(false)
    }

    /// Parameter `i` of the step context.
    #[doc(hidden)]
    fn param(inputs: &Inputs<'_>, i: usize) -> Self;
    /// Column `j` of the context's row of the reference table.
    #[doc(hidden)]
    fn reference(inputs: &Inputs<'_>, j: usize) -> Self;
    /// The index of the context's time step.
    #[doc(hidden)]
    fn time(inputs: &Inputs<'_>) -> Self;
    /// The length of the context's time step (in seconds).
    #[doc(hidden)]
    fn dt(inputs: &Inputs<'_>) -> Self;
    /// The values of channels `channel` to `channel` + C of field `field` at a point.
    #[doc(hidden)]
    fn look_up<const D: usize, const C: usize>(
        inputs: &Inputs<'_>,
        field: usize,
        channel: usize,
        point: [Self; D],
    ) -> [Self; C];
    /// As [`look_up`](Self::look_up), with the derivatives of each value by the coordinates.
    #[doc(hidden)]
    fn look_up_slopes<const D: usize, const C: usize>(
        inputs: &Inputs<'_>,
        field: usize,
        channel: usize,
        point: [Self; D],
    ) -> ([Self; C], [[Self; D]; C]);
    /// While a model is traced, records what its parameters are called.
    #[doc(hidden)]
    #[inline(always)]
    fn note_params(inputs: &Inputs<'_>, names: ParamNames) {
        let _ = (inputs, names);
    }
    /// Adds to a term of the cost, where terms are recorded. Only plain numbers call `value`.
    #[doc(hidden)]
    #[inline(always)]
    fn record_term(inputs: &Inputs<'_>, name: &'static str, value: impl FnOnce() -> Self) {
        let _ = (inputs, name, value);
    }
    /// Evaluates a hand-written function.
    #[doc(hidden)]
    fn call<const A: usize>(function: &WgslFn<A>, arguments: [Self; A]) -> Self;
    /// The sums of a network layer's units, whose parameters begin at `first`: b + Σ w x, each in the order of x.
    #[doc(hidden)]
    #[inline(always)]
    fn layer(source: &ParamView<'_>, first: usize, x: &[Self], sums: &mut [Self]) {
        network::layer(source, first, x, sums);
    }
    /// The sums over the units above a layer of their weights times their slopes, each in the order of the units.
    #[doc(hidden)]
    #[inline(always)]
    fn layer_back(source: &ParamView<'_>, first: usize, slopes: &[Self], sums: &mut [Self]) {
        network::layer_back(source, first, slopes, sums);
    }
    /// Parameter `i` of a policy.
    #[doc(hidden)]
    fn weight(source: &ParamView<'_>, i: usize) -> Self;
    /// Column `j` of the context's row of a table of parameters.
    #[doc(hidden)]
    fn weight_at(source: &ParamView<'_>, inputs: &Inputs<'_>, table: Table, j: usize) -> Self;
    /// Adds to the derivative by parameter `i`.
    #[doc(hidden)]
    fn accumulate(sink: &mut GradSink<'_>, i: usize, value: Self);
    /// Adds `slope` times x to the derivatives by x.len() parameters, from parameter `first` on.
    #[doc(hidden)]
    #[inline(always)]
    fn accumulate_products(sink: &mut GradSink<'_>, first: usize, slope: Self, x: &[Self]) {
        for (i, x) in x.iter().enumerate() {
            Self::accumulate(sink, first + i, slope * *x);
        }
    }
    /// Adds to the derivative by column `j` of the context's row of a table of parameters.
    #[doc(hidden)]
    fn accumulate_at(sink: &mut GradSink<'_>, inputs: &Inputs<'_>, table: Table, j: usize, value: Self);
    /// Whether a network has these numbers of inputs and outputs and fits a kernel, if each of its numbers takes the
    /// space of `size` of these. Plain numbers panic on a mismatch; a trace records an error, and the network must not
    /// be computed.
    #[doc(hidden)]
    #[inline(always)]
    fn fits(network: &Network, inputs: usize, outputs: usize, size: usize) -> bool {
        let _ = size;
        network.check_sizes(inputs, outputs);
        true
    }
    /// While code is traced, records that a network is computed whose numbers each take the space of `size` of these.
    #[doc(hidden)]
    #[inline(always)]
    fn note(source: &ParamView<'_>, network: &Network, size: usize) {
        let _ = (source, network, size);
    }
    /// The outputs of a network.
    #[doc(hidden)]
    fn network<const I: usize, const O: usize>(source: &ParamView<'_>, network: &Network, x: [Self; I]) -> [Self; O];
    /// The outputs of a network; adds (∂y/∂θ)ᵀ v to the sink.
    #[doc(hidden)]
    fn network_back<const I: usize, const O: usize>(
        source: &ParamView<'_>,
        sink: &mut GradSink<'_>,
        network: &Network,
        x: [Self; I],
        v: [Self; O],
    ) -> [Self; O];
}

/// ½ eˣ for x ≥ 0. Finite wherever sinh and cosh are, unlike eˣ.
#[inline(always)]
fn half_exp<R: Real>(x: R) -> R {
    (x - 2.0).exp() * 3.694_528 // ½ e²
}
