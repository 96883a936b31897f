//! Weigh: converts costs to log-weights and solves for the temperature that an update requests. Twins:
//! `shaders/weigh.wgsl`, `shaders/temperature.wgsl`.

use pulp::{Simd, WithSimd};

use super::isa::Isa;
use super::rollout::{Extremes, SCORES};
use super::search::Search;
use super::threads::{Pace, Team};
use super::weighted_mean::{self, Group, Second};
use crate::scalar::math::{Vector, finite};
use crate::scalar::{Lanes, Real, Register};
use crate::update::{
    DEMONSTRATED, DIVERGENCE, EFFECTIVE, ELITE, FIXED, GROUP, INVALID, MASKED, SIGNED, STANDARDISED, Sums, TILE, Update,
};

/// A standard deviation below this is replaced by 1: the costs are practically equal. (J. Pan et al., *Model-based
/// diffusion*, arXiv 2407.01573, in its published code.)
const NO_DEVIATION: f32 = 1e-4;

/// The cost statistics of a problem's rows, and how the rows are to be weighed.
pub(crate) struct Weigh<'a> {
    pub(crate) team: Team,
    pub(crate) pace: &'a Pace,
    pub(crate) isa: Isa,
    pub(crate) update: &'a Update,
    pub(crate) known: Extremes,
}

/// The parameters that map costs J, relative to `reference`, to log-weights: ℓ = −(J − shift)/λ, or 0 up to a
/// threshold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) reference: f32,
    pub(crate) temperature: f32,
    /// The mean of J, where it was computed.
    pub(crate) mean: f32,
    shift: f32,
    threshold: f32,
}

impl Found {
    /// Adds these parameters to the sums of an update.
    pub(crate) fn record(&self, sums: Sums) -> Sums {
        Sums { temperature: self.temperature, reference: self.reference, mean: self.mean, ..sums }
    }
}

impl Weigh<'_> {
    /// Computes the log-weights of all rows.
    pub(crate) fn run(&self, scores: &[f32], log_weights: &mut [f32], sums: &mut [Sums]) -> Found {
        let found = self.find(scores, log_weights, sums);
        self.weigh(found, self.update.control_fixed, scores, log_weights);
        found
    }

    fn weigh(&self, found: Found, fixed: f32, scores: &[f32], out: &mut [f32]) {
        self.team.share(self.pace, out.chunks_mut(GROUP).enumerate(), |(group, out)| {
            let first = group * GROUP;
            let scores = &scores[first * 3..][..out.len() * 3];
            self.isa.run(Job { weigh: self, found, fixed, first, scores, out });
        });
    }

    /// Computes the log-weights of whole tiles of rows, from row `first` on.
    pub(crate) fn rows(&self, found: Found, first: usize, scores: &[f32], out: &mut [f32]) {
        self.isa.run(Job { weigh: self, found, fixed: self.update.control_fixed, first, scores, out });
    }

    /// The parameters for the temperature given in the update.
    pub(crate) fn plain(&self) -> Found {
        let (reference, temperature) = (self.known[0], self.update.temperature);
        Found { reference, temperature, mean: 0.0, shift: 0.0, threshold: f32::MAX }
    }

    /// Returns the given temperature, or solves for the one that meets the update's target.
    fn find(&self, scores: &[f32], log_weights: &mut [f32], sums: &mut [Sums]) -> Found {
        let (update, [best, worst, _]) = (self.update, self.known);
        let plain = self.plain();
        match update.search {
            FIXED if !update.has(SIGNED) => plain,
            // If all costs are equal (or none is finite), any temperature will do.
            EFFECTIVE | DIVERGENCE if worst <= best => plain,
            EFFECTIVE | DIVERGENCE => Found { temperature: self.search(plain, scores, log_weights, sums), ..plain },
            _ => {
                self.weigh(Found { temperature: 1.0, ..plain }, update.control_fixed, scores, log_weights);
                // Signed weights are not exponentiated, so the shift must not be applied yet.
                self.by_moments(plain, log_weights)
            }
        }
    }

    /// Solves for λ; both the effective sample size and the similarity to uniform weights increase with λ.
    fn search(&self, plain: Found, scores: &[f32], log_weights: &mut [f32], sums: &mut [Sums]) -> f32 {
        let (update, [best, worst, _]) = (self.update, self.known);
        let second = if update.search == DIVERGENCE { Second::Logs } else { Second::Squares };
        // −J of all rows, which does not depend on λ.
        self.weigh(Found { temperature: 1.0, ..plain }, 0.0, scores, log_weights);
        let groups = || log_weights.chunks(GROUP).zip(scores.chunks(3 * GROUP));
        let fixed = update.control_fixed;
        let mut search = Search::new((worst - best) * update.cost_scale);
        loop {
            let temperature = search.temperature();
            self.team.share(self.pace, sums.iter_mut().zip(groups()), |(sums, (costs, scores))| {
                let mut under = [INVALID; GROUP];
                let out = &mut under[..costs.len()];
                self.isa.run(Under { temperature, fixed, costs, scores, out });
                *sums = self.isa.run(Group { second, log_weights: out });
            });
            let all = weighted_mean::merge(sums, second);
            let valid = all.valid as f32;
            let excess = match second {
                // If all weights underflow to 0, λ is too small.
                _ if all.sum <= 0.0 => -1.0,
                Second::Squares => Real::ln(all.sum * all.sum / (all.squares * update.target * valid)),
                Second::Logs => 1.0 - (all.squares / all.sum - Real::ln(all.sum / valid)) / update.target,
            };
            if !search.learn(excess) {
                return search.temperature();
            }
        }
    }

    /// Parameters that follow from the mean and standard deviation of J, or from its order. `log_weights` holds −J of
    /// every row.
    fn by_moments(&self, plain: Found, log_weights: &mut [f32]) -> Found {
        let update = self.update;
        let valid = || log_weights.iter().filter(|l| **l > INVALID).map(|l| -f64::from(*l));
        let count = valid().count().max(1);
        let mean = valid().sum::<f64>() / count as f64;
        let found = Found { mean: mean as f32, ..plain };
        let shift = if update.has(SIGNED) { found.mean } else { 0.0 };
        match update.search {
            STANDARDISED => {
                let deviation = (valid().map(|j| (j - mean).powi(2)).sum::<f64>() / count as f64).sqrt() as f32;
                let unit = if deviation < NO_DEVIATION { 1.0 } else { deviation };
                Found { temperature: update.target * unit, shift, ..found }
            }
            ELITE => {
                let wanted = elites(update.target, count);
                // Invalid rows sort last.
                let (_, last, _) = log_weights.select_nth_unstable_by(wanted - 1, |a, b| b.total_cmp(a));
                Found { threshold: -*last, ..found }
            }
            _ => Found { shift, ..found },
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
    found: Found,
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
        let Found { reference, temperature, shift, threshold, .. } = self.found;
        let (update, number) = (self.weigh.update, Lanes::<S>::from);
        // Both scores are relative to the best cost. The smallest demonstration cost is mapped to the cost of the
        // demonstration itself.
        let nearest = if finite(self.weigh.known[2]) { self.weigh.known[2] } else { 0.0 };
        let demonstrated = update.demonstrated - reference * update.cost_scale;
        for (scores, out) in self.scores.chunks(SCORES).zip(self.out.chunks_mut(TILE)) {
            for lane in (0..TILE).step_by(Lanes::<S>::COUNT) {
                let cost = Lanes::<S>::load(&scores[lane..]);
                let lost = Lanes::<S>::load(&scores[TILE + lane..]);
                let second = Lanes::<S>::load(&scores[2 * TILE + lane..]);
                let mut scaled = ((cost - reference) + lost) * update.cost_scale + second * update.control_scaled;
                if update.has(DEMONSTRATED) {
                    scaled = scaled.min((second - nearest) * update.cost_scale + demonstrated);
                }
                let mut log_weight = -(scaled - shift) / temperature - second * self.fixed;
                if update.search == ELITE && threshold < f32::MAX {
                    let all = scaled + second * self.fixed;
                    log_weight = Lanes::choose(all.is_le(number(threshold)), number(0.0), number(MASKED));
                }
                // Clamped to `MASKED`: below it, a valid row could be taken for an invalid one.
                let log_weight = log_weight.max(MASKED);
                let valid = finite(cost) & finite(lost) & finite(second);
                Lanes::choose(valid, log_weight, number(INVALID)).store(&mut out[lane..]);
            }
        }
        let real = (update.rows as usize).saturating_sub(self.first).min(self.out.len());
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
            Lanes::choose(cost.gt(invalid), log_weight.max(number(MASKED)), invalid).store(out);
        }
    }
}
