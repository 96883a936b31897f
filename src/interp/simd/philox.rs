//! The rounds of Philox with AVX2. Products are 64 bits wide, and are separated into low and high halves in the last
//! round only: a round of eight rows takes sixteen instructions instead of eighteen. [`PhiloxRow::block`] computes the
//! same words, in order.

use pulp::Simd;
use pulp::x86::V3;

use super::instructions::arch::__m256i;
use super::instructions::cast;
use super::lanes::Lanes;
use crate::lang::philox::MULTIPLIERS;
use crate::lang::philox_row::{PhiloxRow, key_of};

/// A word of eight rows, in the low halves of 64-bit elements; what the high halves hold has no effect. The first
/// register holds the even lanes, and the second one the odd lanes.
///
/// The low half of a product is a word as it is.
#[derive(Clone, Copy)]
struct Split([__m256i; 2]);

impl Split {
    #[inline(always)]
    fn of(simd: V3, word: __m256i) -> Self {
        Self([word, simd.avx2._mm256_srli_epi64::<32>(word)])
    }

    /// The 64-bit products.
    #[inline(always)]
    fn times(self, simd: V3, factor: u32) -> Self {
        let ([a, b], factor) = (self.0, simd.avx._mm256_set1_epi32(factor as i32));
        Self([simd.avx2._mm256_mul_epu32(a, factor), simd.avx2._mm256_mul_epu32(b, factor)])
    }

    #[inline(always)]
    fn xor(self, simd: V3, other: Self) -> Self {
        let ([a, b], [c, d]) = (self.0, other.0);
        Self([simd.avx2._mm256_xor_si256(a, c), simd.avx2._mm256_xor_si256(b, d)])
    }

    #[inline(always)]
    fn xor_uniform(self, simd: V3, word: u32) -> Self {
        let word = simd.avx._mm256_set1_epi32(word as i32);
        self.xor(simd, Self([word; 2]))
    }

    /// The high halves of products.
    #[inline(always)]
    fn high(self, simd: V3) -> Self {
        let [a, b] = self.0;
        Self([simd.avx2._mm256_srli_epi64::<32>(a), simd.avx2._mm256_srli_epi64::<32>(b)])
    }

    /// The low halves, in the order of the rows: even lanes 0 and 2, odd lanes 1 and 3, and so in the upper four.
    #[inline(always)]
    fn low_in_order(self, simd: V3) -> __m256i {
        let [a, b] = self.0;
        cast(simd.avx._mm256_shuffle_ps::<0b10_00_10_00>(cast(a), cast(b)))
    }

    /// The high halves, in this order.
    #[inline(always)]
    fn high_in_order(self, simd: V3) -> __m256i {
        let [a, b] = self.0;
        cast(simd.avx._mm256_shuffle_ps::<0b11_01_11_01>(cast(a), cast(b)))
    }
}

/// The order in which lanes hold rows, such that one shuffle per word puts the rows in order.
pub(super) const ROWS: [u32; 8] = [0, 2, 1, 3, 4, 6, 5, 7];

/// The four words of a block, in the order of the rows, for lanes that hold [`ROWS`].
#[inline(always)]
pub(super) fn words<S: Simd>(simd: V3, rows: &PhiloxRow<Lanes<S>>, block: u32) -> [__m256i; 4] {
    let ([c1, c2], [low0, high0], of_block) = (rows.third, rows.product, rows.of_block(block));
    // These two depend on the rows only: the compiler moves them out of the loop over blocks.
    let c1 = Split::of(simd, flipped(simd, cast(c1), key_of(rows.key, 2)[0]));
    let low0 = Split::of(simd, cast(low0));
    let low1 = Split::of(simd, flipped(simd, cast(c2), of_block.second)).times(simd, MULTIPLIERS[1]);
    let third = Split::of(simd, flipped(simd, cast(high0), of_block.third));
    let mut words = [low1.high(simd).xor(simd, c1), low1, third, low0];
    words = round(simd, words, key_of(rows.key, 3));
    words = round(simd, words, key_of(rows.key, 4));
    words = round(simd, words, key_of(rows.key, 5));
    words = round(simd, words, key_of(rows.key, 6));
    words = round(simd, words, key_of(rows.key, 7));
    words = round(simd, words, key_of(rows.key, 8));

    let [a, b, c, d] = words;
    let (by_a, by_c) = (a.times(simd, MULTIPLIERS[0]), c.times(simd, MULTIPLIERS[1]));
    let key = key_of(rows.key, 9);
    [
        flipped(simd, simd.avx2._mm256_xor_si256(by_c.high_in_order(simd), b.low_in_order(simd)), key[0]),
        by_c.low_in_order(simd),
        flipped(simd, simd.avx2._mm256_xor_si256(by_a.high_in_order(simd), d.low_in_order(simd)), key[1]),
        by_a.low_in_order(simd),
    ]
}

/// Flips the bits of `by` in every word.
#[inline(always)]
fn flipped(simd: V3, word: __m256i, by: u32) -> __m256i {
    simd.avx2._mm256_xor_si256(word, simd.avx._mm256_set1_epi32(by as i32))
}

/// One round of the ten.
#[inline(always)]
fn round(simd: V3, [a, b, c, d]: [Split; 4], key: [u32; 2]) -> [Split; 4] {
    let (by_a, by_c) = (a.times(simd, MULTIPLIERS[0]), c.times(simd, MULTIPLIERS[1]));
    [
        by_c.high(simd).xor(simd, b).xor_uniform(simd, key[0]),
        by_c,
        by_a.high(simd).xor(simd, d).xor_uniform(simd, key[1]),
        by_a,
    ]
}
