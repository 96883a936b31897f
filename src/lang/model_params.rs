//! [`ModelParams`]: run-time parameters by name instead of by index.

use super::{Real, StepContext};

/// Run-time parameters of a model as the fields of a struct, instead of by index: derive it for a struct that is
/// generic over its numbers, read it by [`StepContext::params`], and set it like any parameters.
///
/// A field is a number `R`, a struct that derives it, too, or an array of numbers or of such structs, if they are
/// `Copy`. Fields are parameters in the order of their declaration, arrays from their first element on. The struct has
/// one type parameter, and may have constants.
///
/// The derive, which needs this crate under the name `gibbs`, also writes `From<Goal<f32>> for Vec<f32>`, for
/// [`Task::params`](crate::Task::params), and, for a struct without constants, a method `to_array`, for
/// [`set_params`](crate::Planner::set_params), which allocates nothing.
///
/// A driver that is given fewer parameters than the struct has refuses them, and the error names the field that is the
/// last one read: "`params` is 1 long, but must be at least 2 long, since the model reads number 1 (`Goal.y`),
/// counted from 0". More are no error, since they may be read by index.
///
/// # Example
///
/// ```
/// use gibbs::models::Unicycle;
/// use gibbs::{Cost, Engine, Model, ModelParams, Mppi, MppiOptions, Real, StepContext, Task};
///
/// #[derive(ModelParams)]
/// struct Goal<R> {
///     x: R,
///     y: R,
/// }
///
/// struct Reach;
///
/// #[gibbs::model]
/// impl Cost<3, 2> for Reach {
///     fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, _]: [R; 3], _u: [R; 2]) -> R {
///         let goal: Goal<R> = at.params();
///         (x - goal.x).square() + (y - goal.y).square()
///     }
/// }
///
/// let task = Task { dt: 0.1, params: Goal { x: 4.0, y: 0.0 }.into(), ..Default::default() };
/// let options = MppiOptions { task, ..Default::default() };
/// let mut mppi = Mppi::new(&Engine::new()?, Unicycle::default().with_cost(Reach), options)?;
/// mppi.set_params(&Goal { x: 4.0, y: 1.0 }.to_array())?;
/// # Ok::<(), gibbs::Error>(())
/// ```
///
/// A struct whose numbers are all `f32` cannot be read on every backend: "a struct of parameters has one type
/// parameter, the type of its numbers, such as `struct Goal<R> { x: R, y: R }`".
///
/// ```compile_fail
/// #[derive(gibbs::ModelParams)]
/// struct Goal {
///     x: f32,
///     y: f32,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no run-time parameter over `{R}`",
    label = "neither `{R}`, nor a struct that derives `ModelParams`, nor an array of these",
    note = "a struct of parameters is generic over its numbers: `#[derive(ModelParams)] struct Goal<R> {{ x: R, y: R }}`"
)]
pub trait ModelParams<R: Real>: Sized {
    /// The name of the struct.
    #[doc(hidden)]
    const NAME: &'static str;

    /// The number of parameters.
    const COUNT: usize;

    /// Reads the parameters from number `first` on.
    ///
    /// # Panics
    ///
    /// As for [`StepContext::param`].
    fn read(at: &StepContext<'_, R>, first: usize) -> Self;

    /// Writes the parameters in order: to the parameters of an episode, for example, which
    /// [`InitialStates`](crate::learning::InitialStates) draws.
    ///
    /// # Panics
    ///
    /// If there are fewer than [`COUNT`](Self::COUNT) `values`.
    fn write(&self, values: &mut [R]);

    /// The path of the field that is parameter `index`, after the name of the struct: `.goals[1].x`.
    #[doc(hidden)]
    fn name(index: usize) -> String;
}

impl<R: Real> ModelParams<R> for R {
    const NAME: &'static str = "";
    const COUNT: usize = 1;

    #[inline(always)]
    fn read(at: &StepContext<'_, R>, first: usize) -> Self {
        at.param(first)
    }
    #[inline(always)]
    fn write(&self, values: &mut [R]) {
        values[0] = *self;
    }
    fn name(_index: usize) -> String {
        String::new()
    }
}

impl<R: Real, P: ModelParams<R> + Copy, const N: usize> ModelParams<R> for [P; N] {
    const NAME: &'static str = "";
    const COUNT: usize = N * P::COUNT;

    #[inline(always)]
    fn read(at: &StepContext<'_, R>, first: usize) -> Self {
        const { assert!(N > 0, "an array of parameters has at least one element") };
        let mut elements = [P::read(at, first); N];
        for i in 1..N {
            elements[i] = P::read(at, first + i * P::COUNT);
        }
        elements
    }
    #[inline(always)]
    fn write(&self, values: &mut [R]) {
        for i in 0..N {
            self[i].write(&mut values[i * P::COUNT..][..P::COUNT]);
        }
    }
    fn name(index: usize) -> String {
        format!("[{}]{}", index / P::COUNT, P::name(index % P::COUNT))
    }
}

/// The names of the parameters that a struct holds.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct ParamNames {
    pub(crate) count: usize,
    pub(crate) of: fn(usize) -> String,
}

impl ParamNames {
    /// `Goal.x`, for example.
    pub(crate) fn new<R: Real, P: ModelParams<R>>() -> Option<Self> {
        let of = |index| format!("{}{}", P::NAME, P::name(index));
        (!P::NAME.is_empty()).then_some(Self { count: P::COUNT, of })
    }
}
