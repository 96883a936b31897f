//! Counter-based noise: the same integers on every backend, whatever the order they are drawn in.
//!
//! [`philox`] turns a counter into four words, [`normal`] turns words into normal numbers. The counter says *which* draw it
//! is (row, block of four, update, stream), the key is the seed; so nothing is stored, nothing is shared, and a row can be
//! drawn again anywhere. The twins are `shaders/philox.wgsl` and `shaders/normal.wgsl`.

pub mod normal;
pub mod philox;
mod proposal;
mod random;
mod row;

pub use proposal::Noise;
pub(crate) use proposal::Shape;
pub use random::Random;
pub(crate) use row::Row;
