//! [`Engine`], a handle to a device, and everything that runs passes on it.
//!
//! A driver packs its [`Task`] (`inputs.rs`) and hands a list of passes to a `Workspace` (`workspace.rs`), which
//! checks every size and address (`bounds.rs`) and runs the list on the CPU (`cpu/`) or on a GPU, in as few
//! submissions as its driver allows (`gpu/`). Calls are started and completed separately; a blocking call does both.
//!
//! This module imports kernels, models, interpretations and the language. It names no driver, and drivers name neither
//! `cpu` nor `gpu`. Start reading at `workspace.rs`, then at `cpu/mod.rs`, which is shorter than `gpu/workspace.rs`.

pub(crate) mod bounds;
#[cfg(feature = "gpu")]
pub(crate) mod browser;
pub(crate) mod checksum;
pub(crate) mod choose;
pub(crate) mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod device_trajectories;
#[cfg(test)]
pub(crate) mod episodes;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
pub(crate) mod inputs;
pub(crate) mod kernel_source;
pub(crate) mod optimization;
pub(crate) mod options;
#[cfg(all(test, feature = "gpu"))]
pub(crate) mod parity;
pub(crate) mod program;
pub(crate) mod replace;
pub(crate) mod scenario;
pub(crate) mod span;
pub(crate) mod task;
pub(crate) mod workspace;

use std::sync::Arc;
use std::time::Duration;

use crate::error::EngineError;
pub use crate::interp::simd::isa::Instructions;
use crate::interp::simd::isa::Isa;
use crate::kernels::threads;
pub use crate::lang::math::Math;
#[cfg(feature = "gpu")]
pub use device_trajectories::DeviceTrajectories;
#[cfg(feature = "gpu")]
pub(crate) use device_trajectories::PlanNumbers;
pub use kernel_source::KernelSource;
pub use options::{Adapter, AdapterKind, Backend, EngineOptions, RowMemory, Tuning};
pub use scenario::{Scenario, Spread};
pub(crate) use span::span;
pub use task::{Limits, References, Task};
pub use workspace::Timing;
pub(crate) use workspace::{
    Averager, Calls, CancelOnDrop, Done, Fetched, Fetching, Wait, Waiter, Workspace, blocking, completed, drained,
    finished, run_to_end,
};

#[derive(Debug)]
enum Device {
    Cpu,
    #[cfg(feature = "gpu")]
    Gpu(Arc<gpu::Device>),
}

#[derive(Debug)]
struct Inner {
    device: Device,
    isa: Isa,
    options: EngineOptions,
    reason: String,
}

/// A handle to the device that all passes run on. Cloning it is cheap and gives a handle to the same device.
///
/// Calls of drivers run in the default floating-point environment (round to nearest, subnormals kept) on every
/// participating thread, whatever the calling thread's environment is, and restore it afterwards. So results do not
/// depend on it, on x86 and on AArch64; on other processors the crate does not change it.
///
/// # Example
///
/// ```
/// let engine = gibbs::Engine::new()?;
/// println!("running on {}: {}", engine.name(), engine.reason());
/// # Ok::<(), gibbs::EngineError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl Engine {
    /// Opens a hardware GPU if there is one, else uses SIMD on the CPU. The choice and its reason are logged; see also
    /// [`reason`](Self::reason).
    ///
    /// # Errors
    ///
    /// None at present, because the CPU is always available; but in a browser with the `gpu` feature,
    /// [`EngineError::WouldBlock`]: see [`new_async`](Self::new_async).
    pub fn new() -> Result<Self, EngineError> {
        Self::with_options(EngineOptions::default())
    }

    /// Opens the device that the options select.
    ///
    /// # Errors
    ///
    /// If there is no such device, or it cannot be opened. In a browser, [`EngineError::WouldBlock`] unless the options
    /// ask for the CPU: see [`new_async`](Self::new_async).
    pub fn with_options(options: EngineOptions) -> Result<Self, EngineError> {
        #[cfg(feature = "gpu")]
        return browser::block_on(Self::new_async(options))?;
        #[cfg(not(feature = "gpu"))]
        return Ok(Self::on(choose::device(&options)?, options));
    }

    /// An asynchronous [`with_options`](Self::with_options), for callers that have an executor of their own (as in a
    /// browser).
    ///
    /// # Errors
    ///
    /// As for [`with_options`](Self::with_options).
    pub async fn new_async(options: EngineOptions) -> Result<Self, EngineError> {
        #[cfg(feature = "gpu")]
        return Ok(Self::on(choose::device(&options).await?, options));
        #[cfg(not(feature = "gpu"))]
        return Self::with_options(options);
    }

    /// An engine on a device that the program has opened itself, for example to draw with. The two share its queue,
    /// which runs their work in the order of submission.
    ///
    /// The options `backend` and `adapter` are ignored. No feature is required; of those that the device was opened
    /// with, `SHADER_INT64` makes noise cheaper, `TIMESTAMP_QUERY` is needed for [`EngineOptions::timestamps`], and
    /// `PIPELINE_CACHE` for [`EngineOptions::pipeline_cache`]. The limits of `wgpu::Limits::default()` suffice; see
    /// [`EngineError::MissingLimit`].
    ///
    /// The program keeps the device. The engine does not set its callbacks (for device loss and uncaptured errors) and
    /// never destroys it, not even in [`destroy`](Self::destroy). Errors of the engine's own work are caught in error
    /// scopes that are closed within the same call. Device loss is detected from failing results, and returned as
    /// [`EngineError::DeviceLost`].
    ///
    /// Calls of drivers poll the device while they wait for results. As always with `wgpu`, callbacks of the program
    /// (for mapped buffers or completed work) then run on the polling thread. For `async` calls that may be a thread of
    /// the engine, which blocks in place of the task.
    ///
    /// # Errors
    ///
    /// [`EngineError::MissingLimit`] if the device was opened with too low a limit, [`EngineError::DeviceLost`] if it
    /// is lost, or [`EngineError::NoDevice`] if it refuses the bindings of the kernels.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::models::Pendulum;
    /// use gibbs::{Backend, Engine, EngineOptions, Mppi, MppiOptions, wgpu};
    ///
    /// /// The device of the program, if there is one.
    /// async fn device() -> Option<(wgpu::Device, wgpu::Queue)> {
    ///     let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    ///     let adapter = instance.request_adapter(&Default::default()).await.ok()?;
    ///     adapter.request_device(&Default::default()).await.ok()
    /// }
    ///
    /// let engine = match pollster::block_on(device()) {
    ///     Some((device, queue)) => Engine::from_wgpu(&device, &queue, EngineOptions::default())?,
    ///     None => Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() })?,
    /// };
    /// let mut mppi = Mppi::new(&engine, Pendulum::default(), MppiOptions::default())?;
    /// assert!(mppi.plan(&[1.0, 0.0])?.cost().is_finite());
    /// # Ok::<(), gibbs::Error>(())
    /// ```
    #[cfg(feature = "gpu")]
    pub fn from_wgpu(device: &wgpu::Device, queue: &wgpu::Queue, options: EngineOptions) -> Result<Self, EngineError> {
        let device = gpu::Device::adopt(device.clone(), queue.clone(), &options)?;
        Ok(Self::on((Device::Gpu(Arc::new(device)), "another program opened it".into()), options))
    }

    fn on((device, reason): (Device, String), options: EngineOptions) -> Self {
        let isa = Isa::new(options.instructions);
        let engine = Self { inner: Arc::new(Inner { device, isa, options, reason }) };
        log::info!("running on {}: {}", engine.name(), engine.reason());
        // This checks the code compiled with this crate; each driver checks the rollouts of its model.
        if cfg!(not(optimized)) && matches!(engine.inner.device, Device::Cpu) {
            optimization::warn_that_it_is_missing();
        }
        engine
    }

    /// The adapters of this machine, not including the CPU backend. Empty without the `gpu` feature, or without a
    /// driver. In a browser it is empty, too: see [`adapters_async`](Self::adapters_async).
    pub fn adapters() -> Vec<Adapter> {
        #[cfg(feature = "gpu")]
        return browser::block_on(Self::adapters_async()).unwrap_or_default();
        #[cfg(not(feature = "gpu"))]
        return Vec::new();
    }

    /// As [`adapters`](Self::adapters), without blocking the thread. A browser has one adapter at most.
    pub async fn adapters_async() -> Vec<Adapter> {
        #[cfg(feature = "gpu")]
        return gpu::adapters().await.into_iter().map(|(adapter, _)| adapter).collect();
        #[cfg(not(feature = "gpu"))]
        return Vec::new();
    }

    /// The kind of device; never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        match &self.inner.device {
            Device::Cpu => Backend::Cpu,
            #[cfg(feature = "gpu")]
            Device::Gpu(device) if device.adapter.kind == AdapterKind::Software => Backend::Software,
            #[cfg(feature = "gpu")]
            Device::Gpu(_) => Backend::Gpu,
        }
    }

    /// The human-readable name of the device.
    pub fn name(&self) -> String {
        match &self.inner.device {
            Device::Cpu => {
                let threads = threads::count();
                format!("CPU ({}, {threads} thread{})", self.inner.isa, if threads == 1 { "" } else { "s" })
            }
            #[cfg(feature = "gpu")]
            Device::Gpu(device) => format!("{} on {}", device.adapter.name, device.adapter.interface),
        }
    }

    /// Why this device was chosen.
    pub fn reason(&self) -> &str {
        &self.inner.reason
    }

    /// The options this engine was built with.
    pub fn options(&self) -> &EngineOptions {
        &self.inner.options
    }

    /// Destroys the device, as if it had been unplugged: every later call on it that can return an [`EngineError`]
    /// returns [`EngineError::DeviceLost`]. The CPU is not affected. A device that belongs to [another
    /// program](Self::from_wgpu) is lost to this engine only, and not destroyed.
    pub fn destroy(&self) {
        #[cfg(feature = "gpu")]
        if let Device::Gpu(device) = &self.inner.device {
            device.destroy();
        }
    }

    /// The round-trip time of an empty kernel: a lower bound on the duration of any call.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn round_trip(&self) -> Result<Duration, EngineError> {
        match &self.inner.device {
            Device::Cpu => Ok(Duration::ZERO),
            #[cfg(feature = "gpu")]
            Device::Gpu(device) => {
                browser::may_block()?;
                run_to_end(device.round_trip(Waiter::Thread))
            }
        }
    }

    /// As [`round_trip`](Self::round_trip), without blocking the thread. It includes the time in which the executor
    /// resumes the task.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub async fn round_trip_async(&self) -> Result<Duration, EngineError> {
        match &self.inner.device {
            Device::Cpu => Ok(Duration::ZERO),
            #[cfg(feature = "gpu")]
            Device::Gpu(device) => device.round_trip(Waiter::Task).await,
        }
    }

    /// The kernels that drivers on this device have compiled so far, in the order of their sources; none on the CPU.
    /// This is for tools that examine them: compilers, profilers.
    ///
    /// No GPU is needed for that. `wgpu::Device::noop` (of wgpu's feature `noop`) is a device that runs nothing, and
    /// for which drivers generate the kernels of a hardware GPU with the features that it was opened with. An engine
    /// keeps the latest 128 sources at most.
    pub fn kernels(&self) -> Vec<KernelSource> {
        match &self.inner.device {
            Device::Cpu => Vec::new(),
            #[cfg(feature = "gpu")]
            Device::Gpu(device) => device.sources(),
        }
    }

    pub(crate) fn isa(&self) -> Isa {
        self.inner.isa
    }

    /// Whether kernels are tuned for a software adapter.
    pub(crate) fn has_software_kernels(&self) -> bool {
        match &self.inner.device {
            Device::Cpu => false,
            #[cfg(feature = "gpu")]
            Device::Gpu(device) => device.software(),
        }
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn gpu(&self) -> Option<&Arc<gpu::Device>> {
        match &self.inner.device {
            Device::Cpu => None,
            Device::Gpu(device) => Some(device),
        }
    }

    pub(crate) fn averager(&self) -> Averager {
        match &self.inner.device {
            Device::Cpu => Averager::Cpu { isa: self.inner.isa, partials: Vec::new(), computed: None },
            #[cfg(feature = "gpu")]
            Device::Gpu(device) => Averager::Gpu(Box::new(gpu::Averager::new(Arc::clone(device)))),
        }
    }

    pub(crate) fn workspace(&self) -> Workspace {
        match &self.inner.device {
            Device::Cpu => Workspace::Cpu {
                isa: self.inner.isa,
                rows: self.inner.options.rows,
                workspace: Box::default(),
                computed: None,
            },
            #[cfg(feature = "gpu")]
            Device::Gpu(device) => Workspace::Gpu(Box::new(gpu::Workspace::new(Arc::clone(device)))),
        }
    }
}
