//! [`Planner`]: holds a plan and a model, and improves the plan on a device. Its [`Algorithm`] selects the method;
//! everything else about planning, from warm starts to run-time parameters, is implemented here once for all methods.

pub(crate) mod actuation;
pub(crate) mod algorithm;
pub(crate) mod any;
mod call;
pub(crate) mod feedback;
pub(crate) mod fleet;
mod inputs;
mod inspect;
mod motion;
pub(crate) mod options;
pub(crate) mod plan;
mod reconfigure;
pub(crate) mod snapshot;
pub(crate) mod terms;

use std::sync::Arc;

use crate::error::{BuildError, InvalidValue, PlanError, finite};
use crate::kernels::pass::{Pass, Problem, Sums};
use crate::kernels::propose::noise::CovarianceFactors;
use crate::lang::clock::Instant;
use crate::lang::float_env;
use crate::lang::grid::{Block, Grid};
use crate::model::Model;
#[cfg(feature = "gpu")]
use crate::runtime::DeviceTrajectories;
use crate::runtime::inputs::{Packed, Sections, Square};
use crate::runtime::program::Program;
use crate::runtime::scenario::Scenario;
use crate::runtime::task::{Reader, References, Task};
use crate::runtime::{Engine, Fetching, Workspace};
use actuation::Applied;
pub use actuation::Smoothing;
pub use algorithm::Algorithm;
pub use any::{AnyPlanner, BoxedFuture};
pub use feedback::{Feedback, FeedbackWeights};
pub use fleet::{Fleet, Plans};
pub use options::{Fallback, PlanSource, Proposal, ShiftFill};
pub use plan::{Effort, Plan, Samples, Symptom};
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

    /// The indices of all members.
    fn each(&self) -> std::ops::Range<usize> {
        0..self.members.len()
    }

    fn forget_samples(&mut self) {
        self.members.iter_mut().for_each(|member| member.sampled = None);
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
