//! The robot models and the cost of driving.

use clap::ValueEnum;
use gibbs::models::{DifferentialDrive, Unicycle};
use gibbs::{Cost, Limits, Model, Mppi, Noise, Real, StepContext, WithCost};

use crate::maneuver::Goal;

/// The length of a time step (in seconds).
pub const DT: f32 = 0.1;
/// Maximum forward speed (in m/s).
pub const SPEED: f32 = 1.0;
/// Maximum backward speed of a unicycle (in m/s). Wheels need both directions equally, to turn on the spot.
const BACKWARD: f32 = 0.3;
/// Maximum turn rate (in rad/s).
pub const TURN: f32 = 1.5;
/// The deceleration of the robot at the goal (in m/s²), unless the rates of its controls allow less.
const BRAKE: f32 = 2.0;
/// A turn that is slowed down so fast (in rad/s²) ends within a time step.
const AT_ONCE: f32 = 1e6;
/// Standard deviations of the perturbations of speed (in m/s) and turn rate (in rad/s) per step.
const STD_SCALE: [f32; 2] = [0.4, 1.0];

/// The model of the robot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Controls: forward speed and turn rate.
    Unicycle,
    /// Controls: left and right wheel speed.
    DiffDrive,
}

/// Dynamics with state (x, y, heading), whose controls are linear in forward speed and turn rate.
pub trait Robot: Model<3, 2> + Copy {
    /// The matrix that maps the controls to (speed in m/s, turn rate in rad/s).
    fn twist(&self) -> [[f32; 2]; 2];

    /// The limits of the controls at a pace (1 is full speed).
    fn limits(&self, pace: f32) -> Limits<2>;

    /// The limits of the controls' rates that keep to those of speed (in m/s²) and turn rate (in rad/s²).
    fn rate_limits(&self, rates: [f32; 2]) -> Limits<2>;

    /// How fast the robot can slow down and stop turning (in m/s² and rad/s²), given the limits of its controls' rates.
    fn slowing(&self, rates: Option<Limits<2>>) -> [f32; 2] {
        let Some(Limits { high: [u0, u1], .. }) = rates else { return [BRAKE, AT_ONCE] };
        let [speed, turn] = self.twist().map(|[a, b]| (a * u0).abs() + (b * u1).abs());
        // Some is kept in hand for time steps and corrections.
        [BRAKE.min(0.7 * speed), 0.7 * turn]
    }

    /// The noise on the controls at a pace: independent in speed and turn rate, whatever the controls are.
    ///
    /// For wheels this is a full covariance: independent perturbations of both wheels would mostly turn a small robot
    /// on the spot and hardly drive it.
    fn noise(&self, pace: f32) -> Noise<2> {
        let [[a, b], [c, d]] = self.twist();
        let scale = pace / (a * d - b * c);
        // Controls = inverse · twist, so their covariance is inverse · diag(spread²) · inverseᵀ (the pace is in the
        // inverse).
        let inverse = [[d * scale, -b * scale], [-c * scale, a * scale]];
        let covariance = |i: usize, j: usize| {
            (0..2).map(|k| inverse[i][k] * STD_SCALE[k] * STD_SCALE[k] * inverse[j][k]).sum::<f32>()
        };
        Noise::Covariance([[covariance(0, 0), covariance(0, 1)], [covariance(1, 0), covariance(1, 1)]])
    }
}

impl Robot for Unicycle {
    fn twist(&self) -> [[f32; 2]; 2] {
        [[1.0, 0.0], [0.0, 1.0]]
    }
    fn limits(&self, pace: f32) -> Limits<2> {
        Limits { low: [-BACKWARD * pace, -TURN * pace], high: [SPEED * pace, TURN * pace] }
    }
    fn rate_limits(&self, rates: [f32; 2]) -> Limits<2> {
        Limits { low: rates.map(|rate| -rate), high: rates }
    }
}

impl Robot for DifferentialDrive {
    fn twist(&self) -> [[f32; 2]; 2] {
        let (half, turn) = (0.5 * self.radius, self.radius / self.track);
        [[half, half], [-turn, turn]]
    }
    fn limits(&self, pace: f32) -> Limits<2> {
        let fastest = pace * SPEED / self.radius;
        Limits { low: [-fastest; 2], high: [fastest; 2] }
    }
    fn rate_limits(&self, [speed, turn]: [f32; 2]) -> Limits<2> {
        let [[a, _], [_, d]] = self.twist();
        // Speed is a (left + right) and turn rate d (right - left).
        let rate = (0.5 * speed / a).min(0.5 * turn / d);
        Limits { low: [-rate; 2], high: [rate; 2] }
    }
}

/// MPPI for a robot.
pub type Planner<D> = Mppi<3, 2, WithCost<D, NavigateCost>>;

/// The index of the obstacle-distance field.
pub const DISTANCE: usize = 0;
/// The index of the cost-to-go field.
pub const COST_TO_GO: usize = 1;

/// The cost of a time step: the length of the remaining way, and far more where the robot does not fit. At the goal it
/// is least at rest. Its terms are [`TERMS`].
///
/// Its parameters are made by [`params`](Self::params).
#[derive(Debug, Clone, Copy)]
pub struct NavigateCost {
    /// The clearance to keep (in meters).
    pub radius: f32,
    /// A robot that ends a time step nearer than this to an obstacle counts as inside it (in meters), because it may
    /// have been nearer within the step.
    pub slack: f32,
    /// The distance ahead of the robot at which the cost to go is sampled (in meters): at most its radius, or thin
    /// walls would be skipped.
    pub look_ahead: f32,
    /// How fast the robot can slow down before the goal (in m/s²).
    pub brake: f32,
    /// See [`Robot::twist`].
    pub twist: [[f32; 2]; 2],
}

/// The names of the terms: the way that remains, obstacles, turning, a speed that is negative or too high to stop at
/// the goal, the heading at the goal, and the state at the end of the horizon.
pub const TERMS: [&str; 6] = ["way", "wall", "turn", "speed", "heading", "end"];

/// The cost of a step inside an obstacle, and of each meter of depth: more than any detour, but finite.
const CRASH: [f32; 2] = [1e3, 1e3];
/// The look-ahead shrinks within this distance of the goal (in meters): the robot itself must arrive, not a point ahead
/// of it.
const SETTLE_WITHIN: f32 = 0.5;
/// Within this distance of the goal (in meters) the heading counts, if one is given.
const TURN_WITHIN: f32 = 0.3;
/// The cost at the goal of a heading at right angles to the goal heading, in meters of way; an opposite heading costs
/// twice as much.
const WRONG_HEADING: f32 = 0.2;
/// Below this clearance (in meters) a step costs more, up to 1 in contact: little enough to still pass narrow gaps.
const CLOSE_WITHIN: f32 = 0.03;

#[gibbs::model]
impl NavigateCost {
    /// Packs the run-time parameters of a goal: x, y, then the weight of the heading, alone and times its cosine and
    /// sine.
    pub fn params(goal: Goal) -> [f32; 5] {
        let [x, y] = goal.at;
        let [weight, cos, sin] =
            goal.yaw.map_or([0.0; 3], |yaw| [1.0, yaw.cos(), yaw.sin()].map(|v| v * WRONG_HEADING));
        [x, y, weight, cos, sin]
    }

    /// The straight distance to the goal (in meters).
    fn left<R: Real>(at: &StepContext<R>, x: R, y: R) -> R {
        let (dx, dy) = (x - at.param(0), y - at.param(1));
        (dx.square() + dy.square()).sqrt()
    }

    /// The cost of a heading, given by its cosine and sine, at a distance from the goal.
    fn turned<R: Real>(at: &StepContext<R>, left: R, cos: R, sin: R) -> R {
        let near = (-left * (1.0 / TURN_WITHIN) + 1.0).max(0.0);
        near * (at.param(2) - cos * at.param(3) - sin * at.param(4))
    }
}

#[gibbs::model]
impl Cost<3, 2> for NavigateCost {
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, heading]: [R; 3], [u0, u1]: [R; 2]) -> R {
        // Sampled ahead of the robot, so that turning toward the way lowers the cost at once.
        let (s, c) = heading.sin_cos();
        let left = Self::left(at, x, y);
        let ahead = (left * (1.0 / SETTLE_WITHIN)).min(1.0) * self.look_ahead;
        let to_go = at.sample(COST_TO_GO, x + c * ahead, y + s * ahead);
        let clearance = at.sample(DISTANCE, x, y) - self.radius;
        let lack = -clearance + self.slack;
        let crash = R::select(lack.gt(0.0), lack * CRASH[1] + CRASH[0], 0.0);
        let close = (-clearance * (1.0 / CLOSE_WITHIN) + 1.0).max(0.0);
        let [[v0, v1], [w0, w1]] = self.twist;
        let (speed, turn) = (u0 * v0 + u1 * v1, u0 * w0 + u1 * w1);
        // Penalizes driving backwards, which is needed only to leave corners.
        let backwards = (-speed).max(0.0);
        // Penalizes speeds that the brakes cannot stop from before the goal, measured from the start of the step.
        let rush = (speed.square() - (left + speed.abs() * at.dt()) * (2.0 * self.brake)).max(0.0);
        // Within a cell of the goal the field is flat.
        let miss = left.min(SETTLE_WITHIN);
        at.term("way", to_go)
            + at.term("way", miss)
            + at.term("wall", close)
            + at.term("wall", crash)
            + at.term("turn", turn.square() * 0.02)
            + at.term("speed", backwards)
            + at.term("speed", rush)
            + at.term("heading", Self::turned(at, left, c, s))
    }

    fn terminal<R: Real>(&self, at: &StepContext<R>, [x, y, heading]: [R; 3]) -> R {
        let (s, c) = heading.sin_cos();
        at.term("end", (at.sample(COST_TO_GO, x, y) + Self::turned(at, Self::left(at, x, y), c, s)) * 5.0)
    }
}

#[cfg(test)]
mod tests {
    use gibbs::{Backend, Engine, EngineOptions, Mppi, MppiOptions, Task};

    use super::*;

    #[test]
    fn wheels_are_perturbed_like_a_unicycle() {
        let robot = DifferentialDrive::default();
        let Noise::Covariance(wheels) = robot.noise(1.0) else { panic!("a covariance") };
        let twist = robot.twist();
        for i in 0..2 {
            for j in 0..2 {
                let spread: f32 = (0..4).map(|k| twist[i][k / 2] * wheels[k / 2][k % 2] * twist[j][k % 2]).sum();
                let expected = if i == j { STD_SCALE[i].powi(2) } else { 0.0 };
                assert!((spread - expected).abs() < 1e-5, "{spread} for {expected}");
            }
        }
    }

    #[test]
    fn a_crash_costs_more_than_a_detour_and_is_finite() {
        let far = |value: f32| gibbs::Grid::new(1, 1, 100.0, [-50.0; 2], vec![value]).unwrap();
        let cost = NavigateCost {
            radius: 0.2,
            slack: 0.01,
            look_ahead: 0.2,
            brake: BRAKE,
            twist: Unicycle::default().twist(),
        };
        let at = |clearance: f32| {
            let fields = gibbs::FieldSet::new(&[far(clearance), far(30.0)]);
            let params = NavigateCost::params(Goal { at: [30.0, 0.0], yaw: None, tolerance: 0.1 });
            cost.cost(&StepContext::<f32>::new(0, 0.1).with_fields(&fields).with_params(&params), [0.0; 3], [0.0; 2])
        };
        let to_go = 30.0 + SETTLE_WITHIN;
        assert_eq!(at(0.25), to_go);
        assert!((at(0.215) - to_go - 0.5).abs() < 1e-4);
        assert!(at(0.15) > 1e3 && at(0.0) > at(0.15) && at(0.0).is_finite());
    }

    #[test]
    fn every_part_of_the_cost_has_a_name() {
        let engine = Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() }).unwrap();
        let to_go = gibbs::Grid::from_fn(40, 40, 0.1, [-2.0, -2.0], |x, y| (x - 1.0).hypot(y)).unwrap();
        let clearance = gibbs::Grid::from_fn(40, 40, 0.1, [-2.0, -2.0], |x, _| 1.2 - x).unwrap();
        let goal = Goal { at: [1.0, 0.0], yaw: Some(1.0), tolerance: 0.1 };
        let params = NavigateCost::params(goal).to_vec();
        let task = Task { dt: 0.1, params, fields: vec![clearance, to_go], ..Default::default() };
        let cost = NavigateCost {
            radius: 0.2,
            slack: 0.01,
            look_ahead: 0.2,
            brake: BRAKE,
            twist: Unicycle::default().twist(),
        };
        let robot = Unicycle::default().with_cost(cost);
        let mppi = Mppi::new(&engine, robot, MppiOptions { task, ..Default::default() }).unwrap();
        // It turns, drives too fast, into the wall beyond the goal, and back.
        let controls = [[1.0, 0.5], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [-1.0, 0.0]];
        let terms = mppi.terms_of(&[0.0; 3], &controls).unwrap();
        assert_eq!(terms.iter().map(|(name, _)| name).collect::<Vec<_>>(), TERMS);
        assert!(terms.iter().all(|(_, total)| total > 0.0), "{terms:?}");
        assert_eq!(terms.rest(), 0.0);
    }

    #[test]
    fn at_the_goal_it_costs_least_to_be_at_rest_and_turned_as_wanted() {
        let goal = [1.0, 2.0];
        let to_go = gibbs::Grid::from_fn(400, 400, 0.01, [-1.0, 0.0], |x, y| (x - goal[0]).hypot(y - goal[1])).unwrap();
        let distance = gibbs::Grid::new(1, 1, 100.0, [-50.0; 2], vec![5.0]).unwrap();
        let fields = gibbs::FieldSet::new(&[distance, to_go]);
        let cost = NavigateCost {
            radius: 0.2,
            slack: 0.01,
            look_ahead: 0.2,
            brake: BRAKE,
            twist: Unicycle::default().twist(),
        };
        let params = NavigateCost::params(Goal { at: goal, yaw: Some(0.5), tolerance: 0.1 });
        let stage = StepContext::<f32>::new(0, 0.1).with_fields(&fields).with_params(&params);
        let at = |x: f32, y: f32, heading: f32, speed: f32| cost.cost(&stage, [x, y, heading], [speed, 0.0]);
        let best = at(1.0, 2.0, 0.5, 0.0);
        for (x, y, heading, speed) in [
            (1.05, 2.0, 0.5, 0.0),
            (1.0, 1.95, 0.5, 0.0),
            (1.0, 2.0, 0.7, 0.0),
            (1.0, 2.0, 0.3, 0.0),
            (1.0, 2.0, 0.5, 0.6),
        ] {
            assert!(at(x, y, heading, speed) > best + 1e-3, "{x}, {y}, {heading}, {speed}");
        }
        // Nearer must cost less, even where the heading begins to count and is opposite to the goal heading.
        let opposite = 0.5 + std::f32::consts::PI;
        assert!(at(1.0, 2.0, opposite, 0.0) < at(1.0 + TURN_WITHIN, 2.0, opposite, 0.0));
    }
}
