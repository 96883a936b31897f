//! Translates kernels to the languages of all graphics interfaces, by naga and with the settings of wgpu.

use std::path::Path;

use anyhow::{Context, Result, bail};
use naga::back::{hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};

use crate::cases::Kernel;

/// Writes a kernel as WGSL and MSL (`NAME.wgsl`, `NAME.metal`), and each of its entry points as SPIR-V and HLSL
/// (`NAME.ENTRY.spv`, `NAME.ENTRY.hlsl`).
pub fn write(kernel: &Kernel, name: &str, folder: &Path) -> Result<()> {
    let source = &kernel.source;
    let put = |ending: &str, data: &[u8]| -> Result<()> {
        let path = folder.join(format!("{name}.{ending}"));
        std::fs::write(&path, data).with_context(|| format!("{} cannot be written", path.display()))
    };
    put("wgsl", source.wgsl.as_bytes())?;
    let module = match naga::front::wgsl::parse_str(&source.wgsl) {
        Ok(module) => module,
        Err(error) => bail!("{}", error.emit_to_string(&source.wgsl)),
    };
    let int64 = kernel.target.int64;
    let capabilities = if int64 { Capabilities::SHADER_INT64 } else { Capabilities::empty() };
    let info = match Validator::new(ValidationFlags::all(), capabilities).validate(&module) {
        Ok(info) => info,
        Err(error) => bail!("{}", error.emit_to_string(&source.wgsl)),
    };
    let checked = source.bounds_checks;
    let policy = if checked { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
    let bounds_check_policies =
        BoundsCheckPolicies { index: policy, buffer: policy, image_load: policy, binding_array: policy };

    let options = msl::Options {
        lang_version: if int64 { (2, 3) } else { (2, 0) },
        bounds_check_policies,
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: checked,
        ..Default::default()
    };
    let (metal, _) = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())?;
    put("metal", metal.as_bytes())?;

    for entry in &source.entries {
        let options = spv::Options {
            // Vulkan 1.2 supports SPIR-V up to 1.5.
            lang_version: (1, 5),
            flags: spv::WriterFlags::empty(),
            bounds_check_policies,
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: checked,
            ..Default::default()
        };
        let pipeline =
            spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: (*entry).to_owned() };
        let words = spv::write_vec(&module, &info, &options, Some(&pipeline))?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        put(&format!("{entry}.spv"), &bytes)?;

        let options = hlsl::Options {
            shader_model: if int64 { hlsl::ShaderModel::V6_0 } else { hlsl::ShaderModel::V5_1 },
            restrict_indexing: checked,
            force_loop_bounding: checked,
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        };
        let pipeline = hlsl::PipelineOptions { entry_point: Some((naga::ShaderStage::Compute, (*entry).to_owned())) };
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &options, &pipeline).write(&module, &info, None)?;
        put(&format!("{entry}.hlsl"), text.as_bytes())?;
    }
    Ok(())
}
