//! Tracks the plans of a slow planner by a fast loop: a quadrotor, seen from the side, flies to a hover in gusts of
//! wind that its model does not have, with a mass that its model does not have either.
//!
//! Plans have time steps of 20 ms, the loop runs every 2 ms, and a new plan is made twice a second. The same flight is
//! flown with the controls of the plans as they are, and with a feedback along them (`Planner::feedback`).
//!
//! `cargo run --release --example tracking` draws `tracking.png` and prints a line; `--help` lists what can be changed.
//! It fails unless the feedback lowers both the deviation from the plans and the cost of the flight.

#[path = "common/arguments.rs"]
mod arguments;
#[path = "common/canvas.rs"]
mod canvas;
#[path = "common/end.rs"]
mod end;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gibbs::control::{Feedback, FeedbackWeights, ShiftFill};
use gibbs::models::PlanarQuadrotor;
use gibbs::{
    Engine, EngineOptions, Limits, Model, Mppi, MppiOptions, Noise, Random, StepContext, Task, Temperature, Weighting,
};
use plotters::prelude::*;

use arguments::Common;
use canvas::{Area, FONT, INK, axes, picture};
use end::say;

#[derive(Parser)]
#[command(about = "Track the plans of a slow planner by a fast loop, with feedback along the plan and without.")]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Time steps of 20 ms from plan to plan, 5 to 50
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u16).range(5..=50))]
    interval: u16,
    /// Rollouts per pass; a plan has ten passes [default: 1024, or 256 with --quick]
    #[arg(long)]
    samples: Option<usize>,
    /// Fewer rollouts, and a shorter flight
    #[arg(long)]
    quick: bool,
}

/// The time steps of the plan and of the loop (in seconds), and their ratio.
const DT: f32 = 0.02;
const FAST_DT: f32 = 0.002;
const FASTER: usize = 10;
/// The horizon of a plan (in time steps).
const HORIZON: usize = 50;
/// How much heavier the quadrotor is than in the model.
const HEAVIER: f32 = 1.05;
/// The mean of the wind, the standard deviations of its gusts (in m/s², m/s² and rad/s²), and how long a gust is (in
/// seconds).
const WIND: f32 = 0.5;
const GUSTS: [f32; 3] = [0.4, 0.2, 4.0];
const GUST_TIME: f32 = 0.2;
/// The intervals between plans that the picture compares (in time steps).
const INTERVALS: [usize; 6] = [1, 5, 10, 15, 20, 25];

/// A flight: distances from the plan (in meters) after every time step, the cost, and how long a feedback took.
struct Flight {
    distances: Vec<f32>,
    cost: f32,
    took: Duration,
}

impl Flight {
    fn rms(&self) -> f32 {
        (self.distances.iter().map(|d| d * d).sum::<f32>() / self.distances.len() as f32).sqrt()
    }
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let engine = arguments.common.engine(EngineOptions::default())?;
    let mut mppi = planner(&engine, arguments)?;
    let steps = if arguments.quick { 150 } else { 300 };
    let mut fly = |interval: usize, tracks: bool| fly(&mut mppi, arguments.common.seed, steps, interval, tracks);
    let interval = arguments.interval.into();
    let (with, without) = (fly(interval, true)?, fly(interval, false)?);
    let mut costs = Vec::new();
    for interval in INTERVALS {
        costs.push([interval as f32 * DT, fly(interval, true)?.cost, fly(interval, false)?.cost]);
    }
    let picture = arguments.common.picture("tracking.png")?;
    draw(&picture, &with, &without, &costs)?;
    say!("drew {}", picture.display())?;
    let [deviation, other_deviation] = [with.rms(), without.rms()].map(|rms| 100.0 * rms);
    ensure!(
        deviation < other_deviation,
        "{deviation:.1} cm from the plan, but {other_deviation:.1} cm without feedback"
    );
    ensure!(with.cost < without.cost, "a cost of {:.2}, but {:.2} without feedback", with.cost, without.cost);
    say!(
        "with feedback {deviation:.1} cm rms from the plan and a cost of {:.2}, without {other_deviation:.1} cm and {:.2}; a \
         feedback took {:.0} µs ({})",
        with.cost,
        without.cost,
        1e6 * with.took.as_secs_f64(),
        engine.name()
    )
}

fn planner(engine: &Engine, arguments: &Arguments) -> Result<Mppi<6, 2, PlanarQuadrotor>> {
    let model = PlanarQuadrotor::default();
    let hover = model.hover();
    let options = MppiOptions {
        task: Task {
            horizon: HORIZON,
            dt: DT,
            limits: Some(Limits { low: [0.0; 2], high: [2.0 * hover; 2] }),
            seed: arguments.common.seed,
            ..Default::default()
        },
        samples: arguments.samples.unwrap_or(if arguments.quick { 256 } else { 1024 }),
        iterations: 10,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.02)),
        noise: Noise::Diagonal([0.3 * hover; 2]),
        shift_fill: ShiftFill::Initial,
        initial: [hover; 2],
        ..Default::default()
    };
    Ok(Mppi::new(engine, model, options)?)
}

/// Flies once, for `steps` time steps, with a new plan after every `interval` of them.
fn fly(
    mppi: &mut Mppi<6, 2, PlanarQuadrotor>,
    seed: u64,
    steps: usize,
    interval: usize,
    tracks: bool,
) -> Result<Flight> {
    mppi.reset();
    let model = *mppi.model();
    let plant = PlanarQuadrotor { mass: HEAVIER * model.mass, inertia: HEAVIER * model.inertia, ..model };
    let mut feedback: Option<Feedback<6, 2>> = None;
    let (mut random, mut gust) = (Random::new(seed), [0.0; 3]);
    let mut x = [-2.0, -1.0, 0.0, 0.0, 0.0, 0.0];
    let (mut distances, mut cost, mut took, mut plans) = (Vec::new(), 0.0, Duration::ZERO, 0);
    for t in 0..steps {
        let since = t % interval;
        if since == 0 {
            mppi.plan(&x).with_context(|| format!("no plan at {:.2} s", t as f32 * DT))?;
            let started = Instant::now();
            match &mut feedback {
                Some(feedback) => mppi.update_feedback(feedback)?,
                None => feedback = Some(mppi.feedback(FeedbackWeights::FromCost { control: [0.05; 2] })?),
            }
            (took, plans) = (took + started.elapsed(), plans + 1);
            mppi.shift(interval);
        }
        let Some(feedback) = &feedback else { continue };
        for i in 0..FASTER {
            let seconds = since as f32 * DT + i as f32 * FAST_DT;
            let thrusts = if tracks { feedback.at(seconds, &x) } else { feedback.controls()[since] };
            x = plant.step(&StepContext::new(0, FAST_DT), x, thrusts);
            cost += FAST_DT * model.cost(&StepContext::new(0, FAST_DT), x, thrusts);
            for (i, gust) in gust.iter_mut().enumerate() {
                let decay = FAST_DT / GUST_TIME;
                *gust += GUSTS[i] * (2.0 * decay).sqrt() * random.normal() - *gust * decay;
                x[3 + i] += FAST_DT * (*gust + if i == 0 { WIND } else { 0.0 });
            }
        }
        let planned = feedback.states()[since + 1];
        distances.push((x[0] - planned[0]).hypot(x[1] - planned[1]));
    }
    Ok(Flight { distances, cost, took: took / plans })
}

const WITH: RGBColor = RGBColor(25, 60, 205);
const WITHOUT: RGBColor = RGBColor(200, 80, 20);

/// Draws the distances of both flights from their plans, and the costs by the interval between plans.
fn draw(path: &Path, with: &Flight, without: &Flight, costs: &[[f32; 3]]) -> Result<()> {
    picture(path, (1200, 760), |root| {
        let areas = root.margin(10, 10, 10, 30).split_evenly((2, 1));
        let distances = [with, without].map(|flight| {
            let times = (1..).map(|t| t as f32 * DT);
            times.zip(flight.distances.iter().map(|distance| 100.0 * distance)).collect()
        });
        panel(&areas[0], "Distance from the plan (cm)", "time (s)", 0, &distances)?;
        let costs = [1, 2].map(|column| costs.iter().map(|row| (row[0], row[column])).collect());
        panel(&areas[1], "Cost of the flight", "time from plan to plan (s)", 4, &costs)
    })
}

/// Draws two lines, with feedback and without, and dots of a `dot` pixels radius at their points.
fn panel(area: &Area<'_>, title: &str, x_title: &str, dot: u32, lines: &[Vec<(f32, f32)>; 2]) -> Result<()> {
    let points = || lines.iter().flatten();
    let (last, most) = points().fold((0.0_f32, 0.0_f32), |(x, y), point| (x.max(point.0), y.max(point.1)));
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 20).into_font().color(&INK))
        .margin_right(30)
        .y_label_area_size(60)
        .x_label_area_size(50)
        .build_cartesian_2d(0.0..last, 0.0..1.1 * most)?;
    axes(&mut chart).x_desc(x_title).x_labels(9).y_labels(6).draw()?;
    for ((line, color), name) in lines.iter().zip([WITH, WITHOUT]).zip(["with feedback", "without"]) {
        chart
            .draw_series(LineSeries::new(line.iter().copied(), color.stroke_width(2)).point_size(dot))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    let style = (FONT, 15).into_font().color(&INK);
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).label_font(style).draw()?;
    Ok(())
}
