//! A robot on two driven wheels.

use gibbs_macros::model;

use super::Quadratic;
use super::unicycle::{pose, roll};
use crate::lang::{Real, StepContext};
use crate::model::{Cost, Model};

/// A robot on two wheels of radius r, a track L apart, each with its own motor.
///
/// State (x, y, ψ): the middle of the axle (m) and the heading (rad, from the x axis, not wrapped). Controls (ω_l,
/// ω_r): the rate of the left and the right wheel (rad/s), held over the step:
///
/// ```text
/// ẋ = r/2 (ω_l + ω_r) cos ψ    ẏ = r/2 (ω_l + ω_r) sin ψ    ψ̇ = r/L (ω_r − ω_l)
/// ```
///
/// One step is the midpoint rule, as for the [`Unicycle`](crate::model::systems::Unicycle). The default cost brings it
/// to the origin, facing along x.
///
/// Source: S. LaValle, *Planning Algorithms*, §13.1.2. The comparison published with MPPI-Generic has r = L = 1.
///
/// # Example
///
/// ```
/// use gibbs::models::DifferentialDrive;
/// use gibbs::{Model, StepContext};
///
/// // Wheels against each other turn it on the spot: r/L · 2 · 0.5 s.
/// let robot = DifferentialDrive { radius: 0.1, track: 0.4, ..DifferentialDrive::default() };
/// let [x, y, heading] = robot.step(&StepContext::new(0, 0.5), [1.0_f32, 2.0, 0.0], [-1.0, 1.0]);
/// assert_eq!([x, y, heading], [1.0, 2.0, 0.25]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DifferentialDrive {
    /// Radius of the wheels, r (m). Default 0.1.
    pub radius: f32,
    /// Distance between the wheels, L (m). Default 0.4.
    pub track: f32,
    /// The cost.
    pub cost: Quadratic<3, 2>,
}

impl Default for DifferentialDrive {
    fn default() -> Self {
        Self { radius: 0.1, track: 0.4, cost: Quadratic { control: [1e-4; 2], ..pose() } }
    }
}

#[model]
impl Model<3, 2> for DifferentialDrive {
    fn step<R: Real>(&self, at: &StepContext<R>, pose: [R; 3], [left, right]: [R; 2]) -> [R; 3] {
        let distance = (left + right) * (at.dt() * (0.5 * self.radius));
        let turn = (right - left) * (at.dt() * (self.radius / self.track));
        roll(pose, distance, turn)
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 3], u: [R; 2]) -> R {
        self.cost.cost(at, x, u)
    }
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; 3]) -> R {
        self.cost.terminal(at, x)
    }
}
