//! Tests of policy episodes: the CPU backend against plain loops in f64, and the GPU backend against the CPU backend.

use std::sync::Arc;

use super::program::{PolicyRows, Program};
use super::{Backend, Engine, EngineOptions};
use crate::error::{BuildError, ModelError};
use crate::kernels::pass::*;
use crate::lang::cache_line::CacheLine;
use crate::lang::grid::{FieldChanges, FieldSet};
use crate::lang::{Activation, GradientAccumulator, Network, Params, Real, StepContext, philox};
use crate::model::Model;
use crate::model::policies::{LinearFeedback, Mlp, Observation, OpenLoop, TimeVaryingFeedback};
use crate::model::policy::Policy;

/// A mass on a spring. Parameters of an episode: damping and stiffness. The episode ends at a distance of 2 from the
/// origin.
pub(crate) struct Mass;

impl Model<2, 1> for Mass {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> [R; 2] {
        let force = u - v * at.param(0) - p * at.param(1);
        [p + v * at.dt(), v + force * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> R {
        (p - at.reference(0)).square() + v.square() * 0.1 + u.square() * 0.01
    }
    #[inline(always)]
    fn terminal<R: Real>(&self, _: &StepContext<R>, [p, v]: [R; 2]) -> R {
        (p.square() + v.square()) * 3.0
    }
    #[inline(always)]
    fn done<R: Real>(&self, _: &StepContext<R>, [p, _]: [R; 2]) -> R::Mask {
        p.abs().gt(2.0)
    }
}

/// The state, sine and cosine of the position, and the product of position and velocity.
struct Features;

impl Observation<2, 5> for Features {
    #[inline(always)]
    fn observe<R: Real>(&self, _: &StepContext<R>, [p, v]: [R; 2]) -> [R; 5] {
        let (s, c) = p.sin_cos();
        [p, v, s, c, p * v]
    }
}

const HORIZON: usize = 13;
const DT: f32 = 0.1;
const REFERENCES: [f32; 2] = [0.1, -0.3];
const LIMITS: [f32; 2] = [-0.8, 0.9];
/// Numbers of a start: two states, two parameters.
const ENTRY: usize = 4;
const LAYOUT: Layout = Layout { states: 2, controls: 1, params: 2, reference_rows: 2, reference_columns: 1 };

/// A task with a table of starts.
struct Task {
    pass: Pass,
    inputs: Vec<f32>,
    nominal: Vec<f32>,
    std_scale: Vec<f32>,
}

impl Task {
    fn new(rows: usize, problems: usize, episodes: usize, width: usize, flags: u32) -> Self {
        let mut inputs = vec![0.0; LAYOUT.references()];
        (inputs[LAYOUT.low()], inputs[LAYOUT.high()], inputs[LAYOUT.factor()]) = (LIMITS[0], LIMITS[1], 1.0);
        inputs.extend(REFERENCES);
        let starts = inputs.len();
        let entries = if flags & SCORED != 0 { rows } else { episodes };
        for i in 0..problems * entries {
            let i = i as f32;
            // Some starts are already beyond the distance at which an episode ends.
            inputs.extend([
                (i * 0.9).sin() * 2.05,
                (i * 0.4).cos(),
                0.3 + 0.2 * (i * 0.3).sin(),
                1.0 + (i * 0.7).cos(),
            ]);
        }
        let pass = Pass {
            seed: philox::key(5),
            number: 3,
            rows: rows as u32,
            horizon: HORIZON as u32,
            width: width as u32,
            coordinates: width as u32,
            flags,
            dt: DT,
            coordinate_stride: TILE as u32,
            row_stride: 1,
            references: LAYOUT.references() as u32,
            reference_rows: 2,
            reference_columns: 1,
            cost_scale: 1.0,
            temperature: 0.7,
            a: 1.0,
            scale: 0.3,
            problems: problems as u32,
            episodes: episodes as u32,
            starts: starts as u32,
            rows_stride: (round_up(rows, TILE) * width) as u32,
            ..bytemuck::Zeroable::zeroed()
        };
        let nominal = (0..problems * width).map(|i| (i as f32 * 1.3).sin() * 0.4 - 0.3).collect();
        let std_scale = (0..problems * width).map(|i| 0.5 + (i % 5) as f32 * 0.2).collect();
        Self { pass, inputs, nominal, std_scale }
    }

    fn on<T>(&self, run: impl FnOnce(&Problem<'_>) -> T) -> T {
        let layout = LAYOUT;
        run(&Problem {
            layout,
            inputs: &self.inputs,
            nominal: &self.nominal,
            std_scale: if self.pass.has(STD_SCALE) { &self.std_scale } else { &[] },
            fields: &FieldSet::new(&[]),
            weights: Weights::default(),
            field_changes: &FieldChanges::default(),
            filter: None,
            rows: None,
        })
    }

    fn width(&self) -> usize {
        self.pass.width as usize
    }

    /// Entry `e` of a problem's table of starts, whose tables have `of` entries.
    fn start(&self, problem: usize, of: usize, e: usize) -> &[f32] {
        &self.inputs[self.pass.starts as usize + (problem * of + e) * ENTRY..][..ENTRY]
    }

    /// Rows and costs of a problem on the CPU, untiled: one row after the other.
    fn rows(&self, program: &Program, problem: usize) -> (Vec<Vec<f32>>, Vec<f64>) {
        let engine = cpu();
        let width = self.width();
        let (mut rows, mut costs) = (Vec::new(), Vec::new());
        self.on(|of| {
            let nominal = &of.nominal[problem * width..][..width];
            let std_scale = if of.std_scale.is_empty() { &[] } else { &of.std_scale[problem * width..][..width] };
            let of = Problem { nominal, std_scale, ..*of };
            for first in (0..self.pass.rows as usize).step_by(TILE) {
                let (mut tile, mut scores) = (vec![f32::NAN; TILE * width], vec![f32::NAN; 3 * TILE]);
                program.rollout.tile(
                    engine.isa(),
                    crate::kernels::score::rollout::Tile {
                        pass: &self.pass,
                        problem: &of,
                        number: problem as u32,
                        first,
                        rows: &mut tile,
                        scores: &mut scores,
                        scratch: &mut vec![CacheLine::ZERO; program.rollout.scratch(&self.pass)],
                    },
                );
                for lane in 0..TILE.min(self.pass.rows as usize - first) {
                    rows.push((0..width).map(|d| tile[d * TILE + lane]).collect());
                    costs.push(f64::from(scores[lane]) + f64::from(scores[TILE + lane]));
                }
            }
        });
        (rows, costs)
    }
}

fn cpu() -> Engine {
    Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() }).expect("there is a CPU")
}

fn program(policy: impl Policy<2, 1>, scheme: PolicyRows) -> Program {
    Program::for_policy::<2, 1, _, _>(&Arc::new(Mass), &Arc::new(policy), scheme, Default::default(), false)
        .expect("it traces")
}

/// The cost of an episode of [`Mass`] in f64, its control a function of time step and state.
fn episode(start: &[f32], limited: bool, mut control: impl FnMut(usize, [f64; 2]) -> f64) -> f64 {
    let [p, v, damping, stiffness] = [0, 1, 2, 3].map(|i| f64::from(start[i]));
    let [mut p, mut v, dt] = [p, v, f64::from(DT)];
    let mut cost = 0.0;
    for t in 0..HORIZON {
        if p.abs() > 2.0 {
            break;
        }
        let u = control(t, [p, v]);
        let u = if limited { u.clamp(f64::from(LIMITS[0]), f64::from(LIMITS[1])) } else { u };
        (p, v) = (p + v * dt, v + (u - v * damping - p * stiffness) * dt);
        cost += (p - f64::from(REFERENCES[t.min(1)])).powi(2) + v * v * 0.1 + u * u * 0.01;
    }
    cost + (p * p + v * v) * 3.0
}

#[track_caller]
fn close(got: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((got - expected).abs() <= tolerance * (1.0 + expected.abs()), "{what}: {got} but {expected}");
}

fn linear(row: &[f32]) -> impl Fn(usize, [f64; 2]) -> f64 {
    move |_, [p, v]| f64::from(row[0]) * p + f64::from(row[1]) * v + f64::from(row[2])
}

#[test]
fn a_linear_policy_on_a_linear_system_is_a_plain_rollout() {
    let program = program(LinearFeedback, PolicyRows::ParameterSpace);
    for (flags, episodes) in [(0, 1), (0, 5), (LIMITED, 3)] {
        let task = Task::new(100, 3, episodes, 3, PERTURBED | flags);
        for problem in 0..3 {
            let (rows, costs) = task.rows(&program, problem);
            assert_eq!(rows.len(), 100);
            for (row, cost) in rows.iter().zip(costs) {
                let of = |e| episode(task.start(problem, episodes, e), flags == LIMITED, linear(row));
                let mean = (0..episodes).map(of).sum::<f64>() / episodes as f64;
                close(cost, mean, 1e-5, &format!("{episodes} episodes, problem {problem}"));
            }
        }
    }
}

#[test]
fn episodes_side_by_side_cost_what_each_costs_alone() {
    // The parameters of the rows of two registers exceed the L1 cache: those of a network, and a table.
    let network = Mlp::<5, 1, _>::observing(Features, &[24, 16], Activation::Tanh).expect("valid");
    let table = TimeVaryingFeedback { horizon: 190 };
    let programs = [
        (Policy::<2, 1>::parameters(&network), program(network, PolicyRows::ParameterSpace)),
        (Policy::<2, 1>::parameters(&table), program(table, PolicyRows::ParameterSpace)),
    ];
    // Eight, four and two of a row, one that is left over, and rows that fill no register.
    for (parameters, program) in programs {
        for (rows, episodes) in [(75, 2), (71, 15)] {
            let task = Task::new(rows, 1, episodes, parameters, PERTURBED);
            let mut sums = vec![0.0; rows];
            for episode in 0..episodes {
                let mut alone = Task::new(rows, 1, episodes, parameters, PERTURBED);
                (alone.pass.episodes, alone.pass.starts) = (1, task.pass.starts + (episode * ENTRY) as u32);
                sums.iter_mut().zip(alone.rows(&program, 0).1).for_each(|(sum, cost)| *sum += cost);
            }
            for (sum, found) in sums.into_iter().zip(task.rows(&program, 0).1) {
                close(found, sum / episodes as f64, 3e-7, &format!("{episodes} episodes"));
            }
        }
    }
}

#[test]
fn parameters_are_drawn_around_the_nominal_as_rows_of_a_plan_are() {
    let program = program(LinearFeedback, PolicyRows::ParameterSpace);
    for flags in [0, STD_SCALE, ANTITHETIC, NOMINAL_FIRST | STD_SCALE] {
        let task = Task::new(70, 2, 1, 3, PERTURBED | flags);
        let (rows, _) = task.rows(&program, 1);
        for (k, row) in rows.iter().enumerate() {
            let antithetic = task.pass.has(ANTITHETIC);
            let drawn = if antithetic { k / 2 } else { k };
            let words = [drawn as u32, 0, task.pass.number, 1];
            let z = crate::lang::normal::box_muller_at(words, task.pass.seed);
            for d in 0..3 {
                let std_scale = if task.pass.has(STD_SCALE) { task.std_scale[3 + d] } else { 1.0 };
                let sign = if antithetic && k % 2 == 1 { -1.0 } else { 1.0 };
                let still = task.pass.has(NOMINAL_FIRST) && k == 0;
                let noise = if still { 0.0 } else { sign * task.pass.scale * std_scale * z[d] };
                close(f64::from(row[d]), f64::from(task.nominal[3 + d] + noise), 1e-6, &format!("row {k}"));
            }
        }
    }
}

#[test]
fn antithetic_rows_mirror_each_other() {
    let program = program(LinearFeedback, PolicyRows::ParameterSpace);
    let task = Task::new(66, 1, 1, 3, PERTURBED | ANTITHETIC);
    let (rows, _) = task.rows(&program, 0);
    for pair in rows.chunks_exact(2) {
        for d in 0..3 {
            close(f64::from(pair[0][d] + pair[1][d]), f64::from(2.0 * task.nominal[d]), 1e-6, "their mean");
            assert!(pair[0][d] != pair[1][d]);
        }
    }
}

/// The standard normal that perturbs the action of row `k` at time `t` of a problem.
fn action_noise(task: &Task, problem: usize, k: usize, t: usize) -> f64 {
    let antithetic = task.pass.has(ANTITHETIC);
    let drawn = if antithetic { k / 2 } else { k };
    let counter = [drawn as u32, (t / 4) as u32, task.pass.number, (1 << 25) | problem as u32];
    let z = crate::lang::normal::box_muller_at(counter, task.pass.seed)[t % 4];
    f64::from(if antithetic && k % 2 == 1 { -z } else { z })
}

#[test]
fn score_rows_of_an_open_loop_are_precision_times_noise() {
    let program = program(OpenLoop { horizon: HORIZON }, PolicyRows::ScoreFunction);
    for flags in [0, ANTITHETIC, LIMITED] {
        let task = Task::new(90, 2, 1, HORIZON + 1, SCORED | flags);
        let (rows, costs) = task.rows(&program, 1);
        let nominal = &task.nominal[HORIZON + 1..];
        let deviation = f64::from(nominal[HORIZON]).exp();
        for (k, (row, cost)) in rows.iter().zip(costs).enumerate() {
            let start = task.start(1, 90, k);
            let z = |t: usize| action_noise(&task, 1, k, t);
            let mut steps = 0;
            let expected = episode(start, flags == LIMITED, |t, _| {
                steps = t + 1;
                f64::from(nominal[t]) + deviation * z(t)
            });
            close(cost, expected, 1e-5, &format!("the cost of row {k}"));
            // Σ⁻¹ε, and 0 after the episode has ended.
            for t in 0..HORIZON {
                let expected = if t < steps { z(t) / deviation } else { 0.0 };
                close(f64::from(row[t]), expected, 1e-5, &format!("row {k}, time {t}"));
            }
            let by_deviation = (0..steps).map(|t| z(t) * z(t) - 1.0).sum();
            close(f64::from(row[HORIZON]), by_deviation, 1e-5, &format!("row {k}, by the deviation"));
        }
        assert!((0..90).any(|k| task.start(1, 90, k)[0].abs() > 2.0), "some episodes end before they begin");
    }
}

#[test]
fn score_rows_of_feedback_are_the_derivative_of_the_likelihood() {
    let program = program(LinearFeedback, PolicyRows::ScoreFunction);
    let task = Task::new(30, 1, 1, 4, SCORED);
    let (rows, costs) = task.rows(&program, 0);
    let deviation = f64::from(task.nominal[3]).exp();
    for (k, (row, cost)) in rows.iter().zip(costs).enumerate() {
        let mut expected = [0.0; 3];
        let mean = linear(&task.nominal);
        let total = episode(task.start(0, 30, k), false, |t, x| {
            let z = action_noise(&task, 0, k, t);
            for (sum, by) in expected.iter_mut().zip([x[0], x[1], 1.0]) {
                *sum += z / deviation * by;
            }
            mean(t, x) + deviation * z
        });
        close(cost, total, 1e-5, "the cost");
        for (got, expected) in row.iter().zip(expected) {
            close(f64::from(*got), expected, 2e-5, &format!("row {k}"));
        }
    }
}

/// The sum of two networks, of which the first is evaluated at two points.
#[derive(Clone)]
struct Networks([Network; 2]);

impl Policy<2, 1> for Networks {
    fn parameters(&self) -> usize {
        self.0[1].end()
    }
    #[inline(always)]
    fn act<R: Real>(&self, _: &StepContext<R>, theta: &Params<R>, [p, v]: [R; 2]) -> [R; 1] {
        let [a] = theta.network(&self.0[0], [p, v]);
        let [b] = theta.network(&self.0[1], [p, v]);
        let [c] = theta.network(&self.0[0], [v, p]);
        [a + b + c]
    }
    #[inline(always)]
    fn vjp<R: Real>(
        &self,
        _: &StepContext<R>,
        theta: &Params<R>,
        [p, v]: [R; 2],
        by: [R; 1],
        g: &mut GradientAccumulator<R>,
    ) -> [R; 1] {
        let [a] = g.network(theta, &self.0[0], [p, v], by);
        let [b] = g.network(theta, &self.0[1], [p, v], by);
        let [c] = g.network(theta, &self.0[0], [v, p], by);
        [a + b + c]
    }
    fn initial(&self, _: &mut crate::lang::random::Random) -> Vec<f32> {
        vec![0.0; self.0[1].end()]
    }
}

#[test]
fn score_rows_of_networks_are_their_derivatives_along_the_episode() {
    let first = Network::new(0, &[2, 6, 5, 1], Activation::Tanh).and_then(|n| n.squashed(&[-1.0], &[1.0]));
    let first = first.expect("valid");
    let second = Network::new(first.end(), &[2, 7, 1], Activation::Gelu).expect("valid");
    let policy = || Networks([first.clone(), second.clone()]);
    let parameters = Policy::<2, 1>::parameters(&policy());
    let program = program(policy(), PolicyRows::ScoreFunction);
    let task = Task::new(20, 1, 1, parameters + 1, SCORED);
    let (rows, costs) = task.rows(&program, 0);
    let (theta, deviation) = (&task.nominal[..parameters], f64::from(task.nominal[parameters]).exp());
    for (k, (row, cost)) in rows.iter().zip(costs).enumerate() {
        let mut sums = vec![0.0; parameters];
        let total = episode(task.start(0, 20, k), false, |t, x| {
            let z = action_noise(&task, 0, k, t);
            let v = [(z / deviation) as f32];
            let mut g = GradientAccumulator::new(&mut sums);
            let x = x.map(|x| x as f32);
            let [u] = policy().vjp(&StepContext::new(t, DT), &Params::new(theta), x, v, &mut g);
            f64::from(u) + deviation * z
        });
        close(cost, total, 1e-5, "the cost");
        for (got, expected) in row.iter().zip(&sums) {
            close(f64::from(*got), f64::from(*expected), 1e-4, &format!("row {k}"));
        }
    }
}

/// [`LinearFeedback`] with derivatives by dual numbers.
#[derive(Clone, Copy)]
struct Plain;

impl Policy<2, 1> for Plain {
    fn parameters(&self) -> usize {
        3
    }
    #[inline(always)]
    fn act<R: Real>(&self, _: &StepContext<R>, theta: &Params<R>, [p, v]: [R; 2]) -> [R; 1] {
        let sum = theta.get(0).mul_add(p, theta.get(2));
        [theta.get(1).mul_add(v, sum)]
    }
    fn initial(&self, _: &mut crate::lang::random::Random) -> Vec<f32> {
        vec![0.0; 3]
    }
}

#[test]
fn dual_numbers_give_the_same_score_rows() {
    let task = Task::new(30, 1, 1, 4, SCORED);
    let (rows, costs) = task.rows(&program(LinearFeedback, PolicyRows::ScoreFunction), 0);
    let (others, other_costs) = task.rows(&program(Plain, PolicyRows::ScoreFunction), 0);
    for (row, other) in rows.iter().zip(&others) {
        for (a, b) in row.iter().zip(other) {
            close(f64::from(*a), f64::from(*b), 1e-6, "a score");
        }
    }
    for (a, b) in costs.iter().zip(other_costs) {
        close(*a, b, 1e-6, "a cost");
    }
}

/// A policy whose declared sizes are set by the test.
struct Claims {
    parameters: usize,
    reads: usize,
}

impl Policy<2, 1> for Claims {
    fn parameters(&self) -> usize {
        self.parameters
    }
    #[inline(always)]
    fn act<R: Real>(&self, _: &StepContext<R>, theta: &Params<R>, _: [R; 2]) -> [R; 1] {
        [theta.get(self.reads)]
    }
    fn initial(&self, _: &mut crate::lang::random::Random) -> Vec<f32> {
        vec![0.0; self.parameters]
    }
}

#[test]
fn policies_that_cannot_be_trained_are_refused() {
    let build = |parameters, reads, scheme| {
        let policy = Arc::new(Claims { parameters, reads });
        Program::for_policy::<2, 1, _, _>(&Arc::new(Mass), &policy, scheme, Default::default(), false).map(|_| ())
    };
    assert!(matches!(build(0, 0, PolicyRows::ParameterSpace), Err(BuildError::Invalid(e)) if e.field == "policy"));
    let missing = ModelError::NoSuchParameter { index: 3, parameters: 3 };
    assert_eq!(build(3, 3, PolicyRows::ParameterSpace), Err(BuildError::Model(missing)));
    assert_eq!(build(65, 3, PolicyRows::ParameterSpace), Ok(()));
    assert_eq!(build(64, 3, PolicyRows::ScoreFunction), Ok(()));
    let refused = ModelError::NoVjp { parameters: 65, limit: 64 };
    assert_eq!(build(65, 3, PolicyRows::ScoreFunction), Err(BuildError::Model(refused)));
}

#[test]
fn updates_of_a_policy_average_its_rows() {
    // Σ w r and Σ w r² of every problem, computed from the rows and costs in the tiles.
    for (scheme, flag) in [(PolicyRows::ParameterSpace, PERTURBED), (PolicyRows::ScoreFunction, SCORED)] {
        let program = program(TimeVaryingFeedback { horizon: HORIZON }, scheme);
        let width = HORIZON * 3 + usize::from(flag == SCORED);
        let task = Task::new(200, 3, if flag == SCORED { 1 } else { 2 }, width, flag | SECOND_MOMENT);
        let mut workspace = cpu().workspace();
        let (nominal, second) = task.on(|problem| {
            let done = workspace.run(&program, &[task.pass], problem).expect("it runs");
            (done.nominal.to_vec(), done.second.to_vec())
        });
        assert_eq!((nominal.len(), second.len()), (3 * width, 3 * width));
        for problem in 0..3 {
            let (rows, costs) = task.rows(&program, problem);
            let best = costs.iter().copied().fold(f64::INFINITY, f64::min);
            let weights: Vec<f64> = costs.iter().map(|cost| ((best - cost) / 0.7).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for d in 0..width {
                let at = problem * width + d;
                let about = if flag == SCORED { 0.0 } else { f64::from(task.nominal[at]) };
                let (mut mean, mut square) = (0.0, 0.0);
                for (row, w) in rows.iter().zip(&weights) {
                    let r = f64::from(row[d]);
                    (mean, square) = (mean + w * r / sum, square + w * (r - about) * (r - about) / sum);
                }
                close(f64::from(nominal[at]), mean, 1e-4, "the mean");
                close(f64::from(second[at]), square, 1e-3, "the second moment");
            }
        }
    }
}

/// Compares the CPU backend with the GPU backend.
#[cfg(feature = "gpu")]
mod parity {
    use super::*;
    use crate::error::EngineError;
    use crate::runtime::{Fetched, Tuning};

    struct Outcome {
        nominal: Vec<f32>,
        second: Vec<f32>,
        sums: Vec<Sums>,
        fetched: Fetched,
    }

    fn run(
        engine: &Engine,
        task: &Task,
        policy: &(impl Policy<2, 1> + Clone),
        scheme: PolicyRows,
        passes: u32,
    ) -> Outcome {
        let (model, policy) = (Arc::new(Mass), Arc::new(policy.clone()));
        let program = Program::for_policy::<2, 1, _, _>(
            &model,
            &policy,
            scheme,
            engine.options().math,
            engine.gpu().is_some_and(|device| device.software()),
        );
        let mut workspace = engine.workspace();
        let passes: Vec<_> = (0..passes).map(|i| Pass { number: task.pass.number + i, ..task.pass }).collect();
        task.on(|problem| {
            let program = program.expect("it traces");
            let done = workspace.run(&program, &passes, problem).expect("it runs");
            let (nominal, second, sums) = (done.nominal.to_vec(), done.second.to_vec(), done.sums.to_vec());
            Outcome { nominal, second, sums, fetched: workspace.fetch(&program, problem, 0).expect("there are rows") }
        })
    }

    fn compare(name: &str, task: &Task, policy: impl Policy<2, 1> + Clone, scheme: PolicyRows, passes: u32) {
        compare_tuned(Tuning::Auto, name, task, policy, scheme, passes);
    }

    fn compare_tuned(
        tuning: Tuning,
        name: &str,
        task: &Task,
        policy: impl Policy<2, 1> + Clone,
        scheme: PolicyRows,
        passes: u32,
    ) {
        // The machine may be busy with other tests, so the limit is generous.
        let timeout = std::time::Duration::from_secs(60);
        let options = EngineOptions { backend: Backend::Software, tuning, timeout, ..Default::default() };
        let gpu = match Engine::with_options(options) {
            Ok(engine) => engine,
            Err(error) => {
                assert!(std::env::var_os("GIBBS_REQUIRE_GPU").is_none(), "no adapter: {error}");
                eprintln!("SKIPPED: {error}");
                return;
            }
        };
        let (here, there) = [&cpu(), &gpu].map(|engine| run(engine, task, &policy, scheme, passes)).into();
        let near = |what: &str, a: &[f32], b: &[f32], tolerance: f32| {
            assert_eq!(a.len(), b.len(), "{name}: {what}");
            let largest = a.iter().fold(1.0_f32, |largest, a| largest.max(a.abs()));
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                let off = (a - b).abs();
                assert!(off <= tolerance * largest, "{name}: {what} {i}: {a} on the CPU, {b} on the GPU");
            }
        };
        let rows = task.pass.rows as usize;
        for k in 0..rows {
            let of = |f: &Fetched| -> Vec<f32> { (0..task.width()).map(|d| f.rows[task.pass.address(k, d)]).collect() };
            near("row", &of(&here.fetched), &of(&there.fetched), 1e-4);
            let score = k / TILE * 3 * TILE + k % TILE;
            near("cost", &here.fetched.scores[score..=score], &there.fetched.scores[score..=score], 1e-4);
        }
        near("mean", &here.nominal, &there.nominal, 5e-4);
        near("second moment", &here.second, &there.second, 5e-4);
        for (a, b) in here.sums.iter().zip(&there.sums) {
            assert_eq!(a.valid, b.valid, "{name}");
            near("sums", &[a.sum, a.squares, a.temperature, a.mean], &[b.sum, b.squares, b.temperature, b.mean], 1e-3);
        }
        assert!(
            here.sums.len() == task.pass.problems as usize && here.second.is_empty() != task.pass.has(SECOND_MOMENT)
        );
    }

    #[derive(Clone, Copy)]
    struct Seen;

    impl Observation<2, 5> for Seen {
        #[inline(always)]
        fn observe<R: Real>(&self, at: &StepContext<R>, x: [R; 2]) -> [R; 5] {
            Features.observe(at, x)
        }
    }

    fn mlp() -> Mlp<5, 1, Seen> {
        Mlp::observing(Seen, &[64], Activation::Tanh).and_then(|p| p.squashed([-1.0], [1.5])).expect("valid")
    }

    #[test]
    fn perturbed_networks_agree() {
        let width = Policy::<2, 1>::parameters(&mlp());
        for flags in [0, LIMITED | ANTITHETIC | NOMINAL_FIRST | SECOND_MOMENT, STD_SCALE | SIGNED] {
            let mut task = Task::new(150, 3, 4, width, PERTURBED | flags);
            task.pass.scale = 0.2;
            compare(&format!("flags {flags}"), &task, mlp(), PolicyRows::ParameterSpace, 1);
            compare(&format!("flags {flags}, twice"), &task, mlp(), PolicyRows::ParameterSpace, 2);
        }
    }

    #[test]
    fn scored_networks_agree() {
        let width = Policy::<2, 1>::parameters(&mlp()) + 1;
        for flags in [0, LIMITED | ANTITHETIC | SECOND_MOMENT, SIGNED] {
            let task = Task::new(150, 3, 1, width, SCORED | flags);
            compare(&format!("flags {flags}"), &task, mlp(), PolicyRows::ScoreFunction, 1);
        }
        let relu = Mlp::<2, 1>::new(&[9, 7], Activation::Relu).and_then(|p| p.clipped([-0.3], [0.4])).expect("valid");
        let task = Task::new(70, 2, 1, Policy::<2, 1>::parameters(&relu) + 1, SCORED);
        compare("two layers of ReLU", &task, relu, PolicyRows::ScoreFunction, 1);
        for activation in [Activation::Gelu, Activation::Sin] {
            let network = Mlp::<2, 1>::new(&[9, 7], activation).expect("valid");
            compare(&format!("two layers of {activation:?}"), &task, network, PolicyRows::ScoreFunction, 1);
        }
    }

    /// Kernels for a GPU compute several units of a layer at once, and those that remain one at a time.
    #[test]
    fn networks_agree_in_kernels_for_a_gpu() {
        let compare = |name, policy: Mlp<5, 1, Seen>, scheme, episodes, flag| {
            let width = Policy::<2, 1>::parameters(&policy) + usize::from(flag == SCORED);
            let task = Task::new(70, 2, episodes, width, flag | LIMITED);
            compare_tuned(Tuning::Gpu, name, &task, policy, scheme, 1);
        };
        let two = || Mlp::observing(Seen, &[13, 10], Activation::Tanh).expect("valid");
        compare("perturbed", two(), PolicyRows::ParameterSpace, 5, PERTURBED);
        compare("scored", two(), PolicyRows::ScoreFunction, 1, SCORED);
        let one = Mlp::observing(Seen, &[9], Activation::Sin).expect("valid");
        compare("one layer", one, PolicyRows::ScoreFunction, 1, SCORED);
    }

    /// Mesa's software adapters silently end the loops of an invocation after 65,535 iterations; this many steps of a
    /// network take more.
    #[test]
    fn long_episodes_agree() {
        let long = |mut task: Task, horizon: u32| {
            (task.pass.horizon, task.pass.dt, task.pass.scale) = (horizon, 0.01, 0.05);
            task
        };
        let width = Policy::<2, 1>::parameters(&mlp());
        for flags in [LIMITED, ANTITHETIC] {
            // Three episodes are a pair and another.
            let episodes = if flags == LIMITED { 3 } else { 1 };
            let task = long(Task::new(70, 1, episodes, width, PERTURBED | flags), 1100);
            compare(&format!("flags {flags}"), &task, mlp(), PolicyRows::ParameterSpace, 2);
        }
        let deep = Mlp::<2, 1>::new(&[24, 24], Activation::Tanh).expect("valid");
        let task = long(Task::new(70, 1, 1, Policy::<2, 1>::parameters(&deep) + 1, SCORED), 150);
        compare("derivatives of two layers", &task, deep, PolicyRows::ScoreFunction, 1);
    }

    #[test]
    fn a_network_too_large_for_a_software_adapter_is_refused() {
        let large = Mlp::<2, 1>::new(&[200, 200], Activation::Tanh).expect("valid");
        let task = Task::new(10, 1, 1, Policy::<2, 1>::parameters(&large), PERTURBED);
        let program = program(large, PolicyRows::ParameterSpace);
        // The network is refused with either tuning.
        for tuning in [Tuning::Auto, Tuning::Gpu] {
            let options = EngineOptions { backend: Backend::Software, tuning, ..Default::default() };
            let Ok(gpu) = Engine::with_options(options) else {
                assert!(std::env::var_os("GIBBS_REQUIRE_GPU").is_none(), "no adapter");
                eprintln!("SKIPPED: no software adapter");
                return;
            };
            let refused = task.on(|problem| gpu.workspace().prepare(&program, &[task.pass], problem));
            let Err(BuildError::Engine(EngineError::OverLimit { requested, limit, .. })) = refused else {
                panic!("{refused:?}")
            };
            assert!(requested > limit, "{requested} is within {limit}");
        }
    }

    #[test]
    fn feedback_and_sequences_agree() {
        for (scheme, flag, more) in [(PolicyRows::ParameterSpace, PERTURBED, 0), (PolicyRows::ScoreFunction, SCORED, 1)]
        {
            let episodes = if more == 1 { 1 } else { 3 };
            let task = |width| Task::new(130, 2, episodes, width + more, flag | SECOND_MOMENT);
            compare("open loop", &task(HORIZON), OpenLoop { horizon: HORIZON }, scheme, 1);
            compare("feedback", &task(3), LinearFeedback, scheme, 1);
            let varying = TimeVaryingFeedback { horizon: 5 };
            compare("time-varying feedback", &task(15), varying, scheme, 1);
            compare("by dual numbers", &task(3), Plain, scheme, 1);
        }
    }
}
