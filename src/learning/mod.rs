//! Policy search by the exponentiated policy gradient: the policy gradient driver.
//!
//! It maximizes log E e^{R/λ} of the return R = −(cost of an episode) over the parameters θ of a [`Policy`]. The
//! gradient is a weighted mean, by the same weights as a plan's:
//!
//! ```text
//! ∇_θ log E e^{R/λ} = Σ_k w_k g_k,    w = softmax(R/λ),    g_k = ∇_θ log p(row k | θ)
//! ```
//!
//! where row k is either one episode under a noisy policy, g_k = Σ_t ∇_θ log π_θ(a_t | s_t), or parameters around θ,
//! g_k = (row k − θ)/σ². As λ grows this becomes the plain policy gradient Cov(R, g)/λ. (*Unifying MPPI, RL and
//! diffusion models for optimal control and planning*, arXiv 2502.20476; F. Sehnke et al., *Parameter-exploring policy
//! gradients*, 2010; J. Peters, K. Mülling, Y. Altün, *Relative entropy policy search*, AAAI 2010; R. Williams, *Simple
//! statistical gradient-following algorithms*, 1992.)
//!
//! This module maps an iteration to a pass of the engine, which does the numerics. It imports
//! [`runtime`](crate::runtime) and everything below it, but no backend and no planner. Start reading at `learners.rs`,
//! which has the state of a training; this file has the iteration.

pub(crate) mod checkpoint;
pub(crate) mod controller;
pub(crate) mod learners;
pub(crate) mod optimizer;
pub(crate) mod options;

use std::task::Poll;

pub use crate::error::{CheckpointError, IoFailure};
use crate::error::{EngineError, PlanError};
use crate::kernels::pass::{ANTITHETIC, PERTURBED, Pass, SCORED, SECOND_MOMENT, SIGNED};
use crate::lang::float_env;
use crate::model::Model;
use crate::model::policy::Policy;
use crate::runtime::{Calls, Done, Wait, Waiter, blocking, completed, drained, finished, span};
pub use controller::{Controller, Episode};
pub use learners::{PolicyGradient, Progress};
pub use options::{ActionNoise, Anneal, Estimator, InitialStates, PolicyGradientOptions, Step};

/// Damping that is added to an estimate of the Fisher information, as a fraction of its mean over θ. Without it,
/// parameters that hardly affect the rows would take huge steps.
const DAMPING: f32 = 1e-3;

impl<const N: usize, const M: usize, D: Model<N, M>, P: Policy<N, M>> PolicyGradient<N, M, D, P> {
    /// Runs one iteration for every learner: draws episodes, runs and weighs them, averages the rows, and takes a step.
    /// Returns the progress of every learner.
    ///
    /// # Errors
    ///
    /// If no row of any learner has a finite return (the error names an initial state that is not finite, if there is
    /// one), an iteration is [pending](Self::start), or the device fails. Then all parameters are unchanged. (If only
    /// some learners have no such row, or a learner's step would lead to values that are not finite, the parameters of
    /// those learners are unchanged and their step is 0.)
    pub fn step(&mut self) -> Result<&[Progress], PlanError> {
        span!(
            DEBUG,
            "step",
            learners = self.options.learners,
            rows = self.options.samples,
            horizon = self.options.task.horizon,
            backend = %self.engine().backend()
        );
        blocking(self.drain(Wait::Blocking))?;
        self.start()?;
        self.finish()
    }

    /// Starts a [`step`](Self::step) without waiting for it. The work is submitted to the device here.
    /// [`poll`](Self::poll) changes the parameters once the result is available, [`finish`](Self::finish) waits for it,
    /// and [`cancel`](Self::cancel) gives it up. The CPU backend computes here, so that the first `poll` has the
    /// result.
    ///
    /// While an iteration is pending, methods that change the training (such as [`set_params`](Self::set_params) and
    /// [`resume`](Self::resume)) cancel it. The next iteration then repeats it.
    ///
    /// # Errors
    ///
    /// [`PlanError::Busy`] if an iteration is pending, or one that was canceled or timed out still runs on the device;
    /// or if the device fails.
    pub fn start(&mut self) -> Result<(), PlanError> {
        if self.is_pending() {
            return Err(PlanError::Busy);
        }
        float_env::standard(|| {
            self.draw_starts();
            self.submit(self.options.pass(self.blank()))
        })
    }

    /// Completes the pending iteration if its result is available, without blocking, and returns the progress of every
    /// learner. Returns `None` if it is not available, or if no iteration is pending.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step). Then no iteration is pending.
    pub fn poll(&mut self) -> Result<Option<&[Progress]>, PlanError> {
        let is_over = self.complete(Wait::Polling)?;
        Ok(is_over.then(|| self.progress()))
    }

    /// Waits for the pending iteration and completes it.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step), and if no iteration is pending.
    pub fn finish(&mut self) -> Result<&[Progress], PlanError> {
        finished(self)?;
        Ok(self.progress())
    }

    /// As [`step`](Self::step), without blocking the thread: see
    /// [`Planner::plan_async`](crate::control::planner::Planner::plan_async).
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    pub async fn step_async(&mut self) -> Result<&[Progress], PlanError> {
        drained(self, Waiter::Task).await?;
        self.start()?;
        completed(self, Waiter::Task).await?;
        Ok(self.progress())
    }
}

impl<const N: usize, const M: usize, D: Model<N, M>, P: Policy<N, M>> Calls for PolicyGradient<N, M, D, P> {
    fn may_block(&self) -> Result<(), EngineError> {
        self.workspace.may_block()
    }

    fn drain(&mut self, wait: Wait<'_>) -> Poll<Result<(), EngineError>> {
        self.workspace.drain(wait)
    }

    fn complete(&mut self, wait: Wait<'_>) -> Result<bool, PlanError> {
        let (step, rate) = (self.options.step, self.options.step.rate().at(self.iteration as usize));
        float_env::standard(|| {
            self.take_in(wait, |learner, pass, done, b| {
                let direction = learner.options.direction(pass, done, b, learner.values, learner.information);
                learner.optimizer.step(&step, rate, &direction, learner.values);
                learner.options.progress(pass, &direction, done, b)
            })
        })
    }

    fn cancel(&mut self) {
        Self::cancel(self);
    }
}

impl<const M: usize> PolicyGradientOptions<M> {
    /// Completes the pass of an iteration with how rows are drawn, scored and weighed. Its result is the plain mean
    /// of the rows.
    fn pass(&self, blank: Pass) -> Pass {
        let mut pass = blank;
        match self.estimator {
            Estimator::ParameterSpace { sigma, antithetic, episodes } => {
                pass.set(PERTURBED, true);
                pass.set(ANTITHETIC, antithetic);
                pass.scale = sigma.at(pass.number as usize);
                pass.episodes = episodes as u32;
            }
            Estimator::ScoreFunction { antithetic, .. } => {
                pass.set(SCORED, true);
                pass.set(ANTITHETIC, antithetic);
                pass.set(SECOND_MOMENT, matches!(self.step, Step::Natural { .. }));
            }
        }
        self.weighting.set(&mut pass);
        pass
    }

    /// Returns the direction of learner `b`'s step, given the mean of its rows: the gradient, or F⁻¹ times the gradient
    /// for natural steps.
    fn direction(&self, pass: &Pass, done: &Done<'_>, b: usize, values: &[f32], known: Option<&[f32]>) -> Vec<f32> {
        let width = values.len();
        let mean = &done.nominal[b * width..][..width];
        let natural = matches!(self.step, Step::Natural { .. });
        let mut direction: Vec<f32> = match self.estimator {
            // m − θ = σ² g. Signed weights sum to 0, so that under them the mean of θ + σε is σ² g already.
            Estimator::ParameterSpace { .. } => {
                let unit = if natural { 1.0 } else { pass.scale * pass.scale };
                let from = |theta: &f32| if pass.has(SIGNED) { 0.0 } else { *theta };
                mean.iter().zip(values).map(|(m, theta)| (m - from(theta)) / unit).collect()
            }
            Estimator::ScoreFunction { .. } if natural => {
                let estimate = &done.second[b * width..][..width];
                let damping = DAMPING * estimate[..width - M].iter().sum::<f32>() / (width - M) as f32;
                let (diagonal, damping) = known.map_or((estimate, damping), |known| (known, 0.0));
                // Where the information is 0, so is the gradient.
                let natural = |(g, f): (&f32, &f32)| if f + damping > 0.0 { g / (f + damping) } else { 0.0 };
                mean.iter().zip(diagonal).map(natural).collect()
            }
            Estimator::ScoreFunction { .. } => mean.to_vec(),
        };
        if let Estimator::ScoreFunction { action_noise: ActionNoise::Fixed | ActionNoise::Anneal(_), .. } =
            self.estimator
        {
            direction[width - M..].fill(0.0);
        }
        direction
    }
}
