//! The weighted mean: one pass over the rows in groups, each relative to its own largest log-weight, then a merge in fixed
//! order. Twins: `shaders/group.wgsl`, `mean_of_rows.wgsl`, `mean_of_draws.wgsl` and `merge.wgsl`.

use pulp::{Simd, WithSimd};

use super::isa::Isa;
use super::threads::Team;
use crate::scalar::math::{Vector, exp, finite};
use crate::scalar::{Lanes, Real, Register};
use crate::update::{GROUP, INVALID, MASKED, SIGNED, Sums, TILE, Update};

/// Numbers that a partial result starts with: its [`Sums`].
pub(crate) const HEADER: usize = size_of::<Sums>() / size_of::<f32>();

/// Numbers in a partial result of `width` coordinates.
pub(crate) fn partial_len(update: &Update) -> usize {
    HEADER + (update.width * update.moments()) as usize
}

/// What the second of a group's sums is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    /// Σ e^{2(ℓ − max)}.
    Squares,
    /// Σ e^{ℓ − max} (ℓ − max), for the divergence of the weights from equal ones.
    Logs,
}

/// Log-weights of one group, which become weights relative to their maximum.
pub(crate) struct Group<'a> {
    pub(crate) second: Second,
    pub(crate) log_weights: &'a mut [f32; GROUP],
}

impl WithSimd for Group<'_> {
    type Output = Sums;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Sums {
        let number = Lanes::<S>::from;
        let mut max = number(MASKED);
        for chunk in self.log_weights.chunks(Lanes::<S>::COUNT) {
            max = max.max(Lanes::load(chunk));
        }
        let max = reduce(max, MASKED, f32::max);
        if max <= MASKED {
            let valid = self.log_weights.iter().filter(|l| **l > INVALID).count() as u32;
            self.log_weights.fill(0.0);
            return Sums { valid, ..Sums::NONE };
        }
        let (mut sum, mut squares, mut logs, mut valid) = (number(0.0), number(0.0), number(0.0), number(0.0));
        for chunk in self.log_weights.chunks_mut(Lanes::<S>::COUNT) {
            let log_weight = Lanes::<S>::load(chunk);
            let counts = log_weight.gt(MASKED);
            let weight = Lanes::choose(counts, exp(log_weight - max), number(0.0));
            sum += weight;
            squares = match self.second {
                Second::Squares => weight.mul_add(weight, squares),
                Second::Logs => weight.mul_add(Lanes::choose(counts, log_weight - max, number(0.0)), squares),
            };
            logs += Lanes::choose(counts, log_weight, number(0.0));
            valid += Lanes::choose(log_weight.gt(INVALID), number(1.0), number(0.0));
            weight.store(chunk);
        }
        let add = |lanes| reduce(lanes, 0.0, |a, b| a + b);
        Sums { max, sum: add(sum), squares: add(squares), logs: add(logs), valid: add(valid) as u32, ..Sums::NONE }
    }
}

/// Weights of one group that are signed and come as they are; what is invalid weighs nothing.
fn signed(weights: &mut [f32; GROUP]) -> Sums {
    let mut sums = Sums::NONE;
    for weight in weights {
        if *weight <= MASKED {
            *weight = 0.0;
            continue;
        }
        // The mean is taken over the valid rows, so that is what their sum counts as.
        (sums.max, sums.sum, sums.valid) = (0.0, sums.sum + 1.0, sums.valid + 1);
        sums.squares += *weight * *weight;
    }
    sums
}

#[inline(always)]
fn reduce<S: Simd>(lanes: Lanes<S>, start: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    let lanes: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&lanes.0));
    lanes.iter().fold(start, |a, b| f(a, *b))
}

/// The sums of several groups as one.
pub(crate) fn merge(groups: &[Sums], second: Second) -> Sums {
    let max = groups.iter().fold(MASKED, |max, group| max.max(group.max));
    let mut all = Sums { max, ..Sums::NONE };
    for group in groups {
        let scale = if group.max > MASKED { exp(group.max - max) } else { 0.0 };
        all.sum += scale * group.sum;
        all.squares += match second {
            Second::Squares => scale * scale * group.squares,
            // Where a group has no weight, its maximum says nothing.
            Second::Logs if scale == 0.0 => 0.0,
            Second::Logs => scale * (group.squares + (group.max - max) * group.sum),
        };
        all.logs += group.logs;
        all.valid += group.valid;
    }
    all
}

/// One group of rows: their log-weights and where they stand.
struct Average<'a> {
    update: &'a Update,
    /// What second moments are taken about, by coordinate; nothing if about 0.
    about: &'a [f32],
    first: usize,
    log_weights: &'a [f32],
    rows: &'a [f32],
    partial: &'a mut [f32],
}

impl WithSimd for Average<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // What does not count is one of two finite numbers from here on.
        let mut weights = [INVALID; GROUP];
        for (weight, log_weight) in weights.iter_mut().zip(self.log_weights) {
            *weight = match *log_weight {
                l if finite(l) => l.max(MASKED),
                f32::NEG_INFINITY => MASKED,
                // The engine's own mark is finite but means the same.
                _ => INVALID,
            };
            if *log_weight == INVALID {
                *weight = INVALID;
            }
        }
        let sums = if self.update.has(SIGNED) {
            signed(&mut weights)
        } else {
            Group { second: Second::Squares, log_weights: &mut weights }.with_simd(simd)
        };
        let Average { update, partial, .. } = self;
        let (header, moments) = partial.split_at_mut(HEADER);
        header.copy_from_slice(bytemuck::cast_slice(std::slice::from_ref(&sums)));
        moments.fill(0.0);
        let (mean, second) = moments.split_at_mut(update.width as usize);
        let rows = Rows { update, about: self.about, first: self.first, rows: self.rows };
        if update.coordinate_stride == TILE as u32 {
            rows.in_tiles::<S>(&weights, mean, second);
        } else {
            rows.one_by_one::<S>(&weights[..self.log_weights.len()], mean, second);
        }
    }
}

/// The rows of one group, from row `first` on.
struct Rows<'a> {
    update: &'a Update,
    about: &'a [f32],
    first: usize,
    rows: &'a [f32],
}

impl Rows<'_> {
    /// Rows in tiles: along the lanes, one coordinate after the other. A row of no weight may hold anything.
    #[inline(always)]
    fn in_tiles<S: Simd>(&self, weights: &[f32; GROUP], mean: &mut [f32], second: &mut [f32]) {
        let width = self.update.width as usize;
        let zero = Lanes::<S>::from(0.0);
        let tiles = self.rows[self.first * width..].chunks_exact(TILE * width);
        for (weights, tile) in weights.chunks_exact(TILE).zip(tiles) {
            for (d, column) in tile.chunks_exact(TILE).enumerate() {
                let about = self.about.get(d).map_or(0.0, |x| *x);
                let (mut sum, mut square) = (zero, zero);
                for lane in (0..TILE).step_by(Lanes::<S>::COUNT) {
                    let (w, v) = (Lanes::load(&weights[lane..]), Lanes::load(&column[lane..]));
                    let v = Lanes::choose(w.is_eq(zero), zero, v);
                    sum = w.mul_add(v, sum);
                    if !second.is_empty() {
                        let off = v - about;
                        square = (w * off).mul_add(off, square);
                    }
                }
                mean[d] += reduce(sum, 0.0, |a, b| a + b);
                if !second.is_empty() {
                    second[d] += reduce(square, 0.0, |a, b| a + b);
                }
            }
        }
    }

    /// Row after row: along the coordinates. A row of no weight is not read.
    #[inline(always)]
    fn one_by_one<S: Simd>(&self, weights: &[f32], mean: &mut [f32], second: &mut [f32]) {
        /// Rows whose sums stay in registers before they go back to memory.
        const ROWS: usize = 16;
        let width = self.update.width as usize;
        let rows = &self.rows[self.first * width..];
        for (weights, rows) in weights.chunks(ROWS).zip(rows.chunks(ROWS * width)) {
            if weights.contains(&0.0) {
                for (weight, row) in weights.iter().zip(rows.chunks_exact(width)).filter(|(weight, _)| **weight != 0.0)
                {
                    add::<S>(std::slice::from_ref(weight), row, mean, second);
                }
            } else {
                add::<S>(weights, rows, mean, second);
            }
        }
    }
}

/// Adds rows times their weights to the mean, and their squares to the second moment if there is one.
#[inline(always)]
fn add<S: Simd>(weights: &[f32], rows: &[f32], mean: &mut [f32], second: &mut [f32]) {
    /// Registers side by side, so that a row is read in long pieces.
    const REGISTERS: usize = 4;
    let (width, count) = (mean.len(), Lanes::<S>::COUNT);
    let mut d = 0;
    while d + REGISTERS * count <= width {
        columns::<S, REGISTERS>(weights, rows, d, mean, second);
        d += REGISTERS * count;
    }
    while d + count <= width {
        columns::<S, 1>(weights, rows, d, mean, second);
        d += count;
    }
    for (weight, row) in weights.iter().zip(rows.chunks_exact(width)) {
        for d in d..width {
            mean[d] += weight * row[d];
            if !second.is_empty() {
                second[d] += weight * row[d] * row[d];
            }
        }
    }
}

/// The same for `R` registers of coordinates from `d` on.
#[inline(always)]
fn columns<S: Simd, const R: usize>(weights: &[f32], rows: &[f32], d: usize, mean: &mut [f32], second: &mut [f32]) {
    let (width, count) = (mean.len(), Lanes::<S>::COUNT);
    let load = |from: &[f32]| -> [Lanes<S>; R] { std::array::from_fn(|r| Lanes::load(&from[d + r * count..])) };
    let mut sum = load(mean);
    for (weight, row) in weights.iter().zip(rows.chunks_exact(width)) {
        let (w, v) = (Lanes::from(*weight), load(row));
        for r in 0..R {
            sum[r] = w.mul_add(v[r], sum[r]);
        }
    }
    for r in 0..R {
        sum[r].store(&mut mean[d + r * count..]);
    }
    if second.is_empty() {
        return;
    }
    let mut sum = load(second);
    for (weight, row) in weights.iter().zip(rows.chunks_exact(width)) {
        let (w, v) = (Lanes::from(*weight), load(row));
        for r in 0..R {
            sum[r] = (w * v[r]).mul_add(v[r], sum[r]);
        }
    }
    for r in 0..R {
        sum[r].store(&mut second[d + r * count..]);
    }
}

/// The weighted mean of the rows of a problem under their log-weights.
pub(crate) struct WeightedMean<'a> {
    pub(crate) team: Team,
    pub(crate) isa: Isa,
    pub(crate) update: &'a Update,
    /// What second moments are taken about; nothing if about 0.
    pub(crate) about: &'a [f32],
    pub(crate) log_weights: &'a [f32],
    pub(crate) rows: &'a [f32],
}

impl WeightedMean<'_> {
    /// `partials` has room for every group; mean (and second moment) end up in `mean`, which is D or 2 D long.
    pub(crate) fn run(&self, partials: &mut [f32], mean: &mut [f32]) -> Sums {
        let Self { update, about, log_weights, rows, .. } = *self;
        let len = partial_len(update);
        self.team.for_each(partials, len, |group, partial| {
            let first = group * GROUP;
            let log_weights = &log_weights[first..log_weights.len().min(first + GROUP)];
            self.isa.run(Average { update, about, first, log_weights, rows, partial });
        });
        let header = |partial: &[f32]| bytemuck::pod_read_unaligned::<Sums>(bytemuck::cast_slice(&partial[..HEADER]));
        let mut all = Sums::NONE;
        for partial in partials.chunks(len) {
            all = merge(&[all, header(partial)], Second::Squares);
        }
        mean.fill(0.0);
        for partial in partials.chunks(len) {
            let max = header(partial).max;
            if max <= MASKED {
                continue;
            }
            let scale = exp(max - all.max) / all.sum;
            for (mean, part) in mean.iter_mut().zip(&partial[HEADER..]) {
                *mean = part.mul_add(scale, *mean);
            }
        }
        all
    }
}
