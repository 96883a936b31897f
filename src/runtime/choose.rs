//! Selects the device of an engine and records the reason.

#[cfg(feature = "gpu")]
use super::{AdapterKind, browser::BROWSER, gpu};
use super::{Backend, Device, EngineOptions};
use crate::error::EngineError;

/// The device that the options select, and the reason for the choice.
#[cfg(feature = "gpu")]
pub(super) async fn device(options: &EngineOptions) -> Result<(Device, String), EngineError> {
    if options.adapter.is_none() && options.backend == Backend::Cpu {
        return Ok((Device::Cpu, "the CPU was asked for".into()));
    }
    let found = gpu::adapters().await;
    let names = || found.iter().map(|(adapter, _)| adapter.to_string()).collect::<Vec<_>>();
    let chosen = match options.adapter {
        Some(index) => found.iter().find(|(adapter, _)| adapter.index == index),
        None => {
            let software = options.backend == Backend::Software;
            let rank = |kind| match kind {
                AdapterKind::Discrete => 0,
                AdapterKind::Integrated => 1,
                AdapterKind::Virtual => 2,
                AdapterKind::Unknown => 3,
                AdapterKind::Software => 4,
            };
            let fits = found.iter().filter(|(adapter, _)| (adapter.kind == AdapterKind::Software) == software);
            fits.min_by_key(|(adapter, _)| (rank(adapter.kind), adapter.index))
        }
    };
    let auto = options.adapter.is_none() && options.backend == Backend::Auto;
    let Some((adapter, handle)) = chosen else {
        if auto {
            let reason = match names() {
                none if none.is_empty() && BROWSER => "this browser offers no WebGPU adapter".into(),
                none if none.is_empty() => "there is no GPU driver".into(),
                names => format!("there is no hardware GPU among {}", names.join(", ")),
            };
            return Ok((Device::Cpu, reason));
        }
        let wanted = match (options.adapter, options.backend) {
            (Some(index), _) => format!("adapter of index {index}"),
            (None, Backend::Software) => "software adapter".into(),
            (None, _) => "hardware GPU adapter".into(),
        };
        return Err(EngineError::NoAdapter { wanted, found: names() });
    };
    match gpu::Device::open(adapter.clone(), handle, options).await {
        Ok(device) => {
            let reason = if auto { "the best hardware GPU there is" } else { "it was asked for" };
            Ok((Device::Gpu(std::sync::Arc::new(device)), reason.into()))
        }
        Err(error) if auto => {
            log::warn!("{adapter} cannot be opened, so the CPU is used: {error}");
            Ok((Device::Cpu, format!("{adapter} cannot be opened: {error}")))
        }
        Err(error) => Err(error),
    }
}

/// The device in a build without the GPU backend.
#[cfg(not(feature = "gpu"))]
pub(super) fn device(options: &EngineOptions) -> Result<(Device, String), EngineError> {
    match (options.adapter, options.backend) {
        (None, Backend::Cpu) => Ok((Device::Cpu, "the CPU was asked for".into())),
        (None, Backend::Auto) => Ok((Device::Cpu, "the crate was built without its `gpu` feature".into())),
        (None, Backend::Software) => Err(EngineError::NotCompiled { backend: "software", feature: "gpu" }),
        _ => Err(EngineError::NotCompiled { backend: "gpu", feature: "gpu" }),
    }
}
