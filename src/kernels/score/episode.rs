//! Draw and score the rows of a policy, one row per lane. Twin: `shaders/score/episode.wgsl`.
//!
//! A row of perturbed parameters is scored by several episodes, whose starts are shared by all rows. A row of scores is
//! one episode: the row accumulates over its time steps.

use std::sync::Arc;

use pulp::{Simd, WithSimd};

use super::rollout::{CostBounds, Rollout, Tile, cost_bounds};
use crate::interp::simd::isa::Isa;
use crate::interp::simd::lanes::{Lanes, WIDEST};
use crate::interp::simd::unroll::Unroll2;
use crate::kernels::pass::{LIMITED, NOMINAL_FIRST, Pass, SCORED, STD_SCALE, TILE};
use crate::kernels::propose::draw::{Draw, mirrored};
use crate::lang::cache_line::CacheLine;
use crate::lang::math::{Vector, kahan_add};
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
        if tile.pass.has(SCORED) {
            return isa.run(Job::<N, M, true, D, P> { isa, model, policy, units, tile });
        }
        perturb(isa, &mut tile);
        isa.run(Job::<N, M, false, D, P> { isa, model, policy, units, tile })
    }
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

/// The episodes of a tile, whose rows are scores to accumulate, or parameters that have been drawn already.
struct Job<'a, const N: usize, const M: usize, const SCORES: bool, D, P> {
    isa: Isa,
    model: &'a D,
    policy: &'a P,
    units: usize,
    tile: Tile<'a>,
}

impl<const N: usize, const M: usize, const SCORES: bool, D: Model<N, M>, P: Policy<N, M>> WithSimd
    for Job<'_, N, M, SCORES, D, P>
{
    type Output = CostBounds;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> CostBounds {
        let rows = self.tile.pass.rows as usize - self.tile.first;
        let lines = std::mem::take(&mut self.tile.scratch);
        for lane in (0..TILE.min(rows)).step_by(Unrolled::<S>::COUNT) {
            let scratch = EpisodeScratch::of(lines, self.tile.pass, self.units, Unrolled::<S>::COUNT);
            if SCORES {
                self.scored::<Unrolled<S>>(lane, scratch);
            } else {
                self.perturbed::<Lanes<S>>(lane, scratch);
            }
        }
        cost_bounds::<S>(self.tile.scores, rows)
    }
}

/// Scratch for one register group of rows.
struct EpisodeScratch<'a> {
    /// Parameters or scores of these rows only, which every step reads or adds to: a compact copy occupies less of the
    /// L1 cache.
    local: &'a mut [f32],
    /// Scratch for network activations.
    network_scratch: NetworkScratch<'a>,
    /// Cached draws of [`CACHED`] consecutive coordinates, each as wide as a tile; empty where actions have no noise.
    cached: &'a mut [f32],
}

impl<'a> EpisodeScratch<'a> {
    /// The cache lines that each part takes, for `count` rows at once and networks of `units` numbers.
    fn lines(pass: &Pass, units: usize, count: usize) -> [usize; 3] {
        let cached = if pass.has(SCORED) { CACHED * TILE } else { 0 };
        [pass.width as usize * count, units * count, cached].map(CacheLine::holding)
    }

    fn of(lines: &'a mut [CacheLine], pass: &Pass, units: usize, count: usize) -> Self {
        let [local, network_scratch, cached] = Self::lines(pass, units, count);
        let (local, rest) = lines.split_at_mut(local);
        let (network_scratch, rest) = rest.split_at_mut(network_scratch);
        Self {
            local: &mut CacheLine::numbers_mut(local)[..pass.width as usize * count],
            network_scratch: NetworkScratch::new(network_scratch),
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
    /// loading them takes longer than multiplying by them. Two episodes of one register of rows then run side by side,
    /// and each parameter that is loaded is used for both. The costs of a row are added in the same order in either
    /// case.
    #[cfg_attr(optimized, inline(always))]
    fn perturbed<V: Register>(
        &mut self,
        lane: usize,
        EpisodeScratch { local, network_scratch, .. }: EpisodeScratch<'_>,
    ) {
        let (pass, problem) = (self.tile.pass, self.tile.problem);
        let entry = N + problem.layout.params;
        let episodes = pass.episodes as usize;
        let starts = &problem.inputs[pass.starts as usize + self.tile.number as usize * episodes * entry..];
        let in_pairs = if size_of_val(local) > L1_CACHE { episodes - episodes % 2 } else { 0 };
        let (pairs, others) = starts[..episodes * entry].split_at(in_pairs * entry);
        let setting = self.setting::<Unroll2<V>>(lane);

        let mut sums = [[V::from(0.0); 2]; 2];
        if in_pairs > 0 {
            let mut columns = vec![0.0; entry * 2 * V::COUNT];
            let registers = [setting.present.0, setting.present.1].into_iter().zip(&mut sums);
            for (register, (present, sum)) in registers.enumerate() {
                let setting = EpisodeConfig { present: Unroll2::twice(present), ..setting };
                self.copy_rows(lane + register * V::COUNT, V::COUNT, local);
                let shared = ParamView { network_scratch: Some(network_scratch), ..ParamView::shared(local) };
                let source = ParamView { stride: V::COUNT, repeated: true, ..shared };
                for pair in pairs.chunks_exact(2 * entry) {
                    let (first, second) = pair.split_at(entry);
                    for (i, column) in columns.chunks_exact_mut(2 * V::COUNT).enumerate() {
                        column[..V::COUNT].fill(first[i]);
                        column[V::COUNT..].fill(second[i]);
                    }
                    let start = InitialState { values: &columns, stride: 2 * V::COUNT };
                    let [total, lost] = self.episode(&setting, start, source, None);
                    *sum = kahan_add(kahan_add(*sum, total.0), -lost.0);
                    *sum = kahan_add(kahan_add(*sum, total.1), -lost.1);
                }
            }
        }
        let [first, second] = sums;
        let mut sum = [Unroll2(first[0], second[0]), Unroll2(first[1], second[1])];

        let count = Unroll2::<V>::COUNT;
        self.copy_rows(lane, count, local);
        let source = ParamView { stride: count, network_scratch: Some(network_scratch), ..ParamView::shared(local) };
        for values in others.chunks_exact(entry) {
            let [total, lost] = self.episode(&setting, InitialState { values, stride: 0 }, source, None);
            sum = kahan_add(kahan_add(sum, total), -lost);
        }
        let scale = 1.0 / episodes as f32;
        let [total, lost] = sum;
        (total * scale).store(&mut self.tile.scores[lane..]);
        (-lost * scale).store(&mut self.tile.scores[TILE + lane..]);
    }

    /// Copies the parameters of `count` rows.
    #[inline(always)]
    fn copy_rows(&self, lane: usize, count: usize, local: &mut [f32]) {
        for (column, local) in self.tile.rows.chunks_exact(TILE).zip(local.chunks_exact_mut(count)) {
            local.copy_from_slice(&column[lane..][..count]);
        }
    }

    /// Runs the rows from `lane` on: each is the scores of one episode.
    #[cfg_attr(optimized, inline(always))]
    fn scored<V: Register>(
        &mut self,
        lane: usize,
        EpisodeScratch { local, network_scratch, cached }: EpisodeScratch<'_>,
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
        let setting = self.setting::<V>(lane);
        let source = ParamView { network_scratch: Some(network_scratch), ..ParamView::shared(parameters) };
        let sink = GradSink { values: local, stride: V::COUNT, refused: false };
        let [total, lost] = self.episode(&setting, start, source, Some((&mut noise, sink)));
        for (column, local) in self.tile.rows.chunks_exact_mut(TILE).zip(local.chunks_exact(V::COUNT)) {
            column[lane..][..V::COUNT].copy_from_slice(local);
        }
        total.store(&mut self.tile.scores[lane..]);
        (-lost).store(&mut self.tile.scores[TILE + lane..]);
    }

    #[cfg_attr(optimized, inline(always))]
    fn setting<V: Register>(&self, lane: usize) -> EpisodeConfig<'_, V, M> {
        let (layout, inputs) = (self.tile.problem.layout, self.tile.problem.inputs);
        let mut present = [0.0; TILE];
        let rows = self.tile.pass.rows as usize - self.tile.first;
        present[..rows.min(TILE)].fill(1.0);
        let (mut low, mut high) = ([0.0; M], [0.0; M]);
        low.copy_from_slice(&inputs[layout.low()..][..M]);
        high.copy_from_slice(&inputs[layout.high()..][..M]);
        EpisodeConfig { tile: &self.tile, present: V::load(&present[lane..]).gt(0.0), low, high }
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
                    u
                }
            };
            if pass.has(LIMITED) {
                for m in 0..M {
                    u[m] = u[m].clamp(setting.low[m], setting.high[m]);
                }
            }
            x = advance.depart(&at, running, x, u);
            before = u;
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
