//! A trained policy in plain `f32`: to be embedded, and to be tried.

use std::sync::Arc;

use pulp::{Simd, WithSimd};

use crate::error::{InvalidValue, finite, in_range};
use crate::field::FieldSet;
use crate::float_env;
use crate::model::Model;
use crate::planner::{Limits, References};
use crate::policy::Policy;
use crate::scalar::{Inputs, Stage, Weights};

/// A policy with its parameters: what a training leaves behind, in plain `f32`. It knows no engine.
///
/// # Example
///
/// Parameters that a training has found elsewhere, in a program that does not train.
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
#[derive(Debug)]
pub struct Controller<const N: usize, const M: usize, P> {
    pub(super) policy: Arc<P>,
    pub(super) theta: Vec<f32>,
    pub(super) limits: Option<Limits<M>>,
    pub(super) params: Vec<f32>,
    pub(super) references: Option<References>,
    pub(super) fields: FieldSet,
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

/// Refuses numbers that are not the parameters of a policy that has `own` of them.
pub(super) fn check_theta(theta: &[f32], own: usize) -> Result<(), InvalidValue> {
    if theta.len() != own {
        let value = format_args!("{} numbers", theta.len());
        return Err(InvalidValue::new("theta", value, format_args!("as many as there are parameters, {own}")));
    }
    finite("theta", theta)
}

/// One episode under a policy without noise.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode<const N: usize, const M: usize> {
    /// The states, from the first on; one more than there are controls. They end where the episode does.
    pub states: Vec<[f32; N]>,
    /// The controls applied.
    pub controls: Vec<[f32; M]>,
    /// What it cost: its return is the negative of that.
    pub cost: f32,
}

impl<const N: usize, const M: usize, P: Policy<N, M>> Controller<N, M, P> {
    /// A policy with parameters `theta`, which acts every `dt` seconds.
    ///
    /// # Errors
    ///
    /// If there are not as many numbers as the policy has parameters, one is not finite, or `dt` is not above 0.
    pub fn new(policy: P, theta: &[f32], dt: f32) -> Result<Self, InvalidValue> {
        check_theta(theta, policy.parameters())?;
        in_range("dt", dt, dt > 0.0, "finite and above 0 (seconds)")?;
        Ok(Self {
            policy: Arc::new(policy),
            theta: theta.to_vec(),
            limits: None,
            params: Vec::new(),
            references: None,
            fields: FieldSet::new(&[]),
            dt,
            time: 0,
        })
    }

    /// The same with its controls limited to a box.
    ///
    /// # Errors
    ///
    /// If a low value is above the high one, or not a number.
    pub fn with_limits(self, limits: Limits<M>) -> Result<Self, InvalidValue> {
        limits.check()?;
        Ok(Self { limits: Some(limits), ..self })
    }

    /// The same with run-time parameters for the policy to see: see [`Stage::param`].
    ///
    /// # Errors
    ///
    /// If one is not finite.
    pub fn with_params(self, params: &[f32]) -> Result<Self, InvalidValue> {
        finite("params", params)?;
        Ok(Self { params: params.to_vec(), ..self })
    }

    /// The same with references for the policy to see: see [`Stage::reference`].
    ///
    /// # Errors
    ///
    /// If they are not whole rows, or one is not finite.
    pub fn with_references(self, references: References) -> Result<Self, InvalidValue> {
        References::check(&references.values, references.columns)?;
        Ok(Self { references: Some(references), ..self })
    }

    /// The control in state `x`, within the limits, at the next time step.
    pub fn act(&mut self, x: [f32; N]) -> [f32; M] {
        let u = float_env::standard(|| self.at(self.time, &self.params, x));
        self.time += 1;
        u
    }

    /// Starts an episode: the next call of [`act`](Self::act) is time step 0 again.
    pub fn reset(&mut self) {
        self.time = 0;
    }

    /// θ, as plain numbers; what they mean stands with the policy.
    pub fn parameters(&self) -> &[f32] {
        &self.theta
    }

    /// The policy.
    pub fn policy(&self) -> &P {
        &self.policy
    }

    #[inline(always)]
    fn stage<'a>(&'a self, t: usize, params: &'a [f32]) -> Stage<'a, f32> {
        let reference = self.references.as_ref().map_or(&[][..], |references| {
            let row = t.min(references.rows() - 1) * references.columns;
            &references.values[row..][..references.columns]
        });
        Stage::over(Inputs {
            params,
            param_stride: 0,
            reference,
            time: t as f32,
            dt: self.dt,
            fields: self.fields.look_ups(),
        })
    }

    #[inline(always)]
    fn at(&self, t: usize, params: &[f32], x: [f32; N]) -> [f32; M] {
        let mut u = self.policy.act(&self.stage(t, params), &Weights::new(&self.theta), x);
        if let Some(Limits { low, high }) = &self.limits {
            for m in 0..M {
                u[m] = u[m].max(low[m]).min(high[m]);
            }
        }
        u
    }
}

/// An episode of a model under a controller, with the vector instructions switched on for their fused multiply-add.
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
        let mut runs = !model.done(&controller.stage(0, params), *x);
        for t in 0..horizon {
            if !runs {
                break;
            }
            let stage = controller.stage(t, params);
            let u = controller.at(t, params, *x);
            *x = model.step(&stage, *x, u);
            cost += f64::from(model.cost(&stage, *x, u));
            runs = !model.done(&stage, *x);
            episode.states.push(*x);
            episode.controls.push(u);
        }
        cost += f64::from(model.terminal(&controller.stage(horizon, params), *x));
        episode.cost = cost as f32;
        episode
    }
}
