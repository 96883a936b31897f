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
/// #[gibbs::model]
/// impl Model<2, 1> for Pendulum {
///     fn step<R: Real>(&self, at: &StepContext<R>, [q, w]: [R; 2], [u]: [R; 1]) -> [R; 2] {
///         [q + w * at.dt(), w + (u - q.sin() * 9.81) * at.dt()]
///     }
///     fn cost<R: Real>(&self, _at: &StepContext<R>, [q, _]: [R; 2], [u]: [R; 1]) -> R {
///         q.square() + u.square() * 0.1
///     }
/// }
///
/// let (a, b) = jacobian(&Pendulum, &StepContext::new(0, 0.5), [0.0, 0.0], [0.0]);
/// assert_eq!(a, [[1.0, 0.5], [-4.905, 1.0]]);
/// assert_eq!(b, [[0.0], [0.5]]);
/// ```
#[inline(always)]
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

/// The second derivatives of a cost: see [`cost_hessian`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct CostHessian<const N: usize, const M: usize> {
    /// ∂²cost/∂x², `N` × `N`.
    pub xx: [[f32; N]; N],
    /// ∂²cost/∂x∂u, `N` × `M`.
    pub xu: [[f32; M]; N],
    /// ∂²cost/∂u², `M` × `M`.
    pub uu: [[f32; M]; M],
}

/// The second derivatives of a model's running cost at (`x`, `u`), by duals of duals. [`Dual`] documents where they are
/// set to 0.
///
/// # Example
///
/// ```
/// use gibbs::derivative::cost_hessian;
/// # use gibbs::{Model, Real, StepContext};
/// # struct Cart;
/// # impl Model<2, 1> for Cart {
/// #     fn step<R: Real>(&self, _at: &StepContext<R>, x: [R; 2], _u: [R; 1]) -> [R; 2] { x }
/// #     fn cost<R: Real>(&self, _at: &StepContext<R>, [p, v]: [R; 2], [a]: [R; 1]) -> R {
/// #         p.square() * v + v * a + a.square() * 0.25
/// #     }
/// # }
///
/// // p² v + v a + a²/4
/// let hessian = cost_hessian(&Cart, &StepContext::new(0, 0.1), [3.0, 2.0], [6.0]);
/// assert_eq!(hessian.xx, [[4.0, 6.0], [6.0, 0.0]]);
/// assert_eq!((hessian.xu, hessian.uu), ([[0.0], [1.0]], [[0.5]]));
/// ```
#[inline(always)]
pub fn cost_hessian<const N: usize, const M: usize>(
    model: &impl Model<N, M>,
    at: &StepContext<f32>,
    x: [f32; N],
    u: [f32; M],
) -> CostHessian<N, M> {
    let mut hessian = CostHessian { xx: [[0.0; N]; N], xu: [[0.0; M]; N], uu: [[0.0; M]; M] };
    // One outer direction at a time, since a state of duals of N duals each may not fit on the stack.
    let (state, control) = (Dual::variables(x), Dual::variables(u));
    for (i, row) in hessian.xx.iter_mut().enumerate() {
        let u = u.map(|u| Dual::constant(Dual::constant(u)));
        *row = model.cost(&StepContext::over(at.inputs), along(state, i), u).slopes[0].slopes;
    }
    for j in 0..M {
        let u = along(u.map(Dual::constant), j);
        let by_x = model.cost(&StepContext::over(at.inputs), state.map(Dual::constant), u).slopes[0].slopes;
        (0..N).for_each(|i| hessian.xu[i][j] = by_x[i]);
        let x = x.map(|x| Dual::constant(Dual::constant(x)));
        hessian.uu[j] = model.cost(&StepContext::over(at.inputs), x, along(control, j)).slopes[0].slopes;
    }
    hessian
}

/// The second derivatives of a model's terminal cost at `x`, as those of a cost that does not depend on the control.
#[inline(always)]
pub(crate) fn terminal_hessian<const N: usize, const M: usize>(
    model: &impl Model<N, M>,
    at: &StepContext<f32>,
    x: [f32; N],
) -> CostHessian<N, M> {
    let mut hessian = CostHessian { xx: [[0.0; N]; N], xu: [[0.0; M]; N], uu: [[0.0; M]; M] };
    for (i, row) in hessian.xx.iter_mut().enumerate() {
        *row = model.terminal(&StepContext::over(at.inputs), along(Dual::variables(x), i)).slopes[0].slopes;
    }
    hessian
}

/// Adds an outer direction to numbers: that of component `i`.
#[inline(always)]
fn along<const K: usize, const D: usize>(values: [Dual<f32, D>; K], i: usize) -> [Dual<Dual<f32, D>, 1>; K] {
    let mut values = values.map(Dual::constant);
    values[i] = Dual::variable(values[i].value, 0);
    values
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
        #[inline(always)]
        fn terminal<R: Real>(&self, _at: &StepContext<R>, [a, b]: [R; 2]) -> R {
            a.square() * a * b
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

    #[test]
    fn second_derivatives_of_a_cost_are_those_of_differences_of_its_gradient() {
        let at = StepContext::new(3, 0.25).with_params(&[1.5, 0.5]).with_reference(&[0.25]);
        let (x, u) = ([0.8, 1.3], [0.4]);
        let CostHessian { xx, xu, uu } = cost_hessian(&Mixed, &at, x, u);
        let terminal = terminal_hessian(&Mixed, &at, x);
        let near = |got: f32, want: f32| assert!((got - want).abs() < 1e-3, "{got}, but differences say {want}");
        for i in 0..2 {
            for j in 0..2 {
                near(xx[i][j], difference(|x| cost_gradient(&Mixed, &at, x, u).0[i], x, j));
                // The terminal cost is a³ b.
                let [a, b] = x;
                near(terminal.xx[i][j], [[6.0 * a * b, 3.0 * a * a], [3.0 * a * a, 0.0]][i][j]);
            }
            near(xu[i][0], difference(|u| cost_gradient(&Mixed, &at, x, u).0[i], u, 0));
        }
        near(uu[0][0], difference(|u| cost_gradient(&Mixed, &at, x, u).1[0], u, 0));
    }
}
