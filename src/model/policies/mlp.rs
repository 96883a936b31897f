//! A multi-layer perceptron.

use gibbs_macros::model;

use crate::error::InvalidValue;
use crate::lang::random::Random;
use crate::lang::{Activation, GradientAccumulator, Network, Params, Real, StepContext};
use crate::model::policy::Policy;

/// The inputs of a network: `O` features of `N` states, written once for every interpretation of [`Real`].
///
/// # Example
///
/// ```
/// use gibbs::policies::Observation;
/// use gibbs::{Real, StepContext};
///
/// /// The angle as cosine and sine, so that it is continuous; and its rate.
/// struct Around;
///
/// #[gibbs::model]
/// impl Observation<2, 3> for Around {
///     fn observe<R: Real>(&self, _at: &StepContext<R>, [angle, rate]: [R; 2]) -> [R; 3] {
///         let (s, c) = angle.sin_cos();
///         [c, s, rate]
///     }
/// }
/// ```
pub trait Observation<const N: usize, const O: usize>: Send + Sync + 'static {
    /// The features of state `x`.
    fn observe<R: Real>(&self, at: &StepContext<R>, x: [R; N]) -> [R; O];
}

/// The state itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity;

#[model]
impl<const N: usize> Observation<N, N> for Identity {
    fn observe<R: Real>(&self, _at: &StepContext<R>, x: [R; N]) -> [R; N] {
        x
    }
}

/// A multi-layer perceptron: a dense [`Network`] from `O` features of the state to `M` controls. θ: its weights and
/// biases, in the order of a [`Network`].
///
/// It implements its own derivatives, so score rows work at any size; and its size does not affect the size of a GPU
/// kernel.
///
/// # Example
///
/// See [`policies`](crate::model::policies).
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp<const O: usize, const M: usize, F = Identity> {
    network: Network,
    features: F,
}

impl<const O: usize, const M: usize> Mlp<O, M> {
    /// Creates a perceptron on the state itself, with the given numbers of hidden units and unbounded outputs.
    ///
    /// # Errors
    ///
    /// If a layer has no units, or more than 65,536.
    pub fn new(hidden: &[usize], activation: Activation) -> Result<Self, InvalidValue> {
        Self::observing(Identity, hidden, activation)
    }
}

impl<const O: usize, const M: usize, F> Mlp<O, M, F> {
    /// Creates a perceptron on features of the state.
    ///
    /// # Errors
    ///
    /// As for [`new`](Mlp::new).
    pub fn observing(features: F, hidden: &[usize], activation: Activation) -> Result<Self, InvalidValue> {
        let sizes: Vec<usize> = [O].into_iter().chain(hidden.iter().copied()).chain([M]).collect();
        Ok(Self { network: Network::new(0, &sizes, activation)?, features })
    }

    /// Returns this perceptron with control m squashed to [`low[m]`, `high[m]`] by a tanh.
    ///
    /// # Errors
    ///
    /// If a low value is not below the high one, or they are not finite.
    pub fn squashed(self, low: [f32; M], high: [f32; M]) -> Result<Self, InvalidValue> {
        Ok(Self { network: self.network.squashed(&low, &high)?, ..self })
    }

    /// Returns this perceptron with control m clipped to [`low[m]`, `high[m]`].
    ///
    /// # Errors
    ///
    /// As for [`squashed`](Self::squashed).
    pub fn clipped(self, low: [f32; M], high: [f32; M]) -> Result<Self, InvalidValue> {
        Ok(Self { network: self.network.clipped(&low, &high)?, ..self })
    }

    /// The network and its layers.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The features that the network reads.
    pub fn features(&self) -> &F {
        &self.features
    }
}

#[model]
impl<const N: usize, const O: usize, const M: usize, F: Observation<N, O>> Policy<N, M> for Mlp<O, M, F> {
    fn parameters(&self) -> usize {
        self.network.parameters()
    }
    fn act<R: Real>(&self, at: &StepContext<R>, theta: &Params<R>, x: [R; N]) -> [R; M] {
        theta.network(&self.network, self.features.observe(at, x))
    }
    fn vjp<R: Real>(
        &self,
        at: &StepContext<R>,
        theta: &Params<R>,
        x: [R; N],
        v: [R; M],
        g: &mut GradientAccumulator<R>,
    ) -> [R; M] {
        g.network(theta, &self.network, self.features.observe(at, x), v)
    }
    fn initial(&self, random: &mut Random) -> Vec<f32> {
        self.network.initial(random)
    }
}
