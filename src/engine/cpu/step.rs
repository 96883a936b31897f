//! The step: x⁺ = a·m + b·x + c·z, within the limits. Twin: `shaders/step.wgsl`.

use crate::noise::normal;
use crate::update::{LIMITED, Layout, Update};

/// The word of the counter that keeps the noise of the step apart from that of the rows.
pub(crate) const STREAM: u32 = 1 << 24;

/// Moves `x` to the next point, given the mean of the rows.
pub(crate) fn step(update: &Update, layout: Layout, inputs: &[f32], mean: &[f32], x: &mut [f32]) {
    for (d, (x, m)) in x.iter_mut().zip(mean).enumerate() {
        let mut next = update.b.mul_add(*x, update.a * m);
        if update.c != 0.0 {
            let z = normal::four::<f32>([0, (d / 4) as u32, update.number, STREAM], update.seed)[d % 4];
            next = update.c.mul_add(z, next);
        }
        if update.has(LIMITED) {
            let control = d % layout.controls;
            next = next.clamp(inputs[layout.low() + control], inputs[layout.high() + control]);
        }
        *x = next;
    }
}
