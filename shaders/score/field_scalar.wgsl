// Field look-ups for one row per invocation.

fn field_sample(field: u32, x: F, y: F) -> F {
    return field_sample_at(field, x, y);
}

fn field_gradient(field: u32, x: F, y: F) -> Two {
    let slope = field_gradient_at(field, x, y);
    return Two(slope.x, slope.y);
}
