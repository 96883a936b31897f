//! A window that shows a robot planning, on the device that plans.
//!
//! ```text
//! cargo run --release -p gibbs-viewer
//! cargo run --release -p gibbs-viewer -- --headless --out pictures
//! ```
//!
//! The robot, the map and the cost are those of the example navigate. The program opens a device to draw with and hands
//! it to the planner. The sampled trajectories never leave it: the planner writes them to a buffer, and the picture is
//! drawn from that buffer. Planning does not hold up drawing, since calls are started and polled.
//!
//! Click to set the goal, drag to draw an obstacle, drag with the right button to erase it.

mod device;
#[path = "../common/end.rs"]
mod end;
mod headless;
mod panel;
mod scene;
mod stage;
mod window;
mod world;

// Shared with navigate, whose other parts use the rest of these.
#[path = "../navigate/distance.rs"]
#[allow(dead_code, reason = "navigate uses the rest")]
mod distance;
#[path = "../navigate/fields.rs"]
#[allow(dead_code, reason = "navigate uses the rest")]
mod fields;
#[path = "../navigate/maneuver.rs"]
#[allow(dead_code, reason = "navigate uses the rest")]
mod maneuver;
#[path = "../navigate/map.rs"]
#[allow(dead_code, reason = "navigate uses the rest")]
mod map;
#[path = "../navigate/pixels.rs"]
#[allow(dead_code, reason = "navigate uses the rest")]
mod pixels;
#[path = "../navigate/robot.rs"]
#[allow(dead_code, reason = "navigate uses the rest")]
mod robot;
#[path = "../navigate/yaml.rs"]
#[allow(dead_code, reason = "navigate uses the rest")]
mod yaml;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use gibbs::{Backend, Engine};

use crate::end::say;
use crate::headless::Script;
use crate::map::Map;
use crate::stage::Stage;
use crate::world::{Settings, World};

/// Show a robot that plans.
#[derive(Debug, Parser)]
#[command(allow_negative_numbers = true)]
struct Args {
    /// The device that plans and draws: auto, gpu, or software (a Vulkan driver that runs on the CPU)
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Sampled rollouts per plan
    #[arg(long, default_value_t = 1024)]
    samples: usize,
    /// The horizon of a plan, in steps of 0.1 s
    #[arg(long, default_value_t = 40)]
    horizon: usize,
    /// The size of the window or of the pictures, in pixels
    #[arg(long, value_name = "W,H", value_parser = size, default_value = "1280,800")]
    size: [u32; 2],
    /// Draw to PNG files instead of a window
    #[arg(long)]
    headless: bool,
    /// The number of pictures, one for each 0.1 s
    #[arg(long, default_value_t = 120, requires = "headless")]
    frames: usize,
    /// The folder that the pictures go to
    #[arg(long, value_name = "DIR", default_value = "target/viewer", requires = "headless")]
    out: PathBuf,
    /// Draw few pictures of few rollouts, for tests
    #[arg(long, requires = "headless")]
    quick: bool,
}

fn size(text: &str) -> Result<[u32; 2]> {
    let numbers: Vec<u32> = text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?;
    match numbers[..] {
        [width, height] if (720..=8192).contains(&width) && (600..=8192).contains(&height) => Ok([width, height]),
        [width, height] => {
            anyhow::bail!("{width} by {height} pixels, but from 720 by 600 to 8192 by 8192 are possible")
        }
        _ => anyhow::bail!("2 numbers are needed, not {}", numbers.len()),
    }
}

/// Where the robot starts, and where it goes first.
const START: [f32; 3] = [3.9, 1.85, 0.0];
const GOAL: [f64; 2] = [8.6, 7.2];
/// What the pointer does without a window.
const SCRIPT: Script = Script { obstacle: [[6.0, 4.62], [6.0, 4.40]], goal: [10.8, 6.6] };

fn main() -> ExitCode {
    end::run(run)
}

fn run(mut args: Args) -> Result<()> {
    if args.quick {
        (args.frames, args.samples) = (args.frames.min(18), args.samples.min(256));
    }
    ensure!(args.frames > 0, "--frames is 0, but must be at least 1");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../navigate/maps/office.yaml");
    let map = Map::load(&path)?.map;
    let settings =
        Settings { sigma: 1.0, lambda: 10.0, finds_lambda: true, horizon: args.horizon, samples: args.samples };
    let world = |engine: &Engine| World::new(engine, map.clone(), START, GOAL, settings);
    if !args.headless {
        return window::run(args.backend, args.size, world);
    }
    let adapter = device::adapter(&device::instance(), args.backend, None)?;
    let (device, queue) = device::open(&adapter)?;
    let mut stage = Stage::new(device, queue, headless::FORMAT, world)?;
    // The script takes four pictures for the obstacle and two for the goal.
    let script = (args.frames >= 18).then_some(SCRIPT);
    let line = headless::run(&mut stage, args.frames, args.size, script, &args.out)?;
    say!("{line}")
}
