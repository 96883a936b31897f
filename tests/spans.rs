//! The spans that calls open with the feature `tracing`.
#![cfg(feature = "tracing")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use common::engines;
use gibbs::models::Pendulum;
use gibbs::policies::LinearFeedback;
use gibbs::{Backend, Engine, Mppi, MppiOptions, PolicyGradient, PolicyGradientOptions, Random, Task, WeightedMean};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// A span as it was opened.
#[derive(Debug, Clone)]
struct Seen {
    name: &'static str,
    level: Level,
    fields: BTreeMap<&'static str, String>,
    /// The index of the span around it.
    parent: Option<usize>,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    /// The indices of the spans that are open.
    open: Vec<usize>,
}

/// Records every span of the thread that it is the default of. The identity of a span is its index plus 1.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<State>>);

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "gibbs" && metadata.is_span()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut state = self.0.lock().unwrap();
        let of = |id: &Id| id.into_u64() as usize - 1;
        let parent = span.parent().map(of).or_else(|| state.open.last().copied());
        let (name, level) = (span.metadata().name(), *span.metadata().level());
        let mut seen = Seen { name, level, fields: BTreeMap::new(), parent };
        span.record(&mut seen);
        state.seen.push(seen);
        Id::from_u64(state.seen.len() as u64)
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().open.push(span.into_u64() as usize - 1);
    }

    fn exit(&self, span: &Id) {
        assert_eq!(self.0.lock().unwrap().open.pop(), Some(span.into_u64() as usize - 1));
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
}

/// The spans that `work` opens on this thread.
fn spans_of(work: impl FnOnce()) -> Vec<Seen> {
    let recorder = Recorder::default();
    tracing::subscriber::with_default(recorder.clone(), work);
    let state = recorder.0.lock().unwrap();
    assert!(state.open.is_empty());
    state.seen.clone()
}

/// The spans of that name, each as `around/name`.
fn find<'a>(spans: &'a [Seen], path: &str) -> Vec<&'a Seen> {
    let is_there = |span: &&Seen| match path.split_once('/') {
        Some((around, name)) => span.name == name && span.parent.is_some_and(|parent| spans[parent].name == around),
        None => span.name == path,
    };
    spans.iter().filter(is_there).collect()
}

fn mppi(engine: &Engine) -> Mppi<2, 1, Pendulum> {
    let task = Task { horizon: 9, ..Default::default() };
    Mppi::new(engine, Pendulum::default(), MppiOptions { task, samples: 130, iterations: 2, ..Default::default() })
        .expect("valid")
}

#[test]
fn a_plan_opens_a_span_for_each_of_its_parts() {
    for engine in engines() {
        let mut planner = None;
        let spans = spans_of(|| planner = Some(mppi(&engine)));
        let is_cpu = engine.backend() == Backend::Cpu;
        assert_eq!(find(&spans, "prepare").len(), 1, "{spans:#?}");
        // A GPU compiles a kernel for the whole pass, and one that draws its rows again.
        let kernels: Vec<_> = find(&spans, "compile").into_iter().map(|span| &span.fields["kernel"][..]).collect();
        assert_eq!(kernels, if is_cpu { vec![] } else { vec!["\"whole\"", "\"draw\""] });

        let mut planner = planner.expect("it was made");
        let spans = spans_of(|| _ = planner.plan(&[1.0, 0.0]).expect("a plan"));
        let [plan] = find(&spans, "plan")[..] else { panic!("{spans:#?}") };
        let expected = [("backend", engine.backend().to_string()), ("horizon", "9".into())];
        let expected = expected.into_iter().chain([("problems", "1".into()), ("rows", "130".into())]);
        assert_eq!(plan.fields, expected.collect());
        assert_eq!((plan.level, plan.parent), (Level::DEBUG, None));
        let [submit] = find(&spans, "plan/submit")[..] else { panic!("{spans:#?}") };
        assert_eq!((&submit.fields["passes"][..], &submit.fields["problems"][..]), ("2", "1"));
        assert_eq!(find(&spans, "plan/evaluate").len(), 1, "{spans:#?}");
        assert_eq!(find(&spans, "plan/wait").len(), usize::from(!is_cpu), "{spans:#?}");
        let passes = find(&spans, "submit/pass");
        assert_eq!(passes.len(), if is_cpu { 2 } else { 0 }, "{spans:#?}");
        for pass in passes {
            assert_eq!((&pass.fields["rows"][..], &pass.fields["horizon"][..], pass.level), ("130", "9", Level::TRACE));
        }

        // A call that does not block has no span around its parts.
        let spans = spans_of(|| {
            planner.start(&[1.0, 0.0]).expect("it is submitted");
            planner.finish().expect("a plan");
        });
        assert!(find(&spans, "plan").is_empty());
        assert_eq!((find(&spans, "submit").len(), find(&spans, "evaluate").len()), (1, 1), "{spans:#?}");
    }
}

#[test]
fn other_drivers_open_spans_too() {
    let engine = common::cpu();
    let starts = |random: &mut Random, _: &mut [f32]| [random.normal(), 0.0];
    let task = Task { horizon: 5, ..Default::default() };
    let options = PolicyGradientOptions { task, samples: 70, learners: 2, ..Default::default() };
    let mut training =
        PolicyGradient::new(&engine, Pendulum::default(), LinearFeedback, starts, options).expect("valid");
    let spans = spans_of(|| _ = training.step().expect("finite costs"));
    assert_eq!(find(&spans, "step")[0].fields["learners"], "2");
    assert_eq!(find(&spans, "step/submit").len(), 1, "{spans:#?}");

    let mut mean = WeightedMean::new(&engine);
    let spans = spans_of(|| _ = mean.compute(&[1.0; 6], &[0.0; 3]).expect("finite"));
    assert_eq!(find(&spans, "average")[0].fields["rows"], "3");
}
