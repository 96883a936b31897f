//! The five verbs as data: one [`Pass`] specifies how rows are drawn, scored, weighed, averaged and stepped.
//!
//! A driver writes a list of them; a backend executes the list without a round trip to the host in between. The GPU
//! (`shaders/pass.wgsl` is the twin) and the CPU read the same struct.

use bytemuck::{Pod, Zeroable};

use super::propose::shape::Filter;
use crate::lang::grid::{FieldChanges, FieldSet};
use crate::lang::look_up::LookUps;
use crate::lang::{ParamView, Timeline};

/// The number of rows in a tile. A tile is stored coordinate by coordinate, with its rows contiguous: [`TILE`] lanes of
/// a SIMD loop, or one workgroup with coalesced loads and stores.
pub(crate) const TILE: usize = 64;

/// The number of rows whose weighted sum is formed at once; these partial results are then merged in order.
pub(crate) const GROUP: usize = 1024;

/// Maximum number of problems in a dispatch.
pub(crate) const MAX_PROBLEMS: usize = 65_535;

/// Maximum number of coordinates of a row, or of its averaged part: a dispatch has at most 65,535 workgroups per
/// dimension, of 16 coordinates each.
pub(crate) const MAX_NUMBERS: usize = 65_535 * 16;

/// Rounds `value` up to a multiple of `step`.
pub(crate) fn round_up(value: usize, step: usize) -> usize {
    value.div_ceil(step) * step
}

/// [`Pass::flags`]: the rows are given and not drawn.
pub(crate) const GIVEN: u32 = 1;
/// [`Pass::flags`]: row 0 is the nominal itself.
pub(crate) const NOMINAL_FIRST: u32 = 2;
/// [`Pass::flags`]: rows are clamped to a box.
pub(crate) const LIMITED: u32 = 4;
/// [`Pass::flags`]: the control cost Σ uᵀ Σ⁻¹ ε enters the weights.
pub(crate) const CONTROL_COST: u32 = 8;
/// [`Pass::flags`]: the second moment is computed besides the mean: Σ w r², or about x if the rows are drawn.
pub(crate) const SECOND_MOMENT: u32 = 16;
/// [`Pass::flags`]: the nominal is clamped to the box as well, after each step.
pub(crate) const CLAMPED: u32 = 32;
/// [`Pass::flags`]: every coordinate scales its noise by its own factor (see [`Problem::std_scale`]).
pub(crate) const STD_SCALE: u32 = 64;
/// [`Pass::flags`]: the step turns the weighted standard deviation into the next standard-deviation scale.
pub(crate) const ADAPT: u32 = 128;
/// [`Pass::flags`]: J = min(cost, demonstration cost + departure), the departure relative to the smallest.
pub(crate) const DEMONSTRATED: u32 = 256;
/// [`Pass::flags`]: weights are signed and not exponentiated: w = −(J − J̄)/(λ K).
pub(crate) const SIGNED: u32 = 512;
/// [`Pass::flags`]: rows 2j and 2j + 1 share their noise, with opposite signs.
pub(crate) const ANTITHETIC: u32 = 1024;
/// [`Pass::flags`]: rows are parameters of a policy, x + scale · z, scored by [`Pass::episodes`] episodes under
/// them.
pub(crate) const PERTURBED: u32 = 2048;
/// [`Pass::flags`]: a row is the score Σ ∂ log π(a|s) of one episode under parameters x: the derivatives by the
/// parameters, followed by those by the logarithms of the standard deviations of the action noise.
pub(crate) const SCORED: u32 = 4096;
/// [`Pass::flags`]: each group of [`Pass::chains`] consecutive problems has inputs, a seed and a first pass number of
/// its own. Without it, all problems share the inputs and the seed of the pass.
pub(crate) const FLEET: u32 = 8192;
/// [`Pass::flags`]: rows are averaged in coordinates of their own, the innovations of [`Problem::filter`], and not as
/// controls.
pub(crate) const FILTERED: u32 = 16384;
/// [`Pass::flags`]: the change of a control from one time step to the next is limited, from [`Layout::last`] on. Only
/// with [`FILTERED`].
pub(crate) const RATE_LIMITED: u32 = 32768;
/// [`Pass::flags`]: rows take the first [`Pass::delay`] controls from the nominal. Only with [`FILTERED`].
pub(crate) const DELAYED: u32 = 65536;
/// [`Pass::flags`]: the change of that change from one time step to the next is limited, from [`Layout::last_change`]
/// on. Only with [`FILTERED`].
pub(crate) const JERK_LIMITED: u32 = 131_072;

/// [`Pass::search`]: λ is [`Pass::temperature`].
pub(crate) const FIXED: u32 = 0;
/// [`Pass::search`]: λ such that the effective sample size is [`Pass::target`] of the valid rows.
pub(crate) const EFFECTIVE: u32 = 1;
/// [`Pass::search`]: λ such that the weights' divergence from equal weights, Σ w log(K w), is [`Pass::target`].
pub(crate) const DIVERGENCE: u32 = 2;
/// [`Pass::search`]: λ is [`Pass::target`] times the standard deviation of J, which counts as 1 where there is
/// none.
pub(crate) const STANDARDISED: u32 = 3;
/// [`Pass::search`]: no λ; the best [`Pass::target`] of the valid rows, at least one, have equal weights, the others
/// none. Rows that tie with the last of them belong to them.
pub(crate) const ELITE: u32 = 4;

/// [`Pass::risk`]: the mean over the [`Pass::risk_value`] worst scenarios.
pub(crate) const TAIL: u32 = 0;
/// [`Pass::risk`]: (1/θ) ln mean e^{θ cost}, with θ = [`Pass::risk_value`].
pub(crate) const ENTROPIC: u32 = 1;

/// Maximum number of passes over all rows when solving for [`EFFECTIVE`] or [`DIVERGENCE`]: as many as bisection alone
/// would need.
pub(crate) const MAX_EVALUATIONS: u32 = 28;

/// One draw, score, weigh, average, step.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[doc(hidden)]
pub struct Pass {
    /// The key of the noise.
    pub(crate) seed: [u32; 2],
    /// The index of this pass under the seed.
    pub(crate) number: u32,
    /// K.
    pub(crate) rows: u32,
    /// T.
    pub(crate) horizon: u32,
    /// D, the coordinates of a row (T·M for a plan).
    pub(crate) width: u32,
    pub(crate) flags: u32,
    /// The time step (in seconds).
    pub(crate) dt: f32,
    /// The strides of a row's coordinates and of a tile's rows: (64, 1) in tiles, (1, D) row by row.
    pub(crate) coordinate_stride: u32,
    pub(crate) row_stride: u32,
    /// The offset of the reference table in the inputs, and its shape.
    pub(crate) references: u32,
    pub(crate) reference_rows: u32,
    pub(crate) reference_columns: u32,
    /// ℓ = −(s·S + g·C)/λ − h·C, with S the rollout cost and C = Σ uᵀ Σ⁻¹ ε.
    pub(crate) cost_scale: f32,
    pub(crate) control_scaled: f32,
    pub(crate) control_fixed: f32,
    /// λ, or its fallback if all costs are equal.
    pub(crate) temperature: f32,
    /// How λ is determined, and the target of the search.
    pub(crate) search: u32,
    pub(crate) target: f32,
    /// x⁺ = a·m + b·x + c·z.
    pub(crate) a: f32,
    pub(crate) b: f32,
    pub(crate) c: f32,
    /// Rows are drawn around x with `scale` times the standard deviation.
    pub(crate) scale: f32,
    /// B, the number of independent problems; each has its own rows, weights and nominal.
    pub(crate) problems: u32,
    /// E, the number of episodes that score a row of policy parameters.
    pub(crate) episodes: u32,
    /// The cost assigned to the row nearest to the demonstration; to the others their excess departure is added.
    pub(crate) demonstrated: f32,
    /// Always 0, which the shader compiler cannot infer.
    pub(crate) zero: u32,
    /// The distance in memory between the rows of consecutive problems; 0 if they share them.
    pub(crate) rows_stride: u32,
    /// The offset of the driver's own table in the inputs: for each episode its initial state followed by its
    /// parameters; or the negative rewards of the rows of a data set.
    pub(crate) starts: u32,
    /// The lower bound of an adapted standard-deviation scale.
    pub(crate) floor: f32,
    /// The time steps of an episode that a dispatch executes, if a device does not execute all of them at once. (For
    /// the kernels that store rows or trajectories, `begin` is the index of the problem; for trajectories, `end` is the
    /// number of rows.)
    pub(crate) begin: u32,
    pub(crate) end: u32,
    /// With [`FLEET`], C, the number of consecutive problems that share inputs and seed. Problem p is chain p mod C.
    pub(crate) chains: u32,
    /// With [`FLEET`], the distance between the inputs of consecutive groups of problems.
    pub(crate) inputs_stride: u32,
    /// The numbers of a row that are averaged: D, or with [`FILTERED`] M for each innovation.
    pub(crate) coordinates: u32,
    /// With [`DELAYED`], the number of time steps whose controls are fixed.
    pub(crate) delay: u32,
    /// S, the number of scenarios that rows are rolled out in; 0 if they are rolled out once. Each group of problems
    /// has S more sections of inputs, one for each scenario. Only with [`FLEET`].
    pub(crate) scenarios: u32,
    /// How the costs in all scenarios become one.
    pub(crate) risk: u32,
    pub(crate) risk_value: f32,
    /// The offset of the weights of networks in a device's buffer of inputs. The workspace that uploads a pass sets it.
    pub(crate) weights: u32,
}

impl Pass {
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Switches flags on or off.
    pub(crate) fn set(&mut self, flags: u32, on: bool) {
        self.flags = if on { self.flags | flags } else { self.flags & !flags };
    }

    /// The number of noise vectors of a row: one for each time step, or with [`FILTERED`] as many as its filter takes.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "only the GPU backend reads it"))]
    pub(crate) fn innovations(&self) -> u32 {
        if self.has(FILTERED) { self.coordinates / (self.width / self.horizon) } else { self.horizon }
    }

    /// The number of moments that are averaged for each coordinate: the mean, and the second moment if requested.
    pub(crate) fn moments(&self) -> u32 {
        if self.has(SECOND_MOMENT) { 2 } else { 1 }
    }

    /// Returns the index of the inputs that problem `number` reads, and its chain, which is a part of the counter of
    /// its noise. Twins: `find_inputs` and `noise_chain` in `shaders/fleet.wgsl`.
    pub(crate) fn group_and_chain(&self, number: u32) -> (usize, u32) {
        if self.has(FLEET) { ((number / self.chains) as usize, number % self.chains) } else { (0, number) }
    }

    /// The number of sections of inputs that each group of problems has.
    pub(crate) fn sections(&self) -> usize {
        1 + self.scenarios as usize
    }

    /// The number of rollouts of each row.
    #[cfg(feature = "gpu")]
    pub(crate) fn rollouts(&self) -> u32 {
        self.scenarios.max(1)
    }

    /// The offset of coordinate `d` of row `k`.
    #[inline(always)]
    pub(crate) fn address(&self, k: usize, d: usize) -> usize {
        let tile = (k / TILE) * TILE * self.width as usize;
        tile + (k % TILE) * self.row_stride as usize + d * self.coordinate_stride as usize
    }

    /// Copies contiguous rows into the tiled layout of the kernels.
    pub(crate) fn tile(&self, rows: &[f32], tiled: &mut [f32]) {
        for (k, row) in rows.chunks_exact(self.width as usize).enumerate() {
            for (d, value) in row.iter().enumerate() {
                tiled[self.address(k, d)] = *value;
            }
        }
    }
}

/// The layout of the packed inputs of a problem: x₀, limits, noise covariance, limits of the change per time step and
/// of its own change, last control and its change, parameters, reference table, and after these a table of the driver's
/// own. Drivers get it from [`Packed`](crate::runtime::inputs::Packed), together with the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) states: usize,
    pub(crate) controls: usize,
    pub(crate) params: usize,
    pub(crate) reference_rows: usize,
    pub(crate) reference_columns: usize,
}

impl Layout {
    pub(crate) fn low(&self) -> usize {
        self.states
    }
    pub(crate) fn high(&self) -> usize {
        self.low() + self.controls
    }
    pub(crate) fn factor(&self) -> usize {
        self.high() + self.controls
    }
    pub(crate) fn precision(&self) -> usize {
        self.factor() + self.controls * self.controls
    }
    pub(crate) fn change_low(&self) -> usize {
        self.precision() + self.controls * self.controls
    }
    pub(crate) fn change_high(&self) -> usize {
        self.change_low() + self.controls
    }
    /// The limits of the change of a change, per time step.
    pub(crate) fn jerk_low(&self) -> usize {
        self.change_high() + self.controls
    }
    pub(crate) fn jerk_high(&self) -> usize {
        self.jerk_low() + self.controls
    }
    /// The control before time step 0.
    pub(crate) fn last(&self) -> usize {
        self.jerk_high() + self.controls
    }
    /// The change from the control before that one, per time step.
    pub(crate) fn last_change(&self) -> usize {
        self.last() + self.controls
    }
    pub(crate) fn params_at(&self) -> usize {
        self.last_change() + self.controls
    }
    pub(crate) fn references(&self) -> usize {
        self.params_at() + self.params
    }
    /// The parameters, references, fields and weights that a model reads over the horizon. Their bounds are checked
    /// here, once.
    #[inline(always)]
    pub(crate) fn timeline<'a>(
        &self,
        inputs: &'a [f32],
        fields: LookUps<'a>,
        weights: &'a [f32],
        dt: f32,
    ) -> Timeline<'a> {
        Timeline {
            params: &inputs[self.params_at()..][..self.params],
            param_stride: 0,
            references: &inputs[self.references()..],
            columns: self.reference_columns,
            last_row: self.reference_rows.max(1) - 1,
            dt,
            fields,
            weights: ParamView::of_task(weights),
        }
    }
    /// The offset of the driver's own table, after everything else: see [`Pass::starts`].
    pub(crate) fn table(&self) -> usize {
        self.references() + self.reference_rows * self.reference_columns
    }
}

/// The noise of one group of problems in a [`FLEET`]: the key and the number of the next pass. It follows all other
/// inputs of the group.
///
/// Inputs are floats, and a device may flush floats whose bits are a small integer to zero. So each float holds 16 bits
/// of an integer by value, which is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoiseId {
    pub(crate) key: [u32; 2],
    /// Added to [`Pass::number`].
    pub(crate) number: u32,
}

impl NoiseId {
    /// The number of floats. Twin: `NOISE_ID` in `shaders/fleet.wgsl`.
    pub(crate) const LEN: usize = 6;

    pub(crate) fn to_inputs(self) -> [f32; Self::LEN] {
        let [a, b] = self.key;
        let half = |i: usize| ([a, b, self.number][i / 2] >> (16 * (i % 2))) & 0xffff;
        std::array::from_fn(|i| half(i) as f32)
    }

    /// Reads what [`to_inputs`](Self::to_inputs) wrote to the end of `inputs`.
    pub(crate) fn of_inputs(inputs: &[f32]) -> Self {
        let [a, b, number] = [6, 4, 2].map(|before_end| {
            let at = inputs.len() - before_end;
            inputs[at] as u32 | (inputs[at + 1] as u32) << 16
        });
        Self { key: [a, b], number }
    }
}

/// The weights of a model's networks, and a number that changes whenever they do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weights<'a> {
    pub(crate) values: &'a [f32],
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "only the GPU backend reads it"))]
    pub(crate) version: u64,
}

/// The data that a list of passes operates on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Problem<'a> {
    pub(crate) layout: Layout,
    /// The inputs that all problems share; in a [`FLEET`], those of each group of problems, each with its [`NoiseId`].
    /// With scenarios, the section of the task itself is followed by one for each scenario.
    pub(crate) inputs: &'a [f32],
    /// x of every problem, B × D; for a plan U, T × M.
    pub(crate) nominal: &'a [f32],
    /// With [`STD_SCALE`], the factor on the noise of every coordinate that is averaged, B × [`Pass::coordinates`].
    pub(crate) std_scale: &'a [f32],
    pub(crate) fields: &'a FieldSet,
    /// The weights of the model's networks, which all problems share.
    pub(crate) weights: Weights<'a>,
    /// What has changed in the fields, so that a device uploads only that.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "only the GPU backend reads it"))]
    pub(crate) field_changes: &'a FieldChanges,
    /// With [`FILTERED`], the filter that turns innovations into perturbations.
    pub(crate) filter: Option<&'a Filter>,
    /// Rows supplied by the caller, K × D, shared by all problems.
    pub(crate) rows: Option<&'a [f32]>,
}

impl<'a> Problem<'a> {
    /// The sections of the inputs: with [`FLEET`] those of each group of problems, without it one.
    #[cfg(feature = "gpu")]
    pub(crate) fn sections(&self, pass: &Pass) -> impl ExactSizeIterator<Item = &'a [f32]> + use<'a> {
        let stride = if pass.has(FLEET) { pass.inputs_stride as usize } else { self.inputs.len() };
        self.inputs.chunks_exact(stride.max(1))
    }
}

/// The sums behind a weighted mean, relative to the largest log-weight.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub(crate) struct Sums {
    /// max ℓ over the valid rows.
    pub(crate) max: f32,
    /// Σ e^{ℓ − max}.
    pub(crate) sum: f32,
    /// Σ e^{2(ℓ − max)}.
    pub(crate) squares: f32,
    /// Σ ℓ over the rows that have a positive weight.
    pub(crate) logs: f32,
    /// The number of valid rows.
    pub(crate) valid: u32,
    /// λ.
    pub(crate) temperature: f32,
    /// The rollout cost that log-weights are relative to.
    pub(crate) reference: f32,
    /// The mean of J over the valid rows, relative to `reference`, if the weighting computes it.
    pub(crate) mean: f32,
}

impl Sums {
    pub(crate) const NONE: Self =
        Self { max: MASKED, sum: 0.0, squares: 0.0, logs: 0.0, valid: 0, temperature: 0.0, reference: 0.0, mean: 0.0 };
}

impl Sums {
    /// The mean cost of the valid rows, as it enters the exponent.
    pub(crate) fn mean_cost(&self, pass: &Pass) -> f32 {
        let reference = f64::from(self.reference) * f64::from(pass.cost_scale);
        // A temperature that overflows makes all weights equal, and tells nothing about costs.
        if pass.search == ELITE || pass.has(SIGNED) || self.temperature.is_infinite() {
            // Log-weights are not an affine function of the cost here.
            return (reference + f64::from(self.mean)) as f32;
        }
        (reference - f64::from(self.temperature) * f64::from(self.logs) / f64::from(self.valid)) as f32
    }

    /// log Z = log (1/K) Σ e^{−J/λ}, over all rows; of an elite, the logarithm of its share of the rows.
    pub(crate) fn log_z(&self, pass: &Pass) -> f32 {
        let share = (f64::from(self.sum) / f64::from(pass.rows)).ln();
        if pass.search == ELITE {
            // The log-weights only mark which rows belong to the elite.
            return share as f32;
        }
        // Log-weights are relative to the reference cost; the division by K makes Z a mean over all rows.
        let reference = f64::from(self.reference) * f64::from(pass.cost_scale);
        (f64::from(self.max) + share - reference / f64::from(self.temperature)) as f32
    }
}

/// The log-weight of a masked row; rows with this log-weight or less have weight 0. Finite, since WGSL has no
/// infinities. (A caller may pass a log-weight this low: see
/// [`WeightedMean::compute`](crate::weighted_mean::WeightedMean::compute).)
pub(crate) const MASKED: f32 = -3.0e38;
/// The log-weight of an invalid row (NaN or +∞ originally). Below [`MASKED`], so that both have weight 0 but can be
/// distinguished.
pub(crate) const INVALID: f32 = -3.4e38;
