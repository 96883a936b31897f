//! Policy search against closed forms, finite differences and plain loops, on every engine; its behavior on bad input;
//! and whether it learns tasks that an untrained policy fails.

mod common;

use std::f32::consts::PI;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{cpu, engines};
use gibbs::lang::{GradientAccumulator, Table};
use gibbs::learning::{ActionNoise, Anneal, CheckpointError, Controller, Estimator, InitialStates, Step};
use gibbs::models::{CartPole, DoubleIntegrator, Pendulum};
use gibbs::policies::{Activation, LinearFeedback, Mlp, Network, OpenLoop, TimeVaryingFeedback};
use gibbs::{
    BuildError, Engine, Grid, Limits, Model, ModelError, Mppi, MppiOptions, Noise, Params, PlanError, Policy,
    PolicyGradient, PolicyGradientOptions, Random, Real, References, StepContext, Task, Temperature, Weighting,
};

/// Perturbed parameters, one episode per row.
fn perturbed<const M: usize>(sigma: f32) -> Estimator<M> {
    Estimator::ParameterSpace { sigma: sigma.into(), antithetic: false, episodes: 1 }
}

/// Score rows with a learned standard deviation.
fn scored(std: f32) -> Estimator<1> {
    Estimator::ScoreFunction { std: [std], action_noise: ActionNoise::Learned { least: 1e-6 }, antithetic: false }
}

fn exponentiated(lambda: f32) -> Weighting {
    Weighting::Exponential(Temperature::Fixed(lambda))
}

fn plain() -> Step {
    Step::Plain { rate: 1.0.into() }
}

/// Returns the change of the first learner's parameters from `theta` by one step, followed by that of the logarithms of
/// the standard deviations, if any. With a plain step of rate 1 this is the gradient.
fn moved<const N: usize, const M: usize, D: Model<N, M>, P: Policy<N, M>>(
    engine: &Engine,
    (model, policy): (D, P),
    starts: impl InitialStates<N>,
    options: PolicyGradientOptions<M>,
    theta: &[f32],
) -> Vec<f64> {
    let exponentiated = matches!(options.weighting, Weighting::Exponential(_));
    let mut training = PolicyGradient::new(engine, model, policy, starts, options).expect("good options");
    training.set_theta(0, theta).expect("as many as there are");
    let values = |training: &PolicyGradient<N, M, D, P>| {
        let mut values: Vec<f64> = training.theta(0).expect("a learner").iter().map(|v| f64::from(*v)).collect();
        let deviations = training.action_noise(0).expect("a learner");
        values.extend(deviations.iter().flatten().map(|std| f64::from(*std).ln()));
        values
    };
    let before = values(&training);
    let progress = training.step().expect("finite returns")[0];
    assert!(!exponentiated || progress.effective_samples > 200.0, "{progress:?}: too few rows to say anything");
    values(&training).iter().zip(before).map(|(after, before)| after - before).collect()
}

/// Returns the self-normalized standard error of Σ w r for every coordinate, with w = softmax(−J/λ), of rows (J, r).
fn standard_errors(rows: &[(f64, Vec<f64>)], lambda: f64) -> Vec<f64> {
    let least = rows.iter().fold(f64::INFINITY, |least, (cost, _)| least.min(*cost));
    let weights: Vec<f64> = rows.iter().map(|(cost, _)| ((least - cost) / lambda).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..rows[0].1.len())
        .map(|d| {
            let mean = weights.iter().zip(rows).map(|(w, (_, row))| w * row[d]).sum::<f64>() / total;
            let squares: f64 = weights.iter().zip(rows).map(|(w, (_, row))| (w * (row[d] - mean)).powi(2)).sum();
            squares.sqrt() / total
        })
        .collect()
}

/// Checks agreement within five standard errors and f32 rounding.
#[track_caller]
fn agree(got: &[f64], truth: &[f64], errors: &[f64], what: &str) {
    assert_eq!((got.len(), truth.len()), (errors.len(), errors.len()), "{what}");
    for (d, ((got, truth), error)) in got.iter().zip(truth).zip(errors).enumerate() {
        let bound = 5.0 * error + 1e-5 * (1.0 + truth.abs());
        assert!((got - truth).abs() < bound, "{what}, coordinate {d}: {got} instead of {truth}, error {error}");
    }
}

/// Differentiates `f` numerically by each of its variables.
fn slopes(at: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let by = |d: usize, h: f64| {
        let mut x = at.to_vec();
        x[d] += h;
        f(&x)
    };
    (0..at.len()).map(|d| (by(d, 1e-5) - by(d, -1e-5)) / 2e-5).collect()
}

fn still<const N: usize>(_: &mut Random, _: &mut [f32]) -> [f32; N] {
    [0.0; N]
}

/// One action a with the cost ½k(a − c)², where c is a parameter.
struct Bandit;

const STIFFNESS: f32 = 1.5;

impl Model<1, 1> for Bandit {
    #[inline(always)]
    fn step<R: Real>(&self, _: &StepContext<R>, x: [R; 1], _: [R; 1]) -> [R; 1] {
        x
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, _: [R; 1], [a]: [R; 1]) -> R {
        (a - at.param(0)).square() * (0.5 * STIFFNESS)
    }
}

const ONE: OpenLoop = OpenLoop { horizon: 1 };
const BANDIT_ROWS: usize = 1 << 16;

fn bandit(lambda: f32, rows: Estimator<1>, c: f32) -> PolicyGradientOptions<1> {
    PolicyGradientOptions {
        task: Task { horizon: 1, params: vec![c], ..Default::default() },
        samples: BANDIT_ROWS,
        estimator: rows,
        weighting: exponentiated(lambda),
        step: plain(),
        ..Default::default()
    }
}

#[test]
fn the_gradient_of_a_bandit_is_the_closed_form() {
    let (theta, c, sigma, k) = (0.3, 1.2, 0.6, f64::from(STIFFNESS));
    for lambda in [0.5, 3.0] {
        // log E e^{R/λ} = −½ log(1 + kσ²/λ) − ½ k (c − θ)²/(λ + kσ²).
        let spread = lambda + k * sigma * sigma;
        let by_theta = k * (c - theta) / spread;
        let by_log_std = -k * sigma * sigma / spread + (k * sigma * (c - theta) / spread).powi(2);
        let mut random = Random::new(1);
        let sample: Vec<_> = (0..BANDIT_ROWS)
            .map(|_| {
                let z = f64::from(random.normal());
                (0.5 * k * (theta + sigma * z - c).powi(2), vec![z / sigma, z * z - 1.0])
            })
            .collect();
        let errors = standard_errors(&sample, lambda);
        for engine in engines() {
            let moved = |rows| {
                let options = bandit(lambda as f32, rows, c as f32);
                moved(&engine, (Bandit, ONE), still, options, &[theta as f32])
            };
            let what = |rows: &str| format!("{rows}, λ = {lambda}, {}", engine.name());
            agree(&moved(perturbed(sigma as f32)), &[by_theta], &errors[..1], &what("perturbed parameters"));
            agree(&moved(scored(sigma as f32)), &[by_theta, by_log_std], &errors, &what("scores"));
        }
    }
}

#[test]
fn log_z_of_a_bandit_is_the_closed_form() {
    let (c, sigma, k, lambda) = (1.2, 0.6, f64::from(STIFFNESS), 0.8);
    let spread = lambda + k * sigma * sigma;
    let truth = -0.5 * (1.0 + k * sigma * sigma / lambda).ln() - 0.5 * k * c * c / spread;
    // The variance of a weight, relative to its mean, from Z at λ/2.
    let half = lambda / 2.0 + k * sigma * sigma;
    let of_half = -0.5 * (1.0 + k * sigma * sigma / (lambda / 2.0)).ln() - 0.5 * k * c * c / half;
    let error = (((of_half - 2.0 * truth).exp() - 1.0) / BANDIT_ROWS as f64).sqrt();
    for engine in engines() {
        for rows in [perturbed(sigma as f32), scored(sigma as f32)] {
            for weighting in
                [exponentiated(lambda as f32), Weighting::Elite(0.1), Weighting::Signed { standardized: true }]
            {
                let options = PolicyGradientOptions { weighting, ..bandit(lambda as f32, rows, c as f32) };
                let mut training = PolicyGradient::new(&engine, Bandit, ONE, still, options).expect("good options");
                training.set_theta(0, &[0.0]).expect("one number");
                let found = f64::from(training.step().expect("finite costs")[0].log_z);
                let (truth, error) = match weighting {
                    Weighting::Exponential(_) => (truth, error),
                    Weighting::Elite(_) => (0.1_f64.ln(), 1e-3),
                    _ => (0.0, 0.0),
                };
                let bound = 5.0 * error + 1e-5 * truth.abs();
                assert!((found - truth).abs() <= bound, "{}: {weighting:?}: {found}, not {truth}", engine.name());
            }
        }
    }
}

#[test]
fn domain_randomization_widens_what_the_exponent_sees() {
    // With c ~ N(1.2, 0.5²) in every episode, a − c has both variances.
    let (theta, c, sigma, tau, lambda, k) = (0.3, 1.2, 0.6, 0.5, 1.0, f64::from(STIFFNESS));
    let truth = k * (c - theta) / (lambda + k * (sigma * sigma + tau * tau));
    let mut random = Random::new(2);
    let sample: Vec<_> = (0..BANDIT_ROWS)
        .map(|_| {
            let (z, y) = (f64::from(random.normal()), f64::from(random.normal()));
            (0.5 * k * (theta + sigma * z - c - tau * y).powi(2), vec![z / sigma])
        })
        .collect();
    let errors = standard_errors(&sample, lambda);
    for engine in engines() {
        let wander = move |random: &mut Random, params: &mut [f32]| {
            params[0] += tau as f32 * random.normal();
            [0.0]
        };
        let options = bandit(lambda as f32, scored(sigma as f32), c as f32);
        let got = moved(&engine, (Bandit, ONE), wander, options, &[theta as f32]);
        agree(&got[..1], &[truth], &errors, &engine.name());
    }
}

/// x⁺ = 0.9 x + 0.5 u at a cost of ½ 0.8 x² + ½ 0.3 u² a step, and ½ 2 x² at the end.
#[derive(Clone, Copy)]
struct Line;

const LINE: [f64; 5] = [0.9, 0.5, 0.8, 0.3, 2.0];

impl Model<1, 1> for Line {
    #[inline(always)]
    fn step<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
        [x * LINE[0] as f32 + u * LINE[1] as f32]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> R {
        x.square() * (0.5 * LINE[2] as f32) + u.square() * (0.5 * LINE[3] as f32)
    }
    #[inline(always)]
    fn terminal<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1]) -> R {
        x.square() * (0.5 * LINE[4] as f32)
    }
}

const LINE_STEPS: usize = 8;
/// Mean and standard deviation of the initial state.
const LINE_START: [f64; 2] = [1.0, 0.4];

fn line_start(random: &mut Random, _: &mut [f32]) -> [f32; 1] {
    [LINE_START[0] as f32 + LINE_START[1] as f32 * random.normal()]
}

/// log E exp(P y² + Q y), with y = m + s z.
fn gaussian([p, q]: [f64; 2], m: f64, s: f64) -> f64 {
    let (square, linear) = (p * s * s, (2.0 * p * m + q) * s);
    let narrower = 1.0 - 2.0 * square;
    -0.5 * narrower.ln() + linear * linear / (2.0 * narrower) + p * m * m + q * m
}

/// log E e^{−J/λ} of [`Line`] under u = K x + k + e^l z, given K, k and l: backwards, with log E e^{−(cost to go)/λ} =
/// αx² + βx + γ.
fn line_value(theta: &[f64], lambda: f64) -> f64 {
    let ([a, b, q, r, end], [gain, offset, std]) = (LINE, [theta[0], theta[1], theta[2].exp()]);
    let [mut alpha, mut beta, mut gamma] = [-0.5 * end / lambda, 0.0, 0.0];
    for _ in 0..LINE_STEPS {
        // The next state is c x + d + e z.
        let (c, d, e) = (a + b * gain, b * offset, b * std);
        let (p, s) = (alpha - 0.5 * q / lambda, -0.5 * r / lambda);
        let narrower = 1.0 - 2.0 * (p * e * e + s * std * std);
        // The coefficient of z, a linear function of x.
        let (slope, level) = (2.0 * (p * e * c + s * std * gain), 2.0 * (p * e * d + s * std * offset) + beta * e);
        [alpha, beta, gamma] = [
            p * c * c + s * gain * gain + slope * slope / (2.0 * narrower),
            2.0 * (p * c * d + s * gain * offset) + beta * c + slope * level / narrower,
            gamma - 0.5 * narrower.ln() + p * d * d + s * offset * offset + beta * d + level * level / (2.0 * narrower),
        ];
    }
    gamma + gaussian([alpha, beta], LINE_START[0], LINE_START[1])
}

/// Returns the cost of an episode of [`Line`] in f64 under the policy `act`.
fn line_cost(mut x: f64, mut act: impl FnMut(f64) -> f64) -> f64 {
    let [a, b, q, r, end] = LINE;
    let mut cost = 0.0;
    for _ in 0..LINE_STEPS {
        let u = act(x);
        x = a * x + b * u;
        cost += 0.5 * (q * x * x + r * u * u);
    }
    cost + 0.5 * end * x * x
}

#[test]
fn score_rows_of_a_linear_policy_differentiate_the_backward_recursion() {
    const ROWS: usize = 1 << 16;
    let (theta, std) = ([-0.3, 0.2], 0.5_f64);
    for lambda in [1.5, 20.0] {
        let truth = slopes(&[theta[0], theta[1], std.ln()], |theta| line_value(theta, lambda));
        let mut random = Random::new(3);
        let mut normal = || f64::from(random.normal());
        let sample: Vec<_> = (0..ROWS)
            .map(|_| {
                let mut score = vec![0.0; 3];
                let start = LINE_START[0] + LINE_START[1] * normal();
                let cost = line_cost(start, |x| {
                    let z = normal();
                    for (sum, by) in score.iter_mut().zip([x * z / std, z / std, z * z - 1.0]) {
                        *sum += by;
                    }
                    theta[0] * x + theta[1] + std * z
                });
                (cost, score)
            })
            .collect();
        let errors = standard_errors(&sample, lambda);
        for engine in engines() {
            let options = PolicyGradientOptions {
                task: Task { horizon: LINE_STEPS, ..Default::default() },
                samples: ROWS,
                estimator: scored(std as f32),
                weighting: exponentiated(lambda as f32),
                step: plain(),
                ..Default::default()
            };
            let got = moved(&engine, (Line, LinearFeedback), line_start, options, &theta.map(|v| v as f32));
            agree(&got, &truth, &errors, &format!("λ = {lambda}, {}", engine.name()));
        }
    }
}

#[test]
fn perturbed_gains_of_a_linear_policy_follow_the_integral_over_them() {
    const ROWS: usize = 1 << 15;
    let (theta, sigma, lambda) = ([-0.3, 0.2], 0.25, 0.8);
    let cost = |[y, z]: [f64; 2]| line_cost(1.0, |x| (theta[0] + sigma * y) * x + theta[1] + sigma * z);
    // Both integrals on a grid that reaches six standard deviations.
    let (mut total, mut sums) = (0.0, [0.0; 2]);
    for i in 0..=240 {
        for j in 0..=240 {
            let z = [i, j].map(|i| f64::from(i - 120) * 0.05);
            let density = (-cost(z) / lambda - 0.5 * (z[0] * z[0] + z[1] * z[1])).exp();
            total += density;
            (0..2).for_each(|d| sums[d] += density * z[d] / sigma);
        }
    }
    let mut random = Random::new(4);
    let sample: Vec<_> = (0..ROWS)
        .map(|_| {
            let z = [0; 2].map(|_| f64::from(random.normal()));
            (cost(z), z.map(|z| z / sigma).to_vec())
        })
        .collect();
    for engine in engines() {
        let options = PolicyGradientOptions {
            task: Task { horizon: LINE_STEPS, ..Default::default() },
            samples: ROWS,
            estimator: perturbed(sigma as f32),
            weighting: exponentiated(lambda as f32),
            step: plain(),
            ..Default::default()
        };
        let start = |_: &mut Random, _: &mut [f32]| [1.0];
        let got = moved(&engine, (Line, LinearFeedback), start, options, &theta.map(|v| v as f32));
        agree(&got, &sums.map(|sum| sum / total), &standard_errors(&sample, lambda), &engine.name());
    }
}

#[test]
fn score_rows_of_a_network_are_the_finite_difference_of_log_e_to_the_return() {
    const ROWS: usize = 1 << 15;
    const STEPS: usize = 15;
    const DT: f32 = 0.05;
    const STD: f32 = 0.7;
    let lambda = 8.0;
    let start = [1.0, -0.5];
    let policy = || Mlp::<2, 1>::new(&[4], Activation::Tanh).and_then(|p| p.squashed([-2.0], [2.0])).expect("valid");
    let mut random = Random::new(5);
    let theta: Vec<f32> = (0..Policy::<2, 1>::parameters(&policy())).map(|_| 0.6 * random.normal()).collect();

    // Runs an episode on the host: returns its cost and, if requested, its score.
    let pendulum = Pendulum::default();
    let episode = |theta: &[f32], noise: &[f32], mut score: Option<&mut Vec<f32>>| {
        let (mut x, mut cost) = (start, 0.0);
        for (t, z) in noise.iter().enumerate() {
            let at = StepContext::<f32>::new(t, DT);
            let [mean] = match &mut score {
                Some(sum) => {
                    let mut g = GradientAccumulator::new(sum);
                    policy().vjp(&at, &Params::new(theta), x, [z / STD], &mut g)
                }
                None => policy().act(&at, &Params::new(theta), x),
            };
            let u = [mean + STD * z];
            x = pendulum.step(&at, x, u);
            cost += f64::from(pendulum.cost(&at, x, u));
        }
        cost
    };
    let noise: Vec<Vec<f32>> = (0..ROWS).map(|_| (0..STEPS).map(|_| random.normal()).collect()).collect();
    let scores: Vec<_> = noise
        .iter()
        .map(|noise| {
            let mut score = vec![0.0; theta.len()];
            let cost = episode(&theta, noise, Some(&mut score));
            (cost, score)
        })
        .collect();
    for engine in engines() {
        let options = PolicyGradientOptions {
            task: Task { horizon: STEPS, dt: DT, ..Default::default() },
            samples: ROWS,
            estimator: scored(STD),
            weighting: exponentiated(lambda as f32),
            step: plain(),
            ..Default::default()
        };
        let fixed = move |_: &mut Random, _: &mut [f32]| start;
        let gradient = moved(&engine, (pendulum, policy()), fixed, options, &theta);
        let mut random = Random::new(6);
        for direction in 0..4 {
            let way: Vec<f32> = theta.iter().map(|_| random.normal()).collect();
            let shifted = |h: f32| theta.iter().zip(&way).map(|(t, w)| t + h * w).collect::<Vec<f32>>();
            let (above, below) = (shifted(1.0 / 256.0), shifted(-1.0 / 256.0));
            // The derivative of log Σ e^{−J/λ}, with the same noise on both sides.
            let slopes: Vec<_> = noise
                .iter()
                .zip(&scores)
                .map(|(noise, (cost, _))| {
                    (*cost, vec![(episode(&below, noise, None) - episode(&above, noise, None)) * 128.0 / lambda])
                })
                .collect();
            let least = slopes.iter().fold(f64::INFINITY, |least, (cost, _)| least.min(*cost));
            let weigh = |cost: f64| ((least - cost) / lambda).exp();
            let total: f64 = slopes.iter().map(|(cost, _)| weigh(*cost)).sum();
            let truth = slopes.iter().map(|(cost, slope)| weigh(*cost) * slope[0]).sum::<f64>() / total;
            let along = |g: &mut dyn Iterator<Item = f64>| g.zip(&way).map(|(g, w)| g * f64::from(*w)).sum::<f64>();
            let rows: Vec<_> = scores
                .iter()
                .map(|(cost, score)| (*cost, vec![along(&mut score.iter().map(|g| f64::from(*g)))]))
                .collect();
            let error = standard_errors(&rows, lambda)[0].hypot(standard_errors(&slopes, lambda)[0]);
            let got = along(&mut gradient.iter().copied());
            assert!(
                truth.abs() > 3.0 * error || direction > 0,
                "direction {direction} tells nothing: {truth} ± {error}"
            );
            agree(&[got], &[truth], &[error], &format!("direction {direction}, {}", engine.name()));
        }
    }
}

#[test]
fn the_natural_open_loop_step_is_mppis_plan() {
    const STEPS: usize = 20;
    let start = [1.0, -0.5, 0.3, 0.0];
    for engine in engines() {
        for (weighting, rate) in [
            (Temperature::Fixed(0.7).into(), 1.0),
            (Temperature::Fixed(0.7).into(), 0.6),
            (Temperature::EffectiveSamples(0.3).into(), 1.0),
            (Weighting::Elite(0.1), 1.0),
            (Weighting::Best, 1.0),
        ] {
            let mppi = MppiOptions {
                task: Task { horizon: STEPS, dt: 0.1, seed: 9, ..Default::default() },
                samples: 500,
                weighting,
                noise: Noise::Diagonal([0.4; 2]),
                step_size: rate,
                ..Default::default()
            };
            let training = PolicyGradientOptions {
                task: Task { horizon: STEPS, dt: 0.1, seed: 9, ..Default::default() },
                samples: 500,
                estimator: perturbed(0.4),
                weighting,
                step: Step::Natural { rate: rate.into() },
                ..Default::default()
            };
            let model = DoubleIntegrator::default;
            let mut mppi = Mppi::new(&engine, model(), mppi).expect("good options");
            let fixed = move |_: &mut Random, _: &mut [f32]| start;
            let mut training =
                PolicyGradient::new(&engine, model(), OpenLoop { horizon: STEPS }, fixed, training).expect("good");
            for iteration in 0..3 {
                let plan = mppi.plan(&start).expect("finite costs");
                let progress = training.step().expect("finite returns")[0];
                let effective = (plan.effective_samples() - progress.effective_samples).abs();
                assert!(effective < 0.01, "{effective}, {}", engine.name());
                assert!((plan.min_cost() + progress.best_return).abs() < 1e-4);
                let by_order = matches!(weighting, Weighting::Elite(_) | Weighting::Best);
                assert!((plan.mean_cost() + progress.mean_return).abs() < 1e-3 || by_order);
                let theta = training.theta(0).expect("a learner");
                for (d, (u, theta)) in plan.controls().as_flattened().iter().zip(theta).enumerate() {
                    let off = (u - theta).abs();
                    assert!(
                        off < 5e-6,
                        "{weighting:?}, iteration {iteration}, {}, coordinate {d}: {theta} instead of {u}",
                        engine.name()
                    );
                }
            }
            assert!(training.theta(0).expect("a learner").iter().any(|v| v.abs() > 0.1), "it moved");
        }
    }
}

#[test]
fn a_natural_step_divides_by_the_information() {
    let sigma = 0.6_f32;
    let fixed = Estimator::ScoreFunction { std: [sigma], action_noise: ActionNoise::Fixed, antithetic: false };
    let natural = Step::Natural { rate: 1.0.into() };
    for engine in engines() {
        let step = |rows, step| {
            let options = PolicyGradientOptions { samples: 4096, step, ..bandit(1.0, rows, 1.2) };
            moved(&engine, (Bandit, ONE), still, options, &[0.3])
        };
        // Exact where it is known: σ² g.
        for rows in [perturbed(sigma), fixed] {
            let (g, d) = (step(rows, plain())[0], step(rows, natural)[0]);
            assert!((d - f64::from(sigma * sigma) * g).abs() < 1e-6, "{rows:?}: {d} of {g}, {}", engine.name());
        }
        // The second moment Σ w g² of the rows where it is not: here with a learned deviation, g = (z/σ, z² − 1).
        let (g, d) = (step(scored(sigma), plain()), step(scored(sigma), natural));
        let k = f64::from(STIFFNESS);
        let narrower = 1.0 / (1.0 + k * f64::from(sigma * sigma));
        let center = narrower * k * f64::from(sigma) * 0.9; // of z under the weights
        let second = (center * center + narrower) / f64::from(sigma * sigma);
        assert!((g[0] / d[0] - second).abs() < 0.1 * second, "{} but {second}, {}", g[0] / d[0], engine.name());
        let fourth = center.powi(4) + 6.0 * center * center * narrower + 3.0 * narrower * narrower;
        let square = center * center + narrower;
        let second = fourth - 2.0 * square + 1.0;
        assert!((g[1] / d[1] - second).abs() < 0.1 * second, "{} but {second}, {}", g[1] / d[1], engine.name());
    }
}

#[test]
fn reinforce_is_the_limit_of_high_temperatures() {
    // The scores of antithetic pairs sum to zero, which leaves only the covariance.
    let by_score = Estimator::ScoreFunction { std: [0.5], action_noise: ActionNoise::Fixed, antithetic: true };
    let by_perturbation = Estimator::ParameterSpace { sigma: 0.25.into(), antithetic: true, episodes: 1 };
    for engine in engines() {
        for rows in [by_score, by_perturbation] {
            let gradient = |weighting| {
                let options = PolicyGradientOptions {
                    task: Task { horizon: LINE_STEPS, ..Default::default() },
                    samples: 512,
                    estimator: rows,
                    weighting,
                    step: plain(),
                    ..Default::default()
                };
                let theta: Vec<f32> = (0..LINE_STEPS).map(|t| 0.1 * t as f32).collect();
                moved(&engine, (Line, OpenLoop { horizon: LINE_STEPS }), line_start, options, &theta)
            };
            let lambda = 1000.0;
            let exponentiated = gradient(exponentiated(lambda));
            let signed = gradient(Weighting::Signed { standardized: false });
            let standardized = gradient(Weighting::Signed { standardized: true });
            let length = |g: &[f64]| g.iter().map(|g| g * g).sum::<f64>().sqrt();
            let ratio = length(&standardized) / length(&signed);
            assert!(length(&signed) > 0.1, "{signed:?}");
            for d in 0..LINE_STEPS {
                let limit = f64::from(lambda) * exponentiated[d];
                let bound = 0.01 * length(&signed);
                assert!(
                    (limit - signed[d]).abs() < bound,
                    "{rows:?}, {}, coordinate {d}: {limit} but {}",
                    engine.name(),
                    signed[d]
                );
                assert!((standardized[d] - ratio * signed[d]).abs() < 1e-4, "the same direction");
            }
        }
    }
}

/// A return that is linear in the action, so that it is Gaussian.
struct Slope;

const STEEPNESS: f32 = 3.0;

impl Model<1, 1> for Slope {
    #[inline(always)]
    fn step<R: Real>(&self, _: &StepContext<R>, x: [R; 1], _: [R; 1]) -> [R; 1] {
        x
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _: &StepContext<R>, _: [R; 1], [a]: [R; 1]) -> R {
        a * STEEPNESS
    }
}

#[test]
fn the_temperature_of_a_divergence_bound_is_that_of_reps() {
    const LEARNERS: usize = 16;
    for engine in engines() {
        for nats in [0.05_f64, 0.5] {
            let options = PolicyGradientOptions {
                task: Task { horizon: 1, ..Default::default() },
                samples: 16_384,
                learners: LEARNERS,
                estimator: perturbed(1.0),
                weighting: Weighting::Exponential(Temperature::Divergence(nats as f32)),
                step: Step::Natural { rate: 1.0.into() },
            };
            let mut training = PolicyGradient::new(&engine, Slope, ONE, still, options).expect("good options");
            let found: Vec<f64> =
                training.step().expect("finite").iter().map(|progress| f64::from(progress.temperature)).collect();
            // η* = s/√(2ε), and so the mean of the actions goes to −s/η* = −√(2ε).
            let went: Vec<f64> = (0..LEARNERS).map(|b| f64::from(training.theta(b).expect("a learner")[0])).collect();
            for (found, truth) in [(found, f64::from(STEEPNESS) / (2.0 * nats).sqrt()), (went, -(2.0 * nats).sqrt())] {
                let mean = found.iter().sum::<f64>() / LEARNERS as f64;
                let variance = found.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (LEARNERS - 1) as f64;
                let error = (variance / LEARNERS as f64).sqrt();
                assert!(error > 0.0 && error < 0.01 * truth.abs(), "{error}");
                agree(&[mean], &[truth], &[error], &format!("{nats} nats, {}", engine.name()));
            }
        }
    }
}

/// A few seconds of a pendulum under linear feedback.
fn swing(rows: Estimator<1>, step: Step, learners: usize) -> PolicyGradientOptions<1> {
    PolicyGradientOptions {
        task: Task {
            horizon: 30,
            dt: 0.05,
            limits: Some(Limits { low: [-2.0], high: [2.0] }),
            seed: 3,
            ..Default::default()
        },
        samples: 100,
        learners,
        estimator: rows,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.3)),
        step,
    }
}

fn somewhere(random: &mut Random, _: &mut [f32]) -> [f32; 2] {
    [PI + random.normal(), random.between(-1.0, 1.0)]
}

fn pendulum(engine: &Engine, options: PolicyGradientOptions<1>) -> PolicyGradient<2, 1, Pendulum, LinearFeedback> {
    PolicyGradient::new(engine, Pendulum::default(), LinearFeedback, somewhere, options).expect("good options")
}

fn saved<const N: usize, const M: usize, D: Model<N, M>, P: Policy<N, M>>(
    training: &PolicyGradient<N, M, D, P>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    training.save(&mut bytes).expect("a vector takes it");
    bytes
}

fn steps<const N: usize, const M: usize, D: Model<N, M>, P: Policy<N, M>>(
    training: &mut PolicyGradient<N, M, D, P>,
    count: usize,
) {
    for _ in 0..count {
        training.step().expect("finite returns");
    }
}

#[test]
fn a_resumed_training_ends_with_the_same_bits() {
    let annealed = |first: f32, last: f32| Anneal { first, last, over: 5 };
    let cases = [
        (
            Estimator::ParameterSpace { sigma: annealed(0.5, 0.1), antithetic: true, episodes: 3 },
            Step::Adam { rate: annealed(0.1, 0.01) },
        ),
        (scored(0.5), Step::Momentum { rate: 0.01.into(), momentum: 0.9 }),
        (
            Estimator::ScoreFunction {
                std: [0.5],
                action_noise: ActionNoise::Anneal(annealed(1.0, 0.2)),
                antithetic: true,
            },
            Step::Natural { rate: 0.1.into() },
        ),
    ];
    for engine in engines() {
        for (rows, step) in cases {
            let mut whole = pendulum(&engine, swing(rows, step, 2));
            steps(&mut whole, 3);
            let half = saved(&whole);
            steps(&mut whole, 4);

            // Resuming replaces the seed by that of the checkpoint.
            let mut resumed = pendulum(
                &engine,
                PolicyGradientOptions { task: Task { seed: 77, ..swing(rows, step, 2).task }, ..swing(rows, step, 2) },
            );
            steps(&mut resumed, 1);
            resumed.resume(&half[..]).expect("it was just written");
            assert_eq!(resumed.iteration(), 3);
            assert_eq!(saved(&resumed), half, "what was read is what was written");
            steps(&mut resumed, 4);
            assert_eq!(saved(&resumed), saved(&whole), "{rows:?}, {step:?}, {}", engine.name());
            assert_ne!(saved(&resumed), half);
        }
    }
}

#[test]
fn a_file_that_is_none_changes_nothing() {
    let options = || swing(scored(0.5), plain(), 2);
    let mut training = pendulum(&cpu(), options());
    steps(&mut training, 2);
    let file = saved(&training);
    steps(&mut training, 1);
    let now = saved(&training);

    let damaged = |at: usize| {
        let mut file = file.clone();
        file[at] ^= 0x10;
        file
    };
    let length = file.len();
    let version = |found| CheckpointError::Version { found, expected: 1 };
    let cases = [
        ("nothing", Vec::new(), CheckpointError::NotACheckpoint),
        ("something else", b"P6 640 480 255".to_vec(), CheckpointError::NotACheckpoint),
        ("another version", damaged(8), version(17)),
        ("cut in the header", file[..14].to_vec(), CheckpointError::Length { found: 14, expected: length }),
        (
            "cut at the end",
            file[..length - 1].to_vec(),
            CheckpointError::Length { found: length - 1, expected: length },
        ),
        ("a bit flipped", damaged(60), CheckpointError::Damaged),
        ("a bit of the checksum flipped", damaged(length - 1), CheckpointError::Damaged),
        (
            "other learners",
            saved(&pendulum(&cpu(), swing(scored(0.5), plain(), 3))),
            CheckpointError::Mismatch { what: "learners", found: 3, expected: 2 },
        ),
        (
            "other rows",
            saved(&pendulum(&cpu(), swing(perturbed(0.5), plain(), 2))),
            CheckpointError::Mismatch { what: "numbers per learner", found: 3, expected: 4 },
        ),
    ];
    for (what, file, error) in cases {
        assert_eq!(training.resume(&file[..]), Err(error), "{what}");
        assert_eq!(saved(&training), now, "{what}: nothing is lost");
    }

    /// A writer that fails like a full disk.
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no space left"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let refused = training.save(Full).expect_err("the disk is full");
    assert_eq!(refused, CheckpointError::Io { source: std::io::Error::other("no space left").into() });
    let source = std::error::Error::source(&refused).and_then(|source| source.downcast_ref::<std::io::Error>());
    assert_eq!(source.map(std::io::Error::kind), Some(std::io::ErrorKind::Other), "the source is the system's own");
    training.resume(&file[..]).expect("the file itself is good");
    assert_eq!(training.iteration(), 2);
}

/// A reader that counts the bytes read from it.
struct Counted<R> {
    stream: R,
    read: u64,
}

impl<R: std::io::Read> std::io::Read for Counted<R> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(to)?;
        self.read += count as u64;
        Ok(count)
    }
}

/// Regression test: reading `/dev/zero` filled the memory.
#[test]
fn no_more_is_read_of_a_checkpoint_than_it_is_long() {
    use std::io::Read;
    let mut training = pendulum(&cpu(), swing(scored(0.5), plain(), 2));
    let file = saved(&training);
    let length = file.len() as u64;
    let mut read = |stream: &mut dyn Read| {
        let mut counted = Counted { stream, read: 0 };
        (training.resume(&mut counted), counted.read)
    };
    let refused = |error| Err(error);
    let too_long = CheckpointError::Length { found: file.len() + 1, expected: file.len() };
    assert_eq!(read(&mut std::io::repeat(0)), (refused(CheckpointError::NotACheckpoint), 8));
    assert_eq!(read(&mut file[..].chain(std::io::repeat(7))), (refused(too_long), length + 1));
    let mut other = file.clone();
    other[20] = 200; // learners
    let mismatch = CheckpointError::Mismatch { what: "learners", found: 200, expected: 2 };
    assert_eq!(read(&mut other.chain(std::io::repeat(7))), (refused(mismatch), 40));
    assert_eq!(read(&mut &file[..]), (Ok(()), length));
}

/// Updates the checksum, which does not protect against tampering.
fn with_numbers(file: &[u8], numbers: &[(usize, f32)]) -> Vec<u8> {
    let mut file = file.to_vec();
    for (at, number) in numbers {
        file[*at..][..4].copy_from_slice(&number.to_le_bytes());
    }
    let end = file.len() - 8;
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let sum = file[..end].iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    file[end..].copy_from_slice(&sum.to_le_bytes());
    file
}

/// Regression test: after such a file, a controller returned NaN.
#[test]
fn numbers_that_no_training_leaves_behind_are_refused() {
    let mut training = pendulum(&cpu(), swing(scored(0.5), Step::Adam { rate: 0.1.into() }, 2));
    steps(&mut training, 2);
    let file = saved(&training);
    // 40 bytes of header; then for each learner 4 values, 4 first and 4 second moments, and the step count.
    let at = |learner: usize, number: usize| 40 + learner * 52 + 4 * number;
    assert_eq!(with_numbers(&file, &[]), file, "the checksum is that of the format");
    for (learner, number, value, what, index) in [
        (0, 0, f32::NAN, "parameter", 0),
        (1, 2, f32::INFINITY, "parameter", 2),
        (0, 3, f32::NAN, "logarithm of a standard deviation", 0),
        (1, 3, 1000.0, "logarithm of a standard deviation", 0),
        (0, 4, f32::NEG_INFINITY, "first moment", 0),
        (1, 9, -1.0, "second moment", 1),
        (0, 11, f32::NAN, "second moment", 3),
    ] {
        let hostile = with_numbers(&file, &[(at(learner, number), value)]);
        match training.resume(&hostile[..]) {
            Err(CheckpointError::Number { what: found, index: i, learner: b, .. }) => {
                assert_eq!((found, i, b), (what, index, learner));
            }
            other => panic!("{value} as {what} {index}: {other:?}"),
        }
        assert_eq!(saved(&training), file, "{value} as {what} {index}: nothing is changed");
    }
    // Training continues beyond the largest step count.
    let last = with_numbers(&file, &[(at(0, 12), f32::from_bits(u32::MAX)), (28, f32::from_bits(u32::MAX))]);
    training.resume(&last[..]).expect("whatever the counts are");
    steps(&mut training, 2);
}

#[test]
fn a_training_is_saved_to_a_file_that_is_always_whole() {
    let folder = std::env::temp_dir().join(format!("gibbs-saved-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of its own");
    let file = folder.join("training.gibbs");
    let mut training = pendulum(&cpu(), swing(scored(0.5), plain(), 1));
    let missing = training.resume_from(&file).expect_err("there is none yet");
    let kind = std::error::Error::source(&missing).and_then(|source| source.downcast_ref()).map(std::io::Error::kind);
    assert_eq!(kind, Some(std::io::ErrorKind::NotFound), "{missing}");
    for _ in 0..2 {
        training.save_to(&file).expect("there is room");
        assert_eq!(std::fs::read(&file).expect("it is there"), saved(&training));
        steps(&mut training, 1);
    }
    training.resume_from(&file).expect("it was just written");
    assert_eq!(training.iteration(), 1);

    // A failed write leaves the old file and no temporary file.
    std::fs::create_dir(folder.join("taken")).expect("a folder of its own");
    for taken in ["taken", "nowhere/training.gibbs"] {
        assert!(matches!(training.save_to(folder.join(taken)), Err(CheckpointError::Io { .. })), "{taken}");
    }
    let mut names: Vec<_> = std::fs::read_dir(&folder).expect("it is there").flatten().map(|e| e.file_name()).collect();
    names.sort();
    assert_eq!(names, ["taken", "training.gibbs"]);
    std::fs::remove_dir_all(&folder).expect("it is there");
}

#[test]
fn an_iteration_without_finite_returns_changes_nothing() {
    for engine in engines() {
        let broken = Arc::new(AtomicBool::new(false));
        let starts = {
            let broken = Arc::clone(&broken);
            move |random: &mut Random, params: &mut [f32]| match broken.load(Ordering::Relaxed) {
                true => [f32::NAN; 2],
                false => somewhere(random, params),
            }
        };
        for rows in [scored(0.5), perturbed(0.5)] {
            let options = swing(rows, Step::Adam { rate: 0.1.into() }, 2);
            let model = Pendulum::default();
            let mut training = PolicyGradient::new(&engine, model, LinearFeedback, starts.clone(), options.clone())
                .expect("good options");
            steps(&mut training, 2);
            let before = saved(&training);
            broken.store(true, Ordering::Relaxed);
            match training.step().map(drop) {
                Err(PlanError::Invalid(error)) => {
                    assert_eq!(error.field, "starts");
                    let words = "gives NaN as state 0 for episode 0 of learner 0 in iteration 3";
                    assert!(error.to_string().contains(words), "{error}");
                }
                other => panic!("{other:?} on {}", engine.name()),
            }
            assert_eq!(training.evaluate(0, 3, 1).expect_err("it starts nowhere").field, "starts");
            assert_eq!(saved(&training), before, "{}", engine.name());
            broken.store(false, Ordering::Relaxed);

            // The training continues as if it had not been interrupted.
            steps(&mut training, 2);
            let mut other = pendulum(&engine, options);
            steps(&mut other, 4);
            assert_eq!(saved(&training), saved(&other), "{}", engine.name());
        }
    }
}

#[test]
fn episodes_that_are_not_finite_do_not_count() {
    for engine in engines() {
        let starts = |random: &mut Random, _: &mut [f32]| match random.uniform() < 0.25 {
            true => [f32::NAN, 0.0],
            false => [random.normal(), 0.0],
        };
        let options =
            PolicyGradientOptions { samples: 400, ..swing(scored(0.5), Step::Natural { rate: 0.1.into() }, 1) };
        let mut training =
            PolicyGradient::new(&engine, Pendulum::default(), LinearFeedback, starts, options).expect("good options");
        let progress = training.step().expect("most are finite")[0];
        assert!((60..140).contains(&progress.invalid_rows), "{progress:?}, {}", engine.name());
        assert!(progress.mean_return.is_finite() && progress.step.is_finite());
        assert!(training.theta(0).expect("a learner").iter().all(|v| v.is_finite()));
    }
}

/// Linear feedback with derivatives by dual numbers, and a configurable number of copies of its parameters.
struct Copies(usize);

impl Policy<2, 1> for Copies {
    fn parameters(&self) -> usize {
        3 * self.0
    }
    #[inline(always)]
    fn act<R: Real>(&self, _: &StepContext<R>, theta: &Params<R>, [p, v]: [R; 2]) -> [R; 1] {
        let mut sum = R::from(0.0);
        for i in 0..self.0 {
            sum += theta.get(3 * i) * p + theta.get(3 * i + 1) * v + theta.get(3 * i + 2);
        }
        [sum]
    }
    fn initial(&self, _: &mut Random) -> Vec<f32> {
        vec![0.0; 3 * self.0]
    }
}

#[test]
fn a_policy_of_ones_own_is_trained_by_dual_numbers_or_by_perturbation() {
    for engine in engines() {
        let options = || swing(scored(0.5), Step::Natural { rate: 0.2.into() }, 1);
        let own =
            |copies, options| PolicyGradient::new(&engine, Pendulum::default(), Copies(copies), somewhere, options);
        let (mut by_duals, mut by_hand) = (own(1, options()).expect("few parameters"), pendulum(&engine, options()));
        steps(&mut by_duals, 3);
        steps(&mut by_hand, 3);
        let both = by_duals.theta(0).into_iter().flatten().zip(by_hand.theta(0).into_iter().flatten());
        for (a, b) in both {
            assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{a} but {b}, {}", engine.name());
        }
        let refused = own(22, options()).err();
        let expected = ModelError::NoVjp { parameters: 66, limit: 64 };
        assert_eq!(refused, Some(BuildError::Model(expected)), "{}", engine.name());
        let mut many = own(22, swing(perturbed(0.1), plain(), 1)).expect("perturbation needs no derivatives");
        steps(&mut many, 1);
    }
}

/// A network with derivatives by dual numbers.
struct Undifferentiated(Mlp<2, 1>);

impl Policy<2, 1> for Undifferentiated {
    fn parameters(&self) -> usize {
        self.0.parameters()
    }
    #[inline(always)]
    fn act<R: Real>(&self, at: &StepContext<R>, theta: &Params<R>, x: [R; 2]) -> [R; 1] {
        self.0.act(at, theta, x)
    }
    fn initial(&self, random: &mut Random) -> Vec<f32> {
        self.0.initial(random)
    }
}

#[test]
fn a_network_is_differentiated_by_dual_numbers_all_the_same() {
    for engine in engines() {
        let network = || Mlp::<2, 1>::new(&[5, 4], Activation::Tanh).expect("valid");
        let options = || swing(scored(0.5), Step::Natural { rate: 0.2.into() }, 1);
        let new = |options| PolicyGradient::new(&engine, Pendulum::default(), network(), somewhere, options);
        let duals = Undifferentiated(network());
        let mut by_hand = new(options()).expect("valid");
        let mut by_duals =
            PolicyGradient::new(&engine, Pendulum::default(), duals, somewhere, options()).expect("valid");
        steps(&mut by_hand, 3);
        steps(&mut by_duals, 3);
        let both = by_duals.theta(0).into_iter().flatten().zip(by_hand.theta(0).into_iter().flatten());
        for (a, b) in both {
            assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{a} but {b}, {}", engine.name());
        }
    }
}

/// A policy whose declarations may be inconsistent.
#[derive(Clone, Debug)]
struct Odd {
    parameters: usize,
    initial: Vec<f32>,
    reads: Reads,
}

/// The inputs that it reads in `act`. (Its derivatives read parameter 0 only.)
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reads {
    Weight(usize),
    Table(Table),
    Network(usize),
    Param(usize),
    Reference(usize),
    /// Parameter 0 times this field at the state.
    Field(usize),
    /// Twice parameter 0; the 2 is a constant, or a run-time parameter of a hand-made stage.
    Twice {
        by_hand: bool,
    },
}

impl Policy<2, 1> for Odd {
    fn parameters(&self) -> usize {
        self.parameters
    }
    #[inline(always)]
    fn act<R: Real>(&self, at: &StepContext<R>, theta: &Params<R>, [p, v]: [R; 2]) -> [R; 1] {
        match self.reads {
            Reads::Weight(i) => [theta.get(i)],
            Reads::Table(table) => [theta.at(at, table, 0)],
            Reads::Network(first) => {
                let network = Network::new(first, &[1, 1], Activation::Tanh).expect("small enough");
                [theta.network::<2, 1>(&network, [p, v])[0]]
            }
            Reads::Param(i) => [at.param(i)],
            Reads::Reference(j) => [at.reference(j)],
            Reads::Field(field) => [theta.get(0) * at.sample(field, p, v)],
            Reads::Twice { by_hand: true } => [theta.get(0) * at.with_params(&[2.0]).param(0)],
            Reads::Twice { by_hand: false } => [theta.get(0) * 2.0],
        }
    }
    #[inline(always)]
    fn vjp<R: Real>(
        &self,
        at: &StepContext<R>,
        theta: &Params<R>,
        x: [R; 2],
        [v]: [R; 1],
        g: &mut GradientAccumulator<R>,
    ) -> [R; 1] {
        let slope = match self.reads {
            Reads::Field(0) => at.sample(0, x[0], x[1]),
            Reads::Twice { by_hand: true } => at.with_params(&[2.0]).param(0),
            Reads::Twice { by_hand: false } => R::from(2.0),
            _ => R::from(1.0),
        };
        g.add(0, v * slope);
        [theta.get(0) * slope]
    }
    fn initial(&self, _: &mut Random) -> Vec<f32> {
        self.initial.clone()
    }
}

#[test]
fn every_option_out_of_range_is_named() {
    let base = || swing(perturbed(0.5), plain(), 1);
    let rows = |rows| PolicyGradientOptions { estimator: rows, ..base() };
    let step = |step| PolicyGradientOptions { step, ..base() };
    let weighting = |temperature| PolicyGradientOptions { weighting: Weighting::Exponential(temperature), ..base() };
    let sigma = |first, last| {
        rows(Estimator::ParameterSpace { sigma: Anneal { first, last, over: 3 }, antithetic: false, episodes: 1 })
    };
    let std = |std, action_noise| rows(Estimator::ScoreFunction { std: [std], action_noise, antithetic: false });
    let references = |values, columns| PolicyGradientOptions {
        task: Task { references: Some(References { values, columns }), ..base().task },
        ..base()
    };
    let cases = [
        ("horizon", PolicyGradientOptions { task: Task { horizon: 0, ..base().task }, ..base() }),
        ("samples", PolicyGradientOptions { samples: 0, ..base() }),
        ("samples", PolicyGradientOptions { samples: usize::MAX, ..base() }),
        ("learners", PolicyGradientOptions { learners: 0, ..base() }),
        ("learners", PolicyGradientOptions { learners: 65_536, ..base() }),
        ("samples", PolicyGradientOptions { samples: 1 << 20, learners: 60_000, ..base() }),
        ("dt", PolicyGradientOptions { task: Task { dt: 0.0, ..base().task }, ..base() }),
        ("dt", PolicyGradientOptions { task: Task { dt: f32::NAN, ..base().task }, ..base() }),
        ("sigma", sigma(0.0, 1.0)),
        ("sigma", sigma(1.0, f32::INFINITY)),
        ("episodes", rows(Estimator::ParameterSpace { sigma: 1.0.into(), antithetic: false, episodes: 0 })),
        ("std", std(-1.0, ActionNoise::Fixed)),
        ("std", std(f32::NAN, ActionNoise::Fixed)),
        ("least", std(1.0, ActionNoise::Learned { least: 0.0 })),
        ("action_noise", std(1.0, ActionNoise::Anneal(Anneal { first: 1.0, last: 0.0, over: 9 }))),
        ("rate", step(Step::Plain { rate: 0.0.into() })),
        ("rate", step(Step::Natural { rate: f32::NAN.into() })),
        ("rate", step(Step::Adam { rate: (-1.0).into() })),
        ("momentum", step(Step::Momentum { rate: 1.0.into(), momentum: 1.0 })),
        ("momentum", step(Step::Momentum { rate: 1.0.into(), momentum: f32::NAN })),
        ("weighting", weighting(Temperature::Fixed(0.0))),
        ("weighting", weighting(Temperature::EffectiveSamples(1.5))),
        ("weighting", weighting(Temperature::Divergence(-1.0))),
        (
            "limits",
            PolicyGradientOptions {
                task: Task { limits: Some(Limits { low: [1.0], high: [0.0] }), ..base().task },
                ..base()
            },
        ),
        ("params", PolicyGradientOptions { task: Task { params: vec![f32::NAN], ..base().task }, ..base() }),
        ("references", references(vec![], 1)),
        ("references", references(vec![1.0; 3], 2)),
    ];
    for (field, options) in cases {
        let printed = format!("{options:?}");
        match PolicyGradient::new(&cpu(), Pendulum::default(), LinearFeedback, somewhere, options) {
            Err(BuildError::Invalid(error)) => assert_eq!(error.field, field, "{error}"),
            other => panic!("{printed}: {other:?} instead of an error about `{field}`"),
        }
    }

    // Signed weights give no estimate of the Fisher information, which is not needed where it is known.
    let signed = PolicyGradientOptions {
        weighting: Weighting::Signed { standardized: true },
        ..swing(
            Estimator::ScoreFunction { std: [0.5], action_noise: ActionNoise::Fixed, antithetic: false },
            Step::Natural { rate: 1.0.into() },
            1,
        )
    };
    match PolicyGradient::new(&cpu(), Pendulum::default(), LinearFeedback, somewhere, signed.clone()) {
        Err(BuildError::Invalid(error)) => assert_eq!(error.field, "step", "{error}"),
        other => panic!("{other:?}"),
    }
    PolicyGradient::new(&cpu(), Pendulum::default(), OpenLoop { horizon: 30 }, somewhere, signed).expect("it is known");

    // The model reads parameters that the options lack.
    match PolicyGradient::new(&cpu(), Bandit, ONE, still, PolicyGradientOptions::default()) {
        Err(BuildError::Invalid(error)) => assert_eq!(error.field, "params", "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn policies_that_are_none_are_refused() {
    let build = |parameters, initial: &[f32]| {
        let policy = Odd { parameters, initial: initial.to_vec(), reads: Reads::Weight(1) };
        PolicyGradient::new(&cpu(), Pendulum::default(), policy, somewhere, swing(perturbed(0.5), plain(), 1))
    };
    build(2, &[0.0; 2]).expect("this one is");
    for (parameters, initial) in [(0, &[][..]), (2, &[0.0]), (2, &[0.0, f32::NAN])] {
        match build(parameters, initial) {
            Err(BuildError::Invalid(error)) => assert_eq!(error.field, "policy", "{error}"),
            other => panic!("{parameters} parameters, initial {initial:?}: {other:?}"),
        }
    }
    let unknown = ModelError::NoSuchParameter { index: 1, parameters: 1 };
    assert_eq!(build(1, &[0.0]).err(), Some(BuildError::Model(unknown)));
    // More parameters than allowed, up to a count from which derived sizes would overflow.
    for parameters in [(1 << 20) + 1, usize::MAX] {
        match build(parameters, &[0.0]) {
            Err(BuildError::Invalid(error)) => assert_eq!(error.field, "policy", "{error}"),
            other => panic!("{parameters} parameters: {other:?}"),
        }
        for (rows, step) in [(perturbed(0.5), plain()), (scored(0.5), Step::Natural { rate: 1.0.into() })] {
            let policy = OpenLoop { horizon: parameters };
            let built = PolicyGradient::new(&cpu(), Pendulum::default(), policy, somewhere, swing(rows, step, 1));
            assert!(matches!(built.err(), Some(BuildError::Invalid(error)) if error.field == "policy"));
        }
        let [long, short] = [parameters, 2].map(|horizon| TimeVaryingFeedback { horizon });
        assert_eq!(Policy::<2, 1>::parameters(&long), parameters.saturating_mul(3));
        assert_eq!(Policy::<2, 1>::parameters(&short), 6);
    }
    // The shipped policies without parameters are refused, too.
    let empty = |rows| {
        let policy = OpenLoop { horizon: 0 };
        PolicyGradient::new(&cpu(), Pendulum::default(), policy, somewhere, swing(rows, plain(), 1)).err()
    };
    for error in [empty(perturbed(0.5)), empty(scored(0.5))] {
        assert!(matches!(error, Some(BuildError::Invalid(error)) if error.field == "policy"));
    }
}

/// A policy with one parameter and the given reads.
fn reading(reads: Reads) -> Odd {
    Odd { parameters: 1, initial: vec![0.5], reads }
}

/// Regression test: a controller panicked at its first step, and in a release build indices wrapped around.
#[test]
fn a_policy_that_reads_what_there_is_not_is_refused() {
    const LIMIT: usize = i32::MAX as usize;
    let table = |first, rows, columns| Reads::Table(Table { first, rows, columns });
    let act = "act";
    let no_index = |what, index| ModelError::NoSuchIndex { function: act, what, index, limit: LIMIT };
    let (weight, huge) = ("policy parameter", usize::MAX);
    for (reads, expected) in [
        (Reads::Weight(1), ModelError::NoSuchParameter { index: 1, parameters: 1 }),
        (Reads::Weight(huge), no_index(weight, huge)),
        (Reads::Weight(LIMIT), no_index(weight, LIMIT)),
        (table(0, 0, 1), ModelError::EmptyTable { function: act }),
        (table(0, 2, 1), ModelError::NoSuchParameter { index: 1, parameters: 1 }),
        (table(huge, 1, 1), no_index(weight, huge)),
        (table(0, huge, huge), no_index(weight, huge)),
        (table(0, 1 << 40, 1), no_index(weight, (1 << 40) - 1)),
        (Reads::Network(0), ModelError::NetworkSizes { function: act, inputs: 2, outputs: 1, sizes: vec![1, 1] }),
        (Reads::Param(huge), no_index("run-time parameter", huge)),
        (Reads::Reference(1 << 40), no_index("reference column", 1 << 40)),
        (Reads::Field(huge), no_index("field", huge)),
    ] {
        let refused = Controller::new(reading(reads), &[0.5], 0.1).map(drop).expect_err("it cannot act");
        assert_eq!(refused.field, "policy", "{reads:?}: {refused}");
        assert!(refused.to_string().contains(&expected.to_string()), "{reads:?}: {refused}");
        // Score rows do not call `act`, but the controllers of the training do.
        for engine in engines() {
            for rows in [perturbed(0.5), scored(0.5)] {
                let options = swing(rows, plain(), 1);
                let built =
                    PolicyGradient::new(&engine, Pendulum::default(), reading(reads), somewhere, options).map(drop);
                assert_eq!(built.err(), Some(BuildError::Model(expected.clone())), "{reads:?}, {}", engine.name());
            }
        }
    }
    // Inputs that are missing.
    let field = || Grid::new(1, 1, 1.0, [0.0, 0.0], vec![1.0]).expect("one sample");
    let references = |columns| References { values: vec![0.0; 2 * columns], columns };
    for (reads, name) in [(Reads::Param(1), "params"), (Reads::Reference(1), "references"), (Reads::Field(1), "fields")]
    {
        for given in [0, 1] {
            let options = PolicyGradientOptions {
                task: Task {
                    params: vec![0.0; given],
                    references: (given > 0).then(|| references(given)),
                    fields: vec![field(); given],
                    ..swing(scored(0.5), plain(), 1).task
                },
                ..swing(scored(0.5), plain(), 1)
            };
            let refused = Controller::with_task(reading(reads), &[0.5], options.task.clone()).map(drop);
            assert_eq!(refused.expect_err("too few").field, name, "{given} of two");
            match PolicyGradient::new(&cpu(), Pendulum::default(), reading(reads), somewhere, options) {
                Err(BuildError::Invalid(error)) => assert_eq!(error.field, name, "{error}"),
                other => panic!("{given} of two: {other:?}"),
            }
        }
    }
    // Enough inputs, then too few again.
    let task = Task {
        params: vec![0.25, 0.75],
        references: Some(references(2)),
        fields: vec![field(), field()],
        ..Default::default()
    };
    let build = |reads| Controller::with_task(reading(reads), &[0.5], task.clone()).expect("it is all there");
    assert_eq!(build(Reads::Param(1)).act([0.0; 2]), [0.75]);
    assert_eq!(build(Reads::Reference(1)).act([0.0; 2]), [0.0]);
    assert_eq!(build(Reads::Field(1)).act([0.5; 2]), [0.5]);
    assert_eq!(build(Reads::Param(1)).with_params(&[0.0]).expect_err("too few").field, "params");
    assert_eq!(build(Reads::Reference(1)).with_references(references(1)).expect_err("too few").field, "references");
    assert_eq!(build(Reads::Field(1)).with_fields(&[field()]).expect_err("too few").field, "fields");
    assert_eq!(build(Reads::Field(0)).with_fields(&[field()]).expect("enough").act([0.5; 2]), [0.5]);
    let bad = Task { limits: Some(Limits { low: [1.0], high: [0.0] }), ..Default::default() };
    assert_eq!(Controller::with_task(reading(Reads::Weight(0)), &[0.5], bad).expect_err("upside down").field, "limits");
}

#[test]
fn inputs_that_are_set_between_steps_are_as_if_they_had_been_given() {
    let level = |value: f32| Grid::new(1, 1, 1.0, [0.0, 0.0], vec![value]).expect("one sample");
    for engine in engines() {
        for rows in [perturbed(0.5), scored(0.5)] {
            for reads in [Reads::Param(1), Reads::Reference(1), Reads::Field(0)] {
                let build = |value: f32| {
                    let options = swing(rows, plain(), 1);
                    let task = Task {
                        params: vec![0.0, value],
                        references: Some(References { values: vec![0.0, value], columns: 2 }),
                        fields: vec![level(value)],
                        ..options.task
                    };
                    let options = PolicyGradientOptions { task, ..swing(rows, plain(), 1) };
                    PolicyGradient::new(&engine, Pendulum::default(), reading(reads), somewhere, options)
                        .expect("valid")
                };
                let (mut given, mut set) = (build(0.75), build(0.25));
                set.set_params(&[0.0, 0.75]).expect("two");
                set.set_references(&[0.0, 0.75], 2).expect("two columns");
                set.set_field(0, level(0.75)).expect("there is one");
                assert_eq!(set.options(), given.options());
                for training in [&mut given, &mut set] {
                    steps(training, 2);
                }
                let name = format!("{reads:?}, {rows:?} on {}", engine.name());
                assert_eq!(saved(&set), saved(&given), "{name}");
                let x = [0.5, 0.25];
                let acts = [&set, &given].map(|training| training.controller(0).expect("a learner").act(x));
                assert_eq!(acts[0], acts[1], "{name}");

                let refused = match reads {
                    Reads::Param(_) => set.set_params(&[0.0]),
                    Reads::Reference(_) => set.set_references(&[0.0], 1),
                    _ => set.set_field(1, level(0.0)),
                };
                let field = refused.expect_err("too few").field;
                assert!(["params", "references", "field"].contains(&field), "{name}: {field}");
                assert_eq!(set.options(), given.options(), "{name}: nothing is changed");
            }
        }
    }
}

/// Regression test: where every episode has its own parameters, CPU lanes read those of a hand-made stage as if they
/// were per-episode parameters.
#[test]
fn parameters_that_a_policy_gives_its_stage_are_its_own() {
    for engine in engines() {
        for rows in [perturbed(0.5), scored(0.5)] {
            let after = |by_hand| {
                let options = PolicyGradientOptions {
                    task: Task { params: vec![7.0], ..swing(rows, plain(), 1).task },
                    ..swing(rows, plain(), 1)
                };
                let policy = reading(Reads::Twice { by_hand });
                let mut training =
                    PolicyGradient::new(&engine, Pendulum::default(), policy, somewhere, options).expect("valid");
                steps(&mut training, 2);
                saved(&training)
            };
            assert_eq!(after(true), after(false), "{rows:?} on {}", engine.name());
        }
    }
}

#[test]
fn a_policy_that_looks_into_a_field_is_rebuilt_from_what_was_saved() {
    let field = Grid::from_fn(16, 4, 1.0, [-8.0, -2.0], |x, y| x + 0.25 * y).expect("a slope");
    for engine in engines() {
        for rows in [perturbed(0.5), scored(0.5)] {
            let options = PolicyGradientOptions {
                task: Task {
                    fields: vec![field.clone()],
                    limits: Some(Limits { low: [-2.0], high: [2.0] }),
                    ..swing(rows, Step::Adam { rate: 0.1.into() }, 1).task
                },
                ..swing(rows, Step::Adam { rate: 0.1.into() }, 1)
            };
            let build = || {
                let policy = reading(Reads::Field(0));
                PolicyGradient::new(&engine, Pendulum::default(), policy, somewhere, options.clone()).expect("valid")
            };
            let mut training = build();
            steps(&mut training, 3);
            let mut trained = training.controller(0).expect("a learner");
            assert_ne!(trained.parameters(), [0.5], "it has updated something");

            // Rebuilt from plain numbers, without a training.
            let file: Vec<u8> = trained.parameters().iter().flat_map(|theta| theta.to_le_bytes()).collect();
            let theta: Vec<f32> = file.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
            let own = Task {
                dt: options.task.dt,
                limits: options.task.limits,
                fields: vec![field.clone()],
                ..Default::default()
            };
            let mut own = Controller::with_task(reading(Reads::Field(0)), &theta, own).expect("it is all there");
            // Rebuilt by a training that resumes.
            let mut resumed = build();
            resumed.resume(&saved(&training)[..]).expect("it was just written");
            let mut resumed = resumed.controller(0).expect("a learner");
            for x in [[0.5, 0.25], [-3.0, 1.0], [100.0, 0.0], [7.0, -1.5]] {
                let u = trained.act(x);
                assert_eq!((own.act(x), resumed.act(x)), (u, u), "at {x:?}");
                assert!(u[0].abs() <= 2.0);
            }
        }
    }
}

#[test]
fn the_information_of_an_open_loop_policy_counts_how_often_a_control_is_applied() {
    let information = |controls: usize, horizon: usize| {
        Policy::<1, 2>::information(&OpenLoop { horizon: controls }, horizon, [4.0, 9.0]).expect("it is known")
    };
    assert_eq!(information(2, 2), [4.0, 9.0, 4.0, 9.0]);
    assert_eq!(information(2, 5), [4.0, 9.0, 16.0, 36.0], "the last one holds on");
    assert_eq!(information(2, 1), [4.0, 9.0, 0.0, 0.0], "the second is never applied");
}

#[test]
fn a_controller_from_numbers_is_that_of_the_training() {
    let options = PolicyGradientOptions {
        task: Task { limits: Some(Limits { low: [-0.5], high: [0.5] }), ..swing(perturbed(0.5), plain(), 1).task },
        ..swing(perturbed(0.5), plain(), 1)
    };
    let mut training = pendulum(&cpu(), options.clone());
    steps(&mut training, 3);
    let mut trained = training.controller(0).expect("a learner");
    let mut own = Controller::new(LinearFeedback, training.theta(0).expect("a learner"), options.task.dt)
        .and_then(|controller| controller.with_limits(Limits { low: [-0.5], high: [0.5] }))
        .expect("good numbers");
    for x in [[0.1, 0.2], [3.0, -1.0], [-2.0, 5.0]] {
        assert_eq!(own.act(x), trained.act(x));
    }
    let refused =
        |theta: &[f32], dt| Controller::<2, 1, _>::new(LinearFeedback, theta, dt).expect_err("it makes no sense").field;
    assert_eq!(refused(&[0.0; 2], 0.1), "theta");
    assert_eq!(refused(&[0.0, f32::NAN, 0.0], 0.1), "theta");
    assert_eq!(refused(&[0.0; 3], 0.0), "dt");
    let limits = Limits { low: [1.0], high: [f32::NAN] };
    assert_eq!(own.clone().with_limits(limits).expect_err("not a number").field, "limits");
    assert_eq!(own.with_params(&[f32::INFINITY]).expect_err("not finite").field, "params");
}

#[test]
fn arguments_out_of_range_are_named() {
    let mut training = pendulum(&cpu(), swing(perturbed(0.5), plain(), 2));
    let before = saved(&training);
    assert_eq!(training.theta(2).expect_err("two learners").field, "learner");
    assert_eq!(training.action_noise(2).expect_err("two learners").field, "learner");
    assert_eq!(training.controller(9).expect_err("two learners").field, "learner");
    assert_eq!(training.evaluate(2, 1, 0).expect_err("two learners").field, "learner");
    assert_eq!(training.set_theta(2, &[0.0; 3]).expect_err("two learners").field, "learner");
    assert_eq!(training.set_theta(0, &[0.0; 4]).expect_err("three parameters").field, "theta");
    assert_eq!(training.set_theta(0, &[0.0, f32::NAN, 0.0]).expect_err("not finite").field, "theta");
    assert_eq!(training.episode(0, [f32::NAN, 0.0]).expect_err("not finite").field, "start");
    assert_eq!(saved(&training), before);
}

#[test]
fn a_learner_learns_the_same_alone_and_among_others() {
    for engine in engines() {
        for rows in [scored(0.5), perturbed(0.5)] {
            let step = Step::Natural { rate: 0.2.into() };
            let (mut alone, mut among) =
                (pendulum(&engine, swing(rows, step, 1)), pendulum(&engine, swing(rows, step, 3)));
            steps(&mut alone, 3);
            steps(&mut among, 3);
            assert_eq!(alone.theta(0), among.theta(0), "{}", engine.name());
            assert_ne!(among.theta(0), among.theta(1), "{}", engine.name());
            assert_ne!(among.theta(1), among.theta(2), "{}", engine.name());
        }
    }
}

#[test]
fn engines_agree_on_what_is_learned() {
    let reference = cpu();
    for engine in engines().iter().skip(1) {
        for rows in [scored(0.5), Estimator::ParameterSpace { sigma: 0.5.into(), antithetic: true, episodes: 4 }] {
            let policy = || Mlp::<2, 1>::new(&[8], Activation::Tanh).expect("valid");
            let train = |engine| {
                let weighting = exponentiated(20.0);
                let options = PolicyGradientOptions { weighting, ..swing(rows, Step::Natural { rate: 0.1.into() }, 2) };
                let mut training = PolicyGradient::new(engine, Pendulum::default(), policy(), somewhere, options)
                    .expect("good options");
                steps(&mut training, 3);
                training
            };
            let (a, b) = (train(&reference), train(engine));
            for learner in 0..2 {
                let pairs = a.theta(learner).into_iter().flatten().zip(b.theta(learner).into_iter().flatten());
                for (a, b) in pairs {
                    assert!(
                        (a - b).abs() < 2e-4 * (1.0 + a.abs()),
                        "{rows:?}, {}: {b} but {a} on the CPU",
                        engine.name()
                    );
                }
            }
        }
    }
}

#[test]
fn exploration_is_fixed_annealed_or_learned() {
    let run = |action_noise, iterations| {
        let rows = Estimator::ScoreFunction { std: [0.5], action_noise, antithetic: false };
        let mut training = pendulum(&cpu(), swing(rows, Step::Plain { rate: 0.05.into() }, 1));
        steps(&mut training, iterations);
        training.action_noise(0).expect("a learner").expect("score rows")[0]
    };
    let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{a} but {b}");
    close(run(ActionNoise::Fixed, 5), 0.5);
    let halved = ActionNoise::Anneal(Anneal { first: 1.0, last: 0.25, over: 4 });
    close(run(halved, 0), 0.5);
    close(run(halved, 2), 0.25);
    close(run(halved, 9), 0.125);
    assert!((run(ActionNoise::Learned { least: 1e-3 }, 5) - 0.5).abs() > 1e-3);
    close(run(ActionNoise::Learned { least: 0.45 }, 0), 0.5);
    assert!(run(ActionNoise::Learned { least: 0.45 }, 60) > 0.45 - 1e-6);
    let none = pendulum(&cpu(), swing(perturbed(0.5), plain(), 1));
    assert_eq!(none.action_noise(0).expect("a learner"), None);
}

#[test]
fn training_stops_when_it_is_told_to() {
    let mut training = pendulum(&cpu(), swing(perturbed(0.5), Step::Natural { rate: 1.0.into() }, 2));
    let mut seen = Vec::new();
    let watch = |progress: &[gibbs::learning::Progress]| {
        seen.push((progress.len(), progress[0].iteration));
        if seen.len() == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    training.train(10, watch).expect("finite returns");
    assert_eq!(seen, [(2, 1), (2, 2), (2, 3), (2, 4)]);
    assert_eq!(training.iteration(), 4);
    training.train(2, |_| ControlFlow::Continue(())).expect("finite returns");
    assert_eq!(training.iteration(), 6);
}

#[test]
fn a_controller_acts_as_the_trained_policy_does() {
    // Time-varying and limited, so that time step and limits matter.
    let options = swing(perturbed(2.0), Step::Natural { rate: 1.0.into() }, 2);
    let policy = TimeVaryingFeedback { horizon: 30 };
    let mut training =
        PolicyGradient::new(&cpu(), Pendulum::default(), policy, somewhere, options).expect("good options");
    steps(&mut training, 3);
    let episodes = training.evaluate(1, 5, 8).expect("a learner");
    assert_eq!(episodes, training.evaluate(1, 5, 8).expect("a learner"), "the same seed, the same episodes");
    assert_ne!(episodes, training.evaluate(1, 5, 9).expect("a learner"));
    let mut controller = training.controller(1).expect("a learner");
    assert_eq!(controller.parameters(), training.theta(1).expect("a learner"));
    for episode in &episodes {
        assert_eq!((episode.states.len(), episode.controls.len()), (31, 30));
        assert_eq!(&training.episode(1, episode.states[0]).expect("finite"), episode);
        controller.reset();
        for (x, u) in episode.states.iter().zip(&episode.controls) {
            let [got] = controller.act(*x);
            assert!((got - u[0]).abs() < 1e-4 && got.abs() <= 2.0, "{got} but {u:?}");
        }
    }
    assert!(episodes.iter().any(|episode| episode.controls.iter().any(|u| u[0].abs() == 2.0)), "limits were reached");
    assert!(training.controller(0).expect("a learner").parameters() != controller.parameters());
}

/// Balances a [`CartPole`] with the pole near upright and the cart near the middle. Ends when the pole falls or the
/// cart leaves the track.
struct Balance(CartPole);

impl Model<4, 1> for Balance {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 4], u: [R; 1]) -> [R; 4] {
        self.0.step(at, x, u)
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _: &StepContext<R>, [x, _, angle, _]: [R; 4], [u]: [R; 1]) -> R {
        // A step with the pole up earns one; the other terms keep the cart in the middle.
        (angle.cos() + 1.0) * 10.0 + x.square() * 0.1 + u.square() * 0.001 - 1.0
    }
    #[inline(always)]
    fn done<R: Real>(&self, _: &StepContext<R>, [x, _, angle, _]: [R; 4]) -> R::Mask {
        (angle - PI).abs().gt(0.8) | x.abs().gt(2.4)
    }
}

/// Returns the fraction of new episodes in which the pole stays up to the end.
fn balanced(training: &PolicyGradient<4, 1, Balance, LinearFeedback>) -> f64 {
    let episodes = training.evaluate(0, 200, 12).expect("a learner");
    let stands = |state: &[f32; 4]| (state[2] - PI).abs() < 0.2 && state[0].abs() < 2.4;
    let good =
        episodes.iter().filter(|episode| episode.controls.len() == 250 && episode.states[150..].iter().all(stands));
    good.count() as f64 / episodes.len() as f64
}

#[test]
fn a_cart_pole_learns_to_balance() {
    let near_upright = |random: &mut Random, _: &mut [f32]| {
        let mut u = || random.between(-0.2, 0.2);
        [u(), u(), PI + u(), u()]
    };
    let by_perturbation = Estimator::ParameterSpace { sigma: 4.0.into(), antithetic: true, episodes: 8 };
    let by_score = Estimator::ScoreFunction { std: [4.0], action_noise: ActionNoise::Fixed, antithetic: true };
    for engine in engines() {
        for (rows, step, effective, iterations) in [
            (by_perturbation, Step::Natural { rate: 1.0.into() }, 0.2, 60),
            // The result depends on every bit. With these settings all of twelve seeds succeed; with 1,000 iterations
            // at 0.7, seven do.
            (by_score, Step::Adam { rate: Anneal { first: 1.0, last: 0.1, over: 1500 } }, 0.3, 1500),
        ] {
            let options = PolicyGradientOptions {
                task: Task { horizon: 250, limits: Some(Limits { low: [-10.0], high: [10.0] }), ..Default::default() },
                samples: 256,
                estimator: rows,
                weighting: Weighting::Exponential(Temperature::EffectiveSamples(effective)),
                step,
                ..Default::default()
            };
            let mut training =
                PolicyGradient::new(&engine, Balance(CartPole::default()), LinearFeedback, near_upright, options)
                    .expect("good options");
            let untrained = balanced(&training);
            assert!(untrained < 0.05, "doing nothing must not be enough: {untrained}");
            steps(&mut training, iterations);
            let trained = balanced(&training);
            assert!(trained >= 0.95, "{rows:?}, {}: {trained}", engine.name());
        }
    }
}

#[test]
fn score_rows_of_episodes_that_end_early_are_the_same_on_all_backends() {
    let start =
        |random: &mut Random, _: &mut [f32]| [0.0, 0.0, PI, 0.0].map(|center| center + random.between(-0.2, 0.2));
    let options = PolicyGradientOptions {
        task: Task {
            horizon: 200,
            dt: 0.02,
            limits: Some(Limits { low: [-10.0], high: [10.0] }),
            seed: 5,
            ..Default::default()
        },
        samples: 512,
        estimator: scored(5.0),
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.3)),
        step: Step::Adam { rate: 0.1.into() },
        ..Default::default()
    };
    let learned = |engine: &Engine| {
        let mut training =
            PolicyGradient::new(engine, Balance(CartPole::default()), LinearFeedback, start, options.clone())
                .expect("valid");
        let progress: Vec<f32> = (0..4).map(|_| training.step().expect("finite")[0].mean_return).collect();
        (progress, training.theta(0).expect("a learner").to_vec())
    };
    let (returns, expected) = learned(&cpu());
    assert!(returns.iter().all(|mean| (2.0..100.0).contains(mean)), "{returns:?}: episodes end early");
    for engine in engines() {
        let (found_returns, found) = learned(&engine);
        for (a, b) in found.iter().chain(&found_returns).zip(expected.iter().chain(&returns)) {
            assert!((a - b).abs() < 2e-2 * (1.0 + b.abs()), "{}: {found:?}, not {expected:?}", engine.name());
        }
    }
}
