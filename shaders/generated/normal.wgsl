// Printed from src/lang/normal.rs (see src/runtime/gpu/generated.rs), and not to be edited.

struct Normals {
    x: F,
    y: F,
    z: F,
    w: F,
}

fn box_muller(a: U, b: U) -> Two {
    let v0 = gibbs_ln_positive(2.0f - bitcast<F>((a >> U(9u)) ^ U(0x3f800000u)));
    let v1 = sqrt(max(v0 * -2.0f, F(0.0f)));
    let v2 = bitcast<F>(((b << U(2u)) >> U(9u)) ^ U(0x3f800000u));
    let v3 = gibbs_sin_cos_from(b, (v2 - 1.5f) * 1.5707964f);
    return Two(v1 * v3.y, v1 * v3.x);
}

fn normals(row: PhiloxRow, block: u32) -> Normals {
    let v0 = noise_seed();
    let v1 = (row.high ^ block) ^ v0.x;
    let v2 = U(mul_high(v1, 0xd2511f53u) ^ (v0.y + 0xbb67ae85u));
    let v3 = mul_wide(row.third_z ^ v2, 0xcd9e8d57u);
    let v4 = row.high0 ^ U((v1 * 0xd2511f53u) ^ (v0.y + 0x76cf5d0au));
    let v5 = philox_round(
        (v3.high ^ row.third_y) ^ U(v0.x + 0x3c6ef372u),
        v3.low,
        v4,
        row.low0,
        v0.x + 0xdaa66d2bu,
        v0.y + 0x32370b8fu,
    );
    let v6 = philox_round(v5.x, v5.y, v5.z, v5.w, v0.x + 0x78dde6e4u, v0.y + 0xed9eba14u);
    let v7 = philox_round(v6.x, v6.y, v6.z, v6.w, v0.x + 0x1715609du, v0.y + 0xa9066899u);
    let v8 = philox_round(v7.x, v7.y, v7.z, v7.w, v0.x + 0xb54cda56u, v0.y + 0x646e171eu);
    let v9 = philox_round(v8.x, v8.y, v8.z, v8.w, v0.x + 0x5384540fu, v0.y + 0x1fd5c5a3u);
    let v10 = philox_round(v9.x, v9.y, v9.z, v9.w, v0.x + 0xf1bbcdc8u, v0.y + 0xdb3d7428u);
    let v11 = philox_round(v10.x, v10.y, v10.z, v10.w, v0.x + 0x8ff34781u, v0.y + 0x96a522adu);
    let v12 = box_muller(v11.x, v11.y);
    let v13 = box_muller(v11.z, v11.w);
    return Normals(v12.x, v12.y, v13.x, v13.y);
}
