//! Pictures without a window: the same interface and scene, with a pointer that follows a script.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use egui::{Event, Modifiers, PointerButton, Pos2};
use gibbs::wgpu;
use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};

use crate::stage::Stage;

/// The time that passes from a picture to the next (in seconds).
pub const FRAME: f32 = 0.1;
/// The format of the pictures.
pub const FORMAT: wgpu::TextureFormat = wgpu::TextureFormat::Rgba8Unorm;

/// What the pointer does, in points of the map: where it draws an obstacle, and where it sets another goal.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    pub obstacle: [[f64; 2]; 2],
    pub goal: [f64; 2],
}

/// Draws pictures of a drive to PNG files in a folder, and returns a sentence about it.
pub fn run(stage: &mut Stage, frames: usize, size: [u32; 2], script: Option<Script>, out: &Path) -> Result<String> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot create the folder {}", out.display()))?;
    let target = stage.device.create_texture(&wgpu::TextureDescriptor {
        label: None,
        size: wgpu::Extent3d { width: size[0], height: size[1], depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: FORMAT,
        usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
        view_formats: &[],
    });
    let view = target.create_view(&Default::default());
    let rect = egui::Rect::from_min_size(Pos2::ZERO, egui::vec2(size[0] as f32, size[1] as f32));
    let mut picture_times = Vec::new();
    for frame in 0..frames {
        let events = script.map_or_else(Vec::new, |script| events(stage, script, frame, frames));
        let input = egui::RawInput {
            screen_rect: Some(rect),
            time: Some(f64::from(FRAME) * frame as f64),
            predicted_dt: FRAME,
            focused: true,
            events,
            ..Default::default()
        };
        let clock = Instant::now();
        stage.frame(input, &view, size, FRAME, true)?;
        stage.device.poll(wgpu::PollType::wait_indefinitely())?;
        picture_times.push(clock.elapsed());
        let path = out.join(format!("viewer-{frame:03}.png"));
        save(&path, &pixels(&stage.device, &stage.queue, &target)?, size)?;
    }
    let world = &stage.world;
    ensure!(world.collisions == 0, "the robot touched an obstacle {} times", world.collisions);
    if script.is_some() {
        let found = (stage.panel.obstacles, stage.panel.goals);
        ensure!(found == (1, 1), "the pointer drew {} obstacles and set {} goals, not one of each", found.0, found.1);
    }
    let median = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort();
        times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    Ok(format!(
        "drew {frames} pictures to {}: {:.1} m driven, {:.1} m to go, no collision, {} trajectories in each, median of a plan {:.1} ms and of a picture with its plan {:.1} ms ({})",
        out.display(),
        world.driven,
        world.left(),
        world.drawn.as_ref().map_or(0, |drawn| drawn.rows),
        median(&world.plan_times),
        median(&picture_times),
        stage.name,
    ))
}

/// What the pointer does before a picture. A drag takes four pictures, from a third of them on, and a click two, from
/// two thirds on.
fn events(stage: &Stage, script: Script, frame: usize, frames: usize) -> Vec<Event> {
    let Some(shown) = &stage.shown else { return Vec::new() };
    let at = |point: [f64; 2]| Pos2::from(shown.view.to_pixel(point));
    let button = |pos: Pos2, pressed: bool| Event::PointerButton {
        pos,
        button: PointerButton::Primary,
        pressed,
        modifiers: Modifiers::NONE,
    };
    let ([a, b], goal) = (script.obstacle.map(at), at(script.goal));
    let (drag, click) = (frames / 3, 2 * frames / 3);
    match frame {
        _ if frame == drag => vec![Event::PointerMoved(a), button(a, true)],
        _ if frame == drag + 1 => vec![Event::PointerMoved(a + 0.5 * (b - a))],
        _ if frame == drag + 2 => vec![Event::PointerMoved(b)],
        _ if frame == drag + 3 => vec![button(b, false), Event::PointerGone],
        _ if frame == click => vec![Event::PointerMoved(goal), button(goal, true)],
        _ if frame == click + 1 => vec![button(goal, false), Event::PointerGone],
        _ => Vec::new(),
    }
}

/// Copies a picture to the host.
fn pixels(device: &wgpu::Device, queue: &wgpu::Queue, texture: &wgpu::Texture) -> Result<Vec<u8>> {
    let (row, height) = (4 * texture.width(), texture.height());
    let padded = row.next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
    let back = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: u64::from(padded) * u64::from(height),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(padded), rows_per_image: None };
    let to = wgpu::TexelCopyBufferInfo { buffer: &back, layout };
    encoder.copy_texture_to_buffer(texture.as_image_copy(), to, texture.size());
    encoder.map_buffer_on_submit(&back, wgpu::MapMode::Read, .., |_| ());
    queue.submit([encoder.finish()]);
    device.poll(wgpu::PollType::wait_indefinitely())?;
    let bytes = back.get_mapped_range(..).context("the picture cannot be read")?;
    let rows = bytes.chunks_exact(padded as usize).map(|bytes| &bytes[..row as usize]);
    // Without the opacity.
    Ok(rows.flat_map(|row| row.chunks_exact(4)).flat_map(|pixel| &pixel[..3]).copied().collect())
}

fn save(path: &Path, pixels: &[u8], [width, height]: [u32; 2]) -> Result<()> {
    let write = || -> Result<()> {
        let file = std::io::BufWriter::new(std::fs::File::create(path)?);
        let encoder = PngEncoder::new_with_quality(file, CompressionType::Default, FilterType::Adaptive);
        Ok(encoder.write_image(pixels, width, height, image::ExtendedColorType::Rgb8)?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
