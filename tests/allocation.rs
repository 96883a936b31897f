//! Nothing is allocated per call after the first (and in a training nothing that grows with its episodes). There is
//! only one test, because the counter covers the whole process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{cpu, gpu};
use gibbs::control::{Feedback, FeedbackWeights};
use gibbs::lang::Region;
use gibbs::learning::{ActionNoise, Anneal, Estimator};
use gibbs::models::CartPole;
use gibbs::policies::{Activation, Mlp};
use gibbs::{
    Engine, Fleet, Grid, Mppi, MppiOptions, PolicyGradient, PolicyGradientOptions, Random, Task, Temperature,
    WeightedMean, Weighting,
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The allocations of this thread. The thread that runs the tests allocates to report that one takes long.
    static HERE: Cell<usize> = const { Cell::new(0) };
}

fn count(size: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(size, Ordering::Relaxed);
    LARGEST.fetch_max(size, Ordering::Relaxed);
    HERE.set(HERE.get() + 1);
}

// SAFETY: every call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: by the caller's guarantee.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The allocations during some work.
#[derive(Debug)]
struct Allocated {
    /// The allocations of all threads, and those of the thread that did the work.
    count: usize,
    here: usize,
    bytes: usize,
    largest: usize,
}

fn during(work: impl FnOnce()) -> Allocated {
    let before = (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    LARGEST.store(0, Ordering::Relaxed);
    let here = HERE.get();
    work();
    Allocated {
        count: ALLOCATIONS.load(Ordering::Relaxed) - before.0,
        here: HERE.get() - here,
        bytes: BYTES.load(Ordering::Relaxed) - before.1,
        largest: LARGEST.load(Ordering::Relaxed),
    }
}

const CALLS: usize = 200;

/// The part of a field that is updated in every call.
const REGION: Region = Region { column: 28, row: 7, width: 2, height: 3 };

fn controller(engine: &Engine) -> Mppi<4, 1, CartPole> {
    let options = MppiOptions {
        task: Task {
            horizon: 30,
            params: vec![0.0; 3],
            fields: vec![Grid::from_fn(30, 20, 0.1, [0.0; 2], |x, y| x * y).unwrap(); 2],
            ..Default::default()
        },
        samples: 2048,
        iterations: 2,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.1)),
        ..Default::default()
    };
    Mppi::new(engine, CartPole::default(), options).unwrap()
}

/// Runs the calls of a control loop, `count` times.
fn calls(mppi: &mut Mppi<4, 1, CartPole>, count: usize) {
    for call in 0..count {
        mppi.set_params(&[call as f32, 0.0, 1.0]).unwrap();
        mppi.update_field(1, REGION, &[call as f32; 6]).unwrap();
        mppi.set_field_origin(0, [call as f32, 0.0]).unwrap();
        mppi.plan(&[0.0, 0.0, 0.1, 0.0]).unwrap();
        mppi.shift(1);
    }
}

/// Plans, updates a feedback along the plan and tracks it, `count` times.
fn tracked_calls(mppi: &mut Mppi<4, 1, CartPole>, feedback: &mut Feedback<4, 1>, count: usize) {
    for _ in 0..count {
        mppi.plan(&[0.0, 0.0, 0.1, 0.0]).unwrap();
        mppi.update_feedback(feedback).unwrap();
        assert!((0..10).all(|i| feedback.at(i as f32 * 0.002, &[0.0; 4])[0].is_finite()));
    }
}

/// As [`calls`], for three problems at once.
fn calls_of_a_fleet(fleet: &mut Fleet<4, 1, CartPole, MppiOptions<1>>, count: usize) {
    for call in 0..count {
        for i in 0..fleet.len() {
            fleet.set_params(i, &[call as f32, i as f32, 1.0]).unwrap();
        }
        fleet.update_field(0, REGION, &[call as f32; 6]).unwrap();
        let plans = fleet.plan(&[[0.0, 0.0, 0.1, 0.0], [0.0; 4], [0.0, 0.1, 0.0, 0.0]]).unwrap();
        assert!(plans.iter().all(|plan| plan.is_ok()));
        fleet.shift_all(1);
    }
}

/// Measures plans on the CPU, feedbacks along them, plans of a fleet, and weighted means of the caller's rows.
fn on_the_cpu() -> [Allocated; 4] {
    let engine = cpu();
    let mut mppi = controller(&engine);
    calls(&mut mppi, 3);
    let plans = during(|| calls(&mut mppi, CALLS));
    let mut feedback = mppi.feedback(FeedbackWeights::FromCost { control: [0.1] }).unwrap();
    tracked_calls(&mut mppi, &mut feedback, 3);
    let feedbacks = during(|| tracked_calls(&mut mppi, &mut feedback, CALLS));
    let mut fleet = Fleet::new(&engine, CartPole::default(), mppi.options().clone(), 3).unwrap();
    calls_of_a_fleet(&mut fleet, 3);
    let fleets = during(|| calls_of_a_fleet(&mut fleet, CALLS));

    let rows = vec![1.0; 2048 * 30];
    let log_weights = vec![0.0; 2048];
    let mut average = WeightedMean::new(&engine);
    average.compute(&rows, &log_weights).unwrap();
    let means = during(|| (0..CALLS).for_each(|_| drop(average.compute(&rows, &log_weights).map(drop))));
    println!("{}: {plans:?} in {CALLS} calls, {means:?} in {CALLS} weighted means", engine.name());
    println!("{}: {fleets:?} in {CALLS} calls of a fleet", engine.name());
    println!("{}: {feedbacks:?} in {CALLS} plans with feedback", engine.name());
    [plans, feedbacks, fleets, means]
}

/// Measures three iterations of training a network on the CPU, over episodes of `horizon` steps.
fn training(horizon: usize, rows: &Estimator<1>) -> Allocated {
    let policy = Mlp::new(&[16, 8], Activation::Tanh).unwrap();
    let starts = |random: &mut Random, _: &mut [f32]| [random.normal(), 0.0, 0.0, 0.0];
    let options = PolicyGradientOptions {
        task: Task { horizon, ..Default::default() },
        samples: 128,
        estimator: *rows,
        ..Default::default()
    };
    let mut training = PolicyGradient::<4, 1, _, _>::new(&cpu(), CartPole::default(), policy, starts, options).unwrap();
    let mut iterations = || (0..3).for_each(|_| assert_eq!(training.step().unwrap().len(), 1));
    iterations();
    during(iterations)
}

#[test]
fn a_call_allocates_nothing_after_the_first() {
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for allocated in alone.install(on_the_cpu) {
        assert_eq!(allocated.here, 0, "{allocated:?}");
    }

    // The steps of an episode never allocate, however long the episode is.
    let perturbed = Estimator::ParameterSpace { sigma: Anneal::from(0.1), antithetic: false, episodes: 2 };
    let scored = Estimator::ScoreFunction { std: [0.5], action_noise: ActionNoise::Fixed, antithetic: false };
    for rows in [perturbed, scored] {
        let [short, long] = [20, 200].map(|horizon| alone.install(|| training(horizon, &rows)));
        assert_eq!(short.here, long.here, "{rows:?}: {short:?} and {long:?}");
        assert!(long.largest <= 4096, "{rows:?}: {long:?}");
    }

    // With several threads, the pool allocates a small block each time a thread is asked to join in, which depends on
    // how long the work takes, and occasionally a block for its queue: 63 entries of 24 bytes. But no block is as large
    // as the data: the scores are 24 KiB here, and the rows 240 KiB.
    for allocated in on_the_cpu() {
        assert!(allocated.largest <= 4096, "{allocated:?}");
    }

    let Some(engine) = gpu() else { return };
    let mut mppi = controller(&engine);
    calls(&mut mppi, 10);
    let early = during(|| calls(&mut mppi, CALLS / 2));
    let late = during(|| calls(&mut mppi, CALLS / 2));
    println!("{}: {early:?}, then {late:?} in {} calls", engine.name(), CALLS / 2);
    // The graphics library allocates for every submission, which its callers cannot change. But these blocks are small,
    // none is as large as the rows (240 KiB), and the total does not grow.
    for Allocated { count, bytes, .. } in [&early, &late] {
        assert!(*count < CALLS / 2 * 2000, "{count} allocations");
        assert!(*bytes < CALLS / 2 * 200_000, "{bytes} bytes");
    }
    assert!(late.count <= early.count * 11 / 10 + 100, "{early:?}, then {late:?}");
}
