//! A fleet against as many planners, which plan one after the other: the same problems, the same rows.
//!
//! ```sh
//! cargo bench --bench fleet                # the CPU, and an adapter if there is one
//! cargo bench --bench fleet -- cpu         # one of them; any part of a backend's name will do
//! ```
//!
//! Calls of the two alternate, so that both meet the same load of the machine. The figures are the median of all calls
//! and the least of them, which is nearer to the truth while others use the machine.

mod common;

use std::time::{Duration, Instant};

use common::{SWINGING, cart_pole_options, median};
use gibbs::models::CartPole;
use gibbs::{Engine, Fleet, Mppi};

/// B, K and T.
const SIZES: [(usize, usize, usize); 6] =
    [(64, 1024, 50), (64, 256, 50), (64, 64, 50), (1024, 64, 50), (3, 8192, 50), (8, 8192, 100)];

/// The number of calls of each: at most so many, and fewer if they take longer than this, but no fewer than the least.
const MAX_CALLS: usize = 100;
const MIN_CALLS: usize = 5;
const LONGEST: Duration = Duration::from_secs(5);

/// Cart-poles that swing differently.
fn states(count: usize) -> Vec<[f32; 4]> {
    let [p, v, angle, spin] = SWINGING;
    (0..count).map(|i| [p, v, angle + 0.5 * (i as f32 / count as f32), spin]).collect()
}

fn compare(engine: &Engine, (problems, samples, horizon): (usize, usize, usize)) {
    let options = cart_pole_options(samples, horizon);
    let states = states(problems);
    let mut fleet =
        Fleet::new(engine, CartPole::default(), options.clone(), problems).expect("these options are valid");
    let planner = || Mppi::new(engine, CartPole::default(), options.clone()).expect("these options are valid");
    let mut planners: Vec<_> = (0..problems).map(|_| planner()).collect();
    let [mut together, mut apart] = [(); 2].map(|()| Vec::new());
    let timed = |call: &mut dyn FnMut()| {
        let clock = Instant::now();
        call();
        clock.elapsed()
    };
    let started = Instant::now();
    while together.len() < MIN_CALLS || (together.len() < MAX_CALLS && started.elapsed() < LONGEST) {
        together.push(timed(&mut || {
            let plans = fleet.plan(&states).expect("the device is there");
            assert!(plans.iter().all(|plan| plan.is_ok()));
        }));
        apart.push(timed(&mut || {
            for (planner, state) in planners.iter_mut().zip(&states) {
                planner.plan(state).expect("a rollout of finite cost");
            }
        }));
    }
    let figures = |times: Vec<Duration>| [median(times.clone()), times.into_iter().min().unwrap_or_default()];
    let [[median, least], [of_planners, least_of_planners]] = [together, apart].map(figures);
    println!(
        "{:>8} {problems:>5} × {samples} × {horizon}: fleet {median:.2?} ({least:.2?}), \
         planners {of_planners:.2?} ({least_of_planners:.2?}), ratio {:.2} ({:.2})",
        engine.backend(),
        median.as_secs_f64() / of_planners.as_secs_f64(),
        least.as_secs_f64() / least_of_planners.as_secs_f64()
    );
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    println!("problems × samples × horizon: median (least)");
    for engine in std::iter::once(common::cpu()).chain(common::adapter()) {
        let name = engine.backend().to_string().to_lowercase();
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(&part.to_lowercase())) {
            continue;
        }
        println!("{}", engine.name());
        SIZES.into_iter().for_each(|size| compare(&engine, size));
    }
}
