//! The robot, its map and its planner: what is shown.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gibbs::control::Terms;
use gibbs::lang::Region;
use gibbs::models::Unicycle;
use gibbs::runtime::DeviceTrajectories;
use gibbs::{Engine, Grid, Model, Mppi, MppiOptions, Plan, StepContext, Temperature, Weighting};
use indicatif::ProgressBar;

use crate::distance::{Clearance, CostToGo, clearance_up_to};
use crate::fields::{Fields, MOST_CELLS};
use crate::maneuver::{self, Goal};
use crate::map::{Cell, Map};
use crate::robot::{DT, NavigateCost, Planner, Robot};

/// The robot's radius (in meters).
pub const RADIUS: f64 = 0.2;
/// The radius of an obstacle that a drag leaves (in meters).
pub const BRUSH: f64 = 0.12;
/// What obstacles that are drawn must leave around the robot and the goal (in meters).
const ROOM: f64 = RADIUS + 0.06;
/// The distance from the goal that counts as arrived (in meters), and the speed that counts as standing (in m/s).
const ARRIVED: (f64, f32) = (0.1, 0.05);
/// The length of a step of the simulated world (in seconds).
const PIECE: f32 = 0.01;
/// Margin that the planner adds to the radius, for motion between two time steps (in meters).
const SLACK: f32 = 0.01;

/// What the sliders set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The standard deviation of the noise, as a multiple of navigate's.
    pub sigma: f32,
    /// λ, in the unit of the cost, unless it is found from the effective sample size.
    pub lambda: f32,
    pub finds_lambda: bool,
    pub horizon: usize,
    pub samples: usize,
}

/// Numbers of the last plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Statistics {
    pub lambda: f32,
    pub effective_samples: f32,
    pub rows: usize,
    pub plan_time: Duration,
}

impl Statistics {
    fn of(plan: &Plan<3, 2>) -> Self {
        Self {
            lambda: plan.temperature(),
            effective_samples: plan.effective_samples(),
            rows: plan.samples(),
            plan_time: plan.timing().total,
        }
    }
}

/// A robot that drives, and everything that it plans with.
pub struct World {
    /// The map in its own frame, with the obstacles that were drawn.
    pub map: Map,
    /// The cells of the map as it was loaded.
    original: Vec<Cell>,
    /// The clearance and the cost to go.
    pub fields: [Grid; 2],
    /// Counts the changes of cells and fields.
    pub version: u64,
    pub start: [f32; 3],
    pub pose: [f32; 3],
    pub path: Vec<[f32; 2]>,
    pub speed: f32,
    pub driven: f64,
    pub collisions: usize,
    touching: bool,
    pub goal: [f64; 2],
    pub settings: Settings,
    applied: Settings,
    planner: Planner<Unicycle>,
    /// The rows and the plan, on the device.
    pub drawn: Option<DeviceTrajectories>,
    pub terms: Option<Terms>,
    pub statistics: Statistics,
    pub plan_times: Vec<Duration>,
    /// Why the last change was refused.
    pub message: Option<&'static str>,
    /// The changes of the fields that the planner has not been given.
    pending_fields: [Option<Region>; 2],
}

impl World {
    /// A robot at the start of a map.
    pub fn new(engine: &Engine, map: Map, start: [f32; 3], goal: [f64; 2], settings: Settings) -> Result<Self> {
        let at = [f64::from(start[0]), f64::from(start[1])];
        ensure!(
            map.cells.len() <= MOST_CELLS,
            "the map has {} cells, but at most {MOST_CELLS} are shown",
            map.cells.len()
        );
        for (name, point) in [("start", at), ("goal", goal)] {
            ensure!(
                fits(&map, point),
                "the {name} ({}, {}) is not free, or too near to an obstacle",
                point[0],
                point[1]
            );
        }
        let fields = fields_of(&map, goal, at).context("the goal cannot be reached from the start")?;
        let robot = Unicycle::default();
        let cost = NavigateCost {
            radius: RADIUS as f32,
            slack: SLACK,
            look_ahead: RADIUS as f32,
            brake: robot.slowing(None)[0],
            twist: robot.twist(),
        };
        let task = gibbs::Task {
            dt: DT,
            horizon: settings.horizon,
            limits: Some(robot.limits(1.0)),
            params: params(goal).to_vec(),
            fields: fields.to_vec(),
            ..Default::default()
        };
        let options = options(MppiOptions { task, samples: settings.samples, ..Default::default() }, settings);
        let mut planner = Mppi::new(engine, robot.with_cost(cost), options)?;
        planner.prepare_device_trajectories()?;
        Ok(Self {
            original: map.cells.clone(),
            map,
            fields,
            version: 0,
            start,
            pose: start,
            path: vec![[start[0], start[1]]],
            speed: 0.0,
            driven: 0.0,
            collisions: 0,
            touching: false,
            goal,
            settings,
            applied: settings,
            planner,
            drawn: None,
            terms: None,
            statistics: Statistics::default(),
            plan_times: Vec::new(),
            message: None,
            pending_fields: [None; 2],
        })
    }

    /// The position of the robot.
    pub fn place(&self) -> [f64; 2] {
        [self.pose[0].into(), self.pose[1].into()]
    }

    /// The straight distance to the goal (in meters).
    pub fn left(&self) -> f64 {
        let [x, y] = self.place();
        (x - self.goal[0]).hypot(y - self.goal[1])
    }

    /// Whether the robot stands at the goal.
    pub fn has_arrived(&self) -> bool {
        self.left() <= ARRIVED.0 && self.speed.abs() <= ARRIVED.1
    }

    /// Takes the plan if it is available, drives for some time (in seconds), and starts to plan again. Without `waits`
    /// it does not wait for the device, and a later call takes the plan.
    pub fn advance(&mut self, seconds: f32, waits: bool) -> Result<()> {
        if let Some(statistics) = self.planner.poll()?.map(Statistics::of) {
            self.take_plan(statistics)?;
        }
        if seconds > 0.0 && !self.has_arrived() {
            self.drive(seconds)?;
        }
        if !self.planner.is_pending() {
            self.apply_changes()?;
            self.planner.start(&self.pose)?;
        }
        if waits {
            let statistics = Statistics::of(self.planner.finish()?);
            self.take_plan(statistics)?;
        }
        Ok(())
    }

    fn take_plan(&mut self, statistics: Statistics) -> Result<()> {
        // Nothing is copied to the host: what is drawn after this reads the buffers.
        self.drawn = Some(self.planner.device_trajectories(usize::MAX)?);
        self.terms = Some(self.planner.terms()?);
        self.statistics = statistics;
        self.plan_times.push(statistics.plan_time);
        let goal = target(self.goal);
        if let Some(maneuver) = maneuver::better(&self.planner, &self.fields[1], goal, self.pose)? {
            self.planner.set_controls(&maneuver)?;
        }
        Ok(())
    }

    fn drive(&mut self, seconds: f32) -> Result<()> {
        let controls = self.planner.advance_by(seconds)?;
        let robot = self.planner.model().dynamics;
        let pieces = (seconds / PIECE).ceil().max(1.0);
        for _ in 0..pieces as usize {
            let before = self.place();
            self.pose = robot.step(&StepContext::<f32>::new(0, seconds / pieces), self.pose, controls);
            let [x, y] = self.place();
            self.driven += (x - before[0]).hypot(y - before[1]);
            let touches = clearance_up_to(&self.map, [x, y], RADIUS) < RADIUS;
            self.collisions += usize::from(touches && !self.touching);
            self.touching = touches;
        }
        self.speed = controls[0];
        self.path.push([self.pose[0], self.pose[1]]);
        Ok(())
    }

    /// Hands the planner what has been changed since its last call.
    fn apply_changes(&mut self) -> Result<()> {
        for (index, region) in self.pending_fields.iter_mut().enumerate() {
            let Some(region) = region.take() else { continue };
            let grid = &self.fields[index];
            let rows = region.row..region.row + region.height;
            let row = |j: usize| &grid.values()[j * grid.width() + region.column..][..region.width];
            self.planner.update_field(index, region, &rows.flat_map(row).copied().collect::<Vec<_>>())?;
        }
        self.planner.set_params(&params(self.goal))?;
        let (now, before) = (self.settings, self.applied);
        if (now.horizon, now.samples) != (before.horizon, before.samples) {
            self.planner.resize(now.horizon, now.samples)?;
        }
        let others = |s: Settings| (s.sigma, s.lambda, s.finds_lambda);
        if others(now) != others(before) {
            self.planner.set_options(options(self.planner.options().clone(), now))?;
        }
        self.applied = now;
        Ok(())
    }

    /// Sets the goal, if the robot fits there and there is a way.
    pub fn set_goal(&mut self, goal: [f64; 2]) -> Result<()> {
        self.message = None;
        if !fits(&self.map, goal) {
            self.message = Some("The robot does not fit there.");
            return Ok(());
        }
        match fields_of(&self.map, goal, self.place()) {
            Some(fields) => {
                self.goal = goal;
                self.replace_fields(fields);
            }
            None => self.message = Some("There is no way to that point."),
        }
        Ok(())
    }

    /// Draws an obstacle along a line, or erases what was drawn there.
    pub fn draw(&mut self, [a, b]: [[f64; 2]; 2], erases: bool) -> Result<()> {
        self.message = None;
        let (place, goal) = (self.place(), self.goal);
        let mut cells = self.map.cells.clone();
        for (at, cell) in cells.iter_mut().enumerate() {
            let (i, j) = (at % self.map.width, at / self.map.width);
            let center = self.map.to_world([i as f64 + 0.5, j as f64 + 0.5]);
            let off = distance_from_line(center, a, b);
            if off > BRUSH {
                continue;
            }
            let apart = |[x, y]: [f64; 2]| (center[0] - x).hypot(center[1] - y);
            if erases {
                *cell = self.original[at];
            } else if apart(place) >= ROOM && apart(goal) >= ROOM {
                *cell = Cell::Occupied;
            }
        }
        if cells == self.map.cells {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.map.cells, cells);
        match fields_of(&self.map, goal, place) {
            Some(fields) => self.replace_fields(fields),
            None => {
                self.map.cells = before;
                self.message = Some("An obstacle there would close the way to the goal.");
            }
        }
        Ok(())
    }

    /// Whether a cell belongs to an obstacle that was drawn.
    pub fn is_drawn(&self, cell: usize) -> bool {
        self.map.cells[cell] != self.original[cell]
    }

    /// Puts the robot back to its start, and removes what was drawn.
    pub fn restart(&mut self) -> Result<()> {
        self.message = None;
        self.map.cells.clone_from(&self.original);
        self.pose = self.start;
        self.path = vec![[self.start[0], self.start[1]]];
        (self.speed, self.driven, self.collisions, self.touching) = (0.0, 0.0, 0, false);
        // The plan starts over.
        self.planner.reset();
        match fields_of(&self.map, self.goal, self.place()) {
            Some(fields) => self.replace_fields(fields),
            None => self.message = Some("There is no way from the start to the goal."),
        }
        Ok(())
    }

    /// Replaces the fields, and notes where they differ.
    fn replace_fields(&mut self, fields: [Grid; 2]) {
        for ((pending, now), before) in self.pending_fields.iter_mut().zip(&fields).zip(&self.fields) {
            *pending = union(*pending, changed(before, now));
        }
        self.fields = fields;
        self.version += 1;
    }
}

/// Whether the robot fits at a point.
fn fits(map: &Map, point: [f64; 2]) -> bool {
    let is_free = map.cell_at(point).is_some_and(|cell| map.cells[cell] == Cell::Free);
    is_free && clearance_up_to(map, point, RADIUS) >= RADIUS
}

/// The clearance and the cost to go; `None` if there is no way from `from` to the goal.
fn fields_of(map: &Map, goal: [f64; 2], from: [f64; 2]) -> Option<[Grid; 2]> {
    let clearance = Clearance::new(map);
    let way = CostToGo::comfortable(map, &clearance, RADIUS, goal, from, true, &ProgressBar::hidden())?;
    Some(Fields::new(map, &clearance, &way, from, 0.0, MOST_CELLS).ok()?.grids().clone())
}

/// The smallest rectangle outside which two fields are the same.
fn changed(before: &Grid, now: &Grid) -> Option<Region> {
    let width = now.width();
    let differ = before.values().iter().zip(now.values()).enumerate().filter(|(_, (a, b))| a != b);
    differ.map(|(at, _)| at).fold(None, |all, at| {
        let cell = Region { column: at % width, row: at / width, width: 1, height: 1 };
        union(all, Some(cell))
    })
}

/// The smallest rectangle that contains two others.
fn union(a: Option<Region>, b: Option<Region>) -> Option<Region> {
    let (Some(a), Some(b)) = (a, b) else { return a.or(b) };
    let (column, row) = (a.column.min(b.column), a.row.min(b.row));
    let width = (a.column + a.width).max(b.column + b.width) - column;
    let height = (a.row + a.height).max(b.row + b.height) - row;
    Some(Region { column, row, width, height })
}

/// The distance of a point from a line between two others.
fn distance_from_line(p: [f64; 2], a: [f64; 2], b: [f64; 2]) -> f64 {
    let (d, q) = ([b[0] - a[0], b[1] - a[1]], [p[0] - a[0], p[1] - a[1]]);
    let along = (q[0] * d[0] + q[1] * d[1]) / (d[0] * d[0] + d[1] * d[1]).max(1e-12);
    let along = along.clamp(0.0, 1.0);
    (q[0] - along * d[0]).hypot(q[1] - along * d[1])
}

/// The goal as the planner takes it.
fn target(goal: [f64; 2]) -> Goal {
    Goal { at: goal.map(|v| v as f32), yaw: None, tolerance: ARRIVED.0 as f32 }
}

fn params(goal: [f64; 2]) -> [f32; 5] {
    NavigateCost::params(target(goal))
}

/// Options with the settings that need no other sizes.
fn options(before: MppiOptions<2>, settings: Settings) -> MppiOptions<2> {
    let temperature =
        if settings.finds_lambda { Temperature::EffectiveSamples(0.05) } else { Temperature::Fixed(settings.lambda) };
    MppiOptions {
        weighting: Weighting::Exponential(temperature),
        noise: Unicycle::default().noise(settings.sigma),
        ..before
    }
}
