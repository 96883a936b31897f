//! The two fields that a robot navigates by: the distance to the nearest obstacle, and the cost to go.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use anyhow::Result;
use gibbs::Grid;

use crate::map::{Cell, Map};

/// For every cell of a grid, the index of the nearest marked cell, centre to centre, exactly; `None` if none is marked.
///
/// Two passes of whole numbers [Meijster, Roerdink & Hesselink 2000]: the nearest mark within each column, then, along each
/// row, the lower envelope of the parabolas that the columns give.
pub fn nearest(marked: &[bool], width: usize, height: usize) -> Option<Vec<usize>> {
    if !marked.contains(&true) {
        return None;
    }
    // Down and up each column: the row of the nearest mark in it, and how far that is.
    let far = (width + height) as i64;
    let mut row_of = vec![0; width * height];
    let mut gap = vec![far; width * height];
    for i in 0..width {
        let mut last = None;
        for j in (0..height).chain((0..height).rev()) {
            let at = j * width + i;
            if marked[at] {
                last = Some(j);
            }
            if let Some(row) = last
                && (j.abs_diff(row) as i64) < gap[at]
            {
                (row_of[at], gap[at]) = (row, j.abs_diff(row) as i64);
            }
        }
    }
    let mut result = vec![0; width * height];
    let mut envelope: Vec<(usize, i64)> = Vec::with_capacity(width);
    for j in 0..height {
        let gap = &gap[j * width..][..width];
        let square = |x: i64, i: usize| (x - i as i64).pow(2) + gap[i].pow(2);
        envelope.clear();
        for i in 0..width {
            while let Some(&(last, from)) = envelope.last()
                && square(from, last) > square(from, i)
            {
                envelope.pop();
            }
            let from = envelope.last().map_or(0, |&(last, _)| {
                let (a, b) = (last as i64, i as i64);
                // The first whole x at which column b is nearer than column a.
                1 + (b * b - a * a + gap[i].pow(2) - gap[last].pow(2)).div_euclid(2 * (b - a))
            });
            if from < width as i64 {
                envelope.push((i, from));
            }
        }
        let mut right = width as i64;
        for &(i, from) in envelope.iter().rev() {
            for x in from..right {
                result[j * width + x as usize] = row_of[j * width + i] * width + i;
            }
            right = from;
        }
    }
    Some(result)
}

/// How far a point is from everything that a robot may not touch: occupied cells, unknown cells, the end of the map.
pub struct Clearance<'a> {
    map: &'a Map,
    /// From the centre of each cell to the nearest edge of a blocked cell (in cells); 0 in blocked ones.
    centre: Vec<f64>,
}

impl<'a> Clearance<'a> {
    /// Distances in `map`, exact to rounding: cells are squares here, not points.
    pub fn new(map: &'a Map) -> Self {
        // On a lattice of half the spacing, with a ring of blocked cells around it, every corner and every middle of an edge
        // has a point of its own, and the point of a blocked square nearest to a cell's centre is always one of them.
        let (w, h) = (2 * map.width + 5, 2 * map.height + 5);
        let mut marked = vec![false; w * h];
        for j in 0..map.height + 2 {
            for i in 0..map.width + 2 {
                let inside = (1..=map.width).contains(&i) && (1..=map.height).contains(&j);
                if !inside || map.cells[(j - 1) * map.width + i - 1] != Cell::Free {
                    for y in 2 * j..=2 * j + 2 {
                        marked[y * w + 2 * i..][..3].fill(true);
                    }
                }
            }
        }
        let nearest = nearest(&marked, w, h).unwrap_or_default();
        let centre = (0..map.width * map.height).map(|at| {
            let (x, y) = (2 * (at % map.width) + 3, 2 * (at / map.width) + 3);
            let mark = nearest[y * w + x];
            (x.abs_diff(mark % w) as f64).hypot(y.abs_diff(mark / w) as f64) / 2.0
        });
        Self { map, centre: centre.collect() }
    }

    /// The exact distance (in metres) from a point of the world to the nearest edge of a blocked cell; 0 in one, and 0
    /// beyond the map.
    pub fn at(&self, point: [f64; 2]) -> f64 {
        let Some(cell) = self.map.cell_at(point) else { return 0.0 };
        let (w, h) = (self.map.width as i64, self.map.height as i64);
        let [px, py] = self.map.to_cells(point);
        let (ci, cj) = ((cell % self.map.width) as i64, (cell / self.map.width) as i64);
        if self.map.cells[cell] != Cell::Free {
            return 0.0;
        }
        // The point is within √½ of its cell's centre, so the square it is looking for is between d and d + √2 from that
        // centre, and the square's own centre is another √½ away at most: a thin ring.
        let d = self.centre[cell];
        let outer = d + 1.5 * std::f64::consts::SQRT_2;
        let border = px.min(w as f64 - px).min(py).min(h as f64 - py);
        let mut best = border * border;
        for dy in -(outer as i64)..=outer as i64 {
            let half = |r: f64| (r * r - (dy * dy) as f64).max(0.0).sqrt();
            let (inner, outer) = (half(d).floor() as i64, half(outer) as i64);
            for dx in (-outer..=-inner).chain(inner.max(1 - inner)..=outer) {
                let (i, j) = (ci + dx, cj + dy);
                if (0..w).contains(&i) && (0..h).contains(&j) && self.map.cells[(j * w + i) as usize] != Cell::Free {
                    let gap = |p: f64, low: i64| (low as f64 - p).max(p - (low + 1) as f64).max(0.0);
                    best = best.min(gap(px, i).powi(2) + gap(py, j).powi(2));
                }
            }
        }
        best.sqrt() * self.map.resolution
    }

    /// The distance from a cell's centre (in metres).
    pub fn of_cell(&self, cell: usize) -> f64 {
        self.centre[cell] * self.map.resolution
    }

    /// The distances as a field for a model; 0 beyond the map.
    pub fn field(&self) -> Result<Grid> {
        field(self.map, (0..self.centre.len()).map(|cell| self.of_cell(cell) as f32).collect(), 0.0)
    }
}

/// How a robot wants to keep away from obstacles.
#[derive(Debug, Clone, Copy)]
pub struct Comfort {
    /// Cells nearer than this to an obstacle are closed (in metres).
    pub radius: f64,
    /// Up to this much beyond the radius, a metre of way counts for more (in metres).
    pub margin: f64,
    /// How many metres more it counts at the radius itself; 0 gives the plain geodesic distance.
    pub weight: f64,
}

impl Comfort {
    /// What a metre of way counts at some clearance; `None` where the robot does not fit.
    fn slowness(&self, clearance: f64) -> Option<f64> {
        let lack = ((self.radius + self.margin - clearance) / self.margin).clamp(0.0, 1.0);
        (clearance >= self.radius).then_some(1.0 + self.weight * lack * lack)
    }
}

/// The geodesic distance to a goal over the cells where a robot fits.
///
/// The length of a way is ∫ (1 + weight · lack²) ds, where `lack` grows from 0 to 1 over the comfort margin: walking close to
/// a wall is a detour. Putting that into the metric, and not into a penalty beside it, is what leaves the field without
/// local minima: from every open cell some neighbour is nearer the goal, by the way it was computed.
pub struct CostToGo<'a> {
    map: &'a Map,
    /// From the centre of each cell (in metres); infinite where the goal cannot be reached from.
    open: Vec<f64>,
    /// The same, carried on into closed cells so that it rises away from the nearest open one.
    extended: Vec<f64>,
}

/// How steeply the extended field rises where the robot may not be (in metres a metre).
const RISE: f64 = 3.0;

impl<'a> CostToGo<'a> {
    /// Fast marching [Sethian 1996], first order, from `goal`; `None` if the robot does not fit there.
    pub fn new(map: &'a Map, clearance: &Clearance, comfort: Comfort, goal: [f64; 2]) -> Option<Self> {
        let (w, h, resolution) = (map.width, map.height, map.resolution);
        let count = w * h;
        let slowness: Vec<_> = (0..count).map(|cell| comfort.slowness(clearance.of_cell(cell))).collect();
        let mut open = vec![f64::INFINITY; count];
        // Numbers that are not negative stand in the order of their bit patterns, and those have a total order.
        let mut heap = BinaryHeap::new();

        // Around the goal the distance is known: that spares the front its worst errors, which it makes where it is most
        // curved. The disc must be one where every metre counts as one; the cells next to the goal start in any case, unless a wall is between.
        let goal_cell = map.to_cells(goal);
        let room = clearance.at(goal);
        if room < comfort.radius {
            return None;
        }
        let disc =
            ((room - comfort.radius - comfort.margin) / resolution - 1.0).min(20.0).max((room / resolution).min(1.5));
        let reach = disc.ceil() as usize;
        let (gi, gj) = (goal_cell[0] as usize, goal_cell[1] as usize);
        for j in gj.saturating_sub(reach)..(gj + reach + 1).min(h) {
            for i in gi.saturating_sub(reach)..(gi + reach + 1).min(w) {
                let d = (i as f64 + 0.5 - goal_cell[0]).hypot(j as f64 + 0.5 - goal_cell[1]);
                if let (true, Some(slow)) = (d <= disc, slowness[j * w + i]) {
                    open[j * w + i] = d * resolution * slow;
                    heap.push((Reverse(open[j * w + i].to_bits()), j * w + i));
                }
            }
        }

        while let Some((Reverse(time), cell)) = heap.pop() {
            if time != open[cell].to_bits() {
                continue; // Found sooner in the meantime.
            }
            for next in neighbours(cell, w, h).into_iter().flatten() {
                let Some(slow) = slowness[next] else { continue };
                let least = |a: Option<usize>, b: Option<usize>| {
                    let at = |cell: Option<usize>| cell.map_or(f64::INFINITY, |cell| open[cell]);
                    at(a).min(at(b))
                };
                let [left, right, below, above] = neighbours(next, w, h);
                let (a, b) = (least(left, right), least(below, above));
                let step = slow * resolution;
                // |∇T| = slowness, by upwind differences along both axes, or along the nearer one alone.
                let time = if (a - b).abs() < step {
                    0.5 * (a + b + (2.0 * step * step - (a - b).powi(2)).sqrt())
                } else {
                    a.min(b) + step
                };
                if time < open[next] {
                    open[next] = time;
                    heap.push((Reverse(time.to_bits()), next));
                }
            }
        }

        // A closed cell takes the value of the nearest open one and adds a rise. Going by the nearest, not by the cheapest,
        // keeps what lies beyond a wall from shining through it.
        let reached: Vec<_> = open.iter().map(|t| t.is_finite()).collect();
        let nearest = nearest(&reached, w, h)?;
        let extended = nearest.iter().enumerate().map(|(cell, &from)| {
            let gap = ((cell % w).abs_diff(from % w) as f64).hypot((cell / w).abs_diff(from / w) as f64);
            open[from] + RISE * gap * resolution
        });
        let extended = extended.collect();
        Some(Self { map, open, extended })
    }

    /// The cost to go from a point of the world (in metres, with the comfort weight), or `None` if there is no way.
    ///
    /// A robot that just fits may stand in a cell whose centre is closed; then the best cell around it counts.
    pub fn from(&self, point: [f64; 2]) -> Option<f64> {
        let cell = self.map.cell_at(point)?;
        let (w, h) = (self.map.width, self.map.height);
        let (i, j) = (cell % w, cell / w);
        let rows = j.saturating_sub(1)..(j + 2).min(h);
        let around = rows.flat_map(|j| (i.saturating_sub(1)..(i + 2).min(w)).map(move |i| j * w + i));
        let best = around.map(|cell| self.open[cell]).fold(f64::INFINITY, f64::min);
        let here = self.open[cell];
        Some(if here.is_finite() { here } else { best }).filter(|cost| cost.is_finite())
    }

    /// The cost to go from a cell's centre; infinite where there is no way.
    pub fn of_cell(&self, cell: usize) -> f64 {
        self.open[cell]
    }

    /// The extended values as a field for a model: finite everywhere, larger beyond the map than on it.
    pub fn field(&self) -> Result<Grid> {
        let most = self.extended.iter().copied().fold(0.0, f64::max);
        field(self.map, self.extended.iter().map(|&v| v as f32).collect(), most as f32 + 1.0)
    }
}

/// The cells left of, right of, below and above a cell.
fn neighbours(cell: usize, width: usize, height: usize) -> [Option<usize>; 4] {
    let (i, j) = (cell % width, cell / width);
    [
        (i > 0).then(|| cell - 1),
        (i + 1 < width).then(|| cell + 1),
        (j > 0).then(|| cell - width),
        (j + 1 < height).then(|| cell + width),
    ]
}

/// Values of a map's cells as a field in the world.
fn field(map: &Map, values: Vec<f32>, outside: f32) -> Result<Grid> {
    let origin = map.origin.map(|v| v as f32);
    let grid = Grid::new(map.width, map.height, map.resolution as f32, origin, values)?;
    Ok(grid.with_yaw(map.yaw as f32)?.with_outside(outside)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::tests::sketch;
    use rand::{Rng, SeedableRng, rngs::StdRng};

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
                let centre = map.to_world([(at % 37) as f64 + 0.5, (at / 37) as f64 + 0.5]);
                assert!((clearance.of_cell(at) - brute(&map, centre)).abs() < 1e-9);
            }
            assert_eq!(clearance.at([1e3, 0.0]), 0.0);
        }
    }

    const PLAIN: Comfort = Comfort { radius: 0.1, margin: 0.1, weight: 0.0 };

    #[test]
    fn open_space_is_euclidean() {
        let map = sketch(&[&".".repeat(120); 80], 0.05);
        let goal = [1.5, 2.0];
        let field = CostToGo::new(&map, &Clearance::new(&map), PLAIN, goal).unwrap();
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
        // A wall from the bottom up to one metre below the top, and the goal straight behind it.
        let row = |wall: bool| if wall { ".".repeat(60) + "#" + &".".repeat(60) } else { ".".repeat(121) };
        let rows: Vec<_> = (0..80).map(|j| row(j >= 20)).collect();
        let map = sketch(&rows, 0.05);
        let field = CostToGo::new(&map, &Clearance::new(&map), PLAIN, [4.5, 1.0]).unwrap();
        // The taut string: a tangent to a circle of the robot's radius about each corner of the wall, arcs between.
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
        let field = CostToGo::new(&map, &Clearance::new(&map), comfort, [0.15, 0.35]).unwrap();
        assert_eq!(field.from([0.55, 0.35]), None);
        assert!(field.from([0.95, 0.35]).is_some());
        assert!(field.field().unwrap().values().iter().all(|v| v.is_finite()));
        assert!(CostToGo::new(&map, &Clearance::new(&map), comfort, [0.25, 0.35]).is_none(), "a goal in a wall");
    }

    #[test]
    fn there_is_no_local_minimum_but_the_goal() {
        let comfort = Comfort { radius: 0.05, margin: 0.3, weight: 3.0 };
        for seed in 0..20 {
            let mut map = random_map(seed, 60, 40, 0.03);
            map.cells[20 * 60 + 30] = Cell::Free;
            let clearance = Clearance::new(&map);
            let Some(field) = CostToGo::new(&map, &clearance, comfort, [3.05, 2.05]) else { continue };
            let grid = field.field().unwrap();
            for cell in (0..map.cells.len()).filter(|&cell| cell != 20 * 60 + 30) {
                let (i, j) = (cell % 60, cell / 60);
                let rows = j.saturating_sub(1)..(j + 2).min(40);
                let around = rows.flat_map(|j| (i.saturating_sub(1)..(i + 2).min(60)).map(move |i| j * 60 + i));
                let least = around.map(|c| grid.values()[c]).fold(f32::INFINITY, f32::min);
                // In closed cells the rise may fold where two nearest cells compete; what counts is where robots are.
                if field.of_cell(cell).is_finite() {
                    assert!(least < grid.values()[cell], "seed {seed}, cell {i}, {j}");
                }
            }
        }
    }
}
