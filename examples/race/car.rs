//! The car: a kinematic and a dynamic single-track model, both with the friction circle of their tires.
//!
//! Both take the same two commands, each in [−1, 1] or a little more, and both have actuators with rate limits as
//! states, so that the limits hold inside every rollout:
//!
//! - *turn*: the lateral acceleration that is asked for, as a fraction of what friction can give. The steering wheel
//!   goes to the angle that a car that does not slip needs for it, and the dynamic car countersteers. One number means about the same at 10 and at 70 m/s,
//!   which no steering angle does.
//! - *drive*: the fraction of the traction or braking force that the tires still have beside their lateral force (a
//!   traction control and an anti-lock brake); the motor's power limits it, too.
//!
//! Sources: R. Rajamani, *Vehicle Dynamics and Control*, 2nd edition, §2.2 (kinematic) and §2.3 (dynamic single-track
//! model); H. Pacejka, *Tire and Vehicle Dynamics*, 3rd edition, §4.3 (lateral force, D sin(C atan(B α))); R. N. Jazar,
//! *Vehicle Dynamics*, 3rd edition, §2.3 (loads of accelerating cars).

use gibbs::Real;

/// The acceleration of gravity (in m/s²).
pub const GRAVITY: f32 = 9.81;

/// A race car with four-wheel drive and without wings.
#[derive(Debug, Clone, Copy)]
pub struct Car {
    /// Mass (in kg) and moment of inertia about the vertical axis (in kg m²).
    pub mass: f32,
    pub inertia: f32,
    /// The distances from the center of gravity to the front and the rear axle (in meters), and its height.
    pub front: f32,
    pub rear: f32,
    pub height: f32,
    /// Width over all (in meters).
    pub width: f32,
    /// The coefficient of friction of the tires, μ.
    pub friction: f32,
    /// The stiffness B (per radian) of the front and the rear tires' lateral force, and its shape C; it is largest at a
    /// slip angle of tan(π / (2 C)) / B.
    pub stiffness: [f32; 2],
    pub shape: f32,
    /// The power of the motor (in W), and the drag per squared speed, ½ ρ c_d A (in kg/m).
    pub power: f32,
    pub drag: f32,
    /// The largest steering angle (in radians), and its rate (in rad/s).
    pub steering: f32,
    pub steering_rate: f32,
    /// How far the dynamic car steers against a yaw rate that is not that of its turn (in seconds).
    pub countersteering: f32,
    /// The rate of the drive command (per second): from full throttle to full braking in 2 / rate.
    pub drive_rate: f32,
}

impl Default for Car {
    fn default() -> Self {
        Self {
            mass: 1200.0,
            inertia: 1500.0,
            front: 1.3,
            rear: 1.3,
            height: 0.4,
            width: 1.9,
            friction: 1.3,
            stiffness: [11.0, 13.0],
            shape: 1.5,
            power: 300e3,
            drag: 0.6,
            steering: 0.5,
            steering_rate: 1.2,
            countersteering: 0.3,
            drive_rate: 6.0,
        }
    }
}

#[gibbs::model]
impl Car {
    fn wheelbase(&self) -> f32 {
        self.front + self.rear
    }

    /// The speed at which drag takes all the power (in m/s).
    pub fn top_speed(&self) -> f32 {
        (self.power / self.drag).cbrt()
    }

    /// The largest acceleration that friction allows (in m/s²).
    pub fn grip(&self) -> f32 {
        self.friction * GRAVITY
    }

    /// The curvature (in 1/m) with the lateral acceleration that is asked for, within what can be steered.
    fn curvature<R: Real>(&self, turn: R, speed: R) -> R {
        let most = self.steering.tan() / self.wheelbase();
        (turn * self.grip() / speed.square().max(1.0)).clamp(-most, most)
    }

    /// Moves the actuators, steering angle and drive, toward their targets for `dt`, at most at their rates.
    fn actuate<R: Real>(&self, [angle, drive]: [R; 2], [target, force]: [R; 2], dt: R) -> [R; 2] {
        let target = target.clamp(-self.steering, self.steering);
        let most = dt * self.steering_rate;
        let angle = angle + (target - angle).max(-most).min(most);
        let most = dt * self.drive_rate;
        let drive = drive + (force - drive).max(-most).min(most);
        [angle, drive]
    }
}

/// A car as a model of its motion. The state is that of the path (three numbers, which belong to the caller and are not
/// read), the velocity, the steering angle and the drive.
pub trait Vehicle<const N: usize>: Copy + Send + Sync + 'static {
    fn car(&self) -> &Car;

    /// The largest turn that is commanded: what the tires can give, and for the dynamic car a little more, because it
    /// understeers.
    const MOST_TURN: f32;

    /// The number of parts that a time step of the planner is integrated in.
    const PARTS: usize;

    /// The state with a path state of 0 at a speed, straight ahead.
    fn rolling(&self, speed: f32) -> [f32; N];

    /// Advances everything but the path for `dt` seconds under the commands.
    fn advance<R: Real>(&self, x: [R; N], command: [R; 2], dt: R) -> [R; N];

    /// The velocity forward and to the left (in m/s), and the yaw rate (in rad/s).
    fn motion<R: Real>(&self, x: [R; N]) -> [R; 3];

    /// How far beyond its limits the car is driven, 0 within them: the excess over the friction circle (kinematic), or
    /// over the slip angle of the largest lateral force, in its unit (dynamic).
    fn excess<R: Real>(&self, x: [R; N]) -> R;

    /// The acceleration to the left (in m/s²).
    fn lateral(&self, x: [f32; N]) -> f32;

    /// Whether a state breaks the physics that the model assumes, and so is an excursion.
    fn slides(&self, x: [f32; N]) -> bool;
}

/// The kinematic car: wheels roll without slip, as long as the friction circle allows it; beyond, it turns no tighter.
/// State: path, speed, steering angle, drive.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kinematic(pub Car);

#[gibbs::model]
impl Kinematic {
    /// The curvature that is steered (in 1/m), and the lateral acceleration for it as a fraction of the grip.
    fn steered<R: Real>(&self, [_, _, _, speed, angle, _]: [R; 6]) -> [R; 2] {
        let curvature = angle.tan() * (1.0 / self.0.wheelbase());
        [curvature, speed.square() * curvature * (1.0 / self.0.grip())]
    }
}

#[gibbs::model]
impl Vehicle<6> for Kinematic {
    const MOST_TURN: f32 = 0.97;
    const PARTS: usize = 1;

    fn car(&self) -> &Car {
        &self.0
    }

    fn rolling(&self, speed: f32) -> [f32; 6] {
        [0.0, 0.0, 0.0, speed, 0.0, 0.0]
    }

    fn advance<R: Real>(&self, x: [R; 6], command: [R; 2], dt: R) -> [R; 6] {
        let car = &self.0;
        let [s, n, heading, speed, angle, drive] = x;
        let target = (car.curvature(command[0], speed) * car.wheelbase()).atan();
        let [angle, drive] = car.actuate([angle, drive], [target, command[1]], dt);
        let [_, used] = self.steered([s, n, heading, speed, angle, drive]);
        let spare = (-used.square() + 1.0).max(0.0).sqrt() * car.grip();
        let motor = R::from(car.power / car.mass) / speed.max(1.0);
        let acceleration = (drive * spare).min(motor) - speed.square() * (car.drag / car.mass);
        [s, n, heading, (speed + acceleration * dt).max(0.0), angle, drive]
    }

    fn motion<R: Real>(&self, x: [R; 6]) -> [R; 3] {
        let [curvature, _] = self.steered(x);
        let most = R::from(self.0.grip()) / x[3].square().max(1e-3);
        [x[3], R::from(0.0), x[3] * curvature.max(-most).min(most)]
    }

    fn excess<R: Real>(&self, x: [R; 6]) -> R {
        let [_, used] = self.steered(x);
        (used.abs() - 0.97).max(0.0)
    }

    fn lateral(&self, x: [f32; 6]) -> f32 {
        let [speed, _, yaw_rate] = self.motion(x);
        speed * yaw_rate
    }

    fn slides(&self, x: [f32; 6]) -> bool {
        self.steered(x)[1].abs() > 1.0
    }
}

/// The dynamic car: two axles, each with a Pacejka tire within the friction circle of its load, which braking and
/// accelerating shift. State: path, forward and lateral velocity, yaw rate, steering angle, drive.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dynamic(pub Car);

/// Below the first speed (in m/s) the dynamic car moves as the kinematic one does, because slip angles are undefined at
/// rest; above the second it does not; between, it is a mixture.
const SLOW: [f32; 2] = [3.0, 6.0];

#[gibbs::model]
impl Dynamic {
    /// The slip angles of the front and the rear axle.
    fn slips<R: Real>(&self, [_, _, _, forward, left, yaw_rate, angle, _]: [R; 8]) -> [R; 2] {
        let forward = forward.max(SLOW[0]);
        let front = angle - (left + yaw_rate * self.0.front).atan2(forward);
        let rear = -(left - yaw_rate * self.0.rear).atan2(forward);
        [front, rear]
    }

    /// The accelerations forward and to the left in the car's frame, without those of the turning frame (in m/s²), and
    /// the yaw acceleration (in rad/s²).
    fn accelerations<R: Real>(&self, x: [R; 8]) -> [R; 3] {
        let car = &self.0;
        let [_, _, _, forward, _, _, angle, drive] = x;
        let [front, rear] = self.slips(x);
        // Lateral forces as fractions of what the axles' friction can give, and what is left beside them.
        let slipping = forward.smoothstep(SLOW[0], SLOW[1]);
        let side_front = ((front * car.stiffness[0]).atan() * car.shape).sin() * slipping;
        let side_rear = ((rear * car.stiffness[1]).atan() * car.shape).sin() * slipping;
        let spare_front = (-side_front.square() + 1.0).max(0.0).sqrt();
        let spare_rear = (-side_rear.square() + 1.0).max(0.0).sqrt();
        // With q the spare fractions, f the drive, and a the acceleration by the tires, the loads are
        // m (g l_r − h a)/L and m (g l_f + h a)/L, and a = f μ (load_f q_f + load_r q_r)/m: linear in a.
        let length = 1.0 / car.wheelbase();
        let (share_front, share_rear) = (car.rear * length, car.front * length);
        let force = drive * car.friction;
        let even = spare_front * share_front + spare_rear * share_rear;
        let shifted = (spare_rear - spare_front) * (car.height * length);
        let wanted = force * even * GRAVITY / (-(force * shifted) + 1.0);
        let motor = R::from(car.power / car.mass) / forward.max(1.0);
        let acceleration = wanted.min(motor);
        let shift = acceleration * (car.height * length);
        let load_front = -shift + GRAVITY * share_front;
        let load_rear = shift + GRAVITY * share_rear;
        // The force is split in proportion to what each axle can still give.
        let capacity = load_front * spare_front + load_rear * spare_rear;
        let per_capacity = acceleration / capacity.max(1e-3);
        let (along_front, along_rear) =
            (load_front * spare_front * per_capacity, load_rear * spare_rear * per_capacity);
        let (across_front, across_rear) =
            (load_front * side_front * car.friction, load_rear * side_rear * car.friction);
        let (s, c) = angle.sin_cos();
        let front_forward = along_front * c - across_front * s;
        let front_left = along_front * s + across_front * c;
        let drag = forward.square() * (car.drag / car.mass);
        let yaw = (front_left * car.front - across_rear * car.rear) * (car.mass / car.inertia);
        [front_forward + along_rear - drag, front_left + across_rear, yaw]
    }
}

#[gibbs::model]
impl Vehicle<8> for Dynamic {
    const MOST_TURN: f32 = 1.0;
    const PARTS: usize = 2;

    fn car(&self) -> &Car {
        &self.0
    }

    fn rolling(&self, speed: f32) -> [f32; 8] {
        [0.0, 0.0, 0.0, speed, 0.0, 0.0, 0.0, 0.0]
    }

    fn advance<R: Real>(&self, x: [R; 8], command: [R; 2], dt: R) -> [R; 8] {
        let car = &self.0;
        let [s, n, heading, forward, left, yaw_rate, angle, drive] = x;
        let curvature = car.curvature(command[0], forward);
        let target = (curvature * car.wheelbase()).atan() + (curvature * forward - yaw_rate) * car.countersteering;
        let [angle, drive] = car.actuate([angle, drive], [target, command[1]], dt);
        let [ahead, aside, turning] = self.accelerations([s, n, heading, forward, left, yaw_rate, angle, drive]);
        let slipping = forward.smoothstep(SLOW[0], SLOW[1]);
        let new_forward = (forward + (ahead + left * yaw_rate * slipping) * dt).max(0.0);
        let new_left = left + (aside - forward * yaw_rate) * dt;
        let new_yaw_rate = yaw_rate + turning * dt;
        let rolling = new_forward * angle.tan() * (1.0 / car.wheelbase());
        let left = (rolling * car.rear).lerp(new_left, slipping);
        [s, n, heading, new_forward, left, rolling.lerp(new_yaw_rate, slipping), angle, drive]
    }

    fn motion<R: Real>(&self, [_, _, _, forward, left, yaw_rate, _, _]: [R; 8]) -> [R; 3] {
        [forward, left, yaw_rate]
    }

    fn excess<R: Real>(&self, x: [R; 8]) -> R {
        let best = (std::f32::consts::FRAC_PI_2 / self.0.shape).tan();
        let [front, rear] = self.slips(x);
        let [front, rear] = [front * (self.0.stiffness[0] / best), rear * (self.0.stiffness[1] / best)];
        (front.abs().max(rear.abs()) - 1.0).max(0.0)
    }

    fn lateral(&self, x: [f32; 8]) -> f32 {
        self.accelerations(x)[1]
    }

    fn slides(&self, x: [f32; 8]) -> bool {
        // More than 15 degrees at the rear axle is a spin, which no plan of this example intends.
        self.slips(x)[1].abs() > 0.26
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state after `seconds` under a command, in steps of a millisecond.
    fn after<V: Vehicle<N>, const N: usize>(vehicle: V, mut x: [f32; N], command: [f32; 2], seconds: f32) -> [f32; N] {
        for _ in 0..(seconds * 1000.0).round() as usize {
            x = vehicle.advance(x, command, 1e-3);
        }
        x
    }

    #[test]
    fn turns_are_as_tight_as_commanded() {
        // A drive that balances drag, so that the speed holds.
        for turn in [-0.6_f32, 0.3, 0.8] {
            let car = Car::default();
            let drag = 20.0 * 20.0 * car.drag / car.mass;
            let drive = drag / (car.grip() * (1.0 - turn * turn).sqrt());
            let x = after(Kinematic(car), Kinematic(car).rolling(20.0), [turn, drive], 3.0);
            let found = Kinematic(car).lateral(x) / car.grip();
            assert!((found - turn).abs() < 0.02, "kinematic: {found} for {turn}");
            // The dynamic car understeers a little.
            let x = after(Dynamic(car), Dynamic(car).rolling(20.0), [turn, drive], 3.0);
            let [forward, _, yaw_rate] = Dynamic(car).motion(x);
            let found = forward * yaw_rate / car.grip();
            assert!((found / turn - 1.0).abs() < 0.15, "dynamic: {found} for {turn}");
        }
    }

    #[test]
    fn without_turning_the_car_brakes_at_the_limit_of_friction() {
        let car = Car { drag: 0.0, ..Car::default() };
        let rolled = |speed: f32| (speed - car.grip()) / speed;
        // One second of braking, after the brakes are applied.
        let (a, b) = (Kinematic(car), Dynamic(car));
        let [x, y] = [
            after(a, after(a, a.rolling(60.0), [0.0, -1.0], 0.5), [0.0, -1.0], 0.0)[3],
            after(b, after(b, b.rolling(60.0), [0.0, -1.0], 0.5), [0.0, -1.0], 0.0)[3],
        ];
        assert!((x - y).abs() < 1e-2, "{x} and {y}");
        let next = after(a, after(a, a.rolling(60.0), [0.0, -1.0], 0.5), [0.0, -1.0], 1.0)[3];
        assert!((next / x - rolled(x)).abs() < 1e-3, "from {x} to {next}");
    }

    #[test]
    fn the_motor_gives_its_power() {
        let car = Car { drag: 0.0, ..Car::default() };
        let x = after(Dynamic(car), Dynamic(car).rolling(40.0), [0.0, 1.0], 1.0)[3];
        let next =
            after(Dynamic(car), after(Dynamic(car), Dynamic(car).rolling(40.0), [0.0, 1.0], 1.0), [0.0, 1.0], 2.0)[3];
        // Half the mass times the difference of the squared speeds is energy: power times two seconds.
        let energy = 0.5 * car.mass * (next * next - x * x);
        assert!((energy / (2.0 * car.power) - 1.0).abs() < 0.01, "{energy} J");
    }

    #[test]
    fn tires_stay_within_the_friction_circle() {
        let vehicle = Dynamic::default();
        let car = vehicle.0;
        for i in 0..2000 {
            let t = i as f32;
            let [a, b, c, d] = [0.37, 0.53, 0.71, 0.91].map(|rate| (rate * t).sin());
            let x = [0.0, 0.0, 0.0, 40.0 + 30.0 * a, 8.0 * b, 1.5 * c, 0.4 * d, (1.3 * t).sin()];
            let [ahead, aside, _] = vehicle.accelerations(x);
            let drag = x[3] * x[3] * car.drag / car.mass;
            let used = (ahead + drag).hypot(aside) / car.grip();
            assert!(used < 1.0 + 1e-5, "{used} of the grip is used at {x:?}");
        }
    }

    #[test]
    fn rate_limits_hold() {
        let vehicle = Kinematic::default();
        let mut x = vehicle.rolling(5.0);
        for i in 0..200 {
            let command = if i % 50 < 25 { [1.0, 1.0] } else { [-1.0, -1.0] };
            let next = vehicle.advance(x, command, 0.01);
            assert!((next[4] - x[4]).abs() < 0.01 * vehicle.0.steering_rate + 1e-6);
            assert!((next[5] - x[5]).abs() < 0.01 * vehicle.0.drive_rate + 1e-6);
            assert!(next[4].abs() <= vehicle.0.steering);
            x = next;
        }
        assert!(x[3] > 0.0);
    }

    #[test]
    fn at_walking_pace_the_dynamic_car_drives_like_the_kinematic_one() {
        let (a, b) = (Kinematic::default(), Dynamic::default());
        let x = after(a, a.rolling(2.5), [0.1, 0.0], 2.0);
        let y = after(b, b.rolling(2.5), [0.1, 0.0], 2.0);
        let ([v, _, r], [w, _, q]) = (a.motion(x), b.motion(y));
        assert!((v - w).abs() < 0.02 && (r / q - 1.0).abs() < 0.05 && r > 0.1, "{v}, {r} and {w}, {q}");
    }
}
