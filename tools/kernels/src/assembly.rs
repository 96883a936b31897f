//! The loops of a kernel, from the assembly that Mesa's driver for AMD prints: what they execute, and what waits for
//! what.

use std::collections::HashMap;
use std::ops::Range;

use super::chain::{self, Chains};

/// Slots of an instruction that runs at a quarter of the full rate on RDNA: products of 32-bit integers and
/// transcendental functions.
const QUARTER_RATE: u64 = 4;

/// What executes an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Vector,
    Products,
    Transcendental,
    Memory,
    Shared,
    Constants,
    Scalar,
}

impl Unit {
    /// The unit of an operation; `None` for waits.
    pub fn of(operation: &str) -> Option<Self> {
        let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| operation.starts_with(prefix));
        Some(if is(&["v_mul_lo_u32", "v_mul_hi_u32", "v_mul_hi_i32", "v_mad_u64", "v_mad_i64"]) {
            Self::Products
        } else if is(&["v_sqrt_", "v_rsq_", "v_rcp_", "v_exp_", "v_log_", "v_sin_", "v_cos_"]) {
            Self::Transcendental
        } else if is(&["v_"]) {
            Self::Vector
        } else if is(&["buffer_", "global_", "scratch_", "flat_", "image_"]) {
            Self::Memory
        } else if is(&["ds_"]) {
            Self::Shared
        } else if is(&["s_load", "s_buffer_load"]) {
            Self::Constants
        } else if is(&["s_"])
            && !is(&["s_waitcnt", "s_delay_alu", "s_nop", "s_clause", "s_inst_prefetch", "s_set_inst"])
        {
            Self::Scalar
        } else {
            return None;
        })
    }
}

/// Instructions by the unit that executes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mix {
    /// Vector arithmetic at the full rate.
    pub vector: u64,
    /// Vector products of 32-bit integers.
    pub products: u64,
    /// Vector roots, reciprocals, exponentials, sines.
    pub transcendental: u64,
    /// Loads and stores of vectors.
    pub memory: u64,
    /// Loads and stores of the workgroup's memory.
    pub shared: u64,
    /// Loads of scalars.
    pub constants: u64,
    /// Other scalar instructions, without waits.
    pub scalar: u64,
}

impl Mix {
    /// The issue slots of vector arithmetic: one for each instruction, four for one at a quarter of the rate.
    pub fn slots(&self) -> u64 {
        self.vector + QUARTER_RATE * (self.products + self.transcendental)
    }

    /// The number of instructions of a unit.
    pub fn of(&mut self, unit: Unit) -> &mut u64 {
        match unit {
            Unit::Vector => &mut self.vector,
            Unit::Products => &mut self.products,
            Unit::Transcendental => &mut self.transcendental,
            Unit::Memory => &mut self.memory,
            Unit::Shared => &mut self.shared,
            Unit::Constants => &mut self.constants,
            Unit::Scalar => &mut self.scalar,
        }
    }
}

/// A loop of a kernel.
#[derive(Debug, PartialEq, Eq)]
pub struct Loop {
    /// The number of loops around it.
    pub depth: usize,
    /// Its blocks, in the order of the program.
    blocks: Range<usize>,
    /// What one turn executes if it takes every branch, without the loops inside.
    pub turn: Mix,
    /// The dependent instructions of these.
    pub chains: Chains,
}

/// Finds the loops of a program, in the order in which they begin.
pub fn loops(assembly: &str) -> Vec<Loop> {
    let (blocks, jumps) = blocks(assembly);
    // A jump to a block that is not behind its own closes a loop. Several jumps may close the same one.
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (from, to) in jumps {
        if to > from {
            continue;
        }
        match spans.iter_mut().find(|span| span.start == to) {
            Some(span) => span.end = span.end.max(from + 1),
            None => spans.push(to..from + 1),
        }
    }
    spans.sort_by_key(|span| span.start);
    let inside = |inner: &Range<usize>, outer: &Range<usize>| {
        inner != outer && inner.start >= outer.start && inner.end <= outer.end
    };
    let mut found = Vec::new();
    for span in &spans {
        let own = span.clone().filter(|block| !spans.iter().any(|inner| inside(inner, span) && inner.contains(block)));
        let lines: Vec<&str> = own.flat_map(|block| blocks[block].iter().copied()).collect();
        let mut turn = Mix::default();
        for unit in lines.iter().filter_map(|line| Unit::of(line)) {
            *turn.of(unit) += 1;
        }
        let depth = spans.iter().filter(|outer| inside(span, outer)).count();
        found.push(Loop { depth, blocks: span.clone(), turn, chains: chain::of(&lines) });
    }
    found
}

/// Splits a program into the lines of its blocks, and lists its jumps from block to block.
fn blocks(assembly: &str) -> (Vec<Vec<&str>>, Vec<(usize, usize)>) {
    let (mut blocks, mut names, mut jumps) = (Vec::<Vec<&str>>::new(), HashMap::new(), Vec::new());
    for line in assembly.lines() {
        let line = line.split(';').next().unwrap_or_default().trim();
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        if let Some(name) = first.strip_suffix(':').filter(|name| name.starts_with("BB")) {
            names.insert(name, blocks.len());
            blocks.push(Vec::new());
        } else if let Some(block) = blocks.last_mut() {
            block.push(line);
            if first.starts_with("s_branch") || first.starts_with("s_cbranch") {
                jumps.extend(words.next().map(|to| (blocks.len() - 1, to)));
            }
        }
    }
    let jumps = jumps.into_iter().filter_map(|(from, to)| Some((from, *names.get(to)?))).collect();
    (blocks, jumps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_in_a_loop_is_counted_once() {
        let program = "
            BB0:
                s_mov_b32 s0, 0                ; 00
            BB1:
                v_mul_hi_u32 v0, v1, v2        ; 01
                buffer_load_b32 v3, v4, s[0:3]
            BB2:
                v_add_f32_e32 v0, v1, v2
                v_sqrt_f32_e32 v0, v0
                s_waitcnt vmcnt(0)
                s_cbranch_scc0 BB2             ; 02
            BB3:
                s_add_i32 s0, s0, 1
                s_branch BB1
            BB4:
                s_endpgm
        ";
        let outer = Mix { products: 1, memory: 1, scalar: 2, ..Mix::default() };
        let inner = Mix { vector: 1, transcendental: 1, scalar: 1, ..Mix::default() };
        let found: Vec<_> = loops(program).into_iter().map(|of| (of.depth, of.blocks, of.turn)).collect();
        assert_eq!(found, [(0, 1..4, outer), (1, 2..3, inner)]);
        assert_eq!((outer.slots(), inner.slots()), (4, 5));
    }
}
