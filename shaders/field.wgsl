// Bilinear look-up in a sampled field. Twin: src/field.rs.

const HEADER = 12u;

struct Cell {
    inside: bool,
    at: vec2<i32>,
    part: vec2<f32>,
    // Whether the point lies between samples along each axis, and not in the half cell of the border.
    between: vec2<bool>,
}

fn field_cell(h: u32, x: f32, y: f32) -> Cell {
    let size = vec2<f32>(fields[h + 6u], fields[h + 7u]);
    let g = vec2<f32>(
        fma(fields[h], x, fma(fields[h + 1u], y, fields[h + 2u])),
        fma(fields[h + 3u], x, fma(fields[h + 4u], y, fields[h + 5u])),
    );
    let inside = g.x >= -0.5 && g.x <= size.x - 0.5 && g.y >= -0.5 && g.y <= size.y - 0.5;
    let c = clamp(g, vec2<f32>(0.0), size - 1.0);
    // As integers again, since what a NaN becomes is the driver's to say.
    let at = clamp(vec2<i32>(c), vec2<i32>(0), vec2<i32>(size) - 1);
    return Cell(inside, at, c - vec2<f32>(at), g == c);
}

// The four samples around a point: (0,0), (0,1), (1,0), (1,1). In memory each is followed by the one above it, and the last of a
// row is there twice.
fn field_corners(h: u32, at: vec2<i32>) -> vec4<f32> {
    let width = i32(fields[h + 6u]);
    let offset = (i32(fields[h + 9u]) << 16u) + i32(fields[h + 10u]);
    let first = offset + 2 * (at.y * (width + 1) + at.x);
    return vec4<f32>(fields[first], fields[first + 1], fields[first + 2], fields[first + 3]);
}

fn field_sample_at(field: u32, x: f32, y: f32) -> f32 {
    let h = field * HEADER;
    let cell = field_cell(h, x, y);
    let v = field_corners(h, cell.at);
    let low = fma(cell.part.x, v.z - v.x, v.x);
    let high = fma(cell.part.x, v.w - v.y, v.y);
    return select(fields[h + 8u], fma(cell.part.y, high - low, low), cell.inside);
}

fn field_gradient_at(field: u32, x: f32, y: f32) -> vec2<f32> {
    let h = field * HEADER;
    let cell = field_cell(h, x, y);
    let v = field_corners(h, cell.at);
    let gx = select(0.0, fma(cell.part.y, (v.w - v.y) - (v.z - v.x), v.z - v.x), cell.between.x);
    let gy = select(0.0, fma(cell.part.x, (v.w - v.z) - (v.y - v.x), v.y - v.x), cell.between.y);
    let slope = vec2<f32>(fields[h] * gx + fields[h + 3u] * gy, fields[h + 1u] * gx + fields[h + 4u] * gy);
    return select(vec2<f32>(0.0), slope, cell.inside);
}
