//! The weighted mean by itself, for rows that the host provides.

use std::sync::Arc;
use std::task::Poll;

use wgpu::BufferUsages as Usage;

use super::checks::Checks;
use super::device::Device;
use super::kernels::PASS_SIZE;
use super::pending::{Call, Pending};
use super::workspace::{SUMMARY, bind, partials_len, weighted_mean};
use crate::error::{BuildError, EngineError, PlanError};
use crate::kernels::pass::{Pass, Sums};
use crate::runtime::Wait;

struct Buffers {
    /// The sizes that they were allocated for: K, D and whether there is a second moment.
    shape: (u32, u32, u32),
    passes: wgpu::Buffer,
    rows: wgpu::Buffer,
    log_weights: wgpu::Buffer,
    partials: wgpu::Buffer,
    summary: wgpu::Buffer,
    back: wgpu::Buffer,
    group: wgpu::BindGroup,
}

pub(crate) struct Averager {
    device: Arc<Device>,
    kernels: Option<Kernels>,
    buffers: Option<Buffers>,
    call: Call<()>,
    checks: Checks,
}

struct Kernels {
    group_mean: wgpu::ComputePipeline,
    merge: wgpu::ComputePipeline,
}

impl Buffers {
    fn new(device: &Device, pass: &Pass, moments: u64) -> Result<Self, EngineError> {
        let storage =
            |what, floats: u64| device.buffer(what, 4 * floats, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC);
        let passes = device.buffer("the pass", PASS_SIZE.get(), Usage::UNIFORM | Usage::COPY_DST)?;
        let rows = storage("rows", u64::from(pass.rows) * u64::from(pass.width))?;
        let log_weights = storage("log-weights", u64::from(pass.rows))?;
        let partials = storage("partial means", partials_len(pass))?;
        let summary = storage("the summary", SUMMARY / 4)?;
        let back = device.buffer("the read-back", SUMMARY + 4 * moments, Usage::MAP_READ | Usage::COPY_DST)?;
        let (inputs, fields) = (storage("no inputs", 4)?, storage("no fields", 4)?);
        let (scores, nominal) = (storage("no scores", 4)?, storage("no plan", 4)?);
        let storages = [&inputs, &fields, &rows, &scores, &log_weights, &partials, &nominal, &summary];
        let group = bind(device, &passes, storages.map(|buffer| buffer.as_entire_buffer_binding()));
        let shape = (pass.rows, pass.width, pass.flags);
        Ok(Self { shape, passes, rows, log_weights, partials, summary, back, group })
    }
}

impl Kernels {
    fn new(device: &Device) -> Result<Self, EngineError> {
        let kernels = device.mean_of_rows().and_then(|group_mean| Ok(Self { group_mean, merge: device.merge()? }));
        kernels.map_err(BuildError::into_engine)
    }
}

impl Averager {
    /// Compiles all kernels that a call runs.
    pub(crate) fn new(device: Arc<Device>) -> Self {
        // On an error the first call compiles again, and returns the error if it persists.
        let kernels = Kernels::new(&device).inspect_err(|error| log::warn!("the weighted mean: {error}")).ok();
        let mut checks = Checks::default();
        checks.append(&device.checks);
        Self { device, kernels, buffers: None, call: Call::NONE, checks }
    }

    /// Creates an averager on the same device.
    pub(crate) fn another(&self) -> Self {
        Self::new(Arc::clone(&self.device))
    }

    /// Starts to average rows. `moments` is the length of the result.
    pub(crate) fn submit(
        &mut self,
        pass: &Pass,
        rows: &[f32],
        log_weights: &[f32],
        moments: usize,
    ) -> Result<(), PlanError> {
        const MOST: u64 = 65_535;
        let device = Arc::clone(&self.device);
        device.check()?;
        for (what, requested) in
            [("groups of 1,024 rows", pass.rows.div_ceil(1024)), ("groups of 16 coordinates", pass.width.div_ceil(16))]
        {
            if u64::from(requested) > MOST {
                return Err(EngineError::OverLimit { what, requested: requested.into(), limit: MOST }.into());
            }
        }
        self.call.is_free(&device)?;
        let started = device.guard(|| self.start(pass, rows, log_weights, moments as u64));
        self.checks.append(&device.checks);
        // After an error the read-back buffer may be in use, so the next call allocates new ones.
        started.inspect_err(|_| {
            self.call.abandon(&device);
            self.buffers = None;
        })
    }

    fn start(&mut self, pass: &Pass, rows: &[f32], log_weights: &[f32], moments: u64) -> Result<(), PlanError> {
        let device = &self.device;
        let Kernels { group_mean, merge } = match &mut self.kernels {
            Some(kernels) => kernels,
            none => none.insert(Kernels::new(device)?),
        };
        if self.buffers.as_ref().is_none_or(|b| b.shape != (pass.rows, pass.width, pass.flags)) {
            self.buffers = None;
        }
        let buffers = match &mut self.buffers {
            Some(buffers) => buffers,
            none => none.insert(Buffers::new(device, pass, moments)?),
        };
        device.queue.write_buffer(&buffers.passes, 0, bytemuck::bytes_of(pass));
        device.queue.write_buffer(&buffers.rows, 0, bytemuck::cast_slice(rows));
        device.queue.write_buffer(&buffers.log_weights, 0, bytemuck::cast_slice(log_weights));
        let mut encoder = device.device.create_command_encoder(&Default::default());
        {
            let mut compute = encoder.begin_compute_pass(&Default::default());
            compute.set_bind_group(0, &buffers.group, &[0]);
            weighted_mean(&mut compute, group_mean, merge, pass, pass.width.div_ceil(16));
        }
        encoder.copy_buffer_to_buffer(&buffers.summary, 0, &buffers.back, 0, SUMMARY);
        let mean_at = 4 * (partials_len(pass) - moments);
        encoder.copy_buffer_to_buffer(&buffers.partials, mean_at, &buffers.back, SUMMARY, 4 * moments);
        let mut pending = Pending::new(device);
        pending.submit_last(device, encoder, &buffers.back);
        self.call.begin(pending, &buffers.back, ());
        Ok(())
    }

    /// Returns the sums of the submitted call, and writes its moments, once it has completed.
    pub(crate) fn finish(&mut self, wait: Wait<'_>, moments: &mut [f32]) -> Poll<Result<Sums, EngineError>> {
        let Poll::Ready(checked) = self.checks.poll(wait) else { return Poll::Pending };
        if let Err(error) = checked {
            (self.kernels, self.buffers) = (None, None);
            self.call.abandon(&self.device);
            return Poll::Ready(Err(self.device.check().err().unwrap_or(error.into_engine())));
        }
        let Poll::Ready(over) = self.call.finish(&self.device, wait) else { return Poll::Pending };
        Poll::Ready(over.and_then(|()| self.collect(moments)))
    }

    fn collect(&mut self, moments: &mut [f32]) -> Result<Sums, EngineError> {
        let mut sums = Sums::NONE;
        let Some(buffers) = &self.buffers else { return Ok(sums) };
        self.device.read(&buffers.back, |back| {
            sums = bytemuck::pod_read_unaligned(&back[..size_of::<Sums>()]);
            let mean: Vec<f32> = bytemuck::pod_collect_to_vec(&back[SUMMARY as usize..][..4 * moments.len()]);
            moments.copy_from_slice(&mean);
        })?;
        Ok(sums)
    }

    /// See [`Call::abandon`].
    pub(crate) fn abandon(&mut self) {
        self.call.abandon(&self.device);
    }

    /// See [`Call::drain`].
    pub(crate) fn drain(&mut self, wait: Wait<'_>) -> Poll<Result<(), EngineError>> {
        self.call.drain(&self.device, wait)
    }
}
