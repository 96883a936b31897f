//! The weighted mean: one pass over the rows in groups, each relative to its own largest log-weight, then a merge in a
//! fixed order. Twins: `shaders/average/group.wgsl`, `mean_of_rows.wgsl`, `mean_of_draws.wgsl` and `merge.wgsl`.

use std::f32::consts::LN_2;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::pass::{GROUP, INVALID, MASKED, Pass, SIGNED, Sums, TILE};
use super::threads::{DurationEstimate, Parallelism};
use crate::interp::simd::isa::Isa;
use crate::interp::simd::lanes::{Lanes, WIDEST};
use crate::lang::math::{Vector, exp, finite};
use crate::lang::{Real, Register};

/// Weights below this fraction of the largest weight (of the group, of the tile, or of the rows before it) count as
/// zero: even the maximum number of rows, 2²⁵, would together change the mean by less than rounding does. This also
/// keeps products and squares from becoming subnormal, which makes arithmetic a hundred times slower on some
/// processors. Twin: `shaders/average/reduce.wgsl`.
const NEGLIGIBLE: f32 = 1.0 / (1_u64 << 48) as f32;
const LN_NEGLIGIBLE: f32 = -48.0 * LN_2;

/// exp(log_weight − max), or 0 if masked or negligible.
fn relative(log_weight: f32, max: f32) -> f32 {
    let below = log_weight - max;
    if log_weight > MASKED && below > LN_NEGLIGIBLE { exp(below) } else { 0.0 }
}

/// Numbers in the header of a partial result: its [`Sums`].
pub(crate) const HEADER: usize = size_of::<Sums>() / size_of::<f32>();

/// Numbers in a partial result of a pass.
pub(crate) fn partial_len(pass: &Pass) -> usize {
    HEADER + (pass.coordinates * pass.moments()) as usize
}

/// The second sum that is computed for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    /// Σ e^{2(ℓ − max)}.
    Squares,
    /// Σ e^{ℓ − max} (ℓ − max), for the divergence of the weights from uniform ones.
    Logs,
}

/// Log-weights of one group (or tile), which are converted in place to weights relative to the maximum.
pub(crate) struct Group<'a> {
    pub(crate) second: Second,
    pub(crate) log_weights: &'a mut [f32],
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
        let max = max.fold(f32::max);
        if max <= MASKED {
            let valid = self.log_weights.iter().filter(|l| **l > INVALID).count() as u32;
            self.log_weights.fill(0.0);
            return Sums { valid, ..Sums::NONE };
        }
        let [mut sum, mut squares, mut logs, mut valid] = [[number(0.0); WIDEST]; 4];
        for chunk in self.log_weights.chunks_exact_mut(WIDEST) {
            for part in 0..Lanes::<S>::PARTS {
                let chunk = &mut chunk[part * Lanes::<S>::COUNT..];
                let log_weight = Lanes::<S>::load(chunk);
                let below = (log_weight - max).max(LN_NEGLIGIBLE);
                let weight = Lanes::simd_select(below.gt(LN_NEGLIGIBLE), exp(below), number(0.0));
                sum[part] += weight;
                squares[part] = match self.second {
                    Second::Squares => weight.mul_add(weight, squares[part]),
                    Second::Logs => weight.mul_add(below, squares[part]),
                };
                logs[part] += Lanes::simd_select(log_weight.gt(MASKED), log_weight, number(0.0));
                valid[part] += Lanes::simd_select(log_weight.gt(INVALID), number(1.0), number(0.0));
                weight.store(chunk);
            }
        }
        let (sum, squares) = (Lanes::sum(sum), Lanes::sum(squares));
        let (logs, valid) = (Lanes::sum(logs), Lanes::sum(valid));
        Sums { max, sum, squares, logs, valid: valid as u32, ..Sums::NONE }
    }
}

/// Sums of one group of signed weights, which are used unchanged; invalid rows get weight 0.
fn signed(weights: &mut [f32; GROUP]) -> Sums {
    let mut sums = Sums::NONE;
    for weight in weights {
        if *weight <= MASKED {
            *weight = 0.0;
            continue;
        }
        // The mean divides by the number of valid rows, so that number is stored as the sum of the weights.
        (sums.max, sums.sum, sums.valid) = (0.0, sums.sum + 1.0, sums.valid + 1);
        sums.squares += *weight * *weight;
    }
    sums
}

/// Merges the sums of several groups.
pub(crate) fn merge(groups: &[Sums], second: Second) -> Sums {
    let max = groups.iter().fold(MASKED, |max, group| max.max(group.max));
    let mut all = Sums { max, ..Sums::NONE };
    for group in groups {
        let scale = relative(group.max, max);
        all.sum += scale * group.sum;
        all.squares += match second {
            Second::Squares => scale * scale * group.squares,
            // The maximum of a group without weight is meaningless.
            Second::Logs if scale == 0.0 => 0.0,
            Second::Logs => scale * (group.squares + (group.max - max) * group.sum),
        };
        all.logs += group.logs;
        all.valid += group.valid;
    }
    all
}

/// One group of rows: their log-weights and their storage.
struct AverageGroup<'a> {
    pass: &'a Pass,
    /// The point that second moments are taken about, by coordinate; empty for 0.
    about: &'a [f32],
    first: usize,
    log_weights: &'a [f32],
    rows: &'a [f32],
    partial: &'a mut [f32],
}

impl WithSimd for AverageGroup<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Rows of zero weight and invalid rows are mapped to two finite sentinels. (The engine's own sentinel of an
        // invalid row is finite, too.)
        let number = Lanes::<S>::from;
        let (masked, invalid) = (number(MASKED), number(INVALID));
        let mut weights = [INVALID; GROUP];
        weights[..self.log_weights.len()].copy_from_slice(self.log_weights);
        for weights in weights.chunks_exact_mut(Lanes::<S>::COUNT) {
            let l = Lanes::<S>::load(weights);
            let other = Lanes::simd_select(l.simd_eq(number(f32::NEG_INFINITY)), masked, invalid);
            Lanes::simd_select(finite(l) & !l.simd_eq(invalid), l.max(MASKED), other).store(weights);
        }
        let sums = if self.pass.has(SIGNED) {
            signed(&mut weights)
        } else {
            Group { second: Second::Squares, log_weights: &mut weights }.with_simd(simd)
        };
        let AverageGroup { pass, partial, .. } = self;
        let (header, moments) = partial.split_at_mut(HEADER);
        header.copy_from_slice(bytemuck::cast_slice(std::slice::from_ref(&sums)));
        moments.fill(0.0);
        let (mean, second) = moments.split_at_mut(pass.coordinates as usize);
        let rows = Rows { pass, about: self.about, first: self.first, rows: self.rows };
        if pass.coordinate_stride == TILE as u32 {
            rows.in_tiles::<S>(&weights, mean, second);
        } else {
            rows.one_by_one::<S>(&weights[..self.log_weights.len()], mean, second);
        }
    }
}

/// The rows of one group, from row `first` on.
struct Rows<'a> {
    pass: &'a Pass,
    about: &'a [f32],
    first: usize,
    rows: &'a [f32],
}

impl Rows<'_> {
    /// Rows in tiles: vectorized over rows, one coordinate after the other.
    #[inline(always)]
    fn in_tiles<S: Simd>(&self, weights: &[f32; GROUP], mean: &mut [f32], second: &mut [f32]) {
        let width = self.pass.coordinates as usize;
        let tiles = self.rows[self.first * width..].chunks_exact(TILE * width);
        for (weights, tile) in weights.as_chunks::<TILE>().0.iter().zip(tiles) {
            add_tile::<S>(weights, tile, self.about, mean, second);
        }
    }

    /// Row after row: vectorized over coordinates. A row of zero weight is not read.
    #[inline(always)]
    fn one_by_one<S: Simd>(&self, weights: &[f32], mean: &mut [f32], second: &mut [f32]) {
        /// Rows that are accumulated in registers before the sums are stored.
        const ROWS: usize = 16;
        let width = self.pass.coordinates as usize;
        let rows = &self.rows[self.first * width..];
        if width < WIDEST {
            return add_short::<S>(weights, rows, mean, second);
        }
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

/// Adds the weighted rows of a tile to the mean and, if there is one, their weighted squared deviations from `about` to
/// the second moment. A row of zero weight may contain NaN or ∞.
#[inline(always)]
fn add_tile<S: Simd>(weights: &[f32; TILE], tile: &[f32], about: &[f32], mean: &mut [f32], second: &mut [f32]) {
    let counts = |row: &usize| weights[*row..][..WIDEST].iter().any(|w| *w != 0.0);
    // Only the range from the first to the last vector with a nonzero weight is processed.
    let Some(first) = (0..TILE).step_by(WIDEST).find(counts) else { return };
    let last = (first..TILE).step_by(WIDEST).rfind(counts).unwrap_or(first);
    let rows = first..last + WIDEST;
    // With constant bounds, the compiler removes the checks in the loop over coordinates.
    if rows == (0..TILE) {
        add_rows::<S>(weights, 0..TILE, tile, about, mean, second);
    } else {
        add_rows::<S>(weights, rows, tile, about, mean, second);
    }
}

/// `add_tile` for a range of rows.
#[inline(always)]
fn add_rows<S: Simd>(
    weights: &[f32; TILE],
    rows: Range<usize>,
    tile: &[f32],
    about: &[f32],
    mean: &mut [f32],
    second: &mut [f32],
) {
    let (zero, squares) = (Lanes::<S>::from(0.0), !second.is_empty());
    for (d, column) in tile.as_chunks::<TILE>().0.iter().enumerate() {
        let about = about.get(d).map_or(0.0, |x| *x);
        let (mut sum, mut square) = ([zero; WIDEST], [zero; WIDEST]);
        for row in rows.clone().step_by(WIDEST) {
            for part in 0..Lanes::<S>::PARTS {
                let lane = row + part * Lanes::<S>::COUNT;
                let (w, v) = (Lanes::load(&weights[lane..]), Lanes::load(&column[lane..]));
                let v = Lanes::simd_select(w.simd_eq(zero), zero, v);
                sum[part] = w.mul_add(v, sum[part]);
                if squares {
                    let off = v - about;
                    square[part] = (w * off).mul_add(off, square[part]);
                }
            }
        }
        mean[d] += Lanes::sum(sum);
        if squares {
            second[d] += Lanes::sum(square);
        }
    }
}

/// Adds weighted rows to the mean and, if there is one, their weighted squares to the second moment.
#[inline(always)]
fn add<S: Simd>(weights: &[f32], rows: &[f32], mean: &mut [f32], second: &mut [f32]) {
    /// Registers processed at once, so that a row is read in long contiguous runs.
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
            mean[d] = fma::<S>(*weight, row[d], mean[d]);
            if !second.is_empty() {
                second[d] = fma::<S>(*weight * row[d], row[d], second[d]);
            }
        }
    }
}

/// `add` for `R` registers of coordinates from `d` on.
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

/// a·b + c with the same rounding as in vector registers.
#[inline(always)]
fn fma<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    Lanes::<S>::from(a).mul_add(b, c).fold(|first, _| first)
}

/// [`add`] for rows of fewer than [`WIDEST`] coordinates. [`WIDEST`] rows of `width` coordinates fill exactly `width`
/// blocks of [`WIDEST`] lanes, so the lane → (row, column) map repeats every [`WIDEST`] rows. A row of zero weight may
/// contain NaN or ∞.
#[inline(always)]
fn add_short<S: Simd>(weights: &[f32], rows: &[f32], mean: &mut [f32], second: &mut [f32]) {
    const MOST: usize = WIDEST * WIDEST;
    let (zero, lanes, width) = (Lanes::<S>::from(0.0), Lanes::<S>::COUNT, mean.len());
    let numbers = WIDEST * width;
    // The row whose weight each lane takes: the first row of its register, and the offset from that.
    let (mut first, mut behind) = ([0; MOST], [0_u32; MOST]);
    for (row, places) in behind[..numbers].chunks_exact_mut(width).enumerate() {
        places.fill(row as u32);
    }
    for (first, places) in first.iter_mut().zip(behind[..numbers].chunks_exact_mut(lanes)) {
        *first = places[0] as usize;
        places.iter_mut().for_each(|row| *row -= *first as u32);
    }
    let (mut sums, mut squares) = ([0.0; MOST], [0.0; MOST]);
    // Padded so that a full register of weights can be loaded from any row on.
    let mut padded = [0.0; GROUP + WIDEST];
    padded[..weights.len()].copy_from_slice(weights);
    let whole = weights.len() / WIDEST * WIDEST;
    for (row, rows) in (0..whole).step_by(WIDEST).zip(rows.chunks_exact(numbers)) {
        for (register, first) in (0..numbers).step_by(lanes).zip(&first) {
            let behind = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&behind[register..][..lanes]));
            let w = Lanes::<S>::load(&padded[row + first..]).picked(behind);
            let v = Lanes::simd_select(w.simd_eq(zero), zero, Lanes::load(&rows[register..]));
            w.mul_add(v, Lanes::load(&sums[register..])).store(&mut sums[register..]);
            if !second.is_empty() {
                (w * v).mul_add(v, Lanes::load(&squares[register..])).store(&mut squares[register..]);
            }
        }
    }
    for (moments, sums) in [(&mut *mean, &sums[..numbers]), (&mut *second, &squares[..numbers])] {
        for sums in sums.chunks_exact(width) {
            moments.iter_mut().zip(sums).for_each(|(moment, sum)| *moment += sum);
        }
    }
    for (weight, row) in weights[whole..].iter().zip(rows[whole * width..].chunks_exact(width)) {
        if *weight != 0.0 {
            add::<S>(std::slice::from_ref(weight), row, mean, second);
        }
    }
}

/// Converts the log-weights of a tile, relative to `reference`, to weights and merges their sums into `all`. Returns
/// the factors by which the moments of both must be scaled.
pub(crate) fn join_tile(
    isa: Isa,
    pass: &Pass,
    reference: f32,
    log_weights: &mut [f32; TILE],
    all: &mut Sums,
) -> [f32; 2] {
    let sums = isa.run(Group { second: Second::Squares, log_weights });
    join(pass, all, &Sums { reference, ..sums })
}

/// Merges the sums of some rows into `all`, and returns the factors by which the moments of both must be scaled.
fn join(pass: &Pass, all: &mut Sums, more: &Sums) -> [f32; 2] {
    if more.valid == 0 {
        return [1.0, 0.0];
    }
    if all.valid == 0 {
        *all = *more;
        return [0.0, 1.0];
    }
    let reference = all.reference.min(more.reference);
    // The amount by which the common reference lowers log-weights.
    let lower = |sums: &Sums| (sums.reference - reference) * pass.cost_scale / pass.temperature;
    let max_of = |sums: &Sums| if sums.max > MASKED { (sums.max - lower(sums)).max(MASKED) } else { MASKED };
    let max = max_of(all).max(max_of(more));
    let [old, new] = [relative(max_of(all), max), relative(max_of(more), max)];
    // Sums whose maximum is `MASKED` are left out.
    let logs = |sums: &Sums| {
        if max_of(sums) > MASKED { sums.logs - lower(sums) * sums.valid as f32 } else { 0.0 }
    };
    *all = Sums {
        max,
        reference,
        sum: all.sum * old + more.sum * new,
        squares: all.squares * (old * old) + more.squares * (new * new),
        logs: logs(all) + logs(more),
        valid: all.valid + more.valid,
        ..*all
    };
    [old, new]
}

/// Scales moments, then adds the rows of a tile.
pub(crate) struct Add<'a> {
    pub(crate) pass: &'a Pass,
    /// The point that second moments are taken about.
    pub(crate) about: &'a [f32],
    pub(crate) weights: &'a mut [f32; TILE],
    pub(crate) rows: &'a [f32],
    pub(crate) scales: [f32; 2],
    pub(crate) moments: &'a mut [f32],
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { pass, about, weights, rows, scales: [old, new], moments } = self;
        if old != 1.0 {
            moments.iter_mut().for_each(|moment| *moment *= old);
        }
        if new != 1.0 {
            for weight in &mut *weights {
                let scaled = *weight * new;
                *weight = if scaled < NEGLIGIBLE { 0.0 } else { scaled };
            }
        }
        let (mean, second) = moments.split_at_mut(pass.coordinates as usize);
        add_tile::<S>(weights, rows, about, mean, second);
    }
}

/// Merges the averages of consecutive rows, in order: returns the sums, and leaves the moments in `mean`.
pub(crate) fn join_all(pass: &Pass, sums: &[Sums], partials: &[f32], mean: &mut [f32]) -> Sums {
    let mut all = Sums::NONE;
    mean.fill(0.0);
    for (sums, moments) in sums.iter().zip(partials.chunks_exact(mean.len())) {
        let [old, new] = join(pass, &mut all, sums);
        if new == 0.0 {
            continue;
        }
        for (mean, moment) in mean.iter_mut().zip(moments) {
            *mean = *mean * old + moment * new;
        }
    }
    let scale = if all.sum > 0.0 { 1.0 / all.sum } else { 0.0 };
    mean.iter_mut().for_each(|mean| *mean *= scale);
    all
}

/// The weighted mean of the rows of a problem under their log-weights.
pub(crate) struct WeightedMean<'a> {
    pub(crate) parallelism: Parallelism,
    pub(crate) estimate: &'a DurationEstimate,
    pub(crate) isa: Isa,
    pub(crate) pass: &'a Pass,
    /// The point that second moments are taken about; empty for 0.
    pub(crate) about: &'a [f32],
    pub(crate) log_weights: &'a [f32],
    pub(crate) rows: &'a [f32],
}

impl WeightedMean<'_> {
    /// Computes the mean (and second moment) into `mean`, of length D or 2 D. `partials` must have space for every
    /// group.
    pub(crate) fn run(&self, partials: &mut [f32], mean: &mut [f32]) -> Sums {
        let Self { pass, about, log_weights, rows, .. } = *self;
        let len = partial_len(pass);
        self.parallelism.for_each(self.estimate, partials.chunks_mut(len).enumerate(), |(group, partial)| {
            let first = group * GROUP;
            let log_weights = &log_weights[first..log_weights.len().min(first + GROUP)];
            self.isa.run(AverageGroup { pass, about, first, log_weights, rows, partial });
        });
        let header = |partial: &[f32]| bytemuck::pod_read_unaligned::<Sums>(bytemuck::cast_slice(&partial[..HEADER]));
        let mut all = Sums::NONE;
        for partial in partials.chunks(len) {
            all = merge(&[all, header(partial)], Second::Squares);
        }
        mean.fill(0.0);
        for partial in partials.chunks(len) {
            let part = relative(header(partial).max, all.max);
            if part == 0.0 {
                continue;
            }
            let scale = part / all.sum;
            for (mean, part) in mean.iter_mut().zip(&partial[HEADER..]) {
                *mean = part.mul_add(scale, *mean);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::simd::isa::Instructions;
    use crate::kernels::pass::SECOND_MOMENT;
    use crate::lang::random::Random;

    /// Adds sixteen sums as a tree.
    fn tree(mut sums: [f32; WIDEST]) -> f32 {
        let mut n = WIDEST;
        while n > 1 {
            n /= 2;
            for i in 0..n {
                sums[i] += sums[i + n];
            }
        }
        sums[0]
    }

    struct Short<'a>(&'a [f32], &'a [f32], [&'a mut [f32]; 2]);

    impl WithSimd for Short<'_> {
        type Output = ();
        fn with_simd<S: Simd>(self, _: S) {
            let [mean, second] = self.2;
            add_short::<S>(self.0, self.1, mean, second);
        }
    }

    /// Checks every sum against an explicit order that is independent of the vector width.
    #[test]
    fn sums_have_the_same_bits_whatever_the_width_of_a_register() {
        for instructions in [Instructions::Best, Instructions::Avx2] {
            let isa = Isa::new(instructions);
            if isa.to_string() == "no vector instructions" {
                eprintln!("SKIPPED: no fused multiply-add here");
                return;
            }
            sums_have_these_bits(isa);
        }
    }

    fn sums_have_these_bits(isa: Isa) {
        let mut random = Random::new(3);
        let mut numbers = |count: usize| (0..count).map(|_| random.normal()).collect::<Vec<_>>();
        for width in [1, 3, 5, 15] {
            // With and without a second moment; all rows, or a range in the middle.
            for (flags, part) in [(0, 0..TILE), (0, 16..48), (SECOND_MOMENT, 0..TILE), (SECOND_MOMENT, 32..48)] {
                let (rows, about, mut weights) = (numbers(TILE * width), numbers(width), [0.0; TILE]);
                weights[part.clone()].copy_from_slice(&numbers(part.len()));
                let pass = Pass { coordinates: width as u32, flags, ..bytemuck::Zeroable::zeroed() };
                let mut moments = vec![0.0; width * pass.moments() as usize];
                isa.run(Add {
                    pass: &pass,
                    about: &about,
                    weights: &mut weights,
                    rows: &rows,
                    scales: [1.0; 2],
                    moments: &mut moments,
                });
                let (mean, second) = moments.split_at(width);
                for (d, column) in rows.chunks_exact(TILE).enumerate() {
                    let (mut sums, mut squares) = ([0.0; WIDEST], [0.0; WIDEST]);
                    for k in part.clone() {
                        let (w, v, off) = (weights[k], column[k], column[k] - about[d]);
                        sums[k % WIDEST] = w.mul_add(v, sums[k % WIDEST]);
                        squares[k % WIDEST] = (w * off).mul_add(off, squares[k % WIDEST]);
                    }
                    assert_eq!(mean[d].to_bits(), tree(sums).to_bits(), "{width} wide, rows {part:?}");
                    if let Some(second) = second.get(d) {
                        assert_eq!(second.to_bits(), tree(squares).to_bits(), "squares, {width} wide, rows {part:?}");
                    }
                }
            }

            let (weights, rows) = (numbers(50), numbers(50 * width));
            let (mut mean, mut second) = (vec![0.0; width], vec![0.0; width]);
            isa.run(Short(&weights, &rows, [&mut mean, &mut second]));
            for (found, squared) in [(&mean, false), (&second, true)] {
                let (mut sums, mut expected) = (vec![0.0; WIDEST * width], vec![0.0; width]);
                let add = |n: usize, sum: &mut f32| {
                    let weight = weights[n / width] * if squared { rows[n] } else { 1.0 };
                    *sum = weight.mul_add(rows[n], *sum);
                };
                (0..48 * width).for_each(|n| add(n, &mut sums[n % (WIDEST * width)]));
                sums.iter().enumerate().for_each(|(n, sum)| expected[n % width] += sum);
                (48 * width..50 * width).for_each(|n| add(n, &mut expected[n % width]));
                assert_eq!(*found, expected, "row after row, {width} wide");
            }

            let log_weights = numbers(GROUP);
            let mut relative = log_weights.clone();
            let found = isa.run(Group { second: Second::Squares, log_weights: &mut relative });
            let (mut sums, mut logs) = ([0.0; WIDEST], [0.0; WIDEST]);
            for (k, (w, l)) in relative.iter().zip(&log_weights).enumerate() {
                sums[k % WIDEST] += w;
                logs[k % WIDEST] += l;
            }
            assert_eq!((found.sum.to_bits(), found.logs.to_bits()), (tree(sums).to_bits(), tree(logs).to_bits()));
        }
    }
}
