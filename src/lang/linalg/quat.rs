//! Quaternions.

use std::ops::{Mul, Neg};

use gibbs_macros::model;

use super::Vec3;
use crate::lang::{ModelParams, Real, StepContext};

/// A quaternion w + x i + y j + z k. One of length 1 is a rotation, the same as its negative.
///
/// Source: J. Solà, *Quaternion kinematics for the error-state Kalman filter* (2017).
///
/// # Example
///
/// ```
/// use gibbs::linalg::{Quat, Vec3};
///
/// let quarter = Quat::from_rotation_z(std::f32::consts::FRAC_PI_2);
/// assert!((quarter * Vec3::new(2.0, 0.0, 1.0)).distance(Vec3::new(0.0, 2.0, 1.0)) < 1e-6);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quat<R> {
    /// The first component of the vector part.
    pub x: R,
    /// The second component of the vector part.
    pub y: R,
    /// The third component of the vector part.
    pub z: R,
    /// The scalar part.
    pub w: R,
}

#[model]
impl<R: Real> Quat<R> {
    /// The quaternion of these components, **the scalar part last**.
    pub fn from_xyzw(x: R, y: R, z: R, w: R) -> Self {
        Self { x, y, z, w }
    }
    /// The quaternion of these components, **the scalar part last**.
    pub fn from_array([x, y, z, w]: [R; 4]) -> Self {
        Self { x, y, z, w }
    }
    /// The components x, y, z, w.
    pub fn to_array(self) -> [R; 4] {
        [self.x, self.y, self.z, self.w]
    }
    /// The rotation by 0.
    pub fn identity() -> Self {
        Self::from([0.0, 0.0, 0.0, 1.0])
    }
    /// The rotation about an axis of length 1 by an angle (in radians).
    pub fn from_axis_angle(axis: Vec3<R>, angle: R) -> Self {
        let (s, c) = (angle * 0.5).sin_cos();
        let Vec3 { x, y, z } = axis * s;
        Self { x, y, z, w: c }
    }
    /// The rotation about `axis` by its length (in radians): the exponential map. At 0 it is the identity, with the
    /// right slopes.
    pub fn from_scaled_axis(axis: Vec3<R>) -> Self {
        // Below, sin(a/2) / a = ½ − a²/48 + … and cos(a/2) = 1 − a²/8 + … are exact to less than a rounding.
        const SMALL: f32 = 1e-4;
        let square = axis.length_squared();
        let small = square.lt(SMALL);
        let angle = R::select(small, 1.0, square).sqrt();
        let (s, c) = (angle * 0.5).sin_cos();
        let Vec3 { x, y, z } = axis * R::select(small, square * (-1.0 / 48.0) + 0.5, s / angle);
        Self { x, y, z, w: R::select(small, square * (-1.0 / 8.0) + 1.0, c) }
    }
    /// The rotation about the x axis by an angle (in radians).
    pub fn from_rotation_x(angle: R) -> Self {
        let (s, c) = (angle * 0.5).sin_cos();
        Self { x: s, w: c, ..Self::identity() }
    }
    /// The rotation about the y axis by an angle (in radians).
    pub fn from_rotation_y(angle: R) -> Self {
        let (s, c) = (angle * 0.5).sin_cos();
        Self { y: s, w: c, ..Self::identity() }
    }
    /// The rotation about the z axis by an angle (in radians).
    pub fn from_rotation_z(angle: R) -> Self {
        let (s, c) = (angle * 0.5).sin_cos();
        Self { z: s, w: c, ..Self::identity() }
    }
    /// The vector part, (x, y, z).
    pub fn xyz(self) -> Vec3<R> {
        Vec3 { x: self.x, y: self.y, z: self.z }
    }
    /// The quaternion with the negative vector part: of a rotation, the rotation back.
    pub fn conjugate(self) -> Self {
        Self { x: -self.x, y: -self.y, z: -self.z, w: self.w }
    }
    /// The inner product.
    pub fn dot(self, other: Self) -> R {
        self.w * other.w + self.x * other.x + self.y * other.y + self.z * other.z
    }
    /// The square of the length.
    pub fn length_squared(self) -> R {
        self.dot(self)
    }
    /// The Euclidean length.
    pub fn length(self) -> R {
        self.dot(self).sqrt()
    }
    /// The quaternion of length 1 in this direction. The length must not be [0](super#length-0).
    pub fn normalize(self) -> Self {
        self.scaled(self.length().recip())
    }
    fn scaled(self, factor: R) -> Self {
        Self { x: self.x * factor, y: self.y * factor, z: self.z * factor, w: self.w * factor }
    }
    /// The vector `v`, rotated. The quaternion must have length 1.
    pub fn mul_vec3(self, v: Vec3<R>) -> Vec3<R> {
        let half = self.xyz().cross(v);
        let t = half + half;
        v + t * self.w + self.xyz().cross(t)
    }
    /// The Hamilton product: the rotation by `other`, then by self.
    pub fn mul_quat(self, other: Self) -> Self {
        let (a, b) = (self, other);
        Self {
            x: a.w * b.x + a.x * b.w + a.y * b.z - a.z * b.y,
            y: a.w * b.y + a.y * b.w + a.z * b.x - a.x * b.z,
            z: a.w * b.z + a.z * b.w + a.x * b.y - a.y * b.x,
            w: a.w * b.w - a.x * b.x - a.y * b.y - a.z * b.z,
        }
    }
    /// The derivative q̇ = ½ q ⊗ (0, ω) of an attitude (body to world) whose body turns at the rate ω (in rad/s, in the
    /// body's axes).
    pub fn derivative(self, rate: Vec3<R>) -> Self {
        let Vec3 { x, y, z } = rate * 0.5;
        self.mul_quat(Self { x, y, z, w: R::from(0.0) })
    }
    /// The attitude (body to world) after a small rotation φ = ∫ω dt (in radians, in the body's axes): q ⊗ (1, ½φ),
    /// normalized, and with its sign such that w ≥ 0.
    ///
    /// It needs no sine, and turns by 2 atan(½|φ|) about the axis of φ: second order in φ, at most π for any φ.
    /// `q * Quat::from_scaled_axis(φ)` is exact.
    pub fn integrate(self, angle: Vec3<R>) -> Self {
        let (Self { x, y, z, w }, Vec3 { x: a, y: b, z: c }) = (self, angle * 0.5);
        let turned = Self {
            x: x + w * a + y * c - z * b,
            y: y + w * b + z * a - x * c,
            z: z + w * c + x * b - y * a,
            w: w - x * a - y * b - z * c,
        };
        let scale = R::from(1.0) / turned.length();
        turned.scaled(R::select(turned.w.lt(0.0), -scale, scale))
    }
}

/// A constant quaternion: x, y, z, w.
#[model]
impl<R: Real> From<[f32; 4]> for Quat<R> {
    fn from([x, y, z, w]: [f32; 4]) -> Self {
        Self { x: R::from(x), y: R::from(y), z: R::from(z), w: R::from(w) }
    }
}

#[model]
impl<R: Real> Neg for Quat<R> {
    type Output = Self;
    fn neg(self) -> Self {
        Self { x: -self.x, y: -self.y, z: -self.z, w: -self.w }
    }
}

#[model]
impl<R: Real> Mul for Quat<R> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        self.mul_quat(other)
    }
}

#[model]
impl<R: Real> Mul<Vec3<R>> for Quat<R> {
    type Output = Vec3<R>;
    fn mul(self, v: Vec3<R>) -> Vec3<R> {
        self.mul_vec3(v)
    }
}

/// The components x, y, z, w.
#[model]
impl<R: Real> ModelParams<R> for Quat<R> {
    const NAME: &'static str = "Quat";
    const COUNT: usize = 4;

    fn read(at: &StepContext<'_, R>, first: usize) -> Self {
        Self::from_array(<[R; 4]>::read(at, first))
    }
    fn write(&self, values: &mut [R]) {
        self.to_array().write(values);
    }
    fn name(index: usize) -> String {
        format!(".{}", ["x", "y", "z", "w"][index])
    }
}
