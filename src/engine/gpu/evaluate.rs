//! Evaluation of a traced function at many points, for `check::evaluate`.

use wgpu::BufferUsages as Usage;

use super::device::Device;
use super::kernels::{Trust, UPDATE_SIZE};
use super::source;
use super::warm_up::Idle;
use super::workspace::{bind, spread};
use crate::engine::program::Traced;
use crate::error::BuildError;
use crate::update::Update;

impl Device {
    /// Evaluates a function of `width` numbers on every row of `inputs` and stores its results in `outputs`.
    pub(crate) fn evaluate(
        &self,
        function: &Traced,
        width: usize,
        inputs: &[f32],
        fields: &[f32],
        outputs: &mut [f32],
    ) -> Result<(), BuildError> {
        self.check()?;
        if inputs.is_empty() || outputs.is_empty() {
            return Ok(());
        }
        let rows = (inputs.len() / width) as u32;
        let [map] = self.compile(&source::map(function, width), Trust::Checked, ["map"], Idle::NOTHING)?;
        let storage = |what, floats: usize| self.buffer(what, 4 * floats as u64, Usage::STORAGE | Usage::COPY_DST);
        let updates = self.buffer("the update", UPDATE_SIZE.get(), Usage::UNIFORM | Usage::COPY_DST)?;
        let (input, field) = (storage("inputs", inputs.len())?, storage("fields", fields.len())?);
        let size = 4 * outputs.len() as u64;
        let output = self.buffer("outputs", size, Usage::STORAGE | Usage::COPY_SRC)?;
        let back = self.buffer("the read-back", size, Usage::MAP_READ | Usage::COPY_DST)?;
        let unused = [(); 5].map(|()| storage("nothing", 16));
        let [a, b, c, d, e] = unused;
        let (a, b, c, d, e) = (a?, b?, c?, d?, e?);
        let storages = [&input, &field, &output, &a, &b, &c, &d, &e];
        let group = bind(self, &updates, storages.map(|buffer| buffer.as_entire_buffer_binding()));
        let update = Update { rows, width: width as u32, ..bytemuck::Zeroable::zeroed() };
        self.queue.write_buffer(&updates, 0, bytemuck::bytes_of(&update));
        self.queue.write_buffer(&input, 0, bytemuck::cast_slice(inputs));
        self.queue.write_buffer(&field, 0, bytemuck::cast_slice(fields));
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let (x, y) = spread(rows.div_ceil(64));
            pass.set_pipeline(&map);
            pass.set_bind_group(0, &group, &[0]);
            pass.dispatch_workgroups(x, y, 1);
        }
        encoder.copy_buffer_to_buffer(&output, 0, &back, 0, size);
        encoder.map_buffer_on_submit(&back, wgpu::MapMode::Read, .., |_| ());
        let submission = self.queue.submit([encoder.finish()]);
        self.read(&submission, &back, |bytes| {
            outputs.copy_from_slice(&bytemuck::pod_collect_to_vec::<u8, f32>(bytes)[..outputs.len()]);
        })?;
        Ok(())
    }
}
