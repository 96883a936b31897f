//! [`WgslFn`], the escape hatch.

use super::Real;

/// The escape hatch: a scalar function written by hand in WGSL, with the same function in Rust beside it.
///
/// `source` declares `fn NAME(a0: f32, …) -> f32` with `A` arguments; the GPU backend calls it, every other one calls
/// `twin`. [`check::wgsl_fn`](crate::check::wgsl_fn) compares the two. Dual numbers differentiate it by central
/// differences of the twin.
///
/// # Example
///
/// ```
/// use gibbs::Real;
/// use gibbs::lang::WgslFn;
///
/// const SINC: WgslFn<1> = WgslFn {
///     name: "sinc",
///     source: "fn sinc(x: f32) -> f32 { if abs(x) < 1e-4 { return 1.0; } return sin(x) / x; }",
///     twin: |[x]| if x.abs() < 1e-4 { 1.0 } else { x.sin() / x },
/// };
///
/// fn window<R: Real>(x: R) -> R {
///     SINC.call([x * 0.5]) * 2.0
/// }
/// assert_eq!(window(0.0_f32), 2.0);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct WgslFn<const A: usize> {
    /// The name of the function in `source`: a WGSL identifier that no other such function has.
    pub name: &'static str,
    /// WGSL that declares the function (and may declare helpers).
    pub source: &'static str,
    /// Computes the function in Rust, on `f32`.
    pub twin: fn([f32; A]) -> f32,
}

impl<const A: usize> WgslFn<A> {
    /// Evaluates the function.
    #[inline(always)]
    pub fn call<R: Real>(&self, arguments: [R; A]) -> R {
        R::call(self, arguments)
    }
}
