//! The CPU backend: SIMD lanes within a thread, rayon across threads. It carries out a list of updates.

mod distance;
mod episode;
mod isa;
mod rollout;
mod step;
mod threads;
mod weigh;
mod weighted_mean;

use std::time::Instant;

pub(crate) use distance::Distance;
pub(crate) use episode::OfPolicy;
pub use isa::Instructions;
pub(crate) use isa::Isa;
pub(crate) use rollout::{OfModel, Rollout, Tile};
pub(crate) use threads::{Team, count as threads};

use super::{Done, Fetched, Timing};
use crate::error::{EngineError, PlanError};
use crate::update::{GROUP, Problem, SCORED, SECOND_MOMENT, Sums, TILE, Update, round_up};

/// Everything the updates of one driver write to; allocated once and kept.
#[derive(Default)]
pub(crate) struct Workspace {
    /// One for each thread that works on a problem of its own.
    benches: Vec<Bench>,
    /// B × D each.
    nominal: Vec<f32>,
    spread: Vec<f32>,
    /// Nothing if no second moment is wanted.
    second: Vec<f32>,
    sums: Vec<Sums>,
}

/// What the updates of one problem write to besides its result.
#[derive(Default)]
struct Bench {
    rows: Vec<f32>,
    scores: Vec<f32>,
    extremes: Vec<rollout::Extremes>,
    log_weights: Vec<f32>,
    groups: Vec<Sums>,
    partials: Vec<f32>,
    mean: Vec<f32>,
}

/// What a list of updates leaves behind of one problem.
struct Outcome<'a> {
    number: u32,
    nominal: &'a mut [f32],
    spread: &'a mut [f32],
    second: &'a mut [f32],
    sums: &'a mut Sums,
}

impl Workspace {
    /// Makes room for an update. Does nothing if the room is right already.
    pub(crate) fn fit(&mut self, update: &Update) -> Result<(), EngineError> {
        let problems = update.problems as usize;
        self.benches.resize_with(problems.clamp(1, threads::count()), Bench::default);
        resize(&mut self.sums, problems, Sums::NONE, "sums")?;
        self.benches.iter_mut().try_for_each(|bench| bench.fit(update))
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
        for update in updates {
            self.fit(update)?;
        }
        if let (Some(given), Some(update)) = (problem.rows, updates.first()) {
            // Limiting them, which a rollout does in place, is the same the second time.
            self.benches.iter_mut().for_each(|bench| update.tile(given, &mut bench.rows));
        }
        self.nominal.clear();
        self.nominal.extend_from_slice(problem.nominal);
        self.spread.clear();
        self.spread.extend_from_slice(problem.spread);
        let mut timing = Timing::default();
        let width = updates.first().map_or(1, |update| update.width as usize);
        let wanted = updates.last().is_some_and(|update| update.has(SECOND_MOMENT));
        resize(&mut self.second, if wanted { self.nominal.len() } else { 0 }, 0.0, "second moments")?;
        if let ([bench], [sums]) = (&mut self.benches[..], &mut self.sums[..]) {
            let (nominal, spread) = (&mut self.nominal[..], &mut self.spread[..]);
            let outcome = Outcome { number: 0, nominal, spread, second: &mut self.second, sums };
            timing = bench.run(Team::All, isa, rollout, updates, problem, outcome)?;
        } else {
            // Each thread takes some problems and carries all updates of one out before the next, so that a problem's rows
            // stay in its caches.
            let each = self.sums.len().div_ceil(self.benches.len());
            let mut shares = Vec::with_capacity(self.benches.len());
            let outcomes = outcomes(width, &mut self.nominal, &mut self.spread, &mut self.second, &mut self.sums);
            let mut outcomes = outcomes.into_iter();
            for bench in &mut self.benches {
                shares.push((bench, outcomes.by_ref().take(each).collect::<Vec<_>>(), Ok(())));
            }
            Team::All.for_each_item(&mut shares, |(bench, outcomes, result)| {
                // The first problem comes last, so that its rows are there to be fetched.
                *result = outcomes.drain(..).rev().try_for_each(|outcome| {
                    bench.run(Team::Alone, isa, rollout, updates, problem, outcome).map(|_| ())
                });
            });
            shares.into_iter().try_for_each(|(.., result)| result)?;
        }
        timing.total = start.elapsed();
        Ok(Done { nominal: &self.nominal, second: &self.second, sums: &self.sums, timing })
    }

    /// The rows of the last update of the first problem.
    pub(crate) fn fetch(&self) -> Fetched {
        self.benches.first().map_or_else(Fetched::default, |bench| Fetched {
            rows: bench.rows.clone(),
            scores: bench.scores.clone(),
            log_weights: bench.log_weights.clone(),
        })
    }
}

/// The parts of the results that belong to each problem.
fn outcomes<'a>(
    width: usize,
    nominal: &'a mut [f32],
    mut spread: &'a mut [f32],
    mut second: &'a mut [f32],
    sums: &'a mut [Sums],
) -> Vec<Outcome<'a>> {
    /// Takes the first problem's part, if there are parts at all.
    fn part<'a>(all: &mut &'a mut [f32], width: usize) -> &'a mut [f32] {
        let whole = std::mem::take(all);
        let (here, rest) = whole.split_at_mut(width.min(whole.len()));
        *all = rest;
        here
    }
    let mut outcomes = Vec::with_capacity(sums.len());
    for (number, (nominal, sums)) in nominal.chunks_mut(width).zip(sums).enumerate() {
        let (spread, second) = (part(&mut spread, width), part(&mut second, width));
        outcomes.push(Outcome { number: number as u32, nominal, spread, second, sums });
    }
    outcomes
}

impl Bench {
    fn fit(&mut self, update: &Update) -> Result<(), EngineError> {
        let padded = round_up(update.rows as usize, TILE);
        let groups = padded.div_ceil(GROUP);
        let moments = weighted_mean::partial_len(update);
        resize(&mut self.rows, padded * update.width as usize, 0.0, "rows")?;
        resize(&mut self.scores, padded * 3, 0.0, "scores")?;
        resize(&mut self.extremes, padded / TILE, rollout::NO_EXTREMES, "scores")?;
        resize(&mut self.log_weights, padded, 0.0, "log-weights")?;
        resize(&mut self.groups, groups, Sums::NONE, "partial sums")?;
        resize(&mut self.partials, groups * moments, 0.0, "partial means")?;
        resize(&mut self.mean, moments - weighted_mean::HEADER, 0.0, "the mean")
    }

    /// All updates of one problem.
    fn run(
        &mut self,
        team: Team,
        isa: Isa,
        rollout: &dyn Rollout,
        updates: &[Update],
        problem: &Problem<'_>,
        out: Outcome<'_>,
    ) -> Result<Timing, EngineError> {
        let mut timing = Timing::default();
        for update in updates {
            self.fit(update)?;
            let now = Problem { nominal: &*out.nominal, spread: &*out.spread, ..*problem };
            let clock = Instant::now();
            team.for_each_of_three(
                (&mut self.rows, TILE * update.width as usize),
                (&mut self.scores, rollout::SCORES),
                (&mut self.extremes, 1),
                |i, rows, scores, extremes| {
                    let first = i * TILE;
                    let tile = Tile { update, problem: &now, number: out.number, first, rows, scores };
                    extremes[0] = rollout.tile(isa, tile);
                },
            );
            timing.rollout = Some(clock.elapsed());

            let clock = Instant::now();
            let weigh = weigh::Weigh { team, isa, update, known: rollout::together(&self.extremes) };
            let found = weigh.run(&self.scores, &mut self.log_weights, &mut self.groups);
            timing.weigh = Some(clock.elapsed());

            let clock = Instant::now();
            // Scores of a policy are not drawn around its parameters.
            let about = if update.has(SCORED) { &[] } else { now.nominal };
            let rows = &self.rows;
            let mean = weighted_mean::WeightedMean { team, isa, update, about, log_weights: &self.log_weights, rows };
            let sums = mean.run(&mut self.partials, &mut self.mean);
            timing.mean = Some(clock.elapsed());
            if !out.second.is_empty() && update.has(SECOND_MOMENT) {
                out.second.copy_from_slice(&self.mean[update.width as usize..]);
            }

            let clock = Instant::now();
            *out.sums = Sums { temperature: found.temperature, reference: found.reference, mean: found.mean, ..sums };
            if sums.sum > 0.0 {
                let step = step::Step { update, layout: problem.layout, inputs: problem.inputs, number: out.number };
                step.run(&self.mean, out.nominal, out.spread);
            }
            timing.step = Some(clock.elapsed());
        }
        Ok(timing)
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
    let mean = weighted_mean::WeightedMean { team: Team::All, isa, update, about: &[], log_weights, rows };
    Ok(mean.run(partials, moments))
}

/// Resizes a vector, or says that there is no memory for it.
fn resize<T: Copy>(vector: &mut Vec<T>, len: usize, fill: T, what: &'static str) -> Result<(), EngineError> {
    let more = len.saturating_sub(vector.len());
    let bytes = (len * size_of::<T>()) as u64;
    vector.try_reserve_exact(more).map_err(|_| EngineError::OutOfMemory { what, bytes })?;
    vector.resize(len, fill);
    Ok(())
}
