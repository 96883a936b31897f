//! Look-ups of sampled fields by linear, bilinear and trilinear interpolation, at one point or at a register of them.
//! The interpolations are printed as `shaders/generated/interpolation.wgsl`; the place of a point in a field is
//! computed here and in its twins, `shaders/score/field.wgsl` and `field_channels.wgsl`.

use std::ops::Range;

use super::Register;
use super::grid::{Block, Field, Region};
use super::math::{Vector, abs};

/// The size of a field's header in the packed buffer, in numbers.
pub(crate) const HEADER: usize = 20;

/// The field geometry that a look-up reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Header {
    /// Grid coordinates of a world point, in samples: a x + b y + c, along the first two axes.
    pub(super) axes: [[f32; 3]; 2],
    /// Stored samples along each of these axes. A periodic table stores its first sample again at its end.
    pub(super) size: [usize; 2],
    /// The outermost sample along each of these axes.
    pub(super) last: [f32; 2],
    pub(super) outside: f32,
    /// The offset of its samples in the packed buffer.
    pub(super) offset: usize,
    pub(super) dimensions: usize,
    pub(super) channels: usize,
    /// Stored layers: 1, or for a volume one more than it has, because the last is repeated.
    pub(super) layers: usize,
    /// The third coordinate of a point in a volume, in layers, is a z + c: a, c, and the outermost layer.
    pub(super) up: [f32; 3],
    pub(super) ends: EndsOfTable,
}

/// What a table is beyond its ends. All numbers are in samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct EndsOfTable {
    /// The distance from the ends up to which the table applies.
    pub(super) reach: f32,
    /// The distance from the ends up to which it has a slope.
    pub(super) slopes: f32,
    /// The period, and its inverse; 0 without one.
    pub(super) period: f32,
    pub(super) frequency: f32,
}

impl Header {
    /// The placeholder for a missing field.
    const NOWHERE: Self = Self {
        axes: [[0.0; 3]; 2],
        size: [0; 2],
        last: [0.0; 2],
        outside: 0.0,
        offset: 0,
        dimensions: 0,
        channels: 0,
        layers: 0,
        up: [0.0; 3],
        ends: EndsOfTable { reach: 0.0, slopes: 0.0, period: 0.0, frequency: 0.0 },
    };

    /// The pairs of samples from one layer to the next.
    #[inline(always)]
    fn layer_stride(&self) -> usize {
        (self.size[0] + 1) * self.size[1]
    }

    /// The pairs of samples from one plane to the next. A plane is one channel, or of a table two.
    #[inline(always)]
    fn plane_stride(&self) -> usize {
        self.layer_stride() * self.layers
    }

    /// The number of planes.
    #[inline(always)]
    pub(super) fn planes(&self) -> usize {
        if self.dimensions == 1 { self.channels.div_ceil(2) } else { self.channels }
    }

    /// The number of packed samples.
    #[inline(always)]
    pub(super) fn packed_len(&self) -> usize {
        self.plane_len() * self.planes()
    }

    /// The number of packed samples of each plane.
    #[inline(always)]
    pub(super) fn plane_len(&self) -> usize {
        2 * self.plane_stride()
    }

    /// The range of the packed samples of a plane from the first to the last that holds a sample of a block.
    pub(super) fn packed_range(&self, block: Block) -> Range<usize> {
        let Block { region: Region { column, row, width, height }, layer, depth } = block;
        let stride = 2 * (self.size[0] + 1);
        if self.dimensions == 1 {
            // A periodic table repeats its first two samples, any other one its last.
            let is_periodic = self.ends.period > 0.0;
            let is_repeated = if is_periodic { column < 2 } else { column + width == self.size[0] };
            return 2 * column..if is_repeated { stride } else { 2 * (column + width) };
        }
        let is_last = column + width == self.size[0];
        let end = 2 * (column + width + usize::from(is_last));
        let above = layer + depth - 1 + usize::from(layer + depth + 1 == self.layers);
        let layer_len = 2 * self.layer_stride();
        layer * layer_len + row.saturating_sub(1) * stride + 2 * column
            ..above * layer_len + (row + height - 1) * stride + end
    }

    /// The header as numbers, in the order in which `shaders/score/field.wgsl` and `field_channels.wgsl` read them.
    #[cfg(feature = "gpu")]
    pub(super) fn packed(&self) -> [f32; HEADER] {
        let Self { axes: [[a, b, c], [d, e, f]], size: [w, h], outside, offset, layers, up, ends, .. } = *self;
        // The offset is split into two halves, each exact as a float. (Its bit pattern would be subnormal, which a GPU
        // may flush to zero.)
        let [high, low] = [offset >> 16, offset & 0xffff].map(|half| half as f32);
        let EndsOfTable { reach, slopes, period, frequency } = ends;
        let (w, h, layers) = (w as f32, h as f32, layers as f32);
        let [g, i, last] = up;
        [a, b, c, d, e, f, w, h, outside, high, low, layers, g, i, last, 0.0, reach, slopes, period, frequency]
    }
}

/// The location of points in a field: one point, or a register of them.
pub(super) struct Place<V: Register, const D: usize> {
    /// Whether the point is in the field, which ends half a cell beyond the outermost samples.
    inside: V::Truth,
    /// Whether the point is between samples along each axis, and not in the half cell at the border.
    between: [V::Truth; D],
    /// The index of the sample before it along each axis.
    pub(super) cell: [V::Bits; D],
    /// The distance from that sample, in samples.
    part: [V; D],
}

// These are functions because closures may not be inlined, which would lose the vector instructions.

/// a x + b y + c.
#[inline(always)]
fn affine<V: Register>([a, b, c]: [f32; 3], x: V, y: V) -> V {
    V::from(a).fma(x, V::from(b).fma(y, V::from(c)))
}

/// Clamps a grid coordinate to the samples; NaN becomes 0.
#[inline(always)]
fn held<V: Register>(g: V, last: f32) -> V {
    g.relu().simd_min(V::from(last))
}

#[inline(always)]
pub(super) fn place<V: Register, const D: usize>(header: &Header, point: [V; D]) -> Place<V, D> {
    const { assert!(D >= 1 && D <= 3, "a field has one to three dimensions") };
    let x = point[0];
    if D == 1 {
        let [[a, _, c], _] = header.axes;
        let ends = header.ends;
        let g = V::from(a).fma(x, V::from(c));
        let periods = (g * ends.frequency).simd_floor();
        let g = periods.fma(V::from(-ends.period), g);
        let held = held(g, header.last[0]);
        let beyond = abs(g - held);
        // A NaN is outside.
        let (inside, between) = (beyond.simd_le(V::from(ends.reach)), beyond.simd_le(V::from(ends.slopes)));
        return Place { inside, between: [between; D], cell: [held.index(); D], part: [held - held.simd_floor(); D] };
    }
    let y = point[1];
    let (gx, gy) = (affine(header.axes[0], x, y), affine(header.axes[1], x, y));
    let (cx, cy) = (held(gx, header.last[0]), held(gy, header.last[1]));
    let half = V::from(0.5);
    // A NaN is outside.
    let mut inside = abs(gx - cx).simd_le(half) & abs(gy - cy).simd_le(half);
    let mut between = [gx.simd_eq(cx); D];
    let mut cell = [cx.index(); D];
    let mut part = [cx - cx.simd_floor(); D];
    (between[1], cell[1], part[1]) = (gy.simd_eq(cy), cy.index(), cy - cy.simd_floor());
    if D == 3 {
        let [a, c, last] = header.up;
        let gz = V::from(a).fma(point[2], V::from(c));
        let cz = held(gz, last);
        inside = inside & abs(gz - cz).simd_le(half);
        (between[2], cell[2], part[2]) = (gz.simd_eq(cz), cz.index(), cz - cz.simd_floor());
    }
    Place { inside, between, cell, part }
}

/// The samples around a point: those before and after it along x are 0 and 2, or 1 and 3 in the next row; 4 to 7 are
/// those in the next layer.
pub(super) type Corners<V> = [V; 8];

/// Interpolates between two numbers.
#[inline(always)]
pub(crate) fn linear<V: Vector>(part: V, before: V, after: V) -> V {
    part.fma(after - before, before)
}

/// Interpolates between the samples (0, 0), (0, 1), (1, 0), (1, 1) of a layer.
#[inline(always)]
pub(crate) fn bilinear<V: Vector>([fx, fy]: [V; 2], [v00, v01, v10, v11]: [V; 4]) -> V {
    linear(fy, linear(fx, v00, v10), linear(fx, v01, v11))
}

/// The derivatives of [`bilinear`] by the two grid coordinates.
#[inline(always)]
pub(crate) fn bilinear_slopes<V: Vector>([fx, fy]: [V; 2], [v00, v01, v10, v11]: [V; 4]) -> [V; 2] {
    [linear(fy, v10 - v00, v11 - v01), linear(fx, v01 - v00, v11 - v10)]
}

/// Interpolates between the samples around a point.
#[inline(always)]
pub(super) fn value<V: Register, const D: usize>(header: &Header, place: &Place<V, D>, v: Corners<V>) -> V {
    let (part, [v0, v1, v2, v3, v4, v5, v6, v7]) = (place.part, v);
    let value = match D {
        1 => linear(part[0], v0, v2),
        2 => bilinear([part[0], part[1]], [v0, v1, v2, v3]),
        _ => {
            let along = [part[0], part[1]];
            linear(part[2], bilinear(along, [v0, v1, v2, v3]), bilinear(along, [v4, v5, v6, v7]))
        }
    };
    V::simd_select(place.inside, value, V::from(header.outside))
}

/// The derivatives of [`value`] by the coordinates of the point.
#[inline(always)]
pub(super) fn slopes<V: Register, const D: usize>(header: &Header, place: &Place<V, D>, v: Corners<V>) -> [V; D] {
    let (part, zero) = (place.part, V::from(0.0));
    let [[a, b, _], [d, e, _]] = header.axes;
    let [v0, v1, v2, v3, v4, v5, v6, v7] = v;
    if D == 1 {
        let slope = V::simd_select(place.inside & place.between[0], v2 - v0, zero);
        return [slope * a; D];
    }
    let (along, below, above) = ([part[0], part[1]], [v0, v1, v2, v3], [v4, v5, v6, v7]);
    let [mut gx, mut gy] = bilinear_slopes(along, below);
    let mut gz = zero;
    if D == 3 {
        let [above_x, above_y] = bilinear_slopes(along, above);
        (gx, gy) = (linear(part[2], gx, above_x), linear(part[2], gy, above_y));
        let rise = bilinear(along, above) - bilinear(along, below);
        gz = V::simd_select(place.inside & place.between[2], rise, zero);
    }
    let gx = V::simd_select(place.inside & place.between[0], gx, zero);
    let gy = V::simd_select(place.inside & place.between[1], gy, zero);
    let mut slopes = [gx * a + gy * d; D];
    slopes[1] = gx * b + gy * e;
    if D == 3 {
        slopes[2] = gz * header.up[0];
    }
    slopes
}

/// The number of headers stored inline in a [`LookUps`].
const NEAR: usize = 4;

/// A view of a [`FieldSet`](super::FieldSet) for look-ups. The first headers are held by value and not behind a
/// pointer, so that LLVM can hoist their arithmetic out of the loop over time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LookUps<'a> {
    local: [(Header, &'a [f32]); NEAR],
    fields: &'a [Field],
}

impl<'a> LookUps<'a> {
    /// The view without fields, for models that read none.
    pub(crate) const NONE: Self = Self { local: [(Header::NOWHERE, &[]); NEAR], fields: &[] };

    /// The view of some fields.
    #[inline(always)]
    pub(super) fn of(fields: &'a [Field]) -> Self {
        let mut local = Self::NONE.local;
        for (local, field) in local.iter_mut().zip(fields) {
            *local = (field.header, field.samples());
        }
        Self { local, fields }
    }

    /// The number of fields.
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The dimensions and channels of a field, if there is one of that index.
    pub(crate) fn shape(&self, field: usize) -> Option<[usize; 2]> {
        self.fields.get(field).map(Field::shape)
    }

    /// The header and the samples of a field with `D` dimensions and at least as many channels.
    #[inline(always)]
    fn find<const D: usize>(&self, field: usize, channels: usize) -> (Header, &'a [f32]) {
        let (header, samples) = if field < NEAR {
            self.local[field]
        } else {
            let field = &self.fields[field];
            (field.header, field.samples())
        };
        // Every field has one channel, and a missing one has no dimensions.
        assert!(
            header.dimensions == D && (channels <= 1 || channels <= header.channels),
            "{channels} channels of field {field} at a point of {D} coordinates, but it has {:?}",
            self.shape(field),
        );
        (header, samples)
    }

    /// The values of channels `channel` to `channel` + C of a field.
    #[inline(always)]
    pub(crate) fn values<V: Register, const D: usize, const C: usize>(
        &self,
        field: usize,
        channel: usize,
        point: [V; D],
    ) -> [V; C] {
        let (header, samples) = self.find::<D>(field, channel.saturating_add(C));
        let place = place(&header, point);
        let first = first_pair(&header, &place);
        let (mut values, mut stored) = ([V::from(0.0); C], [V::from(0.0); 8]);
        for c in 0..C {
            if is_loaded::<D>(channel, c) {
                stored = load::<V, D>(&header, samples, first, channel + c);
            }
            values[c] = value(&header, &place, of_channel::<V, D>(stored, channel + c));
        }
        values
    }

    /// The values of channels `channel` to `channel` + C of a field, with their derivatives by the coordinates.
    #[inline(always)]
    pub(crate) fn values_and_slopes<V: Register, const D: usize, const C: usize>(
        &self,
        field: usize,
        channel: usize,
        point: [V; D],
    ) -> ([V; C], [[V; D]; C]) {
        let (header, samples) = self.find::<D>(field, channel.saturating_add(C));
        let place = place(&header, point);
        let first = first_pair(&header, &place);
        let (mut values, mut stored) = ([V::from(0.0); C], [V::from(0.0); 8]);
        let mut by_point = [[V::from(0.0); D]; C];
        for c in 0..C {
            if is_loaded::<D>(channel, c) {
                stored = load::<V, D>(&header, samples, first, channel + c);
            }
            let corners = of_channel::<V, D>(stored, channel + c);
            values[c] = value(&header, &place, corners);
            by_point[c] = slopes(&header, &place, corners);
        }
        (values, by_point)
    }
}

/// The pair of samples before each point, counted from the begin of a plane.
#[inline(always)]
fn first_pair<V: Register, const D: usize>(header: &Header, place: &Place<V, D>) -> V::Bits {
    let i = place.cell[0];
    if D == 1 {
        return i;
    }
    let mut row = place.cell[1];
    if D == 3 {
        row = V::bits_add(V::bits_mul(place.cell[2], V::splat_bits(header.size[1] as u32)), row);
    }
    V::bits_add(V::bits_mul(row, V::splat_bits(header.size[0] as u32 + 1)), i)
}

/// Whether a look-up of several channels, from `channel` on, loads samples for its `c`-th. A plane of a table holds two
/// channels.
#[inline(always)]
fn is_loaded<const D: usize>(channel: usize, c: usize) -> bool {
    D != 1 || c == 0 || (channel + c).is_multiple_of(2)
}

/// Loads the samples around each point from the plane that holds a channel.
#[inline(always)]
fn load<V: Register, const D: usize>(header: &Header, samples: &[f32], first: V::Bits, channel: usize) -> Corners<V> {
    debug_assert_eq!(samples.len(), header.packed_len(), "they are the header's own");
    let plane = if D == 1 { channel / 2 } else { channel };
    let first = match plane {
        0 => first,
        _ => V::bits_add(first, V::splat_bits((plane * header.plane_stride()) as u32)),
    };
    let mut corners = [V::from(0.0); 8];
    // SAFETY: `held` clamps coordinates to [0, last], even for NaN; so the first pair belongs to a sample of the plane,
    // which the field has (see `LookUps::find`), and every such pair is followed by another. The last layer of a volume
    // is followed by its copy.
    corners[..4].copy_from_slice(&unsafe { V::gather_2x2(samples, first) });
    if D == 3 {
        let above = V::bits_add(first, V::splat_bits(header.layer_stride() as u32));
        // SAFETY: as above.
        corners[4..].copy_from_slice(&unsafe { V::gather_2x2(samples, above) });
    }
    corners
}

/// The samples of a channel among those that its plane has around a point.
#[inline(always)]
fn of_channel<V: Register, const D: usize>(stored: Corners<V>, channel: usize) -> Corners<V> {
    let mut corners = stored;
    if D == 1 && !channel.is_multiple_of(2) {
        (corners[0], corners[2]) = (stored[1], stored[3]);
    }
    corners
}
