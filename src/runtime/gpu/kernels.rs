//! Bind group layout and pipelines. One layout serves every kernel, so that a bind group is set once per submission.

use std::sync::Arc;

use super::checks::{Closed, Scopes};
use super::device::{Device, Keep};
use super::source;
use super::source::KernelConfig;
use super::warm_up::Idle;
use super::workspace::iterations_of_filter;
use crate::error::{BuildError, EngineError, ModelError};
use crate::kernels::pass::{FILTERED, FIXED, FLEET, GROUP, Pass, SIGNED, TILE};
use crate::runtime::program::{PolicyRows, Program, Scoring};
use crate::runtime::span;

/// The bindings of `shaders/pass.wgsl`, and the pipeline layout over them.
pub(crate) struct Layouts {
    pub(crate) bindings: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

/// The bindings that kernels only read.
const READ_ONLY: [u32; 2] = [1, 2];
/// The number of bindings; binding 0 is the pass.
pub(crate) const BINDINGS: u32 = 9;

impl Layouts {
    pub(crate) fn new(device: &wgpu::Device) -> Self {
        let entry = |binding: u32| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match binding {
                    0 => wgpu::BufferBindingType::Uniform,
                    _ => wgpu::BufferBindingType::Storage { read_only: READ_ONLY.contains(&binding) },
                },
                has_dynamic_offset: binding == 0,
                min_binding_size: (binding == 0).then_some(PASS_SIZE),
            },
            count: None,
        };
        let entries: Vec<_> = (0..BINDINGS).map(entry).collect();
        let bindings = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some("gibbs"), entries: &entries });
        let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("gibbs"),
            bind_group_layouts: &[Some(&bindings)],
            immediate_size: 0,
        });
        Self { bindings, pipeline }
    }
}

/// The maximum number of loop iterations of an invocation, over all loops: Mesa's software adapters silently end every
/// loop of a kernel after 65,535 iterations.
pub(crate) const MAX_LOOP_ITERATIONS: u64 = 60_000;

/// The size of the pass in the uniform binding, in bytes.
pub(crate) const PASS_SIZE: wgpu::BufferSize = match wgpu::BufferSize::new(size_of::<Pass>() as u64) {
    Some(size) => size,
    None => panic!("a pass is not empty"),
};

/// Whether a source needs run-time checks (of indices, of endless loops).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BoundsChecks {
    /// The source consists of the crate's own code and traced functions.
    Omit,
    /// The source contains a user's hand-written WGSL.
    Keep,
}

impl BoundsChecks {
    /// For a kernel that contains a model.
    fn of(program: &Program) -> Self {
        if program.functions.is_empty() { Self::Omit } else { Self::Keep }
    }
}

/// The pipelines of one source text.
pub(crate) struct Kernels {
    /// The entry points, in the order of the pipelines.
    pub(crate) entries: Vec<&'static str>,
    pub(crate) pipelines: Vec<wgpu::ComputePipeline>,
    pub(crate) bounds_checks: BoundsChecks,
}

/// The kernels that draw and score rows.
pub(crate) enum Score {
    /// One dispatch over all rows and scenarios, and one that combines the costs of each row if there are scenarios.
    Rollout { rollout: wgpu::ComputePipeline, risk: Option<wgpu::ComputePipeline> },
    /// The parameters of a policy are drawn (where rows are parameters), run in episodes, and the episodes of a row are
    /// gathered.
    Episodes {
        perturb: Option<wgpu::ComputePipeline>,
        episode: wgpu::ComputePipeline,
        gather: wgpu::ComputePipeline,
        /// The episodes of a row that an invocation runs.
        abreast: u32,
    },
}

/// All kernels of one model's passes.
pub(crate) enum Kernel {
    /// One dispatch runs the whole pass.
    Whole(wgpu::ComputePipeline),
    /// A dispatch for each stage.
    Stages(Chain),
}

/// The stages of a pass.
pub(crate) struct Chain {
    pub(crate) score: Score,
    /// Present if λ has to be solved for.
    pub(crate) temperature: Option<wgpu::ComputePipeline>,
    /// Present if `group_mean` does not compute the weights itself.
    pub(crate) weigh: Option<wgpu::ComputePipeline>,
    pub(crate) group_mean: wgpu::ComputePipeline,
    /// Merges the groups and steps.
    pub(crate) merge: wgpu::ComputePipeline,
    /// Time steps that an invocation of `group_mean` processes at once; `None` if a workgroup processes 16 coordinates
    /// instead.
    steps: Option<u32>,
    /// The number of workgroups that keeps the device busy.
    enough: u32,
}

impl Chain {
    /// The number of workgroups that split the coordinates of one group of rows. Where they split time steps, the
    /// number is free: each workgroup has to compute the group's weights first, so there are no more than the device
    /// needs.
    pub(crate) fn parts(&self, pass: &Pass) -> u32 {
        let Some(steps) = self.steps else { return pass.coordinates.div_ceil(16) };
        let groups = (pass.rows.div_ceil(GROUP as u32)).saturating_mul(pass.problems);
        let stretches = pass.innovations().div_ceil(steps);
        // Bounds the loop iterations of a workgroup for software adapters: see `MAX_LOOP_ITERATIONS`.
        self.enough.div_ceil(groups).max(stretches.div_ceil(2048)).clamp(1, stretches)
    }
}

/// Whether any of the passes has to read the costs of all rows before it can weigh any of them.
pub(crate) fn searches(passes: &[Pass]) -> bool {
    passes.iter().any(|pass| pass.search != FIXED || pass.has(SIGNED))
}

/// Runs two closures in parallel, where there are threads.
fn both<A: Send, B: Send>(
    a: impl FnOnce() -> Result<A, BuildError> + Send,
    b: impl FnOnce() -> Result<B, BuildError> + Send,
) -> Result<(A, B), BuildError> {
    #[cfg(feature = "rayon")]
    let (a, b) = rayon::join(a, b);
    #[cfg(not(feature = "rayon"))]
    let (a, b) = (a(), b());
    Ok((a?, b?))
}

impl Device {
    /// The pipelines of some entry points of a source, compiled and dispatched for the first time once per device.
    /// Every pipeline is created here, so that no call meets one that the driver has yet to compile.
    pub(crate) fn compile<const E: usize>(
        &self,
        source: &str,
        bounds_checks: BoundsChecks,
        entries: [&'static str; E],
        idle: Idle,
    ) -> Result<[wgpu::ComputePipeline; E], BuildError> {
        self.check()?;
        let compile = |keep: Keep| {
            span!(DEBUG, "compile", kernel = entries[0]);
            let scopes = Scopes::validation(&self.device);
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(entries[0]),
                source: wgpu::ShaderSource::Wgsl(source.into()),
            };
            let module = match bounds_checks {
                BoundsChecks::Keep => self.device.create_shader_module(descriptor),
                // SAFETY: the crate's own kernels index within the sizes that their buffers were allocated for, which
                // `bounds::within` checks before every call, and all their loops end: see the address computations in
                // shaders/*.wgsl, and `choose` there for the list of rows, which has no more entries than a group has
                // rows. A traced model or policy uses data as indices only to look up fields, where the indices are
                // clamped, and has no loops but those over the layers of a network, within the parameters that the
                // policy was checked to have, or the weights that the task was.
                BoundsChecks::Omit => unsafe {
                    let unchecked = wgpu::ShaderRuntimeChecks::unchecked();
                    self.device.create_shader_module_trusted(descriptor, unchecked)
                },
            };
            let pipeline = |entry: &&'static str| {
                self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some(entry),
                    layout: Some(&self.layouts.pipeline),
                    module: &module,
                    entry_point: Some(entry),
                    compilation_options: wgpu::PipelineCompilationOptions {
                        // Every kernel writes its shared memory before it reads it.
                        zero_initialize_workgroup_memory: false,
                        ..Default::default()
                    },
                    cache: self.cache.as_ref().map(|(cache, _)| cache),
                })
            };
            let pipelines = entries.iter().map(pipeline).collect();
            let kernels = Arc::new(Kernels { entries: entries.to_vec(), pipelines, bounds_checks });
            let shader = |error: wgpu::Error| ModelError::Shader { message: error.to_string() };
            let late = {
                let (keep, kernels) = (keep.clone(), Arc::clone(&kernels));
                move |error: Option<wgpu::Error>| {
                    error.map_or(Ok(()), |error| Err(shader(error)))?;
                    keep.keep(kernels);
                    Ok(())
                }
            };
            match scopes.close(&self.checks, late) {
                Closed::Now(Some(error)) => {
                    self.check()?;
                    return Err(shader(error).into());
                }
                Closed::Now(None) => {
                    self.warm_up(&kernels.pipelines, idle)?;
                    keep.keep(Arc::clone(&kernels));
                }
                Closed::Later => self.warm_up(&kernels.pipelines, idle)?,
            }
            Ok(kernels)
        };
        let kernels = self.kernels(source, |keep| self.guard(|| compile(keep)))?;
        let all: Result<[_; E], _> = kernels.pipelines.clone().try_into();
        all.map_err(|_| EngineError::Driver { message: "a pipeline is missing".into() }.into())
    }

    /// Whether one workgroup should run a whole pass: where the rows are so few that there is one per invocation, or
    /// the problems so many that they keep the device busy.
    pub(crate) fn does_whole(&self, program: &Program, passes: &[Pass]) -> bool {
        let many = if self.software() { 2 } else { 64 };
        // Rows are rolled out in whole tiles, one after the other.
        let tiles = |u: &Pass| u64::from(u.rows).div_ceil(TILE as u64);
        let filter = |u: &Pass| if u.has(FILTERED) { tiles(u) * iterations_of_filter(u) } else { 0 };
        let networks = |u: &Pass| tiles(u) * program.requirements.loop_iterations * u64::from(u.horizon);
        let loop_iterations =
            |u: &Pass| tiles(u) * TILE as u64 * u64::from(u.horizon + u.coordinates) / 32 + filter(u) + networks(u);
        let small = |u: &Pass| {
            let most = if u.problems >= many { GROUP as u32 } else { 256 };
            u.scenarios == 0 && u.rows <= most && loop_iterations(u) < MAX_LOOP_ITERATIONS
        };
        // In the kernels of separate stages, a user's own WGSL has fewer names to avoid.
        program.scoring == Scoring::Model && program.functions.is_empty() && passes.iter().all(small)
    }

    /// The kernels of a model. `whole` and `solves_temperature`: the results of [`does_whole`](Self::does_whole) and
    /// [`searches`].
    pub(crate) fn kernel(
        &self,
        program: &Program,
        shape: KernelConfig,
        [whole, solves_temperature]: [bool; 2],
    ) -> Result<Kernel, BuildError> {
        if whole {
            let (source, idle) = (source::whole(program, shape, solves_temperature), shape.idle());
            let [whole] = self.compile(&source, BoundsChecks::Omit, ["whole"], idle)?;
            return Ok(Kernel::Whole(whole));
        }
        Ok(Kernel::Stages(self.chain(program, shape, solves_temperature)?))
    }

    /// The kernels of separate stages. They are compiled in parallel, starting with those that take lavapipe longest.
    fn chain(&self, program: &Program, shape: KernelConfig, solves_temperature: bool) -> Result<Chain, BuildError> {
        // Rows of a policy are in memory, and a separate kernel weighs them. Other rows are drawn again and weighed in
        // `group_mean`.
        let drawn = !matches!(program.scoring, Scoring::Policy(_));
        let mean = || if drawn { self.mean_of_draws(shape) } else { self.mean_of_rows() };
        let ours = |source: String, entry| self.compile(&source, BoundsChecks::Omit, [entry], Idle::NOTHING);
        let temperature =
            || solves_temperature.then(|| ours(source::temperature(self.software()), "temperature")).transpose();
        let weigh = || (!drawn).then(|| ours(source::weigh(), "weigh")).transpose();
        let fleet = shape.flags & FLEET != 0;
        let merge = || {
            let source = source::merge_and_step(shape.layout, shape.filter, fleet, self.software());
            // A filter reads innovations before it finds that there are no rows.
            let idle = if shape.filter.is_some() { shape.idle() } else { Idle::NOTHING };
            self.compile(&source, BoundsChecks::Omit, ["merge"], idle)
        };
        let rest = || both(temperature, || Ok((weigh()?, merge()?)));
        let (group_mean, (score, (temperature, (weigh, [merge])))) =
            both(mean, || both(|| self.score(program, shape), rest))?;
        let [temperature, weigh] = [temperature, weigh].map(|kernel| kernel.map(|[kernel]| kernel));
        let enough = if self.software() { 8 } else { 1024 };
        let steps = drawn.then(|| shape.steps() as u32);
        Ok(Chain { score, temperature, weigh, group_mean, merge, steps, enough })
    }

    /// The kernels that depend on the model.
    fn score(&self, program: &Program, shape: KernelConfig) -> Result<Score, BuildError> {
        let bounds_checks = BoundsChecks::of(program);
        if let Scoring::Policy(scheme) = program.scoring {
            let source = source::episodes(program, shape);
            let entries = ["perturb", "episode", "gather"];
            let [perturb, episode, gather] = self.compile(&source, bounds_checks, entries, Idle::NOTHING)?;
            let perturb = (scheme == PolicyRows::ParameterSpace).then_some(perturb);
            let abreast = source::side_by_side_episodes(program, shape);
            return Ok(Score::Episodes { perturb, episode, gather, abreast });
        }
        let [rollout] = self.compile(&source::rollout(program, shape), bounds_checks, ["rollout"], Idle::NOTHING)?;
        let risk = || self.compile(&source::risk(), BoundsChecks::Omit, ["combine"], Idle::NOTHING);
        let risk = shape.scenarios.then(risk).transpose()?.map(|[risk]| risk);
        Ok(Score::Rollout { rollout, risk })
    }

    /// The kernel of the weighted mean of rows that are drawn again.
    fn mean_of_draws(&self, shape: KernelConfig) -> Result<wgpu::ComputePipeline, BuildError> {
        let (source, idle) = (source::mean_of_draws(shape), shape.idle());
        let [group_mean] = self.compile(&source, BoundsChecks::Omit, ["group_mean"], idle)?;
        Ok(group_mean)
    }

    /// The kernel of the weighted mean of rows that are in memory.
    pub(crate) fn mean_of_rows(&self) -> Result<wgpu::ComputePipeline, BuildError> {
        let source = source::mean_of_rows(self.software());
        let [group_mean] = self.compile(&source, BoundsChecks::Omit, ["group_mean"], Idle::NOTHING)?;
        Ok(group_mean)
    }

    /// The kernel that merges the results of all groups.
    pub(crate) fn merge(&self) -> Result<wgpu::ComputePipeline, BuildError> {
        let [merge] = self.compile(&source::merge(self.software()), BoundsChecks::Omit, ["merge"], Idle::NOTHING)?;
        Ok(merge)
    }

    /// The kernel that stores the rows of a pass.
    pub(crate) fn draw(&self, shape: KernelConfig) -> Result<wgpu::ComputePipeline, BuildError> {
        let [draw] = self.compile(&source::draw(shape), BoundsChecks::Omit, ["draw"], Idle::NOTHING)?;
        Ok(draw)
    }

    /// The kernel that stores the states of the rows of a pass.
    pub(crate) fn trajectories(
        &self,
        program: &Program,
        shape: KernelConfig,
    ) -> Result<wgpu::ComputePipeline, BuildError> {
        let (source, bounds_checks) = (source::trajectories(program, shape), BoundsChecks::of(program));
        let [trajectories] = self.compile(&source, bounds_checks, ["trajectories"], Idle::NOTHING)?;
        Ok(trajectories)
    }
}
