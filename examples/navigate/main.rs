//! Drives a robot through an occupancy-grid map with MPPI.
//!
//! ```text
//! cargo run --release --example navigate
//! cargo run --release --example navigate -- --map depot.yaml --start 2,2,0 --goal 28,13 --backend cpu
//! ```
//!
//! The map is in the format of ROS `map_server`. Two fields are computed from it, the distance to the nearest obstacle
//! and the cost to go to the goal, and MPPI rolls a unicycle or a differential drive out over them. The world that the
//! robot drives in is the same model at a tenth of the time step, and collisions are checked against the map itself,
//! not against the fields that the cost samples.
//!
//! A picture (`navigate.png`) and a table (`navigate.csv`) of the run go to `--out`; `--terms` colors its rollouts by
//! the term of the cost that holds each back, and `--frames drive.png` also writes an animation. The exit status is 0
//! if the robot reached the goal without a collision, and 1 otherwise, with a sentence that gives the reason.

mod animation;
mod closed_loop;
mod distance;
mod draw;
#[path = "../common/end.rs"]
mod end;
mod fields;
#[cfg(test)]
mod folder;
mod maneuver;
mod map;
mod pixels;
mod record;
mod robot;
mod yaml;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use gibbs::models::{DifferentialDrive, Unicycle};
use gibbs::{Backend, Interpolation, NoiseShape};
use indicatif::ProgressBar;

use crate::closed_loop::drive;
use crate::distance::{Clearance, CostToGo, clearance_up_to};
use crate::end::{complain, say};
use crate::maneuver::Goal;
use crate::map::{Cell, Frame, Map};
use crate::robot::Kind;

/// Drive a robot through a map.
#[derive(Debug, Parser)]
#[command(allow_negative_numbers = true)]
struct Args {
    /// A map in ROS map_server format (YAML); without it, the one that comes with this example
    #[arg(long, value_name = "FILE.yaml")]
    map: Option<PathBuf>,
    /// Where the robot starts, in meters and radians
    #[arg(long, value_name = "X,Y[,YAW]", value_parser = point, allow_hyphen_values = true)]
    start: Option<([f64; 2], Option<f64>)>,
    /// Where it should go, in meters, and optionally the heading to stop at, in radians
    #[arg(long, value_name = "X,Y[,YAW]", value_parser = point, allow_hyphen_values = true)]
    goal: Option<([f64; 2], Option<f64>)>,
    /// The device that plans: auto, gpu, software (a Vulkan driver that runs on the CPU) or cpu
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// The model that drives
    #[arg(long, value_enum, default_value = "unicycle")]
    model: Kind,
    /// Sampled rollouts per plan
    #[arg(long, default_value_t = 1024)]
    samples: usize,
    /// The horizon of a plan, in steps of 0.1 s
    #[arg(long, default_value_t = 40)]
    horizon: usize,
    /// The seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The robot's radius, in meters
    #[arg(long, default_value_t = 0.2)]
    radius: f64,
    /// The distance from the goal that counts as arrived, in meters
    #[arg(long, default_value_t = 0.25)]
    tolerance: f64,
    /// The folder that the picture and the table go to
    #[arg(long, value_name = "DIR", default_value = "target/navigate")]
    out: PathBuf,
    /// How perturbations of different time steps depend on each other: white, hold-N, linear-N or cubic-N (N steps from
    /// knot to knot), or colored-E (power falls as frequency^-E)
    #[arg(long, value_name = "SHAPE", default_value = "white", value_parser = shape)]
    noise_shape: NoiseShape,
    /// Smooth plans by averaging over as many steps, an odd number; 0 is none
    #[arg(long, value_name = "STEPS", default_value_t = 0)]
    smoothing: usize,
    /// The most that speed and turn rate change per second, in m/s² and rad/s²
    #[arg(long, value_name = "SPEED,TURN", value_parser = rates)]
    rate_limits: Option<[f32; 2]>,
    /// Color the sampled rollouts by the term of the cost that holds each back most
    #[arg(long)]
    terms: bool,
    /// Also write an animation of the drive: an animated PNG, which browsers play
    #[arg(long, value_name = "FILE.png", value_parser = frames)]
    frames: Option<PathBuf>,
}

/// A point, and a heading if there is one.
fn point(text: &str) -> Result<([f64; 2], Option<f64>)> {
    let numbers: Vec<f64> = text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?;
    ensure!(numbers.iter().all(|v| v.is_finite()), "coordinates must be finite");
    match numbers[..] {
        [x, y] => Ok(([x, y], None)),
        [x, y, yaw] => Ok(([x, y], Some(yaw))),
        _ => bail!("2 or 3 numbers are needed, not {}", numbers.len()),
    }
}

/// A shape of noise.
fn shape(text: &str) -> Result<NoiseShape> {
    let knots = |every: &str, interpolation| -> Result<NoiseShape> {
        Ok(NoiseShape::Knots { every: every.parse()?, interpolation })
    };
    match text.split_once('-') {
        None if text == "white" => Ok(NoiseShape::White),
        Some(("hold", every)) => knots(every, Interpolation::Hold),
        Some(("linear", every)) => knots(every, Interpolation::Linear),
        Some(("cubic", every)) => knots(every, Interpolation::Cubic),
        Some(("colored", exponent)) => Ok(NoiseShape::Colored { exponent: exponent.parse()? }),
        _ => bail!("white, hold-N, linear-N, cubic-N or colored-E is needed"),
    }
}

/// The limits of two rates.
fn rates(text: &str) -> Result<[f32; 2]> {
    let numbers: Vec<f32> = text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?;
    numbers.try_into().map_err(|numbers: Vec<f32>| anyhow!("2 numbers are needed, not {}", numbers.len()))
}

fn frames(text: &str) -> Result<PathBuf> {
    let path = PathBuf::from(text);
    let is_png = path.extension().is_some_and(|end| ["png", "apng"].iter().any(|png| end.eq_ignore_ascii_case(png)));
    ensure!(is_png, "the animation is a PNG, so that its name must end in .png or .apng");
    Ok(path)
}

fn main() -> ExitCode {
    end::run(|args| run(&args).and_then(|line| say!("{line}")))
}

/// The settings of a run, whichever model drives. Poses and points are in the map's frame.
struct Task<'a> {
    args: &'a Args,
    map: &'a Map,
    frame: Frame,
    clearance: Clearance<'a>,
    cost_to_go: CostToGo<'a>,
    start: [f32; 3],
    goal: [f64; 2],
    /// The heading to stop at, if one is given.
    goal_yaw: Option<f64>,
    /// The maximum number of cells of a field.
    most_cells: usize,
}

impl Task<'_> {
    /// The goal in the planner's frame.
    fn target(&self) -> Goal {
        Goal {
            at: self.goal.map(|v| v as f32),
            yaw: self.goal_yaw.map(|v| v.rem_euclid(std::f64::consts::TAU) as f32),
            tolerance: self.args.tolerance as f32,
        }
    }
}

fn run(args: &Args) -> Result<String> {
    run_with(args, fields::MOST_CELLS)
}

/// Runs with fields of a limited number of cells; if the map has more, the fields cover a window of it.
fn run_with(args: &Args, most_cells: usize) -> Result<String> {
    for (name, value) in [("--radius", args.radius), ("--tolerance", args.tolerance)] {
        ensure!(value.is_finite() && value > 0.0, "{name} is {value}, but must be above 0 (meters)");
    }
    let (path, (position, yaw), (goal, goal_yaw)) = match &args.map {
        Some(path) => {
            let start = args.start.context("a map of your own needs --start x,y,yaw")?;
            (path.clone(), start, args.goal.context("a map of your own needs --goal x,y")?)
        }
        None => {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("maps/office.yaml");
            (path, args.start.unwrap_or(([3.9, 1.85], None)), args.goal.unwrap_or(([8.6, 7.2], None)))
        }
    };
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    bar.set_message(format!("reading {}", path.display()));
    let loaded = Map::load(&path)?;
    if let Some(warning) = loaded.warning() {
        bar.suspend(|| complain(format_args!("warning: {warning}")));
    }
    let map = loaded.map;
    let [from, to] = [("start", position), ("goal", goal)].map(|(name, point)| check(&map, name, point, args.radius));
    let (from, to) = (from?, to?);
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create the folder {}", args.out.display()))?;

    // Distances are computed only in the region that is reachable from the start.
    let no_way = || {
        format!(
            "the goal ({}, {}) cannot be reached from ({}, {}) by a robot of radius {} m",
            goal[0], goal[1], position[0], position[1], args.radius
        )
    };
    bar.set_message("what can be reached");
    let (bounds, connected) = map.region(from, to);
    ensure!(connected, no_way());
    let (map, frame) = map.crop(bounds).into_local();
    let (from, goal) = (frame.to_local(position), frame.to_local(goal));
    bar.set_message("distances to obstacles");
    let clearance = Clearance::new(&map);
    // Fields cover only a window of a larger map.
    let whole = map.cells.len() <= most_cells;
    let cost_to_go = CostToGo::comfortable(&map, &clearance, args.radius, goal, from, whole, &bar);
    let cost_to_go = cost_to_go.with_context(no_way)?;
    bar.finish_and_clear();
    let start = [from[0], from[1], yaw.unwrap_or(0.0) % std::f64::consts::TAU].map(|v| v as f32);
    let task = Task { args, map: &map, frame, clearance, cost_to_go, start, goal, goal_yaw, most_cells };
    match args.model {
        Kind::Unicycle => drive(&task, Unicycle::default()),
        Kind::DiffDrive => drive(&task, DifferentialDrive::default()),
    }
}

/// Returns the cell of a point, if a robot fits there.
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
    use crate::folder::Folder;

    /// A room 3 m by 2 m, with a closed cell in its corner and something unknown at the end.
    fn room() -> Folder {
        Folder::with_map(0.05, [-1.0, -1.0, 0.5], [60, 40], gray)
    }

    fn gray(x: u32, y: u32) -> u8 {
        match (x, y) {
            (50.., _) => 205,
            (0 | 49, _) | (_, 0 | 39) => 0,
            (35, 25..) | (35.., 24) => 0,
            _ => 254,
        }
    }

    #[test]
    fn bad_input_is_one_clear_sentence() {
        let room = room();
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
        says("1,2,3,4", &free, &[], "2 or 3 numbers are needed, not 4");
        says(&free, "1", &[], "2 or 3 numbers are needed, not 1");
        says(&free, &free, &["--frames", "drive.gif"], "must end in .png or .apng");
        says(&free, &room.at(1.5, 1.0), &["--noise-shape", "purple"], "white, hold-N");
        says(&free, &room.at(1.5, 1.0), &["--rate-limits", "1"], "2 numbers are needed, not 1");
        says(&free, &room.at(1.5, 1.0), &["--smoothing", "4"], "window");
        says(&free, &room.at(1.5, 1.0), &["--samples", "0"], "samples");
        says(&free, &room.at(1.5, 1.0), &["--horizon", "0"], "horizon");
        says(&free, &room.at(1.5, 1.0), &["--horizon", "18446744073709551615"], "horizon");
        let lonely = run(&Args::try_parse_from(["navigate", "--map", "anything.yaml"]).unwrap());
        assert!(lonely.unwrap_err().to_string().contains("--start"));
    }

    #[test]
    fn both_robots_drive_round_a_corner() {
        let room = room();
        for model in ["unicycle", "diff-drive"] {
            let (start, goal) = (room.at(0.4, 1.6), room.at(2.0, 0.6));
            let line = room.run(&start, &goal, &["--model", model, "--samples", "256"]).unwrap();
            assert!(line.starts_with("reached the goal: ") && line.contains(" 0 collisions, plan median "), "{line}");
            for file in ["navigate.png", "navigate.csv"] {
                assert!(room.path("out").join(file).exists());
            }
        }
    }

    #[test]
    fn an_animation_shows_every_step_of_a_short_drive() {
        let room = room();
        let file = room.path("drive.PNG");
        let more = ["--samples", "256", "--frames", file.to_str().unwrap()];
        room.run(&room.at(0.4, 1.6), &room.at(2.0, 0.6), &more).unwrap();
        let steps = std::fs::read_to_string(room.path("out/navigate.csv")).unwrap().lines().count() - 1;
        let png = std::fs::read(file).unwrap();
        let frames = animation::tests::decode(&png);
        assert!(png.len() <= 2_000_000 && frames.len() == steps + 1 && steps < 100, "{} frames", frames.len());
        assert!(frames.iter().all(|(frame, _)| frame.width() == 480 && frame.height() < 480));
        assert!(frames.windows(2).all(|pair| pair[0].0 != pair[1].0));
    }

    #[test]
    fn rollouts_may_be_colored_by_what_holds_them_back() {
        let room = room();
        let run = |more: &[&str]| {
            let line =
                room.run(&room.at(0.4, 1.6), &room.at(2.0, 0.6), &[&["--samples", "256"], more].concat()).unwrap();
            let plan_time = line.find("plan median").unwrap();
            (line[..plan_time].to_owned(), image::open(room.path("out/navigate.png")).unwrap().to_rgb8())
        };
        let ((plain, before), (same, after)) = (run(&[]), run(&["--terms"]));
        assert_eq!(plain, same);
        assert!(after.width() == before.width() && after.height() > before.height());
    }

    #[test]
    fn a_goal_may_have_a_heading() {
        assert_eq!(point("1, -2").unwrap(), ([1.0, -2.0], None));
        assert_eq!(point("1,-2,0.5").unwrap(), ([1.0, -2.0], Some(0.5)));
        assert!(point("1,2,inf").is_err());
        for (text, count) in [("1", 1), ("1,2,3,4", 4)] {
            assert_eq!(point(text).unwrap_err().to_string(), format!("2 or 3 numbers are needed, not {count}"));
        }
    }

    #[test]
    fn maneuvers_alone_arrive() {
        let room = room();
        // The only rollout is the plan itself, which starts at rest, so that nothing but maneuvers moves the robot.
        let line = room.run(&room.at(0.4, 1.6), &room.at(2.0, 0.6), &["--samples", "1"]).unwrap();
        assert!(line.starts_with("reached the goal: "), "{line}");
    }

    #[test]
    fn far_from_the_origin_the_drive_is_the_same() {
        // Origins 10 km away, in an MGRS tile, and in a UTM zone, all of them exact in f64.
        let origins = [[10_000.0, 10_000.0], [81_377.25, -49_916.5], [388_096.0, 3_948_996.0]];
        // The second map is surrounded by unknown space, so that its crop begins at a cell whose position has to be
        // rounded.
        for (beside, below) in [(0, 0), (30, 25)] {
            let inside = |x: u32, y: u32| Some((x.checked_sub(beside)?, y.checked_sub(below)?)).filter(|at| at.1 < 40);
            let folder = Folder::with_map(0.05, [0.0; 3], [60 + 2 * beside, 40 + 2 * below], |x, y| {
                inside(x, y).map_or(205, |(x, y)| gray(x, y))
            });
            let yaml = std::fs::read_to_string(folder.path("map.yaml")).unwrap();
            let [dx, dy] = [beside, below].map(|cells| 0.05 * f64::from(cells));
            let drive = |[x, y]: [f64; 2], model: &str| {
                std::fs::write(folder.path("map.yaml"), yaml.replace("[0.0, 0.0, 0.0]", &format!("[{x}, {y}, 0]")))
                    .unwrap();
                let (start, goal) = ([x + dx + 0.5, y + dy + 1.5], [x + dx + 2.0, y + dy + 0.75]);
                let [start, goal] = [start, goal].map(|[x, y]| format!("{x},{y},0.5"));
                folder.run(&start, &goal, &["--model", model, "--samples", "256"]).unwrap();
                let table = std::fs::read_to_string(folder.path("out/navigate.csv")).unwrap();
                let rows = table.lines().skip(1).map(|row| row.split(',').map(|cell| cell.parse().unwrap()).collect());
                rows.collect::<Vec<Vec<f64>>>()
            };
            for (model, origins) in [("unicycle", &origins[..]), ("diff-drive", &origins[2..])] {
                let here = drive([0.0, 0.0], model);
                for origin in origins {
                    let there = drive(*origin, model);
                    assert_eq!(here.len(), there.len());
                    for (here, there) in here.iter().zip(&there) {
                        // Columns 1 and 2 are the position, with four digits; columns 12 and 14 are measured times.
                        for axis in 0..2 {
                            assert!((there[1 + axis] - origin[axis] - here[1 + axis]).abs() < 1.5e-4);
                        }
                        // If the position of the crop is rounded, the last digits in the table may differ.
                        let tolerance = |column: usize| match column {
                            _ if beside == 0 => 0.0,
                            10 => 1e-4 * here[10].abs(),
                            11 => 0.15,
                            15.. => 3e-3,
                            _ => 2e-4,
                        };
                        for column in (3..here.len()).filter(|column| ![12, 14].contains(column)) {
                            let (a, b) = (here[column], there[column]);
                            assert!((a - b).abs() <= tolerance(column), "{model}, {origin:?}, {column}: {a} and {b}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_large_map_is_driven_by_windows() {
        const SIDE: u32 = 2100;
        let border = |v: u32| v == 0 || v == SIDE - 1;
        let wall = |x: u32, y: u32| border(x) || border(y) || (x == 60 && y < 80);
        let gray = |x: u32, y: u32| if wall(x, y) { 0 } else { 254 };
        let folder = Folder::with_map(0.05, [-1.0, -1.0, 0.5], [SIDE; 2], gray);
        let line = folder.run(&folder.at(1.0, 1.0), &folder.at(5.5, 1.0), &["--samples", "256"]).unwrap();
        assert!(line.starts_with("reached the goal: ") && line.contains(" 0 collisions"), "{line}");
        let picture = image::image_dimensions(folder.path("out/navigate.png")).unwrap();
        // The picture has a strip with the scale bar below the map.
        assert!(picture.0 == SIDE && (SIDE + 1..SIDE + 100).contains(&picture.1), "{picture:?}");
    }

    #[test]
    fn a_fine_map_is_driven_by_windows_of_coarse_fields() {
        // A hall 24 m long in cells of 1 cm, and a wall across half of it. Fields of a window 13.6 m long have a third
        // of the resolution.
        let (width, height) = (2400, 200);
        let hall = |x: u32, y: u32| (2..width - 2).contains(&x) && (2..height - 2).contains(&y);
        let gray = |x: u32, y: u32| if hall(x, y) && !((1200..1220).contains(&x) && y < 100) { 254 } else { 0 };
        let folder = Folder::with_map(0.01, [3.0, -2.0, 0.0], [width, height], gray);
        let file = folder.path("drive.png");
        let more = ["--samples", "256", "--frames", file.to_str().unwrap()];
        let line = folder.run_with(&folder.at(1.0, 1.0), &folder.at(21.0, 0.6), &more, 50_000).unwrap();
        assert!(line.starts_with("reached the goal: ") && line.contains(" 0 collisions"), "{line}");
        let png = std::fs::read(file).unwrap();
        let (picture, frames) =
            (image::image_dimensions(folder.path("out/navigate.png")), animation::tests::decode(&png));
        assert_eq!(picture.unwrap().0, width);
        // Some steps of this long drive are left out.
        assert!(png.len() <= 2_000_000 && (60..=121).contains(&frames.len()), "{} frames", frames.len());
        assert!(frames.iter().all(|(frame, _)| frame.width() == 480));
        // With cells of the map this window would be too large, and with a longer one the fields would be too coarse.
        let error = folder.run_with(&folder.at(1.0, 1.0), &folder.at(21.0, 0.6), &["--horizon", "400"], 10_000);
        assert!(error.unwrap_err().to_string().contains("--horizon"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let room = room();
        let (start, goal, out) = (room.at(0.5, 1.0), room.at(1.0, 1.0), room.path("out"));
        for file in ["navigate.csv", "navigate.png", "drive.png"] {
            let _ = std::fs::remove_dir_all(&out);
            std::fs::create_dir_all(&out).unwrap();
            std::os::unix::fs::symlink("/dev/full", out.join(file)).unwrap();
            let frames = out.join("drive.png");
            let more = ["--samples", "256", "--frames", frames.to_str().unwrap()];
            let error = format!("{:#}", room.run(&start, &goal, &more).unwrap_err());
            assert!(error.starts_with("cannot write ") && error.contains(file) && !error.contains('\n'), "{error}");
        }
    }
}
