//! Root finding for the temperature that makes the weights as uniform as requested. Prints
//! `shaders/generated/root_finder.wgsl`.
//!
//! Each sample is a pass over all rows, so few are wanted: about eight are needed, where bisection alone takes 28. In
//! ln λ, the search expands from an initial guess, doubling its step, until the root is bracketed. Then it refines the
//! bracket by Chandrupatla's method: inverse quadratic interpolation where the last three samples allow it, bisection
//! where they do not. (T. R. Chandrupatla, *A new hybrid quadratic/bisection algorithm for finding the zero of a
//! nonlinear function without using derivatives*, Advances in Engineering Software 28 (1997).)

use crate::kernels::pass::MAX_EVALUATIONS;
use crate::lang::Mask;
use crate::lang::math::{Vector, abs};

/// ln 10³⁰, the bound on |ln λ|. It covers every plausible λ, since the costs that matter may be much closer together
/// than the cost range suggests: a single rollout that hits a wall must not bound the search from below.
const EDGE: f32 = 69.077_55;
/// The first sample is at this fraction of the cost range, as a logarithm: λ is usually near it.
const GUESS: f32 = -2.0;
/// The first expansion step.
const STRIDE: f32 = 2.0;
/// The residual that counts as 0: the target is met to this relative accuracy.
const ENOUGH: f32 = 1e-6;
/// The accuracy of ln λ, unless the residual vanishes or the number of samples runs out first. (Where |ln λ| is very
/// large, the accuracy is limited to that of an `f32`.)
const TOLERANCE: f32 = 1e-6;

/// A sample: ln λ, and the residual there, positive where the weights are more uniform than the target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample<V> {
    pub(crate) at: V,
    pub(crate) residual: V,
}

impl<V: Vector> Sample<V> {
    fn select(mask: V::Truth, yes: Self, no: Self) -> Self {
        Self { at: V::simd_select(mask, yes.at, no.at), residual: V::simd_select(mask, yes.residual, no.residual) }
    }
}

/// A search for the λ at which the residual, an increasing function of λ, is 0.
#[derive(Clone, Copy)]
pub(crate) struct RootFinder<V: Vector> {
    /// ln λ of the next sample; of the solution once the search is over.
    pub(crate) next: V,
    pub(crate) over: V::Truth,
    /// The last expansion step; 0 once the root is bracketed.
    pub(crate) stride: V,
    pub(crate) evaluations: V,
    pub(crate) latest: Sample<V>,
    /// The other end of the bracket, once there is one.
    pub(crate) bracket: Sample<V>,
    /// The sample that `latest` replaced.
    pub(crate) before: Sample<V>,
}

impl<V: Vector> RootFinder<V> {
    /// Starts a search for costs whose range has the logarithm `ln_range`.
    pub(crate) fn new(ln_range: V) -> Self {
        let zero = V::from(0.0);
        let none = Sample { at: zero, residual: zero };
        Self {
            next: clamp(ln_range + GUESS, V::from(-EDGE), V::from(EDGE)),
            over: V::Truth::splat(false),
            stride: zero,
            evaluations: zero,
            latest: none,
            bracket: none,
            before: none,
        }
    }

    /// The search after the residual at `next` has been evaluated.
    pub(crate) fn update(self, residual: V) -> Self {
        let Self { next, latest, bracket, before, .. } = self;
        let zero = V::from(0.0);
        let sample = Sample { at: next, residual };
        let evaluations = self.evaluations + 1.0;
        let met = abs(residual).simd_le(V::from(ENOUGH));
        let found = met | evaluations.simd_eq(V::from(MAX_EVALUATIONS as f32));

        let first = evaluations.simd_eq(V::from(1.0));
        let (even, was_even) = (zero.simd_lt(residual), zero.simd_lt(latest.residual));
        let crosses = !first & ((even & !was_even) | (was_even & !even));
        let bracketed = self.stride.simd_eq(zero);
        let expands = first | !(crosses | bracketed);
        let stride = V::simd_select(expands, self.stride + self.stride, zero);
        let stride = V::simd_select(first, V::simd_select(even, V::from(-STRIDE), V::from(STRIDE)), stride);

        // A sample across the root makes the previous one the other end of the bracket, and the end that it replaces
        // the third sample.
        let third = Sample::select(bracketed, bracket, before);
        let before = Sample::select(first, sample, Sample::select(crosses, third, latest));
        let bracket = Sample::select(first, sample, Sample::select(crosses, latest, bracket));

        let expanded = clamp(next + stride, V::from(-EDGE), V::from(EDGE));
        let (refined, exhausted) = refine(sample, bracket, before);
        // An expansion ends at the bound.
        let over = found | (expands & expanded.simd_eq(next)) | (exhausted & !expands);
        let next = V::simd_select(found, next, V::simd_select(expands, expanded, refined));
        Self { next, over, stride, evaluations, latest: sample, bracket, before }
    }
}

fn clamp<V: Vector>(x: V, low: V, high: V) -> V {
    x.simd_max(low).simd_min(high)
}

/// Refines the bracket: the next sample within it, or the better of its two ends if they agree to within the tolerance,
/// and whether they do.
fn refine<V: Vector>(a: Sample<V>, b: Sample<V>, c: Sample<V>) -> (V, V::Truth) {
    let half = V::from(0.5);
    let width = b.at - a.at;
    let least = V::from(TOLERANCE) / abs(width);
    let edge = least.simd_min(half);
    let next = a.at + clamp(fraction(a, b, c), edge, -edge + 1.0) * width;
    let exhausted = half.simd_lt(least) | next.simd_eq(a.at) | next.simd_eq(b.at);
    let better = V::simd_select(abs(a.residual).simd_lt(abs(b.residual)), a.at, b.at);
    (V::simd_select(exhausted, better, next), exhausted)
}

/// The position of the next sample, as a fraction of the bracket from `a` to `b`.
fn fraction<V: Vector>(a: Sample<V>, b: Sample<V>, c: Sample<V>) -> V {
    // Interpolation needs a third, distinct sample.
    let distinct = !(c.at.simd_eq(b.at) | c.residual.simd_eq(b.residual));
    // Position and residual of `a`, relative to the other two samples.
    let place = (a.at - b.at) / (c.at - b.at);
    let seen = (a.residual - b.residual) / (c.residual - b.residual);
    let monotone = (seen * seen).simd_lt(place) & ((-seen + 1.0) * (-seen + 1.0)).simd_lt(-place + 1.0);
    let quadratic = a.residual / (b.residual - a.residual) * c.residual / (b.residual - c.residual)
        + (c.at - a.at) / (b.at - a.at) * a.residual / (c.residual - a.residual) * b.residual
            / (c.residual - b.residual);
    V::simd_select(distinct & monotone, quadratic, V::from(0.5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::Real;

    /// Finds the root of an increasing function of ln λ; returns the root and the number of samples.
    fn find(range: f32, residual: impl Fn(f32) -> f32) -> (f32, u32) {
        let mut search = RootFinder::new(Real::ln(range));
        while !search.over {
            search = search.update(residual(search.next));
        }
        (search.next, search.evaluations as u32)
    }

    #[test]
    fn roots_are_found_wherever_they_are() {
        for root in [-60.0, -21.0, -3.3, 0.0, 0.7, 4.0, 9.5, 33.0_f32] {
            for slope in [0.1, 1.0, 3.0] {
                // Shaped like the logarithm of an effective sample size: flat at both ends.
                let (found, evaluations) =
                    find(1.0, |at| (slope * (at - root)).tanh() + 0.3 * (slope * (at - root)).sin().min(0.0));
                assert!((found - root).abs() < 2e-5 * root.abs().max(1.0), "{found} is not {root}, slope {slope}");
                assert!(evaluations < MAX_EVALUATIONS, "{evaluations} looks for {root}, slope {slope}");
            }
        }
    }

    #[test]
    fn a_smooth_function_takes_few_looks() {
        let (found, evaluations) = find(100.0, |at| 1.0 - (-(at - 2.0)).exp());
        assert!((found - 2.0).abs() < 1e-6, "{found}");
        assert!(evaluations <= 9, "{evaluations} looks");
    }

    #[test]
    fn a_jump_is_found_by_halving() {
        for root in [-40.0, -1.0, 2.5, 50.0] {
            let (found, evaluations) = find(1.0, |at| if at < root { -1.0 } else { 2.0 });
            assert!((found - root).abs() < 1e-4, "{found} is not {root}");
            assert!(evaluations <= MAX_EVALUATIONS);
        }
    }

    #[test]
    fn what_cannot_be_reached_ends_at_the_edge() {
        for range in [1e-38, 1.0, 1e30, f32::INFINITY] {
            assert_eq!(find(range, |_| 1.0).0, -EDGE);
            assert_eq!(find(range, |_| -1.0).0, EDGE);
            let (at, evaluations) = find(range, |_| f32::NAN);
            assert!(at == EDGE && evaluations <= 8, "{at} after {evaluations} looks");
        }
    }

    #[test]
    fn what_is_right_at_once_is_taken() {
        let (found, evaluations) = find(1.0, |_| 0.0);
        assert_eq!((found, evaluations), (GUESS, 1));
    }
}
