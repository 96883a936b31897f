//! The pendulum of the classic-control benchmarks.

use gibbs_macros::model;

use super::Quadratic;
use crate::lang::{Real, StepContext};
use crate::model::{Cost, Dynamics, Model};

/// A uniform rod on a motor that is too weak to lift it in one go.
///
/// State (θ, θ̇): angle (rad) and rate (rad/s). θ = 0 is upright, θ = π hangs down; θ grows without wrapping. Control:
/// the torque u (N·m), clamped to ±`max_torque`. One step is semi-implicit Euler:
///
/// ```text
/// θ̇⁺ = clip(θ̇ + (3g/(2l) sin θ + 3/(m l²) u) dt, ±max_rate)
/// θ⁺ = θ + θ̇⁺ dt
/// ```
///
/// The default cost is θ² + 0.1 θ̇² + 0.001 u², with θ wrapped and u clamped. `Pendulum-v1` charges it for the state
/// before the step, this crate for the one after it (see [`Model::cost`]), so that a sum over a horizon differs by the
/// state part of its two ends. The benchmark's time step is 0.05 s.
///
/// Source: `Pendulum-v1` of Gymnasium (classic control).
///
/// # Example
///
/// ```
/// use gibbs::models::Pendulum;
/// use gibbs::{Model, StepContext};
///
/// // Level, θ̈ = 3g/(2l) = 15 rad/s². The cost is that of the state it arrives in.
/// let (rod, at) = (Pendulum::default(), StepContext::new(0, 0.05));
/// let [angle, rate] = rod.step(&at, [1.570_796_4_f32, 0.0], [0.0]);
/// assert!((rate - 0.75).abs() < 1e-6);
/// assert!((rod.cost(&at, [angle, rate], [0.0]) - (angle * angle + 0.1 * rate * rate)).abs() < 1e-5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pendulum {
    /// Mass of the rod, m (kg). Default 1.
    pub mass: f32,
    /// Length of the rod, l (m). Default 1.
    pub length: f32,
    /// Gravity, g (m/s²). Default 10.
    pub gravity: f32,
    /// The largest torque (N·m); larger ones are clamped. Default 2.
    pub max_torque: f32,
    /// The largest rate (rad/s). Default 8.
    pub max_rate: f32,
    /// The cost.
    pub cost: Quadratic<2, 1>,
}

impl Default for Pendulum {
    fn default() -> Self {
        let cost = Quadratic { angles: [true, false], state: [1.0, 0.1], control: [0.001], ..Quadratic::default() };
        Self { mass: 1.0, length: 1.0, gravity: 10.0, max_torque: 2.0, max_rate: 8.0, cost }
    }
}

#[model]
impl Pendulum {
    /// The clamped torque.
    fn torque<R: Real>(&self, [u]: [R; 1]) -> R {
        u.clamp(-self.max_torque, self.max_torque)
    }
}

#[model]
impl Dynamics<2, 1> for Pendulum {
    fn derivative<R: Real>(&self, _at: &StepContext<R>, [angle, rate]: [R; 2], u: [R; 1]) -> [R; 2] {
        let fall = angle.sin() * (1.5 * self.gravity / self.length);
        [rate, self.torque(u).mul_add(3.0 / (self.mass * self.length * self.length), fall)]
    }
}

#[model]
impl Model<2, 1> for Pendulum {
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 2], u: [R; 1]) -> [R; 2] {
        let [rate, swing] = self.derivative(at, x, u);
        let rate = swing.mul_add(at.dt(), rate).clamp(-self.max_rate, self.max_rate);
        [rate.mul_add(at.dt(), x[0]), rate]
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 2], u: [R; 1]) -> R {
        self.cost.cost(at, x, [self.torque(u)])
    }
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; 2]) -> R {
        self.cost.terminal(at, x)
    }
}
