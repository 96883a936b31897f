//! Standard normals for many rows at once. Twin: `normals` in `shaders/normal.wgsl`.
//!
//! Independent of any model, so it is compiled once, with this crate.

use pulp::{Simd, WithSimd};

use super::isa::Isa;
use crate::noise::Row;
use crate::scalar::{Abreast, Lanes, Pair, Register};
use crate::update::{ANTITHETIC, TILE, Update};

/// The rows of a tile that are drawn in parallel: four registers, which on AVX-512 are a whole tile.
type Side<S> = Abreast<Abreast<Lanes<S>>>;

type Two<S> = Pair<Lanes<S>>;

/// Draws whole blocks of four normals for consecutive rows.
pub(crate) struct Draw<'a> {
    pub(crate) update: &'a Update,
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
        let Self { update, stream, row, block, .. } = *self;
        for lane in (0..rows).step_by(V::COUNT) {
            let draws = Row::<V>::new(drawn::<V>(update, row + lane), update.number, stream, update.seed);
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
        let rows = if self.pair { Two::<S>::COUNT } else { TILE };
        if rows.is_multiple_of(Side::<S>::COUNT) {
            self.rows::<Side<S>>(rows);
        } else {
            self.rows::<Lanes<S>>(rows);
        }
    }
}

/// The draw that each row uses, from row `first` on.
#[inline(always)]
fn drawn<V: Register>(update: &Update, first: usize) -> V::Bits {
    let row = V::counting(first as u32);
    if update.has(ANTITHETIC) { V::bits_shr(row, 1) } else { row }
}

/// Whether each row uses its draw with the sign flipped.
#[inline(always)]
pub(super) fn mirrored<V: Register>(update: &Update, first: usize) -> V::Truth {
    // Branch-free: the mask is 0 if no row is mirrored.
    let odd = V::splat_bits(u32::from(update.has(ANTITHETIC)));
    let rest = V::bits_and(V::counting(first as u32), odd);
    V::bits_eq(rest, V::splat_bits(1))
}
