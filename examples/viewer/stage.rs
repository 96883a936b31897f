//! One picture after the other: the interface, the world and the scene, on any target.

use anyhow::Result;
use gibbs::{Engine, EngineOptions, wgpu};

use crate::panel::{self, Panel};
use crate::scene::Scene;
use crate::world::World;

pub struct Stage {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub context: egui::Context,
    pub world: World,
    pub panel: Panel,
    /// The name of the device.
    pub name: String,
    scene: Scene,
    renderer: egui_wgpu::Renderer,
    /// Where the map was in the last picture.
    pub shown: Option<panel::Shown>,
}

impl Stage {
    /// Builds a world by a planner on the device that draws. `format` is that of the pictures.
    pub fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        format: wgpu::TextureFormat,
        world: impl FnOnce(&Engine) -> Result<World>,
    ) -> Result<Self> {
        let engine = Engine::from_wgpu(&device, &queue, EngineOptions::default())?;
        let world = world(&engine)?;
        let context = egui::Context::default();
        // A click must not count twice.
        context.options_mut(|options| options.max_passes = std::num::NonZeroUsize::MIN);
        panel::set_style(&context);
        Ok(Self {
            scene: Scene::new(&device, format, &world),
            renderer: egui_wgpu::Renderer::new(&device, format, egui_wgpu::RendererOptions::default()),
            panel: Panel::default(),
            name: engine.name(),
            shown: None,
            device,
            queue,
            context,
            world,
        })
    }

    /// Handles the input, lets the robot drive for some time (in seconds), and draws a picture of `size` pixels.
    /// Without `waits` it does not wait for the planner: the picture shows its last results.
    pub fn frame(
        &mut self,
        input: egui::RawInput,
        target: &wgpu::TextureView,
        size: [u32; 2],
        seconds: f32,
        waits: bool,
    ) -> Result<egui::PlatformOutput> {
        let Self { context, world, panel, name, .. } = self;
        let mut shown = None;
        let mut output = context.run_ui(input, |ui| shown = Some(panel.show(ui, world, name)));
        // Taken before anything fails, since egui insists that they are.
        let freed: Vec<_> = output.textures_delta.free.drain().collect();
        for (id, deltas) in output.textures_delta.set.drain() {
            for delta in &deltas {
                self.renderer.update_texture(&self.device, &self.queue, id, delta);
            }
        }
        let drives = !panel.is_paused || std::mem::take(&mut panel.steps_once);
        world.advance(if drives { seconds } else { 0.0 }, waits)?;

        let pixels = output.pixels_per_point;
        let primitives = self.context.tessellate(output.shapes, pixels);
        let screen = egui_wgpu::ScreenDescriptor { size_in_pixels: size, pixels_per_point: pixels };
        let mut encoder = self.device.create_command_encoder(&Default::default());
        self.renderer.update_buffers(&self.device, &self.queue, &mut encoder, &primitives, &screen);
        self.shown = shown.transpose()?;
        if let Some(shown) = &self.shown {
            self.scene.prepare(&self.device, &self.queue, &self.world, shown.view, size, pixels);
        }
        let mut pass = encoder
            .begin_render_pass(&wgpu::RenderPassDescriptor {
                label: None,
                color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                    view: target,
                    depth_slice: None,
                    resolve_target: None,
                    ops: wgpu::Operations {
                        load: wgpu::LoadOp::Clear(wgpu::Color::WHITE),
                        store: wgpu::StoreOp::Store,
                    },
                })],
                ..Default::default()
            })
            .forget_lifetime();
        self.scene.draw(&mut pass);
        self.renderer.render(&mut pass, &primitives, &screen);
        drop(pass);
        self.queue.submit([encoder.finish()]);
        for id in freed {
            self.renderer.free_texture(&id);
        }
        Ok(output.platform_output)
    }
}
