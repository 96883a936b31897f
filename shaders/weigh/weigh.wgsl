// Weigh: converts costs to log-weights once the temperature has been computed (temperature.wgsl). Twin:
// src/kernels/weigh/log_weights.rs.

// The scaled cost J of a row, whether the row is valid, and the part of its log-weight that is not divided by λ.
struct Scaled {
    cost: f32,
    fixed: f32,
    valid: bool,
}

fn scaled(k: u32) -> Scaled {
    let at = score_address(k);
    let cost = scores[at];
    let lost = scores[at + TILE];
    let second = scores[at + 2u * TILE];
    // Both scores are relative to the best cost. The smallest demonstration cost is mapped to the cost of the
    // demonstration itself.
    let reference = from_ordered(atomicLoad(&summary[problem].best));
    var j = ((cost - reference) + lost) * uniforms.cost_scale + second * uniforms.control_scaled;
    if has(FLAG_DEMONSTRATED) {
        let key = atomicLoad(&summary[problem].nearest);
        let nearest = select(from_ordered(key), 0.0, key == 0xffffffffu);
        let demonstrated = uniforms.demonstrated - reference * uniforms.cost_scale;
        j = min(j, (second - nearest) * uniforms.cost_scale + demonstrated);
    }
    return Scaled(j, second * uniforms.control_fixed, finite(cost) && finite(lost) && finite(second));
}

// The log-weight of row k, after `find_temperature` has stored its parameters. Drivers inline everything called here at
// every call site, so the row is computed once and the result selected, whatever the temperature rule.
fn weighed_row(k: u32) -> f32 {
    let row = scaled(k);
    let given = simple();
    let shift = select(summary[problem].shift, 0.0, given);
    let temperature = select(summary[problem].temperature, uniforms.temperature, given);
    // Clamped to MASKED: below it, a valid row could be taken for an invalid one.
    let weight = max(-(row.cost - shift) / temperature - row.fixed, MASKED);
    let elite = row.cost + row.fixed <= summary[problem].threshold;
    return select(INVALID, select(weight, select(MASKED, 0.0, elite), uniforms.search == ELITE), row.valid);
}

@compute @workgroup_size(256)
fn weigh(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    start_problem(workgroup.z);
    let k = (workgroup.y * workgroups.x + workgroup.x) * 256u + lane;
    if k < uniforms.rows {
        log_weights[log_weight_address(k)] = weighed_row(k);
    }
}
