// Solves for the temperature of a pass, one workgroup per problem. Twin: Weigh::solve_temperature in
// src/kernels/weigh/log_weights.rs.

// A standard deviation below this counts as 1.
const NO_DEVIATION = 1e-4f;
const NO_THRESHOLD = 3.4e38f;

@compute @workgroup_size(LANES)
fn temperature(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    start_problem(workgroup.z);
    find_temperature(lane);
}

// Computes, one workgroup per problem, everything that depends on all rows and is needed before any row can be weighed.
fn find_temperature(lane: u32) {
    var found = uniforms.temperature;
    var shift = 0.0;
    var threshold = NO_THRESHOLD;
    var mean = 0.0;
    if uniforms.search == EFFECTIVE || uniforms.search == DIVERGENCE {
        let best_key = atomicLoad(&summary[problem].best);
        let worst_key = atomicLoad(&summary[problem].worst);
        // If all costs are equal (or none is finite), any temperature will do. All invocations search nevertheless, to
        // keep control flow uniform.
        let differ = best_key < worst_key;
        let range = select(0.0, from_ordered(worst_key) - from_ordered(best_key), differ);
        found = select(uniforms.temperature, search_temperature(lane, range), differ);
    } else {
        // Log-weights under λ = 1 are −J.
        var sums = vec4<f32>();
        for (var at = lane; 4u * at < uniforms.rows; at += LANES) {
            let costs = note_costs(at, true);
            let counts = select(vec4<f32>(), vec4<f32>(1.0), costs > vec4<f32>(INVALID));
            sums += vec4<f32>(-dot(costs, counts), dot(counts, counts), 0.0, 0.0);
        }
        let all = add_up(lane, sums);
        workgroupBarrier();
        let count = max(all.y, 1.0);
        mean = all.x / count;
        if has(FLAG_SIGNED) {
            shift = mean;
        }
        if uniforms.search == STANDARDISED {
            found = uniforms.target_value * deviation(lane, mean, count);
        } else if uniforms.search == ELITE {
            threshold = elite_threshold(lane, clamp(ceil(uniforms.target_value * count), 1.0, count));
        }
    }
    if lane == 0u {
        summary[problem].temperature = found;
        summary[problem].shift = shift;
        summary[problem].threshold = threshold;
        summary[problem].mean = mean;
    }
}

// Whether the search continues. One invocation decides for all, since barriers require uniform control flow.
var<workgroup> looks_again: u32;

// Solves for λ; both the effective sample size and the similarity to uniform weights increase with λ. `range`: of the
// costs.
fn search_temperature(lane: u32, range: f32) -> f32 {
    var max_here = MASKED;
    for (var at = lane; 4u * at < uniforms.rows; at += LANES) {
        max_here = max(max_here, largest_of(note_costs(at, false)));
    }
    let most = largest(lane, max_here);
    var search = root_finder_new(ln_of(range * uniforms.cost_scale));
    loop {
        let temperature = exp_of(search.next);
        var max_all = max(most / temperature, MASKED);
        if uniforms.control_fixed != 0.0 {
            // The best row depends on λ.
            max_here = MASKED;
            for (var at = lane; 4u * at < uniforms.rows; at += LANES) {
                max_here = max(max_here, largest_of(log_weights_under(at, temperature)));
            }
            max_all = largest(lane, max_here);
        }
        // (Σ w, Σ w² or Σ w ln w, valid rows), with w relative to the largest.
        var sums = vec4<f32>();
        for (var at = lane; 4u * at < uniforms.rows; at += LANES) {
            let l = log_weights_under(at, temperature);
            let w = four_relative(l, max_all);
            let valid = select(vec4<f32>(), vec4<f32>(1.0), l > vec4<f32>(INVALID));
            let below = max(l - max_all, vec4<f32>(LN_NEGLIGIBLE));
            let second = dot(w, select(w, below, uniforms.search == DIVERGENCE));
            sums += vec4<f32>(dot(w, vec4<f32>(1.0)), second, dot(valid, valid), 0.0);
        }
        let all = add_up(lane, sums);
        var residual = ln_of(all.x * all.x / (all.y * uniforms.target_value * all.z));
        if uniforms.search == DIVERGENCE {
            residual = 1.0 - (all.y / all.x - ln_of(all.x / all.z)) / uniforms.target_value;
        }
        // If all weights underflow to 0, λ is too small.
        residual = select(-1.0, residual, all.x > 0.0);
        search = root_finder_update(search, residual);
        if lane == 0u {
            looks_again = u32(!search.over);
        }
        if workgroupUniformLoad(&looks_again) == 0u {
            break;
        }
    }
    return exp_of(search.next);
}

// Each invocation always processes the same vectors of four consecutive rows, so that no barrier is needed between the
// passes. First, −J of the rows, which does not depend on λ, is stored in place of their log-weights; on request,
// including the part that is not divided by λ. The remainder of the last vector counts as invalid rows: buffers hold
// whole tiles.
fn note_costs(at: u32, with_fixed: bool) -> vec4<f32> {
    let k = 4u * at;
    return vec4<f32>(
        note_cost(k, with_fixed),
        note_cost(k + 1u, with_fixed),
        note_cost(k + 2u, with_fixed),
        note_cost(k + 3u, with_fixed),
    );
}

fn note_cost(k: u32, with_fixed: bool) -> f32 {
    let row = scaled(min(k, uniforms.rows - 1u));
    let cost = -row.cost - select(0.0, row.fixed, with_fixed);
    let noted = select(INVALID, max(cost, MASKED), row.valid && k < uniforms.rows);
    log_weights[log_weight_address(k)] = noted;
    return noted;
}

fn read_costs(at: u32) -> vec4<f32> {
    let k = log_weight_address(4u * at);
    return vec4<f32>(log_weights[k], log_weights[k + 1u], log_weights[k + 2u], log_weights[k + 3u]);
}

// The log-weights of four rows under a temperature.
fn log_weights_under(at: u32, temperature: f32) -> vec4<f32> {
    let costs = read_costs(at);
    var l = costs / temperature;
    if uniforms.control_fixed != 0.0 {
        let k = score_address(4u * at) + 2u * TILE;
        l -= vec4<f32>(scores[k], scores[k + 1u], scores[k + 2u], scores[k + 3u]) * uniforms.control_fixed;
    }
    return select(vec4<f32>(INVALID), max(l, vec4<f32>(MASKED)), costs > vec4<f32>(INVALID));
}

fn deviation(lane: u32, mean: f32, count: f32) -> f32 {
    var sum = vec4<f32>();
    for (var at = lane; 4u * at < uniforms.rows; at += LANES) {
        let costs = read_costs(at);
        let off = select(vec4<f32>(), costs + mean, costs > vec4<f32>(INVALID));
        sum.x += dot(off, off);
    }
    let found = sqrt(add_up(lane, sum).x / count);
    return select(found, 1.0, found < NO_DEVIATION);
}

// The cost of the `wanted`-th best row: bisection, bit by bit, over the integer keys that sort as the costs do.
fn elite_threshold(lane: u32, wanted: f32) -> f32 {
    var key = 0u;
    for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
        // The key is at least key + bit if fewer than `wanted` rows lie below that.
        var below = vec4<f32>();
        for (var at = lane; 4u * at < uniforms.rows; at += LANES) {
            let costs = read_costs(at);
            below += vec4<f32>(
                lies_below(costs.x, key + bit),
                lies_below(costs.y, key + bit),
                lies_below(costs.z, key + bit),
                lies_below(costs.w, key + bit),
            );
        }
        if dot(add_up(lane, below), vec4<f32>(1.0)) < wanted {
            key += bit;
        }
        workgroupBarrier();
    }
    return from_ordered(key);
}

// 1 if a valid row with this −J sorts below a key, else 0.
fn lies_below(cost: f32, key: u32) -> f32 {
    return select(0.0, 1.0, cost > INVALID && ordered(-cost) < key);
}
