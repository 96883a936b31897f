//! The two quantities used for navigation: the distance to the nearest obstacle, and the cost to go.

use indicatif::ProgressBar;
use rayon::prelude::*;

use crate::map::{Bounds, Cell, Map};

/// Returns the index of the nearest marked cell for every cell of a grid, exactly, by distance between centers; `None`
/// if none is marked.
///
/// Two passes in integers [Meijster, Roerdink & Hesselink 2000]: the nearest mark within each column, then, along each
/// row, the lower envelope of the parabolas of the columns.
pub fn nearest(marked: &[bool], width: usize, height: usize) -> Option<Vec<usize>> {
    if !marked.contains(&true) {
        return None;
    }
    // Sweep up, then down, for the row of the nearest mark in each column.
    const NONE: u32 = u32::MAX;
    let mut row_of = vec![NONE; width * height];
    for j in 0..height {
        let (below, here) = row_of.split_at_mut(j * width);
        for i in 0..width {
            here[i] = match (marked[j * width + i], j) {
                (true, _) => j as u32,
                (false, 0) => NONE,
                (false, _) => below[(j - 1) * width + i],
            };
        }
    }
    for j in (0..height.saturating_sub(1)).rev() {
        let (here, above) = row_of[j * width..].split_at_mut(width);
        for i in 0..width {
            if above[i] != NONE && (here[i] == NONE || above[i].abs_diff(j as u32) < (j as u32).abs_diff(here[i])) {
                here[i] = above[i];
            }
        }
    }
    let far = (width + height) as u32;
    let mut result = vec![0; width * height];
    let rows = result.par_chunks_mut(width).zip(row_of.par_chunks(width)).enumerate();
    rows.for_each_init(Vec::new, |envelope, (j, (result, row_of))| {
        let gap = |row: u32| if row == NONE { far } else { row.abs_diff(j as u32) };
        // Between centers, in half cells.
        let columns = row_of.iter().enumerate().map(|(i, &row)| (2 * i as i64, (2 * i64::from(gap(row))).pow(2)));
        lower_envelope::<0>(columns, width, envelope);
        let mut right = width;
        for &Parabola { middle, from, .. } in envelope.iter().rev() {
            let i = middle as usize / 2;
            result[from as usize..right].fill(row_of[i] as usize * width + i);
            right = from as usize;
        }
    });
    Some(result)
}

/// The parabola (p − middle)² + height over the positions p of a row (in half cells).
struct Parabola {
    middle: i64,
    height: i64,
    /// The first cell for which this parabola is the lowest.
    from: i64,
}

impl Parabola {
    fn at(&self, position: i64) -> i64 {
        (position - self.middle).pow(2) + self.height
    }
}

/// Returns the parabolas that are the lowest somewhere, from left to right. Cell x of `width` is at position 2x +
/// `FIRST`, and the middles are even and increase. Where two are equally low, the left one counts.
fn lower_envelope<const FIRST: i64>(
    parabolas: impl Iterator<Item = (i64, i64)>,
    width: usize,
    envelope: &mut Vec<Parabola>,
) {
    envelope.clear();
    for (middle, height) in parabolas {
        let mut next = Parabola { middle, height, from: 0 };
        while let Some(last) = envelope.last()
            && last.at(2 * last.from + FIRST) > next.at(2 * last.from + FIRST)
        {
            envelope.pop();
        }
        if let Some(last) = envelope.last() {
            // The last position at which the parabola before is no higher, and the first cell beyond it.
            let same = (middle * middle - last.middle * last.middle + height - last.height)
                .div_euclid(2 * (middle - last.middle));
            next.from = (same - FIRST).div_euclid(2) + 1;
        }
        if next.from < width as i64 {
            envelope.push(next);
        }
    }
}

/// The distance from everything that a robot may not touch: occupied cells, unknown cells, the border of the map.
pub struct Clearance<'a> {
    map: &'a Map,
    /// The squared distance from the center of each cell to the nearest edge of a blocked cell, in half cells and hence
    /// a whole number; 0 in blocked cells.
    squares: Vec<u32>,
}

/// Returns the distance (in meters) from a point to the nearest edge of a blocked cell or the border of the map, or
/// `limit` if that is less. It searches no farther than `limit`, and needs no [`Clearance`].
pub fn clearance_up_to(map: &Map, point: [f64; 2], limit: f64) -> f64 {
    let [px, py] = map.to_cells(point);
    let [w, h] = [map.width as f64, map.height as f64];
    let reach = limit / map.resolution;
    let mut best = reach.min(px).min(w - px).min(py).min(h - py).max(0.0).powi(2);
    let range =
        |p: f64, size: f64| (p - reach).floor().clamp(0.0, size) as usize..(p + reach).ceil().clamp(0.0, size) as usize;
    for j in range(py, h) {
        for i in range(px, w) {
            if map.cells[j * map.width + i] != Cell::Free {
                best = best.min(gap(px, i as i64).powi(2) + gap(py, j as i64).powi(2));
            }
        }
    }
    best.sqrt() * map.resolution
}

/// The distance of a coordinate from cell `low`, which ends at `low + 1` (in cells).
fn gap(p: f64, low: i64) -> f64 {
    (low as f64 - p).max(p - (low + 1) as f64).max(0.0)
}

/// Computes the squares of [`Clearance`] for one row, given the distance of each cell's center to the nearest edge of a
/// blocked cell in its column (in half cells; 0 in a blocked cell).
///
/// Seen from another column, a blocked cell is as near as the side of its column that faces the viewer. Sides are at
/// even positions and centers at odd ones. So the sides, each with the lesser distance of the two columns that it
/// separates, are the parabolas of a lower envelope, which is compared with the cell's own column at the end.
/// Everything beyond the map is blocked.
fn row_of_squares(gaps: &[u16], squares: &mut [u32], envelope: &mut Vec<Parabola>) {
    let width = gaps.len();
    let side = |k: usize| match (k.checked_sub(1), gaps.get(k)) {
        (Some(left), Some(right)) => i64::from(gaps[left].min(*right)).pow(2),
        _ => 0,
    };
    lower_envelope::<1>((0..=width).map(|k| (2 * k as i64, side(k))), width, envelope);
    let mut right = width;
    for parabola in envelope.iter().rev() {
        for x in parabola.from as usize..right {
            squares[x] = parabola.at(2 * x as i64 + 1).min(i64::from(gaps[x]).pow(2)) as u32;
        }
        right = parabola.from as usize;
    }
}

impl<'a> Clearance<'a> {
    /// Computes distances in `map`, exact up to rounding: cells are squares here, not points.
    pub fn new(map: &'a Map) -> Self {
        let width = map.width;
        // Sweeps all columns at once, up and then down. The nearest edge is half a cell away beside a blocked cell, or
        // else a cell farther than in the cell before.
        let farther = |gap: u16| gap.saturating_add(1 + u16::from(gap != 0));
        let mut gaps = vec![0_u16; map.cells.len()];
        let beyond = vec![0; width];
        for j in 0..map.height {
            let (below, here) = gaps.split_at_mut(j * width);
            let below = if j == 0 { &beyond } else { &below[(j - 1) * width..] };
            for ((gap, below), cell) in here.iter_mut().zip(below).zip(&map.cells[j * width..][..width]) {
                *gap = if *cell == Cell::Free { farther(*below) } else { 0 };
            }
        }
        for j in (0..map.height).rev() {
            let (here, above) = gaps[j * width..].split_at_mut(width);
            let above = if above.is_empty() { &beyond } else { &above[..width] };
            here.iter_mut().zip(above).for_each(|(gap, above)| *gap = (*gap).min(farther(*above)));
        }
        let mut squares = vec![0; map.cells.len()];
        squares
            .par_chunks_mut(width)
            .zip(gaps.par_chunks(width))
            .for_each_init(Vec::new, |envelope, (squares, gaps)| row_of_squares(gaps, squares, envelope));
        Self { map, squares }
    }

    /// Returns the exact distance (in meters) from a point of the world to the nearest edge of a blocked cell; 0 in a
    /// blocked cell and beyond the map.
    pub fn at(&self, point: [f64; 2]) -> f64 {
        let Some(cell) = self.map.cell_at(point) else { return 0.0 };
        let (w, h) = (self.map.width as i64, self.map.height as i64);
        let [px, py] = self.map.to_cells(point);
        let (ci, cj) = ((cell % self.map.width) as i64, (cell / self.map.width) as i64);
        if self.map.cells[cell] != Cell::Free {
            return 0.0;
        }
        // The point is within √½ of its cell's center, so the nearest blocked square is between d and d + √2 from that
        // center, and its own center at most √½ farther: only a thin ring is searched.
        let d = f64::from(self.squares[cell]).sqrt() / 2.0;
        let outer = d + 1.5 * std::f64::consts::SQRT_2;
        let border = px.min(w as f64 - px).min(py).min(h as f64 - py);
        let mut best = border * border;
        for dy in -(outer as i64)..=outer as i64 {
            let half = |r: f64| (r * r - (dy * dy) as f64).max(0.0).sqrt();
            let (inner, outer) = (half(d).floor() as i64, half(outer) as i64);
            for dx in (-outer..=-inner).chain(inner.max(1 - inner)..=outer) {
                let (i, j) = (ci + dx, cj + dy);
                if (0..w).contains(&i) && (0..h).contains(&j) && self.map.cells[(j * w + i) as usize] != Cell::Free {
                    best = best.min(gap(px, i).powi(2) + gap(py, j).powi(2));
                }
            }
        }
        best.sqrt() * self.map.resolution
    }

    /// The distance from a cell's center (in meters).
    pub fn of_cell(&self, cell: usize) -> f64 {
        f64::from(self.squares[cell]).sqrt() / 2.0 * self.map.resolution
    }
}

/// The clearance that a robot must keep, and that it prefers.
#[derive(Debug, Clone, Copy)]
pub struct Comfort {
    /// Cells nearer than this to an obstacle are closed (in meters).
    pub radius: f64,
    /// Within this margin beyond the radius (in meters), a meter of way costs more.
    pub margin: f64,
    /// The additional cost per meter at the radius itself; 0 gives the plain geodesic distance.
    pub weight: f64,
}

impl Comfort {
    /// The cost of a meter of way at some clearance; `None` where the robot does not fit.
    fn slowness(&self, clearance: f64) -> Option<f64> {
        let lack = ((self.radius + self.margin - clearance) / self.margin).clamp(0.0, 1.0);
        (clearance >= self.radius).then_some(1.0 + self.weight * lack * lack)
    }
}

/// The geodesic distance to a goal over the cells where a robot fits.
///
/// The length of a way is ∫ (1 + weight · lack²) ds, where `lack` grows from 0 to 1 over the comfort margin: driving
/// close to a wall counts as a detour. Since this is part of the metric, and not a separate penalty, the field has no
/// local minima: by construction, every open cell has a neighbor nearer the goal.
pub struct CostToGo<'a> {
    map: &'a Map,
    /// The distance from the center of each cell (in meters); infinite where the goal is unreachable.
    open: Vec<f32>,
    /// The largest finite value (in meters).
    most: f64,
}

/// The slope of the field where the robot may not be (in meters per meter).
const RISE: f64 = 3.0;
/// Buckets of the front per cell width.
const BUCKETS: f64 = 2.0;
/// A limited march covers paths up to this much longer than the shortest (in meters).
const DETOUR: f64 = 10.0;
/// Downsampling factor of the coarse map that bounds the shortest path.
const COARSE: usize = 4;

/// Cost per meter, indexed by squared clearance in half cells; infinite where the robot does not fit.
struct Slowness {
    comfort: Comfort,
    resolution: f64,
    /// From this index on, a meter costs one.
    far: f64,
    table: Vec<f32>,
}

impl Slowness {
    fn new(comfort: Comfort, resolution: f64) -> Self {
        let far = (2.0 * (comfort.radius + comfort.margin) / resolution).powi(2).ceil();
        let mut slowness = Self { comfort, resolution, far, table: Vec::new() };
        // Bounded so that the table fits into a cache.
        slowness.table = (0..far.min(65_536.0) as u32).map(|square| slowness.compute(square)).collect();
        slowness
    }

    fn compute(&self, square: u32) -> f32 {
        let clearance = f64::from(square).sqrt() / 2.0 * self.resolution;
        self.comfort.slowness(clearance).map_or(f32::INFINITY, |slowness| slowness as f32)
    }

    fn at(&self, square: u32) -> f32 {
        match self.table.get(square as usize) {
            Some(slowness) => *slowness,
            None if f64::from(square) >= self.far => 1.0,
            None => self.compute(square),
        }
    }
}

/// Limits a march to cells that a robot at `from` can use.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// The position of the robot, in cells of the map.
    from: [f64; 2],
    /// Cells whose cost plus straight distance to `from` exceeds this (in meters) are skipped.
    longest: f64,
}

/// A gap that leaves less than this on either side is used only if there is no other way (in meters).
const SPARE: f64 = 0.02;
/// Width of the comfort margin beyond the radius (in meters), and the extra weight at contact: see [`Comfort`].
const COMFORT: (f64, f64) = (0.3, 3.0);

impl<'a> CostToGo<'a> {
    /// Computes the cost to go for a robot of some radius at `from`, from every cell if `whole`, else as
    /// [`between`](Self::between); `None` if there is no way. It prefers a way with some clearance to spare.
    pub fn comfortable(
        map: &'a Map,
        clearance: &Clearance,
        radius: f64,
        goal: [f64; 2],
        from: [f64; 2],
        whole: bool,
        bar: &ProgressBar,
    ) -> Option<Self> {
        [SPARE, 0.0].into_iter().find_map(|spare| {
            let comfort = Comfort { radius: radius + spare, margin: COMFORT.0, weight: COMFORT.1 };
            match whole {
                true => Self::new(map, clearance, comfort, goal, bar).filter(|way| way.from(from).is_some()),
                false => Self::between(map, clearance, comfort, goal, from, bar),
            }
        })
    }

    /// Computes the cost to go from every cell; `None` if the robot does not fit at the goal.
    pub fn new(
        map: &'a Map,
        clearance: &Clearance,
        comfort: Comfort,
        goal: [f64; 2],
        bar: &ProgressBar,
    ) -> Option<Self> {
        Self::march(map, &clearance.squares, clearance.at(goal), comfort, goal, None, bar)
    }

    /// Computes the cost to go from `start` and from all cells on ways from there that are not much longer than the
    /// shortest; elsewhere it may be infinite. `None` if there is no way.
    ///
    /// This is faster than [`new`](Self::new) if most of a large map is irrelevant.
    pub fn between(
        map: &'a Map,
        clearance: &Clearance,
        comfort: Comfort,
        goal: [f64; 2],
        start: [f64; 2],
        bar: &ProgressBar,
    ) -> Option<Self> {
        let (room, from) = (clearance.at(goal), map.to_cells(start));
        let reaches = |way: &Self| way.from(start).is_some();
        // The coarse map uses the least clearance of each block, so its paths are never shorter than those of the fine
        // map.
        let coarse = Map {
            width: map.width / COARSE,
            height: map.height / COARSE,
            resolution: map.resolution * COARSE as f64,
            cells: Vec::new(),
            ..*map
        };
        let mut squares = vec![0; coarse.width * coarse.height];
        if !squares.is_empty() {
            squares.par_chunks_mut(coarse.width).enumerate().for_each(|(j, row)| {
                for (i, square) in row.iter_mut().enumerate() {
                    let rows = (0..COARSE).map(|y| (j * COARSE + y) * map.width + i * COARSE);
                    let least = rows.filter_map(|at| clearance.squares[at..][..COARSE].iter().min()).min();
                    *square = least.map_or(0, |least| least / (COARSE * COARSE) as u32);
                }
            });
            let longest = CostToGo::march(&coarse, &squares, room, comfort, goal, None, bar)?.from(start);
            let limit = longest.map(|longest| Limit { from, longest: longest + DETOUR });
            drop(squares);
            let found = Self::march(map, &clearance.squares, room, comfort, goal, limit, bar)?;
            if reaches(&found) {
                return Some(found);
            }
            // Without a limit, the march covered the whole map.
            limit?;
        }
        Self::new(map, clearance, comfort, goal, bar).filter(reaches)
    }

    /// Runs first-order fast marching [Sethian 1996] from `goal`, which is `room` meters from the nearest obstacle;
    /// `None` if the robot does not fit there. `squares` are those of [`Clearance`].
    ///
    /// The front is kept in buckets half a cell wide [Yatziv, Bartesaghi & Sapiro 2006], which takes linear time. A
    /// cell that is improved after it was processed is processed again, so that the order within a bucket does not
    /// matter.
    fn march(
        map: &'a Map,
        squares: &[u32],
        room: f64,
        comfort: Comfort,
        goal: [f64; 2],
        limit: Option<Limit>,
        bar: &ProgressBar,
    ) -> Option<Self> {
        let (w, h, resolution) = (map.width, map.height, map.resolution);
        let slowness = Slowness::new(comfort, resolution);
        let mut way = Self { map, open: vec![f32::INFINITY; w * h], most: 0.0 };

        // Cells around the goal are seeded with their exact distance, because the errors of the front are largest where
        // it is most curved. Within that disc every meter must cost one; cells next to the goal are always seeded,
        // unless an obstacle is closer.
        let goal_cell = map.to_cells(goal);
        if room < comfort.radius {
            return None;
        }
        let disc =
            ((room - comfort.radius - comfort.margin) / resolution - 1.0).min(20.0).max((room / resolution).min(1.5));
        // The front is never wider than the disc or the longest step of a cell.
        let widest = disc.max(1.0) * (1.0 + comfort.weight) * BUCKETS;
        let mut buckets = vec![Vec::new(); (widest as usize + 3).next_power_of_two()];
        let mask = buckets.len() - 1;
        let bucket_of = |time: f32| (f64::from(time) / resolution * BUCKETS) as usize;
        let mut waiting = 0_usize;
        let reach = disc.ceil() as usize;
        let (gi, gj) = (goal_cell[0] as usize, goal_cell[1] as usize);
        for j in gj.saturating_sub(reach)..(gj + reach + 1).min(h) {
            for i in gi.saturating_sub(reach)..(gi + reach + 1).min(w) {
                let d = (i as f64 + 0.5 - goal_cell[0]).hypot(j as f64 + 0.5 - goal_cell[1]);
                let slow = slowness.at(squares[j * w + i]);
                if d <= disc && slow.is_finite() {
                    let time = (d * resolution * f64::from(slow)) as f32;
                    way.open[j * w + i] = time;
                    buckets[bucket_of(time) & mask].push((i as u32, j as u32, time));
                    waiting += 1;
                }
            }
        }

        let useless = |i: usize, j: usize, time: f32| {
            limit.is_some_and(|Limit { from: [x, y], longest }| {
                let straight = (i as f64 + 0.5 - x).hypot(j as f64 + 0.5 - y) * resolution;
                f64::from(time) + straight > longest
            })
        };
        let mut now = 0;
        let mut bucket = Vec::new();
        while waiting > 0 {
            std::mem::swap(&mut bucket, &mut buckets[now & mask]);
            while !bucket.is_empty() {
                waiting -= bucket.len();
                for (i, j, time) in bucket.drain(..) {
                    let (i, j) = (i as usize, j as usize);
                    let cell = j * w + i;
                    // Outdated by a lower cost, or outside the limit.
                    if time != way.open[cell] || useless(i, j, time) {
                        continue;
                    }
                    let mut visit = |i: usize, j: usize| {
                        if let Some(found) = way.improve(i, j, time, squares, &slowness) {
                            // A cost that rounds to below the front counts as on it.
                            buckets[bucket_of(found).max(now) & mask].push((i as u32, j as u32, found));
                            waiting += 1;
                        }
                    };
                    if i > 0 {
                        visit(i - 1, j);
                    }
                    if i + 1 < w {
                        visit(i + 1, j);
                    }
                    if j > 0 {
                        visit(i, j - 1);
                    }
                    if j + 1 < h {
                        visit(i, j + 1);
                    }
                }
                std::mem::swap(&mut bucket, &mut buckets[now & mask]);
            }
            now += 1;
            if now.is_multiple_of(64) {
                bar.set_message(format!("the way to the goal: {:.0} m", now as f64 / BUCKETS * resolution));
            }
        }
        way.most = way.open.par_iter().copied().filter(|cost| cost.is_finite()).reduce(|| 0.0, f32::max).into();
        Some(way)
    }

    /// Updates a cell's cost from its neighbors and returns it, if that lowers it. `front` is the cost of a neighbor
    /// that has changed.
    fn improve(&mut self, i: usize, j: usize, front: f32, squares: &[u32], slowness: &Slowness) -> Option<f32> {
        let (w, h) = (self.map.width, self.map.height);
        let cell = j * w + i;
        // A cell never becomes cheaper than the neighbor from which it is reached.
        if self.open[cell] <= front {
            return None;
        }
        let slow = slowness.at(squares[cell]);
        if slow.is_infinite() {
            return None;
        }
        let at = |inside: bool, cell: usize| if inside { self.open[cell] } else { f32::INFINITY };
        let a = f64::from(at(i > 0, cell.wrapping_sub(1)).min(at(i + 1 < w, cell + 1)));
        let b = f64::from(at(j > 0, cell.wrapping_sub(w)).min(at(j + 1 < h, cell + w)));
        let step = f64::from(slow) * self.map.resolution;
        // |∇T| = slowness, by upwind differences along both axes, or along the nearer one alone.
        let time = if (a - b).abs() < step {
            0.5 * (a + b + (2.0 * step * step - (a - b).powi(2)).sqrt())
        } else {
            a.min(b) + step
        } as f32;
        (time < self.open[cell]).then(|| {
            self.open[cell] = time;
            time
        })
    }

    /// Returns the cost to go from a point of the world (in meters, with the comfort weight), or `None` if there is no
    /// way.
    ///
    /// A robot that just fits may be in a cell whose center is closed; then the best neighboring cell counts.
    pub fn from(&self, point: [f64; 2]) -> Option<f64> {
        let cell = self.map.cell_at(point)?;
        let (w, h) = (self.map.width, self.map.height);
        let (i, j) = (cell % w, cell / w);
        let rows = j.saturating_sub(1)..(j + 2).min(h);
        let around = rows.flat_map(|j| (i.saturating_sub(1)..(i + 2).min(w)).map(move |i| j * w + i));
        let best = around.map(|cell| self.open[cell]).fold(f32::INFINITY, f32::min);
        let here = self.open[cell];
        Some(if here.is_finite() { here } else { best }.into()).filter(|cost: &f64| cost.is_finite())
    }

    /// The largest cost to go of all cells where there is a way (in meters).
    pub fn most(&self) -> f64 {
        self.most
    }

    /// Interpolates the cost to go between the centers of cells; `None` in a cell where there is no way.
    pub fn smooth(&self, point: [f64; 2]) -> Option<f64> {
        let cell = self.map.cell_at(point)?;
        let here = f64::from(self.open[cell]);
        let [x, y] = self.map.to_cells(point).map(|v| (v - 0.5).max(0.0));
        let (right, up) = ((x as usize + 1).min(self.map.width - 1), (y as usize + 1).min(self.map.height - 1));
        let at =
            |i: usize, j: usize| Some(f64::from(self.open[j * self.map.width + i])).filter(|cost| cost.is_finite());
        let corner = |i: usize, j: usize| at(i, j).unwrap_or(here);
        let row = |j: usize| corner(x as usize, j) * (1.0 - x.fract()) + corner(right, j) * x.fract();
        here.is_finite().then(|| row(y as usize) * (1.0 - y.fract()) + row(up) * y.fract())
    }

    /// Returns the cost to go of the cells within some bounds, row by row. It is extended into closed cells, rising
    /// with the distance to the nearest open one, so that it is finite everywhere.
    pub fn extended(&self, Bounds { low, high }: Bounds) -> Vec<f32> {
        let (w, h) = (high[0] - low[0], high[1] - low[1]);
        let rows = (low[1]..high[1]).map(|j| &self.open[j * self.map.width..][low[0]..high[0]]);
        let open: Vec<f32> = rows.flatten().copied().collect();
        let reached: Vec<_> = open.iter().map(|cost| cost.is_finite()).collect();
        // A closed cell takes the value of the nearest open one and adds a rise. Extending from the nearest open cell,
        // not the cheapest, keeps values from leaking through walls.
        let Some(nearest) = nearest(&reached, w, h) else {
            return vec![self.most as f32; w * h];
        };
        let extended = nearest.into_par_iter().enumerate().map(|(cell, from)| {
            let gap = ((cell % w).abs_diff(from % w) as f64).hypot((cell / w).abs_diff(from / w) as f64);
            (f64::from(open[from]) + RISE * gap * self.map.resolution) as f32
        });
        extended.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::tests::sketch;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    /// Computes the cost to go to a goal on the whole map.
    fn march<'a>(map: &'a Map, clearance: &Clearance, comfort: Comfort, goal: [f64; 2]) -> Option<CostToGo<'a>> {
        CostToGo::new(map, clearance, comfort, goal, &ProgressBar::hidden())
    }

    fn whole(map: &Map) -> Bounds {
        Bounds { low: [0; 2], high: [map.width, map.height] }
    }

    fn random_map(seed: u64, width: usize, height: usize, blocked: f64) -> Map {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut map = sketch(&["."], 0.1);
        (map.width, map.height) = (width, height);
        let mut cell = || match rng.random::<f64>() {
            p if p < 0.5 * blocked => Cell::Occupied,
            p if p < blocked => Cell::Unknown,
            _ => Cell::Free,
        };
        map.cells = (0..width * height).map(|_| cell()).collect();
        map
    }

    /// The distance from a point to everything that is blocked, cell by cell.
    fn brute(map: &Map, point: [f64; 2]) -> f64 {
        let [x, y] = map.to_cells(point);
        let (w, h) = (map.width as f64, map.height as f64);
        let border = x.min(w - x).min(y).min(h - y);
        let gap = |p: f64, low: usize| (low as f64 - p).max(p - low as f64 - 1.0).max(0.0);
        let blocked = (0..map.cells.len()).filter(|&at| map.cells[at] != Cell::Free);
        let squares = blocked.map(|at| gap(x, at % map.width).hypot(gap(y, at / map.width)));
        squares.fold(border, f64::min) * map.resolution
    }

    #[test]
    fn nearest_marks_agree_with_brute_force() {
        let mut rng = StdRng::seed_from_u64(1);
        for (w, h, density) in [(1, 1, 1.0), (1, 40, 0.1), (40, 1, 0.1), (31, 17, 0.01), (31, 17, 0.2), (13, 29, 0.9)] {
            let mut marked: Vec<bool> = (0..w * h).map(|_| rng.random_bool(density)).collect();
            marked[w * h / 2] = true;
            let square = |a: usize, b: usize| (a % w).abs_diff(b % w).pow(2) + (a / w).abs_diff(b / w).pow(2);
            for (at, &found) in nearest(&marked, w, h).unwrap().iter().enumerate() {
                let best = (0..w * h).filter(|&b| marked[b]).map(|b| square(at, b)).min();
                assert!(marked[found] && Some(square(at, found)) == best);
            }
        }
        assert_eq!(nearest(&[false; 6], 3, 2), None);
    }

    #[test]
    fn clearance_is_exact_at_any_point() {
        for (seed, blocked) in [(0, 0.3), (1, 0.02), (2, 0.002), (3, 0.0)] {
            let map = Map { origin: [4.0, -2.0], yaw: -0.4, ..random_map(seed, 37, 23, blocked) };
            let clearance = Clearance::new(&map);
            let mut rng = StdRng::seed_from_u64(seed);
            for _ in 0..300 {
                let point = map.to_world([rng.random_range(0.0..37.0), rng.random_range(0.0..23.0)]);
                assert!((clearance.at(point) - brute(&map, point)).abs() < 1e-9);
            }
            for at in 0..map.cells.len() {
                let center = map.to_world([(at % 37) as f64 + 0.5, (at / 37) as f64 + 0.5]);
                assert!((clearance.of_cell(at) - brute(&map, center)).abs() < 1e-9);
            }
            assert_eq!(clearance.at([1e3, 0.0]), 0.0);
        }
    }

    const PLAIN: Comfort = Comfort { radius: 0.1, margin: 0.1, weight: 0.0 };

    #[test]
    fn open_space_is_euclidean() {
        let map = sketch(&[&".".repeat(120); 80], 0.05);
        let goal = [1.5, 2.0];
        let field = march(&map, &Clearance::new(&map), PLAIN, goal).unwrap();
        for point in [[4.5, 2.0], [0.5, 0.5], [5.0, 3.5], [5.5, 1.0], [1.5, 3.5]] {
            let [i, j] = map.to_cells(point).map(f64::floor);
            let [x, y] = map.to_world([i + 0.5, j + 0.5]);
            let exact = (x - goal[0]).hypot(y - goal[1]);
            let found = field.from(point).unwrap();
            assert!((found - exact).abs() < 0.02 * exact, "{found} for {exact}");
        }
    }

    #[test]
    fn the_way_leads_round_a_wall() {
        // A wall from the bottom up to one meter below the top, and the goal straight behind it.
        let row = |wall: bool| if wall { ".".repeat(60) + "#" + &".".repeat(60) } else { ".".repeat(121) };
        let rows: Vec<_> = (0..80).map(|j| row(j >= 20)).collect();
        let map = sketch(&rows, 0.05);
        let field = march(&map, &Clearance::new(&map), PLAIN, [4.5, 1.0]).unwrap();
        // The shortest path: tangents to circles of the robot's radius about each corner of the wall, and arcs between.
        let tangent = |from: [f64; 2], corner: [f64; 2]| {
            let (dx, dy) = (from[0] - corner[0], from[1] - corner[1]);
            let d = dx.hypot(dy);
            let length = (d * d - 0.01).sqrt();
            (length, (dy / dx).abs().atan() + (0.1 / d).asin())
        };
        let (a, turn_a) = tangent([1.525, 1.025], [3.0, 3.0]);
        let (b, turn_b) = tangent([4.5, 1.0], [3.05, 3.0]);
        let exact = a + b + 0.05 + 0.1 * (turn_a + turn_b);
        let found = field.from([1.525, 1.025]).unwrap();
        assert!((found - exact).abs() < 0.04 * exact, "{found} for {exact}");
    }

    #[test]
    fn a_closed_room_is_unreachable_and_finite() {
        let map = sketch(
            &["..........", "..#######.", "..#.....#.", "..#.....#.", "..#.....#.", "..#######.", ".........."],
            0.1,
        );
        let comfort = Comfort { radius: 0.02, ..PLAIN };
        let field = march(&map, &Clearance::new(&map), comfort, [0.15, 0.35]).unwrap();
        assert_eq!(field.from([0.55, 0.35]), None);
        assert!(field.from([0.95, 0.35]).is_some());
        assert!(field.extended(whole(&map)).iter().all(|v| v.is_finite()));
        assert!(march(&map, &Clearance::new(&map), comfort, [0.25, 0.35]).is_none(), "a goal in a wall");
    }

    #[test]
    fn there_is_no_local_minimum_but_the_goal() {
        let comfort = Comfort { radius: 0.05, margin: 0.3, weight: 3.0 };
        for seed in 0..20 {
            let mut map = random_map(seed, 60, 40, 0.03);
            map.cells[20 * 60 + 30] = Cell::Free;
            let clearance = Clearance::new(&map);
            let Some(field) = march(&map, &clearance, comfort, [3.05, 2.05]) else { continue };
            let values = field.extended(whole(&map));
            for cell in (0..map.cells.len()).filter(|&cell| cell != 20 * 60 + 30) {
                let (i, j) = (cell % 60, cell / 60);
                let rows = j.saturating_sub(1)..(j + 2).min(40);
                let around = rows.flat_map(|j| (i.saturating_sub(1)..(i + 2).min(60)).map(move |i| j * 60 + i));
                let least = around.map(|c| values[c]).fold(f32::INFINITY, f32::min);
                // In closed cells the extension may have kinks between regions of two nearest cells; only open cells
                // matter.
                if field.open[cell].is_finite() {
                    assert!(least < values[cell], "seed {seed}, cell {i}, {j}");
                }
            }
        }
    }

    #[test]
    fn clearance_near_a_point_needs_no_distances() {
        for (seed, blocked) in [(0, 0.3), (1, 0.02), (2, 0.002), (3, 0.0)] {
            let map = Map { origin: [4.0, -2.0], yaw: -0.4, ..random_map(seed, 37, 23, blocked) };
            let mut rng = StdRng::seed_from_u64(seed);
            for _ in 0..300 {
                let point = map.to_world([rng.random_range(0.0..37.0), rng.random_range(0.0..23.0)]);
                for limit in [0.02, 0.15, 0.7, 100.0] {
                    let found = clearance_up_to(&map, point, limit);
                    assert!((found - brute(&map, point).min(limit)).abs() < 1e-9, "{found}, {limit}");
                }
            }
        }
    }

    /// Computes the same costs by an ordered queue: slow, but simple enough to be a reference.
    fn by_heap(map: &Map, clearance: &Clearance, comfort: Comfort, start: &CostToGo, goal: [f64; 2]) -> Vec<f64> {
        let (w, h) = (map.width, map.height);
        let goal = map.to_cells(goal);
        let room = clearance.at(map.to_world(goal)) / map.resolution;
        let disc = (room - (comfort.radius + comfort.margin) / map.resolution - 1.0).min(20.0).max(room.min(1.5));
        let slow = |cell: usize| comfort.slowness(clearance.of_cell(cell));
        let mut open = vec![f64::INFINITY; w * h];
        let mut fixed = vec![false; w * h];
        for cell in (0..w * h).filter(|&cell| slow(cell).is_some()) {
            let d = ((cell % w) as f64 + 0.5 - goal[0]).hypot((cell / w) as f64 + 0.5 - goal[1]);
            if d <= disc {
                open[cell] = f64::from(start.open[cell]);
            }
        }
        let by_cost = |open: &[f64], fixed: &[bool]| {
            let cells = (0..w * h).filter(|&cell| !fixed[cell] && open[cell].is_finite());
            cells.min_by(|&a, &b| open[a].total_cmp(&open[b]))
        };
        while let Some(cell) = by_cost(&open, &fixed) {
            fixed[cell] = true;
            for j in 0..h {
                for i in 0..w {
                    let next = j * w + i;
                    if fixed[next] || (cell % w).abs_diff(i) + (cell / w).abs_diff(j) != 1 {
                        continue;
                    }
                    let Some(slow) = slow(next) else { continue };
                    let at = |inside: bool, cell: usize| if inside { open[cell] } else { f64::INFINITY };
                    let a = at(i > 0, next.wrapping_sub(1)).min(at(i + 1 < w, next + 1));
                    let b = at(j > 0, next.wrapping_sub(w)).min(at(j + 1 < h, next + w));
                    let step = slow * map.resolution;
                    let both = 0.5 * (a + b + (2.0 * step * step - (a - b).powi(2)).sqrt());
                    let time = if (a - b).abs() < step { both } else { a.min(b) + step };
                    open[next] = open[next].min(time);
                }
            }
        }
        open
    }

    #[test]
    fn buckets_give_what_an_ordered_queue_gives() {
        let comfort = Comfort { radius: 0.05, margin: 0.3, weight: 3.0 };
        let mut compared = 0;
        for seed in 0..6 {
            let mut map = random_map(seed, 41, 23, 0.02);
            map.cells[11 * 41 + 20] = Cell::Free;
            let (clearance, goal) = (Clearance::new(&map), [2.05, 1.15]);
            let Some(way) = march(&map, &clearance, comfort, goal) else { continue };
            for (found, expected) in way.open.iter().zip(by_heap(&map, &clearance, comfort, &way, goal)) {
                let same = f64::from(*found) == expected || (f64::from(*found) - expected).abs() < 1e-5;
                assert!(same, "seed {seed}: {found} for {expected}");
            }
            compared += 1;
        }
        assert!(compared > 2);
    }

    #[test]
    fn between_two_points_costs_are_those_of_the_whole() {
        // A long hall, and a wall across it with a gap, once at the far side and once just wide enough.
        for (gap, radius) in [(60..80, 0.1), (38..43, 0.11)] {
            let mut map = sketch(&vec![".".repeat(900); 80], 0.05);
            for j in (0..80).filter(|j| !gap.contains(j)) {
                map.cells[j * 900 + 130] = Cell::Occupied;
            }
            let (clearance, comfort) = (Clearance::new(&map), Comfort { radius, margin: 0.2, weight: 3.0 });
            let (goal, start) = ([9.0, 1.0], [3.0, 1.5]);
            let all = march(&map, &clearance, comfort, goal).unwrap();
            let some = CostToGo::between(&map, &clearance, comfort, goal, start, &ProgressBar::hidden()).unwrap();
            for (x, y) in [(0.5, 0.3), (3.0, 1.5), (1.0, 3.7), (6.4, 3.0), (8.0, 2.0), (12.0, 3.0)] {
                assert_eq!(some.from([x, y]), all.from([x, y]), "at {x}, {y}");
            }
            assert!(all.from([40.0, 2.0]).is_some());
            // Ways through a gap that is missing in the coarse map are not limited.
            assert_eq!(some.from([40.0, 2.0]).is_none(), gap.start == 60, "{gap:?}");
            let nowhere = CostToGo::between(&map, &clearance, comfort, goal, [6.53, 1.0], &ProgressBar::hidden());
            assert!(nowhere.is_none());
        }
    }

    #[test]
    fn an_extension_within_bounds_is_that_of_the_whole() {
        let mut map = random_map(7, 60, 40, 0.01);
        map.cells[20 * 60 + 30] = Cell::Free;
        let comfort = Comfort { radius: 0.05, margin: 0.3, weight: 3.0 };
        let way = march(&map, &Clearance::new(&map), comfort, [3.05, 2.05]).unwrap();
        let all = way.extended(whole(&map));
        let part = way.extended(Bounds { low: [10, 5], high: [50, 35] });
        for (i, j) in (20..40).flat_map(|i| (15..25).map(move |j| (i, j))) {
            assert_eq!(part[(j - 5) * 40 + i - 10], all[j * 60 + i]);
        }
        let nowhere = way.extended(Bounds { low: [0, 0], high: [1, 1] });
        assert!(nowhere[0].is_finite());
    }

    #[test]
    fn a_crop_to_a_region_keeps_its_distances() {
        for seed in 0..10 {
            let map = random_map(seed, 60, 40, 0.45);
            let Some(from) = map.cells.iter().position(|cell| *cell == Cell::Free) else { continue };
            let (bounds, _) = map.region(from, from);
            let cropped = map.clone().crop(bounds);
            let (all, some) = (Clearance::new(&map), Clearance::new(&cropped));
            for at in (0..map.cells.len()).filter(|&at| map.region(from, at).1) {
                let point = map.to_world([(at % 60) as f64 + 0.5, (at / 60) as f64 + 0.5]);
                assert!((some.at(point) - all.at(point)).abs() < 1e-9, "seed {seed}, cell {at}");
            }
        }
    }
}
