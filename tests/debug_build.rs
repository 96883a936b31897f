//! An engine in an unoptimized build warns about it, once per process. An optimized build has nothing to warn about.
//!
//! `CARGO_PROFILE_TEST_OPT_LEVEL=0 cargo test --test debug_build` runs the unoptimized case.

use std::sync::Mutex;

use gibbs::models::DoubleIntegrator;
use gibbs::{Backend, Engine, EngineOptions, Mppi, MppiOptions};
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

#[test]
fn one_warning_is_logged_without_optimization_and_none_with_it() {
    log::set_logger(&WARNINGS).unwrap();
    log::set_max_level(LevelFilter::Trace);
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
