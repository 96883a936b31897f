//! Options of training.

use super::Progress;
use crate::error::{InvalidValue, in_range};
use crate::kernels::pass::{MAX_PROBLEMS, Pass, SIGNED};
use crate::kernels::weigh::weighting::{Temperature, Weighting};
use crate::lang::random::Random;
use crate::runtime::Done;
use crate::runtime::task::Task;

/// A positive number that changes geometrically from `first` to `last` over the first `over` iterations and is constant
/// after them.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Anneal {
    /// The initial value; above 0.
    pub first: f32,
    /// The final value; above 0.
    pub last: f32,
    /// The number of iterations until `last` is reached; 0 for `last` throughout.
    pub over: usize,
}

impl From<f32> for Anneal {
    /// Returns a value that is constant over all iterations.
    fn from(value: f32) -> Self {
        Self { first: value, last: value, over: 0 }
    }
}

impl Anneal {
    /// The value in an iteration, counted from 0.
    pub fn at(&self, iteration: usize) -> f32 {
        if iteration >= self.over {
            return self.last;
        }
        let share = iteration as f64 / self.over as f64;
        (f64::from(self.first) * (f64::from(self.last) / f64::from(self.first)).powf(share)) as f32
    }

    fn check(&self, field: &'static str) -> Result<(), InvalidValue> {
        for value in [self.first, self.last] {
            in_range(field, value, (1e-12..=1e12).contains(&value), "between 1e-12 and 1e12, from first to last")?;
        }
        Ok(())
    }
}

/// The estimator of the gradient: how the rows of an iteration are made.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Estimator<const M: usize> {
    /// Row k is θ + σ ε_k. Its return is the mean over several episodes under the policy without noise, whose initial
    /// states are the same for all rows. This works for any policy and any return, even a discontinuous one.
    ParameterSpace {
        /// σ, the standard deviation of the parameters.
        sigma: Anneal,
        /// Whether rows 2j and 2j + 1 share their noise, with opposite signs.
        antithetic: bool,
        /// E, the episodes of each row; at least 1.
        episodes: usize,
    },
    /// Row k is the score Σ_t ∇ log π(a_t | s_t) of one episode under actions a = m_θ(s) + std·z; its return is that of
    /// the episode.
    ScoreFunction {
        /// The initial standard deviations of the actions, in the unit of each control.
        #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
        std: [f32; M],
        /// How they change during training.
        action_noise: ActionNoise,
        /// Whether episodes 2j and 2j + 1 have the same initial state and share their noise, with opposite signs.
        antithetic: bool,
    },
}

/// How the standard deviations of the action noise change during training.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum ActionNoise {
    /// They are constant.
    Fixed,
    /// Their logarithms are trained like the other parameters, with a lower bound on the standard deviations.
    Learned {
        /// The least standard deviation, above 0.
        least: f32,
    },
    /// The initial ones are multiplied by this factor.
    Anneal(Anneal),
}

/// The step along the gradient g.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Step {
    /// θ⁺ = θ + α g.
    Plain {
        /// The learning rate α.
        rate: Anneal,
    },
    /// θ⁺ = θ + α F⁻¹ g, with F the Fisher information of the rows: exact for perturbed parameters (F⁻¹ = σ², so that α
    /// = 1 goes all the way to the weighted mean) and for policies that provide theirs
    /// ([`Policy::information`](crate::model::policy::Policy::information)), else the diagonal Σ w g² of the rows, plus
    /// a thousandth of its mean.
    Natural {
        /// The learning rate α.
        rate: Anneal,
    },
    /// v⁺ = μ v + g, θ⁺ = θ + α v⁺.
    Momentum {
        /// The learning rate α.
        rate: Anneal,
        /// μ, in [0, 1).
        momentum: f32,
    },
    /// Adam with β₁ = 0.9, β₂ = 0.999 and ε = 10⁻⁸. (D. Kingma, J. Ba, arXiv 1412.6980.)
    Adam {
        /// The learning rate α.
        rate: Anneal,
    },
}

impl Step {
    pub(crate) fn rate(&self) -> Anneal {
        match self {
            Self::Plain { rate } | Self::Natural { rate } | Self::Momentum { rate, .. } | Self::Adam { rate } => *rate,
        }
    }
}

/// A distribution of the initial states of episodes and, for domain randomization, of the model's parameters. Any
/// function `Fn(&mut Random, &mut [f32]) -> [f32; N]` implements it.
pub trait InitialStates<const N: usize>: Send + Sync + 'static {
    /// Draws an initial state. `params` holds [`Task::params`] and may be changed for this episode.
    fn draw(&self, random: &mut Random, params: &mut [f32]) -> [f32; N];
}

impl<const N: usize, F: Fn(&mut Random, &mut [f32]) -> [f32; N] + Send + Sync + 'static> InitialStates<N> for F {
    fn draw(&self, random: &mut Random, params: &mut [f32]) -> [f32; N] {
        self(random, params)
    }
}

/// The options of training. `..Default::default()` fills in the rest.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default = "Default::default", deny_unknown_fields))]
pub struct PolicyGradientOptions<const M: usize> {
    /// The task: horizon, time step, limits of the actions, inputs of model and policy, seed.
    pub task: Task<M>,
    /// K, the rows of an iteration and learner; at least 1. Default: 256.
    pub samples: usize,
    /// B, the learners that are trained in parallel, each with its own noise; between 1 and 65,535. Default: 1.
    pub learners: usize,
    /// How the rows are made. Default: `ParameterSpace` with σ = 0.1, antithetic, of 4 episodes.
    pub estimator: Estimator<M>,
    /// How returns become weights. [`Weighting::Exponential`] follows the gradient of log E e^{R/λ}. Default:
    /// `EffectiveSamples(0.2)`.
    pub weighting: Weighting,
    /// The step along the gradient. Default: `Natural` with a rate of 1.
    pub step: Step,
}

impl<const M: usize> Default for PolicyGradientOptions<M> {
    fn default() -> Self {
        Self {
            task: Task::default(),
            samples: 256,
            learners: 1,
            estimator: Estimator::ParameterSpace { sigma: Anneal::from(0.1), antithetic: true, episodes: 4 },
            weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.2)),
            step: Step::Natural { rate: Anneal::from(1.0) },
        }
    }
}

impl<const M: usize> PolicyGradientOptions<M> {
    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        self.task.check(1 << 24)?;
        self.task.check_for_policy()?;
        let sizes = [("samples", self.samples, 1 << 20), ("learners", self.learners, MAX_PROBLEMS)];
        for (field, size, most) in sizes {
            if size == 0 || size > most {
                return Err(InvalidValue::new(field, size, format_args!("between 1 and {most}")));
            }
        }
        match self.estimator {
            Estimator::ParameterSpace { sigma, episodes, .. } => {
                sigma.check("sigma")?;
                if episodes == 0 || episodes > 1 << 16 {
                    return Err(InvalidValue::new("episodes", episodes, format_args!("between 1 and {}", 1 << 16)));
                }
            }
            Estimator::ScoreFunction { std, action_noise, .. } => {
                for std in std {
                    in_range("std", std, (1e-12..=1e12).contains(&std), "between 1e-12 and 1e12 for every control")?;
                }
                match action_noise {
                    ActionNoise::Fixed => {}
                    ActionNoise::Learned { least } => {
                        in_range("least", least, (1e-12..=1e12).contains(&least), "between 1e-12 and 1e12")?;
                    }
                    ActionNoise::Anneal(factor) => factor.check("action_noise")?,
                }
            }
        }
        self.weighting.check()?;
        self.step.rate().check("rate")?;
        if let Step::Momentum { momentum, .. } = self.step {
            in_range("momentum", momentum, (0.0..1.0).contains(&momentum), "in [0, 1)")?;
        }
        Ok(())
    }

    /// The number of initial states that an iteration draws for each learner.
    pub(crate) fn starts(&self) -> usize {
        match self.estimator {
            Estimator::ParameterSpace { episodes, .. } => episodes,
            Estimator::ScoreFunction { .. } => self.samples,
        }
    }

    /// Summarizes an iteration of a learner.
    pub(crate) fn progress(&self, pass: &Pass, direction: &[f32], done: &Done<'_>, learner: usize) -> Progress {
        let sums = &done.sums[learner];
        Progress {
            iteration: pass.number as usize + 1,
            mean_return: -sums.mean_cost(pass),
            best_return: -sums.reference,
            effective_samples: (f64::from(sums.sum).powi(2) / f64::from(sums.squares)).min(f64::from(pass.rows)) as f32,
            temperature: sums.temperature,
            log_z: if pass.has(SIGNED) { 0.0 } else { sums.log_z(pass) },
            step: direction.iter().map(|d| f64::from(*d).powi(2)).sum::<f64>().sqrt() as f32,
            invalid_rows: pass.rows as usize - sums.valid as usize,
            timing: done.timing,
        }
    }
}
