//! Matrices.

use std::ops::{Add, Mul, Neg, Sub};

use gibbs_macros::model;

use super::{Quat, Vec3};
use crate::lang::{ModelParams, Real, StepContext};

/// A matrix of 3 × 3 numbers, by its columns.
///
/// # Example
///
/// ```
/// use gibbs::linalg::{Mat3, Vec3};
///
/// let inertia = Mat3::from_diagonal(Vec3::new(0.5_f32, 0.5, 1.0));
/// let rate = Vec3::new(1.0, 2.0, 3.0);
/// assert_eq!(inertia * rate, Vec3::new(0.5, 1.0, 3.0));
/// assert_eq!(inertia.inverse() * (inertia * rate), rate);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mat3<R> {
    /// The first column.
    pub x_axis: Vec3<R>,
    /// The second column.
    pub y_axis: Vec3<R>,
    /// The third column.
    pub z_axis: Vec3<R>,
}

#[model]
impl<R: Real> Mat3<R> {
    /// The matrix of these columns.
    pub fn from_cols(x_axis: Vec3<R>, y_axis: Vec3<R>, z_axis: Vec3<R>) -> Self {
        Self { x_axis, y_axis, z_axis }
    }
    /// The matrix of these columns.
    pub fn from_cols_array_2d([x, y, z]: [[R; 3]; 3]) -> Self {
        Self { x_axis: Vec3::from_array(x), y_axis: Vec3::from_array(y), z_axis: Vec3::from_array(z) }
    }
    /// The columns.
    pub fn to_cols_array_2d(self) -> [[R; 3]; 3] {
        [self.x_axis.to_array(), self.y_axis.to_array(), self.z_axis.to_array()]
    }
    /// The matrix with this diagonal, and 0 elsewhere.
    pub fn from_diagonal(diagonal: Vec3<R>) -> Self {
        let (Vec3 { x, y, z }, zero) = (diagonal, R::from(0.0));
        Self { x_axis: Vec3::new(x, zero, zero), y_axis: Vec3::new(zero, y, zero), z_axis: Vec3::new(zero, zero, z) }
    }
    /// The identity.
    pub fn identity() -> Self {
        Self::from_diagonal(Vec3::splat(R::from(1.0)))
    }
    /// The rotation of a quaternion of length 1.
    pub fn from_quat(q: Quat<R>) -> Self {
        let Quat { x, y, z, w } = q;
        let (x2, y2, z2) = (x + x, y + y, z + z);
        let (xx, xy, xz) = (x * x2, x * y2, x * z2);
        let (yy, yz, zz) = (y * y2, y * z2, z * z2);
        let (wx, wy, wz) = (w * x2, w * y2, w * z2);
        Self {
            x_axis: Vec3::new(-(yy + zz) + 1.0, xy + wz, xz - wy),
            y_axis: Vec3::new(xy - wz, -(xx + zz) + 1.0, yz + wx),
            z_axis: Vec3::new(xz + wy, yz - wx, -(xx + yy) + 1.0),
        }
    }
    /// The rotation about an axis of length 1 by an angle (in radians).
    pub fn from_axis_angle(axis: Vec3<R>, angle: R) -> Self {
        let (s, c) = angle.sin_cos();
        let (Vec3 { x, y, z }, Vec3 { x: xs, y: ys, z: zs }) = (axis, axis * s);
        let rest = -c + 1.0;
        let (xy, xz, yz) = (x * y * rest, x * z * rest, y * z * rest);
        Self {
            x_axis: Vec3::new(x * x * rest + c, xy + zs, xz - ys),
            y_axis: Vec3::new(xy - zs, y * y * rest + c, yz + xs),
            z_axis: Vec3::new(xz + ys, yz - xs, z * z * rest + c),
        }
    }
    /// The rotation about the x axis by an angle (in radians).
    pub fn from_rotation_x(angle: R) -> Self {
        let ((s, c), zero) = (angle.sin_cos(), R::from(0.0));
        Self { x_axis: Vec3::from([1.0, 0.0, 0.0]), y_axis: Vec3::new(zero, c, s), z_axis: Vec3::new(zero, -s, c) }
    }
    /// The rotation about the y axis by an angle (in radians).
    pub fn from_rotation_y(angle: R) -> Self {
        let ((s, c), zero) = (angle.sin_cos(), R::from(0.0));
        Self { x_axis: Vec3::new(c, zero, -s), y_axis: Vec3::from([0.0, 1.0, 0.0]), z_axis: Vec3::new(s, zero, c) }
    }
    /// The rotation about the z axis by an angle (in radians).
    pub fn from_rotation_z(angle: R) -> Self {
        let ((s, c), zero) = (angle.sin_cos(), R::from(0.0));
        Self { x_axis: Vec3::new(c, s, zero), y_axis: Vec3::new(-s, c, zero), z_axis: Vec3::from([0.0, 0.0, 1.0]) }
    }
    /// The matrix with rows and columns exchanged: of a rotation, the rotation back.
    pub fn transpose(self) -> Self {
        let Self { x_axis: a, y_axis: b, z_axis: c } = self;
        Self { x_axis: Vec3::new(a.x, b.x, c.x), y_axis: Vec3::new(a.y, b.y, c.y), z_axis: Vec3::new(a.z, b.z, c.z) }
    }
    /// The determinant.
    pub fn determinant(self) -> R {
        self.z_axis.dot(self.x_axis.cross(self.y_axis))
    }
    /// The inverse. The determinant must not be 0, or the result is not finite.
    pub fn inverse(self) -> Self {
        let Self { x_axis: a, y_axis: b, z_axis: c } = self;
        let (ab, bc, ca) = (a.cross(b), b.cross(c), c.cross(a));
        let scale = c.dot(ab).recip();
        Self { x_axis: bc * scale, y_axis: ca * scale, z_axis: ab * scale }.transpose()
    }
    /// The product with a vector.
    pub fn mul_vec3(self, v: Vec3<R>) -> Vec3<R> {
        self.x_axis * v.x + self.y_axis * v.y + self.z_axis * v.z
    }
    /// The product with a matrix.
    pub fn mul_mat3(self, other: Self) -> Self {
        Self {
            x_axis: self.mul_vec3(other.x_axis),
            y_axis: self.mul_vec3(other.y_axis),
            z_axis: self.mul_vec3(other.z_axis),
        }
    }
    /// The matrix, times a number.
    pub fn mul_scalar(self, factor: impl Into<R>) -> Self {
        let factor = factor.into();
        Self { x_axis: self.x_axis * factor, y_axis: self.y_axis * factor, z_axis: self.z_axis * factor }
    }
}

#[model]
impl<R: Real> Mul for Mat3<R> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        self.mul_mat3(other)
    }
}

#[model]
impl<R: Real> Mul<Vec3<R>> for Mat3<R> {
    type Output = Vec3<R>;
    fn mul(self, v: Vec3<R>) -> Vec3<R> {
        self.mul_vec3(v)
    }
}

#[model]
impl<R: Real> Add for Mat3<R> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            x_axis: self.x_axis + other.x_axis,
            y_axis: self.y_axis + other.y_axis,
            z_axis: self.z_axis + other.z_axis,
        }
    }
}

#[model]
impl<R: Real> Sub for Mat3<R> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            x_axis: self.x_axis - other.x_axis,
            y_axis: self.y_axis - other.y_axis,
            z_axis: self.z_axis - other.z_axis,
        }
    }
}

#[model]
impl<R: Real> Neg for Mat3<R> {
    type Output = Self;
    fn neg(self) -> Self {
        Self { x_axis: -self.x_axis, y_axis: -self.y_axis, z_axis: -self.z_axis }
    }
}

/// The columns, one after the other.
#[model]
impl<R: Real> ModelParams<R> for Mat3<R> {
    const NAME: &'static str = "Mat3";
    const COUNT: usize = 9;

    fn read(at: &StepContext<'_, R>, first: usize) -> Self {
        Self::from_cols_array_2d(<[[R; 3]; 3]>::read(at, first))
    }
    fn write(&self, values: &mut [R]) {
        self.to_cols_array_2d().write(values);
    }
    fn name(index: usize) -> String {
        format!(".{}_axis{}", ["x", "y", "z"][index / 3], <Vec3<R>>::name(index % 3))
    }
}
