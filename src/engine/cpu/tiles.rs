//! Draw, score, weigh and average tile by tile: rows stay in the innermost caches and need no storage of their own, and
//! threads synchronize once per update.
//!
//! Where λ is given, a tile can be weighed as soon as it is scored, relative to its own best cost, and its partial
//! average is merged with the others afterwards. Where λ has to be solved for first, the scores of all rows are needed
//! before any can be weighed; the rows of nonzero weight are then drawn again for the average, as on a GPU.

use super::isa::Isa;
use super::rollout::{Extremes, Rollout, SCORES, Tile};
use super::threads::{Pace, Team};
use super::weigh::{Found, Weigh};
use super::weighted_mean::{Add, join_all, join_tile};
use crate::line::Line;
use crate::update::{INVALID, Problem, Sums, TILE, Update};

/// The number of tiles per partial average: small enough to keep many threads busy, and large enough that partial
/// results are small compared with the rows. It does not depend on the number of threads, so that no result does.
fn stretch(tiles: usize) -> usize {
    (tiles / 64).clamp(1, 16)
}

/// The number of partial results of an update.
pub(crate) fn parts(update: &Update) -> usize {
    let tiles = (update.rows as usize).div_ceil(TILE);
    tiles.div_ceil(stretch(tiles))
}

/// The scratch of a thread: the rows of the current tile, and storage for scores that are discarded.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) rows: Vec<Line>,
    pub(crate) scores: Vec<f32>,
    /// The scratch that the [`Rollout`] requested.
    pub(crate) spare: Vec<Line>,
}

/// An update whose rows are not stored.
pub(crate) struct Tiles<'a> {
    pub(crate) team: Team,
    pub(crate) isa: Isa,
    pub(crate) rollout: &'a dyn Rollout,
    pub(crate) update: &'a Update,
    pub(crate) problem: &'a Problem<'a>,
    pub(crate) number: u32,
}

/// Storage for partial results and for the merged mean, with the scratch of each thread.
pub(crate) struct Parts<'a> {
    pub(crate) pace: &'a Pace,
    pub(crate) desks: &'a mut [Desk],
    pub(crate) sums: &'a mut [Sums],
    pub(crate) moments: &'a mut [f32],
    pub(crate) mean: &'a mut [f32],
}

impl Tiles<'_> {
    /// The rows and scores of tile `index`.
    fn tile<'a>(
        &'a self,
        index: usize,
        rows: &'a mut [Line],
        scores: &'a mut [f32],
        spare: &'a mut [Line],
    ) -> Tile<'a> {
        let Self { update, problem, number, .. } = *self;
        Tile { update, problem, number, first: index * TILE, rows: Line::numbers_mut(rows), scores, spare }
    }

    /// Scores all rows.
    pub(crate) fn score(&self, (pace, desks): (&Pace, &mut [Desk]), scores: &mut [f32], extremes: &mut [Extremes]) {
        let tiles = scores.chunks_mut(SCORES).zip(extremes).enumerate();
        self.team.share_with(pace, desks, tiles, |Desk { rows, spare, .. }, (i, (scores, extremes))| {
            *extremes = self.rollout.tile(self.isa, self.tile(i, rows, scores, spare));
        });
    }

    /// Scores all rows and averages them under the given λ.
    pub(crate) fn score_and_average(&self, scores: &mut [f32], extremes: &mut [Extremes], parts: Parts<'_>) -> Sums {
        let Parts { pace, desks, sums, moments, mean } = parts;
        let tiles = stretch(extremes.len());
        let stretches = scores.chunks_mut(tiles * SCORES).zip(extremes.chunks_mut(tiles));
        let out = sums.iter_mut().zip(moments.chunks_exact_mut(mean.len()));
        self.team.share_with(
            pace,
            desks,
            stretches.zip(out).enumerate(),
            |desk, (i, ((scores, extremes), (sums, moments)))| {
                let Desk { rows, spare, .. } = desk;
                *sums = Sums::NONE;
                moments.fill(0.0);
                for (j, (scores, extremes)) in scores.chunks_mut(SCORES).zip(extremes).enumerate() {
                    let index = i * tiles + j;
                    *extremes = self.rollout.tile(self.isa, self.tile(index, rows, scores, spare));
                    let Self { team, isa, update, .. } = *self;
                    let weigh = Weigh { team, pace, isa, update, known: *extremes };
                    let found = weigh.plain();
                    let mut log_weights = [INVALID; TILE];
                    weigh.rows(found, index * TILE, scores, &mut log_weights);
                    let scales = join_tile(isa, update, found.reference, &mut log_weights, sums);
                    self.add(scales, &mut log_weights, rows, moments);
                }
            },
        );
        join_all(self.update, sums, moments, mean)
    }

    /// Averages rows that have been weighed; rows of nonzero weight are drawn again.
    pub(crate) fn average(&self, found: Found, log_weights: &[f32], parts: Parts<'_>) -> Sums {
        let Parts { pace, desks, sums, moments, mean } = parts;
        let tiles = stretch(log_weights.len() / TILE);
        let out = sums.iter_mut().zip(moments.chunks_exact_mut(mean.len()));
        let stretches = log_weights.chunks(tiles * TILE).zip(out);
        self.team.share_with(
            pace,
            desks,
            stretches.enumerate(),
            |Desk { rows, scores, spare }, (i, (log_weights, (sums, moments)))| {
                *sums = Sums::NONE;
                moments.fill(0.0);
                for (j, log_weights) in log_weights.as_chunks::<TILE>().0.iter().enumerate() {
                    let mut log_weights = *log_weights;
                    let scales = join_tile(self.isa, self.update, found.reference, &mut log_weights, sums);
                    if scales[1] > 0.0 {
                        self.rollout.draw(self.isa, self.tile(i * tiles + j, rows, scores, spare));
                    }
                    self.add(scales, &mut log_weights, rows, moments);
                }
            },
        );
        join_all(self.update, sums, moments, mean)
    }

    /// Adds the rows of a tile to the moments, unless their weights are negligible.
    fn add(&self, scales: [f32; 2], weights: &mut [f32; TILE], rows: &[Line], moments: &mut [f32]) {
        if scales[1] > 0.0 {
            let (about, rows) = (self.problem.nominal, Line::numbers(rows));
            self.isa.run(Add { update: self.update, about, weights, rows, scales, moments });
        }
    }
}
