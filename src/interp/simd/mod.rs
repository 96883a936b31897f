//! SIMD lanes over `pulp`: [`Real`](crate::Real) on the CPU backend, one lane per rollout.
pub(crate) mod gather;
pub(crate) mod instructions;
pub(crate) mod isa;
pub(crate) mod lanes;
pub(crate) mod mul_wide;
pub(crate) mod unroll;
