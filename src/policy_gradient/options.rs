//! Options of training.

use super::Progress;
use crate::engine::Done;
use crate::error::{InvalidValue, finite, in_range};
use crate::field::Grid;
use crate::noise::Random;
use crate::pass::{MAX_PROBLEMS, Pass};
use crate::planner::{Limits, References};
use crate::temperature::Temperature;

/// A positive number that changes geometrically from `first` to `last` over the first `over` iterations and is constant
/// after them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anneal {
    /// The initial value; above 0.
    pub first: f32,
    /// The final value; above 0.
    pub last: f32,
    /// The number of iterations until `last` is reached; 0 for `last` throughout.
    pub over: usize,
}

impl From<f32> for Anneal {
    /// The same value in every iteration.
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
        std: [f32; M],
        /// How they change during training.
        action_noise: ActionNoise,
        /// Whether episodes 2j and 2j + 1 have the same initial state and share their noise, with opposite signs.
        antithetic: bool,
    },
}

/// How the standard deviations of the action noise change during training.
#[derive(Debug, Clone, Copy, PartialEq)]
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

/// How returns become weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weighting {
    /// w = softmax(R/λ): the gradient of log E e^{R/λ}.
    Exponentiated(Temperature),
    /// w = (R − R̄)/K, or with `standardized` (R − R̄)/(K·std R): plain REINFORCE with a baseline.
    Signed {
        /// Whether returns are divided by their standard deviation.
        standardized: bool,
    },
}

impl Weighting {
    /// How the engine determines the λ that returns are divided by.
    pub(super) fn temperature(self) -> Temperature {
        match self {
            Self::Exponentiated(temperature) => temperature,
            Self::Signed { standardized: true } => Temperature::Standardized(1.0),
            Self::Signed { standardized: false } => Temperature::Fixed(1.0),
        }
    }
}

/// The step along the gradient g.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// θ⁺ = θ + α g.
    Plain {
        /// The learning rate α.
        rate: Anneal,
    },
    /// θ⁺ = θ + α F⁻¹ g, with F the Fisher information of the rows: exact for perturbed parameters (F⁻¹ = σ², so that α
    /// = 1 goes all the way to the weighted mean) and for policies that provide theirs
    /// ([`Policy::information`](crate::Policy::information)), else the diagonal Σ w g² of the rows, plus a thousandth
    /// of its mean.
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
    pub(super) fn rate(&self) -> Anneal {
        match self {
            Self::Plain { rate } | Self::Natural { rate } | Self::Momentum { rate, .. } | Self::Adam { rate } => *rate,
        }
    }
}

/// A distribution of the initial states of episodes and, for domain randomization, of the model's parameters. Any
/// function `Fn(&mut Random, &mut [f32]) -> [f32; N]` implements it.
pub trait InitialStates<const N: usize>: Send + Sync + 'static {
    /// Draws an initial state. `params` holds [`PolicyGradientOptions::params`] and may be changed for this episode.
    fn draw(&self, random: &mut Random, params: &mut [f32]) -> [f32; N];
}

impl<const N: usize, F: Fn(&mut Random, &mut [f32]) -> [f32; N] + Send + Sync + 'static> InitialStates<N> for F {
    fn draw(&self, random: &mut Random, params: &mut [f32]) -> [f32; N] {
        self(random, params)
    }
}

/// The options of training. `..Default::default()` fills in the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyGradientOptions<const M: usize> {
    /// T, the time steps of an episode, unless it ends before; at least 1.
    pub horizon: usize,
    /// K, the rows of an iteration and learner; at least 1.
    pub samples: usize,
    /// B, the learners that are trained in parallel, each with its own noise; between 1 and 65,535.
    pub learners: usize,
    /// The length of a time step (in seconds), as passed to the model; above 0.
    pub dt: f32,
    /// How the rows are made.
    pub estimator: Estimator<M>,
    /// How returns become weights.
    pub weighting: Weighting,
    /// The step along the gradient.
    pub step: Step,
    /// The box that actions are limited to, after their noise. (The score is that of the action before the limits.)
    pub limits: Option<Limits<M>>,
    /// The seed of all noise, of initial parameters and of initial states.
    pub seed: u64,
    /// Run-time parameters of the model, before [`InitialStates::draw`] changes them.
    pub params: Vec<f32>,
    /// References over the horizon: see [`StepContext::reference`](crate::StepContext::reference).
    pub references: Option<References>,
    /// Sampled fields: see [`StepContext::sample`](crate::StepContext::sample).
    pub fields: Vec<Grid>,
}

impl<const M: usize> Default for PolicyGradientOptions<M> {
    fn default() -> Self {
        Self {
            horizon: 100,
            samples: 256,
            learners: 1,
            dt: 0.02,
            estimator: Estimator::ParameterSpace { sigma: Anneal::from(0.1), antithetic: true, episodes: 4 },
            weighting: Weighting::Exponentiated(Temperature::EffectiveSamples(0.2)),
            step: Step::Natural { rate: Anneal::from(1.0) },
            limits: None,
            seed: 0,
            params: Vec::new(),
            references: None,
            fields: Vec::new(),
        }
    }
}

impl<const M: usize> PolicyGradientOptions<M> {
    pub(super) fn check(&self) -> Result<(), InvalidValue> {
        let sizes = [
            ("horizon", self.horizon, 1 << 24),
            ("samples", self.samples, 1 << 20),
            ("learners", self.learners, MAX_PROBLEMS),
        ];
        for (field, size, most) in sizes {
            if size == 0 || size > most {
                return Err(InvalidValue::new(field, size, format_args!("between 1 and {most}")));
            }
        }
        in_range("dt", self.dt, self.dt > 0.0, "finite and above 0 (seconds)")?;
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
        self.weighting.temperature().check()?;
        self.step.rate().check("rate")?;
        if let Step::Momentum { momentum, .. } = self.step {
            in_range("momentum", momentum, (0.0..1.0).contains(&momentum), "in [0, 1)")?;
        }
        if let Some(limits) = &self.limits {
            limits.check()?;
        }
        finite("params", &self.params)?;
        if let Some(references) = &self.references {
            References::check(&references.values, references.columns)?;
        }
        Ok(())
    }

    /// The number of initial states that an iteration draws for each learner.
    pub(super) fn starts(&self) -> usize {
        match self.estimator {
            Estimator::ParameterSpace { episodes, .. } => episodes,
            Estimator::ScoreFunction { .. } => self.samples,
        }
    }

    /// Summarizes an iteration of a learner.
    pub(super) fn progress(&self, pass: &Pass, direction: &[f32], done: &Done<'_>, learner: usize) -> Progress {
        let sums = &done.sums[learner];
        Progress {
            iteration: pass.number as usize + 1,
            mean_return: -sums.mean_cost(pass),
            best_return: -sums.reference,
            effective_samples: (f64::from(sums.sum).powi(2) / f64::from(sums.squares)).min(f64::from(pass.rows)) as f32,
            temperature: sums.temperature,
            step: direction.iter().map(|d| f64::from(*d).powi(2)).sum::<f64>().sqrt() as f32,
            invalid_rows: pass.rows as usize - sums.valid as usize,
            timing: done.timing,
        }
    }
}
