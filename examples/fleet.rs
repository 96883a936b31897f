//! A fleet of robots that cross one map at once: each starts on a circle and wants to go to the opposite side of it, so
//! that they all meet in the middle, between columns.
//!
//! All robots plan in one launch (`Fleet`), ten times a second. A robot avoids the others' last plans: of the robots
//! that its own last plan comes nearest to, the planned positions are the references of its problem. Nothing else is
//! exchanged, and no robot has priority. Two costs are rules of the road: near the middle nobody should drive
//! clockwise, as on a roundabout, and a plan should stay near the last one, because others rely on it. The map is a
//! field that all problems share; accelerations are limited as rates of the controls.
//!
//! `cargo run --release --example fleet` draws `fleet.png` and prints a line; `--help` lists what can be changed. It
//! fails if a robot touches another one or the map, or does not arrive. Contacts are looked for at a tenth of the
//! planner's time step.

#[path = "common/canvas.rs"]
mod canvas;
#[path = "common/end.rs"]
mod end;

use std::f32::consts::{PI, TAU};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gibbs::control::{Fallback, Proposal};
use gibbs::models::Unicycle;
use gibbs::{
    Backend, Cost, Engine, EngineOptions, Fleet, Grid, Interpolation, Limits, Model, Mppi, MppiOptions, Noise,
    NoiseShape, Real, References, StepContext, Task, Temperature, Weighting, WithCost,
};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use canvas::{Area, FONT, INK, Plane, axes, picture};
use end::say;

#[derive(Parser)]
#[command(about = "Let a fleet of robots change places on one map, each avoiding the last plans of the others.")]
struct Arguments {
    /// auto, gpu, software or cpu
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// The number of robots, 2 to 72
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(2..=72))]
    robots: u16,
    /// Rollouts per robot around each of its two proposals: its last plan, and to stop
    #[arg(long, default_value_t = 256)]
    samples: usize,
    /// Time steps of 0.1 s that a plan looks ahead
    #[arg(long, default_value_t = 30)]
    horizon: usize,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the picture, made if it is not there
    #[arg(long, default_value = "target/pictures")]
    out: PathBuf,
    /// Drives for this long at most (in seconds)
    #[arg(long, default_value_t = 120.0, value_parser = seconds)]
    duration: f32,
}

fn seconds(text: &str) -> Result<f32, String> {
    let valid = text.parse().ok().filter(|value: &f32| (1.0..=1000.0).contains(value));
    valid.ok_or_else(|| "a number from 1 to 1000 (seconds)".into())
}

/// The time step of the planner (in seconds), and how often contacts are looked for within one.
const DT: f32 = 0.1;
const CHECKS: usize = 10;
/// The radius of a robot, and of the circle that they start on (in meters).
const RADIUS: f32 = 0.25;
const CIRCLE: f32 = 12.5;
/// Gaps below which another robot or the map cost something, and below which a plan is refused (in meters). The robots
/// plan at the same time, so that plans differ from what the others expect.
const MARGIN: f32 = 0.35;
const CLOSE: f32 = 0.08;
/// How far around the middle the robots keep to one direction of circulation (in meters).
const ROUNDABOUT: f32 = 8.5;
/// A robot has arrived if it is this close to its goal (in meters).
const ARRIVED: f32 = 0.3;
/// How many of the others a robot avoids, and the columns of its references: x and y of each of them, and of its own
/// last plan.
const NEIGHBORS: usize = 8;
const WIDTH: usize = 2 * NEIGHBORS + 2;
/// Where a neighbor is that does not exist (in meters).
const NOWHERE: f32 = 1e3;
/// Every so many time steps, a call of the fleet is timed beside as many planners.
const COMPARE_EVERY: usize = 5;

/// The obstacles of the map: discs by center and radius, and a square room by half its side (in meters).
const COLUMNS: [([f32; 2], f32); 6] = [
    ([0.0, 0.0], 1.2),
    ([-4.6, 1.2], 0.5),
    ([3.9, 3.6], 0.4),
    ([-2.2, -4.9], 0.6),
    ([4.4, -3.4], 0.5),
    ([-1.6, 5.2], 0.4),
];
const ROOM: f32 = 14.0;

/// The distance from a point to what is nearest on the map (in meters), negative inside of it.
fn distance_to_map(x: f32, y: f32) -> f32 {
    let columns = COLUMNS.iter().map(|([a, b], radius)| (x - a).hypot(y - b) - radius);
    columns.fold(ROOM - x.abs().max(y.abs()), f32::min)
}

/// Drive to the point (params 0, 1), off the map (field 0) and off the neighbors, counterclockwise around the middle,
/// and not far from the last plan. References are the planned positions, x and y, of each neighbor and of the robot
/// itself.
struct Cross;

#[gibbs::model]
impl Cross {
    /// The vector from planned position `i` to the robot (in meters).
    fn from_planned<R: Real>(at: &StepContext<R>, [x, y, _]: [R; 3], i: usize) -> [R; 2] {
        [x - at.reference(2 * i), y - at.reference(2 * i + 1)]
    }

    /// The gap to the map (in meters).
    fn gap_to_map<R: Real>(at: &StepContext<R>, [x, y, _]: [R; 3]) -> R {
        at.sample(0, x, y) - RADIUS
    }

    /// The gap to a neighbor (in meters).
    fn gap_to<R: Real>(at: &StepContext<R>, pose: [R; 3], neighbor: usize) -> R {
        let [a, b] = Self::from_planned(at, pose, neighbor);
        (a.square() + b.square()).sqrt() - 2.0 * RADIUS
    }

    /// The cost of a gap (in meters): it rises below the margin, and jumps where the gap is too small.
    fn cost_of<R: Real>(gap: R) -> R {
        let short = (R::from(MARGIN) - gap).max(0.0) * (1.0 / MARGIN);
        short.square() * 4.0 + R::select(gap.lt(CLOSE), 50.0, 0.0)
    }
}

#[gibbs::model]
impl Cost<3, 2> for Cross {
    fn cost<R: Real>(&self, at: &StepContext<R>, pose: [R; 3], [speed, turn]: [R; 2]) -> R {
        let [x, y, heading] = pose;
        let (a, b) = (x - at.param(0), y - at.param(1));
        let goal = (a.square() + b.square()).sqrt();
        let mut others = R::from(0.0);
        for neighbor in 0..NEIGHBORS {
            others += Self::cost_of(Self::gap_to(at, pose, neighbor));
        }
        // The speed clockwise around the middle, which counts the more the nearer that is.
        let (s, c) = heading.sin_cos();
        let radius = (x.square() + y.square()).sqrt() + 0.1;
        let clockwise = (speed * (y * c - x * s) / radius).max(0.0);
        let inside = (R::from(1.0) - radius * (1.0 / ROUNDABOUT)).max(0.0);
        let [a, b] = Self::from_planned(at, pose, NEIGHBORS);
        at.term("goal", goal)
            + at.term("map", Self::cost_of(Self::gap_to_map(at, pose)))
            + at.term("others", others)
            + at.term("circulation", clockwise * inside * 2.0)
            + at.term("change", (a.square() + b.square()) * 2.0)
            + at.term("effort", (-speed).max(0.0) * 0.5 + turn.square() * 0.02)
    }

    fn feasible<R: Real>(&self, at: &StepContext<R>, pose: [R; 3]) -> R::Mask {
        let mut gap = Self::gap_to_map(at, pose);
        for neighbor in 0..NEIGHBORS {
            gap = gap.min(Self::gap_to(at, pose, neighbor));
        }
        R::from(CLOSE).lt(gap)
    }
}

type Robot = WithCost<Unicycle, Cross>;

fn options(arguments: &Arguments) -> Result<MppiOptions<2>> {
    let cells = (2.0 * (ROOM + 0.5) / 0.1) as usize;
    let map = Grid::from_fn(cells, cells, 0.1, [-ROOM - 0.5; 2], distance_to_map)?.with_outside(-0.5)?;
    Ok(MppiOptions {
        task: Task {
            horizon: arguments.horizon,
            dt: DT,
            limits: Some(Limits { low: [-0.3, -1.5], high: [1.2, 1.5] }),
            rate_limits: Some(Limits { low: [-2.0, -4.0], high: [1.0, 4.0] }),
            params: vec![0.0; 2],
            references: Some(References { values: vec![NOWHERE; WIDTH], columns: WIDTH }),
            fields: vec![map],
            seed: arguments.seed,
            ..Default::default()
        },
        samples: arguments.samples,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.05)),
        noise: Noise::Diagonal([0.5, 0.7]),
        noise_shape: NoiseShape::Knots { every: 8.min(arguments.horizon), interpolation: Interpolation::Linear },
        proposals: vec![Proposal::Initial],
        fallback: Fallback::LastPlan,
        ..Default::default()
    })
}

/// The place of robot `i` on the circle (in meters), and the heading from there to the opposite place (in rad).
fn place(i: usize, robots: usize) -> [f32; 3] {
    let angle = TAU * i as f32 / robots as f32;
    [CIRCLE * angle.cos(), CIRCLE * angle.sin(), angle - PI]
}

/// A planned position `t` time steps ahead; the last one holds.
fn planned(plan: &[[f32; 2]], t: usize) -> [f32; 2] {
    plan[t.min(plan.len() - 1)]
}

fn distance([a, b]: [f32; 2], [c, d]: [f32; 2]) -> f32 {
    (a - c).hypot(b - d)
}

/// The robots that `plans` bring nearest to robot `i`, nearest first, [`NEIGHBORS`] of them at most.
fn neighbors(plans: &[Vec<[f32; 2]>], i: usize) -> Vec<usize> {
    let least = |j: usize| {
        let pairs = plans[i].iter().zip(&plans[j]);
        pairs.map(|(a, b)| distance(*a, *b)).fold(f32::INFINITY, f32::min)
    };
    let mut others: Vec<_> = (0..plans.len()).filter(|&j| j != i).map(|j| (least(j), j)).collect();
    others.sort_by(|a, b| a.0.total_cmp(&b.0));
    others.into_iter().take(NEIGHBORS).map(|(_, j)| j).collect()
}

/// The references of robot `i`: row t has the positions of its neighbors, and its own, at the end of time step t. The
/// first position of a plan is where the robot is now.
fn references(plans: &[Vec<[f32; 2]>], i: usize, horizon: usize) -> Vec<f32> {
    let neighbors = neighbors(plans, i);
    let mut table = vec![NOWHERE; horizon * WIDTH];
    for (t, row) in table.chunks_exact_mut(WIDTH).enumerate() {
        for (&j, columns) in neighbors.iter().zip(row.chunks_exact_mut(2)) {
            columns.copy_from_slice(&planned(&plans[j], t + 1));
        }
        row[2 * NEIGHBORS..].copy_from_slice(&planned(&plans[i], t + 1));
    }
    table
}

/// The least gap between two robots and between a robot and the map, at one moment (in meters), and the number of pairs
/// and of robots in contact.
#[derive(Clone, Copy)]
struct Gaps {
    robots: f32,
    map: f32,
    contacts: usize,
}

fn gaps(positions: &[[f32; 2]]) -> Gaps {
    let mut gaps = Gaps { robots: f32::INFINITY, map: f32::INFINITY, contacts: 0 };
    for (i, a) in positions.iter().enumerate() {
        let to_map = distance_to_map(a[0], a[1]) - RADIUS;
        gaps.map = gaps.map.min(to_map);
        gaps.contacts += usize::from(to_map < 0.0);
        for b in &positions[i + 1..] {
            let gap = distance(*a, *b) - 2.0 * RADIUS;
            gaps.robots = gaps.robots.min(gap);
            gaps.contacts += usize::from(gap < 0.0);
        }
    }
    gaps
}

/// What the robots do together, one step after another.
#[derive(Default)]
struct Drive {
    /// The states of all robots before each time step, and at the end.
    states: Vec<Vec<[f32; 3]>>,
    /// Their planned positions in each time step.
    plans: Vec<Vec<Vec<[f32; 2]>>>,
    /// The least gaps within each time step, and in how many time steps there was a contact.
    gaps: Vec<Gaps>,
    /// When each robot arrived, to stay (in seconds).
    arrivals: Vec<Option<f32>>,
    /// How long a call of the fleet took, and the calls of as many planners for the same states.
    of_fleet: Vec<Duration>,
    of_planners: Vec<Duration>,
}

impl Drive {
    fn contacts(&self) -> usize {
        self.gaps.iter().map(|gaps| gaps.contacts).sum()
    }

    fn least(&self, gap: fn(&Gaps) -> f32) -> f32 {
        self.gaps.iter().map(gap).fold(f32::INFINITY, f32::min)
    }

    fn path(&self, robot: usize) -> impl Iterator<Item = (f32, f32)> {
        self.states.iter().map(move |states| (states[robot][0], states[robot][1]))
    }

    fn length(&self, robot: usize) -> f32 {
        let next = self.path(robot).skip(1);
        self.path(robot).zip(next).map(|(a, b)| (a.0 - b.0).hypot(a.1 - b.1)).sum()
    }

    /// The time step in which the robots are closest to the middle on average.
    fn crowded(&self) -> usize {
        let spread = |states: &Vec<[f32; 3]>| states.iter().map(|[x, y, _]| x.hypot(*y)).sum::<f32>();
        let spreads = self.states[..self.plans.len()].iter().map(spread).enumerate();
        spreads.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(step, _)| step)
    }
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let engine = Engine::with_options(EngineOptions { backend: arguments.backend, ..Default::default() })?;
    let drive = drive(&engine, arguments)?;
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let picture = arguments.out.join("fleet.png");
    draw(&picture, &drive)?;
    say!("drew {}", picture.display())?;

    let robots = drive.arrivals.len();
    let arrived: Vec<_> = drive.arrivals.iter().flatten().collect();
    let last = arrived.iter().fold(0.0_f32, |last, time| last.max(**time));
    let driven = (0..robots).map(|robot| drive.length(robot)).sum::<f32>() / robots as f32;
    let [fleet, planners] = [&drive.of_fleet, &drive.of_planners].map(|times| 1e3 * median(times).as_secs_f64());
    say!(
        "{} of {robots} robots changed places in {last:.1} s, {driven:.1} m driven on average for {:.1} m, {} contacts, least \
         gap {:.2} m between robots and {:.2} m to the map, fleet median {fleet:.1} ms, {robots} planners {planners:.1} ms ({})",
        arrived.len(),
        2.0 * CIRCLE,
        drive.contacts(),
        drive.least(|gaps| gaps.robots),
        drive.least(|gaps| gaps.map),
        engine.name()
    )?;
    ensure!(drive.contacts() == 0, "{} contacts", drive.contacts());
    ensure!(arrived.len() == robots, "{} robots did not arrive in {:.1} s", robots - arrived.len(), arguments.duration);
    Ok(())
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn drive(engine: &Engine, arguments: &Arguments) -> Result<Drive> {
    let (robots, horizon) = (usize::from(arguments.robots), arguments.horizon);
    let options = options(arguments)?;
    let robot = || Unicycle::default().with_cost(Cross);
    let mut fleet = Fleet::new(engine, robot(), options.clone(), robots)?;
    let mut planners = Vec::new();
    let mut goals = Vec::new();
    for i in 0..robots {
        let [x, y, _] = place(i + robots / 2, robots);
        goals.push([x, y]);
        fleet.set_params(i, &[x, y])?;
        let mut planner = Mppi::new(engine, robot(), options.clone())?;
        planner.set_params(&[x, y])?;
        planners.push(planner);
    }

    let plant = robot();
    let mut states: Vec<_> = (0..robots).map(|i| place(i, robots)).collect();
    let mut plans: Vec<Vec<_>> = states.iter().map(|[x, y, _]| vec![[*x, *y]]).collect();
    let mut drive = Drive { arrivals: vec![None; robots], ..Default::default() };
    drive.states.push(states.clone());
    for step in 0..(arguments.duration / DT) as usize {
        let compares = step % COMPARE_EVERY == 0;
        for i in 0..robots {
            let table = references(&plans, i, horizon);
            fleet.set_references(i, &table, WIDTH)?;
            if compares {
                copy_problem(&fleet, i, &table, &mut planners[i])?;
            }
        }
        let started = Instant::now();
        let results = fleet.plan(&states)?;
        let took = started.elapsed();
        for (plan, robot) in results.iter().zip(&mut plans) {
            // A robot without a plan keeps the last one, and its neighbors keep to that.
            if let Ok(plan) = plan {
                *robot = plan.states().iter().map(|[x, y, _]| [*x, *y]).collect();
            }
        }
        drive.plans.push(plans.clone());
        if compares {
            drive.of_fleet.push(took);
            let started = Instant::now();
            for (planner, state) in planners.iter_mut().zip(&states) {
                planner.plan(state)?;
            }
            drive.of_planners.push(started.elapsed());
        }

        let controls = (0..robots).map(|i| fleet.advance(i)).collect::<Result<Vec<_>, _>>()?;
        let mut least = Gaps { robots: f32::INFINITY, map: f32::INFINITY, contacts: 0 };
        let at = StepContext::new(0, DT / CHECKS as f32);
        for _ in 0..CHECKS {
            for (state, control) in states.iter_mut().zip(&controls) {
                *state = plant.step(&at, *state, *control);
            }
            let positions: Vec<_> = states.iter().map(|[x, y, _]| [*x, *y]).collect();
            let now = gaps(&positions);
            least = Gaps {
                robots: least.robots.min(now.robots),
                map: least.map.min(now.map),
                contacts: least.contacts.max(now.contacts),
            };
        }
        drive.gaps.push(least);
        drive.states.push(states.clone());
        // The plans begin one time step later now.
        for plan in plans.iter_mut().filter(|plan| plan.len() > 1) {
            plan.remove(0);
        }
        for ((state, goal), arrival) in states.iter().zip(&goals).zip(&mut drive.arrivals) {
            let is_there = distance([state[0], state[1]], *goal) < ARRIVED;
            *arrival = arrival.or(Some((step + 1) as f32 * DT)).filter(|_| is_there);
        }
        if drive.arrivals.iter().all(|arrival| arrival.is_some()) {
            break;
        }
    }
    Ok(drive)
}

/// Gives a planner the problem of a robot: its plan, the control that it applied last, and its references.
fn copy_problem(
    fleet: &Fleet<3, 2, Robot, MppiOptions<2>>,
    robot: usize,
    table: &[f32],
    planner: &mut Mppi<3, 2, Robot>,
) -> Result<()> {
    planner.set_references(table, WIDTH)?;
    planner.set_controls(fleet.controls(robot)?)?;
    planner.set_last_control(&fleet.last_control(robot)?)?;
    Ok(())
}

const MAP: RGBColor = RGBColor(150, 154, 162);
const BETWEEN_ROBOTS: RGBColor = RGBColor(25, 60, 205);
const TO_MAP: RGBColor = RGBColor(200, 80, 20);

/// The color of a robot: hues around the circle of starts.
fn color(robot: usize, robots: usize) -> HSLColor {
    HSLColor(robot as f64 / robots as f64, 0.75, 0.42)
}

fn draw(path: &Path, drive: &Drive) -> Result<()> {
    let (robots, crowded) = (drive.arrivals.len(), drive.crowded());
    picture(path, (1560, 1080), |root| {
        let (top, bottom) = root.margin(10, 10, 10, 10).split_vertically(800);
        let (left, right) = top.split_horizontally(770);

        let title = "Paths: from the ring to the opposite disc of the same color";
        let mut chart = plane(&left, title, ROOM + 0.5)?;
        for robot in 0..robots {
            let style = color(robot, robots).stroke_width(2);
            chart.draw_series(LineSeries::new(drive.path(robot), style))?;
            let [x, y, _] = place(robot, robots);
            chart.draw_series([Circle::new((x, y), 6, color(robot, robots).stroke_width(2))])?;
            let [x, y, _] = place(robot + robots / 2, robots);
            chart.draw_series([Circle::new((x, y), 3, color(robot, robots).filled())])?;
        }

        let title = format!("Robots and their plans after {:.1} s", crowded as f32 * DT);
        let reach = 1.0 + drive.states[crowded].iter().map(|[x, y, _]| x.abs().max(y.abs())).fold(3.0, f32::max);
        let mut chart = plane(&right, &title, reach.min(ROOM + 0.5))?;
        for (robot, (state, plan)) in drive.states[crowded].iter().zip(&drive.plans[crowded]).enumerate() {
            let color = color(robot, robots);
            chart.draw_series(LineSeries::new(plan.iter().map(|[x, y]| (*x, *y)), color.stroke_width(1)))?;
            chart.draw_series([Polygon::new(disc([state[0], state[1]], RADIUS), color.filled())])?;
            let nose = (state[0] + RADIUS * state[2].cos(), state[1] + RADIUS * state[2].sin());
            chart.draw_series([PathElement::new([(state[0], state[1]), nose], WHITE.stroke_width(2))])?;
        }
        draw_gaps(&bottom, drive)
    })
}

/// Draws axes of the same scale, and the map.
fn plane<'a, 'b>(area: &'a Area<'b>, title: &str, reach: f32) -> Result<Plane<'a, 'b>> {
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 20).into_font().color(&INK))
        .margin_right(20)
        .y_label_area_size(55)
        .x_label_area_size(50)
        .build_cartesian_2d(-reach..reach, -reach..reach)?;
    axes(&mut chart).x_desc("x (m)").y_desc("y (m)").x_labels(9).y_labels(9).draw()?;
    for (center, radius) in COLUMNS {
        chart.draw_series([Polygon::new(disc(center, radius), MAP.filled())])?;
    }
    let (a, b) = (ROOM, ROOM + 0.5);
    let walls = [[-b, -b, b, -a], [-b, a, b, b], [-b, -b, -a, b], [a, -b, b, b]];
    let walls = walls.map(|wall| wall.map(|side| side.clamp(-reach, reach)));
    chart.draw_series(walls.map(|[x, y, z, w]| Rectangle::new([(x, y), (z, w)], MAP.filled())))?;
    Ok(chart)
}

/// The outline of a disc.
fn disc([x, y]: [f32; 2], radius: f32) -> Vec<(f32, f32)> {
    let angles = (0..48).map(|i| TAU * i as f32 / 48.0);
    angles.map(|angle| (x + radius * angle.cos(), y + radius * angle.sin())).collect()
}

/// A line of the plot of gaps: its name, its color, and the gap.
type Line = (&'static str, RGBColor, fn(&Gaps) -> f32);

/// Draws the least gaps over time.
fn draw_gaps(area: &Area<'_>, drive: &Drive) -> Result<()> {
    let duration = drive.gaps.len() as f32 * DT;
    let range: Range<f32> = drive.least(|gaps| gaps.robots.min(gaps.map)).min(0.0) - 0.05..1.0;
    let mut chart = ChartBuilder::on(area)
        .caption("Least gaps (m)", (FONT, 20).into_font().color(&INK))
        .margin_right(20)
        .y_label_area_size(55)
        .x_label_area_size(50)
        .build_cartesian_2d(0.0..duration, range.clone())?;
    axes(&mut chart).x_desc("time (s)").x_labels(12).y_labels(6).draw()?;
    let contact = [(0.0, 0.0), (duration, 0.0)];
    chart.draw_series(DashedLineSeries::new(contact, 8, 6, INK.stroke_width(1)))?;
    let name = Text::new("contact", (0.01 * duration, 0.0), {
        (FONT, 15).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Bottom))
    });
    chart.draw_series([name])?;
    let lines: [Line; 2] =
        [("between robots", BETWEEN_ROBOTS, |gaps| gaps.robots), ("to the map", TO_MAP, |gaps| gaps.map)];
    for (name, color, gap) in lines {
        let times = (0..).map(|step| step as f32 * DT);
        let line = times.zip(drive.gaps.iter().map(|gaps| gap(gaps).min(range.end)));
        chart
            .draw_series(LineSeries::new(line, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    let style = (FONT, 15).into_font().color(&INK);
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperMiddle)
        .background_style(WHITE.mix(0.8))
        .label_font(style)
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_to_the_map_are_those_to_its_columns_and_walls() {
        let ([x, y], radius) = COLUMNS[0];
        for (point, expected) in [
            ([x, y], -radius),
            ([x + radius + 0.4, y], 0.4),
            ([ROOM - 0.3, 2.0], 0.3),
            ([1.0, -ROOM + 0.2], 0.2),
            ([ROOM + 1.0, 0.0], -1.0),
        ] {
            let distance = distance_to_map(point[0], point[1]);
            assert!((distance - expected).abs() < 1e-5, "{point:?}: {distance}, not {expected}");
        }
    }

    #[test]
    fn no_robot_starts_or_ends_in_contact() {
        for robots in [2, 3, 64, 72] {
            let places: Vec<_> = (0..robots).map(|i| place(i, robots)).map(|[x, y, _]| [x, y]).collect();
            let gaps = gaps(&places);
            assert!(gaps.contacts == 0 && gaps.robots > MARGIN && gaps.map > MARGIN, "{robots} robots");
        }
    }

    #[test]
    fn contacts_are_counted_by_pair() {
        let column = COLUMNS[1].0;
        let gaps = gaps(&[[8.0, 8.0], [8.3, 8.0], [7.7, 8.0], column]);
        assert_eq!(gaps.contacts, 2 + 1);
        assert!((gaps.robots + 0.2).abs() < 1e-5 && (gaps.map + COLUMNS[1].1 + RADIUS).abs() < 1e-5);
    }

    #[test]
    fn references_are_the_nearest_plans_one_step_ahead() {
        // Robot 1 will meet robot 0, robot 2 stays further off, and there are no others.
        let plans =
            vec![vec![[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], vec![[4.0, 0.0], [3.0, 0.0], [2.0, 0.5]], vec![[0.0, 3.0]]];
        assert_eq!(neighbors(&plans, 0), [1, 2]);
        let table = references(&plans, 0, 3);
        let row = |t: usize| [&table[WIDTH * t..][..5], &table[WIDTH * t + 2 * NEIGHBORS..][..2]].concat();
        assert_eq!(row(0), [3.0, 0.0, 0.0, 3.0, NOWHERE, 1.0, 0.0]);
        assert_eq!(row(1), [2.0, 0.5, 0.0, 3.0, NOWHERE, 2.0, 0.0]);
        assert_eq!(row(2), row(1), "the end of a plan holds");
    }
}
