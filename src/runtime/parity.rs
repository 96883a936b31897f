//! Compares the CPU backend with the GPU backend, for combinations of pass settings that no driver uses.

use std::sync::Arc;

use super::program::Program;
use super::{Backend, Engine, EngineOptions, RowMemory, Tuning};
use crate::interp::simd::isa::Instructions;
use crate::kernels::pass::*;
use crate::kernels::propose::shape::{Filter, Interpolation, NoiseShape};
use crate::lang::grid::{FieldChanges, FieldSet};
use crate::lang::{Real, StepContext, philox};
use crate::model::Model;

/// A damped double integrator. The cost is its distance from the origin; the demonstration is in the reference columns.
struct Mass;

impl Model<2, 1> for Mass {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> [R; 2] {
        [p + v * at.dt(), v * 0.9 + u * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> R {
        p.square() + v.square() * 0.1 + u.square() * 0.01
    }
    #[inline(always)]
    fn demonstration_cost<R: Real>(&self, at: &StepContext<R>, [p, _]: [R; 2]) -> R {
        (p - at.reference(0)).square()
    }
    #[inline(always)]
    fn done<R: Real>(&self, _: &StepContext<R>, [p, _]: [R; 2]) -> R::Mask {
        p.gt(1.5)
    }
}

/// Too many rows for one workgroup, and few enough that one workgroup runs the whole pass.
const ROWS: [usize; 2] = [1500, 150];
const HORIZON: usize = 13;
const PROBLEMS: usize = 3;

/// The initial state, limits, factor, precision, limits of the change per time step and of its change, last control and
/// its change, and two rows of references.
const INPUTS: [f32; 14] = [1.0, 0.5, -0.8, 0.9, 0.7, 1.0 / 0.49, -0.3, 0.2, -0.1, 0.15, 0.1, 0.05, 0.9, 0.6];

/// Nominals (without their standard-deviation scales) and sums after the passes.
fn run(engine: &Engine, passes: &[Pass], filter: Option<&Filter>) -> (Vec<f32>, Vec<Sums>) {
    run_on(engine, passes, &INPUTS, 0, filter)
}

/// As [`run`], for the problems from number `first` on, with these inputs.
fn run_on(
    engine: &Engine,
    passes: &[Pass],
    inputs: &[f32],
    first: usize,
    filter: Option<&Filter>,
) -> (Vec<f32>, Vec<Sums>) {
    let layout = Layout { states: 2, controls: 1, params: 0, reference_rows: 2, reference_columns: 1 };
    let last = first + passes[0].problems as usize;
    let nominal: Vec<f32> = (first * HORIZON..last * HORIZON).map(|i| (i as f32 * 0.7).sin() * 0.4).collect();
    let coordinates = passes[0].coordinates as usize;
    let std_scale: Vec<f32> = (first * coordinates..last * coordinates).map(|i| 0.5 + (i % 5) as f32 * 0.2).collect();
    let problem = Problem {
        layout,
        inputs,
        nominal: &nominal,
        std_scale: if passes[0].has(STD_SCALE) { &std_scale } else { &[] },
        fields: &FieldSet::new(&[]),
        weights: Weights::default(),
        field_changes: &FieldChanges::default(),
        filter,
        rows: None,
    };
    let program = Program::new::<2, 1, _>(&Arc::new(Mass), engine.options().math).expect("it traces");
    let mut workspace = engine.workspace();
    let done = workspace.run(&program, passes, &problem).expect("it runs");
    (done.nominal.to_vec(), done.sums.to_vec())
}

fn pass() -> Pass {
    Pass {
        seed: philox::key(7),
        number: 4,
        rows: ROWS[0] as u32,
        horizon: HORIZON as u32,
        width: HORIZON as u32,
        coordinates: HORIZON as u32,
        dt: 0.1,
        coordinate_stride: TILE as u32,
        row_stride: 1,
        references: 12,
        reference_rows: 2,
        reference_columns: 1,
        cost_scale: 1.0,
        temperature: 0.5,
        a: 1.0,
        scale: 1.0,
        problems: PROBLEMS as u32,
        ..bytemuck::Zeroable::zeroed()
    }
}

/// The engine that others are held to, and the others: none without a software adapter.
fn engines() -> Option<(Engine, Vec<Engine>)> {
    let cpu =
        Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() }).expect("there is a CPU");
    // The software adapter compiles kernels at their first dispatch.
    let timeout = std::time::Duration::from_secs(120);
    let software = |tuning| {
        Engine::with_options(EngineOptions { backend: Backend::Software, tuning, timeout, ..Default::default() })
    };
    let gpus = match (software(Tuning::Cpu), software(Tuning::Gpu)) {
        (Ok(cpu), Ok(gpu)) => [cpu, gpu],
        (Err(error), _) | (_, Err(error)) => {
            assert!(std::env::var_os("GIBBS_REQUIRE_GPU").is_none(), "no adapter: {error}");
            eprintln!("SKIPPED: {error}");
            return None;
        }
    };
    // Every row-memory mode and instruction set of the CPU backend must meet the same tolerances.
    let rows = |rows| EngineOptions { backend: Backend::Cpu, rows, ..Default::default() };
    let slow = EngineOptions { instructions: Instructions::Scalar, ..rows(RowMemory::Auto) };
    let narrow = EngineOptions { instructions: Instructions::Avx2, ..rows(RowMemory::Redrawn) };
    let cpus = [rows(RowMemory::Stored), rows(RowMemory::Redrawn), slow, narrow].map(Engine::with_options);
    let others: Vec<_> = gpus.into_iter().chain(cpus.map(|cpu| cpu.expect("there is a CPU"))).collect();
    Some((cpu, others))
}

#[test]
fn both_backends_carry_out_every_kind_of_update_alike() {
    let (base, white) = (pass(), NoiseShape::White);
    let kinds = [
        ("plain", base, white),
        ("scaled", Pass { scale: 0.5, a: 0.6, b: 0.3, c: 0.1, flags: LIMITED | CLAMPED, ..base }, white),
        ("spread", Pass { flags: STD_SCALE | ANTITHETIC | NOMINAL_FIRST, ..base }, white),
        ("control cost", Pass { flags: CONTROL_COST | LIMITED, control_fixed: 0.3, ..base }, white),
        ("effective", Pass { search: EFFECTIVE, target: 0.2, ..base }, white),
        ("divergence", Pass { search: DIVERGENCE, target: 0.7, ..base }, white),
        ("standardized", Pass { search: STANDARDISED, target: 0.1, ..base }, white),
        (
            "demonstrated",
            Pass { search: STANDARDISED, target: 0.3, flags: DEMONSTRATED, demonstrated: 2.0, ..base },
            white,
        ),
        ("signed", Pass { flags: SIGNED, a: 1.0, b: 1.0, ..base }, white),
        ("signed, standardized", Pass { flags: SIGNED, search: STANDARDISED, target: 1.0, ..base }, white),
        ("elite", Pass { search: ELITE, target: 0.1, ..base }, white),
        ("best", Pass { search: ELITE, target: 0.0, ..base }, white),
        (
            "cross-entropy",
            Pass { search: ELITE, target: 0.1, flags: STD_SCALE | ADAPT | SECOND_MOMENT, a: 0.8, floor: 0.1, ..base },
            white,
        ),
    ];
    all_agree(&kinds);
}

#[test]
fn both_backends_filter_noise_alike() {
    let base = pass();
    let knots = |every, interpolation| NoiseShape::Knots { every, interpolation };
    let colored = |exponent| NoiseShape::Colored { exponent };
    let step = Pass { scale: 0.5, a: 0.6, c: 0.3, flags: LIMITED | CLAMPED, ..base };
    let elite = Pass { search: ELITE, target: 0.1, ..base };
    let adapts = Pass { flags: STD_SCALE | ADAPT | SECOND_MOMENT | LIMITED | CLAMPED, a: 0.8, floor: 0.1, ..elite };
    all_agree(&[
        ("hold", base, knots(2, Interpolation::Hold)),
        ("linear, with a step that draws", step, knots(4, Interpolation::Linear)),
        ("cubic, cross-entropy", adapts, knots(5, Interpolation::Cubic)),
        ("cubic, as far apart as the horizon is long", base, knots(HORIZON, Interpolation::Cubic)),
        ("pink", Pass { flags: STD_SCALE | ANTITHETIC | NOMINAL_FIRST | LIMITED, ..base }, colored(1.0)),
        ("red, with a step that draws", Pass { search: EFFECTIVE, target: 0.2, ..step }, colored(2.0)),
        ("blueish, cross-entropy", adapts, colored(0.5)),
        ("limited rates", Pass { flags: RATE_LIMITED | LIMITED | CLAMPED, ..base }, knots(3, Interpolation::Linear)),
        (
            "limited jerk",
            Pass { flags: JERK_LIMITED | RATE_LIMITED | LIMITED | CLAMPED, ..base },
            knots(2, Interpolation::Linear),
        ),
        ("limited jerk, delayed", Pass { flags: JERK_LIMITED | DELAYED | LIMITED, delay: 3, ..base }, colored(1.0)),
        ("delayed", Pass { flags: DELAYED | RATE_LIMITED, delay: 4, ..step }, colored(1.0)),
    ]);
}

/// A filter that hands each innovation on as it is makes the rows of white noise.
#[test]
fn a_filter_of_one_tap_leaves_rows_as_they_are() {
    let (cpu, white) = (Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() }), pass());
    let engines = engines().map_or_else(Vec::new, |(_, others)| others);
    for engine in engines.into_iter().chain(cpu) {
        let hold = Filter::knots(1, Interpolation::Hold);
        let filtered = Pass { flags: white.flags | FILTERED, ..white };
        let ((here, sums), (there, others)) = (run(&engine, &[white], None), run(&engine, &[filtered], Some(&hold)));
        // Costs and weights have the same bits; the mean of the rows is that of their perturbations but for rounding.
        assert_eq!(sums, others, "{}", engine.name());
        here.iter().zip(&there).for_each(|(a, b)| assert!((a - b).abs() < 2e-6, "{}: {a} and {b}", engine.name()));
    }
}

/// Whether all engines find the same.
fn all_agree(kinds: &[(&str, Pass, NoiseShape)]) {
    let Some((cpu, others)) = engines() else { return };
    for ((name, pass, noise), rows) in kinds.iter().flat_map(|kind| ROWS.map(|rows| (kind, rows))) {
        let filter = noise.filter(HORIZON).expect("valid");
        let mut pass = Pass { rows: rows as u32, ..*pass };
        if let Some(filter) = &filter {
            pass.set(FILTERED, true);
            pass.coordinates = filter.innovations(HORIZON) as u32;
        }
        let passes: Vec<_> = (0..3).map(|i| Pass { number: 4 + i, b: 1.0 - pass.a, ..pass }).collect();
        let (here, sums) = run(&cpu, &passes, filter.as_ref());
        assert!(here[..HORIZON] != here[HORIZON..2 * HORIZON], "{name}: problems have noise of their own");
        for (i, other) in others.iter().enumerate() {
            let name = format!("{name}, {rows} rows, engine {i} ({})", other.name());
            let (there, others) = run(other, &passes, filter.as_ref());
            agree(&name, (&here, &sums), (&there, &others));
        }
    }
}

#[test]
fn problems_of_a_fleet_do_what_each_does_alone() {
    const GROUPS: usize = 3;
    const CHAINS: usize = 2;
    let noise = |group: usize| NoiseId { key: philox::key(0xfedc_ba98_7654_3210 + group as u64), number: 70_000 };
    let inputs = |group: usize| {
        let mut inputs = INPUTS;
        inputs[0] -= group as f32 * 0.3;
        inputs[9] += group as f32 * 0.2;
        inputs
    };
    let all: Vec<f32> = (0..GROUPS).flat_map(|g| inputs(g).into_iter().chain(noise(g).to_inputs())).collect();
    let base = Pass { b: 0.3, a: 0.6, c: 0.1, ..pass() };
    let kinds = [
        ("limited", Pass { flags: LIMITED | CLAMPED, ..base }),
        ("spread", Pass { flags: STD_SCALE | ANTITHETIC | NOMINAL_FIRST, ..base }),
        ("searched", Pass { search: EFFECTIVE, target: 0.2, flags: CONTROL_COST, control_fixed: 0.3, ..base }),
        ("demonstrated", Pass { search: STANDARDISED, target: 0.3, flags: DEMONSTRATED, demonstrated: 2.0, ..base }),
    ];
    let cpu = |rows| EngineOptions { backend: Backend::Cpu, rows, ..Default::default() };
    let on = |tuning| EngineOptions {
        backend: Backend::Software,
        tuning,
        timeout: std::time::Duration::from_secs(120),
        ..Default::default()
    };
    let mut engines = vec![];
    for options in
        [cpu(RowMemory::Auto), cpu(RowMemory::Stored), cpu(RowMemory::Redrawn), on(Tuning::Cpu), on(Tuning::Gpu)]
    {
        match Engine::with_options(options) {
            Ok(engine) => engines.push(engine),
            Err(error) => {
                assert!(std::env::var_os("GIBBS_REQUIRE_GPU").is_none(), "no adapter: {error}");
                eprintln!("SKIPPED: {error}");
            }
        }
    }
    for ((name, kind), rows) in kinds.iter().flat_map(|kind| ROWS.map(|rows| (kind, rows))) {
        let first = Pass { rows: rows as u32, ..*kind };
        let fleet = Pass {
            flags: first.flags | FLEET,
            problems: (GROUPS * CHAINS) as u32,
            chains: CHAINS as u32,
            inputs_stride: (INPUTS.len() + NoiseId::LEN) as u32,
            ..first
        };
        for engine in &engines {
            let name = format!("{name}, {rows} rows, {}", engine.name());
            let (together, sums) = run_on(engine, &[fleet, Pass { number: fleet.number + 1, ..fleet }], &all, 0, None);
            for g in 0..GROUPS {
                let NoiseId { key, number } = noise(g);
                let pass = Pass { seed: key, number: number + first.number, problems: CHAINS as u32, ..first };
                let passes = [pass, Pass { number: pass.number + 1, ..pass }];
                let alone = run_on(engine, &passes, &inputs(g), g * CHAINS, None);
                let here = &together[g * CHAINS * HORIZON..][..CHAINS * HORIZON];
                let sums = &sums[g * CHAINS..][..CHAINS];
                if engine.backend() == Backend::Cpu {
                    assert_eq!((here, sums), (&alone.0[..], &alone.1[..]), "{name}");
                } else {
                    // Workgroups take other shares of a sum there.
                    agree(&name, (here, sums), (&alone.0, &alone.1));
                }
            }
        }
    }
}

fn agree(name: &str, (here, sums): (&[f32], &[Sums]), (there, others): (&[f32], &[Sums])) {
    assert_eq!((here.len(), sums.len()), (there.len(), others.len()), "{name}");
    for (a, b) in sums.iter().zip(others) {
        assert_eq!(a.valid, b.valid, "{name}");
        let near = |a: f32, b: f32| (a - b).abs() <= 2e-3 * (a.abs() + b.abs()) + 1e-4;
        assert!(near(a.temperature, b.temperature) && near(a.sum, b.sum), "{name}: {a:?} and {b:?}");
        assert!(near(a.squares, b.squares) && near(a.mean, b.mean), "{name}: {a:?} and {b:?}");
    }
    for (a, b) in here.iter().zip(there) {
        assert!((a - b).abs() < 5e-4, "{name}: {a} and {b}");
    }
}
