//! A `Fleet` of either planner, whose problems do what planners of their own do.

use gibbs::{DiffusionOptions, Engine, Fleet, MppiOptions, PlanError, Planner};

use crate::draw::{Draw, Probe};
use crate::planners::{Options, Probed, checked};
use crate::{bits, cpus, fuzz};

/// All that a caller can see of a problem between calls.
fn seen<A: Options>(fleet: &Fleet<3, 2, Probe, A>) -> Vec<(u64, Vec<u32>, Vec<u32>)> {
    let of = |i| {
        let controls = fleet.controls(i).expect("there is such a problem").as_flattened();
        let params = fleet.params(i).expect("there is such a problem");
        (fleet.seed(i).expect("there is such a problem"), bits(controls), bits(params))
    };
    (0..fleet.len()).map(of).collect()
}

fn case<A: Options>(draw: &mut Draw, engine: &Engine) -> bool {
    let (options, problems) = (A::draw(draw), 1 + draw.index(4));
    let fleet = Fleet::new(engine, Probe, options.clone(), problems);
    let made: Result<Vec<Probed<A>>, _> = (0..problems).map(|_| Planner::new(engine, Probe, options.clone())).collect();
    let (Ok(mut fleet), Ok(mut planners)) = (fleet, made) else {
        assert!(Planner::new(engine, Probe, options).is_err(), "a fleet takes what a planner takes");
        return false;
    };
    for (i, planner) in planners.iter_mut().enumerate() {
        planner.reseed(fleet.seed(i).expect("there is such a problem"));
    }
    for _ in 0..10 {
        draw.change_mood();
        let before = seen(&fleet);
        let i = draw.index(problems);
        let planner = &mut planners[i];
        let outcomes = match draw.index(13) {
            0..=3 => {
                let states: Vec<[f32; 3]> = (0..problems).map(|_| draw.array(-2.0, 2.0)).collect();
                let shape = planner.options().shape();
                let plans = fleet.plan(&states).expect("the CPU does not fail");
                for ((plan, planner), x) in plans.iter().zip(&mut planners).zip(&states) {
                    assert_eq!(checked(plan, &shape), checked(planner.plan(x), &shape));
                }
                [Ok(()), Ok(())]
            }
            4 => {
                let steps = draw.index(30);
                planner.shift(steps);
                [fleet.shift(i, steps).map_err(|e| e.to_string()), Ok(())]
            }
            5 => {
                planner.reset();
                [fleet.reset(i).map_err(|e| e.to_string()), Ok(())]
            }
            6 => {
                let count = planner.options().shape().horizon + usize::from(draw.chance(0.05));
                let controls: Vec<[f32; 2]> = (0..count).map(|_| draw.array(-1.0, 1.0)).collect();
                [fleet.set_controls(i, &controls), planner.set_controls(&controls)]
                    .map(|r| r.map_err(|e| e.to_string()))
            }
            7 => {
                let params = draw.params();
                [fleet.set_params(i, &params), planner.set_params(&params)].map(|r| r.map_err(|e| e.to_string()))
            }
            8 => {
                let (values, columns) = draw.references();
                [fleet.set_references(i, &values, columns), planner.set_references(&values, columns)]
                    .map(|r| r.map_err(|e| e.to_string()))
            }
            // Plans that continue from what was applied depend on when that is known.
            9 | 10 if !planner.options().continues() => {
                // The fleet is changed while its call is pending, the planners after their calls.
                let states: Vec<[f32; 3]> = (0..problems).map(|_| draw.array(-2.0, 2.0)).collect();
                let (steps, params) = (draw.index(30), draw.params());
                let (shape, started) = (planner.options().shape(), fleet.start(&states));
                let expected: Vec<_> =
                    planners.iter_mut().zip(&states).map(|(planner, x)| checked(planner.plan(x), &shape)).collect();
                // Refused parameters change nothing.
                let set = [fleet.set_params(i, &params), planners[i].set_params(&params)];
                assert_eq!(set[0].is_ok(), set[1].is_ok());
                fleet.shift(i, steps).expect("there is such a problem");
                planners[i].shift(steps);
                match started {
                    Ok(()) => {
                        assert!(fleet.is_pending() && matches!(fleet.plan(&states), Err(PlanError::Busy)));
                        let plans = fleet.finish().expect("the CPU does not fail");
                        let found: Vec<_> = plans.iter().map(|plan| checked(plan, &shape)).collect();
                        assert_eq!(found, expected);
                    }
                    // No state is finite.
                    Err(error) => assert_eq!(Err(error), expected[0]),
                }
                [Ok(()), Ok(())]
            }
            11 => {
                let states: Vec<[f32; 3]> = (0..problems).map(|_| draw.array(-2.0, 2.0)).collect();
                let started = planners.iter_mut().zip(&states).map(|(planner, x)| {
                    let started = planner.start(x);
                    planner.cancel();
                    started
                });
                assert_eq!(fleet.start(&states).is_ok(), started.filter(Result::is_ok).count() > 0);
                fleet.cancel();
                assert!(fleet.poll().expect("the CPU does not fail").is_none());
                [Ok(()), Ok(())]
            }
            _ => {
                let seed = draw.seed();
                planner.reseed(seed);
                [fleet.reseed(i, seed).map_err(|e| e.to_string()), Ok(())]
            }
        };
        assert_eq!(outcomes[0], outcomes[1], "a fleet takes what a planner takes");
        if outcomes[0].is_err() {
            assert_eq!(seen(&fleet), before, "an error ({:?}) changed something", outcomes[0]);
        }
        for (i, planner) in planners.iter().enumerate() {
            assert_eq!(
                bits(fleet.controls(i).expect("it is there").as_flattened()),
                bits(planner.controls().as_flattened())
            );
        }
    }
    true
}

#[test]
fn fleet_of_mppi() {
    let [engine, _] = cpus();
    fuzz("fleet_of_mppi", 150, |draw| case::<MppiOptions<2>>(draw, &engine));
}

#[test]
fn fleet_of_diffusion() {
    let [engine, _] = cpus();
    fuzz("fleet_of_diffusion", 100, |draw| case::<DiffusionOptions<2>>(draw, &engine));
}
