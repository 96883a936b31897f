//! The two fields that the planner samples: of the whole map, or of a window around the robot if the map is large.

use anyhow::{Result, ensure};
use gibbs::Grid;

use crate::distance::{Clearance, CostToGo};
use crate::map::{Bounds, Map};

/// The largest field (in cells). An adapter stores 8 bytes a cell, and many bind at most 128 MiB for both fields.
pub const MOST_CELLS: usize = 1 << 22;
/// The coarsest resolution of a downsampled field (in meters a cell).
const COARSEST: f64 = 0.05;
/// The maximum distance of the robot from the middle of its window, as a fraction of the plan's reach.
const DRIFT: f64 = 0.5;

/// Fields that follow the robot.
pub struct Fields<'a> {
    map: &'a Map,
    clearance: &'a Clearance<'a>,
    cost_to_go: &'a CostToGo<'a>,
    /// Half the side of the window, and the maximum distance of the robot from its middle (in cells); `None` if the
    /// fields cover the whole map.
    window: Option<[usize; 2]>,
    /// Cells of the map along a cell of the fields.
    step: usize,
    /// The cell in the middle of the window.
    middle: [usize; 2],
    grids: [Grid; 2],
}

impl<'a> Fields<'a> {
    /// Creates fields for a robot at `start` whose plans get no farther than `reach` (in meters), with at most `most`
    /// cells, usually [`MOST_CELLS`].
    ///
    /// # Errors
    ///
    /// If plans reach so far that the fields would be too coarse.
    pub fn new(
        map: &'a Map,
        clearance: &'a Clearance<'a>,
        cost_to_go: &'a CostToGo<'a>,
        start: [f64; 2],
        reach: f64,
        most: usize,
    ) -> Result<Self> {
        let nothing = || Grid::new(1, 1, 1.0, [0.0; 2], vec![0.0]);
        let grids = [nothing()?, nothing()?];
        let mut fields = Self { map, clearance, cost_to_go, window: None, step: 1, middle: [0; 2], grids };
        if map.cells.len() > most {
            let side = map.width.max(map.height);
            // At most the whole map: the reach of a plan may exceed any number of cells.
            let cells = |meters: f64| ((meters / map.resolution).ceil() as usize).min(side);
            let drift = cells(DRIFT * reach).max(1);
            // A window is cut to whole cells of the fields, and half a cell along its border is not interpolated.
            let half = |step: usize| (cells(reach) + drift + 2 * step).min(side);
            let along = |size: usize, step: usize| (2 * half(step) + 1).min(size) / step;
            // An odd number, so that a cell of the fields has a cell of the map in its middle.
            let fits = |step: &usize| along(map.width, *step) * along(map.height, *step) <= most;
            fields.step = (1..=side).step_by(2).find(fits).unwrap_or(side);
            let half = half(fields.step);
            let coarse = fields.step as f64 * map.resolution;
            ensure!(
                fields.step == 1 || coarse <= COARSEST,
                "plans that reach {reach:.0} m ahead need fields of {coarse:.2} m a cell on this map, coarser than \
                 {COARSEST} m: choose a shorter --horizon, or a map of at most {most} cells"
            );
            fields.window = Some([half, drift]);
        }
        fields.middle = fields.cell(start);
        fields.grids = fields.show()?;
        Ok(fields)
    }

    /// The distance to obstacles and the cost to go, as models number them.
    pub fn grids(&self) -> &[Grid; 2] {
        &self.grids
    }

    /// Recenters the window if the robot at `point` has drifted too far. Returns whether the fields changed.
    pub fn follow(&mut self, point: [f64; 2]) -> Result<bool> {
        let Some([_, drift]) = self.window else { return Ok(false) };
        let here = self.cell(point);
        if here[0].abs_diff(self.middle[0]).max(here[1].abs_diff(self.middle[1])) <= drift {
            return Ok(false);
        }
        self.middle = here;
        self.grids = self.show()?;
        Ok(true)
    }

    /// The nearest cell of the map.
    fn cell(&self, point: [f64; 2]) -> [usize; 2] {
        let [i, j] = self.map.to_cells(point);
        [(i as usize).min(self.map.width - 1), (j as usize).min(self.map.height - 1)]
    }

    /// Returns the bounds of the window. Its size is constant, so it is moved back where it would leave the map.
    fn bounds(&self) -> Bounds {
        let size = [self.map.width, self.map.height];
        let Some([half, _]) = self.window else { return Bounds { low: [0; 2], high: size } };
        // Whole cells of the fields.
        let side = size.map(|size| (2 * half + 1).min(size) / self.step * self.step);
        let low = [0, 1].map(|axis| self.middle[axis].saturating_sub(side[axis] / 2).min(size[axis] - side[axis]));
        Bounds { low, high: [low[0] + side[0], low[1] + side[1]] }
    }

    fn show(&self) -> Result<[Grid; 2]> {
        let bounds = self.bounds();
        let Bounds { low, high } = bounds;
        let (width, step) = (high[0] - low[0], self.step);
        let costs = self.cost_to_go.extended(bounds);
        let middles = |axis: usize| (step / 2..high[axis] - low[axis]).step_by(step);
        let cells = || middles(1).flat_map(|j| middles(0).map(move |i| (i, j)));
        let distance =
            |(i, j): (usize, usize)| self.clearance.of_cell((low[1] + j) * self.map.width + low[0] + i) as f32;
        let distances = cells().map(distance).collect();
        let costs: Vec<f32> = cells().map(|(i, j)| costs[j * width + i]).collect();
        // Beyond the map a robot is in an obstacle, and farther from the goal than anywhere within.
        let most = costs.iter().copied().fold(0.0, f32::max) + 1.0;
        let grid = |values: Vec<f32>, outside: f32| -> Result<Grid> {
            let origin = self.map.to_world(low.map(|v| v as f64)).map(|v| v as f32);
            let size = middles(0).len();
            let resolution = (step as f64 * self.map.resolution) as f32;
            let grid = Grid::new(size, values.len() / size, resolution, origin, values)?;
            Ok(grid.with_yaw(self.map.yaw as f32)?.with_outside(outside)?)
        };
        Ok([grid(distances, 0.0)?, grid(costs, most)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance::Comfort;
    use crate::map::Cell;
    use crate::map::tests::sketch;
    use indicatif::ProgressBar;

    const COMFORT: Comfort = Comfort { radius: 0.1, margin: 0.2, weight: 3.0 };

    fn hall() -> Map {
        let mut map = sketch(&vec![".".repeat(400); 120], 0.05);
        for j in 0..70 {
            map.cells[j * 400 + 130] = Cell::Occupied;
            map.cells[(119 - j) * 400 + 260] = Cell::Unknown;
        }
        Map { yaw: 0.4, ..map }
    }

    #[test]
    fn a_window_shows_what_the_whole_shows() {
        // The reach is 40 cells in each.
        windows_agree(hall(), 2.0, 40_000, 1, 1e-4);
        windows_agree(Map { resolution: 0.0125, ..hall() }, 0.5, 2000, 3, 0.05);
        windows_agree(Map { resolution: 0.007, ..hall() }, 0.28, 400, 7, 0.07);
    }

    /// Compares windowed fields, with one cell per `step` cells of the map, with fields of the whole map, everywhere
    /// that plans reach.
    fn windows_agree(map: Map, reach: f64, most: usize, step: usize, tolerance: f32) {
        let clearance = Clearance::new(&map);
        let goal = map.to_world([380.0, 60.0]);
        let way = CostToGo::new(&map, &clearance, COMFORT, goal, &ProgressBar::hidden()).unwrap();
        let place = |i: f64, j: f64| map.to_world([i, j]);
        let whole = Fields::new(&map, &clearance, &way, place(3.0, 60.0), reach, MOST_CELLS).unwrap();
        assert_eq!(whole.grids()[0].values().len(), map.cells.len());

        let mut part = Fields::new(&map, &clearance, &way, place(3.0, 60.0), reach, most).unwrap();
        assert_eq!(part.step, step);
        let size = part.grids().each_ref().map(|grid| (grid.width(), grid.height()));
        assert!(size[0].0 * step < 150 && size[0] == size[1] && size[0].0 * size[0].1 <= most);
        let mut moves = 0;
        for i in 3..397 {
            // Near the far end of its cell, where the window ends soonest.
            let (x, y) = (f64::from(i) + 0.9, 60.0 + 40.0 * (f64::from(i) * 0.05).sin());
            moves += usize::from(part.follow(place(x, y)).unwrap());
            assert_eq!(part.grids()[0].width(), size[0].0);
            // Within the reach of a plan, both fields equal those of the whole map.
            for (dx, dy) in [(0.0, 0.0), (39.9, 0.0), (-39.9, 0.3), (0.0, 39.9), (0.4, -39.9), (28.0, 28.0)] {
                let [px, py] = place(x + dx, y + dy).map(|v| v as f32);
                let inside = map.cell_at([px.into(), py.into()]).is_some();
                let [near, far] = [part.grids(), whole.grids()].map(|grids| grids[0].sample(px, py));
                assert!((near - far).abs() < tolerance, "distance at {x} + {dx}, {y} + {dy}: {near} for {far}");
                // Coarse costs are compared where none of the cells between which they are interpolated is closed.
                let open = inside && (step == 1 || far > COMFORT.radius as f32 + 2.0 * tolerance);
                let [near, far] = [part.grids(), whole.grids()].map(|grids| grids[1].sample(px, py));
                let same = (near - far).abs() < 10.0 * tolerance;
                assert!(!open || same, "cost at {x} + {dx}, {y} + {dy}: {near} for {far}");
            }
        }
        assert!((10..60).contains(&moves), "{moves} moves");
    }

    #[test]
    fn a_fine_map_has_coarser_fields_and_a_long_horizon_is_refused() {
        let map = Map { resolution: 0.01, ..hall() };
        let clearance = Clearance::new(&map);
        let (start, goal) = (map.to_world([30.0, 60.0]), map.to_world([100.0, 60.0]));
        let way = CostToGo::new(&map, &clearance, COMFORT, goal, &ProgressBar::hidden()).unwrap();
        let fields = Fields::new(&map, &clearance, &way, start, 1.0, 5000).unwrap();
        let [distance, _] = fields.grids();
        assert!((distance.resolution() - 0.03).abs() < 1e-6 && distance.values().len() <= 5000);
        for (i, j) in [(30.0, 60.0), (50.0, 40.0), (80.5, 77.0)] {
            let [x, y] = map.to_world([i, j]);
            let (found, exact) = (distance.sample(x as f32, y as f32), clearance.at([x, y]));
            assert!((f64::from(found) - exact).abs() < 0.02, "{found} for {exact}");
        }
        // The reach of the longest --horizon exceeds any number of cells.
        for reach in [100.0, 0.1 * usize::MAX as f64] {
            let error = Fields::new(&map, &clearance, &way, start, reach, 200).err().unwrap();
            assert!(error.to_string().contains("--horizon"), "{error}");
        }
    }
}
