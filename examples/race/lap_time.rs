//! The quasi-steady-state lap: the fastest speeds along a given line for a point mass with a friction circle, limited
//! power and drag.
//!
//! Source: A. Heilmeier et al., *Minimum curvature trajectory planning and control for an autonomous race car*, Vehicle
//! System Dynamics 58, 2020, §4 (a forward and a backward pass from the limits in turns).

use crate::car::{Car, GRAVITY};
use crate::curve::Curve;

/// The speeds at the samples of a closed line (in m/s).
#[derive(Debug)]
pub struct Profile {
    speeds: Vec<f64>,
    spacing: f64,
}

impl Profile {
    pub fn along(line: &Curve, car: &Car) -> Self {
        let (count, spacing) = (line.samples().len(), line.spacing());
        let [mass, drag, power] = [car.mass, car.drag, car.power].map(f64::from);
        let grip = f64::from(car.friction) * f64::from(GRAVITY);
        let top = f64::from(car.top_speed());
        let curvature: Vec<f64> = line.samples().iter().map(|sample| sample.curvature.abs()).collect();
        let mut speeds: Vec<f64> = curvature.iter().map(|k| (grip / k.max(1e-9)).sqrt().min(top)).collect();
        // The acceleration that the friction circle leaves for speeding up or braking.
        let spare = |v: f64, k: f64| grip * (1.0 - (v * v * k / grip).powi(2)).max(0.0).sqrt();
        let forward = |v: f64, k: f64| spare(v, k).min(power / (mass * v)) - drag * v * v / mass;
        let backward = |v: f64, k: f64| spare(v, k) + drag * v * v / mass;
        let reached = |v: f64, gained: f64| (v * v + 2.0 * spacing * gained).max(0.0).sqrt();
        // Twice around, because the speed at the start follows from that at the end.
        for i in 0..2 * count {
            let (i, next) = (i % count, (i + 1) % count);
            speeds[next] = speeds[next].min(reached(speeds[i], forward(speeds[i], curvature[i])));
        }
        for i in (0..2 * count).rev() {
            let (i, next) = (i % count, (i + 1) % count);
            speeds[i] = speeds[i].min(reached(speeds[next], backward(speeds[next], curvature[next])));
        }
        Self { speeds, spacing }
    }

    /// The speed at an arc length.
    pub fn at(&self, along: f64) -> f64 {
        let place = along.rem_euclid(self.spacing * self.speeds.len() as f64) / self.spacing;
        let i = (place as usize).min(self.speeds.len() - 1);
        let (a, b) = (self.speeds[i], self.speeds[(i + 1) % self.speeds.len()]);
        a + (place - i as f64) * (b - a)
    }

    /// The time of a lap (in seconds).
    pub fn time(&self) -> f64 {
        let next = self.speeds.iter().cycle().skip(1);
        self.speeds.iter().zip(next).map(|(a, b)| 2.0 * self.spacing / (a + b)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    fn ring(radius: f64) -> Curve {
        let point = |i: usize| {
            let (s, c) = (TAU * i as f64 / 90.0).sin_cos();
            [radius * c, radius * s]
        };
        Curve::through(&(0..90).map(point).collect::<Vec<_>>(), 0.5)
    }

    #[test]
    fn a_circle_is_driven_at_the_limit_of_friction() {
        // All friction is used for turning; drag is to be overcome, so the car has none.
        let car = Car { drag: 1e-9, ..Car::default() };
        let line = ring(60.0);
        let profile = Profile::along(&line, &car);
        let speed = (f64::from(car.friction * GRAVITY) * 60.0).sqrt();
        for i in 0..100 {
            assert!((profile.at(3.0 * f64::from(i)) / speed - 1.0).abs() < 1e-3);
        }
        assert!((profile.time() / (TAU * 60.0 / speed) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn with_drag_the_circle_is_driven_where_friction_balances_both() {
        // (v²/R)² + (d v²/m)² = (μ g)², since the tires also push the car through the air.
        let car = Car::default();
        let profile = Profile::along(&ring(60.0), &car);
        let grip = f64::from(car.friction * GRAVITY);
        let speed = (grip / (1.0 / 60.0_f64).hypot(f64::from(car.drag / car.mass))).sqrt();
        assert!((profile.at(100.0) / speed - 1.0).abs() < 2e-3, "{} for {speed}", profile.at(100.0));
    }

    #[test]
    fn on_a_wide_ring_the_car_drives_at_its_top_speed() {
        let car = Car::default();
        let profile = Profile::along(&ring(3000.0), &car);
        let top = f64::from(car.top_speed());
        assert!((profile.at(0.0) / top - 1.0).abs() < 5e-3, "{} for {top}", profile.at(0.0));
    }

    #[test]
    fn speeds_obey_the_friction_circle_and_the_power() {
        let points: Vec<_> = (0..60)
            .map(|i| {
                let (s, c) = (TAU * f64::from(i) / 60.0).sin_cos();
                [400.0 * c, 80.0 * s]
            })
            .collect();
        let (line, car) = (Curve::through(&points, 0.5), Car::default());
        let profile = Profile::along(&line, &car);
        let [mass, drag, power] = [car.mass, car.drag, car.power].map(f64::from);
        let (mut fastest, mut slowest) = (0.0_f64, f64::MAX);
        for (i, sample) in line.samples().iter().enumerate() {
            let (a, b) = (profile.at(line.spacing() * i as f64), profile.at(line.spacing() * (i + 1) as f64));
            (fastest, slowest) = (fastest.max(a), slowest.min(a));
            let force = (b * b - a * a) / (2.0 * line.spacing()) + drag * a * a / mass;
            let used = (a * a * sample.curvature).hypot(force) / f64::from(car.friction * GRAVITY);
            assert!(used < 1.02, "{used} of the friction is used at {i}");
            assert!(force < 1.01 * power / (mass * a), "{force} m/s² at {i}");
        }
        assert!(fastest > 1.5 * slowest, "from {slowest} to {fastest} m/s");
    }
}
