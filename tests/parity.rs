//! Compares one update by a plain f64 implementation of MPPI, by the CPU backend with each instruction set, and by the
//! GPU: every stage, from the drawn rows to the plan, with the same inputs.

mod common;

use std::f32::consts::PI;

use common::{cpu, engines, gpu};
use gibbs::check::{Map, evaluate};
use gibbs::control::CostNormalization;
use gibbs::derivative::Dual;
use gibbs::lang::{Ends, Region};
use gibbs::models::*;
use gibbs::noise::normal::normals;
use gibbs::runtime::{Instructions, Math};
use gibbs::{
    Backend, BuildError, Engine, EngineOptions, FieldSet, Fleet, Grid, Limits, Model, ModelError, Mppi, MppiOptions,
    Noise, Random, Real, References, StepContext, Task, Temperature, WeightedMean, Weighting,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Tolerance of rows: the rounding of the polynomials for normals.
const ROWS: f64 = 1e-5;
/// Tolerance of costs, relative to 1 + |cost|: f32 rollouts against f64 ones.
const COSTS: f64 = 3e-5;
/// Tolerance of log-weights, which are relative to the largest one, per unit of 1 + |ℓ|. Solving for λ adds its own
/// error.
const LOG_WEIGHTS: f64 = 1e-3;
/// Tolerance of λ, relative.
const TEMPERATURE: f64 = 1e-4;
/// Tolerance of the plan, absolute, for controls of order 1.
const PLAN: f64 = 2e-4;

#[track_caller]
fn close(what: &str, ours: f64, theirs: f64, tolerance: f64) {
    // Written so that a NaN fails.
    assert!((ours - theirs).abs() <= tolerance, "{what}: {ours} against {theirs}, further apart than {tolerance:.1e}");
}

/// A unicycle whose cost reads a parameter, the reference table and the time.
struct Craft;

impl Model<3, 2> for Craft {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [x, y, a]: [R; 3], [v, w]: [R; 2]) -> [R; 3] {
        let (s, c) = a.sin_cos();
        [x + v * c * at.dt(), y + v * s * at.dt(), a + w * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, _]: [R; 3], [v, w]: [R; 2]) -> R {
        let late = at.index() * 0.1 + 1.0;
        (x - at.reference(0)).square() * late + (y - at.param(0)).square() + (v.square() + w.square()) * 0.05
    }
    #[inline(always)]
    fn terminal<R: Real>(&self, at: &StepContext<R>, [x, y, _]: [R; 3]) -> R {
        ((x - at.reference(1)).square() + (y - at.param(1)).square()) * at.index() * 0.5
    }
}

/// Returns the cost of one row of [`Craft`], implemented in f64.
fn craft_cost(options: &MppiOptions<2>, x: [f32; 3], row: &[[f64; 2]]) -> f64 {
    let (dt, [mut x, mut y, mut a]) = (f64::from(options.task.dt), x.map(f64::from));
    let table = options.task.references.as_ref().unwrap();
    let reference = |t: usize, j: usize| {
        let rows = table.values.len() / table.columns;
        f64::from(table.values[t.min(rows - 1) * table.columns + j])
    };
    let param = |i: usize| f64::from(options.task.params[i]);
    let mut cost = 0.0;
    for (t, [v, w]) in row.iter().enumerate() {
        (x, y, a) = (x + v * a.cos() * dt, y + v * a.sin() * dt, a + w * dt);
        let late = 1.0 + 0.1 * t as f64;
        cost += (x - reference(t, 0)).powi(2) * late + (y - param(0)).powi(2) + 0.05 * (v * v + w * w);
    }
    let end = row.len();
    cost + ((x - reference(end, 1)).powi(2) + (y - param(1)).powi(2)) * end as f64 * 0.5
}

/// The intermediate results of an update.
#[derive(Debug, Clone)]
struct Stages {
    rows: Vec<Vec<[f64; 2]>>,
    costs: Vec<f64>,
    control_costs: Vec<f64>,
    log_weights: Vec<f64>,
    temperature: f64,
    effective: f64,
    log_z: f64,
    min_cost: f64,
    mean_cost: f64,
    plan: Vec<[f64; 2]>,
    /// Whether the rows are drawn around a plan that was itself computed, so that they include its error.
    iterated: bool,
}

/// The effective sample size (Σw)²/Σw² with w = e^ℓ.
fn effective(log_weights: &[f64]) -> f64 {
    let max = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut sum, mut squares) = (0.0, 0.0);
    for w in log_weights.iter().map(|l| (l - max).exp()) {
        (sum, squares) = (sum + w, squares + w * w);
    }
    sum * sum / squares
}

/// The divergence Σ w ln(K w) with w = e^ℓ, normalized to sum to 1.
fn divergence(log_weights: &[f64]) -> f64 {
    let max = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = log_weights.iter().map(|l| (l - max).exp()).sum();
    let mean = log_weights.iter().map(|l| (l - max).exp() * (l - max)).sum::<f64>() / sum;
    mean - (sum / log_weights.len() as f64).ln()
}

/// Bisects for the least temperature at which a predicate holds.
fn halve(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (1e-6_f64, 1e9_f64);
    for _ in 0..200 {
        let middle = (low * high).sqrt();
        *(if holds(middle) { &mut high } else { &mut low }) = middle;
    }
    low
}

/// Returns the lower triangular L with Σ = L Lᵀ, and Σ⁻¹, of a 2 × 2 covariance.
fn factor(noise: Noise<2>) -> ([[f64; 2]; 2], [[f64; 2]; 2]) {
    let [[a, b], [_, d]] = match noise {
        Noise::Diagonal([p, q]) => [[p * p, 0.0], [0.0, q * q]].map(|row| row.map(f64::from)),
        Noise::Covariance(rows) => rows.map(|row| row.map(f64::from)),
        other => unreachable!("{other:?} is not tested here"),
    };
    let l00 = a.sqrt();
    let determinant = a * d - b * b;
    let inverse = [[d / determinant, -b / determinant], [-b / determinant, a / determinant]];
    ([[l00, 0.0], [b / l00, (d - b * b / a).sqrt()]], inverse)
}

/// Computes `options.iterations` updates of MPPI from the plan `u` by their definition; `number` counts the updates
/// since the seed was set.
fn reference(
    options: &MppiOptions<2>,
    x: [f32; 3],
    u: &[[f64; 2]],
    number: u32,
    given: Option<&[Vec<[f64; 2]>]>,
) -> Stages {
    let (factor, precision) = factor(options.noise);
    let limited = |m: usize, v: f64| match &options.task.limits {
        Some(limits) => v.clamp(f64::from(limits.low[m]), f64::from(limits.high[m])),
        None => v,
    };
    let (horizon, count) = (options.task.horizon, options.samples);
    let mut plan = u.to_vec();
    let mut stages = None;
    for i in 0..options.iterations as u32 {
        let draw = |k: usize, t: usize, m: usize| {
            let d = t * 2 + m;
            let (draw, sign) = match options.antithetic {
                true => (k / 2, if k.is_multiple_of(2) { 1.0 } else { -1.0 }),
                false => (k, 1.0),
            };
            sign * f64::from(normals(options.task.seed, number + i, draw as u32, d as u32 / 4)[d % 4])
        };
        let row = |k: usize| -> Vec<[f64; 2]> {
            let at = |t: usize| {
                let z = [draw(k, t, 0), draw(k, t, 1)];
                std::array::from_fn(|m| {
                    let noise = factor[m][0] * z[0] + factor[m][1] * z[1];
                    let still = k == 0 && options.nominal_first;
                    let drawn = plan[t][m] + if still { 0.0 } else { noise };
                    limited(m, given.map_or(drawn, |rows| rows[k][t][m]))
                })
            };
            (0..horizon).map(at).collect()
        };
        let rows: Vec<_> = (0..count).map(row).collect();
        let costs: Vec<f64> = rows.iter().map(|row| craft_cost(options, x, row)).collect();
        let control_cost = |row: &Vec<[f64; 2]>| {
            let mut sum = 0.0;
            for (v, u) in row.iter().zip(&plan) {
                for i in 0..2 {
                    for j in 0..2 {
                        sum += u[i] * precision[i][j] * (v[j] - u[j]);
                    }
                }
            }
            sum
        };
        let control_costs: Vec<f64> = rows.iter().map(control_cost).collect();
        let alpha = f64::from(options.alpha);
        let exponent = |lambda: f64| -> Vec<f64> {
            let energy = |(s, c): (&f64, &f64)| match options.cost_normalization {
                CostNormalization::Sum => s + lambda * (1.0 - alpha) * c,
                CostNormalization::HorizonAverage => (s + lambda * (1.0 - alpha) * c) / horizon as f64,
                CostNormalization::Gamma(gamma) => s + f64::from(gamma) * c,
                other => unreachable!("{other:?} is not tested here"),
            };
            costs.iter().zip(&control_costs).map(energy).map(|j| -j / lambda).collect()
        };
        let lambda = match options.weighting {
            Weighting::Exponential(Temperature::Fixed(lambda)) => f64::from(lambda),
            Weighting::Exponential(Temperature::EffectiveSamples(fraction)) => {
                halve(|lambda| effective(&exponent(lambda)) >= f64::from(fraction) * count as f64)
            }
            Weighting::Exponential(Temperature::Divergence(nats)) => {
                halve(|lambda| divergence(&exponent(lambda)) <= f64::from(nats))
            }
            _ => unreachable!("these tests use no other"),
        };
        let log_weights = exponent(lambda);
        let max = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = log_weights.iter().map(|l| (l - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let step = f64::from(options.step_size);
        let next = (0..horizon).map(|t| {
            std::array::from_fn(|m| {
                let mean: f64 = rows.iter().zip(&weights).map(|(row, w)| w * row[t][m]).sum::<f64>() / sum;
                limited(m, plan[t][m] + step * (mean - plan[t][m]))
            })
        });
        plan = next.collect();
        stages = Some(Stages {
            effective: effective(&log_weights),
            log_z: max + (sum / count as f64).ln(),
            min_cost: -lambda * max,
            mean_cost: -lambda * log_weights.iter().sum::<f64>() / count as f64,
            rows,
            costs,
            control_costs,
            log_weights,
            temperature: lambda,
            plan: plan.clone(),
            iterated: i > 0 || number > 0,
        });
    }
    stages.expect("one update at least")
}

/// Options for [`Craft`]. K is not a multiple of any block size.
fn craft_options() -> MppiOptions<2> {
    MppiOptions {
        task: Task {
            horizon: 13,
            dt: 0.1,
            seed: 0x1234_5678_9abc,
            params: vec![0.5, 1.0],
            references: Some(References { values: (0..10).map(|i| 0.2 * i as f32).collect(), columns: 2 }),
            ..Default::default()
        },
        samples: 333,
        weighting: Weighting::Exponential(Temperature::Fixed(8.0)),
        noise: Noise::Diagonal([0.7, 1.1]),
        initial: [0.6, -0.2],
        ..Default::default()
    }
}

/// Every option that changes the computation of an update, alone and in combination.
fn craft_cases() -> Vec<(&'static str, MppiOptions<2>)> {
    let plain = craft_options;
    let skewed = Noise::Covariance([[0.6, -0.3], [-0.3, 0.9]]);
    let limits = Some(Limits { low: [-0.4, -0.9], high: [0.9, 0.5] });
    vec![
        ("plain", plain()),
        ("one row", MppiOptions { samples: 1, ..plain() }),
        ("one step", MppiOptions { task: Task { horizon: 1, ..plain().task }, ..plain() }),
        ("one tile and a row", MppiOptions { task: Task { horizon: 3, ..plain().task }, samples: 65, ..plain() }),
        ("more than a group", MppiOptions { task: Task { horizon: 7, ..plain().task }, samples: 1500, ..plain() }),
        ("full covariance", MppiOptions { noise: skewed, ..plain() }),
        ("limits", MppiOptions { task: Task { limits, ..plain().task }, ..plain() }),
        ("nominal first", MppiOptions { nominal_first: true, ..plain() }),
        ("pairs", MppiOptions { antithetic: true, samples: 129, nominal_first: true, ..plain() }),
        ("half a step", MppiOptions { step_size: 0.5, ..plain() }),
        (
            "a long step into the limits",
            MppiOptions { task: Task { limits, ..plain().task }, step_size: 3.0, ..plain() },
        ),
        ("α = 0", MppiOptions { alpha: 0.0, ..plain() }),
        (
            "α with covariance and limits",
            MppiOptions { task: Task { limits, ..plain().task }, alpha: 0.3, noise: skewed, ..plain() },
        ),
        (
            "horizon average",
            MppiOptions {
                cost_normalization: CostNormalization::HorizonAverage,
                alpha: 0.4,
                weighting: Weighting::Exponential(Temperature::Fixed(0.7)),
                ..plain()
            },
        ),
        ("γ form", MppiOptions { cost_normalization: CostNormalization::Gamma(2.5), noise: skewed, ..plain() }),
        (
            "effective samples",
            MppiOptions { weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.2)), ..plain() },
        ),
        (
            "effective samples with α",
            MppiOptions {
                weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.2)),
                alpha: 0.97,
                ..plain()
            },
        ),
        ("divergence", MppiOptions { weighting: Weighting::Exponential(Temperature::Divergence(0.5)), ..plain() }),
        (
            "a small divergence",
            MppiOptions { weighting: Weighting::Exponential(Temperature::Divergence(1e-3)), ..plain() },
        ),
        (
            "divergence with α",
            MppiOptions { weighting: Weighting::Exponential(Temperature::Divergence(0.3)), alpha: 0.97, ..plain() },
        ),
        (
            "effective samples, averaged over the horizon",
            MppiOptions {
                weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.3)),
                cost_normalization: CostNormalization::HorizonAverage,
                ..plain()
            },
        ),
        ("four iterations", MppiOptions { iterations: 4, ..plain() }),
        (
            "everything at once",
            MppiOptions {
                task: Task { limits, ..plain().task },
                iterations: 3,
                noise: skewed,
                alpha: 0.96,
                step_size: 0.8,
                nominal_first: true,
                weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.25)),
                ..plain()
            },
        ),
    ]
}

/// Compares one call of `mppi` with the reference, stage by stage.
fn compare(case: &str, mppi: &mut Mppi<3, 2, Craft>, x: [f32; 3], given: Option<&[Vec<[f64; 2]>]>, expected: &Stages) {
    let name = format!("{case} on {}", mppi.engine().name());
    let plan = match given {
        None => mppi.plan(&x),
        Some(rows) => {
            let flat: Vec<f32> = rows.iter().flatten().flatten().map(|v| *v as f32).collect();
            mppi.plan_rows(&x, &flat)
        }
    };
    let plan = plan.unwrap_or_else(|error| panic!("{name}: {error}")).clone();
    let is =
        |what: &str, ours: f64, theirs: f64, tolerance: f64| close(&format!("{name}, {what}"), ours, theirs, tolerance);

    let samples = mppi.samples().expect("the rows of a call that succeeded");
    let count = expected.rows.len();
    assert_eq!(samples.len(), count, "{name}");
    let most = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let top = most(&expected.log_weights);
    let ours: Vec<f64> = (0..count).map(|k| f64::from(samples.log_weight(k))).collect();
    let our_top = most(&ours);
    let loose = if expected.iterated { 20.0 } else { 1.0 };
    for k in 0..count {
        for (u, v) in samples.controls(k).iter().flatten().zip(expected.rows[k].iter().flatten()) {
            is("row", f64::from(*u), *v, ROWS * (1.0 + v.abs()) + if expected.iterated { PLAN } else { 0.0 });
        }
        let cost = expected.costs[k];
        is("cost", f64::from(samples.cost(k)), cost, loose * COSTS * (1.0 + cost.abs()));
        let control = samples.control_cost(k);
        if control != 0.0 {
            is(
                "control cost",
                f64::from(control),
                expected.control_costs[k],
                loose * 1e-4 * (1.0 + expected.control_costs[k].abs()),
            );
        }
        let relative = expected.log_weights[k] - top;
        is("log-weight", ours[k] - our_top, relative, loose * LOG_WEIGHTS * (1.0 + relative.abs()));
        assert!(samples.is_valid(k), "{name}: row {k}");
    }
    is("temperature", f64::from(plan.temperature()), expected.temperature, 10.0 * TEMPERATURE * expected.temperature);
    is("effective samples", f64::from(plan.effective_samples()), expected.effective, 3e-3 * expected.effective);
    is("log Z", f64::from(plan.log_z()), expected.log_z, 3e-3 * (1.0 + expected.log_z.abs()));
    is("least cost", f64::from(plan.min_cost()), expected.min_cost, 3e-3 * (1.0 + expected.min_cost.abs()));
    is("mean cost", f64::from(plan.mean_cost()), expected.mean_cost, 3e-3 * (1.0 + expected.mean_cost.abs()));
    assert_eq!(plan.invalid_rows(), 0, "{name}");
    assert_eq!(plan.controls().len(), expected.plan.len(), "{name}");
    for (t, (u, v)) in plan.controls().iter().zip(&expected.plan).enumerate() {
        for m in 0..2 {
            is(&format!("plan at {t}"), f64::from(u[m]), v[m], PLAN);
        }
    }
    assert_eq!(mppi.controls(), plan.controls(), "{name}: the plan is where the next call starts");
}

const START: [f32; 3] = [0.3, -0.4, 0.5];

fn initial(options: &MppiOptions<2>) -> Vec<[f64; 2]> {
    vec![options.initial.map(f64::from); options.task.horizon]
}

#[test]
fn every_stage_agrees_with_a_plain_f64_update() {
    for engine in engines() {
        for (case, options) in craft_cases() {
            let expected = reference(&options, START, &initial(&options), 0, None);
            let mut mppi = Mppi::new(&engine, Craft, options).unwrap();
            compare(case, &mut mppi, START, None, &expected);
        }
    }
}

#[test]
fn given_rows_are_weighed_as_they_are() {
    let mut rng = StdRng::seed_from_u64(5);
    for engine in engines() {
        for (case, options) in craft_cases() {
            let control = || std::array::from_fn(|_| f64::from(rng.random_range(-1.5_f32..1.5)));
            let flat: Vec<[f64; 2]> =
                std::iter::repeat_with(control).take(options.samples * options.task.horizon).collect();
            let rows: Vec<Vec<[f64; 2]>> = flat.chunks(options.task.horizon).map(<[_]>::to_vec).collect();
            let expected = reference(&options, START, &initial(&options), 0, Some(&rows));
            let mut mppi = Mppi::new(&engine, Craft, options).unwrap();
            compare(case, &mut mppi, START, Some(&rows), &expected);
        }
    }
}

#[test]
fn the_second_call_goes_on_where_the_first_ended() {
    for engine in engines() {
        let options = MppiOptions { iterations: 2, ..craft_options() };
        let first = reference(&options, START, &initial(&options), 0, None);
        let mut moved: Vec<[f64; 2]> = first.plan[1..].to_vec();
        moved.push(first.plan[options.task.horizon - 1]);
        let second = reference(&options, [0.4, -0.3, 0.45], &moved, 2, None);
        let mut mppi = Mppi::new(&engine, Craft, options).unwrap();
        compare("first", &mut mppi, START, None, &first);
        mppi.shift(1);
        compare("second", &mut mppi, [0.4, -0.3, 0.45], None, &second);
    }
}

#[test]
fn parameters_and_references_may_change_every_call() {
    let mut rng = StdRng::seed_from_u64(3);
    for engine in engines() {
        let mut options = craft_options();
        let mut mppi = Mppi::new(&engine, Craft, options.clone()).unwrap();
        let mut first_controls = Vec::new();
        for call in 0..12 {
            // Unused parameters and columns are allowed; tables may be shorter or longer than the horizon.
            let rows = [1, 4, 13, 30][call % 4];
            options.task.params = (0..2 + call % 2).map(|_| rng.random_range(-2.0..2.0)).collect();
            let columns = 2 + call % 3;
            let values = (0..rows * columns).map(|_| rng.random_range(-1.0..1.0)).collect();
            options.task.references = Some(References { values, columns });
            let references = options.task.references.as_ref().unwrap();
            mppi.set_params(&options.task.params).unwrap();
            mppi.set_references(&references.values, columns).unwrap();
            mppi.set_controls(&vec![options.initial; options.task.horizon]).unwrap();
            let expected = reference(&options, START, &initial(&options), call as u32, None);
            compare(&format!("call {call}"), &mut mppi, START, None, &expected);
            first_controls.push(mppi.controls()[0]);
        }
        assert!(first_controls.windows(2).all(|pair| pair[0] != pair[1]), "the parameters had an effect");
    }
}

#[test]
fn options_can_be_replaced_between_calls() {
    for engine in engines() {
        let mut mppi = Mppi::new(&engine, Craft, craft_options()).unwrap();
        let mut number = 0;
        for (case, options) in craft_cases() {
            let sizes = MppiOptions { task: Task { horizon: 13, ..options.task }, samples: 333, ..options };
            mppi.set_options(sizes.clone()).unwrap();
            mppi.set_controls(&vec![sizes.initial; sizes.task.horizon]).unwrap();
            let expected = reference(&sizes, START, &initial(&sizes), number, None);
            compare(case, &mut mppi, START, None, &expected);
            number += sizes.iterations as u32;
        }
    }
}

#[test]
fn every_set_of_instructions_gives_the_same_plan() {
    let sets = [Instructions::Best, Instructions::Avx2, Instructions::Scalar];
    for (case, options) in craft_cases() {
        let expected = reference(&options, START, &initial(&options), 0, None);
        for instructions in sets {
            let engine = EngineOptions { backend: Backend::Cpu, instructions, ..Default::default() };
            let mut mppi = Mppi::new(&Engine::with_options(engine).unwrap(), Craft, options.clone()).unwrap();
            compare(&format!("{case} with {instructions:?}"), &mut mppi, START, None, &expected);
        }
    }
}

/// With fused multiply-add, results do not depend on the register width. (The order of sums is also tested with the
/// weighted mean, which needs only one width.)
#[test]
fn registers_of_every_width_give_the_same_bits() {
    let engine = |instructions| {
        Engine::with_options(EngineOptions { backend: Backend::Cpu, instructions, ..Default::default() }).unwrap()
    };
    let [best, narrow] = [Instructions::Best, Instructions::Avx2].map(engine);
    if best.name() == narrow.name() {
        eprintln!("SKIPPED: this processor has no registers of two widths");
        return;
    }
    for (case, options) in craft_cases() {
        let plan = |engine| {
            let mut mppi = Mppi::new(engine, Craft, options.clone()).unwrap();
            (0..3).flat_map(|_| mppi.plan(&START).unwrap().controls().to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(plan(&best), plan(&narrow), "{case}");
    }
    for width in [1, 4, 11, 16, 37] {
        let mut random = Random::new(width as u64);
        let mut numbers = |count| (0..count).map(|_| random.normal()).collect::<Vec<_>>();
        let (rows, log_weights) = (numbers(1500 * width), numbers(1500));
        let moments = |engine| {
            let mut average = WeightedMean::new(engine).with_second_moment();
            let found = average.compute(&rows, &log_weights).unwrap();
            (found.mean().to_vec(), found.second_moment().map(<[f32]>::to_vec))
        };
        assert_eq!(moments(&best), moments(&narrow), "rows of {width}");
    }
}

#[test]
fn the_functions_of_a_driver_change_costs_a_little_and_rows_not_at_all() {
    let Some(gpu) = gpu() else { return };
    let engine = EngineOptions { backend: gpu.backend(), math: Math::Native, ..Default::default() };
    let options = craft_options();
    let expected = reference(&options, START, &initial(&options), 0, None);
    let mut mppi = Mppi::new(&Engine::with_options(engine).unwrap(), Craft, options).unwrap();
    mppi.plan(&START).unwrap();
    let samples = mppi.samples().unwrap();
    for k in 0..samples.len() {
        for (u, v) in samples.controls(k).iter().flatten().zip(expected.rows[k].iter().flatten()) {
            close("row", f64::from(*u), *v, ROWS * (1.0 + v.abs()));
        }
        // WGSL allows its sine an error of 2⁻¹¹.
        close("cost", f64::from(samples.cost(k)), expected.costs[k], 1e-2 * (1.0 + expected.costs[k].abs()));
    }
}

#[test]
fn a_closed_loop_stays_together_on_cpu_and_gpu() {
    let Some(gpu) = gpu() else { return };
    let options = MppiOptions { iterations: 2, nominal_first: true, ..craft_options() };
    let mut ours = Mppi::new(&cpu(), Craft, options.clone()).unwrap();
    let mut theirs = Mppi::new(&gpu, Craft, options).unwrap();
    let mut x = START;
    for step in 0..20 {
        let (a, b) = (ours.plan(&x).unwrap().controls()[0], theirs.plan(&x).unwrap().controls()[0]);
        for m in 0..2 {
            close(&format!("control {m} at step {step}"), f64::from(a[m]), f64::from(b[m]), 1e-3);
        }
        x = Craft.step(&StepContext::new(step, 0.1), x, a);
        ours.shift(1);
        theirs.shift(1);
    }
    assert!(x != START, "the craft moved");
}

/// Moves by u per step and ends beyond 2; costs the distance moved, and 100 at the end. All numbers are multiples of ¼,
/// so every backend is exact and rows can be counted.
struct Hops;

impl Model<1, 1> for Hops {
    #[inline(always)]
    fn step<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
        [x + u]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1], _u: [R; 1]) -> R {
        x
    }
    #[inline(always)]
    fn terminal<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1]) -> R {
        x * 100.0
    }
    #[inline(always)]
    fn done<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1]) -> R::Mask {
        x.gt(2.0)
    }
}

#[test]
fn a_rollout_that_is_done_stands_still() {
    const STEPS: usize = 9;
    let mut rng = StdRng::seed_from_u64(8);
    let rows: Vec<f32> = (0..200 * STEPS).map(|_| rng.random_range(-2..=4_i32) as f32 * 0.25).collect();
    for engine in engines() {
        let options = MppiOptions {
            task: Task { horizon: STEPS, ..Default::default() },
            samples: 200,
            weighting: Weighting::Exponential(Temperature::Fixed(50.0)),
            noise: Noise::Diagonal([1.0]),
            ..Default::default()
        };
        let mut mppi = Mppi::new(&engine, Hops, options).unwrap();
        for start in [0.0, 1.25, 5.0] {
            mppi.plan_rows(&[start], &rows).unwrap();
            let samples = mppi.samples().unwrap();
            let mut ended = 0;
            for (k, row) in rows.chunks(STEPS).enumerate() {
                let (mut x, mut cost, mut states) = (start, 0.0, vec![[start]]);
                for u in row {
                    if x <= 2.0 {
                        x += u;
                        cost += x;
                    }
                    states.push([x]);
                }
                ended += usize::from(x > 2.0);
                assert_eq!(samples.cost(k), cost + 100.0 * x, "row {k} from {start} on {}", engine.name());
                assert_eq!(samples.states(k), states);
            }
            assert!(if start > 2.0 { ended == 200 } else { (10..200).contains(&ended) }, "{ended} rows ended");
        }
    }
}

/// Costs 10 + u² a step.
struct Toll;

impl Model<1, 1> for Toll {
    #[inline(always)]
    fn step<R: Real>(&self, _at: &StepContext<R>, _x: [R; 1], u: [R; 1]) -> [R; 1] {
        u
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _at: &StepContext<R>, _x: [R; 1], [u]: [R; 1]) -> R {
        u.square() + 10.0
    }
}

#[test]
fn a_long_sum_of_costs_loses_nothing() {
    // Controls in steps of 1/64, so that every summand is exact. The sums are near 11,000, where f32 has a resolution
    // of 10⁻³, which with λ = 0.01 would change a log-weight by 0.1.
    const STEPS: usize = 1000;
    const LAMBDA: f64 = 0.01;
    let mut rng = StdRng::seed_from_u64(12);
    let base: Vec<i32> = (0..STEPS).map(|_| rng.random_range(-100..=100)).collect();
    let mut rows = Vec::new();
    for _ in 0..130 {
        let mut row = base.clone();
        (0..20).for_each(|_| row.swap(rng.random_range(0..STEPS), rng.random_range(0..STEPS)));
        row[rng.random_range(0..STEPS)] = rng.random_range(-100..=100);
        rows.extend(row.iter().map(|u| *u as f32 / 64.0));
    }
    let cost = |row: &[f32]| row.iter().map(|u| f64::from(u * u) + 10.0).sum::<f64>();
    let costs: Vec<f64> = rows.chunks(STEPS).map(cost).collect();
    let least = costs.iter().copied().fold(f64::INFINITY, f64::min);
    for engine in engines() {
        let options = MppiOptions {
            task: Task { horizon: STEPS, ..Default::default() },
            samples: 130,
            weighting: Temperature::Fixed(LAMBDA as f32).into(),
            ..Default::default()
        };
        let mut mppi = Mppi::new(&engine, Toll, options).unwrap();
        mppi.plan_rows(&[0.0], &rows).unwrap();
        let samples = mppi.samples().unwrap();
        let top = (0..130).map(|k| samples.log_weight(k)).fold(f32::NEG_INFINITY, f32::max);
        for (k, cost) in costs.iter().enumerate() {
            let expected = -(cost - least) / LAMBDA;
            let what = format!("log-weight of row {k} on {}", engine.name());
            close(&what, f64::from(samples.log_weight(k) - top), expected, 1e-3 * (1.0 + 1e-2 * expected.abs()));
        }
    }
}

/// The cost is the sum of two fields.
struct Hills;

impl Model<2, 2> for Hills {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [x, y]: [R; 2], [u, v]: [R; 2]) -> [R; 2] {
        [x + u * at.dt(), y + v * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y]: [R; 2], _u: [R; 2]) -> R {
        at.sample(0, x, y) + at.sample(1, y, x) * 0.5
    }
}

fn bowl(cells: usize, center: f32, yaw: f32) -> Grid {
    let side = cells as f32 * 0.25;
    let grid =
        Grid::from_fn(cells, cells, 0.25, [-side / 2.0; 2], |x, y| (x - center).powi(2) + 0.5 * (y + center).powi(2));
    grid.unwrap().with_yaw(yaw).unwrap().with_outside(7.0).unwrap()
}

#[test]
fn fields_mean_the_same_and_can_be_replaced() {
    let options = |fields: Vec<Grid>| MppiOptions {
        task: Task { horizon: 10, dt: 0.1, fields, ..Default::default() },
        samples: 300,
        weighting: Weighting::Exponential(Temperature::Fixed(4.0)),
        noise: Noise::Diagonal([1.0, 1.0]),
        ..Default::default()
    };
    for engine in engines() {
        let mut fields = vec![bowl(80, 1.0, 0.4), bowl(90, -0.5, -2.0)];
        let mut mppi = Mppi::new(&engine, Hills, options(fields.clone())).unwrap();
        let mut plans = Vec::new();
        // Grids of equal size at another position, and of other sizes; the last x is beyond the grid.
        for grid in [bowl(80, 1.0, 0.4), bowl(80, -1.0, 0.4), bowl(120, 0.3, 1.0), bowl(70, 0.0, 0.0)] {
            mppi.set_field(0, grid.clone()).unwrap();
            fields[0] = grid;
            mppi.reset();
            plans.push(mppi.plan(&[0.2, -0.1]).unwrap().controls().to_vec());
            let samples = mppi.samples().unwrap();
            for k in 0..samples.len() {
                let path = samples.states(k);
                let cost: f32 =
                    path[1..].iter().map(|[x, y]| fields[0].sample(*x, *y) + 0.5 * fields[1].sample(*y, *x)).sum();
                let what = format!("row {k} on {}", engine.name());
                close(&what, f64::from(samples.cost(k)), f64::from(cost), 1e-4 * (1.0 + f64::from(cost)));
            }
        }
        assert!(plans.windows(2).all(|pair| pair[0] != pair[1]), "a new field makes a new plan");
        mppi.plan(&[500.0, 500.0]).unwrap();
        let samples = mppi.samples().unwrap();
        assert!((0..300).all(|k| samples.cost(k) == 105.0), "all rows are outside on {}", engine.name());
    }
}

#[test]
fn a_field_that_is_changed_in_place_is_that_of_a_new_planner() {
    let options = |fields: Vec<Grid>| MppiOptions {
        task: Task { horizon: 10, dt: 0.1, fields, ..Default::default() },
        samples: 300,
        weighting: Weighting::Exponential(Temperature::Fixed(4.0)),
        noise: Noise::Diagonal([4.0, 4.0]),
        ..Default::default()
    };
    let whole = bowl(12, 0.3, 0.4);
    let regions = [
        Region { column: 5, row: 5, width: 2, height: 3 },
        Region { column: 0, row: 0, width: 1, height: 1 },
        Region { column: 9, row: 10, width: 3, height: 2 },
        Region { column: 0, row: 4, width: 12, height: 2 },
        whole.region(),
    ];
    let x = [0.2, -0.1];
    for engine in engines() {
        let mut fields = vec![bowl(12, 1.0, 0.4), bowl(14, -0.5, -2.0)];
        let mut mppi = Mppi::new(&engine, Hills, options(fields.clone())).unwrap();
        let mut fleet = Fleet::new(&engine, Hills, options(fields.clone()), 2).unwrap();
        let mut plans = vec![mppi.plan(&x).unwrap().controls().to_vec()];
        // Two changes at a time, of the same field or of both.
        for round in 0..5 {
            for (index, region) in [(0, regions[round]), (round % 2, regions[(round + 1) % 5])] {
                let count = region.width * region.height;
                let values: Vec<f32> = (0..count).map(|i| ((i + round) as f32 * 1.7).sin() * 20.0 + 20.0).collect();
                mppi.update_field(index, region, &values).unwrap();
                fleet.update_field(index, region, &values).unwrap();
                fields[index].update(region, &values).unwrap();
            }
            if round >= 2 {
                let origin = [-2.0 + 0.25 * round as f32, -1.0];
                mppi.set_field_origin(1, origin).unwrap();
                fleet.set_field_origin(1, origin).unwrap();
                fields[1].set_origin(origin).unwrap();
            }
            assert_eq!(mppi.options().task.fields, fields);
            mppi.reset();
            fleet.reset_all();
            let plan = mppi.plan(&x).unwrap().clone();
            let mut new = Mppi::new(&engine, Hills, options(fields.clone())).unwrap();
            let expected = new.plan(&x).unwrap();
            let name = format!("round {round} on {}", engine.name());
            assert_eq!((plan.controls(), plan.cost()), (expected.controls(), expected.cost()), "{name}");
            assert_eq!(mppi.samples().unwrap().weights(), new.samples().unwrap().weights(), "{name}");
            let mut new = Fleet::new(&engine, Hills, options(fields.clone()), 2).unwrap();
            let controls = |fleet: &mut Fleet<2, 2, Hills, MppiOptions<2>>| -> Vec<_> {
                fleet.plan(&[x, [-0.4, 0.5]]).unwrap().iter().map(|plan| plan.unwrap().controls().to_vec()).collect()
            };
            assert_eq!(controls(&mut fleet), controls(&mut new), "{name}");
            plans.push(plan.controls().to_vec());
        }
        assert!(plans.windows(2).all(|pair| pair[0] != pair[1]), "a changed field makes a new plan");
        // A planner that is moved takes its fields along.
        mppi.move_to(&cpu()).unwrap();
        mppi.reset();
        let mut new = Mppi::new(&cpu(), Hills, options(fields)).unwrap();
        assert_eq!(mppi.plan(&x).unwrap().controls(), new.plan(&x).unwrap().controls());
    }
}

/// Checks one field and its derivatives at many points.
struct Look(FieldSet, usize);

impl Map<2, 3> for Look {
    #[inline(always)]
    fn map<R: Real>(&self, [x, y]: [R; 2]) -> [R; 3] {
        let at = StepContext::<Dual<R, 2>>::new(0, 0.1).with_fields(&self.0);
        let [x, y] = Dual::variables([x, y]);
        let seen = at.sample(self.1, x, y);
        [seen.value, seen.slopes[0], seen.slopes[1]]
    }
    fn fields(&self) -> FieldSet {
        self.0.clone()
    }
}

#[test]
fn a_field_is_looked_up_alike_inside_and_outside() {
    let mut rng = StdRng::seed_from_u64(4);
    let mut grid = |width: usize, height: usize, yaw: f32| {
        let values = (0..width * height).map(|_| rng.random_range(-5.0..5.0)).collect();
        let grid = Grid::new(width, height, 0.3, [1.0, -2.0], values).unwrap();
        grid.with_yaw(yaw).unwrap().with_outside(-9.0).unwrap()
    };
    let grids = [grid(7, 5, 0.0), grid(9, 4, 0.7), grid(1, 6, -2.5), grid(6, 1, PI), grid(1, 1, 1.0), grid(2, 2, 0.1)];
    let mut rng = StdRng::seed_from_u64(6);
    for (i, grid) in grids.iter().enumerate() {
        // Drawn in the frame of the grid, to cover all regions; not on the border itself, where rounding decides.
        let (w, h) = (grid.width() as f32 * 0.3, grid.height() as f32 * 0.3);
        let mut inside = 0;
        let mut points = Vec::new();
        while points.len() < 800 {
            let (a, b) = (rng.random_range(-0.5..w + 0.5), rng.random_range(-0.5..h + 0.5));
            let border = [a, a - w, b, b - h].iter().fold(1.0_f32, |least, d| least.min(d.abs()));
            // Also not where cells meet, since the derivative is discontinuous there.
            let from_edge = |a: f32| (a / 0.3 - 0.5 - (a / 0.3 - 0.5).round()).abs();
            if border > 1e-4 && from_edge(a) > 1e-3 && from_edge(b) > 1e-3 {
                let (s, c) = grid.yaw().sin_cos();
                points.push([1.0 + c * a - s * b, -2.0 + s * a + c * b]);
                inside += usize::from(a > 0.0 && a < w && b > 0.0 && b < h);
            }
        }
        points.push([1e9, 0.0]);
        points.push([-1e30, 1e30]);
        let beyond = |engine: &Engine| evaluate(engine, &Look(FieldSet::new(&grids[..i]), i), &points);
        for engine in engines() {
            let missing = ModelError::NotGiven { function: "map", what: "field", index: i, given: i };
            assert_eq!(beyond(&engine).err(), Some(BuildError::Model(missing)), "on {}", engine.name());
            let values = evaluate(&engine, &Look(FieldSet::new(&grids), i), &points).unwrap();
            let mut differ = 0;
            for ([x, y], [value, by_x, by_y]) in points.iter().zip(values) {
                let (expected, slope) = (grid.sample(*x, *y), grid.gradient(*x, *y));
                differ += usize::from(value != -9.0);
                let what = format!("grid {i} at ({x}, {y}) on {}", engine.name());
                close(&what, f64::from(value), f64::from(expected), 2e-4);
                close(&what, f64::from(by_x), f64::from(slope[0]), 1e-3);
                close(&what, f64::from(by_y), f64::from(slope[1]), 1e-3);
            }
            assert_eq!(differ, inside, "grid {i} on {}", engine.name());
        }
    }
}

/// The first `C` channels of a field and their derivatives, and its last channel looked up by itself.
struct Channels<const D: usize, const C: usize>(FieldSet, usize);

impl<const D: usize, const C: usize, const O: usize> Map<D, O> for Channels<D, C> {
    #[inline(always)]
    fn map<R: Real>(&self, point: [R; D]) -> [R; O] {
        let at = StepContext::<R>::new(0, 0.1).with_fields(&self.0);
        let mut seen = [at.channel(self.1, C - 1, point); O];
        let at = StepContext::<Dual<R, D>>::new(0, 0.1).with_fields(&self.0);
        let values: [_; C] = at.look_up(self.1, Dual::variables(point));
        for c in 0..C {
            seen[c * (D + 1)] = values[c].value;
            for d in 0..D {
                seen[c * (D + 1) + 1 + d] = values[c].slopes[d];
            }
        }
        seen
    }
    fn fields(&self) -> FieldSet {
        self.0.clone()
    }
}

/// The value of a channel of a field and its derivatives by a linear interpolation in f64, in the eight samples around
/// a point; the distance to where cells meet; and whether the point is in the field. All of them by the definition of
/// [`Grid`].
fn interpolated<const D: usize>(grid: &Grid, channel: usize, point: [f32; D]) -> (f64, [f64; D], f64, bool) {
    let (resolution, table) = (f64::from(grid.resolution()), D == 1);
    let mut from: [f64; D] = std::array::from_fn(|d| f64::from(point[d]) - f64::from(grid.origin()[d]));
    let (s, c) = f64::from(grid.yaw()).sin_cos();
    if !table {
        (from[0], from[1]) = (c * from[0] + s * from[1], c * from[1] - s * from[0]);
    }
    let sizes = [grid.width(), grid.height(), grid.depth()];
    let (mut edge, mut inside) = (f64::INFINITY, true);
    // For each axis the samples before and after the point, the part of the way, and whether there is a slope.
    let mut axes = [(0, 0, 0.0, 0.0); 3];
    let mut scales = [0.0; D];
    for d in 0..D {
        let (n, spacing) = (sizes[d], if d == 2 { f64::from(grid.layer_height()) } else { resolution });
        let mut g = from[d] / spacing - if table { 0.0 } else { 0.5 };
        scales[d] = 1.0 / spacing;
        edge = edge.min((g - g.round()).abs());
        let last = n as f64 - 1.0;
        let periodic = grid.ends() == Ends::Periodic;
        if periodic {
            g = g.rem_euclid(n as f64);
        } else if grid.ends() == Ends::Outside {
            inside &= (-0.5..=last + 0.5).contains(&g);
            edge = edge.min((g + 0.5).abs()).min((g - last - 0.5).abs());
        }
        let held = if periodic { g } else { g.clamp(0.0, last) };
        let before = held.floor() as usize % n;
        let after = if periodic { (before + 1) % n } else { (before + 1).min(n - 1) };
        axes[d] = (before, after, held - held.floor(), f64::from(u8::from(held == g)));
    }
    let sample = |corner: usize| {
        let [i, j, k] = [0, 1, 2].map(|d| if corner >> d & 1 == 0 { axes[d].0 } else { axes[d].1 });
        let at = ((channel * grid.depth() + k) * grid.height() + j) * grid.width() + i;
        f64::from(grid.values()[at])
    };
    let weight = |corner: usize, d: usize| if corner >> d & 1 == 0 { 1.0 - axes[d].2 } else { axes[d].2 };
    let value = (0..8).map(|corner| sample(corner) * (0..3).map(|d| weight(corner, d)).product::<f64>()).sum();
    let mut by_grid = [0.0; D];
    for d in 0..D {
        let others = |corner| (0..3).filter(|e| *e != d).map(|e| weight(corner, e)).product::<f64>();
        let rise = |corner| if corner >> d & 1 == 0 { -1.0 } else { 1.0 };
        by_grid[d] = (0..8).map(|corner| sample(corner) * rise(corner) * others(corner)).sum::<f64>();
        by_grid[d] *= axes[d].3 * scales[d];
    }
    if !table {
        (by_grid[0], by_grid[1]) = (c * by_grid[0] - s * by_grid[1], s * by_grid[0] + c * by_grid[1]);
    }
    match inside {
        true => (value, by_grid, edge, true),
        false => (f64::from(grid.outside()), [0.0; D], edge, false),
    }
}

/// Compares a field at many points with [`interpolated`], on all engines.
fn looked_up_alike<const D: usize, const C: usize, const O: usize>(
    grid: &Grid,
    points: &[[f32; D]],
    engines: &[Engine],
    tolerance: f64,
) {
    // Other fields before it, so that it is not the first of the buffer.
    let other = bowl(5, 0.0, 0.3);
    let fields = vec![other.clone(), other, grid.clone()];
    let (mut inside, mut outside) = (0, 0);
    for engine in engines {
        let found: Vec<[f32; O]> = evaluate(engine, &Channels::<D, C>(FieldSet::new(&fields), 2), points).unwrap();
        for (point, found) in points.iter().zip(found) {
            let what = format!("{:?} at {point:?} on {}", grid.ends(), engine.name());
            let exact: [f32; C] = grid.look_up(*point).unwrap();
            for c in 0..C {
                let (value, slopes, edge, is_inside) = interpolated(grid, c, *point);
                if edge < 1e-3 {
                    continue;
                }
                *(if is_inside { &mut inside } else { &mut outside }) += 1;
                close(&what, f64::from(found[c * (D + 1)]), value, tolerance);
                for d in 0..D {
                    close(&what, f64::from(found[c * (D + 1) + 1 + d]), slopes[d], 10.0 * tolerance);
                }
                if engine.backend() == Backend::Cpu && engine.options().instructions != Instructions::Scalar {
                    assert_eq!(found[c * (D + 1)], exact[c], "{what}");
                }
            }
            assert_eq!(found[C * (D + 1)], found[(C - 1) * (D + 1)], "a channel by itself: {what}");
        }
    }
    assert!(inside > 50, "{inside} values inside");
    assert!(outside > 50 || grid.ends() != Ends::Outside, "{outside} values outside");
}

#[test]
fn tables_volumes_and_channels_are_interpolated_alike() {
    let mut rng = StdRng::seed_from_u64(8);
    let mut numbers = |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-5.0..5.0)).collect() };
    let table = |count: usize, numbers: &mut dyn FnMut(usize) -> Vec<f32>| {
        Grid::table(0.3, 1.0, numbers(count))?.with_channel(numbers(count))?.with_channel(numbers(count))
    };
    let mut tables = Vec::new();
    for count in [1, 2, 7, 64] {
        for ends in [Ends::Clamp, Ends::Outside, Ends::Periodic] {
            let table = table(count, &mut numbers).and_then(|table| table.with_ends(ends)?.with_outside(-9.0));
            tables.push(table.unwrap());
        }
    }
    let planes = [(7, 5, 0.4), (1, 6, -2.5), (5, 1, 0.0)].map(|(width, height, yaw)| {
        let grid = Grid::new(width, height, 0.3, [1.0, -2.0], numbers(width * height)).unwrap();
        grid.with_channel(numbers(width * height)).unwrap().with_yaw(yaw).unwrap().with_outside(-9.0).unwrap()
    });
    let volumes = [([5, 4, 6], 0.4), ([1, 3, 2], -2.5), ([3, 1, 1], 0.0)].map(|(size, yaw)| {
        let count = size.iter().product();
        let grid = Grid::volume(size, 0.3, [1.0, -2.0, 0.5], numbers(count)).unwrap();
        let grid = grid.with_channel(numbers(count)).unwrap().with_layer_height(0.2).unwrap();
        grid.with_yaw(yaw).unwrap().with_outside(-9.0).unwrap()
    });

    // The CPU with each instruction set that it has, and the GPUs.
    let mut engines = engines();
    for instructions in [Instructions::Scalar, Instructions::Avx2] {
        let options = EngineOptions { backend: Backend::Cpu, instructions, ..Default::default() };
        engines.extend(Engine::with_options(options));
    }
    let mut points = Vec::new();
    for table in &tables {
        let length = 0.3 * table.width() as f32;
        // Several periods before and after, and, at the accuracy that f32 leaves, many.
        points.clear();
        points.extend((0..400).map(|_| [rng.random_range(-2.5 * length..3.5 * length)]));
        looked_up_alike::<1, 3, 7>(table, &points, &engines, 3e-4);
        if table.ends() == Ends::Periodic {
            points.clear();
            points.extend((0..400).map(|_| [rng.random_range(-300.0_f32..300.0)]));
            looked_up_alike::<1, 3, 7>(table, &points, &engines, 5e-3);
        }
    }
    for plane in &planes {
        let mut draw = || [rng.random_range(-3.0..4.0), rng.random_range(-5.0..1.0)];
        looked_up_alike::<2, 2, 7>(plane, &std::array::from_fn::<_, 1500, _>(|_| draw()), &engines, 3e-4);
    }
    for volume in &volumes {
        let mut draw = || [rng.random_range(0.0..3.0), rng.random_range(-3.5..0.0), rng.random_range(0.3..2.0)];
        looked_up_alike::<3, 2, 9>(volume, &std::array::from_fn::<_, 3000, _>(|_| draw()), &engines, 5e-4);
    }
    for engine in &engines {
        // A NaN is outside, whatever the ends, and so is an infinite place of a periodic table.
        let outside = |ends: Ends, x: f32| {
            let table = tables.iter().find(|table| table.ends() == ends).cloned().unwrap();
            let found: [f32; 7] = evaluate(engine, &Channels::<1, 3>(FieldSet::new(&[table]), 0), &[[x]]).unwrap()[0];
            assert_eq!(found[0], -9.0, "{ends:?} at {x} on {}", engine.name());
        };
        if engine.backend() == Backend::Cpu {
            outside(Ends::Clamp, f32::NAN);
            outside(Ends::Outside, f32::NAN);
            outside(Ends::Periodic, f32::INFINITY);
        }
        outside(Ends::Outside, -1e9);
    }
}

/// A train on a closed track (state: arc length, speed, and a place and a height beside it): reads a periodic table, a
/// volume and a grid with two channels.
struct Train;

impl Model<4, 2> for Train {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [s, v, y, z]: [R; 4], [a, w]: [R; 2]) -> [R; 4] {
        let [slope, _, drag] = at.look_up(0, [s]);
        [s + v * at.dt(), v + (a - slope - v * drag) * at.dt(), y + w * at.dt(), z + y * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [s, v, y, z]: [R; 4], _u: [R; 2]) -> R {
        let ([limit, wind], [_, wall]) = ([at.channel(0, 1, [s]), at.channel(1, 0, [s, y, z])], at.look_up(2, [s, y]));
        (v - limit).square() + wind.square() + wall
    }
}

#[test]
fn tables_and_volumes_of_a_planner_are_changed_in_place() {
    let wave = |i: usize, scale: f32| (i as f32 * 1.7).sin() * scale + scale;
    let numbers = |count: usize, scale: f32| -> Vec<f32> { (0..count).map(|i| wave(i, scale)).collect() };
    let table = Grid::table(0.5, 0.2, numbers(9, 1.0)).and_then(|table| {
        table.with_channel(numbers(9, 2.0))?.with_channel(numbers(9, 0.3))?.with_ends(Ends::Periodic)
    });
    let volume = Grid::volume([6, 5, 4], 0.4, [-1.0; 3], numbers(120, 1.0)).and_then(|volume| volume.with_yaw(0.3));
    let plane = Grid::new(8, 6, 0.5, [-2.0; 2], numbers(48, 1.0)).and_then(|grid| grid.with_channel(numbers(48, 3.0)));
    let fields = vec![table.unwrap(), volume.unwrap(), plane.unwrap()];
    let options = |fields: Vec<Grid>| MppiOptions {
        task: Task { horizon: 8, dt: 0.1, fields, ..Default::default() },
        samples: 256,
        weighting: Weighting::Exponential(Temperature::Fixed(40.0)),
        noise: Noise::Diagonal([2.0, 2.0]),
        ..Default::default()
    };
    let (x, mut by_engine) = ([-0.3, 1.0, 0.2, -0.1], Vec::new());
    for engine in engines() {
        let mut own = fields.clone();
        let mut mppi = Mppi::new(&engine, Train, options(own.clone())).unwrap();
        let mut plans = vec![mppi.plan(&x).unwrap().controls().to_vec()];
        for round in 0..4 {
            match round {
                // The end of the table, and then its begin, which a periodic one repeats.
                0 => mppi.update_field(0, 7..9, &[9.0, 8.0, 7.0, 6.0, 5.0, 4.0]).unwrap(),
                1 => mppi.update_field(0, 0..1, &[-3.0, -2.0, 1.0]).unwrap(),
                2 => {
                    let block = Region { column: 1, row: 1, width: 4, height: 2 }.layers(2..4);
                    mppi.update_field(1, block, &numbers(16, 5.0)).unwrap();
                    own[1].update(block, &numbers(16, 5.0)).unwrap();
                    mppi.set_field_origin(1, [-0.5, -0.7, -0.2]).unwrap();
                    own[1].set_origin([-0.5, -0.7, -0.2]).unwrap();
                }
                _ => {
                    let region = Region { column: 2, row: 3, width: 5, height: 2 };
                    mppi.update_field(2, region, &numbers(20, 9.0)).unwrap();
                    own[2].update(region, &numbers(20, 9.0)).unwrap();
                    mppi.set_field_origin(0, [0.7]).unwrap();
                    own[0].set_origin([0.7]).unwrap();
                }
            }
            match round {
                0 => own[0].update(7..9, &[9.0, 8.0, 7.0, 6.0, 5.0, 4.0]).unwrap(),
                1 => own[0].update(0..1, &[-3.0, -2.0, 1.0]).unwrap(),
                _ => (),
            }
            assert_eq!(mppi.options().task.fields, own);
            mppi.reset();
            let plan = mppi.plan(&x).unwrap().controls().to_vec();
            let mut new = Mppi::new(&engine, Train, options(own.clone())).unwrap();
            assert_eq!(plan, new.plan(&x).unwrap().controls(), "round {round} on {}", engine.name());
            plans.push(plan);
        }
        assert!(plans.windows(2).all(|pair| pair[0] != pair[1]), "a changed field makes a new plan");
        by_engine.push(plans);
    }
    for plans in &by_engine {
        for (ours, theirs) in plans.iter().flatten().flatten().zip(by_engine[0].iter().flatten().flatten()) {
            close("a plan", f64::from(*ours), f64::from(*theirs), PLAN);
        }
    }
}

/// Step, cost and terminal cost of a model, as one function of state and control.
struct Whole<const N: usize, const M: usize, D>(D);

impl<const N: usize, const M: usize, const I: usize, const O: usize, D: Model<N, M>> Map<I, O> for Whole<N, M, D> {
    #[inline(always)]
    fn map<R: Real>(&self, input: [R; I]) -> [R; O] {
        let at = StepContext::<R>::new(2, 0.04);
        let (mut x, mut u, mut output) = ([R::from(0.0); N], [R::from(0.0); M], [R::from(0.0); O]);
        x.copy_from_slice(&input[..N]);
        u.copy_from_slice(&input[N..]);
        let next = self.0.step(&at, x, u);
        output[..N].copy_from_slice(&next);
        output[N] = self.0.cost(&at, next, u);
        output[N + 1] = self.0.terminal(&at, next);
        output
    }
}

/// Checks that a model is the same function on all backends: to 2·10⁻⁵ relative to 1 + |value|, over 2,000 states in
/// ±`size`.
fn same_everywhere<const N: usize, const M: usize, const I: usize, const O: usize>(
    model: impl Model<N, M>,
    size: [f32; I],
    prepare: impl Fn(&mut [f32; I]),
) {
    assert_eq!((I, O), (N + M, N + 2));
    let (model, mut rng) = (Whole::<N, M, _>(model), StdRng::seed_from_u64(11));
    let draw = || {
        let mut x = size.map(|s| rng.random_range(-s..=s));
        prepare(&mut x);
        x
    };
    let inputs: Vec<[f32; I]> = std::iter::repeat_with(draw).take(2000).collect();
    for engine in engines() {
        let outputs: Vec<[f32; O]> = evaluate(&engine, &model, &inputs).unwrap();
        for (x, theirs) in inputs.iter().zip(outputs) {
            let ours: [f32; O] = model.map(*x);
            for o in 0..O {
                let what = format!("output {o} at {x:?} on {}", engine.name());
                close(&what, f64::from(theirs[o]), f64::from(ours[o]), 2e-5 * (1.0 + f64::from(ours[o].abs())));
            }
        }
    }
}

#[test]
fn every_model_is_the_same_function_everywhere() {
    same_everywhere::<4, 1, 5, 6>(CartPole::default(), [3.0, 4.0, 10.0, 6.0, 10.0], |_| ());
    same_everywhere::<2, 1, 3, 4>(Pendulum::default(), [7.0, 9.0, 3.0], |_| ());
    same_everywhere::<4, 2, 6, 6>(DoubleIntegrator::default(), [5.0, 5.0, 3.0, 3.0, 2.0, 2.0], |_| ());
    same_everywhere::<3, 2, 5, 5>(Unicycle::default(), [5.0, 5.0, 7.0, 2.0, 2.0], |_| ());
    same_everywhere::<3, 2, 5, 5>(DifferentialDrive::default(), [5.0, 5.0, 7.0, 20.0, 20.0], |_| ());
    same_everywhere::<4, 2, 6, 6>(Bicycle::default(), [5.0, 5.0, 7.0, 4.0, 2.0, 1.0], |_| ());
    same_everywhere::<6, 2, 8, 8>(PlanarQuadrotor::default(), [3.0, 3.0, 4.0, 3.0, 3.0, 3.0, 8.0, 8.0], |_| ());
    let size = [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 4.0, 4.0, 4.0, 20.0];
    same_everywhere::<13, 4, 17, 15>(Quadrotor::default(), size, |x| {
        // A unit quaternion, but not a half turn, where the sign that keeps w ≥ 0 flips.
        x[6] = 0.2 + x[6].abs();
        let norm = x[6..10].iter().map(|q| q * q).sum::<f32>().sqrt();
        x[6..10].iter_mut().for_each(|q| *q /= norm);
    });
}
