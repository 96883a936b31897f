//! Draws a [`World`] on its planner's device: the map, the trajectories from the planner's own buffers, the robot.

use bytemuck::{Pod, Zeroable};
use gibbs::runtime::DeviceTrajectories;
use gibbs::wgpu;

use crate::map::Cell;
use crate::world::{RADIUS, World};

/// Colors: red, green, blue, opacity.
const PATH: [f32; 4] = [0.93, 0.53, 0.12, 1.0];
const ROBOT: [f32; 4] = [0.86, 0.22, 0.16, 1.0];
const HEADING: [f32; 4] = [1.0, 1.0, 1.0, 1.0];
const GOAL: [f32; 4] = [0.05, 0.55, 0.35, 1.0];
const PLAN: [f32; 4] = [0.07, 0.09, 0.30, 1.0];
/// Trajectories of little weight, and of much.
const FAINT: [f32; 4] = [0.40, 0.54, 0.87, 0.22];
const STRONG: [f32; 4] = [0.10, 0.22, 0.74, 0.80];

/// Where the map is in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// The pixel of the map's origin.
    pub offset: [f32; 2],
    /// Pixels per meter.
    pub scale: f32,
}

impl View {
    /// Fits a map of some size (in meters) into a rectangle of pixels, with a margin.
    pub fn fit(size: [f32; 2], low: [f32; 2], high: [f32; 2], margin: f32) -> Self {
        let room = [0, 1].map(|i| (high[i] - low[i] - 2.0 * margin).max(1.0));
        let scale = (room[0] / size[0]).min(room[1] / size[1]);
        let center = [0, 1].map(|i| 0.5 * (low[i] + high[i]));
        Self { offset: [center[0] - 0.5 * scale * size[0], center[1] + 0.5 * scale * size[1]], scale }
    }

    /// The point of the map at a pixel.
    pub fn to_map(self, [x, y]: [f32; 2]) -> [f64; 2] {
        [(x - self.offset[0]) / self.scale, (self.offset[1] - y) / self.scale].map(f64::from)
    }

    /// The pixel of a point of the map.
    pub fn to_pixel(self, [x, y]: [f64; 2]) -> [f32; 2] {
        [self.offset[0] + self.scale * x as f32, self.offset[1] - self.scale * y as f32]
    }
}

/// Twin of `View` in viewer.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ViewUniform {
    offset: [f32; 2],
    size: [f32; 2],
    scale: f32,
    resolution: f32,
    radius: f32,
    farthest: f32,
}

/// Twin of `Style` in viewer.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Style {
    faint: [f32; 4],
    strong: [f32; 4],
    points: u32,
    rows: u32,
    half_width: f32,
    least: f32,
    most: f32,
    fades: f32,
    padding: [u32; 2],
}

/// A line with round ends, a ring or a disc: see `shape` in viewer.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Shape {
    ends: [f32; 4],
    radii: [f32; 3],
    color: [f32; 4],
}

impl Shape {
    /// A line of some width (in meters), at least so many pixels.
    fn line(a: [f32; 2], b: [f32; 2], width: f32, pixels: f32, color: [f32; 4]) -> Self {
        Self { ends: [a[0], a[1], b[0], b[1]], radii: [0.5 * width, -1.0, 0.5 * pixels], color }
    }

    fn disc([x, y]: [f32; 2], radius: f32, color: [f32; 4]) -> Self {
        Self { ends: [x, y, x, y], radii: [radius, -1.0, 1.0], color }
    }

    fn ring([x, y]: [f32; 2], radius: f32, width: f32, color: [f32; 4]) -> Self {
        Self { ends: [x, y, x, y], radii: [radius, radius - width, 1.5], color }
    }
}

/// The three ways in which trajectories are drawn, in this order: those of less than the mean weight, the others, and
/// the plan.
const LAYERS: usize = 3;

pub struct Scene {
    view: wgpu::Buffer,
    view_group: wgpu::BindGroup,
    textures: [wgpu::Texture; 2],
    texture_group: wgpu::BindGroup,
    /// The version of the world that the textures show.
    version: Option<u64>,
    /// The largest cost to go on the map.
    farthest: f32,
    styles: [wgpu::Buffer; LAYERS],
    style_groups: [wgpu::BindGroup; LAYERS],
    shapes: wgpu::Buffer,
    /// The numbers of shapes below and above the trajectories.
    shape_counts: [u32; 2],
    floor: wgpu::RenderPipeline,
    obstacles: wgpu::RenderPipeline,
    trajectories: wgpu::RenderPipeline,
    shape: wgpu::RenderPipeline,
    /// The trajectories that are drawn.
    drawn: Option<DeviceTrajectories>,
}

impl Scene {
    /// `format` is that of the pictures, which must not be an sRGB one: colors are given as they are stored.
    pub fn new(device: &wgpu::Device, format: wgpu::TextureFormat, world: &World) -> Self {
        let module = device.create_shader_module(wgpu::include_wgsl!("viewer.wgsl"));
        let uniform = |size: usize| {
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            let size = size as u64;
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let layout = |entries: &[wgpu::BindingType]| {
            let entry = |(binding, ty): (usize, &wgpu::BindingType)| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::VERTEX_FRAGMENT,
                ty: *ty,
                count: None,
            };
            let entries: Vec<_> = entries.iter().enumerate().map(entry).collect();
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
        };
        let group = |layout: &wgpu::BindGroupLayout, resources: Vec<wgpu::BindingResource<'_>>| {
            let entry = |(binding, resource)| wgpu::BindGroupEntry { binding: binding as u32, resource };
            let entries: Vec<_> = resources.into_iter().enumerate().map(entry).collect();
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
        };
        let buffer_type = wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Uniform,
            has_dynamic_offset: false,
            min_binding_size: None,
        };
        let texture_type = |sample_type| wgpu::BindingType::Texture {
            sample_type,
            view_dimension: wgpu::TextureViewDimension::D2,
            multisampled: false,
        };
        let uniform_layout = layout(&[buffer_type]);
        let texture_layout = layout(&[
            texture_type(wgpu::TextureSampleType::Uint),
            texture_type(wgpu::TextureSampleType::Float { filterable: false }),
        ]);

        let view = uniform(size_of::<ViewUniform>());
        let view_group = group(&uniform_layout, vec![view.as_entire_binding()]);
        let styles = [(); LAYERS].map(|()| uniform(size_of::<Style>()));
        let style_groups = styles.each_ref().map(|style| group(&uniform_layout, vec![style.as_entire_binding()]));
        let textures = [wgpu::TextureFormat::R8Uint, wgpu::TextureFormat::Rg32Float].map(|format| {
            device.create_texture(&wgpu::TextureDescriptor {
                label: None,
                size: extent(world),
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format,
                usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
                view_formats: &[],
            })
        });
        let views = textures.each_ref().map(|texture| texture.create_view(&Default::default()));
        let texture_group = group(&texture_layout, views.iter().map(wgpu::BindingResource::TextureView).collect());

        let pipeline = |vertex: &str, fragment: &str, second, topology, buffers: &[wgpu::VertexBufferLayout<'_>]| {
            let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&uniform_layout), second],
                immediate_size: 0,
            });
            let buffers: Vec<_> = buffers.iter().cloned().map(Some).collect();
            device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
                label: Some(vertex),
                layout: Some(&layout),
                vertex: wgpu::VertexState {
                    module: &module,
                    entry_point: Some(vertex),
                    compilation_options: Default::default(),
                    buffers: &buffers,
                },
                primitive: wgpu::PrimitiveState { topology, ..Default::default() },
                depth_stencil: None,
                multisample: Default::default(),
                fragment: Some(wgpu::FragmentState {
                    module: &module,
                    entry_point: Some(fragment),
                    compilation_options: Default::default(),
                    targets: &[Some(wgpu::ColorTargetState {
                        format,
                        blend: Some(wgpu::BlendState::ALPHA_BLENDING),
                        write_mask: wgpu::ColorWrites::ALL,
                    })],
                }),
                multiview_mask: None,
                cache: None,
            })
        };
        let instances = |array_stride, attributes| wgpu::VertexBufferLayout {
            array_stride,
            step_mode: wgpu::VertexStepMode::Instance,
            attributes,
        };
        let strip = wgpu::PrimitiveTopology::TriangleStrip;
        // A point is the state (x, y, heading) and the weight of its row.
        let attribute = |format, offset, shader_location| wgpu::VertexAttribute { format, offset, shader_location };
        let from = [attribute(wgpu::VertexFormat::Float32x2, 0, 0), attribute(wgpu::VertexFormat::Float32, 12, 1)];
        let to = [attribute(wgpu::VertexFormat::Float32x2, 0, 2)];
        let points = [instances(16, &from), instances(16, &to)];
        let shape_attributes = wgpu::vertex_attr_array![0 => Float32x4, 1 => Float32x3, 2 => Float32x4];
        let shape_layout = [instances(size_of::<Shape>() as u64, &shape_attributes)];
        let triangles = wgpu::PrimitiveTopology::TriangleList;
        Self {
            floor: pipeline("whole", "floor_plan", Some(&texture_layout), triangles, &[]),
            obstacles: pipeline("whole", "obstacles", Some(&texture_layout), triangles, &[]),
            trajectories: pipeline("trajectory", "faded", Some(&uniform_layout), strip, &points),
            shape: pipeline("shape", "smooth_shape", None, strip, &shape_layout),
            shapes: shape_buffer(device, 1 << 10),
            shape_counts: [0; 2],
            version: None,
            farthest: 1.0,
            drawn: None,
            view,
            view_group,
            textures,
            texture_group,
            styles,
            style_groups,
        }
    }

    /// Uploads what has changed since the last picture. `size` is that of the picture (in pixels), `pixel` the width
    /// of a thin line.
    pub fn prepare(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        world: &World,
        view: View,
        size: [u32; 2],
        pixel: f32,
    ) {
        if self.version != Some(world.version) {
            self.upload_map(queue, world);
            self.version = Some(world.version);
        }
        let View { offset, scale } = view;
        let uniform = ViewUniform {
            offset,
            size: size.map(|v| v as f32),
            scale,
            resolution: world.map.resolution as f32,
            radius: RADIUS as f32,
            farthest: self.farthest,
        };
        queue.write_buffer(&self.view, 0, bytemuck::bytes_of(&uniform));

        self.drawn = world.drawn.clone();
        if let Some(drawn) = &self.drawn {
            let rows = Style {
                faint: FAINT,
                strong: STRONG,
                points: drawn.points as u32,
                rows: drawn.rows as u32,
                half_width: 0.5 * pixel,
                least: -1.0,
                most: 1.0,
                fades: 0.5,
                padding: [0; 2],
            };
            let heavy = Style { half_width: 0.6 * pixel, least: 1.0, most: f32::MAX, fades: 0.2, ..rows };
            let plan = Style { faint: PLAN, strong: PLAN, rows: 1, half_width: 1.3 * pixel, fades: 0.0, ..heavy };
            for (buffer, style) in self.styles.iter().zip([rows, heavy, plan]) {
                queue.write_buffer(buffer, 0, bytemuck::bytes_of(&style));
            }
        }

        let [below, above] = shapes(world, pixel);
        self.shape_counts = [below.len(), above.len()].map(|count| count as u32);
        let all = [below, above].concat();
        let bytes: &[u8] = bytemuck::cast_slice(&all);
        if bytes.len() as u64 > self.shapes.size() {
            self.shapes = shape_buffer(device, all.len().next_power_of_two());
        }
        queue.write_buffer(&self.shapes, 0, bytes);
    }

    fn upload_map(&mut self, queue: &wgpu::Queue, world: &World) {
        let size = extent(world);
        let kind = |(at, cell): (usize, &Cell)| match cell {
            Cell::Free => 0,
            Cell::Unknown => 1,
            Cell::Occupied if world.is_drawn(at) => 3,
            Cell::Occupied => 2,
        };
        let cells: Vec<u8> = world.map.cells.iter().enumerate().map(kind).collect();
        let [clearance, to_go] = world.fields.each_ref().map(|grid| grid.values());
        let fields: Vec<[f32; 2]> = clearance.iter().zip(to_go).map(|(a, b)| [*a, *b]).collect();
        let reachable = fields.iter().filter(|[clearance, _]| *clearance >= RADIUS as f32);
        self.farthest = reachable.map(|[_, to_go]| *to_go).fold(1.0, f32::max);
        for (texture, bytes, width) in
            [(&self.textures[0], &cells[..], 1), (&self.textures[1], bytemuck::cast_slice(&fields), 8)]
        {
            let layout = wgpu::TexelCopyBufferLayout {
                offset: 0,
                bytes_per_row: Some(width * size.width),
                rows_per_image: None,
            };
            queue.write_texture(texture.as_image_copy(), bytes, layout, size);
        }
    }

    /// Draws into a pass. What is drawn reads the trajectories where the planner has left them.
    pub fn draw(&self, pass: &mut wgpu::RenderPass<'_>) {
        pass.set_bind_group(0, &self.view_group, &[]);
        pass.set_pipeline(&self.floor);
        pass.set_bind_group(1, &self.texture_group, &[]);
        pass.draw(0..3, 0..1);

        let [below, above] = self.shape_counts;
        pass.set_pipeline(&self.shape);
        pass.set_vertex_buffer(0, self.shapes.slice(..));
        pass.draw(0..4, 0..below);
        if let Some(drawn) = &self.drawn {
            pass.set_pipeline(&self.trajectories);
            let rows = drawn.rows * drawn.points - 1;
            let layers = [(&drawn.trajectories, rows), (&drawn.trajectories, rows), (&drawn.plan, drawn.points - 1)];
            for ((buffer, lines), group) in layers.into_iter().zip(&self.style_groups) {
                pass.set_bind_group(1, group, &[]);
                pass.set_vertex_buffer(0, buffer.slice(..));
                pass.set_vertex_buffer(1, buffer.slice(drawn.stride..));
                pass.draw(0..4, 0..lines as u32);
            }
        }
        pass.set_pipeline(&self.obstacles);
        pass.set_bind_group(1, &self.texture_group, &[]);
        pass.draw(0..3, 0..1);
        pass.set_pipeline(&self.shape);
        pass.set_vertex_buffer(0, self.shapes.slice(..));
        pass.draw(0..4, below..below + above);
    }
}

fn extent(world: &World) -> wgpu::Extent3d {
    let (width, height) = (world.map.width as u32, world.map.height as u32);
    wgpu::Extent3d { width, height, depth_or_array_layers: 1 }
}

fn shape_buffer(device: &wgpu::Device, count: usize) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: (count * size_of::<Shape>()) as u64,
        usage: wgpu::BufferUsages::VERTEX | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

/// The shapes below and above the trajectories.
fn shapes(world: &World, pixel: f32) -> [Vec<Shape>; 2] {
    let radius = RADIUS as f32;
    let start = [world.start[0], world.start[1]];
    let mut below = vec![Shape::ring(start, radius, 0.025, [ROBOT[0], ROBOT[1], ROBOT[2], 0.45])];
    let goal = world.goal.map(|v| v as f32);
    below.push(Shape::disc(goal, 0.25, [GOAL[0], GOAL[1], GOAL[2], 0.15]));
    below.push(Shape::ring(goal, 0.25, 0.03, GOAL));
    below.push(Shape::disc(goal, 0.04, GOAL));
    below.extend(world.path.windows(2).map(|ends| Shape::line(ends[0], ends[1], 0.0, 3.0 * pixel, PATH)));

    let [x, y, heading] = world.pose;
    let (s, c) = heading.sin_cos();
    let ahead = |distance: f32| [x + c * distance, y + s * distance];
    let above = vec![
        Shape::disc([x, y], radius + 0.02, HEADING),
        Shape::disc([x, y], radius, ROBOT),
        Shape::line(ahead(0.02), ahead(radius - 0.06), 0.05, 2.0 * pixel, HEADING),
    ];
    [below, above]
}
