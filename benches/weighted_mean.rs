//! The weighted mean of K rows of D numbers. On the CPU, measured in turns with a plain read of the same array: the
//! fraction of the memory bandwidth that it reaches. On an adapter, the whole call including the upload of the rows.
//!
//! ```sh
//! cargo bench --bench weighted_mean
//! cargo bench --bench weighted_mean -- --at-least 0.7    # fails if 10⁶ rows of 64 numbers are averaged at less than that share
//! ```
//!
//! A plain read adds all numbers up, on as many threads as the mean, with sixteen sums in each of four registers; its
//! result is used, so that it is not optimized away. An array that fits into a cache is read from there.

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::median;
use gibbs::{Backend, Engine, Random, WeightedMean};
use rayon::prelude::*;

const COUNTS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const WIDTHS: [usize; 5] = [4, 16, 64, 128, 256];
/// The size whose fraction `--at-least` is compared with.
const HELD: (usize, usize) = (1_000_000, 64);
const ROUNDS: usize = 15;
/// The numbers per chunk of a thread: a quarter of a megabyte.
const SHARE: usize = 1 << 16;
/// The maximum count of numbers that are sent to an adapter.
const MOST_SENT: usize = 1 << 24;

fn main() -> Result<()> {
    // `cargo bench` adds --bench.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut at_least = 0.0;
    while let Some(argument) = arguments.next() {
        ensure!(argument == "--at-least", "there is no option {argument}");
        at_least = arguments.next().context("--at-least needs a share")?.parse()?;
    }
    let mut held = 0.0;
    for engine in std::iter::once(common::cpu()).chain(common::adapter()) {
        println!("{}, medians of {ROUNDS} turns", engine.name());
        let cpu = engine.backend() == Backend::Cpu;
        match cpu {
            true => println!("{:>9} {:>4} {:>12} {:>12} {:>8}", "K", "D", "read GB/s", "mean GB/s", "share"),
            false => println!("{:>9} {:>4} {:>12} {:>12}", "K", "D", "ms", "mean GB/s"),
        }
        for (count, width) in COUNTS.into_iter().flat_map(|count| WIDTHS.map(|width| (count, width))) {
            if !cpu && count * width > MOST_SENT {
                continue;
            }
            let [read, mean, share] = measure(&engine, count, width)?;
            let speed = |seconds: f64| (4 * count * width) as f64 / seconds * 1e-9;
            match cpu {
                true => println!("{count:>9} {width:>4} {:>12.2} {:>12.2} {share:>8.2}", speed(read), speed(mean)),
                false => println!("{count:>9} {width:>4} {:>12.4} {:>12.2}", 1e3 * mean, speed(mean)),
            }
            if cpu && (count, width) == HELD {
                held = share;
            }
        }
    }
    ensure!(held >= at_least, "the share of {} x {} is {held:.2}, below {at_least}", HELD.0, HELD.1);
    Ok(())
}

/// Returns the seconds of a plain read and of a mean, and the median of their ratios.
fn measure(engine: &Engine, count: usize, width: usize) -> Result<[f64; 3]> {
    let mut random = Random::new(7);
    let rows: Vec<f32> = (0..count * width).map(|i| (i * 37 % 101) as f32).collect();
    let log_weights: Vec<f32> = (0..count).map(|_| random.normal()).collect();
    let mut average = WeightedMean::new(engine);
    // Small arrays are processed several times, so that a turn is long enough for the clock.
    let repeats = (1_000_000 / (count * width)).clamp(1, 100);
    let time = |job: &mut dyn FnMut() -> Result<()>| -> Result<Duration> {
        let clock = Instant::now();
        for _ in 0..repeats {
            job()?;
        }
        Ok(clock.elapsed() / repeats as u32)
    };
    let (mut reads, mut means, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let read = time(&mut || {
            black_box(sum(&rows));
            Ok(())
        })?;
        let mean = time(&mut || {
            black_box(average.compute(&rows, &log_weights)?.mean());
            Ok(())
        })?;
        // The first turn allocates.
        if round > 0 {
            reads.push(read);
            means.push(mean);
            shares.push(read.as_secs_f64() / mean.as_secs_f64());
        }
    }
    shares.sort_by(f64::total_cmp);
    Ok([median(reads).as_secs_f64(), median(means).as_secs_f64(), shares[ROUNDS / 2]])
}

/// Sums all numbers, on all threads if there are many.
fn sum(values: &[f32]) -> f32 {
    let part = |values: &[f32]| {
        let mut sums = [0.0_f32; 64];
        for chunk in values.as_chunks::<64>().0 {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum += value;
            }
        }
        sums.iter().sum::<f32>()
    };
    match values.len() {
        ..=SHARE => part(values),
        _ => values.par_chunks(SHARE).map(part).sum(),
    }
}
