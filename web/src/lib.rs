//! The page of `web/`: MPPI drives a robot through a map, on WebGPU or in WebAssembly. See docs/web.md.

/// What the planner and the simulated world share with the example `navigate`.
mod closed_loop;
#[allow(dead_code, reason = "shared with the example `navigate`, which uses all of it")]
#[path = "../../examples/navigate/distance.rs"]
mod distance;
mod drive;
#[allow(dead_code, reason = "as above")]
#[path = "../../examples/navigate/fields.rs"]
mod fields;
#[allow(dead_code, reason = "as above")]
#[path = "../../examples/navigate/maneuver.rs"]
mod maneuver;
#[allow(dead_code, reason = "as above")]
#[path = "../../examples/navigate/map.rs"]
mod map;
pub mod numbers;
#[cfg(target_family = "wasm")]
pub mod page;
#[allow(dead_code, reason = "as above")]
#[path = "../../examples/navigate/pixels.rs"]
mod pixels;
#[allow(dead_code, reason = "as above")]
#[path = "../../examples/navigate/robot.rs"]
mod robot;
#[cfg(target_family = "wasm")]
mod serial;
#[allow(dead_code, reason = "as above")]
#[path = "../../examples/navigate/yaml.rs"]
mod yaml;

// The shared modules import these names from `indicatif` and `rayon`.
#[cfg(target_family = "wasm")]
use serial::{ProgressBar, prelude};
#[cfg(target_family = "wasm")]
extern crate self as indicatif;
#[cfg(target_family = "wasm")]
extern crate self as rayon;

pub use drive::{Drive, Settings};
