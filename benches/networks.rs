//! What a learned model costs: plans of a cart-pole whose accelerations are a network, with the weights of the task
//! ([`StepContext::network`]), beside the same network written out over run-time parameters.
//!
//! ```sh
//! cargo bench --bench networks
//! ```
//!
//! Calls of all of them alternate, so that they meet the same load of the machine; the figures are the least time of a
//! call. A trace has at most 8,192 operations, so the network that is written out has 2 × 40 units.

use std::time::{Duration, Instant};

use gibbs::models::CartPole;
use gibbs::policies::{Activation, Network};
use gibbs::runtime::Instructions;
use gibbs::{Backend, Engine, EngineOptions, Limits, Model, Mppi, MppiOptions, Random, Real, StepContext, Task};

const SAMPLES: usize = 512;
const HORIZON: usize = 30;
/// The calls of each.
const CALLS: usize = 200;
/// The units of the layers that are written out.
const H: usize = 40;

/// A cart-pole (position, angle, and their rates) whose accelerations are a network of sine and cosine of the angle,
/// the rates and the force.
struct Learned {
    network: Network,
    cost: CartPole,
    written_out: bool,
}

impl Model<4, 1> for Learned {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [p, q, v, w]: [R; 4], [u]: [R; 1]) -> [R; 4] {
        let (s, c) = q.sin_cos();
        let x = [s, c, v, w, u];
        let [a, b, da, db] = if self.written_out { written_out(at, x) } else { at.network(&self.network, x) };
        let (v, w) = (v + (a + da) * at.dt(), w + (b + db) * at.dt());
        [p + v * at.dt(), q + w * at.dt(), v, w]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 4], u: [R; 1]) -> R {
        self.cost.cost(at, x, u)
    }
}

#[inline(always)]
fn written_out<R: Real>(at: &StepContext<R>, x: [R; 5]) -> [R; 4] {
    let (mut first, mut second, mut y) = ([R::from(0.0); H], [R::from(0.0); H], [R::from(0.0); 4]);
    layer(at, 0, &x, &mut first);
    first.iter_mut().for_each(|unit| *unit = unit.tanh());
    layer(at, 6 * H, &first, &mut second);
    second.iter_mut().for_each(|unit| *unit = unit.tanh());
    layer(at, 6 * H + (H + 1) * H, &second, &mut y);
    y
}

#[inline(always)]
fn layer<R: Real>(at: &StepContext<R>, from: usize, x: &[R], sums: &mut [R]) {
    let biases = from + x.len() * sums.len();
    for (o, sum) in sums.iter_mut().enumerate() {
        *sum = at.param(biases + o);
        for (i, value) in x.iter().enumerate() {
            *sum = at.param(from + o * x.len() + i).mul_add(*value, *sum);
        }
    }
}

fn main() -> Result<(), gibbs::Error> {
    for instructions in [Instructions::Best, Instructions::Avx2] {
        let engine = Engine::with_options(EngineOptions { backend: Backend::Cpu, instructions, ..Default::default() })?;
        println!("{}, {SAMPLES} rows of {HORIZON} time steps, least of {CALLS} calls", engine.name());
        let mut planners = Vec::new();
        for (name, activation, units, written_out) in [
            ("2 x 40, tanh, written out", Activation::Tanh, H, true),
            ("2 x 40, tanh", Activation::Tanh, H, false),
            ("2 x 64, tanh", Activation::Tanh, 64, false),
            ("2 x 64, relu", Activation::Relu, 64, false),
            ("2 x 64, gelu", Activation::Gelu, 64, false),
            ("2 x 64, sin", Activation::Sin, 64, false),
            ("2 x 128, tanh", Activation::Tanh, 128, false),
        ] {
            let network = Network::new(0, &[5, units, units, 4], activation)?;
            let weights = network.initial(&mut Random::new(1));
            let mut task =
                Task { horizon: HORIZON, limits: Some(Limits { low: [-20.0], high: [20.0] }), ..Default::default() };
            if written_out {
                task.params = weights;
            } else {
                task.weights = weights;
            }
            let model = Learned { network, cost: CartPole::default(), written_out };
            let options = MppiOptions { task, samples: SAMPLES, ..Default::default() };
            planners.push((name, Mppi::new(&engine, model, options)?, Duration::MAX));
        }
        for _ in 0..CALLS {
            for (_, mppi, least) in &mut planners {
                let clock = Instant::now();
                mppi.plan(&[0.3, 2.0, -0.2, 0.5])?;
                *least = clock.elapsed().min(*least);
            }
        }
        for (name, _, least) in &planners {
            println!("    {name:<28} {:>7.3} ms", least.as_secs_f64() * 1e3);
        }
    }
    Ok(())
}
