// Bilinear look-up in sampled fields, by the functions of generated/interpolation.wgsl. FIELDS is the number of fields
// that the model uses. Twin: src/lang/look_up.rs.

// The header of a grid. Twin: Header in src/lang/look_up.rs.
struct Field {
    // Grid coordinates of a world point, in samples: a x + b y + c, along each axis.
    along: vec3<f32>,
    across: vec3<f32>,
    // Along each axis the coordinate of the outermost sample, as a number and as an index, and that of the border.
    last: vec2<f32>,
    last_index: vec2<u32>,
    border: vec2<f32>,
    outside: f32,
    // The index of its first pair of samples, the pairs per row, and the largest index of a pair from the first.
    first: u32,
    stride: u32,
    most: u32,
}

// Pairs of numbers per header.
const HEADER = 10u;

// Loaded once per rollout: the driver has to assume that storing scores may alias the inputs, so it would reload these.
var<private> field_headers: array<Field, FIELDS>;

fn read_fields() {
    for (var i = 0u; i < FIELDS; i++) {
        let h = i * HEADER;
        let ab = fields[h];
        let cd = fields[h + 1u];
        let ef = fields[h + 2u];
        let size = fields[h + 3u];
        let outside_high = fields[h + 4u];
        let low = fields[h + 5u].x;
        // The offset is stored as two numeric halves: its raw bits could form a subnormal, which a GPU may flush to
        // zero.
        let first = u32((i32(outside_high.y) << 16u) + i32(low)) / 2u;
        let last = vec2<u32>(size) - 1u;
        // Masked, so that a driver can tell that a product of 24 bits suffices for its multiples.
        let stride = (last.x + 2u) & 0xffffffu;
        field_headers[i] = Field(
            vec3<f32>(ab, cd.x), vec3<f32>(cd.y, ef), size - 1.0, last, size - 0.5, outside_high.x, first, stride,
            last.y * stride + last.x,
        );
        read_channels(i);
    }
}

struct Cell {
    inside: bool,
    at: vec2<u32>,
    part: vec2<f32>,
    // Whether the point lies between samples along each axis, and not in the half cell of the border.
    between: vec2<bool>,
}

fn field_cell(field: Field, x: f32, y: f32) -> Cell {
    let g = vec2<f32>(
        fma(field.along.x, x, fma(field.along.y, y, field.along.z)),
        fma(field.across.x, x, fma(field.across.y, y, field.across.z)),
    );
    let inside = g.x >= -0.5 && g.x <= field.border.x && g.y >= -0.5 && g.y <= field.border.y;
    let c = clamp(g, vec2<f32>(0.0), field.last);
    let whole = floor(c);
    return Cell(inside, vec2<u32>(integer_of(whole.x), integer_of(whole.y)), c - whole, g == c);
}

// A whole number below 2²³ as an integer: the mantissa of the sum with 2²³. Of a NaN, any integer below 2²³.
fn integer_of(whole: f32) -> u32 {
    return bitcast<u32>(whole + 8388608.0) & 0x7fffffu;
}

// The index of the first pair of a cell. It is clamped for NaNs, which a driver need not clamp as numbers.
fn field_pair(field: Field, at: vec2<u32>) -> u32 {
    return field.first + min(at.y * field.stride + at.x, field.most);
}

// The four samples around a point: (0,0), (0,1), (1,0), (1,1). In memory each sample is followed by the one above it,
// and the last sample of a row is stored twice.
fn field_corners(field: Field, at: vec2<u32>) -> vec4<f32> {
    let first = field_pair(field, at);
    return vec4<f32>(fields[first], fields[first + 1u]);
}

fn field_sample_at(number: u32, x: f32, y: f32) -> f32 {
    let field = field_headers[number];
    let cell = field_cell(field, x, y);
    let v = field_corners(field, cell.at);
    return select(field.outside, field_bilinear(cell.part.x, cell.part.y, v.x, v.y, v.z, v.w), cell.inside);
}

fn field_gradient_at(number: u32, x: f32, y: f32) -> vec2<f32> {
    let field = field_headers[number];
    let cell = field_cell(field, x, y);
    let v = field_corners(field, cell.at);
    let g = field_bilinear_slopes(cell.part.x, cell.part.y, v.x, v.y, v.z, v.w);
    let gx = select(0.0, g.x, cell.between.x);
    let gy = select(0.0, g.y, cell.between.y);
    let slope = vec2<f32>(field.along.x * gx + field.across.x * gy, field.along.y * gx + field.across.y * gy);
    return select(vec2<f32>(0.0), slope, cell.inside);
}
