//! Diffusion: reverse processes whose score is a weighted mean.
//!
//! A forward process adds noise to x₀ until level i, x = x₀ + σ_i ε. Given x, the engine averages rows under the posterior
//! of x₀, whose mean x̂₀ = E[x₀ | x] is all that the reverse step needs: ∇ log p_{σ_i}(x) = (x̂₀ − x)/σ_i². So a level is one
//! update of the engine: rows around x with standard deviation σ_i, scored, weighed, averaged, and
//!
//! ```text
//! x⁺ = a·x̂₀ + b·x + c·z,    z ~ N(0, Σ)
//! ```
//!
//! **Coordinates.** Everything here is in clean coordinates, x = x_i/√ᾱ_i of the variance-preserving literature, where
//! σ_i = √(1/ᾱ_i − 1) alone describes a level. In these coordinates DDPM, DDIM and the variance-exploding samplers are
//! one family with a = 1 − b and b = √(σ'² − c²)/σ (see [`Sampler`]), and Monte Carlo score ascent is MPPI with an
//! annealed σ. (C. Pan et al., *Model-based diffusion for trajectory optimization*, arXiv 2407.01573; J. Song et al.,
//! *Denoising diffusion implicit models*, arXiv 2010.02502; T. Karras et al., *Elucidating the design space of
//! diffusion-based generative models*, arXiv 2206.00364.)
//!
//! This file maps levels to updates of the engine, which does the numerics.

mod ensemble;
mod options;
mod sampler;
mod schedule;

pub use ensemble::{Chains, DiffusionSampler, DiffusionSamplerOptions, Energy};
pub use options::DiffusionOptions;
pub use sampler::Sampler;
pub use schedule::Schedule;

use crate::error::InvalidValue;
use crate::noise::{Noise, NoiseShape};
use crate::pass::{CLAMPED, DEMONSTRATED, LIMITED, NOMINAL_FIRST, Pass};
use crate::planner::{Algorithm, Planner, ShiftFill};
use crate::task::Task;

/// A [`Planner`] that improves its plan by a reverse diffusion process: model-based diffusion, from one long anneal to a few
/// levels per control step with a warm start. (H. Xue et al., *Full-order sampling-based MPC for torque-level locomotion
/// control via diffusion-style annealing*, arXiv 2409.15610.)
pub type DiffusionPlanner<const N: usize, const M: usize, D> = Planner<N, M, D, DiffusionOptions<M>>;

/// A reverse process: a noise schedule, and the sampler that steps from one level to the next.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReverseProcess {
    /// The noise levels.
    pub schedule: Schedule,
    /// The step from one level to the next.
    pub sampler: Sampler,
    /// The standard deviation of the rows of a level.
    pub width: SampleWidth,
}

/// The standard deviation of the rows of level i around the current x, in units of that of the noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SampleWidth {
    /// σ_i = √(1/ᾱ_i − 1): the factor N(x, σ_i²) of the posterior itself, as in the paper on model-based diffusion.
    #[default]
    Posterior,
    /// √(1 − ᾱ_i), as in its published code: narrower, especially at noisy levels.
    Published,
}

impl ReverseProcess {
    /// Appends every level as an update, the noisiest first.
    pub(crate) fn passes(&self, first: Pass, list: &mut Vec<Pass>) {
        let sigmas = self.schedule.sigmas();
        let below = |i: usize| if i == 0 { 0.0 } else { sigmas[i - 1] };
        for (i, &sigma) in sigmas.iter().enumerate().rev().filter(|(_, sigma)| **sigma > 0.0) {
            let [a, b, c] = self.sampler.step(sigma, below(i)).map(|v| v as f32);
            let scale = match self.width {
                SampleWidth::Posterior => sigma,
                SampleWidth::Published => (sigma * sigma / (1.0 + sigma * sigma)).sqrt(),
            };
            let level = Pass { scale: scale as f32, a, b, c, ..first };
            list.extend(std::iter::repeat_n(level, self.sampler.steps()));
        }
        // Between levels x may leave the limits of the rows; the last level clamps it to them.
        if let Some((last, earlier)) = list.split_last_mut() {
            earlier.iter_mut().for_each(|level| level.set(CLAMPED, false));
            last.set(CLAMPED, last.has(LIMITED));
        }
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        self.schedule.check()?;
        self.sampler.check()?;
        let passes = self.schedule.levels().saturating_mul(self.sampler.steps());
        if passes > schedule::MOST {
            let value = format_args!("{passes} steps over all levels");
            return Err(InvalidValue::new("steps", value, format_args!("at most {} over all levels", schedule::MOST)));
        }
        Ok(())
    }

    /// The standard deviation of x at the noisiest level, if that of x₀ is 1. Unconditional chains start from noise of
    /// this width.
    pub(crate) fn prior(&self) -> f32 {
        self.schedule.sigmas().last().map_or(1.0, |sigma| (1.0 + sigma * sigma).sqrt()) as f32
    }
}

impl<const M: usize> Algorithm<M> for DiffusionOptions<M> {
    /// Rows around the control sequence of each chain, rollout costs, e^{−J/λ}, their mean, the step of the sampler.
    fn passes(&self, mut first: Pass, list: &mut Vec<Pass>) {
        first.set(NOMINAL_FIRST, self.nominal_first);
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

    fn task(&self) -> &Task<M> {
        &self.task
    }

    fn task_mut(&mut self) -> &mut Task<M> {
        &mut self.task
    }

    fn samples(&self) -> usize {
        self.samples
    }

    fn set_samples(&mut self, samples: usize) {
        self.samples = samples;
    }

    fn noise(&self) -> &Noise<M> {
        &self.noise
    }

    fn noise_shape(&self) -> NoiseShape {
        self.noise_shape
    }

    fn shift_fill(&self) -> ShiftFill {
        self.shift_fill
    }

    fn initial(&self) -> [f32; M] {
        self.initial
    }

    fn chains(&self) -> usize {
        self.chains
    }
}
