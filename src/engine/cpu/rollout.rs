//! Draw and score: one lane is one rollout. Twin: `shaders/rollout.wgsl`.

use std::sync::Arc;

use pulp::{Simd, WithSimd};

use super::isa::Isa;
use crate::model::Model;
use crate::noise::normal;
use crate::scalar::{Inputs, Lanes, Mask, Pair, Real, Register, Stage};
use crate::update::{
    ANTITHETIC, CONTROL_COST, DEMONSTRATED, GIVEN, LIMITED, NOMINAL_FIRST, Problem, SPREAD, TILE, Update,
};

/// Numbers per tile of scores: for each of its rows the cost, what rounding took from it, and the second score: the control
/// cost or the departure from a demonstration.
pub(crate) const SCORES: usize = 3 * TILE;

/// The smallest and the largest finite cost, and the smallest finite second score; +∞, −∞ and +∞ if there is none.
pub(crate) type Extremes = [f32; 3];

/// Those of no rows.
pub(crate) const NO_EXTREMES: Extremes = [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY];

/// Those of all tiles together.
pub(crate) fn together(tiles: &[Extremes]) -> Extremes {
    let wider = |[a, b, c]: Extremes, [d, e, f]: &Extremes| [a.min(*d), b.max(*e), c.min(*f)];
    tiles.iter().fold(NO_EXTREMES, wider)
}

/// Those of a tile of scores, the first `rows` of which are real.
pub(crate) fn extremes(scores: &[f32], rows: usize) -> Extremes {
    let finite = |scores: &[f32], from: f32, f: fn(f32, f32) -> f32| {
        scores[..rows.min(TILE)].iter().filter(|s| s.is_finite()).fold(from, |a, b| f(a, *b))
    };
    let (costs, seconds) = (&scores[..TILE], &scores[2 * TILE..]);
    [
        finite(costs, f32::INFINITY, f32::min),
        finite(costs, f32::NEG_INFINITY, f32::max),
        finite(seconds, f32::INFINITY, f32::min),
    ]
}

/// The rollouts that are computed side by side: four registers, since a step is one long chain of dependent operations. On
/// AVX-512 that is a whole tile.
type Flight<S> = Pair<Pair<Lanes<S>>>;

/// One tile of rows to draw and score.
pub(crate) struct Tile<'a> {
    pub(crate) update: &'a Update,
    pub(crate) problem: &'a Problem<'a>,
    /// Which problem it is.
    pub(crate) number: u32,
    /// The row that the tile starts with.
    pub(crate) first: usize,
    /// Its rows, D × TILE.
    pub(crate) rows: &'a mut [f32],
    /// Its scores, 3 × TILE.
    pub(crate) scores: &'a mut [f32],
}

/// A model behind a pointer, so that the backend need not know its type.
pub(crate) trait Rollout: Send + Sync {
    fn tile(&self, isa: Isa, tile: Tile<'_>) -> Extremes;
}

/// The model of `N` states and `M` controls that a [`Rollout`] runs.
pub(crate) struct OfModel<const N: usize, const M: usize, D>(pub(crate) Arc<D>);

impl<const N: usize, const M: usize, D: Model<N, M>> Rollout for OfModel<N, M, D> {
    fn tile(&self, isa: Isa, tile: Tile<'_>) -> Extremes {
        isa.run(Job::<N, M, D> { model: &self.0, tile })
    }
}

struct Job<'a, const N: usize, const M: usize, D> {
    model: &'a D,
    tile: Tile<'a>,
}

impl<const N: usize, const M: usize, D: Model<N, M>> WithSimd for Job<'_, N, M, D> {
    type Output = Extremes;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> Extremes {
        for lane in (0..TILE).step_by(Flight::<S>::COUNT) {
            rollouts::<Flight<S>, N, M, D>(self.model, &mut self.tile, lane);
        }
        extremes(self.tile.scores, self.tile.update.rows as usize - self.tile.first)
    }
}

/// The rollouts of one register (or of several), starting at row `lane` of the tile.
#[inline(always)]
fn rollouts<V: Register, const N: usize, const M: usize, D: Model<N, M>>(model: &D, tile: &mut Tile<'_>, lane: usize) {
    let (update, layout, inputs) = (tile.update, tile.problem.layout, tile.problem.inputs);
    let (nominal, spread) = (tile.problem.nominal, tile.problem.spread);
    let horizon = update.horizon as usize;
    let number = V::from;
    let zero = number(0.0);

    let low = &inputs[layout.low()..][..M];
    let high = &inputs[layout.high()..][..M];
    let mut factor = [[0.0; M]; M];
    for i in 0..M {
        for j in 0..=i {
            factor[i][j] = update.scale * inputs[layout.factor() + i * M + j];
        }
    }
    let precision = &inputs[layout.precision()..][..M * M];
    let references = &inputs[layout.references()..];
    let stage = |t: usize| {
        let row = t.min(layout.reference_rows.max(1) - 1) * layout.reference_columns;
        Stage::over(Inputs {
            params: &inputs[layout.params_at()..][..layout.params],
            param_stride: 0,
            reference: &references[row..][..layout.reference_columns],
            time: t as f32,
            dt: update.dt,
            fields: tile.problem.fields,
        })
    };

    let row = V::counting((tile.first + lane) as u32);
    let (drawn, mirrored) = if update.has(ANTITHETIC) {
        (V::bits_shr(row, 1), V::bits_eq(V::bits_and(row, V::splat_bits(1)), V::splat_bits(1)))
    } else {
        (row, Mask::splat(false))
    };
    let first = V::bits_eq(row, V::splat_bits(0));
    let still = first & Mask::splat(update.has(NOMINAL_FIRST));

    let mut x = [zero; N];
    for i in 0..N {
        x[i] = number(inputs[i]);
    }
    let mut before = [zero; M];
    let mut running = Mask::splat(true);
    let (mut sum, mut control, mut departure) = ([zero; 2], zero, zero);
    let mut held = [zero; 4];

    for t in 0..horizon {
        let at = stage(t);
        let mut u = [zero; M];
        if update.has(GIVEN) {
            for m in 0..M {
                u[m] = V::load(&tile.rows[(t * M + m) * TILE + lane..]);
            }
        } else {
            let mut z = [zero; M];
            for m in 0..M {
                let d = t * M + m;
                if d.is_multiple_of(4) {
                    let block = V::splat_bits((d / 4) as u32);
                    let (number, problem) = (V::splat_bits(update.number), V::splat_bits(tile.number));
                    held = normal::four([drawn, block, number, problem], update.seed);
                }
                z[m] = held[d % 4];
            }
            for m in 0..M {
                let mut shaped = zero;
                for j in 0..=m {
                    shaped = z[j].mul_add(factor[m][j], shaped);
                }
                if update.has(SPREAD) {
                    shaped = shaped * spread[t * M + m];
                }
                if update.has(ANTITHETIC) {
                    shaped = V::choose(mirrored, -shaped, shaped);
                }
                u[m] = V::choose(still, zero, shaped) + nominal[t * M + m];
            }
        }
        if update.has(LIMITED) {
            for m in 0..M {
                u[m] = u[m].clamp(low[m], high[m]);
            }
        }
        for m in 0..M {
            u[m].store(&mut tile.rows[(t * M + m) * TILE + lane..]);
        }
        if update.has(CONTROL_COST) {
            for i in 0..M {
                for j in 0..M {
                    let weight = nominal[t * M + i] * precision[i * M + j];
                    control = (u[j] - nominal[t * M + j]).mul_add(weight, control);
                }
            }
        }

        // The cost of the step before stands here, beside the next step, so that what they share is computed once.
        let arrived = stage(t.max(1) - 1);
        let cost = model.cost(&arrived, x, before);
        sum = added(sum, V::choose(running & Mask::splat(t > 0), cost, zero));
        if update.has(DEMONSTRATED) && t > 0 {
            departure += V::choose(running, model.departure(&arrived, x), zero);
        }
        running = running & !model.done(&arrived, x);
        let next = model.step(&at, x, u);
        for i in 0..N {
            x[i] = V::choose(running, next[i], x[i]);
        }
        before = u;
    }

    let cost = model.cost(&stage(horizon - 1), x, before);
    sum = added(sum, V::choose(running, cost, zero));
    let [total, lost] = added(sum, model.terminal(&stage(horizon), x));
    if update.has(DEMONSTRATED) {
        control = departure + V::choose(running, model.departure(&stage(horizon - 1), x), zero);
    }
    total.store(&mut tile.scores[lane..]);
    (-lost).store(&mut tile.scores[TILE + lane..]);
    control.store(&mut tile.scores[2 * TILE + lane..]);
}

/// Kahan's summation: a sum, and what it has rounded away so far.
#[inline(always)]
pub(super) fn added<R: Real>([sum, lost]: [R; 2], value: R) -> [R; 2] {
    let y = value - lost;
    let total = sum + y;
    [total, (total - sum) - y]
}
