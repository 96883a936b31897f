//! A GPU device: finding and opening it, converting its errors, and waiting for it.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::checks::{Checks, Closed, Scopes, unexpected};
use super::kernels::{BINDINGS, BoundsChecks, Kernels, Layouts, PASS_SIZE};
use super::pending::{Pending, Watcher};
use super::warm_up::{Idle, WarmUps};
use super::workspace::bind;
use crate::error::{BuildError, EngineError};
use crate::lang::clock::Instant;
use crate::runtime::browser::{BROWSER, may_block};
use crate::runtime::checksum::checksum;
use crate::runtime::replace::replace;
use crate::runtime::{Adapter, AdapterKind, EngineOptions, KernelSource, Tuning, Wait, Waiter};

/// The adapters of this machine, in the driver's order. Empty if there is no driver.
pub(crate) async fn adapters() -> Vec<(Adapter, wgpu::Adapter)> {
    let native = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let backends = if BROWSER { wgpu::Backends::BROWSER_WEBGPU } else { native };
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        // Debug builds, like release builds, set no labels on driver objects. When an object is labeled, Vulkan's
        // loader iterates over all devices of the process without a lock, and crashes if another thread closes a device
        // meanwhile (observed with 1.4.309). Labels and validation layers can be enabled with WGPU_DEBUG=1 and
        // WGPU_VALIDATION=1.
        flags: wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL.with_env(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let describe = |(index, handle): (usize, wgpu::Adapter)| (adapter(index, handle.get_info()), handle);
    instance.enumerate_adapters(backends).await.into_iter().enumerate().map(describe).collect()
}

fn adapter(index: usize, info: wgpu::AdapterInfo) -> Adapter {
    let kind = match info.device_type {
        // It claims to be a CPU, but runs nothing. Tools open it to obtain the kernels of a GPU: see `Engine::kernels`.
        _ if info.backend == wgpu::Backend::Noop => AdapterKind::Unknown,
        wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
        wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
        wgpu::DeviceType::Cpu => AdapterKind::Software,
        wgpu::DeviceType::Other => AdapterKind::Unknown,
    };
    let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
    let interface = match info.backend {
        wgpu::Backend::BrowserWebGpu => "WebGPU".into(),
        native => format!("{native:?}"),
    };
    // Browsers keep the name from pages that could recognize their users by it.
    let name = if info.name.is_empty() { "an unnamed adapter".into() } else { info.name };
    Adapter { index, name, kind, interface, driver }
}

/// Upper bounds on the invocations per workgroup and on the workgroup memory (in bytes) of every kernel.
pub(crate) const WORKGROUP: u32 = 256;
pub(crate) const WORKGROUP_BYTES: u32 = 16_352;

/// Why a device that this crate did not open may be lost.
const LOST_BY_OWNER: &str = "the program that opened it has destroyed it, or its driver has failed";

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
    kernels: Arc<Mutex<HashMap<String, Arc<Kernels>>>>,
    /// Work whose errors a browser has not reported yet. Whoever asked for it takes them before returning; a page has
    /// one thread, so they are never those of others.
    pub(crate) checks: Checks,
    /// The driver's pipeline cache, and the file that persists it between runs.
    pub(crate) cache: Option<(wgpu::PipelineCache, PathBuf)>,
    pub(crate) warm_ups: WarmUps,
    pub(crate) watcher: Watcher,
    complaints: Arc<Mutex<Complaints>>,
    /// Whether this crate opened the device. If not, its callbacks and its lifetime belong to another program.
    own: bool,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("adapter", &self.adapter).finish_non_exhaustive()
    }
}

/// Locks a mutex. Poisoning is ignored, since no critical section here can leave its data inconsistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The size of the checksum at the start of a cache file, in bytes.
const SUM: usize = size_of::<u64>();

/// Opens the pipeline cache in a folder, if the device supports one.
fn open_cache(device: &wgpu::Device, folder: &Path) -> Option<(wgpu::PipelineCache, PathBuf)> {
    let info = device.adapter_info();
    if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        log::debug!("{} has no pipeline cache", info.name);
        return None;
    }
    let file = folder.join(wgpu::util::pipeline_cache_key(&info)?);
    // Data without a matching checksum was not written by this crate, or is truncated.
    let data = std::fs::read(&file).ok().filter(|bytes| bytes.len() > SUM);
    let data = data.as_deref().map(|bytes| bytes.split_at(SUM));
    let data = data.and_then(|(sum, data)| (sum == checksum(data).to_le_bytes()).then_some(data));
    let open = |data: Option<&[u8]>| {
        let scopes = Scopes::new(device);
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("gibbs"), data, fallback: true };
        // SAFETY: the data is what `get_data` returned to `keep_cache`, complete, as its checksum confirms, and the
        // folder is the user's own (see `EngineOptions::pipeline_cache`). wgpu checks that it was written for this
        // device and this driver.
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        scopes.close(&Checks::default(), unexpected).error().map_or(Ok(cache), Err)
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

/// Puts the kernels of a source into a device's cache.
#[derive(Clone)]
pub(crate) struct Keep {
    cache: Arc<Mutex<HashMap<String, Arc<Kernels>>>>,
    source: String,
}

impl Keep {
    pub(crate) fn keep(self, kernels: Arc<Kernels>) {
        let mut known = lock(&self.cache);
        // Bounds the cache for programs that keep changing the constants of their models. Kernels in use stay alive.
        if known.len() >= MAX_KERNELS {
            known.clear();
        }
        known.insert(self.source, kernels);
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

        let opened = Self::new(adapter, device, queue, options, true)?;
        let heard = Arc::clone(&opened.complaints);
        opened.device.set_device_lost_callback(move |reason, message| {
            log::error!("the device was lost ({reason:?}): {message}");
            lock(&heard).lost.get_or_insert(format!("{reason:?} {message}"));
        });
        let heard = Arc::clone(&opened.complaints);
        opened.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            log::error!("the driver reported: {error}");
            lock(&heard).error.get_or_insert(EngineError::Driver { message: error.to_string() });
        }));
        let settled = poll_fn(|context| opened.checks.poll(Wait::Woken(context.waker()))).await;
        settled.map_err(|error| EngineError::NoDevice { message: error.to_string() })?;
        Ok(opened)
    }

    /// Wraps a device that another program has opened and keeps.
    pub(crate) fn adopt(
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let limits = device.limits();
        for (limit, required, found) in [
            ("max_bind_groups", 1, limits.max_bind_groups),
            ("max_bindings_per_bind_group", BINDINGS, limits.max_bindings_per_bind_group),
            (
                "max_dynamic_uniform_buffers_per_pipeline_layout",
                1,
                limits.max_dynamic_uniform_buffers_per_pipeline_layout,
            ),
            ("max_storage_buffers_per_shader_stage", BINDINGS - 1, limits.max_storage_buffers_per_shader_stage),
            ("max_uniform_buffers_per_shader_stage", 1, limits.max_uniform_buffers_per_shader_stage),
            ("max_compute_workgroup_storage_size", WORKGROUP_BYTES, limits.max_compute_workgroup_storage_size),
            ("max_compute_invocations_per_workgroup", WORKGROUP, limits.max_compute_invocations_per_workgroup),
            ("max_compute_workgroup_size_x", WORKGROUP, limits.max_compute_workgroup_size_x),
            ("max_compute_workgroups_per_dimension", 65_535, limits.max_compute_workgroups_per_dimension),
        ] {
            if found < required {
                return Err(EngineError::MissingLimit { limit, required, found });
            }
        }
        let adapter = adapter(0, device.adapter_info());
        let adopted = Self::new(adapter, device, queue, options, false)?;
        adopted.check_owner()?;
        Ok(adopted)
    }

    fn new(
        adapter: Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: &EngineOptions,
        own: bool,
    ) -> Result<Self, EngineError> {
        let scopes = Scopes::new(&device);
        let layouts = Layouts::new(&device);
        let checks = Checks::default();
        if let Some(error) = scopes.close(&checks, unexpected).error() {
            return Err(EngineError::NoDevice { message: error.to_string() });
        }
        let features = device.features();
        let clock = features.contains(wgpu::Features::TIMESTAMP_QUERY);
        let cache = options.pipeline_cache.as_deref().and_then(|folder| open_cache(&device, folder));
        Ok(Self {
            adapter,
            tick: clock.then(|| f64::from(queue.get_timestamp_period())),
            layouts,
            timeout: options.timeout,
            timestamps: options.timestamps,
            tuning: options.tuning,
            limits: device.limits(),
            int64: features.contains(wgpu::Features::SHADER_INT64),
            kernels: Arc::default(),
            checks,
            cache,
            warm_ups: WarmUps::default(),
            watcher: Watcher::default(),
            complaints: Arc::default(),
            own,
            device,
            queue,
        })
    }

    /// Whether the driver may end loops early: see
    /// [`MAX_LOOP_ITERATIONS`](crate::runtime::gpu::kernels::MAX_LOOP_ITERATIONS).
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

    /// Makes the device lost to this engine. It is destroyed only if this crate opened it.
    pub(crate) fn destroy(&self) {
        if self.own {
            self.device.destroy();
        }
        lock(&self.complaints).lost.get_or_insert("it was destroyed on request".into());
    }

    /// The error to return after an operation of the device failed: the known cause, or the loss of the device, or
    /// `refused` itself.
    pub(crate) fn failure(&self, refused: impl Display) -> EngineError {
        if let Err(known) = self.check() {
            return known;
        }
        let message = refused.to_string();
        if !self.is_gone() {
            return EngineError::Driver { message };
        }
        // Without a callback, the cause is not known, and what was refused is only a consequence.
        let message = if self.own { message } else { LOST_BY_OWNER.into() };
        lock(&self.complaints).lost.get_or_insert(message.clone());
        EngineError::DeviceLost { message }
    }

    /// Returns an error if the device belongs to another program and is lost. Creating a buffer on it does not fail
    /// then. In a browser, the first call finds out.
    pub(crate) fn check_owner(&self) -> Result<(), EngineError> {
        if self.own || BROWSER || !self.is_gone() { Ok(()) } else { Err(self.failure(LOST_BY_OWNER)) }
    }

    /// Whether the device is lost. This does not depend on a callback, which may belong to another program: a lost
    /// device refuses to map buffers. In a browser it is asked after such a refusal only.
    fn is_gone(&self) -> bool {
        if BROWSER {
            return true;
        }
        let scopes = Scopes::new(&self.device);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("probe"),
            size: 16,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let refused = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&refused);
        // Natively, a refusal runs the callback before `map_async` returns.
        buffer.map_async(wgpu::MapMode::Read, .., move |mapped| heard.store(mapped.is_err(), Ordering::SeqCst));
        let refused = refused.load(Ordering::SeqCst);
        buffer.destroy();
        scopes.ignore();
        refused
    }

    /// Runs operations on the device and returns their errors. On a device of another program, error scopes keep them
    /// from its handler. In a browser, errors of operations that succeed so far become `checks`.
    pub(crate) fn guard<T, E: From<EngineError>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        // The crate's own handler stores errors for `check`.
        if self.own && !BROWSER {
            return work();
        }
        let scopes = Scopes::new(&self.device);
        let done = work();
        match scopes.close(&self.checks, unexpected) {
            Closed::Now(Some(error)) if done.is_ok() => Err(self.failure(error).into()),
            Closed::Later if done.is_err() => {
                self.checks.clear();
                done
            }
            _ => done,
        }
    }

    /// Runs the callbacks of completed submissions.
    pub(crate) fn poll(&self) -> Result<(), EngineError> {
        match self.device.poll(wgpu::PollType::Poll) {
            Ok(_) => self.check(),
            Err(error) => Err(self.failure(error)),
        }
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
        may_block()?;
        let wait = wgpu::PollType::Wait { submission_index: Some(submission.clone()), timeout: Some(limit) };
        match self.device.poll(wait) {
            Ok(_) => self.check(),
            Err(wgpu::PollError::Timeout) => {
                self.check()?;
                Err(EngineError::Timeout { after: limit })
            }
            Err(error) => Err(self.failure(error)),
        }
    }

    /// Allocates a buffer.
    pub(crate) fn buffer(
        &self,
        what: &'static str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, EngineError> {
        // Buffers that the host writes are mapped from the start.
        let mapped_at_creation = usage.contains(wgpu::BufferUsages::MAP_WRITE);
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
        let scopes = Scopes::new(&self.device);
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation };
        let buffer = self.device.create_buffer(&descriptor);
        let out_of_memory = EngineError::OutOfMemory { what, bytes: size };
        let late = out_of_memory.clone();
        let closed = scopes.close(&self.checks, move |error| match error {
            Some(wgpu::Error::OutOfMemory { .. }) => Err(late.into()),
            other => unexpected(other),
        });
        match closed.error() {
            None => Ok(buffer),
            Some(wgpu::Error::OutOfMemory { .. }) => Err(out_of_memory),
            Some(error) => Err(self.failure(error)),
        }
    }

    /// The kernels of a source, compiled at first use. `compile` also runs their first dispatch. It is given a function
    /// that keeps kernels, to be called once they are known to be valid.
    pub(crate) fn kernels(
        &self,
        source: &str,
        compile: impl FnOnce(Keep) -> Result<Arc<Kernels>, BuildError>,
    ) -> Result<Arc<Kernels>, BuildError> {
        if let Some(kernels) = lock(&self.kernels).get(source) {
            return Ok(Arc::clone(kernels));
        }
        let kernels = compile(Keep { cache: Arc::clone(&self.kernels), source: source.to_owned() })?;
        self.keep_cache();
        Ok(kernels)
    }

    /// The sources of all kernels in the cache, in alphabetical order.
    pub(crate) fn sources(&self) -> Vec<KernelSource> {
        let kernels = lock(&self.kernels);
        let source = |(wgsl, kernels): (&String, &Arc<Kernels>)| KernelSource {
            entries: kernels.entries.clone(),
            wgsl: wgsl.clone(),
            bounds_checks: kernels.bounds_checks == BoundsChecks::Keep,
        };
        let mut sources: Vec<_> = kernels.iter().map(source).collect();
        sources.sort_by(|a, b| a.wgsl.cmp(&b.wgsl));
        sources
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

    /// Copies the contents of a mapped buffer and unmaps it.
    pub(crate) fn read(&self, buffer: &wgpu::Buffer, to: impl FnOnce(&[u8])) -> Result<(), EngineError> {
        let read = || {
            let view = buffer.get_mapped_range(..).map_err(|error| self.failure(error))?;
            to(&view);
            drop(view);
            buffer.unmap();
            Ok(())
        };
        // In a browser, whatever could fail has been checked when the results arrive.
        if BROWSER { read() } else { self.guard(read) }
    }

    /// Submits work, waits for it and for the checks of what it needs, and copies the buffer that it fills.
    pub(crate) async fn read_after(
        &self,
        encoder: wgpu::CommandEncoder,
        back: &wgpu::Buffer,
        waiter: Waiter,
        to: impl FnOnce(&[u8]),
    ) -> Result<(), BuildError> {
        let mut pending = Pending::new(self);
        self.guard(|| {
            pending.submit_last(self, encoder, back);
            Ok::<_, EngineError>(())
        })?;
        // Taken before other tasks run, which take theirs from the device.
        let mut checks = Checks::default();
        checks.append(&self.checks);
        let checked = poll_fn(|context| checks.poll(waiter.wait(context))).await;
        checked.map_err(|error| self.check().err().map_or(error, BuildError::from))?;
        poll_fn(|context| pending.finish(self, waiter.wait(context))).await?;
        Ok(self.read(back, to)?)
    }

    /// The median time of an empty kernel, a small copy, a submission and a read-back.
    pub(crate) async fn round_trip(&self, waiter: Waiter) -> Result<Duration, EngineError> {
        let (nothing, group, [source, back]) = self.guard(|| self.prepare_round_trip())?;
        let mut times = Vec::new();
        for _ in 0..51 {
            let clock = Instant::now();
            let encoder = self.guard(|| {
                let mut encoder = self.device.create_command_encoder(&Default::default());
                {
                    let mut compute = encoder.begin_compute_pass(&Default::default());
                    compute.set_pipeline(&nothing);
                    compute.set_bind_group(0, &group, &[0]);
                    compute.dispatch_workgroups(1, 1, 1);
                }
                encoder.copy_buffer_to_buffer(&source, 0, &back, 0, 64);
                Ok::<_, EngineError>(encoder)
            })?;
            self.read_after(encoder, &back, waiter, |_| ()).await.map_err(BuildError::into_engine)?;
            times.push(clock.elapsed());
        }
        times.sort();
        Ok(times[times.len() / 2])
    }

    /// An empty kernel with its bindings, a buffer to copy, and one to copy it to.
    fn prepare_round_trip(&self) -> Result<(wgpu::ComputePipeline, wgpu::BindGroup, [wgpu::Buffer; 2]), EngineError> {
        let nothing = "@compute @workgroup_size(1) fn nothing() {}";
        let compiled = self.compile(nothing, BoundsChecks::Omit, ["nothing"], Idle::NOTHING);
        let [nothing] = compiled.map_err(BuildError::into_engine)?;
        let source = self.buffer("a round trip", 64, wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::STORAGE)?;
        let back = self.buffer("a round trip", 64, wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ)?;
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE;
        let unused = |_| self.buffer("a round trip", PASS_SIZE.get(), usage);
        let unused = (0..BINDINGS as usize).map(unused).collect::<Result<Vec<_>, _>>()?;
        let storages = std::array::from_fn(|i| unused[i + 1].as_entire_buffer_binding());
        Ok((nothing, bind(self, &unused[0], storages), [source, back]))
    }
}
