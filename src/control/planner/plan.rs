//! The results of a planner's call: the plan, its statistics, and the rows behind it.

use std::time::Duration;

use pulp::{Simd, WithSimd};

use super::options::PlanSource;
use super::terms::{TermStatistics, Terms};
use crate::error::{InvalidValue, PlanError};
use crate::interp::simd::isa::Isa;
use crate::kernels::pass::{CONTROL_COST, DEMONSTRATED, ELITE, INVALID, MASKED, Pass, Sums, TILE};
use crate::kernels::score::risk::combine;
use crate::lang::clock::Instant;
use crate::lang::{StepContext, Timeline, float_env};
use crate::model::Model;
use crate::model::rollout::rollout;
use crate::runtime::inputs::Packed;
use crate::runtime::task::Limits;
use crate::runtime::{Backend, Fetched, Timing};

/// Rolls a control sequence out from `x`: pushes the states, returns the cost S. Where the model is done the state
/// stays.
#[inline(always)]
pub(crate) fn roll_out<const N: usize, const M: usize, D: Model<N, M>>(
    model: &D,
    timeline: &Timeline<'_>,
    x: [f32; N],
    controls: &[[f32; M]],
    states: &mut Vec<[f32; N]>,
) -> f32 {
    let all = states.len() + controls.len() + 1;
    let mut last = x;
    states.push(x);
    let cost = rollout(
        model,
        timeline,
        controls.len(),
        x,
        |t, _, _| controls[t],
        |_, x| {
            last = x;
            states.push(x);
        },
        None,
    );
    states.resize(all, last);
    cost
}

/// [`roll_out`] with the vector instructions switched on, for their fused multiply-add: without it `f32::mul_add` is a
/// call.
struct Nominal<'a, const N: usize, const M: usize, D> {
    model: &'a D,
    timeline: &'a Timeline<'a>,
    x: [f32; N],
    controls: &'a [[f32; M]],
    states: &'a mut Vec<[f32; N]>,
}

impl<const N: usize, const M: usize, D: Model<N, M>> WithSimd for Nominal<'_, N, M, D> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        roll_out(self.model, self.timeline, self.x, self.controls, self.states)
    }
}

/// Rolls a control sequence out as [`Nominal`] does. Returns the cost S, and whether it is finite and all states are
/// feasible until the model is done.
struct InScenario<'a, const N: usize, const M: usize, D> {
    model: &'a D,
    timeline: &'a Timeline<'a>,
    x: [f32; N],
    controls: &'a [[f32; M]],
}

impl<const N: usize, const M: usize, D: Model<N, M>> WithSimd for InScenario<'_, N, M, D> {
    type Output = (f32, bool);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f32, bool) {
        let Self { model, timeline, x, controls } = self;
        let (mut t, mut is_feasible) = (0, true);
        let arrived = |_, x| {
            is_feasible &= model.feasible(&StepContext::over(timeline.at(t)), x);
            t += 1;
        };
        let cost = rollout(model, timeline, controls.len(), x, |t, _, _| controls[t], arrived, None);
        (cost, is_feasible && cost.is_finite())
    }
}

/// The model, the state and everything else that a plan is rolled out with.
pub(crate) struct Start<'a, const N: usize, D: ?Sized> {
    pub(crate) isa: Isa,
    pub(crate) model: &'a D,
    pub(crate) timeline: Timeline<'a>,
    pub(crate) x: [f32; N],
    inputs: &'a Packed,
    group: usize,
}

impl<'a, const N: usize, D> Start<'a, N, D> {
    /// The start of a group of problems, from its state in `inputs`.
    pub(crate) fn of(isa: Isa, model: &'a D, inputs: &'a Packed, group: usize, dt: f32) -> Self {
        Self { isa, model, timeline: inputs.timeline(group, dt), x: inputs.state(group), inputs, group }
    }

    /// Forgets the type of the model.
    pub(crate) fn erased<const M: usize>(self) -> Start<'a, N, dyn RollOut<N, M>>
    where
        D: Model<N, M>,
    {
        let Self { isa, model, timeline, x, inputs, group } = self;
        Start { isa, model, timeline, x, inputs, group }
    }

    /// Replaces the state that the rollout starts from.
    pub(crate) fn at(self, x: [f32; N]) -> Self {
        Self { x, ..self }
    }

    /// The timeline and the first state of a rollout in scenario `s`.
    pub(crate) fn scenario(&self, s: usize) -> (Timeline<'a>, [f32; N]) {
        let mut x = self.x;
        x.iter_mut().zip(&self.inputs.scenarios()[s].state).for_each(|(x, deviation)| *x += deviation);
        (self.inputs.timeline_in(s, self.group, self.timeline.dt), x)
    }
}

/// The control sequence after a call, the trajectory expected under it, and statistics of the samples.
///
/// Costs are reported as they enter the exponent (see
/// [`CostNormalization`](crate::control::mppi::options::CostNormalization)): with
/// [`HorizonAverage`](crate::control::mppi::options::CostNormalization::HorizonAverage) they are averages over the
/// horizon, and with α < 1 or γ > 0 the costs of samples include their control term.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Plan<const N: usize, const M: usize> {
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    controls: Vec<[f32; M]>,
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    states: Vec<[f32; N]>,
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    cost: f32,
    #[cfg_attr(feature = "serde", serde(default, with = "crate::lang::recorded"))]
    scenario_costs: Vec<f32>,
    /// Whether the cost is finite in the task itself, and the plan is feasible in every scenario.
    #[cfg_attr(feature = "serde", serde(default = "feasible"))]
    is_feasible_in_all: bool,
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    min_cost: f32,
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    mean_cost: f32,
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    effective_samples: f32,
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    log_z: f32,
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    temperature: f32,
    samples: usize,
    invalid_rows: usize,
    pub(crate) backend: Backend,
    pub(crate) timing: Timing,
    pub(crate) work: Work,
    pub(crate) source: PlanSource,
    is_sound: bool,
    /// The bits of its [`Symptom`]s.
    #[cfg_attr(feature = "serde", serde(with = "symptom_names"))]
    pub(crate) symptoms: u8,
}

/// What recordings of versions without scenarios count as.
#[cfg(feature = "serde")]
fn feasible() -> bool {
    true
}

/// What a call did for a plan.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub(crate) struct Work {
    /// The number of passes that were run.
    pub(crate) passes: usize,
    /// The numbers of passes and of rows that were asked for.
    pub(crate) asked: [usize; 2],
    /// When the call began.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) started: Option<Instant>,
}

/// A sign that options do not fit the task: see [`Plan::symptoms`]. docs/tuning.md lists remedies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Symptom {
    /// All rows have nearly the same weight (an effective sample size above 98 % of K), so the plan hardly changes: the
    /// temperature is too high for the costs, or the cost does not depend on the controls.
    EqualWeights,
    /// Fewer than two effective samples, although weights are exponential: the temperature is too low, or there are too
    /// few rows; the plan follows the noise of a single one.
    SingleRow,
    /// More than half of the perturbed controls are beyond the limits: the noise is too wide for them.
    Clipped,
}

impl Symptom {
    const ALL: [Self; 3] = [Self::EqualWeights, Self::SingleRow, Self::Clipped];

    /// The bit that stands for the symptom in a set.
    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The warning in the log.
    fn advice(self) -> &'static str {
        match self {
            Self::EqualWeights => "all rows weigh nearly the same, so the plan hardly moves; lower the temperature",
            Self::SingleRow => "one row has nearly all the weight; raise the temperature, or draw more rows",
            Self::Clipped => "most perturbed controls are beyond the limits; reduce the noise",
        }
    }

    /// Logs what is in `found` but not yet in `warned`, and adds it there.
    pub(crate) fn warn_once(found: u8, warned: &mut u8) {
        for symptom in Self::ALL.into_iter().filter(|symptom| found & !*warned & symptom.bit() != 0) {
            log::warn!("{} (Plan::symptoms; logged once)", symptom.advice());
        }
        *warned |= found;
    }
}

/// Serde for a set of symptoms, as a list of their names.
#[cfg(feature = "serde")]
mod symptom_names {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Symptom;

    pub(super) fn serialize<S: Serializer>(found: &u8, serializer: S) -> Result<S::Ok, S::Error> {
        // A sequence of known length, which some formats require.
        let names: Vec<_> = Symptom::ALL.into_iter().filter(|symptom| found & symptom.bit() != 0).collect();
        serializer.collect_seq(names)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
        let names = Vec::<Symptom>::deserialize(deserializer)?;
        Ok(names.into_iter().fold(0, |found, symptom| found | symptom.bit()))
    }
}

/// How many of the passes and rows of its options a time budget allowed: see
/// [`Planner::plan_within`](crate::control::planner::Planner::plan_within).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Effort {
    /// All passes, of all rows.
    Full,
    /// Fewer passes of all rows.
    FewerPasses,
    /// Passes of fewer rows, since even a single pass of all rows was expected to be late.
    FewerRows,
}

impl<const N: usize, const M: usize> Plan<N, M> {
    pub(crate) fn empty(backend: Backend) -> Self {
        Self {
            controls: Vec::new(),
            states: Vec::new(),
            cost: 0.0,
            scenario_costs: Vec::new(),
            is_feasible_in_all: true,
            min_cost: 0.0,
            mean_cost: 0.0,
            effective_samples: 0.0,
            log_z: 0.0,
            temperature: 0.0,
            samples: 0,
            invalid_rows: 0,
            backend,
            timing: Timing::default(),
            work: Work::default(),
            source: PlanSource::Rows,
            is_sound: true,
            symptoms: 0,
        }
    }

    /// Reserves memory, so that a call allocates nothing.
    pub(crate) fn reserve(&mut self, horizon: usize, scenarios: usize) {
        self.controls.reserve(horizon);
        self.states.reserve(horizon + 1);
        self.scenario_costs.reserve(scenarios);
    }

    /// Takes the control sequence of least cost among `chains`, the results of pass `last`, and returns its index.
    pub(crate) fn best_of<D: Model<N, M>>(
        &mut self,
        start: &Start<'_, N, D>,
        last: &Pass,
        sums: &[Sums],
        chains: &[f32],
    ) -> Result<usize, PlanError> {
        if !sums.iter().any(has_weight) {
            return Err(PlanError::NoFiniteRow { rows: last.rows as usize });
        }
        let mut best: Option<(f32, usize, &[f32])> = None;
        for (chain, nominal) in worked(sums, chains) {
            self.roll_out(start, last, nominal);
            let cost = if self.cost.is_finite() { self.cost } else { f32::MAX };
            if best.is_none_or(|(least, ..)| cost < least) {
                best = Some((cost, chain, nominal));
            }
        }
        let Some((_, chain, nominal)) = best else { return Err(PlanError::NonFiniteMean) };
        if sums.len() > 1 {
            self.roll_out(start, last, nominal);
        }
        self.record(last, &sums[chain]);
        self.source = PlanSource::Rows;
        // With a demonstration or a control cost, the mean is not that of the costs alone. It is a rounded number.
        let at_most = self.mean_cost + 1e-5 * self.mean_cost.abs();
        self.is_sound = self.is_feasible(start) && (last.has(DEMONSTRATED | CONTROL_COST) || self.cost <= at_most);
        Ok(chain)
    }

    /// Whether the plan's own rollout has a finite cost and passes through feasible states only, until it is done; in
    /// every scenario, too.
    fn is_feasible<D: Model<N, M>>(&self, start: &Start<'_, N, D>) -> bool {
        for (t, x) in self.states.iter().skip(1).enumerate() {
            let at = StepContext::over(start.timeline.at(t));
            if !start.model.feasible(&at, *x) {
                return false;
            }
            if start.model.done(&at, *x) {
                break;
            }
        }
        self.cost.is_finite() && self.is_feasible_in_all
    }

    /// Replaces a plan that failed by `before`, if that is feasible where the plan is not, or costs less. `failed` is
    /// the control sequence of the plan, which is overwritten then.
    pub(crate) fn fall_back<D: Model<N, M>>(
        &mut self,
        start: &Start<'_, N, D>,
        last: &Pass,
        failed: &mut [f32],
        before: &[[f32; M]],
    ) {
        if self.is_sound {
            return;
        }
        let (was_feasible, cost) = (self.is_feasible(start), self.cost);
        self.roll_out(start, last, before.as_flattened());
        self.is_sound = self.is_feasible(start);
        if (self.is_sound && !was_feasible) || (self.is_sound == was_feasible && self.cost < cost) {
            failed.copy_from_slice(before.as_flattened());
            self.source = PlanSource::LastPlan;
        } else {
            self.roll_out(start, last, failed);
            self.is_sound = false;
        }
    }

    /// Whether a row that the plan was made of costs less than the plan itself.
    pub(crate) fn costs_more_than_a_row(&self) -> bool {
        self.cost > self.min_cost || self.cost.is_nan()
    }

    /// Replaces a plan by `row`, the one of least cost, if that costs less when it is rolled out here. `mean` is the
    /// control sequence of the plan, which is overwritten then.
    pub(crate) fn take_best_row<D: Model<N, M>>(
        &mut self,
        start: &Start<'_, N, D>,
        last: &Pass,
        row: &[f32],
        mean: &mut [f32],
    ) {
        let before = self.cost;
        self.roll_out(start, last, row);
        if self.cost < before || !before.is_finite() {
            mean.copy_from_slice(row);
            self.source = PlanSource::BestRow;
            self.is_sound = self.is_feasible(start);
        } else {
            self.roll_out(start, last, mean);
        }
    }

    /// Computes the statistics from the sums of the last pass.
    fn record(&mut self, pass: &Pass, sums: &Sums) {
        let (samples, lambda) = (pass.rows as usize, f64::from(sums.temperature));
        let reference = f64::from(sums.reference) * f64::from(pass.cost_scale);
        let (max, sum) = (f64::from(sums.max), f64::from(sums.sum));
        self.log_z = sums.log_z(pass);
        self.min_cost = (reference - lambda * max) as f32;
        self.mean_cost = sums.mean_cost(pass);
        self.effective_samples = (sum * sum / f64::from(sums.squares)) as f32;
        self.temperature = sums.temperature;
        self.samples = samples;
        self.invalid_rows = samples - sums.valid as usize;
    }

    /// Finds the symptoms of a pass whose noise has the standard deviations `std`.
    pub(crate) fn diagnose(&mut self, pass: &Pass, limits: Option<&Limits<M>>, std: [f32; M]) {
        let weighs = pass.search != ELITE && self.samples >= TILE;
        let mut found = 0;
        if weighs && self.effective_samples > 0.98 * self.samples as f32 {
            found |= Symptom::EqualWeights.bit();
        }
        if weighs && self.effective_samples < 2.0 {
            found |= Symptom::SingleRow.bit();
        }
        if let Some(limits) = limits {
            // Some controls tell enough, and this is part of every call.
            let some = self.controls.iter().step_by(self.controls.len().div_ceil(8).max(1));
            let (mut share, mut count) = (0.0, 0);
            for u in some {
                for m in 0..M {
                    share += share_beyond(u[m], limits.low[m], limits.high[m], std[m]);
                    count += 1;
                }
            }
            if share > 0.5 * count as f32 {
                found |= Symptom::Clipped.bit();
            }
        }
        self.symptoms = found;
    }

    /// Rolls the new plan out on the host, and in every scenario: T steps each, whatever the number of rows.
    fn roll_out<D: Model<N, M>>(&mut self, start: &Start<'_, N, D>, pass: &Pass, nominal: &[f32]) {
        let Start { isa, model, ref timeline, x, .. } = *start;
        self.controls.clear();
        self.controls.extend(nominal.as_chunks::<M>().0);
        self.states.clear();
        let job = Nominal { model, timeline, x, controls: &self.controls, states: &mut self.states };
        self.cost = isa.run(job) * pass.cost_scale;
        self.is_feasible_in_all = self.cost.is_finite();
        self.scenario_costs.clear();
        for s in 0..pass.scenarios as usize {
            let (timeline, x) = start.scenario(s);
            let (cost, is_feasible) = isa.run(InScenario { model, timeline: &timeline, x, controls: &self.controls });
            self.scenario_costs.push(cost);
            self.is_feasible_in_all &= is_feasible;
        }
        if pass.scenarios > 0 {
            let [sum, compensation] = combine(pass, |s| [self.scenario_costs[s], 0.0]);
            self.cost = (sum + compensation) * pass.cost_scale;
            self.scenario_costs.iter_mut().for_each(|cost| *cost *= pass.cost_scale);
        }
    }

    /// The control sequence, T × M; apply the first.
    pub fn controls(&self) -> &[[f32; M]] {
        &self.controls
    }

    /// The states expected under it, (T + 1) × N; the first is the state that the call was given. They are those of the
    /// task itself, whatever its scenarios.
    pub fn states(&self) -> &[[f32; N]] {
        &self.states
    }

    /// The cost of the plan itself, without any control term; with scenarios, the [risk](crate::Risk) over its costs in
    /// all of them. Not finite if the plan reaches states in which the model's cost is not.
    pub fn cost(&self) -> f32 {
        self.cost
    }

    /// The cost of the plan in each [scenario](crate::Task::scenarios); empty if there are none.
    pub fn scenario_costs(&self) -> &[f32] {
        &self.scenario_costs
    }

    /// The least cost among the samples.
    pub fn min_cost(&self) -> f32 {
        self.min_cost
    }

    /// The mean cost of the valid samples.
    pub fn mean_cost(&self) -> f32 {
        self.mean_cost
    }

    /// The effective sample size (Σw)²/Σw², between 1 and K.
    pub fn effective_samples(&self) -> f32 {
        self.effective_samples
    }

    /// log Z = log (1/K) Σ e^{−J/λ}, over all K rows; an invalid one counts as 0.
    pub fn log_z(&self) -> f32 {
        self.log_z
    }

    /// The free energy −λ log Z.
    pub fn free_energy(&self) -> f32 {
        float_env::standard(|| -self.temperature * self.log_z)
    }

    /// λ, as given or as solved for.
    pub fn temperature(&self) -> f32 {
        self.temperature
    }

    /// K, the number of rows.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The number of rows whose cost was not finite; they have no weight.
    pub fn invalid_rows(&self) -> usize {
        self.invalid_rows
    }

    /// Where the plan comes from: rows around the last plan or around a proposal, the last plan itself, or a single
    /// row.
    pub fn source(&self) -> PlanSource {
        self.source
    }

    /// Whether the plan's own rollout, and that in every scenario, has a finite cost and passes through
    /// [`feasible`](Model::feasible) states only; and, if the plan is a mean of rows, does not cost more than the valid
    /// rows do on average (unless rows are weighed by a demonstration). [`Fallback`] decides what replaces a plan that
    /// fails.
    ///
    /// [`Fallback`]: crate::control::Fallback
    pub fn is_sound(&self) -> bool {
        self.is_sound
    }

    /// Signs that options do not fit the task. Each is also logged as a warning, once for each planner (in a fleet, for
    /// each problem).
    pub fn symptoms(&self) -> impl Iterator<Item = Symptom> + use<N, M> {
        let found = self.symptoms;
        Symptom::ALL.into_iter().filter(move |symptom| found & symptom.bit() != 0)
    }

    /// The number of passes that made the plan.
    pub fn passes(&self) -> usize {
        self.work.passes
    }

    /// Whether a time budget allowed all passes and rows.
    pub fn effort(&self) -> Effort {
        let [passes, rows] = self.work.asked;
        match () {
            () if self.samples < rows => Effort::FewerRows,
            () if self.work.passes < passes => Effort::FewerPasses,
            () => Effort::Full,
        }
    }

    /// The time since the call that made the plan was started. The state that the plan begins with is at least that
    /// old.
    pub fn age(&self) -> Duration {
        self.work.started.map_or(Duration::ZERO, |started| started.elapsed())
    }

    /// The kind of device that computed the plan.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// How long the call took.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// How long the whole call took: [`timing`](Self::timing)`().total`.
    pub fn elapsed(&self) -> Duration {
        self.timing.total
    }
}

/// The share of a normal distribution around `u` that is beyond the limits, to a tenth: three straight lines stand in
/// for the distribution function.
fn share_beyond(u: f32, low: f32, high: f32, std: f32) -> f32 {
    if std == 0.0 {
        return 0.0;
    }
    let beyond = |distance: f32| (0.5 - distance / (3.0 * std)).clamp(0.0, 1.0);
    beyond(u - low) + beyond(high - u)
}

fn has_weight(sums: &Sums) -> bool {
    sums.valid > 0 && sums.sum > 0.0
}

/// Returns the chains whose last pass has a finite mean, with their control sequences.
pub(crate) fn worked<'a>(sums: &'a [Sums], chains: &'a [f32]) -> impl Iterator<Item = (usize, &'a [f32])> {
    let each = chains.chunks_exact(chains.len() / sums.len()).enumerate();
    let usable =
        |((_, nominal), sums): &((usize, &[f32]), &Sums)| has_weight(sums) && nominal.iter().all(|u| u.is_finite());
    each.zip(sums).filter(usable).map(|(chain, _)| chain)
}

/// The rows of the last pass, with their costs and weights: see
/// [`Planner::samples`](crate::control::planner::Planner::samples).
pub struct Samples<'a, const N: usize, const M: usize> {
    pub(crate) start: Start<'a, N, dyn RollOut<N, M>>,
    pub(crate) samples: usize,
    pub(crate) horizon: usize,
    pub(crate) fetched: Fetched,
}

/// A model that rolls control sequences out on the host, without its type.
pub(crate) trait RollOut<const N: usize, const M: usize>: Send + Sync {
    /// The states under a control sequence; one more than there are controls.
    fn states(&self, from: &Start<'_, N, dyn RollOut<N, M>>, controls: &[[f32; M]]) -> Vec<[f32; N]>;

    /// The terms of the cost of a control sequence, summed over the horizon.
    fn terms(&self, from: &Start<'_, N, dyn RollOut<N, M>>, controls: &[[f32; M]]) -> Terms;
}

impl<const N: usize, const M: usize, D: Model<N, M>> RollOut<N, M> for D {
    fn states(&self, from: &Start<'_, N, dyn RollOut<N, M>>, controls: &[[f32; M]]) -> Vec<[f32; N]> {
        let mut states = Vec::with_capacity(controls.len() + 1);
        float_env::standard(|| roll_out(self, &from.timeline, from.x, controls, &mut states));
        states
    }

    fn terms(&self, from: &Start<'_, N, dyn RollOut<N, M>>, controls: &[[f32; M]]) -> Terms {
        let Start { isa, ref timeline, x, inputs, group, .. } = *from;
        let start = Start { isa, model: self, timeline: *timeline, x, inputs, group };
        float_env::standard(|| start.terms(controls, |cost| cost))
    }
}

impl<const N: usize, const M: usize> std::fmt::Debug for Samples<'_, N, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { samples, horizon, fetched, .. } = self;
        f.debug_struct("Samples")
            .field("samples", samples)
            .field("horizon", horizon)
            .field("fetched", fetched)
            .finish_non_exhaustive()
    }
}

impl<const N: usize, const M: usize> Samples<'_, N, M> {
    /// K, the number of rows.
    pub fn len(&self) -> usize {
        self.samples
    }

    /// Always `false`: there is at least one row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The log-weight of row `k`, relative to an arbitrary constant that all rows share; −∞ for a row without weight,
    /// such as an invalid one.
    ///
    /// # Panics
    ///
    /// If `k` is not below [`len`](Self::len). All methods here that take a row panic then.
    pub fn log_weight(&self, k: usize) -> f32 {
        let log_weight = self.fetched.log_weights[..self.len()][k];
        if log_weight > MASKED { log_weight } else { f32::NEG_INFINITY }
    }

    /// The weights of all rows, which sum to 1.
    pub fn weights(&self) -> Vec<f32> {
        float_env::standard(|| self.weigh())
    }

    fn weigh(&self) -> Vec<f32> {
        let max = (0..self.len()).fold(f32::NEG_INFINITY, |max, k| max.max(self.log_weight(k)));
        let mut weights: Vec<f32> = (0..self.len()).map(|k| (self.log_weight(k) - max).exp()).collect();
        let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        for weight in &mut weights {
            *weight = (f64::from(*weight) / sum) as f32;
        }
        weights
    }

    /// Whether row `k` had a finite cost.
    pub fn is_valid(&self, k: usize) -> bool {
        self.fetched.log_weights[..self.len()][k] > INVALID
    }

    /// Panics if there is no row `k`.
    fn check(&self, k: usize) {
        assert!(k < self.len(), "row {k} of {}", self.len());
    }

    /// The rollout cost S of row `k`, without control term and before any averaging; with scenarios, the risk over
    /// them.
    pub fn cost(&self, k: usize) -> f32 {
        self.check(k);
        float_env::standard(|| self.fetched.cost(k))
    }

    /// The control cost C = Σ_t U_tᵀ Σ⁻¹ ε_t of row `k`; 0 unless α or γ includes it.
    pub fn control_cost(&self, k: usize) -> f32 {
        self.check(k);
        self.fetched.second_score(k)
    }

    /// The controls of row `k`, after the limits; T × M. Unless noise is white, the plan is not their weighted mean
    /// where limits act: see [`NoiseShape`](crate::kernels::propose::shape::NoiseShape).
    pub fn controls(&self, k: usize) -> Vec<[f32; M]> {
        self.check(k);
        let at = |t: usize, m: usize| self.fetched.coordinate(k, t * M + m, self.horizon * M);
        (0..self.horizon).map(|t| std::array::from_fn(|m| at(t, m))).collect()
    }

    /// The states of row `k`, (T + 1) × N, rolled out again on the host, in the task itself.
    pub fn states(&self, k: usize) -> Vec<[f32; N]> {
        self.start.model.states(&self.start, &self.controls(k))
    }

    /// The terms of the cost of row `k` ([`StepContext::term`](crate::StepContext::term)), rolled out again on the
    /// host in the task itself. Without scenarios, they and the rest sum to [`cost`](Self::cost), to rounding: like it,
    /// they are sums over the horizon, even where a plan reports averages.
    pub fn terms(&self, k: usize) -> Terms {
        self.start.model.terms(&self.start, &self.controls(k))
    }

    /// One term of the cost of row `k`. This rolls out the whole row, so that [`terms`](Self::terms) takes less time
    /// for several terms of one.
    ///
    /// # Errors
    ///
    /// If the model names no such term. The error lists the names that there are.
    pub fn term(&self, k: usize, name: &str) -> Result<f32, InvalidValue> {
        self.terms(k).get(name)
    }

    /// The mean, the least and the weighted mean of each term over the valid rows, which are all rolled out again on
    /// the host.
    pub fn term_statistics(&self) -> TermStatistics {
        let mut statistics = TermStatistics::default();
        let weights = self.weights();
        for k in (0..self.len()).filter(|k| self.is_valid(*k)) {
            statistics.add(&self.terms(k), weights[k]);
        }
        statistics
    }
}
