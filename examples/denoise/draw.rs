//! The picture: for each data set its rows, unguided samples, and guided ones.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use crate::Drawn;
use crate::canvas::{Area, FONT, INK, axes, picture};
use crate::data::SIDE;

const PANEL: u32 = 400;
const COLUMNS: [(&str, RGBColor); 3] = [
    ("data", RGBColor(90, 90, 100)),
    ("new samples", RGBColor(25, 60, 205)),
    ("guided by a reward", RGBColor(200, 80, 20)),
];
/// The pictures along a side of a panel.
const SHOWN: usize = 8;

/// Draws a row of panels for each data set.
pub fn samples(path: &Path, all: &[Drawn]) -> Result<()> {
    let columns = COLUMNS.len() as u32;
    picture(path, (columns * PANEL, all.len() as u32 * PANEL), |root| {
        let areas = root.margin(4, 4, 4, 4).split_evenly((all.len(), COLUMNS.len()));
        for (drawn, areas) in all.iter().zip(areas.chunks_exact(COLUMNS.len())) {
            let rows = [&drawn.data.rows, &drawn.unguided, &drawn.guided];
            for ((rows, (title, color)), area) in rows.into_iter().zip(COLUMNS).zip(areas) {
                let title = format!("{}: {title}", drawn.data.name);
                let area = area.titled(&title, (FONT, 18).into_font().color(&INK))?;
                if drawn.data.width == 2 { points(&area, rows, color)? } else { pictures(&area, rows, color)? }
            }
        }
        Ok(())
    })
}

fn points(area: &Area<'_>, rows: &[f32], color: RGBColor) -> Result<()> {
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .x_label_area_size(24)
        .y_label_area_size(30)
        .build_cartesian_2d(-2.3_f32..2.3, -2.3_f32..2.3)?;
    let whole = |v: &f32| format!("{v:.0}");
    let mut mesh = axes(&mut chart);
    mesh.disable_mesh().x_labels(5).y_labels(5).x_label_formatter(&whole).y_label_formatter(&whole).draw()?;
    let points = rows.as_chunks::<2>().0.iter().take(2000);
    chart.draw_series(points.map(|[x, y]| Circle::new((*x, *y), 1, color.mix(0.6).filled())))?;
    Ok(())
}

fn pictures(area: &Area<'_>, rows: &[f32], color: RGBColor) -> Result<()> {
    // Leaves a gap of one pixel between pictures.
    let cells = (SHOWN * (SIDE + 1)) as f32;
    let mut chart = ChartBuilder::on(area).margin(6).build_cartesian_2d(0.0..cells, 0.0..cells)?;
    let shade = |v: f32, dark: u8| (255.0 - (255.0 - f32::from(dark)) * (0.08 + 0.92 * v.clamp(0.0, 1.0))) as u8;
    let pictures = rows.chunks_exact(SIDE * SIDE).take(SHOWN * SHOWN).enumerate();
    let pixels = pictures.flat_map(|(k, picture)| {
        let corner = [(k % SHOWN * (SIDE + 1)) as f32, (k / SHOWN * (SIDE + 1)) as f32];
        picture.iter().enumerate().map(move |(pixel, v)| {
            let (x, y) = (corner[0] + (pixel % SIDE) as f32, corner[1] + (pixel / SIDE) as f32);
            let fill = RGBColor(shade(*v, color.0), shade(*v, color.1), shade(*v, color.2));
            Rectangle::new([(x, y), (x + 1.0, y + 1.0)], fill.filled())
        })
    });
    chart.draw_series(pixels)?;
    Ok(())
}
