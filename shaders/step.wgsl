// The step: x⁺ = a·m + b·x + c·z, within the limits; then the summary is made ready for the next update.
// Twin: src/engine/cpu/step.rs.

const STREAM = 0x1000000u;

@compute @workgroup_size(64)
fn step_nominal(@builtin(global_invocation_id) id: vec3<u32>) {
    let d = id.x;
    let groups = (update.rows + GROUP - 1u) / GROUP;
    let moments = select(1u, 2u, has(FLAG_SECOND_MOMENT));
    let mean_at = groups * (8u + update.width * moments) + 8u;
    if d < update.width {
        nominal[update.width + d] = nominal[d];
    }
    if d < update.width && summary.sums.sum > 0.0 {
        var next = fma(update.b, nominal[d], update.a * partials[mean_at + d]);
        if update.c != 0.0 {
            let z = normals(vec4<u32>(0u, d / 4u, update.number, STREAM));
            next = fma(update.c, z[d % 4u], next);
        }
        if has(FLAG_CLAMPED) {
            let control = d % CONTROLS;
            next = clamp(next, inputs[LOW + control], inputs[HIGH + control]);
        }
        nominal[d] = next;
    }
    if d == 0u {
        summary.sums.temperature = summary.temperature;
        if update.search == FIXED {
            summary.sums.temperature = update.temperature;
        }
        summary.sums.reference = from_ordered(atomicLoad(&summary.best));
        atomicStore(&summary.best, 0xffffffffu);
        atomicStore(&summary.worst, 0u);
    }
}
