//! The closed loop: plan, move, look, until the robot is there or will not get there.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gibbs::{Engine, EngineOptions, Mppi, MppiOptions, Stage, Temperature, WithCost};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Task;
use crate::draw::{Picture, Sampled};
use crate::record::{self, Row};
use crate::robot::{self, NavigateCost, Robot};

/// The length of a time step (in seconds).
const DT: f32 = 0.1;
/// How many pieces the simulated world cuts a time step into.
const PIECES: usize = 10;
/// What the planner adds to the radius at full pace, for what happens between two time steps (in metres).
const SLACK: f32 = 0.01;
/// If the cost to go has not become less for so many steps, the robot is stuck.
const PATIENCE: usize = 150;
/// After so many steps without progress the robot creeps, at this pace, until it is this much nearer (in metres).
const HESITATION: usize = 30;
const CREEP: f32 = 0.2;
const RESUME: f64 = 2.0;
/// Rollouts in a drawn fan, and fans in the picture of a whole run.
const FAN: (usize, usize) = (96, 7);

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
pub fn drive<D: Robot>(task: &Task, robot: D) -> Result<String> {
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
