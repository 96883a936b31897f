//! Inputs of a [`Planner`] that change between calls without recompilation: parameters, references, scenarios, fields,
//! and weights of networks.

use super::algorithm::Algorithm;
use super::{Member, Planner};
use crate::error::InvalidValue;
use crate::lang::grid::{Block, Grid};
use crate::model::Model;
use crate::runtime::inputs::Packed;
use crate::runtime::scenario::Scenario;
use crate::runtime::task::{Reader, Task};

impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> Planner<N, M, D, A> {
    /// Replaces the run-time parameters. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If they are fewer than the model uses or a scenario deviates in, or not finite.
    pub fn set_params(&mut self, params: &[f32]) -> Result<(), InvalidValue> {
        let reader = self.reader();
        self.change_inputs(|inputs, task, _| inputs.set_params(0, &mut task.params, params, &[reader]))
    }

    /// Replaces the reference table: one row of `columns` numbers per time step. Steps beyond the last row read the
    /// last row. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If it is empty or ragged, has fewer columns than the model uses, or is not finite.
    pub fn set_references(&mut self, values: &[f32], columns: usize) -> Result<(), InvalidValue> {
        let reader = self.reader();
        self.change_inputs(|inputs, task, _| inputs.set_references(0, &mut task.references, values, columns, &[reader]))
    }

    /// Replaces the [scenarios](Task::scenarios) by as many others. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If their number differs, they deviate in more states or parameters than there are, a table is ragged, the model
    /// reads columns that neither they nor the task have, or a number is not finite. [`set_options`](Self::set_options)
    /// can change the number.
    pub fn set_scenarios(&mut self, scenarios: Vec<Scenario>) -> Result<(), InvalidValue> {
        let (task, count) = (self.options.task(), self.options.task().scenarios.len());
        if scenarios.len() != count {
            let expected = format_args!("{count}, as before; set_options can change the number");
            return Err(InvalidValue::new("scenarios", format_args!("{} scenarios", scenarios.len()), expected));
        }
        Scenario::check(&scenarios, task.params.len())?;
        Scenario::check_states(&scenarios, N)?;
        let deviations = Scenario::most_columns(&scenarios);
        for member in &self.members {
            let columns = member.references(task).map_or(0, |table| table.columns);
            self.reader().check_columns(columns.max(deviations))?;
        }
        self.change_inputs(|inputs, task, members| {
            task.scenarios = scenarios;
            let groups = members.iter().map(|member| (member.params(task), member.references(task)));
            inputs.set_scenarios(&task.scenarios, groups);
            Ok(())
        })
    }

    /// Refuses a task that has less than the model reads, or scenarios that deviate in more states than it has.
    pub(super) fn check_reader(&self, task: &Task<M>, reader: &Reader) -> Result<(), InvalidValue> {
        task.check_reader(reader)?;
        Scenario::check_states(&task.scenarios, N)
    }

    /// Replaces one sampled field. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If there is no field of that index yet, or the model looks up other dimensions or more channels. Then nothing is
    /// changed.
    pub fn set_field(&mut self, index: usize, grid: Grid) -> Result<(), InvalidValue> {
        let reader = self.reader();
        self.change_inputs(|inputs, task, _| inputs.set_field(&mut task.fields, index, grid, &[reader]))
    }

    /// Overwrites a rectangle of samples of one field in place, given row by row from the smallest y: for a costmap
    /// that changes where the robot's sensors reach. Recompiles nothing.
    ///
    /// For a table, pass a range (`update_field(0, 3..5, …)`), and for a volume a rectangle in some layers
    /// ([`Region::layers`](crate::lang::Region::layers)), both in all channels: see [`Grid::update`].
    ///
    /// Nothing outside the region is packed again, and nothing is allocated. A GPU uploads the samples of that field
    /// from the first to the last changed one, row by row, so that a wide and low region is cheaper than a narrow and
    /// high one. If a call is [pending](Self::start), the field is copied once, because the result of that call needs
    /// it as it was.
    ///
    /// A map that rolls along with the robot is moved by whole cells with [`set_field_origin`](Self::set_field_origin).
    /// That gives every sample another place in the world, so then overwrite the whole field ([`Grid::region`]) by the
    /// rolled samples.
    ///
    /// # Errors
    ///
    /// If there is no field of that index, the region is empty or not within the field, `values` does not have one
    /// number per sample of the region and channel, or a number is not finite. Then nothing is changed.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::lang::Region;
    /// use gibbs::{Engine, Grid, Model, Mppi, MppiOptions, Real, StepContext, Task};
    ///
    /// /// A point with a velocity as control, on a costmap.
    /// struct Point;
    ///
    /// #[gibbs::model]
    /// impl Model<2, 2> for Point {
    ///     fn step<R: Real>(&self, at: &StepContext<R>, [x, y]: [R; 2], [u, v]: [R; 2]) -> [R; 2] {
    ///         [x + u * at.dt(), y + v * at.dt()]
    ///     }
    ///     fn cost<R: Real>(&self, at: &StepContext<R>, [x, y]: [R; 2], _: [R; 2]) -> R {
    ///         at.sample(0, x, y) + (x - 5.0).square()
    ///     }
    /// }
    ///
    /// // 200 × 100 cells of 10 cm, free.
    /// let map = Grid::from_fn(200, 100, 0.1, [0.0, 0.0], |_, _| 0.0)?;
    /// let task = Task { fields: vec![map], ..Default::default() };
    /// let mut mppi = Mppi::new(&Engine::new()?, Point, MppiOptions { task, ..Default::default() })?;
    ///
    /// // An obstacle of 3 × 2 cells.
    /// mppi.update_field(0, Region { column: 30, row: 48, width: 3, height: 2 }, &[50.0; 6])?;
    /// let plan = mppi.plan(&[1.0, 5.0])?;
    /// # assert!(plan.cost().is_finite());
    /// # Ok::<(), gibbs::Error>(())
    /// ```
    pub fn update_field(&mut self, index: usize, region: impl Into<Block>, values: &[f32]) -> Result<(), InvalidValue> {
        let block = region.into();
        self.change_inputs(|inputs, task, _| inputs.update_field(&mut task.fields, index, block, values))
    }

    /// Moves one field: its lower-left corner (in meters) becomes `origin`, and its samples stay. Recompiles nothing,
    /// and neither packs nor uploads samples. See [`update_field`](Self::update_field) about maps that roll.
    ///
    /// # Errors
    ///
    /// If there is no field of that index, or `origin` is not finite or does not have as many numbers as the field has
    /// dimensions. Then nothing is changed.
    pub fn set_field_origin<const K: usize>(&mut self, index: usize, origin: [f32; K]) -> Result<(), InvalidValue> {
        self.set_field_origin_to(index, &origin)
    }

    /// As [`set_field_origin`](Self::set_field_origin), for an origin whose number of dimensions is run-time data.
    pub(super) fn set_field_origin_to(&mut self, index: usize, origin: &[f32]) -> Result<(), InvalidValue> {
        self.change_inputs(|inputs, task, _| inputs.set_field_origin(&mut task.fields, index, origin))
    }

    /// Replaces the weights of the model's networks: see [`StepContext::network`](crate::StepContext::network).
    /// Recompiles nothing. A GPU uploads them in the next call, and only then.
    ///
    /// # Errors
    ///
    /// If they are not as many as the networks have, or not finite. Then nothing is changed.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<(), InvalidValue> {
        let reader = self.reader();
        self.change_inputs(|inputs, task, _| inputs.set_weights(&mut task.weights, weights, &[reader]))
    }

    /// Changes the inputs of the next call. Those of a pending call are kept for its results.
    pub(super) fn change_inputs(
        &mut self,
        change: impl FnOnce(&mut Packed, &mut Task<M>, &mut [Member<N, M>]) -> Result<(), InvalidValue>,
    ) -> Result<(), InvalidValue> {
        let is_shared = self.pending.as_ref().is_some_and(|call| call.inputs.is_none());
        let before = is_shared.then(|| self.inputs.clone());
        change(&mut self.inputs, self.options.task_mut(), &mut self.members)?;
        if let (Some(call), Some(before)) = (&mut self.pending, before) {
            call.inputs = Some(before);
        }
        self.forget_samples();
        Ok(())
    }
}
