// Score rows of a data set by their squared distance from x. The second score of a row is its negative reward, read
// from the inputs. Twin: src/kernels/score/distance.rs.

@compute @workgroup_size(64)
fn rollout(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    start_problem(workgroup.z);
    let k = (workgroup.y * workgroups.x + workgroup.x) * TILE + lane;
    var cost = 0.0;
    var second = 0.0;
    if k < padded_rows() {
        let x = nominal_at(NOMINAL);
        for (var d = 0u; d < uniforms.width; d++) {
            let off = rows[address(k, d)] - nominal[x + d];
            cost = fma(off, off, cost);
        }
        second = inputs[uniforms.starts + min(k, uniforms.rows - 1u)];
        let at = score_address(k);
        scores[at] = cost;
        scores[at + TILE] = 0.0;
        scores[at + 2u * TILE] = second;
    }
    enter(lane, keys_of(k < uniforms.rows, cost, second));
}
