//! The picture: the wall, and the plan at eight moments of the anneal, for both tasks.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Run;
use crate::canvas::{Area, FONT, INK, axes, picture};
use crate::car::{DISCS, GOAL, NEAR, RADIUS, START, reward};

const SIZE: (u32, u32) = (1300, 690);
const WALL: RGBColor = RGBColor(190, 194, 202);
const TARGET: RGBColor = RGBColor(0, 140, 80);
const SHOWN: RGBColor = RGBColor(200, 80, 20);

pub fn anneal(path: &Path, demo: &[[f32; 2]], shown: &Run, shaped: &Run) -> Result<()> {
    picture(path, SIZE, |root| {
        let areas = root.margin(6, 6, 6, 6).split_evenly((1, 2));
        panel(&areas[0], "with a demonstration", Some(demo), shown)?;
        panel(&areas[1], "with the way that is left as a cost", None, shaped)
    })
}

fn panel(area: &Area<'_>, title: &str, demo: Option<&[[f32; 2]]>, run: &Run) -> Result<()> {
    let caption = format!("Model-based diffusion {title}: reward {:.2}", reward(&run.states));
    let mut chart = ChartBuilder::on(area)
        .caption(caption, (FONT, 17).into_font().color(&INK))
        .x_label_area_size(34)
        .y_label_area_size(46)
        .build_cartesian_2d(-1.7_f32..1.3, -1.5_f32..1.5)?;
    axes(&mut chart).x_desc("x (m)").y_desc("y (m)").x_labels(7).y_labels(7).draw()?;
    let disc = |[x, y]: [f32; 2], radius: f32| -> Vec<(f32, f32)> {
        let point = |i: usize| {
            let (s, c) = (std::f32::consts::TAU * i as f32 / 60.0).sin_cos();
            (x + radius * c, y + radius * s)
        };
        (0..60).map(point).collect()
    };
    chart.draw_series(DISCS.map(|center| Polygon::new(disc(center, RADIUS), WALL.filled())))?;
    chart.draw_series([Polygon::new(disc(GOAL, NEAR), TARGET.mix(0.3).filled())])?;
    // Colors go from pale to dark as the noise decreases.
    let count = run.annealing.len();
    for (i, states) in run.annealing.iter().enumerate() {
        let share = (i + 1) as f64 / count as f64;
        let fade = |dark: f64| (255.0 - (255.0 - dark) * (0.2 + 0.8 * share)) as u8;
        let color = RGBColor(fade(20.0), fade(50.0), fade(200.0));
        let width = if i + 1 == count { 4 } else { 2 };
        // Drawn segment by segment, because a thick polyline that turns back on itself would have spikes at its joints.
        let piece = |pair: &[[f32; 3]]| {
            PathElement::new(vec![(pair[0][0], pair[0][1]), (pair[1][0], pair[1][1])], color.stroke_width(width))
        };
        chart.draw_series(states.windows(2).map(piece))?;
    }
    if let Some(demo) = demo {
        chart.draw_series(demo.iter().map(|[x, y]| Circle::new((*x, *y), 3, SHOWN.filled())))?;
    }
    let mut label = |at: (f32, f32), text: &'static str, color: RGBColor| -> Result<()> {
        let style = (FONT, 15).into_font().color(&color).pos(Pos::new(HPos::Left, VPos::Center));
        chart.draw_series([EmptyElement::at(at) + Text::new(text, (0, 0), style)])?;
        Ok(())
    };
    label((START[0] + 0.04, START[1] - 0.08), "start", INK)?;
    label((GOAL[0] + 0.24, GOAL[1] + 0.02), "goal", TARGET)?;
    if demo.is_some() {
        label((-1.6, -1.28), "● demonstration", SHOWN)?;
    }
    label((-1.6, -1.4), "plan, from the first level (pale) to the last", RGBColor(20, 50, 200))?;
    chart.draw_series([Circle::new((START[0], START[1]), 5, INK.filled())])?;
    Ok(())
}
