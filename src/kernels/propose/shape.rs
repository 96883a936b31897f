//! [`NoiseShape`]: how the perturbations of different time steps depend on each other, and the
//! [`Filter`] that correlates them.
//!
//! A row of controls is U + B θ. U is the plan, θ are innovations: vectors of M normal numbers with covariance Σ,
//! independent of each other and each a function of its counter. B is linear in time and the same for every control.
//! White noise has one innovation for each time step and B = I. Every other shape is a [`Filter`], a recurrence with a
//! few taps y:
//!
//! ```text
//! y_j ← keep_j y_j + shift_j y_(j+1) + gain_j θ_i          with innovation i, every `every` time steps
//! (B θ)_t = Σ_j c_j(x) y_j                                 x in [0, 1): how far t is from one innovation to the next
//! ```
//!
//! Kernels run any filter, so a further shape of noise is a variant of [`NoiseShape`] and the numbers of its filter.

use crate::error::{InvalidValue, in_range};

/// How the perturbations of one control at different time steps depend on each other.
///
/// A row is U + B θ, clamped to the limits. U is the plan, θ consists of independent random vectors of covariance Σ
/// (one per knot or per time step), and the linear map B is defined by the shape. The weighted mean is taken over θ,
/// before the limits, and the plan becomes U + γ B·mean(θ), clamped to the limits. So limits apply to the controls that
/// are rolled out and to the plan, but do not bias the mean. (With white noise the mean is taken over the clamped
/// controls.)
///
/// # Example
///
/// ```
/// use gibbs::{Interpolation, MppiOptions, Noise, NoiseShape};
///
/// let options = MppiOptions {
///     noise: Noise::Diagonal([0.5]),
///     noise_shape: NoiseShape::Knots { every: 5, interpolation: Interpolation::Cubic },
///     ..Default::default()
/// };
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum NoiseShape {
    /// Independent perturbations at all time steps.
    #[default]
    White,
    /// Independent perturbations at knots, and a spline between them, as in predictive sampling. (T. Howell et al.,
    /// *Predictive sampling: real-time behavior synthesis with MuJoCo*, arXiv 2212.00541.) A plan of T steps has about
    /// T/n knots, so the search has fewer dimensions. Only the perturbation is a spline: the plan may be any sequence,
    /// and is shifted by single time steps.
    Knots {
        /// n, the time steps from one knot to the next; between 1 (which is white noise) and the horizon.
        every: usize,
        /// How the perturbation goes from knot to knot.
        interpolation: Interpolation,
    },
    /// Stationary colored noise: its power falls with frequency f as 1/f^α. (J. Timmer, M. König, *On generating power
    /// law noise*, Astron. Astrophys. 300 (1995); C. Pinneri et al., *Sample-efficient cross-entropy method for
    /// real-time planning*, arXiv 2008.06389.)
    ///
    /// It is computed by a recurrence, not by a Fourier transform: white noise passes through first-order filters whose
    /// poles and zeros are two octaves apart. (M. S. Keshner, *1/f noise*, Proc. IEEE 70 (1982).) From 1/T (T is the
    /// horizon, or 8,192 if that is less) to 1/4 cycle per time step its spectrum follows the power law to ±1.5 dB;
    /// below, it is flat. The covariance at every time step is Σ.
    Colored {
        /// α in [0, 2]: 0 is white, 1 pink and 2 red noise.
        exponent: f32,
    },
}

/// How a perturbation goes from one knot to the next. Knots before and after the horizon are added as needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Interpolation {
    /// Constant from each knot to the next. The covariance is Σ throughout.
    Hold,
    /// Straight lines. The covariance is Σ at knots and Σ/2 midway between two, ((1 − x)² + x²) Σ in general.
    Linear,
    /// Catmull–Rom splines: cubic, with a continuous slope. The covariance is Σ at knots and 0.64 Σ midway between two.
    /// (E. Catmull, R. Rom, *A class of local interpolating splines*, Computer Aided Geometric Design, 1974.)
    #[default]
    Cubic,
}

/// The maximum number of taps of a filter.
pub(crate) const MAX_TAPS: usize = 8;

/// A recurrence that turns innovations into perturbations: see the head of this file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Filter {
    /// Time steps from one innovation to the next.
    pub(crate) every: usize,
    pub(crate) taps: usize,
    /// The number of innovations before the one of time step 0.
    pub(crate) lead: usize,
    /// The delay from an innovation to the time step that it affects most, in units of `every` time steps.
    ahead: usize,
    pub(crate) keep: [f32; MAX_TAPS],
    pub(crate) shift: [f32; MAX_TAPS],
    pub(crate) gain: [f32; MAX_TAPS],
    /// The factors by which innovation i < `lead` is added to each tap, if the first innovations have factors of their
    /// own.
    pub(crate) first: Option<[[f32; MAX_TAPS]; MAX_TAPS]>,
    /// The coefficients of the polynomial c_j(x), the constant first.
    pub(crate) output: [[f32; 4]; MAX_TAPS],
}

impl NoiseShape {
    /// Returns the filter for a horizon, or `None` for white noise.
    pub(crate) fn filter(&self, horizon: usize) -> Result<Option<Filter>, InvalidValue> {
        match *self {
            Self::White => Ok(None),
            Self::Knots { every, interpolation } => {
                if !(1..=horizon).contains(&every) {
                    let expected = format_args!("between 1 and the horizon, {horizon}");
                    return Err(InvalidValue::new("every", every, expected));
                }
                Ok((every > 1).then(|| Filter::knots(every, interpolation)))
            }
            Self::Colored { exponent } => {
                in_range("exponent", exponent, (0.0..=2.0).contains(&exponent), "between 0 (white) and 2 (red)")?;
                Ok((exponent > 0.0).then(|| Filter::colored(f64::from(exponent), horizon)))
            }
        }
    }
}

impl Filter {
    /// Every innovation is the perturbation of its time step, as in white noise.
    pub(crate) fn identity() -> Self {
        Self::knots(1, Interpolation::Hold)
    }

    /// Whether it is that of [`identity`](Self::identity).
    #[inline(always)]
    pub(crate) fn is_identity(&self) -> bool {
        self.every == 1 && self.taps == 1 && self.first.is_none() && self.keep[0] == 0.0
    }

    /// The taps are the knots around a time step: each innovation shifts them by one place.
    pub(crate) fn knots(every: usize, interpolation: Interpolation) -> Self {
        let (taps, ahead, polynomials): (usize, usize, &[[f32; 4]]) = match interpolation {
            Interpolation::Hold => (1, 0, &[[1.0, 0.0, 0.0, 0.0]]),
            Interpolation::Linear => (2, 1, &[[1.0, -1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]),
            Interpolation::Cubic => {
                (4, 2, &[[0.0, -0.5, 1.0, -0.5], [1.0, 0.0, -2.5, 1.5], [0.0, 0.5, 2.0, -1.5], [0.0, 0.0, -0.5, 0.5]])
            }
        };
        let (mut shift, mut gain, mut output) = ([0.0; MAX_TAPS], [0.0; MAX_TAPS], [[0.0; 4]; MAX_TAPS]);
        shift[..taps - 1].fill(1.0);
        gain[taps - 1] = 1.0;
        output[..taps].copy_from_slice(polynomials);
        Self { every, taps, lead: taps - 1, ahead, keep: [0.0; MAX_TAPS], shift, gain, first: None, output }
    }

    /// A product of sections (1 − b z⁻¹)/(1 − a z⁻¹), each falling by α of the two octaves from its pole to the next,
    /// as a sum of first-order recurrences over the same innovations.
    fn colored(exponent: f64, horizon: usize) -> Self {
        /// The ratio of consecutive poles.
        const RATIO: f64 = 4.0;
        /// The longest correlation that the taps suffice for (in time steps).
        const LONGEST: usize = 8192;
        let slowest = std::f64::consts::PI / horizon.min(LONGEST) as f64;
        let corners = (0..MAX_TAPS as i32 - 1).map(|s| slowest * RATIO.powi(s));
        let corners: Vec<f64> = corners.take_while(|corner| *corner <= std::f64::consts::PI).collect();
        let mut poles: Vec<f64> = corners.iter().map(|corner| (-corner).exp()).collect();
        let zeros: Vec<f64> = corners.iter().map(|corner| (-corner * RATIO.powf(exponent / 2.0)).exp()).collect();
        // Partial fractions. The remainder is a multiple of the innovation itself, a recurrence whose pole is 0.
        let mut gains: Vec<f64> = (0..poles.len())
            .map(|s| {
                let others = (0..poles.len()).filter(|k| *k != s).map(|k| 1.0 - poles[k] / poles[s]);
                zeros.iter().map(|zero| 1.0 - zero / poles[s]).product::<f64>() / others.product::<f64>()
            })
            .collect();
        gains.push(zeros.iter().zip(&poles).map(|(zero, pole)| zero / pole).product());
        poles.push(0.0);

        // The first innovations initialize the taps by the Cholesky factor of their stationary covariance, so that the
        // noise is stationary from time step 0 on.
        let taps = poles.len();
        let covariance = |i: usize, j: usize| 1.0 / (1.0 - poles[i] * poles[j]);
        let mut factor = [[0.0_f64; MAX_TAPS]; MAX_TAPS];
        for i in 0..taps {
            for j in 0..=i {
                let dot: f64 = (0..j).map(|k| factor[i][k] * factor[j][k]).sum();
                let left = covariance(i, j) - dot;
                factor[i][j] = if i == j { left.sqrt() } else { left / factor[j][j] };
            }
        }
        let pairs = (0..taps * taps).map(|at| (at / taps, at % taps));
        let variance: f64 = pairs.map(|(i, j)| gains[i] * gains[j] * covariance(i, j)).sum();
        let (mut keep, mut gain, mut output) = ([0.0; MAX_TAPS], [0.0; MAX_TAPS], [[0.0; 4]; MAX_TAPS]);
        let mut first = [[0.0; MAX_TAPS]; MAX_TAPS];
        for j in 0..taps {
            (keep[j], gain[j], output[j][0]) = (poles[j] as f32, 1.0, (gains[j] / variance.sqrt()) as f32);
            for i in 0..taps {
                first[i][j] = factor[j][i] as f32;
            }
        }
        let shift = [0.0; MAX_TAPS];
        Self { every: 1, taps, lead: taps, ahead: 0, keep, shift, gain, first: Some(first), output }
    }

    /// The number of innovations of a plan of `horizon` time steps.
    pub(crate) fn innovations(&self, horizon: usize) -> usize {
        self.lead + horizon.div_ceil(self.every)
    }

    /// The time step that innovation `i` affects most.
    pub(crate) fn time(&self, i: usize, horizon: usize) -> usize {
        ((i + self.ahead).saturating_sub(self.lead) * self.every).min(horizon - 1)
    }

    /// The time steps from innovation `i` to the next.
    #[inline(always)]
    pub(crate) fn steps(&self, i: usize, horizon: usize) -> std::ops::Range<usize> {
        let step = |i: usize| (i.max(self.lead) - self.lead).saturating_mul(self.every).min(horizon);
        step(i)..step(i + 1)
    }

    /// The factors c_j on the taps at a time step.
    #[inline(always)]
    pub(crate) fn weights(&self, t: usize) -> [f32; MAX_TAPS] {
        let x = (t % self.every) as f32 * (1.0 / self.every as f32);
        let mut weights = [0.0; MAX_TAPS];
        for j in 0..self.taps {
            let [c0, c1, c2, c3] = self.output[j];
            weights[j] = x.mul_add(x.mul_add(x.mul_add(c3, c2), c1), c0);
        }
        weights
    }

    /// Computes B θ, the perturbations of some controls at every time step, from the innovations in order. `put` is
    /// called with time step, control and perturbation.
    pub(crate) fn apply(
        &self,
        horizon: usize,
        controls: usize,
        innovations: &[f32],
        mut put: impl FnMut(usize, usize, f32),
    ) {
        let (count, mut taps) = (self.innovations(horizon), [0.0; MAX_TAPS]);
        for m in 0..controls {
            taps.fill(0.0);
            for i in 0..count {
                let innovation = innovations[i * controls + m];
                match &self.first {
                    Some(first) if i < self.lead => {
                        taps.iter_mut().zip(first[i]).for_each(|(tap, gain)| *tap += gain * innovation);
                    }
                    _ => {
                        for j in 0..self.taps {
                            let next = taps.get(j + 1).copied().unwrap_or(0.0);
                            taps[j] = self.keep[j] * taps[j] + self.shift[j] * next + self.gain[j] * innovation;
                        }
                    }
                }
                for t in self.steps(i, horizon) {
                    put(t, m, self.weights(t).iter().zip(taps).map(|(c, y)| c * y).sum());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERPOLATIONS: [Interpolation; 3] = [Interpolation::Hold, Interpolation::Linear, Interpolation::Cubic];

    /// The columns of B: the effect of each innovation on each time step.
    fn matrix(filter: &Filter, horizon: usize) -> Vec<Vec<f64>> {
        let count = filter.innovations(horizon);
        let unit = |i: usize| (0..count).map(|k| f32::from(u8::from(k == i))).collect::<Vec<_>>();
        (0..count)
            .map(|i| {
                let mut column = vec![0.0; horizon];
                filter.apply(horizon, 1, &unit(i), |t, _, v| column[t] = f64::from(v));
                column
            })
            .collect()
    }

    fn variance(columns: &[Vec<f64>], t: usize) -> f64 {
        columns.iter().map(|column| column[t] * column[t]).sum()
    }

    #[test]
    fn splines_pass_through_their_knots_with_the_documented_variance() {
        for (every, horizon) in [(2, 9), (4, 13), (5, 5), (7, 20)] {
            for interpolation in INTERPOLATIONS {
                let columns = matrix(&Filter::knots(every, interpolation), horizon);
                for t in 0..horizon {
                    let x = (t % every) as f64 / every as f64;
                    let expected = match interpolation {
                        Interpolation::Hold => 1.0,
                        Interpolation::Linear => (1.0 - x).powi(2) + x * x,
                        Interpolation::Cubic => {
                            let basis = [
                                -x / 2.0 + x * x - x.powi(3) / 2.0,
                                1.0 - 2.5 * x * x + 1.5 * x.powi(3),
                                x / 2.0 + 2.0 * x * x - 1.5 * x.powi(3),
                                (x.powi(3) - x * x) / 2.0,
                            ];
                            basis.iter().map(|c| c * c).sum()
                        }
                    };
                    let found = variance(&columns, t);
                    assert!((found - expected).abs() < 1e-5, "{interpolation:?}, t = {t}: {found}, not {expected}");
                    // If all knots have the same value, the perturbation has it at every time step.
                    let sum: f64 = columns.iter().map(|column| column[t]).sum();
                    assert!((sum - 1.0).abs() < 1e-5, "{interpolation:?}: a constant stays one");
                }
            }
        }
    }

    #[test]
    fn colored_noise_is_stationary_and_follows_its_power_law() {
        for horizon in [3, 20, 50, 200, 1000, 5000] {
            for exponent in [0.1, 0.5, 1.0, 1.5, 2.0] {
                let name = format!("α = {exponent}, T = {horizon}");
                let filter = Filter::colored(exponent, horizon);
                if horizon <= 200 {
                    let columns = matrix(&filter, horizon);
                    for t in 0..horizon {
                        let found = variance(&columns, t);
                        assert!((found - 1.0).abs() < 2e-5, "{name}: a variance of {found} at t = {t}");
                    }
                }
                if horizon < 20 {
                    continue;
                }
                // |H|² in decibels beside the power law, from 1/T to 1/4.
                let beside: Vec<f64> = (0..=200)
                    .map(|i| {
                        let f = (1.0 / horizon as f64).powf(1.0 - f64::from(i) / 200.0)
                            * 0.25_f64.powf(f64::from(i) / 200.0);
                        let (mut re, mut im) = (0.0, 0.0);
                        for j in 0..filter.taps {
                            let (a, g) = (f64::from(filter.keep[j]), f64::from(filter.output[j][0]));
                            let (s, c) = (2.0 * std::f64::consts::PI * f).sin_cos();
                            let (x, y) = (1.0 - a * c, a * s);
                            let norm = x * x + y * y;
                            (re, im) = (re + g * x / norm, im - g * y / norm);
                        }
                        10.0 * (re * re + im * im).log10() + 10.0 * exponent * f.log10()
                    })
                    .collect();
                let mean = beside.iter().sum::<f64>() / beside.len() as f64;
                let off = beside.iter().fold(0.0_f64, |off, v| off.max((v - mean).abs()));
                assert!(off < 1.5, "{name}: {off} dB off");
            }
        }
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let knots = |every| NoiseShape::Knots { every, interpolation: Interpolation::Linear };
        for every in [0, 11, usize::MAX] {
            assert_eq!(knots(every).filter(10).expect_err("refused").field, "every");
        }
        for exponent in [-0.1, 2.1, f32::NAN, f32::INFINITY] {
            assert_eq!(NoiseShape::Colored { exponent }.filter(10).expect_err("refused").field, "exponent");
        }
        for white in [NoiseShape::White, knots(1), NoiseShape::Colored { exponent: 0.0 }] {
            assert_eq!(white.filter(10), Ok(None));
        }
    }
}
