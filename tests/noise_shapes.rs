//! Shapes of noise in time: rows against their definition, their statistics, and plans by every planner and backend.

mod common;

use common::{cpu, engines};
use gibbs::control::Algorithm;
use gibbs::models::{DoubleIntegrator, Quadrotor};
use gibbs::noise::normal::normals;
use gibbs::runtime::Instructions;
use gibbs::{
    Backend, BuildError, DiffusionOptions, Engine, EngineOptions, Interpolation, Limits, Mppi, MppiOptions, Noise,
    NoiseShape, Planner, Task, Temperature, Weighting,
};

const INTERPOLATIONS: [Interpolation; 3] = [Interpolation::Hold, Interpolation::Linear, Interpolation::Cubic];
const STATE: [f32; 4] = [1.0, -0.5, 0.0, 0.3];

fn knots(every: usize, interpolation: Interpolation) -> NoiseShape {
    NoiseShape::Knots { every, interpolation }
}

fn shapes() -> impl Iterator<Item = NoiseShape> {
    let colored = [0.5, 1.0, 2.0].map(|exponent| NoiseShape::Colored { exponent });
    INTERPOLATIONS.map(|interpolation| knots(4, interpolation)).into_iter().chain(colored)
}

fn task(horizon: usize) -> Task<2> {
    Task { horizon, ..Default::default() }
}

type Integrator = Mppi<4, 2, DoubleIntegrator>;

fn mppi(engine: &Engine, options: MppiOptions<2>) -> Integrator {
    Mppi::new(engine, DoubleIntegrator::default(), options).expect("valid")
}

/// The perturbation between knots, in f64. Knot 0 is the first that matters; the segment of t begins at knot ⌊t/n⌋.
fn spline(interpolation: Interpolation, every: usize, t: usize, knot: impl Fn(usize) -> f64) -> f64 {
    let (q, x) = (t / every, (t % every) as f64 / every as f64);
    match interpolation {
        Interpolation::Hold => knot(q),
        Interpolation::Linear => knot(q) * (1.0 - x) + knot(q + 1) * x,
        _ => {
            // Hermite's form, with slopes by central differences.
            let [a, b, c, d] = [0, 1, 2, 3].map(|j| knot(q + j));
            let (from, to) = ((c - a) / 2.0, (d - b) / 2.0);
            let (x2, x3) = (x * x, x * x * x);
            (2.0 * x3 - 3.0 * x2 + 1.0) * b + (x3 - 2.0 * x2 + x) * from + (3.0 * x2 - 2.0 * x3) * c + (x3 - x2) * to
        }
    }
}

#[test]
fn rows_are_the_plan_and_a_spline_through_random_knots() {
    const HORIZON: usize = 14;
    let factor = [[0.6, 0.0], [0.2, 0.5]];
    let covariance = [[0.36, 0.12], [0.12, 0.29]];
    for engine in engines() {
        for (interpolation, every) in INTERPOLATIONS.into_iter().zip([3, 5, 4]) {
            let options = MppiOptions {
                task: Task { limits: Some(Limits { low: [-0.8, -1.0], high: [0.9, 1.0] }), seed: 11, ..task(HORIZON) },
                samples: 300,
                noise: Noise::Covariance(covariance),
                noise_shape: knots(every, interpolation),
                nominal_first: true,
                weighting: Temperature::Fixed(1.0).into(),
                ..Default::default()
            };
            let mut mppi = mppi(&engine, options);
            let plan: Vec<[f32; 2]> = (0..HORIZON).map(|t| [0.1 * t as f32 - 0.5, (t as f32).sin() * 0.5]).collect();
            mppi.set_controls(&plan).expect("valid");
            mppi.plan(&STATE).expect("it runs");
            let samples = mppi.samples().expect("there are some");
            for k in [0, 1, 63, 64, 299] {
                let z = |d: usize| f64::from(normals(11, 0, k as u32, (d / 4) as u32)[d % 4]);
                for (t, found) in samples.controls(k).iter().enumerate() {
                    for m in 0..2 {
                        let noise = |i: usize| (0..=m).map(|j| factor[m][j] * z(2 * i + j)).sum::<f64>();
                        let moved = if k == 0 { 0.0 } else { spline(interpolation, every, t, noise) };
                        let (low, high) = ([-0.8, -1.0][m], [0.9, 1.0][m]);
                        let expected = (f64::from(plan[t][m]) + moved).clamp(low, high);
                        let off = (f64::from(found[m]) - expected).abs();
                        assert!(off < 1e-5, "{interpolation:?} on {}, row {k}, t = {t}: {off} off", engine.name());
                    }
                }
            }
        }
    }
}

/// The mean over a single row is its innovations, from which the step must reproduce that row.
#[test]
fn the_step_to_a_single_row_leads_to_that_row() {
    for engine in engines() {
        for noise_shape in shapes() {
            let limits = Some(Limits { low: [-0.5, f32::NEG_INFINITY], high: [0.7, f32::INFINITY] });
            let options = MppiOptions {
                task: Task { limits, ..task(23) },
                samples: 1,
                noise_shape,
                weighting: Temperature::Fixed(1.0).into(),
                ..Default::default()
            };
            let mut mppi = mppi(&engine, options);
            mppi.set_controls(&[[0.3, -0.2]; 23]).expect("valid");
            let plan = mppi.plan(&STATE).expect("it runs").controls().to_vec();
            let row = mppi.samples().expect("there is one").controls(0);
            for (t, (a, b)) in plan.as_flattened().iter().zip(row.as_flattened()).enumerate() {
                assert!((a - b).abs() < 1e-5, "{noise_shape:?} on {}, number {t}: {a} and {b}", engine.name());
            }
        }
    }
}

#[test]
fn all_backends_draw_the_same_rows_and_make_the_same_plan() {
    let here = cpu();
    for there in engines().into_iter().skip(1) {
        for noise_shape in shapes() {
            let options = MppiOptions {
                task: task(30),
                samples: 2000,
                weighting: Temperature::EffectiveSamples(0.1).into(),
                noise_shape,
                ..Default::default()
            };
            let [(a, x), (b, y)] = [&here, &there].map(|engine| {
                let mut mppi = mppi(engine, options.clone());
                let plan = mppi.plan(&STATE).expect("it runs").controls().to_vec();
                (plan, mppi.samples().expect("there are some").controls(77))
            });
            let near = |a: &[[f32; 2]], b: &[[f32; 2]], off: f32| {
                a.as_flattened().iter().zip(b.as_flattened()).all(|(a, b)| (a - b).abs() < off)
            };
            assert!(near(&x, &y, 1e-5) && near(&a, &b, 1e-3), "{noise_shape:?} on {}", there.name());
        }
    }
}

/// A software adapter ends all loops of an invocation after 65,535 iterations without an error. No call may get there.
#[test]
fn long_horizons_are_rolled_out_to_their_end() {
    for (noise_shape, horizon, samples) in [
        (NoiseShape::White, 30_000, 1),
        (knots(7, Interpolation::Cubic), 29_000, 1),
        (NoiseShape::Colored { exponent: 1.0 }, 11_900, 1),
        // Two tiles, whose loops would be too many for a kernel that does the whole update.
        (NoiseShape::Colored { exponent: 1.0 }, 9_000, 65),
    ] {
        let [here, others @ ..] = &engines()[..] else { panic!("the CPU backend is always there") };
        let results = |engine| {
            let task = Task { dt: 1e-3, ..task(horizon) };
            let mut mppi = mppi(
                engine,
                MppiOptions {
                    task,
                    samples,
                    noise_shape,
                    weighting: Temperature::Fixed(1.0).into(),
                    ..Default::default()
                },
            );
            let last = mppi.plan(&STATE).expect("it runs").controls()[horizon - 1];
            (mppi.samples().expect("they are there").cost(samples - 1), last)
        };
        let (cost, last) = results(here);
        for engine in others {
            let (found, end) = results(engine);
            assert!((found / cost - 1.0).abs() < 2e-3, "{noise_shape:?} on {}: {found}, not {cost}", engine.name());
            assert!((end[0] - last[0]).abs() < 1e-4, "{noise_shape:?} on {}: {end:?}, not {last:?}", engine.name());
        }
    }

    // Four controls need a block of normals at every time step, which takes the most loop iterations.
    let all = engines();
    let costs = all.iter().map(|engine| {
        let task = Task { dt: 1e-5, horizon: 20_000, ..Default::default() };
        let options =
            MppiOptions::<4> { task, samples: 1, weighting: Temperature::Fixed(1.0).into(), ..Default::default() };
        let mut mppi = Mppi::new(engine, Quadrotor::default(), options).expect("valid");
        let mut state = [0.0; 13];
        state[6] = 1.0;
        mppi.plan(&state).expect("it runs");
        mppi.samples().expect("there is one").cost(0)
    });
    let costs: Vec<f32> = costs.collect();
    assert!(costs.iter().all(|cost| (cost / costs[0] - 1.0).abs() < 2e-3), "{costs:?}");
}

/// The perturbations of many rows: for each row its first control over time.
fn perturbations(noise_shape: NoiseShape, horizon: usize, samples: usize) -> Vec<Vec<f64>> {
    let options = MppiOptions {
        task: task(horizon),
        samples,
        noise_shape,
        weighting: Temperature::Fixed(1.0).into(),
        ..Default::default()
    };
    let mut mppi = mppi(&cpu(), options);
    mppi.plan(&STATE).expect("it runs");
    let samples = mppi.samples().expect("there are some");
    let first = |k: usize| samples.controls(k).iter().map(|u| f64::from(u[0])).collect();
    (0..samples.len()).map(first).collect()
}

#[test]
fn perturbations_have_the_documented_variance_at_every_time_step() {
    const ROWS: usize = 4096;
    for noise_shape in shapes() {
        let rows = perturbations(noise_shape, 18, ROWS);
        for t in 0..18 {
            let variance = rows.iter().map(|row| row[t] * row[t]).sum::<f64>() / ROWS as f64;
            let x = (t % 4) as f64 / 4.0;
            let expected = match noise_shape {
                NoiseShape::Knots { interpolation: Interpolation::Linear, .. } => (1.0 - x).powi(2) + x * x,
                NoiseShape::Knots { interpolation: Interpolation::Cubic, .. } => {
                    let basis = |i: usize| spline(Interpolation::Cubic, 4, t % 4, |j| f64::from(u8::from(i == j)));
                    (0..4).map(|i| basis(i).powi(2)).sum()
                }
                _ => 1.0,
            };
            // Five standard errors.
            let bound = 5.0 * expected * (2.0 / ROWS as f64).sqrt();
            assert!((variance - expected).abs() < bound, "{noise_shape:?}, t = {t}: {variance}, not {expected}");
        }
    }
}

#[test]
fn the_spectrum_of_colored_noise_falls_by_its_exponent() {
    const HORIZON: usize = 128;
    for exponent in [0.5, 1.0, 1.5, 2.0] {
        let rows = perturbations(NoiseShape::Colored { exponent }, HORIZON, 1024);
        // Hann's window keeps the low frequencies from leaking into the others.
        let window = |t: usize| (std::f64::consts::PI * (t as f64 + 0.5) / HORIZON as f64).sin().powi(2);
        let points: Vec<(f64, f64)> = (3..=HORIZON / 4)
            .map(|f| {
                let angle = |t: usize| std::f64::consts::TAU * (f * t) as f64 / HORIZON as f64;
                let power = rows.iter().map(|row| {
                    let part = |wave: fn(f64) -> f64| {
                        row.iter().enumerate().map(|(t, v)| v * window(t) * wave(angle(t))).sum::<f64>()
                    };
                    part(f64::cos).powi(2) + part(f64::sin).powi(2)
                });
                ((f as f64).ln(), power.sum::<f64>().ln())
            })
            .collect();
        let n = points.len() as f64;
        let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
        let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>()
            / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>();
        // The filter is within 1.5 dB of the power law, which over these frequencies changes a slope by 0.15 at most.
        assert!((slope + f64::from(exponent)).abs() < 0.2, "α = {exponent}: a slope of {slope}");
    }
}

/// Returns the cost of the last of several plans, and the cost of doing nothing.
fn solves<A: Algorithm<2>>(engine: &Engine, options: A) -> (f32, f32) {
    let mut planner = Planner::<4, 2, _, A>::new(engine, DoubleIntegrator::default(), options).expect("valid");
    let still = planner.simulate(&STATE, &[[0.0; 2]; 30]).expect("valid").1;
    let mut cost = still;
    for _ in 0..8 {
        cost = planner.plan(&STATE).expect("it runs").cost();
    }
    (cost, still)
}

#[test]
fn every_planner_solves_a_task_with_every_shape() {
    let engines = engines();
    for noise_shape in shapes() {
        let task = Task { dt: 0.1, ..task(30) };
        let path_integral = MppiOptions {
            task: task.clone(),
            samples: 512,
            weighting: Temperature::EffectiveSamples(0.05).into(),
            noise_shape,
            ..Default::default()
        };
        let cross_entropy = MppiOptions {
            weighting: Weighting::Elite(0.1),
            covariance_adaptation: Some(0.1),
            iterations: 2,
            ..path_integral.clone()
        };
        let diffusion = DiffusionOptions { task, samples: 256, noise_shape, chains: 2, ..Default::default() };
        for engine in &engines {
            let name = format!("{noise_shape:?} on {}", engine.name());
            for (planner, (cost, still)) in [
                ("MPPI", solves(engine, path_integral.clone())),
                ("cross-entropy", solves(engine, cross_entropy.clone())),
                ("diffusion", solves(engine, diffusion.clone())),
            ] {
                assert!(cost < 0.3 * still, "{planner}, {name}: {cost}, where doing nothing costs {still}");
            }
        }
    }
}

#[test]
fn knots_at_every_time_step_are_white_noise_to_the_bit() {
    for engine in engines() {
        let options = MppiOptions {
            task: task(9),
            samples: 100,
            weighting: Temperature::Fixed(1.0).into(),
            ..Default::default()
        };
        let white = mppi(&engine, options.clone()).plan(&STATE).expect("it runs").controls().to_vec();
        for interpolation in INTERPOLATIONS {
            let options = MppiOptions { noise_shape: knots(1, interpolation), ..options.clone() };
            assert_eq!(mppi(&engine, options).plan(&STATE).expect("it runs").controls(), white, "{interpolation:?}");
        }
    }
}

#[test]
fn supplied_rows_are_controls_whatever_the_shape_of_the_noise() {
    for engine in engines() {
        let options =
            MppiOptions { task: task(6), samples: 70, weighting: Temperature::Fixed(1.0).into(), ..Default::default() };
        let rows: Vec<f32> = (0..70 * 12).map(|i| (i as f32 * 0.37).sin()).collect();
        let [mut white, mut cubic] = [NoiseShape::White, knots(3, Interpolation::Cubic)]
            .map(|noise_shape| mppi(&engine, MppiOptions { noise_shape, ..options.clone() }));
        // Alternates between supplied and drawn rows.
        for _ in 0..2 {
            let controls = white.plan_rows(&STATE, &rows).expect("it runs").controls().to_vec();
            cubic.set_controls(&[[0.0; 2]; 6]).expect("valid");
            assert_eq!(cubic.plan_rows(&STATE, &rows).expect("it runs").controls(), controls);
            assert_eq!(
                cubic.samples().expect("there are some").controls(5),
                white.samples().expect("some").controls(5)
            );
            cubic.plan(&STATE).expect("it runs");
            white.set_controls(&[[0.0; 2]; 6]).expect("valid");
        }
    }
}

#[test]
fn wider_registers_and_other_memory_give_the_same_plans() {
    let on = |instructions, rows| {
        let options = EngineOptions { backend: Backend::Cpu, instructions, rows, ..Default::default() };
        Engine::with_options(options).expect("the CPU backend is always there")
    };
    for noise_shape in shapes() {
        let plan = |instructions, rows, weighting| {
            let options = MppiOptions { task: task(21), samples: 700, weighting, noise_shape, ..Default::default() };
            mppi(&on(instructions, rows), options).plan(&STATE).expect("it runs").controls().to_vec()
        };
        use gibbs::runtime::RowMemory::{Auto, Redrawn, Stored};
        let elite = Weighting::Elite(0.2);
        for (weighting, rows) in [(Temperature::Fixed(1.0).into(), Auto), (elite, Stored), (elite, Redrawn)] {
            let [best, narrow] = [Instructions::Best, Instructions::Avx2].map(|set| plan(set, rows, weighting));
            assert_eq!(best, narrow, "{noise_shape:?}, {weighting:?}");
        }
        let [stored, redrawn] = [Stored, Redrawn].map(|rows| plan(Instructions::Best, rows, elite));
        for (a, b) in stored.as_flattened().iter().zip(redrawn.as_flattened()) {
            assert!((a - b).abs() < 1e-5, "{noise_shape:?}: {a} and {b}");
        }
    }
}

#[test]
fn wrong_shapes_are_refused_and_change_nothing() {
    let engine = cpu();
    let options =
        MppiOptions { task: task(10), samples: 64, weighting: Temperature::Fixed(1.0).into(), ..Default::default() };
    let field = |options: MppiOptions<2>| match Mppi::new(&engine, DoubleIntegrator::default(), options) {
        Err(BuildError::Invalid(error)) => error.field,
        other => panic!("{other:?}"),
    };
    for every in [0, 11, usize::MAX] {
        assert_eq!(field(MppiOptions { noise_shape: knots(every, Interpolation::Hold), ..options.clone() }), "every");
    }
    for exponent in [-1.0, 2.5, f32::NAN, f32::NEG_INFINITY] {
        assert_eq!(field(MppiOptions { noise_shape: NoiseShape::Colored { exponent }, ..options.clone() }), "exponent");
    }
    for noise_shape in shapes() {
        assert_eq!(field(MppiOptions { noise_shape, alpha: 0.5, ..options.clone() }), "noise_shape");
    }

    let noise_shape = knots(5, Interpolation::Cubic);
    let mut mppi = mppi(&engine, MppiOptions { noise_shape, ..options.clone() });
    let plan = mppi.plan(&STATE).expect("it runs").controls().to_vec();
    assert!(mppi.resize(4, 64).is_err(), "there would be no whole segment");
    let wrong = NoiseShape::Colored { exponent: 3.0 };
    assert!(mppi.set_options(MppiOptions { noise_shape: wrong, ..options.clone() }).is_err());
    assert_eq!((mppi.controls(), mppi.options().noise_shape), (&plan[..], noise_shape));
    mppi.resize(7, 64).expect("there is room");
    mppi.plan(&STATE).expect("it runs");
    mppi.set_options(MppiOptions { noise_shape: NoiseShape::Colored { exponent: 1.0 }, ..options }).expect("valid");
    mppi.plan(&STATE).expect("it runs");
}
