//! [`Task`]: the options that all drivers share.

use super::scenario::Scenario;
use crate::error::{InvalidValue, columns_read_by, finite, in_range, read_by};
use crate::interp::trace::{LookUp, Requirements};
use crate::kernels::score::risk::Risk;
use crate::lang::Network;
use crate::lang::grid::Grid;

/// A control problem without its model and without the method that solves it: part of the options of every driver that
/// runs a [`Model`](crate::model::Model). `..Default::default()` fills in the rest; later versions add fields.
///
/// # Example
///
/// One task for two methods.
///
/// ```
/// use gibbs::{DiffusionOptions, Limits, MppiOptions, Task};
///
/// let task = Task { horizon: 40, dt: 0.05, limits: Some(Limits { low: [-1.0], high: [1.0] }), ..Default::default() };
/// let mppi = MppiOptions { task: task.clone(), samples: 512, ..Default::default() };
/// let diffusion = DiffusionOptions { task, samples: 128, ..Default::default() };
/// assert_eq!(mppi.task, diffusion.task);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default = "Default::default", deny_unknown_fields))]
pub struct Task<const M: usize> {
    /// T, the time steps of the horizon, or of an episode that does not end before; at least 1.
    pub horizon: usize,
    /// The length of a time step (in seconds), as passed to model and policy; above 0.
    pub dt: f32,
    /// The box that controls are limited to, before they are rolled out and averaged. (Clipping biases the mean
    /// inwards, unless a [`NoiseShape`](crate::kernels::propose::shape::NoiseShape) other than white averages what is
    /// not clipped. Actions of a policy are limited after their noise; the score is that of the action before the
    /// limits.)
    pub limits: Option<Limits<M>>,
    /// The limits of each control's rate of change, in units of the control per second: `low` at most 0, `high` at
    /// least 0. They may differ in size, so that a vehicle brakes harder than it accelerates. They hold in every
    /// rollout, in the plan, and from call to call, counted from the control that was applied last
    /// ([`advance`](crate::control::planner::Planner::advance)). Where a control cannot be back within `limits` in one
    /// time step, the limits of the rate take precedence. A policy search refuses them: there, let the control be the
    /// rate, and the old control a state.
    pub rate_limits: Option<Limits<M>>,
    /// The limits of the rate of change of each control's rate, in units of the control per second squared: `low` at
    /// most 0, `high` at least 0. They hold in every rollout, in the plan, and from call to call, counted from the rate
    /// at which the last control was reached. A control slows down early enough to stop at its `limits`, as a vehicle
    /// brakes for a wall: with the room d to the limit and the jerk j, its rate is at most about √(2 j d).
    ///
    /// Where the limits cannot all be met, since something other than the planner decided on the last control or the
    /// limits became tighter, `rate_limits` take precedence over `limits`, and these over `jerk_limits`: a control
    /// beyond its box returns at once if its rate is not limited. A policy search refuses them, as it does
    /// `rate_limits`.
    pub jerk_limits: Option<Limits<M>>,
    /// The input delay, in time steps: the time from the state that a call is given until the first control that it
    /// plans takes effect; below the horizon. The first `delay` controls of the plan and of every rollout are those
    /// that were issued before and are still on their way; [`advance`](crate::control::planner::Planner::advance)
    /// returns the control after them. A policy search refuses a delay.
    pub delay: usize,
    /// Run-time parameters, at least as many as are read: see [`StepContext::param`](crate::lang::StepContext::param).
    pub params: Vec<f32>,
    /// References over the horizon, at least as many columns as are read: see
    /// [`StepContext::reference`](crate::lang::StepContext::reference).
    pub references: Option<References>,
    /// The scenarios that every control sequence is rolled out in: how the world may deviate from this task. If there
    /// are none, it is rolled out once, in the task itself. S scenarios take S rollouts for each row; on the CPU, noise
    /// is drawn once for all of them. Problems (of a fleet) × chains × scenarios are at most 65,535. A policy search
    /// refuses scenarios.
    pub scenarios: Vec<Scenario>,
    /// How the costs in all scenarios become the one that counts.
    pub risk: Risk,
    /// Sampled fields, at least as many as are read: see [`StepContext::sample`](crate::lang::StepContext::sample).
    pub fields: Vec<Grid>,
    /// The weights of the model's networks, exactly as many as they have: see
    /// [`StepContext::network`](crate::lang::StepContext::network). All problems of a fleet and all scenarios share
    /// them.
    pub weights: Vec<f32>,
    /// The seed of all noise.
    pub seed: u64,
}

impl<const M: usize> Default for Task<M> {
    /// 50 time steps of 0.02 s without limits, delay, parameters, references, scenarios, fields or weights, and seed 0.
    fn default() -> Self {
        Self {
            horizon: 50,
            dt: 0.02,
            limits: None,
            rate_limits: None,
            jerk_limits: None,
            delay: 0,
            params: Vec::new(),
            references: None,
            scenarios: Vec::new(),
            risk: Risk::Mean,
            fields: Vec::new(),
            weights: Vec::new(),
            seed: 0,
        }
    }
}

impl<const M: usize> Task<M> {
    /// Refuses values that are out of range. The horizon may have at most `longest` time steps.
    pub(crate) fn check(&self, longest: usize) -> Result<(), InvalidValue> {
        if self.horizon == 0 || self.horizon > longest {
            return Err(InvalidValue::new("horizon", self.horizon, format_args!("between 1 and {longest}")));
        }
        in_range("dt", self.dt, self.dt > 0.0, "finite and above 0 (seconds)")?;
        if let Some(limits) = &self.limits {
            limits.check()?;
        }
        if let Some(rates) = &self.rate_limits {
            rates.check_rates("rate_limits", "per second")?;
        }
        if let Some(jerks) = &self.jerk_limits {
            jerks.check_rates("jerk_limits", "per second squared")?;
        }
        if self.delay >= self.horizon {
            let expected = format_args!("below the horizon, {}", self.horizon);
            return Err(InvalidValue::new("delay", self.delay, expected));
        }
        finite("params", &self.params)?;
        finite("weights", &self.weights)?;
        if let Some(references) = &self.references {
            References::check(&references.values, references.columns)?;
        }
        self.risk.check()?;
        Scenario::check(&self.scenarios, self.params.len())
    }

    /// Refuses what only planners support.
    pub(crate) fn check_for_policy(&self) -> Result<(), InvalidValue> {
        if let Some(field) = self.limited_changes() {
            let expected = "None in a policy search: let the control be the rate, and the old control a state";
            return Err(InvalidValue::new(field, "given", expected));
        }
        if self.delay > 0 {
            let expected = "0 in a policy search: let the controls on their way be states";
            return Err(InvalidValue::new("delay", self.delay, expected));
        }
        if !self.scenarios.is_empty() {
            let value = format_args!("{} scenarios", self.scenarios.len());
            let expected = "none in a policy search: let its initial states and parameters be random";
            return Err(InvalidValue::new("scenarios", value, expected));
        }
        Ok(())
    }

    /// Whether the controls of a rollout depend on each other, so that they are made in order of time: see
    /// [`Filter`](crate::kernels::propose::shape::Filter).
    pub(crate) fn is_sequential(&self) -> bool {
        self.limited_changes().is_some() || self.delay > 0
    }

    /// The name of the field that limits changes of controls, if one does.
    pub(crate) fn limited_changes(&self) -> Option<&'static str> {
        match (&self.rate_limits, &self.jerk_limits) {
            (Some(_), _) => Some("rate_limits"),
            (None, Some(_)) => Some("jerk_limits"),
            (None, None) => None,
        }
    }

    /// Refuses a task that has less than `reader` reads.
    pub(crate) fn check_reader(&self, reader: &Reader) -> Result<(), InvalidValue> {
        reader.check_params(self.params.len())?;
        reader.check_weights(self.weights.len())?;
        let deviations = Scenario::most_columns(&self.scenarios);
        reader.check_columns(self.references.as_ref().map_or(0, |r| r.columns).max(deviations))?;
        reader.check_fields(&self.fields)
    }
}

/// Code that reads a task: its name, for errors, and what it reads.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) name: &'static str,
    pub(crate) requirements: Requirements,
    /// Whether more weights than its networks have are accepted, because the model reads the others.
    shares_weights: bool,
}

impl Reader {
    pub(crate) fn new(name: &'static str, requirements: Requirements) -> Self {
        Self { name, requirements, shares_weights: false }
    }

    pub(crate) fn model(requirements: Requirements) -> Self {
        Self::new("the model", requirements)
    }

    pub(crate) fn policy(requirements: Requirements) -> Self {
        Self { shares_weights: true, ..Self::new("the policy", requirements) }
    }

    pub(crate) fn check_params(&self, given: usize) -> Result<(), InvalidValue> {
        let used = self.requirements.params;
        // The last one may be read by its index, beyond those that have names.
        let names = self.requirements.param_names.filter(|names| names.count == used);
        read_by(self.name, "params", given, used, |last| names.map(|names| (names.of)(last)))
    }

    /// Refuses weights that are not exactly those of the networks.
    pub(crate) fn check_weights(&self, given: usize) -> Result<(), InvalidValue> {
        let (reader, networks) = (self.name, &self.requirements.networks);
        let expected = networks.iter().map(Network::end).max().unwrap_or(0);
        if given == expected || self.shares_weights && given > expected {
            return Ok(());
        }
        let mut reason = format!("{reader} evaluates no network");
        if expected > 0 {
            let each = |network: &Network| {
                let layers = network.sizes().windows(2).map(|layer| format!("{} × {} + {0}", layer[1], layer[0]));
                let layers = layers.collect::<Vec<_>>().join(", ");
                format!(
                    "numbers {} to {} for layers {:?} ({layers})",
                    network.first(),
                    network.end() - 1,
                    network.sizes()
                )
            };
            reason = format!("{reader} reads {}", networks.iter().map(each).collect::<Vec<_>>().join(" and "));
        }
        Err(InvalidValue::new("weights", format_args!("{given} long"), format_args!("{expected} long: {reason}")))
    }

    pub(crate) fn check_columns(&self, given: usize) -> Result<(), InvalidValue> {
        columns_read_by(self.name, given, self.requirements.columns)
    }

    pub(crate) fn check_fields(&self, given: &[Grid]) -> Result<(), InvalidValue> {
        check_fields(self.name, &self.requirements, given.len(), |i| given.get(i).map(Grid::shape))
    }

    /// Refuses a field that is to be number `index`, unless it is what is looked up there.
    pub(crate) fn check_field(&self, index: usize, given: &Grid) -> Result<(), InvalidValue> {
        let look_ups = self.requirements.look_ups.iter().filter(|look_up| look_up.field == index);
        look_ups.into_iter().try_for_each(|look_up| check_field(self.name, look_up, given.shape()))
    }
}

/// Refuses fields of which `reader` reads more than there are, or others than there are. `shape` gives the dimensions
/// and channels of each of the `count` fields.
pub(crate) fn check_fields(
    reader: &str,
    requirements: &Requirements,
    count: usize,
    shape: impl Fn(usize) -> Option<[usize; 2]>,
) -> Result<(), InvalidValue> {
    read_by(reader, "fields", count, requirements.fields, |_| None)?;
    let shaped = requirements.look_ups.iter().filter_map(|look_up| Some((look_up, shape(look_up.field)?)));
    shaped.into_iter().try_for_each(|(look_up, shape)| check_field(reader, look_up, shape))
}

/// Refuses a field whose dimensions and channels are not those that `reader` looks up.
fn check_field(reader: &str, look_up: &LookUp, [dimensions, channels]: [usize; 2]) -> Result<(), InvalidValue> {
    if look_up.dimensions == dimensions && look_up.channels <= channels {
        return Ok(());
    }
    let LookUp { field, dimensions: used, channels: most } = *look_up;
    let value = format_args!("a field {field} with {dimensions} dimensions and {channels} channels");
    let expected =
        format_args!("one with {used} dimensions and at least {most} channels, since {reader} looks these up");
    Err(InvalidValue::new("fields", value, expected))
}

/// A range for each control, or for each control's rate of change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits<const M: usize> {
    /// The least value of each control (or rate). May be −∞.
    pub low: [f32; M],
    /// The greatest value of each control (or rate). May be +∞.
    pub high: [f32; M],
}

/// The change that a rate allows within a time. Infinities become half the largest finite number, so that sums with a
/// control stay finite.
pub(crate) fn change_within(rate: f32, seconds: f32) -> f32 {
    (rate * seconds).clamp(f32::MIN / 2.0, f32::MAX / 2.0)
}

/// The change of a change that a jerk allows, for changes within `seconds` each. It is bounded so that its square root
/// times that of any number is finite.
pub(crate) fn jerk_within(jerk: f32, seconds: f32) -> f32 {
    (jerk * seconds * seconds).clamp(-1e30, 1e30)
}

impl<const M: usize> Limits<M> {
    /// The box that limits nothing.
    pub(crate) const NONE: Self = Self { low: [f32::NEG_INFINITY; M], high: [f32::INFINITY; M] };

    /// Clamps a control to the box.
    pub(crate) fn clamp(&self, u: [f32; M]) -> [f32; M] {
        std::array::from_fn(|m| u[m].clamp(self.low[m], self.high[m]))
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        for m in 0..M {
            let (low, high) = (self.low[m], self.high[m]);
            // Written so that a NaN is refused.
            if !(low <= high && low < f32::INFINITY && high > f32::NEG_INFINITY) {
                let value = format_args!("[{low}, {high}] for control {m}");
                let expected = "a low value that is not above the high one, neither of them NaN, nor both +∞ or −∞";
                return Err(InvalidValue::new("limits", value, expected));
            }
        }
        Ok(())
    }

    /// Refuses ranges of rates that do not include 0. `field` holds them, `unit` is a part of their unit.
    fn check_rates(&self, field: &'static str, unit: &str) -> Result<(), InvalidValue> {
        for m in 0..M {
            let (low, high) = (self.low[m], self.high[m]);
            // Written so that a NaN is refused.
            if !(low <= 0.0 && high >= 0.0) {
                let value = format_args!("[{low}, {high}] {unit} for control {m}");
                return Err(InvalidValue::new(field, value, "a low value of at most 0, a high one of at least 0"));
            }
        }
        Ok(())
    }
}

#[cfg(feature = "serde")]
mod serde_limits {
    use serde::ser::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Limits;

    /// Limits as they are stored. Where a format has no infinities, they are NaN after they were read.
    #[derive(Serialize, Deserialize)]
    #[serde(rename = "Limits", deny_unknown_fields)]
    struct Stored<const M: usize> {
        #[serde(with = "crate::lang::recorded")]
        low: [f32; M],
        #[serde(with = "crate::lang::recorded")]
        high: [f32; M],
    }

    impl<const M: usize> Serialize for Limits<M> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            // A NaN would be read as no limit.
            self.check().map_err(S::Error::custom)?;
            Stored { low: self.low, high: self.high }.serialize(serializer)
        }
    }

    impl<'de, const M: usize> Deserialize<'de> for Limits<M> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let Stored { low, high } = Stored::deserialize(deserializer)?;
            let or = |open: f32| move |limit: f32| if limit.is_nan() { open } else { limit };
            Ok(Self { low: low.map(or(f32::NEG_INFINITY)), high: high.map(or(f32::INFINITY)) })
        }
    }
}

/// A table that a model reads its references from, one row per time step: see
/// [`StepContext::reference`](crate::lang::StepContext::reference).
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct References {
    /// The table, row by row. Steps beyond the last row read the last row.
    pub values: Vec<f32>,
    /// The number of columns of the table.
    pub columns: usize,
}

impl References {
    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }

    /// The row that a model reads in time step `t`.
    pub(crate) fn row(&self, t: usize) -> &[f32] {
        &self.values[t.min(self.rows() - 1) * self.columns..][..self.columns]
    }

    /// Whether there are one or more whole rows of one or more columns.
    pub(crate) fn is_table(values: &[f32], columns: usize) -> bool {
        !values.is_empty() && columns > 0 && values.len().is_multiple_of(columns)
    }

    pub(crate) fn check(values: &[f32], columns: usize) -> Result<(), InvalidValue> {
        finite("references", values)?;
        if !Self::is_table(values, columns) {
            let value = format_args!("{} numbers in {columns} columns", values.len());
            return Err(InvalidValue::new("references", value, "one or more whole rows of one or more columns"));
        }
        Ok(())
    }
}
