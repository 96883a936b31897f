//! Two published tasks at the sample counts of their authors: the pendulum (32 samples) and the cart-pole (128 samples)
//! of Hydrax (V. Kurtz, *Hydrax: sampling-based model predictive control on GPU with JAX and MuJoCo MJX*). The
//! benchmark measures costs, not time, on the CPU.
//!
//! ```sh
//! cargo bench --bench tasks                # 5 seeds of each
//! cargo bench --bench tasks -- 25          # as many seeds
//! cargo bench --bench tasks -- --sweep 10  # noise shapes × weightings × widths of noise, with as many seeds
//! cargo bench --bench tasks -- --pairs 50  # rows in pairs beside independent ones: closed loops, and time of a plan
//! ```
//!
//! Before that it compares both models with the equations of motion in `f64`.

#[path = "common/drive.rs"]
mod robot;

use std::f32::consts::PI;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gibbs::{
    Backend, Engine, EngineOptions, Interpolation, Limits, Model, Mppi, MppiOptions, Noise, NoiseShape, Random, Real,
    StepContext, Task, Temperature, Weighting,
};
use rayon::prelude::*;

/// A published task. It starts at rest, hanging, and its control is in [−1, 1].
///
/// Its published cost charges each step for the state *before* it, and this crate for the state after it. So
/// [`Model::terminal`] is the published terminal cost less the running cost of the last state: the sums then differ by
/// the running cost of the initial state, which no plan can change.
trait Published<const N: usize>: Model<N, 1> + Copy {
    const NAME: &'static str;
    /// The time step (s).
    const DT: f32;
    const SAMPLES: usize;
    /// The published terminal cost.
    fn end<R: Real>(&self, x: [R; N]) -> R;
    /// The angle from upright (rad).
    fn tilt(x: &[f32; N]) -> f32;
    /// The published equations of motion in `f64`: the state after a step of `dt`, without damping if not `damped`.
    fn reference(x: [f64; N], u: f64, dt: f64, damped: bool) -> [f64; N];
    /// The mechanical energy (J).
    fn energy(x: [f64; N]) -> f64;
}

/// The time steps of a horizon, which is one second.
const fn horizon<const N: usize, D: Published<N>>() -> usize {
    (1.0 / D::DT + 0.5) as usize
}

/// The duration of a closed loop (s).
const SECONDS: usize = 8;
/// The updates of a plan from the initial state.
const UPDATES: usize = 100;

/// (cos(θ − π) − 1)² + sin²(θ − π), which is 4 hanging and 0 upright.
#[gibbs::model]
fn fallen<R: Real>(angle: R) -> R {
    let (s, c) = (angle - PI).sin_cos();
    (c - 1.0).square() + s.square()
}

/// A rod on a motor that is too weak to lift it in one swing. State (θ, ω), θ = 0 hanging.
#[derive(Debug, Clone, Copy)]
struct Pendulum;

impl Pendulum {
    /// The moment of inertia about the joint (kg m²), the largest torque of gravity and that of the motor (N m).
    const INERTIA: f32 = 0.337959;
    const WEIGHT: f32 = 4.905;
    const TORQUE: f32 = 2.0;
}

#[gibbs::model]
impl Model<2, 1> for Pendulum {
    fn step<R: Real>(&self, at: &StepContext<R>, [angle, rate]: [R; 2], [u]: [R; 1]) -> [R; 2] {
        let rate = rate + (u * Self::TORQUE - angle.sin() * Self::WEIGHT) * (at.dt() / Self::INERTIA);
        [angle + rate * at.dt(), rate]
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 2], [u]: [R; 1]) -> R {
        (self.end(x) + u.square() * 0.001) * at.dt()
    }
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; 2]) -> R {
        self.end(x) - self.cost(at, x, [R::from(0.0)])
    }
}

#[gibbs::model]
impl Published<2> for Pendulum {
    const NAME: &'static str = "pendulum";
    const DT: f32 = 0.02;
    const SAMPLES: usize = 32;
    fn end<R: Real>(&self, [angle, rate]: [R; 2]) -> R {
        fallen(angle) + rate.square() * 0.01
    }
    fn tilt(x: &[f32; 2]) -> f32 {
        (x[0] - PI).wrap_angle()
    }
    fn reference([angle, rate]: [f64; 2], u: f64, dt: f64, _damped: bool) -> [f64; 2] {
        let rate = rate + dt * (2.0 * u - 4.905 * angle.sin()) / 0.337959;
        [angle + dt * rate, rate]
    }
    fn energy([angle, rate]: [f64; 2]) -> f64 {
        0.5 * 0.337959 * rate * rate - 4.905 * angle.cos()
    }
}

/// A rod on a cart. State (x, θ, v, ω), θ = 0 hanging; the force on the cart is 10 u newtons.
#[derive(Debug, Clone, Copy)]
struct CartPole;

#[gibbs::model]
impl CartPole {
    /// The masses of cart and rod (kg), half the rod's length (m), its moment of inertia about its center (kg m²),
    /// gravity (m/s²), the force at u = 1 (N), and the damping of both joints (N s/m and N m s/rad).
    const CART: f32 = 1.0;
    const ROD: f32 = 0.1;
    const HALF: f32 = 0.5;
    const INERTIA: f32 = 0.009424592767;
    const GRAVITY: f32 = 9.81;
    const FORCE: f32 = 10.0;
    const DAMPING: f32 = 1e-4;

    fn away<R: Real>([x, angle, v, rate]: [R; 4], weight: f32) -> R {
        fallen(angle) * weight + x.square() + (v.square() + rate.square()) * 0.01
    }
}

#[gibbs::model]
impl Model<4, 1> for CartPole {
    /// Solves (M + dt B) a = f − B v, whose damping B is implicit, as in a step of MuJoCo.
    fn step<R: Real>(&self, at: &StepContext<R>, [x, angle, v, rate]: [R; 4], [u]: [R; 1]) -> [R; 4] {
        let (s, c) = angle.sin_cos();
        let damping = at.dt() * Self::DAMPING;
        let m11 = damping + (Self::CART + Self::ROD);
        let m12 = c * (-Self::ROD * Self::HALF);
        let m22 = damping + (Self::INERTIA + Self::ROD * Self::HALF * Self::HALF);
        let f1 = u * Self::FORCE - s * rate.square() * (Self::ROD * Self::HALF) - v * Self::DAMPING;
        let f2 = s * (-Self::ROD * Self::GRAVITY * Self::HALF) - rate * Self::DAMPING;
        let scale = at.dt() / (m11 * m22 - m12.square());
        let v = v + (m22 * f1 - m12 * f2) * scale;
        let rate = rate + (m11 * f2 - m12 * f1) * scale;
        [x + v * at.dt(), angle + rate * at.dt(), v, rate]
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 4], [u]: [R; 1]) -> R {
        (Self::away(x, 1.0) + u.square() * 0.01) * at.dt()
    }
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; 4]) -> R {
        self.end(x) - self.cost(at, x, [R::from(0.0)])
    }
}

#[gibbs::model]
impl Published<4> for CartPole {
    const NAME: &'static str = "cart-pole";
    const DT: f32 = 0.01;
    const SAMPLES: usize = 128;
    fn end<R: Real>(&self, x: [R; 4]) -> R {
        Self::away(x, 10.0)
    }
    fn tilt(x: &[f32; 4]) -> f32 {
        (x[1] - PI).wrap_angle()
    }
    fn reference([x, angle, v, rate]: [f64; 4], u: f64, dt: f64, damped: bool) -> [f64; 4] {
        let (s, c, d) = (angle.sin(), angle.cos(), if damped { 1e-4 } else { 0.0 });
        let [m11, m12, m22] = [1.1 + dt * d, -0.05 * c, 0.009424592767 + 0.025 + dt * d];
        let [f1, f2] = [10.0 * u - 0.05 * s * rate * rate - d * v, -0.4905 * s - d * rate];
        // Elimination of the first row.
        let angular = (f2 - m12 / m11 * f1) / (m22 - m12 * m12 / m11);
        let (v, rate) = (v + dt * (f1 - m12 * angular) / m11, rate + dt * angular);
        [x + dt * v, angle + dt * rate, v, rate]
    }
    fn energy([_, angle, v, rate]: [f64; 4]) -> f64 {
        let coupling = -0.1 * 0.5 * angle.cos() * v * rate;
        0.5 * 1.1 * v * v + coupling + 0.5 * (0.009424592767 + 0.025) * rate * rate - 0.4905 * angle.cos()
    }
}

/// Sums the published running cost over a sequence of controls. Also returns the last state.
fn sum<const N: usize, D: Published<N>>(model: &D, controls: impl IntoIterator<Item = [f32; 1]>) -> (f64, [f32; N]) {
    let (at, mut x, mut sum) = (StepContext::new(0, D::DT), [0.0; N], 0.0);
    for u in controls {
        sum += f64::from(model.cost(&at, x, u));
        x = model.step(&at, x, u);
    }
    (sum, x)
}

/// The published cost of a plan, and the cost if each step were charged for the state after it.
fn open<const N: usize, D: Published<N>>(model: &D, controls: &[[f32; 1]]) -> [f64; 2] {
    let (sum, x) = sum(model, controls.iter().copied());
    let [last, first] = [x, [0.0; N]].map(|x| f64::from(model.cost(&StepContext::new(0, D::DT), x, [0.0])));
    let published = sum + f64::from(model.end(x));
    [published, published + last - first]
}

/// Compares a model with its equations in `f64`, these with the conservation of energy, and the cost that planners
/// minimize with the published one.
fn check<const N: usize, D: Published<N>>(engine: &Engine, model: D) -> Result<()> {
    let (mut random, at) = (Random::new(1), StepContext::new(0, D::DT));
    let dt = f64::from(D::DT);
    for _ in 0..1000 {
        let (x, u): ([f32; N], f32) = (std::array::from_fn(|_| 3.0 * random.normal()), random.normal());
        let (found, expected) = (model.step(&at, x, [u]), D::reference(x.map(f64::from), f64::from(u), dt, true));
        for (found, expected) in found.into_iter().zip(expected) {
            let error = (f64::from(found) - expected).abs();
            ensure!(error < 1e-5 * (1.0 + expected.abs()), "{} from {x:?}: {found}, not {expected}", D::NAME);
        }
    }
    let mut x = [0.0; N];
    (x[N / 2 - 1], x[N - 1]) = (2.0, 1.0);
    let energy = D::energy(x);
    for _ in 0..100_000 {
        x = D::reference(x, 0.0, 1e-5, false);
    }
    let gained = (D::energy(x) - energy).abs();
    ensure!(gained < 1e-4, "{}: {gained} J from nothing within a second", D::NAME);

    let controls: Vec<[f32; 1]> = (0..horizon::<N, D>()).map(|_| [random.uniform() * 2.0 - 1.0]).collect();
    let mppi = Mppi::new(engine, model, DEFAULTS.options::<N, D>(32, 0))?;
    let (_, minimized) = mppi.simulate(&[0.0; N], &controls)?;
    let difference = open(&model, &controls)[0] - f64::from(minimized);
    let constant = f64::from(model.cost(&at, [0.0; N], [0.0]));
    ensure!((difference - constant).abs() < 1e-4, "{}: the cost differs by {difference}, not {constant}", D::NAME);
    Ok(())
}

/// Options of a planner that both tasks share.
#[derive(Debug, Clone, Copy)]
struct Setting {
    name: &'static str,
    /// The standard deviation of the noise.
    sigma: f32,
    /// The knots per horizon, and their interpolation; white noise without.
    knots: Option<(usize, Interpolation)>,
    weighting: Weighting,
    nominal_first: bool,
    /// Whether rows come in pairs of opposite perturbations.
    antithetic: bool,
    /// Whether the best row replaces the mean as the plan where its cost is less.
    checked: bool,
}

/// The average of the best row alone is that row.
const BEST: Weighting = Weighting::Elite(1e-6);
const SOFT: Weighting = Weighting::Exponential(Temperature::EffectiveSamples(0.05));

const DEFAULTS: Setting = Setting {
    name: "white, λ = 1",
    sigma: 0.35,
    knots: None,
    weighting: Weighting::Exponential(Temperature::Fixed(1.0)),
    nominal_first: false,
    antithetic: false,
    checked: false,
};
/// The setting that reaches the goals with the options of a planner alone.
const CHOSEN: Setting = Setting {
    name: "cubic, 3 knots, best row",
    knots: Some((3, Interpolation::Cubic)),
    weighting: BEST,
    nominal_first: true,
    ..DEFAULTS
};
const SETTINGS: [Setting; 9] = [
    DEFAULTS,
    Setting { name: "white, λ = 1, in pairs", antithetic: true, ..DEFAULTS },
    Setting { name: "white, best row", knots: None, ..CHOSEN },
    Setting { name: "cubic, 3 knots, λ = 1", weighting: DEFAULTS.weighting, ..CHOSEN },
    Setting { name: "cubic, 3 knots, 5 % effective", weighting: SOFT, ..CHOSEN },
    Setting { name: "cubic, 5 % effective, in pairs", weighting: SOFT, antithetic: true, ..CHOSEN },
    Setting { name: "cubic, 5 %, or the best row", weighting: SOFT, checked: true, ..CHOSEN },
    Setting { name: "cubic, best row, in pairs", antithetic: true, ..CHOSEN },
    CHOSEN,
];

impl Setting {
    fn options<const N: usize, D: Published<N>>(&self, samples: usize, seed: u64) -> MppiOptions<1> {
        let horizon = horizon::<N, D>();
        let knots = |(count, interpolation)| NoiseShape::Knots { every: horizon / count, interpolation };
        MppiOptions {
            task: Task {
                horizon,
                dt: D::DT,
                limits: Some(Limits { low: [-1.0], high: [1.0] }),
                seed,
                ..Default::default()
            },
            samples,
            weighting: self.weighting,
            noise: Noise::Diagonal([self.sigma]),
            noise_shape: self.knots.map_or(NoiseShape::White, knots),
            nominal_first: self.nominal_first,
            antithetic: self.antithetic,
            ..Default::default()
        }
    }
}

/// Improves a plan. Where it is `checked` and a row costs less than their mean, the best row is the plan.
fn update<const N: usize, D: Published<N>>(mppi: &mut Mppi<N, 1, D>, x: &[f32; N], checked: bool) -> Result<()> {
    let cost = mppi.plan(x)?.cost();
    if checked {
        let rows = mppi.samples()?;
        let best = (0..rows.len()).filter(|k| rows.is_valid(*k)).min_by(|a, b| rows.cost(*a).total_cmp(&rows.cost(*b)));
        if let Some(controls) = best.filter(|k| rows.cost(*k) < cost).map(|k| rows.controls(k)) {
            mppi.set_controls(&controls)?;
        }
    }
    Ok(())
}

/// Improves a plan from the initial state by a number of updates; [`open`] of the result.
fn improve<const N: usize, D: Published<N>>(
    engine: &Engine,
    model: D,
    options: MppiOptions<1>,
    checked: bool,
) -> Result<[f64; 2]> {
    let mut mppi = Mppi::new(engine, model, options)?;
    for _ in 0..UPDATES {
        update(&mut mppi, &[0.0; N], checked)?;
    }
    Ok(open(&model, mppi.controls()))
}

/// The result of a closed loop.
#[derive(Debug, Clone, Copy)]
struct Driven {
    /// The published running cost.
    cost: f64,
    /// The time from which on the pole is within 0.2 rad of upright until the end (s).
    settled: f64,
    /// The root of the mean squared change of the control from step to step.
    change: f64,
}

/// Drives a model in closed loop, with one update every `every` steps.
fn drive<const N: usize, D: Published<N>>(
    engine: &Engine,
    model: D,
    options: MppiOptions<1>,
    every: usize,
    checked: bool,
) -> Result<Driven> {
    let mut mppi = Mppi::new(engine, model, options)?;
    let (at, mut x, mut last) = (StepContext::new(0, D::DT), [0.0; N], 0.0);
    let mut driven = Driven { cost: 0.0, settled: 0.0, change: 0.0 };
    let steps = SECONDS * horizon::<N, D>();
    for t in (0..steps).step_by(every) {
        update(&mut mppi, &x, checked)?;
        for (i, &[u]) in mppi.controls()[..every].iter().enumerate() {
            driven.cost += f64::from(model.cost(&at, x, [u]));
            driven.change += f64::from(u - last).powi(2) / steps as f64;
            (x, last) = (model.step(&at, x, [u]), u);
            if D::tilt(&x).abs() > 0.2 {
                driven.settled = (t + i + 1) as f64 * f64::from(D::DT);
            }
        }
        mppi.shift(every);
    }
    Ok(Driven { change: driven.change.sqrt(), ..driven })
}

/// The least, the median and the greatest.
fn range(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// The median and the range of some values.
fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let [low, median, high] = range(values);
    format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
}

/// The first values, one after the other.
fn seed_by_seed(values: impl Iterator<Item = f64>) -> String {
    values.take(5).map(|value| format!("{value:.3}")).collect::<Vec<_>>().join(", ")
}

fn print_open<const N: usize, D: Published<N>>(engine: &Engine, model: D, seeds: u64) -> Result<()> {
    let zero = open(&model, &vec![[0.0]; horizon::<N, D>()])[0];
    let [least, least_after] = improve(engine, model, CHOSEN.options::<N, D>(16_384, 0), false)?;
    println!("{}, open loop, {UPDATES} updates of {} samples, {seeds} seeds", D::NAME, D::SAMPLES);
    println!("{:<32} {:>22} {:>30}", "", "cost", "charged for the state after");
    println!("{:<32} {zero:>22.3}", "no control");
    for setting in SETTINGS {
        let run = |seed| improve(engine, model, setting.options::<N, D>(D::SAMPLES, seed), setting.checked);
        let costs: Vec<[f64; 2]> = (0..seeds).into_par_iter().map(run).collect::<Result<_>>()?;
        let [published, after] = [0, 1].map(|i| spread(costs.iter().map(|cost| cost[i]), 3));
        println!("{:<32} {published:>22} {after:>30}", setting.name);
        if setting.name == CHOSEN.name {
            println!("{:<32} {least:>22.3} {least_after:>30.3}", "the same, 16,384 samples");
            println!("seed by seed: {}", seed_by_seed(costs.iter().map(|cost| cost[0])));
        }
    }
    println!();
    Ok(())
}

fn print_closed<const N: usize, D: Published<N>>(engine: &Engine, model: D, seeds: u64, every: usize) -> Result<()> {
    let (steps, rate) = (SECONDS * horizon::<N, D>(), horizon::<N, D>() / every);
    let zero = sum(&model, vec![[0.0]; steps]).0;
    let many = drive(engine, model, CHOSEN.options::<N, D>(16_384, 0), every, false)?;
    println!(
        "{}, closed loop, {SECONDS} s, {rate} updates of {} samples per second, {seeds} seeds",
        D::NAME,
        D::SAMPLES
    );
    println!("{:<32} {:>24} {:>20} {:>10}", "", "cost", "settled (s)", "change");
    println!("{:<32} {zero:>24.3}", "no control");
    for setting in SETTINGS {
        let run = |seed| drive(engine, model, setting.options::<N, D>(D::SAMPLES, seed), every, setting.checked);
        let runs: Vec<Driven> = (0..seeds).into_par_iter().map(run).collect::<Result<_>>()?;
        let cost = spread(runs.iter().map(|run| run.cost), 3);
        let settled = spread(runs.iter().map(|run| run.settled), 2);
        let [_, change, _] = range(runs.iter().map(|run| run.change));
        println!("{:<32} {cost:>24} {settled:>20} {change:>10.3}", setting.name);
        if setting.name == CHOSEN.name {
            let Driven { cost, settled, change } = many;
            println!("{:<32} {cost:>24.3} {settled:>20.2} {change:>10.3}", "the same, 16,384 samples");
            println!("seed by seed: {}", seed_by_seed(runs.iter().map(|run| run.cost)));
        }
    }
    println!();
    Ok(())
}

/// Prints median and greatest cost of the three problems for noise shapes × weightings × widths of noise.
fn sweep(engine: &Engine, seeds: u64) -> Result<()> {
    const SHAPES: [Option<(usize, Interpolation)>; 10] = [
        None,
        Some((10, Interpolation::Hold)),
        Some((5, Interpolation::Hold)),
        Some((3, Interpolation::Hold)),
        Some((10, Interpolation::Linear)),
        Some((5, Interpolation::Linear)),
        Some((3, Interpolation::Linear)),
        Some((10, Interpolation::Cubic)),
        Some((5, Interpolation::Cubic)),
        Some((3, Interpolation::Cubic)),
    ];
    let weightings: [(&str, Weighting); 6] = [
        ("λ = 1", Temperature::Fixed(1.0).into()),
        ("λ = 0.1", Temperature::Fixed(0.1).into()),
        ("5 % effective", SOFT),
        ("20 % effective", Temperature::EffectiveSamples(0.2).into()),
        ("λ = 0.1 std", Temperature::Standardized(0.1).into()),
        ("best row", BEST),
    ];
    println!("median and greatest cost of {seeds} seeds, with the plan itself as the first row");
    println!("{:<44} {:>15} {:>18} {:>18}", "", "pendulum, open", "pendulum, closed", "cart-pole, closed");
    for (knots, sigma) in SHAPES.into_iter().flat_map(|knots| [0.175, 0.35, 0.7].map(|sigma| (knots, sigma))) {
        for (name, weighting) in weightings {
            let setting = Setting { name, sigma, knots, weighting, nominal_first: true, ..DEFAULTS };
            let [pendulum, cart_pole] = [Pendulum::SAMPLES, CartPole::SAMPLES];
            let opened =
                |seed| Ok(improve(engine, Pendulum, setting.options::<2, Pendulum>(pendulum, seed), false)?[0]);
            let swung =
                |seed| Ok(drive(engine, Pendulum, setting.options::<2, Pendulum>(pendulum, seed), 1, false)?.cost);
            let driven =
                |seed| Ok(drive(engine, CartPole, setting.options::<4, CartPole>(cart_pole, seed), 1, false)?.cost);
            let shape =
                knots.map_or("white".into(), |(count, spline)| format!("{count} knots, {spline:?}").to_lowercase());
            let row = format!("{shape}, σ {sigma}, {name}");
            let [open, closed, cart] = [
                (0..seeds).into_par_iter().map(opened).collect::<Result<Vec<f64>>>()?,
                (0..seeds).into_par_iter().map(swung).collect::<Result<Vec<f64>>>()?,
                (0..seeds).into_par_iter().map(driven).collect::<Result<Vec<f64>>>()?,
            ]
            .map(|costs| range(costs.into_iter()));
            println!(
                "{row:<44} {:>7.3} {:>7.3} {:>10.3} {:>7.3} {:>10.3} {:>7.3}",
                open[1], open[2], closed[1], closed[2], cart[1], cart[2]
            );
        }
    }
    Ok(())
}

/// Factors on the rows of a plan in pairs.
const FACTORS: [f32; 4] = [1.0, 1.125, 1.25, 1.5];

/// Compares rows in pairs, of which there are more, with `samples` independent ones: prints the least time of a plan on
/// one thread, relative to that of independent rows, and the mean and the standard error of the cost of closed loops.
fn compare_pairs<const N: usize, const M: usize, D: Model<N, M> + Copy>(
    engine: &Engine,
    (name, model, start): (&str, D, [f32; N]),
    options: MppiOptions<M>,
    (samples, seeds): (usize, u64),
    drive: impl Fn(MppiOptions<M>) -> Result<f64> + Sync,
) -> Result<()> {
    const CALLS: usize = 1000;
    let paired = FACTORS.map(|factor| ((samples as f32 * factor / 2.0).round() as usize * 2, true));
    let rows: Vec<(usize, bool)> = std::iter::once((samples, false)).chain(paired).collect();
    let of = |(samples, antithetic), seed| {
        let task = Task { seed, ..options.task.clone() };
        MppiOptions { task, samples, antithetic, ..options.clone() }
    };
    let planners: Result<Vec<_>, _> = rows.iter().map(|rows| Mppi::new(engine, model, of(*rows, 0))).collect();
    let mut planners: Vec<_> = planners?.into_iter().map(|mppi| (mppi, Duration::MAX)).collect();
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    for _ in 0..CALLS {
        for (mppi, least) in &mut planners {
            let clock = Instant::now();
            alone.install(|| mppi.plan(&start).map(drop))?;
            *least = clock.elapsed().min(*least);
        }
    }
    println!("{name}, {seeds} seeds");
    for (rows, (_, least)) in rows.into_iter().zip(&planners) {
        let costs: Vec<f64> = (0..seeds).into_par_iter().map(|seed| drive(of(rows, seed))).collect::<Result<_>>()?;
        let count = seeds as f64;
        let mean = costs.iter().sum::<f64>() / count;
        let variance = costs.iter().map(|cost| (cost - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let ratio = least.as_secs_f64() / planners[0].1.as_secs_f64();
        let label = if rows.1 { "in pairs" } else { "independent" };
        println!("{:>8} {label:<12} time {ratio:.2}   cost {mean:.4} ± {:.4}", rows.0, (variance / count).sqrt());
    }
    Ok(())
}

/// Closed loops with rows in pairs.
fn pairs(engine: &Engine, seeds: u64) -> Result<()> {
    fn published<const N: usize, D: Published<N>>(engine: &Engine, model: D, seeds: u64) -> Result<()> {
        let settings = [Setting { weighting: SOFT, ..CHOSEN }, CHOSEN];
        for (samples, setting) in settings.into_iter().flat_map(|of| [D::SAMPLES, 512].map(|samples| (samples, of))) {
            let weighting = if setting.weighting == BEST { "best row" } else { "5 % effective" };
            let name = format!("{}, {samples} rows, cubic, 3 knots, {weighting}", D::NAME);
            let run = |options| Ok(drive(engine, model, options, 1, false)?.cost);
            let options = setting.options::<N, D>(samples, 0);
            compare_pairs(engine, (&name, model, [0.0; N]), options, (samples, seeds), run)?;
        }
        Ok(())
    }
    published(engine, Pendulum, seeds)?;
    published(engine, CartPole, seeds)?;
    for samples in [128, 1024] {
        let options = robot::options(samples, 100)?;
        let name = format!("drive, {samples} rows, white, λ = 1");
        let run = |options: MppiOptions<2>| {
            let mut mppi = Mppi::new(engine, robot::robot(), options)?;
            let (mut x, mut cost) = (robot::START, 0.0);
            for _ in 0..1500 {
                mppi.plan(&x)?;
                let (states, of_step) = mppi.simulate(&x, &mppi.controls()[..1])?;
                (x, cost) = (states[1], cost + f64::from(of_step));
                mppi.shift(1);
            }
            Ok(cost)
        };
        compare_pairs(engine, (&name, robot::robot(), robot::START), options, (samples, seeds), run)?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let engine = Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() })?;
    check(&engine, Pendulum)?;
    check(&engine, CartPole)?;
    // `cargo bench` adds --bench.
    let arguments = || std::env::args().skip(1).filter(|argument| argument != "--bench");
    let [sweeps, in_pairs] = ["--sweep", "--pairs"].map(|flag| arguments().any(|argument| argument == flag));
    let seeds = arguments().find(|argument| !argument.starts_with("--"));
    let seeds = seeds.map_or(Ok(5), |seeds| seeds.parse()).context("the number of seeds")?;
    ensure!(seeds > 0, "at least one seed");
    if sweeps {
        return sweep(&engine, seeds);
    }
    if in_pairs {
        ensure!(seeds > 1, "at least two seeds");
        return pairs(&engine, seeds);
    }
    print_open(&engine, Pendulum, seeds)?;
    print_closed(&engine, Pendulum, seeds, 1)?;
    print_closed(&engine, CartPole, seeds, 1)?;
    print_closed(&engine, CartPole, seeds, 2)
}
