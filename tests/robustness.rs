//! Failures give a typed error that names the cause, never a panic, and leave the plan unchanged.

mod common;

use std::time::Duration;

use common::{cpu, engines, gpu};
use gibbs::control::{CostNormalization, ShiftFill};
use gibbs::lang::{Ends, Region, Table, WgslFn};
use gibbs::models::{Pendulum, Unicycle};
use gibbs::policies::{Activation, Network};
use gibbs::{
    Backend, BuildError, Engine, EngineError, EngineOptions, FieldSet, Grid, InvalidValue, Limits, Model, ModelError,
    Mppi, MppiOptions, Noise, Params, PlanError, Real, References, StepContext, Task, Temperature, WeightedMean,
    Weighting, check,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A point with the cost x² up to 1, and a cost that is not finite beyond.
#[derive(Clone, Copy)]
struct Cliff(Fall);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fall {
    /// A product too large for f32.
    Overflow,
    /// A product that overflows below zero.
    Negative,
    /// ∞ − ∞.
    Difference,
    /// 0 / 0.
    Quotient,
    /// √ of a negative number.
    Root,
    /// The state itself overflows, and so does its cost.
    State,
    /// Only the terminal cost overflows.
    Terminal,
}

const FALLS: [Fall; 7] =
    [Fall::Overflow, Fall::Negative, Fall::Difference, Fall::Quotient, Fall::Root, Fall::State, Fall::Terminal];

impl Model<1, 1> for Cliff {
    #[inline(always)]
    fn step<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
        let next = x + u;
        [if self.0 == Fall::State { R::select(next.gt(1.0), next * 3e38 * 3e38, next) } else { next }]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], _u: [R; 1]) -> R {
        let nothing = at.param(0);
        let huge = x * 3e38 * 3e38;
        let bad = match self.0 {
            Fall::Overflow => huge,
            Fall::Negative => -huge,
            Fall::Difference => huge - (huge + 1.0),
            Fall::Quotient => nothing / (nothing * 2.0),
            Fall::Root => (nothing - x).sqrt(),
            Fall::State => x * x,
            Fall::Terminal => R::from(0.0),
        };
        R::select(x.gt(1.0), bad, x.square())
    }
    #[inline(always)]
    fn terminal<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1]) -> R {
        if self.0 == Fall::Terminal { R::select(x.gt(1.0), x * 3e38 * 3e38, 0.0) } else { R::from(0.0) }
    }
}

fn cliff_options(samples: usize) -> MppiOptions<1> {
    MppiOptions {
        task: Task { horizon: 1, params: vec![0.0], ..Default::default() },
        samples,
        noise: Noise::Diagonal([0.5]),
        weighting: Temperature::Fixed(1.0).into(),
        ..Default::default()
    }
}

#[test]
fn a_row_whose_cost_is_not_finite_weighs_nothing_and_is_counted() {
    let rows: Vec<f32> = (0..401).map(|k| -0.5 + 0.005 * k as f32).collect();
    for engine in engines() {
        for fall in FALLS {
            let mut mppi = Mppi::new(&engine, Cliff(fall), cliff_options(rows.len())).unwrap();
            let name = format!("{fall:?} on {}", engine.name());
            let start = 0.25_f32;
            let (mut sum, mut mean, mut bad) = (0.0, 0.0, 0);
            for u in &rows {
                if start + u > 1.0 {
                    bad += 1;
                    continue;
                }
                let weight = (-f64::from(start + u).powi(2)).exp();
                (sum, mean) = (sum + weight, mean + weight * f64::from(*u));
            }
            assert!(bad > 100);
            let plan = mppi.plan_rows(&[start], &rows).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(plan.invalid_rows(), bad, "{name}");
            assert!((f64::from(plan.controls()[0][0]) - mean / sum).abs() < 1e-5, "{name}: {plan:?}");
            assert!((f64::from(plan.log_z()) - (sum / rows.len() as f64).ln()).abs() < 1e-4, "{name}: {plan:?}");
            let samples = mppi.samples().unwrap();
            let weights = samples.weights();
            for (k, u) in rows.iter().enumerate() {
                let fine = start + u <= 1.0;
                assert_eq!((samples.is_valid(k), weights[k] > 0.0), (fine, fine), "{name}: row {k}");
            }
        }
    }
}

#[test]
fn if_no_cost_is_finite_the_plan_stays() {
    for engine in engines() {
        for fall in FALLS {
            for iterations in [1, 3] {
                for temperature in [Temperature::Fixed(1.0), Temperature::EffectiveSamples(0.3)] {
                    let options = MppiOptions { iterations, weighting: temperature.into(), ..cliff_options(300) };
                    let mut mppi = Mppi::new(&engine, Cliff(fall), options).unwrap();
                    let before = mppi.plan(&[0.0]).unwrap().controls().to_vec();
                    let name = format!("{fall:?} on {}", engine.name());
                    assert_eq!(mppi.plan(&[50.0]), Err(PlanError::NoFiniteRow { rows: 300 }), "{name}");
                    assert_eq!(mppi.controls(), before, "{name}");
                    let after = mppi.plan(&[0.0]).unwrap_or_else(|error| panic!("{name}: {error}"));
                    assert!(after.controls()[0][0].is_finite() && after.cost().is_finite(), "{name}");
                }
            }
        }
    }
}

#[test]
fn one_finite_row_is_enough() {
    for engine in engines() {
        for temperature in [Temperature::Fixed(1.0), Temperature::EffectiveSamples(0.5)] {
            let options = MppiOptions { weighting: temperature.into(), ..cliff_options(130) };
            let mut mppi = Mppi::new(&engine, Cliff(Fall::Quotient), options).unwrap();
            for lucky in [0, 64, 129] {
                let mut rows = vec![5.0; 130];
                rows[lucky] = 0.125;
                let plan = mppi.plan_rows(&[0.0], &rows).unwrap();
                assert_eq!((plan.controls(), plan.invalid_rows()), (&[[0.125]][..], 129), "on {}", engine.name());
                assert_eq!(plan.effective_samples(), 1.0);
            }
        }
    }
}

#[test]
fn a_state_that_is_not_finite_is_refused() {
    for engine in engines() {
        let mut mppi = Mppi::new(
            &engine,
            Pendulum::default(),
            MppiOptions { samples: 64, weighting: Temperature::Fixed(1.0).into(), ..Default::default() },
        )
        .unwrap();
        let before = mppi.plan(&[1.0, 0.0]).unwrap().controls().to_vec();
        for state in [[f32::NAN, 0.0], [0.0, f32::INFINITY], [f32::NEG_INFINITY, 0.0]] {
            let Err(PlanError::Invalid(InvalidValue { field: "state", .. })) = mppi.plan(&state) else {
                panic!("{state:?} was not refused");
            };
            assert!(mppi.simulate(&state, &[[0.0]]).is_err());
            assert_eq!(mppi.controls(), before);
        }
    }
}

/// Uses two parameters, three reference columns and one field.
struct Needy;

impl Model<2, 2> for Needy {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [x, y]: [R; 2], [u, v]: [R; 2]) -> [R; 2] {
        [x + u * at.dt(), y + v * at.dt() + at.param(1)]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y]: [R; 2], _u: [R; 2]) -> R {
        (x - at.reference(2)).square() + at.sample(0, x, y)
    }
}

fn needy() -> MppiOptions<2> {
    MppiOptions {
        task: Task {
            horizon: 4,
            params: vec![0.0, 0.1],
            references: Some(References { values: vec![0.0; 6], columns: 3 }),
            fields: vec![Grid::new(2, 2, 1.0, [0.0, 0.0], vec![1.0, 2.0, 3.0, 4.0]).unwrap()],
            ..Default::default()
        },
        samples: 70,
        weighting: Temperature::Fixed(1.0).into(),
        ..Default::default()
    }
}

/// Invalid options, and the field that the error names.
fn bad_options() -> Vec<(&'static str, MppiOptions<2>)> {
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    let limits = |low, high| Some(Limits { low: [low, -1.0], high: [high, 1.0] });
    let table = |values: &[f32], columns| Some(References { values: values.to_vec(), columns });
    let mut bad = Vec::new();
    for size in [0, (1 << 24) + 1, usize::MAX] {
        bad.push(("horizon", MppiOptions { task: Task { horizon: size, ..needy().task }, ..needy() }));
    }
    for size in [0, (1 << 31) + 1, usize::MAX] {
        bad.push(("samples", MppiOptions { samples: size, ..needy() }));
    }
    for iterations in [0, 1025, usize::MAX] {
        bad.push(("iterations", MppiOptions { iterations, ..needy() }));
    }
    for dt in [0.0, -0.1, NAN, INF] {
        bad.push(("dt", MppiOptions { task: Task { dt, ..needy().task }, ..needy() }));
    }
    for lambda in [0.0, -1.0, NAN, INF, 1e-31, 1e31] {
        bad.push((
            "weighting",
            MppiOptions { weighting: Weighting::Exponential(Temperature::Fixed(lambda)), ..needy() },
        ));
    }
    for fraction in [0.0, -0.5, 1.01, NAN, INF] {
        bad.push((
            "weighting",
            MppiOptions { weighting: Weighting::Exponential(Temperature::EffectiveSamples(fraction)), ..needy() },
        ));
    }
    for standardized in [false, true] {
        bad.push(("weighting", MppiOptions { weighting: Weighting::Signed { standardized }, ..needy() }));
    }
    for step_size in [0.0, -1.0, NAN, INF] {
        bad.push(("step_size", MppiOptions { step_size, ..needy() }));
    }
    for alpha in [-0.01, 1.01, NAN, INF] {
        bad.push(("alpha", MppiOptions { alpha, ..needy() }));
    }
    for gamma in [-0.01, NAN, INF] {
        bad.push(("gamma", MppiOptions { cost_normalization: CostNormalization::Gamma(gamma), ..needy() }));
    }
    bad.push(("alpha", MppiOptions { cost_normalization: CostNormalization::Gamma(1.0), alpha: 0.5, ..needy() }));
    for sigma in [-1.0, NAN, INF, 1e-19, 1e19] {
        bad.push(("noise", MppiOptions { noise: Noise::Diagonal([1.0, sigma]), ..needy() }));
    }
    for covariance in [
        [[1.0, 0.5], [0.4, 1.0]],
        [[1.0, 2.0], [2.0, 1.0]],
        [[1.0, 1.0], [1.0, 1.0]],
        [[0.0, 0.0], [0.0, 0.0]],
        [[-1.0, 0.0], [0.0, 1.0]],
        [[1.0, NAN], [NAN, 1.0]],
        [[INF, 0.0], [0.0, 1.0]],
    ] {
        bad.push(("noise", MppiOptions { noise: Noise::Covariance(covariance), ..needy() }));
    }
    let still = Noise::Diagonal([1.0, 0.0]);
    bad.push(("noise", MppiOptions { noise: still, alpha: 0.5, ..needy() }));
    bad.push(("noise", MppiOptions { noise: still, cost_normalization: CostNormalization::Gamma(1.0), ..needy() }));
    for (low, high) in [(1.0, -1.0), (NAN, 1.0), (-1.0, NAN), (INF, INF), (-INF, -INF)] {
        bad.push(("limits", MppiOptions { task: Task { limits: limits(low, high), ..needy().task }, ..needy() }));
    }
    for value in [NAN, INF, -INF] {
        bad.push(("initial", MppiOptions { initial: [0.0, value], ..needy() }));
        bad.push(("params", MppiOptions { task: Task { params: vec![0.0, value], ..needy().task }, ..needy() }));
        bad.push((
            "references",
            MppiOptions { task: Task { references: table(&[0.0, 0.0, value], 3), ..needy().task }, ..needy() },
        ));
    }
    bad.push((
        "initial",
        MppiOptions { task: Task { limits: limits(-1.0, 1.0), ..needy().task }, initial: [1.5, 0.0], ..needy() },
    ));
    for (values, columns) in [(&[][..], 3), (&[0.0; 7][..], 3), (&[0.0; 3][..], 0), (&[0.0; 4][..], 2)] {
        bad.push((
            "references",
            MppiOptions { task: Task { references: table(values, columns), ..needy().task }, ..needy() },
        ));
    }
    bad.push(("references", MppiOptions { task: Task { references: None, ..needy().task }, ..needy() }));
    bad.push(("params", MppiOptions { task: Task { params: vec![1.0], ..needy().task }, ..needy() }));
    bad.push(("fields", MppiOptions { task: Task { fields: vec![], ..needy().task }, ..needy() }));
    bad
}

#[track_caller]
fn names(field: &str, result: Result<(), BuildError>, what: &str) {
    match result {
        Err(BuildError::Invalid(error)) => {
            assert_eq!(error.field, field, "{what}: {error}");
            let message = error.to_string();
            assert!(message.contains(field) && !error.value.is_empty() && !error.expected.is_empty(), "{message}");
        }
        other => panic!("{what}: {other:?}, but `{field}` should have been refused"),
    }
}

#[test]
fn every_bad_option_is_named() {
    for engine in engines() {
        Mppi::new(&engine, Needy, needy()).expect("these options are good");
        for (field, options) in bad_options() {
            let what = format!("{options:?}");
            names(field, Mppi::new(&engine, Needy, options).map(drop), &what);
        }
    }
}

#[test]
fn a_bad_option_changes_nothing() {
    for engine in engines() {
        let [mut touched, mut untouched] = [(); 2].map(|()| Mppi::new(&engine, Needy, needy()).unwrap());
        for (field, options) in bad_options() {
            let what = format!("{options:?}");
            names(field, touched.set_options(options), &what);
        }
        assert_eq!(touched.options(), untouched.options());
        assert_eq!(touched.plan(&[0.1, 0.2]).unwrap().controls(), untouched.plan(&[0.1, 0.2]).unwrap().controls());
    }
}

#[test]
fn more_rows_than_can_be_counted_are_refused() {
    let options = MppiOptions { task: Task { horizon: 100, ..needy().task }, samples: 1 << 31, ..needy() };
    for engine in engines() {
        names("samples", Mppi::new(&engine, Needy, options.clone()).map(drop), "2³¹ × 100 × 2");
        let mut mppi = Mppi::new(&engine, Needy, needy()).unwrap();
        let before = mppi.plan(&[0.1, 0.2]).unwrap().controls().to_vec();
        names("samples", mppi.resize(100, 1 << 31), "2³¹ × 100 × 2");
        names("horizon", mppi.resize(0, 10), "T = 0");
        names("samples", mppi.resize(10, 0), "K = 0");
        assert_eq!(mppi.controls(), before);
        assert_eq!((mppi.options().task.horizon, mppi.options().samples), (4, 70));
        mppi.plan(&[0.1, 0.2]).unwrap();
    }
}

#[test]
fn more_rows_than_an_adapter_holds_are_refused() {
    let Some(engine) = gpu() else { return };
    let refused = |result: Result<(), BuildError>| match result {
        Err(BuildError::Engine(EngineError::OverLimit { requested, limit, .. })) => assert!(requested > limit),
        Err(BuildError::Engine(EngineError::OutOfMemory { bytes, .. })) => assert!(bytes > 1 << 30),
        other => panic!("{other:?}"),
    };
    let options = MppiOptions {
        task: Task { horizon: 1, ..Default::default() },
        samples: 1 << 25,
        weighting: Temperature::Fixed(1.0).into(),
        ..MppiOptions::<1>::default()
    };
    let most = Mppi::new(&engine, Pendulum::default(), options).map(drop);
    if most.is_ok() {
        eprintln!("SKIPPED: {} holds as many rows as there may be", engine.name());
        return;
    }
    refused(most);

    let options = MppiOptions {
        task: Task { horizon: 10, ..Default::default() },
        samples: 100,
        weighting: Temperature::Fixed(1.0).into(),
        ..MppiOptions::<1>::default()
    };
    let mut mppi = Mppi::new(&engine, Pendulum::default(), options).unwrap();
    let before = mppi.plan(&[1.0, 0.0]).unwrap().controls().to_vec();
    refused(mppi.resize(1, 1 << 25));
    assert_eq!(mppi.controls(), before);
    assert_eq!(mppi.plan(&[1.0, 0.0]).unwrap().controls().len(), 10);
}

#[track_caller]
fn refuses<T: std::fmt::Debug>(field: &str, result: Result<T, InvalidValue>) {
    let error = result.expect_err("this is not valid");
    assert_eq!(error.field, field, "{error}");
}

#[test]
fn bad_arguments_of_setters_are_named_and_change_nothing() {
    for engine in engines() {
        let [mut touched, mut untouched] = [(); 2].map(|()| Mppi::new(&engine, Needy, needy()).unwrap());
        refuses("params", touched.set_params(&[0.0, f32::NAN]));
        refuses("params", touched.set_params(&[0.0]));
        refuses("references", touched.set_references(&[], 3));
        refuses("references", touched.set_references(&[0.0; 4], 3));
        refuses("references", touched.set_references(&[0.0; 4], 2));
        refuses("references", touched.set_references(&[0.0; 3], 0));
        refuses("references", touched.set_references(&[0.0, f32::INFINITY, 0.0], 3));
        refuses("field", touched.set_field(1, Grid::new(1, 1, 1.0, [0.0, 0.0], vec![0.0]).unwrap()));
        let region = |column, row, width, height| Region { column, row, width, height };
        refuses("field", touched.update_field(1, region(0, 0, 1, 1), &[0.0]));
        refuses("field", touched.set_field_origin(1, [0.0; 2]));
        for (column, row, width, height) in [
            (0, 0, 0, 1),
            (0, 0, 1, 0),
            (2, 0, 1, 1),
            (0, 2, 1, 1),
            (1, 0, 2, 1),
            (0, 1, 1, 2),
            (usize::MAX, 0, 1, 1),
            (1, 1, usize::MAX, usize::MAX),
        ] {
            refuses("region", touched.update_field(0, region(column, row, width, height), &[0.0; 2]));
        }
        refuses("values", touched.update_field(0, region(0, 1, 2, 1), &[0.0]));
        refuses("values", touched.update_field(0, region(0, 1, 2, 1), &[0.0; 3]));
        refuses("values", touched.update_field(0, region(0, 1, 2, 1), &[0.0, f32::NAN]));
        refuses("values", touched.update_field(0, region(0, 1, 2, 1), &[f32::INFINITY, 0.0]));
        refuses("origin", touched.set_field_origin(0, [f32::NAN, 0.0]));
        refuses("origin", touched.set_field_origin(0, [0.0, f32::NEG_INFINITY]));
        refuses("controls", touched.set_controls(&[[0.0, 0.0]; 3]));
        refuses("controls", touched.set_controls(&[[0.0, f32::NAN]; 4]));
        refuses("state", touched.simulate(&[f32::NAN, 0.0], &[]).map(drop));
        refuses("controls", touched.simulate(&[0.0, 0.0], &[[f32::INFINITY, 0.0]]).map(drop));
        assert!(matches!(touched.samples().map(drop), Err(PlanError::Invalid(InvalidValue { field: "samples", .. }))));
        for rows in [vec![], vec![0.0; 70 * 4 * 2 - 1], vec![f32::NAN; 70 * 4 * 2]] {
            let Err(PlanError::Invalid(InvalidValue { field: "rows", .. })) = touched.plan_rows(&[0.1, 0.2], &rows)
            else {
                panic!("{} rows were not refused", rows.len());
            };
        }
        assert_eq!(touched.options(), untouched.options());
        assert_eq!(touched.plan(&[0.1, 0.2]).unwrap().controls(), untouched.plan(&[0.1, 0.2]).unwrap().controls());
    }
}

#[test]
fn bad_grids_are_named() {
    let grid = |w, h, resolution, x, values: &[f32]| Grid::new(w, h, resolution, [x, 0.0], values.to_vec());
    refuses("width", grid(0, 1, 1.0, 0.0, &[]));
    refuses("height", grid(1, 0, 1.0, 0.0, &[]));
    refuses("width", grid(usize::MAX, 1, 1.0, 0.0, &[0.0]));
    refuses("height", grid(1, (1 << 24) + 1, 1.0, 0.0, &[0.0]));
    refuses("width × height", grid(1 << 20, 1 << 12, 1.0, 0.0, &[]));
    for resolution in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        refuses("resolution", grid(1, 1, resolution, 0.0, &[0.0]));
    }
    refuses("origin", grid(1, 1, 1.0, f32::NAN, &[0.0]));
    refuses("values", grid(2, 2, 1.0, 0.0, &[0.0; 3]));
    refuses("values", grid(2, 1, 1.0, 0.0, &[0.0, f32::INFINITY]));
    let fine = || grid(1, 1, 1.0, 0.0, &[0.0]).unwrap();
    refuses("yaw", fine().with_yaw(f32::NAN));
    refuses("outside", fine().with_outside(f32::INFINITY));
    refuses("values", Grid::from_fn(2, 2, 1.0, [0.0, 0.0], |_, _| f32::NAN));

    let table = |spacing, first, values: &[f32]| Grid::table(spacing, first, values.to_vec());
    refuses("values", table(1.0, 0.0, &[]));
    refuses("values", table(1.0, 0.0, &[0.0, f32::NAN]));
    for spacing in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        refuses("spacing", table(spacing, 0.0, &[0.0]));
    }
    refuses("first", table(1.0, f32::NAN, &[0.0]));
    let three = || table(1.0, 0.0, &[0.0; 3]).unwrap();
    refuses("yaw", three().with_yaw(0.1));
    refuses("layer_height", three().with_layer_height(1.0));
    refuses("values", three().with_channel(vec![0.0; 2]));
    refuses("values", three().with_channel(vec![0.0, 0.0, f32::INFINITY]));
    let full = (0..63).try_fold(three(), |table, _| table.with_channel(vec![0.0; 3])).unwrap();
    refuses("channels", full.with_channel(vec![0.0; 3]));
    refuses("origin", three().set_origin([0.0, 0.0]));
    refuses("region", three().update(2..4, &[0.0; 2]));
    refuses("region", three().update(1..1, &[]));
    refuses("region", three().update(usize::MAX - 1..usize::MAX, &[0.0]));
    refuses("values", three().update(1..3, &[0.0; 3]));
    refuses("point", three().look_up::<2, 1>([0.0; 2]));
    refuses("channels", three().look_up::<1, 2>([0.0]));
    refuses("ends", fine().with_ends(Ends::Periodic));

    let volume = |size: [usize; 3], z: f32, values: &[f32]| Grid::volume(size, 1.0, [0.0, 0.0, z], values.to_vec());
    refuses("depth", volume([1, 1, 0], 0.0, &[]));
    refuses("depth", volume([1, 1, 1 << 24], 0.0, &[]));
    refuses("width × height × depth", volume([1 << 10, 1 << 10, 1 << 9], 0.0, &[]));
    refuses("width × height × depth", volume([1 << 23, 1 << 23, 1 << 23], 0.0, &[]));
    refuses("values", volume([2, 2, 2], 0.0, &[0.0; 7]));
    refuses("origin", volume([1, 1, 1], f32::NAN, &[0.0]));
    let eight = || volume([2, 2, 2], 0.0, &[0.0; 8]).unwrap();
    refuses("layer_height", eight().with_layer_height(0.0));
    refuses("ends", eight().with_ends(Ends::Clamp));
    refuses("region", eight().update(eight().region().layers(1..3), &[0.0; 8]));
    refuses("region", eight().update(eight().region().layers(1..1), &[]));
    refuses("values", eight().update(eight().region().layers(0..2), &[0.0; 4]));
    refuses("values", Grid::volume_from_fn([1, 1, 2], 1.0, [0.0; 3], |_, _, z| (z - 1.0).sqrt()));
}

/// A model that looks up two channels of a table.
struct OnTable;

impl Model<1, 1> for OnTable {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [s]: [R; 1], [v]: [R; 1]) -> [R; 1] {
        [s + v * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [s]: [R; 1], _u: [R; 1]) -> R {
        at.channel(0, 1, [s])
    }
}

#[test]
fn a_field_of_other_dimensions_or_too_few_channels_is_refused() {
    let table = |channels: usize| {
        (1..channels).try_fold(Grid::table(1.0, 0.0, vec![1.0, 2.0])?, |table, _| table.with_channel(vec![3.0, 1.0]))
    };
    let grid = Grid::new(2, 1, 1.0, [0.0, 0.0], vec![1.0, 2.0]).and_then(|grid| grid.with_channel(vec![3.0, 1.0]));
    let options = |field: &Grid| MppiOptions::<1> {
        task: Task { horizon: 4, fields: vec![field.clone()], ..Default::default() },
        samples: 64,
        ..Default::default()
    };
    let (good, few, plane) = (table(2).unwrap(), table(1).unwrap(), grid.unwrap());
    for engine in engines() {
        for wrong in [&few, &plane] {
            match Mppi::new(&engine, OnTable, options(wrong)) {
                Err(BuildError::Invalid(error)) => assert_eq!(error.field, "fields", "{error}"),
                other => panic!("{other:?}"),
            }
            let mut mppi = Mppi::new(&engine, OnTable, options(&good)).unwrap();
            refuses("fields", mppi.set_field(0, wrong.clone()));
            refuses("origin", mppi.set_field_origin(0, [0.0, 0.0]));
            assert_eq!(mppi.options().task.fields, std::slice::from_ref(&good));
            mppi.set_field(0, table(3).unwrap()).unwrap();
            mppi.plan(&[0.0]).unwrap();
        }
    }
}

#[test]
fn an_unknown_backend_and_a_missing_adapter_are_named() {
    refuses("backend", "fast".parse::<Backend>());
    for backend in [Backend::Auto, Backend::Gpu, Backend::Software, Backend::Cpu] {
        assert_eq!(backend.to_string().parse(), Ok(backend));
    }
    let result = Engine::with_options(EngineOptions { adapter: Some(usize::MAX), ..Default::default() });
    assert!(matches!(result, Err(EngineError::NoAdapter { .. } | EngineError::NotCompiled { .. })), "{result:?}");
    if let Err(error @ EngineError::NoAdapter { .. }) = result {
        let (sentence, index) = (error.to_string(), usize::MAX);
        assert!(sentence.starts_with(&format!("no adapter of index {index}; found ")), "{sentence}");
    }
}

#[test]
fn weighted_means_refuse_what_cannot_be_averaged() {
    const NAN: f32 = f32::NAN;
    const NEVER: f32 = f32::NEG_INFINITY;
    for engine in engines() {
        let mut average = WeightedMean::new(&engine).with_second_moment();
        let mut error = |rows: &[f32], log_weights: &[f32]| average.compute(rows, log_weights).map(drop).unwrap_err();
        let field = |error: PlanError| match error {
            PlanError::Invalid(invalid) => invalid.field,
            other => panic!("{other}"),
        };
        assert_eq!(field(error(&[1.0], &[])), "log_weights");
        assert_eq!(field(error(&[], &[0.0])), "rows");
        assert_eq!(field(error(&[1.0; 5], &[0.0; 2])), "rows");
        assert_eq!(error(&[1.0; 4], &[NAN, f32::INFINITY]), PlanError::NoFiniteRow { rows: 2 });
        assert_eq!(error(&[1.0; 4], &[NEVER; 2]), PlanError::NoFiniteRow { rows: 2 });
        assert_eq!(error(&[1.0; 3000], &[NAN; 3000]), PlanError::NoFiniteRow { rows: 3000 });
        assert_eq!(error(&[1.0, NAN], &[0.0; 2]), PlanError::NonFiniteMean);

        // Any finite log-weight is valid, although the engine marks excluded rows by numbers of that magnitude.
        for least in [f32::MIN, -3.4e38, -3.2e38, -3.0e38] {
            let found = average.compute(&[1.0, 2.0, 3.0, 6.0], &[least; 2]).unwrap();
            assert_eq!((found.mean(), found.valid_rows()), (&[2.0, 4.0][..], 2), "{least} on {}", engine.name());
            assert_eq!((found.effective_samples(), found.max_log_weight()), (2.0, least), "on {}", engine.name());
            assert_eq!(found.log_z(), least);
            let found = average.compute(&[1.0, 2.0, 3.0, 6.0, 9.0, 9.0], &[NEVER, least, NAN]).unwrap();
            assert_eq!((found.mean(), found.valid_rows(), found.invalid_rows()), (&[3.0, 6.0][..], 2, 1));
            // Beside a larger one its weight is 0, but the row is valid.
            let found = average.compute(&[1.0, 2.0, 3.0, 6.0], &[least, -2.9e38]).unwrap();
            assert_eq!((found.mean(), found.valid_rows(), found.invalid_rows()), (&[3.0, 6.0][..], 2, 0));
            let found = average.compute(&[1.0, 2.0, 3.0, 6.0], &[least, f32::MAX]).unwrap();
            assert_eq!((found.mean(), found.valid_rows()), (&[3.0, 6.0][..], 2), "{least} on {}", engine.name());
        }

        // The contents of a row without weight are ignored.
        let rows = [1.0, 2.0, NAN, NAN, f32::INFINITY, 0.0, 3.0, 6.0];
        let found = average.compute(&rows, &[0.0, NAN, NEVER, 0.0]).unwrap();
        assert_eq!((found.mean(), found.valid_rows(), found.invalid_rows()), (&[2.0, 4.0][..], 3, 1));
        assert_eq!(found.second_moment(), Some(&[5.0, 20.0][..]));
        assert_eq!((found.effective_samples(), found.max_log_weight()), (2.0, 0.0));

        // Also among many rows, shorter and longer than a register.
        for width in [2, 15, 20] {
            let counts = |k: usize| k % 5 == 1; // eight of forty, so that the means are exact
            let number = |k: usize, d: usize| if counts(k) { d as f32 } else { [NAN, f32::INFINITY][k % 2] };
            let rows: Vec<f32> = (0..40).flat_map(|k| (0..width).map(move |d| number(k, d))).collect();
            let log_weights: Vec<f32> = (0..40).map(|k| if counts(k) { 0.0 } else { NEVER }).collect();
            let found = average.compute(&rows, &log_weights).unwrap();
            let expected: Vec<f32> = (0..width).map(|d| d as f32).collect();
            assert_eq!(found.mean(), expected, "{width} wide, {}", engine.name());
            let squares: Vec<f32> = expected.iter().map(|d| d * d).collect();
            assert_eq!(found.second_moment(), Some(&squares[..]), "{width} wide, {}", engine.name());
        }
    }
}

#[test]
fn samples_are_those_of_their_call_or_are_refused() {
    for engine in engines() {
        let mut mppi = Mppi::new(&engine, Needy, needy()).unwrap();
        type Change = fn(&mut Mppi<2, 2, Needy>);
        let changes: [Change; 4] = [
            |mppi| mppi.set_params(&[0.0, 0.7]).unwrap(),
            |mppi| mppi.set_options(MppiOptions { task: Task { dt: 0.5, ..needy().task }, ..needy() }).unwrap(),
            |mppi| mppi.set_references(&[1.0; 12], 3).unwrap(),
            |mppi| mppi.shift(1),
        ];
        for (i, change) in changes.iter().enumerate() {
            mppi.set_options(needy()).unwrap();
            mppi.plan(&[0.1, 0.2]).unwrap();
            let states = |mppi: &mut Mppi<2, 2, Needy>| mppi.samples().map(|samples| samples.states(3));
            let before = states(&mut mppi).unwrap();
            change(&mut mppi);
            match states(&mut mppi) {
                Ok(after) => assert_eq!(after, before, "change {i} on {}", engine.name()),
                Err(error) => assert!(matches!(error, PlanError::Invalid(InvalidValue { field: "samples", .. }))),
            }
        }
    }
}

#[test]
fn any_size_works() {
    for engine in engines() {
        let name = engine.name();
        for samples in [1, 2, 3, 63, 64, 65, 127, 257, 1000, 1023, 1024, 1025, 2049] {
            for (horizon, iterations) in [(1, 1), (2, 3), (3, 1), (17, 2)] {
                let options = MppiOptions {
                    task: Task { horizon, ..Default::default() },
                    samples,
                    iterations,
                    weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.5)),
                    ..Default::default()
                };
                let mut mppi = Mppi::new(&engine, Unicycle::default(), options).unwrap();
                let plan = mppi.plan(&[1.0, 1.0, 0.0]).unwrap().clone();
                assert_eq!((plan.controls().len(), plan.states().len()), (horizon, horizon + 1), "{name}");
                assert!(plan.controls().iter().flatten().all(|u| u.is_finite()), "{name}: K {samples}, T {horizon}");
                let effective = plan.effective_samples();
                assert!((0.999..=1.001 * samples as f32).contains(&effective), "{name}: K {samples}, ESS {effective}");
                assert_eq!(plan.invalid_rows(), 0, "{name}: K {samples}");
                let samples_seen = mppi.samples().unwrap();
                assert_eq!((samples_seen.len(), samples_seen.weights().len()), (samples, samples));
                if samples == 1 {
                    assert_eq!(samples_seen.controls(0), plan.controls(), "{name}: the mean of one row is the row");
                }
            }
        }
    }
}

/// A model that cannot become a kernel, for the given reason.
struct Odd(Flaw);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Flaw {
    TooLarge,
    NanStep,
    InfiniteCost,
    OverflowingStep,
    NanTerminal,
    InfiniteDone,
    BrokenFunction,
    WrongName,
    TwoBodies,
    ReservedName,
    SameTwice,
    /// Reads this input of the driver.
    Param(usize),
    Reference(usize),
    Field(usize),
    /// Reads an input made by hand.
    ByHand(Hand),
}

/// The inputs that a model makes by hand.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Hand {
    /// One parameter and one weight, both of which are read.
    Fine,
    Param,
    DriversParam,
    Reference,
    NoField,
    Field,
    Weight,
    Table,
    ShortTable,
    EmptyTable,
    HugeTable,
    Network,
    ShortNetwork,
    OtherNetwork,
}

/// Computes a function of `x` from hand-made inputs.
#[inline(always)]
fn by_hand<R: Real>(hand: Hand, at: &StepContext<R>, x: R) -> R {
    let stage = StepContext::<R>::new(3, 0.1);
    let theta = Params::<R>::new(&[0.5, 0.25]);
    let network = || Network::new(0, &[1, 1], Activation::Tanh).unwrap();
    let table = |rows, columns| Table { first: 0, rows, columns };
    match hand {
        Hand::Fine => {
            let row = table(2, 1);
            x * at.with_params(&[2.0]).param(0) * theta.get(1) * theta.at(&stage, row, 0)
        }
        Hand::Param => stage.with_params(&[1.0]).param(1),
        Hand::DriversParam => at.with_params(&[]).param(0),
        Hand::Reference => at.with_reference(&[1.0, 2.0]).reference(2),
        Hand::NoField => stage.with_fields(&FieldSet::default()).sample(0, x, x),
        Hand::Field => {
            let grid = Grid::new(1, 1, 1.0, [0.0, 0.0], vec![1.0]).unwrap();
            at.with_fields(&FieldSet::new(&[grid])).sample(0, x, x)
        }
        Hand::Weight => theta.get(2),
        Hand::Table => theta.at(at, table(2, 1), 0),
        Hand::ShortTable => theta.at(at, table(3, 1), 0),
        Hand::EmptyTable => theta.at(&stage, table(0, 1), 0),
        Hand::HugeTable => theta.at(&stage, table(9, usize::MAX), 0),
        Hand::Network => theta.network::<1, 1>(&network(), [x])[0],
        Hand::ShortNetwork => Params::<R>::new(&[1.0]).network::<1, 1>(&network(), [x])[0],
        Hand::OtherNetwork => theta.network::<2, 1>(&network(), [x, x])[0],
    }
}

const HALF: WgslFn<1> =
    WgslFn { name: "half_of", source: "fn half_of(x: f32) -> f32 { return x * 0.5; }", twin: |[x]| x * 0.5 };
const OTHER_HALF: WgslFn<1> = WgslFn { source: "fn half_of(x: f32) -> f32 { return x / 2.0; }", ..HALF };
const BROKEN: WgslFn<1> =
    WgslFn { name: "broken", source: "fn broken(x: f32) -> f32 { return nonsense; }", twin: |[x]| x };
const MISNAMED: WgslFn<1> = WgslFn { name: "misnamed", source: HALF.source, twin: |[x]| x };
const RESERVED: WgslFn<1> =
    WgslFn { name: "philox_round", source: "fn philox_round(x: f32) -> f32 { return x; }", twin: |[x]| x };

impl Model<1, 1> for Odd {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
        let mut next = x + u;
        match self.0 {
            Flaw::Param(i) => next += at.param(i),
            Flaw::Reference(j) => next += at.reference(j),
            Flaw::Field(field) => next += at.sample(field, x, u),
            Flaw::ByHand(hand) => next += by_hand(hand, at, x),
            Flaw::TooLarge => {
                for i in 0..10_000 {
                    next = next * 0.5 + i as f32;
                }
            }
            Flaw::NanStep => next = next * f32::NAN,
            Flaw::OverflowingStep => next += R::from(f32::MAX).mul_add(2.0, 0.0),
            Flaw::BrokenFunction => next = BROKEN.call([next]),
            Flaw::WrongName => next = MISNAMED.call([next]),
            Flaw::TwoBodies => next = HALF.call([next]) + OTHER_HALF.call([next]),
            Flaw::ReservedName => next = RESERVED.call([next]),
            Flaw::SameTwice => next = HALF.call([next]) + HALF.call([u]),
            _ => (),
        }
        [next]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1], _u: [R; 1]) -> R {
        if self.0 == Flaw::InfiniteCost { x.min(f32::INFINITY) } else { x.square() }
    }
    #[inline(always)]
    fn terminal<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1]) -> R {
        if self.0 == Flaw::NanTerminal { x + f32::NAN } else { x }
    }
    #[inline(always)]
    fn done<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1]) -> R::Mask {
        if self.0 == Flaw::InfiniteDone { x.gt(f32::INFINITY) } else { R::never() }
    }
}

fn odd(engine: &Engine, flaw: Flaw) -> Result<Mppi<1, 1, Odd>, BuildError> {
    Mppi::new(
        engine,
        Odd(flaw),
        MppiOptions {
            task: Task { horizon: 3, ..Default::default() },
            samples: 64,
            weighting: Temperature::Fixed(1.0).into(),
            ..Default::default()
        },
    )
}

#[test]
fn a_model_that_cannot_become_a_kernel_says_why() {
    for engine in engines() {
        let error = |flaw| match odd(&engine, flaw).map(drop) {
            Err(BuildError::Model(error)) => error,
            other => panic!("{flaw:?} on {}: {other:?}", engine.name()),
        };
        assert!(matches!(error(Flaw::TooLarge), ModelError::TooLarge { operations, limit } if operations >= limit));
        for (flaw, place) in [
            (Flaw::NanStep, "step"),
            (Flaw::OverflowingStep, "step"),
            (Flaw::InfiniteCost, "cost"),
            (Flaw::NanTerminal, "terminal"),
            (Flaw::InfiniteDone, "done"),
        ] {
            let error = error(flaw);
            assert!(
                matches!(&error, ModelError::NotFinite { function, .. } if *function == place),
                "{flaw:?}: {error}"
            );
        }
        assert_eq!(error(Flaw::TwoBodies), ModelError::DuplicateFunction { name: "half_of".into() });
    }
}

/// Regression test: in a release build such numbers wrapped around in `new`, and the first call failed.
#[test]
fn numbers_that_nothing_can_have_are_refused() {
    const LIMIT: usize = i32::MAX as usize;
    for engine in engines() {
        for index in [LIMIT, u32::MAX as usize, 1 << 40, usize::MAX] {
            for (flaw, what) in [
                (Flaw::Param(index), "run-time parameter"),
                (Flaw::Reference(index), "reference column"),
                (Flaw::Field(index), "field"),
            ] {
                let expected = ModelError::NoSuchIndex { function: "step", what, index, limit: LIMIT };
                assert_eq!(odd(&engine, flaw).map(drop), Err(BuildError::Model(expected)), "on {}", engine.name());
            }
        }
        // Inputs that could exist, but are missing.
        for (flaw, field, words) in [
            (Flaw::Param(LIMIT - 1), "params", "reads number 2147483646, counted from 0"),
            (Flaw::Field(0), "fields", "`fields` is 0 long, but must be at least 1 long"),
            (Flaw::Reference(0), "references", "but must be a table of at least 1 column, since"),
            (Flaw::Reference(2), "references", "without columns, or not given,"),
        ] {
            match odd(&engine, flaw).map(drop) {
                Err(BuildError::Invalid(error)) => {
                    assert_eq!(error.field, field, "{error}");
                    assert!(error.to_string().contains(words), "{error}");
                }
                other => panic!("{flaw:?} on {}: {other:?}", engine.name()),
            }
        }
        let mut needy = Mppi::new(&engine, Needy, needy()).unwrap();
        let error = needy.set_references(&[0.0; 4], 2).unwrap_err().to_string();
        assert!(error.contains("a table of 2 columns, but must be a table of at least 3 columns"), "{error}");
    }
    for (first, sizes) in [(usize::MAX, &[1, 1][..]), (LIMIT, &[1, 1]), (0, &[65_536; 9])] {
        let field = if first == 0 { "sizes" } else { "first" };
        refuses(field, Network::new(first, sizes, Activation::Tanh));
    }
    Network::new(LIMIT - 2, &[1, 1], Activation::Tanh).expect("its last parameter is the last there can be");
}

/// Regression test: on the CPU this worked or panicked; on an adapter it read the driver's inputs or gave invalid WGSL.
#[test]
fn what_a_model_makes_by_hand_is_a_constant_or_refused() {
    for engine in engines() {
        let function = "step";
        let not_given = |what, index, given| ModelError::NotGiven { function, what, index, given };
        let by_hand = |what| ModelError::ByHand { function, what };
        for (hand, expected) in [
            (Hand::Param, not_given("run-time parameter", 1, 1)),
            (Hand::DriversParam, not_given("run-time parameter", 0, 0)),
            (Hand::Reference, not_given("reference column", 2, 2)),
            (Hand::NoField, not_given("field", 0, 0)),
            (Hand::Field, by_hand("fields")),
            (Hand::Weight, not_given("policy parameter", 2, 2)),
            (Hand::Table, by_hand("a table of weights")),
            (Hand::ShortTable, not_given("policy parameter", 2, 2)),
            (Hand::EmptyTable, ModelError::EmptyTable { function }),
            (
                Hand::HugeTable,
                ModelError::NoSuchIndex {
                    function,
                    what: "policy parameter",
                    index: usize::MAX,
                    limit: i32::MAX as usize,
                },
            ),
            (Hand::Network, by_hand("the weights of a network")),
            (Hand::ShortNetwork, not_given("policy parameter", 1, 1)),
            (Hand::OtherNetwork, ModelError::NetworkSizes { function, inputs: 2, outputs: 1, sizes: vec![1, 1] }),
        ] {
            let found = odd(&engine, Flaw::ByHand(hand)).map(drop);
            assert_eq!(found, Err(BuildError::Model(expected)), "{hand:?} on {}", engine.name());
        }
        let mut mppi = odd(&engine, Flaw::ByHand(Hand::Fine)).unwrap();
        // next = x + x · 2 · 0.25 · 0.25
        let (states, _) = mppi.simulate(&[8.0], &[[0.0]]).unwrap();
        assert_eq!(states[1], [9.0]);
        assert!(mppi.plan(&[8.0]).unwrap().cost().is_finite(), "on {}", engine.name());
    }
}

#[test]
fn a_hand_written_function_may_be_called_twice() {
    for engine in engines() {
        let mut mppi = odd(&engine, Flaw::SameTwice).unwrap();
        assert!(mppi.plan(&[1.0]).unwrap().cost().is_finite(), "on {}", engine.name());
    }
}

#[test]
fn an_engine_lists_the_kernels_that_it_has_compiled() {
    let on_cpu = cpu();
    odd(&on_cpu, Flaw::SameTwice).unwrap();
    assert!(on_cpu.kernels().is_empty());

    let Some(engine) = gpu() else { return };
    assert!(engine.kernels().is_empty());
    odd(&engine, Flaw::SameTwice).unwrap();
    let kernels = engine.kernels();
    let (rollouts, others): (Vec<_>, Vec<_>) = kernels.iter().partition(|kernel| kernel.entries == ["rollout"]);
    // Hand-written functions occur in the rollout only, which therefore keeps the run-time checks.
    assert_eq!(rollouts.len(), 1);
    assert!(rollouts[0].wgsl.contains("fn half_of") && rollouts[0].bounds_checks);
    assert!(!others.is_empty() && others.iter().all(|kernel| !kernel.bounds_checks));
    // The second driver finds all of them compiled.
    odd(&engine, Flaw::SameTwice).unwrap();
    assert_eq!(engine.kernels(), kernels);
}

#[test]
fn broken_wgsl_is_refused_with_the_compilers_words() {
    let Some(engine) = gpu() else { return };
    for (flaw, word) in
        [(Flaw::BrokenFunction, "nonsense"), (Flaw::WrongName, "misnamed"), (Flaw::ReservedName, "philox_round")]
    {
        match odd(&engine, flaw).map(drop) {
            Err(BuildError::Model(ModelError::Shader { message })) => assert!(message.contains(word), "{message}"),
            other => panic!("{flaw:?}: {other:?}"),
        }
        // The device still works.
        odd(&engine, Flaw::SameTwice).unwrap().plan(&[1.0]).unwrap();
    }
}

struct Double;

impl check::Map<1, 1> for Double {
    fn map<R: Real>(&self, [x]: [R; 1]) -> [R; 1] {
        [x + x]
    }
}

#[test]
fn a_lost_device_keeps_the_plan_and_the_cpu_takes_over() {
    let Some(engine) = gpu() else { return };
    // A separate device, since it is going to be lost.
    let engine = Engine::with_options(EngineOptions { backend: engine.backend(), ..Default::default() }).unwrap();
    let options = MppiOptions {
        task: Task { horizon: 12, ..Default::default() },
        samples: 200,
        weighting: Temperature::Fixed(1.0).into(),
        ..Default::default()
    };
    let mut mppi = Mppi::new(&engine, Pendulum::default(), options.clone()).unwrap();
    let mut average = WeightedMean::new(&engine);
    average.compute(&[1.0, 2.0], &[0.0, 0.0]).unwrap();
    let state = [2.0, 0.0];
    let before = mppi.plan(&state).unwrap().controls().to_vec();

    engine.clone().destroy();
    for _ in 0..3 {
        let error = mppi.plan(&state).map(drop).unwrap_err();
        assert!(matches!(error, PlanError::Engine(EngineError::DeviceLost { .. })), "{error:?}");
        assert_eq!(mppi.controls(), before);
    }
    assert!(mppi.samples().is_err());
    // Calls fail whether or not they need new resources of the device.
    type Call = fn(&mut Mppi<2, 1, Pendulum>) -> Result<(), BuildError>;
    let calls: [Call; 5] = [
        |mppi| mppi.resize(20, 300),
        |mppi| mppi.resize(12, 200),
        |mppi| {
            mppi.set_options(MppiOptions {
                task: Task { dt: 0.5, ..mppi.options().clone().task },
                ..mppi.options().clone()
            })
        },
        |mppi| mppi.set_options(MppiOptions { nominal_first: true, ..mppi.options().clone() }),
        |mppi| mppi.prepare_rows(),
    ];
    for (i, call) in calls.iter().enumerate() {
        let lost = call(&mut mppi);
        assert!(matches!(lost, Err(BuildError::Engine(EngineError::DeviceLost { .. }))), "call {i}: {lost:?}");
        assert_eq!((mppi.controls(), mppi.options()), (&before[..], &options), "call {i}");
    }
    assert!(matches!(engine.round_trip(), Err(EngineError::DeviceLost { .. })));
    for points in [&[][..], &[[1.0]]] {
        let lost = check::evaluate(&engine, &Double, points).map(drop);
        assert!(matches!(lost, Err(BuildError::Engine(EngineError::DeviceLost { .. }))), "{lost:?}");
    }
    let error = average.compute(&[1.0, 2.0], &[0.0, 0.0]).map(drop).unwrap_err();
    assert!(matches!(error, PlanError::Engine(EngineError::DeviceLost { .. })), "{error:?}");
    let error = Mppi::new(&engine, Pendulum::default(), options.clone()).map(drop).unwrap_err();
    assert!(matches!(error, BuildError::Engine(EngineError::DeviceLost { .. })), "{error:?}");
    assert!(mppi.move_to(&engine).is_err(), "the device is still lost");
    assert_eq!(mppi.controls(), before);

    mppi.shift(1);
    mppi.move_to(&cpu()).unwrap();
    assert_eq!(mppi.controls()[..11], before[1..], "the plan came along");
    let plan = mppi.plan(&state).unwrap();
    assert_eq!(plan.backend(), Backend::Cpu);
    assert!(plan.cost().is_finite());

    let again = Engine::with_options(engine.options().clone()).unwrap();
    mppi.move_to(&again).unwrap();
    assert_eq!(mppi.plan(&state).unwrap().backend(), again.backend());
}

#[test]
fn a_time_out_is_an_error_and_not_the_end() {
    let Some(engine) = gpu() else { return };
    let options = MppiOptions {
        task: Task { horizon: 40, ..Default::default() },
        samples: 6000,
        weighting: Temperature::Fixed(1.0).into(),
        ..Default::default()
    };
    let new = |engine: &Engine| Mppi::new(engine, Unicycle::default(), options.clone()).unwrap();
    let state = [1.0, 1.0, 0.0];
    let mut patient = new(&engine);
    let usual = (0..5).map(|_| patient.plan(&state).unwrap().timing().total).min().unwrap();
    let (mut answered, mut late) = (0, 0);
    for timeout in [Duration::from_nanos(1), usual / 2, usual, usual * 2, usual * 100] {
        let hasty =
            Engine::with_options(EngineOptions { backend: engine.backend(), timeout, ..Default::default() }).unwrap();
        let (mut mppi, mut patient) = (new(&hasty), new(&engine));
        for call in 0..30 {
            let before = mppi.controls().to_vec();
            patient.set_controls(&before).unwrap();
            let expected = patient.plan(&state).unwrap().controls().to_vec();
            match mppi.plan(&state) {
                Ok(plan) => {
                    answered += 1;
                    assert_eq!(
                        plan.controls(),
                        expected,
                        "call {call} within {timeout:?} is not an older one's answer"
                    );
                }
                Err(PlanError::Engine(EngineError::Timeout { after })) => {
                    late += 1;
                    assert_eq!((after, mppi.controls()), (timeout, &before[..]), "call {call}");
                }
                Err(other) => panic!("{other}"),
            }
            if call % 10 == 9 {
                match mppi.resize(40, 6000 - call) {
                    Ok(()) => patient.resize(40, 6000 - call).unwrap(),
                    Err(BuildError::Engine(EngineError::Timeout { .. })) => (),
                    Err(other) => panic!("{other}"),
                }
            }
        }
        mppi.move_to(&engine).unwrap();
        mppi.plan(&state).expect("with time enough it works");
    }
    println!("{answered} calls were answered in time, {late} were not");
    assert!(late >= 20 && answered >= 20, "{late} calls were late and {answered} were not");
}

#[test]
fn a_weighted_mean_that_is_late_is_never_an_older_one() {
    let Some(engine) = gpu() else { return };
    let log_weights = vec![0.0; 50_000];
    let rows = |call: usize| vec![call as f32; 200_000];
    let mut late = 0;
    for timeout in
        [Duration::from_nanos(1), Duration::from_micros(300), Duration::from_millis(1), Duration::from_secs(10)]
    {
        let hasty =
            Engine::with_options(EngineOptions { backend: engine.backend(), timeout, ..Default::default() }).unwrap();
        let mut average = WeightedMean::new(&hasty);
        for call in 0..15 {
            match average.compute(&rows(call), &log_weights) {
                Ok(found) => assert!(found.mean().iter().all(|m| (m - call as f32).abs() < 1e-4), "{found:?}"),
                Err(PlanError::Engine(EngineError::Timeout { .. })) => late += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!((1..=45).contains(&late), "{late} calls were late");
}

#[test]
fn controllers_on_several_threads_share_an_engine() {
    for engine in engines() {
        let run = || {
            let options = MppiOptions {
                task: Task { horizon: 8, ..Default::default() },
                samples: 300,
                weighting: Temperature::Fixed(1.0).into(),
                ..Default::default()
            };
            let mut mppi = Mppi::new(&engine, Unicycle::default(), options).unwrap();
            let mut seen = Vec::new();
            for call in 0..20 {
                if call % 5 == 4 {
                    mppi.resize(8 + call % 3, 300 + call).unwrap();
                }
                seen.push(mppi.plan(&[1.0, 0.5, 0.1 * call as f32]).unwrap().controls().to_vec());
            }
            seen
        };
        let alone = run();
        let together: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(together.iter().all(|seen| *seen == alone), "on {}", engine.name());
    }
}

#[test]
fn extreme_temperatures_give_finite_plans() {
    for engine in engines() {
        for lambda in [1e-30, 1e-12, 1e-3, 1e6, 1e30] {
            let options = MppiOptions {
                task: Task { horizon: 10, ..Default::default() },
                samples: 200,
                weighting: Temperature::Fixed(lambda).into(),
                ..Default::default()
            };
            let mut mppi = Mppi::new(&engine, Unicycle::default(), options).unwrap();
            let plan = mppi.plan(&[3.0, 2.0, 0.0]).unwrap().clone();
            let name = format!("λ = {lambda:e} on {}: {plan:?}", engine.name());
            let samples = mppi.samples().unwrap();
            let mut costs: Vec<f32> = (0..200).map(|k| samples.cost(k)).collect();
            costs.sort_by(f32::total_cmp);
            let mean = costs.iter().sum::<f32>() / 200.0;
            assert!((plan.min_cost() - costs[0]).abs() <= 1e-4 * costs[0], "{name}");
            assert!((plan.mean_cost() - mean).abs() <= 1e-3 * mean || lambda > 1.0, "{mean}, {name}");
            assert!(plan.controls().iter().flatten().all(|u| u.is_finite()) && plan.log_z().is_finite(), "{name}");
            if lambda < 1e-6 {
                let best = (0..200).find(|k| samples.cost(*k) == costs[0]).unwrap();
                assert_eq!(plan.controls(), samples.controls(best), "the best row is the plan, {name}");
            }
            if lambda > 1e5 {
                assert!((plan.effective_samples() - 200.0).abs() < 0.1, "{name}");
            }
        }
    }
}

/// Makes `calls` plans, with random changes of sizes, parameters, options and everything else between them.
fn soak(engine: &Engine, calls: usize, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut mppi = Mppi::new(engine, Needy, needy()).unwrap();
    let mut state = [0.0_f32; 2];
    for call in 0..calls {
        for _ in 0..rng.random_range(0..3) {
            let (horizon, samples) = (mppi.options().task.horizon, mppi.options().samples);
            match rng.random_range(0..11) {
                0 => mppi.resize(rng.random_range(1..12), rng.random_range(1..200)).unwrap(),
                1 => mppi.set_params(&[rng.random_range(-1.0..1.0), rng.random_range(-0.1..0.1)]).unwrap(),
                2 => {
                    let (rows, columns) = (rng.random_range(1..15), rng.random_range(3..5));
                    let values: Vec<f32> = (0..rows * columns).map(|_| rng.random_range(-1.0..1.0)).collect();
                    mppi.set_references(&values, columns).unwrap();
                }
                3 => {
                    let side = rng.random_range(1..9);
                    let grid = Grid::from_fn(side, side, 0.5, [-1.0, -1.0], |x, y| (x * y).abs()).unwrap();
                    mppi.set_field(0, grid.with_outside(3.0).unwrap()).unwrap();
                }
                4 => {
                    let mut options = mppi.options().clone();
                    options.shift_fill =
                        [ShiftFill::Hold, ShiftFill::Repeat, ShiftFill::Initial][rng.random_range(0..3)];
                    options.iterations = rng.random_range(1..4);
                    options.alpha = [1.0, 0.5][rng.random_range(0..2)];
                    options.weighting = match rng.random_range(0..2) {
                        0 => Temperature::Fixed(10.0_f32.powf(rng.random_range(-3.0..3.0))).into(),
                        _ => Temperature::EffectiveSamples(rng.random_range(0.001..1.0)).into(),
                    };
                    options.task.limits =
                        [None, Some(Limits { low: [-1.0; 2], high: [1.0; 2] })][rng.random_range(0..2)];
                    options.nominal_first = rng.random();
                    mppi.set_options(options).unwrap();
                }
                5 => mppi.reset(),
                6 => mppi.reseed(rng.random()),
                7 => mppi.set_controls(&vec![[0.1, -0.1]; horizon]).unwrap(),
                8 => {
                    let rows: Vec<f32> = (0..samples * horizon * 2).map(|_| rng.random_range(-1.0..1.0)).collect();
                    mppi.plan_rows(&state, &rows).unwrap();
                }
                9 => {
                    // The refusal must not change anything.
                    assert!(mppi.plan(&[f32::NAN; 2]).is_err() && mppi.resize(0, 0).is_err());
                }
                _ => {
                    if let Ok(samples) = mppi.samples() {
                        let sum: f32 = samples.weights().iter().sum();
                        assert!((sum - 1.0).abs() < 1e-3, "call {call}: the weights sum to {sum}");
                    }
                }
            }
        }
        let samples = mppi.options().samples as f32;
        let plan = mppi.plan(&state).unwrap_or_else(|error| panic!("call {call} on {}: {error}", engine.name()));
        let numbers = [plan.cost(), plan.min_cost(), plan.mean_cost(), plan.log_z(), plan.temperature()];
        assert!(numbers.iter().all(|v| v.is_finite()), "call {call} on {}: {plan:?}", engine.name());
        assert!(plan.controls().iter().flatten().chain(plan.states().iter().flatten()).all(|v| v.is_finite()));
        assert!((0.99..=1.01 * samples).contains(&plan.effective_samples()), "call {call}: {plan:?}");
        state = [plan.states()[1][0].clamp(-3.0, 3.0), plan.states()[1][1].clamp(-3.0, 3.0)];
        mppi.shift(rng.random_range(0..20));
    }
}

#[test]
fn some_thousand_plans_on_the_cpu_give_finite_numbers() {
    soak(&cpu(), 5000, 1);
}

#[test]
fn some_hundred_plans_on_a_gpu_give_finite_numbers() {
    if let Some(engine) = gpu() {
        soak(&engine, 500, 2);
    }
}

#[test]
fn compiled_kernels_are_kept_in_a_folder_that_may_hold_anything() {
    let Some(found) = gpu() else { return };
    let folder = std::env::temp_dir().join(format!("gibbs-pipelines-{}", std::process::id()));
    let options = EngineOptions { pipeline_cache: Some(folder.clone()), ..found.options().clone() };
    let plan = || {
        let engine = Engine::with_options(options.clone()).unwrap();
        let mut mppi = Mppi::new(&engine, Pendulum::default(), MppiOptions::default()).unwrap();
        mppi.plan(&[1.0, 0.0]).unwrap().controls().to_vec()
    };
    let first = plan();
    // Only Vulkan has such a cache. A stored cache is used or, if it is invalid, ignored.
    let files = || std::fs::read_dir(&folder).into_iter().flatten().map(|file| file.unwrap().path());
    for file in files() {
        assert!(std::fs::metadata(&file).unwrap().len() > 0);
    }
    assert_eq!(plan(), first);
    for file in files() {
        // A cache of another device with a correct checksum: the graphics library's header holds the device's key at
        // its byte 17.
        let own = std::fs::read(&file).unwrap();
        let mut foreign = own.clone();
        foreign[8 + 17] ^= 1;
        let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        let sum = foreign[8..].iter().fold(0xcbf2_9ce4_8422_2325, fnv);
        foreign[..8].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(&file, foreign).unwrap();
        assert_eq!(plan(), first);
        assert_eq!(std::fs::read(&file).unwrap()[8..][..32], own[8..][..32], "it was replaced");
    }
    for file in files() {
        std::fs::write(file, b"nonsense").unwrap();
    }
    assert_eq!(plan(), first);
    assert!(files().all(|file| !file.to_string_lossy().contains(&format!(".{}-", std::process::id()))), "no drafts");
    // A folder that cannot be written to only gives a warning.
    let blocked = folder.join("a file");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(&blocked, b"").unwrap();
    let options = EngineOptions { pipeline_cache: Some(blocked), ..options.clone() };
    let engine = Engine::with_options(options).unwrap();
    let mut mppi = Mppi::new(&engine, Pendulum::default(), MppiOptions::default()).unwrap();
    assert_eq!(mppi.plan(&[1.0, 0.0]).unwrap().controls(), first);
    std::fs::remove_dir_all(folder).unwrap();
}
