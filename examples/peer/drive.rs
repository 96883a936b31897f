//! A robot on two wheels with a costmap: the comparison published with MPPI-Generic. The benchmarks document the task.

use anyhow::Result;
use gibbs::Engine;

#[path = "../../benches/common/drive.rs"]
mod robot;

pub use robot::START;

use crate::task::{Size, Update};

/// A start for checks only. In 2 s the robot drives at most 1 m, so from the published start it reaches the edge of the
/// map but no disc. From here it reaches one.
pub const AMID: [f32; 3] = [7.3, 7.5, 0.6];

pub fn task(engine: &Engine, Size { samples, horizon }: Size, start: [f32; 3]) -> Result<Update<3, 2, robot::Drive>> {
    Update::new(engine, robot::robot(), robot::options(samples, horizon)?, start)
}
