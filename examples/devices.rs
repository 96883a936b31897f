//! Lists the devices that this crate can run on here and checks that they compute the same: prints which adapter `Auto`
//! selects and why, then tests every kernel on the CPU and on each adapter, and times them.
//!
//! `cargo run --release --example devices`. It fails if a kernel does. Kernels are compared with plain Rust on the
//! host, mostly in `f64`, and whole plans with those of the CPU backend.

#[path = "common/end.rs"]
mod end;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gibbs::models::CartPole;
use gibbs::noise::normal::normals;
use gibbs::runtime::RowMemory;
use gibbs::{
    Backend, Engine, EngineOptions, Grid, Limits, Model, Mppi, MppiOptions, Noise, Real, References, StepContext, Task,
    Temperature, WeightedMean, Weighting,
};

use end::say;

#[derive(Parser)]
#[command(about = "List the devices that this crate can run on here, and test and time every kernel on them.")]
struct Arguments {}

fn main() -> ExitCode {
    end::run(|Arguments {}| run())
}

fn run() -> Result<()> {
    let adapters = Engine::adapters();
    say!("{} besides the CPU backend", count(adapters.len(), "adapter"))?;
    for adapter in &adapters {
        say!("  [{}] {adapter}", adapter.index)?;
    }
    let auto = Engine::new()?;
    say!("Auto takes {}: {}.", auto.name(), auto.reason())?;

    let cpu = EngineOptions { backend: Backend::Cpu, ..Default::default() };
    let each = adapters.iter().map(|adapter| EngineOptions { adapter: Some(adapter.index), ..Default::default() });
    let mut failures = Vec::new();
    for options in std::iter::once(cpu.clone()).chain(each) {
        let label = options.adapter.map_or("[cpu]".into(), |index| format!("[{index}]"));
        say!()?;
        match examine(&label, options, &Engine::with_options(cpu.clone())?) {
            Ok(0) => {}
            Ok(failed) => failures.push(format!("{label} {failed} failed")),
            Err(error) => {
                say!("{label} FAILED: {error:#}")?;
                failures.push(format!("{label} {error:#}"));
            }
        }
    }
    say!()?;
    ensure!(failures.is_empty(), "self-test failed: {}", failures.join("; "));
    say!("every self-test passed on {}", count(1 + adapters.len(), "device"))
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Tests and times one device; returns how many checks failed.
fn examine(label: &str, options: EngineOptions, cpu: &Engine) -> Result<usize> {
    let engine = Engine::with_options(options)?;
    say!("{label} {}", engine.name())?;
    say!("    {:24}{:>12}{:>12}", "self-test", "difference", "allowed")?;
    let mut checks = plan_checks(&engine)?;
    checks.push(temperature_check(&engine)?);
    checks.extend(mean_checks(&engine)?);
    checks.push(whole_plan_check(&engine, cpu)?);
    for check in &checks {
        let Check { name, worst, allowed } = check;
        say!("    {name:24}{worst:12.1e}{allowed:12.0e}  {}", if check.passes() { "ok" } else { "FAILED" })?;
    }
    time(&engine)?;
    Ok(checks.iter().filter(|check| !check.passes()).count())
}

/// The largest difference found, and the largest that rounding explains.
struct Check {
    name: &'static str,
    worst: f64,
    allowed: f64,
}

impl Check {
    /// Compares number by number, relative to 1 + |expected|. A NaN on either side counts as infinitely far.
    fn new(name: &'static str, allowed: f64, got: &[f32], expected: &[f64]) -> Self {
        let difference =
            |(got, expected): (&f32, &f64)| match (f64::from(*got) - expected).abs() / (1.0 + expected.abs()) {
                difference if difference.is_nan() => f64::INFINITY,
                difference => difference,
            };
        let worst = got.iter().zip(expected).map(difference).fold(0.0, f64::max);
        // A different length counts as infinitely far, too.
        Self { name, worst: if got.len() == expected.len() { worst } else { f64::INFINITY }, allowed }
    }

    fn passes(&self) -> bool {
        self.worst <= self.allowed
    }
}

/// A buoy in a current, which uses everything that a kernel can read: parameters, references over the horizon, and a
/// field.
struct Buoy;

#[gibbs::model]
impl Model<3, 2> for Buoy {
    fn step<R: Real>(&self, at: &StepContext<R>, [x, y, heading]: [R; 3], [push, turn]: [R; 2]) -> [R; 3] {
        let (sin, cos) = heading.sin_cos();
        let current = at.sample(0, x, y) * at.param(0);
        [x + (push * cos + current) * at.dt(), y + push * sin * at.dt(), heading + turn * at.dt()]
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, heading]: [R; 3], [push, turn]: [R; 2]) -> R {
        let (dx, dy) = (x - at.reference(0), y - at.reference(1));
        (dx.square() + dy.square() + 0.01).sqrt()
            + heading.wrap_angle().square() * 0.1
            + (push * turn).abs() * at.param(1)
    }
    fn terminal<R: Real>(&self, _at: &StepContext<R>, [x, y, _]: [R; 3]) -> R {
        (x.square() + y.square()) * 0.5
    }
}

const SEED: u64 = 0x5EED_0123_4567_89AB;
const START: [f32; 3] = [0.4, -0.7, 0.2];
const INITIAL: [f32; 2] = [0.4, -0.3];
/// Σ and the L of Σ = L Lᵀ.
const COVARIANCE: [[f32; 2]; 2] = [[0.25, 0.15], [0.15, 0.73]];
const FACTOR: [[f64; 2]; 2] = [[0.5, 0.0], [0.3, 0.8]];
const LOW: [f32; 2] = [-0.5, -1.5];
const HIGH: [f32; 2] = [1.0, 1.5];
const ALPHA: f32 = 0.9;
const STEP_SIZE: f32 = 0.7;
const LAMBDA: f32 = 2.0;

/// Sizes that are no multiples of any block size, so that the last tile, group and block are all partly empty.
fn options() -> Result<MppiOptions<2>> {
    let (width, height) = (16, 12);
    let values = (0..width * height).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
    Ok(MppiOptions {
        task: Task {
            horizon: 33,
            dt: 0.1,
            limits: Some(Limits { low: LOW, high: HIGH }),
            seed: SEED,
            params: vec![0.8, 0.05],
            references: Some(References {
                values: (0..20).flat_map(|t| [0.1 * t as f32, (0.3 * t as f32).sin()]).collect(),
                columns: 2,
            }),
            fields: vec![Grid::new(width, height, 0.5, [-3.0, -3.0], values)?.with_outside(0.25)?],
            ..Default::default()
        },
        samples: 2501,
        weighting: Weighting::Exponential(Temperature::Fixed(LAMBDA)),
        noise: Noise::Covariance(COVARIANCE),
        alpha: ALPHA,
        step_size: STEP_SIZE,
        nominal_first: true,
        initial: INITIAL,
        ..Default::default()
    })
}

/// Checks one update from the random words to the new plan: each stage is recomputed from the device's own output of
/// the stage before.
fn plan_checks(engine: &Engine) -> Result<Vec<Check>> {
    let mut mppi = Mppi::new(engine, Buoy, options()?)?;
    let horizon = mppi.options().task.horizon;
    mppi.plan(&START)?;
    let samples = mppi.samples()?;
    let rows: Vec<Vec<[f32; 2]>> = (0..samples.len()).map(|k| samples.controls(k)).collect();
    let costs: Vec<f32> = (0..samples.len()).map(|k| samples.cost(k)).collect();
    let control_costs: Vec<f32> = (0..samples.len()).map(|k| samples.control_cost(k)).collect();
    let log_weights: Vec<f32> = (0..samples.len()).map(|k| samples.log_weight(k)).collect();

    // Rows: U + L z within the limits, except the first, which is U.
    let mut expected_rows = Vec::new();
    for k in 0..rows.len() {
        for t in 0..horizon {
            let z = [0, 1].map(|m| {
                let d = 2 * t + m;
                f64::from(normals(SEED, 0, k as u32, d as u32 / 4)[d % 4])
            });
            for m in 0..2 {
                let noise = if k == 0 { 0.0 } else { FACTOR[m][0] * z[0] + FACTOR[m][1] * z[1] };
                expected_rows.push((f64::from(INITIAL[m]) + noise).clamp(LOW[m].into(), HIGH[m].into()));
            }
        }
    }
    let flat: Vec<f32> = rows.iter().flatten().flatten().copied().collect();

    // Rollout costs, and C = Σ Uᵀ Σ⁻¹ ε.
    let mut expected_costs = Vec::new();
    for row in &rows {
        expected_costs.push(f64::from(mppi.simulate(&START, row)?.1));
    }
    let [[a, b], [_, d]] = COVARIANCE.map(|row| row.map(f64::from));
    let [u, v] = INITIAL.map(f64::from);
    let determinant = a * d - b * b;
    let pull = [(d * u - b * v) / determinant, (a * v - b * u) / determinant];
    let control_cost = |row: &Vec<[f32; 2]>| -> f64 {
        row.iter().map(|[p, q]| pull[0] * (f64::from(*p) - u) + pull[1] * (f64::from(*q) - v)).sum()
    };
    let expected_control_costs: Vec<f64> = rows.iter().map(control_cost).collect();

    // ℓ = −S/λ − (1 − α) C, both relative to their largest.
    let weigh = |(cost, control): (&f32, &f32)| -f64::from(*cost / LAMBDA) - f64::from((1.0 - ALPHA) * control);
    let expected_logs = relative(costs.iter().zip(&control_costs).map(weigh).collect());
    let largest = log_weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let logs: Vec<f32> = log_weights.iter().map(|log_weight| log_weight - largest).collect();

    // U + γ (m − U).
    let weights: Vec<f64> = logs.iter().map(|log_weight| f64::from(*log_weight).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let mut expected_plan = Vec::new();
    for t in 0..horizon {
        for m in 0..2 {
            let mean = rows.iter().zip(&weights).map(|(row, w)| w * f64::from(row[t][m])).sum::<f64>() / sum;
            let from = f64::from(INITIAL[m]);
            expected_plan.push(from + f64::from(STEP_SIZE) * (mean - from));
        }
    }
    let plan = mppi.controls().as_flattened();
    Ok(vec![
        Check::new("noise rows", 1e-5, &flat, &expected_rows),
        Check::new("rollout costs", 1e-5, &costs, &expected_costs),
        Check::new("control costs", 1e-5, &control_costs, &expected_control_costs),
        Check::new("log-weights", 1e-5, &logs, &expected_logs),
        Check::new("mean and step", 1e-5, plan, &expected_plan),
    ])
}

fn relative(mut values: Vec<f64>) -> Vec<f64> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|value| *value -= largest);
    values
}

/// Checks that the temperature that was solved for gives the requested effective sample size.
fn temperature_check(engine: &Engine) -> Result<Check> {
    const FRACTION: f32 = 0.1;
    let mut mppi = Mppi::new(
        engine,
        Buoy,
        MppiOptions { weighting: Temperature::EffectiveSamples(FRACTION).into(), alpha: 1.0, ..options()? },
    )?;
    let lambda = f64::from(mppi.plan(&START)?.temperature());
    let samples = mppi.samples()?;
    let logs = relative((0..samples.len()).map(|k| -f64::from(samples.cost(k)) / lambda).collect());
    let (sum, squares) = logs.iter().map(|l| l.exp()).fold((0.0, 0.0), |(s, q), w| (s + w, q + w * w));
    let fraction = sum * sum / squares / samples.len() as f64;
    Ok(Check::new("temperature search", 1e-5, &[FRACTION], &[fraction]))
}

/// Checks the weighted mean on its own, with masked and invalid rows among log-weights far from zero.
fn mean_checks(engine: &Engine) -> Result<Vec<Check>> {
    let (count, width) = (10_007, 7);
    let row = |k: usize| (0..width).map(move |d| normals(SEED, 1, k as u32, d as u32 / 4)[d % 4] + d as f32);
    let rows: Vec<f32> = (0..count).flat_map(row).collect();
    let log_weight = |k: usize| match k % 100 {
        17 => f32::NEG_INFINITY,
        71 => f32::NAN,
        _ => 1000.0 + 2.0 * normals(SEED, 2, k as u32, 0)[0],
    };
    let log_weights: Vec<f32> = (0..count).map(log_weight).collect();
    let mut average = WeightedMean::new(engine).with_second_moment();
    let average = average.compute(&rows, &log_weights)?;

    let weights: Vec<f64> = log_weights
        .iter()
        .map(|log_weight| if log_weight.is_nan() { 0.0 } else { (f64::from(*log_weight) - 1000.0).exp() })
        .collect();
    let sum: f64 = weights.iter().sum();
    let squares: f64 = weights.iter().map(|w| w * w).sum();
    let moment = |power: i32, d: usize| {
        let terms = weights.iter().zip(rows.chunks(width)).map(|(w, row)| w * f64::from(row[d]).powi(power));
        terms.sum::<f64>() / sum
    };
    let (first, second): (Vec<f64>, Vec<f64>) = (0..width).map(|d| (moment(1, d), moment(2, d))).unzip();
    let log_z = 1000.0 + (sum / count as f64).ln();
    let invalid = log_weights.iter().filter(|log_weight| log_weight.is_nan()).count();
    let statistics = [average.log_z(), average.effective_samples(), average.invalid_rows() as f32];
    Ok(vec![
        Check::new("weighted mean", 1e-5, average.mean(), &first),
        Check::new("second moment", 1e-5, average.second_moment().context("no second moment")?, &second),
        Check::new("log Z, ESS, invalid rows", 1e-5, &statistics, &[log_z, sum * sum / squares, invalid as f64]),
    ])
}

/// Checks that three calls of two updates each, every one warm-started by the one before, end in the plan of the CPU
/// backend.
fn whole_plan_check(engine: &Engine, cpu: &Engine) -> Result<Check> {
    let plan = |engine: &Engine| -> Result<Vec<f32>> {
        let mut mppi = Mppi::new(engine, Buoy, MppiOptions { iterations: 2, ..options()? })?;
        for _ in 0..3 {
            mppi.plan(&START)?;
            mppi.shift(1);
        }
        Ok(mppi.controls().as_flattened().to_vec())
    };
    let expected: Vec<f64> = plan(cpu)?.into_iter().map(f64::from).collect();
    Ok(Check::new("whole plans, as the CPU's", 1e-3, &plan(engine)?, &expected))
}

/// Measures medians of one cart-pole update, and of its stages, in calls that time them separately (which take longer).
fn time(engine: &Engine) -> Result<()> {
    const PLANS: usize = 30;
    if engine.backend() != Backend::Cpu {
        engine.round_trip()?;
        let mut trips = (0..PLANS).map(|_| engine.round_trip()).collect::<Result<Vec<_>, _>>()?;
        say!("    round trip of an empty kernel: {} ms", milliseconds(median(&mut trips)))?;
    }
    let in_stages =
        Engine::with_options(EngineOptions { rows: RowMemory::Stored, timestamps: true, ..engine.options().clone() })?;
    say!("    {:24}{:>9}{:>9}{:>9}{:>9}", "cart-pole, median in ms", "rollout", "weigh", "mean", "plan")?;
    for (samples, horizon) in [(128, 20), (1024, 50), (8192, 100)] {
        let options = MppiOptions {
            task: Task { horizon, ..Default::default() },
            samples,
            weighting: Weighting::Exponential(Temperature::Fixed(10.0)),
            ..Default::default()
        };
        let mut mppi = Mppi::new(engine, CartPole::default(), options.clone())?;
        let mut apart = Mppi::new(&in_stages, CartPole::default(), options)?;
        let mut stages = [const { Vec::new() }; 4];
        for i in 0..PLANS + 3 {
            let total = mppi.plan(&[0.0; 4])?.timing().total;
            let timing = apart.plan(&[0.0; 4])?.timing();
            let times = [timing.rollout, timing.weigh, timing.mean, Some(total)];
            if i >= 3 {
                stages.iter_mut().zip(times).for_each(|(stage, time)| stage.extend(time));
            }
        }
        let size = format!("{samples} × {horizon}");
        let [rollout, weigh, mean, plan] = stages.map(|mut stage| milliseconds(median(&mut stage)));
        say!("    {size:24}{rollout:>9}{weigh:>9}{mean:>9}{plan:>9}")?;
    }
    Ok(())
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}

/// Prints a dash where the device has no timestamps.
fn milliseconds(time: Option<Duration>) -> String {
    time.map_or("–".into(), |time| format!("{:.3}", 1e3 * time.as_secs_f64()))
}
