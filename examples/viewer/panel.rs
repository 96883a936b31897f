//! The panel beside the map, and what the pointer does on the map.

use egui::{Align, Color32, Layout, RichText, Sense, Slider, Stroke, Ui, vec2};

use crate::robot::TERMS;
use crate::scene::View;
use crate::world::{BRUSH, World};

/// The width of the panel (in points).
const WIDTH: f32 = 280.0;
/// The margin around the map (in points).
const MARGIN: f32 = 24.0;

/// The state of the interface.
#[derive(Debug, Default)]
pub struct Panel {
    pub is_paused: bool,
    /// Whether one step is to be taken although it is paused.
    pub steps_once: bool,
    /// The last point of the obstacle that is being drawn.
    stroke: Option<[f64; 2]>,
    /// The numbers of goals that were set and of obstacles that were drawn.
    pub goals: usize,
    pub obstacles: usize,
}

/// A light style.
pub fn set_style(context: &egui::Context) {
    context.set_theme(egui::Theme::Light);
    context.all_styles_mut(|style| {
        style.spacing.item_spacing = vec2(8.0, 6.0);
        style.spacing.slider_width = 150.0;
        style.text_styles.insert(egui::TextStyle::Small, egui::FontId::proportional(11.5));
        style.visuals.panel_fill = Color32::from_rgb(250, 250, 251);
        style.visuals.window_stroke = Stroke::NONE;
        style.visuals.override_text_color = Some(Color32::from_rgb(40, 44, 52));
        style.visuals.selection.bg_fill = Color32::from_rgb(60, 90, 200);
        style.visuals.slider_trailing_fill = true;
        style.interaction.selectable_labels = false;
    });
}

/// What the map is drawn with.
pub struct Shown {
    pub view: View,
}

impl Panel {
    /// Lays out the interface, lets it change the world, and returns where the map is, in pixels.
    pub fn show(&mut self, ui: &mut Ui, world: &mut World, device: &str) -> anyhow::Result<Shown> {
        let mut result = Ok(());
        let frame = egui::Frame::side_top_panel(ui.style()).inner_margin(16.0);
        egui::Panel::right("panel").exact_size(WIDTH).resizable(false).frame(frame).show(ui, |ui| {
            result = self.controls(ui, world, device);
        });
        result?;
        egui::CentralPanel::default().frame(egui::Frame::NONE).show(ui, |ui| self.map(ui, world)).inner
    }

    fn controls(&mut self, ui: &mut Ui, world: &mut World, device: &str) -> anyhow::Result<()> {
        ui.label(RichText::new("gibbs").size(22.0).strong());
        ui.label(RichText::new(device).small().weak());
        ui.add_space(8.0);
        let mut restarts = false;
        ui.horizontal(|ui| {
            let name = if self.is_paused { "Drive" } else { "Pause" };
            if ui.button(name).clicked() {
                self.is_paused = !self.is_paused;
            }
            self.steps_once = ui.add_enabled(self.is_paused, egui::Button::new("Step")).clicked();
            restarts = ui.button("Restart").clicked();
        });
        if restarts {
            world.restart()?;
        }

        section(ui, "Planner");
        let settings = &mut world.settings;
        setting(ui, "noise σ", Slider::new(&mut settings.sigma, 0.2..=2.0).fixed_decimals(2));
        ui.add_enabled_ui(!settings.finds_lambda, |ui| {
            // The one that was found is shown, too.
            let mut found = world.statistics.lambda.clamp(0.01, 1000.0);
            let lambda = if settings.finds_lambda { &mut found } else { &mut settings.lambda };
            setting(ui, "temperature λ", Slider::new(lambda, 0.01..=1000.0).logarithmic(true).max_decimals(2));
        });
        let was_found = settings.finds_lambda;
        ui.checkbox(&mut settings.finds_lambda, "find λ for 5 % effective rollouts");
        if was_found && !settings.finds_lambda {
            settings.lambda = world.statistics.lambda.clamp(0.01, 1000.0);
        }
        setting(ui, "horizon", Slider::new(&mut settings.horizon, 10..=100));
        setting(ui, "rollouts", Slider::new(&mut settings.samples, 128..=8192).logarithmic(true));

        section(ui, "Cost of the plan");
        terms(ui, world);

        section(ui, "Now");
        let statistics = &world.statistics;
        for (name, value) in [
            ("plan (latency)", format!("{:.1} ms", statistics.plan_time.as_secs_f64() * 1e3)),
            ("effective rollouts", format!("{:.0} of {}", statistics.effective_samples, statistics.rows)),
            ("speed", format!("{:.2} m/s", world.speed)),
            ("to the goal", format!("{:.1} m", world.left())),
            ("driven", format!("{:.1} m", world.driven)),
        ] {
            row(ui, name, &value);
        }
        ui.with_layout(Layout::bottom_up(Align::Min), |ui| {
            let help = "Click: set the goal.  Drag: draw an obstacle.\nRight drag: erase it.";
            ui.label(RichText::new(help).small().weak());
        });
        Ok(())
    }

    fn map(&mut self, ui: &mut Ui, world: &mut World) -> anyhow::Result<Shown> {
        let (rect, response) = ui.allocate_exact_size(ui.available_size(), Sense::click_and_drag());
        let size = [world.map.width, world.map.height].map(|cells| (cells as f64 * world.map.resolution) as f32);
        // In points.
        let view = View::fit(size, rect.min.into(), rect.max.into(), MARGIN);
        let pointer = response.interact_pointer_pos().map(|at| view.to_map(at.into()));
        if let Some(at) = pointer.filter(|_| response.clicked()) {
            world.set_goal(at)?;
            self.goals += 1;
        }
        let erases = response.dragged_by(egui::PointerButton::Secondary);
        match pointer.filter(|_| erases || response.dragged_by(egui::PointerButton::Primary)) {
            Some(at) => {
                // A drag began where the button was pressed.
                let begin = ui.input(|input| input.pointer.press_origin()).map(|at| view.to_map(at.into()));
                let from = self.stroke.or(begin).unwrap_or(at);
                world.draw([from, at], erases)?;
                self.stroke = Some(at);
            }
            None => self.obstacles += usize::from(self.stroke.take().is_some()),
        }
        let painter = ui.painter_at(rect);
        if let (Some(at), false) = (response.hover_pos(), response.dragged()) {
            let stroke = Stroke::new(1.0, Color32::from_black_alpha(60));
            painter.circle_stroke(at, BRUSH as f32 * view.scale, stroke);
        }
        scale_bar(&painter, view, size);
        if let Some(message) = world.message {
            let at = rect.center_top() + vec2(0.0, MARGIN + 14.0);
            let font = egui::FontId::proportional(15.0);
            let text = painter.layout_no_wrap(message.into(), font, Color32::WHITE);
            let back = egui::Rect::from_center_size(at, text.size() + vec2(24.0, 12.0));
            painter.rect_filled(back, 6.0, Color32::from_rgb(150, 50, 40));
            painter.galley(back.center() - 0.5 * text.size(), text, Color32::WHITE);
        }
        let pixels = ui.ctx().pixels_per_point();
        Ok(Shown { view: View { offset: view.offset.map(|v| v * pixels), scale: view.scale * pixels } })
    }
}

fn section(ui: &mut Ui, name: &str) {
    ui.add_space(10.0);
    ui.separator();
    ui.add_space(2.0);
    ui.label(RichText::new(name).strong());
}

fn setting(ui: &mut Ui, name: &str, slider: Slider<'_>) {
    ui.label(name);
    ui.add(slider);
}

/// A name on the left and a value on the right.
fn row(ui: &mut Ui, name: &str, value: &str) {
    ui.horizontal(|ui| {
        ui.label(name);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| ui.monospace(value));
    });
}

/// A bar for each term of the cost.
fn terms(ui: &mut Ui, world: &World) {
    let Some(terms) = &world.terms else { return };
    let most = terms.iter().map(|(_, total)| total.abs()).fold(1e-6, f32::max);
    for name in TERMS {
        let total = terms.get(name).unwrap_or_default();
        let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 16.0), Sense::hover());
        let painter = ui.painter();
        let color = ui.visuals().text_color();
        let font = egui::FontId::proportional(12.5);
        painter.text(rect.left_center(), egui::Align2::LEFT_CENTER, name, font.clone(), color);
        let (left, right) = (rect.left() + 62.0, rect.right() - 52.0);
        let bar = |end: f32| egui::Rect::from_x_y_ranges(left..=end, rect.center().y - 5.0..=rect.center().y + 5.0);
        painter.rect_filled(bar(right), 3.0, Color32::from_gray(232));
        let end = left + (right - left) * total.abs() / most;
        if end > left + 0.5 {
            painter.rect_filled(bar(end), 3.0, Color32::from_rgb(60, 90, 200));
        }
        let value = format!("{total:.1}");
        painter.text(rect.right_center(), egui::Align2::RIGHT_CENTER, value, font, color);
    }
}

/// A bar of a meter below the map.
fn scale_bar(painter: &egui::Painter, view: View, size: [f32; 2]) {
    let [right, bottom] = view.to_pixel([f64::from(size[0]), 0.0]);
    let (y, left) = (bottom + 9.0, right - view.scale);
    let stroke = Stroke::new(1.5, Color32::from_rgb(60, 64, 72));
    painter.line_segment([egui::pos2(left, y), egui::pos2(right, y)], stroke);
    for x in [left, right] {
        painter.line_segment([egui::pos2(x, y - 3.0), egui::pos2(x, y + 3.0)], stroke);
    }
    let font = egui::FontId::proportional(12.0);
    painter.text(egui::pos2(left - 6.0, y), egui::Align2::RIGHT_CENTER, "1 m", font, stroke.color);
}
