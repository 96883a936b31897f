//! Sampled fields: quantities given on a regular grid of one to three dimensions, read by models on every backend.

mod changes;
mod pack;

use std::ops::Range;

use super::look_up::{Corners, place, slopes, value};
use crate::error::InvalidValue;
pub(crate) use changes::FieldChanges;
pub(in crate::lang) use pack::Field;
pub use pack::FieldSet;

/// Maximum number of samples along an axis: up to this size, f32 represents positions between samples.
const MOST: usize = 1 << 23;

/// Maximum number of samples of a grid: up to this size, 32-bit indices suffice.
const MAX_IN_ALL: usize = 1 << 30;

/// As [`MAX_IN_ALL`], of a volume: look-ups store its last layer twice, and so up to four numbers per sample.
const MAX_IN_VOLUME: usize = 1 << 28;

/// Maximum number of channels.
const MAX_CHANNELS: usize = 64;

/// A field on a regular grid, with linear interpolation: an obstacle distance, a cost-to-go, a height map.
///
/// There are three kinds, by the number of dimensions:
///
/// | | dimensions | samples are | interpolation |
/// |---|---|---|---|
/// | [`Grid::table`] | 1: a number, such as an arc length or a motor's speed | at multiples of its spacing | linear |
/// | [`Grid::new`] | 2: a point of the plane | at centers of cells | bilinear |
/// | [`Grid::volume`] | 3: a point in space, or x, y and another quantity | at centers of cells | trilinear |
///
/// Sample (i, j) of a grid with two dimensions is at the *center* of cell (i, j), which is at `origin + R(yaw) · ((i +
/// ½) · resolution, (j + ½) · resolution)` in the world; `values` holds the samples row by row, the row with the
/// smallest y first. Within half a cell of the border the outermost sample applies; beyond the grid the field is
/// [`outside`](Self::outside) everywhere. A point with a coordinate that is NaN or infinite is outside.
///
/// A field can hold several quantities at each sample, its **channels**: [`with_channel`](Self::with_channel) adds one.
/// A model reads all of them by one look-up, which takes less time than one look-up for each.
///
/// **Keep a grid near the origin**, whatever the coordinates of its map are: subtract a local origin in `f64` from the
/// grid's origin and from every position ([`Model`](crate::model::Model#positions) has an example). The spacing of
/// `f32` is 7.8 mm at 88 km, 31 mm at 388 km and 0.25 m at 3,900 km. A lookup rounds once more, in cells: at 388 km
/// with 3 cm cells, to whole cells.
///
/// Fields are given to a driver, which keeps them on its device (`set_field`), and read by index through
/// [`StepContext::sample`](crate::lang::StepContext::sample) and
/// [`StepContext::look_up`](crate::lang::StepContext::look_up). Replacing a field does not recompile the kernels. A
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
    depth: usize,
    channels: usize,
    resolution: f32,
    layer_height: f32,
    /// As many numbers as the grid has dimensions.
    origin: Vec<f32>,
    yaw: f32,
    ends: Ends,
    outside: f32,
    /// All samples of the first channel, then all of the second, ….
    values: Vec<f32>,
}

/// A grid as it is read from a recording.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(rename = "Grid", deny_unknown_fields)]
struct Unchecked {
    width: usize,
    #[serde(default = "one")]
    height: usize,
    #[serde(default = "one")]
    depth: usize,
    #[serde(default = "one")]
    channels: usize,
    resolution: f32,
    #[serde(default)]
    layer_height: Option<f32>,
    origin: Vec<f32>,
    #[serde(default)]
    yaw: f32,
    #[serde(default)]
    ends: Option<Ends>,
    #[serde(default)]
    outside: f32,
    values: Vec<f32>,
}

#[cfg(feature = "serde")]
fn one() -> usize {
    1
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for Grid {
    type Error = InvalidValue;

    fn try_from(grid: Unchecked) -> Result<Self, InvalidValue> {
        let Unchecked { width, height, depth, channels, resolution, layer_height, origin, yaw, ends, outside, values } =
            grid;
        let grid = Self::of([width, height, depth], channels, resolution, &origin, values)?;
        let grid = match layer_height {
            Some(height) if origin.len() == 3 => grid.with_layer_height(height)?,
            _ => grid,
        };
        let grid = if yaw == 0.0 { grid } else { grid.with_yaw(yaw)? };
        ends.map_or(Ok(grid.clone()), |ends| grid.with_ends(ends))?.with_outside(outside)
    }
}

/// What a [table](Grid::table) is beyond its first and its last sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Ends {
    /// The first sample applies before it, the last one after it.
    #[default]
    Clamp,
    /// The outermost samples apply up to half a spacing beyond, and [`Grid::outside`] from there on.
    Outside,
    /// The table repeats with a period of its number of samples times its spacing: a quantity along a closed circuit,
    /// or one that depends on an angle. Between its last and its first sample it is interpolated.
    Periodic,
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
    /// This rectangle in some layers of a [volume](Grid::volume), the end of the range excluded.
    pub fn layers(self, layers: Range<usize>) -> Block {
        Block { region: self, layer: layers.start, depth: layers.len() }
    }

    /// The least region that contains both.
    fn union(self, other: Self) -> Self {
        let (column, row) = (self.column.min(other.column), self.row.min(other.row));
        let right = (self.column + self.width).max(other.column + other.width);
        let top = (self.row + self.height).max(other.row + other.height);
        Self { column, row, width: right - column, height: top - row }
    }
}

/// A part of the samples of a [`Grid`], in all of its channels: a range of a table, a [`Region`], or a region in some
/// [layers](Region::layers) of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub(super) region: Region,
    pub(super) layer: usize,
    pub(super) depth: usize,
}

impl Block {
    /// The least block that contains both.
    fn union(self, other: Self) -> Self {
        let layer = self.layer.min(other.layer);
        let above = (self.layer + self.depth).max(other.layer + other.depth);
        Self { region: self.region.union(other.region), layer, depth: above - layer }
    }
}

impl From<Region> for Block {
    fn from(region: Region) -> Self {
        region.layers(0..1)
    }
}

/// A range of the samples of a table, the end excluded.
impl From<Range<usize>> for Block {
    fn from(range: Range<usize>) -> Self {
        Region { column: range.start, row: 0, width: range.len(), height: 1 }.into()
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
        Self::of([width, height, 1], 1, resolution, &origin, values)
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
        Self::check_size([width, height, 1], 1, 2)?;
        let at = |i: usize, from: f32| from + (i as f32 + 0.5) * resolution;
        let cells = (0..height).flat_map(|j| (0..width).map(move |i| (i, j)));
        let values = cells.map(|(i, j)| f(at(i, origin[0]), at(j, origin[1]))).collect();
        Self::new(width, height, resolution, origin, values)
    }

    /// Creates a table: a field of one dimension, whose sample i is at `first + i · spacing`.
    ///
    /// A model looks it up by a number of its own, such as the arc length of a vehicle along a road. Beyond the ends
    /// the outermost samples apply, unless [`with_ends`](Self::with_ends) says otherwise.
    ///
    /// # Errors
    ///
    /// If there is no sample, or more than 2²³, `spacing` is not above 0, or a number is not finite.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::Grid;
    /// use gibbs::lang::Ends;
    ///
    /// // Curvature and width of a circuit of 400 m, every 100 m.
    /// let curvature = vec![0.0, 0.02, 0.0, 0.02];
    /// let circuit = Grid::table(100.0, 0.0, curvature)?
    ///     .with_channel(vec![12.0, 10.0, 12.0, 10.0])?
    ///     .with_ends(Ends::Periodic)?;
    ///
    /// // Between the last sample and the first one of the next lap.
    /// assert_eq!(circuit.look_up([350.0])?, [0.01, 11.0]);
    /// assert_eq!(circuit.look_up([-50.0])?, [0.01, 11.0]);
    /// # Ok::<(), gibbs::InvalidValue>(())
    /// ```
    pub fn table(spacing: f32, first: f32, values: Vec<f32>) -> Result<Self, InvalidValue> {
        if !(spacing.is_finite() && spacing > 0.0) {
            return Err(InvalidValue::new("spacing", spacing, "finite and above 0"));
        }
        if !first.is_finite() {
            return Err(InvalidValue::new("first", first, "finite"));
        }
        Self::of([values.len(), 1, 1], 1, spacing, &[first], values)
    }

    /// Creates a field of three dimensions, of `size` = [width, height, depth] samples that are `resolution` meters
    /// apart along all axes, whose corner with the smallest coordinates is at `origin`.
    ///
    /// `values` holds it layer by layer, the one with the smallest z first, and each layer as [`new`](Self::new) takes
    /// it. Yaw and outside are as in two dimensions. [`with_layer_height`](Self::with_layer_height) sets another
    /// spacing along z, which need not be a length: in a map over x, y and heading, it is an angle.
    ///
    /// # Errors
    ///
    /// If a size is zero or above 2²³, there are more than 2²⁸ samples, `resolution` is not above 0, `values` does not
    /// have one number per sample, or a number is not finite.
    pub fn volume(size: [usize; 3], resolution: f32, origin: [f32; 3], values: Vec<f32>) -> Result<Self, InvalidValue> {
        Self::of(size, 1, resolution, &origin, values)
    }

    /// Creates a volume by evaluating a function at the position of each sample; see [`volume`](Self::volume).
    ///
    /// # Errors
    ///
    /// As for [`volume`](Self::volume).
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::Grid;
    ///
    /// let height = Grid::volume_from_fn([4, 3, 5], 1.0, [0.0; 3], |_, _, z| z)?;
    /// assert_eq!(height.look_up([2.0, 1.0, 3.25])?, [3.25]);
    /// # Ok::<(), gibbs::InvalidValue>(())
    /// ```
    pub fn volume_from_fn(
        size: [usize; 3],
        resolution: f32,
        origin: [f32; 3],
        mut f: impl FnMut(f32, f32, f32) -> f32,
    ) -> Result<Self, InvalidValue> {
        Self::check_size(size, 1, 3)?;
        let [width, height, depth] = size;
        let at = |i: usize, from: f32| from + (i as f32 + 0.5) * resolution;
        let cells = (0..depth).flat_map(|k| (0..height).flat_map(move |j| (0..width).map(move |i| (i, j, k))));
        let values = cells.map(|(i, j, k)| f(at(i, origin[0]), at(j, origin[1]), at(k, origin[2]))).collect();
        Self::volume(size, resolution, origin, values)
    }

    /// Creates a grid of as many dimensions as `origin` has numbers.
    fn of(
        size: [usize; 3],
        channels: usize,
        resolution: f32,
        origin: &[f32],
        values: Vec<f32>,
    ) -> Result<Self, InvalidValue> {
        Self::check_size(size, channels, origin.len())?;
        if !(resolution.is_finite() && resolution > 0.0) {
            return Err(InvalidValue::new("resolution", resolution, "finite and above 0 (meters a cell)"));
        }
        Self::check_origin(origin)?;
        Self::check_values(size, channels, &values)?;
        let ends = if origin.len() == 1 { Ends::Clamp } else { Ends::Outside };
        let ([width, height, depth], origin) = (size, origin.to_vec());
        let layer_height = resolution;
        let (yaw, outside) = (0.0, 0.0);
        Ok(Self { width, height, depth, channels, resolution, layer_height, origin, yaw, ends, outside, values })
    }

    fn check_size(size: [usize; 3], channels: usize, dimensions: usize) -> Result<(), InvalidValue> {
        if dimensions == 0 || dimensions > 3 {
            return Err(InvalidValue::new("origin", format_args!("{dimensions} numbers"), "1, 2 or 3 numbers"));
        }
        for (axis, size) in size.into_iter().enumerate() {
            let field = if dimensions == 1 { "values" } else { ["width", "height", "depth"][axis] };
            let most = if axis < dimensions { MOST } else { 1 };
            if size == 0 || size > most {
                return Err(InvalidValue::new(field, size, format_args!("between 1 and {most}")));
            }
        }
        Self::check_channels(channels)?;
        let ([width, height, depth], most) = (size, if dimensions == 3 { MAX_IN_VOLUME } else { MAX_IN_ALL });
        // The first product is below 2⁴⁶.
        if (width * height).saturating_mul(depth).saturating_mul(channels) > most {
            let (mut field, mut size) = ("width × height", format!("{width} × {height}"));
            if dimensions == 3 {
                (field, size) = ("width × height × depth", format!("{size} × {depth}"));
            }
            if channels > 1 {
                (field, size) = ("samples", format!("{size} × {channels} channels"));
            }
            return Err(InvalidValue::new(field, size, format_args!("at most {most}")));
        }
        Ok(())
    }

    fn check_channels(channels: usize) -> Result<(), InvalidValue> {
        if channels == 0 || channels > MAX_CHANNELS {
            return Err(InvalidValue::new("channels", channels, format_args!("between 1 and {MAX_CHANNELS}")));
        }
        Ok(())
    }

    fn check_origin(origin: &[f32]) -> Result<(), InvalidValue> {
        if !origin.iter().all(|v| v.is_finite()) {
            return Err(InvalidValue::new("origin", format_args!("{origin:?}"), "finite"));
        }
        Ok(())
    }

    fn check_values(size: [usize; 3], channels: usize, values: &[f32]) -> Result<(), InvalidValue> {
        let [width, height, depth] = size;
        let expected = width * height * depth * channels;
        if values.len() != expected {
            let product = match (depth, channels) {
                (1, 1) => "width × height",
                (_, 1) => "width × height × depth",
                _ => "samples × channels",
            };
            return Err(InvalidValue::new(
                "values",
                format_args!("{} numbers", values.len()),
                format_args!("{product} = {expected} numbers"),
            ));
        }
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(InvalidValue::new("values", format_args!("{} at index {i}", values[i]), "finite everywhere"));
        }
        Ok(())
    }

    /// Overwrites some samples: a [`Region`], given row by row from the smallest y; a range of a table; or a region in
    /// some layers of a volume ([`Region::layers`]), given layer by layer. If there are several channels, `values`
    /// holds the samples of the first, then those of the second, ….
    ///
    /// # Errors
    ///
    /// If the region is empty or not within the grid, `values` does not have one number per sample of the region and
    /// channel, or a number is not finite. Then nothing is changed.
    ///
    /// # Example
    ///
    /// ```
    /// use gibbs::{Grid, lang::Region};
    ///
    /// let mut grid = Grid::from_fn(4, 3, 1.0, [0.0, 0.0], |_, _| 0.0)?;
    /// grid.update(Region { column: 1, row: 2, width: 2, height: 1 }, &[5.0, 7.0])?;
    /// assert_eq!(grid.values(), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 7.0, 0.0]);
    ///
    /// let mut table = Grid::table(1.0, 0.0, vec![0.0; 4])?;
    /// table.update(1..3, &[5.0, 7.0])?;
    /// assert_eq!(table.values(), [0.0, 5.0, 7.0, 0.0]);
    /// # Ok::<(), gibbs::InvalidValue>(())
    /// ```
    pub fn update(&mut self, region: impl Into<Block>, values: &[f32]) -> Result<(), InvalidValue> {
        let block = region.into();
        let Block { region: Region { column, row, width, height }, layer, depth } = block;
        let within = |from: usize, count: usize, size: usize| count > 0 && from < size && count <= size - from;
        let axes = [(column, width, self.width), (row, height, self.height), (layer, depth, self.depth)];
        if !axes.into_iter().all(|(from, count, size)| within(from, count, size)) {
            let value = format!("{width} × {height} samples from column {column} and row {row} on");
            let expected = format!("at least one sample, within the {} × {} of the grid", self.width, self.height);
            let (value, expected) = if (depth, self.depth) == (1, 1) {
                (value, expected)
            } else {
                (format!("{value}, in {depth} layers from {layer} on"), format!("{expected} in {} layers", self.depth))
            };
            return Err(InvalidValue::new("region", value, expected));
        }
        Self::check_values([width, height, depth], self.channels, values)?;
        let mut rows = values.chunks_exact(width);
        for of_channel in self.values.chunks_exact_mut(self.width * self.height * self.depth) {
            for k in layer..layer + depth {
                for (j, values) in (row..row + height).zip(&mut rows) {
                    of_channel[(k * self.height + j) * self.width + column..][..width].copy_from_slice(values);
                }
            }
        }
        Ok(())
    }

    /// Moves the grid: its lower-left corner (in meters), about which it is rotated, becomes `origin`; in a table, the
    /// position of its first sample. The samples stay.
    ///
    /// # Errors
    ///
    /// If `origin` does not have as many numbers as the grid has dimensions, or one is not finite. Then nothing is
    /// changed.
    pub fn set_origin<const D: usize>(&mut self, origin: [f32; D]) -> Result<(), InvalidValue> {
        self.set_origin_to(&origin)
    }

    /// As [`set_origin`](Self::set_origin), for an origin whose number of dimensions is run-time data.
    pub(crate) fn set_origin_to(&mut self, origin: &[f32]) -> Result<(), InvalidValue> {
        self.check_dimensions("origin", origin.len())?;
        Self::check_origin(origin)?;
        self.origin.copy_from_slice(origin);
        Ok(())
    }

    fn check_dimensions(&self, field: &'static str, given: usize) -> Result<(), InvalidValue> {
        let own = self.dimensions();
        if given != own {
            let expected = format_args!("{own}, as many as the field has dimensions");
            return Err(InvalidValue::new(field, format_args!("{given} numbers"), expected));
        }
        Ok(())
    }

    /// Returns this field with one more channel, whose samples are in the order of those it has.
    ///
    /// # Errors
    ///
    /// If there are not as many samples as in the other channels, one is not finite, there would be more than 64
    /// channels, or more numbers than fit a field of this kind.
    pub fn with_channel(mut self, values: Vec<f32>) -> Result<Self, InvalidValue> {
        let size = [self.width, self.height, self.depth];
        Self::check_size(size, self.channels + 1, self.dimensions())?;
        Self::check_values(size, 1, &values)?;
        self.values.extend(values);
        self.channels += 1;
        Ok(self)
    }

    /// Returns this table with other ends.
    ///
    /// # Errors
    ///
    /// If it is not a table: with two or three dimensions the value beyond the border is [`outside`](Self::outside).
    pub fn with_ends(mut self, ends: Ends) -> Result<Self, InvalidValue> {
        if self.dimensions() > 1 && ends != Ends::Outside {
            let value = format_args!("{ends:?} with {} dimensions", self.dimensions());
            return Err(InvalidValue::new("ends", value, "Outside, or a table"));
        }
        self.ends = ends;
        Ok(self)
    }

    /// Returns this volume with another distance between the samples along z.
    ///
    /// # Errors
    ///
    /// If `height` is not finite and above 0, or this is not a volume.
    pub fn with_layer_height(mut self, height: f32) -> Result<Self, InvalidValue> {
        if !(height.is_finite() && height > 0.0) {
            return Err(InvalidValue::new("layer_height", height, "finite and above 0"));
        }
        if self.dimensions() < 3 {
            let value = format_args!("of a field with {} dimensions", self.dimensions());
            return Err(InvalidValue::new("layer_height", value, "that of a volume"));
        }
        self.layer_height = height;
        Ok(self)
    }

    /// Returns this grid rotated by `yaw` (in radians, counter-clockwise) about its origin: a volume about the vertical
    /// axis there.
    ///
    /// # Errors
    ///
    /// If `yaw` is not finite, or this is a table.
    pub fn with_yaw(mut self, yaw: f32) -> Result<Self, InvalidValue> {
        if !yaw.is_finite() {
            return Err(InvalidValue::new("yaw", yaw, "finite (radians)"));
        }
        if self.dimensions() == 1 {
            return Err(InvalidValue::new("yaw", "of a table", "that of a field with two or three dimensions"));
        }
        self.yaw = yaw;
        Ok(self)
    }

    /// Returns this grid with another value beyond its border, the same in all channels.
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

    /// The number of dimensions: 1 of a table, 2, or 3 of a volume.
    pub fn dimensions(&self) -> usize {
        self.origin.len()
    }
    /// The number of quantities at each sample.
    pub fn channels(&self) -> usize {
        self.channels
    }
    /// The number of samples along x.
    pub fn width(&self) -> usize {
        self.width
    }
    /// The number of samples along y: 1 of a table.
    pub fn height(&self) -> usize {
        self.height
    }
    /// The number of samples along z: 1 unless this is a volume.
    pub fn depth(&self) -> usize {
        self.depth
    }
    /// The distance between samples (in meters).
    pub fn resolution(&self) -> f32 {
        self.resolution
    }
    /// The distance between the layers of a volume.
    pub fn layer_height(&self) -> f32 {
        self.layer_height
    }
    /// The lower-left corner (in meters), or the position of a table's first sample. It has as many numbers as the grid
    /// has dimensions.
    pub fn origin(&self) -> &[f32] {
        &self.origin
    }
    /// The rotation about the origin (in radians, counter-clockwise).
    pub fn yaw(&self) -> f32 {
        self.yaw
    }
    /// What a table is beyond its ends; [`Ends::Outside`] with two or three dimensions.
    pub fn ends(&self) -> Ends {
        self.ends
    }
    /// The value beyond the border.
    pub fn outside(&self) -> f32 {
        self.outside
    }
    /// The samples, row by row from the smallest y and layer by layer from the smallest z: all of the first channel,
    /// then all of the second, ….
    pub fn values(&self) -> &[f32] {
        &self.values
    }
    /// The region of all samples; of a volume, in each layer.
    pub fn region(&self) -> Region {
        Region { column: 0, row: 0, width: self.width, height: self.height }
    }

    /// Its dimensions and channels.
    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.dimensions(), self.channels]
    }

    /// All samples.
    pub(crate) fn block(&self) -> Block {
        self.region().layers(0..self.depth)
    }

    /// The value at a world position (in meters), exactly as a model samples it.
    ///
    /// # Panics
    ///
    /// If the grid does not have two dimensions: see [`look_up`](Self::look_up).
    pub fn sample(&self, x: f32, y: f32) -> f32 {
        assert_eq!(self.dimensions(), 2, "look_up is for any number of dimensions");
        let header = self.header(0);
        let place = place(&header, [x, y]);
        value(&header, &place, self.corners(0, place.cell))
    }

    /// The derivatives of [`sample`](Self::sample) by x and y; 0 outside and where the border sample is held.
    ///
    /// # Panics
    ///
    /// As for [`sample`](Self::sample).
    pub fn gradient(&self, x: f32, y: f32) -> [f32; 2] {
        assert_eq!(self.dimensions(), 2, "the gradient is that of a grid with two dimensions");
        let header = self.header(0);
        let place = place(&header, [x, y]);
        slopes(&header, &place, self.corners(0, place.cell))
    }

    /// The values of the first `C` channels at a point, exactly as a model looks them up.
    ///
    /// # Errors
    ///
    /// If the point does not have as many coordinates as the grid has dimensions, or the grid has fewer channels.
    pub fn look_up<const D: usize, const C: usize>(&self, point: [f32; D]) -> Result<[f32; C], InvalidValue> {
        self.check_dimensions("point", D)?;
        if C > self.channels {
            let expected = format_args!("at most {}, as many as the field has", self.channels);
            return Err(InvalidValue::new("channels", C, expected));
        }
        let header = self.header(0);
        let place = place(&header, point);
        Ok(std::array::from_fn(|channel| value(&header, &place, self.corners(channel, place.cell))))
    }

    /// The samples of a channel around a point; at the border they are repeated.
    fn corners<const D: usize>(&self, channel: usize, cell: [u32; D]) -> Corners<f32> {
        let [mut i, mut j, mut k] = [0; 3];
        for (axis, cell) in [&mut i, &mut j, &mut k].into_iter().zip(cell) {
            *axis = cell as usize;
        }
        let mut right = (i + 1).min(self.width - 1);
        if self.ends == Ends::Periodic {
            (i, right) = (i % self.width, (i + 1) % self.width);
        }
        let (up, above) = ((j + 1).min(self.height - 1), (k + 1).min(self.depth - 1));
        let at = |i, j, k| self.values[((channel * self.depth + k) * self.height + j) * self.width + i];
        let around = |k| [at(i, j, k), at(i, up, k), at(right, j, k), at(right, up, k)];
        let ([a, b, c, d], [e, f, g, h]) = (around(k), around(above));
        [a, b, c, d, e, f, g, h]
    }
}
