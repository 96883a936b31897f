//! [`Planner`]: holds a plan and a model, and improves the plan on a device. Its [`Algorithm`] selects the method;
//! everything else about planning, from warm starts to run-time parameters, is implemented here once for all methods.

mod algorithm;
mod options;
mod plan;

use std::sync::Arc;

pub use algorithm::Algorithm;
pub use options::ShiftFill;
pub use plan::{Plan, Samples};

use crate::engine::program::Program;
use crate::engine::{Engine, Workspace};
use crate::error::{BuildError, InvalidValue, PlanError, finite};
use crate::field::Grid;
use crate::float_env;
use crate::inputs::{Packed, Sections, Square};
use crate::model::Model;
use crate::noise::{CovarianceFactors, Stream, normal, philox};
use crate::pass::{CLAMPED, GIVEN, LIMITED, Pass, Problem, STD_SCALE, Sums, TILE, round_up};
use crate::task::Reader;
use plan::roll_out;

/// Improves a plan for a model on a device, as [`Mppi`](crate::Mppi) or as
/// [`DiffusionPlanner`](crate::DiffusionPlanner) depending on its options. Both have the same interface.
///
/// # Example
///
/// ```
/// use gibbs::models::Pendulum;
/// use gibbs::{Backend, Engine, EngineOptions, Mppi, MppiOptions, Task};
///
/// let engine = Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() })?;
/// let options = MppiOptions {
///     task: Task { horizon: 20, dt: 0.05, ..Default::default() },
///     samples: 256,
///     ..Default::default()
/// };
/// let mut mppi = Mppi::new(&engine, Pendulum::default(), options)?;
///
/// let state = [std::f32::consts::PI, 0.0]; // hanging
/// let plan = mppi.plan(&state)?;
/// println!("apply {} Nm, expect a cost of {}", plan.controls()[0][0], plan.cost());
/// mppi.shift(1);
/// # Ok::<(), gibbs::Error>(())
/// ```
pub struct Planner<const N: usize, const M: usize, D, A> {
    engine: Engine,
    model: Arc<D>,
    program: Program,
    workspace: Workspace,
    options: A,
    shape: CovarianceFactors,
    inputs: Packed,
    /// The control sequences of all chains, B × T × M.
    nominal: Vec<f32>,
    /// The factors on the standard deviation of their noise, B × T × M; empty if the method has none.
    std_scale: Vec<f32>,
    /// The index of the chain that is the plan.
    best: usize,
    passes: Vec<Pass>,
    /// Counts the updates so far. It is part of the noise counters, so that every update draws new rows.
    number: u32,
    plan: Plan<N, M>,
    /// Buffer for the next plan, swapped with `plan` once that is complete.
    next: Plan<N, M>,
    /// The initial state of the samples on the device and the index of the chain that became the plan; `None` if the
    /// samples are out of date.
    sampled: Option<([f32; N], usize)>,
    /// Whether [`prepare_rows`](Self::prepare_rows) was called, so that kernels for given rows are prepared, too.
    takes_rows: bool,
}

impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> Planner<N, M, D, A> {
    /// Creates a planner whose plan is `options.initial` at every time step. All options are validated here, and
    /// everything that [`plan`](Self::plan) and [`samples`](Self::samples) need is compiled and allocated here. On a
    /// GPU each kernel is also dispatched once, because some drivers generate its machine code only then; so the first
    /// plan takes as long as the second. [`plan_rows`](Self::plan_rows) uses separate kernels, which
    /// [`prepare_rows`](Self::prepare_rows) compiles.
    ///
    /// # Errors
    ///
    /// If an option is out of range, the model cannot become a kernel, or the device fails.
    pub fn new(engine: &Engine, model: D, options: A) -> Result<Self, BuildError> {
        const { assert!(N > 0 && M > 0, "a system to control has states and controls") };
        let shape = check(&options)?;
        let model = Arc::new(model);
        let program = Program::new::<N, M, D>(&model, engine.options().math)?;
        let mut planner = Self {
            engine: engine.clone(),
            model,
            program,
            workspace: engine.workspace(),
            nominal: options.initial().repeat(options.task().horizon * options.chains()),
            std_scale: Vec::new(),
            best: 0,
            inputs: Packed::new(N, &sections(&options, &shape), &options.task().fields),
            passes: Vec::new(),
            number: 0,
            plan: Plan::empty(engine.backend()),
            next: Plan::empty(engine.backend()),
            sampled: None,
            takes_rows: false,
            shape,
            options,
        };
        planner.options.task().check_reader(&planner.reader())?;
        planner.prepare()?;
        Ok(planner)
    }

    /// Improves the plan for the state `x` and returns it: all updates of the method, carried out on the device in one go.
    ///
    /// Several chains are improved independently; the one whose control sequence costs least becomes the plan.
    ///
    /// # Errors
    ///
    /// If the state is not finite, no rollout of any chain has a finite cost, or the device fails. The previous plan is
    /// kept.
    pub fn plan(&mut self, x: &[f32; N]) -> Result<&Plan<N, M>, PlanError> {
        self.run(x, None, usize::MAX)
    }

    /// As [`plan`](Self::plan), but runs at most the first `passes` updates (at least one), to show the progress of a
    /// method. After the same [`reset`](Self::reset), a call with fewer updates computes a prefix of a call with more.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan).
    pub fn plan_first(&mut self, x: &[f32; N], passes: usize) -> Result<&Plan<N, M>, PlanError> {
        self.run(x, None, passes.max(1))
    }

    /// As [`plan`](Self::plan), but weighs rows supplied by the caller instead of drawn ones, so that any proposal can
    /// be used.
    ///
    /// `rows` holds K control sequences one after the other, each T × M; every chain uses the same rows. Limits still
    /// apply to them. With several updates, the same rows are weighed each time.
    ///
    /// On a GPU this call uses separate kernels. If [`prepare_rows`](Self::prepare_rows) has not been called, the first
    /// call compiles them, which can take seconds; these do not count towards
    /// [`EngineOptions::timeout`](crate::EngineOptions::timeout).
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan), and if the rows have the wrong size or are not finite.
    pub fn plan_rows(&mut self, x: &[f32; N], rows: &[f32]) -> Result<&Plan<N, M>, PlanError> {
        let expected = self.options.samples() * self.options.task().horizon * M;
        if rows.len() != expected {
            let expected = format_args!("samples × horizon × controls = {expected} numbers");
            return Err(InvalidValue::new("rows", format_args!("{} numbers", rows.len()), expected).into());
        }
        finite("rows", rows)?;
        self.run(x, Some(rows), usize::MAX)
    }

    /// Compiles and allocates what [`plan_rows`](Self::plan_rows) and the [`samples`](Self::samples) after it need, so
    /// that the first such call takes as long as the second. From then on [`set_options`](Self::set_options),
    /// [`resize`](Self::resize) and [`move_to`](Self::move_to) do so, too. The plan is kept, but the samples of the
    /// last call are gone.
    ///
    /// # Errors
    ///
    /// If the device fails or runs out of memory. Then nothing is changed, but the samples of the last call are gone.
    pub fn prepare_rows(&mut self) -> Result<(), BuildError> {
        self.sampled = None;
        let before = std::mem::replace(&mut self.takes_rows, true);
        self.prepare().inspect_err(|_| self.takes_rows = before)
    }

    fn run(&mut self, x: &[f32; N], rows: Option<&[f32]>, most: usize) -> Result<&Plan<N, M>, PlanError> {
        float_env::standard(move || self.improve(x, rows, most))
    }

    fn improve(&mut self, x: &[f32; N], rows: Option<&[f32]>, most: usize) -> Result<&Plan<N, M>, PlanError> {
        finite("state", x)?;
        let started = std::time::Instant::now();
        self.inputs.set_state(x);
        self.fill_updates(rows.is_some());
        if most < self.passes.len() {
            self.passes.truncate(most);
            // The last update ends at the plan, which must be within the limits.
            if let Some(last) = self.passes.last_mut() {
                last.set(CLAMPED, last.has(LIMITED));
            }
        }
        let (samples, width) = (self.options.samples(), self.options.task().horizon * M);
        let scattered = scattered(&self.options, &self.shape, &self.nominal, self.number);
        let nominal = scattered.as_deref().unwrap_or(&self.nominal);
        let problem = Problem { std_scale: &self.std_scale, rows, ..self.inputs.problem(nominal) };
        self.sampled = None;
        // A failed call consumes its noise too; the next one draws other rows.
        self.number = self.number.wrapping_add(self.passes.len() as u32);
        let done = self.workspace.run(&self.program, &self.passes, &problem)?;

        // A chain that failed keeps its control sequence; the chain of least cost becomes the plan.
        let worked = |sums: &Sums| sums.valid > 0 && sums.sum > 0.0;
        if !done.sums.iter().any(worked) {
            return Err(PlanError::NoFiniteRow { rows: samples });
        }
        let usable = |(sums, nominal): (&Sums, &[f32])| worked(sums) && nominal.iter().all(|u| u.is_finite());
        let chains = || done.sums.iter().zip(done.nominal.chunks_exact(width)).enumerate();
        let results = || chains().filter(|(_, result)| usable(*result));
        // The model runs on the host here and may panic. Nothing is committed before it is done, so the old plan survives.
        let timeline = self.inputs.timeline(self.options.task().dt);
        let last = &self.passes[self.passes.len() - 1];
        let isa = self.engine.isa();
        let mut best: Option<(f32, usize, &[f32])> = None;
        for (chain, (_, nominal)) in results() {
            self.next.roll_out(isa, &*self.model, &timeline, last.cost_scale, *x, nominal);
            let cost = if self.next.cost().is_finite() { self.next.cost() } else { f32::MAX };
            if best.is_none_or(|(least, ..)| cost < least) {
                best = Some((cost, chain, nominal));
            }
        }
        let Some((_, chain, nominal)) = best else { return Err(PlanError::NonFiniteMean) };
        if done.sums.len() > 1 {
            self.next.roll_out(isa, &*self.model, &timeline, last.cost_scale, *x, nominal);
        }
        self.next.record(last, &done.sums[chain], done.timing);
        self.next.backend = self.engine.backend();

        for (chain, (_, nominal)) in results() {
            self.nominal[chain * width..][..width].copy_from_slice(nominal);
        }
        self.best = chain;
        self.sampled = Some((*x, chain));
        std::mem::swap(&mut self.plan, &mut self.next);
        self.plan.timing.total = started.elapsed();
        Ok(&self.plan)
    }

    /// Shifts the plan by `steps` time steps, after that many controls have been applied. [`ShiftFill`] selects the controls
    /// that are appended at the end.
    pub fn shift(&mut self, steps: usize) {
        let (horizon, shift_fill, initial) =
            (self.options.task().horizon, self.options.shift_fill(), self.options.initial());
        for chain in self.nominal.chunks_exact_mut(horizon * M) {
            shift_fill.shift(chain.as_chunks_mut().0, steps, initial);
        }
    }

    /// Resets the plan to `options.initial` at every time step and restarts the noise, so that the same calls give the
    /// same results again.
    pub fn reset(&mut self) {
        let initial = self.options.initial();
        self.nominal.as_chunks_mut().0.fill(initial);
        (self.number, self.best) = (0, 0);
    }

    /// Replaces the seed and restarts the noise.
    pub fn reseed(&mut self, seed: u64) {
        self.options.task_mut().seed = seed;
        self.number = 0;
    }

    /// The control sequence that the next call starts from, T × M; with several chains, that of the best one.
    pub fn controls(&self) -> &[[f32; M]] {
        self.chain(self.best)
    }

    /// The control sequences of all chains, each T × M.
    pub fn chains(&self) -> impl ExactSizeIterator<Item = &[[f32; M]]> {
        (0..self.options.chains()).map(|chain| self.chain(chain))
    }

    fn chain(&self, chain: usize) -> &[[f32; M]] {
        let horizon = self.options.task().horizon;
        &self.nominal.as_chunks().0[chain * horizon..][..horizon]
    }

    /// Replaces the control sequence that the next call starts from, in every chain.
    ///
    /// # Errors
    ///
    /// If it does not have T time steps, or is not finite. The next call applies the limits to it.
    pub fn set_controls(&mut self, controls: &[[f32; M]]) -> Result<(), InvalidValue> {
        let horizon = self.options.task().horizon;
        if controls.len() != horizon {
            let expected = format_args!("horizon = {horizon} of them");
            return Err(InvalidValue::new("controls", format_args!("{} controls", controls.len()), expected));
        }
        finite("controls", controls.as_flattened())?;
        for chain in self.nominal.chunks_exact_mut(horizon * M) {
            chain.copy_from_slice(controls.as_flattened());
        }
        Ok(())
    }

    /// Replaces the run-time parameters. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If they are fewer than the model uses, or not finite.
    pub fn set_params(&mut self, params: &[f32]) -> Result<(), InvalidValue> {
        let reader = self.reader();
        self.inputs.set_params(&mut self.options.task_mut().params, params, &[reader])?;
        self.sampled = None;
        Ok(())
    }

    /// Replaces the reference table: one row of `columns` numbers per time step. Steps beyond the last row read the
    /// last row. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If it is empty or ragged, has fewer columns than the model uses, or is not finite.
    pub fn set_references(&mut self, values: &[f32], columns: usize) -> Result<(), InvalidValue> {
        let reader = self.reader();
        self.inputs.set_references(&mut self.options.task_mut().references, values, columns, &[reader])?;
        self.sampled = None;
        Ok(())
    }

    /// Replaces one sampled field. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If there is no field of that index yet.
    pub fn set_field(&mut self, index: usize, grid: Grid) -> Result<(), InvalidValue> {
        self.inputs.set_field(&mut self.options.task_mut().fields, index, grid)?;
        self.sampled = None;
        Ok(())
    }

    /// Replaces all options but the horizon and the number of samples, which have [`resize`](Self::resize). The plan is
    /// kept; if the number of chains changes, all chains start from the best one. The next call applies tighter limits
    /// to it. A GPU compiles another kernel when limits, control cost, `nominal_first` or correlated noise are switched
    /// on or off, when the temperature changes from given to solved for, and when the number of chains crosses 2 (on a
    /// software adapter) or 64.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). Then nothing is changed, but the samples of the last call may be gone.
    pub fn set_options(&mut self, mut options: A) -> Result<(), BuildError> {
        let shape = check(&options)?;
        options.task_mut().horizon = self.options.task().horizon;
        options.set_samples(self.options.samples());
        options.task().check_reader(&self.reader())?;
        let nominal = match options.chains() {
            chains if chains == self.options.chains() => self.nominal.clone(),
            chains => self.controls().as_flattened().repeat(chains),
        };
        let previous = (
            std::mem::replace(&mut self.options, options),
            std::mem::replace(&mut self.shape, shape),
            std::mem::replace(&mut self.nominal, nominal),
            self.best,
        );
        self.best = self.best.min(self.options.chains() - 1);
        self.take_options();
        self.prepare().inspect_err(|_| {
            (self.options, self.shape, self.nominal, self.best) = previous;
            self.take_options();
        })
    }

    /// Packs the options for the kernels.
    fn take_options(&mut self) {
        self.sampled = None;
        self.inputs.write(&sections(&self.options, &self.shape));
        self.inputs.set_fields(&self.options.task().fields);
    }

    /// Changes the horizon and the number of samples. The plan is truncated, or extended as [`ShiftFill`] says. A GPU
    /// compiles another kernel when the number of samples crosses 256 (1,024 with many chains), up to which a single
    /// kernel does the whole update.
    ///
    /// # Errors
    ///
    /// If a size is out of range, or the device runs out of memory. Then nothing is changed, but the samples of the
    /// last call may be gone.
    pub fn resize(&mut self, horizon: usize, samples: usize) -> Result<(), BuildError> {
        let mut options = self.options.clone();
        options.task_mut().horizon = horizon;
        options.set_samples(samples);
        check(&options)?;
        let mut nominal = Vec::with_capacity(options.chains() * horizon * M);
        for chain in self.chains() {
            let at = |t: usize| options.shift_fill().beyond(chain, t, options.initial());
            nominal.extend((0..horizon).flat_map(at));
        }
        let previous = (std::mem::replace(&mut self.options, options), std::mem::replace(&mut self.nominal, nominal));
        self.sampled = None;
        self.prepare().inspect_err(|_| (self.options, self.nominal) = previous)
    }

    /// Moves the planner, with its plan, to another engine (or to a new one on the same device, after it was lost).
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). Then nothing is changed, but the samples of the last call may be gone.
    pub fn move_to(&mut self, engine: &Engine) -> Result<(), BuildError> {
        let program = Program::new::<N, M, D>(&self.model, engine.options().math)?;
        self.options.task().check_reader(&Reader::model(program.requirements))?;
        let previous = (
            std::mem::replace(&mut self.engine, engine.clone()),
            std::mem::replace(&mut self.program, program),
            std::mem::replace(&mut self.workspace, engine.workspace()),
        );
        self.sampled = None;
        self.prepare().inspect_err(|_| (self.engine, self.program, self.workspace) = previous)
    }

    /// Fetches the rows of the last update with their costs and weights from the device, for plots and analysis. With
    /// several chains, these are the rows of the one that became the plan.
    ///
    /// # Errors
    ///
    /// If no call of [`plan`](Self::plan) has succeeded since the planner was last changed, or the device fails.
    pub fn samples(&mut self) -> Result<Samples<'_, N, M, D>, PlanError> {
        let Some((state, chain)) = self.sampled else {
            return Err(InvalidValue::new("samples", "not there", "preceded by a call of plan that succeeded").into());
        };
        let Self { inputs, nominal, std_scale, .. } = self;
        let problem = Problem { std_scale, ..inputs.problem(nominal) };
        let fetched = self.workspace.fetch(&self.program, &problem, chain)?;
        let timeline = self.inputs.timeline(self.options.task().dt);
        let (samples, horizon) = (self.options.samples(), self.options.task().horizon);
        Ok(Samples { model: &*self.model, timeline, state, samples, horizon, fetched })
    }

    /// The current options.
    pub fn options(&self) -> &A {
        &self.options
    }

    /// The engine in use.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The model that is controlled.
    pub fn model(&self) -> &D {
        &self.model
    }

    /// The WGSL generated from the model, for inspection, and the number of operations in its trace.
    pub fn wgsl(&self) -> (&str, usize) {
        (&self.program.source, self.program.operations)
    }

    fn reader(&self) -> Reader {
        Reader::model(self.program.requirements)
    }

    /// Lists the updates of one call.
    fn fill_updates(&mut self, given: bool) {
        let (horizon, chains) = (self.options.task().horizon, self.options.chains());
        let mut first = Pass {
            number: self.number,
            rows: self.options.samples() as u32,
            width: (horizon * M) as u32,
            cost_scale: if self.options.averages() { 1.0 / horizon as f32 } else { 1.0 },
            problems: chains as u32,
            ..self.options.task().pass(&self.inputs)
        };
        first.set(GIVEN, given);
        self.std_scale.clear();
        if self.options.std_scale(0).is_some() {
            first.set(STD_SCALE, true);
            for _ in 0..chains {
                self.std_scale.extend((0..horizon).flat_map(|t| [self.options.std_scale(t).unwrap_or(1.0); M]));
            }
        }
        self.passes.clear();
        self.options.passes(first, &mut self.passes);
        for (i, pass) in self.passes.iter_mut().enumerate() {
            pass.number = self.number.wrapping_add(i as u32);
        }
    }

    /// The workspace that runs the calls.
    #[cfg(all(test, feature = "gpu"))]
    pub(crate) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Passes the program, the updates and the problem of the next call to `see`.
    #[cfg(test)]
    pub(crate) fn work(&mut self, given: bool, see: impl FnOnce(&Program, &[Pass], &Problem<'_>)) {
        self.fill_updates(given);
        let Self { inputs, nominal, std_scale, .. } = self;
        let problem = Problem { std_scale, ..inputs.problem(nominal) };
        see(&self.program, &self.passes, &problem);
    }

    /// Compiles and allocates everything that the next call may need.
    fn prepare(&mut self) -> Result<(), BuildError> {
        let (horizon, samples) = (self.options.task().horizon, self.options.samples());
        // Addresses are 32 bits wide on the device.
        let padded = round_up(samples, TILE).saturating_mul(horizon * M);
        if padded > i32::MAX as usize {
            let value = format_args!("{samples} × {horizon} × {M}");
            let expected = format_args!("samples × horizon × controls of at most {} numbers", i32::MAX);
            return Err(InvalidValue::new("samples", value, expected).into());
        }
        self.plan.reserve(horizon);
        self.next.reserve(horizon);
        if self.takes_rows {
            self.prepare_for(true)?;
        }
        self.prepare_for(false)
    }

    /// Prepares for a call with given rows, or for one without.
    fn prepare_for(&mut self, given: bool) -> Result<(), BuildError> {
        float_env::standard(|| self.fill_updates(given));
        let Self { inputs, nominal, std_scale, .. } = self;
        let problem = Problem { std_scale, ..inputs.problem(nominal) };
        self.workspace.prepare(&self.program, &self.passes, &problem)?;
        self.workspace.prepare_fetch()
    }

    /// Rolls out any control sequence in plain `f32`. Returns the states (the first is `x`) and the cost as it enters
    /// the exponent, without its control term.
    ///
    /// # Errors
    ///
    /// If the state or the controls are not finite.
    pub fn simulate(&self, x: &[f32; N], controls: &[[f32; M]]) -> Result<(Vec<[f32; N]>, f32), InvalidValue> {
        finite("state", x)?;
        finite("controls", controls.as_flattened())?;
        let mut states = Vec::with_capacity(controls.len() + 1);
        let timeline = self.inputs.timeline(self.options.task().dt);
        let average = self.options.averages() && !controls.is_empty();
        let cost = float_env::standard(|| {
            let cost = roll_out(&*self.model, &timeline, *x, controls, &mut states);
            if average { cost / controls.len() as f32 } else { cost }
        });
        Ok((states, cost))
    }
}

/// Returns the sections that are packed for the kernels, besides the state.
fn sections<'a, const M: usize>(options: &'a impl Algorithm<M>, shape: &'a CovarianceFactors) -> Sections<'a> {
    options.task().sections(Square::Dense(&shape.factor), Square::Dense(&shape.precision))
}

/// Checks everything that does not depend on the model.
fn check<const M: usize>(options: &impl Algorithm<M>) -> Result<CovarianceFactors, InvalidValue> {
    float_env::standard(|| {
        let shape = algorithm::check_shared(options)?;
        options.check(shape.regular)?;
        Ok(shape)
    })
}

/// Returns the chains with noise added to each, or `None` if the method does not scatter them.
fn scattered<const M: usize>(
    options: &impl Algorithm<M>,
    shape: &CovarianceFactors,
    nominal: &[f32],
    number: u32,
) -> Option<Vec<f32>> {
    let scatter = options.scatter();
    if scatter == 0.0 {
        return None;
    }
    let (width, key) = (options.task().horizon * M, philox::key(options.task().seed));
    let mut scattered = nominal.to_vec();
    for (chain, nominal) in scattered.chunks_exact_mut(width).enumerate() {
        let z = |d: usize| {
            let counter = [0, (d / 4) as u32, number, Stream::Chains.word(chain as u32)];
            normal::box_muller_at(counter, key)[d % 4]
        };
        for (t, u) in nominal.as_chunks_mut::<M>().0.iter_mut().enumerate() {
            for (m, u) in u.iter_mut().enumerate() {
                let shaped: f32 = (0..=m).map(|j| shape.factor[m * M + j] * z(t * M + j)).sum();
                *u += scatter * options.std_scale(t).unwrap_or(1.0) * shaped;
            }
        }
    }
    Some(scattered)
}

impl<const N: usize, const M: usize, D, A: std::fmt::Debug> std::fmt::Debug for Planner<N, M, D, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner").field("engine", &self.engine).field("options", &self.options).finish_non_exhaustive()
    }
}
