//! The tasks that the benchmarks share: for each, a planner with a given number of samples and steps.

#![allow(dead_code, reason = "each benchmark uses a part of this")]

pub mod drive;

use std::time::Duration;

use gibbs::check::{self, OpCount};
use gibbs::models::{CartPole, Quadrotor};
use gibbs::runtime::{RowMemory, Timing};
use gibbs::{
    Backend, Engine, EngineError, EngineOptions, FieldSet, Limits, Model, Mppi, MppiOptions, Noise, StepContext,
    Temperature, Weighting,
};

/// Runs one update and returns the durations of its stages.
pub type Plan = Box<dyn FnMut() -> Timing>;

pub struct Task {
    pub name: &'static str,
    /// M, the controls per step.
    pub controls: usize,
    /// Creates a controller on an engine, given samples and horizon.
    pub on: fn(&Engine, usize, usize) -> Plan,
}

pub const TASKS: [Task; 3] = [
    Task { name: "cart-pole", controls: 1, on: cart_pole },
    Task { name: "drive", controls: 2, on: drive },
    Task { name: "quadrotor", controls: 4, on: quadrotor },
];

/// Neither hanging at rest nor upright, so that every term counts.
pub const SWINGING: [f32; 4] = [0.3, -0.2, 2.0, 0.5];

pub fn cart_pole_options(samples: usize, horizon: usize) -> MppiOptions<1> {
    MppiOptions {
        task: gibbs::Task { horizon, limits: Some(Limits { low: [-20.0], high: [20.0] }), ..Default::default() },
        samples,
        weighting: Weighting::Exponential(Temperature::Fixed(10.0)),
        noise: Noise::Diagonal([5.0]),
        ..Default::default()
    }
}

pub fn cart_pole(engine: &Engine, samples: usize, horizon: usize) -> Plan {
    plan(engine, CartPole::default(), SWINGING, cart_pole_options(samples, horizon))
}

/// Cart-poles with an effective sample size of a tenth of the rows: one is given the temperature for it, the other
/// solves for it in every plan.
pub fn sharp_cart_poles(engine: &Engine, samples: usize, horizon: usize) -> [Plan; 2] {
    let options =
        |temperature: Temperature| MppiOptions { weighting: temperature.into(), ..cart_pole_options(samples, horizon) };
    let wanted = options(Temperature::EffectiveSamples(0.1));
    let mut mppi = Mppi::new(engine, CartPole::default(), wanted.clone()).expect("these options are valid");
    // Plans for the same state converge, and so does their temperature.
    let mut lambda = 1.0;
    for _ in 0..20 {
        lambda = mppi.plan(&SWINGING).expect("a rollout of finite cost").temperature();
    }
    let given = options(Temperature::Fixed(lambda));
    [given, wanted].map(|options| plan(engine, CartPole::default(), SWINGING, options))
}

pub fn drive(engine: &Engine, samples: usize, horizon: usize) -> Plan {
    plan(engine, drive::robot(), drive::START, drive::options(samples, horizon).expect("the map is valid"))
}

/// The initial position of the quadrotor (m).
const AWAY: [f32; 3] = [2.0, -2.0, 1.0];

/// Three meters from the point where it should hover.
pub fn quadrotor(engine: &Engine, samples: usize, horizon: usize) -> Plan {
    let drone = Quadrotor::default();
    let mut away = Quadrotor::LEVEL;
    away[..3].copy_from_slice(&AWAY);
    let options = MppiOptions {
        task: gibbs::Task {
            horizon,
            limits: Some(Limits { low: [-3.0, -3.0, -3.0, 0.0], high: [3.0, 3.0, 3.0, 20.0] }),
            ..Default::default()
        },
        samples,
        weighting: Weighting::Exponential(Temperature::Fixed(10.0)),
        noise: Noise::Diagonal([1.0, 1.0, 1.0, 3.0]),
        initial: [0.0, 0.0, 0.0, drone.hover()],
        ..Default::default()
    };
    plan(engine, drone, away, options)
}

pub fn plan<const N: usize, const M: usize, D: Model<N, M>>(
    engine: &Engine,
    model: D,
    state: [f32; N],
    options: MppiOptions<M>,
) -> Plan {
    let mut mppi = Mppi::new(engine, model, options).expect("these options are valid");
    Box::new(move || mppi.plan(&state).expect("a rollout of finite cost").timing())
}

/// Counts the operations per step of each task: a lower bound.
pub fn op_count() -> [OpCount; 3] {
    let fields = FieldSet::new(&[drive::map().expect("the numbers are finite")]);
    let mut away = Quadrotor::LEVEL;
    away[..3].copy_from_slice(&AWAY);
    [
        check::op_count::<4, 1>(&CartPole::default(), &StepContext::new(0, 0.02), SWINGING),
        check::op_count::<3, 2>(&drive::robot(), &StepContext::new(0, 0.02).with_fields(&fields), drive::START),
        check::op_count::<13, 4>(&Quadrotor::default(), &StepContext::new(0, 0.02), away),
    ]
}

/// Returns an engine on the same device that separates the stages of a call and times them by the device's clock.
pub fn in_stages(engine: &Engine) -> Result<Engine, EngineError> {
    Engine::with_options(EngineOptions { rows: RowMemory::Stored, timestamps: true, ..engine.options().clone() })
}

pub fn engine(backend: Backend) -> Result<Engine, EngineError> {
    Engine::with_options(EngineOptions { backend, ..Default::default() })
}

/// Returns the best adapter: a hardware GPU, else a software one.
pub fn adapter() -> Option<Engine> {
    engine(Backend::Gpu).or_else(|_| engine(Backend::Software)).ok()
}

pub fn cpu() -> Engine {
    engine(Backend::Cpu).expect("the CPU is always there")
}

pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
