// Draw and score the rows of a policy. Twin: src/engine/cpu/episode.rs.
//
// One invocation is one episode of one row: the time loop is inside it, the state stays in registers. Rows stand in memory, in
// tiles: a row of perturbed parameters is drawn first and then read by its episodes; a row of scores is added up by its only
// one.
//
// The model and the policy are generated (src/engine/gpu/source.rs) and put before this file:
//     struct State, struct Control, initial_state()
//     model_advance(t, x, before, u), model_cost(t, x, u), model_terminal(t, x): as for shaders/rollout.wgsl
//     model_done(t, x): whether the episode ends in x
//     policy_act(t, x), or policy_pull_back(t, x, v): the control, or that while derivatives times v are added up
//     control_of(values), values_of(control)
//     keep(at, x, u), kept_state(at), kept_control(at): a state and a control in memory
//     read_fields(): before the model is called
//     several(count): count, which a driver that unrolls loops cannot see
//     const STATES, ENTRY, KEPT: numbers of a start that are its state, and all of them; and those of an episode that is kept
// What they call is here: weight, accumulate, param.

// The bit of the counter's last word that keeps the noise on actions apart from that of rows and steps.
const ACTIONS = 0x2000000u;

// Where the start of this episode stands in the inputs.
var<private> start_at: u32;
// Where this row stands.
var<private> row_at: u32;

// A parameter of the model: every episode has its own.
fn param(i: u32) -> f32 {
    return inputs[start_at + STATES + i];
}

// Parameter i of the policy.
fn weight(i: u32) -> f32 {
    if SCORED {
        return nominal[block_at(NOMINAL) + i];
    }
    return rows[row_at + i * TILE];
}

// Adds to the derivative by parameter i.
fn accumulate(i: u32, value: f32) {
    rows[row_at + i * TILE] += value;
}

// Where the cost of an episode of row k stands: behind the scores, and what rounding took from it behind that.
fn cost_address(episode: u32, k: u32) -> u32 {
    return 3u * padded_rows() * update.problems + (problem * update.episodes + episode) * 2u * padded_rows() + k;
}

// Where an episode of row k is kept that another dispatch goes on with: behind the costs of all episodes. The next of its numbers
// stands padded_rows() further on.
fn kept_address(episode: u32, k: u32) -> u32 {
    let before = (3u + 2u * update.episodes) * update.problems + (problem * update.episodes + episode) * KEPT;
    return before * padded_rows() + k;
}

fn four_of(n: Normals) -> vec4<f32> {
    return vec4<f32>(n.x, n.y, n.z, n.w);
}

// Which draw row k takes, and the sign that it takes it with.
fn draw_of(k: u32) -> u32 {
    return select(k, k >> 1u, ANTITHETIC);
}

fn sign_of(k: u32) -> f32 {
    return select(1.0, -1.0, ANTITHETIC && (k & 1u) == 1u);
}

// Rows of perturbed parameters, four neighbouring ones an invocation.
@compute @workgroup_size(64)
fn perturb(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    problem = workgroup.z;
    for (var tile = workgroup.x; tile * TILE < update.rows; tile += workgroups.x) {
        let k = tile * TILE + lane;
        for (var block = workgroup.y; 4u * block < update.width; block += workgroups.y) {
            let z = four_of(normals(row_of(draw_of(k), problem), block));
            let end = min(4u * block + 4u, update.width);
            for (var d = 4u * block; d < end; d++) {
                var factor = update.scale;
                if SPREAD {
                    factor = update.scale * nominal[block_at(FACTORS) + d];
                }
                let noise = select(sign_of(k) * (z[d % 4u] * factor), 0.0, NOMINAL_FIRST && k == 0u);
                rows[address(k, d)] = nominal[block_at(NOMINAL) + d] + noise;
            }
        }
    }
}

// The episodes of a row are in different workgroups, tile after tile. A dispatch takes their time steps from `begin` before `end`;
// where a device limits how often loops may turn, the next goes on from there. Both are multiples of 4, but for the horizon.
@compute @workgroup_size(64)
fn episode(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    problem = workgroup.z;
    let tiles = padded_rows() / TILE;
    let index = workgroup.y * workgroups.x + workgroup.x;
    let number = index / tiles;
    let k = (index % tiles) * TILE + lane;
    if number >= update.episodes || k >= update.rows {
        return;
    }
    let entry = select(problem * update.episodes + number, problem * update.rows + k, SCORED);
    start_at = update.starts + entry * ENTRY;
    row_at = address(k, 0u);
    if SCORED && update.begin == 0u {
        for (var d = 0u; d < update.width; d++) {
            rows[row_at + d * TILE] = 0.0;
        }
    }

    read_fields();
    var x = initial_state();
    var before = Control();
    var running = true;
    var sum = Two();
    let kept = kept_address(number, k);
    if update.begin > 0u {
        x = kept_state(kept);
        before = kept_control(kept);
        let rest = kept + (STATES + CONTROLS) * padded_rows();
        sum = Two(scores[rest], scores[rest + padded_rows()]);
        running = scores[rest + 2u * padded_rows()] > 0.0;
    }
    let draws = row_of(draw_of(k), ACTIONS | problem);
    // The normals of the actions come four at a time.
    var held = vec4<f32>();
    for (var t = update.begin; t < update.end && running; t++) {
        if model_done(t, x) {
            if t > 0u {
                sum = added(sum, model_cost(t - 1u, x, before));
            }
            running = false;
            break;
        }
        var u: array<f32, CONTROLS>;
        if SCORED {
            // The action a = m(x) + σ z, whose score is Jᵀ z / σ by the parameters, and z² − 1 by the logarithm of σ.
            let deviations = update.width - CONTROLS;
            var v: array<f32, CONTROLS>;
            for (var m = 0u; m < CONTROLS; m++) {
                let d = t * CONTROLS + m;
                if d % 4u == 0u {
                    held = four_of(normals(draws, d / 4u));
                }
                let z = sign_of(k) * held[d % 4u];
                let deviation = gibbs_exp(nominal[block_at(NOMINAL) + deviations + m]);
                v[m] = z / deviation;
                u[m] = z * deviation;
                accumulate(deviations + m, z * z - 1.0);
            }
            let mean = values_of(policy_pull_back(t, x, control_of(v)));
            for (var m = 0u; m < CONTROLS; m++) {
                u[m] += mean[m];
            }
        } else {
            u = values_of(policy_act(t, x));
        }
        if LIMITED {
            for (var m = 0u; m < CONTROLS; m++) {
                u[m] = clamp(u[m], inputs[LOW + m], inputs[HIGH + m]);
            }
        }
        let control = control_of(u);
        let next = model_advance(t, x, before, control);
        sum = added(sum, select(0.0, next.cost, t > 0u));
        x = next.x;
        before = control;
    }
    if update.end < update.horizon {
        keep(kept, x, before);
        let rest = kept + (STATES + CONTROLS) * padded_rows();
        scores[rest] = sum.x;
        scores[rest + padded_rows()] = sum.y;
        scores[rest + 2u * padded_rows()] = select(0.0, 1.0, running);
        return;
    }
    if running {
        sum = added(sum, model_cost(update.horizon - 1u, x, before));
    }
    sum = added(sum, model_terminal(update.horizon, x));
    let at = cost_address(number, k);
    scores[at] = sum.x;
    scores[at + padded_rows()] = -sum.y;
}

// The cost of a row: the mean of its episodes'.
@compute @workgroup_size(64)
fn gather(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    problem = workgroup.z;
    let k = (workgroup.y * workgroups.x + workgroup.x) * TILE + lane;
    var cost = 0.0;
    if k < update.rows {
        var sum = Two();
        for (var number = 0u; number < update.episodes; number++) {
            let at = cost_address(number, k);
            sum = added(added(sum, scores[at]), scores[at + padded_rows()]);
        }
        let share = 1.0 / f32(update.episodes);
        cost = sum.x * share;
        let at = score_address(k);
        scores[at] = cost;
        scores[at + TILE] = -sum.y * share;
        scores[at + 2u * TILE] = 0.0;
    }
    enter(lane, keys_of(k < update.rows, cost, 0.0));
}
