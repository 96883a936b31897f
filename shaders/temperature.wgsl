// The temperature that an update asks for, found by one workgroup for each problem. Twin: Weigh::find in
// src/engine/cpu/weigh.rs.

// A standard deviation below this counts as 1.
const NO_DEVIATION = 1e-4f;
const NO_THRESHOLD = 3.4e38f;

@compute @workgroup_size(LANES)
fn temperature(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    problem = workgroup.z;
    find_temperature(lane);
}

// By one workgroup for each problem: whatever has to be known of all its rows before any of them can be weighed.
fn find_temperature(lane: u32) {
    var found = update.temperature;
    var shift = 0.0;
    var threshold = NO_THRESHOLD;
    var mean = 0.0;
    if update.search == EFFECTIVE || update.search == DIVERGENCE {
        let best_key = atomicLoad(&summary[problem].best);
        let worst_key = atomicLoad(&summary[problem].worst);
        let searched = search_temperature(lane, from_ordered(worst_key) - from_ordered(best_key));
        // All costs equal (or none finite): any temperature does.
        found = select(update.temperature, searched, best_key < worst_key);
    } else {
        // Weights under λ = 1 are −J: they stand in for it until all is known.
        var sums = vec4<f32>();
        for (var k = lane; k < update.rows; k += LANES) {
            let l = log_weight(k, 0.0, 1.0);
            log_weights[log_weight_address(k)] = l;
            sums += select(vec4<f32>(), vec4<f32>(-l, 1.0, 0.0, 0.0), l > INVALID);
        }
        let all = add_up(lane, sums);
        workgroupBarrier();
        let count = max(all.y, 1.0);
        mean = all.x / count;
        if has(FLAG_SIGNED) {
            shift = mean;
        }
        if update.search == STANDARDISED {
            found = update.target_value * deviation(lane, mean, count);
        } else if update.search == ELITE {
            threshold = elite_threshold(lane, clamp(ceil(update.target_value * count), 1.0, count));
        }
    }
    if lane == 0u {
        summary[problem].temperature = found;
        summary[problem].shift = shift;
        summary[problem].threshold = threshold;
        summary[problem].mean = mean;
    }
}

// Whether to look again. One invocation says so to all, since all go through the same barriers.
var<workgroup> looks_again: u32;

// Both the effective sample size and the nearness to equal weights grow with λ. `range`: of the costs.
fn search_temperature(lane: u32, range: f32) -> f32 {
    // −J of this invocation's rows, which no look changes, stand where their log-weights will.
    var max_here = MASKED;
    for (var k = lane; k < update.rows; k += LANES) {
        let row = scaled(k);
        let l = select(INVALID, max(-row.cost, MASKED), row.valid);
        log_weights[log_weight_address(k)] = l;
        max_here = max(max_here, l);
    }
    let most = largest(lane, max_here);
    var search = search_among(range * update.cost_scale);
    loop {
        let temperature = component(gibbs_exp(F(search.next)), 0u);
        var max_all = max(most / temperature, MASKED);
        if update.control_fixed != 0.0 {
            // Which row is the best one depends on λ.
            max_here = MASKED;
            for (var k = lane; k < update.rows; k += LANES) {
                max_here = max(max_here, log_weight_under(k, temperature));
            }
            max_all = largest(lane, max_here);
        }
        // (Σ w, Σ w² or Σ w ln w, valid rows), with w relative to the largest.
        var sums = vec4<f32>();
        for (var k = lane; k < update.rows; k += LANES) {
            let l = log_weight_under(k, temperature);
            let w = relative(l, max_all);
            let second = select(w * w, w * max(l - max_all, LN_NEGLIGIBLE), update.search == DIVERGENCE);
            sums += vec4<f32>(w, second, select(0.0, 1.0, l > INVALID), 0.0);
        }
        let all = add_up(lane, sums);
        var excess = component(gibbs_ln(F(all.x * all.x / (all.y * update.target_value * all.z))), 0u);
        if update.search == DIVERGENCE {
            excess = update.target_value - all.y / all.x + component(gibbs_ln(F(all.x / all.z)), 0u);
        }
        search = learned(search, excess);
        if lane == 0u {
            looks_again = u32(!search.over);
        }
        if workgroupUniformLoad(&looks_again) == 0u {
            break;
        }
    }
    return component(gibbs_exp(F(search.next)), 0u);
}

// The log-weight of one of this invocation's rows, from its −J.
fn log_weight_under(k: u32, temperature: f32) -> f32 {
    let cost = log_weights[log_weight_address(k)];
    var l = cost / temperature;
    if update.control_fixed != 0.0 {
        l -= scores[score_address(k) + 2u * TILE] * update.control_fixed;
    }
    return select(INVALID, max(l, MASKED), cost > INVALID);
}

fn deviation(lane: u32, mean: f32, count: f32) -> f32 {
    var sum = vec4<f32>();
    for (var k = lane; k < update.rows; k += LANES) {
        let l = log_weights[log_weight_address(k)];
        let off = -l - mean;
        sum.x += select(0.0, off * off, l > INVALID);
    }
    let found = sqrt(add_up(lane, sum).x / count);
    return select(found, 1.0, found < NO_DEVIATION);
}

// The cost of the `wanted`-th best row: bisection over the keys that sort as costs do, bit by bit.
fn elite_threshold(lane: u32, wanted: f32) -> f32 {
    var key = 0u;
    for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
        // Is the answer's key at least key + bit? It is if fewer than `wanted` rows lie below that.
        var below = vec4<f32>();
        for (var k = lane; k < update.rows; k += LANES) {
            let l = log_weights[log_weight_address(k)];
            below.x += select(0.0, 1.0, l > INVALID && ordered(-l) < key + bit);
        }
        if add_up(lane, below).x < wanted {
            key += bit;
        }
        workgroupBarrier();
    }
    return from_ordered(key);
}
