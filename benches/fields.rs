//! What look-ups of fields cost: plans of a model that reads fields in several ways beside plans of one that reads
//! none.
//!
//! ```sh
//! cargo bench --bench fields            # the CPU, and an adapter if there is one
//! cargo bench --bench fields -- cpu     # one of them; any part of a backend's name will do
//! ```
//!
//! Calls of all of them alternate, so that they meet the same load of the machine. The figures are the least time of a
//! call, and how much longer that is than without a look-up, per time step of a rollout.

mod common;

use std::time::{Duration, Instant};

use gibbs::lang::Ends;
use gibbs::{Engine, Grid, Model, Mppi, MppiOptions, Noise, Real, StepContext, Task};

const SAMPLES: usize = 4096;
const HORIZON: usize = 50;
/// The calls of each.
const CALLS: usize = 30;

/// The ways to read four numbers, or one.
const NOTHING: u8 = 0;
const FOUR_ROWS: u8 = 1;
const FOUR_TABLES: u8 = 2;
const TABLE_OF_FOUR: u8 = 3;
const FOUR_GRIDS: u8 = 4;
const GRID_OF_FOUR: u8 = 5;
const ONE_GRID: u8 = 6;
const ONE_VOLUME: u8 = 7;
const VOLUME_OF_FOUR: u8 = 8;

/// A point in space with a velocity as control, whose cost is the sum of what it reads.
struct Point<const READS: u8>;

impl<const READS: u8> Model<3, 3> for Point<READS> {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [x, y, z]: [R; 3], [u, v, w]: [R; 3]) -> [R; 3] {
        [x + u * at.dt(), y + v * at.dt(), z + w * at.dt()]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, z]: [R; 3], _: [R; 3]) -> R {
        let place = x.square() + y.square() + z.square();
        let zero = R::from(0.0);
        let mut read = [zero; 4];
        // A loop, since the closure of `map` may not be inlined.
        for (field, read) in read.iter_mut().enumerate() {
            match READS {
                FOUR_ROWS => *read = at.sample(field, x, zero),
                FOUR_TABLES => *read = at.channel(field, 0, [x]),
                FOUR_GRIDS => *read = at.sample(field, x, y),
                _ => (),
            }
        }
        let read = match READS {
            NOTHING | FOUR_ROWS | FOUR_TABLES | FOUR_GRIDS => read,
            TABLE_OF_FOUR => at.look_up(0, [x]),
            GRID_OF_FOUR => at.look_up(0, [x, y]),
            ONE_GRID => [at.sample(0, x, y), zero, zero, zero],
            ONE_VOLUME => [at.channel(0, 0, [x, y, z]), zero, zero, zero],
            _ => at.look_up(0, [x, y, z]),
        };
        place + read[0] + read[1] + read[2] + read[3]
    }
}

/// The fields that a way of reading needs.
fn fields(reads: u8) -> Vec<Grid> {
    const N: usize = 256;
    let numbers = |count: usize, phase: usize| (0..count).map(|i| ((i * 7 + phase) as f32).sin()).collect::<Vec<_>>();
    let table = |phase: usize| Grid::table(0.05, -6.4, numbers(N, phase)).and_then(|it| it.with_ends(Ends::Periodic));
    let row = |phase: usize| Grid::new(N, 1, 0.05, [-6.4, -0.025], numbers(N, phase));
    let grid = |phase: usize| Grid::new(N, N, 0.05, [-6.4, -6.4], numbers(N * N, phase));
    let volume = || Grid::volume([64, 64, 32], 0.2, [-6.4, -6.4, -3.2], numbers(64 * 64 * 32, 0));
    let with_three = |field: Grid| {
        let count = field.width() * field.height() * field.depth();
        (1..4).try_fold(field, |field, phase| field.with_channel(numbers(count, phase)))
    };
    let fields = match reads {
        NOTHING => Ok(Vec::new()),
        FOUR_ROWS => (0..4).map(row).collect(),
        FOUR_TABLES => (0..4).map(table).collect(),
        TABLE_OF_FOUR => table(0).and_then(with_three).map(|field| vec![field]),
        FOUR_GRIDS => (0..4).map(grid).collect(),
        GRID_OF_FOUR => grid(0).and_then(with_three).map(|field| vec![field]),
        ONE_GRID => grid(0).map(|field| vec![field]),
        ONE_VOLUME => volume().map(|field| vec![field]),
        _ => volume().and_then(with_three).map(|field| vec![field]),
    };
    fields.expect("these fields are valid")
}

/// A call of a planner whose model reads in one way.
fn planner<const READS: u8>(engine: &Engine) -> Box<dyn FnMut()> {
    let options = MppiOptions {
        task: Task { horizon: HORIZON, dt: 0.05, fields: fields(READS), ..Default::default() },
        samples: SAMPLES,
        noise: Noise::Diagonal([2.0; 3]),
        ..Default::default()
    };
    let mut mppi = Mppi::new(engine, Point::<READS>, options).expect("these options are valid");
    Box::new(move || {
        mppi.plan(&[0.3, -0.2, 0.1]).expect("a rollout of finite cost");
    })
}

fn compare(engine: &Engine) {
    let mut ways = [
        ("nothing", planner::<NOTHING>(engine)),
        ("4 grids of one row", planner::<FOUR_ROWS>(engine)),
        ("4 periodic tables", planner::<FOUR_TABLES>(engine)),
        ("1 periodic table of 4 channels", planner::<TABLE_OF_FOUR>(engine)),
        ("4 grids", planner::<FOUR_GRIDS>(engine)),
        ("1 grid of 4 channels", planner::<GRID_OF_FOUR>(engine)),
        ("1 grid", planner::<ONE_GRID>(engine)),
        ("1 volume", planner::<ONE_VOLUME>(engine)),
        ("1 volume of 4 channels", planner::<VOLUME_OF_FOUR>(engine)),
    ]
    .map(|(name, call)| (name, call, Duration::MAX));
    for call in 0..CALLS + 2 {
        for (_, plan, least) in &mut ways {
            let clock = Instant::now();
            plan();
            if call >= 2 {
                *least = clock.elapsed().min(*least);
            }
        }
    }
    println!("{} {SAMPLES} × {HORIZON}", engine.name());
    let without = ways[0].2;
    for (name, _, least) in &ways {
        let more = (least.as_secs_f64() - without.as_secs_f64()) / (SAMPLES * HORIZON) as f64;
        println!("    {name:<32} {least:>8.2?}   {:+.2} ns a step", 1e9 * more);
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    for engine in std::iter::once(common::cpu()).chain(common::adapter()) {
        let name = engine.backend().to_string().to_lowercase();
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(&part.to_lowercase())) {
            compare(&engine);
        }
    }
}
