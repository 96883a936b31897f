//! Black-box optimization: minimizes Ackley's, Rastrigin's and Levy's functions in 20, 200 and 800 dimensions by the
//! planners of this crate.
//!
//! A function of D variables is a model whose "time" counts the variables: the term of one variable is the running cost
//! of a step, and sums inside a nonlinear formula are states. So the same kernels that roll out a robot evaluate the
//! function. `cargo run --release --example black_box` prints the table; `--help` lists what can be changed. It fails
//! unless model-based diffusion ends below a fortieth of the best of as many random points (the least value is 0).

#[path = "common/end.rs"]
mod end;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Parser;
use gibbs::sampling::{ReverseProcess, SampleWidth, Sampler, Schedule};
use gibbs::{
    Backend, DiffusionOptions, DiffusionPlanner, Engine, EngineOptions, Limits, Model, Mppi, MppiOptions, Noise, Real,
    References, StepContext, Temperature, Weighting,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use end::say;

#[derive(Parser)]
#[command(about = "Find the least value of functions of many variables that are only ever evaluated.")]
struct Arguments {
    /// auto, gpu, software or cpu
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Evaluations per update
    #[arg(long, default_value_t = 1024)]
    samples: usize,
    /// Updates [default: 400, or 200 with --quick]
    #[arg(long)]
    updates: Option<usize>,
    /// Seed of the noise and of where the least values are
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Only 20 and 200 dimensions, and fewer updates
    #[arg(long)]
    quick: bool,
}

/// The functions, over the box [−1, 1]^D, with their least value, 0, somewhere in the middle half of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Ackley,
    Rastrigin,
    Levy,
}

/// One variable u per step, in [−1, 1], which represents x = width (u − least): the function is least at `least`, which
/// is the reference of the step. Parameter 0 is D. States: Σ x² and Σ cos 2πx.
#[derive(Debug, Clone, Copy)]
struct OfMany(Function);

#[gibbs::model]
impl OfMany {
    fn variable<R: Real>(self, at: &StepContext<R>, u: R) -> R {
        let width = match self.0 {
            Function::Ackley => 32.768,
            Function::Rastrigin => 5.12,
            Function::Levy => 10.0,
        };
        (u - at.reference(0)) * width
    }
}

#[gibbs::model]
impl Model<2, 1> for OfMany {
    fn step<R: Real>(&self, at: &StepContext<R>, [squares, waves]: [R; 2], [u]: [R; 1]) -> [R; 2] {
        if self.0 != Function::Ackley {
            return [squares, waves];
        }
        let x = self.variable(at, u);
        [x.mul_add(x, squares), waves + (x * std::f32::consts::TAU).cos()]
    }

    /// The term of this step's variable, if the function is a sum.
    fn cost<R: Real>(&self, at: &StepContext<R>, _: [R; 2], [u]: [R; 1]) -> R {
        use std::f32::consts::{PI, TAU};
        let x = self.variable(at, u);
        match self.0 {
            Function::Ackley => R::from(0.0),
            Function::Rastrigin => x.square() - (x * TAU).cos() * 10.0 + 10.0,
            Function::Levy => {
                // 1 + (x' − 1)/4, with x' = x + 1 so that the least value is at x = 0 as well.
                let w = x * 0.25 + 1.0;
                let first = R::select(at.index().cmp_eq(0.0), (w * PI).sin().square(), 0.0);
                let off = (w - 1.0).square();
                let inner = off * ((w * PI + 1.0).sin().square() * 10.0 + 1.0);
                let last = off * ((w * TAU).sin().square() + 1.0);
                first + R::select(at.index().lt(at.param(0) - 1.0), inner, last)
            }
        }
    }

    fn terminal<R: Real>(&self, at: &StepContext<R>, [squares, waves]: [R; 2]) -> R {
        if self.0 != Function::Ackley {
            return R::from(0.0);
        }
        let count = at.param(0);
        let (radius, wave) = ((squares / count).sqrt(), waves / count);
        (radius * -0.2).exp() * -20.0 - wave.exp() + (20.0 + std::f32::consts::E)
    }
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let engine = Engine::with_options(EngineOptions { backend: arguments.backend, ..Default::default() })?;
    let updates = arguments.updates.unwrap_or(if arguments.quick { 200 } else { 400 });
    say!("{} evaluations × {updates} updates on {}", arguments.samples, engine.name())?;
    say!("{:<10} {:>4} {:>11} {:>11} {:>11} {:>11} {:>8}", "function", "D", "random", "MPPI", "CEM", "MBD", "s (MBD)")?;
    let mut random = StdRng::seed_from_u64(arguments.seed);
    let dimensions: &[usize] = if arguments.quick { &[20, 200] } else { &[20, 200, 800] };
    let mut missed = Vec::new();
    for function in [Function::Ackley, Function::Rastrigin, Function::Levy] {
        for &dimension in dimensions {
            let least = (0..dimension).map(|_| random.random_range(-0.5_f32..0.5)).collect();
            let task =
                Task { engine: &engine, function, least, samples: arguments.samples, updates, seed: arguments.seed };
            let guessed = task.random(&mut random)?;
            let (mppi, cem) = (task.mppi(false)?, task.mppi(true)?);
            let clock = Instant::now();
            let mbd = task.diffusion()?;
            let took = clock.elapsed().as_secs_f64();
            say!(
                "{:<10} {dimension:>4} {guessed:>11.4} {mppi:>11.4} {cem:>11.4} {mbd:>11.4} {took:>8.2}",
                format!("{function:?}")
            )?;
            if mbd > guessed / 40.0 {
                missed.push(format!("{function:?} in {dimension} dimensions"));
            }
        }
    }
    if missed.is_empty() { Ok(()) } else { bail!("not near enough: {}", missed.join(", ")) }
}

/// A function to be minimized.
struct Task<'a> {
    engine: &'a Engine,
    function: Function,
    least: Vec<f32>,
    samples: usize,
    updates: usize,
    seed: u64,
}

impl Task<'_> {
    fn params(&self) -> Vec<f32> {
        vec![self.least.len() as f32]
    }

    fn references(&self) -> Option<References> {
        Some(References { values: self.least.clone(), columns: 1 })
    }

    /// Returns the best of as many random points of the box as the planners evaluate.
    fn random(&self, random: &mut StdRng) -> Result<f32> {
        let options = MppiOptions {
            task: gibbs::Task {
                horizon: self.least.len(),
                limits: Some(LIMITS),
                params: self.params(),
                references: self.references(),
                ..Default::default()
            },
            samples: self.samples,
            ..Default::default()
        };
        let mut planner = Mppi::new(self.engine, OfMany(self.function), options)?;
        let mut best = f32::MAX;
        for _ in 0..self.updates {
            let rows: Vec<f32> = (0..self.samples * self.least.len()).map(|_| random.random_range(-1.0..1.0)).collect();
            best = best.min(planner.plan_rows(&[0.0; 2], &rows)?.min_cost());
        }
        Ok(best)
    }

    fn mppi(&self, covariance_adaptation: bool) -> Result<f32> {
        let options = MppiOptions {
            task: gibbs::Task {
                horizon: self.least.len(),
                limits: Some(LIMITS),
                params: self.params(),
                references: self.references(),
                seed: self.seed,
                ..Default::default()
            },
            samples: self.samples,
            iterations: self.updates,
            weighting: if covariance_adaptation {
                Weighting::Elite(0.1)
            } else {
                Temperature::Standardized(0.1).into()
            },
            noise: Noise::Diagonal([if covariance_adaptation { 0.5 } else { 0.1 }]),
            covariance_adaptation: covariance_adaptation.then_some(1e-4),
            ..Default::default()
        };
        Ok(Mppi::new(self.engine, OfMany(self.function), options)?.plan(&[0.0; 2])?.cost())
    }

    fn diffusion(&self) -> Result<f32> {
        let options = DiffusionOptions {
            task: gibbs::Task {
                horizon: self.least.len(),
                limits: Some(LIMITS),
                params: self.params(),
                references: self.references(),
                seed: self.seed,
                ..Default::default()
            },
            samples: self.samples,
            process: ReverseProcess {
                schedule: Schedule::Geometric { levels: self.updates, smallest: 1e-3, largest: 0.5 },
                sampler: Sampler::ScoreAscent,
                width: SampleWidth::Posterior,
            },
            weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.2)),
            horizon_average: false,
            ..Default::default()
        };
        Ok(DiffusionPlanner::new(self.engine, OfMany(self.function), options)?.plan(&[0.0; 2])?.cost())
    }
}

const LIMITS: Limits<1> = Limits { low: [-1.0], high: [1.0] };
