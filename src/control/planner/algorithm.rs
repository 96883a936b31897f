//! [`Algorithm`]: the part of a planner that differs from method to method.

use super::actuation::Smoothing;
use super::options::{Fallback, Proposal, ShiftFill};
use crate::error::{InvalidValue, finite};
use crate::kernels::pass::{MAX_NUMBERS, MAX_PROBLEMS, Pass, TILE, round_up};
use crate::kernels::propose::noise::{CovarianceFactors, Noise};
use crate::kernels::propose::shape::{Filter, NoiseShape};
use crate::runtime::task::Task;

pub(crate) mod sealed {
    /// Keeps [`Algorithm`](super::Algorithm) and [`AnyPlanner`](super::super::AnyPlanner) to the types of this crate,
    /// so that they may grow.
    pub trait Sealed {}
}

/// The options of a method that improves control sequences, and how they become passes of the engine. Implemented by
/// [`MppiOptions`](crate::control::mppi::options::MppiOptions) and
/// [`DiffusionOptions`](crate::control::diffusion::options::DiffusionOptions), and by nothing else.
pub trait Algorithm<const M: usize>: sealed::Sealed + Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Refuses what is out of range for this method. `regular`: whether every control is perturbed; `white`: whether
    /// noise is white.
    #[doc(hidden)]
    fn check(&self, regular: bool, white: bool) -> Result<(), InvalidValue>;

    #[doc(hidden)]
    fn task(&self) -> &Task<M>;

    #[doc(hidden)]
    fn task_mut(&mut self) -> &mut Task<M>;

    #[doc(hidden)]
    fn samples(&self) -> usize;

    #[doc(hidden)]
    fn set_samples(&mut self, samples: usize);

    #[doc(hidden)]
    fn noise(&self) -> &Noise<M>;

    #[doc(hidden)]
    fn noise_shape(&self) -> NoiseShape;

    #[doc(hidden)]
    fn fallback(&self) -> Fallback;

    /// What the chains after the first start from in every call.
    #[doc(hidden)]
    fn proposals(&self) -> &[Proposal<M>] {
        &[]
    }

    #[doc(hidden)]
    fn smoothing(&self) -> Option<Smoothing>;

    #[doc(hidden)]
    fn shift_fill(&self) -> ShiftFill;

    /// The control that a new plan consists of.
    #[doc(hidden)]
    fn initial(&self) -> [f32; M];

    /// The plans that are improved side by side.
    #[doc(hidden)]
    fn chains(&self) -> usize {
        1
    }

    /// Appends the passes of one call to `list`. `first` has sizes, seed and buffer offsets filled in, and steps all
    /// the way to the mean (a = 1).
    #[doc(hidden)]
    fn passes(&self, first: Pass, list: &mut Vec<Pass>);

    /// Whether costs are averaged over the horizon before the temperature divides them.
    #[doc(hidden)]
    fn averages(&self) -> bool;

    /// The factor on the noise's standard deviation for the control `t` steps ahead, at the beginning of a call; `None`
    /// if it is 1 for all controls.
    #[doc(hidden)]
    fn std_scale(&self, _t: usize) -> Option<f32> {
        None
    }

    /// How far chains are scattered around the plan before a call, in standard deviations of the noise.
    #[doc(hidden)]
    fn scatter(&self) -> f32 {
        0.0
    }
}

/// The methods of [`Algorithm`] that return options which every method has, under the same names.
macro_rules! shared_options {
    () => {
        fn task(&self) -> &$crate::runtime::task::Task<M> {
            &self.task
        }

        fn task_mut(&mut self) -> &mut $crate::runtime::task::Task<M> {
            &mut self.task
        }

        fn samples(&self) -> usize {
            self.samples
        }

        fn set_samples(&mut self, samples: usize) {
            self.samples = samples;
        }

        fn noise(&self) -> &$crate::kernels::propose::noise::Noise<M> {
            &self.noise
        }

        fn noise_shape(&self) -> $crate::kernels::propose::shape::NoiseShape {
            self.noise_shape
        }

        fn fallback(&self) -> $crate::control::planner::Fallback {
            self.fallback
        }

        fn smoothing(&self) -> Option<$crate::control::planner::Smoothing> {
            self.smoothing
        }

        fn shift_fill(&self) -> $crate::control::planner::ShiftFill {
            self.shift_fill
        }

        fn initial(&self) -> [f32; M] {
            self.initial
        }
    };
}
pub(crate) use shared_options;

/// Refuses a task that is out of range, and numbers of rows and problems that are.
pub(crate) fn check_sizes<const M: usize>(options: &impl Algorithm<M>, members: usize) -> Result<(), InvalidValue> {
    options.task().check(MAX_NUMBERS / M.max(1))?;
    for (field, size, most) in [
        ("samples", options.samples(), 1 << 25),
        ("problems", members, MAX_PROBLEMS),
        ("chains", options.chains(), MAX_PROBLEMS / members.clamp(1, MAX_PROBLEMS)),
    ] {
        if size == 0 || size > most {
            return Err(InvalidValue::new(field, size, format_args!("between 1 and {most}")));
        }
    }
    let (scenarios, problems) = (options.task().scenarios.len(), members * options.chains());
    let rows = round_up(options.samples(), TILE).saturating_mul(problems);
    // A dispatch has all problems in all scenarios, and the scores of all of them are stored.
    let most = (MAX_PROBLEMS / problems).min(i32::MAX as usize / 3 / rows);
    if scenarios > most {
        let expected = format_args!("at most {most} for {problems} plans of {} rows", options.samples());
        return Err(InvalidValue::new("scenarios", format_args!("{scenarios} scenarios"), expected));
    }
    Ok(())
}

/// Refuses options that are invalid for every method, and returns the factors of the covariance that the kernels need.
/// `members` is the number of plans that are improved together.
pub(crate) fn check_shared<const M: usize>(
    options: &impl Algorithm<M>,
    members: usize,
) -> Result<CovarianceFactors, InvalidValue> {
    check_sizes(options, members)?;
    let (task, chains, initial) = (options.task(), options.chains(), options.initial());
    let numbers = task.horizon.saturating_mul(M).saturating_mul(chains).saturating_mul(members);
    if numbers > i32::MAX as usize {
        let value = format_args!("{} of {} time steps", chains * members, task.horizon);
        let expected = format_args!("so few that all plans have at most {} numbers", i32::MAX);
        return Err(InvalidValue::new("chains", value, expected));
    }
    finite("initial", &initial)?;
    if let Some(limits) = &task.limits {
        for m in 0..M {
            let (l, h) = (limits.low[m], limits.high[m]);
            if !(l..=h).contains(&initial[m]) {
                let value = format_args!("{} for control {m}", initial[m]);
                return Err(InvalidValue::new("initial", value, format_args!("within its limits, [{l}, {h}]")));
            }
        }
    }
    if let Some(smoothing) = options.smoothing() {
        smoothing.check(task.horizon)?;
    }
    let mut filter = options.noise_shape().filter(task.horizon)?;
    if task.is_sequential() {
        // Only the controls of filtered rows are made in order of time.
        filter = filter.or(Some(Filter::identity()));
    }
    let shape = CovarianceFactors { filter, ..options.noise().shape()? };
    let numbers = shape.innovations(task.horizon).saturating_mul(M);
    if numbers > MAX_NUMBERS || numbers.saturating_mul(chains).saturating_mul(members) > i32::MAX as usize {
        let value = format_args!("{} of {} time steps", chains * members, task.horizon);
        let expected = format_args!("so few and short that their noise has at most {MAX_NUMBERS} numbers each");
        return Err(InvalidValue::new("chains", value, expected));
    }
    Ok(shape)
}
