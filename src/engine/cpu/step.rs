//! The step: x⁺ = a·m + b·x + c·L z, clamped to the limits. Twin: `shaders/step.wgsl`.

use crate::noise::{Stream, normal};
use crate::pass::{ADAPT, CLAMPED, Layout, Pass, STD_SCALE};

/// The step of one problem.
pub(crate) struct Step<'a> {
    pub(crate) pass: &'a Pass,
    pub(crate) layout: Layout,
    pub(crate) inputs: &'a [f32],
    /// The problem index.
    pub(crate) number: u32,
}

impl Step<'_> {
    /// Moves `x` to the next point, given the moments of the rows: their mean, followed by the second moment about `x`
    /// if the standard-deviation scale is adapted.
    pub(crate) fn run(&self, moments: &[f32], x: &mut [f32], std_scale: &mut [f32]) {
        let Self { pass, layout, inputs, .. } = self;
        let (mean, second) = moments.split_at(x.len());
        for (d, (x, m)) in x.iter_mut().zip(mean).enumerate() {
            let control = d % layout.controls;
            let factor = if pass.has(STD_SCALE) { std_scale[d] } else { 1.0 };
            if pass.has(ADAPT) {
                let off = m - *x;
                let deviation = (second[d] - off * off).max(0.0).sqrt();
                let row = &inputs[layout.factor() + control * layout.controls..][..=control];
                let unit = row.iter().map(|l| l * l).sum::<f32>().sqrt() * pass.scale;
                let found = (deviation / unit).max(pass.floor);
                std_scale[d] = (1.0 - pass.a).mul_add(std_scale[d], pass.a * found);
            }
            let mut next = pass.b.mul_add(*x, pass.a * m);
            if pass.c != 0.0 {
                next = pass.c.mul_add(self.noise(d, control) * factor, next);
            }
            if pass.has(CLAMPED) {
                next = next.clamp(inputs[layout.low() + control], inputs[layout.high() + control]);
            }
            *x = next;
        }
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
