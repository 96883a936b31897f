//! Results that stay on the device, for a program that draws with it or computes on it.

/// The rows of the last pass, rolled out on the device into buffers of it, and the plan: see
/// [`Planner::device_trajectories`](crate::control::Planner::device_trajectories).
///
/// A *point* is a state followed by the weight of its row, N + 1 numbers (`f32`), without padding. A trajectory is T +
/// 1 points, one after the other; the first is the state that the call was given.
///
/// All buffers have the usages `STORAGE`, `VERTEX`, `COPY_SRC` and `COPY_DST`. A vertex shader reads them as attributes
/// (with [`stride`](Self::stride) as the `array_stride`), or by index: number `i` of point `t` of row `k` is at
/// `(k * points + t) * (N + 1) + i`. They may be up to 12 bytes longer than what they hold, since their sizes are
/// multiples of 16.
///
/// The next call with as many rows and time steps overwrites them, after all work that was submitted to the queue
/// before. Other sizes get new buffers, and those who hold the old ones keep them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceTrajectories {
    /// The trajectories of the rows, `rows` × `points` points, row by row. Where the model is
    /// [`done`](crate::Model::done) the state stays.
    pub trajectories: wgpu::Buffer,
    /// The trajectory of the plan, [`Plan::states`](crate::Plan::states), `points` points of weight 1.
    pub plan: wgpu::Buffer,
    /// The controls of the plan, [`Plan::controls`](crate::Plan::controls), T × M numbers.
    pub controls: wgpu::Buffer,
    /// The number of rows.
    pub rows: usize,
    /// The number of points of a trajectory, T + 1.
    pub points: usize,
    /// The size of a point, 4 (N + 1) bytes.
    pub stride: u64,
}

/// A plan as it is uploaded.
pub(crate) struct PlanNumbers<'a> {
    /// Its states, each followed by its weight.
    pub(crate) points: &'a [f32],
    pub(crate) controls: &'a [f32],
}
