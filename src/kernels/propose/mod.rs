//! Propose: rows of coordinates are drawn around a nominal.
pub(crate) mod draw;
pub(crate) mod noise;
pub(crate) mod shape;

pub use noise::Noise;
pub use shape::{Interpolation, NoiseShape};
