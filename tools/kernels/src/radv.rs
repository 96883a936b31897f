//! Statistics of what a Vulkan driver compiles the kernels to, by `VK_KHR_pipeline_executable_properties`. With
//! `RADV_FORCE_FAMILY=gfx1100`, Mesa's driver for AMD compiles for such a GPU without having one.
//!
//! Vulkan is called directly, because wgpu cannot open a driver without a GPU: it needs fences, which need the kernel's
//! driver.

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use ash::khr::pipeline_executable_properties as executable;
use ash::vk;

use super::assembly::{self, Mix};
use super::chain::Chains;

/// The largest values that [`check`] accepts. They leave room for other versions of Mesa.
const MAX_VGPRS: u64 = 192;
const MAX_CODE_BYTES: u64 = 64 * 1024;
const MAX_SECONDS: f64 = 10.0;

/// Kernels that store the units of a network in scratch memory, where they are indexed at run time, and the largest
/// number of units per invocation (twice those of a network where two episodes run side by side).
const STORING: [(&str, u64); 6] = [
    ("cart-pole-64-scored", 65),
    ("cart-pole-64-clipped-scored", 65),
    ("quadrotor-64x64-perturbed", 2 * 65),
    ("quadrotor-64x64-scored", 128),
    ("quadrotor-32x32x32-squashed-perturbed", 2 * 65),
    ("quadrotor-32x32x32-squashed-scored", 96),
];

/// The largest size of a wave's scratch memory for so many numbers per invocation: 64 invocations of 4 bytes each, and
/// what the driver rounds up.
const fn scratch_bytes(numbers: u64) -> u64 {
    if numbers == 0 { 0 } else { 64 * 4 * numbers + 1024 }
}

/// What the driver reports of an entry point.
pub struct Statistics {
    /// The kernel, its target and its entry point.
    pub name: String,
    /// Every statistic, by the driver's name for it.
    values: Vec<(String, u64)>,
    /// The time that the driver took, in seconds.
    seconds: f64,
    /// The program in assembly language, if it was asked for and the driver has it.
    assembly: Option<String>,
}

impl Statistics {
    /// A statistic by its name, if the driver reports it.
    fn get(&self, name: &str) -> Option<u64> {
        self.values.iter().find(|(of, _)| of == name).map(|(_, value)| *value)
    }

    /// Returns the first bound that the kernel exceeds.
    fn complaint(&self) -> Option<String> {
        let at_most = |name: &str, most: u64| match self.get(name) {
            None => Some(format!("{name} is not reported")),
            Some(value) => (value > most).then(|| format!("{name}: {value}, but at most {most} are expected")),
        };
        let storing = STORING.iter().find(|(kernel, _)| self.name.split('.').next() == Some(*kernel));
        let bounds = [
            ("Spilled VGPRs", 0),
            ("Spilled SGPRs", 0),
            ("Scratch size", scratch_bytes(storing.map_or(0, |(_, numbers)| *numbers))),
            ("VGPRs", MAX_VGPRS),
            ("Code size", MAX_CODE_BYTES),
        ];
        bounds.into_iter().find_map(|(name, most)| at_most(name, most)).or_else(|| {
            (self.seconds > MAX_SECONDS).then(|| format!("{:.1} s to compile, above {MAX_SECONDS} s", self.seconds))
        })
    }
}

/// Compiles every `NAME.TARGET.ENTRY.spv` of a folder whose name contains `only`, except those for software adapters.
/// With `assembly`, the programs are kept.
pub fn statistics(folder: &Path, only: &str, assembly: bool) -> Result<(String, Vec<Statistics>)> {
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    files.retain(|name| name.ends_with(".spv") && name.contains(only) && !name.contains(".vec4."));
    files.sort();
    ensure!(!files.is_empty(), "{} holds no SPIR-V of that name: run `dump` first", folder.display());
    let device = Device::open()?;
    let mut all = Vec::new();
    for file in files {
        let bytes = std::fs::read(folder.join(&file))?;
        let name = file.trim_end_matches(".spv").to_owned();
        let statistics = device.compile(&name, &bytes, assembly).with_context(|| name.clone())?;
        all.push(statistics);
    }
    Ok((device.name.clone(), all))
}

/// Prints a table of statistics.
pub fn print(device: &str, all: &[Statistics]) {
    println!("{device}");
    let columns = [
        ("instr.", "Instructions"),
        ("VALU", "VALU"),
        ("VGPR", "VGPRs"),
        ("spilled V", "Spilled VGPRs"),
        ("spilled S", "Spilled SGPRs"),
        ("scratch B", "Scratch size"),
        ("LDS B", "LDS size"),
        ("waves/SIMD", "Subgroups per SIMD"),
        ("code B", "Code size"),
    ];
    let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
    println!("| kernel | {} | ms |\n|---|{}---|", heads.join(" | "), "---|".repeat(columns.len()));
    for statistics in all {
        // Older versions of Mesa do not count vector instructions by themselves.
        let value = |(_, name): &(&str, &str)| statistics.get(name).map_or("-".to_owned(), |value| value.to_string());
        let values: Vec<String> = columns.iter().map(value).collect();
        println!("| {} | {} | {:.0} |", statistics.name, values.join(" | "), 1e3 * statistics.seconds);
    }
}

/// Prints what a turn of each loop executes, and writes the programs to a folder.
pub fn print_loops(device: &str, all: &[Statistics], folder: Option<&Path>) -> Result<()> {
    println!("{device}");
    println!(
        "| kernel | loop | slots | VALU | products | transc. | loads, stores | LDS | scalar loads | scalar | cycles, one \
         wave | carried, cycles | carried instructions |\n|---|{}",
        "---|".repeat(12)
    );
    for of in all {
        let program = of.assembly.as_deref().with_context(|| format!("{}: the driver prints no assembly", of.name))?;
        if let Some(folder) = folder {
            let file = folder.join(format!("{}.asm", of.name));
            std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::write(&file, program))
                .with_context(|| format!("{} cannot be written", file.display()))?;
        }
        for (number, of_loop) in assembly::loops(program).iter().enumerate() {
            let Mix { vector, products, transcendental, memory, shared, constants, scalar } = of_loop.turn;
            let (indent, slots) = ("- ".repeat(of_loop.depth), of_loop.turn.slots());
            let Chains { alone, carried, path } = &of_loop.chains;
            println!(
                "| {} | {indent}{number} | {slots} | {vector} | {products} | {transcendental} | {memory} | {shared} | \
                 {constants} | {scalar} | {alone} | {carried} | {} |",
                of.name,
                path.describe()
            );
        }
    }
    Ok(())
}

/// Fails if a kernel is beyond the bounds.
pub fn check(all: &[Statistics]) -> Result<()> {
    let complaints: Vec<String> =
        all.iter().filter_map(|of| of.complaint().map(|text| format!("{}: {text}", of.name))).collect();
    if !complaints.is_empty() {
        bail!("beyond the bounds:\n{}", complaints.join("\n"));
    }
    println!("{} entry points are within the bounds", all.len());
    Ok(())
}

/// A text of the driver.
fn text(of: &[c_char]) -> String {
    let bytes: Vec<u8> = of.iter().map(|c| c.cast_unsigned()).collect();
    CStr::from_bytes_until_nul(&bytes).unwrap_or_default().to_string_lossy().into_owned()
}

/// A Vulkan device that compiles.
struct Device {
    /// Its name, and the driver's.
    name: String,
    device: ash::Device,
    executable: executable::Device,
    layout: vk::PipelineLayout,
    // Dropped last, as declared last: the functions of the device are its.
    instance: ash::Instance,
    _entry: ash::Entry,
}

impl Device {
    /// Opens the first device that reports statistics.
    fn open() -> Result<Self> {
        // SAFETY: the library is the system's Vulkan loader.
        let entry = unsafe { ash::Entry::load() }.context("there is no Vulkan loader (Debian: libvulkan1)")?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
        // SAFETY: here and below, structures that are passed to Vulkan live until the call returns, every handle is
        // valid, and each is used on one thread only.
        let instance =
            unsafe { entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&application), None) }
                .context("there is no Vulkan driver (Debian: mesa-vulkan-drivers)")?;
        // SAFETY: see above.
        let devices = unsafe { instance.enumerate_physical_devices()? };
        let reports = |device: &vk::PhysicalDevice| {
            // SAFETY: see above.
            let extensions = unsafe { instance.enumerate_device_extension_properties(*device) }.unwrap_or_default();
            let executable = |extension: &vk::ExtensionProperties| {
                extension.extension_name_as_c_str().is_ok_and(|name| name == executable::NAME)
            };
            // SAFETY: see above.
            let features = unsafe { instance.get_physical_device_features(*device) };
            extensions.iter().any(executable) && features.shader_int64 == vk::TRUE
        };
        let physical = devices
            .into_iter()
            .find(reports)
            .context("no Vulkan device reports statistics; RADV_FORCE_FAMILY=gfx1100 makes one up, with Mesa's radv")?;
        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
        // SAFETY: see above.
        unsafe { instance.get_physical_device_properties2(physical, &mut properties) };
        let device_name = text(&properties.properties.device_name);
        let name = format!("{device_name}, {} {}", text(&driver.driver_name), text(&driver.driver_info));

        let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
        let extensions = [executable::NAME.as_ptr()];
        let features = vk::PhysicalDeviceFeatures::default().shader_int64(true);
        let mut statistics =
            vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
        let mut memory_model = vk::PhysicalDeviceVulkan12Features::default().vulkan_memory_model(true);
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&extensions)
            .enabled_features(&features)
            .push_next(&mut statistics)
            .push_next(&mut memory_model);
        // SAFETY: see above.
        let device = unsafe { instance.create_device(physical, &info, None)? };
        let executable = executable::Device::new(&instance, &device);

        // The bindings of src/runtime/gpu/kernels.rs.
        let binding = |number: u32| {
            let kind = match number {
                0 => vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC,
                _ => vk::DescriptorType::STORAGE_BUFFER,
            };
            let stages = vk::ShaderStageFlags::COMPUTE;
            let binding = vk::DescriptorSetLayoutBinding::default().binding(number);
            binding.descriptor_type(kind).descriptor_count(1).stage_flags(stages)
        };
        let bindings: Vec<_> = (0..9).map(binding).collect();
        let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        // SAFETY: see above.
        let sets = unsafe { [device.create_descriptor_set_layout(&info, None)?] };
        let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
        // SAFETY: see above. A layout of a pipeline does not need those of its sets any longer.
        let layout = unsafe { device.create_pipeline_layout(&info, None)? };
        // SAFETY: as before.
        unsafe { device.destroy_descriptor_set_layout(sets[0], None) };
        Ok(Self { name, device, executable, layout, instance, _entry: entry })
    }

    /// Compiles an entry point, whose name is the last part of `name`.
    fn compile(&self, name: &str, bytes: &[u8], assembly: bool) -> Result<Statistics> {
        let words = ash::util::read_spv(&mut std::io::Cursor::new(bytes))?;
        let entry = CString::new(name.rsplit('.').next().unwrap_or(name))?;
        // SAFETY: naga wrote the module and validated it. For the structures and handles see `open`.
        let module =
            unsafe { self.device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&words), None)? };
        let stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(module)
            .name(&entry);
        let mut flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR;
        if assembly {
            flags |= vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        }
        let info = vk::ComputePipelineCreateInfo::default().stage(stage).layout(self.layout).flags(flags);
        let clock = Instant::now();
        // SAFETY: see `open`.
        let pipelines = unsafe { self.device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None) };
        let seconds = clock.elapsed().as_secs_f64();
        // SAFETY: see `open`. A pipeline does not need its module any longer.
        unsafe { self.device.destroy_shader_module(module, None) };
        let pipeline = pipelines.map_err(|(_, error)| error)?[0];
        let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
        // SAFETY: see `open`; the pipeline was created with statistics, and a compute pipeline has one executable.
        let statistics = unsafe { self.executable.get_pipeline_executable_statistics(&executable) };
        let assembly = if assembly { self.assembly(&executable) } else { Ok(None) };
        // SAFETY: the pipeline is not used any longer.
        unsafe { self.device.destroy_pipeline(pipeline, None) };
        let value = |of: &vk::PipelineExecutableStatisticKHR<'_>| {
            // SAFETY: the format says which member of the union is set.
            let value = unsafe {
                match of.format {
                    vk::PipelineExecutableStatisticFormatKHR::UINT64 => of.value.u64,
                    vk::PipelineExecutableStatisticFormatKHR::INT64 => of.value.i64.max(0).cast_unsigned(),
                    vk::PipelineExecutableStatisticFormatKHR::BOOL32 => u64::from(of.value.b32),
                    _ => of.value.f64 as u64,
                }
            };
            (text(&of.name), value)
        };
        let values = statistics?.iter().map(value).collect();
        Ok(Statistics { name: name.to_owned(), values, seconds, assembly: assembly? })
    }

    /// The assembly of a pipeline, which must have been created with its internal representations.
    fn assembly(&self, executable: &vk::PipelineExecutableInfoKHR<'_>) -> Result<Option<String>> {
        let get = self.executable.fp().get_pipeline_executable_internal_representations_khr;
        let device = self.device.handle();
        let mut count = 0;
        // SAFETY: see `open`. Without an array, the call returns its length.
        unsafe { get(device, executable, &mut count, std::ptr::null_mut()).result()? };
        let mut all = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
        // SAFETY: the array has that length. Without a place for a text, the call returns the text's size.
        unsafe { get(device, executable, &mut count, all.as_mut_ptr()).result()? };
        let mut texts: Vec<Vec<u8>> = all.iter().map(|of| vec![0; of.data_size]).collect();
        for (of, text) in all.iter_mut().zip(&mut texts) {
            of.p_data = text.as_mut_ptr().cast();
        }
        // SAFETY: each text has the size that the call has returned.
        unsafe { get(device, executable, &mut count, all.as_mut_ptr()).result()? };
        let named = all.iter().zip(&texts).find(|(of, _)| text(&of.name) == "Assembly");
        Ok(named.map(|(_, bytes)| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: nothing was submitted, and nothing that was made of them is left.
        unsafe {
            self.device.destroy_pipeline_layout(self.layout, None);
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}
