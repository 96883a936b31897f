//! Records a closed loop, replays it to the bit, and tunes it offline: a unicycle drives among discs to a goal, and to
//! another one that it is given on the way.
//!
//! A recording is a JSON file: the options of the planner, a snapshot of it at the beginning and one at the end, and of
//! every call its inputs (state and parameters) and what came out. `Snapshot` and the options implement serde; the rest
//! is [`Recording`] below, because which calls a loop makes, and what changes between them, is up to the loop.
//!
//! `cargo run --release --example replay` records into a temporary file, reads it again and
//!
//! - replays it: a planner of the same options is restored from the first snapshot, given the same inputs, and must return
//!   the same numbers, to the bit, and end in the last snapshot;
//! - plans for the recorded states under other σ, λ and horizons, and prints a table. The recorded options are at an
//!   advantage in it, since the states are those that their own controls led to.
//!
//! `--record FILE` does the first part only, `--replay FILE` the other; `--help` lists what can be changed. A replay on
//! another kind of device agrees to rounding only, so that it is compared with the recording but not required to be
//! equal.

#[path = "common/end.rs"]
mod end;

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gibbs::control::{Smoothing, Snapshot};
use gibbs::models::Unicycle;
use gibbs::{
    Backend, Engine, EngineOptions, Limits, Model, ModelParams, Mppi, MppiOptions, Noise, Random, Real, StepContext,
    Task, Temperature, Weighting,
};
use serde::{Deserialize, Serialize};

use end::say;

#[derive(Parser)]
#[command(about = "Record a closed loop, replay it to the bit, and tune it offline.")]
struct Arguments {
    /// auto, gpu, software or cpu [default: auto, or that of the recording]
    #[arg(long)]
    backend: Option<Backend>,
    /// Only record, into this file
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Only replay this file
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Time steps of 0.05 s to record
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(10..))]
    steps: u16,
    /// Seed of the noise and of the disturbance
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Factors on σ to try
    #[arg(long, value_delimiter = ',', default_value = "0.5,2")]
    sigma: Vec<f32>,
    /// Factors on λ to try
    #[arg(long, value_delimiter = ',', default_value = "0.1,10")]
    lambda: Vec<f32>,
    /// Horizons to try, in time steps
    #[arg(long, value_delimiter = ',', default_value = "20,80")]
    horizon: Vec<usize>,
    /// Fewer time steps
    #[arg(long)]
    quick: bool,
}

/// Discs to drive around: center and radius (in meters).
const DISCS: [[f32; 3]; 5] = [[2.0, 0.3, 0.6], [3.6, -0.8, 0.5], [3.8, 1.2, 0.6], [1.6, 2.2, 0.5], [5.2, 2.6, 0.5]];

/// A point to drive to (in meters): the run-time parameters.
#[derive(ModelParams)]
struct Goal<R> {
    x: R,
    y: R,
}

/// The goals: the second replaces the first halfway.
const GOALS: [Goal<f32>; 2] = [Goal { x: 5.5, y: 0.5 }, Goal { x: 0.5, y: 3.5 }];

/// A unicycle that drives to a [`Goal`].
struct Driver(Unicycle);

#[gibbs::model]
impl Model<3, 2> for Driver {
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 3], u: [R; 2]) -> [R; 3] {
        self.0.step(at, x, u)
    }

    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, _]: [R; 3], [v, w]: [R; 2]) -> R {
        let goal: Goal<R> = at.params();
        let mut cost = (x - goal.x).hypot(y - goal.y) + (v.square() + w.square()) * 0.05;
        for [cx, cy, radius] in DISCS {
            // 0 from 0.3 m on, which the robot's own radius is part of.
            cost += (-(x - cx).hypot(y - cy) + (radius + 0.3)).max(0.0) * 50.0;
        }
        cost
    }
}

/// The name of the recorded options in the table.
const RECORDED: &str = "as recorded";

type Planner = Mppi<3, 2, Driver>;

fn options(seed: u64) -> MppiOptions<2> {
    MppiOptions {
        task: Task {
            horizon: 40,
            dt: 0.05,
            limits: Some(Limits { low: [-0.5, -2.0], high: [1.5, 2.0] }),
            rate_limits: Some(Limits { low: [-3.0, -10.0], high: [2.0, 10.0] }),
            delay: 1,
            params: GOALS[0].to_array().to_vec(),
            seed,
            ..Default::default()
        },
        samples: 512,
        noise: Noise::Diagonal([0.6, 1.2]),
        weighting: Weighting::Exponential(Temperature::Fixed(2.0)),
        smoothing: Some(Smoothing { window: 7, order: 2 }),
        ..Default::default()
    }
}

#[derive(Serialize, Deserialize)]
struct Recording {
    backend: Backend,
    options: MppiOptions<2>,
    start: Snapshot<2>,
    frames: Vec<Frame>,
    end: Snapshot<2>,
}

/// One call: its inputs, and what came out.
#[derive(Serialize, Deserialize)]
struct Frame {
    /// Since the beginning (in seconds).
    time: f32,
    state: [f32; 3],
    params: Vec<f32>,
    /// The control that was applied after it.
    control: [f32; 2],
    cost: f32,
    effective_samples: f32,
    /// How long the call took.
    milliseconds: f32,
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    if let Some(file) = &arguments.replay {
        return replay(arguments, file);
    }
    if let Some(file) = &arguments.record {
        let frames = record(arguments, file)?;
        return say!("recorded {frames} calls into {}", file.display());
    }
    let file = std::env::temp_dir().join(format!("gibbs-replay-{}.json", std::process::id()));
    let result = record(arguments, &file).and_then(|_| replay(arguments, &file));
    std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display())).and(result)
}

fn engine(backend: Backend) -> Result<Engine> {
    Ok(Engine::with_options(EngineOptions { backend, ..Default::default() })?)
}

/// Drives, and writes a recording of it. Returns the number of its calls.
fn record(arguments: &Arguments, file: &Path) -> Result<usize> {
    let engine = engine(arguments.backend.unwrap_or_default())?;
    let mut planner = Planner::new(&engine, Driver(Unicycle::default()), options(arguments.seed))?;
    let start = planner.snapshot();
    let steps = if arguments.quick { 60 } else { arguments.steps.into() };
    let (mut x, mut random, mut frames) = ([0.0; 3], Random::new(arguments.seed), Vec::new());
    for step in 0..steps {
        if step == steps / 2 {
            planner.set_params(&GOALS[1].to_array())?;
        }
        let time = step as f32 * planner.options().task.dt;
        let plan = planner.plan(&x).with_context(|| format!("no plan at {time:.2} s"))?;
        let (cost, effective_samples) = (plan.cost(), plan.effective_samples());
        let milliseconds = 1e3 * plan.elapsed().as_secs_f32();
        let on_its_way = planner.last_control();
        let control = planner.advance();
        let params = planner.options().task.params.clone();
        frames.push(Frame { time, state: x, params, control, cost, effective_samples, milliseconds });
        // The control takes effect a time step later, and the ground is slippery.
        x = planner.model().step(&StepContext::new(0, planner.options().task.dt), x, on_its_way);
        x = x.map(|x| x + 0.005 * random.normal());
    }
    let recording = Recording {
        backend: engine.backend(),
        options: options(arguments.seed),
        start,
        frames,
        end: planner.snapshot(),
    };
    let mut out = BufWriter::new(File::create(file).with_context(|| format!("cannot create {}", file.display()))?);
    serde_json::to_writer(&mut out, &recording)?;
    out.flush().with_context(|| format!("cannot write {}", file.display()))?;
    Ok(recording.frames.len())
}

/// Replays a recording, and plans for its states under other options.
fn replay(arguments: &Arguments, file: &Path) -> Result<()> {
    let reader = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let recording: Recording = serde_json::from_reader(BufReader::new(reader))
        .with_context(|| format!("{} is not a recording", file.display()))?;
    ensure!(!recording.frames.is_empty(), "{} has no calls", file.display());
    let engine = engine(arguments.backend.unwrap_or(recording.backend))?;
    let verdict = verify(&engine, &recording)?;

    say!("{:<16} {:>10} {:>10} {:>22} {:>12}", "", "cost", "effective", "rms change per step", "time")?;
    say!("{:<16} {:>10} {:>10} {:>11} {:>10} {:>12}", "", "", "samples", "m/s", "rad/s", "ms")?;
    let tunings = tunings(arguments, &recording.options);
    let mut results = Vec::new();
    for (name, options) in tunings {
        let result = tune(&engine, &recording, options).with_context(|| name.clone())?;
        let Tuning { cost, effective_samples, change: [v, w], milliseconds } = result;
        say!("{name:<16} {cost:>10.2} {effective_samples:>10.1} {v:>11.4} {w:>10.4} {milliseconds:>12.3}")?;
        results.push((name, cost));
    }
    let recorded = results[0].1;
    let (best, cost) = results.iter().min_by(|a, b| a.1.total_cmp(&b.1)).context("no tuning")?;
    let finding = match best.as_str() {
        RECORDED => format!("no plans cost less than those of the recorded options, {recorded:.2}"),
        _ => format!("the plans of \"{best}\" cost least, {cost:.2} instead of {recorded:.2}"),
    };
    let (calls, others) = (recording.frames.len(), results.len() - 1);
    say!("{calls} calls replayed {verdict}; among {others} other tunings, {finding} ({})", engine.name())
}

/// Gives a restored planner the recorded inputs and compares what comes out.
fn verify(engine: &Engine, recording: &Recording) -> Result<&'static str> {
    let mut planner = Planner::new(engine, Driver(Unicycle::default()), recording.options.clone())?;
    planner.restore(&recording.start)?;
    let (mut same, mut most) = (true, 0.0_f32);
    for frame in &recording.frames {
        planner.set_params(&frame.params)?;
        let plan = planner.plan(&frame.state).with_context(|| format!("no plan at {:.2} s", frame.time))?;
        let found = [plan.cost(), plan.effective_samples()];
        let control = planner.advance();
        let found = found.iter().chain(&control);
        for (found, recorded) in found.zip([frame.cost, frame.effective_samples].iter().chain(&frame.control)) {
            same &= found.to_bits() == recorded.to_bits();
        }
        for m in 0..2 {
            most = most.max((control[m] - frame.control[m]).abs());
        }
    }
    same &= planner.snapshot() == recording.end;
    if !same && engine.backend() != recording.backend {
        say!("the recording was made on another device ({}): controls differ by at most {most}", recording.backend)?;
        return Ok("on another device");
    }
    ensure!(same, "the replay differs from the recording, by at most {most} in the controls");
    Ok("to the bit")
}

/// The recorded options first, then others, with their names.
fn tunings(arguments: &Arguments, recorded: &MppiOptions<2>) -> Vec<(String, MppiOptions<2>)> {
    let mut list = vec![(RECORDED.to_owned(), recorded.clone())];
    if let Noise::Diagonal(sigma) = recorded.noise {
        list.extend(arguments.sigma.iter().map(|factor| {
            let noise = Noise::Diagonal(sigma.map(|sigma| factor * sigma));
            (format!("σ × {factor}"), MppiOptions { noise, ..recorded.clone() })
        }));
    }
    if let Weighting::Exponential(Temperature::Fixed(lambda)) = recorded.weighting {
        list.extend(arguments.lambda.iter().map(|factor| {
            let weighting = Temperature::Fixed(factor * lambda).into();
            (format!("λ × {factor}"), MppiOptions { weighting, ..recorded.clone() })
        }));
    }
    list.extend(arguments.horizon.iter().map(|&horizon| {
        let task = Task { horizon, ..recorded.task.clone() };
        (format!("horizon {horizon}"), MppiOptions { task, ..recorded.clone() })
    }));
    list
}

/// How a tuning does on the recorded states, on average.
struct Tuning {
    /// The cost of its plans, as the recorded horizon counts it.
    cost: f32,
    effective_samples: f32,
    /// The rms difference between the controls of successive time steps.
    change: [f32; 2],
    /// The median time of a call.
    milliseconds: f32,
}

/// Plans for the recorded states under other options.
fn tune(engine: &Engine, recording: &Recording, options: MppiOptions<2>) -> Result<Tuning> {
    let mut planner = Planner::new(engine, Driver(Unicycle::default()), options)?;
    // Costs of different horizons are sums of different length, so all plans are judged over the recorded one.
    let mut judge = Planner::new(engine, Driver(Unicycle::default()), recording.options.clone())?;
    let horizon = recording.options.task.horizon;
    let (mut cost, mut effective_samples, mut times, mut controls) = (0.0, 0.0, Vec::new(), Vec::new());
    for frame in &recording.frames {
        planner.set_params(&frame.params)?;
        judge.set_params(&frame.params)?;
        let plan = planner.plan(&frame.state).with_context(|| format!("no plan at {:.2} s", frame.time))?;
        // A shorter plan goes on with its last control.
        let planned: Vec<_> = (0..horizon).map(|t| plan.controls()[t.min(plan.controls().len() - 1)]).collect();
        cost += judge.simulate(&frame.state, &planned)?.1;
        effective_samples += plan.effective_samples();
        times.push(1e3 * plan.elapsed().as_secs_f32());
        controls.push(planner.advance());
    }
    times.sort_by(f32::total_cmp);
    let rms = |m: usize| {
        let squares: f32 = controls.windows(2).map(|pair| (pair[1][m] - pair[0][m]).powi(2)).sum();
        (squares / (controls.len() - 1).max(1) as f32).sqrt()
    };
    let calls = recording.frames.len() as f32;
    Ok(Tuning {
        cost: cost / calls,
        effective_samples: effective_samples / calls,
        change: [rms(0), rms(1)],
        milliseconds: times[times.len() / 2],
    })
}
