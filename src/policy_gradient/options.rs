//! What training can be told.

use super::Progress;
use crate::engine::Done;
use crate::error::{InvalidValue, finite, in_range};
use crate::field::Grid;
use crate::noise::Random;
use crate::planner::{Limits, References};
use crate::temperature::Temperature;
use crate::update::{MOST_PROBLEMS, Update};

/// A positive number that changes over the iterations: geometrically from `first` to `last` over so many of them, then no
/// more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Annealed {
    /// What it begins with; above 0.
    pub first: f32,
    /// What it ends with; above 0.
    pub last: f32,
    /// After how many iterations; 0 for `last` throughout.
    pub over: usize,
}

impl From<f32> for Annealed {
    /// The same throughout.
    fn from(value: f32) -> Self {
        Self { first: value, last: value, over: 0 }
    }
}

impl Annealed {
    /// What it is in an iteration, counted from 0.
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

/// How the rows of an iteration are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rows<const M: usize> {
    /// Row k is θ + σ ε_k, and its return the mean over some episodes under the policy without noise, which start alike for
    /// all rows. Any policy will do, and any return, however discontinuous.
    Perturbed {
        /// σ, the standard deviation of the parameters.
        sigma: Annealed,
        /// Whether rows 2j and 2j + 1 share their noise, with opposite signs.
        antithetic: bool,
        /// E, the episodes of each row; at least 1.
        episodes: usize,
    },
    /// Row k is the score Σ_t ∇ log π(a_t | s_t) of one episode under actions a = m_θ(s) + std·z, its return that episode's.
    Scored {
        /// The standard deviations of the actions at the beginning, in the unit of each control.
        std: [f32; M],
        /// What becomes of them.
        exploration: Exploration,
        /// Whether episodes 2j and 2j + 1 start alike and share their noise, with opposite signs.
        antithetic: bool,
    },
}

/// What becomes of the standard deviations of the actions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Exploration {
    /// They stay as they are.
    Fixed,
    /// Their logarithms are parameters like the others, but no standard deviation falls below this.
    Learned {
        /// The least standard deviation, above 0.
        least: f32,
    },
    /// They are multiplied by this.
    Annealed(Annealed),
}

/// What an episode's return is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weighting {
    /// w = softmax(R/λ): the gradient of log E e^{R/λ}.
    Exponentiated(Temperature),
    /// w = (R − R̄)/K, or with `standardised` (R − R̄)/(K·std R): plain REINFORCE with a baseline.
    Signed {
        /// Whether returns are divided by their standard deviation.
        standardised: bool,
    },
}

impl Weighting {
    /// How the engine finds the λ that it divides by.
    pub(super) fn temperature(self) -> Temperature {
        match self {
            Self::Exponentiated(temperature) => temperature,
            Self::Signed { standardised: true } => Temperature::Standardised(1.0),
            Self::Signed { standardised: false } => Temperature::Fixed(1.0),
        }
    }
}

/// What is done with the gradient g.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// θ⁺ = θ + α g.
    Plain {
        /// The learning rate α.
        rate: Annealed,
    },
    /// θ⁺ = θ + α F⁻¹ g, with F the Fisher information of the rows: exact for perturbed parameters (F⁻¹ = σ², so that α = 1
    /// goes all the way to the weighted mean) and for policies that know theirs
    /// ([`Policy::information`](crate::Policy::information)), else the diagonal Σ w g² of the rows, plus a thousandth of
    /// its mean.
    Natural {
        /// The learning rate α.
        rate: Annealed,
    },
    /// v⁺ = μ v + g, θ⁺ = θ + α v⁺.
    Momentum {
        /// The learning rate α.
        rate: Annealed,
        /// μ, in [0, 1).
        momentum: f32,
    },
    /// Adam with β₁ = 0.9, β₂ = 0.999 and ε = 10⁻⁸. (D. Kingma, J. Ba, arXiv 1412.6980.)
    Adam {
        /// The learning rate α.
        rate: Annealed,
    },
}

impl Step {
    pub(super) fn rate(&self) -> Annealed {
        match self {
            Self::Plain { rate } | Self::Natural { rate } | Self::Momentum { rate, .. } | Self::Adam { rate } => *rate,
        }
    }
}

/// Where episodes start: a distribution of initial states and, for domain randomisation, of the model's parameters. Any
/// function `Fn(&mut Random, &mut [f32]) -> [f32; N]` is one.
pub trait Start<const N: usize>: Send + Sync + 'static {
    /// Draws an initial state. `params` holds [`TrainingOptions::params`] and may be changed for this episode.
    fn draw(&self, random: &mut Random, params: &mut [f32]) -> [f32; N];
}

impl<const N: usize, F: Fn(&mut Random, &mut [f32]) -> [f32; N] + Send + Sync + 'static> Start<N> for F {
    fn draw(&self, random: &mut Random, params: &mut [f32]) -> [f32; N] {
        self(random, params)
    }
}

/// Everything that training can be told. `..Default::default()` fills in the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingOptions<const M: usize> {
    /// T, the time steps of an episode that does not end before; at least 1.
    pub horizon: usize,
    /// K, the rows of an iteration and learner; at least 1.
    pub samples: usize,
    /// B, the learners that are trained side by side, each with noise of its own; between 1 and 65,535.
    pub learners: usize,
    /// The length of a time step (in seconds), as the model sees it; above 0.
    pub dt: f32,
    /// How the rows are made.
    pub rows: Rows<M>,
    /// What a return is worth.
    pub weighting: Weighting,
    /// What is done with the gradient.
    pub step: Step,
    /// The box that actions are limited to, after their noise. (The score is that of the action before.)
    pub limits: Option<Limits<M>>,
    /// The seed of all noise, of initial parameters and of where episodes start.
    pub seed: u64,
    /// Run-time parameters of the model, before [`Start::draw`] changes them.
    pub params: Vec<f32>,
    /// References over the horizon: see [`Stage::reference`](crate::Stage::reference).
    pub references: Option<References>,
    /// Sampled fields: see [`Stage::sample`](crate::Stage::sample).
    pub fields: Vec<Grid>,
}

impl<const M: usize> Default for TrainingOptions<M> {
    fn default() -> Self {
        Self {
            horizon: 100,
            samples: 256,
            learners: 1,
            dt: 0.02,
            rows: Rows::Perturbed { sigma: Annealed::from(0.1), antithetic: true, episodes: 4 },
            weighting: Weighting::Exponentiated(Temperature::EffectiveSamples(0.2)),
            step: Step::Natural { rate: Annealed::from(1.0) },
            limits: None,
            seed: 0,
            params: Vec::new(),
            references: None,
            fields: Vec::new(),
        }
    }
}

impl<const M: usize> TrainingOptions<M> {
    pub(super) fn check(&self) -> Result<(), InvalidValue> {
        let sizes = [
            ("horizon", self.horizon, 1 << 24),
            ("samples", self.samples, 1 << 20),
            ("learners", self.learners, MOST_PROBLEMS),
        ];
        for (field, size, most) in sizes {
            if size == 0 || size > most {
                return Err(InvalidValue::new(field, size, format_args!("between 1 and {most}")));
            }
        }
        in_range("dt", self.dt, self.dt > 0.0, "finite and above 0 (seconds)")?;
        match self.rows {
            Rows::Perturbed { sigma, episodes, .. } => {
                sigma.check("sigma")?;
                if episodes == 0 || episodes > 1 << 16 {
                    return Err(InvalidValue::new("episodes", episodes, format_args!("between 1 and {}", 1 << 16)));
                }
            }
            Rows::Scored { std, exploration, .. } => {
                for std in std {
                    in_range("std", std, (1e-12..=1e12).contains(&std), "between 1e-12 and 1e12 for every control")?;
                }
                match exploration {
                    Exploration::Fixed => {}
                    Exploration::Learned { least } => {
                        in_range("least", least, (1e-12..=1e12).contains(&least), "between 1e-12 and 1e12")?;
                    }
                    Exploration::Annealed(factor) => factor.check("exploration")?,
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

    /// How many episodes start in an iteration, for each learner.
    pub(super) fn starts(&self) -> usize {
        match self.rows {
            Rows::Perturbed { episodes, .. } => episodes,
            Rows::Scored { .. } => self.samples,
        }
    }

    /// What a learner's iteration is reported as.
    pub(super) fn progress(&self, update: &Update, direction: &[f32], done: &Done<'_>, learner: usize) -> Progress {
        let sums = &done.sums[learner];
        Progress {
            iteration: update.number as usize + 1,
            mean_return: -sums.mean_cost(update),
            best_return: -sums.reference,
            effective_samples: (f64::from(sums.sum).powi(2) / f64::from(sums.squares)).min(f64::from(update.rows))
                as f32,
            temperature: sums.temperature,
            step: direction.iter().map(|d| f64::from(*d).powi(2)).sum::<f64>().sqrt() as f32,
            invalid_rows: update.rows as usize - sums.valid as usize,
            timing: done.timing,
        }
    }
}
