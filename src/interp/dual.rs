//! Dual numbers: the interpretation of [`Real`] that differentiates.

use std::f32::consts::{LN_2, LOG2_E};
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::lang::{GradSink, Inputs, Network, ParamNames, ParamView, Real, Table, WgslFn, network, sealed};

/// A number together with its slopes along `D` directions: forward-mode differentiation of any code generic over
/// [`Real`].
///
/// The inner number `R` may be any `Real`; a dual of a dual carries second derivatives. The value goes through exactly
/// the operations of `R`, so it is the same to the bit as without the slopes.
///
/// [`jacobian`](crate::model::derivative::jacobian) and [`cost_gradient`](crate::model::derivative::cost_gradient)
/// differentiate whole models.
///
/// # Choices where there is no derivative
///
/// Slopes stay finite wherever the value is and the arguments are in their domain:
///
/// | operation | where | slopes |
/// |---|---|---|
/// | `min`, `max`, `clamp` | the two are equal | those of the argument, so `x.max(0.0)` is flat at 0 |
/// | `abs`, `sign` | 0 | 0 |
/// | `floor`, `ceil`, `round`, `trunc`, `sign`, comparisons | everywhere | 0 |
/// | `fract` | at a jump | 1, as everywhere |
/// | `rem_euclid`, `wrap_angle` | at a jump | those to the right of it (1 by self) |
/// | `sqrt`, `cbrt` | 0, where it is infinite | 0, as suits a distance at its own center |
/// | `hypot` | the origin | 0 |
/// | `powf`, by the base | 0, if the exponent is below 1 (there it is infinite) | 0; of exponent 1 it is 1 |
/// | `powf`, by the exponent | a base that is not positive | 0 |
/// | `smoothstep` | two edges that are equal | 0 |
/// | `asin`, `acos` | ±1, where it is infinite | 0 |
/// | `atan2` | the origin | 0 |
/// | `select` | the mask changes | those of the branch that is taken |
/// | lookup in a field | between cells | those of the cell that is read |
///
/// # Precision
///
/// To rounding, with two exceptions. A [`WgslFn`] is differentiated by central differences of its twin, with a step of
/// 2⁻⁸ · max(1, |argument|): about 5 digits for a function that is smooth on that scale. And a second derivative omits
/// the (mixed) curvature of a bilinear field.
///
/// # Example
///
/// ```
/// use gibbs::Real;
/// use gibbs::derivative::Dual;
///
/// // f(x, y) = x² y at (3, 5), and its slopes by x and y.
/// let [x, y] = Dual::variables([3.0_f32, 5.0]);
/// let f = x.square() * y;
/// assert_eq!((f.value, f.slopes), (45.0, [30.0, 9.0]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dual<R, const D: usize> {
    /// The number itself.
    pub value: R,
    /// Its derivative along each direction.
    pub slopes: [R; D],
}

impl<R: Real, const D: usize> Dual<R, D> {
    /// A number that depends on nothing: all slopes 0.
    #[inline(always)]
    pub fn constant(value: R) -> Self {
        Self { value, slopes: [R::from(0.0); D] }
    }

    /// The variable of direction `i`: slope 1 along it, 0 along the others.
    ///
    /// # Panics
    ///
    /// If `i` is not below `D`.
    #[inline(always)]
    pub fn variable(value: R, i: usize) -> Self {
        let mut variable = Self::constant(value);
        variable.slopes[i] = R::from(1.0);
        variable
    }

    /// The `D` variables, one for each direction.
    #[inline(always)]
    pub fn variables(values: [R; D]) -> [Self; D] {
        let mut variables = [Self::constant(R::from(0.0)); D];
        for (i, variable) in variables.iter_mut().enumerate() {
            *variable = Self::variable(values[i], i);
        }
        variables
    }

    /// A function of one number: its value, and `rate`, its derivative.
    #[inline(always)]
    fn chain(self, value: R, rate: R) -> Self {
        let mut slopes = self.slopes;
        for slope in &mut slopes {
            *slope *= rate;
        }
        Self { value, slopes }
    }

    /// A function of two numbers: its value, and its derivatives by self and by `other`.
    #[inline(always)]
    fn chain2(self, rate: R, other: Self, other_rate: R, value: R) -> Self {
        let mut slopes = self.slopes;
        for (slope, along) in slopes.iter_mut().zip(other.slopes) {
            *slope = slope.mul_add(rate, along * other_rate);
        }
        Self { value, slopes }
    }
}

/// 1/x, and 0 at 0.
#[inline(always)]
fn inverse_or_zero<R: Real>(x: R) -> R {
    let zero = x.cmp_eq(0.0);
    // The divisor is never zero, since a GPU need not support infinities.
    R::select(zero, 0.0, R::from(1.0) / R::select(zero, 1.0, x))
}

/// d asin(x)/dx.
#[inline(always)]
fn asin_rate<R: Real>(x: R) -> R {
    inverse_or_zero(((-x + 1.0) * (x + 1.0)).sqrt())
}

impl<R: Real, const D: usize> From<f32> for Dual<R, D> {
    #[inline(always)]
    fn from(value: f32) -> Self {
        Self::constant(R::from(value))
    }
}

impl<R: Real, const D: usize> Neg for Dual<R, D> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        let mut slopes = self.slopes;
        for slope in &mut slopes {
            *slope = -*slope;
        }
        Self { value: -self.value, slopes }
    }
}

impl<R: Real, const D: usize> Add for Dual<R, D> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let mut slopes = self.slopes;
        for (slope, along) in slopes.iter_mut().zip(other.slopes) {
            *slope += along;
        }
        Self { value: self.value + other.value, slopes }
    }
}

impl<R: Real, const D: usize> Sub for Dual<R, D> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        let mut slopes = self.slopes;
        for (slope, along) in slopes.iter_mut().zip(other.slopes) {
            *slope -= along;
        }
        Self { value: self.value - other.value, slopes }
    }
}

impl<R: Real, const D: usize> Mul for Dual<R, D> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.chain2(other.value, other, self.value, self.value * other.value)
    }
}

impl<R: Real, const D: usize> Div for Dual<R, D> {
    type Output = Self;
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        let mut slopes = self.slopes;
        for (slope, along) in slopes.iter_mut().zip(other.slopes) {
            *slope = (*slope - value * along) / other.value;
        }
        Self { value, slopes }
    }
}

impl<R: Real, const D: usize> Add<f32> for Dual<R, D> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: f32) -> Self {
        Self { value: self.value + other, slopes: self.slopes }
    }
}

impl<R: Real, const D: usize> Sub<f32> for Dual<R, D> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: f32) -> Self {
        Self { value: self.value - other, slopes: self.slopes }
    }
}

impl<R: Real, const D: usize> Mul<f32> for Dual<R, D> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: f32) -> Self {
        self.chain(self.value * other, R::from(other))
    }
}

impl<R: Real, const D: usize> Div<f32> for Dual<R, D> {
    type Output = Self;
    #[inline(always)]
    fn div(self, other: f32) -> Self {
        let mut slopes = self.slopes;
        for slope in &mut slopes {
            *slope = *slope / other;
        }
        Self { value: self.value / other, slopes }
    }
}

macro_rules! assign {
    ($($trait:ident $method:ident $operator:tt;)*) => {$(
        impl<R: Real, const D: usize> $trait for Dual<R, D> {
            #[inline(always)]
            fn $method(&mut self, other: Self) {
                *self = *self $operator other;
            }
        }
    )*};
}
assign! {
    AddAssign add_assign +;
    SubAssign sub_assign -;
    MulAssign mul_assign *;
    DivAssign div_assign /;
}

// SAFETY: any bytes are valid numbers.
unsafe impl<R: Real, const D: usize> sealed::Sealed for Dual<R, D> {}

impl<R: Real, const D: usize> Real for Dual<R, D> {
    type Mask = R::Mask;

    #[inline(always)]
    fn abs(self) -> Self {
        self.chain(self.value.abs(), self.value.sign())
    }
    #[inline(always)]
    fn min(self, other: impl Into<Self>) -> Self {
        let other = other.into();
        let slopes = Self::select(self.value.lt(other.value), self, other).slopes;
        Self { value: self.value.min(other.value), slopes }
    }
    #[inline(always)]
    fn max(self, other: impl Into<Self>) -> Self {
        let other = other.into();
        let slopes = Self::select(self.value.gt(other.value), self, other).slopes;
        Self { value: self.value.max(other.value), slopes }
    }
    #[inline(always)]
    fn mul_add(self, a: impl Into<Self>, b: impl Into<Self>) -> Self {
        let (a, b) = (a.into(), b.into());
        let mut result = self.chain2(a.value, a, self.value, self.value.mul_add(a.value, b.value));
        for (slope, along) in result.slopes.iter_mut().zip(b.slopes) {
            *slope += along;
        }
        result
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        let root = self.value.sqrt();
        self.chain(root, inverse_or_zero(root) * 0.5)
    }
    #[inline(always)]
    fn floor(self) -> Self {
        Self::constant(self.value.floor())
    }
    #[inline(always)]
    fn exp(self) -> Self {
        let power = self.value.exp();
        self.chain(power, power)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        self.chain(self.value.ln(), R::from(1.0) / self.value)
    }
    #[inline(always)]
    fn exp2(self) -> Self {
        let power = self.value.exp2();
        self.chain(power, power * LN_2)
    }
    #[inline(always)]
    fn log2(self) -> Self {
        self.chain(self.value.log2(), R::from(LOG2_E) / self.value)
    }
    #[inline(always)]
    fn sin_cos(self) -> (Self, Self) {
        let (sin, cos) = self.value.sin_cos();
        (self.chain(sin, cos), self.chain(cos, -sin))
    }
    #[inline(always)]
    fn atan2(self, x: impl Into<Self>) -> Self {
        let x = x.into();
        // (x dy − y dx)/(x² + y²), with the point scaled so that its square neither overflows nor underflows.
        let scale = inverse_or_zero(self.value.abs().max(x.value.abs()));
        let (b, a) = (self.value * scale, x.value * scale);
        let inverse = inverse_or_zero(a * a + b * b) * scale;
        self.chain2(a * inverse, x, -b * inverse, self.value.atan2(x.value))
    }
    #[inline(always)]
    fn asin(self) -> Self {
        self.chain(self.value.asin(), asin_rate(self.value))
    }
    #[inline(always)]
    fn acos(self) -> Self {
        self.chain(self.value.acos(), -asin_rate(self.value))
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        let tanh = self.value.tanh();
        self.chain(tanh, (-tanh + 1.0) * (tanh + 1.0))
    }
    // The operations from here to `powf` are composed of others; differentiating through these would cancel, overflow
    // or take longer, so each has its own derivative.
    #[inline(always)]
    fn sinh(self) -> Self {
        self.chain(self.value.sinh(), self.value.cosh())
    }
    #[inline(always)]
    fn cosh(self) -> Self {
        self.chain(self.value.cosh(), self.value.sinh())
    }
    #[inline(always)]
    fn cbrt(self) -> Self {
        let root = self.value.cbrt();
        self.chain(root, inverse_or_zero(root * root * 3.0))
    }
    #[inline(always)]
    fn hypot(self, other: impl Into<Self>) -> Self {
        let other = other.into();
        let length = self.value.hypot(other.value);
        let divisor = R::select(length.cmp_eq(0.0), 1.0, length);
        self.chain2(self.value / divisor, other, other.value / divisor, length)
    }
    #[inline(always)]
    fn powf(self, exponent: impl Into<Self>) -> Self {
        let exponent = exponent.into();
        let (x, y) = (self.value, exponent.value);
        let power = x.powf(y);
        // y·x^(y−1); 0 where that is infinite and where y = 0.
        let none = y.cmp_eq(0.0) | (x.cmp_eq(0.0) & y.lt(1.0));
        let rate = R::select(none, 0.0, R::select(none, 1.0, x).powf(y - 1.0) * y);
        // x^y ln x, and 0 of a number that has no logarithm (at 0 the power may be infinite).
        let positive = x.gt(0.0);
        let exponent_rate = R::select(positive, R::select(positive, x, 1.0).ln() * power, 0.0);
        // A constant has slope 0, also where the derivative by it overflows. (A finite rate is kept: a dual of a dual
        // needs its slopes.)
        let along = |slope: R, rate: R| R::select(slope.cmp_eq(0.0) & rate.abs().gt(f32::MAX), 0.0, rate);
        let mut slopes = self.slopes;
        for (slope, by_exponent) in slopes.iter_mut().zip(exponent.slopes) {
            let other = by_exponent * along(by_exponent, exponent_rate);
            *slope = slope.mul_add(along(*slope, rate), other);
        }
        Self { value: power, slopes }
    }

    #[inline(always)]
    fn lt(self, other: impl Into<Self>) -> R::Mask {
        self.value.lt(other.into().value)
    }
    #[inline(always)]
    fn le(self, other: impl Into<Self>) -> R::Mask {
        self.value.le(other.into().value)
    }
    #[inline(always)]
    fn cmp_eq(self, other: impl Into<Self>) -> R::Mask {
        self.value.cmp_eq(other.into().value)
    }
    #[inline(always)]
    fn select(mask: R::Mask, yes: impl Into<Self>, no: impl Into<Self>) -> Self {
        let (yes, no) = (yes.into(), no.into());
        let mut slopes = yes.slopes;
        for (slope, other) in slopes.iter_mut().zip(no.slopes) {
            *slope = R::select(mask, *slope, other);
        }
        Self { value: R::select(mask, yes.value, no.value), slopes }
    }

    #[inline(always)]
    fn param(inputs: &Inputs<'_>, i: usize) -> Self {
        Self::constant(R::param(inputs, i))
    }
    #[inline(always)]
    fn note_params(inputs: &Inputs<'_>, names: ParamNames) {
        R::note_params(inputs, names);
    }
    #[inline(always)]
    fn reference(inputs: &Inputs<'_>, j: usize) -> Self {
        Self::constant(R::reference(inputs, j))
    }
    #[inline(always)]
    fn time(inputs: &Inputs<'_>) -> Self {
        Self::constant(R::time(inputs))
    }
    #[inline(always)]
    fn dt(inputs: &Inputs<'_>) -> Self {
        Self::constant(R::dt(inputs))
    }
    #[inline(always)]
    fn look_up<const N: usize, const C: usize>(
        inputs: &Inputs<'_>,
        field: usize,
        channel: usize,
        point: [Self; N],
    ) -> [Self; C] {
        Self::look_up_slopes(inputs, field, channel, point).0
    }
    #[inline(always)]
    fn look_up_slopes<const N: usize, const C: usize>(
        inputs: &Inputs<'_>,
        field: usize,
        channel: usize,
        point: [Self; N],
    ) -> ([Self; C], [[Self; N]; C]) {
        let mut at = [R::from(0.0); N];
        for (at, coordinate) in at.iter_mut().zip(point) {
            *at = coordinate.value;
        }
        let (values, rates) = R::look_up_slopes::<N, C>(inputs, field, channel, at);
        let (mut seen, mut by_point) = ([Self::constant(R::from(0.0)); C], [[Self::constant(R::from(0.0)); N]; C]);
        for c in 0..C {
            seen[c].value = values[c];
            for n in (0..N).rev() {
                let rate = rates[c][n];
                by_point[c][n].value = rate;
                for (slope, along) in seen[c].slopes.iter_mut().zip(point[n].slopes) {
                    *slope = if n + 1 == N { along * rate } else { along.mul_add(rate, *slope) };
                }
            }
        }
        (seen, by_point)
    }
    #[inline(always)]
    fn call<const A: usize>(function: &WgslFn<A>, arguments: [Self; A]) -> Self {
        // Near the cube root of the rounding unit, where rounding and truncation of the difference balance.
        const STEP: f32 = 1.0 / 256.0;
        let mut at = [R::from(0.0); A];
        for (value, argument) in at.iter_mut().zip(arguments) {
            *value = argument.value;
        }
        let mut result = Self::constant(R::call(function, at));
        for (i, argument) in arguments.iter().enumerate() {
            let step = at[i].abs().max(1.0) * STEP;
            let (mut above, mut below) = (at, at);
            above[i] += step;
            below[i] -= step;
            // The distance between the two arguments after rounding.
            let rise = R::call(function, above) - R::call(function, below);
            let rate = rise / (above[i] - below[i]);
            for (slope, along) in result.slopes.iter_mut().zip(argument.slopes) {
                *slope = along.mul_add(rate, *slope);
            }
        }
        result
    }
    #[inline(always)]
    fn weight(source: &ParamView<'_>, i: usize) -> Self {
        let value = R::weight(&ParamView { window: None, ..*source }, i);
        match source.window {
            Some(first) if (first..first + D).contains(&i) => Self::variable(value, i - first),
            _ => Self::constant(value),
        }
    }
    #[inline(always)]
    fn weight_at(source: &ParamView<'_>, inputs: &Inputs<'_>, table: Table, j: usize) -> Self {
        dual_weight_at(source, inputs, table, j)
    }
    #[inline(always)]
    fn accumulate(sink: &mut GradSink<'_>, i: usize, value: Self) {
        R::accumulate(sink, i, value.value);
    }
    #[inline(always)]
    fn accumulate_products(sink: &mut GradSink<'_>, first: usize, slope: Self, x: &[Self]) {
        for (i, x) in x.iter().enumerate() {
            R::accumulate_products(sink, first + i, slope.value, &[x.value]);
        }
    }
    #[inline(always)]
    fn accumulate_at(sink: &mut GradSink<'_>, inputs: &Inputs<'_>, table: Table, j: usize, value: Self) {
        R::accumulate_at(sink, inputs, table, j, value.value);
    }
    #[inline(always)]
    fn fits(network: &Network, inputs: usize, outputs: usize, size: usize) -> bool {
        R::fits(network, inputs, outputs, size * (1 + D))
    }
    #[inline(always)]
    fn note(source: &ParamView<'_>, network: &Network, size: usize) {
        R::note(source, network, size * (1 + D));
    }
    #[inline(always)]
    fn network<const I: usize, const O: usize>(source: &ParamView<'_>, network: &Network, x: [Self; I]) -> [Self; O] {
        Self::note(source, network, 1);
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
        Self::note(source, network, 1);
        network::back(source, sink, network, x, v)
    }
}

/// A dual number over eight parameters, the number differentiated by at a time.
pub(crate) type Several<R> = Dual<R, 8>;

/// Column `j` of a table as a dual number, whose variables may be in any row.
#[inline(always)]
pub(crate) fn dual_weight_at<R: Real, const D: usize>(
    source: &ParamView<'_>,
    inputs: &Inputs<'_>,
    table: Table,
    j: usize,
) -> Dual<R, D> {
    let mut dual = Dual::constant(R::weight_at(&ParamView { window: None, ..*source }, inputs, table, j));
    if let Some(first) = source.window {
        // The time may be a traced number, so the index of the parameter is not a constant here. (A table that a driver
        // refuses contains no variable, and its index must not overflow.)
        let row = R::time(inputs).min(table.rows.saturating_sub(1) as f32);
        let index = row.mul_add(table.columns as f32, table.first.saturating_add(j) as f32);
        for (d, slope) in dual.slopes.iter_mut().enumerate() {
            *slope = R::select(index.cmp_eq((first + d) as f32), 1.0, 0.0);
        }
    }
    dual
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::StepContext;
    use crate::lang::grid::{FieldSet, Grid};

    fn slope(f: impl Fn(Dual<f32, 1>) -> Dual<f32, 1>, x: f32) -> f32 {
        f(Dual::variable(x, 0)).slopes[0]
    }

    #[test]
    fn slopes_are_finite_where_there_is_no_derivative() {
        assert_eq!(slope(|x| x.max(0.0), 0.0), 0.0);
        assert_eq!(slope(|x| x.min(0.0), 0.0), 0.0);
        assert_eq!(slope(|x| x.clamp(-1.0, 1.0), -1.0), 0.0);
        assert_eq!(slope(|x| x.clamp(-1.0, 1.0), 1.0), 0.0);
        assert_eq!(slope(|x| x.clamp(-1.0, 1.0), 0.5), 1.0);
        assert_eq!(slope(|x| x.abs(), 0.0), 0.0);
        assert_eq!(slope(|x| x.abs(), -2.0), -1.0);
        assert_eq!(slope(|x| x.floor(), 1.0), 0.0);
        assert_eq!(slope(|x| x.sqrt(), 0.0), 0.0);
        assert_eq!(slope(|x| (x.square() + x.square()).sqrt(), 0.0), 0.0);
        assert_eq!(slope(|x| x.asin(), 1.0), 0.0);
        assert_eq!(slope(|x| x.acos(), -1.0), 0.0);
        assert_eq!(slope(|x| x.atan2(0.0), 0.0), 0.0);
        assert_eq!(slope(|x| x.powi(0), 0.0), 0.0);
        assert_eq!(slope(|x| x.rem_euclid(2.0), 4.0), 1.0);
        for at in [-1.5, -1.0, -0.0, 0.5, 2.0] {
            assert_eq!(slope(|x| x.ceil() + x.round() + x.trunc(), at), 0.0);
            assert_eq!(slope(|x| x.fract(), at), 1.0);
        }
        assert_eq!(slope(|x| x.cbrt(), 0.0), 0.0);
        assert_eq!(slope(|x| x.hypot(0.0), 0.0), 0.0);
        assert_eq!(slope(|x| x.hypot(x), 0.0), 0.0);
        assert_eq!(slope(|x| x.smoothstep(0.0, 1.0), 0.0), 0.0);
        assert_eq!(slope(|x| x.smoothstep(0.0, 1.0), 1.0), 0.0);
        assert_eq!(slope(|x| x.smoothstep(0.0, 1.0), 0.5), 1.5);
        assert_eq!(slope(|x| x.smoothstep(1.0, 1.0), 1.0), 0.0);
        assert_eq!(slope(|x| Dual::from(2.0).smoothstep(x, 2.0), 2.0), 0.0);
        for (exponent, expected) in
            [(-1.0, 0.0), (-0.5, 0.0), (0.0, 0.0), (0.5, 0.0), (1.0, 1.0), (1.5, 0.0), (2.0, 0.0)]
        {
            assert_eq!(slope(|x| x.powf(exponent), 0.0), expected, "of x^{exponent} at 0");
            assert_eq!(slope(|y| Dual::from(0.0).powf(y), exponent), 0.0, "of 0^y at {exponent}");
        }
        assert_eq!(slope(|x| x.powf(3.0), -2.0), 12.0);
        assert_eq!(slope(|x| x.powf(3.0), 1e-30), 0.0);
        assert_eq!(slope(|x| x.sinh(), 0.0), 1.0);
        assert_eq!(slope(|x| x.cosh(), 0.0), 0.0);
        assert_eq!(slope(|x| x.atan(), 1e30), 0.0);
        assert_eq!(slope(|x| x.wrap_angle(), 9.0), 1.0);
    }

    #[test]
    fn a_power_that_overflows_has_no_slope_along_a_constant() {
        assert_eq!(slope(|x| x.powf(60.0), 10.0), f32::INFINITY);
        assert_eq!(slope(|y| Dual::from(10.0).powf(y), 60.0), f32::INFINITY);
        let [x, _] = Dual::<f32, 2>::variables([10.0, 0.0]);
        assert_eq!(x.powf(60.0).slopes, [f32::INFINITY, 0.0]);
        // Here only the derivative by the base overflows: 1.1 · 10⁶³.
        let by_exponent = slope(|y| Dual::from(1e-30).powf(y), -1.1);
        assert!((by_exponent / (1e33 * 1e-30_f32.ln()) - 1.0).abs() < 1e-4, "{by_exponent}");
    }

    #[test]
    fn a_power_has_second_derivatives_where_the_slope_of_its_exponent_is_zero() {
        // 2^(t²) at 0: the second derivative is 2 ln 2.
        let t = Dual::<Dual<f32, 1>, 1>::variable(Dual::variable(0.0, 0), 0);
        let power = Dual::from(2.0).powf(t * t);
        assert!((power.slopes[0].slopes[0] - 2.0 * LN_2).abs() < 1e-6, "{power:?}");
    }

    #[test]
    fn the_angle_of_a_far_and_of_a_near_point_has_a_slope() {
        for size in [1e-30, 1e30] {
            let by_y = slope(|y| y.atan2(size), 0.0);
            assert!((by_y * size - 1.0).abs() < 1e-6, "{by_y} at {size}");
        }
    }

    #[test]
    fn a_far_and_a_near_distance_has_a_slope() {
        for size in [1e-37_f32, 1e-20, 1e20, 2e38] {
            let by_x = slope(|x| x.hypot(size), size);
            assert!((by_x - std::f32::consts::FRAC_1_SQRT_2).abs() < 1e-6, "{by_x} at {size}");
        }
    }

    #[test]
    fn a_dual_of_a_dual_has_second_derivatives() {
        // x³ at 2: the value is 8, both derivatives are 12.
        let x = Dual::<Dual<f32, 1>, 1>::variable(Dual::variable(2.0, 0), 0);
        let cube = x.powi(3);
        assert_eq!((cube.value.value, cube.slopes[0].value, cube.slopes[0].slopes[0]), (8.0, 12.0, 12.0));
    }

    #[test]
    fn a_field_has_the_slopes_of_its_cell() {
        let fields = FieldSet::new(&[Grid::from_fn(8, 8, 0.5, [-2.0, -2.0], |x, y| 3.0 * x - y).unwrap()]);
        let at = StepContext::new(0, 0.1).with_fields(&fields);
        let [x, y] = Dual::<f32, 2>::variables([0.3, -0.4]);
        let seen = at.sample(0, x * 2.0, y);
        assert_eq!(seen.value, StepContext::new(0, 0.1).with_fields(&fields).sample(0, 0.6_f32, -0.4));
        assert!((seen.slopes[0] - 6.0).abs() < 1e-5 && (seen.slopes[1] + 1.0).abs() < 1e-5, "{seen:?}");
    }

    #[test]
    fn a_hand_written_function_is_differentiated_by_differences() {
        let product = WgslFn { name: "f", source: "", twin: |[a, b]: [f32; 2]| a.sin() * b };
        let [a, b] = Dual::variables([0.7_f32, 300.0]);
        let seen = product.call([a, b]);
        assert_eq!(seen.value, 0.7_f32.sin() * 300.0);
        assert!((seen.slopes[0] / (300.0 * 0.7_f32.cos()) - 1.0).abs() < 5e-5, "{seen:?}");
        assert!((seen.slopes[1] / 0.7_f32.sin() - 1.0).abs() < 5e-5, "{seen:?}");
    }
}
