// Draw and score the rows of a policy. Twin: src/kernels/score/episode.rs.
//
// One invocation runs one episode of one row, or WIDE of them in vectors: the time loop is inside it, the state stays
// in registers. Rows are in memory, in tiles. A row of perturbed parameters is drawn first and then read by its
// episodes; a row of scores is accumulated by its only episode.
//
// The model and the policy are generated (src/runtime/gpu/source.rs) and prepended to this file:
//     struct State, struct Control, initial_state()
//     model_arrive(t, running, x, before): the cost of having arrived in x by `before`, if it counts, and whether the
//         episode goes on
//     model_advance(t, running, x, before, u): the same cost, and the next state under u, if the episode goes on
//     state_after(x, next, running): the next state of the episodes that go on, x of the others
//     model_end(t, running, x, before): the cost of the last time step, if it counts, and the terminal cost
//     policy_act(t, x): the control
//     policy_vjp(t, x, v): the control; also accumulates the derivatives times v
//     control_of(values), values_of(control)
//     param(i): parameter i of the model; every episode has its own
//     scores_at(at), put_scores(at, value): load and store a number of each of the invocation's episodes
//     keep(at, x, u), saved_state(at), saved_control(at): store and load a state and a control
//     read_fields(): called before the model
//     several(count): count, hidden from drivers that unroll loops
//     const STATES, ENTRY, KEPT: numbers in a start's state, in a whole start, and in a saved episode
// The generated code calls weight, accumulate and, for derivatives of networks, the functions after it.
// Arrays are of F, as those of networks: of two names for the same array, naga writes two functions to HLSL.

// Bit of the last counter word that separates the action noise from the noise of rows and steps.
const ACTIONS = 0x2000000u;

// The offsets of the episodes' starts in the inputs.
var<private> start_at: U;
// The address of this row.
var<private> row_at: u32;

// Parameter i of the policy. All episodes of an invocation are those of one row.
fn weight(i: u32) -> F {
    if SCORED {
        return F(nominal[nominal_at(NOMINAL) + i]);
    }
    return F(rows[row_at + i * TILE]);
}

// Adds to the derivative with respect to parameter i.
fn accumulate(i: u32, value: F) {
    rows[row_at + i * TILE] += total(value);
}

// The following functions serve the derivatives of networks. They load several numbers before they store any, since a
// compiler may not move a load past a store: an invocation would wait for each number by itself.

// The policy's parameters from i on, where they are the nominal.
fn weights(i: u32) -> vec4<f32> {
    let at = nominal_at(NOMINAL) + i;
    return vec4<f32>(nominal[at], nominal[at + 1u], nominal[at + 2u], nominal[at + 3u]);
}

// Four derivatives, from parameter i on and `stride` apart.
fn derivatives(i: u32, stride: u32) -> vec4<f32> {
    let at = row_at + i * TILE;
    let step = stride * TILE;
    return vec4<f32>(rows[at], rows[at + step], rows[at + 2u * step], rows[at + 3u * step]);
}

fn put_derivatives(i: u32, stride: u32, values: vec4<f32>) {
    let at = row_at + i * TILE;
    let step = stride * TILE;
    rows[at] = values.x;
    rows[at + step] = values.y;
    rows[at + 2u * step] = values.z;
    rows[at + 3u * step] = values.w;
}

// Adds to the derivatives with respect to four parameters, from i on and `stride` apart.
fn accumulate_four(i: u32, stride: u32, values: vec4<f32>) {
    put_derivatives(i, stride, derivatives(i, stride) + values);
}

// Adds the products of four slopes with four units to derivatives: those of the first slope from i on, those of the
// next `stride` further.
fn accumulate_products(i: u32, stride: u32, slopes: vec4<f32>, units: vec4<f32>) {
    let a = derivatives(i, 1u);
    let b = derivatives(i + stride, 1u);
    let c = derivatives(i + 2u * stride, 1u);
    let d = derivatives(i + 3u * stride, 1u);
    put_derivatives(i, 1u, a + slopes.x * units);
    put_derivatives(i + stride, 1u, b + slopes.y * units);
    put_derivatives(i + 2u * stride, 1u, c + slopes.z * units);
    put_derivatives(i + 3u * stride, 1u, d + slopes.w * units);
}

// The address of the cost of an episode of row k: after the scores, and followed by its Kahan compensation.
fn cost_address(episode: U, k: U) -> U {
    return 3u * padded_rows() * uniforms.problems + (problem * uniforms.episodes + episode) * 2u * padded_rows() + k;
}

// The address at which an unfinished episode of row k is saved for the next dispatch: after the costs of all episodes.
// Consecutive numbers of an episode are padded_rows() apart.
fn saved_address(episode: U, k: u32) -> U {
    let before = (3u + 2u * uniforms.episodes) * uniforms.problems + (problem * uniforms.episodes + episode) * KEPT;
    return before * padded_rows() + k;
}

// Adds to the costs of the episodes that count. The sum of a finished episode stays as it is, however long the others
// of the invocation run on.
fn counted(sum: Two, cost: F, counts: B) -> Two {
    let more = kahan_add(sum, cost);
    return Two(select(sum.x, more.x, counts), select(sum.y, more.y, counts));
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

// Consecutive invocations run the episodes of a row, so that they load the same parameters. Invocations that follow run
// the next row, whose parameters are stored beside these. If the number of episodes is no multiple of WIDE, the last
// invocation of a row runs the last episode more than once. A dispatch runs the time steps begin ≤ t < end of the pass;
// where a device limits loop iterations, the next dispatch continues from there. Both bounds are multiples of 4, except
// for the horizon.
@compute @workgroup_size(64)
fn episode(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    start_problem(workgroup.z);
    let index = (workgroup.y * workgroups.x + workgroup.x) * TILE + lane;
    let each = (uniforms.episodes + WIDE - 1u) / WIDE;
    // No row has no episodes, but in the first dispatch, which has no rows.
    let k = index / max(each, 1u);
    if k >= uniforms.rows {
        return;
    }
    let number = min(rows_from((index - k * each) * WIDE), U(uniforms.episodes - 1u));
    let entry = select(problem * uniforms.episodes + number, U(problem * uniforms.rows + k), SCORED);
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
    var running = B(true);
    var sum = Two();
    let saved = saved_address(number, k);
    if uniforms.begin > 0u {
        x = saved_state(saved);
        before = saved_control(saved);
        let rest = saved + (STATES + CONTROLS) * padded_rows();
        sum = Two(scores_at(rest), scores_at(rest + padded_rows()));
        running = scores_at(rest + 2u * padded_rows()) > F(0.0);
    }
    let draws = row_of(draw_of(k), ACTIONS | problem);
    // Action noise is drawn four normals at a time.
    var held = vec4<f32>();
    for (var t = uniforms.begin; t < uniforms.end && any(running); t++) {
        let arrival = model_arrive(t, running, x, before);
        if !any(arrival.running) {
            sum = counted(sum, arrival.cost, running);
            running = arrival.running;
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
                let deviation = gibbs_exp(F(nominal[nominal_at(NOMINAL) + deviations + m]));
                v[m] = z / deviation;
                u[m] = z * deviation;
                accumulate(deviations + m, F(z * z - 1.0));
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
                u[m] = clamp(u[m], F(inputs[LOW + m]), F(inputs[HIGH + m]));
            }
        }
        let control = control_of(u);
        let next = model_advance(t, running, x, before, control);
        sum = counted(sum, next.cost, running);
        running = arrival.running;
        x = state_after(x, next.x, running);
        before = control;
    }
    if uniforms.end < uniforms.horizon {
        keep(saved, x, before);
        let rest = saved + (STATES + CONTROLS) * padded_rows();
        put_scores(rest, sum.x);
        put_scores(rest + padded_rows(), sum.y);
        put_scores(rest + 2u * padded_rows(), select(F(0.0), F(1.0), running));
        return;
    }
    let end = model_end(uniforms.horizon, running, x, before);
    sum = kahan_add(counted(sum, end.cost, running), end.terminal);
    let at = cost_address(number, U(k));
    put_scores(at, sum.x);
    put_scores(at + padded_rows(), -sum.y);
}

// The cost of a row is the mean cost of its episodes. An invocation gathers WIDE rows.
@compute @workgroup_size(TILE_LANES)
fn gather(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    start_problem(workgroup.z);
    let k = (workgroup.y * workgroups.x + workgroup.x) * TILE + lane * WIDE;
    var keys = EMPTY_KEYS;
    if k < uniforms.rows {
        var sum = Two();
        for (var number = 0u; number < uniforms.episodes; number++) {
            let at = cost_address(U(number), rows_from(k));
            sum = kahan_add(kahan_add(sum, scores_at(at)), scores_at(at + padded_rows()));
        }
        let share = 1.0 / f32(uniforms.episodes);
        let at = score_address(k);
        for (var i = 0u; i < WIDE; i++) {
            let cost = component(sum.x, i) * share;
            scores[at + i] = cost;
            scores[at + TILE + i] = -component(sum.y, i) * share;
            scores[at + 2u * TILE + i] = 0.0;
            keys = merge_keys(keys, keys_of(k + i < uniforms.rows, cost, 0.0));
        }
    }
    enter(lane, keys);
}
