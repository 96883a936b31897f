//! Closed plane curves: a periodic cubic spline through points, sampled at equal arc lengths.

use std::f64::consts::TAU;

/// A closed curve, sampled at equal distances. Positions along it are arc lengths (in meters) of any size, taken modulo
/// its length; lateral offsets are positive to the left.
#[derive(Debug, Clone)]
pub struct Curve {
    samples: Vec<Sample>,
    spacing: f64,
}

/// A point of a curve: its position (in meters), the direction of travel (in radians, counter-clockwise from the x
/// axis, not wrapped), and the curvature (in 1/m, positive in a left turn).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub point: [f64; 2],
    pub heading: f64,
    pub curvature: f64,
}

/// Where a point of the plane is relative to a curve: the arc length of the nearest point of the curve, and the offset
/// from it (in meters).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    pub along: f64,
    pub offset: f64,
}

impl Curve {
    /// The closed cubic spline through `points`, whose parameter is the length of the chords, sampled about every
    /// `spacing` meters. There must be at least 3 points, and neighbors must differ.
    pub fn through(points: &[[f64; 2]], spacing: f64) -> Self {
        let count = points.len();
        let chords: Vec<f64> = (0..count).map(|i| distance(points[i], points[(i + 1) % count])).collect();
        let [xs, ys] = [0, 1].map(|axis| Spline::new(&points.iter().map(|p| p[axis]).collect::<Vec<_>>(), &chords));
        // The arc length up to the start of each of many short pieces, for which a chord is long enough.
        const PIECES: usize = 32;
        let at = |piece: usize| {
            let (i, t) = (piece / PIECES % count, (piece % PIECES) as f64 / PIECES as f64);
            [xs.at(i, t)[0], ys.at(i, t)[0]]
        };
        let mut lengths = vec![0.0];
        for piece in 0..count * PIECES {
            lengths.push(lengths[piece] + distance(at(piece), at(piece + 1)));
        }
        let length = lengths[count * PIECES];
        let number = ((length / spacing).round() as usize).max(8);
        let spacing = length / number as f64;
        let mut samples: Vec<Sample> = Vec::with_capacity(number);
        let mut piece = 0;
        for k in 0..number {
            let along = spacing * k as f64;
            while lengths[piece + 1] <= along && piece + 1 < count * PIECES {
                piece += 1;
            }
            let within = (along - lengths[piece]) / (lengths[piece + 1] - lengths[piece]).max(f64::MIN_POSITIVE);
            let t = ((piece % PIECES) as f64 + within) / PIECES as f64;
            let ([x, dx, ddx], [y, dy, ddy]) = (xs.at(piece / PIECES, t), ys.at(piece / PIECES, t));
            let heading = dy.atan2(dx);
            let unwrapped = samples.last().map_or(heading, |last| last.heading + wrapped(heading - last.heading));
            let curvature = (dx * ddy - dy * ddx) / dx.hypot(dy).powi(3).max(f64::MIN_POSITIVE);
            samples.push(Sample { point: [x, y], heading: unwrapped, curvature });
        }
        Self { samples, spacing }
    }

    /// The length of the curve (in meters).
    pub fn length(&self) -> f64 {
        self.spacing * self.samples.len() as f64
    }

    /// The distance between samples (in meters).
    pub fn spacing(&self) -> f64 {
        self.spacing
    }

    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The curve at an arc length, interpolated between samples.
    pub fn at(&self, along: f64) -> Sample {
        let place = along.rem_euclid(self.length()) / self.spacing;
        let i = (place as usize).min(self.samples.len() - 1);
        let (a, b) = (self.samples[i], self.samples[(i + 1) % self.samples.len()]);
        let t = place - i as f64;
        let mix = |a: f64, b: f64| a + t * (b - a);
        Sample {
            point: [mix(a.point[0], b.point[0]), mix(a.point[1], b.point[1])],
            heading: a.heading + t * wrapped(b.heading - a.heading),
            curvature: mix(a.curvature, b.curvature),
        }
    }

    /// The point of the plane at an arc length and an offset.
    pub fn point(&self, Place { along, offset }: Place) -> [f64; 2] {
        let Sample { point, heading, .. } = self.at(along);
        [point[0] - offset * heading.sin(), point[1] + offset * heading.cos()]
    }

    /// The place of a point, searched for within `reach` meters along the curve on both sides of `near`. Its arc length
    /// continues from that of `near`: it may be below 0 or above the length of the curve.
    pub fn place(&self, point: [f64; 2], near: f64, reach: f64) -> Place {
        let center = (near / self.spacing).round() as isize;
        let reach = ((reach / self.spacing).ceil() as isize).min(self.samples.len() as isize / 2);
        let sample = |i: isize| self.samples[i.rem_euclid(self.samples.len() as isize) as usize];
        let square = |i: &isize| {
            let [dx, dy] = difference(point, sample(*i).point);
            dx * dx + dy * dy
        };
        let nearest = (center - reach..=center + reach).min_by(|a, b| square(a).total_cmp(&square(b)));
        let nearest = nearest.unwrap_or(center);
        // The nearest point of the curve is on one of the two segments that meet in the nearest sample.
        let on_segment = |first: isize| {
            let (a, b) = (sample(first), sample(first + 1));
            let ([dx, dy], [px, py]) = (difference(b.point, a.point), difference(point, a.point));
            let t = ((dx * px + dy * py) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
            let offset = (px - t * dx).hypot(py - t * dy);
            let left = dx * py - dy * px;
            Place { along: (first as f64 + t) * self.spacing, offset: offset.copysign(left) }
        };
        let (before, after) = (on_segment(nearest - 1), on_segment(nearest));
        if before.offset.abs() < after.offset.abs() { before } else { after }
    }

    /// The place of a point, searched for along the whole curve.
    pub fn nearest(&self, point: [f64; 2]) -> Place {
        self.place(point, 0.0, self.length())
    }
}

/// A periodic cubic spline of one coordinate: the values and second derivatives at its knots, and the distances
/// between knots.
struct Spline<'a> {
    values: Vec<f64>,
    second: Vec<f64>,
    steps: &'a [f64],
}

impl<'a> Spline<'a> {
    /// The second derivatives M follow from the continuity of the first:
    /// h₋ M₋ + 2 (h₋ + h) M + h M₊ = 6 ((f₊ − f)/h − (f − f₋)/h₋), a cyclic tridiagonal system.
    fn new(values: &[f64], steps: &'a [f64]) -> Self {
        let n = values.len();
        let (next, before) = (|i: usize| (i + 1) % n, |i: usize| (i + n - 1) % n);
        let diagonal: Vec<f64> = (0..n).map(|i| 2.0 * (steps[before(i)] + steps[i])).collect();
        let slope = |i: usize| (values[next(i)] - values[i]) / steps[i];
        let right: Vec<f64> = (0..n).map(|i| 6.0 * (slope(i) - slope(before(i)))).collect();
        // Off the diagonal, entry (i, i + 1) equals entry (i + 1, i): the length of step i.
        Self { values: values.to_vec(), second: cyclic(&diagonal, steps, &right), steps }
    }

    /// The value and its first and second derivatives (per meter of the chord) at a fraction t of step `i`.
    fn at(&self, i: usize, t: f64) -> [f64; 3] {
        let j = (i + 1) % self.values.len();
        let (h, r) = (self.steps[i], 1.0 - t);
        let (m, n) = (self.second[i], self.second[j]);
        let value = r * self.values[i] + t * self.values[j] + h * h / 6.0 * ((r * r * r - r) * m + (t * t * t - t) * n);
        let first =
            (self.values[j] - self.values[i]) / h + h / 6.0 * ((1.0 - 3.0 * r * r) * m + (3.0 * t * t - 1.0) * n);
        [value, first, r * m + t * n]
    }
}

/// Solves a symmetric cyclic tridiagonal system by the Sherman–Morrison formula (W. Press et al., *Numerical Recipes*,
/// §2.7.2). `off[i]` is entry (i, i + 1), and the last of them closes the cycle.
fn cyclic(diagonal: &[f64], off: &[f64], right: &[f64]) -> Vec<f64> {
    let n = diagonal.len();
    let corner = off[n - 1];
    let gamma = -diagonal[0];
    let mut reduced = diagonal.to_vec();
    reduced[0] -= gamma;
    reduced[n - 1] -= corner * corner / gamma;
    let mut u = vec![0.0; n];
    (u[0], u[n - 1]) = (gamma, corner);
    let (mut x, z) = (tridiagonal(&reduced, off, right), tridiagonal(&reduced, off, &u));
    let factor = (x[0] + x[n - 1] * corner / gamma) / (1.0 + z[0] + z[n - 1] * corner / gamma);
    for (x, z) in x.iter_mut().zip(z) {
        *x -= factor * z;
    }
    x
}

/// Solves a symmetric tridiagonal system by elimination.
fn tridiagonal(diagonal: &[f64], off: &[f64], right: &[f64]) -> Vec<f64> {
    let n = diagonal.len();
    let (mut pivots, mut x) = (diagonal.to_vec(), right.to_vec());
    for i in 1..n {
        let factor = off[i - 1] / pivots[i - 1];
        pivots[i] -= factor * off[i - 1];
        x[i] -= factor * x[i - 1];
    }
    x[n - 1] /= pivots[n - 1];
    for i in (0..n - 1).rev() {
        x[i] = (x[i] - off[i] * x[i + 1]) / pivots[i];
    }
    x
}

pub fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

fn difference(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] - b[0], a[1] - b[1]]
}

/// An angle in [−π, π).
pub fn wrapped(angle: f64) -> f64 {
    (angle + 0.5 * TAU).rem_euclid(TAU) - 0.5 * TAU
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(radius: f64, points: usize) -> Curve {
        let point = |i: usize| {
            let (s, c) = (TAU * i as f64 / points as f64).sin_cos();
            [3.0 + radius * c, -2.0 + radius * s]
        };
        Curve::through(&(0..points).map(point).collect::<Vec<_>>(), 0.5)
    }

    #[test]
    fn a_circle_has_its_length_and_curvature() {
        let curve = circle(50.0, 60);
        assert!((curve.length() - TAU * 50.0).abs() < 1e-3, "{}", curve.length());
        assert!((curve.spacing() - 0.5).abs() < 1e-2);
        for (i, sample) in curve.samples().iter().enumerate() {
            assert!((sample.curvature - 0.02).abs() < 2e-5, "{}", sample.curvature);
            let turned = curve.spacing() * i as f64 / 50.0;
            assert!((sample.heading - (0.25 * TAU + turned)).abs() < 1e-4, "{} at {turned}", sample.heading);
        }
    }

    #[test]
    fn irregular_points_give_the_same_circle() {
        let angle = |i: usize| TAU * (i as f64 + 0.3 * (i as f64).sin()) / 60.0;
        let points: Vec<_> = (0..60).map(|i| [80.0 * angle(i).cos(), -80.0 * angle(i).sin()]).collect();
        let curve = Curve::through(&points, 1.0);
        assert!((curve.length() - TAU * 80.0).abs() < 2e-3);
        // Clockwise, so the curvature is negative.
        assert!(curve.samples().iter().all(|sample| (sample.curvature + 0.0125).abs() < 1e-4));
    }

    #[test]
    fn a_place_and_its_point_are_inverse() {
        let points: Vec<_> = (0..40)
            .map(|i| {
                let (s, c) = (TAU * i as f64 / 40.0).sin_cos();
                [120.0 * c, 60.0 * s + 15.0 * (2.0 * TAU * i as f64 / 40.0).sin()]
            })
            .collect();
        let curve = Curve::through(&points, 0.5);
        for i in 0..200 {
            let place = Place { along: 2.9 * i as f64, offset: 6.0 * (i as f64).sin() };
            let found = curve.place(curve.point(place), place.along + 4.0, 20.0);
            // Between samples the curve is a chord: at most 3 mm from the arc, and its direction changes at the
            // samples.
            assert!((found.along - place.along).abs() < 0.1, "{found:?} for {place:?}");
            assert!((found.offset - place.offset).abs() < 0.005, "{found:?} for {place:?}");
        }
    }

    #[test]
    fn a_place_continues_past_the_start() {
        let curve = circle(50.0, 60);
        let length = curve.length();
        let ahead = Place { along: 4.0, offset: 1.0 };
        let found = curve.place(curve.point(ahead), length - 3.0, 20.0);
        assert!((found.along - length - 4.0).abs() < 0.01 && (found.offset - 1.0).abs() < 0.005, "{found:?}");
        let behind = curve.place(curve.point(Place { along: length - 4.0, offset: -1.0 }), 2.0, 20.0);
        assert!((behind.along + 4.0).abs() < 0.01 && (behind.offset + 1.0).abs() < 0.005, "{behind:?}");
        let anywhere = curve.nearest(curve.point(Place { along: 200.0, offset: 2.0 }));
        assert!((anywhere.along.rem_euclid(length) - 200.0).abs() < 0.01, "{anywhere:?}");
    }
}
