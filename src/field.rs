//! Sampled fields: a quantity known on a regular 2-D grid, looked up from inside a model on every backend.

use crate::error::InvalidValue;
use crate::float_env;
use crate::scalar::Register;
use crate::scalar::math::abs;

/// The most samples along an axis: up to here f32 tells a sample from a place beside it.
const MOST: usize = 1 << 23;

/// The most samples of a grid: up to here 32 bits number them.
const MOST_IN_ALL: usize = 1 << 30;

/// How many numbers the header of a field takes in the packed buffer.
pub(crate) const HEADER: usize = 12;

/// A scalar field on a regular grid, with bilinear look-up: an obstacle distance, a cost-to-go, a height map.
///
/// Sample (i, j) stands at the *centre* of cell (i, j), which is at
/// `origin + R(yaw) · ((i + ½) · resolution, (j + ½) · resolution)` in the world; `values` holds them row by row, the row
/// with the smallest y first. Within half a cell of the border the outermost sample counts; beyond the grid the field is
/// [`outside`](Self::outside) everywhere. A coordinate that is NaN is outside.
///
/// **Keep a grid near the origin**, whatever the coordinates of its map are: subtract a local origin in `f64` from the grid's origin
/// and from every position ([`Model`](crate::Model#positions) has an example). `f32` tells positions apart that are 7.8 mm apart at
/// 88 km, 31 mm at 388 km and 0.25 m at 3,900 km. A look-up rounds once more, in cells: at 388 km with 3 cm cells, to whole cells.
///
/// Fields are given to a driver, which keeps them on its device (`set_field`), and looked up by number through
/// [`Stage::sample`](crate::Stage::sample). Replacing one recompiles nothing.
///
/// # Example
///
/// ```
/// use gibbs::Grid;
///
/// // f(x, y) = x on [0, 4] × [0, 3] m, at 1 m a cell.
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
    /// A grid of `width` × `height` samples, `resolution` metres apart, whose lower-left *corner* is at `origin`.
    ///
    /// Its yaw is 0 and its value outside is 0; see [`with_yaw`](Self::with_yaw) and
    /// [`with_outside`](Self::with_outside).
    ///
    /// # Errors
    ///
    /// If a size is zero or above 2²³, there are more than 2³⁰ samples, `values` does not have as many, or anything is not finite.
    pub fn new(
        width: usize,
        height: usize,
        resolution: f32,
        origin: [f32; 2],
        values: Vec<f32>,
    ) -> Result<Self, InvalidValue> {
        Self::check_size(width, height)?;
        if !(resolution.is_finite() && resolution > 0.0) {
            return Err(InvalidValue::new("resolution", resolution, "finite and above 0 (metres a cell)"));
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

    /// A grid filled from a function of the world position of each sample; see [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn from_fn(
        width: usize,
        height: usize,
        resolution: f32,
        origin: [f32; 2],
        mut f: impl FnMut(f32, f32) -> f32,
    ) -> Result<Self, InvalidValue> {
        // Refused before the function is called for each of them.
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
        if width * height > MOST_IN_ALL {
            let size = format_args!("{width} × {height}");
            return Err(InvalidValue::new("width × height", size, format_args!("at most {MOST_IN_ALL}")));
        }
        Ok(())
    }

    /// The same grid turned by `yaw` (in radians, counter-clockwise) about its origin.
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

    /// The same grid with another value beyond its border.
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

    /// Samples along x.
    pub fn width(&self) -> usize {
        self.width
    }
    /// Samples along y.
    pub fn height(&self) -> usize {
        self.height
    }
    /// Metres between samples.
    pub fn resolution(&self) -> f32 {
        self.resolution
    }
    /// The lower-left corner (in metres).
    pub fn origin(&self) -> [f32; 2] {
        self.origin
    }
    /// The turn about the origin (in radians).
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

    /// The field at a point of the world (in metres), as a model sees it.
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

    /// The samples around a point, the far ones repeated where the grid ends.
    fn corners(&self, place: &Place<f32>) -> [f32; 4] {
        let [i, j] = place.cell.map(|cell| cell as usize);
        let (right, up) = ((i + 1).min(self.width - 1), (j + 1).min(self.height - 1));
        [(i, j), (i, up), (right, j), (right, up)].map(|(i, j)| self.values[j * self.width + i])
    }

    /// The numbers that its samples take in a [`FieldSet`].
    fn packed_len(&self) -> usize {
        2 * (self.width + 1) * self.height
    }

    /// What the look-up needs, if the samples stand from `offset` on.
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

/// What a look-up knows of a grid.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Header {
    /// Grid coordinates of a world point, in samples: a x + b y + c, along each axis.
    axes: [[f32; 3]; 2],
    /// Samples along each axis.
    size: [usize; 2],
    /// The outermost sample along each axis.
    last: [f32; 2],
    outside: f32,
    /// Where its samples begin.
    offset: usize,
}

impl Header {
    /// Stands where there is no field.
    const NOWHERE: Self = Self { axes: [[0.0; 3]; 2], size: [0; 2], last: [0.0; 2], outside: 0.0, offset: 0 };

    /// Its part of the samples of all fields.
    #[inline(always)]
    fn samples<'a>(&self, packed: &'a [f32]) -> &'a [f32] {
        let [width, height] = self.size;
        &packed[self.offset..][..2 * (width + 1) * height]
    }

    /// In the order that `shaders/field.wgsl` reads it.
    fn packed(&self) -> [f32; HEADER] {
        let Self { axes: [[a, b, c], [d, e, f]], size: [w, h], outside, offset, .. } = *self;
        // The offset in two halves, each exact as a number. (As bits it would be subnormal, which a GPU may flush to zero.)
        let [high, low] = [offset >> 16, offset & 0xffff];
        [a, b, c, d, e, f, w as f32, h as f32, outside, high as f32, low as f32, 0.0]
    }
}

/// Where points lie on a grid: one point, or a register of them.
struct Place<V: Register> {
    /// Not beyond the grid, which ends half a cell beyond the outermost samples.
    inside: V::Truth,
    /// Between samples, and not in the half cell of the border, along each axis.
    between: [V::Truth; 2],
    /// The sample below-left.
    cell: [V::Bits; 2],
    /// How far from it, in samples.
    part: [V; 2],
}

// Functions and not closures: those would not be inlined, and lose the vector instructions.

/// a x + b y + c.
#[inline(always)]
fn affine<V: Register>([a, b, c]: [f32; 3], x: V, y: V) -> V {
    V::from(a).fused(x, V::from(b).fused(y, V::from(c)))
}

/// A grid coordinate, held within the samples; 0 for a NaN.
#[inline(always)]
fn held<V: Register>(g: V, last: f32) -> V {
    g.positive().lower(V::from(last))
}

#[inline(always)]
fn place<V: Register>(header: &Header, x: V, y: V) -> Place<V> {
    let (gx, gy) = (affine(header.axes[0], x, y), affine(header.axes[1], x, y));
    let (cx, cy) = (held(gx, header.last[0]), held(gy, header.last[1]));
    let half = V::from(0.5);
    Place {
        // A NaN is outside.
        inside: abs(gx - cx).is_le(half) & abs(gy - cy).is_le(half),
        between: [gx.is_eq(cx), gy.is_eq(cy)],
        cell: [cx.index(), cy.index()],
        part: [cx - cx.below(), cy - cy.below()],
    }
}

/// The field, from the samples at the corners of the cell: (0, 0), (0, 1), (1, 0), (1, 1).
#[inline(always)]
fn bilinear<V: Register>(header: &Header, place: &Place<V>, [v00, v01, v10, v11]: [V; 4]) -> V {
    let [fx, fy] = place.part;
    let low = fx.fused(v10 - v00, v00);
    let high = fx.fused(v11 - v01, v01);
    V::choose(place.inside, fy.fused(high - low, low), V::from(header.outside))
}

/// Its derivatives by x and y.
#[inline(always)]
fn slope<V: Register>(header: &Header, place: &Place<V>, [v00, v01, v10, v11]: [V; 4]) -> (V, V) {
    let ([fx, fy], zero) = (place.part, V::from(0.0));
    let gx = fy.fused((v11 - v01) - (v10 - v00), v10 - v00);
    let gy = fx.fused((v11 - v10) - (v01 - v00), v01 - v00);
    let gx = V::choose(place.inside & place.between[0], gx, zero);
    let gy = V::choose(place.inside & place.between[1], gy, zero);
    let [[a, b, _], [d, e, _]] = header.axes;
    (gx * a + gy * d, gx * b + gy * e)
}

/// The fields of a driver, packed the way a look-up reads them: all headers, then all samples, each followed by the one above
/// it (by itself in the last row), and the last of each row twice. So the four samples around a point are neighbours, which one
/// load brings, and there are four around every point of a grid.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldSet {
    headers: Vec<Header>,
    pub(crate) packed: Vec<f32>,
}

impl FieldSet {
    /// Packs some grids; model code knows them by their position here.
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

    /// How many fields there are.
    pub(crate) fn len(&self) -> usize {
        self.headers.len()
    }

    /// How many of the packed numbers look-ups can get at: those up to the end of the last field.
    pub(crate) fn reach(&self) -> usize {
        let end = |header: &Header| header.offset + 2 * (header.size[0] + 1) * header.size[1];
        self.headers.iter().map(end).max().unwrap_or(0)
    }

    /// These as look-ups see them.
    #[inline(always)]
    pub(crate) fn look_ups(&self) -> LookUps<'_> {
        let mut near = LookUps::NONE.near;
        for (near, header) in near.iter_mut().zip(&self.headers) {
            *near = (*header, header.samples(&self.packed));
        }
        LookUps { near, headers: &self.headers, packed: &self.packed }
    }
}

/// So many headers are part of a [`LookUps`].
const NEAR: usize = 4;

/// A [`FieldSet`] as look-ups see it. The first headers are part of it, and not behind a pointer: of a value of its own the
/// compiler knows that no step of a rollout changes it, and what follows from it is worked out before the loop over time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LookUps<'a> {
    near: [(Header, &'a [f32]); NEAR],
    headers: &'a [Header],
    packed: &'a [f32],
}

impl<'a> LookUps<'a> {
    /// For models that look nothing up.
    pub(crate) const NONE: Self = Self { near: [(Header::NOWHERE, &[]); NEAR], headers: &[], packed: &[] };

    /// How many fields there are.
    pub(crate) fn len(&self) -> usize {
        self.headers.len()
    }

    /// What is known of a field, and its samples.
    #[inline(always)]
    fn find(&self, field: usize) -> (Header, &'a [f32]) {
        assert!(field < self.headers.len(), "field {field} of {}", self.headers.len());
        if field < NEAR {
            return self.near[field];
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
    // SAFETY: `held` leaves a number between 0 and the last sample, even of a NaN; so the first pair is that of a sample, and each
    // is followed by another.
    unsafe { V::squares(samples, first) }
}
