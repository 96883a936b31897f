use gibbs::{Mppi, WithCost};

use crate::robot::NavigateCost;

/// The length of a time step (in seconds).
pub const DT: f32 = 0.1;

/// MPPI for a robot.
pub type Planner<D> = Mppi<3, 2, WithCost<D, NavigateCost>>;
