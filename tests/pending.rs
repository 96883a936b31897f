//! Calls that do not block: they give the same numbers as blocking calls, and a canceled call loses nothing. Also
//! engines on a device that the program has opened itself.

mod common;

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::engines;
use gibbs::check::{self, Map};
use gibbs::control::{AnyPlanner, Proposal, Smoothing};
use gibbs::lang::{Region, WgslFn};
use gibbs::policies::LinearFeedback;
use gibbs::sampling::Energy;
use gibbs::{
    Backend, BuildError, DiffusionSampler, DiffusionSamplerOptions, Engine, EngineError, EngineOptions, Fleet, Grid,
    InvalidValue, Model, Mppi, MppiOptions, Plan, PlanError, PolicyGradient, PolicyGradientOptions, Random, Real,
    StepContext, Task, Temperature, WeightedMean, Weighting,
};

/// A mass that should come to a run-time parameter, with an additional cost from a field.
struct Mass;

impl Model<2, 1> for Mass {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> [R; 2] {
        [p + v * at.dt(), v + u * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> R {
        (p - at.param(0)).square() + v.square() * 0.1 + u.square() * 0.01 + at.sample(0, p, v)
    }
}

impl Energy<2> for Mass {
    #[inline(always)]
    fn energy<R: Real>(&self, _: &StepContext<R>, [x, y]: [R; 2]) -> R {
        (x.square() + y.square() - 1.0).square()
    }
}

type Controller = Mppi<2, 1, Mass>;

const X: [f32; 2] = [0.5, -0.3];

fn grid(value: f32) -> Grid {
    Grid::new(2, 2, 1.0, [-1.0; 2], vec![0.0, value, value, 0.0]).unwrap()
}

fn options(samples: usize) -> MppiOptions<1> {
    MppiOptions {
        task: Task { horizon: 12, dt: 0.1, params: vec![1.0], fields: vec![grid(0.1)], ..Default::default() },
        samples,
        iterations: 2,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.2)),
        ..Default::default()
    }
}

/// A planner with too many rows for a single workgroup.
fn controller(engine: &Engine) -> Controller {
    Mppi::new(engine, Mass, options(600)).unwrap()
}

/// Polls the pending call until it has completed, and returns its plan.
fn polled(mppi: &mut Controller) -> Plan<2, 1> {
    let clock = Instant::now();
    loop {
        assert!(mppi.is_pending() && clock.elapsed() < Duration::from_secs(120));
        if let Some(plan) = mppi.poll().unwrap() {
            return plan.clone();
        }
        thread::sleep(Duration::from_micros(50));
    }
}

/// The numbers of a plan as bits.
fn bits(plan: &Plan<2, 1>) -> Vec<u32> {
    let statistics =
        [plan.cost(), plan.min_cost(), plan.mean_cost(), plan.effective_samples(), plan.log_z(), plan.temperature()];
    let numbers = plan.controls().as_flattened().iter().chain(plan.states().as_flattened()).chain(&statistics);
    numbers.map(|number| number.to_bits()).collect()
}

#[test]
fn a_plan_is_the_same_however_it_is_waited_for() {
    for engine in engines() {
        let [mut waits, mut polls, mut awaits] = [(); 3].map(|()| controller(&engine));
        let rows: Vec<f32> = (0..600 * 12).map(|i| (i as f32 * 0.37).sin()).collect();
        for call in 0..6 {
            let x = [X[0] + call as f32 * 0.1, X[1]];
            // Polling returns `None` while nothing is pending.
            assert!(polls.poll().unwrap().is_none());
            let expected = if call % 3 == 2 {
                polls.start_rows(&x, &rows).unwrap();
                pollster::block_on(awaits.plan_rows_async(&x, &rows)).unwrap();
                waits.plan_rows(&x, &rows).unwrap().clone()
            } else {
                polls.start(&x).unwrap();
                pollster::block_on(awaits.plan_async(&x)).unwrap();
                waits.plan(&x).unwrap().clone()
            };
            let found = if call % 2 == 0 { polled(&mut polls) } else { polls.finish().unwrap().clone() };
            let name = format!("call {call} on {}", engine.name());
            assert!(bits(&found) == bits(&expected), "{name}");
            assert_eq!(awaits.controls(), expected.controls(), "{name}");
            let weights = waits.samples().unwrap().weights();
            assert!(polls.samples().unwrap().weights() == weights, "{name}");
            assert!(pollster::block_on(awaits.samples_async()).unwrap().weights() == weights, "{name}");
            [&mut waits, &mut polls, &mut awaits].into_iter().for_each(|mppi| mppi.shift(1));
        }
    }
}

#[test]
fn the_planner_may_change_while_a_call_is_pending() {
    for engine in engines() {
        let [mut waits, mut polls] = [(); 2].map(|()| controller(&engine));
        for call in 0..4 {
            let name = format!("call {call} on {}", engine.name());
            polls.start(&X).unwrap();
            // Changes during a pending call affect the next one, as if they were made afterwards.
            let change = |mppi: &mut Controller| {
                mppi.set_params(&[call as f32]).unwrap();
                mppi.set_references(&[call as f32], 1).unwrap();
                if call % 2 == 0 {
                    mppi.set_field(0, grid(0.2 * call as f32)).unwrap();
                }
                mppi.set_field_origin(0, [-1.2, 0.1 * call as f32]).unwrap();
                let left = Region { column: 0, row: 0, width: 1, height: 2 };
                mppi.update_field(0, left, &[call as f32, 0.4]).unwrap();
                mppi.shift(1);
                mppi.shift(2);
            };
            change(&mut polls);
            let expected = waits.plan(&X).unwrap().clone();
            change(&mut waits);
            assert!(bits(&polled(&mut polls)) == bits(&expected), "{name}");
            assert_eq!(polls.controls(), waits.controls(), "{name}");
            // The rows cannot be recomputed, because the parameters have changed.
            assert!(polls.samples().is_err(), "{name}");
        }
    }
}

#[test]
fn a_call_that_is_given_up_leaves_the_plan_as_it_was() {
    for engine in engines() {
        let [mut mppi, mut twin] = [(); 2].map(|()| controller(&engine));
        mppi.plan(&X).unwrap();
        twin.plan(&X).unwrap();
        type Change = fn(&mut Controller);
        let changes: [(&str, Change); 7] = [
            ("cancel", |mppi| mppi.cancel()),
            ("set_controls", |mppi| {
                let controls = mppi.controls().to_vec();
                mppi.set_controls(&controls).unwrap();
            }),
            ("set_options", |mppi| mppi.set_options(mppi.options().clone()).unwrap()),
            ("resize", |mppi| mppi.resize(12, 600).unwrap()),
            ("move_to", |mppi| mppi.move_to(&mppi.engine().clone()).unwrap()),
            ("a dropped future", |mppi| {
                mppi.cancel();
                let mut future = pin!(mppi.plan_async(&X));
                let first = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(!matches!(first, Poll::Ready(Err(_))));
            }),
            ("a dropped future of a time budget", |mppi| {
                mppi.cancel();
                let mut future = pin!(mppi.plan_within_by_async(&X, Duration::from_secs(1), clock()));
                let first = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(!matches!(first, Poll::Ready(Err(_))));
            }),
        ];
        for (what, change) in changes {
            let name = format!("{what} on {}", engine.name());
            mppi.reset();
            twin.reset();
            let expected = [X, X].map(|x| twin.plan(&x).unwrap().controls().to_vec());
            mppi.plan(&X).unwrap();
            mppi.start(&X).unwrap();
            change(&mut mppi);
            assert!(!mppi.is_pending() && mppi.poll().unwrap().is_none(), "{name}");
            let computed = what.starts_with("a dropped future") && engine.backend() == Backend::Cpu;
            assert_eq!(mppi.controls() == &expected[0][..], !computed, "{name}");
            // The next call waits until the device has completed the previous one.
            mppi.plan(&X).unwrap();
            mppi.reset();
            assert_eq!(mppi.plan(&X).unwrap().controls(), &expected[0][..], "{name}");
            assert_eq!(mppi.plan(&X).unwrap().controls(), &expected[1][..], "{name}");
        }
    }
}

/// A clock that advances by one millisecond with each reading.
fn clock() -> impl FnMut() -> Duration + Send {
    let mut time = Duration::ZERO;
    move || {
        time += Duration::from_millis(1);
        time
    }
}

#[test]
fn a_call_pass_by_pass_can_be_dropped_between_any_two() {
    for engine in engines().into_iter().filter(|engine| engine.backend() != Backend::Cpu) {
        // So many passes that a single poll does not meet the end of all that are left.
        let mut mppi = Mppi::new(&engine, Mass, MppiOptions { iterations: 20, ..options(600) }).unwrap();
        let expected = mppi.plan(&X).unwrap().controls().to_vec();
        for passes in 1..4 {
            mppi.reset();
            let before = mppi.controls().to_vec();
            let reads = AtomicUsize::new(0);
            let now = || {
                // The first reading is that of the start.
                reads.fetch_add(1, Ordering::SeqCst);
                Duration::ZERO
            };
            {
                let mut future = pin!(mppi.plan_within_by_async(&X, Duration::from_secs(1), now));
                while reads.load(Ordering::SeqCst) <= passes {
                    let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    assert!(polled.is_pending(), "{passes} passes on {}", engine.name());
                    thread::yield_now();
                }
            }
            assert!(!mppi.is_pending() && mppi.poll().unwrap().is_none());
            assert_eq!(mppi.controls(), before);
            mppi.plan(&X).unwrap();
            mppi.reset();
            assert_eq!(mppi.plan(&X).unwrap().controls(), expected, "{passes} passes on {}", engine.name());
        }
    }
}

/// x ↦ 2 x + 1.
struct Line;

impl Map<1, 1> for Line {
    fn map<R: Real>(&self, [x]: [R; 1]) -> [R; 1] {
        [x * 2.0 + 1.0]
    }
}

const DOUBLED: WgslFn<1> =
    WgslFn { name: "doubled", source: "fn doubled(x: f32) -> f32 { return 2.0 * x; }", twin: |[x]| 2.0 * x };

#[test]
fn async_variants_compute_what_blocking_calls_do() {
    for engine in engines() {
        let name = engine.name();
        let [mut waits, mut awaits] = [(); 2].map(|()| controller(&engine));
        for passes in [0, 1, 2] {
            let expected = bits(waits.plan_first(&X, passes).unwrap());
            let found = pollster::block_on(awaits.plan_first_async(&X, passes)).unwrap();
            assert_eq!(found.passes(), passes.max(1), "{name}");
            assert!(bits(found) == expected, "{passes} passes on {name}");
        }
        let mut boxed: Box<dyn AnyPlanner<2, 1>> = Box::new(pollster::block_on(awaits.try_clone_async()).unwrap());
        let mut other = pollster::block_on(boxed.try_clone_async()).unwrap();
        // The second pass exceeds the first two; the first call measures a pass, so later ones draw fewer rows.
        for (budget, expected_passes) in [(100, 2), (1, 1), (0, 1), (100, 2)] {
            let budget = Duration::from_millis(budget);
            let plan = waits.plan_within_by(&X, budget, clock()).unwrap();
            let expected = (plan.passes(), plan.samples(), bits(plan));
            assert_eq!(expected.0, expected_passes, "{budget:?} on {name}");
            let found = pollster::block_on(awaits.plan_within_by_async(&X, budget, clock())).unwrap();
            assert!((found.passes(), found.samples(), bits(found)) == expected, "{budget:?} on {name}");
            let mut clock = clock();
            let found = pollster::block_on(boxed.plan_within_by_async(&X, budget, &mut clock)).unwrap();
            assert!((found.passes(), found.samples(), bits(found)) == expected, "{budget:?}, boxed, on {name}");
        }
        let long = Duration::from_secs(1000);
        let expected = bits(waits.plan_within(&X, long).unwrap());
        assert!(bits(pollster::block_on(awaits.plan_within_async(&X, long)).unwrap()) == expected, "{name}");
        let invalid = [f32::NAN, 0.0];
        let refused = pollster::block_on(awaits.plan_within_async(&invalid, long)).map(drop);
        assert!(matches!(refused, Err(PlanError::Invalid(InvalidValue { field: "state", .. }))), "{refused:?}");
        let refused = pollster::block_on(awaits.plan_rows_async(&X, &[0.0])).map(drop);
        assert!(matches!(refused, Err(PlanError::Invalid(InvalidValue { field: "rows", .. }))), "{refused:?}");
        awaits.start(&X).unwrap();
        let refused = pollster::block_on(awaits.plan_within_async(&X, long)).map(drop);
        assert_eq!(refused, Err(PlanError::Busy), "{name}");
        other.plan(&X).unwrap();

        let [mut waits, mut awaits] = [(); 2].map(|()| carts(&engine));
        for budget in [100, 1] {
            let budget = Duration::from_millis(budget);
            let plans = waits.plan_within_by(&STATES, budget, clock()).unwrap();
            let expected: Vec<_> = plans.iter().map(|plan| bits(plan.unwrap())).collect();
            let found = pollster::block_on(awaits.plan_within_by_async(&STATES, budget, clock())).unwrap();
            assert!(found.iter().map(|plan| bits(plan.unwrap())).eq(expected), "{name}");
            let weights = waits.samples(1).unwrap().weights();
            assert!(pollster::block_on(awaits.samples_async(1)).unwrap().weights() == weights, "{name}");
        }
        let mut copy = pollster::block_on(awaits.try_clone_async()).unwrap();
        let expected: Vec<_> = waits.plan(&STATES).unwrap().iter().map(|plan| bits(plan.unwrap())).collect();
        let found = pollster::block_on(copy.plan_within_async(&STATES, long)).unwrap();
        assert!(found.iter().map(|plan| bits(plan.unwrap())).eq(expected), "{name}");
        let refused = pollster::block_on(awaits.plan_within_async(&STATES[..2], long)).map(drop);
        assert!(matches!(refused, Err(PlanError::Invalid(InvalidValue { field: "states", .. }))), "{refused:?}");
        assert!(pollster::block_on(awaits.samples_async(3)).is_err());

        let inputs = [[-1.5], [0.25], [3.0]];
        let expected = check::evaluate(&engine, &Line, &inputs).unwrap();
        assert_eq!(expected, [[-2.0], [1.5], [7.0]]);
        assert_eq!(pollster::block_on(check::evaluate_async(&engine, &Line, &inputs)).unwrap(), expected);
        assert_eq!(pollster::block_on(check::wgsl_fn_async(&engine, &DOUBLED, &inputs)).unwrap(), 0.0);
        let round_trip = pollster::block_on(engine.round_trip_async()).unwrap();
        assert_eq!(round_trip.is_zero(), engine.backend() == Backend::Cpu, "{round_trip:?} on {name}");
    }
}

/// A change of options that is dropped while it waits for a canceled call leaves a planner with the new options.
#[test]
fn a_dropped_change_of_options_leaves_a_planner_that_fits_them() {
    for engine in engines() {
        let mut mppi = controller(&engine);
        mppi.start(&X).unwrap();
        let smoothing = Some(Smoothing { window: 5, order: 2 });
        let proposals = vec![Proposal::Last, Proposal::Given];
        let changed = MppiOptions { smoothing, proposals, ..mppi.options().clone() };
        // On a GPU, the first poll is still waiting for the call that was canceled.
        let _ = pin!(mppi.set_options_async(changed.clone())).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(*mppi.options(), changed);
        mppi.propose(1, &[[0.1]; 12]).expect("a Proposal::Given");
        mppi.plan(&X).unwrap();
        mppi.advance();
        let samples = mppi.options().samples;
        let _ = pin!(mppi.resize_async(20, samples)).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(mppi.plan(&X).unwrap().controls().len(), 20);
    }
}

#[test]
fn one_call_at_a_time() {
    for engine in engines() {
        let mut mppi = controller(&engine);
        let refused = mppi.finish().map(drop);
        assert!(matches!(&refused, Err(PlanError::Invalid(InvalidValue { field: "finish", .. }))), "{refused:?}");
        mppi.start(&X).unwrap();
        for call in 0..5 {
            let refused = match call {
                0 => mppi.start(&X),
                1 => mppi.plan(&X).map(drop),
                2 => mppi.plan_first(&X, 1).map(drop),
                3 => mppi.samples().map(drop),
                _ => pollster::block_on(mppi.plan_async(&X)).map(drop),
            };
            assert_eq!(refused, Err(PlanError::Busy), "call {call} on {}", engine.name());
        }
        mppi.finish().unwrap();
        // Invalid arguments are refused at once, and nothing is pending.
        let refused = mppi.start(&[f32::NAN, 0.0]);
        assert!(matches!(refused, Err(PlanError::Invalid(InvalidValue { field: "state", .. }))), "{refused:?}");
        let refused = mppi.start_rows(&X, &[0.0]);
        assert!(matches!(refused, Err(PlanError::Invalid(InvalidValue { field: "rows", .. }))), "{refused:?}");
        assert!(!mppi.is_pending());
        // An error in the results is returned once they are available, and the plan is kept.
        let before = mppi.controls().to_vec();
        mppi.set_params(&[f32::MAX]).unwrap();
        mppi.start(&X).unwrap();
        let failed = loop {
            match mppi.poll() {
                Ok(None) => thread::yield_now(),
                result => break result.map(drop),
            }
        };
        assert_eq!(failed, Err(PlanError::NoFiniteRow { rows: 600 }), "{}", engine.name());
        assert_eq!(mppi.controls(), before);
        mppi.set_params(&[1.0]).unwrap();
        mppi.plan(&X).unwrap();
    }
}

#[test]
fn a_copy_of_a_driver_with_a_pending_call_is_one_whose_call_was_canceled() {
    for engine in engines() {
        let name = engine.name();
        let mut mppi = controller(&engine);
        mppi.plan(&X).unwrap();
        mppi.start(&X).unwrap();
        let (mut copy, mut other) = (mppi.clone(), mppi.try_clone().unwrap());
        assert!(!copy.is_pending() && copy.poll().unwrap().is_none() && mppi.is_pending(), "{name}");
        assert_eq!(copy.last_plan(), mppi.last_plan(), "{name}");
        let expected = {
            let mut twin = controller(&engine);
            twin.plan(&X).unwrap();
            twin.start(&X).unwrap();
            twin.cancel();
            bits(twin.plan(&X).unwrap())
        };
        assert!(bits(copy.plan(&X).unwrap()) == expected, "{name}");
        assert!(bits(other.plan(&X).unwrap()) == expected, "{name}");
        assert!(bits(mppi.finish().unwrap()) != expected, "{name}");

        let mut fleet = carts(&engine);
        fleet.start(&STATES).unwrap();
        let mut copy = fleet.clone();
        assert!(!copy.is_pending() && fleet.is_pending(), "{name}");
        fleet.finish().unwrap();
        copy.plan(&STATES).unwrap();
        // Each has used the noise of one call.
        assert_eq!(copy.last_plan(0).unwrap().map(Plan::samples), Some(600), "{name}");
        assert!(copy.controls(0).unwrap() != fleet.controls(0).unwrap(), "{name}");

        let task = Task { horizon: 8, params: vec![1.0], fields: vec![grid(0.1)], ..Default::default() };
        let options = PolicyGradientOptions { task, samples: 70, learners: 2, ..Default::default() };
        let starts = |random: &mut Random, _: &mut [f32]| [random.normal(), random.normal()];
        let mut training = PolicyGradient::new(&engine, Mass, LinearFeedback, starts, options).unwrap();
        training.step().unwrap();
        training.start().unwrap();
        let mut copy = training.clone();
        assert!(!copy.is_pending() && training.is_pending(), "{name}");
        for _ in 0..2 {
            training.finish().unwrap();
            copy.step().unwrap();
            assert_eq!(copy.theta(1).unwrap(), training.theta(1).unwrap(), "{name}");
            training.start().unwrap();
        }

        let sampling = DiffusionSamplerOptions { chains: 3, samples: 65, ..Default::default() };
        let mut sampler = DiffusionSampler::of_energy(&engine, Mass, sampling).unwrap();
        sampler.sample().unwrap();
        sampler.start().unwrap();
        let mut copy = sampler.clone();
        assert!(!copy.is_pending() && sampler.is_pending(), "{name}");
        assert_eq!(copy.sample().unwrap().values(), sampler.finish().unwrap().values(), "{name}");

        let mut mean = WeightedMean::new(&engine);
        mean.start(&[1.0, 2.0, 6.0], &[0.0, 0.0, 0.0]).unwrap();
        let mut copy = mean.clone();
        assert!(!copy.is_pending() && mean.is_pending(), "{name}");
        assert_eq!(copy.compute(&[1.0, 3.0], &[0.0, 0.0]).unwrap().mean(), [2.0], "{name}");
        assert_eq!(mean.finish().unwrap().mean(), [3.0], "{name}");
    }
}

type Carts = Fleet<2, 1, Mass, MppiOptions<1>>;

const STATES: [[f32; 2]; 3] = [X, [-0.4, 0.2], [0.1, 0.6]];

fn carts(engine: &Engine) -> Carts {
    Fleet::new(engine, Mass, options(600), 3).unwrap()
}

/// Polls the pending call of a fleet until it has completed, and returns the numbers of its plans.
fn polled_carts(fleet: &mut Carts) -> Vec<Vec<u32>> {
    let clock = Instant::now();
    loop {
        assert!(fleet.is_pending() && clock.elapsed() < Duration::from_secs(120));
        if let Some(plans) = fleet.poll().unwrap() {
            return plans.iter().map(|plan| bits(plan.unwrap())).collect();
        }
        thread::sleep(Duration::from_micros(50));
    }
}

#[test]
fn a_fleet_may_change_while_a_call_is_pending() {
    for engine in engines() {
        let [mut waits, mut polls, mut awaits] = [(); 3].map(|()| carts(&engine));
        for call in 0..4 {
            let name = format!("call {call} on {}", engine.name());
            assert!(polls.poll().unwrap().is_none());
            polls.start(&STATES).unwrap();
            // Changes during a pending call affect the next one, as if they were made afterwards.
            let change = |fleet: &mut Carts| {
                fleet.shift(0, 1).unwrap();
                fleet.shift(2, 2).unwrap();
                fleet.shift(0, 2).unwrap();
                match call {
                    0 => fleet.set_params(1, &[0.3, 0.4]).unwrap(),
                    1 => fleet.set_references(2, &[0.1, 0.2], 1).unwrap(),
                    2 => fleet.set_field(0, grid(0.7)).unwrap(),
                    _ => fleet.shift_all(1),
                }
                fleet.reseed(1, 70 + call).unwrap();
            };
            change(&mut polls);
            let found = if call % 2 == 0 {
                polled_carts(&mut polls)
            } else {
                polls.finish().unwrap().iter().map(|plan| bits(plan.unwrap())).collect()
            };
            let expected: Vec<_> = waits.plan(&STATES).unwrap().iter().map(|plan| bits(plan.unwrap())).collect();
            assert!(found == expected, "{name}");
            let plans = pollster::block_on(awaits.plan_async(&STATES)).unwrap();
            assert!(plans.iter().map(|plan| bits(plan.unwrap())).eq(expected), "{name}");
            change(&mut waits);
            change(&mut awaits);
            for i in 0..3 {
                assert_eq!(polls.controls(i).unwrap(), waits.controls(i).unwrap(), "problem {i}, {name}");
                // The rows cannot be recomputed once the inputs have changed.
                let [weights, expected] =
                    [&mut polls, &mut waits].map(|fleet| fleet.samples(i).map(|samples| samples.weights()));
                assert_eq!(weights, expected, "problem {i}, {name}");
                assert_eq!(weights.is_err(), call < 3, "problem {i}, {name}");
            }
        }
    }
}

#[test]
fn a_fleet_has_one_call_at_a_time_and_gives_it_up_as_a_whole() {
    for engine in engines() {
        let name = engine.name();
        let [mut fleet, mut twin] = [(); 2].map(|()| carts(&engine));
        let refused = fleet.finish().map(drop);
        assert!(matches!(&refused, Err(PlanError::Invalid(InvalidValue { field: "finish", .. }))), "{refused:?}");
        let numbers = |fleet: &mut Carts| -> Vec<_> {
            fleet.plan(&STATES).unwrap().iter().map(|plan| bits(plan.unwrap())).collect()
        };
        let expected = [numbers(&mut twin), numbers(&mut twin)];
        type Change = fn(&mut Carts);
        let changes: [(&str, Change); 7] = [
            ("cancel", |fleet| fleet.cancel()),
            ("set_controls", |fleet| {
                let controls = fleet.controls(1).unwrap().to_vec();
                fleet.set_controls(1, &controls).unwrap();
            }),
            ("reset", |fleet| fleet.reset(2).unwrap()),
            ("set_options", |fleet| fleet.set_options(fleet.options().clone()).unwrap()),
            ("resize", |fleet| fleet.resize(12, 600).unwrap()),
            ("move_to", |fleet| fleet.move_to(&fleet.engine().clone()).unwrap()),
            ("a dropped future", |fleet| {
                fleet.cancel();
                let mut future = pin!(fleet.plan_async(&STATES));
                let first = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(!matches!(first, Poll::Ready(Err(_))));
            }),
        ];
        for (what, change) in changes {
            numbers(&mut fleet);
            let before = fleet.controls(0).unwrap().to_vec();
            fleet.start(&STATES).unwrap();
            assert_eq!(fleet.start(&STATES), Err(PlanError::Busy));
            assert_eq!(fleet.plan(&STATES).map(drop), Err(PlanError::Busy));
            assert_eq!(fleet.samples(0).map(drop), Err(PlanError::Busy));
            assert_eq!(pollster::block_on(fleet.plan_async(&STATES)).map(drop), Err(PlanError::Busy));
            change(&mut fleet);
            assert!(!fleet.is_pending() && fleet.poll().unwrap().is_none(), "{what} on {name}");
            let computed = what == "a dropped future" && engine.backend() == Backend::Cpu;
            assert_eq!(fleet.controls(0).unwrap() == &before[..], !computed, "{what} on {name}");
            // The next call waits until the device has completed the previous one.
            numbers(&mut fleet);
            fleet.reset_all();
            assert!(expected.iter().all(|expected| numbers(&mut fleet) == *expected), "{what} on {name}");
        }

        // Without a finite state there is no call; with some, the results of the others are errors.
        let broken = [f32::NAN, 0.0];
        let refused = fleet.start(&[broken; 3]);
        assert!(matches!(refused, Err(PlanError::Invalid(InvalidValue { field: "state", .. }))), "{refused:?}");
        let refused = fleet.start(&STATES[..2]);
        assert!(matches!(refused, Err(PlanError::Invalid(InvalidValue { field: "states", .. }))), "{refused:?}");
        assert!(!fleet.is_pending());
        assert!(pollster::block_on(fleet.plan_async(&[broken; 3])).unwrap().iter().all(|plan| plan.is_err()));
        fleet.reset_all();
        let before = fleet.controls(1).unwrap().to_vec();
        fleet.start(&[STATES[0], broken, STATES[2]]).unwrap();
        let plans = fleet.finish().unwrap();
        for i in [0, 2] {
            assert!(bits(plans.get(i).unwrap()) == expected[0][i], "problem {i} on {name}");
        }
        assert!(matches!(plans.get(1), Err(PlanError::Invalid(InvalidValue { field: "state", .. }))));
        assert_eq!(fleet.controls(1).unwrap(), before);
        let is_send = |_: &(dyn Send + '_)| ();
        is_send(&fleet.plan_async(&STATES));
    }
}

#[test]
fn a_call_that_is_asked_for_does_not_wait_and_has_its_time_limit() {
    let Some(engine) = common::gpu() else { return };
    // At least some milliseconds of work.
    let slow =
        MppiOptions { iterations: 8, weighting: Weighting::Exponential(Temperature::Fixed(1.0)), ..options(50_000) };
    let mut mppi = Mppi::new(&engine, Mass, slow.clone()).unwrap();
    let expected = mppi.plan(&X).unwrap().clone();
    let mut asked = 0;
    for _ in 0..10 {
        mppi.reset();
        mppi.start(&X).unwrap();
        while mppi.poll().unwrap().is_none() {
            asked += 1;
            thread::yield_now();
        }
        assert_eq!(mppi.controls(), expected.controls());
    }
    assert!(asked > 0, "all ten calls had completed at the first poll");

    let hasty = EngineOptions { timeout: Duration::from_nanos(1), ..engine.options().clone() };
    let mut hasty = Mppi::new(&Engine::with_options(hasty).unwrap(), Mass, slow).unwrap();
    let late = Err(PlanError::Engine(EngineError::Timeout { after: Duration::from_nanos(1) }));
    // A call may still complete in time if the thread is preempted before it polls, so several are tried.
    let polled = |mppi: &mut Controller| loop {
        match mppi.poll() {
            Ok(None) => thread::yield_now(),
            result => break result.map(drop),
        }
    };
    for what in ["polled", "awaited"] {
        let timed_out = (0..20).any(|_| {
            // The previous call may still be on the device. A blocking call would wait for it; `start` refuses.
            while hasty.start(&X).is_err() {
                thread::sleep(Duration::from_millis(1));
            }
            if what == "polled" {
                return polled(&mut hasty) == late;
            }
            hasty.cancel();
            pollster::block_on(hasty.plan_async(&X)).map(drop) == late
        });
        assert!(timed_out && !hasty.is_pending(), "{what}");
        assert_eq!(hasty.controls(), [[0.0]; 12], "{what}");
    }
}

#[test]
fn a_task_can_be_moved_to_another_thread_and_many_can_wait_at_once() {
    for engine in engines() {
        let expected = controller(&engine).plan(&X).unwrap().controls().to_vec();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let mut mppi = controller(&engine);
                thread::spawn(move || {
                    for _ in 0..5 {
                        mppi.reset();
                        pollster::block_on(mppi.plan_async(&X)).unwrap();
                    }
                    mppi.controls().to_vec()
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.join().unwrap(), expected, "{}", engine.name());
        }
        let is_send = |_: &(dyn Send + '_)| ();
        is_send(&controller(&engine).plan_async(&X));
        is_send(&controller(&engine).plan_within_async(&X, Duration::ZERO));
        is_send(&controller(&engine).try_clone_async());
        is_send(&engine.round_trip_async());
        is_send(&check::evaluate_async(&engine, &Line, &[]));
    }
}

#[test]
fn every_driver_can_be_polled_and_awaited() {
    for engine in engines() {
        let name = engine.name();
        let starts = |random: &mut Random, _: &mut [f32]| [random.normal(), random.normal()];
        let training = || {
            let task = Task { horizon: 8, params: vec![1.0], fields: vec![grid(0.1)], ..Default::default() };
            let options = PolicyGradientOptions { task, samples: 70, learners: 2, ..Default::default() };
            PolicyGradient::new(&engine, Mass, LinearFeedback, starts, options).unwrap()
        };
        let [mut waits, mut polls, mut awaits] = [(); 3].map(|()| training());
        for iteration in 0..3 {
            waits.step().unwrap();
            pollster::block_on(awaits.step_async()).unwrap();
            // A canceled iteration is repeated by the next call.
            polls.start().unwrap();
            assert_eq!(polls.step().map(drop), Err(PlanError::Busy));
            polls.cancel();
            while polls.start() == Err(PlanError::Busy) {
                thread::yield_now();
            }
            while polls.poll().unwrap().is_none() {
                thread::yield_now();
            }
            for learner in 0..2 {
                let [expected, a, b] = [&waits, &polls, &awaits].map(|training| training.theta(learner).unwrap());
                assert!(a == expected && b == expected, "iteration {iteration} of learner {learner} on {name}");
            }
        }
        let mut seen = 0;
        waits.train(3, |_| ControlFlow::Continue(())).unwrap();
        let trained = awaits.train_async(3, |progress| {
            seen += progress.len();
            if seen == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        pollster::block_on(trained).unwrap();
        assert_eq!((awaits.iteration(), seen), (5, 4), "{name}");
        // A training that is dropped keeps its iterations, and the next call repeats the one that was canceled.
        let _ =
            pin!(awaits.train_async(1, |_| ControlFlow::Continue(()))).poll(&mut Context::from_waker(Waker::noop()));
        assert!(!awaits.is_pending());
        if awaits.iteration() == 5 {
            awaits.step().unwrap();
        }
        for learner in 0..2 {
            assert!(awaits.theta(learner).unwrap() == waits.theta(learner).unwrap(), "{name}");
        }
        let before = polls.theta(0).unwrap().to_vec();
        polls.start().unwrap();
        polls.set_theta(1, &vec![0.5; before.len()]).unwrap();
        assert!(polls.poll().unwrap().is_none() && polls.theta(0).unwrap() == before, "{name}");
        assert!(polls.finish().is_err(), "{name}");

        let sampling = DiffusionSamplerOptions { chains: 3, samples: 65, ..Default::default() };
        let [mut waits, mut polls, mut awaits] =
            [(); 3].map(|()| DiffusionSampler::of_energy(&engine, Mass, sampling.clone()).unwrap());
        for call in 0..3 {
            let expected = waits.sample().unwrap().values().to_vec();
            polls.start().unwrap();
            assert_eq!(polls.start(), Err(PlanError::Busy));
            polls.cancel();
            while polls.start() == Err(PlanError::Busy) {
                thread::yield_now();
            }
            while polls.is_pending() {
                if let Some(chains) = polls.poll().unwrap() {
                    assert!(chains.values() == expected, "call {call} on {name}");
                }
            }
            let chains = pollster::block_on(awaits.sample_async()).unwrap();
            assert!(chains.values() == expected, "call {call} on {name}");
        }
        let noisy = [2.0, -1.0, 0.5, 0.0, -2.5, 1.0];
        // A call that is dropped uses up no noise, unless it has completed.
        if pin!(awaits.sample_from_async(&noisy)).poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            waits.sample_from(&noisy).unwrap();
        }
        let expected = waits.sample_from(&noisy).unwrap().values().to_vec();
        assert!(pollster::block_on(awaits.sample_from_async(&noisy)).unwrap().values() == expected, "{name}");
        let refused = pollster::block_on(awaits.sample_from_async(&noisy[1..])).map(drop);
        assert!(matches!(refused, Err(PlanError::Invalid(InvalidValue { field: "start", .. }))), "{refused:?}");

        let rows: Vec<f32> = (0..2000 * 3).map(|i| (i as f32 * 0.7).sin()).collect();
        let some: Vec<f32> = (0..2000).map(|i| (i as f32).cos() * 3.0).collect();
        // Log-weights so small that they are shifted, one of them as small as the sentinel of an excluded row.
        let small: Vec<f32> = (0..2000).map(|i| if i == 7 { -3.4e38 } else { -3.2e38 - i as f32 * 1e34 }).collect();
        let marked: Vec<f32> = (0..2000).map(|i| if i == 7 { -3.4e38 } else { 0.1 }).collect();
        let [mut waits, mut polls, mut awaits] = [(); 3].map(|()| WeightedMean::new(&engine).with_second_moment());
        for log_weights in [&some, &small, &marked] {
            let expected = waits.compute(&rows, log_weights).unwrap();
            assert_eq!((expected.valid_rows(), expected.invalid_rows()), (2000, 0), "{name}");
            polls.start(&rows, log_weights).unwrap();
            assert_eq!(polls.start(&rows, log_weights), Err(PlanError::Busy));
            while polls.is_pending() {
                if let Some(average) = polls.poll().unwrap() {
                    assert!(average == expected, "{name}");
                }
            }
            assert!(pollster::block_on(awaits.compute_async(&rows, log_weights)).unwrap() == expected, "{name}");
        }
        let none = vec![f32::NAN; 2000];
        assert_eq!(polls.start(&rows, &none), Err(PlanError::NoFiniteRow { rows: 2000 }), "{name}");
    }
}

#[cfg(feature = "gpu")]
mod shared {
    use std::sync::Arc;

    use gibbs::control::Samples;
    use gibbs::runtime::DeviceTrajectories;
    use gibbs::sampling::{ReverseProcess, Schedule};
    use gibbs::{DiffusionOptions, DiffusionPlanner, Interpolation, Limits, NoiseShape, Scenario, wgpu};

    use super::*;

    /// A program with its own device, and a kernel on it that increments a counter.
    struct Stranger {
        device: wgpu::Device,
        queue: wgpu::Queue,
        count: wgpu::ComputePipeline,
        counter: wgpu::Buffer,
        back: wgpu::Buffer,
        group: wgpu::BindGroup,
        errors: Arc<AtomicUsize>,
        losses: Arc<AtomicUsize>,
    }

    /// The adapter that the engine would choose, and its index.
    fn adapter() -> Option<(usize, wgpu::Adapter)> {
        let own = common::gpu()?;
        let index = Engine::adapters().into_iter().find(|adapter| own.name().starts_with(&adapter.name))?.index;
        let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends,
            flags: wgpu::InstanceFlags::empty(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let all = pollster::block_on(instance.enumerate_adapters(backends));
        Some((index, all.into_iter().nth(index)?))
    }

    impl Stranger {
        fn new(adapter: &wgpu::Adapter) -> Self {
            // Default features and limits.
            let (device, queue) = pollster::block_on(adapter.request_device(&Default::default())).unwrap();
            let (errors, losses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let counted = Arc::clone(&errors);
            device.on_uncaptured_error(Arc::new(move |_| _ = counted.fetch_add(1, Ordering::SeqCst)));
            let counted = Arc::clone(&losses);
            device.set_device_lost_callback(move |_, _| _ = counted.fetch_add(1, Ordering::SeqCst));
            let source = "@group(0) @binding(0) var<storage, read_write> counter: u32;
                @compute @workgroup_size(1) fn count() { counter += 1u; }";
            let source = wgpu::ShaderSource::Wgsl(source.into());
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
            let count = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some("count"),
                compilation_options: Default::default(),
                cache: None,
            });
            let buffer = |usage| {
                let usage = usage | wgpu::BufferUsages::COPY_DST;
                device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 4, usage, mapped_at_creation: false })
            };
            let counter = buffer(wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
            let back = buffer(wgpu::BufferUsages::MAP_READ);
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &count.get_bind_group_layout(0),
                entries: &[wgpu::BindGroupEntry { binding: 0, resource: counter.as_entire_binding() }],
            });
            Self { device, queue, count, counter, back, group, errors, losses }
        }

        fn engine(&self) -> Result<Engine, EngineError> {
            let timeout = Duration::from_secs(120);
            Engine::from_wgpu(&self.device, &self.queue, EngineOptions { timeout, ..Default::default() })
        }

        fn count(&self) {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                pass.set_pipeline(&self.count);
                pass.set_bind_group(0, &self.group, &[]);
                pass.dispatch_workgroups(1, 1, 1);
            }
            self.queue.submit([encoder.finish()]);
        }

        fn counted(&self) -> u32 {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&self.counter, 0, &self.back, 0, 4);
            encoder.map_buffer_on_submit(&self.back, wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
            self.queue.submit([encoder.finish()]);
            self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            let count = u32::from_le_bytes(self.back.get_mapped_range(..).unwrap()[..].try_into().unwrap());
            self.back.unmap();
            count
        }

        /// Copies a buffer to the host.
        fn read(&self, buffer: &wgpu::Buffer) -> Vec<f32> {
            let back = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: buffer.size(),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, 0, &back, 0, buffer.size());
            encoder.map_buffer_on_submit(&back, wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
            self.queue.submit([encoder.finish()]);
            self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            let bytes = back.get_mapped_range(..).unwrap();
            bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }

        /// The sums over all points of trajectories of w x₀, w x₁ and w, for two states and a weight: by a kernel of
        /// its own, which reads the buffer where it is.
        fn weighted_sums(&self, points: &wgpu::Buffer) -> Vec<f32> {
            let source = "@group(0) @binding(0) var<storage, read> points: array<f32>;
                @group(0) @binding(1) var<storage, read_write> sums: array<f32, 4>;
                @compute @workgroup_size(1) fn add() {
                    for (var i = 0u; i + 2u < arrayLength(&points); i += 3u) {
                        let w = points[i + 2u];
                        sums[0] += w * points[i];
                        sums[1] += w * points[i + 1u];
                        sums[2] += w;
                    }
                }";
            let source = wgpu::ShaderSource::Wgsl(source.into());
            let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
            let add = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some("add"),
                compilation_options: Default::default(),
                cache: None,
            });
            let sums = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 16,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &add.get_bind_group_layout(0),
                entries: &[
                    wgpu::BindGroupEntry { binding: 0, resource: points.as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 1, resource: sums.as_entire_binding() },
                ],
            });
            let mut encoder = self.device.create_command_encoder(&Default::default());
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                pass.set_pipeline(&add);
                pass.set_bind_group(0, &group, &[]);
                pass.dispatch_workgroups(1, 1, 1);
            }
            self.queue.submit([encoder.finish()]);
            self.read(&sums)
        }

        /// The numbers of calls of its error handler and of its loss handler.
        fn called(&self) -> [usize; 2] {
            [&self.errors, &self.losses].map(|count| count.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn two_engines_and_a_stranger_share_a_device() {
        let Some((index, adapter)) = adapter() else { return };
        let timeout = Duration::from_secs(120);
        let own = Engine::with_options(EngineOptions { adapter: Some(index), timeout, ..Default::default() }).unwrap();
        let stranger = Stranger::new(&adapter);
        let engines = [(); 2].map(|()| stranger.engine().unwrap());
        assert_eq!((engines[0].backend(), engines[0].name()), (own.backend(), own.name()));
        let seeded = |engine: &Engine, seed| {
            let mut options = options(600);
            options.task.seed = seed;
            Mppi::new(engine, Mass, options).unwrap()
        };
        let [mut a, mut b] = [(&engines[0], 1), (&engines[1], 2)].map(|(engine, seed)| seeded(engine, seed));
        let [mut a_alone, mut b_alone] = [1, 2].map(|seed| seeded(&own, seed));
        let rows: Vec<f32> = (0..2000 * 3).map(|i| (i as f32 * 0.7).sin()).collect();
        let log_weights: Vec<f32> = (0..2000).map(|i| (i as f32).cos() * 3.0).collect();
        let [mut mean, mut mean_alone] = [&engines[0], &own].map(WeightedMean::new);
        for call in 0..4 {
            stranger.count();
            a.start(&X).unwrap();
            stranger.count();
            b.start(&X).unwrap();
            stranger.count();
            assert_eq!(stranger.counted(), 3 * (call + 1));
            let found = [polled(&mut b), polled(&mut a)];
            let expected = [&mut b_alone, &mut a_alone].map(|mppi| mppi.plan(&X).unwrap().clone());
            for (found, expected) in found.iter().zip(&expected) {
                assert!(bits(found) == bits(expected), "call {call}");
            }
            assert!(a.samples().unwrap().weights() == a_alone.samples().unwrap().weights(), "call {call}");
            let found = mean.compute(&rows, &log_weights).unwrap();
            assert!(found == mean_alone.compute(&rows, &log_weights).unwrap(), "call {call}");
            [&mut a, &mut b, &mut a_alone, &mut b_alone].into_iter().for_each(|mppi| mppi.shift(1));
        }
        assert!(engines[0].round_trip().unwrap() > Duration::ZERO);

        // Destroying one engine affects neither the other engine nor the program.
        engines[0].destroy();
        let lost = |error: &PlanError| matches!(error, PlanError::Engine(EngineError::DeviceLost { .. }));
        assert!(lost(&a.plan(&X).unwrap_err()));
        let plan = b.plan(&X).unwrap().clone();
        assert!(bits(&plan) == bits(b_alone.plan(&X).unwrap()));
        drop((a, b, mean, engines));
        stranger.count();
        assert_eq!(stranger.counted(), 13);

        // The program's handlers are still installed, and no error scope is left open.
        assert_eq!(stranger.called(), [0, 0]);
        let _invalid = stranger.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        assert_eq!(stranger.called(), [1, 0]);
    }

    /// A mass before a wall, where its rollout ends.
    struct Wall;

    impl Model<2, 1> for Wall {
        #[inline(always)]
        fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 2], u: [R; 1]) -> [R; 2] {
            Mass.step(at, x, u)
        }
        #[inline(always)]
        fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 2], u: [R; 1]) -> R {
            Mass.cost(at, x, u)
        }
        #[inline(always)]
        fn done<R: Real>(&self, _: &StepContext<R>, [p, _]: [R; 2]) -> R::Mask {
            p.gt(0.6)
        }
    }

    /// Compares the trajectories of the first rows of a call with the samples of that call, rolled out on the host.
    fn compare(stranger: &Stranger, found: &DeviceTrajectories, samples: &Samples<'_, 2, 1>, plan: &Plan<2, 1>) {
        let (points, weights) = (plan.states().len(), samples.weights());
        assert_eq!((found.points, found.stride, found.rows <= samples.len()), (points, 12, true));
        for buffer in [&found.trajectories, &found.plan, &found.controls] {
            assert!(buffer.usage().contains(wgpu::BufferUsages::VERTEX | wgpu::BufferUsages::STORAGE));
        }
        let numbers = stranger.read(&found.trajectories);
        let near = |a: f32, b: f32| (a - b).abs() <= 2e-5 * b.abs().max(1.0);
        let mut stopped = 0;
        for k in 0..found.rows {
            let own = &numbers[3 * points * k..][..3 * points];
            let states = samples.states(k);
            for (t, (point, [p, v])) in own.chunks_exact(3).zip(&states).enumerate() {
                let expected = [*p, *v];
                assert!(near(point[0], *p) && near(point[1], *v), "row {k}, time {t}: {point:?}, not {expected:?}");
                assert!((point[2] - weights[k]).abs() <= 1e-5 * weights[k] + 1e-12, "{}, {}", point[2], weights[k]);
            }
            stopped += usize::from(states[points - 1] == states[points - 2]);
        }
        assert!((1..found.rows).contains(&stopped), "{stopped} of {} rows end at the wall", found.rows);
        let of_plan = stranger.read(&found.plan);
        let expected: Vec<f32> = plan.states().iter().flat_map(|[p, v]| [*p, *v, 1.0]).collect();
        assert_eq!(of_plan[..expected.len()], expected);
        assert_eq!(stranger.read(&found.controls)[..plan.controls().len()], *plan.controls().as_flattened());
    }

    #[test]
    fn trajectories_stay_on_the_device() {
        let Some((_, adapter)) = adapter() else { return };
        let stranger = Stranger::new(&adapter);
        let engine = stranger.engine().unwrap();
        let plain = options(600);
        let task = Task {
            limits: Some(Limits { low: [-2.0], high: [2.0] }),
            rate_limits: Some(Limits { low: [-8.0], high: [8.0] }),
            delay: 2,
            ..plain.task.clone()
        };
        let noise_shape = NoiseShape::Knots { every: 3, interpolation: Interpolation::Cubic };
        let uncertain = vec![Scenario::default(), Scenario { state: vec![0.1, 0.0], ..Default::default() }];
        let limited = MppiOptions { task: task.clone(), noise_shape, nominal_first: true, ..options(600) };
        let scenarios = MppiOptions { task: Task { scenarios: uncertain, ..task }, ..options(600) };
        for options in [options(200), plain, limited, scenarios] {
            let mut mppi = Mppi::new(&engine, Wall, options).unwrap();
            mppi.prepare_device_trajectories().unwrap();
            let mut before = None;
            for call in 0..2 {
                let plan = mppi.plan(&X).unwrap().clone();
                stranger.count();
                let found = mppi.device_trajectories(150).unwrap();
                compare(&stranger, &found, &mppi.samples().unwrap(), &plan);
                assert!(before.is_none_or(|before| before == found), "the buffers are used again");
                before = Some(found);
                assert_eq!(stranger.counted(), call + 1);
                mppi.shift(1);
            }
            stranger.queue.write_buffer(&stranger.counter, 0, &[0; 4]);
            // All rows: their weights sum to 1.
            let plan = mppi.plan(&X).unwrap().clone();
            let found = mppi.device_trajectories(usize::MAX).unwrap();
            assert_eq!(found.rows, mppi.options().samples);
            let samples = mppi.samples().unwrap();
            compare(&stranger, &found, &samples, &plan);
            let weights = samples.weights();
            let mut expected = [0.0_f64; 3];
            for (k, w) in weights.iter().enumerate() {
                for [p, v] in samples.states(k) {
                    [p, v, 1.0].iter().zip(&mut expected).for_each(|(x, sum)| *sum += f64::from(w * x));
                }
            }
            let sums = stranger.weighted_sums(&found.trajectories);
            // To the rounding of a plain sum of thousands of numbers.
            assert!((sums[2] / found.points as f32 - 1.0).abs() < 1e-4, "{sums:?}");
            for (sum, expected) in sums.iter().zip(expected) {
                assert!((f64::from(*sum) - expected).abs() < 1e-3 * expected.abs().max(1.0), "{sums:?}, {expected:?}");
            }
            assert_eq!(stranger.called(), [0, 0]);
        }
    }

    #[test]
    fn trajectories_of_chains_given_rows_and_fleets() {
        let Some((_, adapter)) = adapter() else { return };
        let stranger = Stranger::new(&adapter);
        let engine = stranger.engine().unwrap();
        let task = options(1).task;
        let process = ReverseProcess { schedule: Schedule::annealed(2, 0.5), ..Default::default() };
        let options_of_chains = DiffusionOptions {
            task: Task { horizon: 15, ..task },
            samples: 130,
            chains: 3,
            process,
            horizon_annealing: Some(0.5),
            antithetic: true,
            ..Default::default()
        };
        let mut chains = DiffusionPlanner::new(&engine, Wall, options_of_chains).unwrap();
        let plan = chains.plan(&X).unwrap().clone();
        let found = chains.device_trajectories(130).unwrap();
        compare(&stranger, &found, &chains.samples().unwrap(), &plan);
        chains.resize(12, 130).unwrap();
        chains.plan(&X).unwrap();
        let shorter = chains.device_trajectories(130).unwrap();
        assert!(shorter != found && shorter.points == 13);

        let mut mppi = Mppi::new(&engine, Wall, options(600)).unwrap();
        let rows: Vec<f32> = (0..600 * 12).map(|i| 4.0 * (i as f32 * 0.37).sin()).collect();
        let plan = mppi.plan_rows(&X, &rows).unwrap().clone();
        let found = mppi.device_trajectories(600).unwrap();
        compare(&stranger, &found, &mppi.samples().unwrap(), &plan);

        let mut fleet = Fleet::new(&engine, Wall, options(300), 3).unwrap();
        let states = [X, [0.2, 0.4], [-0.1, 0.9]];
        let plans: Vec<_> = fleet.plan(&states).unwrap().iter().map(|plan| plan.unwrap().clone()).collect();
        let found: Vec<_> = (0..3).map(|i| fleet.device_trajectories(i, 300).unwrap()).collect();
        for (i, (found, plan)) in found.iter().zip(&plans).enumerate() {
            compare(&stranger, found, &fleet.samples(i).unwrap(), plan);
        }
        assert!(fleet.device_trajectories(3, 1).is_err());
        assert_eq!(stranger.called(), [0, 0]);
    }

    #[test]
    fn trajectories_need_a_device_and_a_call() {
        let invalid = |result: Result<DeviceTrajectories, PlanError>| match result {
            Err(PlanError::Invalid(InvalidValue { field, expected, .. })) => (field, expected),
            other => panic!("{other:?}"),
        };
        let mut mppi = controller(&common::cpu());
        mppi.plan(&X).unwrap();
        let expected = "on a GPU, as by Engine::from_wgpu; on the CPU, Planner::samples returns the same rows";
        assert_eq!(invalid(mppi.device_trajectories(1)), ("engine", expected.into()));
        assert!(mppi.prepare_device_trajectories().is_err());
        let Some((_, adapter)) = adapter() else { return };
        let stranger = Stranger::new(&adapter);
        mppi.move_to(&stranger.engine().unwrap()).unwrap();
        let none = ("device_trajectories", "preceded by a call of plan that succeeded".into());
        assert_eq!(invalid(mppi.device_trajectories(1)), none);
        mppi.start(&X).unwrap();
        assert_eq!(mppi.device_trajectories(1), Err(PlanError::Busy));
        mppi.finish().unwrap();
        assert_eq!(invalid(mppi.device_trajectories(0)), ("rows", "at least 1".into()));
        assert_eq!(mppi.device_trajectories(1).unwrap().rows, 1);
        mppi.set_params(&[0.5]).unwrap();
        assert_eq!(invalid(mppi.device_trajectories(1)), none);
        mppi.plan(&X).unwrap();
        // A loss is noticed where results are awaited, and does not reach the program's handler.
        stranger.device.destroy();
        drop(mppi.device_trajectories(1));
        let lost = mppi.plan(&X).map(drop);
        assert!(matches!(lost, Err(PlanError::Engine(EngineError::DeviceLost { .. }))), "{lost:?}");
        assert_eq!(stranger.called()[0], 0);
    }

    #[test]
    fn a_device_that_its_owner_destroys_is_lost() {
        let Some((_, adapter)) = adapter() else { return };
        let lost = |result: Result<(), PlanError>| {
            assert!(matches!(result, Err(PlanError::Engine(EngineError::DeviceLost { .. }))), "{result:?}");
        };
        // The device is destroyed between two calls, then while a call is pending.
        for pending in [false, true] {
            let stranger = Stranger::new(&adapter);
            let engine = stranger.engine().unwrap();
            let mut mppi = controller(&engine);
            mppi.plan(&X).unwrap();
            let before = mppi.controls().to_vec();
            if pending {
                mppi.start(&X).unwrap();
                stranger.device.destroy();
                // The call may have completed before.
                if mppi.finish().is_ok() {
                    mppi.set_controls(&before).unwrap();
                }
            } else {
                stranger.device.destroy();
                let built = Mppi::new(&engine, Mass, options(600)).map(drop);
                let expected =
                    "the device was lost: the program that opened it has destroyed it, or its driver has failed";
                assert_eq!(built.map_err(|error| error.to_string()), Err(expected.into()));
                lost(mppi.plan(&X).map(drop));
            }
            lost(mppi.plan(&X).map(drop));
            lost(mppi.start(&X));
            lost(pollster::block_on(mppi.plan_async(&X)).map(drop));
            assert_eq!(mppi.controls(), before);
            assert!(matches!(engine.round_trip(), Err(EngineError::DeviceLost { .. })));
            let evaluated = pollster::block_on(check::evaluate_async(&engine, &Line, &[[1.0]]));
            assert!(matches!(evaluated, Err(BuildError::Engine(EngineError::DeviceLost { .. }))), "{evaluated:?}");
            assert!(matches!(stranger.engine(), Err(EngineError::DeviceLost { .. })));
            mppi.move_to(&common::cpu()).unwrap();
            mppi.plan(&X).unwrap();
            assert_eq!(stranger.called()[0], 0);
        }
    }

    #[test]
    fn a_device_with_too_low_a_limit_is_refused() {
        let Some((_, adapter)) = adapter() else { return };
        let required_limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..Default::default() };
        let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let refused = Engine::from_wgpu(&device, &queue, EngineOptions::default()).unwrap_err();
        let limit = "max_storage_buffers_per_shader_stage";
        assert_eq!(refused, EngineError::MissingLimit { limit, required: 8, found: 4 });
    }
}
