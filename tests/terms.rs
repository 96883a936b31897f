//! Terms of a cost: they sum to it, along plans and over samples, and cost nothing in kernels.

mod common;

use common::{cpu, engines};
use gibbs::control::{Algorithm, CostNormalization, Terms};
use gibbs::sampling::{ReverseProcess, Schedule};
use gibbs::{
    DiffusionOptions, Fleet, Grid, Model, Mppi, MppiOptions, PlanError, Planner, Real, StepContext, Task, Temperature,
    Weighting, check,
};

/// A point on a line (state: position, speed; control: acceleration) that should go to parameter 0, over a field, and
/// is done beyond 3. Its terms have names if `NAMED`.
#[derive(Clone, Copy)]
struct Line<const NAMED: bool>;

impl<const NAMED: bool> Line<NAMED> {
    #[inline(always)]
    fn term<R: Real>(at: &StepContext<R>, name: &'static str, value: R) -> R {
        if NAMED { at.term(name, value) } else { value }
    }
}

impl<const NAMED: bool> Model<2, 1> for Line<NAMED> {
    #[inline(always)]
    fn step<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> [R; 2] {
        // Not part of the cost, and so not recorded.
        let v = Self::term(at, "speed", v + u * at.dt());
        [p + v * at.dt(), v]
    }
    #[inline(always)]
    fn cost<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2], [u]: [R; 1]) -> R {
        let goal = Self::term(at, "goal", (p - at.param(0)).square());
        let terrain = Self::term(at, "terrain", at.sample(0, p, v).max(0.0));
        // A name used twice.
        let effort = Self::term(at, "effort", u.square() * 0.01) + Self::term(at, "effort", u.abs() * 0.02);
        goal + terrain + effort + v.square() * 0.125
    }
    #[inline(always)]
    fn terminal<R: Real>(&self, at: &StepContext<R>, [p, v]: [R; 2]) -> R {
        Self::term(at, "end", (p - at.param(0)).square() * 4.0) + v
    }
    #[inline(always)]
    fn done<R: Real>(&self, at: &StepContext<R>, [p, _]: [R; 2]) -> R::Mask {
        Self::term(at, "done", p).gt(3.0)
    }
}

/// The four terms and the rest of a step's cost, computed by hand; the last is the rest.
fn by_hand(goal: f32, [p, v]: [f32; 2], u: f32) -> [f64; 4] {
    let [goal, p, v, u] = [goal, p, v, u].map(f64::from);
    [(p - goal).powi(2), (0.25 * p).max(0.0), 0.01 * u * u + 0.02 * u.abs(), 0.125 * v * v]
}

/// The totals by hand of goal, terrain, effort, end and the rest, along states.
fn totals(goal: f32, states: &[[f32; 2]], controls: &[[f32; 1]]) -> [f64; 5] {
    let mut totals = [0.0; 5];
    for (t, [u]) in controls.iter().enumerate() {
        if states[t][0] > 3.0 {
            break;
        }
        let [position, terrain, effort, rest] = by_hand(goal, states[t + 1], *u);
        totals = [totals[0] + position, totals[1] + terrain, totals[2] + effort, 0.0, totals[4] + rest];
    }
    let [p, v] = states[states.len() - 1].map(f64::from);
    [totals[0], totals[1], totals[2], 4.0 * (p - f64::from(goal)).powi(2), totals[4] + v]
}

const NAMES: [&str; 4] = ["goal", "terrain", "effort", "end"];
const HORIZON: usize = 12;

fn task(dt: f32, horizon: usize) -> Task<1> {
    // The field is x/4 at (x, y), between -8 and 8.
    let field = Grid::from_fn(65, 65, 0.25, [-8.0, -8.0], |x, _| 0.25 * x).unwrap();
    Task { horizon, dt, params: vec![2.0], fields: vec![field], ..Default::default() }
}

fn options() -> MppiOptions<1> {
    let weighting = Weighting::Exponential(Temperature::EffectiveSamples(0.2));
    MppiOptions { task: task(0.25, HORIZON), samples: 200, weighting, ..Default::default() }
}

fn near(found: f32, expected: f64, scale: f64, what: &str) {
    assert!((f64::from(found) - expected).abs() <= 3e-5 * (1.0 + scale), "{what}: {found} for {expected}");
}

/// The terms, in order, are those computed by hand, times a factor, and sum to the cost.
fn agree(terms: &Terms, expected: [f64; 5], factor: f64) {
    let names: Vec<_> = terms.iter().map(|(name, _)| name).collect();
    assert_eq!(names, NAMES);
    let scale = expected.iter().map(|v| v.abs()).sum::<f64>() * factor;
    for (i, (name, total)) in terms.iter().enumerate() {
        near(total, expected[i] * factor, scale, name);
        assert_eq!(terms.get(name).unwrap(), total);
        let steps: f64 = terms.steps(name).unwrap().iter().map(|v| f64::from(*v)).sum();
        near(total, steps, scale, name);
    }
    near(terms.rest(), expected[4] * factor, scale, "rest");
    near(terms.rest(), terms.rest_steps().iter().map(|v| f64::from(*v)).sum(), scale, "rest by steps");
    let sum: f64 = terms.iter().map(|(_, total)| f64::from(total)).sum::<f64>() + f64::from(terms.rest());
    near(terms.cost(), sum, scale, "cost");
}

#[test]
fn terms_of_a_known_trajectory_are_known_and_stop_when_it_is_done() {
    let mut options = options();
    options.task = task(1.0, HORIZON);
    let mppi = Mppi::new(&cpu(), Line::<true>, options).unwrap();
    // Speeds 1, 1, 2, …; positions 1, 2, 4, where it is done.
    let controls = [[1.0], [0.0], [1.0], [5.0], [5.0]];
    let terms = mppi.terms_of(&[0.0, 0.0], &controls).unwrap();
    assert_eq!(terms.iter().map(|(name, _)| name).collect::<Vec<_>>(), NAMES);
    assert_eq!(terms.steps("goal").unwrap(), [1.0, 0.0, 4.0, 0.0, 0.0, 0.0]);
    assert_eq!(terms.steps("terrain").unwrap(), [0.25, 0.5, 1.0, 0.0, 0.0, 0.0]);
    assert_eq!(terms.steps("end").unwrap(), [0.0, 0.0, 0.0, 0.0, 0.0, 16.0]);
    assert_eq!(terms.rest_steps()[3..], [0.0, 0.0, 2.0]);
    let near = |a: f32, b: f32| (a - b).abs() < 1e-6;
    let (effort, rest) = (terms.steps("effort").unwrap(), terms.rest_steps());
    assert!(
        near(effort[0], 0.03) && effort[1] == 0.0 && near(effort[2], 0.03) && effort[3..] == [0.0; 3],
        "{effort:?}"
    );
    assert!(near(rest[0], 0.125) && near(rest[1], 0.125) && near(rest[2], 0.5), "{rest:?}");
    assert_eq!(terms.get("goal").unwrap(), 5.0);
    assert_eq!(terms.cost(), mppi.simulate(&[0.0, 0.0], &controls).unwrap().1);

    // It is done at once.
    let terms = mppi.terms_of(&[5.0, 0.25], &controls).unwrap();
    assert_eq!((terms.iter().collect::<Vec<_>>(), terms.rest()), (vec![("end", 36.0)], 0.25));
    assert_eq!(mppi.terms_of(&[0.0, 0.0], &[]).unwrap().steps("end").unwrap(), [16.0]);
    assert_eq!(mppi.terms_of(&[f32::NAN, 0.0], &controls).unwrap_err().field, "state");
    assert_eq!(mppi.terms_of(&[0.0, 0.0], &[[f32::INFINITY]]).unwrap_err().field, "controls");
}

fn terms_are_those_of_the_plan<A: Algorithm<1>>(options: A, factor: f64) {
    for engine in engines() {
        let mut planner = Planner::new(&engine, Line::<true>, options.clone()).unwrap();
        for x in [[0.0, 0.5], [2.5, 1.0]] {
            let plan = planner.plan(&x).unwrap().clone();
            let terms = planner.terms().unwrap();
            assert_eq!(terms.cost(), plan.cost(), "{}", engine.name());
            agree(&terms, totals(2.0, plan.states(), plan.controls()), factor);
            let same = planner.terms_of(&x, plan.controls()).unwrap();
            for ((name, total), (_, same)) in terms.iter().zip(same.iter()) {
                near(total, f64::from(same), 1.0, name);
            }
            planner.shift(1);
            assert_eq!(planner.terms().unwrap(), terms, "they are those of the plan that was returned");
        }
    }
}

#[test]
fn terms_of_a_plan_sum_to_its_cost() {
    terms_are_those_of_the_plan(options(), 1.0);
    let cost_normalization = CostNormalization::HorizonAverage;
    terms_are_those_of_the_plan(MppiOptions { cost_normalization, ..options() }, 1.0 / HORIZON as f64);
    // Diffusion reports averages, too.
    let process = ReverseProcess { schedule: Schedule::annealed(3, 0.5), ..Default::default() };
    let diffusion =
        DiffusionOptions { task: task(0.25, HORIZON), samples: 100, process, chains: 3, ..Default::default() };
    terms_are_those_of_the_plan(diffusion, 1.0 / HORIZON as f64);
}

#[test]
fn statistics_are_those_of_the_rows() {
    for engine in engines() {
        let mut mppi = Mppi::new(&engine, Line::<true>, options()).unwrap();
        mppi.plan(&[1.5, 1.0]).unwrap();
        let samples = mppi.samples().unwrap();
        let weights = samples.weights();
        let (mut sums, mut least, mut weighted) = ([0.0; 5], [f64::INFINITY; 5], [0.0; 5]);
        for k in 0..samples.len() {
            let expected = totals(2.0, &samples.states(k), &samples.controls(k));
            for i in 0..5 {
                sums[i] += expected[i] / samples.len() as f64;
                least[i] = expected[i].min(least[i]);
                weighted[i] += f64::from(weights[k]) * expected[i];
            }
            if k % 20 == 0 {
                let terms = samples.terms(k);
                agree(&terms, expected, 1.0);
                near(terms.cost(), f64::from(samples.cost(k)), expected.iter().sum(), "cost of a row");
                assert_eq!(samples.term(k, "terrain").unwrap(), terms.get("terrain").unwrap());
            }
        }
        let statistics = samples.term_statistics();
        assert_eq!(statistics.iter().map(|(name, _)| name).collect::<Vec<_>>(), NAMES);
        let all = NAMES.map(|name| statistics.get(name).unwrap()).into_iter().chain([statistics.rest()]);
        for (i, found) in all.enumerate() {
            near(found.mean, sums[i], sums[i].abs(), "mean");
            near(found.min, least[i], least[i].abs(), "least");
            near(found.weighted_mean, weighted[i], weighted[i].abs(), "weighted mean");
        }
        near(statistics.cost().mean, sums.iter().sum(), 10.0, "mean cost");
        near(statistics.cost().weighted_mean, weighted.iter().sum(), 10.0, "weighted cost");
        assert_eq!(statistics.get("walls").unwrap_err().field, "name");
    }
}

#[test]
fn every_problem_of_a_fleet_has_its_own_terms() {
    for engine in engines() {
        let mut fleet = Fleet::new(&engine, Line::<true>, options(), 2).unwrap();
        fleet.set_params(1, &[-1.0]).unwrap();
        let plans = fleet.plan(&[[0.5, 0.0], [0.0, 0.5]]).unwrap();
        let plans = [0, 1].map(|i| plans.get(i).unwrap().clone());
        for (i, (plan, goal)) in plans.iter().zip([2.0, -1.0]).enumerate() {
            let terms = fleet.terms(i).unwrap();
            assert_eq!(terms.cost(), plan.cost());
            agree(&terms, totals(goal, plan.states(), plan.controls()), 1.0);
            assert_eq!(fleet.terms_of(i, &plan.states()[0], plan.controls()).unwrap(), terms);
            let samples = fleet.samples(i).unwrap();
            agree(&samples.terms(7), totals(goal, &samples.states(7), &samples.controls(7)), 1.0);
        }
        assert!(matches!(fleet.terms(2), Err(PlanError::Invalid(error)) if error.field == "problem"));
        assert_eq!(fleet.terms_of(2, &[0.0; 2], &[]).unwrap_err().field, "problem");
    }
}

#[test]
fn names_and_calls_that_there_are_not_are_refused() {
    let mut mppi = Mppi::new(&cpu(), Line::<true>, options()).unwrap();
    let refused = |mppi: &Mppi<2, 1, Line<true>>| {
        let error = mppi.terms().unwrap_err().to_string();
        assert_eq!(error, "`terms` is not there, but must be preceded by a call of plan that succeeded");
    };
    refused(&mppi);
    mppi.plan(&[0.0, 0.0]).unwrap();
    let terms = mppi.terms().unwrap();
    let message = "`name` is \"wall\", but must be one of \"goal\", \"terrain\", \"effort\", \"end\"";
    assert_eq!(terms.get("wall").unwrap_err().to_string(), message);
    assert_eq!(terms.steps("wall").unwrap_err().to_string(), message);
    assert_eq!(mppi.samples().unwrap().term(0, "wall").unwrap_err().to_string(), message);
    mppi.set_params(&[1.0]).unwrap();
    refused(&mppi);
    mppi.start(&[0.0, 0.0]).unwrap();
    assert_eq!(mppi.terms(), Err(PlanError::Busy));
    mppi.finish().unwrap();
    assert!(mppi.terms().is_ok());

    let mut plain = Mppi::new(&cpu(), Line::<false>, options()).unwrap();
    let cost = plain.plan(&[0.0, 0.0]).unwrap().cost();
    let terms = plain.terms().unwrap();
    assert_eq!((terms.iter().len(), terms.rest()), (0, cost));
    let message = "`name` is \"goal\", but must be the name of a term, and the model's cost names none";
    assert_eq!(terms.get("goal").unwrap_err().to_string(), message);
}

#[test]
fn an_infinite_cost_is_that_of_its_term() {
    let mppi = Mppi::new(&cpu(), Line::<true>, options()).unwrap();
    let terms = mppi.terms_of(&[-1e25, 0.0], &[[0.0]]).unwrap();
    assert_eq!(
        (terms.cost(), terms.get("goal").unwrap(), terms.get("end").unwrap()),
        (f32::INFINITY, f32::INFINITY, f32::INFINITY)
    );
    assert_eq!((terms.get("terrain").unwrap(), terms.rest()), (0.0, 0.0));
}

#[test]
fn names_do_not_change_kernels() {
    let (named, plain) =
        (Mppi::new(&cpu(), Line::<true>, options()).unwrap(), Mppi::new(&cpu(), Line::<false>, options()).unwrap());
    assert!(named.wgsl().0.contains("fn "));
    assert_eq!(named.wgsl(), plain.wgsl());
    let field = gibbs::FieldSet::new(&task(0.25, HORIZON).fields);
    let at = StepContext::new(0, 0.25).with_params(&[2.0]).with_fields(&field);
    let [with, without] =
        [check::op_count(&Line::<true>, &at, [0.0; 2]), check::op_count(&Line::<false>, &at, [0.0; 2])];
    assert_eq!(format!("{with:?}"), format!("{without:?}"));
    for engine in engines() {
        let plan = |named: bool| {
            let x = [0.0, 0.5];
            if named {
                Mppi::new(&engine, Line::<true>, options()).unwrap().plan(&x).unwrap().controls().to_vec()
            } else {
                Mppi::new(&engine, Line::<false>, options()).unwrap().plan(&x).unwrap().controls().to_vec()
            }
        };
        assert_eq!(plan(true), plan(false), "{}", engine.name());
    }
}
