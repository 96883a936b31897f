//! [`PolicyGradient`]: the learners, and everything about training that is not the algorithm.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use super::checkpoint::Checkpoint;
use super::controller::{Controller, Episode, Run, check_theta};
use super::optimizer::Optimizer;
use super::options::{ActionNoise, Estimator, InitialStates, PolicyGradientOptions, Step};
use crate::error::{BuildError, CheckpointError, InvalidValue, IoFailure, PlanError, finite};
use crate::interp::trace::Requirements;
#[cfg(all(test, feature = "gpu"))]
use crate::kernels::pass::Problem;
use crate::kernels::pass::{CLAMPED, MAX_NUMBERS, Pass, TILE, round_up};
use crate::kernels::threads::Parallelism;
use crate::kernels::weigh::weighting::Weighting;
use crate::lang::float_env;
use crate::lang::grid::Grid;
use crate::lang::random::Random;
use crate::lang::stream::HostStream;
use crate::model::Model;
use crate::model::policy::Policy;
use crate::runtime::inputs::{Packed, Square};
use crate::runtime::program::{PolicyRows, Program};
use crate::runtime::task::{Reader, Task};
use crate::runtime::{Done, Engine, Timing, Wait, Workspace, program};

/// Trains a policy on a model, by score functions or by perturbing its parameters.
///
/// Several learners, each with its own parameters and noise, are trained in parallel by the same kernel launches.
///
/// # Example
///
/// ```
/// use gibbs::models::DoubleIntegrator;
/// use gibbs::policies::LinearFeedback;
/// use gibbs::{Engine, PolicyGradient, Random, Task, PolicyGradientOptions};
///
/// let options = PolicyGradientOptions {
///     task: Task { horizon: 40, dt: 0.1, ..Default::default() },
///     samples: 128,
///     ..Default::default()
/// };
/// let anywhere = |random: &mut Random, _params: &mut [f32]| [random.normal(), random.normal(), 0.0, 0.0];
/// let mut training =
///     PolicyGradient::new(&Engine::new()?, DoubleIntegrator::default(), LinearFeedback, anywhere, options)?;
///
/// let untrained = training.evaluate(0, 20, 1)?.iter().map(|episode| episode.cost).sum::<f32>();
/// for _ in 0..60 {
///     training.step()?;
/// }
/// let trained = training.evaluate(0, 20, 1)?.iter().map(|episode| episode.cost).sum::<f32>();
/// assert!(trained < 0.5 * untrained);
///
/// let mut controller = training.controller(0)?; // plain f32, to be embedded
/// let [ax, ay] = controller.act([1.0, -1.0, 0.0, 0.0]);
/// assert!(ax < 0.0 && ay > 0.0);
/// # Ok::<(), gibbs::Error>(())
/// ```
pub struct PolicyGradient<const N: usize, const M: usize, D, P> {
    engine: Engine,
    model: Arc<D>,
    policy: Arc<P>,
    starts: Arc<dyn InitialStates<N>>,
    pub(crate) options: PolicyGradientOptions<M>,
    program: Arc<Program>,
    /// The inputs that the policy reads in `act`.
    reads: Requirements,
    pub(crate) workspace: Workspace,
    inputs: Packed,
    /// [θ, logarithms of standard deviations] of every learner (the latter with score rows only), B × W.
    values: Vec<f32>,
    optimizers: Vec<Optimizer>,
    /// The diagonal of the Fisher information, where it is known.
    information: Option<Vec<f32>>,
    pub(crate) iteration: u32,
    progress: Vec<Progress>,
    /// The pass of an iteration that has been started and not finished.
    pending: Option<Pass>,
}

/// The result of one iteration for one learner.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// Iterations so far.
    pub iteration: usize,
    /// The mean return of the rows.
    pub mean_return: f32,
    /// The best return of a row.
    pub best_return: f32,
    /// The effective sample size (Σw)²/Σw², between 1 and K. (It says little about signed weights.)
    pub effective_samples: f32,
    /// λ.
    pub temperature: f32,
    /// log Z = log (1/K) Σ e^{R/λ}, over all K rows; an invalid one counts as 0. λ log Z estimates what training
    /// maximizes, at the current λ. With an elite, the logarithm of its share of the rows; with signed weights, which
    /// are no exponentials, 0.
    pub log_z: f32,
    /// The norm of the step's direction: of the gradient, or of F⁻¹ times the gradient for natural steps.
    pub step: f32,
    /// Rows whose return was not finite; they have no weight.
    pub invalid_rows: usize,
    /// How long the parts of the iteration took, for all learners together.
    pub timing: Timing,
}

/// A learner, as borrowed for its step.
pub(crate) struct Learner<'a, const M: usize> {
    pub(crate) options: &'a PolicyGradientOptions<M>,
    pub(crate) values: &'a mut [f32],
    pub(crate) optimizer: &'a mut Optimizer,
    pub(crate) information: Option<&'a [f32]>,
}

impl<const N: usize, const M: usize, D: Model<N, M>, P: Policy<N, M>> PolicyGradient<N, M, D, P> {
    /// Creates a training. Every learner has its own initial parameters.
    ///
    /// # Errors
    ///
    /// If an option is out of range, the policy has no parameters, model or policy cannot become a kernel, or the
    /// device fails.
    pub fn new(
        engine: &Engine,
        model: D,
        policy: P,
        starts: impl InitialStates<N>,
        options: PolicyGradientOptions<M>,
    ) -> Result<Self, BuildError> {
        float_env::standard(|| Self::build(engine, model, policy, starts, options))?.prepared()
    }

    /// As [`new`](Self::new), without blocking the thread in a browser: there the kernels are compiled while the future
    /// is pending.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub async fn new_async(
        engine: &Engine,
        model: D,
        policy: P,
        starts: impl InitialStates<N>,
        options: PolicyGradientOptions<M>,
    ) -> Result<Self, BuildError> {
        float_env::standard(|| Self::build(engine, model, policy, starts, options))?.prepared_async().await
    }

    fn build(
        engine: &Engine,
        model: D,
        policy: P,
        starts: impl InitialStates<N>,
        options: PolicyGradientOptions<M>,
    ) -> Result<Self, BuildError> {
        const { assert!(N > 0 && M > 0, "a system to control has states and controls") };
        options.check()?;
        let (model, policy) = (Arc::new(model), Arc::new(policy));
        let (scheme, shift_fill) = match options.estimator {
            Estimator::ParameterSpace { .. } => (PolicyRows::ParameterSpace, Vec::new()),
            Estimator::ScoreFunction { std, .. } => (PolicyRows::ScoreFunction, std.map(f32::ln).to_vec()),
        };
        // Checked before anything allocates as many numbers. There may be second moments beside the means.
        let parameters = policy.parameters();
        if parameters.saturating_add(shift_fill.len()) > MAX_NUMBERS / 2 {
            let expected = format_args!("one of at most {} parameters", MAX_NUMBERS / 2 - shift_fill.len());
            return Err(InvalidValue::new("policy", format_args!("one of {parameters} parameters"), expected).into());
        }
        if let (Estimator::ScoreFunction { action_noise, .. }, Step::Natural { .. }) = (options.estimator, options.step)
        {
            let known = information::<N, M, P>(&policy, options.task.horizon, action_noise, [1.0; M]);
            let is_diagonal =
                |known: &Vec<f32>| known.len() == parameters && known.iter().all(|f| *f >= 0.0 && f.is_finite());
            if known.as_ref().is_some_and(|known| !is_diagonal(known)) {
                let value = "one whose `information` is not the diagonal of a matrix over its parameters";
                let expected = "one that gives a finite number that is not negative for each, or None";
                return Err(InvalidValue::new("policy", value, expected).into());
            }
            if known.is_none() && matches!(options.weighting, Weighting::Signed { .. }) {
                let expected = "another step, or exponentiated weights: signed ones tell no Fisher information";
                return Err(InvalidValue::new("step", "Natural with signed weights", expected).into());
            }
        }
        let (math, software) = (engine.options().math, engine.has_software_kernels());
        let program = Program::for_policy::<N, M, D, P>(&model, &policy, scheme, math, software)?;
        let reads = program::reads(&*policy)?;
        for reader in readers(program.requirements.clone(), reads.clone()) {
            options.task.check_reader(&reader)?;
        }
        let learners = options.learners;
        let width = parameters + shift_fill.len();
        let numbers = round_up(options.samples, TILE).saturating_mul(width).saturating_mul(learners);
        if numbers.max(table::<N, M>(&options, options.task.params.len())) > i32::MAX as usize {
            let value = format_args!("{} for {learners} learners of {width} parameters", options.samples);
            let expected = format_args!("so few that all rows have at most {} numbers", i32::MAX);
            return Err(InvalidValue::new("samples", value, expected).into());
        }
        let mut values = Vec::with_capacity(learners * width);
        for learner in 0..learners {
            let initial =
                policy.initial(&mut Random::stream(options.task.seed, HostStream::Initial.of(learner as u32)));
            if initial.len() != parameters {
                let value = format_args!("one that begins with {} parameters", initial.len());
                let expected = format_args!("one that begins with as many as it has, {parameters}");
                return Err(InvalidValue::new("policy", value, expected).into());
            }
            if let Some(i) = initial.iter().position(|theta| !theta.is_finite()) {
                let value = format_args!("one that begins with {} as parameter {i}", initial[i]);
                return Err(InvalidValue::new("policy", value, "one that begins with finite parameters").into());
            }
            values.extend(initial);
            values.extend(&shift_fill);
        }
        let mut training = Self {
            engine: engine.clone(),
            starts: Arc::new(starts),
            program: Arc::new(program),
            reads,
            workspace: engine.workspace(),
            inputs: Packed::new(N, &options.task.sections(Square::Unit, Square::Zero), &options.task.fields),
            values,
            optimizers: vec![Optimizer::new(width); learners],
            information: None,
            iteration: 0,
            progress: vec![Progress::default(); learners],
            pending: None,
            model,
            policy,
            options,
        };
        training.information = annealed::<N, M, P>(&training.policy, &training.options, 0, &mut training.values);
        training.draw_starts();
        Ok(training)
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
        float_env::standard(|| {
            let pass = self.options.pass(self.blank());
            let Self { program, workspace, inputs, values, .. } = self;
            workspace.prepare(program, &[pass], &inputs.problem(values))
        })
    }

    /// Trains for `iterations` more iterations, or until `watch` breaks. `watch` is called after every iteration with
    /// the progress of every learner.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step). The iterations before the failed one are kept.
    pub fn train(
        &mut self,
        iterations: usize,
        mut watch: impl FnMut(&[Progress]) -> ControlFlow<()>,
    ) -> Result<(), PlanError> {
        for _ in 0..iterations {
            if watch(self.step()?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// As [`train`](Self::train), without blocking the thread while a GPU works: see [`step_async`](Self::step_async).
    /// The CPU backend computes all iterations when the future is first polled, so there a program that has other work
    /// in between awaits single steps.
    ///
    /// Dropping the future keeps the iterations that were completed.
    ///
    /// # Errors
    ///
    /// As [`train`](Self::train).
    pub async fn train_async(
        &mut self,
        iterations: usize,
        mut watch: impl FnMut(&[Progress]) -> ControlFlow<()>,
    ) -> Result<(), PlanError> {
        for _ in 0..iterations {
            if watch(self.step_async().await?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Starts an iteration's pass.
    pub(crate) fn submit(&mut self, pass: Pass) -> Result<(), PlanError> {
        self.workspace.submit(&self.program, &[pass], &self.inputs.problem(&self.values))?;
        self.pending = Some(pass);
        Ok(())
    }

    /// The progress of every learner in the last iteration.
    pub(crate) fn progress(&self) -> &[Progress] {
        &self.progress
    }

    /// Whether an iteration has been started and not finished.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Gives up the pending iteration, if there is one. Nothing changes, and the next iteration repeats it. A GPU still
    /// runs it, and [`start`](Self::start) returns [`PlanError::Busy`] until it has completed.
    pub fn cancel(&mut self) {
        if self.pending.take().is_some() {
            self.workspace.abandon();
        }
    }

    /// Steps every learner by the result of the pending iteration, once available. Returns whether it was.
    pub(crate) fn take_in(
        &mut self,
        wait: Wait<'_>,
        mut step: impl FnMut(&mut Learner<'_, M>, &Pass, &Done<'_>, usize) -> Progress,
    ) -> Result<bool, PlanError> {
        let Some(pass) = self.pending else { return Ok(false) };
        let pass = &pass;
        let Self { workspace, inputs, values: before, options, optimizers: remembered, .. } = self;
        let Poll::Ready(done) = workspace.finish(wait) else { return Ok(false) };
        self.pending = None;
        let done = done?;
        let (width, starts) = (pass.width as usize, &inputs.values()[pass.starts as usize..]);
        let weighed = |b: usize| done.sums[b].valid > 0 && done.sums[b].sum > 0.0;
        let worked = |b: usize| weighed(b) && done.nominal[b * width..][..width].iter().all(|m| m.is_finite());
        if !(0..options.learners).any(worked) {
            // If an initial state was not finite, name that as the cause.
            check_starts::<N>(starts, options.task.params.len(), options.starts(), self.iteration)?;
            let weighed = (0..options.learners).any(weighed);
            return Err(if weighed {
                PlanError::NonFiniteMean
            } else {
                PlanError::NoFiniteRow { rows: options.samples }
            });
        }
        // `Policy::information` is called below and may panic. So all results are computed in copies before anything is
        // replaced, and a panic leaves the learners unchanged.
        let (mut values, mut optimizers) = (before.clone(), remembered.clone());
        let mut progress = Vec::with_capacity(options.learners);
        for (b, (values, optimizer)) in values.chunks_exact_mut(width).zip(&mut optimizers).enumerate() {
            if !worked(b) {
                progress.push(Progress {
                    iteration: pass.number as usize + 1,
                    mean_return: f32::NEG_INFINITY,
                    best_return: f32::NEG_INFINITY,
                    log_z: f32::NEG_INFINITY,
                    invalid_rows: options.samples - done.sums[b].valid as usize,
                    timing: done.timing,
                    ..Default::default()
                });
                continue;
            }
            let information = self.information.as_deref();
            let mut found = step(&mut Learner { options, values, optimizer, information }, pass, &done, b);
            // Undo a step that leaves values or moments non-finite.
            if !values.iter().all(|value| value.is_finite()) || !optimizer.is_finite() {
                values.copy_from_slice(&before[b * width..][..width]);
                optimizer.clone_from(&remembered[b]);
                found.step = 0.0;
            }
            progress.push(found);
        }
        let iteration = self.iteration.wrapping_add(1);
        let information = annealed::<N, M, P>(&self.policy, options, iteration, &mut values);
        (self.values, self.optimizers, self.progress) = (values, optimizers, progress);
        (self.iteration, self.information) = (iteration, information);
        Ok(true)
    }

    /// Returns a pass with sizes, seed and buffer offsets filled in.
    pub(crate) fn blank(&self) -> Pass {
        let (options, width) = (&self.options, self.width());
        let mut pass = Pass {
            number: self.iteration,
            rows: options.samples as u32,
            width: width as u32,
            coordinates: width as u32,
            rows_stride: (round_up(options.samples, TILE) * width) as u32,
            problems: options.learners as u32,
            episodes: 1,
            ..options.task.pass(&self.inputs)
        };
        // The limits are those of actions. What is averaged are parameters or scores.
        pass.set(CLAMPED, false);
        pass
    }

    /// W, the numbers per learner.
    fn width(&self) -> usize {
        self.values.len() / self.options.learners
    }

    /// Draws the initial states of this iteration's episodes. They depend on seed, learner and iteration only, not on
    /// earlier draws.
    pub(crate) fn draw_starts(&mut self) {
        let (options, draws, iteration) = (&self.options, &self.starts, u64::from(self.iteration));
        let pairs = matches!(options.estimator, Estimator::ScoreFunction { antithetic: true, .. });
        let mut params = options.task.params.clone();
        let mut state = [0.0; N];
        self.inputs.set_table(|push| {
            for learner in 0..options.learners {
                let mut random = Random::stream(options.task.seed, HostStream::Starts.of(learner as u32));
                random.seek(iteration << 32);
                for k in 0..options.starts() {
                    if !(pairs && k % 2 == 1) {
                        params.copy_from_slice(&options.task.params);
                        state = draws.draw(&mut random, &mut params);
                    }
                    push(&state);
                    push(&params);
                }
            }
        });
    }

    /// Passes the program, the pass and the problem of the next iteration to `see`.
    #[cfg(all(test, feature = "gpu"))]
    pub(crate) fn work(&mut self, see: impl FnOnce(&Program, &[Pass], &Problem<'_>)) {
        self.draw_starts();
        let pass = self.options.pass(self.blank());
        see(&self.program, &[pass], &self.inputs.problem(&self.values));
    }

    /// Runs new episodes under the policy of a learner, without noise. Their initial states are drawn from the same
    /// distribution as in training, but from another stream of random numbers.
    ///
    /// # Errors
    ///
    /// If there is no such learner, there are more than 2²⁴ episodes, or an initial state or its parameters are not
    /// finite.
    pub fn evaluate(&self, learner: usize, episodes: usize, seed: u64) -> Result<Vec<Episode<N, M>>, InvalidValue> {
        const MOST: usize = 1 << 24;
        let controller = self.controller(learner)?;
        if episodes > MOST {
            return Err(InvalidValue::new("episodes", episodes, format_args!("at most {MOST}")));
        }
        float_env::standard(|| self.episodes(&controller, episodes, seed))
    }

    fn episodes(
        &self,
        controller: &Controller<N, M, P>,
        episodes: usize,
        seed: u64,
    ) -> Result<Vec<Episode<N, M>>, InvalidValue> {
        let mut random = Random::stream(seed, HostStream::Evaluation.of(0));
        let draw = |episode| {
            let mut params = self.options.task.params.clone();
            let start = self.starts.draw(&mut random, &mut params);
            check_start(&start, &params).map_err(|what| {
                let value = format_args!("a function that gives {what} for episode {episode}");
                InvalidValue::new("starts", value, STARTS)
            })?;
            Ok((start, params, None))
        };
        let mut jobs = (0..episodes).map(draw).collect::<Result<Vec<_>, _>>()?;
        Parallelism::Pool.for_each_long(jobs.iter_mut(), |(start, params, episode)| {
            *episode = Some(self.engine.isa().run(self.job(controller, *start, params)));
        });
        Ok(jobs.into_iter().filter_map(|(.., episode)| episode).collect())
    }

    /// Runs one episode under the policy of a learner, without noise, from `start` and with the parameters of the
    /// options.
    ///
    /// # Errors
    ///
    /// If there is no such learner, or the start is not finite.
    pub fn episode(&self, learner: usize, start: [f32; N]) -> Result<Episode<N, M>, InvalidValue> {
        finite("start", &start)?;
        let controller = self.controller(learner)?;
        let job = self.job(&controller, start, &self.options.task.params);
        Ok(float_env::standard(|| self.engine.isa().run(job)))
    }

    fn job<'a>(
        &'a self,
        controller: &'a Controller<N, M, P>,
        start: [f32; N],
        params: &'a [f32],
    ) -> Run<'a, N, M, D, P> {
        Run { model: &self.model, controller, params, start, horizon: self.options.task.horizon }
    }

    /// Returns the policy of a learner in plain `f32`, for embedding.
    ///
    /// # Errors
    ///
    /// If there is no such learner.
    pub fn controller(&self, learner: usize) -> Result<Controller<N, M, P>, InvalidValue> {
        let theta = self.theta(learner)?.to_vec();
        let Task { horizon, dt, limits, ref params, ref references, ref weights, seed, .. } = self.options.task;
        let (params, references, weights) = (params.clone(), references.clone(), weights.clone());
        // Without the grids, which may be large: a controller looks its fields up in the packed set.
        let task = Task { horizon, dt, limits, params, references, weights, seed, ..Default::default() };
        Ok(Controller::of(Arc::clone(&self.policy), theta, task, self.inputs.fields().clone(), self.reads.clone()))
    }

    /// Replaces the run-time parameters that episodes start with, before [`InitialStates::draw`] changes them.
    /// Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If they are fewer than model or policy read, so many that the starts of all episodes have more than 2³¹ − 1
    /// numbers, or not finite.
    pub fn set_params(&mut self, params: &[f32]) -> Result<(), InvalidValue> {
        if table::<N, M>(&self.options, params.len()) > i32::MAX as usize {
            let expected = format_args!("so few that the starts of all episodes have at most {} numbers", i32::MAX);
            return Err(InvalidValue::new("params", format_args!("{} numbers", params.len()), expected));
        }
        let readers = readers(self.program.requirements.clone(), self.reads.clone());
        self.inputs.set_params(0, &mut self.options.task.params, params, &readers)?;
        self.cancel();
        Ok(())
    }

    /// Replaces the reference table: one row of `columns` numbers per time step, the last of which holds on. Recompiles
    /// nothing.
    ///
    /// # Errors
    ///
    /// If it is empty or ragged, has fewer columns than model or policy read, or is not finite.
    pub fn set_references(&mut self, values: &[f32], columns: usize) -> Result<(), InvalidValue> {
        let readers = readers(self.program.requirements.clone(), self.reads.clone());
        self.inputs.set_references(0, &mut self.options.task.references, values, columns, &readers)?;
        self.cancel();
        Ok(())
    }

    /// Replaces one sampled field. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If there is no field of that index yet, or model or policy look up other dimensions or more channels.
    pub fn set_field(&mut self, index: usize, grid: Grid) -> Result<(), InvalidValue> {
        let readers = readers(self.program.requirements.clone(), self.reads.clone());
        self.inputs.set_field(&mut self.options.task.fields, index, grid, &readers)?;
        self.cancel();
        Ok(())
    }

    /// Replaces the weights of the model's networks. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If they are not as many as the networks have, or not finite.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<(), InvalidValue> {
        let readers = readers(self.program.requirements.clone(), self.reads.clone());
        self.inputs.set_weights(&mut self.options.task.weights, weights, &readers)?;
        self.cancel();
        Ok(())
    }

    /// θ of a learner, as plain numbers. The policy documents their meaning.
    ///
    /// # Errors
    ///
    /// If there is no such learner.
    pub fn theta(&self, learner: usize) -> Result<&[f32], InvalidValue> {
        let (count, parameters) = (self.options.learners, self.policy.parameters());
        if learner >= count {
            return Err(InvalidValue::new("learner", learner, format_args!("below the number of learners, {count}")));
        }
        Ok(&self.values[learner * self.width()..][..parameters])
    }

    /// Replaces θ of a learner. The moments of its optimizer are kept.
    ///
    /// # Errors
    ///
    /// If there is no such learner, or there are not as many numbers as it has parameters, or one is not finite.
    pub fn set_theta(&mut self, learner: usize, theta: &[f32]) -> Result<(), InvalidValue> {
        let own = self.theta(learner)?.len();
        check_theta(theta, own)?;
        self.cancel();
        let at = learner * self.width();
        self.values[at..][..own].copy_from_slice(theta);
        Ok(())
    }

    /// The standard deviations of the actions of a learner; `None` with perturbed parameters.
    ///
    /// # Errors
    ///
    /// If there is no such learner.
    pub fn action_noise(&self, learner: usize) -> Result<Option<[f32; M]>, InvalidValue> {
        let parameters = self.theta(learner)?.len();
        let shift_fill = &self.values[learner * self.width()..][parameters..self.width()];
        Ok(shift_fill.first_chunk::<M>().map(|log_std| float_env::standard(|| log_std.map(f32::exp))))
    }

    /// Writes everything that training changes, so that it can be [`resume`](Self::resume)d.
    ///
    /// The format is little-endian: `gibbs-pg`, then as u32 the version (1), N, M, the learners B, the numbers W of a
    /// learner and the iterations so far, then the seed as u64; for each learner 3 W numbers as f32 (parameters, and
    /// with score rows the logarithms of the M standard deviations; first moments; second moments) and the steps of its
    /// optimizer as u32; at the end the FNV-1a checksum of all bytes before, as u64.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save(&self, mut to: impl Write) -> Result<(), CheckpointError> {
        let written = to.write_all(&self.checkpoint().bytes()).and_then(|()| to.flush());
        Ok(written.map_err(IoFailure::from)?)
    }

    /// As [`save`](Self::save), to a file, which is replaced atomically: the new file is written beside the old one,
    /// synchronized to disk and then renamed.
    ///
    /// # Errors
    ///
    /// If it cannot be written. Then the old file is still there.
    pub fn save_to(&self, file: impl AsRef<Path>) -> Result<(), CheckpointError> {
        self.checkpoint().write_to(file.as_ref())
    }

    fn checkpoint(&self) -> Checkpoint {
        let (values, optimizers) = (self.values.clone(), self.optimizers.clone());
        Checkpoint { sizes: self.sizes(), iteration: self.iteration, seed: self.options.task.seed, values, optimizers }
    }

    /// Restores a training from the output of [`save`](Self::save). With the same options, the same engine and the same
    /// sequence of calls, it continues with the same bits as without the interruption. (The seed is part of the
    /// checkpoint.)
    ///
    /// This reads at most the length of a checkpoint of this training, and one byte more to detect data after its end.
    ///
    /// # Errors
    ///
    /// If it cannot be read, has another version, is truncated, too long or damaged, belongs to a training of other
    /// sizes, or holds a number that training cannot have written. Then nothing is changed.
    pub fn resume(&mut self, from: impl Read) -> Result<(), CheckpointError> {
        let checkpoint = Checkpoint::read(from, self.sizes())?;
        checkpoint.check(self.policy.parameters())?;
        let (iteration, mut values) = (checkpoint.iteration, checkpoint.values);
        // The policy may panic here, before anything is replaced.
        let information =
            float_env::standard(|| annealed::<N, M, P>(&self.policy, &self.options, iteration, &mut values));
        self.cancel();
        self.options.task.seed = checkpoint.seed;
        (self.iteration, self.values, self.optimizers) = (iteration, values, checkpoint.optimizers);
        self.information = information;
        Ok(())
    }

    /// As [`resume`](Self::resume), from a file.
    ///
    /// # Errors
    ///
    /// As [`resume`](Self::resume), and if there is no such file.
    pub fn resume_from(&mut self, file: impl AsRef<Path>) -> Result<(), CheckpointError> {
        self.resume(File::open(file).map_err(IoFailure::from)?)
    }

    fn sizes(&self) -> [u32; 4] {
        [N as u32, M as u32, self.options.learners as u32, self.width() as u32]
    }

    /// Iterations so far.
    pub fn iteration(&self) -> usize {
        self.iteration as usize
    }

    /// The options.
    pub fn options(&self) -> &PolicyGradientOptions<M> {
        &self.options
    }

    /// The engine in use.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The model that is trained on.
    pub fn model(&self) -> &D {
        &self.model
    }
}

/// Sets the standard deviations of the actions for an iteration, and returns the diagonal of the Fisher information
/// with them, where it is known.
fn annealed<const N: usize, const M: usize, P: Policy<N, M>>(
    policy: &P,
    options: &PolicyGradientOptions<M>,
    iteration: u32,
    values: &mut [f32],
) -> Option<Vec<f32>> {
    let Estimator::ScoreFunction { std, action_noise, .. } = options.estimator else { return None };
    let width = values.len() / options.learners;
    for values in values.chunks_exact_mut(width) {
        let shift_fill = &mut values[width - M..];
        match action_noise {
            ActionNoise::Fixed => {}
            ActionNoise::Learned { least } => {
                shift_fill.iter_mut().for_each(|log_std| *log_std = log_std.clamp(least.ln(), 1e12_f32.ln()));
            }
            ActionNoise::Anneal(factor) => {
                let factor = factor.at(iteration as usize);
                shift_fill.copy_from_slice(&std.map(|std| (factor * std).ln()));
            }
        }
    }
    // The first learner's deviations are those of all learners: where they are learned and differ, `information`
    // returns `None`.
    let log_std = &values[width - M..width];
    let mut precision = [0.0; M];
    for m in 0..M {
        precision[m] = (-2.0 * log_std[m]).exp();
    }
    let known = information::<N, M, P>(policy, options.task.horizon, action_noise, precision);
    known.map(|mut known| {
        known.extend([2.0 * options.task.horizon as f32; M]);
        known
    })
}

/// Returns the diagonal of the Fisher information about θ, where the policy provides it. Returns `None` where standard
/// deviations are learned, since they differ from learner to learner.
fn information<const N: usize, const M: usize, P: Policy<N, M>>(
    policy: &P,
    horizon: usize,
    action_noise: ActionNoise,
    precision: [f32; M],
) -> Option<Vec<f32>> {
    match action_noise {
        ActionNoise::Learned { .. } => None,
        ActionNoise::Fixed | ActionNoise::Anneal(_) => policy.information(horizon, precision),
    }
}

/// The requirement on a distribution of initial states, for errors.
const STARTS: &str = "one that gives finite states and parameters";

/// Fails with the first number that is not finite in an initial state or its parameters, as text for an error.
fn check_start(state: &[f32], params: &[f32]) -> Result<(), String> {
    for (what, numbers) in [("state", state), ("parameter", params)] {
        if let Some(i) = numbers.iter().position(|number| !number.is_finite()) {
            return Err(format!("{} as {what} {i}", numbers[i]));
        }
    }
    Ok(())
}

/// Refuses a table of initial states, `episodes` of them for every learner, unless all numbers are finite.
fn check_starts<const N: usize>(
    table: &[f32],
    params: usize,
    episodes: usize,
    iteration: u32,
) -> Result<(), InvalidValue> {
    for (entry, start) in table.chunks_exact(N + params).enumerate() {
        let (state, params) = start.split_at(N);
        check_start(state, params).map_err(|what| {
            let (learner, episode) = (entry / episodes, entry % episodes);
            let value = format_args!(
                "a function that gives {what} for episode {episode} of learner {learner} in iteration {}",
                u64::from(iteration) + 1
            );
            InvalidValue::new("starts", value, STARTS)
        })?;
    }
    Ok(())
}

/// Who reads the task of a training. Score rows run `vjp`, and a controller runs `act`.
fn readers(program: Requirements, policy: Requirements) -> [Reader; 2] {
    [Reader::new("the model or the policy", program), Reader::policy(policy)]
}

/// The numbers of the table of starts, if every start has `params` parameters.
fn table<const N: usize, const M: usize>(options: &PolicyGradientOptions<M>, params: usize) -> usize {
    options.starts().saturating_mul(N + params).saturating_mul(options.learners)
}

/// Makes a second training on the same engine, which shares model, policy, distribution of initial states and kernels,
/// and has a copy of everything that training changes: the same calls lead to the same parameters, to the bit. It
/// allocates its buffers in its first iteration. A [pending](PolicyGradient::start) iteration stays with the training
/// that started it; the copy repeats it.
impl<const N: usize, const M: usize, D, P> Clone for PolicyGradient<N, M, D, P> {
    fn clone(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            model: Arc::clone(&self.model),
            policy: Arc::clone(&self.policy),
            starts: Arc::clone(&self.starts),
            options: self.options.clone(),
            program: Arc::clone(&self.program),
            reads: self.reads.clone(),
            workspace: self.engine.workspace(),
            inputs: self.inputs.clone(),
            values: self.values.clone(),
            optimizers: self.optimizers.clone(),
            information: self.information.clone(),
            iteration: self.iteration,
            progress: self.progress.clone(),
            pending: None,
        }
    }
}

impl<const N: usize, const M: usize, D, P> std::fmt::Debug for PolicyGradient<N, M, D, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyGradient")
            .field("engine", &self.engine)
            .field("options", &self.options)
            .field("iteration", &self.iteration)
            .finish_non_exhaustive()
    }
}
