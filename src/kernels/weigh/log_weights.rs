//! Weigh: converts costs to log-weights and solves for the temperature that a pass requests. Twins:
//! `shaders/weigh/weigh.wgsl`, `shaders/weigh/temperature.wgsl`.

use pulp::{Simd, WithSimd};

use super::root_finder::RootFinder;
use crate::interp::simd::isa::Isa;
use crate::interp::simd::lanes::Lanes;
use crate::kernels::average as weighted_mean;
use crate::kernels::average::{Group, Second};
use crate::kernels::pass::{
    DEMONSTRATED, DIVERGENCE, EFFECTIVE, ELITE, FIXED, GROUP, INVALID, MASKED, Pass, SIGNED, STANDARDISED, Sums, TILE,
};
use crate::kernels::score::rollout::{CostBounds, SCORES};
use crate::kernels::threads::{DurationEstimate, Parallelism};
use crate::lang::math::{Vector, exp, finite};
use crate::lang::{Real, Register};

/// A standard deviation below this is replaced by 1: the costs are practically equal. (J. Pan et al., *Model-based
/// diffusion*, arXiv 2407.01573, in its published code.)
const NO_DEVIATION: f32 = 1e-4;

/// The cost statistics of a problem's rows, and how the rows are to be weighed.
pub(crate) struct Weigh<'a> {
    pub(crate) parallelism: Parallelism,
    pub(crate) estimate: &'a DurationEstimate,
    pub(crate) isa: Isa,
    pub(crate) pass: &'a Pass,
    pub(crate) cost_stats: CostBounds,
}

/// The parameters that map costs J, relative to `reference`, to log-weights: ℓ = −(J − shift)/λ, or 0 up to a
/// threshold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightParams {
    pub(crate) reference: f32,
    pub(crate) temperature: f32,
    /// The mean of J, where it was computed.
    pub(crate) mean: f32,
    shift: f32,
    threshold: f32,
}

impl WeightParams {
    /// Adds these parameters to the sums of a pass.
    pub(crate) fn record(&self, sums: Sums) -> Sums {
        Sums { temperature: self.temperature, reference: self.reference, mean: self.mean, ..sums }
    }
}

impl Weigh<'_> {
    /// Computes the log-weights of all rows.
    pub(crate) fn run(&self, scores: &[f32], log_weights: &mut [f32], sums: &mut [Sums]) -> WeightParams {
        let weight_params = self.solve_temperature(scores, log_weights, sums);
        self.weigh(weight_params, self.pass.control_fixed, scores, log_weights);
        weight_params
    }

    fn weigh(&self, weight_params: WeightParams, fixed: f32, scores: &[f32], out: &mut [f32]) {
        self.parallelism.for_each(self.estimate, out.chunks_mut(GROUP).enumerate(), |(group, out)| {
            let first = group * GROUP;
            let scores = &scores[first * 3..][..out.len() * 3];
            self.isa.run(Job { weigh: self, weight_params, fixed, first, scores, out });
        });
    }

    /// Computes the log-weights of whole tiles of rows, from row `first` on.
    pub(crate) fn rows(&self, weight_params: WeightParams, first: usize, scores: &[f32], out: &mut [f32]) {
        self.isa.run(Job { weigh: self, weight_params, fixed: self.pass.control_fixed, first, scores, out });
    }

    /// The parameters for the temperature given in the pass.
    pub(crate) fn plain(&self) -> WeightParams {
        let (reference, temperature) = (self.cost_stats[0], self.pass.temperature);
        WeightParams { reference, temperature, mean: 0.0, shift: 0.0, threshold: f32::MAX }
    }

    /// Returns the given temperature, or solves for the one that meets the pass's target.
    fn solve_temperature(&self, scores: &[f32], log_weights: &mut [f32], sums: &mut [Sums]) -> WeightParams {
        let (pass, [best, worst, _]) = (self.pass, self.cost_stats);
        let plain = self.plain();
        match pass.search {
            FIXED if !pass.has(SIGNED) => plain,
            // If all costs are equal (or none is finite), any temperature will do.
            EFFECTIVE | DIVERGENCE if worst <= best => plain,
            EFFECTIVE | DIVERGENCE => {
                WeightParams { temperature: self.search(plain, scores, log_weights, sums), ..plain }
            }
            _ => {
                self.weigh(WeightParams { temperature: 1.0, ..plain }, pass.control_fixed, scores, log_weights);
                // Signed weights are not exponentiated, so the shift must not be applied yet.
                self.by_moments(plain, log_weights)
            }
        }
    }

    /// Solves for λ; both the effective sample size and the similarity to uniform weights increase with λ.
    fn search(&self, plain: WeightParams, scores: &[f32], log_weights: &mut [f32], sums: &mut [Sums]) -> f32 {
        let (pass, [best, worst, _]) = (self.pass, self.cost_stats);
        let second = if pass.search == DIVERGENCE { Second::Logs } else { Second::Squares };
        // −J of all rows, which does not depend on λ.
        self.weigh(WeightParams { temperature: 1.0, ..plain }, 0.0, scores, log_weights);
        let groups = || log_weights.chunks(GROUP).zip(scores.chunks(3 * GROUP));
        let fixed = pass.control_fixed;
        let mut search = RootFinder::new(Real::ln((worst - best) * pass.cost_scale));
        loop {
            let temperature = exp(search.next);
            self.parallelism.for_each(self.estimate, sums.iter_mut().zip(groups()), |(sums, (costs, scores))| {
                let mut under = [INVALID; GROUP];
                let out = &mut under[..costs.len()];
                self.isa.run(Under { temperature, fixed, costs, scores, out });
                *sums = self.isa.run(Group { second, log_weights: out });
            });
            let all = weighted_mean::merge(sums, second);
            let valid = all.valid as f32;
            let residual = match second {
                // If all weights underflow to 0, λ is too small.
                _ if all.sum <= 0.0 => -1.0,
                Second::Squares => Real::ln(all.sum * all.sum / (all.squares * pass.target * valid)),
                Second::Logs => 1.0 - (all.squares / all.sum - Real::ln(all.sum / valid)) / pass.target,
            };
            search = search.update(residual);
            if search.over {
                return exp(search.next);
            }
        }
    }

    /// Parameters that follow from the mean and standard deviation of J, or from its order. `log_weights` holds −J of
    /// every row.
    fn by_moments(&self, plain: WeightParams, log_weights: &mut [f32]) -> WeightParams {
        let pass = self.pass;
        let valid = || log_weights.iter().filter(|l| **l > INVALID).map(|l| -f64::from(*l));
        let count = valid().count().max(1);
        let mean = valid().sum::<f64>() / count as f64;
        let weight_params = WeightParams { mean: mean as f32, ..plain };
        let shift = if pass.has(SIGNED) { weight_params.mean } else { 0.0 };
        match pass.search {
            STANDARDISED => {
                let deviation = (valid().map(|j| (j - mean).powi(2)).sum::<f64>() / count as f64).sqrt() as f32;
                let unit = if deviation < NO_DEVIATION { 1.0 } else { deviation };
                WeightParams { temperature: pass.target * unit, shift, ..weight_params }
            }
            ELITE => {
                let wanted = elites(pass.target, count);
                // Invalid rows sort last.
                let (_, last, _) = log_weights.select_nth_unstable_by(wanted - 1, |a, b| b.total_cmp(a));
                WeightParams { threshold: -*last, ..weight_params }
            }
            _ => WeightParams { shift, ..weight_params },
        }
    }
}

/// The number of rows in the best `fraction` of `valid` rows: at least one.
fn elites(fraction: f32, valid: usize) -> usize {
    ((fraction * valid as f32).ceil() as usize).clamp(1, valid)
}

/// The scores of some rows, and the parameters that convert them to log-weights.
struct Job<'a> {
    weigh: &'a Weigh<'a>,
    weight_params: WeightParams,
    /// The factor on the second score that is not divided by λ.
    fixed: f32,
    /// The first row, and the scores from there on, tile by tile.
    first: usize,
    scores: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let WeightParams { reference, temperature, shift, threshold, .. } = self.weight_params;
        let (pass, number) = (self.weigh.pass, Lanes::<S>::from);
        // Both scores are relative to the best cost. The smallest demonstration cost is mapped to the cost of the
        // demonstration itself.
        let nearest = if finite(self.weigh.cost_stats[2]) { self.weigh.cost_stats[2] } else { 0.0 };
        let demonstrated = pass.demonstrated - reference * pass.cost_scale;
        for (scores, out) in self.scores.chunks(SCORES).zip(self.out.chunks_mut(TILE)) {
            for lane in (0..TILE).step_by(Lanes::<S>::COUNT) {
                let cost = Lanes::<S>::load(&scores[lane..]);
                let lost = Lanes::<S>::load(&scores[TILE + lane..]);
                let second = Lanes::<S>::load(&scores[2 * TILE + lane..]);
                let mut scaled = ((cost - reference) + lost) * pass.cost_scale + second * pass.control_scaled;
                if pass.has(DEMONSTRATED) {
                    scaled = scaled.min((second - nearest) * pass.cost_scale + demonstrated);
                }
                let mut log_weight = -(scaled - shift) / temperature - second * self.fixed;
                if pass.search == ELITE && threshold < f32::MAX {
                    let all = scaled + second * self.fixed;
                    log_weight = Lanes::simd_select(all.simd_le(number(threshold)), number(0.0), number(MASKED));
                }
                // Clamped to `MASKED`: below it, a valid row could be taken for an invalid one.
                let log_weight = log_weight.max(MASKED);
                let valid = finite(cost) & finite(lost) & finite(second);
                Lanes::simd_select(valid, log_weight, number(INVALID)).store(&mut out[lane..]);
            }
        }
        let real = (pass.rows as usize).saturating_sub(self.first).min(self.out.len());
        self.out[real..].fill(INVALID);
    }
}

/// Computes log-weights of some rows under a temperature from their −J.
struct Under<'a> {
    temperature: f32,
    fixed: f32,
    costs: &'a [f32],
    scores: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Under<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (number, invalid) = (Lanes::<S>::from, Lanes::<S>::from(INVALID));
        for (i, out) in self.out.chunks_exact_mut(Lanes::<S>::COUNT).enumerate() {
            let row = i * Lanes::<S>::COUNT;
            let cost = Lanes::<S>::load(&self.costs[row..]);
            let mut log_weight = cost / self.temperature;
            if self.fixed != 0.0 {
                let second = &self.scores[row / TILE * SCORES + 2 * TILE + row % TILE..];
                log_weight -= Lanes::<S>::load(second) * self.fixed;
            }
            Lanes::simd_select(cost.gt(invalid), log_weight.max(number(MASKED)), invalid).store(out);
        }
    }
}
