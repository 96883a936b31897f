//! What a traced model reads.

use std::sync::Arc;

use crate::lang::{Network, ParamNames};

/// The inputs that a traced model needs; each count is one more than the largest index used.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requirements {
    pub(crate) params: usize,
    /// The names of the longest struct of parameters that is read.
    pub(crate) param_names: Option<ParamNames>,
    pub(crate) columns: usize,
    pub(crate) fields: usize,
    /// Parameters of a policy.
    pub(crate) weights: usize,
    /// The networks whose weights are those of the task. Shared by clones.
    pub(crate) networks: Arc<[Network]>,
    /// The largest number of scalars that the inputs and units of a network take.
    pub(crate) units: usize,
    /// An upper bound on the loop iterations of networks in a time step.
    pub(crate) loop_iterations: u64,
    /// The distinct look-ups of fields. Shared by clones, which are made when a driver's inputs are replaced.
    pub(crate) look_ups: Arc<[LookUp]>,
}

impl Requirements {
    /// Whether there are look-ups other than of one channel in two dimensions.
    #[cfg(feature = "gpu")]
    pub(crate) fn looks_up_channels(&self) -> bool {
        self.look_ups.iter().any(|look_up| !look_up.is_plain())
    }
}

/// A look-up of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LookUp {
    pub(crate) field: usize,
    pub(crate) dimensions: usize,
    /// One more than the last channel that is read.
    pub(crate) channels: usize,
}

impl LookUp {
    pub(super) fn is_plain(&self) -> bool {
        (self.dimensions, self.channels) == (2, 1)
    }
}
