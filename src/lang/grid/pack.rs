//! Grids as look-ups read them: packed samples and a header for each, in one buffer of a device.

use std::sync::Arc;

#[cfg(feature = "gpu")]
use super::changes::{Change, FieldChanges};
use super::{Block, Ends, Grid, Region};
use crate::lang::float_env;
use crate::lang::look_up::{EndsOfTable, HEADER, Header, LookUps};

impl Grid {
    /// The samples that look-ups store along x: a periodic table repeats its first sample.
    fn stored(&self) -> usize {
        self.width + usize::from(self.ends == Ends::Periodic)
    }

    /// The size of its samples in a [`FieldSet`], in numbers.
    pub(super) fn packed_len(&self) -> usize {
        self.header(0).packed_len()
    }

    /// Writes the samples of a block to where `packed`, all samples of this grid in a [`FieldSet`], has them.
    fn pack(&self, block: Block, packed: &mut [f32]) {
        let Block { region, layer, depth } = block;
        if self.dimensions() == 1 {
            return self.pack_table(block, packed);
        }
        let (samples, pairs) = (self.width * self.height, 2 * (self.width + 1) * self.height);
        let stored = packed.len() / (pairs * self.channels);
        for channel in 0..self.channels {
            for k in layer..layer + depth {
                let values = &self.values[(channel * self.depth + k) * samples..][..samples];
                // A volume stores its last layer twice.
                let copies = if k + 2 == stored { 2 } else { 1 };
                for packed in packed[(channel * stored + k) * pairs..].chunks_exact_mut(pairs).take(copies) {
                    self.pack_layer(values, region, packed);
                }
            }
        }
    }

    /// Writes the samples of a region of a layer.
    fn pack_layer(&self, values: &[f32], region: Region, packed: &mut [f32]) {
        let Region { column, row, width, height } = region;
        // The samples are also those above the row below the region.
        for j in row.saturating_sub(1)..row + height {
            let samples = |j: usize| &values[j * self.width + column..][..width];
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

    /// Writes a range of the samples of a table, each followed by that of the next channel, if there is one.
    fn pack_table(&self, block: Block, packed: &mut [f32]) {
        let range = self.header(0).packed_range(block);
        let (last, is_periodic) = (self.width - 1, self.ends == Ends::Periodic);
        let of = |channel: usize, i: usize| self.values.get(channel * self.width + i).copied().unwrap_or(0.0);
        for (plane, packed) in packed.chunks_exact_mut(2 * (self.stored() + 1)).enumerate() {
            let pairs = packed[range.clone()].as_chunks_mut().0;
            for (pair, at) in pairs.iter_mut().zip(range.start / 2..) {
                let i = if is_periodic { at % self.width } else { at.min(last) };
                *pair = [of(2 * plane, i), of(2 * plane + 1, i)];
            }
        }
    }

    /// The header for look-ups, with the samples stored from `offset` on.
    pub(super) fn header(&self, offset: usize) -> Header {
        let (width, n) = (self.stored(), self.width as f32);
        let (dimensions, channels, outside) = (self.dimensions(), self.channels, self.outside);
        let size = [width, self.height];
        let last = size.map(|n| (n - 1) as f32);
        let none = EndsOfTable { reach: 0.5, slopes: 0.0, period: 0.0, frequency: 0.0 };
        let ends = match self.ends {
            Ends::Clamp => EndsOfTable { reach: f32::MAX, ..none },
            Ends::Outside => none,
            // Rounding can leave the wrapped coordinate slightly beyond an end.
            Ends::Periodic => EndsOfTable { slopes: 0.5, period: n, frequency: 1.0 / n, ..none },
        };
        let header =
            |axes, layers, up| Header { axes, size, last, outside, offset, dimensions, channels, layers, up, ends };
        if let [first] = self.origin[..] {
            return header([[1.0 / self.resolution, 0.0, -(first / self.resolution)], [0.0; 3]], 1, [0.0; 3]);
        }
        let (s, c) = (self.yaw.sin() / self.resolution, self.yaw.cos() / self.resolution);
        let [ox, oy] = [self.origin[0], self.origin[1]];
        let axes = [[c, s, -(c * ox + s * oy) - 0.5], [-s, c, (s * ox - c * oy) - 0.5]];
        match self.origin[..] {
            [_, _, z] => {
                let up = [1.0 / self.layer_height, -(z / self.layer_height) - 0.5, (self.depth - 1) as f32];
                header(axes, self.depth + 1, up)
            }
            _ => header(axes, 1, [0.0; 3]),
        }
    }
}

/// A grid, packed for look-ups, plane by plane. Each sample is followed by the one above it (in the last row, by
/// itself), and the last such pair of each row is repeated. So the four samples around any point are contiguous, and
/// one load fetches them.
///
/// A plane holds one channel, and is repeated for each layer of a volume, the last of which is repeated. In a table,
/// which has no rows, each sample is followed by that of the next channel.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::lang) struct Field {
    pub(in crate::lang) header: Header,
    /// Shared by clones, since there may be many.
    samples: Arc<[f32]>,
}

impl Field {
    /// Packs a grid whose samples a device stores from `offset` on.
    fn new(grid: &Grid, offset: usize) -> Self {
        let header = float_env::standard(|| grid.header(offset));
        let mut samples: Arc<[f32]> = std::iter::repeat_n(0.0, grid.packed_len()).collect();
        grid.pack(grid.block(), Arc::make_mut(&mut samples));
        Self { header, samples }
    }

    #[inline(always)]
    pub(in crate::lang) fn samples(&self) -> &[f32] {
        &self.samples[..self.header.packed_len()]
    }

    /// Its dimensions and channels.
    pub(in crate::lang) fn shape(&self) -> [usize; 2] {
        [self.header.dimensions, self.header.channels]
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
                grid.pack(grid.block(), samples);
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

    /// Replaces the samples of a block, which the grid of the field already has.
    pub(crate) fn update(&mut self, index: usize, grid: &Grid, block: Block) {
        grid.pack(block, Arc::make_mut(&mut self.fields[index].samples));
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
        LookUps::of(&self.fields)
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
        if uploaded == Some(changes.version()) {
            return;
        }
        upload(0, &self.headers());
        for (i, Field { header, samples }) in self.fields.iter().enumerate() {
            let plane = header.plane_len();
            match changes.since(uploaded, i) {
                Change::Nothing => (),
                Change::Everything => upload(header.offset, samples),
                Change::Block(block) => {
                    // One write for all rows. A write, or a copy on the device, for each row takes longer unless a row
                    // of the grid has thousands of samples.
                    let range = header.packed_range(block);
                    for (plane, samples) in samples.chunks_exact(plane).enumerate() {
                        upload(header.offset + plane * header.plane_len() + range.start, &samples[range.clone()]);
                    }
                }
            }
        }
    }
}
