//! [`Packed`], all kernel inputs besides rows and fields, in one array with its layout. Only this type writes the array
//! and passes its offsets to kernels, so the two cannot disagree.

use std::sync::Arc;

use crate::error::{InvalidValue, finite};
use crate::field::{FieldSet, Grid};
use crate::noise::philox;
use crate::pass::{CLAMPED, LIMITED, Layout, Pass, Problem, TILE};
use crate::scalar::Timeline;
use crate::task::{Reader, References};

/// The sections that change rarely. The state precedes them and is set by every call; the driver's own table follows
/// them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sections<'a> {
    /// The limits of the controls, M numbers each. Infinities become the largest finite numbers, since WGSL has none.
    pub(crate) low: &'a [f32],
    pub(crate) high: &'a [f32],
    /// L of Σ = L Lᵀ.
    pub(crate) factor: Square<'a>,
    /// Σ⁻¹.
    pub(crate) precision: Square<'a>,
    pub(crate) params: &'a [f32],
    pub(crate) references: Option<&'a References>,
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

/// The inputs of a driver's kernels with their [`Layout`], and the fields.
///
/// The setters replace what the options of the driver hold together with what the kernels read, so these cannot differ.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    layout: Layout,
    values: Vec<f32>,
    /// Shared by clones, since they may be large.
    fields: Arc<FieldSet>,
    /// Counts changes of the fields, so that a device uploads them only then.
    fields_version: u64,
}

impl Packed {
    /// Packs the inputs of a system with `states` states, whose initial state is 0.
    pub(crate) fn new(states: usize, sections: &Sections<'_>, fields: &[Grid]) -> Self {
        let layout = Layout { states, controls: 0, params: 0, reference_rows: 0, reference_columns: 0 };
        let mut packed =
            Self { layout, values: Vec::new(), fields: Arc::new(FieldSet::new(fields)), fields_version: 0 };
        packed.write(sections);
        packed
    }

    /// Replaces all sections. The state becomes 0, and there is no table until [`set_table`](Self::set_table) writes
    /// one.
    pub(crate) fn write(&mut self, sections: &Sections<'_>) {
        let Sections { low, high, factor, precision, params, references } = *sections;
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
        self.values.extend(params);
        self.values.extend(references.iter().flat_map(|r| &r.values[..rows * columns]));
        debug_assert_eq!(self.values.len(), self.layout.table());
    }

    /// Replaces the state that rollouts start from.
    pub(crate) fn set_state(&mut self, x: &[f32]) {
        self.values[..self.layout.states].copy_from_slice(x);
    }

    /// Replaces the table after the sections: rewards of the rows of a data set, or the initial states of episodes.
    /// `write` passes its numbers to the function that it is given.
    pub(crate) fn set_table(&mut self, write: impl FnOnce(&mut dyn FnMut(&[f32]))) {
        self.values.truncate(self.layout.table());
        let values = &mut self.values;
        write(&mut |numbers| values.extend_from_slice(numbers));
    }

    /// Replaces the run-time parameters, `own` in the options.
    pub(crate) fn set_params(
        &mut self,
        own: &mut Vec<f32>,
        params: &[f32],
        readers: &[Reader],
    ) -> Result<(), InvalidValue> {
        finite("params", params)?;
        readers.iter().try_for_each(|reader| reader.check_params(params.len()))?;
        own.clear();
        own.extend_from_slice(params);
        let at = self.layout.params_at();
        self.values.splice(at..at + self.layout.params, params.iter().copied());
        self.layout.params = params.len();
        Ok(())
    }

    /// Replaces the reference table, `own` in the options.
    pub(crate) fn set_references(
        &mut self,
        own: &mut Option<References>,
        values: &[f32],
        columns: usize,
        readers: &[Reader],
    ) -> Result<(), InvalidValue> {
        readers.iter().try_for_each(|reader| reader.check_columns(columns))?;
        References::check(values, columns)?;
        let own = own.get_or_insert_default();
        own.values.clear();
        own.values.extend_from_slice(values);
        own.columns = columns;
        self.values.splice(self.layout.references()..self.layout.table(), values.iter().copied());
        (self.layout.reference_rows, self.layout.reference_columns) = (own.rows(), columns);
        Ok(())
    }

    /// Replaces one of the fields, `own` in the options.
    pub(crate) fn set_field(&mut self, own: &mut [Grid], index: usize, grid: Grid) -> Result<(), InvalidValue> {
        let count = own.len();
        let Some(field) = own.get_mut(index) else {
            return Err(InvalidValue::new("field", index, format_args!("below the number of fields, {count}")));
        };
        *field = grid;
        self.set_fields(own);
        Ok(())
    }

    /// Replaces all fields.
    pub(crate) fn set_fields(&mut self, fields: &[Grid]) {
        self.fields = Arc::new(FieldSet::new(fields));
        self.fields_version += 1;
    }

    /// Returns an update that reads these inputs, steps all the way to the mean and keeps to the limits if it is `limited`. The
    /// driver adds rows, their width and number, and the problems.
    pub(crate) fn pass(&self, seed: u64, horizon: usize, dt: f32, limited: bool) -> Pass {
        Pass {
            seed: philox::key(seed),
            horizon: horizon as u32,
            flags: if limited { LIMITED | CLAMPED } else { 0 },
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

    /// Returns the problem that these inputs describe, without a spread per coordinate and without rows from the
    /// caller.
    pub(crate) fn problem<'a>(&'a self, nominal: &'a [f32]) -> Problem<'a> {
        let Self { layout, ref values, ref fields, fields_version } = *self;
        Problem { layout, inputs: values, nominal, std_scale: &[], fields, fields_version, rows: None }
    }

    /// What a model sees of these inputs over the horizon.
    pub(crate) fn timeline(&self, dt: f32) -> Timeline<'_> {
        self.layout.timeline(&self.values, self.fields.look_ups(), dt)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_stands_where_its_layout_says() {
        let references = References { values: vec![21.0, 22.0, 23.0, 24.0, 25.0, 26.0], columns: 3 };
        let mut sections = Sections {
            low: &[f32::NEG_INFINITY, -2.0],
            high: &[1.0, f32::INFINITY],
            factor: Square::Dense(&[1.0, 0.0, 0.5, 2.0]),
            precision: Square::Unit,
            params: &[11.0, 12.0],
            references: Some(&references),
        };
        let mut packed = Packed::new(3, &sections, &[]);
        packed.set_state(&[7.0, 8.0, 9.0]);
        for count in [2, 5, 0, 4] {
            packed.set_table(|push| (0..count).for_each(|i| push(&[31.0 + i as f32])));
            let (layout, values) = (packed.layout(), packed.values());
            assert_eq!(values[..3], [7.0, 8.0, 9.0]);
            assert_eq!(values[layout.low()..layout.high()], [f32::MIN, -2.0]);
            assert_eq!(values[layout.high()..layout.factor()], [1.0, f32::MAX]);
            assert_eq!(values[layout.factor()..layout.precision()], [1.0, 0.0, 0.5, 2.0]);
            assert_eq!(values[layout.precision()..layout.params_at()], [1.0, 0.0, 0.0, 1.0]);
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
}
