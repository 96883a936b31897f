//! [`Sampler`]: the step from one noise level to the next.

use crate::error::{InvalidValue, in_range};

/// How a reverse process goes from level σ to level σ' < σ, in clean coordinates: x⁺ = a·x̂₀ + b·x + c·z.
///
/// | sampler | a | b | c |
/// |---|---|---|---|
/// | [`ScoreAscent`](Self::ScoreAscent) | 1 | 0 | 0 |
/// | [`Ddpm`](Self::Ddpm) | 1 − b | σ'²/σ² | σ' √(1 − σ'²/σ²) |
/// | [`Ddim`](Self::Ddim) | 1 − b | √(σ'² − c²)/σ | η σ' √(1 − σ'²/σ²) |
/// | [`Euler`](Self::Euler) | 1 − b | σ'/σ | 0 |
/// | [`Langevin`](Self::Langevin) | ε | 1 − ε | σ √(2ε) |
///
/// DDIM with η = 1 is DDPM, and with η = 0 it is Euler's step: they differ in the coordinates that they are published
/// in.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Sampler {
    /// Monte Carlo score ascent: all the way to x̂₀. The mode, and MPPI with an annealed σ. (Model-based diffusion,
    /// arXiv 2407.01573.)
    #[default]
    ScoreAscent,
    /// Ancestral sampling. (J. Ho, A. Jain, P. Abbeel, *Denoising diffusion probabilistic models*, arXiv 2006.11239.)
    Ddpm,
    /// Denoising diffusion implicit models, with noise η in [0, 1]. (ArXiv 2010.02502.)
    Ddim {
        /// η: 0 adds no noise, 1 as much as DDPM.
        eta: f32,
    },
    /// Euler's method on the probability-flow ordinary differential equation of the variance-exploding process. (ArXiv
    /// 2206.00364.)
    Euler,
    /// Annealed Langevin dynamics: some steps at every level, with step size ε σ². What it ends with is a sample of the
    /// density smoothed by the last level. (Y. Song, S. Ermon, *Generative modeling by estimating gradients of the data
    /// distribution*, arXiv 1907.05600.)
    Langevin {
        /// Steps at each level; at least 1.
        steps: usize,
        /// ε, the step size in units of σ²; in (0, 1].
        rate: f32,
    },
}

impl Sampler {
    /// (a, b, c) from level `sigma` to `below`.
    pub(crate) fn step(self, sigma: f64, below: f64) -> [f64; 3] {
        let family = |eta: f64| {
            let c = eta * below * (1.0 - (below / sigma).powi(2)).max(0.0).sqrt();
            let b = (below * below - c * c).sqrt() / sigma;
            [1.0 - b, b, c]
        };
        match self {
            Self::ScoreAscent => [1.0, 0.0, 0.0],
            Self::Ddpm => family(1.0),
            Self::Ddim { eta } => family(f64::from(eta)),
            Self::Euler => family(0.0),
            Self::Langevin { rate, .. } => {
                let rate = f64::from(rate);
                [rate, 1.0 - rate, sigma * (2.0 * rate).sqrt()]
            }
        }
    }

    /// Steps at each level.
    pub(crate) fn steps(self) -> usize {
        match self {
            Self::Langevin { steps, .. } => steps,
            _ => 1,
        }
    }

    pub(crate) fn check(self) -> Result<(), InvalidValue> {
        match self {
            Self::Ddim { eta } => in_range("eta", eta, (0.0..=1.0).contains(&eta), "between 0 and 1"),
            Self::Langevin { steps, rate } => {
                if !(1..=10_000).contains(&steps) {
                    return Err(InvalidValue::new("steps", steps, "between 1 and 10000"));
                }
                in_range("rate", rate, rate > 0.0 && rate <= 1.0, "in (0, 1], in units of σ²")
            }
            Self::ScoreAscent | Self::Ddpm | Self::Euler => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (a, b, c) as published, on x_i = √ᾱ_i x, for ᾱ and ᾱ' of the two levels.
    fn published(sampler: Sampler, alpha: f64, below: f64) -> [f64; 3] {
        let ddim = |eta: f64| {
            let s = eta * ((1.0 - below) / (1.0 - alpha)).sqrt() * (1.0 - alpha / below).sqrt();
            let k = ((1.0 - below - s * s) / (1.0 - alpha)).sqrt();
            [below.sqrt() - alpha.sqrt() * k, k, s]
        };
        match sampler {
            Sampler::ScoreAscent => [below.sqrt(), 0.0, 0.0],
            Sampler::Ddpm => {
                let (step, beta) = (alpha / below, 1.0 - alpha / below);
                let a = below.sqrt() * beta / (1.0 - alpha);
                let b = step.sqrt() * (1.0 - below) / (1.0 - alpha);
                [a, b, (beta * (1.0 - below) / (1.0 - alpha)).sqrt()]
            }
            Sampler::Ddim { eta } => ddim(f64::from(eta)),
            Sampler::Euler => ddim(0.0),
            Sampler::Langevin { .. } => unreachable!("it is published in clean coordinates"),
        }
    }

    #[test]
    fn steps_are_the_published_ones_in_other_coordinates() {
        let samplers = [
            Sampler::ScoreAscent,
            Sampler::Ddpm,
            Sampler::Ddim { eta: 0.0 },
            Sampler::Ddim { eta: 0.6 },
            Sampler::Euler,
        ];
        for (alpha, below) in [(0.01_f64, 0.02_f64), (0.3, 0.7), (0.9, 0.99), (0.6, 1.0)] {
            let sigma = |alpha: f64| (1.0 / alpha - 1.0).sqrt();
            for sampler in samplers {
                let [a, b, c] = sampler.step(sigma(alpha), sigma(below));
                let [pa, pb, pc] = published(sampler, alpha, below);
                let want = [pa / below.sqrt(), pb * (alpha / below).sqrt(), pc / below.sqrt()];
                for (got, want) in [a, b, c].into_iter().zip(want) {
                    assert!((got - want).abs() < 1e-9, "{sampler:?} from ᾱ = {alpha} to {below}: {got}, not {want}");
                }
            }
        }
    }
}
