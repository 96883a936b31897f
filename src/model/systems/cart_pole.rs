//! A pole on a cart.

use gibbs_macros::model;

use crate::lang::{Real, StepContext};
use crate::model::{Cost, Dynamics, Model};

/// A cart on a rail, pushed by a force, with a point mass on a massless pole that swings freely below or above it.
///
/// State (x, ẋ, θ, θ̇): the cart's position (m) and speed (m/s), the pole's angle (rad) and rate (rad/s). θ = 0 hangs
/// down, θ = π is upright; θ grows without wrapping. Control: the force f on the cart (N). With s = sin θ and c = cos
/// θ,
///
/// ```text
/// ẍ = (f + m_p s (l θ̇² + g c)) / (m_c + m_p s²)
/// θ̈ = (−f c − m_p l θ̇² c s − (m_c + m_p) g s) / (l (m_c + m_p s²))
/// ```
///
/// There is no friction. One step is semi-implicit Euler: the speeds first, then the positions with the new speeds. The
/// right-hand side is also available as a [`Dynamics`], for other integrators.
///
/// Source: R. Tedrake, *Underactuated Robotics*, chapter "Acrobots, Cart-Poles and Quadrotors".
///
/// # Example
///
/// ```
/// use gibbs::models::CartPole;
/// use gibbs::{Model, StepContext};
///
/// // 1 N on a cart of 1 kg for half a second, the pole hanging: the cart moves right and the mass stays behind.
/// let [x, speed, angle, rate] = CartPole::default().step(&StepContext::new(0, 0.5), [0.0_f32; 4], [1.0]);
/// assert_eq!([x, speed, angle, rate], [0.25, 0.5, -0.5, -1.0]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CartPole {
    /// Mass of the cart, m_c (kg). Default 1.
    pub cart: f32,
    /// Mass at the pole's tip, m_p (kg). Default 0.1.
    pub pole: f32,
    /// Length of the pole, l (m). Default 0.5.
    pub length: f32,
    /// Gravity, g (m/s²). Default 9.81.
    pub gravity: f32,
    /// The cost.
    pub cost: SwingUp,
}

impl Default for CartPole {
    fn default() -> Self {
        Self { cart: 1.0, pole: 0.1, length: 0.5, gravity: 9.81, cost: SwingUp::default() }
    }
}

#[model]
impl Dynamics<4, 1> for CartPole {
    fn derivative<R: Real>(&self, _at: &StepContext<R>, [_, speed, angle, rate]: [R; 4], [force]: [R; 1]) -> [R; 4] {
        let (s, c) = angle.sin_cos();
        // The force, and the pole's centrifugal pull along the rail.
        let push = (rate.square() * s).mul_add(self.pole * self.length, force);
        let per_mass = R::from(1.0) / s.square().mul_add(self.pole, self.cart);
        let weight = s * self.gravity;
        let acceleration = (weight * c).mul_add(self.pole, push) * per_mass;
        let swing = weight.mul_add(self.cart + self.pole, push * c) * per_mass * (-1.0 / self.length);
        [speed, acceleration, rate, swing]
    }
}

#[model]
impl Model<4, 1> for CartPole {
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 4], u: [R; 1]) -> [R; 4] {
        let dt = at.dt();
        let [_, acceleration, _, swing] = self.derivative(at, x, u);
        let [position, speed, angle, rate] = x;
        let speed = acceleration.mul_add(dt, speed);
        let rate = swing.mul_add(dt, rate);
        [speed.mul_add(dt, position), speed, rate.mul_add(dt, angle), rate]
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 4], u: [R; 1]) -> R {
        self.cost.cost(at, x, u)
    }
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; 4]) -> R {
        self.cost.terminal(at, x)
    }
}

/// Swing the pole of a [`CartPole`] up and bring the cart to rest at x = 0:
/// `position` x² + `speed` ẋ² + `angle` (1 + cos θ) + `rate` θ̇² + `force` f².
///
/// 1 + cos θ is 2 hanging and 0 upright, and near upright about half the squared angle; it is smooth and periodic, so
/// full turns do not matter. The end of the horizon costs `terminal` times the terms of the state.
///
/// The fields but `terminal` are also the names of its [terms](StepContext::term), which include the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwingUp {
    /// Weight of x² (1/m²).
    pub position: f32,
    /// Weight of ẋ² (s²/m²).
    pub speed: f32,
    /// Weight of 1 + cos θ.
    pub angle: f32,
    /// Weight of θ̇² (s²/rad²).
    pub rate: f32,
    /// Weight of f² (1/N²).
    pub force: f32,
    /// Weight of the state at the end of the horizon, relative to that of a time step.
    pub terminal: f32,
}

impl Default for SwingUp {
    fn default() -> Self {
        Self { position: 1.0, speed: 0.1, angle: 10.0, rate: 0.1, force: 0.001, terminal: 10.0 }
    }
}

// The attribute `model` would refuse the closures of `note_term`, which are called on plain numbers only.
impl SwingUp {
    #[inline(always)]
    fn state<R: Real>(&self, [x, speed, angle, rate]: [R; 4]) -> R {
        let fallen = (angle.cos() + 1.0) * self.angle;
        let moving = speed.square().mul_add(self.speed, rate.square() * self.rate);
        x.square().mul_add(self.position, fallen) + moving
    }

    /// Names the parts of [`state`](Self::state), times a factor.
    #[inline(always)]
    fn note_state<R: Real>(&self, at: &StepContext<R>, [x, speed, angle, rate]: [R; 4], factor: f32) {
        at.note_term("position", || x.square() * (self.position * factor));
        at.note_term("speed", || speed.square() * (self.speed * factor));
        at.note_term("angle", || (angle.cos() + 1.0) * (self.angle * factor));
        at.note_term("rate", || rate.square() * (self.rate * factor));
    }
}

impl Cost<4, 1> for SwingUp {
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 4], [force]: [R; 1]) -> R {
        self.note_state(at, x, 1.0);
        at.note_term("force", || force.square() * self.force);
        force.square().mul_add(self.force, self.state(x))
    }
    #[inline(always)]
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; 4]) -> R {
        self.note_state(at, x, self.terminal);
        self.state(x) * self.terminal
    }
}
