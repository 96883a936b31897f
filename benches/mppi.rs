//! One MPPI update of the cart-pole, stage by stage, by samples K and horizon T, on the CPU and on an adapter if there is
//! one.
//!
//! `cargo bench --bench mppi`; `cargo bench --bench mppi -- 'cpu/plan/8192x100'` for one of them. The names are
//! backend/stage/K×T; the stages are those of [`Timing`], as the device itself measures them, and `plan` is the whole call as
//! its caller waits for it.

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use gibbs::models::CartPole;
use gibbs::{Backend, Engine, EngineOptions, Limits, Mppi, MppiOptions, Noise, Temperature, Timing};

const SAMPLES: [usize; 4] = [128, 1024, 8192, 65536];
const HORIZONS: [usize; 2] = [20, 100];
const STATE: [f32; 4] = [0.3, -0.2, 2.0, 0.5];

type Stage = fn(Timing) -> Option<Duration>;
const STAGES: [(&str, Stage); 4] = [
    ("rollout", |timing| timing.rollout),
    ("weigh", |timing| timing.weigh),
    ("mean", |timing| timing.mean),
    ("plan", |timing| Some(timing.total)),
];

/// The CPU, and the best adapter: a hardware GPU, else a software one.
fn engines() -> Vec<Engine> {
    let with = |backend| Engine::with(EngineOptions { backend, ..Default::default() });
    let adapter = with(Backend::Gpu).or_else(|_| with(Backend::Software));
    with(Backend::Cpu).into_iter().chain(adapter).collect()
}

fn controller(engine: &Engine, samples: usize, horizon: usize) -> Mppi<4, 1, CartPole> {
    let options = MppiOptions {
        horizon,
        samples,
        temperature: Temperature::Fixed(10.0),
        noise: Noise::Diagonal([5.0]),
        limits: Some(Limits { low: [-20.0], high: [20.0] }),
        ..Default::default()
    };
    Mppi::new(engine, CartPole::default(), options).expect("these options are valid")
}

fn stages(criterion: &mut Criterion) {
    for engine in engines() {
        println!("{}: {}", engine.backend(), engine.name());
        for (name, stage) in STAGES {
            let mut group = criterion.benchmark_group(format!("{}/{name}", engine.backend()));
            // Every iteration of every stage is a whole plan, so the sampling has to be frugal.
            group.sampling_mode(SamplingMode::Flat).sample_size(10);
            group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
            for (samples, horizon) in SAMPLES.into_iter().flat_map(|k| HORIZONS.map(|t| (k, t))) {
                let mut mppi = controller(&engine, samples, horizon);
                let mut plan = || mppi.plan(&STATE).expect("the state is finite").timing();
                if stage(plan()).is_none() {
                    println!("{}/{name}: this device has no clock", engine.backend());
                    break;
                }
                // Weighing sees a rollout's cost, everything else its steps.
                let elements = if name == "weigh" { samples } else { samples * horizon };
                group.throughput(Throughput::Elements(elements as u64));
                group.bench_function(format!("{samples}x{horizon}"), |bencher| {
                    bencher.iter_custom(|plans| (0..plans).filter_map(|_| stage(plan())).sum());
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, stages);
criterion_main!(benches);
