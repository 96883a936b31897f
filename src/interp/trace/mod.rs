//! Traced expressions: the interpretation of [`Real`](crate::lang::Real) that records what a model computes, and the
//! WGSL generated from it.
//!
//! Running a model on [`Expr`] records every operation on a thread-local tape. Equal operations share one entry
//! (hash-consing), so a common subexpression is computed once; operations on constants are folded. The entries that the
//! results depend on are then printed as straight-line WGSL.

mod expr;
pub(crate) mod network;
mod print;
mod requirements;
mod tape;

use std::fmt::Write;

use crate::error::ModelError;
use crate::lang::math::Math;
use crate::lang::{Network, WeightsOf};
use print::Printer;
pub(crate) use requirements::{LookUp, Requirements};
pub(crate) use tape::{Expr, Truth};
use tape::{Op, TAPE, Tape};

/// The function name under which a plain function is traced: see [`Trace::enter`].
pub(crate) const MAP: &str = "map";

/// An active trace on this thread. Dropping it frees the tape.
pub(crate) struct Trace {
    math: Math,
}

impl Trace {
    pub(crate) fn start(math: Math) -> Self {
        TAPE.with_borrow_mut(|tape| {
            *tape = Tape { generation: tape.generation.wrapping_add(1), ..Tape::default() };
            // Entry 0 is the placeholder for rejected handles.
            tape.push(Op::Number(0));
        });
        Self { math }
    }

    /// Sets the name of the model function that is traced next, for error messages.
    pub(crate) fn enter(function: &'static str) {
        TAPE.with_borrow_mut(|tape| tape.function = function);
    }

    /// Whether a truth value is the constant false.
    pub(crate) fn is_never(&self, truth: Truth) -> bool {
        TAPE.with_borrow_mut(|tape| {
            let at = tape.index(truth.0);
            tape.as_truth(at) == Some(false)
        })
    }

    pub(crate) fn inputs<const N: usize>(&self, first: usize) -> [Expr; N] {
        TAPE.with_borrow_mut(|tape| std::array::from_fn(|i| tape.push(Op::Input(first + i))))
    }

    /// The input of number `i`, a truth value.
    pub(crate) fn truth(&self, i: usize) -> Truth {
        TAPE.with_borrow_mut(|tape| Truth(tape.push(Op::Input(i))))
    }

    /// Prints the entries that `outputs` depend on and those with side effects as statements, and returns them with the
    /// names of the outputs. `input` names the traced inputs.
    pub(crate) fn emit(
        &self,
        outputs: &[Expr],
        truths: &[Truth],
        input: impl Fn(usize) -> String,
    ) -> (String, Vec<String>) {
        TAPE.with_borrow_mut(|tape| {
            let all: Vec<Expr> = outputs.iter().copied().chain(truths.iter().map(|t| t.0)).collect();
            let ends: Vec<u32> = all.into_iter().map(|e| tape.index(e)).collect();
            let effects = std::mem::take(&mut tape.effects);
            let printer = Printer { ops: &tape.ops, math: self.math, input: &input };
            let mut code = String::new();
            for (at, live) in printer.live(&[&ends[..], &effects].concat()).into_iter().enumerate() {
                // Writing to a String cannot fail.
                let _ = match &tape.ops[at] {
                    _ if !live || printer.is_atom(at as u32) => Ok(()),
                    Op::Accumulate(..) | Op::AccumulateAt(..) => {
                        writeln!(code, "    {};", printer.value(at as u32))
                    }
                    _ => writeln!(code, "    let t{at} = {};", printer.value(at as u32)),
                };
            }
            (code, ends.iter().map(|&at| printer.name(at)).collect())
        })
    }

    /// Prints the traced networks as WGSL functions, tuned for a software adapter or not.
    pub(crate) fn networks(&self, software: bool) -> String {
        TAPE.with_borrow(|tape| {
            let numbered = tape.networks.iter().enumerate();
            let print = |(number, (of, network)): (usize, &(WeightsOf, Network))| {
                let calls = tape.ops.iter().any(|op| matches!(op, Op::Network(called, _) if *called == number));
                let derives = tape.ops.iter().any(|op| matches!(op, Op::NetworkBack(called, ..) if *called == number));
                network.wgsl(*of, number, self.math, software, [calls, derives])
            };
            numbered.map(print).collect()
        })
    }

    /// Ends a trace that need not become a kernel, and returns the inputs that plain numbers would read.
    pub(crate) fn requirements(self) -> Result<Requirements, ModelError> {
        TAPE.with_borrow_mut(|tape| tape.misread.take().map_or(Ok(tape.requirements()), Err))
    }

    /// Ends the trace, and returns the hand-written functions it calls, the inputs it needs, and its number of
    /// operations.
    pub(crate) fn finish(self) -> Result<(String, Requirements, usize), ModelError> {
        TAPE.with_borrow_mut(|tape| {
            if let Some(error) = tape.error.take() {
                return Err(error);
            }
            let sources = tape.sources.iter().map(|(_, source)| format!("{source}\n")).collect();
            Ok((sources, tape.requirements(), tape.ops.len()))
        })
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        TAPE.with_borrow_mut(|tape| {
            *tape = Tape { generation: tape.generation.wrapping_add(1), ..Tape::default() };
        });
    }
}
