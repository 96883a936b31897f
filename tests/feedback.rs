//! Feedback along a plan: gains against closed forms and against a solution of the whole linear quadratic problem at
//! once, in f64; controls, errors, and a closed loop under disturbances.

mod common;

use common::cpu;
use gibbs::control::{Feedback, FeedbackError, FeedbackWeights};
use gibbs::models::CartPole;
use gibbs::{
    Error, Fleet, Limits, Model, Mppi, MppiOptions, Noise, Random, Real, References, StepContext, Task, Temperature,
    Weighting,
};

const DT: f32 = 0.1;

/// x⁺ = p₀ x + p₁ y + p₂ u and y⁺ = p₃ r y + p₄ u, with parameters p and reference r. The cost is p₅ x² + (p₆ y)² + u²,
/// and 2 x² at the end, which is where x exceeds p₇.
struct Linear;

impl Model<2, 1> for Linear {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [x, y]: [R; 2], [u]: [R; 1]) -> [R; 2] {
        let p = |i: usize| at.param(i);
        [x * p(0) + y * p(1) + u * p(2), y * p(3) * at.reference(0) + u * p(4)]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y]: [R; 2], [u]: [R; 1]) -> R {
        x.square() * at.param(5) + (y * at.param(6)).square() + u.square()
    }
    #[inline(always)]
    fn terminal<R: Real>(&self, _: &StepContext<R>, [x, _]: [R; 2]) -> R {
        x.square() * 2.0
    }
    #[inline(always)]
    fn done<R: Real>(&self, at: &StepContext<R>, [x, _]: [R; 2]) -> R::Mask {
        x.gt(at.param(7))
    }
}

/// Parameters of [`Linear`] for x⁺ = a x + b u.
fn scalar(a: f32, b: f32) -> [f32; 8] {
    [a, 0.0, b, 0.0, 0.0, 1.0, 0.0, 1e9]
}

fn linear_options(horizon: usize, params: [f32; 8]) -> MppiOptions<1> {
    let references = Some(References { values: vec![1.0], columns: 1 });
    MppiOptions {
        task: Task { horizon, dt: DT, params: params.to_vec(), references, ..Default::default() },
        samples: 16,
        noise: Noise::Diagonal([0.1]),
        weighting: Temperature::Fixed(1.0).into(),
        ..Default::default()
    }
}

fn linear(horizon: usize, params: [f32; 8]) -> Mppi<2, 1, Linear> {
    Mppi::new(&cpu(), Linear, linear_options(horizon, params)).unwrap()
}

fn near(got: f32, want: f64, tolerance: f64) {
    assert!((f64::from(got) - want).abs() <= tolerance * want.abs(), "{got}, but must be {want}");
}

#[test]
fn gains_of_a_long_horizon_are_those_of_the_algebraic_riccati_equation() {
    let mut mppi = linear(200, scalar(1.0, 1.0));
    for [a, b, q, r] in [[1.0, 1.0, 1.0, 1.0], [1.2, 0.5, 0.01, 3.0], [-0.9, 2.0, 5.0, 0.1], [1.2, 1.0, 0.0, 1.0]] {
        mppi.set_params(&scalar(a, b)).unwrap();
        mppi.plan(&[0.01, 0.0]).unwrap();
        let feedback = mppi.feedback(FeedbackWeights::diagonal([q, 0.0], [r])).unwrap();
        // b² s² + (r (1 − a²) − q b²) s − q r = 0; the larger root, which stabilizes, if it is above 0.
        let [a, b, q, r] = [a, b, q, r].map(f64::from);
        let half = (r * (1.0 - a * a) - q * b * b) / (2.0 * b * b);
        let s = -half + (half * half + q * r / (b * b)).sqrt();
        let terminal = FeedbackWeights::Quadratic {
            state: [[q as f32, 0.0], [0.0; 2]],
            control: [[r as f32]],
            terminal: [[1.0, 0.0], [0.0; 2]],
        };
        // Without any weight of the state, the recursion stays at 0, the smaller root.
        let feedback = if q == 0.0 { mppi.feedback(terminal).unwrap() } else { feedback };
        near(feedback.gains()[0][0][0], a * b * s / (r + b * b * s), 1e-6);
        assert_eq!(feedback.gains()[0][0][1], 0.0);
    }

    // A double integrator, of which the closed loop's poles solve r w² + q₂ dt² w + q₁ dt⁴ = 0 with w = 2 − z − 1/z.
    mppi.set_params(&[1.0, DT, 0.0, 1.0, DT, 1.0, 0.0, 1e9]).unwrap();
    mppi.plan(&[0.01, 0.0]).unwrap();
    let (q, r, dt) = ([1.0_f64, 3.0], 0.5_f64, f64::from(DT));
    let feedback = mppi.feedback(FeedbackWeights::diagonal(q.map(|q| q as f32), [r as f32])).unwrap();
    let root = (q[1] * q[1] - 4.0 * r * q[0]).sqrt();
    let poles = [-q[1] - root, -q[1] + root].map(|w| {
        let sum = 2.0 - w * dt * dt / (2.0 * r);
        (sum - (sum * sum - 4.0).sqrt()) / 2.0
    });
    let rate = (2.0 - poles[0] - poles[1]) / dt;
    let [gain] = feedback.gains()[0];
    near(gain[0], (poles[0] * poles[1] - 1.0 + rate * dt) / (dt * dt), 1e-5);
    near(gain[1], rate, 1e-5);
}

/// A system that uses all inputs, with a cost that couples states and controls.
struct Coupled;

impl Model<2, 2> for Coupled {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [a, b]: [R; 2], [c, d]: [R; 2]) -> [R; 2] {
        let dt = at.dt();
        [
            a + (b.sin() + c * a.cos() + at.reference(0)) * dt,
            b + (a * b * at.param(0) - d + c * a * 0.5) * dt + d * at.index() * 0.01,
        ]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [a, b]: [R; 2], [c, d]: [R; 2]) -> R {
        (a - at.reference(0)).square() + (b + c * 0.5).square() + a.exp() * 0.1 + d.square() * at.index() * 0.02
    }
    #[inline(always)]
    fn terminal<R: Real>(&self, at: &StepContext<R>, [a, b]: [R; 2]) -> R {
        a.square() * 3.0 + b.exp() * 0.5 * at.index()
    }
}

const HORIZON: usize = 12;
const STIFFNESS: f64 = 0.7;

fn reference(t: usize) -> f64 {
    (t as f64 * 0.5).sin() * 0.3
}

/// [`Coupled`] in f64; z is state and control.
fn step([a, b, c, d]: [f64; 4], t: usize) -> [f64; 2] {
    let dt = f64::from(DT);
    let rates = [b.sin() + c * a.cos() + reference(t), a * b * STIFFNESS - d + c * a * 0.5];
    [a + rates[0] * dt, b + rates[1] * dt + d * t as f64 * 0.01]
}

fn cost([a, b, c, d]: [f64; 4], t: usize) -> f64 {
    (a - reference(t)).powi(2) + (b + c * 0.5).powi(2) + a.exp() * 0.1 + d * d * t as f64 * 0.02
}

fn terminal([a, b, ..]: [f64; 4]) -> f64 {
    a * a * 3.0 + b.exp() * 0.5 * HORIZON as f64
}

/// Moves component `i`.
fn moved(mut z: [f64; 4], i: usize, by: f64) -> [f64; 4] {
    z[i] += by;
    z
}

/// Half of the second derivatives, by central differences.
fn half_hessian(f: impl Fn([f64; 4]) -> f64, z: [f64; 4]) -> [[f64; 4]; 4] {
    let h = 1e-4;
    let slope = |z: [f64; 4], i: usize| (f(moved(z, i, h)) - f(moved(z, i, -h))) / (2.0 * h);
    let second = |i: usize, j: usize| (slope(moved(z, j, h), i) - slope(moved(z, j, -h), i)) / (2.0 * h);
    std::array::from_fn(|i| std::array::from_fn(|j| 0.5 * second(i, j)))
}

/// Solves A X = B by elimination with pivots. The rows of `system` are those of A, continued by those of B.
fn solve(mut system: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = system.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|j, k| system[*j][i].abs().total_cmp(&system[*k][i].abs())).unwrap();
        system.swap(i, pivot);
        let row: Vec<f64> = system[i].iter().map(|v| v / system[i][i]).collect();
        for (_, other) in system.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let factor = other[i];
            other.iter_mut().zip(&row).for_each(|(v, above)| *v -= factor * above);
        }
        system[i] = row;
    }
    system.into_iter().map(|row| row[n..].to_vec()).collect()
}

/// The gain of time step `t`: all later controls are found at once, as a linear function of the state, from the normal
/// equations of the whole problem. `weights` are those of (x_{k+1}, u_k), and `last` those of x_T.
fn batch_gain(
    feedback: &Feedback<2, 2>,
    t: usize,
    weights: impl Fn(usize) -> [[f64; 4]; 4],
    last: [[f64; 4]; 4],
) -> Vec<Vec<f64>> {
    // Deviations as functions of the unknowns: δx_t, then δu_t, δu_{t+1}, …
    let unknowns = 2 + 2 * (HORIZON - t);
    let unit = |i: usize| (0..unknowns).map(|j| f64::from(u8::from(i == j))).collect::<Vec<f64>>();
    let mut deviation = [unit(0), unit(1)];
    let mut normal = vec![vec![0.0; unknowns]; unknowns];
    let mut add = |z: [&Vec<f64>; 4], w: [[f64; 4]; 4]| {
        for i in 0..4 {
            for j in 0..4 {
                for (row, left) in normal.iter_mut().zip(z[i]) {
                    row.iter_mut().zip(z[j]).for_each(|(sum, right)| *sum += left * w[i][j] * right);
                }
            }
        }
    };
    let nothing = vec![0.0; unknowns];
    for k in t..HORIZON {
        let ([a, b], [c, d]) = (feedback.states()[k], feedback.controls()[k]);
        let z = [a, b, c, d].map(f64::from);
        let controls = [unit(2 + 2 * (k - t)), unit(3 + 2 * (k - t))];
        let moves = [&deviation[0], &deviation[1], &controls[0], &controls[1]];
        let slopes = [0, 1, 2, 3].map(|i| {
            let (above, below) = (step(moved(z, i, 1e-5), k), step(moved(z, i, -1e-5), k));
            [0, 1].map(|row| (above[row] - below[row]) / 2e-5)
        });
        let next = [0, 1]
            .map(|row| (0..unknowns).map(|j| (0..4).map(|i| slopes[i][row] * moves[i][j]).sum()).collect::<Vec<f64>>());
        add([&next[0], &next[1], &controls[0], &controls[1]], weights(k));
        deviation = next;
    }
    add([&deviation[0], &deviation[1], &nothing, &nothing], last);
    let system = normal[2..].iter().map(|row| [&row[2..], &row[..2]].concat()).collect();
    solve(system)[..2].to_vec()
}

#[test]
fn gains_are_those_of_the_whole_problem_solved_at_once() {
    let values = (0..=HORIZON).map(|t| reference(t) as f32).collect();
    let options = MppiOptions {
        task: Task {
            horizon: HORIZON,
            dt: DT,
            params: vec![STIFFNESS as f32],
            references: Some(References { values, columns: 1 }),
            ..Default::default()
        },
        samples: 64,
        weighting: Temperature::Fixed(1.0).into(),
        ..Default::default()
    };
    let mut mppi = Mppi::new(&cpu(), Coupled, options).unwrap();
    mppi.plan(&[0.4, -0.8]).unwrap();
    let compare = |feedback: &Feedback<2, 2>, weights: &dyn Fn(usize) -> [[f64; 4]; 4], last| {
        for t in [0, 5, HORIZON - 1] {
            let gain = batch_gain(feedback, t, weights, last);
            let got = feedback.gains()[t].as_flattened();
            let scale = gain.concat().iter().fold(0.0, |scale: f64, v| scale.max(v.abs()));
            assert!(scale > 0.01, "{gain:?}");
            for (got, want) in got.iter().zip(gain.concat()) {
                let error = (f64::from(*got) - want).abs();
                assert!(error < 2e-5 * scale, "time step {t}: {got:?}, but must be {gain:?}");
            }
        }
    };

    let (state, control) = ([[2.0, 0.5], [0.5, 1.0]], [[0.3, -0.1], [-0.1, 0.2]]);
    let weights = FeedbackWeights::Quadratic { state, control, terminal: [[4.0, -2.0], [-2.0, 1.0]] };
    let fixed = [[2.0, 0.5, 0.0, 0.0], [0.5, 1.0, 0.0, 0.0], [0.0, 0.0, 0.3, -0.1], [0.0, 0.0, -0.1, 0.2]];
    let last = [[4.0, -2.0, 0.0, 0.0], [-2.0, 1.0, 0.0, 0.0], [0.0; 4], [0.0; 4]];
    let mut feedback = mppi.feedback(weights).unwrap();
    compare(&feedback, &|_| fixed, last);

    // After another plan, an updated feedback is a new one.
    mppi.plan(&[0.1, 0.2]).unwrap();
    mppi.update_feedback(&mut feedback).unwrap();
    assert_eq!(feedback.states(), mppi.feedback(weights).unwrap().states());
    compare(&feedback, &|_| fixed, last);

    let feedback = mppi.feedback(FeedbackWeights::FromCost { control: [0.125, 0.25] }).unwrap();
    let [a, b] = feedback.states()[HORIZON].map(f64::from);
    let at_the_end = half_hessian(terminal, [a, b, 0.0, 0.0]);
    let of_the_cost = |k: usize| {
        let ([a, b], [c, d]) = (feedback.states()[k + 1], feedback.controls()[k]);
        let mut half = half_hessian(|z| cost(z, k), [a, b, c, d].map(f64::from));
        half[2][2] += 0.125;
        half[3][3] += 0.25;
        half
    };
    compare(&feedback, &of_the_cost, at_the_end);
}

#[test]
fn curvature_below_zero_weighs_nothing() {
    let mut mppi = linear(6, [1.0, 0.0, 0.5, 0.0, 0.0, -1.0, 0.0, 1e9]);
    mppi.plan(&[1.0, 0.0]).unwrap();
    let feedback = mppi.feedback(FeedbackWeights::FromCost { control: [1.0] }).unwrap();
    // The running cost is −x² + u², so r = 2, and the terminal cost 2 x² remains: 1/P⁻ = 1/P + b²/r.
    for t in 0..6 {
        let p = 1.0 / (0.5 + (5 - t) as f64 * 0.125);
        near(feedback.gains()[t][0][0], 0.5 * p / (2.0 + 0.25 * p), 1e-6);
    }
}

#[test]
fn after_the_end_of_a_rollout_there_is_no_feedback() {
    // x grows by half per time step: 0.5, 0.75, 1.125, and there it ends.
    let mut params = scalar(1.5, 1.0);
    params[7] = 1.0;
    let mut mppi = linear(5, params);
    mppi.plan_rows(&[0.5, 0.0], &[0.0; 16 * 5]).unwrap();
    let feedback = mppi.feedback(FeedbackWeights::FromCost { control: [1.0] }).unwrap();
    // Before the end, s = 1 + 2 and r = 1 + 1.
    near(feedback.gains()[1][0][0], 1.5 * 3.0 / (2.0 + 3.0), 1e-6);
    assert!(feedback.gains()[0][0][0] > 0.5);
    assert_eq!(feedback.gains()[2..], [[[0.0; 2]]; 3]);

    mppi.plan_rows(&[2.0, 0.0], &[0.0; 16 * 5]).unwrap();
    assert_eq!(mppi.feedback(*feedback.weights()).unwrap().gains(), [[[0.0; 2]]; 5]);
}

#[test]
fn controls_between_time_steps_are_interpolated_and_limited() {
    let mut options = linear_options(4, scalar(1.2, 1.0));
    options.task.limits = Some(Limits { low: [-0.25], high: [0.5] });
    let mut mppi = Mppi::new(&cpu(), Linear, options).unwrap();
    mppi.plan(&[0.125, 0.0]).unwrap();
    let feedback = mppi.feedback(FeedbackWeights::diagonal([1.0, 0.0], [1.0])).unwrap();
    let (states, controls, gains) = (feedback.states(), feedback.controls(), feedback.gains());
    assert_eq!(feedback.dt(), DT);
    assert!(gains.iter().all(|[[k, _]]| *k > 0.1) && gains[0] != gains[3]);
    for t in 0..4 {
        assert_eq!(feedback.control(t, &states[t]), controls[t]);
        for (seconds, fraction) in [(t as f32 * DT, 0.0_f32), ((t as f32 + 0.25) * DT, 0.25)] {
            let mix = |from: f32, to: f32| from + fraction * (to - from);
            let x = mix(states[t][0], states[t + 1][0]);
            let k = mix(gains[t][0][0], gains[(t + 1).min(3)][0][0]);
            let [u] = feedback.at(seconds, &[x + 0.01, 7.0]);
            assert!((u - (controls[t][0] - k * 0.01)).abs() < 1e-5, "{u} at {seconds} s");
            // Far off, only the limits remain.
            assert_eq!(feedback.at(seconds, &[x + 100.0, 0.0]), [-0.25]);
            assert_eq!(feedback.at(seconds, &[x - 100.0, 0.0]), [0.5]);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                assert_eq!(feedback.at(seconds, &[bad, 0.0]), controls[t]);
            }
        }
    }
    for (seconds, t) in [(-1.0, 0), (f32::NAN, 0), (f32::NEG_INFINITY, 0)] {
        assert_eq!(feedback.at(seconds, &[0.2, 0.0]), feedback.control(t, &[0.2, 0.0]));
    }
    for seconds in [4.0 * DT, 1e9, f32::INFINITY] {
        assert_eq!(feedback.at(seconds, &[0.2, 0.0]), controls[3]);
        assert_eq!(feedback.control(usize::MAX, &[0.2, 0.0]), controls[3]);
    }

    // A period of 8 in x.
    let periodic = feedback.clone().with_difference(|x, y| [(x[0] - y[0] + 4.0).rem_euclid(8.0) - 4.0, x[1] - y[1]]);
    for seconds in [0.0, 0.025, 0.1, 0.31] {
        let [near, far] = [0.25, 16.25].map(|x| periodic.at(seconds, &[x, 0.0])[0]);
        assert!((near - far).abs() < 1e-5 && (near - feedback.at(seconds, &[0.25, 0.0])[0]).abs() < 1e-5);
    }
}

#[test]
fn what_has_no_gains_is_an_error_that_names_it() {
    let mut mppi = linear(6, scalar(1.0, 1.0));
    let good = FeedbackWeights::diagonal([1.0, 1.0], [1.0]);
    let message = |weights| mppi.feedback(weights).unwrap_err().to_string();
    assert_eq!(message(good), "`plan` is not there, but must be made by a call of plan that succeeded");
    for (state, control, terminal, start) in [
        ([[1.0, 0.5], [0.4, 1.0]], 1.0, [[0.0; 2]; 2], "`state` is a matrix with 0.5 at (0, 1) but 0.4 at (1, 0)"),
        ([[1.0, 2.0], [2.0, 1.0]], 1.0, [[0.0; 2]; 2], "`state` is a matrix with the eigenvalue -1.000e0"),
        ([[f32::NAN, 0.0], [0.0; 2]], 1.0, [[0.0; 2]; 2], "`state` is a matrix with NaN at (0, 0)"),
        ([[0.0; 2]; 2], 0.0, [[0.0; 2]; 2], "`control` is a matrix whose pivot 0 is 0.000e0"),
        ([[0.0; 2]; 2], f32::INFINITY, [[0.0; 2]; 2], "`control` is a matrix with inf at (0, 0)"),
        ([[0.0; 2]; 2], 1.0, [[-1.0, 0.0], [0.0; 2]], "`terminal` is a matrix with the eigenvalue -1.000e0"),
    ] {
        let text = message(FeedbackWeights::Quadratic { state, control: [[control]], terminal });
        assert!(text.starts_with(start) && text.contains(", but must be symmetric, positive "), "{text}");
    }
    let text = message(FeedbackWeights::FromCost { control: [-1.0] });
    assert_eq!(text, "`control` is -1, but must be finite and above 0");
    // Semidefinite, to rounding.
    mppi.plan(&[0.0, 0.0]).unwrap();
    let state = [[0.09, 0.21], [0.21, 0.49]];
    mppi.feedback(FeedbackWeights::Quadratic { state, control: [[1e-9]], terminal: state }).unwrap();

    // At y = 0, its derivative overflows in time step 3 only, and y does not.
    let (mut params, from_cost) = (scalar(1.0, 1.0), FeedbackWeights::FromCost { control: [1.0] });
    let mut feedback = mppi.feedback(good).unwrap();
    let before = feedback.clone();
    params[3] = 1e20;
    mppi.set_params(&params).unwrap();
    mppi.set_references(&[0.0, 0.0, 0.0, 1e20, 0.0], 1).unwrap();
    mppi.plan(&[0.5, 0.0]).unwrap();
    let error = mppi.update_feedback(&mut feedback).unwrap_err();
    assert_eq!(error, FeedbackError::NonFinite { what: "linearization of the model", time_step: 3 });
    assert_eq!(error.to_string(), "the linearization of the model is not finite at time step 3 of the plan");
    assert_eq!((feedback.gains(), feedback.states()), (before.gains(), before.states()));
    assert_eq!(Error::from(error.clone()), Error::Feedback(error));

    // The product of all derivatives overflows even in f64: 10^(2·20·…), from the end on.
    mppi.set_references(&[1.0], 1).unwrap();
    mppi.resize(12, 16).unwrap();
    mppi.plan(&[0.5, 0.0]).unwrap();
    let error = mppi.update_feedback(&mut feedback).unwrap_err();
    assert!(matches!(error, FeedbackError::NonFinite { what: "gain", time_step: 0..6 }), "{error}");

    // The second derivative of the cost.
    (params[3], params[6]) = (0.0, 1e20);
    mppi.set_params(&params).unwrap();
    mppi.plan(&[0.5, 0.0]).unwrap();
    let error = mppi.feedback(from_cost).unwrap_err();
    assert_eq!(error, FeedbackError::NonFinite { what: "second derivative of the cost", time_step: 11 });
    mppi.update_feedback(&mut feedback).unwrap();
    assert_eq!(feedback.gains().len(), 12);
}

#[test]
fn problems_of_a_fleet_have_feedbacks_of_their_own() {
    let (weights, options) = (FeedbackWeights::diagonal([1.0, 0.0], [1.0]), linear_options(5, scalar(1.0, 1.0)));
    let mut fleet = Fleet::new(&cpu(), Linear, options.clone(), 2).unwrap();
    fleet.set_params(1, &scalar(1.5, 0.5)).unwrap();
    fleet.plan(&[[0.5, 0.0], [1.0, 0.0]]).unwrap();
    let mut last = fleet.feedback(0, weights).unwrap();
    for (i, (params, x)) in [(scalar(1.0, 1.0), 0.5), (scalar(1.5, 0.5), 1.0)].into_iter().enumerate() {
        let mut mppi = Mppi::new(&cpu(), Linear, options.clone()).unwrap();
        mppi.set_params(&params).unwrap();
        mppi.reseed(i as u64);
        mppi.plan(&[x, 0.0]).unwrap();
        let alone = mppi.feedback(weights).unwrap();
        fleet.update_feedback(i, &mut last).unwrap();
        for feedback in [&fleet.feedback(i, weights).unwrap(), &last] {
            assert_eq!(feedback.gains(), alone.gains());
            assert_eq!((feedback.states(), feedback.controls()), (alone.states(), alone.controls()));
        }
    }
    let error = fleet.feedback(2, weights).unwrap_err();
    assert_eq!(error.to_string(), "`problem` is 2, but must be below the number of problems, 2");
    assert_eq!(fleet.update_feedback(2, &mut last).unwrap_err(), error);
}

/// Follows a plan of a cart-pole, near upright, for its horizon of a second in steps of 2 ms. The cart is heavier than
/// in the model, and random forces push it. Returns the mean squared deviation of the angle, and the cost.
fn follow(
    mppi: &Mppi<4, 1, CartPole>,
    feedback: Option<&Feedback<4, 1>>,
    plan: &Feedback<4, 1>,
    seed: u64,
) -> [f32; 2] {
    let (plant, mut random) = (CartPole { cart: 1.3, ..CartPole::default() }, Random::new(seed));
    let (mut x, mut deviation, mut cost) = (plan.states()[0], 0.0, 0.0);
    for i in 0..500 {
        let seconds = i as f32 * 0.002;
        deviation += (x[2] - plan.states()[i / 10][2]).powi(2) / 500.0;
        let u = feedback.map_or(plan.controls()[i / 10], |feedback| feedback.at(seconds, &x));
        let push = 20.0 * random.normal();
        x = plant.step(&StepContext::new(0, 0.002), x, [u[0] + push]);
        cost += 0.1 * mppi.model().cost(&StepContext::new(0, 0.02), x, u);
    }
    [deviation, cost]
}

#[test]
fn a_plan_is_tracked_under_disturbances() {
    let options = MppiOptions {
        task: Task { horizon: 50, dt: 0.02, limits: Some(Limits { low: [-20.0], high: [20.0] }), ..Default::default() },
        samples: 256,
        iterations: 16,
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.05)),
        noise: Noise::Diagonal([5.0]),
        ..Default::default()
    };
    let mut mppi = Mppi::new(&cpu(), CartPole::default(), options).unwrap();
    mppi.plan(&[0.5, 0.0, std::f32::consts::PI - 0.2, 0.0]).unwrap();
    for weights in
        [FeedbackWeights::diagonal([1.0, 0.1, 10.0, 0.1], [0.01]), FeedbackWeights::FromCost { control: [0.01] }]
    {
        let feedback = mppi.feedback(weights).unwrap();
        for seed in 0..20 {
            let [deviation, cost] = follow(&mppi, Some(&feedback), &feedback, seed);
            let [open_deviation, open_cost] = follow(&mppi, None, &feedback, seed);
            assert!(deviation < 0.1 * open_deviation, "{deviation} with feedback, {open_deviation} without");
            assert!(cost < open_cost, "{cost} with feedback, {open_cost} without");
        }
    }
}
