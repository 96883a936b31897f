//! The run as a CSV file, one row per step.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::map::Frame;

/// One step: the starting pose, the command, and the outcome.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Seconds since the start.
    pub time: f64,
    /// x, y (in meters, in the map's frame) and heading (in radians).
    pub pose: [f32; 3],
    /// The model's own controls.
    pub controls: [f32; 2],
    /// Forward speed (in m/s) and turn rate (in rad/s).
    pub twist: [f32; 2],
    /// The least distance from the robot's edge to an obstacle during the step (in meters).
    pub clearance: f64,
    /// The cost to go at the pose (in meters).
    pub cost_to_go: f64,
    /// The cost of the planner's own plan.
    pub plan_cost: f32,
    pub effective_samples: f32,
    /// The duration of the planner's call.
    pub plan_time: Duration,
    /// Whether a maneuver replaced the plan.
    pub maneuver: bool,
    /// The time that it took to compare maneuvers with the plan.
    pub maneuver_time: Duration,
}

/// Writes all rows, with positions in the world frame and the rates at which commands change from each row to the next,
/// `dt` seconds later. Before the first, the robot is at rest.
pub fn write(path: &Path, rows: &[Row], dt: f32, frame: Frame) -> Result<()> {
    let attempt = || -> std::io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        writeln!(
            out,
            "time_s,x_m,y_m,heading_rad,control_0,control_1,speed_m_s,turn_rad_s,clearance_m,cost_to_go_m,plan_cost,\
             effective_samples,plan_ms,maneuver,maneuver_ms,control_0_per_s,control_1_per_s,acceleration_m_s2,\
             turn_acceleration_rad_s2"
        )?;
        let mut before = [0.0; 4];
        for row in rows {
            let [x, y] = frame.to_world([row.pose[0].into(), row.pose[1].into()]);
            let ([_, _, heading], [u0, u1], [speed, turn]) = (row.pose, row.controls, row.twist);
            let now = [u0, u1, speed, turn];
            let [r0, r1, r2, r3] = std::array::from_fn(|i| (now[i] - before[i]) / dt);
            before = now;
            writeln!(
                out,
                "{:.3},{x:.4},{y:.4},{heading:.4},{u0:.4},{u1:.4},{speed:.4},{turn:.4},{:.4},{:.4},{:.5e},{:.1},{:.4},\
                 {},{:.4},{r0:.4},{r1:.4},{r2:.4},{r3:.4}",
                row.time,
                row.clearance,
                row.cost_to_go,
                row.plan_cost,
                row.effective_samples,
                row.plan_time.as_secs_f64() * 1e3,
                u8::from(row.maneuver),
                row.maneuver_time.as_secs_f64() * 1e3,
            )?;
        }
        out.flush()
    };
    attempt().with_context(|| format!("cannot write {}", path.display()))
}
