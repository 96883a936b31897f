//! [`Planner`]: holds a plan and a model, and improves the plan on a device. Its [`Algorithm`] selects the method;
//! everything else about planning, from warm starts to run-time parameters, is implemented here once for all methods.

pub(crate) mod actuation;
pub(crate) mod algorithm;
pub(crate) mod any;
mod call;
pub(crate) mod feedback;
pub(crate) mod fleet;
mod motion;
pub(crate) mod options;
pub(crate) mod plan;
pub(crate) mod snapshot;
pub(crate) mod terms;

use std::future::poll_fn;
use std::sync::Arc;

use crate::error::{BuildError, InvalidValue, PlanError, finite};
use crate::kernels::pass::{Pass, Problem, Sums, TILE, round_up};
use crate::kernels::propose::noise::CovarianceFactors;
use crate::lang::clock::Instant;
use crate::lang::float_env;
use crate::lang::grid::{Block, Grid};
use crate::model::Model;
use crate::runtime::inputs::{Packed, Sections, Square};
use crate::runtime::program::Program;
use crate::runtime::scenario::Scenario;
use crate::runtime::task::{Reader, References, Task};
#[cfg(feature = "gpu")]
use crate::runtime::{Backend, DeviceTrajectories, PlanNumbers};
use crate::runtime::{Engine, Fetched, Fetching, Wait, Workspace, blocking, drained};
use actuation::Applied;
pub use actuation::Smoothing;
pub use algorithm::Algorithm;
pub use any::{AnyPlanner, BoxedFuture};
pub use feedback::{Feedback, FeedbackWeights};
pub use fleet::{Fleet, Plans};
pub use options::{Fallback, PlanSource, Proposal, ShiftFill};
pub use plan::{Effort, Plan, Samples, Symptom};
use plan::{Start, roll_out};
pub use snapshot::Snapshot;
pub use terms::{RowStatistics, TermStatistics, Terms};

/// Improves a plan for a model on a device, as [`Mppi`](crate::control::mppi::Mppi) or as
/// [`DiffusionPlanner`](crate::control::diffusion::DiffusionPlanner) depending on its options. Both have the same
/// interface.
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
    program: Arc<Program>,
    workspace: Workspace,
    options: A,
    shape: CovarianceFactors,
    inputs: Packed,
    /// The plans that are improved together: one, unless the planner is that of a [`Fleet`].
    members: Vec<Member<N, M>>,
    /// The control sequences of all chains of every member, T × M each.
    nominal: Vec<f32>,
    /// The factors on the standard deviation of their noise, T × M each; empty if the method has none.
    std_scale: Vec<f32>,
    passes: Vec<Pass>,
    /// Whether [`prepare_rows`](Self::prepare_rows) was called, so that kernels for given rows are prepared, too.
    takes_rows: bool,
    /// Whether [`prepare_device_trajectories`](Self::prepare_device_trajectories) was called, so that their kernel is
    /// prepared, too.
    #[cfg(feature = "gpu")]
    keeps_trajectories: bool,
    pending: Option<PendingCall>,
    /// The control sequences that the rows of the current call, or of its current pass, are drawn around.
    stage: Vec<f32>,
    /// The control sequences that a call has computed, as in `nominal`, and the sums behind them.
    results: Vec<f32>,
    sums: Vec<Sums>,
    /// How long a pass takes for each of its rows (in seconds), if it was measured.
    time_per_row: Option<f64>,
}

/// One of the plans that are improved together.
#[derive(Debug, Clone)]
struct Member<const N: usize, const M: usize> {
    /// The member's own seed, parameters and references, which take precedence over those of the options.
    seed: Option<u64>,
    params: Option<Vec<f32>>,
    references: Option<References>,
    /// Counts the passes so far. It is part of the noise counters, so that every pass draws new rows.
    number: u32,
    /// The index of the chain that is the plan.
    best: usize,
    plan: Plan<N, M>,
    /// Buffer for the next plan, swapped with `plan` once that is complete.
    next: Plan<N, M>,
    /// The index of the chain that became the plan in the current call, or the reason why none did.
    outcome: Result<usize, PlanError>,
    /// The controls that have been applied, which the next plan continues from.
    applied: Applied<M>,
    /// The controls that were on their way when the current call began: the first of its plan.
    queue: Vec<[f32; M]>,
    /// The controls that were applied before the ones in `queue`, as many as smoothing reads.
    past: Vec<[f32; M]>,
    /// The plan that the current call started from, if it may become the plan again.
    before: Vec<[f32; M]>,
    /// The control sequences for the proposals of the next call, T each; those that are empty were not given.
    given: Vec<Vec<[f32; M]>>,
    /// The number of time steps that the plan was moved on by since the current call began.
    moved: f64,
    /// The bits of the symptoms that were logged.
    warned: u8,
    /// Buffer for smoothing, and for the queue while it moves.
    scratch: Vec<[f32; M]>,
    /// The initial state of the samples on the device and the index of the chain that became the plan; `None` if the
    /// samples are out of date.
    sampled: Option<([f32; N], usize)>,
    /// The buffers of the last trajectories that were kept on the device.
    #[cfg(feature = "gpu")]
    trajectories: Option<DeviceTrajectories>,
}

/// What replaced options were.
struct Previous<A> {
    options: A,
    shape: CovarianceFactors,
    nominal: Vec<f32>,
    /// The chain of every member that is its plan.
    bests: Vec<usize>,
}

/// A planner whose kernels are being compiled. Its members are fitted to the options that it has at the end, also if
/// the task is dropped before that.
struct Preparing<'a, const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> {
    planner: &'a mut Planner<N, M, D, A>,
    /// Whether the caller restores the previous options, which the members still fit.
    failed: bool,
}

impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> Drop for Preparing<'_, N, M, D, A> {
    fn drop(&mut self) {
        if !self.failed {
            self.planner.reserve();
        }
    }
}

/// A call that has been started and not finished.
struct PendingCall {
    started: Instant,
    /// The numbers of passes and rows that were asked for.
    asked: [usize; 2],
    /// The inputs of the call, if they have been replaced since.
    inputs: Option<Packed>,
    /// Whether the passes are over and every member has its next plan.
    is_evaluated: bool,
    /// The number of members whose next plan is final.
    checked: usize,
    /// The rows of the member that is checked next, if they are needed.
    fetching: Option<Fetching>,
}

impl PendingCall {
    fn new(started: Instant, asked: [usize; 2]) -> Self {
        Self { started, asked, inputs: None, is_evaluated: false, checked: 0, fetching: None }
    }
}

impl<const N: usize, const M: usize> Member<N, M> {
    fn new(engine: &Engine, applied: Applied<M>) -> Self {
        Self {
            seed: None,
            params: None,
            references: None,
            number: 0,
            best: 0,
            plan: Plan::empty(engine.backend()),
            next: Plan::empty(engine.backend()),
            outcome: Ok(0),
            applied,
            queue: Vec::new(),
            past: Vec::new(),
            before: Vec::new(),
            given: Vec::new(),
            moved: 0.0,
            warned: 0,
            scratch: Vec::new(),
            sampled: None,
            #[cfg(feature = "gpu")]
            trajectories: None,
        }
    }

    /// The run-time parameters: the member's own, or those of the task.
    fn params<'a>(&'a self, task: &'a Task<M>) -> &'a [f32] {
        self.params.as_deref().unwrap_or(&task.params)
    }

    /// The references: the member's own, or those of the task.
    fn references<'a>(&'a self, task: &'a Task<M>) -> Option<&'a References> {
        self.references.as_ref().or(task.references.as_ref())
    }
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
        Self::of_members(engine, model, options, 1)
    }

    /// As [`new`](Self::new), without blocking the thread in a browser: there the kernels are compiled while the future
    /// is pending. Elsewhere it is `new` itself.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub async fn new_async(engine: &Engine, model: D, options: A) -> Result<Self, BuildError> {
        Self::of_members_async(engine, model, options, 1).await
    }

    /// Creates a planner that improves `members` plans together.
    fn of_members(engine: &Engine, model: D, options: A, members: usize) -> Result<Self, BuildError> {
        let mut planner = Self::unprepared(engine, model, options, members)?;
        planner.prepare()?;
        Ok(planner)
    }

    async fn of_members_async(engine: &Engine, model: D, options: A, members: usize) -> Result<Self, BuildError> {
        let mut planner = Self::unprepared(engine, model, options, members)?;
        planner.prepare_async().await?;
        Ok(planner)
    }

    /// A planner whose kernels are not compiled.
    fn unprepared(engine: &Engine, model: D, options: A, members: usize) -> Result<Self, BuildError> {
        const { assert!(N > 0 && M > 0, "a system to control has states and controls") };
        let model = Arc::new(model);
        let shape = check(&options, members)?;
        let program = Arc::new(Program::new::<N, M, D>(&model, engine.options().math)?);
        let planner = Self {
            engine: engine.clone(),
            model,
            program,
            workspace: engine.workspace(),
            nominal: options.initial().repeat(options.task().horizon * options.chains() * members),
            members: (0..members).map(|_| Member::new(engine, Applied::new(options.initial()))).collect(),
            std_scale: Vec::new(),
            inputs: Packed::of_groups(N, &sections(&options, &shape), &options.task().fields, members),
            passes: Vec::new(),
            takes_rows: false,
            #[cfg(feature = "gpu")]
            keeps_trajectories: false,
            pending: None,
            stage: Vec::new(),
            results: Vec::new(),
            sums: Vec::new(),
            time_per_row: None,
            shape,
            options,
        };
        planner.check_reader(planner.options.task(), &planner.reader())?;
        Ok(planner)
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
        self.workspace.may_block()?;
        self.cancel();
        self.forget_samples();
        let before = std::mem::replace(&mut self.takes_rows, true);
        self.prepare().inspect_err(|_| self.takes_rows = before)
    }

    /// As [`prepare_rows`](Self::prepare_rows), without blocking the thread in a browser: see
    /// [`new_async`](Self::new_async).
    ///
    /// # Errors
    ///
    /// As [`prepare_rows`](Self::prepare_rows).
    pub async fn prepare_rows_async(&mut self) -> Result<(), BuildError> {
        self.cancel();
        self.forget_samples();
        let before = std::mem::replace(&mut self.takes_rows, true);
        self.prepare_async().await.inspect_err(|_| self.takes_rows = before)
    }

    /// Compiles what [`device_trajectories`](Self::device_trajectories) needs, so that its first call takes as long as
    /// the second. From then on [`set_options`](Self::set_options), [`resize`](Self::resize) and
    /// [`move_to`](Self::move_to) do so, too. The plan is kept, but the samples of the last call are gone.
    ///
    /// # Errors
    ///
    /// If the engine is on the CPU, or the device fails. Then nothing is changed, but the samples of the last call may
    /// be gone.
    #[cfg(feature = "gpu")]
    pub fn prepare_device_trajectories(&mut self) -> Result<(), BuildError> {
        self.workspace.may_block()?;
        let before = self.keep_trajectories()?;
        self.prepare().inspect_err(|_| self.keeps_trajectories = before)
    }

    /// As [`prepare_device_trajectories`](Self::prepare_device_trajectories), without blocking the thread in a browser:
    /// see [`new_async`](Self::new_async).
    ///
    /// # Errors
    ///
    /// As [`prepare_device_trajectories`](Self::prepare_device_trajectories).
    #[cfg(feature = "gpu")]
    pub async fn prepare_device_trajectories_async(&mut self) -> Result<(), BuildError> {
        let before = self.keep_trajectories()?;
        self.prepare_async().await.inspect_err(|_| self.keeps_trajectories = before)
    }

    /// Makes [`prepare`](Self::prepare) compile the kernel of trajectories, and returns whether it did before.
    #[cfg(feature = "gpu")]
    fn keep_trajectories(&mut self) -> Result<bool, InvalidValue> {
        self.check_for_buffers()?;
        self.cancel();
        self.forget_samples();
        Ok(std::mem::replace(&mut self.keeps_trajectories, true))
    }

    /// Refuses an engine that has no buffers to share.
    #[cfg(feature = "gpu")]
    fn check_for_buffers(&self) -> Result<(), InvalidValue> {
        if self.engine.backend() == Backend::Cpu {
            let expected = "on a GPU, as by Engine::from_wgpu; on the CPU, Planner::samples returns the same rows";
            return Err(InvalidValue::new("engine", "on the CPU", expected));
        }
        Ok(())
    }

    /// Replaces the seed and restarts the noise.
    pub fn reseed(&mut self, seed: u64) {
        self.options.task_mut().seed = seed;
        self.members[0].number = 0;
    }

    /// The seed of a member: its own, or that of the options plus its index.
    fn seed_of(&self, i: usize) -> u64 {
        self.members[i].seed.unwrap_or_else(|| self.options.task().seed.wrapping_add(i as u64))
    }

    /// The control sequence that the next call starts from, T × M; with several chains, that of the best one.
    pub fn controls(&self) -> &[[f32; M]] {
        self.controls_of(0)
    }

    fn controls_of(&self, i: usize) -> &[[f32; M]] {
        self.chain(i, self.members[i].best)
    }

    /// The control sequences of all chains, each T × M.
    pub fn chains(&self) -> impl ExactSizeIterator<Item = &[[f32; M]]> {
        (0..self.options.chains()).map(|chain| self.chain(0, chain))
    }

    fn chain(&self, i: usize, chain: usize) -> &[[f32; M]] {
        let (horizon, chains) = (self.options.task().horizon, self.options.chains());
        &self.nominal.as_chunks().0[(i * chains + chain) * horizon..][..horizon]
    }

    /// The range of a member's control sequences in `nominal`.
    fn numbers_of(&self, i: usize) -> std::ops::Range<usize> {
        let each = self.options.chains() * self.options.task().horizon * M;
        i * each..(i + 1) * each
    }

    /// Replaces the control sequence that the next call starts from, in every chain. With an input
    /// [`delay`](Task::delay), its first `delay` controls are ignored, since those on their way cannot be replaced.
    ///
    /// # Errors
    ///
    /// If it does not have T time steps, or is not finite. The next call applies the limits to it.
    pub fn set_controls(&mut self, controls: &[[f32; M]]) -> Result<(), InvalidValue> {
        self.set_controls_of(0, controls)
    }

    /// Refuses a control sequence that does not have T time steps or is not finite.
    fn check_controls(&self, controls: &[[f32; M]]) -> Result<(), InvalidValue> {
        let horizon = self.options.task().horizon;
        if controls.len() != horizon {
            let expected = format_args!("horizon = {horizon} of them");
            return Err(InvalidValue::new("controls", format_args!("{} controls", controls.len()), expected));
        }
        finite("controls", controls.as_flattened())
    }

    fn set_controls_of(&mut self, i: usize, controls: &[[f32; M]]) -> Result<(), InvalidValue> {
        self.check_controls(controls)?;
        self.cancel();
        let (range, horizon) = (self.numbers_of(i), self.options.task().horizon);
        // The controls on their way cannot be replaced.
        let on_their_way = self.options.task().delay;
        for chain in self.nominal[range].chunks_exact_mut(horizon * M) {
            chain.as_chunks_mut().0[on_their_way..].copy_from_slice(&controls[on_their_way..]);
        }
        Ok(())
    }

    /// Replaces the run-time parameters. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If they are fewer than the model uses or a scenario deviates in, or not finite.
    pub fn set_params(&mut self, params: &[f32]) -> Result<(), InvalidValue> {
        let reader = self.reader();
        self.change_inputs(|inputs, task, _| inputs.set_params(0, &mut task.params, params, &[reader]))
    }

    /// Replaces the reference table: one row of `columns` numbers per time step. Steps beyond the last row read the
    /// last row. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If it is empty or ragged, has fewer columns than the model uses, or is not finite.
    pub fn set_references(&mut self, values: &[f32], columns: usize) -> Result<(), InvalidValue> {
        let reader = self.reader();
        self.change_inputs(|inputs, task, _| inputs.set_references(0, &mut task.references, values, columns, &[reader]))
    }

    /// Replaces the [scenarios](Task::scenarios) by as many others. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If their number differs, they deviate in more states or parameters than there are, a table is ragged, the model
    /// reads columns that neither they nor the task have, or a number is not finite. [`set_options`](Self::set_options)
    /// can change the number.
    pub fn set_scenarios(&mut self, scenarios: Vec<Scenario>) -> Result<(), InvalidValue> {
        let (task, count) = (self.options.task(), self.options.task().scenarios.len());
        if scenarios.len() != count {
            let expected = format_args!("{count}, as before; set_options can change the number");
            return Err(InvalidValue::new("scenarios", format_args!("{} scenarios", scenarios.len()), expected));
        }
        Scenario::check(&scenarios, task.params.len())?;
        Scenario::check_states(&scenarios, N)?;
        let deviations = Scenario::most_columns(&scenarios);
        for member in &self.members {
            let columns = member.references(task).map_or(0, |table| table.columns);
            self.reader().check_columns(columns.max(deviations))?;
        }
        self.change_inputs(|inputs, task, members| {
            task.scenarios = scenarios;
            let groups = members.iter().map(|member| (member.params(task), member.references(task)));
            inputs.set_scenarios(&task.scenarios, groups);
            Ok(())
        })
    }

    /// Refuses a task that has less than the model reads, or scenarios that deviate in more states than it has.
    fn check_reader(&self, task: &Task<M>, reader: &Reader) -> Result<(), InvalidValue> {
        task.check_reader(reader)?;
        Scenario::check_states(&task.scenarios, N)
    }

    /// Replaces one sampled field. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If there is no field of that index yet, or the model looks up other dimensions or more channels. Then nothing is
    /// changed.
    pub fn set_field(&mut self, index: usize, grid: Grid) -> Result<(), InvalidValue> {
        let reader = self.reader();
        self.change_inputs(|inputs, task, _| inputs.set_field(&mut task.fields, index, grid, &[reader]))
    }

    /// Overwrites a rectangle of samples of one field in place, given row by row from the smallest y: for a costmap
    /// that changes where the robot's sensors reach. Recompiles nothing.
    ///
    /// Of a table it overwrites a range (`update_field(0, 3..5, …)`), and of a volume a rectangle in some layers
    /// ([`Region::layers`](crate::lang::Region::layers)), both in all channels: see [`Grid::update`].
    ///
    /// Nothing outside the region is packed again, and nothing is allocated. A GPU uploads the samples of that field
    /// from the first to the last changed one, row by row, so that a wide and low region is cheaper than a narrow and
    /// high one. If a call is [pending](Self::start), the field is copied once, because the result of that call needs
    /// it as it was.
    ///
    /// A map that rolls along with the robot is moved by whole cells with [`set_field_origin`](Self::set_field_origin).
    /// That gives every sample another place in the world, so then overwrite the whole field ([`Grid::region`]) by the
    /// rolled samples.
    ///
    /// # Errors
    ///
    /// If there is no field of that index, the region is empty or not within the field, `values` does not have one
    /// number per sample of the region and channel, or a number is not finite. Then nothing is changed.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::lang::Region;
    /// use gibbs::{Engine, Grid, Model, Mppi, MppiOptions, Real, StepContext, Task};
    ///
    /// /// A point with a velocity as control, on a costmap.
    /// struct Point;
    ///
    /// #[gibbs::model]
    /// impl Model<2, 2> for Point {
    ///     fn step<R: Real>(&self, at: &StepContext<R>, [x, y]: [R; 2], [u, v]: [R; 2]) -> [R; 2] {
    ///         [x + u * at.dt(), y + v * at.dt()]
    ///     }
    ///     fn cost<R: Real>(&self, at: &StepContext<R>, [x, y]: [R; 2], _: [R; 2]) -> R {
    ///         at.sample(0, x, y) + (x - 5.0).square()
    ///     }
    /// }
    ///
    /// // 200 × 100 cells of 10 cm, free.
    /// let map = Grid::from_fn(200, 100, 0.1, [0.0, 0.0], |_, _| 0.0)?;
    /// let task = Task { fields: vec![map], ..Default::default() };
    /// let mut mppi = Mppi::new(&Engine::new()?, Point, MppiOptions { task, ..Default::default() })?;
    ///
    /// // An obstacle of 3 × 2 cells.
    /// mppi.update_field(0, Region { column: 30, row: 48, width: 3, height: 2 }, &[50.0; 6])?;
    /// let plan = mppi.plan(&[1.0, 5.0])?;
    /// # assert!(plan.cost().is_finite());
    /// # Ok::<(), gibbs::Error>(())
    /// ```
    pub fn update_field(&mut self, index: usize, region: impl Into<Block>, values: &[f32]) -> Result<(), InvalidValue> {
        let block = region.into();
        self.change_inputs(|inputs, task, _| inputs.update_field(&mut task.fields, index, block, values))
    }

    /// Moves one field: its lower-left corner (in meters) becomes `origin`, and its samples stay. Recompiles nothing,
    /// and neither packs nor uploads samples. See [`update_field`](Self::update_field) about maps that roll.
    ///
    /// # Errors
    ///
    /// If there is no field of that index, or `origin` is not finite or does not have as many numbers as the field has
    /// dimensions. Then nothing is changed.
    pub fn set_field_origin<const K: usize>(&mut self, index: usize, origin: [f32; K]) -> Result<(), InvalidValue> {
        self.set_field_origin_to(index, &origin)
    }

    /// As [`set_field_origin`](Self::set_field_origin), for an origin whose number of dimensions is run-time data.
    fn set_field_origin_to(&mut self, index: usize, origin: &[f32]) -> Result<(), InvalidValue> {
        self.change_inputs(|inputs, task, _| inputs.set_field_origin(&mut task.fields, index, origin))
    }

    /// Replaces the weights of the model's networks: see [`StepContext::network`](crate::StepContext::network).
    /// Recompiles nothing. A GPU uploads them in the next call, and only then.
    ///
    /// # Errors
    ///
    /// If they are not as many as the networks have, or not finite. Then nothing is changed.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<(), InvalidValue> {
        let reader = self.reader();
        self.change_inputs(|inputs, task, _| inputs.set_weights(&mut task.weights, weights, &[reader]))
    }

    /// Changes the inputs of the next call. Those of a pending call are kept for its results.
    fn change_inputs(
        &mut self,
        change: impl FnOnce(&mut Packed, &mut Task<M>, &mut [Member<N, M>]) -> Result<(), InvalidValue>,
    ) -> Result<(), InvalidValue> {
        let is_shared = self.pending.as_ref().is_some_and(|call| call.inputs.is_none());
        let before = is_shared.then(|| self.inputs.clone());
        change(&mut self.inputs, self.options.task_mut(), &mut self.members)?;
        if let (Some(call), Some(before)) = (&mut self.pending, before) {
            call.inputs = Some(before);
        }
        self.forget_samples();
        Ok(())
    }

    /// Replaces all options but the horizon and the number of samples, which have [`resize`](Self::resize). The plan is
    /// kept; if the number of chains changes, all chains start from the best one. The next call applies tighter limits
    /// to it. A GPU compiles another kernel when limits, limits of rates, the delay, control cost, `nominal_first` or
    /// correlated noise are switched on or off, scenarios too, when the noise gets another shape, when the temperature
    /// changes from given to solved for, and when the number of chains crosses 2 (on a software adapter) or 64.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). Then nothing is changed, but the samples of the last call may be gone.
    pub fn set_options(&mut self, options: A) -> Result<(), BuildError> {
        self.workspace.may_block()?;
        let previous = self.replace_options(options)?;
        self.prepare().inspect_err(|_| self.restore_options(previous))
    }

    /// As [`set_options`](Self::set_options), without blocking the thread in a browser: see
    /// [`new_async`](Self::new_async). If the future is dropped while it is pending, the new options stay.
    ///
    /// # Errors
    ///
    /// As [`set_options`](Self::set_options).
    pub async fn set_options_async(&mut self, options: A) -> Result<(), BuildError> {
        let previous = self.replace_options(options)?;
        self.prepare_async().await.inspect_err(|_| self.restore_options(previous))
    }

    /// Checks and replaces the options, and returns what they replace.
    fn replace_options(&mut self, mut options: A) -> Result<Previous<A>, BuildError> {
        // Sizes that are not used must be valid, too; all else depends on those that are kept.
        algorithm::check_sizes(&options, self.members.len())?;
        options.task_mut().horizon = self.options.task().horizon;
        options.set_samples(self.options.samples());
        let shape = check(&options, self.members.len())?;
        self.check_reader(options.task(), &self.reader())?;
        let nominal = match options.chains() {
            chains if chains == self.options.chains() => self.nominal.clone(),
            chains => self.each().flat_map(|i| self.controls_of(i).as_flattened().repeat(chains)).collect(),
        };
        self.cancel();
        let delay_before = self.options.task().delay;
        let previous = Previous {
            options: std::mem::replace(&mut self.options, options),
            shape: std::mem::replace(&mut self.shape, shape),
            nominal: std::mem::replace(&mut self.nominal, nominal),
            bests: self.members.iter().map(|member| member.best).collect(),
        };
        self.change_delay(delay_before);
        let last = self.options.chains() - 1;
        self.members.iter_mut().for_each(|member| member.best = member.best.min(last));
        self.take_options();
        Ok(previous)
    }

    fn restore_options(&mut self, previous: Previous<A>) {
        (self.options, self.shape, self.nominal) = (previous.options, previous.shape, previous.nominal);
        self.members.iter_mut().zip(previous.bests).for_each(|(member, best)| member.best = best);
        self.take_options();
    }

    /// Moves all plans so that they begin with as many controls as are on their way now. If these have become more,
    /// copies of the oldest one, or of the control that was applied last, are put before them.
    fn change_delay(&mut self, before: usize) {
        let (now, horizon) = (self.options.task().delay, self.options.task().horizon);
        let (shift_fill, initial, chains) = (self.options.shift_fill(), self.options.initial(), self.options.chains());
        for (k, chain) in self.nominal.chunks_exact_mut(horizon * M).enumerate() {
            let controls = chain.as_chunks_mut().0;
            if now < before {
                shift_fill.shift(controls, before - now, initial);
            } else if now > before {
                let oldest = if before > 0 { controls[0] } else { self.members[k / chains].applied.last };
                controls.rotate_right(now - before);
                controls[..now - before].fill(oldest);
            }
        }
    }

    /// Packs the options for the kernels.
    fn take_options(&mut self) {
        self.forget_samples();
        self.inputs.write(&sections(&self.options, &self.shape));
        self.inputs.set_fields(&self.options.task().fields);
        for (i, member) in self.members.iter().enumerate() {
            if let Some(params) = &member.params {
                self.inputs.put_params(i, params);
            }
            if let Some(references) = &member.references {
                self.inputs.put_references(i, Some(references));
            }
        }
    }

    /// The indices of all members.
    fn each(&self) -> std::ops::Range<usize> {
        0..self.members.len()
    }

    fn forget_samples(&mut self) {
        self.members.iter_mut().for_each(|member| member.sampled = None);
    }

    /// Forgets the buffers of a device that is left.
    fn forget_buffers(&mut self) {
        #[cfg(feature = "gpu")]
        self.members.iter_mut().for_each(|member| member.trajectories = None);
    }

    /// Changes the horizon and the number of samples. The plan is truncated, or extended as [`ShiftFill`] says. A GPU
    /// compiles another kernel when the number of samples crosses 256 (1,024 with many chains), up to which a single
    /// kernel does the whole pass unless there are scenarios.
    ///
    /// # Errors
    ///
    /// If a size is out of range, or the device runs out of memory. Then nothing is changed, but the samples of the
    /// last call may be gone.
    pub fn resize(&mut self, horizon: usize, samples: usize) -> Result<(), BuildError> {
        self.workspace.may_block()?;
        let previous = self.replace_sizes(horizon, samples)?;
        self.prepare().inspect_err(|_| (self.options, self.shape, self.nominal) = previous)
    }

    /// As [`resize`](Self::resize), without blocking the thread in a browser: see [`new_async`](Self::new_async). If
    /// the future is dropped while it is pending, the new sizes stay.
    ///
    /// # Errors
    ///
    /// As [`resize`](Self::resize).
    pub async fn resize_async(&mut self, horizon: usize, samples: usize) -> Result<(), BuildError> {
        let previous = self.replace_sizes(horizon, samples)?;
        self.prepare_async().await.inspect_err(|_| (self.options, self.shape, self.nominal) = previous)
    }

    /// Checks and replaces the sizes, and returns what they replace.
    fn replace_sizes(
        &mut self,
        horizon: usize,
        samples: usize,
    ) -> Result<(A, CovarianceFactors, Vec<f32>), BuildError> {
        let mut options = self.options.clone();
        options.task_mut().horizon = horizon;
        options.set_samples(samples);
        let shape = check(&options, self.members.len())?;
        let mut nominal = Vec::with_capacity(self.members.len() * options.chains() * horizon * M);
        for chain in self.nominal.as_chunks().0.chunks_exact(self.options.task().horizon) {
            let at = |t: usize| options.shift_fill().beyond(chain, t, options.initial());
            nominal.extend((0..horizon).flat_map(at));
        }
        self.cancel();
        let previous = (
            std::mem::replace(&mut self.options, options),
            std::mem::replace(&mut self.shape, shape),
            std::mem::replace(&mut self.nominal, nominal),
        );
        self.forget_samples();
        Ok(previous)
    }

    /// Moves the planner, with its plan, to another engine (or to a new one on the same device, after it was lost).
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). Then nothing is changed, but the samples of the last call may be gone.
    pub fn move_to(&mut self, engine: &Engine) -> Result<(), BuildError> {
        let previous = self.replace_engine(engine)?;
        self.prepare().inspect_err(|_| (self.engine, self.program, self.workspace) = previous)
    }

    /// As [`move_to`](Self::move_to), without blocking the thread in a browser: see [`new_async`](Self::new_async). If
    /// the future is dropped while it is pending, the planner stays on the new engine.
    ///
    /// # Errors
    ///
    /// As [`move_to`](Self::move_to).
    pub async fn move_to_async(&mut self, engine: &Engine) -> Result<(), BuildError> {
        let previous = self.replace_engine(engine)?;
        self.prepare_async().await.inspect_err(|_| (self.engine, self.program, self.workspace) = previous)
    }

    /// Replaces the engine, and returns what it replaces.
    fn replace_engine(&mut self, engine: &Engine) -> Result<(Engine, Arc<Program>, Workspace), BuildError> {
        let program = Arc::new(Program::new::<N, M, D>(&self.model, engine.options().math)?);
        self.check_reader(self.options.task(), &Reader::model(program.requirements.clone()))?;
        self.cancel();
        let previous = (
            std::mem::replace(&mut self.engine, engine.clone()),
            std::mem::replace(&mut self.program, program),
            std::mem::replace(&mut self.workspace, engine.workspace()),
        );
        self.forget_samples();
        self.forget_buffers();
        Ok(previous)
    }

    /// Fetches the rows of the last pass with their costs and weights from the device, for plots and analysis. With
    /// several chains, these are the rows of the one that became the plan.
    ///
    /// # Errors
    ///
    /// If no call of [`plan`](Self::plan) has been started and has succeeded since the planner was last changed, a call
    /// is [pending](Self::start), or the device fails.
    pub fn samples(&mut self) -> Result<Samples<'_, N, M>, PlanError> {
        self.samples_of(0)
    }

    fn samples_of(&mut self, i: usize) -> Result<Samples<'_, N, M>, PlanError> {
        let (mut fetching, state) = self.fetch(i)?;
        let fetched = blocking(fetching.finish(Wait::Blocking))?;
        Ok(self.fetched(i, state, fetched))
    }

    /// As [`samples`](Self::samples), without blocking the thread.
    ///
    /// # Errors
    ///
    /// As [`samples`](Self::samples).
    pub async fn samples_async(&mut self) -> Result<Samples<'_, N, M>, PlanError> {
        let (mut fetching, state) = self.fetch(0)?;
        let fetched = poll_fn(|context| fetching.finish(Wait::Woken(context.waker()))).await?;
        Ok(self.fetched(0, state, fetched))
    }

    /// Rolls out the first `rows` rows of the last pass again, or all if there are fewer, and leaves their states and
    /// weights in a buffer on the device, beside one of the plan: so a program that [shares](Engine::from_wgpu) the
    /// device draws thousands of trajectories without a copy to the host. With several chains, these are the rows of
    /// the one that became the plan; with scenarios, they are rolled out in the task itself. They are the trajectories
    /// of [`Samples::states`] and [`Samples::weights`], to rounding; the weights of all rows sum to 1.
    ///
    /// It submits a kernel and does not wait for it: what is submitted to the queue later reads its results. The plan
    /// was completed on the host (by limits, smoothing and fallbacks), which uploads it here. The first call compiles
    /// the kernel, unless [`prepare_device_trajectories`](Self::prepare_device_trajectories) has.
    ///
    /// # Errors
    ///
    /// If the engine is on the CPU, `rows` is 0, no call of [`plan`](Self::plan) has been started and has succeeded
    /// since the planner was last changed, a call is [pending](Self::start), or the device refuses the work or has no
    /// room. Since this does not wait, only the next call of [`plan`](Self::plan) may tell that the device was lost.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::models::Unicycle;
    /// use gibbs::{Backend, Engine, Mppi, MppiOptions};
    ///
    /// // A program that draws passes its own device to `Engine::from_wgpu`.
    /// let engine = Engine::new()?;
    /// let mut mppi = Mppi::new(&engine, Unicycle::default(), MppiOptions::default())?;
    /// mppi.plan(&[0.0, 0.0, 0.0])?;
    /// if engine.backend() != Backend::Cpu {
    ///     let drawn = mppi.device_trajectories(500)?;
    ///     // Bind `drawn.trajectories` as a vertex buffer of `drawn.stride` bytes a vertex: x and y are its first two
    ///     // numbers, the weight is its last. Row k has the vertices from k * drawn.points on.
    ///     assert_eq!((drawn.stride, drawn.points), (16, mppi.options().task.horizon + 1));
    /// }
    /// # Ok::<(), gibbs::Error>(())
    /// ```
    #[cfg(feature = "gpu")]
    pub fn device_trajectories(&mut self, rows: usize) -> Result<DeviceTrajectories, PlanError> {
        self.device_trajectories_of(0, rows)
    }

    #[cfg(feature = "gpu")]
    fn device_trajectories_of(&mut self, i: usize, rows: usize) -> Result<DeviceTrajectories, PlanError> {
        self.check_for_buffers()?;
        if rows == 0 {
            return Err(InvalidValue::new("rows", rows, "at least 1").into());
        }
        let (_, chain) = self.last_call(i, "device_trajectories")?;
        let (number, member) = (i * self.options.chains() + chain, &mut self.members[i]);
        let points: Vec<f32> = member.plan.states().iter().flat_map(|x| x.iter().copied().chain([1.0])).collect();
        let plan = PlanNumbers { points: &points, controls: member.plan.controls().as_flattened() };
        let before = member.trajectories.as_ref();
        let trajectories = self.workspace.trajectories(&self.program, number, rows, &plan, before)?;
        member.trajectories = Some(trajectories.clone());
        Ok(trajectories)
    }

    /// Returns the state of a member's last call, and the chain that became the plan. `what` names the request in an
    /// error.
    fn last_call(&self, i: usize, what: &'static str) -> Result<([f32; N], usize), PlanError> {
        if self.is_pending() {
            return Err(PlanError::Busy);
        }
        let expected = "preceded by a call of plan that succeeded";
        self.members[i].sampled.ok_or_else(|| InvalidValue::new(what, "not there", expected).into())
    }

    /// Starts to fetch the rows of a member's last pass. Also returns the state of that call.
    fn fetch(&mut self, i: usize) -> Result<(Fetching, [f32; N]), PlanError> {
        let (state, chain) = self.last_call(i, "samples")?;
        let problem = problem(&self.inputs, &self.shape, &self.std_scale, &self.nominal);
        let number = i * self.options.chains() + chain;
        Ok((self.workspace.submit_fetch(&self.program, &problem, number)?, state))
    }

    fn fetched(&self, i: usize, state: [f32; N], fetched: Fetched) -> Samples<'_, N, M> {
        let horizon = self.options.task().horizon;
        let samples = self.passes.last().map_or(0, |pass| pass.rows as usize);
        Samples { start: self.start_of(i, state).erased(), samples, horizon, fetched }
    }

    /// Returns the inputs of a rollout of a member's plan from the state `x`.
    fn start_of(&self, i: usize, x: [f32; N]) -> Start<'_, N, D> {
        let start = Start::of(self.engine.isa(), &*self.model, &self.inputs, i, self.options.task().dt);
        start.at(x)
    }

    /// The plan of the last call that succeeded, if there is one. It is not moved on: its first control is the one for
    /// the state that it was made for. [`controls`](Self::controls) has what the next call starts from.
    pub fn last_plan(&self) -> Option<&Plan<N, M>> {
        self.last_plan_of(0)
    }

    fn last_plan_of(&self, i: usize) -> Option<&Plan<N, M>> {
        Some(&self.members[i].plan).filter(|plan| !plan.controls().is_empty())
    }

    /// The current options.
    pub fn options(&self) -> &A {
        &self.options
    }

    /// The current task, which is part of the options.
    pub fn task(&self) -> &Task<M> {
        self.options.task()
    }

    /// Replaces the task, except for its horizon: as [`set_options`](Self::set_options), for code that does not name
    /// the method.
    ///
    /// # Errors
    ///
    /// As [`set_options`](Self::set_options).
    pub fn set_task(&mut self, task: Task<M>) -> Result<(), BuildError> {
        self.set_options(self.with_task(task))
    }

    /// As [`set_task`](Self::set_task), without blocking the thread in a browser: see
    /// [`set_options_async`](Self::set_options_async).
    ///
    /// # Errors
    ///
    /// As [`set_options`](Self::set_options).
    pub async fn set_task_async(&mut self, task: Task<M>) -> Result<(), BuildError> {
        self.set_options_async(self.with_task(task)).await
    }

    /// The options with another task.
    fn with_task(&self, task: Task<M>) -> A {
        let mut options = self.options.clone();
        *options.task_mut() = task;
        options
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
        Reader::model(self.program.requirements.clone())
    }

    /// The workspace that runs the calls.
    #[cfg(all(test, feature = "gpu"))]
    pub(crate) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Passes the program, the passes and the problem of the next call to `see`.
    #[cfg(all(test, feature = "gpu"))]
    pub(crate) fn work(&mut self, given: bool, see: impl FnOnce(&Program, &[Pass], &Problem<'_>)) {
        self.fill_passes(given);
        let problem = problem(&self.inputs, &self.shape, &self.std_scale, &self.nominal);
        see(&self.program, &self.passes, &problem);
    }

    /// Compiles and allocates everything that the next call may need.
    fn prepare(&mut self) -> Result<(), BuildError> {
        self.workspace.may_block()?;
        self.compile()?;
        self.reserve();
        Ok(())
    }

    async fn prepare_async(&mut self) -> Result<(), BuildError> {
        let mut preparing = Preparing { planner: self, failed: false };
        let prepared = preparing.planner.compiled().await;
        preparing.failed = prepared.is_err();
        prepared
    }

    /// Waits, as a task, for abandoned calls to end and for kernels to be compiled.
    async fn compiled(&mut self) -> Result<(), BuildError> {
        drained(self).await?;
        self.compile()?;
        self.workspace.settled().await
    }

    /// Compiles kernels and allocates memory on the device.
    fn compile(&mut self) -> Result<(), BuildError> {
        let (horizon, samples) = (self.options.task().horizon, self.options.samples());
        // Addresses are 32 bits wide on the device.
        let padded = round_up(samples, TILE).saturating_mul(horizon * M);
        if padded > i32::MAX as usize {
            let value = format_args!("{samples} × {horizon} × {M}");
            let expected = format_args!("samples × horizon × controls of at most {} numbers", i32::MAX);
            return Err(InvalidValue::new("samples", value, expected).into());
        }
        if self.takes_rows {
            self.prepare_for(true)?;
        }
        self.prepare_for(false)?;
        #[cfg(feature = "gpu")]
        if self.keeps_trajectories {
            self.workspace.prepare_trajectories(&self.program)?;
        }
        Ok(())
    }

    /// Allocates memory on the host. It cannot fail, so that a failure before it leaves the members as they were.
    fn reserve(&mut self) {
        let (horizon, scenarios) = (self.options.task().horizon, self.options.task().scenarios.len());
        self.time_per_row = None;
        for member in &mut self.members {
            member.plan.reserve(horizon, scenarios);
            member.next.reserve(horizon, scenarios);
            member.queue.reserve(self.options.task().delay);
            member.before.reserve(horizon);
            member.given.resize_with(self.options.proposals().len(), Vec::new);
            for (given, proposal) in member.given.iter_mut().zip(self.options.proposals()) {
                if given.len() != horizon || *proposal != Proposal::Given {
                    given.clear();
                }
            }
            member.scratch.reserve(self.options.task().delay);
            if let Some(smoothing) = self.options.smoothing() {
                member.applied.keep(smoothing.history());
                member.past.reserve(smoothing.history());
                member.scratch.reserve(horizon + smoothing.history());
            }
        }
    }

    /// Prepares for a call with given rows, or for one without.
    fn prepare_for(&mut self, given: bool) -> Result<(), BuildError> {
        float_env::standard(|| self.fill_passes(given));
        let problem = problem(&self.inputs, &self.shape, &self.std_scale, &self.nominal);
        self.workspace.prepare(&self.program, &self.passes, &problem)?;
        self.workspace.prepare_fetch()
    }

    /// Rolls out any control sequence in plain `f32`, in the task itself whatever its scenarios. Returns the states
    /// (the first is `x`) and the cost as it enters the exponent, without its control term.
    ///
    /// # Errors
    ///
    /// If the state or the controls are not finite.
    pub fn simulate(&self, x: &[f32; N], controls: &[[f32; M]]) -> Result<(Vec<[f32; N]>, f32), InvalidValue> {
        self.simulate_of(0, None, x, controls)
    }

    /// Rolls out a control sequence for a member, in a scenario or in the task itself.
    fn simulate_of(
        &self,
        i: usize,
        scenario: Option<usize>,
        x: &[f32; N],
        controls: &[[f32; M]],
    ) -> Result<(Vec<[f32; N]>, f32), InvalidValue> {
        let count = self.options.task().scenarios.len();
        if let Some(s) = scenario.filter(|s| *s >= count) {
            return Err(InvalidValue::new("scenario", s, format_args!("below the number of scenarios, {count}")));
        }
        finite("state", x)?;
        finite("controls", controls.as_flattened())?;
        let mut states = Vec::with_capacity(controls.len() + 1);
        let average = self.options.averages() && !controls.is_empty();
        let cost = float_env::standard(|| {
            let start = self.start_of(i, *x);
            let (timeline, x) = match scenario {
                Some(s) => start.scenario(s),
                None => (start.timeline, start.x),
            };
            let cost = roll_out(&*self.model, &timeline, x, controls, &mut states);
            if average { cost / controls.len() as f32 } else { cost }
        });
        Ok((states, cost))
    }

    /// As [`simulate`](Self::simulate), in scenario `s` of the task: the first state is `x` plus what the scenario
    /// adds.
    ///
    /// # Errors
    ///
    /// If there is no such scenario, or the state or the controls are not finite.
    pub fn simulate_scenario(
        &self,
        s: usize,
        x: &[f32; N],
        controls: &[[f32; M]],
    ) -> Result<(Vec<[f32; N]>, f32), InvalidValue> {
        self.simulate_of(0, Some(s), x, controls)
    }

    /// The terms of the last plan's cost, named by [`StepContext::term`](crate::StepContext::term): the plan is rolled
    /// out again on the host, from the state that it was made for. Without scenarios, they and the rest sum to
    /// [`Plan::cost`], and are averages over the horizon where it is. With scenarios, they are those of the task
    /// itself.
    ///
    /// # Errors
    ///
    /// As [`samples`](Self::samples), except that no device is involved.
    pub fn terms(&self) -> Result<Terms, PlanError> {
        self.last_terms(0)
    }

    fn last_terms(&self, i: usize) -> Result<Terms, PlanError> {
        let (state, _) = self.last_call(i, "terms")?;
        let scale = if self.options.averages() { 1.0 / self.options.task().horizon as f32 } else { 1.0 };
        let controls = self.members[i].plan.controls();
        Ok(float_env::standard(|| self.start_of(i, state).terms(controls, |cost| cost * scale)))
    }

    /// The terms of the cost of any control sequence, as [`simulate`](Self::simulate) computes it.
    ///
    /// # Errors
    ///
    /// If the state or the controls are not finite.
    pub fn terms_of(&self, x: &[f32; N], controls: &[[f32; M]]) -> Result<Terms, InvalidValue> {
        self.simulated_terms(0, x, controls)
    }

    fn simulated_terms(&self, i: usize, x: &[f32; N], controls: &[[f32; M]]) -> Result<Terms, InvalidValue> {
        finite("state", x)?;
        finite("controls", controls.as_flattened())?;
        let steps = if self.options.averages() { controls.len().max(1) as f32 } else { 1.0 };
        Ok(float_env::standard(|| self.start_of(i, *x).terms(controls, |cost| cost / steps)))
    }
}

/// Returns the sections that are packed for the kernels, besides the state.
fn sections<'a, const M: usize>(options: &'a impl Algorithm<M>, shape: &'a CovarianceFactors) -> Sections<'a> {
    options.task().sections(Square::Dense(&shape.factor), Square::Dense(&shape.precision))
}

/// The problem of rows around the control sequences `nominal`, without given rows.
fn problem<'a>(
    inputs: &'a Packed,
    shape: &'a CovarianceFactors,
    std_scale: &'a [f32],
    nominal: &'a [f32],
) -> Problem<'a> {
    Problem { std_scale, filter: shape.filter.as_ref(), ..inputs.problem(nominal) }
}

/// Checks everything that does not depend on the model.
fn check<const M: usize>(options: &impl Algorithm<M>, members: usize) -> Result<CovarianceFactors, InvalidValue> {
    float_env::standard(|| {
        let shape = algorithm::check_shared(options, members)?;
        options.check(shape.regular, shape.filter.is_none())?;
        Ok(shape)
    })
}

impl<const N: usize, const M: usize, D, A: std::fmt::Debug> std::fmt::Debug for Planner<N, M, D, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner").field("engine", &self.engine).field("options", &self.options).finish_non_exhaustive()
    }
}
