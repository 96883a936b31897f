//! A rollout on the host, in plain `f32`: the one loop over time behind plans, samples, simulations and episodes.

use super::Model;
use crate::lang::{StepContext, Timeline};

/// Rolls a model out from `x`, over `horizon` time steps or until the model says that it is done. `control` gives the control of
/// a time step in a state; `arrived` is passed each control with the state that it led to. Returns the cost.
///
/// Every cost is that of the time step that led to the state. Costs are added in double precision.
#[inline(always)]
pub(crate) fn rollout<const N: usize, const M: usize, D: Model<N, M>>(
    model: &D,
    timeline: &Timeline<'_>,
    horizon: usize,
    mut x: [f32; N],
    mut control: impl FnMut(usize, &StepContext<'_, f32>, [f32; N]) -> [f32; M],
    mut arrived: impl FnMut([f32; M], [f32; N]),
) -> f32 {
    let mut cost = 0.0_f64;
    let mut done = model.done(&StepContext::over(timeline.at(0)), x);
    for t in 0..horizon {
        if done {
            break;
        }
        let at = StepContext::over(timeline.at(t));
        let u = control(t, &at, x);
        x = model.step(&at, x, u);
        cost += f64::from(model.cost(&at, x, u));
        done = model.done(&at, x);
        arrived(u, x);
    }
    (cost + f64::from(model.terminal(&StepContext::over(timeline.at(horizon)), x))) as f32
}
