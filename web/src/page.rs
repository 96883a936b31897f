//! What JavaScript calls. Errors reach it as strings of one sentence.

use gibbs::{Backend, Engine, EngineOptions};
use wasm_bindgen::prelude::*;

use crate::{Drive, Settings};

/// What JavaScript is given of an error.
pub fn sentence(error: impl std::fmt::Display) -> JsValue {
    JsValue::from_str(&format!("{error:#}"))
}

/// Opens the device that a name selects: auto, gpu, software or cpu.
///
/// # Errors
///
/// If there is no such device.
pub async fn open(backend: &str) -> Result<Engine, JsValue> {
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
