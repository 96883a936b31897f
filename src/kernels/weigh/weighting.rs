//! [`Weighting`]: how costs become the weights of rows.

use crate::error::InvalidValue;
use crate::kernels::pass::{DIVERGENCE, EFFECTIVE, ELITE, FIXED, Pass, SIGNED, STANDARDISED};

/// How the costs J of rows become their weights w in a pass. The cost of an episode is its negative return.
///
/// # Example
///
/// ```
/// use gibbs::{MppiOptions, Temperature, Weighting};
///
/// let mppi = MppiOptions::<1> { weighting: Temperature::EffectiveSamples(0.1).into(), ..Default::default() };
/// let cem = MppiOptions::<1> {
///     weighting: Weighting::Elite(0.1),
///     covariance_adaptation: Some(0.05),
///     ..Default::default()
/// };
/// assert_eq!(mppi.weighting, Weighting::Exponential(Temperature::EffectiveSamples(0.1)));
/// # assert_ne!(mppi, cem);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Weighting {
    /// w = softmax(−J/λ).
    Exponential(Temperature),
    /// The best fraction of the rows, in (0, 1], have equal weights and all others none, as in the cross-entropy
    /// method. On a GPU it takes 33 passes over the costs. (R. Rubinstein, *The cross-entropy method for combinatorial
    /// and continuous optimization*, 1999.)
    Elite(f32),
    /// The row of least cost has all the weight, so that the mean is that row: predictive sampling. Rows that tie for
    /// the least cost, in `f32`, share the weight equally. It is [`Elite`](Self::Elite) with a single row, whatever the
    /// number of rows, and takes as many passes. (T. Howell et al., *Predictive sampling: real-time behaviour synthesis
    /// with MuJoCo*, arXiv 2212.00541.)
    Best,
    /// w = −(J − J̄)/K, or with `standardized` −(J − J̄)/(K·std J): plain REINFORCE with a baseline. Only
    /// [`PolicyGradient`](crate::learning::PolicyGradient) takes it: the weights sum to 0, so that the rows have no
    /// mean to step to.
    Signed {
        /// Whether costs are divided by their standard deviation.
        standardized: bool,
    },
}

impl From<Temperature> for Weighting {
    fn from(temperature: Temperature) -> Self {
        Self::Exponential(temperature)
    }
}

/// The temperature λ: how sharply the weights e^{−J/λ} single out the cheapest rows.
///
/// All but [`Fixed`](Self::Fixed) are solved for in every pass, on the device. On a GPU one workgroup does that, in
/// passes over the costs of all rows: about ten for a sample size or a divergence (29 at most; with a control cost
/// twice as many), two for the standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
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
    /// A standard deviation below 10⁻⁴ counts as 1. (C. Pan et al., *Model-based diffusion for trajectory
    /// optimization*, arXiv 2407.01573, where τ = 0.1.)
    Standardized(f32),
}

impl Weighting {
    pub(crate) fn check(self) -> Result<(), InvalidValue> {
        const FRACTION: &str = "of a fraction of the rows in (0, 1]";
        let is_fraction = |value: f32| value > 0.0 && value <= 1.0;
        let (valid, expected) = match self {
            Self::Exponential(Temperature::Fixed(lambda)) => {
                ((1e-30..=1e30).contains(&lambda), "of a λ between 1e-30 and 1e30, in the unit of the cost")
            }
            Self::Exponential(Temperature::EffectiveSamples(fraction)) | Self::Elite(fraction) => {
                (is_fraction(fraction), FRACTION)
            }
            Self::Exponential(Temperature::Divergence(nats)) => {
                (nats > 0.0 && nats.is_finite(), "of a divergence that is finite and above 0 (nats)")
            }
            Self::Exponential(Temperature::Standardized(factor)) => {
                ((1e-6..=1e6).contains(&factor), "of between 1e-6 and 1e6 standard deviations of the cost")
            }
            Self::Best | Self::Signed { .. } => (true, ""),
        };
        if valid { Ok(()) } else { Err(InvalidValue::new("weighting", format_args!("{self:?}"), expected)) }
    }

    /// [`check`](Self::check) for drivers that step to the mean of the rows: also refuses weights that sum to 0.
    pub(crate) fn check_for_mean(self) -> Result<(), InvalidValue> {
        if let Self::Signed { .. } = self {
            let expected =
                "Exponential, Elite or Best: signed weights sum to 0, so that the rows have no mean to step to";
            return Err(InvalidValue::new("weighting", format_args!("{self:?}"), expected));
        }
        self.check()
    }

    /// Writes the weighting into a pass.
    pub(crate) fn set(self, pass: &mut Pass) {
        (pass.temperature, pass.search, pass.target) = match self {
            Self::Exponential(Temperature::Fixed(lambda)) => (lambda, FIXED, 0.0),
            Self::Exponential(Temperature::EffectiveSamples(fraction)) => (1.0, EFFECTIVE, fraction),
            Self::Exponential(Temperature::Divergence(nats)) => (1.0, DIVERGENCE, nats),
            Self::Exponential(Temperature::Standardized(factor)) => (1.0, STANDARDISED, factor),
            Self::Elite(fraction) => (1.0, ELITE, fraction),
            // An elite has at least one row.
            Self::Best => (1.0, ELITE, 0.0),
            Self::Signed { standardized: true } => (1.0, STANDARDISED, 1.0),
            Self::Signed { standardized: false } => (1.0, FIXED, 0.0),
        };
        pass.set(SIGNED, matches!(self, Self::Signed { .. }));
    }

    /// Whether the rows are weighed by their order, without a λ for a control cost.
    pub(crate) fn is_elite(self) -> bool {
        matches!(self, Self::Elite(_) | Self::Best)
    }
}
