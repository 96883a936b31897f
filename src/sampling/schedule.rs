//! [`Schedule`]: the noise levels of a diffusion process.

use crate::error::{InvalidValue, in_range};

/// The noise levels 1 … L of a process, from the cleanest to the noisiest; level 0, which every process ends at, has no
/// noise. A level is ᾱ_i in the variance-preserving literature and σ_i = √(1/ᾱ_i − 1) in clean coordinates.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Schedule {
    /// ᾱ_i = Π_{j ≤ i} (1 − β_j) with β rising linearly. (Denoising diffusion probabilistic models, arXiv 2006.11239;
    /// model-based diffusion goes from 10⁻⁴ to 10⁻² in 100 levels, the default here.)
    Linear {
        /// L, at least 1.
        levels: usize,
        /// β₁, in (0, 1).
        first: f32,
        /// β_L, in (0, 1), at least β₁.
        last: f32,
    },
    /// ᾱ_i = f(i/L)/f(0) with f(t) = cos²((t + s)/(1 + s) · π/2), s = 0.008, and β_i limited to 0.999. (A. Nichol, P.
    /// Dhariwal, *Improved denoising diffusion probabilistic models*, arXiv 2102.09672.)
    Cosine {
        /// L, at least 1.
        levels: usize,
    },
    /// σ_i from `smallest` to `largest`, each the same factor above the one before; a single level has `largest`. (Y.
    /// Song, S. Ermon, arXiv 1907.05600.)
    Geometric {
        /// L, at least 1.
        levels: usize,
        /// σ₁, above 0.
        smallest: f32,
        /// σ_L, at least σ₁.
        largest: f32,
    },
    /// ᾱ₁ … ᾱ_L, in (0, 1] and falling. A level of ᾱ = 1 has no noise and is left out.
    Table(Vec<f32>),
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Linear { levels: 100, first: 1e-4, last: 1e-2 }
    }
}

/// The most levels, and the most steps over all of them.
pub(crate) const MOST: usize = 100_000;

impl Schedule {
    /// The levels of DIAL-MPC: σ_i = e^{−(L − i)/(2βL)}, so that the noisiest has σ = 1. (ArXiv 2409.15610.)
    pub fn annealed(levels: usize, beta: f32) -> Self {
        let smallest = (-(levels.saturating_sub(1) as f32) / (2.0 * beta * levels as f32)).exp();
        Self::Geometric { levels, smallest, largest: 1.0 }
    }

    /// L.
    pub fn levels(&self) -> usize {
        match self {
            Self::Linear { levels, .. } | Self::Cosine { levels } | Self::Geometric { levels, .. } => *levels,
            Self::Table(table) => table.len(),
        }
    }

    /// σ₁ … σ_L.
    pub fn sigmas(&self) -> Vec<f64> {
        let sigma = |alpha: f64| (1.0 / alpha - 1.0).max(0.0).sqrt();
        let products = |betas: &mut dyn Iterator<Item = f64>| -> Vec<f64> {
            let mut alpha = 1.0;
            let next = |beta: f64| {
                alpha *= 1.0 - beta;
                sigma(alpha)
            };
            betas.map(next).collect()
        };
        let levels = self.levels();
        // The position of level i (from 1) between the first and the last, from 0 to 1.
        let place = |i: usize| if levels > 1 { (i - 1) as f64 / (levels - 1) as f64 } else { 1.0 };
        match self {
            Self::Linear { first, last, .. } => {
                let (first, last) = (f64::from(*first), f64::from(*last));
                products(&mut (1..=levels).map(|i| first + (last - first) * place(i)))
            }
            Self::Cosine { .. } => {
                let f = |i: usize| {
                    let t = i as f64 / levels as f64;
                    ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2)
                };
                products(&mut (1..=levels).map(|i| (1.0 - f(i) / f(i - 1)).min(0.999)))
            }
            Self::Geometric { smallest, largest, .. } => {
                let (smallest, largest) = (f64::from(*smallest), f64::from(*largest));
                (1..=levels).map(|i| smallest * (largest / smallest).powf(place(i))).collect()
            }
            Self::Table(table) => table.iter().map(|alpha| sigma(f64::from(*alpha))).collect(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        let levels = self.levels();
        if levels == 0 || levels > MOST {
            let expected = format_args!("between 1 and {MOST} levels");
            return Err(InvalidValue::new("schedule", format_args!("{levels} levels"), expected));
        }
        self.check_numbers()?;
        let noisiest = self.sigmas()[levels - 1];
        if !(1e-12..=1e12).contains(&noisiest) {
            let value = format_args!("{self:?}, whose noisiest level is σ = {noisiest:e}");
            return Err(InvalidValue::new("schedule", value, "a noisiest level σ between 1e-12 and 1e12"));
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), InvalidValue> {
        match self {
            Self::Linear { first, last, .. } => {
                in_range("first", *first, *first > 0.0 && *first < 1.0, "β₁ in (0, 1)")?;
                in_range("last", *last, *last < 1.0 && last >= first, "β_L in (0, 1), and no less than β₁")
            }
            Self::Cosine { .. } => Ok(()),
            Self::Geometric { smallest, largest, .. } => {
                in_range("smallest", *smallest, *smallest >= 1e-12, "σ₁, finite and at least 1e-12")?;
                in_range(
                    "largest",
                    *largest,
                    largest >= smallest && *largest <= 1e12,
                    "σ_L, at least σ₁ and at most 1e12",
                )
            }
            Self::Table(table) => {
                for (i, &alpha) in table.iter().enumerate() {
                    if !(1e-24..=1.0).contains(&alpha) {
                        let value = format_args!("a table with ᾱ = {alpha} at index {i}");
                        return Err(InvalidValue::new("schedule", value, "a table of ᾱ in (0, 1], none below 1e-24"));
                    }
                    if i > 0 && alpha >= table[i - 1] {
                        let value = format_args!("a table with ᾱ = {alpha} after {} at index {i}", table[i - 1]);
                        return Err(InvalidValue::new(
                            "schedule",
                            value,
                            "a table of ᾱ that falls from level to level",
                        ));
                    }
                }
                if table == &[1.0] {
                    return Err(InvalidValue::new(
                        "schedule",
                        "a table without noise",
                        "at least one level below ᾱ = 1",
                    ));
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_as_published() {
        // Model-based diffusion: Π (1 − β) over 100 levels from 10⁻⁴ to 10⁻².
        let sigmas = Schedule::default().sigmas();
        let alpha = |sigma: f64| 1.0 / (1.0 + sigma * sigma);
        let product: f64 = (0..100).map(|i| 1.0 - (1e-4 + (1e-2 - 1e-4) * f64::from(i) / 99.0)).product();
        assert!((alpha(sigmas[99]) - product).abs() < 1e-6);
        assert!((alpha(sigmas[0]) - 0.9999).abs() < 1e-7);

        let cosine = Schedule::Cosine { levels: 1000 }.sigmas();
        let half = ((0.5 + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2)
            / (0.008_f64 / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
        assert!((alpha(cosine[499]) - half).abs() < 1e-9);

        let Schedule::Geometric { smallest, largest, .. } = Schedule::annealed(4, 0.5) else {
            panic!("it is geometric")
        };
        assert!((smallest - (-0.75_f32).exp()).abs() < 1e-6 && largest == 1.0);
        for schedule in [Schedule::default(), Schedule::Cosine { levels: 50 }, Schedule::annealed(7, 0.3)] {
            schedule.check().expect("it is valid");
            assert!(schedule.sigmas().windows(2).all(|pair| pair[0] < pair[1]), "{schedule:?}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        let table = |values: &[f32]| Schedule::Table(values.to_vec());
        let refused = [
            (table(&[]), "levels"),
            (table(&[0.9, 0.95]), "falls"),
            (table(&[0.9, 0.9]), "falls"),
            (table(&[1.1, 0.5]), "(0, 1]"),
            (table(&[0.5, 0.0]), "(0, 1]"),
            (table(&[0.5, f32::NAN]), "(0, 1]"),
            (table(&[1.0]), "below"),
            (Schedule::Linear { levels: 0, first: 0.1, last: 0.2 }, "levels"),
            (Schedule::Linear { levels: 9, first: 0.2, last: 0.1 }, "β₁"),
            (Schedule::Linear { levels: 9, first: 0.0, last: 0.1 }, "(0, 1)"),
            (Schedule::Geometric { levels: 9, smallest: 2.0, largest: 1.0 }, "σ₁"),
            (Schedule::Geometric { levels: 9, smallest: 0.0, largest: 1.0 }, "σ₁"),
            (Schedule::Linear { levels: 5, first: 1e-17, last: 1e-17 }, "noisiest"),
            (Schedule::Linear { levels: 1000, first: 1e-4, last: 0.5 }, "noisiest"),
        ];
        for (schedule, hint) in refused {
            let error = schedule.check().expect_err("it is no schedule").to_string();
            assert!(error.contains(hint), "{schedule:?}: {error}");
        }
    }
}
