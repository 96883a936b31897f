//! Standard normals for many rows at once.
//!
//! Independent of any model, so it is compiled once, with this crate.

use pulp::{Simd, WithSimd};

use crate::interp::simd::isa::Isa;
use crate::interp::simd::lanes::Lanes;
use crate::interp::simd::unroll::{Unroll2, Unrolled};
use crate::kernels::pass::{ANTITHETIC, Pass, TILE};
use crate::lang::Register;
use crate::lang::philox_row::PhiloxRow;

/// The rows of a tile that are drawn in parallel: four registers, which on AVX-512 are a whole tile.
type DrawnLanes<S> = Unrolled<Unrolled<Lanes<S>>>;

type PairOfLanes<S> = Unroll2<Lanes<S>>;

/// Draws whole blocks of four normals for consecutive rows.
pub(crate) struct Draw<'a> {
    pub(crate) pass: &'a Pass,
    pub(crate) stream: u32,
    /// The first row.
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

    #[inline(always)]
    fn rows<V: Register>(&mut self, rows: usize) {
        let Self { pass, stream, row, block, .. } = *self;
        for lane in (0..rows).step_by(V::COUNT) {
            let draws = PhiloxRow::<V>::new(drawn::<V>(pass, row + lane), pass.number, stream, pass.seed);
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
        let rows = if self.pair { PairOfLanes::<S>::COUNT } else { TILE };
        if rows.is_multiple_of(DrawnLanes::<S>::COUNT) {
            self.rows::<DrawnLanes<S>>(rows);
        } else {
            self.rows::<Lanes<S>>(rows);
        }
    }
}

/// The draw that each row uses, from row `first` on.
#[inline(always)]
fn drawn<V: Register>(pass: &Pass, first: usize) -> V::Bits {
    let row = V::iota(first as u32);
    if pass.has(ANTITHETIC) { V::bits_shr(row, 1) } else { row }
}

/// Whether each row uses its draw with the sign flipped.
#[inline(always)]
pub(crate) fn mirrored<V: Register>(pass: &Pass, first: usize) -> V::Truth {
    // Branch-free: the mask is 0 if no row is mirrored.
    let odd = V::splat_bits(u32::from(pass.has(ANTITHETIC)));
    let rest = V::bits_and(V::iota(first as u32), odd);
    V::bits_eq(rest, V::splat_bits(1))
}
