// Evaluates a traced function at many points, one invocation each. The function is generated
// (src/runtime/gpu/source.rs); it reads `inputs` and writes `rows`. Twin: OnLanes in src/check.rs.

@compute @workgroup_size(64)
fn map(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    start_problem(0u);
    let k = id.y * workgroups.x * 64u + id.x;
    if k < uniforms.rows {
        mapped(k);
    }
}
