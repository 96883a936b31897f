//! [`Random`], a generator for the host: initial states, initial parameters, randomized models.

use super::stream::Stream;
use super::{normal, philox};

/// A random generator for the host: Philox4x32-10 with an incrementing counter.
///
/// The same seed and stream give the same numbers on every machine, and [`seek`](Self::seek) returns to any
/// [`position`](Self::position), so that a computation that draws from it can be stopped and resumed. Word w of a
/// stream is word w mod 4 of the counter (⌊w/4⌋ low, ⌊w/4⌋ high, stream, 2²⁶) under the key of the seed. Not for
/// cryptography.
///
/// # Example
///
/// ```
/// use gibbs::Random;
///
/// let mut random = Random::new(7);
/// let (u, z) = (random.uniform(), random.normal());
/// assert!((0.0..1.0).contains(&u) && z.abs() < 5.7);
///
/// let here = random.position();
/// let ahead = random.normal();
/// random.seek(here);
/// assert_eq!(random.normal(), ahead);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Random {
    key: [u32; 2],
    stream: u32,
    position: u64,
    /// The words of the block at the current position.
    words: [u32; 4],
}

impl Random {
    /// Stream 0 of a seed.
    pub fn new(seed: u64) -> Self {
        Self::stream(seed, 0)
    }

    /// One of the streams of a seed; streams are independent.
    pub fn stream(seed: u64, stream: u32) -> Self {
        Self { key: philox::key(seed), stream, position: 0, words: [0; 4] }
    }

    /// The next 32 random bits.
    pub fn bits(&mut self) -> u32 {
        let place = (self.position % 4) as usize;
        if place == 0 {
            self.fill();
        }
        self.position += 1;
        self.words[place]
    }

    /// Uniform in [0, 1): one of 2²⁴ numbers. Takes one word.
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [`low`, `high`], to rounding. Takes one word.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        self.uniform().mul_add(high - low, low)
    }

    /// Standard normal, |z| ≤ 5.65. Takes two words.
    pub fn normal(&mut self) -> f32 {
        let (a, b) = (self.bits(), self.bits());
        normal::box_muller_first(a, b)
    }

    /// The number of words taken so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves to the position after `position` words.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
        if !position.is_multiple_of(4) {
            self.fill();
        }
    }

    /// Computes the words of the block at the current position.
    fn fill(&mut self) {
        let block = self.position / 4;
        self.words = philox::philox([block as u32, (block >> 32) as u32, self.stream, Stream::Host.word(0)], self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_pinned() {
        let mut random = Random::new(0);
        assert_eq!(random.bits(), philox::philox([0, 0, 0, 1 << 26], [0, 0])[0]);
        let mut other = Random::stream(3, 5);
        other.seek(4 * ((7 << 32) + 9) + 2);
        assert_eq!(other.bits(), philox::philox([9, 7, 5, 1 << 26], [3, 0])[2]);
    }

    #[test]
    fn numbers_are_spread_as_they_should() {
        const COUNT: usize = 100_000;
        let mut random = Random::new(11);
        let (mut mean, mut square, mut cube) = (0.0, 0.0, 0.0);
        for _ in 0..COUNT {
            let z = f64::from(random.normal());
            (mean, square, cube) = (mean + z, square + z * z, cube + z * z * z);
        }
        let n = COUNT as f64;
        // Five standard errors of each moment: the standard deviations of z, z² and z³ are 1, √2 and √15.
        let bound = 5.0 / n.sqrt();
        assert!((mean / n).abs() < bound, "{}", mean / n);
        assert!((square / n - 1.0).abs() < 2_f64.sqrt() * bound, "{}", square / n);
        assert!((cube / n).abs() < 15_f64.sqrt() * bound, "{}", cube / n);
        let uniform: f64 = (0..COUNT).map(|_| f64::from(random.between(-1.0, 3.0))).sum::<f64>() / n;
        assert!((uniform - 1.0).abs() < 4.0 / 12_f64.sqrt() * bound, "{uniform}");
    }

    #[test]
    fn a_position_can_be_returned_to() {
        let mut random = Random::new(2);
        for position in 0..9 {
            random.seek(position);
            let ahead: Vec<u32> = (0..6).map(|_| random.bits()).collect();
            let mut walked = Random::new(2);
            for _ in 0..position {
                walked.bits();
            }
            assert_eq!(walked.position(), position);
            assert_eq!((0..6).map(|_| walked.bits()).collect::<Vec<_>>(), ahead);
        }
    }
}
