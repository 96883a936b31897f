//! [`Policy`], which maps a state to a control, with parameters to be optimized.

use crate::interp::dual::{Dual, Several};
use crate::lang::random::Random;
use crate::lang::{GradientAccumulator, ParamView, Params, Real, StepContext};

/// Maximum number of parameters for which [`Policy::vjp`] falls back to dual numbers.
pub(crate) const MAX_BY_DUALS: usize = 64;

/// A deterministic map m_θ from a state (`N` numbers) to a control (`M` numbers), with parameters θ. The driver adds
/// the noise.
///
/// Like a [`Model`](crate::model::Model) it is generic over [`Real`], so the same few lines run as plain `f32`, as SIMD
/// lanes and as part of a GPU kernel; the same rules apply: [`#[gibbs::model]`](macro@crate::model) on the `impl` and
/// on every helper, no closures over `R` values.
///
/// # Example
///
/// ```
/// use gibbs::{Policy, Random, Real, StepContext, Params};
///
/// /// Push against the position and the speed, never harder than 2.
/// struct Damper;
///
/// #[gibbs::model]
/// impl Policy<2, 1> for Damper {
///     fn parameters(&self) -> usize {
///         2
///     }
///     fn act<R: Real>(&self, _at: &StepContext<R>, theta: &Params<R>, [p, v]: [R; 2]) -> [R; 1] {
///         [(-(theta.get(0) * p) - theta.get(1) * v).clamp(-2.0, 2.0)]
///     }
///     fn initial(&self, _random: &mut Random) -> Vec<f32> {
///         vec![0.0; 2]
///     }
/// }
///
/// let u = Damper.act(&StepContext::new(0, 0.1), &Params::<f32>::new(&[1.0, 0.5]), [1.0, 1.0]);
/// assert_eq!(u, [-1.5]);
/// ```
pub trait Policy<const N: usize, const M: usize>: Send + Sync + 'static {
    /// P, the number of parameters. At least 1.
    fn parameters(&self) -> usize;

    /// m_θ(x), the control in state `x`.
    fn act<R: Real>(&self, at: &StepContext<R>, theta: &Params<R>, x: [R; N]) -> [R; M];

    /// Adds (∂m/∂θ)ᵀ v to `g`, and returns m_θ(x), the same as [`act`](Self::act) does: the vector–Jacobian product
    /// from which score rows are computed. `v` does not depend on m.
    ///
    /// By default dual numbers compute it, for policies of up to 64 parameters. For larger policies a driver refuses
    /// score rows ([`ModelError::NoVjp`](crate::error::ModelError::NoVjp)) unless the policy implements `vjp`;
    /// perturbation does not need it.
    #[inline(always)]
    fn vjp<R: Real>(
        &self,
        at: &StepContext<R>,
        theta: &Params<R>,
        x: [R; N],
        v: [R; M],
        g: &mut GradientAccumulator<R>,
    ) -> [R; M] {
        by_duals(self, at, theta, x, v, g)
    }

    /// The diagonal of the Fisher information about θ in one episode of `horizon` steps with actions a = m_θ(s) +
    /// Σ^{1/2} z, given the diagonal of Σ⁻¹, if it does not depend on the states that the episode visits: natural steps
    /// are then exact, for a model that ends no episode early. One number for each parameter, none below 0. `None` by
    /// default.
    fn information(&self, _horizon: usize, _precision: [f32; M]) -> Option<Vec<f32>> {
        None
    }

    /// Initial parameters, as many as [`parameters`](Self::parameters) returns.
    fn initial(&self, random: &mut Random) -> Vec<f32>;
}

/// The default of [`Policy::vjp`]: differentiates by several parameters at a time, as the variables of dual
/// numbers.
#[cfg_attr(optimized, inline(always))]
fn by_duals<const N: usize, const M: usize, R: Real, P: Policy<N, M> + ?Sized>(
    policy: &P,
    at: &StepContext<R>,
    theta: &Params<R>,
    x: [R; N],
    v: [R; M],
    g: &mut GradientAccumulator<R>,
) -> [R; M] {
    let parameters = policy.parameters();
    if parameters > MAX_BY_DUALS {
        g.sink.refused = true;
        return policy.act(at, theta, x);
    }
    let mut state = [Several::constant(R::from(0.0)); N];
    for i in 0..N {
        state[i] = Several::constant(x[i]);
    }
    let at = StepContext::<Several<R>>::over(at.inputs);
    let mut control = [R::from(0.0); M];
    let mut first = 0;
    while first < parameters {
        let theta = Params::over(ParamView { window: Some(first), ..theta.source });
        let u: [Dual<R, _>; M] = policy.act(&at, &theta, state);
        for (d, i) in (first..parameters).take(u[0].slopes.len()).enumerate() {
            let mut sum = R::from(0.0);
            for m in 0..M {
                sum = u[m].slopes[d].mul_add(v[m], sum);
            }
            g.add(i, sum);
        }
        for m in 0..M {
            control[m] = u[m].value;
        }
        first += u[0].slopes.len();
    }
    control
}
