//! Controllers in the loop with their own model. Each task has a criterion that the controller meets and a constant
//! control fails.

mod common;

use std::f32::consts::{FRAC_PI_2, PI};

use common::{cpu, engines, gpu};
use gibbs::models::{CartPole, DoubleIntegrator, Pendulum, PlanarQuadrotor, Quadrotor, Unicycle};
use gibbs::{Engine, Grid, Limits, Model, Mppi, MppiOptions, Noise, Real, StepContext, Task, Temperature, Weighting};

/// Returns the states of a closed-loop run, beginning with the initial state.
fn drive<const N: usize, const M: usize, D: Model<N, M> + Clone>(
    engine: &Engine,
    model: D,
    options: MppiOptions<M>,
    start: [f32; N],
    steps: usize,
) -> Vec<[f32; N]> {
    let dt = options.task.dt;
    let mut mppi = Mppi::new(engine, model.clone(), options).unwrap();
    let mut path = vec![start];
    for _ in 0..steps {
        let x = path[path.len() - 1];
        let u = mppi.plan(&x).unwrap().controls()[0];
        path.push(model.step(&StepContext::new(0, dt), x, u));
        mppi.shift(1);
    }
    path
}

/// Returns the states under a constant control.
fn idle<const N: usize, const M: usize>(
    model: &impl Model<N, M>,
    u: [f32; M],
    dt: f32,
    start: [f32; N],
    steps: usize,
) -> Vec<[f32; N]> {
    let next = |x: &[f32; N]| Some(model.step(&StepContext::new(0, dt), *x, u));
    std::iter::successors(Some(start), next).take(steps + 1).collect()
}

/// Whether a criterion holds over the last `n` states.
fn at_last<const N: usize>(path: &[[f32; N]], n: usize, holds: impl Fn(&[f32; N]) -> bool) -> bool {
    path[path.len() - n..].iter().all(holds)
}

fn upright([angle, rate]: &[f32; 2]) -> bool {
    angle.wrap_angle().abs() < 0.15 && rate.abs() < 0.6
}

#[test]
fn a_pendulum_swings_up_and_stays_up() {
    let options = MppiOptions {
        task: Task { horizon: 30, dt: 0.05, limits: Some(Limits { low: [-2.0], high: [2.0] }), ..Default::default() },
        samples: 512,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.1)),
        noise: Noise::Diagonal([1.5]),
        ..Default::default()
    };
    for engine in engines() {
        for start in [[PI, 0.0], [2.5, -1.0]] {
            let path = drive(&engine, Pendulum::default(), options.clone(), start, 160);
            assert!(at_last(&path, 40, upright), "on {}: {:?}", engine.name(), &path[120..]);
            assert!(!at_last(&idle(&Pendulum::default(), [0.0], 0.05, start, 160), 40, upright));
        }
    }
}

fn cart_pole_options() -> MppiOptions<1> {
    MppiOptions {
        task: Task { horizon: 60, dt: 0.02, limits: Some(Limits { low: [-20.0], high: [20.0] }), ..Default::default() },
        samples: 512,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.1)),
        noise: Noise::Diagonal([6.0]),
        ..Default::default()
    }
}

fn balanced([x, speed, angle, rate]: &[f32; 4]) -> bool {
    x.abs() < 0.6 && speed.abs() < 1.0 && (angle - PI).wrap_angle().abs() < 0.2 && rate.abs() < 1.5
}

#[test]
fn a_cart_pole_balances() {
    let start = [0.3, 0.0, PI - 0.25, 0.2];
    let path = drive(&cpu(), CartPole::default(), cart_pole_options(), start, 200);
    assert!(at_last(&path, 80, balanced), "{:?}", &path[120..]);
    assert!(!at_last(&idle(&CartPole::default(), [0.0], 0.02, start, 200), 80, balanced));
}

#[test]
fn a_cart_pole_swings_up_and_balances() {
    let path = drive(&cpu(), CartPole::default(), cart_pole_options(), [0.0; 4], 350);
    assert!(at_last(&path, 80, balanced), "{:?}", &path[270..]);
    assert!(!at_last(&idle(&CartPole::default(), [0.0], 0.02, [0.0; 4], 350), 80, balanced));
}

#[test]
fn a_double_integrator_comes_to_rest_at_the_goal() {
    let options = MppiOptions {
        task: Task {
            horizon: 25,
            dt: 0.1,
            limits: Some(Limits { low: [-2.0; 2], high: [2.0; 2] }),
            ..Default::default()
        },
        samples: 512,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.05)),
        noise: Noise::Diagonal([1.0, 1.0]),
        ..Default::default()
    };
    let resting = |[x, y, v, w]: &[f32; 4]| x.hypot(*y) < 0.25 && v.hypot(*w) < 0.4;
    let start = [3.0, -2.0, 0.0, 0.5];
    let path = drive(&cpu(), DoubleIntegrator::default(), options, start, 100);
    assert!(at_last(&path, 20, resting), "{:?}", &path[80..]);
    assert!(!at_last(&idle(&DoubleIntegrator::default(), [0.0; 2], 0.1, start, 100), 20, resting));
}

fn parking_options() -> MppiOptions<2> {
    MppiOptions {
        task: Task {
            horizon: 25,
            dt: 0.1,
            limits: Some(Limits { low: [-0.5, -1.5], high: [1.0, 1.5] }),
            ..Default::default()
        },
        samples: 512,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.05)),
        noise: Noise::Diagonal([0.5, 1.0]),
        ..Default::default()
    }
}

#[test]
fn a_unicycle_parks_at_the_goal() {
    let options = parking_options();
    let parked = |[x, y, _]: &[f32; 3]| x.hypot(*y) < 0.2;
    let Some(gpu) = gpu() else {
        park(&cpu(), &options, parked);
        return;
    };
    park(&cpu(), &options, parked);
    park(&gpu, &options, parked);
}

fn park(engine: &Engine, options: &MppiOptions<2>, parked: impl Fn(&[f32; 3]) -> bool) {
    let start = [-2.0, 1.5, FRAC_PI_2];
    let path = drive(engine, Unicycle::default(), options.clone(), start, 100);
    assert!(at_last(&path, 15, &parked), "on {}: {:?}", engine.name(), &path[85..]);
    assert!(!at_last(&idle(&Unicycle::default(), [0.0; 2], 0.1, start, 100), 15, &parked));
}

/// Runs one drive twice: relative to the goal, and in coordinates whose origin is `offset` away (m); see the docs of
/// `Model`.
#[test]
fn far_from_the_origin_a_unicycle_cannot_even_move() {
    let drive_at = |offset: f32| {
        let mut model = Unicycle::default();
        model.cost.target = [offset, offset, 0.0];
        let path = drive(&cpu(), model, parking_options(), [offset - 2.0, offset + 1.5, 0.0], 100);
        path.iter().map(|[x, y, _]| [x - offset, y - offset]).collect::<Vec<_>>()
    };
    assert!(drive_at(0.0)[85..].iter().all(|[x, y]| x.hypot(*y) < 0.2));
    // 1 m/s for 0.1 s is less than half the distance between neighboring numbers.
    assert!(drive_at(3.9e6).iter().all(|position| *position == [-2.0, 1.5]));
}

#[test]
fn far_from_the_origin_a_grid_is_looked_up_to_whole_cells() {
    const CELL: f32 = 0.03;
    let values: Vec<f32> = (0..100 * 100).map(|n| ((n % 100) as f32 + 0.5) * CELL).collect();
    let worst = |offset: f32| {
        let grid = Grid::new(100, 100, CELL, [offset, 0.0], values.clone()).unwrap();
        // All of these positions are exact, also far from the origin.
        let error = |n: u16| (grid.sample(offset + f32::from(n) / 32.0, 1.5) - f32::from(n) / 32.0).abs();
        (2..=94).map(error).fold(0.0, f32::max)
    };
    assert!(worst(0.0) < 1e-5, "{}", worst(0.0));
    // Its cell coordinates have no fractional digits left.
    let far: Vec<f32> = (0..8).map(|i| worst(388_000.0 + i as f32 * 12.5)).collect();
    assert!(far.iter().all(|error| *error < CELL) && far.iter().any(|error| *error > 0.25 * CELL), "{far:?}");
}

#[test]
fn a_planar_quadrotor_flies_home() {
    let model = PlanarQuadrotor::default();
    let hover = model.hover();
    let options = MppiOptions {
        task: Task {
            horizon: 40,
            dt: 0.03,
            limits: Some(Limits { low: [0.0; 2], high: [2.5 * hover; 2] }),
            ..Default::default()
        },
        samples: 1024,
        iterations: 2,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.05)),
        noise: Noise::Diagonal([0.3, 0.3]),
        initial: [hover; 2],
        ..Default::default()
    };
    let home = |[x, y, angle, ..]: &[f32; 6]| x.hypot(*y) < 0.35 && angle.wrap_angle().abs() < 0.4;
    let start = [1.5, -1.0, 0.0, 0.0, 0.0, 0.0];
    let path = drive(&cpu(), model, options, start, 200);
    assert!(at_last(&path, 30, home), "{:?}", &path[170..]);
    assert!(!at_last(&idle(&model, [hover; 2], 0.03, start, 200), 30, home));
}

#[test]
fn a_quadrotor_flies_to_a_point_and_hovers() {
    let model = Quadrotor::default();
    let hover = model.hover();
    let options = MppiOptions {
        task: Task {
            horizon: 30,
            dt: 0.05,
            limits: Some(Limits { low: [-4.0, -4.0, -2.0, 0.0], high: [4.0, 4.0, 2.0, 2.0 * hover] }),
            ..Default::default()
        },
        samples: 1024,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.05)),
        noise: Noise::Diagonal([1.0, 1.0, 0.3, 2.0]),
        initial: [0.0, 0.0, 0.0, hover],
        ..Default::default()
    };
    let there = |x: &[f32; 13]| {
        let [position, velocity] = [&x[..3], &x[3..6]].map(|v| v.iter().map(|v| v * v).sum::<f32>().sqrt());
        position < 0.4 && velocity < 0.8
    };
    let mut start = Quadrotor::LEVEL;
    start[..3].copy_from_slice(&[1.5, -1.0, -1.0]);
    let path = drive(&cpu(), model, options, start, 150);
    assert!(at_last(&path, 30, there), "{:?}", &path[120..]);
    assert!(!at_last(&idle(&model, [0.0, 0.0, 0.0, hover], 0.05, start, 150), 30, there));
    assert!(!at_last(&idle(&model, [0.0; 4], 0.05, start, 150), 30, there));
}
