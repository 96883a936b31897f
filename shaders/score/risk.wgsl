// Risk: one cost per row from its costs in several scenarios. Twin: src/kernels/score/risk.rs.

// The address of the scores of row k in scenario s.
fn scenario_address(s: u32, k: u32) -> u32 {
    return s * uniforms.problems * 3u * padded_rows() + score_address(k);
}

fn scenario_cost(s: u32, k: u32) -> f32 {
    let at = scenario_address(s, k);
    return scores[at] + scores[at + TILE];
}

fn worst_cost(k: u32) -> f32 {
    var worst = scenario_cost(0u, k);
    for (var s = 1u; s < uniforms.scenarios; s++) {
        worst = max(worst, scenario_cost(s, k));
    }
    return worst;
}

// The mean over the worst scenarios: a sum and its compensation.
fn mean_of_tail(k: u32) -> vec2<f32> {
    let tail = uniforms.risk_value;
    let is_whole = tail == f32(uniforms.scenarios);
    if tail == 1.0 && !is_whole {
        return vec2<f32>(worst_cost(k), 0.0);
    }
    var sum = Two();
    for (var s = 0u; s < uniforms.scenarios; s++) {
        var weight = 1.0;
        if !is_whole {
            // The number of scenarios that are worse. Of equal ones, the first counts as the worst.
            let own = scenario_cost(s, k);
            var rank = 0.0;
            for (var other = 0u; other < uniforms.scenarios; other++) {
                let cost = scenario_cost(other, k);
                rank += select(0.0, 1.0, own < cost || (own == cost && other < s));
            }
            weight = clamp(tail - rank, 0.0, 1.0);
        }
        let at = scenario_address(s, k);
        sum = kahan_add(kahan_add(sum, scores[at] * weight), scores[at + TILE] * weight);
    }
    let share = 1.0 / tail;
    return vec2<f32>(sum.x * share, -sum.y * share);
}

// (1/θ) ln mean e^{θJ}, about the worst cost, or where all θJ are within a tenth of each other about the mean.
fn entropic(k: u32) -> vec2<f32> {
    let theta = uniforms.risk_value;
    let share = 1.0 / f32(uniforms.scenarios);
    let worst = worst_cost(k);
    var best = worst;
    var total = Two();
    var sum = Two();
    for (var s = 0u; s < uniforms.scenarios; s++) {
        let cost = scenario_cost(s, k);
        best = min(best, cost);
        total = kahan_add(total, cost);
        sum = kahan_add(sum, gibbs_exp((cost - worst) * theta));
    }
    if (worst - best) * theta >= 0.1 {
        return vec2<f32>(worst + gibbs_ln(sum.x * share) / theta, 0.0);
    }
    let mean = total.x * share;
    var series = Two();
    for (var s = 0u; s < uniforms.scenarios; s++) {
        let z = (scenario_cost(s, k) - mean) * theta;
        // e^z − 1 − z; the sum of all z is 0.
        series = kahan_add(series, fma(z * (1.0 / 24.0) + 1.0 / 6.0, z, 0.5) * z * z);
    }
    let rest = series.x * share;
    return vec2<f32>(mean + (rest - rest * rest * 0.5) / theta, 0.0);
}

// Combines the costs of a row, stores the result and returns its keys.
fn combined(k: u32) -> vec3<u32> {
    // A cost that is not finite is the result.
    var all_finite = true;
    var invalid = 0.0;
    var departure = 0.0;
    for (var s = 0u; s < uniforms.scenarios; s++) {
        let cost = scenario_cost(s, k);
        if !finite(cost) {
            all_finite = false;
            invalid = cost;
        }
        departure += scores[scenario_address(s, k) + 2u * TILE];
    }
    var cost = vec2<f32>(invalid, 0.0);
    if all_finite {
        if uniforms.risk == ENTROPIC {
            cost = entropic(k);
        } else {
            cost = mean_of_tail(k);
        }
    }
    let at = score_address(k);
    // The control cost does not depend on the scenario.
    var second = scores[at + 2u * TILE];
    if has(FLAG_DEMONSTRATED) {
        second = departure * (1.0 / f32(uniforms.scenarios));
    }
    scores[at] = cost.x;
    scores[at + TILE] = cost.y;
    scores[at + 2u * TILE] = second;
    return keys_of(k < uniforms.rows, cost.x, second);
}

@compute @workgroup_size(TILE)
fn combine(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    start_problem(workgroup.z);
    let tile = workgroup.y * workgroups.x + workgroup.x;
    var keys = EMPTY_KEYS;
    // A workgroup beyond the last tile has no work; the condition is uniform over the workgroup.
    if tile * TILE < uniforms.rows {
        keys = combined(tile * TILE + lane);
    }
    enter(lane, keys);
}
