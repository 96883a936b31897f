//! A car, as a bicycle.

use gibbs_macros::model;

use super::Quadratic;
use super::unicycle::roll;
use crate::lang::{Real, StepContext};
use crate::model::{Cost, Model};

/// A car whose wheels roll without slip: the kinematic bicycle, with the middle of the *rear* axle as its reference.
///
/// State (x, y, θ, v): the rear axle (m), the heading (rad, from the x axis, not wrapped), the speed (m/s, negative in
/// reverse). Controls (a, δ): acceleration (m/s²) and steering angle (rad, left positive), held over the step; of δ,
/// ±`max_steering` acts.
///
/// ```text
/// ẋ = v cos θ    ẏ = v sin θ    θ̇ = v tan δ / L    v̇ = a
/// ```
///
/// so that it drives circles of radius L / tan δ. One step is the midpoint rule along the arc: second order, and exact
/// in θ and v. The default cost parks it at the origin, facing along x.
///
/// Source: S. LaValle, *Planning Algorithms*, §13.1.2 (the simple car).
///
/// # Example
///
/// ```
/// use gibbs::models::Bicycle;
/// use gibbs::{Model, StepContext};
///
/// let [x, y, heading, speed] = Bicycle::default().step(&StepContext::new(0, 1.0), [0.0_f32, 0.0, 0.0, 4.0], [2.0, 0.0]);
/// assert_eq!([x, y, heading, speed], [5.0, 0.0, 0.0, 6.0]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bicycle {
    /// Distance between the axles, L (m). Default 2.7.
    pub wheelbase: f32,
    /// The largest steering angle that acts (rad), below π/2. Default 0.6.
    pub max_steering: f32,
    /// The cost.
    pub cost: Quadratic<4, 2>,
}

impl Default for Bicycle {
    fn default() -> Self {
        let cost = Quadratic {
            angles: [false, false, true, false],
            state: [1.0, 1.0, 1.0, 0.1],
            terminal: [10.0, 10.0, 10.0, 1.0],
            control: [0.01, 0.1],
            ..Quadratic::default()
        };
        Self { wheelbase: 2.7, max_steering: 0.6, cost }
    }
}

#[model]
impl Model<4, 2> for Bicycle {
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 4], [acceleration, steering]: [R; 2]) -> [R; 4] {
        let [x, y, heading, speed] = x;
        let gained = acceleration * at.dt();
        let distance = gained.mul_add(0.5, speed) * at.dt();
        let curvature = steering.clamp(-self.max_steering, self.max_steering).tan() * (1.0 / self.wheelbase);
        let [x, y, heading] = roll([x, y, heading], distance, distance * curvature);
        [x, y, heading, speed + gained]
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 4], u: [R; 2]) -> R {
        self.cost.cost(at, x, u)
    }
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; 4]) -> R {
        self.cost.terminal(at, x)
    }
}
