//! The motion of a [`Planner`]'s plan in time: [`advance`](Planner::advance), [`shift`](Planner::shift) and
//! [`reset`](Planner::reset), and the sequences of its proposals.

use super::actuation::between;
use super::algorithm::Algorithm;
use super::options::Proposal;
use super::{Member, Planner};
use crate::error::{InvalidValue, finite, in_range};
use crate::model::Model;

impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> Planner<N, M, D, A> {
    /// Sets the control sequence, T × M, that proposal `index` of the options starts from in the next call, and in that
    /// call only. The proposal must be [`Proposal::Given`]. The limits are applied to the sequence.
    /// [`reset`](Self::reset) drops it, and so does another horizon.
    ///
    /// # Errors
    ///
    /// If there is no such proposal, or the sequence does not have T time steps or is not finite.
    pub fn propose(&mut self, index: usize, controls: &[[f32; M]]) -> Result<(), InvalidValue> {
        self.propose_to(0, index, controls)
    }

    pub(super) fn propose_to(&mut self, i: usize, index: usize, controls: &[[f32; M]]) -> Result<(), InvalidValue> {
        if self.options.proposals().get(index) != Some(&Proposal::Given) {
            return Err(InvalidValue::new("proposal", index, "the index of a Proposal::Given of the options"));
        }
        self.check_controls(controls)?;
        let given = &mut self.members[i].given[index];
        given.clear();
        given.extend_from_slice(controls);
        Ok(())
    }

    /// Returns the control to apply now, for one time step, and moves the plan on by that time step. The control is
    /// within the limits, and differs from the one before by no more than
    /// [`rate_limits`](crate::runtime::Task::rate_limits) allow (and its rate by no more than
    /// [`jerk_limits`](crate::runtime::Task::jerk_limits) do); the next plan continues from it. With an input
    /// [`delay`](crate::runtime::Task::delay), it is the first control that is not yet on its way.
    ///
    /// In a loop: `planner.plan(&x)?; apply(planner.advance());`. If a call of `plan` fails, `advance` returns the next
    /// control of the plan before.
    pub fn advance(&mut self) -> [f32; M] {
        self.advance_member(0, 1.0, self.options.task().dt)
    }

    /// As [`advance`](Self::advance), for loops that do not run at the time step of the plan: returns the control to
    /// apply for the next `seconds`, and moves the plan on by that time. By a fraction of a time step, a plan is moved
    /// by linear interpolation: each new control is the mean of the controls planned for its time step, so all limits
    /// hold. In a loop faster than the plan, a control changes as fast as its rates allow, toward the first of the
    /// plan; with [`jerk_limits`](crate::runtime::Task::jerk_limits), at the rate that is planned.
    ///
    /// # Errors
    ///
    /// If `seconds` is negative or not finite. Then nothing is changed.
    pub fn advance_by(&mut self, seconds: f32) -> Result<[f32; M], InvalidValue> {
        self.advance_member_by(0, seconds)
    }

    pub(super) fn advance_member_by(&mut self, i: usize, seconds: f32) -> Result<[f32; M], InvalidValue> {
        in_range("seconds", seconds, seconds >= 0.0, "finite and at least 0")?;
        Ok(self.advance_member(i, f64::from(seconds) / f64::from(self.options.task().dt), seconds))
    }

    /// The control that was applied last: the one that [`advance`](Self::advance) returned, the one of the last time
    /// step that the plan was [shifted](Self::shift) by, or the one [set](Self::set_last_control); at first, and after
    /// a [`reset`](Self::reset), `options.initial`.
    pub fn last_control(&self) -> [f32; M] {
        self.last_control_of(0)
    }

    pub(super) fn last_control_of(&self, i: usize) -> [f32; M] {
        self.members[i].applied.last
    }

    /// Replaces the control that was applied last, if something other than the planner decided on it, such as an
    /// operator or an emergency stop. Limits of rates count from it, those of the jerk from a rate of 0, and with an
    /// input delay it is the last control on its way.
    ///
    /// # Errors
    ///
    /// If it is not finite.
    pub fn set_last_control(&mut self, control: &[f32; M]) -> Result<(), InvalidValue> {
        self.set_last_control_of(0, control)
    }

    pub(super) fn set_last_control_of(&mut self, i: usize, control: &[f32; M]) -> Result<(), InvalidValue> {
        finite("control", control)?;
        self.members[i].applied.set_last(*control, self.options.task().delay);
        if let Some(latest) = self.options.task().delay.checked_sub(1) {
            let (range, horizon) = (self.numbers_of(i), self.options.task().horizon);
            for chain in self.nominal[range].chunks_exact_mut(horizon * M) {
                chain.as_chunks_mut().0[latest] = *control;
            }
        }
        Ok(())
    }

    pub(super) fn advance_member(&mut self, i: usize, steps: f64, seconds: f32) -> [f32; M] {
        let (task, applied) = (self.options.task(), &self.members[i].applied);
        let u = applied.limit_next(task, seconds, self.controls_of(i)[task.delay]);
        let nearest = steps.round();
        self.move_member(i, if (steps - nearest).abs() < 1e-5 { nearest } else { steps }, Some(u));
        self.members[i].applied.apply(self.options.task(), u, seconds);
        u
    }

    /// Moves a member's plan on by a number of time steps, for which `u` was issued, or the plan's controls if it is
    /// `None`.
    fn move_member(&mut self, i: usize, steps: f64, u: Option<[f32; M]>) {
        let range = self.numbers_of(i);
        let (task, shift_fill, initial) = (self.options.task(), self.options.shift_fill(), self.options.initial());
        let (whole, fraction) = (steps as usize, steps.fract() as f32);
        let Member { applied, best, scratch, moved, .. } = &mut self.members[i];
        *moved += steps;
        let controls = &self.nominal[range.clone()].as_chunks().0[*best * task.horizon..][..task.horizon];
        // The control that is applied k time steps from now.
        let issued = |k: usize| match u {
            Some(u) if k >= task.delay => u,
            _ => shift_fill.beyond(controls, k, initial),
        };
        applied.move_on(whole, fraction, issued);
        if u.is_none() && whole > 0 {
            let at = task.delay.saturating_add(whole - 1);
            if whole > 1 {
                (applied.last, applied.duration) = (issued(at - 1), Some(task.dt));
            }
            applied.apply(task, issued(at), task.dt);
        }
        // A pending call still needs the queue that it began with.
        scratch.clear();
        scratch.extend((0..task.delay).map(|t| {
            let first = issued(t.saturating_add(whole));
            if fraction > 0.0 { between(first, issued(t.saturating_add(whole + 1)), fraction) } else { first }
        }));
        for chain in self.nominal[range].chunks_exact_mut(task.horizon * M) {
            let controls = chain.as_chunks_mut().0;
            shift_fill.move_on(controls, whole, fraction, initial);
            controls[..task.delay].copy_from_slice(scratch);
        }
    }

    /// Shifts the plan by `steps` time steps, after that many controls have been applied.
    /// [`ShiftFill`](super::ShiftFill) selects the controls that are appended at the end. [`advance`](Self::advance)
    /// does this for one time step, and also limits and returns the control.
    pub fn shift(&mut self, steps: usize) {
        self.shift_member(0, steps);
    }

    pub(super) fn shift_member(&mut self, i: usize, steps: usize) {
        self.move_member(i, steps as f64, None);
    }

    /// Resets the plan to `options.initial` at every time step and restarts the noise, so that the same calls give the
    /// same results again.
    pub fn reset(&mut self) {
        self.reset_member(0);
    }

    pub(super) fn reset_member(&mut self, i: usize) {
        self.cancel();
        let (range, initial) = (self.numbers_of(i), self.options.initial());
        self.nominal[range].as_chunks_mut().0.fill(initial);
        self.members[i].applied.reset(initial);
        self.members[i].given.iter_mut().for_each(Vec::clear);
        (self.members[i].number, self.members[i].best) = (0, 0);
        if self.members.len() == 1 {
            self.time_per_row = None;
        }
    }
}
