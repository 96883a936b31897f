//! The types of planners' options: [`Proposal`], [`Fallback`] and [`ShiftFill`]; and [`PlanSource`], which reports on
//! them.

use super::actuation::between;

/// A control sequence that rows are drawn around, besides the plan of the last call.
///
/// Each proposal has as many rows as the plan itself, and is improved independently, from the same state and in the
/// same launch; the one whose control sequence costs least becomes the plan. So a plan leaves a dead end as soon as
/// another proposal is better, and two ways around an obstacle are never averaged into one that hits it. The first row
/// of each is the proposal itself.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Proposal<const M: usize> {
    /// The initial control, sustained: to stop, for example.
    Initial,
    /// The control that was applied last, sustained.
    Last,
    /// Any control, sustained.
    Sustained(#[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))] [f32; M]),
    /// The sequence that [`propose`](crate::control::planner::Planner::propose) sets for the next call: the plan of
    /// another method, a policy or a route. If none is set, the last plan.
    Given,
}

/// The replacement for a plan that fails, since the mean of two good rows may hit the wall between them.
///
/// A plan fails if its own rollout passes through a state that is not [`feasible`](crate::model::Model::feasible), if
/// its cost is not finite, or if it costs more than the rows that it was made of do on average (unless rows are weighed
/// by a demonstration).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Fallback {
    /// None: the plan that failed is the plan, and [`Plan::is_sound`](crate::control::Plan::is_sound) is false.
    #[default]
    None,
    /// The plan that the call started from (the last one, shifted), if it is feasible and the failed one is not, or if
    /// both are alike in this and it costs less.
    LastPlan,
    /// The best row of the last pass, wherever it costs less than the weighted mean, even if the mean does not fail
    /// (unless rows are weighed by a demonstration). On a GPU the rows are then fetched, so the call takes longer. This
    /// pays with few rows and noise that is wide or has few knots. Where the next state differs much from the predicted
    /// one, it makes the plan follow single rows. The row is not smoothed.
    BestRow,
}

/// Where a plan comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum PlanSource {
    /// The method: the weighted mean of rows around the last plan.
    #[default]
    Rows,
    /// The weighted mean of rows around proposal i: see [`Proposal`].
    Proposal(usize),
    /// The plan that the call started from, since that of the method failed: see [`Fallback`].
    LastPlan,
    /// The row of least cost, since the weighted mean costs more: see [`Fallback::BestRow`].
    BestRow,
}

/// The controls that [`shift`](crate::control::planner::Planner::shift) appends at the end of the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
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
    pub(crate) fn shift<const M: usize>(self, controls: &mut [[f32; M]], steps: usize, initial: [f32; M]) {
        let horizon = controls.len();
        if self == Self::Repeat {
            return controls.rotate_left(steps % horizon);
        }
        let gone = steps.min(horizon);
        let fill = if self == Self::Hold { controls[horizon - 1] } else { initial };
        controls.copy_within(gone.., 0);
        controls[horizon - gone..].fill(fill);
    }

    /// Moves a control sequence on by whole time steps and a fraction of one: over each new time step, the mean of the
    /// controls that were planned for it.
    pub(crate) fn move_on<const M: usize>(
        self,
        controls: &mut [[f32; M]],
        whole: usize,
        fraction: f32,
        initial: [f32; M],
    ) {
        if whole > 0 {
            self.shift(controls, whole, initial);
        }
        if fraction > 0.0 {
            let after = self.beyond(controls, controls.len(), initial);
            for t in 0..controls.len() {
                let next = controls.get(t + 1).copied().unwrap_or(after);
                controls[t] = between(controls[t], next, fraction);
            }
        }
    }

    /// Control `t` of a sequence that may be shorter than that.
    pub(crate) fn beyond<const M: usize>(self, controls: &[[f32; M]], t: usize, initial: [f32; M]) -> [f32; M] {
        match self {
            _ if t < controls.len() => controls[t],
            Self::Hold => controls[controls.len() - 1],
            Self::Repeat => controls[t % controls.len()],
            Self::Initial => initial,
        }
    }
}
