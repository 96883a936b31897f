//! Sampled fields: a quantity given on a regular 2-D grid, read by models on every backend.

use super::math::abs;
use super::{Register, float_env};
use crate::error::InvalidValue;

/// Maximum number of samples along an axis: up to this size, f32 represents positions between samples.
const MOST: usize = 1 << 23;

/// Maximum number of samples of a grid: up to this size, 32-bit indices suffice.
const MAX_IN_ALL: usize = 1 << 30;

/// The size of a field's header in the packed buffer, in numbers.
pub(crate) const HEADER: usize = 12;

/// A scalar field on a regular grid, with bilinear interpolation: an obstacle distance, a cost-to-go, a height map.
///
/// Sample (i, j) is at the *center* of cell (i, j), which is at `origin + R(yaw) · ((i + ½) · resolution, (j + ½) ·
/// resolution)` in the world; `values` holds the samples row by row, the row with the smallest y first. Within half a
/// cell of the border the outermost sample applies; beyond the grid the field is [`outside`](Self::outside) everywhere.
/// A point with a NaN coordinate is outside.
///
/// **Keep a grid near the origin**, whatever the coordinates of its map are: subtract a local origin in `f64` from the
/// grid's origin and from every position ([`Model`](crate::model::Model#positions) has an example). The spacing of
/// `f32` is 7.8 mm at 88 km, 31 mm at 388 km and 0.25 m at 3,900 km. A lookup rounds once more, in cells: at 388 km
/// with 3 cm cells, to whole cells.
///
/// Fields are given to a driver, which keeps them on its device (`set_field`), and read by index through
/// [`StepContext::sample`](crate::lang::StepContext::sample). Replacing a field does not recompile the kernels.
///
/// # Example
///
/// ```
/// use gibbs::Grid;
///
/// // f(x, y) = x on [0, 4] × [0, 3] m, with cells of 1 m.
/// let grid = Grid::from_fn(4, 3, 1.0, [0.0, 0.0], |x, _y| x).unwrap();
/// assert_eq!(grid.sample(2.25, 1.0), 2.25);
/// assert_eq!(grid.sample(9.0, 1.0), grid.outside());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    width: usize,
    height: usize,
    resolution: f32,
    origin: [f32; 2],
    yaw: f32,
    outside: f32,
    values: Vec<f32>,
}

impl Grid {
    /// Creates a grid of `width` × `height` samples, `resolution` meters apart, whose lower-left *corner* is at
    /// `origin`.
    ///
    /// Its yaw is 0 and its value outside is 0; see [`with_yaw`](Self::with_yaw) and
    /// [`with_outside`](Self::with_outside).
    ///
    /// # Errors
    ///
    /// If a size is zero or above 2²³, there are more than 2³⁰ samples, `resolution` is not above 0, `values` does not
    /// have one number per sample, or a number is not finite.
    pub fn new(
        width: usize,
        height: usize,
        resolution: f32,
        origin: [f32; 2],
        values: Vec<f32>,
    ) -> Result<Self, InvalidValue> {
        Self::check_size(width, height)?;
        if !(resolution.is_finite() && resolution > 0.0) {
            return Err(InvalidValue::new("resolution", resolution, "finite and above 0 (meters a cell)"));
        }
        if !origin.iter().all(|v| v.is_finite()) {
            return Err(InvalidValue::new("origin", format_args!("{origin:?}"), "finite"));
        }
        if values.len() != width * height {
            return Err(InvalidValue::new(
                "values",
                format_args!("{} numbers", values.len()),
                format_args!("width × height = {} numbers", width * height),
            ));
        }
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(InvalidValue::new("values", format_args!("{} at index {i}", values[i]), "finite everywhere"));
        }
        Ok(Self { width, height, resolution, origin, yaw: 0.0, outside: 0.0, values })
    }

    /// Creates a grid by evaluating a function at the world position of each sample; see [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn from_fn(
        width: usize,
        height: usize,
        resolution: f32,
        origin: [f32; 2],
        mut f: impl FnMut(f32, f32) -> f32,
    ) -> Result<Self, InvalidValue> {
        // Sizes are checked before the function is called for every sample.
        Self::check_size(width, height)?;
        let at = |i: usize, from: f32| from + (i as f32 + 0.5) * resolution;
        let cells = (0..height).flat_map(|j| (0..width).map(move |i| (i, j)));
        let values = cells.map(|(i, j)| f(at(i, origin[0]), at(j, origin[1]))).collect();
        Self::new(width, height, resolution, origin, values)
    }

    fn check_size(width: usize, height: usize) -> Result<(), InvalidValue> {
        for (field, size) in [("width", width), ("height", height)] {
            if size == 0 || size > MOST {
                return Err(InvalidValue::new(field, size, format_args!("between 1 and {MOST}")));
            }
        }
        if width * height > MAX_IN_ALL {
            let size = format_args!("{width} × {height}");
            return Err(InvalidValue::new("width × height", size, format_args!("at most {MAX_IN_ALL}")));
        }
        Ok(())
    }

    /// Returns this grid rotated by `yaw` (in radians, counter-clockwise) about its origin.
    ///
    /// # Errors
    ///
    /// If `yaw` is not finite.
    pub fn with_yaw(mut self, yaw: f32) -> Result<Self, InvalidValue> {
        if !yaw.is_finite() {
            return Err(InvalidValue::new("yaw", yaw, "finite (radians)"));
        }
        self.yaw = yaw;
        Ok(self)
    }

    /// Returns this grid with another value beyond its border.
    ///
    /// # Errors
    ///
    /// If `outside` is not finite.
    pub fn with_outside(mut self, outside: f32) -> Result<Self, InvalidValue> {
        if !outside.is_finite() {
            return Err(InvalidValue::new("outside", outside, "finite"));
        }
        self.outside = outside;
        Ok(self)
    }

    /// The number of samples along x.
    pub fn width(&self) -> usize {
        self.width
    }
    /// The number of samples along y.
    pub fn height(&self) -> usize {
        self.height
    }
    /// The distance between samples (in meters).
    pub fn resolution(&self) -> f32 {
        self.resolution
    }
    /// The lower-left corner (in meters).
    pub fn origin(&self) -> [f32; 2] {
        self.origin
    }
    /// The rotation about the origin (in radians, counter-clockwise).
    pub fn yaw(&self) -> f32 {
        self.yaw
    }
    /// The value beyond the border.
    pub fn outside(&self) -> f32 {
        self.outside
    }
    /// The samples, row by row from the smallest y.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The value at a world position (in meters), exactly as a model samples it.
    pub fn sample(&self, x: f32, y: f32) -> f32 {
        let header = self.header(0);
        let place = place(&header, x, y);
        bilinear(&header, &place, self.corners(&place))
    }

    /// The derivatives of [`sample`](Self::sample) by x and y; 0 outside and where the border sample is held.
    pub fn gradient(&self, x: f32, y: f32) -> [f32; 2] {
        let header = self.header(0);
        let place = place(&header, x, y);
        slope(&header, &place, self.corners(&place)).into()
    }

    /// The samples around a point; at the upper and right border they are repeated.
    fn corners(&self, place: &Place<f32>) -> [f32; 4] {
        let [i, j] = place.cell.map(|cell| cell as usize);
        let (right, up) = ((i + 1).min(self.width - 1), (j + 1).min(self.height - 1));
        [(i, j), (i, up), (right, j), (right, up)].map(|(i, j)| self.values[j * self.width + i])
    }

    /// The size of its samples in a [`FieldSet`], in numbers.
    fn packed_len(&self) -> usize {
        2 * (self.width + 1) * self.height
    }

    /// The header for lookups, with the samples stored from `offset` on.
    fn header(&self, offset: usize) -> Header {
        let (s, c) = (self.yaw.sin() / self.resolution, self.yaw.cos() / self.resolution);
        let [ox, oy] = self.origin;
        let size = [self.width, self.height];
        Header {
            axes: [[c, s, -(c * ox + s * oy) - 0.5], [-s, c, (s * ox - c * oy) - 0.5]],
            size,
            last: size.map(|n| (n - 1) as f32),
            outside: self.outside,
            offset,
        }
    }
}

/// The grid geometry that a lookup reads.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Header {
    /// Grid coordinates of a world point, in samples: a x + b y + c, along each axis.
    axes: [[f32; 3]; 2],
    /// Samples along each axis.
    size: [usize; 2],
    /// The outermost sample along each axis.
    last: [f32; 2],
    outside: f32,
    /// The offset of its samples in the packed buffer.
    offset: usize,
}

impl Header {
    /// The placeholder for a missing field.
    const NOWHERE: Self = Self { axes: [[0.0; 3]; 2], size: [0; 2], last: [0.0; 2], outside: 0.0, offset: 0 };

    /// The slice of the packed buffer that holds its samples.
    #[inline(always)]
    fn samples<'a>(&self, packed: &'a [f32]) -> &'a [f32] {
        let [width, height] = self.size;
        &packed[self.offset..][..2 * (width + 1) * height]
    }

    /// The header as numbers, in the order in which `shaders/score/field.wgsl` reads them.
    fn packed(&self) -> [f32; HEADER] {
        let Self { axes: [[a, b, c], [d, e, f]], size: [w, h], outside, offset, .. } = *self;
        // The offset is split into two halves, each exact as a float. (Its bit pattern would be subnormal, which a GPU
        // may flush to zero.)
        let [high, low] = [offset >> 16, offset & 0xffff];
        [a, b, c, d, e, f, w as f32, h as f32, outside, high as f32, low as f32, 0.0]
    }
}

/// The location of points on a grid: one point, or a register of them.
struct Place<V: Register> {
    /// Whether the point is on the grid, which ends half a cell beyond the outermost samples.
    inside: V::Truth,
    /// Whether the point is between samples along each axis, and not in the half cell at the border.
    between: [V::Truth; 2],
    /// The indices of the sample to the lower left.
    cell: [V::Bits; 2],
    /// The distance from that sample, in samples.
    part: [V; 2],
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
fn place<V: Register>(header: &Header, x: V, y: V) -> Place<V> {
    let (gx, gy) = (affine(header.axes[0], x, y), affine(header.axes[1], x, y));
    let (cx, cy) = (held(gx, header.last[0]), held(gy, header.last[1]));
    let half = V::from(0.5);
    Place {
        // A NaN is outside.
        inside: abs(gx - cx).simd_le(half) & abs(gy - cy).simd_le(half),
        between: [gx.simd_eq(cx), gy.simd_eq(cy)],
        cell: [cx.index(), cy.index()],
        part: [cx - cx.simd_floor(), cy - cy.simd_floor()],
    }
}

/// Interpolates between the samples at the corners of the cell: (0, 0), (0, 1), (1, 0), (1, 1).
#[inline(always)]
fn bilinear<V: Register>(header: &Header, place: &Place<V>, [v00, v01, v10, v11]: [V; 4]) -> V {
    let [fx, fy] = place.part;
    let low = fx.fma(v10 - v00, v00);
    let high = fx.fma(v11 - v01, v01);
    V::simd_select(place.inside, fy.fma(high - low, low), V::from(header.outside))
}

/// The derivatives of [`bilinear`] by x and y.
#[inline(always)]
fn slope<V: Register>(header: &Header, place: &Place<V>, [v00, v01, v10, v11]: [V; 4]) -> (V, V) {
    let ([fx, fy], zero) = (place.part, V::from(0.0));
    let gx = fy.fma((v11 - v01) - (v10 - v00), v10 - v00);
    let gy = fx.fma((v11 - v10) - (v01 - v00), v01 - v00);
    let gx = V::simd_select(place.inside & place.between[0], gx, zero);
    let gy = V::simd_select(place.inside & place.between[1], gy, zero);
    let [[a, b, _], [d, e, _]] = header.axes;
    (gx * a + gy * d, gx * b + gy * e)
}

/// The fields of a driver, packed for lookups: all headers, then all samples. Each sample is followed by the one above
/// it (in the last row, by itself), and the last such pair of each row is repeated. So the four samples around any
/// point are contiguous, and one load fetches them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldSet {
    headers: Vec<Header>,
    pub(crate) packed: Vec<f32>,
}

impl FieldSet {
    /// Packs grids; model code refers to them by their index in the slice.
    pub fn new(grids: &[Grid]) -> Self {
        let mut packed = Vec::with_capacity(grids.iter().map(|grid| HEADER + grid.packed_len()).sum());
        let mut headers = Vec::with_capacity(grids.len());
        let mut offset = grids.len() * HEADER;
        for grid in grids {
            let header = float_env::standard(|| grid.header(offset));
            packed.extend(header.packed());
            headers.push(header);
            offset += grid.packed_len();
        }
        for grid in grids {
            let rows = grid.values.chunks_exact(grid.width);
            let above = rows.clone().skip(1).chain(rows.clone().next_back());
            for (row, above) in rows.zip(above) {
                packed.extend(row.iter().zip(above).flat_map(|(value, above)| [*value, *above]));
                packed.extend_from_within(packed.len() - 2..);
            }
        }
        Self { headers, packed }
    }

    /// The number of fields.
    pub(crate) fn len(&self) -> usize {
        self.headers.len()
    }

    /// The number of packed numbers that lookups can reach: those up to the end of the last field.
    pub(crate) fn reach(&self) -> usize {
        let end = |header: &Header| header.offset + 2 * (header.size[0] + 1) * header.size[1];
        self.headers.iter().map(end).max().unwrap_or(0)
    }

    /// Returns the view that lookups read.
    #[inline(always)]
    pub(crate) fn look_ups(&self) -> LookUps<'_> {
        let mut local = LookUps::NONE.local;
        for (local, header) in local.iter_mut().zip(&self.headers) {
            *local = (*header, header.samples(&self.packed));
        }
        LookUps { local, headers: &self.headers, packed: &self.packed }
    }
}

/// The number of headers stored inline in a [`LookUps`].
const NEAR: usize = 4;

/// A view of a [`FieldSet`] for lookups. The first headers are held by value and not behind a pointer, so that LLVM can
/// hoist their arithmetic out of the loop over time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LookUps<'a> {
    local: [(Header, &'a [f32]); NEAR],
    headers: &'a [Header],
    packed: &'a [f32],
}

impl<'a> LookUps<'a> {
    /// The view without fields, for models that read none.
    pub(crate) const NONE: Self = Self { local: [(Header::NOWHERE, &[]); NEAR], headers: &[], packed: &[] };

    /// The number of fields.
    pub(crate) fn len(&self) -> usize {
        self.headers.len()
    }

    /// The header and the samples of a field.
    #[inline(always)]
    fn find(&self, field: usize) -> (Header, &'a [f32]) {
        assert!(field < self.headers.len(), "field {field} of {}", self.headers.len());
        if field < NEAR {
            return self.local[field];
        }
        let header = self.headers[field];
        (header, header.samples(self.packed))
    }

    #[inline(always)]
    pub(crate) fn sample<V: Register>(&self, field: usize, x: V, y: V) -> V {
        let (header, samples) = self.find(field);
        let place = place(&header, x, y);
        bilinear(&header, &place, corners(&header, samples, &place))
    }

    #[inline(always)]
    pub(crate) fn gradient<V: Register>(&self, field: usize, x: V, y: V) -> (V, V) {
        let (header, samples) = self.find(field);
        let place = place(&header, x, y);
        slope(&header, &place, corners(&header, samples, &place))
    }
}

/// The samples around each point.
#[inline(always)]
fn corners<V: Register>(header: &Header, samples: &[f32], place: &Place<V>) -> [V; 4] {
    debug_assert_eq!(samples.len(), 2 * (header.size[0] + 1) * header.size[1], "they are the header's own");
    let [i, j] = place.cell;
    let first = V::bits_add(V::bits_mul(j, V::splat_bits(header.size[0] as u32 + 1)), i);
    // SAFETY: `held` clamps coordinates to [0, last], even for NaN; so the first pair belongs to a sample, and every
    // such pair is followed by another.
    unsafe { V::gather_2x2(samples, first) }
}
