//! The measuring half of `benches/peers`: one MPPI update, or one plan by model-based diffusion, timed, as one line of
//! CSV.
//!
//! `cargo run --release --example peer -- --task drive --samples 8192`
//!
//! With `--dump DIR` it writes what a peer needs to check that it computes the same (little-endian f32): the state
//! (`start.f32`), the control rows of one update (`rows.f32`, K × T × M), their costs (`costs.f32`, K), their weights
//! (`weights.f32`, K) and the mean that followed (`mean.f32`, T × M).
//!
//! With `--serve` it answers requests from standard input, one per line, until the input ends:
//!
//! ```text
//! time TASK K T UPDATES    library,threads,task,K,T,median_ms,min_ms[,mean_reward]
//! dump TASK K T DIR        done
//! ```

#[path = "../car2d/car.rs"]
mod car;
mod car2d;
mod cartpole;
#[path = "../car2d/demonstration.rs"]
mod demonstration;
mod drive;
#[path = "../common/end.rs"]
mod end;
mod task;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use gibbs::runtime::Instructions;
use gibbs::{Backend, Engine, EngineOptions};

use end::say;
use task::{Size, Task};

#[derive(Parser)]
#[command(about = "Times MPPI updates: library,threads,task,K,T,median_ms,min_ms")]
struct Arguments {
    #[arg(long, value_enum, default_value = "cartpole")]
    task: Kind,
    /// auto, gpu, software or cpu
    #[arg(long, default_value = "cpu")]
    backend: Backend,
    /// Use no CPU instructions wider than AVX2, the width that lavapipe uses
    #[arg(long)]
    avx2: bool,
    /// Rollouts an update, K
    #[arg(long, default_value_t = 8192)]
    samples: usize,
    /// Time steps, T; for the car, levels
    #[arg(long, default_value_t = 100)]
    horizon: usize,
    /// Updates that are timed; for the car, plans
    #[arg(long, default_value_t = 100)]
    updates: usize,
    /// The demonstration of car2d-demo: a CSV with the columns x and y, one row for each of the 50 steps
    #[arg(long, default_value = "examples/car2d/demo.csv")]
    demo: PathBuf,
    /// Folder to write the data of one update to first
    #[arg(long)]
    dump: Option<PathBuf>,
    /// Answer requests from standard input
    #[arg(long)]
    serve: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
enum Kind {
    /// One update of the shipped cart-pole
    Cartpole,
    /// One update of a differential drive with a costmap
    Drive,
    /// One update of that robot, started between the discs of the costmap, where its values matter
    DriveAmid,
    /// One plan of the 2-D car by model-based diffusion
    #[value(name = "car2d")]
    Car2d,
    /// One plan of that car with a demonstration
    #[value(name = "car2d-demo")]
    Car2dDemo,
}

impl Kind {
    fn build(self, engine: &Engine, size: Size, demo: &Path) -> Result<Box<dyn Task>> {
        Ok(match self {
            Self::Cartpole => Box::new(cartpole::task(engine, size)?),
            Self::Drive => Box::new(drive::task(engine, size, drive::START)?),
            Self::DriveAmid => Box::new(drive::task(engine, size, drive::AMID)?),
            Self::Car2d => Box::new(car2d::task(engine, size, None)?),
            Self::Car2dDemo => Box::new(car2d::task(engine, size, Some(demonstration::read(demo)?))?),
        })
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let instructions = if arguments.avx2 { Instructions::Avx2 } else { Instructions::Best };
    let engine =
        Engine::with_options(EngineOptions { backend: arguments.backend, instructions, ..Default::default() })?;
    if arguments.serve {
        return serve(&engine, &arguments.demo);
    }
    let size = Size { samples: arguments.samples, horizon: arguments.horizon };
    let mut task = arguments.task.build(&engine, size, &arguments.demo)?;
    if let Some(folder) = &arguments.dump {
        task.dump(folder)?;
    }
    say!("{}", measure(&engine, arguments.task, size, task.as_mut(), 20, arguments.updates)?)?;
    Ok(())
}

fn serve(engine: &Engine, demo: &Path) -> Result<()> {
    let mut tasks = HashMap::new();
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<_> = line.split_whitespace().collect();
        let &[verb, name, samples, horizon, last] = words.as_slice() else { bail!("what is `{line}`?") };
        let kind = Kind::from_str(name, false).map_err(anyhow::Error::msg)?;
        let size = Size { samples: samples.parse()?, horizon: horizon.parse()? };
        match verb {
            "dump" => {
                kind.build(engine, size, demo)?.dump(Path::new(last))?;
                say!("done")?;
            }
            "time" => {
                // A new task needs a longer warm-up, because threads start and memory is touched for the first time.
                let (task, warm_up) = match tasks.remove(&(kind, size)) {
                    Some(task) => (task, 3),
                    None => (kind.build(engine, size, demo)?, 20),
                };
                let task: &mut Box<dyn Task> = tasks.entry((kind, size)).or_insert(task);
                say!("{}", measure(engine, kind, size, task.as_mut(), warm_up, last.parse()?)?)?;
            }
            _ => bail!("what is `{verb}`?"),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn measure(
    engine: &Engine,
    kind: Kind,
    Size { samples, horizon }: Size,
    task: &mut dyn Task,
    warm_up: usize,
    updates: usize,
) -> Result<String> {
    for _ in 0..warm_up {
        task.update()?;
    }
    let updates = updates.max(1);
    let (mut times, mut rewards) = (Vec::with_capacity(updates), Vec::new());
    for _ in 0..updates {
        task.prepare();
        let clock = Instant::now();
        task.update()?;
        times.push(clock.elapsed());
        rewards.extend(task.reward());
    }
    times.sort();
    let milliseconds = |time: Duration| 1e3 * time.as_secs_f64();
    let (median, least) = (milliseconds(times[times.len() / 2]), milliseconds(times[0]));
    let (backend, threads, name) = (engine.backend(), threads()?, kind.name());
    let mut line = format!("gibbs_{backend},{threads},{name},{samples},{horizon},{median:.4},{least:.4}");
    if !rewards.is_empty() {
        line += &format!(",{:.4}", rewards.iter().sum::<f32>() / rewards.len() as f32);
    }
    Ok(line)
}

/// The number of threads that the CPU backend was given.
fn threads() -> Result<usize> {
    let told = std::env::var("RAYON_NUM_THREADS").ok().and_then(|count| count.parse().ok());
    let there = std::thread::available_parallelism().context("how many threads are there?")?;
    Ok(told.filter(|&count| count > 0).unwrap_or(there.get()))
}
