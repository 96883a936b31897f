//! Fleets: many problems of one model in one launch give the same plans as one planner for each.

mod common;

use std::fmt::Debug;

use common::{cpu, engines};
use gibbs::control::Algorithm;
use gibbs::runtime::RowMemory;
use gibbs::sampling::{ReverseProcess, Schedule};
use gibbs::{
    Backend, DiffusionOptions, Engine, EngineOptions, Fleet, Interpolation, Limits, Model, MppiOptions, Noise,
    NoiseShape, Plan, PlanError, Planner, Real, References, StepContext, Task, Temperature,
};

/// A damped mass that should come to parameter 0 and follow reference 0, and that has no cost beyond 1e6.
#[derive(Debug, Clone, Copy)]
struct Mass;

impl Model<2, 2> for Mass {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u, w]: [R; 2]) -> [R; 2] {
        [p + (v + w * 0.1) * at.dt(), v * 0.9 + u * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u, w]: [R; 2]) -> R {
        let off = (p - at.param(0)).square() + (v - at.reference(0)).square() * 0.3 + (u.square() + w.square()) * 0.01;
        R::select(p.gt(1e6), p * 1e38, off)
    }
}

fn mppi() -> MppiOptions<2> {
    MppiOptions {
        task: Task {
            horizon: 11,
            dt: 0.1,
            limits: Some(Limits { low: [-2.0; 2], high: [2.0; 2] }),
            params: vec![0.5, 0.0],
            references: Some(References { values: vec![0.1, 0.2, 0.3], columns: 1 }),
            seed: 41,
            ..Default::default()
        },
        samples: 300,
        iterations: 2,
        noise: Noise::Covariance([[1.0, 0.3], [0.3, 0.5]]),
        weighting: Temperature::EffectiveSamples(0.2).into(),
        ..Default::default()
    }
}

fn diffusion() -> DiffusionOptions<2> {
    let MppiOptions { task, samples, noise, .. } = mppi();
    DiffusionOptions {
        task,
        samples,
        noise,
        chains: 2,
        scatter: true,
        horizon_annealing: Some(0.8),
        process: ReverseProcess {
            schedule: Schedule::Geometric { levels: 3, smallest: 0.2, largest: 1.0 },
            ..Default::default()
        },
        ..Default::default()
    }
}

const KNOTS: NoiseShape = NoiseShape::Knots { every: 4, interpolation: Interpolation::Cubic };
const PINK: NoiseShape = NoiseShape::Colored { exponent: 1.0 };

type Numbers = (Vec<u32>, Vec<u32>, [u32; 3]);

/// The bits of a plan.
fn bits(plan: &Plan<2, 2>) -> Numbers {
    let of = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect();
    let sums = [plan.cost(), plan.log_z(), plan.effective_samples()].map(f32::to_bits);
    (of(plan.controls().as_flattened()), of(plan.states().as_flattened()), sums)
}

/// All backends and adapters, and the CPU backend with each [`RowMemory`].
fn all_engines() -> Vec<Engine> {
    let on = |rows| Engine::with_options(EngineOptions { backend: Backend::Cpu, rows, ..Default::default() }).unwrap();
    let mut all = engines();
    all.extend([RowMemory::Stored, RowMemory::Redrawn].map(on));
    all
}

const STATES: [[f32; 2]; 5] = [[1.0, 0.0], [-1.0, 0.5], [0.0, 0.0], [2.0, -1.0], [0.3, 0.1]];

/// Inputs that are set for one problem: more parameters and a larger table than those of the options.
const PARAMS: [f32; 3] = [-0.5, 7.0, 8.0];
const TABLE: [f32; 10] = [0.4, 9.0, 0.3, 9.0, 0.2, 9.0, 0.1, 9.0, -0.4, 9.0];

fn a_fleet_of_one_is_a_planner<A: Algorithm<2>>(options: A) {
    for engine in all_engines() {
        let mut planner = Planner::new(&engine, Mass, options.clone()).unwrap();
        let mut fleet = Fleet::new(&engine, Mass, options.clone(), 1).unwrap();
        for round in 0..3 {
            let expected = bits(planner.plan(&STATES[round]).unwrap());
            let plans = fleet.plan(&STATES[round..=round]).unwrap();
            assert_eq!(bits(plans.get(0).unwrap()), expected, "{}", engine.name());
            let weights = planner.samples().unwrap().weights();
            assert_eq!(fleet.samples(0).unwrap().weights(), weights);
            planner.shift(1);
            fleet.shift_all(1);
            planner.set_params(&PARAMS).unwrap();
            fleet.set_params(0, &PARAMS).unwrap();
            planner.set_references(&TABLE, 2).unwrap();
            fleet.set_references(0, &TABLE, 2).unwrap();
        }
        planner.reseed(3);
        fleet.reseed(0, 3).unwrap();
        let expected = bits(planner.plan(&STATES[0]).unwrap());
        assert_eq!(bits(fleet.plan(&STATES[..1]).unwrap().get(0).unwrap()), expected);
    }
}

#[test]
fn fleets_of_one_are_planners() {
    a_fleet_of_one_is_a_planner(mppi());
    a_fleet_of_one_is_a_planner(MppiOptions {
        covariance_adaptation: Some(0.1),
        weighting: Temperature::Fixed(0.5).into(),
        ..mppi()
    });
    a_fleet_of_one_is_a_planner(diffusion());
    a_fleet_of_one_is_a_planner(MppiOptions { noise_shape: KNOTS, covariance_adaptation: Some(0.1), ..mppi() });
    a_fleet_of_one_is_a_planner(DiffusionOptions { noise_shape: PINK, ..diffusion() });
}

/// Asserts that two plans agree: on the CPU to the bit, on a GPU to rounding.
fn same(engine: &Engine, what: &str, found: &Plan<2, 2>, expected: &Plan<2, 2>) {
    let what = format!("{what} on {}", engine.name());
    if engine.backend() == Backend::Cpu {
        return assert_eq!(bits(found), bits(expected), "{what}");
    }
    for (a, b) in found.controls().as_flattened().iter().zip(expected.controls().as_flattened()) {
        assert!((a - b).abs() < 2e-3, "{what}: {a} and {b}");
    }
    assert!((found.cost() - expected.cost()).abs() < 1e-2 * (1.0 + expected.cost()), "{what}");
}

/// Compares a fleet with planners, one for each problem, which receive the same calls.
fn problems_are_planners<A: Algorithm<2> + Debug>(with_seed: impl Fn(u64) -> A) {
    for engine in all_engines() {
        let mut fleet = Fleet::new(&engine, Mass, with_seed(41), STATES.len()).unwrap();
        let new = |i| Planner::new(&engine, Mass, with_seed(41 + i as u64)).unwrap();
        let mut planners: Vec<_> = (0..STATES.len()).map(new).collect();
        for round in 0..4 {
            let plans = fleet.plan(&STATES).unwrap();
            assert_eq!(plans.len(), STATES.len());
            for ((i, plan), x) in plans.iter().enumerate().zip(&STATES) {
                let expected = planners[i].plan(x).unwrap();
                same(&engine, &format!("problem {i} in round {round}"), plan.unwrap(), expected);
            }
            for (i, planner) in planners.iter_mut().enumerate() {
                let [found, expected] = [fleet.samples(i).unwrap(), planner.samples().unwrap()]
                    .map(|samples| (samples.controls(5), samples.states(7), samples.weights()));
                if engine.backend() == Backend::Cpu {
                    assert_eq!(found, expected);
                }
                assert_eq!(
                    fleet.simulate(i, &STATES[i], planner.controls()),
                    planner.simulate(&STATES[i], planner.controls())
                );
            }
            // Change single problems.
            match round {
                0 => {
                    fleet.set_params(1, &PARAMS).unwrap();
                    planners[1].set_params(&PARAMS).unwrap();
                    fleet.set_references(2, &TABLE, 2).unwrap();
                    planners[2].set_references(&TABLE, 2).unwrap();
                    fleet.set_references(3, &[0.2], 1).unwrap();
                    planners[3].set_references(&[0.2], 1).unwrap();
                    fleet.reset(4).unwrap();
                    planners[4].reset();
                }
                1 => {
                    fleet.reseed(0, u64::MAX - 3).unwrap();
                    planners[0].reseed(u64::MAX - 3);
                    fleet.shift(1, 2).unwrap();
                    planners[1].shift(2);
                    let controls = [[0.3, -0.2]; 11];
                    fleet.set_controls(2, &controls).unwrap();
                    planners[2].set_controls(&controls).unwrap();
                }
                _ => {
                    fleet.resize(9, 400).unwrap();
                    planners.iter_mut().for_each(|planner| planner.resize(9, 400).unwrap());
                }
            }
        }
        assert_eq!(fleet.params(1).unwrap(), PARAMS);
        assert_eq!(fleet.params(0).unwrap(), [0.5, 0.0]);
        assert_eq!(fleet.references(2).unwrap().unwrap().values, TABLE);
        assert_eq!((fleet.seed(0).unwrap(), fleet.seed(3).unwrap()), (u64::MAX - 3, 44));
        fleet.reset_all();
        fleet.move_to(&cpu()).unwrap();
        for (i, planner) in planners.iter_mut().enumerate() {
            planner.reset();
            planner.move_to(&cpu()).unwrap();
            let plans = fleet.plan(&STATES).unwrap();
            let found = bits(plans.get(i).unwrap());
            assert_eq!(found, bits(planner.plan(&STATES[i]).unwrap()), "problem {i} on the CPU");
            fleet.reset_all();
        }
    }
}

#[test]
fn problems_of_a_fleet_are_planners() {
    problems_are_planners(|seed| MppiOptions { task: Task { seed, ..mppi().task }, ..mppi() });
    problems_are_planners(|seed| DiffusionOptions { task: Task { seed, ..diffusion().task }, ..diffusion() });
    problems_are_planners(|seed| MppiOptions {
        task: Task { seed, ..mppi().task },
        noise_shape: PINK,
        covariance_adaptation: Some(0.1),
        ..mppi()
    });
    problems_are_planners(|seed| DiffusionOptions {
        task: Task { seed, ..diffusion().task },
        noise_shape: KNOTS,
        ..diffusion()
    });
}

#[test]
fn a_problem_that_fails_keeps_its_plan_and_the_others_theirs() {
    for engine in engines() {
        let new = || Fleet::new(&engine, Mass, mppi(), 4).unwrap();
        let (mut fleet, mut whole) = (new(), new());
        let good = [STATES[0], STATES[1], STATES[2], STATES[3]];
        fleet.plan(&good).unwrap();
        whole.plan(&good).unwrap();
        let before: Vec<_> = (0..4).map(|i| fleet.controls(i).unwrap().to_vec()).collect();

        // Problem 1 has no finite state; in problem 2 no rollout has a finite cost.
        let plans = fleet.plan(&[STATES[0], [f32::NAN, 0.0], [2e6, 0.0], STATES[3]]).unwrap();
        let expected = whole.plan(&good).unwrap();
        for i in [0, 3] {
            assert_eq!(bits(plans.get(i).unwrap()), bits(expected.get(i).unwrap()), "problem {i}");
        }
        assert!(matches!(plans.get(1), Err(PlanError::Invalid(error)) if error.field == "state"));
        assert_eq!(plans.get(2).err(), Some(PlanError::NoFiniteRow { rows: 300 }));
        assert_eq!(plans.iter().map(|plan| plan.is_ok()).collect::<Vec<_>>(), [true, false, false, true]);
        for i in [1, 2] {
            assert_eq!(fleet.controls(i).unwrap(), before[i], "problem {i} keeps its plan");
            assert!(matches!(fleet.samples(i), Err(PlanError::Invalid(error)) if error.field == "samples"));
        }
        assert!(fleet.controls(0).unwrap() != before[0]);
        fleet.samples(3).unwrap();

        // A planner that refuses a state draws no noise for it either.
        let mut planner =
            Planner::new(&cpu(), Mass, MppiOptions { task: Task { seed: 42, ..mppi().task }, ..mppi() }).unwrap();
        planner.plan(&good[1]).unwrap();
        if engine.backend() == Backend::Cpu {
            let plans = fleet.plan(&good).unwrap();
            assert_eq!(bits(plans.get(1).unwrap()), bits(planner.plan(&good[1]).unwrap()));
        }
        // If no state is finite, every result is an error.
        let plans = fleet.plan(&[[f32::INFINITY, 0.0]; 4]).unwrap();
        assert!(plans.iter().all(|plan| plan.is_err()));
    }
}

#[test]
fn what_a_fleet_cannot_do_is_refused() {
    let engine = cpu();
    let field = |result: Result<_, gibbs::InvalidValue>| result.err().map(|error: gibbs::InvalidValue| error.field);
    let new = |options, problems| match Fleet::new(&engine, Mass, options, problems) {
        Err(gibbs::BuildError::Invalid(error)) => error.field,
        other => panic!("{other:?}"),
    };
    assert_eq!(new(mppi(), 0), "problems");
    assert_eq!(new(mppi(), 65_536), "problems");
    match Fleet::new(&engine, Mass, DiffusionOptions { chains: 40_000, ..diffusion() }, 2) {
        Err(gibbs::BuildError::Invalid(error)) => assert_eq!(error.field, "chains"),
        other => panic!("{other:?}"),
    }
    let mut fleet = Fleet::new(&engine, Mass, mppi(), 2).unwrap();
    assert!(matches!(fleet.plan(&STATES[..1]), Err(PlanError::Invalid(error)) if error.field == "states"));
    assert!(matches!(fleet.plan(&STATES[..3]), Err(PlanError::Invalid(error)) if error.field == "states"));
    assert_eq!(field(fleet.set_params(2, &PARAMS)), Some("problem"));
    assert_eq!(field(fleet.set_params(0, &[])), Some("params"));
    assert_eq!(field(fleet.set_params(0, &[f32::NAN])), Some("params"));
    assert_eq!(field(fleet.set_references(0, &TABLE, 3)), Some("references"));
    assert_eq!(field(fleet.set_controls(1, &[[0.0; 2]; 3])), Some("controls"));
    assert_eq!(field(fleet.shift(7, 1)), Some("problem"));
    assert_eq!(field(fleet.reset(7)), Some("problem"));
    assert_eq!(field(fleet.reseed(7, 1)), Some("problem"));
    assert_eq!(fleet.params(0).unwrap(), [0.5, 0.0], "a refused call changes nothing");
    fleet.plan(&STATES[..2]).unwrap();
}

#[test]
fn no_plan_depends_on_the_number_of_threads() {
    // Covers problems with one thread each and problems that are split among all threads.
    for (problems, samples) in [(5, 700), (2, 1500), (9, 64)] {
        let plans = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut fleet = Fleet::new(&cpu(), Mass, MppiOptions { samples, ..mppi() }, problems).unwrap();
                let states: Vec<_> = STATES.into_iter().cycle().take(problems).collect();
                fleet.plan(&states).unwrap();
                let numbers: Vec<_> = fleet.plan(&states).unwrap().iter().map(|plan| bits(plan.unwrap())).collect();
                let weights: Vec<_> = (0..problems).map(|i| fleet.samples(i).unwrap().weights()).collect();
                (numbers, weights)
            })
        };
        let expected = plans(1);
        for threads in [2, 3, 8] {
            assert_eq!(plans(threads), expected, "{problems} problems on {threads} threads");
        }
    }
}
