//! Draws new samples from data sets by the ideal denoiser: a diffusion process that needs no network, since the mean of
//! the data under the posterior is a weighted mean of the rows themselves.
//!
//! The data are made here: points along a spiral, and pictures of 12 × 12 pixels that show a blurred spot somewhere.
//! Chains stop at a noise level about as wide as the distance between rows, and end with its denoised mean: a blend of
//! the nearest rows, not a copy of one. Guided by a reward, they prefer rewarded samples (the outer end of the spiral;
//! spots on the right), in accordance with weights e^{R/λ}.
//!
//! `cargo run --release --example denoise` prints the mean reward of the samples beside those of the data and of the
//! weighted data, and draws them to `denoise.png`. It fails unless they agree, or if more than 1 % are copies of rows.

#[path = "../common/arguments.rs"]
mod arguments;
#[path = "../common/canvas.rs"]
mod canvas;
mod data;
mod draw;
#[path = "../common/end.rs"]
mod end;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use gibbs::sampling::{ReverseProcess, SampleWidth, Sampler, Schedule};
use gibbs::{DiffusionSampler, DiffusionSamplerOptions, Engine, EngineOptions, Temperature, Weighting};

use arguments::Common;
use data::DataSet;
use end::say;

#[derive(Parser)]
#[command(about = "Draw new samples from data sets by the ideal denoiser, unguided and guided.")]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Rows of each data set
    #[arg(long, default_value_t = 4000)]
    rows: usize,
    /// Chains, each of which ends as one sample; at least 500
    #[arg(long, default_value_t = 1000)]
    chains: usize,
    /// Noise levels
    #[arg(long, default_value_t = 40)]
    levels: usize,
    /// 1,000 rows and 500 chains, whatever --rows and --chains say
    #[arg(long)]
    quick: bool,
}

/// Samples of one data set.
struct Drawn {
    data: DataSet,
    unguided: Vec<f32>,
    guided: Vec<f32>,
    /// The failed criterion, if any.
    failure: Option<anyhow::Error>,
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    // All levels of all chains are one submission, which takes long on a software adapter.
    let timeout = Duration::from_secs(600);
    let engine = arguments.common.engine(EngineOptions { timeout, ..Default::default() })?;
    let (rows, chains) = if arguments.quick { (1000, 500) } else { (arguments.rows, arguments.chains) };
    ensure!(chains >= 500, "--chains must be at least 500: fewer do not tell guided samples from others");
    say!("{rows} rows, {chains} chains, {} levels, on {}", arguments.levels, engine.name())?;
    say!("mean reward of the data and of the samples, and what it should be when guided by e^(R/λ)\n")?;
    say!("{:>8} {:>9} {:>9} {:>11} {:>9} {:>9}", "", "data", "unguided", "should be", "guided", "copies")?;
    let mut all = Vec::new();
    for data in [data::spiral(rows, arguments.common.seed), data::spots(rows, arguments.common.seed)] {
        all.push(denoise(&engine, arguments, chains, data)?);
    }
    let picture = arguments.common.picture("denoise.png")?;
    draw::samples(&picture, &all)?;
    say!("\ndrew {}", picture.display())?;
    all.into_iter().find_map(|drawn| drawn.failure).map_or(Ok(()), Err)
}

/// Samples a data set, unguided and guided, and compares both with the mean rewards of the rows and of the weighted
/// rows.
fn denoise(engine: &Engine, arguments: &Arguments, chains: usize, data: DataSet) -> Result<Drawn> {
    let options = DiffusionSamplerOptions {
        chains,
        process: ReverseProcess {
            schedule: Schedule::Geometric { levels: arguments.levels, smallest: data.apart, largest: data.wide },
            sampler: Sampler::Ddpm,
            width: SampleWidth::Posterior,
        },
        // λ, which divides the rewards.
        weighting: Weighting::Exponential(Temperature::Fixed(1.0)),
        seed: arguments.common.seed,
        ..Default::default()
    };
    let mut diffusion = DiffusionSampler::of_data(engine, &data.rows, data.width, options)?;
    let unguided = diffusion.sample()?.values().to_vec();
    let rewards: Vec<f32> = data.rows.chunks_exact(data.width).map(|row| (data.reward)(row)).collect();
    diffusion.guide(&rewards)?;
    let guided = diffusion.sample()?.values().to_vec();

    let of = |samples: &[f32]| {
        let rewards = samples.chunks_exact(data.width).map(|row| f64::from((data.reward)(row)));
        rewards.sum::<f64>() / (samples.len() / data.width) as f64
    };
    let weights: Vec<f64> = rewards.iter().map(|reward| f64::from(*reward).exp()).collect();
    let weighted: f64 = weights.iter().zip(&rewards).map(|(w, reward)| w * f64::from(*reward)).sum();
    let expected = weighted / weights.iter().sum::<f64>();
    let copies = copies(&data, &unguided) + copies(&data, &guided);
    let [own, found, led] = [of(&data.rows), of(&unguided), of(&guided)];
    say!("{:>8} {own:>9.3} {found:>9.3} {expected:>11.3} {led:>9.3} {copies:>9}", data.name)?;

    let failure = judge(&data, chains, [own, found, expected, led], copies).err();
    Ok(Drawn { data, unguided, guided, failure })
}

/// Checks mean rewards: of samples against rows, and of guided samples against weighted rows.
fn judge(data: &DataSet, chains: usize, [own, found, expected, led]: [f64; 4], copies: usize) -> Result<()> {
    // Five standard errors: rewards have a standard deviation of about one, divided by the square root of the number of
    // chains.
    let chance = 5.0 / (chains as f64).sqrt();
    ensure!((own - found).abs() < chance, "the samples of {} are not as its rows are", data.name);
    ensure!((expected - led).abs() < chance, "the guided samples of {} are not as its weighted rows are", data.name);
    ensure!(expected - own > 2.0 * chance, "the rewards of {} guide nowhere", data.name);
    // A row far from all others denoises to itself, so a few copies are allowed.
    ensure!(50 * copies <= chains, "{copies} samples of {} are copies of its rows", data.name);
    Ok(())
}

/// Counts the samples that equal rows of the data, to a hundredth of the noise at the last level.
fn copies(data: &DataSet, samples: &[f32]) -> usize {
    let near = |sample: &[f32], row: &[f32]| {
        let square: f32 = sample.iter().zip(row).map(|(a, b)| (a - b).powi(2)).sum();
        square.sqrt() < 0.01 * data.apart
    };
    let is_copy = |sample: &&[f32]| data.rows.chunks_exact(data.width).any(|row| near(sample, row));
    samples.chunks_exact(data.width).filter(is_copy).count()
}
