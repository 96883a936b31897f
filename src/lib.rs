//! Sampling-based control, policy search and diffusion on any GPU, from plain Rust.
//!
//! `gibbs` draws thousands of rows (control sequences, parameters of a policy, points of a density), scores each by a
//! model of your system, weighs them by e^{−J/λ} and averages them. You write the system once, in plain Rust. It runs
//! fused into one WGSL kernel on Vulkan, Metal, DX12 and WebGPU, or on the SIMD lanes of the CPU, with the same numbers
//! up to rounding.
//!
//! | driver | what it finds |
//! |---|---|
//! | [`Mppi`] | the next controls, by model predictive path integral control; with [`Weighting::Elite`] and [`MppiOptions::covariance_adaptation`] by cross-entropy, with [`Weighting::Best`] by predictive sampling |
//! | [`DiffusionPlanner`] | the next controls, by a reverse diffusion process |
//! | [`PolicyGradient`] | a [`Policy`], by the exponentiated policy gradient |
//! | [`DiffusionSampler`] | samples of an [`Energy`](sampling::Energy) or of a data set |
//!
//! # A system
//!
//! A [`Model`] is two functions over [`Real`], the scalar language: where a state goes, and what it costs to arrive.
//!
//! ```
//! use gibbs::{Model, Real, StepContext};
//!
//! /// A puck on ice (state: position and velocity in the plane; control: force) that should come to rest at a point.
//! struct Puck {
//!     mass: f32,
//! }
//!
//! #[gibbs::model]
//! impl Model<4, 2> for Puck {
//!     fn step<R: Real>(&self, at: &StepContext<R>, [x, y, vx, vy]: [R; 4], [fx, fy]: [R; 2]) -> [R; 4] {
//!         let (vx, vy) = (vx + fx / self.mass * at.dt(), vy + fy / self.mass * at.dt());
//!         [x + vx * at.dt(), y + vy * at.dt(), vx, vy]
//!     }
//!
//!     fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, vx, vy]: [R; 4], _force: [R; 2]) -> R {
//!         let (gx, gy) = (at.param(0), at.param(1)); // run-time parameters: the goal
//!         (x - gx).square() + (y - gy).square() + (vx.square() + vy.square()) * 0.1
//!     }
//! }
//!
//! // With R = f32 it is ordinary code, to be tested as such.
//! let at = StepContext::new(0, 0.5);
//! assert_eq!(Puck { mass: 2.0 }.step(&at, [0.0; 4], [2.0, 0.0]), [0.25, 0.0, 0.5, 0.0]);
//! ```
//!
//! # A controller
//!
//! An [`Engine`] is a device; [`Mppi`] keeps a plan on it and improves it.
//!
//! ```
//! # use gibbs::{Model, Real, StepContext};
//! # struct Puck { mass: f32 }
//! # impl Model<4, 2> for Puck {
//! #     fn step<R: Real>(&self, at: &StepContext<R>, [x, y, vx, vy]: [R; 4], [fx, fy]: [R; 2]) -> [R; 4] {
//! #         let (vx, vy) = (vx + fx / self.mass * at.dt(), vy + fy / self.mass * at.dt());
//! #         [x + vx * at.dt(), y + vy * at.dt(), vx, vy]
//! #     }
//! #     fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, vx, vy]: [R; 4], _force: [R; 2]) -> R {
//! #         let (gx, gy) = (at.param(0), at.param(1));
//! #         (x - gx).square() + (y - gy).square() + (vx.square() + vy.square()) * 0.1
//! #     }
//! # }
//! use gibbs::{Engine, Limits, Mppi, MppiOptions, Noise, Task, Temperature, Weighting};
//!
//! let engine = Engine::new()?; // a hardware GPU if there is one, else the CPU
//! let options = MppiOptions {
//!     task: Task {
//!         horizon: 30,
//!         dt: 0.1,
//!         limits: Some(Limits { low: [-2.0; 2], high: [2.0; 2] }),
//!         params: vec![3.0, 1.0],
//!         ..Default::default()
//!     },
//!     samples: 512,
//!     weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.1)),
//!     noise: Noise::Diagonal([1.0, 1.0]),
//!     ..Default::default()
//! };
//! let mut mppi = Mppi::new(&engine, Puck { mass: 2.0 }, options)?;
//!
//! let mut state = [0.0; 4];
//! for _ in 0..80 {
//!     let plan = mppi.plan(&state)?;
//!     state = plan.states()[1]; // here the world does exactly what the model says
//!     mppi.shift(1);
//! }
//! assert!((state[0] - 3.0).abs() < 0.3 && (state[1] - 1.0).abs() < 0.3);
//! # Ok::<(), gibbs::Error>(())
//! ```
//!
//! The [`Plan`] also tells the effective sample size, log Z, the temperature, how many rollouts were not finite, and
//! how long each stage took. On a robot, [`advance`](Planner::advance) returns the control to apply and moves the plan
//! on.
//!
//! # The same by diffusion
//!
//! Both planners are a [`Planner`], so that one is swapped for the other in a line. A few noise levels per call and the
//! plan of the call before to start from: diffusion-annealed model predictive control.
//!
//! ```
//! use gibbs::models::DoubleIntegrator;
//! use gibbs::{DiffusionOptions, DiffusionPlanner, Engine, Task};
//! use gibbs::sampling::{ReverseProcess, Schedule};
//!
//! let options = DiffusionOptions {
//!     task: Task { horizon: 30, dt: 0.1, ..Default::default() },
//!     samples: 256,
//!     process: ReverseProcess { schedule: Schedule::annealed(4, 0.5), ..Default::default() },
//!     horizon_annealing: Some(0.5),
//!     ..Default::default()
//! };
//! let mut planner = DiffusionPlanner::new(&Engine::new()?, DoubleIntegrator::default(), options)?;
//!
//! let mut state = [2.0, -1.0, 0.0, 0.0];
//! for _ in 0..60 {
//!     state = planner.plan(&state)?.states()[1];
//!     planner.shift(1);
//! }
//! assert!(state[0].abs() < 0.3 && state[1].abs() < 0.3);
//! # Ok::<(), gibbs::Error>(())
//! ```
//!
//! # A policy instead of a plan
//!
//! [`PolicyGradient`] trains a [`Policy`] on the same kind of model, from initial states that you draw; the
//! [`policies`] that ship go from linear feedback to perceptrons. What it leaves behind is plain numbers and a
//! [`Controller`](learning::Controller) in plain `f32`, which needs no engine. [`PolicyGradient`] has an example.
//!
//! # Samples instead of one answer
//!
//! [`DiffusionSampler`] runs thousands of chains at once, all levels in one submission: samples of e^{−E/λ} for any
//! [`Energy`](sampling::Energy), or of a data set by the ideal denoiser, guided by rewards if you like.
//! [`DiffusionSampler`] has an example.
//!
//! # Beyond one blocking call
//!
//! - A [`Fleet`] solves many problems of one model in one launch: robots with their own states, plans, seeds and, where
//!   set, parameters and references.
//! - A [`NoiseShape`] correlates the perturbations in time: knots with a spline between them, or colored noise.
//! - [`Task`] describes actuators: [`limits`](Task::limits), limits of [rates](Task::rate_limits) and
//!   [jerk](Task::jerk_limits), and an input [delay](Task::delay). [`advance`](Planner::advance) returns the control to
//!   apply, within all of them, and moves the plan on.
//! - [`plan_within`](Planner::plan_within) runs fewer passes or rows rather than exceed a time budget.
//! - A [`Proposal`](control::Proposal) is another control sequence to draw rows around: a stop, a route, a maneuver. A
//!   [`Fallback`](control::Fallback) replaces plans that fail, and [`Plan::symptoms`] names options that do not fit.
//! - [`StepContext::term`] names a term of the cost, and [`Planner::terms`] tells what each costs along the plan,
//!   [`Samples`](control::Samples) what it costs along each row.
//! - [`feedback`](Planner::feedback) computes gains along a plan, so that a loop of 500 Hz tracks the plans of a
//!   planner at 50 Hz, or at 2 Hz.
//! - [`snapshot`](Planner::snapshot) and [`restore`](Planner::restore) repeat calls to the bit, also from a file, and a
//!   [clone](Planner::try_clone) of a planner answers what-if questions. All drivers are `Clone`.
//! - [`Box<dyn AnyPlanner<N, M>>`](control::AnyPlanner) is a planner whose model and method are selected at run time.
//! - [`start`](Planner::start) submits a call without waiting for it and [`poll`](Planner::poll) returns its plan once
//!   it is available; [`plan_async`](Planner::plan_async) is the same as a future. The other drivers have such calls,
//!   too.
//! - [`Engine::from_wgpu`] shares the `wgpu` device of your program, which has opened it to draw with, for example.
//!
//! # Where things are
//!
//! [`prelude`] has what most programs import. The root of the crate has the traits, the drivers and their options. More
//! is in modules: [`control`] for code that is generic over planners, [`sampling`] for schedules and reverse
//! processes, [`learning`] for the options, checkpoints and controllers of policy search, [`runtime`] for devices and
//! their options, [`lang`] for the language and [`noise`] for its generators, [`models`] and [`policies`] that ship,
//! [`derivative`] and [`check`].
//!
//! # What may change at run time
//!
//! What a model reads from `&self` becomes a constant of the kernel. What comes through [`StepContext`] may change
//! before every call, and nothing is recompiled: parameters ([`Mppi::set_params`]), references over the horizon
//! ([`Mppi::set_references`]), and sampled fields such as a costmap ([`Grid`], [`Mppi::set_field`]), which can be
//! overwritten in place ([`Mppi::update_field`]).
//!
//! # The same everywhere
//!
//! | | a row is | transcendental functions | noise |
//! |---|---|---|---|
//! | GPU | one invocation | the crate's polynomials, in WGSL | Philox4x32-10, the same integers |
//! | CPU | one lane of AVX-512, AVX2 or NEON, chosen at run time | the same polynomials | the same integers |
//!
//! Same seed, same backend, same device: the same bits; on the CPU, AVX2 gives the same as AVX-512. Across backends
//! results agree to rounding; [`Real`] lists the bounds. Shipped models are in [`models`], derivatives of any model in
//! [`derivative`], test helpers in [`check`], and the averaging kernel on its own is [`WeightedMean`].
//!
//! # Profiling
//!
//! With the feature `tracing`, calls open spans of [`tracing`](https://docs.rs/tracing), all with the target `gibbs`:
//!
//! | span | level | fields | covers |
//! |---|---|---|---|
//! | `plan` | debug | problems, rows, horizon, backend, budget | a blocking call of a planner or a fleet; budget only where there is one |
//! | `step` | debug | learners, rows, horizon, backend | a blocking iteration of a training |
//! | `sample` | debug | chains, rows, width, backend | a blocking call of a sampler |
//! | `average` | debug | rows, numbers | a blocking call of [`WeightedMean`] |
//! | `prepare` | debug | passes | compiling kernels and allocating buffers, in constructors and where options change |
//! | `compile` | debug | kernel | compiling a kernel for a GPU, with its first dispatch |
//! | `submit` | debug | passes, problems | submitting the passes of a call; on the CPU, running them |
//! | `pass` | trace | rows, horizon, problem | a pass of a problem on the CPU, on whichever thread runs it |
//! | `wait` | debug | submissions | waiting for a GPU |
//! | `evaluate` | debug | problems | rolling plans out on the host |
//!
//! They are nested: a `plan` contains a `submit`, a `wait` and an `evaluate`. Calls that do not block open the inner
//! ones only.
//!
//! # Debug builds
//!
//! **An unoptimized build plans hundreds of times slower on the CPU.** Build with `--release`, or write into the
//! `Cargo.toml` of *your* workspace
//!
//! ```toml
//! [profile.dev]
//! opt-level = 1
//! ```
//!
//! which takes 3 times as long as a release build and keeps assertions and overflow checks. Optimizing only
//! dependencies (`[profile.dev.package."*"]`) does not help: a rollout is generic over its model, and so it is compiled
//! in the crate that names the model, which is yours. Kernels on a GPU are not affected. The first driver on the CPU of
//! an unoptimized build logs one warning.
//!
//! # When something goes wrong
//!
//! Every error is typed and names the field, the value and what would be valid. If a call fails, the previous plan is
//! kept. After [`EngineError::DeviceLost`], build an engine anew (or one on the CPU) and hand it to [`Mppi::move_to`]:
//!
//! ```
//! use gibbs::models::Pendulum;
//! use gibbs::{Backend, Engine, EngineError, EngineOptions, Mppi, MppiOptions, PlanError};
//!
//! let mut mppi = Mppi::new(&Engine::new()?, Pendulum::default(), MppiOptions::default())?;
//! let state = [1.0, 0.0];
//! if let Err(PlanError::Engine(EngineError::DeviceLost { .. })) = mppi.plan(&state) {
//!     mppi.move_to(&Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() })?)?;
//!     mppi.plan(&state)?; // goes on from the same plan
//! }
//! # Ok::<(), gibbs::Error>(())
//! ```
//!
//! # Features
//!
//! | feature | default | what it brings |
//! |---|---|---|
//! | `gpu` | on | the GPU backend (wgpu); without it the crate is the CPU backend alone |
//! | `rayon` | on | the CPU backend on all cores; without it, on the calling thread |
//! | `glam` | off | conversions of the types of [`linalg`] from and to those of glam 0.34 |
//! | `web` | off | WebGPU, on wasm32-unknown-unknown; includes `gpu`. In a page, build engines and drivers by `new_async` |
//! | `serde` | off | options, plans and snapshots can be stored: [`Snapshot`](control::Snapshot#storing) says how |
//! | `tracing` | off | spans for profilers: see [Profiling](#profiling) |

#![warn(missing_docs, unreachable_pub)]

pub mod check;
pub mod control;
mod error;
mod interp;
mod kernels;
pub mod lang;
pub mod learning;
mod model;
pub mod runtime;
pub mod sampling;
mod weighted_mean;

#[cfg(feature = "gpu")]
pub use wgpu;

#[cfg(all(target_family = "wasm", feature = "gpu", not(all(feature = "web", target_os = "unknown"))))]
compile_error!(
    "WebAssembly has no GPU but that of a browser, for wasm32-unknown-unknown: enable the feature `web` instead of `gpu`, \
     or only the CPU backend by `default-features = false`"
);

pub use control::{DiffusionOptions, DiffusionPlanner, Fleet, Mppi, MppiOptions, Plan, Planner, Plans};
pub use error::{BuildError, EngineError, Error, InvalidValue, ModelError, PlanError};
pub use kernels::propose::{Interpolation, Noise, NoiseShape};
pub use kernels::score::Risk;
pub use kernels::weigh::{Temperature, Weighting};
pub use lang::linalg;
pub use lang::{FieldSet, Grid, Mask, ModelParams, Params, Random, Real, StepContext};
pub use learning::{PolicyGradient, PolicyGradientOptions};
pub use model::{Cost, Dynamics, Model, Policy, WithCost, euler, rk4, semi_implicit_euler};
pub use model::{derivative, policies, systems as models};
pub use runtime::{Backend, Engine, EngineOptions, Limits, References, Scenario, Spread, Task};
pub use sampling::{DiffusionSampler, DiffusionSamplerOptions};
pub use weighted_mean::{Average, WeightedMean};

/// Marks code over [`Real`] so that the CPU backend can use its vector instructions: put it on every `impl` of
/// [`Model`], [`Cost`], [`Dynamics`], [`Policy`], [`Energy`](sampling::Energy) or [`Map`](check::Map), and on every
/// helper that they call.
///
/// Every function of the item, also one within another, gets `#[inline(always)]`, unless it has an `#[inline…]`
/// attribute of its own. A call that is not inlined is compiled without vector instructions, passes registers through
/// memory, and makes the backend 10 to 30 times slower. [`check::vectorized`] finds such calls.
///
/// # Closures
///
/// A closure cannot be marked `#[inline(always)]`, so whether a call of it is inlined is up to the compiler's
/// heuristics, which change with the size of the model. The attribute therefore refuses closures in functions that are
/// generic over `Real` (that have `Real` in their signature or in the head of their `impl`). Write a loop over indices
/// instead, or a function:
///
/// ```
/// # use gibbs::Real;
/// #[gibbs::model]
/// fn squares<R: Real>(x: [R; 3]) -> [R; 3] {
///     let mut squares = x;
///     for i in 0..3 {
///         squares[i] = x[i].square();
///     }
///     squares
/// }
/// # assert_eq!(squares([1.0_f32, 2.0, 3.0]), [1.0, 4.0, 9.0]);
/// ```
///
/// Here the compiler says "a closure in a function over `Real` may not be inlined":
///
/// ```compile_fail
/// # use gibbs::Real;
/// #[gibbs::model]
/// fn squares<R: Real>(x: [R; 3]) -> [R; 3] {
///     x.map(|x| x.square())
/// }
/// ```
///
/// Functions that are not generic over `Real`, such as [`Policy::initial`], may have closures. On an item that has no
/// functions the attribute is an error: "`#[gibbs::model]` belongs on an `impl`, a `trait` or a function".
///
/// ```compile_fail
/// #[gibbs::model]
/// struct Boat;
/// ```
///
/// # Example
///
/// ```
/// use gibbs::{Dynamics, Model, Real, StepContext, rk4};
///
/// /// A pendulum (state: angle, rate; control: angular acceleration).
/// struct Pendulum;
///
/// #[gibbs::model]
/// impl Dynamics<2, 1> for Pendulum {
///     fn derivative<R: Real>(&self, _at: &StepContext<R>, [angle, rate]: [R; 2], [u]: [R; 1]) -> [R; 2] {
///         [rate, u + angle.sin() * 9.81]
///     }
/// }
///
/// #[gibbs::model]
/// impl Model<2, 1> for Pendulum {
///     fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 2], u: [R; 1]) -> [R; 2] {
///         rk4(self, at, x, u)
///     }
///     fn cost<R: Real>(&self, _at: &StepContext<R>, [angle, rate]: [R; 2], _u: [R; 1]) -> R {
///         angle.wrap_angle().square() + rate.square() * 0.1
///     }
/// }
///
/// let next = Pendulum.step(&StepContext::new(0, 0.1), [0.0_f32, 1.0], [0.0]);
/// assert!(next[1] > 1.0);
/// ```
#[doc(inline)]
pub use gibbs_macros::model;

/// Derives the trait [`ModelParams`](trait@ModelParams), whose documentation says what a struct needs.
#[doc(inline)]
pub use gibbs_macros::ModelParams;

/// Counter-based noise: the same integers on every backend, in whatever order they are drawn.
///
/// [`philox`](noise::philox) turns a counter into four words, and [`normal`](noise::normal) turns words into normal
/// numbers. The counter names the draw (row, block of four, pass, stream), and the key is the seed. So nothing is
/// stored or shared, and a row can be drawn again anywhere.
pub mod noise {
    pub use crate::lang::{normal, philox};
}

/// What most programs import: `use gibbs::prelude::*;`.
pub mod prelude {
    pub use crate::control::{Fallback, Proposal, Smoothing};
    pub use crate::{
        Backend, Cost, DiffusionOptions, DiffusionPlanner, DiffusionSampler, DiffusionSamplerOptions, Dynamics, Engine,
        EngineOptions, Fleet, Grid, Limits, Mask, Model, ModelParams, Mppi, MppiOptions, Noise, NoiseShape, Params,
        Plan, Planner, Policy, PolicyGradient, PolicyGradientOptions, Random, Real, References, Risk, Scenario, Spread,
        StepContext, Task, Temperature, Weighting,
    };
    pub use gibbs_macros::model;
}

/// The programs of the guide are compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/guide.md")]
struct Guide;

/// The program for a browser is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/web.md")]
struct Web;
