//! The first dispatch of a kernel. Some drivers generate machine code only then (Mesa's software driver takes 0.1 to 20
//! s), so that dispatch is part of compilation: it has no rows to work on, and does not count against any call's time
//! limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytemuck::Zeroable;
use wgpu::BufferUsages as Usage;

use super::checks::work_done;
use super::device::Device;
use super::kernels::PASS_SIZE;
use super::workspace::{aligned, bind};
use crate::error::EngineError;
use crate::kernels::pass::{Layout, NoiseId, Pass};
use crate::runtime::browser::BROWSER;

/// The duration of a first dispatch after which the device counts as hung.
const LONGEST: Duration = Duration::from_secs(600);

/// The size of each buffer that kernels write to, in floats: more than a pass of one row and one coordinate
/// addresses.
const REACH: u64 = 256;

/// The sizes of a kernel's first dispatch. With no rows a kernel does no work, but some read inputs and nominals first;
/// problems, coordinates and time steps are 1 each, so all addresses lie within [`REACH`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    /// The inputs that are read before the first row.
    inputs: usize,
    /// The coordinates of the nominal that are read before the first row.
    nominal: usize,
    rows: u32,
}

impl Idle {
    /// For kernels that read nothing before the first row.
    pub(crate) const NOTHING: Self = Self { inputs: 0, nominal: 0, rows: 0 };

    /// For kernels that draw controls: they read limits and covariance, and the nominal and the standard-deviation
    /// scale of one time step, which has so many innovations.
    pub(crate) fn of(layout: Layout, innovations: usize) -> Self {
        Self { inputs: layout.params_at(), nominal: layout.controls * (1 + innovations), rows: 0 }
    }
}

/// Counters of the first dispatches that have begun and ended, on all threads.
#[derive(Debug, Default)]
pub(crate) struct WarmUps {
    begun: AtomicU64,
    ended: Arc<AtomicU64>,
}

impl WarmUps {
    /// The numbers of first dispatches begun and ended so far.
    pub(crate) fn count(&self) -> [u64; 2] {
        // Loaded in this order, so that a dispatch that ends in between counts as running.
        let ended = self.ended.load(Ordering::SeqCst);
        [self.begun.load(Ordering::SeqCst), ended]
    }

    /// Counts a first dispatch as running until the guard is dropped, also during unwinding.
    fn begin(&self) -> UnderWay {
        self.begun.fetch_add(1, Ordering::SeqCst);
        UnderWay(Arc::clone(&self.ended))
    }
}

/// A guard for a first dispatch that is running.
struct UnderWay(Arc<AtomicU64>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Device {
    /// Dispatches each pipeline once, with no work and on temporary buffers. In a browser, its end is one of the
    /// device's checks.
    pub(crate) fn warm_up(&self, pipelines: &[wgpu::ComputePipeline], idle: Idle) -> Result<(), EngineError> {
        let inputs_at = aligned(PASS_SIZE.get());
        let inputs = 4 * REACH.max(idle.inputs as u64);
        let given =
            self.buffer("a first pass", inputs_at + inputs, Usage::UNIFORM | Usage::STORAGE | Usage::COPY_DST)?;
        let each = aligned(4 * (REACH + idle.nominal as u64));
        let scratch = self.buffer("a first pass's results", 6 * each, Usage::STORAGE)?;
        let part = |buffer, offset, bytes| wgpu::BufferBinding { buffer, offset, size: wgpu::BufferSize::new(bytes) };
        let [inputs, fields] = [(); 2].map(|()| part(&given, inputs_at, inputs));
        let [rows, scores, log_weights, partials, nominal, summary] =
            [0, 1, 2, 3, 4, 5].map(|i| part(&scratch, i * each, each));
        let group = bind(self, &given, [inputs, fields, rows, scores, log_weights, partials, nominal, summary]);
        let sizes = Pass {
            rows: idle.rows,
            horizon: 1,
            width: 1,
            coordinates: 1,
            row_stride: 1,
            problems: 1,
            ..Pass::zeroed()
        };
        // The inputs of a fleet of one end with its noise.
        let pass = Pass { chains: 1, inputs_stride: NoiseId::LEN as u32, ..sizes };
        self.queue.write_buffer(&given, 0, bytemuck::bytes_of(&pass));
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut compute = encoder.begin_compute_pass(&Default::default());
            compute.set_bind_group(0, &group, &[0]);
            for pipeline in pipelines {
                compute.set_pipeline(pipeline);
                compute.dispatch_workgroups(1, 1, 1);
            }
        }
        let under_way = self.warm_ups.begin();
        let submission = self.queue.submit([encoder.finish()]);
        if BROWSER {
            let done = work_done(&self.queue);
            self.checks.push(async move {
                done.await;
                drop(under_way);
                Ok(())
            });
            return Ok(());
        }
        self.wait_at_most(&submission, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, resume_unwind};
    use std::time::Duration;

    use super::WarmUps;
    use crate::control::mppi::Mppi;
    use crate::control::mppi::options::MppiOptions;
    use crate::control::planner::Fleet;
    use crate::error::{EngineError, PlanError};
    use crate::kernels::weigh::weighting::{Temperature, Weighting};
    use crate::lang::random::Random;
    use crate::lang::{Real, StepContext};
    use crate::learning::{PolicyGradient, PolicyGradientOptions};
    use crate::model::Model;
    use crate::model::policies::LinearFeedback;
    use crate::runtime::task::Task;
    use crate::runtime::{Backend, Engine, EngineOptions};
    use crate::sampling::{DiffusionSampler, DiffusionSamplerOptions, Energy};
    use crate::weighted_mean::WeightedMean;

    struct Point;

    impl Model<1, 1> for Point {
        #[inline(always)]
        fn step<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
            [x + u * at.dt()]
        }
        #[inline(always)]
        fn cost<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1], _: [R; 1]) -> R {
            x.square()
        }
    }

    impl Energy<1> for Point {
        #[inline(always)]
        fn energy<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1]) -> R {
            x.square()
        }
    }

    /// Every pipeline is created and dispatched for the first time in a warm-up, so this counts the pipelines that a
    /// call compiles.
    fn compiled_by(engine: &Engine, what: &str, expected: bool, call: impl FnOnce()) {
        let count = || engine.gpu().expect("it was asked for").warm_ups.count();
        let before = count();
        call();
        let [begun, ended] = count();
        assert_eq!(begun, ended);
        assert_eq!(begun > before[1], expected, "{what} compiled {} sources", begun - before[1]);
    }

    fn engine(timeout: Duration) -> Option<Engine> {
        let engine =
            Engine::with_options(EngineOptions { backend: Backend::Software, timeout, ..Default::default() }).ok();
        if engine.is_none() {
            assert!(std::env::var_os("GIBBS_REQUIRE_GPU").is_none(), "no software adapter");
            eprintln!("SKIPPED: no software adapter");
        }
        engine
    }

    #[test]
    fn the_clock_of_a_call_stands_still_while_others_compile() {
        let Some(engine) = engine(Duration::from_nanos(1)) else { return };
        let options = MppiOptions {
            task: Task { horizon: 3, ..Default::default() },
            samples: 50_000,
            weighting: Temperature::Fixed(1.0).into(),
            ..Default::default()
        };
        let mut mppi = Mppi::new(&engine, Point, options).expect("compilation has no such limit");
        let warm_ups = &engine.gpu().expect("it was asked for").warm_ups;
        let under_way = warm_ups.begin();
        mppi.plan(&[1.0]).expect("it waits for as long as something is compiled");
        drop(under_way);
        // A thread that is preempted before it waits may find the work done, hence several attempts.
        let late = Err(PlanError::Engine(EngineError::Timeout { after: Duration::from_nanos(1) }));
        assert!((0..100).any(|_| mppi.plan(&[1.0]).map(drop) == late));
    }

    #[test]
    fn a_first_dispatch_that_panics_has_ended() {
        let warm_ups = WarmUps::default();
        let panicked = catch_unwind(|| {
            let _under_way = warm_ups.begin();
            assert_eq!(warm_ups.count(), [1, 0]);
            resume_unwind(Box::new(()));
        });
        assert!(panicked.is_err());
        assert_eq!(warm_ups.count(), [1, 1]);
    }

    #[test]
    fn only_what_says_so_compiles() {
        let Some(engine) = engine(Duration::from_secs(120)) else { return };
        let options = MppiOptions {
            task: Task { horizon: 3, ..Default::default() },
            samples: 100,
            weighting: Temperature::Fixed(1.0).into(),
            ..Default::default()
        };
        let new = || Mppi::new(&engine, Point, options.clone()).expect("valid");
        compiled_by(&engine, "new", true, || drop(new()));
        compiled_by(&engine, "new once more", false, || drop(new()));
        let mut mppi = new();
        compiled_by(&engine, "plan", false, || {
            for _ in 0..2 {
                mppi.plan(&[1.0]).expect("it runs");
                mppi.samples().expect("there are some");
            }
            mppi.set_params(&[1.0]).expect("valid");
            mppi.set_references(&[1.0, 2.0], 1).expect("valid");
            mppi.plan_first(&[1.0], 1).expect("it runs");
        });
        compiled_by(&engine, "prepare_rows", true, || mppi.prepare_rows().expect("there is room"));
        compiled_by(&engine, "prepare_device_trajectories", true, || {
            mppi.prepare_device_trajectories().expect("there is room");
        });
        compiled_by(&engine, "device_trajectories", false, || {
            mppi.plan(&[1.0]).expect("it runs");
            mppi.device_trajectories(100).expect("there are some");
        });
        let with_rows = |mppi: &mut Mppi<1, 1, Point>| {
            mppi.plan_rows(&[1.0], &[0.1; 300]).expect("it runs");
            mppi.samples().expect("there are some");
            mppi.plan(&[1.0]).expect("it runs");
            mppi.samples().expect("there are some");
        };
        compiled_by(&engine, "plan_rows", false, || with_rows(&mut mppi));
        let solves_temperature =
            MppiOptions { weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.5)), ..options.clone() };
        compiled_by(&engine, "set_options", true, || mppi.set_options(solves_temperature).expect("valid"));
        compiled_by(&engine, "plan_rows with other options", false, || with_rows(&mut mppi));
        compiled_by(&engine, "resize", true, || mppi.resize(3, 300).expect("there is room"));
        compiled_by(&engine, "plan with more samples", false, || {
            mppi.plan(&[1.0]).expect("it runs");
            mppi.plan_rows(&[1.0], &[0.1; 900]).expect("it runs");
        });

        let mut fleet = Fleet::new(&engine, Point, options, 3).expect("valid");
        compiled_by(&engine, "the plans of a fleet", false, || {
            for i in 0..3 {
                fleet.plan(&[[1.0], [2.0], [3.0]]).expect("it runs");
                fleet.samples(i).expect("there are some");
                fleet.set_params(i, &[1.0]).expect("valid");
                fleet.set_references(i, &[1.0, 2.0], 1).expect("valid");
            }
        });

        let chains = DiffusionSamplerOptions { chains: 3, samples: 65, ..Default::default() };
        let mut of_energy = DiffusionSampler::of_energy(&engine, Point, chains.clone()).expect("valid");
        let mut of_data = DiffusionSampler::of_data(&engine, &[1.0, 2.0, 3.0], 1, chains).expect("valid");
        compiled_by(&engine, "sample", false, || {
            of_energy.sample().expect("it runs");
            of_data.sample().expect("it runs");
            of_data.guide(&[0.0, 1.0, 2.0]).expect("valid");
            of_data.sample_from(&[0.0; 3]).expect("it runs");
        });
        let training = PolicyGradientOptions {
            task: Task { horizon: 5, ..Default::default() },
            samples: 70,
            ..Default::default()
        };
        let start = |random: &mut Random, _: &mut [f32]| [random.normal()];
        let mut training = PolicyGradient::new(&engine, Point, LinearFeedback, start, training).expect("valid");
        compiled_by(&engine, "step", false, || drop(training.step().expect("it runs").to_vec()));
        let mut mean = WeightedMean::new(&engine);
        compiled_by(&engine, "compute", false, || drop(mean.compute(&[1.0], &[0.0]).expect("it runs").mean().to_vec()));
    }
}
