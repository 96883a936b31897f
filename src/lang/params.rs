//! [`Params`], from which a policy reads its parameters, and [`GradientAccumulator`], to which it adds derivatives.

use std::marker::PhantomData;

use super::network::NetworkHistory;
use super::{Network, NetworkScratch, Real, StepContext};

/// A read-only view of the parameters. Users access it through [`Params`].
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct ParamView<'a> {
    pub(crate) values: &'a [f32],
    /// The distance between consecutive parameters of a lane; 0 if they are contiguous and shared by all lanes.
    pub(crate) stride: usize,
    /// Whether each row has several lanes, one per episode, which share its parameters: lane l has those of row
    /// l % stride.
    pub(crate) repeated: bool,
    /// The index of the parameter that is the first variable of a dual number.
    pub(crate) window: Option<usize>,
    /// Scratch for networks; without it large ones allocate.
    pub(crate) network_scratch: Option<NetworkScratch<'a>>,
    /// Whose weights they are.
    pub(crate) of: WeightsOf,
    /// Whether code is traced, and a driver will supply the values.
    pub(crate) is_traced: bool,
}

/// The weights that code reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum WeightsOf {
    /// The parameters of a policy.
    Policy,
    /// The weights of the task, for the networks of its model: see
    /// [`StepContext::network`](crate::lang::StepContext::network).
    Task,
}

impl<'a> ParamView<'a> {
    /// Values that all lanes share.
    #[inline(always)]
    pub(crate) const fn shared(values: &'a [f32]) -> Self {
        let (of, is_traced) = (WeightsOf::Policy, false);
        Self { values, stride: 0, repeated: false, window: None, network_scratch: None, of, is_traced }
    }

    /// The view for tracing: no value is available.
    pub(crate) const fn traced(of: WeightsOf) -> Self {
        Self { of, is_traced: true, ..Self::shared(&[]) }
    }

    /// The weights of a task, which all lanes share.
    #[inline(always)]
    pub(crate) const fn of_task(values: &'a [f32]) -> Self {
        Self { of: WeightsOf::Task, ..Self::shared(values) }
    }

    /// Whose weights a driver will supply, while code is traced and no value is available.
    pub(crate) fn traced_of(&self) -> Option<WeightsOf> {
        self.is_traced.then_some(self.of)
    }
}

/// The buffer that derivatives by the parameters are added to. Users access it through [`GradientAccumulator`].
#[doc(hidden)]
#[derive(Debug)]
pub struct GradSink<'a> {
    pub(crate) values: &'a mut [f32],
    /// The distance between consecutive parameters; this many numbers are written for each.
    pub(crate) stride: usize,
    /// Set if the policy cannot be differentiated.
    pub(crate) refused: bool,
    /// Evaluations of a network whose derivatives are still to be added.
    pub(crate) history: Option<&'a mut NetworkHistory<'a>>,
}

/// A table within the parameters, with a row for each time step: see [`Params::at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Table {
    /// The index of its first parameter.
    pub first: usize,
    /// The number of rows, at least 1. Later time steps use the last one.
    pub rows: usize,
    /// The number of columns. A row is contiguous.
    pub columns: usize,
}

impl Table {
    /// The index of the parameter in column `j` at a time index.
    #[inline(always)]
    pub(crate) fn index(&self, time: f32, j: usize) -> usize {
        self.first + (time as usize).min(self.rows - 1) * self.columns + j
    }

    /// As [`index`](Self::index), for tables and columns that no driver has validated.
    ///
    /// # Panics
    ///
    /// If the table has no rows, or the index of the parameter overflows.
    #[inline(always)]
    pub(crate) fn checked_index(&self, time: f32, j: usize) -> usize {
        assert!(self.rows > 0, "a table of parameters has at least one row");
        self.at(time, j).unwrap_or_else(|| panic!("column {j} of {self:?} is beyond any parameter"))
    }

    /// The index of the parameter in column `j` at a time index. `None` if there are no rows, or if the index
    /// overflows.
    #[inline(always)]
    pub(crate) fn at(&self, time: f32, j: usize) -> Option<usize> {
        self.place((time as usize).min(self.rows.checked_sub(1)?), j)
    }

    /// The largest parameter index in column `j`. `None` if there are no rows, or if the index overflows.
    pub(crate) fn last(&self, j: usize) -> Option<usize> {
        self.place(self.rows.checked_sub(1)?, j)
    }

    #[inline(always)]
    fn place(&self, row: usize, j: usize) -> Option<usize> {
        row.checked_mul(self.columns)?.checked_add(self.first)?.checked_add(j)
    }
}

/// Read access to the parameters θ of a policy.
///
/// # Example
///
/// ```
/// use gibbs::{StepContext, Params};
/// use gibbs::lang::Table;
///
/// let theta = Params::<f32>::new(&[1.0, 2.0, 3.0, 4.0]);
/// assert_eq!(theta.get(2), 3.0);
///
/// // Two rows of two columns: from time step 1 on, the second row applies.
/// let table = Table { first: 0, rows: 2, columns: 2 };
/// assert_eq!(theta.at(&StepContext::new(1, 0.1), table, 0), 3.0);
/// assert_eq!(theta.at(&StepContext::new(7, 0.1), table, 1), 4.0);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Params<'a, R> {
    pub(crate) source: ParamView<'a>,
    scalar: PhantomData<R>,
}

impl<'a, R: Real> Params<'a, R> {
    /// Parameters for calling a policy in plain `f32`. (Inside a model they become constants of its kernel.)
    pub fn new(parameters: &'a [f32]) -> Self {
        Self::over(ParamView::shared(parameters))
    }

    #[inline(always)]
    pub(crate) fn over(source: ParamView<'a>) -> Self {
        Self { source, scalar: PhantomData }
    }

    /// Parameter `i`.
    ///
    /// # Panics
    ///
    /// In plain `f32`, on parameters created by hand, if there are too few. A driver checks this when it is built.
    #[inline(always)]
    pub fn get(&self, i: usize) -> R {
        R::weight(&self.source, i)
    }

    /// Column `j` of the row of `table` for the time step.
    ///
    /// # Panics
    ///
    /// As for [`get`](Self::get), and in plain `f32` if the table has no rows.
    #[inline(always)]
    pub fn at(&self, at: &StepContext<'_, R>, table: Table, j: usize) -> R {
        R::weight_at(&self.source, &at.inputs, table, j)
    }

    /// The outputs of a dense network whose weights are among the parameters. On a GPU this is a loop over the weights,
    /// so the size of a kernel does not depend on the sizes of the layers.
    ///
    /// The weights must be those passed to the policy: a driver refuses a model or policy that evaluates a network with
    /// weights of its own ([`ModelError::ByHand`](crate::error::ModelError::ByHand)).
    ///
    /// # Panics
    ///
    /// In plain `f32`, if the network has different numbers of inputs or outputs; and as for [`get`](Self::get). A
    /// driver checks this when it is built.
    #[inline(always)]
    pub fn network<const I: usize, const O: usize>(&self, network: &Network, x: [R; I]) -> [R; O] {
        if !R::fits(network, I, O, 1) {
            return [R::from(0.0); O];
        }
        R::network(&self.source, network, x)
    }
}

/// Write access to the sum of derivatives by the parameters of a policy.
///
/// # Example
///
/// ```
/// use gibbs::lang::GradientAccumulator;
///
/// let mut sums = [0.0; 3];
/// let mut g = GradientAccumulator::<f32>::new(&mut sums);
/// g.add(1, 0.5);
/// g.add(1, 0.25);
/// assert_eq!(sums, [0.0, 0.75, 0.0]);
/// ```
#[derive(Debug)]
pub struct GradientAccumulator<'a, R> {
    pub(crate) sink: GradSink<'a>,
    scalar: PhantomData<R>,
}

impl<'a> GradientAccumulator<'a, f32> {
    /// Returns a gradient that adds to `sums`, one number for each parameter.
    pub fn new(sums: &'a mut [f32]) -> Self {
        Self::over(GradSink { values: sums, stride: 1, refused: false, history: None })
    }
}

impl<'a, R: Real> GradientAccumulator<'a, R> {
    #[inline(always)]
    pub(crate) fn over(sink: GradSink<'a>) -> Self {
        Self { sink, scalar: PhantomData }
    }

    /// Adds to the derivative by parameter `i`. (For a dual number, its value without the slopes.)
    ///
    /// # Panics
    ///
    /// In plain `f32`, on a gradient created by hand, if it has too few parameters.
    #[inline(always)]
    pub fn add(&mut self, i: usize, value: R) {
        R::accumulate(&mut self.sink, i, value);
    }

    /// Adds to the derivative by column `j` of the row of `table` for the time step.
    ///
    /// # Panics
    ///
    /// As for [`add`](Self::add), and in plain `f32` if the table has no rows.
    #[inline(always)]
    pub fn add_at(&mut self, at: &StepContext<'_, R>, table: Table, j: usize, value: R) {
        R::accumulate_at(&mut self.sink, &at.inputs, table, j, value);
    }

    /// Adds (∂y/∂θ)ᵀ v for the outputs y of a network at `x`, and returns y. (Derivatives by `x` are not computed.)
    ///
    /// # Panics
    ///
    /// As for [`Params::network`] and [`add`](Self::add).
    #[inline(always)]
    pub fn network<const I: usize, const O: usize>(
        &mut self,
        theta: &Params<'_, R>,
        network: &Network,
        x: [R; I],
        v: [R; O],
    ) -> [R; O] {
        if !R::fits(network, I, O, 1) {
            return [R::from(0.0); O];
        }
        R::network_back(&theta.source, &mut self.sink, network, x, v)
    }
}

/// Upper limit on indices in model code: kernel addresses are 32 bits wide.
pub(crate) const MAX_INDEX: usize = i32::MAX as usize;
