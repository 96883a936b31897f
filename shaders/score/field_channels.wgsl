// Look-ups of tables, of volumes, and of several channels of a field. Twin: src/lang/look_up.rs.

// The part of the header of a field that only these look-ups read.
struct Channels {
    // The third coordinate of a point in a volume, in layers, is a z + c: a, c, and the outermost layer.
    up: vec3<f32>,
    // What a table is beyond its ends: the distances up to which it applies and has a slope, its period and the
    // inverse.
    ends: vec4<f32>,
    // The pairs of samples from one layer, and from one plane, to the next.
    layer: u32,
    plane: u32,
}

var<private> field_channels: array<Channels, FIELDS>;

fn read_channels(i: u32) {
    let h = i * HEADER;
    let layers = u32(fields[h + 5u].y);
    let layer = field_headers[i].stride * (field_headers[i].last_index.y + 1u);
    field_channels[i] = Channels(
        vec3<f32>(fields[h + 6u], fields[h + 7u].x), vec4<f32>(fields[h + 8u], fields[h + 9u]), layer, layer * layers,
    );
}

// The position of a point in a table.
struct TableCell {
    field: u32,
    // The index of the pair before the point, in the first plane.
    first: u32,
    part: f32,
    inside: bool,
    between: bool,
}

fn table_cell_at(number: u32, x: f32) -> TableCell {
    let field = field_headers[number];
    let ends = field_channels[number].ends;
    let unwrapped = fma(field.along.x, x, field.along.z);
    let g = fma(floor(unwrapped * ends.w), -ends.z, unwrapped);
    let c = clamp(g, 0.0, field.last.x);
    let whole = floor(c);
    let first = field.first + min(integer_of(whole), field.last_index.x);
    let beyond = abs(g - c);
    return TableCell(number, first, c - whole, beyond <= ends.x, beyond <= ends.y);
}

// The samples before and after the point. A plane of a table holds two channels.
fn table_samples(cell: TableCell, channel: u32) -> vec2<f32> {
    let first = cell.first + channel / 2u * field_channels[cell.field].plane;
    let before = fields[first];
    let after = fields[first + 1u];
    return select(vec2<f32>(before.x, after.x), vec2<f32>(before.y, after.y), channel % 2u == 1u);
}

fn table_value_at(cell: TableCell, channel: u32) -> f32 {
    let v = table_samples(cell, channel);
    return select(field_headers[cell.field].outside, field_linear(cell.part, v.x, v.y), cell.inside);
}

fn table_slope_at(cell: TableCell, channel: u32) -> f32 {
    let v = table_samples(cell, channel);
    return select(0.0, v.y - v.x, cell.inside && cell.between) * field_headers[cell.field].along.x;
}

// Interpolates between the samples (0,0), (0,1), (1,0), (1,1) of a layer.
fn field_in_layer(part: vec2<f32>, v: vec4<f32>) -> f32 {
    return field_bilinear(part.x, part.y, v.x, v.y, v.z, v.w);
}

// The derivatives by the two grid coordinates.
fn field_slopes_in_layer(part: vec2<f32>, v: vec4<f32>) -> vec2<f32> {
    let slopes = field_bilinear_slopes(part.x, part.y, v.x, v.y, v.z, v.w);
    return vec2<f32>(slopes.x, slopes.y);
}

// The derivatives by the first two coordinates of a point, given those by the grid coordinates.
fn field_turned(field: Field, g: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(field.along.x * g.x + field.across.x * g.y, field.along.y * g.x + field.across.y * g.y);
}

// The position of a point in the plane.
struct PlaneCell {
    field: u32,
    first: u32,
    part: vec2<f32>,
    inside: bool,
    between: vec2<bool>,
}

fn plane_cell_at(number: u32, x: f32, y: f32) -> PlaneCell {
    let field = field_headers[number];
    let cell = field_cell(field, x, y);
    let first = field_pair(field, cell.at);
    return PlaneCell(number, first, cell.part, cell.inside, cell.between);
}

fn plane_samples(cell: PlaneCell, channel: u32) -> vec4<f32> {
    let first = cell.first + channel * field_channels[cell.field].plane;
    return vec4<f32>(fields[first], fields[first + 1u]);
}

fn plane_value_at(cell: PlaneCell, channel: u32) -> f32 {
    let value = field_in_layer(cell.part, plane_samples(cell, channel));
    return select(field_headers[cell.field].outside, value, cell.inside);
}

fn plane_slopes_at(cell: PlaneCell, channel: u32) -> vec2<f32> {
    let g = field_slopes_in_layer(cell.part, plane_samples(cell, channel));
    let slopes = field_turned(field_headers[cell.field], select(vec2<f32>(0.0), g, cell.between));
    return select(vec2<f32>(0.0), slopes, cell.inside);
}

// The position of a point in a volume.
struct VolumeCell {
    field: u32,
    first: u32,
    part: vec3<f32>,
    inside: bool,
    between: vec3<bool>,
}

fn volume_cell_at(number: u32, x: f32, y: f32, z: f32) -> VolumeCell {
    let field = field_headers[number];
    let cell = field_cell(field, x, y);
    let up = field_channels[number].up;
    let g = fma(up.x, z, up.y);
    let c = clamp(g, 0.0, up.z);
    let whole = floor(c);
    let layer = min(integer_of(whole), u32(up.z));
    let first = field_pair(field, cell.at) + layer * field_channels[number].layer;
    let inside = cell.inside && g >= -0.5 && g <= up.z + 0.5;
    return VolumeCell(number, first, vec3<f32>(cell.part, c - whole), inside, vec3<bool>(cell.between, g == c));
}

// The samples around the point in the layer below it (0), or in that above it (1). The last layer is stored twice.
fn volume_samples(cell: VolumeCell, channel: u32, above: u32) -> vec4<f32> {
    let channels = field_channels[cell.field];
    let first = cell.first + channel * channels.plane + above * channels.layer;
    return vec4<f32>(fields[first], fields[first + 1u]);
}

fn volume_value_at(cell: VolumeCell, channel: u32) -> f32 {
    let below = field_in_layer(cell.part.xy, volume_samples(cell, channel, 0u));
    let above = field_in_layer(cell.part.xy, volume_samples(cell, channel, 1u));
    return select(field_headers[cell.field].outside, field_linear(cell.part.z, below, above), cell.inside);
}

fn volume_slopes_at(cell: VolumeCell, channel: u32) -> vec3<f32> {
    let v = volume_samples(cell, channel, 0u);
    let w = volume_samples(cell, channel, 1u);
    let part = cell.part.xy;
    let below = field_slopes_in_layer(part, v);
    let above = field_slopes_in_layer(part, w);
    let g = vec2<f32>(field_linear(cell.part.z, below.x, above.x), field_linear(cell.part.z, below.y, above.y));
    let slopes = field_turned(field_headers[cell.field], select(vec2<f32>(0.0), g, cell.between.xy));
    let rise = select(0.0, field_in_layer(part, w) - field_in_layer(part, v), cell.between.z);
    return select(vec3<f32>(0.0), vec3<f32>(slopes, rise * field_channels[cell.field].up.x), cell.inside);
}
