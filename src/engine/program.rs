//! A model as the backends know it: a monomorphised rollout for the CPU, a piece of WGSL for the GPU.

use std::fmt::Write;
use std::sync::Arc;

use super::cpu::{OfModel, Rollout};
use crate::error::ModelError;
use crate::model::{Inputs, Model, Stage};
use crate::scalar::trace::{Expr, Math, Trace, Usage};

/// A model made ready to be rolled out.
pub(crate) struct Program {
    pub(crate) states: usize,
    pub(crate) controls: usize,
    /// What the model needs from outside.
    pub(crate) usage: Usage,
    /// Operations on the tape.
    pub(crate) operations: usize,
    /// The hand-written WGSL functions that the model calls.
    pub(crate) functions: String,
    /// The model in WGSL: everything that `shaders/rollout.wgsl` calls and that depends on the model.
    pub(crate) source: String,
    pub(crate) rollout: Box<dyn Rollout>,
}

impl Program {
    pub(crate) fn new<const N: usize, const M: usize, D: Model<N, M>>(
        model: &Arc<D>,
        math: Math,
    ) -> Result<Self, ModelError> {
        let at = Stage::<Expr>::over(Inputs::TRACED);
        let trace = Trace::start(math);
        let x: [Expr; N] = trace.inputs(0);
        let u: [Expr; M] = trace.inputs(N);
        let input = |i: usize| if i < N { format!("x.x{i}") } else { format!("u.u{}", i - N) };

        // One tape for step, cost and done, so that what they share is computed once.
        trace.enter("step");
        let next = model.step(&at, x, u);
        trace.enter("cost");
        let cost = model.cost(&at, next, u);
        trace.enter("done");
        let done = model.done(&at, next);
        let mut outputs = next.to_vec();
        outputs.push(cost);
        let (body, names) = trace.emit(&outputs, &[done], input);

        let members = |prefix: &str, n: usize| (0..n).map(|i| format!("    {prefix}{i}: f32,\n")).collect::<String>();
        let mut source = format!("struct State {{\n{}}}\nstruct Control {{\n{}}}\n", members("x", N), members("u", M));
        source.push_str("struct Stepped {\n    x: State,\n    cost: f32,\n    done: bool,\n}\n");
        // Writing to a String cannot fail.
        let _ = writeln!(
            source,
            "fn model_step(t: u32, x: State, u: Control) -> Stepped {{\n{body}    return Stepped(State({}), {}, {});\n}}",
            names[..N].join(", "),
            names[N],
            names[N + 1],
        );

        trace.enter("done");
        let done = model.done(&at, x);
        let (body, names) = trace.emit(&[], &[done], input);
        let _ = writeln!(source, "fn model_done(t: u32, x: State) -> bool {{\n{body}    return {};\n}}", names[0]);

        trace.enter("terminal");
        let terminal = model.terminal(&at, x);
        let (body, names) = trace.emit(&[terminal], &[], input);
        let _ = writeln!(source, "fn model_terminal(t: u32, x: State) -> f32 {{\n{body}    return {};\n}}", names[0]);

        let (functions, usage, operations) = trace.finish()?;
        Ok(Self {
            states: N,
            controls: M,
            usage,
            operations,
            functions,
            source,
            rollout: Box::new(OfModel::<N, M, D>(Arc::clone(model))),
        })
    }
}

/// The names of `O` outputs of a plain function of `I` numbers, and the statements before them. For `check::evaluate`.
pub(crate) fn trace_map<const I: usize, const O: usize>(
    map: &impl crate::check::Map<I, O>,
    math: Math,
) -> Result<(String, String, Vec<String>), ModelError> {
    let trace = Trace::start(math);
    trace.enter("map");
    let outputs = map.map(trace.inputs::<I>(0));
    let (body, names) = trace.emit(&outputs, &[], |i| format!("x{i}"));
    let (functions, ..) = trace.finish()?;
    Ok((functions, body, names))
}
