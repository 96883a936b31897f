//! The model that is planned with: a car in coordinates along a line of the track, and the cost of a drive.

use anyhow::{Result, ensure};
use gibbs::lang::Ends;
use gibbs::{
    Engine, Grid, Interpolation, Limits, Model, Mppi, MppiOptions, Noise, NoiseShape, Real, StepContext, Task,
    Temperature,
};

use crate::car::{Car, Vehicle};
use crate::curve::Curve;
use crate::lap_time::Profile;
use crate::line::{TO_THE_CENTER, rooms};
use crate::track::Track;

/// A time step of the plan (in seconds), and about the distance between samples of the table (in meters).
pub const DT: f32 = 0.05;
const SPACING: f64 = 1.0;
/// The longest horizon (in time steps).
const LONGEST: usize = 1000;

/// The field that models look up at an arc length. Its channels are the curvature of the line (in 1/m), the room of the
/// car's center to the left and to the right of it (in meters), and the speed that is possible on it (in m/s).
const LINE: usize = 0;

/// The limits of what plans hold: the turn beside the line, and the drive.
const MOST: [f32; 2] = [1.0, 1.0];

/// The line is followed as by a spring (in 1/s²) and a damper (in 1/s) while no turn beside it is planned.
const SPRING: f32 = 2.0;
const DAMPER: f32 = 3.0;

/// The part of the friction that the possible speeds of the tables are computed with. A quasi-steady-state speed
/// ignores that steering, yaw and the slip of the tires take time, above all where a turn follows on the opposite one.
const CAUTION: f32 = 0.92;

/// Weights of the cost, which is in meters of progress. Per second: for each square meter nearer to an edge than the
/// margin (in meters), for excess over the car's limits, and for the square of the speed over what is possible.
const MARGIN: f32 = 0.5;
const WALL: f32 = 400.0;
const EXCESS: f32 = 100.0;
const TOO_FAST: f32 = 3.0;
/// At the end of the horizon: the same for a speed over what is possible and for the edge that the car heads for (the
/// time that it drifts on is in seconds), and the progress that a speed is worth (in seconds).
const END_TOO_FAST: f32 = 3.0;
const DRIFT: f32 = 0.7;
const END_WALL: f32 = 10.0;
const END_SPEED: f32 = 0.5;

/// A car on the track, in coordinates along a line (curvilinear or Frenet coordinates; e.g. R. Rajamani, *Vehicle
/// Dynamics and Control*, §2.5). The path state is the arc length since the start of the plan, the offset to the left
/// of the line (both in meters), and the heading relative to the line (in radians); parameter 0 is the arc length at
/// which the plan starts.
///
/// ```text
/// ṡ = (v_x cos ξ − v_y sin ξ) / (1 − n κ(s))    ṅ = v_x sin ξ + v_y cos ξ    ξ̇ = r − κ(s) ṡ
/// ```
#[derive(Debug, Clone, Copy)]
pub struct OnTrack<V>(pub V);

#[gibbs::model]
impl<V> OnTrack<V> {
    /// The commands of a car that follows the line of this curvature, and turns by `turn` beside that.
    ///
    /// Plans hold the turn beside the line, not the turn itself: rollouts whose perturbations are small then stay on
    /// the track for the whole horizon, and turns stay where they belong if the car comes sooner or later.
    pub fn command<R: Real, const N: usize>(&self, x: [R; N], curvature: R, [turn, drive]: [R; 2]) -> [R; 2]
    where
        V: Vehicle<N>,
    {
        let [forward, ..] = self.0.motion(x);
        let [_, offset, heading] = [x[0], x[1], x[2]];
        let needed = forward.square() * curvature - forward * heading * DAMPER - offset * SPRING;
        [(turn + needed * (1.0 / self.0.car().grip())).clamp(-V::MOST_TURN, V::MOST_TURN), drive]
    }

    /// How much nearer to an edge than the margin the car's center is at an offset (in meters), given its room.
    fn too_near<R: Real>([left, right]: [R; 2], offset: R) -> R {
        ((offset - left).max(-offset - right) + MARGIN).max(0.0)
    }
}

#[gibbs::model]
impl<V: Vehicle<N>, const N: usize> Model<N, 2> for OnTrack<V> {
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; N], command: [R; 2]) -> [R; N] {
        let part = at.dt() * (1.0 / V::PARTS as f32);
        let mut x = x;
        for _ in 0..V::PARTS {
            let [curvature] = at.look_up(LINE, [x[0] + at.param(0)]);
            x = self.0.advance(x, self.command(x, curvature, command), part);
            let [forward, left, yaw_rate] = self.0.motion(x);
            let [s, offset, heading] = [x[0], x[1], x[2]];
            let pace = R::from(1.0) / (-(offset * curvature) + 1.0).max(1.0 - TO_THE_CENTER as f32);
            let (sin, cos) = heading.sin_cos();
            let turned = heading + (yaw_rate - curvature * (forward * cos - left * sin) * pace) * part;
            // The heading in the middle of the part.
            let (sin, cos) = ((heading + turned) * 0.5).sin_cos();
            x[0] = s + (forward * cos - left * sin) * pace * part;
            x[1] = offset + (forward * sin + left * cos) * part;
            x[2] = turned;
        }
        x
    }

    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; N], _command: [R; 2]) -> R {
        let [_, left, right, most] = at.look_up(LINE, [x[0] + at.param(0)]);
        let [forward, ..] = self.0.motion(x);
        let too_fast = (forward - most).max(0.0);
        let wall = Self::too_near([left, right], x[1]).square() * WALL;
        (wall + self.0.excess(x) * EXCESS + too_fast.square() * TOO_FAST) * at.dt()
    }

    fn terminal<R: Real>(&self, at: &StepContext<R>, x: [R; N]) -> R {
        let [_, left, right, most] = at.look_up(LINE, [x[0] + at.param(0)]);
        let [forward, ..] = self.0.motion(x);
        let too_fast = (forward - most).max(0.0).square() * END_TOO_FAST;
        let wide = Self::too_near([left, right], x[1] + forward * x[2] * DRIFT).square() * END_WALL;
        too_fast + wide - forward.min(most) * END_SPEED - x[0]
    }
}

/// Options of the planner that a user sets.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub samples: usize,
    /// In time steps.
    pub horizon: usize,
    pub seed: u64,
}

/// The planner of a vehicle on a track, in coordinates along a line.
pub fn planner<V: Vehicle<N>, const N: usize>(
    engine: &Engine,
    track: &Track,
    line: &Curve,
    vehicle: V,
    setting: Setting,
) -> Result<Mppi<N, 2, OnTrack<V>>> {
    let horizon = setting.horizon;
    ensure!((1..=LONGEST).contains(&horizon), "--horizon is {horizon}, but must be between 1 and {LONGEST}");
    let options = MppiOptions {
        task: Task {
            horizon,
            dt: DT,
            limits: Some(Limits { low: MOST.map(|most| -most), high: MOST }),
            params: vec![0.0],
            fields: vec![table(track, line, vehicle)?],
            seed: setting.seed,
            ..Default::default()
        },
        samples: setting.samples,
        // Sharp: the mean of two good ways through a corner may be a bad one.
        weighting: Temperature::EffectiveSamples(0.005).into(),
        noise: Noise::Diagonal([0.3, 0.4]),
        noise_shape: NoiseShape::Knots { every: 8, interpolation: Interpolation::Linear },
        nominal_first: true,
        ..Default::default()
    };
    Ok(Mppi::new(engine, OnTrack(vehicle), options)?)
}

/// The field [`LINE`]: a table over the arc length, which a lap repeats.
fn table<V: Vehicle<N>, const N: usize>(track: &Track, line: &Curve, vehicle: V) -> Result<Grid> {
    let car = *vehicle.car();
    let profile = Profile::along(line, &Car { friction: CAUTION * car.friction, ..car });
    let count = (line.length() / SPACING).round() as usize;
    let spacing = line.length() / count as f64;
    let along = |i: usize| spacing * i as f64;
    let samples: Vec<_> = (0..count).map(|i| line.at(along(i))).collect();
    let rooms = rooms(track, &samples, 0.5 * f64::from(car.width));
    let channel = |value: &dyn Fn(usize) -> f64| (0..count).map(|i| value(i) as f32).collect();
    let table = Grid::table(spacing as f32, 0.0, channel(&|i| samples[i].curvature))?
        .with_channel(channel(&|i| rooms[i][0]))?
        .with_channel(channel(&|i| rooms[i][1]))?
        .with_channel(channel(&|i| profile.at(along(i))))?;
    Ok(table.with_ends(Ends::Periodic)?)
}

#[cfg(test)]
mod tests {
    use gibbs::FieldSet;

    use super::*;
    use crate::car::{Dynamic, Kinematic};
    use crate::drive::Simulation;
    use crate::line::least_curvature;

    #[test]
    fn along_the_line_and_in_the_plane_cars_drive_the_same() {
        let track = Track::load(None).unwrap();
        let line = least_curvature(&track, 1.5);
        drives_the_same(&track, &line, Kinematic::default());
        drives_the_same(&track, &line, Dynamic::default());
    }

    /// Rolls the planner's model out for two seconds from several places, through turns and braking, and simulates the
    /// same in the plane with the small time step.
    fn drives_the_same<V: Vehicle<N>, const N: usize>(track: &Track, line: &Curve, vehicle: V) {
        let fields = FieldSet::new(&[table(track, line, vehicle).unwrap()]);
        for (start, speed, command) in [
            (0.0, 30.0, [0.1, 0.5]),
            (470.0, 20.0, [-0.1, 0.2]),
            (1050.0, 20.0, [0.05, -0.3]),
            (2150.0, 20.0, [0.1, 0.1]),
        ] {
            let params = [start as f32];
            let at = StepContext::new(0, DT).with_params(&params).with_fields(&fields);
            let mut x = vehicle.rolling(speed);
            let mut car = Simulation::new(track, line, vehicle, start, speed);
            for _ in 0..40 {
                x = OnTrack(vehicle).step(&at, x, command);
                for _ in 0..50 {
                    car.advance(command, DT / 50.0);
                }
            }
            let found = car.state();
            // The planner's time step is 50 times as long.
            let progress = (car.along_line() - start) as f32;
            assert!((progress - x[0]).abs() < 0.02 * progress, "{progress} m, but {} m from {start} m", x[0]);
            assert!(
                progress > 30.0 && (found[1] - x[1]).abs() < 0.3,
                "offset {} for {} from {start} m",
                x[1],
                found[1]
            );
            assert!((found[2] - x[2]).abs() < 0.03, "heading {} for {} from {start} m", x[2], found[2]);
            assert!((found[3] - x[3]).abs() < 0.3, "speed {} for {} from {start} m", x[3], found[3]);
        }
    }
}
