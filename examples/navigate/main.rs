//! Drives a robot through an occupancy-grid map with MPPI.
//!
//! ```text
//! cargo run --release --example navigate
//! cargo run --release --example navigate -- --map depot.yaml --start 2,2,0 --goal 28,13 --backend cpu
//! ```
//!
//! The map is in the format of ROS `map_server`. Two fields are computed from it, the distance to the nearest obstacle and
//! the cost to go to the goal, and MPPI rolls a unicycle or a differential drive out over them. The world that the robot
//! drives in is the same model at a tenth of the time step, and collisions are checked against the map itself, not against
//! the fields that the cost looks at.
//!
//! A picture (`navigate.png`) and a table (`navigate.csv`) of the run go to `--out`. The exit status is 0 if the robot
//! reached the goal without a collision, and 1 otherwise, with a sentence that says why.

mod closed_loop;
mod distance;
mod draw;
mod maneuver;
mod map;
mod record;
mod robot;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use gibbs::Backend;
use gibbs::models::{DifferentialDrive, Unicycle};

use crate::closed_loop::drive;
use crate::distance::{Clearance, Comfort, CostToGo};
use crate::maneuver::Goal;
use crate::map::{Cell, Map};
use crate::robot::Kind;

/// Drive a robot through a map.
#[derive(Debug, Parser)]
#[command(allow_negative_numbers = true)]
struct Args {
    /// A map in ROS map_server format (YAML); without it, the one that comes with this example
    #[arg(long, value_name = "FILE.yaml")]
    map: Option<PathBuf>,
    /// Where the robot starts, in metres and radians
    #[arg(long, value_name = "X,Y[,YAW]", value_parser = pose, allow_hyphen_values = true)]
    start: Option<[f64; 3]>,
    /// Where it should go, in metres, and the heading to stop at, in radians, if one is wanted
    #[arg(long, value_name = "X,Y[,YAW]", value_parser = target, allow_hyphen_values = true)]
    goal: Option<([f64; 2], Option<f64>)>,
    /// What plans: auto, gpu, software (a Vulkan driver that runs on the CPU) or cpu
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// What drives
    #[arg(long, value_enum, default_value = "unicycle")]
    model: Kind,
    /// Sampled rollouts a plan
    #[arg(long, default_value_t = 1024)]
    samples: usize,
    /// How many steps of 0.1 s a plan looks ahead
    #[arg(long, default_value_t = 40)]
    horizon: usize,
    /// The seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The robot's radius, in metres
    #[arg(long, default_value_t = 0.2)]
    radius: f64,
    /// How near the goal counts as arrived, in metres
    #[arg(long, default_value_t = 0.25)]
    tolerance: f64,
    /// The folder that the picture and the table go to
    #[arg(long, value_name = "DIR", default_value = "target/navigate")]
    out: PathBuf,
    /// Also write this many numbered images, for an animation
    #[arg(long, value_name = "N", default_value_t = 0)]
    frames: usize,
}

fn numbers<const N: usize>(text: &str) -> Result<[f64; N]> {
    let parts: Vec<f64> = text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?;
    ensure!(parts.iter().all(|v| v.is_finite()), "coordinates must be finite");
    parts.try_into().map_err(|parts: Vec<_>| anyhow::anyhow!("{N} numbers are needed, not {}", parts.len()))
}

/// A point, and a heading if there is one.
fn target(text: &str) -> Result<([f64; 2], Option<f64>)> {
    match text.matches(',').count() {
        2 => numbers(text).map(|[x, y, yaw]| ([x, y], Some(yaw))),
        _ => numbers(text).map(|point| (point, None)),
    }
}

/// A pose; the heading is 0, along the x axis, if there is none.
fn pose(text: &str) -> Result<[f64; 3]> {
    match text.matches(',').count() {
        1 => numbers(text).map(|[x, y]| [x, y, 0.0]),
        _ => numbers(text),
    }
}

/// A gap that leaves less than this on either side is taken only if there is no other way (in metres).
const SPARE: f64 = 0.02;
/// So far beyond the radius (in metres) a way counts for more, and how much more in contact: see [`Comfort`].
const COMFORT: (f64, f64) = (0.3, 3.0);
fn main() -> ExitCode {
    env_logger::init();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => {
            eprintln!("{}", error.to_string().lines().next().unwrap_or("error: the arguments make no sense"));
            return ExitCode::FAILURE;
        }
        Err(help) => {
            print!("{help}");
            return ExitCode::SUCCESS;
        }
    };
    match run(&args) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that a run needs, whichever model drives.
struct Task<'a> {
    args: &'a Args,
    map: &'a Map,
    clearance: Clearance<'a>,
    cost_to_go: CostToGo<'a>,
    start: [f32; 3],
    goal: [f64; 2],
    /// The heading to stop at, if one is wanted.
    goal_yaw: Option<f64>,
}

impl Task<'_> {
    /// The goal as the planner sees it.
    fn target(&self) -> Goal {
        Goal { at: self.goal.map(|v| v as f32), yaw: self.goal_yaw.map(|v| v.rem_euclid(std::f64::consts::TAU) as f32) }
    }
}

fn run(args: &Args) -> Result<String> {
    for (name, value) in [("--radius", args.radius), ("--tolerance", args.tolerance)] {
        ensure!(value.is_finite() && value > 0.0, "{name} is {value}, but must be above 0 (metres)");
    }
    let (path, start, (goal, goal_yaw)) = match &args.map {
        Some(path) => {
            let start = args.start.context("a map of your own needs --start x,y,yaw")?;
            (path.clone(), start, args.goal.context("a map of your own needs --goal x,y")?)
        }
        None => {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("maps/office.yaml");
            (path, args.start.unwrap_or([3.9, 1.85, 0.0]), args.goal.unwrap_or(([8.6, 7.2], None)))
        }
    };
    let map = Map::load(&path)?;
    let clearance = Clearance::new(&map);
    for (name, [x, y]) in [("start", [start[0], start[1]]), ("goal", goal)] {
        let Some(cell) = map.cell_at([x, y]) else { bail!("the {name} ({x}, {y}) is outside the map") };
        match map.cells[cell] {
            Cell::Occupied => bail!("the {name} ({x}, {y}) is inside an obstacle"),
            Cell::Unknown => bail!("the {name} ({x}, {y}) is in unknown space"),
            Cell::Free => {}
        }
        let room = clearance.at([x, y]);
        ensure!(
            room >= args.radius,
            "the {name} ({x}, {y}) is {room:.3} m from an obstacle, so a robot of radius {} m does not fit there",
            args.radius
        );
    }
    // A way with a little to spare if there is one, any way at all if not.
    let mut ways = [SPARE, 0.0].into_iter().filter_map(|spare| {
        let comfort = Comfort { radius: args.radius + spare, margin: COMFORT.0, weight: COMFORT.1 };
        CostToGo::new(&map, &clearance, comfort, goal).filter(|way| way.from([start[0], start[1]]).is_some())
    });
    let cost_to_go = ways.next().with_context(|| {
        format!(
            "the goal ({}, {}) cannot be reached from ({}, {}) by a robot of radius {} m",
            goal[0], goal[1], start[0], start[1], args.radius
        )
    })?;
    let task = Task { args, map: &map, clearance, cost_to_go, start: start.map(|v| v as f32), goal, goal_yaw };
    match args.model {
        Kind::Unicycle => drive(&task, Unicycle::default()),
        Kind::DiffDrive => drive(&task, DifferentialDrive::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A room 3 m by 2 m, with a closed cell in its corner and something unknown at the end.
    struct Room(PathBuf);

    impl Room {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("gibbs-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let level = |x: u32, y: u32| match (x, y) {
                (50.., _) => 205,
                (0 | 49, _) | (_, 0 | 39) => 0,
                (35, 0..15) | (35.., 15) => 0,
                _ => 254,
            };
            image::GrayImage::from_fn(60, 40, |x, y| image::Luma([level(x, y)])).save(folder.join("room.png")).unwrap();
            let yaml = "image: room.png\nresolution: 0.05\norigin: [-1, -1, 0.5]\nnegate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.19\n";
            std::fs::write(folder.join("room.yaml"), yaml).unwrap();
            Self(folder)
        }

        /// A point of the room itself, as an argument.
        fn at(&self, along: f64, up: f64) -> String {
            let [x, y] = Map::load(&self.0.join("room.yaml")).unwrap().to_world([along / 0.05, up / 0.05]);
            format!("{x},{y}")
        }

        fn run(&self, start: &str, goal: &str, more: &[&str]) -> Result<String> {
            let (map, out) = (self.0.join("room.yaml"), self.0.join("out"));
            let (map, out) = (map.to_str().unwrap(), out.to_str().unwrap());
            let given = ["navigate", "--map", map, "--start", start, "--goal", goal, "--out", out, "--backend", "cpu"];
            run(&Args::try_parse_from(given.iter().chain(more))?)
        }
    }

    impl Drop for Room {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn bad_input_is_one_clear_sentence() {
        let room = Room::new("bad-input");
        let (free, wall) = (room.at(0.5, 1.0), room.at(1.0, 0.02));
        let says = |start: &str, goal: &str, more: &[&str], what: &str| {
            let error = format!("{:#}", room.run(start, goal, more).unwrap_err());
            assert!(error.contains(what), "{error}");
        };
        says(&wall, &free, &[], "the start");
        says(&free, &wall, &[], "inside an obstacle");
        says(&free, &room.at(2.8, 1.0), &[], "in unknown space");
        says(&free, "100,100", &[], "outside the map");
        says(&free, &room.at(1.0, 0.15), &[], "does not fit there");
        says(&free, &room.at(2.1, 1.6), &[], "cannot be reached");
        says(&free, &free, &["--radius", "NaN"], "--radius");
        says(&free, &free, &["--tolerance", "-1"], "--tolerance");
        says(&free, "nan,1", &[], "finite");
        says("1,2,3,4", &free, &[], "3 numbers are needed");
        says(&free, &room.at(1.5, 1.0), &["--samples", "0"], "samples");
        says(&free, &room.at(1.5, 1.0), &["--horizon", "0"], "horizon");
        let lonely = run(&Args::try_parse_from(["navigate", "--map", "anything.yaml"]).unwrap());
        assert!(lonely.unwrap_err().to_string().contains("--start"));
    }

    #[test]
    fn both_robots_drive_round_a_corner() {
        let room = Room::new("corner");
        for model in ["unicycle", "diff-drive"] {
            let (start, goal) = (room.at(0.4, 1.6), room.at(2.0, 0.6));
            let line = room.run(&start, &goal, &["--model", model, "--samples", "256", "--frames", "2"]).unwrap();
            assert!(line.starts_with("reached the goal: ") && line.contains(" 0 collisions, plan median "), "{line}");
            for file in ["navigate.png", "navigate.csv", "frame_0000.png", "frame_0001.png"] {
                assert!(room.0.join("out").join(file).exists());
            }
        }
    }

    #[test]
    fn a_goal_may_have_a_heading() {
        assert_eq!(target("1, -2").unwrap(), ([1.0, -2.0], None));
        assert_eq!(target("1,-2,0.5").unwrap(), ([1.0, -2.0], Some(0.5)));
        assert!(target("1").is_err() && target("1,2,3,4").is_err() && target("1,2,inf").is_err());
    }

    #[test]
    fn maneuvers_alone_arrive() {
        let room = Room::new("alone");
        // The only rollout is the plan itself, which starts at rest, so that nothing but maneuvers moves the robot.
        let line = room.run(&room.at(0.4, 1.6), &room.at(2.0, 0.6), &["--samples", "1"]).unwrap();
        assert!(line.starts_with("reached the goal: "), "{line}");
    }
}
