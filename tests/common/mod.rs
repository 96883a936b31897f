//! The engines that the tests run on.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::time::Duration;

use gibbs::{Backend, Engine, EngineOptions};

fn engine(backend: Backend) -> Option<Engine> {
    // A software adapter shares the processor with the tests beside this one, which compile kernels. Other software
    // adapters than lavapipe are slower.
    let seconds = std::env::var("GIBBS_TEST_TIMEOUT").ok().and_then(|seconds| seconds.parse().ok());
    let timeout = Duration::from_secs(seconds.unwrap_or(120));
    Engine::with_options(EngineOptions { backend, timeout, ..Default::default() }).ok()
}

/// The CPU engine.
pub fn cpu() -> Engine {
    engine(Backend::Cpu).expect("the CPU backend is always there")
}

/// Returns a GPU, a software one if there is no other.
///
/// Without either, the calling test is skipped with a message, or fails if GIBBS_REQUIRE_GPU is 1.
pub fn gpu() -> Option<Engine> {
    let found = engine(Backend::Gpu).or_else(|| engine(Backend::Software));
    if found.is_none() {
        missing();
    }
    found
}

/// Returns all engines of this machine: the CPU, and a software and a hardware GPU where available.
pub fn engines() -> Vec<Engine> {
    let gpus: Vec<Engine> = [Backend::Software, Backend::Gpu].into_iter().filter_map(engine).collect();
    if gpus.is_empty() {
        missing();
    }
    std::iter::once(cpu()).chain(gpus).collect()
}

fn missing() {
    let required = std::env::var("GIBBS_REQUIRE_GPU").is_ok_and(|value| value == "1");
    assert!(!required, "GIBBS_REQUIRE_GPU=1, but there is no GPU adapter, not even a software one");
    eprintln!("SKIPPED: no GPU adapter, not even a software one (GIBBS_REQUIRE_GPU=1 makes this a failure)");
}
