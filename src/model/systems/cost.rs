//! The quadratic cost that most of the models share.

use gibbs_macros::model;

use crate::lang::{Real, StepContext};
use crate::model::Cost;

/// A weighted squared distance to a state, and to a control:
/// Σ `state`ᵢ (xᵢ − `target`ᵢ)² + Σ `control`ⱼ (uⱼ − `trim`ⱼ)², and Σ `terminal`ᵢ (xᵢ − `target`ᵢ)² at the end.
///
/// The default is zero everywhere, so only nonzero weights need to be given. The [terms](StepContext::term) are
/// `state`, which includes the end, and `control`.
///
/// # Example
///
/// ```
/// use gibbs::models::Quadratic;
/// use gibbs::{Cost, StepContext};
/// use std::f32::consts::PI;
///
/// // Face west, as a unicycle: −3 rad is 0.14 rad away from π, not 6.14.
/// let west = Quadratic::<3, 2> {
///     target: [0.0, 0.0, PI],
///     angles: [false, false, true],
///     state: [0.0, 0.0, 1.0],
///     ..Quadratic::default()
/// };
/// let cost = west.cost(&StepContext::new(0, 0.1), [5.0_f32, 0.0, -3.0], [1.0, 0.0]);
/// assert!((cost - (PI - 3.0).powi(2)).abs() < 1e-5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quadratic<const N: usize, const M: usize> {
    /// The state with zero cost.
    pub target: [f32; N],
    /// Which states are angles (in radians): their differences are wrapped to [−π, π).
    pub angles: [bool; N],
    /// The weight of each state in the running cost.
    pub state: [f32; N],
    /// The weight of each state at the end of the horizon.
    pub terminal: [f32; N],
    /// The control with zero cost: for example the thrust that hovers.
    pub trim: [f32; M],
    /// The weight of each control.
    pub control: [f32; M],
}

impl<const N: usize, const M: usize> Default for Quadratic<N, M> {
    fn default() -> Self {
        Self {
            target: [0.0; N],
            angles: [false; N],
            state: [0.0; N],
            terminal: [0.0; N],
            trim: [0.0; M],
            control: [0.0; M],
        }
    }
}

#[model]
impl<const N: usize, const M: usize> Quadratic<N, M> {
    fn distance<R: Real>(&self, x: [R; N], weights: [f32; N]) -> R {
        let mut sum = R::from(0.0);
        for i in 0..N {
            let error = x[i] - self.target[i];
            let error = if self.angles[i] { error.wrap_angle() } else { error };
            sum = error.square().mul_add(weights[i], sum);
        }
        sum
    }

    /// Adds the cost of a control to `sum`.
    fn add_control<R: Real>(&self, mut sum: R, u: [R; M]) -> R {
        #[expect(clippy::needless_range_loop, reason = "an iterator over SIMD values may not be inlined")]
        for j in 0..M {
            if self.control[j] != 0.0 {
                sum = (u[j] - self.trim[j]).square().mul_add(self.control[j], sum);
            }
        }
        sum
    }
}

// The attribute `model` would refuse the closure of `note_term`, which is called on plain numbers only.
impl<const N: usize, const M: usize> Cost<N, M> for Quadratic<N, M> {
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; N], u: [R; M]) -> R {
        let state = at.term("state", self.distance(x, self.state));
        at.note_term("control", || self.add_control(R::from(0.0), u));
        self.add_control(state, u)
    }
    #[inline(always)]
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; N]) -> R {
        at.term("state", self.distance(x, self.terminal))
    }
}
