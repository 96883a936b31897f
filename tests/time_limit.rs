//! `EngineOptions::timeout` limits the wait for work that makes no progress. It covers neither the compilation of
//! kernels nor a long list of updates that a software adapter works through one by one.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::gpu;
use gibbs::check::{Map, evaluate};
use gibbs::learning::{ActionNoise, Anneal, Estimator};
use gibbs::policies::LinearFeedback;
use gibbs::sampling::{Energy, ReverseProcess, SampleWidth, Sampler, Schedule};
use gibbs::{
    Backend, DiffusionSampler, DiffusionSamplerOptions, Engine, EngineOptions, Model, Mppi, MppiOptions,
    PolicyGradient, PolicyGradientOptions, Random, Real, StepContext, Task, Temperature, WeightedMean, Weighting,
};

/// A mass on a spring.
struct Spring;

impl Model<2, 1> for Spring {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> [R; 2] {
        [p + v * at.dt(), v + (u - p.sin()) * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> R {
        p.square() + v.square() * 0.1 + u.square() * 0.01
    }
}

/// A ring of radius 1.
struct Ring;

impl Energy<2> for Ring {
    #[inline(always)]
    fn energy<R: Real>(&self, _at: &StepContext<R>, [x, y]: [R; 2]) -> R {
        ((x.square() + y.square()).sqrt() - 1.0).square() * 50.0
    }
}

struct Cube;

impl Map<1, 1> for Cube {
    fn map<R: Real>(&self, [x]: [R; 1]) -> [R; 1] {
        [x * x * x]
    }
}

fn options(samples: usize) -> MppiOptions<1> {
    MppiOptions {
        task: Task { horizon: 8, ..Default::default() },
        samples,
        weighting: Temperature::Fixed(1.0).into(),
        ..Default::default()
    }
}

fn with_timeout(engine: &Engine, timeout: Duration) -> Engine {
    Engine::with_options(EngineOptions { timeout, ..engine.options().clone() }).unwrap()
}

/// Measures how long a build takes on an engine with a long time limit, then builds on an engine whose time limit is a
/// fourth of that, but long enough for a call on a busy machine. (A call takes a hundredth of the compile time of its
/// kernels.)
fn in_a_hurry<D>(what: &str, engine: &Engine, build: impl Fn(&Engine) -> D, call: impl FnOnce(&mut D)) {
    let clock = Instant::now();
    drop(build(engine));
    let timeout = (clock.elapsed() / 4).max(Duration::from_millis(200));
    let hasty = with_timeout(engine, timeout);
    let mut driver = build(&hasty);
    let clock = Instant::now();
    call(&mut driver);
    println!("{what}: called {:?}, with a time limit of {timeout:?}", clock.elapsed());
}

#[test]
fn no_call_times_out_because_a_kernel_is_new() {
    const NO_CACHE: &str = "MESA_SHADER_CACHE_DISABLE";
    if gpu().is_none() {
        return;
    }
    if std::env::var(NO_CACHE).is_ok_and(|value| value == "true") {
        return first_calls();
    }
    // Runs itself in another process with Mesa's kernel cache disabled, because Mesa reads the variable only once.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "no_call_times_out_because_a_kernel_is_new", "--nocapture", "--test-threads=1"])
        .env(NO_CACHE, "true")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    println!("{out}");
    assert!(child.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

fn first_calls() {
    let Some(engine) = gpu() else { return };
    let spring = |samples| move |engine: &Engine| Mppi::new(engine, Spring, options(samples)).unwrap();
    let rows = vec![0.1; 300 * 8];
    in_a_hurry("one kernel an update", &engine, spring(200), |mppi| {
        mppi.plan(&[1.0, 0.0]).unwrap();
        mppi.samples().unwrap();
    });
    in_a_hurry("several kernels an update", &engine, spring(300), |mppi| {
        mppi.plan(&[1.0, 0.0]).unwrap();
        mppi.samples().unwrap();
    });
    in_a_hurry("rows without preparation", &engine, spring(300), |mppi| {
        mppi.plan_rows(&[1.0, 0.0], &rows).unwrap();
        mppi.samples().unwrap();
    });
    let prepared = |engine: &Engine| {
        let mut mppi = spring(300)(engine);
        mppi.prepare_rows().unwrap();
        mppi
    };
    in_a_hurry("rows", &engine, prepared, |mppi| {
        mppi.plan_rows(&[1.0, 0.0], &rows).unwrap();
        mppi.samples().unwrap();
    });
    in_a_hurry("other options", &engine, spring(300), |mppi| {
        let weighting = Weighting::Exponential(Temperature::EffectiveSamples(0.5));
        mppi.set_options(MppiOptions { weighting, nominal_first: true, ..options(300) }).unwrap();
        mppi.plan(&[1.0, 0.0]).unwrap();
    });
    let chains = DiffusionSamplerOptions { chains: 4, samples: 64, process: process(5), ..Default::default() };
    in_a_hurry(
        "energy",
        &engine,
        |engine| DiffusionSampler::of_energy(engine, Ring, chains.clone()).unwrap(),
        |diffusion| {
            diffusion.sample().unwrap();
        },
    );
    let data: Vec<f32> = (0..80).map(|i| (i as f32).sin()).collect();
    let of_data = |engine: &Engine| DiffusionSampler::of_data(engine, &data, 2, chains.clone()).unwrap();
    in_a_hurry("data", &engine, of_data, |diffusion| {
        diffusion.sample().unwrap();
    });
    let scored = Estimator::ScoreFunction { std: [0.3], antithetic: false, action_noise: ActionNoise::Fixed };
    for rows in [Estimator::ParameterSpace { sigma: Anneal::from(0.1), antithetic: true, episodes: 2 }, scored] {
        let training = |engine: &Engine| {
            let options = PolicyGradientOptions {
                task: Task { horizon: 20, ..Default::default() },
                samples: 64,
                estimator: rows,
                ..Default::default()
            };
            let anywhere = |random: &mut Random, _: &mut [f32]| [random.normal(), random.normal()];
            PolicyGradient::new(engine, Spring, LinearFeedback, anywhere, options).unwrap()
        };
        in_a_hurry("training", &engine, training, |training| {
            training.step().unwrap();
        });
    }
    in_a_hurry("weighted mean", &engine, WeightedMean::new, |mean| {
        assert_eq!(mean.compute(&[1.0, 3.0], &[0.0, 0.0]).unwrap().mean(), [2.0]);
    });
    in_a_hurry("function", &engine, Engine::clone, |engine| {
        assert_eq!(evaluate(engine, &Cube, &[[2.0]]).unwrap(), [[8.0]]);
        engine.round_trip().unwrap();
    });
}

fn process(levels: usize) -> ReverseProcess {
    ReverseProcess {
        schedule: Schedule::Geometric { levels, smallest: 0.01, largest: 3.0 },
        sampler: Sampler::Ddpm,
        width: SampleWidth::Posterior,
    }
}

#[test]
fn a_long_list_of_updates_may_take_longer_than_the_limit_on_a_software_adapter() {
    let timeout = Duration::from_secs(120);
    let engine = Engine::with_options(EngineOptions { backend: Backend::Software, timeout, ..Default::default() });
    let Ok(engine) = engine else {
        assert!(std::env::var_os("GIBBS_REQUIRE_GPU").is_none(), "no software adapter");
        eprintln!("SKIPPED: no software adapter");
        return;
    };
    let levels = 100;
    let options = DiffusionSamplerOptions { chains: 64, samples: 2048, process: process(levels), ..Default::default() };
    let mut patient = DiffusionSampler::of_energy(&engine, Ring, options.clone()).unwrap();
    let first = patient.sample().unwrap().values().to_vec();
    let second = patient.sample().unwrap();
    let (second, total) = (second.values().to_vec(), second.timing().total);
    // A level takes a hundredth of the whole; the last limit is long enough for several of them in one submission.
    for (timeout, timestamps) in [(total / 5, false), (total / 5, true), (total * 2, false)] {
        let hasty = EngineOptions { timeout, timestamps, ..engine.options().clone() };
        let mut hasty =
            DiffusionSampler::of_energy(&Engine::with_options(hasty).unwrap(), Ring, options.clone()).unwrap();
        for expected in [&first, &second] {
            let chains = hasty.sample().unwrap_or_else(|error| panic!("{total:?} within {timeout:?}: {error}"));
            assert!(chains.values() == &expected[..], "the same numbers, however many submissions");
            assert_eq!(chains.timing().rollout.is_some(), timestamps);
        }
    }
}
