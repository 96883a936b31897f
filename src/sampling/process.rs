//! [`ReverseProcess`]: noise levels as passes.

use super::sampler::Sampler;
use super::schedule::{self, Schedule};
use crate::error::InvalidValue;
use crate::kernels::pass::{CLAMPED, LIMITED, Pass};

/// A reverse process: a noise schedule, and the sampler that steps from one level to the next.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum SampleWidth {
    /// σ_i = √(1/ᾱ_i − 1): the factor N(x, σ_i²) of the posterior itself, as in the paper on model-based diffusion.
    #[default]
    Posterior,
    /// √(1 − ᾱ_i), as in its published code: narrower, especially at noisy levels.
    Published,
}

impl ReverseProcess {
    /// Appends every level as a pass, the noisiest first.
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
