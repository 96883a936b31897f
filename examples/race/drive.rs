//! The closed loop: the planner, and the car, simulated in the plane at a fiftieth of the planner's time step.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gibbs::Engine;

use crate::car::Vehicle;
use crate::curve::{Curve, Place, wrapped};
use crate::lap_time::Profile;
use crate::planner::{DT, OnTrack, Setting, planner};
use crate::track::{REACH, Track};

/// Parts of a time step in which the car is simulated: 1 ms each.
const PARTS: usize = 50;
/// The run-up to the start line (in meters), and the speed that it begins with, as a fraction of what is possible
/// there.
const RUN_UP: f64 = 300.0;
const ROLLING: f64 = 0.8;
/// A car that is slower than this (in m/s), or farther off the track (in meters), does not come back.
const STUCK: f32 = 1.0;
const LOST: f64 = 30.0;

/// The car at the end of a time step.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Time (in seconds) and distance along the center line (in meters) since the lap began.
    pub time: f64,
    pub distance: f64,
    pub point: [f64; 2],
    pub speed: f32,
    /// Acceleration to the left (in m/s²).
    pub lateral: f32,
}

/// A lap, or the part of it that was driven.
#[derive(Debug, Default)]
pub struct Lap {
    pub moments: Vec<Moment>,
    /// The time from line to line (in seconds), if it was completed.
    pub time: Option<f64>,
    /// Where the car left the track, or began to slide: distances along the center line (in meters).
    pub excursions: Vec<f64>,
    pub max_lateral: f32,
    /// The time of the run at which it began.
    began: f64,
}

#[derive(Debug, Default)]
pub struct Run {
    pub laps: Vec<Lap>,
    pub plans: Vec<Duration>,
}

/// Where a run ends.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub laps: usize,
    /// The distance from the start line (in meters), if it is not driven for whole laps.
    pub distance: Option<f64>,
}

/// Drives until the end.
///
/// # Errors
///
/// If there is no plan, or the car stops or leaves the track for good.
pub fn drive<V: Vehicle<N>, const N: usize>(
    engine: &Engine,
    track: &Track,
    line: &Curve,
    vehicle: V,
    setting: Setting,
    end: End,
) -> Result<Run> {
    let mut mppi = planner(engine, track, line, vehicle, setting)?;
    let goal = end.distance.unwrap_or(track.center.length() * end.laps as f64);
    let start = line.nearest(track.center.at(0.0).point).along - RUN_UP;
    let speed = ROLLING * Profile::along(line, vehicle.car()).at(start);
    let mut car = Simulation::new(track, line, vehicle, start, speed as f32);
    let mut run = Run::default();
    while car.on_center.along < goal {
        let mut x = car.state();
        x[0] = 0.0;
        mppi.set_params(&[car.along_line().rem_euclid(line.length()) as f32])?;
        let plan = mppi.plan(&x).with_context(|| format!("no plan at {:.0} m", car.on_center.along))?;
        run.plans.push(plan.elapsed());
        let command = plan.controls()[0];
        mppi.shift(1);
        for _ in 0..PARTS {
            let before = car.on_center.along;
            car.advance(command, DT / PARTS as f32);
            run.watch(&car, before, end.laps);
        }
        if let Some(lap) = run.laps.last_mut().filter(|lap| lap.time.is_none()) {
            lap.moments.push(Moment {
                time: car.time - lap.began,
                distance: car.on_center.along - lap.from(&car),
                point: car.point,
                speed: car.state[3],
                lateral: vehicle.lateral(car.state),
            });
        }
        let room = track.room(car.on_center);
        ensure!(
            car.state[3] > STUCK && room > -LOST,
            "the car did not go on at {:.0} m: {:.1} m/s, {:.1} m {} the edge",
            car.on_center.along,
            car.state[3],
            room.abs(),
            if room < 0.0 { "beyond" } else { "within" }
        );
    }
    Ok(run)
}

impl Lap {
    /// The distance at which the lap of a car began: that of the start line before it.
    fn from<V, const N: usize>(&self, car: &Simulation<'_, V, N>) -> f64 {
        let length = car.track.center.length();
        (car.on_center.along / length).floor() * length
    }
}

impl Run {
    /// Takes the time at the start line, and notes excursions. The distance `before` is that of a millisecond ago.
    fn watch<V: Vehicle<N>, const N: usize>(&mut self, car: &Simulation<'_, V, N>, before: f64, laps: usize) {
        let (now, length) = (car.on_center.along, car.track.center.length());
        let line = (now / length).floor() * length;
        // The first crossing ends the run-up; each one after it, a lap.
        if line >= 0.0 && before < line {
            let at = car.time - f64::from(DT) / PARTS as f64 * (now - line) / (now - before);
            if let Some(last) = self.laps.last_mut().filter(|lap| lap.time.is_none()) {
                last.time = Some(at - last.began);
            }
            if self.laps.len() < laps {
                self.laps.push(Lap { began: at, ..Default::default() });
            }
        }
        if let Some(lap) = self.laps.last_mut().filter(|lap| lap.time.is_none()) {
            lap.max_lateral = lap.max_lateral.max(car.vehicle.lateral(car.state).abs());
            if car.is_out && !car.was_out {
                lap.excursions.push(now);
            }
        }
    }
}

/// A car in the plane.
#[derive(Debug)]
pub struct Simulation<'a, V, const N: usize> {
    track: &'a Track,
    line: &'a Curve,
    vehicle: V,
    point: [f64; 2],
    heading: f64,
    state: [f32; N],
    time: f64,
    /// Places on the line that is followed and on the center line, whose arc lengths continue from lap to lap.
    on_line: Place,
    on_center: Place,
    /// Whether it is off the track with half its width or slides, and whether it was a part of a time step ago.
    is_out: bool,
    was_out: bool,
}

impl<'a, V: Vehicle<N>, const N: usize> Simulation<'a, V, N> {
    /// A car on the line, in its direction.
    pub fn new(track: &'a Track, line: &'a Curve, vehicle: V, along: f64, speed: f32) -> Self {
        let start = line.at(along);
        let mut on_center = track.center.nearest(start.point);
        // A car before the start line has a distance below 0.
        let length = track.center.length();
        on_center.along = on_center.along.rem_euclid(length) - if along < 0.0 { length } else { 0.0 };
        let on_line = Place { along, offset: 0.0 };
        Self {
            track,
            line,
            vehicle,
            point: start.point,
            heading: start.heading,
            state: vehicle.rolling(speed),
            time: 0.0,
            on_line,
            on_center,
            is_out: false,
            was_out: false,
        }
    }

    /// The arc length along the line (in meters).
    pub fn along_line(&self) -> f64 {
        self.on_line.along
    }

    /// The state relative to the line.
    pub fn state(&self) -> [f32; N] {
        let mut state = self.state;
        state[0] = self.on_line.along as f32;
        state[1] = self.on_line.offset as f32;
        state[2] = wrapped(self.heading - self.line.at(self.on_line.along).heading) as f32;
        state
    }

    /// Advances the car for `dt` seconds under a command of the planner.
    pub fn advance(&mut self, command: [f32; 2], dt: f32) {
        let state = self.state();
        let curvature = self.line.at(self.on_line.along).curvature as f32;
        self.state = self.vehicle.advance(state, OnTrack(self.vehicle).command(state, curvature, command), dt);
        let [forward, left, yaw_rate] = self.vehicle.motion(self.state).map(f64::from);
        let dt = f64::from(dt);
        let (s, c) = (self.heading + 0.5 * yaw_rate * dt).sin_cos();
        self.point[0] += (forward * c - left * s) * dt;
        self.point[1] += (forward * s + left * c) * dt;
        self.heading += yaw_rate * dt;
        self.time += dt;
        self.on_line = self.line.place(self.point, self.on_line.along, REACH);
        self.on_center = self.track.center.place(self.point, self.on_center.along, REACH);
        self.was_out = self.is_out;
        let half_width = 0.5 * f64::from(self.vehicle.car().width);
        self.is_out = self.track.room(self.on_center) < half_width || self.vehicle.slides(self.state);
    }
}
