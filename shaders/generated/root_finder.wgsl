// Printed from src/kernels/weigh/root_finder.rs (see src/runtime/gpu/generated.rs), and not to be edited.

struct Sample {
    at: f32,
    residual: f32,
}

struct RootFinder {
    next: f32,
    over: bool,
    stride: f32,
    evaluations: f32,
    latest: Sample,
    bracket: Sample,
    before: Sample,
}

fn root_finder_new(ln_range: f32) -> RootFinder {
    let v0 = min(max(ln_range + -2.0f, -69.07755f), 69.07755f);
    let v1 = Sample(0.0f, 0.0f);
    return RootFinder(v0, false, 0.0f, 0.0f, v1, v1, v1);
}

fn root_finder_update(finder: RootFinder, residual: f32) -> RootFinder {
    let v0 = finder.evaluations + 1.0f;
    let v1 = abs(residual);
    let v2 = (v1 <= 1e-6f) | (v0 == 28.0f);
    let v3 = v0 == 1.0f;
    let v4 = 0.0f < residual;
    let v5 = 0.0f < finder.latest.residual;
    let v6 = !v3 & ((v4 & !v5) | (v5 & !v4));
    let v7 = finder.stride == 0.0f;
    let v8 = v3 | !(v6 | v7);
    let v9 = select(select(0.0f, finder.stride + finder.stride, v8), select(2.0f, -2.0f, v4), v3);
    let v10 = select(finder.before.residual, finder.bracket.residual, v7);
    let v11 = select(finder.latest.at, select(finder.before.at, finder.bracket.at, v7), v6);
    let v12 = select(v11, finder.next, v3);
    let v13 = select(select(finder.latest.residual, v10, v6), residual, v3);
    let v14 = select(finder.bracket.residual, finder.latest.residual, v6);
    let v15 = select(select(finder.bracket.at, finder.latest.at, v6), finder.next, v3);
    let v16 = select(v14, residual, v3);
    let v17 = min(max(finder.next + v9, -69.07755f), 69.07755f);
    let v18 = v15 - finder.next;
    let v19 = 1e-6f / abs(v18);
    let v20 = min(v19, 0.5f);
    let v21 = (finder.next - v15) / (v12 - v15);
    let v22 = v13 - v16;
    let v23 = (residual - v16) / v22;
    let v24 = 1.0f - v23;
    let v25 = ((v23 * v23) < v21) & ((v24 * v24) < (1.0f - v21));
    let v26 = ((residual / (v16 - residual)) * v13) / (v16 - v13);
    let v27 = (((v12 - finder.next) / v18) * residual) / (v13 - residual);
    let v28 = select(0.5f, v26 + ((v27 * v16) / v22), !((v12 == v15) | (v13 == v16)) & v25);
    let v29 = finder.next + (min(max(v28, v20), 1.0f - v20) * v18);
    let v30 = ((0.5f < v19) | (v29 == finder.next)) | (v29 == v15);
    let v31 = select(v29, select(v15, finder.next, v1 < abs(v16)), v30);
    return RootFinder(
        select(select(v31, v17, v8), finder.next, v2),
        (v2 | (v8 & (v17 == finder.next))) | (v30 & !v8),
        v9,
        v0,
        Sample(finder.next, residual),
        Sample(v15, v16),
        Sample(v12, v13),
    );
}
