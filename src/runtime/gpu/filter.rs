//! Prints a filter as WGSL: the functions by which `shaders/score/rollout.wgsl` and `shaders/step.wgsl` turn
//! innovations into controls. The coefficients are constants of the source, so a tap that only moves a knot to the next
//! place costs no arithmetic. Twins: `filter_innovations` in src/kernels/score/rollout.rs and `Filter::apply` in
//! src/kernels/propose/shape.rs.

use std::fmt::Write;

use crate::interp::literal::Literal;
use crate::kernels::pass::{DELAYED, JERK_LIMITED, LIMITED, RATE_LIMITED};
use crate::kernels::propose::shape::Filter;

/// The number of innovations of a row.
const COUNT: &str = "fn innovations() -> u32 {
    return innovations_of(pass_horizon);
}
";

/// With white noise an innovation is the control of its time step.
const WHITE: &str = "fn innovations_of(horizon: u32) -> u32 {
    return horizon;
}
struct Filter {
    control: Control,
}
fn entered(f: Filter, i: u32, innovation: Control) -> Filter {
    return Filter(innovation);
}
fn time_step(i: u32, phase: u32) -> u32 {
    return i;
}
fn control_of(
    p: SampleWidth, f: Filter, t: u32, phase: u32, nominal_block: u32, before: Control, changed: Control
) -> Control {
    return f.control;
}
fn change_at(p: SampleWidth, t: u32, before: Control, changed: Control, u: Control) -> Control {
    return changed;
}
";

/// Twins of the functions of these names in src/kernels/score/rollout.rs.
const CHANGES: &str = "fn change_that_counts(change: F, low: F, high: F) -> F {
    return clamp(change, min(low, F(0.0)), max(high, F(0.0)));
}
fn change_to_stop(room: F, jerk: F) -> F {
    let half = 0.5 * jerk;
    return select(room, sqrt(max(room, F(0.0))) * sqrt(2.0 * jerk) - half, room > half);
}
";

/// The loop of `shaders/score/rollout.wgsl` and `shaders/propose/draw.wgsl` over the time steps from one innovation to
/// the next.
const LOOP: &str = "for (var phase = 0u; phase < time_steps_of(i); phase++) {";

/// Returns the kernel unchanged if there is a filter. For white noise, replaces that loop by its body: some drivers do
/// not unroll a loop of one iteration, and a software adapter counts the iteration toward its limit.
pub(crate) fn over_time(filter: Option<&Filter>, kernel: &str) -> String {
    debug_assert!(kernel.contains(LOOP));
    if filter.is_some() { kernel.into() } else { kernel.replace(LOOP, "{\n let phase = 0u;") }
}

/// The head of the loop of `shaders/score/rollout.wgsl` over the innovations that are drawn together, and its end.
const INNOVATIONS: &str = "        for (var i = start; i < end; i++) {\n";
const INNOVATIONS_END: &str = "\n        }\n";

/// Writes that loop out if it makes all `steps` turns. A driver does not unroll it, since it may make fewer. In a loop,
/// each turn would also move the remaining coordinates between registers. Unrolled, the driver can also order the work of several time
/// steps as one, and so wait for their field look-ups at the same time.
pub(crate) fn unrolled(kernel: &str, steps: usize) -> String {
    let parts = kernel.split_once(INNOVATIONS).and_then(|(head, rest)| Some((head, rest.split_once(INNOVATIONS_END)?)));
    let Some((head, (body, tail))) = parts else { unreachable!("the kernel has this loop") };
    let turns: String =
        (0..steps).map(|step| format!("{{\n            let i = start + {step}u;\n{body}\n        }}\n")).collect();
    format!("{head}if end == start + STEPS {{\n{turns}}} else {{\n{INNOVATIONS}{body}{INNOVATIONS_END}}}\n{tail}")
}

/// The functions that turn the innovations of a row into controls, in order of time. `before` is the control of the
/// time step before, and `changed` its change from the one before that, which only limits of the jerk depend on.
pub(crate) fn rows(filter: Option<&Filter>, flags: u32, controls: usize) -> String {
    let Some(filter) = filter else { return [WHITE, COUNT].concat() };
    let (every, lead) = (filter.every, filter.lead);
    let mut code = String::new();
    let tap = |j: usize, m: usize| format!("tap{j}_{m}");
    let all: Vec<(usize, usize)> = (0..filter.taps).flat_map(|j| (0..controls).map(move |m| (j, m))).collect();
    let members: String = all.iter().map(|(j, m)| format!("    {}: F,\n", tap(*j, *m))).collect();
    let next = |(j, m): &(usize, usize)| entered(filter, *j, &|j| format!("f.{}", tap(j, *m)), &format!("e.u{m}"));
    let mut limited = String::new();
    for m in 0..controls {
        let _ = writeln!(limited, "    let nominal{m} = F(nominal[at + {m}u]);");
        let u = (0..filter.taps).fold(format!("nominal{m}"), |sum, j| format!("fma(f.{}, F(c{j}), {sum})", tap(j, m)));
        let _ = writeln!(limited, "    var u{m} = {u};");
        if flags & JERK_LIMITED != 0 {
            let at = |end: &str| format!("before.u{m} + (changed.u{m} + p.jerk_{end}{m})");
            let _ = writeln!(limited, "    u{m} = clamp(u{m}, {}, {});", at("low"), at("high"));
            if flags & LIMITED != 0 {
                let down = format!("before.u{m} - change_to_stop(before.u{m} - p.low{m}, p.jerk_high{m})");
                let up = format!("before.u{m} + change_to_stop(p.high{m} - before.u{m}, -p.jerk_low{m})");
                let _ = writeln!(limited, "    u{m} = min(max(u{m}, {down}), {up});");
            }
        }
        if flags & LIMITED != 0 {
            let _ = writeln!(limited, "    u{m} = clamp(u{m}, p.low{m}, p.high{m});");
        }
        if flags & RATE_LIMITED != 0 {
            let range = format!("before.u{m} + p.change_low{m}, before.u{m} + p.change_high{m}");
            let _ = writeln!(limited, "    u{m} = clamp(u{m}, {range});");
        }
        if flags & DELAYED != 0 {
            let _ = writeln!(limited, "    u{m} = select(u{m}, nominal{m}, B(t < uniforms.delay));");
        }
    }
    let controls_at: Vec<String> = (0..controls).map(|m| format!("u{m}")).collect();
    let change = match flags & JERK_LIMITED != 0 {
        true => {
            let fixed = if flags & DELAYED != 0 { "B(t < uniforms.delay)" } else { "B(false)" };
            let each = (0..controls).map(|m| {
                let at = |end: &str| format!("changed.u{m} + p.jerk_{end}{m}");
                let counts = format!("change_that_counts(u.u{m} - before.u{m}, {}, {})", at("low"), at("high"));
                format!("select({counts}, changed.u{m}, {fixed})")
            });
            format!("Control({})", each.collect::<Vec<_>>().join(", "))
        }
        false => "changed".into(),
    };
    if flags & JERK_LIMITED != 0 {
        code.push_str(CHANGES);
    }
    let steps = format!("min({every}u, pass_horizon - (i - {lead}u) * {every}u)");
    let _ = write!(
        code,
        "{}struct Filter {{\n{members}}}\n\
         fn entered(f: Filter, i: u32, e: Control) -> Filter {{\n{}    return Filter({});\n}}\n\
         fn time_steps_of(i: u32) -> u32 {{\n    return select({steps}, 0u, i < {lead}u);\n}}\n\
         fn time_step(i: u32, phase: u32) -> u32 {{\n    return (i - {lead}u) * {every}u + phase;\n}}\n\
         fn control_of(\n    \
         p: SampleWidth, f: Filter, t: u32, phase: u32, nominal_block: u32, before: Control, changed: Control\n\
         ) -> Control {{\n    \
         let at = nominal_at(nominal_block) + t * CONTROLS;\n{}{limited}    return Control({});\n}}\n\
         fn change_at(p: SampleWidth, t: u32, before: Control, changed: Control, u: Control) -> Control {{\n    return {change};\n}}\n",
        [&count(filter), COUNT].concat(),
        gains(filter),
        all.iter().map(next).collect::<Vec<_>>().join(", "),
        weights(filter),
        controls_at.join(", "),
    );
    code
}

/// The function that steps one control over some time steps, by B times the steps of the innovations, which
/// `shaders/step.wgsl` has stored in place of the merged mean. It reads the innovations that the taps depend on.
pub(crate) fn step(filter: Option<&Filter>) -> String {
    let head = "fn step_filtered(control: u32, begin: u32, end: u32, there: bool) {\n";
    let Some(filter) = filter else { return format!("{head}}}\n") };
    let (every, lead, taps) = (filter.every, filter.lead, filter.taps);
    let tap = |j: usize| format!("tap{j}");
    let forgets = filter.keep.iter().all(|keep| *keep == 0.0) && filter.first.is_none();
    let first = if forgets { format!("begin / {every}u + {}u", lead + 1 - taps) } else { "0u".into() };
    let start: String = (0..taps).map(|j| format!("    var {} = 0.0;\n", tap(j))).collect();
    let next: String = (0..taps).map(|j| format!("        let next{j} = {};\n", scalar(filter, j, &tap))).collect();
    let take: String = (0..taps).map(|j| format!("        {} = next{j};\n", tap(j))).collect();
    let sum = (0..taps).fold(String::from("0.0"), |sum, j| format!("fma({}, c{j}, {sum})", tap(j)));
    format!(
        "{head}    let at = partial_at(group_total()) + HEADER_LEN;\n{start}    \
         for (var i = {first}; i <= (end - 1u) / {every}u + {lead}u; i++) {{\n        \
         let e = partials[at + i * CONTROLS + control];\n{}{next}{take}        \
         let earliest = select(max(begin, (i - {lead}u) * {every}u), end, i < {lead}u);\n        \
         for (var t = earliest; t < min(end, (i + 1u - {lead}u) * {every}u); t++) {{\n        \
         let phase = t % {every}u;\n{}        step_control(t, control, {sum}, there);\n        }}\n    }}\n}}\n",
        gains(filter),
        weights(filter),
    )
}

/// The function that returns the number of innovations of a row over some horizon.
fn count(filter: &Filter) -> String {
    let Filter { every, lead, .. } = filter;
    let number = format!("{lead}u + (horizon + {}u) / {every}u", every - 1);
    format!("fn innovations_of(horizon: u32) -> u32 {{\n    return {number};\n}}\n")
}

/// The factors on a tap and on an innovation, where they differ for the first innovations: `keep0`, `gain0`, …
fn gains(filter: &Filter) -> String {
    let Some(first) = &filter.first else { return String::new() };
    let mut code = format!("    let starts = i < {}u;\n", filter.lead);
    for j in 0..filter.taps {
        let (keep, gain) = (Literal(filter.keep[j]), Literal(filter.gain[j]));
        // The factors of the first innovations are triangular: those after the j-th do not enter tap j.
        let entries = (0..filter.lead).filter(|i| first[*i][j] != 0.0);
        let start = entries
            .fold(String::from("0.0"), |other, i| format!("select({other}, {}, i == {i}u)", Literal(first[i][j])));
        let _ = writeln!(code, "    let keep{j} = select({keep}, 1.0, starts);");
        let _ = writeln!(code, "    let gain{j} = select({gain}, {start}, starts);");
    }
    code
}

/// Tap `j` of some rows after an innovation has entered.
fn entered(filter: &Filter, j: usize, tap: &dyn Fn(usize) -> String, innovation: &str) -> String {
    if filter.first.is_some() {
        return format!("fma({}, F(keep{j}), {innovation} * gain{j})", tap(j));
    }
    let mut terms = Vec::new();
    for (factor, of) in [
        (filter.keep[j], tap(j)),
        (filter.shift[j], tap((j + 1) % filter.taps)),
        (filter.gain[j], innovation.to_owned()),
    ] {
        if factor == 1.0 {
            terms.push(of);
        } else if factor != 0.0 {
            terms.push(format!("{of} * {}", Literal(factor)));
        }
    }
    terms.join(" + ")
}

/// Tap `j` of one control after innovation `e` has entered.
fn scalar(filter: &Filter, j: usize, tap: &dyn Fn(usize) -> String) -> String {
    match filter.first {
        Some(_) => format!("fma({}, keep{j}, e * gain{j})", tap(j)),
        None => entered(filter, j, tap, "e"),
    }
}

/// The factors on the taps, `c0`, …, `phase` time steps after an innovation.
fn weights(filter: &Filter) -> String {
    let mut code = format!("    let x = f32(phase) * {};\n", Literal(1.0 / filter.every as f32));
    for (j, polynomial) in filter.output[..filter.taps].iter().enumerate() {
        let [c0, c1, c2, c3] = polynomial.map(Literal);
        let value = match polynomial[1..] == [0.0; 3] {
            true => c0.to_string(),
            false => format!("fma(x, fma(x, fma(x, {c3}, {c2}), {c1}), {c0})"),
        };
        let _ = writeln!(code, "    let c{j} = {value};");
    }
    code
}
