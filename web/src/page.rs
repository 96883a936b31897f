//! What JavaScript calls. Errors reach it as strings of one sentence.

use gibbs::check;
use gibbs::lang::WgslFn;
use gibbs::models::CartPole;
use gibbs::{
    Backend, BuildError, Engine, EngineError, EngineOptions, Model, ModelError, Mppi, MppiOptions, PlanError, Real,
    StepContext, Temperature,
};
use wasm_bindgen::prelude::*;

use crate::numbers::{self, HANGING};
use crate::{Drive, Settings};

fn sentence(error: impl std::fmt::Display) -> JsValue {
    JsValue::from_str(&format!("{error:#}"))
}

/// Opens the device that a name selects: auto, gpu, software or cpu.
async fn open(backend: &str) -> Result<Engine, JsValue> {
    let backend: Backend = backend.parse().map_err(sentence)?;
    Engine::new_async(EngineOptions { backend, ..Default::default() }).await.map_err(sentence)
}

/// A drive, as [`Drive`].
#[wasm_bindgen]
pub struct Page(Drive);

#[wasm_bindgen]
impl Page {
    pub async fn open(backend: String, sigma: f32, lambda: f32, horizon: usize, rows: usize) -> Result<Page, JsValue> {
        let engine = open(&backend).await?;
        Drive::new(&engine, Settings { sigma, lambda, horizon, rows }).await.map(Page).map_err(sentence)
    }

    pub async fn step(&mut self, most: usize) -> Result<bool, JsValue> {
        self.0.step(most).await.map_err(sentence)
    }

    pub async fn set(&mut self, sigma: f32, lambda: f32, horizon: usize, rows: usize) -> Result<(), JsValue> {
        self.0.set(Settings { sigma, lambda, horizon, rows }).await.map_err(sentence)
    }

    /// For each rollout: its weight, then x and y of every time step.
    pub fn fan(&self) -> Vec<f32> {
        self.0.fan().iter().flat_map(|row| [&[row.weight], row.places.as_flattened()].concat()).collect()
    }

    /// x and y of every time step.
    pub fn planned(&self) -> Result<Vec<f32>, JsValue> {
        self.0.planned().map(|places| places.as_flattened().to_vec()).map_err(sentence)
    }

    #[wasm_bindgen(js_name = setGoal)]
    pub fn set_goal(&mut self, x: f32, y: f32) -> Result<(), JsValue> {
        self.0.set_goal([x, y]).map_err(sentence)
    }

    #[wasm_bindgen(js_name = addObstacle)]
    pub fn add_obstacle(&mut self, x: f32, y: f32, radius: f32) -> Result<(), JsValue> {
        self.0.add_obstacle([x, y], radius).map_err(sentence)
    }

    pub fn clear(&mut self) -> Result<(), JsValue> {
        self.0.clear().map_err(sentence)
    }

    /// Loses the device, as if it had been unplugged.
    pub fn destroy(&self) {
        self.0.engine().destroy();
    }

    pub fn engine(&self) -> String {
        self.0.engine().name()
    }

    pub fn reason(&self) -> String {
        self.0.engine().reason().to_owned()
    }

    /// x, y, heading, speed and turn rate.
    pub fn pose(&self) -> Vec<f32> {
        [&self.0.pose()[..], &self.0.twist()].concat()
    }

    pub fn goal(&self) -> Vec<f32> {
        self.0.goal().to_vec()
    }

    pub fn radius(&self) -> f32 {
        crate::drive::RADIUS
    }

    pub fn clearance(&self) -> f32 {
        self.0.clearance()
    }

    pub fn collisions(&self) -> usize {
        self.0.collisions()
    }

    /// How long the last plan took (in milliseconds).
    #[wasm_bindgen(js_name = planTime)]
    pub fn plan_time(&self) -> f64 {
        1e3 * self.0.plan_time().as_secs_f64()
    }

    #[wasm_bindgen(js_name = effectiveSamples)]
    pub fn effective_samples(&self) -> f32 {
        self.0.effective_samples()
    }

    /// Width and height in cells, and the side of a cell (in meters).
    pub fn size(&self) -> Vec<f64> {
        let (width, height, resolution) = self.0.size();
        vec![width as f64, height as f64, resolution]
    }

    pub fn cells(&self) -> Vec<u8> {
        self.0.cells()
    }
}

/// The plans of [`numbers::plans`], and the name of the device in front of them.
#[wasm_bindgen(js_name = testPlans)]
pub async fn test_plans(backend: String) -> Result<String, JsValue> {
    let engine = open(&backend).await?;
    let plans = numbers::plans(&engine).await.map_err(sentence)?;
    Ok(format!("{}\n{plans}", engine.name()))
}

/// The median and the least time of a plan of the cart-pole (in milliseconds).
#[wasm_bindgen(js_name = testSpeed)]
pub async fn test_speed(backend: String, samples: usize, horizon: usize, plans: usize) -> Result<Vec<f64>, JsValue> {
    let engine = open(&backend).await?;
    let mut mppi = numbers::cart_pole(&engine, samples, horizon, Temperature::Fixed(50.0)).await.map_err(sentence)?;
    let mut times = Vec::new();
    for _ in 0..=plans {
        let plan = mppi.plan_async(&HANGING).await.map_err(sentence)?;
        times.push(1e3 * plan.timing().total.as_secs_f64());
    }
    // The first one may still compile something.
    times.remove(0);
    times.sort_by(f64::total_cmp);
    Ok(vec![times[times.len() / 2], times[0]])
}

/// A model with a function in WGSL that no compiler accepts.
struct Broken;

const BROKEN: WgslFn<1> =
    WgslFn { name: "broken", source: "fn broken(x: f32) -> f32 { return nonsense; }", twin: |[x]| x };

impl Model<1, 1> for Broken {
    fn step<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
        [BROKEN.call([x + u])]
    }
    fn cost<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1], _: [R; 1]) -> R {
        x.square()
    }
}

/// What goes wrong on purpose, by name: each line is the kind of an error and its sentence.
#[wasm_bindgen(js_name = testErrors)]
pub async fn test_errors(backend: String) -> Result<String, JsValue> {
    let engine = open(&backend).await?;
    let mut lines = Vec::new();
    for attempt in ["first", "second"] {
        let broken = Mppi::new_async(&engine, Broken, MppiOptions::default()).await;
        lines.push(match broken {
            Err(BuildError::Model(error @ ModelError::Shader { .. })) => format!("{attempt} shader: {error}"),
            other => format!("{attempt} other: {:?}", other.map(drop)),
        });
    }
    let with = |backend| EngineOptions { backend, ..Default::default() };
    let kind = |error: EngineError| match error {
        EngineError::WouldBlock => format!("would block: {error}"),
        other => format!("other: {other}"),
    };
    lines.push(Engine::with_options(with(Backend::Auto)).map_or_else(kind, |engine| engine.name()));
    lines.push(match Mppi::new(&engine, CartPole::default(), MppiOptions::default()) {
        Err(BuildError::Engine(error)) => kind(error),
        other => format!("other: {:?}", other.map(drop)),
    });
    // The device is well, and blocking calls change nothing.
    let mut mppi = Mppi::new_async(&engine, CartPole::default(), MppiOptions::default()).await.map_err(sentence)?;
    lines.push(match mppi.plan(&HANGING) {
        Err(PlanError::Engine(error)) => kind(error),
        other => format!("other: {:?}", other.map(drop)),
    });
    lines.push(match check::wgsl_fn(&engine, &BROKEN, &[[1.0]]) {
        Err(BuildError::Engine(error)) => kind(error),
        other => format!("other: {other:?}"),
    });
    let plan = mppi.plan_async(&HANGING).await.map_err(sentence)?;
    lines.push(format!("cost: {}", plan.cost()));
    engine.destroy();
    lines.push(match mppi.plan_async(&HANGING).await {
        Err(PlanError::Engine(error @ EngineError::DeviceLost { .. })) => format!("lost: {error}"),
        other => format!("other: {:?}", other.map(drop)),
    });
    // A compiler explains in several lines.
    Ok(lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n"))
}
