//! Diffusion: reverse processes whose score is a weighted mean.
//!
//! A forward process adds noise to x₀ until level i, x = x₀ + σ_i ε. Given x, the engine averages rows under the
//! posterior of x₀, whose mean x̂₀ = E[x₀ | x] is all that the reverse step needs: ∇ log p_{σ_i}(x) = (x̂₀ − x)/σ_i².
//! So a level is one pass of the engine: rows around x with standard deviation σ_i, scored, weighed, averaged, and
//!
//! ```text
//! x⁺ = a·x̂₀ + b·x + c·z,    z ~ N(0, Σ)
//! ```
//!
//! **Coordinates.** Everything here is in clean coordinates, x = x_i/√ᾱ_i of the variance-preserving literature, where
//! σ_i = √(1/ᾱ_i − 1) alone describes a level. In these coordinates DDPM, DDIM and the variance-exploding samplers are
//! one family with a = 1 − b and b = √(σ'² − c²)/σ (see [`Sampler`]), and Monte Carlo score ascent is MPPI with an
//! annealed σ. (C. Pan et al., *Model-based diffusion for trajectory optimization*, arXiv 2407.01573; J. Song et al.,
//! *Denoising diffusion implicit models*, arXiv 2010.02502; T. Karras et al., *Elucidating the design space of
//! diffusion-based generative models*, arXiv 2206.00364.)
//!
//! [`DiffusionSampler`] runs chains of an [`Energy`] or of a data set; the planners of [`control`](crate::control) use
//! the same [`ReverseProcess`]. This module maps levels to passes of the engine, which does the numerics. It imports
//! [`runtime`](crate::runtime) and everything below it, but no backend. Start reading at `process.rs`, then at
//! `chains.rs`.

pub(crate) mod chains;
pub(crate) mod process;
pub(crate) mod sampler;
pub(crate) mod schedule;

pub use chains::{Chains, DiffusionSampler, DiffusionSamplerOptions, Energy};
pub use process::{ReverseProcess, SampleWidth};
pub use sampler::Sampler;
pub use schedule::Schedule;
