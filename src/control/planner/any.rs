//! [`AnyPlanner`]: a planner whose model and method are chosen at run time.

use std::any::Any;
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use super::algorithm::sealed::Sealed;
use super::*;
use crate::error::FeedbackError;

/// A future that an [`AnyPlanner`] returns.
pub type BoxedFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Declares a trait and implements it for every [`Planner`]. A method of the three lists calls the planner's own method
/// of that name, which is `async` in the last list.
macro_rules! for_planners {
    (
        $(#[$about:meta])*
        trait $Any:ident;
        &mut self: $(fn $change:ident($($new:ident: $New:ty),*) $(-> $Changed:ty)?;)*
        &self: $(fn $read:ident($($at:ident: $At:ty),*) $(-> $Found:ty)?;)*
        async &mut self: $(fn $wait:ident($($given:ident: $Given:ty),*) -> $Awaited:ty;)*
        declared: { $($declared:tt)* }
        implemented: { $($implemented:tt)* }
    ) => {
        $(#[$about])*
        pub trait $Any<const N: usize, const M: usize>: Any + Debug + Send + Sync + Sealed {
            $(
                #[doc = concat!("See [`Planner::", stringify!($change), "`].")]
                fn $change(&mut self $(, $new: $New)*) $(-> $Changed)?;
            )*
            $(
                #[doc = concat!("See [`Planner::", stringify!($read), "`].")]
                fn $read(&self $(, $at: $At)*) $(-> $Found)?;
            )*
            $(
                #[doc = concat!("See [`Planner::", stringify!($wait), "`].")]
                fn $wait<'a>(&'a mut self $(, $given: $Given)*) -> BoxedFuture<'a, $Awaited>;
            )*
            $($declared)*
        }

        impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> $Any<N, M> for Planner<N, M, D, A> {
            $(
                fn $change(&mut self $(, $new: $New)*) $(-> $Changed)? {
                    Planner::$change(self $(, $new)*)
                }
            )*
            $(
                fn $read(&self $(, $at: $At)*) $(-> $Found)? {
                    Planner::$read(self $(, $at)*)
                }
            )*
            $(
                fn $wait<'a>(&'a mut self $(, $given: $Given)*) -> BoxedFuture<'a, $Awaited> {
                    Box::pin(Planner::$wait(self $(, $given)*))
                }
            )*
            $($implemented)*
        }
    };
}

for_planners! {
    /// A [`Planner`] of any model with N states and M controls, and of any [`Algorithm`]: what a program stores that
    /// selects them at run time, as `Box<dyn AnyPlanner<N, M>>`. Such a box can be sent to another thread, and cloned
    /// as the planner can.
    ///
    /// Every [`Planner`] implements this trait, and nothing else does. Its methods are those of the planner, to whose
    /// documentation they refer. It has no methods that name the model or the options. Where a program needs them, it
    /// can [downcast](std::any): `(&mut *planner as &mut dyn Any).downcast_mut::<Mppi<4, 2, Puck>>()`.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::control::AnyPlanner;
    /// use gibbs::models::DoubleIntegrator;
    /// use gibbs::{BuildError, DiffusionOptions, DiffusionPlanner, Engine, Mppi, MppiOptions, Task};
    ///
    /// /// From a configuration file.
    /// enum Method {
    ///     Mppi,
    ///     Diffusion,
    /// }
    ///
    /// #[derive(Clone)]
    /// struct Robot {
    ///     planner: Box<dyn AnyPlanner<4, 2>>,
    /// }
    ///
    /// impl Robot {
    ///     fn new(engine: &Engine, method: Method) -> Result<Self, BuildError> {
    ///         let (model, task) = (DoubleIntegrator::default(), Task { horizon: 30, dt: 0.1, ..Default::default() });
    ///         let planner: Box<dyn AnyPlanner<4, 2>> = match method {
    ///             Method::Mppi => Box::new(Mppi::new(engine, model, MppiOptions { task, ..Default::default() })?),
    ///             Method::Diffusion => {
    ///                 Box::new(DiffusionPlanner::new(engine, model, DiffusionOptions { task, ..Default::default() })?)
    ///             }
    ///         };
    ///         Ok(Self { planner })
    ///     }
    /// }
    ///
    /// let engine = Engine::new()?;
    /// for method in [Method::Mppi, Method::Diffusion] {
    ///     let mut robot = Robot::new(&engine, method)?;
    ///     robot.planner.plan(&[1.0, 0.0, 0.0, 0.0])?;
    ///     assert!(robot.planner.advance()[0] < 0.0, "back to 0");
    /// }
    /// # Ok::<(), gibbs::Error>(())
    /// ```
    trait AnyPlanner;

    &mut self:
    fn plan(x: &[f32; N]) -> Result<&Plan<N, M>, PlanError>;
    fn plan_first(x: &[f32; N], passes: usize) -> Result<&Plan<N, M>, PlanError>;
    fn plan_within(x: &[f32; N], budget: Duration) -> Result<&Plan<N, M>, PlanError>;
    fn plan_within_by(x: &[f32; N], budget: Duration, now: &mut dyn FnMut() -> Duration) -> Result<&Plan<N, M>, PlanError>;
    fn plan_rows(x: &[f32; N], rows: &[f32]) -> Result<&Plan<N, M>, PlanError>;
    fn start(x: &[f32; N]) -> Result<(), PlanError>;
    fn start_rows(x: &[f32; N], rows: &[f32]) -> Result<(), PlanError>;
    fn poll() -> Result<Option<&Plan<N, M>>, PlanError>;
    fn finish() -> Result<&Plan<N, M>, PlanError>;
    fn cancel();
    fn samples() -> Result<Samples<'_, N, M>, PlanError>;
    fn advance() -> [f32; M];
    fn advance_by(seconds: f32) -> Result<[f32; M], InvalidValue>;
    fn shift(steps: usize);
    fn propose(index: usize, controls: &[[f32; M]]) -> Result<(), InvalidValue>;
    fn set_controls(controls: &[[f32; M]]) -> Result<(), InvalidValue>;
    fn set_last_control(control: &[f32; M]) -> Result<(), InvalidValue>;
    fn set_params(params: &[f32]) -> Result<(), InvalidValue>;
    fn set_references(values: &[f32], columns: usize) -> Result<(), InvalidValue>;
    fn set_scenarios(scenarios: Vec<Scenario>) -> Result<(), InvalidValue>;
    fn set_field(index: usize, grid: Grid) -> Result<(), InvalidValue>;
    fn update_field(index: usize, region: Block, values: &[f32]) -> Result<(), InvalidValue>;
    fn set_weights(weights: &[f32]) -> Result<(), InvalidValue>;
    fn set_task(task: Task<M>) -> Result<(), BuildError>;
    fn resize(horizon: usize, samples: usize) -> Result<(), BuildError>;
    fn move_to(engine: &Engine) -> Result<(), BuildError>;
    fn prepare_rows() -> Result<(), BuildError>;
    fn reseed(seed: u64);
    fn reset();
    fn restore(snapshot: &Snapshot<M>) -> Result<(), InvalidValue>;

    &self:
    fn is_pending() -> bool;
    fn last_plan() -> Option<&Plan<N, M>>;
    fn controls() -> &[[f32; M]];
    fn last_control() -> [f32; M];
    fn snapshot() -> Snapshot<M>;
    fn task() -> &Task<M>;
    fn engine() -> &Engine;
    fn wgsl() -> (&str, usize);
    fn feedback(weights: FeedbackWeights<N, M>) -> Result<Feedback<N, M>, FeedbackError>;
    fn update_feedback(feedback: &mut Feedback<N, M>) -> Result<(), FeedbackError>;
    fn simulate(x: &[f32; N], controls: &[[f32; M]]) -> Result<(Vec<[f32; N]>, f32), InvalidValue>;
    fn simulate_scenario(s: usize, x: &[f32; N], controls: &[[f32; M]]) -> Result<(Vec<[f32; N]>, f32), InvalidValue>;
    fn terms() -> Result<Terms, PlanError>;
    fn terms_of(x: &[f32; N], controls: &[[f32; M]]) -> Result<Terms, InvalidValue>;

    async &mut self:
    fn plan_async(x: &'a [f32; N]) -> Result<&'a Plan<N, M>, PlanError>;
    fn plan_first_async(x: &'a [f32; N], passes: usize) -> Result<&'a Plan<N, M>, PlanError>;
    fn plan_within_async(x: &'a [f32; N], budget: Duration) -> Result<&'a Plan<N, M>, PlanError>;
    fn plan_within_by_async(
        x: &'a [f32; N],
        budget: Duration,
        now: &'a mut (dyn FnMut() -> Duration + Send)
    ) -> Result<&'a Plan<N, M>, PlanError>;
    fn plan_rows_async(x: &'a [f32; N], rows: &'a [f32]) -> Result<&'a Plan<N, M>, PlanError>;
    fn samples_async() -> Result<Samples<'a, N, M>, PlanError>;
    fn set_task_async(task: Task<M>) -> Result<(), BuildError>;
    fn resize_async(horizon: usize, samples: usize) -> Result<(), BuildError>;
    fn move_to_async(engine: &'a Engine) -> Result<(), BuildError>;
    fn prepare_rows_async() -> Result<(), BuildError>;

    declared: {
        /// See [`Planner::set_field_origin`].
        fn set_field_origin(&mut self, index: usize, origin: &[f32]) -> Result<(), InvalidValue>;

        /// See [`Planner::prepare_device_trajectories`].
        #[cfg(feature = "gpu")]
        fn prepare_device_trajectories(&mut self) -> Result<(), BuildError>;

        /// See [`Planner::prepare_device_trajectories_async`].
        #[cfg(feature = "gpu")]
        fn prepare_device_trajectories_async(&mut self) -> BoxedFuture<'_, Result<(), BuildError>>;

        /// See [`Planner::device_trajectories`].
        #[cfg(feature = "gpu")]
        fn device_trajectories(&mut self, rows: usize) -> Result<DeviceTrajectories, PlanError>;

        /// See [`Planner::try_clone`].
        fn try_clone(&self) -> Result<Box<dyn AnyPlanner<N, M>>, BuildError>;

        /// See [`Planner::try_clone_async`].
        fn try_clone_async(&self) -> BoxedFuture<'_, Result<Box<dyn AnyPlanner<N, M>>, BuildError>>;

        /// Clones the planner into a box of its own.
        #[doc(hidden)]
        fn boxed_clone(&self) -> Box<dyn AnyPlanner<N, M>>;
    }
    implemented: {
        fn set_field_origin(&mut self, index: usize, origin: &[f32]) -> Result<(), InvalidValue> {
            self.set_field_origin_to(index, origin)
        }

        #[cfg(feature = "gpu")]
        fn prepare_device_trajectories(&mut self) -> Result<(), BuildError> {
            Planner::prepare_device_trajectories(self)
        }

        #[cfg(feature = "gpu")]
        fn prepare_device_trajectories_async(&mut self) -> BoxedFuture<'_, Result<(), BuildError>> {
            Box::pin(Planner::prepare_device_trajectories_async(self))
        }

        #[cfg(feature = "gpu")]
        fn device_trajectories(&mut self, rows: usize) -> Result<DeviceTrajectories, PlanError> {
            Planner::device_trajectories(self, rows)
        }

        fn try_clone(&self) -> Result<Box<dyn AnyPlanner<N, M>>, BuildError> {
            Ok(Box::new(Planner::try_clone(self)?))
        }

        fn try_clone_async(&self) -> BoxedFuture<'_, Result<Box<dyn AnyPlanner<N, M>>, BuildError>> {
            Box::pin(async { Ok(Box::new(Planner::try_clone_async(self).await?) as Box<dyn AnyPlanner<N, M>>) })
        }

        fn boxed_clone(&self) -> Box<dyn AnyPlanner<N, M>> {
            Box::new(self.clone())
        }
    }
}

impl<const N: usize, const M: usize, D, A> Sealed for Planner<N, M, D, A> {}

impl<const N: usize, const M: usize> Clone for Box<dyn AnyPlanner<N, M>> {
    fn clone(&self) -> Self {
        (**self).boxed_clone()
    }
}
