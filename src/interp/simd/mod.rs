//! SIMD lanes over `pulp`: [`Real`](crate::Real) on the CPU backend, one lane per rollout.
pub(crate) mod gather;
pub(crate) mod instructions;
pub(crate) mod isa;
pub(crate) mod lanes;
pub(crate) mod mul_wide;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub(crate) mod philox;
pub(crate) mod unroll;
