//! The file that a training is resumed from.
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
//! B ×    4 W: values, 4 W: first moments, 4 W: second moments, f32 each; 4: steps of the optimiser, u32
//! 8      checksum of all bytes before: FNV-1a with 64 bits
//! ```

use crate::checksum::checksum;
use std::io::{Read, Write};

use super::optimiser::Optimiser;

const MAGIC: &[u8; 8] = b"gibbs-pg";
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Why a training could not be saved or resumed. Whatever it is, the training goes on as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Reading or writing failed.
    #[error("the checkpoint could not be read or written: {message}")]
    Io {
        /// What the system says.
        message: String,
    },
    /// It does not begin as a checkpoint does.
    #[error("this is not a checkpoint of a policy search: it does not begin with \"gibbs-pg\"")]
    NotACheckpoint,
    /// It was written by another version of the format.
    #[error("the checkpoint is of version {found} of the format, but only version {expected} can be read")]
    Version {
        /// Its version.
        found: u32,
        /// The version that can be read.
        expected: u32,
    },
    /// It ends too early, or goes on after its end.
    #[error("the checkpoint is {found} bytes long, but must be {expected}")]
    Length {
        /// How long it is.
        found: usize,
        /// How long it should be.
        expected: usize,
    },
    /// Its checksum is not that of its contents.
    #[error("the checkpoint is damaged: its checksum does not match")]
    Damaged,
    /// It belongs to a training of other sizes.
    #[error("the checkpoint has {found} {what}, but this training has {expected}")]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// How many the checkpoint has.
        found: u32,
        /// How many this training has.
        expected: u32,
    },
}

/// Everything that training changes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checkpoint {
    /// N, M, B and W.
    pub(super) sizes: [u32; 4],
    pub(super) iteration: u32,
    pub(super) seed: u64,
    pub(super) values: Vec<f32>,
    pub(super) optimisers: Vec<Optimiser>,
}

impl Checkpoint {
    pub(super) fn write(&self, mut to: impl Write) -> Result<(), CheckpointError> {
        let mut bytes = MAGIC.to_vec();
        for word in [VERSION].iter().chain(&self.sizes).chain([&self.iteration]) {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(self.seed.to_le_bytes());
        let width = self.sizes[3] as usize;
        for (values, optimiser) in self.values.chunks_exact(width).zip(&self.optimisers) {
            for value in values.iter().chain(&optimiser.first).chain(&optimiser.second) {
                bytes.extend(value.to_le_bytes());
            }
            bytes.extend(optimiser.count.to_le_bytes());
        }
        bytes.extend(checksum(&bytes).to_le_bytes());
        let written = to.write_all(&bytes).and_then(|()| to.flush());
        written.map_err(|error| CheckpointError::Io { message: error.to_string() })
    }

    /// Reads one that must have these sizes.
    pub(super) fn read(mut from: impl Read, sizes: [u32; 4]) -> Result<Self, CheckpointError> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|error| CheckpointError::Io { message: error.to_string() })?;
        if !bytes.starts_with(MAGIC) {
            return Err(CheckpointError::NotACheckpoint);
        }
        // Of a damaged file the sizes may be anything.
        let learner = |width: u32| (width as usize).saturating_mul(12).saturating_add(4);
        let length = |[_, _, learners, width]: [u32; 4]| {
            (learners as usize).saturating_mul(learner(width)).saturating_add(HEADER + 8)
        };
        let short = |expected: usize| CheckpointError::Length { found: bytes.len(), expected };
        let mut words = bytes[MAGIC.len()..].as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        let mut word = || words.next().ok_or_else(|| short(length(sizes)));
        match word()? {
            VERSION => {}
            found => return Err(CheckpointError::Version { found, expected: VERSION }),
        }
        let names = ["states", "controls", "learners", "numbers per learner"];
        let mut found = [0; 4];
        for size in &mut found {
            *size = word()?;
        }
        let (iteration, low, high) = (word()?, word()?, word()?);
        if bytes.len() != length(found) {
            return Err(short(length(found)));
        }
        let (contents, sum) = bytes.split_at(bytes.len() - 8);
        if checksum(contents).to_le_bytes() != sum {
            return Err(CheckpointError::Damaged);
        }
        for ((what, found), expected) in names.into_iter().zip(found).zip(sizes) {
            if found != expected {
                return Err(CheckpointError::Mismatch { what, found, expected });
            }
        }
        let mut checkpoint = Self {
            sizes,
            iteration,
            seed: u64::from(high) << 32 | u64::from(low),
            values: Vec::new(),
            optimisers: Vec::new(),
        };
        for learner in contents[HEADER..].chunks_exact(learner(sizes[3])) {
            let (numbers, count) = learner.split_at(learner.len() - 4);
            let numbers: Vec<f32> = numbers.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
            let [values, first, second] =
                [0, 1, 2].map(|i| numbers[i * sizes[3] as usize..][..sizes[3] as usize].to_vec());
            let count = count.iter().rev().fold(0, |count, byte| count << 8 | u32::from(*byte));
            checkpoint.values.extend(values);
            checkpoint.optimisers.push(Optimiser { first, second, count });
        }
        Ok(checkpoint)
    }
}

/// Bytes before the learners.
const HEADER: usize = 8 + 4 + 4 * 4 + 4 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let sizes = [3, 1, 2, 2];
        let optimiser = |x: f32| Optimiser { first: vec![x, 2.0 * x], second: vec![3.0 * x, -x], count: 7 };
        let saved = Checkpoint {
            sizes,
            iteration: 12,
            seed: 0x1234_5678_9abc_def0,
            values: vec![1.0, -2.5, f32::MIN_POSITIVE, 4.0],
            optimisers: vec![optimiser(0.5), optimiser(-1.5)],
        };
        let mut bytes = Vec::new();
        saved.write(&mut bytes).expect("a vector takes it");
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
