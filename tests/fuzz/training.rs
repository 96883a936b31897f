//! `PolicyGradient`, its checkpoints and its controllers.

use gibbs::learning::{ActionNoise, Anneal, Estimator, Step};
use gibbs::policies::LinearFeedback;
use gibbs::{Engine, PolicyGradient, PolicyGradientOptions, Random, Task, Temperature, Weighting};

use crate::draw::{Draw, Probe};
use crate::{agreed, bits, both, cpus, fuzz, gpus};

type Training = PolicyGradient<3, 2, Probe, LinearFeedback>;

fn annealed(draw: &mut Draw, low: f32, high: f32) -> Anneal {
    let first = draw.number(low, high);
    if draw.chance(0.5) {
        Anneal::from(first)
    } else {
        Anneal { first, last: draw.number(low, high), over: draw.index(5) }
    }
}

fn options(draw: &mut Draw) -> PolicyGradientOptions<2> {
    let rows = if draw.chance(0.5) {
        Estimator::ParameterSpace {
            sigma: annealed(draw, 0.01, 0.5),
            antithetic: draw.chance(0.5),
            episodes: if draw.chance(0.05) { draw.size(3) } else { 1 + draw.index(3) },
        }
    } else {
        let action_noise = match draw.index(3) {
            0 => ActionNoise::Fixed,
            1 => ActionNoise::Learned { least: draw.number(0.01, 0.2) },
            _ => ActionNoise::Anneal(annealed(draw, 0.1, 1.0)),
        };
        Estimator::ScoreFunction { std: draw.array(0.1, 1.0), action_noise, antithetic: draw.chance(0.5) }
    };
    let step = match draw.index(4) {
        0 => Step::Plain { rate: annealed(draw, 0.001, 0.3) },
        1 => Step::Natural { rate: annealed(draw, 0.01, 1.0) },
        2 => Step::Momentum { rate: annealed(draw, 0.001, 0.3), momentum: draw.number(0.0, 0.95) },
        _ => Step::Adam { rate: annealed(draw, 0.001, 0.3) },
    };
    let weighting = match draw.index(4) {
        0 => Weighting::Signed { standardized: draw.chance(0.5) },
        1 => Weighting::Exponential(Temperature::EffectiveSamples(0.2)),
        _ => draw.weighting(),
    };
    PolicyGradientOptions {
        task: Task {
            horizon: draw.size(15),
            dt: draw.number(0.01, 0.3),
            limits: draw.limits(),
            rate_limits: if draw.chance(0.02) { draw.rate_limits() } else { None },
            jerk_limits: if draw.chance(0.02) { draw.jerk_limits() } else { None },
            delay: if draw.chance(0.02) { draw.delay() } else { 0 },
            seed: draw.seed(),
            params: draw.params(),
            references: draw.reference_table(),
            scenarios: if draw.chance(0.02) { draw.scenarios() } else { Vec::new() },
            risk: draw.risk(),
            fields: draw.fields(),
            // These models evaluate no network: see tests/networks.rs.
            weights: Vec::new(),
        },
        samples: draw.size(150),
        learners: if draw.chance(0.6) { 1 } else { draw.size(3) },
        estimator: rows,
        weighting,
        step,
    }
}

/// The observable state between calls.
fn seen(training: &Training) -> (String, usize, Vec<u32>) {
    let learners = training.options().learners;
    let numbers = (0..learners).flat_map(|b| {
        let theta = training.theta(b).expect("there is such a learner").to_vec();
        let std = training.action_noise(b).expect("there is such a learner").into_iter().flatten();
        theta.into_iter().chain(std).collect::<Vec<f32>>()
    });
    let numbers: Vec<f32> = numbers.collect();
    assert!(numbers.iter().all(|v| v.is_finite()), "{numbers:?}");
    (format!("{:?}", training.options()), training.iteration(), bits(&numbers))
}

fn case(draw: &mut Draw, engines: &[Engine; 2]) -> bool {
    let options = options(draw);
    let spread = draw.number(0.0, 1.0);
    let made = [0, 1].map(|i| {
        let start = move |random: &mut Random, params: &mut [f32]| {
            if let Some(first) = params.first_mut() {
                *first *= 1.0 + 0.1 * random.uniform();
            }
            [spread * random.normal(), spread * random.normal(), random.normal()]
        };
        Training::new(&engines[i], Probe, LinearFeedback, start, options.clone())
    });
    let mut twins = match made {
        [Ok(a), Ok(b)] => [a, b],
        both => {
            agreed(both.map(|made| made.map(|_| ()))).unwrap_err();
            return false;
        }
    };
    let mut saved = Vec::new();
    for _ in 0..8 {
        draw.change_mood();
        let before = seen(&twins[0]);
        let learner = if draw.chance(0.05) { usize::MAX } else { draw.index(twins[0].options().learners) };
        let outcome = match draw.index(8) {
            0..=2 => both(&mut twins, |training| {
                training.step().map(|progress| {
                    let numbers = progress
                        .iter()
                        .flat_map(|p| [p.mean_return, p.best_return, p.effective_samples, p.temperature, p.step]);
                    let numbers: Vec<f32> = numbers.collect();
                    assert!(numbers.iter().all(|v| !v.is_nan()), "{numbers:?}");
                    bits(&numbers)
                })
            }),
            3 => {
                let count = 8 + usize::from(draw.chance(0.05));
                let theta = draw.numbers(count, -1.0, 1.0);
                both(&mut twins, |training| training.set_theta(learner, &theta).map(|()| Vec::new()))
            }
            4 => {
                let x = draw.array(-2.0, 2.0);
                let limits = twins[0].options().task.limits;
                both(&mut twins, |training| {
                    training.controller(learner).map(|mut controller| {
                        let u = controller.act(x);
                        if x.iter().all(|v| v.is_finite())
                            && let Some(limits) = limits
                        {
                            let inside = |m: usize| (limits.low[m]..=limits.high[m]).contains(&u[m]);
                            assert!(inside(0) && inside(1), "{u:?} outside {limits:?}");
                        }
                        bits(&u)
                    })
                })
            }
            5 => {
                let start = draw.array(-2.0, 2.0);
                both(&mut twins, |training| {
                    training.episode(learner, start).map(|episode| bits(episode.controls.as_flattened()))
                })
            }
            6 => {
                saved.clear();
                twins[0].save(&mut saved).expect("a vector can be written to");
                Ok(Vec::new())
            }
            _ => {
                let mut bytes = saved.clone();
                match draw.index(4) {
                    0 if !bytes.is_empty() => {
                        let at = draw.index(bytes.len());
                        bytes[at] ^= 1 << draw.index(8);
                    }
                    1 => bytes.truncate(draw.index(bytes.len() + 1)),
                    2 => bytes.push(0),
                    _ => (),
                }
                both(&mut twins, |training| training.resume(&bytes[..]).map(|()| Vec::new()))
            }
        };
        let [a, b] = [seen(&twins[0]), seen(&twins[1])];
        assert_eq!(a, b, "twins after the same call");
        if outcome.is_err() {
            assert_eq!(a, before, "an error ({outcome:?}) changed something");
        }
    }
    true
}

#[test]
fn policy_gradient() {
    let engines = cpus();
    fuzz("policy_gradient", 200, |draw| case(draw, &engines));
}

#[test]
fn policy_gradient_on_an_adapter() {
    let Some(engines) = gpus() else { return };
    fuzz("policy_gradient_on_an_adapter", 4, |draw| case(draw, &engines));
}
