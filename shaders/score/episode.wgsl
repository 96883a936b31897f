// Draw and score the rows of a policy. Twin: src/kernels/score/episode.rs.
//
// One invocation runs one episode of one row: the time loop is inside it, the state stays in registers. Rows are in
// memory, in tiles. A row of perturbed parameters is drawn first and then read by its episodes; a row of scores is
// accumulated by its only episode.
//
// The model and the policy are generated (src/runtime/gpu/source.rs) and prepended to this file:
//     struct State, struct Control, initial_state()
//     model_arrive(t, running, x, before): the cost of having arrived in x by `before`, if it counts, and whether the
//         episode goes on
//     model_advance(t, running, x, before, u): the same cost, and the next state under u, if the episode goes on
//     model_end(t, running, x, before): the cost of the last time step, if it counts, and the terminal cost
//     policy_act(t, x): the control
//     policy_vjp(t, x, v): the control; also accumulates the derivatives times v
//     control_of(values), values_of(control)
//     keep(at, x, u), saved_state(at), saved_control(at): store and load a state and a control
//     read_fields(): called before the model
//     several(count): count, hidden from drivers that unroll loops
//     const STATES, ENTRY, KEPT: numbers in a start's state, in a whole start, and in a saved episode
// The generated code calls weight, accumulate and param, which are defined here.
// Arrays are of F, as those of networks: of two names for the same array, naga writes two functions to HLSL.

// Bit of the last counter word that separates the action noise from the noise of rows and steps.
const ACTIONS = 0x2000000u;

// The offset of this episode's start in the inputs.
var<private> start_at: u32;
// The address of this row.
var<private> row_at: u32;

// A parameter of the model; every episode has its own.
fn param(i: u32) -> f32 {
    return inputs[start_at + STATES + i];
}

// Parameter i of the policy.
fn weight(i: u32) -> f32 {
    if SCORED {
        return nominal[nominal_at(NOMINAL) + i];
    }
    return rows[row_at + i * TILE];
}

// Adds to the derivative with respect to parameter i.
fn accumulate(i: u32, value: f32) {
    rows[row_at + i * TILE] += value;
}

// The address of the cost of an episode of row k: after the scores, and followed by its Kahan compensation.
fn cost_address(episode: u32, k: u32) -> u32 {
    return 3u * padded_rows() * uniforms.problems + (problem * uniforms.episodes + episode) * 2u * padded_rows() + k;
}

// The address at which an unfinished episode of row k is saved for the next dispatch: after the costs of all episodes.
// Consecutive numbers of an episode are padded_rows() apart.
fn saved_address(episode: u32, k: u32) -> u32 {
    let before = (3u + 2u * uniforms.episodes) * uniforms.problems + (problem * uniforms.episodes + episode) * KEPT;
    return before * padded_rows() + k;
}

fn four_of(n: Normals) -> vec4<f32> {
    return vec4<f32>(n.x, n.y, n.z, n.w);
}

// The draw that row k uses; `sign_of` is its sign.
fn draw_of(k: u32) -> u32 {
    return select(k, k >> 1u, ANTITHETIC);
}

fn sign_of(k: u32) -> f32 {
    return select(1.0, -1.0, ANTITHETIC && (k & 1u) == 1u);
}

// Draws rows of perturbed parameters, four consecutive coordinates at a time per invocation.
@compute @workgroup_size(64)
fn perturb(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    start_problem(workgroup.z);
    for (var tile = workgroup.x; tile * TILE < uniforms.rows; tile += workgroups.x) {
        let k = tile * TILE + lane;
        for (var block = workgroup.y; 4u * block < uniforms.width; block += workgroups.y) {
            let z = four_of(normals(row_of(draw_of(k), problem), block));
            let end = min(4u * block + 4u, uniforms.width);
            for (var d = 4u * block; d < end; d++) {
                var factor = uniforms.scale;
                if STD_SCALE {
                    factor = uniforms.scale * nominal[factors_at(FACTORS) + d];
                }
                let noise = select(sign_of(k) * (z[d % 4u] * factor), 0.0, NOMINAL_FIRST && k == 0u);
                rows[address(k, d)] = nominal[nominal_at(NOMINAL) + d] + noise;
            }
        }
    }
}

// The episodes of a row run in different workgroups, tile after tile. A dispatch runs the time steps begin ≤ t < end of
// the pass; where a device limits loop iterations, the next dispatch continues from there. Both bounds are multiples
// of 4, except for the horizon.
@compute @workgroup_size(64)
fn episode(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    start_problem(workgroup.z);
    let tiles = padded_rows() / TILE;
    let index = workgroup.y * workgroups.x + workgroup.x;
    let number = index / tiles;
    let k = (index % tiles) * TILE + lane;
    if number >= uniforms.episodes || k >= uniforms.rows {
        return;
    }
    let entry = select(problem * uniforms.episodes + number, problem * uniforms.rows + k, SCORED);
    start_at = uniforms.starts + entry * ENTRY;
    row_at = address(k, 0u);
    if SCORED && uniforms.begin == 0u {
        for (var d = 0u; d < uniforms.width; d++) {
            rows[row_at + d * TILE] = 0.0;
        }
    }

    read_fields();
    var x = initial_state();
    var before = Control();
    var running = true;
    var sum = Two();
    let saved = saved_address(number, k);
    if uniforms.begin > 0u {
        x = saved_state(saved);
        before = saved_control(saved);
        let rest = saved + (STATES + CONTROLS) * padded_rows();
        sum = Two(scores[rest], scores[rest + padded_rows()]);
        running = scores[rest + 2u * padded_rows()] > 0.0;
    }
    let draws = row_of(draw_of(k), ACTIONS | problem);
    // Action noise is drawn four normals at a time.
    var held = vec4<f32>();
    for (var t = uniforms.begin; t < uniforms.end && running; t++) {
        let arrival = model_arrive(t, running, x, before);
        if !arrival.running {
            sum = kahan_add(sum, arrival.cost);
            running = false;
            break;
        }
        var u: array<F, CONTROLS>;
        if SCORED {
            // The action is a = m(x) + σ z; its score is Jᵀ z / σ with respect to the parameters, and z² − 1 with
            // respect to ln σ.
            let deviations = uniforms.width - CONTROLS;
            var v: array<F, CONTROLS>;
            for (var m = 0u; m < CONTROLS; m++) {
                let d = t * CONTROLS + m;
                if d % 4u == 0u {
                    held = four_of(normals(draws, d / 4u));
                }
                let z = sign_of(k) * held[d % 4u];
                let deviation = gibbs_exp(nominal[nominal_at(NOMINAL) + deviations + m]);
                v[m] = z / deviation;
                u[m] = z * deviation;
                accumulate(deviations + m, z * z - 1.0);
            }
            let mean = values_of(policy_vjp(t, x, control_of(v)));
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
        let next = model_advance(t, running, x, before, control);
        sum = kahan_add(sum, next.cost);
        x = next.x;
        before = control;
    }
    if uniforms.end < uniforms.horizon {
        keep(saved, x, before);
        let rest = saved + (STATES + CONTROLS) * padded_rows();
        scores[rest] = sum.x;
        scores[rest + padded_rows()] = sum.y;
        scores[rest + 2u * padded_rows()] = select(0.0, 1.0, running);
        return;
    }
    let end = model_end(uniforms.horizon, running, x, before);
    if running {
        sum = kahan_add(sum, end.cost);
    }
    sum = kahan_add(sum, end.terminal);
    let at = cost_address(number, k);
    scores[at] = sum.x;
    scores[at + padded_rows()] = -sum.y;
}

// The cost of a row is the mean cost of its episodes.
@compute @workgroup_size(64)
fn gather(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    start_problem(workgroup.z);
    let k = (workgroup.y * workgroups.x + workgroup.x) * TILE + lane;
    var cost = 0.0;
    if k < uniforms.rows {
        var sum = Two();
        for (var number = 0u; number < uniforms.episodes; number++) {
            let at = cost_address(number, k);
            sum = kahan_add(kahan_add(sum, scores[at]), scores[at + padded_rows()]);
        }
        let share = 1.0 / f32(uniforms.episodes);
        cost = sum.x * share;
        let at = score_address(k);
        scores[at] = cost;
        scores[at + TILE] = -sum.y * share;
        scores[at + 2u * TILE] = 0.0;
    }
    enter(lane, keys_of(k < uniforms.rows, cost, 0.0));
}
