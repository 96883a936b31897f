//! Networks that a model evaluates with the weights of its task: against their equations in f64, on every backend;
//! derivatives against differences; weights that are replaced; and weights that do not fit.

mod common;

use common::{cpu, engines};
use gibbs::control::FeedbackWeights;
use gibbs::derivative::{cost_gradient, jacobian};
use gibbs::learning::{Anneal, Estimator, PolicyGradientOptions};
use gibbs::policies::{Activation, LinearFeedback, Network};
use gibbs::runtime::Instructions;
use gibbs::{
    Backend, DiffusionOptions, DiffusionPlanner, Engine, EngineOptions, Fleet, Limits, Model, Mppi, MppiOptions, Noise,
    PolicyGradient, Random, Real, Scenario, StepContext, Task, Temperature,
};

const DT: f32 = 0.1;
const HORIZON: usize = 12;

/// A mass (position, speed; control: a force) whose acceleration and price are networks.
#[derive(Clone)]
struct Learned {
    acceleration: Network,
    price: Network,
}

impl Model<2, 1> for Learned {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> [R; 2] {
        let [a] = at.network(&self.acceleration, [v, u]);
        [p + v * at.dt(), v + a * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> R {
        let [price, more] = at.network(&self.price, [p, v, u]);
        (p - 1.0).square() + price.square() + more * 0.1
    }
}

impl Learned {
    /// Networks of these hidden layers. The price is that of the second activation, and bounded.
    fn new([first, second]: [Activation; 2], acceleration: &[usize], price: &[usize]) -> Self {
        let acceleration = Network::new(0, &[&[2], acceleration, &[1]].concat(), first).unwrap();
        let price = Network::new(acceleration.end(), &[&[3], price, &[2]].concat(), second).unwrap();
        Self { acceleration, price: price.squashed(&[-1.0, 0.0], &[2.0, 3.0]).unwrap() }
    }

    fn weights(&self, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        let mut all = Vec::new();
        for network in [&self.acceleration, &self.price] {
            // Outputs and biases that count.
            all.extend(network.initial(&mut random).iter().map(|w| w * 1.5 + 0.1 * sign(w)));
        }
        all
    }
}

/// A sign that depends on the bits of a number.
fn sign(w: &f32) -> f32 {
    if (w.to_bits() >> 3) & 1 == 1 { 1.0 } else { -1.0 }
}

/// The outputs of a network, in f64.
fn exact(network: &Network, activation: Activation, weights: &[f32], x: &[f64]) -> Vec<f64> {
    let (mut units, mut left) = (x.to_vec(), &weights[network.first()..]);
    let last = network.sizes().len() - 2;
    for (layer, size) in network.sizes()[1..].iter().enumerate() {
        let (matrix, rest) = left.split_at(units.len() * size);
        let (biases, rest) = rest.split_at(*size);
        left = rest;
        let sums = matrix
            .chunks(units.len())
            .zip(biases)
            .map(|(row, bias)| row.iter().zip(&units).map(|(w, x)| f64::from(*w) * x).sum::<f64>() + f64::from(*bias));
        let act = |s: f64| match activation {
            _ if layer == last => s,
            Activation::Tanh => s.tanh(),
            Activation::Relu => s.max(0.0),
            Activation::Gelu => {
                0.5 * s * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (s + 0.044715 * s.powi(3))).tanh())
            }
            Activation::Sin => s.sin(),
            other => panic!("{other:?}"),
        };
        units = sums.map(act).collect();
    }
    units
}

const ACTIVATIONS: [[Activation; 2]; 2] = [[Activation::Tanh, Activation::Relu], [Activation::Gelu, Activation::Sin]];

/// The step and the cost of [`Learned`], in f64.
fn exact_step(model: &Learned, kinds: [Activation; 2], weights: &[f32], [p, v]: [f64; 2], u: f64) -> [f64; 2] {
    let a = exact(&model.acceleration, kinds[0], weights, &[v, u])[0];
    [p + v * f64::from(DT), v + a * f64::from(DT)]
}

fn exact_cost(model: &Learned, kinds: [Activation; 2], weights: &[f32], [p, v]: [f64; 2], u: f64) -> f64 {
    let sums = exact(&model.price, kinds[1], weights, &[p, v, u]);
    let (price, more) = (0.5 + 1.5 * sums[0].tanh(), 1.5 + 1.5 * sums[1].tanh());
    (p - 1.0).powi(2) + price.powi(2) + more * 0.1
}

fn task(weights: Vec<f32>) -> Task<1> {
    Task { horizon: HORIZON, dt: DT, limits: Some(Limits { low: [-2.0], high: [2.0] }), weights, ..Default::default() }
}

fn options(weights: Vec<f32>, samples: usize) -> MppiOptions<1> {
    let weighting = Temperature::Fixed(0.5).into();
    MppiOptions { task: task(weights), samples, noise: Noise::Diagonal([1.0]), weighting, ..Default::default() }
}

/// This machine's engines, and those of all instruction sets of its CPU.
fn all_engines() -> Vec<Engine> {
    let narrow = [Instructions::Avx2, Instructions::Scalar].map(|instructions| {
        let options = EngineOptions { backend: Backend::Cpu, instructions, ..Default::default() };
        Engine::with_options(options).expect("the CPU backend is always there")
    });
    engines().into_iter().chain(narrow).collect()
}

/// The sizes have every kind of tile: eight, four and one units at a time; on a GPU loops, and what they leave.
#[test]
fn rollouts_are_those_of_the_equations_on_every_backend() {
    for (kinds, [acceleration, price]) in ACTIVATIONS.into_iter().zip([[&[37][..], &[]], [&[13, 34], &[33, 5]]]) {
        let model = Learned::new(kinds, acceleration, price);
        let weights = model.weights(3);
        for engine in all_engines() {
            // One kernel runs the whole pass, or there are several. (A software adapter compiles each for seconds.)
            let sizes = if engine.backend() == Backend::Software { &[300][..] } else { &[100, 300] };
            for samples in sizes {
                let name = format!("{kinds:?}, {samples} rows, {}", engine.name());
                // Opposite rows share an invocation.
                let options = MppiOptions { antithetic: kinds == ACTIVATIONS[1], ..options(weights.clone(), *samples) };
                let mut mppi = Mppi::new(&engine, model.clone(), options).unwrap();
                let x = [0.2, -0.4];
                mppi.plan(&x).unwrap();
                let found = mppi.samples().unwrap();
                for k in (0..*samples).step_by(7) {
                    let mut state = x.map(f64::from);
                    let mut cost = 0.0;
                    for [u] in found.controls(k) {
                        let u = f64::from(u);
                        state = exact_step(&model, kinds, &weights, state, u);
                        cost += exact_cost(&model, kinds, &weights, state, u);
                    }
                    let got = f64::from(found.cost(k));
                    assert!((got - cost).abs() < 3e-5 * cost, "{name}, row {k}: {got}, but must be {cost}");
                }
            }
        }
    }
}

#[test]
fn derivatives_are_those_of_the_equations() {
    for kinds in ACTIVATIONS {
        let model = Learned::new(kinds, &[9, 6], &[7]);
        let weights = model.weights(5);
        let at = StepContext::new(0, DT).with_weights(&weights);
        let (x, u) = ([0.3, -0.8], [0.6]);
        let (a, b) = jacobian(&model, &at, x, u);
        let (by_x, by_u) = cost_gradient(&model, &at, x, u);
        let h = 1e-5;
        for (j, direction) in [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].into_iter().enumerate() {
            let moved = |h: f64| {
                let state: [f64; 2] = std::array::from_fn(|i| f64::from(x[i]) + h * direction[i]);
                (state, f64::from(u[0]) + h * direction[2])
            };
            let (above, below) = (moved(h), moved(-h));
            let step = |(x, u): ([f64; 2], f64)| exact_step(&model, kinds, &weights, x, u);
            let cost = |(x, u): ([f64; 2], f64)| exact_cost(&model, kinds, &weights, x, u);
            let near = |got: f32, expected: f64, what: &str| {
                let difference = (f64::from(got) - expected).abs();
                assert!(difference < 2e-5 * (1.0 + expected.abs()), "{kinds:?}, {what} {j}: {got}, not {expected}");
            };
            for i in 0..2 {
                let by = if j < 2 { a[i][j] } else { b[i][0] };
                near(by, (step(above)[i] - step(below)[i]) / (2.0 * h), "step");
            }
            near(if j < 2 { by_x[j] } else { by_u[0] }, (cost(above) - cost(below)) / (2.0 * h), "cost");
        }
    }
}

/// Activations are accurate for arguments of any size, and so are their derivatives.
#[test]
fn activations_are_accurate() {
    let c = (2.0 / std::f64::consts::PI).sqrt();
    for kind in [Activation::Gelu, Activation::Sin] {
        let model = Alone(Network::new(0, &[1, 1, 1], kind).unwrap());
        let at = StepContext::new(0, DT).with_weights(&[1.0, 0.0, 1.0, 0.0]);
        let sizes = (0..360).map(|i| (i as f32 * 0.05).exp() * 1e-4 - 1e-4);
        let far: &[f32] = if kind == Activation::Gelu { &[1e4, 1e19, 1e30] } else { &[] };
        for s in sizes.chain(far.iter().copied()).flat_map(|s| [s, -s]) {
            let [value] = model.step(&at, [s], [0.0]);
            let ([[by_s]], _) = jacobian(&model, &at, [s], [0.0]);
            let x = f64::from(s);
            let (expected, slope) = if kind == Activation::Sin {
                (x.sin(), x.cos())
            } else {
                let t = (c * (x + 0.044715 * x.powi(3))).tanh();
                let rate = if t.abs() == 1.0 { 0.0 } else { (1.0 - t * t) * c * (1.0 + 0.134145 * x * x) };
                (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * rate)
            };
            let tolerance = if kind == Activation::Sin { 2e-7 } else { 4e-7 * x.abs().clamp(1.0, 20.0) };
            let near = |got: f32, expected: f64| (f64::from(got) - expected).abs() <= tolerance + 3e-7 * expected.abs();
            assert!(near(value, expected), "{kind:?} of {s}: {value}, but must be {expected}");
            let difference = (f64::from(by_s) - slope).abs();
            assert!(difference < 4e-6, "{kind:?}, slope at {s}: {by_s}, but must be {slope}");
        }
    }
}

/// A network of one input as a model.
struct Alone(Network);

impl Model<1, 1> for Alone {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], _: [R; 1]) -> [R; 1] {
        at.network(&self.0, [x])
    }
    #[inline(always)]
    fn cost<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1], _: [R; 1]) -> R {
        x
    }
}

/// Every kind of driver plans with new weights as one that was built with them, and compiles nothing for that.
#[test]
fn weights_are_replaced_without_compiling() {
    let model = Learned::new(ACTIVATIONS[1], &[20], &[6]);
    let [first, second] = [1, 2].map(|seed| model.weights(seed));
    let x = [0.4, 0.1];
    for engine in engines() {
        let plan = |weights: &[f32]| {
            let mut mppi = Mppi::new(&engine, model.clone(), options(weights.to_vec(), 100)).unwrap();
            mppi.plan(&x).unwrap().clone()
        };
        let [before, after] = [plan(&first), plan(&second)];
        let bits = |plan: &gibbs::Plan<2, 1>| (plan.controls().to_vec(), plan.states().to_vec(), plan.cost());
        assert_ne!(bits(&before), bits(&after));

        let mut mppi = Mppi::new(&engine, model.clone(), options(first.clone(), 100)).unwrap();
        let kernels = engine.kernels().len();
        mppi.start(&x).unwrap();
        // A pending call keeps the weights that it was started with.
        mppi.set_weights(&second).unwrap();
        assert_eq!(bits(mppi.finish().unwrap()), bits(&before), "{}", engine.name());
        mppi.reset();
        assert_eq!(bits(mppi.plan(&x).unwrap()), bits(&after), "{}", engine.name());
        assert_eq!(mppi.options().task.weights, second);

        // A copy has them, too; and so has a planner that is given the options of this one.
        mppi.reset();
        let mut copy = mppi.try_clone().unwrap();
        assert_eq!(bits(copy.plan(&x).unwrap()), bits(&after), "{}", engine.name());
        copy.set_options(options(first.clone(), 100)).unwrap();
        copy.reset();
        assert_eq!(bits(copy.plan(&x).unwrap()), bits(&before), "{}", engine.name());
        assert_eq!(engine.kernels().len(), kernels, "{}", engine.name());
    }
}

/// The problems of a fleet and their scenarios share the weights, with inputs of their own.
#[test]
fn fleets_scenarios_and_diffusion_evaluate_networks() {
    let model = Learned::new(ACTIVATIONS[0], &[12], &[6]);
    let weights = model.weights(1);
    let states = [[0.4, 0.1], [-0.3, 0.6]];
    for engine in engines() {
        let scenarios = [-0.2, 0.3].map(|p| Scenario { state: vec![p], ..Default::default() }).to_vec();
        let task = Task { scenarios, ..task(vec![0.0; weights.len()]) };
        let options = MppiOptions { task, ..options(Vec::new(), 100) };
        let mut fleet = Fleet::new(&engine, model.clone(), options, 2).unwrap();
        fleet.set_weights(&weights).unwrap();
        let costs: Vec<_> =
            fleet.plan(&states).unwrap().iter().map(|plan| plan.unwrap().scenario_costs().to_vec()).collect();
        for (i, costs) in costs.iter().enumerate() {
            let controls = fleet.controls(i).unwrap().to_vec();
            for (s, (cost, shift)) in costs.iter().zip([-0.2, 0.3]).enumerate() {
                let mut state = [f64::from(states[i][0]) + shift, f64::from(states[i][1])];
                let mut exact = 0.0;
                for [u] in &controls {
                    state = exact_step(&model, ACTIVATIONS[0], &weights, state, f64::from(*u));
                    exact += exact_cost(&model, ACTIVATIONS[0], &weights, state, f64::from(*u));
                }
                let difference = (f64::from(*cost) - exact).abs();
                assert!(difference < 3e-5 * exact, "{}, problem {i}, scenario {s}: {cost} {exact}", engine.name());
            }
        }
    }
    let options = DiffusionOptions { task: task(weights.clone()), samples: 64, ..Default::default() };
    let mut diffusion = DiffusionPlanner::new(&cpu(), model.clone(), options).unwrap();
    let cost = diffusion.plan(&states[0]).unwrap().cost();
    // The rollouts on the host have the weights, too.
    assert_eq!(diffusion.terms().unwrap().cost(), cost);
    diffusion.feedback(FeedbackWeights::diagonal([1.0; 2], [1.0])).unwrap();
    diffusion.set_weights(&model.weights(2)).unwrap();
    diffusion.reset();
    assert_ne!(diffusion.plan(&states[0]).unwrap().cost(), cost);
}

/// The episodes of a policy, by perturbed parameters, in a model that is learned.
#[test]
fn a_policy_search_in_a_learned_model_finds_the_same_on_every_backend() {
    let model = Learned::new(ACTIVATIONS[1], &[40], &[6]);
    let weights = model.weights(1);
    let returns = engines().into_iter().map(|engine| {
        let options = PolicyGradientOptions {
            task: task(vec![0.0; weights.len()]),
            samples: 100,
            estimator: Estimator::ParameterSpace { sigma: Anneal::from(0.3), antithetic: false, episodes: 2 },
            ..Default::default()
        };
        let start = |random: &mut Random, _: &mut [f32]| [random.normal(), 0.0];
        let mut search =
            PolicyGradient::<2, 1, _, _>::new(&engine, model.clone(), LinearFeedback, start, options).unwrap();
        search.set_weights(&weights).unwrap();
        let found = search.step().unwrap()[0].mean_return;
        let episode = search.episode(0, [0.5, 0.0]).unwrap();
        let exact = episode.controls.iter().zip(&episode.states[1..]).fold(0.0, |sum, ([u], x)| {
            sum + exact_cost(&model, ACTIVATIONS[1], &weights, x.map(f64::from), f64::from(*u))
        });
        assert!((f64::from(episode.cost) - exact).abs() < 3e-5 * exact, "{}: {exact}", engine.name());
        (engine.name().to_owned(), found)
    });
    let returns: Vec<_> = returns.collect();
    for (name, found) in &returns {
        assert!((found - returns[0].1).abs() < 1e-4 * found.abs(), "{name}: {found}, {:?}", returns[0]);
    }
}

#[cfg(feature = "serde")]
#[test]
fn weights_are_part_of_a_recording() {
    let model = Learned::new(ACTIVATIONS[0], &[4], &[5]);
    let given = options(model.weights(7), 32);
    let stored = serde_json::to_string(&given).unwrap();
    let read: MppiOptions<1> = serde_json::from_str(&stored).unwrap();
    assert_eq!(read, given);
    let plans = [given, read].map(|options| {
        let mut mppi = Mppi::new(&cpu(), model.clone(), options).unwrap();
        mppi.plan(&[0.3, 0.2]).unwrap().controls().to_vec()
    });
    assert_eq!(plans[0], plans[1]);
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let model = Learned::new(ACTIVATIONS[0], &[4, 3], &[5]);
    let weights = model.weights(1);
    let count = weights.len();
    let refused = |weights: Vec<f32>| Mppi::new(&cpu(), model.clone(), options(weights, 8)).unwrap_err().to_string();
    let expected = "64 long: the model reads numbers 0 to 30 for layers [2, 4, 3, 1] (4 × 2 + 4, 3 × 4 + 3, 1 × 3 + 1) \
                    and numbers 31 to 62 for layers [3, 5, 2] (5 × 3 + 5, 2 × 5 + 2)";
    let expected = expected.replace("64", &count.to_string());
    for len in [0, count - 1, count + 1] {
        assert_eq!(refused(vec![0.0; len]), format!("`weights` is {len} long, but must be {expected}"));
    }
    assert!(
        refused(vec![f32::NAN; count]).starts_with("`weights` is NaN at index 0"),
        "{}",
        refused(vec![f32::NAN; count])
    );

    let mut mppi = Mppi::new(&cpu(), model.clone(), options(weights.clone(), 8)).unwrap();
    assert_eq!(mppi.set_weights(&weights[1..]).unwrap_err().field, "weights");
    assert_eq!(mppi.set_weights(&vec![f32::INFINITY; count]).unwrap_err().field, "weights");
    assert_eq!(mppi.options().task.weights, weights);
    mppi.plan(&[0.0, 0.0]).unwrap();

    // A model without networks takes no weights.
    let error = Mppi::new(&cpu(), gibbs::models::Pendulum::default(), options(vec![1.0], 8)).unwrap_err();
    assert_eq!(error.to_string(), "`weights` is 1 long, but must be 0 long: the model evaluates no network");

    // A network that is called with other numbers of inputs or outputs.
    let other = Learned { price: Network::new(31, &[2, 1], Activation::Tanh).unwrap(), ..model };
    let error = Mppi::new(&cpu(), other, options(weights, 8)).unwrap_err().to_string();
    assert!(
        error.contains("`cost` gives a network 3 inputs and takes 2 outputs, but its layers are [2, 1]"),
        "{error}"
    );
}

/// A software adapter ends loops early, and no GPU has room for any number of units; the CPU runs both.
#[test]
fn networks_too_large_for_a_gpu_are_refused() {
    for (acceleration, what) in [(&[1100, 1000][..], "inputs and units"), (&[500, 500], "loop iterations")] {
        let model = Learned::new(ACTIVATIONS[0], acceleration, &[5]);
        for engine in engines() {
            let built = Mppi::new(&engine, model.clone(), options(model.weights(1), 64));
            match engine.backend() {
                Backend::Cpu => drop(built.unwrap()),
                Backend::Software => {
                    let error = built.unwrap_err().to_string();
                    assert!(error.contains(what), "{error}");
                }
                _ => assert_eq!(built.is_ok(), what == "loop iterations"),
            }
        }
    }
}
