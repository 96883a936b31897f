//! Swings the pole of a cart-pole up from hanging, balances it, and plots the run.
//!
//! `cargo run --release --example cartpole` writes `cartpole.png`; `--help` lists what can be changed. It fails unless
//! the pole is upright during the last two seconds and the cart never leaves its track.

use std::f32::consts::{PI, TAU};
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use gibbs::models::CartPole;
use gibbs::{
    Engine, EngineOptions, Limits, Model, Mppi, MppiOptions, Noise, Real, StepContext, Task, Temperature, Weighting,
};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use arguments::Common;
use canvas::{Area, FONT, INK, axes, picture};
use end::say;

#[path = "common/arguments.rs"]
mod arguments;
#[path = "common/canvas.rs"]
mod canvas;
#[path = "common/end.rs"]
mod end;

#[derive(Parser)]
#[command(about = "Swing the pole of a cart-pole up from hanging, balance it, and draw how it went.")]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Rollouts per plan [default: 2048, or 512 with --quick]
    #[arg(long)]
    samples: Option<usize>,
    /// The horizon of a plan, in time steps of 0.02 s
    #[arg(long, default_value_t = 60)]
    horizon: usize,
    /// Time steps to drive [default: 400, or 250 with --quick]
    #[arg(long)]
    steps: Option<usize>,
    /// Fewer rollouts and a shorter run
    #[arg(long)]
    quick: bool,
}

/// A time step (in seconds).
const DT: f32 = 0.02;
/// The most force on the cart, either way (in newtons).
const FORCE: f32 = 10.0;
/// The temperature λ, in the unit of the cost.
const TEMPERATURE: f32 = 20.0;
/// Half the length of the track, which is centered at x = 0 (in meters).
const TRACK: f32 = 2.4;
/// The tolerance for upright (in radians from the vertical), and how long it must be met at the end (in seconds).
const UPRIGHT: f32 = 0.2;
const HELD: f32 = 2.0;

/// One time step of the run: the state, and the plan for it.
struct Moment {
    time: f32,
    position: f32,
    angle: f32,
    force: f32,
    cost: f32,
    /// The effective sample size, as a fraction of the rollouts (in percent).
    effective: f32,
    took: Duration,
}

impl Moment {
    fn is_upright(&self) -> bool {
        (self.angle - PI).wrap_angle().abs() <= UPRIGHT
    }
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let engine = arguments.common.engine(EngineOptions::default())?;
    let run = drive(&engine, arguments)?;
    let picture = arguments.common.picture("cartpole.png")?;
    draw(&run, &picture)?;
    say!("drew {}", picture.display())?;
    say!("{}, plan median {:.2} ms ({})", judge(&run)?, 1e3 * median(&run).as_secs_f64(), engine.name())?;
    Ok(())
}

/// Runs the closed loop: plans, applies the first force of the plan to the cart, advances by a step.
fn drive(engine: &Engine, arguments: &Arguments) -> Result<Vec<Moment>> {
    let (samples, steps) = if arguments.quick { (512, 250) } else { (2048, 400) };
    let options = MppiOptions {
        task: Task {
            horizon: arguments.horizon,
            dt: DT,
            limits: Some(Limits { low: [-FORCE], high: [FORCE] }),
            seed: arguments.common.seed,
            ..Default::default()
        },
        samples: arguments.samples.unwrap_or(samples),
        weighting: Weighting::Exponential(Temperature::Fixed(TEMPERATURE)),
        noise: Noise::Diagonal([0.5 * FORCE]),
        ..Default::default()
    };
    let mut mppi = Mppi::new(engine, CartPole::default(), options)?;
    let mut state = [0.0; 4];
    let mut run = Vec::new();
    for t in 0..arguments.steps.unwrap_or(steps) {
        let plan = mppi.plan(&state).with_context(|| format!("no plan at {:.2} s", t as f32 * DT))?;
        let [force] = plan.controls()[0];
        run.push(Moment {
            time: t as f32 * DT,
            position: state[0],
            angle: state[2],
            force,
            cost: plan.cost(),
            effective: 100.0 * plan.effective_samples() / plan.samples() as f32,
            took: plan.elapsed(),
        });
        mppi.shift(1);
        state = mppi.model().step(&StepContext::new(0, DT), state, [force]);
    }
    Ok(run)
}

/// Checks that the pole swung up and balanced and the cart stayed on the track; if not, returns the reason.
fn judge(run: &[Moment]) -> Result<String> {
    let duration = run.len() as f32 * DT;
    if let Some(off) = run.iter().find(|moment| moment.position.abs() > TRACK) {
        bail!("the cart left its track after {:.1} s, at {:.2} m", off.time, off.position);
    }
    let fallen = run.iter().rposition(|moment| !moment.is_upright()).map_or(0, |last| last + 1);
    let upright = fallen as f32 * DT;
    match duration - upright {
        held if held >= HELD - 0.5 * DT => Ok(format!("upright after {upright:.1} s and held for {held:.1} s")),
        _ if run.iter().any(Moment::is_upright) => {
            bail!("the pole did not stand for the last {HELD} s of {duration:.1} s")
        }
        _ => bail!("the pole did not come within {UPRIGHT} rad of upright in {duration:.1} s"),
    }
}

fn median(run: &[Moment]) -> Duration {
    let mut times: Vec<_> = run.iter().map(|moment| moment.took).collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

const SIZE: (u32, u32) = (1200, 1180);
const GUIDE: RGBColor = RGBColor(0, 140, 80);
const ANGLE: RGBColor = RGBColor(25, 60, 205);
const POSITION: RGBColor = RGBColor(200, 80, 20);
const CONTROL: RGBColor = RGBColor(120, 10, 110);
const PLAN: RGBColor = RGBColor(90, 90, 100);

/// One quantity over time.
struct Panel<'a> {
    title: &'a str,
    unit: &'a str,
    color: RGBColor,
    value: fn(&Moment) -> f32,
    /// Horizontal lines with their names.
    guides: &'a [(f32, &'static str)],
    /// The range that the axis shows at least.
    shows: Range<f32>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Curve,
    /// Each value holds for a whole step, as a control does.
    Steps,
    /// A curve of positive values on a logarithmic axis.
    Logarithmic,
}

fn draw(run: &[Moment], path: &Path) -> Result<()> {
    let last = run.last().context("there is nothing to draw: no steps were driven")?;
    // The pole may end a whole turn away from its start.
    let upright = PI + TAU * ((last.angle - PI) / TAU).round();
    let panels = [
        Panel {
            title: "Angle of the pole",
            unit: "rad",
            color: ANGLE,
            value: |moment| moment.angle,
            guides: &[(upright, "upright"), (0.0, "hanging")],
            shows: upright.min(0.0)..upright.max(0.0),
            kind: Kind::Curve,
        },
        Panel {
            title: "Position of the cart",
            unit: "m",
            color: POSITION,
            value: |moment| moment.position,
            guides: &[(TRACK, "end of track"), (-TRACK, "end of track")],
            shows: -TRACK..TRACK,
            kind: Kind::Curve,
        },
        Panel {
            title: "Force on the cart",
            unit: "N",
            color: CONTROL,
            value: |moment| moment.force,
            guides: &[(FORCE, "limit"), (-FORCE, "limit")],
            shows: -FORCE..FORCE,
            kind: Kind::Steps,
        },
        Panel {
            title: "Cost of the plan",
            unit: "",
            color: PLAN,
            value: |moment| moment.cost,
            guides: &[],
            shows: 1.0..100.0,
            kind: Kind::Logarithmic,
        },
        Panel {
            title: "Effective sample size",
            unit: "% of the rollouts",
            color: PLAN,
            value: |moment| moment.effective,
            guides: &[],
            shows: 0.0..5.0,
            kind: Kind::Curve,
        },
    ];
    picture(path, SIZE, |root| {
        let areas = root.margin(10, 10, 10, 30).split_evenly((panels.len(), 1));
        for (i, (panel, area)) in panels.iter().zip(&areas).enumerate() {
            panel.draw(run, area, i + 1 == panels.len())?;
        }
        Ok(())
    })
}

impl Panel<'_> {
    fn draw(&self, run: &[Moment], area: &Area<'_>, is_last: bool) -> Result<()> {
        let logarithmic = self.kind == Kind::Logarithmic;
        let on_axis = |value: f32| if logarithmic { value.max(1e-3).log10() } else { value };
        let values: Vec<(f32, f32)> = run
            .iter()
            .map(|moment| (moment.time, on_axis((self.value)(moment))))
            .filter(|(_, value)| value.is_finite())
            .collect();
        let shows = (on_axis(self.shows.start), on_axis(self.shows.end));
        let (low, high) = values.iter().fold(shows, |(low, high), (_, v)| (low.min(*v), high.max(*v)));
        let (duration, room) = (run.len() as f32 * DT, 0.08 * (high - low));
        let caption = if self.unit.is_empty() { self.title.into() } else { format!("{} ({})", self.title, self.unit) };
        // Rounded, since tenths are not exact in binary.
        let number = |value: &f32| ((value * 100.0).round() / 100.0).to_string();
        let power = |value: &f32| number(&10.0_f32.powf(*value));
        let mut chart = ChartBuilder::on(area)
            .caption(caption, (FONT, 20).into_font().color(&INK))
            .margin_right(110)
            .y_label_area_size(60)
            .x_label_area_size(if is_last { 50 } else { 10 })
            .build_cartesian_2d(0.0..duration, low - room..high + room)?;
        axes(&mut chart)
            .x_desc(if is_last { "time (s)" } else { "" })
            .x_labels(9)
            .y_labels(5)
            .x_label_formatter(&|time| if is_last { number(time) } else { String::new() })
            .y_label_formatter(if logarithmic { &power } else { &number })
            .draw()?;
        for &(value, name) in self.guides {
            chart.draw_series(DashedLineSeries::new([(0.0, value), (duration, value)], 8, 6, GUIDE.stroke_width(1)))?;
            let style = (FONT, 15).into_font().color(&GUIDE).pos(Pos::new(HPos::Left, VPos::Center));
            let label = EmptyElement::at((duration, value)) + Text::new(name, (8, 0), style);
            chart.draw_series([label])?;
        }
        let line: Vec<(f32, f32)> = match self.kind {
            Kind::Steps => values.iter().flat_map(|&(time, value)| [(time, value), (time + DT, value)]).collect(),
            _ => values,
        };
        chart.draw_series(LineSeries::new(line, self.color.stroke_width(2)))?;
        Ok(())
    }
}
