//! Vectors.

use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use gibbs_macros::model;

use crate::lang::{ModelParams, Real, StepContext};

/// A vector in the plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vec2<R> {
    /// The first component.
    pub x: R,
    /// The second component.
    pub y: R,
}

/// A vector in space.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vec3<R> {
    /// The first component.
    pub x: R,
    /// The second component.
    pub y: R,
    /// The third component.
    pub z: R,
}

/// What both vectors have, component by component. The first component is apart, so that sums need no zero.
macro_rules! vectors {
    ($($vector:ident $dimension:literal: $first:ident $($other:ident)+;)*) => {$(
        #[model]
        impl<R: Real> $vector<R> {
            /// The vector of these components.
            pub fn new($first: R, $($other: R),+) -> Self {
                Self { $first, $($other),+ }
            }
            /// The vector whose components are all `value`.
            pub fn splat(value: R) -> Self {
                Self { $first: value, $($other: value),+ }
            }
            /// The vector of these components.
            pub fn from_array([$first, $($other),+]: [R; $dimension]) -> Self {
                Self { $first, $($other),+ }
            }
            /// The components.
            pub fn to_array(self) -> [R; $dimension] {
                [self.$first, $(self.$other),+]
            }
            /// The inner product.
            pub fn dot(self, other: Self) -> R {
                self.$first * other.$first $(+ self.$other * other.$other)+
            }
            /// The square of the length.
            pub fn length_squared(self) -> R {
                self.dot(self)
            }
            /// The Euclidean length. Its slope at 0 is not finite.
            pub fn length(self) -> R {
                self.dot(self).sqrt()
            }
            /// The square of the distance of two points.
            pub fn distance_squared(self, other: Self) -> R {
                (self - other).length_squared()
            }
            /// The distance of two points.
            pub fn distance(self, other: Self) -> R {
                (self - other).length()
            }
            /// The vector of length 1 in this direction. The length must not be [0](super#length-0).
            pub fn normalize(self) -> Self {
                self * self.length().recip()
            }
            /// The vector of length 1 in this direction, or 0 if the length is [0](super#length-0).
            pub fn normalize_or_zero(self) -> Self {
                let square = self.length_squared();
                let positive = square.gt(0.0);
                let scale = R::select(positive, square, 1.0).sqrt().recip();
                self * R::select(positive, scale, 0.0)
            }
            /// The part of this vector in the direction of `other`, whose length must not be 0.
            pub fn project_onto(self, other: Self) -> Self {
                other * (self.dot(other) / other.length_squared())
            }
            /// Linear interpolation: self at `t` = 0, `other` at `t` = 1, extrapolated elsewhere.
            pub fn lerp(self, other: Self, t: impl Into<R>) -> Self {
                let t = t.into();
                Self { $first: self.$first.lerp(other.$first, t), $($other: self.$other.lerp(other.$other, t)),+ }
            }
            /// self·a + b, component by component, rounded once where the hardware supports it.
            pub fn mul_add(self, a: Self, b: Self) -> Self {
                Self {
                    $first: self.$first.mul_add(a.$first, b.$first),
                    $($other: self.$other.mul_add(a.$other, b.$other)),+
                }
            }
            /// The smaller of two components each.
            pub fn min(self, other: Self) -> Self {
                Self { $first: self.$first.min(other.$first), $($other: self.$other.min(other.$other)),+ }
            }
            /// The larger of two components each.
            pub fn max(self, other: Self) -> Self {
                Self { $first: self.$first.max(other.$first), $($other: self.$other.max(other.$other)),+ }
            }
            /// The absolute values of the components.
            pub fn abs(self) -> Self {
                Self { $first: self.$first.abs(), $($other: self.$other.abs()),+ }
            }
            /// `yes` where the mask is true, `no` elsewhere: [`Real::select`] of vectors.
            pub fn select(mask: R::Mask, yes: Self, no: Self) -> Self {
                Self {
                    $first: R::select(mask, yes.$first, no.$first),
                    $($other: R::select(mask, yes.$other, no.$other)),+
                }
            }
        }

        /// A constant vector.
        #[model]
        impl<R: Real> From<[f32; $dimension]> for $vector<R> {
            fn from([$first, $($other),+]: [f32; $dimension]) -> Self {
                Self { $first: R::from($first), $($other: R::from($other)),+ }
            }
        }
        #[model]
        impl<R: Real> Neg for $vector<R> {
            type Output = Self;
            fn neg(self) -> Self {
                Self { $first: -self.$first, $($other: -self.$other),+ }
            }
        }
        #[model]
        impl<R: Real> Add for $vector<R> {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self { $first: self.$first + other.$first, $($other: self.$other + other.$other),+ }
            }
        }
        #[model]
        impl<R: Real> Sub for $vector<R> {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self { $first: self.$first - other.$first, $($other: self.$other - other.$other),+ }
            }
        }
        #[model]
        impl<R: Real, S: Into<R>> Mul<S> for $vector<R> {
            type Output = Self;
            fn mul(self, factor: S) -> Self {
                let factor = factor.into();
                Self { $first: self.$first * factor, $($other: self.$other * factor),+ }
            }
        }
        #[model]
        impl<R: Real, S: Into<R>> Div<S> for $vector<R> {
            type Output = Self;
            fn div(self, divisor: S) -> Self {
                let divisor = divisor.into();
                Self { $first: self.$first / divisor, $($other: self.$other / divisor),+ }
            }
        }
        #[model]
        impl<R: Real> AddAssign for $vector<R> {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }
        #[model]
        impl<R: Real> SubAssign for $vector<R> {
            fn sub_assign(&mut self, other: Self) {
                *self = *self - other;
            }
        }
        #[model]
        impl<R: Real, S: Into<R>> MulAssign<S> for $vector<R> {
            fn mul_assign(&mut self, factor: S) {
                *self = *self * factor;
            }
        }
        #[model]
        impl<R: Real, S: Into<R>> DivAssign<S> for $vector<R> {
            fn div_assign(&mut self, divisor: S) {
                *self = *self / divisor;
            }
        }

        /// The components, in order.
        #[model]
        impl<R: Real> ModelParams<R> for $vector<R> {
            const NAME: &'static str = stringify!($vector);
            const COUNT: usize = $dimension;

            fn read(at: &StepContext<'_, R>, first: usize) -> Self {
                Self::from_array(<[R; $dimension]>::read(at, first))
            }
            fn write(&self, values: &mut [R]) {
                self.to_array().write(values);
            }
            fn name(index: usize) -> String {
                format!(".{}", [stringify!($first), $(stringify!($other)),+][index])
            }
        }
    )*};
}
vectors! {
    Vec2 2: x y;
    Vec3 3: x y z;
}

#[model]
impl<R: Real> Vec2<R> {
    /// The vector of length 1 at an angle (in radians) from the x axis: (cos, sin).
    pub fn from_angle(angle: R) -> Self {
        let (y, x) = angle.sin_cos();
        Self { x, y }
    }
    /// The angle (in radians) from the x axis, in [−π, π].
    pub fn to_angle(self) -> R {
        self.y.atan2(self.x)
    }
    /// The vector turned by 90°, counter-clockwise.
    pub fn perp(self) -> Self {
        Self { x: -self.y, y: self.x }
    }
    /// The determinant of the two vectors, x₁ y₂ − y₁ x₂: positive if `other` is to the left.
    pub fn perp_dot(self, other: Self) -> R {
        self.x * other.y - self.y * other.x
    }
    /// `other`, turned by the angle of this vector and scaled by its length.
    pub fn rotate(self, other: Self) -> Self {
        Self { x: self.x * other.x - self.y * other.y, y: self.y * other.x + self.x * other.y }
    }
    /// The vector in space with this third component.
    pub fn extend(self, z: impl Into<R>) -> Vec3<R> {
        Vec3 { x: self.x, y: self.y, z: z.into() }
    }
}

#[model]
impl<R: Real> Vec3<R> {
    /// The cross product.
    pub fn cross(self, other: Self) -> Self {
        Self {
            x: self.y * other.z - self.z * other.y,
            y: self.z * other.x - self.x * other.z,
            z: self.x * other.y - self.y * other.x,
        }
    }
    /// The vector without its third component.
    pub fn truncate(self) -> Vec2<R> {
        Vec2 { x: self.x, y: self.y }
    }
}
