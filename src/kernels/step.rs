//! The step: x⁺ = a·m + b·x + c·L z, clamped to the limits. Twin: `shaders/step.wgsl`.

use super::pass::{ADAPT, CLAMPED, FILTERED, Layout, Pass, STD_SCALE};
use super::propose::shape::Filter;
use crate::lang::normal;
use crate::lang::stream::Stream;

/// The step of one problem.
pub(crate) struct Step<'a> {
    pub(crate) pass: &'a Pass,
    pub(crate) layout: Layout,
    pub(crate) inputs: &'a [f32],
    /// The problem index.
    pub(crate) number: u32,
}

impl Step<'_> {
    /// Moves `x` to the next point, given the moments of the rows: their mean, and behind it the second moment about
    /// `x` (of innovations, about 0), if the standard-deviation scale adapts. Of filtered rows, `filter` maps
    /// innovations to controls, and `moments` are overwritten.
    pub(crate) fn run(&self, filter: Option<&Filter>, moments: &mut [f32], x: &mut [f32], std_scale: &mut [f32]) {
        let Self { pass, layout, .. } = self;
        let (mean, second) = moments.split_at_mut(pass.coordinates as usize);
        let Some(filter) = filter.filter(|_| pass.has(FILTERED)) else {
            for (d, (x, m)) in x.iter_mut().zip(mean).enumerate() {
                let control = d % layout.controls;
                let factor = self.covariance_adaptation(d, *m - *x, second, std_scale);
                let mut next = pass.b.mul_add(*x, pass.a * *m);
                if pass.c != 0.0 {
                    next = pass.c.mul_add(self.noise(d, control) * factor, next);
                }
                *x = self.limited(control, next);
            }
            return;
        };
        // With m = x + B θ, x⁺ = (a + b)·x + B (a·θ + c·L z).
        for (d, m) in mean.iter_mut().enumerate() {
            let factor = self.covariance_adaptation(d, *m, second, std_scale);
            *m *= pass.a;
            if pass.c != 0.0 {
                *m = pass.c.mul_add(self.noise(d, d % layout.controls) * factor, *m);
            }
        }
        filter.apply(pass.horizon as usize, layout.controls, mean, |t, control, moved| {
            // Controls that are on their way are fixed.
            if t < pass.delay as usize {
                return;
            }
            let x = &mut x[t * layout.controls + control];
            *x = self.limited(control, (pass.a + pass.b).mul_add(*x, moved));
        });
    }

    /// Returns the factor on the noise of coordinate `d`, and adapts it to the rows for the next pass. `off` is the
    /// distance of their mean from the center that they were drawn around.
    fn covariance_adaptation(&self, d: usize, off: f32, second: &[f32], std_scale: &mut [f32]) -> f32 {
        let Self { pass, layout, inputs, .. } = self;
        let factor = if pass.has(STD_SCALE) { std_scale[d] } else { 1.0 };
        if pass.has(ADAPT) {
            let deviation = (second[d] - off * off).max(0.0).sqrt();
            let control = d % layout.controls;
            let row = &inputs[layout.factor() + control * layout.controls..][..=control];
            let unit = row.iter().map(|l| l * l).sum::<f32>().sqrt() * pass.scale;
            let found = (deviation / unit).max(pass.floor);
            std_scale[d] = (1.0 - pass.a).mul_add(std_scale[d], pass.a * found);
        }
        factor
    }

    /// Clamps a control to its limits, if the pass asks for it.
    fn limited(&self, control: usize, u: f32) -> f32 {
        let Self { pass, layout, inputs, .. } = self;
        if !pass.has(CLAMPED) {
            return u;
        }
        u.clamp(inputs[layout.low() + control], inputs[layout.high() + control])
    }

    /// Coordinate `d` of L z: noise with the same covariance factor as the rows.
    fn noise(&self, d: usize, control: usize) -> f32 {
        let Self { pass, layout, inputs, number } = self;
        let mut shaped = 0.0;
        for j in 0..=control {
            let l = inputs[layout.factor() + control * layout.controls + j];
            if l != 0.0 {
                let e = d - control + j;
                let counter = [0, (e / 4) as u32, pass.number, Stream::Step.word(*number)];
                shaped = normal::box_muller_at(counter, pass.seed)[e % 4].mul_add(l, shaped);
            }
        }
        shaped
    }
}
