//! The buffers of one driver on its device, and the submission that runs its passes.

use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use wgpu::BufferUsages as Usage;

use super::checks::Checks;
use super::device::Device;
use super::kernels::{BINDINGS, Kernel, MAX_LOOP_ITERATIONS, PASS_SIZE, Score, searches};
use super::pending::{Call, Pending};
use super::source;
use super::source::KernelConfig;
use super::upload::Upload;
use crate::error::{BuildError, EngineError, PlanError};
use crate::kernels::pass::{
    ADAPT, DIVERGENCE, EFFECTIVE, ELITE, FILTERED, FIXED, GIVEN, GROUP, MAX_EVALUATIONS, PERTURBED, Pass, Problem,
    SCORED, SECOND_MOMENT, SIGNED, Sums, TAIL, TILE, round_up,
};
use crate::lang::clock::Instant;
use crate::runtime::bounds::Capacity;
use crate::runtime::browser::BROWSER;
use crate::runtime::program::Program;
use crate::runtime::{AdapterKind, DeviceTrajectories, Done, Fetched, PlanNumbers, Timing, Wait, bounds};

/// The size of a problem's summary (`shaders/pass.wgsl`), in bytes: sums, then the keys of the best and the worst
/// cost and of the smallest second score, then the parameters found by `find_temperature`.
pub(crate) const SUMMARY: u64 = 64;
/// The summary of no rows.
const NO_ROWS: [u32; 16] = [0, 0, 0, 0, 0, 0, 0, 0, u32::MAX, 0, u32::MAX, 0, 0, 0, 0, 0];
/// Two timestamps for each of the three stages.
const TICKS: u32 = 6;

/// Floats in the partial results of all groups of one problem and in the merged mean that follows them.
pub(crate) fn partials_len(pass: &Pass) -> u64 {
    let groups = u64::from(pass.rows).div_ceil(GROUP as u64);
    (groups + 1) * (8 + u64::from(pass.coordinates) * u64::from(pass.moments()))
}

/// Splits a number of workgroups over two dimensions, since one dimension is limited to 65,535.
pub(crate) fn dispatch_grid(workgroups: u32) -> (u32, u32) {
    const MOST: u32 = 65_535;
    if workgroups <= MOST { (workgroups, 1) } else { (MOST, workgroups.div_ceil(MOST)) }
}

/// Sizes that the buffers were allocated for, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    passes: u64,
    inputs: u64,
    /// The weights of networks, after the inputs.
    weights: u64,
    fields: u64,
    rows: u64,
    scores: u64,
    log_weights: u64,
    partials: u64,
    /// The nominals of all problems: the buffer holds them twice, as they are and as they were before the last step.
    nominal: u64,
    /// The standard-deviation scales of all problems, which the buffer also holds twice.
    std_scale: u64,
    summaries: u64,
    /// Second moments that are returned.
    second: u64,
}

struct Buffers {
    sizes: Sizes,
    /// Passes, summary, inputs and nominal on their way to the device.
    upload: Upload,
    /// Read-only data of a call: passes, followed by the inputs, and by the weights of networks, which calls keep.
    given: wgpu::Buffer,
    fields: wgpu::Buffer,
    rows: wgpu::Buffer,
    scores: wgpu::Buffer,
    log_weights: wgpu::Buffer,
    partials: wgpu::Buffer,
    /// Data that a call modifies: the summary, followed by the blocks of the nominal.
    state: wgpu::Buffer,
    /// Staging buffer from the device for summary, nominal and timestamps.
    back: wgpu::Buffer,
    ticks: Option<(wgpu::QuerySet, wgpu::Buffer)>,
    group: wgpu::BindGroup,
    /// The version of the uploaded fields.
    fields_version: Option<u64>,
    /// The version of the uploaded weights.
    weights_version: Option<u64>,
}

pub(crate) struct Workspace {
    device: Arc<Device>,
    kernel: Option<(KernelConfig, [bool; 2], Kernel)>,
    buffers: Option<Buffers>,
    call: Call<Run>,
    /// The work since the last results whose errors a browser has not reported yet.
    checks: Checks,
    /// The mean duration of a chunk in the last call with each kernel; cleared when buffers change.
    paces: Vec<(KernelConfig, [bool; 2], Duration)>,
    nominal: Vec<f32>,
    std_scale: Vec<f32>,
    second: Vec<f32>,
    sums: Vec<Sums>,
    /// Given rows, converted to tiles for the upload.
    tiled: Vec<f32>,
    /// The chunks of passes that are uploaded for a call.
    chunks: Vec<Pass>,
    /// The last pass that was run, and its offset among the uploaded ones.
    last: Option<(Pass, u32)>,
}

/// The data of a call that are needed to read its results.
struct Run {
    started: Instant,
    submitted: Instant,
    problems: usize,
    /// The total lengths of all nominals, and of all standard-deviation scales that are read back.
    numbers: [usize; 2],
}

impl Sizes {
    /// `stride`: bytes from one pass to the next.
    pub(crate) fn of(stride: u64, passes: &[Pass], problem: &Problem<'_>) -> Self {
        let padded = |pass: &Pass| round_up(pass.rows as usize, TILE) as u64;
        let most = |f: &dyn Fn(&Pass) -> u64| passes.iter().map(f).max().unwrap_or(0);
        let problems = most(&|u| u64::from(u.problems));
        let rows = |u: &Pass| match u {
            // Rows of a policy are drawn once and read in every step, or accumulated.
            _ if of_policy(u) => u64::from(u.problems) * padded(u) * u64::from(u.width),
            _ if u.has(GIVEN) => padded(u) * u64::from(u.width),
            // Other drawn rows need no memory: see shaders/average/mean_of_draws.wgsl.
            _ => 0,
        };
        // The scores of rows are followed by those of episodes and, if episodes run in chunks, by their saved states.
        let saved = source::saved(problem.layout) as u64;
        let each = |u: &Pass| 2 + if u.end < u.horizon { saved } else { 0 };
        let of_row = |u: &Pass| match of_policy(u) {
            true => 3 + each(u) * u64::from(u.episodes),
            false => 3 * u64::from(u.rollouts()),
        };
        let scores = |u: &Pass| of_row(u) * padded(u);
        Self {
            passes: aligned(passes.len() as u64 * stride),
            inputs: bytes(problem.inputs.len() as u64),
            weights: 4 * problem.weights.values.len() as u64,
            fields: bytes(problem.fields.packed_len() as u64),
            rows: bytes(most(&rows)),
            scores: bytes(problems * most(&scores)),
            log_weights: bytes(problems * most(&padded)),
            partials: bytes(problems * most(&partials_len)),
            nominal: 4 * problems * most(&|u| u64::from(u.width)),
            std_scale: 4 * problems * most(&|u| u64::from(u.coordinates)),
            summaries: aligned(problems * SUMMARY),
            second: passes
                .last()
                .map_or(0, |u| if returns_second(u) { 4 * problems * u64::from(u.coordinates) } else { 0 }),
        }
    }
}

impl Sizes {
    /// Returns these sizes, but no smaller than `made` for what may shrink and grow between calls: rows, inputs and
    /// fields, and what depends on the coordinates of rows.
    pub(crate) fn keeping(self, made: &Self) -> Self {
        Self {
            rows: self.rows.max(made.rows),
            inputs: self.inputs.max(made.inputs),
            weights: self.weights.max(made.weights),
            fields: self.fields.max(made.fields),
            partials: self.partials.max(made.partials),
            std_scale: self.std_scale.max(made.std_scale),
            ..self
        }
    }

    /// The index of the first weight of a network in the buffer of inputs.
    fn weights_at(&self) -> u32 {
        (self.inputs / 4) as u32
    }

    /// The capacity of each buffer, in numbers.
    pub(crate) fn capacity(&self) -> Capacity {
        let Self { inputs, weights, fields, rows, scores, log_weights, partials, summaries, .. } = *self;
        let [inputs, weights, fields, rows, scores] = [inputs, weights, fields, rows, scores].map(|bytes| bytes / 4);
        let [log_weights, partials] = [log_weights, partials].map(|bytes| bytes / 4);
        let (nominal, summaries) = (self.blocks() / 4, summaries / SUMMARY);
        Capacity { inputs, weights, fields, rows, scores, log_weights, partials, nominal, summaries }
    }

    /// The size of the buffer of nominals and standard-deviation scales.
    fn blocks(&self) -> u64 {
        2 * (self.nominal + self.std_scale)
    }

    /// The size of a call's upload.
    fn upload(&self) -> u64 {
        self.passes + self.inputs + self.summaries + self.blocks()
    }

    /// The size of the read-back: timestamps (first, for their alignment), summaries, nominals, standard-deviation
    /// scales, second moments.
    fn back(&self) -> u64 {
        8 * u64::from(TICKS) + self.summaries + self.nominal + self.std_scale + self.second
    }
}

/// Splits passes into the chunks that are uploaded: a pass whose episodes run in chunks is repeated once for each.
fn in_chunks(device: &Device, program: &Program, passes: &[Pass], all: &mut Vec<Pass>) -> Result<(), EngineError> {
    all.clear();
    for pass in passes {
        within_turns(device, pass)?;
        let steps = steps_of_piece(device, program, pass)?;
        let mut chunk = Pass { begin: 0, end: pass.horizon.min(steps), ..*pass };
        all.push(chunk);
        while chunk.end < pass.horizon {
            (chunk.begin, chunk.end) = (chunk.end, pass.horizon.min(chunk.end + steps));
            all.push(chunk);
        }
    }
    Ok(())
}

/// Rejects networks of a model whose units need more memory than an invocation is sure to have, or whose loops a
/// software adapter would end early.
fn networks_fit(device: &Device, program: &Program, passes: &[Pass]) -> Result<(), EngineError> {
    let requirements = &program.requirements;
    if requirements.networks.is_empty() {
        return Ok(());
    }
    let what = "inputs and units of a model's network, or of its derivatives, on a GPU";
    let requested = requirements.units as u64;
    let limit = source::NETWORK_NUMBERS as u64;
    if requested > limit {
        return Err(EngineError::OverLimit { what, requested, limit });
    }
    // Episodes run in chunks of as many time steps as the limit allows.
    let horizon = passes.iter().filter(|pass| !of_policy(pass)).map(|pass| u64::from(pass.horizon)).max();
    let requested = horizon.unwrap_or(0) * (3 + requirements.loop_iterations);
    if device.limits_turns() && requested > MAX_LOOP_ITERATIONS {
        let what = "loop iterations of a model's networks over the horizon, on a software adapter";
        return Err(EngineError::OverLimit { what, requested, limit: MAX_LOOP_ITERATIONS });
    }
    Ok(())
}

/// The number of time steps of an episode per dispatch: a multiple of 4, or the whole horizon.
fn steps_of_piece(device: &Device, program: &Program, pass: &Pass) -> Result<u32, EngineError> {
    if !device.limits_turns() || !of_policy(pass) {
        return Ok(pass.horizon);
    }
    // One for the loop over time steps itself, plus its inner loops.
    let loop_iterations = 1 + program.requirements.loop_iterations;
    // Rows of scores are cleared first, in a loop over coordinates.
    let left = MAX_LOOP_ITERATIONS.saturating_sub(u64::from(pass.width));
    match left / loop_iterations / 4 * 4 {
        0 => Err(EngineError::OverLimit {
            what: "loop iterations of a policy in four time steps, on a software adapter",
            requested: 4 * loop_iterations + u64::from(pass.width),
            limit: MAX_LOOP_ITERATIONS,
        }),
        steps => Ok(steps.try_into().unwrap_or(pass.horizon)),
    }
}

/// Whether a pass trains a policy.
fn of_policy(pass: &Pass) -> bool {
    pass.has(PERTURBED | SCORED)
}

/// Whether a pass's second moments are returned to the driver.
fn returns_second(pass: &Pass) -> bool {
    pass.has(SECOND_MOMENT) && of_policy(pass)
}

fn bytes(floats: u64) -> u64 {
    (floats * 4).max(16).next_multiple_of(16)
}

/// Rounds up to an offset at which another binding may start in the same buffer: the largest alignment that any device
/// requires.
pub(crate) fn aligned(bytes: u64) -> u64 {
    bytes.next_multiple_of(256)
}

/// The stride between passes in their buffer, in bytes.
fn stride(device: &Device) -> u64 {
    PASS_SIZE.get().next_multiple_of(u64::from(device.limits.min_uniform_buffer_offset_alignment))
}

impl Buffers {
    fn new(device: &Device, sizes: Sizes) -> Result<Self, EngineError> {
        let storage = |what, bytes| device.buffer(what, bytes, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC);
        let usage = Usage::UNIFORM | Usage::STORAGE | Usage::COPY_DST;
        let given = device.buffer("inputs", sizes.passes + sizes.inputs + sizes.weights, usage)?;
        let fields = storage("fields", sizes.fields)?;
        let rows = storage("rows", sizes.rows)?;
        let scores = storage("scores", sizes.scores)?;
        let log_weights = storage("log-weights", sizes.log_weights)?;
        let partials = storage("partial means", sizes.partials)?;
        let state = storage("the plan", sizes.summaries + sizes.blocks())?;
        let upload = Upload::new(device, sizes.upload())?;
        let back = sizes.back();
        let back = device.buffer("the read-back", back, Usage::MAP_READ | Usage::COPY_DST)?;
        let ticks = match device.tick.filter(|_| device.timestamps) {
            None => None,
            Some(_) => {
                let set = device.device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("gibbs"),
                    ty: wgpu::QueryType::Timestamp,
                    count: TICKS,
                });
                let usage = Usage::QUERY_RESOLVE | Usage::COPY_SRC;
                Some((set, device.buffer("the clock", 8 * u64::from(TICKS), usage)?))
            }
        };
        let all = Parts { sizes, given: &given, fields: &fields, rows: &rows, scores: &scores };
        let group = all.bind(device, &log_weights, &partials, &state);
        let (fields_version, weights_version) = (None, None);
        Ok(Self {
            sizes,
            upload,
            given,
            fields,
            rows,
            scores,
            log_weights,
            partials,
            state,
            back,
            ticks,
            group,
            fields_version,
            weights_version,
        })
    }

    /// A bind group with a different buffer for the rows.
    fn bind_with(&self, device: &Device, rows: &wgpu::Buffer) -> wgpu::BindGroup {
        let Self { sizes, given, fields, scores, log_weights, partials, state, .. } = self;
        Parts { sizes: *sizes, given, fields, rows, scores }.bind(device, log_weights, partials, state)
    }

    /// A bind group with a buffer of trajectories in place of the partial means.
    fn bind_trajectories(&self, device: &Device, trajectories: &wgpu::Buffer) -> wgpu::BindGroup {
        let Self { sizes, given, fields, rows, scores, log_weights, state, .. } = self;
        Parts { sizes: *sizes, given, fields, rows, scores }.bind(device, log_weights, trajectories, state)
    }
}

/// Some of the buffers that are bound.
struct Parts<'a> {
    sizes: Sizes,
    given: &'a wgpu::Buffer,
    fields: &'a wgpu::Buffer,
    rows: &'a wgpu::Buffer,
    scores: &'a wgpu::Buffer,
}

impl Parts<'_> {
    fn bind(
        &self,
        device: &Device,
        log_weights: &wgpu::Buffer,
        partials: &wgpu::Buffer,
        state: &wgpu::Buffer,
    ) -> wgpu::BindGroup {
        let Self { sizes, given, fields, rows, scores } = self;
        let part = |buffer, offset, bytes| wgpu::BufferBinding { buffer, offset, size: wgpu::BufferSize::new(bytes) };
        let inputs = part(given, sizes.passes, sizes.inputs + sizes.weights);
        let summary = part(state, 0, sizes.summaries);
        let nominal = part(state, sizes.summaries, sizes.blocks());
        let [fields, rows, scores] = [fields, rows, scores].map(|buffer| buffer.as_entire_buffer_binding());
        let [log_weights, partials] = [log_weights, partials].map(|buffer| buffer.as_entire_buffer_binding());
        bind(device, given, [inputs, fields, rows, scores, log_weights, partials, nominal, summary])
    }
}

/// The bind group of the pass and the eight storage buffers, in the order of `shaders/pass.wgsl`.
pub(crate) fn bind(device: &Device, passes: &wgpu::Buffer, storages: [wgpu::BufferBinding<'_>; 8]) -> wgpu::BindGroup {
    let pass = wgpu::BufferBinding { buffer: passes, offset: 0, size: Some(PASS_SIZE) };
    let resources = std::iter::once(pass).chain(storages).map(wgpu::BindingResource::Buffer);
    let entry = |(binding, resource)| wgpu::BindGroupEntry { binding, resource };
    let entries: Vec<_> = (0..BINDINGS).zip(resources).map(entry).collect();
    let layout = &device.layouts.bindings;
    device.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some("gibbs"), layout, entries: &entries })
}

impl Workspace {
    pub(crate) fn new(device: Arc<Device>) -> Self {
        Self {
            device,
            kernel: None,
            buffers: None,
            call: Call::NONE,
            checks: Checks::default(),
            paces: Vec::new(),
            nominal: Vec::new(),
            std_scale: Vec::new(),
            second: Vec::new(),
            sums: Vec::new(),
            tiled: Vec::new(),
            chunks: Vec::new(),
            last: None,
        }
    }

    /// Compiles missing kernels and allocates buffers that are too small. Does nothing if called again for the same
    /// sizes.
    pub(crate) fn prepare(
        &mut self,
        program: &Program,
        passes: &[Pass],
        problem: &Problem<'_>,
    ) -> Result<(), BuildError> {
        self.device.check()?;
        let device = Arc::clone(&self.device);
        let prepared = device.guard(|| self.fit(program, passes, problem));
        self.checks.append(&device.checks);
        prepared
    }

    /// Returns `Ready` once everything that was prepared and submitted is known to be valid, or to be invalid. Natively
    /// this is known when a function returns.
    pub(crate) fn settle(&mut self, wait: Wait<'_>) -> Poll<Result<(), BuildError>> {
        let Poll::Ready(checked) = self.checks.poll(wait) else { return Poll::Pending };
        Poll::Ready(checked.map_err(|error| {
            // The next call makes everything again.
            (self.kernel, self.buffers) = (None, None);
            self.call.abandon(&self.device);
            self.device.check().err().map_or(error, BuildError::from)
        }))
    }

    fn fit(&mut self, program: &Program, passes: &[Pass], problem: &Problem<'_>) -> Result<(), BuildError> {
        in_chunks(&self.device, program, passes, &mut self.chunks)?;
        networks_fit(&self.device, program, passes)?;
        let shape = shape(&self.device, passes, problem);
        let kind = [self.device.does_whole(program, passes), searches(passes)];
        if self.kernel.as_ref().is_none_or(|(made, of, _)| (*made, *of) != (shape, kind)) {
            // The first dispatch of a kernel waits for earlier submissions, and is not subject to the time limit of a
            // call.
            self.drained()?;
            self.kernel = Some((shape, kind, self.device.kernel(program, shape, kind)?));
        }
        let sizes = Sizes::of(stride(&self.device), &self.chunks, problem);
        let sizes = self.buffers.as_ref().map_or(sizes, |buffers| sizes.keeping(&buffers.sizes));
        // The kernels are compiled without bounds checks.
        bounds::within(program, &self.chunks, problem, &sizes.capacity())?;
        if self.buffers.as_ref().is_none_or(|buffers| buffers.sizes != sizes) {
            // The old buffers are freed first, so that both need not fit in memory at once.
            self.drained()?;
            self.paces.clear();
            self.buffers = None;
            self.buffers = Some(Buffers::new(&self.device, sizes)?);
            self.device.check_owner()?;
        }
        Ok(())
    }

    /// Compiles the kernels that [`submit_fetch`](Self::submit_fetch) needs for rows of the shape last prepared.
    pub(crate) fn prepare_fetch(&mut self) -> Result<(), BuildError> {
        let Some((shape, ..)) = &self.kernel else { return Ok(()) };
        let prepared = self.device.draw(*shape).map(drop);
        self.checks.append(&self.device.checks);
        prepared
    }

    /// Compiles the kernel of [`trajectories`](Self::trajectories) for rows of the shape last prepared.
    pub(crate) fn prepare_trajectories(&mut self, program: &Program) -> Result<(), BuildError> {
        let Some((shape, ..)) = &self.kernel else { return Ok(()) };
        let prepared = self.device.trajectories(program, *shape).map(drop);
        self.checks.append(&self.device.checks);
        prepared
    }

    /// Waits for submissions of an earlier call that was abandoned.
    fn drained(&mut self) -> Result<(), EngineError> {
        // In a browser, callers wait for that before they change anything.
        let wait = if BROWSER { Wait::Polling } else { Wait::Blocking };
        match self.call.drain(&self.device, wait) {
            Poll::Ready(drained) => drained,
            Poll::Pending => Err(EngineError::Timeout { after: self.device.timeout }),
        }
    }

    /// See [`Call::abandon`].
    pub(crate) fn abandon(&mut self) {
        self.call.abandon(&self.device);
    }

    /// See [`Call::drain`].
    pub(crate) fn drain(&mut self, wait: Wait<'_>) -> Poll<Result<(), EngineError>> {
        self.call.drain(&self.device, wait)
    }

    /// Starts to run passes. It does not block, unless it has to compile kernels that were not prepared.
    pub(crate) fn submit(
        &mut self,
        program: &Program,
        passes: &[Pass],
        problem: &Problem<'_>,
    ) -> Result<(), PlanError> {
        let started = Instant::now();
        self.device.check()?;
        self.call.is_free(&self.device)?;
        self.prepare(program, passes, problem).map_err(BuildError::into_engine)?;
        let device = Arc::clone(&self.device);
        // After an error the upload buffer may not be mapped, so the next call allocates new ones.
        device.guard(|| self.start(started, passes, problem)).inspect_err(|_| {
            self.call.abandon(&device);
            self.buffers = None;
        })?;
        self.checks.append(&device.checks);
        Ok(())
    }

    fn start(&mut self, started: Instant, passes: &[Pass], problem: &Problem<'_>) -> Result<(), EngineError> {
        let (Some((shape, kind, kernel)), Some(buffers)) = (&self.kernel, &mut self.buffers) else {
            return Err(EngineError::Driver { message: "nothing was prepared".into() });
        };
        let device = &self.device;
        let at = self.chunks.len().saturating_sub(1) as u64 * stride(&self.device);
        let weights_at = buffers.sizes.weights_at();
        self.chunks.iter_mut().for_each(|chunk| chunk.weights = weights_at);
        self.last = self.chunks.last().map(|chunk| (*chunk, at as u32));

        problem.fields.changed(problem.field_changes, buffers.fields_version, |at, numbers| {
            device.queue.write_buffer(&buffers.fields, 4 * at as u64, bytemuck::cast_slice(numbers));
        });
        buffers.fields_version = Some(problem.field_changes.version());
        let weights = problem.weights;
        if buffers.weights_version != Some(weights.version) {
            let at = buffers.sizes.passes + buffers.sizes.inputs;
            device.queue.write_buffer(&buffers.given, at, bytemuck::cast_slice(weights.values));
            buffers.weights_version = Some(weights.version);
        }
        if let (Some(given), Some(pass)) = (problem.rows, passes.first()) {
            self.tiled.resize(round_up(pass.rows as usize, TILE) * pass.width as usize, 0.0);
            pass.tile(given, &mut self.tiled);
            device.queue.write_buffer(&buffers.rows, 0, bytemuck::cast_slice(&self.tiled));
        }
        fill_upload(device, buffers, &self.chunks, problem)?;

        let submitted = Instant::now();
        let mut encoder = device.device.create_command_encoder(&Default::default());
        let sizes = buffers.sizes;
        let (given, state) = (sizes.passes + sizes.inputs, sizes.summaries + sizes.blocks());
        buffers.upload.copy(device, &mut encoder, 0..given, &buffers.given);
        buffers.upload.copy(device, &mut encoder, given..given + state, &buffers.state);
        let timed = first_timed(buffers, &self.chunks);
        let pace = self.paces.iter().position(|(of, with, _)| (of, with) == (shape, kind));
        let each = pieces_of_submission(device, pace.map(|i| self.paces[i].2));
        let mut pending = Pending::new(device);
        let mut from = 0;
        while timed.min(self.chunks.len().saturating_sub(1)) - from >= each {
            record(device, &mut encoder, kernel, buffers, &self.chunks, from..from + each);
            pending.submit(device, encoder);
            encoder = device.device.create_command_encoder(&Default::default());
            from += each;
        }
        record(device, &mut encoder, kernel, buffers, &self.chunks, from..self.chunks.len());
        let ticks = 8 * u64::from(TICKS);
        if let Some((set, resolved)) = &buffers.ticks {
            encoder.resolve_query_set(set, 0..TICKS, resolved, 0);
            encoder.copy_buffer_to_buffer(resolved, 0, &buffers.back, 0, ticks);
        }
        let results = sizes.summaries + sizes.nominal;
        encoder.copy_buffer_to_buffer(&buffers.state, 0, &buffers.back, ticks, results);
        let adapts = passes.last().is_some_and(|pass| pass.has(ADAPT));
        if adapts {
            let from = sizes.summaries + 2 * sizes.nominal;
            encoder.copy_buffer_to_buffer(&buffers.state, from, &buffers.back, ticks + results, sizes.std_scale);
        }
        if let Some(pass) = passes.last().filter(|pass| returns_second(pass)) {
            // The second moment follows the mean, at the end of each problem's partial results.
            let (each, all) = (4 * u64::from(pass.coordinates), 4 * partials_len(pass));
            for problem in 0..u64::from(pass.problems) {
                let to = ticks + results + sizes.std_scale + problem * each;
                encoder.copy_buffer_to_buffer(&buffers.partials, (problem + 1) * all - each, &buffers.back, to, each);
            }
        }
        // The upload buffer is mapped for the next call. Callbacks run in this order, so it is mapped once the
        // read-back buffer is.
        buffers.upload.map_on_submit(&encoder);
        pending.submit_last(device, encoder, &buffers.back);
        let problems = passes.last().map_or(0, |pass| pass.problems as usize);
        let numbers = [problem.nominal.len(), if adapts { problem.std_scale.len() } else { 0 }];
        let run = Run { started, submitted, problems, numbers };
        self.call.begin(pending, &buffers.back, run);
        Ok(())
    }

    /// Returns the results of the submitted call once it has completed.
    pub(crate) fn finish(&mut self, wait: Wait<'_>) -> Poll<Result<Done<'_>, EngineError>> {
        match self.settle(wait) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into_engine())),
            Poll::Pending => return Poll::Pending,
        }
        let Poll::Ready(run) = self.call.finish(&self.device, wait) else { return Poll::Pending };
        Poll::Ready(run.and_then(|run| self.collect(&run, matches!(wait, Wait::Blocking))))
    }

    /// Reads the results of a completed call. `waited` tells whether the caller blocked until then, so that the elapsed
    /// time is the duration of the call.
    fn collect(&mut self, run: &Run, waited: bool) -> Result<Done<'_>, EngineError> {
        let (Some((shape, kind, kernel)), Some(buffers)) = (&self.kernel, &self.buffers) else {
            return Err(EngineError::Driver { message: "nothing was prepared".into() });
        };
        let (device, sizes, ticks) = (&self.device, buffers.sizes, 8 * TICKS as usize);
        let (nominal, second, sums) = (&mut self.nominal, &mut self.second, &mut self.sums);
        let std_scale = &mut self.std_scale;
        let mut timing = Timing::default();
        device.read(&buffers.back, |back| {
            let (clock, back) = back.split_at(ticks);
            let (summaries, back) = back.split_at(sizes.summaries as usize);
            let (plan, back) = back.split_at(sizes.nominal as usize);
            let (scales, moments) = back.split_at(sizes.std_scale as usize);
            sums.clear();
            sums.extend(
                summaries
                    .chunks_exact(SUMMARY as usize)
                    .take(run.problems)
                    .map(|s| bytemuck::pod_read_unaligned::<Sums>(&s[..size_of::<Sums>()])),
            );
            nominal.clear();
            nominal.extend_from_slice(&bytemuck::cast_slice(plan)[..run.numbers[0]]);
            std_scale.clear();
            std_scale.extend_from_slice(&bytemuck::cast_slice(scales)[..run.numbers[1]]);
            second.clear();
            second.extend_from_slice(bytemuck::cast_slice(&moments[..sizes.second as usize]));
            if let (Some(tick), true) = (device.tick, buffers.ticks.is_some()) {
                let ticks: &[u64] = bytemuck::cast_slice(clock);
                let context = |i: usize| {
                    let passed = ticks[2 * i + 1].saturating_sub(ticks[2 * i]);
                    Some(Duration::from_nanos((passed as f64 * tick) as u64))
                };
                timing.rollout = context(0);
                if matches!(kernel, Kernel::Stages(_)) {
                    (timing.weigh, timing.mean) = (context(1), context(2));
                }
            }
        })?;
        let chunk = run.submitted.elapsed() / self.chunks.len().max(1) as u32;
        match self.paces.iter().position(|(of, with, _)| (of, with) == (shape, kind)) {
            // A polled call may have completed long ago.
            Some(i) if waited => self.paces[i].2 = chunk,
            Some(_) => {}
            None => self.paces.push((*shape, *kind, chunk)),
        }
        timing.total = run.started.elapsed();
        Ok(Done {
            nominal: &mut self.nominal,
            std_scale: &self.std_scale,
            second: &self.second,
            sums: &self.sums,
            timing,
        })
    }

    /// Starts to fetch the rows of the last pass of problem `number`.
    pub(crate) fn submit_fetch(&self, number: u32) -> Result<Fetching, EngineError> {
        self.device.check()?;
        let mut fetching = self.device.guard(|| self.start_fetch(number))?;
        fetching.checks.append(&self.device.checks);
        Ok(fetching)
    }

    fn start_fetch(&self, number: u32) -> Result<Fetching, EngineError> {
        let device = &self.device;
        let (Some(buffers), Some((shape, ..)), Some((pass, at))) = (&self.buffers, &self.kernel, &self.last) else {
            return Err(EngineError::Driver { message: "no pass has been run".into() });
        };
        let (padded, problem) = (round_up(pass.rows as usize, TILE) as u64, u64::from(number));
        let size = bytes(padded * u64::from(pass.width));
        let rows = if pass.has(GIVEN) || of_policy(pass) {
            buffers.rows.clone()
        } else {
            device.buffer("rows", size, Usage::STORAGE | Usage::COPY_SRC)?
        };
        let mut encoder = device.device.create_command_encoder(&Default::default());
        // Rows of a policy are already in memory.
        if !of_policy(pass) {
            let draw = device.draw(*shape).map_err(BuildError::into_engine)?;
            let group = buffers.bind_with(device, &rows);
            let told = Pass { begin: number, ..*pass };
            dispatch_for_rows(device, &mut encoder, buffers, &draw, &group, (&told, *at), pass.rows);
        }
        let parts = [
            (&rows, 4 * problem * u64::from(pass.rows_stride), size),
            (&buffers.scores, problem * 4 * 3 * padded, 4 * 3 * padded),
            (&buffers.log_weights, problem * 4 * padded, 4 * padded),
        ];
        let sizes = parts.map(|(.., size)| size);
        let back = device.buffer("the read-back", sizes.iter().sum(), Usage::MAP_READ | Usage::COPY_DST)?;
        let mut to = 0;
        for (buffer, from, size) in parts {
            encoder.copy_buffer_to_buffer(buffer, from, &back, to, size);
            to += size;
        }
        let mut pending = Pending::new(device);
        pending.submit_last(device, encoder, &back);
        Ok(Fetching { device: Arc::clone(device), pending, checks: Checks::default(), back, sizes })
    }

    /// Rolls out the first `rows` rows of the last pass of problem `number` again, into a buffer, and uploads a plan.
    /// It does not wait for the device, unless it has to compile a kernel. `before` holds buffers that are used again
    /// if they have the right size. In a browser, the next call returns the errors of the device.
    pub(crate) fn trajectories(
        &mut self,
        program: &Program,
        number: u32,
        rows: usize,
        plan: &PlanNumbers<'_>,
        before: Option<&DeviceTrajectories>,
    ) -> Result<DeviceTrajectories, EngineError> {
        self.device.check()?;
        let started = self.device.guard(|| self.start_trajectories(program, number, rows, plan, before));
        self.checks.append(&self.device.checks);
        started
    }

    fn start_trajectories(
        &self,
        program: &Program,
        number: u32,
        rows: usize,
        plan: &PlanNumbers<'_>,
        before: Option<&DeviceTrajectories>,
    ) -> Result<DeviceTrajectories, EngineError> {
        let device = &self.device;
        let (Some(buffers), Some((shape, ..)), Some((pass, at))) = (&self.buffers, &self.kernel, &self.last) else {
            return Err(EngineError::Driver { message: "no pass has been run".into() });
        };
        let (rows, points) = (rows.min(pass.rows as usize), pass.horizon as usize + 1);
        let stride = 4 * (program.states as u64 + 1);
        // The kernel computes addresses in 32 bits.
        let size = (rows as u64).saturating_mul(points as u64 * stride);
        let limit = 4 * u64::from(u32::MAX);
        if size > limit {
            return Err(EngineError::OverLimit { what: "trajectories", requested: size, limit });
        }
        let fit = |what, size: u64, buffer: Option<&wgpu::Buffer>| match buffer {
            Some(buffer) if buffer.size() == bytes(size / 4) => Ok(buffer.clone()),
            _ => device.buffer(what, size, Usage::STORAGE | Usage::VERTEX | Usage::COPY_SRC | Usage::COPY_DST),
        };
        let trajectories = fit("trajectories", size, before.map(|before| &before.trajectories))?;
        let [plan_bytes, control_bytes] = [plan.points, plan.controls].map(bytemuck::cast_slice::<f32, u8>);
        let plan = fit("a plan", plan_bytes.len() as u64, before.map(|before| &before.plan))?;
        let controls = fit("a plan's controls", control_bytes.len() as u64, before.map(|before| &before.controls))?;
        let kernel = device.trajectories(program, *shape).map_err(BuildError::into_engine)?;
        device.queue.write_buffer(&plan, 0, plan_bytes);
        device.queue.write_buffer(&controls, 0, control_bytes);
        let told = Pass { begin: number, end: rows as u32, ..*pass };
        let group = buffers.bind_trajectories(device, &trajectories);
        let mut encoder = device.device.create_command_encoder(&Default::default());
        dispatch_for_rows(device, &mut encoder, buffers, &kernel, &group, (&told, *at), rows as u32);
        device.queue.submit([encoder.finish()]);
        Ok(DeviceTrajectories { trajectories, plan, controls, rows, points, stride })
    }
}

/// Records a kernel that has 64 rows a workgroup, and replaces the pass at offset `at` by the one that it reads. The
/// next call replaces all passes.
fn dispatch_for_rows(
    device: &Device,
    encoder: &mut wgpu::CommandEncoder,
    buffers: &Buffers,
    kernel: &wgpu::ComputePipeline,
    group: &wgpu::BindGroup,
    (pass, at): (&Pass, u32),
    rows: u32,
) {
    device.queue.write_buffer(&buffers.given, u64::from(at), bytemuck::bytes_of(pass));
    let mut compute = encoder.begin_compute_pass(&Default::default());
    let (x, y) = dispatch_grid(rows.div_ceil(64));
    compute.set_pipeline(kernel);
    compute.set_bind_group(0, group, &[at]);
    compute.dispatch_workgroups(x, y, 1);
}

/// Rows being copied from the device.
pub(crate) struct Fetching {
    device: Arc<Device>,
    pending: Pending,
    checks: Checks,
    back: wgpu::Buffer,
    /// Bytes of rows, scores and log-weights.
    sizes: [u64; 3],
}

impl Fetching {
    /// Returns the rows once they have been copied.
    pub(crate) fn finish(&mut self, wait: Wait<'_>) -> Poll<Result<Fetched, EngineError>> {
        match self.checks.poll(wait) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Err(self.device.check().err().unwrap_or(error.into_engine())));
            }
            Poll::Pending => return Poll::Pending,
        }
        let Poll::Ready(over) = self.pending.finish(&self.device, wait) else { return Poll::Pending };
        Poll::Ready(over.and_then(|()| self.collect()))
    }

    fn collect(&self) -> Result<Fetched, EngineError> {
        let mut fetched = Fetched::default();
        self.device.read(&self.back, |back| {
            let [rows, scores, _] = self.sizes.map(|size| size as usize);
            let (rows, back) = back.split_at(rows);
            let (scores, log_weights) = back.split_at(scores);
            let [rows, scores, log_weights] = [rows, scores, log_weights].map(bytemuck::pod_collect_to_vec);
            fetched = Fetched { rows, scores, log_weights };
        })?;
        Ok(fetched)
    }
}

/// Rejects a pass whose loops a software adapter would end early.
fn within_turns(device: &Device, pass: &Pass) -> Result<(), EngineError> {
    if !device.limits_turns() {
        return Ok(());
    }
    let (rows, horizon) = (u64::from(pass.rows), u64::from(pass.horizon));
    // Passes over the rows, of which each of 64 lanes takes vectors of four: one pass stores their costs, then there
    // are at most two for each sample of the root finder, or one for each of 32 bits.
    let passes = match pass.search {
        EFFECTIVE | DIVERGENCE => 1 + 2 * u64::from(MAX_EVALUATIONS),
        ELITE => 1 + 32,
        FIXED => 0,
        _ => 2,
    };
    let filtered = if pass.has(FILTERED) { iterations_of_filter(pass) } else { 0 };
    // Up to four loops over the scenarios; to rank them, one over all for each.
    let scenarios = u64::from(pass.scenarios);
    let ranks = pass.risk == TAIL && pass.risk_value > 1.0 && pass.risk_value < pass.scenarios as f32;
    let risk = scenarios * if ranks { scenarios + 4 } else { 4 };
    // One iteration for each step, one for its time block, and one in which the loop within the block finds that it is
    // over. Blocks of two or four steps have fewer.
    let whole_blocks = !of_policy(pass) && (pass.width / pass.horizon).is_multiple_of(4);
    let each_step = if whole_blocks { 3 } else { 2 };
    for (what, requested, limit) in [
        ("loop iterations of filtered noise on a software adapter", filtered, MAX_LOOP_ITERATIONS),
        ("time steps on a software adapter", horizon, MAX_LOOP_ITERATIONS / each_step),
        ("loop iterations of the risk of a row on a software adapter", risk, MAX_LOOP_ITERATIONS),
        ("loop iterations of the temperature search on a software adapter", rows * passes / 256, MAX_LOOP_ITERATIONS),
    ] {
        if requested > limit {
            return Err(EngineError::OverLimit { what, requested, limit });
        }
    }
    Ok(())
}

/// An upper bound on the loop iterations of an invocation that filtered noise adds to a kernel on a software adapter.
pub(super) fn iterations_of_filter(pass: &Pass) -> u64 {
    const LANES: u64 = 16;
    let [horizon, innovations, width, coordinates] =
        [pass.horizon, pass.innovations(), pass.width, pass.coordinates].map(u64::from);
    // A rollout has a loop over blocks of innovations, in it one over innovations, and in that one over time steps. The
    // iteration in which a loop finds that it is over counts.
    let rollout = horizon + 4 * innovations;
    // One workgroup merges all coordinates, LANES at a time, and then filters its share of the controls.
    let groups = u64::from(pass.rows).div_ceil(GROUP as u64);
    let merge = coordinates.div_ceil(LANES) * (4 + groups);
    let step = (2 * innovations + horizon) * (width / horizon).div_ceil(LANES);
    rollout.max(merge + step)
}

/// The parameters that the rollout kernel must be specialized to.
fn shape(device: &Device, passes: &[Pass], problem: &Problem<'_>) -> KernelConfig {
    let mut layout = problem.layout;
    let off_diagonal = |(i, l): (usize, &f32)| i / layout.controls != i % layout.controls && *l != 0.0;
    let is_diagonal = |inputs: &[f32]| {
        let factor = &inputs[layout.factor()..][..layout.controls * layout.controls];
        !factor.iter().enumerate().any(off_diagonal)
    };
    let diagonal = passes.first().is_none_or(|pass| problem.sections(pass).all(is_diagonal));
    let flags = passes.first().map_or(0, |pass| source::specialized(pass.flags));
    // The offset and the number of the references are run-time data.
    (layout.reference_rows, layout.reference_columns) = (0, 0);
    // The end of the parameters is run-time data, too, except in the starts of a policy's episodes.
    if !passes.first().is_some_and(of_policy) {
        layout.params = 0;
    }
    let (int64, software) = (device.int64, device.software());
    let filter = problem.filter.filter(|_| flags & FILTERED != 0).copied();
    let scenarios = passes.first().is_some_and(|pass| pass.scenarios > 0);
    let repeated = passes.first().is_some_and(|pass| pass.has(PERTURBED) && pass.episodes > 1);
    KernelConfig { layout, flags, scenarios, diagonal, int64, software, repeated, filter }
}

/// Writes passes, an empty summary, inputs and nominal to the upload buffer.
fn fill_upload(
    device: &Device,
    buffers: &mut Buffers,
    passes: &[Pass],
    problem: &Problem<'_>,
) -> Result<(), EngineError> {
    let sizes = buffers.sizes;
    buffers.upload.fill(device, |put| {
        for (i, pass) in passes.iter().enumerate() {
            put(i as u64 * stride(device), bytemuck::bytes_of(pass));
        }
        put(sizes.passes, bytemuck::cast_slice(problem.inputs));
        let summaries = sizes.passes + sizes.inputs;
        for at in (summaries..summaries + sizes.summaries).step_by(SUMMARY as usize) {
            put(at, bytemuck::cast_slice(&NO_ROWS));
        }
        let nominal = summaries + sizes.summaries;
        put(nominal, bytemuck::cast_slice(problem.nominal));
        put(nominal + 2 * sizes.nominal, bytemuck::cast_slice(problem.std_scale));
    })
}

/// The maximum number of chunks in a submission.
///
/// A software adapter can take longer for a long list than the time limit of a call while still making progress. There
/// each submission has its own time limit and is sized to use a sixteenth of it, given the durations of the last call.
/// The first call submits chunks one at a time. Other devices get all chunks in one submission.
fn pieces_of_submission(device: &Device, pace: Option<Duration>) -> usize {
    if device.adapter.kind != AdapterKind::Software {
        return usize::MAX;
    }
    let Some(pace) = pace else { return 1 };
    (device.timeout.as_nanos() / 16 / pace.as_nanos().max(1)).clamp(1, usize::MAX as u128) as usize
}

/// The first chunk of the pass whose stages are timed; the number of chunks if none is.
fn first_timed(buffers: &Buffers, chunks: &[Pass]) -> usize {
    let timed = if buffers.ticks.is_some() { chunks.iter().rposition(|chunk| chunk.begin == 0) } else { None };
    timed.unwrap_or(chunks.len())
}

/// Records all dispatches of some chunks, in one compute pass. If stages are timed, each stage of the last pass is a
/// compute pass of its own.
fn record(
    device: &Device,
    encoder: &mut wgpu::CommandEncoder,
    kernel: &Kernel,
    buffers: &Buffers,
    chunks: &[Pass],
    range: Range<usize>,
) {
    type StepContext = fn(&mut wgpu::ComputePass<'_>, &Kernel, &Pass);
    let stages: &[StepContext] = match kernel {
        Kernel::Whole(_) => &[rollout],
        Kernel::Stages(_) => &[rollout, weigh, mean],
    };
    let first = first_timed(buffers, chunks).min(range.end);
    let take = |compute: &mut wgpu::ComputePass<'_>, i: usize, stages: &[StepContext]| {
        compute.set_bind_group(0, &buffers.group, &[(i as u64 * stride(device)) as u32]);
        stages.iter().for_each(|context| context(compute, kernel, &chunks[i]));
    };
    if first > range.start {
        let mut compute = encoder.begin_compute_pass(&Default::default());
        (range.start..first).for_each(|i| take(&mut compute, i, stages));
    }
    let Some((query_set, _)) = buffers.ticks.as_ref().filter(|_| first < range.end) else { return };
    for (i, context) in stages.iter().enumerate() {
        let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
            query_set,
            beginning_of_pass_write_index: Some(2 * i as u32),
            end_of_pass_write_index: Some(2 * i as u32 + 1),
        });
        let mut compute =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("gibbs"), timestamp_writes });
        (first..range.end).for_each(|i| take(&mut compute, i, &[*context]));
    }
}

fn rollout(compute: &mut wgpu::ComputePass<'_>, kernel: &Kernel, pass: &Pass) {
    let tiles = pass.rows.div_ceil(TILE as u32);
    let (x, y) = dispatch_grid(tiles);
    let chain = match kernel {
        Kernel::Stages(chain) => chain,
        Kernel::Whole(whole) => {
            compute.set_pipeline(whole);
            return compute.dispatch_workgroups(1, 1, pass.problems);
        }
    };
    match &chain.score {
        Score::Rollout { rollout, risk } => {
            compute.set_pipeline(rollout);
            compute.dispatch_workgroups(x, y, pass.problems * pass.rollouts());
            if let Some(risk) = risk {
                compute.set_pipeline(risk);
                compute.dispatch_workgroups(x, y, pass.problems);
            }
        }
        Score::Episodes { perturb, episode, gather, abreast } => {
            if let (Some(perturb), 0) = (perturb, pass.begin) {
                compute.set_pipeline(perturb);
                compute.dispatch_workgroups(tiles.min(65_535), pass.width.div_ceil(4).min(65_535), pass.problems);
            }
            let invocations = pass.rows * pass.episodes.div_ceil(*abreast);
            let (all, more) = dispatch_grid(invocations.div_ceil(TILE as u32));
            compute.set_pipeline(episode);
            compute.dispatch_workgroups(all, more, pass.problems);
            if is_over(pass) {
                compute.set_pipeline(gather);
                compute.dispatch_workgroups(x, y, pass.problems);
            }
        }
    }
}

/// Whether this chunk completes the scoring of its pass.
fn is_over(chunk: &Pass) -> bool {
    chunk.end == chunk.horizon
}

fn weigh(compute: &mut wgpu::ComputePass<'_>, kernel: &Kernel, pass: &Pass) {
    let (Kernel::Stages(chain), true) = (kernel, is_over(pass)) else { return };
    if let (Some(temperature), true) = (&chain.temperature, pass.search != FIXED || pass.has(SIGNED)) {
        compute.set_pipeline(temperature);
        compute.dispatch_workgroups(1, 1, pass.problems);
    }
    if let Some(weigh) = &chain.weigh {
        let (x, y) = dispatch_grid(pass.rows.div_ceil(256));
        compute.set_pipeline(weigh);
        compute.dispatch_workgroups(x, y, pass.problems);
    }
}

fn mean(compute: &mut wgpu::ComputePass<'_>, kernel: &Kernel, pass: &Pass) {
    let (Kernel::Stages(chain), true) = (kernel, is_over(pass)) else { return };
    weighted_mean(compute, &chain.group_mean, &chain.merge, pass, chain.parts(pass));
}

/// Records the two dispatches of a weighted mean. The coordinates of a group are split over `parts` workgroups.
pub(crate) fn weighted_mean(
    compute: &mut wgpu::ComputePass<'_>,
    group_mean: &wgpu::ComputePipeline,
    merge: &wgpu::ComputePipeline,
    pass: &Pass,
    parts: u32,
) {
    const COORDINATES: u32 = 16;
    compute.set_pipeline(group_mean);
    compute.dispatch_workgroups(pass.rows.div_ceil(GROUP as u32), parts, pass.problems);
    compute.set_pipeline(merge);
    // The step of filtered rows needs all coordinates.
    let workgroups = if pass.has(FILTERED) { 1 } else { pass.coordinates.div_ceil(COORDINATES) };
    compute.dispatch_workgroups(workgroups, 1, pass.problems);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::mppi::Mppi;
    use crate::control::mppi::options::MppiOptions;
    use crate::model::systems::Pendulum;
    use crate::runtime::task::Task;
    use crate::runtime::{Backend, Engine, EngineOptions, Workspace as Any};

    #[test]
    fn each_of_two_kernels_that_take_turns_keeps_its_pace() {
        let on = EngineOptions { backend: Backend::Software, ..Default::default() };
        let Ok(engine) = Engine::with_options(on) else {
            assert!(std::env::var_os("GIBBS_REQUIRE_GPU").is_none(), "no software adapter");
            eprintln!("SKIPPED: no software adapter");
            return;
        };
        let options = MppiOptions {
            task: Task { horizon: 3, ..Default::default() },
            samples: 100,
            iterations: 4,
            weighting: crate::Temperature::Fixed(1.0).into(),
            ..Default::default()
        };
        let mut mppi = Mppi::new(&engine, Pendulum::default(), options).expect("valid");
        // The number of chunks in the next submission with the kernel of the last call, and the number of kernels with
        // a recorded duration.
        let known = |mppi: &Mppi<2, 1, Pendulum>| {
            let Any::Gpu(workspace) = mppi.workspace() else { panic!("it is a software adapter") };
            let (shape, kind, _) = workspace.kernel.as_ref().expect("it has run");
            let pace = workspace.paces.iter().find(|(of, with, _)| (of, with) == (shape, kind)).map(|pace| pace.2);
            (pieces_of_submission(&workspace.device, pace) > 1, workspace.paces.len())
        };
        // The first call with given rows reallocates the buffers.
        mppi.plan_rows(&[1.0, 0.0], &[0.1; 300]).expect("it runs");
        assert_eq!(known(&mppi), (true, 1));
        for _ in 0..2 {
            mppi.plan(&[1.0, 0.0]).expect("it runs");
            assert_eq!(known(&mppi), (true, 2));
            mppi.plan_rows(&[1.0, 0.0], &[0.1; 300]).expect("it runs");
            assert_eq!(known(&mppi), (true, 2));
        }
        mppi.resize(4, 100).expect("there is room");
        assert!(!known(&mppi).0, "larger buffers, slower pieces");
    }
}
