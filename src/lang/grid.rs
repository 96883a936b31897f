//! Sampled fields: a quantity given on a regular 2-D grid, read by models on every backend.

#[cfg(feature = "gpu")]
use std::ops::Range;
use std::sync::Arc;

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
/// [`StepContext::sample`](crate::lang::StepContext::sample). Replacing a field does not recompile the kernels. A
/// planner also overwrites a part of a field in place:
/// [`Planner::update_field`](crate::control::planner::Planner::update_field).
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Unchecked"))]
pub struct Grid {
    width: usize,
    height: usize,
    resolution: f32,
    origin: [f32; 2],
    yaw: f32,
    outside: f32,
    values: Vec<f32>,
}

/// A grid as it is read from a recording.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(rename = "Grid", deny_unknown_fields)]
struct Unchecked {
    width: usize,
    height: usize,
    resolution: f32,
    origin: [f32; 2],
    #[serde(default)]
    yaw: f32,
    #[serde(default)]
    outside: f32,
    values: Vec<f32>,
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for Grid {
    type Error = InvalidValue;

    fn try_from(grid: Unchecked) -> Result<Self, InvalidValue> {
        let Unchecked { width, height, resolution, origin, yaw, outside, values } = grid;
        Self::new(width, height, resolution, origin, values)?.with_yaw(yaw)?.with_outside(outside)
    }
}

/// A rectangle of samples of a [`Grid`]: those in columns `column` to `column + width` and in rows `row` to `row +
/// height`, the ends excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Region {
    /// The index of the first sample along x.
    pub column: usize,
    /// The index of the first sample along y.
    pub row: usize,
    /// The number of samples along x; at least 1.
    pub width: usize,
    /// The number of samples along y; at least 1.
    pub height: usize,
}

impl Region {
    /// The least region that contains both.
    fn union(self, other: Self) -> Self {
        let (column, row) = (self.column.min(other.column), self.row.min(other.row));
        let right = (self.column + self.width).max(other.column + other.width);
        let top = (self.row + self.height).max(other.row + other.height);
        Self { column, row, width: right - column, height: top - row }
    }
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
        Self::check_origin(origin)?;
        Self::check_values(width, height, &values)?;
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

    fn check_origin(origin: [f32; 2]) -> Result<(), InvalidValue> {
        if !origin.iter().all(|v| v.is_finite()) {
            return Err(InvalidValue::new("origin", format_args!("{origin:?}"), "finite"));
        }
        Ok(())
    }

    fn check_values(width: usize, height: usize, values: &[f32]) -> Result<(), InvalidValue> {
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
        Ok(())
    }

    /// Overwrites a rectangle of samples, given row by row from the smallest y.
    ///
    /// # Errors
    ///
    /// If the region is empty or not within the grid, `values` does not have one number per sample of the region, or a
    /// number is not finite. Then nothing is changed.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::{Grid, lang::Region};
    ///
    /// let mut grid = Grid::from_fn(4, 3, 1.0, [0.0, 0.0], |_, _| 0.0)?;
    /// grid.update(Region { column: 1, row: 2, width: 2, height: 1 }, &[5.0, 7.0])?;
    /// assert_eq!(grid.values(), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 7.0, 0.0]);
    /// # Ok::<(), gibbs::InvalidValue>(())
    /// ```
    pub fn update(&mut self, region: Region, values: &[f32]) -> Result<(), InvalidValue> {
        let Region { column, row, width, height } = region;
        let within = |from: usize, count: usize, size: usize| count > 0 && from < size && count <= size - from;
        if !(within(column, width, self.width) && within(row, height, self.height)) {
            let value = format_args!("{width} × {height} samples from column {column} and row {row} on");
            let expected = format_args!("at least one sample, within the {} × {} of the grid", self.width, self.height);
            return Err(InvalidValue::new("region", value, expected));
        }
        Self::check_values(width, height, values)?;
        for (j, values) in values.chunks_exact(width).enumerate() {
            self.values[(row + j) * self.width + column..][..width].copy_from_slice(values);
        }
        Ok(())
    }

    /// Moves the grid: its lower-left corner (in meters), about which it is rotated, becomes `origin`. The samples stay.
    ///
    /// # Errors
    ///
    /// If `origin` is not finite. Then nothing is changed.
    pub fn set_origin(&mut self, origin: [f32; 2]) -> Result<(), InvalidValue> {
        Self::check_origin(origin)?;
        self.origin = origin;
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
    /// The region of all samples.
    pub fn region(&self) -> Region {
        Region { column: 0, row: 0, width: self.width, height: self.height }
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

    /// Writes the samples of a region to where `packed`, all samples of this grid in a [`FieldSet`], has them.
    fn pack(&self, region: Region, packed: &mut [f32]) {
        let Region { column, row, width, height } = region;
        // The samples are also those above the row below the region.
        for j in row.saturating_sub(1)..row + height {
            let samples = |j: usize| &self.values[j * self.width + column..][..width];
            let above = samples((j + 1).min(self.height - 1));
            let first = 2 * (j * (self.width + 1) + column);
            let pairs = packed[first..][..2 * width].as_chunks_mut().0;
            for ((pair, value), above) in pairs.iter_mut().zip(samples(j)).zip(above) {
                *pair = [*value, *above];
            }
            if column + width == self.width {
                let end = first + 2 * width;
                packed.copy_within(end - 2..end, end);
            }
        }
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

    /// The number of packed samples.
    #[inline(always)]
    fn packed_len(&self) -> usize {
        let [width, height] = self.size;
        2 * (width + 1) * height
    }

    /// The range of the packed samples from the first to the last that holds a sample of a region: see [`Grid::pack`].
    #[cfg(feature = "gpu")]
    fn packed_range(&self, region: Region) -> Range<usize> {
        let Region { column, row, width, height } = region;
        let stride = 2 * (self.size[0] + 1);
        let is_last = column + width == self.size[0];
        let end = 2 * (column + width + usize::from(is_last));
        row.saturating_sub(1) * stride + 2 * column..(row + height - 1) * stride + end
    }

    /// The header as numbers, in the order in which `shaders/score/field.wgsl` reads them.
    #[cfg(feature = "gpu")]
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

/// A grid, packed for lookups: each sample is followed by the one above it (in the last row, by itself), and the last
/// such pair of each row is repeated. So the four samples around any point are contiguous, and one load fetches them.
#[derive(Debug, Clone, PartialEq)]
struct Field {
    header: Header,
    /// Shared by clones, since there may be many.
    samples: Arc<[f32]>,
}

impl Field {
    /// Packs a grid whose samples a device stores from `offset` on.
    fn new(grid: &Grid, offset: usize) -> Self {
        let header = float_env::standard(|| grid.header(offset));
        let mut samples: Arc<[f32]> = std::iter::repeat_n(0.0, grid.packed_len()).collect();
        grid.pack(grid.region(), Arc::make_mut(&mut samples));
        Self { header, samples }
    }

    #[inline(always)]
    fn samples(&self) -> &[f32] {
        &self.samples[..self.header.packed_len()]
    }
}

/// The fields of a driver, packed for lookups. A device stores them in one buffer: all headers, then all samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldSet {
    fields: Vec<Field>,
}

impl FieldSet {
    /// Packs grids; model code refers to them by their index in the slice.
    pub fn new(grids: &[Grid]) -> Self {
        let mut offset = grids.len() * HEADER;
        let pack = |grid: &Grid| {
            let field = Field::new(grid, offset);
            offset += grid.packed_len();
            field
        };
        Self { fields: grids.iter().map(pack).collect() }
    }

    /// Replaces a field. Returns whether the samples of other fields have moved in the buffer of a device.
    pub(crate) fn set(&mut self, index: usize, grid: &Grid) -> bool {
        let field = &mut self.fields[index];
        let (before, offset) = (field.samples.len(), field.header.offset);
        match Arc::get_mut(&mut field.samples).filter(|samples| samples.len() == grid.packed_len()) {
            Some(samples) => {
                grid.pack(grid.region(), samples);
                self.set_header(index, grid);
            }
            None => *field = Field::new(grid, offset),
        }
        let moves = before != grid.packed_len();
        if moves {
            let mut offset = self.fields.len() * HEADER;
            for field in &mut self.fields {
                field.header.offset = offset;
                offset += field.samples.len();
            }
        }
        moves
    }

    /// Replaces the samples of a region, which the grid of the field already has.
    pub(crate) fn update(&mut self, index: usize, grid: &Grid, region: Region) {
        grid.pack(region, Arc::make_mut(&mut self.fields[index].samples));
    }

    /// Replaces the geometry of a field by that of a grid of the same size.
    pub(crate) fn set_header(&mut self, index: usize, grid: &Grid) {
        let header = &mut self.fields[index].header;
        *header = float_env::standard(|| grid.header(header.offset));
    }

    /// The number of fields.
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The length of all headers and samples.
    pub(crate) fn packed_len(&self) -> usize {
        self.fields.iter().map(|field| HEADER + field.samples.len()).sum()
    }

    /// The number of packed numbers that lookups can reach: those up to the end of the last field.
    pub(crate) fn reach(&self) -> usize {
        let end = |field: &Field| field.header.offset + field.header.packed_len();
        self.fields.iter().map(end).max().unwrap_or(0)
    }

    /// Returns the view that lookups read.
    #[inline(always)]
    pub(crate) fn look_ups(&self) -> LookUps<'_> {
        let mut local = LookUps::NONE.local;
        for (local, field) in local.iter_mut().zip(&self.fields) {
            *local = (field.header, field.samples());
        }
        LookUps { local, fields: &self.fields }
    }
}

#[cfg(feature = "gpu")]
impl FieldSet {
    /// The headers of all fields, which precede their samples.
    pub(crate) fn headers(&self) -> Vec<f32> {
        self.fields.iter().flat_map(|field| field.header.packed()).collect()
    }

    /// The contents of a device's buffer.
    pub(crate) fn packed(&self) -> Vec<f32> {
        let samples = self.fields.iter().flat_map(|field| field.samples.iter().copied());
        self.headers().into_iter().chain(samples).collect()
    }

    /// Passes the parts of a device's buffer that it does not have, each with its offset, to `upload`. `uploaded` is
    /// the version that it has, if it has one.
    pub(crate) fn changed(&self, changes: &FieldChanges, uploaded: Option<u64>, mut upload: impl FnMut(usize, &[f32])) {
        if uploaded == Some(changes.version) {
            return;
        }
        upload(0, &self.headers());
        for (i, Field { header, samples }) in self.fields.iter().enumerate() {
            let [width, height] = header.size;
            let whole = Region { column: 0, row: 0, width, height };
            if let Some(region) = changes.since(uploaded, i, whole) {
                // One write for all rows. A write, or a copy on the device, for each row takes longer unless a row of
                // the grid has thousands of samples.
                let range = header.packed_range(region);
                upload(header.offset + range.start, &samples[range]);
            }
        }
    }
}

/// When and where the fields of a driver have changed, so that a device uploads only what it does not have.
#[derive(Debug, Clone, Default)]
pub(crate) struct FieldChanges {
    /// The number of changes so far.
    version: u64,
    fields: Vec<FieldChange>,
}

/// The changes of one field.
#[derive(Debug, Clone, Copy)]
struct FieldChange {
    /// The version in which its samples last changed.
    version: u64,
    /// Contains all samples that changed after version `since`, if there are any.
    region: Option<Region>,
    since: u64,
}

impl FieldChanges {
    /// Notes that all fields have been replaced.
    pub(crate) fn all(&mut self, grids: &[Grid]) {
        self.version += 1;
        let version = self.version;
        self.fields.clear();
        self.fields.extend(grids.iter().map(|grid| FieldChange { version, region: Some(grid.region()), since: 0 }));
    }

    /// Notes that a field has been replaced by one with as many samples, of which `whole` is all.
    pub(crate) fn whole(&mut self, index: usize, whole: Region) {
        self.version += 1;
        self.fields[index] = FieldChange { version: self.version, region: Some(whole), since: 0 };
    }

    /// Notes that the samples of a region have been replaced.
    pub(crate) fn region(&mut self, index: usize, region: Region) {
        self.version += 1;
        let field = &mut self.fields[index];
        field.version = self.version;
        field.region = Some(field.region.map_or(region, |before| before.union(region)));
    }

    /// Notes that the geometry of a field has been replaced. A device uploads all headers with any change.
    pub(crate) fn header(&mut self) {
        self.version += 1;
    }

    /// Notes that the device has all changes so far.
    pub(crate) fn uploaded(&mut self) {
        for field in &mut self.fields {
            (field.region, field.since) = (None, field.version);
        }
    }

    /// The version that a device has after an upload.
    #[cfg(feature = "gpu")]
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The region that a device with version `uploaded` does not have, of a field of which `whole` is all.
    #[cfg(feature = "gpu")]
    fn since(&self, uploaded: Option<u64>, index: usize, whole: Region) -> Option<Region> {
        match (self.fields.get(index), uploaded) {
            (Some(field), Some(uploaded)) if field.version <= uploaded => None,
            (Some(field), Some(uploaded)) if field.since <= uploaded => field.region,
            _ => Some(whole),
        }
    }
}

/// The number of headers stored inline in a [`LookUps`].
const NEAR: usize = 4;

/// A view of a [`FieldSet`] for lookups. The first headers are held by value and not behind a pointer, so that LLVM can
/// hoist their arithmetic out of the loop over time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LookUps<'a> {
    local: [(Header, &'a [f32]); NEAR],
    fields: &'a [Field],
}

impl<'a> LookUps<'a> {
    /// The view without fields, for models that read none.
    pub(crate) const NONE: Self = Self { local: [(Header::NOWHERE, &[]); NEAR], fields: &[] };

    /// The number of fields.
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The header and the samples of a field.
    #[inline(always)]
    fn find(&self, field: usize) -> (Header, &'a [f32]) {
        assert!(field < self.fields.len(), "field {field} of {}", self.fields.len());
        if field < NEAR {
            return self.local[field];
        }
        let field = &self.fields[field];
        (field.header, field.samples())
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
    debug_assert_eq!(samples.len(), header.packed_len(), "they are the header's own");
    let [i, j] = place.cell;
    let first = V::bits_add(V::bits_mul(j, V::splat_bits(header.size[0] as u32 + 1)), i);
    // SAFETY: `held` clamps coordinates to [0, last], even for NaN; so the first pair belongs to a sample, and every
    // such pair is followed by another.
    unsafe { V::gather_2x2(samples, first) }
}
