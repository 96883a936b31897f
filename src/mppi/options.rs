//! What a controller can be told, and the checks that refuse what makes no sense.

use crate::error::InvalidValue;
use crate::field::Grid;
use crate::noise::{Noise, Shape};

/// The temperature λ: how sharply the weights e^{−J/λ} single out the cheapest rollouts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Temperature {
    /// λ itself, in the unit of the cost; above 0.
    Fixed(f32),
    /// Found anew in every update, by bisection, such that the effective sample size (Σw)²/Σw² is this fraction of the
    /// valid rows; in (0, 1]. Where all costs are equal λ is 1. Where no λ reaches it (ties among the cheapest rows, or a
    /// control term, which does not fade as λ grows) λ ends at the edge of its range, 10⁻³⁰ or 10³⁰.
    /// On a GPU one workgroup searches, so this is for up to some hundred thousand rows.
    EffectiveSamples(f32),
}

/// What the exponent −J/λ sees of a rollout, with S = Σ_t q(x_{t+1}, u_t) + φ(x_T) and C = Σ_t U_tᵀ Σ⁻¹ ε_t, where ε is
/// what is left of the perturbation after the limits.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Convention {
    /// J = S + λ(1 − α) C: importance sampling for the base distribution N(αU, Σ). Also pytorch_mppi's.
    #[default]
    Sum,
    /// J = (S + λ(1 − α) C) / T: everything averaged over the horizon, as in MPPI-Generic.
    HorizonAverage,
    /// J = S + γ C, as in nav2; α plays no part and must be left at 1.
    Gamma(f32),
}

/// What [`shift`](crate::Mppi::shift) lets in at the end of the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tail {
    /// The last control, held.
    #[default]
    Hold,
    /// The controls that left at the front: the plan is periodic, as a gait is.
    Repeat,
    /// The initial control.
    Initial,
}

/// A box of controls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits<const M: usize> {
    /// The least value of each control. May be −∞.
    pub low: [f32; M],
    /// The greatest value of each control. May be +∞.
    pub high: [f32; M],
}

/// A table that a model reads its references from, one row per time step: see [`Stage::reference`](crate::Stage::reference).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct References {
    /// The table, row by row. Steps beyond the last row see the last row.
    pub values: Vec<f32>,
    /// How many numbers a row has.
    pub columns: usize,
}

impl References {
    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }

    pub(crate) fn check(values: &[f32], columns: usize) -> Result<(), InvalidValue> {
        finite("references", values)?;
        if values.is_empty() || columns == 0 || !values.len().is_multiple_of(columns) {
            let value = format_args!("{} numbers in {columns} columns", values.len());
            return Err(InvalidValue::new("references", value, "one or more whole rows of one or more columns"));
        }
        Ok(())
    }
}

/// Everything a controller can be told. `..Default::default()` fills in the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct MppiOptions<const M: usize> {
    /// T, the time steps looked ahead; at least 1.
    pub horizon: usize,
    /// K, the rollouts per update; at least 1.
    pub samples: usize,
    /// Updates per call; at least 1.
    pub iterations: usize,
    /// The length of a time step (in seconds), as the model sees it; above 0.
    pub dt: f32,
    /// λ, or how to find it.
    pub temperature: Temperature,
    /// Σ, the covariance of the perturbations.
    pub noise: Noise<M>,
    /// The box that controls are limited to, before they are rolled out and averaged. (Clipping biases the mean inwards.)
    pub limits: Option<Limits<M>>,
    /// α in [0, 1]: the base distribution of the importance sampling is N(αU, Σ). 1 switches its term off.
    pub alpha: f32,
    /// What the exponent sees.
    pub convention: Convention,
    /// γ in U⁺ = U + γ (m − U); above 0, 1 for MPPI as published.
    pub step_size: f32,
    /// What enters the plan when it is shifted.
    pub tail: Tail,
    /// Whether the first row is the plan itself, unperturbed.
    pub nominal_first: bool,
    /// The seed of the noise.
    pub seed: u64,
    /// The control that a new or reset plan consists of; within the limits.
    pub initial: [f32; M],
    /// Run-time parameters: see [`Stage::param`](crate::Stage::param).
    pub params: Vec<f32>,
    /// References over the horizon: see [`Stage::reference`](crate::Stage::reference).
    pub references: Option<References>,
    /// Sampled fields: see [`Stage::sample`](crate::Stage::sample).
    pub fields: Vec<Grid>,
}

impl<const M: usize> Default for MppiOptions<M> {
    fn default() -> Self {
        Self {
            horizon: 50,
            samples: 1024,
            iterations: 1,
            dt: 0.02,
            temperature: Temperature::Fixed(1.0),
            noise: Noise::default(),
            limits: None,
            alpha: 1.0,
            convention: Convention::Sum,
            step_size: 1.0,
            tail: Tail::Hold,
            nominal_first: false,
            seed: 0,
            initial: [0.0; M],
            params: Vec::new(),
            references: None,
            fields: Vec::new(),
        }
    }
}

/// Refuses NaN and infinities.
pub(crate) fn finite(field: &'static str, values: &[f32]) -> Result<(), InvalidValue> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(InvalidValue::new(field, format_args!("{} at index {i}", values[i]), "finite")),
        None => Ok(()),
    }
}

fn in_range(field: &'static str, value: f32, valid: bool, expected: &str) -> Result<(), InvalidValue> {
    if valid && value.is_finite() { Ok(()) } else { Err(InvalidValue::new(field, value, expected)) }
}

impl<const M: usize> MppiOptions<M> {
    /// Refuses what is out of range, and works out what the kernels need of the covariance.
    pub(crate) fn check(&self) -> Result<Shape, InvalidValue> {
        // A device takes 65,535 workgroups in a row: of 1,024 rows, and of 16 of the T·M coordinates.
        let sizes = [
            ("horizon", self.horizon, 65_535 * 16 / M.max(1)),
            ("samples", self.samples, 1 << 25),
            ("iterations", self.iterations, 1024),
        ];
        for (field, size, most) in sizes {
            if size == 0 || size > most {
                return Err(InvalidValue::new(field, size, format_args!("between 1 and {most}")));
            }
        }
        in_range("dt", self.dt, self.dt > 0.0, "finite and above 0 (seconds)")?;
        match self.temperature {
            Temperature::Fixed(lambda) => in_range(
                "temperature",
                lambda,
                (1e-30..=1e30).contains(&lambda),
                "between 1e-30 and 1e30, in the unit of the cost",
            )?,
            Temperature::EffectiveSamples(fraction) => in_range(
                "temperature",
                fraction,
                fraction > 0.0 && fraction <= 1.0,
                "a fraction of the rows in (0, 1]",
            )?,
        }
        in_range("step_size", self.step_size, self.step_size > 0.0, "finite and above 0")?;
        in_range("alpha", self.alpha, (0.0..=1.0).contains(&self.alpha), "between 0 and 1")?;
        if let Convention::Gamma(gamma) = self.convention {
            in_range("gamma", gamma, gamma >= 0.0, "finite and at least 0")?;
            in_range("alpha", self.alpha, self.alpha == 1.0, "1 in the γ form, which has no α")?;
        }
        finite("initial", &self.initial)?;
        if let Some(Limits { low, high }) = &self.limits {
            for m in 0..M {
                let (l, h) = (low[m], high[m]);
                // Written so that a NaN is refused.
                if !(l <= h && l < f32::INFINITY && h > f32::NEG_INFINITY) {
                    let value = format_args!("[{l}, {h}] for control {m}");
                    return Err(InvalidValue::new("limits", value, "a low value that is not above the high one"));
                }
                if !(l..=h).contains(&self.initial[m]) {
                    let value = format_args!("{} for control {m}", self.initial[m]);
                    return Err(InvalidValue::new("initial", value, format_args!("within its limits, [{l}, {h}]")));
                }
            }
        }
        finite("params", &self.params)?;
        if let Some(references) = &self.references {
            References::check(&references.values, references.columns)?;
        }
        let shape = self.noise.shape()?;
        let weighs_controls = self.alpha != 1.0 || matches!(self.convention, Convention::Gamma(g) if g != 0.0);
        if weighs_controls && !shape.regular {
            let expected = "above 0 for every control, since the control cost needs Σ⁻¹ (α below 1, or γ above 0)";
            return Err(InvalidValue::new("noise", "a standard deviation of 0", expected));
        }
        Ok(shape)
    }

    /// What a rollout cost is multiplied by before the temperature divides it.
    pub(crate) fn cost_scale(&self) -> f32 {
        if self.convention == Convention::HorizonAverage { 1.0 / self.horizon as f32 } else { 1.0 }
    }
}
