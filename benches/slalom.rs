//! How smooth a command can be in turns that must be quick: a slalom around pylons, with white noise and with what
//! makes plans smoother. The benchmark measures collisions and changes of the command, not time, on the CPU.
//!
//! ```sh
//! cargo bench --bench slalom              # 20 seeds of each
//! cargo bench --bench slalom -- 5         # as many seeds
//! cargo bench --bench slalom -- 5 sigma=0.2,0.3 T=50 window=9 smoothed    # one horizon; settings with this in their name
//! ```
//!
//! A robot with limits of speed and turn rate drives along y = 0.45 cos(π x / 2), which passes a pylon every 2 m,
//! alternately on either side, with 10 cm to spare. A figure is the root mean square of the change of the turn rate
//! from one time step to the next; `*` marks a setting without a collision in any seed, whose changes are at most a
//! fifth of white noise's.

use anyhow::{Context, Result, ensure};
use gibbs::control::Smoothing;
use gibbs::models::Unicycle;
use gibbs::{
    Backend, Cost, Engine, EngineOptions, Interpolation, Limits, Model, Mppi, MppiOptions, Noise, NoiseShape, Real,
    StepContext, Task, Temperature, Weighting,
};
use rayon::prelude::*;
use std::f32::consts::PI;

/// A time step (in seconds), and the horizons (in time steps).
const DT: f32 = 0.02;
const HORIZONS: [usize; 4] = [20, 50, 100, 200];
const SAMPLES: usize = 512;
/// The standard deviations of the noise on speed (in m/s) and turn rate (in rad/s).
const SIGMA: [f32; 2] = [0.3, 1.0];
/// The time steps that a polynomial is fitted to where plans are smoothed.
const WINDOW: usize = 25;
/// The distance between pylons, and how far the way swings to either side (in meters).
const SPACING: f32 = 2.0;
const SWING: f32 = 0.45;
const PYLONS: usize = 6;
/// The radii of pylon and robot together (in meters).
const RADIUS: f32 = 0.35;
/// The largest speed (in m/s) and turn rate (in rad/s).
const SPEED: f32 = 1.0;
const TURN: f32 = 3.0;

/// Follow the way as fast as possible, and keep clear of the pylons.
#[derive(Clone, Copy)]
struct Slalom;

#[gibbs::model]
impl Slalom {
    /// The distance to the line of pylons' nearest center, which is at (k · SPACING, 0).
    fn away<R: Real>(x: R, y: R) -> R {
        // The distance along x to the nearest pylon, from the phase of the row of pylons.
        let along = (x * (2.0 * PI / SPACING)).wrap_angle() * (SPACING / (2.0 * PI));
        (along.square() + y.square()).sqrt()
    }
}

#[gibbs::model]
impl Cost<3, 2> for Slalom {
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, _]: [R; 3], [speed, _]: [R; 2]) -> R {
        let (_, c) = (x * (PI / SPACING)).sin_cos();
        let off = y - c * SWING;
        let lack = (-Self::away(x, y) + (RADIUS + 0.05)).max(0.0);
        let crash = R::select(lack.gt(0.03), 20.0, 0.0);
        (off.square() * 50.0 + (-speed + SPEED).square() * 2.0 + lack * 50.0 + crash) * at.dt()
    }
}

/// A name, and a change of the options of white noise.
type Setting = (&'static str, fn(&mut MppiOptions<2>));

fn knots(options: &mut MppiOptions<2>, every: usize, interpolation: Interpolation) {
    options.noise_shape = NoiseShape::Knots { every: every.min(options.task.horizon), interpolation };
}

/// Knots an eighth of the horizon apart, but no less than ten time steps.
fn wide(options: &mut MppiOptions<2>, interpolation: Interpolation) {
    knots(options, (options.task.horizon / 8).max(10), interpolation);
}

fn color(options: &mut MppiOptions<2>, exponent: f32) {
    options.noise_shape = NoiseShape::Colored { exponent };
}

fn limit_rates(options: &mut MppiOptions<2>) {
    options.task.rate_limits = Some(Limits { low: [-2.0, -6.0], high: [2.0, 6.0] });
}

fn smooth(options: &mut MppiOptions<2>) {
    options.smoothing = Some(Smoothing { window: WINDOW, order: 2 });
}

const SETTINGS: [Setting; 16] = [
    ("white", |_| ()),
    ("white, limited rates", limit_rates),
    ("white, smoothed", smooth),
    ("white, limited and smoothed", |o| {
        limit_rates(o);
        smooth(o);
    }),
    ("hold, every 10", |o| knots(o, 10, Interpolation::Hold)),
    ("linear, every 10", |o| knots(o, 10, Interpolation::Linear)),
    ("cubic, every 10", |o| knots(o, 10, Interpolation::Cubic)),
    ("hold, every T/8", |o| wide(o, Interpolation::Hold)),
    ("linear, every T/8", |o| wide(o, Interpolation::Linear)),
    ("cubic, every T/8", |o| wide(o, Interpolation::Cubic)),
    ("pink", |o| color(o, 1.0)),
    ("red", |o| color(o, 2.0)),
    ("linear, every T/8, limited rates", |o| {
        wide(o, Interpolation::Linear);
        limit_rates(o);
    }),
    ("linear, every T/8, smoothed", |o| {
        wide(o, Interpolation::Linear);
        smooth(o);
    }),
    ("cubic, every T/8, smoothed", |o| {
        wide(o, Interpolation::Cubic);
        smooth(o);
    }),
    ("red, limited and smoothed", |o| {
        color(o, 2.0);
        limit_rates(o);
        smooth(o);
    }),
];

/// What happened in one drive.
struct Drive {
    collisions: usize,
    /// The sum of the squared changes of the turn rate, and the number of time steps.
    changes: f64,
    steps: usize,
    /// The largest distance from the way (in meters).
    off: f32,
}

fn options(horizon: usize, seed: u64) -> MppiOptions<2> {
    MppiOptions {
        task: Task {
            horizon,
            dt: DT,
            limits: Some(Limits { low: [0.0, -TURN], high: [SPEED, TURN] }),
            seed,
            ..Default::default()
        },
        samples: SAMPLES,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.05)),
        noise: Noise::Diagonal(SIGMA),
        ..Default::default()
    }
}

fn drive(engine: &Engine, options: MppiOptions<2>) -> Result<Drive> {
    let robot = Unicycle::default();
    let mut mppi = Mppi::new(engine, robot.with_cost(Slalom), options)?;
    // It starts on the way, between two pylons before the first that counts.
    let mut state = [-0.5 * SPACING, 0.0, (PI / SPACING * SWING).atan()];
    let (mut drive, mut before) = (Drive { collisions: 0, changes: 0.0, steps: 0, off: 0.0 }, None);
    let mut touching = false;
    let end = (PYLONS as f32 - 0.5) * SPACING;
    while state[0] < end && drive.steps < 3 * (end / SPEED / DT) as usize {
        mppi.plan(&state)?;
        let control = mppi.advance();
        state = robot.step(&StepContext::new(0, DT), state, control);
        // The first plans are still far from the best one.
        if state[0] > 0.0 {
            let change = before.map_or(0.0, |turn: f32| control[1] - turn);
            drive.changes += f64::from(change).powi(2);
            drive.steps += 1;
            drive.off = drive.off.max((state[1] - SWING * (PI / SPACING * state[0]).cos()).abs());
        }
        before = Some(control[1]);
        let touches = Slalom::away(state[0], state[1]) < RADIUS;
        drive.collisions += usize::from(touches && !touching);
        touching = touches;
    }
    // A robot that does not arrive is no better than one that collides.
    drive.collisions += usize::from(state[0] < end);
    Ok(drive)
}

/// The change of the turn rate that the way itself takes at full speed, in `f64`.
fn least_change() -> f64 {
    let (rate, swing) = (f64::from(PI / SPACING), f64::from(SWING));
    let turn = |x: f64| {
        let (slope, bend) = (-swing * rate * (rate * x).sin(), -swing * rate * rate * (rate * x).cos());
        (bend / (1.0 + slope * slope).powf(1.5) * f64::from(SPEED), f64::from(SPEED * DT) / slope.hypot(1.0))
    };
    let (mut x, mut before, mut sum, mut steps) = (0.0, turn(0.0).0, 0.0, 0.0);
    while x < 2.0 * f64::from(SPACING) {
        x += turn(x).1;
        let now = turn(x).0;
        (sum, steps, before) = (sum + (now - before).powi(2), steps + 1.0, now);
    }
    (sum / steps).sqrt()
}

/// What the command line asks for.
struct Wanted {
    seeds: u64,
    sigma: [f32; 2],
    window: usize,
    horizons: Vec<usize>,
    /// Parts of names; all settings if there are none.
    names: Vec<String>,
}

impl Wanted {
    fn read(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut wanted =
            Self { seeds: 20, sigma: SIGMA, window: WINDOW, horizons: HORIZONS.to_vec(), names: Vec::new() };
        // `cargo bench` adds --bench.
        for argument in arguments.filter(|argument| argument != "--bench") {
            if let Ok(seeds) = argument.parse() {
                wanted.seeds = seeds;
            } else if let Some(horizon) = argument.strip_prefix("T=") {
                wanted.horizons = vec![horizon.parse().context("T, a horizon in time steps")?];
            } else if let Some(window) = argument.strip_prefix("window=") {
                wanted.window = window.parse().context("window, an odd number of time steps")?;
            } else if let Some(sigma) = argument.strip_prefix("sigma=") {
                let (speed, turn) = sigma.split_once(',').context("sigma, of speed and of turn rate")?;
                wanted.sigma = [speed.parse()?, turn.parse()?];
            } else {
                wanted.names.push(argument);
            }
        }
        ensure!(wanted.seeds > 0, "at least one seed");
        Ok(wanted)
    }

    /// Whether a setting is wanted. All are compared with the first.
    fn has(&self, name: &str) -> bool {
        self.names.is_empty() || name == SETTINGS[0].0 || self.names.iter().any(|part| name.contains(part.as_str()))
    }
}

fn main() -> Result<()> {
    let engine = Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() })?;
    let wanted = Wanted::read(std::env::args().skip(1))?;
    let Wanted { seeds, sigma, horizons, .. } = &wanted;
    println!(
        "{SAMPLES} rows, {seeds} seeds, σ = {sigma:?}: rms change of the turn rate (rad/s per step), collisions, most off \
         the way (m)"
    );
    println!("the way itself takes {:.4} rad/s per step", least_change());
    let heads: String = horizons.iter().map(|horizon| format!("{:<24}", format!("T = {horizon}"))).collect();
    println!("{:<34}{heads}", "");
    let mut white = vec![f64::INFINITY; horizons.len()];
    for (name, change) in SETTINGS.into_iter().filter(|(name, _)| wanted.has(name)) {
        let mut line = format!("{name:<34}");
        for (horizon, white) in horizons.iter().zip(&mut white) {
            let drives = (0..*seeds).into_par_iter().map(|seed| {
                let mut options = options(*horizon, seed);
                options.noise = Noise::Diagonal(*sigma);
                change(&mut options);
                if let Some(smoothing) = &mut options.smoothing {
                    smoothing.window = wanted.window;
                }
                drive(&engine, options)
            });
            let drives = drives.collect::<Result<Vec<_>>>()?;
            let collisions: usize = drives.iter().map(|drive| drive.collisions).sum();
            let steps: usize = drives.iter().map(|drive| drive.steps).sum();
            let rms = (drives.iter().map(|drive| drive.changes).sum::<f64>() / steps.max(1) as f64).sqrt();
            let off = drives.iter().map(|drive| drive.off).fold(0.0, f32::max);
            if name == "white" {
                *white = rms;
            }
            let mark = if collisions == 0 && rms <= 0.2 * *white { "*" } else { "" };
            line += &format!("{:<24}", format!("{rms:.4}{mark} {collisions:>3} {off:.2}"));
        }
        println!("{line}");
    }
    Ok(())
}
