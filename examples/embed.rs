//! A boat that comes to rest at its jetty: a system of your own and a running controller.
//!
//! `cargo run --release --example embed`

use std::io::Write;

use gibbs::{Engine, Limits, Model, Mppi, MppiOptions, Noise, Real, StepContext, Task};

/// Position x, y (m), heading (rad) and speed (m/s), with drag; driven by thrust (m/s²) and rudder (rad/m).
struct Boat;

#[gibbs::model]
impl Model<4, 2> for Boat {
    fn step<R: Real>(&self, at: &StepContext<R>, [x, y, heading, speed]: [R; 4], [thrust, rudder]: [R; 2]) -> [R; 4] {
        let (sin, cos) = heading.sin_cos();
        let (travel, drag) = (speed * at.dt(), speed * 0.3);
        [x + travel * cos, y + travel * sin, heading + travel * rudder, speed + (thrust - drag) * at.dt()]
    }
    fn cost<R: Real>(&self, _at: &StepContext<R>, [x, y, _, speed]: [R; 4], _u: [R; 2]) -> R {
        x.square() + y.square() + speed.square()
    }
}

fn main() -> anyhow::Result<()> {
    let engine = Engine::new()?;
    let options = MppiOptions {
        task: Task { dt: 0.1, limits: Some(Limits { low: [-1.0, -0.5], high: [1.0, 0.5] }), ..Default::default() },
        noise: Noise::Diagonal([0.4, 0.2]), // a fifth of each range
        ..Default::default()
    };
    let mut mppi = Mppi::new(&engine, Boat, options)?;
    let mut state = [-20.0, 10.0, 0.0, 0.0];
    for _ in 0..300 {
        let control = mppi.plan(&state)?.controls()[0];
        mppi.shift(1);
        state = Boat.step(&StepContext::new(0, 0.1), state, control); // your boat goes here
    }
    let [x, y, _, speed] = state;
    writeln!(std::io::stdout(), "{:.2} m from the jetty at {:.2} m/s, on {}", x.hypot(y), speed.abs(), engine.name())?;
    Ok(())
}
