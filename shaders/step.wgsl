// The step: x⁺ = a·m + b·x + c·L z, clamped to the limits; then resets the summary for the next update. Twin:
// src/engine/cpu/step.rs.

const STREAM = 0x1000000u;

// Steps coordinate d of the nominal, unless no row has any weight.
fn step_nominal(d: u32, mean: f32, second: f32, there: bool) {
    find_inputs();
    let x = nominal[block_at(NOMINAL) + d];
    let factor = nominal[block_at(FACTORS) + d];
    nominal[block_at(NOMINAL_BEFORE) + d] = x;
    nominal[block_at(FACTORS_BEFORE) + d] = factor;
    if !there {
        return;
    }
    let control = d % CONTROLS;
    if has(FLAG_ADAPT) {
        let off = mean - x;
        let deviation = sqrt(max(second - off * off, 0.0));
        var variance = 0.0;
        for (var j = 0u; j <= control; j++) {
            let l = inputs[inputs_at + FACTOR + control * CONTROLS + j];
            variance += l * l;
        }
        let unit = sqrt(variance) * uniforms.scale;
        let found = max(deviation / unit, uniforms.floor);
        nominal[block_at(FACTORS) + d] = fma(1.0 - uniforms.a, factor, uniforms.a * found);
    }
    var next = fma(uniforms.b, x, uniforms.a * mean);
    if uniforms.c != 0.0 {
        next = fma(uniforms.c, noise(d, control) * select(1.0, factor, has(FLAG_SPREAD)), next);
    }
    if has(FLAG_CLAMPED) {
        next = clamp(next, inputs[inputs_at + LOW + control], inputs[inputs_at + HIGH + control]);
    }
    nominal[block_at(NOMINAL) + d] = next;
}

// Copies the results of the update into its sums, then resets the atomics for the next update.
fn close_summary() {
    summary[problem].sums.temperature = select(summary[problem].temperature, uniforms.temperature, simple());
    summary[problem].sums.mean = select(summary[problem].mean, 0.0, simple());
    summary[problem].sums.reference = from_ordered(atomicLoad(&summary[problem].best));
    atomicStore(&summary[problem].best, 0xffffffffu);
    atomicStore(&summary[problem].worst, 0u);
    atomicStore(&summary[problem].nearest, 0xffffffffu);
}

// Coordinate d of L z: noise with the same covariance factor as the rows.
fn noise(d: u32, control: u32) -> f32 {
    var shaped = 0.0;
    for (var j = 0u; j <= control; j++) {
        let l = inputs[inputs_at + FACTOR + control * CONTROLS + j];
        if l != 0.0 {
            let e = d - control + j;
            let n = normals(row_of(U(0u), STREAM | noise_chain()), e / 4u);
            let z = vec4<f32>(component(n.x, 0u), component(n.y, 0u), component(n.z, 0u), component(n.w, 0u));
            shaped = fma(z[e % 4u], l, shaped);
        }
    }
    return shaped;
}
