//! The CPU backend: SIMD lanes within a thread, rayon across threads. It runs lists of updates.

mod distance;
mod draw;
mod episode;
mod isa;
mod rollout;
mod search;
mod step;
mod threads;
mod tiles;
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
use crate::engine::options::RowMemory;
use crate::error::{EngineError, PlanError};
use crate::line::Line;
use crate::update::{
    DEMONSTRATED, FIXED, GIVEN, GROUP, Problem, SCORED, SECOND_MOMENT, SIGNED, Sums, TILE, Update, round_up,
};

/// Buffers that the updates of one driver write to; allocated once and reused.
#[derive(Default)]
pub(crate) struct Workspace {
    /// One per thread; each thread runs a share of the problems.
    benches: Vec<Bench>,
    /// B × D each.
    nominal: Vec<f32>,
    spread: Vec<f32>,
    /// Empty if no second moment is requested.
    second: Vec<f32>,
    sums: Vec<Sums>,
    /// The nominals and standard-deviation scales before the last update, for all problems, so that `fetch` can repeat
    /// that update for any of them. Empty if there is one problem, whose scratch holds them.
    before: [Vec<f32>; 2],
}

/// Scratch for the updates of one problem.
#[derive(Default)]
struct Bench {
    /// The rows of the last update that stored them.
    rows: Vec<Line>,
    scores: Vec<f32>,
    extremes: Vec<rollout::Extremes>,
    log_weights: Vec<f32>,
    groups: Vec<Sums>,
    partials: Vec<f32>,
    mean: Vec<f32>,
    /// Scratch for rows that are not stored: one for each thread that works on the problem.
    desks: Vec<tiles::Desk>,
    last: Last,
    /// Duration estimates for scoring, weighing and averaging.
    paces: [threads::Pace; 3],
}

/// The inputs from which rows that were not stored can be drawn again.
#[derive(Default)]
struct Last {
    /// The problem whose rows are in this scratch; `None` while updates run or after an error.
    number: Option<u32>,
    update: Option<(Update, Plan)>,
    found: Option<weigh::Found>,
    nominal: Vec<f32>,
    spread: Vec<f32>,
}

/// How the rows of an update are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// They are averaged as soon as they are scored.
    AtOnce,
    /// They are drawn again to be averaged.
    Redrawn,
    /// They are stored until they are averaged.
    Stored,
}

impl Plan {
    fn of(update: &Update, rollout: &dyn Rollout, rows: RowMemory) -> Self {
        /// Rows of more than this many bytes are drawn again, unless the options say otherwise: reloading them from
        /// memory would take as long.
        const MOST: usize = 1 << 28;
        let bytes = round_up(update.rows as usize, TILE) * update.width as usize * size_of::<f32>();
        let simple = update.search == FIXED && !update.has(DEMONSTRATED);
        match rows {
            _ if !rollout.draws() || update.has(GIVEN | SIGNED) || rows == RowMemory::Stored => Self::Stored,
            _ if simple => Self::AtOnce,
            RowMemory::Auto if bytes <= MOST => Self::Stored,
            _ => Self::Redrawn,
        }
    }
}

/// The results of a list of updates for one problem.
struct Outcome<'a> {
    number: u32,
    nominal: &'a mut [f32],
    spread: &'a mut [f32],
    second: &'a mut [f32],
    sums: &'a mut Sums,
    /// See [`Workspace::before`].
    before: [&'a mut [f32]; 2],
}

impl Workspace {
    /// Allocates memory for an update. Does nothing if the sizes are unchanged.
    pub(crate) fn fit(&mut self, rollout: &dyn Rollout, rows: RowMemory, update: &Update) -> Result<(), EngineError> {
        let problems = update.problems as usize;
        self.benches.resize_with(problems.clamp(1, threads::count()), Bench::default);
        resize(&mut self.sums, problems, Sums::NONE, "sums")?;
        let (plan, team) = (Plan::of(update, rollout, rows), self.team());
        self.benches.iter_mut().try_for_each(|bench| bench.fit(update, plan, team, rollout.spare(update)))
    }

    /// How a problem is parallelized: over all threads if it is the only one.
    fn team(&self) -> Team {
        if self.sums.len() == 1 { Team::All } else { Team::Alone }
    }

    /// Runs the updates in order.
    pub(crate) fn run(
        &mut self,
        isa: Isa,
        rollout: &dyn Rollout,
        rows: RowMemory,
        updates: &[Update],
        problem: &Problem<'_>,
    ) -> Result<Done<'_>, PlanError> {
        let start = Instant::now();
        for update in updates {
            self.fit(rollout, rows, update)?;
        }
        let worker = Worker { team: self.team(), isa, rollout, rows, problem };
        if let (Some(given), Some(update)) = (problem.rows, updates.first()) {
            // Rollouts clamp rows in place, which is idempotent.
            self.benches.iter_mut().for_each(|bench| update.tile(given, Line::numbers_mut(&mut bench.rows)));
        }
        self.nominal.clear();
        self.nominal.extend_from_slice(problem.nominal);
        self.spread.clear();
        self.spread.extend_from_slice(problem.spread);
        let mut timing = Timing::default();
        let width = updates.first().map_or(1, |update| update.width as usize);
        let wanted = updates.last().is_some_and(|update| update.has(SECOND_MOMENT));
        resize(&mut self.second, if wanted { self.nominal.len() } else { 0 }, 0.0, "second moments")?;
        for (before, now) in self.before.iter_mut().zip([&self.nominal, &self.spread]) {
            resize(before, if self.sums.len() > 1 { now.len() } else { 0 }, 0.0, "the nominal of before the step")?;
        }
        if let ([bench], [sums]) = (&mut self.benches[..], &mut self.sums[..]) {
            let (nominal, spread) = (&mut self.nominal[..], &mut self.spread[..]);
            let before = [&mut [][..], &mut []];
            let outcome = Outcome { number: 0, nominal, spread, second: &mut self.second, sums, before };
            timing = bench.run(&worker, updates, outcome)?;
        } else {
            // Each thread takes some problems and runs all updates of one before the next, so that a problem's rows
            // stay in its caches.
            let each = self.sums.len().div_ceil(self.benches.len());
            let mut shares = Vec::with_capacity(self.benches.len());
            let [before, spread_before] = &mut self.before;
            let parts = [&mut self.spread, &mut self.second, before, spread_before].map(|all| &mut all[..]);
            let outcomes = outcomes(width, &mut self.nominal, parts, &mut self.sums);
            let mut outcomes = outcomes.into_iter();
            for bench in &mut self.benches {
                shares.push((bench, outcomes.by_ref().take(each).collect::<Vec<_>>(), Ok(())));
            }
            Team::All.share_long(shares.iter_mut(), |(bench, outcomes, result)| {
                // The first problem runs last, so that its rows stay available to `fetch`.
                let mut outcomes = outcomes.drain(..).rev();
                *result = outcomes.try_for_each(|outcome| bench.run(&worker, updates, outcome).map(|_| ()));
            });
            shares.into_iter().try_for_each(|(.., result)| result)?;
        }
        timing.total = start.elapsed();
        Ok(Done { nominal: &self.nominal, second: &self.second, sums: &self.sums, timing })
    }

    /// Returns the rows of the last update of problem `number`. If the scratch holds the rows of another problem, the
    /// update is repeated from its saved start.
    pub(crate) fn fetch(
        &mut self,
        isa: Isa,
        rollout: &dyn Rollout,
        rows: RowMemory,
        problem: &Problem<'_>,
        number: usize,
    ) -> Result<Fetched, EngineError> {
        let team = self.team();
        let Some(bench) = self.benches.first_mut() else { return Ok(Fetched::default()) };
        if let (Some((update, _)), true) = (bench.last.update, bench.last.number != Some(number as u32)) {
            let width = update.width as usize;
            let [mut nominal, mut spread] = [0, 1].map(|i| {
                // The buffer is empty if there is no standard-deviation scale.
                let all = &self.before[i];
                all.get(number * width..).map_or_else(Vec::new, |rest| rest[..width.min(rest.len())].to_vec())
            });
            let (second, before) = (&mut [][..], [&mut [][..], &mut []]);
            let (nominal, spread, sums) = (&mut nominal[..], &mut spread[..], &mut Sums::NONE.clone());
            let outcome = Outcome { number: number as u32, nominal, spread, second, sums, before };
            bench.run(&Worker { team, isa, rollout, rows, problem }, &[update], outcome)?;
        }
        Ok(bench.fetch(isa, rollout, problem, number as u32))
    }
}

/// The execution context of a problem's updates.
struct Worker<'a> {
    team: Team,
    isa: Isa,
    rollout: &'a dyn Rollout,
    rows: RowMemory,
    problem: &'a Problem<'a>,
}

/// Splits the results by problem.
fn outcomes<'a>(
    width: usize,
    nominal: &'a mut [f32],
    mut parts: [&'a mut [f32]; 4],
    sums: &'a mut [Sums],
) -> Vec<Outcome<'a>> {
    /// Splits off the first problem's part; empty if the buffer is.
    fn part<'a>(all: &mut &'a mut [f32], width: usize) -> &'a mut [f32] {
        let whole = std::mem::take(all);
        let (here, rest) = whole.split_at_mut(width.min(whole.len()));
        *all = rest;
        here
    }
    let mut outcomes = Vec::with_capacity(sums.len());
    for (number, (nominal, sums)) in nominal.chunks_mut(width).zip(sums).enumerate() {
        let [spread, second, nominal_before, spread_before] = parts.each_mut().map(|all| part(all, width));
        let before = [nominal_before, spread_before];
        outcomes.push(Outcome { number: number as u32, nominal, spread, second, sums, before });
    }
    outcomes
}

impl Bench {
    fn fit(&mut self, update: &Update, plan: Plan, team: Team, spare: usize) -> Result<(), EngineError> {
        let (padded, width) = (round_up(update.rows as usize, TILE), update.width as usize);
        let moments = width * update.moments() as usize;
        let groups = padded.div_ceil(GROUP);
        resize(&mut self.scores, padded * 3, 0.0, "scores")?;
        resize(&mut self.extremes, padded / TILE, rollout::NO_EXTREMES, "scores")?;
        resize(&mut self.mean, moments, 0.0, "the mean")?;
        self.desks.resize_with(team.size(), tiles::Desk::default);
        for desk in &mut self.desks {
            resize(&mut desk.spare, spare, Line::ZERO, "episodes")?;
        }
        if plan == Plan::Stored {
            resize(&mut self.rows, Line::holding(padded * width), Line::ZERO, "rows")?;
            resize(&mut self.log_weights, padded, 0.0, "log-weights")?;
            resize(&mut self.groups, groups, Sums::NONE, "partial sums")?;
            return resize(&mut self.partials, groups * weighted_mean::partial_len(update), 0.0, "partial means");
        }
        let parts = tiles::parts(update);
        resize(&mut self.groups, parts.max(groups), Sums::NONE, "partial sums")?;
        resize(&mut self.partials, parts * moments, 0.0, "partial means")?;
        if plan == Plan::Redrawn {
            resize(&mut self.log_weights, padded, 0.0, "log-weights")?;
        }
        for desk in &mut self.desks {
            resize(&mut desk.rows, Line::holding(TILE * width), Line::ZERO, "rows")?;
            resize(&mut desk.scores, rollout::SCORES, 0.0, "scores")?;
        }
        Ok(())
    }

    /// Runs all updates of one problem.
    fn run(&mut self, worker: &Worker<'_>, updates: &[Update], out: Outcome<'_>) -> Result<Timing, EngineError> {
        let mut timing = Timing::default();
        self.last.number = None;
        for update in updates {
            let plan = Plan::of(update, worker.rollout, worker.rows);
            self.fit(update, plan, worker.team, worker.rollout.spare(update))?;
            self.last.remember(update, plan, out.nominal, out.spread);
            let problem = Problem { nominal: &*out.nominal, spread: &*out.spread, ..*worker.problem };
            let now = Worker { problem: &problem, ..*worker };
            let sums = match plan {
                Plan::Stored => self.stored(&now, update, out.number, &mut timing),
                _ => self.in_tiles(&now, plan, update, out.number, &mut timing),
            };
            if !out.second.is_empty() && update.has(SECOND_MOMENT) {
                out.second.copy_from_slice(&self.mean[update.width as usize..]);
            }
            let clock = Instant::now();
            *out.sums = sums;
            if sums.sum > 0.0 {
                let (layout, inputs) = (worker.problem.layout, worker.problem.inputs);
                step::Step { update, layout, inputs, number: out.number }.run(&self.mean, out.nominal, out.spread);
            }
            timing.step = Some(clock.elapsed());
        }
        for (before, last) in out.before.into_iter().zip([&self.last.nominal, &self.last.spread]) {
            if !before.is_empty() {
                before.copy_from_slice(last);
            }
        }
        self.last.number = Some(out.number);
        Ok(timing)
    }

    /// Runs an update that stores its rows: draws and scores all of them, then weighs, then averages.
    fn stored(&mut self, worker: &Worker<'_>, update: &Update, number: u32, timing: &mut Timing) -> Sums {
        let Worker { team, isa, rollout, problem, .. } = *worker;
        let clock = Instant::now();
        let rows = Line::numbers_mut(&mut self.rows).chunks_mut(TILE * update.width as usize);
        let tiles = rows.zip(self.scores.chunks_mut(rollout::SCORES)).zip(&mut self.extremes);
        let pace = &self.paces[0];
        team.share_with(
            pace,
            &mut self.desks,
            tiles.enumerate(),
            |tiles::Desk { spare, .. }, (i, (tile, extremes))| {
                let (rows, scores) = tile;
                *extremes = rollout.tile(isa, Tile { update, problem, number, first: i * TILE, rows, scores, spare });
            },
        );
        timing.rollout = Some(clock.elapsed());

        let clock = Instant::now();
        let found = self.weigh(worker, update);
        timing.weigh = Some(clock.elapsed());

        let clock = Instant::now();
        // Scores of a policy are not perturbations of its parameters, so their second moment is about 0.
        let about = if update.has(SCORED) { &[] } else { problem.nominal };
        let (rows, log_weights) = (Line::numbers(&self.rows), &self.log_weights);
        let pace = &self.paces[2];
        let mean = weighted_mean::WeightedMean { team, pace, isa, update, about, log_weights, rows };
        let sums = mean.run(&mut self.partials, &mut self.mean);
        timing.mean = Some(clock.elapsed());
        found.record(sums)
    }

    /// Runs an update that does not store its rows.
    fn in_tiles(&mut self, worker: &Worker<'_>, plan: Plan, update: &Update, number: u32, timing: &mut Timing) -> Sums {
        let Worker { team, isa, rollout, problem, .. } = *worker;
        let tiles = tiles::Tiles { team, isa, rollout, update, problem, number };
        let clock = Instant::now();
        if plan == Plan::AtOnce {
            let Self { desks, groups: sums, partials: moments, mean, scores, extremes, last, paces, .. } = self;
            let pace = &paces[0];
            let sums = tiles.score_and_average(scores, extremes, tiles::Parts { pace, desks, sums, moments, mean });
            timing.rollout = Some(clock.elapsed());
            let found = weigh::Weigh { team, pace, isa, update, known: rollout::together(extremes) }.plain();
            last.found = Some(found);
            // Sums are relative to the best cost of the rows of nonzero weight, which may exclude the best of all rows.
            let reference = if sums.valid > 0 { sums.reference } else { found.reference };
            return Sums { reference, ..found.record(sums) };
        }
        tiles.score((&self.paces[0], &mut self.desks), &mut self.scores, &mut self.extremes);
        timing.rollout = Some(clock.elapsed());

        let clock = Instant::now();
        let found = self.weigh(worker, update);
        timing.weigh = Some(clock.elapsed());

        let clock = Instant::now();
        let Self { desks, groups: sums, partials: moments, mean, log_weights, paces, .. } = self;
        let pace = &paces[2];
        let sums = tiles.average(found, log_weights, tiles::Parts { pace, desks, sums, moments, mean });
        timing.mean = Some(clock.elapsed());
        found.record(sums)
    }

    /// Computes the log-weights of all rows.
    fn weigh(&mut self, worker: &Worker<'_>, update: &Update) -> weigh::Found {
        let known = rollout::together(&self.extremes);
        let (team, isa, pace) = (worker.team, worker.isa, &self.paces[1]);
        let weigh = weigh::Weigh { team, pace, isa, update, known };
        let groups = self.log_weights.len().div_ceil(GROUP);
        let found = weigh.run(&self.scores, &mut self.log_weights, &mut self.groups[..groups]);
        self.last.found = Some(found);
        found
    }

    /// The rows of the last update with their scores and log-weights; rows that were not stored are recomputed.
    fn fetch(&self, isa: Isa, rollout: &dyn Rollout, problem: &Problem<'_>, number: u32) -> Fetched {
        let (Some((update, plan)), Some(found)) = (&self.last.update, self.last.found) else {
            return Fetched::default();
        };
        let mut fetched = Fetched { scores: self.scores.clone(), ..Fetched::default() };
        let (padded, width) = (self.scores.len() / 3, update.width as usize);
        if *plan == Plan::Stored {
            fetched.rows.extend_from_slice(Line::numbers(&self.rows));
        } else {
            let problem = Problem { nominal: &self.last.nominal, spread: &self.last.spread, ..*problem };
            fetched.rows.resize(padded * width, 0.0);
            let (mut scores, mut spare) = (vec![0.0; rollout::SCORES], vec![Line::ZERO; rollout.spare(update)]);
            for (i, rows) in fetched.rows.chunks_mut(TILE * width).enumerate() {
                let tile = Tile {
                    update,
                    problem: &problem,
                    number,
                    first: i * TILE,
                    rows,
                    scores: &mut scores,
                    spare: &mut spare,
                };
                rollout.draw(isa, tile);
            }
        }
        if *plan == Plan::AtOnce {
            fetched.log_weights.resize(padded, 0.0);
            let known = rollout::together(&self.extremes);
            let weigh = weigh::Weigh { team: Team::Alone, pace: &self.paces[1], isa, update, known };
            weigh.rows(found, 0, &self.scores, &mut fetched.log_weights);
        } else {
            fetched.log_weights.clone_from(&self.log_weights);
        }
        fetched
    }
}

impl Last {
    fn remember(&mut self, update: &Update, plan: Plan, nominal: &[f32], spread: &[f32]) {
        self.update = Some((*update, plan));
        self.nominal.clear();
        self.nominal.extend_from_slice(nominal);
        self.spread.clear();
        self.spread.extend_from_slice(spread);
    }
}

/// The weighted mean of rows that are stored contiguously, read in place.
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
    let (team, pace) = (Team::All, &threads::Pace::default());
    let mean = weighted_mean::WeightedMean { team, pace, isa, update, about: &[], log_weights, rows };
    Ok(mean.run(partials, moments))
}

/// Resizes a vector; returns an error if there is not enough memory.
fn resize<T: Copy>(vector: &mut Vec<T>, len: usize, fill: T, what: &'static str) -> Result<(), EngineError> {
    let more = len.saturating_sub(vector.len());
    let bytes = (len * size_of::<T>()) as u64;
    vector.try_reserve_exact(more).map_err(|_| EngineError::OutOfMemory { what, bytes })?;
    vector.resize(len, fill);
    Ok(())
}
