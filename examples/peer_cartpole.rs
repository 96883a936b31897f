//! The measuring half of `benches/peers`: one MPPI update of the shipped cart-pole, timed, as one line of CSV.
//!
//! `cargo run --release --example peer_cartpole -- --samples 8192 --horizon 100`
//!
//! With `--dump DIR` it also writes what a peer needs to check that it computes the same: the control rows of one update
//! (`rows.f32`, K × T little-endian numbers), their costs (`costs.f32`, K) and the mean that followed (`mean.f32`, T).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use gibbs::models::CartPole;
use gibbs::{Backend, Engine, EngineOptions, Limits, Mppi, MppiOptions, Noise, Temperature};

#[derive(Parser)]
#[command(about = "Times one MPPI update of the cart-pole: backend,threads,K,T,median_ms,min_ms")]
struct Arguments {
    /// auto, gpu, software or cpu.
    #[arg(long, default_value = "cpu")]
    backend: Backend,
    /// Rollouts, K.
    #[arg(long, default_value_t = 8192)]
    samples: usize,
    /// Time steps, T.
    #[arg(long, default_value_t = 100)]
    horizon: usize,
    /// Updates that are timed.
    #[arg(long, default_value_t = 200)]
    updates: usize,
    /// Write the rows, the costs and the mean of one update there.
    #[arg(long)]
    dump: Option<PathBuf>,
}

/// Neither hanging at rest nor upright, so that every term of the dynamics and of the cost counts. `jax_cartpole.py` starts
/// from the same state with the same numbers.
const STATE: [f32; 4] = [0.3, -0.2, 2.0, 0.5];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let engine = Engine::with(EngineOptions { backend: arguments.backend, ..Default::default() })?;
    let options = MppiOptions {
        horizon: arguments.horizon,
        samples: arguments.samples,
        dt: 0.02,
        temperature: Temperature::Fixed(10.0),
        noise: Noise::Diagonal([5.0]),
        limits: Some(Limits { low: [-20.0], high: [20.0] }),
        ..Default::default()
    };
    let mut mppi = Mppi::new(&engine, CartPole::default(), options)?;
    if let Some(folder) = &arguments.dump {
        mppi.plan(&STATE)?;
        let samples = mppi.samples()?;
        let rows: Vec<f32> = (0..samples.len()).flat_map(|k| samples.controls(k)).flatten().collect();
        let costs: Vec<f32> = (0..samples.len()).map(|k| samples.cost(k)).collect();
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        write(&folder.join("rows.f32"), &rows)?;
        write(&folder.join("costs.f32"), &costs)?;
        write(&folder.join("mean.f32"), mppi.controls().as_flattened())?;
    }
    for _ in 0..20 {
        mppi.plan(&STATE)?;
    }
    let mut times = Vec::with_capacity(arguments.updates.max(1));
    for _ in 0..arguments.updates.max(1) {
        let clock = Instant::now();
        mppi.plan(&STATE)?;
        times.push(clock.elapsed());
    }
    times.sort();
    let milliseconds = |time: Duration| 1e3 * time.as_secs_f64();
    let (median, least) = (milliseconds(times[times.len() / 2]), milliseconds(times[0]));
    let threads = std::thread::available_parallelism()?;
    let (backend, samples, horizon) = (engine.backend(), arguments.samples, arguments.horizon);
    println!("{backend},{threads},{samples},{horizon},{median:.4},{least:.4}");
    Ok(())
}

fn write(path: &Path, values: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
