//! The buffers that a driver's updates run on, for either backend.

use std::time::Duration;

#[cfg(feature = "gpu")]
use super::gpu;
use super::{RowMemory, bounds, cpu, optimization, program::Program};
use crate::error::{BuildError, EngineError, PlanError};
use crate::float_env;
use crate::pass::{Pass, Problem, Sums};

/// Durations of the stages of a call.
///
/// They are those of the *last* update of the call, where it has separate stages:
///
/// - On the CPU, rows that are averaged as soon as they are scored (see [`RowMemory`](crate::RowMemory)) have none:
///   everything is counted as `rollout`.
/// - On a GPU they are `None` unless [`EngineOptions::timestamps`](crate::EngineOptions::timestamps) is on and the
///   device has a clock. The step is part of the mean. Where one kernel does the whole update, everything is counted as
///   `rollout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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

/// The results of running updates.
pub(crate) struct Done<'a> {
    /// The nominal of every problem after the last update, B × D.
    pub(crate) nominal: &'a [f32],
    /// With [`SECOND_MOMENT`](crate::pass::SECOND_MOMENT), the second moments of the last update's rows, B × D.
    pub(crate) second: &'a [f32],
    /// The sums of every problem.
    pub(crate) sums: &'a [Sums],
    pub(crate) timing: Timing,
}

/// The rows of the last update of one problem, copied to the host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fetched {
    /// In tiles; see [`Pass::address`].
    pub(crate) rows: Vec<f32>,
    pub(crate) scores: Vec<f32>,
    pub(crate) log_weights: Vec<f32>,
}

/// The buffers of one driver on its device.
pub(crate) enum Workspace {
    Cpu(cpu::Isa, RowMemory, Box<cpu::Workspace>),
    #[cfg(feature = "gpu")]
    Gpu(Box<gpu::Workspace>),
}

impl Workspace {
    /// Prepares everything that can fail: compiles pipelines and allocates memory for the updates.
    pub(crate) fn prepare(
        &mut self,
        program: &Program,
        passes: &[Pass],
        problem: &Problem<'_>,
    ) -> Result<(), BuildError> {
        bounds::places(program, passes, problem)?;
        float_env::standard(|| match self {
            Self::Cpu(_, rows, workspace) => {
                if program.unoptimized {
                    optimization::warn_that_it_is_missing();
                }
                Ok(passes.iter().try_for_each(|pass| workspace.fit(&*program.rollout, *rows, pass))?)
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.prepare(program, passes, problem),
        })
    }

    /// Compiles the kernels that [`fetch`](Self::fetch) needs for rows of the shape last prepared.
    pub(crate) fn prepare_fetch(&mut self) -> Result<(), BuildError> {
        match self {
            Self::Cpu(..) => Ok(()),
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.prepare_fetch(),
        }
    }

    /// Runs the updates in order.
    pub(crate) fn run(
        &mut self,
        program: &Program,
        passes: &[Pass],
        problem: &Problem<'_>,
    ) -> Result<Done<'_>, PlanError> {
        bounds::places(program, passes, problem)?;
        float_env::standard(move || match self {
            Self::Cpu(isa, rows, workspace) => workspace.run(*isa, &*program.rollout, *rows, passes, problem),
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.run(program, passes, problem),
        })
    }

    /// The rows of the last update of problem `number` with their scores and log-weights. Rows that were not stored are
    /// recomputed from `problem`, whose inputs must still be those of that update.
    pub(crate) fn fetch(
        &mut self,
        program: &Program,
        problem: &Problem<'_>,
        number: usize,
    ) -> Result<Fetched, EngineError> {
        float_env::standard(|| match self {
            Self::Cpu(isa, rows, workspace) => workspace.fetch(*isa, &*program.rollout, *rows, problem, number),
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.fetch(number as u32),
        })
    }
}

/// The weighted mean of one caller on its device.
pub(crate) enum Averager {
    Cpu(cpu::Isa, Vec<f32>),
    #[cfg(feature = "gpu")]
    Gpu(Box<gpu::Averager>),
}

impl Averager {
    /// Mean, and second moment if `moments` is twice as long, of rows that are stored contiguously.
    pub(crate) fn run(
        &mut self,
        pass: &Pass,
        rows: &[f32],
        log_weights: &[f32],
        moments: &mut [f32],
    ) -> Result<Sums, PlanError> {
        float_env::standard(|| match self {
            Self::Cpu(isa, partials) => Ok(cpu::average(*isa, pass, rows, log_weights, partials, moments)?),
            #[cfg(feature = "gpu")]
            Self::Gpu(averager) => averager.run(pass, rows, log_weights, moments),
        })
    }
}
