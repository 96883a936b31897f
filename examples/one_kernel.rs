//! Runs one update by each of the three drivers on the same rows, with the same result.
//!
//! `cargo run --release --example one_kernel` plans for a cart-pole by MPPI, by one natural step of the exponentiated
//! policy gradient of an open-loop policy, and by one level of a diffusion process: on the CPU, and on a GPU and a
//! software adapter where available. It prints the three plans side by side and explains why they agree, and it fails
//! unless they do, up to f32 rounding.

#[path = "common/end.rs"]
mod end;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use gibbs::learning::{Estimator, Step};
use gibbs::models::CartPole;
use gibbs::policies::OpenLoop;
use gibbs::sampling::{ReverseProcess, SampleWidth, Sampler, Schedule};
use gibbs::{
    Backend, DiffusionOptions, DiffusionPlanner, Engine, EngineOptions, Mppi, MppiOptions, Noise, PolicyGradient,
    PolicyGradientOptions, Random, Task, Temperature, Weighting,
};

use end::say;

#[derive(Parser)]
#[command(about = "Make one update by each of the three drivers on the same rows, with the same result.")]
struct Arguments {}

const HORIZON: usize = 40;
const SAMPLES: usize = 4096;
const DT: f32 = 0.02;
/// The standard deviation of the rows (N).
const SIGMA: f32 = 4.0;
const LAMBDA: f32 = 50.0;
const SEED: u64 = 2502;
/// The pole leans by 0.2 rad and falls.
const START: [f32; 4] = [0.3, 0.0, std::f32::consts::PI + 0.2, 0.5];
/// The tolerance between two plans (N), for forces of a few N: f32 has 24 bits.
const ROUNDING: f32 = 1e-5;

fn main() -> ExitCode {
    end::run(|Arguments {}| run())
}

fn run() -> Result<()> {
    say!("One update of {HORIZON} forces from {SAMPLES} rows, θ⁺ = x⁺ = u⁺ = Σ w_k (u + ε_k), w = softmax(−S/λ).")?;
    let mut worst = 0.0_f32;
    for backend in [Backend::Cpu, Backend::Gpu, Backend::Software] {
        let Ok(engine) = Engine::with_options(EngineOptions { backend, ..Default::default() }) else { continue };
        let columns = [mppi(&engine)?, policy_gradient(&engine)?, diffusion(&engine)?];
        say!("\n{}", engine.name())?;
        say!("{:>4}{:>14}{:>18}{:>14}", "t", "MPPI", "policy gradient", "diffusion")?;
        for t in (0..HORIZON).step_by(5) {
            say!("{t:>4}{:>14.7}{:>18.7}{:>14.7}", columns[0][t], columns[1][t], columns[2][t])?;
        }
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let most = apart(&columns[0], &columns[1]).max(apart(&columns[0], &columns[2]));
        let moved = columns[0].iter().map(|u| u.abs()).fold(0.0, f32::max);
        say!("furthest apart: {most:.1e} N, in forces of up to {moved:.1} N")?;
        ensure!(moved > 0.1, "nothing was planned");
        worst = worst.max(most);
    }
    say!(
        "\nWhy. The gradient of log E e^{{−S/λ}} over rows N(u, σ²) is (Σ w_k u_k − u)/σ².\n\
         MPPI goes to the mean Σ w_k u_k. The natural gradient multiplies by σ², the inverse of Fisher's information of\n\
         N(u, σ²), so that a step of rate 1 is Σ w_k u_k − u. The score of the density smoothed by a level σ is that gradient\n\
         too, and the last step of the reverse process, to σ' = 0, adds σ² times it. All three weigh and average by the same code."
    )?;
    ensure!(worst < ROUNDING, "they are {worst:.1e} N apart, more than f32 rounds");
    Ok(())
}

/// MPPI: one call with one update.
fn mppi(engine: &Engine) -> Result<Vec<f32>> {
    let options = MppiOptions {
        task: Task { horizon: HORIZON, dt: DT, seed: SEED, ..Default::default() },
        samples: SAMPLES,
        weighting: Weighting::Exponential(Temperature::Fixed(LAMBDA)),
        noise: Noise::Diagonal([SIGMA]),
        ..Default::default()
    };
    let mut mppi = Mppi::new(engine, CartPole::default(), options)?;
    Ok(mppi.plan(&START)?.controls().as_flattened().to_vec())
}

/// The exponentiated policy gradient: one natural step on the forces of an open-loop policy.
fn policy_gradient(engine: &Engine) -> Result<Vec<f32>> {
    let options = PolicyGradientOptions {
        task: Task { horizon: HORIZON, dt: DT, seed: SEED, ..Default::default() },
        samples: SAMPLES,
        estimator: Estimator::ParameterSpace { sigma: SIGMA.into(), antithetic: false, episodes: 1 },
        weighting: Weighting::Exponential(Temperature::Fixed(LAMBDA)),
        step: Step::Natural { rate: 1.0.into() },
        ..Default::default()
    };
    let policy = OpenLoop { horizon: HORIZON };
    let always = |_: &mut Random, _: &mut [f32]| START;
    let mut training = PolicyGradient::new(engine, CartPole::default(), policy, always, options)?;
    training.step()?;
    Ok(training.theta(0)?.to_vec())
}

/// Diffusion: one level of σ, from which Euler's step goes to σ' = 0.
fn diffusion(engine: &Engine) -> Result<Vec<f32>> {
    let options = DiffusionOptions {
        task: Task { horizon: HORIZON, dt: DT, seed: SEED, ..Default::default() },
        samples: SAMPLES,
        process: ReverseProcess {
            schedule: Schedule::Geometric { levels: 1, smallest: 1.0, largest: 1.0 },
            sampler: Sampler::Euler,
            width: SampleWidth::Posterior,
        },
        weighting: Weighting::Exponential(Temperature::Fixed(LAMBDA)),
        noise: Noise::Diagonal([SIGMA]),
        horizon_average: false,
        ..Default::default()
    };
    let mut planner = DiffusionPlanner::new(engine, CartPole::default(), options)?;
    Ok(planner.plan(&START)?.controls().as_flattened().to_vec())
}
