//! Options of an engine, and descriptions of the available devices.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::InvalidValue;
use crate::interp::simd::isa::Instructions;
use crate::lang::math::Math;

/// Which kind of device to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Backend {
    /// A hardware GPU if available, else the CPU.
    #[default]
    Auto,
    /// A hardware GPU; an error if there is none.
    Gpu,
    /// A software adapter, which runs the GPU's kernels on the CPU, for tests; an error if there is none.
    Software,
    /// SIMD on this CPU. Always available.
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

/// The kind of hardware behind an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AdapterKind {
    /// A dedicated graphics card.
    Discrete,
    /// A graphics processor that shares memory with the CPU.
    Integrated,
    /// A graphics card, or a share of one, assigned to a virtual machine.
    Virtual,
    /// A driver that runs kernels on the CPU, such as lavapipe or WARP.
    Software,
    /// The driver does not report the kind.
    Unknown,
}

/// An available device, other than the CPU backend. See [`Engine::adapters`](crate::runtime::Engine::adapters).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adapter {
    /// The value to set [`EngineOptions::adapter`] to.
    pub index: usize,
    /// The name that the driver reports.
    pub name: String,
    /// The kind of hardware.
    pub kind: AdapterKind,
    /// The graphics interface: Vulkan, Metal, DX12 or WebGPU.
    pub interface: String,
    /// The driver and its version.
    pub driver: String,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}, {}, {})", self.name, self.kind, self.interface, self.driver)
    }
}

/// How the CPU backend handles the rows that it draws: K × D numbers that are needed a second time, for their mean.
///
/// Where λ is fixed, a row is averaged as soon as it is scored, and only the 64 rows that each thread works on need
/// memory. Where λ has to be solved for, all rows must be scored before any is averaged. A GPU never stores rows that
/// it draws.
///
/// The choice affects the last bits of the mean and of the statistics that are sums over rows, because it affects their
/// order. Stored rows are summed in groups of 1,024, each relative to the largest log-weight of its group. Rows that
/// are averaged immediately or drawn again are added to a running sum in tiles of 64, which is rescaled whenever a tile
/// has a larger log-weight. The rows of one pass, their costs and log-weights, and the λ that is solved for do not
/// depend on the choice. Rows of policies, rows that the caller gives and rows with signed weights are always stored,
/// so for them the choice makes no difference.
///
/// Under any one choice the bits are the same every time, on any number of threads. [`Auto`](Self::Auto) decides by the
/// size of a pass, never by the amount of free memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RowMemory {
    /// Averages rows immediately where possible; otherwise stores them up to 256 MiB, and draws them again beyond that.
    #[default]
    Auto,
    /// Stores rows, whatever their size.
    Stored,
    /// Averages rows immediately where possible, otherwise draws them again: a pass needs 16 bytes per row, whatever
    /// the horizon.
    Redrawn,
}

/// The target that GPU kernels are tuned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Tuning {
    /// The kind of the adapter: hardware or software.
    #[default]
    Auto,
    /// A GPU: one row per invocation, large workgroups. On a software adapter this runs the kernels that a hardware GPU
    /// would run.
    Gpu,
    /// A software adapter: four rows per invocation, small workgroups.
    Cpu,
}

/// Options of an [`Engine`](crate::runtime::Engine).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Which kind of device to run on.
    pub backend: Backend,
    /// A particular adapter, by its index in [`Engine::adapters`](crate::runtime::Engine::adapters); overrides
    /// `backend`.
    pub adapter: Option<usize>,
    /// How long to wait for a device before returning [`EngineError::Timeout`](crate::error::EngineError::Timeout). 10
    /// s by default.
    ///
    /// The limit applies to the wait for one submission of work. A hardware GPU gets all passes of a call in one
    /// submission. A software adapter gets a long list of passes in several, each with its own limit, so a call may
    /// take longer than the limit provided that it makes progress. Time spent compiling kernels does not count, for
    /// this driver or any other.
    pub timeout: Duration,
    /// The vector instructions that the CPU backend uses.
    pub instructions: Instructions,
    /// How the CPU backend handles the rows that it draws.
    pub rows: RowMemory,
    /// Whether a GPU times the stages of every call by its own clock, for [`Timing`](crate::runtime::Timing). Off by
    /// default: it splits a call into passes that cannot overlap.
    pub timestamps: bool,
    /// A folder to cache compiled kernels in between runs, where the interface supports it (Vulkan). Most desktop
    /// drivers have a cache of their own, so this gains nothing there. No one else may have write access to the folder:
    /// its contents are passed to the driver. None by default.
    pub pipeline_cache: Option<PathBuf>,
    /// The target that GPU kernels are tuned for.
    pub tuning: Tuning,
    /// Which transcendental functions GPU kernels call.
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
