//! The five verbs of a pass: propose, score, weigh, average, step.
//!
//! Each folder or file holds the options that a user chooses from and the CPU kernel of a verb. `shaders/` has the same
//! folders for the GPU. Kernels compute on slices and registers; `threads.rs` distributes the work over threads.
//!
//! This module imports the language, its interpretations, models and errors, and no runtime. Start reading at
//! `pass.rs`, the struct that both backends execute, then follow the verbs in order.
pub(crate) mod average;
pub(crate) mod pass;
pub(crate) mod propose;
pub(crate) mod score;
pub(crate) mod step;
pub(crate) mod threads;
pub(crate) mod weigh;
