//! Options of a diffusion planner.

use crate::control::planner::actuation::Smoothing;
use crate::control::planner::options::{Fallback, ShiftFill};
use crate::error::{InvalidValue, in_range};
use crate::kernels::propose::noise::Noise;
use crate::kernels::propose::shape::NoiseShape;
use crate::kernels::weigh::weighting::{Temperature, Weighting};
use crate::runtime::task::Task;
use crate::sampling::process::ReverseProcess;

/// The options of a diffusion planner. `..Default::default()` fills in the rest: model-based diffusion with the
/// published numbers (2,048 rows, 100 levels, horizon 50, τ = 0.1, one chain that starts at the plan).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default = "Default::default", deny_unknown_fields))]
pub struct DiffusionOptions<const M: usize> {
    /// The task: horizon, time step, limits, inputs of the model, seed.
    pub task: Task<M>,
    /// K, the rollouts per level and chain; at least 1. Default: 2,048.
    pub samples: usize,
    /// B, the chains that run in parallel, each with its own noise; at least 1. The chain of least cost becomes the
    /// plan. Default: 1.
    pub chains: usize,
    /// Levels and sampler. A level σ means σ standard deviations of `noise`. Default: 100 levels of score ascent, as
    /// published.
    pub process: ReverseProcess,
    /// How costs become weights: exponentially with a temperature λ, by an elite, or by the best row alone. Signed
    /// weights are refused. Default: `Standardized(0.1)`.
    pub weighting: Weighting,
    /// Σ, the covariance of the noise at σ = 1. Default: a standard deviation of 1 for each control.
    pub noise: Noise<M>,
    /// The dependence of the noise (of the rows and of the step) at different time steps: white, splines between knots,
    /// or colored. Default: white.
    pub noise_shape: NoiseShape,
    /// Whether costs are averaged over the horizon, as published. This determines the unit of a fixed λ, of
    /// `demonstration`, and of the least standard deviation that [`Temperature::Standardized`] divides by. Default:
    /// true.
    pub horizon_average: bool,
    /// With Some(β), above 0: less noise on controls that are applied sooner, by e^{−(T − t)/(2βT)} at step t, since a
    /// warm start has improved them longer. (Unless noise is white: on knots, or on innovations of colored noise, at
    /// step t.) (DIAL-MPC, arXiv 2409.15610.) Default: none.
    pub horizon_annealing: Option<f32>,
    /// With `Some(cost)`, rows are also weighed by their distance from a demonstration, if that lowers their cost. The
    /// nearest row is assigned this cost, and the others more, by their
    /// [`demonstration_cost`](crate::model::Model::demonstration_cost): J = min(S, cost + demonstration cost − least
    /// demonstration cost). Default: none.
    pub demonstration: Option<f32>,
    /// Whether every call starts from noise added to the plan (the prior of the noisiest level) instead of the plan
    /// itself. Without it, chains that start from the same plan differ only by the rows that they draw. Default: false.
    pub scatter: bool,
    /// Whether the first row of a chain is its current x, unperturbed. Default: false.
    pub nominal_first: bool,
    /// Whether rows come in pairs of opposite perturbations (antithetic variates): rows 2j and 2j + 1 share their
    /// noise, which is drawn once for both. As many independent rows usually give slightly better plans; where all rows
    /// weigh nearly the same, pairs cancel each other. Default: false.
    pub antithetic: bool,
    /// The replacement for a plan that fails when it is rolled out itself. Default: none.
    pub fallback: Fallback,
    /// A filter that smooths every plan, after the last pass. Default: none.
    pub smoothing: Option<Smoothing>,
    /// The controls that are appended when the plan is shifted. Default: `Hold`.
    pub shift_fill: ShiftFill,
    /// The control that a new or reset plan consists of; within the limits. Default: zeros.
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    pub initial: [f32; M],
}

impl<const M: usize> Default for DiffusionOptions<M> {
    fn default() -> Self {
        Self {
            task: Task::default(),
            samples: 2048,
            chains: 1,
            process: ReverseProcess::default(),
            weighting: Weighting::Exponential(Temperature::Standardized(0.1)),
            noise: Noise::default(),
            noise_shape: NoiseShape::default(),
            horizon_average: true,
            horizon_annealing: None,
            demonstration: None,
            scatter: false,
            nominal_first: false,
            antithetic: false,
            fallback: Fallback::None,
            smoothing: None,
            shift_fill: ShiftFill::Hold,
            initial: [0.0; M],
        }
    }
}

impl<const M: usize> DiffusionOptions<M> {
    pub(crate) fn check_own(&self) -> Result<(), InvalidValue> {
        self.process.check()?;
        self.weighting.check_for_mean()?;
        if let Some(beta) = self.horizon_annealing {
            in_range("horizon_annealing", beta, beta > 0.0, "finite and above 0")?;
        }
        if let Some(cost) = self.demonstration {
            in_range("demonstration", cost, true, "finite, in the unit of the cost")?;
        }
        Ok(())
    }
}
