//! Plans under uncertainty: boats cross a river between rocks. The current is known to half of its strength only, and
//! gusts push the boats about.
//!
//! Every boat plans in the world that it expects, or in sixteen scenarios that it deems possible, whose costs a risk
//! combines. The worlds that it meets are drawn from the same distributions, with other seeds. All boats of a kind are
//! one fleet, so that each time step is one launch.
//!
//! `cargo run --release --example crossing` draws `crossing.png` and prints a table; `--help` lists what can be
//! changed. It fails unless boats that plan for the worst hit fewer rocks than those that plan for what they expect.

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
use gibbs::prelude::*;
use plotters::prelude::*;

use arguments::Common;
use canvas::{Area, FONT, INK, axes, picture};
use end::say;

#[derive(Parser)]
#[command(about = "Cross a river of uncertain current between rocks, by plans for several risks.")]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Boats of each kind [default: 48, or 8 with --quick]
    #[arg(long)]
    boats: Option<usize>,
    /// Scenarios that a boat plans for
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    scenarios: u16,
    /// Rollouts of a plan, in each scenario
    #[arg(long, default_value_t = 512)]
    samples: usize,
    /// Plan for the same scenarios in every time step
    #[arg(long)]
    fixed: bool,
    /// Fewer boats
    #[arg(long)]
    quick: bool,
}

const DT: f32 = 0.1;
const HORIZON: usize = 25;
/// The time steps of a crossing.
const STEPS: usize = 130;
const START: [f32; 4] = [0.0, 0.0, 0.0, 0.0];
const GOAL: [f32; 2] = [0.0, 10.0];
/// Rocks: x, y and radius (in meters).
const ROCKS: [[f32; 3]; 3] = [[0.4, 3.5, 1.0], [-2.6, 5.6, 0.9], [0.2, 7.3, 0.8]];
/// The current in the middle of the river (in m/s), and the standard deviation of what is not known about it.
const CURRENT: f32 = 0.8;
const CURRENT_STD: f32 = 0.3;
/// The standard deviation of a gust (in m/s²), which lasts for one time step.
const GUST_STD: f32 = 1.4;

/// A boat with position and velocity, pushed by two thrusters and dragged along by the water. Parameter 0 is the
/// current in the middle of the river; references 0 and 1 are a gust.
#[derive(Debug, Clone, Copy)]
struct Boat;

#[gibbs::model]
impl Model<4, 2> for Boat {
    fn step<R: Real>(&self, at: &StepContext<R>, [x, y, vx, vy]: [R; 4], [u, w]: [R; 2]) -> [R; 4] {
        // The current is 0 at both banks.
        let water = at.param(0) * (R::from(1.0) - (y * 0.2 - 1.0).square()).max(R::from(0.0));
        let ax = u + (water - vx) * 0.6 + at.reference(0);
        let ay = w - vy * 0.6 + at.reference(1);
        let (vx, vy) = (vx + ax * at.dt(), vy + ay * at.dt());
        [x + vx * at.dt(), y + vy * at.dt(), vx, vy]
    }
    fn cost<R: Real>(&self, _: &StepContext<R>, [x, y, _, _]: [R; 4], [u, w]: [R; 2]) -> R {
        let mut cost = ((x - GOAL[0]).square() + (y - GOAL[1]).square()).sqrt() + (u.square() + w.square()) * 0.02;
        for [rock_x, rock_y, radius] in ROCKS {
            let is_on_rock = ((x - rock_x).square() + (y - rock_y).square()).lt(radius * radius);
            cost += R::select(is_on_rock, R::from(200.0), R::from(0.0));
        }
        cost
    }
}

fn hits_a_rock([x, y, ..]: [f32; 4]) -> bool {
    ROCKS.iter().any(|[rock_x, rock_y, radius]| (x - rock_x).hypot(y - rock_y) < *radius)
}

/// What boats of a kind plan for.
struct Kind {
    name: &'static str,
    risk: Option<Risk>,
}

const KINDS: [Kind; 5] = [
    Kind { name: "the expected world", risk: None },
    Kind { name: "the mean", risk: Some(Risk::Mean) },
    Kind { name: "the worst quarter", risk: Some(Risk::ConditionalValueAtRisk(0.25)) },
    Kind { name: "an entropic risk", risk: Some(Risk::Entropic(0.02)) },
    Kind { name: "the worst", risk: Some(Risk::Worst) },
];

/// The crossings of all boats of a kind.
struct Crossings {
    paths: Vec<Vec<[f32; 4]>>,
    /// The boats that hit a rock, those that arrived without, and the mean time of these (in seconds).
    hits: usize,
    arrivals: usize,
    mean_time: f32,
    /// How long a launch for all boats took at the median.
    took: Duration,
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let engine = arguments.common.engine(EngineOptions::default())?;
    let boats = arguments.boats.unwrap_or(if arguments.quick { 8 } else { 48 });
    let spread = Spread { params: vec![CURRENT_STD], references: vec![GUST_STD; 2], ..Default::default() };
    let worlds = spread.draw(boats, STEPS, arguments.common.seed.wrapping_add(1))?;
    say!("{boats} boats of each kind, plans of {} rollouts on {}", arguments.samples, engine.name())?;
    say!(
        "{:<20} {:>12} {:>9} {:>14} {:>19}",
        "planned for",
        "hit a rock",
        "arrived",
        "mean time (s)",
        "launch median (ms)"
    )?;
    let mut all = Vec::new();
    for kind in &KINDS {
        let crossings = cross(&engine, arguments, kind.risk, &spread, &worlds)
            .with_context(|| format!("boats that plan for {}", kind.name))?;
        let Crossings { hits, arrivals, mean_time, took, .. } = &crossings;
        let took = 1e3 * took.as_secs_f64();
        say!("{:<20} {hits:>6} of {boats:>2} {arrivals:>9} {mean_time:>14.2} {took:>19.2}", kind.name)?;
        all.push(crossings);
    }
    let picture = arguments.common.picture("crossing.png")?;
    draw(&picture, &all)?;
    say!("drew {}", picture.display())?;
    let [expected, .., worst] = &all[..] else { return Ok(()) };
    ensure!(
        worst.hits < expected.hits,
        "{} boats that planned for the worst hit a rock, and {} of those that did not",
        worst.hits,
        expected.hits
    );
    Ok(())
}

/// Sends one boat through each of the worlds.
fn cross(
    engine: &Engine,
    arguments: &Arguments,
    risk: Option<Risk>,
    spread: &Spread,
    worlds: &[Scenario],
) -> Result<Crossings> {
    let count = if risk.is_some() { arguments.scenarios.into() } else { 0 };
    let scenarios = |t: usize| spread.draw(count, HORIZON, arguments.common.seed ^ (t as u64) << 32);
    let task = Task {
        horizon: HORIZON,
        dt: DT,
        limits: Some(Limits { low: [-1.5; 2], high: [1.5; 2] }),
        params: vec![CURRENT],
        references: Some(References { values: vec![0.0; 2], columns: 2 }),
        scenarios: scenarios(0)?,
        risk: risk.unwrap_or_default(),
        seed: arguments.common.seed,
        ..Default::default()
    };
    let options = MppiOptions { samples: arguments.samples, iterations: 2, ..MppiOptions::new(task) };
    let mut fleet = Fleet::new(engine, Boat, options, worlds.len())?;
    let mut states = vec![START; worlds.len()];
    let mut paths: Vec<_> = states.iter().map(|x| vec![*x]).collect();
    let mut times = Vec::new();
    for t in 0..STEPS {
        // Gusts that never change would bias every plan to the same side.
        if !arguments.fixed {
            fleet.set_scenarios(scenarios(t)?)?;
        }
        let started = Instant::now();
        let plans = fleet.plan(&states)?;
        times.push(started.elapsed());
        let controls: Vec<_> =
            plans.iter().map(|plan| plan.map(|plan| plan.controls()[0])).collect::<Result<_, _>>()?;
        for (i, (x, world)) in states.iter_mut().zip(worlds).enumerate() {
            let gusts = world.references.as_ref().context("a world has gusts")?;
            let params = [CURRENT + world.params[0]];
            let gust = &gusts.values[t * gusts.columns..][..gusts.columns];
            let at = StepContext::new(t, DT).with_params(&params).with_reference(gust);
            *x = Boat.step(&at, *x, controls[i]);
            paths[i].push(*x);
        }
        fleet.shift_all(1);
    }
    times.sort();
    let hit = |path: &&Vec<[f32; 4]>| path.iter().any(|x| hits_a_rock(*x));
    let hits = paths.iter().filter(hit).count();
    let is_there = |x: &[f32; 4]| (x[0] - GOAL[0]).hypot(x[1] - GOAL[1]) < 0.5;
    let arrival = |path: &Vec<[f32; 4]>| path.iter().position(is_there).map(|t| t as f32 * DT);
    let arrivals: Vec<f32> = paths.iter().filter(|path| !hit(path)).filter_map(arrival).collect();
    let mean_time = arrivals.iter().sum::<f32>() / arrivals.len().max(1) as f32;
    Ok(Crossings { hits, arrivals: arrivals.len(), mean_time, took: times[times.len() / 2], paths })
}

/// Draws the paths of all boats, a panel for each kind.
fn draw(path: &Path, all: &[Crossings]) -> Result<()> {
    picture(path, (1500, 560), |root| {
        let areas = root.margin(10, 10, 10, 20).split_evenly((1, all.len()));
        for ((area, crossings), kind) in areas.iter().zip(all).zip(&KINDS) {
            panel(area, &format!("{}: {} hits", kind.name, crossings.hits), &crossings.paths)?;
        }
        Ok(())
    })
}

fn panel(area: &Area<'_>, title: &str, paths: &[Vec<[f32; 4]>]) -> Result<()> {
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 17).into_font().color(&INK))
        .margin_right(10)
        .y_label_area_size(40)
        .x_label_area_size(45)
        .build_cartesian_2d(-3.2f32..3.8, -0.8f32..11.0)?;
    axes(&mut chart).x_desc("x (m)").x_labels(6).y_labels(8).draw()?;
    for [x, y, radius] in ROCKS {
        let rim = (0..48).map(|i| {
            let angle = i as f32 * std::f32::consts::TAU / 48.0;
            ((x + radius * angle.cos()).clamp(-3.2, 3.8), y + radius * angle.sin())
        });
        chart.draw_series([Polygon::new(rim.collect::<Vec<_>>(), INK.mix(0.45).filled())])?;
    }
    for path in paths {
        let hit = path.iter().any(|x| hits_a_rock(*x));
        let color = if hit { RGBColor(200, 50, 20) } else { RGBColor(25, 60, 205) };
        chart.draw_series(LineSeries::new(path.iter().map(|x| (x[0], x[1])), color.mix(0.55)))?;
    }
    chart.draw_series([Circle::new((GOAL[0], GOAL[1]), 5, RGBColor(20, 130, 60).filled())])?;
    Ok(())
}
