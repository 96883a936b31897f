//! Draw and score the rows of a policy, one row per lane. Twin: `shaders/score/episode.wgsl`.
//!
//! A row of perturbed parameters is scored by several episodes, whose starts are shared by all rows. A row of scores is
//! one episode: the row accumulates over its time steps.

use std::ops::Range;
use std::sync::Arc;

use pulp::{Simd, WithSimd};

use super::rollout::{CostBounds, Rollout, Tile, cost_bounds_of};
use crate::interp::simd::isa::Isa;
use crate::interp::simd::lanes::{Lanes, WIDEST};
use crate::interp::simd::unroll::Unroll2;
use crate::kernels::pass::{LIMITED, NOMINAL_FIRST, Pass, SCORED, STD_SCALE, TILE};
use crate::kernels::propose::draw::{Draw, mirrored};
use crate::lang::cache_line::CacheLine;
use crate::lang::math::{Vector, kahan_add};
use crate::lang::network::{LEAST_ROWS, NetworkHistory};
use crate::lang::stream::Stream;
use crate::lang::{
    GradSink, GradientAccumulator, Mask, NetworkScratch, ParamView, Params, Real, Register, StepContext, Timeline,
};
use crate::model::Model;
use crate::model::advance::Advance;
use crate::model::policy::Policy;

/// The rows that are computed in parallel: two registers.
type Unrolled<S> = Unroll2<Lanes<S>>;

/// A model of `N` states and `M` controls, driven by a policy.
pub(crate) struct OfPolicy<const N: usize, const M: usize, D, P> {
    model: Arc<D>,
    policy: Arc<P>,
    /// The scratch size of the policy's largest network, inputs and units, in numbers per row.
    units: usize,
}

impl<const N: usize, const M: usize, D: Model<N, M>, P: Policy<N, M>> OfPolicy<N, M, D, P> {
    pub(crate) fn new(model: Arc<D>, policy: Arc<P>, units: usize) -> Self {
        Self { model, policy, units }
    }
}

impl<const N: usize, const M: usize, D: Model<N, M>, P: Policy<N, M>> Rollout for OfPolicy<N, M, D, P> {
    fn scratch(&self, pass: &Pass) -> usize {
        // Enough for the widest registers.
        EpisodeScratch::lines(pass, self.units, 2 * WIDEST).iter().sum()
    }

    fn tile(&self, isa: Isa, mut tile: Tile<'_>) -> CostBounds {
        tile.scores.fill(0.0);
        let Self { ref model, ref policy, units } = *self;
        let (pass, first) = (tile.pass, tile.first);
        if pass.has(SCORED) {
            let tile = Tile { rows: &mut *tile.rows, scores: &mut *tile.scores, scratch: &mut *tile.scratch, ..tile };
            isa.run(Job::<N, M, true, D, P> { isa, model, policy, units, tile, drawn: &[], lanes: 0..TILE });
        } else {
            perturb(isa, &mut tile);
            let parts = Tile { rows: &mut [], scores: &mut *tile.scores, scratch: &mut *tile.scratch, ..tile };
            self.score(isa, parts, tile.rows, 0..TILE);
        }
        cost_bounds_of(isa, tile.scores, pass.rows as usize - first)
    }

    fn draw(&self, isa: Isa, mut tile: Tile<'_>) {
        if tile.pass.has(SCORED) {
            self.tile(isa, tile);
        } else {
            perturb(isa, &mut tile);
        }
    }

    fn part(&self, pass: &Pass) -> Option<usize> {
        // Several episodes of a row leave fewer rows in the two widest registers.
        let abreast = shares_parameters(pass, 2 * WIDEST) && pass.episodes.is_multiple_of(2);
        (!pass.has(SCORED)).then_some(if abreast { WIDEST } else { 2 * WIDEST })
    }

    fn score(&self, isa: Isa, tile: Tile<'_>, drawn: &[f32], lanes: Range<usize>) {
        let Self { ref model, ref policy, units } = *self;
        isa.run(Job::<N, M, false, D, P> { isa, model, policy, units, tile, drawn, lanes });
    }
}

/// Whether the parameters of `count` rows are so many that several episodes share them: see [`Job::perturbed`].
fn shares_parameters(pass: &Pass, count: usize) -> bool {
    pass.width as usize * count * size_of::<f32>() > L1_CACHE
}

/// Draws the rows of a tile: parameters perturbed around the nominal.
fn perturb(isa: Isa, tile: &mut Tile<'_>) {
    let Tile { pass, number, first, .. } = *tile;
    let into = &mut tile.rows[..pass.width as usize * TILE];
    Draw { pass, stream: Stream::Rows.word(number), row: first, pair: false, block: 0, into }.run(isa);
    isa.run(Perturb { tile });
}

/// Adds noise to the nominal.
struct Perturb<'a, 'b> {
    tile: &'a mut Tile<'b>,
}

impl WithSimd for Perturb<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Tile { pass, problem, first, .. } = *self.tile;
        let zero = Lanes::<S>::from(0.0);
        for lane in (0..TILE).step_by(Lanes::<S>::COUNT) {
            let mirrored = mirrored::<Lanes<S>>(pass, first + lane);
            let row = Lanes::<S>::iota((first + lane) as u32);
            let still = Lanes::<S>::bits_eq(row, Lanes::<S>::splat_bits(0)) & Mask::splat(pass.has(NOMINAL_FIRST));
            for (d, (x, column)) in problem.nominal.iter().zip(self.tile.rows.chunks_exact_mut(TILE)).enumerate() {
                let factor = if pass.has(STD_SCALE) { pass.scale * problem.std_scale[d] } else { pass.scale };
                let noise = Lanes::<S>::load(&column[lane..]) * factor;
                let noise = Lanes::simd_select(mirrored, -noise, noise);
                (Lanes::simd_select(still, zero, noise) + *x).store(&mut column[lane..]);
            }
        }
    }
}

/// Adds the derivatives by the parameters of a network in the last few time steps. (A function of its own, so that it
/// is not compiled again for every policy.)
#[inline(never)]
fn add_products(isa: Isa, history: &mut NetworkHistory<'_>, values: &mut [f32]) {
    isa.run(AddProducts { history, values });
}

/// See [`add_products`].
struct AddProducts<'a, 'b> {
    history: &'a mut NetworkHistory<'b>,
    values: &'a mut [f32],
}

impl WithSimd for AddProducts<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.history.add_to::<Unrolled<S>>(self.values);
    }
}

/// The episodes of a tile, whose rows are scores to accumulate, or parameters that have been drawn already.
struct Job<'a, const N: usize, const M: usize, const SCORES: bool, D, P> {
    isa: Isa,
    model: &'a D,
    policy: &'a P,
    units: usize,
    tile: Tile<'a>,
    /// The parameters of all rows of the tile, if these have been drawn.
    drawn: &'a [f32],
    /// The rows to run.
    lanes: Range<usize>,
}

impl<const N: usize, const M: usize, const SCORES: bool, D: Model<N, M>, P: Policy<N, M>> WithSimd
    for Job<'_, N, M, SCORES, D, P>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let rows = self.tile.pass.rows as usize - self.tile.first;
        self.lanes.end = self.lanes.end.min(rows);
        let lines = std::mem::take(&mut self.tile.scratch);
        for lane in self.lanes.clone().step_by(Unrolled::<S>::COUNT) {
            let scratch = EpisodeScratch::of(lines, self.tile.pass, self.units, Unrolled::<S>::COUNT);
            if SCORES {
                self.scored::<Unrolled<S>>(lane, scratch);
            } else {
                self.perturbed::<Lanes<S>>(lane, scratch);
            }
        }
    }
}

/// Scratch for one register group of rows.
struct EpisodeScratch<'a> {
    /// Parameters or scores of these rows only, which every step reads or adds to: a compact copy occupies less of the
    /// L1 cache. One register more than that, so that whole registers can be loaded anywhere.
    local: &'a mut [f32],
    /// Scratch for network activations.
    network_scratch: NetworkScratch<'a>,
    /// Memory for a [`NetworkHistory`]; empty unless rows are scores.
    history: NetworkScratch<'a>,
    /// Cached draws of [`CACHED`] consecutive coordinates, each as wide as a tile; empty where actions have no noise.
    cached: &'a mut [f32],
}

impl<'a> EpisodeScratch<'a> {
    /// The cache lines that each part takes, for `count` rows at once and networks of `units` numbers.
    fn lines(pass: &Pass, units: usize, count: usize) -> [usize; 4] {
        let scored = usize::from(pass.has(SCORED));
        // The derivatives by the sums of the units are stored, too.
        let network = (1 + scored) * units * count;
        let history = scored * NetworkHistory::STEPS * network;
        [pass.width as usize * count + WIDEST, network, history, scored * CACHED * TILE].map(CacheLine::holding)
    }

    fn of(lines: &'a mut [CacheLine], pass: &Pass, units: usize, count: usize) -> Self {
        let [local, network_scratch, history, cached] = Self::lines(pass, units, count);
        let (local, rest) = lines.split_at_mut(local);
        let (network_scratch, rest) = rest.split_at_mut(network_scratch);
        let (history, rest) = rest.split_at_mut(history);
        Self {
            local: &mut CacheLine::numbers_mut(local)[..pass.width as usize * count + WIDEST],
            network_scratch: NetworkScratch::new(network_scratch),
            history: NetworkScratch::new(history),
            cached: CacheLine::numbers_mut(&mut rest[..cached]),
        }
    }
}

/// Values that the episodes of one register group share.
#[derive(Clone, Copy)]
struct EpisodeConfig<'a, V: Register, const M: usize> {
    tile: &'a Tile<'a>,
    /// The lanes that hold rows: the last tile may be partial.
    present: V::Truth,
    low: [f32; M],
    high: [f32; M],
}

/// The initial state of an episode, then its parameters; each value is per lane or (stride 0) the same for all lanes.
#[derive(Clone, Copy)]
struct InitialState<'a> {
    values: &'a [f32],
    stride: usize,
}

/// The noise on the actions of an episode.
struct ActionNoise<'a, V: Register, const M: usize> {
    isa: Isa,
    pass: &'a Pass,
    stream: u32,
    /// The first row.
    row: usize,
    mirrored: V::Truth,
    deviation: [V; M],
    /// The cached draws; see [`EpisodeScratch`].
    cached: &'a mut [f32],
}

/// The size of the L1 cache in bytes, at least.
const L1_CACHE: usize = 32 << 10;

/// Coordinates whose draws are computed at once: a whole number of Philox blocks.
const CACHED: usize = 64;

impl<const N: usize, const M: usize, const SCORES: bool, D: Model<N, M>, P: Policy<N, M>> Job<'_, N, M, SCORES, D, P> {
    /// Runs the rows from `lane` on, those of two registers: the cost of a row is the mean cost of its episodes.
    ///
    /// A policy reads all of its parameters at every step. If those of two registers of rows exceed the L1 cache,
    /// loading them takes longer than multiplying by them. The two registers then hold several episodes of fewer rows,
    /// and a parameter is stored once and loaded once for all of these episodes. The costs of a row are added in the
    /// same order in either case.
    #[cfg_attr(optimized, inline(always))]
    fn perturbed<V: Register>(
        &mut self,
        lane: usize,
        EpisodeScratch { local, network_scratch, .. }: EpisodeScratch<'_>,
    ) {
        let (pass, problem) = (self.tile.pass, self.tile.problem);
        let count = Unroll2::<V>::COUNT;
        let entry = N + problem.layout.params;
        let episodes = pass.episodes as usize;
        let starts = &problem.inputs[pass.starts as usize + self.tile.number as usize * episodes * entry..];
        let mut others = &starts[..episodes * entry];
        let view = ParamView { network_scratch: Some(network_scratch), ..ParamView::shared(&[]) };

        // The cost of each row and its Kahan compensation.
        let mut sums = [[0.0; 2 * WIDEST]; 2];
        if const { Unroll2::<V>::COUNT >= 2 * LEAST_ROWS } && shares_parameters(pass, count) {
            let present = self.lanes.end - lane;
            let mut columns = vec![0.0; entry * count];
            for abreast in [8, 4, 2] {
                let rows = count / abreast;
                if rows < LEAST_ROWS {
                    continue;
                }
                let shared;
                (shared, others) = others.split_at(others.len() - others.len() % (abreast * entry));
                if shared.is_empty() {
                    continue;
                }
                for first in (0..count.min(present)).step_by(rows) {
                    let setting = self.setting::<Unroll2<V>>(lane + first, rows);
                    self.copy_rows(lane + first, rows, local);
                    for starts in shared.chunks_exact(abreast * entry) {
                        for (i, column) in columns.chunks_exact_mut(count).enumerate() {
                            for (lanes, start) in column.chunks_exact_mut(rows).zip(starts.chunks_exact(entry)) {
                                lanes.fill(start[i]);
                            }
                        }
                        let start = InitialState { values: &columns, stride: count };
                        let source = ParamView { values: &*local, stride: rows, repeated: true, ..view };
                        let mut costs = [[0.0; 2 * WIDEST]; 2];
                        for (number, to) in self.episode(&setting, start, source, None).into_iter().zip(&mut costs) {
                            number.store(to);
                        }
                        for l in 0..count {
                            let row = first + l % rows;
                            let sum = kahan_add(sums.map(|sums| sums[row]), costs[0][l]);
                            [sums[0][row], sums[1][row]] = kahan_add(sum, -costs[1][l]);
                        }
                    }
                }
            }
        }

        let mut sum = sums.map(|sums| Unroll2::<V>::load(&sums));
        if !others.is_empty() {
            let setting = self.setting(lane, count);
            self.copy_rows(lane, count, local);
            for values in others.chunks_exact(entry) {
                let (start, source) =
                    (InitialState { values, stride: 0 }, ParamView { values: &*local, stride: count, ..view });
                let [total, lost] = self.episode(&setting, start, source, None);
                sum = kahan_add(kahan_add(sum, total), -lost);
            }
        }
        let scale = 1.0 / episodes as f32;
        let [total, lost] = sum;
        (total * scale).store(&mut self.tile.scores[lane..]);
        (-lost * scale).store(&mut self.tile.scores[TILE + lane..]);
    }

    /// Copies the parameters of `count` rows.
    #[inline(always)]
    fn copy_rows(&self, lane: usize, count: usize, local: &mut [f32]) {
        let columns = self.drawn.chunks_exact(TILE).take(self.tile.pass.width as usize);
        // A copy of a constant length is a load and a store, others are calls.
        macro_rules! copy {
            ($($length:literal)*) => {
                match count {
                    $($length => for (column, to) in columns.zip(local.as_chunks_mut::<$length>().0) {
                        to.copy_from_slice(&column[lane..][..$length]);
                    },)*
                    _ => for (column, to) in columns.zip(local.chunks_exact_mut(count)) {
                        to.copy_from_slice(&column[lane..][..count]);
                    },
                }
            };
        }
        copy!(4 8 16 32);
    }

    /// Runs the rows from `lane` on: each is the scores of one episode.
    #[cfg_attr(optimized, inline(always))]
    fn scored<V: Register>(
        &mut self,
        lane: usize,
        EpisodeScratch { local, network_scratch, history, cached }: EpisodeScratch<'_>,
    ) {
        let (pass, problem) = (self.tile.pass, self.tile.problem);
        let (parameters, deviations) = problem.nominal.split_at(problem.nominal.len() - M);
        let zero = V::from(0.0);

        // The starts of the rows, transposed so that consecutive rows are consecutive in memory.
        let (rows, entry) = (pass.rows as usize, N + problem.layout.params);
        let starts = &problem.inputs[pass.starts as usize + self.tile.number as usize * rows * entry..];
        let mut columns = vec![0.0; entry * V::COUNT];
        let first = self.tile.first + lane;
        for (column, k) in (first..rows.min(first + V::COUNT)).enumerate() {
            for (i, value) in starts[k * entry..][..entry].iter().enumerate() {
                columns[i * V::COUNT + column] = *value;
            }
        }
        let start = InitialState { values: &columns, stride: V::COUNT };

        local.fill(0.0);
        let mut deviation = [zero; M];
        for m in 0..M {
            deviation[m] = V::from(Real::exp(deviations[m]));
        }
        let mut noise = ActionNoise {
            isa: self.isa,
            pass,
            stream: Stream::Actions.word(self.tile.number),
            row: first,
            mirrored: mirrored::<V>(pass, first),
            deviation,
            cached,
        };
        let setting = self.setting::<V>(lane, V::COUNT);
        let source = ParamView { network_scratch: Some(network_scratch), ..ParamView::shared(parameters) };
        let mut history = NetworkHistory::new::<V>(history);
        let sink = GradSink { values: local, stride: V::COUNT, refused: false, history: Some(&mut history) };
        let [total, lost] = self.episode(&setting, start, source, Some((&mut noise, sink)));
        let columns = self.tile.rows.chunks_exact_mut(TILE).take(pass.width as usize);
        for (column, local) in columns.zip(local.chunks_exact(V::COUNT)) {
            column[lane..][..V::COUNT].copy_from_slice(local);
        }
        total.store(&mut self.tile.scores[lane..]);
        (-lost).store(&mut self.tile.scores[TILE + lane..]);
    }

    /// The setting of `count` rows from `lane` on: lane l of a number is an episode of row l % `count`.
    #[cfg_attr(optimized, inline(always))]
    fn setting<V: Register>(&self, lane: usize, count: usize) -> EpisodeConfig<'_, V, M> {
        let (layout, inputs) = (self.tile.problem.layout, self.tile.problem.inputs);
        let rows = self.tile.pass.rows as usize - self.tile.first - lane;
        let mut present = [0.0; 2 * WIDEST];
        for lanes in present[..V::COUNT].chunks_exact_mut(count) {
            lanes[..rows.min(count)].fill(1.0);
        }
        let (mut low, mut high) = ([0.0; M], [0.0; M]);
        low.copy_from_slice(&inputs[layout.low()..][..M]);
        high.copy_from_slice(&inputs[layout.high()..][..M]);
        EpisodeConfig { tile: &self.tile, present: V::load(&present).gt(0.0), low, high }
    }

    /// Runs one episode per lane; returns its cost and the Kahan compensation. With action noise, adds its scores to
    /// the sink.
    #[cfg_attr(optimized, inline(always))]
    fn episode<V: Register>(
        &self,
        setting: &EpisodeConfig<'_, V, M>,
        start: InitialState<'_>,
        source: ParamView<'_>,
        explores: Option<(&mut ActionNoise<'_, V, M>, GradSink<'_>)>,
    ) -> [V; 2] {
        let (pass, problem) = (setting.tile.pass, setting.tile.problem);
        let horizon = pass.horizon as usize;
        let weights =
            ParamView { network_scratch: source.network_scratch, ..ParamView::of_task(problem.weights.values) };
        let timeline = Timeline {
            params: &start.values[N * start.stride.max(1)..],
            param_stride: start.stride,
            weights,
            ..problem.layout.timeline(problem.inputs, problem.fields.look_ups(), &[], pass.dt)
        };
        let context = |t: usize| StepContext::over(timeline.at(t));
        let theta = Params::over(source);
        let mut explores = explores.map(|(noise, sink)| (noise, GradientAccumulator::over(sink)));
        let zero = V::from(0.0);
        let mut x = [zero; N];
        for i in 0..N {
            x[i] =
                if start.stride == 0 { V::from(start.values[i]) } else { V::load(&start.values[i * start.stride..]) };
        }
        let advance = Advance { model: self.model, ends: true };
        let mut before = [zero; M];
        let mut running = setting.present;
        let mut sum = [zero; 2];
        for t in 0..horizon {
            let (at, arrived) = (context(t), context(t.max(1) - 1));
            // The cost of the previous step is evaluated here, together with the next step, so that common
            // subexpressions are computed once.
            let counts = running;
            let cost = advance.arrive(&arrived, &mut running, None, Mask::splat(t > 0), x, before);
            // The sum of a finished row stays bit-identical, however long the rows in other lanes run on.
            let more = kahan_add(sum, cost);
            sum = [V::simd_select(counts, more[0], sum[0]), V::simd_select(counts, more[1], sum[1])];
            if !V::any(running) {
                break;
            }
            let mut u = match &mut explores {
                None => self.policy.act(&at, &theta, x),
                Some((noise, g)) => {
                    let z = noise.draw(t);
                    let mut v = [zero; M];
                    for m in 0..M {
                        v[m] = V::simd_select(running, z[m] / noise.deviation[m], zero);
                        g.add(
                            setting.tile.problem.nominal.len() - M + m,
                            V::simd_select(running, z[m] * z[m] - 1.0, zero),
                        );
                    }
                    // The state of a finished row may be non-finite, and its product with 0 is then not 0.
                    let mut seen = x;
                    for i in 0..N {
                        seen[i] = V::simd_select(running, x[i], zero);
                    }
                    let mut u = self.policy.vjp(&at, &theta, seen, v, g);
                    for m in 0..M {
                        u[m] = z[m].mul_add(noise.deviation[m], u[m]);
                    }
                    if let Some(history) = &mut g.sink.history
                        && history.end_step()
                    {
                        add_products(noise.isa, history, g.sink.values);
                    }
                    u
                }
            };
            if pass.has(LIMITED) {
                for m in 0..M {
                    u[m] = u[m].clamp(setting.low[m], setting.high[m]);
                }
            }
            x = advance.depart(&at, &running, x, u);
            before = u;
        }
        if let Some((noise, g)) = &mut explores
            && let Some(history) = &mut g.sink.history
        {
            add_products(noise.isa, history, g.sink.values);
        }
        let cost = advance.arrive(&context(horizon - 1), &mut running, None, Mask::splat(true), x, before);
        sum = kahan_add(sum, cost);
        kahan_add(sum, self.model.terminal(&context(horizon), x))
    }
}

impl<V: Register, const M: usize> ActionNoise<'_, V, M> {
    /// The normals of time step `t`.
    #[cfg_attr(optimized, inline(always))]
    fn draw(&mut self, t: usize) -> [V; M] {
        let mut z = [V::from(0.0); M];
        for m in 0..M {
            let d = t * M + m;
            if d.is_multiple_of(CACHED) {
                let Self { isa, pass, stream, row, .. } = *self;
                let (block, into) = (d / 4, &mut *self.cached);
                Draw { pass, stream, row, pair: true, block, into }.run(isa);
            }
            let drawn = V::load(&self.cached[d % CACHED * TILE..]);
            z[m] = V::simd_select(self.mirrored, -drawn, drawn);
        }
        z
    }
}
