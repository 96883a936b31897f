//! A rollout on the host, in plain `f32`. Plans, samples, simulations and episodes share this time loop.

use super::Model;
use super::advance::Advance;
use crate::lang::{Recorder, StepContext, TermLog, Timeline};

/// Rolls a model out from `x` for `horizon` time steps or until [`Model::done`], and returns the total cost.
///
/// `control` returns the control of a time step in a state, and `arrived` receives each control with the state that it
/// leads to. The cost of a state is evaluated with the context of the time step that leads to it, as in the kernels.
/// Costs are added in double precision. With a log, the terms of the cost are recorded there, for `horizon` time steps.
#[inline(always)]
pub(crate) fn rollout<const N: usize, const M: usize, D: Model<N, M>>(
    model: &D,
    timeline: &Timeline<'_>,
    horizon: usize,
    mut x: [f32; N],
    mut control: impl FnMut(usize, &StepContext<'_, f32>, [f32; N]) -> [f32; M],
    mut arrived: impl FnMut([f32; M], [f32; N]),
    log: Option<&TermLog>,
) -> f32 {
    let record = |step: usize| log.map(|log| Recorder { log, step });
    let advance = Advance { model, ends: true };
    let mut cost = 0.0_f64;
    let mut running = true;
    advance.check_done::<f32, N, M>(&StepContext::over(timeline.at(0)), &mut running, x);
    for t in 0..horizon {
        if !running {
            break;
        }
        let at = StepContext::over(timeline.at(t));
        let u = control(t, &at, x);
        x = advance.depart(&at, &running, x, u);
        let recorder = record(t);
        cost += charge(recorder, advance.arrive(&at.recording(recorder), &mut running, None, true, x, u));
        arrived(u, x);
    }
    let (at, recorder) = (StepContext::over(timeline.at(horizon)), record(horizon));
    (cost + charge(recorder, model.terminal(&at.recording(recorder), x))) as f32
}

/// Records the cost of a time step and returns it in double precision.
#[inline(always)]
fn charge(recorder: Option<Recorder<'_>>, cost: f32) -> f64 {
    if let Some(recorder) = recorder {
        recorder.set_cost(cost);
    }
    f64::from(cost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::ParamView;
    use crate::lang::look_up::LookUps;
    use crate::model::systems::{CartPole, Quadratic, Quadrotor};

    /// The names of the terms of a rollout, after a check that they sum to the cost of every step.
    fn names<const N: usize, const M: usize>(model: &impl Model<N, M>, x: [f32; N], u: [f32; M]) -> Vec<&'static str> {
        let timeline = Timeline {
            params: &[],
            param_stride: 0,
            references: &[],
            columns: 0,
            last_row: 0,
            dt: 0.02,
            fields: LookUps::NONE,
            weights: ParamView::of_task(&[]),
        };
        let log = TermLog::new(20);
        let cost = rollout(model, &timeline, 20, x, |_, _, _| u, |_, _| (), Some(&log));
        assert_eq!(cost, rollout(model, &timeline, 20, x, |_, _, _| u, |_, _| (), None));
        let record = log.into_record();
        assert_eq!(cost, record.costs.iter().sum::<f64>() as f32);
        for (t, cost) in record.costs.iter().enumerate() {
            let sum: f64 = record.terms.iter().map(|(_, steps)| steps[t]).sum();
            assert!((sum - cost).abs() <= 1e-6 * cost && *cost > 0.0, "step {t}: {sum} for {cost}");
        }
        record.terms.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn costs_that_ship_are_the_sums_of_their_terms() {
        let cart = CartPole::default();
        assert_eq!(names(&cart, [0.5, -1.0, 0.2, 2.0], [3.0]), ["position", "speed", "angle", "rate", "force"]);
        let mut x = Quadrotor::LEVEL;
        (x[0], x[11]) = (2.0, 0.5);
        assert_eq!(names(&Quadrotor::default(), x, [0.1, 0.2, -0.3, 9.0]), ["state", "control"]);
        let still = Quadratic { state: [1.0; 13], terminal: [1.0; 13], ..Quadratic::default() };
        assert_eq!(names(&Quadrotor::default().with_cost(still), x, [0.0; 4]), ["state", "control"]);
    }
}
