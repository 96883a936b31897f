//! [`DiffusionSampler`]: runs many chains of a reverse process at once, so that the result samples the distribution
//! instead of only finding its mode.

use std::sync::Arc;
use std::task::Poll;

use super::process::{ReverseProcess, SampleWidth};
use crate::error::{BuildError, EngineError, InvalidValue, PlanError, finite};
use crate::interp::trace::Requirements;
use crate::kernels::pass::{GIVEN, MAX_NUMBERS, MAX_PROBLEMS, Pass, Problem, Sums, TILE, round_up};
use crate::kernels::weigh::weighting::{Temperature, Weighting};
use crate::lang::grid::Grid;
use crate::lang::stream::Stream;
use crate::lang::{Real, StepContext, float_env, normal, philox};
use crate::model::Model;
use crate::runtime::inputs::{Packed, Sections, Square};
use crate::runtime::program::Program;
use crate::runtime::task::Reader;
use crate::runtime::{Calls, Engine, Timing, Wait, Waiter, Workspace, blocking, completed, drained, finished, span};

/// A function of `D` variables, written once for every interpretation of [`Real`]; its Gibbs density is e^{−E(x)/λ}.
///
/// # Example
///
/// ```
/// use gibbs::{Real, StepContext};
/// use gibbs::sampling::Energy;
///
/// /// A ring of radius 1.
/// struct Ring;
///
/// #[gibbs::model]
/// impl Energy<2> for Ring {
///     fn energy<R: Real>(&self, _at: &StepContext<R>, [x, y]: [R; 2]) -> R {
///         ((x.square() + y.square()).sqrt() - 1.0).square() * 50.0
///     }
/// }
/// ```
pub trait Energy<const D: usize>: Send + Sync + 'static {
    /// Returns E(x). `at` provides parameters and fields; the time step is 1 and its index 0.
    fn energy<R: Real>(&self, at: &StepContext<R>, x: [R; D]) -> R;
}

/// Wraps an energy as a system whose controls are x.
struct OfEnergy<E>(E);

impl<const D: usize, E: Energy<D>> Model<1, D> for OfEnergy<E> {
    #[inline(always)]
    fn step<R: Real>(&self, _at: &StepContext<R>, state: [R; 1], _x: [R; D]) -> [R; 1] {
        state
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, _state: [R; 1], x: [R; D]) -> R {
        self.0.energy(at, x)
    }
}

/// The options of [`DiffusionSampler`]. `..Default::default()` fills in the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffusionSamplerOptions {
    /// B, the chains; between 1 and 65,535.
    pub chains: usize,
    /// K, the rows per level and chain; at least 1. (A data set uses all of its rows.)
    pub samples: usize,
    /// Levels and sampler, in the unit of x. The noisiest level should be as wide as the distribution.
    pub process: ReverseProcess,
    /// How energies become weights. For a data set it must be [`Temperature::Fixed`]: λ divides the rewards.
    pub weighting: Weighting,
    /// The least and the greatest value of every coordinate of a row. Must be `None` for a data set.
    pub limits: Option<[f32; 2]>,
    /// The seed of the noise.
    pub seed: u64,
    /// Run-time parameters of an energy: see [`StepContext::param`].
    pub params: Vec<f32>,
    /// Sampled fields of an energy: see [`StepContext::sample`].
    pub fields: Vec<Grid>,
    /// The weights of an energy's networks, exactly as many as they have: see [`StepContext::network`].
    pub weights: Vec<f32>,
}

impl Default for DiffusionSamplerOptions {
    fn default() -> Self {
        Self {
            chains: 1024,
            samples: 256,
            process: ReverseProcess {
                schedule: crate::sampling::Schedule::Geometric { levels: 50, smallest: 0.01, largest: 3.0 },
                sampler: crate::sampling::Sampler::Ddpm,
                width: SampleWidth::Posterior,
            },
            weighting: Weighting::Exponential(Temperature::Fixed(1.0)),
            limits: None,
            seed: 0,
            params: Vec::new(),
            fields: Vec::new(),
            weights: Vec::new(),
        }
    }
}

/// The distribution that chains sample.
#[derive(Clone)]
enum Target {
    Energy,
    /// N rows of D numbers, the reward of each row, and the mean of the rows.
    Data {
        rows: Vec<f32>,
        rewards: Vec<f32>,
        mean: Vec<f32>,
    },
}

/// Chains of a reverse process whose score comes from an [`Energy`] or from a data set.
///
/// # Example
///
/// ```
/// use gibbs::{DiffusionSampler, Engine, Real, DiffusionSamplerOptions, StepContext};
/// use gibbs::sampling::Energy;
///
/// /// Two wells, at ±1.
/// struct Wells;
///
/// #[gibbs::model]
/// impl Energy<1> for Wells {
///     fn energy<R: Real>(&self, _at: &StepContext<R>, [x]: [R; 1]) -> R {
///         (x.square() - 1.0).square() * 20.0
///     }
/// }
///
/// let mut diffusion = DiffusionSampler::of_energy(&Engine::new()?, Wells, DiffusionSamplerOptions::default())?;
/// let chains = diffusion.sample()?;
/// let left = chains.iter().filter(|x| x[0] < 0.0).count();
/// assert!((400..624).contains(&left), "about half of 1,024");
/// # Ok::<(), gibbs::Error>(())
/// ```
pub struct DiffusionSampler {
    engine: Engine,
    program: Arc<Program>,
    workspace: Workspace,
    target: Target,
    width: usize,
    options: DiffusionSamplerOptions,
    inputs: Packed,
    passes: Vec<Pass>,
    /// Passes carried out so far.
    number: u32,
    values: Vec<f32>,
    sums: Vec<Sums>,
    timing: Timing,
    /// Whether a call has been started and not finished.
    pending: bool,
}

/// The chains after the last level.
#[derive(Debug, Clone, Copy)]
pub struct Chains<'a> {
    values: &'a [f32],
    width: usize,
    sums: &'a [Sums],
    /// The last level.
    last: &'a Pass,
    timing: Timing,
}

impl DiffusionSampler {
    /// Creates chains that sample an energy: rows are drawn around x and weighed by e^{−E/λ}.
    ///
    /// # Errors
    ///
    /// If an option is out of range, the energy cannot become a kernel, it reads references, or parameters or fields
    /// that the options do not have, or the device fails.
    pub fn of_energy<const D: usize, E: Energy<D>>(
        engine: &Engine,
        energy: E,
        options: DiffusionSamplerOptions,
    ) -> Result<Self, BuildError> {
        Self::on_energy(engine, energy, options)?.prepared()
    }

    /// As [`of_energy`](Self::of_energy), without blocking the thread in a browser: there the kernels are compiled
    /// while the future is pending.
    ///
    /// # Errors
    ///
    /// As [`of_energy`](Self::of_energy).
    pub async fn of_energy_async<const D: usize, E: Energy<D>>(
        engine: &Engine,
        energy: E,
        options: DiffusionSamplerOptions,
    ) -> Result<Self, BuildError> {
        Self::on_energy(engine, energy, options)?.prepared_async().await
    }

    fn on_energy<const D: usize, E: Energy<D>>(
        engine: &Engine,
        energy: E,
        options: DiffusionSamplerOptions,
    ) -> Result<Self, BuildError> {
        const { assert!(D > 0, "an energy has variables") };
        options.weighting.check_for_mean()?;
        let program = Program::new::<1, D, _>(&Arc::new(OfEnergy(energy)), engine.options().math)?;
        let reader = energy_reader(program.requirements.clone());
        reader.check_params(options.params.len())?;
        reader.check_fields(&options.fields)?;
        reader.check_weights(options.weights.len())?;
        if program.requirements.columns > 0 {
            let value = format_args!("one that reads reference column {}", program.requirements.columns - 1);
            return Err(InvalidValue::new("energy", value, "one that reads no references: sampling has none").into());
        }
        Self::new(engine, program, Target::Energy, D, options)
    }

    /// Creates chains that sample a data set of N × D numbers, row after row. The ideal denoiser weighs every row x_k
    /// by its likelihood of being x before noise was added, e^{−‖x − x_k‖²/(2σ²)}.
    ///
    /// # Errors
    ///
    /// If the rows are empty, ragged or not finite, an option is out of range, or the device fails.
    pub fn of_data(
        engine: &Engine,
        rows: &[f32],
        width: usize,
        options: DiffusionSamplerOptions,
    ) -> Result<Self, BuildError> {
        Self::on_data(engine, rows, width, options)?.prepared()
    }

    /// As [`of_data`](Self::of_data), without blocking the thread in a browser: see
    /// [`of_energy_async`](Self::of_energy_async).
    ///
    /// # Errors
    ///
    /// As [`of_data`](Self::of_data).
    pub async fn of_data_async(
        engine: &Engine,
        rows: &[f32],
        width: usize,
        options: DiffusionSamplerOptions,
    ) -> Result<Self, BuildError> {
        Self::on_data(engine, rows, width, options)?.prepared_async().await
    }

    fn on_data(
        engine: &Engine,
        rows: &[f32],
        width: usize,
        options: DiffusionSamplerOptions,
    ) -> Result<Self, BuildError> {
        if rows.is_empty() || width == 0 || !rows.len().is_multiple_of(width) {
            let value = format_args!("{} numbers in rows of {width}", rows.len());
            return Err(InvalidValue::new("rows", value, "one or more whole rows of one or more numbers").into());
        }
        finite("rows", rows)?;
        if !matches!(options.weighting, Weighting::Exponential(Temperature::Fixed(_))) {
            let value = format_args!("{:?}", options.weighting);
            let expected = "Exponential(Fixed(λ)) for a data set, whose weights are given";
            return Err(InvalidValue::new("weighting", value, expected).into());
        }
        options.weighting.check()?;
        if options.limits.is_some() {
            return Err(InvalidValue::new("limits", "given for a data set", "None: its rows are as they are").into());
        }
        if options.process.width != SampleWidth::Posterior {
            let value = format_args!("{:?}", options.process.width);
            return Err(InvalidValue::new("width", value, "Posterior for a data set, which is not drawn").into());
        }
        let count = rows.len() / width;
        let mean = (0..width).map(|d| {
            let column = rows[d..].iter().step_by(width);
            (column.map(|v| f64::from(*v)).sum::<f64>() / count as f64) as f32
        });
        let target = Target::Data {
            rows: rows.to_vec(),
            rewards: vec![0.0; count],
            mean: float_env::standard(|| mean.collect()),
        };
        let options = DiffusionSamplerOptions { samples: count, ..options };
        Self::new(engine, Program::distance(), target, width, options)
    }

    /// Guides the chains of a data set: row k is also weighed by e^{R_k/λ}, with λ the temperature. Rewards of 0 switch
    /// guidance off.
    ///
    /// # Errors
    ///
    /// If the chains sample an energy (add the reward to it instead), or there is not one finite reward per row.
    pub fn guide(&mut self, rewards: &[f32]) -> Result<(), InvalidValue> {
        let Target::Data { rewards: own, .. } = &mut self.target else {
            return Err(InvalidValue::new("rewards", "given for an energy", "part of the energy itself"));
        };
        if rewards.len() != own.len() {
            let value = format_args!("{} numbers", rewards.len());
            return Err(InvalidValue::new("rewards", value, format_args!("one for each of the {} rows", own.len())));
        }
        finite("rewards", rewards)?;
        own.copy_from_slice(rewards);
        self.inputs.set_table(|push| write_rewards(own, push));
        Ok(())
    }

    fn new(
        engine: &Engine,
        program: Program,
        target: Target,
        width: usize,
        options: DiffusionSamplerOptions,
    ) -> Result<Self, BuildError> {
        float_env::standard(|| options.check(width))?;
        let mut diffusion = Self {
            engine: engine.clone(),
            program: Arc::new(program),
            workspace: engine.workspace(),
            inputs: packed(&target, width, &options),
            target,
            width,
            options,
            passes: Vec::new(),
            number: 0,
            values: Vec::new(),
            sums: Vec::new(),
            timing: Timing::default(),
            pending: false,
        };
        float_env::standard(|| diffusion.fill_passes());
        Ok(diffusion)
    }

    fn prepared(mut self) -> Result<Self, BuildError> {
        self.workspace.may_block()?;
        self.compile()?;
        Ok(self)
    }

    async fn prepared_async(mut self) -> Result<Self, BuildError> {
        self.compile()?;
        self.workspace.settled().await?;
        Ok(self)
    }

    /// Compiles kernels and allocates memory on the device.
    fn compile(&mut self) -> Result<(), BuildError> {
        let start = self.noise();
        let Self { program, workspace, target, inputs, passes, .. } = self;
        workspace.prepare(program, passes, &problem(target, inputs, &start))
    }

    /// Runs every chain from noise to the last level, with all levels on the device in one go, and returns B new
    /// samples.
    ///
    /// # Errors
    ///
    /// If no chain has a row of finite energy, a call is [pending](Self::start), or the device fails.
    pub fn sample(&mut self) -> Result<Chains<'_>, PlanError> {
        self.run(Self::start)
    }

    /// As [`sample`](Self::sample), but the caller supplies the chains at the noisiest level, B × D numbers in clean
    /// coordinates, to denoise given data or to continue from them.
    ///
    /// # Errors
    ///
    /// As [`sample`](Self::sample), and if the start has another size or is not finite.
    pub fn sample_from(&mut self, start: &[f32]) -> Result<Chains<'_>, PlanError> {
        self.run(|diffusion| diffusion.start_from(start))
    }

    /// Waits for a call that `start` starts.
    fn run(&mut self, start: impl FnOnce(&mut Self) -> Result<(), PlanError>) -> Result<Chains<'_>, PlanError> {
        span!(
            DEBUG,
            "sample",
            chains = self.options.chains,
            rows = self.options.samples,
            width = self.width,
            backend = %self.engine.backend()
        );
        blocking(self.drain(Wait::Blocking))?;
        start(self)?;
        self.finish()
    }

    /// Starts a call of [`sample`](Self::sample) without waiting for it. The work is submitted to the device here.
    /// [`poll`](Self::poll) returns the samples once they are available, [`finish`](Self::finish) waits for them, and
    /// [`cancel`](Self::cancel) gives them up. The CPU backend computes here, so that the first `poll` returns them.
    ///
    /// While a call is pending, [`set_params`](Self::set_params), [`set_field`](Self::set_field) and
    /// [`guide`](Self::guide) affect the next one, and [`reset`](Self::reset) and [`reseed`](Self::reseed) cancel it.
    ///
    /// # Errors
    ///
    /// [`PlanError::Busy`] if a call is pending, or one that was canceled or timed out still runs on the device; or if
    /// the device fails.
    pub fn start(&mut self) -> Result<(), PlanError> {
        let start = self.noise();
        self.submit(&start)
    }

    /// As [`start`](Self::start), for a call of [`sample_from`](Self::sample_from).
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and if the start has another size or is not finite.
    pub fn start_from(&mut self, start: &[f32]) -> Result<(), PlanError> {
        let expected = self.options.chains * self.width;
        if start.len() != expected {
            let expected = format_args!("chains × width = {expected} numbers");
            return Err(InvalidValue::new("start", format_args!("{} numbers", start.len()), expected).into());
        }
        finite("start", start)?;
        self.submit(start)
    }

    /// Returns the samples of the pending call if they are available, without blocking. Returns `None` if they are not,
    /// or if no call is pending.
    ///
    /// # Errors
    ///
    /// As [`sample`](Self::sample). Then no call is pending.
    pub fn poll(&mut self) -> Result<Option<Chains<'_>>, PlanError> {
        let is_over = self.complete(Wait::Polling)?;
        Ok(is_over.then(|| self.chains()))
    }

    /// Waits for the samples of the pending call.
    ///
    /// # Errors
    ///
    /// As [`sample`](Self::sample), and if no call is pending.
    pub fn finish(&mut self) -> Result<Chains<'_>, PlanError> {
        finished(self)?;
        Ok(self.chains())
    }

    /// Whether a call has been started and not finished.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// Gives up the pending call, if there is one. The next one draws the same noise. A GPU still runs the call, and
    /// [`start`](Self::start) returns [`PlanError::Busy`] until it has completed.
    pub fn cancel(&mut self) {
        if std::mem::take(&mut self.pending) {
            self.workspace.abandon();
        }
    }

    /// As [`sample`](Self::sample), without blocking the thread: see
    /// [`Planner::plan_async`](crate::control::planner::Planner::plan_async).
    ///
    /// # Errors
    ///
    /// As [`sample`](Self::sample).
    pub async fn sample_async(&mut self) -> Result<Chains<'_>, PlanError> {
        self.run_async(Self::start).await
    }

    /// As [`sample_from`](Self::sample_from), without blocking the thread: see [`sample_async`](Self::sample_async).
    ///
    /// # Errors
    ///
    /// As [`sample_from`](Self::sample_from).
    pub async fn sample_from_async(&mut self, start: &[f32]) -> Result<Chains<'_>, PlanError> {
        self.run_async(|diffusion| diffusion.start_from(start)).await
    }

    /// Waits, as a task, for a call that `start` starts.
    async fn run_async(
        &mut self,
        start: impl FnOnce(&mut Self) -> Result<(), PlanError>,
    ) -> Result<Chains<'_>, PlanError> {
        drained(self, Waiter::Task).await?;
        start(self)?;
        completed(self, Waiter::Task).await?;
        Ok(self.chains())
    }

    fn submit(&mut self, start: &[f32]) -> Result<(), PlanError> {
        if self.is_pending() {
            return Err(PlanError::Busy);
        }
        float_env::standard(|| self.fill_passes());
        let Self { program, workspace, target, inputs, passes, .. } = self;
        workspace.submit(program, passes, &problem(target, inputs, start))?;
        self.pending = true;
        Ok(())
    }

    /// The samples of the last call.
    fn chains(&self) -> Chains<'_> {
        let last = &self.passes[self.passes.len() - 1];
        Chains { values: &self.values, width: self.width, sums: &self.sums, last, timing: self.timing }
    }

    /// Restarts the noise, so that the same calls give the same samples again.
    pub fn reset(&mut self) {
        self.cancel();
        self.number = 0;
    }

    /// Replaces the run-time parameters of an energy. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If the chains sample a data set, which has no parameters, or there are fewer than the energy uses, or one is not
    /// finite. Then nothing is changed.
    pub fn set_params(&mut self, params: &[f32]) -> Result<(), InvalidValue> {
        self.target.refuse_for_data("params")?;
        self.inputs.set_params(0, &mut self.options.params, params, &[energy_reader(self.program.requirements.clone())])
    }

    /// Replaces one sampled field of an energy. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If the chains are those of a data set, which has none, there is no field of that index yet, or the energy looks
    /// up other dimensions or more channels. Then nothing is changed.
    pub fn set_field(&mut self, index: usize, grid: Grid) -> Result<(), InvalidValue> {
        self.target.refuse_for_data("field")?;
        let reader = energy_reader(self.program.requirements.clone());
        self.inputs.set_field(&mut self.options.fields, index, grid, &[reader])
    }

    /// Replaces the weights of an energy's networks. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If the chains sample a data set, which has no networks, or there are not as many as the energy's networks have,
    /// or one is not finite. Then nothing is changed.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<(), InvalidValue> {
        self.target.refuse_for_data("weights")?;
        let reader = energy_reader(self.program.requirements.clone());
        self.inputs.set_weights(&mut self.options.weights, weights, &[reader])
    }

    /// Starts the noise from the beginning of another seed.
    pub fn reseed(&mut self, seed: u64) {
        self.cancel();
        (self.options.seed, self.number) = (seed, 0);
    }

    /// The options in use.
    pub fn options(&self) -> &DiffusionSamplerOptions {
        &self.options
    }

    /// The engine in use.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Lists every level as a pass of all chains: rows around x (or the data), scores, e^ℓ, their mean, the step of
    /// the sampler.
    fn fill_passes(&mut self) {
        let options = &self.options;
        let data = matches!(self.target, Target::Data { .. });
        let horizon = self.width / self.inputs.layout().controls;
        let mut first = Pass {
            rows: options.samples as u32,
            width: self.width as u32,
            coordinates: self.width as u32,
            problems: options.chains as u32,
            ..self.inputs.pass(options.seed, horizon, 1.0, options.limits.is_some())
        };
        first.set(GIVEN, data);
        options.weighting.set(&mut first);
        self.passes.clear();
        options.process.passes(first, &mut self.passes);
        for (i, level) in self.passes.iter_mut().enumerate() {
            level.number = self.number.wrapping_add(i as u32);
            if data {
                // ℓ = −‖x − x_k‖²/(2σ²) + R_k/λ, and the second score is −R_k.
                level.cost_scale = 0.5 / (level.scale * level.scale);
                level.control_fixed = 1.0 / level.temperature;
                level.temperature = 1.0;
            }
        }
    }

    /// Draws the initial chains from the prior of the noisiest level.
    fn noise(&self) -> Vec<f32> {
        float_env::standard(|| self.draw_start())
    }

    fn draw_start(&self) -> Vec<f32> {
        let (key, deviation) = (philox::key(self.options.seed), self.options.process.prior());
        let mut values = Vec::with_capacity(self.options.chains * self.width);
        for chain in 0..self.options.chains {
            for d in 0..self.width {
                let counter = [0, (d / 4) as u32, self.number, Stream::Chains.word(chain as u32)];
                values.push(self.target.center(d) + deviation * normal::box_muller_at(counter, key)[d % 4]);
            }
        }
        values
    }

    /// Passes the program, the passes and the problem of the next call to `see`.
    #[cfg(all(test, feature = "gpu"))]
    pub(crate) fn work(&mut self, see: impl FnOnce(&Program, &[Pass], &Problem<'_>)) {
        self.fill_passes();
        see(&self.program, &self.passes, &problem(&self.target, &self.inputs, &self.noise()));
    }
}

impl Calls for DiffusionSampler {
    fn may_block(&self) -> Result<(), EngineError> {
        self.workspace.may_block()
    }

    fn drain(&mut self, wait: Wait<'_>) -> Poll<Result<(), EngineError>> {
        self.workspace.drain(wait)
    }

    fn complete(&mut self, wait: Wait<'_>) -> Result<bool, PlanError> {
        if !self.pending {
            return Ok(false);
        }
        let Poll::Ready(done) = self.workspace.finish(wait) else { return Ok(false) };
        self.pending = false;
        let done = done?;
        self.number = self.number.wrapping_add(self.passes.len() as u32);
        self.values.clear();
        self.values.extend_from_slice(done.nominal);
        self.sums.clear();
        self.sums.extend_from_slice(done.sums);
        self.timing = done.timing;
        let chains = self.chains();
        if chains.failed() == chains.len() {
            return Err(PlanError::NoFiniteRow { rows: self.options.samples });
        }
        Ok(true)
    }

    fn cancel(&mut self) {
        Self::cancel(self);
    }
}

fn energy_reader(requirements: Requirements) -> Reader {
    Reader::new("the energy", requirements)
}

/// Packs everything but the chains for the kernels. The rows of a data set are not controls: each coordinate is stored
/// as a time step with one control.
fn packed(target: &Target, width: usize, options: &DiffusionSamplerOptions) -> Packed {
    let controls = if matches!(target, Target::Data { .. }) { 1 } else { width };
    let [low, high] = options.limits.unwrap_or([f32::MIN, f32::MAX]).map(|limit| vec![limit; controls]);
    let [params, weights] = match target {
        Target::Data { .. } => [&[][..]; 2],
        Target::Energy => [&options.params[..], &options.weights],
    };
    let (low, high) = (&low[..], &high[..]);
    let (factor, precision) = (Square::Unit, Square::Unit);
    let (rates, jerks, dt) = (None, None, 1.0);
    let sections =
        Sections { low, high, rates, jerks, dt, factor, precision, params, references: None, scenarios: &[], weights };
    let mut packed = Packed::new(1, &sections, &options.fields);
    if let Target::Data { rewards, .. } = target {
        packed.set_table(|push| write_rewards(rewards, push));
    }
    packed
}

/// The kernels add costs, so rewards are negated.
fn write_rewards(rewards: &[f32], push: &mut dyn FnMut(&[f32])) {
    rewards.iter().for_each(|reward| push(&[-reward]));
}

/// Assembles the problem of the chains that start at `start`.
fn problem<'a>(target: &'a Target, inputs: &'a Packed, start: &'a [f32]) -> Problem<'a> {
    Problem { rows: target.rows(), ..inputs.problem(start) }
}

impl Target {
    fn rows(&self) -> Option<&[f32]> {
        match self {
            Self::Energy => None,
            Self::Data { rows, .. } => Some(rows),
        }
    }

    /// Refuses what only an energy reads.
    fn refuse_for_data(&self, field: &'static str) -> Result<(), InvalidValue> {
        match self {
            Self::Energy => Ok(()),
            Self::Data { .. } => {
                Err(InvalidValue::new(field, "given for a data set", "left alone: only an energy reads it"))
            }
        }
    }

    /// The mean of the prior in coordinate `d`.
    fn center(&self, d: usize) -> f32 {
        match self {
            Self::Energy => 0.0,
            Self::Data { mean, .. } => mean[d],
        }
    }
}

impl DiffusionSamplerOptions {
    fn check(&self, width: usize) -> Result<(), InvalidValue> {
        let sizes = [("chains", self.chains, MAX_PROBLEMS), ("samples", self.samples, 1 << 25)];
        for (field, size, most) in sizes {
            if size == 0 || size > most {
                return Err(InvalidValue::new(field, size, format_args!("between 1 and {most}")));
            }
        }
        let numbers = round_up(self.samples, TILE).saturating_mul(width.max(3)).saturating_mul(self.chains);
        if numbers > i32::MAX as usize {
            let value = format_args!("{} for {} chains of width {width}", self.samples, self.chains);
            return Err(InvalidValue::new(
                "samples",
                value,
                format_args!("so few that all chains have at most {} numbers", i32::MAX),
            ));
        }
        if width > MAX_NUMBERS {
            return Err(InvalidValue::new("width", width, format_args!("at most {MAX_NUMBERS}")));
        }
        if let Some([low, high]) = self.limits
            && !(low <= high && low.is_finite() && high.is_finite())
        {
            let expected = "finite, the low value not above the high one";
            return Err(InvalidValue::new("limits", format_args!("[{low}, {high}]"), expected));
        }
        finite("params", &self.params)?;
        finite("weights", &self.weights)?;
        self.process.check()
    }
}

impl<'a> Chains<'a> {
    /// B, the number of chains.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Always `false`: there is at least one chain.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// D, the numbers per chain.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All chains one after the other, B × D.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// The chains, each D long.
    pub fn iter(&self) -> std::slice::ChunksExact<'a, f32> {
        self.values.chunks_exact(self.width)
    }

    /// The number of chains in which no row had any weight at the last level, which left them unchanged.
    pub fn failed(&self) -> usize {
        self.sums.iter().filter(|sums| sums.valid == 0 || sums.sum <= 0.0).count()
    }

    /// The effective sample size (Σw)²/Σw² of a chain at the last level, between 1 and K; 0 if it failed.
    ///
    /// # Panics
    ///
    /// If there is no such chain.
    pub fn effective_samples(&self, chain: usize) -> f32 {
        let Sums { sum, squares, .. } = self.sums[chain];
        float_env::standard(|| if sum > 0.0 { sum * sum / squares } else { 0.0 })
    }

    /// log Z of a chain at the last level: log (1/K) Σ e^{−E/λ} over the rows drawn around x; for a data set,
    /// log (1/N) Σ e^{−‖x − x_k‖²/(2σ²) + R_k/λ} over its rows. −∞ if the chain failed.
    ///
    /// # Panics
    ///
    /// If there is no such chain.
    pub fn log_z(&self, chain: usize) -> f32 {
        let sums = &self.sums[chain];
        float_env::standard(|| if sums.sum > 0.0 { sums.log_z(self.last) } else { f32::NEG_INFINITY })
    }

    /// How long the call took.
    pub fn timing(&self) -> Timing {
        self.timing
    }
}

impl<'a> IntoIterator for Chains<'a> {
    type Item = &'a [f32];
    type IntoIter = std::slice::ChunksExact<'a, f32>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Makes a second sampler on the same engine, which shares the kernels and has a copy of everything else that the next
/// call depends on: the same calls lead to the same samples, to the bit. It allocates its buffers in its first call. A
/// [pending](DiffusionSampler::start) call stays with the sampler that started it; the copy repeats it.
impl Clone for DiffusionSampler {
    fn clone(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            program: Arc::clone(&self.program),
            workspace: self.engine.workspace(),
            target: self.target.clone(),
            width: self.width,
            options: self.options.clone(),
            inputs: self.inputs.clone(),
            passes: Vec::new(),
            number: self.number,
            values: Vec::new(),
            sums: Vec::new(),
            timing: Timing::default(),
            pending: false,
        }
    }
}

impl std::fmt::Debug for DiffusionSampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Diffusion")
            .field("engine", &self.engine)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
