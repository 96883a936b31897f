//! A control loop at 50 Hz that does not wait for its planner: a robot follows a moving goal among moving obstacles.
//!
//! Each cycle updates the goal and a local costmap in place, starts a plan for the state just measured, looks for it
//! until a time budget is over, and sends the next control of the newest plan there is. Controls take effect two cycles
//! later, which the planner knows, and change no faster than its rate limits.
//!
//! By default time is simulated: a cycle lasts 20 ms however long the plan takes, so that a drive can be repeated. With
//! `--real-time` cycles are timed by the clock, and a plan that is not there within the budget is late: the loop goes
//! on with the plan before. The CPU backend computes a plan in the call that starts it; `--within` keeps that within
//! the budget as well, by fewer rows (`Planner::plan_within`).
//!
//! `cargo run --release --example control_loop` writes `control_loop.csv` and `control_loop.png`, and prints a line;
//! `--help` lists what can be changed. It fails if the robot touches an obstacle, or a control changes faster than it
//! may.

#[path = "common/canvas.rs"]
mod canvas;
#[path = "common/end.rs"]
mod end;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gibbs::control::{Effort, Smoothing, Terms};
use gibbs::models::Unicycle;
use gibbs::{
    Backend, Cost, Engine, EngineOptions, Grid, Interpolation, Limits, Model, ModelParams, Mppi, MppiOptions, Noise,
    NoiseShape, Plan, Real, StepContext, Task, Temperature, Weighting, WithCost,
};
use plotters::prelude::*;

use canvas::{Area, FONT, INK, axes, picture};
use end::{complain, say};

#[derive(Parser)]
#[command(
    about = "Follow a moving goal among moving obstacles, in a loop at 50 Hz that does not wait for its planner."
)]
struct Arguments {
    /// auto, gpu, software or cpu
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Rollouts per plan
    #[arg(long, default_value_t = 1024)]
    samples: usize,
    /// The horizon of a plan, in time steps of 20 ms
    #[arg(long, default_value_t = 100)]
    horizon: usize,
    /// How long to drive, in seconds [default: 40, or 10 with --quick]
    #[arg(long)]
    seconds: Option<f32>,
    /// The time after the measurement at which a control is sent, in milliseconds
    #[arg(long, default_value_t = 10)]
    budget: u64,
    /// Run by the clock instead of in simulated time
    #[arg(long)]
    real_time: bool,
    /// Fit each plan into the budget, instead of starting it and looking for it
    #[arg(long)]
    within: bool,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the table and the picture, made if it is not there
    #[arg(long, default_value = "target/control_loop")]
    out: PathBuf,
    /// A shorter drive
    #[arg(long)]
    quick: bool,
}

/// A cycle of the loop, which is a time step of the plan (in seconds).
const DT: f32 = 0.02;
const CYCLE: Duration = Duration::from_millis(20);
/// The cycles until a control takes effect.
const DELAY: usize = 2;
/// Speed (in m/s) and turn rate (in rad/s): the least, the most, and how fast they may fall and rise (per second).
const LOW: [f32; 2] = [-0.4, -2.0];
const HIGH: [f32; 2] = [1.2, 2.0];
const FALL: [f32; 2] = [-2.0, -6.0];
const RISE: [f32; 2] = [1.0, 6.0];
/// The time steps that smoothing averages over.
const WINDOW: usize = 25;
/// The radii of the robot and of an obstacle, and the clearance below which a step costs more (in meters).
const ROBOT: f32 = 0.2;
const OBSTACLE: f32 = 0.3;
const MARGIN: f32 = 0.3;
/// The costmap: cells along a side, their size, the distance at which values end (in meters), and how often it changes
/// (in cycles). An obstacle covers what it will pass over in this time (in seconds).
const CELLS: usize = 64;
const CELL: f32 = 0.1;
const FAR: f32 = 1.5;
const SCAN: usize = 5;
const FORESIGHT: f32 = 0.8;

/// A point (in meters) that moves (in m/s): the run-time parameters.
#[derive(Clone, Copy, ModelParams)]
struct Goal<R> {
    x: R,
    y: R,
    vx: R,
    vy: R,
}

/// Follow the [`Goal`], and keep clear of what is in field 0: the distance from the robot's center to the nearest
/// obstacle.
#[derive(Clone, Copy)]
struct Follow;

/// The terms of its cost: the distance from the goal, obstacles that are near or touched, turning, driving backwards,
/// and the distance at the end of the horizon.
const TERMS: [&str; 6] = ["goal", "close", "crash", "turn", "back", "end"];

#[gibbs::model]
impl Follow {
    /// The distance to the goal at the end of a time step.
    fn away<R: Real>(at: &StepContext<R>, x: R, y: R, time: R) -> R {
        let goal: Goal<R> = at.params();
        let [dx, dy] = [x - goal.x - goal.vx * time, y - goal.y - goal.vy * time];
        (dx.square() + dy.square() + 0.01).sqrt()
    }
}

#[gibbs::model]
impl Cost<3, 2> for Follow {
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, _]: [R; 3], [speed, turn]: [R; 2]) -> R {
        let clearance = at.sample(0, x, y) - (ROBOT + OBSTACLE);
        let lack = (-clearance + MARGIN).max(0.0);
        at.term("goal", Self::away(at, x, y, (at.index() + 1.0) * at.dt()))
            + at.term("close", lack.square() * 20.0)
            + at.term("crash", R::select(clearance.lt(0.05), 50.0, 0.0))
            + at.term("turn", turn.square() * 0.02)
            + at.term("back", (-speed).max(0.0))
    }
    fn terminal<R: Real>(&self, at: &StepContext<R>, [x, y, _]: [R; 3]) -> R {
        at.term("end", Self::away(at, x, y, at.index() * at.dt()) * 10.0)
    }
}

type Robot = WithCost<Unicycle, Follow>;

/// The goal and its velocity at a time: it runs along an eight.
fn goal(time: f32) -> Goal<f32> {
    let phase = 0.2 * time;
    let (x, y) = (4.0 * phase.sin(), 2.0 * (2.0 * phase).sin());
    Goal { x, y, vx: 0.8 * phase.cos(), vy: 0.8 * (2.0 * phase).cos() }
}

/// The centers of the obstacles and their velocities at a time. Each swings about a point, along a line.
fn obstacles(time: f32) -> [[f32; 4]; 6] {
    [
        [2.0, 1.6, 0.0, 0.9, 0.37],
        [-2.0, 1.6, 0.9, 0.5, 0.31],
        [2.2, -1.6, 0.7, -0.7, 0.43],
        [-2.2, -1.6, 0.0, 1.0, 0.29],
        [4.0, 0.0, 0.9, 0.0, 0.53],
        [0.0, -1.1, 1.2, 0.0, 0.23],
    ]
    .map(|[x, y, dx, dy, rate]| {
        let (s, c) = (rate * time + x).sin_cos();
        [x + dx * s, y + dy * s, rate * dx * c, rate * dy * c]
    })
}

/// The distance from a point to the nearest obstacle's center, wherever it is within the foresight.
fn distance(obstacles: &[[f32; 4]], x: f32, y: f32) -> f32 {
    let from = |[ox, oy, vx, vy]: &[f32; 4]| {
        let (dx, dy, way) = (x - ox, y - oy, [vx * FORESIGHT, vy * FORESIGHT]);
        let along = (dx * way[0] + dy * way[1]) / (way[0].powi(2) + way[1].powi(2)).max(1e-6);
        let along = along.clamp(0.0, 1.0);
        (dx - along * way[0]).hypot(dy - along * way[1])
    };
    obstacles.iter().map(from).fold(FAR, f32::min)
}

/// The corner of the costmap around a position, a whole number of cells from the origin.
fn corner([x, y, _]: [f32; 3]) -> [f32; 2] {
    [x, y].map(|center| ((center / CELL).round() - 0.5 * CELLS as f32) * CELL)
}

/// One cycle: what was measured and sent, and the plan behind it.
struct Row {
    time: f32,
    state: [f32; 3],
    goal: Goal<f32>,
    sent: [f32; 2],
    /// How old the plan was when its control was sent.
    age: Duration,
    plan: Plan<3, 2>,
    /// The terms of the plan's cost, unless the map or the goal changed while it was computed.
    terms: Option<Terms>,
}

/// The outcome of a drive.
struct Drive {
    rows: Vec<Row>,
    collisions: usize,
    late: usize,
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let engine = Engine::with_options(EngineOptions { backend: arguments.backend, ..Default::default() })?;
    let drive = drive(&mut planner(&engine, arguments)?, arguments)?;
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let [table, picture] = ["control_loop.csv", "control_loop.png"].map(|name| arguments.out.join(name));
    std::fs::write(&table, telemetry(&drive.rows)?).with_context(|| format!("cannot write {}", table.display()))?;
    draw(&drive.rows, arguments.budget as f32, &picture)?;
    say!("wrote {} and drew {}", table.display(), picture.display())?;
    say!("{} ({})", judge(&drive)?, engine.name())
}

fn planner(engine: &Engine, arguments: &Arguments) -> Result<Mppi<3, 2, Robot>> {
    let map = Grid::new(CELLS, CELLS, CELL, corner([0.0; 3]), vec![FAR; CELLS * CELLS])?.with_outside(FAR)?;
    let options = MppiOptions {
        task: Task {
            horizon: arguments.horizon,
            dt: DT,
            limits: Some(Limits { low: LOW, high: HIGH }),
            rate_limits: Some(Limits { low: FALL, high: RISE }),
            delay: DELAY,
            params: goal(0.0).into(),
            fields: vec![map],
            seed: arguments.seed,
            ..Default::default()
        },
        samples: arguments.samples,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.05)),
        noise: Noise::Diagonal([0.4, 1.0]),
        noise_shape: NoiseShape::Knots { every: (arguments.horizon / 8).max(1), interpolation: Interpolation::Cubic },
        smoothing: (arguments.horizon >= WINDOW).then_some(Smoothing { window: WINDOW, order: 1 }),
        ..Default::default()
    };
    Ok(Mppi::new(engine, Unicycle::default().with_cost(Follow), options)?)
}

fn drive(mppi: &mut Mppi<3, 2, Robot>, arguments: &Arguments) -> Result<Drive> {
    let seconds = arguments.seconds.unwrap_or(if arguments.quick { 10.0 } else { 40.0 });
    let budget = Duration::from_millis(arguments.budget);
    let (mut state, mut on_their_way) = ([0.0; 3], VecDeque::from([[0.0; 2]; DELAY]));
    let mut values = vec![FAR; CELLS * CELLS];
    let mut latest: Option<(Plan<3, 2>, Option<Terms>)> = None;
    let mut drive = Drive { rows: Vec::new(), collisions: 0, late: 0 };
    let (mut touching, begun) = (false, Instant::now());
    for cycle in 0..(seconds / DT) as usize {
        let (time, measured) = (cycle as f32 * DT, Instant::now());
        mppi.set_params(&goal(time).to_array())?;
        if cycle.is_multiple_of(SCAN) {
            let (seen, origin) = (obstacles(time), corner(state));
            for (i, value) in values.iter_mut().enumerate() {
                let [column, row] = [i % CELLS, i / CELLS].map(|i| (i as f32 + 0.5) * CELL);
                *value = distance(&seen, origin[0] + column, origin[1] + row);
            }
            mppi.set_field_origin(0, origin)?;
            mppi.update_field(0, mppi.options().task.fields[0].region(), &values)?;
        }

        // A plan that failed, or is not there in time, leaves the plan before in place, moved on.
        let made = if arguments.within {
            mppi.plan_within(&state, budget).map(|plan| Some(plan.clone()))
        } else {
            if !mppi.is_pending() {
                mppi.start(&state).unwrap_or_else(|error| complain(format_args!("no plan at {time:.2} s: {error}")));
            }
            loop {
                match mppi.poll().map(|plan| plan.cloned()) {
                    // A loop with other work to do does some of it here.
                    Ok(None) if mppi.is_pending() && !(arguments.real_time && measured.elapsed() > budget) => {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                    made => break made,
                }
            }
        };
        match made {
            Ok(Some(plan)) => latest = Some((plan, mppi.terms().ok())),
            Ok(None) => {}
            Err(error) => complain(format_args!("no plan at {time:.2} s: {error}")),
        }
        drive.late += usize::from(measured.elapsed() > budget);
        let sent = mppi.advance();

        if let Some((plan, terms)) = &latest {
            let (age, plan, terms) = (plan.age(), plan.clone(), terms.clone());
            drive.rows.push(Row { time, state, goal: goal(time), sent, age, plan, terms });
        }
        on_their_way.push_back(sent);
        let acting = on_their_way.pop_front().unwrap_or(sent);
        for part in 0..4 {
            let now = time + 0.25 * DT * (part + 1) as f32;
            state = Unicycle::default().step(&StepContext::new(cycle, 0.25 * DT), state, acting);
            let touches = obstacles(now).iter().any(|o| (state[0] - o[0]).hypot(state[1] - o[1]) < ROBOT + OBSTACLE);
            drive.collisions += usize::from(touches && !touching);
            touching = touches;
        }
        if arguments.real_time {
            std::thread::sleep((begun + CYCLE * (cycle as u32 + 1)).saturating_duration_since(Instant::now()));
        }
    }
    Ok(drive)
}

/// The changes of a command from each cycle to the next (per second), from rest.
fn rates(rows: &[Row], control: usize) -> Vec<f32> {
    let before = std::iter::once(0.0).chain(rows.iter().map(|row| row.sent[control]));
    rows.iter().zip(before).map(|(row, before)| (row.sent[control] - before) / DT).collect()
}

/// Checks that nothing was touched and no limit exceeded, and describes the drive.
fn judge(drive: &Drive) -> Result<String> {
    let Drive { rows, collisions, late } = drive;
    ensure!(!rows.is_empty(), "no plan was made");
    let away = |row: &Row| (row.state[0] - row.goal.x).hypot(row.state[1] - row.goal.y);
    let mean = rows.iter().map(away).sum::<f32>() / rows.len() as f32;
    let extremes = [0, 1].map(|i| {
        rates(rows, i).into_iter().fold([0.0_f32; 2], |[least, most], rate| [least.min(rate), most.max(rate)])
    });
    let text = format!(
        "{:.0} s: {mean:.2} m from the goal on average, {collisions} collisions, speed changed by {:.2} to {:.2} m/s² (limits \
         {} and {}), turn rate by {:.2} to {:.2} rad/s² ({} and {}), {late} of {} plans late",
        rows.len() as f32 * DT,
        extremes[0][0],
        extremes[0][1],
        FALL[0],
        RISE[0],
        extremes[1][0],
        extremes[1][1],
        FALL[1],
        RISE[1],
        rows.len(),
    );
    ensure!(*collisions == 0, "the robot touched an obstacle: {text}");
    // Differences of commands are exact to rounding only.
    let fits = |i: usize| extremes[i][0] >= 1.001 * FALL[i] && extremes[i][1] <= 1.001 * RISE[i];
    ensure!(fits(0) && fits(1), "a control changed faster than it may: {text}");
    Ok(text)
}

/// The table: a line for each cycle.
fn telemetry(rows: &[Row]) -> Result<String> {
    let mut text = String::from(
        "time_s,x_m,y_m,heading_rad,goal_x_m,goal_y_m,speed_m_s,turn_rad_s,plan_age_ms,samples,effective_samples,passes,\
         effort,symptoms,plan_cost",
    );
    for name in TERMS {
        write!(text, ",{name}")?;
    }
    for Row { time, state: [x, y, heading], goal, sent, age, plan, terms } in rows {
        let effort = match plan.effort() {
            Effort::Full => "full",
            Effort::FewerPasses => "fewer passes",
            Effort::FewerRows => "fewer rows",
            _ => "other",
        };
        let symptoms = plan.symptoms().map(|symptom| format!("{symptom:?}")).collect::<Vec<_>>().join(" ");
        write!(
            text,
            "\n{time:.2},{x:.4},{y:.4},{heading:.4},{:.4},{:.4},{:.4},{:.4},{:.2},{},{:.1},{},{effort},{symptoms},{:.4}",
            goal.x,
            goal.y,
            sent[0],
            sent[1],
            1e3 * age.as_secs_f64(),
            plan.samples(),
            plan.effective_samples(),
            plan.passes(),
            plan.cost(),
        )?;
        for name in TERMS {
            match terms {
                Some(terms) => write!(text, ",{:.4}", terms.get(name)?)?,
                None => text.push(','),
            }
        }
    }
    text.push('\n');
    Ok(text)
}

const SIZE: (u32, u32) = (1200, 1300);
const PATH: RGBColor = RGBColor(25, 60, 205);
const GOAL: RGBColor = RGBColor(0, 140, 80);
const COMMAND: RGBColor = RGBColor(120, 10, 110);
const LIMIT: RGBColor = RGBColor(200, 80, 20);

fn draw(rows: &[Row], budget: f32, path: &Path) -> Result<()> {
    let over_time = |values: Vec<f32>| rows.iter().map(|row| row.time).zip(values).collect::<Vec<_>>();
    let command = |i: usize| over_time(rows.iter().map(|row| row.sent[i]).collect());
    let ages: Vec<f32> = rows.iter().map(|row| 1e3 * row.age.as_secs_f32()).collect();
    picture(path, SIZE, |root| {
        let (map, below) = root.margin(10, 10, 10, 30).split_vertically(560);
        draw_path(&map, rows)?;
        let panels = below.split_evenly((3, 2));
        panel(&panels[0], "Speed (m/s)", command(0), &[LOW[0], HIGH[0]])?;
        panel(&panels[1], "Turn rate (rad/s)", command(1), &[LOW[1], HIGH[1]])?;
        panel(&panels[2], "Change of speed (m/s²)", over_time(rates(rows, 0)), &[FALL[0], RISE[0]])?;
        panel(&panels[3], "Change of turn rate (rad/s²)", over_time(rates(rows, 1)), &[FALL[1], RISE[1]])?;
        panel(&panels[4], "Age of the plan (ms)", over_time(ages), &[0.0, budget])?;
        let effective = rows.iter().map(|row| row.plan.effective_samples()).collect();
        panel(&panels[5], "Effective samples", over_time(effective), &[0.0])
    })
}

/// Draws the ways of the robot, of the goal and of the obstacles' centers, with the last positions as circles.
fn draw_path(area: &Area<'_>, rows: &[Row]) -> Result<()> {
    let mut chart = ChartBuilder::on(area)
        .caption("Robot (blue), goal (green) and obstacles (orange)", (FONT, 20).into_font().color(&INK))
        .margin_right(30)
        .y_label_area_size(60)
        .x_label_area_size(50)
        .build_cartesian_2d(-6.6_f32..6.6, -3.0_f32..3.0)?;
    axes(&mut chart).x_desc("x (m)").y_desc("y (m)").draw()?;
    let last = rows.last().context("there is nothing to draw")?;
    let disc = |x: f32, y: f32, radius: f32| {
        (0..=48)
            .map(|i| (i as f32 * std::f32::consts::TAU / 48.0).sin_cos())
            .map(move |(s, c)| (x + radius * c, y + radius * s))
    };
    for i in 0..obstacles(0.0).len() {
        let way = rows.iter().map(|row| obstacles(row.time)[i]).map(|[x, y, ..]| (x, y));
        chart.draw_series(LineSeries::new(way, LIMIT.mix(0.5)))?;
        let [x, y, ..] = obstacles(last.time)[i];
        chart.draw_series([Polygon::new(disc(x, y, OBSTACLE).collect::<Vec<_>>(), LIMIT.mix(0.4))])?;
    }
    chart.draw_series(LineSeries::new(rows.iter().map(|row| (row.goal.x, row.goal.y)), GOAL.stroke_width(1)))?;
    chart.draw_series(LineSeries::new(rows.iter().map(|row| (row.state[0], row.state[1])), PATH.stroke_width(2)))?;
    chart.draw_series([Circle::new((last.goal.x, last.goal.y), 5, GOAL.filled())])?;
    chart.draw_series([Polygon::new(disc(last.state[0], last.state[1], ROBOT).collect::<Vec<_>>(), PATH.mix(0.6))])?;
    Ok(())
}

/// Draws a quantity over time, with its limits as dashed lines.
fn panel(area: &Area<'_>, title: &str, line: Vec<(f32, f32)>, limits: &[f32]) -> Result<()> {
    let values = || line.iter().map(|point| point.1).chain(limits.iter().copied());
    let (low, high) = (values().fold(0.0, f32::min), values().fold(0.0, f32::max));
    let (room, last) = (0.08 * (high - low), line.last().map_or(1.0, |point| point.0));
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 18).into_font().color(&INK))
        .margin_right(20)
        .y_label_area_size(60)
        .x_label_area_size(40)
        .build_cartesian_2d(0.0..last, low - room..high + room)?;
    axes(&mut chart).x_desc("time (s)").x_labels(9).y_labels(5).draw()?;
    for limit in limits {
        let dashes = DashedLineSeries::new([(0.0, *limit), (last, *limit)], 8, 6, LIMIT.stroke_width(1));
        chart.draw_series(dashes)?;
    }
    chart.draw_series(LineSeries::new(line, COMMAND.stroke_width(1)))?;
    Ok(())
}
