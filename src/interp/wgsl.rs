//! Prints functions that are generic over [`Vector`] as WGSL functions: the interpretation behind `shaders/generated/`.
//!
//! Running a function on [`Number`] and [`Word`] records its operations. Equal operations become one value, values that
//! nothing depends on are left out, and a short value that is used once is written where it is used.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::ops::{Add, AddAssign, BitAnd, BitOr, BitXor, Div, DivAssign, Mul, MulAssign, Neg, Not, Sub, SubAssign};

use super::literal::Literal;
use crate::lang::math::{UniformWord, Value, Vector};
use crate::lang::{Mask, sealed};

/// A value up to this length is written where it is used, if it is used once.
const SHORT: usize = 48;

/// An operation: a piece of WGSL with a `{}` for each operand, which is the index of an earlier entry.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Op {
    text: Cow<'static, str>,
    operands: Vec<u32>,
}

#[derive(Default)]
struct Tape {
    /// The function that is being printed. Calls of other printed functions are printed as calls.
    function: &'static str,
    /// Whether it computes on single numbers, instead of on one for each row of an invocation.
    scalar: bool,
    ops: Vec<Op>,
    seen: HashMap<Op, u32>,
}

thread_local! {
    static TAPE: RefCell<Tape> = RefCell::default();
}

/// A value of type `F`.
#[derive(Clone, Copy)]
pub(crate) struct Number(u32);

/// A value of type `U`.
#[derive(Clone, Copy)]
pub(crate) struct Word(u32);

/// A value of type `u32`, which all rows of an invocation share.
#[derive(Clone, Copy)]
pub(crate) struct Shared(pub(crate) u32);

/// A value of type `B`.
#[derive(Clone, Copy)]
pub(crate) struct Truth(u32);

fn op(text: impl Into<Cow<'static, str>>, operands: &[u32]) -> u32 {
    let op = Op { text: text.into(), operands: operands.to_vec() };
    TAPE.with_borrow_mut(|tape| {
        if let Some(&at) = tape.seen.get(&op) {
            return at;
        }
        let at = tape.ops.len() as u32;
        tape.ops.push(op.clone());
        tape.seen.insert(op, at);
        at
    })
}

/// Returns the operand of an entry, if the entry is the unary operation `text`.
fn operand_of(at: u32, text: &str) -> Option<u32> {
    TAPE.with_borrow(|tape| {
        let op = &tape.ops[at as usize];
        (op.text == text).then(|| op.operands[0])
    })
}

/// Records the access to member `name` of a struct.
fn member(of: u32, name: &str) -> u32 {
    op(format!("{{}}.{name}"), &[of])
}

/// The type of a parameter, or of a member of a struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Number,
    Word,
    Uniform,
    Truth,
    /// A struct of the module.
    Struct(&'static Struct),
}

/// A WGSL struct.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Struct {
    pub(crate) name: &'static str,
    /// Whether its members are single numbers.
    pub(crate) scalar: bool,
    pub(crate) members: &'static [(&'static str, Type)],
}

impl Type {
    fn name(self, scalar: bool) -> &'static str {
        match self {
            Self::Number if scalar => "f32",
            Self::Truth if scalar => "bool",
            Self::Number => "F",
            Self::Truth => "B",
            Self::Word => "U",
            Self::Uniform => "u32",
            Self::Struct(of) => of.name,
        }
    }
}

impl Struct {
    /// Returns its declaration in WGSL.
    pub(crate) fn declaration(&self) -> String {
        let member = |(name, of): &(_, Type)| format!("    {name}: {},\n", of.name(self.scalar));
        let members: String = self.members.iter().map(member).collect();
        format!("struct {} {{\n{members}}}\n", self.name)
    }
}

/// Appends the numbers and words of a value to `into`, in order; members of structs recursively.
fn flattened(at: u32, of: Type, into: &mut Vec<Value<Number>>) {
    match of {
        Type::Number => into.push(Value::Number(Number(at))),
        Type::Word => into.push(Value::Word(Word(at))),
        Type::Uniform => into.push(Value::Uniform(Shared(at))),
        Type::Truth => into.push(Value::Truth(Truth(at))),
        Type::Struct(of) => of.members.iter().for_each(|(name, of)| flattened(member(at, name), *of, into)),
    }
}

/// Records the construction of a value of a type from its numbers and words.
fn assembled(of: Type, from: &mut impl Iterator<Item = u32>) -> u32 {
    match of {
        Type::Struct(of) => {
            let members: Vec<u32> = of.members.iter().map(|(_, of)| assembled(*of, from)).collect();
            let whole = operand_of(members[0], &format!("{{}}.{}", of.members[0].0));
            // If they are all members of one value, in order, that value is used as it is.
            match whole {
                Some(whole) if of.members.iter().zip(&members).all(|((name, _), at)| member(whole, name) == *at) => {
                    whole
                }
                _ => call(of.name, &members),
            }
        }
        _ => from.next().expect("as many values as the type has"),
    }
}

fn call(name: &str, arguments: &[u32]) -> u32 {
    op(format!("{name}({})", vec!["{}"; arguments.len()].join(", ")), arguments)
}

fn entry(value: Value<Number>) -> u32 {
    match value {
        Value::Number(x) => x.0,
        Value::Word(w) => w.0,
        Value::Uniform(w) => w.0,
        Value::Truth(m) => m.0,
    }
}

/// A variable of the module or, as `function().member`, a member of a function's result; of type `u32`.
pub(crate) fn variable(name: &'static str) -> Shared {
    match name.split_once("().") {
        // Equal calls are one entry, so the function is called once for all members of its result.
        Some((function, part)) => Shared(member(call(function, &[]), part)),
        None => Shared(op(name, &[])),
    }
}

/// Prints a WGSL function. `body` computes the numbers and words of its result from those of its arguments.
pub(crate) fn function(
    name: &'static str,
    scalar: bool,
    parameters: &[(&'static str, Type)],
    result: Type,
    body: impl Fn(&[Value<Number>]) -> Vec<Value<Number>>,
) -> String {
    TAPE.set(Tape { function: name, scalar, ..Tape::default() });
    let mut arguments = Vec::new();
    for (name, of) in parameters {
        flattened(op(*name, &[]), *of, &mut arguments);
    }
    let results = body(&arguments);
    let result_at = assembled(result, &mut results.into_iter().map(entry));
    let parameters: Vec<_> = parameters.iter().map(|(name, of)| format!("{name}: {}", of.name(scalar))).collect();
    let head = format!("fn {name}({}) -> {} {{\n", parameters.join(", "), result.name(scalar));
    TAPE.with_borrow(|tape| format!("{head}{}}}\n", statements(&tape.ops, result_at)))
}

/// Prints the statements that compute and return an entry.
fn statements(ops: &[Op], result: u32) -> String {
    let mut uses = vec![0; ops.len()];
    uses[result as usize] = 1;
    for at in (0..ops.len()).rev() {
        if uses[at] > 0 {
            ops[at].operands.iter().for_each(|operand| uses[*operand as usize] += 1);
        }
    }
    let mut code = String::new();
    let mut names: Vec<String> = Vec::new();
    let mut count = 0;
    for (at, op) in ops.iter().enumerate() {
        // An operand of an operator is parenthesized if it is an operation itself, and neither a name nor a call.
        let operator = op.text.starts_with("{} ") || op.text.starts_with(['-', '!']);
        let mut parts = op.text.split("{}");
        let mut text = parts.next().unwrap_or_default().to_string();
        for (part, operand) in parts.zip(&op.operands) {
            let name = &names[*operand as usize];
            let from = &ops[*operand as usize];
            let infix = from.text.starts_with("{} ") || (from.text.starts_with('-') && !from.operands.is_empty());
            let nested = operator && infix && name.contains([' ', '-']);
            let _ = if nested { write!(text, "({name}){part}") } else { write!(text, "{name}{part}") };
        }
        let atom = (op.operands.is_empty() && !op.text.ends_with("()")) || op.text.starts_with("{}.");
        if uses[at] > 0 && at as u32 != result && !atom && (uses[at] > 1 || text.len() > SHORT) {
            code.push_str(&statement(&format!("let v{count} = "), &text));
            text = format!("v{count}");
            count += 1;
        }
        names.push(text);
    }
    code + &statement("return ", &names[result as usize])
}

/// Prints one statement, with one argument per line if it is a call that is too long for one line.
fn statement(head: &str, value: &str) -> String {
    match value.strip_suffix(')').and_then(|value| value.split_once('(')) {
        Some((name, arguments)) if head.len() + value.len() > 114 => {
            let mut depth = 0;
            let mut lines = String::new();
            for part in arguments.split_inclusive(['(', ')', ',']) {
                if part.ends_with('(') {
                    depth += 1;
                } else if part.ends_with(')') {
                    depth -= 1;
                }
                let ends = depth == 0 && part.ends_with(',');
                lines.push_str(if lines.ends_with('\n') { part.trim_start() } else { part });
                if ends {
                    lines.push('\n');
                }
            }
            let lines: String = lines.lines().map(|line| format!("        {line}\n")).collect();
            format!("    {head}{name}(\n{},\n    );\n", lines.trim_end())
        }
        _ => format!("    {head}{value};\n"),
    }
}

/// Prints a constant of type `f32`, whatever the number of rows per invocation.
fn constant(value: f32) -> String {
    assert!(value.is_finite(), "WGSL has no constant {value}");
    Literal(value).to_string()
}

impl From<f32> for Number {
    fn from(value: f32) -> Self {
        let constant = constant(value);
        Self(op(if TAPE.with_borrow(|tape| tape.scalar) { constant } else { format!("F({constant})") }, &[]))
    }
}

macro_rules! operators {
    ($($op:ident $method:ident $assign:ident $assign_method:ident $text:literal;)*) => {$(
        impl $op for Number {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                // −a + b is printed as b − a, one operation less.
                match operand_of(self.0, "-{}") {
                    Some(negated) if $text == "{} + {}" => Self(op("{} - {}", &[other.0, negated])),
                    _ => Self(op($text, &[self.0, other.0])),
                }
            }
        }
        impl $op<f32> for Number {
            type Output = Self;
            fn $method(self, other: f32) -> Self {
                self.$method(Self(op(constant(other), &[])))
            }
        }
        impl $assign for Number {
            fn $assign_method(&mut self, other: Self) {
                *self = self.$method(other);
            }
        }
    )*};
}
operators! {
    Add add AddAssign add_assign "{} + {}";
    Sub sub SubAssign sub_assign "{} - {}";
    Mul mul MulAssign mul_assign "{} * {}";
    Div div DivAssign div_assign "{} / {}";
}

impl Neg for Number {
    type Output = Self;
    fn neg(self) -> Self {
        Self(op("-{}", &[self.0]))
    }
}
impl BitAnd for Truth {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(op("{} & {}", &[self.0, other.0]))
    }
}
impl BitOr for Truth {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(op("{} | {}", &[self.0, other.0]))
    }
}
impl Not for Truth {
    type Output = Self;
    fn not(self) -> Self {
        Self(op("!{}", &[self.0]))
    }
}
impl Mask for Truth {
    fn splat(value: bool) -> Self {
        Self(op(if TAPE.with_borrow(|tape| tape.scalar) { format!("{value}") } else { format!("B({value})") }, &[]))
    }
}

// SAFETY: any bit pattern is a valid integer. (Indexing checks that it is the index of an entry.)
unsafe impl sealed::Sealed for Number {}

impl Vector for Number {
    type Bits = Word;
    type Truth = Truth;
    type Uniform = Shared;

    fn bits(self) -> Word {
        Word(operand_of(self.0, "bitcast<F>({})").unwrap_or_else(|| op("bitcast<U>({})", &[self.0])))
    }
    fn from_bits(bits: Word) -> Self {
        Self(op("bitcast<F>({})", &[bits.0]))
    }
    fn splat_bits(bits: u32) -> Word {
        Word(op(format!("U({})", Bits(bits)), &[]))
    }
    fn splat_uniform(word: Shared) -> Word {
        Word(op("U({})", &[word.0]))
    }
    fn bits_and(a: Word, b: Word) -> Word {
        Word(op("{} & {}", &[a.0, b.0]))
    }
    fn bits_or(a: Word, b: Word) -> Word {
        Word(op("{} | {}", &[a.0, b.0]))
    }
    fn bits_xor(a: Word, b: Word) -> Word {
        Word(op("{} ^ {}", &[a.0, b.0]))
    }
    fn bits_add(a: Word, b: Word) -> Word {
        Word(op("{} + {}", &[a.0, b.0]))
    }
    fn bits_sub(a: Word, b: Word) -> Word {
        Word(op("{} - {}", &[a.0, b.0]))
    }
    fn bits_mul(a: Word, b: Word) -> Word {
        Word(op("{} * {}", &[a.0, b.0]))
    }
    fn bits_shl(a: Word, by: u32) -> Word {
        Word(op("{} << {}", &[a.0, Self::splat_bits(by).0]))
    }
    fn bits_shr(a: Word, by: u32) -> Word {
        Word(op("{} >> {}", &[a.0, Self::splat_bits(by).0]))
    }
    fn bits_eq(a: Word, b: Word) -> Truth {
        Truth(op("{} == {}", &[a.0, b.0]))
    }
    fn bits_select(mask: Truth, yes: Word, no: Word) -> Word {
        Word(op("select({}, {}, {})", &[no.0, yes.0, mask.0]))
    }
    fn bits_mul_wide(a: Word, b: u32) -> (Word, Word) {
        let product = op(format!("mul_wide({{}}, {})", Bits(b)), &[a.0]);
        (Word(member(product, "low")), Word(member(product, "high")))
    }
    fn simd_min(self, other: Self) -> Self {
        Self(op("min({}, {})", &[self.0, other.0]))
    }
    fn simd_max(self, other: Self) -> Self {
        Self(op("max({}, {})", &[self.0, other.0]))
    }
    fn fma(self, a: Self, b: Self) -> Self {
        Self(op("fma({}, {}, {})", &[self.0, a.0, b.0]))
    }
    fn simd_sqrt(self) -> Self {
        Self(op("sqrt({})", &[self.0]))
    }
    fn relu(self) -> Self {
        self.simd_max(Self::from(0.0))
    }
    fn from_i32(bits: Word) -> Self {
        Self(op("F({})", &[op("bitcast<I>({})", &[bits.0])]))
    }
    fn swap_by_bit_30(bits: Word, [a, b]: [Self; 2]) -> (Self, Self) {
        let set = bit_30(bits);
        (Self::simd_select(set, b, a), Self::simd_select(set, a, b))
    }
    fn sin_cos_in(quadrant: Word, within: [Self; 2]) -> (Self, Self) {
        // A negation is a part of the instruction that selects, on RDNA, so that a sign takes one and not two.
        let (sin, cos) = Self::swap_by_bit_30(quadrant, within);
        let below = Truth(op("bitcast<I>({}) < I(0)", &[quadrant.0]));
        let left = Truth(op("{} != {}", &[bit_30(quadrant).0, below.0]));
        (Self::simd_select(below, -sin, sin), Self::simd_select(left, -cos, cos))
    }
    fn index(self) -> Word {
        Word(op("U({})", &[self.0]))
    }
    fn simd_floor(self) -> Self {
        Self(op("floor({})", &[self.0]))
    }
    fn simd_lt(self, other: Self) -> Truth {
        Truth(op("{} < {}", &[self.0, other.0]))
    }
    fn simd_le(self, other: Self) -> Truth {
        Truth(op("{} <= {}", &[self.0, other.0]))
    }
    fn simd_eq(self, other: Self) -> Truth {
        Truth(op("{} == {}", &[self.0, other.0]))
    }
    fn simd_select(mask: Truth, yes: Self, no: Self) -> Self {
        Self(op("select({}, {}, {})", &[no.0, yes.0, mask.0]))
    }

    fn magnitude(self) -> Self {
        Self(op("abs({})", &[self.0]))
    }
    fn opaque(self) -> Self {
        // `pass_zero` is 0, which a compiler cannot evaluate. Without it, Mesa's simplifies (a + b) − a to b.
        Self::from_bits(Self::bits_xor(self.bits(), Self::splat_uniform(variable("pass_zero"))))
    }
    fn call<const R: usize>(name: &'static str, arguments: &[Value<Self>]) -> Option<[Self; R]> {
        results_of(name, arguments).map(|results| results.map(Number))
    }
    fn call_words<const R: usize>(name: &'static str, arguments: &[Value<Self>]) -> Option<[Word; R]> {
        results_of(name, arguments).map(|results| results.map(Word))
    }
}

/// Whether bit 30 is set.
fn bit_30(word: Word) -> Truth {
    Truth(op("{} != {}", &[Number::bits_and(word, Number::splat_bits(1 << 30)).0, Number::splat_bits(0).0]))
}

/// The results of a call, unless it is the body of the function itself that is being printed.
fn results_of<const R: usize>(name: &'static str, arguments: &[Value<Number>]) -> Option<[u32; R]> {
    if TAPE.with_borrow(|tape| tape.function == name) {
        return None;
    }
    let result = call(name, &arguments.iter().map(|argument| entry(*argument)).collect::<Vec<_>>());
    let names = ["x", "y", "z", "w"];
    Some(std::array::from_fn(|i| if R == 1 { result } else { member(result, names[i]) }))
}

/// A literal of type `u32`.
struct Bits(u32);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 100 { write!(f, "{}u", self.0) } else { write!(f, "{:#x}u", self.0) }
    }
}

impl From<u32> for Shared {
    fn from(word: u32) -> Self {
        Self(op(Bits(word).to_string(), &[]))
    }
}
impl BitXor for Shared {
    type Output = Self;
    fn bitxor(self, other: Self) -> Self {
        Self(op("{} ^ {}", &[self.0, other.0]))
    }
}
impl UniformWord for Shared {
    fn plus(self, other: u32) -> Self {
        Self(op("{} + {}", &[self.0, Self::from(other).0]))
    }
    fn times(self, other: u32) -> Self {
        Self(op("{} * {}", &[self.0, Self::from(other).0]))
    }
    fn times_high(self, other: u32) -> Self {
        Self(op("mul_high({}, {})", &[self.0, Self::from(other).0]))
    }
}
