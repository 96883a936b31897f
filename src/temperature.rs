//! [`Temperature`]: how sharply weights single out the cheapest rows.

use crate::error::InvalidValue;
use crate::pass::{DIVERGENCE, EFFECTIVE, ELITE, FIXED, Pass, STANDARDISED};

/// The temperature λ: how sharply the weights e^{−J/λ} single out the cheapest rows.
///
/// All but [`Fixed`](Self::Fixed) are solved for in every update, on the device. On a GPU one workgroup does that, in
/// passes over the costs of all rows: about ten for a sample size or a divergence (29 at most; with a control cost
/// twice as many), two for the standard deviation, 33 for an elite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Temperature {
    /// λ itself, in the unit of the cost; above 0.
    Fixed(f32),
    /// λ such that the effective sample size (Σw)²/Σw² is this fraction of the valid rows, to one millionth of it; in
    /// (0, 1]. If all costs are equal, λ is 1. If no λ reaches it (ties among the cheapest rows, or a control term,
    /// which does not fade as λ grows), λ ends at the edge of its range, 10⁻³⁰ or 10³⁰.
    EffectiveSamples(f32),
    /// λ such that the Kullback–Leibler divergence of the weights from equal ones, Σ w ln(K w), is this many nats;
    /// above 0. It is the dual of relative entropy policy search: λ = argmin_η ηε + η ln mean e^{−J/η}. (J. Peters, K.
    /// Mülling, Y. Altün, *Relative entropy policy search*, AAAI 2010.) The divergence cannot exceed ln K: for a larger
    /// value λ ends at the low edge of its range.
    Divergence(f32),
    /// λ is this many standard deviations of the cost over the rows, the weights being e^{−(J − J̄)/(τ·std)}; above 0.
    /// A standard
    /// deviation below 10⁻⁴ counts as 1. (C. Pan et al., *Model-based diffusion for trajectory optimization*, arXiv
    /// 2407.01573, where τ = 0.1.)
    Standardized(f32),
    /// No λ: the best fraction of the rows, in (0, 1], have equal weights and all others none, as in the cross-entropy
    /// method. (R. Rubinstein, *The cross-entropy method for combinatorial and continuous optimization*, 1999.)
    Elite(f32),
}

impl Temperature {
    pub(crate) fn check(self) -> Result<(), InvalidValue> {
        let (value, valid, expected) = match self {
            Self::Fixed(lambda) => {
                (lambda, (1e-30..=1e30).contains(&lambda), "between 1e-30 and 1e30, in the unit of the cost")
            }
            Self::EffectiveSamples(fraction) | Self::Elite(fraction) => {
                (fraction, fraction > 0.0 && fraction <= 1.0, "a fraction of the rows in (0, 1]")
            }
            Self::Divergence(nats) => (nats, nats > 0.0 && nats.is_finite(), "finite and above 0 (nats)"),
            Self::Standardized(factor) => {
                (factor, (1e-6..=1e6).contains(&factor), "between 1e-6 and 1e6 standard deviations of the cost")
            }
        };
        if valid { Ok(()) } else { Err(InvalidValue::new("temperature", value, expected)) }
    }

    /// Writes the temperature to the update that the kernels read.
    pub(crate) fn set(self, pass: &mut Pass) {
        (pass.temperature, pass.search, pass.target) = match self {
            Self::Fixed(lambda) => (lambda, FIXED, 0.0),
            Self::EffectiveSamples(fraction) => (1.0, EFFECTIVE, fraction),
            Self::Divergence(nats) => (1.0, DIVERGENCE, nats),
            Self::Standardized(factor) => (1.0, STANDARDISED, factor),
            Self::Elite(fraction) => (1.0, ELITE, fraction),
        };
    }

    /// Whether there is no λ.
    pub(crate) fn is_elite(self) -> bool {
        matches!(self, Self::Elite(_))
    }
}
