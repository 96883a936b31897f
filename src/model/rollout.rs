//! A rollout on the host, in plain `f32`. Plans, samples, simulations and episodes share this time loop.

use super::Model;
use crate::lang::{StepContext, Timeline};

/// Rolls a model out from `x` for `horizon` time steps or until [`Model::done`], and returns the total cost.
///
/// `control` returns the control of a time step in a state, and `arrived` receives each control with the state that it
/// leads to. The cost of a state is evaluated with the context of the time step that leads to it, as in the kernels.
/// Costs are added in double precision.
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
