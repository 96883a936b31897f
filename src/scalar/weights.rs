//! What a policy computes with besides its state: [`Weights`] to read its parameters from, [`Gradient`] to add to.

use std::marker::PhantomData;

use super::{Dual, Inputs, Network, Real, Room, Stage};

/// Where parameters are read. Users meet it as [`Weights`].
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub(crate) values: &'a [f32],
    /// From one parameter to the next; 0 if they stand one after the other and every lane has the same.
    pub(crate) stride: usize,
    /// The parameter that is the first variable of a dual number.
    pub(crate) window: Option<usize>,
    /// Where networks are computed, if they need not ask for memory.
    pub(crate) room: Option<Room<'a>>,
}

impl Source<'_> {
    /// What a policy is traced with: no value is known. Its stride is a mark for the tracer.
    pub(crate) const TRACED: Source<'static> = Source { values: &[], stride: usize::MAX, window: None, room: None };

    /// Whether these are the parameters that a policy is traced with, and not some that model code made by hand.
    pub(crate) fn is_traced(&self) -> bool {
        self.stride == Self::TRACED.stride
    }
}

/// Where derivatives by the parameters are added up. Users meet it as [`Gradient`].
#[doc(hidden)]
#[derive(Debug)]
pub struct Sink<'a> {
    pub(crate) values: &'a mut [f32],
    /// From one parameter to the next; as many numbers are written at each.
    pub(crate) stride: usize,
    /// Set by a policy that cannot differentiate itself.
    pub(crate) refused: bool,
}

/// A table among the parameters, with a row for each time step: see [`Weights::at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Table {
    /// The parameter that stands first in it.
    pub first: usize,
    /// How many rows there are; the last one holds on. At least 1.
    pub rows: usize,
    /// Numbers in a row, which stand side by side.
    pub columns: usize,
}

impl Table {
    /// The parameter of column `j` at a time index.
    #[inline(always)]
    pub(crate) fn index(&self, time: f32, j: usize) -> usize {
        self.first + (time as usize).min(self.rows - 1) * self.columns + j
    }

    /// As [`index`](Self::index), for tables and columns that no driver has checked.
    ///
    /// # Panics
    ///
    /// If the table has no rows, or the parameter has a number that does not exist.
    #[inline(always)]
    pub(crate) fn checked_index(&self, time: f32, j: usize) -> usize {
        assert!(self.rows > 0, "a table of parameters has at least one row");
        self.at(time, j).unwrap_or_else(|| panic!("column {j} of {self:?} is beyond any parameter"))
    }

    /// The parameter of column `j` at a time index. `None` if there are no rows, or where its number overflows.
    #[inline(always)]
    pub(crate) fn at(&self, time: f32, j: usize) -> Option<usize> {
        self.place((time as usize).min(self.rows.checked_sub(1)?), j)
    }

    /// The largest parameter that column `j` has. `None` if there are no rows, or where its number overflows.
    pub(crate) fn last(&self, j: usize) -> Option<usize> {
        self.place(self.rows.checked_sub(1)?, j)
    }

    #[inline(always)]
    fn place(&self, row: usize, j: usize) -> Option<usize> {
        row.checked_mul(self.columns)?.checked_add(self.first)?.checked_add(j)
    }
}

/// The parameters θ of a policy, as it reads them.
///
/// # Example
///
/// ```
/// use gibbs::{Stage, Table, Weights};
///
/// let theta = Weights::<f32>::new(&[1.0, 2.0, 3.0, 4.0]);
/// assert_eq!(theta.get(2), 3.0);
///
/// // Two rows of two: at time step 1 the second, and so it stays.
/// let table = Table { first: 0, rows: 2, columns: 2 };
/// assert_eq!(theta.at(&Stage::new(1, 0.1), table, 0), 3.0);
/// assert_eq!(theta.at(&Stage::new(7, 0.1), table, 1), 4.0);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a, R> {
    pub(crate) source: Source<'a>,
    scalar: PhantomData<R>,
}

impl<'a, R: Real> Weights<'a, R> {
    /// Parameters for calling a policy in plain `f32`. (Inside a model they become constants of its kernel.)
    pub fn new(parameters: &'a [f32]) -> Self {
        Self::over(Source { values: parameters, stride: 0, window: None, room: None })
    }

    #[inline(always)]
    pub(crate) fn over(source: Source<'a>) -> Self {
        Self { source, scalar: PhantomData }
    }

    /// Parameter `i`.
    ///
    /// # Panics
    ///
    /// In plain `f32`, on parameters given by hand, if there are not as many. A driver checks this when it is built.
    #[inline(always)]
    pub fn get(&self, i: usize) -> R {
        R::weight(&self.source, i)
    }

    /// Column `j` of the row of `table` that belongs to the time step.
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get), and in plain `f32` if the table has no rows.
    #[inline(always)]
    pub fn at(&self, at: &Stage<'_, R>, table: Table, j: usize) -> R {
        R::weight_at(&self.source, &at.inputs, table, j)
    }

    /// The outputs of a dense network whose weights are among the parameters. On a GPU this is a loop over the weights, so
    /// the size of a kernel does not depend on the sizes of the layers.
    ///
    /// The weights must be those that a policy is given: a driver refuses a model or policy that computes a network from weights
    /// of its own ([`ModelError::ByHand`](crate::ModelError::ByHand)).
    ///
    /// # Panics
    ///
    /// In plain `f32`, if the network has other numbers of inputs or outputs; and as [`get`](Self::get). A driver checks this
    /// when it is built.
    #[inline(always)]
    pub fn network<const I: usize, const O: usize>(&self, network: &Network, x: [R; I]) -> [R; O] {
        if !R::fits(network, I, O, 1) {
            return [R::from(0.0); O];
        }
        R::network(&self.source, network, x)
    }
}

/// The sum of derivatives by the parameters of a policy, as it adds to it.
///
/// # Example
///
/// ```
/// use gibbs::Gradient;
///
/// let mut sums = [0.0; 3];
/// let mut g = Gradient::<f32>::new(&mut sums);
/// g.add(1, 0.5);
/// g.add(1, 0.25);
/// assert_eq!(sums, [0.0, 0.75, 0.0]);
/// ```
#[derive(Debug)]
pub struct Gradient<'a, R> {
    pub(crate) sink: Sink<'a>,
    scalar: PhantomData<R>,
}

impl<'a> Gradient<'a, f32> {
    /// A gradient that adds to `sums`, one number for each parameter.
    pub fn new(sums: &'a mut [f32]) -> Self {
        Self::over(Sink { values: sums, stride: 1, refused: false })
    }
}

impl<'a, R: Real> Gradient<'a, R> {
    #[inline(always)]
    pub(crate) fn over(sink: Sink<'a>) -> Self {
        Self { sink, scalar: PhantomData }
    }

    /// Adds to the derivative by parameter `i`. (Of a dual number the value, without its slopes.)
    ///
    /// # Panics
    ///
    /// In plain `f32`, on a gradient made by hand, if it has not as many parameters.
    #[inline(always)]
    pub fn add(&mut self, i: usize, value: R) {
        R::accumulate(&mut self.sink, i, value);
    }

    /// Adds to the derivative by column `j` of the row of `table` that belongs to the time step.
    ///
    /// # Panics
    ///
    /// As [`add`](Self::add), and in plain `f32` if the table has no rows.
    #[inline(always)]
    pub fn add_at(&mut self, at: &Stage<'_, R>, table: Table, j: usize, value: R) {
        R::accumulate_at(&mut self.sink, &at.inputs, table, j, value);
    }

    /// Adds (∂y/∂θ)ᵀ v for the outputs y of a network at `x`, and returns y. (Derivatives by `x` are not to be had.)
    ///
    /// # Panics
    ///
    /// As [`Weights::network`] and [`add`](Self::add).
    #[inline(always)]
    pub fn network<const I: usize, const O: usize>(
        &mut self,
        theta: &Weights<'_, R>,
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

/// Parameters that dual numbers differentiate by at a time.
pub(crate) type Several<R> = Dual<R, 8>;

/// Column `j` of a table as a dual number, whose variables may be any of its rows.
#[inline(always)]
pub(crate) fn dual_weight_at<R: Real, const D: usize>(
    source: &Source<'_>,
    inputs: &Inputs<'_>,
    table: Table,
    j: usize,
) -> Dual<R, D> {
    let mut dual = Dual::constant(R::weight_at(&Source { window: None, ..*source }, inputs, table, j));
    if let Some(first) = source.window {
        // The time may be a traced number, so which parameter this is need not be known here. (A table that is refused is none of
        // those that dual numbers differentiate by, and must not overflow.)
        let row = R::time(inputs).min(table.rows.saturating_sub(1) as f32);
        let index = row.mul_add(table.columns as f32, table.first.saturating_add(j) as f32);
        for (d, slope) in dual.slopes.iter_mut().enumerate() {
            *slope = R::select(index.eq((first + d) as f32), 1.0, 0.0);
        }
    }
    dual
}
