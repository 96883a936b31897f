// The rows in tiles, four neighbours at a time, and how a workgroup of the weighted mean goes through them: 16 invocations
// take one tile of one coordinate at a stretch.

@group(0) @binding(3) var<storage, read_write> rows: array<vec4<f32>>;

// The coordinate (of 16) that an invocation of the weighted mean takes, and its part (of 16) of the rows.
fn share(lane: u32) -> vec2<u32> {
    return vec2<u32>(lane / 16u, lane % 16u);
}

// (Σ w r, Σ w r²) over a part of the rows from `first` on, of coordinate d. Rows beyond the last weigh nothing.
fn moments_of(first: u32, count: u32, d: u32, part: u32) -> vec2<f32> {
    var moment = vec2<f32>();
    let tiles = (count + TILE - 1u) / TILE;
    var at = (first * update.width + d * TILE) / 4u + part;
    for (var tile = 0u; tile < tiles; tile++) {
        let w = weights[tile * 16u + part];
        let r = rows[at];
        moment += vec2<f32>(dot(w, r), dot(w * r, r));
        at += TILE * update.width / 4u;
    }
    return moment;
}
