//! What web/test calls, in a module of its own.
#![cfg(target_family = "wasm")]

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use gibbs::check;
use gibbs::lang::WgslFn;
use gibbs::models::CartPole;
use gibbs::{
    Backend, BuildError, Engine, EngineError, EngineOptions, Model, ModelError, Mppi, MppiOptions, Plan, PlanError,
    Real, StepContext, Temperature,
};
use gibbs_web::numbers::{self, HANGING};
use gibbs_web::page::{open, sentence};
use wasm_bindgen::prelude::*;

/// The plans of [`numbers::plans`], and the name of the device in front of them.
#[wasm_bindgen(js_name = testPlans)]
pub async fn test_plans(backend: String) -> Result<String, JsValue> {
    let engine = open(&backend).await?;
    let plans = numbers::plans(&engine).await.map_err(sentence)?;
    Ok(format!("{}\n{plans}", engine.name()))
}

/// The median and the least time of a plan of the cart-pole (in milliseconds).
#[wasm_bindgen(js_name = testSpeed)]
pub async fn test_speed(backend: String, samples: usize, horizon: usize, plans: usize) -> Result<Vec<f64>, JsValue> {
    let engine = open(&backend).await?;
    let mut mppi = numbers::cart_pole(&engine, samples, horizon, Temperature::Fixed(50.0)).await.map_err(sentence)?;
    let mut times = Vec::new();
    for _ in 0..=plans {
        let plan = mppi.plan_async(&HANGING).await.map_err(sentence)?;
        times.push(1e3 * plan.timing().total.as_secs_f64());
    }
    // The first one may still compile something.
    times.remove(0);
    times.sort_by(f64::total_cmp);
    Ok(vec![times[times.len() / 2], times[0]])
}

/// A model with a function in WGSL that no compiler accepts.
struct Broken;

const BROKEN: WgslFn<1> =
    WgslFn { name: "broken", source: "fn broken(x: f32) -> f32 { return nonsense; }", twin: |[x]| x };

impl Model<1, 1> for Broken {
    fn step<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
        [BROKEN.call([x + u])]
    }
    fn cost<R: Real>(&self, _: &StepContext<R>, [x]: [R; 1], _: [R; 1]) -> R {
        x.square()
    }
}

/// What goes wrong on purpose, by name: each line is the kind of an error and its sentence.
#[wasm_bindgen(js_name = testErrors)]
pub async fn test_errors(backend: String) -> Result<String, JsValue> {
    let engine = open(&backend).await?;
    let mut lines = Vec::new();
    for attempt in ["first", "second"] {
        let broken = Mppi::new_async(&engine, Broken, MppiOptions::default()).await;
        lines.push(match broken {
            Err(BuildError::Model(error @ ModelError::Shader { .. })) => format!("{attempt} shader: {error}"),
            other => format!("{attempt} other: {:?}", other.map(drop)),
        });
    }
    let with = |backend| EngineOptions { backend, ..Default::default() };
    let kind = |error: EngineError| match error {
        EngineError::WouldBlock => format!("would block: {error}"),
        other => format!("other: {other}"),
    };
    lines.push(Engine::with_options(with(Backend::Auto)).map_or_else(kind, |engine| engine.name()));
    lines.push(match Mppi::new(&engine, CartPole::default(), MppiOptions::default()) {
        Err(BuildError::Engine(error)) => kind(error),
        other => format!("other: {:?}", other.map(drop)),
    });
    // The device is well, and blocking calls change nothing.
    let mut mppi = Mppi::new_async(&engine, CartPole::default(), MppiOptions::default()).await.map_err(sentence)?;
    lines.push(match mppi.plan(&HANGING) {
        Err(PlanError::Engine(error)) => kind(error),
        other => format!("other: {:?}", other.map(drop)),
    });
    lines.push(match check::wgsl_fn(&engine, &BROKEN, &[[1.0]]) {
        Err(BuildError::Engine(error)) => kind(error),
        other => format!("other: {other:?}"),
    });
    mppi.start(&HANGING).map_err(sentence)?;
    lines.push(match mppi.finish() {
        Err(PlanError::Engine(error)) => format!("{}, pending: {}", kind(error), mppi.is_pending()),
        other => format!("other: {:?}", other.map(drop)),
    });
    mppi.cancel();
    lines.push(match check::wgsl_fn_async(&engine, &BROKEN, &[[1.0]]).await {
        Err(BuildError::Model(error @ ModelError::Shader { .. })) => format!("function: {error}"),
        other => format!("other: {other:?}"),
    });
    let doubled =
        WgslFn { name: "doubled", source: "fn doubled(x: f32) -> f32 { return 2.0 * x; }", twin: |[x]| 2.0 * x };
    let differs = check::wgsl_fn_async(&engine, &doubled, &[[1.0], [-3.5]]).await.map_err(sentence)?;
    lines.push(format!("function differs by {differs}"));
    // A call that is dropped, then one within a budget that no pass exceeds, and one within a budget that all do.
    let passes = |plan: &Plan<4, 1>| (plan.passes(), plan.cost().to_bits());
    let mut twin = mppi.try_clone_async().await.map_err(sentence)?;
    let _ = pin!(mppi.plan_within_async(&HANGING, Duration::MAX)).poll(&mut Context::from_waker(Waker::noop()));
    mppi.reset();
    twin.reset();
    let options = MppiOptions { iterations: 3, ..mppi.options().clone() };
    mppi.set_options_async(options.clone()).await.map_err(sentence)?;
    twin.set_options_async(options).await.map_err(sentence)?;
    let [mut all, mut one] = [(0, 0); 2];
    for (budget, found) in [(Duration::from_secs(1000), &mut all), (Duration::ZERO, &mut one)] {
        *found = passes(mppi.plan_within_async(&HANGING, budget).await.map_err(sentence)?);
    }
    let expected = [
        passes(twin.plan_async(&HANGING).await.map_err(sentence)?),
        passes(twin.plan_first_async(&HANGING, 1).await.map_err(sentence)?),
    ];
    let alike = if [all, one] == expected { "as without" } else { "not as without" };
    lines.push(format!("budgets: {alike}, {all:?} and {one:?}"));
    let trip = engine.round_trip_async().await.map_err(sentence)?;
    lines.push(format!("round trip: {trip:?}"));
    let plan = mppi.plan_async(&HANGING).await.map_err(sentence)?;
    lines.push(format!("cost: {}", plan.cost()));
    engine.destroy();
    lines.push(match mppi.plan_async(&HANGING).await {
        Err(PlanError::Engine(error @ EngineError::DeviceLost { .. })) => format!("lost: {error}"),
        other => format!("other: {:?}", other.map(drop)),
    });
    // A compiler explains in several lines.
    Ok(lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n"))
}
