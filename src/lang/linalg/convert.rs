//! Conversions from and to glam, whose values become constants of a model.

use gibbs_macros::model;

use super::{Mat3, Quat, Vec2, Vec3};
use crate::lang::Real;

#[model]
impl<R: Real> From<glam::Vec2> for Vec2<R> {
    fn from(v: glam::Vec2) -> Self {
        Self::from(v.to_array())
    }
}

#[model]
impl From<Vec2<f32>> for glam::Vec2 {
    fn from(v: Vec2<f32>) -> Self {
        Self::new(v.x, v.y)
    }
}

#[model]
impl<R: Real> From<glam::Vec3> for Vec3<R> {
    fn from(v: glam::Vec3) -> Self {
        Self::from(v.to_array())
    }
}

#[model]
impl From<Vec3<f32>> for glam::Vec3 {
    fn from(v: Vec3<f32>) -> Self {
        Self::new(v.x, v.y, v.z)
    }
}

#[model]
impl<R: Real> From<glam::Quat> for Quat<R> {
    fn from(q: glam::Quat) -> Self {
        Self::from(q.to_array())
    }
}

#[model]
impl From<Quat<f32>> for glam::Quat {
    fn from(q: Quat<f32>) -> Self {
        Self::from_xyzw(q.x, q.y, q.z, q.w)
    }
}

#[model]
impl<R: Real> From<glam::Mat3> for Mat3<R> {
    fn from(m: glam::Mat3) -> Self {
        Self::from_cols(m.x_axis.into(), m.y_axis.into(), m.z_axis.into())
    }
}

#[model]
impl From<Mat3<f32>> for glam::Mat3 {
    fn from(m: Mat3<f32>) -> Self {
        Self::from_cols(m.x_axis.into(), m.y_axis.into(), m.z_axis.into())
    }
}
