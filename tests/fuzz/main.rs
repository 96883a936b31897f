//! Random calls on every driver, with options and arguments that are sometimes awkward and sometimes wrong.
//!
//! Each case builds a driver from a seed and calls its methods in a random order. After every call it checks that
//! nothing panicked, that no result contains a NaN, that results stay within the limits, that weights sum to 1, that an
//! error changed nothing, and that a twin (the same calls, on the CPU with other vector instructions) gives the same
//! bits.
//!
//! Options are built without `..Default::default()`, so a new option does not compile here until it is covered. Public
//! enums are non-exhaustive: a `match` in `src/check.rs` lists the variants that are drawn here, and does not compile
//! with a new one.
//!
//! `cargo test` runs a fixed number of cases. To search for longer, or to repeat a case whose seed a failure printed:
//!
//! ```text
//! GIBBS_FUZZ_SECONDS=3600 cargo test --test fuzz -- --nocapture
//! GIBBS_FUZZ_SEED=1234 cargo test --test fuzz planner_of_mppi
//! ```

#[path = "../common/mod.rs"]
mod common;

mod draw;
mod fleets;
mod mean;
mod planners;
mod sampling;
mod training;

use std::time::{Duration, Instant};

use draw::Draw;
use gibbs::runtime::Instructions;
use gibbs::{Backend, Engine, EngineOptions};

/// Names the case that was running if a test panics.
struct Report<'a> {
    target: &'a str,
    seed: u64,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} failed with GIBBS_FUZZ_SEED={}", self.target, self.seed);
        }
    }
}

/// Runs `cases` cases of a target, or as many as fit into GIBBS_FUZZ_SECONDS, or the one of GIBBS_FUZZ_SEED. A case
/// returns whether its options were accepted; at least a quarter must be, or the target tests little.
fn fuzz(target: &str, cases: u64, case: impl Fn(&mut Draw) -> bool) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")));
    let run = |seed: u64| {
        let _report = Report { target, seed };
        case(&mut Draw::new(seed))
    };
    if let Some(seed) = number("GIBBS_FUZZ_SEED") {
        run(seed);
        return;
    }
    let limit = number("GIBBS_FUZZ_SECONDS").map(Duration::from_secs);
    let started = Instant::now();
    let (mut seed, mut accepted) = (0, 0);
    while limit.map_or(seed < cases, |limit| started.elapsed() < limit) {
        accepted += u64::from(run(seed));
        seed += 1;
    }
    println!("{target}: {seed} cases, {accepted} with options that were accepted");
    assert!(4 * accepted >= seed, "only {accepted} of {seed} cases had options that were accepted");
}

/// Two engines that must give the same bits: the CPU with its widest vectors, and with AVX2 at most.
fn cpus() -> [Engine; 2] {
    [Instructions::Best, Instructions::Avx2].map(|instructions| {
        let options = EngineOptions { backend: Backend::Cpu, instructions, ..Default::default() };
        Engine::with_options(options).expect("the CPU backend is always there")
    })
}

/// Returns one adapter twice, if there is any.
fn gpus() -> Option<[Engine; 2]> {
    let engine = common::gpu()?;
    Some([engine.clone(), engine])
}

/// Fails unless both outcomes are the same, errors included, and returns the first.
#[track_caller]
fn agreed<T: PartialEq + std::fmt::Debug, E: std::fmt::Display>(both: [Result<T, E>; 2]) -> Result<T, String> {
    let [a, b] = both.map(|outcome| outcome.map_err(|error| error.to_string()));
    assert_eq!(a, b, "the same call of two twins");
    a
}

/// Makes the same call on both twins.
#[track_caller]
fn both<T, E: std::fmt::Display>(
    [a, b]: &mut [T; 2],
    mut call: impl FnMut(&mut T) -> Result<Vec<u32>, E>,
) -> Result<Vec<u32>, String> {
    agreed([call(a), call(b)])
}

/// The bits of some numbers, to be compared.
fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|v| v.to_bits()).collect()
}
