//! Opening the device that plans and draws.

use anyhow::{Context, Result, bail};
use gibbs::{Backend, wgpu};

/// The interface to the drivers of this machine.
pub fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        flags: wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL.with_env(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

/// The adapter to open: a hardware GPU if there is one, else a software adapter, unless the backend is given. It can
/// show pictures on `surface`, if there is one.
pub fn adapter(
    instance: &wgpu::Instance,
    backend: Backend,
    surface: Option<&wgpu::Surface<'_>>,
) -> Result<wgpu::Adapter> {
    let software = match backend {
        Backend::Auto => [false, true].as_slice(),
        Backend::Gpu => &[false],
        Backend::Software => &[true],
        _ => bail!("the viewer draws what the planner leaves on a device, so that the backend must be gpu or software"),
    };
    let all = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let usable = |adapter: &&wgpu::Adapter| surface.is_none_or(|surface| adapter.is_surface_supported(surface));
    let rank = |adapter: &wgpu::Adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => 2,
        wgpu::DeviceType::Cpu => 3,
    };
    let chosen = all
        .iter()
        .filter(usable)
        .filter(|adapter| software.contains(&(rank(adapter) == 3)))
        .min_by_key(|adapter| rank(adapter));
    chosen.cloned().with_context(|| {
        let shows = if surface.is_some() { " that can show a window" } else { "" };
        match backend {
            Backend::Gpu => format!("there is no GPU{shows}; --backend software draws on the CPU, if a driver does"),
            _ => format!(
                "there is no GPU{shows}, and no Vulkan driver that runs on the CPU (Debian: mesa-vulkan-drivers)"
            ),
        }
    })
}

/// Opens an adapter.
pub fn open(adapter: &wgpu::Adapter) -> Result<(wgpu::Device, wgpu::Queue)> {
    // With 64-bit integers, noise takes less time.
    let required_features = adapter.features() & wgpu::Features::SHADER_INT64;
    let descriptor = wgpu::DeviceDescriptor { required_features, ..Default::default() };
    pollster::block_on(adapter.request_device(&descriptor)).context("the device cannot be opened")
}
