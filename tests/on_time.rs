//! Plans within a time budget, by a clock of the test's.

mod common;

use std::time::Duration;

use common::{cpu, engines};
use gibbs::control::{Algorithm, Effort};
use gibbs::models::DoubleIntegrator;
use gibbs::sampling::{ReverseProcess, Sampler, Schedule};
use gibbs::{DiffusionOptions, Engine, Fleet, MppiOptions, Noise, PlanError, Planner, Task, Weighting};

const STATE: [f32; 4] = [2.0, -1.5, 0.5, 0.3];

fn cross_entropy() -> MppiOptions<2> {
    MppiOptions {
        task: Task { horizon: 15, dt: 0.1, ..Default::default() },
        samples: 1200,
        iterations: 8,
        weighting: Weighting::Elite(0.1),
        noise: Noise::Diagonal([0.5, 0.4]),
        covariance_adaptation: Some(0.1),
        ..Default::default()
    }
}

fn diffusion() -> DiffusionOptions<2> {
    let schedule = Schedule::Geometric { levels: 8, smallest: 0.05, largest: 1.0 };
    DiffusionOptions {
        task: Task { limits: Some(gibbs::Limits { low: [-0.5; 2], high: [0.6; 2] }), ..cross_entropy().task },
        samples: 1200,
        chains: 2,
        process: ReverseProcess { schedule, sampler: Sampler::Ddpm, ..Default::default() },
        horizon_annealing: Some(0.5),
        scatter: true,
        ..Default::default()
    }
}

/// A clock that reads 0 at first, and on by the next of `passes` (in milliseconds) each time that it is read again.
fn clock(passes: &[u64]) -> impl FnMut() -> Duration {
    let (mut time, mut reads) = (0, 0);
    let passes = passes.to_vec();
    move || {
        if reads > 0 {
            time += passes[(reads - 1).min(passes.len() - 1)];
        }
        reads += 1;
        Duration::from_millis(time)
    }
}

fn planner<A: Algorithm<2>>(engine: &Engine, options: A) -> Planner<4, 2, DoubleIntegrator, A> {
    Planner::new(engine, DoubleIntegrator::default(), options).expect("valid")
}

fn bits(controls: &[[f32; 2]]) -> Vec<u32> {
    controls.as_flattened().iter().map(|u| u.to_bits()).collect()
}

fn budgets_cut_passes<A: Algorithm<2>>(engine: &Engine, options: A) {
    for (budget, passes) in [(1000, 8), (80, 8), (79, 7), (35, 3), (10, 1), (0, 1)] {
        let (mut within, mut first) = (planner(engine, options.clone()), planner(engine, options.clone()));
        for call in 0..2 {
            let plan = within.plan_within_by(&STATE, Duration::from_millis(budget), clock(&[10])).expect("it runs");
            let name = format!("{}, {budget} ms, call {call}", engine.name());
            if plan.effort() == Effort::FewerRows {
                // Only after the first call is it known how long a pass takes.
                assert!((call, budget) == (1, 0) || (call, budget) == (1, 10) && plan.samples() >= 1024, "{name}");
                continue;
            }
            assert_eq!(plan.passes(), passes, "{name}");
            assert_eq!(plan.effort(), if passes < 8 { Effort::FewerPasses } else { Effort::Full }, "{name}");
            let found = (bits(plan.controls()), plan.cost().to_bits(), plan.effective_samples().to_bits());
            let plan = first.plan_first(&STATE, passes).expect("it runs");
            let expected = (bits(plan.controls()), plan.cost().to_bits(), plan.effective_samples().to_bits());
            assert_eq!(found, expected, "{name}: as the first passes of a call");
            // Both have used up the noise of as many passes, and fetch the same rows.
            let rows = within.samples().expect("there are some").controls(7);
            assert_eq!(bits(&rows), bits(&first.samples().expect("there are some").controls(7)), "{name}");
        }
    }
}

#[test]
fn a_budget_cuts_the_last_passes_of_a_call() {
    for engine in engines() {
        budgets_cut_passes(&engine, cross_entropy());
        budgets_cut_passes(&engine, diffusion());
    }
}

#[test]
fn a_budget_is_exceeded_by_no_more_than_one_pass() {
    // Passes that become slower, faster, and slow once.
    for durations in [[5, 6, 8, 11, 15, 20, 26, 33], [40, 20, 10, 5, 3, 2, 1, 1], [4, 4, 4, 50, 4, 4, 4, 4]] {
        for budget in [0, 1, 10, 30, 60, 100, 200] {
            let mut planner = planner(&cpu(), cross_entropy());
            let plan =
                planner.plan_within_by(&STATE, Duration::from_millis(budget), clock(&durations)).expect("it runs");
            let all: u64 = durations[..plan.passes()].iter().sum();
            let last = durations[plan.passes() - 1];
            assert!(all - last <= budget, "{durations:?}, {budget} ms: {} passes", plan.passes());
        }
    }
}

#[test]
fn passes_that_are_too_long_have_fewer_rows() {
    let mut planner = planner(&cpu(), cross_entropy());
    let (budget, slow) = (Duration::from_millis(12), clock(&[24]));
    let plan = planner.plan_within_by(&STATE, budget, slow).expect("it runs");
    assert_eq!((plan.samples(), plan.passes(), plan.effort()), (1200, 1, Effort::FewerPasses));
    let plan = planner.plan_within_by(&STATE, budget, clock(&[12])).expect("it runs");
    // Half of 1,200 in whole tiles of 64.
    assert_eq!((plan.samples(), plan.passes(), plan.effort()), (576, 1, Effort::FewerRows));
    assert_eq!(planner.samples().expect("there are some").len(), 576);
    // Rows that take less time than expected are more again.
    planner.plan_within_by(&STATE, budget, clock(&[2])).expect("it runs");
    let plan = planner.plan_within_by(&STATE, budget, clock(&[4])).expect("it runs");
    assert_eq!((plan.samples(), plan.passes(), plan.effort()), (1200, 3, Effort::FewerPasses));
    assert!(planner.plan(&STATE).expect("it runs").effort() == Effort::Full);
}

#[test]
fn a_failed_call_leaves_the_plan_to_go_on_with() {
    let mut planner = planner(&cpu(), cross_entropy());
    let budget = Duration::from_secs(60);
    let plan = planner.plan_within(&STATE, budget).expect("it runs").clone();
    assert_eq!(plan.effort(), Effort::Full);
    assert!(plan.age() < Duration::from_secs(600));
    planner.advance();
    assert!(matches!(planner.plan_within(&[f32::NAN; 4], budget), Err(PlanError::Invalid(_))));
    let next = planner.advance();
    assert_eq!(next.map(f32::to_bits), plan.controls()[1].map(f32::to_bits));
    assert!(planner.start(&STATE).is_ok());
    assert_eq!(planner.plan_within(&STATE, budget).err(), Some(PlanError::Busy));
}

const STATES: [[f32; 4]; 3] = [STATE, [0.5, 1.0, -0.2, 0.0], [-1.0, 0.3, 0.0, 0.4]];

fn fleet<A: Algorithm<2>>(engine: &Engine, options: A) -> Fleet<4, 2, DoubleIntegrator, A> {
    Fleet::new(engine, DoubleIntegrator::default(), options, STATES.len()).expect("valid")
}

fn budgets_cut_passes_of_fleets<A: Algorithm<2>>(engine: &Engine, options: A) {
    let name = engine.name();
    // With time enough, the plans are those of `plan`, on every backend.
    let (mut within, mut whole) = (fleet(engine, options.clone()), fleet(engine, options.clone()));
    for _ in 0..2 {
        let plans = within.plan_within_by(&STATES, Duration::from_secs(1), clock(&[10])).expect("it runs");
        let expected = whole.plan(&STATES).expect("it runs");
        for (plan, expected) in plans.iter().zip(expected.iter()) {
            let (plan, expected) = (plan.expect("it works"), expected.expect("it works"));
            assert_eq!((plan.passes(), plan.effort()), (8, Effort::Full), "{name}");
            assert_eq!(bits(plan.controls()), bits(expected.controls()), "{name}");
            assert!(plan.age() < Duration::from_secs(600));
        }
    }
    // With less, all problems have run the same passes: the first ones of planners with their seeds.
    within.reset_all();
    let plans = within.plan_within_by(&STATES, Duration::from_millis(35), clock(&[10])).expect("it runs");
    for (i, (plan, x)) in plans.iter().zip(&STATES).enumerate() {
        let plan = plan.expect("it works");
        assert_eq!((plan.passes(), plan.samples(), plan.effort()), (3, 1200, Effort::FewerPasses), "{name}");
        let mut one = planner(engine, options.clone());
        one.reseed(options.task().seed + i as u64);
        let expected = one.plan_first(x, 3).expect("it runs").controls().as_flattened();
        for (a, b) in plan.controls().as_flattened().iter().zip(expected) {
            assert!((a - b).abs() < 2e-3, "{name}, problem {i}: {a}, not {b}");
        }
    }
    let rows = within.samples(2).expect("there are some").len();
    assert_eq!(rows, 1200, "{name}");
    // A pass of the whole launch takes 10 ms, so that 5 ms allow half of the rows, or what a GPU needs at least.
    let plans = within.plan_within_by(&STATES, Duration::from_millis(5), clock(&[5])).expect("it runs");
    for plan in plans.iter().map(|plan| plan.expect("it works")) {
        assert_eq!((plan.passes(), plan.effort()), (1, Effort::FewerRows), "{name}");
        assert_eq!(plan.samples(), if engine.backend() == gibbs::Backend::Cpu { 576 } else { 1088 }, "{name}");
    }
}

#[test]
fn a_budget_holds_for_all_problems_of_a_fleet_together() {
    for engine in engines() {
        budgets_cut_passes_of_fleets(&engine, cross_entropy());
        budgets_cut_passes_of_fleets(&engine, diffusion());
    }
}

#[test]
fn a_problem_without_a_plan_in_time_keeps_its_last_one() {
    let (mut fleet, budget) = (fleet(&cpu(), cross_entropy()), Duration::from_millis(35));
    let plans = fleet.plan_within_by(&STATES, budget, clock(&[10])).expect("it runs");
    let first: Vec<_> = plans.iter().map(|plan| plan.expect("it works").controls().to_vec()).collect();
    for i in 0..3 {
        fleet.advance(i).expect("valid");
    }
    let plans = fleet.plan_within_by(&[STATES[0], [f32::NAN; 4], STATES[2]], budget, clock(&[10])).expect("it runs");
    assert!(matches!(plans.get(1), Err(PlanError::Invalid(error)) if error.field == "state"));
    assert_eq!([0, 2].map(|i| plans.get(i).expect("it works").passes()), [3, 3]);
    assert_eq!(fleet.advance(1).expect("valid"), first[1][1]);
    // Without a valid state nothing is run, and the clock tells nothing about a pass.
    let plans = fleet.plan_within_by(&[[f32::NAN; 4]; 3], budget, clock(&[10_000])).expect("it runs");
    assert!(plans.iter().all(|plan| plan.is_err()));
    let plans = fleet.plan_within_by(&STATES, budget, clock(&[10])).expect("it runs");
    assert!(plans.iter().all(|plan| plan.is_ok_and(|plan| plan.samples() == 1200)));

    let error = fleet.plan_within(&STATES[..2], budget).map(drop);
    assert!(matches!(error, Err(PlanError::Invalid(error)) if error.field == "states"));
    fleet.start(&STATES).expect("it starts");
    assert_eq!(fleet.plan_within(&STATES, budget).err(), Some(PlanError::Busy));
}
