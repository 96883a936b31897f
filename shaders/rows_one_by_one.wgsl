// Rows that stand one after the other, and how a workgroup of the weighted mean goes through them: 16 invocations take 16
// neighbouring coordinates of one row.

fn share(lane: u32) -> vec2<u32> {
    return vec2<u32>(lane % 16u, lane / 16u);
}

// As in rows_in_tiles.wgsl. A row of no weight may hold anything, so it must not be multiplied with.
fn moments_of(first: u32, count: u32, d: u32, part: u32) -> vec2<f32> {
    var moment = vec2<f32>();
    for (var i = part; i < count; i += 16u) {
        let w = weights[i / 4u][i % 4u];
        let r = select(0.0, rows[address(first + i, d)], w > 0.0);
        moment += vec2<f32>(w * r, w * r * r);
    }
    return moment;
}
