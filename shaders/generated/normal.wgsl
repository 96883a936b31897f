// Printed from src/lang/normal.rs (see src/runtime/gpu/generated.rs), and not to be edited.

struct Normals {
    x: F,
    y: F,
    z: F,
    w: F,
}

fn box_muller(a: U, b: U) -> Two {
    let v0 = gibbs_split(2.0f - bitcast<F>((a >> U(9u)) | U(0x3f800000u)));
    let v1 = v0.y * v0.y;
    let v2 = fma(fma(F(-0.14075367f), v0.y, F(0.2302922f)), v0.y, F(-0.23353998f));
    let v3 = fma(fma(v2, v0.y, F(0.24840282f)), v0.y, F(-0.28498647f));
    let v4 = fma(fma(v3, v0.y, F(0.33336115f)), v0.y, F(-0.4000143f));
    let v5 = fma(fma(v4, v0.y, F(0.49999988f)), v0.y, F(-0.6666666f));
    let v6 = fma(v0.y, F(-2.0f), v1 + fma(v5 * v0.y, v1, v0.x * 5.0591097e-11f));
    let v7 = bitcast<F>(((b >> U(7u)) & U(0x7fffffu)) | U(0x3f800000u));
    let v8 = gibbs_sin_cos_within((v7 - 1.5f) * 1.5707964f);
    let v9 = (b & U(0x40000000u)) != U(0u);
    let v10 = bitcast<U>(sqrt(abs(fma(v0.x, F(-1.6530976e-7f), v6))));
    let v11 = bitcast<F>(((b + U(0x40000000u)) & U(0x80000000u)) | v10);
    let v12 = bitcast<F>((b & U(0x80000000u)) | v10) * select(v8.x, v8.y, v9);
    return Two(v11 * select(v8.y, v8.x, v9), v12);
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
