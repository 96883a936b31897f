// Printed from src/lang/math.rs (see src/runtime/gpu/generated.rs), and not to be edited.

struct Two {
    x: F,
    y: F,
}

fn gibbs_sin_cos_within(r: F) -> Two {
    let v0 = r * r;
    let v1 = fma(fma(F(-0.00019515296f), v0, F(0.008332161f)), v0, F(-0.16666655f));
    let v2 = fma(fma(F(2.4433157e-5f), v0, F(-0.0013887316f)), v0, F(0.041666646f));
    return Two(fma(v1 * v0, r, r), fma(v2 * v0, v0, fma(v0, F(-0.5f), F(1.0f))));
}

fn gibbs_sin_cos(x: F) -> Two {
    let v0 = bitcast<U>(fma(x, F(0.63661975f), F(12582912.0f)));
    let v1 = U(pass_zero);
    let v2 = v0 ^ v1;
    let v3 = bitcast<F>(v2) - 12582912.0f;
    let v4 = fma(bitcast<F>(bitcast<U>(v3) ^ v1), F(-0.0004837513f), fma(v3, F(-1.5703125f), x));
    let v5 = v2 << U(30u);
    let v6 = gibbs_sin_cos_within(fma(v3, F(-7.54979e-8f), v4));
    let v7 = (v5 & U(0x40000000u)) != U(0u);
    let v8 = select(v6.x, v6.y, v7);
    let v9 = select(v6.y, v6.x, v7);
    let v10 = bitcast<I>(v5) < I(0);
    return Two(select(v8, -v8, v10), select(v9, -v9, v7 != v10));
}

fn gibbs_exp(x: F) -> F {
    let v0 = max(F(-87.3f), min(F(89.0f), x));
    let v1 = bitcast<U>(fma(v0, F(1.442695f), F(12582912.0f)));
    let v2 = U(pass_zero);
    let v3 = v1 ^ v2;
    let v4 = bitcast<F>(v3) - 12582912.0f;
    let v5 = fma(bitcast<F>(bitcast<U>(v4) ^ v2), F(-0.6933594f), v0);
    let v6 = fma(v4, F(0.00021219444f), v5);
    let v7 = fma(fma(F(0.00019875691f), v6, F(0.0013981999f)), v6, F(0.008333452f));
    let v8 = fma(fma(v7, v6, F(0.041665796f)), v6, F(0.16666666f));
    let v9 = fma(fma(v8, v6, F(0.5f)), v6 * v6, v6) + 1.0f;
    return (v9 + v9) * bitcast<F>((v3 << U(23u)) + U(0x3f000000u));
}

fn gibbs_exp2(x: F) -> F {
    let v0 = max(F(-126.0f), min(F(128.0f), x));
    let v1 = bitcast<U>(v0 + 12582912.0f) ^ U(pass_zero);
    let v2 = v0 - (bitcast<F>(v1) - 12582912.0f);
    let v3 = fma(fma(F(0.00015353362f), v2, F(0.0013398874f)), v2, F(0.009618437f));
    let v4 = fma(fma(v3, v2, F(0.055503324f)), v2, F(0.24022648f));
    let v5 = fma(fma(v4, v2, F(0.6931472f)), v2, F(1.0f));
    return (v5 + v5) * bitcast<F>((v1 << U(23u)) + U(0x3f000000u));
}

fn gibbs_ln_tail(f: F) -> F {
    let v0 = fma(fma(F(0.070376836f), f, F(-0.1151461f)), f, F(0.11676999f));
    let v1 = fma(fma(v0, f, F(-0.12420141f)), f, F(0.14249323f));
    let v2 = fma(fma(v1, f, F(-0.16668057f)), f, F(0.20000716f));
    return fma(fma(v2, f, F(-0.24999994f)), f, F(0.3333333f));
}

fn gibbs_split(x: F) -> Two {
    let v0 = bitcast<U>(x);
    let v1 = (v0 - U(0x3f3504f3u)) & U(0xff800000u);
    return Two(F(bitcast<I>(v1)), bitcast<F>(v0 - v1) - 1.0f);
}

fn gibbs_ln_positive(x: F) -> F {
    let v0 = gibbs_split(x);
    let v1 = v0.y * v0.y;
    let v2 = fma(gibbs_ln_tail(v0.y) * v0.y, v1, v0.x * -2.5295549e-11f);
    return fma(v0.x, F(8.265488e-8f), v0.y + fma(v1, F(-0.5f), v2));
}

fn gibbs_log2_positive(x: F) -> F {
    let v0 = gibbs_split(x);
    let v1 = v0.y * v0.y;
    let v2 = fma(gibbs_ln_tail(v0.y) * v0.y, v1, v1 * -0.5f);
    let v3 = (fma(v2, F(0.44269505f), v0.y * 0.44269505f) + v2) + v0.y;
    return fma(v0.x, F(1.1920929e-7f), v3);
}

fn gibbs_logarithm(x: F, y: F) -> F {
    let v0 = select(bitcast<U>(y), U(0xff800000u), x == F(0.0f));
    let v1 = select(bitcast<U>(x), v0, x <= F(0x1.fffffep+127f));
    return bitcast<F>(select(v1, U(0x7fc00000u), x < F(0.0f)));
}

fn gibbs_ln(x: F) -> F {
    let v0 = x < F(1.1754944e-38f);
    let v1 = gibbs_ln_positive(select(x, x * 8388608.0f, v0)) - select(F(0.0f), F(15.942385f), v0);
    return gibbs_logarithm(x, v1);
}

fn gibbs_log2(x: F) -> F {
    let v0 = x < F(1.1754944e-38f);
    let v1 = gibbs_log2_positive(select(x, x * 8388608.0f, v0));
    return gibbs_logarithm(x, v1 - select(F(0.0f), F(23.0f), v0));
}

fn gibbs_atan2(y: F, x: F) -> F {
    let v0 = abs(x);
    let v1 = abs(y);
    let v2 = min(v0, v1);
    let v3 = max(v1, v0);
    let v4 = (v3 * 0.41421357f) < v2;
    let v5 = select(v3, v2 + v3, v4);
    let v6 = select(v2, v2 - v3, v4) / select(v5, F(1.0f), v5 == F(0.0f));
    let v7 = v6 * v6;
    let v8 = fma(fma(F(0.08053745f), v7, F(-0.13877685f)), v7, F(0.19977711f));
    let v9 = fma(fma(v8, v7, F(-0.3333295f)) * v7, v6, v6) + select(F(0.0f), F(0.7853982f), v4);
    let v10 = select(v9, 1.5707964f - v9, v0 < v1);
    let v11 = bitcast<U>(select(v10, 3.1415927f - v10, x < F(0.0f)));
    return bitcast<F>(v11 ^ (bitcast<U>(y) & U(0x80000000u)));
}

fn gibbs_asin(x: F) -> F {
    let v0 = bitcast<U>(gibbs_atan2(x, sqrt((1.0f - x) * (x + 1.0f))));
    return bitcast<F>(select(U(0x7fc00000u), v0, abs(x) <= F(1.0f)));
}

fn gibbs_acos(x: F) -> F {
    let v0 = bitcast<U>(gibbs_atan2(sqrt((1.0f - x) * (x + 1.0f)), x));
    return bitcast<F>(select(U(0x7fc00000u), v0, abs(x) <= F(1.0f)));
}

fn gibbs_tanh(x: F) -> F {
    let v0 = min(F(8.6f), abs(x));
    let v1 = v0 * v0;
    let v2 = fma(fma(F(1.4146539e-8f), v1, F(2.1171469e-5f)), v1, F(0.0035295214f));
    let v3 = fma(fma(F(8.097679e-7f), v1, F(0.00033412734f)), v1, F(0.026005922f));
    let v4 = v0 * fma(fma(v2, v1, F(0.13409553f)), v1, F(1.0f));
    let v5 = v4 / fma(fma(v3, v1, F(0.46742877f)), v1, F(1.0f));
    let v6 = bitcast<U>(min(F(1.0f), v5)) ^ (bitcast<U>(x) & U(0x80000000u));
    return bitcast<F>(v6);
}

fn kahan_add(sum: Two, value: F) -> Two {
    let v0 = value - sum.y;
    let v1 = bitcast<F>(bitcast<U>(sum.x + v0) ^ U(pass_zero));
    return Two(v1, (v1 - sum.x) - v0);
}
