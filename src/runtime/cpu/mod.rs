//! The CPU backend: SIMD lanes within a thread, rayon across threads. It runs lists of passes.

pub(crate) mod tiles;

use super::options::RowMemory;
use super::span::{Parent, span};
use super::{Done, Fetched, Timing};
use crate::error::{EngineError, PlanError};
use crate::interp::simd::isa::Isa;
use crate::kernels::pass::{
    DEMONSTRATED, FILTERED, FIXED, FLEET, GIVEN, GROUP, NoiseId, Pass, Problem, SCORED, SECOND_MOMENT, SIGNED, Sums,
    TILE, round_up,
};
use crate::kernels::score::rollout::{Rollout, SCORES, Tile, cost_bounds_of};
use crate::kernels::threads::{DurationEstimate, Parallelism};
use crate::lang::cache_line::CacheLine;
use crate::lang::clock::Instant;

/// Buffers that the passes of one driver write to; allocated once and reused.
#[derive(Default)]
pub(crate) struct Workspace {
    /// One per thread; each thread runs one problem at a time. The first also serves problems that all threads share.
    problem_scratch: Vec<ProblemScratch>,
    /// The duration of all passes of one problem on one thread.
    estimate: DurationEstimate,
    /// The last pass of the last call; `None` if the call failed.
    last: Option<Pass>,
    /// B × D each.
    nominal: Vec<f32>,
    std_scale: Vec<f32>,
    /// Empty if no second moment is requested.
    second: Vec<f32>,
    sums: Vec<Sums>,
    /// The nominals and standard-deviation scales before the last pass, for all problems, so that `fetch` can repeat
    /// that pass for any of them. Empty if there is one problem, whose scratch holds them.
    before: [Vec<f32>; 2],
}

/// Scratch for the passes of one problem.
#[derive(Default)]
struct ProblemScratch {
    /// The rows of the last pass that stored them.
    rows: Vec<CacheLine>,
    scores: Vec<f32>,
    cost_bounds: Vec<crate::kernels::score::rollout::CostBounds>,
    log_weights: Vec<f32>,
    groups: Vec<Sums>,
    partials: Vec<f32>,
    mean: Vec<f32>,
    /// Scratch for rows that are not stored: one for each thread that works on the problem.
    thread_scratch: Vec<tiles::ThreadScratch>,
    last: Last,
    /// Duration estimates for scoring, weighing and averaging, and for drawing where that is separate.
    estimates: [DurationEstimate; 4],
    /// The error that ended the passes of a problem.
    error: Option<EngineError>,
}

/// The inputs from which rows that were not stored can be drawn again.
#[derive(Default)]
struct Last {
    /// The problem whose rows are in this scratch; `None` while passes run or after an error.
    number: Option<u32>,
    pass: Option<(Pass, RowStorage)>,
    weight_params: Option<crate::kernels::weigh::log_weights::WeightParams>,
    nominal: Vec<f32>,
    std_scale: Vec<f32>,
}

/// How the rows of a pass are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowStorage {
    /// They are averaged as soon as they are scored.
    AtOnce,
    /// They are drawn again to be averaged.
    Redrawn,
    /// They are stored until they are averaged.
    Stored,
}

impl RowStorage {
    fn of(pass: &Pass, rollout: &dyn Rollout, rows: RowMemory) -> Self {
        /// Rows of more than this many bytes are drawn again, unless the options say otherwise: reloading them from
        /// memory would take as long.
        const MOST: usize = 1 << 28;
        let bytes = round_up(pass.rows as usize, TILE) * pass.coordinates as usize * size_of::<f32>();
        let simple = pass.search == FIXED && !pass.has(DEMONSTRATED);
        match rows {
            _ if !rollout.draws() || pass.has(GIVEN | SIGNED) || rows == RowMemory::Stored => Self::Stored,
            _ if simple => Self::AtOnce,
            RowMemory::Auto if bytes <= MOST => Self::Stored,
            _ => Self::Redrawn,
        }
    }
}

/// The results of a list of passes for one problem.
struct Outcome<'a> {
    number: u32,
    nominal: &'a mut [f32],
    std_scale: &'a mut [f32],
    second: &'a mut [f32],
    sums: &'a mut Sums,
    /// See [`Workspace::before`].
    before: [&'a mut [f32]; 2],
}

impl Workspace {
    /// Allocates memory for a pass. Does nothing if the sizes are unchanged.
    pub(crate) fn fit(&mut self, rollout: &dyn Rollout, rows: RowMemory, pass: &Pass) -> Result<(), EngineError> {
        let problems = pass.problems as usize;
        let alone = problems_run_alone(pass, crate::kernels::threads::count());
        self.problem_scratch.resize_with(alone.clamp(1, crate::kernels::threads::count()), ProblemScratch::default);
        resize(&mut self.sums, problems, Sums::NONE, "sums")?;
        let (storage, lines) = (RowStorage::of(pass, rollout, rows), rollout.scratch(pass));
        for (i, scratch) in self.problem_scratch.iter_mut().enumerate() {
            let shared = i == 0 && alone < problems;
            scratch.fit(pass, storage, if shared { Parallelism::Pool } else { Parallelism::Caller }, lines)?;
        }
        Ok(())
    }

    /// Runs the passes in order. [`done`](Self::done) returns the results.
    pub(crate) fn run(
        &mut self,
        isa: Isa,
        rollout: &dyn Rollout,
        rows: RowMemory,
        passes: &[Pass],
        problem: &Problem<'_>,
    ) -> Result<Timing, PlanError> {
        let start = Instant::now();
        for pass in passes {
            self.fit(rollout, rows, pass)?;
        }
        if let (Some(given), Some(pass)) = (problem.rows, passes.first()) {
            // Rollouts clamp rows in place, which is idempotent.
            self.problem_scratch
                .iter_mut()
                .for_each(|scratch| pass.tile(given, CacheLine::numbers_mut(&mut scratch.rows)));
        }
        self.nominal.clear();
        self.nominal.extend_from_slice(problem.nominal);
        self.std_scale.clear();
        self.std_scale.extend_from_slice(problem.std_scale);
        let mut timing = Timing::default();
        let [width, coordinates] = passes.first().map_or([1; 2], |u| [u.width, u.coordinates].map(|n| n as usize));
        let wanted = passes.last().is_some_and(|pass| pass.has(SECOND_MOMENT));
        resize(&mut self.second, if wanted { self.sums.len() * coordinates } else { 0 }, 0.0, "second moments")?;
        for (before, now) in self.before.iter_mut().zip([&self.nominal, &self.std_scale]) {
            resize(before, if self.sums.len() > 1 { now.len() } else { 0 }, 0.0, "the nominal of before the step")?;
        }
        // Each thread's scratch keeps the rows of the last problem that it has run.
        self.last = None;
        self.problem_scratch.iter_mut().for_each(|scratch| (scratch.last.number, scratch.error) = (None, None));
        let [before, std_scale_before] = &mut self.before;
        let parts = [&mut self.std_scale, &mut self.second, before, std_scale_before].map(|all| &mut all[..]);
        let mut outcomes =
            Outcomes { width, coordinates, number: 0, nominal: &mut self.nominal, parts, sums: &mut self.sums };
        let alone = passes.first().map_or(0, |pass| problems_run_alone(pass, crate::kernels::threads::count()));
        // Each thread runs all passes of one problem before it takes the next, so that a problem's rows stay in its
        // caches. Problems are not divided among threads beforehand, because a thread that loses its core would delay
        // all others.
        let parent = &Parent::current();
        let worker = Worker { parallelism: Parallelism::Caller, isa, rollout, rows, problem, parent };
        Parallelism::Pool.for_each_with(
            &self.estimate,
            &mut self.problem_scratch,
            outcomes.split(alone),
            |scratch, outcome| {
                if let Err(error) = scratch.run(&worker, passes, outcome) {
                    scratch.error = Some(error);
                }
            },
        );
        self.problem_scratch.iter_mut().find_map(|scratch| scratch.error.take()).map_or(Ok(()), Err)?;
        // All threads share the tiles of each remaining problem.
        let worker = Worker { parallelism: Parallelism::Pool, ..worker };
        let (scratch, only) = (&mut self.problem_scratch[0], problem.nominal.len() == width);
        for outcome in outcomes {
            let stages = scratch.run(&worker, passes, outcome)?;
            timing = if only { stages } else { timing };
        }
        self.last = passes.last().copied();
        timing.total = start.elapsed();
        Ok(timing)
    }

    /// The results of the passes that were carried out last.
    pub(crate) fn done(&mut self, timing: Timing) -> Done<'_> {
        Done { nominal: &mut self.nominal, std_scale: &self.std_scale, second: &self.second, sums: &self.sums, timing }
    }

    /// Returns the rows of the last pass of problem `number`.
    pub(crate) fn fetch(
        &mut self,
        isa: Isa,
        rollout: &dyn Rollout,
        rows: RowMemory,
        problem: &Problem<'_>,
        number: usize,
    ) -> Result<Fetched, EngineError> {
        let number = number as u32;
        let scratch = self.scratch_of(isa, rollout, rows, problem, number)?;
        Ok(scratch.map_or_else(Fetched::default, |scratch| scratch.fetch(isa, rollout, problem, number)))
    }

    /// Returns the row of least cost of the last pass of problem `number`, if a row has a finite cost.
    pub(crate) fn best_row(
        &mut self,
        isa: Isa,
        rollout: &dyn Rollout,
        rows: RowMemory,
        problem: &Problem<'_>,
        number: usize,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        let number = number as u32;
        let scratch = self.scratch_of(isa, rollout, rows, problem, number)?;
        Ok(scratch.and_then(|scratch| scratch.best_row(isa, rollout, problem, number)))
    }

    /// Returns the scratch that holds the last pass of problem `number`. If none does, the pass is repeated from its
    /// saved start.
    fn scratch_of(
        &mut self,
        isa: Isa,
        rollout: &dyn Rollout,
        rows: RowMemory,
        problem: &Problem<'_>,
        number: u32,
    ) -> Result<Option<&ProblemScratch>, EngineError> {
        if self.last.is_none() {
            return Ok(None);
        }
        let saved = self.problem_scratch.iter().position(|scratch| scratch.last.number == Some(number));
        let scratch = &mut self.problem_scratch[saved.unwrap_or(0)];
        if let (Some(pass), None) = (self.last, saved) {
            let [mut nominal, mut std_scale] = [(0, pass.width), (1, pass.coordinates)].map(|(i, width)| {
                // The buffer is empty if there is no standard-deviation scale.
                let (all, width) = (&self.before[i], width as usize);
                all.get(number as usize * width..).map_or_else(Vec::new, |rest| rest[..width.min(rest.len())].to_vec())
            });
            let (second, before) = (&mut [][..], [&mut [][..], &mut []]);
            let (nominal, std_scale, sums) = (&mut nominal[..], &mut std_scale[..], &mut Sums::NONE.clone());
            let outcome = Outcome { number, nominal, std_scale, second, sums, before };
            let (parallelism, parent) = (Parallelism::Pool, &Parent::current());
            scratch.run(&Worker { parallelism, isa, rollout, rows, problem, parent }, &[pass], outcome)?;
        }
        Ok(Some(scratch))
    }
}

/// Returns a pass with the seed and the number of problem `number` filled in, the problem's chain, and its inputs,
/// those of the task before those of its scenarios.
fn alone<'a>(pass: &Pass, problem: &Problem<'a>, number: u32) -> (Pass, u32, &'a [f32]) {
    let (group, chain) = pass.group_and_chain(number);
    if !pass.has(FLEET) {
        return (*pass, chain, problem.inputs);
    }
    let (stride, sections) = (pass.inputs_stride as usize, pass.sections());
    let inputs = &problem.inputs[group * sections * stride..][..sections * stride];
    let NoiseId { key, number } = NoiseId::of_inputs(&inputs[..stride]);
    (Pass { seed: key, number: number.wrapping_add(pass.number), ..*pass }, chain, inputs)
}

/// The execution context of a problem's passes.
struct Worker<'a> {
    parallelism: Parallelism,
    isa: Isa,
    rollout: &'a dyn Rollout,
    rows: RowMemory,
    problem: &'a Problem<'a>,
    #[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "only spans have a parent"))]
    parent: &'a Parent,
}

/// Returns the number of problems, counted from the first, that are run by one thread each. All threads share the tiles
/// of the remaining ones. Affects scheduling only, never results.
fn problems_run_alone(pass: &Pass, threads: usize) -> usize {
    let (problems, tiles) = (pass.problems as usize, (pass.rows as usize).div_ceil(TILE));
    if problems == 1 {
        return 0;
    }
    let rest = problems % threads;
    // Threads that share tiles synchronize several times per pass, so sharing must at least halve the duration of the
    // rest.
    if 2 * rest * tiles.div_ceil(threads) <= tiles { problems - rest } else { problems }
}

/// Returns the number of rows that a thread scores at a time, if that is to be less than a tile: where so few tiles are
/// divided among the threads that some would wait for others.
fn part_of_tile(pass: &Pass, rollout: &dyn Rollout, threads: usize) -> Option<usize> {
    /// From this many tiles per thread on, threads finish at about the same time.
    const MANY: usize = 4;
    let rows = pass.rows as usize;
    let uneven = threads > 1 && rows < MANY * threads * TILE && !rows.is_multiple_of(threads * TILE);
    if uneven { rollout.part(pass) } else { None }
}

/// Iterates over the results by problem.
struct Outcomes<'a> {
    /// D.
    width: usize,
    /// The numbers of a row that are averaged.
    coordinates: usize,
    /// The index of the next problem.
    number: u32,
    nominal: &'a mut [f32],
    /// The standard-deviation scales, the second moments, and the nominals and scales before the last pass; each is
    /// empty if there are none.
    parts: [&'a mut [f32]; 4],
    sums: &'a mut [Sums],
}

impl<'a> Outcomes<'a> {
    /// Splits the first `count` problems off.
    fn split(&mut self, count: usize) -> Self {
        fn part<'a, T>(all: &mut &'a mut [T], len: usize) -> &'a mut [T] {
            let whole = std::mem::take(all);
            let (first, rest) = whole.split_at_mut(len.min(whole.len()));
            *all = rest;
            first
        }
        let Self { width, coordinates, number, .. } = *self;
        let [std_scale, second, nominal_before, std_scale_before] = &mut self.parts;
        let [std_scale, second, std_scale_before] =
            [std_scale, second, std_scale_before].map(|all| part(all, coordinates * count));
        let first = Self {
            width,
            coordinates,
            number,
            nominal: part(&mut self.nominal, width * count),
            parts: [std_scale, second, part(nominal_before, width * count), std_scale_before],
            sums: part(&mut self.sums, count),
        };
        self.number += first.sums.len() as u32;
        first
    }
}

impl<'a> Iterator for Outcomes<'a> {
    type Item = Outcome<'a>;

    fn next(&mut self) -> Option<Outcome<'a>> {
        let Self { number, nominal, parts, sums, .. } = self.split(1);
        let [std_scale, second, nominal_before, std_scale_before] = parts;
        let before = [nominal_before, std_scale_before];
        Some(Outcome { number, nominal, std_scale, second, sums: sums.first_mut()?, before })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.sums.len(), Some(self.sums.len()))
    }
}

impl ExactSizeIterator for Outcomes<'_> {}

impl ProblemScratch {
    fn fit(
        &mut self,
        pass: &Pass,
        plan: RowStorage,
        parallelism: Parallelism,
        scratch: usize,
    ) -> Result<(), EngineError> {
        let (padded, width) = (round_up(pass.rows as usize, TILE), pass.coordinates as usize);
        let moments = width * pass.moments() as usize;
        let groups = padded.div_ceil(GROUP);
        resize(&mut self.scores, padded * 3, 0.0, "scores")?;
        resize(&mut self.cost_bounds, padded / TILE, crate::kernels::score::rollout::EMPTY_BOUNDS, "scores")?;
        resize(&mut self.mean, moments, 0.0, "the mean")?;
        // The number never shrinks, since the same scratch serves problems of one thread and of all threads.
        self.thread_scratch
            .resize_with(self.thread_scratch.len().max(parallelism.size()), tiles::ThreadScratch::default);
        for thread in &mut self.thread_scratch {
            resize(&mut thread.scratch, scratch, CacheLine::ZERO, "episodes")?;
        }
        if plan == RowStorage::Stored {
            resize(&mut self.rows, CacheLine::holding(padded * width), CacheLine::ZERO, "rows")?;
            resize(&mut self.log_weights, padded, 0.0, "log-weights")?;
            resize(&mut self.groups, groups, Sums::NONE, "partial sums")?;
            return resize(
                &mut self.partials,
                groups * crate::kernels::average::partial_len(pass),
                0.0,
                "partial means",
            );
        }
        let parts = tiles::parts(pass);
        resize(&mut self.groups, parts.max(groups), Sums::NONE, "partial sums")?;
        resize(&mut self.partials, parts * moments, 0.0, "partial means")?;
        if plan == RowStorage::Redrawn {
            resize(&mut self.log_weights, padded, 0.0, "log-weights")?;
        }
        for thread in &mut self.thread_scratch {
            resize(&mut thread.rows, CacheLine::holding(TILE * width), CacheLine::ZERO, "rows")?;
            resize(&mut thread.scores, SCORES, 0.0, "scores")?;
        }
        Ok(())
    }

    /// Runs all passes of one problem.
    fn run(&mut self, worker: &Worker<'_>, passes: &[Pass], out: Outcome<'_>) -> Result<Timing, EngineError> {
        let mut timing = Timing::default();
        self.last.number = None;
        for pass in passes {
            span!(in worker.parent, TRACE, "pass", rows = pass.rows, horizon = pass.horizon, problem = out.number);
            let plan = RowStorage::of(pass, worker.rollout, worker.rows);
            self.fit(pass, plan, worker.parallelism, worker.rollout.scratch(pass))?;
            self.last.remember(pass, plan, out.nominal, out.std_scale);
            let (pass, chain, inputs) = alone(pass, worker.problem, out.number);
            let pass = &pass;
            let problem = Problem { inputs, nominal: &*out.nominal, std_scale: &*out.std_scale, ..*worker.problem };
            let now = Worker { problem: &problem, ..*worker };
            let sums = match plan {
                RowStorage::Stored => self.stored(&now, pass, chain, &mut timing),
                _ => self.in_tiles(&now, plan, pass, chain, &mut timing),
            };
            if !out.second.is_empty() && pass.has(SECOND_MOMENT) {
                out.second.copy_from_slice(&self.mean[pass.coordinates as usize..]);
            }
            let clock = Instant::now();
            *out.sums = sums;
            if sums.sum > 0.0 {
                let layout = worker.problem.layout;
                let step = crate::kernels::step::Step { pass, layout, inputs, number: chain };
                step.run(worker.problem.filter, &mut self.mean, out.nominal, out.std_scale);
            }
            timing.step = Some(clock.elapsed());
        }
        for (before, last) in out.before.into_iter().zip([&self.last.nominal, &self.last.std_scale]) {
            if !before.is_empty() {
                before.copy_from_slice(last);
            }
        }
        self.last.number = Some(out.number);
        Ok(timing)
    }

    /// Runs a pass that stores its rows: draws and scores all of them, then weighs, then averages.
    fn stored(&mut self, worker: &Worker<'_>, pass: &Pass, number: u32, timing: &mut Timing) -> Sums {
        let Worker { parallelism, isa, rollout, problem, .. } = *worker;
        let clock = Instant::now();
        if let Some(part) = part_of_tile(pass, rollout, parallelism.size()) {
            self.score_parts(worker, pass, number, part);
        } else {
            let rows = CacheLine::numbers_mut(&mut self.rows).chunks_mut(TILE * pass.coordinates as usize);
            let tiles = rows.zip(self.scores.chunks_mut(SCORES)).zip(&mut self.cost_bounds);
            parallelism.for_each_with(
                &self.estimates[0],
                &mut self.thread_scratch,
                tiles.enumerate(),
                |tiles::ThreadScratch { scratch, .. }, (i, ((rows, scores), cost_bounds))| {
                    *cost_bounds =
                        rollout.tile(isa, Tile { pass, problem, number, first: i * TILE, rows, scores, scratch });
                },
            );
        }
        timing.rollout = Some(clock.elapsed());

        let clock = Instant::now();
        let weight_params = self.weigh(worker, pass);
        timing.weigh = Some(clock.elapsed());

        let clock = Instant::now();
        let about = about(pass, problem);
        let (rows, log_weights) = (CacheLine::numbers(&self.rows), &self.log_weights);
        let estimate = &self.estimates[2];
        let mean = crate::kernels::average::WeightedMean { parallelism, estimate, isa, pass, about, log_weights, rows };
        let sums = mean.run(&mut self.partials, &mut self.mean);
        timing.mean = Some(clock.elapsed());
        weight_params.record(sums)
    }

    /// Draws all rows and scores them, `part` rows of a tile at a time.
    fn score_parts(&mut self, worker: &Worker<'_>, pass: &Pass, number: u32, part: usize) {
        let Worker { parallelism, isa, rollout, problem, .. } = *worker;
        let len = TILE * pass.coordinates as usize;
        let tiles = CacheLine::numbers_mut(&mut self.rows).chunks_mut(len).zip(self.scores.chunks_mut(SCORES));
        parallelism.for_each_with(
            &self.estimates[3],
            &mut self.thread_scratch,
            tiles.enumerate(),
            |tiles::ThreadScratch { scratch, .. }, (i, (rows, scores))| {
                scores.fill(0.0);
                rollout.draw(isa, Tile { pass, problem, number, first: i * TILE, rows, scores, scratch });
            },
        );

        let drawn = CacheLine::numbers(&self.rows);
        let mut parts = Vec::with_capacity(self.scores.len() / SCORES * (TILE / part));
        for (i, scores) in self.scores.chunks_mut(SCORES).enumerate() {
            let (costs, lost) = scores[..2 * TILE].split_at_mut(TILE);
            let lanes = (0..TILE).step_by(part).take_while(|lane| i * TILE + lane < pass.rows as usize);
            parts.extend(lanes.zip(costs.chunks_mut(part).zip(lost.chunks_mut(part))).map(|part| (i, part)));
        }
        parallelism.for_each_with(
            &self.estimates[0],
            &mut self.thread_scratch,
            parts.into_iter(),
            |tiles::ThreadScratch { scratch, .. }, (i, (lane, (costs, lost)))| {
                let (rows, scores) = (&mut [][..], &mut [0.0; SCORES]);
                let tile = Tile { pass, problem, number, first: i * TILE, rows, scores, scratch };
                rollout.score(isa, tile, &drawn[i * len..][..len], lane..lane + part);
                costs.copy_from_slice(&scores[lane..][..part]);
                lost.copy_from_slice(&scores[TILE + lane..][..part]);
            },
        );
        for (i, (scores, cost_bounds)) in self.scores.chunks(SCORES).zip(&mut self.cost_bounds).enumerate() {
            *cost_bounds = cost_bounds_of(isa, scores, pass.rows as usize - i * TILE);
        }
    }

    /// Runs a pass that does not store its rows.
    fn in_tiles(
        &mut self,
        worker: &Worker<'_>,
        plan: RowStorage,
        pass: &Pass,
        number: u32,
        timing: &mut Timing,
    ) -> Sums {
        let Worker { parallelism, isa, rollout, problem, .. } = *worker;
        let tiles = tiles::Tiles { parallelism, isa, rollout, pass, problem, number };
        let clock = Instant::now();
        if plan == RowStorage::AtOnce {
            let Self {
                thread_scratch,
                groups: sums,
                partials: moments,
                mean,
                scores,
                cost_bounds,
                last,
                estimates,
                ..
            } = self;
            let estimate = &estimates[0];
            let sums = tiles.score_and_average(
                scores,
                cost_bounds,
                tiles::TileBuffers { estimate, thread_scratch, sums, moments, mean },
            );
            timing.rollout = Some(clock.elapsed());
            let weight_params = crate::kernels::weigh::log_weights::Weigh {
                parallelism,
                estimate,
                isa,
                pass,
                cost_stats: crate::kernels::score::rollout::merge(cost_bounds),
            }
            .plain();
            last.weight_params = Some(weight_params);
            // Sums are relative to the best cost of the rows of nonzero weight, which may exclude the best of all rows.
            let reference = if sums.valid > 0 { sums.reference } else { weight_params.reference };
            return Sums { reference, ..weight_params.record(sums) };
        }
        tiles.score((&self.estimates[0], &mut self.thread_scratch), &mut self.scores, &mut self.cost_bounds);
        timing.rollout = Some(clock.elapsed());

        let clock = Instant::now();
        let weight_params = self.weigh(worker, pass);
        timing.weigh = Some(clock.elapsed());

        let clock = Instant::now();
        let Self { thread_scratch, groups: sums, partials: moments, mean, log_weights, estimates, .. } = self;
        let estimate = &estimates[2];
        let sums = tiles.average(
            weight_params,
            log_weights,
            tiles::TileBuffers { estimate, thread_scratch, sums, moments, mean },
        );
        timing.mean = Some(clock.elapsed());
        weight_params.record(sums)
    }

    /// Computes the log-weights of all rows.
    fn weigh(&mut self, worker: &Worker<'_>, pass: &Pass) -> crate::kernels::weigh::log_weights::WeightParams {
        let cost_stats = crate::kernels::score::rollout::merge(&self.cost_bounds);
        let (parallelism, isa, estimate) = (worker.parallelism, worker.isa, &self.estimates[1]);
        let weigh = crate::kernels::weigh::log_weights::Weigh { parallelism, estimate, isa, pass, cost_stats };
        let groups = self.log_weights.len().div_ceil(GROUP);
        let weight_params = weigh.run(&self.scores, &mut self.log_weights, &mut self.groups[..groups]);
        self.last.weight_params = Some(weight_params);
        weight_params
    }

    /// The rows of the last pass with their scores and log-weights; rows that were not stored are recomputed.
    fn fetch(&self, isa: Isa, rollout: &dyn Rollout, problem: &Problem<'_>, number: u32) -> Fetched {
        let (Some((pass, plan)), Some(weight_params)) = (&self.last.pass, self.last.weight_params) else {
            return Fetched::default();
        };
        let mut fetched = Fetched { scores: self.scores.clone(), ..Fetched::default() };
        let (padded, width) = (self.scores.len() / 3, pass.width as usize);
        fetched.rows.resize(padded * width, 0.0);
        self.copy_rows(pass, *plan, (isa, rollout, problem, number), 0, &mut fetched.rows);
        if *plan == RowStorage::AtOnce {
            fetched.log_weights.resize(padded, 0.0);
            let cost_stats = crate::kernels::score::rollout::merge(&self.cost_bounds);
            let weigh = crate::kernels::weigh::log_weights::Weigh {
                parallelism: Parallelism::Caller,
                estimate: &self.estimates[1],
                isa,
                pass,
                cost_stats,
            };
            weigh.rows(weight_params, 0, &self.scores, &mut fetched.log_weights);
        } else {
            fetched.log_weights.clone_from(&self.log_weights);
        }
        fetched
    }

    /// The row of least cost of the last pass, if a row has a finite cost.
    fn best_row(&self, isa: Isa, rollout: &dyn Rollout, problem: &Problem<'_>, number: u32) -> Option<Vec<f32>> {
        let (pass, plan) = self.last.pass.as_ref()?;
        let costs = (0..pass.rows as usize).map(|k| Fetched::cost_in(&self.scores, k));
        let valid = costs.enumerate().filter(|(_, cost)| *cost < f32::INFINITY);
        let (best, _) = valid.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let width = pass.width as usize;
        let mut tile = vec![0.0; TILE * width];
        self.copy_rows(pass, *plan, (isa, rollout, problem, number), best / TILE, &mut tile);
        Some((0..width).map(|d| tile[d * TILE + best % TILE]).collect())
    }

    /// Copies the rows of some tiles of the last pass, from tile `first` on. Those that were not stored are recomputed.
    fn copy_rows(
        &self,
        pass: &Pass,
        plan: RowStorage,
        (isa, rollout, problem, number): (Isa, &dyn Rollout, &Problem<'_>, u32),
        first: usize,
        to: &mut [f32],
    ) {
        let width = pass.width as usize;
        if plan == RowStorage::Stored && !pass.has(FILTERED) {
            to.copy_from_slice(&CacheLine::numbers(&self.rows)[first * TILE * width..][..to.len()]);
            return;
        }
        let (own, number, inputs) = alone(pass, problem, number);
        let problem = Problem { inputs, nominal: &self.last.nominal, std_scale: &self.last.std_scale, ..*problem };
        let (mut scores, mut scratch) = (vec![0.0; SCORES], vec![CacheLine::ZERO; rollout.scratch(pass)]);
        let mut innovations = vec![0.0; if pass.has(FILTERED) { TILE * pass.coordinates as usize } else { 0 }];
        for (i, controls) in to.chunks_mut(TILE * width).enumerate() {
            let rows = if pass.has(FILTERED) { &mut innovations[..] } else { &mut controls[..] };
            let tile = Tile {
                pass: &own,
                problem: &problem,
                number,
                first: (first + i) * TILE,
                rows,
                scores: &mut scores,
                scratch: &mut scratch,
            };
            rollout.draw(isa, tile);
            if pass.has(FILTERED) {
                controls.copy_from_slice(&CacheLine::numbers(&scratch)[..controls.len()]);
            }
        }
    }
}

impl Last {
    fn remember(&mut self, pass: &Pass, plan: RowStorage, nominal: &[f32], std_scale: &[f32]) {
        self.pass = Some((*pass, plan));
        self.nominal.clear();
        self.nominal.extend_from_slice(nominal);
        self.std_scale.clear();
        self.std_scale.extend_from_slice(std_scale);
    }
}

/// The point that second moments are taken about: the nominal, or 0 for rows that are not drawn around it (the scores
/// of a policy, and innovations).
fn about<'a>(pass: &Pass, problem: &Problem<'a>) -> &'a [f32] {
    if pass.has(SCORED | FILTERED) { &[] } else { problem.nominal }
}

/// The weighted mean of rows that are stored contiguously, read in place.
pub(crate) fn average(
    isa: Isa,
    pass: &Pass,
    rows: &[f32],
    log_weights: &[f32],
    partials: &mut Vec<f32>,
    moments: &mut [f32],
) -> Result<Sums, EngineError> {
    let groups = log_weights.len().div_ceil(GROUP);
    resize(partials, groups * crate::kernels::average::partial_len(pass), 0.0, "partial means")?;
    let (parallelism, estimate) = (Parallelism::Pool, &DurationEstimate::default());
    let mean =
        crate::kernels::average::WeightedMean { parallelism, estimate, isa, pass, about: &[], log_weights, rows };
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
