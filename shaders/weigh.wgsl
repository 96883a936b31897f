// Weigh: costs become log-weights, and the temperature is found that leaves a given effective sample size.
// Twin: src/engine/cpu/weigh.rs.

const HALVINGS = 24u;

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
    if update.effective == 0.0 {
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

// (max, Σ w, Σ w²) of each invocation's rows, and how many of them are valid.
var<workgroup> lane_sums: array<vec3<f32>, 256>;
var<workgroup> lane_valid: array<u32, 256>;

// One workgroup: bisection for the temperature, whose effective sample size grows with it.
@compute @workgroup_size(256)
fn temperature(@builtin(local_invocation_index) lane: u32) {
    let best_key = atomicLoad(&summary.best);
    let worst_key = atomicLoad(&summary.worst);
    let reference = from_ordered(best_key);
    let spread = update.cost_scale * (from_ordered(worst_key) - reference);
    // All costs equal (or none finite): any temperature does. The condition is the same in every invocation.
    let searchable = best_key < worst_key && spread > 0.0 && finite(spread);
    var low = max(spread * 1e-9, 1e-30);
    var high = min(spread * 1e3, 1e30);
    for (var i = 0u; i < HALVINGS; i++) {
        let middle = sqrt(low) * sqrt(high);
        var max_here = MASKED;
        var valid = 0u;
        for (var k = lane; k < update.rows; k += 256u) {
            let l = log_weight(k, reference, middle);
            max_here = max(max_here, l);
            valid += select(0u, 1u, l > INVALID);
        }
        var sum = 0.0;
        var squares = 0.0;
        for (var k = lane; k < update.rows; k += 256u) {
            let l = log_weight(k, reference, middle);
            let w = select(0.0, gibbs_exp(l - max_here), l > MASKED);
            sum += w;
            squares = fma(w, w, squares);
        }
        lane_sums[lane] = vec3<f32>(max_here, sum, squares);
        lane_valid[lane] = valid;
        workgroupBarrier();
        for (var half = 128u; half > 0u; half >>= 1u) {
            if lane < half {
                let p = lane_sums[lane];
                let q = lane_sums[lane + half];
                let m = max(p.x, q.x);
                let e = gibbs_exp(max(p.x - m, -200.0));
                let f = gibbs_exp(max(q.x - m, -200.0));
                lane_sums[lane] = vec3<f32>(m, p.y * e + q.y * f, p.z * e * e + q.z * f * f);
                lane_valid[lane] += lane_valid[lane + half];
            }
            workgroupBarrier();
        }
        let all = lane_sums[0];
        let wanted = update.effective * f32(lane_valid[0]);
        if all.y * all.y / all.z < wanted {
            low = middle;
        } else {
            high = middle;
        }
        workgroupBarrier();
    }
    if lane == 0u {
        summary.temperature = select(update.temperature, sqrt(low) * sqrt(high), searchable);
    }
}
