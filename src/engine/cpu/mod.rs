//! The CPU backend: SIMD lanes within a thread, rayon across threads. It carries out a list of updates.

mod isa;
mod rollout;
mod step;
mod threads;
mod weigh;
mod weighted_mean;

use std::time::Instant;

pub use isa::Instructions;
pub(crate) use isa::Isa;
pub(crate) use rollout::{OfModel, Rollout};
pub(crate) use threads::count as threads;

use super::{Done, Fetched, Timing};
use crate::error::{EngineError, PlanError};
use crate::update::{GIVEN, GROUP, Problem, Sums, TILE, Update, round_up};

/// Everything the updates of one problem size write to; allocated once and kept.
#[derive(Default)]
pub(crate) struct Workspace {
    rows: Vec<f32>,
    scores: Vec<f32>,
    extremes: Vec<rollout::Extremes>,
    log_weights: Vec<f32>,
    groups: Vec<Sums>,
    partials: Vec<f32>,
    mean: Vec<f32>,
    nominal: Vec<f32>,
}

impl Workspace {
    /// Makes room for K rows of D coordinates. Does nothing if the room is right already.
    pub(crate) fn fit(&mut self, update: &Update) -> Result<(), EngineError> {
        let padded = round_up(update.rows as usize, TILE);
        let groups = padded.div_ceil(GROUP);
        let moments = weighted_mean::partial_len(update);
        resize(&mut self.rows, padded * update.width as usize, 0.0, "rows")?;
        resize(&mut self.scores, padded * 3, 0.0, "scores")?;
        resize(&mut self.extremes, padded / TILE, [0.0; 2], "scores")?;
        resize(&mut self.log_weights, padded, 0.0, "log-weights")?;
        resize(&mut self.groups, groups, Sums::NONE, "partial sums")?;
        resize(&mut self.partials, groups * moments, 0.0, "partial means")?;
        resize(&mut self.mean, moments - weighted_mean::HEADER, 0.0, "the mean")
    }

    /// Carries the updates out, one after the other.
    pub(crate) fn run(
        &mut self,
        isa: Isa,
        rollout: &dyn Rollout,
        updates: &[Update],
        problem: &Problem<'_>,
    ) -> Result<Done<'_>, PlanError> {
        let start = Instant::now();
        let mut timing = Timing::default();
        self.nominal.clear();
        self.nominal.extend_from_slice(problem.nominal);
        let mut sums = Sums::NONE;
        for update in updates {
            self.fit(update)?;
            if let (true, Some(given)) = (update.has(GIVEN), problem.rows) {
                update.tile(given, &mut self.rows);
            }
            let (layout, inputs) = (problem.layout, problem.inputs);
            let problem = Problem { nominal: &self.nominal, ..*problem };
            let clock = Instant::now();
            threads::for_each_of_three(
                (&mut self.rows, TILE * update.width as usize),
                (&mut self.scores, rollout::SCORES),
                (&mut self.extremes, 1),
                |i, rows, scores, extremes| {
                    let tile = rollout::Tile { update, problem: &problem, first: i * TILE, rows, scores };
                    extremes[0] = rollout.tile(isa, tile);
                },
            );
            timing.rollout = Some(clock.elapsed());

            let clock = Instant::now();
            let mut extremes = [f32::INFINITY, f32::NEG_INFINITY];
            for [best, worst] in &self.extremes {
                extremes = [extremes[0].min(*best), extremes[1].max(*worst)];
            }
            let temperature = weigh::temperature(isa, update, extremes, &self.scores, &mut self.groups);
            weigh::weigh(isa, update, extremes[0], temperature, &self.scores, &mut self.log_weights);
            timing.weigh = Some(clock.elapsed());

            let clock = Instant::now();
            sums = weighted_mean::weighted_mean(
                isa,
                update,
                &self.log_weights,
                &self.rows,
                &mut self.partials,
                &mut self.mean,
            );
            sums.temperature = temperature;
            sums.reference = extremes[0];
            timing.mean = Some(clock.elapsed());

            let clock = Instant::now();
            if sums.sum > 0.0 {
                step::step(update, layout, inputs, &self.mean, &mut self.nominal);
            }
            timing.step = Some(clock.elapsed());
        }
        timing.total = start.elapsed();
        Ok(Done { nominal: &self.nominal, sums, timing })
    }

    pub(crate) fn fetch(&self) -> Fetched {
        Fetched { rows: self.rows.clone(), scores: self.scores.clone(), log_weights: self.log_weights.clone() }
    }
}

/// The weighted mean of rows that stand one after the other, read where they are.
pub(crate) fn average(
    isa: Isa,
    update: &Update,
    rows: &[f32],
    log_weights: &[f32],
    partials: &mut Vec<f32>,
    moments: &mut [f32],
) -> Result<Sums, EngineError> {
    let groups = log_weights.len().div_ceil(GROUP);
    resize(partials, groups * weighted_mean::partial_len(update), 0.0, "partial means")?;
    Ok(weighted_mean::weighted_mean(isa, update, log_weights, rows, partials, moments))
}

/// Resizes a vector, or says that there is no memory for it.
fn resize<T: Copy>(vector: &mut Vec<T>, len: usize, fill: T, what: &'static str) -> Result<(), EngineError> {
    let more = len.saturating_sub(vector.len());
    let bytes = (len * size_of::<T>()) as u64;
    vector.try_reserve_exact(more).map_err(|_| EngineError::OutOfMemory { what, bytes })?;
    vector.resize(len, fill);
    Ok(())
}
