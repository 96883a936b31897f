//! What an engine can be told, and what it tells of the devices there are.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::cpu::Instructions;
use crate::error::InvalidValue;
use crate::scalar::trace::Math;

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

/// A device that an engine could run on, besides the CPU backend. See [`Engine::adapters`](crate::Engine::adapters).
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

/// What the CPU backend does with the rows that it draws: K × D numbers that are needed a second time, for their mean.
///
/// Where λ is fixed, a row is averaged as soon as it is scored, and no memory is needed for any but the 64 of each thread. Where
/// λ has to be found, all rows must be scored before any is averaged. A GPU never keeps rows that it draws.
///
/// The choice affects the last bits of the mean and of the statistics that are sums over rows, because it affects their order. Rows that
/// are kept are summed in groups of 1,024, each relative to the largest log-weight of its group. Rows that are averaged at once or drawn
/// again are added to a running sum in tiles of 64, which is scaled whenever a tile has a larger log-weight. The rows of one update,
/// their costs and log-weights, and a λ that is found do not depend on the choice. Rows of policies, rows that the caller gives and rows
/// of signed weights are always kept, so there it makes no difference at all.
///
/// Under any one choice the bits are the same every time, on any number of threads. [`Auto`](Self::Auto) goes by the size of an update,
/// never by the memory that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RowMemory {
    /// Averaged at once if they can be; else kept up to 256 MiB, and beyond that drawn again.
    #[default]
    Auto,
    /// Kept, whatever they take.
    Stored,
    /// Averaged at once if they can be, else drawn again: an update needs 16 bytes a row, whatever the horizon.
    Redrawn,
}

/// What the kernels of a GPU are laid out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tuning {
    /// What the adapter is.
    #[default]
    Auto,
    /// A GPU: one row an invocation, large workgroups. On a software adapter this runs what a hardware GPU would run.
    Gpu,
    /// A CPU that poses as one: four rows an invocation, small workgroups.
    Cpu,
}

/// How to build an [`Engine`](crate::Engine).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Which kind of device to run on.
    pub backend: Backend,
    /// One particular adapter, by its index in [`Engine::adapters`](crate::Engine::adapters); overrides `backend`.
    pub adapter: Option<usize>,
    /// How long to wait for a device before giving up with [`EngineError::Timeout`](crate::EngineError::Timeout). 10 s by default.
    ///
    /// The limit covers the wait for one submission of work. A hardware GPU gets all updates of a call in one submission. A
    /// software adapter gets a long list of updates in several, each with the limit for itself, so that a call may take longer as
    /// long as it makes progress. Time spent compiling kernels does not count, for this driver or any other.
    pub timeout: Duration,
    /// The vector instructions of the CPU backend.
    pub instructions: Instructions,
    /// What the CPU backend does with the rows that it draws.
    pub rows: RowMemory,
    /// Whether a GPU times the stages of every call by its own clock, for [`Timing`](crate::Timing). Off by default: it splits
    /// a call into parts that wait for each other.
    pub timestamps: bool,
    /// A folder to keep compiled kernels in from one run to the next, where the interface lets a program do so (Vulkan). Most
    /// desktop drivers keep a cache of their own, and gain nothing. It must be a folder that nobody else writes to: what lies there
    /// is handed to the driver. None by default.
    pub pipeline_cache: Option<PathBuf>,
    /// What the kernels of a GPU are laid out for.
    pub tuning: Tuning,
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
            rows: RowMemory::Auto,
            timestamps: false,
            pipeline_cache: None,
            tuning: Tuning::Auto,
            math: Math::Shared,
        }
    }
}
