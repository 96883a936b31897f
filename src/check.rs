//! Helpers for tests: whether model code computes the same on every backend, and whether it is fast.

use pulp::{Simd, WithSimd};

use crate::error::{BuildError, InvalidValue};
use crate::interp::op_count;
pub use crate::interp::op_count::OpCount;
use crate::interp::op_count::OpCounter;
use crate::interp::simd::lanes::Lanes;
use crate::lang::clock::Instant;
use crate::lang::math::{Vector, kahan_add};
use crate::lang::philox_row::PhiloxRow;
use crate::lang::{Inputs, Real, Register, StepContext, WgslFn, float_env};
pub use crate::model::Map;
use crate::model::Model;
use crate::runtime::task::check_fields;
use crate::runtime::{Engine, Waiter, program, run_to_end};

/// Evaluates a function at many points on the device of an engine: on SIMD lanes, or traced to WGSL and run as a
/// kernel.
///
/// # Errors
///
/// If the function cannot become a kernel or reads fields that [`Map::fields`] does not have, or the device fails.
///
/// # Example
///
/// ```
/// use gibbs::check::{Map, evaluate};
/// use gibbs::{Engine, Real};
///
/// struct Hypotenuse;
/// impl Map<2, 1> for Hypotenuse {
///     fn map<R: Real>(&self, [a, b]: [R; 2]) -> [R; 1] {
///         [(a * a + b * b).sqrt()]
///     }
/// }
/// assert_eq!(evaluate(&Engine::new()?, &Hypotenuse, &[[3.0, 4.0]])?, [[5.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn evaluate<const I: usize, const O: usize>(
    engine: &Engine,
    map: &impl Map<I, O>,
    inputs: &[[f32; I]],
) -> Result<Vec<[f32; O]>, BuildError> {
    run_to_end(evaluate_for(engine, map, inputs, Waiter::Thread))
}

/// As [`evaluate`], without blocking the thread.
///
/// # Errors
///
/// As [`evaluate`].
pub async fn evaluate_async<const I: usize, const O: usize>(
    engine: &Engine,
    map: &impl Map<I, O>,
    inputs: &[[f32; I]],
) -> Result<Vec<[f32; O]>, BuildError> {
    evaluate_for(engine, map, inputs, Waiter::Task).await
}

#[cfg_attr(not(feature = "gpu"), expect(unused_variables, reason = "the CPU backend never makes a caller wait"))]
async fn evaluate_for<const I: usize, const O: usize>(
    engine: &Engine,
    map: &impl Map<I, O>,
    inputs: &[[f32; I]],
    waiter: Waiter,
) -> Result<Vec<[f32; O]>, BuildError> {
    const { assert!(I > 0 && O > 0, "a function has arguments and results") };
    let mut outputs = vec![[0.0; O]; inputs.len()];
    let (traced, fields) = (program::trace_map(map, engine.options().math)?, map.fields());
    check_fields("the map", &traced.requirements, fields.len(), |i| fields.look_ups().shape(i))?;
    #[cfg(feature = "gpu")]
    if let Some(device) = engine.gpu() {
        let results = outputs.as_flattened_mut();
        device.evaluate(&traced, I, inputs.as_flattened(), &fields.packed(), results, waiter).await?;
        return Ok(outputs);
    }
    float_env::standard(|| engine.isa().run(OnLanes { map, inputs, outputs: &mut outputs }));
    Ok(outputs)
}

struct OnLanes<'a, const I: usize, const O: usize, F> {
    map: &'a F,
    inputs: &'a [[f32; I]],
    outputs: &'a mut [[f32; O]],
}

impl<const I: usize, const O: usize, F: Map<I, O>> WithSimd for OnLanes<'_, I, O, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let count = Lanes::<S>::COUNT;
        for (inputs, outputs) in self.inputs.chunks(count).zip(self.outputs.chunks_mut(count)) {
            let mut x = [Lanes::<S>::from(0.0); I];
            for i in 0..I {
                let mut column = [0.0; 64];
                for (lane, row) in column.iter_mut().zip(inputs) {
                    *lane = row[i];
                }
                x[i] = Lanes::load(&column);
            }
            let y = self.map.map(x);
            for o in 0..O {
                let mut column = [0.0; 64];
                y[o].store(&mut column);
                for (lane, row) in column.iter().zip(outputs.iter_mut()) {
                    row[o] = *lane;
                }
            }
        }
    }
}

/// The largest difference between a hand-written WGSL function and its twin, relative to 1 + |twin|, over some points.
///
/// On a CPU engine the twin itself is evaluated, and the difference is 0.
///
/// # Errors
///
/// If the function does not compile, the device fails, or a value is not finite on one side only.
pub fn wgsl_fn<const A: usize>(engine: &Engine, function: &WgslFn<A>, points: &[[f32; A]]) -> Result<f32, BuildError> {
    run_to_end(wgsl_fn_for(engine, function, points, Waiter::Thread))
}

/// As [`wgsl_fn`], without blocking the thread.
///
/// # Errors
///
/// As [`wgsl_fn`].
pub async fn wgsl_fn_async<const A: usize>(
    engine: &Engine,
    function: &WgslFn<A>,
    points: &[[f32; A]],
) -> Result<f32, BuildError> {
    wgsl_fn_for(engine, function, points, Waiter::Task).await
}

async fn wgsl_fn_for<const A: usize>(
    engine: &Engine,
    function: &WgslFn<A>,
    points: &[[f32; A]],
    waiter: Waiter,
) -> Result<f32, BuildError> {
    struct Call<'a, const A: usize>(&'a WgslFn<A>);
    impl<const A: usize> Map<A, 1> for Call<'_, A> {
        fn map<R: Real>(&self, x: [R; A]) -> [R; 1] {
            [self.0.call(x)]
        }
    }
    let mut worst = 0.0_f32;
    for (point, [theirs]) in points.iter().zip(evaluate_for(engine, &Call(function), points, waiter).await?) {
        let ours = (function.twin)(*point);
        if ours.is_finite() != theirs.is_finite() {
            let value = format_args!("{theirs} in WGSL but {ours} in Rust at {point:?}");
            return Err(InvalidValue::new("function", value, "finite on both sides or on neither").into());
        }
        if ours.is_finite() {
            worst = worst.max((ours - theirs).abs() / (1.0 + ours.abs()));
        }
    }
    Ok(worst)
}

/// Measures how well a model uses the CPU's vector instructions: its speedup on SIMD lanes over plain `f32`, divided by
/// the number of lanes.
///
/// In an optimized build expect 0.7 to 1. **A value below 0.3 means that a call is not inlined**, so that code runs
/// without vector instructions: look for a missing [`#[gibbs::model]`](macro@crate::model) or a closure over `R`
/// values. (A single call that is not inlined, of the whole cart-pole step, gives 0.15.) In a debug build the number
/// means nothing, and with [`Instructions::Scalar`](crate::interp::simd::isa::Instructions::Scalar) there are no lanes
/// to use.
///
/// `at` is the step context, with all parameters, references and fields that the model reads, and `x` the initial
/// state.
///
/// # Panics
///
/// If the context has fewer of them than the model reads.
///
/// # Example
///
/// ```
/// use gibbs::models::CartPole;
/// use gibbs::{Engine, StepContext, check};
///
/// let share = check::vectorized(&Engine::new()?, &CartPole::default(), &StepContext::new(0, 0.02), [0.0; 4]);
/// assert!(share > 0.0);
/// # Ok::<(), gibbs::EngineError>(())
/// ```
pub fn vectorized<const N: usize, const M: usize>(
    engine: &Engine,
    model: &impl Model<N, M>,
    at: &StepContext<f32>,
    x: [f32; N],
) -> f32 {
    struct Steps<'a, const N: usize, D>(&'a D, [f32; N], Inputs<'a>);
    impl<const N: usize, D> Steps<'_, N, D> {
        #[inline(always)]
        fn run<const M: usize, R: Real>(&self) -> f32
        where
            D: Model<N, M>,
        {
            const STEPS: usize = 2000;
            let clock = Instant::now();
            let mut x = [R::from(0.0); N];
            for i in 0..N {
                x[i] = R::from(self.1[i]);
            }
            let (start, mut sum) = (x, R::from(0.0));
            for t in 0..STEPS {
                let at = StepContext::<R>::over(self.2);
                let u = [R::from(0.0); M];
                let next = self.0.step(&at, if t % 50 == 0 { start } else { x }, u);
                sum += self.0.cost(&at, next, u);
                x = next;
            }
            std::hint::black_box((x, sum));
            clock.elapsed().as_secs_f32()
        }
    }
    struct Wide<'a, const N: usize, const M: usize, D>(Steps<'a, N, D>);
    impl<const N: usize, const M: usize, D: Model<N, M>> WithSimd for Wide<'_, N, M, D> {
        type Output = f32;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> f32 {
            self.0.run::<M, Lanes<S>>() / Lanes::<S>::COUNT as f32
        }
    }
    struct Plain<'a, const N: usize, const M: usize, D>(Steps<'a, N, D>);
    impl<const N: usize, const M: usize, D: Model<N, M>> WithSimd for Plain<'_, N, M, D> {
        type Output = f32;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> f32 {
            self.0.run::<M, f32>()
        }
    }
    let best = |run: &dyn Fn() -> f32| {
        let once = || float_env::standard(run);
        (0..5).map(|_| once()).fold(f32::INFINITY, f32::min)
    };
    let plain = best(&|| engine.isa().run(Plain::<N, M, _>(Steps(model, x, at.inputs))));
    let wide = best(&|| engine.isa().run(Wide::<N, M, _>(Steps(model, x, at.inputs))));
    plain / wide / lanes(engine) as f32
}

/// A lower bound on the vector instructions per rollout step, for as many rollouts as a register has lanes: the noise
/// of the controls (independent, within limits) with its share of the rounds of Philox, `step`, `cost`, and the sum of
/// costs.
///
/// Compared with the measured time of a step (of [`lanes`] rollouts), it tells how close a model is to the limit of the
/// processor. `at` is the step context, and `x` the initial state.
///
/// # Panics
///
/// If the context has fewer parameters, references, fields or weights than the model reads.
///
/// # Example
///
/// ```
/// use gibbs::models::CartPole;
/// use gibbs::{StepContext, check};
///
/// let step = check::op_count(&CartPole::default(), &StepContext::new(0, 0.02), [0.1; 4]);
/// assert!((50.0..200.0).contains(&step.total()), "{step:?}");
/// ```
pub fn op_count<const N: usize, const M: usize>(
    model: &impl Model<N, M>,
    at: &StepContext<f32>,
    x: [f32; N],
) -> OpCount {
    let at = StepContext::<OpCounter>::over(at.inputs);
    let number = OpCounter::from;
    let row = PhiloxRow::<OpCounter>::new(0, 0, 0, [1, 2]);
    let noise = op_count::of(|| {
        std::hint::black_box(OpCounter::normals(&row, 3));
    });
    let step = op_count::of(|| {
        let mut u = [number(0.5); M];
        for u in &mut u {
            // The noise is scaled, shifted by the mean and clamped to the limits.
            *u = u.mul_add(0.5, 0.25).clamp(-1.0, 1.0);
        }
        let next = model.step(&at, x.map(number), u);
        let cost = model.cost(&at, next, u);
        // A step of Kahan summation: four additions.
        std::hint::black_box(kahan_add([number(1.0), number(0.0)], cost));
    });
    noise.times_and(M as f64 / 4.0, &step)
}

/// The number of rollouts that the CPU computes in one register.
pub fn lanes(engine: &Engine) -> usize {
    float_env::standard(|| engine.isa().run(Count)) as usize
}

/// Returns the number of lanes.
struct Count;

impl WithSimd for Count {
    type Output = f32;
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        Lanes::<S>::COUNT as f32
    }
}

/// The variants that `tests/fuzz` draws. Other crates cannot match non-exhaustive enums without a wildcard, so this
/// does it: a variant that is added here must be drawn there, too.
#[cfg(test)]
mod fuzzed {
    use crate::control::{CostNormalization, Fallback, Proposal, ShiftFill};
    use crate::learning::{ActionNoise, Estimator, Step};
    use crate::sampling::{SampleWidth, Sampler, Schedule};
    use crate::{Interpolation, Noise, NoiseShape, Temperature, Weighting};

    const _: fn(Weighting) = |weighting| match weighting {
        Weighting::Exponential(_) | Weighting::Elite(_) | Weighting::Best | Weighting::Signed { .. } => (),
    };
    const _: fn(Temperature) = |temperature| match temperature {
        Temperature::Fixed(_)
        | Temperature::EffectiveSamples(_)
        | Temperature::Divergence(_)
        | Temperature::Standardized(_) => (),
    };
    const _: fn(Noise<1>) = |noise| match noise {
        Noise::Diagonal(_) | Noise::Covariance(_) => (),
    };
    const _: fn(NoiseShape) = |shape| match shape {
        NoiseShape::White | NoiseShape::Knots { .. } | NoiseShape::Colored { .. } => (),
    };
    const _: fn(Interpolation) = |interpolation| match interpolation {
        Interpolation::Hold | Interpolation::Linear | Interpolation::Cubic => (),
    };
    const _: fn(Schedule) = |schedule| match schedule {
        Schedule::Linear { .. } | Schedule::Cosine { .. } | Schedule::Geometric { .. } | Schedule::Table(_) => (),
    };
    const _: fn(Sampler) = |sampler| match sampler {
        Sampler::ScoreAscent | Sampler::Ddpm | Sampler::Ddim { .. } | Sampler::Euler | Sampler::Langevin { .. } => (),
    };
    const _: fn(SampleWidth) = |width| match width {
        SampleWidth::Posterior | SampleWidth::Published => (),
    };
    const _: fn(CostNormalization) = |normalization| match normalization {
        CostNormalization::Sum | CostNormalization::HorizonAverage | CostNormalization::Gamma(_) => (),
    };
    const _: fn(Proposal<1>) = |proposal| match proposal {
        Proposal::Initial | Proposal::Last | Proposal::Sustained(_) | Proposal::Given => (),
    };
    const _: fn(Fallback) = |fallback| match fallback {
        Fallback::None | Fallback::LastPlan | Fallback::BestRow => (),
    };
    const _: fn(ShiftFill) = |fill| match fill {
        ShiftFill::Hold | ShiftFill::Repeat | ShiftFill::Initial => (),
    };
    const _: fn(Estimator<1>) = |estimator| match estimator {
        Estimator::ParameterSpace { .. } | Estimator::ScoreFunction { .. } => (),
    };
    const _: fn(ActionNoise) = |noise| match noise {
        ActionNoise::Fixed | ActionNoise::Learned { .. } | ActionNoise::Anneal(_) => (),
    };
    const _: fn(Step) = |step| match step {
        Step::Plain { .. } | Step::Natural { .. } | Step::Momentum { .. } | Step::Adam { .. } => (),
    };
}
