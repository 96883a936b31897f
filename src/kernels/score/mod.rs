//! Score: every row gets a cost, by a rollout, by episodes under a policy, or by its distance from a point.
pub(crate) mod distance;
pub(crate) mod episode;
pub(crate) mod risk;
pub(crate) mod rollout;

pub use risk::Risk;
