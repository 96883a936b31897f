//! The five verbs of a pass: propose, score, weigh, average, step. A folder holds what a user chooses from and the CPU kernel;
//! `shaders/` has the same folders for the GPU.
pub(crate) mod average;
pub(crate) mod pass;
pub(crate) mod propose;
pub(crate) mod score;
pub(crate) mod step;
pub(crate) mod threads;
pub(crate) mod weigh;
