//! The closed loop behind the page: plan, apply the first control, observe.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gibbs::models::Unicycle;
use gibbs::{Engine, Grid, Model, Mppi, MppiOptions, Noise, StepContext, Task, Temperature, WithCost};
use indicatif::ProgressBar;

use crate::closed_loop::{DT, Planner};
use crate::distance::{Clearance, Comfort, CostToGo};
use crate::fields::{Fields, MOST_CELLS};
use crate::maneuver::{self, Goal};
use crate::map::{Cell, Map};
use crate::robot::{COST_TO_GO, DISTANCE, NavigateCost, Robot};

/// The robot's radius (in meters).
pub const RADIUS: f32 = 0.2;
/// The distance from the goal that counts as arrived (in meters).
const TOLERANCE: f32 = 0.25;
/// A robot this slow (in m/s and in rad/s) is at rest.
const REST: [f32; 2] = [0.05, 0.1];
/// The number of substeps of the simulated world per time step.
const PIECES: usize = 10;
/// Where the robot starts and first goes on the map of the example (in meters and radians).
const START: [f32; 3] = [3.9, 1.85, 0.0];
const GOAL: [f32; 2] = [8.6, 7.2];
/// Clearance that the way keeps beyond the radius if possible, the margin in which it costs more (in meters), and the
/// extra weight at contact.
const COMFORT: (f64, f64, f64) = (0.02, 0.3, 3.0);

/// What the page's sliders set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// A factor on the standard deviations of the sampled controls.
    pub sigma: f32,
    /// The temperature λ.
    pub lambda: f32,
    /// Time steps of a plan.
    pub horizon: usize,
    /// Sampled rollouts per plan.
    pub rows: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { sigma: 1.0, lambda: 5.0, horizon: 40, rows: 1024 }
    }
}

/// A robot on its way to a goal.
pub struct Drive {
    planner: Planner<Unicycle>,
    settings: Settings,
    /// The map without obstacles that were added, and with them; in its own frame.
    empty: Map,
    map: Map,
    grids: [Grid; 2],
    goal: Goal,
    state: [f32; 3],
    twist: [f32; 2],
    collisions: usize,
    touching: bool,
    plan_time: Duration,
    effective_samples: f32,
    fan: Vec<Sampled>,
    /// The controls of the last plan, before a maneuver may have replaced it.
    sampled: Vec<[f32; 2]>,
}

/// A sampled rollout: its weight relative to the largest, and its positions.
pub struct Sampled {
    pub weight: f32,
    pub places: Vec<[f32; 2]>,
}

impl Drive {
    /// Begins a drive on the map of the example `navigate`.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, or the device fails.
    pub async fn new(engine: &Engine, settings: Settings) -> Result<Self> {
        let map = office();
        let goal = Goal { at: GOAL, yaw: None, tolerance: TOLERANCE };
        let grids = fields(&map, goal, START, settings.horizon)?;
        let cost = NavigateCost {
            radius: RADIUS,
            slack: 0.01,
            look_ahead: RADIUS,
            brake: Unicycle::default().slowing(None)[0],
            twist: Unicycle::default().twist(),
        };
        let model: WithCost<Unicycle, NavigateCost> = Unicycle::default().with_cost(cost);
        let planner = Mppi::new_async(engine, model, options(settings, goal, &grids)).await?;
        Ok(Self {
            planner,
            settings,
            empty: map.clone(),
            map,
            grids,
            goal,
            state: START,
            twist: [0.0; 2],
            collisions: 0,
            touching: false,
            plan_time: Duration::ZERO,
            effective_samples: 0.0,
            fan: Vec::new(),
            sampled: Vec::new(),
        })
    }

    /// Plans, fetches at most `most` rollouts, drives for one time step, and returns whether the robot has arrived.
    ///
    /// # Errors
    ///
    /// If no rollout has a finite cost, or the device fails.
    pub async fn step(&mut self, most: usize) -> Result<bool> {
        let plan = self.planner.plan_async(&self.state).await?;
        (self.plan_time, self.effective_samples) = (plan.timing().total, plan.effective_samples());
        self.sampled = plan.controls().to_vec();
        self.fan = if most > 0 { self.fetch(most).await? } else { Vec::new() };
        if let Some(maneuver) = maneuver::better(&self.planner, &self.grids[COST_TO_GO], self.goal, self.state)? {
            self.planner.set_controls(&maneuver)?;
        }
        let controls = self.planner.advance();
        let robot = Unicycle::default();
        self.twist = robot.twist().map(|[a, b]| a * controls[0] + b * controls[1]);
        for _ in 0..PIECES {
            self.state = robot.step(&StepContext::<f32>::new(0, DT / PIECES as f32), self.state, controls);
            // The field is interpolated between the middles of cells.
            let touching = self.clearance() < -self.map.resolution as f32;
            self.collisions += usize::from(touching && !self.touching);
            self.touching = touching;
        }
        Ok(self.has_arrived())
    }

    /// Whether the robot is at rest at its goal.
    pub fn has_arrived(&self) -> bool {
        let [x, y, _] = self.state;
        let left = (x - self.goal.at[0]).hypot(y - self.goal.at[1]);
        left <= TOLERANCE && self.twist[0].abs() <= REST[0] && self.twist[1].abs() <= REST[1]
    }

    /// Rollouts of the last plan, chosen evenly by weight, the heaviest first.
    async fn fetch(&mut self, most: usize) -> Result<Vec<Sampled>> {
        let samples = self.planner.samples_async().await?;
        let weights = samples.weights();
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
        let heaviest = order.first().map_or(1.0, |&k| weights[k]).max(f32::MIN_POSITIVE);
        let chosen = order.into_iter().step_by(weights.len().div_ceil(most));
        let places = |k: usize| samples.states(k).iter().map(|&[x, y, _]| [x, y]).collect();
        Ok(chosen.map(|k| Sampled { weight: weights[k] / heaviest, places: places(k) }).collect())
    }

    /// The positions along the plan that the next call starts from.
    ///
    /// # Errors
    ///
    /// If the state is not finite.
    pub fn planned(&self) -> Result<Vec<[f32; 2]>> {
        let (states, _) = self.planner.simulate(&self.state, self.planner.controls())?;
        Ok(states.iter().map(|&[x, y, _]| [x, y]).collect())
    }

    /// Applies new settings. After an error the old ones stay.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, or the device fails.
    pub async fn set(&mut self, settings: Settings) -> Result<()> {
        if (settings.horizon, settings.rows) != (self.settings.horizon, self.settings.rows) {
            self.planner.resize_async(settings.horizon, settings.rows).await?;
            (self.settings.horizon, self.settings.rows) = (settings.horizon, settings.rows);
        }
        if settings != self.settings {
            self.planner.set_options_async(options(settings, self.goal, &self.grids)).await?;
            self.settings = settings;
        }
        Ok(())
    }

    /// Drives to another goal.
    ///
    /// # Errors
    ///
    /// If the robot does not fit there or cannot get there. Then the old goal stays.
    pub fn set_goal(&mut self, at: [f32; 2]) -> Result<()> {
        let goal = Goal { at, ..self.goal };
        self.replace(self.map.clone(), goal)
    }

    /// Adds a round obstacle, wherever it does not touch the robot.
    ///
    /// # Errors
    ///
    /// If no way to the goal is left. Then there is no obstacle.
    pub fn add_obstacle(&mut self, [x, y]: [f32; 2], radius: f32) -> Result<()> {
        let mut map = self.map.clone();
        for cell in 0..map.cells.len() {
            let [i, j] = [cell % map.width, cell / map.width].map(|v| v as f64 + 0.5);
            let [cx, cy] = map.to_world([i, j]).map(|v| v as f32);
            let free = (cx - self.state[0]).hypot(cy - self.state[1]) < RADIUS + 0.1;
            if (cx - x).hypot(cy - y) <= radius && !free {
                map.cells[cell] = Cell::Occupied;
            }
        }
        self.replace(map, self.goal)
    }

    /// Removes all obstacles that were added.
    ///
    /// # Errors
    ///
    /// None that can be expected.
    pub fn clear(&mut self) -> Result<()> {
        self.replace(self.empty.clone(), self.goal)
    }

    /// Replaces the map and the goal, and what the planner has of them.
    fn replace(&mut self, map: Map, goal: Goal) -> Result<()> {
        let grids = fields(&map, goal, self.state, self.settings.horizon)?;
        for (index, grid) in grids.iter().enumerate() {
            self.planner.set_field(index, grid.clone())?;
        }
        self.planner.set_params(&NavigateCost::params(goal))?;
        (self.map, self.goal, self.grids) = (map, goal, grids);
        Ok(())
    }

    /// The distance between the robot's hull and the nearest obstacle (in meters).
    pub fn clearance(&self) -> f32 {
        self.grids[DISTANCE].sample(self.state[0], self.state[1]) - RADIUS
    }

    /// The rollouts that the last step fetched.
    pub fn fan(&self) -> &[Sampled] {
        &self.fan
    }

    /// The controls of the last plan, before a maneuver may have replaced it.
    pub fn controls(&self) -> &[[f32; 2]] {
        &self.sampled
    }

    pub fn engine(&self) -> &Engine {
        self.planner.engine()
    }

    /// x, y (in meters) and heading (in radians).
    pub fn pose(&self) -> [f32; 3] {
        self.state
    }

    /// Speed (in m/s) and turn rate (in rad/s).
    pub fn twist(&self) -> [f32; 2] {
        self.twist
    }

    pub fn goal(&self) -> [f32; 2] {
        self.goal.at
    }

    /// How often the robot has run into something.
    pub fn collisions(&self) -> usize {
        self.collisions
    }

    /// How long the last plan took.
    pub fn plan_time(&self) -> Duration {
        self.plan_time
    }

    pub fn effective_samples(&self) -> f32 {
        self.effective_samples
    }

    /// Width and height in cells, and the side of a cell (in meters).
    pub fn size(&self) -> (usize, usize, f64) {
        (self.map.width, self.map.height, self.map.resolution)
    }

    /// The cells, the row with the smallest y first: 0 free, 1 unknown, 2 occupied.
    pub fn cells(&self) -> Vec<u8> {
        self.map.cells.iter().map(|cell| *cell as u8).collect()
    }
}

/// The map of the example `navigate`, in its own frame: see build.rs.
fn office() -> Map {
    let packed = include_bytes!(concat!(env!("OUT_DIR"), "/cells"));
    let cell = |bits: u8| match bits {
        0 => Cell::Free,
        1 => Cell::Unknown,
        _ => Cell::Occupied,
    };
    let cells = packed.iter().flat_map(|byte| [0, 2, 4, 6].map(|at| cell(byte >> at & 3))).collect();
    include!(concat!(env!("OUT_DIR"), "/map.rs"))
}

/// The options of the planner.
pub fn options(settings: Settings, goal: Goal, grids: &[Grid; 2]) -> MppiOptions<2> {
    let robot = Unicycle::default();
    let noise = match robot.noise(1.0) {
        Noise::Covariance(covariance) => {
            Noise::Covariance(covariance.map(|row| row.map(|v| v * settings.sigma * settings.sigma)))
        }
        other => other,
    };
    MppiOptions {
        task: Task {
            horizon: settings.horizon,
            dt: DT,
            limits: Some(robot.limits(1.0)),
            params: NavigateCost::params(goal).to_vec(),
            fields: grids.to_vec(),
            ..Default::default()
        },
        samples: settings.rows,
        weighting: Temperature::Fixed(settings.lambda).into(),
        noise,
        ..Default::default()
    }
}

/// The distance to obstacles and the cost to go.
fn fields(map: &Map, goal: Goal, [x, y, _]: [f32; 3], horizon: usize) -> Result<[Grid; 2]> {
    let (from, to) = ([x.into(), y.into()], goal.at.map(f64::from));
    let free = map.cell_at(to).is_some_and(|cell| map.cells[cell] == Cell::Free);
    ensure!(free, "the goal must be in free space");
    let clearance = Clearance::new(map);
    let bar = ProgressBar::hidden();
    let (spare, margin, weight) = COMFORT;
    let mut ways = [spare, 0.0].into_iter().filter_map(|spare| {
        let comfort = Comfort { radius: f64::from(RADIUS) + spare, margin, weight };
        CostToGo::new(map, &clearance, comfort, to, &bar).filter(|way| way.from(from).is_some())
    });
    let way = ways.next().context("the robot cannot get there")?;
    let reach = f64::from(maneuver::reach(horizon));
    Ok(Fields::new(map, &clearance, &way, from, reach, MOST_CELLS)?.grids().clone())
}
