//! What a diffusion planner can be told.

use super::Process;
use crate::error::{InvalidValue, in_range};
use crate::field::Grid;
use crate::noise::Noise;
use crate::planner::{Limits, References, Tail};
use crate::temperature::Temperature;

/// Everything a diffusion planner can be told. `..Default::default()` fills in the rest: model-based diffusion with the
/// published numbers (2,048 rows, 100 levels, horizon 50, τ = 0.1, one chain that starts at the plan).
#[derive(Debug, Clone, PartialEq)]
pub struct DiffusionOptions<const M: usize> {
    /// T, the time steps looked ahead; at least 1.
    pub horizon: usize,
    /// K, the rollouts per level and chain; at least 1.
    pub samples: usize,
    /// B, the chains that are run side by side, each with noise of its own; at least 1. That of least cost is the plan.
    pub chains: usize,
    /// The length of a time step (in seconds), as the model sees it; above 0.
    pub dt: f32,
    /// Levels and sampler. A level σ means σ standard deviations of `noise`.
    pub process: Process,
    /// λ, or how to find it.
    pub temperature: Temperature,
    /// Σ, the covariance of the noise at σ = 1.
    pub noise: Noise<M>,
    /// The box that controls are limited to, before they are rolled out and averaged. (Clipping biases the mean inwards.)
    pub limits: Option<Limits<M>>,
    /// Whether costs are averaged over the horizon, as is published. It sets the unit of a fixed λ, of `demonstration` and
    /// of the least standard deviation that [`Temperature::Standardised`] goes by.
    pub horizon_average: bool,
    /// With Some(β), above 0: less noise on controls that are applied sooner, by e^{−(T − t)/(2βT)} at step t, since a warm
    /// start has improved them longer. (DIAL-MPC, arXiv 2409.15610.)
    pub horizon_annealing: Option<f32>,
    /// With Some(cost): rows are weighed by how near they come to a demonstration, too, if that makes them more likely. The
    /// nearest row counts as if it cost this much, the others more by their [`departure`](crate::Model::departure):
    /// J = min(S, cost + departure − least departure).
    pub demonstration: Option<f32>,
    /// Whether every call starts from noise added to the plan (the prior of the noisiest level) instead of the plan itself.
    /// Only so do chains that start alike come to differ by more than their rows.
    pub scatter: bool,
    /// Whether the first row of a chain is its current x, unperturbed.
    pub nominal_first: bool,
    /// What enters the plan when it is shifted.
    pub tail: Tail,
    /// The seed of the noise.
    pub seed: u64,
    /// The control that a new or reset plan consists of; within the limits.
    pub initial: [f32; M],
    /// Run-time parameters: see [`Stage::param`](crate::Stage::param).
    pub params: Vec<f32>,
    /// References over the horizon: see [`Stage::reference`](crate::Stage::reference).
    pub references: Option<References>,
    /// Sampled fields: see [`Stage::sample`](crate::Stage::sample).
    pub fields: Vec<Grid>,
}

impl<const M: usize> Default for DiffusionOptions<M> {
    fn default() -> Self {
        Self {
            horizon: 50,
            samples: 2048,
            chains: 1,
            dt: 0.02,
            process: Process::default(),
            temperature: Temperature::Standardised(0.1),
            noise: Noise::default(),
            limits: None,
            horizon_average: true,
            horizon_annealing: None,
            demonstration: None,
            scatter: false,
            nominal_first: false,
            tail: Tail::Hold,
            seed: 0,
            initial: [0.0; M],
            params: Vec::new(),
            references: None,
            fields: Vec::new(),
        }
    }
}

impl<const M: usize> DiffusionOptions<M> {
    pub(super) fn check_own(&self) -> Result<(), InvalidValue> {
        self.process.check()?;
        self.temperature.check()?;
        if let Some(beta) = self.horizon_annealing {
            in_range("horizon_annealing", beta, beta > 0.0, "finite and above 0")?;
        }
        if let Some(cost) = self.demonstration {
            in_range("demonstration", cost, true, "finite, in the unit of the cost")?;
        }
        Ok(())
    }
}
