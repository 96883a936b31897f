// The weighted mean of one group of rows that are in memory, 16 coordinates per workgroup. Twin: one_by_one in
// src/kernels/average.rs.

const COORDINATES = 16u;
const PARTS = LANES / COORDINATES;

@compute @workgroup_size(LANES)
fn group_mean(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    start_problem(workgroup.z);
    let group = workgroup.x;
    let first = group * GROUP;
    let count = group_count(group);
    find_weights(group, lane, workgroup.y == 0u);
    workgroupBarrier();

    // Consecutive invocations take consecutive coordinates, and each takes every PARTS-th row.
    let coordinate = lane % COORDINATES;
    let part = lane / COORDINATES;
    let d = workgroup.y * COORDINATES + coordinate;
    var moment = vec2<f32>();
    if d < uniforms.coordinates {
        // The point that second moments are taken about: the nominal for perturbed parameters, else 0.
        var about = 0.0;
        if has(FLAG_PERTURBED) {
            about = nominal[nominal_at(NOMINAL) + d];
        }
        for (var i = part; i < count; i += PARTS) {
            // A row of zero weight may contain NaN or ∞, so it must not enter a product.
            let w = weight(i);
            let r = select(0.0, rows[address(first + i, d)], w != 0.0);
            let off = r - about;
            moment += vec2<f32>(w * r, select(0.0, w * off * off, w != 0.0));
        }
    }
    of_lanes[coordinate * PARTS + part] = vec4<f32>(moment, 0.0, 0.0);
    workgroupBarrier();
    let here = workgroup.y * COORDINATES + lane;
    if lane < COORDINATES && here < uniforms.coordinates {
        var all = of_lanes[lane * PARTS];
        for (var i = 1u; i < PARTS; i++) {
            all += of_lanes[lane * PARTS + i];
        }
        let at = partial_at(group) + HEADER_LEN;
        partials[at + here] = all.x;
        if has(FLAG_SECOND_MOMENT) {
            partials[at + uniforms.coordinates + here] = all.y;
        }
    }
}
