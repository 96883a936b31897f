//! Occupancy-grid maps in the format of ROS `map_server`: a YAML file beside a PGM, PNG or BMP image.

use std::path::Path;

use anyhow::Result;
use image::{DynamicImage, GenericImageView};
use rayon::prelude::*;

use crate::pixels;
use crate::yaml::{Meta, Mode};

/// The state of a cell, ordered from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Free,
    Unknown,
    Occupied,
}

/// An occupancy grid and its pose in the world. Cells are stored row by row, the row with the smallest y first.
#[derive(Debug, Clone)]
pub struct Map {
    pub width: usize,
    pub height: usize,
    /// Meters per cell.
    pub resolution: f64,
    /// The lower-left corner of the lower-left cell (in meters).
    pub origin: [f64; 2],
    /// The rotation about that corner (in radians).
    pub yaw: f64,
    pub cells: Vec<Cell>,
}

/// A map as it was read.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub map: Map,
    /// The number of free cells with the gray that map savers write for unknown ones.
    pub gray: usize,
    /// Whether the file swaps black and white.
    negate: bool,
}

impl Loaded {
    /// Warnings to show before a drive through the map.
    pub fn warning(&self) -> Option<String> {
        let Self { gray, negate, .. } = *self;
        let advice = match negate {
            true => "",
            false => "; with the usual free_thresh of 0.196 they would be unknown",
        };
        (gray > 0).then(|| {
            format!(
                "free_thresh makes {gray} cells free whose gray ({UNKNOWN_GRAY}) map savers write for unknown{advice}"
            )
        })
    }
}

/// The gray level that map savers write for an unknown cell in the modes `trinary` and `scale`.
const UNKNOWN_GRAY: u8 = 205;

/// The rectangle of cells from `low` to below `high`, along each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub low: [usize; 2],
    pub high: [usize; 2],
}

/// The pose of a map's own frame in the world. It has the axes of the world and the map's corner as its origin.
///
/// Planning, simulation and drawing use this frame: near its origin f32 resolves micrometers; 10 km away it resolves a
/// millimeter. Input and output are in world coordinates, in f64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    origin: [f64; 2],
}

impl Frame {
    /// Transforms a point of the world (in meters) to this frame.
    pub fn to_local(self, [x, y]: [f64; 2]) -> [f64; 2] {
        [x - self.origin[0], y - self.origin[1]]
    }

    /// The inverse of [`to_local`](Self::to_local).
    pub fn to_world(self, [x, y]: [f64; 2]) -> [f64; 2] {
        [x + self.origin[0], y + self.origin[1]]
    }
}

impl Map {
    /// Reads a YAML file and the image that it names.
    ///
    /// # Errors
    ///
    /// If either cannot be read or is not valid, or if the image is too large.
    pub fn load(path: &Path) -> Result<Loaded> {
        let meta = Meta::load(path)?;
        // `join` keeps an absolute path as it is.
        let image = pixels::read(&path.parent().unwrap_or(Path::new("")).join(&meta.image))?;
        Ok(Self::from_image(&meta, &image))
    }

    fn from_image(meta: &Meta, image: &DynamicImage) -> Loaded {
        // The cell state for each sum of three channels.
        let classes: Vec<Cell> = (0..=3 * 255).map(|sum| classify(meta, f64::from(sum) / 3.0)).collect();
        let (width, height) = (image.width() as usize, image.height() as usize);
        let mut cells = vec![Cell::Unknown; width * height];
        // The first row of an image is the top one, the first row of a map the bottom one.
        let rows = cells.par_chunks_mut(width).rev().enumerate();
        if let DynamicImage::ImageLuma8(image) = image {
            rows.zip(image.as_raw().par_chunks(width)).for_each(|((_, row), levels)| {
                row.iter_mut().zip(levels).for_each(|(cell, level)| *cell = classes[3 * usize::from(*level)]);
            });
        } else {
            rows.for_each(|(y, row)| {
                for (x, cell) in row.iter_mut().enumerate() {
                    let image::Rgba([r, g, b, alpha]) = image.get_pixel(x as u32, y as u32);
                    // A transparent pixel was never drawn, so its cell is unknown.
                    if alpha == 255 {
                        *cell = classes[[r, g, b].map(usize::from).iter().sum::<usize>()];
                    }
                }
            });
        }
        let gray_is_free = meta.mode != Mode::Raw && classes[3 * usize::from(UNKNOWN_GRAY)] == Cell::Free;
        let gray = if gray_is_free { count_gray(image) } else { 0 };
        let [x, y, yaw] = meta.origin;
        let map = Self { width, height, resolution: meta.resolution, origin: [x, y], yaw, cells };
        Loaded { map, gray, negate: meta.negate }
    }

    /// Returns the bounds of the free cells that are connected with `from`, not counting diagonals, and whether `to` is
    /// one of them.
    pub fn region(&self, from: usize, to: usize) -> (Bounds, bool) {
        let (w, h) = (self.width, self.height);
        let mut seen = vec![0_u64; (w * h).div_ceil(64)];
        let mut bounds = Bounds { low: [w, h], high: [0, 0] };
        let free = |at: usize| self.cells[at] == Cell::Free;
        let mut stack = vec![from];
        // Fills row by row: a run of free cells, and then the beginning of each run that touches it from below or
        // above.
        while let Some(at) = stack.pop() {
            if seen[at / 64] >> (at % 64) & 1 == 1 {
                continue;
            }
            let (row, base) = (at / w, at / w * w);
            let left = (base..=at).rev().take_while(|&at| free(at)).last().unwrap_or(at);
            let right = (at..base + w).take_while(|&at| free(at)).last().unwrap_or(at) + 1;
            (left..right).for_each(|at| seen[at / 64] |= 1 << (at % 64));
            bounds.low = [bounds.low[0].min(left - base), bounds.low[1].min(row)];
            bounds.high = [bounds.high[0].max(right - base), bounds.high[1].max(row + 1)];
            for beside in [(row > 0).then(|| left - w..right - w), (row + 1 < h).then(|| left + w..right + w)] {
                let mut in_run = false;
                for at in beside.into_iter().flatten() {
                    let is_free = free(at);
                    if is_free && !in_run && seen[at / 64] >> (at % 64) & 1 == 0 {
                        stack.push(at);
                    }
                    in_run = is_free;
                }
            }
        }
        (bounds, seen[to / 64] >> (to % 64) & 1 == 1)
    }

    /// Crops the map to some bounds and a margin of a fortieth, at least one cell, within the map.
    ///
    /// For the bounds of a [`region`](Self::region), distances from its cells to whatever is not free are unchanged,
    /// because the region is surrounded by a ring of such cells.
    pub fn crop(self, Bounds { low, high }: Bounds) -> Self {
        let margin = (high[0] - low[0]).max(high[1] - low[1]) / 40 + 1;
        let low = low.map(|v| v.saturating_sub(margin));
        let high = [(high[0] + margin).min(self.width), (high[1] + margin).min(self.height)];
        let (width, height) = (high[0] - low[0], high[1] - low[1]);
        if (width, height) == (self.width, self.height) {
            return self;
        }
        let origin = self.to_world(low.map(|v| v as f64));
        let rows = self.cells.chunks_exact(self.width).skip(low[1]).take(height);
        let cells = rows.flat_map(|row| &row[low[0]..high[0]]).copied().collect();
        Self { width, height, origin, cells, ..self }
    }

    /// Returns the map in its own frame, and the pose of that frame.
    pub fn into_local(self) -> (Self, Frame) {
        let frame = Frame { origin: self.origin };
        (Self { origin: [0.0; 2], ..self }, frame)
    }

    /// Converts a point of the world (in meters) to cells from the lower-left corner: cell (i, j) covers [i, i+1) × [j,
    /// j+1).
    pub fn to_cells(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let (s, c) = self.yaw.sin_cos();
        let (dx, dy) = (x - self.origin[0], y - self.origin[1]);
        [(c * dx + s * dy) / self.resolution, (c * dy - s * dx) / self.resolution]
    }

    /// The inverse of [`to_cells`](Self::to_cells).
    pub fn to_world(&self, [i, j]: [f64; 2]) -> [f64; 2] {
        let (s, c) = self.yaw.sin_cos();
        let (dx, dy) = (i * self.resolution, j * self.resolution);
        [self.origin[0] + c * dx - s * dy, self.origin[1] + s * dx + c * dy]
    }

    /// Returns the cell that contains a point of the world, if any.
    pub fn cell_at(&self, point: [f64; 2]) -> Option<usize> {
        let [i, j] = self.to_cells(point);
        let inside = i >= 0.0 && j >= 0.0 && i < self.width as f64 && j < self.height as f64;
        inside.then(|| j as usize * self.width + i as usize)
    }
}

/// Classifies a gray level. Thresholds are inclusive, as in nav2 since 2025. Where they are equal, a level can be both
/// occupied and free; then it is occupied, as in nav2: the safe choice.
fn classify(meta: &Meta, level: f64) -> Cell {
    let occupancy = match (meta.mode, meta.negate) {
        (Mode::Raw, _) if level > 100.0 => return Cell::Unknown,
        (Mode::Raw, _) => level / 100.0,
        (_, true) => level / 255.0,
        (_, false) => (255.0 - level) / 255.0,
    };
    if occupancy >= meta.occupied_thresh {
        Cell::Occupied
    } else if occupancy <= meta.free_thresh {
        Cell::Free
    } else {
        Cell::Unknown
    }
}

/// Counts the pixels with the gray of unknown cells.
fn count_gray(image: &DynamicImage) -> usize {
    match image {
        DynamicImage::ImageLuma8(image) => image.as_raw().par_iter().filter(|level| **level == UNKNOWN_GRAY).count(),
        _ => image.pixels().filter(|(_, _, pixel)| pixel.0 == [UNKNOWN_GRAY, UNKNOWN_GRAY, UNKNOWN_GRAY, 255]).count(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::folder::Folder;
    use image::RgbaImage;

    /// Parses a map drawn in text, `#` occupied, `?` unknown, top row first.
    pub fn sketch(rows: &[impl AsRef<str>], resolution: f64) -> Map {
        let cell = |c| match c {
            '#' => Cell::Occupied,
            '?' => Cell::Unknown,
            _ => Cell::Free,
        };
        let cells = rows.iter().rev().flat_map(|row| row.as_ref().chars().map(cell)).collect();
        Map { width: rows[0].as_ref().len(), height: rows.len(), resolution, origin: [0.0; 2], yaw: 0.0, cells }
    }

    const HEAD: &str = "image: m.png\nresolution: 0.1\norigin: [1.0, 2.0, 0.0]\n";

    fn loaded(yaml: &str, levels: &[u8]) -> Loaded {
        let image = RgbaImage::from_fn(levels.len() as u32, 1, |x, _| {
            let v = levels[x as usize];
            image::Rgba([v, v, v, 255])
        });
        let gray = image::GrayImage::from_raw(levels.len() as u32, 1, levels.to_vec()).unwrap();
        let meta = Meta::parse(yaml).unwrap();
        let [a, b] = [image.into(), gray.into()].map(|image: DynamicImage| Map::from_image(&meta, &image));
        assert!(a.map.cells == b.map.cells && a.gray == b.gray, "gray and colored pixels differ");
        a
    }

    fn classes(yaml: &str, levels: &[u8]) -> Vec<Cell> {
        loaded(yaml, levels).map.cells
    }

    #[test]
    fn between_the_thresholds_is_unknown() {
        use Cell::*;
        let yaml = format!("{HEAD}negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.196\n");
        assert_eq!(classes(&yaml, &[0, 89, 90, 205, 206, 255]), [Occupied, Occupied, Unknown, Unknown, Free, Free]);
        assert_eq!(loaded(&yaml, &[205, 255]).gray, 0);
    }

    #[test]
    fn thresholds_are_inclusive() {
        use Cell::*;
        for mode in ["", "mode: scale\n", "mode: trinary\n"] {
            // White is free and black is occupied even if the thresholds leave nothing beyond them.
            let yaml = format!("{HEAD}negate: 0\noccupied_thresh: 1.0\nfree_thresh: 0.0\n{mode}");
            assert_eq!(classes(&yaml, &[0, 1, 254, 255]), [Occupied, Unknown, Unknown, Free]);
            let yaml = format!("{HEAD}negate: 0\noccupied_thresh: 0.6\nfree_thresh: 0.2\n{mode}");
            assert_eq!(classes(&yaml, &[102, 103, 203, 204]), [Occupied, Unknown, Unknown, Free]);
        }
        let yaml = format!("{HEAD}negate: 0\noccupied_thresh: 1.0\nfree_thresh: 0.0\nmode: raw\n");
        assert_eq!(classes(&yaml, &[0, 1, 99, 100, 101]), [Free, Unknown, Unknown, Occupied, Unknown]);
    }

    #[test]
    fn what_is_both_occupied_and_free_is_occupied() {
        use Cell::*;
        // A level of 51 in 255 is exactly 0.2.
        let scale = format!("{HEAD}negate: 1\noccupied_thresh: 0.2\nfree_thresh: 0.2\n");
        assert_eq!(classes(&scale, &[0, 50, 51, 52, 255]), [Free, Free, Occupied, Occupied, Occupied]);
        let raw = format!("{HEAD}negate: 0\noccupied_thresh: 0.5\nfree_thresh: 0.5\nmode: raw\n");
        assert_eq!(classes(&raw, &[0, 49, 50, 51, 100]), [Free, Free, Occupied, Occupied, Occupied]);
    }

    #[test]
    fn the_warning_counts_and_advises() {
        let warning = |thresholds: &str, levels: &[u8]| loaded(&format!("{HEAD}{thresholds}\n"), levels).warning();
        let gray = warning("negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.25", &[205, 0, 205]).unwrap();
        assert!(gray.starts_with("free_thresh makes 2 cells free ") && gray.ends_with(" would be unknown"), "{gray}");
        // The advice of the warning works: at the usual threshold there is no warning.
        assert_eq!(warning("negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.196", &[205, 0, 205]), None);
        // With black and white swapped, no usual threshold separates the gray from obstacles.
        let turned = warning("negate: 1\noccupied_thresh: 0.9\nfree_thresh: 0.85", &[205, 0]).unwrap();
        assert!(turned.starts_with("free_thresh makes 1 cells free ") && !turned.contains("0.196"), "{turned}");
    }

    #[test]
    fn free_cells_of_the_gray_of_unknown_ones_are_counted() {
        use Cell::*;
        // 50/255 < 0.25, so the gray is free.
        for mode in ["trinary", "scale"] {
            let yaml = format!("{HEAD}negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.25\nmode: {mode}\n");
            let loaded = loaded(&yaml, &[205, 0, 205, 254]);
            assert_eq!((loaded.map.cells, loaded.gray), (vec![Free, Occupied, Free, Free], 2));
        }
        let raw = format!("{HEAD}negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.25\nmode: raw\n");
        assert_eq!(loaded(&raw, &[205]).gray, 0);
    }

    #[test]
    fn negate_turns_black_and_white_round() {
        use Cell::*;
        for one in ["1", "true"] {
            let yaml = format!("{HEAD}negate: {one}\noccupied_thresh: 0.65\nfree_thresh: 0.2\n");
            assert_eq!(classes(&yaml, &[0, 128, 255]), [Free, Unknown, Occupied]);
        }
    }

    #[test]
    fn raw_levels_are_percent() {
        use Cell::*;
        let yaml = format!("{HEAD}negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.2\nmode: raw\n");
        assert_eq!(classes(&yaml, &[0, 50, 66, 100, 101, 255]), [Free, Unknown, Occupied, Occupied, Unknown, Unknown]);
    }

    #[test]
    fn transparent_is_unknown() {
        let yaml = format!("{HEAD}negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.2\nmode: scale\n");
        let image = RgbaImage::from_pixel(1, 1, image::Rgba([255, 255, 255, 254]));
        assert_eq!(Map::from_image(&Meta::parse(&yaml).unwrap(), &image.into()).map.cells, [Cell::Unknown]);
    }

    #[test]
    fn missing_files_are_named() {
        let lost = std::env::temp_dir().join("no-such-map.yaml");
        assert!(format!("{:#}", Map::load(&lost).unwrap_err()).contains("no-such-map.yaml"));
        let folder = Folder::new();
        let yaml = folder.path("map.yaml");
        std::fs::write(&yaml, format!("{HEAD}negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.2\n")).unwrap();
        assert!(format!("{:#}", Map::load(&yaml).unwrap_err()).contains("m.png"));
        // With the image, beside the YAML file, it loads; the top row of the image is the last of the map.
        image::GrayImage::from_raw(1, 2, vec![0, 255]).unwrap().save(folder.path("m.png")).unwrap();
        assert_eq!(Map::load(&yaml).unwrap().map.cells, [Cell::Free, Cell::Occupied]);
    }

    #[test]
    fn a_turned_origin_maps_there_and_back() {
        let map = Map { origin: [-3.0, 7.0], yaw: 0.7, ..sketch(&["....", "....", "...."], 0.05) };
        let [i, j] = map.to_cells(map.to_world([2.5, 1.25]));
        assert!((i - 2.5).abs() < 1e-12 && (j - 1.25).abs() < 1e-12);
        // One cell along the map's own x is one resolution along the yaw.
        let [x, y] = map.to_world([1.0, 0.0]);
        assert!((x - (-3.0 + 0.05 * 0.7_f64.cos())).abs() < 1e-12 && (y - (7.0 + 0.05 * 0.7_f64.sin())).abs() < 1e-12);
        assert_eq!(map.cell_at(map.to_world([3.9, 2.9])), Some(11));
        assert_eq!(map.cell_at(map.to_world([4.1, 2.9])), None);
        assert_eq!(map.cell_at([f64::NAN, 0.0]), None);
    }

    #[test]
    fn a_region_is_what_is_connected_without_diagonals() {
        let map = sketch(&["..#.", "#.#.", "...#", "##.#", ".#.."], 0.1);
        // Rows from the bottom: cell 0 is alone, and so is the column on the right, which touches at a corner only.
        let at = |i: usize, j: usize| j * 4 + i;
        let whole = Bounds { low: [0, 0], high: [4, 5] };
        assert_eq!(map.region(at(0, 4), at(3, 0)), (whole, true));
        assert_eq!(map.region(at(0, 4), at(3, 4)), (whole, false));
        assert_eq!(map.region(at(0, 0), at(2, 0)), (Bounds { low: [0, 0], high: [1, 1] }, false));
        assert_eq!(map.region(at(3, 4), at(3, 3)), (Bounds { low: [3, 3], high: [4, 5] }, true));
    }

    #[test]
    fn a_crop_stays_where_it_was() {
        let rows = ["????????", "?######?", "?#...###", "?#.#.#.#", "?#...###", "?######?", "????????", "????????"];
        let map = Map { origin: [388_096.5, 3_948_997.0], yaw: 0.3, ..sketch(&rows, 0.05) };
        let inside = 4 * map.width + 2;
        let (bounds, _) = map.region(inside, inside);
        assert_eq!(bounds, Bounds { low: [2, 3], high: [5, 6] });
        let cropped = map.clone().crop(bounds);
        assert_eq!((cropped.width, cropped.height), (5, 5));
        let (local, frame) = cropped.clone().into_local();
        for (i, j) in (0..5).flat_map(|j| (0..5).map(move |i| (i, j))) {
            let point = map.to_world([i as f64 + 1.5, j as f64 + 2.5]);
            let cell = map.cells[(j + 2) * 8 + i + 1];
            assert_eq!(cropped.cells[cropped.cell_at(point).unwrap()], cell);
            assert_eq!(local.cells[local.cell_at(frame.to_local(point)).unwrap()], cell);
            let back = frame.to_world(frame.to_local(point));
            assert!((back[0] - point[0]).hypot(back[1] - point[1]) < 1e-9);
        }
    }
}
