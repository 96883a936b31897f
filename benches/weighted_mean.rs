//! The weighted mean of K rows of D numbers beside a plain read of the same array, in turns: what share of the memory's
//! bandwidth it reaches. On the CPU, where the rows lie.
//!
//! `cargo bench --bench weighted_mean`; with `-- --at-least 0.7` it fails if the largest array is averaged at less than that
//! share. A plain read adds all numbers up, on as many threads as the mean has, with sixteen sums side by side in each of four
//! registers; its result is used, so that it is not left out.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gibbs::{Backend, Engine, EngineOptions, Random, WeightedMean};

const SIZES: [(usize, usize); 4] = [(10_000, 64), (100_000, 64), (1_000_000, 16), (1_000_000, 64)];
const ROUNDS: usize = 15;

fn main() -> Result<()> {
    // `cargo bench` adds --bench.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut at_least = 0.0;
    while let Some(argument) = arguments.next() {
        ensure!(argument == "--at-least", "there is no option {argument}");
        at_least = arguments.next().context("--at-least needs a share")?.parse()?;
    }
    let engine = Engine::with(EngineOptions { backend: Backend::Cpu, ..Default::default() })?;
    println!("{}, medians of {ROUNDS} turns", engine.name());
    println!("{:>9} {:>4} {:>12} {:>12} {:>8}", "K", "D", "read GB/s", "mean GB/s", "share");
    let mut share = 0.0;
    for (count, width) in SIZES {
        let mut random = Random::new(7);
        let rows: Vec<f32> = (0..count * width).map(|_| random.uniform()).collect();
        let log_weights: Vec<f32> = (0..count).map(|_| random.normal()).collect();
        let mut average = WeightedMean::new(&engine);
        let (mut reads, mut means, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let clock = Instant::now();
            black_box(sum(&rows));
            let read = clock.elapsed();
            let clock = Instant::now();
            black_box(average.compute(&rows, &log_weights)?.mean());
            let mean = clock.elapsed();
            // The first turn allocates.
            if round > 0 {
                reads.push(read);
                means.push(mean);
                shares.push(read.as_secs_f64() / mean.as_secs_f64());
            }
        }
        let speed = |time: Duration| (4 * rows.len()) as f64 / time.as_secs_f64() * 1e-9;
        shares.sort_by(f64::total_cmp);
        share = shares[ROUNDS / 2];
        println!("{count:>9} {width:>4} {:>12.2} {:>12.2} {share:>8.2}", speed(median(reads)), speed(median(means)));
    }
    ensure!(share >= at_least, "the share is {share:.2}, below {at_least}");
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The sum of all numbers, on all threads.
fn sum(values: &[f32]) -> f32 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = |values: &[f32]| {
        let mut sums = [0.0_f32; 64];
        for chunk in values.as_chunks::<64>().0 {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum += value;
            }
        }
        sums.iter().sum::<f32>()
    };
    std::thread::scope(|scope| {
        let parts = values.chunks(values.len().div_ceil(threads)).map(|values| scope.spawn(move || part(values)));
        let running: Vec<_> = parts.collect();
        running.into_iter().map(|thread| thread.join().expect("sums do not panic")).sum()
    })
}
