//! Chains of dependent instructions in a loop: each waits for the result of the one before, from turn to turn.

use std::collections::HashMap;

use super::assembly::{Mix, Unit};

/// A multiple of the turns after which registers that are rotated by a loop are where they were.
const TURNS: u64 = 12;

/// How long a loop waits for its own results.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chains {
    /// Cycles per turn of a wave that has a processor to itself: it issues one instruction per cycle (one at a quarter
    /// of the rate takes four), in the order of the program, as soon as the operands are there.
    pub alone: u64,
    /// The latencies of the longest chain from one turn to the next, in cycles: the least that a turn takes, in
    /// whatever order it is issued.
    pub carried: u64,
    /// The instructions of this chain.
    pub path: Mix,
}

impl Mix {
    /// The numbers that are not 0, with the names of their units.
    pub fn describe(&self) -> String {
        let units = [
            (self.vector, "VALU"),
            (self.products, "products"),
            (self.transcendental, "transc."),
            (self.memory, "memory"),
            (self.shared, "LDS"),
            (self.constants, "scalar loads"),
            (self.scalar, "scalar"),
        ];
        let there = units.iter().filter(|(number, _)| *number > 0);
        there.map(|(number, name)| format!("{number} {name}")).collect::<Vec<_>>().join(", ")
    }
}

/// Cycles from the issue of an instruction to that of one that uses its result, by LLVM's scheduling model of RDNA3
/// (`GFX11SpeedModel` in `llvm/lib/Target/AMDGPU/SISchedule.td`). Memory is a typical value.
fn latency(unit: Unit) -> u64 {
    match unit {
        Unit::Vector => 5,
        Unit::Products => 8,
        Unit::Transcendental => 10,
        Unit::Memory => 320,
        Unit::Shared | Unit::Constants => 20,
        Unit::Scalar => 2,
    }
}

/// Cycles until the next instruction can be issued.
fn issue(unit: Unit) -> u64 {
    if matches!(unit, Unit::Products | Unit::Transcendental) { 4 } else { 1 }
}

/// A register: its file and its number, or the name of a special one.
type Register<'a> = (&'a str, u64);

/// An instruction, or half of one that executes two.
struct Instruction<'a> {
    unit: Unit,
    reads: Vec<Register<'a>>,
    writes: Vec<Register<'a>>,
}

/// The time at which a register is written, and the longest chain of instructions that leads there.
#[derive(Clone, Copy, Default)]
struct Result {
    time: u64,
    length: u64,
    path: Mix,
}

/// Finds the chains of the lines of a turn.
pub fn of(lines: &[&str]) -> Chains {
    let instructions: Vec<Vec<Instruction<'_>>> =
        lines.iter().map(|line| line.split("::").filter_map(|half| parse(half.trim())).collect()).collect();
    let mut results: HashMap<Register<'_>, Result> = HashMap::new();
    let (mut clock, mut longest) = (0, Result::default());
    let mut halfway = (clock, longest);
    for turn in 0..2 * TURNS {
        if turn == TURNS {
            halfway = (clock, longest);
        }
        for halves in &instructions {
            // Both halves of an instruction read before either writes.
            let operands: Vec<Result> = halves.iter().map(|half| operands(&results, half)).collect();
            clock = operands.iter().map(|operand| operand.time).fold(clock, u64::max);
            for (half, mut operand) in halves.iter().zip(operands) {
                operand.time = clock + latency(half.unit);
                operand.length += latency(half.unit);
                *operand.path.of(half.unit) += 1;
                if operand.length > longest.length {
                    longest = operand;
                }
                results.extend(half.writes.iter().map(|register| (*register, operand)));
            }
            clock += halves.iter().map(|half| issue(half.unit)).max().unwrap_or(0);
        }
    }
    let per_turn = |after: u64, before: u64| (after - before).div_ceil(TURNS);
    let mut path = longest.path;
    let mut before = halfway.1.path;
    for unit in
        [Unit::Vector, Unit::Products, Unit::Transcendental, Unit::Memory, Unit::Shared, Unit::Constants, Unit::Scalar]
    {
        *path.of(unit) = per_turn(*path.of(unit), (*before.of(unit)).min(*path.of(unit)));
    }
    Chains { alone: per_turn(clock, halfway.0), carried: per_turn(longest.length, halfway.1.length), path }
}

/// When the operands of an instruction are there, and the longest chain that leads to one of them.
fn operands(results: &HashMap<Register<'_>, Result>, instruction: &Instruction<'_>) -> Result {
    let there = instruction.reads.iter().filter_map(|register| results.get(register));
    there.fold(Result::default(), |all, one| {
        let longer = if one.length > all.length { *one } else { all };
        Result { time: all.time.max(one.time), ..longer }
    })
}

/// Parses an instruction; `None` for waits.
fn parse(line: &str) -> Option<Instruction<'_>> {
    let (operation, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let unit = Unit::of(operation)?;
    let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| operation.starts_with(prefix));
    let operands: Vec<Vec<Register<'_>>> = rest.split(',').map(|operand| registers(operand.trim())).collect();
    // The first operands are written, except by stores, comparisons of scalars, branches and the like.
    let results = if is(&["buffer_store", "buffer_atomic", "global_store", "scratch_store", "ds_store"])
        || is(&["s_cmp", "s_bitcmp", "s_branch", "s_cbranch", "s_endpgm", "s_barrier", "s_sendmsg", "v_cmpx"])
    {
        0
    } else if operation.contains("_co_") || is(&["v_mad_u64", "v_mad_i64", "v_div_scale", "v_swap"]) {
        2
    } else {
        1
    };
    let (written, read) = operands.split_at(results.min(operands.len()));
    let (mut reads, mut writes) = (read.concat(), written.concat());
    if operation.contains("fmac") || is(&["v_swap", "v_writelane", "v_dot2acc", "v_dual_dot2acc"]) {
        reads.extend(&writes);
    }
    // Registers that are not written out.
    let (flag, mask) = (("scc", 0), ("exec", 0));
    if unit == Unit::Scalar {
        if is(&["s_cselect", "s_addc", "s_subb", "s_cmov", "s_cbranch_scc"]) {
            reads.push(flag);
        } else if !is(&["s_mov", "s_branch", "s_cbranch", "s_mul", "s_brev", "s_pack", "s_bfm"]) {
            writes.push(flag);
        }
    } else if unit != Unit::Constants {
        reads.push(mask);
    }
    if operation.contains("saveexec") || is(&["v_cmpx"]) {
        reads.push(mask);
        writes.push(mask);
    }
    Some(Instruction { unit, reads, writes })
}

/// The registers of an operand, such as `-|v3|`, `s[4:7]` or `vcc`; none of a constant.
fn registers(operand: &str) -> Vec<Register<'_>> {
    let operand = operand.split_whitespace().next().unwrap_or_default().trim_matches(['-', '|']);
    for special in ["vcc", "exec"] {
        if operand.starts_with(special) {
            return vec![(if special == "vcc" { "vcc" } else { "exec" }, 0)];
        }
    }
    let Some((file, number)) = operand.split_at_checked(1).filter(|(file, _)| matches!(*file, "v" | "s")) else {
        return Vec::new();
    };
    if let Ok(number) = number.parse() {
        return vec![(file, number)];
    }
    let range = number.strip_prefix('[').and_then(|range| range.strip_suffix(']'));
    let ends = range.and_then(|range| {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        Some(first.parse::<u64>().ok()?..=last.parse().ok()?)
    });
    ends.into_iter().flatten().map(|number| (file, number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_followed_from_turn_to_turn() {
        // v0 waits for itself through a sum and a root; the rest of a turn does not.
        let lines = [
            "v_add_f32_e32 v1, 1.0, v0",
            "v_sqrt_f32_e64 v0, -|v1|",
            "v_mul_f32_e32 v2, v0, v0",
            "v_mul_f32_e32 v2, v2, v2",
            "s_waitcnt vmcnt(0)",
            "s_cbranch_scc0 BB1",
        ];
        let Chains { alone, carried, path } = of(&lines);
        assert_eq!((carried, path), (15, Mix { vector: 1, transcendental: 1, ..Mix::default() }));
        // The products wait for the root, and the next turn is issued after them.
        assert_eq!(alone, 5 + 10 + 5 + 1 + 1);
    }

    #[test]
    fn a_chain_runs_through_implicit_operands() {
        // An accumulator, a scalar comparison, a mask, and both halves of an instruction.
        let cases: [(&[&str], u64); 5] = [
            (&["v_fmac_f32_e32 v0, v1, v2"], 5),
            (&["v_fma_f32 v0, v1, v2, 1.0"], 0),
            (&["s_cmp_lt_u32 s0, s1", "s_cselect_b32 s0, s2, s3"], 4),
            (&["v_cmpx_eq_i32_e32 0, v0", "v_add_f32_e32 v0, v1, v2"], 10),
            (&["v_dual_add_f32 v0, v1, v2 :: v_dual_mul_f32 v1, v0, v2"], 5),
        ];
        for (lines, carried) in cases {
            assert_eq!(of(lines).carried, carried, "{lines:?}");
        }
    }

    #[test]
    fn rotated_registers_carry_no_more_than_they_are_moved() {
        // A value takes two turns through two registers: a load per turn and a move, not a chain of loads.
        let lines = ["v_mov_b32_e32 v1, v0", "buffer_load_b64 v[4:5], v1, s[0:3], 0 offen", "v_swap_b32 v0, v2"];
        assert_eq!(of(&lines).carried, 5);
        let lines = ["buffer_load_b64 v[4:5], v4, s[0:3], 0 offen", "v_add_nc_u32_e32 v4, v4, v5"];
        let Chains { carried, path, .. } = of(&lines);
        assert_eq!((carried, path), (325, Mix { vector: 1, memory: 1, ..Mix::default() }));
    }
}
