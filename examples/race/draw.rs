//! The picture: the driven line on the track, colored by speed, and speed and lateral acceleration over the distance.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use plotters::coord::types::RangedCoordf32;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::canvas::{Area, FONT, INK, axes, picture};
use crate::curve::Place;
use crate::drive::{Lap, Moment};
use crate::track::Track;

const SIZE: (u32, u32) = (1760, 920);
/// The width of the map, and of the color bar beside it.
const MAP: u32 = 930;
const BAR: u32 = 100;
const ASPHALT: RGBColor = RGBColor(222, 224, 229);
const EDGE: RGBColor = RGBColor(120, 124, 134);
const GUIDE: RGBColor = RGBColor(0, 140, 80);
const DRIVEN: RGBColor = RGBColor(25, 60, 205);
const ACROSS: RGBColor = RGBColor(200, 80, 20);
const WRONG: RGBColor = RGBColor(210, 0, 30);

/// The parts of a run that its picture shows.
pub struct Shown<'a> {
    pub track: &'a Track,
    pub lap: &'a Lap,
    pub title: String,
    /// The quasi-steady-state speeds over the distance along the center line (in m/s and meters), and their name.
    pub limit: Vec<(f32, f32)>,
    pub limit_name: String,
    /// The largest acceleration that friction allows (in m/s²).
    pub grip: f32,
}

impl Shown<'_> {
    pub fn draw(&self, path: &Path) -> Result<()> {
        let moments = &self.lap.moments;
        let speeds = || moments.iter().map(|moment| moment.speed);
        let slowest = (speeds().fold(f32::MAX, f32::min) / 5.0).floor() * 5.0;
        let fastest = (speeds().fold(0.0, f32::max) / 5.0).ceil() * 5.0;
        anyhow::ensure!(moments.len() > 1, "there is nothing to draw: the run has no time steps");
        let range = slowest..fastest.max(slowest + 5.0);
        picture(path, SIZE, |root| {
            let (map, rest) = root.split_horizontally(MAP);
            let (bar, plots) = rest.split_horizontally(BAR);
            self.map(&map.margin(8, 8, 8, 0), &range)?;
            color_bar(&bar, &range)?;
            let (above, below) = plots.margin(8, 8, 6, 16).split_vertically(440);
            self.speed(&above)?;
            self.lateral(&below)
        })
    }

    fn map(&self, area: &Area<'_>, range: &Range<f32>) -> Result<()> {
        const LABELS: (u32, u32) = (66, 48);
        const CAPTION: u32 = 34;
        let edges = self.edges();
        let corners = || edges.iter().flatten();
        let side = |axis: usize| {
            let values = || corners().map(move |point: &[f32; 2]| point[axis]);
            (values().fold(f32::MAX, f32::min), values().fold(f32::MIN, f32::max))
        };
        let (width, height) = area.dim_in_pixel();
        let pixels = ((width - LABELS.0) as f32, (height - LABELS.1 - CAPTION) as f32);
        let ((left, right), (low, high)) = (side(0), side(1));
        // As many meters a pixel along both axes.
        let scale = 1.06 * ((right - left) / pixels.0).max((high - low) / pixels.1);
        let span = |low: f32, high: f32, pixels: f32| {
            let (middle, half) = (0.5 * (low + high), 0.5 * scale * pixels);
            middle - half..middle + half
        };
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FONT, 19).into_font().color(&INK))
            .y_label_area_size(LABELS.0)
            .x_label_area_size(LABELS.1)
            .build_cartesian_2d(span(left, right, pixels.0), span(low, high, pixels.1))?;
        axes(&mut chart)
            .x_desc("x (m)")
            .y_desc("y (m)")
            .x_labels(8)
            .y_labels(8)
            .x_label_formatter(&whole)
            .y_label_formatter(&whole)
            .draw()?;
        let around = || edges.iter().zip(edges.iter().cycle().skip(1));
        chart.draw_series(
            around().map(|([a, b], [c, d])| Polygon::new([*a, *b, *d, *c].map(|[x, y]| (x, y)), ASPHALT.filled())),
        )?;
        for side in 0..2 {
            let line = edges.iter().chain(edges.first()).map(|pair| (pair[side][0], pair[side][1]));
            chart.draw_series(LineSeries::new(line, EDGE.stroke_width(2)))?;
        }
        // Drawn segment by segment, each in its color.
        let points: Vec<_> =
            self.lap.moments.iter().map(|m| ((m.point[0] as f32, m.point[1] as f32), m.speed)).collect();
        chart.draw_series(points.windows(2).map(|pair| {
            let color = color_of((pair[0].1 - range.start) / (range.end - range.start));
            PathElement::new(vec![pair[0].0, pair[1].0], color.stroke_width(3))
        }))?;
        if let Some([[ax, ay], [bx, by]]) = edges.first() {
            chart.draw_series([PathElement::new(vec![(*ax, *ay), (*bx, *by)], INK.stroke_width(3))])?;
            let [x, y] = self.start_label(scale);
            let style = (FONT, 15).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Center));
            chart.draw_series([EmptyElement::at((x, y)) + Text::new("start", (0, 0), style)])?;
        }
        let wrong = self.lap.excursions.iter().map(|at| self.track.center.at(*at).point);
        chart.draw_series(wrong.map(|[x, y]| Circle::new((x as f32, y as f32), 9, WRONG.stroke_width(3))))?;
        Ok(())
    }

    /// The left and the right edge at every second sample of the center line.
    fn edges(&self) -> Vec<[[f32; 2]; 2]> {
        let center = &self.track.center;
        let count = center.samples().len() / 2;
        let at = |i: usize| {
            let along = center.length() * i as f64 / count as f64;
            let [left, right] = self.track.widths(along);
            [left, -right].map(|offset| center.point(Place { along, offset }).map(|v| v as f32))
        };
        (0..count).map(at).collect()
    }

    /// Where the word "start" has room: 26 pixels beyond the edge, on the side away from the middle of the track.
    fn start_label(&self, scale: f32) -> [f32; 2] {
        let center = &self.track.center;
        let middle = [0, 1].map(|axis| {
            center.samples().iter().map(|sample| sample.point[axis]).sum::<f64>() / center.samples().len() as f64
        });
        let [left, right] = self.track.widths(0.0);
        let beyond = f64::from(scale) * 30.0;
        let sides = [left + beyond, -right - beyond].map(|offset| center.point(Place { along: 0.0, offset }));
        let far = |point: &[f64; 2]| (point[0] - middle[0]).hypot(point[1] - middle[1]);
        let [a, b] = sides;
        (if far(&a) > far(&b) { a } else { b }).map(|v| v as f32)
    }

    fn speed(&self, area: &Area<'_>) -> Result<()> {
        let driven = self.over_distance(|moment| moment.speed);
        let top = driven.iter().chain(&self.limit).fold(0.0, |top: f32, (_, speed)| top.max(*speed));
        let mut chart = self.plot(area, "Speed (m/s)", 0.0..1.05 * top, false)?;
        // No farther than what was driven.
        let end = driven.last().map_or(0.0, |(distance, _)| *distance);
        let limit = self.limit.iter().copied().filter(|(distance, _)| *distance <= end);
        chart
            .draw_series(LineSeries::new(limit, GUIDE.stroke_width(2)))?
            .label(self.limit_name.as_str())
            .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], GUIDE.stroke_width(2)));
        chart
            .draw_series(segments(&driven, DRIVEN))?
            .label("driven")
            .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], DRIVEN.stroke_width(2)));
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerLeft)
            .label_font((FONT, 15).into_font().color(&INK))
            .background_style(WHITE.mix(0.85))
            .legend_area_size(28)
            .draw()?;
        Ok(())
    }

    fn lateral(&self, area: &Area<'_>) -> Result<()> {
        let high = 1.25 * self.grip.max(self.lap.max_lateral);
        let mut chart = self.plot(area, "Acceleration to the left (m/s²)", -high..high, true)?;
        let end = self.end();
        for limit in [self.grip, -self.grip] {
            chart.draw_series(DashedLineSeries::new([(0.0, limit), (end, limit)], 8, 6, GUIDE.stroke_width(1)))?;
        }
        let style = (FONT, 15).into_font().color(&GUIDE).pos(Pos::new(HPos::Right, VPos::Bottom));
        chart.draw_series([EmptyElement::at((end, self.grip)) + Text::new("limit of friction", (-4, -3), style)])?;
        let across = self.over_distance(|moment| moment.lateral);
        chart.draw_series(segments(&across, ACROSS))?;
        Ok(())
    }

    /// The end of the distance axis: that of the lap, or of the part that was driven.
    fn end(&self) -> f32 {
        if self.lap.time.is_some() { self.track.center.length() as f32 } else { self.last() }
    }

    fn last(&self) -> f32 {
        self.lap.moments.last().map_or(1.0, |last| last.distance as f32).max(1.0)
    }

    fn over_distance(&self, value: fn(&Moment) -> f32) -> Vec<(f32, f32)> {
        self.lap.moments.iter().map(|moment| (moment.distance as f32, value(moment))).collect()
    }

    fn plot<'a, 'b>(
        &self,
        area: &'a Area<'b>,
        title: &str,
        range: Range<f32>,
        is_last: bool,
    ) -> Result<ChartContext<'a, BitMapBackend<'b>, Cartesian2d<RangedCoordf32, RangedCoordf32>>> {
        let mut chart = ChartBuilder::on(area)
            .caption(title, (FONT, 19).into_font().color(&INK))
            .margin_right(16)
            .y_label_area_size(50)
            .x_label_area_size(if is_last { 48 } else { 26 })
            .build_cartesian_2d(0.0..self.end(), range)
            .context("the plot cannot be drawn")?;
        axes(&mut chart)
            .x_desc(if is_last { "distance from the start line (m)" } else { "" })
            .x_labels(8)
            .y_labels(8)
            .x_label_formatter(&whole)
            .y_label_formatter(&whole)
            .draw()?;
        Ok(chart)
    }
}

/// A curve, segment by segment: a thick polyline would have spikes where it turns back sharply.
fn segments(points: &[(f32, f32)], color: RGBColor) -> Vec<PathElement<(f32, f32)>> {
    points.windows(2).map(|pair| PathElement::new(pair.to_vec(), color.stroke_width(2))).collect()
}

/// A label of an axis without decimals.
fn whole(value: &f32) -> String {
    format!("{value:.0}")
}

fn color_bar(area: &Area<'_>, range: &Range<f32>) -> Result<()> {
    const STEPS: usize = 120;
    let mut chart = ChartBuilder::on(area)
        .margin_left(14)
        .margin_top(60)
        .margin_bottom(64)
        .right_y_label_area_size(62)
        .build_cartesian_2d(0.0_f32..1.0, range.clone())?
        .set_secondary_coord(0.0_f32..1.0, range.clone());
    chart
        .configure_secondary_axes()
        .y_desc("speed (m/s)")
        .y_label_formatter(&whole)
        .label_style((FONT, 15).into_font().color(&INK))
        .axis_desc_style((FONT, 17).into_font().color(&INK))
        .axis_style(INK.mix(0.5))
        .draw()?;
    chart.draw_series((0..STEPS).map(|i| {
        let at = |i: usize| range.start + (range.end - range.start) * i as f32 / STEPS as f32;
        Rectangle::new([(0.0, at(i)), (1.0, at(i + 1))], color_of((i as f32 + 0.5) / STEPS as f32).filled())
    }))?;
    Ok(())
}

/// From blue (0) over green and orange to dark red (1).
fn color_of(t: f32) -> RGBColor {
    const STOPS: [[f32; 3]; 6] = [
        [48.0, 30.0, 150.0],
        [40.0, 125.0, 235.0],
        [20.0, 175.0, 130.0],
        [165.0, 190.0, 30.0],
        [245.0, 145.0, 25.0],
        [185.0, 20.0, 20.0],
    ];
    let place = t.clamp(0.0, 1.0) * (STOPS.len() - 1) as f32;
    let i = (place as usize).min(STOPS.len() - 2);
    let mix =
        |channel: usize| (STOPS[i][channel] + (place - i as f32) * (STOPS[i + 1][channel] - STOPS[i][channel])) as u8;
    RGBColor(mix(0), mix(1), mix(2))
}
