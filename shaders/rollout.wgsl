// Draw and score: one invocation is one rollout, the time loop is inside it, the state stays in registers.
// Twin: src/engine/cpu/rollout.rs.
//
// The model is generated (src/engine/gpu/source.rs) and put before this file:
//     struct State, struct Control, struct Stepped { x: State, cost: f32, done: bool }
//     initial_state(), frozen(yes, old, new), model_step(t, x, u), model_terminal(t, x), model_done(t, x)
//     struct Proposal, proposal()
//     struct Held, held_from(k, t), held_next(h): the normals of the next STEPS time steps
//     drawn(p, h, k, t), given(k, t), limited(p, u), stored(k, t, u), control_cost(p, t, u)
//     const GIVEN, NOMINAL_FIRST, LIMITED, CONTROL_COST: which of these a kernel uses

var<workgroup> tile_best: atomic<u32>;
var<workgroup> tile_worst: atomic<u32>;

@compute @workgroup_size(64)
fn rollout(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = workgroup.y * workgroups.x + workgroup.x;
    let k = tile * TILE + lane;
    if lane == 0u {
        atomicStore(&tile_best, 0xffffffffu);
        atomicStore(&tile_worst, 0u);
    }
    workgroupBarrier();
    // A workgroup beyond the last tile has nothing to do; it goes as one.
    if tile * TILE < update.rows {
        let p = proposal();
        var x = initial_state();
        var running = !model_done(0u, x);
        var sum = 0.0;
        var lost = 0.0;
        var control = 0.0;
        for (var start = 0u; start < update.horizon; start += STEPS) {
            var held: Held;
            if !GIVEN {
                held = held_from(k, start);
            }
            let end = min(start + STEPS, update.horizon);
            for (var t = start; t < end; t++) {
                var u: Control;
                if GIVEN {
                    u = given(k, t);
                } else {
                    u = drawn(p, held, k, t);
                    held = held_next(held);
                }
                if LIMITED {
                    u = limited(p, u);
                }
                stored(k, t, u);
                if CONTROL_COST {
                    control += control_cost(p, t, u);
                }
                let next = model_step(t, x, u);
                // Kahan's summation: `lost` is what the sum has rounded away so far.
                let y = select(0.0, next.cost, running) - lost;
                let total = sum + y;
                lost = (total - sum) - y;
                sum = total;
                x = frozen(running, x, next.x);
                running = running && !next.done;
            }
        }

        let y = model_terminal(update.horizon, x) - lost;
        let total = sum + y;
        lost = (total - sum) - y;

        let at = score_address(k);
        scores[at] = total;
        scores[at + TILE] = -lost;
        scores[at + 2u * TILE] = control;
        if k < update.rows && finite(total) {
            atomicMin(&tile_best, ordered(total));
            atomicMax(&tile_worst, ordered(total));
        }
    }
    workgroupBarrier();
    if lane == 0u {
        atomicMin(&summary.best, atomicLoad(&tile_best));
        atomicMax(&summary.worst, atomicLoad(&tile_worst));
    }
}
