//! [`Fleet`]: many plans for one model, improved in one launch.

use std::time::Duration;

use super::{Algorithm, Feedback, FeedbackWeights, Member, Plan, Planner, Samples, Snapshot, Terms};
use crate::error::{BuildError, FeedbackError, InvalidValue, PlanError};
use crate::lang::clock::Instant;
use crate::lang::grid::{Block, Grid};
use crate::model::Model;
#[cfg(feature = "gpu")]
use crate::runtime::DeviceTrajectories;
use crate::runtime::scenario::Scenario;
use crate::runtime::task::References;
use crate::runtime::{Calls, Engine, Wait, finished};

/// Solves B planning problems of one model together, in one launch: the robots of a fleet, or the same robot in B
/// states.
///
/// Each problem has its own state, plan and seed and, where set, its own parameters and references. The model, the
/// options and the fields are shared. The options are those of a planner,
/// [`MppiOptions`](crate::control::mppi::options::MppiOptions) or
/// [`DiffusionOptions`](crate::control::diffusion::options::DiffusionOptions), and each problem is solved as by a
/// [`Planner`] with these options. A problem that fails keeps its plan, and does not affect the others.
///
/// The seed of problem i is that of the options plus i, unless [`reseed`](Self::reseed) replaces it. On the CPU, the
/// plans are equal to the bit to those of a planner with that seed. On a GPU they agree to rounding, because the
/// kernels divide their sums differently if there are several problems; a fleet of one is equal to the bit there, too.
///
/// # Example
///
/// Three carts, whose goal is a parameter of the model. The third cart has its own:
///
/// ```
/// use gibbs::{Backend, Engine, EngineOptions, Fleet, Model, MppiOptions, Real, StepContext, Task};
///
/// /// A cart on a line that should come to rest at parameter 0.
/// struct Cart;
///
/// #[gibbs::model]
/// impl Model<2, 1> for Cart {
///     fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> [R; 2] {
///         [p + v * at.dt(), v + u * at.dt()]
///     }
///     fn cost<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> R {
///         (p - at.param(0)).square() + v.square() * 0.1 + u.square() * 0.01
///     }
/// }
///
/// let engine = Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() })?;
/// let task = Task { horizon: 20, dt: 0.1, params: vec![0.0], ..Default::default() };
/// let mut fleet = Fleet::new(&engine, Cart, MppiOptions { task, samples: 256, ..Default::default() }, 3)?;
/// fleet.set_params(2, &[5.0])?;
///
/// let states = [[5.0, 0.0], [f32::NAN, 0.0], [0.0, 0.0]];
/// let plans = fleet.plan(&states)?;
/// assert!(plans.get(0)?.controls()[0][0] < 0.0, "back to 0");
/// assert!(plans.get(1).is_err(), "its state is not finite; the others are not affected");
/// assert!(plans.get(2)?.controls()[0][0] > 0.0, "on to 5");
/// fleet.shift_all(1);
/// # Ok::<(), gibbs::Error>(())
/// ```
pub struct Fleet<const N: usize, const M: usize, D, A> {
    planner: Planner<N, M, D, A>,
}

/// The results of a call of [`Fleet::plan`], one for each problem. `plans.iter().map(Result::cloned)` owns its plans.
#[derive(Debug, Clone, Copy)]
pub struct Plans<'a, const N: usize, const M: usize> {
    members: &'a [Member<N, M>],
}

impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> Fleet<N, M, D, A> {
    /// Creates a fleet of `problems` problems, whose plans are `options.initial` at every time step. Everything that
    /// [`plan`](Self::plan) and [`samples`](Self::samples) need is compiled and allocated here, as by [`Planner::new`].
    ///
    /// # Errors
    ///
    /// If an option is out of range, `problems` (times the chains of a diffusion planner, and times the scenarios) is
    /// not between 1 and 65,535, the model cannot become a kernel, or the device fails.
    pub fn new(engine: &Engine, model: D, options: A, problems: usize) -> Result<Self, BuildError> {
        Ok(Self { planner: Planner::of_members(engine, model, options, problems)? })
    }

    /// As [`new`](Self::new), without blocking the thread in a browser: see [`Planner::new_async`].
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub async fn new_async(engine: &Engine, model: D, options: A, problems: usize) -> Result<Self, BuildError> {
        Ok(Self { planner: Planner::of_members_async(engine, model, options, problems).await? })
    }

    /// Improves the plan of every problem for its state, all in one launch, and returns a result for each problem.
    ///
    /// The result of a problem is an error if its state is not finite or none of its rollouts has a finite cost. Then
    /// its plan is kept, and the other problems are not affected.
    ///
    /// # Errors
    ///
    /// If the number of states is not that of the problems, a call is [pending](Self::start), or the device fails. Then
    /// all plans are kept.
    pub fn plan(&mut self, states: &[[f32; N]]) -> Result<Plans<'_, N, M>, PlanError> {
        self.check_count(states)?;
        self.planner.run_all(states, None, usize::MAX)?;
        Ok(self.plans())
    }

    /// As [`plan`](Self::plan), but within a time budget for the whole launch: see [`Planner::plan_within`]. All
    /// problems have the same number of passes and rows. [`Plan::passes`], [`Plan::samples`], [`Plan::effort`] and
    /// [`Plan::age`] of each plan tell what was done. If the budget suffices, the plans are those of `plan`, to the
    /// bit.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan). The plan of a problem that fails is kept, and [`advance`](Self::advance) continues it.
    pub fn plan_within(&mut self, states: &[[f32; N]], budget: Duration) -> Result<Plans<'_, N, M>, PlanError> {
        let start = Instant::now();
        self.plan_within_by(states, budget, || start.elapsed())
    }

    /// As [`plan_within`](Self::plan_within), by a clock of the caller's, such as that of a simulation. `now` returns
    /// the time since any fixed instant.
    ///
    /// # Errors
    ///
    /// As [`plan_within`](Self::plan_within).
    pub fn plan_within_by(
        &mut self,
        states: &[[f32; N]],
        budget: Duration,
        now: impl FnMut() -> Duration,
    ) -> Result<Plans<'_, N, M>, PlanError> {
        self.check_count(states)?;
        self.planner.run_within(states, budget, now)?;
        Ok(self.plans())
    }

    /// As [`plan_within`](Self::plan_within), without blocking the thread: see [`Planner::plan_within_async`].
    ///
    /// # Errors
    ///
    /// As [`plan_within`](Self::plan_within).
    pub async fn plan_within_async(
        &mut self,
        states: &[[f32; N]],
        budget: Duration,
    ) -> Result<Plans<'_, N, M>, PlanError> {
        let start = Instant::now();
        self.plan_within_by_async(states, budget, || start.elapsed()).await
    }

    /// As [`plan_within_by`](Self::plan_within_by), without blocking the thread: see [`Planner::plan_within_async`].
    ///
    /// # Errors
    ///
    /// As [`plan_within`](Self::plan_within).
    pub async fn plan_within_by_async(
        &mut self,
        states: &[[f32; N]],
        budget: Duration,
        now: impl FnMut() -> Duration,
    ) -> Result<Plans<'_, N, M>, PlanError> {
        self.check_count(states)?;
        self.planner.run_within_async(states, budget, now).await?;
        Ok(self.plans())
    }

    /// Refuses states that are not one for each problem.
    fn check_count(&self, states: &[[f32; N]]) -> Result<(), InvalidValue> {
        if states.len() == self.len() {
            return Ok(());
        }
        let expected = format_args!("one for each of the {} problems", self.len());
        Err(InvalidValue::new("states", format_args!("{} states", states.len()), expected))
    }

    /// The results of the last call.
    fn plans(&self) -> Plans<'_, N, M> {
        Plans { members: &self.planner.members }
    }

    /// Starts a call of [`plan`](Self::plan) without waiting for it, as [`Planner::start`] does. [`poll`](Self::poll)
    /// returns the results of all problems once they are available, [`finish`](Self::finish) waits for them, and
    /// [`cancel`](Self::cancel) gives them up. They are the same to the bit as those of `plan`. The CPU backend
    /// computes here, so that the first `poll` returns the results.
    ///
    /// While a call is pending, the previous plans are kept, and
    ///
    /// - [`set_params`](Self::set_params), [`set_references`](Self::set_references),
    ///   [`set_scenarios`](Self::set_scenarios), [`set_field`](Self::set_field),
    ///   [`update_field`](Self::update_field), [`set_field_origin`](Self::set_field_origin),
    ///   [`set_weights`](Self::set_weights) and [`reseed`](Self::reseed) affect the next call;
    /// - [`shift`](Self::shift) shifts the previous plan of its problem now, and the result of that problem when it is
    ///   available, after `poll` or `finish` has returned it unshifted; the other problems are not affected;
    /// - [`set_controls`](Self::set_controls) and [`reset`](Self::reset), even of a single problem,
    ///   [`set_options`](Self::set_options), [`resize`](Self::resize) and [`move_to`](Self::move_to) cancel the call of
    ///   all problems;
    /// - [`plan`](Self::plan), [`plan_within`](Self::plan_within) and [`samples`](Self::samples) return
    ///   [`PlanError::Busy`].
    ///
    /// # Errors
    ///
    /// [`PlanError::Busy`] if a call is pending, or one that was canceled or timed out still runs on the device; if the
    /// number of states is not that of the problems, none of the states is finite, or the device fails. If only some
    /// states are not finite, the call is started, and the results of their problems are errors.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::models::Pendulum;
    /// use gibbs::{Engine, Fleet, MppiOptions};
    ///
    /// let mut fleet = Fleet::new(&Engine::new()?, Pendulum::default(), MppiOptions::default(), 2)?;
    /// fleet.start(&[[1.0, 0.0], [2.0, 0.0]])?;
    /// loop {
    ///     if let Some(plans) = fleet.poll()? {
    ///         for plan in plans.iter() {
    ///             println!("apply {}", plan?.controls()[0][0]);
    ///         }
    ///         break;
    ///     }
    ///     // Do other work here.
    /// }
    /// # Ok::<(), gibbs::Error>(())
    /// ```
    pub fn start(&mut self, states: &[[f32; N]]) -> Result<(), PlanError> {
        self.check_count(states)?;
        let is_started = self.planner.submit(states, None, usize::MAX, Wait::Polling)?;
        if is_started { Ok(()) } else { result(&self.planner.members[0]).map(drop) }
    }

    /// Returns the results of the pending call if they are available, without blocking. Returns `None` if they are not,
    /// or if no call is pending.
    ///
    /// # Errors
    ///
    /// If the device fails. Then no call is pending, and all plans are kept.
    pub fn poll(&mut self) -> Result<Option<Plans<'_, N, M>>, PlanError> {
        let is_over = self.planner.complete(Wait::Polling)?;
        Ok(is_over.then(|| self.plans()))
    }

    /// Waits for the results of the pending call.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll), and if no call is pending.
    pub fn finish(&mut self) -> Result<Plans<'_, N, M>, PlanError> {
        finished(&mut self.planner)?;
        Ok(self.plans())
    }

    /// Whether a call has been started and not finished.
    pub fn is_pending(&self) -> bool {
        self.planner.is_pending()
    }

    /// Gives up the pending call, if there is one: see [`Planner::cancel`].
    pub fn cancel(&mut self) {
        self.planner.cancel();
    }

    /// As [`plan`](Self::plan), without blocking the thread: see [`Planner::plan_async`].
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan), and [`PlanError::Busy`] if a call is [pending](Self::start).
    pub async fn plan_async(&mut self, states: &[[f32; N]]) -> Result<Plans<'_, N, M>, PlanError> {
        self.check_count(states)?;
        self.planner.run_all_async(states, None, usize::MAX).await?;
        Ok(self.plans())
    }

    /// B, the number of problems.
    pub fn len(&self) -> usize {
        self.planner.members.len()
    }

    /// Always false: there is at least one problem.
    pub fn is_empty(&self) -> bool {
        self.planner.members.is_empty()
    }

    /// Returns an error if there is no such problem.
    fn check(&self, problem: usize) -> Result<(), InvalidValue> {
        check_index(problem, self.len())
    }

    /// Shifts the plan of a problem by `steps` time steps: see [`Planner::shift`].
    ///
    /// # Errors
    ///
    /// If there is no such problem.
    pub fn shift(&mut self, problem: usize, steps: usize) -> Result<(), InvalidValue> {
        self.check(problem)?;
        self.planner.shift_member(problem, steps);
        Ok(())
    }

    /// Shifts all plans by `steps` time steps.
    pub fn shift_all(&mut self, steps: usize) {
        self.planner.each().for_each(|i| self.planner.shift_member(i, steps));
    }

    /// Gives the control sequence that a proposal of a problem starts from in the next call: see [`Planner::propose`].
    ///
    /// # Errors
    ///
    /// If there is no such problem or proposal, or the sequence does not have T time steps or is not finite.
    pub fn propose(&mut self, problem: usize, index: usize, controls: &[[f32; M]]) -> Result<(), InvalidValue> {
        self.check(problem)?;
        self.planner.propose_to(problem, index, controls)
    }

    /// Returns the control of a problem to apply now, and moves its plan on by one time step: see [`Planner::advance`].
    ///
    /// # Errors
    ///
    /// If there is no such problem.
    pub fn advance(&mut self, problem: usize) -> Result<[f32; M], InvalidValue> {
        self.check(problem)?;
        Ok(self.planner.advance_member(problem, 1.0, self.options().task().dt))
    }

    /// Returns the control of a problem to apply for the next `seconds`, and moves its plan on by that time: see
    /// [`Planner::advance_by`].
    ///
    /// # Errors
    ///
    /// If there is no such problem, or `seconds` is negative or not finite. Then nothing is changed.
    pub fn advance_by(&mut self, problem: usize, seconds: f32) -> Result<[f32; M], InvalidValue> {
        self.check(problem)?;
        self.planner.advance_member_by(problem, seconds)
    }

    /// The control of a problem that was applied last: see [`Planner::last_control`].
    ///
    /// # Errors
    ///
    /// If there is no such problem.
    pub fn last_control(&self, problem: usize) -> Result<[f32; M], InvalidValue> {
        self.check(problem)?;
        Ok(self.planner.last_control_of(problem))
    }

    /// Replaces the control of a problem that was applied last: see [`Planner::set_last_control`].
    ///
    /// # Errors
    ///
    /// If there is no such problem, or the control is not finite.
    pub fn set_last_control(&mut self, problem: usize, control: &[f32; M]) -> Result<(), InvalidValue> {
        self.check(problem)?;
        self.planner.set_last_control_of(problem, control)
    }

    /// Resets the plan of a problem to `options.initial` at every time step and restarts its noise. Its parameters,
    /// references and seed are kept. A [pending](Self::start) call of all problems is canceled.
    ///
    /// # Errors
    ///
    /// If there is no such problem.
    pub fn reset(&mut self, problem: usize) -> Result<(), InvalidValue> {
        self.check(problem)?;
        self.planner.reset_member(problem);
        Ok(())
    }

    /// As [`reset`](Self::reset), for all problems.
    pub fn reset_all(&mut self) {
        self.planner.each().for_each(|i| self.planner.reset_member(i));
        self.planner.time_per_row = None;
    }

    /// Replaces the seed of a problem and restarts its noise.
    ///
    /// # Errors
    ///
    /// If there is no such problem.
    pub fn reseed(&mut self, problem: usize, seed: u64) -> Result<(), InvalidValue> {
        self.check(problem)?;
        let member = &mut self.planner.members[problem];
        (member.seed, member.number) = (Some(seed), 0);
        Ok(())
    }

    /// The control sequence that the next call of a problem starts from, T × M; with several chains, that of the best
    /// one.
    ///
    /// # Errors
    ///
    /// If there is no such problem.
    pub fn controls(&self, problem: usize) -> Result<&[[f32; M]], InvalidValue> {
        self.check(problem)?;
        Ok(self.planner.controls_of(problem))
    }

    /// Replaces the control sequence that the next call of a problem starts from, in every chain. A
    /// [pending](Self::start) call of all problems is canceled.
    ///
    /// # Errors
    ///
    /// If there is no such problem, or the sequence does not have T time steps or is not finite. The next call applies
    /// the limits to it.
    pub fn set_controls(&mut self, problem: usize, controls: &[[f32; M]]) -> Result<(), InvalidValue> {
        self.check(problem)?;
        self.planner.set_controls_of(problem, controls)
    }

    /// Sets run-time parameters for one problem, which take precedence over those of the options. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If there is no such problem, or the parameters are fewer than the model uses or a scenario deviates in, or not
    /// finite.
    pub fn set_params(&mut self, problem: usize, params: &[f32]) -> Result<(), InvalidValue> {
        self.check(problem)?;
        let reader = self.planner.reader();
        self.planner.change_inputs(|inputs, _, members| {
            let own = &mut members[problem].params;
            let is_first = own.is_none();
            let set = inputs.set_params(problem, own.get_or_insert_default(), params, &[reader]);
            if set.is_err() && is_first {
                *own = None;
            }
            set
        })
    }

    /// Sets the reference table of one problem, which takes precedence over that of the options: see
    /// [`Planner::set_references`]. Tables of different problems may differ in size. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If there is no such problem, or the table is empty or ragged, has fewer columns than the model uses, or is not
    /// finite.
    pub fn set_references(&mut self, problem: usize, values: &[f32], columns: usize) -> Result<(), InvalidValue> {
        self.check(problem)?;
        let reader = self.planner.reader();
        self.planner.change_inputs(|inputs, _, members| {
            inputs.set_references(problem, &mut members[problem].references, values, columns, &[reader])
        })
    }

    /// Replaces the scenarios by as many others, for all problems: see [`Planner::set_scenarios`].
    ///
    /// # Errors
    ///
    /// As [`Planner::set_scenarios`].
    pub fn set_scenarios(&mut self, scenarios: Vec<Scenario>) -> Result<(), InvalidValue> {
        self.planner.set_scenarios(scenarios)
    }

    /// Replaces one sampled field, for all problems. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// As [`Planner::set_field`].
    pub fn set_field(&mut self, index: usize, grid: Grid) -> Result<(), InvalidValue> {
        self.planner.set_field(index, grid)
    }

    /// Overwrites a rectangle of samples of one field in place, for all problems: see [`Planner::update_field`].
    ///
    /// # Errors
    ///
    /// As [`Planner::update_field`].
    pub fn update_field(&mut self, index: usize, region: impl Into<Block>, values: &[f32]) -> Result<(), InvalidValue> {
        self.planner.update_field(index, region, values)
    }

    /// Moves one field, for all problems: see [`Planner::set_field_origin`].
    ///
    /// # Errors
    ///
    /// As [`Planner::set_field_origin`].
    pub fn set_field_origin<const K: usize>(&mut self, index: usize, origin: [f32; K]) -> Result<(), InvalidValue> {
        self.planner.set_field_origin(index, origin)
    }

    /// Replaces the weights of the model's networks, for all problems. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// As [`Planner::set_weights`].
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<(), InvalidValue> {
        self.planner.set_weights(weights)
    }

    /// Replaces all options but the horizon and the number of samples, for all problems: see [`Planner::set_options`].
    /// The plans are kept, and so are seeds, parameters and references that were set for one problem.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). Then nothing is changed, but the samples of the last call may be gone.
    pub fn set_options(&mut self, options: A) -> Result<(), BuildError> {
        self.planner.set_options(options)
    }

    /// As [`set_options`](Self::set_options), without blocking the thread in a browser: see
    /// [`Planner::set_options_async`].
    ///
    /// # Errors
    ///
    /// As [`set_options`](Self::set_options).
    pub async fn set_options_async(&mut self, options: A) -> Result<(), BuildError> {
        self.planner.set_options_async(options).await
    }

    /// Changes the horizon and the number of samples of all problems: see [`Planner::resize`].
    ///
    /// # Errors
    ///
    /// If a size is out of range, or the device has no room. Then nothing is changed, but the samples of the last call
    /// may be gone.
    pub fn resize(&mut self, horizon: usize, samples: usize) -> Result<(), BuildError> {
        self.planner.resize(horizon, samples)
    }

    /// As [`resize`](Self::resize), without blocking the thread in a browser: see [`Planner::resize_async`].
    ///
    /// # Errors
    ///
    /// As [`resize`](Self::resize).
    pub async fn resize_async(&mut self, horizon: usize, samples: usize) -> Result<(), BuildError> {
        self.planner.resize_async(horizon, samples).await
    }

    /// Moves the fleet, with its plans, to another engine: see [`Planner::move_to`].
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). Then nothing is changed, but the samples of the last call may be gone.
    pub fn move_to(&mut self, engine: &Engine) -> Result<(), BuildError> {
        self.planner.move_to(engine)
    }

    /// As [`move_to`](Self::move_to), without blocking the thread in a browser: see [`Planner::move_to_async`].
    ///
    /// # Errors
    ///
    /// As [`move_to`](Self::move_to).
    pub async fn move_to_async(&mut self, engine: &Engine) -> Result<(), BuildError> {
        self.planner.move_to_async(engine).await
    }

    /// Copies everything that the next call depends on besides options, model and engine: see [`Planner::snapshot`].
    /// Seeds, parameters and references that were set for one problem are part of it.
    pub fn snapshot(&self) -> Snapshot<M> {
        self.planner.snapshot()
    }

    /// Continues from a snapshot: see [`Planner::restore`].
    ///
    /// # Errors
    ///
    /// If the snapshot differs from this fleet in the number of problems, the horizon, the number of chains or
    /// proposals, or a number is not finite. Then nothing is changed.
    pub fn restore(&mut self, snapshot: &Snapshot<M>) -> Result<(), InvalidValue> {
        self.planner.restore_members(snapshot)
    }

    /// Clones the fleet, and allocates everything that the next call needs: see [`Planner::try_clone`].
    ///
    /// # Errors
    ///
    /// If the device fails or runs out of memory.
    pub fn try_clone(&self) -> Result<Self, BuildError> {
        Ok(Self { planner: self.planner.try_clone()? })
    }

    /// As [`try_clone`](Self::try_clone), without blocking the thread in a browser: see [`Planner::try_clone_async`].
    ///
    /// # Errors
    ///
    /// As [`try_clone`](Self::try_clone).
    pub async fn try_clone_async(&self) -> Result<Self, BuildError> {
        Ok(Self { planner: self.planner.try_clone_async().await? })
    }

    /// Fetches the rows of a problem's last pass with their costs and weights from the device: see
    /// [`Planner::samples`].
    ///
    /// # Errors
    ///
    /// If there is no such problem, the last call failed for it, the fleet was changed since, a call is
    /// [pending](Self::start), or the device fails.
    pub fn samples(&mut self, problem: usize) -> Result<Samples<'_, N, M>, PlanError> {
        self.check(problem)?;
        self.planner.samples_of(problem)
    }

    /// As [`samples`](Self::samples), without blocking the thread: see [`Planner::samples_async`].
    ///
    /// # Errors
    ///
    /// As [`samples`](Self::samples).
    pub async fn samples_async(&mut self, problem: usize) -> Result<Samples<'_, N, M>, PlanError> {
        self.check(problem)?;
        self.planner.samples_of_async(problem).await
    }

    /// Compiles what [`device_trajectories`](Self::device_trajectories) needs: see
    /// [`Planner::prepare_device_trajectories`].
    ///
    /// # Errors
    ///
    /// As [`Planner::prepare_device_trajectories`].
    #[cfg(feature = "gpu")]
    pub fn prepare_device_trajectories(&mut self) -> Result<(), BuildError> {
        self.planner.prepare_device_trajectories()
    }

    /// As [`prepare_device_trajectories`](Self::prepare_device_trajectories), without blocking the thread in a browser:
    /// see [`Planner::prepare_device_trajectories_async`].
    ///
    /// # Errors
    ///
    /// As [`prepare_device_trajectories`](Self::prepare_device_trajectories).
    #[cfg(feature = "gpu")]
    pub async fn prepare_device_trajectories_async(&mut self) -> Result<(), BuildError> {
        self.planner.prepare_device_trajectories_async().await
    }

    /// Rolls out rows of a problem's last pass into a buffer on the device: see [`Planner::device_trajectories`]. Each
    /// problem has buffers of its own.
    ///
    /// # Errors
    ///
    /// As [`Planner::device_trajectories`], and if there is no such problem or the last call failed for it.
    #[cfg(feature = "gpu")]
    pub fn device_trajectories(&mut self, problem: usize, rows: usize) -> Result<DeviceTrajectories, PlanError> {
        self.check(problem)?;
        self.planner.device_trajectories_of(problem, rows)
    }

    /// Computes a [`Feedback`] around the last plan of a problem: see [`Planner::feedback`].
    ///
    /// # Errors
    ///
    /// If there is no such problem or it has no plan yet, a weight is out of range, or a derivative of the model along
    /// the plan or a gain is not finite.
    pub fn feedback(&self, problem: usize, weights: FeedbackWeights<N, M>) -> Result<Feedback<N, M>, FeedbackError> {
        self.check(problem)?;
        self.planner.feedback_of(problem, weights)
    }

    /// As [`feedback`](Self::feedback), but replaces an earlier feedback: see [`Planner::update_feedback`].
    ///
    /// # Errors
    ///
    /// As [`feedback`](Self::feedback). Then the feedback is not changed.
    pub fn update_feedback(&self, problem: usize, feedback: &mut Feedback<N, M>) -> Result<(), FeedbackError> {
        self.check(problem)?;
        self.planner.update_feedback_of(problem, feedback)
    }

    /// Rolls out any control sequence in plain `f32`, with the parameters and references of a problem: see
    /// [`Planner::simulate`].
    ///
    /// # Errors
    ///
    /// If there is no such problem, or the state or the controls are not finite.
    pub fn simulate(
        &self,
        problem: usize,
        x: &[f32; N],
        controls: &[[f32; M]],
    ) -> Result<(Vec<[f32; N]>, f32), InvalidValue> {
        self.check(problem)?;
        self.planner.simulate_of(problem, None, x, controls)
    }

    /// As [`simulate`](Self::simulate), in scenario `s` of the task: see [`Planner::simulate_scenario`].
    ///
    /// # Errors
    ///
    /// If there is no such problem or scenario, or the state or the controls are not finite.
    pub fn simulate_scenario(
        &self,
        problem: usize,
        s: usize,
        x: &[f32; N],
        controls: &[[f32; M]],
    ) -> Result<(Vec<[f32; N]>, f32), InvalidValue> {
        self.check(problem)?;
        self.planner.simulate_of(problem, Some(s), x, controls)
    }

    /// The terms of the cost of a problem's last plan: see [`Planner::terms`].
    ///
    /// # Errors
    ///
    /// If there is no such problem, the last call failed for it, or the fleet was changed since.
    pub fn terms(&self, problem: usize) -> Result<Terms, PlanError> {
        self.check(problem)?;
        self.planner.last_terms(problem)
    }

    /// The terms of the cost of any control sequence, with the parameters and references of a problem: see
    /// [`Planner::terms_of`].
    ///
    /// # Errors
    ///
    /// If there is no such problem, or the state or the controls are not finite.
    pub fn terms_of(&self, problem: usize, x: &[f32; N], controls: &[[f32; M]]) -> Result<Terms, InvalidValue> {
        self.check(problem)?;
        self.planner.simulated_terms(problem, x, controls)
    }

    /// The plan of a problem's last call that succeeded, if there is one: see [`Planner::last_plan`].
    ///
    /// # Errors
    ///
    /// If there is no such problem.
    pub fn last_plan(&self, problem: usize) -> Result<Option<&Plan<N, M>>, InvalidValue> {
        self.check(problem)?;
        Ok(self.planner.last_plan_of(problem))
    }

    /// The current options, which all problems share.
    pub fn options(&self) -> &A {
        self.planner.options()
    }

    /// The seed of a problem.
    ///
    /// # Errors
    ///
    /// If there is no such problem.
    pub fn seed(&self, problem: usize) -> Result<u64, InvalidValue> {
        self.check(problem)?;
        Ok(self.planner.seed_of(problem))
    }

    /// The run-time parameters of a problem: its own, or those of the options.
    ///
    /// # Errors
    ///
    /// If there is no such problem.
    pub fn params(&self, problem: usize) -> Result<&[f32], InvalidValue> {
        self.check(problem)?;
        Ok(self.planner.members[problem].params(self.options().task()))
    }

    /// The references of a problem: its own, or those of the options.
    ///
    /// # Errors
    ///
    /// If there is no such problem.
    pub fn references(&self, problem: usize) -> Result<Option<&References>, InvalidValue> {
        self.check(problem)?;
        Ok(self.planner.members[problem].references(self.options().task()))
    }

    /// The engine in use.
    pub fn engine(&self) -> &Engine {
        self.planner.engine()
    }

    /// The model that is controlled.
    pub fn model(&self) -> &D {
        self.planner.model()
    }

    /// The planner that holds all problems.
    #[cfg(all(test, feature = "gpu"))]
    pub(crate) fn planner(&mut self) -> &mut Planner<N, M, D, A> {
        &mut self.planner
    }
}

impl<'a, const N: usize, const M: usize> Plans<'a, N, M> {
    /// B, the number of problems.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Always false: there is at least one problem.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The plan of a problem.
    ///
    /// # Errors
    ///
    /// If there is no such problem, its state is not finite, or no rollout of any of its chains has a finite cost.
    pub fn get(&self, problem: usize) -> Result<&'a Plan<N, M>, PlanError> {
        check_index(problem, self.members.len())?;
        result(&self.members[problem])
    }

    /// The results of all problems in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Result<&'a Plan<N, M>, PlanError>> + use<'a, N, M> {
        self.members.iter().map(result)
    }
}

fn check_index(problem: usize, count: usize) -> Result<(), InvalidValue> {
    if problem < count {
        return Ok(());
    }
    Err(InvalidValue::new("problem", problem, format_args!("below the number of problems, {count}")))
}

fn result<const N: usize, const M: usize>(member: &Member<N, M>) -> Result<&Plan<N, M>, PlanError> {
    member.outcome.clone().map(|_| &member.plan)
}

/// Makes a second fleet that continues independently, as the clone of a [`Planner`] does.
/// [`try_clone`](Fleet::try_clone) also allocates its buffers.
impl<const N: usize, const M: usize, D, A: Clone> Clone for Fleet<N, M, D, A> {
    fn clone(&self) -> Self {
        Self { planner: self.planner.clone() }
    }
}

impl<const N: usize, const M: usize, D, A: std::fmt::Debug> std::fmt::Debug for Fleet<N, M, D, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet")
            .field("engine", &self.planner.engine)
            .field("options", &self.planner.options)
            .field("problems", &self.planner.members.len())
            .finish_non_exhaustive()
    }
}
