//! Traced expressions: the interpretation of [`Real`] that records what a model computes, and the WGSL generated from
//! it.
//!
//! Running a model on [`Expr`] records every operation on a thread-local tape. Equal operations share one entry
//! (hash-consing), so a common subexpression is computed once; operations on constants are folded. The entries that the
//! results depend on are then printed as straight-line WGSL.

pub(crate) mod network;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, DivAssign, Mul, MulAssign, Neg, Not, Sub, SubAssign};
use std::sync::Arc;

use super::literal::Literal;
use crate::error::ModelError;
use crate::lang::math::Math;
use crate::lang::params::MAX_INDEX;
use crate::lang::{GradSink, Inputs, Mask, Network, ParamNames, ParamView, Real, Table, WeightsOf, WgslFn, sealed};

/// Maximum number of operations in a trace. Compile time grows faster than linearly: on a software Vulkan driver 5,000
/// statements took about a second, 20,000 fourteen.
pub(crate) const LIMIT: usize = 8192;

/// The inputs that a traced model needs; each count is one more than the largest index used.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requirements {
    pub(crate) params: usize,
    /// The names of the longest struct of parameters that is read.
    pub(crate) param_names: Option<ParamNames>,
    pub(crate) columns: usize,
    pub(crate) fields: usize,
    /// Parameters of a policy.
    pub(crate) weights: usize,
    /// The networks whose weights are those of the task. Shared by clones.
    pub(crate) networks: Arc<[Network]>,
    /// The largest number of scalars that the inputs and units of a network take.
    pub(crate) units: usize,
    /// An upper bound on the loop iterations of networks in a time step.
    pub(crate) loop_iterations: u64,
    /// The distinct look-ups of fields. Shared by clones, which are made when a driver's inputs are replaced.
    pub(crate) look_ups: Arc<[LookUp]>,
}

impl Requirements {
    /// Whether there are look-ups other than of one channel in two dimensions.
    #[cfg(feature = "gpu")]
    pub(crate) fn looks_up_channels(&self) -> bool {
        self.look_ups.iter().any(|look_up| !look_up.is_plain())
    }
}

/// A look-up of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LookUp {
    pub(crate) field: usize,
    pub(crate) dimensions: usize,
    /// One more than the last channel that is read.
    pub(crate) channels: usize,
}

impl LookUp {
    fn is_plain(&self) -> bool {
        (self.dimensions, self.channels) == (2, 1)
    }
}

/// The kind of input that model code reads by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outside {
    Param,
    Column,
    Field,
    Weight(WeightsOf),
}

impl Outside {
    fn name(self) -> &'static str {
        match self {
            Self::Param => "run-time parameter",
            Self::Column => "reference column",
            Self::Field => "field",
            Self::Weight(WeightsOf::Policy) => "policy parameter",
            Self::Weight(WeightsOf::Task) => "weight",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Unary {
    Neg,
    Abs,
    Sqrt,
    Floor,
    Exp,
    Ln,
    Exp2,
    Log2,
    SinCos,
    Asin,
    Acos,
    Tanh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    Atan2,
    Lt,
    Le,
    Eq,
    And,
    Or,
}

/// The time step that a step context refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Moment {
    Now,
    Before,
}

impl Moment {
    fn of(inputs: &Inputs<'_>) -> Self {
        if inputs.time == Inputs::BEFORE.time { Self::Before } else { Self::Now }
    }

    /// The name of the time index in the generated code.
    fn name(self) -> &'static str {
        match self {
            Self::Now => "t",
            Self::Before => "t_before",
        }
    }
}

/// One entry of the tape; `u32` operands are indices of earlier entries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Op {
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

#[derive(Default)]
struct Tape {
    generation: u32,
    function: &'static str,
    ops: Vec<Op>,
    seen: HashMap<Op, u32>,
    sources: Vec<(&'static str, &'static str)>,
    look_ups: Vec<LookUp>,
    networks: Vec<(WeightsOf, Network)>,
    /// Entries with side effects, of the function that is being traced.
    effects: Vec<u32>,
    requirements: Requirements,
    /// The first error.
    error: Option<ModelError>,
    /// The first error that would be a panic in plain `f32`.
    misread: Option<ModelError>,
}

thread_local! {
    static TAPE: RefCell<Tape> = RefCell::default();
}

/// A number on the tape.
#[derive(Clone, Copy)]
pub(crate) struct Expr {
    at: u32,
    generation: u32,
}

/// A truth value on the tape.
#[derive(Clone, Copy)]
pub(crate) struct Truth(Expr);

impl Tape {
    fn fail(&mut self, error: ModelError) {
        self.error.get_or_insert(error);
    }

    /// Records an error that would be a panic on plain numbers.
    fn misread(&mut self, error: ModelError) {
        self.misread.get_or_insert_with(|| error.clone());
        self.fail(error);
    }

    /// Placeholder value after an error.
    fn nothing(&self) -> Expr {
        Expr { at: 0, generation: self.generation }
    }

    /// Records that number `index` of a kind of input is read, and returns whether such an index can exist.
    fn reads(&mut self, what: Outside, index: usize) -> bool {
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
    fn read(&mut self, what: Outside, index: usize, op: Op) -> Expr {
        if self.reads(what, index) { self.push(op) } else { self.nothing() }
    }

    /// Rejects reading number `index` of an input that was set by hand and holds `given` values.
    fn not_given(&mut self, what: Outside, index: usize, given: usize) -> Expr {
        let (function, what) = (self.function, what.name());
        self.misread(ModelError::NotGiven { function, what, index, given });
        self.nothing()
    }

    /// Rejects an object that model code created by hand and that no kernel can hold.
    fn by_hand(&mut self, what: &'static str) -> Expr {
        self.fail(ModelError::ByHand { function: self.function, what });
        self.nothing()
    }

    /// Whether a table has rows; records an error if not.
    fn has_rows(&mut self, table: &Table) -> bool {
        if table.rows == 0 {
            self.misread(ModelError::EmptyTable { function: self.function });
        }
        table.rows > 0
    }

    /// Whether column `j` of a table can be read at every time step.
    fn reads_table(&mut self, table: &Table, j: usize) -> bool {
        self.has_rows(table) && self.reads(PARAMETER, table.last(j).unwrap_or(usize::MAX))
    }

    /// The index of the parameter in column `j` of a table at a constant time.
    fn place_in(&mut self, table: &Table, time: f32, j: usize) -> Option<usize> {
        let place = if self.has_rows(table) { table.at(time, j).or(Some(usize::MAX)) } else { None };
        place.filter(|i| *i < MAX_INDEX || self.reads(PARAMETER, *i))
    }

    /// Records a look-up, and returns whether it can be done. A plain function has no driver: its fields come from
    /// `Map::fields`.
    fn looks_up(&mut self, inputs: &Inputs<'_>, look_up: LookUp) -> bool {
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
    fn look_up<const D: usize, const C: usize>(
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
    fn network_by_hand(&mut self, network: &Network, source: &ParamView<'_>) -> Expr {
        let (end, given) = (network.end(), source.values.len());
        if end > given {
            return self.not_given(Outside::Weight(source.of), end - 1, given);
        }
        self.by_hand("the weights of a network")
    }

    /// What has been read so far.
    fn requirements(&self) -> Requirements {
        let of_task = self.networks.iter().filter(|(of, _)| *of == WeightsOf::Task);
        let mut networks: Vec<_> = of_task.map(|(_, network)| network.clone()).collect();
        networks.sort_by_key(Network::first);
        let networks = networks.into();
        Requirements { look_ups: self.look_ups.clone().into(), networks, ..self.requirements.clone() }
    }

    /// The tape index of a handle; a handle from another trace is an error and yields entry 0.
    fn index(&mut self, of: Expr) -> u32 {
        if of.generation == self.generation {
            return of.at;
        }
        self.fail(ModelError::Stale { function: self.function });
        0
    }

    fn push(&mut self, op: Op) -> Expr {
        let generation = self.generation;
        if let Some(&at) = self.seen.get(&op) {
            return Expr { at, generation };
        }
        let entry = self.append(op.clone());
        self.seen.insert(op, entry.at);
        entry
    }

    /// Adds an entry, even if an equal one exists.
    fn append(&mut self, op: Op) -> Expr {
        let generation = self.generation;
        if self.ops.len() >= LIMIT {
            self.fail(ModelError::TooLarge { operations: self.ops.len(), limit: LIMIT });
            return Expr { at: 0, generation };
        }
        self.ops.push(op);
        Expr { at: self.ops.len() as u32 - 1, generation }
    }

    /// Adds an entry with a side effect, which is never eliminated.
    fn act(&mut self, op: Op) -> Expr {
        let entry = self.append(op);
        self.effects.push(entry.at);
        entry
    }

    /// Records that a network is computed that stores so many numbers.
    fn note(&mut self, numbers: usize) {
        self.requirements.units = self.requirements.units.max(numbers);
    }

    /// Returns the number of a network, adding it if it is new.
    fn network(&mut self, of: WeightsOf, network: &Network) -> usize {
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

    fn number(&mut self, value: f32) -> Expr {
        if !value.is_finite() {
            self.fail(ModelError::NotFinite { function: self.function, value: value.to_string() });
            return self.push(Op::Number(0));
        }
        self.push(Op::Number(value.to_bits()))
    }

    fn as_number(&self, at: u32) -> Option<f32> {
        match self.ops[at as usize] {
            Op::Number(bits) => Some(f32::from_bits(bits)),
            _ => None,
        }
    }

    fn as_truth(&self, at: u32) -> Option<bool> {
        match self.ops[at as usize] {
            Op::Truth(value) => Some(value),
            _ => None,
        }
    }
}

fn unary(kind: Unary, a: Expr) -> Expr {
    TAPE.with_borrow_mut(|tape| {
        let a = tape.index(a);
        match (kind, tape.as_number(a)) {
            (Unary::Neg, Some(v)) => tape.number(-v),
            (Unary::Abs, Some(v)) => tape.number(v.abs()),
            (Unary::Sqrt, Some(v)) => tape.number(v.sqrt()),
            (Unary::Floor, Some(v)) => tape.number(v.floor()),
            (Unary::Exp, Some(v)) => tape.number(Real::exp(v)),
            (Unary::Ln, Some(v)) => tape.number(Real::ln(v)),
            (Unary::Exp2, Some(v)) => tape.number(Real::exp2(v)),
            (Unary::Log2, Some(v)) => tape.number(Real::log2(v)),
            (Unary::Tanh, Some(v)) => tape.number(Real::tanh(v)),
            (Unary::Asin, Some(v)) => tape.number(Real::asin(v)),
            (Unary::Acos, Some(v)) => tape.number(Real::acos(v)),
            _ => tape.push(Op::Unary(kind, a)),
        }
    })
}

fn part(of: Expr, which: u8) -> Expr {
    TAPE.with_borrow_mut(|tape| {
        let of = tape.index(of);
        tape.push(Op::Part(of, which))
    })
}

fn arithmetic(kind: Binary, a: Expr, b: Expr) -> Expr {
    TAPE.with_borrow_mut(|tape| {
        let (a, b) = (tape.index(a), tape.index(b));
        let here = |at| Expr { at, generation: tape.generation };
        match (kind, tape.as_number(a), tape.as_number(b)) {
            (Binary::Add, Some(x), Some(y)) => tape.number(x + y),
            (Binary::Sub, Some(x), Some(y)) => tape.number(x - y),
            (Binary::Mul, Some(x), Some(y)) => tape.number(x * y),
            (Binary::Div, Some(x), Some(y)) => tape.number(x / y),
            (Binary::Min, Some(x), Some(y)) => tape.number(Real::min(x, y)),
            (Binary::Max, Some(x), Some(y)) => tape.number(Real::max(x, y)),
            (Binary::Atan2, Some(y), Some(x)) => tape.number(Real::atan2(y, x)),
            (Binary::Add | Binary::Sub, None, Some(0.0)) => here(a),
            (Binary::Add, Some(0.0), None) => here(b),
            (Binary::Mul | Binary::Div, None, Some(1.0)) => here(a),
            (Binary::Mul, Some(1.0), None) => here(b),
            // a + b and b + a are one entry.
            (Binary::Add | Binary::Mul, ..) => tape.push(Op::Binary(kind, a.min(b), a.max(b))),
            _ => tape.push(Op::Binary(kind, a, b)),
        }
    })
}

fn comparison(kind: Binary, a: Expr, b: Expr) -> Truth {
    TAPE.with_borrow_mut(|tape| {
        let (a, b) = (tape.index(a), tape.index(b));
        Truth(match (kind, tape.as_number(a), tape.as_number(b)) {
            (Binary::Lt, Some(x), Some(y)) => tape.push(Op::Truth(x < y)),
            (Binary::Le, Some(x), Some(y)) => tape.push(Op::Truth(x <= y)),
            (Binary::Eq, Some(x), Some(y)) => tape.push(Op::Truth(x == y)),
            _ => tape.push(Op::Binary(kind, a, b)),
        })
    })
}

fn logic(kind: Binary, a: Truth, b: Truth) -> Truth {
    TAPE.with_borrow_mut(|tape| {
        let (a, b) = (tape.index(a.0), tape.index(b.0));
        let here = |at| Expr { at, generation: tape.generation };
        // The value of one operand that determines the result.
        let decides = kind == Binary::Or;
        Truth(match (tape.as_truth(a), tape.as_truth(b)) {
            (Some(x), _) if x == decides => here(a),
            (_, Some(y)) if y == decides => here(b),
            (Some(_), _) => here(b),
            (_, Some(_)) => here(a),
            _ => tape.push(Op::Binary(kind, a.min(b), a.max(b))),
        })
    })
}

macro_rules! operators {
    ($($op:ident $method:ident $assign:ident $assign_method:ident;)*) => {$(
        impl $op for Expr {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                arithmetic(Binary::$op, self, other)
            }
        }
        impl $op<f32> for Expr {
            type Output = Self;
            fn $method(self, other: f32) -> Self {
                self.$method(Self::from(other))
            }
        }
        impl $assign for Expr {
            fn $assign_method(&mut self, other: Self) {
                *self = self.$method(other);
            }
        }
    )*};
}
operators! {
    Add add AddAssign add_assign;
    Sub sub SubAssign sub_assign;
    Mul mul MulAssign mul_assign;
    Div div DivAssign div_assign;
}

impl Neg for Expr {
    type Output = Self;
    fn neg(self) -> Self {
        unary(Unary::Neg, self)
    }
}
impl From<f32> for Expr {
    fn from(value: f32) -> Self {
        TAPE.with_borrow_mut(|tape| tape.number(value))
    }
}
impl BitAnd for Truth {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        logic(Binary::And, self, other)
    }
}
impl BitOr for Truth {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        logic(Binary::Or, self, other)
    }
}
impl Not for Truth {
    type Output = Self;
    fn not(self) -> Self {
        TAPE.with_borrow_mut(|tape| {
            let a = tape.index(self.0);
            Truth(match tape.as_truth(a) {
                Some(value) => tape.push(Op::Truth(!value)),
                None => tape.push(Op::Not(a)),
            })
        })
    }
}
impl Mask for Truth {
    fn splat(value: bool) -> Self {
        TAPE.with_borrow_mut(|tape| Truth(tape.push(Op::Truth(value))))
    }
}

// SAFETY: any bytes are two valid integers. (The tape checks whether they refer to one of its entries.)
unsafe impl sealed::Sealed for Expr {}

impl Real for Expr {
    type Mask = Truth;

    fn abs(self) -> Self {
        unary(Unary::Abs, self)
    }
    fn min(self, other: impl Into<Self>) -> Self {
        arithmetic(Binary::Min, self, other.into())
    }
    fn max(self, other: impl Into<Self>) -> Self {
        arithmetic(Binary::Max, self, other.into())
    }
    fn mul_add(self, a: impl Into<Self>, b: impl Into<Self>) -> Self {
        let (a, b) = (a.into(), b.into());
        TAPE.with_borrow_mut(|tape| {
            let (x, a, b) = (tape.index(self), tape.index(a), tape.index(b));
            match [x, a, b].map(|at| tape.as_number(at)) {
                // A compiler would refuse the constant expression if it overflows.
                [Some(x), Some(a), Some(b)] => tape.number(x.mul_add(a, b)),
                _ => tape.push(Op::Fused(x, a, b)),
            }
        })
    }
    fn sqrt(self) -> Self {
        unary(Unary::Sqrt, self)
    }
    fn floor(self) -> Self {
        unary(Unary::Floor, self)
    }
    fn exp(self) -> Self {
        unary(Unary::Exp, self)
    }
    fn ln(self) -> Self {
        unary(Unary::Ln, self)
    }
    fn exp2(self) -> Self {
        unary(Unary::Exp2, self)
    }
    fn log2(self) -> Self {
        unary(Unary::Log2, self)
    }
    fn sin_cos(self) -> (Self, Self) {
        let pair = unary(Unary::SinCos, self);
        (part(pair, 0), part(pair, 1))
    }
    fn atan2(self, x: impl Into<Self>) -> Self {
        arithmetic(Binary::Atan2, self, x.into())
    }
    fn asin(self) -> Self {
        unary(Unary::Asin, self)
    }
    fn acos(self) -> Self {
        unary(Unary::Acos, self)
    }
    fn tanh(self) -> Self {
        unary(Unary::Tanh, self)
    }
    fn lt(self, other: impl Into<Self>) -> Truth {
        comparison(Binary::Lt, self, other.into())
    }
    fn le(self, other: impl Into<Self>) -> Truth {
        comparison(Binary::Le, self, other.into())
    }
    fn cmp_eq(self, other: impl Into<Self>) -> Truth {
        comparison(Binary::Eq, self, other.into())
    }
    fn select(mask: Truth, yes: impl Into<Self>, no: impl Into<Self>) -> Self {
        let (yes, no) = (yes.into(), no.into());
        TAPE.with_borrow_mut(|tape| {
            let (m, y, n) = (tape.index(mask.0), tape.index(yes), tape.index(no));
            match tape.as_truth(m) {
                Some(true) => yes,
                Some(false) => no,
                None => tape.push(Op::Select(m, y, n)),
            }
        })
    }
    // The inputs of a context built by hand are available and become constants; the context that a driver's model is
    // traced with has none (see `Inputs::NOW`).
    fn param(inputs: &Inputs<'_>, i: usize) -> Self {
        if let Some(value) = inputs.params.get(i) {
            return Self::from(*value);
        }
        TAPE.with_borrow_mut(|tape| match inputs.by_hand.params {
            true => tape.not_given(Outside::Param, i, inputs.params.len()),
            false => tape.read(Outside::Param, i, Op::Param(i)),
        })
    }
    fn note_params(inputs: &Inputs<'_>, names: ParamNames) {
        if inputs.by_hand.params {
            return;
        }
        TAPE.with_borrow_mut(|tape| {
            let longest = &mut tape.requirements.param_names;
            if longest.is_none_or(|longest| longest.count < names.count) {
                *longest = Some(names);
            }
        });
    }
    fn reference(inputs: &Inputs<'_>, j: usize) -> Self {
        if let Some(value) = inputs.reference.get(j) {
            return Self::from(*value);
        }
        TAPE.with_borrow_mut(|tape| match inputs.by_hand.reference {
            true => tape.not_given(Outside::Column, j, inputs.reference.len()),
            false => tape.read(Outside::Column, j, Op::Reference(Moment::of(inputs), j)),
        })
    }
    fn time(inputs: &Inputs<'_>) -> Self {
        if inputs.time >= 0.0 {
            return Self::from(inputs.time);
        }
        TAPE.with_borrow_mut(|tape| tape.push(Op::Time(Moment::of(inputs))))
    }
    fn dt(inputs: &Inputs<'_>) -> Self {
        if inputs.time >= 0.0 {
            return Self::from(inputs.dt);
        }
        TAPE.with_borrow_mut(|tape| tape.push(Op::Dt))
    }
    fn look_up<const D: usize, const C: usize>(
        inputs: &Inputs<'_>,
        field: usize,
        channel: usize,
        point: [Self; D],
    ) -> [Self; C] {
        TAPE.with_borrow_mut(|tape| tape.look_up(inputs, (field, channel), point, false).0)
    }
    fn look_up_slopes<const D: usize, const C: usize>(
        inputs: &Inputs<'_>,
        field: usize,
        channel: usize,
        point: [Self; D],
    ) -> ([Self; C], [[Self; D]; C]) {
        let (values, slopes) = TAPE.with_borrow_mut(|tape| tape.look_up(inputs, (field, channel), point, true));
        (values, slopes.map(|of| std::array::from_fn(|d| if D == 1 { of } else { part(of, d as u8) })))
    }
    fn call<const A: usize>(function: &WgslFn<A>, arguments: [Self; A]) -> Self {
        TAPE.with_borrow_mut(|tape| {
            match tape.sources.iter().find(|(name, _)| *name == function.name) {
                None => tape.sources.push((function.name, function.source)),
                Some((_, source)) if *source == function.source => {}
                Some(_) => tape.fail(ModelError::DuplicateFunction { name: function.name.into() }),
            }
            let arguments = arguments.map(|a| tape.index(a)).to_vec();
            tape.push(Op::Call(function.name, arguments))
        })
    }
    // Parameters that are available become constants, too.
    fn weight(source: &ParamView<'_>, i: usize) -> Self {
        if let Some(value) = source.values.get(i) {
            return Self::from(*value);
        }
        TAPE.with_borrow_mut(|tape| match source.traced_of() {
            Some(of) => tape.read(Outside::Weight(of), i, Op::Weight(of, i)),
            None => tape.not_given(PARAMETER, i, source.values.len()),
        })
    }
    fn weight_at(source: &ParamView<'_>, inputs: &Inputs<'_>, table: Table, j: usize) -> Self {
        if inputs.time >= 0.0 {
            let place =
                TAPE.with_borrow_mut(|tape| tape.place_in(&table, inputs.time, j).ok_or_else(|| tape.nothing()));
            return place.map_or_else(|nothing| nothing, |i| Self::weight(source, i));
        }
        TAPE.with_borrow_mut(|tape| {
            if source.traced_of().is_some() {
                let entry = Op::WeightAt(Moment::of(inputs), table, j);
                return if tape.reads_table(&table, j) { tape.push(entry) } else { tape.nothing() };
            }
            match table.last(j) {
                Some(last) if last < source.values.len() => tape.by_hand("a table of weights"),
                last => tape.not_given(PARAMETER, last.unwrap_or(usize::MAX), source.values.len()),
            }
        })
    }
    fn accumulate(_: &mut GradSink<'_>, i: usize, value: Self) {
        TAPE.with_borrow_mut(|tape| {
            if tape.reads(PARAMETER, i) {
                let value = tape.index(value);
                tape.act(Op::Accumulate(i, value));
            }
        });
    }
    fn accumulate_at(sink: &mut GradSink<'_>, inputs: &Inputs<'_>, table: Table, j: usize, value: Self) {
        if inputs.time >= 0.0 {
            if let Some(i) = TAPE.with_borrow_mut(|tape| tape.place_in(&table, inputs.time, j)) {
                Self::accumulate(sink, i, value);
            }
            return;
        }
        TAPE.with_borrow_mut(|tape| {
            if tape.reads_table(&table, j) {
                let value = tape.index(value);
                tape.act(Op::AccumulateAt(Moment::of(inputs), table, j, value));
            }
        });
    }
    fn fits(network: &Network, inputs: usize, outputs: usize, size: usize) -> bool {
        TAPE.with_borrow_mut(|tape| {
            let (function, sizes) = (tape.function, network.sizes());
            if [sizes[0], sizes[sizes.len() - 1]] != [inputs, outputs] {
                let sizes = sizes.to_vec();
                tape.misread(ModelError::NetworkSizes { function, inputs, outputs, sizes });
                return false;
            }
            // Dual numbers unroll the network into one entry per weight.
            if size > 1 && network.parameters() > LIMIT {
                tape.fail(ModelError::TooLarge { operations: network.parameters(), limit: LIMIT });
                return false;
            }
            true
        })
    }
    fn note(source: &ParamView<'_>, network: &Network, size: usize) {
        TAPE.with_borrow_mut(|tape| {
            tape.note(network.numbers() * size);
            if source.traced_of() == Some(WeightsOf::Task) {
                tape.network(WeightsOf::Task, network);
            }
        });
    }
    fn network<const I: usize, const O: usize>(source: &ParamView<'_>, network: &Network, x: [Self; I]) -> [Self; O] {
        let outputs = TAPE.with_borrow_mut(|tape| {
            let Some(of) = source.traced_of() else { return tape.network_by_hand(network, source) };
            let number = tape.network(of, network);
            tape.requirements.loop_iterations += match of {
                WeightsOf::Policy => network.loop_iterations()[0],
                WeightsOf::Task => network.unrolled_iterations(),
            };
            let x = x.map(|x| tape.index(x)).to_vec();
            tape.push(Op::Network(number, x))
        });
        outputs_of(outputs)
    }
    fn network_back<const I: usize, const O: usize>(
        source: &ParamView<'_>,
        _: &mut GradSink<'_>,
        network: &Network,
        x: [Self; I],
        v: [Self; O],
    ) -> [Self; O] {
        let outputs = TAPE.with_borrow_mut(|tape| {
            let Some(of) = source.traced_of() else { return tape.network_by_hand(network, source) };
            let number = tape.network(of, network);
            tape.requirements.loop_iterations += network.loop_iterations()[1];
            let (x, v) = (x.map(|x| tape.index(x)).to_vec(), v.map(|v| tape.index(v)).to_vec());
            tape.act(Op::NetworkBack(number, x, v))
        });
        outputs_of(outputs)
    }
}

/// A parameter of a policy.
const PARAMETER: Outside = Outside::Weight(WeightsOf::Policy);

/// The function name under which a plain function is traced: see [`Trace::enter`].
pub(crate) const MAP: &str = "map";

/// The outputs of a network that is already on the tape.
fn outputs_of<const O: usize>(of: Expr) -> [Expr; O] {
    TAPE.with_borrow_mut(|tape| {
        let of = tape.index(of);
        std::array::from_fn(|o| tape.push(Op::Output(of, o)))
    })
}

/// An active trace on this thread. Dropping it frees the tape.
pub(crate) struct Trace {
    math: Math,
}

impl Trace {
    pub(crate) fn start(math: Math) -> Self {
        TAPE.with_borrow_mut(|tape| {
            *tape = Tape { generation: tape.generation.wrapping_add(1), ..Tape::default() };
            // Entry 0 is the placeholder for rejected handles.
            tape.push(Op::Number(0));
        });
        Self { math }
    }

    /// Sets the name of the model function that is traced next, for error messages.
    pub(crate) fn enter(function: &'static str) {
        TAPE.with_borrow_mut(|tape| tape.function = function);
    }

    /// Whether a truth value is the constant false.
    pub(crate) fn is_never(&self, truth: Truth) -> bool {
        TAPE.with_borrow_mut(|tape| {
            let at = tape.index(truth.0);
            tape.as_truth(at) == Some(false)
        })
    }

    pub(crate) fn inputs<const N: usize>(&self, first: usize) -> [Expr; N] {
        TAPE.with_borrow_mut(|tape| std::array::from_fn(|i| tape.push(Op::Input(first + i))))
    }

    /// The input of number `i`, a truth value.
    pub(crate) fn truth(&self, i: usize) -> Truth {
        TAPE.with_borrow_mut(|tape| Truth(tape.push(Op::Input(i))))
    }

    /// Prints the entries that `outputs` depend on and those with side effects as statements, and returns them with the
    /// names of the outputs. `input` names the traced inputs.
    pub(crate) fn emit(
        &self,
        outputs: &[Expr],
        truths: &[Truth],
        input: impl Fn(usize) -> String,
    ) -> (String, Vec<String>) {
        TAPE.with_borrow_mut(|tape| {
            let all: Vec<Expr> = outputs.iter().copied().chain(truths.iter().map(|t| t.0)).collect();
            let ends: Vec<u32> = all.into_iter().map(|e| tape.index(e)).collect();
            let effects = std::mem::take(&mut tape.effects);
            let printer = Printer { ops: &tape.ops, math: self.math, input: &input };
            let mut code = String::new();
            for (at, live) in printer.live(&[&ends[..], &effects].concat()).into_iter().enumerate() {
                // Writing to a String cannot fail.
                let _ = match &tape.ops[at] {
                    _ if !live || printer.is_atom(at as u32) => Ok(()),
                    Op::Accumulate(..) | Op::AccumulateAt(..) => {
                        writeln!(code, "    {};", printer.value(at as u32))
                    }
                    _ => writeln!(code, "    let t{at} = {};", printer.value(at as u32)),
                };
            }
            (code, ends.iter().map(|&at| printer.name(at)).collect())
        })
    }

    /// Prints the traced networks as WGSL functions.
    pub(crate) fn networks(&self) -> String {
        TAPE.with_borrow(|tape| {
            let numbered = tape.networks.iter().enumerate();
            numbered.map(|(number, (of, network))| network.wgsl(*of, number, self.math)).collect()
        })
    }

    /// Ends a trace that need not become a kernel, and returns the inputs that plain numbers would read.
    pub(crate) fn requirements(self) -> Result<Requirements, ModelError> {
        TAPE.with_borrow_mut(|tape| tape.misread.take().map_or(Ok(tape.requirements()), Err))
    }

    /// Ends the trace, and returns the hand-written functions it calls, the inputs it needs, and its number of
    /// operations.
    pub(crate) fn finish(self) -> Result<(String, Requirements, usize), ModelError> {
        TAPE.with_borrow_mut(|tape| {
            if let Some(error) = tape.error.take() {
                return Err(error);
            }
            let sources = tape.sources.iter().map(|(_, source)| format!("{source}\n")).collect();
            Ok((sources, tape.requirements(), tape.ops.len()))
        })
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        TAPE.with_borrow_mut(|tape| {
            *tape = Tape { generation: tape.generation.wrapping_add(1), ..Tape::default() };
        });
    }
}

struct Printer<'a> {
    ops: &'a [Op],
    math: Math,
    input: &'a dyn Fn(usize) -> String,
}

impl Printer<'_> {
    /// Marks the entries that the outputs depend on. Entries refer to earlier ones only, so one backward sweep finds
    /// them.
    fn live(&self, ends: &[u32]) -> Vec<bool> {
        let mut live = vec![false; self.ops.len()];
        for &end in ends {
            live[end as usize] = true;
        }
        for at in (0..self.ops.len()).rev() {
            if !live[at] {
                continue;
            }
            let mut mark = |of: &u32| live[*of as usize] = true;
            match &self.ops[at] {
                Op::Unary(_, a)
                | Op::Not(a)
                | Op::Part(a, _)
                | Op::Channel(_, a, _)
                | Op::Slopes(_, a, _)
                | Op::Output(a, _)
                | Op::Accumulate(_, a)
                | Op::AccumulateAt(_, _, _, a) => mark(a),
                Op::Binary(_, a, b) | Op::Sample(_, a, b) | Op::Gradient(_, a, b) => [a, b].into_iter().for_each(mark),
                Op::Fused(a, b, c) | Op::Select(a, b, c) => [a, b, c].into_iter().for_each(mark),
                Op::Call(_, arguments) | Op::Network(_, arguments) | Op::Cell(_, arguments) => {
                    arguments.iter().for_each(mark)
                }
                Op::NetworkBack(_, x, v) => x.iter().chain(v).for_each(mark),
                Op::Number(_)
                | Op::Truth(_)
                | Op::Input(_)
                | Op::Param(_)
                | Op::Reference(..)
                | Op::Time(_)
                | Op::Dt
                | Op::Weight(..)
                | Op::WeightAt(..) => {}
            }
        }
        live
    }

    /// Whether an entry is short enough to be printed inline where it is used.
    fn is_atom(&self, at: u32) -> bool {
        matches!(
            self.ops[at as usize],
            Op::Number(_) | Op::Truth(_) | Op::Input(_) | Op::Dt | Op::Part(..) | Op::Output(..)
        )
    }

    fn name(&self, at: u32) -> String {
        if self.is_atom(at) { self.value(at) } else { format!("t{at}") }
    }

    fn value(&self, at: u32) -> String {
        let n = |at: &u32| self.name(*at);
        let shared = self.math == Math::Shared;
        match &self.ops[at as usize] {
            Op::Number(bits) => format!("F({})", Literal(f32::from_bits(*bits))),
            Op::Truth(value) => format!("B({value})"),
            Op::Input(i) => (self.input)(*i),
            Op::Param(i) => format!("F(param({i}u))"),
            Op::Reference(moment, j) => format!("F(inputs[reference_at({}) + {j}u])", moment.name()),
            Op::Time(moment) => format!("F(f32({}))", moment.name()),
            Op::Dt => "F(uniforms.dt)".into(),
            Op::Unary(kind, a) => {
                let a = n(a);
                let call = |ours: &str, theirs: &str| format!("{}({a})", if shared { ours } else { theirs });
                match kind {
                    Unary::Neg => format!("-{a}"),
                    Unary::Abs => format!("abs({a})"),
                    Unary::Sqrt => format!("sqrt({a})"),
                    Unary::Floor => format!("floor({a})"),
                    Unary::SinCos if !shared => format!("Two(sin({a}), cos({a}))"),
                    Unary::SinCos => format!("gibbs_sin_cos({a})"),
                    Unary::Exp => call("gibbs_exp", "exp"),
                    Unary::Ln => call("gibbs_ln", "log"),
                    Unary::Exp2 => call("gibbs_exp2", "exp2"),
                    Unary::Log2 => call("gibbs_log2", "log2"),
                    Unary::Asin => call("gibbs_asin", "asin"),
                    Unary::Acos => call("gibbs_acos", "acos"),
                    Unary::Tanh => call("gibbs_tanh", "tanh"),
                }
            }
            Op::Binary(kind, a, b) => {
                let (a, b) = (n(a), n(b));
                match kind {
                    Binary::Min => format!("min({a}, {b})"),
                    Binary::Max => format!("max({a}, {b})"),
                    Binary::Atan2 if shared => format!("gibbs_atan2({a}, {b})"),
                    Binary::Atan2 => format!("atan2({a}, {b})"),
                    Binary::Add => format!("{a} + {b}"),
                    Binary::Sub => format!("{a} - {b}"),
                    Binary::Mul => format!("{a} * {b}"),
                    Binary::Div => format!("{a} / {b}"),
                    Binary::Lt => format!("{a} < {b}"),
                    Binary::Le => format!("{a} <= {b}"),
                    Binary::Eq => format!("{a} == {b}"),
                    Binary::And => format!("{a} & {b}"),
                    Binary::Or => format!("{a} | {b}"),
                }
            }
            Op::Fused(a, b, c) => format!("fma({}, {}, {})", n(a), n(b), n(c)),
            Op::Not(a) => format!("!{}", n(a)),
            Op::Select(m, yes, no) => format!("select({}, {}, {})", n(no), n(yes), n(m)),
            Op::Sample(field, x, y) => format!("field_sample({field}u, {}, {})", n(x), n(y)),
            Op::Gradient(field, x, y) => format!("field_gradient({field}u, {}, {})", n(x), n(y)),
            Op::Cell(field, point) => {
                let kind = kind_of_field(point.len());
                format!("{kind}_cell({field}u, {})", point.iter().map(n).collect::<Vec<_>>().join(", "))
            }
            Op::Channel(dimensions, cell, channel) => {
                format!("{}_value({}, {channel}u)", kind_of_field(*dimensions), n(cell))
            }
            Op::Slopes(dimensions, cell, channel) => {
                format!("{}_slopes({}, {channel}u)", kind_of_field(*dimensions), n(cell))
            }
            Op::Part(of, which) => format!("{}.{}", n(of), ["x", "y", "z"][usize::from(*which)]),
            Op::Call(name, arguments) => {
                format!("{name}({})", arguments.iter().map(n).collect::<Vec<_>>().join(", "))
            }
            Op::Weight(WeightsOf::Policy, i) => format!("weight({i}u)"),
            Op::Weight(WeightsOf::Task, i) => format!("F(task_weight({i}u))"),
            Op::WeightAt(moment, table, j) => format!("weight({})", place(*moment, table, *j)),
            Op::Network(number, x) => format!("network_{number}({})", self.array(x)),
            Op::NetworkBack(number, x, v) => format!("network_back_{number}({}, {})", self.array(x), self.array(v)),
            Op::Output(of, o) => format!("{}[{o}]", n(of)),
            Op::Accumulate(i, value) => format!("accumulate({i}u, {})", n(value)),
            Op::AccumulateAt(moment, table, j, value) => {
                format!("accumulate({}, {})", place(*moment, table, *j), n(value))
            }
        }
    }

    fn array(&self, of: &[u32]) -> String {
        let of: Vec<_> = of.iter().map(|at| self.name(*at)).collect();
        format!("array<F, {}>({})", of.len(), of.join(", "))
    }
}

/// The prefix of the functions that look up fields with some number of dimensions.
fn kind_of_field(dimensions: usize) -> &'static str {
    ["table", "plane", "volume"][dimensions - 1]
}

/// Prints the index of the parameter in column `j` of a table.
fn place(moment: Moment, table: &Table, j: usize) -> String {
    let Table { first, rows, columns } = table;
    format!("{}u + min({}, {}u) * {columns}u", first + j, moment.name(), rows - 1)
}
