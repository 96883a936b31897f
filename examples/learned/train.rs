//! Trains the network: Adam on the squared errors of accelerations, over random transitions of the true cart-pole.

use gibbs::models::CartPole;
use gibbs::policies::Network;
use gibbs::{Model, Random, StepContext};

use crate::{DT, draw_start, features, targets};

/// The transitions of a step of Adam.
const BATCH: usize = 128;
/// The largest learning rate. It falls to 0 as a cosine.
const RATE: f32 = 3e-3;

/// Returns the weights of a network with hidden units of tanh, and the root mean square error of its last transitions.
pub fn train(network: &Network, seed: u64, quick: bool) -> (Vec<f32>, f32) {
    let steps = if quick { 1500 } else { 15_000 };
    let (mut random, truth) = (Random::new(seed), CartPole::default());
    let mut weights = network.initial(&mut random);
    let mut moments = [vec![0.0_f32; weights.len()], vec![0.0; weights.len()]];
    let mut slopes = vec![0.0; weights.len()];
    let mut error = 1.0;
    for step in 0..steps {
        slopes.fill(0.0);
        let mut sum = 0.0;
        for _ in 0..BATCH {
            let (x, u) = draw_start(&mut random);
            let exact = targets(x, truth.step(&StepContext::new(0, DT), x, u));
            sum += descend(network, &weights, &features(x, u), &exact, &mut slopes);
        }
        error += (sum / (2 * BATCH) as f32 - error) * 0.01;

        // Adam (Kingma and Ba 2015, arXiv:1412.6980) with its published constants.
        let rate = RATE * 0.5 * (1.0 + (std::f32::consts::PI * step as f32 / steps as f32).cos());
        let [first, second] = [0.9_f32, 0.999].map(|decay| 1.0 - decay.powi(step + 1));
        let [mean, square] = &mut moments;
        for (((weight, slope), mean), square) in weights.iter_mut().zip(&slopes).zip(mean).zip(square) {
            let slope = slope / BATCH as f32;
            *mean += (slope - *mean) * 0.1;
            *square += (slope * slope - *square) * 0.001;
            *weight -= rate * (*mean / first) / ((*square / second).sqrt() + 1e-8);
        }
    }
    (weights, error.sqrt())
}

/// Adds the derivatives of half the squared error for one input, by back-propagation, and returns the squared error.
fn descend(network: &Network, weights: &[f32], x: &[f32], exact: &[f32], slopes: &mut [f32]) -> f32 {
    let (sizes, last) = (network.sizes(), network.sizes().len() - 2);
    let mut layers = vec![x.to_vec()];
    let mut at = 0;
    for layer in 0..=last {
        let [inputs, outputs] = [sizes[layer], sizes[layer + 1]];
        let (rows, biases) = weights[at..].split_at(inputs * outputs);
        let sum = |(row, bias): (&[f32], &f32)| row.iter().zip(&layers[layer]).fold(*bias, |sum, (w, x)| w * x + sum);
        let sums = rows.chunks_exact(inputs).zip(biases).map(sum);
        layers.push(if layer < last { sums.map(f32::tanh).collect() } else { sums.collect() });
        at += (inputs + 1) * outputs;
    }
    let mut above: Vec<f32> = layers[last + 1].iter().zip(exact).map(|(found, exact)| found - exact).collect();
    let error = above.iter().map(|error| error * error).sum();
    for layer in (0..=last).rev() {
        let [inputs, outputs] = [sizes[layer], sizes[layer + 1]];
        at -= (inputs + 1) * outputs;
        let below = &layers[layer];
        let mut next = vec![0.0; inputs];
        for (o, slope) in above.iter().enumerate() {
            let row = at + o * inputs;
            for i in 0..inputs {
                next[i] += slope * weights[row + i];
                slopes[row + i] += slope * below[i];
            }
            slopes[at + inputs * outputs + o] += slope;
        }
        above = next.iter().zip(below).map(|(slope, unit)| slope * (1.0 - unit * unit)).collect();
    }
    error
}
