// Where merged moments go that the host or another kernel wants: where another group's would follow the last.

fn put_moments(d: u32, mean: f32, second: f32) {
    let at = partial_at(group_total()) + HEADER_LEN + d;
    partials[at] = mean;
    if has(FLAG_SECOND_MOMENT) {
        partials[at + update.width] = second;
    }
}
