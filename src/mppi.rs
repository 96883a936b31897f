//! Model predictive path integral control: the MPPI driver.
//!
//! It draws K control sequences around the current plan U, rolls the model out under each, weighs them by e^{−J/λ} and
//! makes the weighted mean the next plan. (G. Williams, A. Aldrich, E. Theodorou, *Model predictive path integral control:
//! from theory to parallel computation*, J. Guidance, Control, and Dynamics 40 (2017); G. Williams et al., *Information
//! theoretic MPC for model-based reinforcement learning*, ICRA 2017.)
//!
//! This file says which proposal, score, weighting and step that is; the numerics are the engine's.

mod options;
mod plan;

use std::sync::Arc;

pub use options::{Convention, Limits, MppiOptions, References, Tail, Temperature};
pub use plan::{Plan, Samples};

use crate::engine::program::Program;
use crate::engine::{Engine, Workspace};
use crate::error::{BuildError, InvalidValue, PlanError};
use crate::field::{FieldSet, Grid};
use crate::model::Model;
use crate::noise::Shape;
use crate::update::{
    CLAMPED, CONTROL_COST, EFFECTIVE, FIXED, GIVEN, LIMITED, Layout, NOMINAL_FIRST, Problem, TILE, Update, round_up,
};
use options::finite;
use plan::{Context, rollout};

/// A controller: a model, a plan, and a device that improves the plan.
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
pub struct Mppi<const N: usize, const M: usize, D> {
    engine: Engine,
    model: Arc<D>,
    program: Program,
    workspace: Workspace,
    options: MppiOptions<M>,
    shape: Shape,
    layout: Layout,
    inputs: Vec<f32>,
    nominal: Vec<f32>,
    fields: FieldSet,
    fields_version: u64,
    updates: Vec<Update>,
    /// Updates carried out so far: the next one's number in the noise.
    number: u32,
    plan: Plan<N, M>,
    /// The state that the samples on the device start from.
    sampled: Option<[f32; N]>,
}

impl<const N: usize, const M: usize, D: Model<N, M>> Mppi<N, M, D> {
    /// A controller whose plan is `options.initial` throughout. Everything that can be refused is refused here, and
    /// everything that [`plan`](Self::plan) needs is compiled and allocated here. (On a GPU the first
    /// [`plan_rows`](Self::plan_rows) and the first [`samples`](Self::samples) compile a kernel of their own.)
    ///
    /// # Errors
    ///
    /// If an option is out of range, the model cannot become a kernel, or the device fails.
    pub fn new(engine: &Engine, model: D, options: MppiOptions<M>) -> Result<Self, BuildError> {
        const { assert!(N > 0 && M > 0, "a system to control has states and controls") };
        let shape = options.check()?;
        let model = Arc::new(model);
        let program = Program::new::<N, M, D>(&model, engine.options().math)?;
        let mut mppi = Self {
            engine: engine.clone(),
            model,
            program,
            workspace: engine.workspace(),
            nominal: options.initial.repeat(options.horizon),
            fields: FieldSet::new(&options.fields),
            fields_version: 0,
            layout: Layout { states: N, controls: M, params: 0, reference_rows: 0, reference_columns: 0 },
            inputs: Vec::new(),
            updates: Vec::new(),
            number: 0,
            plan: Plan::empty(engine.backend()),
            sampled: None,
            shape,
            options,
        };
        mppi.check_usage(&mppi.options)?;
        mppi.pack([0.0; N]);
        mppi.prepare()?;
        Ok(mppi)
    }

    /// Improves the plan for the state `x` and returns it: `iterations` updates, carried out on the device in one go.
    ///
    /// # Errors
    ///
    /// If the state is not finite, no rollout has a finite cost, or the device fails. The previous plan stands.
    pub fn plan(&mut self, x: &[f32; N]) -> Result<&Plan<N, M>, PlanError> {
        self.run(x, None)
    }

    /// As [`plan`](Self::plan), but with rows supplied by the caller instead of drawn: any proposal.
    ///
    /// `rows` holds K control sequences one after the other, each T × M. Limits still apply to them. With several iterations, the
    /// same rows are weighed each time.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan), and if the rows have the wrong size or are not finite.
    pub fn plan_rows(&mut self, x: &[f32; N], rows: &[f32]) -> Result<&Plan<N, M>, PlanError> {
        let expected = self.options.samples * self.options.horizon * M;
        if rows.len() != expected {
            let expected = format_args!("samples × horizon × controls = {expected} numbers");
            return Err(InvalidValue::new("rows", format_args!("{} numbers", rows.len()), expected).into());
        }
        finite("rows", rows)?;
        self.run(x, Some(rows))
    }

    fn run(&mut self, x: &[f32; N], rows: Option<&[f32]>) -> Result<&Plan<N, M>, PlanError> {
        finite("state", x)?;
        let started = std::time::Instant::now();
        self.inputs[..N].copy_from_slice(x);
        self.fill_updates(rows.is_some());
        let problem = Problem {
            layout: self.layout,
            inputs: &self.inputs,
            nominal: &self.nominal,
            spread: &[],
            fields: &self.fields,
            fields_version: self.fields_version,
            rows,
        };
        self.sampled = None;
        self.number = self.number.wrapping_add(self.updates.len() as u32);
        let done = self.workspace.run(&self.program, &self.updates, &problem)?;
        if done.sums[0].valid == 0 || done.sums[0].sum <= 0.0 {
            return Err(PlanError::NoFiniteRow { rows: self.options.samples });
        }
        if !done.nominal.iter().all(|u| u.is_finite()) {
            return Err(PlanError::NonFiniteMean);
        }
        self.nominal.copy_from_slice(done.nominal);
        self.sampled = Some(*x);
        self.plan.record(&self.options, &done.sums[0], done.timing);
        let at = Context { layout: self.layout, inputs: &self.inputs, fields: &self.fields, dt: self.options.dt };
        self.plan.roll_out(self.engine.isa(), &*self.model, &at, &self.options, &self.nominal);
        self.plan.timing.total = started.elapsed();
        Ok(&self.plan)
    }

    /// Moves the plan on by `steps` time steps, because that many controls have been applied. What enters at the end is
    /// chosen by [`Tail`].
    pub fn shift(&mut self, steps: usize) {
        let horizon = self.options.horizon;
        match self.options.tail {
            Tail::Repeat => self.nominal.rotate_left(steps % horizon * M),
            tail => {
                let gone = steps.min(horizon);
                let mut fill = self.options.initial;
                if tail == Tail::Hold {
                    fill.copy_from_slice(&self.nominal[(horizon - 1) * M..]);
                }
                self.nominal.copy_within(gone * M.., 0);
                for control in self.nominal[(horizon - gone) * M..].chunks_exact_mut(M) {
                    control.copy_from_slice(&fill);
                }
            }
        }
    }

    /// Forgets the plan (it becomes `options.initial` throughout) and starts the noise from its beginning, so that the same
    /// calls give the same results again.
    pub fn reset(&mut self) {
        for control in self.nominal.chunks_exact_mut(M) {
            control.copy_from_slice(&self.options.initial);
        }
        self.number = 0;
    }

    /// Starts the noise from the beginning of another seed.
    pub fn reseed(&mut self, seed: u64) {
        self.options.seed = seed;
        self.number = 0;
    }

    /// The control sequence that the next call starts from, T × M.
    pub fn controls(&self) -> &[[f32; M]] {
        self.nominal.as_chunks().0
    }

    /// Replaces the control sequence that the next call starts from.
    ///
    /// # Errors
    ///
    /// If it is not T long, or not finite. Limits act on it with the next call.
    pub fn set_controls(&mut self, controls: &[[f32; M]]) -> Result<(), InvalidValue> {
        let horizon = self.options.horizon;
        if controls.len() != horizon {
            let expected = format_args!("horizon = {horizon} of them");
            return Err(InvalidValue::new("controls", format_args!("{} controls", controls.len()), expected));
        }
        finite("controls", controls.as_flattened())?;
        self.nominal.copy_from_slice(controls.as_flattened());
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
        self.options.params.clear();
        self.options.params.extend_from_slice(params);
        self.pack([0.0; N]);
        Ok(())
    }

    /// Replaces the reference table: one row of `columns` numbers per time step, the last of which holds on to the end of
    /// the horizon and beyond. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If it is empty or ragged, has fewer columns than the model uses, or is not finite.
    pub fn set_references(&mut self, values: &[f32], columns: usize) -> Result<(), InvalidValue> {
        at_least("references", columns, self.program.usage.columns)?;
        References::check(values, columns)?;
        let references = self.options.references.get_or_insert_default();
        references.values.clear();
        references.values.extend_from_slice(values);
        references.columns = columns;
        self.pack([0.0; N]);
        Ok(())
    }

    /// Replaces one sampled field. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If there is no field of that index yet.
    pub fn set_field(&mut self, index: usize, grid: Grid) -> Result<(), InvalidValue> {
        let count = self.options.fields.len();
        let Some(field) = self.options.fields.get_mut(index) else {
            return Err(InvalidValue::new("field", index, format_args!("below the number of fields, {count}")));
        };
        *field = grid;
        self.fields = FieldSet::new(&self.options.fields);
        self.fields_version += 1;
        self.sampled = None;
        Ok(())
    }

    /// Replaces all options but the horizon and the number of samples, which have [`resize`](Self::resize). The plan is kept;
    /// tighter limits act on it with the next call. A GPU compiles another kernel where limits, control cost, `nominal_first`
    /// or correlated noise are switched on or off.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). Then nothing is changed.
    pub fn set_options(&mut self, options: MppiOptions<M>) -> Result<(), BuildError> {
        let shape = options.check()?;
        let (horizon, samples) = (self.options.horizon, self.options.samples);
        let options = MppiOptions { horizon, samples, ..options };
        self.check_usage(&options)?;
        let previous = (std::mem::replace(&mut self.options, options), std::mem::replace(&mut self.shape, shape));
        self.take_options();
        self.prepare().inspect_err(|_| {
            (self.options, self.shape) = previous;
            self.take_options();
        })
    }

    /// Packs what is in the options for the kernels.
    fn take_options(&mut self) {
        self.fields = FieldSet::new(&self.options.fields);
        self.fields_version += 1;
        self.pack([0.0; N]);
    }

    /// Changes the horizon and the number of samples. The plan is kept as far as it goes, and continued as [`Tail`] says.
    ///
    /// # Errors
    ///
    /// If a size is out of range, or the device has no room. Then nothing is changed.
    pub fn resize(&mut self, horizon: usize, samples: usize) -> Result<(), BuildError> {
        let mut options = self.options.clone();
        (options.horizon, options.samples) = (horizon, samples);
        options.check()?;
        let previous = (self.options.clone(), self.nominal.clone());
        let old: &[[f32; M]] = previous.1.as_chunks().0;
        let at = |t: usize| match options.tail {
            _ if t < old.len() => old[t],
            Tail::Hold => old[old.len() - 1],
            Tail::Repeat => old[t % old.len()],
            Tail::Initial => options.initial,
        };
        self.nominal = (0..horizon).flat_map(at).collect();
        self.options = options;
        self.sampled = None;
        self.prepare().inspect_err(|_| (self.options, self.nominal) = previous)
    }

    /// Moves to another engine (or to a new one on the same device, after it was lost), plan and all.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). Then nothing is changed.
    pub fn rebuild(&mut self, engine: &Engine) -> Result<(), BuildError> {
        let program = Program::new::<N, M, D>(&self.model, engine.options().math)?;
        let previous = (
            std::mem::replace(&mut self.engine, engine.clone()),
            std::mem::replace(&mut self.program, program),
            std::mem::replace(&mut self.workspace, engine.workspace()),
        );
        self.sampled = None;
        self.plan.backend = engine.backend();
        self.prepare().inspect_err(|_| {
            (self.engine, self.program, self.workspace) = previous;
            self.plan.backend = self.engine.backend();
        })
    }

    /// The rows of the last call with their costs and weights, fetched from the device: for drawing and for study.
    ///
    /// # Errors
    ///
    /// If there has been no call since anything about the controller was changed, or the device fails.
    pub fn samples(&mut self) -> Result<Samples<'_, N, M, D>, PlanError> {
        let Some(state) = self.sampled else {
            return Err(InvalidValue::new("samples", "not there", "preceded by a call of plan that succeeded").into());
        };
        let fetched = self.workspace.fetch()?;
        let at = Context { layout: self.layout, inputs: &self.inputs, fields: &self.fields, dt: self.options.dt };
        Ok(Samples { model: &*self.model, at, state, options: &self.options, fetched })
    }

    /// The options as they are now.
    pub fn options(&self) -> &MppiOptions<M> {
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

    /// Whether the options give the model everything it looks at.
    fn check_usage(&self, options: &MppiOptions<M>) -> Result<(), InvalidValue> {
        let usage = self.program.usage;
        at_least("params", options.params.len(), usage.params)?;
        at_least("references", options.references.as_ref().map_or(0, |r| r.columns), usage.columns)?;
        at_least("fields", options.fields.len(), usage.fields)
    }

    /// Writes everything but the plan into the inputs of the kernels.
    fn pack(&mut self, x: [f32; N]) {
        self.sampled = None;
        let (rows, columns) = self.options.references.as_ref().map_or((0, 0), |r| (r.rows(), r.columns));
        let params = self.options.params.len();
        self.layout = Layout { states: N, controls: M, params, reference_rows: rows, reference_columns: columns };
        let limits = self.options.limits.unwrap_or(Limits { low: [f32::MIN; M], high: [f32::MAX; M] });
        self.inputs.clear();
        self.inputs.extend(x);
        // WGSL knows no infinities.
        self.inputs.extend(limits.low.map(|v| v.max(f32::MIN)));
        self.inputs.extend(limits.high.map(|v| v.min(f32::MAX)));
        self.inputs.extend(&self.shape.factor);
        self.inputs.extend(&self.shape.precision);
        self.inputs.extend(&self.options.params);
        self.inputs.extend(self.options.references.iter().flat_map(|r| &r.values));
    }

    /// The five verbs of MPPI: rows from N(U, Σ), rollout costs, e^{−J/λ}, their mean, U⁺ = U + γ (m − U).
    fn fill_updates(&mut self, given: bool) {
        let options = &self.options;
        let over_horizon = 1.0 / options.horizon as f32;
        let (cost_scale, control_scaled, control_fixed) = match options.convention {
            Convention::Sum => (1.0, 0.0, 1.0 - options.alpha),
            Convention::HorizonAverage => (over_horizon, 0.0, (1.0 - options.alpha) * over_horizon),
            Convention::Gamma(gamma) => (1.0, gamma, 0.0),
        };
        let (temperature, search, target) = match options.temperature {
            Temperature::Fixed(lambda) => (lambda, FIXED, 0.0),
            Temperature::EffectiveSamples(fraction) => (1.0, EFFECTIVE, fraction),
        };
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let first = Update {
            seed: crate::noise::philox::key(options.seed),
            number: self.number,
            rows: options.samples as u32,
            horizon: options.horizon as u32,
            width: (options.horizon * M) as u32,
            flags: flag(given, GIVEN)
                | flag(options.nominal_first, NOMINAL_FIRST)
                | flag(options.limits.is_some(), LIMITED | CLAMPED)
                | flag(control_scaled != 0.0 || control_fixed != 0.0, CONTROL_COST),
            dt: options.dt,
            coordinate_stride: TILE as u32,
            row_stride: 1,
            references: self.layout.references() as u32,
            reference_rows: self.layout.reference_rows as u32,
            reference_columns: self.layout.reference_columns as u32,
            cost_scale,
            control_scaled,
            control_fixed,
            temperature,
            search,
            target,
            a: options.step_size,
            b: 1.0 - options.step_size,
            c: 0.0,
            scale: 1.0,
            problems: 1,
            ..bytemuck::Zeroable::zeroed()
        };
        self.updates.clear();
        let next = |i: usize| Update { number: self.number.wrapping_add(i as u32), ..first };
        self.updates.extend((0..options.iterations).map(next));
    }

    /// Compiles and allocates what the next call will need.
    fn prepare(&mut self) -> Result<(), BuildError> {
        // Addresses are 32 bits wide on the device.
        let padded = round_up(self.options.samples, TILE) * self.options.horizon * M;
        if padded > i32::MAX as usize {
            let value = format_args!("{} × {} × {M}", self.options.samples, self.options.horizon);
            let expected = format_args!("samples × horizon × controls of at most {} numbers", i32::MAX);
            return Err(InvalidValue::new("samples", value, expected).into());
        }
        self.fill_updates(false);
        self.plan.reserve(self.options.horizon);
        let problem = Problem {
            layout: self.layout,
            inputs: &self.inputs,
            nominal: &self.nominal,
            spread: &[],
            fields: &self.fields,
            fields_version: self.fields_version,
            rows: None,
        };
        self.workspace.prepare(&self.program, &self.updates, &problem)
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
        let at = Context { layout: self.layout, inputs: &self.inputs, fields: &self.fields, dt: self.options.dt };
        let cost = rollout(&*self.model, &at, *x, controls, &mut states);
        let average = self.options.convention == Convention::HorizonAverage && !controls.is_empty();
        Ok((states, if average { cost / controls.len() as f32 } else { cost }))
    }
}

/// Refuses too few of something that the model looks at.
fn at_least(field: &'static str, given: usize, used: usize) -> Result<(), InvalidValue> {
    if given < used {
        return Err(InvalidValue::new(
            field,
            format_args!("{given} long"),
            format_args!("at least {used} long, since the model uses number {}", used - 1),
        ));
    }
    Ok(())
}

impl<const N: usize, const M: usize, D> std::fmt::Debug for Mppi<N, M, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mppi").field("engine", &self.engine).field("options", &self.options).finish_non_exhaustive()
    }
}
