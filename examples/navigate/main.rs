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

mod distance;
mod draw;
mod map;
mod record;
mod robot;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use gibbs::models::{DifferentialDrive, Unicycle};
use gibbs::{Backend, Engine, EngineOptions, Mppi, MppiOptions, Stage, Temperature, WithCost};
use indicatif::{ProgressBar, ProgressStyle};

use crate::distance::{Clearance, Comfort, CostToGo};
use crate::draw::{Picture, Sampled};
use crate::map::{Cell, Map};
use crate::record::Row;
use crate::robot::{Kind, NavigateCost, Robot};

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
    /// Where it should go, in metres
    #[arg(long, value_name = "X,Y", value_parser = point, allow_hyphen_values = true)]
    goal: Option<[f64; 2]>,
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

fn point(text: &str) -> Result<[f64; 2]> {
    numbers(text)
}

/// A pose; the heading is 0, along the x axis, if there is none.
fn pose(text: &str) -> Result<[f64; 3]> {
    match text.matches(',').count() {
        1 => numbers(text).map(|[x, y]| [x, y, 0.0]),
        _ => numbers(text),
    }
}

/// The length of a time step (in seconds).
const DT: f32 = 0.1;
/// How many pieces the simulated world cuts a time step into.
const PIECES: usize = 10;
/// What the planner adds to the radius at full pace, for what happens between two time steps (in metres).
const SLACK: f32 = 0.01;
/// A gap that leaves less than this on either side is taken only if there is no other way (in metres).
const SPARE: f64 = 0.02;
/// So far beyond the radius (in metres) a way counts for more, and how much more in contact: see [`Comfort`].
const COMFORT: (f64, f64) = (0.3, 3.0);
/// If the cost to go has not become less for so many steps, the robot is stuck.
const PATIENCE: usize = 150;
/// After so many steps without progress the robot creeps, at this pace, until it is this much nearer (in metres).
const HESITATION: usize = 30;
const CREEP: f32 = 0.2;
const RESUME: f64 = 2.0;
/// Rollouts in a drawn fan, and fans in the picture of a whole run.
const FAN: (usize, usize) = (96, 7);

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
}

fn run(args: &Args) -> Result<String> {
    for (name, value) in [("--radius", args.radius), ("--tolerance", args.tolerance)] {
        ensure!(value.is_finite() && value > 0.0, "{name} is {value}, but must be above 0 (metres)");
    }
    let (path, start, goal) = match &args.map {
        Some(path) => {
            let start = args.start.context("a map of your own needs --start x,y,yaw")?;
            (path.clone(), start, args.goal.context("a map of your own needs --goal x,y")?)
        }
        None => {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("maps/office.yaml");
            (path, args.start.unwrap_or([3.9, 1.85, 0.0]), args.goal.unwrap_or([8.6, 7.2]))
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
    let task = Task { args, map: &map, clearance, cost_to_go, start: start.map(|v| v as f32), goal };
    match args.model {
        Kind::Unicycle => drive(&task, Unicycle::default()),
        Kind::DiffDrive => drive(&task, DifferentialDrive::default()),
    }
}

/// A fan of sampled rollouts, and the step at which it was drawn.
struct Fan {
    step: usize,
    samples: Vec<Sampled>,
}

/// How a run went.
struct Run {
    poses: Vec<[f32; 3]>,
    rows: Vec<Row>,
    fans: Vec<Fan>,
    driven: f64,
    collisions: usize,
    min_clearance: f64,
    /// Why the robot did not get there, if it did not.
    failure: Option<String>,
}

/// Runs the closed loop, writes what there is to write, and tells the outcome.
fn drive<D: Robot>(task: &Task, robot: D) -> Result<String> {
    let args = task.args;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create the folder {}", args.out.display()))?;
    let engine = Engine::with(EngineOptions { backend: args.backend, ..Default::default() })?;
    log::info!("{}: {}", engine.name(), engine.reason());
    let (distance, cost_to_go) = (task.clearance.field()?, task.cost_to_go.field()?);
    let planner = |pace: f32| {
        let cost = NavigateCost {
            radius: args.radius as f32,
            slack: SLACK * pace,
            look_ahead: args.radius as f32,
            twist: robot.twist(),
        };
        let options = MppiOptions::<2> {
            horizon: args.horizon,
            samples: args.samples,
            dt: DT,
            temperature: Temperature::EffectiveSamples(0.05),
            noise: robot.noise(pace),
            limits: Some(robot.limits(pace)),
            seed: args.seed,
            params: vec![task.goal[0] as f32, task.goal[1] as f32, args.tolerance as f32],
            fields: vec![distance.clone(), cost_to_go.clone()],
            ..Default::default()
        };
        Ok(Mppi::new(&engine, robot.with_cost(cost), options)?)
    };

    let run = closed_loop(task, robot, planner)?;
    record::write(&args.out.join("navigate.csv"), &run.rows)?;
    draw(task, &run, Picture::new(task.map, &task.cost_to_go, &cost_to_go))?;

    let mut times: Vec<Duration> = run.rows.iter().map(|row| row.plan_time).collect();
    times.sort();
    let median = times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let Run { driven, collisions, min_clearance, .. } = run;
    let steps = run.rows.len();
    if let Some(reason) = run.failure {
        bail!("{reason} ({steps} steps, {driven:.2} m driven, {collisions} collisions)");
    }
    ensure!(
        collisions == 0,
        "the robot reached the goal, but touched an obstacle on the way: {collisions} collisions, min clearance \
         {min_clearance:.3} m"
    );
    Ok(format!(
        "reached the goal: {steps} steps, {driven:.2} m driven, min clearance {min_clearance:.3} m, 0 collisions, plan \
         median {median:.2} ms ({})",
        engine.name()
    ))
}

/// MPPI for a robot.
type Planner<D> = Mppi<3, 2, WithCost<D, NavigateCost>>;

/// Plan, move, look: until the robot is there or will not get there.
fn closed_loop<D: Robot>(task: &Task, robot: D, planner: impl Fn(f32) -> Result<Planner<D>>) -> Result<Run> {
    let args = task.args;
    let place = |[x, y, _]: [f32; 3]| [f64::from(x), f64::from(y)];
    let apart = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
    let mut state = task.start;
    let mut room = task.clearance.at(place(state));
    let mut run = Run {
        poses: vec![state],
        rows: Vec::new(),
        fans: Vec::new(),
        driven: 0.0,
        collisions: 0,
        min_clearance: room - args.radius,
        failure: None,
    };
    let whole = task.cost_to_go.from(place(state)).unwrap_or(f64::INFINITY);
    // Ten times what a robot that drives at full speed all the way would need, and some for turning.
    let limit = 200 + (10.0 * whole / f64::from(robot::SPEED * DT)) as usize;
    let (mut best, mut best_step) = (whole, 0);
    let mut mppi = planner(1.0)?;
    let mut creeping = None;
    let mut touching = false;
    let bar = ProgressBar::new(1000);
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:40} {percent:>3} % {msg}")?);

    while apart(place(state), task.goal) > args.tolerance {
        let step = run.rows.len();
        let to_go = task.cost_to_go.from(place(state)).unwrap_or(f64::INFINITY);
        if to_go < best - 0.02 {
            (best, best_step) = (to_go, step);
        }
        if step - best_step >= PATIENCE {
            let [x, y, _] = state;
            run.failure = Some(format!("the robot is stuck at ({x:.2}, {y:.2}), {to_go:.2} m from the goal"));
            break;
        }
        if step == limit {
            run.failure = Some(format!("the goal was not reached within {limit} steps"));
            break;
        }

        // At full pace nearly every rollout may crash in a gap that is just wide enough; small perturbations find the way.
        if creeping.is_none() && step - best_step >= HESITATION {
            (mppi, creeping) = (planner(CREEP)?, Some(to_go));
        } else if creeping.is_some_and(|since| to_go < since - RESUME) {
            (mppi, creeping) = (planner(1.0)?, None);
        }

        let plan = mppi.plan(&state)?;
        let controls = plan.controls()[0];
        let [[a, b], [c, d]] = robot.twist();
        let twist = [a * controls[0] + b * controls[1], c * controls[0] + d * controls[1]];
        let mut row = Row {
            time: step as f64 * f64::from(DT),
            pose: state,
            controls,
            twist,
            clearance: f64::INFINITY,
            cost_to_go: to_go,
            plan_cost: plan.cost(),
            effective_samples: plan.effective_samples(),
            plan_time: plan.timing().total,
        };
        if args.frames > 0 || step.is_multiple_of(10) {
            run.fans.push(Fan { step, samples: fan(&mut mppi)? });
        }
        mppi.shift(1);

        for _ in 0..PIECES {
            let next = robot.step(&Stage::<f32>::new(step, DT / PIECES as f32), state, controls);
            let length = apart(place(state), place(next));
            let next_room = task.clearance.at(place(next));
            // A distance cannot change faster than its point moves, so between two points it is at least this.
            let least = 0.5 * (room + next_room - length) - args.radius;
            row.clearance = row.clearance.min(least);
            run.collisions += usize::from(least < 0.0 && !touching);
            touching = least < 0.0;
            run.driven += length;
            (state, room) = (next, next_room);
        }
        run.min_clearance = run.min_clearance.min(row.clearance);
        run.rows.push(row);
        run.poses.push(state);
        bar.set_position((1000.0 * (1.0 - to_go / whole)).max(0.0) as u64);
        bar.set_message(format!("{to_go:.1} m to go, {:.2} m/s", twist[0]));
    }
    bar.finish_and_clear();
    Ok(run)
}

/// Some of the rollouts of the last plan, evenly by weight.
fn fan<D: Robot>(mppi: &mut Planner<D>) -> Result<Vec<Sampled>> {
    let samples = mppi.samples()?;
    let weights = samples.weights();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    let most = order.first().map_or(1.0, |&k| weights[k]).max(f32::MIN_POSITIVE);
    let chosen = order.into_iter().step_by(weights.len().div_ceil(FAN.0));
    Ok(chosen.map(|k| Sampled { weight: weights[k] / most, poses: samples.states(k) }).collect())
}

/// The picture of the whole run, and the frames if they are wanted.
fn draw(task: &Task, run: &Run, blank: Picture) -> Result<()> {
    let args = task.args;
    let speeds: Vec<f32> = run.rows.iter().map(|row| row.twist[0]).collect();
    let scene = |fans: &[&Fan], last: usize| {
        let mut picture = blank.clone();
        picture.goal(task.goal, args.tolerance);
        for fan in fans {
            picture.fan(&fan.samples);
        }
        picture.start(task.start, args.radius);
        picture.path(&run.poses[..=last], &speeds[..last]);
        for fan in fans.iter().filter(|fan| fan.step != last) {
            picture.ghost(run.poses[fan.step], args.radius);
        }
        picture.robot(run.poses[last], args.radius);
        picture
    };
    let steps = run.rows.len();
    // Some of the fans, so far apart that they do not cover each other.
    let spacing = (run.driven / FAN.1 as f64).max(f64::from(robot::SPEED * DT) * 0.6 * args.horizon as f64);
    let (mut driven, mut due, mut some) = (0.0, 0.0, Vec::new());
    for (step, row) in run.rows.iter().enumerate() {
        if let Some(fan) = run.fans.iter().find(|fan| fan.step == step && driven >= due) {
            some.push(fan);
            due = driven + spacing;
        }
        driven += f64::from(row.twist[0].abs() * DT);
    }
    scene(&some, steps).save(&args.out.join("navigate.png"))?;

    let bar = ProgressBar::new(args.frames as u64);
    for frame in 0..args.frames {
        let step = frame * steps / (args.frames - 1).max(1);
        let fan: Vec<_> = run.fans.get(step).into_iter().collect();
        scene(&fan, step).save(&args.out.join(format!("frame_{frame:04}.png")))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
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
    fn a_robot_that_may_not_move_is_stuck() {
        let room = Room::new("stuck");
        // The only rollout is the plan itself, which starts at rest.
        let line = room.run(&room.at(0.4, 1.6), &room.at(2.0, 0.6), &["--samples", "1"]);
        assert!(line.unwrap_err().to_string().contains("stuck"));
    }
}
