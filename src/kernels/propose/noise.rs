//! The covariance of the noise on a control, and the matrices derived from it.

use super::shape::Filter;
use crate::error::InvalidValue;

/// The covariance Σ of the perturbation of one control vector. How perturbations at different times depend on each
/// other is said by [`NoiseShape`](crate::kernels::propose::shape::NoiseShape).
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Noise<const M: usize> {
    /// One standard deviation per control, in the unit of that control. 0 leaves a control unperturbed.
    Diagonal(#[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))] [f32; M]),
    /// A full covariance: symmetric and positive definite.
    Covariance(#[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))] [[f32; M]; M]),
}

impl<const M: usize> Default for Noise<M> {
    fn default() -> Self {
        Self::Diagonal([1.0; M])
    }
}

/// The matrices that the kernels need: L, lower triangular with Σ = L Lᵀ, and Σ⁻¹ where it exists.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CovarianceFactors {
    /// L, row by row, M × M.
    pub(crate) factor: Vec<f32>,
    /// Σ⁻¹, row by row, M × M; 0 for a control that is not perturbed.
    pub(crate) precision: Vec<f32>,
    /// Whether every control is perturbed, so that Σ⁻¹ exists.
    pub(crate) regular: bool,
    /// The filter that turns innovations into perturbations, unless the noise is white.
    pub(crate) filter: Option<Filter>,
}

impl CovarianceFactors {
    /// The number of independent noise vectors of a row of `horizon` time steps.
    pub(crate) fn innovations(&self, horizon: usize) -> usize {
        self.filter.as_ref().map_or(horizon, |filter| filter.innovations(horizon))
    }

    /// The standard deviation of control `m` of `controls`.
    pub(crate) fn std(&self, m: usize, controls: usize) -> f32 {
        self.factor[m * controls..][..controls].iter().map(|l| l * l).sum::<f32>().sqrt()
    }

    /// The time step that vector `i` acts on most.
    pub(crate) fn time(&self, i: usize, horizon: usize) -> usize {
        self.filter.as_ref().map_or(i, |filter| filter.time(i, horizon))
    }
}

impl<const M: usize> Noise<M> {
    pub(crate) fn shape(&self) -> Result<CovarianceFactors, InvalidValue> {
        match self {
            Self::Diagonal(sigma) => diagonal(sigma),
            Self::Covariance(rows) => covariance(rows),
        }
    }
}

fn diagonal(sigma: &[f32]) -> Result<CovarianceFactors, InvalidValue> {
    let m = sigma.len();
    let mut shape =
        CovarianceFactors { factor: vec![0.0; m * m], precision: vec![0.0; m * m], regular: true, filter: None };
    for (i, &s) in sigma.iter().enumerate() {
        // Squares and their inverses must stay finite.
        if !(s == 0.0 || (1e-18..=1e18).contains(&s)) {
            return Err(InvalidValue::new(
                "noise",
                format_args!("a standard deviation of {s} for control {i}"),
                "0, or between 1e-18 and 1e18",
            ));
        }
        shape.factor[i * m + i] = s;
        shape.precision[i * m + i] = if s == 0.0 { 0.0 } else { 1.0 / (s * s) };
        shape.regular &= s > 0.0;
    }
    Ok(shape)
}

fn covariance<const M: usize>(rows: &[[f32; M]; M]) -> Result<CovarianceFactors, InvalidValue> {
    let refuse = |value: String| Err(InvalidValue::new("noise", value, "a symmetric, positive definite covariance"));
    for i in 0..M {
        for j in 0..M {
            let (a, b) = (rows[i][j], rows[j][i]);
            if !a.is_finite() {
                return refuse(format!("a covariance with {a} at ({i}, {j})"));
            }
            if (a - b).abs() > 1e-6 * (a.abs() + b.abs()) {
                return refuse(format!("a covariance with {a} at ({i}, {j}) but {b} at ({j}, {i})"));
            }
        }
    }
    // Cholesky's L in f64, then Σ⁻¹ = L⁻ᵀ L⁻¹ from the inverse of L.
    let mut l = [[0.0_f64; M]; M];
    for i in 0..M {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| l[i][k] * l[j][k]).sum();
            let left = f64::from(rows[i][j]) - dot;
            if i == j {
                if left <= f64::from(rows[i][i]) * 1e-7 || left < 1e-36 {
                    return refuse(format!("a covariance whose pivot {i} is {left:.3e}"));
                }
                l[i][i] = left.sqrt();
            } else {
                l[i][j] = left / l[j][j];
            }
        }
    }
    let mut inverse = [[0.0_f64; M]; M];
    for j in 0..M {
        inverse[j][j] = 1.0 / l[j][j];
        for i in j + 1..M {
            let dot: f64 = (j..i).map(|k| l[i][k] * inverse[k][j]).sum();
            inverse[i][j] = -dot / l[i][i];
        }
    }
    let at = |f: &dyn Fn(usize, usize) -> f64| (0..M * M).map(|ij| f(ij / M, ij % M) as f32).collect::<Vec<_>>();
    Ok(CovarianceFactors {
        factor: at(&|i, j| l[i][j]),
        precision: at(&|i, j| (0..M).map(|k| inverse[k][i] * inverse[k][j]).sum()),
        regular: true,
        filter: None,
    })
}
