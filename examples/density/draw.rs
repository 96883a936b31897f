//! The picture: samples over the density they should have.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use crate::canvas::{FONT, INK, axes, picture};
use crate::{CELLS, REACH, Sampled, middle};

const SIDE: u32 = 460;
const POINT: RGBColor = RGBColor(200, 60, 20);

/// Draws a panel for each density.
pub fn densities(path: &Path, all: &[Sampled]) -> Result<()> {
    let whole = |v: &f32| format!("{v:.0}");
    let columns = all.len().clamp(1, 2);
    let rows = all.len().div_ceil(columns);
    picture(path, (columns as u32 * SIDE, rows as u32 * SIDE), |root| {
        for (sampled, area) in all.iter().zip(root.margin(4, 4, 4, 12).split_evenly((rows, columns))) {
            let mut chart = ChartBuilder::on(&area)
                .caption(&sampled.title, (FONT, 18).into_font().color(&INK))
                .x_label_area_size(26)
                .y_label_area_size(34)
                .build_cartesian_2d(-REACH..REACH, -REACH..REACH)?;
            axes(&mut chart)
                .disable_mesh()
                .x_labels(7)
                .y_labels(7)
                .x_label_formatter(&whole)
                .y_label_formatter(&whole)
                .draw()?;
            // Every fifth cell along each axis matches the resolution of the pixels.
            let (step, half) = (5, 2.5 * 2.0 * REACH / CELLS as f32);
            let cell = |i: usize, j: usize| {
                let shade = 1.0 - 0.55 * sampled.density[j * CELLS + i].sqrt();
                let color = RGBColor((255.0 * shade) as u8, (255.0 * shade) as u8, (160.0 + 95.0 * shade) as u8);
                let (x, y) = (middle(i), middle(j));
                Rectangle::new([(x - half, y - half), (x + half, y + half)], color.filled())
            };
            let places = (2..CELLS).step_by(step).flat_map(|j| (2..CELLS).step_by(step).map(move |i| (i, j)));
            chart
                .draw_series(places.filter(|(i, j)| sampled.density[j * CELLS + i] > 1e-4).map(|(i, j)| cell(i, j)))?;
            let shown = sampled.samples.iter().take(2500).filter(|[x, y]| x.abs() < REACH && y.abs() < REACH);
            chart.draw_series(shown.map(|[x, y]| Circle::new((*x, *y), 1, POINT.mix(0.6).filled())))?;
        }
        Ok(())
    })
}
