//! Maneuvers that white noise never samples: turn on the spot, follow the path to the goal, stop there.
//!
//! White noise never samples a turn held for a second. With the goal behind it, a robot would therefore keep reversing,
//! although turning is cheaper. So a few maneuvers are rolled out beside every plan under the same cost, and one that
//! is clearly better replaces the plan.

use gibbs::{Grid, InvalidValue, Limits, StepContext};

use crate::robot::{self, DT, Planner, Robot};

/// The speed of a maneuver (as a fraction of full speed), and the distance ahead on the way that it steers to (in
/// meters).
///
/// Slow maneuvers and near targets are needed in gaps too narrow for a cut corner or a slight heading error.
const STYLES: [(f32, f32); 4] = [(1.0, 0.5), (1.0, 0.25), (0.5, 0.12), (0.2, 0.12)];
/// A target farther off the heading than this (in radians) is faced first, on the spot.
const ASIDE: f32 = 0.4;
/// Fraction of the bearing error corrected per step; 1 would follow every kink of the path.
const EAGERNESS: f32 = 0.7;
/// Within this distance of the goal (in meters) a maneuver stops and turns to the goal heading; within half the
/// tolerance, if that is less.
const THERE: f32 = 0.01;
/// Plans and maneuvers are compared over at least this many steps; half a turn takes about 20.
pub const FORESIGHT: usize = 40;
/// A maneuver replaces the plan only if its gain over standing still exceeds the plan's by this fraction.
const MARGIN: f32 = 0.4;
/// The margin fades to nothing within this distance of the goal (in meters).
const FADE_WITHIN: f32 = 2.0;
/// The length of way beyond what maneuvers drive (in meters).
const BEYOND: f32 = 0.5;

/// The goal, in the frame of the planner.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// In meters.
    pub at: [f32; 2],
    /// The heading to arrive at (in radians), if one is given.
    pub yaw: Option<f32>,
    /// The tolerance for arrival (in meters).
    pub tolerance: f32,
}

/// The reach of the maneuvers beside a plan of `horizon` steps (in meters).
pub fn reach(horizon: usize) -> f32 {
    length(horizon.max(FORESIGHT))
}

/// The length of the way that a maneuver of `steps` steps follows (in meters).
fn length(steps: usize) -> f32 {
    steps as f32 * robot::SPEED * DT + BEYOND
}

/// Wraps `angle` to [−π, π).
pub fn wrapped(angle: f32) -> f32 {
    use std::f32::consts::PI;
    (angle + PI).rem_euclid(2.0 * PI) - PI
}

fn apart(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Returns the first `length` meters of the way down a cost-to-go field, as points a cell apart; the goal is the last
/// one if it is that near. A step is too short to cross a wall: the field rises from both sides into the cells where
/// the robot does not fit.
pub fn way(field: &Grid, from: [f32; 2], goal: [f32; 2], length: f32) -> Vec<[f32; 2]> {
    const DIRECTIONS: usize = 16;
    let step = field.resolution();
    let compass: [[f32; 2]; DIRECTIONS] = std::array::from_fn(|i| {
        let (sin, cos) = (i as f32 * std::f32::consts::TAU / DIRECTIONS as f32).sin_cos();
        [cos * step, sin * step]
    });
    let (mut here, mut value) = (from, field.sample(from[0], from[1]));
    let mut points = vec![from];
    for _ in 0..(length / step).ceil() as usize {
        if apart(here, goal) <= 2.0 * step {
            points.push(goal);
            break;
        }
        let around = compass.map(|[dx, dy]| [here[0] + dx, here[1] + dy]).map(|p| (field.sample(p[0], p[1]), p));
        let Some((least, next)) = around.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)) else { break };
        if least >= value {
            break;
        }
        (here, value) = (next, least);
        points.push(here);
    }
    points
}

/// What the controls of a maneuver are limited by.
#[derive(Debug, Clone, Copy)]
struct Actuators {
    limits: Limits<2>,
    /// The limits of the controls' rates of change (per second), if there are any.
    rates: Option<Limits<2>>,
    /// The control that was applied last.
    last: [f32; 2],
}

impl Actuators {
    /// Returns the control nearest to `wanted` that can be applied next, and notes it as applied.
    fn apply(&mut self, wanted: [f32; 2]) -> [f32; 2] {
        if let Some(Limits { low, high }) = self.rates {
            let last = self.last;
            self.last = std::array::from_fn(|i| wanted[i].clamp(last[i] + low[i] * DT, last[i] + high[i] * DT));
        } else {
            self.last = wanted;
        }
        self.last
    }
}

/// Returns the controls that follow a way from `state`: face the point `look` ahead, drive, slow down, stop at the
/// goal, turn.
fn follow<D: Robot>(
    robot: &D,
    mut actuators: Actuators,
    way: &[[f32; 2]],
    goal: Goal,
    mut state: [f32; 3],
    (pace, look): (f32, f32),
    horizon: usize,
) -> Vec<[f32; 2]> {
    let mut next = 0;
    let mut parked = false;
    let there = THERE.min(0.5 * goal.tolerance);
    let [braking, unturning] = robot.slowing(actuators.rates);
    let advance = |t: usize| {
        let [x, y, heading] = state;
        let left = apart([x, y], goal.at);
        parked |= left < there;
        let (speed, turn) = if parked {
            let aside = goal.yaw.map_or(0.0, |yaw| wrapped(yaw - heading));
            (0.0, aside.signum() * (aside.abs() / DT).min((2.0 * unturning * aside.abs()).sqrt()))
        } else {
            while next + 1 < way.len() && apart([x, y], way[next]) < look {
                next += 1;
            }
            let aside = wrapped((way[next][1] - y).atan2(way[next][0] - x) - heading);
            let brake = (2.0 * braking * left).sqrt().min(left / DT);
            let speed = if aside.abs() > ASIDE { 0.0 } else { (pace * robot::SPEED * aside.cos()).min(brake) };
            (speed, aside.signum() * (EAGERNESS * aside.abs() / DT).min((2.0 * unturning * aside.abs()).sqrt()))
        };
        let wanted = controls(robot, &actuators.limits, [speed, turn.clamp(-robot::TURN, robot::TURN)]);
        let controls = actuators.apply(wanted);
        state = robot.step(&StepContext::<f32>::new(t, DT), state, controls);
        controls
    };
    (0..horizon).map(advance).collect()
}

/// Returns the controls of a speed (in m/s) and a turn rate (in rad/s), both scaled down by the same factor to meet the
/// limits, which preserves the arc.
fn controls<D: Robot>(robot: &D, limits: &Limits<2>, [speed, turn]: [f32; 2]) -> [f32; 2] {
    let [[a, b], [c, d]] = robot.twist();
    let determinant = a * d - b * c;
    let wanted = [(d * speed - b * turn) / determinant, (a * turn - c * speed) / determinant];
    let fits = |u: f32, low: f32, high: f32| {
        if u > high {
            high / u
        } else if u < low {
            low / u
        } else {
            1.0
        }
    };
    let scale = (0..2).map(|i| fits(wanted[i], limits.low[i], limits.high[i])).fold(1.0, f32::min);
    std::array::from_fn(|i| (wanted[i] * scale).clamp(limits.low[i], limits.high[i]))
}

/// Returns the controls of the maneuver that should replace the current plan, as many as the plan has; `None` if the
/// plan is good enough.
///
/// # Errors
///
/// If the pose is not finite.
pub fn better<D: Robot>(
    planner: &Planner<D>,
    field: &Grid,
    goal: Goal,
    pose: [f32; 3],
) -> Result<Option<Vec<[f32; 2]>>, InvalidValue> {
    let (robot, horizon) = (&planner.model().dynamics, planner.options().task.horizon);
    let Some(limits) = planner.options().task.limits else { return Ok(None) };
    let actuators = Actuators { limits, rates: planner.options().task.rate_limits, last: planner.last_control() };
    let steps = horizon.max(FORESIGHT);
    let follow = |[x, y, heading]: [f32; 3], actuators: Actuators, steps: usize| {
        let way = way(field, [x, y], goal.at, length(steps));
        STYLES.map(|style| follow(robot, actuators, &way, goal, [x, y, heading], style, steps))
    };

    // A plan that is shorter than the maneuvers is extended by the best maneuver from its end.
    let plan = planner.controls();
    let planned = if horizon < steps {
        let (states, _) = planner.simulate(&pose, plan)?;
        let costs = follow(states[horizon], Actuators { last: plan[horizon - 1], ..actuators }, steps - horizon)
            .map(|rest| planner.simulate(&pose, &[plan, &rest].concat()));
        costs.into_iter().try_fold(f32::INFINITY, |least, cost| Ok(cost?.1.min(least)))?
    } else {
        planner.simulate(&pose, plan)?.1
    };
    let mut stopping = actuators;
    let stand: Vec<_> = (0..steps).map(|_| stopping.apply([0.0; 2])).collect();
    let (_, standing) = planner.simulate(&pose, &stand)?;
    let (mut best, mut least) = (stand, standing);
    for maneuver in follow(pose, actuators, steps) {
        let (_, cost) = planner.simulate(&pose, &maneuver)?;
        if cost < least {
            (best, least) = (maneuver, cost);
        }
    }
    best.truncate(horizon);
    // Gains, not costs, are compared: most of a cost is the remaining way, whatever the robot does. The margin fades at
    // the goal, where noise would keep a plan from coming to rest.
    let gain = standing - planned;
    let margin = MARGIN * (apart([pose[0], pose[1]], goal.at) / FADE_WITHIN).min(1.0);
    Ok((standing - least >= gain + margin * gain.abs()).then_some(best))
}

#[cfg(test)]
mod tests {
    use gibbs::models::{DifferentialDrive, Unicycle};

    use indicatif::ProgressBar;

    use super::*;
    use crate::distance::{Clearance, Comfort, CostToGo};
    use crate::fields::{Fields, MOST_CELLS};
    use crate::map::tests::sketch;

    #[test]
    fn angles_are_wrapped() {
        for (angle, expected) in [(0.5, 0.5), (3.5, 3.5 - std::f32::consts::TAU), (-7.0, -7.0 + std::f32::consts::TAU)]
        {
            assert!((wrapped(angle) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn the_way_goes_round_a_wall_and_ends_at_the_goal() {
        let row = |wall: bool| if wall { ".".repeat(30) + "#" + &".".repeat(30) } else { ".".repeat(61) };
        let map = sketch(&(0..40).map(|j| row(j >= 10)).collect::<Vec<_>>(), 0.05);
        let clearance = Clearance::new(&map);
        let comfort = Comfort { radius: 0.1, margin: 0.1, weight: 3.0 };
        let goal = [2.4, 0.5];
        let cost = CostToGo::new(&map, &clearance, comfort, goal.map(f64::from), &ProgressBar::hidden()).unwrap();
        let fields = Fields::new(&map, &clearance, &cost, [0.5, 0.5], 10.0, MOST_CELLS).unwrap();
        let field = &fields.grids()[1];
        let points = way(field, [0.5, 0.5], goal, 10.0);
        assert_eq!(points[points.len() - 1], goal);
        for pair in points.windows(2) {
            assert!(apart(pair[0], pair[1]) < 0.11);
            assert!(clearance.at(pair[1].map(f64::from)) > 0.08, "{pair:?}");
        }
        // The way is not longer than requested.
        let points = way(field, [0.5, 0.5], goal, 0.5);
        assert_eq!(points.len(), 11);
    }

    #[test]
    fn a_maneuver_stops_well_within_the_tolerance() {
        let (robot, way) = (Unicycle::default(), [[0.0, 0.0], [0.008, 0.0]]);
        let end = |tolerance: f32| {
            let goal = Goal { at: way[1], yaw: None, tolerance };
            let actuators = Actuators { limits: robot.limits(1.0), rates: None, last: [0.0; 2] };
            let controls = follow(&robot, actuators, &way, goal, [0.0; 3], STYLES[0], 10);
            controls.iter().map(|[speed, _]| speed * DT).sum::<f32>()
        };
        assert_eq!(end(0.25), 0.0);
        assert!((end(0.005) - way[1][0]).abs() < 0.0025);
    }

    /// Converts a speed and a turn rate to controls and back.
    fn twist<D: Robot>(robot: D, wanted: [f32; 2]) -> [f32; 2] {
        let u = controls(&robot, &robot.limits(1.0), wanted);
        let limits = robot.limits(1.0);
        assert!((0..2).all(|i| (limits.low[i]..=limits.high[i]).contains(&u[i])));
        robot.twist().map(|[a, b]| a * u[0] + b * u[1])
    }

    #[test]
    fn limits_slow_an_arc_down_and_do_not_bend_it() {
        let near = |[a, b]: [f32; 2], [c, d]: [f32; 2]| (a - c).abs() < 1e-5 && (b - d).abs() < 1e-5;
        assert!(near(twist(Unicycle::default(), [0.5, -1.0]), [0.5, -1.0]));
        assert!(near(twist(Unicycle::default(), [2.0, 1.0]), [1.0, 0.5]));
        let wheels = DifferentialDrive::default();
        assert!(near(twist(wheels, [0.5, -1.0]), [0.5, -1.0]));
        // Both wheels together reach 1 m/s; with a track of 0.4 m a turn of 1.5 rad/s takes 0.3 m/s of that.
        let [speed, turn] = twist(wheels, [1.0, 1.5]);
        assert!((turn - 1.5 * speed).abs() < 1e-5 && (speed - 1.0 / 1.3).abs() < 1e-5);
    }
}
