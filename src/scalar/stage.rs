//! [`Stage`]: what model code sees of the outside world.

use std::marker::PhantomData;

use super::Real;
use crate::field::{FieldSet, LookUps};

/// What a model can see of the outside world at one time step. Users meet it as [`Stage`].
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    pub(crate) params: &'a [f32],
    /// From one parameter to the next if every lane has its own, which stand side by side; 0 if all have the same.
    pub(crate) param_stride: usize,
    pub(crate) reference: &'a [f32],
    pub(crate) time: f32,
    pub(crate) dt: f32,
    pub(crate) fields: LookUps<'a>,
}

impl Inputs<'_> {
    /// What a model is traced with: nothing is known yet, not even the time. Its negative index is a mark for the tracer.
    pub(crate) const NOW: Inputs<'static> =
        Inputs { params: &[], param_stride: 0, reference: &[], time: -1.0, dt: 0.0, fields: LookUps::NONE };
    /// The time step before that one.
    pub(crate) const BEFORE: Inputs<'static> = Inputs { time: -2.0, ..Self::NOW };
}

/// One time step as a model sees it: its index, its length, and everything that may change without recompiling.
///
/// Parameters, references and fields are set on the driver and may be replaced before every call. What a model reads from
/// `&self`, in contrast, becomes a constant of the kernel.
///
/// # Example
///
/// A stage can be built by hand, to call a model in plain `f32`:
///
/// ```
/// use gibbs::Stage;
///
/// let at = Stage::<f32>::new(3, 0.02).with_params(&[9.81]);
/// assert_eq!((at.index(), at.dt(), at.param(0)), (3.0, 0.02, 9.81));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a, R> {
    pub(crate) inputs: Inputs<'a>,
    scalar: PhantomData<R>,
}

impl<'a, R: Real> Stage<'a, R> {
    /// Time step `index`, `dt` seconds long, with no parameters, references or fields.
    pub fn new(index: usize, dt: f32) -> Self {
        Self::over(Inputs { time: index as f32, dt, ..Inputs::NOW })
    }

    #[inline(always)]
    pub(crate) fn over(inputs: Inputs<'a>) -> Self {
        Self { inputs, scalar: PhantomData }
    }

    /// The same stage with run-time parameters.
    pub fn with_params(mut self, params: &'a [f32]) -> Self {
        self.inputs.params = params;
        self
    }

    /// The same stage with its row of the reference table.
    pub fn with_reference(mut self, row: &'a [f32]) -> Self {
        self.inputs.reference = row;
        self
    }

    /// The same stage with sampled fields.
    pub fn with_fields(mut self, fields: &'a FieldSet) -> Self {
        self.inputs.fields = fields.look_ups();
        self
    }

    /// The index of the time step, counted from 0 at the start of the horizon; the terminal cost sees the horizon's length.
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
    /// On a stage built by hand with too few parameters. A driver checks this when it is built.
    #[inline(always)]
    pub fn param(&self, i: usize) -> R {
        R::param(&self.inputs, i)
    }

    /// Column `j` of this step's row of the table given to the driver's `set_references`. The last row holds on.
    ///
    /// # Panics
    ///
    /// On a stage built by hand with too few columns. A driver checks this when it is built.
    #[inline(always)]
    pub fn reference(&self, j: usize) -> R {
        R::reference(&self.inputs, j)
    }

    /// Bilinear look-up in field `field` at (x, y) of the world; see [`Grid`](crate::Grid).
    ///
    /// # Panics
    ///
    /// On a stage built by hand with too few fields. A driver checks this when it is built.
    #[inline(always)]
    pub fn sample(&self, field: usize, x: R, y: R) -> R {
        R::sample(&self.inputs, field, x, y)
    }
}
