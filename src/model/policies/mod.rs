//! Ready-made policies, each a complete [`Policy`](crate::model::policy::Policy) that documents the layout of its
//! parameters.
//!
//! | policy | control | parameters |
//! |---|---|---|
//! | [`OpenLoop`] | u_t, whatever the state | T × M |
//! | [`LinearFeedback`] | K x + k | M × N + M |
//! | [`TimeVaryingFeedback`] | K_t x + k_t | T × (M × N + M) |
//! | [`Mlp`] | a dense network of an [`Observation`] of the state | weights and biases |
//!
//! # Example
//!
//! ```
//! use gibbs::policies::{Activation, Mlp};
//! use gibbs::{Policy, Random, StepContext, Params};
//!
//! // Two states, 32 hidden units, one control between −2 and 2.
//! let policy = Mlp::<2, 1>::new(&[32], Activation::Tanh)?.squashed([-2.0], [2.0])?;
//! let theta = policy.initial(&mut Random::new(1));
//! assert_eq!(theta.len(), (2 + 1) * 32 + 32 + 1);
//!
//! let [u] = policy.act(&StepContext::<f32>::new(0, 0.02), &Params::new(&theta), [0.5, -1.0]);
//! assert!(u.abs() < 2.0);
//! # Ok::<(), gibbs::InvalidValue>(())
//! ```

pub(crate) mod feedback;
pub(crate) mod mlp;
pub(crate) mod open_loop;

pub use crate::lang::{Activation, Network};
pub use feedback::{LinearFeedback, TimeVaryingFeedback};
pub use mlp::{Identity, Mlp, Observation};
pub use open_loop::OpenLoop;

#[cfg(test)]
mod tests;
