//! The closed loop: plan, apply the first control, observe, until the robot arrives or gives up.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use gibbs::control::Smoothing;
use gibbs::{Engine, EngineOptions, Mppi, MppiOptions, StepContext, Temperature, Weighting};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::draw::{Picture, Sampled};
use crate::fields::Fields;
use crate::maneuver::{self, wrapped};
use crate::record::{self, Row};
use crate::robot::{self, DT, NavigateCost, Planner, Robot};
use crate::{Task, animation};

/// The number of substeps of the simulated world per time step.
const PIECES: usize = 10;
/// Margin that the planner adds to the radius at full speed, for motion between two time steps (in meters).
const SLACK: f32 = 0.01;
/// The robot is stuck if the cost to go has not decreased for this many steps.
const PATIENCE: usize = 150;
/// After this many steps without progress the robot slows to this fraction of full speed, until it is this much nearer
/// (in meters).
const HESITATION: usize = 30;
const CREEP: f32 = 0.2;
const RESUME: f64 = 2.0;
/// A robot this slow (in m/s and in rad/s) is at rest.
const REST: [f32; 2] = [0.05, 0.1];
/// The tolerance of the goal heading (in radians).
const HEADING_TOLERANCE: f32 = 0.1;
/// Number of rollouts in a drawn fan, and of fans in the picture of a whole run.
const FAN: (usize, usize) = (96, 7);
/// The number of steps between the fans from which those of that picture are chosen.
const FAN_STRIDE: usize = 10;
/// The memory limit for all fans that are kept (in bytes).
const FAN_BYTES: usize = 128 << 20;

/// The largest number of frames of an animation, the longest side of a frame (in pixels), and how long it is shown (in
/// milliseconds).
const MAX_FRAMES: usize = 120;
const FRAME_SIDE: u32 = 480;
const FRAME_DELAY: u16 = 80;

/// A fan of sampled rollouts, and the step at which it was drawn.
struct Fan {
    step: usize,
    samples: Vec<Sampled>,
}

/// The outcome of a run.
struct Run {
    poses: Vec<[f32; 3]>,
    rows: Vec<Row>,
    fans: Vec<Fan>,
    driven: f64,
    collisions: usize,
    min_clearance: f64,
    /// The final speed (in m/s).
    speed: f32,
    /// The reason why the robot did not arrive, if it did not.
    failure: Option<String>,
}

/// Runs the closed loop, writes the table and pictures, and returns the summary line.
pub fn drive<D: Robot>(task: &Task, robot: D) -> Result<String> {
    let args = task.args;
    let engine = Engine::with_options(EngineOptions { backend: args.backend, ..Default::default() })?;
    log::info!("{}: {}", engine.name(), engine.reason());
    let position = [task.start[0].into(), task.start[1].into()];
    let travel = f64::from(robot::SPEED * DT) * args.horizon.max(maneuver::FORESIGHT) as f64;
    // The cost to go is sampled up to a radius ahead of the robot.
    let reach = f64::from(maneuver::reach(args.horizon)).max(travel + args.radius);
    let Task { map, clearance, cost_to_go, most_cells, .. } = task;
    let fields = RefCell::new(Fields::new(map, clearance, cost_to_go, position, reach, *most_cells)?);
    let rate_limits = args.rate_limits.map(|rates| robot.rate_limits(rates));
    let planner = |pace: f32| {
        let cost = NavigateCost {
            radius: args.radius as f32,
            slack: SLACK * pace,
            look_ahead: args.radius as f32,
            brake: robot.slowing(rate_limits)[0],
            twist: robot.twist(),
        };
        let options = MppiOptions::<2> {
            task: gibbs::Task {
                horizon: args.horizon,
                dt: DT,
                limits: Some(robot.limits(pace)),
                rate_limits,
                seed: args.seed,
                params: NavigateCost::params(task.target()).to_vec(),
                fields: fields.borrow().grids().to_vec(),
                ..Default::default()
            },
            samples: args.samples,
            weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.05)),
            noise: robot.noise(pace),
            noise_shape: args.noise_shape,
            smoothing: (args.smoothing > 0).then_some(Smoothing { window: args.smoothing, order: 1 }),
            ..Default::default()
        };
        Ok(Mppi::new(&engine, robot.with_cost(cost), options)?)
    };

    let run = closed_loop(task, robot, &fields, planner)?;
    record::write(&args.out.join("navigate.csv"), &run.rows, DT, task.frame)?;
    draw(task, &run, Picture::new(task.map, &task.cost_to_go))?;

    let mut times: Vec<Duration> = run.rows.iter().map(|row| row.plan_time).collect();
    times.sort();
    let median = times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let Run { driven, collisions, min_clearance, speed, .. } = run;
    let steps = run.rows.len();
    if let Some(reason) = run.failure {
        bail!("{reason} ({steps} steps, {driven:.2} m driven, {collisions} collisions)");
    }
    ensure!(
        collisions == 0,
        "the robot reached the goal, but touched an obstacle on the way: {collisions} collisions, min clearance \
         {min_clearance:.3} m"
    );
    let [speed_change, turn_change] = [0, 1].map(|i| {
        let before = std::iter::once(0.0).chain(run.rows.iter().map(|row| row.twist[i]));
        let changes = run.rows.iter().zip(before).map(|(row, before)| f64::from(row.twist[i] - before).powi(2));
        (changes.sum::<f64>() / steps.max(1) as f64).sqrt()
    });
    let [x, y, heading] = run.poses[run.poses.len() - 1];
    let error = (f64::from(x) - task.goal[0]).hypot(f64::from(y) - task.goal[1]);
    let turned = task.target().yaw.map(|yaw| format!(", heading error {:.3} rad", wrapped(heading - yaw).abs()));
    Ok(format!(
        "reached the goal: {steps} steps, {driven:.2} m driven, min clearance {min_clearance:.3} m, 0 collisions, plan \
         median {median:.2} ms ({}), rms change a step {speed_change:.3} m/s and {turn_change:.3} rad/s, final speed {speed:.2} m/s, error {error:.3} m{}",
        engine.name(),
        turned.unwrap_or_default()
    ))
}

/// Plans, applies the first control and observes, until the robot arrives or gives up.
fn closed_loop<D: Robot>(
    task: &Task,
    robot: D,
    fields: &RefCell<Fields>,
    planner: impl Fn(f32) -> Result<Planner<D>>,
) -> Result<Run> {
    let (args, goal) = (task.args, task.target());
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
        speed: 0.0,
        failure: None,
    };
    let whole = task.cost_to_go.from(place(state)).unwrap_or(f64::INFINITY);
    // Ten times the steps that the way takes at full speed, and some for turning.
    let limit = ((10.0 * whole / f64::from(robot::SPEED * DT)) as usize).saturating_add(200);
    let (mut best, mut best_step) = (whole, 0);
    let mut mppi = planner(1.0)?;
    let mut creeping = None;
    let mut touching = false;
    // The number of steps between fans that are kept; doubled whenever fans take too much memory.
    let mut stride = if args.frames.is_some() { 1 } else { FAN_STRIDE };
    let most_fans = (FAN_BYTES / (FAN.0 * (args.horizon + 1) * size_of::<[f32; 3]>())).max(2 * FAN.1);
    let bar = ProgressBar::new(1000);
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:40} {percent:>3} % {msg}")?);

    let mut twist = [0.0_f32; 2];
    let arrived = |state: [f32; 3], twist: [f32; 2]| {
        apart(place(state), task.goal) <= args.tolerance
            && goal.yaw.is_none_or(|yaw| wrapped(state[2] - yaw).abs() <= HEADING_TOLERANCE)
            && (0..2).all(|i| twist[i].abs() <= REST[i])
    };

    while !arrived(state, twist) {
        let step = run.rows.len();
        let to_go = task.cost_to_go.from(place(state)).unwrap_or(f64::INFINITY);
        if to_go < best - 0.02 {
            (best, best_step) = (to_go, step);
        }
        if step - best_step >= PATIENCE {
            run.failure = Some(stuck(task.frame.to_world(place(state)), to_go));
            break;
        }
        if step == limit {
            run.failure = Some(format!("the goal was not reached within {limit} steps"));
            break;
        }

        // At full speed nearly every rollout may crash in a gap that is just wide enough; small perturbations find a
        // way through.
        let pace = match creeping {
            None if step - best_step >= HESITATION => Some((CREEP, Some(to_go))),
            Some(since) if to_go < since - RESUME => Some((1.0, None)),
            _ => None,
        };
        if let Some((pace, since)) = pace {
            let last = mppi.last_control();
            (mppi, creeping) = (planner(pace)?, since);
            mppi.set_last_control(&last)?;
        }

        if fields.borrow_mut().follow(place(state))? {
            for (index, grid) in fields.borrow().grids().iter().enumerate() {
                mppi.set_field(index, grid.clone())?;
            }
        }
        let plan = mppi.plan(&state)?;
        let plan_cost = plan.cost();
        let (effective_samples, plan_time) = (plan.effective_samples(), plan.timing().total);
        if step.is_multiple_of(stride) {
            run.fans.push(Fan { step, samples: fan(&mut mppi, args.terms)? });
            if run.fans.len() > most_fans {
                stride *= 2;
                run.fans.retain(|fan| fan.step.is_multiple_of(stride));
            }
        }
        let clock = Instant::now();
        let maneuver = maneuver::better(&mppi, &fields.borrow().grids()[1], goal, state)?;
        let maneuver_time = clock.elapsed();
        if let Some(maneuver) = &maneuver {
            mppi.set_controls(maneuver)?;
        }
        let controls = mppi.advance();

        let [[a, b], [c, d]] = robot.twist();
        twist = [a * controls[0] + b * controls[1], c * controls[0] + d * controls[1]];
        let mut row = Row {
            time: step as f64 * f64::from(DT),
            pose: state,
            controls,
            twist,
            clearance: f64::INFINITY,
            cost_to_go: to_go,
            plan_cost,
            effective_samples,
            plan_time,
            maneuver: maneuver.is_some(),
            maneuver_time,
        };
        for _ in 0..PIECES {
            let next = robot.step(&StepContext::<f32>::new(step, DT / PIECES as f32), state, controls);
            let length = apart(place(state), place(next));
            let next_room = task.clearance.at(place(next));
            // The distance is 1-Lipschitz in position, which gives a lower bound between two points.
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
    let taken = run.rows.iter().filter(|row| row.maneuver).count();
    log::info!("maneuvers took the place of {taken} of {} plans", run.rows.len());
    run.speed = twist[0].abs();
    Ok(run)
}

/// Builds the message that a robot makes no progress at a point of the world; the cost to go is infinite outside the
/// computed region.
fn stuck([x, y]: [f64; 2], to_go: f64) -> String {
    match to_go.is_finite() {
        true => format!("the robot is stuck at ({x:.2}, {y:.2}), {to_go:.2} m from the goal"),
        false => format!("the robot is stuck at ({x:.2}, {y:.2}), from where no way to the goal is known"),
    }
}

/// Selects rollouts of the last plan, evenly by weight. With `terms`, also finds the term of the cost that holds each
/// back.
fn fan<D: Robot>(mppi: &mut Planner<D>, terms: bool) -> Result<Vec<Sampled>> {
    let samples = mppi.samples()?;
    let statistics = terms.then(|| samples.term_statistics());
    // The totals of a term are hard to compare: most of a cost is the remaining way. So the term is found by which a
    // rollout exceeds the weighted mean most.
    let held_back_by = |k: usize| {
        let typical = statistics.as_ref()?.iter().map(|(_, over_rows)| over_rows.weighted_mean);
        let row = samples.terms(k);
        let excess = row.iter().zip(typical).map(|((name, total), typical)| (name, total - typical));
        excess.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name)
    };
    let weights = samples.weights();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    let most = order.first().map_or(1.0, |&k| weights[k]).max(f32::MIN_POSITIVE);
    let chosen = order.into_iter().step_by(weights.len().div_ceil(FAN.0));
    Ok(chosen.map(|k| Sampled { weight: weights[k] / most, poses: samples.states(k), term: held_back_by(k) }).collect())
}

/// Draws the picture of the whole run, and the animation if requested.
fn draw(task: &Task, run: &Run, blank: Picture) -> Result<()> {
    let args = task.args;
    let speeds: Vec<f32> = run.rows.iter().map(|row| row.twist[0]).collect();
    let scene = |fans: &[&Fan], last: usize| {
        let mut picture = blank.clone();
        picture.goal(task.target(), args.tolerance);
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
    // Draws only fans that are far enough apart not to cover each other.
    let spacing = (run.driven / FAN.1 as f64).max(f64::from(robot::SPEED * DT) * 0.6 * args.horizon as f64);
    let (mut driven, mut due, mut some) = (0.0, 0.0, Vec::new());
    for (step, row) in run.rows.iter().enumerate() {
        let is_due = step.is_multiple_of(FAN_STRIDE) && driven >= due;
        if let Some(fan) = run.fans.iter().find(|fan| is_due && fan.step == step) {
            some.push(fan);
            due = driven + spacing;
        }
        driven += f64::from(row.twist[0].abs() * DT);
    }
    let mut whole = scene(&some, steps);
    if args.terms {
        whole.legend();
    }
    whole.save(&args.out.join("navigate.png"))?;

    if let Some(path) = &args.frames {
        let mut shown: Vec<_> = (0..=steps).rev().step_by(steps.div_ceil(MAX_FRAMES).max(1)).collect();
        shown.reverse();
        let bar = ProgressBar::new(shown.len() as u64);
        let frames: Vec<_> = shown
            .into_par_iter()
            .map(|step| {
                let fan: Vec<_> = run.fans.iter().rfind(|fan| fan.step <= step && step < steps).into_iter().collect();
                bar.inc(1);
                scene(&fan, step).reduced(FRAME_SIDE)
            })
            .collect();
        bar.finish_and_clear();
        animation::write(path, &frames, FRAME_DELAY)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    /// A map of free cells in solid rock, 0.05 m a cell.
    fn place(size: [u32; 2], free: impl Fn(u32, u32) -> bool) -> Folder {
        Folder::with_map(0.05, [0.0; 3], size, |x, y| if free(x, y) { 254 } else { 0 })
    }

    /// A corridor 6 m long and `cells` cells wide, whose middle is at y = 0.5 m and a half cell.
    fn corridor(cells: u32) -> Folder {
        place([124, 21], |x, y| (2..122).contains(&x) && y.abs_diff(10) <= cells / 2)
    }

    impl Folder {
        /// Reads the table of the last run: the names of its columns, and its numbers row by row.
        fn table(&self) -> (Vec<String>, Vec<Vec<f64>>) {
            let text = std::fs::read_to_string(self.path("out/navigate.csv")).unwrap();
            let mut lines = text.lines();
            let names = lines.next().unwrap().split(',').map(String::from).collect();
            (names, lines.map(|line| line.split(',').map(|number| number.parse().unwrap()).collect()).collect())
        }

        fn column(&self, name: &str) -> Vec<f64> {
            let (names, rows) = self.table();
            let at = names.iter().position(|n| n == name).unwrap();
            rows.iter().map(|row| row[at]).collect()
        }
    }

    /// Returns the number after a word of the last line.
    fn after(line: &str, word: &str) -> f64 {
        let rest = line.split_once(word).unwrap_or_else(|| panic!("no {word:?} in {line:?}")).1;
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn a_robot_in_a_corridor_turns_to_a_goal_behind_it() {
        // The wide corridor lets a unicycle reverse all the way, the narrow one leaves 2.5 cm on either side.
        for (name, cells) in [("wide", 13), ("narrow", 9)] {
            let place = corridor(cells);
            for model in ["unicycle", "diff-drive"] {
                let steps = |yaw: f64, seed: &str| {
                    let start = format!("5.5,0.525,{yaw}");
                    let line = place.run(&start, "0.6,0.525", &["--model", model, "--seed", seed]).unwrap();
                    after(&line, "reached the goal: ")
                };
                for seed in ["0", "1"] {
                    let (facing, behind) = (steps(std::f64::consts::PI, seed), steps(0.0, seed));
                    // Half a turn takes 21 steps.
                    assert!(behind <= facing + 40.0, "{name} {model}: {behind} steps, {facing} when facing the goal");
                    let backwards = place.column("speed_m_s").iter().map(|speed| (-speed).max(0.0) * 0.1).sum::<f64>();
                    assert!(backwards < 0.5, "{name} {model}: {backwards} m backwards");
                }
            }
        }
    }

    #[test]
    fn a_robot_stops_at_the_goal_with_the_heading_wanted() {
        let place = place([60, 60], |x, y| (2..58).contains(&x) && (2..58).contains(&y));
        for model in ["unicycle", "diff-drive"] {
            for (goal, yaw) in [("2.2,2", None), ("2.2,2,-1.2", Some(-1.2)), ("0.62,0.55,3.3", Some(3.3))] {
                let line = place.run("0.6,0.6,0", goal, &["--model", model]).unwrap();
                assert!(after(&line, "final speed ") <= 0.05 && after(&line, ", error ") < 0.05, "{model}: {line}");
                assert_eq!(yaw.is_some(), line.contains("heading error"), "{line}");
                if let Some(yaw) = yaw {
                    assert!(after(&line, "heading error ") <= 0.1, "{line}");
                    // The heading of the last row, minus the turn of its command.
                    let last = *place.column("heading_rad").last().unwrap() - yaw;
                    assert!(wrapped(last as f32).abs() < 0.12, "{last}");
                }
                let turn = place.column("turn_rad_s");
                assert!(turn.last().unwrap().abs() <= 0.1 + 1e-4, "{line}");
                // No dithering: once the goal is less than 5 cm away, the robot comes to rest.
                let near = place.column("cost_to_go_m").iter().filter(|&&left| left < 0.05).count();
                assert!(near < 40, "{near} steps at the goal, {line}");
            }
        }
    }

    #[test]
    fn where_it_starts_at_rest_it_has_arrived() {
        let place = corridor(13);
        let line = place.run("2,0.525,0", "2.1,0.525", &[]).unwrap();
        assert!(line.starts_with("reached the goal: 0 steps") && after(&line, ", error ") == 0.1, "{line}");
    }

    #[test]
    fn the_table_has_the_rates_of_change_of_the_commands() {
        let place = corridor(13);
        place.run("1,0.525,0", "3,0.525", &["--samples", "256", "--model", "diff-drive"]).unwrap();
        for (command, rate) in [
            ("control_0", "control_0_per_s"),
            ("control_1", "control_1_per_s"),
            ("speed_m_s", "acceleration_m_s2"),
            ("turn_rad_s", "turn_acceleration_rad_s2"),
        ] {
            let (command, rate) = (place.column(command), place.column(rate));
            let before = std::iter::once(0.0).chain(command.iter().copied());
            for ((before, now), rate) in before.zip(&command).zip(&rate) {
                assert!(((now - before) / 0.1 - rate).abs() < 2e-3, "{before} to {now}, but {rate} a second");
            }
        }
    }

    #[test]
    fn no_command_changes_faster_than_its_limit() {
        let place = corridor(13);
        for model in ["unicycle", "diff-drive"] {
            let limits = ["--rate-limits", "1.5,4", "--noise-shape", "linear-5", "--smoothing", "9", "--model", model];
            place.run("1,0.525,3", "4,0.525", &limits).unwrap();
            for (rate, limit) in [("acceleration_m_s2", 1.5), ("turn_acceleration_rad_s2", 4.0)] {
                let fastest = place.column(rate).into_iter().map(f64::abs).fold(0.0, f64::max);
                assert!(fastest > 0.25 * limit && fastest < 1.001 * limit, "{model}: {rate} of {fastest}");
            }
        }
    }

    #[test]
    fn a_gap_that_is_too_tight_to_dare_is_stuck() {
        // Two rooms, connected by a door that leaves a tenth of a millimeter on either side.
        let place = place([100, 49], |x, y| {
            let room = (2..40).contains(&x) || (60..98).contains(&x);
            (room && (2..47).contains(&y)) || ((2..98).contains(&x) && y.abs_diff(24) <= 4)
        });
        let line = place.run("1,1.225,0", "4,1.225", &["--radius", "0.2249", "--samples", "128"]).unwrap_err();
        assert!(line.to_string().contains("the robot is stuck at"), "{line}");
    }

    #[test]
    fn a_robot_may_be_stuck_where_no_way_is_known() {
        assert_eq!(stuck([1.0, 2.0], 3.456), "the robot is stuck at (1.00, 2.00), 3.46 m from the goal");
        let unknown = stuck([1.0, 2.0], f64::INFINITY);
        assert_eq!(unknown, "the robot is stuck at (1.00, 2.00), from where no way to the goal is known");
    }

    #[test]
    fn a_small_tolerance_is_met() {
        let place = place([60, 60], |x, y| (2..58).contains(&x) && (2..58).contains(&y));
        for model in ["unicycle", "diff-drive"] {
            let more = ["--model", model, "--tolerance", "0.005", "--samples", "256"];
            let line = place.run("0.6,0.6,0", "2.2,2,1", &more).unwrap();
            assert!(after(&line, ", error ") <= 0.005, "{line}");
        }
    }
}
