//! Regression tests. Each describes the fault that it guards against.

mod common;

use common::engines;
use gibbs::check::{Map, evaluate};
use gibbs::derivative::Dual;
use gibbs::{
    Backend, FieldSet, Grid, InvalidValue, Limits, Model, Mppi, MppiOptions, PlanError, Real, StepContext, Task,
    Temperature, Weighting,
};

/// The controls are the cost, on top of a base cost that is the same for all rows.
struct Toll {
    base: f32,
}

impl Model<1, 1> for Toll {
    #[inline(always)]
    fn step<R: Real>(&self, _at: &StepContext<R>, x: [R; 1], _u: [R; 1]) -> [R; 1] {
        x
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, _x: [R; 1], [u]: [R; 1]) -> R {
        R::select(at.index().cmp_eq(0.0), self.base, u)
    }
}

/// Returns the effective sample size, as a fraction, that a target of a tenth leads to when rows have these costs.
fn reached(engine: &gibbs::Engine, base: f32, tolls: &[f32]) -> f32 {
    let weighting = Weighting::Exponential(Temperature::EffectiveSamples(0.1));
    let options = MppiOptions {
        task: Task { horizon: 2, ..Default::default() },
        samples: tolls.len(),
        weighting,
        ..MppiOptions::default()
    };
    let mut mppi = Mppi::new(engine, Toll { base }, options).unwrap();
    let rows: Vec<f32> = tolls.iter().flat_map(|toll| [0.0, *toll]).collect();
    let plan = mppi.plan_rows(&[0.0], &rows).unwrap();
    assert!(plan.temperature().is_finite() && plan.temperature() > 0.0);
    plan.effective_samples() / tolls.len() as f32
}

/// Evenly spaced numbers in [0, 1), shuffled.
fn spread(count: usize) -> impl Iterator<Item = f32> {
    (0..count).map(move |k| ((k * 7919) % count) as f32 / count as f32)
}

/// The bracket of the temperature search began at a billionth of the range of the costs.
#[test]
fn one_enormous_cost_does_not_hide_what_tells_the_others_apart() {
    for engine in engines() {
        let mut tolls: Vec<f32> = spread(1000).map(|v| 10.0 * v).collect();
        for enormous in [1e6, 1e20, 3e38] {
            tolls[17] = enormous;
            let reached = reached(&engine, 0.0, &tolls);
            assert!((reached - 0.1).abs() < 0.002, "{} of the rows beside {enormous} on {}", reached, engine.name());
        }
    }
}

/// In f32, costs of ten million differ by whole numbers only, so compensated sums keep the rounding errors separately.
/// The search on the GPU assumed that the largest log-weight was 0, and ended at a single row.
#[test]
fn the_search_sees_what_rounding_took_from_the_costs() {
    for engine in engines() {
        for count in [16, 256, 5000] {
            let tolls: Vec<f32> = spread(count).collect();
            let reached = reached(&engine, 1e7, &tolls);
            assert!((reached - 0.1).abs() < 0.005, "{reached} of {count} rows on {}", engine.name());
        }
    }
}

/// Within half a cell of the border the field is constant, so its derivative is 0; it was not.
#[test]
fn a_field_has_no_slope_where_its_border_is_held() {
    struct Slope(FieldSet);
    impl Map<2, 3> for Slope {
        fn map<R: Real>(&self, x: [R; 2]) -> [R; 3] {
            let [x, y] = Dual::<R, 2>::variables(x);
            let f = StepContext::<Dual<R, 2>>::new(0, 0.0).with_fields(&self.0).sample(1, x, y);
            [f.value, f.slopes[0], f.slopes[1]]
        }
        fn fields(&self) -> FieldSet {
            self.0.clone()
        }
    }
    // Two fields, so that the samples of the second one do not start at offset 0.
    let ramp = Grid::from_fn(4, 3, 1.0, [0.0, 0.0], |x, y| x + 10.0 * y).unwrap();
    let slope = Slope(FieldSet::new(&[Grid::from_fn(2, 2, 1.0, [0.0, 0.0], |_, _| 7.0).unwrap(), ramp.clone()]));
    let points = [[1.7, 1.6], [0.2, 1.6], [3.8, 1.6], [1.7, 0.3], [1.7, 2.9], [0.1, 0.1], [-3.0, 1.0]];
    let expected = [[1.0, 10.0], [0.0, 10.0], [0.0, 10.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]];
    for engine in engines() {
        let found = evaluate(&engine, &slope, &points).unwrap();
        for ((at, [value, dx, dy]), [ex, ey]) in points.iter().zip(found).zip(expected) {
            assert!((dx - ex).abs() < 1e-4 && (dy - ey).abs() < 1e-4, "({dx}, {dy}) at {at:?} on {}", engine.name());
            assert!((value - ramp.sample(at[0], at[1])).abs() < 1e-4);
            assert_eq!(ramp.gradient(at[0], at[1]).map(|v| (v * 1e3).round() / 1e3), [ex, ey]);
        }
    }
}

/// 2²⁰ coordinates passed the check, but needed one workgroup more than a device supports.
#[test]
fn the_largest_horizon_is_one_that_runs() {
    for engine in engines() {
        let most = 65_535 * 16;
        let options = |horizon| MppiOptions {
            task: Task { horizon, ..Default::default() },
            samples: 1,
            weighting: Temperature::Fixed(1.0).into(),
            ..MppiOptions::default()
        };
        let refused = Mppi::new(&engine, Toll { base: 0.0 }, options(most + 1)).map(drop);
        assert!(
            matches!(refused, Err(gibbs::BuildError::Invalid(InvalidValue { field: "horizon", .. }))),
            "{refused:?}"
        );
        if engine.backend() == Backend::Software {
            // Such an adapter ends long loops early without an error.
            let refused = Mppi::new(&engine, Toll { base: 0.0 }, options(most)).map(drop);
            assert!(
                matches!(refused, Err(gibbs::BuildError::Engine(gibbs::EngineError::OverLimit { .. }))),
                "{refused:?}"
            );
            continue;
        }
        let mut mppi = Mppi::new(&engine, Toll { base: 0.0 }, options(most)).unwrap();
        assert_eq!(mppi.plan(&[0.0]).unwrap().controls().len(), most);
    }
}

/// A reference table that gets shorter and longer from call to call, as that of a controller on a trajectory does.
#[test]
fn a_reference_table_may_change_its_length_between_calls() {
    struct Follow;
    impl Model<1, 1> for Follow {
        #[inline(always)]
        fn step<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
            [x + u * at.dt()]
        }
        #[inline(always)]
        fn cost<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], _u: [R; 1]) -> R {
            (x - at.reference(0)).square()
        }
    }
    for engine in engines() {
        let options = MppiOptions {
            task: Task {
                horizon: 10,
                dt: 0.1,
                limits: Some(Limits { low: [-2.0], high: [2.0] }),
                references: Some(gibbs::References { values: vec![1.0], columns: 1 }),
                ..Default::default()
            },
            samples: 256,
            weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.1)),
            ..MppiOptions::default()
        };
        let mut mppi = Mppi::new(&engine, Follow, options).unwrap();
        for rows in [12, 7, 1, 30, 2] {
            let goal = if rows % 2 == 0 { 1.0 } else { -1.0 };
            mppi.set_references(&vec![goal; rows], 1).unwrap();
            for _ in 0..3 {
                mppi.plan(&[0.0]).unwrap();
            }
            let end = mppi.plan(&[0.0]).unwrap().states()[10][0];
            assert!((end - goal).abs() < 0.5, "{end} for {goal} on {}", engine.name());
        }
    }
}

/// The CPU stopped at the first update without a finite row, while the GPU continued with the next.
#[test]
fn an_update_without_a_finite_row_is_an_error_only_if_it_is_the_last() {
    struct Narrow;
    impl Model<1, 1> for Narrow {
        #[inline(always)]
        fn step<R: Real>(&self, _at: &StepContext<R>, x: [R; 1], _u: [R; 1]) -> [R; 1] {
            x
        }
        #[inline(always)]
        fn cost<R: Real>(&self, at: &StepContext<R>, _x: [R; 1], [u]: [R; 1]) -> R {
            R::select(u.gt(at.param(0)), u, (u - at.param(0)) * 3e38 * 3e38)
        }
    }
    let mut outcomes = Vec::new();
    for engine in engines() {
        let options = MppiOptions {
            task: Task { horizon: 1, params: vec![0.5], ..Default::default() },
            samples: 2,
            iterations: 4,
            weighting: Temperature::Fixed(1.0).into(),
            ..MppiOptions::default()
        };
        let mut mppi = Mppi::new(&engine, Narrow, options).unwrap();
        let outcome = |result: Result<f32, PlanError>| match result {
            Ok(control) => Some((control * 1e3).round()),
            Err(PlanError::NoFiniteRow { rows: 2 }) => None,
            Err(other) => panic!("{other}"),
        };
        let mut of_engine = Vec::new();
        for seed in 0..40 {
            mppi.reseed(seed);
            mppi.set_controls(&[[0.0]]).unwrap();
            of_engine.push(outcome(mppi.plan(&[0.0]).map(|plan| plan.controls()[0][0])));
        }
        assert!(of_engine.contains(&None) && of_engine.iter().any(|o| o.is_some()));
        outcomes.push(of_engine);
    }
    outcomes.windows(2).for_each(|pair| assert_eq!(pair[0], pair[1]));
}
