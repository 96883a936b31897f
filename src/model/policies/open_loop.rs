//! A control sequence.

use gibbs_macros::model;

use crate::lang::random::Random;
use crate::lang::{GradientAccumulator, Params, Real, StepContext, Table};
use crate::model::policy::Policy;

/// A control for each time step, independent of the state: θ = U, T × M, time step by time step. Past the last time
/// step, its control is kept.
///
/// With Gaussian noise this is the sampling distribution of MPPI. It starts from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenLoop {
    /// T, the number of time steps. 0 makes a policy without parameters, which drivers refuse.
    pub horizon: usize,
}

#[model]
impl OpenLoop {
    fn table<const M: usize>(&self) -> Table {
        Table { first: 0, rows: self.horizon, columns: M }
    }
}

#[model]
impl<const N: usize, const M: usize> Policy<N, M> for OpenLoop {
    fn parameters(&self) -> usize {
        self.horizon.saturating_mul(M)
    }
    fn act<R: Real>(&self, at: &StepContext<R>, theta: &Params<R>, _x: [R; N]) -> [R; M] {
        let mut u = [R::from(0.0); M];
        for m in 0..M {
            u[m] = theta.at(at, self.table::<M>(), m);
        }
        u
    }
    fn vjp<R: Real>(
        &self,
        at: &StepContext<R>,
        theta: &Params<R>,
        x: [R; N],
        v: [R; M],
        g: &mut GradientAccumulator<R>,
    ) -> [R; M] {
        for m in 0..M {
            g.add_at(at, self.table::<M>(), m, v[m]);
        }
        self.act(at, theta, x)
    }
    fn information(&self, horizon: usize, precision: [f32; M]) -> Option<Vec<f32>> {
        // The last control applies to all later time steps; a control that is never applied has no information.
        let times = |t: usize| match t + 1 {
            last if last == self.horizon => horizon.saturating_sub(t),
            _ => usize::from(t < horizon),
        };
        Some((0..self.horizon).flat_map(|t| precision.map(|p| times(t) as f32 * p)).collect())
    }
    fn initial(&self, _random: &mut Random) -> Vec<f32> {
        vec![0.0; Policy::<N, M>::parameters(self)]
    }
}
