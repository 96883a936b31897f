//! Samples two-dimensional densities e^{−E} by a reverse diffusion process of 10,000 chains, whose score is a weighted
//! mean of K rows.
//!
//! `cargo run --release --example density` prints the distance of the samples from exact ones, which falls as K grows,
//! and draws samples over densities to `density.png`; `--help` lists what can be changed. `energies.rs` has a place for
//! an energy of your own. It fails unless the distance falls from K to K, to less than a fifth.

#[path = "../common/arguments.rs"]
mod arguments;
#[path = "../common/canvas.rs"]
mod canvas;
mod draw;
#[path = "../common/end.rs"]
mod end;
mod energies;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::{Parser, ValueEnum};
use gibbs::sampling::{Energy, ReverseProcess, SampleWidth, Sampler, Schedule};
use gibbs::{DiffusionSampler, DiffusionSamplerOptions, Engine, EngineOptions, StepContext};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use arguments::Common;
use end::say;
use energies::{Mixture, MuellerBrown, Own, Ring};

#[derive(Parser)]
#[command(
    about = "Sample two-dimensional densities by a reverse diffusion process with a weighted mean for its score."
)]
struct Arguments {
    /// What to sample [default: everything]
    #[arg(long, value_enum)]
    energy: Vec<Name>,
    #[command(flatten)]
    common: Common,
    /// Chains, each of which ends as one sample
    #[arg(long, default_value_t = 10_000)]
    chains: usize,
    /// Noise levels
    #[arg(long, default_value_t = 50)]
    levels: usize,
    /// Fewer rows
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    Mixture,
    Ring,
    MuellerBrown,
    Own,
}

/// Half the side of the square that is drawn and compared.
const REACH: f32 = 3.0;
/// The standard deviation of the noisiest level. Chains start from noise of that width, which must cover the density;
/// but the wider it is, the fewer of the rows drawn around a chain hit the density.
const WIDE: f32 = 4.0;
/// Cells per side of the grid that exact samples are drawn from.
const CELLS: usize = 1500;
/// Directions that distances are averaged over.
const DIRECTIONS: usize = 32;

type Points = Vec<[f32; 2]>;

/// The results for one energy.
struct Sampled {
    title: String,
    /// e^{−E} on the grid, row after row from the bottom.
    density: Vec<f64>,
    samples: Points,
    /// The failed criterion, if any.
    failure: Option<String>,
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.chains >= 100, "--chains must be at least 100");
    // All levels of all chains are one submission, which takes long on a software adapter.
    let timeout = Duration::from_secs(600);
    let engine = arguments.common.engine(EngineOptions { timeout, ..Default::default() })?;
    let counts: &[usize] = if arguments.quick { &[4, 16, 64] } else { &[4, 16, 64, 256, 1024] };
    say!("{} chains, {} levels, on {}", arguments.chains, arguments.levels, engine.name())?;
    say!("sliced Wasserstein distance to exact samples, by the rows K of a level:\n")?;
    let columns: String = counts.iter().map(|count| format!("{:>9}", format!("K = {count}"))).collect();
    say!("{:>14}{columns}{:>9}{:>9}", "", "chance", "s")?;
    let names = if arguments.energy.is_empty() { Name::value_variants() } else { &arguments.energy };
    let mut all = Vec::new();
    for name in names {
        let sample = Sample { engine: &engine, arguments, counts };
        all.push(match name {
            Name::Mixture => sample.of("mixture", || Mixture)?,
            Name::Ring => sample.of("ring", || Ring)?,
            Name::MuellerBrown => sample.of("Müller–Brown", || MuellerBrown)?,
            Name::Own => sample.of("your own", || Own)?,
        });
    }
    let picture = arguments.common.picture("density.png")?;
    draw::densities(&picture, &all)?;
    say!("\ndrew {}", picture.display())?;
    match all.into_iter().find_map(|sampled| sampled.failure) {
        Some(failure) => bail!(failure),
        None => Ok(()),
    }
}

struct Sample<'a> {
    engine: &'a Engine,
    arguments: &'a Arguments,
    counts: &'a [usize],
}

impl Sample<'_> {
    /// Samples an energy with every number of rows, and prints a line of distances.
    fn of<E: Energy<2>>(&self, title: &str, energy: impl Fn() -> E) -> Result<Sampled> {
        let density = density(&energy());
        let mut random = StdRng::seed_from_u64(self.arguments.common.seed ^ 0xe4ac);
        let exact = exact(&density, self.arguments.chains, &mut random);
        // The distance between two sets of exact samples: the floor that chance leaves.
        let chance = distance(&exact, &self::exact(&density, self.arguments.chains, &mut random));
        let clock = Instant::now();
        let mut distances = Vec::new();
        let mut samples = Vec::new();
        for &count in self.counts {
            let options = DiffusionSamplerOptions {
                chains: self.arguments.chains,
                samples: count,
                process: ReverseProcess {
                    schedule: Schedule::Geometric { levels: self.arguments.levels, smallest: 0.01, largest: WIDE },
                    sampler: Sampler::Ddpm,
                    width: SampleWidth::Posterior,
                },
                seed: self.arguments.common.seed,
                ..Default::default()
            };
            let mut diffusion = DiffusionSampler::of_energy(self.engine, energy(), options)?;
            samples = diffusion.sample()?.iter().map(|x| [x[0], x[1]]).collect();
            distances.push(distance(&samples, &exact));
        }
        let took = clock.elapsed().as_secs_f64();
        let row: String = distances.iter().map(|distance| format!("{distance:>9.4}")).collect();
        say!("{title:>14}{row}{chance:>9.4}{took:>9.1}")?;
        // Two sets of exact samples differ by chance; the same distance is allowed here.
        let falls = distances.windows(2).all(|pair| pair[1] < pair[0] + chance);
        let (first, last) = (distances[0], distances[distances.len() - 1]);
        if !falls || last > 0.2 * first + chance {
            let failure =
                format!("the samples of {title} come no nearer to exact ones with more rows: {distances:.4?}");
            return Ok(Sampled { title: title.into(), density, samples, failure: Some(failure) });
        }
        Ok(Sampled { title: title.into(), density, samples, failure: None })
    }
}

/// Returns the middle of a cell along one axis.
fn middle(cell: usize) -> f32 {
    REACH * ((2 * cell + 1) as f32 / CELLS as f32 - 1.0)
}

/// Evaluates e^{−E} on a grid over the square, relative to the densest cell.
fn density(energy: &impl Energy<2>) -> Vec<f64> {
    let at = StepContext::<f32>::new(0, 1.0);
    let cell = |i: usize| f64::from(energy.energy(&at, [middle(i % CELLS), middle(i / CELLS)]));
    let energies: Vec<f64> = (0..CELLS * CELLS).map(cell).collect();
    let least = energies.iter().copied().fold(f64::INFINITY, f64::min);
    energies.iter().map(|energy| (least - energy).exp()).collect()
}

/// Draws independent samples: a cell by its probability, then a point uniformly in it.
fn exact(density: &[f64], count: usize, random: &mut StdRng) -> Points {
    let mut sum = 0.0;
    let cumulative: Vec<f64> = density
        .iter()
        .map(|p| {
            sum += p;
            sum
        })
        .collect();
    let width = 2.0 * REACH / CELLS as f32;
    let mut draw = || {
        let u = random.random::<f64>() * sum;
        let cell = cumulative.partition_point(|c| *c < u).min(CELLS * CELLS - 1);
        let mut coordinate = |cell: usize| middle(cell) + width * (random.random::<f32>() - 0.5);
        [coordinate(cell % CELLS), coordinate(cell / CELLS)]
    };
    (0..count).map(|_| draw()).collect()
}

/// Returns the sliced Wasserstein distance of two sets of equally many points: the average distance that points of one
/// must be moved along a direction to become the other, averaged over several directions.
fn distance(a: &[[f32; 2]], b: &[[f32; 2]]) -> f64 {
    let along = |points: &[[f32; 2]], s: f32, c: f32| {
        let mut projected: Vec<f32> = points.iter().map(|[x, y]| c * x + s * y).collect();
        projected.sort_by(f32::total_cmp);
        projected
    };
    let apart = |i: usize| {
        let (s, c) = (std::f32::consts::PI * i as f32 / DIRECTIONS as f32).sin_cos();
        let pairs = along(a, s, c).into_iter().zip(along(b, s, c));
        pairs.map(|(p, q)| f64::from((p - q).abs())).sum::<f64>() / a.len() as f64
    };
    (0..DIRECTIONS).map(apart).sum::<f64>() / DIRECTIONS as f64
}
