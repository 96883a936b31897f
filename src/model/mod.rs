//! The traits that users implement: [`Model`] (dynamics and cost), [`Cost`] (a cost for existing dynamics),
//! [`Dynamics`] (a continuous right-hand side, for the integrators in this module) and [`Policy`].
//!
//! The models that ship are in [`systems`], the policies in [`policies`], and derivatives of any model in
//! [`derivative`]. `advance.rs` is the time step of every rollout, and `rollout.rs` the time loop on the host; the
//! kernels have theirs in `src/kernels/score`.
//!
//! This module imports the language, its interpretations and errors. Start reading at [`Model`], then at a short system
//! such as `systems/double_integrator.rs`.

pub(crate) mod advance;
pub mod derivative;
pub mod policies;
pub(crate) mod policy;
pub(crate) mod rollout;
pub mod systems;

use crate::lang::grid::FieldSet;
use crate::lang::{Real, StepContext};
pub use policy::Policy;

/// A system with `N` states and `M` controls, and its cost: written once, run on every backend.
///
/// Every method is generic over [`Real`], so the same few lines are plain `f32` code, SIMD lanes, the source of a GPU
/// kernel, and their own derivative. Values read from `&self` become constants; values that change at run time are read
/// from [`StepContext`]. The cost is that of *arriving* in `x` having applied `u`.
///
/// # Positions
///
/// A state is `f32`, so **plan relative to a local origin**: the spacing of f32 is 4 µm at 50 m, 0.5 mm at 8 km, 7.8 mm
/// at 88 km, 31 mm at 388 km (the easting of a UTM zone) and 0.25 m at 3,900 km (its northing). Each step of a rollout
/// rounds to that: a closed loop ends 4 mm off at 88 km and 14 mm off at 388 km, and at 3,900 km a robot at 1 m/s does
/// not move at all, since its 0.1 m in a step of 0.1 s is less than half a spacing. Keep the origin in `f64`, somewhere
/// near the robot, and subtract it in `f64` from the state, the goal and the map before anything becomes `f32`; add it
/// to the results.
///
/// ```
/// use gibbs::models::Unicycle;
/// use gibbs::{Model, StepContext};
///
/// let (robot, origin) = ([388_096.52_f64, 3_948_997.53], [388_000.0_f64, 3_949_000.0]);
/// let local = [(robot[0] - origin[0]) as f32, (robot[1] - origin[1]) as f32, 1.57];
/// let [x, y, _] = Unicycle::default().step(&StepContext::new(0, 0.1), local, [1.0, 0.0]);
/// let next = [f64::from(x) + origin[0], f64::from(y) + origin[1]];
/// assert!((next[1] - robot[1] - 0.1).abs() < 1e-5);
///
/// // Far from the origin it does not move.
/// let [_, y, _] = Unicycle::default().step(&StepContext::new(0, 0.1), [0.0, 3_948_997.5, 1.57], [1.0_f32, 0.0]);
/// assert_eq!(y, 3_948_997.5);
/// ```
///
/// # Speed on the CPU
///
/// Put [`#[gibbs::model]`](macro@crate::model) on the `impl` and on every helper that it calls, and do not pass `R`
/// values through closures: a single call that is not inlined loses the vector instructions of the CPU backend and
/// makes it 10 to 30 times slower. [`check::vectorized`](crate::check::vectorized) tells whether that has happened.
///
/// # Example
///
/// ```
/// use gibbs::{Model, Real, StepContext};
///
/// /// A mass on rails (state: position, speed; control: acceleration) that should stop at 1 m.
/// struct Cart;
///
/// #[gibbs::model]
/// impl Model<2, 1> for Cart {
///     fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [a]: [R; 1]) -> [R; 2] {
///         [p + v * at.dt(), v + a * at.dt()]
///     }
///     fn cost<R: Real>(&self, _at: &StepContext<R>, [p, v]: [R; 2], [a]: [R; 1]) -> R {
///         (p - 1.0).square() + v.square() * 0.1 + a.square() * 0.01
///     }
/// }
///
/// let at = StepContext::new(0, 0.1);
/// assert_eq!(Cart.step(&at, [0.0, 2.0], [0.0]), [0.2_f32, 2.0]);
/// ```
pub trait Model<const N: usize, const M: usize>: Send + Sync + 'static {
    /// The state one time step after `x`, under control `u`.
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; N], u: [R; M]) -> [R; N];

    /// The running cost of arriving in `x` having applied `u`.
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; N], u: [R; M]) -> R;

    /// The terminal cost of ending in `x`. 0 by default.
    #[inline(always)]
    fn terminal<R: Real>(&self, _at: &StepContext<R>, _x: [R; N]) -> R {
        R::from(0.0)
    }

    /// How far `x` is from a demonstration at this time step, in the unit of [`cost`](Self::cost): the negative
    /// logarithm of the demonstration's density, up to a factor and a constant. It is summed over the time steps and
    /// counts only if a driver is given a demonstration; read the demonstrated state from [`StepContext::reference`]. 0
    /// by default.
    #[inline(always)]
    fn demonstration_cost<R: Real>(&self, _at: &StepContext<R>, _x: [R; N]) -> R {
        R::from(0.0)
    }

    /// Whether a rollout ends in `x`: from then on its state and its running cost are frozen (the cost of arriving in
    /// `x` is counted, and so is the terminal cost). Never by default.
    #[inline(always)]
    fn done<R: Real>(&self, _at: &StepContext<R>, _x: [R; N]) -> R::Mask {
        R::never()
    }

    /// Whether a plan may pass through `x`: false in an obstacle, for example. It is evaluated for plans only, on the
    /// host, and [`Fallback`](crate::control::Fallback) decides what replaces a plan that fails. Rows avoid such states
    /// only if their cost makes them. Always by default.
    #[inline(always)]
    fn feasible<R: Real>(&self, _at: &StepContext<R>, _x: [R; N]) -> R::Mask {
        R::always()
    }

    /// Combines these dynamics with another cost.
    fn with_cost<C: Cost<N, M>>(self, cost: C) -> WithCost<Self, C>
    where
        Self: Sized,
    {
        WithCost { dynamics: self, cost }
    }
}

/// A cost on its own, for existing dynamics: see [`Model::with_cost`].
///
/// # Example
///
/// ```
/// use gibbs::models::Unicycle;
/// use gibbs::{Cost, Model, Real, StepContext};
///
/// /// Reach the point given by parameters 0 and 1.
/// struct Reach;
///
/// #[gibbs::model]
/// impl Cost<3, 2> for Reach {
///     fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, _]: [R; 3], _u: [R; 2]) -> R {
///         (x - at.param(0)).square() + (y - at.param(1)).square()
///     }
/// }
///
/// let task = Unicycle::default().with_cost(Reach);
/// # let _ = task;
/// ```
pub trait Cost<const N: usize, const M: usize>: Send + Sync + 'static {
    /// As [`Model::cost`].
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; N], u: [R; M]) -> R;

    /// As [`Model::terminal`].
    #[inline(always)]
    fn terminal<R: Real>(&self, _at: &StepContext<R>, _x: [R; N]) -> R {
        R::from(0.0)
    }

    /// As [`Model::demonstration_cost`].
    #[inline(always)]
    fn demonstration_cost<R: Real>(&self, _at: &StepContext<R>, _x: [R; N]) -> R {
        R::from(0.0)
    }

    /// As [`Model::done`].
    #[inline(always)]
    fn done<R: Real>(&self, _at: &StepContext<R>, _x: [R; N]) -> R::Mask {
        R::never()
    }

    /// As [`Model::feasible`].
    #[inline(always)]
    fn feasible<R: Real>(&self, _at: &StepContext<R>, _x: [R; N]) -> R::Mask {
        R::always()
    }
}

/// The dynamics of one model under the cost of another: see [`Model::with_cost`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WithCost<D, C> {
    /// The model that provides [`Model::step`].
    pub dynamics: D,
    /// The cost that provides everything else.
    pub cost: C,
}

impl<const N: usize, const M: usize, D: Model<N, M>, C: Cost<N, M>> Model<N, M> for WithCost<D, C> {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; N], u: [R; M]) -> [R; N] {
        self.dynamics.step(at, x, u)
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; N], u: [R; M]) -> R {
        self.cost.cost(at, x, u)
    }
    #[inline(always)]
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; N]) -> R {
        self.cost.terminal(at, x)
    }
    #[inline(always)]
    fn demonstration_cost<R: Real>(&self, at: &StepContext<R>, x: [R; N]) -> R {
        self.cost.demonstration_cost(at, x)
    }
    #[inline(always)]
    fn done<R: Real>(&self, at: &StepContext<R>, x: [R; N]) -> R::Mask {
        self.cost.done(at, x)
    }
    #[inline(always)]
    fn feasible<R: Real>(&self, at: &StepContext<R>, x: [R; N]) -> R::Mask {
        self.cost.feasible(at, x)
    }
}

/// A right-hand side ẋ = f(x, u) for the integrators below.
///
/// It is a trait and not a closure because a closure over SIMD values may not be inlined, and then the CPU backend
/// loses its vector instructions.
pub trait Dynamics<const N: usize, const M: usize> {
    /// ẋ.
    fn derivative<R: Real>(&self, at: &StepContext<R>, x: [R; N], u: [R; M]) -> [R; N];
}

/// x + scale · ẋ, component by component.
#[inline(always)]
fn along<const N: usize, R: Real>(x: [R; N], rate: [R; N], scale: R) -> [R; N] {
    let mut next = x;
    for i in 0..N {
        next[i] += rate[i] * scale;
    }
    next
}

/// One explicit Euler step: x + dt f(x, u). First order.
#[inline(always)]
pub fn euler<const N: usize, const M: usize, R: Real>(
    dynamics: &impl Dynamics<N, M>,
    at: &StepContext<R>,
    x: [R; N],
    u: [R; M],
) -> [R; N] {
    along(x, dynamics.derivative(at, x, u), at.dt())
}

/// One semi-implicit (symplectic) Euler step of a state (q, v), N/2 positions first: v⁺ = v + dt v̇(q, v), then
/// q⁺ = q + dt q̇(q, v⁺). First order, but it keeps the energy of a mechanical system bounded.
#[inline(always)]
pub fn semi_implicit_euler<const N: usize, const M: usize, R: Real>(
    dynamics: &impl Dynamics<N, M>,
    at: &StepContext<R>,
    x: [R; N],
    u: [R; M],
) -> [R; N] {
    const { assert!(N.is_multiple_of(2), "a mechanical state has as many positions as speeds") };
    let rate = dynamics.derivative(at, x, u);
    let mut next = x;
    for i in N / 2..N {
        next[i] += rate[i] * at.dt();
    }
    let rate = dynamics.derivative(at, next, u);
    for i in 0..N / 2 {
        next[i] += rate[i] * at.dt();
    }
    next
}

/// One classical Runge–Kutta step with the control held constant. Fourth order.
#[inline(always)]
pub fn rk4<const N: usize, const M: usize, R: Real>(
    dynamics: &impl Dynamics<N, M>,
    at: &StepContext<R>,
    x: [R; N],
    u: [R; M],
) -> [R; N] {
    let dt = at.dt();
    let half = dt * 0.5;
    let k1 = dynamics.derivative(at, x, u);
    let k2 = dynamics.derivative(at, along(x, k1, half), u);
    let k3 = dynamics.derivative(at, along(x, k2, half), u);
    let k4 = dynamics.derivative(at, along(x, k3, dt), u);
    let mut mean = k1;
    for i in 0..N {
        mean[i] = (k1[i] + k4[i] + (k2[i] + k3[i]) * 2.0) * (1.0 / 6.0);
    }
    along(x, mean, dt)
}

/// A function from `I` numbers to `O` numbers, written once for every interpretation of [`Real`].
///
/// A [`StepContext`] that it builds by hand may have parameters, references and a time step (they become constants);
/// fields are read from [`fields`](Self::fields).
pub trait Map<const I: usize, const O: usize>: Send + Sync {
    /// The function.
    fn map<R: Real>(&self, x: [R; I]) -> [R; O];

    /// The fields that the function reads. None by default.
    fn fields(&self) -> FieldSet {
        FieldSet::default()
    }
}
