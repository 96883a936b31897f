//! The measuring half of the policy search in `benches/peers`: iterations of `PolicyGradient` on the cart-pole swing-up
//! of `policy_search`, timed, as one line of CSV.
//!
//! `cargo run --release --example peer_search -- --rows 256 --episodes 4 --steps 1000`
//!
//! With `--dump DIR` it writes the data by which a peer checks that it computes the same: parameters of a few policies
//! (`theta.f32`, one after the other, little-endian), the initial states of the episodes of each (`starts.f32`, as many
//! as `--episodes` for each policy, four numbers a start), and the mean return of those episodes (`returns.f32`).

#[path = "common/end.rs"]
mod end;
#[expect(dead_code, reason = "only one of its tasks is measured")]
#[path = "policy_search/tasks.rs"]
mod tasks;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use gibbs::learning::{Anneal, Estimator, InitialStates, Step};
use gibbs::policies::{Activation, Mlp};
use gibbs::runtime::Instructions;
use gibbs::{Backend, Engine, EngineOptions, PolicyGradient, PolicyGradientOptions, Random, Task, Weighting};

use end::say;
use tasks::{EvoJax, OfEvoJax};

#[derive(Parser)]
#[command(
    about = "Times policy search: library,threads,rows,episodes,steps,hidden,median_ms_per_iteration,env_steps_per_second"
)]
struct Arguments {
    /// auto, gpu, software or cpu.
    #[arg(long, default_value = "cpu")]
    backend: Backend,
    /// On the CPU, AVX2 even where there is AVX-512.
    #[arg(long)]
    avx2: bool,
    /// Perturbed parameter vectors, K.
    #[arg(long, default_value_t = 256)]
    rows: usize,
    /// Episodes of each.
    #[arg(long, default_value_t = 4)]
    episodes: usize,
    /// Time steps of each, T.
    #[arg(long, default_value_t = 1000)]
    steps: usize,
    /// Hidden units of the perceptron, by layer: 64,64 for two layers.
    #[arg(long, value_delimiter = ',', default_value = "64")]
    hidden: Vec<usize>,
    /// Iterations that are timed, after a fifth as many that are not.
    #[arg(long, default_value_t = 50)]
    iterations: usize,
    /// Seed of initial parameters, noise and initial states.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder to write policies, initial states and returns to.
    #[arg(long)]
    dump: Option<PathBuf>,
}

/// Settings that `evosax_search.py` uses, too: OpenAI-ES with standardized returns and Adam.
const SIGMA: f32 = 0.1;
const RATE: f32 = 0.02;

/// The number of policies that are written for the check, and the standard deviation between them.
const CHECKED: usize = 16;
const APART: f32 = 0.3;

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let instructions = if arguments.avx2 { Instructions::Avx2 } else { Instructions::Best };
    let options = EngineOptions { backend: arguments.backend, instructions, ..Default::default() };
    let engine = Engine::with_options(options)?;
    if let Some(folder) = &arguments.dump {
        dump(&engine, arguments, folder)?;
    }
    let mut training = training(&engine, tasks::near_hanging, arguments, arguments.rows, SIGMA)?;
    for _ in 0..arguments.iterations.div_ceil(5) {
        training.step()?;
    }
    let mut times = Vec::with_capacity(arguments.iterations.max(1));
    let mut mean_return = 0.0;
    for _ in 0..arguments.iterations.max(1) {
        let clock = Instant::now();
        mean_return = training.step()?[0].mean_return;
        times.push(clock.elapsed());
    }
    times.sort();
    let median = times[times.len() / 2];
    let Arguments { rows, episodes, steps, hidden, .. } = arguments;
    let rate = (rows * episodes * steps) as f64 / median.as_secs_f64();
    let (threads, median) = (std::thread::available_parallelism()?, 1e3 * median.as_secs_f64());
    let hidden = hidden.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    end::complain(format_args!("mean return of the last rows: {mean_return:.2}"));
    say!("gibbs-{},{threads},{rows},{episodes},{steps},{hidden},{median:.4},{rate:.0}", engine.backend())?;
    Ok(())
}

type Perceptron = Mlp<5, 1, OfEvoJax>;

fn training(
    engine: &Engine,
    starts: impl InitialStates<4>,
    arguments: &Arguments,
    rows: usize,
    sigma: f32,
) -> Result<PolicyGradient<4, 1, EvoJax, Perceptron>> {
    let options = PolicyGradientOptions {
        task: Task { horizon: arguments.steps, dt: 0.01, seed: arguments.seed, ..Default::default() },
        samples: rows,
        estimator: Estimator::ParameterSpace {
            sigma: Anneal::from(sigma),
            antithetic: true,
            episodes: arguments.episodes,
        },
        weighting: Weighting::Signed { standardized: true },
        step: Step::Adam { rate: Anneal::from(RATE) },
        ..Default::default()
    };
    let policy = Mlp::observing(OfEvoJax, &arguments.hidden, Activation::Tanh)?.clipped([-1.0], [1.0])?;
    Ok(PolicyGradient::new(engine, EvoJax, policy, starts, options)?)
}

/// Evaluates policies by the same kernel as the search: with almost no noise, all rows equal the policy.
fn dump(engine: &Engine, arguments: &Arguments, folder: &Path) -> Result<()> {
    let drawn = Arc::new(Mutex::new(Vec::new()));
    let starts = {
        let drawn = Arc::clone(&drawn);
        move |random: &mut Random, params: &mut [f32]| {
            let start = tasks::near_hanging(random, params);
            drawn.lock().expect("no one panics while holding it").push(start);
            start
        }
    };
    let mut training = training(engine, starts, arguments, 64, 1e-12)?;
    let initial = training.theta(0)?.to_vec();
    let mut random = Random::stream(arguments.seed, 1);
    let (mut policies, mut places, mut returns) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..CHECKED {
        let theta: Vec<f32> = initial.iter().map(|weight| weight + APART * random.normal()).collect();
        training.set_theta(0, &theta)?;
        drawn.lock().expect("no one panics while holding it").clear();
        returns.push(training.step()?[0].mean_return);
        policies.extend(theta);
        places.extend_from_slice(drawn.lock().expect("no one panics while holding it").as_flattened());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, values) in [("theta.f32", policies), ("starts.f32", places), ("returns.f32", returns)] {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let path = folder.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
