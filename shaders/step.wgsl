// The step: x⁺ = a·m + b·x + c·L z, clamped to the limits; then resets the summary for the next pass. Twin:
// src/kernels/step.rs.

const STREAM = 0x1000000u;

// Returns the factor on the noise of coordinate d, and adapts it to the rows for the next pass. `off` is the distance
// of their mean from the center that they were drawn around.
fn adapt(d: u32, off: f32, second: f32) -> f32 {
    let factor = nominal[factors_at(FACTORS) + d];
    if has(FLAG_ADAPT) {
        let deviation = sqrt(max(second - off * off, 0.0));
        let control = d % CONTROLS;
        var variance = 0.0;
        for (var j = 0u; j <= control; j++) {
            let l = inputs[inputs_at + FACTOR + control * CONTROLS + j];
            variance += l * l;
        }
        let unit = sqrt(variance) * uniforms.scale;
        let found = max(deviation / unit, uniforms.floor);
        nominal[factors_at(FACTORS) + d] = fma(1.0 - uniforms.a, factor, uniforms.a * found);
    }
    return factor;
}

// Clamps a control to its limits, if the pass asks for it.
fn clamped(control: u32, u: f32) -> f32 {
    if has(FLAG_CLAMPED) {
        return clamp(u, inputs[inputs_at + LOW + control], inputs[inputs_at + HIGH + control]);
    }
    return u;
}

// Steps coordinate d, if any row has weight. With m = x + B θ the step is x⁺ = (a + b)·x + B (a·θ + c·L z): for
// filtered rows this stores a·θ + c·L z in place of the merged mean, and step_controls does the rest.
fn step_coordinate(d: u32, mean: f32, second: f32, there: bool) {
    find_inputs();
    nominal[factors_at(FACTORS_BEFORE) + d] = nominal[factors_at(FACTORS) + d];
    let control = d % CONTROLS;
    if FILTERED {
        if there {
            let factor = adapt(d, mean, second);
            var moved = uniforms.a * mean;
            if uniforms.c != 0.0 {
                moved = fma(uniforms.c, noise(d, control) * select(1.0, factor, has(FLAG_STD_SCALE)), moved);
            }
            partials[partial_at(group_total()) + HEADER_LEN + d] = moved;
        }
        return;
    }
    let x = nominal[nominal_at(NOMINAL) + d];
    nominal[nominal_at(NOMINAL_BEFORE) + d] = x;
    if !there {
        return;
    }
    let factor = adapt(d, mean - x, second);
    var next = fma(uniforms.b, x, uniforms.a * mean);
    if uniforms.c != 0.0 {
        next = fma(uniforms.c, noise(d, control) * select(1.0, factor, has(FLAG_STD_SCALE)), next);
    }
    nominal[nominal_at(NOMINAL) + d] = clamped(control, next);
}

// Steps the controls of filtered rows, once all invocations have stored the steps of the innovations. An invocation
// takes one control over consecutive time steps, so that it runs the filter once. Does nothing with white noise.
fn step_controls(lane: u32, there: bool) {
    if FILTERED {
        find_inputs();
        storageBarrier();
        workgroupBarrier();
        let chunks = max(LANES / CONTROLS, 1u);
        let steps = (uniforms.horizon + chunks - 1u) / chunks;
        for (var which = lane; which < chunks * CONTROLS; which += LANES) {
            let begin = which / CONTROLS * steps;
            if begin < uniforms.horizon {
                step_filtered(which % CONTROLS, begin, min(begin + steps, uniforms.horizon), there);
            }
        }
    }
}

// Steps one control at time step t, by what the filter makes of the steps of the innovations.
fn step_control(t: u32, control: u32, moved: f32, there: bool) {
    let d = t * CONTROLS + control;
    let x = nominal[nominal_at(NOMINAL) + d];
    nominal[nominal_at(NOMINAL_BEFORE) + d] = x;
    // Controls that are on their way are fixed.
    if there && t >= uniforms.delay {
        nominal[nominal_at(NOMINAL) + d] = clamped(control, fma(uniforms.a + uniforms.b, x, moved));
    }
}

// Copies the results of the pass into its sums, then resets the atomics for the next pass.
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
