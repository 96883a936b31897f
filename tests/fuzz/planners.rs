//! The two planners, `Mppi` and `DiffusionPlanner`, which share all methods.

use std::fmt::Debug;

use gibbs::control::{Algorithm, CostNormalization, Fallback};
use gibbs::{DiffusionOptions, DiffusionPlanner, Engine, Limits, Mppi, MppiOptions, PlanError, Planner, Task};

use crate::draw::{Draw, Probe};
use crate::{agreed, bits, both, cpus, fuzz, gpus};

/// The properties of the options that the checks need, for either method.
pub(crate) struct Shape {
    pub(crate) horizon: usize,
    pub(crate) samples: usize,
    pub(crate) chains: usize,
    pub(crate) limits: Option<Limits<2>>,
}

/// Options that can be drawn at random.
pub(crate) trait Options: Algorithm<2> + PartialEq + Debug {
    fn draw(draw: &mut Draw) -> Self;
    fn shape(&self) -> Shape;
    /// Whether a plan depends on the controls before it.
    fn continues(&self) -> bool;
}

impl Options for MppiOptions<2> {
    fn draw(draw: &mut Draw) -> Self {
        let cost_normalization = match draw.index(3) {
            0 => CostNormalization::Sum,
            1 => CostNormalization::HorizonAverage,
            _ => CostNormalization::Gamma(draw.number(0.0, 1.0)),
        };
        let plain = draw.chance(0.6) || matches!(cost_normalization, CostNormalization::Gamma(_));
        // Limited rates and delays do not go with a control cost.
        let sequential = plain && !matches!(cost_normalization, CostNormalization::Gamma(_)) && draw.chance(0.5);
        Self {
            task: Task {
                horizon: draw.size(24),
                dt: draw.number(0.01, 0.3),
                limits: draw.limits(),
                rate_limits: if sequential { draw.rate_limits() } else { None },
                jerk_limits: if sequential { draw.jerk_limits() } else { None },
                delay: if sequential { draw.delay() } else { 0 },
                params: draw.params(),
                references: draw.reference_table(),
                scenarios: draw.scenarios(),
                risk: draw.risk(),
                fields: draw.fields(),
                // These models evaluate no network: see tests/networks.rs.
                weights: Vec::new(),
                seed: draw.seed(),
            },
            samples: draw.size(600),
            iterations: 1 + draw.index(3),
            weighting: draw.weighting(),
            noise: draw.noise(),
            noise_shape: draw.noise_shape(),
            alpha: if plain { 1.0 } else { draw.number(0.0, 1.0) },
            cost_normalization,
            step_size: draw.number(0.05, 1.0),
            proposals: draw.proposals(),
            fallback: draw.one_of(&[Fallback::None, Fallback::None, Fallback::LastPlan, Fallback::BestRow]),
            smoothing: draw.smoothing(),
            shift_fill: draw.shift_fill(),
            nominal_first: draw.chance(0.5),
            antithetic: draw.chance(0.2),
            covariance_adaptation: if draw.chance(0.3) { Some(draw.number(0.01, 1.0)) } else { None },
            initial: if draw.chance(0.9) { [0.0; 2] } else { draw.array(-1.0, 1.0) },
        }
    }

    fn shape(&self) -> Shape {
        Shape {
            horizon: self.task.horizon,
            samples: self.samples,
            chains: 1 + self.proposals.len(),
            limits: boxed(&self.task),
        }
    }

    fn continues(&self) -> bool {
        !self.proposals.is_empty() || limits_changes(&self.task) || self.task.delay > 0 || self.smoothing.is_some()
    }
}

impl Options for DiffusionOptions<2> {
    fn draw(draw: &mut Draw) -> Self {
        Self {
            task: Task {
                horizon: draw.size(24),
                dt: draw.number(0.01, 0.3),
                limits: draw.limits(),
                rate_limits: draw.rate_limits(),
                jerk_limits: draw.jerk_limits(),
                delay: draw.delay(),
                params: draw.params(),
                references: draw.reference_table(),
                scenarios: draw.scenarios(),
                risk: draw.risk(),
                fields: draw.fields(),
                // These models evaluate no network: see tests/networks.rs.
                weights: Vec::new(),
                seed: draw.seed(),
            },
            samples: draw.size(400),
            chains: if draw.chance(0.5) { 1 } else { draw.size(5) },
            process: draw.process(),
            weighting: draw.weighting(),
            noise: draw.noise(),
            noise_shape: draw.noise_shape(),
            horizon_average: draw.chance(0.5),
            horizon_annealing: if draw.chance(0.3) { Some(draw.number(0.2, 3.0)) } else { None },
            demonstration: if draw.chance(0.3) { Some(draw.number(-5.0, 5.0)) } else { None },
            scatter: draw.chance(0.3),
            nominal_first: draw.chance(0.5),
            antithetic: draw.chance(0.2),
            fallback: draw.one_of(&[Fallback::None, Fallback::None, Fallback::LastPlan, Fallback::BestRow]),
            smoothing: draw.smoothing(),
            shift_fill: draw.shift_fill(),
            initial: if draw.chance(0.9) { [0.0; 2] } else { draw.array(-1.0, 1.0) },
        }
    }

    fn shape(&self) -> Shape {
        Shape { horizon: self.task.horizon, samples: self.samples, chains: self.chains, limits: boxed(&self.task) }
    }

    fn continues(&self) -> bool {
        limits_changes(&self.task) || self.task.delay > 0 || self.smoothing.is_some()
    }
}

fn limits_changes(task: &Task<2>) -> bool {
    task.rate_limits.is_some() || task.jerk_limits.is_some()
}

/// The limits that every control is within: where rates are limited too, those count, and controls that are on their
/// way are fixed.
fn boxed(task: &Task<2>) -> Option<Limits<2>> {
    task.limits.filter(|_| !limits_changes(task) && task.delay == 0)
}

pub(crate) type Probed<A> = Planner<3, 2, Probe, A>;

/// The observable state of a planner between calls.
fn seen<A: Options>(planner: &Probed<A>) -> (String, Vec<u32>) {
    let chains: Vec<u32> = planner.chains().flat_map(|chain| bits(chain.as_flattened())).collect();
    (format!("{:?}", planner.options()), [bits(planner.controls().as_flattened()), chains].concat())
}

/// Checks a plan and returns the bits of its numbers.
pub(crate) fn checked(plan: Result<&gibbs::Plan<3, 2>, PlanError>, shape: &Shape) -> Result<Vec<u32>, PlanError> {
    let plan = plan?;
    let controls = plan.controls().as_flattened();
    assert_eq!(controls.len(), 2 * shape.horizon);
    assert!(controls.iter().all(|u| u.is_finite()), "controls {controls:?}");
    if let Some(Limits { low, high }) = shape.limits {
        for u in plan.controls() {
            for m in 0..2 {
                assert!((low[m]..=high[m]).contains(&u[m]), "control {} of [{}, {}]", u[m], low[m], high[m]);
            }
        }
    }
    assert_eq!(plan.states().len(), shape.horizon + 1);
    assert_eq!(plan.samples(), shape.samples);
    assert!(plan.invalid_rows() < shape.samples);
    let effective = plan.effective_samples();
    assert!((0.999..=1.001 * shape.samples as f32).contains(&effective), "{effective} effective samples");
    let sums = [effective, plan.min_cost(), plan.mean_cost(), plan.log_z(), plan.temperature(), plan.free_energy()];
    assert!(sums.iter().all(|v| !v.is_nan()), "{sums:?}");
    // The cost of a plan may be infinite or NaN, as documented.
    Ok(bits(&[controls, &sums, &[plan.cost()]].concat()))
}

/// Checks the rows of the last plan and returns their weights and some of their numbers.
fn samples<A: Options>(planner: &mut Probed<A>) -> Result<Vec<u32>, PlanError> {
    let shape = planner.options().shape();
    let has_scenarios = !planner.options().task().scenarios.is_empty();
    planner.terms()?;
    let samples = planner.samples()?;
    assert_eq!(samples.len(), shape.samples);
    let weights = samples.weights();
    let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    assert!((total - 1.0).abs() < 1e-4, "weights sum to {total}");
    assert!(weights.iter().all(|w| (0.0..=1.0).contains(w)));
    let mut numbers = weights;
    for k in [0, shape.samples / 2, shape.samples - 1] {
        let controls = samples.controls(k);
        for u in &controls {
            let inside = |m: usize| shape.limits.is_none_or(|l| (l.low[m]..=l.high[m]).contains(&u[m]));
            assert!(inside(0) && inside(1), "a row {u:?} outside {:?}", shape.limits);
        }
        if samples.is_valid(k) {
            assert!(samples.cost(k).is_finite(), "a valid row costs {}", samples.cost(k));
            let (terms, cost) = (samples.terms(k), f64::from(samples.cost(k)));
            let parts = terms.iter().map(|(_, total)| total).chain([terms.rest()]).map(f64::from);
            let (sum, size) = parts.fold((0.0, 1.0), |(sum, size), part| (sum + part, size + part.abs()));
            // With scenarios, terms are those of the task itself, and the cost is the risk.
            let is_cost = has_scenarios || (sum - cost).abs() < 1e-4 * size;
            assert!(is_cost, "terms sum to {sum}, not {cost}: {terms:?}");
        } else {
            assert!(samples.log_weight(k) == f32::NEG_INFINITY);
        }
        assert_eq!(samples.states(k).len(), shape.horizon + 1);
        numbers.extend(controls.as_flattened());
    }
    Ok(bits(&numbers))
}

/// Starts a call as soon as a canceled one has left the device.
fn start<A: Options>(planner: &mut Probed<A>, x: &[f32; 3]) -> Result<(), PlanError> {
    loop {
        match planner.start(x) {
            Err(PlanError::Busy) => std::thread::yield_now(),
            started => return started,
        }
    }
}

fn case<A: Options>(draw: &mut Draw, engines: &[Engine; 2]) -> bool {
    let options = A::draw(draw);
    let made = [0, 1].map(|i| Probed::new(&engines[i], Probe, options.clone()));
    let mut twins = match made {
        [Ok(a), Ok(b)] => [a, b],
        both => {
            agreed(both.map(|made| made.map(|_| ())).map(|made| made.map_err(|e| e.to_string()))).unwrap_err();
            return false;
        }
    };
    for _ in 0..12 {
        draw.change_mood();
        let before = seen(&twins[0]);
        let x = draw.array(-2.0, 2.0);
        // Whether an error must leave the planner unchanged, and the numbers that the call returned.
        let outcome: Result<Vec<u32>, String> = match draw.index(17) {
            0..=3 => both(&mut twins, |planner| {
                let shape = planner.options().shape();
                checked(planner.plan(&x), &shape)
            }),
            4 => {
                let updates = draw.index(4);
                both(&mut twins, |planner| {
                    let shape = planner.options().shape();
                    checked(planner.plan_first(&x, updates), &shape)
                })
            }
            5 => {
                let shape = twins[0].options().shape();
                let count = shape.samples * shape.horizon * 2 + usize::from(draw.chance(0.05));
                let rows = draw.numbers(count, -3.0, 3.0);
                both(&mut twins, |planner| checked(planner.plan_rows(&x, &rows), &shape))
            }
            6 | 7 => both(&mut twins, samples),
            8 if draw.chance(0.5) => {
                let seconds = draw.number(0.0, 1.0);
                let control = draw.array(-1.0, 1.0);
                let (sets, proposal) = (draw.chance(0.3), draw.index(4));
                both(&mut twins, |planner| {
                    if sets && seconds < 0.2 {
                        let controls = vec![control; planner.controls().len()];
                        return planner.propose(proposal, &controls).map(|()| Vec::new());
                    }
                    if sets {
                        return planner.set_last_control(&control).map(|()| Vec::new());
                    }
                    let u = if seconds > 0.5 { planner.advance() } else { planner.advance_by(seconds)? };
                    assert!(u.iter().all(|u| u.is_finite()), "{u:?}");
                    Ok(bits(&[u, planner.last_control()].concat()))
                })
            }
            8 => {
                let steps = if draw.chance(0.05) { usize::MAX } else { draw.index(30) };
                twins.iter_mut().for_each(|planner| planner.shift(steps));
                Ok(Vec::new())
            }
            9 => {
                let seed = draw.seed();
                let reset = draw.chance(0.5);
                twins.iter_mut().for_each(|planner| if reset { planner.reset() } else { planner.reseed(seed) });
                Ok(Vec::new())
            }
            10 => {
                let count = twins[0].options().shape().horizon + usize::from(draw.chance(0.05));
                let controls: Vec<[f32; 2]> = (0..count).map(|_| draw.array(-1.0, 1.0)).collect();
                both(&mut twins, |planner| planner.set_controls(&controls).map(|()| Vec::new()))
            }
            11 => {
                let params = draw.params();
                both(&mut twins, |planner| planner.set_params(&params).map(|()| Vec::new()))
            }
            12 if draw.chance(0.5) => {
                let (values, columns) = draw.references();
                both(&mut twins, |planner| planner.set_references(&values, columns).map(|()| Vec::new()))
            }
            12 if draw.chance(0.6) => {
                // Fields of both planners have the same size.
                let index = draw.index(3);
                let (width, height, channels) = match twins[0].options().task().fields.get(index) {
                    Some(field) => (field.width(), field.height(), field.channels()),
                    None => (1, 1, 1),
                };
                let ((region, values), origin) = (draw.region(width, height, channels), draw.array::<2>(-2.0, 2.0));
                let (moves, is_table) = (draw.chance(0.3), (index == 1) != draw.chance(0.05));
                both(&mut twins, |planner| {
                    match (moves, is_table) {
                        (false, _) => planner.update_field(index, region, &values),
                        (true, true) => planner.set_field_origin(index, [origin[0]]),
                        (true, false) => planner.set_field_origin(index, origin),
                    }
                    .map(|()| Vec::new())
                })
            }
            12 => {
                let index = draw.index(3);
                let grid = if (index == 1) != draw.chance(0.05) { draw.table() } else { draw.grid() };
                both(&mut twins, |planner| planner.set_field(index, grid.clone()).map(|()| Vec::new()))
            }
            13 => {
                let (horizon, samples) = (draw.size(24), draw.size(600));
                both(&mut twins, |planner| planner.resize(horizon, samples).map(|()| Vec::new()))
            }
            14 => {
                // One twin is changed after its call, the other one while its call is pending.
                let (steps, params) = (draw.index(30), draw.params());
                // Plans that continue from what was applied depend on when that is known.
                let continues = twins[0].options().continues();
                let mut pending = true;
                both(&mut twins, |planner| {
                    pending = !pending || continues;
                    let shape = planner.options().shape();
                    let started = if pending {
                        start(planner, &x).map(|()| Vec::new())
                    } else {
                        checked(planner.plan(&x), &shape)
                    };
                    planner.shift(steps);
                    // Refused parameters change nothing.
                    planner.set_params(&params).ok();
                    let plan = if pending { started.and_then(|_| checked(planner.finish(), &shape)) } else { started };
                    // The shift is not undone after an error.
                    Ok::<_, PlanError>(plan.unwrap_or_else(|error| error.to_string().bytes().map(u32::from).collect()))
                })
            }
            15 => both(&mut twins, |planner| {
                start(planner, &x)?;
                planner.cancel();
                Ok::<_, PlanError>(Vec::new())
            }),
            _ if draw.chance(0.5) => {
                let options = A::draw(draw);
                both(&mut twins, |planner| planner.set_options(options.clone()).map(|()| Vec::new()))
            }
            _ => {
                let mut i = 1;
                both(&mut twins, |planner| {
                    i = 1 - i;
                    planner.move_to(&engines[i]).map(|()| Vec::new())
                })
            }
        };
        let [a, b] = [seen(&twins[0]), seen(&twins[1])];
        assert_eq!(a, b, "twins after the same call");
        if outcome.is_err() {
            assert_eq!(a, before, "an error ({outcome:?}) changed something");
        }
        let controls = twins[0].controls().len();
        assert_eq!(controls, twins[0].options().shape().horizon);
        assert_eq!(twins[0].chains().len(), twins[0].options().shape().chains);
        let simulated = twins[0].simulate(&x, twins[0].controls());
        assert_eq!(simulated.is_ok(), x.iter().all(|v| v.is_finite()));
    }
    true
}

#[test]
fn planner_of_mppi() {
    let engines = cpus();
    fuzz("planner_of_mppi", 300, |draw| case::<MppiOptions<2>>(draw, &engines));
}

#[test]
fn planner_of_diffusion() {
    let engines = cpus();
    fuzz("planner_of_diffusion", 200, |draw| case::<DiffusionOptions<2>>(draw, &engines));
}

#[test]
fn planners_on_an_adapter() {
    let Some(engines) = gpus() else { return };
    fuzz("planners_on_an_adapter", 6, |draw| {
        let mppi = case::<MppiOptions<2>>(draw, &engines);
        case::<DiffusionOptions<2>>(draw, &engines) || mppi
    });
}

/// Checks that both planners are one type with different options.
#[expect(dead_code, reason = "it only has to compile")]
fn same_type(
    mppi: Mppi<3, 2, Probe>,
    diffusion: DiffusionPlanner<3, 2, Probe>,
) -> (Probed<MppiOptions<2>>, Probed<DiffusionOptions<2>>) {
    (mppi, diffusion)
}
