//! [`Planner`]: a plan, a model, and a device that improves the plan. Which method improves it is the planner's
//! [`Algorithm`]; everything else about planning, from warm starts to run-time parameters, is here and the same for all.

mod algorithm;
mod options;
mod plan;

use std::sync::Arc;

pub use algorithm::Algorithm;
pub(crate) use algorithm::{Parts, Setting, setting};
pub use options::{Limits, References, Tail};
pub use plan::{Plan, Samples};

use crate::engine::program::Program;
use crate::engine::{Engine, Workspace};
use crate::error::{BuildError, InvalidValue, PlanError, at_least, columns_read_by, finite};
use crate::field::{FieldSet, Grid};
use crate::float_env;
use crate::inputs::{Packed, Sections, Square};
use crate::model::Model;
use crate::noise::{Shape, normal, philox};
use crate::scalar::trace::Usage;
use crate::update::{CLAMPED, GIVEN, LIMITED, Problem, SPREAD, Sums, TILE, Update, round_up};
use plan::{Context, rollout};

/// The bits of the counter's last word that keep the scattering of chains apart from all other noise.
const STREAM: u32 = 3 << 24;

/// A model, a plan, and a device that improves the plan: as [`Mppi`](crate::Mppi) or as
/// [`DiffusionPlanner`](crate::DiffusionPlanner), depending on its options. The two are used alike.
///
/// # Example
///
/// ```
/// use gibbs::models::Pendulum;
/// use gibbs::{Backend, Engine, EngineOptions, Mppi, MppiOptions};
///
/// let engine = Engine::with(EngineOptions { backend: Backend::Cpu, ..Default::default() })?;
/// let options = MppiOptions { horizon: 20, samples: 256, dt: 0.05, ..Default::default() };
/// let mut mppi = Mppi::new(&engine, Pendulum::default(), options)?;
///
/// let state = [std::f32::consts::PI, 0.0]; // hanging
/// let plan = mppi.plan(&state)?;
/// println!("apply {} Nm, expect a cost of {}", plan.controls()[0][0], plan.cost());
/// mppi.shift(1);
/// # Ok::<(), gibbs::Error>(())
/// ```
pub struct Planner<const N: usize, const M: usize, D, A> {
    engine: Engine,
    model: Arc<D>,
    program: Program,
    workspace: Workspace,
    options: A,
    shape: Shape,
    inputs: Packed,
    /// The control sequences of all chains, B × T × M.
    nominal: Vec<f32>,
    /// The factors on their noise, if they have any.
    spread: Vec<f32>,
    /// Which chain is the plan.
    best: usize,
    fields: FieldSet,
    fields_version: u64,
    updates: Vec<Update>,
    /// Updates carried out so far: the next one's number in the noise.
    number: u32,
    plan: Plan<N, M>,
    /// Where the next plan is put together, before it takes the place of this one.
    next: Plan<N, M>,
    /// The state that the samples on the device start from, and the chain that became the plan.
    sampled: Option<([f32; N], usize)>,
    /// Whether [`plan_rows`](Self::plan_rows) is prepared for, too.
    takes_rows: bool,
}

impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> Planner<N, M, D, A> {
    /// A planner whose plan is `options.initial` throughout. Everything that can be refused is refused here, and
    /// everything that [`plan`](Self::plan) and [`samples`](Self::samples) need is compiled and allocated here. On a GPU each
    /// kernel is also dispatched once, because some drivers make its machine code only then; so the first plan takes as long
    /// as the second. [`plan_rows`](Self::plan_rows) has kernels of its own, which [`prepare_rows`](Self::prepare_rows) compiles.
    ///
    /// # Errors
    ///
    /// If an option is out of range, the model cannot become a kernel, or the device fails.
    pub fn new(engine: &Engine, model: D, options: A) -> Result<Self, BuildError> {
        const { assert!(N > 0 && M > 0, "a system to control has states and controls") };
        let shape = check(&options)?;
        let setting = options.setting();
        let model = Arc::new(model);
        let program = Program::new::<N, M, D>(&model, engine.options().math)?;
        let mut planner = Self {
            engine: engine.clone(),
            model,
            program,
            workspace: engine.workspace(),
            nominal: setting.initial.repeat(setting.horizon * setting.chains),
            spread: Vec::new(),
            best: 0,
            fields: FieldSet::new(setting.fields),
            fields_version: 0,
            inputs: Packed::new(N, &sections(&setting, &setting.limits.unwrap_or(Limits::NONE), &shape)),
            updates: Vec::new(),
            number: 0,
            plan: Plan::empty(engine.backend()),
            next: Plan::empty(engine.backend()),
            sampled: None,
            takes_rows: false,
            shape,
            options,
        };
        check_usage(planner.program.usage, &planner.options.setting())?;
        planner.prepare()?;
        Ok(planner)
    }

    /// Improves the plan for the state `x` and returns it: all updates of the method, carried out on the device in one go.
    ///
    /// With several chains, each is improved on its own, and the one whose control sequence costs least is the plan.
    ///
    /// # Errors
    ///
    /// If the state is not finite, no rollout of any chain has a finite cost, or the device fails. The previous plan stands.
    pub fn plan(&mut self, x: &[f32; N]) -> Result<&Plan<N, M>, PlanError> {
        self.run(x, None, usize::MAX)
    }

    /// As [`plan`](Self::plan), but carries out no more than the first `updates` updates (at least one): for watching a
    /// method at work. From the same [`reset`](Self::reset) on, fewer updates are the beginning of more.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan).
    pub fn plan_first(&mut self, x: &[f32; N], updates: usize) -> Result<&Plan<N, M>, PlanError> {
        self.run(x, None, updates.max(1))
    }

    /// As [`plan`](Self::plan), but with rows supplied by the caller instead of drawn: any proposal.
    ///
    /// `rows` holds K control sequences one after the other, each T × M, for every chain the same. Limits still apply to them.
    /// With several updates, the same rows are weighed each time.
    ///
    /// On a GPU it has kernels of its own. If [`prepare_rows`](Self::prepare_rows) has not been called, the first call compiles
    /// them, which can take seconds; these do not count towards [`EngineOptions::timeout`](crate::EngineOptions::timeout).
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan), and if the rows have the wrong size or are not finite.
    pub fn plan_rows(&mut self, x: &[f32; N], rows: &[f32]) -> Result<&Plan<N, M>, PlanError> {
        let setting = self.options.setting();
        let expected = setting.samples * setting.horizon * M;
        if rows.len() != expected {
            let expected = format_args!("samples × horizon × controls = {expected} numbers");
            return Err(InvalidValue::new("rows", format_args!("{} numbers", rows.len()), expected).into());
        }
        finite("rows", rows)?;
        self.run(x, Some(rows), usize::MAX)
    }

    /// Compiles and allocates what [`plan_rows`](Self::plan_rows) and the [`samples`](Self::samples) after it need, so that the
    /// first such call takes as long as the second. From now on [`set_options`](Self::set_options), [`resize`](Self::resize)
    /// and [`rebuild`](Self::rebuild) do so, too. The plan stays as it is, but the samples of the last call are gone.
    ///
    /// # Errors
    ///
    /// If the device fails or has no room. Then nothing is changed, but the samples of the last call are gone.
    pub fn prepare_rows(&mut self) -> Result<(), BuildError> {
        self.sampled = None;
        let before = std::mem::replace(&mut self.takes_rows, true);
        self.prepare().inspect_err(|_| self.takes_rows = before)
    }

    fn run(&mut self, x: &[f32; N], rows: Option<&[f32]>, most: usize) -> Result<&Plan<N, M>, PlanError> {
        float_env::standard(move || self.improve(x, rows, most))
    }

    fn improve(&mut self, x: &[f32; N], rows: Option<&[f32]>, most: usize) -> Result<&Plan<N, M>, PlanError> {
        finite("state", x)?;
        let started = std::time::Instant::now();
        self.inputs.set_state(x);
        self.fill_updates(rows.is_some());
        if most < self.updates.len() {
            self.updates.truncate(most);
            // Where it stops is the plan, so that is within the limits.
            if let Some(last) = self.updates.last_mut() {
                last.set(CLAMPED, last.has(LIMITED));
            }
        }
        let setting = self.options.setting();
        let (samples, width) = (setting.samples, setting.horizon * M);
        let scattered = scattered(&self.options, &self.shape, &self.nominal, self.number);
        let nominal = scattered.as_deref().unwrap_or(&self.nominal);
        let problem = problem(&self.inputs, nominal, &self.spread, &self.fields, self.fields_version);
        let problem = Problem { rows, ..problem };
        self.sampled = None;
        // A failed call consumes its noise too; the next one draws other rows.
        self.number = self.number.wrapping_add(self.updates.len() as u32);
        let done = self.workspace.run(&self.program, &self.updates, &problem)?;

        // A chain that failed stays where it was; that of least cost becomes the plan.
        let worked = |sums: &Sums| sums.valid > 0 && sums.sum > 0.0;
        if !done.sums.iter().any(worked) {
            return Err(PlanError::NoFiniteRow { rows: samples });
        }
        let usable = |(sums, nominal): (&Sums, &[f32])| worked(sums) && nominal.iter().all(|u| u.is_finite());
        let chains = || done.sums.iter().zip(done.nominal.chunks_exact(width)).enumerate();
        let results = || chains().filter(|(_, result)| usable(*result));
        // The model runs on the host here and may panic. Nothing is committed before it is done, so the old plan survives.
        let at = Context::new(&self.inputs, self.fields.look_ups(), setting.dt);
        let last = &self.updates[self.updates.len() - 1];
        let isa = self.engine.isa();
        let mut best: Option<(f32, usize, &[f32])> = None;
        for (chain, (_, nominal)) in results() {
            self.next.roll_out(isa, &*self.model, &at, last.cost_scale, nominal);
            let cost = if self.next.cost().is_finite() { self.next.cost() } else { f32::MAX };
            if best.is_none_or(|(least, ..)| cost < least) {
                best = Some((cost, chain, nominal));
            }
        }
        let Some((_, chain, nominal)) = best else { return Err(PlanError::NonFiniteMean) };
        if done.sums.len() > 1 {
            self.next.roll_out(isa, &*self.model, &at, last.cost_scale, nominal);
        }
        self.next.record(last, &done.sums[chain], done.timing);
        self.next.backend = self.engine.backend();

        for (chain, (_, nominal)) in results() {
            self.nominal[chain * width..][..width].copy_from_slice(nominal);
        }
        self.best = chain;
        self.sampled = Some((*x, chain));
        std::mem::swap(&mut self.plan, &mut self.next);
        self.plan.timing.total = started.elapsed();
        Ok(&self.plan)
    }

    /// Moves the plan on by `steps` time steps, because that many controls have been applied. What enters at the end is
    /// chosen by [`Tail`].
    pub fn shift(&mut self, steps: usize) {
        let setting = self.options.setting();
        for chain in self.nominal.chunks_exact_mut(setting.horizon * M) {
            setting.tail.shift(chain.as_chunks_mut().0, steps, setting.initial);
        }
    }

    /// Forgets the plan (it becomes `options.initial` throughout) and starts the noise from its beginning, so that the same
    /// calls give the same results again.
    pub fn reset(&mut self) {
        let initial = self.options.setting().initial;
        self.nominal.as_chunks_mut().0.fill(initial);
        (self.number, self.best) = (0, 0);
    }

    /// Starts the noise from the beginning of another seed.
    pub fn reseed(&mut self, seed: u64) {
        *self.options.parts().seed = seed;
        self.number = 0;
    }

    /// The control sequence that the next call starts from, T × M; of several chains, that of the best.
    pub fn controls(&self) -> &[[f32; M]] {
        self.chain(self.best)
    }

    /// The control sequences of all chains, each T × M.
    pub fn chains(&self) -> impl ExactSizeIterator<Item = &[[f32; M]]> {
        (0..self.options.setting().chains).map(|chain| self.chain(chain))
    }

    fn chain(&self, chain: usize) -> &[[f32; M]] {
        let horizon = self.options.setting().horizon;
        &self.nominal.as_chunks().0[chain * horizon..][..horizon]
    }

    /// Replaces the control sequence that the next call starts from, in every chain.
    ///
    /// # Errors
    ///
    /// If it is not T long, or not finite. Limits act on it with the next call.
    pub fn set_controls(&mut self, controls: &[[f32; M]]) -> Result<(), InvalidValue> {
        let horizon = self.options.setting().horizon;
        if controls.len() != horizon {
            let expected = format_args!("horizon = {horizon} of them");
            return Err(InvalidValue::new("controls", format_args!("{} controls", controls.len()), expected));
        }
        finite("controls", controls.as_flattened())?;
        for chain in self.nominal.chunks_exact_mut(horizon * M) {
            chain.copy_from_slice(controls.as_flattened());
        }
        Ok(())
    }

    /// Replaces the run-time parameters. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If they are fewer than the model uses, or not finite.
    pub fn set_params(&mut self, params: &[f32]) -> Result<(), InvalidValue> {
        finite("params", params)?;
        at_least("params", params.len(), self.program.usage.params)?;
        let own = self.options.parts().params;
        own.clear();
        own.extend_from_slice(params);
        self.pack();
        Ok(())
    }

    /// Replaces the reference table: one row of `columns` numbers per time step, the last of which holds on to the end of
    /// the horizon and beyond. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If it is empty or ragged, has fewer columns than the model uses, or is not finite.
    pub fn set_references(&mut self, values: &[f32], columns: usize) -> Result<(), InvalidValue> {
        columns_read_by("the model", columns, self.program.usage.columns)?;
        References::check(values, columns)?;
        let references = self.options.parts().references.get_or_insert_default();
        references.values.clear();
        references.values.extend_from_slice(values);
        references.columns = columns;
        self.pack();
        Ok(())
    }

    /// Replaces one sampled field. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If there is no field of that index yet.
    pub fn set_field(&mut self, index: usize, grid: Grid) -> Result<(), InvalidValue> {
        let fields = self.options.parts().fields;
        let count = fields.len();
        let Some(field) = fields.get_mut(index) else {
            return Err(InvalidValue::new("field", index, format_args!("below the number of fields, {count}")));
        };
        *field = grid;
        self.fields = FieldSet::new(fields);
        self.fields_version += 1;
        self.sampled = None;
        Ok(())
    }

    /// Replaces all options but the horizon and the number of samples, which have [`resize`](Self::resize). The plan is kept,
    /// and the best chain becomes all of them if their number changes; tighter limits act on it with the next call. A GPU
    /// compiles another kernel where limits, control cost, `nominal_first` or correlated noise are switched on or off, where the
    /// temperature is found from now on and not given, and where the number of chains passes 2 (of a software adapter) or 64.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). Then nothing is changed, but the samples of the last call may be gone.
    pub fn set_options(&mut self, mut options: A) -> Result<(), BuildError> {
        let shape = check(&options)?;
        let setting = self.options.setting();
        let (horizon, samples) = (setting.horizon, setting.samples);
        let parts = options.parts();
        (*parts.horizon, *parts.samples) = (horizon, samples);
        check_usage(self.program.usage, &options.setting())?;
        let nominal = match options.setting().chains {
            chains if chains == setting.chains => self.nominal.clone(),
            chains => self.controls().as_flattened().repeat(chains),
        };
        let previous = (
            std::mem::replace(&mut self.options, options),
            std::mem::replace(&mut self.shape, shape),
            std::mem::replace(&mut self.nominal, nominal),
            self.best,
        );
        self.best = self.best.min(self.options.setting().chains - 1);
        self.take_options();
        self.prepare().inspect_err(|_| {
            (self.options, self.shape, self.nominal, self.best) = previous;
            self.take_options();
        })
    }

    /// Packs what is in the options for the kernels.
    fn take_options(&mut self) {
        self.fields = FieldSet::new(self.options.setting().fields);
        self.fields_version += 1;
        self.pack();
    }

    /// Changes the horizon and the number of samples. The plan is kept as far as it goes, and continued as [`Tail`] says. A GPU
    /// compiles another kernel where the samples pass 256 (1,024 with many chains): up to there one does it all.
    ///
    /// # Errors
    ///
    /// If a size is out of range, or the device has no room. Then nothing is changed, but the samples of the last call may be gone.
    pub fn resize(&mut self, horizon: usize, samples: usize) -> Result<(), BuildError> {
        let mut options = self.options.clone();
        let parts = options.parts();
        (*parts.horizon, *parts.samples) = (horizon, samples);
        check(&options)?;
        let setting = options.setting();
        let mut nominal = Vec::with_capacity(setting.chains * horizon * M);
        for chain in self.chains() {
            let at = |t: usize| setting.tail.beyond(chain, t, setting.initial);
            nominal.extend((0..horizon).flat_map(at));
        }
        let previous = (std::mem::replace(&mut self.options, options), std::mem::replace(&mut self.nominal, nominal));
        self.sampled = None;
        self.prepare().inspect_err(|_| (self.options, self.nominal) = previous)
    }

    /// Moves to another engine (or to a new one on the same device, after it was lost), plan and all.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). Then nothing is changed, but the samples of the last call may be gone.
    pub fn rebuild(&mut self, engine: &Engine) -> Result<(), BuildError> {
        let program = Program::new::<N, M, D>(&self.model, engine.options().math)?;
        check_usage(program.usage, &self.options.setting())?;
        let previous = (
            std::mem::replace(&mut self.engine, engine.clone()),
            std::mem::replace(&mut self.program, program),
            std::mem::replace(&mut self.workspace, engine.workspace()),
        );
        self.sampled = None;
        self.prepare().inspect_err(|_| (self.engine, self.program, self.workspace) = previous)
    }

    /// The rows of the last update with their costs and weights, fetched from the device: for drawing and for study. Of
    /// several chains, the rows of the one that became the plan.
    ///
    /// # Errors
    ///
    /// If there has been no call since anything about the controller was changed, or the device fails.
    pub fn samples(&mut self) -> Result<Samples<'_, N, M, D>, PlanError> {
        let Some((state, chain)) = self.sampled else {
            return Err(InvalidValue::new("samples", "not there", "preceded by a call of plan that succeeded").into());
        };
        let Self { inputs, nominal, spread, fields, fields_version, .. } = self;
        let problem = problem(inputs, nominal, spread, fields, *fields_version);
        let fetched = self.workspace.fetch(&self.program, &problem, chain)?;
        let setting = self.options.setting();
        let at = Context::new(&self.inputs, self.fields.look_ups(), setting.dt);
        let (samples, horizon) = (setting.samples, setting.horizon);
        Ok(Samples { model: &*self.model, at, state, samples, horizon, fetched })
    }

    /// The options as they are now.
    pub fn options(&self) -> &A {
        &self.options
    }

    /// The engine in use.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The model that is controlled.
    pub fn model(&self) -> &D {
        &self.model
    }

    /// The WGSL that the model became, for reading; and the number of operations it was traced to.
    pub fn wgsl(&self) -> (&str, usize) {
        (&self.program.source, self.program.operations)
    }

    /// Writes everything but the plan into the inputs of the kernels.
    fn pack(&mut self) {
        self.sampled = None;
        let setting = self.options.setting();
        self.inputs.write(&sections(&setting, &setting.limits.unwrap_or(Limits::NONE), &self.shape));
    }

    /// Everything that one call is to do.
    fn fill_updates(&mut self, given: bool) {
        let setting = self.options.setting();
        let mut first = Update {
            seed: philox::key(setting.seed),
            number: self.number,
            rows: setting.samples as u32,
            horizon: setting.horizon as u32,
            width: (setting.horizon * M) as u32,
            dt: setting.dt,
            coordinate_stride: TILE as u32,
            row_stride: 1,
            cost_scale: if self.options.averages() { 1.0 / setting.horizon as f32 } else { 1.0 },
            a: 1.0,
            scale: 1.0,
            problems: setting.chains as u32,
            ..bytemuck::Zeroable::zeroed()
        };
        first = self.inputs.place(first);
        first.set(GIVEN, given);
        first.set(LIMITED | CLAMPED, setting.limits.is_some());
        self.spread.clear();
        if self.options.spread(0).is_some() {
            first.set(SPREAD, true);
            for _ in 0..setting.chains {
                self.spread.extend((0..setting.horizon).flat_map(|t| [self.options.spread(t).unwrap_or(1.0); M]));
            }
        }
        self.updates.clear();
        self.options.updates(first, &mut self.updates);
        for (i, update) in self.updates.iter_mut().enumerate() {
            update.number = self.number.wrapping_add(i as u32);
        }
    }

    /// Where calls are carried out.
    #[cfg(all(test, feature = "gpu"))]
    pub(crate) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// What the next call would carry out, and on what.
    #[cfg(test)]
    pub(crate) fn work(&mut self, given: bool, see: impl FnOnce(&Program, &[Update], &Problem<'_>)) {
        self.fill_updates(given);
        let Self { inputs, nominal, spread, fields, fields_version, .. } = self;
        let problem = problem(inputs, nominal, spread, fields, *fields_version);
        see(&self.program, &self.updates, &problem);
    }

    /// Compiles and allocates what the next call will need, whichever it is.
    fn prepare(&mut self) -> Result<(), BuildError> {
        let setting = self.options.setting();
        // Addresses are 32 bits wide on the device.
        let padded = round_up(setting.samples, TILE).saturating_mul(setting.horizon * M);
        if padded > i32::MAX as usize {
            let value = format_args!("{} × {} × {M}", setting.samples, setting.horizon);
            let expected = format_args!("samples × horizon × controls of at most {} numbers", i32::MAX);
            return Err(InvalidValue::new("samples", value, expected).into());
        }
        self.plan.reserve(setting.horizon);
        self.next.reserve(setting.horizon);
        if self.takes_rows {
            self.prepare_for(true)?;
        }
        self.prepare_for(false)
    }

    /// Prepares for a call with given rows, or for one without.
    fn prepare_for(&mut self, given: bool) -> Result<(), BuildError> {
        float_env::standard(|| self.fill_updates(given));
        let Self { inputs, nominal, spread, fields, fields_version, .. } = self;
        let problem = problem(inputs, nominal, spread, fields, *fields_version);
        self.workspace.prepare(&self.program, &self.updates, &problem)?;
        self.workspace.prepare_fetch()
    }

    /// Rolls any control sequence out in plain `f32`: the states (the first is `x`) and the cost, as the exponent sees it
    /// without its control term.
    ///
    /// # Errors
    ///
    /// If the state or the controls are not finite.
    pub fn simulate(&self, x: &[f32; N], controls: &[[f32; M]]) -> Result<(Vec<[f32; N]>, f32), InvalidValue> {
        finite("state", x)?;
        finite("controls", controls.as_flattened())?;
        let mut states = Vec::with_capacity(controls.len() + 1);
        let at = Context::new(&self.inputs, self.fields.look_ups(), self.options.setting().dt);
        let average = self.options.averages() && !controls.is_empty();
        let cost = float_env::standard(|| {
            let cost = rollout(&*self.model, &at, *x, controls, &mut states);
            if average { cost / controls.len() as f32 } else { cost }
        });
        Ok((states, cost))
    }
}

/// Whether the options give the model everything it looks at.
fn check_usage<const M: usize>(usage: Usage, setting: &Setting<'_, M>) -> Result<(), InvalidValue> {
    at_least("params", setting.params.len(), usage.params)?;
    columns_read_by("the model", setting.references.map_or(0, |r| r.columns), usage.columns)?;
    at_least("fields", setting.fields.len(), usage.fields)
}

/// The problem that updates are carried out on, without given rows.
fn problem<'a>(
    inputs: &'a Packed,
    nominal: &'a [f32],
    spread: &'a [f32],
    fields: &'a FieldSet,
    fields_version: u64,
) -> Problem<'a> {
    Problem { spread, fields_version, ..inputs.problem(nominal, fields) }
}

/// Returns the sections that are packed for the kernels, besides the state.
fn sections<'a, const M: usize>(setting: &Setting<'a, M>, limits: &'a Limits<M>, shape: &'a Shape) -> Sections<'a> {
    Sections {
        low: &limits.low,
        high: &limits.high,
        factor: Square::Dense(&shape.factor),
        precision: Square::Dense(&shape.precision),
        params: setting.params,
        references: setting.references,
    }
}

/// All that can be checked without a model.
fn check<const M: usize>(options: &impl Algorithm<M>) -> Result<Shape, InvalidValue> {
    float_env::standard(|| {
        let shape = options.setting().check()?;
        options.check(shape.regular)?;
        Ok(shape)
    })
}

/// The chains with noise added to each, if the method asks for it.
fn scattered<const M: usize>(
    options: &impl Algorithm<M>,
    shape: &Shape,
    nominal: &[f32],
    number: u32,
) -> Option<Vec<f32>> {
    let (scatter, setting) = (options.scatter(), options.setting());
    if scatter == 0.0 {
        return None;
    }
    let (width, key) = (setting.horizon * M, philox::key(setting.seed));
    let mut scattered = nominal.to_vec();
    for (chain, nominal) in scattered.chunks_exact_mut(width).enumerate() {
        let z = |d: usize| {
            let counter = [0, (d / 4) as u32, number, STREAM | chain as u32];
            normal::four(counter, key)[d % 4]
        };
        for (t, u) in nominal.as_chunks_mut::<M>().0.iter_mut().enumerate() {
            for (m, u) in u.iter_mut().enumerate() {
                let shaped: f32 = (0..=m).map(|j| shape.factor[m * M + j] * z(t * M + j)).sum();
                *u += scatter * options.spread(t).unwrap_or(1.0) * shaped;
            }
        }
    }
    Some(scattered)
}

impl<const N: usize, const M: usize, D, A: std::fmt::Debug> std::fmt::Debug for Planner<N, M, D, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner").field("engine", &self.engine).field("options", &self.options).finish_non_exhaustive()
    }
}
