//! Options that all planners share.

use super::actuation::between;

/// The controls that [`shift`](crate::control::planner::Planner::shift) appends at the end of the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
