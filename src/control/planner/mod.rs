//! [`Planner`]: holds a plan and a model, and improves the plan on a device. Its [`Algorithm`] selects the method;
//! everything else about planning, from warm starts to run-time parameters, is implemented here once for all methods.

pub(crate) mod actuation;
pub(crate) mod algorithm;
pub(crate) mod fleet;
pub(crate) mod options;
pub(crate) mod plan;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use crate::error::{BuildError, EngineError, InvalidValue, PlanError, finite, in_range};
use crate::kernels::pass::{CLAMPED, FILTERED, GIVEN, LIMITED, NoiseId, Pass, Problem, STD_SCALE, TILE, round_up};
use crate::kernels::propose::noise::CovarianceFactors;
use crate::lang::grid::Grid;
use crate::lang::stream::Stream;
use crate::lang::{float_env, normal, philox};
use crate::model::Model;
use crate::runtime::inputs::{Packed, Sections, Square};
use crate::runtime::program::Program;
use crate::runtime::task::{Reader, References, Task};
use crate::runtime::{Calls, Engine, Fetched, Fetching, Wait, Workspace, blocking, completed, drained};
pub use actuation::Smoothing;
use actuation::{Applied, between, limit};
pub use algorithm::Algorithm;
pub use fleet::{Fleet, Plans};
pub use options::ShiftFill;
pub use plan::{Plan, Samples};
use plan::{Start, roll_out};

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
    program: Program,
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
    pending: Option<PendingCall>,
}

/// One of the plans that are improved together.
#[derive(Debug)]
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
    /// The controls that have been applied, which the next plan continues.
    applied: Applied<M>,
    /// The controls that were on their way when the current call began: the first of its plan.
    queue: Vec<[f32; M]>,
    /// The controls before these, as many as smoothing reads.
    past: Vec<[f32; M]>,
    /// The number of time steps that the plan was moved on by since then.
    moved: f64,
    /// Buffer for smoothing.
    scratch: Vec<[f32; M]>,
    /// The initial state of the samples on the device and the index of the chain that became the plan; `None` if the
    /// samples are out of date.
    sampled: Option<([f32; N], usize)>,
}

/// A call that has been started and not finished.
struct PendingCall {
    started: Instant,
    /// The inputs of the call, if they have been replaced since.
    inputs: Option<Packed>,
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
            moved: 0.0,
            scratch: Vec::new(),
            sampled: None,
        }
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

    /// Creates a planner that improves `members` plans together.
    fn of_members(engine: &Engine, model: D, options: A, members: usize) -> Result<Self, BuildError> {
        const { assert!(N > 0 && M > 0, "a system to control has states and controls") };
        let shape = check(&options, members)?;
        let model = Arc::new(model);
        let program = Program::new::<N, M, D>(&model, engine.options().math)?;
        let mut planner = Self {
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
            pending: None,
            shape,
            options,
        };
        planner.options.task().check_reader(&planner.reader())?;
        planner.prepare()?;
        Ok(planner)
    }

    /// Improves the plan for the state `x` and returns it: all passes of the method, carried out on the device in one
    /// go.
    ///
    /// Several chains are improved independently; the one whose control sequence costs least becomes the plan.
    ///
    /// # Errors
    ///
    /// If the state is not finite, no rollout of any chain has a finite cost, a call is [pending](Self::start), or the
    /// device fails. The previous plan is kept.
    pub fn plan(&mut self, x: &[f32; N]) -> Result<&Plan<N, M>, PlanError> {
        self.run(x, None, usize::MAX)
    }

    /// As [`plan`](Self::plan), but runs at most the first `passes` passes (at least one), to show the progress of a
    /// method. After the same [`reset`](Self::reset), a call with fewer passes computes a prefix of a call with more.
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
    /// apply to them. With several passes, the same rows are weighed each time.
    ///
    /// On a GPU this call uses separate kernels. If [`prepare_rows`](Self::prepare_rows) has not been called, the first
    /// call compiles them, which can take seconds; these do not count toward
    /// [`EngineOptions::timeout`](crate::runtime::EngineOptions::timeout).
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan), and if the rows have the wrong size or are not finite.
    pub fn plan_rows(&mut self, x: &[f32; N], rows: &[f32]) -> Result<&Plan<N, M>, PlanError> {
        self.check_rows(rows)?;
        self.run(x, Some(rows), usize::MAX)
    }

    fn check_rows(&self, rows: &[f32]) -> Result<(), InvalidValue> {
        let expected = self.options.samples() * self.options.task().horizon * M;
        if rows.len() != expected {
            let expected = format_args!("samples × horizon × controls = {expected} numbers");
            return Err(InvalidValue::new("rows", format_args!("{} numbers", rows.len()), expected));
        }
        finite("rows", rows)
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
        self.cancel();
        self.forget_samples();
        let before = std::mem::replace(&mut self.takes_rows, true);
        self.prepare().inspect_err(|_| self.takes_rows = before)
    }

    /// Starts a call of [`plan`](Self::plan) without waiting for it, for loops that must not block. The work is
    /// submitted to the device here. [`poll`](Self::poll) returns the plan once it is available,
    /// [`finish`](Self::finish) waits for it, and [`cancel`](Self::cancel) gives it up. The plan is the same to the bit
    /// as that of `plan`. The CPU backend computes here, so that the first `poll` returns the plan.
    ///
    /// While a call is pending, the previous plan is kept, and
    ///
    /// - [`set_params`](Self::set_params), [`set_references`](Self::set_references), [`set_field`](Self::set_field) and
    ///   [`reseed`](Self::reseed) affect the next call;
    /// - [`shift`](Self::shift) shifts the previous plan now, and the result of the pending call when it is available,
    ///   after `poll` or `finish` has returned it unshifted;
    /// - [`set_controls`](Self::set_controls), [`reset`](Self::reset), [`set_options`](Self::set_options),
    ///   [`resize`](Self::resize), [`move_to`](Self::move_to) and [`prepare_rows`](Self::prepare_rows) cancel it;
    /// - [`plan`](Self::plan), its variants and [`samples`](Self::samples) return [`PlanError::Busy`].
    ///
    /// [`EngineOptions::timeout`](crate::runtime::EngineOptions::timeout) counts from here. A plan that is available
    /// when `poll` is called is returned, however late that is.
    ///
    /// # Errors
    ///
    /// [`PlanError::Busy`] if a call is pending, or one that was canceled or timed out still runs on the device;
    /// otherwise as [`plan`](Self::plan), except for errors in the result, which `poll` and `finish` return.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::models::Pendulum;
    /// use gibbs::{Engine, Mppi, MppiOptions};
    ///
    /// let mut mppi = Mppi::new(&Engine::new()?, Pendulum::default(), MppiOptions::default())?;
    /// mppi.start(&[1.0, 0.0])?;
    /// loop {
    ///     if let Some(plan) = mppi.poll()? {
    ///         println!("apply {}", plan.controls()[0][0]);
    ///         break;
    ///     }
    ///     // Do other work here.
    /// }
    /// # Ok::<(), gibbs::Error>(())
    /// ```
    pub fn start(&mut self, x: &[f32; N]) -> Result<(), PlanError> {
        self.submit_one(x, None, usize::MAX, Wait::Polling)
    }

    /// As [`start`](Self::start), for a call of [`plan_rows`](Self::plan_rows). It blocks to compile kernels unless
    /// [`prepare_rows`](Self::prepare_rows) has been called.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and if the rows have the wrong size or are not finite.
    pub fn start_rows(&mut self, x: &[f32; N], rows: &[f32]) -> Result<(), PlanError> {
        self.check_rows(rows)?;
        self.submit_one(x, Some(rows), usize::MAX, Wait::Polling)
    }

    /// Returns the plan of the pending call if it is available, without blocking. Returns `None` if it is not, or if no
    /// call is pending.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan). Then no call is pending, and the previous plan is kept.
    pub fn poll(&mut self) -> Result<Option<&Plan<N, M>>, PlanError> {
        let is_over = self.complete(Wait::Polling)?;
        is_over.then(|| self.only()).transpose()
    }

    /// Waits for the plan of the pending call.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan), and if no call is pending.
    pub fn finish(&mut self) -> Result<&Plan<N, M>, PlanError> {
        if !self.complete(Wait::Blocking)? {
            return Err(InvalidValue::new("finish", "called while no call is pending", "preceded by start").into());
        }
        self.only()
    }

    /// Whether a call has been started and not finished.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Gives up the pending call, if there is one. The previous plan is kept. The noise of the call counts as used, so
    /// the next call draws other rows. A GPU still runs the call, and [`start`](Self::start) returns
    /// [`PlanError::Busy`] until it has completed.
    pub fn cancel(&mut self) {
        if self.pending.take().is_some() {
            self.workspace.abandon();
        }
    }

    /// As [`plan`](Self::plan), without blocking the thread. The call starts when the future is first polled, and is
    /// [canceled](Self::cancel) when the future is dropped.
    ///
    /// Any executor will do. Natively, a thread of the engine waits for the device and wakes the task; in a browser,
    /// the event loop does. The CPU backend computes when the future is first polled.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan).
    pub async fn plan_async(&mut self, x: &[f32; N]) -> Result<&Plan<N, M>, PlanError> {
        drained(self).await?;
        self.start(x)?;
        completed(self).await?;
        self.only()
    }

    fn run(&mut self, x: &[f32; N], rows: Option<&[f32]>, most: usize) -> Result<&Plan<N, M>, PlanError> {
        self.submit_one(x, rows, most, Wait::Blocking)?;
        self.finish()
    }

    /// The result of the only member.
    fn only(&self) -> Result<&Plan<N, M>, PlanError> {
        let member = &self.members[0];
        member.outcome.clone().map(|_| &member.plan)
    }

    /// Submits a call for the only member.
    fn submit_one(&mut self, x: &[f32; N], rows: Option<&[f32]>, most: usize, wait: Wait<'_>) -> Result<(), PlanError> {
        if self.submit(std::slice::from_ref(x), rows, most, wait)? { Ok(()) } else { self.only().map(drop) }
    }

    /// Submits a call for all members. `wait` tells whether to wait for an abandoned call to leave the device. Returns
    /// false, without a call, if no state is valid; see [`Member::outcome`].
    fn submit(
        &mut self,
        states: &[[f32; N]],
        rows: Option<&[f32]>,
        most: usize,
        wait: Wait<'_>,
    ) -> Result<bool, PlanError> {
        if self.is_pending() {
            return Err(PlanError::Busy);
        }
        float_env::standard(|| self.begin(states, rows, most, wait))
    }

    /// The first half of a call: submits the work.
    fn begin(
        &mut self,
        states: &[[f32; N]],
        rows: Option<&[f32]>,
        most: usize,
        wait: Wait<'_>,
    ) -> Result<bool, PlanError> {
        let started = Instant::now();
        for (i, (member, x)) in self.members.iter_mut().zip(states).enumerate() {
            // The launch has a place for every member. One without a valid state keeps its last one, and its result is
            // dropped.
            member.outcome =
                finite("state", x).map(|()| self.inputs.set_state(i, x)).map(|()| 0).map_err(PlanError::from);
        }
        if self.members.iter().all(|member| member.outcome.is_err()) {
            return Ok(false);
        }
        self.begin_after_applied();
        let limited = rows.and_then(|rows| self.limited_rows(rows));
        let rows = limited.as_deref().or(rows);
        self.fill_passes(rows.is_some());
        if most < self.passes.len() {
            self.passes.truncate(most);
            // The last pass ends at the plan, which must be within the limits.
            if let Some(last) = self.passes.last_mut() {
                last.set(CLAMPED, last.has(LIMITED));
            }
        }
        let scattered = self.scattered();
        let nominal = scattered.as_deref().unwrap_or(&self.nominal);
        let problem = Problem {
            std_scale: &self.std_scale,
            filter: self.shape.filter.as_ref(),
            rows,
            ..self.inputs.problem(nominal)
        };
        // A failed call consumes its noise too; the next one draws other rows.
        let draws = self.passes.len() as u32;
        for member in self.members.iter_mut().filter(|member| member.outcome.is_ok()) {
            member.number = member.number.wrapping_add(draws);
        }
        self.members.iter_mut().for_each(|member| member.sampled = None);
        let drained = if let Wait::Blocking = wait { blocking(self.workspace.drain(wait)) } else { Ok(()) };
        let submitted = drained.and_then(|()| self.workspace.submit(&self.program, &self.passes, &problem));
        if submitted == Err(PlanError::Busy) {
            // Refused calls must not affect the noise.
            for member in self.members.iter_mut().filter(|member| member.outcome.is_ok()) {
                member.number = member.number.wrapping_sub(draws);
            }
        }
        submitted?;
        self.pending = Some(PendingCall { started, inputs: None });
        Ok(true)
    }

    /// The second half of a call: turns its results, once available, into plans. Returns whether they were.
    fn end(&mut self, wait: Wait<'_>) -> Result<bool, PlanError> {
        let Poll::Ready(done) = self.workspace.finish(wait) else { return Ok(false) };
        let Some(call) = self.pending.take() else { return Ok(false) };
        let done = done?;
        let (dt, horizon, chains) = (self.options.task().dt, self.options.task().horizon, self.options.chains());
        let inputs = call.inputs.as_ref().unwrap_or(&self.inputs);

        // The model runs on the host here and may panic. Nothing is committed before it is done, so the old plans
        // survive.
        let last = &self.passes[self.passes.len() - 1];
        let (task, smoothing) = (self.options.task(), self.options.smoothing());
        let each = chains * horizon * M;
        for (i, (member, nominals)) in self.members.iter_mut().zip(done.nominal.chunks_exact_mut(each)).enumerate() {
            if member.outcome.is_err() {
                continue;
            }
            if smoothing.is_some() || task.is_sequential() {
                for chain in nominals.chunks_exact_mut(horizon * M) {
                    let controls = chain.as_chunks_mut().0;
                    controls[..task.delay].copy_from_slice(&member.queue);
                    if let Some(smoothing) = smoothing {
                        smoothing.smooth(&member.past, task.delay, controls, &mut member.scratch);
                    }
                    limit(task, inputs.last(i), controls);
                }
            }
            let (isa, model, timeline) = (self.engine.isa(), &*self.model, inputs.timeline(i, dt));
            let start = Start { isa, model, timeline, x: inputs.state(i) };
            member.outcome = member.next.best_of(&start, last, &done.sums[i * chains..][..chains], nominals);
            member.next.timing = done.timing;
            member.next.backend = self.engine.backend();
        }

        let (shift_fill, initial) = (self.options.shift_fill(), self.options.initial());
        let plans = self.nominal.chunks_exact_mut(each).zip(done.nominal.chunks_exact(each));
        for (i, (member, (plan, results))) in self.members.iter_mut().zip(plans).enumerate() {
            let Ok(best) = member.outcome else { continue };
            member.queue.clear();
            member.queue.extend_from_slice(&plan[member.best * horizon * M..].as_chunks().0[..task.delay]);
            // A chain that failed keeps its control sequence.
            for (chain, nominal) in plan::worked(&done.sums[i * chains..][..chains], results) {
                let own = &mut plan[chain * horizon * M..][..horizon * M];
                own.copy_from_slice(nominal);
                if member.moved > 0.0 {
                    // The controls that were issued meanwhile are those of the previous plan.
                    let controls = own.as_chunks_mut().0;
                    let (whole, fraction) = (member.moved as usize, member.moved.fract() as f32);
                    shift_fill.move_on(controls, whole, fraction, initial);
                    controls[..task.delay].copy_from_slice(&member.queue);
                    if task.is_sequential() {
                        limit(task, member.applied.last, controls);
                    }
                }
            }
            member.best = best;
            // Samples are recomputed from the current inputs, which must be those of the call.
            member.sampled = call.inputs.is_none().then(|| (inputs.state(i), best));
            std::mem::swap(&mut member.plan, &mut member.next);
            member.plan.timing.total = call.started.elapsed();
        }
        Ok(true)
    }

    /// Sets what the next call starts from: the controls that were applied, and those that are on their way.
    fn begin_after_applied(&mut self) {
        let (delay, horizon, chains) = (self.options.task().delay, self.options.task().horizon, self.options.chains());
        for (i, member) in self.members.iter_mut().enumerate() {
            self.inputs.set_last(i, &member.applied.last);
            member.moved = 0.0;
            member.queue.clear();
            let best = (i * chains + member.best) * horizon;
            member.queue.extend_from_slice(&self.nominal.as_chunks().0[best..][..delay]);
            member.past.clear();
            member.past.extend_from_slice(member.applied.past());
        }
    }

    /// Returns given rows within the limits of rates and after the controls on their way, or `None` if the task has
    /// neither. They are the same for all members.
    fn limited_rows(&self, rows: &[f32]) -> Option<Vec<f32>> {
        let task = self.options.task();
        if !task.is_sequential() {
            return None;
        }
        let mut rows = rows.to_vec();
        for row in rows.chunks_exact_mut(task.horizon * M) {
            let controls = row.as_chunks_mut().0;
            controls[..task.delay].copy_from_slice(&self.members[0].queue);
            limit(task, self.members[0].applied.last, controls);
        }
        Some(rows)
    }

    /// Returns the control to apply now, for one time step, and moves the plan on by that time step. The control is
    /// within the limits, and differs from the one before by no more than [`rate_limits`](Task::rate_limits) allow; the
    /// next plan continues from it. With an input [`delay`](Task::delay), it is the first control that is not yet on its
    /// way.
    ///
    /// In a loop: `planner.plan(&x)?; apply(planner.advance());`. If a call of `plan` fails, `advance` returns the next
    /// control of the plan before.
    pub fn advance(&mut self) -> [f32; M] {
        self.advance_member(0, 1.0, self.options.task().dt)
    }

    /// As [`advance`](Self::advance), for loops that do not run at the time step of the plan: returns the control to
    /// apply for the next `seconds`, and moves the plan on by that time. Between time steps, a plan moves by linear
    /// interpolation, which is the mean of its controls over each new time step, and keeps to all limits.
    ///
    /// # Errors
    ///
    /// If `seconds` is negative or not finite. Then nothing is changed.
    pub fn advance_by(&mut self, seconds: f32) -> Result<[f32; M], InvalidValue> {
        self.advance_member_by(0, seconds)
    }

    fn advance_member_by(&mut self, i: usize, seconds: f32) -> Result<[f32; M], InvalidValue> {
        in_range("seconds", seconds, seconds >= 0.0, "finite and at least 0")?;
        Ok(self.advance_member(i, f64::from(seconds) / f64::from(self.options.task().dt), seconds))
    }

    /// The control that was applied last, as far as the planner knows: that of the last call of
    /// [`advance`](Self::advance), of the last time step that the plan was [shifted](Self::shift) by, or set.
    pub fn last_control(&self) -> [f32; M] {
        self.last_control_of(0)
    }

    fn last_control_of(&self, i: usize) -> [f32; M] {
        self.members[i].applied.last
    }

    /// Replaces the control that was applied last, where something else than the planner decided on it. Limits of rates
    /// count from it, and with an input delay it is the last control on its way.
    ///
    /// # Errors
    ///
    /// If it is not finite.
    pub fn set_last_control(&mut self, control: &[f32; M]) -> Result<(), InvalidValue> {
        self.set_last_control_of(0, control)
    }

    fn set_last_control_of(&mut self, i: usize, control: &[f32; M]) -> Result<(), InvalidValue> {
        finite("control", control)?;
        (self.members[i].applied.last, self.members[i].applied.duration) = (*control, None);
        if let Some(latest) = self.options.task().delay.checked_sub(1) {
            let (range, horizon) = (self.numbers_of(i), self.options.task().horizon);
            for chain in self.nominal[range].chunks_exact_mut(horizon * M) {
                chain.as_chunks_mut().0[latest] = *control;
            }
        }
        Ok(())
    }

    fn advance_member(&mut self, i: usize, steps: f64, seconds: f32) -> [f32; M] {
        let (task, applied) = (self.options.task(), &self.members[i].applied);
        let u = applied.limit_next(task, seconds, self.controls_of(i)[task.delay]);
        let nearest = steps.round();
        self.move_member(i, if (steps - nearest).abs() < 1e-5 { nearest } else { steps }, Some(u));
        let applied = &mut self.members[i].applied;
        (applied.last, applied.duration) = (u, Some(seconds));
        u
    }

    /// Moves a member's plan on by a number of time steps, for which `u` was issued, or the plan's controls if it is
    /// `None`.
    fn move_member(&mut self, i: usize, steps: f64, u: Option<[f32; M]>) {
        let range = self.numbers_of(i);
        let (task, shift_fill, initial) = (self.options.task(), self.options.shift_fill(), self.options.initial());
        let (whole, fraction) = (steps as usize, steps.fract() as f32);
        let Member { applied, best, queue, moved, .. } = &mut self.members[i];
        *moved += steps;
        let controls = &self.nominal[range.clone()].as_chunks().0[*best * task.horizon..][..task.horizon];
        // The control that is applied k time steps from now.
        let issued = |k: usize| match u {
            Some(u) if k >= task.delay => u,
            _ => shift_fill.beyond(controls, k, initial),
        };
        applied.move_on(whole, fraction, issued);
        if whole > 0 {
            applied.last = issued(task.delay.saturating_add(whole - 1));
            applied.duration = Some(task.dt);
        }
        queue.clear();
        queue.extend((0..task.delay).map(|t| {
            let first = issued(t.saturating_add(whole));
            if fraction > 0.0 { between(first, issued(t.saturating_add(whole + 1)), fraction) } else { first }
        }));
        for chain in self.nominal[range].chunks_exact_mut(task.horizon * M) {
            let controls = chain.as_chunks_mut().0;
            shift_fill.move_on(controls, whole, fraction, initial);
            controls[..task.delay].copy_from_slice(queue);
        }
    }

    /// Shifts the plan by `steps` time steps, after that many controls have been applied. [`ShiftFill`] selects the
    /// controls that are appended at the end. [`advance`](Self::advance) does so for one time step, and limits the
    /// control.
    pub fn shift(&mut self, steps: usize) {
        self.shift_member(0, steps);
    }

    fn shift_member(&mut self, i: usize, steps: usize) {
        self.move_member(i, steps as f64, None);
    }

    /// Resets the plan to `options.initial` at every time step and restarts the noise, so that the same calls give the
    /// same results again.
    pub fn reset(&mut self) {
        self.reset_member(0);
    }

    fn reset_member(&mut self, i: usize) {
        self.cancel();
        let (range, initial) = (self.numbers_of(i), self.options.initial());
        self.nominal[range].as_chunks_mut().0.fill(initial);
        self.members[i].applied.reset(initial);
        (self.members[i].number, self.members[i].best) = (0, 0);
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

    fn set_controls_of(&mut self, i: usize, controls: &[[f32; M]]) -> Result<(), InvalidValue> {
        let horizon = self.options.task().horizon;
        if controls.len() != horizon {
            let expected = format_args!("horizon = {horizon} of them");
            return Err(InvalidValue::new("controls", format_args!("{} controls", controls.len()), expected));
        }
        finite("controls", controls.as_flattened())?;
        self.cancel();
        let range = self.numbers_of(i);
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
    /// If they are fewer than the model uses, or not finite.
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

    /// Replaces one sampled field. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If there is no field of that index yet.
    pub fn set_field(&mut self, index: usize, grid: Grid) -> Result<(), InvalidValue> {
        self.change_inputs(|inputs, task, _| inputs.set_field(&mut task.fields, index, grid))
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
    /// to it. A GPU compiles another kernel when limits, control cost, `nominal_first` or correlated noise are switched
    /// on or off, when the temperature changes from given to solved for, and when the number of chains crosses 2 (on a
    /// software adapter) or 64.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). Then nothing is changed, but the samples of the last call may be gone.
    pub fn set_options(&mut self, mut options: A) -> Result<(), BuildError> {
        // Sizes that are not used must be valid, too; all else depends on those that are kept.
        algorithm::check_sizes(&options, self.members.len())?;
        options.task_mut().horizon = self.options.task().horizon;
        options.set_samples(self.options.samples());
        let shape = check(&options, self.members.len())?;
        options.task().check_reader(&self.reader())?;
        let nominal = match options.chains() {
            chains if chains == self.options.chains() => self.nominal.clone(),
            chains => self.each().flat_map(|i| self.controls_of(i).as_flattened().repeat(chains)).collect(),
        };
        self.cancel();
        let delay_before = self.options.task().delay;
        let previous = (
            std::mem::replace(&mut self.options, options),
            std::mem::replace(&mut self.shape, shape),
            std::mem::replace(&mut self.nominal, nominal),
        );
        self.change_delay(delay_before);
        let bests: Vec<_> = self.members.iter().map(|member| member.best).collect();
        let last = self.options.chains() - 1;
        self.members.iter_mut().for_each(|member| member.best = member.best.min(last));
        self.take_options();
        self.prepare().inspect_err(|_| {
            (self.options, self.shape, self.nominal) = previous;
            self.members.iter_mut().zip(bests).for_each(|(member, best)| member.best = best);
            self.take_options();
        })
    }

    /// Moves all plans so that they begin with as many controls as are on their way now. Where that are more, the oldest
    /// is the one that was applied last before.
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
                self.inputs.put_references(i, references);
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

    /// Changes the horizon and the number of samples. The plan is truncated, or extended as [`ShiftFill`] says. A GPU
    /// compiles another kernel when the number of samples crosses 256 (1,024 with many chains), up to which a single
    /// kernel does the whole pass.
    ///
    /// # Errors
    ///
    /// If a size is out of range, or the device runs out of memory. Then nothing is changed, but the samples of the
    /// last call may be gone.
    pub fn resize(&mut self, horizon: usize, samples: usize) -> Result<(), BuildError> {
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
        self.prepare().inspect_err(|_| (self.options, self.shape, self.nominal) = previous)
    }

    /// Moves the planner, with its plan, to another engine (or to a new one on the same device, after it was lost).
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). Then nothing is changed, but the samples of the last call may be gone.
    pub fn move_to(&mut self, engine: &Engine) -> Result<(), BuildError> {
        let program = Program::new::<N, M, D>(&self.model, engine.options().math)?;
        self.options.task().check_reader(&Reader::model(program.requirements))?;
        self.cancel();
        let previous = (
            std::mem::replace(&mut self.engine, engine.clone()),
            std::mem::replace(&mut self.program, program),
            std::mem::replace(&mut self.workspace, engine.workspace()),
        );
        self.forget_samples();
        self.prepare().inspect_err(|_| (self.engine, self.program, self.workspace) = previous)
    }

    /// Fetches the rows of the last pass with their costs and weights from the device, for plots and analysis. With
    /// several chains, these are the rows of the one that became the plan.
    ///
    /// # Errors
    ///
    /// If no call of [`plan`](Self::plan) has been started and has succeeded since the planner was last changed, a call
    /// is [pending](Self::start), or the device fails.
    pub fn samples(&mut self) -> Result<Samples<'_, N, M, D>, PlanError> {
        self.samples_of(0)
    }

    fn samples_of(&mut self, i: usize) -> Result<Samples<'_, N, M, D>, PlanError> {
        let (mut fetching, state) = self.fetch(i)?;
        let fetched = blocking(fetching.finish(Wait::Blocking))?;
        Ok(self.fetched(i, state, fetched))
    }

    /// As [`samples`](Self::samples), without blocking the thread.
    ///
    /// # Errors
    ///
    /// As [`samples`](Self::samples).
    pub async fn samples_async(&mut self) -> Result<Samples<'_, N, M, D>, PlanError> {
        let (mut fetching, state) = self.fetch(0)?;
        let fetched = poll_fn(|context| fetching.finish(Wait::Woken(context.waker()))).await?;
        Ok(self.fetched(0, state, fetched))
    }

    /// Starts to fetch the rows of a member's last pass. Also returns the state of that call.
    fn fetch(&mut self, i: usize) -> Result<(Fetching, [f32; N]), PlanError> {
        if self.is_pending() {
            return Err(PlanError::Busy);
        }
        let Some((state, chain)) = self.members[i].sampled else {
            return Err(InvalidValue::new("samples", "not there", "preceded by a call of plan that succeeded").into());
        };
        let Self { inputs, shape, nominal, std_scale, .. } = self;
        let problem = Problem { std_scale, filter: shape.filter.as_ref(), ..inputs.problem(nominal) };
        let number = i * self.options.chains() + chain;
        Ok((self.workspace.submit_fetch(&self.program, &problem, number)?, state))
    }

    fn fetched(&self, i: usize, state: [f32; N], fetched: Fetched) -> Samples<'_, N, M, D> {
        let timeline = self.inputs.timeline(i, self.options.task().dt);
        let (samples, horizon) = (self.options.samples(), self.options.task().horizon);
        Samples { model: &*self.model, timeline, state, samples, horizon, fetched }
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

    /// Lists the passes of one call.
    fn fill_passes(&mut self, given: bool) {
        let (horizon, chains) = (self.options.task().horizon, self.options.chains());
        let problems = self.members.len() * chains;
        // With several members, seed and number are inputs of each, and the passes are numbered from 0.
        let number = if let [only] = &self.members[..] { only.number } else { 0 };
        if self.members.len() > 1 {
            for i in self.each() {
                let (key, number) = (philox::key(self.seed_of(i)), self.members[i].number);
                self.inputs.set_noise(i, NoiseId { key, number });
            }
        }
        // Given rows are controls.
        let filtered = self.shape.filter.is_some() && !given;
        let innovations = if filtered { self.shape.innovations(horizon) } else { horizon };
        let mut first = Pass {
            seed: philox::key(self.seed_of(0)),
            number,
            rows: self.options.samples() as u32,
            width: (horizon * M) as u32,
            coordinates: (innovations * M) as u32,
            cost_scale: if self.options.averages() { 1.0 / horizon as f32 } else { 1.0 },
            problems: problems as u32,
            chains: chains as u32,
            ..self.options.task().pass(&self.inputs)
        };
        first.set(GIVEN, given);
        first.set(FILTERED, filtered);
        self.std_scale.clear();
        if self.options.std_scale(0).is_some() {
            first.set(STD_SCALE, true);
            for _ in 0..problems {
                self.std_scale.extend((0..innovations).flat_map(|i| {
                    let t = if filtered { self.shape.time(i, horizon) } else { i };
                    [self.options.std_scale(t).unwrap_or(1.0); M]
                }));
            }
        }
        self.passes.clear();
        self.options.passes(first, &mut self.passes);
        for (i, pass) in self.passes.iter_mut().enumerate() {
            pass.number = number.wrapping_add(i as u32);
        }
    }

    /// Returns the chains with noise added to each, or `None` if the method does not scatter them.
    fn scattered(&self) -> Option<Vec<f32>> {
        let (scatter, horizon, chains) = (self.options.scatter(), self.options.task().horizon, self.options.chains());
        if scatter == 0.0 {
            return None;
        }
        let (mut scattered, shape) = (self.nominal.to_vec(), &self.shape);
        for (problem, nominal) in scattered.chunks_exact_mut(horizon * M).enumerate() {
            let (i, chain) = (problem / chains, problem % chains);
            let (key, number) = (philox::key(self.seed_of(i)), self.members[i].number);
            let z = |d: usize| {
                let counter = [0, (d / 4) as u32, number, Stream::Chains.word(chain as u32)];
                normal::box_muller_at(counter, key)[d % 4]
            };
            let noise = |i: usize, m: usize| {
                let shaped: f32 = (0..=m).map(|j| shape.factor[m * M + j] * z(i * M + j)).sum();
                scatter * self.options.std_scale(shape.time(i, horizon)).unwrap_or(1.0) * shaped
            };
            let innovations = (0..shape.innovations(horizon) * M).map(|d| noise(d / M, d % M));
            match &shape.filter {
                None => nominal.iter_mut().zip(innovations).for_each(|(u, noise)| *u += noise),
                Some(filter) => {
                    let innovations: Vec<f32> = innovations.collect();
                    filter.apply(horizon, M, &innovations, |t, m, noise| {
                        if t >= self.options.task().delay {
                            nominal[t * M + m] += noise;
                        }
                    });
                }
            }
        }
        Some(scattered)
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
        let Self { inputs, shape, nominal, std_scale, .. } = self;
        let problem = Problem { std_scale, filter: shape.filter.as_ref(), ..inputs.problem(nominal) };
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
        for member in &mut self.members {
            member.plan.reserve(horizon);
            member.next.reserve(horizon);
            member.queue.reserve(self.options.task().delay);
            if let Some(smoothing) = self.options.smoothing() {
                member.applied.keep(smoothing.history());
                member.past.reserve(smoothing.history());
                member.scratch.reserve(horizon + smoothing.history());
            }
        }
        if self.takes_rows {
            self.prepare_for(true)?;
        }
        self.prepare_for(false)
    }

    /// Prepares for a call with given rows, or for one without.
    fn prepare_for(&mut self, given: bool) -> Result<(), BuildError> {
        float_env::standard(|| self.fill_passes(given));
        let Self { inputs, shape, nominal, std_scale, .. } = self;
        let problem = Problem { std_scale, filter: shape.filter.as_ref(), ..inputs.problem(nominal) };
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
        self.simulate_of(0, x, controls)
    }

    fn simulate_of(&self, i: usize, x: &[f32; N], controls: &[[f32; M]]) -> Result<(Vec<[f32; N]>, f32), InvalidValue> {
        finite("state", x)?;
        finite("controls", controls.as_flattened())?;
        let mut states = Vec::with_capacity(controls.len() + 1);
        let timeline = self.inputs.timeline(i, self.options.task().dt);
        let average = self.options.averages() && !controls.is_empty();
        let cost = float_env::standard(|| {
            let cost = roll_out(&*self.model, &timeline, *x, controls, &mut states);
            if average { cost / controls.len() as f32 } else { cost }
        });
        Ok((states, cost))
    }
}

impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> Calls for Planner<N, M, D, A> {
    fn drain(&mut self, wait: Wait<'_>) -> Poll<Result<(), EngineError>> {
        self.workspace.drain(wait)
    }

    fn complete(&mut self, wait: Wait<'_>) -> Result<bool, PlanError> {
        if !self.is_pending() {
            return Ok(false);
        }
        float_env::standard(move || self.end(wait))
    }

    fn cancel(&mut self) {
        Self::cancel(self);
    }
}

/// Returns the sections that are packed for the kernels, besides the state.
fn sections<'a, const M: usize>(options: &'a impl Algorithm<M>, shape: &'a CovarianceFactors) -> Sections<'a> {
    options.task().sections(Square::Dense(&shape.factor), Square::Dense(&shape.precision))
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
