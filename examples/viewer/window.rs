//! The window.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use gibbs::{Backend, Engine, wgpu};
use winit::application::ApplicationHandler;
use winit::dpi::LogicalSize;
use winit::event::WindowEvent;
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop};
use winit::window::{Window, WindowId};

use crate::device;
use crate::stage::Stage;
use crate::world::World;

/// The longest time that passes from a picture to the next (in seconds): a world that cannot be drawn fast enough runs
/// slower.
const LONGEST: f32 = 0.1;

/// Shows a world in a window until it is closed.
pub fn run(backend: Backend, size: [u32; 2], world: impl Fn(&Engine) -> Result<World>) -> Result<()> {
    let events = EventLoop::new().map_err(|error| {
        log::info!("{error}");
        anyhow!("there is no window system (neither DISPLAY nor WAYLAND_DISPLAY is set); --headless draws to files")
    })?;
    events.set_control_flow(ControlFlow::Poll);
    let mut application = Application { backend, size, world, open: None, result: Ok(()) };
    events.run_app(&mut application)?;
    application.result
}

struct Application<W> {
    backend: Backend,
    size: [u32; 2],
    world: W,
    open: Option<Open>,
    result: Result<()>,
}

/// What exists while there is a window.
struct Open {
    window: Arc<Window>,
    surface: wgpu::Surface<'static>,
    config: wgpu::SurfaceConfiguration,
    input: egui_winit::State,
    stage: Stage,
    last: Instant,
}

impl<W: Fn(&Engine) -> Result<World>> ApplicationHandler for Application<W> {
    fn resumed(&mut self, events: &ActiveEventLoop) {
        if self.open.is_none() {
            let opened = Open::new(events, self.backend, self.size, &self.world);
            self.open = self.keep(events, opened);
        }
    }

    fn window_event(&mut self, events: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let Some(open) = &mut self.open else { return };
        let _ = open.input.on_window_event(&open.window, &event);
        match event {
            WindowEvent::CloseRequested => events.exit(),
            WindowEvent::Resized(size) => {
                open.config.width = size.width.max(1);
                open.config.height = size.height.max(1);
                open.surface.configure(&open.stage.device, &open.config);
            }
            WindowEvent::RedrawRequested => {
                let drawn = open.draw();
                self.keep(events, drawn);
            }
            _ => {}
        }
    }

    fn about_to_wait(&mut self, _: &ActiveEventLoop) {
        // The surface shows a picture when the display is ready for it.
        if let Some(open) = &self.open {
            open.window.request_redraw();
        }
    }
}

impl<W> Application<W> {
    /// Ends the program after an error.
    fn keep<T>(&mut self, events: &ActiveEventLoop, result: Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                self.result = Err(error);
                events.exit();
            })
            .ok()
    }
}

impl Open {
    fn new(
        events: &ActiveEventLoop,
        backend: Backend,
        [width, height]: [u32; 2],
        world: impl FnOnce(&Engine) -> Result<World>,
    ) -> Result<Self> {
        let attributes = Window::default_attributes()
            .with_title("gibbs")
            .with_inner_size(LogicalSize::new(width, height))
            .with_min_inner_size(LogicalSize::new(720, 600));
        let window = Arc::new(events.create_window(attributes).context("the window cannot be opened")?);
        let instance = device::instance();
        let surface = instance.create_surface(Arc::clone(&window)).context("the window cannot be drawn in")?;
        let adapter = device::adapter(&instance, backend, Some(&surface))?;
        let (device, queue) = device::open(&adapter)?;
        let size = window.inner_size();
        let mut config = surface
            .get_default_config(&adapter, size.width.max(1), size.height.max(1))
            .context("the device cannot draw in the window")?;
        // Colors are given as they are stored.
        config.format = config.format.remove_srgb_suffix();
        config.present_mode = wgpu::PresentMode::AutoVsync;
        surface.configure(&device, &config);
        let stage = Stage::new(device, queue, config.format, world)?;
        let input = egui_winit::State::new(
            stage.context.clone(),
            egui::ViewportId::ROOT,
            &window,
            Some(window.scale_factor() as f32),
            window.theme(),
            Some(stage.device.limits().max_texture_dimension_2d as usize),
        );
        Ok(Self { window, surface, config, input, stage, last: Instant::now() })
    }

    fn draw(&mut self) -> Result<()> {
        use wgpu::CurrentSurfaceTexture as Current;

        let texture = match self.surface.get_current_texture() {
            Current::Success(texture) => texture,
            Current::Suboptimal(_) | Current::Outdated => {
                self.surface.configure(&self.stage.device, &self.config);
                return Ok(());
            }
            Current::Timeout | Current::Occluded => return Ok(()),
            lost => return Err(anyhow!("the window can no longer be drawn in: {lost:?}")),
        };
        let seconds = self.last.elapsed().as_secs_f32().min(LONGEST);
        self.last = Instant::now();
        let input = self.input.take_egui_input(&self.window);
        let view = texture.texture.create_view(&Default::default());
        let size = [self.config.width, self.config.height];
        let output = self.stage.frame(input, &view, size, seconds, false)?;
        self.input.handle_platform_output(&self.window, output);
        self.window.pre_present_notify();
        self.stage.queue.present(texture);
        Ok(())
    }
}
