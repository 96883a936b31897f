//! One time step of a rollout: what arriving in a state costs, when a rollout ends, and what freezes then.
//!
//! Every time loop calls [`Advance`]: the host's (`rollout.rs`), those of the CPU's kernels (`src/kernels/score`), and
//! those of the shaders, for which `src/runtime/program.rs` traces it.

use super::Model;
use crate::lang::{Real, StepContext};

/// The time step of a model, in two halves: [`arrive`](Self::arrive) in a state, then [`depart`](Self::depart) from it.
/// Between them a loop leaves, if its rollout has ended, and chooses the control.
#[derive(Debug)]
pub(crate) struct Advance<'a, D> {
    pub(crate) model: &'a D,
    /// Whether a rollout can end before its horizon.
    pub(crate) ends: bool,
}

impl<D> Advance<'_, D> {
    /// Arrives in `x` by control `before`: returns the cost of the time step that led there, whose context is `at`, and
    /// clears `running` if the rollout ends in `x`. The cost is 0 if the rollout had ended before, or if it has not
    /// `moved` yet, at its first time step. If there is a demonstration, its cost is added to `departure`.
    #[cfg_attr(optimized, inline(always))]
    pub(crate) fn arrive<R: Real, const N: usize, const M: usize>(
        &self,
        at: &StepContext<'_, R>,
        running: &mut R::Mask,
        departure: Option<&mut R>,
        moved: R::Mask,
        x: [R; N],
        before: [R; M],
    ) -> R
    where
        D: Model<N, M>,
    {
        let cost = self.counted(running, moved, self.model.cost(at, x, before));
        // Terms are recorded in the cost only.
        let at = &at.recording(None);
        if let Some(departure) = departure {
            *departure += self.counted(running, moved, self.model.demonstration_cost(at, x));
        }
        self.check_done::<R, N, M>(at, running, x);
        cost
    }

    /// Clears `running` if a rollout ends in `x`, to which the time step of context `at` led; before the first time
    /// step it is the context of that one.
    #[inline(always)]
    pub(crate) fn check_done<R: Real, const N: usize, const M: usize>(
        &self,
        at: &StepContext<'_, R>,
        running: &mut R::Mask,
        x: [R; N],
    ) where
        D: Model<N, M>,
    {
        if self.ends {
            *running = *running & !self.model.done(at, x);
        }
    }

    /// A cost, or 0 where it does not count.
    #[inline(always)]
    fn counted<R: Real>(&self, running: &R::Mask, moved: R::Mask, cost: R) -> R {
        let cost = R::select(moved, cost, 0.0);
        if self.ends { R::select(*running, cost, 0.0) } else { cost }
    }

    /// The next state under control `u`; `x` if the rollout has ended.
    #[cfg_attr(optimized, inline(always))]
    pub(crate) fn depart<R: Real, const N: usize, const M: usize>(
        &self,
        at: &StepContext<'_, R>,
        running: &R::Mask,
        x: [R; N],
        u: [R; M],
    ) -> [R; N]
    where
        D: Model<N, M>,
    {
        let mut next = self.model.step(at, x, u);
        if self.ends {
            for i in 0..N {
                next[i] = R::select(*running, next[i], x[i]);
            }
        }
        next
    }
}
