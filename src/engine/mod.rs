//! Choosing a backend and running updates on it.

pub(crate) mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
pub(crate) mod program;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use cpu::Instructions;

use crate::error::{EngineError, InvalidValue, PlanError};
use crate::scalar::trace::Math;
use crate::update::{Problem, Sums, Update};
use program::Program;

/// Which kind of device to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Backend {
    /// A hardware GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// A hardware GPU, or an error.
    Gpu,
    /// A software adapter, which runs the GPU's kernels on the CPU: for tests. Or an error.
    Software,
    /// SIMD on this CPU. Always there.
    Cpu,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Gpu => "gpu",
            Self::Software => "software",
            Self::Cpu => "cpu",
        })
    }
}

impl FromStr for Backend {
    type Err = InvalidValue;

    fn from_str(name: &str) -> Result<Self, InvalidValue> {
        let all = [Self::Auto, Self::Gpu, Self::Software, Self::Cpu];
        let found = all.into_iter().find(|backend| backend.to_string() == name);
        found.ok_or_else(|| InvalidValue::new("backend", name, "auto, gpu, software or cpu"))
    }
}

/// What a device is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AdapterKind {
    /// A graphics card of its own.
    Discrete,
    /// A graphics unit that shares memory with the CPU.
    Integrated,
    /// A share of a graphics card, handed to a virtual machine.
    Virtual,
    /// A driver that runs kernels on the CPU, such as lavapipe or WARP.
    Software,
    /// The driver does not say.
    Unknown,
}

/// A device that an engine could run on, besides the CPU backend. See [`Engine::adapters`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// What to give to [`EngineOptions::adapter`].
    pub index: usize,
    /// The driver's name for it.
    pub name: String,
    /// What it is made of.
    pub kind: AdapterKind,
    /// The interface it is reached through: Vulkan, Metal or DX12.
    pub interface: String,
    /// The driver and its version.
    pub driver: String,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}, {}, {})", self.name, self.kind, self.interface, self.driver)
    }
}

/// How to build an [`Engine`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Which kind of device to run on.
    pub backend: Backend,
    /// One particular adapter, by its index in [`Engine::adapters`]; overrides `backend`.
    pub adapter: Option<usize>,
    /// How long to wait for a device before giving up with [`EngineError::Timeout`]. 10 s by default.
    pub timeout: Duration,
    /// The vector instructions of the CPU backend.
    pub instructions: Instructions,
    /// Whose transcendental functions the kernels of a GPU call.
    pub math: Math,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            adapter: None,
            timeout: Duration::from_secs(10),
            instructions: Instructions::Best,
            math: Math::Shared,
        }
    }
}

/// How long the parts of a call took.
///
/// The stages are those of the *last* update of the call. On a GPU they are measured by the device's own clock, and are
/// `None` where it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// Drawing the rows and rolling them out.
    pub rollout: Option<Duration>,
    /// From costs to log-weights, the search for the temperature included.
    pub weigh: Option<Duration>,
    /// The weighted mean.
    pub mean: Option<Duration>,
    /// The step.
    pub step: Option<Duration>,
    /// The whole call, as the caller waited for it.
    pub total: Duration,
}

/// What running updates gives back.
pub(crate) struct Done<'a> {
    /// The nominal after the last update.
    pub(crate) nominal: &'a [f32],
    pub(crate) sums: Sums,
    pub(crate) timing: Timing,
}

/// The rows of the last update, fetched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fetched {
    /// In tiles; see [`Update::address`].
    pub(crate) rows: Vec<f32>,
    pub(crate) scores: Vec<f32>,
    pub(crate) log_weights: Vec<f32>,
}

#[derive(Debug)]
enum Device {
    Cpu,
    #[cfg(feature = "gpu")]
    Gpu(Arc<gpu::Device>),
}

#[derive(Debug)]
struct Inner {
    device: Device,
    isa: cpu::Isa,
    options: EngineOptions,
    reason: String,
}

/// The device that everything runs on. Cloning it is cheap and gives the same device.
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
    /// A hardware GPU if there is one, else SIMD on the CPU. Which one, and why, is logged; see also
    /// [`reason`](Self::reason).
    ///
    /// # Errors
    ///
    /// None at present: the CPU is always there.
    pub fn new() -> Result<Self, EngineError> {
        Self::with(EngineOptions::default())
    }

    /// An engine as the options say.
    ///
    /// # Errors
    ///
    /// If there is no such device, or it does not open.
    pub fn with(options: EngineOptions) -> Result<Self, EngineError> {
        #[cfg(feature = "gpu")]
        let (device, reason) = pollster::block_on(gpu_or_cpu(&options))?;
        #[cfg(not(feature = "gpu"))]
        let (device, reason) = cpu_only(&options)?;
        let isa = cpu::Isa::new(options.instructions);
        let engine = Self { inner: Arc::new(Inner { device, isa, options, reason }) };
        log::info!("running on {}: {}", engine.name(), engine.reason());
        Ok(engine)
    }

    /// As [`with`](Self::with), for callers that have an executor of their own (a browser must).
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with).
    #[cfg(feature = "gpu")]
    pub async fn request(options: EngineOptions) -> Result<Self, EngineError> {
        let (device, reason) = gpu_or_cpu(&options).await?;
        let isa = cpu::Isa::new(options.instructions);
        let engine = Self { inner: Arc::new(Inner { device, isa, options, reason }) };
        log::info!("running on {}: {}", engine.name(), engine.reason());
        Ok(engine)
    }

    /// The adapters of this machine, the CPU backend not counted. Empty without the `gpu` feature, or without a driver.
    pub fn adapters() -> Vec<Adapter> {
        #[cfg(feature = "gpu")]
        return pollster::block_on(gpu::adapters()).into_iter().map(|(adapter, _)| adapter).collect();
        #[cfg(not(feature = "gpu"))]
        return Vec::new();
    }

    /// The kind of device this is; never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        match &self.inner.device {
            Device::Cpu => Backend::Cpu,
            #[cfg(feature = "gpu")]
            Device::Gpu(device) if device.adapter.kind == AdapterKind::Software => Backend::Software,
            #[cfg(feature = "gpu")]
            Device::Gpu(_) => Backend::Gpu,
        }
    }

    /// The device's name, for people.
    pub fn name(&self) -> String {
        match &self.inner.device {
            Device::Cpu => {
                let threads = cpu::threads();
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

    /// Gives the device up: every later call on it returns [`EngineError::DeviceLost`], as if it had been unplugged.
    /// The CPU is not affected.
    pub fn destroy(&self) {
        #[cfg(feature = "gpu")]
        if let Device::Gpu(device) = &self.inner.device {
            device.destroy();
        }
    }

    /// The time an empty kernel takes, there and back: what any call costs at least.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn round_trip(&self) -> Result<Duration, EngineError> {
        match &self.inner.device {
            Device::Cpu => Ok(Duration::ZERO),
            #[cfg(feature = "gpu")]
            Device::Gpu(device) => device.round_trip(),
        }
    }

    pub(crate) fn isa(&self) -> cpu::Isa {
        self.inner.isa
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
            Device::Cpu => Averager::Cpu(self.inner.isa, Vec::new()),
            #[cfg(feature = "gpu")]
            Device::Gpu(device) => Averager::Gpu(Box::new(gpu::Averager::new(Arc::clone(device)))),
        }
    }

    pub(crate) fn workspace(&self) -> Workspace {
        match &self.inner.device {
            Device::Cpu => Workspace::Cpu(self.inner.isa, Box::default()),
            #[cfg(feature = "gpu")]
            Device::Gpu(device) => Workspace::Gpu(Box::new(gpu::Workspace::new(Arc::clone(device)))),
        }
    }
}

/// The weighted mean of one caller on its device.
pub(crate) enum Averager {
    Cpu(cpu::Isa, Vec<f32>),
    #[cfg(feature = "gpu")]
    Gpu(Box<gpu::Averager>),
}

impl Averager {
    /// Mean, and second moment if `moments` is twice as long, of rows that stand one after the other.
    pub(crate) fn run(
        &mut self,
        update: &Update,
        rows: &[f32],
        log_weights: &[f32],
        moments: &mut [f32],
    ) -> Result<Sums, PlanError> {
        match self {
            Self::Cpu(isa, partials) => Ok(cpu::average(*isa, update, rows, log_weights, partials, moments)?),
            #[cfg(feature = "gpu")]
            Self::Gpu(averager) => averager.run(update, rows, log_weights, moments),
        }
    }
}

#[cfg(feature = "gpu")]
async fn gpu_or_cpu(options: &EngineOptions) -> Result<(Device, String), EngineError> {
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
                none if none.is_empty() => "there is no GPU driver".into(),
                names => format!("there is no hardware GPU among {}", names.join(", ")),
            };
            return Ok((Device::Cpu, reason));
        }
        let wanted = match (options.adapter, options.backend) {
            (Some(index), _) => format!("number {index}"),
            (None, Backend::Software) => "software".into(),
            (None, _) => "hardware GPU".into(),
        };
        return Err(EngineError::NoAdapter { wanted, found: names() });
    };
    match gpu::Device::open(adapter.clone(), handle, options).await {
        Ok(device) => {
            let reason = if auto { "the best hardware GPU there is" } else { "it was asked for" };
            Ok((Device::Gpu(Arc::new(device)), reason.into()))
        }
        Err(error) if auto => {
            log::warn!("{adapter} does not open, so the CPU is used: {error}");
            Ok((Device::Cpu, format!("{adapter} does not open: {error}")))
        }
        Err(error) => Err(error),
    }
}

#[cfg(not(feature = "gpu"))]
fn cpu_only(options: &EngineOptions) -> Result<(Device, String), EngineError> {
    match (options.adapter, options.backend) {
        (None, Backend::Cpu) => Ok((Device::Cpu, "the CPU was asked for".into())),
        (None, Backend::Auto) => Ok((Device::Cpu, "the crate was built without its `gpu` feature".into())),
        (None, Backend::Software) => Err(EngineError::NotCompiled { backend: "software", feature: "gpu" }),
        _ => Err(EngineError::NotCompiled { backend: "gpu", feature: "gpu" }),
    }
}

/// The buffers of one driver on its device.
pub(crate) enum Workspace {
    Cpu(cpu::Isa, Box<cpu::Workspace>),
    #[cfg(feature = "gpu")]
    Gpu(Box<gpu::Workspace>),
}

impl Workspace {
    /// Makes everything ready that can fail: pipelines, and room for the updates.
    pub(crate) fn prepare(
        &mut self,
        program: &Program,
        updates: &[Update],
        problem: &Problem<'_>,
    ) -> Result<(), crate::error::BuildError> {
        match self {
            Self::Cpu(_, workspace) => {
                let _ = (program, problem);
                Ok(updates.iter().try_for_each(|update| workspace.fit(update))?)
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.prepare(program, updates, problem),
        }
    }

    /// Carries the updates out, one after the other.
    pub(crate) fn run(
        &mut self,
        program: &Program,
        updates: &[Update],
        problem: &Problem<'_>,
    ) -> Result<Done<'_>, PlanError> {
        match self {
            Self::Cpu(isa, workspace) => workspace.run(*isa, &*program.rollout, updates, problem),
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.run(program, updates, problem),
        }
    }

    /// The rows of the last update with their scores and log-weights.
    pub(crate) fn fetch(&mut self) -> Result<Fetched, EngineError> {
        match self {
            Self::Cpu(_, workspace) => Ok(workspace.fetch()),
            #[cfg(feature = "gpu")]
            Self::Gpu(workspace) => workspace.fetch(),
        }
    }
}
