//! Model predictive path integral control: the MPPI driver.
//!
//! It draws K control sequences around the current plan U, rolls the model out under each, weighs them by e^{−J/λ} and
//! makes the weighted mean the next plan. (G. Williams, A. Aldrich, E. Theodorou, *Model predictive path integral
//! control: from theory to parallel computation*, J. Guidance, Control, and Dynamics 40 (2017); G. Williams et al.,
//! *Information theoretic MPC for model-based reinforcement learning*, ICRA 2017.)
//!
//! This file maps MPPI to passes of the engine, which does the numerics.

pub(crate) mod options;

use super::planner::algorithm::sealed::Sealed;
use super::planner::algorithm::shared_options;
use super::planner::{Algorithm, Planner, Proposal};
use crate::error::{InvalidValue, finite, in_range};
use crate::kernels::pass::{ADAPT, ANTITHETIC, CONTROL_COST, NOMINAL_FIRST, Pass, SECOND_MOMENT};
pub(crate) use options::{CostNormalization, MppiOptions};

/// A [`Planner`] that improves its plan by model predictive path integral control.
pub type Mppi<const N: usize, const M: usize, D> = Planner<N, M, D, MppiOptions<M>>;

impl<const M: usize> Sealed for MppiOptions<M> {}

impl<const M: usize> Algorithm<M> for MppiOptions<M> {
    /// The five verbs of MPPI: rows from N(U, Σ), rollout costs, e^{−J/λ}, their mean, U⁺ = U + η (m − U).
    fn passes(&self, mut first: Pass, list: &mut Vec<Pass>) {
        first.set(NOMINAL_FIRST, self.nominal_first || !self.proposals.is_empty());
        first.set(ANTITHETIC, self.antithetic);
        (first.control_scaled, first.control_fixed) = match self.cost_normalization {
            CostNormalization::Sum => (0.0, 1.0 - self.alpha),
            CostNormalization::HorizonAverage => (0.0, (1.0 - self.alpha) * first.cost_scale),
            CostNormalization::Gamma(gamma) => (gamma, 0.0),
        };
        first.set(CONTROL_COST, self.weighs_controls());
        self.weighting.set(&mut first);
        (first.a, first.b) = (self.step_size, 1.0 - self.step_size);
        if let Some(floor) = self.covariance_adaptation {
            first.set(ADAPT | SECOND_MOMENT, true);
            first.floor = floor;
        }
        list.extend(std::iter::repeat_n(first, self.iterations));
    }

    fn check(&self, regular: bool, white: bool) -> Result<(), InvalidValue> {
        if !(1..=1024).contains(&self.iterations) {
            return Err(InvalidValue::new("iterations", self.iterations, "between 1 and 1024"));
        }
        self.weighting.check_for_mean()?;
        in_range("step_size", self.step_size, self.step_size > 0.0, "finite and above 0")?;
        in_range("alpha", self.alpha, (0.0..=1.0).contains(&self.alpha), "between 0 and 1")?;
        if let CostNormalization::Gamma(gamma) = self.cost_normalization {
            in_range("gamma", gamma, gamma >= 0.0, "finite and at least 0")?;
            in_range("alpha", self.alpha, self.alpha == 1.0, "1 in the γ form, which has no α")?;
        }
        for proposal in &self.proposals {
            if let Proposal::Sustained(control) = proposal {
                finite("proposals", control)?;
            }
        }
        if let Some(floor) = self.covariance_adaptation {
            in_range("covariance_adaptation", floor, floor > 0.0 && floor <= 1.0, "a fraction of the noise in (0, 1]")?;
            let most = self.step_size;
            in_range("step_size", most, most <= 1.0, "at most 1 where the noise adapts: a spread must stay positive")?;
        }
        if self.weighs_controls() && self.weighting.is_elite() {
            const NO_LAMBDA: &str =
                "with an elite or the best row, which have no λ for the control cost to be weighed by";
            return Err(match self.cost_normalization {
                CostNormalization::Gamma(gamma) => InvalidValue::new("gamma", gamma, format_args!("0 {NO_LAMBDA}")),
                _ => InvalidValue::new("alpha", self.alpha, format_args!("1 {NO_LAMBDA}")),
            });
        }
        if self.weighs_controls() && self.task.is_sequential() {
            let expected = "None where the control cost (α below 1, or γ above 0) enters the weights, since limited \
                            controls are not normal; add a cost of the control to the model instead";
            return Err(match (self.task.delay, self.task.limited_changes()) {
                (0, field) => InvalidValue::new(field.unwrap_or("delay"), "given", expected),
                (delay, _) => InvalidValue::new("delay", delay, format_args!("0, and limits of rates {expected}")),
            });
        }
        if self.weighs_controls() && !white {
            let expected = "white where the control cost (α below 1, or γ above 0) enters the weights, since that is the \
                            likelihood ratio of white noise";
            return Err(InvalidValue::new("noise_shape", format_args!("{:?}", self.noise_shape), expected));
        }
        if (self.weighs_controls() || self.covariance_adaptation.is_some()) && !regular {
            let expected = "above 0 for every control, since the control cost (α below 1, or γ above 0) and adaptation \
                            divide by it";
            return Err(InvalidValue::new("noise", "a standard deviation of 0", expected));
        }
        Ok(())
    }

    fn averages(&self) -> bool {
        self.cost_normalization == CostNormalization::HorizonAverage
    }

    fn std_scale(&self, _t: usize) -> Option<f32> {
        self.covariance_adaptation.map(|_| 1.0)
    }

    shared_options!();

    fn proposals(&self) -> &[Proposal<M>] {
        &self.proposals
    }

    fn chains(&self) -> usize {
        1 + self.proposals.len()
    }
}

impl<const M: usize> MppiOptions<M> {
    /// Whether the control cost Σ uᵀ Σ⁻¹ ε enters the weights.
    fn weighs_controls(&self) -> bool {
        match self.cost_normalization {
            CostNormalization::Sum | CostNormalization::HorizonAverage => self.alpha != 1.0,
            CostNormalization::Gamma(gamma) => gamma != 0.0,
        }
    }
}
