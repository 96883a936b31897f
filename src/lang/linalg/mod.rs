//! Small linear algebra over [`Real`](crate::lang::Real): vectors, a matrix and a quaternion, in the names of
//! [glam](https://docs.rs/glam).
//!
//! They are for the code of a model: every method is inlined, and a vector of `R` is as fast as its components written
//! out. With `R = f32` they are plain numbers. Products follow glam, too: vectors are columns, `Mat3` is stored by
//! columns, a product `a * b` of rotations applies `b` first, and rotations are right-handed.
//!
//! Constants are made by `From`, as for `R`: `Vec3::from([0.0, 0.0, 9.81])`. (There are no associated constants such as
//! `Vec3::ZERO`, since a general `R` cannot be made at compile time.) A factor, which may be `f32`, stands on the
//! right: `v * 2.0`.
//!
//! With the feature `glam`, values of glam convert into these with any `R`, and these with `R = f32` into glam's.
//!
//! # Length 0
//!
//! [`normalize`](Vec3::normalize) divides by the length: at 0, the result is NaN on the CPU and unspecified on a GPU.
//! [`normalize_or_zero`](Vec3::normalize_or_zero) returns 0 there, with slope 0. Lengths are computed from sums of
//! squares. In `f32` these overflow from a length of 1.8·10¹⁹ on, and those below 1.1·10⁻¹⁹ may count as 0.
//!
//! # Example
//!
//! ```
//! use gibbs::linalg::{Quat, Vec3};
//! use gibbs::{Model, Real, StepContext};
//!
//! /// A thruster on a body that turns about z (state: position, velocity, yaw; controls: thrust, yaw rate).
//! struct Thruster;
//!
//! #[gibbs::model]
//! impl Model<7, 2> for Thruster {
//!     fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 7], [thrust, rate]: [R; 2]) -> [R; 7] {
//!         let [x, y, z, vx, vy, vz, yaw] = x;
//!         let (position, velocity) = (Vec3::new(x, y, z), Vec3::new(vx, vy, vz));
//!         let velocity = velocity + Quat::from_rotation_z(yaw) * Vec3::from([1.0, 0.0, 0.0]) * (thrust * at.dt());
//!         let [x, y, z] = (position + velocity * at.dt()).to_array();
//!         let [vx, vy, vz] = velocity.to_array();
//!         [x, y, z, vx, vy, vz, yaw + rate * at.dt()]
//!     }
//!     fn cost<R: Real>(&self, _at: &StepContext<R>, [x, y, z, ..]: [R; 7], _u: [R; 2]) -> R {
//!         Vec3::new(x, y, z).length()
//!     }
//! }
//!
//! let north = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, std::f32::consts::FRAC_PI_2];
//! let next = Thruster.step(&StepContext::new(0, 0.5), north, [2.0, 0.0]);
//! assert!((Vec3::from_array([next[0], next[1], next[2]]) - Vec3::new(0.0, 0.5, 0.0)).length() < 1e-6);
//! ```

#[cfg(feature = "glam")]
mod convert;
mod mat3;
mod quat;
mod vec;

pub use mat3::Mat3;
pub use quat::Quat;
pub use vec::{Vec2, Vec3};
