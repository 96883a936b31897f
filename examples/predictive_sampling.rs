//! A planner of your own: predictive sampling, written against the public interface.
//!
//! Each step draws candidates around the plan: its values at a few knots, perturbed and interpolated. They are rolled
//! out on the device, and the best one becomes the plan. The plan itself is a candidate, so that it changes only for a
//! better one. (T. Howell et al., *Predictive sampling: real-time behaviour synthesis with MuJoCo*, arXiv 2212.00541.)
//!
//! `cargo run --release --example predictive_sampling` swings the pole of a cart-pole up from hanging and prints a
//! line; `--help` lists what can be changed. It fails unless the pole is upright during the last two seconds.

#[path = "common/end.rs"]
mod end;

use std::f32::consts::PI;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use gibbs::models::CartPole;
use gibbs::{
    Backend, BuildError, Engine, EngineOptions, Limits, Model, Mppi, MppiOptions, Plan, PlanError, Random, Real,
    StepContext, Task, Weighting,
};

use end::say;

#[derive(Parser)]
#[command(about = "Swing the pole of a cart-pole up from hanging by predictive sampling, a planner of your own.")]
struct Arguments {
    /// auto, gpu, software or cpu
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Candidates per plan
    #[arg(long, default_value_t = 256)]
    samples: usize,
    /// Time steps of 0.02 s to drive
    #[arg(long, default_value_t = 400)]
    steps: usize,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// A time step (in seconds).
const DT: f32 = 0.02;
/// The most force on the cart, either way (in newtons).
const FORCE: f32 = 10.0;
/// The standard deviation of the noise of a knot (in newtons).
const SIGMA: f32 = 3.0;
/// The horizon of a plan, and the interval between knots (in time steps).
const HORIZON: usize = 60;
const INTERVAL: usize = 10;
/// The tolerance for upright (in radians from the vertical), and the time steps that it must be met at the end.
const UPRIGHT: f32 = 0.2;
const HELD: usize = 100;

/// Predictive sampling for a model of N states and M controls.
struct PredictiveSampling<const N: usize, const M: usize, D> {
    /// Holds the plan, rolls the candidates out and selects the best.
    planner: Mppi<N, M, D>,
    random: Random,
    sigma: [f32; M],
    /// Candidates × horizon × M.
    rows: Vec<f32>,
}

impl<const N: usize, const M: usize, D: Model<N, M>> PredictiveSampling<N, M, D> {
    fn new(engine: &Engine, model: D, task: Task<M>, samples: usize, sigma: [f32; M]) -> Result<Self, BuildError> {
        let random = Random::new(task.seed);
        let mut planner =
            Mppi::new(engine, model, MppiOptions { task, samples, weighting: Weighting::Best, ..Default::default() })?;
        planner.prepare_rows()?;
        Ok(Self { planner, random, sigma, rows: Vec::new() })
    }

    /// Replaces the plan by the best of the candidates around it.
    fn plan(&mut self, state: &[f32; N]) -> Result<&Plan<N, M>, PlanError> {
        let plan = self.planner.controls();
        let last = plan.len() - 1;
        let knots: Vec<_> = (0..=last + INTERVAL).step_by(INTERVAL).map(|t| plan[t.min(last)]).collect();
        self.rows.clear();
        self.rows.extend(plan.as_flattened());
        for _ in 1..self.planner.options().samples {
            let perturb = |knot: &[f32; M]| std::array::from_fn(|i| knot[i] + self.sigma[i] * self.random.normal());
            let knots: Vec<[f32; M]> = knots.iter().map(perturb).collect();
            self.rows.extend((0..=last).flat_map(|t| interpolate(&knots, t)));
        }
        self.planner.plan_rows(state, &self.rows)
    }
}

/// Interpolates linearly between the two knots around a time step.
fn interpolate<const M: usize>(knots: &[[f32; M]], t: usize) -> [f32; M] {
    let (from, to) = (knots[t / INTERVAL], knots[t / INTERVAL + 1]);
    let along = (t % INTERVAL) as f32 / INTERVAL as f32;
    std::array::from_fn(|i| from[i] + along * (to[i] - from[i]))
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let engine = Engine::with_options(EngineOptions { backend: arguments.backend, ..Default::default() })?;
    let limits = Some(Limits { low: [-FORCE], high: [FORCE] });
    let task = Task { horizon: HORIZON, dt: DT, limits, seed: arguments.seed, ..Default::default() };
    let mut sampling = PredictiveSampling::new(&engine, CartPole::default(), task, arguments.samples, [SIGMA])?;
    let (mut state, mut upright, mut cost) = ([0.0; 4], 0, 0.0);
    for _ in 0..arguments.steps {
        let plan = sampling.plan(&state)?;
        let force = plan.controls()[0];
        let model = sampling.planner.model();
        cost += DT * model.cost(&StepContext::new(0, DT), state, force);
        state = model.step(&StepContext::new(0, DT), state, force);
        sampling.planner.shift(1);
        upright = if (state[2] - PI).wrap_angle().abs() <= UPRIGHT { upright + 1 } else { 0 };
    }
    let [held, before] = [upright, arguments.steps - upright].map(|steps| steps as f32 * DT);
    ensure!(upright >= HELD, "the pole was upright during the last {held:.1} s only");
    say!("upright after {before:.1} s and held for {held:.1} s, cost {cost:.1}, on {}", engine.name())
}
