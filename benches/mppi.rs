//! One update of MPPI, stage by stage, by model, samples K and horizon T, on the CPU and on an adapter if there is one.
//!
//! ```sh
//! cargo bench --bench mppi                                    # all of them: six minutes on two cores
//! cargo bench --bench mppi -- cpu/cart-pole/plan/8192x100     # one of them; any part of a name will do
//! ```
//!
//! The names are backend/model/stage/K×T. The stages are those of [`Timing`], as measured by the device itself, in a
//! call that separates them; `plan` is the wall time of a whole call, which does not separate them. The throughput is
//! in rollout steps, for `weigh` in rollouts.

mod common;

use std::time::Duration;

use common::{Plan, TASKS, Task};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use gibbs::runtime::Timing;
use gibbs::{Backend, Engine};

const SAMPLES: [usize; 5] = [128, 1024, 8192, 65536, 1 << 20];
const HORIZONS: [usize; 4] = [16, 50, 100, 200];

type StepContext = fn(Timing) -> Option<Duration>;
const STAGES: [(&str, StepContext); 4] = [
    ("rollout", |timing| timing.rollout),
    ("weigh", |timing| timing.weigh),
    ("mean", |timing| timing.mean),
    ("plan", |timing| Some(timing.total)),
];

/// The maximum number of controls, K·T·M, of a benchmark by device.
fn most(backend: Backend) -> usize {
    match backend {
        // Half a gigabyte of rows.
        Backend::Cpu => 1 << 27,
        Backend::Software => 1 << 24,
        // It must not exceed 2³¹.
        _ => 1 << 30,
    }
}

fn sizes(engine: &Engine, task: &Task) -> Vec<(usize, usize)> {
    let all = SAMPLES.into_iter().flat_map(|samples| HORIZONS.map(|horizon| (samples, horizon)));
    let fits = |(samples, horizon): &(usize, usize)| samples * horizon * task.controls <= most(engine.backend());
    let (taken, left): (Vec<_>, Vec<_>) = all.partition(fits);
    if !left.is_empty() {
        let left: Vec<_> = left.iter().map(|(samples, horizon)| format!("{samples}x{horizon}")).collect();
        let (backend, most) = (engine.backend(), most(engine.backend()));
        println!("{backend}/{}: left out, with more than {most} controls: {}", task.name, left.join(", "));
    }
    taken
}

fn updates(criterion: &mut Criterion) {
    for engine in std::iter::once(common::cpu()).chain(common::adapter()) {
        let backend = engine.backend();
        println!("{backend}: {}", engine.name());
        let in_stages = common::in_stages(&engine).expect("the device is there");
        let timed = common::cart_pole(&in_stages, 1024, 16)();
        for task in &TASKS {
            let sizes = sizes(&engine, task);
            for (name, stage) in STAGES {
                if stage(timed).is_none() {
                    println!("{backend}/{}/{name}: this device has no clock", task.name);
                    continue;
                }
                let engine = if name == "plan" { &engine } else { &in_stages };
                let mut group = criterion.benchmark_group(format!("{backend}/{}/{name}", task.name));
                // Every iteration of every stage is a whole plan, so few samples are taken.
                group.sampling_mode(SamplingMode::Flat).sample_size(10).nresamples(2000);
                group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
                for &(samples, horizon) in &sizes {
                    let elements = if name == "weigh" { samples } else { samples * horizon };
                    group.throughput(Throughput::Elements(elements as u64));
                    // Built lazily, since criterion does not call benchmarks that are filtered out.
                    let mut plan: Option<Plan> = None;
                    group.bench_function(BenchmarkId::from_parameter(format!("{samples}x{horizon}")), |bencher| {
                        let plan = plan.get_or_insert_with(|| (task.on)(engine, samples, horizon));
                        bencher.iter_custom(|plans| (0..plans).filter_map(|_| stage(plan())).sum());
                    });
                }
                group.finish();
            }
        }
    }
}

criterion_group!(benches, updates);
criterion_main!(benches);
