//! Plans the published 2-D car around its U-shaped wall by five methods, and draws how the noise is annealed.
//!
//! The car starts inside the U, heading for its open side, and its reward is flat until it is within 0.2 m of the goal
//! behind the wall, so that no method succeeds on the reward alone. Variant (a) adds a demonstration, read from a CSV
//! of positions, as published; variant (b) adds a cost of our own, the length of the shortest remaining way, and needs
//! no demonstration.
//!
//! `cargo run --release --example car2d` prints a table of seeds × methods for each, all with the same number of
//! rollouts, and writes `car2d.png`; `--help` lists what can be changed. It fails unless model-based diffusion gets a
//! mean reward of more than 0.25 by (a) and of more than 0.5 by (b), and nothing without either.

#[path = "../common/canvas.rs"]
mod canvas;
mod car;
mod demonstration;
mod draw;
#[path = "../common/end.rs"]
mod end;
mod way;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use gibbs::control::CostNormalization;
use gibbs::sampling::{ReverseProcess, Sampler, Schedule};
use gibbs::{
    Backend, DiffusionOptions, DiffusionPlanner, Engine, EngineOptions, Grid, Limits, Mppi, MppiOptions, Noise,
    References, Temperature, Weighting,
};

use car::{Car, DT, HORIZON, START, reward};
use end::say;

#[derive(Parser)]
#[command(about = "Plan the published 2-D car around its U-shaped wall by five methods.")]
struct Arguments {
    /// auto, gpu, software or cpu
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Runs of each method [default: 8, or 2 with --quick]
    #[arg(long)]
    seeds: Option<u64>,
    /// Rollouts per level, or per update
    #[arg(long, default_value_t = 2048)]
    samples: usize,
    /// Levels, or updates
    #[arg(long, default_value_t = 100)]
    levels: usize,
    /// The demonstration: a CSV with the columns x and y, one row for each of the 50 steps [default: one that comes
    /// with it]
    #[arg(long)]
    demo: Option<PathBuf>,
    /// Write such a CSV: the plan of (b) with four fifths of the controls
    #[arg(long)]
    save_demo: Option<PathBuf>,
    /// Folder for the picture, made if it is not there
    #[arg(long, default_value = "target/pictures")]
    out: PathBuf,
    /// Fewer seeds
    #[arg(long)]
    quick: bool,
}

/// The demonstration that comes with the example, written by --save-demo.
const DEMO: &str = include_str!("demo.csv");

/// The methods, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Mppi,
    Cem,
    Mbd,
    Ddpm,
    Ddim,
}

const METHODS: [(Method, &str); 5] = [
    (Method::Mppi, "MPPI"),
    (Method::Cem, "CEM"),
    (Method::Mbd, "MBD"),
    (Method::Ddpm, "DDPM"),
    (Method::Ddim, "DDIM"),
];

/// The guidance that the car gets besides its reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// The reward only.
    Plain,
    /// (a)
    Demonstrated,
    /// (b)
    Shaped,
    /// As (b), with a fifth of the controls in reserve, so that a plan that follows the result has room to correct.
    Gentle,
}

/// The settings of a run besides task, method and seed.
struct Setting {
    engine: Engine,
    way: Grid,
    demo: Vec<[f32; 2]>,
    samples: usize,
    levels: usize,
}

/// One plan: the states along it, those of intermediate plans if requested, and the computation time.
struct Run {
    states: Vec<[f32; 3]>,
    annealing: Vec<Vec<[f32; 3]>>,
    took: Duration,
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let engine = Engine::with_options(EngineOptions { backend: arguments.backend, ..Default::default() })?;
    let demo = match &arguments.demo {
        None => demonstration::parse(DEMO).context("the demonstration that comes with it")?,
        Some(path) => demonstration::read(path)?,
    };
    let setting = Setting { engine, way: way::field()?, demo, samples: arguments.samples, levels: arguments.levels };
    let seeds = arguments.seeds.unwrap_or(if arguments.quick { 2 } else { 8 });
    ensure!(seeds > 0, "--seeds must be at least 1");

    say!("{} rollouts × {} updates on {}", setting.samples, setting.levels, setting.engine.name())?;
    say!("the demonstration has a mean reward of {:.2}", demonstration::worth(&setting.demo))?;
    let plain = setting.table("without help: the reward alone", Task::Plain, 1)?;
    let shown =
        setting.table("(a) with a demonstration, as published (MPPI and CEM do without)", Task::Demonstrated, seeds)?;
    let shaped = setting.table("(b) the way that is left as a cost, no demonstration", Task::Shaped, seeds)?;
    say!(
        "DDPM and DDIM go from level to level at the pace of the noise, which adds up to about ln(σ_L/σ_1) full steps;\n\
         score ascent (MBD) makes a full step at each of the {} levels.",
        setting.levels
    )?;

    std::fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let picture = arguments.out.join("car2d.png");
    let plan = |task| setting.plan(task, Method::Mbd, 0, true);
    draw::anneal(&picture, &setting.demo, &plan(Task::Demonstrated)?, &plan(Task::Shaped)?)?;
    say!("drew {}", picture.display())?;
    if let Some(path) = &arguments.save_demo {
        save(path, &setting.plan(Task::Gentle, Method::Mbd, 0, false)?.states)?;
        say!("wrote {}", path.display())?;
    }

    let [mean_shown, mean_shaped] = [shown.mean(Method::Mbd), shaped.mean(Method::Mbd)];
    say!("MBD: mean reward {mean_shown:.2} with a demonstration, {mean_shaped:.2} with a shaped cost")?;
    if plain.mean(Method::Mbd) > 0.01 {
        bail!("the task is too easy: without help it should be out of reach");
    }
    if mean_shown < 0.25 || mean_shaped < 0.5 {
        bail!("less than 0.25 with a demonstration, or less than 0.5 with a shaped cost");
    }
    Ok(())
}

impl Setting {
    /// One plan from a standing start: `levels` updates of `samples` rollouts.
    fn plan(&self, task: Task, method: Method, seed: u64, watched: bool) -> Result<Run> {
        let by_way = matches!(task, Task::Shaped | Task::Gentle);
        let car = Car { way: if by_way { 1.0 } else { 0.0 } };
        let most = if task == Task::Gentle { 0.8 } else { 1.0 };
        let limits = Some(Limits { low: [-most; 2], high: [most; 2] });
        let references = Some(References { values: self.demo.as_flattened().to_vec(), columns: 2 });
        let fields = vec![self.way.clone()];
        // The published temperature, except for the shaped cost, whose differences near the goal are much smaller than
        // far away.
        let temperature = match task {
            _ if by_way => Temperature::EffectiveSamples(0.02),
            _ => Temperature::Standardized(0.1),
        };
        let schedule = match task {
            _ if by_way => Schedule::Geometric { levels: self.levels, smallest: 0.02, largest: 1.0 },
            _ => Schedule::Linear { levels: self.levels, first: 1e-4, last: 1e-2 },
        };
        let sampler = match method {
            Method::Mppi | Method::Cem => {
                let cem = method == Method::Cem;
                let options = MppiOptions {
                    task: gibbs::Task {
                        horizon: HORIZON,
                        dt: DT,
                        limits,
                        references,
                        fields,
                        seed,
                        ..Default::default()
                    },
                    samples: self.samples,
                    iterations: self.levels,
                    weighting: if cem { Weighting::Elite(0.05) } else { temperature.into() },
                    noise: Noise::Diagonal([if cem { 0.8 } else { 0.3 }; 2]),
                    covariance_adaptation: cem.then_some(0.1),
                    cost_normalization: CostNormalization::HorizonAverage,
                    ..Default::default()
                };
                let mut planner = Mppi::new(&self.engine, car, options)?;
                let clock = Instant::now();
                let states = planner.plan(&START)?.states().to_vec();
                return Ok(Run { states, annealing: Vec::new(), took: clock.elapsed() });
            }
            Method::Mbd => Sampler::ScoreAscent,
            Method::Ddpm => Sampler::Ddpm,
            Method::Ddim => Sampler::Ddim { eta: 0.0 },
        };
        let options = DiffusionOptions {
            task: gibbs::Task { horizon: HORIZON, dt: DT, limits, references, fields, seed, ..Default::default() },
            samples: self.samples,
            process: ReverseProcess { schedule, sampler, ..Default::default() },
            weighting: temperature.into(),
            demonstration: (task == Task::Demonstrated).then(|| -demonstration::worth(&self.demo)),
            ..Default::default()
        };
        let mut planner = DiffusionPlanner::new(&self.engine, car, options)?;
        let clock = Instant::now();
        let states = planner.plan(&START)?.states().to_vec();
        let took = clock.elapsed();
        let mut annealing = Vec::new();
        for updates in (0..if watched { 8 } else { 0 }).map(|i| 1 + i * (self.levels - 1) / 7) {
            planner.reset();
            annealing.push(planner.plan_first(&START, updates)?.states().to_vec());
        }
        Ok(Run { states, annealing, took })
    }

    /// Runs every method on every seed and prints a row for each seed.
    fn table(&self, title: &str, task: Task, seeds: u64) -> Result<Table> {
        say!("\n{title}")?;
        say!("seed{}", METHODS.map(|(_, name)| format!("{name:>9}")).concat())?;
        let mut table = Table { rewards: Vec::new() };
        let mut took = [Duration::ZERO; METHODS.len()];
        for seed in 0..seeds {
            let mut row = [0.0; METHODS.len()];
            for (i, (method, _)) in METHODS.into_iter().enumerate() {
                let run = self.plan(task, method, seed, false)?;
                row[i] = reward(&run.states);
                took[i] += run.took;
            }
            say!("{seed:>4}{}", row.map(|reward| format!("{reward:>9.2}")).concat())?;
            table.rewards.push(row);
        }
        say!("mean{}", METHODS.map(|(method, _)| format!("{:>9.2}", table.mean(method))).concat())?;
        let each = took.map(|took| format!("{:>9.0}", 1e3 * took.as_secs_f64() / seeds as f64));
        say!("  ms{}", each.concat())?;
        Ok(table)
    }
}

/// The rewards of every seed and method.
struct Table {
    rewards: Vec<[f32; METHODS.len()]>,
}

impl Table {
    fn mean(&self, method: Method) -> f32 {
        self.rewards.iter().map(|row| row[method as usize]).sum::<f32>() / self.rewards.len() as f32
    }
}

fn save(path: &Path, states: &[[f32; 3]]) -> Result<()> {
    let rows: String = states[1..].iter().map(|[x, y, _]| format!("{x:.4},{y:.4}\n")).collect();
    std::fs::write(path, format!("x,y\n{rows}")).with_context(|| format!("cannot write {}", path.display()))
}
