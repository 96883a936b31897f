//! [`Feedback`]: gains along a plan, for loops that run faster than the planner.

mod matrix;
mod riccati;

use super::{Algorithm, Planner};
use crate::error::{FeedbackError, InvalidValue, in_range};
use crate::interp::simd::isa::Isa;
use crate::lang::{Timeline, float_env};
use crate::model::Model;
use crate::runtime::task::Limits;
use riccati::Recursion;

/// How deviations from a plan are weighed: what the gains of a [`Feedback`] minimize.
///
/// The weights multiply squares, as in the cost of a model: a running cost of `u.square() * 0.1` and a control weight
/// of 0.1 are the same.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum FeedbackWeights<const N: usize, const M: usize> {
    /// Constant weights over the horizon: Σ_t (δx_{t+1}ᵀ Q δx_{t+1} + δu_tᵀ R δu_t) + δx_Tᵀ Q_T δx_T.
    Quadratic {
        /// Q, symmetric and positive semidefinite.
        state: [[f32; N]; N],
        /// R, symmetric and positive definite.
        control: [[f32; M]; M],
        /// Q_T, symmetric and positive semidefinite.
        terminal: [[f32; N]; N],
    },
    /// The second-order terms of the model's own cost at every time step of the plan, by dual numbers.
    ///
    /// Where the cost is not convex, its matrix of second derivatives by (x, u) is replaced by the nearest one that is
    /// positive semidefinite. A cost whose second derivatives vanish almost everywhere, such as a penalty that is
    /// constant inside an obstacle, adds nothing. The curvature of the dynamics is not included.
    FromCost {
        /// The weight of each δu_j², above 0, which is added to that of the cost; many costs have none. MPPI itself
        /// weighs control by λ/(2σ_j²), with the temperature λ of the plan and the standard deviation σ_j of the noise,
        /// if noise is white and costs are summed.
        control: [f32; M],
    },
}

impl<const N: usize, const M: usize> FeedbackWeights<N, M> {
    /// [`Quadratic`](Self::Quadratic) with a weight for each component of the state and of the control, and no
    /// additional weight at the end.
    pub fn diagonal(state: [f32; N], control: [f32; M]) -> Self {
        Self::Quadratic { state: matrix::diagonal(state), control: matrix::diagonal(control), terminal: [[0.0; N]; N] }
    }

    /// Refuses weights that have no minimum.
    fn check(&self) -> Result<(), InvalidValue> {
        match self {
            Self::Quadratic { state, control, terminal } => {
                matrix::check_semidefinite("state", state)?;
                matrix::check_definite("control", control)?;
                matrix::check_semidefinite("terminal", terminal)
            }
            Self::FromCost { control } => {
                control.iter().try_for_each(|weight| in_range("control", *weight, *weight > 0.0, "finite and above 0"))
            }
        }
    }
}

/// A linear feedback around a plan, so that a plan with time steps of 20 ms can be tracked by a loop of 2 ms:
///
/// u = u_t − K_t (x − x_t), within the limits of the task.
///
/// x_t and u_t are the states and controls of the [`Plan`](super::Plan), and K_t (M × N) are the gains of the linear
/// quadratic regulator of the model, linearized by dual numbers at every time step: A = ∂step/∂x, B = ∂step/∂u, and
/// backward from the end of the horizon
///
/// ```text
/// S = Q + P_{t+1}    K_t = (R + Bᵀ S B)⁻¹ Bᵀ S A    P_t = K_tᵀ R K_t + (A − B K_t)ᵀ S (A − B K_t)
/// ```
///
/// with the weights of [`FeedbackWeights`]. The recursion runs on the host in double precision, once for each plan:
/// [`Planner::feedback`] makes a feedback, and [`Planner::update_feedback`] updates it without allocating.
///
/// # Limits
///
/// The limits of the task are applied to the corrected control, and gains do not depend on them: a control that the
/// plan holds at a limit is still corrected away from it. (The control-limited DDP of Tassa et al. sets such gains to
/// 0. That suits an optimizer; but plans by sampling are often at a limit, and were tracked less closely in this way.)
/// Limits of [rates](crate::Task::rate_limits) and [jerk](crate::Task::jerk_limits) are not considered, and a task with
/// an input [delay](crate::Task::delay) is refused: a correction takes effect at once.
///
/// # Rollouts that end
///
/// From the time step at which [`Model::done`] ends the plan's rollout, gains are 0, and so they are after the end of
/// the horizon, where the plan's last control is returned.
///
/// # Angles and quaternions
///
/// x − x_t is the difference of components. For a model that wraps its angles, or for quaternions (q and −q are the
/// same attitude), pass a function to [`with_difference`](Self::with_difference).
///
/// Sources: B. Anderson, J. Moore, *Optimal Control: Linear Quadratic Methods* (1990); Y. Tassa, N. Mansard, E.
/// Todorov, *Control-limited differential dynamic programming*, ICRA 2014.
///
/// # Example
///
/// A planner at 50 Hz and a feedback at 500 Hz, on a cart that is heavier than in the model:
///
/// ```
/// use gibbs::control::FeedbackWeights;
/// use gibbs::models::CartPole;
/// use gibbs::{Model, Mppi, MppiOptions, Engine, StepContext, Task};
///
/// let options = MppiOptions { task: Task { horizon: 50, dt: 0.02, ..Default::default() }, ..Default::default() };
/// let mut mppi = Mppi::new(&Engine::new()?, CartPole::default(), options)?;
/// let (plant, mut state) = (CartPole { cart: 1.2, ..Default::default() }, [0.0, 0.0, 0.3, 0.0]);
///
/// mppi.plan(&state)?;
/// let mut feedback = mppi.feedback(FeedbackWeights::diagonal([1.0, 0.1, 10.0, 0.1], [0.01]))?;
/// for _ in 0..5 {
///     for i in 0..10 {
///         let control = feedback.at(i as f32 * 0.002, &state);
///         state = plant.step(&StepContext::new(0, 0.002), state, control);
///     }
///     mppi.shift(1);
///     mppi.plan(&state)?;
///     mppi.update_feedback(&mut feedback)?;
/// }
/// # Ok::<(), gibbs::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Feedback<const N: usize, const M: usize> {
    weights: FeedbackWeights<N, M>,
    difference: Difference<N>,
    along: Along<N, M>,
    /// Buffer for the next update, swapped with `along` once that is complete.
    next: Along<N, M>,
    /// The matrices of [`matrix::project`], (N + M) × (N + M) each.
    scratch: [Vec<f64>; 2],
}

/// Returns the first state minus the second.
type Difference<const N: usize> = fn(&[f32; N], &[f32; N]) -> [f32; N];

/// What a control is computed from.
#[derive(Debug, Clone)]
struct Along<const N: usize, const M: usize> {
    dt: f32,
    limits: Limits<M>,
    states: Vec<[f32; N]>,
    controls: Vec<[f32; M]>,
    gains: Vec<[[f32; N]; M]>,
}

impl<const N: usize, const M: usize> Along<N, M> {
    const EMPTY: Self =
        Self { dt: 0.0, limits: Limits::NONE, states: Vec::new(), controls: Vec::new(), gains: Vec::new() };
}

impl<const N: usize, const M: usize> Feedback<N, M> {
    fn new(weights: FeedbackWeights<N, M>) -> Result<Self, InvalidValue> {
        weights.check()?;
        let scratch = match weights {
            FeedbackWeights::Quadratic { .. } => 0,
            FeedbackWeights::FromCost { .. } => (N + M) * (N + M),
        };
        Ok(Self {
            weights,
            difference: |x, y| std::array::from_fn(|i| x[i] - y[i]),
            along: Along::EMPTY,
            next: Along::EMPTY,
            scratch: [(); 2].map(|()| vec![0.0; scratch]),
        })
    }

    /// Returns this feedback with another difference of two states, first minus second, instead of that of their
    /// components. It is used for the deviation from the plan and for the interpolation between its states.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::control::Feedback;
    /// use gibbs::Real;
    ///
    /// /// Wraps the heading of a unicycle (x, y, θ) that stays within [−π, π).
    /// fn wrapped(feedback: Feedback<3, 2>) -> Feedback<3, 2> {
    ///     feedback.with_difference(|x, y| [x[0] - y[0], x[1] - y[1], (x[2] - y[2]).wrap_angle()])
    /// }
    /// # let _ = wrapped;
    /// ```
    pub fn with_difference(mut self, difference: fn(&[f32; N], &[f32; N]) -> [f32; N]) -> Self {
        self.difference = difference;
        self
    }

    /// The control of time step `t` in the state `x`: u_t − K_t (x − x_t), within the limits. From the end of the
    /// horizon on, it is the plan's last control.
    ///
    /// A component whose correction is not finite, because `x` is not, is that of the plan.
    pub fn control(&self, t: usize, x: &[f32; N]) -> [f32; M] {
        self.between(t, 0.0, x)
    }

    /// The control in the state `x`, `seconds` after the state that the plan was made for, for loops that are faster
    /// than the time steps of the plan. The plan's state and the gain are interpolated linearly between time steps; the
    /// plan's control is held over each of them.
    ///
    /// A time before 0, or NaN, counts as 0; otherwise as [`control`](Self::control).
    pub fn at(&self, seconds: f32, x: &[f32; N]) -> [f32; M] {
        let steps = (seconds / self.along.dt).max(0.0);
        // A multiple of dt may be rounded down. A thousandth of a time step does not matter otherwise.
        let nearest = steps.round();
        let steps = if (steps - nearest).abs() < 1e-3 { nearest } else { steps };
        self.between(steps as usize, steps.fract(), x)
    }

    /// The control `fraction` of a time step after time step `t`.
    fn between(&self, t: usize, fraction: f32, x: &[f32; N]) -> [f32; M] {
        let Along { limits, states, controls, gains, .. } = &self.along;
        let last = controls.len() - 1;
        let mut u = controls[t.min(last)];
        if t <= last {
            let mut deviation = (self.difference)(x, &states[t]);
            if fraction > 0.0 {
                let ahead = (self.difference)(&states[t + 1], &states[t]);
                deviation.iter_mut().zip(ahead).for_each(|(x, ahead)| *x -= fraction * ahead);
            }
            let (gain, next) = (&gains[t], &gains[(t + 1).min(last)]);
            for j in 0..M {
                let k = |i: usize| gain[j][i] + fraction * (next[j][i] - gain[j][i]);
                let corrected = u[j] - (0..N).map(|i| k(i) * deviation[i]).sum::<f32>();
                if corrected.is_finite() {
                    u[j] = corrected;
                }
            }
        }
        limits.clamp(u)
    }

    /// The gains K_t, T of M × N each, in units of the control per unit of the state.
    pub fn gains(&self) -> &[[[f32; N]; M]] {
        &self.along.gains
    }

    /// The states x_t of the plan, (T + 1) × N.
    pub fn states(&self) -> &[[f32; N]] {
        &self.along.states
    }

    /// The controls u_t of the plan, T × M.
    pub fn controls(&self) -> &[[f32; M]] {
        &self.along.controls
    }

    /// The length of a time step of the plan (in seconds).
    pub fn dt(&self) -> f32 {
        self.along.dt
    }

    /// The weights of deviations.
    pub fn weights(&self) -> &FeedbackWeights<N, M> {
        &self.weights
    }

    /// Computes the gains along a trajectory. If that fails, nothing is changed.
    fn update<D: Model<N, M>>(
        &mut self,
        isa: Isa,
        model: &D,
        timeline: &Timeline<'_>,
        limits: Limits<M>,
        (states, controls): (&[[f32; N]], &[[f32; M]]),
    ) -> Result<(), FeedbackError> {
        let Along { gains, .. } = &mut self.next;
        gains.clear();
        gains.resize(controls.len(), [[0.0; N]; M]);
        let [curvature, scratch] = &mut self.scratch;
        let weights = &self.weights;
        let job = Recursion { model, timeline, weights, states, controls, gains, curvature, scratch };
        float_env::standard(|| isa.run(job))?;
        let next = &mut self.next;
        (next.dt, next.limits) = (timeline.dt, limits);
        next.states.clear();
        next.states.extend_from_slice(states);
        next.controls.clear();
        next.controls.extend_from_slice(controls);
        std::mem::swap(&mut self.along, &mut self.next);
        Ok(())
    }
}

impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> Planner<N, M, D, A> {
    /// Computes a [`Feedback`] around the last plan, for loops that run faster than the planner: the gains of the
    /// linear quadratic regulator of the model along the plan.
    ///
    /// Parameters, references, fields and limits are the current ones, not those of the call that made the plan, if
    /// they have been replaced since. Time counts from the state that the plan was made for, whether or not it has been
    /// [shifted](Self::shift) since.
    ///
    /// # Errors
    ///
    /// If there is no plan yet, the task has an input delay, a weight is out of range, or a derivative of the model
    /// along the plan or a gain is not finite.
    pub fn feedback(&self, weights: FeedbackWeights<N, M>) -> Result<Feedback<N, M>, FeedbackError> {
        self.feedback_of(0, weights)
    }

    /// As [`feedback`](Self::feedback), but replaces an earlier feedback, whose weights and difference are kept.
    /// Allocates nothing while the horizon is the same.
    ///
    /// # Errors
    ///
    /// As [`feedback`](Self::feedback). Then the feedback is not changed.
    pub fn update_feedback(&self, feedback: &mut Feedback<N, M>) -> Result<(), FeedbackError> {
        self.update_feedback_of(0, feedback)
    }

    pub(super) fn feedback_of(
        &self,
        i: usize,
        weights: FeedbackWeights<N, M>,
    ) -> Result<Feedback<N, M>, FeedbackError> {
        let mut feedback = Feedback::new(weights)?;
        self.update_feedback_of(i, &mut feedback)?;
        Ok(feedback)
    }

    pub(super) fn update_feedback_of(&self, i: usize, feedback: &mut Feedback<N, M>) -> Result<(), FeedbackError> {
        let task = self.options.task();
        let Some(plan) = self.last_plan_of(i) else {
            return Err(InvalidValue::new("plan", "not there", "made by a call of plan that succeeded").into());
        };
        if task.delay > 0 {
            let expected = "0 for a feedback, whose corrections act at once";
            return Err(InvalidValue::new("delay", task.delay, expected).into());
        }
        let (timeline, limits) = (self.inputs.timeline(i, task.dt), task.limits.unwrap_or(Limits::NONE));
        feedback.update(self.engine.isa(), &*self.model, &timeline, limits, (plan.states(), plan.controls()))
    }
}
