//! [`Expr`] as a number: each operation returns its value on constants, or adds an entry to the tape. The operations,
//! their values and their WGSL are all in this file.

use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, DivAssign, Mul, MulAssign, Neg, Not, Sub, SubAssign};

use super::tape::{Expr, LIMIT, Moment, Op, Outside, PARAMETER, TAPE, Truth};
use crate::error::ModelError;
use crate::lang::math::Math;
use crate::lang::{GradSink, Inputs, Mask, Network, ParamNames, ParamView, Real, Table, WeightsOf, WgslFn, sealed};

/// An operation on one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Unary {
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

impl Unary {
    pub(super) fn wgsl(self, a: &str, math: Math) -> String {
        let shared = math == Math::Shared;
        let call = |ours: &str, theirs: &str| format!("{}({a})", if shared { ours } else { theirs });
        match self {
            Self::Neg => format!("-{a}"),
            Self::Abs => format!("abs({a})"),
            Self::Sqrt => format!("sqrt({a})"),
            Self::Floor => format!("floor({a})"),
            Self::SinCos if !shared => format!("Two(sin({a}), cos({a}))"),
            Self::SinCos => format!("gibbs_sin_cos({a})"),
            Self::Exp => call("gibbs_exp", "exp"),
            Self::Ln => call("gibbs_ln", "log"),
            Self::Exp2 => call("gibbs_exp2", "exp2"),
            Self::Log2 => call("gibbs_log2", "log2"),
            Self::Asin => call("gibbs_asin", "asin"),
            Self::Acos => call("gibbs_acos", "acos"),
            Self::Tanh => call("gibbs_tanh", "tanh"),
        }
    }
}

/// An operation on two numbers or truth values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Binary {
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

impl Binary {
    pub(super) fn wgsl(self, a: &str, b: &str, math: Math) -> String {
        let operator = match self {
            Self::Min => return format!("min({a}, {b})"),
            Self::Max => return format!("max({a}, {b})"),
            Self::Atan2 if math == Math::Shared => return format!("gibbs_atan2({a}, {b})"),
            Self::Atan2 => return format!("atan2({a}, {b})"),
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Eq => "==",
            Self::And => "&",
            Self::Or => "|",
        };
        format!("{a} {operator} {b}")
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

/// The outputs of a network that is already on the tape.
fn outputs_of<const O: usize>(of: Expr) -> [Expr; O] {
    TAPE.with_borrow_mut(|tape| {
        let of = tape.index(of);
        std::array::from_fn(|o| tape.push(Op::Output(of, o)))
    })
}
