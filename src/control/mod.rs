//! Planners: a plan that is improved by MPPI, by cross-entropy, or by a reverse diffusion process.
pub(crate) mod diffusion;
pub(crate) mod mppi;
pub(crate) mod planner;

pub use diffusion::DiffusionPlanner;
pub use diffusion::options::DiffusionOptions;
pub use mppi::Mppi;
pub use mppi::options::{CostNormalization, MppiOptions};
pub use planner::{Algorithm, Fleet, Plan, Planner, Plans, Samples, ShiftFill};
