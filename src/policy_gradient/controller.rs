//! A trained policy in plain `f32`, for embedding and for evaluation.

use std::sync::Arc;

use pulp::{Simd, WithSimd};

use super::PolicyGradientOptions;
use crate::engine::program;
use crate::error::{InvalidValue, columns_read_by, finite, in_range, read_by};
use crate::field::{FieldSet, Grid};
use crate::float_env;
use crate::model::Model;
use crate::planner::{Limits, References};
use crate::policy::Policy;
use crate::scalar::trace::Requirements;
use crate::scalar::{ByHand, Inputs, Params, StepContext};

/// A policy with its parameters: the result of training, evaluated in plain `f32`. It needs no engine.
///
/// # Example
///
/// A program that does not train uses parameters that were trained elsewhere.
///
/// ```
/// use gibbs::policies::LinearFeedback;
/// use gibbs::{Controller, Limits};
///
/// // u = −2 p − 0.5 v + 0, within ±1.
/// let limits = Limits { low: [-1.0], high: [1.0] };
/// let mut controller = Controller::<2, 1, _>::new(LinearFeedback, &[-2.0, -0.5, 0.0], 0.02)?.with_limits(limits)?;
/// assert_eq!(controller.act([0.25, 0.5]), [-0.75]);
/// assert_eq!(controller.act([5.0, 0.0]), [-1.0]);
/// # Ok::<(), gibbs::InvalidValue>(())
/// ```
///
/// A policy that reads run-time parameters, references or fields needs them as in training: see [`ControllerOptions`].
#[derive(Debug)]
pub struct Controller<const N: usize, const M: usize, P> {
    pub(super) policy: Arc<P>,
    pub(super) theta: Vec<f32>,
    pub(super) limits: Option<Limits<M>>,
    pub(super) params: Vec<f32>,
    pub(super) references: Option<References>,
    pub(super) fields: FieldSet,
    /// The parameters, references and fields that the policy reads.
    pub(super) requirements: Requirements,
    pub(super) dt: f32,
    /// Calls since the start of the episode.
    pub(super) time: usize,
}

impl<const N: usize, const M: usize, P> Clone for Controller<N, M, P> {
    fn clone(&self) -> Self {
        Self {
            policy: Arc::clone(&self.policy),
            theta: self.theta.clone(),
            limits: self.limits,
            params: self.params.clone(),
            references: self.references.clone(),
            fields: self.fields.clone(),
            ..*self
        }
    }
}

/// The options of a [`Controller`] besides its policy and parameters. `..Default::default()` fills in the rest.
///
/// # Example
///
/// A program that does not train rebuilds a policy, which samples a field, from saved parameters.
///
/// ```
/// use gibbs::{Controller, ControllerOptions, Grid, Policy, Random, Real, StepContext, Params};
///
/// /// Drives towards where the field is 0, in proportion to its value.
/// struct Descent;
///
/// impl Policy<1, 1> for Descent {
///     fn parameters(&self) -> usize {
///         1
///     }
///     #[inline(always)]
///     fn act<R: Real>(&self, at: &StepContext<R>, theta: &Params<R>, [x]: [R; 1]) -> [R; 1] {
///         [-(theta.get(0) * at.sample(0, x, R::from(0.5)))]
///     }
///     fn initial(&self, _random: &mut Random) -> Vec<f32> {
///         vec![0.0]
///     }
/// }
///
/// let saved = [2.0]; // from `PolicyGradient::parameters`
/// let slope = Grid::from_fn(4, 1, 1.0, [0.0, 0.0], |x, _| x)?;
/// let options = ControllerOptions { dt: 0.1, fields: vec![slope], ..Default::default() };
/// let mut controller = Controller::with_options(Descent, &saved, options)?;
/// assert_eq!(controller.act([1.5]), [-3.0]);
///
/// // Without the field it is refused here, not in the middle of a drive.
/// let refused = Controller::new(Descent, &saved, 0.1).err();
/// assert_eq!(refused.map(|error| error.field), Some("fields"));
/// # Ok::<(), gibbs::InvalidValue>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ControllerOptions<const M: usize> {
    /// The length of a time step (in seconds), as passed to the policy; above 0. The default is 0.02.
    pub dt: f32,
    /// The box that controls are limited to.
    pub limits: Option<Limits<M>>,
    /// Run-time parameters: see [`StepContext::param`]. At least as many as the policy reads.
    pub params: Vec<f32>,
    /// References over the horizon: see [`StepContext::reference`]. At least as many columns as the policy reads.
    pub references: Option<References>,
    /// Sampled fields: see [`StepContext::sample`]. At least as many as the policy reads.
    pub fields: Vec<Grid>,
}

impl<const M: usize> Default for ControllerOptions<M> {
    fn default() -> Self {
        Self { dt: 0.02, limits: None, params: Vec::new(), references: None, fields: Vec::new() }
    }
}

impl<const M: usize> From<&PolicyGradientOptions<M>> for ControllerOptions<M> {
    /// The options that [`PolicyGradient::controller`](crate::PolicyGradient::controller) gives its controllers.
    fn from(options: &PolicyGradientOptions<M>) -> Self {
        Self {
            dt: options.dt,
            limits: options.limits,
            params: options.params.clone(),
            references: options.references.clone(),
            fields: options.fields.clone(),
        }
    }
}

/// The name of the reader of parameters, references and fields, for errors.
const READER: &str = "the policy";

/// Refuses `theta` unless it has `own` numbers, as many as the policy has parameters, and all are finite.
pub(super) fn check_theta(theta: &[f32], own: usize) -> Result<(), InvalidValue> {
    if theta.len() != own {
        let value = format_args!("{} numbers", theta.len());
        return Err(InvalidValue::new("theta", value, format_args!("as many as the policy has parameters, {own}")));
    }
    finite("theta", theta)
}

/// One episode under a policy without noise.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode<const N: usize, const M: usize> {
    /// The states, from the first to the last of the episode; one more than there are controls.
    pub states: Vec<[f32; N]>,
    /// The controls applied.
    pub controls: Vec<[f32; M]>,
    /// The cost of the episode; its return is the negative of the cost.
    pub cost: f32,
}

impl<const N: usize, const M: usize, P: Policy<N, M>> Controller<N, M, P> {
    /// Creates a controller from a policy with parameters `theta`, which acts every `dt` seconds and reads only the
    /// state, θ and the time. [`with_options`](Self::with_options) accepts a policy that reads more.
    ///
    /// # Errors
    ///
    /// If there are not as many numbers as the policy has parameters, one is not finite, `dt` is not above 0, or the policy
    /// reads run-time parameters, references or fields.
    pub fn new(policy: P, theta: &[f32], dt: f32) -> Result<Self, InvalidValue> {
        Self::with_options(policy, theta, ControllerOptions { dt, ..Default::default() })
    }

    /// Creates a controller from a policy with parameters `theta` and everything else that it reads. Parameters from
    /// [`PolicyGradient::parameters`](crate::PolicyGradient::parameters), saved and loaded by any means, give the same
    /// controller again, bit for bit.
    ///
    /// # Errors
    ///
    /// If there are not as many numbers as the policy has parameters, one is not finite, an option is out of range, or the
    /// policy reads a parameter, reference column or field that is missing.
    pub fn with_options(policy: P, theta: &[f32], options: ControllerOptions<M>) -> Result<Self, InvalidValue> {
        let ControllerOptions { dt, limits, params, references, fields } = options;
        check_theta(theta, policy.parameters())?;
        in_range("dt", dt, dt > 0.0, "finite and above 0 (seconds)")?;
        if let Some(limits) = &limits {
            limits.check()?;
        }
        finite("params", &params)?;
        if let Some(references) = &references {
            References::check(&references.values, references.columns)?;
        }
        let requirements = program::reads(&policy).map_err(|error| {
            let expected = "one that reads only what there can be";
            InvalidValue::new("policy", format_args!("not usable ({error})"), expected)
        })?;
        read_by(READER, "params", params.len(), requirements.params)?;
        columns_read_by(READER, references.as_ref().map_or(0, |r| r.columns), requirements.columns)?;
        read_by(READER, "fields", fields.len(), requirements.fields)?;
        Ok(Self {
            policy: Arc::new(policy),
            theta: theta.to_vec(),
            limits,
            params,
            references,
            fields: FieldSet::new(&fields),
            requirements,
            dt,
            time: 0,
        })
    }

    /// Limits the controls to a box.
    ///
    /// # Errors
    ///
    /// If a low value is above the high one, or not a number.
    pub fn with_limits(self, limits: Limits<M>) -> Result<Self, InvalidValue> {
        limits.check()?;
        Ok(Self { limits: Some(limits), ..self })
    }

    /// Replaces the run-time parameters that the policy reads: see [`StepContext::param`].
    ///
    /// # Errors
    ///
    /// If one is not finite, or there are fewer than the policy reads.
    pub fn with_params(self, params: &[f32]) -> Result<Self, InvalidValue> {
        finite("params", params)?;
        read_by(READER, "params", params.len(), self.requirements.params)?;
        Ok(Self { params: params.to_vec(), ..self })
    }

    /// Replaces the references that the policy reads: see [`StepContext::reference`].
    ///
    /// # Errors
    ///
    /// If they are not whole rows, one is not finite, or a row has fewer columns than the policy reads.
    pub fn with_references(self, references: References) -> Result<Self, InvalidValue> {
        References::check(&references.values, references.columns)?;
        columns_read_by(READER, references.columns, self.requirements.columns)?;
        Ok(Self { references: Some(references), ..self })
    }

    /// Replaces the fields that the policy samples: see [`StepContext::sample`].
    ///
    /// # Errors
    ///
    /// If there are fewer than the policy reads.
    pub fn with_fields(self, fields: &[Grid]) -> Result<Self, InvalidValue> {
        read_by(READER, "fields", fields.len(), self.requirements.fields)?;
        Ok(Self { fields: FieldSet::new(fields), ..self })
    }

    /// Returns the control for state `x` at the next time step, within the limits.
    pub fn act(&mut self, x: [f32; N]) -> [f32; M] {
        let u = float_env::standard(|| self.at(self.time, &self.params, x));
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

    #[inline(always)]
    fn context<'a>(&'a self, t: usize, params: &'a [f32]) -> StepContext<'a, f32> {
        let reference = self.references.as_ref().map_or(&[][..], |references| {
            let row = t.min(references.rows() - 1) * references.columns;
            &references.values[row..][..references.columns]
        });
        StepContext::over(Inputs {
            params,
            param_stride: 0,
            reference,
            time: t as f32,
            dt: self.dt,
            fields: self.fields.look_ups(),
            by_hand: ByHand::NOTHING,
        })
    }

    #[inline(always)]
    fn at(&self, t: usize, params: &[f32], x: [f32; N]) -> [f32; M] {
        let mut u = self.policy.act(&self.context(t, params), &Params::new(&self.theta), x);
        if let Some(Limits { low, high }) = &self.limits {
            for m in 0..M {
                u[m] = u[m].max(low[m]).min(high[m]);
            }
        }
        u
    }
}

/// Runs an episode of a model under a controller, with vector instructions enabled for their fused multiply-add.
pub(super) struct Run<'a, const N: usize, const M: usize, D, P> {
    pub(super) model: &'a D,
    pub(super) controller: &'a Controller<N, M, P>,
    pub(super) params: &'a [f32],
    pub(super) start: [f32; N],
    pub(super) horizon: usize,
}

impl<const N: usize, const M: usize, D: Model<N, M>, P: Policy<N, M>> WithSimd for Run<'_, N, M, D, P> {
    type Output = Episode<N, M>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Episode<N, M> {
        let Self { model, controller, params, mut start, horizon } = self;
        let x = &mut start;
        let mut episode = Episode { states: vec![*x], controls: Vec::new(), cost: 0.0 };
        let mut cost = 0.0_f64;
        let mut runs = !model.done(&controller.context(0, params), *x);
        for t in 0..horizon {
            if !runs {
                break;
            }
            let context = controller.context(t, params);
            let u = controller.at(t, params, *x);
            *x = model.step(&context, *x, u);
            cost += f64::from(model.cost(&context, *x, u));
            runs = !model.done(&context, *x);
            episode.states.push(*x);
            episode.controls.push(u);
        }
        cost += f64::from(model.terminal(&controller.context(horizon, params), *x));
        episode.cost = cost as f32;
        episode
    }
}
