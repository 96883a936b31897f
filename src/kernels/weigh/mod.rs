//! Weigh: costs become log-weights.
pub(crate) mod log_weights;
pub(crate) mod root_finder;
pub(crate) mod weighting;

pub use weighting::{Temperature, Weighting};
