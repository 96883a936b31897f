//! The published 2-D car: a whole reverse process of model-based diffusion.

use std::path::Path;

use anyhow::Result;
use gibbs::sampling::{ReverseProcess, Schedule};
use gibbs::{DiffusionOptions, DiffusionPlanner, Engine, Limits, References, Temperature, Weighting};

use crate::car::{Car, DT, HORIZON, START, reward};
use crate::demonstration;
use crate::task::{Size, Task, dump};

pub struct Car2d {
    planner: DiffusionPlanner<3, 2, Car>,
    levels: usize,
    seed: u64,
    reward: f32,
}

pub fn task(engine: &Engine, Size { samples, horizon }: Size, demo: Option<Vec<[f32; 2]>>) -> Result<Car2d> {
    // The cost of the row nearest to the demonstration: the demonstration's own mean cost.
    let demonstrated = demo.as_deref().map(|demo| -demonstration::worth(demo));
    // The model always implements its departure; it has no effect without a demonstration.
    let values = demo.unwrap_or_else(|| vec![[0.0; 2]]).into_flattened();
    let options = DiffusionOptions {
        task: gibbs::Task {
            horizon: HORIZON,
            dt: DT,
            limits: Some(Limits { low: [-1.0; 2], high: [1.0; 2] }),
            references: Some(References { values, columns: 2 }),
            ..Default::default()
        },
        samples,
        process: ReverseProcess {
            schedule: Schedule::Linear { levels: horizon, first: 1e-4, last: 1e-2 },
            ..Default::default()
        },
        weighting: Weighting::Exponential(Temperature::Standardized(0.1)),
        demonstration: demonstrated,
        ..Default::default()
    };
    let planner = DiffusionPlanner::new(engine, Car::default(), options)?;
    Ok(Car2d { planner, levels: horizon, seed: 0, reward: 0.0 })
}

impl Task for Car2d {
    fn prepare(&mut self) {
        self.planner.reseed(self.seed);
        self.seed += 1;
    }

    fn update(&mut self) -> Result<()> {
        self.planner.reset();
        self.reward = reward(self.planner.plan(&START)?.states());
        Ok(())
    }

    fn reward(&self) -> Option<f32> {
        Some(self.reward)
    }

    /// The middle level, and the mean of the costs per step.
    fn dump(&mut self, folder: &Path) -> Result<()> {
        self.planner.reset();
        self.planner.plan_first(&START, self.levels.div_ceil(2))?;
        dump(&mut self.planner, &START, 1.0 / HORIZON as f32, folder)
    }
}
