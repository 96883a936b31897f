//! [`Terms`] of the cost of a control sequence, and [`TermStatistics`] over samples.

use std::fmt::Write;

use pulp::{Simd, WithSimd};

use super::plan::Start;
use crate::error::InvalidValue;
use crate::lang::{Record, TermLog, Timeline};
use crate::model::Model;
use crate::model::rollout::rollout;

/// The cost of a control sequence, divided into the terms that its model names by
/// [`StepContext::term`](crate::StepContext::term).
///
/// The totals of all terms and the [rest](Self::rest) sum to the [cost](Self::cost), to rounding. Terms are in the
/// order in which they first appear. If the cost is not finite, neither is the term or the rest that causes this.
///
/// # Example
///
/// [`StepContext::term`](crate::StepContext::term) has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    terms: Vec<Named<Part>>,
    rest: Part,
    cost: f32,
}

/// A term, or the rest: its sum over the horizon, and its value in every time step.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    total: f32,
    steps: Vec<f32>,
}

/// The name of a term, and its value.
type Named<T> = (&'static str, T);

impl Terms {
    /// Divides a recorded cost. `scale` converts a sum over the horizon to the unit in which costs are reported.
    fn new(Record { costs, terms }: Record, cost: f32, scale: impl Fn(f32) -> f32) -> Self {
        let rest: Vec<f64> =
            costs.iter().enumerate().map(|(t, cost)| rest(*cost, terms.iter().map(|(_, steps)| steps[t]))).collect();
        let part = |steps: Vec<f64>| Part {
            total: scale(steps.iter().sum::<f64>() as f32),
            steps: steps.into_iter().map(|value| scale(value as f32)).collect(),
        };
        let terms = terms.into_iter().map(|(name, steps)| (name, part(steps))).collect();
        Self { terms, rest: part(rest), cost: scale(cost) }
    }

    /// The name and the total of every term.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, f32)> {
        self.terms.iter().map(|(name, part)| (*name, part.total))
    }

    /// The total of the term of that name: what it costs over the whole horizon.
    ///
    /// # Errors
    ///
    /// If there is no such term. The error lists the names that there are.
    pub fn get(&self, name: &str) -> Result<f32, InvalidValue> {
        find(&self.terms, name).map(|part| part.total)
    }

    /// The term of that name in each of the T time steps and, last, in the terminal cost: T + 1 numbers. Number t is
    /// part of the cost of arriving in state t + 1.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn steps(&self, name: &str) -> Result<&[f32], InvalidValue> {
        find(&self.terms, name).map(|part| &*part.steps)
    }

    /// The part of the cost that no term names. It is negative if terms overlap. In each time step, a difference within
    /// rounding is reported as 0.
    pub fn rest(&self) -> f32 {
        self.rest.total
    }

    /// The [rest](Self::rest) in each time step and in the terminal cost, T + 1 numbers.
    pub fn rest_steps(&self) -> &[f32] {
        &self.rest.steps
    }

    /// The whole cost.
    pub fn cost(&self) -> f32 {
        self.cost
    }
}

/// The part of a time step's cost that is not in its terms; 0 if that is within rounding.
fn rest(cost: f64, terms: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut size, mut count) = (0.0_f64, cost.abs(), 1.0);
    for term in terms {
        (sum, size, count) = (sum + term, size + term.abs(), count + 1.0);
    }
    if !sum.is_finite() {
        return 0.0;
    }
    let rest = cost - sum;
    // The model adds its terms in single precision, so that each sum rounds.
    if rest.abs() <= 0.5 * f64::from(f32::EPSILON) * count * size { 0.0 } else { rest }
}

/// Returns the value of a name.
fn find<'a, T>(values: &'a [Named<T>], name: &str) -> Result<&'a T, InvalidValue> {
    if let Some((_, value)) = values.iter().find(|(other, _)| *other == name) {
        return Ok(value);
    }
    let mut expected = String::new();
    for (i, (name, _)) in values.iter().enumerate() {
        let before = if i == 0 { "one of " } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(expected, "{before}{name:?}");
    }
    if values.is_empty() {
        expected.push_str("the name of a term, and the model's cost names none");
    }
    Err(InvalidValue::new("name", format_args!("{name:?}"), expected))
}

/// Statistics of a number over the valid rows of a pass.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RowStatistics {
    /// The mean.
    pub mean: f32,
    /// The least.
    pub min: f32,
    /// The mean by the rows' weights.
    pub weighted_mean: f32,
}

/// Statistics of the terms of a cost over the valid rows of a pass: see
/// [`Samples::term_statistics`](crate::control::Samples::term_statistics).
///
/// The means of all terms and the rest sum to the mean of the cost, to rounding, and so do the weighted means.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TermStatistics {
    rows: usize,
    terms: Vec<Named<Sums>>,
    rest: Sums,
    cost: Sums,
}

/// The sums over rows from which [`RowStatistics`] are computed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sums {
    sum: f64,
    min: f32,
    weighted: f64,
}

impl Default for Sums {
    fn default() -> Self {
        Self { sum: 0.0, min: f32::INFINITY, weighted: 0.0 }
    }
}

impl Sums {
    fn add(&mut self, value: f32, weight: f32) {
        self.sum += f64::from(value);
        self.min = self.min.min(value);
        self.weighted += f64::from(weight) * f64::from(value);
    }

    fn over(&self, rows: usize) -> RowStatistics {
        RowStatistics { mean: (self.sum / rows as f64) as f32, min: self.min, weighted_mean: self.weighted as f32 }
    }
}

impl TermStatistics {
    /// Adds a row with its weight. All rows have the same terms, since models cannot branch.
    pub(crate) fn add(&mut self, row: &Terms, weight: f32) {
        if self.rows == 0 {
            self.terms = row.iter().map(|(name, _)| (name, Sums::default())).collect();
        }
        self.rows += 1;
        for ((_, sums), (_, total)) in self.terms.iter_mut().zip(row.iter()) {
            sums.add(total, weight);
        }
        self.rest.add(row.rest(), weight);
        self.cost.add(row.cost(), weight);
    }

    /// The name and the statistics of every term, in order of first appearance.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, RowStatistics)> {
        self.terms.iter().map(|(name, sums)| (*name, sums.over(self.rows)))
    }

    /// The statistics of the term of that name.
    ///
    /// # Errors
    ///
    /// If there is no such term. The error lists the names that there are.
    pub fn get(&self, name: &str) -> Result<RowStatistics, InvalidValue> {
        find(&self.terms, name).map(|sums| sums.over(self.rows))
    }

    /// The statistics of the part of the cost that no term names.
    pub fn rest(&self) -> RowStatistics {
        self.rest.over(self.rows)
    }

    /// The statistics of the whole cost.
    pub fn cost(&self) -> RowStatistics {
        self.cost.over(self.rows)
    }
}

/// A rollout whose terms are recorded, with vector instructions enabled for their fused multiply-add, as for a plan.
struct Recorded<'a, const N: usize, const M: usize, D> {
    model: &'a D,
    timeline: &'a Timeline<'a>,
    x: [f32; N],
    controls: &'a [[f32; M]],
    log: &'a TermLog,
}

impl<const N: usize, const M: usize, D: Model<N, M>> WithSimd for Recorded<'_, N, M, D> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let Self { model, timeline, x, controls, log } = self;
        rollout(model, timeline, controls.len(), x, |t, _, _| controls[t], |_, _| (), Some(log))
    }
}

impl<const N: usize, D> Start<'_, N, D> {
    /// The terms of a control sequence's cost, in the unit to which `scale` converts sums over the horizon.
    pub(crate) fn terms<const M: usize>(&self, controls: &[[f32; M]], scale: impl Fn(f32) -> f32) -> Terms
    where
        D: Model<N, M>,
    {
        let Start { isa, model, ref timeline, x, .. } = *self;
        let log = TermLog::new(controls.len());
        let cost = isa.run(Recorded { model, timeline, x, controls, log: &log });
        Terms::new(log.into_record(), cost, scale)
    }
}
