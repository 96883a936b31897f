// Philox4x32-10. Twin: src/noise/philox_row.rs. `mul_wide` is in mul_wide.wgsl or, where the device has 64-bit integers, in
// mul_wide_int64.wgsl.

struct Product {
    low: U,
    high: U,
}

struct Words {
    x: U,
    y: U,
    z: U,
    w: U,
}

// The part of Philox that all draws of a row share, computed once per row: this leaves fifteen of the twenty products
// for each block.
struct PhiloxRow {
    // The high half of update · multiplier in the first round.
    high: u32,
    // The per-row part of the words that enter the third round.
    third_y: U,
    third_z: U,
    // The first product of the third round.
    product: Product,
}

const PHILOX_0 = 0xD2511F53u;
const PHILOX_1 = 0xCD9E8D57u;

// The high half of the product of two numbers that are uniform over rows.
fn mul_high(a: u32, b: u32) -> u32 {
    let cross = (a >> 16u) * (b & 0xffffu);
    let middle = (((a & 0xffffu) * (b & 0xffffu)) >> 16u) + (cross & 0xffffu) + (a & 0xffffu) * (b >> 16u);
    return (a >> 16u) * (b >> 16u) + (cross >> 16u) + (middle >> 16u);
}

// The key of a round.
fn philox_key(round: u32) -> vec2<u32> {
    return noise_seed() + round * vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
}

// The Philox state of rows of the current update, in one stream.
fn row_of(row: U, stream: u32) -> PhiloxRow {
    let by_row = mul_wide(row, PHILOX_0);
    let second = mul_wide(by_row.high ^ U(stream ^ noise_seed().y), PHILOX_1);
    let third = mul_wide(second.high ^ U((noise_number() * PHILOX_1) ^ philox_key(1u).x), PHILOX_0);
    return PhiloxRow(mul_high(noise_number(), PHILOX_1), second.low, by_row.low, third);
}

// The four words of a block of a row.
fn philox(row: PhiloxRow, block: u32) -> Words {
    let of_block = row.high ^ block ^ noise_seed().x;
    let q = mul_wide(row.third_z ^ U(mul_high(of_block, PHILOX_0) ^ philox_key(1u).y), PHILOX_1);
    var key = philox_key(2u);
    var words = Words(q.high ^ row.third_y ^ U(key.x), q.low, row.product.high ^ U((of_block * PHILOX_0) ^ key.y), row.product.low);
    for (var round = 3u; round < 10u; round++) {
        key = philox_key(round);
        let a = mul_wide(words.x, PHILOX_0);
        let b = mul_wide(words.z, PHILOX_1);
        words = Words(b.high ^ words.y ^ U(key.x), b.low, a.high ^ words.w ^ U(key.y), a.low);
    }
    return words;
}
