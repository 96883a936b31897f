//! Weighted means with closed-form solutions, on every engine: quadratic and linear energies under a Gaussian sampling
//! distribution, Gaussian returns, indicators. Each estimate must be within five of its own standard errors.

mod common;

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use common::engines;
use gibbs::noise::normal::normals;
use gibbs::{
    Average, Engine, Limits, Model, Mppi, MppiOptions, Noise, Plan, Real, StepContext, Task, Temperature, WeightedMean,
    Weighting,
};

/// The number of rows. Odd, so that the last tile, group and workgroup are not full.
const K: usize = (1 << 17) + 77;

/// Φ⁻¹(0.1), and Φ at −½, at 1 and at 0.2.
const TENTH: f64 = -1.281_551_565_544_600_4;
const CDF_MINUS_HALF: f64 = 0.308_537_538_725_986_9;
const CDF_ONE: f64 = 0.841_344_746_068_542_9;
const CDF_FIFTH: f64 = 0.579_259_709_439_103;

fn density(z: f64) -> f64 {
    (-z * z / 2.0).exp() * FRAC_1_SQRT_2 / PI.sqrt()
}

type Vector = [f64; 2];
type Matrix = [Vector; 2];

fn times(a: Matrix, v: Vector) -> Vector {
    a.map(|row| dot(row, v))
}

fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

fn plus(a: Vector, b: Vector) -> Vector {
    [a[0] + b[0], a[1] + b[1]]
}

fn scaled(v: Vector, s: f64) -> Vector {
    v.map(|v| v * s)
}

fn sum(a: Matrix, b: Matrix) -> Matrix {
    [plus(a[0], b[0]), plus(a[1], b[1])]
}

fn product(a: Matrix, b: Matrix) -> Matrix {
    let column = |j: usize| times(a, [b[0][j], b[1][j]]);
    let (c, d) = (column(0), column(1));
    [[c[0], d[0]], [c[1], d[1]]]
}

fn determinant(a: Matrix) -> f64 {
    a[0][0] * a[1][1] - a[0][1] * a[1][0]
}

fn inverse(a: Matrix) -> Matrix {
    let d = determinant(a);
    [[a[1][1] / d, -a[0][1] / d], [-a[1][0] / d, a[0][0] / d]]
}

/// The sampling distribution N(μ, Σ), and J = ½ (v − c)ᵀ A (v − c), with numbers that are exact in f32.
const MU: Vector = [1.0, -0.5];
const SIGMA: Matrix = [[0.625, -0.25], [-0.25, 0.875]];
const A: Matrix = [[2.0, 0.5], [0.5, 1.0]];
const C: Vector = [0.25, 0.75];
/// J = aᵀv.
const SLOPE: Vector = [0.75, -0.5];

/// log E e^{−J/λ} under N(μ, Σ).
fn log_z(mu: Vector, lambda: f64) -> f64 {
    let e = [mu[0] - C[0], mu[1] - C[1]];
    let spread = sum([[1.0, 0.0], [0.0, 1.0]], product(SIGMA, A.map(|row| scaled(row, 1.0 / lambda))));
    let far = sum(inverse(A).map(|row| scaled(row, lambda)), SIGMA);
    -0.5 * determinant(spread).ln() - 0.5 * dot(e, times(inverse(far), e))
}

/// The weighted covariance P and the weighted mean, for the base distribution N(αμ, Σ).
fn posterior(alpha: f64, lambda: f64) -> (Matrix, Vector) {
    let p = inverse(sum(inverse(SIGMA), A.map(|row| scaled(row, 1.0 / lambda))));
    let m = times(p, plus(scaled(times(inverse(SIGMA), MU), alpha), scaled(times(A, C), 1.0 / lambda)));
    (p, m)
}

/// Draws rows from N(μ, Σ), using the engine's own stream.
fn proposal(seed: u64) -> Vec<Vector> {
    let l00 = SIGMA[0][0].sqrt();
    let l10 = SIGMA[1][0] / l00;
    let l11 = (SIGMA[1][1] - l10 * l10).sqrt();
    let draw = |k: usize| {
        let z = normals(seed, 0, k as u32, 0).map(f64::from);
        // Rounded here, so that the test and the engine use the same rows.
        [MU[0] + l00 * z[0], MU[1] + l10 * z[0] + l11 * z[1]].map(|v| f64::from(v as f32))
    };
    (0..K).map(draw).collect()
}

/// The normalized weights of a sample, computed by the test in f64; they give the standard errors of the estimates.
struct Sample {
    weights: Vec<f64>,
}

impl Sample {
    fn new(log_weights: impl Iterator<Item = f64> + Clone) -> Self {
        let max = log_weights.clone().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = log_weights.map(|l| (l - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        Self { weights: weights.iter().map(|w| w / sum).collect() }
    }

    /// The standard error of Σ w r: √(Σ w² (r − m)²).
    fn of_mean(&self, values: impl Iterator<Item = f64> + Clone) -> f64 {
        let mean: f64 = self.weights.iter().zip(values.clone()).map(|(w, r)| w * r).sum();
        self.weights.iter().zip(values).map(|(w, r)| (w * (r - mean)).powi(2)).sum::<f64>().sqrt()
    }

    /// The standard error of log Z: the relative standard error of the mean weight.
    fn of_log_z(&self) -> f64 {
        let k = self.weights.len() as f64;
        (self.weights.iter().map(|w| (w * k - 1.0).powi(2)).sum::<f64>() / k).sqrt() / k.sqrt()
    }

    /// The standard error of ESS/K = a²/b, with a the mean of w and b that of w², to first order: each row contributes
    /// f · (2w/a − w²/b − 1), with f = ESS/K.
    fn of_effective(&self) -> f64 {
        let k = self.weights.len() as f64;
        let b = self.weights.iter().map(|w| (w * k).powi(2)).sum::<f64>() / k;
        let share = |w: &f64| (2.0 * w * k - (w * k).powi(2) / b - 1.0).powi(2);
        (self.weights.iter().map(share).sum::<f64>() / k).sqrt() / (b * k.sqrt())
    }
}

/// Asserts agreement within five standard errors plus the rounding of f32.
#[track_caller]
fn agrees(what: &str, engine: &Engine, estimate: impl Into<f64>, truth: f64, error: f64) {
    let (estimate, bound) = (estimate.into(), 5.0 * error + 2e-5 * (1.0 + truth.abs()));
    let name = engine.name();
    assert!(bound < 0.05 * (1.0 + truth.abs()), "{what}: a bound of {bound:.2e} says nothing about {truth}");
    assert!((estimate - truth).abs() <= bound, "{what} on {name}: {estimate}, but {truth} ± {bound:.1e} is true");
}

fn average<const D: usize>(
    averager: &mut WeightedMean,
    rows: impl Iterator<Item = [f64; D]>,
    log_weights: impl Iterator<Item = f64>,
) -> &Average {
    let rows: Vec<f32> = rows.flatten().map(|v| v as f32).collect();
    let log_weights: Vec<f32> = log_weights.map(|l| l as f32).collect();
    averager.compute(&rows, &log_weights).expect("finite rows")
}

fn quadratic(v: Vector) -> f64 {
    let e = [v[0] - C[0], v[1] - C[1]];
    0.5 * dot(e, times(A, e))
}

#[test]
fn quadratic_energy_gives_the_gaussian_posterior() {
    for engine in engines() {
        let mut averager = WeightedMean::new(&engine).with_second_moment();
        for (seed, lambda) in [(1, 0.5), (2, 1.5), (3, 20.0)] {
            let rows = proposal(seed);
            let log_weights = rows.iter().map(|v| -quadratic(*v) / lambda);
            let sample = Sample::new(log_weights.clone());
            // The product is averaged too, for the covariance.
            let found = average(&mut averager, rows.iter().map(|v| [v[0], v[1], v[0] * v[1]]), log_weights);
            let (p, m) = posterior(1.0, lambda);
            let second = found.second_moment().expect("it was asked for");
            for i in 0..2 {
                let error = sample.of_mean(rows.iter().map(|v| v[i]));
                agrees("mean", &engine, found.mean()[i], m[i], error);
                let error = sample.of_mean(rows.iter().map(|v| v[i] * v[i]));
                agrees("second moment", &engine, second[i], p[i][i] + m[i] * m[i], error);
                let error = sample.of_mean(rows.iter().map(|v| (v[i] - m[i]).powi(2)));
                agrees("variance", &engine, found.variance().expect("as above")[i], p[i][i], error);
            }
            let error = sample.of_mean(rows.iter().map(|v| (v[0] - m[0]) * (v[1] - m[1])));
            let covariance = found.mean()[2] - found.mean()[0] * found.mean()[1];
            agrees("covariance", &engine, covariance, p[0][1], error);
            agrees("log Z", &engine, found.log_z(), log_z(MU, lambda), sample.of_log_z());
            let fraction = (2.0 * log_z(MU, lambda) - log_z(MU, lambda / 2.0)).exp();
            agrees("ESS/K", &engine, found.effective_samples() / K as f32, fraction, sample.of_effective());
            assert_eq!((found.valid_rows(), found.invalid_rows()), (K, 0));
        }
    }
}

#[test]
fn linear_energy_shifts_the_mean_and_nothing_else() {
    let spread = dot(SLOPE, times(SIGMA, SLOPE));
    for engine in engines() {
        let mut averager = WeightedMean::new(&engine).with_second_moment();
        for (seed, lambda) in [(4, 1.0), (5, 3.0)] {
            let rows = proposal(seed);
            let log_weights = rows.iter().map(|v| -dot(SLOPE, *v) / lambda);
            let sample = Sample::new(log_weights.clone());
            let found = average(&mut averager, rows.iter().copied(), log_weights);
            let m = plus(MU, scaled(times(SIGMA, SLOPE), -1.0 / lambda));
            for i in 0..2 {
                agrees("mean", &engine, found.mean()[i], m[i], sample.of_mean(rows.iter().map(|v| v[i])));
                let error = sample.of_mean(rows.iter().map(|v| (v[i] - m[i]).powi(2)));
                agrees("variance", &engine, found.variance().expect("it was asked for")[i], SIGMA[i][i], error);
            }
            let truth = -dot(SLOPE, MU) / lambda + spread / (2.0 * lambda * lambda);
            agrees("log Z", &engine, found.log_z(), truth, sample.of_log_z());
            let truth = (-spread / (lambda * lambda)).exp();
            agrees("ESS/K", &engine, found.effective_samples() / K as f32, truth, sample.of_effective());
        }
    }
}

#[test]
fn an_elite_of_a_linear_energy_is_the_cross_entropy_mean() {
    const RHO: f64 = 0.1;
    let rows = proposal(6);
    let mut energies: Vec<f64> = rows.iter().map(|v| dot(SLOPE, *v)).collect();
    energies.sort_by(f64::total_cmp);
    let elite = energies[(RHO * K as f64) as usize];
    let log_weights = rows.iter().map(|v| if dot(SLOPE, *v) < elite { 0.0 } else { f64::NEG_INFINITY });
    let sample = Sample::new(log_weights.clone());
    let along = times(SIGMA, SLOPE);
    let deviation = dot(SLOPE, along).sqrt();
    for engine in engines() {
        let mut averager = WeightedMean::new(&engine);
        let found = average(&mut averager, rows.iter().copied(), log_weights.clone());
        for i in 0..2 {
            let truth = MU[i] - along[i] / deviation * density(TENTH) / RHO;
            // The threshold is an estimate as well: its error shifts the mean toward the value at the threshold.
            let edge = MU[i] + along[i] / deviation * TENTH;
            let threshold = (truth - edge).abs() * ((1.0 - RHO) / (RHO * K as f64)).sqrt();
            let error = sample.of_mean(rows.iter().map(|v| v[i])).hypot(threshold);
            agrees("mean of the elite", &engine, found.mean()[i], truth, error);
        }
        let count = (RHO * K as f64).floor();
        agrees("ESS", &engine, found.effective_samples(), count, 0.0);
        agrees("log Z", &engine, found.log_z(), (count / K as f64).ln(), 0.0);
        assert_eq!((found.valid_rows(), found.max_log_weight()), (K, 0.0), "a weight of zero is valid");
    }
}

/// R ~ N(`RETURN`, `DEVIATION`²).
const RETURN: f64 = 3.0;
const DEVIATION: f64 = 0.75;

fn returns() -> Vec<f64> {
    (0..K as u32).map(|k| f64::from((RETURN + DEVIATION * f64::from(normals(7, 0, k, 0)[0])) as f32)).collect()
}

#[test]
fn gaussian_returns_are_lifted_by_their_variance_over_the_temperature() {
    let returns = returns();
    for engine in engines() {
        let mut averager = WeightedMean::new(&engine);
        for lambda in [0.8, 1.0, 5.0] {
            let log_weights = returns.iter().map(|r| r / lambda);
            let sample = Sample::new(log_weights.clone());
            let found = average(&mut averager, returns.iter().map(|r| [*r]), log_weights);
            let lifted = RETURN + DEVIATION * DEVIATION / lambda;
            agrees("mean return", &engine, found.mean()[0], lifted, sample.of_mean(returns.iter().copied()));
            let truth = (-(DEVIATION / lambda).powi(2)).exp();
            agrees("ESS/K", &engine, found.effective_samples() / K as f32, truth, sample.of_effective());
        }
    }
}

#[test]
fn the_dual_of_gaussian_returns_is_least_at_its_temperature() {
    // REPS: η* minimizes ηε + η log mean e^{R/η}, whose slope is ε + log Z − mean/η.
    let returns = returns();
    for engine in engines() {
        let mut averager = WeightedMean::new(&engine);
        for epsilon in [0.1, 0.5] {
            let slope = |averager: &mut WeightedMean, eta: f64| {
                let found = average(averager, returns.iter().map(|r| [*r]), returns.iter().map(|r| (r - RETURN) / eta));
                epsilon + f64::from(found.log_z()) - (f64::from(found.mean()[0]) - RETURN) / eta
            };
            let (mut low, mut high) = (0.1_f64, 20.0_f64);
            for _ in 0..30 {
                let middle = (low * high).sqrt();
                *(if slope(&mut averager, middle) < 0.0 { &mut low } else { &mut high }) = middle;
            }
            let truth = DEVIATION / (2.0_f64 * epsilon).sqrt();
            let sample = Sample::new(returns.iter().map(|r| r / truth));
            let error = sample.of_log_z() + sample.of_mean(returns.iter().copied()) / truth;
            let curvature = DEVIATION * DEVIATION / truth.powi(3);
            agrees("η*", &engine, low, truth, error / curvature);
        }
    }
}

#[test]
fn an_indicator_gives_the_truncated_normal() {
    let (mu, sigma, low, high) = (0.4, 1.5, -0.5, 1.0);
    let inside = CDF_ONE - CDF_MINUS_HALF;
    let rows: Vec<f64> = (0..K as u32).map(|k| mu + sigma * f64::from(normals(8, 0, k, 0)[0])).collect();
    let log_weight =
        |v: &f64| if ((v - mu) / sigma >= low) & ((v - mu) / sigma < high) { 0.0 } else { f64::NEG_INFINITY };
    let sample = Sample::new(rows.iter().map(log_weight));
    let shift = (density(low) - density(high)) / inside;
    let variance = sigma * sigma * (1.0 + (low * density(low) - high * density(high)) / inside - shift * shift);
    let count = f64::sqrt((1.0 - inside) / (inside * K as f64));
    for engine in engines() {
        let mut averager = WeightedMean::new(&engine).with_second_moment();
        let found = average(&mut averager, rows.iter().map(|v| [*v]), rows.iter().map(log_weight));
        let m = mu + sigma * shift;
        agrees("mean", &engine, found.mean()[0], m, sample.of_mean(rows.iter().copied()));
        let error = sample.of_mean(rows.iter().map(|v| (v - m).powi(2)));
        agrees("variance", &engine, found.variance().expect("it was asked for")[0], variance, error);
        agrees("log Z", &engine, found.log_z(), inside.ln(), count);
        agrees("ESS/K", &engine, found.effective_samples() / K as f32, inside, count * inside);
    }
}

/// A single step that leaves the state unchanged; the cost of the control is the energy.
struct Energy(Kind);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Quadratic,
    Linear,
    /// 0 for the best tenth of [`Kind::Linear`], not finite elsewhere.
    Elite,
    Nothing,
}

impl Model<1, 2> for Energy {
    #[inline(always)]
    fn step<R: Real>(&self, _at: &StepContext<R>, x: [R; 1], _u: [R; 2]) -> [R; 1] {
        x
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _at: &StepContext<R>, _x: [R; 1], [p, q]: [R; 2]) -> R {
        let f = |v: f64| v as f32;
        let linear = p * f(SLOPE[0]) + q * f(SLOPE[1]);
        match self.0 {
            Kind::Quadratic => {
                let (d, e) = (p - f(C[0]), q - f(C[1]));
                (d * d * f(A[0][0]) + e * e * f(A[1][1])) * 0.5 + d * e * f(A[0][1])
            }
            Kind::Linear => linear,
            Kind::Elite => {
                let deviation = dot(SLOPE, times(SIGMA, SLOPE)).sqrt();
                let elite = f(dot(SLOPE, MU) + TENTH * deviation);
                let huge = (linear.square() + 1.0) * 3e38;
                R::select(linear.lt(elite), 0.0, huge * 3e38)
            }
            Kind::Nothing => R::from(0.0),
        }
    }
}

fn energy(engine: &Engine, kind: Kind, options: MppiOptions<2>) -> Mppi<1, 2, Energy> {
    let options = MppiOptions {
        task: Task { horizon: 1, ..options.task },
        samples: K,
        noise: Noise::Covariance(SIGMA.map(|row| row.map(|v| v as f32))),
        initial: MU.map(|v| v as f32),
        ..options
    };
    Mppi::new(engine, Energy(kind), options).expect("good options")
}

/// Returns the plan after one call, its rows and their normalized weights.
fn plan(mut mppi: Mppi<1, 2, Energy>) -> (Plan<1, 2>, Vec<Vector>, Sample) {
    let plan = mppi.plan(&[0.0]).expect("finite costs").clone();
    let samples = mppi.samples().expect("there was a call");
    let rows = (0..K).map(|k| samples.controls(k)[0].map(f64::from)).collect();
    let log_weights: Vec<f64> = (0..K).map(|k| f64::from(samples.log_weight(k))).collect();
    (plan, rows, Sample::new(log_weights.iter().copied()))
}

#[test]
fn a_controller_of_one_step_finds_the_posterior_for_any_alpha() {
    for engine in engines() {
        for (alpha, lambda) in [(1.0, 1.5), (0.5, 1.5), (0.0, 4.0)] {
            let options = MppiOptions {
                alpha: alpha as f32,
                weighting: Weighting::Exponential(Temperature::Fixed(lambda as f32)),
                ..Default::default()
            };
            let (plan, rows, sample) = plan(energy(&engine, Kind::Quadratic, options));
            let (_, m) = posterior(alpha, lambda);
            for i in 0..2 {
                let error = sample.of_mean(rows.iter().map(|v| v[i]));
                agrees("mean", &engine, plan.controls()[0][i], m[i], error);
            }
            // The sampling distribution is centered at μ but the base distribution at αμ: a Gaussian integral, like the
            // others.
            let rest = 1.0 - alpha;
            let moved = |share: f64| 0.5 * share * share * dot(MU, times(inverse(SIGMA), MU));
            let truth = log_z(scaled(MU, 1.0 - rest), lambda) + moved(rest);
            agrees("log Z", &engine, plan.log_z(), truth, sample.of_log_z());
            agrees("free energy", &engine, plan.free_energy(), -lambda * truth, lambda * sample.of_log_z());
            let twice = log_z(scaled(MU, 1.0 - 2.0 * rest), lambda / 2.0) + moved(2.0 * rest);
            let truth = (2.0 * truth - twice).exp();
            agrees("ESS/K", &engine, plan.effective_samples() / K as f32, truth, sample.of_effective());
        }
    }
}

#[test]
fn a_controller_finds_the_temperature_of_a_wanted_sample_size() {
    for engine in engines() {
        for wanted in [0.9, 0.5, 0.2] {
            let options = MppiOptions {
                weighting: Weighting::Exponential(Temperature::EffectiveSamples(wanted as f32)),
                ..Default::default()
            };
            let (plan, rows, sample) = plan(energy(&engine, Kind::Quadratic, options));
            let lambda = f64::from(plan.temperature());
            agrees("ESS/K as found", &engine, plan.effective_samples() / K as f32, wanted, 0.0);
            let truth = (2.0 * log_z(MU, lambda) - log_z(MU, lambda / 2.0)).exp();
            agrees("ESS/K in truth", &engine, wanted, truth, sample.of_effective());
            let (_, m) = posterior(1.0, lambda);
            for i in 0..2 {
                let error = sample.of_mean(rows.iter().map(|v| v[i]));
                agrees("mean", &engine, plan.controls()[0][i], m[i], error);
            }
        }
    }
}

#[test]
fn a_controller_steps_along_a_linear_cost() {
    for engine in engines() {
        let lambda = 2.0;
        for step in [1.0, 0.25] {
            let options = MppiOptions {
                weighting: Weighting::Exponential(Temperature::Fixed(2.0)),
                step_size: step as f32,
                ..Default::default()
            };
            let (plan, rows, sample) = plan(energy(&engine, Kind::Linear, options));
            let along = times(SIGMA, SLOPE);
            for i in 0..2 {
                let error = step * sample.of_mean(rows.iter().map(|v| v[i]));
                agrees("plan", &engine, plan.controls()[0][i], MU[i] - step * along[i] / lambda, error);
            }
            agrees("mean cost", &engine, plan.mean_cost(), dot(SLOPE, MU), (dot(SLOPE, along) / K as f64).sqrt());
        }
    }
}

#[test]
fn a_controller_averages_the_rows_that_have_a_cost() {
    for engine in engines() {
        let (plan, rows, sample) = plan(energy(&engine, Kind::Elite, MppiOptions::default()));
        let along = times(SIGMA, SLOPE);
        for i in 0..2 {
            let truth = MU[i] - along[i] / dot(SLOPE, along).sqrt() * density(TENTH) / 0.1;
            agrees("mean", &engine, plan.controls()[0][i], truth, sample.of_mean(rows.iter().map(|v| v[i])));
        }
        let count = f64::sqrt(0.9 / (0.1 * K as f64));
        agrees("log Z", &engine, plan.log_z(), 0.1_f64.ln(), count);
        agrees("ESS/K", &engine, plan.effective_samples() / K as f32, 0.1, 0.1 * count);
        assert_eq!(plan.invalid_rows() + plan.effective_samples().round() as usize, K);
    }
}

#[test]
fn clipping_pulls_the_mean_inwards_by_the_known_amount() {
    // E min(v, 1) for v ~ N(0.9, 0.5²), with d = (1 − 0.9)/0.5.
    let (mu, sigma, d) = (0.9, 0.5, 0.2);
    let truth = 1.0 - sigma * (d * CDF_FIFTH + density(d));
    for engine in engines() {
        let options = MppiOptions {
            task: Task {
                horizon: 1,
                limits: Some(Limits { low: [-1e3, -1.0], high: [1.0, 1e3] }),
                ..Default::default()
            },
            samples: K,
            noise: Noise::Diagonal([0.5, 0.5]),
            initial: [0.9, -0.9],
            weighting: Temperature::Fixed(1.0).into(),
            ..Default::default()
        };
        let (plan, ..) = plan(Mppi::new(&engine, Energy(Kind::Nothing), options).expect("good options"));
        let [above, below] = plan.controls()[0];
        agrees("clipped above", &engine, above, truth, sigma / (K as f64).sqrt());
        agrees("clipped below", &engine, below, -truth, sigma / (K as f64).sqrt());
        assert!(f64::from(above) < mu - 0.1, "the bias is there");
        agrees("ESS", &engine, plan.effective_samples(), K as f64, 0.0);
    }
}

#[test]
fn a_controller_finds_the_temperature_of_a_wanted_divergence() {
    // REPS again, solved by the engine: J = aᵀv is Gaussian, so η* = s/√(2ε).
    let deviation = dot(SLOPE, times(SIGMA, SLOPE)).sqrt();
    for engine in engines() {
        for epsilon in [0.1, 0.5] {
            let options = MppiOptions {
                weighting: Weighting::Exponential(Temperature::Divergence(epsilon as f32)),
                ..Default::default()
            };
            let (plan, rows, sample) = plan(energy(&engine, Kind::Linear, options));
            let truth = deviation / (2.0_f64 * epsilon).sqrt();
            let costs = || rows.iter().map(|v| dot(SLOPE, *v));
            // The derivative of ε by η is −s²/η³, and the error of ε comes from log Z and from the weighted mean over
            // η.
            let error = (sample.of_log_z() + sample.of_mean(costs()) / truth) * truth.powi(3) / deviation.powi(2);
            agrees("η*", &engine, plan.temperature(), truth, error);
        }
    }
}

#[test]
fn a_controller_standardizes_its_costs() {
    let deviation = dot(SLOPE, times(SIGMA, SLOPE)).sqrt();
    for engine in engines() {
        let options =
            MppiOptions { weighting: Weighting::Exponential(Temperature::Standardized(0.5)), ..Default::default() };
        let (plan, ..) = plan(energy(&engine, Kind::Linear, options));
        agrees("λ", &engine, plan.temperature(), 0.5 * deviation, 0.5 * deviation / (2.0 * K as f64).sqrt());
        let options =
            MppiOptions { weighting: Weighting::Exponential(Temperature::Standardized(0.5)), ..Default::default() };
        let (plan, ..) = self::plan(energy(&engine, Kind::Nothing, options));
        agrees("λ of equal costs", &engine, plan.temperature(), 0.5, 0.0);
    }
}

#[test]
fn the_cross_entropy_method_takes_the_mean_and_the_spread_of_its_elite() {
    let (sigma, slope) = ([0.5, 1.5], SLOPE);
    for engine in engines() {
        let options = MppiOptions {
            task: Task { horizon: 1, ..Default::default() },
            samples: K,
            noise: Noise::Diagonal(sigma.map(|s| s as f32)),
            initial: MU.map(|v| v as f32),
            weighting: Weighting::Elite(0.1),
            covariance_adaptation: Some(0.01),
            ..Default::default()
        };
        let mut mppi = Mppi::new(&engine, Energy(Kind::Linear), options.clone()).expect("good options");
        let (plan, rows, sample) = plan(mppi_of(&engine, &options));
        let along = [0, 1].map(|i| sigma[i] * sigma[i] * slope[i]);
        let deviation = dot(slope, along).sqrt();
        for i in 0..2 {
            let truth = MU[i] - along[i] / deviation * density(TENTH) / 0.1;
            agrees("mean", &engine, plan.controls()[0][i], truth, sample.of_mean(rows.iter().map(|v| v[i])));
        }
        agrees("elites", &engine, plan.effective_samples(), (0.1 * K as f64).ceil(), 0.0);
        // The next rows have the spread of the elite: along the slope that of a truncated normal, across it the
        // original one.
        mppi.set_options(MppiOptions { iterations: 2, ..options }).expect("good options");
        mppi.plan(&[0.0]).expect("finite");
        let samples = mppi.samples().expect("there was a call");
        let hazard = density(TENTH) / 0.1;
        let kept = 1.0 - TENTH * hazard - hazard * hazard;
        // `kept` is the variance of a standard normal truncated to values below Φ⁻¹(ρ), with ρ = 0.1.
        for i in 0..2 {
            let share = (along[i] / (deviation * sigma[i])).powi(2);
            let truth = sigma[i] * (1.0 - share + share * kept).sqrt();
            let values: Vec<f64> = (0..K).map(|k| f64::from(samples.controls(k)[0][i])).collect();
            let mean = values.iter().sum::<f64>() / K as f64;
            let found = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / K as f64).sqrt();
            let error = truth * (1.0 / (2.0 * K as f64).sqrt() + 1.0 / (0.2 * K as f64).sqrt());
            agrees("spread", &engine, found, truth, error);
        }
    }
}

#[test]
fn the_best_row_becomes_the_plan_and_rows_that_tie_share_the_weight() {
    for engine in engines() {
        let options = MppiOptions { weighting: Weighting::Best, ..Default::default() };
        let mut mppi = energy(&engine, Kind::Linear, options.clone());
        let plan = mppi.plan(&[0.0]).expect("finite costs").clone();
        let samples = mppi.samples().expect("there was a call");
        let best = (0..K).min_by(|a, b| samples.cost(*a).total_cmp(&samples.cost(*b))).expect("there are rows");
        let weights: Vec<f32> = (0..K).map(|k| if k == best { 1.0 } else { 0.0 }).collect();
        assert_eq!(samples.weights(), weights, "{}", engine.name());
        for (found, row) in plan.controls()[0].iter().zip(samples.controls(best)[0]) {
            assert!((found - row).abs() <= 1e-6 * row.abs(), "{}: {found} instead of {row}", engine.name());
        }
        assert_eq!((plan.effective_samples(), plan.min_cost()), (1.0, samples.cost(best)), "{}", engine.name());
        agrees("log Z", &engine, plan.log_z(), -(K as f64).ln(), 1e-6);
        agrees("mean cost", &engine, plan.mean_cost(), dot(SLOPE, MU), {
            (dot(SLOPE, times(SIGMA, SLOPE)) / K as f64).sqrt()
        });

        // The rows that cost nothing, about a tenth, tie.
        let (plan, rows, sample) = self::plan(energy(&engine, Kind::Elite, options));
        let along = times(SIGMA, SLOPE);
        for i in 0..2 {
            let truth = MU[i] - along[i] / dot(SLOPE, along).sqrt() * density(TENTH) / 0.1;
            agrees("mean", &engine, plan.controls()[0][i], truth, sample.of_mean(rows.iter().map(|v| v[i])));
        }
        assert_eq!(plan.effective_samples().round() as usize, K - plan.invalid_rows(), "{}", engine.name());
    }
}

fn mppi_of(engine: &Engine, options: &MppiOptions<2>) -> Mppi<1, 2, Energy> {
    Mppi::new(engine, Energy(Kind::Linear), options.clone()).expect("good options")
}

/// x⁺ = 0.9 x + 0.5 u with running cost ½ q x² + ½ r u².
struct Linear {
    q: f32,
    r: f32,
}

const GROWTH: f64 = 0.9;
const GAIN: f64 = 0.5;

impl Model<1, 1> for Linear {
    #[inline(always)]
    fn step<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
        [x * GROWTH as f32 + u * GAIN as f32]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> R {
        x.square() * (0.5 * self.q) + u.square() * (0.5 * self.r)
    }
}

/// The optimal controls from x = 1, by the Riccati recursion.
fn riccati(q: f64, r: f64, horizon: usize) -> Vec<f64> {
    let mut gains = Vec::new();
    // The cost to go of a state, ½ p x², after its own running cost.
    let mut p = q;
    for _ in 0..horizon {
        let gain = GAIN * p * GROWTH / (r + GAIN * GAIN * p);
        gains.push(gain);
        p = q + GROWTH * GROWTH * p - GROWTH * GAIN * p * gain;
    }
    let mut x = 1.0;
    let control = |gain: f64| {
        let u = -gain * x;
        x = GROWTH * x + GAIN * u;
        u
    };
    gains.into_iter().rev().map(control).collect()
}

#[test]
fn path_integral_control_is_the_linear_quadratic_regulator() {
    // State cost only and α = 0: E_w[u] of the first step is the LQR control for R = λ Σ⁻¹, whatever the plan is.
    let (q, lambda, sigma, horizon) = (1.0, 0.8, 0.7, 6);
    let truth = riccati(q, lambda / (sigma * sigma), horizon)[0];
    for engine in engines() {
        for initial in [0.0, -0.4] {
            let options = MppiOptions {
                task: Task { horizon, ..Default::default() },
                samples: K,
                noise: Noise::Diagonal([sigma as f32]),
                weighting: Weighting::Exponential(Temperature::Fixed(lambda as f32)),
                alpha: 0.0,
                initial: [initial],
                ..Default::default()
            };
            let mut mppi = Mppi::new(&engine, Linear { q: q as f32, r: 0.0 }, options).expect("good options");
            let u = mppi.plan(&[1.0]).expect("finite").controls()[0][0];
            let samples = mppi.samples().expect("there was a call");
            let sample = Sample::new((0..K).map(|k| f64::from(samples.log_weight(k))));
            let error = sample.of_mean((0..K).map(|k| f64::from(samples.controls(k)[0][0])));
            agrees("u₀", &engine, u, truth, error);
        }
    }
}

#[test]
fn the_fixed_point_of_mppi_on_a_linear_quadratic_problem_is_the_riccati_solution() {
    let (q, r, horizon) = (1.0, 0.3, 6);
    let truth = riccati(q, r, horizon);
    for engine in engines() {
        let options = MppiOptions {
            task: Task { horizon, ..Default::default() },
            samples: 1 << 15,
            iterations: 60,
            noise: Noise::Diagonal([0.3]),
            weighting: Weighting::Exponential(Temperature::Fixed(0.05)),
            ..Default::default()
        };
        let mut mppi = Mppi::new(&engine, Linear { q: q as f32, r: r as f32 }, options).expect("good options");
        let plan = mppi.plan(&[1.0]).expect("finite").clone();
        let samples = mppi.samples().expect("there was a call");
        let sample = Sample::new((0..plan.samples()).map(|k| f64::from(samples.log_weight(k))));
        for (t, truth) in truth.iter().enumerate() {
            // Every update adds its own error and keeps a part of the last: three times one of them bounds their sum.
            let error = 3.0 * sample.of_mean((0..plan.samples()).map(|k| f64::from(samples.controls(k)[t][0])));
            agrees("u", &engine, plan.controls()[t][0], *truth, error);
        }
    }
}
