//! Run-time parameters by name: a struct that derives `ModelParams` against the same parameters by index, on every
//! backend, and the errors of drivers that are given too few.

mod common;

use common::{cpu, engines};
use gibbs::derivative::cost_gradient;
use gibbs::{
    BuildError, Dynamics, Fleet, InvalidValue, Model, ModelParams, Mppi, MppiOptions, Real, StepContext, Task, euler,
};

#[derive(Debug, Clone, Copy, PartialEq, ModelParams)]
struct Point<R> {
    x: R,
    y: R,
}

/// A route, whose points have weights.
#[derive(Debug, Clone, PartialEq, ModelParams)]
struct Route<const N: usize, R: Real, const M: usize> {
    mass: R,
    points: [Point<R>; N],
    weights: [[R; M]; N],
    r#final: Point<R>,
}

const ROUTE: Route<2, f32, 1> = Route {
    mass: 2.0,
    points: [Point { x: 0.3, y: -0.2 }, Point { x: 0.7, y: 0.4 }],
    weights: [[0.5], [1.5]],
    r#final: Point { x: 1.0, y: 0.1 },
};
const VALUES: [f32; 9] = [2.0, 0.3, -0.2, 0.7, 0.4, 0.5, 1.5, 1.0, 0.1];

/// A mass in the plane.
struct Named;

#[gibbs::model]
impl Dynamics<4, 2> for Named {
    fn derivative<R: Real>(&self, at: &StepContext<R>, [_, _, vx, vy]: [R; 4], [fx, fy]: [R; 2]) -> [R; 4] {
        let mass = at.params::<Route<2, R, 1>>().mass;
        [vx, vy, fx / mass, fy / mass]
    }
}

#[gibbs::model]
impl Model<4, 2> for Named {
    fn step<R: Real>(&self, at: &StepContext<R>, x: [R; 4], u: [R; 2]) -> [R; 4] {
        euler(self, at, x, u)
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, _, _]: [R; 4], _: [R; 2]) -> R {
        let route: Route<2, R, 1> = at.params();
        let mut cost = (x - route.r#final.x).square() + (y - route.r#final.y).square();
        for i in 0..2 {
            let Point { x: px, y: py } = route.points[i];
            cost += ((x - px).square() + (y - py).square()) * route.weights[i][0];
        }
        cost
    }
}

/// The same by index.
struct Indexed;

#[gibbs::model]
impl Model<4, 2> for Indexed {
    fn step<R: Real>(&self, at: &StepContext<R>, [x, y, vx, vy]: [R; 4], [fx, fy]: [R; 2]) -> [R; 4] {
        let (mass, dt) = (at.param(0), at.dt());
        [x + vx * dt, y + vy * dt, vx + fx / mass * dt, vy + fy / mass * dt]
    }
    fn cost<R: Real>(&self, at: &StepContext<R>, [x, y, _, _]: [R; 4], _: [R; 2]) -> R {
        let mut cost = (x - at.param(7)).square() + (y - at.param(8)).square();
        for i in 0..2 {
            let (px, py) = (at.param(1 + 2 * i), at.param(2 + 2 * i));
            cost += ((x - px).square() + (y - py).square()) * at.param(5 + i);
        }
        cost
    }
}

fn options(params: Vec<f32>) -> MppiOptions<2> {
    MppiOptions { task: Task { horizon: 12, dt: 0.1, params, ..Default::default() }, samples: 96, ..Default::default() }
}

#[test]
fn named_parameters_give_the_bits_of_numbered_ones_on_every_backend() {
    for engine in engines() {
        let mut named = Mppi::new(&engine, Named, options(ROUTE.into())).expect("good options");
        let mut indexed = Mppi::new(&engine, Indexed, options(VALUES.to_vec())).expect("good options");
        let mut costs = Vec::new();
        for mass in [2.0, 0.25] {
            let route = Route { mass, ..ROUTE };
            named.set_params(&Vec::from(route.clone())).expect("good parameters");
            indexed.set_params(&[&[mass], &VALUES[1..]].concat()).expect("good parameters");
            let x = [0.2, -0.1, 0.5, 0.0];
            let [a, b] = [named.plan(&x).cloned(), indexed.plan(&x).cloned()].map(|plan| plan.expect("a plan"));
            assert_eq!(a.controls(), b.controls(), "{}", engine.name());
            assert_eq!(a.cost().to_bits(), b.cost().to_bits(), "{}", engine.name());
            costs.push(a.cost());
        }
        assert!(costs[0] != costs[1], "the mass matters: {costs:?}");
    }
}

#[test]
fn parameters_are_written_in_the_order_in_which_they_are_read() {
    assert_eq!(Vec::from(ROUTE), VALUES);
    assert_eq!(<Route<2, f32, 1> as ModelParams<f32>>::COUNT, VALUES.len());
    assert_eq!(StepContext::new(0, 0.1).with_params(&VALUES).params::<Route<2, f32, 1>>(), ROUTE);
    assert_eq!(StepContext::new(0, 0.1).with_params(&VALUES).params::<[f32; 3]>(), [2.0, 0.3, -0.2]);
    assert_eq!(Point { x: 1.0, y: 2.0 }.to_array(), [1.0, 2.0]);
    let mut episode = [9.0; 4];
    Point { x: 1.0, y: 2.0 }.write(&mut episode[1..3]);
    assert_eq!(episode, [9.0, 1.0, 2.0, 9.0]);
}

#[test]
fn derivatives_pass_through_named_parameters() {
    let at = StepContext::new(0, 0.1).with_params(&VALUES);
    let (x, u) = ([0.2, -0.1, 0.0, 0.0], [0.0; 2]);
    assert_eq!(cost_gradient(&Named, &at, x, u), cost_gradient(&Indexed, &at, x, u));
}

#[test]
fn too_few_parameters_are_refused_by_the_name_of_the_last_one() {
    let message = "`params` is 8 long, but must be at least 9 long, since the model reads number 8 (`Route.final.y`), \
                   counted from 0";
    let is_it = |error: &InvalidValue| error.field == "params" && error.to_string() == message;
    let engine = &cpu();
    match Mppi::new(engine, Named, options(VALUES[..8].to_vec())) {
        Err(BuildError::Invalid(error)) => assert!(is_it(&error), "{error}"),
        other => panic!("{other:?}"),
    }
    let mut mppi = Mppi::new(engine, Named, options(ROUTE.into())).expect("good options");
    let refused = mppi.set_params(&VALUES[..8]).expect_err("too few");
    assert!(is_it(&refused), "{refused}");
    assert_eq!(mppi.options().task.params, VALUES, "what was refused has changed nothing");
    let mut fleet = Fleet::new(engine, Named, options(ROUTE.into()), 2).expect("good options");
    let refused = fleet.set_params(1, &VALUES[..8]).expect_err("too few");
    assert!(refused.to_string().contains("`Route.final.y`"), "{refused}");
    // More may be read by index.
    mppi.set_params(&[&VALUES[..], &[1.0]].concat()).expect("one more than is read");
}

/// The last parameter that is read decides whose name an error gives.
#[test]
fn a_parameter_that_is_read_by_index_beyond_the_named_ones_has_no_name() {
    struct Both(usize);
    #[gibbs::model]
    impl Model<1, 1> for Both {
        fn step<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
            let inner: [Point<R>; 1] = at.params();
            let outer: Point<R> = at.params();
            [x + u * inner[0].x * outer.y * at.param(self.0)]
        }
        fn cost<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1], _: [R; 1]) -> R {
            x.square()
        }
    }
    let engine = &cpu();
    for (index, end) in [(1, "reads number 1 (`Point.y`), counted from 0"), (2, "reads number 2, counted from 0")] {
        match Mppi::new(engine, Both(index), MppiOptions::default()) {
            Err(BuildError::Invalid(error)) => assert!(error.to_string().ends_with(end), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}
