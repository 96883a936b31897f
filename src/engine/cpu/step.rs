//! The step: x⁺ = a·m + b·x + c·z, within the limits. Twin: `shaders/step.wgsl`.

use crate::noise::normal;
use crate::update::{ADAPT, CLAMPED, Layout, Update};

/// The bit of the counter's last word that keeps the noise of the step apart from that of the rows.
pub(crate) const STREAM: u32 = 1 << 24;

/// The step of one problem.
pub(crate) struct Step<'a> {
    pub(crate) update: &'a Update,
    pub(crate) layout: Layout,
    pub(crate) inputs: &'a [f32],
    /// Which problem it is.
    pub(crate) number: u32,
}

impl Step<'_> {
    /// Moves `x` to the next point, given the moments of the rows: their mean, and behind it the second moment about the
    /// centre that they were drawn around, if the spread is to follow it.
    pub(crate) fn run(&self, moments: &[f32], x: &mut [f32], spread: &mut [f32]) {
        let Self { update, layout, inputs, number } = self;
        let (mean, second) = moments.split_at(x.len());
        for (d, (x, m)) in x.iter_mut().zip(mean).enumerate() {
            let control = d % layout.controls;
            if update.has(ADAPT) {
                let off = m - update.centre * *x;
                let deviation = (second[d] - off * off).max(0.0).sqrt();
                let unit = inputs[layout.factor() + control * (layout.controls + 1)] * update.scale;
                let found = (deviation / unit).max(update.floor);
                spread[d] = (1.0 - update.a).mul_add(spread[d], update.a * found);
            }
            let mut next = update.b.mul_add(*x, update.a * m);
            if update.c != 0.0 {
                let counter = [0, (d / 4) as u32, update.number, STREAM | number];
                next = update.c.mul_add(normal::four::<f32>(counter, update.seed)[d % 4], next);
            }
            if update.has(CLAMPED) {
                next = next.clamp(inputs[layout.low() + control], inputs[layout.high() + control]);
            }
            *x = next;
        }
    }
}
