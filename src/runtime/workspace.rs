//! The buffers that a driver's passes run on, for either backend.

#![cfg_attr(
    not(feature = "gpu"),
    expect(unused_variables, dead_code, reason = "the CPU backend never makes a caller wait")
)]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[cfg(feature = "gpu")]
use super::browser::may_block;
#[cfg(feature = "gpu")]
use super::gpu;
use super::program::Program;
#[cfg(feature = "gpu")]
use super::{DeviceTrajectories, PlanNumbers};
use super::{RowMemory, bounds, cpu, optimization, span};
use crate::error::{BuildError, EngineError, InvalidValue, PlanError};
use crate::interp::simd::isa::Isa;
use crate::kernels::pass::{INVALID, Pass, Problem, Sums, TILE};
use crate::kernels::score::rollout::SCORES;
use crate::lang::float_env;

/// Durations of the stages of a call.
///
/// They are those of the *last* pass of the call, where it has separate stages:
///
/// - On the CPU, rows that are averaged as soon as they are scored (see [`RowMemory`](crate::runtime::RowMemory)) have
///   none: everything is counted as `rollout`.
/// - On a GPU they are `None` unless [`EngineOptions::timestamps`](crate::runtime::EngineOptions::timestamps) is on and
///   the device has a clock. The step is part of the mean. If one kernel runs the whole pass, everything is counted as
///   `rollout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Timing {
    /// Drawing the rows and rolling them out.
    pub rollout: Option<Duration>,
    /// Converting costs to log-weights, including the search for the temperature.
    pub weigh: Option<Duration>,
    /// Computing the weighted mean.
    pub mean: Option<Duration>,
    /// The step.
    pub step: Option<Duration>,
    /// Wall-clock time of the whole call.
    pub total: Duration,
}

/// The results of running passes.
pub(crate) struct Done<'a> {
    /// The nominal of every problem after the last pass, B × D.
    pub(crate) nominal: &'a mut [f32],
    /// With [`ADAPT`](crate::kernels::pass::ADAPT), the standard-deviation scales after the last pass, B ×
    /// [`Pass::coordinates`]. Without it, they are what they were; a GPU does not return them.
    pub(crate) std_scale: &'a [f32],
    /// With [`SECOND_MOMENT`](crate::kernels::pass::SECOND_MOMENT), the second moments of the last pass's rows, B × D.
    pub(crate) second: &'a [f32],
    /// The sums of every problem.
    pub(crate) sums: &'a [Sums],
    pub(crate) timing: Timing,
}

/// The rows of the last pass of one problem, copied to the host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fetched {
    /// The rows, stored in tiles: see [`Pass::address`].
    pub(crate) rows: Vec<f32>,
    pub(crate) scores: Vec<f32>,
    pub(crate) log_weights: Vec<f32>,
}

impl Fetched {
    /// The cost of row `k`: the sum and its compensation.
    pub(crate) fn cost(&self, k: usize) -> f32 {
        Self::cost_in(&self.scores, k)
    }

    /// As [`cost`](Self::cost), from the scores alone.
    pub(crate) fn cost_in(scores: &[f32], k: usize) -> f32 {
        let at = Self::score(k);
        scores[at] + scores[at + TILE]
    }

    /// The second score of row `k`.
    pub(crate) fn second_score(&self, k: usize) -> f32 {
        self.scores[Self::score(k) + 2 * TILE]
    }

    /// Coordinate `d` of row `k`, which has `width` of them.
    pub(crate) fn coordinate(&self, k: usize, d: usize, width: usize) -> f32 {
        self.rows[k / TILE * TILE * width + d * TILE + k % TILE]
    }

    /// The row of least cost among the first `samples`, which have `width` coordinates, if one is valid.
    pub(crate) fn best_row(&self, samples: usize, width: usize) -> Option<Vec<f32>> {
        let valid = (0..samples).filter(|k| self.log_weights[*k] > INVALID);
        let best = valid.min_by(|a, b| self.cost(*a).total_cmp(&self.cost(*b)))?;
        Some((0..width).map(|d| self.coordinate(best, d, width)).collect())
    }

    /// The index of the scores of row `k`.
    fn score(k: usize) -> usize {
        k / TILE * SCORES + k % TILE
    }
}

/// How a caller waits for a call to complete.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait<'a> {
    /// Block until the call has completed. A function called with this never returns [`Poll::Pending`].
    Blocking,
    /// Return at once; the caller polls again.
    Polling,
    /// Return at once, and wake a task when it should poll again.
    Woken(&'a Waker),
}

/// Who waits in a function that both blocking and `async` callers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A thread, which blocks. The function is run by [`run_to_end`].
    Thread,
    /// A task, which is suspended.
    Task,
}

impl Waiter {
    pub(crate) fn wait<'a>(self, context: &Context<'a>) -> Wait<'a> {
        match self {
            Self::Thread => Wait::Blocking,
            Self::Task => Wait::Woken(context.waker()),
        }
    }
}

/// Runs a function whose waiter is [`Waiter::Thread`], so that it is ready when it is first polled.
pub(crate) fn run_to_end<T, E: From<EngineError>>(function: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    match pin!(function).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(EngineError::WouldBlock.into()),
    }
}

/// Unwraps the result of a function called with [`Wait::Blocking`].
pub(crate) fn blocking<T, E: Into<PlanError>>(result: Poll<Result<T, E>>) -> Result<T, PlanError> {
    match result {
        Poll::Ready(result) => result.map_err(Into::into),
        Poll::Pending => Err(PlanError::Busy),
    }
}

/// The error for asking for results when no call was submitted.
fn nothing_pending() -> EngineError {
    EngineError::Driver { message: "no call is pending".into() }
}

/// The buffers of one driver on its device.
///
/// A call is [submitted](Self::submit), then [finished](Self::finish), one call at a time. A call that was
/// [abandoned](Self::abandon) or timed out still runs on the device, and must be [drained](Self::drain) before the next
/// one is submitted.
///
/// The CPU backend computes in `submit`, so that later changes to the driver cannot affect the call.
pub(crate) enum Workspace {
    Cpu {
        isa: Isa,
        rows: RowMemory,
        workspace: Box<cpu::Workspace>,
        /// The timing of a call that has been computed and not been finished.
        computed: Option<Timing>,
    },
    #[cfg(feature = "gpu")]
    Gpu(Box<gpu::Workspace>),
}

impl Workspace {
    /// Prepares everything that can fail: compiles pipelines and allocates memory for the passes.
    pub(crate) fn prepare(
        &mut self,
        program: &Program,
        passes: &[Pass],
        problem: &Problem<'_>,
    ) -> Result<(), BuildError> {
        span!(DEBUG, "prepare", passes = passes.len());
        bounds::places(program, passes, problem)?;
        float_env::standard(|| match self {
            Self::Cpu { rows, workspace, .. } => {
                if program.unoptimized {
                    optimization::warn_that_it_is_missing();
                }
                Ok(passes.iter().try_for_each(|pass| workspace.fit(&*program.rollout, *rows, pass))?)
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.prepare(program, passes, problem),
        })
    }

    /// Compiles the kernels that [`submit_fetch`](Self::submit_fetch) needs for rows of the shape last prepared.
    pub(crate) fn prepare_fetch(&mut self) -> Result<(), BuildError> {
        match self {
            Self::Cpu { .. } => Ok(()),
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.prepare_fetch(),
        }
    }

    /// Compiles the kernel that [`trajectories`](Self::trajectories) needs for rows of the shape last prepared.
    #[cfg(feature = "gpu")]
    pub(crate) fn prepare_trajectories(&mut self, program: &Program) -> Result<(), BuildError> {
        match self {
            Self::Cpu { .. } => Ok(()),
            Self::Gpu(workspace) => workspace.prepare_trajectories(program),
        }
    }

    /// Rolls out rows of the last pass of problem `number` again, into a buffer of the device: see
    /// [`gpu::Workspace::trajectories`]. The CPU has no such buffers.
    #[cfg(feature = "gpu")]
    pub(crate) fn trajectories(
        &mut self,
        program: &Program,
        number: usize,
        rows: usize,
        plan: &PlanNumbers<'_>,
        before: Option<&DeviceTrajectories>,
    ) -> Result<DeviceTrajectories, EngineError> {
        match self {
            Self::Cpu { .. } => Err(EngineError::Driver { message: "the CPU has no buffers to share".into() }),
            Self::Gpu(workspace) => workspace.trajectories(program, number as u32, rows, plan, before),
        }
    }

    /// Returns an error where a caller may not block until the device is done: in a browser, for its GPU.
    pub(crate) fn may_block(&self) -> Result<(), EngineError> {
        match self {
            Self::Cpu { .. } => Ok(()),
            #[cfg(feature = "gpu")]
            Self::Gpu(_) => may_block(),
        }
    }

    /// Returns `Ready` once everything that was prepared is known to be valid. Natively, [`prepare`](Self::prepare)
    /// itself returns the errors.
    fn settle(&mut self, wait: Wait<'_>) -> Poll<Result<(), BuildError>> {
        match self {
            Self::Cpu { .. } => Poll::Ready(Ok(())),
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.settle(wait),
        }
    }

    /// Waits, as a task, until everything that was prepared is known to be valid, and compiled.
    pub(crate) async fn settled(&mut self) -> Result<(), BuildError> {
        poll_fn(|context| self.settle(Wait::Woken(context.waker()))).await
    }

    /// Starts to run the passes, in order. It does not wait for the device, unless it has to compile kernels that were
    /// not prepared.
    ///
    /// # Errors
    ///
    /// [`PlanError::Busy`] if an earlier call has not completed.
    pub(crate) fn submit(
        &mut self,
        program: &Program,
        passes: &[Pass],
        problem: &Problem<'_>,
    ) -> Result<(), PlanError> {
        span!(DEBUG, "submit", passes = passes.len(), problems = passes.first().map(|pass| pass.problems));
        bounds::places(program, passes, problem)?;
        float_env::standard(move || match self {
            Self::Cpu { isa, rows, workspace, computed } => {
                if computed.is_some() {
                    return Err(PlanError::Busy);
                }
                *computed = Some(workspace.run(*isa, &*program.rollout, *rows, passes, problem)?);
                Ok(())
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.submit(program, passes, problem),
        })
    }

    /// Returns the results of the submitted call once it has completed. An error abandons the call.
    pub(crate) fn finish(&mut self, wait: Wait<'_>) -> Poll<Result<Done<'_>, PlanError>> {
        match self {
            Self::Cpu { workspace, computed, .. } => {
                let timing = computed.take().ok_or_else(nothing_pending);
                Poll::Ready(timing.map(|timing| workspace.done(timing)).map_err(Into::into))
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.finish(wait).map_err(Into::into),
        }
    }

    /// Gives up the results of the submitted call.
    pub(crate) fn abandon(&mut self) {
        match self {
            Self::Cpu { computed, .. } => *computed = None,
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.abandon(),
        }
    }

    /// Waits for an abandoned call to leave the device.
    pub(crate) fn drain(&mut self, wait: Wait<'_>) -> Poll<Result<(), EngineError>> {
        match self {
            Self::Cpu { .. } => Poll::Ready(Ok(())),
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.drain(wait),
        }
    }

    /// Returns the row of least cost of the last pass of problem `number`, if a row has a finite cost. Returns `None`
    /// if the backend must [fetch](Self::submit_fetch) all rows to find it.
    pub(crate) fn best_row(
        &mut self,
        program: &Program,
        problem: &Problem<'_>,
        number: usize,
    ) -> Option<Result<Option<Vec<f32>>, EngineError>> {
        match self {
            Self::Cpu { isa, rows, workspace, .. } => {
                Some(float_env::standard(|| workspace.best_row(*isa, &*program.rollout, *rows, problem, number)))
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(_) => None,
        }
    }

    /// Starts to fetch the rows of the last pass of problem `number` with their scores and log-weights. Rows that
    /// were not stored are recomputed from `problem`, whose inputs must still be those of that pass.
    pub(crate) fn submit_fetch(
        &mut self,
        program: &Program,
        problem: &Problem<'_>,
        number: usize,
    ) -> Result<Fetching, EngineError> {
        float_env::standard(|| match self {
            Self::Cpu { isa, rows, workspace, .. } => {
                workspace.fetch(*isa, &*program.rollout, *rows, problem, number).map(Fetching::Cpu)
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.submit_fetch(number as u32).map(Fetching::Gpu),
        })
    }
}

#[cfg(test)]
impl Workspace {
    /// Carries the passes out, one after the other, and waits for the results.
    pub(crate) fn run(
        &mut self,
        program: &Program,
        passes: &[Pass],
        problem: &Problem<'_>,
    ) -> Result<Done<'_>, PlanError> {
        self.submit(program, passes, problem)?;
        blocking(self.finish(Wait::Blocking))
    }

    /// Fetches the rows of the last pass of problem `number`.
    pub(crate) fn fetch(
        &mut self,
        program: &Program,
        problem: &Problem<'_>,
        number: usize,
    ) -> Result<Fetched, PlanError> {
        blocking(self.submit_fetch(program, problem, number)?.finish(Wait::Blocking))
    }
}

/// Rows being copied from the device. Dropping it gives them up.
pub(crate) enum Fetching {
    Cpu(Fetched),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Fetching),
}

impl Fetching {
    /// Returns the rows once they have been copied. It can do so once.
    pub(crate) fn finish(&mut self, wait: Wait<'_>) -> Poll<Result<Fetched, EngineError>> {
        match self {
            Self::Cpu(fetched) => Poll::Ready(Ok(std::mem::take(fetched))),
            #[cfg(feature = "gpu")]
            Self::Gpu(fetching) => fetching.finish(wait),
        }
    }
}

/// The weighted mean of one caller on its device, submitted and finished like the calls of a [`Workspace`].
pub(crate) enum Averager {
    Cpu {
        isa: Isa,
        partials: Vec<f32>,
        /// The sums of a call that has been computed and not been finished.
        computed: Option<Sums>,
    },
    #[cfg(feature = "gpu")]
    Gpu(Box<gpu::Averager>),
}

impl Averager {
    /// Creates an averager on the same device.
    pub(crate) fn another(&self) -> Self {
        match self {
            Self::Cpu { isa, .. } => Self::Cpu { isa: *isa, partials: Vec::new(), computed: None },
            #[cfg(feature = "gpu")]
            Self::Gpu(averager) => Self::Gpu(Box::new(averager.another())),
        }
    }

    /// Starts to average rows that are stored contiguously: mean, and second moment if `moments` is twice as long.
    pub(crate) fn submit(
        &mut self,
        pass: &Pass,
        rows: &[f32],
        log_weights: &[f32],
        moments: &mut [f32],
    ) -> Result<(), PlanError> {
        float_env::standard(|| match self {
            Self::Cpu { isa, partials, computed } => {
                if computed.is_some() {
                    return Err(PlanError::Busy);
                }
                *computed = Some(cpu::average(*isa, pass, rows, log_weights, partials, moments)?);
                Ok(())
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(averager) => averager.submit(pass, rows, log_weights, moments.len()),
        })
    }

    /// Returns the sums of the submitted call once it has completed, with the moments in `moments`.
    pub(crate) fn finish(&mut self, wait: Wait<'_>, moments: &mut [f32]) -> Poll<Result<Sums, EngineError>> {
        match self {
            Self::Cpu { computed, .. } => Poll::Ready(computed.take().ok_or_else(nothing_pending)),
            #[cfg(feature = "gpu")]
            Self::Gpu(averager) => averager.finish(wait, moments),
        }
    }

    /// Gives up the results of the submitted call.
    pub(crate) fn abandon(&mut self) {
        match self {
            Self::Cpu { computed, .. } => *computed = None,
            #[cfg(feature = "gpu")]
            Self::Gpu(averager) => averager.abandon(),
        }
    }

    /// See [`Workspace::may_block`].
    pub(crate) fn may_block(&self) -> Result<(), EngineError> {
        match self {
            Self::Cpu { .. } => Ok(()),
            #[cfg(feature = "gpu")]
            Self::Gpu(_) => may_block(),
        }
    }

    /// Waits for an abandoned call to leave the device.
    pub(crate) fn drain(&mut self, wait: Wait<'_>) -> Poll<Result<(), EngineError>> {
        match self {
            Self::Cpu { .. } => Poll::Ready(Ok(())),
            #[cfg(feature = "gpu")]
            Self::Gpu(averager) => averager.drain(wait),
        }
    }
}

/// A driver that has at most one pending call.
pub(crate) trait Calls {
    /// See [`Workspace::may_block`].
    fn may_block(&self) -> Result<(), EngineError>;

    /// See [`Workspace::drain`].
    fn drain(&mut self, wait: Wait<'_>) -> Poll<Result<(), EngineError>>;

    /// Applies the results of the pending call if it has completed, and returns whether it has. After an error no call
    /// is pending.
    fn complete(&mut self, wait: Wait<'_>) -> Result<bool, PlanError>;

    /// Gives up the pending call, if there is one.
    fn cancel(&mut self);
}

/// Cancels the pending call of a driver, if there is one, when it is dropped.
pub(crate) struct CancelOnDrop<'a, D: Calls>(pub(crate) &'a mut D);

impl<D: Calls> Drop for CancelOnDrop<'_, D> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Blocks until the pending call of a driver has completed, and applies its results.
pub(crate) fn finished(driver: &mut impl Calls) -> Result<(), PlanError> {
    // An error below would end the call.
    driver.may_block()?;
    if driver.complete(Wait::Blocking)? {
        return Ok(());
    }
    Err(InvalidValue::new("finish", "called while no call is pending", "preceded by start").into())
}

/// Waits for an abandoned call to leave the device.
pub(crate) async fn drained(driver: &mut impl Calls, waiter: Waiter) -> Result<(), EngineError> {
    poll_fn(|context| driver.drain(waiter.wait(context))).await
}

/// Waits for the pending call of a driver. Dropping the future cancels the call.
pub(crate) async fn completed<D: Calls>(driver: &mut D, waiter: Waiter) -> Result<(), PlanError> {
    let pending = CancelOnDrop(driver);
    poll_fn(|context| match pending.0.complete(waiter.wait(context)) {
        Ok(true) => Poll::Ready(Ok(())),
        Ok(false) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    })
    .await
}
