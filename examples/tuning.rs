//! What the numbers of a planner do: a robot passes two pylons, with one number changed at a time.
//!
//! `cargo run --release --example tuning` draws the pictures of docs/tuning.md, and prints a line for each:
//!
//! - `tuning_noise.png`: rows of white noise and rows with knots, and what is left of them in the plan;
//! - `tuning_temperature.png`: the rows that count at three temperatures, and the effective sample size and the cost of a
//!   drive over the temperature;
//! - `tuning_sweeps.png`: the cost of a drive, and the changes of its command, over σ and over the horizon.
//!
//! `--help` lists what can be changed. It fails if the robot hits a pylon with the settings that the guide recommends.

#[path = "common/canvas.rs"]
mod canvas;
#[path = "common/end.rs"]
mod end;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gibbs::models::Unicycle;
use gibbs::{
    Backend, Cost, Engine, EngineOptions, Limits, Model, Mppi, MppiOptions, Noise, NoiseShape, Real, StepContext, Task,
    Temperature, Weighting, WithCost,
};
use plotters::prelude::*;

use canvas::{Area, FONT, INK, Plane, axes, picture};
use end::say;

#[derive(Parser)]
#[command(about = "Show what σ, the shape of the noise, the horizon and the temperature do to plans and drives.")]
struct Arguments {
    /// auto, gpu, software or cpu
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Folder for the pictures, made if it is not there
    #[arg(long, default_value = "target/pictures")]
    out: PathBuf,
    /// Fewer drives
    #[arg(long)]
    quick: bool,
}

/// The time step (in seconds), the horizon (in time steps) and the number of rows, where they are not varied.
const DT: f32 = 0.05;
const HORIZON: usize = 40;
const SAMPLES: usize = 512;
/// The standard deviations of speed (in m/s) and turn rate (in rad/s), where they are not varied.
const SIGMA: [f32; 2] = [0.3, 0.8];
/// The largest speed (in m/s) and turn rate (in rad/s).
const SPEED: f32 = 1.2;
const TURN: f32 = 3.0;
/// The pylons (in meters), and the radius of pylon and robot together.
const PYLONS: [[f32; 2]; 2] = [[1.3, -0.1], [2.6, 0.1]];
const RADIUS: f32 = 0.3;
/// A drive ends here (in meters), or after so many time steps.
const END: f32 = 3.9;
const LONGEST: usize = 160;

/// Drive along y = 0 at 1 m/s, past the pylons.
#[derive(Debug, Clone, Copy)]
struct Course;

impl Course {
    /// The distance to the nearest pylon's center.
    #[inline(always)]
    fn away<R: Real>(x: R, y: R) -> R {
        let [a, b] = PYLONS.map(|[px, py]| ((x - px).square() + (y - py).square()).sqrt());
        a.min(b)
    }
}

impl Cost<3, 2> for Course {
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, heading]: [R; 3], [speed, turn]: [R; 2]) -> R {
        let forward = heading.sin_cos().1 * speed;
        let away = Self::away(x, y);
        let close = (-away + (RADIUS + 0.1)).max(0.0);
        let crash = R::select(away.lt(RADIUS), 20.0, 0.0);
        let drive = (forward - 1.0).square() * 2.0 + y.square() * 6.0 + turn.square() * 0.01;
        (drive + close.square() * 100.0 + crash) * at.dt()
    }
}

type Robot = WithCost<Unicycle, Course>;
type Planner = Mppi<3, 2, Robot>;

const START: [f32; 3] = [0.0; 3];

/// The numbers that are varied.
#[derive(Debug, Clone, Copy)]
struct Setting {
    knots: bool,
    /// The factor on [`SIGMA`].
    sigma: f32,
    horizon: usize,
    temperature: Temperature,
}

/// What docs/tuning.md recommends.
const RECOMMENDED: Setting =
    Setting { knots: true, sigma: 1.0, horizon: HORIZON, temperature: Temperature::EffectiveSamples(0.05) };

impl Setting {
    fn planner(self, engine: &Engine, seed: u64) -> Result<Planner> {
        let limits = Some(Limits { low: [0.0, -TURN], high: [SPEED, TURN] });
        let task = Task { horizon: self.horizon, dt: DT, limits, seed, ..Default::default() };
        let recommended = MppiOptions::new(task);
        let options = MppiOptions {
            samples: SAMPLES,
            noise: Noise::Diagonal(SIGMA.map(|sigma| sigma * self.sigma)),
            weighting: Weighting::Exponential(self.temperature),
            noise_shape: if self.knots { recommended.noise_shape } else { NoiseShape::White },
            ..recommended
        };
        Ok(Mppi::new(engine, Unicycle::default().with_cost(Course), options)?)
    }
}

/// What a drive costs (per second), how much its turn rate changes from one time step to the next (root mean square, in
/// rad/s), and how near it comes to a pylon's center (in meters).
#[derive(Debug, Clone, Copy)]
struct Drive {
    cost: f32,
    change: f32,
    nearest: f32,
}

fn drive(engine: &Engine, setting: Setting, seed: u64) -> Result<Drive> {
    let mut mppi = setting.planner(engine, seed)?;
    let (mut x, mut before, mut steps) = (START, 0.0, 0);
    let mut drive = Drive { cost: 0.0, change: 0.0, nearest: f32::INFINITY };
    while x[0] < END && steps < LONGEST {
        mppi.plan(&x)?;
        let u = mppi.advance();
        let at = StepContext::new(0, DT);
        x = mppi.model().step(&at, x, u);
        drive.cost += mppi.model().cost(&at, x, u);
        drive.change += (u[1] - before).powi(2);
        drive.nearest = drive.nearest.min(Course::away(x[0], x[1]));
        (before, steps) = (u[1], steps + 1);
    }
    (drive.cost, drive.change) = (drive.cost / (steps as f32 * DT), (drive.change / steps as f32).sqrt());
    Ok(drive)
}

/// The drive of median cost.
fn typical(engine: &Engine, setting: Setting, seeds: u64) -> Result<Drive> {
    let mut all = (0..seeds).map(|seed| drive(engine, setting, seed)).collect::<Result<Vec<_>>>()?;
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    Ok(all[all.len() / 2])
}

/// A plan before the first pylon, and the rows that it was made of.
struct Moment {
    path: Vec<[f32; 3]>,
    turns: Vec<f32>,
    /// The weight of each row as a fraction of the largest, its states and its turn rates.
    rows: Vec<(f32, Vec<[f32; 3]>, Vec<f32>)>,
    effective: f32,
    temperature: f32,
}

/// Plans `calls` times from the same state, and returns the last plan with some of its rows.
fn moment(engine: &Engine, setting: Setting, calls: usize) -> Result<Moment> {
    const ROWS: usize = 28;
    let mut mppi = setting.planner(engine, 3)?;
    mppi.set_controls(&vec![[1.0, 0.0]; setting.horizon])?;
    let from = [0.45, 0.05, 0.0];
    for _ in 1..calls {
        mppi.plan(&from)?;
    }
    let plan = mppi.plan(&from)?.clone();
    let turns_of = |controls: &[[f32; 2]]| controls.iter().map(|u| u[1]).collect::<Vec<_>>();
    let samples = mppi.samples()?;
    let weights = samples.weights();
    let most = weights.iter().copied().fold(0.0, f32::max);
    let row = |k: usize| (weights[k] / most, samples.states(k), turns_of(&samples.controls(k)));
    // The heaviest rows are drawn last, above the others.
    let mut rows: Vec<_> = (0..samples.len()).step_by(samples.len() / ROWS).map(row).collect();
    let mut by_weight: Vec<usize> = (0..samples.len()).collect();
    by_weight.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
    rows.extend(by_weight[..8].iter().map(|k| row(*k)));
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(Moment {
        path: plan.states().to_vec(),
        turns: turns_of(plan.controls()),
        rows,
        effective: plan.effective_samples(),
        temperature: plan.temperature(),
    })
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    // Most settings here are bad ones, and each would be warned of.
    log::set_max_level(log::LevelFilter::Error);
    let engine = Engine::with_options(EngineOptions { backend: arguments.backend, ..Default::default() })?;
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let file = |name: &str| arguments.out.join(name);
    let seeds = if arguments.quick { 2 } else { 9 };
    // Every n-th point of a sweep.
    let thin = if arguments.quick { 4 } else { 1 };

    let white = Setting { knots: false, ..RECOMMENDED };
    let noise = [white, RECOMMENDED].map(|setting| moment(&engine, setting, 20));
    let [first, second] = noise;
    let (path, moments) = (file("tuning_noise.png"), [first?, second?]);
    draw_noise(&path, &moments)?;
    let change = |turns: &[f32]| (turns.windows(2).map(|u| (u[1] - u[0]).powi(2)).sum::<f32>() / 39.0).sqrt();
    let [a, b] = [0, 1].map(|i| change(&moments[i].turns));
    say!(
        "drew {}: turn rates of a plan change by {a:.2} rad/s per step with white noise, {b:.2} with knots",
        path.display()
    )?;

    let exponents: Vec<f32> = (-16..=8).step_by(thin).map(|i| 0.25 * i as f32).collect();
    let mut sweep = Vec::new();
    for exponent in exponents {
        let setting = Setting { temperature: Temperature::Fixed(10.0_f32.powf(exponent)), ..RECOMMENDED };
        sweep.push((exponent, moment(&engine, setting, 20)?.effective, typical(&engine, setting, seeds)?.cost));
    }
    let [cold, hot] = [0.001, 30.0].map(|lambda| Setting { temperature: Temperature::Fixed(lambda), ..RECOMMENDED });
    let three = [moment(&engine, cold, 20)?, moment(&engine, RECOMMENDED, 20)?, moment(&engine, hot, 20)?];
    let path = file("tuning_temperature.png");
    draw_temperature(&path, &three, &sweep)?;
    say!("drew {}: 5 % effective samples find λ = {:.3}", path.display(), three[1].temperature)?;

    let sigmas: Vec<f32> = (-8..=4).step_by(thin).map(|i| 2.0_f32.powf(0.5 * i as f32)).collect();
    let horizons: Vec<usize> = [2, 3, 4, 5, 6, 8, 10, 14, 20, 28, 40, 56, 80].into_iter().step_by(thin).collect();
    let mut lines = [(); 4].map(|()| Vec::new());
    for (i, knots) in [false, true].into_iter().enumerate() {
        for sigma in &sigmas {
            let setting = Setting { knots, sigma: *sigma, ..RECOMMENDED };
            lines[i].push((sigma * SIGMA[1], typical(&engine, setting, seeds)?));
        }
        for horizon in &horizons {
            let setting = Setting { knots, horizon: *horizon, ..RECOMMENDED };
            lines[2 + i].push((*horizon as f32 * DT, typical(&engine, setting, seeds)?));
        }
    }
    let path = file("tuning_sweeps.png");
    draw_sweeps(&path, &lines)?;
    let driven = typical(&engine, RECOMMENDED, seeds)?;
    ensure!(driven.nearest > RADIUS, "the robot hit a pylon with the recommended settings: {driven:?}");
    say!(
        "drew {}: with the recommended settings {:.2} per second, {:.3} rad/s per step ({})",
        path.display(),
        driven.cost,
        driven.change,
        engine.name()
    )
}

const PLAN: RGBColor = RGBColor(25, 60, 205);
const ROW: RGBColor = RGBColor(120, 124, 132);
const HEAVY: RGBColor = RGBColor(230, 120, 20);
const WHITE_LINE: RGBColor = RGBColor(200, 80, 20);
const PYLON: RGBColor = RGBColor(70, 75, 85);

/// The color of a row by its weight.
fn shade(weight: f32) -> RGBAColor {
    let mix = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * weight) as u8;
    RGBColor(mix(ROW.0, HEAVY.0), mix(ROW.1, HEAVY.1), mix(ROW.2, HEAVY.2)).mix(0.35 + 0.6 * f64::from(weight))
}

fn draw_noise(path: &Path, [white, knots]: &[Moment; 2]) -> Result<()> {
    picture(path, (920, 560), |root| {
        let areas = root.margin(8, 8, 8, 24).split_evenly((2, 2));
        for (i, (moment, name)) in [(white, "White noise"), (knots, "Knots")].into_iter().enumerate() {
            draw_fan(&areas[2 * i], &format!("{name}: rows and plan"), moment)?;
            let mut chart = ChartBuilder::on(&areas[2 * i + 1])
                .caption(format!("{name}: turn rate (rad/s)"), (FONT, 18).into_font().color(&INK))
                .margin_top(8)
                .margin_right(24)
                .y_label_area_size(56)
                .x_label_area_size(44)
                .build_cartesian_2d(0.0..HORIZON as f32 * DT, -TURN..TURN)?;
            axes(&mut chart).x_desc("time (s)").x_labels(5).y_labels(7).draw()?;
            let over_time =
                |turns: &[f32]| turns.iter().enumerate().map(|(t, u)| (t as f32 * DT, *u)).collect::<Vec<_>>();
            for (weight, _, turns) in moment.rows.iter().rev().step_by(5).rev() {
                chart.draw_series(LineSeries::new(over_time(turns), shade(*weight)))?;
            }
            chart.draw_series(LineSeries::new(over_time(&moment.turns), PLAN.stroke_width(3)))?;
        }
        Ok(())
    })
}

/// The range of x in a picture of a plan (in meters).
const FROM: f32 = 0.3;
const TO: f32 = 3.0;

/// Draws the paths of rows, colored by weight, and that of the plan.
fn draw_fan(area: &Area<'_>, title: &str, moment: &Moment) -> Result<()> {
    // One scale for both axes, so that pylons are round: the room besides labels, margins and caption.
    let (width, height) = area.dim_in_pixel();
    let half = 0.5 * (TO - FROM) * (height as f32 - 78.0) / (width as f32 - 80.0);
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 18).into_font().color(&INK))
        .margin_top(8)
        .margin_right(24)
        .y_label_area_size(56)
        .x_label_area_size(44)
        .build_cartesian_2d(FROM..TO, -half..half)?;
    axes(&mut chart).x_desc("x (m)").y_desc("y (m)").x_labels(6).y_labels(5).draw()?;
    for [x, y] in PYLONS {
        let rim = (0..48).map(|i| (i as f32 * std::f32::consts::TAU / 48.0).sin_cos());
        let disc: Vec<_> = rim.map(|(s, c)| (x + RADIUS * c, y + RADIUS * s)).collect();
        chart.draw_series([Polygon::new(disc, PYLON.mix(0.35))])?;
    }
    let in_plane = |states: &[[f32; 3]]| states.iter().map(|[x, y, _]| (*x, *y)).collect::<Vec<_>>();
    for (weight, states, _) in &moment.rows {
        chart.draw_series(LineSeries::new(in_plane(states), shade(*weight)))?;
    }
    chart.draw_series(LineSeries::new(in_plane(&moment.path), PLAN.stroke_width(3)))?;
    Ok(())
}

/// Three fans above; below the effective sample size and the cost of a drive, over the temperature.
fn draw_temperature(path: &Path, moments: &[Moment; 3], sweep: &[(f32, f32, f32)]) -> Result<()> {
    picture(path, (1100, 580), |root| {
        let (above, below) = root.margin(8, 8, 8, 24).split_vertically(270);
        for (area, moment) in above.split_evenly((1, 3)).iter().zip(moments) {
            let title = format!("λ = {:.2}: {:.0} of {SAMPLES} rows count", moment.temperature, moment.effective);
            draw_fan(area, &title.replace("λ = 0.00:", "λ = 0.001:"), moment)?;
        }
        let below = below.split_evenly((1, 2));
        let chosen = moments[1].temperature.log10();
        let effective: Vec<_> = sweep.iter().map(|(x, effective, _)| (*x, *effective)).collect();
        let mut chart = over_lambda(&below[0], "Effective samples", sweep, SAMPLES as f32)?;
        chart.draw_series(LineSeries::new([(chosen, 0.0), (chosen, SAMPLES as f32)], HEAVY.stroke_width(2)))?;
        draw_line(&mut chart, &effective, PLAN, None)?;
        let most = sweep.iter().map(|(_, _, cost)| *cost).fold(0.0, f32::max);
        let mut chart = over_lambda(&below[1], "Cost of a drive, per second", sweep, most)?;
        chart.draw_series(LineSeries::new([(chosen, 0.0), (chosen, 1.1 * most)], HEAVY.stroke_width(2)))?;
        let points: Vec<_> = sweep.iter().map(|(x, _, cost)| (*x, *cost)).collect();
        draw_line(&mut chart, &points, PLAN, None)
    })
}

/// A panel over the temperature, on a logarithmic axis.
fn over_lambda<'a, 'b>(area: &'a Area<'b>, title: &str, sweep: &[(f32, f32, f32)], most: f32) -> Result<Plane<'a, 'b>> {
    let (first, last) = (sweep[0].0, sweep[sweep.len() - 1].0);
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 18).into_font().color(&INK))
        .margin_top(8)
        .margin_right(24)
        .y_label_area_size(56)
        .x_label_area_size(48)
        .build_cartesian_2d(first..last, 0.0..1.1 * most)?;
    axes(&mut chart)
        .x_desc("λ (orange: as found for 5 % effective samples)")
        .x_labels(7)
        .x_label_formatter(&|exponent| format!("{}", 10.0_f32.powf(*exponent)))
        .y_labels(6)
        .draw()?;
    Ok(chart)
}

/// Draws points with a line between them.
fn draw_line(chart: &mut Plane<'_, '_>, points: &[(f32, f32)], color: RGBColor, name: Option<&str>) -> Result<()> {
    let line = LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3);
    let series = chart.draw_series(line)?;
    if let Some(name) = name {
        series.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    Ok(())
}

/// Costs above, changes of the command below; over σ on the left, over the horizon on the right.
fn draw_sweeps(path: &Path, lines: &[Vec<(f32, Drive)>; 4]) -> Result<()> {
    picture(path, (1000, 680), |root| {
        let areas = root.margin(8, 8, 8, 24).split_evenly((2, 2));
        for (i, area) in areas.iter().enumerate() {
            let (row, column) = (i / 2, i % 2);
            let title = ["Cost of a drive, per second", "Change of the turn rate (rad/s per step)"][row];
            let value = |drive: &Drive| if row == 0 { drive.cost } else { drive.change };
            let lines = &lines[2 * column..][..2];
            let points = || lines.iter().flatten();
            let most = points().map(|(_, drive)| value(drive)).fold(0.0, f32::max);
            let (least, last) = points().fold((f32::INFINITY, 0.0_f32), |(a, b), (x, _)| (a.min(*x), b.max(*x)));
            let mut chart = ChartBuilder::on(area)
                .caption(title, (FONT, 18).into_font().color(&INK))
                .margin_top(8)
                .margin_right(24)
                .y_label_area_size(60)
                .x_label_area_size(48)
                .build_cartesian_2d(least.log2() - 0.2..last.log2() + 0.2, 0.0..1.1 * most)?;
            let unit = ["σ of the turn rate (rad/s)", "horizon (s)"][column];
            axes(&mut chart)
                .x_desc(unit)
                .x_labels(7)
                .x_label_formatter(&|exponent| format!("{:.2}", 2.0_f32.powf(*exponent)))
                .y_labels(6)
                .draw()?;
            for (line, (color, name)) in lines.iter().zip([(WHITE_LINE, "white noise"), (PLAN, "knots")]) {
                let points: Vec<_> = line.iter().map(|(x, drive)| (x.log2(), value(drive))).collect();
                draw_line(&mut chart, &points, color, Some(name))?;
            }
            let style = (FONT, 15).into_font().color(&INK);
            let place = if i == 0 { SeriesLabelPosition::UpperRight } else { SeriesLabelPosition::UpperMiddle };
            chart.configure_series_labels().position(place).label_font(style).draw()?;
        }
        Ok(())
    })
}
