//! Counter-based noise: the same integers on every backend, in any order of evaluation.
//!
//! [`philox`] turns a counter into four words, [`normal`] turns words into normal numbers. The counter identifies the
//! draw (row, block of four, update, stream) and the key is the seed; so no state is stored or shared, and any row can
//! be drawn again anywhere. The WGSL of both is printed from them: `shaders/generated/`.

pub mod normal;
pub mod philox;
mod philox_row;
mod proposal;
mod random;
mod shape;
mod stream;

pub(crate) use philox_row::PhiloxRow;
#[cfg(all(test, feature = "gpu"))]
pub(crate) use philox_row::philox_round;
pub(crate) use proposal::CovarianceFactors;
pub use proposal::Noise;
pub use random::Random;
pub(crate) use shape::{Filter, MAX_TAPS};
pub use shape::{Interpolation, NoiseShape};
pub(crate) use stream::{HostStream, Stream};
