// Field look-ups for four rows per invocation.

fn field_sample(field: u32, x: F, y: F) -> F {
    return F(
        field_sample_at(field, x.x, y.x),
        field_sample_at(field, x.y, y.y),
        field_sample_at(field, x.z, y.z),
        field_sample_at(field, x.w, y.w),
    );
}

fn field_gradient(field: u32, x: F, y: F) -> Two {
    let a = field_gradient_at(field, x.x, y.x);
    let b = field_gradient_at(field, x.y, y.y);
    let c = field_gradient_at(field, x.z, y.z);
    let d = field_gradient_at(field, x.w, y.w);
    return Two(F(a.x, b.x, c.x, d.x), F(a.y, b.y, c.y, d.y));
}
