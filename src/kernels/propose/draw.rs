//! Standard normals for many rows at once.
//!
//! Independent of any model, so it is compiled once, with this crate.

use pulp::{Simd, WithSimd};

use crate::interp::simd::isa::Isa;
use crate::interp::simd::lanes::Lanes;
use crate::interp::simd::unroll::Unrolled;
use crate::kernels::pass::{ANTITHETIC, Pass, TILE};
use crate::lang::Register;
use crate::lang::philox_row::PhiloxRow;

/// The rows of a tile that are drawn in parallel: four registers, which on AVX-512 are a whole tile.
type DrawnLanes<S> = Unrolled<Unrolled<Lanes<S>>>;

type PairOfLanes<S> = Unrolled<Lanes<S>>;

/// Draws whole blocks of four normals for consecutive rows.
pub(crate) struct Draw<'a> {
    pub(crate) pass: &'a Pass,
    pub(crate) stream: u32,
    /// The first row; an even one.
    pub(crate) row: usize,
    /// Whether only a pair of registers of rows is drawn; else a tile.
    pub(crate) pair: bool,
    /// The first block.
    pub(crate) block: usize,
    /// The output, draw after draw, each as wide as a tile: four draws per block, possibly fewer for the last.
    pub(crate) into: &'a mut [f32],
}

impl Draw<'_> {
    pub(crate) fn run(self, isa: Isa) {
        isa.run(self);
    }

    /// Draws for `rows` rows, the first of which has draw number `first`.
    #[cfg_attr(optimized, inline(always))]
    fn rows<V: Register>(&mut self, rows: usize, first: usize) {
        let Self { pass, stream, block, .. } = *self;
        for lane in (0..rows).step_by(V::COUNT) {
            let draws = PhiloxRow::<V>::new(V::rows_of_words((first + lane) as u32), pass.number, stream, pass.seed);
            for (i, columns) in self.into.chunks_mut(4 * TILE).enumerate() {
                for (column, z) in columns.chunks_exact_mut(TILE).zip(V::normals(&draws, (block + i) as u32)) {
                    z.store(&mut column[lane..]);
                }
            }
        }
    }
}

impl WithSimd for Draw<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let (mut rows, mut first) = (if self.pair { 2 * Lanes::<S>::COUNT } else { TILE }, self.row);
        // Pairs of rows share a draw.
        let shared = self.pass.has(ANTITHETIC);
        if shared {
            debug_assert!(first.is_multiple_of(2), "pairs are drawn together");
            (rows, first) = (rows / 2, first / 2);
        }
        if rows.is_multiple_of(DrawnLanes::<S>::COUNT) {
            self.rows::<DrawnLanes<S>>(rows, first);
        } else if rows.is_multiple_of(PairOfLanes::<S>::COUNT) {
            self.rows::<PairOfLanes<S>>(rows, first);
        } else {
            self.rows::<Lanes<S>>(rows, first);
        }
        if shared {
            self.into.chunks_exact_mut(TILE).for_each(|column| repeat(&mut column[..2 * rows]));
        }
    }
}

/// Repeats each number of the first half, so that they fill the whole.
#[inline(always)]
fn repeat(column: &mut [f32]) {
    // From a copy, so that the loop becomes vector instructions.
    let (mut half, count) = ([0.0; TILE / 2], column.len() / 2);
    half[..count].copy_from_slice(&column[..count]);
    column.as_chunks_mut().0.iter_mut().zip(half).for_each(|(pair, z)| *pair = [z, z]);
}

/// Whether each row uses its draw with the sign flipped.
#[inline(always)]
pub(crate) fn mirrored<V: Register>(pass: &Pass, first: usize) -> V::Truth {
    // Branch-free: the mask is 0 if no row is mirrored.
    let odd = V::splat_bits(u32::from(pass.has(ANTITHETIC)));
    let rest = V::bits_and(V::iota(first as u32), odd);
    V::bits_eq(rest, V::splat_bits(1))
}
