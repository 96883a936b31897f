//! Score rows of a data set by their squared distance from x. Twin: `shaders/distance.wgsl`.

use pulp::{Simd, WithSimd};

use super::isa::Isa;
use super::rollout::{Extremes, Rollout, Tile, extremes};
use crate::scalar::{Lanes, Real, Register};
use crate::update::TILE;

/// The second score of a row is its negative reward, from the inputs.
pub(crate) struct Distance;

impl Rollout for Distance {
    fn tile(&self, isa: Isa, tile: Tile<'_>) -> Extremes {
        isa.run(Job(tile))
    }
}

struct Job<'a>(Tile<'a>);

impl WithSimd for Job<'_> {
    type Output = Extremes;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Extremes {
        let Tile { update, problem, first, rows, scores, .. } = self.0;
        for lane in (0..TILE).step_by(Lanes::<S>::COUNT) {
            let mut sum = Lanes::<S>::from(0.0);
            for (x, column) in problem.nominal.iter().zip(rows.chunks_exact(TILE)) {
                let off = Lanes::load(&column[lane..]) - *x;
                sum = off.mul_add(off, sum);
            }
            sum.store(&mut scores[lane..]);
            Lanes::<S>::from(0.0).store(&mut scores[TILE + lane..]);
        }
        let real = (update.rows as usize - first).min(TILE);
        let rewards = &problem.inputs[update.starts as usize + first..][..real];
        scores[2 * TILE..][..real].copy_from_slice(rewards);
        extremes::<S>(scores, real)
    }
}
