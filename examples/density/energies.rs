//! The densities e^{−E(x, y)} that are sampled: a mixture, a ring, a potential from chemistry, and one to be written by
//! the user.

use std::f32::consts::{PI, TAU};

use gibbs::sampling::Energy;
use gibbs::{Real, StepContext};

/// A place for your own energy: write any function of x and y, and run with `--energy own`. Low energies are likely; a
/// difference of 1 is a factor of e. Most of the density should lie within [−3, 3]².
pub struct Own;

#[gibbs::model]
impl Energy<2> for Own {
    fn energy<R: Real>(&self, _at: &StepContext<R>, [x, y]: [R; 2]) -> R {
        // A winding valley.
        let off = y - (x * 2.0).sin() * 1.2;
        off.square() * 8.0 + x.square() * 0.5
    }
}

/// Five Gaussians of unequal weights around a pentagon.
pub struct Mixture;

#[gibbs::model]
impl Energy<2> for Mixture {
    fn energy<R: Real>(&self, _at: &StepContext<R>, [x, y]: [R; 2]) -> R {
        let mut density = R::from(1e-30);
        for k in 0..5 {
            let (s, c) = (0.5 * PI + TAU * k as f32 / 5.0).sin_cos();
            let deviation = 0.15 + 0.05 * k as f32;
            let square = (x - 1.8 * c).square() + (y - 1.8 * s).square();
            let weight = (1.0 + k as f32) / (TAU * deviation * deviation);
            density += (square * (-0.5 / (deviation * deviation))).exp() * weight;
        }
        -density.ln()
    }
}

/// A ring of radius 2 and width 0.15, twice as likely at its right end as at its left.
pub struct Ring;

#[gibbs::model]
impl Energy<2> for Ring {
    fn energy<R: Real>(&self, _at: &StepContext<R>, [x, y]: [R; 2]) -> R {
        let radius = (x.square() + y.square() + 1e-12).sqrt();
        let off = (radius - 2.0) * (1.0 / 0.15);
        off.square() * 0.5 - x / (radius + 0.01) * 0.35
    }
}

/// The potential of K. Müller and L. D. Brown (*Location of saddle points and minimum energy paths by a constrained
/// simplex optimization procedure*, Theoretica Chimica Acta 53, 1979), divided by 20: three wells, joined by two
/// passes. It is shifted and scaled to [−3, 3]².
pub struct MuellerBrown;

#[gibbs::model]
impl Energy<2> for MuellerBrown {
    fn energy<R: Real>(&self, _at: &StepContext<R>, [x, y]: [R; 2]) -> R {
        const WELLS: [[f32; 6]; 4] = [
            // A, a, b, c, x₀, y₀
            [-200.0, -1.0, 0.0, -10.0, 1.0, 0.0],
            [-100.0, -1.0, 0.0, -10.0, 0.0, 0.5],
            [-170.0, -6.5, 11.0, -6.5, -0.5, 1.5],
            [15.0, 0.7, 0.6, 0.7, -1.0, 1.0],
        ];
        let (x, y) = (x * 0.5 - 0.25, y * 0.5 + 0.75);
        let mut sum = R::from(0.0);
        for [height, a, b, c, x0, y0] in WELLS {
            let (dx, dy) = (x - x0, y - y0);
            let exponent = dx.square() * a + dx * dy * b + dy.square() * c;
            // The last term grows without bound; the exponent is clamped, since far away the energy is large enough.
            sum += exponent.min(R::from(4.0)).exp() * height;
        }
        sum * 0.05
    }
}
