//! The steps between a plan and the actuators: smoothing, limits and limits of rates, and [`Applied`], the controls
//! that a plan continues from.
//!
//! Rows are limited inside the kernels. A plan is smoothed and limited here, on the host, at the end of a call: the
//! mean of filtered rows is taken over innovations, before the limits, so it need not be within them although all rows
//! are.

use crate::error::{InvalidValue, finite, in_range};
use crate::kernels::score::rollout::{change_that_counts, change_to_stop};
use crate::runtime::task::{Task, change_within, jerk_within};

/// Smooths every plan by a Savitzky–Golay filter: a polynomial is fitted to the controls around each time step,
/// including those that were applied before the plan, and its value replaces the control. (A. Savitzky, M. J. E. Golay,
/// *Smoothing and differentiation of data by simplified least squares procedures*, Anal. Chem. 36 (1964).) Limits are
/// applied afterwards, so none is exceeded. Controls on their way ([`Task::delay`]) are not changed.
///
/// Smoothing removes noise of the rows that remains in their mean; with a
/// [`NoiseShape`](crate::kernels::propose::shape::NoiseShape) other than white, less of it remains to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Smoothing {
    /// The number of time steps that a polynomial is fitted to: odd, between 3 and 99, and at most 2·horizon − 1.
    pub window: usize,
    /// The degree of the polynomial, at most 6 and below `window`. 0 is the moving average, and so is 1 except at the
    /// end of the horizon.
    pub order: usize,
}

impl Smoothing {
    /// The largest window.
    const MAX_WINDOW: usize = 99;

    pub(crate) fn check(&self, horizon: usize) -> Result<(), InvalidValue> {
        let most = Self::MAX_WINDOW.min(2 * horizon - 1);
        if self.window.is_multiple_of(2) || !(3..=most).contains(&self.window) {
            let expected = format_args!("an odd number between 3 and {most} (at most 2·horizon − 1)");
            return Err(InvalidValue::new("window", self.window, expected));
        }
        if self.order > 6 || self.order >= self.window {
            let expected = format_args!("at most 6 and below the window, {}", self.window);
            return Err(InvalidValue::new("order", self.order, expected));
        }
        Ok(())
    }

    /// The number of controls from before the plan that smoothing reads.
    pub(crate) fn history(&self) -> usize {
        self.window / 2
    }

    /// The weights of the points of a window, for the value of the polynomial `at` points after its center. (P. A.
    /// Gorry, *General least-squares smoothing and differentiation by the convolution (Savitzky–Golay) method*, Anal.
    /// Chem. 62 (1990), eqs. 8 and 11.)
    fn weights(&self, at: usize) -> [f64; Self::MAX_WINDOW] {
        let m = self.window / 2;
        let width = 2.0 * m as f64;
        // The Gram polynomials of one point, by their recurrence.
        let gram = |i: f64| {
            let mut p = [1.0, 2.0 * i / width, 0.0, 0.0, 0.0, 0.0, 0.0];
            for k in 2..=self.order {
                let n = k as f64;
                let scale = n * (width - n + 1.0);
                p[k] = ((4.0 * n - 2.0) * i * p[k - 1] - (n - 1.0) * (width + n) * p[k - 2]) / scale;
            }
            p
        };
        let falling = |from: f64, count: usize| (0..count).map(|j| from - j as f64).product::<f64>();
        let mut norms = [0.0; 7];
        for (k, norm) in norms[..=self.order].iter_mut().enumerate() {
            *norm = (2 * k + 1) as f64 * falling(width, k) / falling(width + k as f64 + 1.0, k + 1);
        }
        let there = gram(at as f64);
        let mut weights = [0.0; Self::MAX_WINDOW];
        for (i, weight) in weights[..self.window].iter_mut().enumerate() {
            let here = gram(i as f64 - m as f64);
            for k in 0..=self.order {
                *weight += norms[k] * here[k] * there[k];
            }
        }
        weights
    }

    /// Smooths the controls of a plan from `fixed` on. `past` holds the [`history`](Self::history) controls before the
    /// plan; `scratch` is overwritten.
    pub(crate) fn smooth<const M: usize>(
        self,
        past: &[[f32; M]],
        fixed: usize,
        controls: &mut [[f32; M]],
        scratch: &mut Vec<[f32; M]>,
    ) {
        let half = self.history();
        scratch.clear();
        scratch.extend_from_slice(past);
        scratch.extend_from_slice(controls);
        let horizon = controls.len();
        let mut weights = self.weights(0);
        for (t, u) in controls.iter_mut().enumerate().skip(fixed) {
            // Controls near the end of the horizon, with too few controls after them, share the last window.
            let beyond = (t + half + 1).saturating_sub(horizon);
            if beyond > 0 {
                weights = self.weights(beyond);
            }
            let window = &scratch[t - beyond..][..self.window];
            *u = std::array::from_fn(|m| {
                weights.iter().zip(window).map(|(weight, v)| weight * f64::from(v[m])).sum::<f64>() as f32
            });
        }
    }
}

/// The controls that were applied before a plan begins.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub(crate) struct Applied<const M: usize> {
    /// The control that was applied last.
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    pub(crate) last: [f32; M],
    /// How long it has been applied for (in seconds), if that is known.
    pub(crate) duration: Option<f32>,
    /// The rate at which it was reached from the control before, per second.
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded", default = "zeros"))]
    rate: [f32; M],
    /// The controls of the time steps before the plan, the oldest first: as many as smoothing reads.
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    recent: Vec<[f32; M]>,
}

/// The rate in recordings of versions without limits of the jerk.
#[cfg(feature = "serde")]
fn zeros<const M: usize>() -> [f32; M] {
    [0.0; M]
}

impl<const M: usize> Applied<M> {
    /// The past of a new plan: its initial control.
    pub(crate) fn new(initial: [f32; M]) -> Self {
        Self { last: initial, duration: None, rate: [0.0; M], recent: Vec::new() }
    }

    /// What limits count from in a plan with time steps of `dt` seconds: the control that was applied last, and its
    /// change per time step.
    pub(crate) fn end(&self, dt: f32) -> [[f32; M]; 2] {
        [self.last, self.rate.map(|rate| change_within(rate, dt))]
    }

    /// Records that `u` is applied for `seconds`.
    pub(crate) fn apply(&mut self, task: &Task<M>, u: [f32; M], seconds: f32) {
        let passed = self.duration.unwrap_or(seconds);
        if passed > 0.0 {
            let changed = changed_to(task, passed, self.end(passed), u);
            self.rate = changed.map(|change| (change / passed).clamp(f32::MIN / 2.0, f32::MAX / 2.0));
        }
        (self.last, self.duration) = (u, Some(seconds));
    }

    /// Refuses numbers that are not finite, and more controls than any smoothing reads.
    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        finite("last control", &self.last)?;
        finite("last rate", &self.rate)?;
        if let Some(seconds) = self.duration {
            in_range("duration", seconds, seconds >= 0.0, "finite and at least 0")?;
        }
        let most = Smoothing::MAX_WINDOW / 2;
        if self.recent.len() > most {
            return Err(InvalidValue::new("recent controls", self.recent.len(), format_args!("at most {most}")));
        }
        finite("recent controls", self.recent.as_flattened())
    }

    /// The controls before the plan begins, the oldest first: as many as smoothing reads.
    pub(crate) fn past(&self) -> &[[f32; M]] {
        &self.recent
    }

    /// Keeps `count` past controls. If there are fewer, copies of the oldest one are put before them.
    pub(crate) fn keep(&mut self, count: usize) {
        let oldest = self.recent.first().copied().unwrap_or(self.last);
        while self.recent.len() < count {
            self.recent.insert(0, oldest);
        }
        self.recent.drain(..self.recent.len() - count);
    }

    /// Replaces the control that was applied last. With a delay it is not part of the past yet.
    pub(crate) fn set_last(&mut self, control: [f32; M], delay: usize) {
        (self.last, self.duration, self.rate) = (control, None, [0.0; M]);
        if let (Some(latest), 0) = (self.recent.last_mut(), delay) {
            *latest = control;
        }
    }

    /// Replaces the whole past by `initial`.
    pub(crate) fn reset(&mut self, initial: [f32; M]) {
        (self.last, self.duration, self.rate) = (initial, None, [0.0; M]);
        self.recent.fill(initial);
    }

    /// Moves the past on with the plan, by whole time steps and a fraction of one. `issued` returns the control that is
    /// applied a number of time steps after the plan begins.
    pub(crate) fn move_on(&mut self, whole: usize, fraction: f32, issued: impl Fn(usize) -> [f32; M]) {
        let kept = self.recent.len();
        if kept == 0 {
            return;
        }
        for t in whole.saturating_sub(kept)..whole {
            self.recent.rotate_left(1);
            self.recent[kept - 1] = issued(t);
        }
        if fraction > 0.0 {
            for t in 0..kept {
                let next = if t + 1 < kept { self.recent[t + 1] } else { issued(whole) };
                self.recent[t] = between(self.recent[t], next, fraction);
            }
        }
    }

    /// Limits the first free control of a plan. Its rates allow a change over the time for which the last control was
    /// applied, or over `seconds` if that time is not known.
    ///
    /// If that is shorter than a time step and the jerk is limited, the control changes at the rate that is planned,
    /// since a rate that is any higher could not be reduced in time.
    pub(crate) fn limit_next(&self, task: &Task<M>, seconds: f32, u: [f32; M]) -> [f32; M] {
        let passed = self.duration.unwrap_or(seconds);
        let is_part = task.jerk_limits.is_some() && passed < task.dt;
        let u = if is_part { between(self.last, u, passed / task.dt) } else { u };
        limited(task, passed, self.end(passed), u)
    }
}

/// The value a `fraction` of the way from `a` to `b`.
pub(crate) fn between<const M: usize>(a: [f32; M], b: [f32; M], fraction: f32) -> [f32; M] {
    std::array::from_fn(|m| fraction.mul_add(b[m], (1.0 - fraction) * a[m]))
}

/// Limits `u` to what its jerk allows `seconds` after the control `before`, whose change within as long a time was
/// `changed`; then to its box, and then to what its rates allow. Twin: `ControlLimits` in src/kernels/score/rollout.rs.
fn limited<const M: usize>(
    task: &Task<M>,
    seconds: f32,
    [before, changed]: [[f32; M]; 2],
    mut u: [f32; M],
) -> [f32; M] {
    if let Some(jerks) = &task.jerk_limits {
        for m in 0..M {
            let [low, high] = [jerks.low[m], jerks.high[m]].map(|jerk| jerk_within(jerk, seconds));
            u[m] = u[m].max(before[m] + (changed[m] + low)).min(before[m] + (changed[m] + high));
            if let Some(limits) = &task.limits {
                // Open limits are packed as the largest finite numbers.
                let [floor, ceiling] = [limits.low[m].max(f32::MIN), limits.high[m].min(f32::MAX)];
                u[m] = u[m].max(before[m] - change_to_stop(before[m] - floor, high, (2.0 * high).sqrt()));
                u[m] = u[m].min(before[m] + change_to_stop(ceiling - before[m], -low, (-2.0 * low).sqrt()));
            }
        }
    }
    let u = task.limits.as_ref().map_or(u, |limits| limits.clamp(u));
    let Some(rates) = &task.rate_limits else { return u };
    std::array::from_fn(|m| {
        let change = |rate: f32| change_within(rate, seconds);
        u[m].max(before[m] + change(rates.low[m])).min(before[m] + change(rates.high[m]))
    })
}

/// The change to `u` that the next limits count from, if the jerk is limited.
fn changed_to<const M: usize>(task: &Task<M>, seconds: f32, [before, changed]: [[f32; M]; 2], u: [f32; M]) -> [f32; M] {
    let Some(jerks) = &task.jerk_limits else { return std::array::from_fn(|m| u[m] - before[m]) };
    std::array::from_fn(|m| {
        let [low, high] = [jerks.low[m], jerks.high[m]].map(|jerk| changed[m] + jerk_within(jerk, seconds));
        change_that_counts(u[m] - before[m], low, high)
    })
}

/// Limits a plan as the kernels limit rows: from the control before and its change, those of `last` before the first.
/// The first `delay` controls are kept; `last` holds the change of the latest of them.
pub(crate) fn limit<const M: usize>(task: &Task<M>, last: [[f32; M]; 2], controls: &mut [[f32; M]]) {
    let [mut before, mut changed] = last;
    for (t, u) in controls.iter_mut().enumerate() {
        if t >= task.delay {
            *u = limited(task, task.dt, [before, changed], *u);
            changed = changed_to(task, task.dt, [before, changed], *u);
        }
        before = *u;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value at `at` of the polynomial that fits `points` best, by normal equations.
    fn fitted(points: &[f64], order: usize, at: f64) -> f64 {
        let n = order + 1;
        let mut equations = vec![vec![0.0; n + 1]; n];
        for (i, y) in points.iter().enumerate() {
            let x = i as f64 - (points.len() / 2) as f64;
            for row in 0..n {
                for column in 0..n {
                    equations[row][column] += x.powi((row + column) as i32);
                }
                equations[row][n] += y * x.powi(row as i32);
            }
        }
        for pivot in 0..n {
            let best = (pivot..n).max_by(|a, b| equations[*a][pivot].abs().total_cmp(&equations[*b][pivot].abs()));
            equations.swap(pivot, best.expect("not empty"));
            for row in 0..n {
                if row != pivot {
                    let factor = equations[row][pivot] / equations[pivot][pivot];
                    for column in pivot..=n {
                        equations[row][column] -= factor * equations[pivot][column];
                    }
                }
            }
        }
        (0..n).map(|row| equations[row][n] / equations[row][row] * at.powi(row as i32)).sum()
    }

    #[test]
    fn smoothing_fits_polynomials_to_past_and_plan() {
        let wiggle = |t: usize| (t as f32 * 2.3).sin() + 0.1 * t as f32;
        for (window, order) in [(3, 0), (3, 2), (5, 1), (9, 3), (21, 6)] {
            let smoothing = Smoothing { window, order };
            let half = window / 2;
            let horizon = 25;
            smoothing.check(horizon).expect("valid");
            let mut applied = Applied::new([0.0]);
            applied.keep(half);
            let past: Vec<_> = (0..half).map(|t| [wiggle(t)]).collect();
            applied.move_on(half, 0.0, |t| past[t]);
            let all: Vec<f64> = (0..half + horizon).map(|t| f64::from(wiggle(t))).collect();
            let mut controls: Vec<_> = (half..half + horizon).map(|t| [wiggle(t)]).collect();
            let before = controls.clone();
            smoothing.smooth(applied.past(), 2, &mut controls, &mut Vec::new());
            assert_eq!(controls[..2], before[..2], "fixed");
            for t in 2..horizon {
                let beyond = (t + half + 1).saturating_sub(horizon);
                let expected = fitted(&all[t - beyond..][..window], order, beyond as f64);
                let found = f64::from(controls[t][0]);
                assert!((found - expected).abs() < 1e-4, "{smoothing:?}, t = {t}: {found}, not {expected}");
            }
        }
        for (window, order) in [(1, 0), (4, 2), (101, 2), (11, 2), (5, 5), (9, 7)] {
            assert!(Smoothing { window, order }.check(5).is_err(), "{window}, {order}");
        }
    }

    #[test]
    fn the_past_moves_with_the_plan() {
        let mut applied = Applied::new([0.0]);
        applied.keep(3);
        applied.move_on(2, 0.0, |t| [t as f32 + 1.0]);
        assert_eq!(applied.recent, [[0.0], [1.0], [2.0]]);
        applied.move_on(0, 0.25, |_| [3.0]);
        assert_eq!(applied.recent, [[0.25], [1.25], [2.25]]);
        applied.move_on(4, 0.0, |t| [t as f32 + 5.0]);
        assert_eq!(applied.recent, [[6.0], [7.0], [8.0]]);
        applied.keep(4);
        assert_eq!(applied.recent, [[6.0], [6.0], [7.0], [8.0]]);
        applied.keep(1);
        assert_eq!(applied.recent, [[8.0]]);
    }
}
