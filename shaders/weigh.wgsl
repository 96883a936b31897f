// Weigh: costs become log-weights, and the temperature is found that an update asks for. Twin: src/engine/cpu/weigh.rs.

// Where λ is looked for (wherever it may be), and how often the logarithm of that is halved.
const LOWEST = 1e-30f;
const HIGHEST = 1e30f;
const HALVINGS = 28u;
// A standard deviation below this counts as 1.
const NO_DEVIATION = 1e-4f;
const NO_THRESHOLD = 3.4e38f;

// J of a row and whether it counts, and the part of its log-weight that no temperature divides.
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
    // Both scores relative to the best cost; the best departure counts as what the demonstration costs.
    let reference = from_ordered(atomicLoad(&summary[problem].best));
    var j = ((cost - reference) + lost) * update.cost_scale + second * update.control_scaled;
    if has(FLAG_DEMONSTRATED) {
        let key = atomicLoad(&summary[problem].nearest);
        let nearest = select(from_ordered(key), 0.0, key == 0xffffffffu);
        let demonstrated = update.demonstrated - reference * update.cost_scale;
        j = min(j, (second - nearest) * update.cost_scale + demonstrated);
    }
    return Scaled(j, second * update.control_fixed, finite(cost) && finite(lost) && finite(second));
}

// ℓ of row k, with J relative to `shift`. Not below MASKED, where a valid row would look like an invalid one.
fn log_weight(k: u32, shift: f32, temperature: f32) -> f32 {
    let row = scaled(k);
    let weight = -(row.cost - shift) / temperature - row.fixed;
    return select(INVALID, max(weight, MASKED), row.valid);
}

// The log-weight of row k as the update wants it, once `find_temperature` has found what that takes.
fn weighed_row(k: u32) -> f32 {
    if update.search == ELITE {
        let row = scaled(k);
        let elite = row.cost + row.fixed <= summary[problem].threshold;
        return select(INVALID, select(MASKED, 0.0, elite), row.valid);
    }
    if simple() {
        return log_weight(k, 0.0, update.temperature);
    }
    return log_weight(k, summary[problem].shift, summary[problem].temperature);
}

@compute @workgroup_size(256)
fn weigh(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    problem = workgroup.z;
    let k = (workgroup.y * workgroups.x + workgroup.x) * 256u + lane;
    if k < update.rows {
        log_weights[log_weight_address(k)] = weighed_row(k);
    }
}

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
        let halved = halve(lane);
        // All costs equal (or none finite): any temperature does.
        found = select(update.temperature, halved, best_key < worst_key);
    } else {
        // Weights under λ = 1 are −J.
        var sums = vec4<f32>();
        for (var k = lane; k < update.rows; k += LANES) {
            let l = log_weight(k, 0.0, 1.0);
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

// Bisection: both the effective sample size and the nearness to equal weights grow with λ.
fn halve(lane: u32) -> f32 {
    var low = LOWEST;
    var high = HIGHEST;
    for (var i = 0u; i < HALVINGS; i++) {
        let middle = sqrt(low) * sqrt(high);
        var max_here = MASKED;
        for (var k = lane; k < update.rows; k += LANES) {
            max_here = max(max_here, log_weight(k, 0.0, middle));
        }
        let max_all = largest(lane, max_here);
        // (Σ w, Σ w² or Σ w ln w, valid rows), with w relative to the largest.
        var sums = vec4<f32>();
        for (var k = lane; k < update.rows; k += LANES) {
            let l = log_weight(k, 0.0, middle);
            let w = relative(l, max_all);
            let second = select(w * w, w * max(l - max_all, LN_NEGLIGIBLE), update.search == DIVERGENCE);
            sums += vec4<f32>(w, second, select(0.0, 1.0, l > INVALID), 0.0);
        }
        let all = add_up(lane, sums);
        var too_sharp = all.x * all.x / all.y < update.target_value * all.z;
        if update.search == DIVERGENCE {
            too_sharp = all.y / all.x - component(gibbs_ln(F(all.x / all.z)), 0u) > update.target_value;
        }
        if too_sharp {
            low = middle;
        } else {
            high = middle;
        }
    }
    return sqrt(low) * sqrt(high);
}

fn deviation(lane: u32, mean: f32, count: f32) -> f32 {
    var sum = vec4<f32>();
    for (var k = lane; k < update.rows; k += LANES) {
        let l = log_weight(k, 0.0, 1.0);
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
            let l = log_weight(k, 0.0, 1.0);
            below.x += select(0.0, 1.0, l > INVALID && ordered(-l) < key + bit);
        }
        if add_up(lane, below).x < wanted {
            key += bit;
        }
        workgroupBarrier();
    }
    return from_ordered(key);
}
