//! Policy search by the exponentiated policy gradient: the policy gradient driver.
//!
//! It maximises log E e^{R/λ} of the return R = −(cost of an episode) over the parameters θ of a [`Policy`]. The gradient is a
//! weighted mean, by the same weights as a plan's:
//!
//! ```text
//! ∇_θ log E e^{R/λ} = Σ_k w_k g_k,    w = softmax(R/λ),    g_k = ∇_θ log p(row k | θ)
//! ```
//!
//! where row k is either one episode under a noisy policy, g_k = Σ_t ∇_θ log π_θ(a_t | s_t), or parameters around θ, g_k =
//! (row k − θ)/σ². As λ grows this becomes the plain policy gradient Cov(R, g)/λ. (*Unifying MPPI, RL and diffusion models
//! for optimal control and planning*, arXiv 2502.20476; F. Sehnke et al., *Parameter-exploring policy gradients*, 2010; J.
//! Peters, K. Mülling, Y. Altün, *Relative entropy policy search*, AAAI 2010; R. Williams, *Simple statistical
//! gradient-following algorithms*, 1992.)
//!
//! This file says which rows, scores, weights and steps that is; the numerics are the engine's.

mod checkpoint;
mod controller;
mod learners;
mod optimiser;
mod options;

pub use checkpoint::{CheckpointError, IoFailure};
pub use controller::{Controller, ControllerOptions, Episode};
pub use learners::{PolicyGradient, Progress};
pub use options::{Annealed, Exploration, Rows, Start, Step, TrainingOptions, Weighting};

use crate::engine::Done;
use crate::error::PlanError;
use crate::float_env;
use crate::model::Model;
use crate::policy::Policy;
use crate::update::{ANTITHETIC, PERTURBED, SCORED, SECOND_MOMENT, SIGNED, Update};

/// What is added to an estimate of Fisher's information, as a share of its mean over θ: parameters that hardly tell in the rows
/// would be thrown far otherwise.
const DAMPING: f32 = 1e-3;

impl<const N: usize, const M: usize, D: Model<N, M>, P: Policy<N, M>> PolicyGradient<N, M, D, P> {
    /// One iteration for every learner: draw episodes, run them, weigh them, average the rows, step. Returns what it found,
    /// learner by learner.
    ///
    /// # Errors
    ///
    /// If no row of any learner has a finite return (the error names a start that is not finite, if there is one), or the
    /// device fails. Then all parameters are what they were. (A learner
    /// that alone has no such row, or whose step would end at something that is not finite, stands still: its step is 0.)
    pub fn step(&mut self) -> Result<&[Progress], PlanError> {
        float_env::standard(move || self.iterate())
    }

    fn iterate(&mut self) -> Result<&[Progress], PlanError> {
        self.draw_starts();
        let update = self.options.update(self.blank());
        let (step, rate) = (self.options.step, self.options.step.rate().at(self.iteration as usize));
        self.run(&update, |learner, done, b| {
            let direction = learner.options.direction(&update, done, b, learner.values, learner.information);
            learner.optimiser.step(&step, rate, &direction, learner.values);
            learner.options.progress(&update, &direction, done, b)
        })
    }
}

impl<const M: usize> TrainingOptions<M> {
    /// The draw, the score and the weights of an iteration; what is averaged are the rows as they are.
    fn update(&self, blank: Update) -> Update {
        let mut update = blank;
        match self.rows {
            Rows::Perturbed { sigma, antithetic, episodes } => {
                update.set(PERTURBED, true);
                update.set(ANTITHETIC, antithetic);
                update.scale = sigma.at(update.number as usize);
                update.episodes = episodes as u32;
            }
            Rows::Scored { antithetic, .. } => {
                update.set(SCORED, true);
                update.set(ANTITHETIC, antithetic);
                update.set(SECOND_MOMENT, matches!(self.step, Step::Natural { .. }));
            }
        }
        update.set(SIGNED, matches!(self.weighting, Weighting::Signed { .. }));
        self.weighting.temperature().set(&mut update);
        update
    }

    /// Where learner `b` goes, given the mean of its rows: the gradient, or with natural steps F⁻¹ times that.
    fn direction(&self, update: &Update, done: &Done<'_>, b: usize, values: &[f32], known: Option<&[f32]>) -> Vec<f32> {
        let width = values.len();
        let mean = &done.nominal[b * width..][..width];
        let natural = matches!(self.step, Step::Natural { .. });
        let mut direction: Vec<f32> = match self.rows {
            // m − θ is σ² g. Signed weights sum to 0, so that the mean of θ + σε under them is that already.
            Rows::Perturbed { .. } => {
                let unit = if natural { 1.0 } else { update.scale * update.scale };
                let from = |theta: &f32| if update.has(SIGNED) { 0.0 } else { *theta };
                mean.iter().zip(values).map(|(m, theta)| (m - from(theta)) / unit).collect()
            }
            Rows::Scored { .. } if natural => {
                let estimate = &done.second[b * width..][..width];
                let damping = DAMPING * estimate[..width - M].iter().sum::<f32>() / (width - M) as f32;
                let (diagonal, damping) = known.map_or((estimate, damping), |known| (known, 0.0));
                // Where there is no information, there is no gradient.
                let natural = |(g, f): (&f32, &f32)| if f + damping > 0.0 { g / (f + damping) } else { 0.0 };
                mean.iter().zip(diagonal).map(natural).collect()
            }
            Rows::Scored { .. } => mean.to_vec(),
        };
        if let Rows::Scored { exploration: Exploration::Fixed | Exploration::Annealed(_), .. } = self.rows {
            direction[width - M..].fill(0.0);
        }
        direction
    }
}
