//! The measuring half of `benches/peers` for the 2-D car: one plan by model-based diffusion, timed, as one line of CSV.
//!
//! `cargo run --release --example peer_car2d -- --demo examples/car2d/demo.csv`
//!
//! With `--dump DIR` it also writes what a peer needs to check that it computes the same: the control rows of the level that
//! stands halfway (`rows.f32`, K × T × 2 little-endian numbers), the mean of their costs per step (`costs.f32`, K), their
//! weights (`weights.f32`, K) and the mean that followed (`mean.f32`, T × 2).

#[path = "car2d/car.rs"]
mod car;
#[path = "car2d/demonstration.rs"]
mod demonstration;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use gibbs::{
    Backend, DiffusionOptions, DiffusionPlanner, Engine, EngineOptions, Limits, Process, References, Schedule,
    Temperature,
};

use car::{Car, DT, HORIZON, START, reward};

#[derive(Parser)]
#[command(about = "Times plans of the 2-D car: backend,threads,K,levels,median_ms,min_ms,mean_reward")]
struct Arguments {
    /// auto, gpu, software or cpu
    #[arg(long, default_value = "cpu")]
    backend: Backend,
    /// Rollouts per level, K
    #[arg(long, default_value_t = 2048)]
    samples: usize,
    /// Levels
    #[arg(long, default_value_t = 100)]
    levels: usize,
    /// Plans that are timed, each with a seed of its own
    #[arg(long, default_value_t = 20)]
    runs: u64,
    /// A demonstration: a CSV with the columns x and y, one row for each of the 50 steps
    #[arg(long)]
    demo: Option<PathBuf>,
    /// Write the rows, the costs, the weights and the mean of one level there
    #[arg(long)]
    dump: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let engine = Engine::with(EngineOptions { backend: arguments.backend, ..Default::default() })?;
    let demo = arguments.demo.as_deref().map(demonstration::read).transpose()?;
    // What the demonstration is worth where a row is nearest to it: its own mean cost.
    let demonstrated = demo.as_deref().map(|demo| -demonstration::worth(demo));
    // The model has a departure even where it does not count.
    let values = demo.unwrap_or_else(|| vec![[0.0; 2]]).into_flattened();
    let options = DiffusionOptions {
        horizon: HORIZON,
        samples: arguments.samples,
        dt: DT,
        process: Process {
            schedule: Schedule::Linear { levels: arguments.levels, first: 1e-4, last: 1e-2 },
            ..Default::default()
        },
        temperature: Temperature::Standardised(0.1),
        demonstration: demonstrated,
        limits: Some(Limits { low: [-1.0; 2], high: [1.0; 2] }),
        references: Some(References { values, columns: 2 }),
        ..Default::default()
    };
    let mut planner = DiffusionPlanner::new(&engine, Car::default(), options)?;
    if let Some(folder) = &arguments.dump {
        planner.plan_first(&START, arguments.levels.div_ceil(2))?;
        let samples = planner.samples()?;
        let rows: Vec<f32> = (0..samples.len()).flat_map(|k| samples.controls(k)).flatten().collect();
        let costs: Vec<f32> = (0..samples.len()).map(|k| samples.cost(k) / HORIZON as f32).collect();
        let weights = samples.weights();
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        write(&folder.join("rows.f32"), &rows)?;
        write(&folder.join("costs.f32"), &costs)?;
        write(&folder.join("weights.f32"), &weights)?;
        write(&folder.join("mean.f32"), planner.controls().as_flattened())?;
    }
    for _ in 0..3 {
        planner.reset();
        planner.plan(&START)?;
    }
    let (mut times, mut rewards) = (Vec::new(), Vec::new());
    for seed in 0..arguments.runs.max(1) {
        planner.reseed(seed);
        planner.reset();
        let clock = Instant::now();
        let plan = planner.plan(&START)?;
        times.push(clock.elapsed());
        rewards.push(reward(plan.states()));
    }
    times.sort();
    let milliseconds = |time: Duration| 1e3 * time.as_secs_f64();
    let (median, least) = (milliseconds(times[times.len() / 2]), milliseconds(times[0]));
    let mean = rewards.iter().sum::<f32>() / rewards.len() as f32;
    let threads = std::thread::available_parallelism()?;
    let (backend, samples, levels) = (engine.backend(), arguments.samples, arguments.levels);
    println!("{backend},{threads},{samples},{levels},{median:.4},{least:.4},{mean:.4}");
    Ok(())
}

fn write(path: &Path, values: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
