//! The interpretations of the language: what a model means as numbers, as dual numbers, as SIMD lanes, as counted operations, and
//! as a trace that is printed as WGSL. None of them is named by [`lang`](crate::lang).
pub(crate) mod dual;
pub(crate) mod f32;
pub(crate) mod op_count;
pub(crate) mod simd;
pub(crate) mod trace;
#[cfg(all(test, feature = "gpu"))]
pub(crate) mod wgsl;
