//! What `#[gibbs::model]` writes, and what it refuses.

use gibbs_macros::expanded_model as expanded;

/// How the error that refuses a closure begins.
const CLOSURE: &str = "\"a closure in a function over `Real` may not be inlined";

/// Compares tokens: they are printed with different spaces.
fn assert_same(expansion: &str, expected: &str) {
    let tokens = |text: &str| text.split_whitespace().collect::<String>();
    assert_eq!(tokens(expansion), tokens(expected));
}

/// The number of marks in an expansion.
fn marks(expansion: &str) -> usize {
    expansion.matches("inline(always)").count()
}

#[test]
fn methods_are_marked_before_their_qualifiers() {
    assert_same(
        expanded! { impl Model<1, 1> for Cart { fn step<R: Real>(&self, x: R) -> R { x } } },
        stringify! { impl Model<1, 1> for Cart { #[inline(always)] fn step<R: Real>(&self, x: R) -> R { x } } },
    );
    assert_same(
        expanded! { #[must_use] pub(crate) const unsafe extern "C" fn f<R: Real>(x: R) -> R { x } },
        stringify! { #[must_use] #[inline(always)] pub(crate) const unsafe extern "C" fn f<R: Real>(x: R) -> R { x } },
    );
}

#[test]
fn functions_that_say_how_they_are_inlined_are_left_as_they_are() {
    let expansion = expanded! {
        impl Cart {
            #[inline(never)] #[must_use] pub fn a(&self) -> f32 { 1.0 }
            #[doc = "inline"] #[inline] fn b<R: Real>(x: R) -> R { x }
            #[cfg_attr(fast, inline(always))] fn c<R: Real>(x: R) -> R { x }
            fn d() {}
        }
    };
    assert_eq!(marks(expansion), 2, "{expansion}");
    assert!(expansion.contains("#[inline(always)] fn d"), "{expansion}");
}

#[test]
fn functions_within_functions_are_marked_and_declarations_are_not() {
    let expansion = expanded! {
        trait Shape {
            fn area<R: Real>(&self, x: Table<{ N + 1 }>) -> R;
            fn twice<R: Real>(&self, f: fn(R) -> R) -> Table<{ N + 1 }> where R: Into<Vec<R>> {
                fn ramp<R: Real>(x: R) -> R { { const fn half() -> f32 { 0.5 } } x * half() }
                let g: fn(R) -> R = ramp;
                g(self.area())
            }
        }
    };
    assert_eq!(marks(expansion), 3, "{expansion}");
    for marked in ["fn twice", "fn ramp", "const fn half"] {
        assert!(expansion.contains(&format!("#[inline(always)] {marked}")), "{expansion}");
    }
}

#[test]
fn closures_over_real_are_refused() {
    let refused = [
        expanded! { fn f<R: Real>(x: [R; 2]) -> [R; 2] { x.map(|x| x * 2.0) } },
        expanded! { fn f<R: Real>(x: R) -> R { let twice = |x: R| x * 2.0; twice(x) } },
        expanded! { fn f<R: Real>(x: R) -> R { let twice = move |x: R| -> R { x * 2.0 }; twice(x) } },
        expanded! { fn f<R: Real>(x: R) -> R { apply(x, || x) } },
        expanded! { fn f<R: Real>(x: R) -> R { apply(x, &|x: Vec<R>| x[0]) } },
        expanded! { fn f<R>(x: R) -> R where R: gibbs::Real { sum((0..3).map(|i| x * i as f32)) } },
        expanded! { fn f(x: impl Real) -> impl Real { Pair { first: |x| x } } },
        expanded! { fn f<R: Real>(x: R) -> impl Fn(R) -> R { |x| x } },
        expanded! { fn f<R: Real>(n: u8, x: R) -> R { apply(match n { 0 => |x| x, _ => ramp }) } },
        expanded! { impl<R: Real> Vector<R> { fn map(self) -> Self { Vector(self.0.map(|x| x)) } } },
    ];
    for expansion in refused {
        assert_eq!(expansion.matches(CLOSURE).count(), 1, "{expansion}");
        assert_eq!(marks(expansion), 1, "{expansion}");
    }
    let twice = expanded! { fn f<R: Real>(x: [R; 2]) -> [R; 2] { g(x.map(|x| x), x.map(|_| R::from(0.0))) } };
    assert_eq!(twice.matches(CLOSURE).count(), 2, "{twice}");
}

#[test]
fn operators_patterns_and_closures_over_other_values_are_not_refused() {
    let accepted = [
        expanded! { fn f<R: Real>(x: R) -> R { R::select(x.lt(0.0) | x.gt(1.0) | R::Mask::splat(true), x, 0.0) } },
        expanded! { fn f<R: Real>(x: R, n: u8) -> R { if n == 0 || n == 9 { x } else { x * f32::from(n | 1) } } },
        expanded! { fn f<R: Real>(x: R, n: &mut u8) -> R { *n |= 2; x[n as usize | 1] | (x) | "a" } },
        expanded! { fn f<R: Real>(x: R, n: u8) -> R { match n { 0 | 1 => x, | 2 | 3 => x, n if n | 1 == 5 => x } } },
        expanded! { fn f<R: Real>(x: R, n: u8) -> R { match n { | 2 | 3 => x, _ => x } } },
        expanded! { fn f<R: Real>(x: R, n: u8) -> R { if let 0 | 1 = n { x } else { let | A(n) | B(n) = n; x } } },
        expanded! { fn initial(&self, random: &mut Random) -> Vec<f32> { (0..3).map(|_| random.normal()).collect() } },
        expanded! {
            impl Policy<2, 1> for Damper {
                fn act<R: Real>(&self, x: R) -> R { fn names() -> Vec<u8> { [1].map(|i| i) } x }
                fn initial(&self, random: &mut Random) -> Vec<f32> { vec![0.0; 2].into_iter().map(|x| x).collect() }
            }
        },
    ];
    for expansion in accepted {
        assert!(!expansion.contains("compile_error"), "{expansion}");
    }
}

#[test]
fn other_items_are_refused() {
    for expansion in [expanded! { pub struct Cart { f: fn(f32) -> f32 } }, expanded! { mod cart { fn f() {} } }] {
        let sentence = "\"`#[gibbs::model]` belongs on an `impl`, a `trait` or a function\"";
        assert!(expansion.contains(sentence), "{expansion}");
    }
}
