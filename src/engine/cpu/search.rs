//! Where a temperature is looked for that makes the weights as even as they should be. Twin: `shaders/search.wgsl`.
//!
//! Each look is a pass over all rows, so there should be few: about eight, where bisection alone takes 28. On the logarithm of λ the
//! search walks from a guess, each stride twice the last, until it has crossed. Then it goes on by Chandrupatla's method: inverse
//! quadratic interpolation where the last three looks allow it, bisection where they do not. (T. R. Chandrupatla, *A new hybrid
//! quadratic/bisection algorithm for finding the zero of a nonlinear function without using derivatives*, Advances in Engineering
//! Software 28 (1997).)

use crate::scalar::Real;
use crate::scalar::math::exp;
use crate::update::MOST_LOOKS;

/// ln 10³⁰. λ is looked for wherever it may be at all, since the costs that matter may be very much closer together than the worst
/// one is away: a single rollout that hits a wall must not decide how far down the search goes.
const EDGE: f32 = 69.077_55;
/// The first look is at this part of the costs' range, as a logarithm: more often than not, λ is near.
const GUESS: f32 = -2.0;
/// The first stride.
const STRIDE: f32 = 2.0;
/// An excess that is none any more: what is wanted is met to this part of it.
const ENOUGH: f32 = 1e-6;
/// How well ln λ is known, if neither the excess vanishes before nor the looks run out. (Where λ is very large or very small, only as
/// well as a number tells it.)
const TOLERANCE: f32 = 1e-6;

/// A look at one temperature: its logarithm, and how much more even the weights are under it than they should be.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: f32,
    excess: f32,
}

/// A search for the temperature at which an increasing function of it, the excess, is 0.
#[derive(Debug)]
pub(crate) struct Search {
    /// The logarithm of the temperature to look at; of the one that was looked for, once the search is over.
    next: f32,
    /// How far the last stride went; 0 once the root has been crossed.
    stride: f32,
    looks: u32,
    latest: Look,
    /// On the other side of the root, once it has been crossed.
    across: Look,
    /// The look that the latest one replaced.
    before: Look,
}

impl Search {
    /// Among costs that are so far apart, at most.
    pub(crate) fn new(range: f32) -> Self {
        let none = Look { at: 0.0, excess: 0.0 };
        let next = (Real::ln(range) + GUESS).clamp(-EDGE, EDGE);
        Self { next, stride: 0.0, looks: 0, latest: none, across: none, before: none }
    }

    /// The temperature to look at; the one that was looked for, once there is nothing more to learn.
    pub(crate) fn temperature(&self) -> f32 {
        exp(self.next)
    }

    /// Takes note of the excess at that temperature, and says whether to look again.
    pub(crate) fn learn(&mut self, excess: f32) -> bool {
        let look = Look { at: self.next, excess };
        let even = excess > 0.0;
        self.looks += 1;
        if excess.abs() <= ENOUGH || self.looks == MOST_LOOKS {
            return false;
        }
        if self.looks == 1 {
            (self.latest, self.across, self.before) = (look, look, look);
            return self.walk(if even { -STRIDE } else { STRIDE });
        }
        if even == (self.latest.excess > 0.0) {
            (self.before, self.latest) = (self.latest, look);
            return if self.stride != 0.0 { self.walk(2.0 * self.stride) } else { self.within() };
        }
        // Crossed. If for the first time, then on foot, and the look before the last is where it was.
        if self.stride == 0.0 {
            self.before = self.across;
        }
        (self.stride, self.across, self.latest) = (0.0, self.latest, look);
        self.within()
    }

    /// Goes on in the same direction.
    fn walk(&mut self, stride: f32) -> bool {
        (self.stride, self.next) = (stride, (self.latest.at + stride).clamp(-EDGE, EDGE));
        // There is nothing beyond the edge.
        self.next != self.latest.at
    }

    /// The next look between the two that the root lies between, or the better of them if they are as good as one.
    fn within(&mut self) -> bool {
        let (a, b) = (self.latest, self.across);
        let least = TOLERANCE / (b.at - a.at).abs();
        let share = self.share().clamp(least.min(0.5), 1.0 - least.min(0.5));
        let next = a.at + share * (b.at - a.at);
        if least > 0.5 || next == a.at || next == b.at {
            self.next = if a.excess.abs() < b.excess.abs() { a.at } else { b.at };
            return false;
        }
        self.next = next;
        true
    }

    /// How far the root is from the latest look, as a share of the way across.
    fn share(&self) -> f32 {
        let (a, b, c) = (self.latest, self.across, self.before);
        // Without a third look there is nothing to interpolate.
        if c.at == b.at || c.excess == b.excess {
            return 0.5;
        }
        // Where it is and what it saw, between the others.
        let (place, seen) = ((a.at - b.at) / (c.at - b.at), (a.excess - b.excess) / (c.excess - b.excess));
        if seen * seen < place && (1.0 - seen) * (1.0 - seen) < 1.0 - place {
            a.excess / (b.excess - a.excess) * c.excess / (b.excess - c.excess)
                + (c.at - a.at) / (b.at - a.at) * a.excess / (c.excess - a.excess) * b.excess / (c.excess - b.excess)
        } else {
            0.5
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches for the root of a function of ln λ that rises there: where it is found to be, and after how many looks.
    fn find(range: f32, excess: impl Fn(f32) -> f32) -> (f32, u32) {
        let mut search = Search::new(range);
        while search.learn(excess(search.next)) {}
        (search.next, search.looks)
    }

    #[test]
    fn roots_are_found_wherever_they_are() {
        for root in [-60.0, -21.0, -3.3, 0.0, 0.7, 4.0, 9.5, 33.0_f32] {
            for slope in [0.1, 1.0, 3.0] {
                // As the logarithm of an effective sample size: flat on both sides.
                let (found, looks) =
                    find(1.0, |at| (slope * (at - root)).tanh() + 0.3 * (slope * (at - root)).sin().min(0.0));
                assert!((found - root).abs() < 2e-5 * root.abs().max(1.0), "{found} is not {root}, slope {slope}");
                assert!(looks < MOST_LOOKS, "{looks} looks for {root}, slope {slope}");
            }
        }
    }

    #[test]
    fn a_smooth_function_takes_few_looks() {
        let (found, looks) = find(100.0, |at| 1.0 - (-(at - 2.0)).exp());
        assert!((found - 2.0).abs() < 1e-6, "{found}");
        assert!(looks <= 9, "{looks} looks");
    }

    #[test]
    fn a_jump_is_found_by_halving() {
        for root in [-40.0, -1.0, 2.5, 50.0] {
            let (found, looks) = find(1.0, |at| if at < root { -1.0 } else { 2.0 });
            assert!((found - root).abs() < 1e-4, "{found} is not {root}");
            assert!(looks <= MOST_LOOKS);
        }
    }

    #[test]
    fn what_cannot_be_reached_ends_at_the_edge() {
        for range in [1e-38, 1.0, 1e30, f32::INFINITY] {
            assert_eq!(find(range, |_| 1.0).0, -EDGE);
            assert_eq!(find(range, |_| -1.0).0, EDGE);
            let (at, looks) = find(range, |_| f32::NAN);
            assert!(at == EDGE && looks <= 8, "{at} after {looks} looks");
        }
    }

    #[test]
    fn what_is_right_at_once_is_taken() {
        let (found, looks) = find(1.0, |_| 0.0);
        assert_eq!((found, looks), (GUESS, 1));
    }
}
