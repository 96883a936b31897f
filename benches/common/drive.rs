//! A robot on two wheels among three discs: the comparison published with MPPI-Generic (B. Vlahov and others,
//! *MPPI-Generic*, 2024). It starts at (0, 0), facing along x, and should come to (10, 10) and face the same way. The
//! benchmarks and the `peer` example share it.

use gibbs::models::{DifferentialDrive, Quadratic};
use gibbs::{
    Cost, Grid, InvalidValue, Limits, Model, MppiOptions, Noise, Real, StepContext, Task, Temperature, Weighting,
    WithCost,
};

/// The initial state (x, y, ψ).
pub const START: [f32; 3] = [0.0, 0.0, 0.0];
const GOAL: [f32; 3] = [10.0, 10.0, 0.0];

/// The map covers 11 × 11 m from the origin.
const CELLS: usize = 110;
const CELL: f32 = 0.1;
/// Centers and radii (m).
const DISCS: [[f32; 3]; 3] = [[8.0, 8.0, 0.4], [4.0, 6.0, 0.5], [6.0, 5.0, 0.3]];

/// The cost of a step:
///
/// ```text
/// 0.1 ((x − 10)² + (y − 10)²) + 0.1 ψ² + 10 map(x, y)
/// ```
///
/// with ψ wrapped to (−π, π], and the map 1 in the cells whose center lies in a disc, 0 in the others and 1 outside,
/// looked up bilinearly. Dynamics, limits, noise, temperature and map are as published. The weights are ours: no detour
/// costs more than a step in a disc, which costs half as much as a step at the start.
#[derive(Debug, Clone, Copy)]
pub struct DriveCost {
    pose: Quadratic<3, 2>,
    map: f32,
}

#[gibbs::model]
impl Cost<3, 2> for DriveCost {
    fn cost<R: Real>(&self, at: &StepContext<R>, pose: [R; 3], u: [R; 2]) -> R {
        // Samples the field last; otherwise its values would occupy registers while the rest is computed.
        let away = self.pose.cost(at, pose, u);
        at.sample(0, pose[0], pose[1]).mul_add(self.map, away)
    }
}

pub fn map() -> Result<Grid, InvalidValue> {
    let inside = |x: f32, y: f32| DISCS.iter().any(|[cx, cy, radius]| (x - cx).hypot(y - cy) <= *radius);
    let grid = Grid::from_fn(CELLS, CELLS, CELL, [0.0; 2], |x, y| f32::from(inside(x, y)))?;
    grid.with_outside(1.0)
}

pub type Drive = WithCost<DifferentialDrive, DriveCost>;

pub fn robot() -> Drive {
    let pose = Quadratic { target: GOAL, angles: [false, false, true], state: [0.1, 0.1, 0.1], ..Quadratic::default() };
    let robot = DifferentialDrive { radius: 1.0, track: 1.0, ..DifferentialDrive::default() };
    robot.with_cost(DriveCost { pose, map: 10.0 })
}

pub fn options(samples: usize, horizon: usize) -> Result<MppiOptions<2>, InvalidValue> {
    Ok(MppiOptions {
        task: Task {
            horizon,
            dt: 0.02,
            limits: Some(Limits { low: [-0.35; 2], high: [0.5; 2] }),
            fields: vec![map()?],
            ..Default::default()
        },
        samples,
        weighting: Weighting::Exponential(Temperature::Fixed(1.0)),
        noise: Noise::Diagonal([0.2; 2]),
        ..Default::default()
    })
}
