// Printed from src/lang/look_up.rs (see src/runtime/gpu/generated.rs), and not to be edited.

struct FieldSlopes {
    x: f32,
    y: f32,
}

fn field_linear(part: f32, before: f32, after: f32) -> f32 {
    return fma(part, after - before, before);
}

fn field_bilinear(fx: f32, fy: f32, v00: f32, v01: f32, v10: f32, v11: f32) -> f32 {
    let v0 = fma(fx, v10 - v00, v00);
    return fma(fy, fma(fx, v11 - v01, v01) - v0, v0);
}

fn field_bilinear_slopes(fx: f32, fy: f32, v00: f32, v01: f32, v10: f32, v11: f32) -> FieldSlopes {
    let v0 = v10 - v00;
    let v1 = v01 - v00;
    return FieldSlopes(fma(fy, (v11 - v01) - v0, v0), fma(fx, (v11 - v10) - v1, v1));
}
