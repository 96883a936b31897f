//! Prints the functions that kernels on both backends call as WGSL, to `shaders/generated/`.
//!
//! A function is written once, generic over [`Vector`], and listed here. After a change
//!
//! ```text
//! GIBBS_WRITE_SHADERS=1 cargo test -p gibbs --lib shaders_are_up_to_date
//! ```
//!
//! prints the files again.

use std::path::Path;
use std::time::Duration;

use super::source;
use crate::interp::wgsl;
use crate::interp::wgsl::{Number, Shared, Struct, Type};
use crate::kernels::weigh::root_finder::{RootFinder, Sample};
use crate::lang::math::{Value, Vector};
use crate::lang::philox_row::{PhiloxRow, philox_round};
use crate::lang::random::Random;
use crate::lang::{look_up, math, normal};
use crate::runtime::{Backend, Engine, EngineOptions, Waiter, run_to_end};

/// A function that is written over [`Vector`] and printed.
struct Function {
    name: &'static str,
    parameters: &'static [(&'static str, Type)],
    result: Type,
    /// Whether it computes on single numbers, instead of on one for each row of an invocation.
    scalar: bool,
    /// The range of its arguments in the test, with both signs if the lower end is 0.
    domain: [f32; 2],
    print: fn(&[Value<Number>]) -> Vec<Value<Number>>,
    run: fn(&[Value<f32>]) -> Vec<Value<f32>>,
}

/// Defines a [`Function`]. The body is compiled twice: for [`Number`], which prints it, and for `f32`, which evaluates
/// it.
macro_rules! function {
    ($name:literal, $domain:expr, |$($parameter:ident: $kind:ident),*| -> $result:expr, $body:expr) => {
        function!(
            $name, $domain, [$((stringify!($parameter), Type::$kind)),*],
            |$($parameter: $kind),*| -> $result, $body
        )
    };
    // Some parameters are structs, whose members are passed to the body one by one.
    ($name:literal, $domain:expr, $types:expr, |$($parameter:ident: $kind:ident),*| -> $result:expr, $body:expr) => {
        Function {
            name: $name,
            parameters: &$types,
            result: $result,
            scalar: false,
            domain: $domain,
            print: |arguments| function!(@ arguments, $($parameter: $kind),*; $body),
            run: |arguments| function!(@ arguments, $($parameter: $kind),*; $body),
        }
    };
    (@ $arguments:ident, $($parameter:ident: $kind:ident),*; $body:expr) => {{
        let mut arguments = $arguments.iter().copied();
        $(let Some(Value::$kind($parameter)) = arguments.next() else { unreachable!("it has such a parameter") };)*
        $body
    }};
}

fn numbers<V: Vector, const N: usize>(values: [V; N]) -> Vec<Value<V>> {
    values.map(Value::Number).to_vec()
}

fn pair<V: Vector>((x, y): (V, V)) -> Vec<Value<V>> {
    numbers([x, y])
}

fn round<V: Vector>(words: [V::Bits; 4], key: [V::Uniform; 2]) -> Vec<Value<V>> {
    philox_round::<V>(words, key).map(Value::Word).to_vec()
}

fn row<V: Vector>(row: PhiloxRow<V>) -> Vec<Value<V>> {
    let PhiloxRow { high, third, product, .. } = row;
    std::iter::once(Value::Uniform(high)).chain(third.into_iter().chain(product).map(Value::Word)).collect()
}

fn search<V: Vector>(finder: RootFinder<V>) -> Vec<Value<V>> {
    let RootFinder { next, over, stride, evaluations, latest, bracket, before } = finder;
    let mut values = vec![Value::Number(next), Value::Truth(over), Value::Number(stride), Value::Number(evaluations)];
    values.extend([latest, bracket, before].iter().flat_map(|sample| numbers([sample.at, sample.residual])));
    values
}

/// A word that shaders read from the pass, through a function of `fleet.wgsl` or of `SHARED_INPUTS`; 0 in the test.
trait OfPass: Sized {
    fn of_pass(name: &'static str) -> Self;
}
impl OfPass for Shared {
    fn of_pass(name: &'static str) -> Self {
        wgsl::variable(name)
    }
}
impl OfPass for u32 {
    fn of_pass(_: &'static str) -> Self {
        0
    }
}

fn key<U: OfPass>() -> [U; 2] {
    ["noise_seed().x", "noise_seed().y"].map(U::of_pass)
}

const ONE: Type = Type::Number;
const TWO: Struct = Struct { name: "Two", scalar: false, members: &[("x", Type::Number), ("y", Type::Number)] };
const NORMALS: Struct = Struct {
    name: "Normals",
    scalar: false,
    members: &[("x", Type::Number), ("y", Type::Number), ("z", Type::Number), ("w", Type::Number)],
};
const WORDS: Struct = Struct {
    name: "Words",
    scalar: false,
    members: &[("x", Type::Word), ("y", Type::Word), ("z", Type::Word), ("w", Type::Word)],
};
const ROW: Struct = Struct {
    name: "PhiloxRow",
    scalar: false,
    members: &[
        ("high", Type::Uniform),
        ("third_y", Type::Word),
        ("third_z", Type::Word),
        ("low0", Type::Word),
        ("high0", Type::Word),
    ],
};
const SAMPLE: Struct =
    Struct { name: "Sample", scalar: true, members: &[("at", Type::Number), ("residual", Type::Number)] };
const ROOT_FINDER: Struct = Struct {
    name: "RootFinder",
    scalar: true,
    members: &[
        ("next", Type::Number),
        ("over", Type::Truth),
        ("stride", Type::Number),
        ("evaluations", Type::Number),
        ("latest", Type::Struct(&SAMPLE)),
        ("bracket", Type::Struct(&SAMPLE)),
        ("before", Type::Struct(&SAMPLE)),
    ],
};

const SLOPES: Struct =
    Struct { name: "FieldSlopes", scalar: true, members: &[("x", Type::Number), ("y", Type::Number)] };

/// A file of `shaders/generated/`.
struct File {
    name: &'static str,
    /// The Rust file that its functions are printed from.
    from: &'static str,
    structs: &'static [&'static Struct],
    functions: Vec<Function>,
}

/// Every file, in the order that a kernel needs them.
fn files() -> [File; 5] {
    const POSITIVE: [f32; 2] = [f32::MIN_POSITIVE, f32::MAX];
    const UNIT: [f32; 2] = [0.0, 1.0];
    const EIGHTH: [f32; 2] = [0.0, std::f32::consts::FRAC_PI_4];
    let two = Type::Struct(&TWO);
    let math = vec![
        function!("gibbs_sin_cos_within", EIGHTH, |r: Number| -> two, numbers(math::sin_cos_within(r))),
        function!("gibbs_sin_cos", [0.0, 1e4], |x: Number| -> two, pair(math::sin_cos(x))),
        function!("gibbs_exp", [0.0, 100.0], |x: Number| -> ONE, numbers([math::exp(x)])),
        function!("gibbs_exp2", [0.0, 140.0], |x: Number| -> ONE, numbers([math::exp2(x)])),
        function!("gibbs_ln_tail", [0.0, 0.5], |f: Number| -> ONE, numbers([math::ln_tail(f)])),
        function!("gibbs_split", POSITIVE, |x: Number| -> two, pair(math::split(x))),
        function!("gibbs_ln_positive", POSITIVE, |x: Number| -> ONE, numbers([math::ln_positive(x)])),
        function!("gibbs_log2_positive", POSITIVE, |x: Number| -> ONE, numbers([math::log2_positive(x)])),
        function!("gibbs_logarithm", POSITIVE, |x: Number, y: Number| -> ONE, numbers([math::logarithm(x, y)])),
        function!("gibbs_ln", POSITIVE, |x: Number| -> ONE, numbers([math::ln(x)])),
        function!("gibbs_log2", POSITIVE, |x: Number| -> ONE, numbers([math::log2(x)])),
        function!("gibbs_atan2", [0.0, 1e18], |y: Number, x: Number| -> ONE, numbers([math::atan2(y, x)])),
        function!("gibbs_asin", UNIT, |x: Number| -> ONE, numbers([math::asin(x)])),
        function!("gibbs_acos", UNIT, |x: Number| -> ONE, numbers([math::acos(x)])),
        function!("gibbs_tanh", [0.0, 20.0], |x: Number| -> ONE, numbers([math::tanh(x)])),
        function!(
            "kahan_add", UNIT, [("sum", Type::Struct(&TWO)), ("value", Type::Number)],
            |sum: Number, lost: Number, value: Number| -> two, numbers(math::kahan_add([sum, lost], value))
        ),
    ];
    let philox = vec![
        function!("row_of", UNIT, |k: Word, stream: Uniform| -> Type::Struct(&ROW), {
            row(PhiloxRow::new(k, OfPass::of_pass("noise_number()"), stream, key()))
        }),
        function!(
            "philox_round", UNIT, |x: Word, y: Word, z: Word, w: Word, key_x: Uniform, key_y: Uniform| -> Type::Struct(&WORDS),
            round([x, y, z, w], [key_x, key_y])
        ),
    ];
    let normal = vec![
        function!("box_muller", UNIT, |a: Word, b: Word| -> two, numbers(normal::box_muller(a, b))),
        function!(
            "normals", UNIT, [("row", Type::Struct(&ROW)), ("block", Type::Uniform)],
            |high: Uniform, y: Word, z: Word, low0: Word, high0: Word, block: Uniform| -> Type::Struct(&NORMALS),
            numbers(Vector::normals(&PhiloxRow { key: key(), high, third: [y, z], product: [low0, high0] }, block))
        ),
    ];
    let finder = Type::Struct(&ROOT_FINDER);
    let root_finder = vec![
        function!("root_finder_new", UNIT, |ln_range: Number| -> finder, search(RootFinder::new(ln_range))),
        function!(
            "root_finder_update", UNIT, [("finder", Type::Struct(&ROOT_FINDER)), ("residual", Type::Number)],
            |next: Number, over: Truth, stride: Number, evaluations: Number, a: Number, a_residual: Number,
             b: Number, b_residual: Number, c: Number, c_residual: Number, residual: Number| -> finder, {
                let [latest, bracket, before] = [(a, a_residual), (b, b_residual), (c, c_residual)]
                    .map(|(at, residual)| Sample { at, residual });
                search(RootFinder { next, over, stride, evaluations, latest, bracket, before }.update(residual))
            }
        ),
    ];
    let interpolation = vec![
        function!(
            "field_linear", UNIT, |part: Number, before: Number, after: Number| -> ONE,
            numbers([look_up::linear(part, before, after)])
        ),
        function!(
            "field_bilinear", UNIT,
            |fx: Number, fy: Number, v00: Number, v01: Number, v10: Number, v11: Number| -> ONE,
            numbers([look_up::bilinear([fx, fy], [v00, v01, v10, v11])])
        ),
        function!(
            "field_bilinear_slopes", UNIT,
            |fx: Number, fy: Number, v00: Number, v01: Number, v10: Number, v11: Number| -> Type::Struct(&SLOPES),
            numbers(look_up::bilinear_slopes([fx, fy], [v00, v01, v10, v11]))
        ),
    ];
    let scalar = |functions: Vec<Function>| {
        functions.into_iter().map(|function| Function { scalar: true, ..function }).collect()
    };
    [
        File { name: "math.wgsl", from: "src/lang/math.rs", structs: &[&TWO], functions: math },
        File { name: "philox.wgsl", from: "src/lang/philox_row.rs", structs: &[&WORDS, &ROW], functions: philox },
        File { name: "normal.wgsl", from: "src/lang/normal.rs", structs: &[&NORMALS], functions: normal },
        File {
            name: "root_finder.wgsl",
            from: "src/kernels/weigh/root_finder.rs",
            structs: &[&SAMPLE, &ROOT_FINDER],
            functions: scalar(root_finder),
        },
        File {
            name: "interpolation.wgsl",
            from: "src/lang/look_up.rs",
            structs: &[&SLOPES],
            functions: scalar(interpolation),
        },
    ]
}

impl File {
    fn text(&self) -> String {
        let head = format!("// Printed from {} (see src/runtime/gpu/generated.rs), and not to be edited.\n", self.from);
        let structs = self.structs.iter().map(|of| of.declaration());
        let functions =
            self.functions.iter().map(|f| wgsl::function(f.name, f.scalar, f.parameters, f.result, f.print));
        std::iter::once(head).chain(structs).chain(functions).collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn shaders_are_up_to_date() {
    for file in files() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders/generated").join(file.name);
        let text = file.text();
        if std::env::var_os("GIBBS_WRITE_SHADERS").is_some() {
            std::fs::write(&path, &text).expect("it can be written");
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "{} is not what {} prints: see src/runtime/gpu/generated.rs", file.name, file.from);
    }
}

/// The numbers and words that a type consists of.
fn parts(of: Type) -> Vec<Type> {
    match of {
        Type::Struct(of) => of.members.iter().flat_map(|(_, of)| parts(*of)).collect(),
        part => vec![part],
    }
}

/// Returns a WGSL expression that constructs a value of a type from expressions of its numbers and words.
fn expression(of: Type, parts: &mut impl Iterator<Item = String>) -> String {
    match of {
        Type::Number => format!("F({})", parts.next().unwrap_or_default()),
        Type::Truth => format!("B({} > 0.0)", parts.next().unwrap_or_default()),
        Type::Word => format!("U(bitcast<u32>({}))", parts.next().unwrap_or_default()),
        Type::Uniform => format!("bitcast<u32>({})", parts.next().unwrap_or_default()),
        Type::Struct(of) => {
            let members: Vec<_> = of.members.iter().map(|(_, of)| expression(*of, parts)).collect();
            format!("{}({})", of.name, members.join(", "))
        }
    }
}

/// Returns WGSL expressions for the numbers and words of a value in one lane, each as an `f32`.
fn stored(value: &str, of: Type, lane: u32) -> Vec<String> {
    match of {
        Type::Number => vec![format!("component({value}, {lane}u)")],
        Type::Word => vec![format!("component(bitcast<F>({value}), {lane}u)")],
        Type::Uniform => vec![format!("bitcast<f32>({value})")],
        Type::Truth => vec![format!("component(select(F(0.0), F(1.0), {value}), {lane}u)")],
        Type::Struct(of) => {
            of.members.iter().flat_map(|(name, of)| stored(&format!("{value}.{name}"), *of, lane)).collect()
        }
    }
}

/// Draws a row of arguments in a function's domain, as bits.
fn arguments(function: &Function, random: &mut Random) -> Vec<u32> {
    let [low, high] = function.domain;
    let types = function.parameters.iter().flat_map(|(_, of)| parts(*of));
    types
        .map(|of| match of {
            Type::Number if low > 0.0 => random.between(low.log2(), high.log2()).exp2().clamp(low, high).to_bits(),
            Type::Number => {
                // Half of the arguments are uniform, half are log-uniform, which reaches numbers close to 0.
                let even = random.bits() & 1 == 0;
                let part = if even { random.uniform() } else { (random.uniform() * -30.0).exp2() };
                (if random.bits() & 1 == 0 { part * high } else { part * -high }).to_bits()
            }
            // A word travels as a number. A driver may flush it to zero if it is subnormal, so it is not.
            _ => random.bits() | 0x0080_0000,
        })
        .collect()
}

/// Compares every printed function, with one row per invocation and with four, with the same function in Rust.
///
/// Results agree to rounding and not to the bit, because a driver may round an fma twice (Mesa's lavapipe does).
#[test]
fn shaders_compute_what_registers_do() {
    const ROWS: usize = 1 << 14;
    let timeout = Duration::from_secs(120);
    let engine = match Engine::with_options(EngineOptions { backend: Backend::Software, timeout, ..Default::default() })
    {
        Ok(engine) => engine,
        Err(error) => {
            assert!(std::env::var_os("GIBBS_REQUIRE_GPU").is_none(), "no adapter: {error}");
            eprintln!("SKIPPED: {error}");
            return;
        }
    };
    let device = engine.gpu().expect("the engine has a GPU");
    let files = files();
    let functions = files.iter().flat_map(|file| &file.functions).filter(|function| !function.scalar);
    for (function, four) in functions.flat_map(|function| [(function, false), (function, true)]) {
        let name = function.name;
        let types: Vec<_> = function.parameters.iter().flat_map(|(_, of)| parts(*of)).collect();
        let results = stored("y", function.result, if four { 3 } else { 0 });
        let (inputs, outputs) = (types.len(), results.len());
        let mut reads = (0..inputs).map(|i| format!("inputs[k * {inputs}u + {i}u]"));
        let list: Vec<_> = function.parameters.iter().map(|(_, of)| expression(*of, &mut reads)).collect();
        let writes = results.iter().enumerate();
        let writes: String = writes.map(|(o, y)| format!("    rows[k * {outputs}u + {o}u] = {y};\n")).collect();
        let mapped = format!("fn mapped(k: u32) {{\n    let y = {name}({});\n{writes}}}\n", list.join(", "));

        let mut random = Random::new(5);
        let arguments: Vec<f32> =
            (0..ROWS).flat_map(|_| arguments(function, &mut random)).map(f32::from_bits).collect();
        let mut theirs = vec![0.0; ROWS * outputs];
        let probe = source::probe(&mapped, four);
        run_to_end(device.map(&probe, inputs, &arguments, &[], &mut theirs, Waiter::Thread)).expect("it runs");
        for (row, theirs) in arguments.chunks(inputs).zip(theirs.chunks(outputs)) {
            let values: Vec<_> = row
                .iter()
                .zip(&types)
                .map(|(x, of)| match of {
                    Type::Number => Value::Number(*x),
                    Type::Truth => Value::Truth(*x > 0.0),
                    Type::Word => Value::Word(x.to_bits()),
                    _ => Value::Uniform(x.to_bits()),
                })
                .collect();
            for (ours, theirs) in (function.run)(&values).into_iter().zip(theirs) {
                let (alike, ours) = match ours {
                    Value::Number(ours) => ((ours - theirs).abs() <= 1e-6 * ours.abs() + f32::MIN_POSITIVE, ours),
                    Value::Truth(ours) => (f32::from(u8::from(ours)) == *theirs, f32::from(u8::from(ours))),
                    Value::Word(ours) | Value::Uniform(ours) => (ours == theirs.to_bits(), f32::from_bits(ours)),
                };
                // The difference of equal infinities is NaN.
                assert!(alike || ours == *theirs, "{name}: {theirs} and not {ours} at {row:?}, four at once: {four}");
            }
        }
    }
}
