//! Properties for any size and any numbers: the weighted mean against f64, the operations that move a plan, and
//! repeatability.

mod common;

use std::sync::OnceLock;

use common::{cpu, engines, gpu};
use gibbs::control::ShiftFill;
use gibbs::models::{CartPole, Unicycle};
use gibbs::{Average, Engine, Mppi, MppiOptions, Noise, Task, Temperature, WeightedMean, Weighting};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Rows and log-weights of one problem.
#[derive(Debug, Clone)]
struct Problem {
    width: usize,
    rows: Vec<f32>,
    log_weights: Vec<f32>,
}

impl Problem {
    /// With `masks`, some rows have weight zero and some are invalid.
    fn new(count: usize, width: usize, spread: f32, masks: bool, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let rows = (0..count * width).map(|_| rng.random_range(-3.0..5.0)).collect();
        let mut log_weights: Vec<f32> = (0..count).map(|_| rng.random_range(-spread..spread)).collect();
        if masks {
            for log_weight in &mut log_weights[1..] {
                match rng.random_range(0..10) {
                    0 => *log_weight = f32::NEG_INFINITY,
                    1 => *log_weight = f32::NAN,
                    2 => *log_weight = f32::INFINITY,
                    _ => (),
                }
            }
        }
        Self { width, rows, log_weights }
    }

    /// The valid rows with their log-weights in f64.
    fn valid(&self) -> impl Iterator<Item = (&[f32], f64)> + Clone {
        let rows = self.rows.chunks(self.width).zip(self.log_weights.iter().map(|l| f64::from(*l)));
        rows.filter(|(_, l)| *l < f64::INFINITY)
    }
}

fn problems() -> impl Strategy<Value = Problem> {
    let sizes = (prop_oneof![1..70_usize, 1..5000_usize], 1..70_usize);
    let shape = (prop_oneof![Just(0.01_f32), Just(1.0), Just(30.0)], any::<bool>(), any::<u64>());
    (sizes, shape).prop_map(|((k, d), (spread, masks, seed))| Problem::new(k, d, spread, masks, seed))
}

/// Compares a result with sums in f64.
fn is_the_weighted_mean(problem: &Problem, found: &Average) -> Result<(), TestCaseError> {
    let count = problem.log_weights.len();
    let max = problem.valid().map(|(_, l)| l).fold(f64::NEG_INFINITY, f64::max);
    let (mut sum, mut squares, mut mean, mut second) = (0.0, 0.0, vec![0.0; problem.width], vec![0.0; problem.width]);
    for (row, log_weight) in problem.valid() {
        let weight = (log_weight - max).exp();
        (sum, squares) = (sum + weight, squares + weight * weight);
        for (d, v) in row.iter().enumerate() {
            mean[d] += weight * f64::from(*v);
            second[d] += weight * f64::from(*v).powi(2);
        }
    }
    let close = |a: f32, b: f64, tolerance: f64| (f64::from(a) - b).abs() <= tolerance * (1.0 + b.abs());
    for d in 0..problem.width {
        prop_assert!(close(found.mean()[d], mean[d] / sum, 1e-5), "mean {} of {}", found.mean()[d], mean[d] / sum);
        let column = problem.rows.iter().skip(d).step_by(problem.width);
        let (low, high) = column.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        prop_assert!((low - 1e-5..=high + 1e-5).contains(&found.mean()[d]));
        let square = found.second_moment().expect("it was asked for")[d];
        prop_assert!(close(square, second[d] / sum, 1e-5), "second moment {square} of {}", second[d] / sum);
    }
    prop_assert!(close(found.log_z(), max + (sum / count as f64).ln(), 1e-5));
    prop_assert!(close(found.effective_samples(), sum * sum / squares, 1e-5));
    prop_assert!((0.9999..=1.0001 * count as f32).contains(&found.effective_samples()));
    prop_assert_eq!(f64::from(found.max_log_weight()), max);
    prop_assert_eq!(found.valid_rows(), problem.valid().count());
    prop_assert_eq!(found.valid_rows() + found.invalid_rows(), count);
    Ok(())
}

/// Checks all properties of the weighted mean on one engine.
fn weighted_mean(engine: &Engine, problem: &Problem, by: f32, seed: u64) -> Result<(), TestCaseError> {
    let mut averager = WeightedMean::new(engine).with_second_moment();
    let found = averager.compute(&problem.rows, &problem.log_weights).unwrap().clone();
    is_the_weighted_mean(problem, &found)?;
    prop_assert_eq!(averager.compute(&problem.rows, &problem.log_weights).unwrap(), &found, "again, the same bits");

    // Adding a constant to all log-weights changes nothing.
    let mut moved = problem.clone();
    moved.log_weights.iter_mut().for_each(|l| *l += by);
    let shifted = averager.compute(&moved.rows, &moved.log_weights).unwrap();
    // The rounding error of adding `by` is relative to its size.
    let rounded = 1e-5 + 2e-7 * by.abs();
    for (a, b) in shifted.mean().iter().zip(found.mean()) {
        prop_assert!((a - b).abs() <= 10.0 * rounded, "{a} and {b}, moved by {by}");
    }
    prop_assert!((shifted.log_z() - by - found.log_z()).abs() <= 10.0 * rounded);

    // The order of the rows matters only up to rounding.
    let mut order: Vec<usize> = (0..problem.log_weights.len()).collect();
    order.shuffle(&mut StdRng::seed_from_u64(seed));
    let rows: Vec<f32> =
        order.iter().flat_map(|k| &problem.rows[k * problem.width..][..problem.width]).copied().collect();
    let log_weights: Vec<f32> = order.iter().map(|k| problem.log_weights[*k]).collect();
    let mixed = averager.compute(&rows, &log_weights).unwrap();
    for (a, b) in mixed.mean().iter().zip(found.mean()) {
        prop_assert!((a - b).abs() <= 2e-5, "{a} and {b}, in another order");
    }
    Ok(())
}

/// The GPU engine, opened once because opening it is slow.
fn kept_gpu() -> Option<&'static Engine> {
    static ENGINE: OnceLock<Option<Engine>> = OnceLock::new();
    ENGINE.get_or_init(gpu).as_ref()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_weighted_mean_is_right_on_the_cpu(problem in problems(), by in -1e3_f32..1e3, seed: u64) {
        weighted_mean(&cpu(), &problem, by, seed)?;
    }

    #[test]
    fn a_shift_moves_the_plan(
        plan in prop::collection::vec(-1.0_f32..1.0, 1..20),
        steps in 0..45_usize,
        shift_fill in prop_oneof![Just(ShiftFill::Hold), Just(ShiftFill::Repeat), Just(ShiftFill::Initial)],
    ) {
        let options = MppiOptions { task: Task { horizon: plan.len(), ..Default::default() }, samples: 1, initial: [7.0], shift_fill, weighting: Temperature::Fixed(1.0).into(), ..Default::default() };
        let mut mppi = Mppi::new(&cpu(), CartPole::default(), options).unwrap();
        let controls: Vec<[f32; 1]> = plan.iter().map(|u| [*u]).collect();
        mppi.set_controls(&controls).unwrap();
        mppi.shift(steps);
        let last = controls[controls.len() - 1];
        let at = |t: usize| controls.get(t + steps).copied().unwrap_or(match shift_fill {
            ShiftFill::Hold => last,
            ShiftFill::Repeat => controls[(t + steps) % controls.len()],
            _ => [7.0],
        });
        let expected: Vec<[f32; 1]> = (0..controls.len()).map(at).collect();
        prop_assert_eq!(mppi.controls(), expected);
    }

    #[test]
    fn resizing_keeps_the_plan_as_far_as_it_goes(
        plan in prop::collection::vec(-1.0_f32..1.0, 1..20),
        horizon in 1..40_usize,
        samples in 1..200_usize,
        shift_fill in prop_oneof![Just(ShiftFill::Hold), Just(ShiftFill::Repeat), Just(ShiftFill::Initial)],
    ) {
        let task = Task { horizon: plan.len(), ..Default::default() };
        let options = MppiOptions { task, samples: 10, initial: [7.0], shift_fill, weighting: Temperature::Fixed(1.0).into(), ..Default::default() };
        let mut mppi = Mppi::new(&cpu(), CartPole::default(), options).unwrap();
        let controls: Vec<[f32; 1]> = plan.iter().map(|u| [*u]).collect();
        mppi.set_controls(&controls).unwrap();
        mppi.resize(horizon, samples).unwrap();
        let at = |t: usize| controls.get(t).copied().unwrap_or(match shift_fill {
            ShiftFill::Hold => controls[controls.len() - 1],
            ShiftFill::Repeat => controls[t % controls.len()],
            _ => [7.0],
        });
        let expected: Vec<[f32; 1]> = (0..horizon).map(at).collect();
        prop_assert_eq!(mppi.controls(), expected);
        let plan = mppi.plan(&[0.0; 4]).unwrap();
        prop_assert_eq!((plan.controls().len(), plan.states().len()), (horizon, horizon + 1));
        prop_assert_eq!(mppi.samples().unwrap().len(), samples);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_weighted_mean_is_right_on_a_gpu(problem in problems(), by in -1e3_f32..1e3, seed: u64) {
        if let Some(engine) = kept_gpu() {
            weighted_mean(engine, &problem, by, seed)?;
        }
    }
}

fn options(seed: u64) -> MppiOptions<2> {
    MppiOptions {
        task: Task { horizon: 11, seed, ..Default::default() },
        samples: 300,
        iterations: 2,
        noise: Noise::Diagonal([0.5, 0.8]),
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.2)),
        ..Default::default()
    }
}

/// The controls of three calls, in bits.
fn three_calls(mppi: &mut Mppi<3, 2, Unicycle>) -> Vec<u32> {
    let mut bits = Vec::new();
    for call in 0..3 {
        let plan = mppi.plan(&[2.0 - 0.1 * call as f32, 1.0, 0.3]).unwrap();
        bits.extend(plan.controls().iter().flatten().map(|u| u.to_bits()));
        bits.extend([plan.cost(), plan.log_z(), plan.temperature(), plan.effective_samples()].map(f32::to_bits));
        mppi.shift(1);
    }
    bits
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_does_not() {
    for engine in engines() {
        let new = |seed| Mppi::new(&engine, Unicycle::default(), options(seed)).unwrap();
        let mut mppi = new(5);
        let first = three_calls(&mut mppi);
        assert_eq!(three_calls(&mut new(5)), first, "a second controller on {}", engine.name());
        assert_ne!(three_calls(&mut new(6)), first, "another seed");
        assert_ne!(three_calls(&mut new(5 << 32)), first, "another seed beyond 32 bits");
        assert_ne!(three_calls(&mut mppi), first, "the noise goes on");
        mppi.reset();
        assert_eq!(mppi.controls(), [[0.0; 2]; 11]);
        assert_eq!(three_calls(&mut mppi), first, "after a reset on {}", engine.name());
        mppi.reset();
        mppi.reseed(6);
        assert_eq!(three_calls(&mut mppi), three_calls(&mut new(6)), "after another seed on {}", engine.name());
        mppi.resize(20, 400).unwrap();
        mppi.resize(11, 300).unwrap();
        mppi.reset();
        mppi.reseed(5);
        assert_eq!(three_calls(&mut mppi), first, "after two changes of size on {}", engine.name());
    }
}

#[test]
fn a_row_does_not_depend_on_how_many_there_are() {
    for engine in engines() {
        let rows = |samples: usize| {
            let options = MppiOptions { samples, iterations: 1, ..options(5) };
            let mut mppi = Mppi::new(&engine, Unicycle::default(), options).unwrap();
            mppi.plan(&[1.0, 0.0, 0.0]).unwrap();
            let samples = mppi.samples().unwrap();
            (0..samples.len()).map(|k| (samples.controls(k), samples.cost(k).to_bits())).collect::<Vec<_>>()
        };
        let many = rows(1100);
        for samples in [1, 17, 64, 65, 1024] {
            assert_eq!(rows(samples), many[..samples], "K = {samples} on {}", engine.name());
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_horizon_beyond_it() {
    for engine in engines() {
        let first_steps = |horizon: usize| {
            let options = MppiOptions { task: Task { horizon, ..options(5).task }, iterations: 1, ..options(5) };
            let mut mppi = Mppi::new(&engine, Unicycle::default(), options).unwrap();
            mppi.plan(&[1.0, 0.0, 0.0]).unwrap();
            let samples = mppi.samples().unwrap();
            (0..300).map(|k| samples.controls(k)[..5].to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(first_steps(5), first_steps(23), "on {}", engine.name());
    }
}
