//! The tape: entries of a trace, each of them recorded once, and the checks of what they read.

use std::cell::RefCell;
use std::collections::HashMap;

use super::MAP;
use super::expr::{Binary, Unary};
use super::requirements::{LookUp, Requirements};
use crate::error::ModelError;
use crate::lang::params::MAX_INDEX;
use crate::lang::{Inputs, Network, ParamView, Table, WeightsOf};

/// Maximum number of operations in a trace. Compile time grows faster than linearly: on a software Vulkan driver 5,000
/// statements took about a second, 20,000 fourteen.
pub(super) const LIMIT: usize = 8192;

/// A parameter of a policy.
pub(super) const PARAMETER: Outside = Outside::Weight(WeightsOf::Policy);

/// The kind of input that model code reads by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outside {
    Param,
    Column,
    Field,
    Weight(WeightsOf),
}

impl Outside {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Param => "run-time parameter",
            Self::Column => "reference column",
            Self::Field => "field",
            Self::Weight(WeightsOf::Policy) => "policy parameter",
            Self::Weight(WeightsOf::Task) => "weight",
        }
    }
}

/// The time step that a step context refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Moment {
    Now,
    Before,
}

impl Moment {
    pub(super) fn of(inputs: &Inputs<'_>) -> Self {
        if inputs.time == Inputs::BEFORE.time { Self::Before } else { Self::Now }
    }

    /// The name of the time index in the generated code.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Now => "t",
            Self::Before => "t_before",
        }
    }
}

/// One entry of the tape; `u32` operands are indices of earlier entries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Number(u32),
    Truth(bool),
    Input(usize),
    Param(usize),
    Reference(Moment, usize),
    Time(Moment),
    Dt,
    Unary(Unary, u32),
    Binary(Binary, u32, u32),
    Fused(u32, u32, u32),
    Not(u32),
    Select(u32, u32, u32),
    Sample(usize, u32, u32),
    Gradient(usize, u32, u32),
    /// The position of a point in a field: the field, and the coordinates of the point.
    Cell(usize, Vec<u32>),
    /// The value of a channel at a Cell: the dimensions of the field, the Cell, and the channel.
    Channel(usize, u32, usize),
    /// The derivatives of a Channel by the coordinates of the point.
    Slopes(usize, u32, usize),
    /// A component of a SinCos, a Gradient or Slopes.
    Part(u32, u8),
    Call(&'static str, Vec<u32>),
    Weight(WeightsOf, usize),
    WeightAt(Moment, Table, usize),
    /// The outputs of a network, given by its number, at some inputs.
    Network(usize, Vec<u32>),
    /// The outputs of a network, accumulating derivatives; the last operands are the factors that the derivatives are
    /// multiplied by.
    NetworkBack(usize, Vec<u32>, Vec<u32>),
    /// One output of a network.
    Output(u32, usize),
    /// Adds an entry to a derivative.
    Accumulate(usize, u32),
    AccumulateAt(Moment, Table, usize, u32),
}

/// The entries recorded so far, and what they read.
#[derive(Default)]
pub(super) struct Tape {
    pub(super) generation: u32,
    pub(super) function: &'static str,
    pub(super) ops: Vec<Op>,
    pub(super) seen: HashMap<Op, u32>,
    pub(super) sources: Vec<(&'static str, &'static str)>,
    pub(super) look_ups: Vec<LookUp>,
    pub(super) networks: Vec<(WeightsOf, Network)>,
    /// Entries with side effects, of the function that is being traced.
    pub(super) effects: Vec<u32>,
    pub(super) requirements: Requirements,
    /// The first error.
    pub(super) error: Option<ModelError>,
    /// The first error that would be a panic in plain `f32`.
    pub(super) misread: Option<ModelError>,
}

thread_local! {
    pub(super) static TAPE: RefCell<Tape> = RefCell::default();
}

/// A number on the tape.
#[derive(Clone, Copy)]
pub(crate) struct Expr {
    pub(super) at: u32,
    pub(super) generation: u32,
}

/// A truth value on the tape.
#[derive(Clone, Copy)]
pub(crate) struct Truth(pub(super) Expr);

impl Tape {
    pub(super) fn fail(&mut self, error: ModelError) {
        self.error.get_or_insert(error);
    }

    /// Records an error that would be a panic on plain numbers.
    pub(super) fn misread(&mut self, error: ModelError) {
        self.misread.get_or_insert_with(|| error.clone());
        self.fail(error);
    }

    /// Placeholder value after an error.
    pub(super) fn nothing(&self) -> Expr {
        Expr { at: 0, generation: self.generation }
    }

    /// Records that number `index` of a kind of input is read, and returns whether such an index can exist.
    pub(super) fn reads(&mut self, what: Outside, index: usize) -> bool {
        let function = self.function;
        if index >= MAX_INDEX {
            self.misread(ModelError::NoSuchIndex { function, what: what.name(), index, limit: MAX_INDEX });
            return false;
        }
        let used = match what {
            Outside::Param => &mut self.requirements.params,
            Outside::Column => &mut self.requirements.columns,
            Outside::Field => &mut self.requirements.fields,
            Outside::Weight(WeightsOf::Policy) => &mut self.requirements.weights,
            // The network that it belongs to is noted.
            Outside::Weight(WeightsOf::Task) => return true,
        };
        *used = (*used).max(index + 1);
        true
    }

    /// Adds an entry that reads number `index` of the driver's inputs.
    pub(super) fn read(&mut self, what: Outside, index: usize, op: Op) -> Expr {
        if self.reads(what, index) { self.push(op) } else { self.nothing() }
    }

    /// Rejects reading number `index` of an input that was set by hand and holds `given` values.
    pub(super) fn not_given(&mut self, what: Outside, index: usize, given: usize) -> Expr {
        let (function, what) = (self.function, what.name());
        self.misread(ModelError::NotGiven { function, what, index, given });
        self.nothing()
    }

    /// Rejects an object that model code created by hand and that no kernel can hold.
    pub(super) fn by_hand(&mut self, what: &'static str) -> Expr {
        self.fail(ModelError::ByHand { function: self.function, what });
        self.nothing()
    }

    /// Whether a table has rows; records an error if not.
    pub(super) fn has_rows(&mut self, table: &Table) -> bool {
        if table.rows == 0 {
            self.misread(ModelError::EmptyTable { function: self.function });
        }
        table.rows > 0
    }

    /// Whether column `j` of a table can be read at every time step.
    pub(super) fn reads_table(&mut self, table: &Table, j: usize) -> bool {
        self.has_rows(table) && self.reads(PARAMETER, table.last(j).unwrap_or(usize::MAX))
    }

    /// The index of the parameter in column `j` of a table at a constant time.
    pub(super) fn place_in(&mut self, table: &Table, time: f32, j: usize) -> Option<usize> {
        let place = if self.has_rows(table) { table.at(time, j).or(Some(usize::MAX)) } else { None };
        place.filter(|i| *i < MAX_INDEX || self.reads(PARAMETER, *i))
    }

    /// Records a look-up, and returns whether it can be done. A plain function has no driver: its fields come from
    /// `Map::fields`.
    pub(super) fn looks_up(&mut self, inputs: &Inputs<'_>, look_up: LookUp) -> bool {
        let (field, given) = (look_up.field, inputs.fields.len());
        if inputs.by_hand.fields && field >= given {
            self.not_given(Outside::Field, field, given);
            return false;
        }
        if inputs.by_hand.fields && self.function != MAP {
            self.by_hand("fields");
            return false;
        }
        let can_be = self.reads(Outside::Field, field);
        if can_be && !self.look_ups.contains(&look_up) {
            self.look_ups.push(look_up);
        }
        can_be
    }

    /// Adds the entries of a look-up of `C` channels from `channel` on: their values, and their derivatives if
    /// `slopes`.
    pub(super) fn look_up<const D: usize, const C: usize>(
        &mut self,
        inputs: &Inputs<'_>,
        (field, channel): (usize, usize),
        point: [Expr; D],
        slopes: bool,
    ) -> ([Expr; C], [Expr; C]) {
        let look_up = LookUp { field, dimensions: D, channels: channel.saturating_add(C) };
        let point = point.map(|x| self.index(x));
        let nothing = [self.nothing(); C];
        if !self.looks_up(inputs, look_up) {
            return (nothing, nothing);
        }
        if let (true, [x, y]) = (look_up.is_plain(), &point[..]) {
            let by_point = if slopes { self.push(Op::Gradient(field, *x, *y)) } else { self.nothing() };
            return ([self.push(Op::Sample(field, *x, *y)); C], [by_point; C]);
        }
        let cell = self.push(Op::Cell(field, point.to_vec())).at;
        let by_point = match slopes {
            true => std::array::from_fn(|c| self.push(Op::Slopes(D, cell, channel.saturating_add(c)))),
            false => nothing,
        };
        (std::array::from_fn(|c| self.push(Op::Channel(D, cell, channel.saturating_add(c)))), by_point)
    }

    /// Rejects a network whose weights were created by model code.
    pub(super) fn network_by_hand(&mut self, network: &Network, source: &ParamView<'_>) -> Expr {
        let (end, given) = (network.end(), source.values.len());
        if end > given {
            return self.not_given(Outside::Weight(source.of), end - 1, given);
        }
        self.by_hand("the weights of a network")
    }

    /// What has been read so far.
    pub(super) fn requirements(&self) -> Requirements {
        let of_task = self.networks.iter().filter(|(of, _)| *of == WeightsOf::Task);
        let mut networks: Vec<_> = of_task.map(|(_, network)| network.clone()).collect();
        networks.sort_by_key(Network::first);
        let networks = networks.into();
        Requirements { look_ups: self.look_ups.clone().into(), networks, ..self.requirements.clone() }
    }

    /// The tape index of a handle; a handle from another trace is an error and yields entry 0.
    pub(super) fn index(&mut self, of: Expr) -> u32 {
        if of.generation == self.generation {
            return of.at;
        }
        self.fail(ModelError::Stale { function: self.function });
        0
    }

    pub(super) fn push(&mut self, op: Op) -> Expr {
        let generation = self.generation;
        if let Some(&at) = self.seen.get(&op) {
            return Expr { at, generation };
        }
        let entry = self.append(op.clone());
        self.seen.insert(op, entry.at);
        entry
    }

    /// Adds an entry, even if an equal one exists.
    pub(super) fn append(&mut self, op: Op) -> Expr {
        let generation = self.generation;
        if self.ops.len() >= LIMIT {
            self.fail(ModelError::TooLarge { operations: self.ops.len(), limit: LIMIT });
            return Expr { at: 0, generation };
        }
        self.ops.push(op);
        Expr { at: self.ops.len() as u32 - 1, generation }
    }

    /// Adds an entry with a side effect, which is never eliminated.
    pub(super) fn act(&mut self, op: Op) -> Expr {
        let entry = self.append(op);
        self.effects.push(entry.at);
        entry
    }

    /// Records that a network is computed that stores so many numbers.
    pub(super) fn note(&mut self, numbers: usize) {
        self.requirements.units = self.requirements.units.max(numbers);
    }

    /// Returns the number of a network, adding it if it is new.
    pub(super) fn network(&mut self, of: WeightsOf, network: &Network) -> usize {
        if of == WeightsOf::Policy {
            // `Network::new` keeps this below `MAX_INDEX`.
            self.requirements.weights = self.requirements.weights.max(network.end());
        }
        // Kernels do not differentiate the networks of a task.
        self.note(if of == WeightsOf::Task { network.units() } else { network.numbers() });
        match self.networks.iter().position(|(known_of, known)| (*known_of, known) == (of, network)) {
            Some(number) => number,
            None => {
                self.networks.push((of, network.clone()));
                self.networks.len() - 1
            }
        }
    }

    pub(super) fn number(&mut self, value: f32) -> Expr {
        if !value.is_finite() {
            self.fail(ModelError::NotFinite { function: self.function, value: value.to_string() });
            return self.push(Op::Number(0));
        }
        self.push(Op::Number(value.to_bits()))
    }

    pub(super) fn as_number(&self, at: u32) -> Option<f32> {
        match self.ops[at as usize] {
            Op::Number(bits) => Some(f32::from_bits(bits)),
            _ => None,
        }
    }

    pub(super) fn as_truth(&self, at: u32) -> Option<bool> {
        match self.ops[at as usize] {
            Op::Truth(value) => Some(value),
            _ => None,
        }
    }
}
