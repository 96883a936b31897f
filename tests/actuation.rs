//! From plans to actuators: limits of rates, input delay, `advance`, smoothing.

mod common;

use common::{cpu, engines};
use gibbs::control::Smoothing;
use gibbs::learning::Controller;
use gibbs::models::DoubleIntegrator;
use gibbs::policies::LinearFeedback;
use gibbs::{
    BuildError, DiffusionOptions, Engine, Fleet, Interpolation, InvalidValue, Limits, Model, Mppi, MppiOptions, Noise,
    NoiseShape, Planner, PolicyGradient, PolicyGradientOptions, Random, Real, StepContext, Task, Temperature,
    Weighting,
};

const DT: f32 = 0.1;
const RATES: Limits<2> = Limits { low: [-3.0, -1.0], high: [1.5, 2.0] };
const STATE: [f32; 4] = [2.0, -1.5, 0.5, 0.3];
const CUBIC: NoiseShape = NoiseShape::Knots { every: 4, interpolation: Interpolation::Cubic };
const PINK: NoiseShape = NoiseShape::Colored { exponent: 1.0 };

const JERKS: Limits<2> = Limits { low: [-12.0, -8.0], high: [6.0, 10.0] };

type Integrator = Mppi<4, 2, DoubleIntegrator>;

fn options(noise_shape: NoiseShape, delay: usize) -> MppiOptions<2> {
    MppiOptions {
        task: Task {
            horizon: 22,
            dt: DT,
            limits: Some(Limits { low: [-1.0, -0.6], high: [1.0, 0.8] }),
            rate_limits: Some(RATES),
            delay,
            seed: 5,
            ..Default::default()
        },
        samples: 200,
        weighting: Temperature::EffectiveSamples(0.2).into(),
        noise: Noise::Diagonal([0.5, 0.4]),
        noise_shape,
        ..Default::default()
    }
}

fn mppi(engine: &Engine, options: MppiOptions<2>) -> Integrator {
    Mppi::new(engine, DoubleIntegrator::default(), options).expect("valid")
}

/// Asserts that a control sequence keeps to the limits of `options`, from the control that was applied last on, and
/// returns how many changes are at a limit.
fn check_limits(name: &str, options: &MppiOptions<2>, last: [f32; 2], controls: &[[f32; 2]]) -> usize {
    let limits = options.task.limits.expect("they are given");
    let (mut before, mut clipped) = (last, 0);
    for (t, u) in controls.iter().enumerate() {
        for m in 0..2 {
            let change = u[m] - before[m];
            let (low, high) = (RATES.low[m] * DT, RATES.high[m] * DT);
            assert!((low - 1e-6..=high + 1e-6).contains(&change), "{name}: control {m} changes by {change} at {t}");
            assert!((limits.low[m]..=limits.high[m]).contains(&u[m]), "{name}: control {m} is {} at {t}", u[m]);
            clipped += usize::from(change < low + 1e-6 || change > high - 1e-6);
        }
        before = *u;
    }
    clipped
}

#[test]
fn rows_plans_and_loops_keep_to_the_limits_of_rates() {
    for engine in engines() {
        for (noise_shape, delay) in [(NoiseShape::White, 0), (CUBIC, 0), (PINK, 3), (NoiseShape::White, 2)] {
            let name = format!("{engine:?}, {noise_shape:?}, delay {delay}");
            let options = options(noise_shape, delay);
            let mut mppi = mppi(&engine, options.clone());
            let (mut last, mut clipped) = ([0.0; 2], 0);
            for call in 0..4 {
                let queue = mppi.controls()[..delay].to_vec();
                let plan = mppi.plan(&STATE).expect("it runs").clone();
                clipped += check_limits(&name, &options, *queue.last().unwrap_or(&last), &plan.controls()[delay..]);
                assert_eq!(plan.controls()[..delay], queue, "{name}: controls on their way are fixed");
                let first_free = plan.controls()[delay];
                if call == 1 {
                    let samples = mppi.samples().expect("there are some");
                    for k in 0..200 {
                        let row = samples.controls(k);
                        assert_eq!(row[..delay], queue, "{name}: rows start with what is on its way");
                        let before = *queue.last().unwrap_or(&last);
                        clipped += check_limits(&name, &options, before, &row[delay..]);
                    }
                    // What was rolled out is what was limited.
                    let rows: Vec<_> = (0..200).map(|k| (samples.controls(k), samples.cost(k))).collect();
                    for (row, cost) in rows {
                        let (_, expected) = mppi.simulate(&STATE, &row).expect("finite");
                        assert!((cost - expected).abs() < 1e-4 * expected.abs(), "{name}: {cost}, not {expected}");
                    }
                }
                let applied = mppi.advance();
                assert_eq!(applied, first_free, "{name}: the first control that is not on its way");
                assert_eq!(mppi.last_control(), applied);
                check_limits(&name, &options, last, &[applied]);
                last = applied;
            }
            assert!(clipped > 100, "{name}: the limits act ({clipped})");
        }
    }
}

/// Asserts that the changes of a control sequence change by no more than [`JERKS`] allow, from `changed` on, and
/// returns how many of those are at a limit.
fn check_jerks(name: &str, [last, changed]: [[f32; 2]; 2], controls: &[[f32; 2]]) -> usize {
    let (mut before, mut changed, mut clipped) = (last, changed, 0);
    for (t, u) in controls.iter().enumerate() {
        for m in 0..2 {
            let change = u[m] - before[m];
            let (jerk, low, high) = (change - changed[m], JERKS.low[m] * DT * DT, JERKS.high[m] * DT * DT);
            assert!((low - 2e-6..=high + 2e-6).contains(&jerk), "{name}: the change of {m} changes by {jerk} at {t}");
            clipped += usize::from(jerk < low + 2e-6 || jerk > high - 2e-6);
            changed[m] = change;
        }
        before = *u;
    }
    clipped
}

#[test]
fn rows_plans_and_loops_keep_to_the_limits_of_the_jerk() {
    for engine in engines() {
        for (noise_shape, delay) in [(NoiseShape::White, 0), (CUBIC, 2)] {
            let name = format!("{engine:?}, {noise_shape:?}, delay {delay}");
            let mut options = options(noise_shape, delay);
            options.task.jerk_limits = Some(JERKS);
            let mut mppi = mppi(&engine, options.clone());
            let (mut end, mut clipped) = ([[0.0; 2]; 2], 0);
            for call in 0..6 {
                let plan = mppi.plan(&STATE).expect("it runs").clone();
                clipped += check_jerks(&name, end, &plan.controls()[delay..]);
                check_limits(&name, &options, end[0], &plan.controls()[delay..]);
                if call == 3 {
                    let samples = mppi.samples().expect("there are some");
                    let rows: Vec<_> = (0..200).map(|k| (samples.controls(k), samples.cost(k))).collect();
                    for (row, cost) in rows {
                        clipped += check_jerks(&name, end, &row[delay..]);
                        check_limits(&name, &options, end[0], &row[delay..]);
                        // What was rolled out is what was limited.
                        let (_, expected) = mppi.simulate(&STATE, &row).expect("finite");
                        assert!((cost - expected).abs() < 1e-4 * expected.abs(), "{name}: {cost}, not {expected}");
                    }
                }
                let applied = mppi.advance();
                assert_eq!(applied, plan.controls()[delay], "{name}: the first control that is not on its way");
                end = [applied, std::array::from_fn(|m| applied[m] - end[0][m])];
            }
            assert!(clipped > 1000, "{name}: the limits act ({clipped})");
        }
    }
}

/// The step response is what minimum-time control under a limit of the jerk is: the rate rises and falls linearly, and
/// the control arrives at its limit with a rate of 0.
#[test]
fn a_control_that_is_to_jump_stops_at_its_limit() {
    let (rise, brake) = (2.0_f64, 4.0_f64);
    // In continuous time, from 0 to 1: √(2 (1/rise + 1/brake)).
    let shortest = (2.0 * (1.0 / rise + 1.0 / brake)).sqrt() / f64::from(DT);
    for engine in engines() {
        let mut options = options(NoiseShape::White, 0);
        options.nominal_first = true;
        options.task.rate_limits = None;
        options.task.jerk_limits = Some(Limits { low: [-brake as f32; 2], high: [rise as f32; 2] });
        let mut mppi = mppi(&engine, options);
        mppi.set_controls(&[[10.0, 0.0]; 22]).expect("valid");
        mppi.plan(&STATE).expect("it runs");
        // The first row is the nominal as the kernel limits it.
        let row = mppi.samples().expect("there are some").controls(0);
        let [up, down] = [rise, brake].map(|jerk| jerk * f64::from(DT) * f64::from(DT));
        let (mut u, mut change) = (0.0_f64, 0.0_f64);
        for (t, [found, _]) in row.iter().enumerate() {
            let room = 1.0 - u;
            let to_stop = if room > down / 2.0 { (2.0 * down * room).sqrt() - down / 2.0 } else { room };
            change = to_stop.min(change + up);
            u += change;
            assert!((f64::from(*found) - u).abs() < 1e-5, "{}: {found}, not {u} at {t}", engine.name());
            if t < 8 {
                // Changes of 1, 2, 3, … times that of the first time step.
                let count = (t + 1) as f64;
                assert!((u - up * count * (count + 1.0) / 2.0).abs() < 1e-9, "{t}: {u}");
            }
        }
        let arrival = row.iter().position(|u| u[0] > 1.0 - 1e-6).expect("it arrives");
        assert!((arrival as f64 + 1.0 - shortest).abs() < 1.5, "{arrival}, at best {shortest}");
        assert!(row[arrival..].iter().all(|u| u[0] <= 1.0 && u[0] > 1.0 - 1e-6));
    }
}

#[test]
fn limits_that_cannot_all_be_met_have_an_order() {
    // Beyond its box, a control returns at once, whatever its jerk, but no faster than its rate allows.
    // After the jump it goes on by no more than it could have changed anyway, 0.12, and then slows down.
    for (rate_limits, expected) in [(None, [1.0, 0.94, 0.94]), (Some(RATES), [2.7, 2.4, 2.1])] {
        let mut options = options(NoiseShape::White, 0);
        (options.task.rate_limits, options.task.jerk_limits) = (rate_limits, Some(JERKS));
        options.nominal_first = true;
        for engine in engines() {
            let mut mppi = mppi(&engine, options.clone());
            mppi.set_last_control(&[3.0, 0.0]).expect("finite");
            mppi.set_controls(&[[3.0, 0.0]; 22]).expect("valid");
            let plan = mppi.plan(&STATE).expect("it runs").controls().to_vec();
            let row = mppi.samples().expect("there are some").controls(0);
            for (t, expected) in expected.into_iter().enumerate() {
                for found in [plan[t][0], row[t][0]] {
                    assert!((found - expected).abs() < 1e-5, "{}: {found} at {t}", engine.name());
                }
            }
        }
    }
}

#[test]
fn a_loop_faster_than_the_plan_keeps_to_the_jerk_of_its_own_steps() {
    let mut options = options(CUBIC, 0);
    (options.task.limits, options.task.rate_limits, options.task.jerk_limits) = (None, None, Some(JERKS));
    let mut mppi = mppi(&cpu(), options);
    let (mut last, mut rate, mut largest) = ([0.0; 2], [0.0; 2], 0.0_f32);
    for _ in 0..60 {
        mppi.plan(&STATE).expect("it runs");
        let u = mppi.advance_by(0.02).expect("valid");
        for m in 0..2 {
            let now = (u[m] - last[m]) / 0.02;
            let jerk = (now - rate[m]) / 0.02;
            assert!((JERKS.low[m] - 0.05..=JERKS.high[m] + 0.05).contains(&jerk), "{jerk}");
            (rate[m], largest) = (now, largest.max(now.abs()));
        }
        last = u;
    }
    // Up to √(range · jerk) would be reasonable; a loop that took each plan as a step to be made at once would diverge.
    assert!((0.2..5.0).contains(&largest), "{largest}");
}

#[test]
fn backends_agree_on_limited_and_delayed_plans() {
    let all = engines();
    let Some((first, others)) = all.split_first() else { return };
    for (noise_shape, delay, iterations, jerk_limits) in
        [(NoiseShape::White, 0, 1, None), (CUBIC, 2, 3, None), (PINK, 1, 2, None), (CUBIC, 2, 2, Some(JERKS))]
    {
        let mut options = MppiOptions { iterations, ..options(noise_shape, delay) };
        options.task.jerk_limits = jerk_limits;
        let run = |engine: &Engine| {
            let mut mppi = mppi(engine, options.clone());
            mppi.set_last_control(&[0.2, -0.1]).expect("finite");
            mppi.plan(&STATE).expect("it runs").controls().to_vec()
        };
        let expected = run(first);
        for engine in others {
            for (a, b) in run(engine).iter().zip(&expected) {
                assert!((a[0] - b[0]).abs() + (a[1] - b[1]).abs() < 2e-3, "{engine:?}: {a:?}, not {b:?}");
            }
        }
    }
}

#[test]
fn given_rows_and_several_chains_keep_to_the_limits_of_rates() {
    for engine in engines() {
        let options = MppiOptions { samples: 64, ..options(NoiseShape::White, 2) };
        let mut planner = mppi(&engine, options.clone());
        planner.set_last_control(&[0.3, 0.1]).expect("finite");
        let rows: Vec<f32> = (0..64 * 22 * 2).map(|i| (i as f32 * 1.7).sin() * 3.0).collect();
        let plan = planner.plan_rows(&STATE, &rows).expect("it runs").clone();
        assert_eq!(plan.controls()[..2], [[0.0, 0.0], [0.3, 0.1]]);
        check_limits("given", &options, [0.3, 0.1], &plan.controls()[2..]);

        let chains = DiffusionOptions {
            task: options.task.clone(),
            samples: 100,
            chains: 3,
            scatter: true,
            noise_shape: CUBIC,
            noise: Noise::Diagonal([0.5, 0.4]),
            ..Default::default()
        };
        let mut planner = Planner::new(&engine, DoubleIntegrator::default(), chains).expect("valid");
        let mut queue = vec![[0.0; 2]; 2];
        for _ in 0..3 {
            planner.plan_first(&STATE, 5).expect("it runs");
            for chain in planner.chains() {
                assert_eq!(chain[..2], queue, "every chain starts with what is on its way");
                check_limits("chains", &options, queue[1], &chain[2..]);
            }
            queue.push(planner.advance());
            queue.remove(0);
        }
    }
}

/// A cart on a line that should come to rest at 0.
struct Cart;

impl Model<2, 1> for Cart {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> [R; 2] {
        [p + v * at.dt(), v + u * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> R {
        p.square() + v.square() * 0.05 + u.square() * 0.01
    }
}

#[test]
fn a_delay_that_is_planned_for_does_not_cost_the_loop_its_stability() {
    const DELAY: usize = 4;
    let run = |planned: usize| {
        let task = Task { horizon: 30, dt: 0.1, delay: planned, ..Default::default() };
        let options = MppiOptions {
            task,
            samples: 256,
            weighting: Weighting::Elite(0.1),
            noise: Noise::Diagonal([2.0]),
            noise_shape: NoiseShape::Knots { every: 5, interpolation: Interpolation::Linear },
            iterations: 3,
            ..Default::default()
        };
        let mut mppi = Mppi::new(&cpu(), Cart, options).expect("valid");
        let (mut x, mut on_their_way, mut sum) = ([3.0, 0.0], std::collections::VecDeque::from([[0.0]; DELAY]), 0.0);
        for t in 0..150 {
            mppi.plan(&x).expect("it runs");
            on_their_way.push_back(mppi.advance());
            let [u] = on_their_way.pop_front().expect("as many as the delay");
            x = [x[0] + x[1] * 0.1, x[1] + u * 0.1];
            if t >= 60 {
                sum += x[0] * x[0];
            }
        }
        (sum / 90.0_f32).sqrt()
    };
    let (known, ignored) = (run(DELAY), run(0));
    assert!(known < 0.15, "rms distance {known} once settled");
    assert!(ignored > 4.0 * known, "without the delay in the plan: {ignored}");
}

#[test]
fn a_plan_moves_on_by_any_time() {
    let options = MppiOptions { task: Task { rate_limits: None, ..options(CUBIC, 0).task }, ..options(CUBIC, 0) };
    let ramp: Vec<[f32; 2]> = (0..22).map(|t| [0.04 * t as f32, -0.02 * t as f32]).collect();
    let mut mppi = mppi(&cpu(), options);
    mppi.set_controls(&ramp).expect("valid");
    assert_eq!(mppi.advance_by(0.25 * DT).expect("valid"), ramp[0]);
    for (t, [a, b]) in mppi.controls()[..21].iter().enumerate() {
        let expected = t as f32 + 0.25;
        assert!((a - 0.04 * expected).abs() + (b + 0.02 * expected).abs() < 1e-6, "{t}: {a}, {b}");
    }
    assert_eq!(mppi.controls()[21], ramp[21], "the last control is held");
    mppi.set_controls(&ramp).expect("valid");
    assert_eq!(mppi.advance_by(3.0 * DT).expect("valid"), ramp[0]);
    assert_eq!(mppi.controls()[..19], ramp[3..]);
    assert_eq!(mppi.advance(), ramp[3]);
    assert_eq!(mppi.controls()[..18], ramp[4..]);
    mppi.shift(2);
    assert_eq!(mppi.last_control(), ramp[5]);
    assert_eq!(mppi.advance_by(1e9).expect("valid"), ramp[6]);
    assert_eq!(mppi.controls(), [ramp[21]; 22]);
    for wrong in [-0.1, f32::NAN, f32::INFINITY] {
        assert!(matches!(mppi.advance_by(wrong), Err(InvalidValue { field: "seconds", .. })));
    }
}

#[test]
fn a_loop_faster_than_the_plan_keeps_to_the_rates_of_its_own_steps() {
    for delay in [0, 3] {
        let options = options(CUBIC, delay);
        let mut mppi = mppi(&cpu(), options.clone());
        let mut last = [0.0; 2];
        let mut issued = Vec::new();
        for _ in 0..60 {
            let plan = mppi.plan(&STATE).expect("it runs").controls().to_vec();
            let before = if delay > 0 { plan[delay - 1] } else { last };
            check_limits("plan", &options, before, &plan[delay..]);
            let u = mppi.advance_by(0.02).expect("valid");
            for m in 0..2 {
                let change = u[m] - last[m];
                assert!((RATES.low[m] * 0.02 - 1e-6..=RATES.high[m] * 0.02 + 1e-6).contains(&change), "{change}");
            }
            (last, issued) = (u, [issued, vec![u]].concat());
        }
        // The controls on their way are the means, over each time step, of what was issued.
        for (t, queued) in mppi.controls()[..delay].iter().enumerate() {
            let window = &issued[60 - 5 * (delay - t)..60 - 5 * (delay - t) + 5];
            let mean = window.iter().map(|u| u[0]).sum::<f32>() / 5.0;
            assert!((queued[0] - mean).abs() < 0.05, "{t}: {} for {mean}", queued[0]);
        }
    }
}

#[test]
fn smoothing_halves_the_changes_of_a_plan_and_breaks_no_limit() {
    for engine in engines() {
        let changes = |rate_limits: Option<Limits<2>>, smoothing: Option<Smoothing>| {
            let limited = options(NoiseShape::White, 0);
            let task = Task { rate_limits, ..limited.task.clone() };
            let mut mppi = mppi(&engine, MppiOptions { task, samples: 64, smoothing, ..limited.clone() });
            let (mut sum, mut last) = (0.0, [0.0; 2]);
            for _ in 0..20 {
                let plan = mppi.plan(&STATE).expect("it runs").clone();
                if rate_limits.is_some() {
                    check_limits("smooth", &limited, last, plan.controls());
                }
                let (_, cost) = mppi.simulate(&STATE, plan.controls()).expect("finite");
                assert_eq!(cost.to_bits(), plan.cost().to_bits(), "the cost is that of the smoothed plan");
                last = mppi.advance();
                sum += plan.controls().windows(2).map(|u| (u[1][0] - u[0][0]).powi(2)).sum::<f32>();
            }
            sum.sqrt()
        };
        let smoothing = Some(Smoothing { window: 9, order: 2 });
        let (rough, smooth) = (changes(None, None), changes(None, smoothing));
        assert!(smooth < 0.5 * rough, "{smooth}, without smoothing {rough}");
        assert!(changes(Some(RATES), smoothing) < rough);
    }
}

#[test]
fn a_pending_plan_continues_from_what_was_applied_meanwhile() {
    for engine in engines() {
        for delay in [0, 2] {
            let options = options(CUBIC, delay);
            let mut mppi = mppi(&engine, options.clone());
            for _ in 0..3 {
                mppi.plan(&STATE).expect("it runs");
                mppi.advance();
            }
            mppi.start(&STATE).expect("it starts");
            let applied = [mppi.advance(), mppi.advance()];
            let returned = mppi.finish().expect("it runs").controls().to_vec();
            assert_eq!(returned.len(), 22);
            let next = mppi.controls();
            assert_eq!(next[..delay], applied[..delay], "what was issued meanwhile is on its way");
            check_limits("pending", &options, applied[1], &next[delay..]);
            assert_eq!(mppi.last_control(), applied[1]);
        }
    }
}

#[test]
fn problems_of_a_fleet_continue_from_controls_of_their_own() {
    for engine in engines() {
        let options = options(CUBIC, 1);
        let mut fleet = Fleet::new(&engine, DoubleIntegrator::default(), options.clone(), 3).expect("valid");
        let last = [[0.4, 0.1], [-0.4, 0.2], [0.0, 0.0]];
        for (i, u) in last.iter().enumerate() {
            fleet.set_last_control(i, u).expect("valid");
        }
        let plans = fleet.plan(&[STATE; 3]).expect("it runs");
        for (i, u) in last.iter().enumerate() {
            let plan = plans.get(i).expect("it works");
            assert_eq!(plan.controls()[0], *u, "on its way");
            check_limits("fleet", &options, *u, &plan.controls()[1..]);
        }
        let first = fleet.controls(1).expect("there is one")[1];
        assert_eq!(fleet.advance(1).expect("valid"), first);
        assert_eq!(fleet.last_control(1).expect("valid"), first);
        assert_eq!(fleet.last_control(0).expect("valid"), last[0]);
        assert!(fleet.advance(3).is_err() && fleet.advance_by(0, -1.0).is_err());
    }
}

#[test]
fn changed_options_keep_what_is_on_its_way() {
    let mut mppi = mppi(&cpu(), options(CUBIC, 2));
    for _ in 0..3 {
        mppi.plan(&STATE).expect("it runs");
        mppi.advance();
    }
    let before = mppi.controls().to_vec();
    mppi.set_options(options(CUBIC, 4)).expect("valid");
    assert_eq!(mppi.controls()[..4], [before[0], before[0], before[0], before[1]]);
    assert_eq!(mppi.controls()[4..], before[2..20]);
    mppi.set_options(options(CUBIC, 1)).expect("valid");
    assert_eq!(mppi.controls()[0], before[1]);
    mppi.set_controls(&[[0.9, 0.5]; 22]).expect("valid");
    assert_eq!(mppi.controls()[..2], [before[1], [0.9, 0.5]], "what is on its way stays");
    mppi.reset();
    assert_eq!((mppi.last_control(), mppi.controls()), ([0.0; 2], &[[0.0; 2]; 22][..]));
}

#[test]
fn wrong_values_are_refused_by_name() {
    let refused = |options: MppiOptions<2>, field: &str| match Mppi::new(&cpu(), DoubleIntegrator::default(), options)
        .map(drop)
    {
        Err(BuildError::Invalid(error)) => assert_eq!(error.field, field, "{error}"),
        other => panic!("{field}: {other:?}"),
    };
    let with = |change: &dyn Fn(&mut MppiOptions<2>)| {
        let mut options = options(CUBIC, 0);
        change(&mut options);
        options
    };
    for (low, high) in [(0.1, 1.0), (-1.0, -0.5), (f32::NAN, 1.0), (-1.0, f32::NAN)] {
        let rates = Some(Limits { low: [-1.0, low], high: [1.0, high] });
        refused(with(&|o| o.task.rate_limits = rates), "rate_limits");
    }
    refused(with(&|o| o.task.jerk_limits = Some(Limits { low: [0.1; 2], high: [1.0; 2] })), "jerk_limits");
    refused(with(&|o| o.task.delay = 22), "delay");
    refused(with(&|o| o.smoothing = Some(Smoothing { window: 4, order: 1 })), "window");
    refused(with(&|o| o.smoothing = Some(Smoothing { window: 45, order: 1 })), "window");
    refused(with(&|o| o.smoothing = Some(Smoothing { window: 5, order: 5 })), "order");
    refused(with(&|o| (o.alpha, o.noise_shape) = (0.9, NoiseShape::White)), "rate_limits");
    refused(with(&|o| (o.alpha, o.task.rate_limits, o.task.delay) = (0.9, None, 1)), "delay");
    refused(with(&|o| (o.alpha, o.task.rate_limits, o.task.jerk_limits) = (0.9, None, Some(JERKS))), "jerk_limits");
    assert!(mppi(&cpu(), options(CUBIC, 0)).set_last_control(&[0.0, f32::NAN]).is_err());
    let infinite = Limits { low: [f32::NEG_INFINITY, -1.0], high: [f32::INFINITY; 2] };
    mppi(&cpu(), with(&|o| o.task.rate_limits = Some(infinite))).plan(&STATE).expect("no limit is a limit");
    mppi(&cpu(), with(&|o| o.task.jerk_limits = Some(infinite))).plan(&STATE).expect("no limit is a limit");

    for (rate_limits, jerk_limits, delay, field) in
        [(Some(RATES), None, 0, "rate_limits"), (None, Some(JERKS), 0, "jerk_limits"), (None, None, 1, "delay")]
    {
        let task = Task { rate_limits, jerk_limits, delay, ..Default::default() };
        let trained = PolicyGradientOptions { task: task.clone(), ..Default::default() };
        let start = |_: &mut Random, _: &mut [f32]| STATE;
        match PolicyGradient::new(&cpu(), DoubleIntegrator::default(), LinearFeedback, start, trained).map(drop) {
            Err(BuildError::Invalid(error)) => assert_eq!(error.field, field),
            other => panic!("{other:?}"),
        }
        match Controller::<4, 2, _>::with_task(LinearFeedback, &[0.0; 10], task).map(drop) {
            Err(error) => assert_eq!(error.field, field),
            Ok(()) => panic!("{field}"),
        }
    }
}

#[test]
fn a_plan_that_is_moved_while_its_call_is_pending_is_that_of_the_call() {
    for engine in engines() {
        let options = MppiOptions { smoothing: Some(Smoothing { window: 5, order: 1 }), ..options(CUBIC, 2) };
        let [mut moved, mut still] = [(); 2].map(|()| mppi(&engine, options.clone()));
        for planner in [&mut moved, &mut still] {
            planner.plan(&STATE).expect("it runs");
            planner.advance();
            planner.start(&STATE).expect("it starts");
        }
        moved.advance();
        let expected = still.finish().expect("it runs").clone();
        let plan = moved.finish().expect("it runs");
        assert_eq!((plan.controls(), plan.states()), (expected.controls(), expected.states()), "{}", engine.name());

        // A control that is set meanwhile is on its way after the call, too.
        still.start(&STATE).expect("it starts");
        still.set_last_control(&[0.4, 0.3]).expect("finite");
        still.finish().expect("it runs");
        assert_eq!(still.controls()[1], [0.4, 0.3]);
        check_limits("set", &options, [0.4, 0.3], &still.controls()[2..]);
    }
}

#[test]
fn given_rows_beyond_the_limits_change_as_slowly_as_they_must() {
    for engine in engines() {
        let options = MppiOptions { samples: 64, ..options(NoiseShape::White, 1) };
        let mut planner = mppi(&engine, options);
        planner.set_last_control(&[3.0, 0.0]).expect("finite");
        planner.plan_rows(&STATE, &vec![0.0; 64 * 22 * 2]).expect("it runs");
        let samples = planner.samples().expect("there are some");
        let row = samples.controls(5);
        // At most 0.3 per time step toward the limit of 1.
        for (t, u) in row.iter().enumerate().take(7) {
            assert!((u[0] - (3.0 - 0.3 * t as f32)).abs() < 1e-5, "{}: {} at {t}", engine.name(), u[0]);
        }
    }
}
