//! The GPU backend: WGSL kernels on Vulkan, Metal or DX12 through wgpu. It runs a list of updates in one submission.

mod averager;
mod device;
mod evaluate;
mod filter;
#[cfg(test)]
mod generated;
mod kernels;
mod pending;
mod source;
mod warm_up;
mod workspace;

pub(crate) use averager::Averager;
pub(crate) use device::{Device, adapters};
pub(crate) use source::{saved, specialized};
#[cfg(test)]
pub(crate) use workspace::Sizes;
pub(crate) use workspace::{Fetching, Workspace};
