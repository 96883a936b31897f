//! Checkpoints, from which training is resumed.
//!
//! A checkpoint is untrusted input. Hence no more is read than a checkpoint of the resuming training is long, and every
//! number is checked to be one that training could have written: the checksum guards against damage, not against
//! tampering.
//!
//! All numbers are little-endian; version 1 is
//!
//! ```text
//! bytes  what
//! 8      "gibbs-pg"
//! 4      version, u32
//! 4 × 4  N, M, learners B, width W (parameters, and with score rows the logarithms of M standard deviations), u32 each
//! 4      iterations so far, u32
//! 8      seed, u64
//! B ×    4 W: values, 4 W: first moments, 4 W: second moments, f32 each; 4: steps of the optimizer, u32
//! 8      checksum of all bytes before: FNV-1a with 64 bits
//! ```

use std::io::Read;
use std::path::Path;

use super::optimizer::Optimizer;
use crate::error::{CheckpointError, IoFailure};
use crate::runtime::checksum::checksum;
use crate::runtime::replace::replace;

const MAGIC: &[u8; 8] = b"gibbs-pg";
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Bound on |ln σ|: options allow σ up to 1e24 (ln = 55.3), plus a margin.
const MAX_LOG_STD: f32 = 56.0;

/// Everything that training changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checkpoint {
    /// N, M, B and W.
    pub(crate) sizes: [u32; 4],
    pub(crate) iteration: u32,
    pub(crate) seed: u64,
    pub(crate) values: Vec<f32>,
    pub(crate) optimizers: Vec<Optimizer>,
}

impl Checkpoint {
    /// Serializes the checkpoint.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for word in [VERSION].iter().chain(&self.sizes).chain([&self.iteration]) {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(self.seed.to_le_bytes());
        let width = self.sizes[3] as usize;
        for (values, optimizer) in self.values.chunks_exact(width).zip(&self.optimizers) {
            for value in values.iter().chain(&optimizer.first).chain(&optimizer.second) {
                bytes.extend(value.to_le_bytes());
            }
            bytes.extend(optimizer.count.to_le_bytes());
        }
        bytes.extend(checksum(&bytes).to_le_bytes());
        bytes
    }

    /// Replaces a file by the serialized checkpoint.
    pub(crate) fn write_to(&self, file: &Path) -> Result<(), CheckpointError> {
        Ok(replace(file, &self.bytes()).map_err(IoFailure::from)?)
    }

    /// Refuses numbers that training cannot have written. The first `parameters` values of a learner are θ, the others
    /// logarithms of standard deviations.
    pub(crate) fn check(&self, parameters: usize) -> Result<(), CheckpointError> {
        let width = self.sizes[3] as usize;
        for (learner, (values, optimizer)) in self.values.chunks_exact(width).zip(&self.optimizers).enumerate() {
            let (theta, log_std) = values.split_at(parameters.min(width));
            type Valid = fn(f32) -> bool;
            let finite: Valid = |v| v.is_finite();
            let not_negative: Valid = |v| (0.0..=f32::MAX).contains(&v);
            let log: Valid = |v| (-MAX_LOG_STD..=MAX_LOG_STD).contains(&v);
            for (what, numbers, valid, expected) in [
                ("parameter", theta, finite, "a finite number"),
                ("logarithm of a standard deviation", log_std, log, "a number between -56 and 56"),
                ("first moment", &optimizer.first, finite, "a finite number"),
                ("second moment", &optimizer.second, not_negative, "a finite number that is not negative"),
            ] {
                if let Some(index) = numbers.iter().position(|v| !valid(*v)) {
                    let value = numbers[index].to_string();
                    return Err(CheckpointError::Number { what, index, learner, value, expected });
                }
            }
        }
        Ok(())
    }

    /// Reads a checkpoint, which must have these sizes, and at most one byte beyond it.
    pub(crate) fn read(mut from: impl Read, sizes: [u32; 4]) -> Result<Self, CheckpointError> {
        let learner = (sizes[3] as usize).saturating_mul(12).saturating_add(4);
        let expected = (sizes[2] as usize).saturating_mul(learner).saturating_add(HEADER + 8);
        let mut bytes = Vec::new();
        // Reads up to `to` bytes in total; returns whether there were as many. Magic and header are checked before the
        // rest is read.
        let mut read_on = |bytes: &mut Vec<u8>, to: usize| -> Result<bool, CheckpointError> {
            let more = to.saturating_sub(bytes.len());
            from.by_ref().take(more as u64).read_to_end(bytes).map_err(IoFailure::from)?;
            Ok(bytes.len() == to)
        };
        let length = |found: usize| CheckpointError::Length { found, expected };

        if !read_on(&mut bytes, MAGIC.len())? || bytes != MAGIC {
            return Err(CheckpointError::NotACheckpoint);
        }
        if !read_on(&mut bytes, MAGIC.len() + 4)? {
            return Err(length(bytes.len()));
        }
        let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
        match word(&bytes, MAGIC.len()) {
            VERSION => {}
            found => return Err(CheckpointError::Version { found, expected: VERSION }),
        }
        if !read_on(&mut bytes, HEADER)? {
            return Err(length(bytes.len()));
        }
        let header: [u32; 7] = std::array::from_fn(|i| word(&bytes, MAGIC.len() + 4 + 4 * i));
        let [states, controls, learners, width, iteration, low, high] = header;
        let names = ["states", "controls", "learners", "numbers per learner"];
        for ((what, found), expected) in names.into_iter().zip([states, controls, learners, width]).zip(sizes) {
            if found != expected {
                return Err(CheckpointError::Mismatch { what, found, expected });
            }
        }
        if !read_on(&mut bytes, expected)? || read_on(&mut bytes, expected + 1)? {
            return Err(length(bytes.len()));
        }
        let (contents, sum) = bytes.split_at(expected - 8);
        if checksum(contents).to_le_bytes() != sum {
            return Err(CheckpointError::Damaged);
        }
        let mut checkpoint = Self {
            sizes,
            iteration,
            seed: u64::from(high) << 32 | u64::from(low),
            values: Vec::new(),
            optimizers: Vec::new(),
        };
        for learner in contents[HEADER..].chunks_exact(learner) {
            let (numbers, count) = learner.split_at(learner.len() - 4);
            let numbers: Vec<f32> = numbers.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
            let [values, first, second] =
                [0, 1, 2].map(|i| numbers[i * sizes[3] as usize..][..sizes[3] as usize].to_vec());
            let count = count.iter().rev().fold(0, |count, byte| count << 8 | u32::from(*byte));
            checkpoint.values.extend(values);
            checkpoint.optimizers.push(Optimizer { first, second, count });
        }
        Ok(checkpoint)
    }
}

/// The bytes before the learners.
const HEADER: usize = 8 + 4 + 4 * 4 + 4 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let sizes = [3, 1, 2, 2];
        let optimizer = |x: f32| Optimizer { first: vec![x, 2.0 * x], second: vec![3.0 * x, -x], count: 7 };
        let saved = Checkpoint {
            sizes,
            iteration: 12,
            seed: 0x1234_5678_9abc_def0,
            values: vec![1.0, -2.5, f32::MIN_POSITIVE, 4.0],
            optimizers: vec![optimizer(0.5), optimizer(-1.5)],
        };
        let bytes = saved.bytes();
        assert_eq!(Checkpoint::read(&bytes[..], sizes), Ok(saved));

        assert_eq!(Checkpoint::read(&b"something"[..], sizes), Err(CheckpointError::NotACheckpoint));
        for cut in [9, 20, bytes.len() - 1] {
            let read = Checkpoint::read(&bytes[..cut], sizes);
            assert_eq!(read, Err(CheckpointError::Length { found: cut, expected: bytes.len() }));
        }
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert!(matches!(Checkpoint::read(&longer[..], sizes), Err(CheckpointError::Length { .. })));
        let mut newer = bytes.clone();
        newer[8] = 2;
        assert_eq!(Checkpoint::read(&newer[..], sizes), Err(CheckpointError::Version { found: 2, expected: 1 }));
        let mut damaged = bytes.clone();
        damaged[50] ^= 1;
        assert_eq!(Checkpoint::read(&damaged[..], sizes), Err(CheckpointError::Damaged));
        let other = Checkpoint::read(&bytes[..], [3, 1, 4, 2]);
        assert_eq!(other, Err(CheckpointError::Mismatch { what: "learners", found: 2, expected: 4 }));
    }
}
