//! The published 2-D car and its U-shaped wall, and the cost that it is planned with. (C. Pan et al., *Model-based
//! diffusion for trajectory optimization*, arXiv 2407.01573, and the code published with it.)

use gibbs::{Dynamics, Model, Real, StepContext, rk4};

/// The time step (in seconds), and the number of steps planned.
pub const DT: f32 = 0.1;
pub const HORIZON: usize = 50;
/// The initial state (x, y, θ), heading for −x, in meters and radians.
pub const START: [f32; 3] = [-0.5, 0.0, 1.5 * std::f32::consts::PI];
/// The goal, and the distance from it at which the reward begins (in meters).
pub const GOAL: [f32; 2] = [0.5, 0.0];
pub const NEAR: f32 = 0.2;
/// The wall: discs of this radius around these points (in meters).
pub const RADIUS: f32 = 0.3;
pub const DISCS: [[f32; 2]; 11] = [
    [-0.9, 0.6],
    [-0.6, 0.6],
    [-0.3, 0.6],
    [0.0, 0.6],
    [0.0, 0.3],
    [0.0, 0.0],
    [0.0, -0.3],
    [-0.9, -0.6],
    [-0.6, -0.6],
    [-0.3, -0.6],
    [0.0, -0.6],
];

/// A car (state: x, y in meters and heading θ in radians; controls: turn and speed, each in [−1, 1]) that cannot enter
/// a disc.
#[derive(Debug, Clone, Copy, Default)]
pub struct Car {
    /// The cost of the remaining way (per meter and step); 0 for the published reward alone. If it is above 0, field 0
    /// holds the length of the way to the goal.
    pub way: f32,
}

#[gibbs::model]
impl Dynamics<3, 2> for Car {
    fn derivative<R: Real>(&self, _at: &StepContext<R>, [_, _, heading]: [R; 3], [turn, speed]: [R; 2]) -> [R; 3] {
        let (s, c) = heading.sin_cos();
        [speed * s * 3.0, speed * c * 3.0, turn * (2.0 * std::f32::consts::FRAC_PI_3)]
    }
}

#[gibbs::model]
impl Model<3, 2> for Car {
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 3], u: [R; 2]) -> [R; 3] {
        let next = rk4(self, at, x, u);
        // The square of the distance to the nearest disc's center.
        let mut nearest = R::from(f32::MAX);
        for [cx, cy] in DISCS {
            nearest = nearest.min((next[0] - cx).square() + (next[1] - cy).square());
        }
        let inside = nearest.lt(RADIUS * RADIUS);
        let mut held = next;
        for i in 0..3 {
            held[i] = R::select(inside, x[i], next[i]);
        }
        held
    }

    /// The negative reward, 1 − (min(d, 0.2)/0.2)², and the cost of the remaining way.
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, _]: [R; 3], _u: [R; 2]) -> R {
        let distance = ((x - GOAL[0]).square() + (y - GOAL[1]).square()).sqrt();
        let reward = -(distance.min(NEAR) * (1.0 / NEAR)).square() + 1.0;
        if self.way > 0.0 { at.sample(0, x, y) * self.way - reward } else { -reward }
    }

    /// The distance from the demonstration at this time step (the references).
    fn demonstration_cost<R: Real>(&self, at: &StepContext<R>, [x, y, _]: [R; 3]) -> R {
        let square = (x - at.reference(0)).square() + (y - at.reference(1)).square();
        // As in the published code: distances beyond half a meter are all the same.
        square.min(0.25) * 4.0
    }
}

/// The mean reward of a trajectory; the first state is the start.
pub fn reward(states: &[[f32; 3]]) -> f32 {
    let one = |[x, y, _]: &[f32; 3]| 1.0 - ((x - GOAL[0]).hypot(y - GOAL[1]).min(NEAR) / NEAR).powi(2);
    states[1..].iter().map(one).sum::<f32>() / (states.len() - 1) as f32
}
