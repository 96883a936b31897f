//! The diffusion planner: a method of [`Planner`] whose passes are the levels of a
//! [`ReverseProcess`](crate::sampling::ReverseProcess).

pub(crate) mod options;

use crate::control::planner::Planner;
use crate::control::planner::algorithm::sealed::Sealed;
use crate::control::planner::algorithm::{Algorithm, shared_options};
use crate::error::InvalidValue;
use crate::kernels::pass::{ANTITHETIC, DEMONSTRATED, NOMINAL_FIRST, Pass};
use options::DiffusionOptions;

/// A [`Planner`] that improves its plan by a reverse diffusion process: model-based diffusion, from one long anneal to
/// a few levels per control step with a warm start. (H. Xue et al., *Full-order sampling-based MPC for torque-level
/// locomotion control via diffusion-style annealing*, arXiv 2409.15610.)
pub type DiffusionPlanner<const N: usize, const M: usize, D> = Planner<N, M, D, DiffusionOptions<M>>;

impl<const M: usize> Sealed for DiffusionOptions<M> {}

impl<const M: usize> Algorithm<M> for DiffusionOptions<M> {
    /// Rows around the control sequence of each chain, rollout costs, e^{−J/λ}, their mean, the step of the sampler.
    fn passes(&self, mut first: Pass, list: &mut Vec<Pass>) {
        first.set(NOMINAL_FIRST, self.nominal_first);
        first.set(ANTITHETIC, self.antithetic);
        if let Some(cost) = self.demonstration {
            first.set(DEMONSTRATED, true);
            first.demonstrated = cost;
        }
        self.weighting.set(&mut first);
        self.process.passes(first, list);
    }

    fn check(&self, _regular: bool, _white: bool) -> Result<(), InvalidValue> {
        self.check_own()
    }

    fn averages(&self) -> bool {
        self.horizon_average
    }

    fn std_scale(&self, t: usize) -> Option<f32> {
        self.horizon_annealing
            .map(|beta| (-((self.task.horizon - t) as f32) / (2.0 * beta * self.task.horizon as f32)).exp())
    }

    fn scatter(&self) -> f32 {
        if self.scatter { self.process.prior() } else { 0.0 }
    }

    shared_options!();

    fn chains(&self) -> usize {
        self.chains
    }
}
