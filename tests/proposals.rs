//! Proposals besides the last plan, and what becomes of plans that fail.

mod common;

use common::{cpu, engines};
use gibbs::control::{Fallback, PlanSource, Proposal};
use gibbs::runtime::RowMemory;
use gibbs::{
    Backend, BuildError, Cost, DiffusionOptions, Engine, EngineOptions, Fleet, Interpolation, Limits, Model, Mppi,
    MppiOptions, Noise, NoiseShape, Planner, Real, StepContext, Task, Temperature, Weighting,
};

const HORIZON: usize = 20;
const WALL: f32 = 1000.0;

/// A point whose sideways speed is controlled. It should be at +1 or −1 (the least cost is at −1) at the end, and in
/// between there is a wall.
struct Fork;

impl Model<1, 1> for Fork {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [y]: [R; 1], [v]: [R; 1]) -> [R; 1] {
        [y + v * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _: &StepContext<R>, _: [R; 1], [v]: [R; 1]) -> R {
        v.square() * 0.01
    }
    #[inline(always)]
    fn terminal<R: Real>(&self, at: &StepContext<R>, [y]: [R; 1]) -> R {
        let cost = (y.abs() - 1.0).square() * 10.0 + (y + 1.0) * 0.1;
        R::select(self.feasible(at, [y]), cost, R::from(WALL))
    }
    #[inline(always)]
    fn feasible<R: Real>(&self, at: &StepContext<R>, [y]: [R; 1]) -> R::Mask {
        // The wall is where the horizon ends.
        at.index().lt(HORIZON as f32 - 1.5) | y.abs().gt(0.5)
    }
}

fn options(proposals: Vec<Proposal<1>>) -> MppiOptions<1> {
    MppiOptions {
        task: Task { horizon: HORIZON, dt: 0.05, seed: 2, ..Default::default() },
        samples: 300,
        weighting: Temperature::EffectiveSamples(0.1).into(),
        noise: Noise::Diagonal([0.3]),
        proposals,
        ..Default::default()
    }
}

fn fork(engine: &Engine, options: MppiOptions<1>) -> Mppi<1, 1, Fork> {
    Mppi::new(engine, Fork, options).expect("valid")
}

#[test]
fn a_proposal_leads_out_of_a_local_minimum() {
    for engine in engines() {
        // Around a plan that goes right, no row goes left.
        let right = vec![[1.0]; HORIZON];
        let mut alone = fork(&engine, options(Vec::new()));
        alone.set_controls(&right).expect("valid");
        let plan = alone.plan(&[0.0]).expect("it runs").clone();
        assert!(plan.states()[HORIZON][0] > 0.5 && plan.source() == PlanSource::Rows);

        let both = vec![Proposal::Initial, Proposal::Given, Proposal::Sustained([-1.2])];
        let mut mppi = fork(&engine, options(both));
        mppi.set_controls(&right).expect("valid");
        let left: Vec<[f32; 1]> = (0..HORIZON).map(|t| [-1.0 + 0.01 * (t as f32 - 9.5)]).collect();
        mppi.propose(1, &left).expect("valid");
        let plan = mppi.plan(&[0.0]).expect("it runs").clone();
        let PlanSource::Proposal(index @ 1..) = plan.source() else { panic!("{:?}", plan.source()) };
        assert!(plan.states()[HORIZON][0] < -0.5, "{}", engine.name());
        let samples = mppi.samples().expect("there are some");
        let expected = if index == 1 { left } else { vec![[-1.2]; HORIZON] };
        assert_eq!(samples.controls(0), expected, "the first row is the proposal");
        assert!(samples.controls(1) != expected);
        assert_eq!(samples.len(), 300, "as many rows around each");
        // What won is the plan from now on; nothing is given any more.
        let plan = mppi.plan(&[0.0]).expect("it runs");
        assert!(plan.states()[HORIZON][0] < -0.5);
    }
}

#[test]
fn the_last_control_is_proposed_within_the_limits() {
    let limits = Some(Limits { low: [-1.0], high: [1.0] });
    let task = Task { limits, delay: 3, ..options(Vec::new()).task };
    let mut mppi = fork(&cpu(), MppiOptions { task, ..options(vec![Proposal::Last, Proposal::Sustained([5.0])]) });
    mppi.set_last_control(&[-1.0]).expect("finite");
    for _ in 0..2 {
        let queue = mppi.controls()[..3].to_vec();
        let plan = mppi.plan(&[0.0]).expect("it runs").clone();
        assert_eq!(plan.controls()[..3], queue);
        if let PlanSource::Proposal(0) = plan.source() {
            let first = mppi.samples().expect("there are some").controls(0);
            assert_eq!(first[3..], [[-1.0]; HORIZON - 3]);
        }
        for chain in mppi.chains() {
            assert_eq!(chain[..3], queue, "every proposal starts with what is on its way");
            assert!(chain.iter().all(|[u]| (-1.0..=1.0).contains(u)));
        }
    }
}

/// Half of the rows go left and half go right.
fn rows() -> Vec<f32> {
    (0..300).flat_map(|k| vec![if k % 2 == 0 { 1.0 } else { -0.99 }; HORIZON]).collect()
}

#[test]
fn the_mean_of_two_ways_around_a_wall_is_not_driven() {
    for engine in engines() {
        for fallback in [Fallback::None, Fallback::LastPlan] {
            let weighting = Weighting::Exponential(Temperature::Fixed(1e3));
            let mut mppi = fork(&engine, MppiOptions { weighting, fallback, ..options(Vec::new()) });
            let right = vec![[1.0]; HORIZON];
            mppi.set_controls(&right).expect("valid");
            let plan = mppi.plan_rows(&[0.0], &rows()).expect("it runs").clone();
            if fallback == Fallback::None {
                assert!(!plan.is_sound() && plan.source() == PlanSource::Rows);
                assert!(plan.cost() >= WALL && plan.states()[HORIZON][0].abs() < 0.1, "{}", plan.cost());
            } else {
                assert!(plan.is_sound() && plan.source() == PlanSource::LastPlan);
                assert_eq!((plan.controls(), mppi.controls()), (&right[..], &right[..]));
                let (states, cost) = mppi.simulate(&[0.0], &right).expect("finite");
                assert_eq!((plan.states(), plan.cost()), (&states[..], cost));
            }
            // A plan that is no mean of two ways is driven.
            let plan = mppi.plan_rows(&[0.0], &vec![0.9; 300 * HORIZON]).expect("it runs");
            assert!(plan.is_sound() && plan.source() == PlanSource::Rows);
        }
    }
}

#[test]
fn a_plan_that_fails_less_than_the_one_before_is_kept() {
    let weighting = Weighting::Exponential(Temperature::Fixed(1e3));
    let mut mppi = fork(&cpu(), MppiOptions { weighting, fallback: Fallback::LastPlan, ..options(Vec::new()) });
    // The plan before hits the wall at a higher cost of controls.
    let mut before = vec![[3.0]; HORIZON];
    before[HORIZON / 2..].fill([-3.0]);
    mppi.set_controls(&before).expect("valid");
    let plan = mppi.plan_rows(&[0.0], &rows()).expect("it runs");
    assert!(!plan.is_sound() && plan.source() == PlanSource::Rows);
}

/// A cost with a state that plans must not pass through, although rows are not told.
struct Forbidden;

impl Cost<1, 1> for Forbidden {
    #[inline(always)]
    fn cost<R: Real>(&self, _: &StepContext<R>, [y]: [R; 1], [v]: [R; 1]) -> R {
        (y - 1.0).square() + v.square() * 0.01
    }
    #[inline(always)]
    fn feasible<R: Real>(&self, _: &StepContext<R>, [y]: [R; 1]) -> R::Mask {
        y.lt(0.3)
    }
}

#[test]
fn plans_through_infeasible_states_fall_back_in_every_planner() {
    let (task, fallback) = (options(Vec::new()).task, Fallback::LastPlan);
    let mppi = MppiOptions { fallback, noise: Noise::Diagonal([2.0]), ..options(Vec::new()) };
    let mut mppi = Mppi::new(&cpu(), Fork.with_cost(Forbidden), mppi).expect("valid");
    let diffusion = DiffusionOptions { task, fallback, ..Default::default() };
    let mut diffusion = Planner::new(&cpu(), Fork.with_cost(Forbidden), diffusion).expect("valid");
    for plan in [mppi.plan(&[0.0]), diffusion.plan(&[0.0])] {
        let plan = plan.expect("it runs");
        assert!(plan.is_sound() && plan.source() == PlanSource::LastPlan, "{plan:?}");
        assert_eq!(plan.controls(), [[0.0]; HORIZON]);
    }
}

#[test]
fn problems_of_a_fleet_have_proposals_of_their_own() {
    for engine in engines() {
        let mut fleet = Fleet::new(&engine, Fork, options(vec![Proposal::Given]), 2).expect("valid");
        for i in 0..2 {
            fleet.set_controls(i, &[[1.0]; HORIZON]).expect("valid");
        }
        fleet.propose(1, 0, &[[-1.0]; HORIZON]).expect("valid");
        let plans = fleet.plan(&[[0.0]; 2]).expect("it runs");
        let [first, second] = [0, 1].map(|i| plans.get(i).expect("it works"));
        assert!(first.states()[HORIZON][0] > 0.5 && second.states()[HORIZON][0] < -0.5);
        assert_eq!(second.source(), PlanSource::Proposal(0));
    }
}

#[test]
fn wrong_proposals_are_refused_by_name() {
    let mut mppi = fork(&cpu(), options(vec![Proposal::Initial, Proposal::Given]));
    for (index, controls, field) in [
        (0, vec![[0.0]; HORIZON], "proposal"),
        (2, vec![[0.0]; HORIZON], "proposal"),
        (1, vec![[0.0]; HORIZON - 1], "controls"),
        (1, vec![[f32::NAN]; HORIZON], "controls"),
    ] {
        assert_eq!(mppi.propose(index, &controls).expect_err("wrong").field, field);
    }
    let wrong = options(vec![Proposal::Sustained([f32::INFINITY])]);
    match Mppi::new(&cpu(), Fork, wrong).map(drop) {
        Err(BuildError::Invalid(error)) => assert_eq!(error.field, "proposals"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plan_that_may_be_its_best_row_costs_no_more_than_it() {
    for engine in engines() {
        let mppi = MppiOptions {
            fallback: Fallback::BestRow,
            noise: Noise::Diagonal([2.0]),
            iterations: 2,
            samples: 100,
            weighting: Temperature::EffectiveSamples(0.5).into(),
            proposals: vec![Proposal::Initial],
            ..options(Vec::new())
        };
        let (mut planner, mut polled) = (fork(&engine, mppi.clone()), fork(&engine, mppi.clone()));
        let mut rows = 0;
        for _ in 0..4 {
            let plan = planner.plan(&[0.1]).expect("it runs").clone();
            let name = format!("{}: {} and {}", engine.name(), plan.cost(), plan.min_cost());
            assert!(plan.cost() <= plan.min_cost() + 1e-5, "{name}");
            if plan.source() == PlanSource::BestRow {
                rows += 1;
                let samples = planner.samples().expect("there are some");
                let best = (0..100).min_by(|a, b| samples.cost(*a).total_cmp(&samples.cost(*b))).expect("some");
                assert_eq!(samples.controls(best), plan.controls(), "{name}");
                assert_eq!(planner.controls(), plan.controls(), "{name}: the next call starts from it");
            }
            polled.start(&[0.1]).expect("it starts");
            let same = loop {
                if let Some(plan) = polled.poll().expect("it runs") {
                    break plan.clone();
                }
            };
            assert_eq!((same.controls(), same.source()), (plan.controls(), plan.source()), "{name}");
        }
        assert!(rows > 0, "{}: wide noise makes rows that beat their mean", engine.name());

        let mut fleet = Fleet::new(&engine, Fork, mppi, 3).expect("valid");
        let plans = fleet.plan(&[[0.1], [f32::NAN], [-0.2]]).expect("it runs");
        assert!(plans.get(1).is_err());
        for plan in [plans.get(0), plans.get(2)] {
            let plan = plan.expect("it works");
            assert!(plan.cost() <= plan.min_cost() + 1e-5, "{}", engine.name());
        }
    }
}

/// The CPU finds the best row from the scores, however it stores rows.
#[test]
fn the_best_row_is_the_same_however_rows_are_stored() {
    let knots = NoiseShape::Knots { every: 3, interpolation: Interpolation::Linear };
    for (temperature, noise_shape) in [
        (Temperature::EffectiveSamples(0.5), NoiseShape::White),
        (Temperature::EffectiveSamples(0.5), knots),
        (Temperature::Fixed(5.0), NoiseShape::White),
        (Temperature::Fixed(5.0), knots),
    ] {
        let mppi = MppiOptions {
            fallback: Fallback::BestRow,
            noise: Noise::Diagonal([2.0]),
            samples: 100,
            weighting: temperature.into(),
            noise_shape,
            ..options(Vec::new())
        };
        let mut found = Vec::new();
        for rows in [RowMemory::Auto, RowMemory::Stored, RowMemory::Redrawn] {
            let engine = Engine::with_options(EngineOptions { backend: Backend::Cpu, rows, ..Default::default() });
            let mut planner = fork(&engine.expect("there is a CPU"), mppi.clone());
            let plan = planner.plan(&[0.1]).expect("it runs").clone();
            assert_eq!(plan.source(), PlanSource::BestRow, "{temperature:?}, {noise_shape:?}, {rows:?}");
            let samples = planner.samples().expect("there are some");
            let best = (0..100).min_by(|a, b| samples.cost(*a).total_cmp(&samples.cost(*b))).expect("some");
            assert_eq!(samples.controls(best), plan.controls(), "{temperature:?}, {noise_shape:?}, {rows:?}");
            found.push(plan.controls().to_vec());
        }
        assert!(found.iter().all(|controls| *controls == found[0]), "{temperature:?}, {noise_shape:?}");
    }
}

#[test]
fn a_sequence_is_dropped_with_its_proposal() {
    let mut mppi = fork(&cpu(), options(vec![Proposal::Given]));
    mppi.propose(0, &[[-1.0]; HORIZON]).expect("valid");
    mppi.set_options(options(vec![Proposal::Initial])).expect("valid");
    let snapshot = mppi.snapshot();
    mppi.restore(&snapshot).expect("it is that of this planner");
}
