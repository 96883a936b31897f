//! Draw, score, weigh and average tile by tile: rows stay in the innermost caches and need no storage of their own, and
//! threads synchronize once per pass.
//!
//! Where λ is given, a tile can be weighed as soon as it is scored, relative to its own best cost, and its partial
//! average is merged with the others afterwards. Where λ has to be solved for first, the scores of all rows are needed
//! before any can be weighed; the rows of nonzero weight are then drawn again for the average, as on a GPU.

use super::about;
use crate::interp::simd::isa::Isa;
use crate::kernels::average::{Add, join_all, join_tile};
use crate::kernels::pass::{INVALID, Pass, Problem, Sums, TILE};
use crate::kernels::score::rollout::{CostBounds, Rollout, SCORES, Tile};
use crate::kernels::threads::{DurationEstimate, Parallelism};
use crate::kernels::weigh::log_weights::{Weigh, WeightParams};
use crate::lang::cache_line::CacheLine;

/// The number of tiles per partial average: small enough to keep many threads busy, and large enough that partial
/// results are small compared with the rows. It does not depend on the number of threads, so that no result does.
fn block_of_tiles(tiles: usize) -> usize {
    (tiles / 64).clamp(1, 16)
}

/// The number of partial results of a pass.
pub(crate) fn parts(pass: &Pass) -> usize {
    let tiles = (pass.rows as usize).div_ceil(TILE);
    tiles.div_ceil(block_of_tiles(tiles))
}

/// The scratch of a thread: the rows of the current tile, and storage for scores that are discarded.
#[derive(Default)]
pub(crate) struct ThreadScratch {
    pub(crate) rows: Vec<CacheLine>,
    pub(crate) scores: Vec<f32>,
    /// The scratch that the [`Rollout`] requested.
    pub(crate) scratch: Vec<CacheLine>,
}

/// A pass whose rows are not stored.
pub(crate) struct Tiles<'a> {
    pub(crate) parallelism: Parallelism,
    pub(crate) isa: Isa,
    pub(crate) rollout: &'a dyn Rollout,
    pub(crate) pass: &'a Pass,
    pub(crate) problem: &'a Problem<'a>,
    pub(crate) number: u32,
}

/// Storage for partial results and for the merged mean, with the scratch of each thread.
pub(crate) struct TileBuffers<'a> {
    pub(crate) estimate: &'a DurationEstimate,
    pub(crate) thread_scratch: &'a mut [ThreadScratch],
    pub(crate) sums: &'a mut [Sums],
    pub(crate) moments: &'a mut [f32],
    pub(crate) mean: &'a mut [f32],
}

impl Tiles<'_> {
    /// The rows and scores of tile `index`.
    fn tile<'a>(
        &'a self,
        index: usize,
        rows: &'a mut [CacheLine],
        scores: &'a mut [f32],
        scratch: &'a mut [CacheLine],
    ) -> Tile<'a> {
        let Self { pass, problem, number, .. } = *self;
        Tile { pass, problem, number, first: index * TILE, rows: CacheLine::numbers_mut(rows), scores, scratch }
    }

    /// Scores all rows.
    pub(crate) fn score(
        &self,
        (estimate, thread_scratch): (&DurationEstimate, &mut [ThreadScratch]),
        scores: &mut [f32],
        cost_bounds: &mut [CostBounds],
    ) {
        let tiles = scores.chunks_mut(SCORES).zip(cost_bounds).enumerate();
        self.parallelism.for_each_with(
            estimate,
            thread_scratch,
            tiles,
            |ThreadScratch { rows, scratch, .. }, (i, (scores, cost_bounds))| {
                *cost_bounds = self.rollout.tile(self.isa, self.tile(i, rows, scores, scratch));
            },
        );
    }

    /// Scores all rows and averages them under the given λ.
    pub(crate) fn score_and_average(
        &self,
        scores: &mut [f32],
        cost_bounds: &mut [CostBounds],
        parts: TileBuffers<'_>,
    ) -> Sums {
        let TileBuffers { estimate, thread_scratch, sums, moments, mean } = parts;
        let tiles = block_of_tiles(cost_bounds.len());
        let stretches = scores.chunks_mut(tiles * SCORES).zip(cost_bounds.chunks_mut(tiles));
        let out = sums.iter_mut().zip(moments.chunks_exact_mut(mean.len()));
        self.parallelism.for_each_with(
            estimate,
            thread_scratch,
            stretches.zip(out).enumerate(),
            |thread, (i, ((scores, cost_bounds), (sums, moments)))| {
                let ThreadScratch { rows, scratch, .. } = thread;
                *sums = Sums::NONE;
                moments.fill(0.0);
                for (j, (scores, cost_bounds)) in scores.chunks_mut(SCORES).zip(cost_bounds).enumerate() {
                    let index = i * tiles + j;
                    *cost_bounds = self.rollout.tile(self.isa, self.tile(index, rows, scores, scratch));
                    let Self { parallelism, isa, pass, .. } = *self;
                    let weigh = Weigh { parallelism, estimate, isa, pass, cost_stats: *cost_bounds };
                    let weight_params = weigh.plain();
                    let mut log_weights = [INVALID; TILE];
                    weigh.rows(weight_params, index * TILE, scores, &mut log_weights);
                    let scales = join_tile(isa, pass, weight_params.reference, &mut log_weights, sums);
                    self.add(scales, &mut log_weights, rows, moments);
                }
            },
        );
        join_all(self.pass, sums, moments, mean)
    }

    /// Averages rows that have been weighed; rows of nonzero weight are drawn again.
    pub(crate) fn average(&self, weight_params: WeightParams, log_weights: &[f32], parts: TileBuffers<'_>) -> Sums {
        let TileBuffers { estimate, thread_scratch, sums, moments, mean } = parts;
        let tiles = block_of_tiles(log_weights.len() / TILE);
        let out = sums.iter_mut().zip(moments.chunks_exact_mut(mean.len()));
        let stretches = log_weights.chunks(tiles * TILE).zip(out);
        self.parallelism.for_each_with(
            estimate,
            thread_scratch,
            stretches.enumerate(),
            |ThreadScratch { rows, scores, scratch }, (i, (log_weights, (sums, moments)))| {
                *sums = Sums::NONE;
                moments.fill(0.0);
                for (j, log_weights) in log_weights.as_chunks::<TILE>().0.iter().enumerate() {
                    let mut log_weights = *log_weights;
                    let scales = join_tile(self.isa, self.pass, weight_params.reference, &mut log_weights, sums);
                    if scales[1] > 0.0 {
                        self.rollout.draw(self.isa, self.tile(i * tiles + j, rows, scores, scratch));
                    }
                    self.add(scales, &mut log_weights, rows, moments);
                }
            },
        );
        join_all(self.pass, sums, moments, mean)
    }

    /// Adds the rows of a tile to the moments, unless their weights are negligible.
    fn add(&self, scales: [f32; 2], weights: &mut [f32; TILE], rows: &[CacheLine], moments: &mut [f32]) {
        if scales[1] > 0.0 {
            let (about, rows) = (about(self.pass, self.problem), CacheLine::numbers(rows));
            self.isa.run(Add { pass: self.pass, about, weights, rows, scales, moments });
        }
    }
}
