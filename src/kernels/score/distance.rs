//! Score rows of a data set by their squared distance from x. Twin: `shaders/score/distance.wgsl`.

use pulp::{Simd, WithSimd};

use super::rollout::{CostBounds, Rollout, Tile, cost_bounds};
use crate::interp::simd::isa::Isa;
use crate::interp::simd::lanes::Lanes;
use crate::kernels::pass::TILE;
use crate::lang::{Real, Register};

/// The second score of a row is its negative reward, from the inputs.
pub(crate) struct Distance;

impl Rollout for Distance {
    fn tile(&self, isa: Isa, tile: Tile<'_>) -> CostBounds {
        isa.run(Job(tile))
    }
}

struct Job<'a>(Tile<'a>);

impl WithSimd for Job<'_> {
    type Output = CostBounds;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> CostBounds {
        let Tile { pass, problem, first, rows, scores, .. } = self.0;
        for lane in (0..TILE).step_by(Lanes::<S>::COUNT) {
            let mut sum = Lanes::<S>::from(0.0);
            for (x, column) in problem.nominal.iter().zip(rows.chunks_exact(TILE)) {
                let off = Lanes::load(&column[lane..]) - *x;
                sum = off.mul_add(off, sum);
            }
            sum.store(&mut scores[lane..]);
            Lanes::<S>::from(0.0).store(&mut scores[TILE + lane..]);
        }
        let real = (pass.rows as usize - first).min(TILE);
        let rewards = &problem.inputs[pass.starts as usize + first..][..real];
        scores[2 * TILE..][..real].copy_from_slice(rewards);
        cost_bounds::<S>(scores, real)
    }
}
