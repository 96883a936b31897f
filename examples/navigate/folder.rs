//! Test fixtures: a temporary folder, and maps in it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use clap::Parser;

use crate::fields::MOST_CELLS;
use crate::map::Map;
use crate::{Args, run_with};

/// A folder that is removed with its files on drop.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("gibbs-navigate-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// Creates a folder with `map.yaml` and its image, given the gray level of each cell, counted from the lower left
    /// corner.
    pub fn with_map(
        resolution: f64,
        origin: [f64; 3],
        [width, height]: [u32; 2],
        gray: impl Fn(u32, u32) -> u8,
    ) -> Self {
        let folder = Self::new();
        let image = image::GrayImage::from_fn(width, height, |x, y| image::Luma([gray(x, height - 1 - y)]));
        image.save(folder.path("map.pgm")).unwrap();
        let yaml = format!(
            "image: map.pgm\nresolution: {resolution}\norigin: {origin:?}\nnegate: 0\noccupied_thresh: 0.65\n\
             free_thresh: 0.19\n"
        );
        std::fs::write(folder.path("map.yaml"), yaml).unwrap();
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Formats a point of the map as an argument, given its distances (in meters) to the lower left corner along the
    /// map's axes.
    pub fn at(&self, along: f64, up: f64) -> String {
        let map = Map::load(&self.path("map.yaml")).unwrap().map;
        let [x, y] = map.to_world([along, up].map(|v| v / map.resolution));
        format!("{x},{y}")
    }

    /// Drives on the CPU and writes the output to `out`.
    pub fn run(&self, start: &str, goal: &str, more: &[&str]) -> Result<String> {
        self.run_with(start, goal, more, MOST_CELLS)
    }

    /// Drives with fields of a limited number of cells.
    pub fn run_with(&self, start: &str, goal: &str, more: &[&str], most_cells: usize) -> Result<String> {
        let (map, out) = (self.path("map.yaml"), self.path("out"));
        let (map, out) = (map.to_str().unwrap(), out.to_str().unwrap());
        let given = ["navigate", "--map", map, "--start", start, "--goal", goal, "--out", out, "--backend", "cpu"];
        run_with(&Args::try_parse_from(given.iter().chain(more))?, most_cells)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
