// What all rows of a problem have to know of each other before any can be weighed: the best and the worst cost, and the
// smallest second score. Twin: Extremes in src/engine/cpu/rollout.rs.

// Those of a tile, as keys; those that do not count are the worst best, the best worst and the largest smallest.
var<workgroup> tile_keys: array<vec3<u32>, 64>;

// One lane's row enters its cost and its second score, if it is a row at all.
fn enter(lane: u32, is_row: bool, cost: f32, second: f32) {
    var key = vec3<u32>(0xffffffffu, 0u, 0xffffffffu);
    if is_row && finite(cost) {
        key = vec3<u32>(ordered(cost), ordered(cost), key.z);
    }
    if is_row && finite(second) {
        key.z = ordered(second);
    }
    tile_keys[lane] = key;
    workgroupBarrier();
    if lane == 0u {
        for (var i = 1u; i < TILE; i++) {
            let other = tile_keys[i];
            key = vec3<u32>(min(key.x, other.x), max(key.y, other.y), min(key.z, other.z));
        }
        atomicMin(&summary[problem].best, key.x);
        atomicMax(&summary[problem].worst, key.y);
        atomicMin(&summary[problem].nearest, key.z);
    }
}
