//! A point mass in the plane.

use gibbs_macros::model;

use super::Quadratic;
use crate::lang::{Real, StepContext};
use crate::model::{Cost, Model};

/// A point in the plane, steered by its acceleration.
///
/// State (x, y, v_x, v_y): position (m) and velocity (m/s). Controls (a_x, a_y): acceleration (m/s²), held over the
/// step, so that p⁺ = p + v dt + ½ a dt² and v⁺ = v + a dt are exact. The default cost brings it to rest at the origin.
///
/// # Example
///
/// ```
/// use gibbs::models::DoubleIntegrator;
/// use gibbs::{Model, StepContext};
///
/// let next = DoubleIntegrator::default().step(&StepContext::new(0, 2.0), [0.0_f32, 0.0, 1.0, 0.0], [0.0, 3.0]);
/// assert_eq!(next, [2.0, 6.0, 1.0, 6.0]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DoubleIntegrator {
    /// The cost.
    pub cost: Quadratic<4, 2>,
}

impl Default for DoubleIntegrator {
    fn default() -> Self {
        Self {
            cost: Quadratic {
                state: [1.0, 1.0, 0.1, 0.1],
                terminal: [10.0, 10.0, 1.0, 1.0],
                control: [0.01; 2],
                ..Quadratic::default()
            },
        }
    }
}

#[model]
impl Model<4, 2> for DoubleIntegrator {
    fn step<R: Real>(&self, at: &StepContext<R>, [x, y, vx, vy]: [R; 4], [ax, ay]: [R; 2]) -> [R; 4] {
        let dt = at.dt();
        let half = dt * 0.5;
        let (mean_x, mean_y) = (ax.mul_add(half, vx), ay.mul_add(half, vy));
        [mean_x.mul_add(dt, x), mean_y.mul_add(dt, y), ax.mul_add(dt, vx), ay.mul_add(dt, vy)]
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 4], u: [R; 2]) -> R {
        self.cost.cost(at, x, u)
    }
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; 4]) -> R {
        self.cost.terminal(at, x)
    }
}
