//! [`Snapshot`]s of a [`Planner`], and copies of it.

use super::*;

/// Everything that the next call of a [`Planner`] or a [`Fleet`] depends on besides its options, model and engine: the
/// control sequences of all chains, the noise counter, the controls that were applied, and the sequences that were
/// given as proposals; of each problem of a fleet, also its own seed, parameters and references.
///
/// Restored into a planner with the same model and options on the same kind of device, it leads to the same plans, to
/// the bit. The last plan and its samples are not part of it, and neither is a [pending](Planner::start) call.
///
/// # Storing
///
/// With the feature `serde`, [`Serialize`] and [`Deserialize`] are implemented for snapshots, for the options of
/// planners and policy searches with all that they contain, and for plans. Together they make a recording that can be
/// replayed to the bit, and tuned offline; the example `replay` does both.
///
/// - Structs that have a default may be given in part, so that what an earlier version wrote can be read. Fields that do
///   not exist are refused, because a misspelled option, or one of a later version, would change the plans without a
///   word.
/// - Names of variants are in snake case: `{"exponential": {"effective_samples": 0.1}}`.
/// - JSON has neither infinities nor NaN. Open [`Limits`] are `null` there. A number of a [`Plan`] that is not finite is
///   `null`, too, and is read as NaN; formats that have infinities keep it.
/// - `serde_json` needs its feature `float_roundtrip` to read every number to the bit.
/// - Values are checked by the planner that is given them, except those of a [`Grid`], which are checked as they are
///   read.
///
/// [`Serialize`]: https://docs.rs/serde/1/serde/trait.Serialize.html
/// [`Deserialize`]: https://docs.rs/serde/1/serde/trait.Deserialize.html
/// [`Limits`]: crate::runtime::Limits
///
/// # Example
///
/// ```
/// use gibbs::models::Pendulum;
/// use gibbs::{Backend, Engine, EngineOptions, Mppi, MppiOptions};
///
/// let engine = Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() })?;
/// let mut mppi = Mppi::new(&engine, Pendulum::default(), MppiOptions::default())?;
/// mppi.plan(&[1.0, 0.0])?;
/// mppi.advance();
///
/// let snapshot = mppi.snapshot();
/// let first = mppi.plan(&[0.9, -0.1])?.controls().to_vec();
/// mppi.restore(&snapshot)?;
/// assert_eq!(mppi.plan(&[0.9, -0.1])?.controls(), first);
/// # Ok::<(), gibbs::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Snapshot<const M: usize> {
    members: Vec<MemberSnapshot<M>>,
    /// How long a pass took for each of its rows (in seconds): a call within a time budget depends on it.
    #[cfg_attr(feature = "serde", serde(default))]
    time_per_row: Option<f64>,
}

/// The part of a snapshot that each member has.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
struct MemberSnapshot<const M: usize> {
    #[cfg_attr(feature = "serde", serde(default))]
    own: Own,
    number: u32,
    best: usize,
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    chains: Vec<Vec<[f32; M]>>,
    applied: Applied<M>,
    #[cfg_attr(feature = "serde", serde(with = "crate::lang::recorded"))]
    given: Vec<Vec<[f32; M]>>,
}

/// What a problem of a fleet has instead of the options' values.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
struct Own {
    seed: Option<u64>,
    params: Option<Vec<f32>>,
    references: Option<References>,
}

impl<const M: usize> MemberSnapshot<M> {
    /// Refuses a snapshot of a planner that has other sizes than `options` ask for, and numbers that it cannot have.
    fn check(&self, options: &impl Algorithm<M>, reader: &Reader) -> Result<(), InvalidValue> {
        let (horizon, chains, proposals) = (options.task().horizon, options.chains(), options.proposals());
        let refuse = |value: std::fmt::Arguments<'_>, expected: std::fmt::Arguments<'_>| {
            Err(InvalidValue::new("snapshot", format_args!("one with {value}"), format_args!("one with {expected}")))
        };
        if self.chains.len() != chains {
            return refuse(format_args!("{} chains", self.chains.len()), format_args!("{chains} (proposals included)"));
        }
        if let Some(other) = self.chains.iter().find(|chain| chain.len() != horizon) {
            return refuse(format_args!("{} time steps", other.len()), format_args!("horizon = {horizon} of them"));
        }
        if self.best >= chains {
            return refuse(format_args!("chain {} as its plan", self.best), format_args!("one below {chains}"));
        }
        let is_given = |(given, proposal): (&Vec<_>, &Proposal<M>)| {
            given.is_empty() || given.len() == horizon && *proposal == Proposal::Given
        };
        if self.given.len() != proposals.len() || !self.given.iter().zip(proposals).all(is_given) {
            let sizes: Vec<_> = self.given.iter().map(Vec::len).collect();
            let expected = format_args!("{horizon} of them for a Proposal::Given, 0 for others: {proposals:?}");
            return refuse(format_args!("proposals of {sizes:?} time steps"), expected);
        }
        self.chains.iter().chain(&self.given).try_for_each(|controls| finite("snapshot", controls.as_flattened()))?;
        self.applied.check()?;
        if let Some(params) = &self.own.params {
            reader.check_params(params.len())?;
            finite("params", params)?;
        }
        if let Some(references) = &self.own.references {
            let deviations = Scenario::most_columns(&options.task().scenarios);
            reader.check_columns(references.columns.max(deviations))?;
            References::check(&references.values, references.columns)?;
        }
        Ok(())
    }
}

impl<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>> Planner<N, M, D, A> {
    /// Copies everything that the next call depends on besides options, model and engine. A [pending](Self::start) call
    /// is not part of it: the snapshot is that of the planner after the call was [canceled](Self::cancel).
    pub fn snapshot(&self) -> Snapshot<M> {
        let (horizon, chains) = (self.options.task().horizon, self.options.chains());
        let controls = self.nominal.as_chunks().0;
        let each = self.members.iter().zip(controls.chunks_exact(chains * horizon));
        let members = each.map(|(member, controls)| MemberSnapshot {
            own: Own { seed: member.seed, params: member.params.clone(), references: member.references.clone() },
            number: member.number,
            best: member.best,
            chains: controls.chunks_exact(horizon).map(<[_]>::to_vec).collect(),
            applied: member.applied.clone(),
            given: member.given.clone(),
        });
        Snapshot { members: members.collect(), time_per_row: self.time_per_row }
    }

    /// Continues from a snapshot. Options, model and engine are kept, and should be those of the planner that the
    /// snapshot is of; a [pending](Self::start) call is canceled. Recompiles nothing.
    ///
    /// # Errors
    ///
    /// If the snapshot is that of a fleet, or differs from this planner in horizon, number of chains or proposals, or a
    /// number is not finite. Then nothing is changed.
    pub fn restore(&mut self, snapshot: &Snapshot<M>) -> Result<(), InvalidValue> {
        if snapshot.members.iter().any(|member| member.own != Own::default()) {
            let expected = "that of a planner; a fleet restores it";
            return Err(InvalidValue::new("snapshot", "that of a fleet, with a problem's own inputs,", expected));
        }
        self.restore_members(snapshot)
    }

    pub(super) fn restore_members(&mut self, snapshot: &Snapshot<M>) -> Result<(), InvalidValue> {
        let Snapshot { members, time_per_row } = snapshot;
        if members.len() != self.members.len() {
            let value = format_args!("one of {} problems", members.len());
            return Err(InvalidValue::new("snapshot", value, format_args!("one of {}", self.members.len())));
        }
        let reader = self.reader();
        members.iter().try_for_each(|member| member.check(&self.options, &reader))?;
        self.cancel();
        let controls = members.iter().flat_map(|member| &member.chains).flatten();
        self.nominal.as_chunks_mut().0.iter_mut().zip(controls).for_each(|(to, from)| *to = *from);
        let past = self.options.smoothing().map(|smoothing| smoothing.history());
        let mut inputs_changed = false;
        for (member, from) in self.members.iter_mut().zip(members) {
            let Own { seed, params, references } = &from.own;
            inputs_changed |= member.params != *params || member.references != *references;
            member.seed = *seed;
            member.params.clone_from(params);
            member.references.clone_from(references);
            (member.number, member.best) = (from.number, from.best);
            member.applied = from.applied.clone();
            if let Some(past) = past {
                member.applied.keep(past);
            }
            member.given.clone_from(&from.given);
        }
        self.time_per_row = *time_per_row;
        if inputs_changed {
            self.take_options();
        }
        self.forget_samples();
        Ok(())
    }

    /// Creates a second planner, as [`clone`](Self::clone), and allocates everything that the next call needs, as
    /// [`new`](Self::new) does: so the first plan of the copy takes as long as the second, and a lack of memory is an
    /// error here.
    ///
    /// If there are several what-if questions, keep the copy: [`restore`](Self::restore) brings it up to date at the
    /// cost of copying the control sequences.
    ///
    /// # Errors
    ///
    /// If the device fails or runs out of memory.
    pub fn try_clone(&self) -> Result<Self, BuildError> {
        let mut copy = self.clone();
        copy.prepare()?;
        copy.time_per_row = self.time_per_row;
        Ok(copy)
    }

    /// As [`try_clone`](Self::try_clone), without blocking the thread in a browser: see
    /// [`new_async`](Self::new_async).
    ///
    /// # Errors
    ///
    /// As [`try_clone`](Self::try_clone).
    pub async fn try_clone_async(&self) -> Result<Self, BuildError> {
        let mut copy = self.clone();
        copy.prepare_async().await?;
        copy.time_per_row = self.time_per_row;
        Ok(copy)
    }
}

/// Makes a second planner on the same engine. It shares the model and the kernels, and has a copy of the options, of
/// the last plan and of everything else that the next call depends on; nothing is compiled. The two then plan
/// independently: the same calls lead to the same plans, to the bit.
///
/// Planners do not share buffers. The copy allocates its own in its first call, which returns an error if there is not
/// enough memory; [`try_clone`](Planner::try_clone) allocates them at once.
///
/// A [pending](Planner::start) call stays with the planner that started it: the copy is that of the planner after the
/// call was [canceled](Planner::cancel). Neither does it have the [samples](Planner::samples) of the last call.
impl<const N: usize, const M: usize, D, A: Clone> Clone for Planner<N, M, D, A> {
    fn clone(&self) -> Self {
        let members = self.members.iter().map(|member| Member {
            sampled: None,
            #[cfg(feature = "gpu")]
            trajectories: None,
            ..member.clone()
        });
        Self {
            engine: self.engine.clone(),
            model: Arc::clone(&self.model),
            program: Arc::clone(&self.program),
            workspace: self.engine.workspace(),
            options: self.options.clone(),
            shape: self.shape.clone(),
            inputs: self.inputs.clone(),
            members: members.collect(),
            nominal: self.nominal.clone(),
            std_scale: Vec::new(),
            passes: Vec::new(),
            takes_rows: self.takes_rows,
            #[cfg(feature = "gpu")]
            keeps_trajectories: self.keeps_trajectories,
            pending: None,
            stage: Vec::new(),
            results: Vec::new(),
            sums: Vec::new(),
            time_per_row: self.time_per_row,
        }
    }
}
