//! What a [`Planner`] tells besides its plan: the sampled rows, on the host or in buffers of the device, rollouts of
//! given controls, and the terms of their cost.

use std::future::poll_fn;

use super::algorithm::Algorithm;
use super::plan::{Samples, Start, roll_out};
use super::terms::Terms;
use super::{Planner, problem};
use crate::error::{InvalidValue, PlanError, finite};
use crate::lang::float_env;
use crate::model::Model;
#[cfg(feature = "gpu")]
use crate::runtime::{Backend, DeviceTrajectories, PlanNumbers};
use crate::runtime::{Fetched, Fetching, Wait, blocking};

impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> Planner<N, M, D, A> {
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

    pub(super) fn samples_of(&mut self, i: usize) -> Result<Samples<'_, N, M>, PlanError> {
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
        self.samples_of_async(0).await
    }

    pub(super) async fn samples_of_async(&mut self, i: usize) -> Result<Samples<'_, N, M>, PlanError> {
        let (mut fetching, state) = self.fetch(i)?;
        let fetched = poll_fn(|context| fetching.finish(Wait::Woken(context.waker()))).await?;
        Ok(self.fetched(i, state, fetched))
    }

    /// Rolls out the first `rows` rows of the last pass again, or all if there are fewer, and leaves their states and
    /// weights in a buffer on the device, beside one of the plan: so a program that [shares](crate::Engine::from_wgpu)
    /// the device draws thousands of trajectories without a copy to the host. With several chains, these are the rows
    /// of the one that became the plan; with scenarios, they are rolled out in the task itself. They are the
    /// trajectories of [`Samples::states`] and [`Samples::weights`], to rounding; the weights of all rows sum to 1.
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
    pub(super) fn device_trajectories_of(&mut self, i: usize, rows: usize) -> Result<DeviceTrajectories, PlanError> {
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

    /// Refuses an engine that has no buffers to share.
    #[cfg(feature = "gpu")]
    pub(super) fn check_for_buffers(&self) -> Result<(), InvalidValue> {
        if self.engine.backend() == Backend::Cpu {
            let expected = "on a GPU, as by Engine::from_wgpu; on the CPU, Planner::samples returns the same rows";
            return Err(InvalidValue::new("engine", "on the CPU", expected));
        }
        Ok(())
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
    pub(super) fn simulate_of(
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
    /// [`Plan::cost`](crate::Plan::cost), and are averages over the horizon where it is. With scenarios, they are those
    /// of the task itself.
    ///
    /// # Errors
    ///
    /// As [`samples`](Self::samples), except that no device is involved.
    pub fn terms(&self) -> Result<Terms, PlanError> {
        self.last_terms(0)
    }

    pub(super) fn last_terms(&self, i: usize) -> Result<Terms, PlanError> {
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

    pub(super) fn simulated_terms(&self, i: usize, x: &[f32; N], controls: &[[f32; M]]) -> Result<Terms, InvalidValue> {
        finite("state", x)?;
        finite("controls", controls.as_flattened())?;
        let steps = if self.options.averages() { controls.len().max(1) as f32 } else { 1.0 };
        Ok(float_env::standard(|| self.start_of(i, *x).terms(controls, |cost| cost / steps)))
    }
}
