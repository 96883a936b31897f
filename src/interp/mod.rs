//! The interpretations of the language: types that implement [`Real`](crate::lang::Real), so that one model is plain
//! numbers (`f32.rs`), dual numbers, SIMD lanes, counted operations, or a trace that is printed as WGSL.
//!
//! `wgsl.rs` is an interpretation of `Vector` instead. It prints the crate's own functions (polynomials, Philox,
//! normals, the root finder) as WGSL functions, and is compiled in tests only.
//!
//! This module imports [`lang`](crate::lang) and the errors. Start reading at `f32.rs`, the shortest; `trace/`
//! shows how a model becomes WGSL, `simd/lanes.rs` how it becomes vector instructions.

pub(crate) mod dual;
pub(crate) mod f32;
pub(crate) mod literal;
pub(crate) mod op_count;
pub(crate) mod simd;
pub(crate) mod trace;
#[cfg(all(test, feature = "gpu"))]
pub(crate) mod wgsl;
