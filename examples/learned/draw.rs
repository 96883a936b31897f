//! The picture: the run, and what the network predicted.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use crate::canvas::{FONT, INK, axes, picture};
use crate::{DT, Moment};

const TRUTH: RGBColor = RGBColor(25, 60, 205);
const PREDICTED: RGBColor = RGBColor(200, 80, 20);
const CONTROL: RGBColor = RGBColor(120, 10, 110);
const SIZE: (u32, u32) = (1200, 900);
/// Predictions are drawn from every so many time steps on.
const EVERY: usize = 12;

/// Draws angle, position and force over time, with the plans' predictions of the first two.
pub fn draw(run: &[Moment], path: &Path) -> Result<()> {
    let duration = run.len() as f32 * DT;
    let time = |t: usize| t as f32 * DT;
    let state = |i: usize| -> Vec<(f32, f32)> {
        run.iter().enumerate().map(|(t, moment)| (time(t), moment.state[i])).collect()
    };
    let predictions = |i: usize| -> Vec<Vec<(f32, f32)>> {
        let starts = run.iter().enumerate().step_by(EVERY);
        let curve = |(t, moment): (usize, &Moment)| {
            let states = moment.predicted.iter().enumerate();
            states.map(|(s, state)| (time(t + s), state[i])).filter(|(time, _)| *time <= duration).collect()
        };
        starts.map(curve).collect()
    };
    let steps = |(t, moment): (usize, &Moment)| [(time(t), moment.force), (time(t + 1), moment.force)];
    let force: Vec<_> = run.iter().enumerate().flat_map(steps).collect();
    let panels = [
        ("Angle of the pole (rad): true, and predicted by the network over the plan", state(2), predictions(2), TRUTH),
        ("Position of the cart (m)", state(0), predictions(0), TRUTH),
        ("Force on the cart (N)", force, Vec::new(), CONTROL),
    ];
    picture(path, SIZE, |root| {
        let areas = root.margin(10, 10, 10, 30).split_evenly((panels.len(), 1));
        for (i, ((caption, line, predicted, color), area)) in panels.iter().zip(&areas).enumerate() {
            let all = line.iter().chain(predicted.iter().flatten()).map(|(_, value)| *value);
            let (low, high) = all.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)));
            let room = 0.06 * (high - low);
            let mut chart = ChartBuilder::on(area)
                .caption(caption, (FONT, 20).into_font().color(&INK))
                .y_label_area_size(60)
                .x_label_area_size(if i == 2 { 50 } else { 10 })
                .build_cartesian_2d(0.0..duration, low - room..high + room)?;
            let number = |value: &f32| ((value * 100.0).round() / 100.0).to_string();
            axes(&mut chart)
                .x_desc(if i == 2 { "time (s)" } else { "" })
                .x_labels(9)
                .y_labels(5)
                .x_label_formatter(&|time| if i == 2 { number(time) } else { String::new() })
                .y_label_formatter(&number)
                .draw()?;
            for curve in predicted {
                chart.draw_series(LineSeries::new(curve.iter().copied(), PREDICTED.mix(0.8).stroke_width(1)))?;
            }
            chart.draw_series(LineSeries::new(line.iter().copied(), color.stroke_width(3)))?;
        }
        Ok(())
    })
}
