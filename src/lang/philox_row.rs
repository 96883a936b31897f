//! The rounds of Philox, for one row in each lane. Prints `shaders/generated/philox.wgsl`.

use super::math::Value::Word;
use super::math::{UniformWord, Value, Vector};
use super::philox::{MULTIPLIERS, WEYL};

/// The part of Philox that is common to all blocks of a row, computed once.
///
/// A counter is (row, block, pass, stream), and only the row varies across lanes. After the first round two words
/// depend on the row and not on the block, and two on the block and not on the row; so of the twenty products of ten
/// rounds only fifteen are computed per lane and block: one in the third round and two in each of the seven after it.
pub struct PhiloxRow<V: Vector> {
    pub(crate) key: [V::Uniform; 2],
    /// The high half of pass · multiplier in the first round.
    pub(crate) high: V::Uniform,
    /// The words that enter the third round, as far as they depend on the row: the first word enters through `product`
    /// only, the third lacks the block's contribution, and the fourth depends on the block alone.
    pub(crate) third: [V::Bits; 2],
    /// The (low, high) halves of the first product of the third round.
    pub(crate) product: [V::Bits; 2],
}

impl<V: Vector> Clone for PhiloxRow<V> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<V: Vector> Copy for PhiloxRow<V> {}

/// The words of a block, alike for all rows, by which a row's words are flipped.
pub(crate) struct OfBlock<U> {
    /// Flips the word whose product the third round takes.
    pub(crate) second: U,
    /// Flips the third word that leaves the third round.
    pub(crate) third: U,
}

/// The key of a round.
#[inline(always)]
pub(crate) fn key_of<U: UniformWord>(key: [U; 2], round: u32) -> [U; 2] {
    [key[0].plus(WEYL[0].wrapping_mul(round)), key[1].plus(WEYL[1].wrapping_mul(round))]
}

/// One round of the ten.
#[inline(always)]
pub(crate) fn philox_round<V: Vector>([a, b, c, d]: [V::Bits; 4], key: [V::Uniform; 2]) -> [V::Bits; 4] {
    let arguments = [Word(a), Word(b), Word(c), Word(d), Value::Uniform(key[0]), Value::Uniform(key[1])];
    if let Some(words) = V::call_words("philox_round", &arguments) {
        return words;
    }
    let (low0, high0) = V::bits_mul_wide(a, MULTIPLIERS[0]);
    let (low1, high1) = V::bits_mul_wide(c, MULTIPLIERS[1]);
    [V::bits_xor_of(high1, b, V::splat_uniform(key[0])), low1, V::bits_xor_of(high0, d, V::splat_uniform(key[1])), low0]
}

impl<V: Vector> PhiloxRow<V> {
    /// The rows of some lanes in one pass of one stream.
    #[inline(always)]
    pub(crate) fn new(row: V::Bits, pass: V::Uniform, stream: V::Uniform, key: [V::Uniform; 2]) -> Self {
        let (low, high) = (pass.times(MULTIPLIERS[1]), pass.times_high(MULTIPLIERS[1]));
        let (by_row_low, by_row_high) = V::bits_mul_wide(row, MULTIPLIERS[0]);
        let second = V::bits_xor(by_row_high, V::splat_uniform(stream ^ key[1]));
        let (c1, second_high) = V::bits_mul_wide(second, MULTIPLIERS[1]);
        let c0 = V::bits_xor(second_high, V::splat_uniform(low ^ key_of(key, 1)[0]));
        let (third_low, third_high) = V::bits_mul_wide(c0, MULTIPLIERS[0]);
        Self { key, high, third: [c1, by_row_low], product: [third_low, third_high] }
    }

    /// The words that depend on the block and not on the row.
    #[inline(always)]
    pub(crate) fn of_block(&self, block: V::Uniform) -> OfBlock<V::Uniform> {
        let word = self.high ^ block ^ self.key[0];
        let (c3, by_block) = (word.times(MULTIPLIERS[0]), word.times_high(MULTIPLIERS[0]));
        OfBlock { second: by_block ^ key_of(self.key, 1)[1], third: c3 ^ key_of(self.key, 2)[1] }
    }

    /// The four words of a block.
    #[inline(always)]
    pub(crate) fn block(&self, block: V::Uniform) -> [V::Bits; 4] {
        let [c1, c2] = self.third;
        let [low0, high0] = self.product;
        let of_block = self.of_block(block);
        let c2 = V::bits_xor(c2, V::splat_uniform(of_block.second));
        let (low1, high1) = V::bits_mul_wide(c2, MULTIPLIERS[1]);
        let third = key_of(self.key, 2);
        let mut words = [
            V::bits_xor_of(high1, c1, V::splat_uniform(third[0])),
            low1,
            V::bits_xor(high0, V::splat_uniform(of_block.third)),
            low0,
        ];
        // Unrolled by hand: the compiler does not unroll a loop here, and a loop moves the words between registers.
        words = philox_round::<V>(words, key_of(self.key, 3));
        words = philox_round::<V>(words, key_of(self.key, 4));
        words = philox_round::<V>(words, key_of(self.key, 5));
        words = philox_round::<V>(words, key_of(self.key, 6));
        words = philox_round::<V>(words, key_of(self.key, 7));
        words = philox_round::<V>(words, key_of(self.key, 8));
        words = philox_round::<V>(words, key_of(self.key, 9));
        words
    }
}
