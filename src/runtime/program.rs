//! A model in the forms that the backends need: a monomorphized rollout for the CPU, WGSL source for the GPU.

use std::sync::Arc;

use super::optimization;
use crate::error::{BuildError, InvalidValue, ModelError};
use crate::interp::trace::{Expr, MAP, Requirements, Trace, Truth};
use crate::kernels::score::distance::Distance;
use crate::kernels::score::episode::OfPolicy;
use crate::kernels::score::rollout::{OfModel, Rollout};
use crate::lang::math::Math;
use crate::lang::{
    GradSink, GradientAccumulator, Inputs, Mask, ParamView, Params, Real, StepContext, WeightsOf, float_env,
};
use crate::model::advance::Advance;
use crate::model::policy::{MAX_BY_DUALS, Policy};
use crate::model::{Map, Model};

/// The kind of rows that a policy is trained from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyRows {
    /// Rows are perturbed parameters: [`PERTURBED`](crate::kernels::pass::PERTURBED).
    ParameterSpace,
    /// Rows are scores of episodes: [`SCORED`](crate::kernels::pass::SCORED).
    ScoreFunction,
}

/// The method that scores rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scoring {
    /// The cost of a model's rollout.
    Model,
    /// The squared distance of given rows from x.
    Distance,
    /// The cost of a model's episodes under a policy.
    Policy(PolicyRows),
}

/// A model, or another scoring function, in compiled form.
pub(crate) struct Program {
    pub(crate) scoring: Scoring,
    pub(crate) states: usize,
    /// The inputs that the model requires.
    pub(crate) requirements: Requirements,
    /// The number of operations on the tape.
    pub(crate) operations: usize,
    /// The hand-written WGSL functions that the model calls.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "only the GPU backend reads it"))]
    pub(crate) functions: String,
    /// The model in WGSL: every model-dependent definition that `shaders/score/rollout.wgsl` calls.
    pub(crate) source: String,
    pub(crate) rollout: Box<dyn Rollout>,
    /// Whether the rollout is compiled without optimization.
    pub(crate) unoptimized: bool,
}

impl Program {
    /// Compiles a model that is driven by control sequences.
    pub(crate) fn new<const N: usize, const M: usize, D: Model<N, M>>(
        model: &Arc<D>,
        math: Math,
    ) -> Result<Self, ModelError> {
        let trace = Trace::start(math);
        let (mut source, ends) = float_env::standard(|| trace_model(&trace, model, false));
        source.push_str(&trace.networks(false));
        let (functions, requirements, operations) = trace.finish()?;
        let rollout = Box::new(OfModel::<N, M, D>::new(Arc::clone(model), ends, requirements.units));
        let unoptimized = optimization::is_missing_in::<D>();
        Ok(Self {
            scoring: Scoring::Model,
            states: N,
            requirements,
            operations,
            functions,
            source,
            rollout,
            unoptimized,
        })
    }

    /// Compiles a model that is driven by a policy, for a software adapter or not.
    pub(crate) fn for_policy<const N: usize, const M: usize, D: Model<N, M>, P: Policy<N, M>>(
        model: &Arc<D>,
        policy: &Arc<P>,
        scheme: PolicyRows,
        math: Math,
        software: bool,
    ) -> Result<Self, BuildError> {
        let parameters = policy.parameters();
        if parameters == 0 {
            return Err(
                InvalidValue::new("policy", "without parameters", "a policy with at least one parameter").into()
            );
        }
        let trace = Trace::start(math);
        let (mut source, _) = float_env::standard(|| trace_model(&trace, model, true));
        let policy_source = float_env::standard(|| trace_policy(&trace, &**policy, scheme))?;
        source.push_str(&trace.networks(software));
        source.push_str(&policy_source);
        let (functions, requirements, operations) = trace.finish()?;
        if requirements.weights > parameters {
            return Err(ModelError::NoSuchParameter { index: requirements.weights - 1, parameters }.into());
        }
        // The kernel itself has four loops over the controls.
        let requirements =
            Requirements { loop_iterations: requirements.loop_iterations + 4 * (M as u64 + 1), ..requirements };
        let rollout = Box::new(OfPolicy::<N, M, D, P>::new(Arc::clone(model), Arc::clone(policy), requirements.units));
        let (scoring, unoptimized) = (Scoring::Policy(scheme), optimization::is_missing_in::<(D, P)>());
        Ok(Self { scoring, states: N, requirements, operations, functions, source, rollout, unoptimized })
    }

    /// Scores rows of a data set by their squared distance from x.
    pub(crate) fn distance() -> Self {
        Self {
            scoring: Scoring::Distance,
            states: 1,
            requirements: Requirements::default(),
            operations: 0,
            functions: String::new(),
            source: String::new(),
            rollout: Box::new(Distance),
            unoptimized: cfg!(not(optimized)),
        }
    }
}

/// A model that tells the tape which of its functions is traced.
struct Named<D>(Arc<D>);

impl<const N: usize, const M: usize, D: Model<N, M>> Model<N, M> for Named<D> {
    fn step<R: Real>(&self, at: &StepContext<'_, R>, x: [R; N], u: [R; M]) -> [R; N] {
        Trace::enter("step");
        self.0.step(at, x, u)
    }
    fn cost<R: Real>(&self, at: &StepContext<'_, R>, x: [R; N], u: [R; M]) -> R {
        Trace::enter("cost");
        self.0.cost(at, x, u)
    }
    fn terminal<R: Real>(&self, at: &StepContext<'_, R>, x: [R; N]) -> R {
        Trace::enter("terminal");
        self.0.terminal(at, x)
    }
    fn demonstration_cost<R: Real>(&self, at: &StepContext<'_, R>, x: [R; N]) -> R {
        Trace::enter("demonstration_cost");
        self.0.demonstration_cost(at, x)
    }
    fn done<R: Real>(&self, at: &StepContext<'_, R>, x: [R; N]) -> R::Mask {
        Trace::enter("done");
        self.0.done(at, x)
    }
}

/// The time step of a model ([`Advance`]) in WGSL, and whether a rollout can end before its horizon: it cannot if the
/// model's `done` is constant false.
///
/// Under a policy the control depends on the state. The loop then calls `model_arrive` first, and leaves if all its
/// episodes have ended. `model_advance` freezes nothing; a loop over several episodes does so itself.
fn trace_model<const N: usize, const M: usize, D: Model<N, M>>(
    trace: &Trace,
    model: &Arc<D>,
    has_policy: bool,
) -> (String, bool) {
    let model = &Named(Arc::clone(model));
    let (now, arrived) = (StepContext::<Expr>::over(Inputs::NOW), StepContext::<Expr>::over(Inputs::BEFORE));
    let (x, u, before): ([Expr; N], [Expr; M], [Expr; M]) = (trace.inputs(0), trace.inputs(N), trace.inputs(N + M));
    let (running, moved) = (trace.truth(N + 2 * M), trace.truth(N + 2 * M + 1));
    let input = |i: usize| match i {
        _ if i < N => format!("x.x{i}"),
        _ if i < N + M => format!("u.u{}", i - N),
        _ if i < N + 2 * M => format!("before.u{}", i - N - M),
        _ if i == N + 2 * M => "running".into(),
        _ => "B(t > 0u)".into(),
    };
    // Prints a function that returns the next state, if there is one, then numbers, then truth values.
    let function = |head: &str, result: &str, next: &[Expr], numbers: &[Expr], truths: &[Truth]| {
        let (body, names) = trace.emit(&[next, numbers].concat(), truths, input);
        let (next, rest) = names.split_at(next.len());
        let state = if next.is_empty() { String::new() } else { format!("State({}), ", next.join(", ")) };
        let body =
            format!("    let t_before = max(t, 1u) - 1u;\n{body}    return {result}({state}{});\n", rest.join(", "));
        format!("fn {head} -> {result} {{\n{body}}}\n")
    };

    let ends = !trace.is_never(model.done(&arrived, x));
    let advance = Advance { model, ends };
    let members: String = (0..N).map(|i| format!("    x{i}: F,\n")).collect();
    let mut source = format!("struct State {{\n{members}}}\n");
    // The costs of the time step that led to x, and whether the rollout goes on.
    let arrive = |advance: &Advance<'_, Named<D>>, moved: Truth| {
        let (mut more, mut departure) = (running, Expr::from(0.0));
        let cost = advance.arrive(&arrived, &mut more, Some(&mut departure), moved, x, before);
        ([cost, departure], more)
    };

    if has_policy {
        let ([cost, _], more) = arrive(&advance, moved);
        source.push_str("struct Arrival {\n    cost: F,\n    running: B,\n}\n");
        let head = "model_arrive(t: u32, running: B, x: State, before: Control)";
        source.push_str(&function(head, "Arrival", &[], &[cost], &[more]));
    }

    // The cost of the previous step and the next step share one tape, so that common subexpressions are computed once.
    let step = Advance { model, ends: ends && !has_policy };
    let (costs, more) = arrive(&step, moved);
    let next = step.depart(&now, &more, x, u);
    source.push_str("struct Advanced {\n    x: State,\n    cost: F,\n    demonstration_cost: F,\n    running: B,\n}\n");
    let head = "model_advance(t: u32, running: B, x: State, before: Control, u: Control)";
    source.push_str(&function(head, "Advanced", &next, &costs, &[more]));

    let ([cost, departure], _) = arrive(&advance, Mask::splat(true));
    source.push_str("struct End {\n    cost: F,\n    demonstration_cost: F,\n    terminal: F,\n}\n");
    let last = [cost, departure, model.terminal(&now, x)];
    source.push_str(&function("model_end(t: u32, running: B, x: State, before: Control)", "End", &[], &last, &[]));
    (source, ends)
}

/// The policy in WGSL, with derivatives only for the scheme that needs them.
fn trace_policy<const N: usize, const M: usize>(
    trace: &Trace,
    policy: &impl Policy<N, M>,
    scheme: PolicyRows,
) -> Result<String, ModelError> {
    let now = StepContext::<Expr>::over(Inputs::NOW);
    let theta = Params::over(ParamView::traced(WeightsOf::Policy));
    let (x, v): ([Expr; N], [Expr; M]) = (trace.inputs(0), trace.inputs(N));
    let input = |i: usize| if i < N { format!("x.x{i}") } else { format!("v.u{}", i - N) };
    let (head, u) = match scheme {
        PolicyRows::ParameterSpace => {
            Trace::enter("act");
            ("policy_act(t: u32, x: State)", policy.act(&now, &theta, x))
        }
        PolicyRows::ScoreFunction => {
            Trace::enter("vjp");
            let mut g =
                GradientAccumulator::over(GradSink { values: &mut [], stride: 1, refused: false, history: None });
            let u = policy.vjp(&now, &theta, x, v, &mut g);
            if g.sink.refused {
                return Err(ModelError::NoVjp { parameters: policy.parameters(), limit: MAX_BY_DUALS });
            }
            ("policy_vjp(t: u32, x: State, v: Control)", u)
        }
    };
    let (body, names) = trace.emit(&u, &[], input);
    Ok(format!("fn {head} -> Control {{\n{body}    return Control({});\n}}\n", names.join(", ")))
}

/// The inputs that a policy reads when it acts in plain `f32`. (It need not be expressible as a kernel.)
pub(crate) fn reads<const N: usize, const M: usize>(policy: &impl Policy<N, M>) -> Result<Requirements, ModelError> {
    let trace = Trace::start(Math::Shared);
    Trace::enter("act");
    let theta = Params::over(ParamView::traced(WeightsOf::Policy));
    policy.act(&StepContext::<Expr>::over(Inputs::NOW), &theta, trace.inputs(0));
    let (requirements, parameters) = (trace.requirements()?, policy.parameters());
    if requirements.weights > parameters {
        return Err(ModelError::NoSuchParameter { index: requirements.weights - 1, parameters });
    }
    Ok(requirements)
}

/// A plain function in WGSL, for `check::evaluate`.
#[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "only the GPU backend reads it"))]
pub(crate) struct Traced {
    /// The hand-written WGSL functions that it calls.
    pub(crate) functions: String,
    /// Its statements, and the names of the variables that hold its results.
    pub(crate) body: String,
    pub(crate) names: Vec<String>,
    /// The inputs that it reads: only fields.
    pub(crate) requirements: Requirements,
}

/// A plain function of `I` numbers that returns `O`; its arguments are x0, x1, ….
pub(crate) fn trace_map<const I: usize, const O: usize>(
    map: &impl Map<I, O>,
    math: Math,
) -> Result<Traced, ModelError> {
    let trace = Trace::start(math);
    Trace::enter(MAP);
    let outputs = float_env::standard(|| map.map(trace.inputs::<I>(0)));
    let (body, names) = trace.emit(&outputs, &[], |i| format!("x{i}"));
    let (functions, requirements, _) = trace.finish()?;
    Ok(Traced { functions, body, names, requirements })
}
