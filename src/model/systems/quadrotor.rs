//! A quadrotor that follows body-rate commands.

use gibbs_macros::model;

use super::Quadratic;
use crate::lang::linalg::{Quat, Vec3};
use crate::lang::{Real, StepContext};
use crate::model::{Cost, Model};

/// A quadrotor whose autopilot tracks body rates: the outer loop's view of a drone.
///
/// | state | index | unit |
/// |---|---|---|
/// | position p, z up | 0–2 | m |
/// | velocity v, in the world | 3–5 | m/s |
/// | attitude q, unit quaternion (w, x, y, z), body to world; `Quat::from_array` takes (x, y, z, w) | 6–9 | |
/// | body rates ω | 10–12 | rad/s |
///
/// Controls: the commanded body rates ω_c (rad/s, about body x, y, z), which ω follows with a first-order lag τ, and
/// the collective thrust T along body z (N, not divided by the mass). All are held over the step.
///
/// ```text
/// ṗ = v    v̇ = T/m q ⊗ e_z ⊗ q* − g e_z    q̇ = ½ q ⊗ (0, ω)    ω̇ = (ω_c − ω) / τ
/// ```
///
/// One step is second order and stable at any dt: the lag is solved exactly, and with φ = ∫ω dt the attitude becomes q
/// ⊗ (1, ½φ), normalized (a rotation by 2 atan(½|φ|)) and with its sign such that w ≥ 0; the thrust acts along the mean
/// of body z before and after, and the position moves with the mean velocity. The start must be a unit quaternion, of
/// either sign.
///
/// The default cost hovers at the origin, level, with yaw 0. It weighs the quaternion component by component: x, y and
/// z are about half the rotation vector from there. With another attitude as its target, w ≥ 0 keeps the difference
/// unique.
///
/// Source: B. Vlahov and others, *MPPI-Generic* (2024), whose quadrotor has the same states and controls; quaternion
/// kinematics after J. Solà, *Quaternion kinematics for the error-state Kalman filter* (2017).
///
/// # Example
///
/// ```
/// use gibbs::models::Quadrotor;
/// use gibbs::{Model, StepContext};
///
/// let (drone, at) = (Quadrotor::default(), StepContext::new(0, 0.05));
/// let next = drone.step(&at, Quadrotor::LEVEL, [0.0, 0.0, 0.0, drone.hover()]);
/// assert!(next.iter().zip(Quadrotor::LEVEL).all(|(a, b)| (a - b).abs() < 1e-6));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quadrotor {
    /// Mass, m (kg). Default 1.
    pub mass: f32,
    /// Gravity, g (m/s²). Default 9.81.
    pub gravity: f32,
    /// Time constant of the body rates, τ (s), above 0. Default 0.05.
    pub lag: f32,
    /// The cost. Its `trim` is the thrust that hovers with the default parameters.
    pub cost: Quadratic<13, 4>,
}

impl Default for Quadrotor {
    fn default() -> Self {
        let drone = Self { mass: 1.0, gravity: 9.81, lag: 0.05, cost: Quadratic::default() };
        let cost = Quadratic {
            target: Self::LEVEL,
            state: [1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.0, 5.0, 5.0, 5.0, 0.01, 0.01, 0.01],
            terminal: [10.0, 10.0, 10.0, 1.0, 1.0, 1.0, 0.0, 50.0, 50.0, 50.0, 0.1, 0.1, 0.1],
            trim: [0.0, 0.0, 0.0, drone.hover()],
            control: [0.01; 4],
            ..Quadratic::default()
        };
        Self { cost, ..drone }
    }
}

impl Quadrotor {
    /// At rest at the origin, level, facing along x.
    pub const LEVEL: [f32; 13] = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];

    /// The thrust that carries the weight, m g (N).
    pub fn hover(&self) -> f32 {
        self.mass * self.gravity
    }
}

/// Half of body z in the world: half the third column of the rotation matrix.
#[model]
fn half_up<R: Real>(Quat { x, y, z, w }: Quat<R>) -> Vec3<R> {
    Vec3::new(x * z + w * y, y * z - w * x, -(x.square() + y.square()) + 0.5)
}

#[model]
impl Model<13, 4> for Quadrotor {
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 13], u: [R; 4]) -> [R; 13] {
        let dt = at.dt();
        let [x, y, z, vx, vy, vz, qw, qx, qy, qz, rates @ ..] = x;
        let (position, velocity) = (Vec3::new(x, y, z), Vec3::new(vx, vy, vz));
        let before = Quat::from_xyzw(qx, qy, qz, qw);

        // ω⁺ = ω_c + (ω − ω_c) e^{−dt/τ}, and its integral is ω_c dt − τ (ω⁺ − ω).
        let kept = (dt * (-1.0 / self.lag)).exp();
        let (mut next_rates, mut angle) = (rates, [dt; 3]);
        for i in 0..3 {
            next_rates[i] = (rates[i] - u[i]).mul_add(kept, u[i]);
            angle[i] = u[i] * dt - (next_rates[i] - rates[i]) * self.lag;
        }
        let after = before.integrate(Vec3::from_array(angle));

        let mut acceleration = (half_up(before) + half_up(after)) * (u[3] * (1.0 / self.mass));
        acceleration.z = acceleration.z - self.gravity;
        let next_velocity = acceleration.mul_add(Vec3::splat(dt), velocity);
        let next_position = ((velocity + next_velocity) * 0.5).mul_add(Vec3::splat(dt), position);

        let ([x, y, z], [vx, vy, vz]) = (next_position.to_array(), next_velocity.to_array());
        let [wx, wy, wz] = next_rates;
        [x, y, z, vx, vy, vz, after.w, after.x, after.y, after.z, wx, wy, wz]
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 13], u: [R; 4]) -> R {
        self.cost.cost(at, x, u)
    }
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; 13]) -> R {
        self.cost.terminal(at, x)
    }
}
