//! Typed errors. Each names what was wrong and what would be right; none of them loses a plan.

use std::fmt::Display;
use std::time::Duration;

/// A value that was refused: which field, what it was, and what would have been valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {value}, but must be {expected}")]
pub struct InvalidValue {
    /// The name of the field or argument, as it stands in the API.
    pub field: &'static str,
    /// The value that was given, printed.
    pub value: String,
    /// What would be valid.
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

/// Refuses too few of something that the model looks at.
pub(crate) fn at_least(field: &'static str, given: usize, used: usize) -> Result<(), InvalidValue> {
    read_by("the model", field, given, used)
}

/// Refuses too few of something that `reader` looks at.
pub(crate) fn read_by(reader: &str, field: &'static str, given: usize, used: usize) -> Result<(), InvalidValue> {
    if given < used {
        let last = used - 1;
        let expected = format_args!("at least {used} long, since {reader} reads number {last}, counted from 0");
        return Err(InvalidValue::new(field, format_args!("{given} long"), expected));
    }
    Ok(())
}

/// Refuses a reference table of fewer columns than `reader` looks at. No table has 0 of them.
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

/// Refuses a number that is not valid, or not finite.
pub(crate) fn in_range(field: &'static str, value: f32, valid: bool, expected: &str) -> Result<(), InvalidValue> {
    if valid && value.is_finite() { Ok(()) } else { Err(InvalidValue::new(field, value, expected)) }
}

/// Why a model could not be turned into a kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The traced expression has more statements than a kernel may have.
    #[error(
        "the model is an expression of {operations} operations or more, but at most {limit} fit a kernel; \
         look for an unrolled loop that could be shorter, or for a table that should be a sampled field"
    )]
    TooLarge {
        /// Operations on the tape when tracing stopped.
        operations: usize,
        /// The most that are accepted.
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
    /// A policy reads a parameter that it says it does not have.
    #[error("the policy reads parameter {index}, but has only {parameters}")]
    NoSuchParameter {
        /// The largest number of a parameter that is read.
        index: usize,
        /// How many there are.
        parameters: usize,
    },
    /// A number that no parameter, column or field can have.
    #[error("`{function}` reads {what} {index}, but there can be only {limit}, counted from 0")]
    NoSuchIndex {
        /// The function of the model or policy that was being traced.
        function: &'static str,
        /// The kind of value that is read.
        what: &'static str,
        /// Its number. (The largest one there is, if it overflowed.)
        index: usize,
        /// The first number that is too large.
        limit: usize,
    },
    /// A [`Table`](crate::Table) without rows.
    #[error("`{function}` reads a table of parameters that has no rows, but it must have at least 1")]
    EmptyTable {
        /// The function of the policy that was being traced.
        function: &'static str,
    },
    /// A stage or weights that model code made by hand, with less in them than it reads. Make it with as much as is read, or use
    /// the stage and the weights that the function is called with.
    #[error("`{function}` reads {what} {index}, counted from 0, of what it made by hand, which holds {given}")]
    NotGiven {
        /// The function of the model or policy that was being traced.
        function: &'static str,
        /// The kind of value that is read.
        what: &'static str,
        /// Its number.
        index: usize,
        /// How many there are.
        given: usize,
    },
    /// Something that model code made by hand and that no kernel can hold. Give it to the driver, in its options, or let the policy
    /// read it from its parameters.
    #[error(
        "`{function}` brings {what} of its own, which no kernel can hold; \
         give them to the driver, or let the policy read them from its parameters"
    )]
    ByHand {
        /// The function of the model or policy that was being traced.
        function: &'static str,
        /// What it is.
        what: &'static str,
    },
    /// A network that is called with other numbers of inputs or outputs than it has.
    #[error("`{function}` gives a network {inputs} inputs and takes {outputs} outputs, but its layers are {sizes:?}")]
    NetworkSizes {
        /// The function of the model or policy that was being traced.
        function: &'static str,
        /// The inputs that it is called with.
        inputs: usize,
        /// The outputs that are taken from it.
        outputs: usize,
        /// Its layer sizes, inputs first and outputs last.
        sizes: Vec<usize>,
    },
    /// Score rows of a policy that gives no derivatives of its own, and has too many parameters for dual numbers.
    #[error(
        "the policy has {parameters} parameters, but dual numbers give the derivatives by at most {limit}; \
         implement `pull_back`, or train it by perturbation"
    )]
    NoPullBack {
        /// How many parameters there are.
        parameters: usize,
        /// The most for which derivatives are found.
        limit: usize,
    },
    /// The generated or hand-written WGSL was refused by the shader compiler.
    #[error("the model's WGSL does not compile: {message}")]
    Shader {
        /// The compiler's message.
        message: String,
    },
}

/// What can go wrong with a device. The plan on the host is never touched by any of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No adapter of the kind that was asked for.
    #[error("no {wanted} adapter; found {}", if found.is_empty() { "none at all".into() } else { found.join(", ") })]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// The adapters that there are.
        found: Vec<String>,
    },
    /// The backend was not compiled in.
    #[error("the `{feature}` feature of the crate is off, so the {backend} backend is not there")]
    NotCompiled {
        /// The backend that was asked for.
        backend: &'static str,
        /// The feature that would bring it.
        feature: &'static str,
    },
    /// The adapter refused to give a device.
    #[error("the adapter gave no device: {message}")]
    NoDevice {
        /// The driver's message.
        message: String,
    },
    /// The device is gone. Build a new [`Engine`](crate::Engine), then [`rebuild`](crate::Planner::rebuild) the planner on it,
    /// which keeps its plan; a training goes on in a new one by [`save`](crate::PolicyGradient::save) and
    /// [`resume`](crate::PolicyGradient::resume).
    #[error("the device was lost: {message}")]
    DeviceLost {
        /// The driver's message.
        message: String,
    },
    /// The device did not answer in time. The next call waits for the work that is still under way.
    #[error("the device did not answer within {after:?}")]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// A buffer could not be had.
    #[error("the device is out of memory ({bytes} bytes for {what})")]
    OutOfMemory {
        /// What the memory was for.
        what: &'static str,
        /// How much was asked for.
        bytes: u64,
    },
    /// A request that the adapter cannot serve, refused before it was made.
    #[error("{what}: {requested} asked for, but this adapter's limit is {limit}")]
    OverLimit {
        /// What is too large.
        what: &'static str,
        /// How much was asked for.
        requested: u64,
        /// How much there may be.
        limit: u64,
    },
    /// The driver reported an error that should not happen. Please report it.
    #[error("the driver reported: {message}")]
    Driver {
        /// The driver's message.
        message: String,
    },
}

/// What building or changing a driver can return.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// The device's part in it, where only the device can have changed its mind: for kernels that were compiled before.
    pub(crate) fn into_engine(self) -> EngineError {
        match self {
            Self::Engine(error) => error,
            other => EngineError::Driver { message: other.to_string() },
        }
    }
}

/// What one call of a driver can return. Whatever it is, the previous plan stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// The device failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Any error of the crate, for callers that keep one type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// See [`BuildError`].
    #[error(transparent)]
    Build(#[from] BuildError),
    /// See [`PlanError`].
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// See [`InvalidValue`].
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// See [`ModelError`].
    #[error(transparent)]
    Model(#[from] ModelError),
    /// See [`CheckpointError`](crate::CheckpointError).
    #[error(transparent)]
    Checkpoint(#[from] crate::CheckpointError),
}
