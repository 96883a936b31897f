//! What shapes of noise, limits of rates and jerks, a delay, smoothing, proposals and scenarios cost: plans with each
//! of them beside plans of white noise, with the same rows and horizon.
//!
//! ```sh
//! cargo bench --bench actuation            # the CPU, and an adapter if there is one
//! cargo bench --bench actuation -- cpu     # one of them; any part of a backend's name will do
//! ```
//!
//! Calls of all of them alternate, so that they meet the same load of the machine. The figures are the median of all
//! calls and, in parentheses, the least of them, as ratios to those of white noise.

mod common;

use std::time::{Duration, Instant};

use common::{SWINGING, cart_pole_options, drive, median};
use gibbs::control::{Proposal, Smoothing};
use gibbs::models::CartPole;
use gibbs::{Engine, Interpolation, Limits, Model, Mppi, MppiOptions, NoiseShape, Risk, Scenario};

/// K and T.
const SIZES: [(usize, usize); 3] = [(1024, 50), (8192, 100), (2048, 200)];

/// The calls of each.
const CALLS: usize = 40;

/// A name and a change of the options of a plan with white noise.
type Change<const M: usize> = (&'static str, fn(&mut MppiOptions<M>));

fn knots<const M: usize>(options: &mut MppiOptions<M>, every: usize, interpolation: Interpolation) {
    options.noise_shape = NoiseShape::Knots { every, interpolation };
}

fn limit_rates<const M: usize>(options: &mut MppiOptions<M>) {
    options.task.rate_limits = Some(Limits { low: [-20.0; M], high: [20.0; M] });
}

fn limit_jerks<const M: usize>(options: &mut MppiOptions<M>) {
    options.task.jerk_limits = Some(Limits { low: [-200.0; M], high: [200.0; M] });
}

fn changes<const M: usize>() -> [Change<M>; 13] {
    [
        ("white", |_| ()),
        ("knots, hold, every 5", |options| knots(options, 5, Interpolation::Hold)),
        ("knots, linear, every 5", |options| knots(options, 5, Interpolation::Linear)),
        ("knots, cubic, every 5", |options| knots(options, 5, Interpolation::Cubic)),
        ("pink", |options| options.noise_shape = NoiseShape::Colored { exponent: 1.0 }),
        ("white, in pairs", |options| options.antithetic = true),
        ("white, limited rates", limit_rates),
        ("white, limited rates and jerks", |options| {
            limit_rates(options);
            limit_jerks(options);
        }),
        ("knots, cubic, limited rates", |options| {
            knots(options, 5, Interpolation::Cubic);
            limit_rates(options);
        }),
        ("white, delay of 3", |options| options.task.delay = 3),
        ("white, smoothed", |options| options.smoothing = Some(Smoothing { window: 9, order: 3 })),
        ("white, 3 more proposals", |options| {
            options.proposals = vec![Proposal::Initial, Proposal::Last, Proposal::Given];
        }),
        ("white, 16 scenarios", |options| {
            options.task.scenarios = vec![Scenario::default(); 16];
            options.task.risk = Risk::ConditionalValueAtRisk(0.25);
        }),
    ]
}

fn compare<const N: usize, const M: usize, D: Model<N, M> + Clone>(
    engine: &Engine,
    (name, model, state): (&str, D, [f32; N]),
    white: MppiOptions<M>,
) {
    let mut planners: Vec<_> = changes()
        .into_iter()
        .map(|(label, change)| {
            let mut options = white.clone();
            change(&mut options);
            let mppi = Mppi::new(engine, model.clone(), options).expect("these options are valid");
            (label, mppi, Vec::new())
        })
        .collect();
    for call in 0..CALLS + 2 {
        for (_, mppi, times) in &mut planners {
            let clock = Instant::now();
            mppi.plan(&state).expect("a rollout of finite cost");
            let time = clock.elapsed();
            if call >= 2 {
                times.push(time);
            }
        }
    }
    let (samples, horizon) = (white.samples, white.task.horizon);
    let figures = |times: &Vec<Duration>| [median(times.clone()), times.iter().copied().min().unwrap_or_default()];
    let of_white = figures(&planners[0].2);
    println!("{} {name} {samples} × {horizon}: white {:.2?} ({:.2?})", engine.backend(), of_white[0], of_white[1]);
    for (label, _, times) in &planners[1..] {
        let [median, least] = figures(times);
        let [of_median, of_least] = of_white.map(|time| time.as_secs_f64());
        println!("    {label:<30} {:.2} ({:.2})", median.as_secs_f64() / of_median, least.as_secs_f64() / of_least);
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    for engine in std::iter::once(common::cpu()).chain(common::adapter()) {
        let name = engine.backend().to_string().to_lowercase();
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(&part.to_lowercase())) {
            continue;
        }
        println!("{}", engine.name());
        for (samples, horizon) in SIZES {
            let cart_pole = ("cart-pole", CartPole::default(), SWINGING);
            compare(&engine, cart_pole, cart_pole_options(samples, horizon));
            let robot = ("drive", drive::robot(), drive::START);
            compare(&engine, robot, drive::options(samples, horizon).expect("the map is valid"));
        }
    }
}
