//! Draw and score: one lane is one rollout. Twin: `shaders/rollout.wgsl`.

use std::sync::Arc;

use pulp::{Simd, WithSimd};

use super::isa::Isa;
use crate::model::Model;
use crate::noise::Row;
use crate::scalar::math::{Vector, finite};
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
#[inline(always)]
pub(crate) fn extremes<S: Simd>(scores: &[f32], rows: usize) -> Extremes {
    let number = Lanes::<S>::from;
    let mut all = NO_EXTREMES.map(number);
    for lane in (0..TILE.min(rows)).step_by(Lanes::<S>::COUNT) {
        let real = number(rows as f32).gt(Lanes::place() + lane as f32);
        let (cost, second) = (Lanes::<S>::load(&scores[lane..]), Lanes::<S>::load(&scores[2 * TILE + lane..]));
        let (costs, seconds) = (real & finite(cost), real & finite(second));
        all[0] = Lanes::choose(costs, cost.min(all[0]), all[0]);
        all[1] = Lanes::choose(costs, cost.max(all[1]), all[1]);
        all[2] = Lanes::choose(seconds, second.min(all[2]), all[2]);
    }
    [all[0].fold(f32::min), all[1].fold(f32::max), all[2].fold(f32::min)]
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
    /// Draws the rows of a tile and scores them.
    fn tile(&self, isa: Isa, tile: Tile<'_>) -> Extremes;

    /// Whether rows can be drawn without being scored.
    fn draws(&self) -> bool {
        false
    }

    /// Draws the rows of a tile, as [`tile`](Self::tile) does, and leaves it at that if it can.
    fn draw(&self, isa: Isa, tile: Tile<'_>) {
        self.tile(isa, tile);
    }
}

/// The model of `N` states and `M` controls that a [`Rollout`] runs.
pub(crate) struct OfModel<const N: usize, const M: usize, D>(pub(crate) Arc<D>);

impl<const N: usize, const M: usize, D: Model<N, M>> Rollout for OfModel<N, M, D> {
    fn tile(&self, isa: Isa, tile: Tile<'_>) -> Extremes {
        isa.run(Job::<N, M, D> { model: Some(&self.0), tile })
    }

    fn draws(&self) -> bool {
        true
    }

    fn draw(&self, isa: Isa, tile: Tile<'_>) {
        isa.run(Job::<N, M, D> { model: None, tile });
    }
}

struct Job<'a, const N: usize, const M: usize, D> {
    /// Nothing if rows are drawn only.
    model: Option<&'a D>,
    tile: Tile<'a>,
}

impl<const N: usize, const M: usize, D: Model<N, M>> WithSimd for Job<'_, N, M, D> {
    type Output = Extremes;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> Extremes {
        for lane in (0..TILE).step_by(Flight::<S>::COUNT) {
            controls::<Flight<S>, M>(&mut self.tile, lane);
        }
        let Some(model) = self.model else { return NO_EXTREMES };
        for lane in (0..TILE).step_by(Flight::<S>::COUNT) {
            rollouts::<Flight<S>, N, M, D>(model, &mut self.tile, lane);
        }
        extremes::<S>(self.tile.scores, self.tile.update.rows as usize - self.tile.first)
    }
}

/// Draws the rows of one register (or of several), from row `lane` of the tile on, or takes those that are given; limits them,
/// and adds their control cost up. All of it before any rollout: the loop over time then has the registers to itself, and what
/// it reads back is in the nearest cache.
#[inline(always)]
fn controls<V: Register, const M: usize>(tile: &mut Tile<'_>, lane: usize) {
    let (update, layout, inputs) = (tile.update, tile.problem.layout, tile.problem.inputs);
    let (nominal, spread) = (tile.problem.nominal, tile.problem.spread);
    let (width, zero) = (update.width as usize, V::from(0.0));
    let row = V::counting((tile.first + lane) as u32);
    let (drawn, mirrored) = if update.has(ANTITHETIC) {
        (V::bits_shr(row, 1), V::bits_eq(V::bits_and(row, V::splat_bits(1)), V::splat_bits(1)))
    } else {
        (row, Mask::splat(false))
    };
    if !update.has(GIVEN) {
        let draws = Row::<V>::new(drawn, update.number, tile.number, update.seed);
        for (block, columns) in tile.rows.chunks_mut(4 * TILE).enumerate() {
            for (column, z) in columns.chunks_exact_mut(TILE).zip(V::normals(&draws, block as u32)) {
                z.store(&mut column[lane..]);
            }
        }
    }

    let still = V::bits_eq(row, V::splat_bits(0)) & Mask::splat(update.has(NOMINAL_FIRST));
    let low = &inputs[layout.low()..][..M];
    let high = &inputs[layout.high()..][..M];
    let precision = &inputs[layout.precision()..][..M * M];
    let mut factor = [[0.0; M]; M];
    for i in 0..M {
        for j in 0..=i {
            factor[i][j] = update.scale * inputs[layout.factor() + i * M + j];
        }
    }
    let diagonal = (0..M).all(|i| factor[i][..i].iter().all(|l| *l == 0.0));
    let mut cost = zero;
    for (t, columns) in tile.rows[..width * TILE].chunks_exact_mut(M * TILE).enumerate() {
        let centre = &nominal[t * M..][..M];
        let mut u = [zero; M];
        for m in 0..M {
            u[m] = V::load(&columns[m * TILE + lane..]);
        }
        if !update.has(GIVEN) {
            let z = u;
            for m in 0..M {
                let mut shaped = z[m] * factor[m][m];
                if !diagonal {
                    shaped = zero;
                    for j in 0..=m {
                        shaped = z[j].mul_add(factor[m][j], shaped);
                    }
                }
                if update.has(SPREAD) {
                    shaped = shaped * spread[t * M + m];
                }
                if update.has(ANTITHETIC) {
                    shaped = V::choose(mirrored, -shaped, shaped);
                }
                if update.has(NOMINAL_FIRST) {
                    shaped = V::choose(still, zero, shaped);
                }
                u[m] = shaped + centre[m];
            }
        }
        if update.has(LIMITED) {
            for m in 0..M {
                u[m] = u[m].clamp(low[m], high[m]);
            }
        }
        for m in 0..M {
            u[m].store(&mut columns[m * TILE + lane..]);
        }
        if update.has(CONTROL_COST) {
            for i in 0..M {
                for j in 0..M {
                    cost = (u[j] - centre[j]).mul_add(centre[i] * precision[i * M + j], cost);
                }
            }
        }
    }
    cost.store(&mut tile.scores[2 * TILE + lane..]);
}

/// The rollouts of one register (or of several), from row `lane` of the tile on.
#[inline(always)]
fn rollouts<V: Register, const N: usize, const M: usize, D: Model<N, M>>(model: &D, tile: &mut Tile<'_>, lane: usize) {
    let (update, layout, inputs) = (tile.update, tile.problem.layout, tile.problem.inputs);
    let horizon = update.horizon as usize;
    let zero = V::from(0.0);
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

    let mut x = [zero; N];
    for i in 0..N {
        x[i] = V::from(inputs[i]);
    }
    let mut before = [zero; M];
    let mut running = Mask::splat(true);
    let (mut sum, mut departure) = ([zero; 2], zero);
    for (t, columns) in tile.rows[..horizon * M * TILE].chunks_exact(M * TILE).enumerate() {
        let mut u = [zero; M];
        for m in 0..M {
            u[m] = V::load(&columns[m * TILE + lane..]);
        }
        // The cost of the step before stands here, beside the next step, so that what they share is computed once.
        let (at, arrived) = (stage(t), stage(t.max(1) - 1));
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
        departure += V::choose(running, model.departure(&stage(horizon - 1), x), zero);
        departure.store(&mut tile.scores[2 * TILE + lane..]);
    }
    total.store(&mut tile.scores[lane..]);
    (-lost).store(&mut tile.scores[TILE + lane..]);
}

/// Kahan's summation: a sum, and what it has rounded away so far.
#[inline(always)]
pub(super) fn added<R: Real>([sum, lost]: [R; 2], value: R) -> [R; 2] {
    let y = value - lost;
    let total = sum + y;
    [total, (total - sum) - y]
}
