//! Swings the pole of a cart-pole up by planning with dynamics that are learned, and draws the run beside what the
//! network predicted.
//!
//! `cargo run --release --example learned` loads the weights beside this file, plans with them, applies the forces to
//! the true cart-pole, and writes `learned.png`. `--train` trains the network first, on transitions of the true
//! cart-pole, and writes its weights as `safetensors`; `--help` lists the rest. It fails unless the pole is upright
//! during the last two seconds.

use std::f32::consts::PI;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use gibbs::models::{CartPole, SwingUp};
use gibbs::policies::{Activation, Network};
use gibbs::{
    Cost, Engine, EngineOptions, InvalidValue, Limits, Model, Mppi, MppiOptions, Noise, Random, Real, StepContext,
    Task, Temperature,
};

use arguments::Common;
use end::say;

#[path = "../common/arguments.rs"]
mod arguments;
#[path = "../common/canvas.rs"]
mod canvas;
mod draw;
#[path = "../common/end.rs"]
mod end;
mod train;
mod weights;

#[derive(Parser)]
#[command(about = "Swing the pole of a cart-pole up with learned dynamics, and draw how it went.")]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Train the network first, and write its weights to the file
    #[arg(long)]
    train: bool,
    /// The file of the weights [default: that of the example]
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Fewer rollouts and a shorter run; a shorter training
    #[arg(long)]
    quick: bool,
}

/// A time step (in seconds).
const DT: f32 = 0.02;
/// The most force on the cart, either way (in newtons).
const FORCE: f32 = 10.0;
/// The time steps of a plan.
const HORIZON: usize = 60;
/// The tolerance for upright (in radians from the vertical), and how long it must be met at the end (in seconds).
const UPRIGHT: f32 = 0.2;
const HELD: f32 = 2.0;

/// The layers of the network: from sine and cosine of the angle, speed, rate and force to the two accelerations.
const LAYERS: [usize; 4] = [5, 64, 64, 2];
/// The sizes of speed, rate and force, which the inputs are divided by, and of the accelerations.
const SPEED: f32 = 4.0;
const RATE: f32 = 10.0;
const ACCELERATIONS: [f32; 2] = [10.0, 30.0];

/// A cart-pole with learned accelerations. State, control and cost are those of [`CartPole`]; that speeds are the
/// derivatives of positions is known.
struct Learned {
    network: Network,
    cost: SwingUp,
}

impl Learned {
    fn new() -> Result<Self, InvalidValue> {
        Ok(Self { network: Network::new(0, &LAYERS, Activation::Tanh)?, cost: SwingUp::default() })
    }
}

#[gibbs::model]
impl Model<4, 1> for Learned {
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 4], u: [R; 1]) -> [R; 4] {
        let [position, speed, angle, rate] = x;
        let [push, swing] = at.network(&self.network, features(x, u));
        let speed = (push * ACCELERATIONS[0]).mul_add(at.dt(), speed);
        let rate = (swing * ACCELERATIONS[1]).mul_add(at.dt(), rate);
        [speed.mul_add(at.dt(), position), speed, rate.mul_add(at.dt(), angle), rate]
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 4], u: [R; 1]) -> R {
        self.cost.cost(at, x, u)
    }
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; 4]) -> R {
        self.cost.terminal(at, x)
    }
}

/// The inputs of the network.
#[gibbs::model]
fn features<R: Real>([_, speed, angle, rate]: [R; 4], [force]: [R; 1]) -> [R; 5] {
    let (s, c) = angle.sin_cos();
    [s, c, speed * (1.0 / SPEED), rate * (1.0 / RATE), force * (1.0 / FORCE)]
}

/// The outputs that the network should have: the accelerations of a transition.
fn targets(x: [f32; 4], next: [f32; 4]) -> [f32; 2] {
    [(next[1] - x[1]) / (DT * ACCELERATIONS[0]), (next[3] - x[3]) / (DT * ACCELERATIONS[1])]
}

/// Draws a state and a force. The cart may be anywhere: nothing depends on it.
fn draw_start(random: &mut Random) -> ([f32; 4], [f32; 1]) {
    let state = [0.0, random.between(-SPEED, SPEED), random.between(-PI, PI), random.between(-1.4 * RATE, 1.4 * RATE)];
    (state, [random.between(-FORCE, FORCE)])
}

/// One time step of the run: the state and the force, and the states that the plan predicted from there on.
struct Moment {
    state: [f32; 4],
    force: f32,
    predicted: Vec<[f32; 4]>,
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let model = Learned::new()?;
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/learned/weights.safetensors");
    let file = arguments.weights.clone().unwrap_or_else(|| own.into());
    if arguments.train {
        let clock = Instant::now();
        let (weights, error) = train::train(&model.network, arguments.common.seed, arguments.quick);
        weights::save(&file, &model.network, &weights)?;
        say!("trained for {:.1} s to an error of {error:.4}, wrote {}", clock.elapsed().as_secs_f64(), file.display())?;
    }
    let weights = weights::load(&file, &model.network)?;
    let [one, many] = prediction_errors(&model, &weights, arguments.common.seed);
    say!(
        "errors of accelerations: {:.1} % of their size; of the angle after {HORIZON} steps: {many:.3} rad",
        100.0 * one
    )?;

    let engine = arguments.common.engine(EngineOptions::default())?;
    let run = drive(&engine, model, weights, arguments)?;
    let picture = arguments.common.picture("learned.png")?;
    draw::draw(&run, &picture)?;
    say!("drew {}", picture.display())?;
    say!("{} ({})", judge(&run)?, engine.name())
}

/// The root mean square error of accelerations, relative to their root mean square, and the median error of the angle
/// after a horizon of random forces (in radians), on transitions that the network was not trained on.
fn prediction_errors(model: &Learned, weights: &[f32], seed: u64) -> [f32; 2] {
    let (mut random, truth) = (Random::new(seed ^ 0x5eed), CartPole::default());
    let at = StepContext::new(0, DT);
    let learned = at.with_weights(weights);
    let (mut wrong, mut all, mut far) = (0.0, 0.0, Vec::new());
    for _ in 0..500 {
        let (mut x, mut u) = draw_start(&mut random);
        let mut guess = x;
        let exact = targets(x, truth.step(&at, x, u));
        let found = targets(x, model.step(&learned, x, u));
        for i in 0..2 {
            wrong += (found[i] - exact[i]).powi(2);
            all += exact[i].powi(2);
        }
        for t in 0..HORIZON {
            if t % 10 == 0 {
                u = [random.between(-FORCE, FORCE)];
            }
            (x, guess) = (truth.step(&at, x, u), model.step(&learned, guess, u));
        }
        far.push((x[2] - guess[2]).abs());
    }
    far.sort_by(f32::total_cmp);
    [(wrong / all).sqrt(), far[far.len() / 2]]
}

/// Runs the closed loop: plans with the network, applies the first force of the plan to the true cart-pole.
fn drive(engine: &Engine, model: Learned, weights: Vec<f32>, arguments: &Arguments) -> Result<Vec<Moment>> {
    let (samples, steps) = if arguments.quick { (512, 250) } else { (2048, 400) };
    let options = MppiOptions {
        task: Task {
            horizon: HORIZON,
            dt: DT,
            limits: Some(Limits { low: [-FORCE], high: [FORCE] }),
            weights,
            seed: arguments.common.seed,
            ..Default::default()
        },
        samples,
        weighting: Temperature::Fixed(20.0).into(),
        noise: Noise::Diagonal([0.5 * FORCE]),
        ..Default::default()
    };
    let mut mppi = Mppi::new(engine, model, options)?;
    let truth = CartPole::default();
    let (mut state, mut run) = ([0.0; 4], Vec::new());
    for t in 0..steps {
        let plan = mppi.plan(&state).with_context(|| format!("no plan at {:.2} s", t as f32 * DT))?;
        let [force] = plan.controls()[0];
        run.push(Moment { state, force, predicted: plan.states().to_vec() });
        mppi.advance();
        state = truth.step(&StepContext::new(0, DT), state, [force]);
    }
    Ok(run)
}

/// Checks that the pole swung up and balanced.
fn judge(run: &[Moment]) -> Result<String> {
    let is_upright = |moment: &Moment| (moment.state[2] - PI).wrap_angle().abs() <= UPRIGHT;
    let fallen = run.iter().rposition(|moment| !is_upright(moment)).map_or(0, |last| last + 1);
    let [upright, duration] = [fallen, run.len()].map(|steps| steps as f32 * DT);
    if duration - upright < HELD - 0.5 * DT {
        bail!("the pole did not stand for the last {HELD} s of {duration:.1} s");
    }
    Ok(format!("upright after {upright:.1} s and held for {:.1} s", duration - upright))
}
