//! [`StepContext`], the context of one time step: the inputs that model code can read.

use std::marker::PhantomData;

use super::grid::FieldSet;
use super::look_up::LookUps;
use super::term_log::Recorder;
use super::{ModelParams, Network, NetworkScratch, ParamNames, ParamView, Real, WeightsOf};

/// The inputs that a model can read at one time step. Users access them through [`StepContext`].
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    pub(crate) params: &'a [f32],
    /// The distance between consecutive parameters if every lane has its own, adjacent in memory; 0 if all lanes share
    /// them.
    pub(crate) param_stride: usize,
    pub(crate) reference: &'a [f32],
    pub(crate) time: f32,
    pub(crate) dt: f32,
    pub(crate) fields: LookUps<'a>,
    /// The weights of networks, which all lanes share.
    pub(crate) weights: ParamView<'a>,
    pub(crate) by_hand: ByHand,
    /// The place to record terms of the cost in. Only rollouts on the host have one.
    pub(crate) terms: Option<Recorder<'a>>,
}

/// Which inputs of a step context were set by model code instead of the driver. Only the tracer reads this: inputs set
/// by hand become constants, and an input missing there must not be read from the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByHand {
    pub(crate) params: bool,
    pub(crate) reference: bool,
    pub(crate) fields: bool,
}

impl ByHand {
    /// A step context provided by a driver.
    pub(crate) const NOTHING: Self = Self { params: false, reference: false, fields: false };
    /// A step context built by hand.
    const ALL: Self = Self { params: true, reference: true, fields: true };
}

impl Inputs<'_> {
    /// The inputs for tracing a model: no value is available, not even the time. The negative time is a sentinel for
    /// the tracer.
    pub(crate) const NOW: Inputs<'static> = Inputs {
        params: &[],
        param_stride: 0,
        reference: &[],
        time: -1.0,
        dt: 0.0,
        fields: LookUps::NONE,
        weights: ParamView::traced(WeightsOf::Task),
        by_hand: ByHand::NOTHING,
        terms: None,
    };
    /// The previous time step, for tracing.
    pub(crate) const BEFORE: Inputs<'static> = Inputs { time: -2.0, ..Self::NOW };
}

/// The parameters, references, fields and weights that a model reads over a horizon: creates the [`Inputs`] of every
/// time step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeline<'a> {
    pub(crate) params: &'a [f32],
    /// See [`Inputs::param_stride`].
    pub(crate) param_stride: usize,
    /// The reference table, row by row. Time steps beyond its last row see that row.
    pub(crate) references: &'a [f32],
    pub(crate) columns: usize,
    pub(crate) last_row: usize,
    pub(crate) dt: f32,
    pub(crate) fields: LookUps<'a>,
    pub(crate) weights: ParamView<'a>,
}

impl<'a> Timeline<'a> {
    /// Returns this timeline with scratch for networks.
    #[inline(always)]
    pub(crate) fn with_scratch(mut self, network_scratch: NetworkScratch<'a>) -> Self {
        self.weights.network_scratch = Some(network_scratch);
        self
    }

    /// The inputs of time step `t`; the terminal cost sees those of the horizon's length.
    #[inline(always)]
    pub(crate) fn at(&self, t: usize) -> Inputs<'a> {
        let Self { params, param_stride, references, columns, last_row, dt, fields, weights } = *self;
        let reference = if columns == 0 { &[] } else { &references[t.min(last_row) * columns..][..columns] };
        let (time, by_hand) = (t as f32, ByHand::NOTHING);
        Inputs { params, param_stride, reference, time, dt, fields, weights, by_hand, terms: None }
    }
}

/// The context of one time step: its index, its length, and everything that may change without recompiling.
///
/// Parameters, references and fields are set on the driver and may be replaced before every call. Values that a model
/// reads from `&self`, in contrast, become constants of the kernel.
///
/// # Example
///
/// A step context can be built by hand to call a model in plain `f32`:
///
/// ```
/// use gibbs::StepContext;
///
/// let at = StepContext::<f32>::new(3, 0.02).with_params(&[9.81]);
/// assert_eq!((at.index(), at.dt(), at.param(0)), (3.0, 0.02, 9.81));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct StepContext<'a, R> {
    pub(crate) inputs: Inputs<'a>,
    scalar: PhantomData<R>,
}

impl<'a, R: Real> StepContext<'a, R> {
    /// Time step `index`, `dt` seconds long, with no parameters, references, fields or weights.
    pub fn new(index: usize, dt: f32) -> Self {
        let weights = ParamView::of_task(&[]);
        Self::over(Inputs { time: index as f32, dt, weights, by_hand: ByHand::ALL, ..Inputs::NOW })
    }

    #[inline(always)]
    pub(crate) fn over(inputs: Inputs<'a>) -> Self {
        Self { inputs, scalar: PhantomData }
    }

    /// Returns this context with a place to record terms of the cost.
    #[inline(always)]
    pub(crate) fn recording(mut self, terms: Option<Recorder<'a>>) -> Self {
        self.inputs.terms = terms;
        self
    }

    /// Returns this context with the given run-time parameters.
    pub fn with_params(mut self, params: &'a [f32]) -> Self {
        // All lanes share these parameters, whatever layout the driver's have.
        (self.inputs.params, self.inputs.param_stride) = (params, 0);
        self.inputs.by_hand.params = true;
        self
    }

    /// Returns this context with the given row of the reference table.
    pub fn with_reference(mut self, row: &'a [f32]) -> Self {
        self.inputs.reference = row;
        self.inputs.by_hand.reference = true;
        self
    }

    /// Returns this context with sampled fields, for calls in plain `f32`. A model or policy cannot bring fields of its
    /// own, and a driver refuses one that tries ([`ModelError::ByHand`](crate::error::ModelError::ByHand)).
    pub fn with_fields(mut self, fields: &'a FieldSet) -> Self {
        self.inputs.fields = fields.look_ups();
        self.inputs.by_hand.fields = true;
        self
    }

    /// Returns this context with the weights of networks, for calls in plain `f32`. A model cannot bring weights of its
    /// own, and a driver refuses one that tries ([`ModelError::ByHand`](crate::error::ModelError::ByHand)).
    pub fn with_weights(mut self, weights: &'a [f32]) -> Self {
        self.inputs.weights = ParamView::of_task(weights);
        self
    }

    /// The index of the time step, counted from 0 at the start of the horizon. In the terminal cost it is the length of
    /// the horizon.
    #[inline(always)]
    pub fn index(&self) -> R {
        R::time(&self.inputs)
    }

    /// The length of the time step (in seconds).
    #[inline(always)]
    pub fn dt(&self) -> R {
        R::dt(&self.inputs)
    }

    /// Run-time parameter `i`, as given to the driver's `set_params`.
    ///
    /// # Panics
    ///
    /// In plain `f32`, on a context built by hand with too few parameters. A driver checks this when it is built.
    #[inline(always)]
    pub fn param(&self, i: usize) -> R {
        R::param(&self.inputs, i)
    }

    /// The run-time parameters, from number 0 on, as a struct that derives [`ModelParams`], which has an example.
    ///
    /// # Panics
    ///
    /// As for [`param`](Self::param).
    #[inline(always)]
    pub fn params<P: ModelParams<R>>(&self) -> P {
        if let Some(names) = ParamNames::new::<R, P>() {
            R::note_params(&self.inputs, names);
        }
        P::read(self, 0)
    }

    /// Column `j` of this step's row of the table given to the driver's `set_references`. Past the end of the table the
    /// last row applies.
    ///
    /// # Panics
    ///
    /// In plain `f32`, on a context built by hand with too few columns. A driver checks this when it is built.
    #[inline(always)]
    pub fn reference(&self, j: usize) -> R {
        R::reference(&self.inputs, j)
    }

    /// The value of field `field` at world position (x, y), by bilinear interpolation; see
    /// [`Grid`](crate::lang::grid::Grid).
    ///
    /// # Panics
    ///
    /// In plain `f32`, on a context built by hand with too few fields. A driver checks this when it is built.
    #[inline(always)]
    pub fn sample(&self, field: usize, x: R, y: R) -> R {
        let [value] = R::look_up(&self.inputs, field, 0, [x, y]);
        value
    }

    /// The values of the first `C` channels of field `field` at a point, which has one coordinate for each dimension
    /// of the field, by linear interpolation; see [`Grid`](crate::lang::grid::Grid).
    ///
    /// The position in the field is computed once for all channels. A channel whose value is not used costs nothing.
    ///
    /// # Panics
    ///
    /// In plain `f32`, on a context built by hand with too few fields, or one of other dimensions or with fewer
    /// channels. A driver checks this when it is built.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::{Engine, Grid, Model, Mppi, MppiOptions, Real, StepContext, Task};
    ///
    /// /// A cart on a road (state: arc length, speed; control: acceleration) that should keep to the limit of speed.
    /// struct Cart;
    ///
    /// impl Model<2, 1> for Cart {
    ///     #[inline(always)]
    ///     fn step<R: Real>(&self, at: &StepContext<R>, [s, v]: [R; 2], [a]: [R; 1]) -> [R; 2] {
    ///         let [slope, _] = at.look_up(0, [s]);
    ///         [s + v * at.dt(), v + (a - slope * 9.81) * at.dt()]
    ///     }
    ///     #[inline(always)]
    ///     fn cost<R: Real>(&self, at: &StepContext<R>, [s, v]: [R; 2], [a]: [R; 1]) -> R {
    ///         let [_, limit] = at.look_up(0, [s]);
    ///         (v - limit).square() + a.square() * 0.1
    ///     }
    /// }
    ///
    /// // Slope and limit every 50 m.
    /// let road = Grid::table(50.0, 0.0, vec![0.0, 0.05, 0.02])?.with_channel(vec![14.0, 8.0, 14.0])?;
    /// let task = Task { fields: vec![road], ..Default::default() };
    /// let mut mppi = Mppi::new(&Engine::new()?, Cart, MppiOptions { task, ..Default::default() })?;
    /// let plan = mppi.plan(&[0.0, 10.0])?;
    /// # assert!(plan.cost().is_finite());
    /// # Ok::<(), gibbs::Error>(())
    /// ```
    #[inline(always)]
    pub fn look_up<const D: usize, const C: usize>(&self, field: usize, point: [R; D]) -> [R; C] {
        R::look_up(&self.inputs, field, 0, point)
    }

    /// The value of one channel, counted from 0, of a field: see [`look_up`](Self::look_up).
    ///
    /// # Panics
    ///
    /// As [`look_up`](Self::look_up).
    #[inline(always)]
    pub fn channel<const D: usize>(&self, field: usize, channel: usize, point: [R; D]) -> R {
        let [value] = R::look_up(&self.inputs, field, channel, point);
        value
    }

    /// The outputs of a dense network, whose weights are those given to the driver
    /// ([`Task::weights`](crate::runtime::Task::weights), `set_weights`), from number [`Network::first`] on: for a
    /// model that is learned, or the part of one. Weights may be replaced before every call, and nothing is recompiled.
    ///
    /// A model may evaluate several networks; the next one begins at [`Network::end`] of the one before. A network is
    /// one operation of a model's trace, whatever its size; on a GPU it is a loop over the weights.
    ///
    /// # Panics
    ///
    /// In plain `f32`, on a context built by hand with too few weights, or if the network has different numbers of
    /// inputs or outputs. A driver checks this when it is built.
    ///
    /// # Example
    ///
    /// A mass whose acceleration is learned, as a function of its speed and of the force on it:
    ///
    /// ```
    /// use gibbs::policies::{Activation, Network};
    /// use gibbs::{Engine, Model, Mppi, MppiOptions, Real, StepContext, Task};
    ///
    /// struct Mass {
    ///     acceleration: Network,
    /// }
    ///
    /// #[gibbs::model]
    /// impl Model<2, 1> for Mass {
    ///     fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> [R; 2] {
    ///         let [a] = at.network(&self.acceleration, [v, u]);
    ///         [p + v * at.dt(), v + a * at.dt()]
    ///     }
    ///     fn cost<R: Real>(&self, _: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> R {
    ///         (p - 1.0).square() + v.square() * 0.1 + u.square() * 0.01
    ///     }
    /// }
    ///
    /// // Three units: y = Σ c tanh(a v + b u + d) + e.
    /// let model = Mass { acceleration: Network::new(0, &[2, 3, 1], Activation::Tanh)? };
    /// let weights = vec![-0.3, 0.4, 0.2, 0.9, -0.5, 0.1, 0.0, 0.1, -0.1, 0.8, 0.7, -0.4, 0.0];
    /// let task = Task { dt: 0.1, weights, ..Default::default() };
    /// let mut mppi = Mppi::new(&Engine::new()?, model, MppiOptions { task, ..Default::default() })?;
    /// mppi.plan(&[0.0, 0.0])?;
    ///
    /// // After another round of training:
    /// mppi.set_weights(&[-0.2, 0.5, 0.2, 0.9, -0.5, 0.1, 0.0, 0.1, -0.1, 0.8, 0.7, -0.4, 0.0])?;
    /// assert!(mppi.plan(&[0.0, 0.0])?.cost().is_finite());
    ///
    /// let error = mppi.set_weights(&[0.0; 12]).unwrap_err();
    /// println!("{error}"); // `weights` is 12 long, but must be 13 long: …
    /// # assert!(error.to_string().starts_with("`weights` is 12 long, but must be 13 long"), "{error}");
    /// # Ok::<(), gibbs::Error>(())
    /// ```
    #[inline(always)]
    pub fn network<const I: usize, const O: usize>(&self, network: &Network, x: [R; I]) -> [R; O] {
        if !R::fits(network, I, O, 1) {
            return [R::from(0.0); O];
        }
        R::network(&self.inputs.weights, network, x)
    }

    /// Names a term of the cost: returns `value` unchanged.
    ///
    /// A planner reports what each term costs along its plan
    /// ([`Planner::terms`](crate::control::Planner::terms)) and along its samples
    /// ([`Samples::terms`](crate::control::Samples::terms)), by a rollout on the host. In kernels, derivatives and
    /// plain calls of a model a name has no effect, and no cost.
    ///
    /// Terms are recorded in [`Model::cost`](crate::Model::cost) and [`Model::terminal`](crate::Model::terminal) only.
    /// Terms of the same name add up. `value` should be what is added to the cost: apply weights before naming it
    /// (`at.term("wall", wall * 10.0)`), and name the result of a [`select`](Real::select), not its branches, which are
    /// both computed. A term that is part of another counts for both.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::{Engine, Model, Mppi, MppiOptions, Real, StepContext};
    ///
    /// /// A cart on rails (state: position, speed; control: acceleration) that should stop at 1 m, before a wall.
    /// struct Cart;
    ///
    /// #[gibbs::model]
    /// impl Model<2, 1> for Cart {
    ///     fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [a]: [R; 1]) -> [R; 2] {
    ///         [p + v * at.dt(), v + a * at.dt()]
    ///     }
    ///     fn cost<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [a]: [R; 1]) -> R {
    ///         let wall = (p - 1.1).max(0.0) * 100.0;
    ///         at.term("goal", (p - 1.0).square()) + at.term("wall", wall) + at.term("effort", a.square() * 0.01)
    ///             + v.square() * 0.1
    ///     }
    /// }
    ///
    /// let mut mppi = Mppi::new(&Engine::new()?, Cart, MppiOptions::default())?;
    /// let cost = mppi.plan(&[0.0, 0.0])?.cost();
    ///
    /// let terms = mppi.terms()?;
    /// for (name, total) in terms.iter() {
    ///     println!("{name}: {total}"); // goal, wall, effort
    /// }
    /// println!("everything else: {}", terms.rest()); // the speed, which has no name
    /// assert_eq!(terms.cost(), cost);
    /// # Ok::<(), gibbs::Error>(())
    /// ```
    #[inline(always)]
    pub fn term(&self, name: &'static str, value: R) -> R {
        R::record_term(&self.inputs, name, || value);
        value
    }

    /// Names a term that the cost does not compute as a number of its own, since it is fused with others. `value` is
    /// called only where terms are recorded.
    #[inline(always)]
    pub(crate) fn note_term(&self, name: &'static str, value: impl FnOnce() -> R) {
        R::record_term(&self.inputs, name, value);
    }
}
