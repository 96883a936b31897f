//! Repeated calls give the same bits on any number of threads, whatever the floating-point environment of the calling
//! thread and of the pool's threads. The caller's environment is preserved.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

mod common;

use std::arch::asm;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::cpu;
use gibbs::learning::{Controller, Estimator, Step};
use gibbs::policies::LinearFeedback;
use gibbs::runtime::RowMemory;
use gibbs::sampling::{Energy, ReverseProcess, Schedule};
use gibbs::{
    Backend, DiffusionOptions, DiffusionPlanner, DiffusionSampler, DiffusionSamplerOptions, Engine, EngineOptions,
    Grid, Model, Mppi, MppiOptions, PolicyGradient, PolicyGradientOptions, Random, Real, StepContext, Task,
    Temperature, WeightedMean,
};

/// A control word: MXCSR, or FPCR.
#[cfg(target_arch = "x86_64")]
type Word = u32;
#[cfg(target_arch = "aarch64")]
type Word = u64;

/// Rounds up, down and to zero; flushes subnormal numbers.
#[cfg(target_arch = "x86_64")]
const OTHERS: [Word; 4] = [0x5f80, 0x3f80, 0x7f80, 0x9fc0];
#[cfg(target_arch = "aarch64")]
const OTHERS: [Word; 4] = [1 << 22, 2 << 22, 3 << 22, 1 << 24];

fn read() -> Word {
    #[cfg(target_arch = "x86_64")]
    {
        let mut word = 0_u32;
        // SAFETY: stores four bytes in a variable of that size.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack)) };
        // Masks out the exception flags.
        word & !0x3f
    }
    #[cfg(target_arch = "aarch64")]
    {
        let word: u64;
        // SAFETY: only reads a register.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack)) };
        word
    }
}

/// # Safety
///
/// Until the control word is restored, the thread may run only calls of the library and code whose results do not
/// matter.
unsafe fn write(word: Word) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: loads four bytes from a valid variable.
    unsafe {
        asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: only writes a register.
    unsafe {
        asm!("msr fpcr, {}", in(reg) word, options(nostack));
    }
}

/// Runs a function on a thread with this control word, and checks that the word is preserved.
fn within<T: Send>(word: Word, run: impl FnOnce() -> T + Send) -> T {
    let run = move || {
        let before = read();
        // SAFETY: `run` only calls the library, and the word is restored afterwards.
        unsafe { write(word) };
        let result = run();
        let after = read();
        // SAFETY: this restores the word of the thread.
        unsafe { write(before) };
        assert_eq!(after, word, "the caller's word is as it was");
        result
    };
    std::thread::scope(|scope| scope.spawn(run).join()).expect("it does not panic")
}

/// A point on a line. Its cost includes a subnormal number and samples a field.
struct Point;

impl Model<2, 1> for Point {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [x, _]: [R; 2], [u]: [R; 1]) -> [R; 2] {
        [x + u * at.dt(), u * 1e-39]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, small]: [R; 2], [u]: [R; 1]) -> R {
        // The model code itself divides 1 by 3; the result is a constant of the trace.
        (x - 1.0).square() + small * 1e38 + at.sample(0, x, u) / (1.0 / 3.0)
    }
}

/// A model that panics, once it is armed, in plain `f32`, i.e. when the host rolls the plan out.
struct Bomb;

impl Model<1, 1> for Bomb {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 1], [u]: [R; 1]) -> [R; 1] {
        [x[0] + u * at.param(0)]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1], _: [R; 1]) -> R {
        if std::any::type_name::<R>() == "f32" && ARMED.load(std::sync::atomic::Ordering::Relaxed) {
            // Without a message on the terminal.
            std::panic::resume_unwind(Box::new("a model that panics"));
        }
        x.square()
    }
}

static ARMED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

struct Ring;

impl Energy<2> for Ring {
    #[inline(always)]
    fn energy<R: Real>(&self, _: &StepContext<R>, [x, y]: [R; 2]) -> R {
        ((x * x + y * y).sqrt() - 1.0).square() * 5.0
    }
}

fn bits<'a>(to: &mut Vec<u32>, numbers: impl IntoIterator<Item = &'a f32>) {
    to.extend(numbers.into_iter().map(|x| x.to_bits()));
}

fn field() -> Grid {
    let values = (0..64).map(|i| (i % 7) as f32).collect();
    Grid::new(8, 8, 0.5, [-2.0, -2.0], values).and_then(|grid| grid.with_yaw(0.3)).expect("a grid")
}

/// Plans of both methods, with enough rows to use other threads.
fn plans() -> Vec<u32> {
    let (engine, mut out) = (cpu(), Vec::new());
    for temperature in [Temperature::Fixed(0.3), Temperature::EffectiveSamples(0.1)] {
        let options = MppiOptions {
            task: Task { horizon: 12, fields: vec![field()], ..Default::default() },
            samples: 6000,
            weighting: temperature.into(),
            ..Default::default()
        };
        let mut mppi = Mppi::new(&engine, Point, options).expect("it builds");
        for _ in 0..3 {
            let plan = mppi.plan(&[0.1, 0.0]).expect("it plans");
            bits(&mut out, plan.controls().as_flattened());
            bits(&mut out, plan.states().as_flattened());
            let numbers = [plan.cost(), plan.mean_cost(), plan.effective_samples(), plan.log_z(), plan.free_energy()];
            bits(&mut out, &numbers);
        }
        let samples = mppi.samples().expect("they are there");
        bits(&mut out, &samples.weights());
        bits(&mut out, samples.states(17).as_flattened());
        bits(&mut out, &[samples.cost(17)]);
        let controls = mppi.controls().to_vec();
        let (states, cost) = mppi.simulate(&[0.1, 0.0], &controls).expect("it is finite");
        bits(&mut out, states.as_flattened());
        bits(&mut out, &[cost]);
    }
    let process = ReverseProcess {
        schedule: Schedule::Geometric { levels: 5, smallest: 0.1, largest: 1.0 },
        ..Default::default()
    };
    let options = DiffusionOptions {
        task: Task { horizon: 12, fields: vec![field()], ..Default::default() },
        samples: 256,
        chains: 3,
        scatter: true,
        process,
        ..Default::default()
    };
    let mut planner = DiffusionPlanner::new(&engine, Point, options).expect("it builds");
    let plan = planner.plan(&[0.1, 0.0]).expect("it plans");
    bits(&mut out, plan.controls().as_flattened());
    bits(&mut out, &[plan.cost()]);
    out
}

fn training() -> Vec<u32> {
    let (engine, mut out) = (cpu(), Vec::new());
    let scored = PolicyGradientOptions::<1>::default().estimator;
    for rows in [scored, Estimator::ParameterSpace { sigma: 0.1.into(), antithetic: true, episodes: 2 }] {
        let step = Step::Adam { rate: 0.01.into() };
        let options = PolicyGradientOptions {
            task: Task { horizon: 8, fields: vec![field()], ..Default::default() },
            samples: 250,
            estimator: rows,
            step,
            ..Default::default()
        };
        let anywhere = |random: &mut Random, _: &mut [f32]| [random.normal(), 0.0];
        let mut training = PolicyGradient::new(&engine, Point, LinearFeedback, anywhere, options).expect("it builds");
        for _ in 0..3 {
            let progress = training.step().expect("it steps");
            bits(&mut out, &[progress[0].mean_return, progress[0].step]);
        }
        bits(&mut out, training.theta(0).expect("there is one"));
        bits(&mut out, training.action_noise(0).expect("there is one").iter().flatten());
        for episode in training.evaluate(0, 9, 1).expect("there is one") {
            bits(&mut out, episode.states.as_flattened());
            bits(&mut out, &[episode.cost]);
        }
    }
    let controller = Controller::<2, 1, _>::new(LinearFeedback, &[0.1, 0.7, 0.3], 0.1);
    bits(&mut out, &controller.expect("three parameters").act([0.7, 1e-39]));
    out
}

fn sampling() -> Vec<u32> {
    let (engine, mut out) = (cpu(), Vec::new());
    let schedule = Schedule::Geometric { levels: 4, smallest: 0.1, largest: 1.0 };
    let process = ReverseProcess { schedule, ..DiffusionSamplerOptions::default().process };
    let options = DiffusionSamplerOptions { chains: 8, samples: 128, process, ..Default::default() };
    let mut diffusion = DiffusionSampler::of_energy(&engine, Ring, options.clone()).expect("it builds");
    let chains = diffusion.sample().expect("it samples");
    bits(&mut out, chains.values());
    bits(&mut out, &[chains.effective_samples(0)]);
    // Exact: this very function runs in the other environments.
    let rows: Vec<f32> = (0..100).map(|i| (i * 37 % 100) as f32 * 0.125).collect();
    let mut diffusion = DiffusionSampler::of_data(&engine, &rows, 2, options).expect("it builds");
    bits(&mut out, diffusion.sample().expect("it samples").values());

    let log_weights: Vec<f32> = (0..5000).map(|i| (i * 7919 % 5000) as f32 / 512.0).collect();
    let rows: Vec<f32> = (0..5000 * 20).map(|i| (i * 31 % 1000) as f32 / 256.0).collect();
    let mut average = WeightedMean::new(&engine).with_second_moment();
    let average = average.compute(&rows, &log_weights).expect("they are finite");
    bits(&mut out, average.mean());
    bits(&mut out, &average.variance().expect("it was asked for"));
    bits(&mut out, &[average.log_z(), average.effective_samples()]);
    out
}

/// Runs a function in every environment, with pool threads in the same and in the default environment.
fn has_the_same_bits_everywhere(run: fn() -> Vec<u32>) {
    let expected = run();
    for word in OTHERS {
        // Uses the global pool, whose threads were started in the default environment.
        assert!(within(word, run) == expected, "a caller in {word:#x}");
        // Uses a pool created by this thread, which inherits the word on some operating systems.
        let pool = || rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("a pool");
        assert!(within(word, || pool().install(run)) == expected, "threads in {word:#x}");
    }
    assert!(run() == expected);
}

#[test]
fn plans_have_the_same_bits_in_every_environment() {
    has_the_same_bits_everywhere(plans);
}

#[test]
fn trainings_have_the_same_bits_in_every_environment() {
    has_the_same_bits_everywhere(training);
}

#[test]
fn samples_and_means_have_the_same_bits_in_every_environment() {
    has_the_same_bits_everywhere(sampling);
}

#[test]
fn a_model_that_panics_leaves_the_callers_environment_as_it_was() {
    let options = MppiOptions {
        task: Task { horizon: 3, params: vec![1.0], ..Default::default() },
        samples: 64,
        weighting: Temperature::Fixed(1.0).into(),
        ..Default::default()
    };
    let mut mppi = Mppi::new(&cpu(), Bomb, options).expect("it builds");
    ARMED.store(true, std::sync::atomic::Ordering::Relaxed);
    for word in OTHERS {
        within(word, || catch_unwind(AssertUnwindSafe(|| mppi.plan(&[0.0]).is_ok())).expect_err("it panics"));
    }
}

/// The number of threads and their schedule do not change results, nor does a call from a pool thread.
#[test]
fn results_have_the_same_bits_on_any_number_of_threads() {
    for run in [plans, training, sampling] {
        let expected = run();
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            assert!(pool.install(run) == expected, "{threads} threads");
        }
    }
}

/// As [`RowMemory`] documents, the mean and sums depend on it up to rounding; rows, costs, log-weights and λ do not.
#[test]
fn the_memory_of_rows_changes_the_order_of_sums_and_nothing_else() {
    let run = |rows, temperature: Temperature| {
        let engine =
            Engine::with_options(EngineOptions { backend: Backend::Cpu, rows, ..Default::default() }).expect("a CPU");
        let options = MppiOptions {
            task: Task { horizon: 12, fields: vec![field()], ..Default::default() },
            samples: 3000,
            weighting: temperature.into(),
            ..Default::default()
        };
        let mut mppi = Mppi::new(&engine, Point, options).expect("it builds");
        let plan = mppi.plan(&[0.1, 0.0]).expect("it plans").clone();
        let (mut fixed, samples) = (vec![plan.temperature().to_bits()], mppi.samples().expect("they are there"));
        for k in 0..samples.len() {
            bits(&mut fixed, &[samples.cost(k), samples.log_weight(k)]);
            bits(&mut fixed, samples.controls(k).as_flattened());
        }
        (plan, fixed)
    };
    for temperature in [Temperature::Fixed(0.3), Temperature::EffectiveSamples(0.1)] {
        let [auto, stored, redrawn] =
            [RowMemory::Auto, RowMemory::Stored, RowMemory::Redrawn].map(|rows| run(rows, temperature));
        assert!(auto.1 == stored.1 && auto.1 == redrawn.1, "{temperature:?}");
        let same = if matches!(temperature, Temperature::Fixed(_)) { &redrawn } else { &stored };
        assert_eq!(auto.0.controls(), same.0.controls(), "{temperature:?}: so few rows are saved if they must be");
        for other in [&stored, &redrawn] {
            for ([a], [b]) in auto.0.controls().iter().zip(other.0.controls()) {
                assert!((a - b).abs() < 1e-5, "{temperature:?}: {a} and {b}");
            }
        }
    }
}
