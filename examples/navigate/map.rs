//! Occupancy-grid maps in the format of ROS `map_server`: a YAML file beside a PGM or PNG image.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::RgbaImage;
use serde::Deserialize;

/// What is known about one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Free,
    Occupied,
    Unknown,
}

/// The YAML file, with the names of the format. Other keys are ignored.
#[derive(Debug, Clone, Deserialize)]
struct Meta {
    /// The image, relative to the YAML file.
    image: PathBuf,
    /// Metres a pixel.
    resolution: f64,
    /// Where the lower-left corner of the image lies in the world: x, y (in metres), yaw (in radians, counter-clockwise).
    origin: [f64; 3],
    negate: Flag,
    occupied_thresh: f64,
    free_thresh: f64,
    #[serde(default)]
    mode: Mode,
}

/// YAML files in the wild write `negate` as 0 or 1, and as true or false.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Number(u8),
}

/// How a pixel becomes an occupancy p. All three end in the same three classes, by the same thresholds: a robot may not
/// enter what is *somewhat* occupied, so the shades of `scale` and `raw` between the thresholds count as unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// p = 1 − level/255 (level/255 if `negate`).
    #[default]
    Trinary,
    /// The same p.
    Scale,
    /// The level is p in percent, above 100 unknown; `negate` has no effect.
    Raw,
}

/// An occupancy grid and where it lies in the world. Cells go row by row, the row with the smallest y first.
#[derive(Debug, Clone)]
pub struct Map {
    pub width: usize,
    pub height: usize,
    /// Metres a cell.
    pub resolution: f64,
    /// The lower-left corner of the lower-left cell (in metres).
    pub origin: [f64; 2],
    /// The turn about that corner (in radians).
    pub yaw: f64,
    pub cells: Vec<Cell>,
}

impl Map {
    /// Reads a YAML file and the image that it names.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the map {}", path.display()))?;
        let meta: Meta =
            serde_norway::from_str(&text).with_context(|| format!("{} is not a map_server file", path.display()))?;
        // `join` keeps an absolute path as it is.
        let image = path.parent().unwrap_or(Path::new("")).join(&meta.image);
        let pixels = image::ImageReader::open(&image)
            .and_then(image::ImageReader::with_guessed_format)
            .map_err(image::ImageError::IoError)
            .and_then(image::ImageReader::decode)
            // Not `context`: these errors already say what caused them.
            .map_err(|error| anyhow::anyhow!("cannot read the map's image {}: {error}", image.display()))?;
        Self::new(&meta, &pixels.to_rgba8()).with_context(|| format!("{} is not a valid map", path.display()))
    }

    fn new(meta: &Meta, image: &RgbaImage) -> Result<Self> {
        ensure!(
            meta.resolution.is_finite() && meta.resolution > 0.0,
            "resolution is {}, but must be above 0",
            meta.resolution
        );
        ensure!(meta.origin.iter().all(|v| v.is_finite()), "origin is {:?}, but must be finite", meta.origin);
        for (name, value) in [("occupied_thresh", meta.occupied_thresh), ("free_thresh", meta.free_thresh)] {
            ensure!((0.0..=1.0).contains(&value), "{name} is {value}, but must be between 0 and 1");
        }
        ensure!(
            meta.free_thresh <= meta.occupied_thresh,
            "free_thresh is {}, above occupied_thresh, which is {}",
            meta.free_thresh,
            meta.occupied_thresh
        );
        let negate = match meta.negate {
            Flag::Bool(yes) => yes,
            Flag::Number(n @ 0..=1) => n == 1,
            Flag::Number(n) => anyhow::bail!("negate is {n}, but must be 0 or 1"),
        };
        let (width, height) = (image.width() as usize, image.height() as usize);
        ensure!(width > 0 && height > 0, "the image is empty");
        let classify = |&image::Rgba([r, g, b, alpha]): &image::Rgba<u8>| {
            let level = (f64::from(r) + f64::from(g) + f64::from(b)) / 3.0;
            let occupancy = match (meta.mode, negate) {
                (Mode::Raw, _) => level / 100.0,
                (_, true) => level / 255.0,
                (_, false) => (255.0 - level) / 255.0,
            };
            // What is transparent was not drawn, so nothing is known of it.
            if alpha < 255 || (meta.mode == Mode::Raw && level > 100.0) {
                Cell::Unknown
            } else if occupancy > meta.occupied_thresh {
                Cell::Occupied
            } else if occupancy < meta.free_thresh {
                Cell::Free
            } else {
                Cell::Unknown
            }
        };
        // Images start at the top, maps at the bottom.
        let cells = image.rows().rev().flat_map(|row| row.map(classify)).collect();
        let [x, y, yaw] = meta.origin;
        Ok(Self { width, height, resolution: meta.resolution, origin: [x, y], yaw, cells })
    }

    /// A point of the world (in metres) in cells from the lower-left corner: cell (i, j) covers [i, i+1) × [j, j+1).
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

    /// The cell that holds a point of the world, if any does.
    pub fn cell_at(&self, point: [f64; 2]) -> Option<usize> {
        let [i, j] = self.to_cells(point);
        let inside = i >= 0.0 && j >= 0.0 && i < self.width as f64 && j < self.height as f64;
        inside.then(|| j as usize * self.width + i as usize)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A map drawn in text, `#` occupied, `?` unknown, top row first.
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

    fn classes(yaml: &str, levels: &[u8]) -> Result<Vec<Cell>> {
        let image = RgbaImage::from_fn(levels.len() as u32, 1, |x, _| {
            let v = levels[x as usize];
            image::Rgba([v, v, v, 255])
        });
        Ok(Map::new(&serde_norway::from_str(yaml)?, &image)?.cells)
    }

    #[test]
    fn thresholds_are_strict_and_between_them_is_unknown() {
        use Cell::*;
        let yaml = format!("{HEAD}negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.196\n");
        assert_eq!(
            classes(&yaml, &[0, 89, 90, 205, 206, 255]).unwrap(),
            [Occupied, Occupied, Unknown, Unknown, Free, Free]
        );
        // The grey that map savers write for unknown is free where the file says so: 50/255 < 0.25.
        let yaml = format!("{HEAD}negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.25\nmode: trinary\n");
        assert_eq!(classes(&yaml, &[205]).unwrap(), [Free]);
    }

    #[test]
    fn negate_turns_black_and_white_round() {
        use Cell::*;
        for one in ["1", "true"] {
            let yaml = format!("{HEAD}negate: {one}\noccupied_thresh: 0.65\nfree_thresh: 0.2\n");
            assert_eq!(classes(&yaml, &[0, 128, 255]).unwrap(), [Free, Unknown, Occupied]);
        }
    }

    #[test]
    fn raw_levels_are_percent() {
        use Cell::*;
        let yaml = format!("{HEAD}negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.2\nmode: raw\n");
        assert_eq!(
            classes(&yaml, &[0, 50, 66, 100, 101, 255]).unwrap(),
            [Free, Unknown, Occupied, Occupied, Unknown, Unknown]
        );
    }

    #[test]
    fn transparent_is_unknown() {
        let yaml = format!("{HEAD}negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.2\nmode: scale\n");
        let image = RgbaImage::from_pixel(1, 1, image::Rgba([255, 255, 255, 254]));
        assert_eq!(Map::new(&serde_norway::from_str(&yaml).unwrap(), &image).unwrap().cells, [Cell::Unknown]);
    }

    #[test]
    fn malformed_files_are_refused() {
        let full = format!("{HEAD}negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.2\n");
        assert!(classes(&full, &[0]).is_ok());
        for (from, to) in [
            ("resolution: 0.1", "resolution: 0"),
            ("resolution: 0.1", "resolution: .nan"),
            ("resolution: 0.1", "resolution: fine"),
            ("resolution: 0.1\n", ""),
            ("[1.0, 2.0, 0.0]", "[1.0, 2.0]"),
            ("[1.0, 2.0, 0.0]", "[.inf, 2.0, 0.0]"),
            ("negate: 0", "negate: 2"),
            ("occupied_thresh: 0.65", "occupied_thresh: 65"),
            ("free_thresh: 0.2", "free_thresh: 0.7"),
            ("free_thresh: 0.2", "free_thresh: 0.2\nmode: quaternary"),
            ("image: m.png", "image: [m.png"),
        ] {
            assert!(full.contains(from) && classes(&full.replace(from, to), &[0]).is_err(), "{to} was accepted");
        }
    }

    #[test]
    fn missing_files_are_named() {
        let lost = std::env::temp_dir().join("no-such-map.yaml");
        assert!(format!("{:#}", Map::load(&lost).unwrap_err()).contains("no-such-map.yaml"));
        let folder = std::env::temp_dir().join(format!("gibbs-navigate-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let yaml = folder.join("map.yaml");
        std::fs::write(&yaml, format!("{HEAD}negate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.2\n")).unwrap();
        assert!(format!("{:#}", Map::load(&yaml).unwrap_err()).contains("m.png"));
        // With the image, beside the YAML file, it loads; the top row of the image is the last of the map.
        image::GrayImage::from_raw(1, 2, vec![0, 255]).unwrap().save(folder.join("m.png")).unwrap();
        assert_eq!(Map::load(&yaml).unwrap().cells, [Cell::Free, Cell::Occupied]);
        std::fs::remove_dir_all(folder).unwrap();
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
}
