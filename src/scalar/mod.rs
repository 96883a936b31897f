//! [`Real`], the scalar language that models are written in, and its four interpretations.
//!
//! | interpretation | type | used for |
//! |---|---|---|
//! | plain number | `f32` | the reference, debugging, a user's own tests |
//! | SIMD lanes | private | the CPU backend: one lane is one rollout |
//! | traced expression | private | the GPU backend: the tape becomes WGSL |
//! | dual number | [`Dual`] | derivatives of any model |
//!
//! # Accuracy
//!
//! Transcendental functions are the crate's own polynomials on *every* interpretation (`src/scalar/math.rs` and its
//! twin `shaders/math.wgsl`), not the platform's: WGSL promises only 2⁻¹¹ absolute for `sin` on [−π, π] and nothing
//! outside, `log` 2⁻²¹ near 1, `atan2` 4096 ULP, so a model's numbers would depend on a driver. The bounds below hold on
//! every backend, against an f64 reference; `tests/operations.rs` checks them.
//!
//! | operation | bound | where |
//! |---|---|---|
//! | `+ − ×`, `min`, `max`, `abs`, `floor`, comparisons, `select` | exact or correctly rounded | finite, not subnormal |
//! | `mul_add` | correctly rounded where the hardware fuses, else as `×` then `+` | likewise |
//! | `÷`, `sqrt` | 2.5 ULP (a GPU's; the CPU's are correctly rounded) | likewise |
//! | `sin`, `cos` | 2·10⁻⁷ absolute | \|x\| ≤ 10⁴ |
//! | `tan` | 4·10⁻⁷ relative to 1 + tan² | \|x\| ≤ 10⁴ |
//! | `exp` | 3·10⁻⁷ relative | result above 2.4·10⁻³⁸, below which it may be 0; overflow gives +∞ on the CPU, at least 10³⁸ on a GPU |
//! | `ln` | 3·10⁻⁷ relative to max(1, \|ln x\|) | x > 0 and normal |
//! | `atan2` | 5·10⁻⁷ absolute | \|x\| + \|y\| finite; `atan2(±0, ±0)` = ±0 |
//! | `asin`, `acos` | 5·10⁻⁷ absolute | \|x\| ≤ 1; NaN beyond, on the CPU |
//! | `tanh` | 6·10⁻⁷ relative, and \|tanh\| ≤ 1 | everywhere |
//! | `powi` | \|n\| · 2⁻²³ relative, and a division's error if n < 0 | xⁿ and x⁻ⁿ normal |
//! | `rem_euclid`, `wrap_angle` | 3 ULP of the larger argument | \|x / m\| < 2²⁰ |
//!
//! A GPU may flush subnormal numbers to zero and may assume that there is no NaN and no infinity; the CPU follows
//! IEEE 754. So a *defined* model keeps its values finite, and one that overflows is caught by its cost
//! (see [`Model`](crate::Model)). `min` and `max` of a NaN are unspecified.

mod dual;
mod escape;
mod instructions;
mod lanes;
pub(crate) mod math;
mod mul_wide;
mod network;
mod pair;
mod room;
mod squares;
mod stage;
pub(crate) mod tally;
pub(crate) mod trace;
mod weights;

use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, DivAssign, Mul, MulAssign, Neg, Not, Sub, SubAssign};

pub use dual::Dual;
pub use escape::WgslFn;
pub(crate) use lanes::{Lanes, Register, WIDEST};
pub use network::{Activation, Network};
pub(crate) use pair::{Abreast, Pair};
pub(crate) use room::Room;
pub use stage::Stage;
pub(crate) use stage::{ByHand, Inputs};
pub use weights::{Gradient, Table, Weights};
pub(crate) use weights::{Several, Sink, Source};

pub(crate) mod sealed {
    /// Keeps [`Real`](super::Real) to the four interpretations of this crate, so that it may grow.
    ///
    /// # Safety
    ///
    /// Any bytes are a valid value.
    pub unsafe trait Sealed: Copy {}
}

/// A truth value of a [`Real`]: one `bool`, a lane mask, or a traced comparison.
///
/// There is no way to branch on it, only to [`select`](Real::select): every rollout runs the same instructions.
pub trait Mask: Copy + BitAnd<Output = Self> + BitOr<Output = Self> + Not<Output = Self> {
    /// The constant mask.
    fn splat(value: bool) -> Self;
}

/// A number of a model: the operations that mean the same on every backend.
///
/// Arithmetic mixes with `f32` on the right (`x * 2.0`), and every argument marked `impl Into<Self>` takes an `f32` too
/// (`x.max(0.0)`). Comparisons give a [`Mask`]; there is no `PartialOrd`, so an `if` on data does not compile, as it
/// should. Loops with constant bounds are fine: they unroll.
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
    /// self·a + b, rounded once where the hardware can.
    fn mul_add(self, a: impl Into<Self>, b: impl Into<Self>) -> Self;
    /// √self; NaN below zero on the CPU, unspecified there on a GPU.
    fn sqrt(self) -> Self;
    /// The largest whole number that is not above self.
    fn floor(self) -> Self;
    /// e^self.
    fn exp(self) -> Self;
    /// The natural logarithm; self must be positive.
    fn ln(self) -> Self;
    /// (sin, cos) of an angle (in radians), for little more than the price of one.
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
    fn lt(self, other: impl Into<Self>) -> Self::Mask;
    /// self ≤ other.
    fn le(self, other: impl Into<Self>) -> Self::Mask;
    /// self = other.
    fn eq(self, other: impl Into<Self>) -> Self::Mask;
    /// `yes` where the mask holds, `no` elsewhere. Both are computed.
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
        // The quotient is rounded before the floor, so the remainder may miss the interval by a rounding on either side.
        let remainder = Self::select(remainder.lt(0.0), remainder + modulus, remainder);
        Self::select(remainder.lt(modulus), remainder, remainder - modulus)
    }
    /// The same angle (in radians) in [−π, π).
    #[inline(always)]
    fn wrap_angle(self) -> Self {
        use std::f32::consts::{FRAC_1_PI, PI, TAU};
        let turns = self.mul_add(0.5 * FRAC_1_PI, 0.5).floor();
        let rest = turns.mul_add(-TAU, self);
        // The number of turns is rounded before the floor, so the rest may miss the interval by a rounding on either side. (Sums
        // and not bounds: a NaN has to come through, on a GPU too.)
        let rest = Self::select(rest.lt(-PI), rest + TAU, rest);
        Self::select(rest.lt(PI), rest, rest - TAU)
    }
    /// −1, 0 or 1.
    #[inline(always)]
    fn sign(self) -> Self {
        let negative = Self::select(self.lt(0.0), -1.0, 0.0);
        Self::select(self.gt(0.0), 1.0, negative)
    }
    /// self > other.
    #[inline(always)]
    fn gt(self, other: impl Into<Self>) -> Self::Mask {
        other.into().lt(self)
    }
    /// self ≥ other.
    #[inline(always)]
    fn ge(self, other: impl Into<Self>) -> Self::Mask {
        other.into().le(self)
    }
    /// self ≠ other.
    #[inline(always)]
    fn ne(self, other: impl Into<Self>) -> Self::Mask {
        !self.eq(other)
    }
    /// The mask that never holds.
    #[inline(always)]
    fn never() -> Self::Mask {
        Self::Mask::splat(false)
    }

    /// Parameter `i` of the stage.
    #[doc(hidden)]
    fn param(inputs: &Inputs<'_>, i: usize) -> Self;
    /// Column `j` of the stage's row of the reference table.
    #[doc(hidden)]
    fn reference(inputs: &Inputs<'_>, j: usize) -> Self;
    /// The stage's time index.
    #[doc(hidden)]
    fn time(inputs: &Inputs<'_>) -> Self;
    /// The stage's time step.
    #[doc(hidden)]
    fn dt(inputs: &Inputs<'_>) -> Self;
    /// Bilinear look-up in field `field`.
    #[doc(hidden)]
    fn sample(inputs: &Inputs<'_>, field: usize, x: Self, y: Self) -> Self;
    /// Its derivatives by x and by y.
    #[doc(hidden)]
    fn sample_gradient(inputs: &Inputs<'_>, field: usize, x: Self, y: Self) -> (Self, Self);
    /// A hand-written function.
    #[doc(hidden)]
    fn call<const A: usize>(function: &WgslFn<A>, arguments: [Self; A]) -> Self;
    /// To each of `U` sums the inner product of x with as many weights, from weight `first` on, one sum after the other.
    #[doc(hidden)]
    #[inline(always)]
    fn weighted_sums<const U: usize>(source: &Source<'_>, first: usize, x: &[Self], mut sums: [Self; U]) -> [Self; U] {
        for (i, value) in x.iter().enumerate() {
            for u in 0..U {
                sums[u] = Self::weight(source, first + u * x.len() + i).mul_add(*value, sums[u]);
            }
        }
        sums
    }
    /// Parameter `i` of a policy.
    #[doc(hidden)]
    fn weight(source: &Source<'_>, i: usize) -> Self;
    /// Column `j` of the stage's row of a table of parameters.
    #[doc(hidden)]
    fn weight_at(source: &Source<'_>, inputs: &Inputs<'_>, table: Table, j: usize) -> Self;
    /// Adds to the derivative by parameter `i`.
    #[doc(hidden)]
    fn accumulate(sink: &mut Sink<'_>, i: usize, value: Self);
    /// Adds `slope` times x to the derivatives by as many parameters, from parameter `first` on.
    #[doc(hidden)]
    #[inline(always)]
    fn accumulate_products(sink: &mut Sink<'_>, first: usize, slope: Self, x: &[Self]) {
        for (i, x) in x.iter().enumerate() {
            Self::accumulate(sink, first + i, slope * *x);
        }
    }
    /// Adds to the derivative by column `j` of the stage's row of a table of parameters.
    #[doc(hidden)]
    fn accumulate_at(sink: &mut Sink<'_>, inputs: &Inputs<'_>, table: Table, j: usize, value: Self);
    /// Whether a network has these numbers of inputs and outputs, and can be computed from numbers each of which is as large as
    /// `size` of these. Plain numbers panic where it has not; a trace notes an error, and the network must not be computed.
    #[doc(hidden)]
    #[inline(always)]
    fn fits(network: &Network, inputs: usize, outputs: usize, size: usize) -> bool {
        let _ = size;
        network.check_sizes(inputs, outputs);
        true
    }
    /// Says, while a policy is traced, that a network is computed from numbers each of which is as large as `size` of these.
    #[doc(hidden)]
    #[inline(always)]
    fn note(network: &Network, size: usize) {
        let _ = (network, size);
    }
    /// The outputs of a network.
    #[doc(hidden)]
    fn network<const I: usize, const O: usize>(source: &Source<'_>, network: &Network, x: [Self; I]) -> [Self; O];
    /// The outputs of a network, their derivatives times `v` added to the sink.
    #[doc(hidden)]
    fn network_back<const I: usize, const O: usize>(
        source: &Source<'_>,
        sink: &mut Sink<'_>,
        network: &Network,
        x: [Self; I],
        v: [Self; O],
    ) -> [Self; O];
}
