//! One table of every operation of [`Real`], with awkward arguments and the bounds of its documentation, that plain
//! numbers, SIMD lanes, traced WGSL and dual numbers must all pass.
//!
//! `cargo test --test operations -- --nocapture` prints the worst error of each, as a part of its bound.

mod common;

use std::f32::consts;

use gibbs::check::{Map, evaluate};
use gibbs::derivative::Dual;
use gibbs::{Engine, Real};

/// An operation in f64, and the requirements on its f32 counterpart.
struct Spec<const I: usize> {
    name: &'static str,
    reference: fn([f64; I]) -> f64,
    /// The error of a result as a fraction of its bound, given the arguments, the result and the reference. At most 1.
    error: fn([f64; I], f64, f64) -> f64,
    /// Whether the bound applies, given the arguments and the reference. In any case both must be finite and not
    /// subnormal.
    domain: fn([f64; I], f64) -> bool,
}

trait Visitor {
    fn visit<const I: usize>(&mut self, spec: &Spec<I>, map: &impl Map<I, 1>);
}

/// The distance between adjacent f32 at y.
fn ulp(y: f64) -> f64 {
    f64::exp2(y.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() - 23.0)
}

fn exact<const I: usize>(_: [f64; I], got: f64, want: f64) -> f64 {
    if got == want { 0.0 } else { f64::INFINITY }
}
/// The error as a fraction of half an ULP: the result is the nearest f32. (The last digits of the constant allow for
/// the rounding of the reference itself.)
fn rounded<const I: usize>(_: [f64; I], got: f64, want: f64) -> f64 {
    (got - want).abs() / (0.500_001 * ulp(want))
}
/// The relative error as a fraction of its bound.
fn relative(bound: f64, got: f64, want: f64) -> f64 {
    if got == want { 0.0 } else { (got - want).abs() / (bound * want.abs()) }
}
/// The error as a fraction of 2.5 ULP.
fn divided<const I: usize>(_: [f64; I], got: f64, want: f64) -> f64 {
    (got - want).abs() / (2.5 * ulp(want))
}
fn everywhere<const I: usize>(_: [f64; I], _: f64) -> bool {
    true
}

fn number(truth: bool) -> f64 {
    f64::from(u8::from(truth))
}

/// The error of self^n as a fraction of n roundings, and a division if n < 0.
fn power(n: i32, got: f64, want: f64) -> f64 {
    let division = if n < 0 { 2.5 } else { 0.0 };
    relative((f64::from(n.unsigned_abs()) + division) * f64::exp2(-23.0), got, want)
}
/// The inverse of a power must itself be a normal number.
fn invertible(_: [f64; 1], y: f64) -> bool {
    y.abs() < 8e37
}

/// The error, modulo `modulus`, as a fraction of 3 ULP of the larger argument.
fn around(x: f64, modulus: f64, got: f64, want: f64) -> f64 {
    let apart = (got - want).abs();
    apart.min((modulus - apart).abs()) / (3.0 * ulp(x.abs().max(modulus)))
}
fn reducible([x, modulus]: [f64; 2], _: f64) -> bool {
    modulus > 0.0 && (x / modulus).abs() < f64::from(1 << 22)
}
fn turned([x]: [f64; 1], _: f64) -> bool {
    (x / std::f64::consts::TAU).abs() < f64::from(1 << 22)
}

/// Rows of: name, arguments, the operation on `R`, the operation on f64, its error, its domain.
macro_rules! table {
    ($visitor:ident: $($name:literal [$($x:ident),+] $operation:expr, $reference:expr, $error:expr, $domain:expr;)*) => {$({
        struct Row;
        const COUNT: usize = [$(stringify!($x)),+].len();
        impl Map<COUNT, 1> for Row {
            #[inline(always)]
            fn map<R: Real>(&self, [$($x),+]: [R; COUNT]) -> [R; 1] {
                [$operation]
            }
        }
        let reference: fn([f64; COUNT]) -> f64 = |[$($x),+]| $reference;
        $visitor.visit(&Spec { name: $name, reference, error: $error, domain: $domain }, &Row);
    })*};
}

fn visit_all(visitor: &mut impl Visitor) {
    op_count(visitor);
    comparisons(visitor);
    transcendental(visitor);
    composed(visitor);
}

fn op_count(v: &mut impl Visitor) {
    table! { v:
        "a + b"         [a, b]    a + b,                          a + b,             rounded, everywhere;
        "a − b"         [a, b]    a - b,                          a - b,             rounded, everywhere;
        "a × b"         [a, b]    a * b,                          a * b,             rounded, everywhere;
        "a ÷ b"         [a, b]    a / b,                          a / b,             divided, |[_, b], _| b != 0.0;
        "a + number"    [a]       a + 0.75,                       a + 0.75,          rounded, everywhere;
        "a − number"    [a]       a - 0.75,                       a - 0.75,          rounded, everywhere;
        "a × number"    [a]       a * -3.0,                       a * -3.0,          rounded, everywhere;
        "a ÷ number"    [a]       a / 3.0,                        a / 3.0,           divided, everywhere;
        "number − a"    [a]       R::from(0.75) - a,              0.75 - a,          rounded, everywhere;
        "−a"            [a]       -a,                             -a,                exact,   everywhere;
        "+="            [a, b]    { let mut c = a; c += b; c },   a + b,             rounded, everywhere;
        "−="            [a, b]    { let mut c = a; c -= b; c },   a - b,             rounded, everywhere;
        "×="            [a, b]    { let mut c = a; c *= b; c },   a * b,             rounded, everywhere;
        "÷="            [a, b]    { let mut c = a; c /= b; c },   a / b,             divided, |[_, b], _| b != 0.0;
        "abs"           [a]       a.abs(),                        a.abs(),           exact,   everywhere;
        "min"           [a, b]    a.min(b),                       a.min(b),          exact,   everywhere;
        "max"           [a, b]    a.max(b),                       a.max(b),          exact,   everywhere;
        "min(number)"   [a]       a.min(0.5),                     a.min(0.5),        exact,   everywhere;
        "max(number)"   [a]       a.max(0.5),                     a.max(0.5),        exact,   everywhere;
        "clamp"         [a, b, c] a.clamp(b, c),                  a.max(b).min(c),   exact,   everywhere;
        "floor"         [a]       a.floor(),                      a.floor(),         exact,   everywhere;
        "ceil"          [a]       a.ceil(),                       a.ceil(),          exact,   everywhere;
        "round"         [a]       a.round(),                      a.round(),         exact,   everywhere;
        "trunc"         [a]       a.trunc(),                      a.trunc(),         exact,   everywhere;
        "fract"         [a]       a.fract(),                      a.fract(),         exact,   everywhere;
        "recip"         [a]       a.recip(),                      a.recip(),         divided, |[a], _| a != 0.0;
        "to_degrees"    [a]       a.to_degrees(),                 a.to_degrees(),
            |_, got, want| relative(f64::exp2(-23.0), got, want), everywhere;
        "to_radians"    [a]       a.to_radians(),                 a.to_radians(),
            |_, got, want| relative(f64::exp2(-23.0), got, want), everywhere;
        "sqrt"          [a]       a.sqrt(),                       a.sqrt(),          divided, |[a], _| a >= 0.0;
        // Whether the product is rounded separately depends on the hardware.
        "mul_add"       [a, b, c] a.mul_add(b, c),                a.mul_add(b, c),
            |[a, b, _], got, want| (got - want).abs() / (ulp(a * b) + ulp(want)),
            |[a, b, _], _| a * b == 0.0 || ((a * b).abs() > 1e-37 && (a * b).abs() < 1e38);
    }
}

fn comparisons(v: &mut impl Visitor) {
    table! { v:
        "<"             [a, b]    R::select(a.lt(b), 1.0, 0.0),   number(a < b),     exact,   everywhere;
        "≤"             [a, b]    R::select(a.le(b), 1.0, 0.0),   number(a <= b),    exact,   everywhere;
        ">"             [a, b]    R::select(a.gt(b), 1.0, 0.0),   number(a > b),     exact,   everywhere;
        "≥"             [a, b]    R::select(a.ge(b), 1.0, 0.0),   number(a >= b),    exact,   everywhere;
        "="             [a, b]    R::select(a.cmp_eq(b), 1.0, 0.0),   number(a == b),    exact,   everywhere;
        "≠"             [a, b]    R::select(a.ne(b), 1.0, 0.0),   number(a != b),    exact,   everywhere;
        "< number"      [a]       R::select(a.lt(1.0), 1.0, 0.0), number(a < 1.0),   exact,   everywhere;
        "select"        [a, b, c] R::select(a.lt(0.5), b, c),     if a < 0.5 { b } else { c }, exact, everywhere;
        "never"         [a, b]    R::select(R::never(), a, b),    { let _ = a; b },  exact,   everywhere;
        "and"           [a, b]    R::select(a.lt(b) & b.gt(0.0), 1.0, 0.0), number(a < b && b > 0.0), exact, everywhere;
        "or"            [a, b]    R::select(a.lt(b) | b.gt(0.0), 1.0, 0.0), number(a < b || b > 0.0), exact, everywhere;
        "not"           [a, b]    R::select(!a.lt(b), 1.0, 0.0),  number(a >= b),    exact,   everywhere;
        "copysign"      [a, b]    a.copysign(b), if b < 0.0 { -a.abs() } else { a.abs() }, exact, everywhere;
        "sign"          [a]       a.sign(),                       number(a > 0.0) - number(a < 0.0), exact, everywhere;
    }
}

fn transcendental(v: &mut impl Visitor) {
    table! { v:
        "sin"   [a]     a.sin(),    a.sin(),    |_, got, want| (got - want).abs() / 2e-7, |[a], _| a.abs() <= 1e4;
        "cos"   [a]     a.cos(),    a.cos(),    |_, got, want| (got - want).abs() / 2e-7, |[a], _| a.abs() <= 1e4;
        "tan"   [a]     a.tan(),    a.tan(),
            |_, got, want| (got - want).abs() / (4e-7 * (1.0 + want * want)), |[a], _| a.abs() <= 1e4;
        "exp"   [a]     a.exp(),    a.exp(),    |_, got, want| relative(3e-7, got, want), |_, y| y > 2.4e-38;
        "ln"    [a]     a.ln(),     a.ln(),
            |_, got, want| (got - want).abs() / (3e-7 * want.abs().max(1.0)), |[a], _| a > 0.0;
        "exp2"  [a]     a.exp2(),   a.exp2(),   |_, got, want| relative(2e-7, got, want), |_, y| y > 2.4e-38;
        "exp2, whole"   [a] a.floor().exp2(), a.floor().exp2(), exact, |[a], _| (-125.0..128.0).contains(&a);
        "log2"  [a]     a.log2(),   a.log2(),
            |_, got, want| (got - want).abs() / (2e-7 * want.abs().max(1.0)), |[a], _| a > 0.0;
        "log2, of a power of two" [a] a.floor().exp2().log2(), a.floor(), exact, |[a], _| (-125.0..128.0).contains(&a);
        "powf"  [a, b]  a.powf(b),  a.powf(b),
            |[a, b], got, want| relative(3e-7 * (1.0 + (b * a.abs().max(1e-45).ln()).abs()), got, want),
            |[a, _], y| a == 0.0 || y == 0.0 || (2.4e-38..3.3e38).contains(&y.abs());
        "powf(2.5)"     [a] a.powf(2.5), a.powf(2.5),
            |[a], got, want| relative(3e-7 * (1.0 + 2.5 * a.max(1e-45).ln().abs()), got, want),
            |[a], y| a == 0.0 || (2.4e-38..3.3e38).contains(&y);
        "powf(−3)"      [a] a.powf(-3.0), a.powf(-3.0),
            |[a], got, want| relative(3e-7 * (1.0 + 3.0 * a.abs().ln().abs()), got, want), |_, y| (2.4e-38..3.3e38).contains(&y.abs());
        "cbrt"  [a]     a.cbrt(),   a.cbrt(),   |_, got, want| relative(5e-7, got, want), everywhere;
        "hypot" [a, b]  a.hypot(b), a.hypot(b), |_, got, want| relative(5e-7, got, want), everywhere;
        "sinh"  [a]     a.sinh(),   a.sinh(),   |_, got, want| relative(5e-7, got, want), everywhere;
        "cosh"  [a]     a.cosh(),   a.cosh(),   |_, got, want| relative(5e-7, got, want), everywhere;
        "atan"  [a]     a.atan(),   a.atan(),   |_, got, want| (got - want).abs() / 5e-7, everywhere;
        // At the origin the f64 function distinguishes the signs of zeros.
        "atan2" [a, b]  a.atan2(b), if b == 0.0 && a == 0.0 { 0.0 } else { a.atan2(b) },
            |_, got, want| (got - want).abs() / 5e-7, |[a, b], _| a.abs() + b.abs() < 3.4e38;
        "asin"  [a]     a.asin(),   a.asin(),   |_, got, want| (got - want).abs() / 5e-7, |[a], _| a.abs() <= 1.0;
        "acos"  [a]     a.acos(),   a.acos(),   |_, got, want| (got - want).abs() / 5e-7, |[a], _| a.abs() <= 1.0;
        "tanh"  [a]     a.tanh(),   a.tanh(),   |_, got, want| relative(6e-7, got, want), everywhere;
        "tanh, at most 1" [a] R::select(a.tanh().abs().le(1.0), 1.0, 0.0), { let _ = a; 1.0 }, exact, everywhere;
    }
}

fn composed(v: &mut impl Visitor) {
    table! { v:
        "square"        [a]       a.square(),                     a * a,             rounded, everywhere;
        "powi(0)"       [a]       a.powi(0),                      a.powi(0),         exact,   everywhere;
        "powi(1)"       [a]       a.powi(1),                      a,                 exact,   everywhere;
        "powi(3)"       [a]       a.powi(3),   a.powi(3),   |_, got, want| power(3, got, want),   everywhere;
        "powi(8)"       [a]       a.powi(8),   a.powi(8),   |_, got, want| power(8, got, want),   everywhere;
        "powi(11)"      [a]       a.powi(11),  a.powi(11),  |_, got, want| power(11, got, want),  everywhere;
        "powi(−1)"      [a]       a.powi(-1),  a.powi(-1),  |_, got, want| power(-1, got, want),  invertible;
        "powi(−4)"      [a]       a.powi(-4),  a.powi(-4),  |_, got, want| power(-4, got, want),  invertible;
        "lerp"          [a, b, t] a.lerp(b, t),                   a + (b - a) * t,
            // The result of two zeros is a zero.
            |[a, b, t], got, want| {
                (got - want).abs() / (f64::exp2(-22.0) * (a.abs() + b.abs()) * t.abs().max(1.0)).max(1e-45)
            },
            |[a, b, t], _| a.abs() + b.abs() < 1e38 && ((b - a) * t).abs() < 1e38;
        "smoothstep"    [a, b, x] x.smoothstep(a, b),             smooth(a, b, x),
            |_, got, want| (got - want).abs() / 1e-6,
            |[a, b, x], _| a == b || ((1e-37..8e37).contains(&(b - a).abs()) && ((x - a) / (b - a)).abs() < 8e37
                && (x - a).abs() < 8e37);
        "rem_euclid"    [a, b]    a.rem_euclid(b), a.rem_euclid(b),
            |[a, b], got, want| around(a, b, got, want), reducible;
        "rem_euclid in its interval" [a, b]
            { let r = a.rem_euclid(b); R::select(r.ge(0.0) & r.lt(b), 1.0, 0.0) },
            { let _ = (a, b); 1.0 }, exact, reducible;
        "wrap_angle"    [a]       a.wrap_angle(), wrapped(a),
            |[a], got, want| around(a, std::f64::consts::TAU, got, want), turned;
        "wrap_angle in its interval" [a]
            { let r = a.wrap_angle(); R::select(r.ge(-consts::PI) & r.lt(consts::PI), 1.0, 0.0) },
            { let _ = a; 1.0 }, exact, turned;
    }
}

fn smooth(low: f64, high: f64, x: f64) -> f64 {
    let t = if low == high { number(x >= low) } else { ((x - low) / (high - low)).clamp(0.0, 1.0) };
    t * t * (3.0 - 2.0 * t)
}

fn wrapped(angle: f64) -> f64 {
    use std::f64::consts::{PI, TAU};
    (angle + PI).rem_euclid(TAU) - PI
}

/// Special arguments: zeros, ones, halves, quadrants, ends of ranges, NaN and infinities.
const AWKWARD: [f32; 40] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    -2.5,
    3.0,
    0.999_999_94,
    -0.999_999_94,
    1.000_000_1,
    consts::FRAC_1_SQRT_2,
    0.625,
    8.6,
    -8.600_001,
    consts::FRAC_PI_4,
    consts::FRAC_PI_2,
    -consts::FRAC_PI_2,
    consts::PI,
    -consts::PI,
    consts::TAU,
    10_000.0,
    -10_000.0,
    9_999.742,
    88.0,
    -87.0,
    8_388_607.5,
    -8_388_608.0,
    16_777_216.0,
    1e30,
    -1e30,
    1e-30,
    -1e-30,
    f32::MIN_POSITIVE,
    1e-40,
    f32::MAX,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// Every combination of awkward arguments, and many random ones from several ranges.
fn arguments<const I: usize>() -> Vec<[f32; I]> {
    const SWEEP: usize = 20_000;
    let mut rows: Vec<[f32; I]> = (0..AWKWARD.len().pow(I as u32))
        .map(|n| std::array::from_fn(|i| AWKWARD[n / AWKWARD.len().pow(i as u32) % AWKWARD.len()]))
        .collect();
    let mut state = 1_u64;
    // Uniform on [0, 1): the upper bits of a linear congruential generator (Knuth's MMIX constants).
    let mut unit = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let mut one = || {
        let signed = unit() * 2.0 - 1.0;
        match (unit() * 5.0) as u32 {
            0 => signed,
            1 => signed * 10.0,
            2 => signed * 90.0,
            3 => signed * 10_000.0,
            _ => signed.signum() * (unit() * 160.0 - 80.0).exp2(),
        }
    };
    rows.extend((0..SWEEP).map(|_| std::array::from_fn(|_| one())));
    rows
}

/// Zero, or neither subnormal nor infinite, in f32.
fn ordinary(x: f64) -> bool {
    x == 0.0 || (f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&x.abs())
}

fn wide<const I: usize>(x: [f32; I]) -> [f64; I] {
    x.map(f64::from)
}

/// Every result is within its bound of the f64 reference.
struct Accuracy<'a> {
    /// The engine that the operations run on; `None` for plain f32.
    engine: Option<&'a Engine>,
    failures: Vec<String>,
}

impl<'a> Accuracy<'a> {
    fn check(engine: Option<&'a Engine>) {
        let mut accuracy = Self { engine, failures: Vec::new() };
        println!("{}", engine.map_or("f32".into(), |engine| engine.name().to_string()));
        visit_all(&mut accuracy);
        assert!(accuracy.failures.is_empty(), "out of bounds:\n{}", accuracy.failures.join("\n"));
    }
}

impl Visitor for Accuracy<'_> {
    fn visit<const I: usize>(&mut self, spec: &Spec<I>, map: &impl Map<I, 1>) {
        let mut rows = arguments::<I>();
        rows.retain(|x| {
            let (x, y) = (wide(*x), (spec.reference)(wide(*x)));
            x.iter().all(|x| ordinary(*x)) && ordinary(y) && (spec.domain)(x, y)
        });
        let results = match self.engine {
            None => rows.iter().map(|x| map.map(*x)).collect(),
            Some(engine) => evaluate(engine, map, &rows).unwrap_or_else(|error| panic!("{}: {error}", spec.name)),
        };
        assert_eq!(results.len(), rows.len());
        let mut worst = (0.0, rows[0], 0.0);
        for (x, [y]) in rows.iter().zip(&results) {
            let error = (spec.error)(wide(*x), f64::from(*y), (spec.reference)(wide(*x)));
            let error = if error.is_nan() { f64::INFINITY } else { error };
            if error > worst.0 {
                worst = (error, *x, *y);
            }
        }
        let (error, x, y) = worst;
        println!("  {:<28} {error:.3} of its bound, over {} arguments", spec.name, rows.len());
        if error > 1.0 {
            let want = (spec.reference)(wide(x));
            self.failures.push(format!("{} of {x:?} is {y}, not {want}: {error} of its bound", spec.name));
        }
    }
}

#[test]
fn plain_numbers_keep_the_bounds() {
    Accuracy::check(None);
}

#[test]
fn every_engine_keeps_the_bounds() {
    for engine in common::engines() {
        Accuracy::check(Some(&engine));
    }
}

/// Whether two results are bitwise equal except for the sign of a zero, or both NaN.
fn same(a: f32, b: f32) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

/// Lanes give the same bits as plain numbers, whatever the arguments.
struct LanesAreNumbers(Engine);

impl Visitor for LanesAreNumbers {
    fn visit<const I: usize>(&mut self, spec: &Spec<I>, map: &impl Map<I, 1>) {
        let mut rows = arguments::<I>();
        // min and max of a NaN are unspecified, and differ on Arm.
        rows.retain(|x| cfg!(target_arch = "x86_64") || !x.iter().any(|x| x.is_nan()));
        let results = evaluate(&self.0, map, &rows).unwrap_or_else(|error| panic!("{}: {error}", spec.name));
        for (x, [lane]) in rows.iter().zip(results) {
            let [plain] = map.map(*x);
            assert!(same(lane, plain), "{} of {x:?} is {plain}, but {lane} in a lane", spec.name);
        }
    }
}

#[test]
fn lanes_are_plain_numbers_to_the_bit() {
    #[cfg(target_arch = "x86_64")]
    let fused = std::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let fused = cfg!(target_arch = "aarch64");
    if fused {
        visit_all(&mut LanesAreNumbers(common::cpu()));
    } else {
        eprintln!("SKIPPED: without a fused multiply-add, lanes need not have the bits of plain numbers");
    }
}

/// The value of a dual number equals the plain number bit for bit, whatever the arguments; its slope is the derivative.
struct DualsDifferentiate;

impl DualsDifferentiate {
    /// The derivative of the reference by argument i, if two step sizes agree on it.
    fn derivative<const I: usize>(spec: &Spec<I>, x: [f64; I], i: usize) -> Option<f64> {
        let mut slopes = [0.0; 2];
        for (slope, step) in slopes.iter_mut().zip([1e-5, 2.5e-6]) {
            let (mut above, mut below) = (x, x);
            above[i] += step * x[i].abs().max(0.1);
            below[i] -= step * x[i].abs().max(0.1);
            let (up, down) = ((spec.reference)(above), (spec.reference)(below));
            if !((spec.domain)(above, up) && (spec.domain)(below, down)) {
                return None;
            }
            // At a kink the one-sided derivatives differ.
            let middle = (spec.reference)(x);
            let (left, right) = ((middle - down) / (x[i] - below[i]), (up - middle) / (above[i] - x[i]));
            if (left - right).abs() > 1e-2 * (1.0 + left.abs()) {
                return None;
            }
            *slope = (up - down) / (above[i] - below[i]);
        }
        let [coarse, fine] = slopes;
        ((coarse - fine).abs() <= 1e-6 * (1.0 + fine.abs()) && fine.abs() < 1e38).then_some(fine)
    }
}

impl Visitor for DualsDifferentiate {
    fn visit<const I: usize>(&mut self, spec: &Spec<I>, map: &impl Map<I, 1>) {
        let (mut eligible, mut compared) = (0, 0);
        for x in arguments::<I>() {
            let [plain] = map.map(x);
            for i in 0..I {
                let mut duals = x.map(Dual::<f32, 1>::constant);
                duals[i] = Dual::variable(x[i], 0);
                let [dual] = map.map(duals);
                let equal = dual.value.to_bits() == plain.to_bits() || (dual.value.is_nan() && plain.is_nan());
                assert!(equal, "{} of {x:?} is {plain}, but {} as a dual", spec.name, dual.value);

                let moderate = x.iter().all(|x| (0.01..30.0).contains(&x.abs()));
                if !(moderate && (spec.domain)(wide(x), (spec.reference)(wide(x)))) {
                    continue;
                }
                eligible += 1;
                if let Some(want) = Self::derivative(spec, wide(x), i) {
                    compared += 1;
                    let got = f64::from(dual.slopes[0]);
                    // The steeper the function, the worse its condition: a tangent near its pole loses digits.
                    let bound = 1e-5 * (1.0 + want.abs()).powf(1.5);
                    assert!((got - want).abs() <= bound, "{} at {x:?}: slope {got} by {i}, not {want}", spec.name);
                }
            }
        }
        assert!(compared * 2 > eligible, "{}: only {compared} slopes of {eligible} compared", spec.name);
    }
}

#[test]
fn dual_numbers_have_the_values_and_the_slopes() {
    visit_all(&mut DualsDifferentiate);
}

#[test]
fn the_ends_of_the_number_line_are_those_of_ieee_754() {
    const INF: f32 = f32::INFINITY;
    for (seen, expected) in [
        (Real::exp(INF), INF),
        (Real::exp(89.0), INF),
        (Real::exp(-INF), 0.0),
        (Real::exp(-87.3), 0.0),
        (Real::exp(-104.0), 0.0),
        (Real::ln(0.0), -INF),
        (Real::ln(INF), INF),
        (Real::tanh(INF), 1.0),
        (Real::tanh(-INF), -1.0),
        (Real::sqrt(INF), INF),
        (Real::atan2(0.0, 0.0), 0.0),
        (Real::atan2(-0.0, -1.0), -consts::PI),
        (Real::floor(-INF), -INF),
        (Real::powi(0.0, -1), INF),
        (Real::powi(0.0, 0), 1.0),
        (Real::powi(2.0, i32::MIN), 0.0),
        (Real::exp2(INF), INF),
        (Real::exp2(128.0), INF),
        (Real::exp2(-126.0), 0.0),
        (Real::exp2(-INF), 0.0),
        (Real::log2(0.0), -INF),
        (Real::log2(INF), INF),
        (Real::powf(0.0, 0.0), 1.0),
        (Real::powf(-0.0, 2.5), 0.0),
        (Real::powf(0.0, -1.0), INF),
        (Real::powf(-2.0, 3.0), -8.0),
        (Real::powf(-2.0, -2.0), 0.25),
        (Real::powf(10.0, 60.0), INF),
        (Real::powf(10.0, -60.0), 0.0),
        (Real::powf(INF, 0.5), INF),
        (Real::powf(INF, 0.0), 1.0),
        (Real::powf(-INF, 0.0), 1.0),
        (Real::powf(-INF, 3.0), -INF),
        (Real::powf(INF, -1.0), 0.0),
        (Real::powf(f32::NAN, 0.0), 1.0),
        (Real::powf(f32::NAN, -0.0), 1.0),
        (Real::cbrt(0.0), 0.0),
        (Real::cbrt(INF), INF),
        (Real::cbrt(-INF), -INF),
        (Real::cbrt(-27.0), -3.0),
        (Real::hypot(0.0, 0.0), 0.0),
        (Real::hypot(3e38, 3e38), INF),
        (Real::hypot(INF, 1.0), INF),
        (Real::hypot(3e-38, -4e-38), 5e-38),
        (Real::sinh(INF), INF),
        (Real::sinh(-INF), -INF),
        (Real::cosh(-INF), INF),
        (Real::cosh(90.0), INF),
        (Real::atan(INF), consts::FRAC_PI_2),
        (Real::ceil(INF), INF),
        (Real::round(-INF), -INF),
        (Real::trunc(INF), INF),
        (Real::round(0.499_999_97), 0.0),
        (Real::round(8_388_609.0), 8_388_609.0),
        (Real::round(-2.5), -3.0),
        (Real::recip(0.0), INF),
        (Real::lerp(3.0, 5.0, 0.0), 3.0),
        (Real::smoothstep(2.0, 2.0, 2.0), 1.0),
        (Real::smoothstep(1.999_999_9, 2.0, 2.0), 0.0),
        (Real::smoothstep(-INF, 0.0, 1.0), 0.0),
        (Real::smoothstep(INF, 0.0, 1.0), 1.0),
    ] {
        assert_eq!(seen, expected);
    }
    // cosh and sinh stay finite for arguments at which e^x overflows.
    for x in [88.8, 89.0, 89.4] {
        for (seen, expected) in [(Real::cosh(x), f64::from(x).cosh()), (Real::sinh(-x), -f64::from(x).sinh())] {
            assert!(relative(5e-7, f64::from(seen), expected) <= 1.0, "{seen}, not {expected}, at {x}");
        }
    }
    // A zero keeps its sign, as IEEE 754 has it.
    for seen in [Real::ceil(-0.5), Real::ceil(-0.0), Real::round(-0.3), Real::round(-0.0), Real::trunc(-0.9)] {
        assert!(seen == 0.0 && f32::is_sign_negative(seen), "{seen}");
    }
    for i in -104_000..=88_722 {
        let x = i as f32 * 1e-3;
        let (seen, expected) = (f64::from(Real::exp(x)), f64::from(x).exp());
        assert!(expected < 2.4e-38 || relative(3e-7, seen, expected) <= 1.0, "exp({x}) is {seen}");
        assert!(seen == 0.0 || seen >= f64::from(f32::MIN_POSITIVE), "exp({x}) is {seen}");
    }
    let subnormal = 1e-40_f32;
    assert!((Real::ln(subnormal) - subnormal.ln()).abs() < 1e-5);
    for seen in [
        Real::ln(-1.0),
        Real::sqrt(-1.0),
        Real::asin(1.5),
        Real::acos(-1.5),
        Real::sin(INF),
        Real::cos(INF),
        Real::log2(-1.0),
        Real::powf(-2.0, 0.5),
    ] {
        assert!(seen.is_nan(), "{seen}");
    }
}

#[test]
fn a_nan_goes_through() {
    let nan = f32::NAN;
    for seen in [
        Real::exp(nan),
        Real::ln(nan),
        Real::sin(nan),
        Real::cos(nan),
        Real::tan(nan),
        Real::asin(nan),
        Real::acos(nan),
        Real::atan2(nan, 1.0),
        Real::atan2(1.0, nan),
        Real::tanh(nan),
        Real::sqrt(nan),
        Real::floor(nan),
        Real::abs(nan),
        Real::powi(nan, 3),
        Real::rem_euclid(nan, 1.0),
        Real::wrap_angle(nan),
        Real::mul_add(nan, 1.0, 1.0),
        Real::exp2(nan),
        Real::log2(nan),
        Real::powf(nan, 2.0),
        Real::powf(2.0, nan),
        Real::powf(0.0, nan),
        Real::cbrt(nan),
        Real::hypot(nan, 1.0),
        Real::hypot(1.0, nan),
        Real::sinh(nan),
        Real::cosh(nan),
        Real::atan(nan),
        Real::ceil(nan),
        Real::round(nan),
        Real::trunc(nan),
        Real::fract(nan),
        Real::recip(nan),
        Real::lerp(nan, 1.0, 0.5),
        Real::lerp(0.0, 1.0, nan),
        Real::smoothstep(nan, 0.0, 1.0),
        Real::smoothstep(0.5, nan, 1.0),
    ] {
        assert!(seen.is_nan(), "{seen}");
    }
}

/// Three results from two arguments, to check that columns are not mixed up.
struct Several;

impl Map<2, 3> for Several {
    #[inline(always)]
    fn map<R: Real>(&self, [a, b]: [R; 2]) -> [R; 3] {
        [a - b, a, b * 2.0]
    }
}

#[test]
fn rows_and_columns_stay_in_their_places() {
    // Not a multiple of the size of a register or a workgroup.
    let rows: Vec<[f32; 2]> = (0..67).map(|i| [i as f32, 100.0 + i as f32]).collect();
    for engine in common::engines() {
        let seen = evaluate(&engine, &Several, &rows).unwrap();
        let expected: Vec<[f32; 3]> = rows.iter().map(|[a, b]| [a - b, *a, b * 2.0]).collect();
        assert_eq!(seen, expected, "{}", engine.name());
    }
}
