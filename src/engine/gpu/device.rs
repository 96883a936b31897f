//! A GPU device: finding and opening it, converting its errors, and waiting for it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::kernels::{BINDINGS, BoundsChecks, Kernels, Layouts, PASS_SIZE};
use super::warm_up::{Idle, WarmUps};
use super::workspace::bind;
use crate::checksum::checksum;
use crate::engine::{Adapter, AdapterKind, EngineOptions, Tuning};
use crate::error::{BuildError, EngineError};
use crate::replace::replace;

/// The adapters of this machine, in the driver's order. Empty if there is no driver.
pub(crate) async fn adapters() -> Vec<(Adapter, wgpu::Adapter)> {
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        // The same for debug and release builds: no labels on driver objects. When an object is labeled, Vulkan's
        // loader iterates over all devices of the process without a lock, and crashes if another thread closes a device
        // meanwhile (observed with 1.4.309). Labels and validation layers can be enabled with WGPU_DEBUG=1 and
        // WGPU_VALIDATION=1.
        flags: wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL.with_env(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let describe = |(index, handle): (usize, wgpu::Adapter)| {
        let info = handle.get_info();
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Unknown,
        };
        let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
        (Adapter { index, name: info.name, kind, interface: format!("{:?}", info.backend), driver }, handle)
    };
    instance.enumerate_adapters(backends).await.into_iter().enumerate().map(describe).collect()
}

/// The number of sources whose kernels a device caches.
const MAX_KERNELS: usize = 128;

/// Errors that the driver reported asynchronously.
#[derive(Debug, Default)]
struct Complaints {
    lost: Option<String>,
    error: Option<EngineError>,
}

/// An open device, with the kernels that have been compiled for it.
pub(crate) struct Device {
    pub(crate) adapter: Adapter,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) layouts: Layouts,
    pub(crate) timeout: Duration,
    /// Nanoseconds per tick of the device's clock, if it has one.
    pub(crate) tick: Option<f64>,
    tuning: Tuning,
    /// Whether stages are timed with that clock.
    pub(crate) timestamps: bool,
    pub(crate) limits: wgpu::Limits,
    /// Whether kernels may use 64-bit integers.
    pub(crate) int64: bool,
    kernels: Mutex<HashMap<String, Arc<Kernels>>>,
    /// The driver's pipeline cache, and the file that persists it between runs.
    pub(crate) cache: Option<(wgpu::PipelineCache, PathBuf)>,
    pub(crate) warm_ups: WarmUps,
    complaints: Arc<Mutex<Complaints>>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("adapter", &self.adapter).finish_non_exhaustive()
    }
}

/// Locks a mutex. Poisoning is ignored, since no critical section here can leave its data inconsistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The size of the checksum at the start of a cache file, in bytes.
const SUM: usize = size_of::<u64>();

/// Opens the pipeline cache in a folder, if the device supports one.
fn open_cache(device: &wgpu::Device, handle: &wgpu::Adapter, folder: &Path) -> Option<(wgpu::PipelineCache, PathBuf)> {
    if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        log::debug!("{} has no pipeline cache", handle.get_info().name);
        return None;
    }
    let file = folder.join(wgpu::util::pipeline_cache_key(&handle.get_info())?);
    // Data without a matching checksum was not written by this crate, or is truncated.
    let data = std::fs::read(&file).ok().filter(|bytes| bytes.len() > SUM);
    let data = data.as_deref().map(|bytes| bytes.split_at(SUM));
    let data = data.and_then(|(sum, data)| (sum == checksum(data).to_le_bytes()).then_some(data));
    let open = |data: Option<&[u8]>| {
        let scopes = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal]
            .map(|filter| device.push_error_scope(filter));
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("gibbs"), data, fallback: true };
        // SAFETY: the data is what `get_data` returned to `keep_cache`, complete, as its checksum confirms, and the
        // folder is the user's own (see `EngineOptions::pipeline_cache`). wgpu checks that it was written for this
        // device and this driver.
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        let errors = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop()));
        // Every scope is popped before an error is returned.
        errors.last().map_or(Ok(cache), Err)
    };
    // wgpu itself falls back to an empty cache where a driver is newer, but not where the file is another device's.
    let cache = match open(data) {
        Err(error) if data.is_some() => {
            log::warn!("the pipeline cache {} is not used, and will be replaced: {error}", file.display());
            open(None)
        }
        opened => opened,
    };
    match cache {
        Ok(cache) => Some((cache, file)),
        Err(error) => {
            log::warn!("the pipeline cache cannot be created: {error}");
            None
        }
    }
}

impl Device {
    pub(crate) async fn open(
        adapter: Adapter,
        handle: &wgpu::Adapter,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let limits = handle.limits();
        let clock = handle.features() & wgpu::Features::TIMESTAMP_QUERY;
        let caches = match options.pipeline_cache {
            Some(_) => handle.features() & wgpu::Features::PIPELINE_CACHE,
            None => wgpu::Features::empty(),
        };
        let int64 = handle.features() & wgpu::Features::SHADER_INT64;
        let (device, queue) = handle
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("gibbs"),
                required_features: clock | int64 | caches,
                required_limits: limits.clone(),
                ..Default::default()
            })
            .await
            .map_err(|error| EngineError::NoDevice { message: error.to_string() })?;

        let complaints = Arc::new(Mutex::new(Complaints::default()));
        let heard = Arc::clone(&complaints);
        device.set_device_lost_callback(move |reason, message| {
            log::error!("the device was lost ({reason:?}): {message}");
            lock(&heard).lost.get_or_insert(format!("{reason:?} {message}"));
        });
        let heard = Arc::clone(&complaints);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            log::error!("the driver reported: {error}");
            lock(&heard).error.get_or_insert(EngineError::Driver { message: error.to_string() });
        }));
        let tick = (!clock.is_empty()).then(|| f64::from(queue.get_timestamp_period()));
        let layouts = Layouts::new(&device);
        let cache = options.pipeline_cache.as_deref().and_then(|folder| open_cache(&device, handle, folder));
        let kernels = Mutex::default();
        let (int64, timeout, timestamps) = (!int64.is_empty(), options.timeout, options.timestamps);
        let tuning = options.tuning;
        Ok(Self {
            adapter,
            device,
            queue,
            layouts,
            timeout,
            tick,
            timestamps,
            tuning,
            limits,
            int64,
            kernels,
            cache,
            warm_ups: WarmUps::default(),
            complaints,
        })
    }

    /// Whether the driver may end loops early: see [`MAX_LOOP_ITERATIONS`](super::kernels::MAX_LOOP_ITERATIONS).
    pub(crate) fn limits_turns(&self) -> bool {
        self.adapter.kind == AdapterKind::Software
    }

    /// Whether kernels are tuned for a software adapter.
    pub(crate) fn software(&self) -> bool {
        match self.tuning {
            Tuning::Auto => self.adapter.kind == AdapterKind::Software,
            Tuning::Gpu => false,
            Tuning::Cpu => true,
        }
    }

    /// Returns an error that was reported since the last check. A lost device stays lost.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let mut complaints = lock(&self.complaints);
        if let Some(message) = &complaints.lost {
            return Err(EngineError::DeviceLost { message: message.clone() });
        }
        complaints.error.take().map_or(Ok(()), Err)
    }

    pub(crate) fn destroy(&self) {
        self.device.destroy();
        lock(&self.complaints).lost.get_or_insert("it was destroyed on request".into());
    }

    /// Waits for a submission, for at most the timeout. The time in which the device generates machine code does not
    /// count, whichever thread's kernels it is for: a device runs one submission after the other.
    pub(crate) fn wait(&self, submission: &wgpu::SubmissionIndex) -> Result<(), EngineError> {
        let mut limit = self.timeout;
        loop {
            let [begun, ended] = self.warm_ups.count();
            match self.wait_at_most(submission, limit) {
                Err(EngineError::Timeout { .. }) if begun > ended || self.warm_ups.count() != [begun, ended] => {
                    // The lower bound keeps this loop from spinning.
                    limit = self.timeout.max(Duration::from_millis(10));
                }
                Err(EngineError::Timeout { .. }) => return Err(EngineError::Timeout { after: self.timeout }),
                result => return result,
            }
        }
    }

    /// Waits for a submission, for at most `limit`.
    pub(crate) fn wait_at_most(&self, submission: &wgpu::SubmissionIndex, limit: Duration) -> Result<(), EngineError> {
        let wait = wgpu::PollType::Wait { submission_index: Some(submission.clone()), timeout: Some(limit) };
        match self.device.poll(wait) {
            Ok(_) => self.check(),
            Err(wgpu::PollError::Timeout) => {
                self.check()?;
                Err(EngineError::Timeout { after: limit })
            }
            Err(error) => {
                self.check()?;
                Err(EngineError::Driver { message: error.to_string() })
            }
        }
    }

    /// Allocates a buffer.
    pub(crate) fn buffer(
        &self,
        what: &'static str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, EngineError> {
        self.check()?;
        // Bindings must not be empty, and copies must be a multiple of four bytes.
        let size = bytes.max(16).next_multiple_of(16);
        let mut limit = self.limits.max_buffer_size;
        if usage.contains(wgpu::BufferUsages::STORAGE) {
            limit = limit.min(self.limits.max_storage_buffer_binding_size);
        }
        if size > limit {
            return Err(EngineError::OverLimit { what, requested: size, limit });
        }
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let invalid = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        let invalid = pollster::block_on(invalid.pop());
        if pollster::block_on(memory.pop()).is_some() {
            return Err(EngineError::OutOfMemory { what, bytes: size });
        }
        if let Some(error) = invalid {
            self.check()?;
            return Err(EngineError::Driver { message: error.to_string() });
        }
        Ok(buffer)
    }

    /// The kernels of a source, compiled at first use. `compile` also runs their first dispatch.
    pub(crate) fn kernels(
        &self,
        source: &str,
        compile: impl FnOnce() -> Result<Kernels, BuildError>,
    ) -> Result<Arc<Kernels>, BuildError> {
        if let Some(kernels) = lock(&self.kernels).get(source) {
            return Ok(Arc::clone(kernels));
        }
        let kernels = Arc::new(compile()?);
        let mut known = lock(&self.kernels);
        // Bounds the cache for programs that keep changing the constants of their models. Kernels in use stay alive.
        if known.len() >= MAX_KERNELS {
            known.clear();
        }
        known.insert(source.to_owned(), Arc::clone(&kernels));
        drop(known);
        self.keep_cache();
        Ok(kernels)
    }

    /// Writes the pipeline cache to its file. Failure is logged and not returned: the cache is only an optimization.
    fn keep_cache(&self) {
        let Some((cache, file)) = &self.cache else { return };
        let Some(data) = cache.get_data() else { return };
        let data = [&checksum(&data).to_le_bytes()[..], &data].concat();
        let kept = std::fs::create_dir_all(file.parent().unwrap_or(file)).and_then(|()| replace(file, &data));
        if let Err(error) = kept {
            log::warn!("the pipeline cache {} cannot be written: {error}", file.display());
        }
    }

    /// Waits for a submission and copies the contents of a mapped buffer.
    pub(crate) fn read(
        &self,
        submission: &wgpu::SubmissionIndex,
        buffer: &wgpu::Buffer,
        mut to: impl FnMut(&[u8]),
    ) -> Result<(), EngineError> {
        self.wait(submission)?;
        let view = buffer.get_mapped_range(..).map_err(|error| match self.check() {
            Err(known) => known,
            Ok(()) => EngineError::Driver { message: error.to_string() },
        })?;
        to(&view);
        drop(view);
        buffer.unmap();
        Ok(())
    }

    /// The median time of an empty kernel, a small copy, a submission and a read-back.
    pub(crate) fn round_trip(&self) -> Result<Duration, EngineError> {
        let nothing = "@compute @workgroup_size(1) fn nothing() {}";
        let compiled = self.compile(nothing, BoundsChecks::Omit, ["nothing"], Idle::NOTHING);
        let [nothing] = compiled.map_err(BuildError::into_engine)?;
        let source = self.buffer("a round trip", 64, wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::STORAGE)?;
        let back = self.buffer("a round trip", 64, wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ)?;
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE;
        let unused = |_| self.buffer("a round trip", PASS_SIZE.get(), usage);
        let unused = (0..BINDINGS as usize).map(unused).collect::<Result<Vec<_>, _>>()?;
        let storages = std::array::from_fn(|i| unused[i + 1].as_entire_buffer_binding());
        let group = bind(self, &unused[0], storages);
        let mut times = Vec::new();
        for _ in 0..51 {
            let clock = Instant::now();
            let mut encoder = self.device.create_command_encoder(&Default::default());
            {
                let mut compute = encoder.begin_compute_pass(&Default::default());
                compute.set_pipeline(&nothing);
                compute.set_bind_group(0, &group, &[0]);
                compute.dispatch_workgroups(1, 1, 1);
            }
            encoder.copy_buffer_to_buffer(&source, 0, &back, 0, 64);
            encoder.map_buffer_on_submit(&back, wgpu::MapMode::Read, .., |_| ());
            let submission = self.queue.submit([encoder.finish()]);
            self.read(&submission, &back, |_| ())?;
            times.push(clock.elapsed());
        }
        times.sort();
        Ok(times[times.len() / 2])
    }
}
