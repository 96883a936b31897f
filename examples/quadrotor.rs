//! A quadrotor that flies through gates in wind and then hovers: the shipped `Quadrotor`, with linear drag.
//!
//! A curve through the gates, with a speed for each of its points, is the reference of the planner: position and
//! velocity at every time step, from the point of the curve that is nearest. The wind is steady, with gusts, and nobody
//! measures it. The model of the planner has a wind as parameters, which a filter estimates from how the velocity
//! differs from what was expected. The same course is flown by a planner that does not know of the wind.
//!
//! `cargo run --release --example quadrotor` draws `quadrotor.png` and prints a line; `--help` lists what can be
//! changed. It fails unless all gates are passed with the estimate, and the hover stays near its point.

#[path = "common/arguments.rs"]
mod arguments;
#[path = "common/canvas.rs"]
mod canvas;
#[path = "common/end.rs"]
mod end;

use std::f32::consts::{FRAC_PI_2, PI, TAU};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gibbs::models::Quadrotor;
use gibbs::{
    Engine, EngineOptions, Interpolation, Limits, Model, Mppi, MppiOptions, Noise, NoiseShape, Random, Real,
    References, StepContext, Task, Temperature, Weighting,
};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use arguments::Common;
use canvas::{Area, FONT, INK, axes, picture};
use end::say;

#[derive(Parser)]
#[command(about = "Fly a quadrotor through gates in wind, then hover, with an estimate of the wind and without.")]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Rollouts per pass; a plan has two passes [default: 1024, or 512 with --quick]
    #[arg(long)]
    samples: Option<usize>,
    /// Time steps of 25 ms that a plan looks ahead
    #[arg(long, default_value_t = 40)]
    horizon: usize,
    /// Speed of the steady wind, 0 to 8 (in m/s)
    #[arg(long, default_value_t = 4.0, value_parser = wind_speed)]
    wind: f32,
    /// Fewer rollouts
    #[arg(long)]
    quick: bool,
}

fn wind_speed(text: &str) -> Result<f32, String> {
    let valid = text.parse().ok().filter(|value: &f32| (0.0..=8.0).contains(value));
    valid.ok_or_else(|| "a number from 0 to 8 (m/s)".into())
}

/// The time step of the planner, and the shorter one of the simulation (in seconds).
const DT: f32 = 0.025;
const FINER: usize = 10;
const FINE_DT: f32 = 0.0025;
/// The acceleration per speed against the air (in 1/s).
const DRAG: f32 = 0.3;
/// The direction of the steady wind (in rad, from x to y), the standard deviations of the gusts (in m/s), and how long
/// a gust is (in seconds).
const WIND_DIRECTION: f32 = 0.7;
const GUSTS: [f32; 3] = [1.0, 1.0, 0.4];
const GUST_TIME: f32 = 0.7;
/// The time constant of the estimate of the wind (in seconds).
const FILTER_TIME: f32 = 0.3;
/// The greatest body rate and thrust that are commanded (in rad/s and weights).
const RATE: f32 = 6.0;
const THRUST: f32 = 2.2;
/// How long the flight may take, how long it hovers, and the time before the error of the hover counts (in seconds).
const FLIGHT: f32 = 30.0;
const HOVER: f32 = 5.0;
const SETTLING: f32 = 1.0;
/// The greatest rms error of the hover (in meters).
const NEAR: f32 = 0.25;

type State = [f32; 13];
type Point = [f32; 3];

/// A round window that is to be passed along its direction.
struct Gate {
    center: Point,
    /// The horizontal direction of passing (in rad, from x to y).
    heading: f32,
}

/// The radius of all gates (in meters).
const OPENING: f32 = 0.5;
const GATES: [Gate; 6] = [
    Gate { center: [-3.0, -3.0, 1.5], heading: 0.0 },
    Gate { center: [1.0, -2.5, 2.3], heading: 0.25 },
    Gate { center: [4.5, 0.0, 2.6], heading: FRAC_PI_2 },
    Gate { center: [1.5, 2.8, 1.5], heading: PI },
    Gate { center: [-2.5, 2.6, 2.5], heading: PI },
    Gate { center: [-5.5, 0.5, 1.5], heading: -FRAC_PI_2 },
];
/// Where the flight begins, and where it ends, in the direction of x.
const START: Point = [-6.5, -3.2, 1.0];
const END: Point = [-0.5, 0.0, 1.5];

impl Gate {
    /// The distance from the center at which a straight way from `a` to `b` crosses the plane of the gate in its
    /// direction.
    fn crossed(&self, a: Point, b: Point) -> Option<f32> {
        let (s, c) = self.heading.sin_cos();
        let ahead = |p: Point| (p[0] - self.center[0]) * c + (p[1] - self.center[1]) * s;
        let (before, after) = (ahead(a), ahead(b));
        if before >= 0.0 || after < 0.0 {
            return None;
        }
        let part = before / (before - after);
        Some(distance([0, 1, 2].map(|i| a[i] + part * (b[i] - a[i])), self.center))
    }

    /// Its outline.
    fn outline(&self) -> impl Iterator<Item = Point> {
        let (s, c) = self.heading.sin_cos();
        (0..=40).map(move |i| {
            let (up, across) = (TAU * i as f32 / 40.0).sin_cos();
            let [x, y, z] = self.center;
            [x - s * across * OPENING, y + c * across * OPENING, z + up * OPENING]
        })
    }
}

fn distance(a: Point, b: Point) -> f32 {
    (0..3).map(|i| (a[i] - b[i]).powi(2)).sum::<f32>().sqrt()
}

fn position(x: &State) -> Point {
    [x[0], x[1], x[2]]
}

fn velocity(x: &State) -> Point {
    [x[3], x[4], x[5]]
}

fn norm(v: Point) -> f32 {
    distance(v, [0.0; 3])
}

/// A quadrotor in a wind, parameters 0 to 2 (in m/s), that is to be at references 0 to 2 (in meters) with the velocity
/// that is references 3 to 5 (in m/s).
struct Drone(Quadrotor);

#[gibbs::model]
impl Model<13, 4> for Drone {
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 13], u: [R; 4]) -> [R; 13] {
        let mut next = self.0.step(at, x, u);
        for i in 0..3 {
            let push = (at.param(i) - x[3 + i]) * DRAG * at.dt();
            next[3 + i] += push;
            next[i] += push * at.dt() * 0.5;
        }
        next
    }

    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 13], u: [R; 4]) -> R {
        let (mut place, mut speed, mut rates) = (R::from(0.0), R::from(0.0), R::from(0.0));
        for i in 0..3 {
            place += (x[i] - at.reference(i)).square();
            speed += (x[3 + i] - at.reference(3 + i)).square();
            rates += u[i].square();
        }
        let thrust = (u[3] - self.0.hover()).square();
        at.term("position", place * 12.0)
            + at.term("velocity", speed * 0.5)
            + at.term("yaw", x[9].square() * 5.0)
            + at.term("commands", rates * 0.02 + thrust * 0.005)
    }
}

/// A curve through all gates and the speed along it, at points that are [`Self::STEP`] apart.
struct Course {
    points: Vec<Point>,
    speeds: Vec<f32>,
}

impl Course {
    const STEP: f32 = 0.02;
    /// The greatest speed (in m/s), and the greatest accelerations across and along the curve (in m/s²).
    const SPEED: f32 = 5.0;
    const ACROSS: f32 = 6.0;
    const ALONG: f32 = 3.0;
    /// The least speed before the end (in m/s).
    const CREEP: f32 = 0.5;

    fn new() -> Self {
        let points = equally_spaced(&spline(), Self::STEP);
        let count = points.len();
        // The radius of the circle through three points bounds the speed; then what can be reached and braked from.
        let apart = 10;
        let mut speeds = vec![Self::SPEED; count];
        for i in apart..count - apart {
            let radius = circumradius(points[i - apart], points[i], points[i + apart]);
            speeds[i] = (Self::ACROSS * radius).sqrt().min(Self::SPEED);
        }
        let reachable = |speed: f32| (speed * speed + 2.0 * Self::ALONG * Self::STEP).sqrt();
        (speeds[0], speeds[count - 1]) = (0.0, 0.0);
        for i in 1..count {
            speeds[i] = speeds[i].min(reachable(speeds[i - 1]));
        }
        for i in (0..count - 1).rev() {
            speeds[i] = speeds[i].min(reachable(speeds[i + 1]));
        }
        Self { points, speeds }
    }

    /// The index of the point nearest to `p` among those of the next meter after `from`.
    fn nearest(&self, p: Point, from: usize) -> usize {
        let until = (from + (1.0 / Self::STEP) as usize).min(self.points.len());
        (from..until)
            .min_by(|a, b| distance(self.points[*a], p).total_cmp(&distance(self.points[*b], p)))
            .unwrap_or(from)
    }

    /// The references for `horizon` time steps: positions and velocities after each of them, from point `from` on.
    fn references(&self, from: usize, horizon: usize) -> Vec<f32> {
        let (mut along, last) = (from as f32 * Self::STEP, self.points.len() - 1);
        let mut table = Vec::with_capacity(6 * horizon);
        for _ in 0..horizon {
            along += self.speeds[((along / Self::STEP) as usize).min(last)].max(Self::CREEP) * DT;
            let i = ((along / Self::STEP).round() as usize).min(last);
            let (a, b) = (self.points[i.saturating_sub(1)], self.points[(i + 1).min(last)]);
            let speed = if i == last { 0.0 } else { self.speeds[i].max(Self::CREEP) };
            table.extend(self.points[i]);
            table.extend([0, 1, 2].map(|j| (b[j] - a[j]) / distance(a, b).max(1e-6) * speed));
        }
        table
    }
}

/// Points of a cubic Hermite spline from the start through all gates, in their directions, to the end.
fn spline() -> Vec<Point> {
    let gates = GATES.iter().map(|gate| (gate.center, gate.heading));
    let knots: Vec<_> = std::iter::once((START, 0.0)).chain(gates).chain([(END, 0.0)]).collect();
    let mut points = Vec::new();
    for pair in knots.windows(2) {
        let [(a, from), (b, to)] = [pair[0], pair[1]];
        let length = distance(a, b);
        let slopes = [from, to].map(|heading: f32| [length * heading.cos(), length * heading.sin(), 0.0]);
        points.extend((0..200).map(|i| {
            let t = i as f32 / 200.0;
            let (t2, t3) = (t * t, t * t * t);
            let weights = [2.0 * t3 - 3.0 * t2 + 1.0, 3.0 * t2 - 2.0 * t3, t3 - 2.0 * t2 + t, t3 - t2];
            [0, 1, 2]
                .map(|j| weights[0] * a[j] + weights[1] * b[j] + weights[2] * slopes[0][j] + weights[3] * slopes[1][j])
        }));
    }
    points.push(END);
    points
}

/// Points on a polyline that are `step` apart along it, and its end.
fn equally_spaced(line: &[Point], step: f32) -> Vec<Point> {
    let (mut points, mut left) = (vec![line[0]], step);
    for pair in line.windows(2) {
        let length = distance(pair[0], pair[1]);
        let mut along = left;
        while along <= length {
            points.push([0, 1, 2].map(|j| pair[0][j] + (pair[1][j] - pair[0][j]) * along / length));
            along += step;
        }
        left = along - length;
    }
    points.extend(line.last());
    points
}

/// The radius of the circle through three points: the product of the sides over four times the area.
fn circumradius(a: Point, b: Point, c: Point) -> f32 {
    let sides = [distance(a, b), distance(b, c), distance(c, a)];
    let half = sides.iter().sum::<f32>() / 2.0;
    let area = (half * sides.iter().map(|side| half - side).product::<f32>()).max(1e-12).sqrt();
    sides.iter().product::<f32>() / (4.0 * area)
}

/// One time step of a flight.
struct Moment {
    state: State,
    control: [f32; 4],
    /// The wind and its estimate (in m/s).
    wind: Point,
    estimate: Point,
}

struct Flight {
    moments: Vec<Moment>,
    /// The distance from the center of each gate that was crossed, in order (in meters).
    misses: Vec<f32>,
    /// When the end was reached (in seconds).
    arrival: Option<f32>,
    /// The rms distance from the end while hovering (in meters).
    hover: f32,
    took: Vec<Duration>,
}

impl Flight {
    fn passed(&self) -> usize {
        self.misses.iter().filter(|miss| **miss < OPENING).count()
    }

    fn miss(&self) -> f32 {
        self.misses.iter().copied().fold(0.0, f32::max)
    }

    fn top_speed(&self) -> f32 {
        self.moments.iter().map(|moment| norm(velocity(&moment.state))).fold(0.0, f32::max)
    }
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let engine = arguments.common.engine(EngineOptions::default())?;
    let course = Course::new();
    let mut mppi = planner(&engine, arguments, &course)?;
    let without = fly(&mut mppi, &course, arguments, false)?;
    let with = fly(&mut mppi, &course, arguments, true)?;
    let picture = arguments.common.picture("quadrotor.png")?;
    draw(&picture, &with, &without)?;
    say!("drew {}", picture.display())?;

    let mut took = with.took.clone();
    took.sort();
    let arrival = with.arrival.with_context(|| format!("the end was not reached in {FLIGHT} s"))?;
    let count = GATES.len();
    say!(
        "{} of {count} gates in {arrival:.1} s at up to {:.1} m/s, at most {:.2} m off center of {OPENING} m, hover {:.2} m rms \
         in a wind of {:.1} m/s with gusts (without an estimate of it {} gates, {:.2} m and {:.2} m), plan median {:.1} ms ({})",
        with.passed(),
        with.top_speed(),
        with.miss(),
        with.hover,
        arguments.wind,
        without.passed(),
        without.miss(),
        without.hover,
        1e3 * took[took.len() / 2].as_secs_f64(),
        engine.name()
    )?;
    ensure!(with.passed() == count, "{} of {count} gates were passed", with.passed());
    ensure!(with.hover < NEAR, "{:.2} m rms from the point of the hover", with.hover);
    Ok(())
}

fn planner(engine: &Engine, arguments: &Arguments, course: &Course) -> Result<Mppi<13, 4, Drone>> {
    let model = Quadrotor::default();
    let hover = model.hover();
    let options = MppiOptions {
        task: Task {
            horizon: arguments.horizon,
            dt: DT,
            limits: Some(Limits { low: [-RATE, -RATE, -RATE, 0.0], high: [RATE, RATE, RATE, THRUST * hover] }),
            params: vec![0.0; 3],
            references: Some(References { values: course.references(0, arguments.horizon), columns: 6 }),
            seed: arguments.common.seed,
            ..Default::default()
        },
        samples: arguments.samples.unwrap_or(if arguments.quick { 512 } else { 1024 }),
        iterations: 2,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.03)),
        noise: Noise::Diagonal([1.2, 1.2, 0.5, 0.25 * hover]),
        noise_shape: NoiseShape::Knots { every: 8.min(arguments.horizon), interpolation: Interpolation::Cubic },
        initial: [0.0, 0.0, 0.0, hover],
        ..Default::default()
    };
    Ok(Mppi::new(engine, Drone(model), options)?)
}

fn fly(mppi: &mut Mppi<13, 4, Drone>, course: &Course, arguments: &Arguments, estimates: bool) -> Result<Flight> {
    mppi.reset();
    let mut x = Quadrotor::LEVEL;
    x[..3].copy_from_slice(&START);
    let mut random = Random::new(arguments.common.seed);
    let (s, c) = WIND_DIRECTION.sin_cos();
    let steady = [arguments.wind * c, arguments.wind * s, 0.0];
    let (mut gust, mut estimate, mut progress) = ([0.0; 3], [0.0; 3], 0);
    let mut flight = Flight { moments: Vec::new(), misses: Vec::new(), arrival: None, hover: 0.0, took: Vec::new() };
    let mut errors = Vec::new();
    for step in 0..((FLIGHT + HOVER) / DT) as usize {
        let time = step as f32 * DT;
        progress = course.nearest(position(&x), progress);
        mppi.set_references(&course.references(progress, arguments.horizon), 6)?;
        mppi.set_params(&estimate)?;
        let plan = mppi.plan(&x).with_context(|| format!("no plan after {time:.2} s"))?;
        flight.took.push(plan.elapsed());
        let control = mppi.advance();
        let wind = [0, 1, 2].map(|i| steady[i] + gust[i]);
        flight.moments.push(Moment { state: x, control, wind, estimate });

        let before = x;
        for _ in 0..FINER {
            let wind = [0, 1, 2].map(|i| steady[i] + gust[i]);
            let next = mppi.model().step(&StepContext::new(0, FINE_DT).with_params(&wind), x, control);
            let due = GATES.get(flight.misses.len());
            flight.misses.extend(due.and_then(|gate| gate.crossed(position(&x), position(&next))));
            x = next;
            let decay = FINE_DT / GUST_TIME;
            for (gust, size) in gust.iter_mut().zip(GUSTS) {
                *gust += size * (2.0 * decay).sqrt() * random.normal() - *gust * decay;
            }
        }
        if estimates {
            // What the velocity has more than expected is due to a wind that is stronger than estimated.
            let expected = mppi.model().step(&StepContext::new(0, DT).with_params(&estimate), before, control);
            let gain = 1.0 - (-DT / FILTER_TIME).exp();
            for i in 0..3 {
                estimate[i] += gain * (x[3 + i] - expected[3 + i]) / (DRAG * DT);
            }
        }

        let away = distance(position(&x), END);
        if flight.arrival.is_none() && flight.misses.len() == GATES.len() && away < OPENING {
            flight.arrival = Some(time + DT);
        }
        match flight.arrival {
            Some(arrival) if time > arrival + HOVER => break,
            Some(arrival) if time > arrival + SETTLING => errors.push(away * away),
            None if time > FLIGHT => break,
            _ => {}
        }
    }
    flight.hover = (errors.iter().sum::<f32>() / errors.len() as f32).sqrt();
    Ok(flight)
}

const GATE: RGBColor = RGBColor(0, 140, 80);
const COLORS: [RGBColor; 3] = [RGBColor(25, 60, 205), RGBColor(200, 80, 20), RGBColor(120, 10, 110)];
const FAINT: RGBColor = RGBColor(140, 145, 155);

/// The color of a speed: from blue to red.
fn color_of(speed: f32, top: f32) -> HSLColor {
    HSLColor(0.68 * (1.0 - f64::from(speed / top).clamp(0.0, 1.0)), 0.85, 0.45)
}

fn draw(path: &Path, with: &Flight, without: &Flight) -> Result<()> {
    picture(path, (1640, 1000), |root| {
        let (left, right) = root.margin(10, 10, 10, 10).split_horizontally(890);
        let (above, below) = left.split_vertically(590);
        draw_view(&above, "From above, colored by speed", with, without, (1, "y (m)", 0.1), true)?;
        draw_view(&below, "From the side", with, without, (2, "z (m)", 2.2), false)?;

        let areas = right.split_evenly((4, 1));
        let speed = |flight: &Flight| values(flight, |moment| norm(velocity(&moment.state)));
        draw_lines(&areas[0], "Speed (m/s)", &[("with an estimate", speed(with)), ("without", speed(without))], false)?;
        let rates = [0, 1, 2].map(|i| (["about x", "about y", "about z"][i], values(with, |moment| moment.control[i])));
        draw_lines(&areas[1], "Commanded body rates (rad/s)", &rates, false)?;
        draw_lines(&areas[2], "Thrust (N)", &[("command", values(with, |moment| moment.control[3]))], false)?;
        let winds =
            [("wind", values(with, |moment| moment.wind[0])), ("estimate", values(with, |moment| moment.estimate[0]))];
        draw_lines(&areas[3], "Wind along x (m/s)", &winds, true)
    })
}

fn values(flight: &Flight, value: impl Fn(&Moment) -> f32) -> Vec<f32> {
    flight.moments.iter().map(value).collect()
}

/// Draws the flights over x and another coordinate, of the same scale, with `middle` in the middle.
fn draw_view(
    area: &Area<'_>,
    title: &str,
    with: &Flight,
    without: &Flight,
    (up, name, middle): (usize, &str, f32),
    has_legend: bool,
) -> Result<()> {
    let top = with.top_speed();
    let area = area.titled(title, (FONT, 20).into_font().color(&INK))?;
    let (x_range, labels) = (-7.5..6.5_f32, [55, 50]);
    let (width, height) = area.dim_in_pixel();
    let per_pixel = (x_range.end - x_range.start) / (width - labels[0]) as f32;
    let half = 0.5 * (height - labels[1]) as f32 * per_pixel;
    let range = middle - half..middle + half;
    let mut chart = ChartBuilder::on(&area)
        .y_label_area_size(labels[0])
        .x_label_area_size(labels[1])
        .build_cartesian_2d(x_range, range.clone())?;
    axes(&mut chart).x_desc("x (m)").y_desc(name).x_labels(14).y_labels(9).draw()?;
    let seen = |p: Point| (p[0], p[up]);
    let other = without.moments.iter().map(|moment| seen(position(&moment.state)));
    chart.draw_series(LineSeries::new(other, FAINT.stroke_width(2)))?;
    for pair in with.moments.windows(2) {
        let color = color_of(norm(velocity(&pair[0].state)), top);
        let ends = [&pair[0], &pair[1]].map(|moment| seen(position(&moment.state)));
        chart.draw_series([PathElement::new(ends, color.stroke_width(3))])?;
    }
    let text = |size: i32| (FONT, size).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Center));
    for (i, gate) in GATES.iter().enumerate() {
        chart.draw_series([PathElement::new(gate.outline().map(seen).collect::<Vec<_>>(), GATE.stroke_width(3))])?;
        let (s, c) = gate.heading.sin_cos();
        let [x, y, z] = gate.center;
        // Beside the gate from above, over it from the side.
        let label = if up == 1 { (x + 0.8 * s, y - 0.8 * c) } else { (x, z + OPENING + 0.2) };
        chart.draw_series([Text::new((i + 1).to_string(), label, text(17).color(&GATE))])?;
    }
    for (point, name) in [(START, "start"), (END, "hover")] {
        let (x, y) = seen(point);
        chart.draw_series([Circle::new((x, y), 5, INK.filled())])?;
        chart.draw_series([Text::new(name, (x, y - 0.35), text(15))])?;
    }
    if has_legend {
        // A scale of speeds, and the direction of the wind.
        let (low, high) = (range.end - 0.75, range.end - 0.5);
        for i in 0..60 {
            let x = |i: i32| -7.0 + 3.0 * i as f32 / 60.0;
            let color = color_of(top * i as f32 / 60.0, top);
            chart.draw_series([Rectangle::new([(x(i), low), (x(i + 1), high)], color.filled())])?;
        }
        chart.draw_series([Text::new("0", (-7.0, low - 0.25), text(15))])?;
        chart.draw_series([Text::new(format!("{top:.1} m/s"), (-4.0, low - 0.25), text(15))])?;
        let line = [(-2.9, low + 0.12), (-2.2, low + 0.12)];
        chart.draw_series([PathElement::new(line, FAINT.stroke_width(2))])?;
        chart.draw_series([Text::new("without an estimate", (-0.45, low + 0.12), text(15))])?;
        let (s, c) = WIND_DIRECTION.sin_cos();
        let (x, y) = (4.3, low - 0.6);
        let tip = (x + 1.2 * c, y + 1.2 * s);
        let barb = |turn: f32| {
            let (s, c) = (WIND_DIRECTION + turn).sin_cos();
            (tip.0 - 0.3 * c, tip.1 - 0.3 * s)
        };
        let arrow = vec![(x, y), tip, barb(0.5), tip, barb(-0.5)];
        chart.draw_series([PathElement::new(arrow, COLORS[0].stroke_width(2))])?;
        chart.draw_series([Text::new("wind", (x + 1.0, y), text(15).color(&COLORS[0]))])?;
    }
    Ok(())
}

/// Draws lines over time.
fn draw_lines(area: &Area<'_>, title: &str, lines: &[(&str, Vec<f32>)], is_last: bool) -> Result<()> {
    let all = || lines.iter().flat_map(|(_, line)| line.iter().copied());
    let (low, high) = all().fold((0.0_f32, 1.0_f32), |(low, high), value| (low.min(value), high.max(value)));
    let duration = lines.iter().map(|(_, line)| line.len()).max().unwrap_or(0) as f32 * DT;
    let room = 0.1 * (high - low);
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 20).into_font().color(&INK))
        .margin_right(20)
        .y_label_area_size(55)
        .x_label_area_size(if is_last { 50 } else { 25 })
        .build_cartesian_2d(0.0..duration, low - room..high + 3.0 * room)?;
    axes(&mut chart).x_desc(if is_last { "time (s)" } else { "" }).x_labels(9).y_labels(6).draw()?;
    for ((name, line), color) in lines.iter().zip(COLORS) {
        let times = (0..).map(|step| step as f32 * DT);
        chart
            .draw_series(LineSeries::new(times.zip(line.iter().copied()), color.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    let style = (FONT, 14).into_font().color(&INK);
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .label_font(style)
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_crossed_in_its_direction_and_measured_in_its_plane() {
        let gate = Gate { center: [1.0, 2.0, 3.0], heading: FRAC_PI_2 };
        let (before, after) = ([1.3, 1.0, 3.4], [1.3, 2.5, 3.4]);
        let miss = gate.crossed(before, after).expect("it is crossed");
        assert!((miss - 0.5).abs() < 1e-5, "{miss}");
        assert!(gate.crossed(after, before).is_none(), "backward");
        assert!(gate.crossed(before, [1.3, 1.9, 3.4]).is_none(), "not yet");
        assert!(gate.outline().all(|p| (distance(p, gate.center) - OPENING).abs() < 1e-5 && (p[1] - 2.0).abs() < 1e-5));
    }

    #[test]
    fn the_circle_through_three_points_has_their_radius() {
        let on_circle = |angle: f32| [2.0 * angle.cos(), 0.6, 2.0 * angle.sin()];
        let radius = circumradius(on_circle(0.1), on_circle(0.7), on_circle(1.0));
        assert!((radius - 2.0).abs() < 1e-4, "{radius}");
    }

    #[test]
    fn the_course_passes_the_gates_in_their_centers_and_speeds_can_be_driven() {
        let course = Course::new();
        let mut due = GATES.iter();
        let mut gate = due.next();
        for pair in course.points.windows(2) {
            assert!(distance(pair[0], pair[1]) < 1.01 * Course::STEP);
            if let Some(miss) = gate.and_then(|gate| gate.crossed(pair[0], pair[1])) {
                assert!(miss < 0.02, "{miss}");
                gate = due.next();
            }
        }
        assert!(gate.is_none(), "all gates are passed in order");
        for speeds in course.speeds.windows(2) {
            let change = (speeds[1].powi(2) - speeds[0].powi(2)).abs();
            assert!(change < 2.01 * Course::ALONG * Course::STEP);
        }
    }

    #[test]
    fn references_move_along_the_course_and_rest_at_its_end() {
        let course = Course::new();
        let table = course.references(500, 40);
        for rows in table.chunks_exact(6).collect::<Vec<_>>().windows(2) {
            let moved = distance([rows[0][0], rows[0][1], rows[0][2]], [rows[1][0], rows[1][1], rows[1][2]]);
            let speed = norm([rows[1][3], rows[1][4], rows[1][5]]);
            assert!((moved - speed * DT).abs() < 1.5 * Course::STEP, "{moved} m at {speed} m/s");
        }
        let end = course.references(course.points.len() - 1, 3);
        assert_eq!(end[12..], [END[0], END[1], END[2], 0.0, 0.0, 0.0]);
    }
}
