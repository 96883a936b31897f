// Printed from src/lang/philox_row.rs (see src/runtime/gpu/generated.rs), and not to be edited.

struct Words {
    x: U,
    y: U,
    z: U,
    w: U,
}

struct PhiloxRow {
    high: u32,
    third_y: U,
    third_z: U,
    low0: U,
    high0: U,
}

fn row_of(k: U, stream: u32) -> PhiloxRow {
    let v0 = noise_number();
    let v1 = noise_seed();
    let v2 = mul_wide(k, 0xd2511f53u);
    let v3 = mul_wide(v2.high ^ U(stream ^ v1.y), 0xcd9e8d57u);
    let v4 = v3.high ^ U((v0 * 0xcd9e8d57u) ^ (v1.x + 0x9e3779b9u));
    let v5 = mul_wide(v4, 0xd2511f53u);
    return PhiloxRow(mul_high(v0, 0xcd9e8d57u), v3.low, v2.low, v5.low, v5.high);
}

fn philox_round(x: U, y: U, z: U, w: U, key_x: u32, key_y: u32) -> Words {
    let v0 = mul_wide(x, 0xd2511f53u);
    let v1 = mul_wide(z, 0xcd9e8d57u);
    return Words((v1.high ^ y) ^ U(key_x), v1.low, (v0.high ^ w) ^ U(key_y), v0.low);
}
