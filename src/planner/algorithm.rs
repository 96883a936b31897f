//! [`Algorithm`]: the part of a planner that differs from method to method.

use super::{Limits, References, ShiftFill};
use crate::error::{InvalidValue, finite, in_range};
use crate::field::Grid;
use crate::noise::{CovarianceFactors, Noise};
use crate::pass::{MAX_NUMBERS, MAX_PROBLEMS, Pass};

mod sealed {
    pub trait Sealed {}
    impl<const M: usize> Sealed for crate::MppiOptions<M> {}
    impl<const M: usize> Sealed for crate::DiffusionOptions<M> {}
}

/// The options of a method that improves control sequences, and how they become updates of the engine. Implemented by
/// [`MppiOptions`](crate::MppiOptions) and [`DiffusionOptions`](crate::DiffusionOptions), and by nothing else.
pub trait Algorithm<const M: usize>: sealed::Sealed + Clone + std::fmt::Debug {
    /// Refuses options that are out of range for this method.
    #[doc(hidden)]
    fn check(&self, regular: bool) -> Result<(), InvalidValue>;

    /// The options that every method has.
    #[doc(hidden)]
    fn setting(&self) -> Setting<'_, M>;

    /// Mutable access to the options that a planner changes itself.
    #[doc(hidden)]
    fn parts(&mut self) -> Parts<'_>;

    /// Appends the updates of one call to `list`. `first` has sizes, seed and buffer offsets filled in, and steps all
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

/// The options that every method has.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a, const M: usize> {
    pub(crate) horizon: usize,
    pub(crate) samples: usize,
    pub(crate) chains: usize,
    pub(crate) dt: f32,
    pub(crate) noise: &'a Noise<M>,
    pub(crate) limits: Option<Limits<M>>,
    pub(crate) shift_fill: ShiftFill,
    pub(crate) seed: u64,
    pub(crate) initial: [f32; M],
    pub(crate) params: &'a [f32],
    pub(crate) references: Option<&'a References>,
    pub(crate) fields: &'a [Grid],
}

/// The options that a planner changes itself.
#[doc(hidden)]
#[derive(Debug)]
pub struct Parts<'a> {
    pub(crate) horizon: &'a mut usize,
    pub(crate) samples: &'a mut usize,
    pub(crate) seed: &'a mut u64,
    pub(crate) params: &'a mut Vec<f32>,
    pub(crate) references: &'a mut Option<References>,
    pub(crate) fields: &'a mut Vec<Grid>,
}

/// Implements `setting` and `parts` for options whose fields have these names.
macro_rules! setting {
    (|$options:ident| $chains:expr) => {
        fn setting(&self) -> $crate::planner::Setting<'_, M> {
            let $options = self;
            $crate::planner::Setting {
                horizon: self.horizon,
                samples: self.samples,
                chains: $chains,
                dt: self.dt,
                noise: &self.noise,
                limits: self.limits,
                shift_fill: self.shift_fill,
                seed: self.seed,
                initial: self.initial,
                params: &self.params,
                references: self.references.as_ref(),
                fields: &self.fields,
            }
        }

        fn parts(&mut self) -> $crate::planner::Parts<'_> {
            $crate::planner::Parts {
                horizon: &mut self.horizon,
                samples: &mut self.samples,
                seed: &mut self.seed,
                params: &mut self.params,
                references: &mut self.references,
                fields: &mut self.fields,
            }
        }
    };
}
pub(crate) use setting;

impl<const M: usize> Setting<'_, M> {
    /// Refuses options that are invalid for every method, and returns the factors of the covariance that the kernels
    /// need.
    pub(super) fn check(&self) -> Result<CovarianceFactors, InvalidValue> {
        let sizes = [
            ("horizon", self.horizon, MAX_NUMBERS / M.max(1)),
            ("samples", self.samples, 1 << 25),
            ("chains", self.chains, MAX_PROBLEMS),
        ];
        for (field, size, most) in sizes {
            if size == 0 || size > most {
                return Err(InvalidValue::new(field, size, format_args!("between 1 and {most}")));
            }
        }
        in_range("dt", self.dt, self.dt > 0.0, "finite and above 0 (seconds)")?;
        finite("initial", &self.initial)?;
        let numbers = self.horizon.saturating_mul(M).saturating_mul(self.chains);
        if numbers > i32::MAX as usize {
            let value = format_args!("{} of {} time steps", self.chains, self.horizon);
            let expected = format_args!("so few that all plans have at most {} numbers", i32::MAX);
            return Err(InvalidValue::new("chains", value, expected));
        }
        if let Some(limits) = &self.limits {
            limits.check()?;
            for m in 0..M {
                let (l, h) = (limits.low[m], limits.high[m]);
                if !(l..=h).contains(&self.initial[m]) {
                    let value = format_args!("{} for control {m}", self.initial[m]);
                    return Err(InvalidValue::new("initial", value, format_args!("within its limits, [{l}, {h}]")));
                }
            }
        }
        finite("params", self.params)?;
        if let Some(references) = self.references {
            References::check(&references.values, references.columns)?;
        }
        self.noise.shape()
    }
}
