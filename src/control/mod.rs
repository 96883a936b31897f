//! Planners: a plan that is improved by MPPI, by the cross-entropy method, or by a reverse diffusion process.
//!
//! [`Planner`] keeps the plan and runs an [`Algorithm`], which turns options into a list of passes. [`Mppi`] and
//! [`DiffusionPlanner`] are planners with the algorithms that ship; a [`Fleet`] solves many problems in one launch. A
//! [`Feedback`] tracks a plan between calls.
//!
//! This module imports reverse processes from [`sampling`](crate::sampling) and everything below it, but no backend.
//! Start reading at `planner/algorithm.rs`, then at `mppi.rs`, an algorithm in full; `planner/mod.rs` runs it.
pub(crate) mod diffusion;
pub(crate) mod mppi;
pub(crate) mod planner;

pub use crate::error::FeedbackError;
pub use diffusion::DiffusionPlanner;
pub use diffusion::options::DiffusionOptions;
pub use mppi::Mppi;
pub use mppi::options::{CostNormalization, MppiOptions};
pub use planner::{
    Algorithm, AnyPlanner, BoxedFuture, Effort, Fallback, Feedback, FeedbackWeights, Fleet, Plan, PlanSource, Planner,
    Plans, Proposal, RowStatistics, Samples, ShiftFill, Smoothing, Snapshot, Symptom, TermStatistics, Terms,
};
