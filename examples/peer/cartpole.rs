//! The shipped cart-pole.

use anyhow::Result;
use gibbs::models::CartPole;
use gibbs::{Engine, Limits, MppiOptions, Noise, Temperature, Weighting};

use crate::task::{Size, Update};

/// Neither hanging at rest nor upright, so that every term of the dynamics and of the cost counts.
const START: [f32; 4] = [0.3, -0.2, 2.0, 0.5];

pub fn task(engine: &Engine, Size { samples, horizon }: Size) -> Result<Update<4, 1, CartPole>> {
    let options = MppiOptions {
        task: gibbs::Task {
            horizon,
            dt: 0.02,
            limits: Some(Limits { low: [-20.0], high: [20.0] }),
            ..Default::default()
        },
        samples,
        weighting: Weighting::Exponential(Temperature::Fixed(10.0)),
        noise: Noise::Diagonal([5.0]),
        ..Default::default()
    };
    Update::new(engine, CartPole::default(), options, START)
}
