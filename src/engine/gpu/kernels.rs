//! Bind group layout and pipelines. One layout serves every kernel, so that a bind group is set once per submission.

use super::device::Device;
use super::source;
use crate::engine::program::Program;
use crate::error::{BuildError, EngineError, ModelError};
use crate::update::{Layout, Update};

/// The bindings of `shaders/update.wgsl`, and the pipeline layout over them.
pub(crate) struct Layouts {
    pub(crate) bindings: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

/// The bindings that kernels only read.
const READ_ONLY: [u32; 2] = [1, 2];
/// How many bindings there are; number 0 is the update.
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
                min_binding_size: (binding == 0).then_some(UPDATE_SIZE),
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

/// How many bytes of an update a kernel sees.
pub(crate) const UPDATE_SIZE: wgpu::BufferSize = match wgpu::BufferSize::new(size_of::<Update>() as u64) {
    Some(size) => size,
    None => panic!("an update is not empty"),
};

/// The pipelines of one source text, in the order of its entry points.
pub(crate) struct Kernels(pub(crate) Vec<wgpu::ComputePipeline>);

/// Everything that one model's updates run through.
pub(crate) struct Chain {
    pub(crate) rollout: wgpu::ComputePipeline,
    pub(crate) temperature: wgpu::ComputePipeline,
    pub(crate) weigh: wgpu::ComputePipeline,
    pub(crate) group_mean: wgpu::ComputePipeline,
    pub(crate) merge: wgpu::ComputePipeline,
    pub(crate) step: wgpu::ComputePipeline,
}

impl Device {
    /// The pipelines of some entry points of a source, compiled once per device.
    pub(crate) fn compile<const E: usize>(
        &self,
        source: &str,
        entries: [&'static str; E],
    ) -> Result<[wgpu::ComputePipeline; E], BuildError> {
        self.check()?;
        let kernels = self.kernels(source, || {
            let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
            let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(entries[0]),
                source: wgpu::ShaderSource::Wgsl(source.into()),
            });
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
                    cache: None,
                })
            };
            let pipelines = entries.iter().map(pipeline).collect();
            match pollster::block_on(scope.pop()) {
                Some(error) => {
                    self.check()?;
                    Err(ModelError::Shader { message: error.to_string() }.into())
                }
                None => Ok(Kernels(pipelines)),
            }
        })?;
        let all: Result<[_; E], _> = kernels.0.clone().try_into();
        all.map_err(|_| EngineError::Driver { message: "a pipeline is missing".into() }.into())
    }

    pub(crate) fn chain(&self, program: &Program, layout: Layout, diagonal: bool) -> Result<Chain, BuildError> {
        let [temperature, weigh] = self.compile(&source::weigh(), ["temperature", "weigh"])?;
        let [group_mean, merge] = self.mean_kernels()?;
        let [step] = self.compile(&source::step(layout), ["step_nominal"])?;
        let [rollout] = self.compile(&source::rollout(program, layout, diagonal), ["rollout"])?;
        Ok(Chain { rollout, temperature, weigh, group_mean, merge, step })
    }

    pub(crate) fn mean_kernels(&self) -> Result<[wgpu::ComputePipeline; 2], BuildError> {
        self.compile(&source::weighted_mean(), ["group_mean", "merge"])
    }
}
