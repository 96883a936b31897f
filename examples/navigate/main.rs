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
#[path = "../common/end.rs"]
mod end;
mod fields;
mod maneuver;
mod map;
mod pixels;
mod record;
mod robot;
mod yaml;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use gibbs::Backend;
use gibbs::models::{DifferentialDrive, Unicycle};
use indicatif::ProgressBar;

use crate::closed_loop::drive;
use crate::distance::{Clearance, Comfort, CostToGo, clearance_up_to};
use crate::end::{complain, say};
use crate::maneuver::Goal;
use crate::map::{Cell, Frame, Loaded, Map};
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
    /// Also write this many numbered images, for an animation (at most 9999)
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = frames)]
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

fn frames(text: &str) -> Result<usize> {
    let frames = text.parse()?;
    ensure!(frames <= MOST_FRAMES, "at most {MOST_FRAMES} images are written");
    Ok(frames)
}

/// As many as four digits number.
const MOST_FRAMES: usize = 9999;
/// A gap that leaves less than this on either side is taken only if there is no other way (in metres).
const SPARE: f64 = 0.02;
/// So far beyond the radius (in metres) a way counts for more, and how much more in contact: see [`Comfort`].
const COMFORT: (f64, f64) = (0.3, 3.0);
fn main() -> ExitCode {
    env_logger::init();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => {
            complain(format_args!("{}", error.to_string().lines().next().unwrap_or("error: no valid arguments")));
            return ExitCode::FAILURE;
        }
        Err(help) => return end::status(say!("{}", help.to_string().trim_end())),
    };
    match run(&args).and_then(|line| say!("{line}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Everything that a run needs, whichever model drives. Poses and points are in the map's frame.
struct Task<'a> {
    args: &'a Args,
    map: &'a Map,
    frame: Frame,
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
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    bar.set_message(format!("reading {}", path.display()));
    let Loaded { map, grey } = Map::load(&path)?;
    if grey > 0 {
        bar.suspend(|| {
            complain(format_args!(
                "warning: free_thresh makes {grey} cells free that have the grey of unknown ones (205); below 0.196 they would \
                 be unknown"
            ));
        });
    }
    let position = [start[0], start[1]];
    let [from, to] = [("start", position), ("goal", goal)].map(|(name, point)| check(&map, name, point, args.radius));
    let (from, to) = (from?, to?);
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create the folder {}", args.out.display()))?;

    // What is not connected with the start is of no use to the robot, so no distances are computed there.
    let no_way = || {
        format!(
            "the goal ({}, {}) cannot be reached from ({}, {}) by a robot of radius {} m",
            goal[0], goal[1], start[0], start[1], args.radius
        )
    };
    bar.set_message("what can be reached");
    let (bounds, connected) = map.region(from, to);
    ensure!(connected, no_way());
    let (map, frame) = map.crop(bounds).into_local();
    let (position, goal) = (frame.to_local(position), frame.to_local(goal));
    bar.set_message("distances to obstacles");
    let clearance = Clearance::new(&map);
    // A way with a little to spare if there is one, any way at all if not.
    let mut ways = [SPARE, 0.0].into_iter().filter_map(|spare| {
        let comfort = Comfort { radius: args.radius + spare, margin: COMFORT.0, weight: COMFORT.1 };
        match map.cells.len() > fields::MOST_CELLS {
            // Only a window of it is ever shown.
            true => CostToGo::between(&map, &clearance, comfort, goal, position, &bar),
            false => CostToGo::new(&map, &clearance, comfort, goal, &bar).filter(|way| way.from(position).is_some()),
        }
    });
    let cost_to_go = ways.next().with_context(no_way)?;
    bar.finish_and_clear();
    let start = [position[0] as f32, position[1] as f32, (start[2] % std::f64::consts::TAU) as f32];
    let task = Task { args, map: &map, frame, clearance, cost_to_go, start, goal, goal_yaw };
    match args.model {
        Kind::Unicycle => drive(&task, Unicycle::default()),
        Kind::DiffDrive => drive(&task, DifferentialDrive::default()),
    }
}

/// The cell of a point that a robot fits at.
fn check(map: &Map, name: &str, [x, y]: [f64; 2], radius: f64) -> Result<usize> {
    let Some(cell) = map.cell_at([x, y]) else { bail!("the {name} ({x}, {y}) is outside the map") };
    match map.cells[cell] {
        Cell::Occupied => bail!("the {name} ({x}, {y}) is inside an obstacle"),
        Cell::Unknown => bail!("the {name} ({x}, {y}) is in unknown space"),
        Cell::Free => {}
    }
    let room = clearance_up_to(map, [x, y], radius);
    ensure!(
        room >= radius,
        "the {name} ({x}, {y}) is {room:.3} m from an obstacle, so a robot of radius {radius} m does not fit there"
    );
    Ok(cell)
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
            let [x, y] = Map::load(&self.0.join("room.yaml")).unwrap().map.to_world([along / 0.05, up / 0.05]);
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
        says(&free, &free, &["--frames", "10000"], "at most 9999");
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

    #[test]
    fn far_from_the_origin_the_drive_is_the_same() {
        let room = Room::new("far");
        let drive = |[x, y]: [f64; 2], model: &str| {
            let yaml = std::fs::read_to_string(room.0.join("room.yaml")).unwrap();
            let path = room.0.join("moved.yaml");
            std::fs::write(&path, yaml.replace("[-1, -1, 0.5]", &format!("[{x}, {y}, 0]"))).unwrap();
            let (start, goal) = (format!("{},{}", x + 0.5, y + 1.5), format!("{},{}", x + 2.0, y + 0.75));
            let (map, out) = (path.to_str().unwrap(), room.0.join("out"));
            let out_name = out.to_str().unwrap();
            let given =
                ["navigate", "--map", map, "--start", &start, "--goal", &goal, "--out", out_name, "--model", model];
            run(&Args::try_parse_from(given.iter().chain(&["--backend", "cpu", "--samples", "256"])).unwrap()).unwrap();
            let table = std::fs::read_to_string(out.join("navigate.csv")).unwrap();
            let rows = table.lines().skip(1).map(|row| row.split(',').map(|cell| cell.parse().unwrap()).collect());
            rows.collect::<Vec<Vec<f64>>>()
        };
        // 10 km off, in an MGRS tile, and in a zone of UTM: all of them exact in f64.
        let origins = [[10_000.0, 10_000.0], [81_377.25, -49_916.5], [388_096.0, 3_948_996.0]];
        for (model, origins) in [("unicycle", &origins[..]), ("diff-drive", &origins[2..])] {
            let here = drive([0.0, 0.0], model);
            for origin in origins {
                let there = drive(*origin, model);
                assert_eq!(here.len(), there.len());
                for (here, there) in here.iter().zip(&there) {
                    // Columns 1 and 2 are the position, written with four digits; column 12 is a time that was measured.
                    for axis in 0..2 {
                        assert!((there[1 + axis] - origin[axis] - here[1 + axis]).abs() < 1.5e-4);
                    }
                    assert_eq!((&here[3..12], &here[13..]), (&there[3..12], &there[13..]));
                }
            }
        }
    }

    #[test]
    fn a_large_map_is_driven_by_windows() {
        let room = Room::new("large");
        const SIDE: u32 = 2100;
        let border = |v: u32| v == 0 || v == SIDE - 1;
        let wall = |x: u32, y: u32| border(x) || border(y) || (x == 60 && (SIDE - 80..).contains(&y));
        let image = image::GrayImage::from_fn(SIDE, SIDE, |x, y| image::Luma([if wall(x, y) { 0 } else { 254 }]));
        image.save(room.0.join("room.png")).unwrap();
        let line = room.run(&room.at(1.0, 1.0), &room.at(5.5, 1.0), &["--samples", "256"]).unwrap();
        assert!(line.starts_with("reached the goal: ") && line.contains(" 0 collisions"), "{line}");
        let picture = image::image_dimensions(room.0.join("out/navigate.png")).unwrap();
        // Below the map is a strip with the scale bar.
        assert!(picture.0 == SIDE && (SIDE + 1..SIDE + 100).contains(&picture.1), "{picture:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let room = Room::new("full");
        let (start, goal, out) = (room.at(0.5, 1.0), room.at(1.0, 1.0), room.0.join("out"));
        for file in ["navigate.csv", "navigate.png"] {
            let _ = std::fs::remove_dir_all(&out);
            std::fs::create_dir_all(&out).unwrap();
            std::os::unix::fs::symlink("/dev/full", out.join(file)).unwrap();
            let error = format!("{:#}", room.run(&start, &goal, &["--samples", "256"]).unwrap_err());
            assert!(error.contains(file) && !error.contains('\n'), "{error}");
        }
    }
}
