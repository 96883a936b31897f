//! Races a car around a circuit with MPPI.
//!
//! ```text
//! cargo run --release --example race
//! cargo run --release --example race -- --track Spielberg.csv --raceline Spielberg_line.csv --model kinematic
//! ```
//!
//! A circuit is a CSV of its center line and widths, `x_m,y_m,w_tr_right_m,w_tr_left_m`, in the direction of travel, as
//! in the database of J. Betz et al. (TUMFTM/racetrack-database). The car is a kinematic or a dynamic single-track
//! model whose tires have a friction circle. It is planned for in coordinates along a line of the track (arc length,
//! offset, heading), where progress and the distance to the edges are states, and it is simulated in the plane at a
//! fiftieth of the planner's time step. It comes to the start line at speed.
//!
//! For comparison, a quasi-steady-state lap with the same friction, power and drag is computed along a race line that
//! is given, or along the center line; the planner uses neither. A picture (`race.png`) goes to `--out`. The exit
//! status is 0 only if the car completed its laps without an excursion: it never was off the track with half its width,
//! nor (the kinematic car) beyond the friction circle, nor (the dynamic car) in a spin.

#[path = "../common/canvas.rs"]
mod canvas;
mod car;
mod curve;
mod draw;
mod drive;
#[path = "../common/end.rs"]
mod end;
mod lap_time;
mod line;
mod planner;
mod track;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use gibbs::{Backend, Engine, EngineOptions};

use crate::car::{Car, Dynamic, Kinematic};
use crate::curve::Curve;
use crate::draw::Shown;
use crate::drive::{End, Lap, Run, drive};
use crate::end::say;
use crate::lap_time::Profile;
use crate::planner::Setting;
use crate::track::{REACH, Track};

#[derive(Debug, Parser)]
#[command(about = "Race a car around a circuit, and compare its lap with a quasi-steady-state lap.")]
struct Arguments {
    /// A circuit: a CSV of its center line and widths, x_m,y_m,w_tr_right_m,w_tr_left_m [default: one that comes with
    /// the example]
    #[arg(long, value_name = "FILE.csv")]
    track: Option<PathBuf>,
    /// The line of the lap to compare with: a CSV, x_m,y_m [default: the center line]
    #[arg(long, value_name = "FILE.csv")]
    raceline: Option<PathBuf>,
    /// The single-track model that is planned with and simulated
    #[arg(long, value_enum, default_value = "dynamic")]
    model: Kind,
    /// Laps to drive
    #[arg(long, default_value_t = 1)]
    laps: usize,
    /// Drive only this far from the start line, in meters
    #[arg(long, value_name = "METERS", conflicts_with = "laps")]
    distance: Option<f64>,
    /// The device that plans: auto, gpu, software (a Vulkan driver that runs on the CPU) or cpu
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Rollouts per plan
    #[arg(long, default_value_t = 2048)]
    samples: usize,
    /// The horizon of a plan, in time steps of 0.05 s
    #[arg(long, default_value_t = 60)]
    horizon: usize,
    /// The seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the picture, made if it is not there
    #[arg(long, default_value = "target/pictures")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Kinematic,
    Dynamic,
}

/// The least distance between the line of the coordinates and an edge, beside half the car's width (in meters).
const CLEARANCE: f64 = 0.5;

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.laps > 0, "--laps must be at least 1");
    if let Some(distance) = arguments.distance {
        ensure!(distance > 0.0 && distance.is_finite(), "--distance is {distance}, but must be above 0 (meters)");
    }
    let car = Car::default();
    let track = Track::load(arguments.track.as_deref())?;
    let narrowest = track.narrowest();
    ensure!(
        narrowest > f64::from(car.width) + 2.0 * CLEARANCE,
        "the track is {narrowest:.1} m wide at its narrowest place, too narrow for a car of {} m",
        car.width
    );
    let given = arguments.raceline.as_deref().map(|path| track::race_line(path, &track)).transpose()?;
    let engine = Engine::with_options(EngineOptions { backend: arguments.backend, ..Default::default() })?;
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;

    let line = line::least_curvature(&track, 0.5 * f64::from(car.width) + CLEARANCE);
    let setting = Setting { samples: arguments.samples, horizon: arguments.horizon, seed: arguments.seed };
    let laps = arguments.distance.map_or(arguments.laps, |distance| (distance / track.center.length()).ceil() as usize);
    let end = End { laps, distance: arguments.distance };
    let run = match arguments.model {
        Kind::Kinematic => drive(&engine, &track, &line, Kinematic(car), setting, end)?,
        Kind::Dynamic => drive(&engine, &track, &line, Dynamic(car), setting, end)?,
    };

    let fastest = run.laps.iter().filter_map(|lap| lap.time).fold(f64::INFINITY, f64::min);
    let (limit_line, name) = given.as_ref().map_or((&track.center, "center line"), |line| (line, "race line"));
    let limit = Profile::along(limit_line, &car);
    let compared = match fastest.is_finite() {
        true => format!(" ({:+.1} % to it)", 100.0 * (fastest / limit.time() - 1.0)),
        false => String::new(),
    };
    say!(
        "{}: {:.0} m; a quasi-steady-state lap along the {name} takes {:.2} s{compared}",
        track.name,
        track.center.length(),
        limit.time()
    )?;
    let path = arguments.out.join("race.png");
    picture(&run, &track, arguments.model, &car, limit_line, &limit, name)?.draw(&path)?;
    say!("drew {}", path.display())?;
    report(&run, &track, &engine)
}

/// The lap to draw: the fastest, or the part of a lap that was driven.
fn picture<'a>(
    run: &'a Run,
    track: &'a Track,
    kind: Kind,
    car: &Car,
    line: &Curve,
    limit: &Profile,
    name: &str,
) -> Result<Shown<'a>> {
    let seconds = |lap: &Lap| lap.time.unwrap_or(f64::INFINITY);
    let laps = run.laps.iter().enumerate();
    let (i, lap) = laps.min_by(|a, b| seconds(a.1).total_cmp(&seconds(b.1))).context("no lap was begun")?;
    let driven = lap.time.map_or_else(String::new, |time| format!(", lap {} in {time:.1} s", i + 1));
    let model = if kind == Kind::Kinematic { "kinematic" } else { "dynamic" };
    // The speeds along the line, over the distance along the center line.
    let mut near = track.center.nearest(line.at(0.0).point).along;
    let samples = line.samples().iter().enumerate();
    let mut speeds: Vec<(f32, f32)> = samples
        .map(|(k, sample)| {
            near = track.center.place(sample.point, near, REACH).along;
            (near.rem_euclid(track.center.length()) as f32, limit.at(line.spacing() * k as f64) as f32)
        })
        .collect();
    speeds.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(Shown {
        track,
        lap,
        title: format!("{}{driven} ({model} car)", track.name),
        limit: speeds,
        limit_name: format!("quasi-steady-state along the {name}"),
        grip: car.grip(),
    })
}

/// Prints a line per lap.
///
/// # Errors
///
/// If there was an excursion.
fn report(run: &Run, track: &Track, engine: &Engine) -> Result<()> {
    let mut plans = run.plans.clone();
    plans.sort();
    let median = plans.get(plans.len() / 2).copied().unwrap_or(Duration::ZERO);
    for (i, lap) in run.laps.iter().enumerate() {
        let Some(last) = lap.moments.last() else { continue };
        let (what, time, distance) = match lap.time {
            Some(time) => (format!("lap {}", i + 1), time, track.center.length()),
            None => (format!("{:.0} m", last.distance), last.time, last.distance),
        };
        let excursions = lap.excursions.len();
        say!(
            "{what}: {time:.2} s, mean {:.1} m/s, max lateral {:.1} m/s², {excursions} excursion{}, plan median {:.2} ms \
             ({})",
            distance / time,
            lap.max_lateral,
            if excursions == 1 { "" } else { "s" },
            1e3 * median.as_secs_f64(),
            engine.name()
        )?;
    }
    let places: Vec<String> = run.laps.iter().flat_map(|lap| &lap.excursions).map(|at| format!("{at:.0} m")).collect();
    if !places.is_empty() {
        bail!("the car was off the track or slid at {}", places.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cars_drive_the_first_turn() {
        let out = std::env::temp_dir().join(format!("gibbs-race-out-{}", std::process::id()));
        for model in ["kinematic", "dynamic"] {
            let folder = out.to_str().unwrap();
            let line = ["race", "--model", model, "--backend", "cpu", "--distance", "450", "--samples", "512"];
            let arguments = Arguments::try_parse_from(line.into_iter().chain(["--out", folder])).unwrap();
            let done = run(&arguments);
            let drawn = out.join("race.png").exists();
            std::fs::remove_dir_all(&out).unwrap();
            done.unwrap();
            assert!(drawn);
        }
    }

    #[test]
    fn bad_arguments_are_one_clear_sentence() {
        for (more, what) in [
            (&["--laps", "0"][..], "--laps must be at least 1"),
            (&["--distance", "NaN"], "--distance is NaN, but must be above 0"),
            (&["--horizon", "0"], "--horizon is 0, but must be between 1 and 1000"),
            (&["--samples", "0"], "samples"),
            (&["--raceline", "nowhere.csv"], "the race line nowhere.csv: "),
        ] {
            let line = ["race", "--backend", "cpu"].iter().chain(more);
            let error = format!("{:#}", run(&Arguments::try_parse_from(line).unwrap()).unwrap_err());
            assert!(error.contains(what) && !error.contains('\n'), "{error}");
        }
    }
}
