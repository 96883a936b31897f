//! The tasks: systems to be controlled, distributions of initial states, and the observations of policies.

use std::f32::consts::PI;

use gibbs::models::{CartPole, Pendulum};
use gibbs::policies::Observation;
use gibbs::{Cost, Model, Random, Real, StepContext};

/// Half the length of the carts' tracks, which are centered at x = 0 (in meters).
pub const TRACK: f32 = 2.4;

/// Balances the pole of a [`CartPole`], with the cart in the middle of its track. An episode ends when the pole is
/// about to fall, or the cart leaves the track.
///
/// Its angle is measured from upright. Measured from hanging it would be near π throughout, so that feedback of it and
/// an offset would be almost the same parameter, and a gradient would hardly tell them apart.
pub struct Balance(pub CartPole);

#[gibbs::model]
impl Model<4, 1> for Balance {
    fn step<R: Real>(&self, at: &StepContext<R>, [x, speed, angle, rate]: [R; 4], u: [R; 1]) -> [R; 4] {
        let [x, speed, angle, rate] = self.0.step(at, [x, speed, angle + PI, rate], u);
        [x, speed, angle - PI, rate]
    }
    fn cost<R: Real>(&self, _at: &StepContext<R>, [x, _, angle, _]: [R; 4], [force]: [R; 1]) -> R {
        // A step with the pole up earns one.
        (R::from(1.0) - angle.cos()) * 10.0 + x.square() * 0.1 + force.square() * 0.001 - 1.0
    }
    fn done<R: Real>(&self, _at: &StepContext<R>, [x, _, angle, _]: [R; 4]) -> R::Mask {
        angle.abs().gt(0.8) | x.abs().gt(TRACK)
    }
}

/// Draws a state within 0.2 m, m/s, rad and rad/s of rest in the middle of the track.
pub fn near_upright(random: &mut Random, _: &mut [f32]) -> [f32; 4] {
    std::array::from_fn(|_| random.between(-0.2, 0.2))
}

/// Swings a [`Pendulum`] up, with its own cost divided by 100.
pub struct SwingUp(pub Pendulum);

#[gibbs::model]
impl Model<2, 1> for SwingUp {
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 2], u: [R; 1]) -> [R; 2] {
        self.0.step(at, x, u)
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, x: [R; 2], u: [R; 1]) -> R {
        self.0.cost.cost(at, x, u) * 0.01
    }
}

/// Draws any angle, and any rate up to 4 rad/s.
pub fn anywhere(random: &mut Random, _: &mut [f32]) -> [f32; 2] {
    [random.between(-PI, PI), random.between(-4.0, 4.0)]
}

/// Observes the cosine and sine of the angle, which are continuous, and the rate.
pub struct OfPendulum;

#[gibbs::model]
impl Observation<2, 3> for OfPendulum {
    fn observe<R: Real>(&self, _at: &StepContext<R>, [angle, rate]: [R; 2]) -> [R; 3] {
        let (s, c) = angle.sin_cos();
        [c, s, rate]
    }
}

/// The cart-pole swing-up of EvoJAX (Y. Tang, Y. Tian, D. Ha, *EvoJAX: hardware-accelerated neuroevolution*, GECCO 2022
/// companion; `evojax/task/cartpole.py`): state (x, ẋ, θ, θ̇), θ = 0 upright; control a, of which [−1, 1] acts. With
/// M = m_c + m_p, s = sin θ, c = cos θ and F = 10 a,
///
/// ```text
/// ẍ = (−2 m_p l θ̇² s + 3 m_p g s c + 4F − 4bẋ)/(4M − 3 m_p c²)
/// θ̈ = (−3 m_p l θ̇² s c + 6M g s + 6(F − bẋ)c)/(4 l M − 3 m_p l c²)
/// ```
///
/// in steps of explicit Euler. A step earns (cos θ + 1)/2 · cos(πx/4.8) where it arrives; an episode ends off the
/// track.
pub struct EvoJax;

const CART: f32 = 0.5;
const POLE: f32 = 0.5;
const MASS: f32 = CART + POLE;
const LENGTH: f32 = 0.6;
const GRAVITY: f32 = 9.82;
const FRICTION: f32 = 0.1;
const FORCE: f32 = 10.0;

#[gibbs::model]
impl Model<4, 1> for EvoJax {
    fn step<R: Real>(&self, at: &StepContext<R>, [x, speed, angle, rate]: [R; 4], [a]: [R; 1]) -> [R; 4] {
        let (s, c) = angle.sin_cos();
        let push = a.clamp(-1.0, 1.0) * FORCE - speed * FRICTION;
        let swing = rate.square() * s;
        let slack = c.square().mul_add(-3.0 * POLE, R::from(4.0 * MASS));
        let pull = swing * (-2.0 * POLE * LENGTH) + s * c * (3.0 * POLE * GRAVITY) + push * 4.0;
        let turn = swing * c * (-3.0 * POLE * LENGTH) + s * (6.0 * MASS * GRAVITY) + push * c * 6.0;
        let (acceleration, swing) = (pull / slack, turn / (slack * LENGTH));
        let dt = at.dt();
        [speed.mul_add(dt, x), acceleration.mul_add(dt, speed), rate.mul_add(dt, angle), swing.mul_add(dt, rate)]
    }
    fn cost<R: Real>(&self, _at: &StepContext<R>, [x, _, angle, _]: [R; 4], _: [R; 1]) -> R {
        (angle.cos() + 1.0) * (x * (PI / (2.0 * TRACK))).cos() * -0.5
    }
    fn done<R: Real>(&self, _at: &StepContext<R>, [x, ..]: [R; 4]) -> R::Mask {
        x.abs().gt(TRACK)
    }
}

/// The published observation: (x, ẋ, cos θ, sin θ, θ̇).
pub struct OfEvoJax;

#[gibbs::model]
impl Observation<4, 5> for OfEvoJax {
    fn observe<R: Real>(&self, _at: &StepContext<R>, [x, speed, angle, rate]: [R; 4]) -> [R; 5] {
        let (s, c) = angle.sin_cos();
        [x, speed, c, s, rate]
    }
}

/// The easy start: hanging in the middle, with every component perturbed by 0.2 N(0, 1).
pub fn near_hanging(random: &mut Random, _: &mut [f32]) -> [f32; 4] {
    let mut near = |middle| middle + 0.2 * random.normal();
    [near(0.0), near(0.0), near(PI), near(0.0)]
}

/// The hard start: perturbed by U(−1, 1)·(2.4, 10, π/2, 10).
pub fn far_from_hanging(random: &mut Random, _: &mut [f32]) -> [f32; 4] {
    let mut near = |middle: f32, most: f32| middle + random.between(-most, most);
    [near(0.0, TRACK), near(0.0, 10.0), near(PI, 0.5 * PI), near(0.0, 10.0)]
}

/// Whether no admissible force keeps the cart on its track from this state. The momentum of cart and pole, over their
/// mass 1, is v = ẋ − (m_p l/2) θ̇ cos θ, and changes by F − bẋ only, with |F| ≤ 10, and by friction no more than b
/// times the way; so their center of mass goes on for at least (v − 0.48)²/20, and the cart is never more than m_p l/2
/// = 0.15 from it.
pub fn cannot_be_held([x, speed, angle, rate]: &[f32; 4]) -> bool {
    let arm = 0.5 * POLE * LENGTH / MASS;
    let (center, v) = (x - arm * angle.sin(), speed - arm * rate * angle.cos());
    let v_left = (v.abs() - FRICTION * 2.0 * TRACK / MASS).max(0.0);
    center * v.signum() + v_left * v_left / (2.0 * FORCE / MASS) - arm > TRACK
}
