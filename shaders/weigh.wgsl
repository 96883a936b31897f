// Weigh: costs become log-weights, and the temperature is found that leaves a given effective sample size.
// Twin: src/engine/cpu/weigh.rs.

// Where λ is looked for (wherever it may be), and how often the logarithm of that is halved.
const LOWEST = 1e-30f;
const HIGHEST = 1e30f;
const HALVINGS = 28u;

// ℓ of row k, relative to the reference cost.
fn log_weight(k: u32, reference: f32, temperature: f32) -> f32 {
    let at = score_address(k);
    let cost = scores[at];
    let lost = scores[at + TILE];
    let control = scores[at + 2u * TILE];
    let scaled = ((cost - reference) + lost) * update.cost_scale + control * update.control_scaled;
    let weight = -scaled / temperature - control * update.control_fixed;
    // Not below MASKED, where a valid row would look like an invalid one.
    return select(INVALID, max(weight, MASKED), finite(cost) && finite(lost) && finite(control));
}

fn known_temperature() -> f32 {
    if update.search == FIXED {
        return update.temperature;
    }
    return summary.temperature;
}

@compute @workgroup_size(256)
fn weigh(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let k = (workgroup.y * workgroups.x + workgroup.x) * 256u + lane;
    if k < update.rows {
        log_weights[k] = log_weight(k, from_ordered(atomicLoad(&summary.best)), known_temperature());
    }
}

// One workgroup: bisection for the temperature, whose effective sample size grows with it.
@compute @workgroup_size(256)
fn temperature(@builtin(local_invocation_index) lane: u32) {
    let best_key = atomicLoad(&summary.best);
    let worst_key = atomicLoad(&summary.worst);
    let reference = from_ordered(best_key);
    var low = LOWEST;
    var high = HIGHEST;
    for (var i = 0u; i < HALVINGS; i++) {
        let middle = sqrt(low) * sqrt(high);
        var max_here = MASKED;
        for (var k = lane; k < update.rows; k += 256u) {
            max_here = max(max_here, log_weight(k, reference, middle));
        }
        let max_all = largest(lane, max_here);
        // (Σ w, Σ w², valid rows)
        var sums = vec4<f32>();
        for (var k = lane; k < update.rows; k += 256u) {
            let l = log_weight(k, reference, middle);
            let w = select(0.0, gibbs_exp(min(l - max_all, 0.0)), l > MASKED);
            sums += vec4<f32>(w, w * w, select(0.0, 1.0, l > INVALID), 0.0);
        }
        let all = add_up(lane, sums);
        if all.x * all.x / all.y < update.target_value * all.z {
            low = middle;
        } else {
            high = middle;
        }
    }
    if lane == 0u {
        // All costs equal (or none finite): any temperature does.
        summary.temperature = select(update.temperature, sqrt(low) * sqrt(high), best_key < worst_key);
    }
}
