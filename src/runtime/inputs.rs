//! [`Packed`], all kernel inputs besides rows and fields, in one array with its layout. Only this type writes the array
//! and passes its offsets to kernels, so the two cannot disagree.

use super::scenario::Scenario;
use super::task::{Limits, Reader, References, Task, change_within, jerk_within};
use crate::error::{InvalidValue, finite};
use crate::kernels::pass::{
    CLAMPED, DELAYED, FLEET, JERK_LIMITED, LIMITED, Layout, NoiseId, Pass, Problem, RATE_LIMITED, TILE, Weights,
};
use crate::lang::grid::{Block, FieldChanges, FieldSet, Grid};
use crate::lang::{Timeline, philox};

/// The sections that change rarely. The state precedes them and is set by every call; the driver's own table follows
/// them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sections<'a> {
    /// The limits of the controls, M numbers each. Infinities become the largest finite numbers, since WGSL has none.
    pub(crate) low: &'a [f32],
    pub(crate) high: &'a [f32],
    /// The limits of the rate of each control, per second. What they allow within a time step is packed: see
    /// [`change_within`].
    pub(crate) rates: Option<[&'a [f32]; 2]>,
    /// The limits of the jerk of each control, per second squared: see [`jerk_within`].
    pub(crate) jerks: Option<[&'a [f32]; 2]>,
    /// The time step (in seconds).
    pub(crate) dt: f32,
    /// L of Σ = L Lᵀ.
    pub(crate) factor: Square<'a>,
    /// Σ⁻¹.
    pub(crate) precision: Square<'a>,
    pub(crate) params: &'a [f32],
    pub(crate) references: Option<&'a References>,
    pub(crate) scenarios: &'a [Scenario],
    /// The weights of networks, which all groups and scenarios share. They are stored beside the sections.
    pub(crate) weights: &'a [f32],
}

/// An M × M matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Square<'a> {
    /// Row by row.
    Dense(&'a [f32]),
    Unit,
    Zero,
}

impl Square<'_> {
    /// Entry `at` of the `controls` × `controls` matrix, row by row.
    fn entry(&self, at: usize, controls: usize) -> f32 {
        match self {
            Self::Dense(entries) => entries[at],
            Self::Unit if at / controls == at % controls => 1.0,
            Self::Unit | Self::Zero => 0.0,
        }
    }
}

/// The inputs of a driver's kernels with their [`Layout`], and the fields. The problems of a fleet form groups with
/// inputs of their own; all other problems are one group. Each group has a section for the task itself and one for each
/// scenario.
///
/// The setters replace what the options of the driver hold together with what the kernels read, so these cannot differ.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    layout: Layout,
    groups: usize,
    scenarios: Vec<Scenario>,
    /// The sections of all groups, one after the other.
    values: Vec<f32>,
    fields: FieldSet,
    weights: Vec<f32>,
    /// Counts how often the weights have been replaced, so that a device uploads them only then.
    weights_version: u64,
    /// What has changed in the fields since a device last uploaded them.
    field_changes: FieldChanges,
}

impl Packed {
    /// Packs the inputs of a system with `states` states, whose initial state is 0.
    pub(crate) fn new(states: usize, sections: &Sections<'_>, fields: &[Grid]) -> Self {
        Self::of_groups(states, sections, fields, 1)
    }

    /// As [`new`](Self::new), for several groups of problems.
    pub(crate) fn of_groups(states: usize, sections: &Sections<'_>, fields: &[Grid], groups: usize) -> Self {
        let layout = Layout { states, controls: 0, params: 0, reference_rows: 0, reference_columns: 0 };
        let (values, field_changes) = (Vec::new(), FieldChanges::default());
        let (scenarios, weights, weights_version) = (Vec::new(), Vec::new(), 0);
        let mut packed = Self {
            layout,
            groups,
            scenarios,
            values,
            fields: FieldSet::default(),
            weights,
            weights_version,
            field_changes,
        };
        packed.write(sections);
        packed.set_fields(fields);
        packed
    }

    /// Replaces all sections, those of every group by the same. The state becomes 0, and there is no table until
    /// [`set_table`](Self::set_table) writes one.
    pub(crate) fn write(&mut self, sections: &Sections<'_>) {
        let Sections { low, high, rates, jerks, dt, factor, precision, params, references, scenarios, weights } =
            *sections;
        self.put_weights(weights);
        let (states, controls) = (self.layout.states, low.len());
        let (rows, columns) = references.map_or((0, 0), |r| (r.rows(), r.columns));
        self.layout =
            Layout { states, controls, params: params.len(), reference_rows: rows, reference_columns: columns };
        self.values.clear();
        self.values.resize(states, 0.0);
        self.values.extend(low.iter().map(|v| v.max(f32::MIN)));
        self.values.extend(high.iter().map(|v| v.min(f32::MAX)));
        for square in [factor, precision] {
            self.values.extend((0..controls * controls).map(|at| square.entry(at, controls)));
        }
        let end = |limits: Option<[&[f32]; 2]>, end: usize, m: usize| {
            limits.map_or([f32::NEG_INFINITY, f32::INFINITY][end], |limits| limits[end][m])
        };
        for i in 0..2 {
            self.values.extend((0..controls).map(|m| change_within(end(rates, i, m), dt)));
        }
        for i in 0..2 {
            self.values.extend((0..controls).map(|m| jerk_within(end(jerks, i, m), dt)));
        }
        self.values.resize(self.layout.params_at(), 0.0);
        self.values.extend(params);
        self.values.extend(references.iter().flat_map(|r| &r.values[..rows * columns]));
        debug_assert_eq!(self.values.len(), self.layout.table());
        self.scenarios.clear();
        self.scenarios.extend_from_slice(scenarios);
        if self.is_fleet() {
            self.values.extend([0.0; NoiseId::LEN]);
            let stride = self.values.len();
            for _ in 1..self.groups * self.sections() {
                self.values.extend_from_within(..stride);
            }
        }
        if !scenarios.is_empty() {
            for group in 0..self.groups {
                self.put_params(group, params);
                self.put_references(group, references);
            }
        }
    }

    /// The number of sections of each group.
    fn sections(&self) -> usize {
        1 + self.scenarios.len()
    }

    /// Whether there are several sections, each with its noise.
    pub(crate) fn is_fleet(&self) -> bool {
        self.groups * self.sections() > 1
    }

    /// The length of a section.
    fn stride(&self) -> usize {
        self.values.len() / (self.groups * self.sections())
    }

    /// The section of a group for the task itself.
    fn group(&self, index: usize) -> &[f32] {
        let stride = self.stride();
        &self.values[index * self.sections() * stride..][..stride]
    }

    /// The sections of a group: that for the task itself, and those for its scenarios, each with what it deviates by.
    fn sections_mut(&mut self, group: usize) -> impl Iterator<Item = (&mut [f32], Option<&Scenario>)> {
        let (stride, sections) = (self.stride(), self.sections());
        let values = &mut self.values[group * sections * stride..][..sections * stride];
        let scenarios = std::iter::once(None).chain(self.scenarios.iter().map(Some));
        values.chunks_exact_mut(stride).zip(scenarios)
    }

    /// The state that rollouts of a group start from.
    pub(crate) fn state<const N: usize>(&self, group: usize) -> [f32; N] {
        let mut x = [0.0; N];
        x.copy_from_slice(&self.group(group)[..N]);
        x
    }

    /// Replaces the state that rollouts of a group start from.
    pub(crate) fn set_state(&mut self, group: usize, x: &[f32]) {
        for (section, scenario) in self.sections_mut(group) {
            section[..x.len()].copy_from_slice(x);
            add(&mut section[..x.len()], scenario.map(|scenario| &scenario.state[..]));
        }
    }

    /// The control before time step 0 of a group, and its change per time step.
    pub(crate) fn last<const M: usize>(&self, group: usize) -> [[f32; M]; 2] {
        let mut last = [[0.0; M]; 2];
        last.as_flattened_mut().copy_from_slice(&self.group(group)[self.layout.last()..][..2 * M]);
        last
    }

    /// Replaces the control before time step 0 of a group, and its change per time step.
    pub(crate) fn set_last<const M: usize>(&mut self, group: usize, last: [[f32; M]; 2]) {
        let at = self.layout.last();
        self.sections_mut(group).for_each(|(section, _)| section[at..][..2 * M].copy_from_slice(last.as_flattened()));
    }

    /// Replaces the noise of a group, which all scenarios share. A single section takes seed and number from its
    /// passes.
    pub(crate) fn set_noise(&mut self, group: usize, noise: NoiseId) {
        debug_assert!(self.is_fleet(), "a single section stores no noise");
        let at = self.stride() - NoiseId::LEN;
        self.sections_mut(group).for_each(|(section, _)| section[at..].copy_from_slice(&noise.to_inputs()));
    }

    /// Replaces the table after the sections: rewards of the rows of a data set, or the initial states of episodes.
    /// `write` passes its numbers to the function that it is given.
    pub(crate) fn set_table(&mut self, write: impl FnOnce(&mut dyn FnMut(&[f32]))) {
        debug_assert!(!self.is_fleet(), "the problems of a fleet have no table");
        self.values.truncate(self.layout.table());
        let values = &mut self.values;
        write(&mut |numbers| values.extend_from_slice(numbers));
    }

    /// Replaces the run-time parameters of a group, `own` in the options.
    pub(crate) fn set_params(
        &mut self,
        group: usize,
        own: &mut Vec<f32>,
        params: &[f32],
        readers: &[Reader],
    ) -> Result<(), InvalidValue> {
        finite("params", params)?;
        readers.iter().try_for_each(|reader| reader.check_params(params.len()))?;
        let deviations = Scenario::most_params(&self.scenarios);
        if params.len() < deviations {
            let expected = format_args!("at least {deviations} long, since a scenario deviates in so many");
            return Err(InvalidValue::new("params", format_args!("{} long", params.len()), expected));
        }
        own.clear();
        own.extend_from_slice(params);
        self.put_params(group, params);
        Ok(())
    }

    /// Writes the parameters of a group. Other groups may have more of them; the remainder is 0, which no model reads.
    pub(crate) fn put_params(&mut self, group: usize, params: &[f32]) {
        let least = if self.is_fleet() { self.layout.params } else { 0 };
        let most = Scenario::most_params(&self.scenarios);
        self.change_layout(Layout { params: params.len().max(least).max(most), ..self.layout });
        let layout = self.layout;
        for (section, scenario) in self.sections_mut(group) {
            let own = &mut section[layout.params_at()..layout.references()];
            let (used, unused) = own.split_at_mut(params.len());
            used.copy_from_slice(params);
            unused.fill(0.0);
            add(own, scenario.map(|scenario| &scenario.params[..]));
        }
    }

    /// Replaces the weights of networks, `own` in the options.
    pub(crate) fn set_weights(
        &mut self,
        own: &mut Vec<f32>,
        weights: &[f32],
        readers: &[Reader],
    ) -> Result<(), InvalidValue> {
        readers.iter().try_for_each(|reader| reader.check_weights(weights.len()))?;
        finite("weights", weights)?;
        own.clear();
        own.extend_from_slice(weights);
        self.put_weights(weights);
        Ok(())
    }

    fn put_weights(&mut self, weights: &[f32]) {
        self.weights.clear();
        self.weights.extend_from_slice(weights);
        self.weights_version += 1;
    }

    /// Replaces the reference table of a group, `own` in the options.
    pub(crate) fn set_references(
        &mut self,
        group: usize,
        own: &mut Option<References>,
        values: &[f32],
        columns: usize,
        readers: &[Reader],
    ) -> Result<(), InvalidValue> {
        let most = Scenario::most_columns(&self.scenarios);
        readers.iter().try_for_each(|reader| reader.check_columns(columns.max(most)))?;
        References::check(values, columns)?;
        let own = own.get_or_insert_default();
        own.values.clear();
        own.values.extend_from_slice(values);
        own.columns = columns;
        self.put_references(group, Some(own));
        Ok(())
    }

    /// Writes the reference table of a group. Tables of other groups, and the deviations of scenarios, may be larger;
    /// the last row is repeated, which is what a model reads beyond it, and the remaining columns are 0.
    pub(crate) fn put_references(&mut self, group: usize, references: Option<&References>) {
        let Layout { reference_rows, reference_columns, .. } = self.layout;
        let mut size = if self.is_fleet() { [reference_rows, reference_columns] } else { [0, 0] };
        let deviations = self.scenarios.iter().filter_map(|scenario| scenario.references.as_ref());
        for References { values, columns } in references.into_iter().chain(deviations) {
            size = [size[0].max(values.len() / columns), size[1].max(*columns)];
        }
        let [reference_rows, reference_columns] = size;
        self.change_layout(Layout { reference_rows, reference_columns, ..self.layout });
        let layout = self.layout;
        for (section, scenario) in self.sections_mut(group) {
            let table = &mut section[layout.references()..layout.table()];
            for (row, values) in table.chunks_exact_mut(reference_columns.max(1)).enumerate() {
                values.fill(0.0);
                add(values, references.map(|references| references.row(row)));
                add(values, scenario.and_then(|scenario| scenario.references.as_ref()).map(|table| table.row(row)));
            }
        }
    }

    /// Replaces the scenarios by as many others, as in the options, and what depends on them in a group with these
    /// parameters and references.
    pub(crate) fn set_scenarios<'a>(
        &mut self,
        scenarios: &[Scenario],
        groups: impl Iterator<Item = (&'a [f32], Option<&'a References>)>,
    ) {
        debug_assert_eq!(self.scenarios.len(), scenarios.len());
        self.scenarios.clear();
        self.scenarios.extend_from_slice(scenarios);
        for (group, (params, references)) in groups.enumerate() {
            self.put_params(group, params);
            self.put_references(group, references);
        }
    }

    /// Changes the numbers of parameters, rows and columns of every group, and pads or truncates what is there.
    fn change_layout(&mut self, layout: Layout) {
        let (before, stride) = (self.layout, self.stride());
        if before == layout {
            return;
        }
        for group in std::mem::take(&mut self.values).chunks_exact(stride) {
            self.values.extend(&group[..before.params_at()]);
            let padded = |numbers: &[f32], count: usize| {
                let used = &numbers[..numbers.len().min(count)];
                used.iter().copied().chain(std::iter::repeat_n(0.0, count - used.len())).collect::<Vec<_>>()
            };
            self.values.extend(padded(&group[before.params_at()..before.references()], layout.params));
            let table = &group[before.references()..before.table()];
            for row in 0..layout.reference_rows {
                let at = row.min(before.reference_rows.max(1) - 1) * before.reference_columns;
                self.values.extend(padded(&table[at..][..before.reference_columns], layout.reference_columns));
            }
            self.values.extend(&group[before.table()..]);
        }
        self.layout = layout;
    }

    /// Replaces one of the fields, `own` in the options.
    pub(crate) fn set_field(
        &mut self,
        own: &mut [Grid],
        index: usize,
        grid: Grid,
        readers: &[Reader],
    ) -> Result<(), InvalidValue> {
        let field = field_mut(own, index)?;
        readers.iter().try_for_each(|reader| reader.check_field(index, &grid))?;
        *field = grid;
        if self.fields.set(index, field) {
            self.field_changes.all(own);
        } else {
            self.field_changes.whole(index);
        }
        Ok(())
    }

    /// Overwrites a block of one of the fields, `own` in the options.
    pub(crate) fn update_field(
        &mut self,
        own: &mut [Grid],
        index: usize,
        block: Block,
        values: &[f32],
    ) -> Result<(), InvalidValue> {
        let field = field_mut(own, index)?;
        field.update(block, values)?;
        self.fields.update(index, field, block);
        self.field_changes.block(index, block);
        Ok(())
    }

    /// Moves the origin of one of the fields, `own` in the options.
    pub(crate) fn set_field_origin(
        &mut self,
        own: &mut [Grid],
        index: usize,
        origin: &[f32],
    ) -> Result<(), InvalidValue> {
        let field = field_mut(own, index)?;
        field.set_origin_to(origin)?;
        self.fields.set_header(index, field);
        self.field_changes.header();
        Ok(())
    }

    /// Notes that the fields have been uploaded to the device, if that has a copy of them.
    pub(crate) fn note_upload(&mut self) {
        self.field_changes.uploaded();
    }

    /// Replaces all fields.
    pub(crate) fn set_fields(&mut self, fields: &[Grid]) {
        self.fields = FieldSet::new(fields);
        self.field_changes.all(fields);
    }

    /// Returns a pass that reads these inputs, steps all the way to the mean and keeps to the limits if it is
    /// `limited`. The driver adds rows, their width and number, and the problems.
    pub(crate) fn pass(&self, seed: u64, horizon: usize, dt: f32, limited: bool) -> Pass {
        Pass {
            seed: philox::key(seed),
            horizon: horizon as u32,
            flags: if limited { LIMITED | CLAMPED } else { 0 } | if self.is_fleet() { FLEET } else { 0 },
            inputs_stride: self.stride() as u32,
            dt,
            coordinate_stride: TILE as u32,
            row_stride: 1,
            references: self.layout.references() as u32,
            reference_rows: self.layout.reference_rows as u32,
            reference_columns: self.layout.reference_columns as u32,
            cost_scale: 1.0,
            a: 1.0,
            scale: 1.0,
            starts: self.layout.table() as u32,
            ..bytemuck::Zeroable::zeroed()
        }
    }

    /// Returns the problem that these inputs describe, without a standard-deviation scale per coordinate and
    /// without rows from the caller.
    pub(crate) fn problem<'a>(&'a self, nominal: &'a [f32]) -> Problem<'a> {
        let Self { layout, ref values, ref fields, ref field_changes, .. } = *self;
        let weights = Weights { values: &self.weights, version: self.weights_version };
        let (inputs, std_scale) = (values, &[]);
        Problem { layout, inputs, nominal, std_scale, fields, weights, field_changes, filter: None, rows: None }
    }

    /// The timeline of a group: parameters, references, fields and weights that a model reads over the horizon.
    pub(crate) fn timeline(&self, group: usize, dt: f32) -> Timeline<'_> {
        self.layout.timeline(self.group(group), self.fields.look_ups(), &self.weights, dt)
    }

    /// The timeline of a group in one of its scenarios.
    pub(crate) fn timeline_in(&self, scenario: usize, group: usize, dt: f32) -> Timeline<'_> {
        let section = group * self.sections() + 1 + scenario;
        let inputs = &self.values[section * self.stride()..];
        self.layout.timeline(inputs, self.fields.look_ups(), &self.weights, dt)
    }

    pub(crate) fn scenarios(&self) -> &[Scenario] {
        &self.scenarios
    }

    pub(crate) fn fields(&self) -> &FieldSet {
        &self.fields
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }
}

/// Adds numbers to the first of `to`.
fn add(to: &mut [f32], numbers: Option<&[f32]>) {
    to.iter_mut().zip(numbers.into_iter().flatten()).for_each(|(to, number)| *to += number);
}

fn field_mut(fields: &mut [Grid], index: usize) -> Result<&mut Grid, InvalidValue> {
    match fields.len() {
        0 => Err(InvalidValue::new("field", index, "the index of a field of the task, which has none")),
        count => fields
            .get_mut(index)
            .ok_or_else(|| InvalidValue::new("field", index, format_args!("below the number of fields, {count}"))),
    }
}

impl<const M: usize> Task<M> {
    /// Returns the sections that are packed for the kernels, with a covariance of the noise.
    pub(crate) fn sections<'a>(&'a self, factor: Square<'a>, precision: Square<'a>) -> Sections<'a> {
        let Limits { low, high } = self.limits.as_ref().unwrap_or(const { &Limits::NONE });
        let [rates, jerks] = [&self.rate_limits, &self.jerk_limits]
            .map(|limits| limits.as_ref().map(|Limits { low, high }| [&low[..], &high[..]]));
        let (params, references) = (&self.params[..], self.references.as_ref());
        let (dt, scenarios, weights) = (self.dt, &self.scenarios[..], &self.weights[..]);
        Sections { low, high, rates, jerks, dt, factor, precision, params, references, scenarios, weights }
    }

    /// Returns a pass over the horizon, without rows: see [`Packed::pass`].
    pub(crate) fn pass(&self, inputs: &Packed) -> Pass {
        let mut pass = inputs.pass(self.seed, self.horizon, self.dt, self.limits.is_some());
        pass.set(RATE_LIMITED, self.rate_limits.is_some());
        pass.set(JERK_LIMITED, self.jerk_limits.is_some());
        pass.set(DELAYED, self.delay > 0);
        pass.delay = self.delay as u32;
        pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A control between −1 and 1, and nothing else.
    const PLAIN: Sections<'static> = Sections {
        low: &[-1.0],
        high: &[1.0],
        rates: None,
        jerks: None,
        dt: 0.1,
        factor: Square::Unit,
        precision: Square::Unit,
        params: &[],
        references: None,
        scenarios: &[],
        weights: &[],
    };

    #[test]
    fn every_section_stands_where_its_layout_says() {
        let references = References { values: vec![21.0, 22.0, 23.0, 24.0, 25.0, 26.0], columns: 3 };
        let mut sections = Sections {
            low: &[f32::NEG_INFINITY, -2.0],
            high: &[1.0, f32::INFINITY],
            rates: Some([&[-4.0, f32::NEG_INFINITY], &[0.0, 6.0]]),
            jerks: Some([&[-8.0, f32::NEG_INFINITY], &[0.0, 16.0]]),
            dt: 0.5,
            factor: Square::Dense(&[1.0, 0.0, 0.5, 2.0]),
            precision: Square::Unit,
            params: &[11.0, 12.0],
            references: Some(&references),
            scenarios: &[],
            weights: &[],
        };
        let mut packed = Packed::new(3, &sections, &[]);
        packed.set_state(0, &[7.0, 8.0, 9.0]);
        packed.set_last(0, [[41.0, 42.0], [43.0, 44.0]]);
        for count in [2, 5, 0, 4] {
            packed.set_table(|push| (0..count).for_each(|i| push(&[31.0 + i as f32])));
            let (layout, values) = (packed.layout(), packed.values());
            assert_eq!(values[..3], [7.0, 8.0, 9.0]);
            assert_eq!(values[layout.low()..layout.high()], [f32::MIN, -2.0]);
            assert_eq!(values[layout.high()..layout.factor()], [1.0, f32::MAX]);
            assert_eq!(values[layout.factor()..layout.precision()], [1.0, 0.0, 0.5, 2.0]);
            assert_eq!(values[layout.precision()..layout.change_low()], [1.0, 0.0, 0.0, 1.0]);
            assert_eq!(values[layout.change_low()..layout.change_high()], [-2.0, f32::MIN / 2.0]);
            assert_eq!(values[layout.change_high()..layout.jerk_low()], [0.0, 3.0]);
            assert_eq!(values[layout.jerk_low()..layout.jerk_high()], [-2.0, -1e30]);
            assert_eq!(values[layout.jerk_high()..layout.last()], [0.0, 4.0]);
            assert_eq!(values[layout.last()..layout.last_change()], [41.0, 42.0]);
            assert_eq!(values[layout.last_change()..layout.params_at()], [43.0, 44.0]);
            assert_eq!(packed.last(0), [[41.0, 42.0], [43.0, 44.0]]);
            assert_eq!(values[layout.params_at()..layout.references()], [11.0, 12.0]);
            assert_eq!(values[layout.references()..layout.table()], references.values);
            let table: Vec<f32> = (0..count).map(|i| 31.0 + i as f32).collect();
            assert_eq!(values[layout.table()..], table);
        }
        sections.params = &[11.0, 12.0, 13.0, 14.0];
        sections.references = None;
        packed.write(&sections);
        let (layout, pass) = (packed.layout(), packed.pass(5, 1, 0.1, false));
        assert_eq!(packed.values()[..3], [0.0; 3], "a state goes with the sections of its time");
        assert_eq!(packed.values()[layout.params_at()..], [11.0, 12.0, 13.0, 14.0]);
        assert_eq!((pass.references, pass.starts), (layout.references() as u32, layout.table() as u32));
        assert_eq!((pass.reference_rows, pass.reference_columns), (0, 0));
    }

    #[test]
    fn groups_share_a_layout_and_each_reads_what_it_was_given() {
        let table = References { values: vec![21.0, 22.0, 23.0], columns: 1 };
        let sections = Sections { params: &[11.0], references: Some(&table), ..PLAIN };
        let mut packed = Packed::of_groups(2, &sections, &[], 3);
        let noise = NoiseId { key: [0x8000_0001, 0xffff_ffff], number: 0x0001_ffff };
        packed.set_noise(1, noise);
        packed.set_state(1, &[7.0, 8.0]);
        let params = |packed: &Packed| {
            let layout = packed.layout();
            [0, 1, 2].map(|i| packed.group(i)[layout.params_at()..layout.references()].to_vec())
        };
        let references = |packed: &Packed| {
            let layout = packed.layout();
            [0, 1, 2].map(|i| packed.group(i)[layout.references()..layout.table()].to_vec())
        };
        assert_eq!(params(&packed), [[11.0]; 3]);
        assert_eq!(references(&packed), [[21.0, 22.0, 23.0]; 3]);

        packed.put_params(1, &[12.0, 13.0]);
        packed.put_references(1, Some(&References { values: vec![31.0, 32.0], columns: 2 }));
        packed.put_references(2, Some(&References { values: vec![41.0, 42.0, 43.0, 44.0], columns: 1 }));
        assert_eq!(params(&packed), [[11.0, 0.0], [12.0, 13.0], [11.0, 0.0]]);
        assert_eq!(
            references(&packed),
            [
                [21.0, 0.0, 22.0, 0.0, 23.0, 0.0, 23.0, 0.0],
                [31.0, 32.0, 31.0, 32.0, 31.0, 32.0, 31.0, 32.0],
                [41.0, 0.0, 42.0, 0.0, 43.0, 0.0, 44.0, 0.0],
            ]
        );
        packed.put_params(1, &[14.0]);
        packed.put_references(1, Some(&References { values: vec![51.0], columns: 1 }));
        assert_eq!(params(&packed)[1], [14.0, 0.0]);
        assert_eq!(references(&packed)[1], [51.0, 0.0, 51.0, 0.0, 51.0, 0.0, 51.0, 0.0]);

        let states = [[0.0, 0.0, -1.0, 1.0], [7.0, 8.0, -1.0, 1.0], [0.0, 0.0, -1.0, 1.0]];
        assert_eq!([0, 1, 2].map(|i| packed.group(i)[..4].to_vec()), states);
        assert_eq!(NoiseId::of_inputs(packed.group(1)), noise);
        let pass = packed.pass(5, 1, 0.1, false);
        assert!(pass.has(FLEET));
        assert_eq!(pass.inputs_stride as usize, packed.layout().table() + NoiseId::LEN);
        assert_eq!(packed.values().len(), 3 * pass.inputs_stride as usize);

        // A single group has no more than it was given last.
        let mut single = Packed::new(2, &sections, &[]);
        single.put_params(0, &[1.0, 2.0, 3.0]);
        single.put_params(0, &[4.0]);
        single.put_references(0, Some(&References { values: vec![61.0, 62.0], columns: 1 }));
        assert_eq!(single.values()[single.layout().params_at()..], [4.0, 61.0, 62.0]);
        assert!(!single.pass(5, 1, 0.1, false).has(FLEET));
    }

    /// Changes fields at random. A device uploads from time to time, sometimes for the first time or without its driver
    /// noting so, and always ends with what a new driver would pack.
    #[test]
    #[cfg(feature = "gpu")]
    fn a_device_that_uploads_what_has_changed_has_every_field() {
        use crate::lang::{Ends, Random, Region};

        let mut random = Random::new(17);
        let mut below = move |count: usize| random.bits() as usize % count;
        let mut serial = 0.0;
        let mut numbers = move |count: usize| -> Vec<f32> {
            (0..count)
                .map(|_| {
                    serial += 1.0;
                    serial
                })
                .collect()
        };
        // Fields of every kind, some of which have as many packed numbers as others of another shape.
        let mut grid = |kind: usize| {
            match kind {
                0 | 2 => Grid::new(3, 4, 0.5, [0.0; 2], numbers(12)).and_then(|grid| grid.with_yaw(0.3)),
                1 => Grid::new(7, 2, 0.5, [0.0; 2], numbers(14)),
                3 => Grid::new(5, 5, 0.5, [0.0; 2], numbers(25)).and_then(|grid| grid.with_channel(numbers(25))),
                4 => Grid::new(1, 8, 0.5, [0.0; 2], numbers(8)),
                5 => Grid::new(9, 1, 0.5, [0.0; 2], numbers(9)),
                6 => Grid::table(0.5, 0.0, numbers(7)).and_then(|grid| grid.with_channel(numbers(7))),
                7 => Grid::table(0.5, 0.0, numbers(5)).and_then(|grid| {
                    grid.with_channel(numbers(5))?.with_channel(numbers(5))?.with_ends(Ends::Periodic)
                }),
                8 => Grid::table(0.5, 0.0, numbers(1)).and_then(|grid| grid.with_ends(Ends::Periodic)),
                9 => {
                    Grid::volume([3, 2, 4], 0.5, [0.0; 3], numbers(24)).and_then(|grid| grid.with_channel(numbers(24)))
                }
                _ => Grid::volume([2, 3, 1], 0.5, [0.0; 3], numbers(6)),
            }
            .expect("a grid")
        };
        for _ in 0..300 {
            let mut own: Vec<Grid> = (0..1 + below(5)).map(|_| grid(below(11))).collect();
            let mut packed = Packed::new(1, &PLAIN, &own);
            let (mut device, mut version) = (Vec::new(), None);
            // A copy of the fields, which no change affects.
            let mut copies: Vec<(FieldSet, Vec<f32>)> = Vec::new();
            for _ in 0..12 {
                for _ in 0..below(3) {
                    let index = below(own.len());
                    let Region { width, height, .. } = own[index].region();
                    let (column, row) = (below(width), below(height));
                    let region =
                        Region { column, row, width: 1 + below(width - column), height: 1 + below(height - row) };
                    let layer = below(own[index].depth());
                    let depth = 1 + below(own[index].depth() - layer);
                    match below(5) {
                        0 => packed.set_field(&mut own, index, grid(below(11)), &[]).expect("it is there"),
                        1 => {
                            let origin @ [x, y, _] = [(); 3].map(|()| below(9) as f32);
                            match own[index].dimensions() {
                                1 => packed.set_field_origin(&mut own, index, &[x]),
                                2 => packed.set_field_origin(&mut own, index, &[x, y]),
                                _ => packed.set_field_origin(&mut own, index, &origin),
                            }
                            .expect("it is finite");
                        }
                        _ => {
                            let count = region.width * region.height * depth * own[index].channels();
                            let values = (0..count).map(|_| below(1 << 20) as f32).collect::<Vec<_>>();
                            let block = region.layers(layer..layer + depth);
                            packed.update_field(&mut own, index, block, &values).expect("it is within the field");
                        }
                    }
                    assert_eq!(packed.fields, FieldSet::new(&own));
                }
                if below(3) == 0 {
                    if below(6) == 0 {
                        (device, version) = (vec![f32::NAN; packed.fields.packed_len() + 7], None);
                    }
                    device.resize(device.len().max(packed.fields.packed_len()), f32::NAN);
                    packed.fields.changed(&packed.field_changes, version, |at, numbers| {
                        device[at..at + numbers.len()].copy_from_slice(numbers);
                    });
                    version = Some(packed.field_changes.version());
                    if below(2) == 0 {
                        packed.note_upload();
                    }
                    let expected = FieldSet::new(&own).packed();
                    assert_eq!(device[..expected.len()], expected);
                }
                if below(4) == 0 {
                    copies.push((packed.fields.clone(), packed.fields.packed()));
                }
            }
            assert!(copies.iter().all(|(copy, before)| copy.packed() == *before));
        }
    }

    #[test]
    #[cfg(feature = "gpu")]
    fn a_device_uploads_only_what_has_changed() {
        use crate::lang::Region;

        let grid = || Grid::from_fn(100, 50, 0.1, [0.0; 2], |x, y| x * y).expect("a grid");
        let mut own = vec![grid(), grid(), grid()];
        let mut packed = Packed::new(1, &PLAIN, &own);
        let uploads = |packed: &Packed, version| {
            let mut lengths = Vec::new();
            packed.fields.changed(&packed.field_changes, version, |_, numbers| lengths.push(numbers.len()));
            lengths
        };
        const HEADERS: usize = 3 * 20;
        let whole = 2 * 101 * 50;
        assert_eq!(uploads(&packed, None), [HEADERS, whole, whole, whole]);
        packed.note_upload();
        let first = Some(packed.field_changes.version());
        assert_eq!(uploads(&packed, first), [0; 0]);
        packed.set_field_origin(&mut own, 2, &[1.0, 2.0]).expect("it is finite");
        assert_eq!(uploads(&packed, first), [HEADERS]);
        // Two samples in each of three rows, and the row below, whose pairs contain the first of these.
        let region = |row| Region { column: 10, row, width: 2, height: 3 }.into();
        packed.update_field(&mut own, 1, region(20), &[1.0; 6]).expect("it is within the field");
        assert_eq!(uploads(&packed, first), [HEADERS, 3 * 202 + 4]);
        packed.update_field(&mut own, 1, region(25), &[1.0; 6]).expect("it is within the field");
        assert_eq!(uploads(&packed, first), [HEADERS, 8 * 202 + 4]);
        packed.note_upload();
        let second = Some(packed.field_changes.version());
        packed.set_field(&mut own, 0, grid(), &[]).expect("it is there");
        assert_eq!(uploads(&packed, second), [HEADERS, whole]);
        // A device that missed an upload gets the whole field.
        assert_eq!(uploads(&packed, first), [HEADERS, whole, whole]);
    }
}
