//! Typed errors. Each names what was wrong and what is valid; none of them loses a plan.

use std::fmt::Display;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

/// A refused value: the field, the value given, and what is valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {value}, but must be {expected}")]
#[non_exhaustive]
pub struct InvalidValue {
    /// The name of the field or argument, as in the API.
    pub field: &'static str,
    /// The value that was given, printed.
    pub value: String,
    /// A description of the valid values.
    pub expected: String,
}

impl InvalidValue {
    pub(crate) fn new(field: &'static str, value: impl Display, expected: impl Display) -> Self {
        Self { field, value: value.to_string(), expected: expected.to_string() }
    }
}

/// Refuses NaN and infinities.
pub(crate) fn finite(field: &'static str, values: &[f32]) -> Result<(), InvalidValue> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(InvalidValue::new(field, format_args!("{} at index {i}", values[i]), "finite")),
        None => Ok(()),
    }
}

/// Refuses an input with fewer entries than `reader` reads. `name` is that of the last entry, if it has one.
pub(crate) fn read_by(
    reader: &str,
    field: &'static str,
    given: usize,
    used: usize,
    name: impl Fn(usize) -> Option<String>,
) -> Result<(), InvalidValue> {
    if given < used {
        let last = used - 1;
        let name = name(last).map(|name| format!(" (`{name}`)")).unwrap_or_default();
        let expected = format_args!("at least {used} long, since {reader} reads number {last}{name}, counted from 0");
        return Err(InvalidValue::new(field, format_args!("{given} long"), expected));
    }
    Ok(())
}

/// Refuses a reference table with fewer columns than `reader` reads. 0 columns means that there is no table.
pub(crate) fn columns_read_by(reader: &str, given: usize, used: usize) -> Result<(), InvalidValue> {
    if given < used {
        let value = match given {
            0 => "without columns, or not given,".to_owned(),
            1 => "a table of 1 column".to_owned(),
            _ => format!("a table of {given} columns"),
        };
        let (last, s) = (used - 1, if used == 1 { "" } else { "s" });
        let expected =
            format_args!("a table of at least {used} column{s}, since {reader} reads column {last}, counted from 0");
        return Err(InvalidValue::new("references", value, expected));
    }
    Ok(())
}

/// Refuses a number if it is not finite or `valid` is false.
pub(crate) fn in_range(field: &'static str, value: f32, valid: bool, expected: &str) -> Result<(), InvalidValue> {
    if valid && value.is_finite() { Ok(()) } else { Err(InvalidValue::new(field, value, expected)) }
}

/// Why a model could not be turned into a kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The traced expression has more statements than a kernel may have.
    #[error(
        "the model is an expression of {operations} operations or more, but at most {limit} fit a kernel; \
         look for an unrolled loop that could be shorter, or for a table that should be a sampled field"
    )]
    TooLarge {
        /// The number of operations recorded when tracing stopped.
        operations: usize,
        /// The maximum.
        limit: usize,
    },
    /// A constant of the model is NaN or infinite.
    #[error("the constant {value} in `{function}` of the model is not finite")]
    NotFinite {
        /// The model function that was being traced.
        function: &'static str,
        /// The constant, printed.
        value: String,
    },
    /// A traced value was used outside the trace it belongs to.
    #[error("a value from an earlier trace was used in `{function}`: models must not keep scalars between calls")]
    Stale {
        /// The model function that was being traced.
        function: &'static str,
    },
    /// Two hand-written WGSL functions share a name but not a body.
    #[error("two different WGSL functions are both called `{name}`")]
    DuplicateFunction {
        /// The name.
        name: String,
    },
    /// A policy reads a parameter beyond the number that it declares.
    #[error("the policy reads parameter {index}, but has only {parameters}")]
    NoSuchParameter {
        /// The largest index that is read.
        index: usize,
        /// The number of parameters that the policy declares.
        parameters: usize,
    },
    /// An index that no parameter, column or field can have.
    #[error("`{function}` reads {what} {index}, but there can be only {limit}, counted from 0")]
    NoSuchIndex {
        /// The function of the model or policy that was being traced.
        function: &'static str,
        /// The kind of value that is read.
        what: &'static str,
        /// The index. (`usize::MAX` if it overflowed.)
        index: usize,
        /// The smallest index that is too large.
        limit: usize,
    },
    /// A [`Table`](crate::lang::Table) without rows.
    #[error("`{function}` reads a table of parameters that has no rows, but it must have at least 1")]
    EmptyTable {
        /// The function of the policy that was being traced.
        function: &'static str,
    },
    /// A step context or parameters that model code created by hand hold less than it reads. Create them with
    /// everything that is read, or use the ones that the function is called with.
    #[error("`{function}` reads {what} {index}, counted from 0, from an input built by hand that holds {given}")]
    NotGiven {
        /// The function of the model or policy that was being traced.
        function: &'static str,
        /// The kind of value that is read.
        what: &'static str,
        /// The index.
        index: usize,
        /// How many there are of this kind.
        given: usize,
    },
    /// An object that model code created by hand and that no kernel can hold. Give it to the driver in its options, or
    /// let the policy read it from its parameters.
    #[error(
        "`{function}` brings {what} of its own, which no kernel can hold; \
         give them to the driver, or let the policy read them from its parameters"
    )]
    ByHand {
        /// The function of the model or policy that was being traced.
        function: &'static str,
        /// The kind of object.
        what: &'static str,
    },
    /// A network is called with other numbers of inputs or outputs than it has.
    #[error("`{function}` gives a network {inputs} inputs and takes {outputs} outputs, but its layers are {sizes:?}")]
    NetworkSizes {
        /// The function of the model or policy that was being traced.
        function: &'static str,
        /// The number of inputs that it is called with.
        inputs: usize,
        /// The number of outputs that are requested.
        outputs: usize,
        /// Its layer sizes, inputs first and outputs last.
        sizes: Vec<usize>,
    },
    /// Score rows were requested of a policy that does not implement derivatives and has too many parameters for dual
    /// numbers.
    #[error(
        "the policy has {parameters} parameters, but dual numbers give the derivatives by at most {limit}; \
         implement `vjp`, or train it by perturbation"
    )]
    NoVjp {
        /// The number of parameters.
        parameters: usize,
        /// The largest number for which dual numbers are used.
        limit: usize,
    },
    /// The generated or hand-written WGSL was refused by the shader compiler.
    #[error("the model's WGSL does not compile: {message}")]
    Shader {
        /// The compiler's message.
        message: String,
    },
}

/// A failure of a device. The plan on the host is never touched by any of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// There is no adapter of the requested kind.
    #[error("no {wanted}; found {}", if found.is_empty() { "none at all".into() } else { found.join(", ") })]
    NoAdapter {
        /// What was requested, such as `hardware GPU adapter`.
        wanted: String,
        /// The adapters that were found.
        found: Vec<String>,
    },
    /// The requested backend was not compiled in.
    #[error("the {backend} backend is not available: the crate's `{feature}` feature is off")]
    NotCompiled {
        /// The requested backend.
        backend: &'static str,
        /// The feature that enables it.
        feature: &'static str,
    },
    /// The adapter did not provide a device.
    #[error("the adapter did not provide a device: {message}")]
    NoDevice {
        /// The driver's message.
        message: String,
    },
    /// The device was lost. Build a new [`Engine`](crate::runtime::Engine), then
    /// [`move_to`](crate::control::planner::Planner::move_to) the planner on it, which keeps its plan; a training is
    /// continued on a new one by [`save`](crate::learning::PolicyGradient::save) and
    /// [`resume`](crate::learning::PolicyGradient::resume).
    #[error("the device was lost: {message}")]
    DeviceLost {
        /// The driver's message.
        message: String,
    },
    /// The device did not answer in time. The next call waits for the work that is still in progress.
    #[error("the device did not answer within {after:?}")]
    Timeout {
        /// How long the call waited.
        after: Duration,
    },
    /// A buffer could not be allocated.
    #[error("the device is out of memory ({bytes} bytes for {what})")]
    OutOfMemory {
        /// What the memory was for.
        what: &'static str,
        /// The requested size (in bytes).
        bytes: u64,
    },
    /// A function that waits for a GPU was called in a browser, where a page must not block. Call its `async` variant,
    /// such as [`Engine::new_async`](crate::runtime::Engine::new_async),
    /// [`Planner::new_async`](crate::control::planner::Planner::new_async) or
    /// [`plan_async`](crate::control::planner::Planner::plan_async).
    #[error(
        "a page in a browser must not block until its GPU is ready: call the `async` variant, such as `new_async` or `plan_async`"
    )]
    WouldBlock,
    /// A request exceeds a limit of the adapter, and was refused before it was made.
    #[error("{what}: {requested} requested, but this adapter's limit is {limit}")]
    OverLimit {
        /// The quantity that is too large.
        what: &'static str,
        /// The requested amount.
        requested: u64,
        /// The adapter's limit.
        limit: u64,
    },
    /// The device that [`Engine::from_wgpu`](crate::runtime::Engine::from_wgpu) was given has too low a limit. Request
    /// a higher one in `wgpu::DeviceDescriptor::required_limits`.
    #[error("the device was opened with `{limit}` = {found}, but at least {required} is needed")]
    MissingLimit {
        /// The limit, as a field of `wgpu::Limits`.
        limit: &'static str,
        /// The required minimum.
        required: u32,
        /// The limit of the device.
        found: u32,
    },
    /// The driver reported an error that should not happen. Please report it.
    #[error("the driver reported: {message}")]
    Driver {
        /// The driver's message.
        message: String,
    },
}

/// An error from building or changing a driver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An option is out of range.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// The model cannot become a kernel.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

#[cfg(feature = "gpu")]
impl BuildError {
    /// Converts to a device error where only the device can have failed: for kernels that have been compiled before.
    pub(crate) fn into_engine(self) -> EngineError {
        match self {
            Self::Engine(error) => error,
            other => EngineError::Driver { message: other.to_string() },
        }
    }
}

/// An error from one call of a driver. In every case the previous plan is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// An argument of the call is out of range.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// No row has a finite cost, so there is nothing to average.
    #[error("none of the {rows} rows has a finite cost or log-weight")]
    NoFiniteRow {
        /// How many rows were scored.
        rows: usize,
    },
    /// The weighted mean is not finite, because a row with a positive weight holds NaN or an infinity.
    #[error("the weighted mean is not finite: a row with a positive weight has a value that is not finite")]
    NonFiniteMean,
    /// An earlier call has not completed. Poll, finish or cancel a pending call first. A call that was canceled or
    /// timed out still runs on the device; blocking and `async` calls wait for it, `start` does not.
    #[error("an earlier call has not completed")]
    Busy,
    /// The device failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The reason why no feedback could be computed along a plan. An earlier feedback is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedbackError {
    /// A weight is out of range, or there is no plan.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// A derivative of the model along the plan, or the gain that follows from it, is NaN or infinite.
    #[error("the {what} is not finite at time step {time_step} of the plan")]
    NonFinite {
        /// The quantity.
        what: &'static str,
        /// The time step, counted from 0; T for the terminal cost.
        time_step: usize,
    },
}

/// Any error of the crate, for callers that keep one type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// See [`BuildError`].
    #[error(transparent)]
    Build(#[from] BuildError),
    /// See [`PlanError`].
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// See [`FeedbackError`].
    #[error(transparent)]
    Feedback(#[from] FeedbackError),
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// See [`InvalidValue`].
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// See [`ModelError`].
    #[error(transparent)]
    Model(#[from] ModelError),
    /// See [`CheckpointError`](crate::error::CheckpointError).
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// The operating system's error when reading or writing failed: an [`io::Error`] that can be cloned and compared. Two
/// are equal if their kinds and their messages are.
#[derive(Debug, Clone)]
pub struct IoFailure(Arc<io::Error>);

impl From<io::Error> for IoFailure {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

// `IoFailure` does not implement `Error`, so that `source()` returns the `io::Error` itself, which can be downcast.
impl Deref for IoFailure {
    type Target = io::Error;
    fn deref(&self) -> &io::Error {
        &self.0
    }
}

impl Display for IoFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for IoFailure {
    fn eq(&self, other: &Self) -> bool {
        self.0.kind() == other.0.kind() && self.0.to_string() == other.0.to_string()
    }
}

impl Eq for IoFailure {}

/// The reason why training could not be saved or resumed. The training itself is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Reading or writing failed.
    #[error("the checkpoint could not be read or written: {source}")]
    Io {
        /// The operating system's error.
        source: IoFailure,
    },
    /// The input does not begin with the signature of a checkpoint.
    #[error("this is not a checkpoint of a policy search: it does not begin with \"gibbs-pg\"")]
    NotACheckpoint,
    /// The checkpoint has another version of the format.
    #[error("the checkpoint is of version {found} of the format, but only version {expected} can be read")]
    Version {
        /// Its version.
        found: u32,
        /// The version that can be read.
        expected: u32,
    },
    /// The checkpoint is truncated, or data follow its end.
    #[error("the checkpoint is {found} bytes long{}, but must be {expected}", if found > expected { " or longer" } else { "" })]
    Length {
        /// Its length in bytes. (At most one byte beyond the expected end is read.)
        found: usize,
        /// The expected length in bytes.
        expected: usize,
    },
    /// The checksum does not match the contents.
    #[error("the checkpoint is damaged: its checksum does not match")]
    Damaged,
    /// The checkpoint belongs to a training of other sizes.
    #[error("the checkpoint has {found} {what}, but this training has {expected}")]
    Mismatch {
        /// The quantity that differs.
        what: &'static str,
        /// The number in the checkpoint.
        found: u32,
        /// The number in this training.
        expected: u32,
    },
    /// The checkpoint holds a number that training cannot have written, although its checksum is correct: another
    /// program wrote or changed it. Resume from another checkpoint, or set the learners' parameters by
    /// [`set_theta`](crate::learning::PolicyGradient::set_theta).
    #[error("the checkpoint holds {value} as {what} {index} of learner {learner}, but must hold {expected}")]
    Number {
        /// The kind of number.
        what: &'static str,
        /// Its index among the learner's numbers of this kind, counted from 0.
        index: usize,
        /// The learner, counted from 0.
        learner: usize,
        /// The number, printed.
        value: String,
        /// The valid values.
        expected: &'static str,
    },
}

impl From<IoFailure> for CheckpointError {
    fn from(source: IoFailure) -> Self {
        Self::Io { source }
    }
}
