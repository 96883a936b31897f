//! [`Optimizer`]: the step of a learner along a direction.

use super::Step;

const FIRST: f32 = 0.9;
const SECOND: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// A learner's moments of earlier gradients. They are zero where its step does not use them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Optimizer {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    /// Steps so far.
    pub(crate) count: u32,
}

impl Optimizer {
    pub(crate) fn new(width: usize) -> Self {
        Self { first: vec![0.0; width], second: vec![0.0; width], count: 0 }
    }

    pub(crate) fn is_finite(&self) -> bool {
        self.first.iter().chain(&self.second).all(|moment| moment.is_finite())
    }

    /// Moves `values` uphill along `direction`: a gradient, which for [`Step::Natural`] has already been divided by the
    /// Fisher information.
    pub(crate) fn step(&mut self, step: &Step, rate: f32, direction: &[f32], values: &mut [f32]) {
        // Saturates, because a checkpoint may hold any count.
        self.count = self.count.saturating_add(1);
        let parts = values.iter_mut().zip(direction).zip(self.first.iter_mut().zip(&mut self.second));
        match step {
            Step::Plain { .. } | Step::Natural { .. } => {
                parts.for_each(|((value, g), _)| *value = rate.mul_add(*g, *value));
            }
            Step::Momentum { momentum, .. } => {
                for ((value, g), (velocity, _)) in parts {
                    *velocity = momentum.mul_add(*velocity, *g);
                    *value = rate.mul_add(*velocity, *value);
                }
            }
            Step::Adam { .. } => {
                let correction = |beta: f32| 1.0 / (1.0 - f64::from(beta).powf(f64::from(self.count)));
                let (first, second) = (correction(FIRST) as f32, correction(SECOND) as f32);
                for ((value, g), (m, v)) in parts {
                    *m = FIRST * *m + (1.0 - FIRST) * g;
                    *v = SECOND * *v + (1.0 - SECOND) * g * g;
                    *value += rate * (*m * first) / ((*v * second).sqrt() + EPSILON);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learning::Anneal;

    #[test]
    fn every_step_climbs_a_hill_the_way_it_should() {
        let rate = Anneal::from(0.1);
        let steps =
            [Step::Plain { rate }, Step::Natural { rate }, Step::Momentum { rate, momentum: 0.5 }, Step::Adam { rate }];
        // The distance moved by two steps along a constant gradient of 2; −4 moves twice as far the other way, except
        // with Adam.
        let moved = [0.4, 0.4, 0.2 + 0.3, 0.2];
        for (step, moved) in steps.iter().zip(moved) {
            let mut optimizer = Optimizer::new(2);
            let mut values = [1.0, 1.0];
            for _ in 0..2 {
                optimizer.step(step, 0.1, &[2.0, -4.0], &mut values);
            }
            let second = if matches!(step, Step::Adam { .. }) { moved } else { 2.0 * moved };
            assert!((values[0] - 1.0 - moved).abs() < 1e-5, "{step:?}: {values:?}");
            assert!((values[1] - 1.0 + second).abs() < 1e-5, "{step:?}: {values:?}");
        }
    }
}
