//! Recordings: snapshots, copies of planners, planners of any method, and options and plans as JSON (feature `serde`).

mod common;

use std::any::Any;
use std::fmt::Debug;
use std::thread;

use common::{cpu, engines};
use gibbs::control::{Algorithm, AnyPlanner, Fallback, FeedbackWeights, Proposal, Smoothing};
use gibbs::sampling::{ReverseProcess, Schedule};
use gibbs::{
    DiffusionOptions, DiffusionPlanner, Engine, Fleet, Interpolation, InvalidValue, Limits, Model, Mppi, MppiOptions,
    Noise, NoiseShape, Plan, Planner, Real, References, StepContext, Task, Temperature,
};

/// A damped mass that should come to parameter 0 and follow reference 0.
#[derive(Debug, Clone, Copy)]
struct Mass;

impl Model<2, 2> for Mass {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u, w]: [R; 2]) -> [R; 2] {
        [p + (v + w * 0.1) * at.dt(), v * 0.9 + u * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u, w]: [R; 2]) -> R {
        (p - at.param(0)).square() + (v - at.reference(0)).square() * 0.3 + (u.square() + w.square()) * 0.01
    }
}

/// Options under which a call depends on everything that a snapshot has.
fn mppi() -> MppiOptions<2> {
    MppiOptions {
        task: Task {
            horizon: 12,
            dt: 0.1,
            limits: Some(Limits { low: [-2.0, f32::NEG_INFINITY], high: [2.0, f32::INFINITY] }),
            rate_limits: Some(Limits { low: [-8.0; 2], high: [6.0, f32::INFINITY] }),
            jerk_limits: Some(Limits { low: [-60.0; 2], high: [40.0, f32::INFINITY] }),
            delay: 2,
            params: vec![0.5],
            references: Some(References { values: vec![0.1, 0.2, 0.3], columns: 1 }),
            seed: 41,
            ..Default::default()
        },
        samples: 200,
        iterations: 2,
        noise: Noise::Covariance([[1.0, 0.3], [0.3, 0.5]]),
        noise_shape: NoiseShape::Knots { every: 3, interpolation: Interpolation::Linear },
        weighting: Temperature::EffectiveSamples(0.2).into(),
        proposals: vec![Proposal::Last, Proposal::Given, Proposal::Sustained([0.7, -0.1])],
        fallback: Fallback::LastPlan,
        smoothing: Some(Smoothing { window: 7, order: 2 }),
        covariance_adaptation: Some(0.2),
        ..Default::default()
    }
}

fn diffusion() -> DiffusionOptions<2> {
    let MppiOptions { task, samples, .. } = mppi();
    let schedule = Schedule::Geometric { levels: 3, smallest: 0.2, largest: 1.0 };
    DiffusionOptions {
        task: Task { delay: 0, ..task },
        samples,
        chains: 3,
        scatter: true,
        process: ReverseProcess { schedule, ..Default::default() },
        ..Default::default()
    }
}

type Bits = (Vec<u32>, Vec<u32>, [u32; 4]);

fn bits(plan: &Plan<2, 2>) -> Bits {
    let of = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect();
    let numbers = [plan.cost(), plan.log_z(), plan.effective_samples(), plan.mean_cost()].map(f32::to_bits);
    (of(plan.controls().as_flattened()), of(plan.states().as_flattened()), numbers)
}

type MassPlanner<A> = Planner<2, 2, Mass, A>;

/// Runs a loop of `calls` calls, at a pace of its own.
fn run(planner: &mut dyn AnyPlanner<2, 2>, calls: usize) -> Vec<Bits> {
    let mut x = [1.5, -0.4];
    let one = |call: usize| {
        let plan = planner.plan(&x).expect("a plan");
        let found = bits(plan);
        x = plan.states()[1];
        planner.advance_by([0.1, 0.04, 0.25][call % 3]).expect("a control");
        found
    };
    (0..calls).map(one).collect()
}

fn restored_planners_repeat<A: Algorithm<2>>(engine: &Engine, options: A, before: impl Fn(&mut MassPlanner<A>)) {
    let mut planner = Planner::new(engine, Mass, options.clone()).expect("valid");
    run(&mut planner, 4);
    before(&mut planner);
    let snapshot = planner.snapshot();
    let (mut copy, mut clone) = (planner.try_clone().expect("a copy"), planner.clone());
    let mut fresh = Planner::new(engine, Mass, options).expect("valid");
    fresh.restore(&snapshot).expect("the same options");
    assert_eq!(fresh.snapshot(), snapshot);

    let expected = run(&mut planner, 4);
    assert_ne!(planner.snapshot(), snapshot, "the planner goes on");
    assert_eq!(copy.snapshot(), snapshot, "the copy is independent");
    assert_eq!(run(&mut copy, 4), expected, "{}: a copy", engine.name());
    assert_eq!(run(&mut clone, 4), expected, "{}: a clone", engine.name());
    assert_eq!(run(&mut fresh, 4), expected, "{}: a new planner", engine.name());
    assert_eq!(copy.snapshot(), planner.snapshot());
    assert_eq!(clone.snapshot(), planner.snapshot());
    planner.restore(&snapshot).expect("its own");
    assert_eq!(run(&mut planner, 4), expected, "{}: the same planner", engine.name());
    assert_eq!(fresh.snapshot(), planner.snapshot());
}

#[test]
fn restored_planners_repeat_their_plans() {
    for engine in engines() {
        restored_planners_repeat(&engine, mppi(), |planner| {
            planner.propose(1, &[[0.3, 0.2]; 12]).expect("a Proposal::Given");
            planner.set_last_control(&[0.25, 0.1]).expect("finite");
        });
        restored_planners_repeat(&engine, diffusion(), |_| ());
    }
}

#[test]
fn boxed_planners_of_any_method_plan_as_their_own_types_do() {
    for engine in engines() {
        let (mut mppi, mut diffusion) = (
            Mppi::new(&engine, Mass, mppi()).expect("valid"),
            DiffusionPlanner::new(&engine, Mass, diffusion()).expect("valid"),
        );
        let mut planners: [Box<dyn AnyPlanner<2, 2>>; 2] = [Box::new(mppi.clone()), Box::new(diffusion.clone())];
        let expected = [run(&mut mppi, 3), run(&mut diffusion, 3)];
        let copies = planners.clone();
        let found = copies.map(|mut planner| thread::spawn(move || (run(&mut *planner, 3), planner)));
        for ((thread, planner), expected) in found.into_iter().zip(&mut planners).zip(&expected) {
            let (found, moved) = thread.join().expect("it plans");
            assert_eq!(found, *expected, "{}", engine.name());

            // The plan that is kept does not change with the planner; neither does a feedback along it.
            assert!(planner.last_plan().is_none());
            let x = [1.5, -0.4];
            assert_eq!(bits(planner.plan(&x).expect("a plan")), expected[0]);
            let kept = planner.last_plan().expect("there was a call").clone();
            let weights = planner.samples().expect("there was a call").weights();
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-4);
            let task = Task { delay: 0, ..planner.task().clone() };
            planner.set_task(task).expect("valid");
            let feedback = planner.feedback(FeedbackWeights::diagonal([1.0; 2], [0.1; 2])).expect("a plan");
            let gains = feedback.gains().to_vec();
            planner.set_params(&[-0.7]).expect("enough");
            let next = pollster::block_on(planner.plan_async(&[0.3, 0.2])).expect("a plan");
            assert_ne!(next.controls(), kept.controls());
            assert_eq!(bits(&kept), expected[0]);
            assert_eq!(feedback.gains(), gains);
            assert_eq!(feedback.controls(), kept.controls());

            let refused = planner.set_field_origin(0, &[0.0, 0.0]);
            assert!(matches!(refused, Err(InvalidValue { field: "field", .. })), "{refused:?}");
            let is_mppi = (&*moved as &dyn Any).is::<Mppi<2, 2, Mass>>();
            assert_eq!(is_mppi, *expected == run(&mut Mppi::new(&engine, Mass, self::mppi()).expect("valid"), 3));
        }
    }
}

#[test]
fn restored_planners_have_the_same_time_per_row() {
    use std::time::Duration;

    let mut mppi = Mppi::new(&cpu(), Mass, mppi()).expect("valid");
    let mut clock = 0.0;
    // Every look at the clock takes 10 ms, so that a pass does, too.
    let mut now = || {
        clock += 0.01;
        Duration::from_secs_f64(clock)
    };
    mppi.plan_within_by(&[1.0, 0.0], Duration::from_millis(50), &mut now).expect("a plan");
    let snapshot = mppi.snapshot();
    let mut plan = || mppi.plan_within_by(&[1.0, 0.0], Duration::from_millis(4), &mut now).expect("a plan").samples();
    let rows = plan();
    assert!(rows < 200, "{rows} rows");
    let mut fresh = Mppi::new(&cpu(), Mass, self::mppi()).expect("valid");
    fresh.restore(&snapshot).expect("the same options");
    let plan = fresh.plan_within_by(&[1.0, 0.0], Duration::from_millis(4), &mut now).expect("a plan");
    assert_eq!(plan.samples(), rows);
}

/// Expects `restore` to refuse a snapshot of `other`, and to change nothing.
fn refused<A: Algorithm<2>, B: Algorithm<2>>(planner: &mut MassPlanner<A>, other: B, message: &str) {
    let snapshot = Planner::new(&cpu(), Mass, other).expect("valid").snapshot();
    let before = planner.snapshot();
    let InvalidValue { value, expected, .. } = planner.restore(&snapshot).expect_err(message);
    let found = format!("{value}, not {expected}");
    assert!(found.contains(message), "{found:?}");
    assert_eq!(planner.snapshot(), before);
}

#[test]
fn snapshots_of_other_sizes_are_refused() {
    let mut planner = Mppi::new(&cpu(), Mass, mppi()).expect("valid");
    run(&mut planner, 2);
    let longer = Task { horizon: 13, ..mppi().task };
    refused(&mut planner, MppiOptions { task: longer, ..mppi() }, "13 time steps, not one with horizon = 12 of them");
    refused(&mut planner, MppiOptions { proposals: Vec::new(), ..mppi() }, "1 chains, not one with 4");
    let task = Task { delay: 0, ..mppi().task };
    refused(&mut planner, DiffusionOptions { chains: 4, ..diffusion() }, "proposals of [] time steps");
    let mut three = DiffusionPlanner::new(&cpu(), Mass, diffusion()).expect("valid");
    refused(&mut three, DiffusionOptions { task, chains: 2, ..diffusion() }, "2 chains, not one with 3");

    // A given sequence for what takes none.
    let mut other = Mppi::new(&cpu(), Mass, mppi()).expect("valid");
    other.propose(1, &[[0.1; 2]; 12]).expect("a Proposal::Given");
    let proposals = vec![Proposal::Last, Proposal::Initial, Proposal::Initial];
    let mut planner = Mppi::new(&cpu(), Mass, MppiOptions { proposals, ..mppi() }).expect("valid");
    let error = planner.restore(&other.snapshot()).expect_err("it takes none");
    assert!(error.value.contains("[0, 12, 0]"), "{error}");
}

#[test]
fn restored_fleets_repeat_their_plans() {
    let options = MppiOptions { proposals: Vec::new(), ..mppi() };
    let states = [[1.0, 0.0], [-0.5, 0.2], [2.0, -1.0]];
    for engine in engines() {
        let new = |problems: usize| Fleet::new(&engine, Mass, options.clone(), problems).expect("valid");
        let mut fleet = new(3);
        fleet.set_params(1, &[-0.8, 0.1]).expect("enough");
        fleet.set_references(2, &[0.5, 0.6, 0.7, 0.8], 1).expect("enough");
        fleet.reseed(0, 99).expect("a problem");
        let run = |fleet: &mut Fleet<2, 2, Mass, MppiOptions<2>>| {
            let mut found = Vec::new();
            for _ in 0..2 {
                found.extend(fleet.plan(&states).expect("plans").iter().map(|plan| bits(plan.expect("a plan"))));
                fleet.advance(1).expect("a problem");
            }
            found
        };
        run(&mut fleet);
        let snapshot = fleet.snapshot();
        let (mut copy, mut clone) = (fleet.try_clone().expect("a copy"), fleet.clone());
        let mut other = new(3);
        // Its own inputs are replaced, also by those of the options.
        other.set_params(0, &[3.0]).expect("enough");
        other.restore(&snapshot).expect("the same options");
        let expected = run(&mut fleet);
        assert_eq!(run(&mut other), expected, "{}", engine.name());
        assert_eq!(run(&mut copy), expected, "{}", engine.name());
        assert_eq!(run(&mut clone), expected, "{}", engine.name());
        assert_eq!(other.params(1).expect("a problem"), [-0.8, 0.1]);
        assert_eq!(other.params(0).expect("a problem"), [0.5]);
        assert_eq!(other.seed(0).expect("a problem"), 99);

        let error = new(2).restore(&snapshot).expect_err("two problems");
        assert!(error.to_string().contains("one of 3 problems, but must be one of 2"), "{error}");
    }
    let mut one = Fleet::new(&cpu(), Mass, options.clone(), 1).expect("valid");
    let mut planner = Planner::new(&cpu(), Mass, options).expect("valid");
    planner.restore(&one.snapshot()).expect("a fleet of one without inputs of its own");
    one.reseed(0, 3).expect("a problem");
    let error = planner.restore(&one.snapshot()).expect_err("a planner has no seed of its own");
    assert!(error.to_string().contains("fleet"), "{error}");
}

#[cfg(feature = "serde")]
mod json {
    use gibbs::control::{CostNormalization, Effort, PlanSource, ShiftFill, Snapshot, Symptom};
    use gibbs::learning::{ActionNoise, Anneal, Estimator, Step};
    use gibbs::sampling::{SampleWidth, Sampler};
    use gibbs::{Backend, Grid, PolicyGradientOptions, Random, Weighting};

    use super::*;

    fn written<T: serde::Serialize>(value: &T) -> String {
        serde_json::to_string(value).expect("it can be written")
    }

    fn read<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    /// Expects a value to survive.
    fn survives<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug>(value: &T) {
        let json = written(value);
        assert_eq!(&read::<T>(&json).expect("readable"), value, "{json}");
    }

    #[test]
    fn options_survive() {
        let grid = Grid::new(2, 1, 0.5, [1.0, -2.0], vec![3.0, 0.1]).and_then(|grid| grid.with_yaw(0.3));
        let grid = grid.and_then(|grid| grid.with_outside(7.0)).expect("valid");
        let table = Grid::table(0.5, 1.0, vec![3.0, 0.1, 4.0])
            .and_then(|table| table.with_channel(vec![1.0, 2.0, 3.0])?.with_ends(gibbs::lang::Ends::Periodic));
        let volume = Grid::volume([2, 1, 2], 0.5, [1.0, -2.0, 0.1], vec![3.0, 0.1, 0.2, 0.3])
            .and_then(|volume| volume.with_layer_height(0.3)?.with_yaw(0.2));
        let fields = vec![grid, table.expect("valid"), volume.expect("valid")];
        let task = Task { fields, ..mppi().task };
        survives(&MppiOptions { task: task.clone(), ..mppi() });
        survives(&MppiOptions {
            noise: Noise::Diagonal([0.1, 0.0]),
            noise_shape: NoiseShape::Colored { exponent: 1.5 },
            weighting: Weighting::Elite(0.1),
            cost_normalization: CostNormalization::Gamma(0.3),
            shift_fill: ShiftFill::Repeat,
            ..mppi()
        });
        survives(&diffusion());
        for sampler in [Sampler::Ddim { eta: 0.5 }, Sampler::Langevin { steps: 3, rate: 0.1 }] {
            let process =
                ReverseProcess { schedule: Schedule::Table(vec![0.9, 0.7]), sampler, width: SampleWidth::Published };
            survives(&DiffusionOptions { process, demonstration: Some(2.0), ..diffusion() });
        }
        survives(&PolicyGradientOptions::<2>::default());
        survives(&PolicyGradientOptions {
            estimator: Estimator::ScoreFunction {
                std: [0.1, 0.2],
                action_noise: ActionNoise::Anneal(Anneal { first: 1.0, last: 0.1, over: 9 }),
                antithetic: false,
            },
            weighting: Weighting::Signed { standardized: true },
            step: Step::Momentum { rate: Anneal::from(0.1), momentum: 0.9 },
            ..Default::default()
        });
    }

    #[test]
    fn the_format_is_stable() {
        // Recordings stay readable.
        let json = r#"{"task": {"horizon": 20, "limits": {"low": [-1, null], "high": [1.5, null]}, "seed": 18446744073709551615},
            "samples": 64, "weighting": {"exponential": {"effective_samples": 0.2}}, "noise": {"diagonal": [0.5, 1]},
            "noise_shape": {"knots": {"every": 4, "interpolation": "cubic"}},
            "proposals": ["last", {"sustained": [1, 2]}, "given"], "smoothing": {"window": 5, "order": 2}, "initial": [0, 0.5]}"#;
        let expected = MppiOptions {
            task: Task {
                horizon: 20,
                limits: Some(Limits { low: [-1.0, f32::NEG_INFINITY], high: [1.5, f32::INFINITY] }),
                seed: u64::MAX,
                ..Default::default()
            },
            samples: 64,
            weighting: Temperature::EffectiveSamples(0.2).into(),
            noise: Noise::Diagonal([0.5, 1.0]),
            noise_shape: NoiseShape::Knots { every: 4, interpolation: Interpolation::Cubic },
            proposals: vec![Proposal::Last, Proposal::Sustained([1.0, 2.0]), Proposal::Given],
            smoothing: Some(Smoothing { window: 5, order: 2 }),
            initial: [0.0, 0.5],
            ..Default::default()
        };
        // Fields that are not there have their defaults.
        assert_eq!(read::<MppiOptions<2>>(json).expect("readable"), expected);
        assert_eq!(read::<DiffusionOptions<3>>("{}").expect("readable"), DiffusionOptions::default());
        assert_eq!(written(&Limits { low: [f32::NEG_INFINITY, -1.0], high: [f32::INFINITY, 2.5] }), {
            r#"{"low":[null,-1.0],"high":[null,2.5]}"#
        });
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let refuses = |found: Result<String, String>, message: &str| {
            let error = found.expect_err(message);
            assert!(error.contains(message), "{error}");
        };
        let options = |json: &str| read::<MppiOptions<2>>(json).map(|options| format!("{options:?}"));
        refuses(options(r#"{"sampels": 64}"#), "unknown field `sampels`");
        refuses(options(r#"{"initial": [1]}"#), "invalid length 1, expected an array of length 2");
        refuses(options(r#"{"initial": [1, 2, 3]}"#), "trailing");
        refuses(options(r#"{"task": {"dt": null}}"#), "invalid type: null");
        let grid = r#"{"width": 2, "height": 2, "resolution": 1, "origin": [0, 0], "values": [1, 2, 3]}"#;
        refuses(read::<Grid>(grid).map(|grid| format!("{grid:?}")), "width × height = 4 numbers");
        let limits = Limits { low: [f32::NAN], high: [1.0] };
        refuses(serde_json::to_string(&limits).map_err(|error| error.to_string()), "neither of them NaN");
    }

    #[test]
    fn numbers_survive_to_the_bit() {
        let mut random = Random::new(7);
        for _ in 0..2000 {
            let mut number = || loop {
                let number =
                    f32::from_bits((random.uniform() * 65536.0) as u32 * 65536 + (random.uniform() * 65536.0) as u32);
                if number.is_finite() {
                    return number;
                }
            };
            let numbers: [f32; 40] = std::array::from_fn(|_| number());
            let Noise::Diagonal(found) = read(&written(&Noise::Diagonal(numbers))).expect("readable") else {
                panic!("another variant")
            };
            assert_eq!(found.map(f32::to_bits), numbers.map(f32::to_bits));
        }
    }

    #[test]
    fn a_stored_snapshot_leads_to_the_same_plans() {
        let mut planner = Mppi::new(&cpu(), Mass, mppi()).expect("valid");
        run(&mut planner, 3);
        planner.propose(1, &[[0.3, 0.2]; 12]).expect("a Proposal::Given");
        let (options, snapshot) = (written(planner.options()), written(&planner.snapshot()));
        let mut other = Mppi::new(&cpu(), Mass, read(&options).expect("readable")).expect("valid");
        other.restore(&read(&snapshot).expect("readable")).expect("the same options");
        assert_eq!(run(&mut other, 3), run(&mut planner, 3));

        // A file may hold anything.
        let before = planner.snapshot();
        for (path, value) in [
            ("/best", serde_json::json!(9)),
            ("/chains/2/5/1", serde_json::Value::Null),
            ("/applied/last/0", serde_json::Value::Null),
            ("/applied/duration", serde_json::json!(-1.0)),
            ("/applied/rate/1", serde_json::Value::Null),
            ("/applied/recent", serde_json::json!(vec![[0.0; 2]; 50])),
            ("/own/seed", serde_json::json!(3)),
        ] {
            let mut json: serde_json::Value = read(&snapshot).expect("readable");
            *json["members"][0].pointer_mut(path).expect(path) = value;
            let broken: Snapshot<2> = serde_json::from_value(json).expect(path);
            planner.restore(&broken).expect_err(path);
            assert_eq!(planner.snapshot(), before);
        }
    }

    #[test]
    fn plans_survive() {
        let task = Task { limits: Some(Limits { low: [-2.0; 2], high: [2.0; 2] }), ..mppi().task };
        let options = MppiOptions { task, noise: Noise::Diagonal([100.0; 2]), ..mppi() };
        let mut planner = Mppi::new(&cpu(), Mass, options).expect("valid");
        let plan = planner.plan(&[1.0, 0.0]).expect("a plan").clone();
        assert!(plan.symptoms().any(|symptom| symptom == Symptom::Clipped));
        let found: Plan<2, 2> = read(&written(&plan)).expect("readable");
        assert_eq!(bits(&found), bits(&plan));
        assert_eq!(found.timing(), plan.timing());
        assert!(found.symptoms().eq(plan.symptoms()));
        assert_eq!((found.backend(), found.source(), found.effort()), (Backend::Cpu, plan.source(), Effort::Full));
        assert_eq!(read::<PlanSource>(r#"{"proposal":2}"#), Ok(PlanSource::Proposal(2)));

        let mut json: serde_json::Value = read(&written(&plan)).expect("readable");
        json["cost"] = serde_json::Value::Null;
        let found: Plan<2, 2> = serde_json::from_value(json).expect("readable");
        assert!(found.cost().is_nan(), "what was not finite");
    }
}
