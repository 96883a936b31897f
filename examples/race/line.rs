//! The line that the track's coordinates run along: smooth, and of little curvature.
//!
//! Coordinates along the center line would be singular where its radius is below the track's half width, as in the
//! hairpins of real circuits. A line that cuts those corners, which a car would drive, has no such places.

use crate::curve::{Curve, Sample};
use crate::track::{REACH, Track};

/// The distance between the points whose offsets are optimized (in meters).
const STEP: f64 = 4.0;
/// The times that the line is measured again, since offsets are relative to the line before.
const ROUNDS: usize = 3;
/// Sweeps over the points per level of coarseness; a level takes every 8th point, every 4th, …, every point.
const SWEEPS: usize = 300;
const LEVELS: [usize; 4] = [8, 4, 2, 1];
/// Offsets are at most this fraction of the radius towards the center of a turn, where coordinates are singular.
pub const TO_THE_CENTER: f64 = 0.7;
/// The farthest that an edge is searched for (in meters).
const FARTHEST: f64 = 40.0;

/// A line at least `clearance` from both edges whose summed squared curvature is nearly minimal (F. Braghin et al.,
/// *Race driver model*, Computers & Structures 86, 2008; A. Heilmeier et al., *Minimum curvature trajectory planning and
/// control for an autonomous race car*, Vehicle System Dynamics 58, 2020), by coordinate descent from coarse to fine.
pub fn least_curvature(track: &Track, clearance: f64) -> Curve {
    let mut line = track.center.clone();
    for _ in 0..ROUNDS {
        let count = ((line.length() / STEP).round() as usize).next_multiple_of(LEVELS[0]);
        let bases: Vec<Sample> = (0..count).map(|i| line.at(line.length() * i as f64 / count as f64)).collect();
        let rooms = rooms(track, &bases, clearance);
        let mut offsets = vec![0.0; count];
        for stride in LEVELS {
            descend(&bases, &rooms, &mut offsets, stride);
        }
        let points: Vec<_> = bases.iter().zip(&offsets).map(|(base, offset)| beside(base, *offset)).collect();
        line = Curve::through(&points, line.spacing());
    }
    line
}

/// The point at an offset from a sample, to the left.
fn beside(base: &Sample, offset: f64) -> [f64; 2] {
    let (s, c) = base.heading.sin_cos();
    [base.point[0] - offset * s, base.point[1] + offset * c]
}

/// How far a point may be moved to the left and to the right of each sample of a line until it is `clearance` from an
/// edge (in meters). The samples must be in the order of travel.
pub fn rooms(track: &Track, samples: &[Sample], clearance: f64) -> Vec<[f64; 2]> {
    let mut near = samples.first().map_or(0.0, |first| track.center.nearest(first.point).along);
    let room = |sample: &Sample| {
        let here = track.center.place(sample.point, near, REACH);
        near = here.along;
        [1.0, -1.0].map(|side| {
            let toward_center = side * sample.curvature;
            let most = if toward_center > 0.0 { (TO_THE_CENTER / toward_center).min(FARTHEST) } else { FARTHEST };
            let mut place = here;
            let mut fits = |offset: f64| {
                place = track.center.place(beside(sample, side * offset), place.along, REACH);
                track.room(place) >= clearance
            };
            // The first step that does not fit, then the end by bisection.
            let (mut inside, mut outside) = (0.0, 0.25);
            while outside < most && fits(outside) {
                (inside, outside) = (outside, outside + 0.25);
            }
            for _ in 0..6 {
                let middle = 0.5 * (inside + outside);
                if fits(middle) { inside = middle } else { outside = middle }
            }
            inside.min(most)
        })
    };
    samples.iter().map(room).collect()
}

/// Minimizes Σ |p₋ − 2p + p₊|² over the offsets of every `stride`-th point, one after the other, with over-relaxation;
/// then interpolates the offsets between them.
fn descend(bases: &[Sample], rooms: &[[f64; 2]], offsets: &mut [f64], stride: usize) {
    let count = bases.len() / stride;
    let mut points: Vec<[f64; 2]> = (0..count).map(|i| beside(&bases[i * stride], offsets[i * stride])).collect();
    for _ in 0..SWEEPS {
        for i in 0..count {
            let at = |shift: usize| points[(i + shift) % count];
            let (back2, back, here, next, next2) = (at(count - 2), at(count - 1), at(0), at(1), at(2));
            let base = &bases[i * stride];
            let (s, c) = base.heading.sin_cos();
            let force = |axis: usize| back2[axis] + next2[axis] - 4.0 * (back[axis] + next[axis]) + 6.0 * here[axis];
            let slope = (c * force(1) - s * force(0)) / 6.0;
            let [left, right] = rooms[i * stride];
            let offset = &mut offsets[i * stride];
            *offset = (*offset - 1.5 * slope).clamp(-right, left);
            points[i] = beside(base, *offset);
        }
    }
    for i in 0..bases.len() {
        let (first, t) = (i / stride * stride, (i % stride) as f64 / stride as f64);
        if t > 0.0 {
            let [left, right] = rooms[i];
            let mixed = offsets[first] + t * (offsets[(first + stride) % bases.len()] - offsets[first]);
            offsets[i] = mixed.clamp(-right, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cuts_corners_and_keeps_its_distance() {
        let track = Track::load(None).unwrap();
        let line = least_curvature(&track, 1.5);
        let squares =
            |curve: &Curve| curve.samples().iter().map(|s| s.curvature.powi(2) * curve.spacing()).sum::<f64>();
        assert!(squares(&line) < 0.8 * squares(&track.center), "{} of {}", squares(&line), squares(&track.center));
        assert!(line.length() < track.center.length());
        for sample in line.samples() {
            let room = track.room(track.center.nearest(sample.point));
            assert!(room > 1.4, "{room} m at {:?}", sample.point);
        }
    }

    #[test]
    fn rooms_end_where_the_track_does() {
        let track = Track::load(None).unwrap();
        let samples: Vec<Sample> = track.center.samples().iter().step_by(7).copied().collect();
        for (sample, [left, right]) in samples.iter().zip(rooms(&track, &samples, 1.0)) {
            for (side, room) in [(1.0, left), (-1.0, right)] {
                let at_most = TO_THE_CENTER / (side * sample.curvature).max(1e-9);
                let found = track.room(track.center.nearest(beside(sample, side * room)));
                // At the clearance, unless coordinates end before.
                assert!((found - 1.0).abs() < 0.05 || (found > 1.0 && room > 0.99 * at_most), "{found} at {room}");
            }
        }
    }
}
