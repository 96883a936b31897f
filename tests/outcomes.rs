//! A call is atomic: it leaves a complete new plan or training, or the previous one, even if a model panics. Samples
//! belong to the plan.

mod common;

use std::any::type_name;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use common::{cpu, engines};
use gibbs::learning::{ActionNoise, Estimator, Step};
use gibbs::runtime::RowMemory;
use gibbs::sampling::{Energy, ReverseProcess, Schedule};
use gibbs::{
    Backend, DiffusionOptions, DiffusionPlanner, DiffusionSampler, DiffusionSamplerOptions, Engine, EngineOptions,
    Limits, Model, Mppi, MppiOptions, Params, Policy, PolicyGradient, PolicyGradientOptions, Random, Real, StepContext,
    Task, Temperature,
};

/// A mass that panics: in CPU lanes if it is set to, and on the host after a number of steps.
#[derive(Clone)]
struct Fuse {
    lanes: Arc<AtomicBool>,
    host: Arc<AtomicI64>,
}

/// A number of steps that the host never reaches.
const NEVER: i64 = i64::MAX;

impl Fuse {
    fn new() -> Self {
        Self { lanes: Arc::new(AtomicBool::new(false)), host: Arc::new(AtomicI64::new(NEVER)) }
    }

    #[inline(always)]
    fn burn<R>(&self) {
        if type_name::<R>() == "f32" {
            assert!(self.host.fetch_sub(1, Relaxed) != 0, "the fuse of the host has burnt down");
        } else if type_name::<R>().contains("Lanes") {
            assert!(!self.lanes.load(Relaxed), "the fuse of the lanes has burnt down");
        }
    }
}

impl Model<1, 1> for Fuse {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
        self.burn::<R>();
        [x + u * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> R {
        (x - 1.0).square() + u.square() * 0.01
    }
}

impl Energy<1> for Fuse {
    #[inline(always)]
    fn energy<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1]) -> R {
        self.burn::<R>();
        x.square()
    }
}

/// A gain whose `information` may panic.
struct Gain {
    panics: Arc<AtomicBool>,
}

impl Policy<1, 1> for Gain {
    fn parameters(&self) -> usize {
        1
    }
    #[inline(always)]
    fn act<R: Real>(&self, _: &StepContext<R>, theta: &Params<R>, [x]: [R; 1]) -> [R; 1] {
        [theta.get(0) * (x - 1.0)]
    }
    fn information(&self, horizon: usize, [precision]: [f32; 1]) -> Option<Vec<f32>> {
        assert!(!self.panics.load(Relaxed), "nothing is known");
        Some(vec![horizon as f32 * precision])
    }
    fn initial(&self, random: &mut Random) -> Vec<f32> {
        vec![random.normal()]
    }
}

fn panics<T>(call: impl FnOnce() -> T) {
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err(), "it should have panicked");
}

fn mppi_options() -> MppiOptions<1> {
    // Enough rows to use other threads.
    MppiOptions {
        task: Task { horizon: 5, dt: 0.1, ..Default::default() },
        samples: 30_000,
        weighting: Temperature::Fixed(1.0).into(),
        ..Default::default()
    }
}

fn chains(chains: usize) -> DiffusionOptions<1> {
    let schedule = Schedule::Geometric { levels: 3, smallest: 0.3, largest: 1.0 };
    let process = ReverseProcess { schedule, ..Default::default() };
    let limits = Some(Limits { low: [-3.0], high: [2.0] });
    DiffusionOptions {
        task: Task { horizon: 5, dt: 0.1, limits, ..Default::default() },
        samples: 150,
        chains,
        scatter: true,
        process,
        ..Default::default()
    }
}

#[test]
fn a_plan_is_replaced_by_all_of_the_next_or_by_nothing() {
    for engine in engines() {
        let (fuse, other) = (Fuse::new(), Fuse::new());
        let new = |fuse: &Fuse| DiffusionPlanner::new(&engine, fuse.clone(), chains(3)).unwrap();
        let (mut planner, mut twin) = (new(&fuse), new(&other));
        planner.plan(&[0.0]).unwrap();
        // In the rollout of the first chain, of the second, and of the one that is the plan.
        for steps in [2, 7, 16] {
            let before: Vec<_> = planner.chains().map(<[_]>::to_vec).collect();
            let plan = planner.controls().to_vec();
            fuse.host.store(steps, Relaxed);
            panics(|| planner.plan(&[0.3]).map(drop));
            fuse.host.store(NEVER, Relaxed);
            let name = format!("{steps} steps on {}", engine.name());
            assert_eq!(planner.chains().map(<[_]>::to_vec).collect::<Vec<_>>(), before, "{name}");
            assert_eq!(planner.controls(), plan, "{name}");
            assert!(planner.samples().is_err(), "{name}");
            // Later results are unaffected.
            planner.reset();
            twin.reset();
            assert_eq!(planner.plan(&[0.2]).unwrap().controls(), twin.plan(&[0.2]).unwrap().controls(), "{name}");
            let [found, expected] = [&mut planner, &mut twin].map(|of| of.samples().unwrap().weights());
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[test]
fn a_panic_in_a_thread_of_the_cpu_is_over_with_the_call() {
    let engine = cpu();
    let fuse = Fuse::new();
    let mut mppi = Mppi::new(&engine, fuse.clone(), mppi_options()).unwrap();
    let mut planner = DiffusionPlanner::new(&engine, fuse.clone(), chains(5)).unwrap();
    let options = DiffusionSamplerOptions { chains: 100, samples: 100, ..Default::default() };
    let mut diffusion = DiffusionSampler::of_energy(&engine, fuse.clone(), options).unwrap();
    let expected = {
        let (plan, chains) = (mppi.plan(&[0.1]).unwrap().controls().to_vec(), diffusion.sample().unwrap());
        (plan, planner.plan(&[0.1]).unwrap().controls().to_vec(), chains.values().to_vec())
    };
    for _ in 0..3 {
        let before = (mppi.controls().to_vec(), planner.controls().to_vec());
        fuse.lanes.store(true, Relaxed);
        panics(|| mppi.plan(&[0.7]).map(drop));
        panics(|| planner.plan(&[0.7]).map(drop));
        panics(|| diffusion.sample().map(drop));
        fuse.lanes.store(false, Relaxed);
        assert_eq!((mppi.controls(), planner.controls()), (&before.0[..], &before.1[..]));
        mppi.reset();
        planner.reset();
        diffusion.reset();
        let (plan, chains) = (mppi.plan(&[0.1]).unwrap().controls().to_vec(), diffusion.sample().unwrap());
        let found = (plan, planner.plan(&[0.1]).unwrap().controls().to_vec(), chains.values().to_vec());
        assert_eq!(found, expected);
    }
}

#[test]
fn an_iteration_of_training_is_made_whole_or_not_at_all() {
    for engine in engines() {
        let (fuse, unknown, astray) = (Fuse::new(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let options = PolicyGradientOptions {
            task: Task { horizon: 8, dt: 0.1, ..Default::default() },
            samples: 100,
            learners: 2,
            estimator: Estimator::ScoreFunction { std: [0.5], action_noise: ActionNoise::Fixed, antithetic: false },
            step: Step::Natural { rate: 0.1.into() },
            ..Default::default()
        };
        let new = |fuse: &Fuse, unknown: &Arc<AtomicBool>, astray: &Arc<AtomicBool>| {
            let (policy, astray) = (Gain { panics: Arc::clone(unknown) }, Arc::clone(astray));
            let starts = move |random: &mut Random, _: &mut [f32]| {
                let start = random.normal();
                assert!(!(astray.load(Relaxed) && start > 0.5), "it starts nowhere");
                [start]
            };
            PolicyGradient::new(&engine, fuse.clone(), policy, starts, options.clone()).unwrap()
        };
        let mut training = new(&fuse, &unknown, &astray);
        let mut twin = new(&Fuse::new(), &Arc::new(AtomicBool::new(false)), &Arc::new(AtomicBool::new(false)));
        for flag in [&unknown, &astray, &fuse.lanes] {
            let saved = |training: &PolicyGradient<1, 1, Fuse, Gain>| {
                let mut bytes = Vec::new();
                training.save(&mut bytes).unwrap();
                bytes
            };
            let before = saved(&training);
            flag.store(true, Relaxed);
            if engine.backend() == Backend::Cpu || !Arc::ptr_eq(flag, &fuse.lanes) {
                panics(|| training.step().map(drop));
            }
            flag.store(false, Relaxed);
            assert_eq!((saved(&training), training.iteration()), (before, twin.iteration()), "{}", engine.name());
            // The training continues as if nothing had happened.
            training.step().unwrap();
            twin.step().unwrap();
            assert_eq!(saved(&training), saved(&twin), "{}", engine.name());
        }
        let mut bytes = Vec::new();
        twin.step().unwrap();
        twin.save(&mut bytes).unwrap();
        let before = training.theta(0).unwrap().to_vec();
        unknown.store(true, Relaxed);
        panics(|| training.resume(&bytes[..]));
        assert_eq!((training.theta(0).unwrap(), training.iteration()), (&before[..], 3), "{}", engine.name());
    }
}

/// All engines, and the CPU with every [`RowMemory`].
fn all_engines() -> Vec<Engine> {
    let rows = [RowMemory::Stored, RowMemory::Redrawn];
    let with =
        |rows| Engine::with_options(EngineOptions { backend: Backend::Cpu, rows, ..Default::default() }).unwrap();
    engines().into_iter().chain(rows.map(with)).collect()
}

#[test]
fn samples_are_those_of_the_chain_that_became_the_plan() {
    for engine in all_engines() {
        let mut others = 0;
        for temperature in [Temperature::Fixed(0.01), Temperature::EffectiveSamples(0.1)] {
            let options = DiffusionOptions { weighting: temperature.into(), horizon_annealing: Some(1.0), ..chains(4) };
            let mut planner = DiffusionPlanner::new(&engine, Fuse::new(), options).unwrap();
            let given: Vec<f32> = (0..150 * 5).map(|i| (i as f32 * 0.37).sin() * 2.5).collect();
            for call in 0..8 {
                let name = format!("{temperature:?}, call {call} on {}", engine.name());
                let plan = match call % 4 {
                    3 => planner.plan_rows(&[0.2], &given).unwrap().clone(),
                    _ => planner.plan(&[0.2]).unwrap().clone(),
                };
                others += i32::from(planner.chains().next().unwrap() != plan.controls());
                // Samples belong to the plan of that call, whatever the next one starts from.
                if call == 5 {
                    planner.reset();
                }
                // The plan is the weighted mean, which is within the limits, like the rows.
                for _ in 0..2 {
                    let samples = planner.samples().unwrap();
                    let weights = samples.weights();
                    for (t, u) in plan.controls().iter().enumerate() {
                        let mean: f32 = (0..samples.len()).map(|k| weights[k] * samples.controls(k)[t][0]).sum();
                        assert!((mean - u[0]).abs() < 1e-4, "{name}: {mean} and not {} at step {t}", u[0]);
                    }
                    for k in [0, 1, 63, 64, 149] {
                        let states = samples.states(k);
                        let controls = samples.controls(k);
                        assert!(controls.as_flattened().iter().all(|u| (-3.0..=2.0).contains(u)), "{name}");
                        let cost = |t: usize| (states[t + 1][0] - 1.0).powi(2) + controls[t][0].powi(2) * 0.01;
                        let cost: f32 = (0..5).map(cost).sum();
                        assert!((samples.cost(k) - cost).abs() < 1e-3, "{name}: {} and not {cost}", samples.cost(k));
                    }
                }
            }
        }
        assert!(others > 4, "{others} plans of 16 were another chain's than the first on {}", engine.name());
    }
}

/// Costs 1 beyond 4; below it the cost is so large that its sum overflows.
struct Edge;

impl Model<1, 1> for Edge {
    #[inline(always)]
    fn step<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
        [x + u]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1], _: [R; 1]) -> R {
        R::select(x.gt(4.0), 1.0, R::from(3e38) * (x.abs() + 10.0))
    }
}

#[test]
fn samples_have_weights_even_if_the_first_chain_failed() {
    for engine in all_engines() {
        let (mut good, seeds) = (0, if engine.backend() == Backend::Cpu { 300 } else { 60 });
        for seed in 0..seeds {
            let schedule = Schedule::Geometric { levels: 2, smallest: 1.0, largest: 4.0 };
            let process = ReverseProcess { schedule, ..Default::default() };
            let options = DiffusionOptions {
                task: Task { horizon: 1, seed, ..Default::default() },
                samples: 2,
                chains: 3,
                scatter: true,
                process,
                ..Default::default()
            };
            let mut planner = DiffusionPlanner::new(&engine, Edge, options).unwrap();
            let Ok(plan) = planner.plan(&[0.0]).cloned() else { continue };
            good += 1;
            let samples = planner.samples().unwrap();
            let weights = samples.weights();
            let name = format!("seed {seed} on {}", engine.name());
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{name}: {weights:?}");
            let mean: f32 = weights.iter().enumerate().map(|(k, w)| w * samples.controls(k)[0][0]).sum();
            assert!((mean - plan.controls()[0][0]).abs() < 1e-3, "{name}: {mean} and not {}", plan.controls()[0][0]);
        }
        assert!(good > seeds / 10, "{good} of {seeds} plans on {}", engine.name());
    }
}

#[test]
fn plans_tell_when_options_do_not_fit_the_task() {
    use gibbs::control::Symptom;
    use gibbs::models::DoubleIntegrator;
    let symptoms = |lambda: f32, std: f32, limit: f32| {
        let limits = Some(Limits { low: [-limit; 2], high: [limit; 2] });
        let options = MppiOptions {
            task: Task { horizon: 20, limits, ..Default::default() },
            weighting: Temperature::Fixed(lambda).into(),
            noise: gibbs::Noise::Diagonal([std; 2]),
            ..Default::default()
        };
        let mut mppi = Mppi::new(&cpu(), DoubleIntegrator::default(), options).expect("valid");
        mppi.plan(&[1.0, 1.0, 0.0, 0.0]).expect("it runs").symptoms().collect::<Vec<_>>()
    };
    assert_eq!(symptoms(1.0, 0.5, 2.0), []);
    assert_eq!(symptoms(1e4, 0.5, 2.0), [Symptom::EqualWeights]);
    assert_eq!(symptoms(1e-6, 0.5, 2.0), [Symptom::SingleRow]);
    assert_eq!(symptoms(1.0, 2.0, 0.2), [Symptom::Clipped]);
}
