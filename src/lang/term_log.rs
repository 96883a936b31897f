//! [`TermLog`]: the terms of a cost, recorded by a rollout on the host.

use std::sync::{Mutex, PoisonError};

/// The values that a model passes to [`StepContext::term`](super::StepContext::term) during a rollout, and the cost of
/// each time step.
///
/// A step context holds a reference to it. It is shared behind a mutex and not a cell, so that a step context can be
/// sent to other threads.
#[derive(Debug)]
pub(crate) struct TermLog(Mutex<Record>);

/// The contents of a [`TermLog`].
#[derive(Debug)]
pub(crate) struct Record {
    /// The cost of every time step and, last, the terminal cost. 0 for steps after the rollout is done.
    pub(crate) costs: Vec<f64>,
    /// Each term with its values, as many as there are costs, in order of first appearance.
    pub(crate) terms: Vec<(&'static str, Vec<f64>)>,
}

/// A log and a time step: the place that a step context records terms in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recorder<'a> {
    pub(crate) log: &'a TermLog,
    pub(crate) step: usize,
}

impl TermLog {
    pub(crate) fn new(horizon: usize) -> Self {
        Self(Mutex::new(Record { costs: vec![0.0; horizon + 1], terms: Vec::new() }))
    }

    pub(crate) fn into_record(self) -> Record {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder<'_> {
    /// Adds `value` to term `name` of the step.
    pub(crate) fn add(&self, name: &'static str, value: f32) {
        let mut record = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Record { costs, terms } = &mut *record;
        let at = terms.iter().position(|(other, _)| *other == name).unwrap_or_else(|| {
            terms.push((name, vec![0.0; costs.len()]));
            terms.len() - 1
        });
        terms[at].1[self.step] += f64::from(value);
    }

    /// Stores the whole cost of the step.
    pub(crate) fn set_cost(&self, cost: f32) {
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).costs[self.step] = f64::from(cost);
    }
}
