//! Random options and arguments: mostly valid, sometimes awkward, sometimes wrong.

use gibbs::control::{Proposal, ShiftFill, Smoothing};
use gibbs::lang::{Ends, Region};
use gibbs::sampling::{ReverseProcess, SampleWidth, Sampler, Schedule};
use gibbs::{
    Grid, Interpolation, Limits, Model, Noise, NoiseShape, Real, References, Risk, Scenario, StepContext, Temperature,
    Weighting,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A source of random choices.
pub struct Draw {
    rng: StdRng,
    /// The probability of an awkward number.
    awkward: f64,
}

impl Draw {
    pub fn new(seed: u64) -> Self {
        let mut draw = Self { rng: StdRng::seed_from_u64(seed), awkward: 0.0 };
        draw.change_mood();
        draw
    }

    /// Decides whether the next choices may be awkward. Otherwise options with many numbers would never be valid.
    pub fn change_mood(&mut self) {
        self.awkward = if self.chance(0.7) { 0.0 } else { 0.03 };
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    /// An index below `count`.
    pub fn index(&mut self, count: usize) -> usize {
        self.rng.random_range(0..count)
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    pub fn seed(&mut self) -> u64 {
        self.rng.random()
    }

    /// A size from 1 to `most`; sometimes 0, or far too large.
    pub fn size(&mut self, most: usize) -> usize {
        if self.chance(self.awkward) {
            return self.one_of(&[0, 1 << 40, usize::MAX / 2, usize::MAX]);
        }
        // Small and large sizes, and sizes near multiples of a tile.
        match self.index(4) {
            0 => self.rng.random_range(1..=most.min(4)),
            1 => (64 * self.rng.random_range(1..=9) + self.index(3)).saturating_sub(1).clamp(1, most),
            _ => self.rng.random_range(1..=most),
        }
    }

    /// A number between `low` and `high`; sometimes one that is invalid nearly everywhere.
    pub fn number(&mut self, low: f32, high: f32) -> f32 {
        if self.chance(self.awkward) { self.awkward() } else { self.rng.random_range(low..=high) }
    }

    pub fn awkward(&mut self) -> f32 {
        self.one_of(&[
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            f32::MIN_POSITIVE,
            1e-45,
            1e30,
            -1e30,
            1e-30,
            0.0,
            -0.0,
            -1.0,
        ])
    }

    pub fn numbers(&mut self, count: usize, low: f32, high: f32) -> Vec<f32> {
        // At most one of many numbers is awkward.
        let wrong = self.chance(2.0 * self.awkward).then(|| self.index(count.max(1)));
        let awkward = self.awkward();
        let draw = |i| if Some(i) == wrong { awkward } else { self.rng.random_range(low..=high) };
        (0..count).map(draw).collect()
    }

    pub fn array<const N: usize>(&mut self, low: f32, high: f32) -> [f32; N] {
        let mut array = [0.0; N];
        array.copy_from_slice(&self.numbers(N, low, high));
        array
    }

    /// Draws a weighting that every driver takes.
    pub fn weighting(&mut self) -> Weighting {
        match self.index(6) {
            0 => Temperature::Fixed(self.number(0.01, 30.0)).into(),
            1 => Temperature::EffectiveSamples(self.number(0.001, 1.0)).into(),
            2 => Temperature::Divergence(self.number(0.01, 5.0)).into(),
            3 => Temperature::Standardized(self.number(0.01, 3.0)).into(),
            4 => Weighting::Best,
            _ => Weighting::Elite(self.number(0.001, 1.0)),
        }
    }

    /// Draws proposals, in most cases none.
    pub fn proposals(&mut self) -> Vec<Proposal<2>> {
        if self.chance(0.8) {
            return Vec::new();
        }
        let sustained = Proposal::Sustained(self.array(-1.0, 1.0));
        let count = 1 + self.index(3);
        (0..count).map(|_| self.one_of(&[Proposal::Initial, Proposal::Last, sustained, Proposal::Given])).collect()
    }

    /// Draws the limits of rates, in most cases none.
    pub fn rate_limits(&mut self) -> Option<Limits<2>> {
        if self.chance(0.6) {
            return None;
        }
        let (low, high) = (self.array(-3.0, 0.0), self.array(0.0, 3.0));
        Some(if self.chance(0.2) { Limits { low, high: [f32::INFINITY; 2] } } else { Limits { low, high } })
    }

    /// Draws the limits of the jerk, in most cases none.
    pub fn jerk_limits(&mut self) -> Option<Limits<2>> {
        if self.chance(0.8) {
            return None;
        }
        let (low, high) = (self.array(-30.0, 0.0), self.array(0.0, 30.0));
        Some(if self.chance(0.2) { Limits { low: [f32::NEG_INFINITY; 2], high } } else { Limits { low, high } })
    }

    /// Draws an input delay, in most cases none.
    pub fn delay(&mut self) -> usize {
        if self.chance(0.7) { 0 } else { self.index(4) }
    }

    /// Draws scenarios, in most cases none, since each takes another rollout of every row.
    pub fn scenarios(&mut self) -> Vec<Scenario> {
        let count = if self.chance(0.9) { 0 } else { 1 + self.index(3) };
        (0..count)
            .map(|_| Scenario {
                state: self.deviations(3),
                params: self.deviations(3),
                references: self.chance(0.5).then(|| References { values: self.numbers(6, -1.0, 1.0), columns: 2 }),
            })
            .collect()
    }

    fn deviations(&mut self, most: usize) -> Vec<f32> {
        let count = self.index(most);
        self.numbers(count, -0.5, 0.5)
    }

    pub fn risk(&mut self) -> Risk {
        match self.index(8) {
            0 => Risk::Worst,
            1 => Risk::ConditionalValueAtRisk(self.number(0.01, 1.0)),
            2 => Risk::Entropic(self.number(0.001, 2.0)),
            _ => Risk::Mean,
        }
    }

    pub fn smoothing(&mut self) -> Option<Smoothing> {
        if self.chance(0.85) {
            return None;
        }
        Some(Smoothing { window: 2 * self.index(4) + 3, order: self.index(4) })
    }

    pub fn noise(&mut self) -> Noise<2> {
        if self.chance(0.7) {
            return Noise::Diagonal(self.array(0.0, 2.0));
        }
        let [a, b] = self.array(0.2, 2.0);
        let correlation = self.number(-0.9, 0.9);
        let c = correlation * a * b;
        Noise::Covariance([[a * a, c], [c, b * b]])
    }

    pub fn noise_shape(&mut self) -> NoiseShape {
        match self.index(5) {
            0 => NoiseShape::Knots {
                every: self.size(12),
                interpolation: self.one_of(&[Interpolation::Hold, Interpolation::Linear, Interpolation::Cubic]),
            },
            1 => NoiseShape::Colored { exponent: self.number(0.0, 2.0) },
            _ => NoiseShape::White,
        }
    }

    /// Limits, which mostly hold the usual initial control, 0.
    pub fn limits(&mut self) -> Option<Limits<2>> {
        self.chance(0.6).then(|| {
            let (low, room) = (self.array::<2>(-3.0, 0.5), self.array::<2>(0.0, 3.0));
            let (open, hold) = (self.chance(0.1), self.chance(0.6));
            let high = if open { [f32::INFINITY; 2] } else { [low[0] + room[0], low[1] + room[1]] };
            match hold {
                true => Limits { low: low.map(|low| low.min(0.0)), high: high.map(|high| high.max(0.0)) },
                false => Limits { low, high },
            }
        })
    }

    pub fn shift_fill(&mut self) -> ShiftFill {
        self.one_of(&[ShiftFill::Hold, ShiftFill::Repeat, ShiftFill::Initial])
    }

    /// Parameters of [`Probe`]: three are read, and there may be more or fewer.
    pub fn params(&mut self) -> Vec<f32> {
        let count = if self.chance(0.97) { 3 + self.index(4) } else { self.index(3) };
        self.numbers(count, 0.0, 2.0)
    }

    /// References of [`Probe`]: two columns are read.
    pub fn references(&mut self) -> (Vec<f32>, usize) {
        let columns = if self.chance(0.97) { 2 + self.index(2) } else { self.index(2) };
        let rows = if self.chance(0.98) { 1 + self.index(40) } else { 0 };
        let ragged = usize::from(self.chance(0.02));
        (self.numbers(columns * rows + ragged, -2.0, 2.0), columns)
    }

    pub fn reference_table(&mut self) -> Option<References> {
        self.chance(0.98).then(|| {
            let (values, columns) = self.references();
            References { values, columns }
        })
    }

    /// A grid of any size, with values of any kind that a grid accepts.
    pub fn grid(&mut self) -> Grid {
        loop {
            let (width, height) = (1 + self.index(12), 1 + self.index(12));
            let values = self.numbers(width * height, 0.0, 3.0);
            let (resolution, origin) = (self.number(0.01, 1.0), self.array(-2.0, 2.0));
            if let Ok(grid) = Grid::new(width, height, resolution, origin, values)
                && let Ok(grid) = grid.with_yaw(self.number(-3.0, 3.0))
            {
                return grid;
            }
        }
    }

    /// A table of any size, with two channels and any ends; sometimes with one channel, which is too few.
    pub fn table(&mut self) -> Grid {
        loop {
            let count = 1 + self.index(12);
            let (spacing, first) = (self.number(0.01, 1.0), self.number(-2.0, 2.0));
            let ends = [Ends::Clamp, Ends::Outside, Ends::Periodic][self.index(3)];
            if let Ok(table) = Grid::table(spacing, first, self.numbers(count, 0.0, 1.0))
                && let Ok(table) = table.with_ends(ends)
            {
                if self.chance(0.01) {
                    return table;
                }
                if let Ok(table) = table.with_channel(self.numbers(count, 0.0, 1.0)) {
                    return table;
                }
            }
        }
    }

    /// A region of a grid, and values for it; sometimes beyond the grid, too many, or not finite.
    pub fn region(&mut self, width: usize, height: usize, channels: usize) -> (Region, Vec<f32>) {
        let (column, row) = (self.index(width), self.index(height));
        let mut region =
            Region { column, row, width: 1 + self.index(width - column), height: 1 + self.index(height - row) };
        let too_many = usize::from(self.chance(0.02));
        let values = self.numbers(region.width * region.height * channels + too_many, 0.0, 3.0);
        match self.index(50) {
            0 => region.column = self.size(20),
            1 => region.height = self.size(20),
            _ => (),
        }
        (region, values)
    }

    /// Fields of [`Probe`]: a grid, and a table.
    pub fn fields(&mut self) -> Vec<Grid> {
        if self.chance(0.02) {
            return (0..self.index(3)).map(|_| self.grid()).collect();
        }
        vec![self.grid(), self.table()]
    }

    pub fn process(&mut self) -> ReverseProcess {
        let levels = if self.chance(self.awkward) { self.size(5) } else { 1 + self.index(5) };
        let schedule = match self.index(4) {
            0 => Schedule::Linear { levels, first: self.number(1e-4, 0.3), last: self.number(0.3, 0.9) },
            1 => Schedule::Cosine { levels },
            2 => Schedule::Geometric { levels, smallest: self.number(0.01, 0.1), largest: self.number(0.1, 3.0) },
            _ => Schedule::Table(vec![self.number(0.8, 1.0), self.number(0.3, 0.8), self.number(0.01, 0.3)]),
        };
        let sampler = match self.index(5) {
            0 => Sampler::ScoreAscent,
            1 => Sampler::Ddpm,
            2 => Sampler::Ddim { eta: self.number(0.0, 1.0) },
            3 => Sampler::Euler,
            _ => Sampler::Langevin { steps: 1 + self.index(3), rate: self.number(0.01, 1.0) },
        };
        ReverseProcess { schedule, sampler, width: self.one_of(&[SampleWidth::Posterior, SampleWidth::Published]) }
    }
}

/// A unicycle that reads parameters, references, a grid and a table; its cost is NaN or infinite in some places.
#[derive(Debug, Clone, Copy)]
pub struct Probe;

impl Model<3, 2> for Probe {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [x, y, yaw]: [R; 3], [speed, turn]: [R; 2]) -> [R; 3] {
        let (sin, cos) = yaw.sin_cos();
        [x + speed * cos * at.dt(), y + speed * sin * at.dt(), yaw + turn * at.param(2) * at.dt()]
    }

    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, yaw]: [R; 3], [speed, _]: [R; 2]) -> R {
        let (dx, dy) = (x - at.reference(0), y - at.reference(1));
        // NaN where the speed is below −2.5, and infinite where the heading is above 29 rad.
        let (hole, pole) = ((speed + 2.5).sqrt() * at.param(0), (yaw * 3.0).exp() * at.param(1));
        let place = at.term("place", dx.square() + dy.square());
        let [a, b] = at.look_up(1, [x]);
        place + at.sample(0, x, y) + a * b + at.term("pole", pole * 1e-3) + at.term("hole", hole * 0.1)
    }

    #[inline(always)]
    fn done<R: Real>(&self, _at: &StepContext<R>, [x, y, _]: [R; 3]) -> R::Mask {
        (x.square() + y.square()).gt(400.0)
    }
}
