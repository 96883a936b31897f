//! Scenarios: control sequences are weighed by a risk over their costs in several worlds.

mod common;

use common::{cpu, engines};
use gibbs::control::Fallback;
use gibbs::runtime::RowMemory;
use gibbs::sampling::{ReverseProcess, Schedule};
use gibbs::{
    Backend, DiffusionOptions, DiffusionPlanner, Engine, EngineOptions, Fleet, Interpolation, Limits, Model, Mppi,
    MppiOptions, NoiseShape, PlanError, Real, References, Risk, Scenario, Spread, StepContext, Task, Temperature,
};

/// A mass of parameter 0 kg that should come to parameter 1. Reference 0 is a disturbance, and 1 a demonstration.
#[derive(Debug, Clone, Copy)]
struct Mass;

impl Model<2, 1> for Mass {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> [R; 2] {
        [p + v * at.dt(), v + (u / at.param(0) + at.reference(0)) * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> R {
        (p - at.param(1)).square() + v.square() * 0.1 + u.square() * 0.01
    }
    #[inline(always)]
    fn demonstration_cost<R: Real>(&self, at: &StepContext<R>, [p, _]: [R; 2]) -> R {
        (p - at.reference(1)).square()
    }
    #[inline(always)]
    fn done<R: Real>(&self, _: &StepContext<R>, [p, _]: [R; 2]) -> R::Mask {
        p.gt(6.0)
    }
    #[inline(always)]
    fn feasible<R: Real>(&self, _: &StepContext<R>, [p, _]: [R; 2]) -> R::Mask {
        p.lt(4.0)
    }
}

fn task() -> Task<1> {
    let spread = Spread { state: vec![0.2, 0.1], params: vec![0.15], references: vec![0.5] };
    Task {
        horizon: 12,
        dt: 0.1,
        limits: Some(Limits { low: [-4.0], high: [4.0] }),
        params: vec![1.0, 2.0],
        references: Some(References { values: vec![0.0, 0.5, 0.0, 1.0, 0.1, 1.5], columns: 2 }),
        scenarios: spread.draw(5, 9, 7).expect("valid"),
        risk: Risk::ConditionalValueAtRisk(0.5),
        seed: 41,
        ..Default::default()
    }
}

fn mppi(task: Task<1>) -> MppiOptions<1> {
    MppiOptions { task, samples: 300, iterations: 2, ..Default::default() }
}

fn near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{what}: {a}, not {b}");
    }
}

/// The risk over some costs, by its definition.
fn risk(risk: Risk, costs: &[f32]) -> f32 {
    let mut sorted: Vec<f64> = costs.iter().map(|c| f64::from(*c)).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let count = sorted.len() as f64;
    let tail = |size: f64| {
        let part = |(i, c): (usize, &f64)| (size - i as f64).clamp(0.0, 1.0) * c;
        sorted.iter().enumerate().map(part).sum::<f64>() / size
    };
    let found = match risk {
        Risk::Worst => sorted[0],
        Risk::ConditionalValueAtRisk(alpha) => tail((f64::from(alpha) * count).max(1.0)),
        Risk::Entropic(theta) => {
            let theta = f64::from(theta);
            (sorted.iter().map(|c| (theta * c).exp()).sum::<f64>() / count).ln() / theta
        }
        _ => tail(count),
    };
    found as f32
}

const RISKS: [Risk; 4] = [Risk::Mean, Risk::Worst, Risk::ConditionalValueAtRisk(0.3), Risk::Entropic(0.7)];

/// Costs one unit per unit of parameter 0, whatever the control.
struct Linear;

impl Model<1, 1> for Linear {
    #[inline(always)]
    fn step<R: Real>(&self, _: &StepContext<R>, x: [R; 1], _: [R; 1]) -> [R; 1] {
        x
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, _: [R; 1], _: [R; 1]) -> R {
        at.param(0)
    }
}

/// Φ(z) by quadrature of the density.
fn distribution(z: f64) -> f64 {
    let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    let (from, steps) = (-9.0, 2000);
    let h = (z - from) / f64::from(steps);
    let inner: f64 = (1..steps).map(|i| density(from + h * f64::from(i))).sum();
    h * (inner + 0.5 * (density(from) + density(z)))
}

fn quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if distribution(middle) < share { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// A cost of mean m and standard deviation σ has the entropic risk m + θσ²/2 and the conditional value at risk
/// m + σ φ(Φ⁻¹(1 − α))/α, if it is normal.
#[test]
fn risks_of_a_normal_cost_are_those_of_the_closed_forms() {
    const SCENARIOS: usize = 400;
    let (mean, std) = (3.0, 0.8);
    let deviations = (0..SCENARIOS).map(|s| std * quantile((s as f64 + 0.5) / SCENARIOS as f64));
    let scenarios: Vec<Scenario> =
        deviations.map(|z| Scenario { params: vec![z as f32], ..Default::default() }).collect();
    let (alpha, theta) = (0.2, 0.9);
    let z = quantile(1.0 - alpha);
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    let kinds = [
        (Risk::Mean, mean),
        (Risk::ConditionalValueAtRisk(alpha as f32), mean + std * density / alpha),
        (Risk::Entropic(theta as f32), mean + 0.5 * theta * std * std),
    ];
    for (risk, expected) in kinds {
        let scenarios = scenarios.clone();
        let task = Task { horizon: 1, params: vec![mean as f32], scenarios, risk, ..Default::default() };
        let options = MppiOptions { task, samples: 70, ..Default::default() };
        let mut mppi = Mppi::new(&cpu(), Linear, options).expect("valid");
        let plan = mppi.plan(&[0.0]).expect("it runs");
        let expected = expected as f32;
        near(&format!("the plan's {risk:?}"), &[plan.cost()], &[expected], 2e-3);
        near(&format!("the rows' {risk:?}"), &[plan.mean_cost(), plan.min_cost()], &[expected; 2], 2e-3);
    }
}

#[test]
fn costs_of_rows_are_risks_over_their_costs_in_the_scenarios() {
    let knots = NoiseShape::Knots { every: 3, interpolation: Interpolation::Linear };
    let limited = Some(Limits { low: [-20.0], high: [10.0] });
    let states = [[0.1, 0.3], [0.0, 0.0]];
    for engine in engines() {
        for (i, risk_kind) in RISKS.into_iter().enumerate() {
            let mut options = mppi(Task { risk: risk_kind, ..task() });
            if i % 2 == 1 {
                options.noise_shape = knots;
                options.task.rate_limits = limited;
            }
            let mut mppi = Mppi::new(&engine, Mass, options).expect("valid");
            let what = format!("{risk_kind:?} on {}", engine.name());
            for x in states {
                let plan = mppi.plan(&x).expect("it runs").clone();
                let each = |controls: &[[f32; 1]]| -> Vec<f32> {
                    (0..5).map(|s| mppi.simulate_scenario(s, &x, controls).expect("valid").1).collect()
                };
                let costs = each(plan.controls());
                near(&what, plan.scenario_costs(), &costs, 1e-6);
                near(&what, &[plan.cost()], &[risk(risk_kind, &costs)], 1e-5);
                assert!(plan.states()[0] == x, "{what}: the states are those of the task itself");
            }
            let samples = mppi.samples().expect("there are some");
            let rows: Vec<_> = (0..samples.len()).map(|k| (samples.cost(k), samples.controls(k))).collect();
            for (cost, controls) in rows {
                let costs: Vec<f32> =
                    (0..5).map(|s| mppi.simulate_scenario(s, &states[1], &controls).expect("valid").1).collect();
                near(&what, &[cost], &[risk(risk_kind, &costs)], 2e-4);
            }
        }
    }
}

#[test]
fn both_backends_plan_alike_in_scenarios() {
    let [cpu, gpus @ ..] = &engines()[..] else { panic!("there is a CPU") };
    let rows = [RowMemory::Stored, RowMemory::Redrawn]
        .map(|rows| Engine::with_options(EngineOptions { backend: Backend::Cpu, rows, ..Default::default() }).unwrap());
    for engine in gpus.iter().chain(&rows) {
        for (i, risk) in RISKS.into_iter().enumerate() {
            let weighting = [Temperature::Fixed(0.5), Temperature::EffectiveSamples(0.2)][i % 2];
            // Few rows, and more than one group.
            for samples in [100, 1100] {
                let task = Task { risk, ..task() };
                let options = MppiOptions { samples, weighting: weighting.into(), ..mppi(task) };
                let [here, there] = [cpu, engine].map(|engine| {
                    let mut mppi = Mppi::new(engine, Mass, options.clone()).expect("valid");
                    mppi.plan(&[0.0, 0.5]).expect("it runs").clone()
                });
                let what = format!("{risk:?}, {samples} rows, {}", engine.name());
                near(&what, there.controls().as_flattened(), here.controls().as_flattened(), 1e-3);
                near(&what, &[there.cost(), there.min_cost()], &[here.cost(), here.min_cost()], 1e-3);
            }
        }
    }
}

#[test]
fn a_diffusion_planner_takes_the_mean_of_demonstration_costs() {
    let options = DiffusionOptions {
        task: task(),
        samples: 200,
        chains: 2,
        scatter: true,
        demonstration: Some(1.0),
        process: ReverseProcess {
            schedule: Schedule::Geometric { levels: 4, smallest: 0.2, largest: 1.0 },
            ..Default::default()
        },
        ..Default::default()
    };
    let plans: Vec<_> = engines()
        .iter()
        .map(|engine| {
            let mut planner = DiffusionPlanner::new(engine, Mass, options.clone()).expect("valid");
            let plan = planner.plan(&[0.0, 0.5]).expect("it runs").clone();
            let samples = planner.samples().expect("there are some");
            // With a demonstration, the second score of a row is its demonstration cost.
            let departures: Vec<f32> = (0..samples.len()).map(|k| samples.control_cost(k)).collect();
            (plan, departures)
        })
        .collect();
    for (plan, departures) in &plans[1..] {
        near("the plan", plan.controls().as_flattened(), plans[0].0.controls().as_flattened(), 1e-3);
        near("departures", departures, &plans[0].1, 1e-3);
    }
}

/// A scenario that does not deviate is the task itself.
#[test]
fn a_single_scenario_without_deviations_changes_no_bit() {
    let knots = NoiseShape::Knots { every: 3, interpolation: Interpolation::Cubic };
    for risk in [Risk::Mean, Risk::Worst, Risk::ConditionalValueAtRisk(0.2)] {
        for noise_shape in [NoiseShape::White, knots] {
            let [alone, with] = [vec![], vec![Scenario::default()]].map(|scenarios| {
                let options = MppiOptions { noise_shape, ..mppi(Task { scenarios, risk, ..task() }) };
                let mut mppi = Mppi::new(&cpu(), Mass, options).expect("valid");
                (0..2)
                    .map(|_| {
                        let plan = mppi.plan(&[0.1, 0.0]).expect("it runs");
                        (plan.controls().to_vec(), plan.cost(), plan.effective_samples(), plan.min_cost())
                    })
                    .collect::<Vec<_>>()
            });
            assert_eq!(alone, with, "{risk:?}, {noise_shape:?}");
        }
    }
}

#[test]
fn problems_of_a_fleet_share_scenarios() {
    for engine in engines() {
        let options = mppi(task());
        let states = [[0.0, 0.5], [1.0, -0.5], [0.3, 0.0]];
        let mut fleet = Fleet::new(&engine, Mass, options.clone(), 3).expect("valid");
        fleet.set_params(1, &[1.4, 0.5]).expect("valid");
        fleet.set_references(2, &[0.3, 1.0], 2).expect("valid");
        let plans: Vec<_> = fleet.plan(&states).expect("it runs").iter().map(|plan| plan.unwrap().clone()).collect();
        for (i, together) in plans.iter().enumerate() {
            let mut own = options.clone();
            own.task.seed += i as u64;
            if i == 1 {
                own.task.params = vec![1.4, 0.5];
            }
            if i == 2 {
                own.task.references = Some(References { values: vec![0.3, 1.0], columns: 2 });
            }
            let mut alone = Mppi::new(&engine, Mass, own).expect("valid");
            let alone = alone.plan(&states[i]).expect("it runs");
            let tolerance = if engine.backend() == Backend::Cpu { 0.0 } else { 1e-4 };
            let what = format!("problem {i} on {}", engine.name());
            near(&what, together.controls().as_flattened(), alone.controls().as_flattened(), tolerance);
            near(&what, together.scenario_costs(), alone.scenario_costs(), tolerance);
        }
    }
}

#[test]
fn other_scenarios_give_the_plans_of_a_new_planner() {
    let others = Spread { params: vec![0.3], ..Default::default() }.draw(5, 0, 3).expect("valid");
    for engine in engines() {
        let mut changed = Mppi::new(&engine, Mass, mppi(task())).expect("valid");
        changed.start(&[0.0, 0.5]).expect("it starts");
        changed.set_scenarios(others.clone()).expect("as many as before");
        let pending = changed.finish().expect("it ends").scenario_costs().to_vec();
        let mut before = Mppi::new(&engine, Mass, mppi(task())).expect("valid");
        assert_eq!(pending, before.plan(&[0.0, 0.5]).unwrap().scenario_costs(), "a pending call keeps its scenarios");

        let new = Task { scenarios: others.clone(), ..task() };
        let mut made = Mppi::new(&engine, Mass, mppi(new.clone())).expect("valid");
        changed.reset();
        let expected = made.plan(&[0.0, 0.5]).expect("it runs").controls().to_vec();
        assert_eq!(changed.plan(&[0.0, 0.5]).expect("it runs").controls(), expected);
        assert_eq!(changed.options().task.scenarios, others);

        // Options with another number of scenarios, and with none.
        for scenarios in [others[..2].to_vec(), vec![]] {
            let options = mppi(Task { scenarios, ..task() });
            changed.set_options(options.clone()).expect("valid");
            changed.reset();
            let mut made = Mppi::new(&engine, Mass, options).expect("valid");
            let expected = made.plan(&[0.0, 0.5]).expect("it runs").controls().to_vec();
            assert_eq!(changed.plan(&[0.0, 0.5]).expect("it runs").controls(), expected);
        }
    }
}

/// Charges a point that is beyond a wall at parameter 0.
struct Wall;

impl Model<1, 1> for Wall {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
        [x + u * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], _: [R; 1]) -> R {
        (x - 1.0).square() + R::select(x.gt(at.param(0)), R::from(10.0), R::from(0.0))
    }
    #[inline(always)]
    fn feasible<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1]) -> R::Mask {
        x.le(at.param(0))
    }
}

#[test]
fn a_plan_keeps_away_from_where_a_wall_may_be() {
    let walls = [-0.4, 0.0, 0.2].map(|shift| Scenario { params: vec![shift], ..Default::default() });
    let end = |scenarios: &[Scenario], risk| {
        let task =
            Task { horizon: 10, dt: 0.1, params: vec![1.0], scenarios: scenarios.to_vec(), risk, ..Default::default() };
        let options = MppiOptions {
            task,
            samples: 1024,
            iterations: 8,
            weighting: Temperature::EffectiveSamples(0.02).into(),
            fallback: Fallback::BestRow,
            ..Default::default()
        };
        let mut mppi = Mppi::new(&cpu(), Wall, options).expect("valid");
        let plan = mppi.plan(&[0.0]).expect("it runs");
        (plan.states()[10][0], plan.is_sound())
    };
    let (nominal, _) = end(&[], Risk::Mean);
    let (worst, is_sound) = end(&walls, Risk::Worst);
    assert!(nominal > 0.85, "it goes to 1: {nominal}");
    assert!(worst > 0.3 && worst <= 0.6 && is_sound, "the wall may be at 0.6: {worst}");
}

#[test]
fn a_plan_that_is_not_feasible_in_some_scenario_is_not_sound() {
    let sound = |shift: f32| {
        let scenarios = vec![Scenario::default(), Scenario { state: vec![shift], ..Default::default() }];
        let mut mppi = Mppi::new(&cpu(), Mass, mppi(Task { scenarios, ..task() })).expect("valid");
        mppi.plan(&[1.0, 0.0]).expect("it runs").is_sound()
    };
    assert!(sound(0.0) && !sound(4.0));
}

#[test]
fn a_row_that_is_invalid_in_one_scenario_is_invalid() {
    let mut scenarios = vec![Scenario::default(); 3];
    // A mass of 0 kg.
    scenarios[1].params = vec![-1.0];
    for engine in engines() {
        let task = Task { scenarios: scenarios.clone(), risk: Risk::Mean, ..task() };
        let mut mppi = Mppi::new(&engine, Mass, mppi(task)).expect("valid");
        let failed = mppi.plan(&[0.0, 0.0]).map(drop);
        assert!(matches!(failed, Err(PlanError::NoFiniteRow { .. })), "{failed:?}");
    }
}

#[test]
fn scenarios_that_do_not_fit_are_refused() {
    let refused = |change: &dyn Fn(&mut Task<1>), field: &str, says: &str| {
        let mut task = task();
        change(&mut task);
        let error = Mppi::new(&cpu(), Mass, mppi(task)).expect_err("it is refused").to_string();
        assert!(error.contains(field) && error.contains(says), "{error}");
    };
    refused(&|task| task.scenarios[1].state = vec![0.0; 3], "scenarios", "3 states in scenario 1");
    refused(&|task| task.scenarios[4].params = vec![0.0; 3], "scenarios", "3 parameters in scenario 4");
    refused(&|task| task.scenarios[0].params = vec![f32::NAN], "scenarios", "NaN");
    refused(&|task| task.scenarios[0].state = vec![f32::INFINITY], "scenarios", "inf");
    refused(&|task| task.risk = Risk::ConditionalValueAtRisk(0.0), "risk", "(0, 1]");
    refused(&|task| task.risk = Risk::Entropic(-1.0), "risk", "above 0");
    refused(&|task| task.scenarios = vec![Scenario::default(); 70_000], "scenarios", "at most 65535");
    refused(
        &|task| task.scenarios[2].references = Some(References { values: vec![1.0; 3], columns: 2 }),
        "scenarios",
        "references of 3 numbers in 2 columns in scenario 2",
    );
    let mut mppi = Mppi::new(&cpu(), Mass, mppi(task())).expect("valid");
    assert!(mppi.set_scenarios(vec![]).is_err());
    let mut more = task();
    more.scenarios[3].params = vec![0.1, 0.2];
    let mut with_more = Mppi::new(&cpu(), Mass, MppiOptions { samples: 70, task: more, ..Default::default() }).unwrap();
    with_more.set_params(&[1.0, 2.0]).expect("as many as a scenario deviates in");
    assert!(with_more.try_clone().is_ok());
    assert!(mppi.set_scenarios(vec![Scenario { state: vec![0.0; 3], ..Default::default() }; 5]).is_err());
    assert!(mppi.simulate_scenario(5, &[0.0; 2], &[[0.0]]).is_err());
    assert!(Spread { params: vec![-1.0], ..Default::default() }.draw(2, 1, 0).is_err());
    assert!(Spread { references: vec![1.0], ..Default::default() }.draw(2, 0, 0).is_err());
}

/// Columns of the references that only scenarios have are 0 in the task itself.
#[test]
fn process_noise_needs_no_column_in_the_task() {
    let spread = Spread { references: vec![0.5, 0.0], ..Default::default() };
    let task = Task { references: None, scenarios: spread.draw(4, 12, 2).expect("valid"), ..task() };
    let mut mppi = Mppi::new(&cpu(), Mass, mppi(task)).expect("valid");
    let x = [0.0, 0.0];
    let plan = mppi.plan(&x).expect("it runs").clone();
    let coast = vec![[0.0]; 12];
    assert_eq!(mppi.simulate(&x, &coast).expect("valid").0[12], [0.0, 0.0]);
    assert!(plan.scenario_costs().windows(2).all(|costs| costs[0] != costs[1]));
}

#[test]
fn drawn_scenarios_have_the_spread_that_was_asked_for() {
    let spread = Spread { state: vec![0.0, 2.0], params: vec![0.5], references: vec![1.0, 3.0] };
    let scenarios = spread.draw(4001, 3, 5).expect("valid");
    assert_eq!(scenarios, spread.draw(4001, 3, 5).expect("valid"));
    let std = |of: &dyn Fn(&Scenario) -> f32| {
        let sum: f64 = scenarios.iter().map(|s| f64::from(of(s)).powi(2)).sum();
        (sum / scenarios.len() as f64).sqrt() as f32
    };
    let cell = |i: usize| move |s: &Scenario| s.references.as_ref().expect("drawn").values[i];
    near("state 0", &[std(&|s| s.state[0])], &[0.0], 0.0);
    near("state 1", &[std(&|s| s.state[1])], &[2.0], 0.03);
    near("parameter", &[std(&|s| s.params[0])], &[0.5], 0.03);
    near("references", &[std(&cell(0)), std(&cell(3)), std(&cell(4))], &[1.0, 3.0, 1.0], 0.03);
    let pair = |s: usize| (scenarios[s].params[0], scenarios[s].references.as_ref().expect("drawn").values[2]);
    assert_eq!(pair(10), (-pair(11).0, -pair(11).1));
    assert_ne!(pair(10).0, pair(12).0);
}
