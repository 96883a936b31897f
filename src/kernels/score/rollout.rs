//! Draw and score, one rollout per lane. Twin: `shaders/score/rollout.wgsl`.

use std::ops::Range;
use std::sync::Arc;

use pulp::{Simd, WithSimd};

use super::risk::Combine;
use crate::interp::simd::isa::{Isa, WithModel};
use crate::interp::simd::lanes::{Lanes, WIDEST};
use crate::interp::simd::unroll::{Unroll2, Unrolled};
use crate::kernels::pass::{
    ANTITHETIC, CONTROL_COST, DELAYED, DEMONSTRATED, FILTERED, GIVEN, JERK_LIMITED, LIMITED, Layout, NOMINAL_FIRST,
    Pass, Problem, RATE_LIMITED, STD_SCALE, TILE,
};
use crate::kernels::propose::draw::{Draw, mirrored};
use crate::kernels::propose::shape::{Filter, MAX_TAPS};
use crate::lang::cache_line::CacheLine;
use crate::lang::math::{Vector, finite, kahan_add};
use crate::lang::stream::Stream;
use crate::lang::{Inputs, Mask, NetworkScratch, Real, Register, StepContext};
use crate::model::Model;
use crate::model::advance::Advance;

/// Numbers in a tile of scores: for each of its rows the cost, its Kahan compensation, and the second score (the
/// control cost or the demonstration cost).
pub(crate) const SCORES: usize = 3 * TILE;

/// The smallest and the largest finite cost, and the smallest finite second score; +∞, −∞ and +∞ if there is none.
pub(crate) type CostBounds = [f32; 3];

/// The bounds of no rows: the identity of the reduction.
pub(crate) const EMPTY_BOUNDS: CostBounds = [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY];

/// The bounds over all tiles.
pub(crate) fn merge(tiles: &[CostBounds]) -> CostBounds {
    let merge = |[a, b, c]: CostBounds, [d, e, f]: &CostBounds| [a.min(*d), b.max(*e), c.min(*f)];
    tiles.iter().fold(EMPTY_BOUNDS, merge)
}

/// The bounds of a tile of scores, the first `rows` of which hold rows.
#[inline(always)]
pub(crate) fn cost_bounds<S: Simd>(scores: &[f32], rows: usize) -> CostBounds {
    let number = Lanes::<S>::from;
    let mut all = EMPTY_BOUNDS.map(number);
    for lane in (0..TILE.min(rows)).step_by(Lanes::<S>::COUNT) {
        let real = number(rows as f32).gt(Lanes::from_i32(Lanes::<S>::iota(lane as u32)));
        let (cost, second) = (Lanes::<S>::load(&scores[lane..]), Lanes::<S>::load(&scores[2 * TILE + lane..]));
        let (costs, seconds) = (real & finite(cost), real & finite(second));
        all[0] = Lanes::simd_select(costs, cost.min(all[0]), all[0]);
        all[1] = Lanes::simd_select(costs, cost.max(all[1]), all[1]);
        all[2] = Lanes::simd_select(seconds, second.min(all[2]), all[2]);
    }
    [all[0].fold(f32::min), all[1].fold(f32::max), all[2].fold(f32::min)]
}

/// The rollouts that one step computes: two registers.
///
/// A step is a long chain of dependent operations, and a core's out-of-order window is limited. Two independent chains
/// hide latency: half as much of the window waits for earlier results.
type RolloutLanes<S> = Unrolled<Lanes<S>>;

/// Whether one register of rollouts is faster than two: its states stay in registers, while those of two spill. (With
/// only sixteen registers, some spill in either case.)
const fn single<S: Simd>(states: usize) -> bool {
    Lanes::<S>::THIRTY_TWO && states > 8
}

/// The maximum number of such groups that are interleaved. The next steps of the others fill the remaining stalls of
/// each.
const INTERLEAVE: usize = 4;

/// One tile of rows to draw and score.
pub(crate) struct Tile<'a> {
    pub(crate) pass: &'a Pass,
    pub(crate) problem: &'a Problem<'a>,
    /// The problem index.
    pub(crate) number: u32,
    /// The first row of the tile.
    pub(crate) first: usize,
    /// Its rows, D × TILE.
    pub(crate) rows: &'a mut [f32],
    /// Its scores, 3 × TILE.
    pub(crate) scores: &'a mut [f32],
    /// Scratch, as many lines as [`Rollout::scratch`] returns.
    pub(crate) scratch: &'a mut [CacheLine],
}

/// A type-erased model, so that the backend is not generic over it.
pub(crate) trait Rollout: Send + Sync {
    /// Draws the rows of a tile and scores them.
    fn tile(&self, isa: Isa, tile: Tile<'_>) -> CostBounds;

    /// The lines of scratch that a tile needs besides its rows and scores.
    fn scratch(&self, _pass: &Pass) -> usize {
        0
    }

    /// Whether rows can be drawn without being scored.
    fn draws(&self) -> bool {
        false
    }

    /// Draws the rows of a tile as [`tile`](Self::tile) does, without scoring them where that is possible.
    fn draw(&self, isa: Isa, tile: Tile<'_>) {
        self.tile(isa, tile);
    }

    /// The number of consecutive rows of a tile, a divisor of [`TILE`], that [`score`](Self::score) computes without
    /// waste. `None` if the rows of a tile are scored together.
    fn part(&self, _pass: &Pass) -> Option<usize> {
        None
    }

    /// Scores the rows in `lanes` of a tile whose `rows` have been drawn, as [`tile`](Self::tile) does; other scores
    /// may be overwritten. The tile has no rows of its own.
    fn score(&self, _isa: Isa, _tile: Tile<'_>, _rows: &[f32], _lanes: Range<usize>) {}
}

/// [`cost_bounds`] with the given instructions.
pub(crate) fn cost_bounds_of(isa: Isa, scores: &[f32], rows: usize) -> CostBounds {
    isa.run(Bounds { scores, rows })
}

/// See [`cost_bounds_of`].
struct Bounds<'a> {
    scores: &'a [f32],
    rows: usize,
}

impl WithSimd for Bounds<'_> {
    type Output = CostBounds;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> CostBounds {
        cost_bounds::<S>(self.scores, self.rows)
    }
}

/// A model of `N` states and `M` controls as a [`Rollout`].
pub(crate) struct OfModel<const N: usize, const M: usize, D> {
    model: Arc<D>,
    /// Whether an episode can end before its horizon.
    ends: bool,
    /// The scratch size of the model's largest network, inputs and units, in numbers per row.
    units: usize,
}

impl<const N: usize, const M: usize, D> OfModel<N, M, D> {
    pub(crate) fn new(model: Arc<D>, ends: bool, units: usize) -> Self {
        Self { model, ends, units }
    }

    /// The lines of scratch for networks, enough for the widest registers.
    fn network_scratch(&self) -> usize {
        CacheLine::holding(self.units * 2 * WIDEST)
    }
}

impl<const N: usize, const M: usize, D: Model<N, M>> Rollout for OfModel<N, M, D> {
    fn tile(&self, isa: Isa, mut tile: Tile<'_>) -> CostBounds {
        controls::<M>(isa, &mut tile);
        if tile.pass.scenarios > 0 {
            return self.scenarios(isa, tile);
        }
        let inputs = tile.problem.inputs;
        let (controls, networks) = tile.scratch.split_at_mut(filtered_controls(tile.pass));
        let tile = Tile { scratch: controls, ..tile };
        isa.run_with(Roll::<N, M> { ends: self.ends, tile, networks }, &*self.model, inputs)
    }

    fn scratch(&self, pass: &Pass) -> usize {
        let scenarios = CacheLine::holding(pass.scenarios as usize * SCORES);
        filtered_controls(pass) + scenarios + self.network_scratch()
    }

    fn draws(&self) -> bool {
        true
    }

    fn draw(&self, isa: Isa, mut tile: Tile<'_>) {
        controls::<M>(isa, &mut tile);
    }
}

impl<const N: usize, const M: usize, D: Model<N, M>> OfModel<N, M, D> {
    /// Rolls the controls of a tile out in every scenario.
    fn scenarios(&self, isa: Isa, tile: Tile<'_>) -> CostBounds {
        let Tile { pass, problem, number, first, rows, scores, scratch } = tile;
        let (controls, rest) = scratch.split_at_mut(filtered_controls(pass));
        let (networks, scenarios) = rest.split_at_mut(self.network_scratch());
        let scenarios = &mut CacheLine::numbers_mut(scenarios)[..pass.scenarios as usize * SCORES];
        let sections = problem.inputs.chunks_exact(pass.inputs_stride as usize).skip(1);
        for (inputs, scores) in sections.zip(scenarios.chunks_exact_mut(SCORES)) {
            let problem = &Problem { inputs, ..*problem };
            let tile = Tile { pass, problem, number, first, rows: &mut *rows, scores, scratch: &mut *controls };
            let roll = Roll::<N, M> { ends: self.ends, tile, networks: &mut *networks };
            isa.run_with(roll, &*self.model, inputs);
        }
        isa.run(Combine { pass, scenarios, scores, rows: pass.rows as usize - first })
    }
}

/// The lines of scratch for the controls of filtered rows, whose innovations are in the rows.
fn filtered_controls(pass: &Pass) -> usize {
    if pass.has(FILTERED) { CacheLine::holding(pass.width as usize * TILE) } else { 0 }
}

/// Draws the rows of a tile or takes them as given. The whole tile is done before any rollout, so that the time loop
/// has the registers to itself; the rows that it reloads are in L1 or L2.
fn controls<const M: usize>(isa: Isa, tile: &mut Tile<'_>) {
    let pass = tile.pass;
    if !pass.has(GIVEN) {
        let into = &mut tile.rows[..pass.coordinates as usize * TILE];
        Draw { pass, stream: Stream::Rows.word(tile.number), row: tile.first, pair: false, block: 0, into }.run(isa);
    }
    isa.run(ShapeNoise::<M> { tile });
}

/// Shapes the noise of a tile or takes the given rows, clamps the result to the limits, and sums its control cost.
struct ShapeNoise<'a, 'b, const M: usize> {
    tile: &'a mut Tile<'b>,
}

impl<const M: usize> WithSimd for ShapeNoise<'_, '_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for lane in (0..TILE).step_by(ShapedLanes::<S>::COUNT) {
            shape::<ShapedLanes<S>, M>(self.tile, lane);
        }
    }
}

/// The rows that are shaped in parallel: four registers.
type ShapedLanes<S> = Unroll2<Unroll2<Lanes<S>>>;

/// The rollouts of a tile whose rows have been computed.
struct Roll<'a, const N: usize, const M: usize> {
    ends: bool,
    tile: Tile<'a>,
    /// Scratch for the units of networks.
    networks: &'a mut [CacheLine],
}

impl<const N: usize, const M: usize, D: Model<N, M>> WithModel<D> for Roll<'_, N, M> {
    type Output = CostBounds;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S, model: &D, inputs: &[f32]) -> CostBounds {
        if const { single::<S>(N) } {
            self.rollouts::<Lanes<S>, D>(model, inputs);
        } else {
            self.rollouts::<RolloutLanes<S>, D>(model, inputs);
        }
        cost_bounds::<S>(self.tile.scores, self.tile.pass.rows as usize - self.tile.first)
    }
}

impl<const N: usize, const M: usize> Roll<'_, N, M> {
    /// Runs the rollouts of the tile, one interleaved set after the other.
    #[inline(always)]
    fn rollouts<V: Register, D: Model<N, M>>(&mut self, model: &D, inputs: &[f32]) {
        for lane in (0..TILE).step_by(interleave::<V>() * V::COUNT) {
            self.rollouts_from::<V, D>(model, inputs, lane);
        }
    }

    /// Runs one interleaved set of rollouts, from row `lane` on.
    #[inline(always)]
    fn rollouts_from<V: Register, D: Model<N, M>>(&mut self, model: &D, inputs: &[f32], lane: usize) {
        let Self { ends, ref mut tile, ref mut networks } = *self;
        let (pass, layout) = (tile.pass, tile.problem.layout);
        let horizon = pass.horizon as usize;
        // Loop-invariant slices are taken before the loop, so that their bounds are checked once.
        let timeline = layout.timeline(inputs, tile.problem.fields.look_ups(), tile.problem.weights.values, pass.dt);
        let timeline = timeline.with_scratch(NetworkScratch::new(networks));

        // The groups are interleaved by a loop: unrolling all of them would make more values live than there are
        // registers.
        let (advance, demonstrated) = (Advance { model, ends }, pass.has(DEMONSTRATED));
        let mut all = [RolloutState::<V, N>::new(&inputs[..N]); INTERLEAVE];
        let states = &mut all[..interleave::<V>()];
        let filtered = pass.has(FILTERED);
        let controls = if filtered { CacheLine::numbers(tile.scratch) } else { &*tile.rows };
        let controls = &controls[..horizon * M * TILE];
        // Reloaded when the previous step's cost is added; keeping it live would cost registers.
        let mut before = &controls[..M * TILE];
        for (t, now) in controls.chunks_exact(M * TILE).enumerate() {
            let (arrived, at) = (timeline.at(t.max(1) - 1), timeline.at(t));
            for (f, state) in states.iter_mut().enumerate() {
                let lane = lane + f * V::COUNT;
                // The cost of the previous step is evaluated here, together with the next step, so that common
                // subexpressions are computed once.
                state.arrive(&advance, arrived, controls_of::<V, M>(before, lane), demonstrated);
                state.depart(&advance, at, controls_of::<V, M>(now, lane));
            }
            if t == 0 {
                // No step came before the first one. A mask would cost instructions in every time step.
                states.iter_mut().for_each(RolloutState::clear_costs);
            }
            before = now;
        }
        for (f, state) in states.iter_mut().enumerate() {
            let lane = lane + f * V::COUNT;
            let before = controls_of::<V, M>(before, lane);
            state.arrive(&advance, timeline.at(horizon - 1), before, demonstrated);
            state.end::<M, D>(model, timeline.at(horizon), lane, demonstrated, tile.scores);
        }
    }
}

/// The number of `V` that are interleaved: [`INTERLEAVE`], or as many as fill a tile.
#[inline(always)]
fn interleave<V: Register>() -> usize {
    INTERLEAVE.min(TILE / V::COUNT)
}

/// Shapes the rows of some registers, from row `lane` of the tile on.
#[cfg_attr(optimized, inline(always))]
fn shape<V: Register, const M: usize>(tile: &mut Tile<'_>, lane: usize) {
    let (pass, layout, inputs) = (tile.pass, tile.problem.layout, tile.problem.inputs);
    let mut factor = [[0.0; M]; M];
    for i in 0..M {
        for j in 0..=i {
            factor[i][j] = pass.scale * inputs[layout.factor() + i * M + j];
        }
    }
    let diagonal = (0..M).all(|i| factor[i][..i].iter().all(|l| *l == 0.0));
    let flags = pass.flags & (GIVEN | STD_SCALE | ANTITHETIC | NOMINAL_FIRST | LIMITED | CONTROL_COST);
    if let (Some(filter), true) = (tile.problem.filter, pass.has(FILTERED)) {
        if filter.is_identity() {
            return shape_in_order::<V, M>(tile, lane, factor, flags, diagonal);
        }
        shape_innovations::<V, M>(tile, lane, factor, flags, diagonal);
        return filter_innovations::<V, M>(tile, lane, filter);
    }
    // The most common cases are specialized: their loops have no branches.
    if (flags, diagonal) == (LIMITED, true) {
        shape_as::<V, M>(tile, lane, factor, LIMITED, true);
    } else if (flags, diagonal) == (LIMITED | ANTITHETIC, true) {
        shape_as::<V, M>(tile, lane, factor, LIMITED | ANTITHETIC, true);
    } else {
        shape_as::<V, M>(tile, lane, factor, flags, diagonal);
    }
}

/// Shapes rows as these flags specify, with this covariance factor, which may be `diagonal`.
#[cfg_attr(optimized, inline(always))]
fn shape_as<V: Register, const M: usize>(
    tile: &mut Tile<'_>,
    lane: usize,
    factor: [[f32; M]; M],
    flags: u32,
    diagonal: bool,
) {
    let (pass, layout, inputs) = (tile.pass, tile.problem.layout, tile.problem.inputs);
    let (nominal, std_scale) = (tile.problem.nominal, tile.problem.std_scale);
    let (width, zero) = (pass.width as usize, V::from(0.0));
    let mirrored = mirrored::<V>(pass, tile.first + lane);
    let row = V::iota((tile.first + lane) as u32);
    let first = V::bits_eq(row, V::splat_bits(0));
    let low = &inputs[layout.low()..][..M];
    let high = &inputs[layout.high()..][..M];
    let precision = &inputs[layout.precision()..][..M * M];
    let mut cost = zero;
    let steps = tile.rows[..width * TILE].chunks_exact_mut(M * TILE).zip(nominal[..width].chunks_exact(M));
    for (t, (columns, center)) in steps.enumerate() {
        let mut u = [zero; M];
        for m in 0..M {
            u[m] = V::load(&columns[m * TILE + lane..]);
        }
        if flags & GIVEN == 0 {
            u = perturbation(u, factor, diagonal, flags, (std_scale, t * M), [mirrored, first]);
            for m in 0..M {
                u[m] = u[m] + center[m];
            }
        }
        if flags & LIMITED != 0 {
            for m in 0..M {
                u[m] = u[m].clamp(low[m], high[m]);
            }
        }
        for m in 0..M {
            u[m].store(&mut columns[m * TILE + lane..]);
        }
        if flags & CONTROL_COST != 0 {
            for i in 0..M {
                for j in 0..M {
                    cost = (u[j] - center[j]).mul_add(center[i] * precision[i * M + j], cost);
                }
            }
        }
    }
    cost.store(&mut tile.scores[2 * TILE + lane..]);
}

/// Makes a perturbation of standard normals: multiplies by the factor of the covariance and by the standard-deviation
/// scale (from index `at` on), and applies the signs that the flags ask for.
#[inline(always)]
fn perturbation<V: Register, const M: usize>(
    z: [V; M],
    factor: [[f32; M]; M],
    diagonal: bool,
    flags: u32,
    (std_scale, at): (&[f32], usize),
    [mirrored, first]: [V::Truth; 2],
) -> [V; M] {
    let zero = V::from(0.0);
    let mut all = z;
    for m in 0..M {
        let mut shaped = z[m] * factor[m][m];
        if !diagonal {
            shaped = zero;
            for j in 0..=m {
                shaped = z[j].mul_add(factor[m][j], shaped);
            }
        }
        if flags & STD_SCALE != 0 {
            shaped = shaped * std_scale[at + m];
        }
        if flags & ANTITHETIC != 0 {
            shaped = V::simd_select(mirrored, -shaped, shaped);
        }
        if flags & NOMINAL_FIRST != 0 {
            shaped = V::simd_select(first, zero, shaped);
        }
        all[m] = shaped;
    }
    all
}

/// Shapes the innovations of filtered rows, which are drawn around 0 and are not clamped.
#[cfg_attr(optimized, inline(always))]
fn shape_innovations<V: Register, const M: usize>(
    tile: &mut Tile<'_>,
    lane: usize,
    factor: [[f32; M]; M],
    flags: u32,
    diagonal: bool,
) {
    let pass = tile.pass;
    let mirrored = mirrored::<V>(pass, tile.first + lane);
    let first = V::bits_eq(V::iota((tile.first + lane) as u32), V::splat_bits(0));
    let innovations = &mut tile.rows[..pass.coordinates as usize * TILE];
    for (i, columns) in innovations.chunks_exact_mut(M * TILE).enumerate() {
        let z = controls_of::<V, M>(columns, lane);
        let std_scale = (tile.problem.std_scale, i * M);
        let shaped = perturbation(z, factor, diagonal, flags, std_scale, [mirrored, first]);
        for m in 0..M {
            shaped[m].store(&mut columns[m * TILE + lane..]);
        }
    }
    // Filtered rows have no control cost.
    V::from(0.0).store(&mut tile.scores[2 * TILE + lane..]);
}

/// As [`shape_innovations`] and [`filter_innovations`] together, for innovations that are perturbations of one time
/// step each: every number is loaded once.
#[cfg_attr(optimized, inline(always))]
fn shape_in_order<V: Register, const M: usize>(
    tile: &mut Tile<'_>,
    lane: usize,
    factor: [[f32; M]; M],
    flags: u32,
    diagonal: bool,
) {
    let (pass, nominal, std_scale) = (tile.pass, tile.problem.nominal, tile.problem.std_scale);
    let width = pass.width as usize;
    let mirrored = mirrored::<V>(pass, tile.first + lane);
    let first = V::bits_eq(V::iota((tile.first + lane) as u32), V::splat_bits(0));
    let mut limits = ControlLimits::<V, M>::new(pass, tile.problem.layout, tile.problem.inputs);
    let controls = &mut CacheLine::numbers_mut(tile.scratch)[..width * TILE];
    let innovations = tile.rows[..width * TILE].chunks_exact_mut(M * TILE);
    let steps = innovations.zip(controls.chunks_exact_mut(M * TILE)).zip(nominal[..width].chunks_exact(M));
    for (t, ((innovations, controls), center)) in steps.enumerate() {
        let z = controls_of::<V, M>(innovations, lane);
        let shaped = perturbation(z, factor, diagonal, flags, (std_scale, t * M), [mirrored, first]);
        for m in 0..M {
            shaped[m].store(&mut innovations[m * TILE + lane..]);
            let u = limits.apply(t, m, shaped[m] + center[m], center[m]);
            u.store(&mut controls[m * TILE + lane..]);
        }
    }
    // Filtered rows have no control cost.
    V::from(0.0).store(&mut tile.scores[2 * TILE + lane..]);
}

/// What controls of filtered rows are limited to, in order of time. Twins: `limited` in
/// src/control/planner/actuation.rs, `control_of` in src/runtime/gpu/filter.rs.
struct ControlLimits<'a, V: Register, const M: usize> {
    low: &'a [f32],
    high: &'a [f32],
    change_low: &'a [f32],
    change_high: &'a [f32],
    jerk_low: &'a [f32],
    jerk_high: &'a [f32],
    /// The roots that [`change_to_stop`] takes of them, toward the lower and the upper limit.
    roots: [[f32; M]; 2],
    is_limited: bool,
    is_rate_limited: bool,
    is_jerk_limited: bool,
    /// The number of time steps whose controls are those of the nominal.
    fixed: usize,
    /// The controls of the time step before.
    before: [V; M],
    /// Their changes from those before, which only limits of the jerk depend on.
    changed: [V; M],
}

impl<'a, V: Register, const M: usize> ControlLimits<'a, V, M> {
    #[inline(always)]
    fn new(pass: &Pass, layout: Layout, inputs: &'a [f32]) -> Self {
        let (mut before, mut changed) = ([V::from(0.0); M], [V::from(0.0); M]);
        for m in 0..M {
            before[m] = V::from(inputs[layout.last() + m]);
            changed[m] = V::from(inputs[layout.last_change() + m]);
        }
        let mut roots = [[0.0; M]; 2];
        if pass.has(JERK_LIMITED) {
            for m in 0..M {
                roots[0][m] = (2.0 * inputs[layout.jerk_high() + m]).sqrt();
                roots[1][m] = (-2.0 * inputs[layout.jerk_low() + m]).sqrt();
            }
        }
        Self {
            low: &inputs[layout.low()..][..M],
            high: &inputs[layout.high()..][..M],
            change_low: &inputs[layout.change_low()..][..M],
            change_high: &inputs[layout.change_high()..][..M],
            jerk_low: &inputs[layout.jerk_low()..][..M],
            jerk_high: &inputs[layout.jerk_high()..][..M],
            roots,
            is_limited: pass.has(LIMITED),
            is_rate_limited: pass.has(RATE_LIMITED),
            is_jerk_limited: pass.has(JERK_LIMITED),
            fixed: if pass.has(DELAYED) { pass.delay as usize } else { 0 },
            before,
            changed,
        }
    }

    /// Limits control `m` of time step `t`, whose nominal is `center`.
    #[inline(always)]
    fn apply(&mut self, t: usize, m: usize, mut u: V, center: f32) -> V {
        let before = self.before[m];
        if self.is_jerk_limited {
            let [low, high] = [self.jerk_low[m], self.jerk_high[m]];
            u = u.max(before + (self.changed[m] + low)).min(before + (self.changed[m] + high));
            if self.is_limited {
                u = u.max(before - change_to_stop(before - self.low[m], high, self.roots[0][m]));
                u = u.min(before + change_to_stop(-before + self.high[m], -low, self.roots[1][m]));
            }
        }
        if self.is_limited {
            u = u.clamp(self.low[m], self.high[m]);
        }
        if self.is_rate_limited {
            u = u.max(before + self.change_low[m]).min(before + self.change_high[m]);
        }
        if t < self.fixed {
            u = V::from(center);
        } else if self.is_jerk_limited {
            let changed = self.changed[m];
            self.changed[m] = change_that_counts(u - before, changed + self.jerk_low[m], changed + self.jerk_high[m]);
        }
        self.before[m] = u;
        u
    }
}

/// The change that the next one counts from: `change`, unless the box forced a larger one than the jerk allows, `low`
/// or `high`. Then the control has jumped, and must not carry on as fast.
#[inline(always)]
pub(crate) fn change_that_counts<V: Register>(change: V, low: V, high: V) -> V {
    let zero = V::from(0.0);
    change.max(low.min(zero)).min(high.max(zero))
}

/// The largest change toward a limit `room` away after which later changes, each smaller by at most `jerk` (at least
/// 0), can end at the limit: the δ that solves (δ + jerk/2)² = 2 · jerk · room. Within jerk/2 of the limit it is the
/// room itself, where the two curves touch, and it is negative beyond the limit. `root` is that of 2 · jerk.
///
/// One change of δ leaves the room from which δ − jerk is the largest change, so that limits of the jerk and the box
/// can always be kept together.
#[inline(always)]
pub(crate) fn change_to_stop<V: Register>(room: V, jerk: f32, root: f32) -> V {
    let half = 0.5 * jerk;
    let braking = room.max(V::from(0.0)).sqrt() * root - half;
    V::simd_select(room.gt(V::from(half)), braking, room)
}

/// Makes controls of innovations: U + B θ, clamped to the limits and to what the control before them allows; those that
/// a delay fixes are taken from U. Stores them in the tile's scratch, since the mean is taken over the innovations.
#[cfg_attr(optimized, inline(always))]
fn filter_innovations<V: Register, const M: usize>(tile: &mut Tile<'_>, lane: usize, filter: &Filter) {
    let (pass, layout, inputs, nominal) = (tile.pass, tile.problem.layout, tile.problem.inputs, tile.problem.nominal);
    let mut limits = ControlLimits::<V, M>::new(pass, layout, inputs);
    let controls = CacheLine::numbers_mut(tile.scratch);
    // The factors on the taps repeat from one innovation to the next. They are computed once for as many time steps as
    // are usual.
    let mut phases = [[0.0; MAX_TAPS]; 16];
    let phases = &mut phases[..filter.every.min(16)];
    phases.iter_mut().enumerate().for_each(|(phase, weights)| *weights = filter.weights(phase));
    let mut taps = [[V::from(0.0); M]; MAX_TAPS];
    let innovations = &tile.rows[..pass.coordinates as usize * TILE];
    for (i, columns) in innovations.chunks_exact(M * TILE).enumerate() {
        let innovation = controls_of::<V, M>(columns, lane);
        match &filter.first {
            Some(first) if i < filter.lead => {
                for j in 0..filter.taps {
                    for m in 0..M {
                        taps[j][m] = innovation[m].mul_add(first[i][j], taps[j][m]);
                    }
                }
            }
            _ => {
                for j in 0..filter.taps {
                    // The `shift` of the last tap is 0.
                    let next = taps[(j + 1) % MAX_TAPS];
                    for m in 0..M {
                        let entering = next[m].mul_add(filter.shift[j], innovation[m] * filter.gain[j]);
                        taps[j][m] = taps[j][m].mul_add(filter.keep[j], entering);
                    }
                }
            }
        }
        for (phase, t) in filter.steps(i, pass.horizon as usize).enumerate() {
            let weights = phases.get(phase).copied().unwrap_or_else(|| filter.weights(t));
            for m in 0..M {
                let mut u = V::from(nominal[t * M + m]);
                for j in 0..filter.taps {
                    u = taps[j][m].mul_add(weights[j], u);
                }
                u = limits.apply(t, m, u, nominal[t * M + m]);
                u.store(&mut controls[(t * M + m) * TILE + lane..]);
            }
        }
    }
}

/// The state of one register of rollouts. It is aligned to cache lines, since it is loaded and stored in every step.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct RolloutState<V: Register, const N: usize> {
    x: [V; N],
    /// The lanes whose episode has not ended.
    running: V::Truth,
    /// The accumulated cost and its Kahan compensation.
    cost: [V; 2],
    /// The accumulated demonstration cost, if there is a demonstration.
    departure: V,
}

impl<V: Register, const N: usize> RolloutState<V, N> {
    #[inline(always)]
    fn new(start: &[f32]) -> Self {
        let zero = V::from(0.0);
        let mut x = [zero; N];
        for i in 0..N {
            x[i] = V::from(start[i]);
        }
        Self { x, running: Mask::splat(true), cost: [zero; 2], departure: zero }
    }

    /// Adds the costs of the previous step, and ends episodes that are done.
    #[inline(always)]
    fn arrive<const M: usize, D: Model<N, M>>(
        &mut self,
        advance: &Advance<'_, D>,
        at: Inputs<'_>,
        before: [V; M],
        demonstrated: bool,
    ) {
        let (at, moved) = (StepContext::over(at), Mask::splat(true));
        let departure = if demonstrated { Some(&mut self.departure) } else { None };
        let cost = advance.arrive(&at, &mut self.running, departure, moved, self.x, before);
        self.cost = kahan_add(self.cost, cost);
    }

    /// Forgets the costs that have been added.
    #[inline(always)]
    fn clear_costs(&mut self) {
        (self.cost, self.departure) = ([V::from(0.0); 2], V::from(0.0));
    }

    #[inline(always)]
    fn depart<const M: usize, D: Model<N, M>>(&mut self, advance: &Advance<'_, D>, at: Inputs<'_>, now: [V; M]) {
        self.x = advance.depart(&StepContext::over(at), &self.running, self.x, now);
    }

    /// Adds the terminal cost and stores the scores.
    #[inline(always)]
    fn end<const M: usize, D: Model<N, M>>(
        &self,
        model: &D,
        at: Inputs<'_>,
        lane: usize,
        demonstrated: bool,
        scores: &mut [f32],
    ) {
        let [total, lost] = kahan_add(self.cost, model.terminal(&StepContext::over(at), self.x));
        total.store(&mut scores[lane..]);
        (-lost).store(&mut scores[TILE + lane..]);
        if demonstrated {
            self.departure.store(&mut scores[2 * TILE + lane..]);
        }
    }
}

/// The controls of a time step.
#[inline(always)]
fn controls_of<V: Register, const M: usize>(columns: &[f32], lane: usize) -> [V; M] {
    // The mask makes it provable that the access is within a column.
    let lane = lane & (TILE - V::COUNT);
    let mut u = [V::from(0.0); M];
    for m in 0..M {
        u[m] = V::load(&columns[m * TILE + lane..]);
    }
    u
}
