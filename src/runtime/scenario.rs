//! [`Scenario`]: how the world may deviate from a [`Task`](super::Task).

use super::task::References;
use crate::error::InvalidValue;
use crate::lang::Random;

/// One of the worlds that a control sequence is tried in: what is added there to the state, the parameters and the
/// references of the task. States, parameters and columns beyond those listed deviate by 0.
///
/// Deviations are relative so that they stay as they are when a goal in the parameters moves, or in a fleet whose
/// problems have parameters of their own.
///
/// # Example
///
/// A sledge on ice of unknown friction brakes before a wall at 0.
///
/// ```
/// use gibbs::{Backend, Engine, EngineOptions, Limits, Model, Mppi, MppiOptions, Real, Risk, Scenario, StepContext, Task};
///
/// struct Sledge;
///
/// #[gibbs::model]
/// impl Model<2, 1> for Sledge {
///     fn step<R: Real>(&self, at: &StepContext<R>, [x, v]: [R; 2], [u]: [R; 1]) -> [R; 2] {
///         [x + v * at.dt(), v + u * at.param(0) * at.dt()] // param 0: the grip of the brakes
///     }
///     fn cost<R: Real>(&self, _: &StepContext<R>, [x, _]: [R; 2], _: [R; 1]) -> R {
///         (x + 0.5).square() + R::select(x.gt(0.0), R::from(100.0), R::from(0.0))
///     }
/// }
///
/// let engine = Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() })?;
/// let grips = [-0.3, 0.0, 0.3].map(|grip| Scenario { params: vec![grip], ..Default::default() });
/// let task = Task {
///     dt: 0.1,
///     horizon: 20,
///     params: vec![1.0],
///     limits: Some(Limits { low: [-2.0], high: [2.0] }),
///     scenarios: grips.into(),
///     risk: Risk::Worst,
///     ..Default::default()
/// };
/// let mut mppi = Mppi::new(&engine, Sledge, MppiOptions { iterations: 4, task, ..Default::default() })?;
/// let plan = mppi.plan(&[-2.5, 2.0])?;
/// assert!(plan.scenario_costs().iter().all(|cost| *cost < 100.0), "it stops in time on any of them");
/// # Ok::<(), gibbs::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Scenario {
    /// Added to the state that a call is given, for what is not known about it; at most N numbers.
    pub state: Vec<f32>,
    /// Added to [`Task::params`](super::Task::params); at most as many numbers.
    pub params: Vec<f32>,
    /// Added to [`Task::references`](super::Task::references), row by row, for example as process noise that the model
    /// reads by [`StepContext::reference`](crate::StepContext::reference). The table may have more rows and columns
    /// than that of the task, which has 0 in further columns. Steps beyond its last row deviate as the last row does.
    pub references: Option<References>,
}

impl Scenario {
    /// The number of columns of the references that deviate.
    pub(crate) fn columns(&self) -> usize {
        self.references.as_ref().map_or(0, |references| references.columns)
    }

    /// The most parameters that deviate in any scenario.
    pub(crate) fn most_params(all: &[Self]) -> usize {
        all.iter().map(|scenario| scenario.params.len()).max().unwrap_or(0)
    }

    /// The most columns of the references that deviate in any scenario.
    pub(crate) fn most_columns(all: &[Self]) -> usize {
        all.iter().map(Self::columns).max().unwrap_or(0)
    }

    /// Refuses deviations that are not finite, or in more than the `params` parameters of a task.
    pub(crate) fn check(all: &[Self], params: usize) -> Result<(), InvalidValue> {
        for (s, Self { state, params: own, references }) in all.iter().enumerate() {
            let refuse = |value: std::fmt::Arguments<'_>, expected: std::fmt::Arguments<'_>| {
                Err(InvalidValue::new("scenarios", format_args!("{value} in scenario {s}"), expected))
            };
            let table = references.as_ref().map_or(&[][..], |references| &references.values);
            if let Some(number) = state.iter().chain(own).chain(table).find(|number| !number.is_finite()) {
                return refuse(format_args!("{number}"), format_args!("finite"));
            }
            if own.len() > params {
                let expected = format_args!("at most as many as the task has, {params}");
                return refuse(format_args!("{} parameters", own.len()), expected);
            }
            if let Some(References { values, columns }) = references
                && !References::is_table(values, *columns)
            {
                let value = format_args!("references of {} numbers in {columns} columns", values.len());
                return refuse(value, format_args!("one or more whole rows of one or more columns"));
            }
        }
        Ok(())
    }

    /// Refuses deviations in more than `states` states.
    pub(crate) fn check_states(all: &[Self], states: usize) -> Result<(), InvalidValue> {
        for (s, scenario) in all.iter().enumerate() {
            if scenario.state.len() > states {
                let value = format_args!("{} states in scenario {s}", scenario.state.len());
                return Err(InvalidValue::new(
                    "scenarios",
                    value,
                    format_args!("at most as many as the model has, {states}"),
                ));
            }
        }
        Ok(())
    }
}

/// Normal distributions that scenarios are drawn from: a standard deviation for everything that may deviate.
///
/// # Example
///
/// ```
/// use gibbs::{Scenario, Spread};
///
/// // The second of two parameters is known to 10 %, and gusts (column 0 of the references) are new in every time step.
/// let spread = Spread { params: vec![0.0, 0.1 * 2.4], references: vec![1.5], ..Default::default() };
/// let scenarios: Vec<Scenario> = spread.draw(8, 50, 1)?;
/// assert_eq!(scenarios[0].params[1], -scenarios[1].params[1]);
/// assert_eq!(scenarios[0].references.as_ref().map(|gusts| gusts.values.len()), Some(50));
/// # Ok::<(), gibbs::InvalidValue>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spread {
    /// The standard deviation of each state.
    pub state: Vec<f32>,
    /// The standard deviation of each parameter.
    pub params: Vec<f32>,
    /// The standard deviation of each column of the references in every time step, independently.
    pub references: Vec<f32>,
}

impl Spread {
    /// Draws `count` scenarios, with references of `horizon` time steps. Scenarios 2j and 2j + 1 have opposite signs,
    /// so that an even number of them has the task as its mean. The same seed gives the same scenarios.
    ///
    /// # Errors
    ///
    /// If a standard deviation is negative or not finite, or references are to be drawn for no time steps.
    pub fn draw(&self, count: usize, horizon: usize, seed: u64) -> Result<Vec<Scenario>, InvalidValue> {
        for (field, all) in [("state", &self.state), ("params", &self.params), ("references", &self.references)] {
            if let Some(std) = all.iter().find(|std| !(**std >= 0.0 && std.is_finite())) {
                return Err(InvalidValue::new(field, std, "standard deviations, finite and not negative"));
            }
        }
        if horizon == 0 && !self.references.is_empty() {
            return Err(InvalidValue::new("horizon", horizon, "at least 1"));
        }
        let mut random = Random::new(seed);
        let mut draw = |std: &[f32]| std.iter().map(|std| std * random.normal()).collect::<Vec<_>>();
        let mut scenarios: Vec<Scenario> = Vec::with_capacity(count);
        while scenarios.len() < count {
            let (state, params) = (draw(&self.state), draw(&self.params));
            let columns = self.references.len();
            let references =
                (columns > 0).then(|| References { values: draw(&self.references.repeat(horizon)), columns });
            let first = Scenario { state, params, references };
            let opposite = first.opposite();
            scenarios.extend([first, opposite]);
        }
        scenarios.truncate(count);
        Ok(scenarios)
    }
}

impl Scenario {
    /// The scenario with all signs changed.
    fn opposite(&self) -> Self {
        let negated = |values: &[f32]| values.iter().map(|value| -value).collect();
        let table = |table: &References| References { values: negated(&table.values), columns: table.columns };
        Self {
            state: negated(&self.state),
            params: negated(&self.params),
            references: self.references.as_ref().map(table),
        }
    }
}
