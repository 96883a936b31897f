//! A trained policy in plain `f32`, for embedding and for evaluation.

use std::sync::Arc;

use pulp::{Simd, WithSimd};

use crate::error::{InvalidValue, finite};
use crate::interp::trace::Requirements;
use crate::lang::grid::{FieldSet, Grid};
use crate::lang::{ParamView, Params, StepContext, Timeline, float_env};
use crate::model::Model;
use crate::model::policy::Policy;
use crate::model::rollout::rollout;
use crate::runtime::program;
use crate::runtime::task::{Limits, Reader, References, Task};

/// A policy with its parameters: the result of training, evaluated in plain `f32`. It needs no engine.
///
/// # Example
///
/// A program that does not train uses parameters that were trained elsewhere.
///
/// ```
/// use gibbs::policies::LinearFeedback;
/// use gibbs::Limits;
/// use gibbs::learning::Controller;
///
/// // u = −2 p − 0.5 v + 0, within ±1.
/// let limits = Limits { low: [-1.0], high: [1.0] };
/// let mut controller = Controller::<2, 1, _>::new(LinearFeedback, &[-2.0, -0.5, 0.0], 0.02)?.with_limits(limits)?;
/// assert_eq!(controller.act([0.25, 0.5]), [-0.75]);
/// assert_eq!(controller.act([5.0, 0.0]), [-1.0]);
/// # Ok::<(), gibbs::InvalidValue>(())
/// ```
///
/// A policy that reads run-time parameters, references or fields is given them as it was in training, by a [`Task`]:
/// see [`with_task`](Self::with_task).
#[derive(Debug)]
pub struct Controller<const N: usize, const M: usize, P> {
    pub(crate) policy: Arc<P>,
    pub(crate) theta: Vec<f32>,
    /// Without its fields, which are looked up in `fields`.
    task: Task<M>,
    fields: FieldSet,
    /// The policy, as a reader of these.
    reader: Reader,
    /// Calls since the start of the episode.
    time: usize,
}

impl<const N: usize, const M: usize, P> Clone for Controller<N, M, P> {
    fn clone(&self) -> Self {
        Self {
            policy: Arc::clone(&self.policy),
            theta: self.theta.clone(),
            task: self.task.clone(),
            fields: self.fields.clone(),
            reader: self.reader.clone(),
            time: self.time,
        }
    }
}

/// Refuses `theta` unless it has `own` numbers, as many as the policy has parameters, and all are finite.
pub(crate) fn check_theta(theta: &[f32], own: usize) -> Result<(), InvalidValue> {
    if theta.len() != own {
        let value = format_args!("{} numbers", theta.len());
        return Err(InvalidValue::new("theta", value, format_args!("as many as the policy has parameters, {own}")));
    }
    finite("theta", theta)
}

/// One episode under a policy without noise.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Episode<const N: usize, const M: usize> {
    /// The states, from the first to the last of the episode; one more than there are controls.
    pub states: Vec<[f32; N]>,
    /// The controls applied.
    pub controls: Vec<[f32; M]>,
    /// The cost of the episode; its return is the negative of the cost.
    pub cost: f32,
}

impl<const N: usize, const M: usize, P: Policy<N, M>> Controller<N, M, P> {
    /// A policy with parameters `theta`, which acts every `dt` seconds and reads nothing but its state, its parameters
    /// and the time. One that reads more is built by [`with_task`](Self::with_task).
    ///
    /// # Errors
    ///
    /// If there are not as many numbers as the policy has parameters, one is not finite, `dt` is not above 0, or the
    /// policy reads run-time parameters, references or fields.
    pub fn new(policy: P, theta: &[f32], dt: f32) -> Result<Self, InvalidValue> {
        Self::with_task(policy, theta, Task { dt, ..Default::default() })
    }

    /// A policy with parameters `theta`, and everything that it reads besides: what
    /// [`PolicyGradient::theta`](crate::learning::PolicyGradient::theta) gave, saved and loaded by whatever
    /// means, becomes the same controller again, bit for bit, with the task of the training. A controller has no use
    /// for the horizon and the seed.
    ///
    /// # Example
    ///
    /// A policy that looks into a field, rebuilt from saved parameters in a program that does not train.
    ///
    /// ```
    /// use gibbs::{Grid, Policy, Random, Real, StepContext, Task, Params};
    /// use gibbs::learning::Controller;
    ///
    /// /// Drive toward where the field is 0, in proportion to it.
    /// struct Descent;
    ///
    /// #[gibbs::model]
    /// impl Policy<1, 1> for Descent {
    ///     fn parameters(&self) -> usize {
    ///         1
    ///     }
    ///     fn act<R: Real>(&self, at: &StepContext<R>, theta: &Params<R>, [x]: [R; 1]) -> [R; 1] {
    ///         [-(theta.get(0) * at.sample(0, x, R::from(0.5)))]
    ///     }
    ///     fn initial(&self, _random: &mut Random) -> Vec<f32> {
    ///         vec![0.0]
    ///     }
    /// }
    ///
    /// let saved = [2.0]; // from `PolicyGradient::theta`
    /// let slope = Grid::from_fn(4, 1, 1.0, [0.0, 0.0], |x, _| x)?;
    /// let task = Task { dt: 0.1, fields: vec![slope], ..Default::default() };
    /// let mut controller = Controller::with_task(Descent, &saved, task)?;
    /// assert_eq!(controller.act([1.5]), [-3.0]);
    ///
    /// // Without the field it is refused here, and not in the middle of a drive.
    /// let refused = Controller::new(Descent, &saved, 0.1).err();
    /// assert_eq!(refused.map(|error| error.field), Some("fields"));
    /// # Ok::<(), gibbs::InvalidValue>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If there are not as many numbers as the policy has parameters, one is not finite, the task is out of range, or
    /// the policy reads a parameter, reference column, field or weight that is missing.
    pub fn with_task(policy: P, theta: &[f32], task: Task<M>) -> Result<Self, InvalidValue> {
        check_theta(theta, policy.parameters())?;
        task.check(usize::MAX)?;
        task.check_for_policy()?;
        let requirements = program::reads(&policy).map_err(|error| {
            let expected = "one that reads only what there can be";
            InvalidValue::new("policy", format_args!("not usable ({error})"), expected)
        })?;
        task.check_reader(&Reader::policy(requirements.clone()))?;
        let fields = FieldSet::new(&task.fields);
        let task = Task { fields: Vec::new(), ..task };
        Ok(Self::of(Arc::new(policy), theta.to_vec(), task, fields, requirements))
    }

    /// A controller whose parts have been checked. Its task has no fields of its own.
    pub(crate) fn of(
        policy: Arc<P>,
        theta: Vec<f32>,
        task: Task<M>,
        fields: FieldSet,
        requirements: Requirements,
    ) -> Self {
        Self { policy, theta, task, fields, reader: Reader::policy(requirements), time: 0 }
    }

    /// Limits the controls to a box.
    ///
    /// # Errors
    ///
    /// If a low value is above the high one, or not a number.
    pub fn with_limits(mut self, limits: Limits<M>) -> Result<Self, InvalidValue> {
        limits.check()?;
        self.task.limits = Some(limits);
        Ok(self)
    }

    /// Replaces the run-time parameters that the policy reads: see [`StepContext::param`].
    ///
    /// # Errors
    ///
    /// If one is not finite, or there are fewer than the policy reads.
    pub fn with_params(mut self, params: &[f32]) -> Result<Self, InvalidValue> {
        finite("params", params)?;
        self.reader.check_params(params.len())?;
        self.task.params = params.to_vec();
        Ok(self)
    }

    /// Replaces the references that the policy reads: see [`StepContext::reference`].
    ///
    /// # Errors
    ///
    /// If they are not whole rows, one is not finite, or a row has fewer columns than the policy reads.
    pub fn with_references(mut self, references: References) -> Result<Self, InvalidValue> {
        References::check(&references.values, references.columns)?;
        self.reader.check_columns(references.columns)?;
        self.task.references = Some(references);
        Ok(self)
    }

    /// Replaces the fields that the policy samples: see [`StepContext::sample`].
    ///
    /// # Errors
    ///
    /// If there are fewer than the policy reads, or it looks up other dimensions or more channels of one.
    pub fn with_fields(self, fields: &[Grid]) -> Result<Self, InvalidValue> {
        self.reader.check_fields(fields)?;
        Ok(Self { fields: FieldSet::new(fields), ..self })
    }

    /// Replaces the weights of networks that the policy evaluates besides its own: see [`StepContext::network`].
    ///
    /// # Errors
    ///
    /// If one is not finite, or there are fewer than the policy reads.
    pub fn with_weights(mut self, weights: &[f32]) -> Result<Self, InvalidValue> {
        finite("weights", weights)?;
        self.reader.check_weights(weights.len())?;
        self.task.weights = weights.to_vec();
        Ok(self)
    }

    /// Returns the control for state `x` at the next time step, within the limits.
    pub fn act(&mut self, x: [f32; N]) -> [f32; M] {
        let at = StepContext::over(self.timeline(&self.task.params).at(self.time));
        let u = float_env::standard(|| self.control(&at, x));
        self.time += 1;
        u
    }

    /// Starts an episode: the next call of [`act`](Self::act) is time step 0 again.
    pub fn reset(&mut self) {
        self.time = 0;
    }

    /// θ, as plain numbers. The policy documents their meaning.
    pub fn parameters(&self) -> &[f32] {
        &self.theta
    }

    /// The policy.
    pub fn policy(&self) -> &P {
        &self.policy
    }

    /// The timeline that model and policy read over the horizon, with these run-time parameters.
    #[inline(always)]
    fn timeline<'a>(&'a self, params: &'a [f32]) -> Timeline<'a> {
        let (references, columns) = self.task.references.as_ref().map_or((&[][..], 0), |r| (&r.values[..], r.columns));
        let last_row = self.task.references.as_ref().map_or(1, References::rows) - 1;
        let (dt, fields) = (self.task.dt, self.fields.look_ups());
        let weights = ParamView::of_task(&self.task.weights);
        Timeline { params, param_stride: 0, references, columns, last_row, dt, fields, weights }
    }

    #[inline(always)]
    fn control(&self, at: &StepContext<'_, f32>, x: [f32; N]) -> [f32; M] {
        let mut u = self.policy.act(at, &Params::new(&self.theta), x);
        if let Some(Limits { low, high }) = &self.task.limits {
            for m in 0..M {
                u[m] = u[m].max(low[m]).min(high[m]);
            }
        }
        u
    }
}

/// Runs an episode of a model under a controller, with vector instructions enabled for their fused multiply-add.
pub(crate) struct Run<'a, const N: usize, const M: usize, D, P> {
    pub(crate) model: &'a D,
    pub(crate) controller: &'a Controller<N, M, P>,
    pub(crate) params: &'a [f32],
    pub(crate) start: [f32; N],
    pub(crate) horizon: usize,
}

impl<const N: usize, const M: usize, D: Model<N, M>, P: Policy<N, M>> WithSimd for Run<'_, N, M, D, P> {
    type Output = Episode<N, M>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Episode<N, M> {
        let Self { model, controller, params, start, horizon } = self;
        let mut episode = Episode { states: vec![start], controls: Vec::new(), cost: 0.0 };
        let timeline = controller.timeline(params);
        episode.cost = rollout(
            model,
            &timeline,
            horizon,
            start,
            |_, at, x| controller.control(at, x),
            |u, x| {
                episode.states.push(x);
                episode.controls.push(u);
            },
            None,
        );
        episode
    }
}
