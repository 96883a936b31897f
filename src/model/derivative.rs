//! Derivatives of whole models, by [`Dual`] numbers: exact to rounding, no step size to choose.

use super::Model;
pub use crate::interp::dual::Dual;
use crate::lang::StepContext;

/// The linearization of a model's step about (`x`, `u`): A = ∂step/∂x (`N` × `N`) and B = ∂step/∂u (`N` × `M`).
///
/// `A[i][j]` is the derivative of component i of the next state by component j of the state, so that step(x + δx, u +
/// δu) ≈ step(x, u) + A δx + B δu. [`Dual`] documents the slopes at kinks.
///
/// # Example
///
/// ```
/// use gibbs::derivative::jacobian;
/// use gibbs::{Model, Real, StepContext};
///
/// /// A pendulum (state: angle from hanging, in radians, and rate; control: torque) of unit mass and length.
/// struct Pendulum;
///
/// impl Model<2, 1> for Pendulum {
///     #[inline(always)]
///     fn step<R: Real>(&self, at: &StepContext<R>, [q, w]: [R; 2], [u]: [R; 1]) -> [R; 2] {
///         [q + w * at.dt(), w + (u - q.sin() * 9.81) * at.dt()]
///     }
///     #[inline(always)]
///     fn cost<R: Real>(&self, _at: &StepContext<R>, [q, _]: [R; 2], [u]: [R; 1]) -> R {
///         q.square() + u.square() * 0.1
///     }
/// }
///
/// let (a, b) = jacobian(&Pendulum, &StepContext::new(0, 0.5), [0.0, 0.0], [0.0]);
/// assert_eq!(a, [[1.0, 0.5], [-4.905, 1.0]]);
/// assert_eq!(b, [[0.0], [0.5]]);
/// ```
pub fn jacobian<const N: usize, const M: usize>(
    model: &impl Model<N, M>,
    at: &StepContext<f32>,
    x: [f32; N],
    u: [f32; M],
) -> ([[f32; N]; N], [[f32; M]; N]) {
    let by_x = model.step(&StepContext::over(at.inputs), Dual::variables(x), u.map(Dual::constant));
    let by_u = model.step(&StepContext::over(at.inputs), x.map(Dual::constant), Dual::variables(u));
    (by_x.map(|next| next.slopes), by_u.map(|next| next.slopes))
}

/// The gradient of a model's running cost at (`x`, `u`): ∂cost/∂x (`N` numbers) and ∂cost/∂u (`M` numbers).
///
/// # Example
///
/// ```
/// use gibbs::derivative::cost_gradient;
/// # use gibbs::{Model, Real, StepContext};
/// # struct Cart;
/// # impl Model<2, 1> for Cart {
/// #     fn step<R: Real>(&self, _at: &StepContext<R>, x: [R; 2], _u: [R; 1]) -> [R; 2] { x }
/// #     fn cost<R: Real>(&self, _at: &StepContext<R>, [p, v]: [R; 2], [a]: [R; 1]) -> R {
/// #         (p - 1.0).square() + v.square() * 0.5 + a.square() * 0.25
/// #     }
/// # }
///
/// // (p − 1)² + v²/2 + a²/4
/// let (by_x, by_u) = cost_gradient(&Cart, &StepContext::new(0, 0.1), [3.0, 2.0], [6.0]);
/// assert_eq!((by_x, by_u), ([4.0, 2.0], [3.0]));
/// ```
pub fn cost_gradient<const N: usize, const M: usize>(
    model: &impl Model<N, M>,
    at: &StepContext<f32>,
    x: [f32; N],
    u: [f32; M],
) -> ([f32; N], [f32; M]) {
    let by_x = model.cost(&StepContext::over(at.inputs), Dual::variables(x), u.map(Dual::constant));
    let by_u = model.cost(&StepContext::over(at.inputs), x.map(Dual::constant), Dual::variables(u));
    (by_x.slopes, by_u.slopes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::Real;

    /// Uses every input of a step context in one step.
    struct Mixed;

    impl Model<2, 1> for Mixed {
        #[inline(always)]
        fn step<R: Real>(&self, at: &StepContext<R>, [a, b]: [R; 2], [u]: [R; 1]) -> [R; 2] {
            let gain = at.param(0) + at.reference(0) * at.index();
            [(a * b).sin() + u * gain * at.dt(), (a - u).atan2(b) * at.param(1) + u.exp()]
        }
        #[inline(always)]
        fn cost<R: Real>(&self, at: &StepContext<R>, [a, b]: [R; 2], [u]: [R; 1]) -> R {
            (a.square() + b.square()).sqrt() * at.param(0) + (u * b).tanh()
        }
    }

    /// The slope of a function by one of its arguments, by central differences.
    fn difference<const I: usize>(f: impl Fn([f32; I]) -> f32, x: [f32; I], i: usize) -> f32 {
        let (mut above, mut below) = (x, x);
        above[i] += 1.0 / 128.0;
        below[i] -= 1.0 / 128.0;
        (f(above) - f(below)) * 64.0
    }

    #[test]
    fn derivatives_of_a_model_are_those_of_differences() {
        let at = StepContext::new(3, 0.25).with_params(&[1.5, 0.5]).with_reference(&[0.25]);
        let (x, u) = ([0.8, 1.3], [0.4]);
        let (a, b) = jacobian(&Mixed, &at, x, u);
        let (cost_x, cost_u) = cost_gradient(&Mixed, &at, x, u);
        let near = |got: f32, want: f32| assert!((got - want).abs() < 1e-3, "{got}, but differences say {want}");
        for i in 0..2 {
            for (j, &slope) in a[i].iter().enumerate() {
                near(slope, difference(|x| Mixed.step(&at, x, u)[i], x, j));
            }
            near(b[i][0], difference(|u| Mixed.step(&at, x, u)[i], u, 0));
            near(cost_x[i], difference(|x| Mixed.cost(&at, x, u), x, i));
        }
        near(cost_u[0], difference(|u| Mixed.cost(&at, x, u), u, 0));
    }
}
