//! Root finding for the temperature that makes the weights as uniform as requested. Twin: `shaders/root_finder.wgsl`.
//!
//! Each sample is a pass over all rows, so few are wanted: about eight are needed, where bisection alone takes 28. In
//! ln λ, the search expands from an initial guess, doubling its step, until the root is bracketed. Then it refines the
//! bracket by Chandrupatla's method: inverse quadratic interpolation where the last three samples allow it, bisection
//! where they do not. (T. R. Chandrupatla, *A new hybrid quadratic/bisection algorithm for finding the zero of a
//! nonlinear function without using derivatives*, Advances in Engineering Software 28 (1997).)

use crate::pass::MAX_EVALUATIONS;
use crate::scalar::Real;
use crate::scalar::math::exp;

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
struct Sample {
    at: f32,
    residual: f32,
}

/// A search for the λ at which the residual, an increasing function of λ, is 0.
#[derive(Debug)]
pub(crate) struct RootFinder {
    /// ln λ of the next sample; of the solution once the search is over.
    next: f32,
    /// The last expansion step; 0 once the root is bracketed.
    stride: f32,
    evaluations: u32,
    latest: Sample,
    /// The other end of the bracket, once there is one.
    bracket: Sample,
    /// The sample that `latest` replaced.
    before: Sample,
}

impl RootFinder {
    /// Starts a search for costs that span `range`.
    pub(crate) fn new(range: f32) -> Self {
        let none = Sample { at: 0.0, residual: 0.0 };
        let next = (Real::ln(range) + GUESS).clamp(-EDGE, EDGE);
        Self { next, stride: 0.0, evaluations: 0, latest: none, bracket: none, before: none }
    }

    /// The temperature of the next sample; the solution once the search is over.
    pub(crate) fn temperature(&self) -> f32 {
        exp(self.next)
    }

    /// Takes the residual at that temperature and returns whether another sample is needed.
    pub(crate) fn update(&mut self, residual: f32) -> bool {
        let sample = Sample { at: self.next, residual };
        let even = residual > 0.0;
        self.evaluations += 1;
        if residual.abs() <= ENOUGH || self.evaluations == MAX_EVALUATIONS {
            return false;
        }
        if self.evaluations == 1 {
            (self.latest, self.bracket, self.before) = (sample, sample, sample);
            return self.expand(if even { -STRIDE } else { STRIDE });
        }
        if even == (self.latest.residual > 0.0) {
            (self.before, self.latest) = (self.latest, sample);
            return if self.stride != 0.0 { self.expand(2.0 * self.stride) } else { self.refine() };
        }
        // The root is now bracketed. If this ends the expansion phase, the previous sample becomes the other end.
        if self.stride == 0.0 {
            self.before = self.bracket;
        }
        (self.stride, self.bracket, self.latest) = (0.0, self.latest, sample);
        self.refine()
    }

    /// Expands in the same direction.
    fn expand(&mut self, stride: f32) -> bool {
        (self.stride, self.next) = (stride, (self.latest.at + stride).clamp(-EDGE, EDGE));
        // The search ends at the bound.
        self.next != self.latest.at
    }

    /// Refines the bracket: chooses the next sample within it, or the better of its two ends if they agree to within
    /// the tolerance.
    fn refine(&mut self) -> bool {
        let (a, b) = (self.latest, self.bracket);
        let least = TOLERANCE / (b.at - a.at).abs();
        let fraction = self.fraction().clamp(least.min(0.5), 1.0 - least.min(0.5));
        let next = a.at + fraction * (b.at - a.at);
        if least > 0.5 || next == a.at || next == b.at {
            self.next = if a.residual.abs() < b.residual.abs() { a.at } else { b.at };
            return false;
        }
        self.next = next;
        true
    }

    /// The position of the next sample, as a fraction of the bracket from `latest`.
    fn fraction(&self) -> f32 {
        let (a, b, c) = (self.latest, self.bracket, self.before);
        // Interpolation needs a third, distinct sample.
        if c.at == b.at || c.residual == b.residual {
            return 0.5;
        }
        // Position and residual of `latest`, relative to the other two samples.
        let (place, seen) = ((a.at - b.at) / (c.at - b.at), (a.residual - b.residual) / (c.residual - b.residual));
        if seen * seen < place && (1.0 - seen) * (1.0 - seen) < 1.0 - place {
            a.residual / (b.residual - a.residual) * c.residual / (b.residual - c.residual)
                + (c.at - a.at) / (b.at - a.at) * a.residual / (c.residual - a.residual) * b.residual
                    / (c.residual - b.residual)
        } else {
            0.5
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds the root of an increasing function of ln λ; returns the root and the number of samples.
    fn find(range: f32, residual: impl Fn(f32) -> f32) -> (f32, u32) {
        let mut root_finder = RootFinder::new(range);
        while root_finder.update(residual(root_finder.next)) {}
        (root_finder.next, root_finder.evaluations)
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
