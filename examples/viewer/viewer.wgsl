// The map, the trajectories and the shapes of the viewer. Lines are rectangles whose edges fade over a pixel.

struct View {
    // A point (x, y) of the map, in meters, is at the pixel (offset.x + scale * x, offset.y - scale * y).
    offset: vec2<f32>,
    // The size of the picture, in pixels.
    size: vec2<f32>,
    scale: f32,
    // The size of a cell, in meters.
    resolution: f32,
    // The radius of the robot, and the largest cost to go (in meters).
    radius: f32,
    farthest: f32,
}

@group(0) @binding(0) var<uniform> view: View;

fn pixel_of(point: vec2<f32>) -> vec2<f32> {
    return view.offset + view.scale * vec2<f32>(point.x, -point.y);
}

fn clip_of(pixel: vec2<f32>) -> vec4<f32> {
    let unit = pixel / view.size * 2.0 - 1.0;
    return vec4<f32>(unit.x, -unit.y, 0.0, 1.0);
}

// A position that is never drawn.
const NOWHERE = vec4<f32>(2.0, 2.0, 2.0, 1.0);

// ---- The map.

// 0 free, 1 unknown, 2 occupied, 3 drawn by the user.
@group(1) @binding(0) var cells: texture_2d<u32>;
// The clearance and the cost to go.
@group(1) @binding(1) var fields: texture_2d<f32>;

@vertex
fn whole(@builtin(vertex_index) i: u32) -> @builtin(position) vec4<f32> {
    return vec4<f32>(f32(i & 1u) * 4.0 - 1.0, f32(i >> 1u) * 4.0 - 1.0, 0.0, 1.0);
}

// The color of the cells of at least some kind at a point, in cells, and the share of the pixel that they cover. Four
// samples make edges smooth.
fn cells_at(point: vec2<f32>, least: u32) -> vec4<f32> {
    const COLORS = array<vec3<f32>, 4>(
        vec3<f32>(),
        vec3<f32>(0.80, 0.81, 0.83),
        vec3<f32>(0.18, 0.20, 0.24),
        vec3<f32>(0.47, 0.34, 0.43),
    );
    let size = vec2<i32>(textureDimensions(cells));
    let quarter = 0.25 / (view.scale * view.resolution);
    var color = vec3<f32>();
    var count = 0.0;
    for (var i = 0u; i < 4u; i++) {
        let off = vec2<f32>(f32(i & 1u) * 2.0 - 1.0, f32(i >> 1u) * 2.0 - 1.0) * quarter;
        let cell = vec2<i32>(floor(point + off));
        let is_outside = any(cell < vec2<i32>()) || any(cell >= size);
        let kind = select(textureLoad(cells, clamp(cell, vec2<i32>(), size - 1), 0).x, 1u, is_outside);
        if kind >= least {
            color += COLORS[kind];
            count += 1.0;
        }
    }
    return vec4<f32>(color / max(count, 1.0), 0.25 * count);
}

// The fields at a point, in cells, interpolated.
fn fields_at(point: vec2<f32>) -> vec2<f32> {
    let last = vec2<i32>(textureDimensions(fields)) - 1;
    let low = floor(point - 0.5);
    let f = point - 0.5 - low;
    let a = clamp(vec2<i32>(low), vec2<i32>(), last);
    let b = clamp(vec2<i32>(low) + 1, vec2<i32>(), last);
    let below = mix(textureLoad(fields, a, 0).xy, textureLoad(fields, vec2<i32>(b.x, a.y), 0).xy, f.x);
    let above = mix(textureLoad(fields, vec2<i32>(a.x, b.y), 0).xy, textureLoad(fields, b, 0).xy, f.x);
    return mix(below, above, f.y);
}

// The point at a pixel, in cells.
fn point_at(position: vec4<f32>) -> vec2<f32> {
    return vec2<f32>(position.x - view.offset.x, view.offset.y - position.y) / (view.scale * view.resolution);
}

@fragment
fn floor_plan(@builtin(position) position: vec4<f32>) -> @location(0) vec4<f32> {
    let point = point_at(position);
    let here = fields_at(point);
    // Where the robot can be, the floor is the greener the nearer the goal, with a line at each meter of way.
    let reachable = smoothstep(view.radius - 0.03, view.radius + 0.01, here.x);
    let near = pow(1.0 - clamp(here.y / view.farthest, 0.0, 1.0), 1.6);
    var ground = mix(vec3<f32>(0.985, 0.985, 0.975), vec3<f32>(0.80, 0.93, 0.86), near);
    let slope = max(length(vec2<f32>(dpdx(here.y), dpdy(here.y))), 1e-5);
    let line = abs(fract(here.y + 0.5) - 0.5) / slope;
    ground = mix(ground, vec3<f32>(0.55, 0.72, 0.64), 0.55 * clamp(1.1 - line, 0.0, 1.0));
    ground = mix(vec3<f32>(0.995, 0.995, 0.99), ground, reachable);
    let unknown = cells_at(point, 1u);
    return vec4<f32>(mix(ground, unknown.rgb, unknown.a), 1.0);
}

// Drawn over the trajectories.
@fragment
fn obstacles(@builtin(position) position: vec4<f32>) -> @location(0) vec4<f32> {
    return cells_at(point_at(position), 2u);
}

// ---- Lines.

struct Line {
    @builtin(position) position: vec4<f32>,
    @location(0) color: vec4<f32>,
    // The signed distance from the middle of the line, in pixels.
    @location(1) across: f32,
    @location(2) @interpolate(flat) half_width: f32,
}

// Corner `i` of a rectangle around a line from a to b, in pixels, wide enough for a faded edge.
fn line(i: u32, a: vec2<f32>, b: vec2<f32>, half_width: f32, color: vec4<f32>) -> Line {
    let along = b - a;
    let unit = along / max(length(along), 1e-6);
    let side = (f32(i & 1u) * 2.0 - 1.0) * (half_width + 1.0);
    let corner = select(a, b, i > 1u) + side * vec2<f32>(-unit.y, unit.x);
    return Line(clip_of(corner), color, side, half_width);
}

@fragment
fn faded(in: Line) -> @location(0) vec4<f32> {
    let coverage = clamp(in.half_width + 0.5 - abs(in.across), 0.0, 1.0);
    return vec4<f32>(in.color.rgb, in.color.a * coverage);
}

// ---- Trajectories, drawn from the buffers that the planner leaves on the device.

struct Style {
    faint: vec4<f32>,
    strong: vec4<f32>,
    // The number of points of a trajectory, and of trajectories.
    points: u32,
    rows: u32,
    half_width: f32,
    // The trajectories whose weight, in units of the mean weight, is between these are drawn.
    least: f32,
    most: f32,
    // The share of the color that is lost by the end of the horizon.
    fades: f32,
}

@group(1) @binding(0) var<uniform> style: Style;

// An instance is the line from a point to the next. The two buffers are one, a point apart.
@vertex
fn trajectory(
    @builtin(vertex_index) i: u32,
    @builtin(instance_index) point: u32,
    @location(0) a: vec2<f32>,
    @location(1) weight: f32,
    @location(2) b: vec2<f32>,
) -> Line {
    let share = weight * f32(style.rows);
    // The last point of a trajectory is not connected with the first of the next.
    let is_last = (point + 1u) % style.points == 0u;
    if is_last || share < style.least || share >= style.most {
        return Line(NOWHERE, vec4<f32>(), 0.0, 0.0);
    }
    // A row of twenty times the mean weight has the full color.
    var color = mix(style.faint, style.strong, clamp(log2(1.0 + share) / log2(21.0), 0.0, 1.0));
    color.a *= 1.0 - style.fades * f32(point % style.points) / f32(style.points);
    return line(i, pixel_of(a), pixel_of(b), style.half_width, color);
}

// ---- Shapes: lines with round ends, rings and discs, in meters.

struct Shape {
    @builtin(position) position: vec4<f32>,
    @location(0) pixel: vec2<f32>,
    @location(1) @interpolate(flat) ends: vec4<f32>,
    @location(2) @interpolate(flat) radii: vec2<f32>,
    @location(3) @interpolate(flat) color: vec4<f32>,
}

@vertex
fn shape(
    @builtin(vertex_index) i: u32,
    @location(0) ends: vec4<f32>,
    // The outer and the inner radius, in meters, then the least of the difference, in pixels.
    @location(1) radii: vec3<f32>,
    @location(2) color: vec4<f32>,
) -> Shape {
    let a = pixel_of(ends.xy);
    let b = pixel_of(ends.zw);
    let outer = max(radii.x * view.scale, radii.z);
    let inner = min(radii.y * view.scale, outer - radii.z);
    let low = min(a, b) - outer - 1.0;
    let high = max(a, b) + outer + 1.0;
    let pixel = vec2<f32>(select(low.x, high.x, (i & 1u) == 1u), select(low.y, high.y, i > 1u));
    return Shape(clip_of(pixel), pixel, vec4<f32>(a, b), vec2<f32>(outer, inner), color);
}

@fragment
fn smooth_shape(in: Shape) -> @location(0) vec4<f32> {
    let d = in.ends.zw - in.ends.xy;
    let q = in.pixel - in.ends.xy;
    let along = clamp(dot(q, d) / max(dot(d, d), 1e-6), 0.0, 1.0);
    let distance = length(q - along * d);
    let coverage = clamp(in.radii.x + 0.5 - distance, 0.0, 1.0) * clamp(distance - in.radii.y + 0.5, 0.0, 1.0);
    return vec4<f32>(in.color.rgb, in.color.a * coverage);
}
