//! Linear feedback, with constant or time-varying gains.

use gibbs_macros::model;

use crate::lang::random::Random;
use crate::lang::{GradientAccumulator, Params, Real, StepContext, Table};
use crate::model::policy::Policy;

/// Linear feedback u = K x + k. θ: for each control its row of K (`N` numbers), then its offset k.
///
/// It starts from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinearFeedback;

/// Linear feedback with different gains at every time step: u = K_t x + k_t. θ: for each time step, the parameters of
/// [`LinearFeedback`]. Past the last time step, its gains are kept.
///
/// It starts from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeVaryingFeedback {
    /// T, the number of time steps. 0 makes a policy without parameters, which drivers refuse.
    pub horizon: usize,
}

/// The gains of `rows` time steps.
#[model]
fn gains<const N: usize, const M: usize>(rows: usize) -> Table {
    Table { first: 0, rows, columns: (N + 1) * M }
}

#[model]
fn act<const N: usize, const M: usize, R: Real>(
    table: Table,
    at: &StepContext<R>,
    theta: &Params<R>,
    x: [R; N],
) -> [R; M] {
    let mut u = [R::from(0.0); M];
    for m in 0..M {
        let mut sum = theta.at(at, table, m * (N + 1) + N);
        for i in 0..N {
            sum = theta.at(at, table, m * (N + 1) + i).mul_add(x[i], sum);
        }
        u[m] = sum;
    }
    u
}

#[model]
fn vjp<const N: usize, const M: usize, R: Real>(
    table: Table,
    at: &StepContext<R>,
    x: [R; N],
    v: [R; M],
    g: &mut GradientAccumulator<R>,
) {
    for m in 0..M {
        for i in 0..N {
            g.add_at(at, table, m * (N + 1) + i, v[m] * x[i]);
        }
        g.add_at(at, table, m * (N + 1) + N, v[m]);
    }
}

#[model]
impl<const N: usize, const M: usize> Policy<N, M> for LinearFeedback {
    fn parameters(&self) -> usize {
        (N + 1) * M
    }
    fn act<R: Real>(&self, at: &StepContext<R>, theta: &Params<R>, x: [R; N]) -> [R; M] {
        act(gains::<N, M>(1), at, theta, x)
    }
    fn vjp<R: Real>(
        &self,
        at: &StepContext<R>,
        theta: &Params<R>,
        x: [R; N],
        v: [R; M],
        g: &mut GradientAccumulator<R>,
    ) -> [R; M] {
        vjp(gains::<N, M>(1), at, x, v, g);
        act(gains::<N, M>(1), at, theta, x)
    }
    fn initial(&self, _random: &mut Random) -> Vec<f32> {
        vec![0.0; (N + 1) * M]
    }
}

#[model]
impl<const N: usize, const M: usize> Policy<N, M> for TimeVaryingFeedback {
    fn parameters(&self) -> usize {
        self.horizon.saturating_mul((N + 1) * M)
    }
    fn act<R: Real>(&self, at: &StepContext<R>, theta: &Params<R>, x: [R; N]) -> [R; M] {
        act(gains::<N, M>(self.horizon), at, theta, x)
    }
    fn vjp<R: Real>(
        &self,
        at: &StepContext<R>,
        theta: &Params<R>,
        x: [R; N],
        v: [R; M],
        g: &mut GradientAccumulator<R>,
    ) -> [R; M] {
        vjp(gains::<N, M>(self.horizon), at, x, v, g);
        act(gains::<N, M>(self.horizon), at, theta, x)
    }
    fn initial(&self, _random: &mut Random) -> Vec<f32> {
        vec![0.0; Policy::<N, M>::parameters(self)]
    }
}
