// The reduction over all rows of a problem that weighing needs: the best and the worst cost, and the smallest second
// score. Twin: CostBounds in src/kernels/score/rollout.rs.

// The identity of the reduction, as integer keys.
const EMPTY_KEYS = vec3<u32>(0xffffffffu, 0u, 0xffffffffu);

// The keys of one row; padding and non-finite scores contribute the identity.
fn keys_of(is_row: bool, cost: f32, second: f32) -> vec3<u32> {
    var keys = EMPTY_KEYS;
    if is_row && finite(cost) {
        keys = vec3<u32>(ordered(cost), ordered(cost), keys.z);
    }
    if is_row && finite(second) {
        keys.z = ordered(second);
    }
    return keys;
}

fn merge_keys(a: vec3<u32>, b: vec3<u32>) -> vec3<u32> {
    return vec3<u32>(min(a.x, b.x), max(a.y, b.y), min(a.z, b.z));
}

const TILE_LANES = TILE / WIDE;
var<workgroup> tile_keys: array<vec3<u32>, TILE_LANES>;

// Merges the keys of the workgroup into the summary.
fn enter(lane: u32, keys: vec3<u32>) {
    tile_keys[lane] = keys;
    workgroupBarrier();
    if lane == 0u {
        var key = keys;
        for (var i = 1u; i < TILE_LANES; i++) {
            key = merge_keys(key, tile_keys[i]);
        }
        atomicMin(&summary[problem].best, key.x);
        atomicMax(&summary[problem].worst, key.y);
        atomicMin(&summary[problem].nearest, key.z);
    }
}
