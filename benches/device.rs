//! Measures a device and prints tables: time per step of a rollout by K, latency of small plans beside a round trip,
//! the cost of solving for a temperature, stages by K and T, threads, and the time to compile a model to a kernel. Runs
//! on the CPU, and on an adapter if there is one.
//!
//! ```sh
//! cargo bench --bench device                               # the CPU and the best adapter: some minutes
//! cargo bench --bench device -- --backend gpu              # what somebody with a GPU runs to fill in the record
//! cargo bench --bench device -- --only latency,start       # some of the tables
//! ```
//!
//! The task is the shipped cart-pole, except for `start`, which compiles every shipped model, and for `floor`, which
//! runs every task of the benchmarks. Times are medians; those of `floor` are minima.

mod common;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use common::{Plan, cart_pole, median};
use gibbs::check::OpCount;
use gibbs::models::{
    Bicycle, CartPole, DifferentialDrive, DoubleIntegrator, Pendulum, PlanarQuadrotor, Quadrotor, Unicycle,
};
use gibbs::{Backend, Engine, Model, MppiOptions};
use pulp::{Arch, Simd, WithSimd};

#[derive(Parser)]
struct Arguments {
    /// cpu, gpu or software; several with commas. Otherwise the CPU and the best adapter.
    #[arg(long, value_delimiter = ',')]
    backend: Vec<Backend>,
    /// The tables; several with commas. Otherwise all.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Table>,
    /// The most samples of a plan.
    #[arg(long, default_value_t = 1 << 20)]
    most: usize,
    /// `cargo bench` adds it.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    /// Time per step of a rollout by K, and memory.
    Steps,
    /// One thread, and several. CPU only.
    Threads,
    /// A small plan beside an empty round trip.
    Latency,
    /// A plan that solves for its temperature beside one that is given it.
    Temperature,
    /// Each stage by K and T.
    Stages,
    /// From a model to its first plan. Adapters only.
    Start,
    /// The arithmetic of a step beside the time that it takes. CPU only.
    Floor,
}

const T: usize = 100;
const FEWEST: usize = 4096;

fn main() -> Result<()> {
    // SAFETY: there is no other thread yet. Drivers keep compiled kernels on disk; here they should be compiled.
    unsafe {
        std::env::set_var("MESA_SHADER_CACHE_DISABLE", "true");
        std::env::set_var("__GL_SHADER_DISK_CACHE", "0");
    }
    let arguments = Arguments::parse();
    let engines = match &arguments.backend[..] {
        [] => std::iter::once(common::cpu()).chain(common::adapter()).collect(),
        named => named.iter().map(|backend| common::engine(*backend)).collect::<Result<Vec<_>, _>>()?,
    };
    let wanted = |table| arguments.only.is_empty() || arguments.only.contains(&table);
    let samples: Vec<usize> = (0..).map(|i| FEWEST << i).take_while(|samples| *samples <= arguments.most).collect();
    if samples.is_empty() {
        bail!("--most {} is below {FEWEST}", arguments.most);
    }
    for engine in &engines {
        heading(engine);
        let cpu = engine.backend() == Backend::Cpu;
        if wanted(Table::Steps) {
            steps(engine, &samples);
        }
        if wanted(Table::Threads) && cpu {
            threads(engine, &samples)?;
        }
        if wanted(Table::Latency) {
            latency(engine)?;
        }
        if wanted(Table::Temperature) {
            temperature(engine, arguments.most);
        }
        if wanted(Table::Stages) {
            stages(&common::in_stages(engine)?, arguments.most);
        }
        if wanted(Table::Start) && !cpu {
            start(engine)?;
        }
        if wanted(Table::Floor) && cpu {
            floor(engine)?;
        }
    }
    Ok(())
}

/// Prints the device, its driver, and the machine.
fn heading(engine: &Engine) {
    let name = engine.name();
    let adapter =
        Engine::adapters().into_iter().find(|adapter| format!("{} on {}", adapter.name, adapter.interface) == name);
    let driver = adapter.map_or_else(String::new, |adapter| format!(", {}", adapter.driver));
    println!("gibbs {}, {}: {name}{driver}", env!("CARGO_PKG_VERSION"), engine.backend());
}

/// Prints right-aligned columns, each as wide as its widest cell.
fn print(title: &str, head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    println!("\n{title}");
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<_> = cells.enumerate().map(|(column, cell)| format!("{cell:>0$}", width(column))).collect();
        println!("  {}", cells.join("  "));
    };
    line(&mut head.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}

fn milliseconds(time: impl Into<Option<Duration>>) -> String {
    // Prints a dash where the device has no timestamps.
    time.into().map_or("–".into(), |time| format!("{:.4}", 1e3 * time.as_secs_f64()))
}

/// Returns the medians of rollout, weighing, mean, step (where a call has such stages), and the whole plan, over half a
/// second of plans, or five plans if that is longer. Half a second of plans runs first, to warm up driver and clocks.
fn measure(plan: &mut Plan) -> [Option<Duration>; 5] {
    let clock = Instant::now();
    plan();
    while clock.elapsed() < Duration::from_millis(500) {
        plan();
    }
    let mut times = [const { Vec::new() }; 5];
    let clock = Instant::now();
    while times[4].len() < 5 || (times[4].len() < 1000 && clock.elapsed() < Duration::from_millis(500)) {
        let timing = plan();
        let stages = [timing.rollout, timing.weigh, timing.mean, timing.step, Some(timing.total)];
        times.iter_mut().zip(stages).for_each(|(times, stage)| times.extend(stage));
    }
    times.map(|times| (!times.is_empty()).then(|| median(times)))
}

/// Returns the resident memory of this process in bytes, on Linux.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kilobytes| 1024.0 * kilobytes)
}

fn steps(engine: &Engine, samples: &[usize]) {
    // Allocates threads and pipelines first, so that they are not counted as memory of the rows.
    cart_pole(engine, 128, T)();
    let mut rows = Vec::new();
    let mut first = None;
    for &count in samples {
        let before = resident();
        let mut plan = cart_pole(engine, count, T);
        let [.., whole] = measure(&mut plan);
        let per_step = |time: Duration| 1e9 * time.as_secs_f64() / (count * T) as f64;
        let whole = whole.map_or(f64::NAN, per_step);
        let relative = whole / *first.get_or_insert(whole);
        let kept = match engine.backend() {
            // Device memory is not part of the process: computed from the sizes of scores, log-weights and partial
            // means.
            Backend::Gpu => Some((16 * count + 4 * (count.div_ceil(1024) + 1) * (8 + T)) as f64),
            _ => before.zip(resident()).map(|(before, after)| (after - before).max(0.0)),
        };
        rows.push(vec![
            count.to_string(),
            format!("{whole:.4}"),
            format!("{relative:.2}"),
            kept.map_or("–".into(), |bytes| format!("{:.1}", bytes / count as f64)),
        ]);
    }
    let head = ["K", "plan", "relative", "bytes a row"];
    print(&format!("nanoseconds per step of a rollout, T = {T}; memory that a row takes"), &head, &rows);
}

/// Measures 1, 2, 4, … threads, and all of them.
fn threads(engine: &Engine, samples: &[usize]) -> Result<()> {
    let all = std::thread::available_parallelism()?.get();
    let mut counts: Vec<usize> = (0..).map(|i| 1 << i).take_while(|count| *count < all).collect();
    counts.push(all);
    let pools = counts.iter().map(|count| rayon::ThreadPoolBuilder::new().num_threads(*count).build());
    let pools = pools.collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::new();
    for count in [128, 1024].into_iter().chain(samples.iter().copied()) {
        let time = |pool: &rayon::ThreadPool| pool.install(|| measure(&mut cart_pole(engine, count, T))[4]);
        let times: Vec<Duration> = pools.iter().filter_map(time).collect();
        let gain = times[0].as_secs_f64() / times[times.len() - 1].as_secs_f64();
        let cells = times.iter().map(|time| milliseconds(*time));
        rows.push([count.to_string()].into_iter().chain(cells).chain([format!("{gain:.2}")]).collect());
    }
    let names: Vec<String> = counts.iter().map(|count| count.to_string()).collect();
    let head: Vec<&str> = ["K"].into_iter().chain(names.iter().map(String::as_str)).chain(["gain"]).collect();
    print(&format!("milliseconds a plan by threads, T = {T}"), &head, &rows);
    Ok(())
}

fn latency(engine: &Engine) -> Result<()> {
    const CALLS: usize = 1000;
    let row = |name: &str, mut times: Vec<Duration>| {
        times.sort();
        let at = |share: f64| milliseconds(times[(share * (CALLS - 1) as f64) as usize]);
        (times[CALLS / 2], vec![name.into(), at(0.0), at(0.5), at(0.9), at(0.99), at(1.0)])
    };
    let mut plan = cart_pole(engine, 128, 20);
    for _ in 0..20 {
        plan();
    }
    let (small, plan_at_once) = row("plan, 128 × 20", (0..CALLS).map(|_| plan().total).collect());
    // Paced like a control loop: caches get cold and threads go to sleep in between.
    let rested = (0..CALLS).map(|_| {
        std::thread::sleep(Duration::from_millis(5));
        plan().total
    });
    let mut rows = vec![plan_at_once, row("the same, 5 ms after the last", rested.collect()).1];
    let mut ratio = String::new();
    if engine.backend() != Backend::Cpu {
        let (empty, trips) =
            row("empty round trip", (0..CALLS).map(|_| engine.round_trip()).collect::<Result<_, _>>()?);
        rows.push(trips);
        ratio = format!("; the plan is {:.2} round trips", small.as_secs_f64() / empty.as_secs_f64());
    }
    let title = format!("milliseconds of {CALLS} calls{ratio}");
    print(&title, &["", "least", "median", "90 %", "99 %", "most"], &rows);
    Ok(())
}

/// Compares a given temperature with one that is solved for, at an effective sample size of a tenth of the rows.
fn temperature(engine: &Engine, most: usize) {
    let mut rows = Vec::new();
    // A software adapter refuses to search 2²⁰ rows, since it would end the loops early.
    let most = if engine.backend() == Backend::Software { most.min(65536) } else { most };
    for samples in [128, 1024, 8192, 65536, 1 << 20].into_iter().filter(|samples| *samples <= most) {
        let mut cells = vec![samples.to_string()];
        for horizon in [20, T] {
            let [given, found] =
                common::sharp_cart_poles(engine, samples, horizon).map(|mut plan| measure(&mut plan)[4]);
            let ratio = found.zip(given).map(|(found, given)| found.as_secs_f64() / given.as_secs_f64());
            cells.extend([given, found].map(milliseconds));
            cells.push(ratio.map_or("–".into(), |ratio| format!("{ratio:.2}")));
        }
        rows.push(cells);
    }
    let long = format!("T = {T}");
    let head = ["K", "T = 20", "found", "ratio", &long, "found", "ratio"];
    print("milliseconds a plan that is given its temperature, and of one that finds the same", &head, &rows);
}

fn stages(engine: &Engine, most: usize) {
    let mut rows = Vec::new();
    for samples in [1024, 8192, 65536, 1 << 20].into_iter().filter(|samples| *samples <= most) {
        for horizon in [16, 50, 100, 200] {
            let times = measure(&mut cart_pole(engine, samples, horizon));
            rows.push([samples.to_string(), horizon.to_string()].into_iter().chain(times.map(milliseconds)).collect());
        }
    }
    let head = ["K", "T", "rollout", "weigh", "mean", "step", "plan"];
    print(
        "milliseconds of each stage of a call that keeps them apart, by the device's clock, and of that call to its caller",
        &head,
        &rows,
    );
}

/// Builds a controller on an engine and, if requested, plans with it. Returns both durations.
type Start = fn(&Engine, bool) -> Result<[Duration; 2]>;

fn start_of<const N: usize, const M: usize, D: Model<N, M>>(
    engine: &Engine,
    plans: bool,
    model: D,
    state: [f32; N],
) -> Result<[Duration; 2]> {
    let clock = Instant::now();
    let mut mppi = gibbs::Mppi::new(engine, model, MppiOptions::default())?;
    let built = clock.elapsed();
    let clock = Instant::now();
    if plans {
        mppi.plan(&state)?;
    }
    Ok([built, clock.elapsed()])
}

const MODELS: [(&str, Start); 8] = [
    ("CartPole", |engine, plans| start_of(engine, plans, CartPole::default(), [0.1; 4])),
    ("Pendulum", |engine, plans| start_of(engine, plans, Pendulum::default(), [0.1; 2])),
    ("DoubleIntegrator", |engine, plans| start_of(engine, plans, DoubleIntegrator::default(), [0.1; 4])),
    ("Unicycle", |engine, plans| start_of(engine, plans, Unicycle::default(), [0.1; 3])),
    ("DifferentialDrive", |engine, plans| start_of(engine, plans, DifferentialDrive::default(), [0.1; 3])),
    ("Bicycle", |engine, plans| start_of(engine, plans, Bicycle::default(), [0.1; 4])),
    ("PlanarQuadrotor", |engine, plans| start_of(engine, plans, PlanarQuadrotor::default(), [0.1; 6])),
    ("Quadrotor", |engine, plans| start_of(engine, plans, Quadrotor::default(), Quadrotor::LEVEL)),
];

/// Builds each model on ten new engines, the last of which also plans: medians, except for the first plan. Then builds
/// it once more on the last engine, which caches its kernels.
fn start(engine: &Engine) -> Result<()> {
    let mut rows = Vec::new();
    for (name, start) in MODELS {
        let (mut opened, mut built) = (Vec::new(), Vec::new());
        let mut open = || -> Result<Engine> {
            let clock = Instant::now();
            let fresh = Engine::with_options(engine.options().clone())?;
            opened.push(clock.elapsed());
            Ok(fresh)
        };
        for _ in 1..10 {
            built.push(start(&open()?, false)?[0]);
        }
        let last = open()?;
        let [build, planned] = start(&last, true)?;
        built.push(build);
        let [again, _] = start(&last, false)?;
        let (opened, built) = (median(opened), median(built));
        let cells = [opened, built, planned, built + planned, again].map(milliseconds);
        rows.push([name.to_owned()].into_iter().chain(cells).collect());
    }
    let head = ["", "open the device", "build", "first plan", "model to plan", "build another"];
    print("milliseconds from a model to its first plan, drivers' caches on disk switched off", &head, &rows);
    Ok(())
}

/// The vector throughput of this core without dependencies, in nanoseconds per instruction.
struct Core {
    /// Products only.
    product: f64,
    /// A mixture of all kinds.
    any: f64,
    /// A cycle: the latency of a dependent integer addition or logic operation. (With wide registers a core may have a
    /// slower clock.)
    cycle: f64,
}

impl Core {
    const TURNS: usize = 200_000;

    fn measure() -> Self {
        // The minimum of several runs, since this machine may be busy.
        let least = |time: fn() -> f64| (0..50).map(|_| time()).fold(f64::INFINITY, f64::min);
        Self {
            product: least(|| Arch::new().dispatch(Products)),
            any: least(|| Arch::new().dispatch(Mixture)),
            cycle: least(|| Arch::new().dispatch(Waiting)),
        }
    }

    /// A lower bound on the time of a step.
    fn least(&self, step: &OpCount) -> f64 {
        (step.total() * self.any).max((step.multiply + step.product) * self.product)
    }
}

/// Copies a value N times, hidden from the optimizer.
fn hidden<T: Copy, const N: usize>(value: T) -> [T; N] {
    [value; N].map(std::hint::black_box)
}

/// Twelve independent chains of products.
struct Products;

impl WithSimd for Products {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let ([half], mut all) = (hidden(simd.splat_f32s(0.5)), hidden::<_, 12>(simd.splat_f32s(1.0)));
        let clock = Instant::now();
        for _ in 0..Core::TURNS {
            for product in &mut all {
                *product = simd.mul_add_e_f32s(*product, half, half);
            }
        }
        std::hint::black_box(all);
        1e9 * clock.elapsed().as_secs_f64() / (Core::TURNS * 12) as f64
    }
}

/// One dependent chain of integer operations.
struct Waiting;

impl WithSimd for Waiting {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let [mut word, mask, step] =
            [0x1234_5678, 0x5555_5555, 3].map(|bits| simd.splat_u32s(bits)).map(std::hint::black_box);
        let clock = Instant::now();
        for _ in 0..Core::TURNS {
            for _ in 0..8 {
                word = simd.add_u32s(simd.xor_u32s(word, mask), step);
            }
        }
        std::hint::black_box(word);
        1e9 * clock.elapsed().as_secs_f64() / (Core::TURNS * 16) as f64
    }
}

/// Six products, four sums and six integer operations, in as many chains as there are registers for: sixteen
/// instructions in four cycles, if the core has enough ports.
struct Mixture;

impl WithSimd for Mixture {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let ([half], [mask], [step]) =
            (hidden(simd.splat_f32s(0.5)), hidden(simd.splat_u32s(0x5555_5555)), hidden(simd.splat_u32s(3)));
        let (mut products, mut sums) = (hidden::<_, 6>(half), hidden::<_, 4>(half));
        let mut words = hidden::<_, 3>(step);
        let clock = Instant::now();
        for _ in 0..Core::TURNS {
            for product in &mut products {
                *product = simd.mul_add_e_f32s(*product, half, half);
            }
            for sum in &mut sums {
                *sum = simd.add_f32s(*sum, half);
            }
            for word in &mut words {
                *word = simd.add_u32s(simd.xor_u32s(*word, mask), step);
            }
        }
        std::hint::black_box((products, sums, words));
        1e9 * clock.elapsed().as_secs_f64() / (Core::TURNS * 16) as f64
    }
}

/// Compares the arithmetic of a step with its time on one thread.
fn floor(engine: &Engine) -> Result<()> {
    const K: usize = 1024;
    let lanes = gibbs::check::lanes(engine) as f64;
    let core = Core::measure();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let mut rows = Vec::new();
    for (task, step) in common::TASKS.iter().zip(common::op_count()) {
        // A minimum as well.
        let whole = pool.install(|| {
            let mut plan = (task.on)(engine, K, T);
            (0..1000).map(|_| plan().total).min().unwrap_or_default()
        });
        let time = 1e9 * whole.as_secs_f64() * lanes / (K * T) as f64;
        let least = core.least(&step);
        let counts = [step.multiply, step.add, step.divide, step.product, step.integer, step.select, step.sample];
        let cells = counts.into_iter().chain([step.total()]).map(|count| format!("{count:.1}"));
        let found = [time, step.total() * core.cycle / time, least, time / least].map(|cell| format!("{cell:.2}"));
        rows.push([task.name.to_owned()].into_iter().chain(cells).chain(found).collect());
    }
    let head = [
        "", "multiply", "add", "divide", "product", "integer", "select", "sample", "all", "ns", "a cycle", "least",
        "ratio",
    ];
    let [any, product] = [core.any, core.product].map(|time| core.cycle / time);
    let title = format!(
        "vector instructions of a step of {lanes} rollouts, and nanoseconds of a whole plan, K = {K}, T = {T}; this core does {any:.1} \
         instructions a cycle, {product:.1} of them products, at {:.2} GHz",
        1.0 / core.cycle
    );
    print(&title, &head, &rows);
    Ok(())
}
