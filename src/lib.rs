//! placeholder, see below
#![allow(missing_docs)]

pub mod check;
pub mod derivative;
mod engine;
mod error;
mod field;
mod model;
pub mod models;
mod mppi;
pub mod noise;
mod scalar;
mod update;

pub use engine::{Adapter, AdapterKind, Backend, Engine, EngineOptions, Instructions, Timing};
pub use error::{BuildError, EngineError, Error, InvalidValue, ModelError, PlanError};
pub use field::{FieldSet, Grid};
pub use model::{Cost, Flow, Model, Stage, WgslFn, WithCost, euler, rk4, semi_implicit_euler};
pub use mppi::{Convention, Limits, Mppi, MppiOptions, Plan, References, Samples, Tail, Temperature};
pub use noise::Noise;
pub use scalar::{Dual, Mask, Real};
pub use scalar::trace::Math;
