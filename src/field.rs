//! Sampled fields: a quantity known on a regular 2-D grid, looked up from inside a model on every backend.

use crate::error::InvalidValue;
use crate::scalar::Register;
use crate::scalar::math::{abs, floor, whole};

/// The most lanes that are looked up at once: a tile of rows.
const MOST_LANES: usize = crate::update::TILE;

/// The most samples along an axis: f32 holds every whole number up to here, so cell indices are exact.
const MOST: usize = 1 << 24;

/// How many numbers the header of a field takes in the packed buffer.
pub(crate) const HEADER: usize = 12;

/// A scalar field on a regular grid, with bilinear look-up: an obstacle distance, a cost-to-go, a height map.
///
/// Sample (i, j) stands at the *centre* of cell (i, j), which is at
/// `origin + R(yaw) · ((i + ½) · resolution, (j + ½) · resolution)` in the world; `values` holds them row by row, the row
/// with the smallest y first. Within half a cell of the border the outermost sample counts; beyond the grid the field is
/// [`outside`](Self::outside) everywhere. A coordinate that is NaN is outside.
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
    /// If a size is zero, does not match `values`, or anything is not finite.
    pub fn new(
        width: usize,
        height: usize,
        resolution: f32,
        origin: [f32; 2],
        values: Vec<f32>,
    ) -> Result<Self, InvalidValue> {
        for (field, size) in [("width", width), ("height", height)] {
            if size == 0 || size > MOST {
                return Err(InvalidValue::new(field, size, format_args!("between 1 and {MOST}")));
            }
        }
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
        if width.max(height) > MOST {
            return Self::new(width, height, resolution, origin, Vec::new());
        }
        let at = |i: usize, from: f32| from + (i as f32 + 0.5) * resolution;
        let cells = (0..height).flat_map(|j| (0..width).map(move |i| (i, j)));
        let values = cells.map(|(i, j)| f(at(i, origin[0]), at(j, origin[1]))).collect();
        Self::new(width, height, resolution, origin, values)
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
        bilinear(&self.header(0), &self.values, x, y)
    }

    /// The derivatives of [`sample`](Self::sample) by x and y; 0 outside and where the border sample is held.
    pub fn gradient(&self, x: f32, y: f32) -> [f32; 2] {
        slope(&self.header(0), &self.values, x, y)
    }

    /// What the look-up needs, in the order that `shaders/field.wgsl` reads it.
    fn header(&self, offset: usize) -> [f32; HEADER] {
        let (s, c) = (self.yaw.sin() / self.resolution, self.yaw.cos() / self.resolution);
        let [ox, oy] = self.origin;
        [
            // Grid coordinates of a world point, in samples: (a x + b y + c, d x + e y + f).
            c,
            s,
            -(c * ox + s * oy) - 0.5,
            -s,
            c,
            (s * ox - c * oy) - 0.5,
            self.width as f32,
            self.height as f32,
            self.outside,
            // In two halves, each exact as a number. (As bits it would be subnormal, which a GPU may flush to zero.)
            (offset >> 16) as f32,
            (offset & 0xffff) as f32,
            0.0,
        ]
    }
}

/// A point in grid coordinates: the cell below-left of it, how far into that cell it is, and whether it lies between samples
/// at all (and not in the half cell of the border) along each axis; `None` outside.
#[inline(always)]
fn cell(header: &[f32], x: f32, y: f32) -> Option<([usize; 2], [f32; 2], [bool; 2])> {
    let (w, h) = (header[6], header[7]);
    let gx = header[0].mul_add(x, header[1].mul_add(y, header[2]));
    let gy = header[3].mul_add(x, header[4].mul_add(y, header[5]));
    if !(gx >= -0.5 && gx <= w - 0.5 && gy >= -0.5 && gy <= h - 0.5) {
        return None;
    }
    let (cx, cy) = (gx.clamp(0.0, w - 1.0), gy.clamp(0.0, h - 1.0));
    // The last cell takes the border itself; a grid one sample wide has only the one.
    let (ix, iy) = ((cx as i32).min(w as i32 - 2).max(0), (cy as i32).min(h as i32 - 2).max(0));
    Some(([ix as usize, iy as usize], [cx - ix as f32, cy - iy as f32], [gx == cx, gy == cy]))
}

/// The four samples around a cell, the far ones repeated where the grid ends.
#[inline(always)]
fn corners(header: &[f32], values: &[f32], [ix, iy]: [usize; 2]) -> [f32; 4] {
    let (w, h) = (header[6] as usize, header[7] as usize);
    let offset = ((header[9] as usize) << 16) + header[10] as usize;
    let (right, up) = ((ix + 1).min(w - 1), (iy + 1).min(h - 1));
    let at = |i: usize, j: usize| values[offset + j * w + i];
    [at(ix, iy), at(right, iy), at(ix, up), at(right, up)]
}

#[inline(always)]
fn bilinear(header: &[f32], values: &[f32], x: f32, y: f32) -> f32 {
    bilinear_of::<f32>(header, values, x, y)
}

/// The look-up for one point or for a register of them: all but the reading of the samples is arithmetic on all lanes at once.
#[inline(always)]
fn bilinear_of<V: Register>(header: &[f32], values: &[f32], x: V, y: V) -> V {
    let (gx, gy) = (affine(&header[..3], x, y), affine(&header[3..6], x, y));
    let (w, h) = (header[6], header[7]);
    let (cx, cy) = (held(gx, w - 1.0), held(gy, h - 1.0));
    // At most half a cell beyond the border; a NaN is outside.
    let half = V::from(0.5);
    let inside = abs(gx - cx).is_le(half) & abs(gy - cy).is_le(half);
    let (ix, iy, [v00, v10, v01, v11]) = corners_of(header, values, cx, cy);
    let (fx, fy) = (cx - ix, cy - iy);
    let low = fx.fused(v10 - v00, v00);
    let high = fx.fused(v11 - v01, v01);
    V::choose(inside, fy.fused(high - low, low), V::from(header[8]))
}

// Functions and not closures: those would not be inlined, and lose the vector instructions.

/// a x + b y + c.
#[inline(always)]
fn affine<V: Register>(by: &[f32], x: V, y: V) -> V {
    V::from(by[0]).fused(x, V::from(by[1]).fused(y, V::from(by[2])))
}

/// A grid coordinate, held within the samples; 0 for a NaN.
#[inline(always)]
fn held<V: Register>(g: V, last: f32) -> V {
    let zero = V::from(0.0);
    // Written so that a NaN is not above 0, whatever the processor makes of its maximum.
    V::choose(zero.is_lt(g), g, zero).lower(V::from(last))
}

/// The cell that each point is in (the last one takes the border itself, and a grid one sample wide has only the one), and the
/// samples around it.
#[inline(always)]
fn corners_of<V: Register>(header: &[f32], values: &[f32], cx: V, cy: V) -> (V, V, [V; 4]) {
    /// From here on a number does not hold an index in the bits of its mantissa any more.
    const MOST_BY_BITS: usize = 1 << 23;
    let (w, h) = (header[6] as usize, header[7] as usize);
    let offset = ((header[9] as usize) << 16) + header[10] as usize;
    let samples = &values[offset..][..w * h];
    if w > 1 && h > 1 && samples.len() <= MOST_BY_BITS {
        let ix = V::from(header[6] - 2.0).lower(whole(cx));
        let iy = V::from(header[7] - 2.0).lower(whole(cy));
        // Where the cell begins, as the mantissa of a number in [2²³, 2²⁴): exact, and no conversion.
        let first = (iy.fused(V::from(header[6]), ix) + MOST_BY_BITS as f32).bits();
        let first = V::bits_and(first, V::splat_bits(MOST_BY_BITS as u32 - 1));
        // SAFETY: `held` leaves a number between 0 and the last sample, even of a NaN; so a cell begins at most at the last column
        // but one and the last row but one, and `samples` has w · h values.
        return (ix, iy, unsafe { V::squares(samples, first, w) });
    }
    let ix = V::from((header[6] - 2.0).max(0.0)).lower(floor(cx));
    let iy = V::from((header[7] - 2.0).max(0.0)).lower(floor(cy));
    let (mut at, mut found) = ([[0.0; MOST_LANES]; 2], [[0.0; MOST_LANES]; 4]);
    ix.store(&mut at[0]);
    iy.store(&mut at[1]);
    for lane in 0..V::COUNT {
        let four = corners(header, values, [at[0][lane] as usize, at[1][lane] as usize]);
        for (found, value) in found.iter_mut().zip(four) {
            found[lane] = value;
        }
    }
    (ix, iy, [V::load(&found[0]), V::load(&found[1]), V::load(&found[2]), V::load(&found[3])])
}

#[inline(always)]
fn slope(header: &[f32], values: &[f32], x: f32, y: f32) -> [f32; 2] {
    let Some((at, [fx, fy], between)) = cell(header, x, y) else { return [0.0, 0.0] };
    let [v00, v10, v01, v11] = corners(header, values, at);
    let gx = fy.mul_add((v11 - v01) - (v10 - v00), v10 - v00);
    let gy = fx.mul_add((v11 - v10) - (v01 - v00), v01 - v00);
    let (gx, gy) = (if between[0] { gx } else { 0.0 }, if between[1] { gy } else { 0.0 });
    [header[0] * gx + header[3] * gy, header[1] * gx + header[4] * gy]
}

/// The fields of a driver, packed the way the GPU reads them: all headers, then all samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldSet {
    pub(crate) packed: Vec<f32>,
    pub(crate) count: usize,
}

impl FieldSet {
    /// Packs some grids; model code knows them by their position here.
    pub fn new(grids: &[Grid]) -> Self {
        let mut packed = Vec::with_capacity(grids.iter().map(|g| HEADER + g.values.len()).sum());
        let mut offset = grids.len() * HEADER;
        for grid in grids {
            packed.extend(grid.header(offset));
            offset += grid.values.len();
        }
        for grid in grids {
            packed.extend_from_slice(&grid.values);
        }
        Self { packed, count: grids.len() }
    }

    #[inline(always)]
    pub(crate) fn sample<V: Register>(&self, field: usize, x: V, y: V) -> V {
        bilinear_of(&self.packed[field * HEADER..][..HEADER], &self.packed, x, y)
    }

    #[inline(always)]
    pub(crate) fn gradient(&self, field: usize, x: f32, y: f32) -> [f32; 2] {
        slope(&self.packed[field * HEADER..][..HEADER], &self.packed, x, y)
    }
}
