//! The robots that can drive, and what it costs them.

use clap::ValueEnum;
use gibbs::models::{DifferentialDrive, Unicycle};
use gibbs::{Cost, Limits, Model, Noise, Real, Stage};

/// Fastest forward (in m/s).
pub const SPEED: f32 = 1.0;
/// Fastest backward with a unicycle (in m/s). Wheels need both directions to turn on the spot.
const BACKWARD: f32 = 0.3;
/// Fastest turn (in rad/s).
const TURN: f32 = 1.5;
/// How far speed (in m/s) and turn (in rad/s) are perturbed: standard deviations a step.
const SPREAD: [f32; 2] = [0.4, 1.0];

/// Which model drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Controls: forward speed and turn rate.
    Unicycle,
    /// Controls: left and right wheel speed.
    DiffDrive,
}

/// Dynamics with state (x, y, heading), whose controls are linear in forward speed and turn rate.
pub trait Robot: Model<3, 2> + Copy {
    /// The matrix that makes (speed in m/s, turn in rad/s) of the controls.
    fn twist(&self) -> [[f32; 2]; 2];

    /// What the controls may be at a pace (1 is full speed).
    fn limits(&self, pace: f32) -> Limits<2>;

    /// How controls are perturbed at a pace: independent in speed and turn, whatever the controls are.
    ///
    /// For wheels that means a covariance: two independent wheels would turn a small robot on the spot far more than they
    /// would drive it.
    fn noise(&self, pace: f32) -> Noise<2> {
        let [[a, b], [c, d]] = self.twist();
        let scale = pace / (a * d - b * c);
        // Controls = inverse · twist, so their covariance is inverse · diag(spread²) · inverseᵀ (the pace is in the inverse).
        let inverse = [[d * scale, -b * scale], [-c * scale, a * scale]];
        let covariance =
            |i: usize, j: usize| (0..2).map(|k| inverse[i][k] * SPREAD[k] * SPREAD[k] * inverse[j][k]).sum::<f32>();
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
}

/// The number of the obstacle-distance field.
pub const DISTANCE: usize = 0;
/// The number of the cost-to-go field.
pub const COST_TO_GO: usize = 1;

/// What a time step costs: the way that is left, and far more where the robot does not fit.
///
/// Parameters 0 and 1 are the goal, parameter 2 the distance from it that counts as arrived.
#[derive(Debug, Clone, Copy)]
pub struct NavigateCost {
    /// Keep this clear (in metres).
    pub radius: f32,
    /// A robot that ends a time step nearer than this to an obstacle counts as in it (in metres): it may have been nearer
    /// within the step.
    pub slack: f32,
    /// How far ahead of the robot the cost to go is read (in metres): no farther than its radius, or it would look through
    /// thin walls.
    pub look_ahead: f32,
    /// See [`Robot::twist`].
    pub twist: [[f32; 2]; 2],
}

/// What a step in an obstacle costs, and each metre of depth beside that: more than any detour, and finite.
const CRASH: [f32; 2] = [1e3, 1e3];
/// From this distance on (in metres) a step costs more, up to 1 in contact: little enough to go through where it is narrow.
const CLOSE_WITHIN: f32 = 0.03;

impl Cost<3, 2> for NavigateCost {
    #[inline(always)]
    fn cost<R: Real>(&self, at: &Stage<R>, [x, y, heading]: [R; 3], [u0, u1]: [R; 2]) -> R {
        // Read ahead of the robot, so that turning towards the way pays at once.
        let (s, c) = heading.sin_cos();
        let to_go = at.sample(COST_TO_GO, x + c * self.look_ahead, y + s * self.look_ahead);
        let clearance = at.sample(DISTANCE, x, y) - self.radius;
        let lack = -clearance + self.slack;
        let crash = R::select(lack.gt(0.0), lack * CRASH[1] + CRASH[0], 0.0);
        let close = (-clearance * (1.0 / CLOSE_WITHIN) + 1.0).max(0.0);
        let [[v0, v1], [w0, w1]] = self.twist;
        let (speed, turn) = (u0 * v0 + u1 * v1, u0 * w0 + u1 * w1);
        // Driving backwards is for getting out of corners.
        let backwards = (-speed).max(0.0);
        to_go + close + crash + turn.square() * 0.02 + backwards
    }

    #[inline(always)]
    fn terminal<R: Real>(&self, at: &Stage<R>, [x, y, _]: [R; 3]) -> R {
        at.sample(COST_TO_GO, x, y) * 5.0
    }

    #[inline(always)]
    fn done<R: Real>(&self, at: &Stage<R>, [x, y, _]: [R; 3]) -> R::Mask {
        let (dx, dy) = (x - at.param(0), y - at.param(1));
        (dx.square() + dy.square()).lt(at.param(2).square())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wheels_are_perturbed_like_a_unicycle() {
        let robot = DifferentialDrive::default();
        let Noise::Covariance(wheels) = robot.noise(1.0) else { panic!("a covariance") };
        let twist = robot.twist();
        for i in 0..2 {
            for j in 0..2 {
                let spread: f32 = (0..4).map(|k| twist[i][k / 2] * wheels[k / 2][k % 2] * twist[j][k % 2]).sum();
                let expected = if i == j { SPREAD[i].powi(2) } else { 0.0 };
                assert!((spread - expected).abs() < 1e-5, "{spread} for {expected}");
            }
        }
    }

    #[test]
    fn a_crash_costs_more_than_a_detour_and_is_finite() {
        let far = |value: f32| gibbs::Grid::new(1, 1, 100.0, [-50.0; 2], vec![value]).unwrap();
        let cost = NavigateCost { radius: 0.2, slack: 0.01, look_ahead: 0.2, twist: Unicycle::default().twist() };
        let at = |clearance: f32| {
            let fields = gibbs::FieldSet::new(&[far(clearance), far(30.0)]);
            cost.cost(&Stage::<f32>::new(0, 0.1).with_fields(&fields), [0.0; 3], [0.0; 2])
        };
        assert_eq!(at(0.25), 30.0);
        assert!((at(0.215) - 30.5).abs() < 1e-4);
        assert!(at(0.15) > 1e3 && at(0.0) > at(0.15) && at(0.0).is_finite());
    }
}
