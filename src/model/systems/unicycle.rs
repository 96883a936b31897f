//! The unicycle, and the motion that every wheeled model shares.

use gibbs_macros::model;

use super::Quadratic;
use crate::lang::{Real, StepContext};
use crate::model::{Cost, Model};

/// A pose (x, y, θ) after rolling `distance` along an arc that turns by `turn`, by the midpoint rule.
///
/// The heading is exact and the chord has the right direction; only its length is that of the arc, which exceeds the
/// exact chord by a relative `turn`²/24. So a circle stays a circle, at the cost of one sine and cosine a step.
#[model]
pub(crate) fn roll<R: Real>([x, y, heading]: [R; 3], distance: R, turn: R) -> [R; 3] {
    let (s, c) = turn.mul_add(0.5, heading).sin_cos();
    [c.mul_add(distance, x), s.mul_add(distance, y), heading + turn]
}

/// A robot in the plane that drives along its heading and turns on the spot.
///
/// State (x, y, θ): position (m) and heading (rad, from the x axis, not wrapped). Controls (v, ω): speed (m/s) and turn
/// rate (rad/s), held over the step:
///
/// ```text
/// ẋ = v cos θ    ẏ = v sin θ    θ̇ = ω
/// ```
///
/// One step is the midpoint rule, x⁺ = x + v dt cos(θ + ½ ω dt): second order, and exact in θ. The default cost brings
/// it to the origin, facing along x.
///
/// Source: S. LaValle, *Planning Algorithms*, §13.1.2.
///
/// # Example
///
/// ```
/// use gibbs::models::Unicycle;
/// use gibbs::{Model, StepContext};
///
/// let [x, y, heading] = Unicycle::default().step(&StepContext::new(0, 0.5), [1.0_f32, 2.0, 0.0], [2.0, 0.0]);
/// assert_eq!([x, y, heading], [2.0, 2.0, 0.0]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unicycle {
    /// The cost.
    pub cost: Quadratic<3, 2>,
}

impl Default for Unicycle {
    fn default() -> Self {
        Self { cost: Quadratic { control: [0.01, 0.01], ..pose() } }
    }
}

/// The cost of reaching the origin, facing along x.
pub(crate) fn pose<const M: usize>() -> Quadratic<3, M> {
    Quadratic {
        angles: [false, false, true],
        state: [1.0, 1.0, 0.1],
        terminal: [10.0, 10.0, 1.0],
        ..Quadratic::default()
    }
}

#[model]
impl Model<3, 2> for Unicycle {
    fn step<R: Real>(&self, at: &StepContext<R>, pose: [R; 3], [speed, rate]: [R; 2]) -> [R; 3] {
        roll(pose, speed * at.dt(), rate * at.dt())
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 3], u: [R; 2]) -> R {
        self.cost.cost(at, x, u)
    }
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; 3]) -> R {
        self.cost.terminal(at, x)
    }
}
