//! The GPU backend: WGSL kernels on Vulkan, Metal, DX12 or WebGPU through wgpu. It runs a list of passes in one
//! submission.

pub(crate) mod averager;
pub(crate) mod checks;
pub(crate) mod device;
pub(crate) mod evaluate;
pub(crate) mod filter;
#[cfg(test)]
pub(crate) mod generated;
pub(crate) mod kernels;
pub(crate) mod pending;
mod rows;
pub(crate) mod source;
pub(crate) mod upload;
pub(crate) mod warm_up;
pub(crate) mod workspace;

pub(crate) use averager::Averager;
pub(crate) use device::{Device, adapters};
pub(crate) use source::{saved, specialized};
#[cfg(test)]
pub(crate) use workspace::Sizes;
pub(crate) use workspace::{Fetching, Workspace};
