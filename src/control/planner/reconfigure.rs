//! Changes of a [`Planner`] that need other kernels or more memory: options, sizes, engines, and kernels that are
//! compiled in advance. Each checks everything, replaces, compiles, and restores what it replaced if that fails.

use std::sync::Arc;

use super::algorithm::{self, Algorithm};
use super::options::Proposal;
use super::{Planner, check, problem, sections};
use crate::error::{BuildError, InvalidValue};
use crate::kernels::pass::{TILE, round_up};
use crate::kernels::propose::noise::CovarianceFactors;
use crate::lang::float_env;
use crate::model::Model;
use crate::runtime::program::Program;
use crate::runtime::task::{Reader, Task};
use crate::runtime::{Engine, Waiter, Workspace, drained};

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

impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> Planner<N, M, D, A> {
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
    pub(super) fn take_options(&mut self) {
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

    /// Changes the horizon and the number of samples. The plan is truncated, or extended as
    /// [`ShiftFill`](super::ShiftFill) says. A GPU compiles another kernel when the number of samples crosses 256
    /// (1,024 with many chains), up to which a single kernel does the whole pass unless there are scenarios.
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

    /// Forgets the buffers of a device that is left.
    fn forget_buffers(&mut self) {
        #[cfg(feature = "gpu")]
        self.members.iter_mut().for_each(|member| member.trajectories = None);
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

    /// Compiles and allocates everything that the next call may need.
    pub(super) fn prepare(&mut self) -> Result<(), BuildError> {
        self.workspace.may_block()?;
        self.compile()?;
        self.reserve();
        Ok(())
    }

    pub(super) async fn prepare_async(&mut self) -> Result<(), BuildError> {
        let mut preparing = Preparing { planner: self, failed: false };
        let prepared = preparing.planner.compiled().await;
        preparing.failed = prepared.is_err();
        prepared
    }

    /// Waits, as a task, for abandoned calls to end and for kernels to be compiled.
    async fn compiled(&mut self) -> Result<(), BuildError> {
        drained(self, Waiter::Task).await?;
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

    /// Prepares for a call with given rows, or for one without.
    fn prepare_for(&mut self, given: bool) -> Result<(), BuildError> {
        float_env::standard(|| self.fill_passes(given));
        let problem = problem(&self.inputs, &self.shape, &self.std_scale, &self.nominal);
        self.workspace.prepare(&self.program, &self.passes, &problem)?;
        self.workspace.prepare_fetch()
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
}
