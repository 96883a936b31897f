//! An engine in an unoptimized build warns about it, once per process, and fits a small stack. An optimized build has
//! nothing to warn about.
//!
//! `CARGO_PROFILE_TEST_OPT_LEVEL=0 cargo test --test debug_build` runs the unoptimized case.

use std::sync::{Mutex, Once};

use gibbs::learning::{ActionNoise, Estimator};
use gibbs::models::DoubleIntegrator;
use gibbs::policies::{Activation, Mlp, Network};
use gibbs::{
    Backend, Engine, EngineOptions, Model, Mppi, MppiOptions, PolicyGradient, PolicyGradientOptions, Random, Real,
    StepContext, Task,
};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// A logger that collects warnings.
struct Warnings(Mutex<Vec<String>>);

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

impl Log for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }
    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }
    fn flush(&self) {}
}

/// Collects warnings from now on. Every test calls it first, since any of them may cause the one warning.
fn collect_warnings() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&WARNINGS).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
}

#[test]
fn one_warning_is_logged_without_optimization_and_none_with_it() {
    collect_warnings();
    for _ in 0..2 {
        let engine = Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() }).unwrap();
        for _ in 0..2 {
            Mppi::new(&engine, DoubleIntegrator::default(), MppiOptions::default()).unwrap();
        }
    }
    let seen = WARNINGS.0.lock().unwrap().clone();
    // The build script's `cfg` applies to this file as well as to the crate.
    assert_eq!(seen.len(), usize::from(cfg!(not(optimized))), "{seen:?}");
    assert!(
        seen.iter().all(|warning| warning.contains("without optimization") && warning.contains("opt-level")),
        "{seen:?}"
    );
}

/// A mass whose acceleration is learned, as a function of its speed and of the force on it.
struct Learned {
    acceleration: Network,
}

#[gibbs::model]
impl Model<2, 1> for Learned {
    fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> [R; 2] {
        let [a] = at.network(&self.acceleration, [v, u]);
        [p + v * at.dt(), v + a * at.dt()]
    }
    fn cost<R: Real>(&self, _: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> R {
        (p - 1.0).square() + v.square() * 0.1 + u.square() * 0.01
    }
}

/// Without optimization, everything that is inlined into a function takes space of its own in the function's frame. The
/// main thread of a Windows program has a stack of 1 MiB.
#[test]
fn networks_run_and_are_trained_on_a_small_stack() {
    collect_warnings();
    let run = || {
        let engine = Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() }).unwrap();
        for activation in [Activation::Gelu, Activation::Sin] {
            let model = || Learned { acceleration: Network::new(0, &[2, 3, 1], activation).unwrap() };
            let weights = model().acceleration.initial(&mut Random::new(1));
            let task = Task { horizon: 3, dt: 0.1, weights, ..Default::default() };

            let options = MppiOptions { task: task.clone(), samples: 8, ..Default::default() };
            let mut mppi = Mppi::new(&engine, model(), options).unwrap();
            assert!(mppi.plan(&[0.0, 0.0]).unwrap().cost() > 0.0);

            let policy =
                Mlp::<2, 1>::new(&[5, 4], activation).and_then(|policy| policy.squashed([-1.0], [1.0])).unwrap();
            let options = PolicyGradientOptions {
                task,
                samples: 8,
                estimator: Estimator::ScoreFunction {
                    std: [0.5],
                    action_noise: ActionNoise::Learned { least: 1e-6 },
                    antithetic: false,
                },
                ..Default::default()
            };
            let start = |_: &mut Random, _: &mut [f32]| [0.0, 0.0];
            let mut training = PolicyGradient::new(&engine, model(), policy, start, options).unwrap();
            let before = training.theta(0).unwrap().to_vec();
            training.step().unwrap();
            assert!(training.theta(0).unwrap().iter().zip(before).any(|(after, before)| *after != before));
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
}
