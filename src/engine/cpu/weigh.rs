//! Weigh: costs become log-weights, and the temperature is found that leaves a given effective sample size.
//! Twin: `shaders/weigh.wgsl`.

use pulp::{Simd, WithSimd};

use super::isa::Isa;
use super::rollout::{Extremes, SCORES};
use super::threads;
use super::weighted_mean::{self, Group};
use crate::scalar::math::{Vector, finite};
use crate::scalar::{Lanes, Real, Register};
use crate::update::{GROUP, INVALID, MASKED, Sums, TILE, Update};

/// Where λ is looked for: wherever it may be at all, since the costs that matter may be very much closer together than the
/// worst one is away. A single rollout that hits a wall must not decide how far down the search goes.
const BRACKET: [f32; 2] = [1e-30, 1e30];
/// Halvings of the logarithm of the bracket: they leave λ known to 10⁻⁶.
const HALVINGS: usize = 28;

/// The scores of some rows, and what turns them into log-weights.
struct Weigh<'a> {
    update: &'a Update,
    reference: f32,
    temperature: f32,
    /// The row that they start with, and their scores, tile by tile.
    first: usize,
    scores: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (update, number) = (self.update, Lanes::<S>::from);
        for (scores, out) in self.scores.chunks(SCORES).zip(self.out.chunks_mut(TILE)) {
            for lane in (0..TILE).step_by(Lanes::<S>::COUNT) {
                let cost = Lanes::<S>::load(&scores[lane..]);
                let lost = Lanes::<S>::load(&scores[TILE + lane..]);
                let control = Lanes::<S>::load(&scores[2 * TILE + lane..]);
                let scaled = ((cost - self.reference) + lost) * update.cost_scale + control * update.control_scaled;
                let log_weight = -scaled / self.temperature - control * update.control_fixed;
                // Not below `MASKED`, where a valid row would look like an invalid one.
                let log_weight = log_weight.max(MASKED);
                let valid = finite(cost) & finite(lost) & finite(control);
                Lanes::choose(valid, log_weight, number(INVALID)).store(&mut out[lane..]);
            }
        }
        let real = (update.rows as usize).saturating_sub(self.first).min(self.out.len());
        self.out[real..].fill(INVALID);
    }
}

/// Log-weights of all rows, at a temperature that is known.
pub(crate) fn weigh(isa: Isa, update: &Update, reference: f32, temperature: f32, scores: &[f32], out: &mut [f32]) {
    threads::for_each(out, GROUP, |group, out| {
        let first = group * GROUP;
        let scores = &scores[first * 3..][..out.len() * 3];
        isa.run(Weigh { update, reference, temperature, first, scores, out });
    });
}

/// The temperature of an update: as given, or found by bisection for the effective sample size wanted, which grows with λ.
pub(crate) fn temperature(
    isa: Isa,
    update: &Update,
    [best, worst]: Extremes,
    scores: &[f32],
    sums: &mut [Sums],
) -> f32 {
    // All costs equal (or none finite): any temperature does.
    if update.effective == 0.0 || worst <= best {
        return update.temperature;
    }
    let [mut low, mut high] = BRACKET;
    for _ in 0..HALVINGS {
        let middle = low.sqrt() * high.sqrt();
        threads::for_each(sums, 1, |group, sums| {
            let first = group * GROUP;
            let rows = (scores.len() / 3 - first).min(GROUP);
            let mut log_weights = [INVALID; GROUP];
            let (out, scores) = (&mut log_weights[..rows], &scores[first * 3..][..rows * 3]);
            isa.run(Weigh { update, reference: best, temperature: middle, first, scores, out });
            sums[0] = isa.run(Group { log_weights: &mut log_weights });
        });
        let all = weighted_mean::merge(sums);
        if all.sum * all.sum / all.squares < update.effective * all.valid as f32 { low = middle } else { high = middle }
    }
    low.sqrt() * high.sqrt()
}
