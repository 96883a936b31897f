// Stores merged moments for the host or another kernel, in the slot after the last group's partial result.

fn put_moments(d: u32, mean: f32, second: f32) {
    let at = partial_at(group_total()) + HEADER_LEN + d;
    partials[at] = mean;
    if has(FLAG_SECOND_MOMENT) {
        partials[at + uniforms.coordinates] = second;
    }
}
