//! The gains of the time-varying linear quadratic regulator along a trajectory, backward from its end.

use pulp::{Simd, WithSimd};

use super::{FeedbackWeights, matrix};
use crate::error::FeedbackError;
use crate::lang::{StepContext, Timeline};
use crate::model::Model;
use crate::model::derivative::{CostHessian, cost_hessian, jacobian, terminal_hessian};

/// Computes the gains along a trajectory, with the vector instructions switched on.
pub(super) struct Recursion<'a, const N: usize, const M: usize, D> {
    pub(super) model: &'a D,
    pub(super) timeline: &'a Timeline<'a>,
    pub(super) weights: &'a FeedbackWeights<N, M>,
    /// T + 1 states.
    pub(super) states: &'a [[f32; N]],
    pub(super) controls: &'a [[f32; M]],
    /// T gains, 0 at first.
    pub(super) gains: &'a mut [[[f32; N]; M]],
    /// The second derivatives of the cost by state and control, row by row, and scratch of the same size; empty unless
    /// the weights are those of the cost.
    pub(super) curvature: &'a mut [f64],
    pub(super) scratch: &'a mut [f64],
}

/// The weights of one time step: δx⁺ᵀ Q δx⁺ + 2 δx⁺ᵀ C δu + δuᵀ R δu, where x⁺ is the state that it leads to.
struct StepWeights<const N: usize, const M: usize> {
    q: [[f64; N]; N],
    c: [[f64; M]; N],
    r: [[f64; M]; M],
}

impl<const N: usize, const M: usize, D: Model<N, M>> WithSimd for Recursion<'_, N, M, D> {
    type Output = Result<(), FeedbackError>;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> Result<(), FeedbackError> {
        let (horizon, reached) = (self.controls.len(), self.reached());
        let mut p = self.terminal_weights(horizon, reached)?;
        for t in (0..reached).rev() {
            let at = StepContext::over(self.timeline.at(t));
            let (a, b) = jacobian(self.model, &at, self.states[t], self.controls[t]);
            if !(is_finite(&a) && is_finite(&b)) {
                return Err(FeedbackError::NonFinite { what: "linearization of the model", time_step: t });
            }
            let weights = self.step_weights(t)?;
            let gain;
            (p, gain) =
                riccati_step(&p, &a, &b, &weights).ok_or(FeedbackError::NonFinite { what: "gain", time_step: t })?;
            self.gains[t] = gain;
        }
        Ok(())
    }
}

impl<const N: usize, const M: usize, D: Model<N, M>> Recursion<'_, N, M, D> {
    /// Returns the number of time steps until the model is done.
    #[inline(always)]
    fn reached(&self) -> usize {
        let horizon = self.controls.len();
        let done =
            |t: usize| self.model.done(&StepContext::over(self.timeline.at(t.saturating_sub(1))), self.states[t]);
        (0..horizon).find(|&t| done(t)).unwrap_or(horizon)
    }

    /// Returns P at the end of the trajectory.
    #[inline(always)]
    fn terminal_weights(&mut self, horizon: usize, reached: usize) -> Result<[[f64; N]; N], FeedbackError> {
        match self.weights {
            FeedbackWeights::Quadratic { terminal, .. } => Ok(matrix::symmetric(terminal)),
            FeedbackWeights::FromCost { .. } => {
                let at = StepContext::over(self.timeline.at(horizon));
                let hessian = terminal_hessian(self.model, &at, self.states[reached]);
                self.project(horizon, &hessian).map(|weights| weights.q)
            }
        }
    }

    #[inline(always)]
    fn step_weights(&mut self, t: usize) -> Result<StepWeights<N, M>, FeedbackError> {
        match self.weights {
            FeedbackWeights::Quadratic { state, control, .. } => {
                let (q, r) = (matrix::symmetric(state), matrix::symmetric(control));
                Ok(StepWeights { q, c: [[0.0; M]; N], r })
            }
            FeedbackWeights::FromCost { control } => {
                let at = StepContext::over(self.timeline.at(t));
                let hessian = cost_hessian(self.model, &at, self.states[t + 1], self.controls[t]);
                let mut weights = self.project(t, &hessian)?;
                for j in 0..M {
                    weights.r[j][j] += f64::from(control[j]);
                }
                Ok(weights)
            }
        }
    }

    /// Returns half of the second derivatives of a cost, projected to a positive semidefinite matrix.
    #[inline(always)]
    fn project(&mut self, time_step: usize, hessian: &CostHessian<N, M>) -> Result<StepWeights<N, M>, FeedbackError> {
        if !(is_finite(&hessian.xx) && is_finite(&hessian.xu) && is_finite(&hessian.uu)) {
            return Err(FeedbackError::NonFinite { what: "second derivative of the cost", time_step });
        }
        let n = N + M;
        let (q, r) = (matrix::symmetric(&hessian.xx), matrix::symmetric(&hessian.uu));
        for i in 0..N {
            for j in 0..N {
                self.curvature[i * n + j] = 0.5 * q[i][j];
            }
            for j in 0..M {
                let half = 0.5 * f64::from(hessian.xu[i][j]);
                (self.curvature[i * n + N + j], self.curvature[(N + j) * n + i]) = (half, half);
            }
        }
        for i in 0..M {
            for j in 0..M {
                self.curvature[(N + i) * n + N + j] = 0.5 * r[i][j];
            }
        }
        matrix::project(self.curvature, self.scratch);
        let entry = |i: usize, j: usize| self.curvature[i * n + j];
        Ok(StepWeights {
            q: std::array::from_fn(|i| std::array::from_fn(|j| entry(i, j))),
            c: std::array::from_fn(|i| std::array::from_fn(|j| entry(i, N + j))),
            r: std::array::from_fn(|i| std::array::from_fn(|j| entry(N + i, N + j))),
        })
    }
}

fn is_finite<const C: usize>(matrix: &[[f32; C]]) -> bool {
    matrix.as_flattened().iter().all(|v| v.is_finite())
}

/// P, and the gain of a time step.
type Solution<const N: usize, const M: usize> = ([[f64; N]; N], [[f32; N]; M]);

/// One step of the recursion, from P after the step to P before it and the gain. Returns `None` if the gain is not
/// finite.
///
/// With S = Q + P⁺, H = (S B + C)ᵀ A and G = R + Bᵀ (S B + C) + Cᵀ B: K = G⁻¹ H. With F = A − B K, Joseph's form P =
/// Fᵀ (S F − C K) + Kᵀ (R K − Cᵀ F) stays positive semidefinite whatever the rounding of K.
#[inline(always)]
fn riccati_step<const N: usize, const M: usize>(
    p: &[[f64; N]; N],
    a: &[[f32; N]; N],
    b: &[[f32; M]; N],
    weights: &StepWeights<N, M>,
) -> Option<Solution<N, M>> {
    let (a, b) = (a.map(|row| row.map(f64::from)), b.map(|row| row.map(f64::from)));
    let StepWeights { q, c, r } = weights;
    let s = combine(q, 1.0, p);
    let sb = combine(&product(&s, &b), 1.0, c);
    let mut g = combine(&combine(r, 1.0, &product_of_transpose(&b, &sb)), 1.0, &product_of_transpose(c, &b));
    let mut k = product_of_transpose(&sb, &a);
    matrix::cholesky(&mut g).ok()?;
    matrix::solve(&g, &mut k);
    let gain = k.map(|row| row.map(|v| v as f32));
    if !is_finite(&gain) {
        return None;
    }

    let f = combine(&a, -1.0, &product(&b, &k));
    let by_state = combine(&product(&s, &f), -1.0, &product(c, &k));
    let by_control = combine(&product(r, &k), -1.0, &product_of_transpose(c, &f));
    let sum = combine(&product_of_transpose(&f, &by_state), 1.0, &product_of_transpose(&k, &by_control));
    // Nothing damps rounding in the antisymmetric part.
    let p = std::array::from_fn(|i| std::array::from_fn(|j| 0.5 * (sum[i][j] + sum[j][i])));
    Some((p, gain))
}

/// X + factor Y.
#[inline(always)]
fn combine<const I: usize, const J: usize>(x: &[[f64; J]; I], factor: f64, y: &[[f64; J]; I]) -> [[f64; J]; I] {
    let mut sum = *x;
    for i in 0..I {
        for j in 0..J {
            sum[i][j] += factor * y[i][j];
        }
    }
    sum
}

/// X Y.
#[inline(always)]
fn product<const I: usize, const K: usize, const J: usize>(x: &[[f64; K]; I], y: &[[f64; J]; K]) -> [[f64; J]; I] {
    let mut z = [[0.0; J]; I];
    for i in 0..I {
        for k in 0..K {
            for j in 0..J {
                z[i][j] += x[i][k] * y[k][j];
            }
        }
    }
    z
}

/// Xᵀ Y.
#[inline(always)]
fn product_of_transpose<const I: usize, const K: usize, const J: usize>(
    x: &[[f64; I]; K],
    y: &[[f64; J]; K],
) -> [[f64; J]; I] {
    let mut z = [[0.0; J]; I];
    for k in 0..K {
        for i in 0..I {
            for j in 0..J {
                z[i][j] += x[k][i] * y[k][j];
            }
        }
    }
    z
}
