//! A quadrotor seen from the side.

use gibbs_macros::model;

use super::Quadratic;
use crate::lang::{Real, StepContext};
use crate::model::{Cost, Dynamics, Model, semi_implicit_euler};

/// A rigid bar in the vertical plane with a rotor at each end.
///
/// State (x, y, θ, v_x, v_y, ω): position (m, y up), pitch (rad, counter-clockwise, 0 is level, not wrapped), velocity
/// (m/s) and rate (rad/s). Controls: the thrust of the right and of the left rotor (N).
///
/// ```text
/// v̇_x = −(u_r + u_l) sin θ / m    v̇_y = (u_r + u_l) cos θ / m − g    ω̇ = r (u_r − u_l) / I
/// ```
///
/// One step is semi-implicit Euler: the speeds first, then the positions with the new speeds. The right-hand side is
/// also available as a [`Dynamics`], for other integrators. The default cost makes it hover at the origin.
///
/// Source: R. Tedrake, *Underactuated Robotics*, chapter "Acrobots, Cart-Poles and Quadrotors"; the default parameters
/// are those of J. Steinhardt and R. Tedrake, *Finite-time regional verification of stochastic nonlinear systems*
/// (2012).
///
/// # Example
///
/// ```
/// use gibbs::models::PlanarQuadrotor;
/// use gibbs::{Model, StepContext};
///
/// let drone = PlanarQuadrotor::default();
/// let next = drone.step(&StepContext::new(0, 0.05), [0.0_f32; 6], [drone.hover(); 2]);
/// assert!(next.iter().all(|v| v.abs() < 1e-6));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanarQuadrotor {
    /// Mass, m (kg). Default 0.486.
    pub mass: f32,
    /// Moment of inertia, I (kg·m²). Default 0.00383.
    pub inertia: f32,
    /// Distance from the center to a rotor, r (m). Default 0.25.
    pub arm: f32,
    /// Gravity, g (m/s²). Default 9.81.
    pub gravity: f32,
    /// The cost. Its `trim` is the thrust that hovers with the default parameters.
    pub cost: Quadratic<6, 2>,
}

impl Default for PlanarQuadrotor {
    fn default() -> Self {
        let drone = Self { mass: 0.486, inertia: 0.00383, arm: 0.25, gravity: 9.81, cost: Quadratic::default() };
        let cost = Quadratic {
            angles: [false, false, true, false, false, false],
            state: [1.0, 1.0, 1.0, 0.1, 0.1, 0.01],
            terminal: [10.0, 10.0, 10.0, 1.0, 1.0, 0.1],
            trim: [drone.hover(); 2],
            control: [0.01; 2],
            ..Quadratic::default()
        };
        Self { cost, ..drone }
    }
}

impl PlanarQuadrotor {
    /// The thrust of each rotor that carries the weight, m g / 2 (N).
    pub fn hover(&self) -> f32 {
        0.5 * self.mass * self.gravity
    }
}

#[model]
impl Dynamics<6, 2> for PlanarQuadrotor {
    fn derivative<R: Real>(&self, _at: &StepContext<R>, x: [R; 6], [right, left]: [R; 2]) -> [R; 6] {
        let [_, _, pitch, vx, vy, rate] = x;
        let (s, c) = pitch.sin_cos();
        let lift = (right + left) * (1.0 / self.mass);
        [vx, vy, rate, -(lift * s), lift * c - self.gravity, (right - left) * (self.arm / self.inertia)]
    }
}

#[model]
impl Model<6, 2> for PlanarQuadrotor {
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 6], u: [R; 2]) -> [R; 6] {
        semi_implicit_euler(self, at, x, u)
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 6], u: [R; 2]) -> R {
        self.cost.cost(at, x, u)
    }
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; 6]) -> R {
        self.cost.terminal(at, x)
    }
}
