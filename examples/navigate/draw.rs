//! Pictures of a run: the map, sampled rollouts, and the path of the robot.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use image::{ImageFormat, Rgb, RgbImage, imageops};
use rayon::prelude::*;

use crate::distance::CostToGo;
use crate::maneuver::Goal;
use crate::map::{Cell, Map};
use crate::robot::{SPEED, TERMS};

type Color = [u8; 3];

const FREE: Color = [252, 252, 250];
const OCCUPIED: Color = [45, 48, 56];
const UNKNOWN: Color = [196, 198, 202];
const CONTOUR: Color = [150, 185, 175];
const NEAR_GOAL: Color = [214, 240, 226];
const LIGHT_SAMPLE: Color = [190, 205, 235];
const HEAVY_SAMPLE: Color = [25, 60, 205];
const SLOW: Color = [120, 10, 110];
const FAST: Color = [255, 140, 20];
const START: Color = [90, 90, 100];
const GOAL: Color = [0, 140, 80];
const ROBOT: Color = [225, 60, 40];
const INK: Color = [45, 48, 56];
/// The colors of light rollouts that each of [`TERMS`] holds back.
const TERM_SAMPLES: [Color; TERMS.len()] =
    [[110, 195, 120], [240, 120, 110], [95, 205, 225], [245, 190, 80], [205, 140, 230], [150, 150, 165]];

/// The longest side that a picture should have (in pixels); small maps are enlarged by whole numbers up to it, and maps
/// of more than twice as many cells are reduced by whole numbers.
const SIDE: usize = 1440;

/// One sampled rollout: its weight relative to the heaviest, its poses, and the term of the cost that colors it.
#[derive(Debug, Clone)]
pub struct Sampled {
    pub weight: f32,
    pub poses: Vec<[f32; 3]>,
    pub term: Option<&'static str>,
}

/// A picture of a map, its own axes upright, with a scale bar below.
#[derive(Clone)]
pub struct Picture<'a> {
    map: &'a Map,
    image: RgbImage,
    /// Pixels per cell.
    scale: f64,
    /// Half the width of a path (in pixels).
    pen: f64,
    /// The height at which the map ends and the strip with the scale bar begins (in pixels).
    bottom: u32,
    /// The side of a dot of the letters (in pixels).
    dot: usize,
}

impl<'a> Picture<'a> {
    /// Draws the map in grays, with contours of the cost to go where there is a way.
    pub fn new(map: &'a Map, cost: &CostToGo) -> Self {
        let side = map.width.max(map.height);
        let (scale, block) = ((SIDE / side).clamp(1, 16), side.div_ceil(2 * SIDE));
        let [width, height] = [map.width, map.height].map(|cells| (cells * scale).div_ceil(block));
        let dot = (width.max(height) / 480).min(width / 60).max(1);
        let mut picture = Self {
            map,
            image: RgbImage::new(1, 1),
            scale: scale as f64 / block as f64,
            pen: (width.max(height) as f64 / 640.0).max(1.2),
            bottom: height as u32,
            dot,
        };
        let most = cost.most().max(1.0);
        // About twenty contours, spaced by a round distance.
        let spacing =
            [0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0].into_iter().find(|s| most / s < 25.0).unwrap_or(100.0);
        let value = |px: u32, py: u32| cost.smooth(map.to_world(picture.cells_at(px, py)));
        // A pixel shows the worst of its cells; otherwise thin walls would have holes.
        let shown = |[i, j]: [f64; 2]| {
            let range = |at: f64, end: usize| {
                let first = (at - 0.5 * (block - 1) as f64).max(0.0) as usize;
                first.min(end - 1)..(first + block).min(end)
            };
            let cells =
                range(j, map.height).flat_map(|j| range(i, map.width).map(move |i| map.cells[j * map.width + i]));
            cells.max().unwrap_or(Cell::Unknown)
        };
        let color = |px: u32, py: u32| {
            if py >= picture.bottom {
                return FREE;
            }
            let mut color = match shown(picture.cells_at(px, py)) {
                Cell::Free => FREE,
                Cell::Occupied => OCCUPIED,
                Cell::Unknown => UNKNOWN,
            };
            if let Some(here) = value(px, py) {
                color = mix(NEAR_GOAL, color, (here / most).sqrt());
                let band = |v: f64| (v / spacing).floor();
                let crossed = |v: Option<f64>| v.is_some_and(|v| band(v) != band(here));
                if crossed(value((px + 1).min(width as u32 - 1), py))
                    || crossed(value(px, (py + 1).min(height as u32 - 1)))
                {
                    color = mix(color, CONTOUR, 0.6);
                }
            }
            color
        };
        let mut image = RgbImage::new(width as u32, (height + 9 * dot) as u32);
        let rows: Vec<_> = image.enumerate_rows_mut().collect();
        rows.into_par_iter().for_each(|(py, row)| row.for_each(|(px, _, pixel)| *pixel = Rgb(color(px, py))));
        picture.image = image;
        picture.scale_bar();
        picture
    }

    /// Draws a bar of a round length in the strip below the map, with its length in meters.
    fn scale_bar(&mut self) {
        let dot = self.dot;
        let length = round_length(f64::from(self.image.width()) / self.scale * self.map.resolution / 4.0);
        let pixels = (length / self.map.resolution * self.scale).round() as usize;
        let (left, top) = (2 * dot, self.bottom as usize + 2 * dot);
        // The bar, with a tick up at each end.
        self.block([left, top + 4 * dot], [pixels, dot], INK);
        self.block([left, top], [dot, 5 * dot], INK);
        self.block([left + pixels.saturating_sub(dot), top], [dot, 5 * dot], INK);
        self.text([left + pixels + 2 * dot, top], &format!("{length} m"));
    }

    /// Writes a line of text, given its upper left corner (in pixels).
    fn text(&mut self, [left, top]: [usize; 2], text: &str) {
        let (dot, mut at) = (self.dot, left);
        for glyph in text.chars().map(glyph) {
            for (row, dots) in glyph.iter().enumerate() {
                for (column, _) in dots.char_indices().filter(|&(_, c)| c == '#') {
                    self.block([at + column * dot, top + row * dot], [dot, dot], INK);
                }
            }
            at += (glyph[0].len() + 1) * dot;
        }
    }

    /// Adds lines below the map with the name and the color of every term.
    pub fn legend(&mut self) {
        let (dot, width, top) = (self.dot, self.image.width() as usize, self.image.height() as usize);
        let (mut left, mut line, mut places) = (2 * dot, 0, Vec::new());
        for name in TERMS {
            let letters: usize = name.chars().map(|letter| glyph(letter)[0].len() + 1).sum();
            let length = (7 + letters) * dot;
            if left > 2 * dot && left + length > width {
                (left, line) = (2 * dot, line + 1);
            }
            places.push([left, top + (1 + 8 * line) * dot]);
            left += length + 4 * dot;
        }
        let mut image = RgbImage::from_pixel(width as u32, (top + 8 * (line + 1) * dot) as u32, Rgb(FREE));
        imageops::replace(&mut image, &self.image, 0, 0);
        self.image = image;
        for ((name, color), [left, top]) in TERMS.into_iter().zip(TERM_SAMPLES).zip(places) {
            self.block([left, top], [5 * dot, 5 * dot], color);
            self.text([left + 7 * dot, top], name);
        }
    }

    /// Fills a rectangle, given its upper left corner (in pixels) and clipped to the picture.
    fn block(&mut self, [left, top]: [usize; 2], [width, height]: [usize; 2], color: Color) {
        let (right, low) = (self.image.width() as usize, self.image.height() as usize);
        for py in top..(top + height).min(low) {
            for px in left..(left + width).min(right) {
                self.image.put_pixel(px as u32, py as u32, Rgb(color));
            }
        }
    }

    /// Draws sampled rollouts, the light ones first, so that the heavy ones lie on top. Walls remain visible: rollouts
    /// without a term only darken pixels, and those with one leave dark pixels as they are.
    pub fn fan(&mut self, samples: &[Sampled]) {
        let mut order: Vec<_> = samples.iter().collect();
        order.sort_by(|a, b| a.weight.total_cmp(&b.weight));
        for sample in order {
            let term = TERMS.iter().position(|name| Some(*name) == sample.term);
            let light = term.map_or(LIGHT_SAMPLE, |term| TERM_SAMPLES[term]);
            let color = mix(light, HEAVY_SAMPLE, f64::from(sample.weight).sqrt());
            let ink = |under: Color| match term {
                None => std::array::from_fn(|i| under[i].min(color[i])),
                Some(_) if under.iter().all(|channel| *channel < 100) => under,
                Some(_) => color,
            };
            for pair in sample.poses.windows(2) {
                self.stroke(pair[0], pair[1], 0.35 * self.pen, ink);
            }
        }
    }

    /// Draws the driven path, colored by speed, given poses and the speed (in m/s) from each to the next.
    pub fn path(&mut self, poses: &[[f32; 3]], speeds: &[f32]) {
        for (pair, speed) in poses.windows(2).zip(speeds) {
            let color = mix(SLOW, FAST, f64::from(speed.abs() / SPEED));
            self.line(pair[0], pair[1], self.pen, color);
        }
    }

    /// Draws a ring around the start.
    pub fn start(&mut self, pose: [f32; 3], radius: f64) {
        self.outline(pose, radius, START);
    }

    /// Draws the goal: a circle of the tolerance and a dot, with a stroke outwards if a heading is given.
    pub fn goal(&mut self, goal: Goal, tolerance: f64) {
        let [x, y] = goal.at;
        let [px, py] = self.pixel([x, y, 0.0]);
        let radius = tolerance / self.map.resolution * self.scale;
        let (pen, reach) = (self.pen, radius + 2.0 * self.pen);
        let shape = |x: f64, y: f64| {
            let d = (x - px).hypot(y - py);
            ((d - radius).abs() - 0.7 * pen).min(d - 2.0 * pen)
        };
        self.fill([px - reach, py - reach], [px + reach, py + reach], |_| GOAL, shape);
        if let Some(yaw) = goal.yaw {
            let along = |reach: f64| {
                let reach = (reach * tolerance) as f32;
                [x + reach * yaw.cos(), y + reach * yaw.sin(), yaw]
            };
            self.line(along(1.0), along(1.5), 0.7 * pen, GOAL);
        }
    }

    /// Draws the robot: its disc, and a stroke toward its front.
    pub fn robot(&mut self, pose: [f32; 3], radius: f64) {
        let [px, py] = self.pixel(pose);
        let r = radius / self.map.resolution * self.scale;
        self.fill(
            [px - r - 1.0, py - r - 1.0],
            [px + r + 1.0, py + r + 1.0],
            |_| ROBOT,
            |x, y| (x - px).hypot(y - py) - r,
        );
        let [x, y, heading] = pose;
        let front = [x + radius as f32 * heading.cos(), y + radius as f32 * heading.sin(), heading];
        self.line(pose, front, (0.15 * r).max(0.8), FREE);
    }

    /// Draws the robot's outline at an earlier pose.
    pub fn outline(&mut self, pose: [f32; 3], radius: f64, color: Color) {
        let [px, py] = self.pixel(pose);
        let radius = radius / self.map.resolution * self.scale;
        let (pen, reach) = (self.pen, radius + self.pen);
        let ring = |x: f64, y: f64| ((x - px).hypot(y - py) - radius).abs() - 0.5 * pen;
        self.fill([px - reach, py - reach], [px + reach, py + reach], |_| color, ring);
    }

    /// Marks the pose of the robot at a fan.
    pub fn ghost(&mut self, pose: [f32; 3], radius: f64) {
        self.outline(pose, radius, ROBOT);
    }

    /// Writes a PNG.
    pub fn save(&self, path: &Path) -> Result<()> {
        // Encode to memory first: streaming encoders drop the error of a full disk.
        let mut png = Cursor::new(Vec::new());
        self.image.write_to(&mut png, ImageFormat::Png)?;
        std::fs::write(path, png.into_inner()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The map without the scale bar, which would be too small to read, reduced so that its longest side has at most
    /// `side` pixels.
    pub fn reduced(&self, side: u32) -> RgbImage {
        let (width, height) = (self.image.width(), self.bottom);
        let map = imageops::crop_imm(&self.image, 0, 0, width, height);
        let ratio = (f64::from(side) / f64::from(width.max(height))).min(1.0);
        let [width, height] = [width, height].map(|pixels| ((f64::from(pixels) * ratio).round() as u32).max(1));
        imageops::thumbnail(&*map, width, height)
    }

    /// The map coordinates (in cells) of the center of a pixel.
    fn cells_at(&self, px: u32, py: u32) -> [f64; 2] {
        [(f64::from(px) + 0.5) / self.scale, self.map.height as f64 - (f64::from(py) + 0.5) / self.scale]
    }

    /// The position of a pose on the picture (in pixels).
    fn pixel(&self, [x, y, _]: [f32; 3]) -> [f64; 2] {
        let [i, j] = self.map.to_cells([f64::from(x), f64::from(y)]);
        [i * self.scale, (self.map.height as f64 - j) * self.scale]
    }

    /// Draws a straight stroke with round ends.
    fn line(&mut self, from: [f32; 3], to: [f32; 3], half: f64, color: Color) {
        self.stroke(from, to, half, |_| color);
    }

    /// Draws a stroke whose color depends on the pixel below.
    fn stroke(&mut self, from: [f32; 3], to: [f32; 3], half: f64, ink: impl Fn(Color) -> Color) {
        let ([ax, ay], [bx, by]) = (self.pixel(from), self.pixel(to));
        let (dx, dy) = (bx - ax, by - ay);
        let square = (dx * dx + dy * dy).max(1e-9);
        let stroke = |x: f64, y: f64| {
            let along = (((x - ax) * dx + (y - ay) * dy) / square).clamp(0.0, 1.0);
            (x - ax - along * dx).hypot(y - ay - along * dy) - half
        };
        let reach = half + 1.0;
        self.fill([ax.min(bx) - reach, ay.min(by) - reach], [ax.max(bx) + reach, ay.max(by) + reach], ink, stroke);
    }

    /// Fills a shape given by its signed distance (in pixels, negative inside) in a box, with a smooth edge.
    fn fill(&mut self, low: [f64; 2], high: [f64; 2], ink: impl Fn(Color) -> Color, shape: impl Fn(f64, f64) -> f64) {
        let columns = low[0].max(0.0) as u32..(high[0].max(0.0).ceil() as u32).min(self.image.width());
        for py in low[1].max(0.0) as u32..(high[1].max(0.0).ceil() as u32).min(self.bottom) {
            for px in columns.clone() {
                let cover = (0.5 - shape(f64::from(px) + 0.5, f64::from(py) + 0.5)).clamp(0.0, 1.0);
                if cover > 0.0 {
                    let pixel = self.image.get_pixel_mut(px, py);
                    pixel.0 = mix(pixel.0, ink(pixel.0), cover);
                }
            }
        }
    }
}

/// The greatest of 1, 2 and 5 times a power of ten that is not above `most`.
fn round_length(most: f64) -> f64 {
    let power = 10.0_f64.powi(most.log10().floor() as i32);
    let digit = [5.0, 2.0, 1.0].into_iter().find(|digit| digit * power <= most * (1.0 + 1e-9)).unwrap_or(1.0);
    // A power of ten below 1 is not exact; its reciprocal is.
    if power < 1.0 { digit / power.recip().round() } else { digit * power }
}

/// The glyphs of a scale bar and of the names of terms, which are written in capitals.
fn glyph(letter: char) -> [&'static str; 5] {
    match letter {
        '0' => ["###", "#.#", "#.#", "#.#", "###"],
        '1' => [".#.", "##.", ".#.", ".#.", "###"],
        '2' => ["###", "..#", "###", "#..", "###"],
        '5' => ["###", "#..", "###", "..#", "###"],
        '.' => [".", ".", ".", ".", "#"],
        'm' => [".....", "##.#.", "#.#.#", "#.#.#", "#.#.#"],
        'a' => [".#.", "#.#", "###", "#.#", "#.#"],
        'd' => ["##.", "#.#", "#.#", "#.#", "##."],
        'e' => ["###", "#..", "##.", "#..", "###"],
        'g' => ["###", "#..", "#.#", "#.#", "###"],
        'h' => ["#.#", "#.#", "###", "#.#", "#.#"],
        'i' => ["#", "#", "#", "#", "#"],
        'l' => ["#..", "#..", "#..", "#..", "###"],
        'n' => ["#..#", "##.#", "#.##", "#..#", "#..#"],
        'p' => ["###", "#.#", "###", "#..", "#.."],
        'r' => ["##.", "#.#", "##.", "#.#", "#.#"],
        's' => ["###", "#..", "###", "..#", "###"],
        't' => ["###", ".#.", ".#.", ".#.", ".#."],
        'u' => ["#.#", "#.#", "#.#", "#.#", "###"],
        'w' => ["#...#", "#...#", "#.#.#", "#.#.#", ".#.#."],
        'y' => ["#.#", "#.#", ".#.", ".#.", ".#."],
        _ => [".."; 5],
    }
}

/// Interpolates from `a` to `b` as `t` goes from 0 to 1.
fn mix(a: Color, b: Color, t: f64) -> Color {
    let t = t.clamp(0.0, 1.0);
    std::array::from_fn(|i| (f64::from(a[i]) * (1.0 - t) + f64::from(b[i]) * t).round() as u8)
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressBar;

    use super::*;
    use crate::distance::{Clearance, Comfort};
    use crate::map::tests::sketch;

    #[test]
    fn a_scale_bar_has_a_round_length() {
        for (most, expected) in
            [(0.013, 0.01), (0.3, 0.2), (0.5, 0.5), (1.0, 1.0), (4.99, 2.0), (5.0, 5.0), (99.0, 50.0), (1234.5, 1000.0)]
        {
            assert_eq!(round_length(most), expected);
            assert!(format!("{expected} m").chars().all(|c| c == ' ' || glyph(c) != glyph(' ')));
        }
        assert!(TERMS.concat().chars().all(|c| glyph(c) != glyph(' ')));
    }

    #[test]
    fn the_scale_bar_is_as_long_as_it_says() {
        // 60 cells of 0.1 m, so that a quarter of the width is 1.5 m and the bar 1 m: 10 cells.
        let map = sketch(&[&".".repeat(60); 30], 0.1);
        let comfort = Comfort { radius: 0.1, margin: 0.1, weight: 0.0 };
        let cost = CostToGo::new(&map, &Clearance::new(&map), comfort, [3.0, 1.5], &ProgressBar::hidden()).unwrap();
        let picture = Picture::new(&map, &cost);
        let (width, height) = (picture.image.width(), picture.image.height());
        let below = 30 * picture.scale as u32;
        assert!(height > below && width == 60 * picture.scale as u32);
        let ink = |py: u32| (0..width).filter(|&px| picture.image.get_pixel(px, py).0 == INK).count() as f64;
        let longest = (below..height).map(ink).fold(0.0, f64::max);
        // The letters beside the bar draw pixels, too.
        assert!((10.0 * picture.scale..11.5 * picture.scale).contains(&longest), "{longest}");
    }

    /// A blank picture of a map with a wall in its middle column.
    fn with_picture(size: [usize; 2], check: impl FnOnce(Picture)) {
        let row = ".".repeat(size[0] / 2) + "#" + &".".repeat(size[0] / 2);
        let map = sketch(&vec![&*row; size[1]], 0.1);
        let comfort = Comfort { radius: 0.1, margin: 0.1, weight: 0.0 };
        let cost = CostToGo::new(&map, &Clearance::new(&map), comfort, [0.5, 0.5], &ProgressBar::hidden()).unwrap();
        check(Picture::new(&map, &cost));
    }

    fn count(picture: &Picture, color: Color) -> usize {
        picture.image.pixels().filter(|pixel| pixel.0 == color).count()
    }

    #[test]
    fn the_legend_names_every_term_in_its_color_and_wraps() {
        for size in [[100, 30], [20, 60]] {
            with_picture(size, |mut picture| {
                let (before, ink) = (picture.image.height(), count(&picture, INK));
                picture.legend();
                let lines = (picture.image.height() - before) / (8 * picture.dot as u32);
                assert_eq!(lines > 1, size[0] < size[1], "{lines} lines");
                for color in TERM_SAMPLES {
                    assert_eq!(count(&picture, color), (5 * picture.dot).pow(2));
                }
                let dots = |name: &str| name.chars().flat_map(glyph).flat_map(str::chars).filter(|c| *c == '#').count();
                let letters: usize = TERMS.into_iter().map(dots).sum();
                assert_eq!(count(&picture, INK), ink + letters * picture.dot.pow(2));
            });
        }
    }

    #[test]
    fn rollouts_have_the_colors_of_their_terms_and_leave_walls_visible() {
        with_picture([60, 30], |mut picture| {
            picture.pen = 10.0;
            let walls = count(&picture, OCCUPIED);
            let poses = |y: f32| vec![[0.3, y, 0.0], [5.8, y, 0.0]];
            let rollout = |i: usize| Sampled { weight: 0.0, poses: poses(0.3 + 0.4 * i as f32), term: Some(TERMS[i]) };
            picture.fan(&(0..TERMS.len()).map(rollout).collect::<Vec<_>>());
            picture.fan(&[Sampled { weight: 1.0, poses: poses(2.8), term: Some(TERMS[0]) }]);
            for color in TERM_SAMPLES.into_iter().chain([HEAVY_SAMPLE]) {
                assert!(count(&picture, color) > 500, "{color:?}");
            }
            assert_eq!(count(&picture, OCCUPIED), walls);
        });
    }
}
