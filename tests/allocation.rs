//! Nothing is allocated per call after the first. One test only: the count is that of the whole process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{cpu, gpu};
use gibbs::models::CartPole;
use gibbs::{Engine, Mppi, MppiOptions, Temperature, WeightedMean};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(size, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations and their bytes during some work.
fn during(work: impl FnOnce()) -> (usize, usize) {
    let before = (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    work();
    (ALLOCATIONS.load(Ordering::Relaxed) - before.0, BYTES.load(Ordering::Relaxed) - before.1)
}

const CALLS: usize = 200;

fn controller(engine: &Engine) -> Mppi<4, 1, CartPole> {
    let options = MppiOptions {
        horizon: 30,
        samples: 2048,
        iterations: 2,
        temperature: Temperature::EffectiveSamples(0.1),
        params: vec![0.0; 3],
        ..Default::default()
    };
    Mppi::new(engine, CartPole::default(), options).unwrap()
}

/// What a control loop does between two control steps.
fn calls(mppi: &mut Mppi<4, 1, CartPole>, count: usize) {
    for call in 0..count {
        mppi.set_params(&[call as f32, 0.0, 1.0]).unwrap();
        mppi.plan(&[0.0, 0.0, 0.1, 0.0]).unwrap();
        mppi.shift(1);
    }
}

#[test]
fn a_call_allocates_nothing_after_the_first() {
    let engine = cpu();
    let mut mppi = controller(&engine);
    calls(&mut mppi, 3);
    let (count, bytes) = during(|| calls(&mut mppi, CALLS));
    println!("CPU: {count} allocations ({bytes} bytes) in {CALLS} calls");
    // The driver and the backend allocate nothing. The thread pool takes a small block for each thread that is asked to join in,
    // once for the rollouts of each of the two updates, and now and then one for its queue.
    let others = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    assert!(count <= CALLS * 2 * others + CALLS / 10, "{count} allocations in {CALLS} calls");
    assert!(bytes <= count * 256 + CALLS * 100, "{bytes} bytes in {CALLS} calls");

    let rows = vec![1.0; 2048 * 30];
    let log_weights = vec![0.0; 2048];
    let mut average = WeightedMean::new(&engine);
    average.compute(&rows, &log_weights).unwrap();
    let (count, _) = during(|| (0..CALLS).for_each(|_| drop(average.compute(&rows, &log_weights).map(drop))));
    assert!(count <= CALLS / 10, "{count} allocations in {CALLS} weighted means");

    let Some(engine) = gpu() else { return };
    let mut mppi = controller(&engine);
    calls(&mut mppi, 10);
    let early = during(|| calls(&mut mppi, CALLS / 2));
    let late = during(|| calls(&mut mppi, CALLS / 2));
    println!("{}: {early:?}, then {late:?} allocations and bytes in {} calls", engine.name(), CALLS / 2);
    // The graphics library records every submission on the heap, which no caller can change. But that is small, no buffer
    // as large as the rows (240 KiB) is among it, and it does not grow.
    for (count, bytes) in [early, late] {
        assert!(count < CALLS / 2 * 2000, "{count} allocations");
        assert!(bytes < CALLS / 2 * 200_000, "{bytes} bytes");
    }
    assert!(late.0 <= early.0 * 11 / 10 + 100, "{early:?}, then {late:?}");
}
