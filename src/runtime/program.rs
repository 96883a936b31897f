//! A model in the forms that the backends need: a monomorphized rollout for the CPU, WGSL source for the GPU.

use std::fmt::Write;
use std::sync::Arc;

use super::optimization;
use crate::error::{BuildError, InvalidValue, ModelError};
use crate::interp::trace::{Expr, MAP, Requirements, Trace};
use crate::kernels::score::distance::Distance;
use crate::kernels::score::episode::OfPolicy;
use crate::kernels::score::rollout::{OfModel, Rollout};
use crate::lang::math::Math;
use crate::lang::{GradSink, GradientAccumulator, Inputs, ParamView, Params, StepContext, float_env};
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
        let (source, ends) = float_env::standard(|| trace_model(&trace, &**model));
        let (functions, requirements, operations) = trace.finish()?;
        let rollout = Box::new(OfModel::<N, M, D>::new(Arc::clone(model), ends));
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

    /// Compiles a model that is driven by a policy.
    pub(crate) fn for_policy<const N: usize, const M: usize, D: Model<N, M>, P: Policy<N, M>>(
        model: &Arc<D>,
        policy: &Arc<P>,
        scheme: PolicyRows,
        math: Math,
    ) -> Result<Self, BuildError> {
        let parameters = policy.parameters();
        if parameters == 0 {
            return Err(
                InvalidValue::new("policy", "without parameters", "a policy with at least one parameter").into()
            );
        }
        let trace = Trace::start(math);
        let (mut source, _) = float_env::standard(|| trace_model(&trace, &**model));
        source.push_str(&float_env::standard(|| trace_done(&trace, &**model)));
        let policy_source = float_env::standard(|| trace_policy(&trace, &**policy, scheme))?;
        source.push_str(&trace.networks());
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

/// The model in WGSL, and whether an episode can end before its horizon: it cannot if the model's `done` is constant
/// false. Writing to a String cannot fail, here and below.
fn trace_model<const N: usize, const M: usize>(trace: &Trace, model: &impl Model<N, M>) -> (String, bool) {
    let (now, before) = (StepContext::<Expr>::over(Inputs::NOW), StepContext::<Expr>::over(Inputs::BEFORE));
    let (x, u): ([Expr; N], [Expr; M]) = (trace.inputs(0), trace.inputs(N));
    let u_before: [Expr; M] = trace.inputs(N + M);
    let input = |i: usize| match i {
        _ if i < N => format!("x.x{i}"),
        _ if i < N + M => format!("u.u{}", i - N),
        _ => format!("before.u{}", i - N - M),
    };
    let members: String = (0..N).map(|i| format!("    x{i}: F,\n")).collect();
    let mut source = format!("struct State {{\n{members}}}\n");
    source.push_str("struct Advanced {\n    x: State,\n    cost: F,\n    demonstration_cost: F,\n    done: B,\n}\n");

    // The cost of the previous step and the next step share one tape, so that common subexpressions are computed once.
    trace.enter("cost");
    let cost = model.cost(&before, x, u_before);
    trace.enter("demonstration_cost");
    let demonstration_cost = model.demonstration_cost(&before, x);
    trace.enter("done");
    let done = model.done(&before, x);
    let ends = !trace.is_never(done);
    trace.enter("step");
    let next = model.step(&now, x, u);
    let mut outputs = next.to_vec();
    outputs.extend([cost, demonstration_cost]);
    let (body, names) = trace.emit(&outputs, &[done], input);
    let _ = writeln!(
        source,
        "fn model_advance(t: u32, x: State, before: Control, u: Control) -> Advanced {{\n    \
         let t_before = max(t, 1u) - 1u;\n{body}    return Advanced(State({}), {});\n}}",
        names[..N].join(", "),
        names[N..].join(", "),
    );

    trace.enter("cost");
    let cost = model.cost(&now, x, u);
    let (body, names) = trace.emit(&[cost], &[], input);
    let _ = writeln!(source, "fn model_cost(t: u32, x: State, u: Control) -> F {{\n{body}    return {};\n}}", names[0]);

    trace.enter("demonstration_cost");
    let demonstration_cost = model.demonstration_cost(&now, x);
    let (body, names) = trace.emit(&[demonstration_cost], &[], input);
    let _ =
        writeln!(source, "fn model_demonstration_cost(t: u32, x: State) -> F {{\n{body}    return {};\n}}", names[0]);

    trace.enter("terminal");
    let terminal = model.terminal(&now, x);
    let (body, names) = trace.emit(&[terminal], &[], input);
    let _ = writeln!(source, "fn model_terminal(t: u32, x: State) -> F {{\n{body}    return {};\n}}", names[0]);
    (source, ends)
}

/// The function that tests whether an episode ends in a state. It is separate from the step, since no derivative may be
/// accumulated once the episode has ended.
fn trace_done<const N: usize, const M: usize>(trace: &Trace, model: &impl Model<N, M>) -> String {
    trace.enter("done");
    let done = model.done(&StepContext::<Expr>::over(Inputs::BEFORE), trace.inputs(0));
    let (body, names) = trace.emit(&[], &[done], |i| format!("x.x{i}"));
    let t_before = "let t_before = max(t, 1u) - 1u;";
    format!("fn model_done(t: u32, x: State) -> B {{\n    {t_before}\n{body}    return {};\n}}\n", names[0])
}

/// The policy in WGSL, with derivatives only for the scheme that needs them.
fn trace_policy<const N: usize, const M: usize>(
    trace: &Trace,
    policy: &impl Policy<N, M>,
    scheme: PolicyRows,
) -> Result<String, ModelError> {
    let now = StepContext::<Expr>::over(Inputs::NOW);
    let theta = Params::over(ParamView::TRACED);
    let (x, v): ([Expr; N], [Expr; M]) = (trace.inputs(0), trace.inputs(N));
    let input = |i: usize| if i < N { format!("x.x{i}") } else { format!("v.u{}", i - N) };
    let (head, u) = match scheme {
        PolicyRows::ParameterSpace => {
            trace.enter("act");
            ("policy_act(t: u32, x: State)", policy.act(&now, &theta, x))
        }
        PolicyRows::ScoreFunction => {
            trace.enter("vjp");
            let mut g = GradientAccumulator::over(GradSink { values: &mut [], stride: 1, refused: false });
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
    trace.enter("act");
    policy.act(&StepContext::<Expr>::over(Inputs::NOW), &Params::over(ParamView::TRACED), trace.inputs(0));
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
    trace.enter(MAP);
    let outputs = float_env::standard(|| map.map(trace.inputs::<I>(0)));
    let (body, names) = trace.emit(&outputs, &[], |i| format!("x{i}"));
    let (functions, requirements, _) = trace.finish()?;
    Ok(Traced { functions, body, names, requirements })
}
