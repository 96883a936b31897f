//! Options that all planners share.

use crate::error::{InvalidValue, finite};

/// The controls that [`shift`](crate::Planner::shift) appends at the end of the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShiftFill {
    /// The last control, held.
    #[default]
    Hold,
    /// The controls that were removed at the front, for periodic plans such as gaits.
    Repeat,
    /// The initial control.
    Initial,
}

impl ShiftFill {
    /// Shifts a control sequence by `steps` time steps.
    pub(super) fn shift<const M: usize>(self, controls: &mut [[f32; M]], steps: usize, initial: [f32; M]) {
        let horizon = controls.len();
        if self == Self::Repeat {
            return controls.rotate_left(steps % horizon);
        }
        let gone = steps.min(horizon);
        let fill = if self == Self::Hold { controls[horizon - 1] } else { initial };
        controls.copy_within(gone.., 0);
        controls[horizon - gone..].fill(fill);
    }

    /// Control `t` of a sequence that may be shorter than that.
    pub(super) fn beyond<const M: usize>(self, controls: &[[f32; M]], t: usize, initial: [f32; M]) -> [f32; M] {
        match self {
            _ if t < controls.len() => controls[t],
            Self::Hold => controls[controls.len() - 1],
            Self::Repeat => controls[t % controls.len()],
            Self::Initial => initial,
        }
    }
}

/// A box of controls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits<const M: usize> {
    /// The least value of each control. May be −∞.
    pub low: [f32; M],
    /// The greatest value of each control. May be +∞.
    pub high: [f32; M],
}

impl<const M: usize> Limits<M> {
    /// The box that limits nothing.
    pub(crate) const NONE: Self = Self { low: [f32::NEG_INFINITY; M], high: [f32::INFINITY; M] };

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
}

/// A table that a model reads its references from, one row per time step: see [`StepContext::reference`](crate::StepContext::reference).
#[derive(Debug, Clone, PartialEq, Default)]
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

    pub(crate) fn check(values: &[f32], columns: usize) -> Result<(), InvalidValue> {
        finite("references", values)?;
        if values.is_empty() || columns == 0 || !values.len().is_multiple_of(columns) {
            let value = format_args!("{} numbers in {columns} columns", values.len());
            return Err(InvalidValue::new("references", value, "one or more whole rows of one or more columns"));
        }
        Ok(())
    }
}
