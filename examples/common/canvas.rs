//! Drawing helpers shared by the examples: a white canvas that is written as a PNG, an embedded font, and plain axes.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use plotters::chart::{ChartContext, MeshStyle};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf32;
use plotters::prelude::*;
use plotters::style::FontStyle;

pub const FONT: &str = "sans-serif";
pub const INK: RGBColor = RGBColor(40, 44, 52);

pub type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;
pub type Plane<'a, 'b> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<RangedCoordf32, RangedCoordf32>>;

/// Draws a picture of `size` pixels and writes it to `path`.
pub fn picture(path: &Path, size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<()> {
    plotters::style::register_font(FONT, FontStyle::Normal, epaint_default_fonts::HACK_REGULAR)
        .map_err(|_| anyhow!("the font cannot be read"))?;
    let mut pixels = vec![255; size.0 as usize * size.1 as usize * 3];
    {
        let root = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        draw(&root)?;
        root.present()?;
    }
    // Encode to memory first: streaming encoders drop the error of a full disk.
    let mut png = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive);
    encoder.write_image(&pixels, size.0, size.1, image::ExtendedColorType::Rgb8)?;
    std::fs::write(path, png).with_context(|| format!("cannot write {}", path.display()))
}

/// Draws axes and labels in the ink color, with grid lines at the labels only.
pub fn axes<'a, 'b, 'c>(
    chart: &'b mut Plane<'a, 'c>,
) -> MeshStyle<'a, 'b, RangedCoordf32, RangedCoordf32, BitMapBackend<'c>> {
    let mut mesh = chart.configure_mesh();
    mesh.label_style((FONT, 15).into_font().color(&INK))
        .axis_desc_style((FONT, 17).into_font().color(&INK))
        .axis_style(INK.mix(0.5))
        .bold_line_style(INK.mix(0.12))
        .light_line_style(TRANSPARENT);
    mesh
}
