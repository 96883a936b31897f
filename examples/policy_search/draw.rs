//! The picture: for every task its learning curves, and the angles of a few test episodes.

use std::f32::consts::{PI, TAU};
use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::canvas::{Area, FONT, INK, axes, picture};
use crate::{Outcome, Task};

const PANEL: (u32, u32) = (600, 270);
const CURVES: [RGBColor; 2] = [RGBColor(25, 60, 205), RGBColor(200, 80, 20)];
const ANGLE: RGBColor = RGBColor(120, 10, 110);
const GUIDE: RGBColor = RGBColor(0, 140, 80);

/// The number of iterations that curves are averaged over, since each has other initial states.
const SMOOTH: usize = 10;

/// Draws a row of two panels for each task.
pub fn learning(path: &Path, outcomes: &[Outcome]) -> Result<()> {
    let mut tasks: Vec<Task> = outcomes.iter().map(|outcome| outcome.task).collect();
    tasks.dedup();
    picture(path, (2 * PANEL.0, tasks.len() as u32 * PANEL.1), |root| {
        let areas = root.margin(6, 6, 6, 14).split_evenly((tasks.len(), 2));
        for (task, areas) in tasks.iter().zip(areas.chunks_exact(2)) {
            let of_task: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.task == *task).collect();
            curves(&areas[0], *task, &of_task)?;
            if let Some(outcome) = of_task.first() {
                angles(&areas[1], outcome)?;
            }
        }
        Ok(())
    })
}

/// The mean return of the rows over the iterations.
fn curves(area: &Area<'_>, task: Task, outcomes: &[&Outcome]) -> Result<()> {
    let points = || outcomes.iter().flat_map(|outcome| outcome.curves.iter().flatten());
    if points().next().is_none() {
        let text = format!("{}: all iterations were made before", task.name());
        area.draw_text(&text, &(FONT, 18).into_text_style(area).color(&INK), (58, 6))?;
        return Ok(());
    }
    let last = points().map(|(iteration, _)| *iteration as f32).fold(1.0, f32::max);
    let (low, high) = points()
        .map(|(_, mean_return)| *mean_return)
        .chain(task.published())
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = if low < high { (low, high) } else { (0.0, 1.0) };
    let room = 0.06 * (high - low);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}: mean return of {SMOOTH} iterations", task.name()), (FONT, 18).into_font().color(&INK))
        .x_label_area_size(42)
        .y_label_area_size(58)
        .margin_right(16)
        .build_cartesian_2d(0.0..last, low - room..high + room)?;
    let whole = |v: &f32| format!("{v:.0}");
    let mut mesh = axes(&mut chart);
    mesh.x_desc("iteration").x_labels(6).y_labels(5).x_label_formatter(&whole).y_label_formatter(&whole).draw()?;
    let anchored = |color: RGBColor| (FONT, 15).into_font().color(&color).pos(Pos::new(HPos::Right, VPos::Bottom));
    if let Some(best) = task.published() {
        chart.draw_series(DashedLineSeries::new([(0.0, best), (last, best)], 8, 6, GUIDE.stroke_width(1)))?;
        let label = EmptyElement::at((last, low)) + Text::new("- - published best", (-6, -6), anchored(GUIDE));
        chart.draw_series([label])?;
    }
    for (i, (outcome, color)) in outcomes.iter().zip(CURVES).enumerate() {
        for curve in &outcome.curves {
            let line = curve.windows(SMOOTH.min(curve.len().max(1))).map(|window| {
                let mean = window.iter().map(|(_, mean_return)| mean_return).sum::<f32>() / window.len() as f32;
                (window[window.len() - 1].0 as f32, mean)
            });
            chart.draw_series(LineSeries::new(line, color.stroke_width(1)))?;
        }
        let text = Text::new(outcome.rows, (-6, -24 - 18 * i as i32), anchored(color));
        chart.draw_series([EmptyElement::at((last, low)) + text])?;
    }
    Ok(())
}

/// Angles from upright over time.
fn angles(area: &Area<'_>, outcome: &Outcome) -> Result<()> {
    let steps = outcome.angles.iter().map(Vec::len).max().unwrap_or(1);
    let duration = steps as f32 * outcome.dt;
    // Each angle is shifted by whole turns, so that it ends near upright.
    let shifted = outcome.angles.iter().map(|angles| {
        let last = angles.last().copied().unwrap_or(0.0);
        let turns = TAU * (last / TAU).round();
        angles.iter().enumerate().map(move |(t, angle)| (t as f32 * outcome.dt, angle - turns)).collect::<Vec<_>>()
    });
    let lines: Vec<Vec<(f32, f32)>> = shifted.collect();
    let most = lines.iter().flatten().map(|(_, angle)| angle.abs()).fold(0.3, f32::max).min(3.0 * PI);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}: {} fresh episodes", outcome.task.name(), lines.len()), (FONT, 18).into_font().color(&INK))
        .x_label_area_size(42)
        .y_label_area_size(58)
        .margin_right(16)
        .build_cartesian_2d(0.0..duration, -1.06 * most..1.06 * most)?;
    axes(&mut chart)
        .x_desc("time (s)")
        .y_desc("rad from upright")
        .x_labels(6)
        .y_labels(5)
        .x_label_formatter(&|t| format!("{t:.0}"))
        .draw()?;
    chart.draw_series(DashedLineSeries::new([(0.0, 0.0), (duration, 0.0)], 8, 6, GUIDE.stroke_width(1)))?;
    for line in lines {
        chart.draw_series(LineSeries::new(line, ANGLE.mix(0.6).stroke_width(1)))?;
    }
    Ok(())
}
