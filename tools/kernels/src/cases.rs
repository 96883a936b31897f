//! The drivers whose kernels are written: every shipped model and policy, and every option that selects code.

use anyhow::Result;
use gibbs::control::{Algorithm, CostNormalization, Planner};
use gibbs::lang::{Ends, WgslFn};
use gibbs::learning::{ActionNoise, Anneal, Estimator, InitialStates};
use gibbs::models::{
    Bicycle, CartPole, DifferentialDrive, DoubleIntegrator, Pendulum, PlanarQuadrotor, Quadratic, Quadrotor, Unicycle,
};
use gibbs::policies::{Activation, LinearFeedback, Mlp, Network, OpenLoop, TimeVaryingFeedback};
use gibbs::prelude::*;
use gibbs::runtime::{KernelSource, Math, Tuning};
use gibbs::sampling::{Energy, ReverseProcess, Schedule};
use gibbs::{Interpolation, PolicyGradientOptions, WeightedMean};
use wgpu::Features;

/// The kind of device that kernels are generated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub name: &'static str,
    /// Whether it has 64-bit integers.
    pub int64: bool,
    math: Math,
    tuning: Tuning,
}

/// Every kind of device.
pub const TARGETS: [Target; 4] = [
    Target { name: "int64", int64: true, math: Math::Shared, tuning: Tuning::Gpu },
    // A browser, for example.
    Target { name: "plain", int64: false, math: Math::Shared, tuning: Tuning::Gpu },
    Target { name: "native", int64: false, math: Math::Native, tuning: Tuning::Gpu },
    // Four rows per invocation, as on a software adapter.
    Target { name: "vec4", int64: false, math: Math::Shared, tuning: Tuning::Cpu },
];

/// A kernel, the case that it was first generated for, and its target.
pub struct Kernel {
    pub case: String,
    pub target: Target,
    pub source: KernelSource,
}

/// An engine on a device that runs nothing.
fn engine(target: Target) -> Result<Engine> {
    let required_features = if target.int64 { Features::SHADER_INT64 } else { Features::empty() };
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor { required_features, ..Default::default() });
    let options = EngineOptions { tuning: target.tuning, math: target.math, ..Default::default() };
    Ok(Engine::from_wgpu(&device, &queue, options)?)
}

/// The kernels of a target, without repetitions.
struct Collector<'a> {
    target: Target,
    /// What the names of the cases contain that are built.
    only: &'a str,
    kernels: Vec<Kernel>,
}

impl Collector<'_> {
    /// Builds a driver, and keeps the kernels that it compiles.
    fn case<T>(&mut self, name: impl Into<String>, build: impl FnOnce(&Engine) -> Result<T>) -> Result<()> {
        let case = name.into();
        if !case.contains(self.only) {
            return Ok(());
        }
        let engine = engine(self.target)?;
        build(&engine).map_err(|error| error.context(format!("{case} for {}", self.target.name)))?;
        for source in engine.kernels() {
            if self.kernels.iter().all(|kernel| kernel.source.wgsl != source.wgsl) {
                self.kernels.push(Kernel { case: case.clone(), target: self.target, source });
            }
        }
        Ok(())
    }

    /// A planner.
    fn planner<const N: usize, const M: usize>(
        &mut self,
        name: impl Into<String>,
        model: impl Model<N, M>,
        options: impl Algorithm<M>,
    ) -> Result<()> {
        self.case(name, |engine| Ok(Planner::new(engine, model, options)?))
    }

    /// The planners of a shipped model. Controls are limited to ±1.
    fn model<const N: usize, const M: usize, D: Model<N, M> + Clone>(&mut self, name: &str, model: D) -> Result<()> {
        let task = task::<M>();
        let many = MppiOptions { task: task.clone(), samples: 2048, ..Default::default() };
        let fixed = Weighting::Exponential(Temperature::Fixed(1.0));
        self.planner(name, model.clone(), many.clone())?;
        let noise_shape = NoiseShape::Knots { every: 5, interpolation: Interpolation::Cubic };
        self.planner(
            format!("{name}-knots"),
            model.clone(),
            MppiOptions { noise_shape, nominal_first: true, ..many.clone() },
        )?;
        let few = MppiOptions { samples: 128, weighting: fixed, ..many };
        self.planner(format!("{name}-few-rows"), model, few)
    }

    /// The options that select code, on one model.
    fn options(&mut self) -> Result<()> {
        let task = task::<4>();
        let base = MppiOptions { task: task.clone(), samples: 2048, ..Default::default() };
        let mut planner =
            |name: &str, options| self.planner(format!("quadrotor-{name}"), Quadrotor::default(), options);
        planner("unlimited", MppiOptions { task: Task { limits: None, ..task.clone() }, ..base.clone() })?;
        let rates = Some(Limits { low: [-2.0; 4], high: [2.0; 4] });
        let actuated = Task { rate_limits: rates, delay: 2, ..task.clone() };
        planner("actuators", MppiOptions { task: actuated.clone(), ..base.clone() })?;
        planner("antithetic", MppiOptions { antithetic: true, ..base.clone() })?;
        let few = MppiOptions { samples: 128, ..base.clone() };
        planner("actuators-few-rows", MppiOptions { task: actuated.clone(), ..few.clone() })?;
        let smooth = Task { jerk_limits: Some(Limits { low: [-9.0; 4], high: [9.0; 4] }), ..actuated.clone() };
        planner("jerk", MppiOptions { task: smooth, ..base.clone() })?;
        let scenarios = vec![Scenario::default(); 8];
        let uncertain = Task { scenarios, risk: Risk::ConditionalValueAtRisk(0.5), ..task.clone() };
        planner("scenarios", MppiOptions { task: uncertain, ..base.clone() })?;
        let colored = NoiseShape::Colored { exponent: 1.0 };
        planner("colored", MppiOptions { noise_shape: colored, task: actuated, ..base.clone() })?;
        for interpolation in [Interpolation::Hold, Interpolation::Linear] {
            let noise_shape = NoiseShape::Knots { every: 7, interpolation };
            planner(&format!("knots-{interpolation:?}").to_lowercase(), MppiOptions { noise_shape, ..base.clone() })?;
        }
        let mut covariance = [[0.2; 4]; 4];
        (0..4).for_each(|i| covariance[i][i] = 1.0);
        let noise = Noise::Covariance(covariance);
        planner("control-cost", MppiOptions { noise, alpha: 0.5, ..base.clone() })?;
        planner(
            "elite",
            MppiOptions { covariance_adaptation: Some(0.1), weighting: Weighting::Elite(0.1), ..base.clone() },
        )?;
        let divergence = Weighting::Exponential(Temperature::Divergence(1.0));
        planner("divergence", MppiOptions { weighting: divergence, ..few.clone() })?;
        let proposals = vec![Proposal::Initial, Proposal::Last];
        planner("proposals", MppiOptions { proposals, cost_normalization: CostNormalization::HorizonAverage, ..base })?;

        let process = ReverseProcess { schedule: Schedule::annealed(4, 0.5), ..Default::default() };
        let options =
            DiffusionOptions { task, samples: 512, process, horizon_annealing: Some(0.5), ..Default::default() };
        let mut planner =
            |name: &str, options| self.planner(format!("quadrotor-{name}"), Quadrotor::default(), options);
        planner("diffusion", options.clone())?;
        planner("diffusion-chains", DiffusionOptions { chains: 4, nominal_first: true, ..options.clone() })?;
        planner("diffusion-demonstration", DiffusionOptions { demonstration: Some(1.0), ..options.clone() })?;

        self.case("quadrotor-given-rows", |engine| {
            let options = MppiOptions { samples: 2048, ..few.clone() };
            Ok(Mppi::new(engine, Quadrotor::default(), options)?.prepare_rows()?)
        })?;
        self.case("quadrotor-trajectories", |engine| {
            let options = MppiOptions { samples: 2048, ..few.clone() };
            Ok(Mppi::new(engine, Quadrotor::default(), options)?.prepare_device_trajectories()?)
        })?;
        for (name, samples) in [("fleet", 2048), ("fleet-few-rows", 256)] {
            let options = MppiOptions { samples, ..few.clone() };
            self.case(name, |engine| Ok(Fleet::new(engine, Quadrotor::default(), options, 100)?))?;
        }
        self.case("fleet-diffusion", |engine| Ok(Fleet::new(engine, Quadrotor::default(), options, 3)?))
    }

    /// The inputs of a model: fields, references, parameters, functions in WGSL.
    fn inputs(&mut self) -> Result<()> {
        let map = Grid::from_fn(64, 64, 0.25, [-8.0, -8.0], |x, y| x.hypot(y))?;
        let references = References { values: vec![0.0; 150], columns: 3 };
        let task = Task { fields: vec![map], references: Some(references), params: vec![1.0; 3], ..task() };
        let robot = DifferentialDrive { radius: 1.0, track: 1.0, ..DifferentialDrive::default() };
        let mut options = MppiOptions { task, samples: 2048, ..Default::default() };
        self.planner("drive-with-map", robot.with_cost(Road), options.clone())?;
        let pairs = MppiOptions { antithetic: true, ..options.clone() };
        self.planner("drive-with-map-antithetic", robot.with_cost(Road), pairs)?;
        self.planner("drive-with-function", robot.with_cost(Written), options.clone())?;
        for knots in [false, true] {
            let interpolation = Interpolation::Cubic;
            let noise_shape = if knots { NoiseShape::Knots { every: 5, interpolation } } else { NoiseShape::White };
            let options = MppiOptions { noise_shape, ..options.clone() };
            let name = if knots { "drive-with-map-knots-trajectories" } else { "drive-with-map-trajectories" };
            self.case(name, |engine| {
                Ok(Mppi::new(engine, robot.with_cost(Road), options)?.prepare_device_trajectories()?)
            })?;
        }
        options.samples = 128;
        self.planner("drive-with-map-few-rows", robot.with_cost(Road), options.clone())?;
        let table = Grid::table(0.5, 0.0, vec![1.0; 40])?.with_channel(vec![2.0; 40])?.with_ends(Ends::Periodic)?;
        let volume = Grid::volume([8, 8, 4], 0.5, [-2.0; 3], vec![1.0; 256])?.with_channel(vec![2.0; 256])?;
        let tabled = MppiOptions {
            task: Task { fields: vec![table, volume], ..options.task.clone() },
            samples: 2048,
            ..options.clone()
        };
        self.planner("drive-with-table-and-volume", robot.with_cost(Windy), tabled.clone())?;
        let pairs = MppiOptions { antithetic: true, ..tabled };
        self.planner("drive-with-table-and-volume-antithetic", robot.with_cost(Windy), pairs)?;
        let estimator = Estimator::ScoreFunction { std: [0.5; 2], action_noise: ActionNoise::Fixed, antithetic: true };
        let options = PolicyGradientOptions { task: options.task, estimator, ..Default::default() };
        self.case("drive-with-map-scored", |engine| {
            Ok(PolicyGradient::new(engine, robot.with_cost(Road), Ahead, rest::<3>, options)?)
        })
    }

    /// Models that evaluate networks.
    fn learned(&mut self) -> Result<()> {
        for (activation, antithetic) in
            [(Activation::Tanh, false), (Activation::Relu, true), (Activation::Gelu, false), (Activation::Sin, true)]
        {
            let model = Learned::new(activation)?;
            let task = Task { weights: vec![0.1; model.value.end()], ..task() };
            let options = MppiOptions { task, samples: 2048, antithetic, ..Default::default() };
            self.planner(format!("learned-{activation:?}").to_lowercase(), model, options)?;
        }
        Ok(())
    }

    /// Both estimators of a policy's gradient.
    fn policy<const N: usize, const M: usize, D: Model<N, M> + Clone, P: Policy<N, M> + Clone>(
        &mut self,
        name: &str,
        model: D,
        policy: P,
        starts: impl InitialStates<N> + Clone,
    ) -> Result<()> {
        let perturbed = Estimator::ParameterSpace { sigma: Anneal::from(0.1), antithetic: true, episodes: 4 };
        let scored = |action_noise| Estimator::ScoreFunction { std: [0.5; M], action_noise, antithetic: false };
        for (kind, estimator) in [("perturbed", perturbed), ("scored", scored(ActionNoise::Learned { least: 0.01 }))] {
            let options = PolicyGradientOptions { task: task::<M>(), estimator, samples: 2048, ..Default::default() };
            self.case(format!("{name}-{kind}"), |engine| {
                Ok(PolicyGradient::new(engine, model.clone(), policy.clone(), starts.clone(), options)?)
            })?;
        }
        Ok(())
    }

    fn policies(&mut self) -> Result<()> {
        let mlp = |hidden: &[usize]| Mlp::<13, 4>::new(hidden, Activation::Tanh);
        let cart = |hidden: &[usize], activation| Mlp::<4, 1>::new(hidden, activation);
        self.policy("cart-pole-open-loop", CartPole::default(), OpenLoop { horizon: 50 }, rest::<4>)?;
        self.policy("quadrotor-linear", Quadrotor::default(), LinearFeedback, rest::<13>)?;
        let feedback = TimeVaryingFeedback { horizon: 50 };
        self.policy("double-integrator-feedback", DoubleIntegrator::default(), feedback, rest::<4>)?;
        self.policy("cart-pole-affine", CartPole::default(), cart(&[], Activation::Tanh)?, rest::<4>)?;
        self.policy("cart-pole-64", CartPole::default(), cart(&[64], Activation::Tanh)?, rest::<4>)?;
        let clipped = cart(&[64], Activation::Relu)?.clipped([f32::MIN], [0.0])?;
        self.policy("cart-pole-64-clipped", CartPole::default(), clipped, rest::<4>)?;
        self.policy("quadrotor-64x64", Quadrotor::default(), mlp(&[64, 64])?, rest::<13>)?;
        let squashed = mlp(&[32, 32, 32])?.squashed([-1.0; 4], [1.0; 4])?;
        self.policy("quadrotor-32x32x32-squashed", Quadrotor::default(), squashed, rest::<13>)
    }
}

/// The initial states of episodes.
fn rest<const N: usize>(_: &mut Random, _: &mut [f32]) -> [f32; N] {
    [0.0; N]
}

/// A task of 50 steps with controls limited to ±1.
fn task<const M: usize>() -> Task<M> {
    Task { limits: Some(Limits { low: [-1.0; M], high: [1.0; M] }), ..Default::default() }
}

/// A cost with a map, references and parameters.
#[derive(Clone, Copy)]
struct Road;

#[gibbs::model]
impl Cost<3, 2> for Road {
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, heading]: [R; 3], u: [R; 2]) -> R {
        let goal =
            Quadratic { angles: [false, false, true], state: [0.1; 3], control: [0.01; 2], ..Quadratic::default() };
        let error = [x - at.reference(0), y - at.reference(1), heading - at.reference(2)];
        goal.cost(at, error, u) * at.param(0) + at.sample(0, x, y) * at.param(1) + at.index() * at.param(2)
    }
}

/// A cost with a table and a volume of two channels each.
#[derive(Clone, Copy)]
struct Windy;

#[gibbs::model]
impl Cost<3, 2> for Windy {
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, heading]: [R; 3], _: [R; 2]) -> R {
        let [width, speed] = at.look_up(0, [x]);
        let [along, across] = at.look_up(1, [x, y, heading]);
        (y - width).square() + (speed - along).square() + across
    }
}

/// Dynamics and a cost by a network each.
#[derive(Clone)]
struct Learned {
    acceleration: Network,
    value: Network,
}

impl Learned {
    fn new(activation: Activation) -> Result<Self> {
        let acceleration = Network::new(0, &[3, 32, 32, 2], activation)?;
        let value = Network::new(acceleration.end(), &[4, 1], activation)?;
        Ok(Self { acceleration, value })
    }
}

#[gibbs::model]
impl Model<4, 1> for Learned {
    fn step<R: Real>(&self, at: &StepContext<R>, [x, angle, speed, rate]: [R; 4], [force]: [R; 1]) -> [R; 4] {
        let [acceleration, turn] = at.network(&self.acceleration, [angle, rate, force]);
        let (speed, rate) = (speed + acceleration * at.dt(), rate + turn * at.dt());
        [x + speed * at.dt(), angle + rate * at.dt(), speed, rate]
    }
    fn cost<R: Real>(&self, _: &StepContext<R>, [x, angle, _, _]: [R; 4], _: [R; 1]) -> R {
        x.square() + angle.square()
    }
    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; 4]) -> R {
        let [value] = at.network(&self.value, x);
        value
    }
}

/// A policy that reads a map at a point ahead, whose derivative is the gradient of the map.
#[derive(Clone, Copy)]
struct Ahead;

#[gibbs::model]
impl Policy<3, 2> for Ahead {
    fn parameters(&self) -> usize {
        2
    }
    fn act<R: Real>(&self, at: &StepContext<R>, theta: &Params<R>, [x, y, _]: [R; 3]) -> [R; 2] {
        let height = at.sample(0, x + theta.get(0), y + theta.get(1));
        [height, -height]
    }
    fn initial(&self, _: &mut Random) -> Vec<f32> {
        vec![1.0; 2]
    }
}

/// A cost that calls a hand-written function, with constants at the ends of the range.
#[derive(Clone, Copy)]
struct Written;

const SQUARE: WgslFn<1> =
    WgslFn { name: "square_of", source: "fn square_of(x: f32) -> f32 {\n    return x * x;\n}", twin: |[x]| x * x };

#[gibbs::model]
impl Cost<3, 2> for Written {
    fn cost<R: Real>(&self, _: &StepContext<R>, [x, y, _]: [R; 3], _: [R; 2]) -> R {
        let least = f32::from_bits(1);
        (SQUARE.call([x]) + SQUARE.call([y])).max(least).min(f32::MAX).max(f32::MIN)
    }
}

/// A ring of radius 1.
struct Ring;

#[gibbs::model]
impl Energy<2> for Ring {
    fn energy<R: Real>(&self, _: &StepContext<R>, [x, y]: [R; 2]) -> R {
        ((x.square() + y.square()).sqrt() - 1.0).square() * 50.0
    }
}

/// The kernels of a target, of the cases whose names contain `only`.
pub fn kernels(target: Target, only: &str) -> Result<Vec<Kernel>> {
    let mut all = Collector { target, only, kernels: Vec::new() };
    all.case("weighted-mean", |engine| Ok(WeightedMean::new(engine)))?;
    all.model("cart-pole", CartPole::default())?;
    let pairs = MppiOptions { task: task::<1>(), samples: 2048, antithetic: true, ..Default::default() };
    all.planner("cart-pole-antithetic", CartPole::default(), pairs)?;
    all.model("pendulum", Pendulum::default())?;
    all.model("double-integrator", DoubleIntegrator::default())?;
    all.model("unicycle", Unicycle::default())?;
    all.model("drive", DifferentialDrive::default())?;
    all.model("bicycle", Bicycle::default())?;
    all.model("planar-quadrotor", PlanarQuadrotor::default())?;
    all.model("quadrotor", Quadrotor::default())?;
    all.options()?;
    all.inputs()?;
    all.learned()?;
    all.policies()?;
    let options = DiffusionSamplerOptions { chains: 100, samples: 1024, ..Default::default() };
    all.case("ring", |engine| Ok(DiffusionSampler::of_energy(engine, Ring, options.clone())?))?;
    let rows = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
    let weighting = Weighting::Exponential(Temperature::Fixed(1.0));
    all.case("data-set", |engine| {
        Ok(DiffusionSampler::of_data(engine, &rows, 2, DiffusionSamplerOptions { weighting, ..options })?)
    })?;
    Ok(all.kernels)
}
