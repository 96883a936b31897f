//! Trains policies by the exponentiated policy gradient, and evaluates them on new episodes.
//!
//! - `balance`: a linear policy keeps a cart-pole up from random states near upright;
//! - `swing-up`: a multi-layer perceptron swings a pendulum up from anywhere;
//! - `evojax-easy`, `evojax-hard`: the cart-pole swing-up that EvoJAX publishes returns for, with its perceptron.
//!
//! The first two are trained twice, by perturbing parameters and by score rows. `cargo run --release --example
//! policy_search` prints learning tables, draws learning curves and rollouts to `policy_search.png`, and saves each
//! training, so that `--resume` can continue it; `--help` lists what can be changed. It fails unless the first two
//! solve 95 % of 200 fresh episodes by either kind of rows, and the others reach the best published return (within two
//! standard errors).

#[path = "../common/canvas.rs"]
mod canvas;
mod draw;
#[path = "../common/end.rs"]
mod end;
mod tasks;

use std::f32::consts::TAU;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use gibbs::learning::{ActionNoise, Anneal, Episode, Estimator, Progress, Step};
use gibbs::models::{CartPole, Pendulum};
use gibbs::policies::{Activation, LinearFeedback, Mlp};
use gibbs::{
    Backend, Engine, EngineOptions, Limits, Model, Policy, PolicyGradient, PolicyGradientOptions, Temperature,
    Weighting,
};
use indicatif::{ProgressBar, ProgressStyle};

use end::say;
use tasks::{Balance, EvoJax, OfEvoJax, OfPendulum, SwingUp, TRACK};

#[derive(Parser)]
#[command(about = "Train policies by the exponentiated policy gradient, and try them on fresh episodes.")]
struct Arguments {
    /// What to learn [default: everything]
    #[arg(long, value_enum)]
    task: Vec<Task>,
    /// auto, gpu, software or cpu
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Seed of initial parameters, noise and initial states
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the picture and the saved trainings, made if it is not there
    #[arg(long, default_value = "target/policy_search")]
    out: PathBuf,
    /// Go on with the trainings that were saved there, with their seeds; what was not saved begins anew
    #[arg(long)]
    resume: bool,
    /// A tenth of the iterations for EvoJAX's tasks, half of whose best published return is then enough
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Task {
    Balance,
    SwingUp,
    EvojaxEasy,
    EvojaxHard,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::SwingUp => "swing-up",
            Self::EvojaxEasy => "evojax-easy",
            Self::EvojaxHard => "evojax-hard",
        }
    }

    /// The best mean return over 100 fresh episodes after at most 1,000 iterations, as published: PGPE's, and ARS's.
    fn published(self) -> Option<f32> {
        match self {
            Self::Balance | Self::SwingUp => None,
            Self::EvojaxEasy => Some(935.4),
            Self::EvojaxHard => Some(666.6),
        }
    }

    fn fresh(self) -> usize {
        if self.published().is_some() { 100 } else { 200 }
    }
}

/// The seed of the test episodes, which training does not use.
const FRESH: u64 = 1;
/// The seed of the validation episodes, by which the best of several learners is selected.
const CHOICE: u64 = 2;

/// The result of a training.
struct Outcome {
    task: Task,
    rows: &'static str,
    /// For each learner, the mean return of the rows of every iteration of this run.
    curves: Vec<Vec<(usize, f32)>>,
    /// The fraction of new episodes that are solved (in percent), for tasks with such a criterion.
    solved: Option<f32>,
    mean_return: f32,
    /// Its standard error.
    error: f32,
    /// An angle over time in a few of the fresh episodes, 0 upright.
    angles: Vec<Vec<f32>>,
    dt: f32,
}

fn main() -> ExitCode {
    end::run(|arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let engine = Engine::with_options(EngineOptions { backend: arguments.backend, ..Default::default() })?;
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    say!("on {}", engine.name())?;
    let tasks = if arguments.task.is_empty() { Task::value_variants() } else { &arguments.task };
    let mut outcomes = Vec::new();
    for task in tasks {
        match task {
            Task::Balance => outcomes.extend(balance(&engine, arguments)?),
            Task::SwingUp => outcomes.extend(swing_up(&engine, arguments)?),
            Task::EvojaxEasy | Task::EvojaxHard => outcomes.push(evojax(*task, &engine, arguments)?),
        }
    }
    let picture = arguments.out.join("policy_search.png");
    draw::learning(&picture, &outcomes)?;
    say!("\ndrew {}\n", picture.display())?;

    let mut failed = Vec::new();
    for task in tasks {
        // The worse of the two estimators.
        let of_task = outcomes.iter().filter(|outcome| outcome.task == *task);
        let Some(worst) = of_task.min_by(|a, b| a.merit().total_cmp(&b.merit())) else { continue };
        say!("{}", worst.verdict())?;
        if !worst.is_good(arguments.quick) {
            failed.push(task.name());
        }
    }
    if !failed.is_empty() {
        bail!("not good enough: {}", failed.join(", "));
    }
    Ok(())
}

impl Outcome {
    fn merit(&self) -> f32 {
        self.solved.unwrap_or(self.mean_return)
    }

    fn verdict(&self) -> String {
        let (name, fresh, mean_return) = (self.task.name(), self.task.fresh(), self.mean_return);
        match self.task.published() {
            None => {
                let solved = self.merit();
                format!("{name}: solved {solved:.1} % of {fresh} fresh episodes, mean return {mean_return:.1}")
            }
            Some(best) => {
                format!("{name}: mean return {mean_return:.1} over {fresh} fresh episodes (published best {best})")
            }
        }
    }

    fn is_good(&self, quick: bool) -> bool {
        match self.task.published() {
            None => self.merit() >= 95.0,
            Some(best) if quick => self.mean_return >= 0.5 * best,
            // As good as published, within the standard error of so few episodes.
            Some(best) => self.mean_return + 2.0 * self.error >= best,
        }
    }
}

/// Trains a linear policy to balance the cart-pole.
fn balance(engine: &Engine, arguments: &Arguments) -> Result<Vec<Outcome>> {
    let sigma = Anneal { first: 4.0, last: 1.0, over: 300 };
    let perturbed = Estimator::ParameterSpace { sigma, antithetic: true, episodes: 8 };
    let scored = Estimator::ScoreFunction { std: [4.0], action_noise: ActionNoise::Fixed, antithetic: true };
    // Every score row has its own initial state, so with concentrated weights most would go to rows that start well.
    let patient = Step::Adam { rate: Anneal { first: 0.5, last: 0.05, over: 300 } };
    let recipes = [
        ("perturbed parameters", perturbed, 0.2, Step::Natural { rate: 1.0.into() }, 300),
        ("score rows", scored, 0.3, patient, 300),
    ];
    let train = |(rows, scheme, effective, step, iterations)| {
        let options = PolicyGradientOptions {
            task: gibbs::Task {
                horizon: 400,
                dt: 0.02,
                limits: Some(Limits { low: [-10.0], high: [10.0] }),
                seed: arguments.seed,
                ..Default::default()
            },
            samples: 512,
            estimator: scheme,
            weighting: Weighting::Exponential(Temperature::EffectiveSamples(effective)),
            step,
            ..Default::default()
        };
        let task = Balance(CartPole::default());
        let training = PolicyGradient::new(engine, task, LinearFeedback, tasks::near_upright, options)?;
        let search = Search {
            task: Task::Balance,
            rows,
            iterations,
            angle: |x| x[2],
            stands: Some(|x| x[2].abs() < 0.2 && x[0].abs() < TRACK),
            lost: None,
        };
        search.run(training, arguments)
    };
    recipes.into_iter().map(train).collect()
}

/// Trains a perceptron to swing the pendulum up.
fn swing_up(engine: &Engine, arguments: &Arguments) -> Result<Vec<Outcome>> {
    let sigma = Anneal { first: 0.5, last: 0.1, over: 200 };
    let perturbed = Estimator::ParameterSpace { sigma, antithetic: true, episodes: 16 };
    let action_noise = ActionNoise::Anneal(Anneal { first: 1.0, last: 0.3, over: 500 });
    let scored = Estimator::ScoreFunction { std: [1.0], action_noise, antithetic: false };
    let patient = Step::Adam { rate: Anneal { first: 0.02, last: 0.001, over: 500 } };
    let recipes = [
        ("perturbed parameters", perturbed, Step::Natural { rate: 1.0.into() }, 256, 200),
        ("score rows", scored, patient, 1024, 500),
    ];
    let train = |(rows, scheme, step, samples, iterations)| {
        let options = PolicyGradientOptions {
            task: gibbs::Task { horizon: 200, dt: 0.05, seed: arguments.seed, ..Default::default() },
            samples,
            // Not every learner finds how to swing up from both sides.
            learners: 4,
            estimator: scheme,
            weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.5)),
            step,
        };
        let policy = Mlp::observing(OfPendulum, &[32], Activation::Tanh)?.squashed([-2.0], [2.0])?;
        let task = SwingUp(Pendulum::default());
        let training = PolicyGradient::new(engine, task, policy, tasks::anywhere, options)?;
        let search = Search {
            task: Task::SwingUp,
            rows,
            iterations,
            angle: |x| x[0],
            stands: Some(|x| (x[0] - TAU * (x[0] / TAU).round()).abs() < 0.2),
            lost: None,
        };
        search.run(training, arguments)
    };
    recipes.into_iter().map(train).collect()
}

/// EvoJAX's perceptron of 64 hidden units.
fn evojax(task: Task, engine: &Engine, arguments: &Arguments) -> Result<Outcome> {
    let iterations = if arguments.quick { 100 } else { 1000 };
    let sigma = Anneal { first: 0.5, last: 0.05, over: iterations };
    let rate = Anneal { first: 0.1, last: 0.01, over: iterations };
    let options = PolicyGradientOptions {
        task: gibbs::Task { horizon: 1000, dt: 0.01, seed: arguments.seed, ..Default::default() },
        samples: 256,
        estimator: Estimator::ParameterSpace { sigma, antithetic: true, episodes: 16 },
        weighting: Weighting::Exponential(Temperature::EffectiveSamples(0.5)),
        step: Step::Adam { rate },
        ..Default::default()
    };
    let policy = Mlp::observing(OfEvoJax, &[64], Activation::Tanh)?.clipped([-1.0], [1.0])?;
    let starts = if task == Task::EvojaxEasy { tasks::near_hanging } else { tasks::far_from_hanging };
    let training = PolicyGradient::new(engine, EvoJax, policy, starts, options)?;
    let search = Search {
        task,
        rows: "perturbed parameters",
        iterations,
        angle: |x| x[2],
        stands: None,
        lost: Some(tasks::cannot_be_held),
    };
    search.run(training, arguments)
}

/// A training to be run, and the criteria by which it is evaluated.
struct Search<const N: usize> {
    task: Task,
    rows: &'static str,
    iterations: usize,
    /// The angle from upright.
    angle: fn(&[f32; N]) -> f32,
    /// Whether a state is one in which an episode should spend its last two seconds, for tasks with such a criterion.
    stands: Option<fn(&[f32; N]) -> bool>,
    /// Whether an episode from this state ends early under any control, for tasks that have such states.
    lost: Option<fn(&[f32; N]) -> bool>,
}

impl<const N: usize> Search<N> {
    /// Trains, saves, and evaluates the policy on new episodes.
    fn run<const M: usize, D: Model<N, M>, P: Policy<N, M>>(
        &self,
        mut training: PolicyGradient<N, M, D, P>,
        arguments: &Arguments,
    ) -> Result<Outcome> {
        let file = arguments.out.join(format!("{}-{}.gibbs", self.task.name(), self.rows.replace(' ', "-")));
        if arguments.resume && file.exists() {
            training.resume_from(&file).with_context(|| format!("cannot go on with {}", file.display()))?;
        }
        say!("\n{} by {}", self.task.name(), self.rows)?;
        let learners = training.options().learners;
        let titles = ["mean return", "best learner", "ESS", "λ", "s"];
        say!("{:>9}{}", "iteration", titles.map(|title| format!("{title:>14}")).concat())?;
        let clock = Instant::now();
        let bar = ProgressBar::new(self.iterations as u64).with_style(ProgressStyle::with_template(
            "{bar:40} {pos}/{len} iterations, mean return {msg}, {eta} left",
        )?);
        let mut curves = vec![Vec::new(); learners];
        while training.iteration() < self.iterations {
            // Saved ten times, so that little is lost.
            let chunk = (self.iterations / 10).max(1);
            let mut row = String::new();
            training.train(chunk - training.iteration() % chunk, |progress| {
                let mean = |value: fn(&Progress) -> f32| progress.iter().map(value).sum::<f32>() / learners as f32;
                let best = progress.iter().map(|progress| progress.mean_return).fold(f32::NEG_INFINITY, f32::max);
                let (returned, iteration) = (mean(|progress| progress.mean_return), progress[0].iteration);
                let (effective, lambda) = (mean(|progress| progress.effective_samples), mean(|p| p.temperature));
                let seconds = clock.elapsed().as_secs_f64();
                row =
                    format!("{iteration:>9}{returned:>14.1}{best:>14.1}{effective:>14.0}{lambda:>14.3}{seconds:>14.1}");
                for (curve, progress) in curves.iter_mut().zip(progress) {
                    curve.push((progress.iteration, progress.mean_return));
                }
                bar.set_position(iteration as u64);
                bar.set_message(format!("{returned:.1}"));
                ControlFlow::Continue(())
            })?;
            training.save_to(&file).with_context(|| format!("cannot write {}", file.display()))?;
            bar.suspend(|| say!("{row}"))?;
        }
        bar.finish_and_clear();

        let mut chosen = (0, f32::NEG_INFINITY);
        for learner in 0..learners {
            let mean_return = mean_return(&training.evaluate(learner, self.task.fresh(), CHOICE)?);
            if mean_return > chosen.1 {
                chosen = (learner, mean_return);
            }
        }
        let episodes = training.evaluate(chosen.0, self.task.fresh(), FRESH)?;
        let options = training.options();
        let count = episodes.len() as f32;
        let mean_return = mean_return(&episodes);
        let variance = episodes.iter().map(|episode| (episode.cost + mean_return).powi(2)).sum::<f32>() / (count - 1.0);
        let error = (variance / count).sqrt();
        let last = (2.0 / options.task.dt).round() as usize;
        let solved = self.stands.map(|stands| {
            let is_solved = |episode: &&Episode<N, M>| {
                episode.controls.len() == options.task.horizon && episode.states.iter().rev().take(last).all(stands)
            };
            100.0 * episodes.iter().filter(is_solved).count() as f32 / count
        });
        if let Some(lost) = self.lost {
            let share = |episodes: &[Episode<N, M>]| {
                let lost = episodes.iter().filter(|episode| lost(&episode.states[0])).count();
                100.0 * lost as f32 / episodes.len() as f32
            };
            let more = training.evaluate(chosen.0, 20 * self.task.fresh(), FRESH + 2)?;
            say!(
                "{mean_return:.1} ± {error:.1} over {} episodes, of which no force keeps {:.1} % on the track;\n\
                 {:.1} over {} others, of which none keeps {:.1} %",
                episodes.len(),
                share(&episodes),
                self::mean_return(&more),
                more.len(),
                share(&more)
            )?;
        }
        let angles = episodes.iter().take(12).map(|episode| episode.states.iter().map(self.angle).collect()).collect();
        let (task, rows, dt) = (self.task, self.rows, options.task.dt);
        let outcome = Outcome { task, rows, curves, solved, mean_return, error, angles, dt };
        say!("{}", outcome.verdict())?;
        Ok(outcome)
    }
}

fn mean_return<const N: usize, const M: usize>(episodes: &[Episode<N, M>]) -> f32 {
    -episodes.iter().map(|episode| episode.cost).sum::<f32>() / episodes.len() as f32
}
