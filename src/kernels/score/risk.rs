//! Risk: one cost per row from its costs in several scenarios. Twin: `shaders/score/risk.wgsl`.

use pulp::{Simd, WithSimd};

use super::rollout::{CostBounds, SCORES, cost_bounds};
use crate::error::InvalidValue;
use crate::interp::simd::lanes::Lanes;
use crate::kernels::pass::{DEMONSTRATED, ENTROPIC, Pass, TAIL, TILE};
use crate::lang::math::{exp, finite, kahan_add};
use crate::lang::{Mask, Real, Register};

/// How the costs of a control sequence in S scenarios become the one cost that it is weighed by.
///
/// A sequence whose cost is not finite in some scenario is invalid, whatever the risk.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Risk {
    /// The mean over the scenarios.
    #[default]
    Mean,
    /// The cost in the worst scenario.
    Worst,
    /// The conditional value at risk: the mean over the worst fraction α of the scenarios, in (0, 1]. Where α·S is not
    /// whole, the last of them counts in part; below one scenario, it is the worst. With α = 1 it is the mean. It
    /// takes S² comparisons for each row. (R. Rockafellar, S. Uryasev, *Optimization of conditional value-at-risk*,
    /// Journal of Risk 2, 2000.)
    ConditionalValueAtRisk(f32),
    /// (1/θ) ln mean e^{θJ}, for a sensitivity θ above 0, in the inverse unit of the cost. For small θ it approaches
    /// the mean plus θ/2 times the variance, and for large θ the worst cost. (D. Jacobson, *Optimal stochastic linear
    /// systems with exponential performance criteria*, IEEE Transactions on Automatic Control 18, 1973.)
    Entropic(f32),
}

impl Risk {
    /// Refuses parameters that are out of range.
    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        match *self {
            Self::Mean | Self::Worst => Ok(()),
            Self::ConditionalValueAtRisk(alpha) if alpha > 0.0 && alpha <= 1.0 => Ok(()),
            Self::ConditionalValueAtRisk(alpha) => {
                Err(InvalidValue::new("risk", format_args!("ConditionalValueAtRisk({alpha})"), "a fraction in (0, 1]"))
            }
            Self::Entropic(theta) if theta > 0.0 && theta.is_finite() => Ok(()),
            Self::Entropic(theta) => {
                Err(InvalidValue::new("risk", format_args!("Entropic({theta})"), "finite and above 0"))
            }
        }
    }

    /// Writes the risk over `scenarios` scenarios to a pass whose scale of costs is set.
    pub(crate) fn write(&self, scenarios: usize, pass: &mut Pass) {
        let count = scenarios as f32;
        pass.scenarios = scenarios as u32;
        (pass.risk, pass.risk_value) = match *self {
            Self::Mean => (TAIL, count),
            Self::Worst => (TAIL, 1.0),
            Self::ConditionalValueAtRisk(alpha) => (TAIL, (alpha * count).max(1.0)),
            // The kernels combine costs before these are scaled. They divide by θ.
            Self::Entropic(theta) => (ENTROPIC, (theta * pass.cost_scale).max(1e-30)),
        };
    }
}

/// Combines the costs of some rows in all scenarios of a pass. A cost is a sum and its compensation.
#[inline(always)]
pub(crate) fn combine<V: Register>(pass: &Pass, cost: impl Fn(usize) -> [V; 2]) -> [V; 2] {
    let (count, zero) = (pass.scenarios as usize, V::from(0.0));
    let total = |s: usize| {
        let [sum, compensation] = cost(s);
        sum + compensation
    };
    // A cost that is not finite is the result.
    let (mut all_finite, mut invalid) = (V::Truth::splat(true), zero);
    for s in 0..count {
        let finite = finite(total(s));
        invalid = V::simd_select(finite, invalid, total(s));
        all_finite = all_finite & finite;
    }
    let [sum, compensation] =
        if pass.risk == ENTROPIC { entropic(pass, total) } else { mean_of_tail(pass, total, &cost) };
    [V::simd_select(all_finite, sum, invalid), V::simd_select(all_finite, compensation, zero)]
}

/// The mean over the worst scenarios, as many as [`Pass::risk_value`].
#[inline(always)]
fn mean_of_tail<V: Register>(pass: &Pass, total: impl Fn(usize) -> V, cost: &impl Fn(usize) -> [V; 2]) -> [V; 2] {
    let (count, zero, one) = (pass.scenarios as usize, V::from(0.0), V::from(1.0));
    let tail = pass.risk_value;
    let is_whole = tail == count as f32;
    if tail == 1.0 && !is_whole {
        return [worst(count, total), zero];
    }
    let mut sum = [zero; 2];
    for s in 0..count {
        let mut weight = one;
        if !is_whole {
            // The number of scenarios that are worse. Of equal ones, the first counts as the worst.
            let (mut rank, own) = (zero, total(s));
            for other in 0..count {
                let worse = if other < s { own.simd_le(total(other)) } else { own.simd_lt(total(other)) };
                rank += V::simd_select(worse, one, zero);
            }
            weight = (V::from(tail) - rank).max(zero).min(one);
        }
        let [cost, compensation] = cost(s);
        sum = kahan_add(kahan_add(sum, cost * weight), compensation * weight);
    }
    let share = 1.0 / tail;
    [sum[0] * share, -sum[1] * share]
}

/// The largest cost.
#[inline(always)]
fn worst<V: Register>(count: usize, total: impl Fn(usize) -> V) -> V {
    let mut worst = total(0);
    for s in 1..count {
        worst = worst.max(total(s));
    }
    worst
}

/// (1/θ) ln mean e^{θJ}.
///
/// It is computed relative to the worst cost, so that nothing overflows. Where all θJ are within a tenth of each other
/// that would leave few digits: there the series about the mean is used, to the fourth order.
#[inline(always)]
fn entropic<V: Register>(pass: &Pass, total: impl Fn(usize) -> V) -> [V; 2] {
    let (count, theta, zero) = (pass.scenarios as usize, pass.risk_value, V::from(0.0));
    let share = 1.0 / count as f32;
    let (worst, mut best) = (worst(count, &total), total(0));
    let (mut mean, mut sum, mut series) = ([zero; 2], [zero; 2], [zero; 2]);
    for s in 0..count {
        best = best.min(total(s));
        mean = kahan_add(mean, total(s));
        sum = kahan_add(sum, exp((total(s) - worst) * theta));
    }
    let mean = mean[0] * share;
    for s in 0..count {
        let z = (total(s) - mean) * theta;
        // e^z − 1 − z; the sum of all z is 0.
        let rest = (z * (1.0 / 24.0) + 1.0 / 6.0).mul_add(z, V::from(0.5));
        series = kahan_add(series, rest * z * z);
    }
    let rest = series[0] * share;
    let about_mean = mean + (rest - rest * rest * 0.5) / theta;
    let about_worst = worst + Real::ln(sum[0] * share) / theta;
    [V::simd_select(((worst - best) * theta).lt(V::from(0.1)), about_mean, about_worst), zero]
}

/// Combines the scores of a tile in all scenarios and returns the bounds of the result.
pub(crate) struct Combine<'a> {
    pub(crate) pass: &'a Pass,
    /// The scores in each scenario, S × [`SCORES`].
    pub(crate) scenarios: &'a [f32],
    /// The combined scores. The control cost, which does not depend on the scenario, is in place.
    pub(crate) scores: &'a mut [f32],
    /// The number of rows of the tile.
    pub(crate) rows: usize,
}

impl WithSimd for Combine<'_> {
    type Output = CostBounds;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> CostBounds {
        let Self { pass, scenarios, scores, rows } = self;
        let load = |s: usize, at: usize| Lanes::<S>::load(&scenarios[s * SCORES + at..]);
        for lane in (0..TILE).step_by(Lanes::<S>::COUNT) {
            let [sum, compensation] = combine(pass, |s| [load(s, lane), load(s, TILE + lane)]);
            sum.store(&mut scores[lane..]);
            compensation.store(&mut scores[TILE + lane..]);
            if pass.has(DEMONSTRATED) {
                let mut departure = Lanes::<S>::from(0.0);
                for s in 0..pass.scenarios as usize {
                    departure += load(s, 2 * TILE + lane);
                }
                (departure * (1.0 / pass.scenarios as f32)).store(&mut scores[2 * TILE + lane..]);
            }
        }
        cost_bounds::<S>(scores, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::Random;

    fn of(risk: Risk, costs: &[f32]) -> f32 {
        let mut pass = Pass { cost_scale: 1.0, ..bytemuck::Zeroable::zeroed() };
        risk.check().expect("valid");
        risk.write(costs.len(), &mut pass);
        let [sum, compensation] = combine(&pass, |s| [costs[s], 0.0]);
        sum + compensation
    }

    fn near(found: f32, expected: f64) {
        assert!((f64::from(found) - expected).abs() <= 3e-6 * expected.abs().max(1.0), "{found}, not {expected}");
    }

    /// Compares with the definitions, in double precision; the conditional value at risk with its minimum over ν of
    /// ν + mean (J − ν)⁺/α, which is at one of the costs.
    #[test]
    fn risks_are_what_they_are_defined_to_be() {
        let mut random = Random::new(3);
        for count in [1, 2, 3, 7, 16] {
            let costs: Vec<f32> = (0..count).map(|_| 5.0 + 3.0 * random.normal()).collect();
            let each = || costs.iter().map(|c| f64::from(*c));
            let mean = each().sum::<f64>() / count as f64;
            let worst = each().fold(f64::NEG_INFINITY, f64::max);
            near(of(Risk::Mean, &costs), mean);
            near(of(Risk::Worst, &costs), worst);
            near(of(Risk::ConditionalValueAtRisk(1.0), &costs), mean);
            near(of(Risk::ConditionalValueAtRisk(1e-6), &costs), worst);
            for alpha in [0.1, 0.25, 0.5, 0.9_f32] {
                let above = |v: f64| each().map(|c| (c - v).max(0.0)).sum::<f64>() / count as f64;
                let least = each().map(|v| v + above(v) / f64::from(alpha)).fold(f64::INFINITY, f64::min);
                near(of(Risk::ConditionalValueAtRisk(alpha), &costs), least);
            }
            for theta in [1e-3, 1e-2, 0.1, 1.0, 30.0_f32] {
                let sum: f64 = each().map(|c| (f64::from(theta) * (c - worst)).exp()).sum();
                near(of(Risk::Entropic(theta), &costs), worst + (sum / count as f64).ln() / f64::from(theta));
            }
            for theta in [1e-6, 1e-12, 1e-38] {
                near(of(Risk::Entropic(theta), &costs), mean);
            }
        }
    }

    #[test]
    fn equal_costs_have_no_risk() {
        for risk in [Risk::Mean, Risk::Worst, Risk::ConditionalValueAtRisk(0.4), Risk::Entropic(2.0)] {
            near(of(risk, &[2.5; 5]), 2.5);
        }
    }

    #[test]
    fn a_cost_that_is_not_finite_is_never_averaged_away() {
        for risk in [Risk::Mean, Risk::Worst, Risk::ConditionalValueAtRisk(0.4), Risk::Entropic(2.0)] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                assert!(!of(risk, &[1.0, bad, 3.0]).is_finite(), "{risk:?} of {bad}");
            }
        }
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        for risk in [0.0, -0.1, 1.1, f32::NAN].map(Risk::ConditionalValueAtRisk) {
            assert!(risk.check().is_err(), "{risk:?}");
        }
        for risk in [0.0, -1.0, f32::INFINITY, f32::NAN].map(Risk::Entropic) {
            assert!(risk.check().is_err(), "{risk:?}");
        }
    }
}
