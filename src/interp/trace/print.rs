//! Entries of a tape as WGSL expressions.

use super::tape::{Moment, Op};
use crate::interp::literal::Literal;
use crate::lang::math::Math;
use crate::lang::{Table, WeightsOf};

/// Prints entries of a tape as WGSL.
pub(super) struct Printer<'a> {
    pub(super) ops: &'a [Op],
    pub(super) math: Math,
    /// The names of the traced inputs.
    pub(super) input: &'a dyn Fn(usize) -> String,
}

impl Printer<'_> {
    /// Marks the entries that the outputs depend on. Entries refer to earlier ones only, so one backward sweep finds
    /// them.
    pub(super) fn live(&self, ends: &[u32]) -> Vec<bool> {
        let mut live = vec![false; self.ops.len()];
        for &end in ends {
            live[end as usize] = true;
        }
        for at in (0..self.ops.len()).rev() {
            if !live[at] {
                continue;
            }
            let mut mark = |of: &u32| live[*of as usize] = true;
            match &self.ops[at] {
                Op::Unary(_, a)
                | Op::Not(a)
                | Op::Part(a, _)
                | Op::Channel(_, a, _)
                | Op::Slopes(_, a, _)
                | Op::Output(a, _)
                | Op::Accumulate(_, a)
                | Op::AccumulateAt(_, _, _, a) => mark(a),
                Op::Binary(_, a, b) | Op::Sample(_, a, b) | Op::Gradient(_, a, b) => [a, b].into_iter().for_each(mark),
                Op::Fused(a, b, c) | Op::Select(a, b, c) => [a, b, c].into_iter().for_each(mark),
                Op::Call(_, arguments) | Op::Network(_, arguments) | Op::Cell(_, arguments) => {
                    arguments.iter().for_each(mark)
                }
                Op::NetworkBack(_, x, v) => x.iter().chain(v).for_each(mark),
                Op::Number(_)
                | Op::Truth(_)
                | Op::Input(_)
                | Op::Param(_)
                | Op::Reference(..)
                | Op::Time(_)
                | Op::Dt
                | Op::Weight(..)
                | Op::WeightAt(..) => {}
            }
        }
        live
    }

    /// Whether an entry is short enough to be printed inline where it is used.
    pub(super) fn is_atom(&self, at: u32) -> bool {
        matches!(
            self.ops[at as usize],
            Op::Number(_) | Op::Truth(_) | Op::Input(_) | Op::Dt | Op::Part(..) | Op::Output(..)
        )
    }

    pub(super) fn name(&self, at: u32) -> String {
        if self.is_atom(at) { self.value(at) } else { format!("t{at}") }
    }

    pub(super) fn value(&self, at: u32) -> String {
        let n = |at: &u32| self.name(*at);
        match &self.ops[at as usize] {
            Op::Number(bits) => format!("F({})", Literal(f32::from_bits(*bits))),
            Op::Truth(value) => format!("B({value})"),
            Op::Input(i) => (self.input)(*i),
            Op::Param(i) => format!("F(param({i}u))"),
            Op::Reference(moment, j) => format!("F(inputs[reference_at({}) + {j}u])", moment.name()),
            Op::Time(moment) => format!("F(f32({}))", moment.name()),
            Op::Dt => "F(pass_dt)".into(),
            Op::Unary(kind, a) => kind.wgsl(&n(a), self.math),
            Op::Binary(kind, a, b) => kind.wgsl(&n(a), &n(b), self.math),
            Op::Fused(a, b, c) => format!("fma({}, {}, {})", n(a), n(b), n(c)),
            Op::Not(a) => format!("!{}", n(a)),
            Op::Select(m, yes, no) => format!("select({}, {}, {})", n(no), n(yes), n(m)),
            Op::Sample(field, x, y) => format!("field_sample({field}u, {}, {})", n(x), n(y)),
            Op::Gradient(field, x, y) => format!("field_gradient({field}u, {}, {})", n(x), n(y)),
            Op::Cell(field, point) => {
                let kind = kind_of_field(point.len());
                format!("{kind}_cell({field}u, {})", point.iter().map(n).collect::<Vec<_>>().join(", "))
            }
            Op::Channel(dimensions, cell, channel) => {
                format!("{}_value({}, {channel}u)", kind_of_field(*dimensions), n(cell))
            }
            Op::Slopes(dimensions, cell, channel) => {
                format!("{}_slopes({}, {channel}u)", kind_of_field(*dimensions), n(cell))
            }
            Op::Part(of, which) => format!("{}.{}", n(of), ["x", "y", "z"][usize::from(*which)]),
            Op::Call(name, arguments) => {
                format!("{name}({})", arguments.iter().map(n).collect::<Vec<_>>().join(", "))
            }
            Op::Weight(WeightsOf::Policy, i) => format!("weight({i}u)"),
            Op::Weight(WeightsOf::Task, i) => format!("F(task_weight({i}u))"),
            Op::WeightAt(moment, table, j) => format!("weight({})", place(*moment, table, *j)),
            Op::Network(number, x) => format!("network_{number}({})", self.array(x)),
            Op::NetworkBack(number, x, v) => format!("network_back_{number}({}, {})", self.array(x), self.array(v)),
            Op::Output(of, o) => format!("{}[{o}]", n(of)),
            Op::Accumulate(i, value) => format!("accumulate({i}u, {})", n(value)),
            Op::AccumulateAt(moment, table, j, value) => {
                format!("accumulate({}, {})", place(*moment, table, *j), n(value))
            }
        }
    }

    fn array(&self, of: &[u32]) -> String {
        let of: Vec<_> = of.iter().map(|at| self.name(*at)).collect();
        format!("array<F, {}>({})", of.len(), of.join(", "))
    }
}

/// The prefix of the functions that look up fields with some number of dimensions.
fn kind_of_field(dimensions: usize) -> &'static str {
    ["table", "plane", "volume"][dimensions - 1]
}

/// Prints the index of the parameter in column `j` of a table.
fn place(moment: Moment, table: &Table, j: usize) -> String {
    let Table { first, rows, columns } = table;
    format!("{}u + min({}, {}u) * {columns}u", first + j, moment.name(), rows - 1)
}
