//! Options of an MPPI controller.

use crate::control::planner::actuation::Smoothing;
use crate::control::planner::options::{Fallback, Proposal, ShiftFill};
use crate::kernels::propose::noise::Noise;
use crate::kernels::propose::shape::{Interpolation, NoiseShape};
use crate::kernels::weigh::weighting::{Temperature, Weighting};
use crate::runtime::task::Task;

/// The cost J of a rollout in the exponent −J/λ, with S = Σ_t q(x_{t+1}, u_t) + φ(x_T) and C = Σ_t U_tᵀ Σ⁻¹ ε_t, where
/// ε is the perturbation that remains after the limits.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum CostNormalization {
    /// J = S + λ(1 − α) C: importance sampling for the base distribution N(αU, Σ). This is also the convention of
    /// pytorch_mppi.
    #[default]
    Sum,
    /// J = (S + λ(1 − α) C) / T: everything is averaged over the horizon, as in MPPI-Generic.
    HorizonAverage,
    /// J = S + γ C, as in nav2; α is unused and must be 1.
    Gamma(f32),
}

/// The options of an MPPI controller. `..Default::default()` fills in the rest.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default = "Default::default", deny_unknown_fields))]
pub struct MppiOptions<const M: usize> {
    /// The task: horizon, time step, limits, inputs of the model, seed.
    pub task: Task<M>,
    /// K, the rollouts per pass around the last plan and around each proposal; at least 1. Default: 1,024.
    pub samples: usize,
    /// Passes per call; at least 1. Default: 1.
    pub iterations: usize,
    /// How costs become weights: exponentially with a temperature λ, by an elite, or by the best row alone. Signed
    /// weights are refused. Default: λ such that 5 % of the rows count, `EffectiveSamples(0.05)`.
    pub weighting: Weighting,
    /// Σ, the covariance of the perturbations. Default: a standard deviation of 1 for each control, a placeholder.
    pub noise: Noise<M>,
    /// The dependence of perturbations at different time steps: white, splines between knots, or colored. Default:
    /// white.
    pub noise_shape: NoiseShape,
    /// α in [0, 1]: the base distribution of the importance sampling is N(αU, Σ). 1 switches the control cost off.
    /// Default: 1.
    pub alpha: f32,
    /// How the cost in the exponent is composed. Default: `Sum`.
    pub cost_normalization: CostNormalization,
    /// η in U⁺ = U + η (m − U); above 0, 1 for MPPI as published. Default: 1.
    pub step_size: f32,
    /// Control sequences that rows are drawn around besides the last plan, `samples` around each. If there are any, the
    /// first row around each, and around the last plan, is the sequence itself. Default: none.
    pub proposals: Vec<Proposal<M>>,
    /// The replacement for a plan that fails when it is rolled out itself. Default: none.
    pub fallback: Fallback,
    /// A filter that smooths every plan, after the last pass. Default: none.
    pub smoothing: Option<Smoothing>,
    /// The controls that are appended when the plan is shifted. Default: `Hold`.
    pub shift_fill: ShiftFill,
    /// Whether the first row is the plan itself, unperturbed. Default: false.
    pub nominal_first: bool,
    /// Whether rows come in pairs of opposite perturbations (antithetic variates): rows 2j and 2j + 1 share their
    /// noise, which is drawn once for both. As many independent rows usually give slightly better plans; where all rows
    /// weigh nearly the same, pairs cancel each other. Default: false.
    pub antithetic: bool,
    /// Covariance adaptation with `Some(f)`, f in (0, 1]: each pass within a call moves the standard deviation of the
    /// noise, separately for every control and time step (knot, with knots; innovation, with colored noise), to that of
    /// the weighted rows (by `step_size`), but never below f times that of `noise`. With [`Weighting::Elite`] this is
    /// the cross-entropy method; with a temperature it adapts a diagonal covariance. Default: none.
    pub covariance_adaptation: Option<f32>,
    /// The control that a new or reset plan consists of; within the limits. Default: zeros.
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    pub initial: [f32; M],
}

impl<const M: usize> MppiOptions<M> {
    /// Options that suit most tasks, to be completed by the covariance of the noise:
    /// `MppiOptions { noise, ..MppiOptions::new(task) }`. They differ from [`default`](Self::default), which is plain
    /// MPPI, by smooth noise (cubic splines with a knot every eighth of the horizon) and by a row for the last plan.
    ///
    /// `cargo bench --bench tasks` compares such noise with white noise on two published tasks: closed loops cost less,
    /// and their controls change less from step to step.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::models::Pendulum;
    /// use gibbs::{Engine, Limits, Mppi, MppiOptions, Noise, Task};
    ///
    /// let limits = Some(Limits { low: [-1.5], high: [1.5] });
    /// let task = Task { horizon: 40, dt: 0.05, limits, ..Default::default() };
    /// // A third of the range to one side is a good start.
    /// let options = MppiOptions { noise: Noise::Diagonal([0.5]), ..MppiOptions::new(task) };
    /// let mut mppi = Mppi::new(&Engine::new()?, Pendulum::default(), options)?;
    /// # mppi.plan(&[1.0, 0.0])?;
    /// # Ok::<(), gibbs::Error>(())
    /// ```
    pub fn new(task: Task<M>) -> Self {
        let every = task.horizon.div_ceil(8).max(1);
        let noise_shape = NoiseShape::Knots { every, interpolation: Interpolation::Cubic };
        Self { task, noise_shape, nominal_first: true, ..Self::default() }
    }
}

impl<const M: usize> Default for MppiOptions<M> {
    /// MPPI as published, with white noise, but for the temperature, which is found such that 5 % of the rows count: a
    /// fixed one must fit the unit of the cost.
    fn default() -> Self {
        Self {
            task: Task::default(),
            samples: 1024,
            iterations: 1,
            weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.05)),
            noise: Noise::default(),
            noise_shape: NoiseShape::default(),
            alpha: 1.0,
            cost_normalization: CostNormalization::Sum,
            step_size: 1.0,
            proposals: Vec::new(),
            fallback: Fallback::None,
            smoothing: None,
            shift_fill: ShiftFill::Hold,
            nominal_first: false,
            antithetic: false,
            covariance_adaptation: None,
            initial: [0.0; M],
        }
    }
}
