//! Plans of fixed problems, to compare browsers and native builds by.

use anyhow::Result;
use gibbs::models::CartPole;
use gibbs::{Engine, Mppi, MppiOptions, Noise, Task, Temperature};

use crate::{Drive, Settings};

/// Plans two cart-poles (λ given, and λ solved for) and a drive, and returns a line for each: a name, then the controls
/// of the plan.
///
/// # Errors
///
/// If the device fails.
pub async fn plans(engine: &Engine) -> Result<String> {
    let mut lines = String::new();
    let mut line = |name: &str, numbers: &[f32]| {
        let numbers: Vec<String> = numbers.iter().map(|v| format!("{v:e}")).collect();
        lines += &format!("{name} {}\n", numbers.join(" "));
    };
    for (name, temperature, samples) in [
        ("cart-pole", Temperature::Fixed(50.0), 1024),
        ("cart-pole-few", Temperature::Fixed(50.0), 200),
        ("cart-pole-effective", Temperature::EffectiveSamples(0.1), 1024),
    ] {
        let mut mppi = cart_pole(engine, samples, 50, temperature).await?;
        let plan = mppi.plan_async(&HANGING).await?;
        line(name, plan.controls().as_flattened());
    }
    let mut drive = Drive::new(engine, Settings::default()).await?;
    drive.step(0).await?;
    line("drive", drive.controls().as_flattened());
    Ok(lines)
}

/// The state that the cart-pole plans from: nearly hanging.
pub const HANGING: [f32; 4] = [0.3, 0.0, std::f32::consts::PI + 0.2, 0.5];

/// MPPI for a cart-pole.
///
/// # Errors
///
/// If a size is out of range, or the device fails.
pub async fn cart_pole(
    engine: &Engine,
    samples: usize,
    horizon: usize,
    temperature: Temperature,
) -> Result<Mppi<4, 1, CartPole>> {
    let options = MppiOptions {
        task: Task { horizon, dt: 0.02, ..Default::default() },
        samples,
        weighting: temperature.into(),
        noise: Noise::Diagonal([4.0]),
        ..Default::default()
    };
    Ok(Mppi::new_async(engine, CartPole::default(), options).await?)
}
