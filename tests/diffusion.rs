//! Reverse diffusion processes against closed forms, on every engine: the denoised mean of mixtures, of two points and
//! of Gaussian data, every sampler against its affine recursion, energies against data; and diffusion as a planner.

mod common;

use std::f32::consts::PI;

use common::{cpu, engines};
use gibbs::models::{CartPole, DoubleIntegrator};
use gibbs::sampling::{Energy, ReverseProcess, SampleWidth, Sampler, Schedule};
use gibbs::{
    DiffusionOptions, DiffusionPlanner, DiffusionSampler, DiffusionSamplerOptions, Engine, Grid, Limits, Model, Mppi,
    MppiOptions, Noise, PlanError, Real, StepContext, Task, Temperature, Weighting,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// One level of width σ, all the way to x̂₀.
fn denoised(sigma: f32) -> ReverseProcess {
    ReverseProcess {
        schedule: Schedule::Geometric { levels: 1, smallest: sigma, largest: sigma },
        sampler: Sampler::ScoreAscent,
        width: SampleWidth::Posterior,
    }
}

/// A mixture of two Gaussians of standard deviation 0.4 in the plane.
struct Mixture;

const WEIGHTS: [f64; 2] = [0.3, 0.7];
const MEANS: [[f64; 2]; 2] = [[-1.0, 0.5], [1.25, -0.25]];
const DEVIATION: f64 = 0.4;

impl Energy<2> for Mixture {
    #[inline(always)]
    fn energy<R: Real>(&self, _at: &StepContext<R>, [x, y]: [R; 2]) -> R {
        let mut density = R::from(0.0);
        for (weight, mean) in WEIGHTS.iter().zip(MEANS) {
            let square = (x - mean[0] as f32).square() + (y - mean[1] as f32).square();
            density += (square * (-0.5 / (DEVIATION * DEVIATION)) as f32).exp() * *weight as f32;
        }
        -(density.max(1e-30)).ln()
    }
}

impl Mixture {
    /// The mean and the variance (of one coordinate) of x₀ given x = x₀ + σ ε.
    fn posterior(x: [f64; 2], sigma: f64) -> ([f64; 2], f64) {
        let (s, total) = (DEVIATION * DEVIATION, DEVIATION * DEVIATION + sigma * sigma);
        let likelihood =
            |mean: [f64; 2]| (-((x[0] - mean[0]).powi(2) + (x[1] - mean[1]).powi(2)) / (2.0 * total)).exp();
        let parts = [0, 1].map(|k| WEIGHTS[k] * likelihood(MEANS[k]));
        let share = parts.map(|p| p / (parts[0] + parts[1]));
        let center = |k: usize, d: usize| MEANS[k][d] + s / total * (x[d] - MEANS[k][d]);
        let mean = [0, 1].map(|d| share[0] * center(0, d) + share[1] * center(1, d));
        let apart = (center(0, 0) - center(1, 0)).abs().max((center(0, 1) - center(1, 1)).abs());
        (mean, s * sigma * sigma / total + share[0] * share[1] * apart * apart)
    }

    fn data(rows: usize) -> Vec<f32> {
        let mut random = StdRng::seed_from_u64(5);
        let mut rows: Vec<[f64; 2]> = (0..rows)
            .map(|_| {
                let k = usize::from(random.random::<f64>() > WEIGHTS[0]);
                let radius = DEVIATION * (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
                let (s, c) = (std::f64::consts::TAU * random.random::<f64>()).sin_cos();
                [MEANS[k][0] + radius * c, MEANS[k][1] + radius * s]
            })
            .collect();
        rows.iter_mut().flatten().map(|v| *v as f32).collect()
    }
}

/// The chains before the level: a grid that covers both components.
fn grid() -> Vec<f32> {
    let at = |i: usize| -2.0 + 0.5 * i as f32;
    (0..81).flat_map(|i| [at(i % 9), at(i / 9)]).collect()
}

#[test]
fn energies_and_data_meet_in_the_denoised_mean_of_a_mixture() {
    for engine in engines() {
        for sigma in [0.3_f32, 1.0] {
            let options =
                DiffusionSamplerOptions { chains: 81, samples: 8192, process: denoised(sigma), ..Default::default() };
            let energy = DiffusionSampler::of_energy(&engine, Mixture, options.clone()).expect("good options");
            let data = DiffusionSampler::of_data(&engine, &Mixture::data(20_000), 2, options).expect("good options");
            for (what, mut diffusion) in [("energy", energy), ("data", data)] {
                let start = grid();
                let chains = diffusion.sample_from(&start).expect("finite energies");
                assert_eq!(chains.len(), 81);
                for (i, (x, from)) in chains.iter().zip(start.chunks_exact(2)).enumerate() {
                    let (mean, variance) = Mixture::posterior([from[0], from[1]].map(f64::from), f64::from(sigma));
                    let effective = f64::from(chains.effective_samples(i));
                    if effective < 50.0 {
                        // Skipped far from all rows, where the standard error cannot be estimated.
                        continue;
                    }
                    let error = (variance / effective).sqrt();
                    for d in 0..2 {
                        let off = (f64::from(x[d]) - mean[d]).abs();
                        assert!(
                            off < 5.0 * error + 1e-5,
                            "{what} on {}: {off} off at {from:?}, error {error}",
                            engine.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn two_points_are_told_apart_by_a_tanh() {
    for engine in engines() {
        for sigma in [0.25_f32, 0.7, 2.0] {
            let start: Vec<f32> = (0..41).map(|i| (i as f32 - 20.0) * 0.1).collect();
            let options =
                DiffusionSamplerOptions { chains: start.len(), process: denoised(sigma), ..Default::default() };
            let mut diffusion = DiffusionSampler::of_data(&engine, &[1.0, -1.0], 1, options).expect("good options");
            let chains = diffusion.sample_from(&start).expect("finite");
            for (i, (x, from)) in chains.iter().zip(&start).enumerate() {
                let truth = (from / (sigma * sigma)).tanh();
                assert!((x[0] - truth).abs() < 2e-5, "{}: {} instead of {truth} at {from}", engine.name(), x[0]);
                let density = |point: f32| (-f64::from(from - point).powi(2) / 2.0 / f64::from(sigma).powi(2)).exp();
                let (found, truth) = (f64::from(chains.log_z(i)), ((density(1.0) + density(-1.0)) / 2.0).ln());
                assert!(
                    (found - truth).abs() < 2e-5 * truth.abs().max(1.0),
                    "{}: log Z {found}, {truth}",
                    engine.name()
                );
            }
        }
    }
}

#[test]
fn rewards_guide_the_chains_of_a_data_set() {
    for engine in engines() {
        // Two points, one of which is rewarded: x̂₀ = tanh(x/σ² + (R₁ − R₂)/(2λ)).
        let options = DiffusionSamplerOptions {
            chains: 1,
            process: denoised(1.0),
            weighting: Weighting::Exponential(Temperature::Fixed(0.5)),
            ..Default::default()
        };
        let mut diffusion = DiffusionSampler::of_data(&engine, &[1.0, -1.0], 1, options).expect("good options");
        for (rewards, start) in [([0.0, 0.0], 0.3), ([1.0, 0.0], 0.3), ([-0.5, 0.5], -0.2)] {
            diffusion.guide(&rewards).expect("one for each");
            let chains = diffusion.sample_from(&[start]).expect("finite");
            let (x, truth) = (chains.values()[0], (start + (rewards[0] - rewards[1])).tanh());
            assert!((x - truth).abs() < 2e-5, "{}: {x} instead of {truth}", engine.name());
            let of = |point: f32, reward: f32| (-(start - point).powi(2) / 2.0 + reward / 0.5).exp();
            let (found, truth) = (chains.log_z(0), ((of(1.0, rewards[0]) + of(-1.0, rewards[1])) / 2.0).ln());
            assert!((found - truth).abs() < 2e-5, "{}: log Z {found} instead of {truth}", engine.name());
        }
    }
}

/// ½ (x − m)²/s².
struct Gaussian;

const MEAN: f64 = 0.5;
const STD_SCALE: f64 = 0.75;

impl Energy<1> for Gaussian {
    #[inline(always)]
    fn energy<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1]) -> R {
        (x - MEAN as f32).square() * (0.5 / (STD_SCALE * STD_SCALE)) as f32
    }
}

#[test]
fn every_sampler_follows_its_affine_recursion_on_gaussian_data() {
    const CHAINS: usize = 4000;
    let samplers = [
        Sampler::ScoreAscent,
        Sampler::Ddpm,
        Sampler::Ddim { eta: 0.0 },
        Sampler::Ddim { eta: 0.5 },
        Sampler::Ddim { eta: 1.0 },
        Sampler::Euler,
        Sampler::Langevin { steps: 3, rate: 0.2 },
    ];
    let schedule = Schedule::Geometric { levels: 8, smallest: 0.1, largest: 1.5 };
    let sigmas = schedule.sigmas();
    for engine in engines() {
        for sampler in samplers {
            // The recursion of mean M and variance V: the denoised mean is m + g (x − m) with g = s²/(s² + σ²).
            let (mut mean, mut variance) = (0.0, 1.0 + sigmas[7] * sigmas[7]);
            for (i, sigma) in sigmas.iter().enumerate().rev() {
                let below = if i == 0 { 0.0 } else { sigmas[i - 1] };
                let gain = STD_SCALE * STD_SCALE / (STD_SCALE * STD_SCALE + sigma * sigma);
                let eta = match sampler {
                    Sampler::Ddpm => 1.0,
                    Sampler::Ddim { eta } => f64::from(eta),
                    _ => 0.0,
                };
                let mut c = eta * below * (1.0 - below * below / (sigma * sigma)).sqrt();
                let mut b = (below * below - c * c).sqrt() / sigma;
                let mut steps = 1;
                match sampler {
                    Sampler::ScoreAscent => b = 0.0,
                    Sampler::Langevin { steps: n, rate } => {
                        let rate = f64::from(rate);
                        (b, c, steps) = (1.0 - rate, sigma * (2.0 * rate).sqrt(), n);
                    }
                    _ => {}
                }
                for _ in 0..steps {
                    let a = 1.0 - b;
                    mean = a * (MEAN + gain * (mean - MEAN)) + b * mean;
                    variance = (a * gain + b).powi(2) * variance + c * c;
                }
            }
            let process = ReverseProcess { schedule: schedule.clone(), sampler, width: SampleWidth::Posterior };
            let options =
                DiffusionSamplerOptions { chains: CHAINS, samples: 1024, process, seed: 3, ..Default::default() };
            let mut diffusion = DiffusionSampler::of_energy(&engine, Gaussian, options).expect("good options");
            let values: Vec<f64> = diffusion.sample().expect("finite").iter().map(|x| f64::from(x[0])).collect();
            let found = values.iter().sum::<f64>() / CHAINS as f64;
            let spread = values.iter().map(|x| (x - found).powi(2)).sum::<f64>() / (CHAINS - 1) as f64;
            // The mean over K rows is an estimate, whose variance adds to that of the chains.
            let rows = 10.0 * STD_SCALE * STD_SCALE / 1024.0;
            let error = ((variance + rows) / CHAINS as f64).sqrt();
            assert!((found - mean).abs() < 5.0 * error, "{sampler:?} on {}: {found}, not {mean}", engine.name());
            let error = (variance + rows) * (2.0 / CHAINS as f64).sqrt();
            assert!(
                (spread - variance).abs() < 5.0 * error + rows,
                "{sampler:?} on {}: a variance of {spread}, not {variance}",
                engine.name()
            );
        }
    }
}

/// Returns the squared energy distance between two samples of the plane: twice the mean distance across, minus those
/// within.
fn energy_distance(a: &[[f64; 2]], b: &[[f64; 2]]) -> f64 {
    let mean = |a: &[[f64; 2]], b: &[[f64; 2]]| {
        let sum: f64 = a.iter().map(|p| b.iter().map(|q| (p[0] - q[0]).hypot(p[1] - q[1])).sum::<f64>()).sum();
        sum / (a.len() * b.len()) as f64
    };
    2.0 * mean(a, b) - mean(a, a) - mean(b, b)
}

#[test]
fn chains_are_a_sample_of_the_density() {
    let points = |values: &[f32]| -> Vec<[f64; 2]> {
        values.as_chunks::<2>().0.iter().map(|[x, y]| [f64::from(*x), f64::from(*y)]).collect()
    };
    let exact = points(&Mixture::data(1500));
    for engine in engines() {
        let options = DiffusionSamplerOptions {
            chains: 1500,
            samples: 512,
            process: ReverseProcess {
                schedule: Schedule::Geometric { levels: 30, smallest: 0.02, largest: 2.5 },
                sampler: Sampler::Ddpm,
                ..Default::default()
            },
            ..Default::default()
        };
        let mut diffusion = DiffusionSampler::of_energy(&engine, Mixture, options.clone()).expect("good options");
        let first = points(diffusion.sample().expect("finite").values());
        let second = points(diffusion.sample().expect("finite").values());
        assert_ne!(first, second, "each call has noise of its own");
        diffusion.reset();
        assert_eq!(first, points(diffusion.sample().expect("finite").values()), "the same again after a reset");
        let distance = energy_distance(&first, &exact);
        assert!(distance < 0.01, "{}: {distance}", engine.name());
        // Trivial samplers fail this criterion: noise as wide as the prior, and the modes without noise.
        let process = ReverseProcess { sampler: Sampler::ScoreAscent, ..options.process.clone() };
        let options = DiffusionSamplerOptions { process, ..options };
        let mut modes = DiffusionSampler::of_energy(&engine, Mixture, options).expect("good options");
        let modes = points(modes.sample().expect("finite").values());
        assert!(energy_distance(&modes, &exact) > 0.03, "{}", engine.name());
        let noise: Vec<[f64; 2]> = first.iter().map(|[x, y]| [2.7 * x, 2.7 * y]).collect();
        assert!(energy_distance(&noise, &exact) > 0.03);
    }
}

/// MPPI, and a reverse process of one level, on the same rows.
fn one_step<const N: usize, const M: usize, D: Model<N, M> + Clone>(
    engine: &Engine,
    model: D,
    x: [f32; N],
    sampler: Sampler,
) -> [Vec<[f32; M]>; 2] {
    let (noise, weighting) = (Noise::Diagonal([0.8; M]), Weighting::Exponential(Temperature::Fixed(0.7)));
    let limits = Some(Limits { low: [-1.5; M], high: [1.5; M] });
    let mppi = MppiOptions {
        task: Task { horizon: 21, dt: 0.05, limits, seed: 11, ..Default::default() },
        samples: 3000,
        noise,
        weighting,
        ..Default::default()
    };
    let diffusion = DiffusionOptions {
        task: Task { horizon: 21, dt: 0.05, limits, seed: 11, ..Default::default() },
        samples: 3000,
        noise,
        weighting,
        horizon_average: false,
        process: ReverseProcess { sampler, ..denoised(1.0) },
        ..Default::default()
    };
    let mut mppi = Mppi::new(engine, model.clone(), mppi).expect("good options");
    let mut diffusion = DiffusionPlanner::new(engine, model, diffusion).expect("good options");
    [mppi.plan(&x).expect("finite").controls().to_vec(), diffusion.plan(&x).expect("finite").controls().to_vec()]
}

#[test]
fn one_level_of_diffusion_is_one_step_of_mppi() {
    for engine in engines() {
        for sampler in [Sampler::ScoreAscent, Sampler::Euler, Sampler::Ddpm] {
            let [mppi, diffusion] = one_step(&engine, CartPole::default(), [0.0, 0.0, 0.3, 0.0], sampler);
            assert_eq!(mppi, diffusion, "{sampler:?} on {}", engine.name());
            assert!(mppi.as_flattened().iter().any(|u| u.abs() > 1e-3));
        }
    }
}

/// A task: come to rest at the origin.
fn reach() -> (DoubleIntegrator, DiffusionOptions<2>) {
    let options = DiffusionOptions {
        task: Task {
            horizon: 40,
            dt: 0.1,
            limits: Some(Limits { low: [-2.0; 2], high: [2.0; 2] }),
            ..Default::default()
        },
        samples: 512,
        process: ReverseProcess {
            schedule: Schedule::Geometric { levels: 30, smallest: 0.05, largest: 1.5 },
            ..Default::default()
        },
        ..Default::default()
    };
    (DoubleIntegrator::default(), options)
}

#[test]
fn chains_of_a_planner_differ_and_the_best_is_the_plan() {
    let (model, options) = reach();
    let start = [-1.0, 0.5, 0.0, 0.0];
    for engine in engines() {
        for sampler in [Sampler::ScoreAscent, Sampler::Ddpm, Sampler::Ddim { eta: 0.0 }] {
            let process = ReverseProcess { sampler, ..options.process.clone() };
            let options = DiffusionOptions { chains: 4, scatter: true, process, ..options.clone() };
            let mut planner = DiffusionPlanner::new(&engine, model, options).expect("good options");
            let idle = planner.simulate(&start, &[[0.0; 2]; 40]).expect("finite").1;
            let plan = planner.plan(&start).expect("finite").clone();
            let chains: Vec<_> = planner.chains().map(<[_]>::to_vec).collect();
            assert_eq!(chains.len(), 4);
            assert!(chains[0] != chains[1] && chains.contains(&plan.controls().to_vec()));
            for chain in &chains {
                let cost = planner.simulate(&start, chain).expect("finite").1;
                assert!(plan.cost() <= cost + 1e-6, "{sampler:?}: the plan costs {}, a chain {cost}", plan.cost());
                assert!(chain.as_flattened().iter().all(|u| u.abs() <= 2.0));
            }
            assert!(plan.cost() < 0.5 * idle, "{sampler:?} on {}: {} of {idle}", engine.name(), plan.cost());
        }
    }
}

#[test]
fn fewer_updates_are_the_beginning_of_more() {
    let (model, options) = reach();
    let mut planner = DiffusionPlanner::new(&cpu(), model, options).expect("good options");
    let x = [-1.0, 0.5, 0.0, 0.0];
    let mut costs = Vec::new();
    for updates in [1, 10, 30] {
        planner.reset();
        costs.push(planner.plan_first(&x, updates).expect("finite").cost());
    }
    planner.reset();
    let whole = planner.plan(&x).expect("finite").cost();
    assert_eq!(costs[2], whole);
    assert!(costs[0] > costs[1] && costs[1] > costs[2], "{costs:?}");
}

/// Returns the mean angle of a cart-pole from upright over the last second of four, in closed loop with a planner.
fn balanced(mut next: impl FnMut([f32; 4]) -> f32) -> f32 {
    let (model, at) = (CartPole::default(), StepContext::new(0, 0.02));
    let mut x = [0.0, 0.0, PI + 0.25, 0.0];
    let mut off = 0.0;
    for t in 0..200 {
        x = model.step(&at, x, [next(x)]);
        if t >= 150 {
            off += (x[2] - PI).abs() / 50.0;
        }
    }
    off
}

#[test]
fn a_warm_start_and_three_levels_per_step_balance_a_pole() {
    for engine in engines() {
        let options = DiffusionOptions {
            task: Task {
                horizon: 40,
                dt: 0.02,
                limits: Some(Limits { low: [-10.0], high: [10.0] }),
                ..Default::default()
            },
            samples: 512,
            noise: Noise::Diagonal([6.0]),
            process: ReverseProcess { schedule: Schedule::annealed(3, 0.5), ..Default::default() },
            horizon_annealing: Some(0.8),
            ..Default::default()
        };
        let mut planner = DiffusionPlanner::new(&engine, CartPole::default(), options).expect("good options");
        let off = balanced(|x| {
            let u = planner.plan(&x).expect("finite").controls()[0][0];
            planner.shift(1);
            u
        });
        assert!(off < 0.05, "{}: {off} rad from upright", engine.name());
        assert!(balanced(|_| 0.0) > 0.5, "without control it falls");
    }
}

/// A point on a line that is rewarded only near 3, with a demonstration of the way there.
#[derive(Clone)]
struct Shown;

impl Model<1, 1> for Shown {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
        [x + u * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1], _u: [R; 1]) -> R {
        let near = (x - 3.0).abs().min(0.2) * 5.0;
        near.square()
    }
    #[inline(always)]
    fn demonstration_cost<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1]) -> R {
        (x - at.reference(0)).square()
    }
}

#[test]
fn a_demonstration_leads_where_no_row_would_get() {
    let way: Vec<f32> = (0..40).map(|t| (0.1 * (t + 1) as f32).min(3.0)).collect();
    for engine in engines() {
        let options = |demonstration: Option<f32>| DiffusionOptions {
            task: Task {
                horizon: 40,
                dt: 0.1,
                limits: Some(Limits { low: [-1.0], high: [1.0] }),
                references: Some(gibbs::References { values: way.clone(), columns: 1 }),
                ..Default::default()
            },
            samples: 1024,
            demonstration,
            ..Default::default()
        };
        let cost = |demonstration| {
            let mut planner = DiffusionPlanner::new(&engine, Shown, options(demonstration)).expect("good options");
            planner.plan(&[0.0]).expect("finite").cost()
        };
        // The cost is flat where random rows get, and at full speed 28 of the 40 steps are charged: 0.7 is optimal.
        let (alone, shown) = (cost(None), cost(Some(0.3)));
        assert!(alone > 0.99, "{}: {alone} without a demonstration", engine.name());
        assert!(shown < 0.75, "{}: {shown} with one", engine.name());
    }
}

/// An energy that reads inputs which sampling does not provide.
struct Following;

impl Energy<1> for Following {
    #[inline(always)]
    fn energy<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1]) -> R {
        (x - at.reference(1)).square()
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let engine = cpu();
    let refused = |result: Result<DiffusionSampler, gibbs::BuildError>, hint: &str| {
        let error = result.expect_err(hint).to_string();
        assert!(error.contains(hint), "{error} does not mention {hint}");
    };
    let good = DiffusionSamplerOptions { chains: 2, samples: 8, ..Default::default() };
    refused(DiffusionSampler::of_data(&engine, &[], 2, good.clone()), "rows");
    refused(DiffusionSampler::of_data(&engine, &[1.0, 2.0, 3.0], 2, good.clone()), "whole rows");
    refused(DiffusionSampler::of_data(&engine, &[1.0, 2.0], 0, good.clone()), "whole rows");
    refused(DiffusionSampler::of_data(&engine, &[1.0, f32::NAN], 1, good.clone()), "NaN at index 1");
    let warm = DiffusionSamplerOptions {
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.5)),
        ..good.clone()
    };
    refused(DiffusionSampler::of_data(&engine, &[1.0], 1, warm), "weighting");
    let boxed = DiffusionSamplerOptions { limits: Some([-1.0, 1.0]), ..good.clone() };
    refused(DiffusionSampler::of_data(&engine, &[1.0], 1, boxed), "limits");
    let with = |process: ReverseProcess| DiffusionSamplerOptions { process, ..good.clone() };
    let narrower = with(ReverseProcess { width: SampleWidth::Published, ..Default::default() });
    refused(DiffusionSampler::of_data(&engine, &[1.0], 1, narrower), "width");
    let still = Schedule::Linear { levels: 5, first: 1e-17, last: 1e-17 };
    refused(
        DiffusionSampler::of_data(&engine, &[1.0], 1, with(ReverseProcess { schedule: still, ..Default::default() })),
        "noisiest",
    );
    let endless = ReverseProcess { sampler: Sampler::Langevin { steps: 10_000, rate: 0.1 }, ..Default::default() };
    refused(DiffusionSampler::of_energy(&engine, Gaussian, with(endless)), "steps");
    let scheduled = |schedule| with(ReverseProcess { schedule, ..Default::default() });
    refused(DiffusionSampler::of_energy(&engine, Gaussian, scheduled(Schedule::Table(vec![0.5, 0.9]))), "falls");
    refused(DiffusionSampler::of_energy(&engine, Gaussian, scheduled(Schedule::Table(vec![1.5]))), "(0, 1]");
    refused(DiffusionSampler::of_energy(&engine, Gaussian, scheduled(Schedule::Table(vec![]))), "levels");
    let sampled = |sampler| with(ReverseProcess { sampler, ..Default::default() });
    refused(DiffusionSampler::of_energy(&engine, Gaussian, sampled(Sampler::Ddim { eta: 1.5 })), "eta");
    refused(
        DiffusionSampler::of_energy(&engine, Gaussian, sampled(Sampler::Langevin { steps: 0, rate: 0.1 })),
        "steps",
    );
    refused(
        DiffusionSampler::of_energy(&engine, Gaussian, sampled(Sampler::Langevin { steps: 1, rate: f32::NAN })),
        "rate",
    );
    refused(
        DiffusionSampler::of_energy(&engine, Gaussian, DiffusionSamplerOptions { chains: 0, ..good.clone() }),
        "chains",
    );
    refused(
        DiffusionSampler::of_energy(&engine, Gaussian, DiffusionSamplerOptions { samples: 0, ..good.clone() }),
        "samples",
    );
    let limits = Some([1.0, -1.0]);
    refused(
        DiffusionSampler::of_energy(&engine, Gaussian, DiffusionSamplerOptions { limits, ..good.clone() }),
        "limits",
    );
    // A rollout would lack the references, and on an adapter read other data.
    refused(
        DiffusionSampler::of_energy(&engine, Following, good.clone()),
        "`energy` is one that reads reference column 1",
    );

    let mut diffusion = DiffusionSampler::of_data(&engine, &[1.0, -1.0], 1, good.clone()).expect("good options");
    assert!(diffusion.guide(&[1.0]).expect_err("one is missing").to_string().contains("rewards"));
    assert!(diffusion.guide(&[1.0, f32::INFINITY]).is_err());
    assert!(diffusion.sample_from(&[0.0]).expect_err("one is missing").to_string().contains("start"));
    assert!(diffusion.sample().is_ok(), "nothing is lost");

    // Regression test: parameters shifted the rewards that are stored after them.
    diffusion.guide(&[0.0, 50.0]).expect("good rewards");
    for params in [&[][..], &[0.5], &[0.5; 9]] {
        let error = diffusion.set_params(params).expect_err("a data set has none");
        assert_eq!(error.field, "params", "{error}");
    }
    let chains = diffusion.sample().expect("nothing is lost");
    assert!(chains.values().iter().all(|x| (x + 1.0).abs() < 0.2), "{:?}", chains.values());

    let (model, options) = reach();
    for (options, hint) in [
        (DiffusionOptions { chains: 0, ..options.clone() }, "chains"),
        (DiffusionOptions { weighting: Weighting::Signed { standardized: true }, ..options.clone() }, "weighting"),
        (DiffusionOptions { horizon_annealing: Some(0.0), ..options.clone() }, "horizon_annealing"),
        (DiffusionOptions { demonstration: Some(f32::NAN), ..options.clone() }, "demonstration"),
        (
            DiffusionOptions { weighting: Weighting::Exponential(Temperature::Standardized(0.0)), ..options.clone() },
            "weighting",
        ),
        (DiffusionOptions { weighting: Weighting::Exponential(Temperature::Divergence(-1.0)), ..options }, "weighting"),
    ] {
        let error = DiffusionPlanner::new(&engine, model, options).expect_err(hint).to_string();
        assert!(error.contains(hint), "{error}");
    }
}

/// An energy that is finite right of 0 only, or nowhere if parameter 0 is 1.
struct Broken;

impl Energy<1> for Broken {
    #[inline(always)]
    fn energy<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1]) -> R {
        let huge = (x.square() + 1.0) * 3e38;
        R::select(x.gt(0.0) & at.param(0).lt(0.5), x.square(), huge * 3e38)
    }
}

#[test]
fn rows_without_energy_weigh_nothing_and_chains_without_rows_are_told() {
    for engine in engines() {
        let options = DiffusionSamplerOptions {
            chains: 2,
            samples: 256,
            params: vec![0.0],
            process: denoised(0.1),
            ..Default::default()
        };
        let mut diffusion = DiffusionSampler::of_energy(&engine, Broken, options).expect("good options");
        let chains = diffusion.sample_from(&[0.05, -5.0]).expect("one of them works");
        assert_eq!(chains.failed(), 1);
        assert!(chains.values()[0] > 0.05, "only what is right of 0 counts");
        assert_eq!(chains.values()[1], -5.0, "it stands still");
        assert_eq!(chains.effective_samples(1), 0.0);
        diffusion.set_params(&[1.0]).expect("one parameter");
        assert!(matches!(diffusion.sample(), Err(PlanError::NoFiniteRow { rows: 256 })));
        diffusion.set_params(&[0.0]).expect("one parameter");
        assert!(diffusion.sample_from(&[0.5, 0.5]).is_ok(), "nothing is lost");
        assert!(diffusion.set_params(&[]).is_err());
    }
}

/// A parabola around a point that a field gives.
struct Mapped;

impl Energy<1> for Mapped {
    #[inline(always)]
    fn energy<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1]) -> R {
        (x - at.sample(0, R::from(0.5), R::from(0.5)) - at.param(0)).square()
    }
}

#[test]
fn inputs_and_seed_may_change_between_samples() {
    let level = |value: f32| Grid::new(1, 1, 1.0, [0.0, 0.0], vec![value]).expect("one sample");
    for engine in engines() {
        let build = |field: f32, param: f32, seed: u64| {
            let options = DiffusionSamplerOptions {
                chains: 3,
                samples: 65,
                params: vec![param],
                fields: vec![level(field)],
                seed,
                process: denoised(0.5),
                ..Default::default()
            };
            DiffusionSampler::of_energy(&engine, Mapped, options).expect("valid")
        };
        let mut given = build(2.0, -0.5, 8);
        let mut changed = build(0.25, 3.0, 5);
        changed.sample().expect("finite");
        changed.set_field(0, level(2.0)).expect("there is one");
        changed.set_params(&[-0.5]).expect("one parameter");
        changed.reseed(8);
        assert_eq!(changed.options(), given.options());
        assert_eq!(changed.sample().expect("finite").values(), given.sample().expect("finite").values());
        assert_eq!(changed.set_field(1, level(0.0)).expect_err("there is one").field, "field");
        let signed = Weighting::Signed { standardized: false };
        let options = DiffusionSamplerOptions { weighting: signed, ..given.options().clone() };
        let error = DiffusionSampler::of_energy(&engine, Mapped, options).expect_err("no mean").to_string();
        assert!(error.contains("weighting"), "{error}");
    }
}
