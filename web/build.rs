//! Reads the map of the example `navigate`, so that the page need not decode images and YAML: two bits for each cell.

#[allow(dead_code, reason = "shared with the example `navigate`, which uses all of it")]
#[path = "../examples/navigate/map.rs"]
mod map;
#[path = "../examples/navigate/pixels.rs"]
mod pixels;
#[path = "../examples/navigate/yaml.rs"]
mod yaml;

use std::path::Path;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let folder = Path::new("../examples/navigate/maps");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", folder.display());
    let map = map::Map::load(&folder.join("office.yaml"))?.map;
    let pack = |four: &[map::Cell]| four.iter().enumerate().fold(0, |byte, (i, cell)| byte | (*cell as u8) << (2 * i));
    let out = std::env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?;
    std::fs::write(Path::new(&out).join("cells"), map.cells.chunks(4).map(pack).collect::<Vec<_>>())?;
    let map::Map { width, height, resolution, yaw, .. } = map;
    let map = format!(
        "Map {{ width: {width}, height: {height}, resolution: {resolution:?}, origin: [0.0; 2], yaw: {yaw:?}, cells }}"
    );
    std::fs::write(Path::new(&out).join("map.rs"), map)?;
    Ok(())
}
