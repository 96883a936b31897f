//! Evaluation of a traced function at many points, for `check::evaluate`.

use wgpu::BufferUsages as Usage;

use super::device::Device;
use super::kernels::{BoundsChecks, PASS_SIZE};
use super::source;
use super::warm_up::Idle;
use super::workspace::{bind, dispatch_grid};
use crate::error::BuildError;
use crate::kernels::pass::Pass;
use crate::runtime::Waiter;
use crate::runtime::browser::may_block;
use crate::runtime::program::Traced;

impl Device {
    /// Evaluates a function of `width` numbers on every row of `inputs` and stores its results in `outputs`.
    pub(crate) async fn evaluate(
        &self,
        function: &Traced,
        width: usize,
        inputs: &[f32],
        fields: &[f32],
        outputs: &mut [f32],
        waiter: Waiter,
    ) -> Result<(), BuildError> {
        self.check()?;
        if inputs.is_empty() || outputs.is_empty() {
            return Ok(());
        }
        self.map(&source::map(function, width), width, inputs, fields, outputs, waiter).await
    }

    /// Runs a kernel `map` on every row of `inputs`, `width` numbers each, and reads what it writes.
    pub(crate) async fn map(
        &self,
        source: &str,
        width: usize,
        inputs: &[f32],
        fields: &[f32],
        outputs: &mut [f32],
        waiter: Waiter,
    ) -> Result<(), BuildError> {
        if waiter == Waiter::Thread {
            may_block()?;
        }
        let (encoder, back) = self.guard(|| self.start_map(source, width, inputs, fields, outputs.len()))?;
        let copy = |bytes: &[u8]| {
            outputs.copy_from_slice(&bytemuck::pod_collect_to_vec::<u8, f32>(bytes)[..outputs.len()]);
        };
        self.read_after(encoder, &back, waiter, copy).await
    }

    /// The work of [`map`](Self::map), and the buffer that it copies so many results to.
    fn start_map(
        &self,
        source: &str,
        width: usize,
        inputs: &[f32],
        fields: &[f32],
        outputs: usize,
    ) -> Result<(wgpu::CommandEncoder, wgpu::Buffer), BuildError> {
        let rows = (inputs.len() / width) as u32;
        let [map] = self.compile(source, BoundsChecks::Keep, ["map"], Idle::NOTHING)?;
        let storage = |what, floats: usize| self.buffer(what, 4 * floats as u64, Usage::STORAGE | Usage::COPY_DST);
        let passes = self.buffer("the pass", PASS_SIZE.get(), Usage::UNIFORM | Usage::COPY_DST)?;
        let (input, field) = (storage("inputs", inputs.len())?, storage("fields", fields.len())?);
        let size = 4 * outputs as u64;
        let output = self.buffer("outputs", size, Usage::STORAGE | Usage::COPY_SRC)?;
        let back = self.buffer("the read-back", size, Usage::MAP_READ | Usage::COPY_DST)?;
        let unused = [(); 5].map(|()| storage("nothing", 16));
        let [a, b, c, d, e] = unused;
        let (a, b, c, d, e) = (a?, b?, c?, d?, e?);
        let storages = [&input, &field, &output, &a, &b, &c, &d, &e];
        let group = bind(self, &passes, storages.map(|buffer| buffer.as_entire_buffer_binding()));
        let pass = Pass { rows, width: width as u32, ..bytemuck::Zeroable::zeroed() };
        self.queue.write_buffer(&passes, 0, bytemuck::bytes_of(&pass));
        self.queue.write_buffer(&input, 0, bytemuck::cast_slice(inputs));
        self.queue.write_buffer(&field, 0, bytemuck::cast_slice(fields));
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut compute = encoder.begin_compute_pass(&Default::default());
            let (x, y) = dispatch_grid(rows.div_ceil(64));
            compute.set_pipeline(&map);
            compute.set_bind_group(0, &group, &[0]);
            compute.dispatch_workgroups(x, y, 1);
        }
        encoder.copy_buffer_to_buffer(&output, 0, &back, 0, size);
        Ok((encoder, back))
    }
}
