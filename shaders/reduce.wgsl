// Sums and maxima over the 256 invocations of a workgroup, in a fixed order: 16 invocations take 16 values each, then every
// invocation takes those 16. Two barriers, where a binary tree would need eight.

var<workgroup> of_lanes: array<vec4<f32>, 256>;
var<workgroup> of_sixteen: array<vec4<f32>, 16>;

fn add_up(lane: u32, value: vec4<f32>) -> vec4<f32> {
    of_lanes[lane] = value;
    workgroupBarrier();
    if lane < 16u {
        var sum = of_lanes[lane * 16u];
        for (var i = 1u; i < 16u; i++) {
            sum += of_lanes[lane * 16u + i];
        }
        of_sixteen[lane] = sum;
    }
    workgroupBarrier();
    var sum = of_sixteen[0];
    for (var i = 1u; i < 16u; i++) {
        sum += of_sixteen[i];
    }
    return sum;
}

fn largest(lane: u32, value: f32) -> f32 {
    of_lanes[lane].x = value;
    workgroupBarrier();
    if lane < 16u {
        var most = of_lanes[lane * 16u].x;
        for (var i = 1u; i < 16u; i++) {
            most = max(most, of_lanes[lane * 16u + i].x);
        }
        of_sixteen[lane].x = most;
    }
    workgroupBarrier();
    var most = of_sixteen[0].x;
    for (var i = 1u; i < 16u; i++) {
        most = max(most, of_sixteen[i].x);
    }
    // Whoever writes `of_sixteen` next waits at a barrier before, which comes after everyone has read it here.
    return most;
}
