//! A guard against slower code: counts the instructions of the CPU's hot paths and compares them with those recorded in
//! `instructions.csv`. Counts repeat where times do not, so that a few per cent show on any machine, however busy.
//!
//! ```sh
//! cargo bench --bench instructions                # fails if a count has grown by more than 3 %
//! cargo bench --bench instructions -- plan        # only the cases whose name contains "plan"
//! cargo bench --bench instructions -- --record    # writes the counts down
//! ```
//!
//! It needs valgrind (Debian: `apt-get install valgrind`) and runs itself under callgrind, once for each case. A first
//! call allocates and is not counted. valgrind does not support AVX-512, so this measures the AVX2 path, on one thread.
//! The counts are those of one compiler and of `Cargo.lock`: record them again when these change, and when code has
//! become faster. A compiler other than the recorded one is reported, but is not a failure.

mod common;

use std::collections::HashMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use gibbs::learning::{ActionNoise, Estimator};
use gibbs::models::CartPole;
use gibbs::policies::{Activation, Mlp};
use gibbs::sampling::{Energy, ReverseProcess, Schedule};
use gibbs::{
    DiffusionOptions, DiffusionPlanner, DiffusionSampler, DiffusionSamplerOptions, Engine, Limits, Model, MppiOptions,
    Noise, PolicyGradient, PolicyGradientOptions, Random, Real, StepContext, Task, Temperature, WeightedMean,
};

/// The factor by which a count may grow.
const MARGIN: f64 = 0.03;
/// The number of calls that are counted.
const CALLS: u64 = 2;

type Call = Box<dyn FnMut()>;

struct Case {
    name: &'static str,
    /// The unit that instructions are counted per, and the number of units in a call.
    unit: (&'static str, u64),
    on: fn(&Engine) -> Call,
}

const CASES: [Case; 12] = [
    Case { name: "plan/cart-pole/1024x100", unit: ("plan", 1), on: |cpu| plan(common::cart_pole(cpu, 1024, 100)) },
    Case { name: "plan/drive/1024x100", unit: ("plan", 1), on: |cpu| plan(common::drive(cpu, 1024, 100)) },
    Case { name: "plan/quadrotor/1024x50", unit: ("plan", 1), on: |cpu| plan(common::quadrotor(cpu, 1024, 50)) },
    Case { name: "plan/cart-pole/128x20", unit: ("plan", 1), on: |cpu| plan(common::cart_pole(cpu, 128, 20)) },
    Case { name: "temperature/cart-pole/1024x20", unit: ("plan", 1), on: search },
    Case { name: "draw/1024x100", unit: ("plan", 1), on: draw },
    Case { name: "mean/10000x64", unit: ("mean", 1), on: mean },
    Case { name: "training/perturbed/256x100", unit: ("iteration", 1), on: perturbed },
    Case { name: "training/scored/256x100", unit: ("iteration", 1), on: scored },
    Case { name: "diffusion/plan/1024x50", unit: ("level", LEVELS), on: diffusion },
    Case { name: "diffusion/energy/16x256", unit: ("level", LEVELS), on: energy },
    Case { name: "diffusion/data/16x1000x8", unit: ("level", LEVELS), on: data },
];

const LEVELS: u64 = 5;

fn plan(mut plan: common::Plan) -> Call {
    Box::new(move || _ = black_box(plan()))
}

fn search(cpu: &Engine) -> Call {
    let weighting = Temperature::EffectiveSamples(0.05).into();
    let options = MppiOptions { weighting, ..common::cart_pole_options(1024, 20) };
    plan(common::plan(cpu, CartPole::default(), common::SWINGING, options))
}

/// A model without dynamics and cost, which leaves only the time to draw rows and to average them.
struct Nothing;

#[gibbs::model]
impl Model<1, 1> for Nothing {
    fn step<R: Real>(&self, _: &StepContext<R>, x: [R; 1], _: [R; 1]) -> [R; 1] {
        x
    }
    fn cost<R: Real>(&self, _: &StepContext<R>, _: [R; 1], _: [R; 1]) -> R {
        R::from(0.0)
    }
}

fn draw(cpu: &Engine) -> Call {
    plan(common::plan(
        cpu,
        Nothing,
        [0.0],
        MppiOptions {
            task: Task { horizon: 100, ..Default::default() },
            samples: 1024,
            weighting: Temperature::Fixed(1.0).into(),
            ..Default::default()
        },
    ))
}

fn mean(cpu: &Engine) -> Call {
    let mut random = Random::new(7);
    let rows: Vec<f32> = (0..10_000 * 64).map(|i| (i % 101) as f32).collect();
    let log_weights: Vec<f32> = (0..10_000).map(|_| random.normal()).collect();
    let mut average = WeightedMean::new(cpu);
    Box::new(move || _ = black_box(average.compute(&rows, &log_weights).expect("the rows are finite")))
}

fn perturbed(cpu: &Engine) -> Call {
    train(cpu, PolicyGradientOptions::default().estimator)
}

fn scored(cpu: &Engine) -> Call {
    train(
        cpu,
        Estimator::ScoreFunction { std: [1.0], action_noise: ActionNoise::Learned { least: 0.1 }, antithetic: false },
    )
}

/// An iteration of a perceptron with 32 hidden units, 256 rows of episodes of 100 steps.
fn train(cpu: &Engine, rows: Estimator<1>) -> Call {
    let rows = match rows {
        Estimator::ParameterSpace { sigma, antithetic, .. } => {
            Estimator::ParameterSpace { sigma, antithetic, episodes: 1 }
        }
        scored => scored,
    };
    let policy = Mlp::<4, 1>::new(&[32], Activation::Tanh).expect("a layer of 32 units");
    let options = PolicyGradientOptions {
        task: Task { horizon: 100, ..Default::default() },
        estimator: rows,
        samples: 256,
        ..Default::default()
    };
    let start = |random: &mut Random, _: &mut [f32]| [0.0, 0.0, random.between(2.0, 4.0), 0.0];
    let training = PolicyGradient::new(cpu, CartPole::default(), policy, start, options);
    let mut training = training.expect("these options are valid");
    Box::new(move || _ = black_box(training.step().expect("a finite return")))
}

fn process() -> ReverseProcess {
    ReverseProcess {
        schedule: Schedule::Geometric { levels: LEVELS as usize, smallest: 0.1, largest: 1.0 },
        ..Default::default()
    }
}

fn diffusion(cpu: &Engine) -> Call {
    let options = DiffusionOptions {
        task: Task { horizon: 50, limits: Some(Limits { low: [-20.0], high: [20.0] }), ..Default::default() },
        samples: 1024,
        process: process(),
        noise: Noise::Diagonal([5.0]),
        ..Default::default()
    };
    let mut planner = DiffusionPlanner::new(cpu, CartPole::default(), options).expect("these options are valid");
    Box::new(move || _ = black_box(planner.plan(&common::SWINGING).expect("a rollout of finite cost")))
}

struct Ring;

#[gibbs::model]
impl Energy<2> for Ring {
    fn energy<R: Real>(&self, _: &StepContext<R>, [x, y]: [R; 2]) -> R {
        ((x.square() + y.square()).sqrt() - 1.0).square() * 50.0
    }
}

fn energy(cpu: &Engine) -> Call {
    let options = DiffusionSamplerOptions { chains: 16, samples: 256, process: process(), ..Default::default() };
    let mut chains = DiffusionSampler::of_energy(cpu, Ring, options).expect("these options are valid");
    Box::new(move || _ = black_box(chains.sample().expect("rows of finite energy")))
}

fn data(cpu: &Engine) -> Call {
    let mut random = Random::new(7);
    let rows: Vec<f32> = (0..1000 * 8).map(|_| random.normal()).collect();
    let options = DiffusionSamplerOptions { chains: 16, process: process(), ..Default::default() };
    let mut chains = DiffusionSampler::of_data(cpu, &rows, 8, options).expect("these options are valid");
    Box::new(move || _ = black_box(chains.sample().expect("rows of finite distance")))
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    // `cargo bench` adds --bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--call", name] => call(name).map(|()| true),
        ["--record"] => record().map(|()| true),
        [] => compare(""),
        [filter] if !filter.starts_with('-') => compare(filter),
        other => bail!("there is no option {}; there are --record, and a part of a name", other.join(" ")),
    }
}

/// Runs a case under callgrind.
fn call(name: &str) -> Result<()> {
    // The calling thread is the pool, so that no other thread's idling is counted.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    let case = CASES.iter().find(|case| case.name == name).with_context(|| format!("there is no case {name}"))?;
    let cpu = common::cpu();
    let mut call = (case.on)(&cpu);
    call();
    callgrind_counts_this(&mut call);
    println!("{}", cpu.name());
    Ok(())
}

/// Everything called from here is counted. It contains no closures, because their names would contain its own.
#[inline(never)]
fn callgrind_counts_this(call: &mut Call) {
    for _ in 0..CALLS {
        call();
    }
}

/// Returns the instructions of a case per unit, and the engine's name.
fn count(case: &Case) -> Result<(u64, String)> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*callgrind_counts_this*"])
        .arg(std::env::current_exe()?)
        .args(["--call", case.name])
        .output()
        .context("valgrind does not start; it is needed to count instructions (Debian: apt-get install valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed under callgrind:\n{said}", case.name);
    // "==123== Collected : 456"
    let count = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<u64>().ok());
    let count = count.filter(|count| *count > 0).with_context(|| format!("callgrind did not tell a count:\n{said}"))?;
    Ok((count / (CALLS * case.unit.1), String::from_utf8_lossy(&output.stdout).trim().into()))
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions.csv")
}

fn record() -> Result<()> {
    let mut table = String::new();
    for case in &CASES {
        let (count, engine) = count(case)?;
        if table.is_empty() {
            table = format!("# {engine}, {}\nname,instructions,per\n", compiler());
        }
        println!("{count:>12} {:<9} {}", case.unit.0, case.name);
        table += &format!("{},{count},{}\n", case.name, case.unit.0);
    }
    std::fs::write(file(), table).with_context(|| format!("cannot write {}", file().display()))
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output().ok();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    version.unwrap_or_else(|| "unknown rustc".into())
}

/// Compares counts with the recorded ones; returns whether none exceeds its margin.
fn compare(filter: &str) -> Result<bool> {
    let text = std::fs::read_to_string(file()).context("nothing is recorded; -- --record does that")?;
    let mut lines = text.lines();
    let (recorded_on, recorded_by) =
        lines.next().and_then(|line| line.strip_prefix("# ")?.split_once(", rustc")).unwrap_or_default();
    let same_compiler = compiler() == format!("rustc{recorded_by}");
    let rows = lines.skip(1).filter_map(|line| {
        let mut cells = line.split(',');
        Some((cells.next()?, cells.next()?.parse::<u64>().ok()?))
    });
    let recorded: HashMap<&str, u64> = rows.collect();
    println!("{:<32}{:>12}{:>12}{:>9}  per", "instructions", "recorded", "counted", "change");
    let mut worse = 0;
    for case in CASES.iter().filter(|case| case.name.contains(filter)) {
        let (counted, engine) = count(case)?;
        if engine != recorded_on {
            println!("SKIPPED: recorded on {recorded_on}, but this is {engine}: these do not compare");
            return Ok(true);
        }
        let before = *recorded.get(case.name).with_context(|| format!("{} is not recorded", case.name))?;
        let change = counted as f64 / before as f64 - 1.0;
        let verdict = match change {
            change if change > MARGIN => "  MORE",
            change if change < -MARGIN => "  fewer: record it",
            _ => "",
        };
        worse += usize::from(change > MARGIN);
        let (name, change) = (case.name, 100.0 * change);
        println!("{name:<32}{before:>12}{counted:>12}{change:>+8.2}%  {}{verdict}", case.unit.0);
    }
    match worse {
        0 => println!("no count has grown by more than {} %", 100.0 * MARGIN),
        n => println!("{n} of them have grown by more than {} %", 100.0 * MARGIN),
    }
    if worse > 0 && !same_compiler {
        println!(
            "recorded by rustc{recorded_by}, but this is {}: -- --record with it if nothing else has changed",
            compiler()
        );
    }
    Ok(worse == 0 || !same_compiler)
}
