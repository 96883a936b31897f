// The weighted mean of one group of rows that are drawn again: noise is a function of row and coordinate, and computing
// it twice takes less time than storing and reloading it. Most rows have negligible weight and are skipped; the others
// are first compacted into a list, so that the work is balanced over the invocations. The workgroups of a group split
// its innovations (with white noise, its time steps), STEPS at a time. Twin: src/runtime/cpu/tiles.rs.

// The indices within the group of rows with nonzero weight, in order.
var<workgroup> chosen: array<u32, GROUP>;

// Compacts the rows with nonzero weight into `chosen` and returns their number (a prefix sum over the invocations).
fn choose(group: u32, lane: u32) -> u32 {
    workgroupBarrier();
    // Each invocation scans an equal share of the rows.
    let count = group_count(group);
    let share = (count + LANES - 1u) / LANES;
    let first = min(lane * share, count);
    let last = min(first + share, count);
    var mine = 0u;
    for (var i = first; i < last; i++) {
        mine += u32(weight(i) != 0.0);
    }
    // The counts are exact as floats, since they are at most GROUP.
    of_lanes[lane].x = f32(mine);
    workgroupBarrier();
    if lane < ROOT {
        var sum = 0.0;
        for (var i = 0u; i < ROOT; i++) {
            sum += of_lanes[lane * ROOT + i].x;
        }
        of_root[lane].x = sum;
    }
    workgroupBarrier();
    var before = 0u;
    for (var i = 0u; i < lane / ROOT; i++) {
        before += u32(of_root[i].x);
    }
    for (var i = lane / ROOT * ROOT; i < lane; i++) {
        before += u32(of_lanes[i].x);
    }
    for (var i = first; i < last; i++) {
        if weight(i) != 0.0 {
            chosen[before] = i;
            before += 1u;
        }
    }
    var all = 0.0;
    for (var i = 0u; i < ROOT; i++) {
        all += of_root[i].x;
    }
    workgroupBarrier();
    return u32(all);
}

// Sums over the invocations that share a block of time steps; the first of them gets the total.
fn over_parts(lane: u32, taken: u32, parts: u32, value: vec4<f32>) -> vec4<f32> {
    if parts == 1u {
        return value;
    }
    workgroupBarrier();
    of_lanes[lane] = value;
    workgroupBarrier();
    var sum = value;
    if lane < taken {
        for (var part = 1u; part < parts; part++) {
            sum += of_lanes[part * taken + lane];
        }
    }
    return sum;
}

// Computes the part of a group's mean that workgroup `which` of `workgroups` owns.
fn mean_of_group(group: u32, which: u32, workgroups: u32, lane: u32) {
    find_weights(group, lane, which == 0u);
    let count = choose(group, lane);
    let p = proposal();
    let stretches = (innovations_of(uniforms.horizon) + STEPS - 1u) / STEPS;
    // Number of time blocks that a workgroup processes at once, one per invocation. If there are fewer blocks than
    // invocations, the rows of one block are split over as many invocations as fit.
    let taken = min((stretches + workgroups - 1u) / workgroups, LANES);
    let parts = LANES / taken;
    let part = lane / taken;
    for (var first = which * taken; first < stretches; first += workgroups * taken) {
        let start = (first + lane % taken) * STEPS;
        let d = centered(start, NOMINAL, FACTORS);
        var sum = Block();
        var squares = Block();
        if start < innovations() && part < parts {
            for (var at = part * WIDE; at < count; at += parts * WIDE) {
                // Indices beyond the last row are clamped to it, and get weight 0.
                let last = U(count - 1u);
                let place = min(rows_from(at), last);
                let k = chosen_rows(place);
                let w = select(F(0.0), weights_of(k), rows_from(at) <= last);
                let c = coordinates_from(p, d, draws_of(U(group * GROUP) + k), start);
                sum = weighed(sum, w, c);
                if SECOND_MOMENT {
                    squares = squared(squares, w, c, d);
                }
            }
        }
        let at = partial_at(group) + HEADER_LEN + start * CONTROLS;
        for (var i = 0u; i < STEPS * CONTROLS; i += 4u) {
            let mean = over_parts(lane, taken, parts, four_of(sum, i));
            var second = vec4<f32>();
            if SECOND_MOMENT {
                second = over_parts(lane, taken, parts, four_of(squares, i));
            }
            if part == 0u {
                // The last block may extend beyond the last innovation.
                for (var j = 0u; j < 4u && start * CONTROLS + i + j < uniforms.coordinates; j++) {
                    partials[at + i + j] = mean[j];
                    if SECOND_MOMENT {
                        partials[at + uniforms.coordinates + i + j] = second[j];
                    }
                }
            }
        }
    }
}

@compute @workgroup_size(LANES)
fn group_mean(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    start_problem(workgroup.z);
    find_inputs();
    mean_of_group(workgroup.x, workgroup.y, workgroups.y, lane);
}
