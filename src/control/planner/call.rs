//! Calls of a [`Planner`]: submitting passes to a device and turning their results into plans.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::actuation::limit;
use super::algorithm::Algorithm;
use super::options::{Fallback, PlanSource, Proposal};
use super::plan::{self, Plan, Start, Symptom, Work};
use super::{PendingCall, Planner, problem};
use crate::error::{EngineError, InvalidValue, PlanError, finite};
use crate::kernels::pass::{
    CLAMPED, DELAYED, DEMONSTRATED, FILTERED, GIVEN, JERK_LIMITED, LIMITED, NoiseId, Pass, Problem, RATE_LIMITED,
    STD_SCALE, Sums, TILE,
};
use crate::lang::clock::Instant;
use crate::lang::stream::Stream;
use crate::lang::{float_env, normal, philox};
use crate::model::Model;
use crate::runtime::{
    Backend, Calls, CancelOnDrop, Done, Timing, Wait, Waiter, blocking, completed, drained, finished, run_to_end, span,
};

impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> Planner<N, M, D, A> {
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

    /// As [`plan`](Self::plan), but within a time budget. Passes are run one at a time, until another one that takes as
    /// long as the last would end later than `budget` from now. So the budget is exceeded by no more than one pass. At
    /// least one pass is run. If an earlier such call has shown that a pass of all rows takes longer than the budget,
    /// passes have fewer rows (a multiple of 64; on a GPU at least 1,088, since fewer take as long).
    ///
    /// [`Plan::passes`], [`Plan::samples`] and [`Plan::effort`] tell what was done. If the budget suffices, the plan is
    /// that of `plan`, to the bit; on a GPU the call takes longer, since the host waits for each pass.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan). After an error, [`advance`](Self::advance) continues the previous plan.
    pub fn plan_within(&mut self, x: &[f32; N], budget: Duration) -> Result<&Plan<N, M>, PlanError> {
        let start = Instant::now();
        self.plan_within_by(x, budget, || start.elapsed())
    }

    /// As [`plan_within`](Self::plan_within), by a clock of the caller's, such as that of a simulation. `now` returns
    /// the time since any fixed instant.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan).
    pub fn plan_within_by(
        &mut self,
        x: &[f32; N],
        budget: Duration,
        now: impl FnMut() -> Duration,
    ) -> Result<&Plan<N, M>, PlanError> {
        self.run_within(std::slice::from_ref(x), budget, now)?;
        self.only()
    }

    /// As [`plan_within`](Self::plan_within), without blocking the thread: see [`plan_async`](Self::plan_async). On a
    /// GPU the task is suspended during each pass, so other tasks of a busy executor take part of the budget. Browsers
    /// round their clock, to between 5 µs and 1 ms.
    ///
    /// # Errors
    ///
    /// As [`plan_within`](Self::plan_within).
    pub async fn plan_within_async(&mut self, x: &[f32; N], budget: Duration) -> Result<&Plan<N, M>, PlanError> {
        let start = Instant::now();
        self.plan_within_by_async(x, budget, || start.elapsed()).await
    }

    /// As [`plan_within_by`](Self::plan_within_by), without blocking the thread: see
    /// [`plan_within_async`](Self::plan_within_async).
    ///
    /// # Errors
    ///
    /// As [`plan_within`](Self::plan_within).
    pub async fn plan_within_by_async(
        &mut self,
        x: &[f32; N],
        budget: Duration,
        now: impl FnMut() -> Duration,
    ) -> Result<&Plan<N, M>, PlanError> {
        self.run_within_async(std::slice::from_ref(x), budget, now).await?;
        self.only()
    }

    /// Runs a call for all members pass by pass, within a time budget.
    pub(super) fn run_within(
        &mut self,
        states: &[[f32; N]],
        budget: Duration,
        now: impl FnMut() -> Duration,
    ) -> Result<(), PlanError> {
        self.workspace.may_block()?;
        let rows = self.rows_within(budget);
        span!(
            DEBUG,
            "plan",
            problems = states.len(),
            rows,
            horizon = self.options.task().horizon,
            backend = %self.engine.backend(),
            ?budget
        );
        run_to_end(self.run_timed(states, rows, budget, now, Waiter::Thread))
    }

    pub(super) async fn run_within_async(
        &mut self,
        states: &[[f32; N]],
        budget: Duration,
        now: impl FnMut() -> Duration,
    ) -> Result<(), PlanError> {
        self.run_timed(states, self.rows_within(budget), budget, now, Waiter::Task).await
    }

    /// Runs a call for all members pass by pass, with `rows` rows each, and measures how long a row takes.
    async fn run_timed(
        &mut self,
        states: &[[f32; N]],
        rows: usize,
        budget: Duration,
        mut now: impl FnMut() -> Duration,
        waiter: Waiter,
    ) -> Result<(), PlanError> {
        if self.is_pending() {
            return Err(PlanError::Busy);
        }
        let start = now();
        let (mut before, mut longest) = (start, Duration::ZERO);
        let mut after_pass = || {
            let time = now();
            let pass = time.saturating_sub(before);
            (before, longest) = (time, pass.max(longest));
            time.saturating_sub(start) + pass <= budget
        };
        drained(self, waiter).await?;
        self.run_stepwise(states, rows, &mut after_pass, waiter).await?;
        // Measures the last pass of the list, after which `after_pass` is not called.
        let _ = after_pass();
        if self.members.iter().any(|member| member.outcome.is_ok()) {
            self.time_per_row = Some(longest.as_secs_f64() / rows as f64);
        }
        Ok(())
    }

    /// The number of rows with which a pass ends within a budget, by the time per row of the last call that measured
    /// it.
    fn rows_within(&self, budget: Duration) -> usize {
        let all = self.options.samples();
        let Some(each) = self.time_per_row.filter(|each| *each > 0.0) else { return all };
        // A GPU runs passes of up to 1,024 rows by another kernel, which may not be compiled.
        let least = if self.engine.backend() == Backend::Cpu { TILE } else { 1024 + TILE };
        let affordable = (budget.as_secs_f64() / each) as usize / TILE * TILE;
        affordable.max(least).min(all)
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

    /// As [`plan_rows`](Self::plan_rows), without blocking the thread: see [`plan_async`](Self::plan_async).
    ///
    /// # Errors
    ///
    /// As [`plan_rows`](Self::plan_rows).
    pub async fn plan_rows_async(&mut self, x: &[f32; N], rows: &[f32]) -> Result<&Plan<N, M>, PlanError> {
        self.check_rows(rows)?;
        self.run_async(x, Some(rows), usize::MAX).await
    }

    fn check_rows(&self, rows: &[f32]) -> Result<(), InvalidValue> {
        let expected = self.options.samples() * self.options.task().horizon * M;
        if rows.len() != expected {
            let expected = format_args!("samples × horizon × controls = {expected} numbers");
            return Err(InvalidValue::new("rows", format_args!("{} numbers", rows.len()), expected));
        }
        finite("rows", rows)
    }

    /// Starts a call of [`plan`](Self::plan) without waiting for it, for loops that must not block. The work is
    /// submitted to the device here. [`poll`](Self::poll) returns the plan once it is available,
    /// [`finish`](Self::finish) waits for it, and [`cancel`](Self::cancel) gives it up. The plan is the same to the bit
    /// as that of `plan`. The CPU backend computes here, so that the first `poll` returns the plan.
    ///
    /// While a call is pending, the previous plan is kept, and
    ///
    /// - [`set_params`](Self::set_params), [`set_references`](Self::set_references),
    ///   [`set_scenarios`](Self::set_scenarios), [`set_field`](Self::set_field),
    ///   [`update_field`](Self::update_field), [`set_field_origin`](Self::set_field_origin),
    ///   [`set_weights`](Self::set_weights) and [`reseed`](Self::reseed) affect the next call;
    /// - [`shift`](Self::shift), [`advance`](Self::advance) and [`advance_by`](Self::advance_by) move the previous plan
    ///   now, and the result of the pending call when it is available, after `poll` or `finish` has returned it unmoved;
    ///   [`set_last_control`](Self::set_last_control) holds for that result, too;
    /// - [`set_controls`](Self::set_controls), [`reset`](Self::reset), [`set_options`](Self::set_options),
    ///   [`set_task`](Self::set_task), [`resize`](Self::resize), [`move_to`](Self::move_to),
    ///   [`prepare_rows`](Self::prepare_rows), `prepare_device_trajectories` and [`restore`](Self::restore) cancel it;
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
        self.start_one(x, None)
    }

    /// As [`start`](Self::start), for a call of [`plan_rows`](Self::plan_rows). It blocks to compile kernels unless
    /// [`prepare_rows`](Self::prepare_rows) has been called.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and if the rows have the wrong size or are not finite.
    pub fn start_rows(&mut self, x: &[f32; N], rows: &[f32]) -> Result<(), PlanError> {
        self.check_rows(rows)?;
        self.start_one(x, Some(rows))
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
    /// As [`plan`](Self::plan), and if no call is pending. In a browser, [`EngineError::WouldBlock`] on a GPU; then the
    /// call stays pending, and [`poll`](Self::poll) returns its plan.
    pub fn finish(&mut self) -> Result<&Plan<N, M>, PlanError> {
        finished(self)?;
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
        self.run_async(x, None, usize::MAX).await
    }

    /// As [`plan_first`](Self::plan_first), without blocking the thread: see [`plan_async`](Self::plan_async).
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan).
    pub async fn plan_first_async(&mut self, x: &[f32; N], passes: usize) -> Result<&Plan<N, M>, PlanError> {
        self.run_async(x, None, passes.max(1)).await
    }

    async fn run_async(&mut self, x: &[f32; N], rows: Option<&[f32]>, most: usize) -> Result<&Plan<N, M>, PlanError> {
        self.run_all_async(std::slice::from_ref(x), rows, most).await?;
        self.only()
    }

    /// Runs a call for all members, as a task.
    pub(super) async fn run_all_async(
        &mut self,
        states: &[[f32; N]],
        given: Option<&[f32]>,
        most: usize,
    ) -> Result<(), PlanError> {
        drained(self, Waiter::Task).await?;
        if self.submit(states, given, most, Wait::Polling)? {
            completed(self, Waiter::Task).await?;
        }
        Ok(())
    }

    fn run(&mut self, x: &[f32; N], rows: Option<&[f32]>, most: usize) -> Result<&Plan<N, M>, PlanError> {
        self.run_all(std::slice::from_ref(x), rows, most)?;
        self.only()
    }

    /// Runs a call for all members.
    pub(super) fn run_all(&mut self, states: &[[f32; N]], given: Option<&[f32]>, most: usize) -> Result<(), PlanError> {
        span!(
            DEBUG,
            "plan",
            problems = states.len(),
            rows = self.options.samples(),
            horizon = self.options.task().horizon,
            backend = %self.engine.backend()
        );
        if self.submit(states, given, most, Wait::Blocking)? {
            self.complete(Wait::Blocking)?;
        }
        Ok(())
    }

    /// The result of the only member.
    fn only(&self) -> Result<&Plan<N, M>, PlanError> {
        let member = &self.members[0];
        member.outcome.clone().map(|_| &member.plan)
    }

    /// Starts a call for the only member.
    fn start_one(&mut self, x: &[f32; N], rows: Option<&[f32]>) -> Result<(), PlanError> {
        let states = std::slice::from_ref(x);
        if self.submit(states, rows, usize::MAX, Wait::Polling)? { Ok(()) } else { self.only().map(drop) }
    }

    /// Submits a call for all members. `wait` tells whether to wait for an abandoned call to leave the device. Returns
    /// false, without a call, if no state is valid; see [`Member::outcome`].
    pub(super) fn submit(
        &mut self,
        states: &[[f32; N]],
        rows: Option<&[f32]>,
        most: usize,
        wait: Wait<'_>,
    ) -> Result<bool, PlanError> {
        if let Wait::Blocking = wait {
            self.workspace.may_block()?;
        }
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
        if !self.set_up(states, rows.is_some()) {
            return Ok(false);
        }
        let limited = rows.and_then(|rows| self.limited_rows(rows));
        let rows = limited.as_deref().or(rows);
        let asked = self.asked();
        if most < self.passes.len() {
            self.passes.truncate(most);
            // The last pass ends at the plan, which must be within the limits.
            if let Some(last) = self.passes.last_mut() {
                last.set(CLAMPED, last.has(LIMITED));
            }
        }
        let problem = Problem { rows, ..problem(&self.inputs, &self.shape, &self.std_scale, &self.stage) };
        // A failed call consumes its noise too; the next one draws other rows.
        let draws = self.passes.len() as u32;
        for member in self.members.iter_mut().filter(|member| member.outcome.is_ok()) {
            member.number = member.number.wrapping_add(draws);
        }
        let drained = if let Wait::Blocking = wait { blocking(self.workspace.drain(wait)) } else { Ok(()) };
        let submitted = drained.and_then(|()| self.workspace.submit(&self.program, &self.passes, &problem));
        if submitted == Err(PlanError::Busy) {
            // Refused calls must not affect the noise.
            for member in self.members.iter_mut().filter(|member| member.outcome.is_ok()) {
                member.number = member.number.wrapping_sub(draws);
            }
        }
        submitted?;
        self.inputs.note_upload();
        self.forget_proposals();
        self.pending = Some(PendingCall::new(started, asked));
        Ok(true)
    }

    /// Sets what a call starts from and lists its passes. Returns false if no state is valid.
    fn set_up(&mut self, states: &[[f32; N]], given: bool) -> bool {
        for (i, (member, x)) in self.members.iter_mut().zip(states).enumerate() {
            // The launch has a place for every member. One without a valid state keeps its last one, and its result is
            // dropped.
            member.outcome =
                finite("state", x).map(|()| self.inputs.set_state(i, x)).map(|()| 0).map_err(PlanError::from);
        }
        if self.members.iter().all(|member| member.outcome.is_err()) {
            return false;
        }
        self.forget_samples();
        self.begin_after_applied();
        self.fill_passes(given);
        self.fill_stage();
        true
    }

    /// The numbers of passes and rows that the options ask for, once the passes are listed.
    fn asked(&self) -> [usize; 2] {
        [self.passes.len(), self.options.samples()]
    }

    /// The second half of a call: turns its results, once available, into plans. Returns whether they were. After an
    /// error no call is pending.
    fn end(&mut self, wait: Wait<'_>) -> Result<bool, PlanError> {
        let Some(mut call) = self.pending.take() else { return Ok(false) };
        if !call.is_evaluated {
            let Poll::Ready(done) = self.workspace.finish(wait) else {
                self.pending = Some(call);
                return Ok(false);
            };
            let timing = keep(&done?, &mut self.results, &mut self.sums);
            self.evaluate(&call, timing);
            call.is_evaluated = true;
        }
        if self.take_best_rows(&mut call, wait)?.is_pending() {
            self.pending = Some(call);
            return Ok(false);
        }
        self.adopt(&call);
        Ok(true)
    }

    /// Makes the next plan of every member from the results. The model runs on the host here and may panic; the old
    /// plans are not touched, so they are kept.
    fn evaluate(&mut self, call: &PendingCall, timing: Timing) {
        span!(DEBUG, "evaluate", problems = self.members.len());
        let (options, inputs) = (&self.options, call.inputs.as_ref().unwrap_or(&self.inputs));
        let (task, smoothing, chains) = (options.task(), options.smoothing(), options.chains());
        let width = task.horizon * M;
        let last = &self.passes[self.passes.len() - 1];
        let all = self.results.chunks_exact_mut(chains * width).zip(self.sums.chunks_exact(chains));
        for (i, (member, (results, sums))) in self.members.iter_mut().zip(all).enumerate() {
            if member.outcome.is_err() {
                continue;
            }
            if smoothing.is_some() || task.is_sequential() || last.has(LIMITED) && !last.has(CLAMPED) {
                for chain in results.chunks_exact_mut(width) {
                    let controls = chain.as_chunks_mut().0;
                    controls[..task.delay].copy_from_slice(&member.queue);
                    if let Some(smoothing) = smoothing {
                        smoothing.smooth(&member.past, task.delay, controls, &mut member.scratch);
                    }
                    limit(task, inputs.last(i), controls);
                }
            }
            let start = Start::of(self.engine.isa(), &*self.model, inputs, i, task.dt);
            member.outcome = member.next.best_of(&start, last, sums, results);
            let Ok(best) = member.outcome else { continue };
            if options.fallback() == Fallback::LastPlan {
                let failed = &mut results[best * width..][..width];
                limit(task, inputs.last(i), &mut member.before);
                member.next.fall_back(&start, last, failed, &member.before);
            }
            if best > 0 && member.next.source == PlanSource::Rows && !options.proposals().is_empty() {
                member.next.source = PlanSource::Proposal(best - 1);
            }
            let std = std::array::from_fn(|m| last.scale * self.shape.std(m, M));
            member.next.diagnose(last, task.limits.as_ref(), std);
            member.next.timing = timing;
            member.next.backend = self.engine.backend();
            member.next.work = Work { passes: self.passes.len(), asked: call.asked, started: Some(call.started) };
        }
    }

    /// Replaces each next plan by the best row that it was made of, where that costs less and the options ask for it.
    /// A GPU's rows are fetched for one member after the other.
    fn take_best_rows(&mut self, call: &mut PendingCall, wait: Wait<'_>) -> Result<Poll<()>, PlanError> {
        let last = self.passes[self.passes.len() - 1];
        if self.options.fallback() != Fallback::BestRow || last.has(DEMONSTRATED) {
            return Ok(Poll::Ready(()));
        }
        let (task, chains) = (self.options.task(), self.options.chains());
        let width = task.horizon * M;
        while call.checked < self.members.len() {
            let (i, member) = (call.checked, &mut self.members[call.checked]);
            let inputs = call.inputs.as_ref().unwrap_or(&self.inputs);
            if let (Ok(best), true) = (&member.outcome, member.next.costs_more_than_a_row()) {
                let (problem, number) =
                    (problem(inputs, &self.shape, &self.std_scale, &self.nominal), i * chains + best);
                let row = match self.workspace.best_row(&self.program, &problem, number) {
                    Some(row) => row?,
                    None => {
                        if call.fetching.is_none() {
                            call.fetching = Some(self.workspace.submit_fetch(&self.program, &problem, number)?);
                        }
                        let fetching = call.fetching.as_mut();
                        let Some(Poll::Ready(fetched)) = fetching.map(|fetching| fetching.finish(wait)) else {
                            return Ok(Poll::Pending);
                        };
                        call.fetching = None;
                        fetched?.best_row(last.rows as usize, width)
                    }
                };
                if let Some(row) = row {
                    let start = Start::of(self.engine.isa(), &*self.model, inputs, i, task.dt);
                    let mean = &mut self.results[number * width..][..width];
                    member.next.take_best_row(&start, &last, &row, mean);
                }
            }
            call.checked += 1;
        }
        Ok(Poll::Ready(()))
    }

    /// Replaces the plans, and the control sequences that the next call starts from, by the results.
    fn adopt(&mut self, call: &PendingCall) {
        let (options, inputs) = (&self.options, call.inputs.as_ref().unwrap_or(&self.inputs));
        let (task, chains, shift_fill, initial) =
            (options.task(), options.chains(), options.shift_fill(), options.initial());
        let width = task.horizon * M;
        let all = self.results.chunks_exact(chains * width).zip(self.sums.chunks_exact(chains));
        let plans = self.nominal.chunks_exact_mut(chains * width).zip(all);
        for (i, (member, (plan, (results, sums)))) in self.members.iter_mut().zip(plans).enumerate() {
            let Ok(best) = member.outcome else { continue };
            member.queue.clear();
            member.queue.extend_from_slice(&plan[member.best * width..].as_chunks().0[..task.delay]);
            // A chain that failed keeps its control sequence.
            for (chain, nominal) in plan::worked(sums, results) {
                let own = &mut plan[chain * width..][..width];
                own.copy_from_slice(nominal);
                let controls = own.as_chunks_mut().0;
                if member.moved > 0.0 {
                    let (whole, fraction) = (member.moved as usize, member.moved.fract() as f32);
                    shift_fill.move_on(controls, whole, fraction, initial);
                }
                // The controls that were issued meanwhile are those of the previous plan, or were set.
                controls[..task.delay].copy_from_slice(&member.queue);
                if task.is_sequential() && (member.moved > 0.0 || member.applied.end(task.dt) != inputs.last(i)) {
                    limit(task, member.applied.end(task.dt), controls);
                }
            }
            member.best = best;
            // Samples are recomputed from the current inputs, which must be those of the call.
            member.sampled = call.inputs.is_none().then(|| (inputs.state(i), best));
            std::mem::swap(&mut member.plan, &mut member.next);
            Symptom::warn_once(member.plan.symptoms, &mut member.warned);
            member.plan.timing.total = call.started.elapsed();
        }
    }

    /// Runs a call for all members pass by pass, with `rows` rows each: after each pass but the last, `goes_on` tells
    /// whether to run the next. Dropping the future cancels the call.
    async fn run_stepwise(
        &mut self,
        states: &[[f32; N]],
        rows: usize,
        goes_on: &mut impl FnMut() -> bool,
        waiter: Waiter,
    ) -> Result<(), PlanError> {
        let started = Instant::now();
        if !float_env::standard(|| self.set_up(states, false)) {
            return Ok(());
        }
        let call = CancelOnDrop(self);
        let planner = &mut *call.0;
        planner.pending = Some(PendingCall::new(started, planner.asked()));
        planner.passes.iter_mut().for_each(|pass| pass.rows = rows as u32);
        for run in 1.. {
            planner.submit_pass(run - 1)?;
            let is_last = run == planner.passes.len();
            let mut over = || is_last || !goes_on();
            if poll_fn(|context| planner.end_pass(waiter.wait(context), run, &mut over)).await? {
                break;
            }
        }
        completed(planner, waiter).await
    }

    /// Submits one pass of a call that runs pass by pass.
    fn submit_pass(&mut self, index: usize) -> Result<(), PlanError> {
        let problem = problem(&self.inputs, &self.shape, &self.std_scale, &self.stage);
        // A failed pass consumes its noise too; the next one draws other rows.
        for member in self.members.iter_mut().filter(|member| member.outcome.is_ok()) {
            member.number = member.number.wrapping_add(1);
        }
        self.workspace.submit(&self.program, &self.passes[index..=index], &problem)?;
        self.inputs.note_upload();
        self.forget_proposals();
        Ok(())
    }

    /// Takes the results of the pass that was submitted, of which there are `run` now, once available. If the call is
    /// `over`, they become the next plans; otherwise the next pass starts from them. Returns whether it is.
    fn end_pass(
        &mut self,
        wait: Wait<'_>,
        run: usize,
        over: &mut impl FnMut() -> bool,
    ) -> Poll<Result<bool, PlanError>> {
        let Poll::Ready(done) = self.workspace.finish(wait) else { return Poll::Pending };
        let done = done?;
        if !over() {
            self.stage.copy_from_slice(done.nominal);
            if !done.std_scale.is_empty() {
                self.std_scale.copy_from_slice(done.std_scale);
            }
            return Poll::Ready(Ok(false));
        }
        let timing = keep(&done, &mut self.results, &mut self.sums);
        self.passes.truncate(run);
        if let Some(mut call) = self.pending.take() {
            float_env::standard(|| self.evaluate(&call, timing));
            call.is_evaluated = true;
            self.pending = Some(call);
        }
        Poll::Ready(Ok(true))
    }

    /// Records what the next call starts from: the controls that were applied, those that are on their way, and the
    /// last plan if it may become the plan again.
    fn begin_after_applied(&mut self) {
        let (delay, horizon, chains) = (self.options.task().delay, self.options.task().horizon, self.options.chains());
        for (i, member) in self.members.iter_mut().enumerate() {
            self.inputs.set_last(i, member.applied.end(self.options.task().dt));
            member.moved = 0.0;
            member.queue.clear();
            let best = (i * chains + member.best) * horizon;
            member.queue.extend_from_slice(&self.nominal.as_chunks().0[best..][..delay]);
            member.past.clear();
            member.past.extend_from_slice(member.applied.past());
            if self.options.fallback() != Fallback::None {
                member.before.clear();
                member.before.extend_from_slice(&self.nominal.as_chunks().0[best..][..horizon]);
            }
        }
    }

    /// Fills the stage with the control sequences that the rows of a call are drawn around. If there are proposals, the
    /// first chain of every member starts from its plan, and the others from the proposals.
    fn fill_stage(&mut self) {
        self.stage.clear();
        match self.scattered() {
            Some(scattered) => self.stage.extend(scattered),
            None => self.stage.extend(&self.nominal),
        }
        if self.options.proposals().is_empty() {
            return;
        }
        let (task, chains, initial) = (self.options.task(), self.options.chains(), self.options.initial());
        let width = task.horizon * M;
        for (i, member) in self.members.iter().enumerate() {
            let own = &mut self.stage[i * chains * width..][..chains * width];
            own.copy_within(member.best * width..(member.best + 1) * width, 0);
            let (plan, others) = own.split_at_mut(width);
            let plan = plan.as_chunks().0;
            for (k, (proposal, chain)) in
                self.options.proposals().iter().zip(others.chunks_exact_mut(width)).enumerate()
            {
                let chain = chain.as_chunks_mut().0;
                match *proposal {
                    Proposal::Initial => chain.fill(initial),
                    Proposal::Last => chain.fill(member.applied.last),
                    Proposal::Sustained(control) => chain.fill(control),
                    Proposal::Given if member.given[k].is_empty() => chain.copy_from_slice(plan),
                    Proposal::Given => chain.copy_from_slice(&member.given[k]),
                }
                chain[..task.delay].copy_from_slice(&plan[..task.delay]);
                limit(task, member.applied.end(task.dt), chain);
            }
        }
    }

    /// Forgets the sequences that were given for the call that has begun.
    fn forget_proposals(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.outcome.is_ok()) {
            member.given.iter_mut().for_each(Vec::clear);
        }
    }

    /// Returns the given rows, limited and with the controls on their way in front, or `None` if the task limits no
    /// rates and has no delay. Rows are given to planners of a single member only.
    fn limited_rows(&self, rows: &[f32]) -> Option<Vec<f32>> {
        let task = self.options.task();
        if !task.is_sequential() {
            return None;
        }
        let mut rows = rows.to_vec();
        for row in rows.chunks_exact_mut(task.horizon * M) {
            let controls = row.as_chunks_mut().0;
            controls[..task.delay].copy_from_slice(&self.members[0].queue);
            limit(task, self.members[0].applied.end(task.dt), controls);
        }
        Some(rows)
    }

    /// Lists the passes of one call.
    pub(super) fn fill_passes(&mut self, given: bool) {
        let (horizon, chains) = (self.options.task().horizon, self.options.chains());
        let problems = self.members.len() * chains;
        // With several members or scenarios, seed and number are inputs of each, and the passes are numbered from 0.
        let is_fleet = self.inputs.is_fleet();
        let number = if is_fleet { 0 } else { self.members[0].number };
        if is_fleet {
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
        self.options.task().risk.write(self.options.task().scenarios.len(), &mut first);
        first.set(GIVEN, given);
        first.set(FILTERED, filtered);
        if given && self.options.task().is_sequential() {
            // Given rows are limited beforehand: see `limited_rows`.
            first.set(LIMITED | CLAMPED | RATE_LIMITED | JERK_LIMITED | DELAYED, false);
        }
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
}

/// Copies the results of a call, so that the workspace is free for another.
fn keep(done: &Done<'_>, results: &mut Vec<f32>, sums: &mut Vec<Sums>) -> Timing {
    results.clear();
    results.extend_from_slice(done.nominal);
    sums.clear();
    sums.extend_from_slice(done.sums);
    done.timing
}

impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> Calls for Planner<N, M, D, A> {
    fn may_block(&self) -> Result<(), EngineError> {
        self.workspace.may_block()
    }

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
