//! Compares the shipped models, in plain `f32`, with equations of motion derived independently here in f64 (from mass
//! matrices and rotations of vectors), and integrated by Runge–Kutta with small steps.

use std::f32::consts::PI;
use std::f64::consts::FRAC_PI_2;

use gibbs::models::*;
use gibbs::{Cost, Dynamics, Model, Real, StepContext, rk4};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Draws a vector uniformly from ±`size`.
fn draw<const N: usize>(rng: &mut StdRng, size: [f32; N]) -> [f32; N] {
    size.map(|s| rng.random_range(-s..=s))
}

fn wide<const N: usize>(x: [f32; N]) -> [f64; N] {
    x.map(f64::from)
}

fn largest<const N: usize>(a: [f64; N], b: [f64; N]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Runs `steps` steps of `model` over `duration` seconds under a constant control.
fn run<const N: usize, const M: usize>(
    model: &impl Model<N, M>,
    mut x: [f32; N],
    u: [f32; M],
    duration: f32,
    steps: usize,
) -> [f32; N] {
    for i in 0..steps {
        x = model.step(&StepContext::new(i, duration / steps as f32), x, u);
    }
    x
}

/// Integrates a right-hand side in f64, in steps so small that the result counts as exact.
fn exact<const N: usize>(rhs: &impl Fn([f64; N]) -> [f64; N], mut x: [f64; N], duration: f64) -> [f64; N] {
    const STEPS: usize = 400;
    let h = duration / STEPS as f64;
    let along = |x: [f64; N], k: [f64; N], h: f64| std::array::from_fn(|i| x[i] + h * k[i]);
    for _ in 0..STEPS {
        let k1 = rhs(x);
        let k2 = rhs(along(x, k1, h / 2.0));
        let k3 = rhs(along(x, k2, h / 2.0));
        let k4 = rhs(along(x, k3, h));
        x = std::array::from_fn(|i| x[i] + h / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]));
    }
    x
}

/// Asserts that the model converges to the right-hand side with its stated order: the root mean square error over
/// random states and controls, after half a second, must be within `bound` with 20 steps, and 2^order smaller with 40.
fn converges<const N: usize, const M: usize>(
    model: &impl Model<N, M>,
    rhs: impl Fn([f64; N], [f64; M]) -> [f64; N],
    [order, bound]: [f64; 2],
    state: impl Fn(&mut StdRng) -> [f32; N],
    control: [f32; M],
) {
    const DRAWS: usize = 200;
    const DURATION: f32 = 0.5;
    let mut rng = StdRng::seed_from_u64(7);
    let mut squares = [0.0; 2];
    for _ in 0..DRAWS {
        let (x, u) = (state(&mut rng), draw(&mut rng, control));
        let truth = exact(&|x| rhs(x, wide(u)), wide(x), f64::from(DURATION));
        for (sum, steps) in squares.iter_mut().zip([20, 40]) {
            *sum += largest(wide(run(model, x, u, DURATION, steps)), truth).powi(2);
        }
    }
    let [coarse, fine] = squares.map(|sum| (sum / DRAWS as f64).sqrt());
    let measured = (coarse / fine).log2();
    println!("error {coarse:.2e} with 20 steps, {fine:.2e} with 40: order {measured:.3}");
    assert!(coarse < bound, "an error of {coarse:.2e}, more than {bound:.0e}");
    assert!((measured - order).abs() < 0.1, "order {measured:.3} instead of {order}");
}

/// The cart-pole from its Lagrangian: a mass matrix and generalized forces.
fn cart_pole(m: &CartPole, [_, speed, angle, rate]: [f64; 4], force: f64) -> [f64; 4] {
    let [cart, pole, l, g] = wide([m.cart, m.pole, m.length, m.gravity]);
    let [[a, b], [_, d]] = [[cart + pole, pole * l * angle.cos()], [pole * l * angle.cos(), pole * l * l]];
    let [p, q] = [force + pole * l * rate * rate * angle.sin(), -pole * g * l * angle.sin()];
    let determinant = a * d - b * b;
    [speed, (d * p - b * q) / determinant, rate, (a * q - b * p) / determinant]
}

fn cart_pole_state(rng: &mut StdRng) -> [f32; 4] {
    draw(rng, [2.0, 3.0, 10.0, 6.0])
}

#[test]
fn cart_pole_follows_its_lagrangian() {
    for model in [CartPole::default(), CartPole { cart: 1.5, pole: 0.8, length: 0.8, ..CartPole::default() }] {
        converges(&model, |x, [u]| cart_pole(&model, x, u), [1.0, 0.5], cart_pole_state, [10.0]);
    }
}

#[test]
fn cart_pole_takes_its_speeds_first() {
    let (model, mut rng) = (CartPole::default(), StdRng::seed_from_u64(1));
    for _ in 0..1000 {
        let (x, u) = (cart_pole_state(&mut rng), draw(&mut rng, [10.0]));
        let (rate, dt) = (cart_pole(&model, wide(x), f64::from(u[0])), 0.02);
        let [p, v, angle, w] = wide(x);
        let (v, w) = (v + dt * rate[1], w + dt * rate[3]);
        let next = model.step(&StepContext::new(0, dt as f32), x, u);
        assert!(largest(wide(next), [p + dt * v, v, angle + dt * w, w]) < 1e-5, "{x:?} {u:?}");
    }
}

/// A model whose step is a Runge–Kutta step.
struct Rk4<F>(F);

impl<const N: usize, const M: usize, F: Dynamics<N, M> + Send + Sync + 'static> Model<N, M> for Rk4<F> {
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; N], u: [R; M]) -> [R; N] {
        rk4(&self.0, at, x, u)
    }
    fn cost<R: Real>(&self, _at: &StepContext<R>, _x: [R; N], _u: [R; M]) -> R {
        R::from(0.0)
    }
}

#[test]
fn flows_are_the_continuous_equations() {
    let mut rng = StdRng::seed_from_u64(2);
    let (cart, rod, drone) = (CartPole::default(), Pendulum::default(), PlanarQuadrotor::default());
    for _ in 0..200 {
        let (x, u) = (cart_pole_state(&mut rng), draw(&mut rng, [10.0]));
        let truth = exact(&|x| cart_pole(&cart, x, f64::from(u[0])), wide(x), 0.2);
        assert!(largest(wide(run(&Rk4(cart), x, u, 0.2, 20)), truth) < 1e-4, "{x:?} {u:?}");

        let (x, u) = (draw(&mut rng, [10.0, 6.0]), draw(&mut rng, [2.0]));
        let truth = exact(&|x| pendulum(&rod, x, f64::from(u[0])), wide(x), 0.2);
        assert!(largest(wide(run(&Rk4(rod), x, u, 0.2, 20)), truth) < 1e-4, "{x:?} {u:?}");

        let (x, u) = (planar_quadrotor_state(&mut rng), draw(&mut rng, [3.0, 3.0]));
        let truth = exact(&|x| planar_quadrotor(&drone, x, wide(u)), wide(x), 0.1);
        let end = run(&Rk4(drone), x, u, 0.1, 20);
        assert!(largest(wide(end), truth) < 1e-3, "{x:?} {u:?} {end:?} {truth:?}");
    }
}

#[test]
fn cart_pole_keeps_its_energy() {
    let m = CartPole::default();
    let energy = |x: [f32; 4]| {
        let [_, v, angle, w] = wide(x);
        let [cart, pole, l, g] = wide([m.cart, m.pole, m.length, m.gravity]);
        let tip = [v + l * w * angle.cos(), l * w * angle.sin()];
        let motion = 0.5 * cart * v * v + 0.5 * pole * (tip[0].powi(2) + tip[1].powi(2));
        motion + pole * g * l * (1.0 - angle.cos())
    };
    let start = [0.0, 0.5, 2.0, 1.0];
    let drift = energy(run(&m, start, [0.0], 10.0, 20_000)) - energy(start);
    println!("drift {drift:.2e} of {:.2e}", energy(start));
    assert!(drift.abs() < 5e-3 * energy(start));
}

/// The pendulum from its moment of inertia, without limits.
fn pendulum(m: &Pendulum, [angle, rate]: [f64; 2], torque: f64) -> [f64; 2] {
    let [mass, l, g] = wide([m.mass, m.length, m.gravity]);
    let inertia = mass * l * l / 3.0;
    [rate, (mass * g * (l / 2.0) * angle.sin() + torque) / inertia]
}

#[test]
fn pendulum_swings_as_a_rod_does() {
    let model = Pendulum { max_rate: 100.0, mass: 0.8, length: 1.2, ..Pendulum::default() };
    let state = |rng: &mut StdRng| draw(rng, [10.0, 6.0]);
    converges(&model, |x, [u]| pendulum(&model, x, u), [1.0, 0.2], state, [2.0]);
}

#[test]
fn pendulum_is_that_of_gymnasium() {
    let (model, at, mut rng) = (Pendulum::default(), StepContext::new(0, 0.05), StdRng::seed_from_u64(3));
    for _ in 0..1000 {
        let (x, u) = (draw(&mut rng, [20.0, 8.0]), draw(&mut rng, [4.0]));
        let ([angle, rate], torque) = (wide(x), f64::from(u[0]).clamp(-2.0, 2.0));
        let rate = (rate + (15.0 * angle.sin() + 3.0 * torque) * 0.05).clamp(-8.0, 8.0);
        let angle = angle + rate * 0.05;
        let next = model.step(&at, x, u);
        assert!(largest(wide(next), [angle, rate]) < 1e-5, "{x:?} {u:?}");

        let short = angle.sin().atan2(angle.cos());
        let cost = short * short + 0.1 * rate * rate + 0.001 * torque * torque;
        assert!((f64::from(model.cost(&at, next, u)) - cost).abs() < 1e-4, "{x:?} {u:?}");
    }
}

#[test]
fn pendulum_keeps_its_energy() {
    let m = Pendulum { max_rate: 100.0, ..Pendulum::default() };
    let energy = |x: [f32; 2]| {
        let [angle, rate] = wide(x);
        rate * rate / 6.0 + 5.0 * (1.0 + angle.cos())
    };
    let start = [1.0, 2.0];
    let drift = energy(run(&m, start, [0.0], 10.0, 20_000)) - energy(start);
    println!("drift {drift:.2e} of {:.2e}", energy(start));
    assert!(drift.abs() < 5e-3 * energy(start));
}

#[test]
fn double_integrator_is_exact() {
    let (model, mut rng) = (DoubleIntegrator::default(), StdRng::seed_from_u64(4));
    for _ in 0..1000 {
        let (x, u) = (draw(&mut rng, [3.0; 4]), draw(&mut rng, [5.0; 2]));
        let truth = exact(&|[_, _, vx, vy]| [vx, vy, f64::from(u[0]), f64::from(u[1])], wide(x), 0.5);
        assert!(largest(wide(run(&model, x, u, 0.5, 5)), truth) < 1e-5, "{x:?} {u:?}");
    }
}

/// The textbook equations.
fn unicycle([_, _, heading]: [f64; 3], speed: f64, rate: f64) -> [f64; 3] {
    [speed * heading.cos(), speed * heading.sin(), rate]
}

fn pose(rng: &mut StdRng) -> [f32; 3] {
    draw(rng, [3.0, 3.0, 10.0])
}

#[test]
fn unicycle_follows_its_equations() {
    converges(&Unicycle::default(), |x, [v, w]| unicycle(x, v, w), [2.0, 5e-3], pose, [2.0, 6.0]);
}

#[test]
fn unicycle_closes_a_circle() {
    // Radius v/ω = 2 m, a full turn in 60 steps; halfway it is on the opposite side.
    let model = Unicycle::default();
    let whole = 2.0 * PI / 0.5;
    let half = run(&model, [0.0; 3], [1.0, 0.5], whole / 2.0, 30);
    assert!(largest(wide(half), [0.0, 4.0, 2.0 * FRAC_PI_2]) < 4.0 * 0.105_f64.powi(2) / 24.0 + 1e-5, "{half:?}");
    let [x, y, _] = run(&model, [0.0; 3], [1.0, 0.5], whole, 60);
    assert!(x.abs() < 5e-5 && y.abs() < 5e-5, "({x}, {y})");
}

#[test]
fn differential_drive_is_the_motion_of_its_wheels() {
    // The wheels touch the ground ±L/2 to the side of the middle and move along the heading at r ω each.
    let model = DifferentialDrive { radius: 0.15, track: 0.35, ..DifferentialDrive::default() };
    let [r, track] = wide([model.radius, model.track]);
    let rhs = |[_, _, heading]: [f64; 3], [left, right]: [f64; 2]| {
        let (left, right) = (r * left, r * right);
        let middle = (left + right) / 2.0;
        [middle * heading.cos(), middle * heading.sin(), (right - left) / track]
    };
    converges(&model, rhs, [2.0, 5e-3], pose, [20.0, 20.0]);
}

#[test]
fn bicycle_follows_its_equations() {
    let model = Bicycle { wheelbase: 0.5, ..Bicycle::default() };
    let rhs = |[_, _, heading, speed]: [f64; 4], [acceleration, steering]: [f64; 2]| {
        [speed * heading.cos(), speed * heading.sin(), speed * steering.tan() / 0.5, acceleration]
    };
    converges(&model, rhs, [2.0, 5e-3], |rng| draw(rng, [3.0, 3.0, 10.0, 3.0]), [3.0, 0.5]);
}

#[test]
fn bicycle_drives_a_circle_of_radius_wheelbase_over_tangent() {
    // The center is one radius to the left of the rear axle, and stays there.
    let (model, steering) = (Bicycle::default(), 0.4_f32);
    let radius = model.wheelbase / steering.tan();
    for steps in 1..100 {
        let [x, y, ..] = run(&model, [0.0, 0.0, 0.0, 2.0], [0.0, steering], 0.05 * steps as f32, steps);
        assert!((x.hypot(y - radius) / radius - 1.0).abs() < 1e-4, "after {steps} steps");
    }
    let at = StepContext::new(0, 0.1);
    let stop = model.step(&at, [0.0, 0.0, 0.0, 2.0], [0.0, model.max_steering]);
    assert_eq!(model.step(&at, [0.0, 0.0, 0.0, 2.0], [0.0, 1.5]), stop, "the steering has a stop");
}

/// The planar quadrotor from the force and the moment of each rotor.
fn planar_quadrotor(m: &PlanarQuadrotor, x: [f64; 6], [right, left]: [f64; 2]) -> [f64; 6] {
    let [mass, inertia, arm, g] = wide([m.mass, m.inertia, m.arm, m.gravity]);
    let [_, _, pitch, vx, vy, rate] = x;
    let mut force = [0.0, -mass * g];
    let mut moment = 0.0;
    for (side, thrust) in [(arm, right), (-arm, left)] {
        let at = [side * pitch.cos(), side * pitch.sin()];
        let push = [thrust * (pitch + FRAC_PI_2).cos(), thrust * (pitch + FRAC_PI_2).sin()];
        force = [force[0] + push[0], force[1] + push[1]];
        moment += at[0] * push[1] - at[1] * push[0];
    }
    [vx, vy, rate, force[0] / mass, force[1] / mass, moment / inertia]
}

fn planar_quadrotor_state(rng: &mut StdRng) -> [f32; 6] {
    draw(rng, [2.0, 2.0, 10.0, 3.0, 3.0, 6.0])
}

#[test]
fn planar_quadrotor_follows_its_rotors() {
    let model = PlanarQuadrotor { inertia: 0.05, mass: 0.6, ..PlanarQuadrotor::default() };
    converges(&model, |x, u| planar_quadrotor(&model, x, u), [1.0, 0.5], planar_quadrotor_state, [3.0, 3.0]);
}

/// The Hamilton product.
fn product([a, b, c, d]: [f64; 4], [e, f, g, h]: [f64; 4]) -> [f64; 4] {
    [
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    ]
}

/// The quadrotor, its thrust turned into the world by q ⊗ (0, f) ⊗ q*.
fn quadrotor(m: &Quadrotor, x: [f64; 13], u: [f64; 4]) -> [f64; 13] {
    let [mass, g, lag] = wide([m.mass, m.gravity, m.lag]);
    let [_, _, _, vx, vy, vz, qw, qx, qy, qz, p, q, r] = x;
    let attitude = [qw, qx, qy, qz];
    let [_, fx, fy, fz] = product(product(attitude, [0.0, 0.0, 0.0, u[3]]), [qw, -qx, -qy, -qz]);
    let [dw, dx, dy, dz] = product(attitude, [0.0, p, q, r]).map(|d| d / 2.0);
    let lagged = [p, q, r].iter().zip(u).map(|(rate, command)| (command - rate) / lag).collect::<Vec<_>>();
    let [ax, ay, az] = [fx / mass, fy / mass, fz / mass - g];
    [vx, vy, vz, ax, ay, az, dw, dx, dy, dz, lagged[0], lagged[1], lagged[2]]
}

fn quadrotor_state(rng: &mut StdRng) -> [f32; 13] {
    let mut x = draw(rng, [2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0]);
    let norm = x[6..10].iter().map(|q| q * q).sum::<f32>().sqrt();
    x[6..10].iter_mut().for_each(|q| *q /= norm);
    x
}

#[test]
fn quadrotor_follows_its_equations() {
    // Starts near level and rotates by less than half a turn, so that the exact quaternion keeps w > 0 too.
    let model = Quadrotor { mass: 0.8, lag: 0.2, ..Quadrotor::default() };
    let state = |rng: &mut StdRng| {
        let mut x = quadrotor_state(rng);
        let tilt = draw(rng, [0.3; 3]);
        x[6] = (1.0 - tilt.iter().map(|q| q * q).sum::<f32>()).sqrt();
        x[7..10].copy_from_slice(&tilt);
        x
    };
    converges(&model, |x, u| quadrotor(&model, x, u), [2.0, 2e-2], state, [2.0, 2.0, 2.0, 15.0]);
}

#[test]
fn quadrotor_attitude_stays_a_rotation() {
    let (model, mut rng) = (Quadrotor::default(), StdRng::seed_from_u64(5));
    for _ in 0..100 {
        let mut x = quadrotor_state(&mut rng);
        for i in 0..100 {
            x = model.step(&StepContext::new(i, 0.05), x, draw(&mut rng, [20.0, 20.0, 20.0, 20.0]));
            let norm = x[6..10].iter().map(|q| q * q).sum::<f32>();
            assert!((norm - 1.0).abs() < 1e-6 && x[6] >= 0.0, "{x:?}");
        }
    }
}

#[test]
fn quadrotor_does_not_care_about_the_sign_of_its_quaternion() {
    let (model, at, mut rng) = (Quadrotor::default(), StepContext::new(0, 0.05), StdRng::seed_from_u64(6));
    for _ in 0..100 {
        let (x, u) = (quadrotor_state(&mut rng), draw(&mut rng, [3.0; 4]));
        let mut flipped = x;
        flipped[6..10].iter_mut().for_each(|q| *q = -*q);
        assert_eq!(model.step(&at, x, u), model.step(&at, flipped, u));
    }
}

#[test]
fn quadrotor_rates_follow_exactly_whatever_the_step() {
    // Ten time constants in one step leave e⁻¹⁰ of the difference, and nothing overshoots.
    let model = Quadrotor::default();
    let next = model.step(&StepContext::new(0, 10.0 * model.lag), Quadrotor::LEVEL, [1.0, -2.0, 3.0, 0.0]);
    assert!(
        largest(wide([next[10], next[11], next[12]]), [1.0, -2.0, 3.0].map(|c| c * (1.0 - (-10_f64).exp()))) < 1e-6
    );
}

/// Asserts that the model stays in a state, and that its default cost is 0 there.
fn rests<const N: usize, const M: usize>(model: &impl Model<N, M>, x: [f32; N], u: [f32; M]) {
    let at = StepContext::new(0, 0.05);
    let next = model.step(&at, x, u);
    assert!(largest(wide(next), wide(x)) < 1e-5, "{x:?} became {next:?}");
    assert!(model.cost(&at, next, u).abs() < 1e-6 && model.terminal(&at, next).abs() < 1e-6, "{next:?}");
    assert!(!model.done(&at, next));

    let mut rng = StdRng::seed_from_u64(8);
    for _ in 0..100 {
        let (x, u) = (draw(&mut rng, [2.0; N]), draw(&mut rng, [2.0; M]));
        assert!(model.cost(&at, x, u) > 0.0 && model.terminal(&at, x) >= 0.0, "{x:?} {u:?}");
    }
}

#[test]
fn every_default_task_ends_at_an_equilibrium() {
    let (planar, drone) = (PlanarQuadrotor::default(), Quadrotor::default());
    rests(&CartPole::default(), [0.0, 0.0, PI, 0.0], [0.0]);
    rests(&CartPole::default(), [0.0, 0.0, -PI, 0.0], [0.0]);
    rests(&Pendulum::default(), [0.0, 0.0], [0.0]);
    rests(&Pendulum::default(), [2.0 * PI, 0.0], [0.0]);
    rests(&DoubleIntegrator::default(), [0.0; 4], [0.0; 2]);
    rests(&Unicycle::default(), [0.0; 3], [0.0; 2]);
    rests(&DifferentialDrive::default(), [0.0, 0.0, -2.0 * PI], [0.0; 2]);
    rests(&Bicycle::default(), [0.0; 4], [0.0; 2]);
    rests(&planar, [0.0; 6], [planar.hover(); 2]);
    rests(&drone, Quadrotor::LEVEL, [0.0, 0.0, 0.0, drone.hover()]);
}

#[test]
fn hanging_is_an_equilibrium_that_costs() {
    let at = StepContext::new(0, 0.05);
    let cart = CartPole::default();
    assert_eq!(cart.step(&at, [0.0; 4], [0.0]), [0.0; 4]);
    assert_eq!(cart.cost(&at, [0.0; 4], [0.0]), 2.0 * cart.cost.angle);
    let rod = Pendulum::default();
    let next = rod.step(&at, [PI, 0.0], [0.0]);
    assert!(largest(wide(next), wide([PI, 0.0])) < 1e-5);
    assert!((rod.cost(&at, next, [0.0]) - PI * PI).abs() < 1e-4);
}

#[test]
fn quadratic_is_the_weighted_sum_of_squares() {
    let cost = Quadratic {
        target: [1.0, 3.0],
        angles: [false, true],
        state: [2.0, 0.5],
        terminal: [20.0, 5.0],
        trim: [4.0],
        control: [0.25],
    };
    let (at, x) = (StepContext::new(0, 0.1), [3.0_f32, 3.0 + 2.0 * PI - 0.5]);
    assert!((cost.cost(&at, x, [6.0]) - (2.0 * 4.0 + 0.5 * 0.25 + 0.25 * 4.0)).abs() < 1e-5);
    assert!((cost.terminal(&at, x) - (20.0 * 4.0 + 5.0 * 0.25)).abs() < 1e-5);
}

#[test]
fn with_cost_swaps_the_cost_and_nothing_else() {
    /// Run right, until x = 5.
    struct Race;
    impl Cost<4, 1> for Race {
        fn cost<R: Real>(&self, _at: &StepContext<R>, [x, ..]: [R; 4], _u: [R; 1]) -> R {
            -x
        }
        fn terminal<R: Real>(&self, _at: &StepContext<R>, [_, speed, ..]: [R; 4]) -> R {
            speed.abs()
        }
        fn done<R: Real>(&self, _at: &StepContext<R>, [x, ..]: [R; 4]) -> R::Mask {
            x.gt(5.0)
        }
    }
    let (model, at, mut rng) = (CartPole::default(), StepContext::new(0, 0.02), StdRng::seed_from_u64(9));
    let race = model.with_cost(Race);
    for _ in 0..100 {
        let (x, u) = (draw(&mut rng, [10.0, 3.0, 3.0, 3.0]), draw(&mut rng, [5.0]));
        assert_eq!(race.step(&at, x, u), model.step(&at, x, u));
        assert_eq!(race.cost(&at, x, u), -x[0]);
        assert_eq!(race.terminal(&at, x), x[1].abs());
        assert_eq!(race.done(&at, x), x[0] > 5.0);
    }
}
