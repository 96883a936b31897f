//! The data sets.

use std::f32::consts::TAU;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub struct DataSet {
    pub name: &'static str,
    /// Row after row.
    pub rows: Vec<f32>,
    pub width: usize,
    /// The standard deviation of the noise at the last level: about the distance of a row to its neighbors.
    pub apart: f32,
    /// The standard deviation of the noise at the first level: wider than the data.
    pub wide: f32,
    pub reward: fn(&[f32]) -> f32,
}

/// Points along a spiral of a turn and a third, displaced from it by 0.04. The reward is the distance from the middle,
/// 1 per 0.5.
pub fn spiral(count: usize, seed: u64) -> DataSet {
    let mut random = StdRng::seed_from_u64(seed);
    let mut point = || {
        let radius = 0.25 + 1.75 * random.random::<f32>().sqrt();
        let (s, c) = (0.75 * TAU * radius).sin_cos();
        // A sum of uniform numbers is close enough to normal.
        let mut off = || (0..4).map(|_| random.random::<f32>() - 0.5).sum::<f32>() * 0.07;
        [radius * c + off(), radius * s + off()]
    };
    let rows = (0..count).flat_map(|_| point()).collect();
    let apart = 0.03 * (4000.0 / count as f32).sqrt();
    DataSet { name: "spiral", rows, width: 2, apart, wide: 4.0, reward: |row| 2.0 * row[0].hypot(row[1]) }
}

/// The pixels along a side of a picture.
pub const SIDE: usize = 12;

/// Pictures of a blurred spot, at a random position and of a random size. The reward is its horizontal position, from
/// −1.5 on the left to 1.5 on the right.
pub fn spots(count: usize, seed: u64) -> DataSet {
    let mut random = StdRng::seed_from_u64(seed ^ 1);
    let mut rows = Vec::with_capacity(count * SIDE * SIDE);
    for _ in 0..count {
        let mut between = |low: f32, high: f32| low + (high - low) * random.random::<f32>();
        let (x, y, size) = (between(2.5, 8.5), between(2.5, 8.5), between(1.0, 2.0));
        for pixel in 0..SIDE * SIDE {
            let (dx, dy) = ((pixel % SIDE) as f32 - x, (pixel / SIDE) as f32 - y);
            rows.push((-0.5 * (dx * dx + dy * dy) / (size * size)).exp());
        }
    }
    // Three numbers determine a spot.
    let apart = 0.15 * (4000.0 / count as f32).cbrt();
    DataSet { name: "spots", rows, width: SIDE * SIDE, apart, wide: 6.0, reward: to_the_right }
}

/// The horizontal offset of the center of brightness from the middle, in units of two pixels.
fn to_the_right(picture: &[f32]) -> f32 {
    let sums = picture.iter().enumerate().fold([0.0, 1e-6], |[moment, sum], (pixel, brightness)| {
        [moment + brightness * (pixel % SIDE) as f32, sum + brightness]
    });
    (sums[0] / sums[1] - 5.5) * 0.5
}
