//! Assembles the WGSL of the kernels: hand-written files from `shaders/`, the model's own source, and generated code
//! that depends on the model's dimensions.

use std::fmt::Write;

use super::filter;
use super::rows::Rows;
use super::warm_up::Idle;
use crate::interp::trace::Requirements;
use crate::kernels::pass::{
    ANTITHETIC, CONTROL_COST, DELAYED, DEMONSTRATED, FILTERED, FLEET, GIVEN, JERK_LIMITED, LIMITED, Layout,
    NOMINAL_FIRST, RATE_LIMITED, SCORED, SECOND_MOMENT, STD_SCALE,
};
use crate::kernels::propose::shape::Filter;
use crate::runtime::program::{Program, Scoring, Traced};

const UPDATE: &str = include_str!("../../../shaders/pass.wgsl");
const FLEET_INPUTS: &str = include_str!("../../../shaders/fleet.wgsl");
const INTERPOLATION: &str = include_str!("../../../shaders/generated/interpolation.wgsl");
const FIELD: &str = include_str!("../../../shaders/score/field.wgsl");
const CHANNELS: &str = include_str!("../../../shaders/score/field_channels.wgsl");
const KEYS: &str = include_str!("../../../shaders/score/cost_bounds.wgsl");
const DISTANCE: &str = include_str!("../../../shaders/score/distance.wgsl");
const EPISODE: &str = include_str!("../../../shaders/score/episode.wgsl");
const RISK: &str = include_str!("../../../shaders/score/risk.wgsl");
const ROLLOUT: &str = include_str!("../../../shaders/score/rollout.wgsl");
const TRAJECTORIES: &str = include_str!("../../../shaders/score/trajectories.wgsl");
const REDUCE: &str = include_str!("../../../shaders/average/reduce.wgsl");
const WEIGH: &str = include_str!("../../../shaders/weigh/weigh.wgsl");
const SEARCH: &str = include_str!("../../../shaders/generated/root_finder.wgsl");
const TEMPERATURE: &str = include_str!("../../../shaders/weigh/temperature.wgsl");
const GROUP: &str = include_str!("../../../shaders/average/group.wgsl");
const MEAN_OF_ROWS: &str = include_str!("../../../shaders/average/mean_of_rows.wgsl");
const MEAN_OF_DRAWS: &str = include_str!("../../../shaders/average/mean_of_draws.wgsl");
const MERGE: &str = include_str!("../../../shaders/average/merge.wgsl");
const DRAW: &str = include_str!("../../../shaders/propose/draw.wgsl");
const MOMENTS: &str = include_str!("../../../shaders/average/moments.wgsl");
const STEP: &str = include_str!("../../../shaders/step.wgsl");
const WHOLE: &str = include_str!("../../../shaders/single_workgroup.wgsl");
const MAP: &str = include_str!("../../../shaders/map.wgsl");

/// The flags of a pass that select code, with the names of their constants in WGSL.
const SPECIALIZED: [(&str, u32); 14] = [
    ("GIVEN", GIVEN),
    ("NOMINAL_FIRST", NOMINAL_FIRST),
    ("LIMITED", LIMITED),
    ("CONTROL_COST", CONTROL_COST),
    ("SECOND_MOMENT", SECOND_MOMENT),
    ("STD_SCALE", STD_SCALE),
    ("DEMONSTRATED", DEMONSTRATED),
    ("ANTITHETIC", ANTITHETIC),
    ("SCORED", SCORED),
    ("FLEET", FLEET),
    ("FILTERED", FILTERED),
    ("RATE_LIMITED", RATE_LIMITED),
    ("DELAYED", DELAYED),
    ("JERK_LIMITED", JERK_LIMITED),
];

/// The subset of a pass's flags that a kernel is specialized to.
pub(crate) fn specialized(flags: u32) -> u32 {
    flags & SPECIALIZED.iter().fold(0, |all, (_, flag)| all | flag)
}

/// The parameters that a rollout kernel is specialized to, besides its model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct KernelConfig {
    pub(crate) layout: Layout,
    /// The flags of the pass that select code.
    pub(crate) flags: u32,
    /// Whether rows are rolled out in scenarios.
    pub(crate) scenarios: bool,
    /// Whether the covariance is diagonal.
    pub(crate) diagonal: bool,
    /// Whether the device has 64-bit integers.
    pub(crate) int64: bool,
    /// Whether kernels are tuned for a software adapter.
    pub(crate) software: bool,
    /// Whether each row of a policy is run in several episodes.
    pub(crate) repeated: bool,
    /// The filter that turns innovations into controls, if the flags include [`FILTERED`].
    pub(crate) filter: Option<Filter>,
}

impl KernelConfig {
    /// The sizes of the first dispatch of a kernel that draws controls.
    pub(crate) fn idle(&self) -> Idle {
        Idle::of(self.layout, self.filter.map_or(1, |filter| filter.innovations(1)))
    }

    /// The number of time steps whose controls consume a whole number of Philox blocks.
    pub(crate) fn steps(&self) -> usize {
        match self.layout.controls % 4 {
            0 => 1,
            2 => 2,
            _ => 4,
        }
    }
}

/// The kernel that draws and scores rows of a model, or that scores the rows of a data set.
pub(crate) fn rollout(program: &Program, shape: KernelConfig) -> String {
    let rows = side_by_side(program, shape);
    // Rows that the caller supplies are no pairs.
    let paired = shape.flags & (ANTITHETIC | GIVEN) == ANTITHETIC;
    let pairs = rows.in_pairs();
    // Two blocks are drawn side by side, since one is a long chain of dependent operations. Of a single control that
    // would be eight time steps, and up to seven draws too many at the end.
    let blocks = if is_unrolled(program, shape) && matches!(shape.layout.controls, 2 | 4) { 2 } else { 1 };
    rollout_of(program, shape, if paired && suits(program, pairs) { pairs } else { rows }, blocks * shape.steps())
}

/// Whether the time steps whose controls are drawn together are unrolled: not on a software adapter, which compiles as
/// slowly as the code is long.
fn is_unrolled(program: &Program, shape: KernelConfig) -> bool {
    /// The largest number of operations of a model whose time steps are repeated.
    const MOST: usize = 400;
    let short = program.functions.is_empty() && program.requirements.networks.is_empty() && program.operations <= MOST;
    short && !shape.software && shape.filter.is_none()
}

/// The kernel of [`rollout`] for given rows per invocation, that draws the controls of `steps` time steps together.
fn rollout_of(program: &Program, shape: KernelConfig, rows: Rows, steps: usize) -> String {
    if program.scoring == Scoring::Distance {
        return [UPDATE, &Rows::One.definitions(), KEYS, DISTANCE].join("\n");
    }
    let mut rollout = filter::over_time(shape.filter.as_ref(), ROLLOUT);
    if steps > 1 && is_unrolled(program, shape) {
        rollout = filter::unrolled(&rollout, steps);
    }
    [&*drawing(shape, rows), &proposal(shape, rows, steps), &model(program, rows), KEYS, &rollout].join("\n")
}

/// The model of a rollout, and the inputs that it reads.
fn model(program: &Program, rows: Rows) -> String {
    let (state, requirements) = (state(program.states), &program.requirements);
    // Unrolled, the loops of a network would be tens of thousands of instructions: see `episodes`.
    let networks = if requirements.networks.is_empty() { String::new() } else { [TASK_WEIGHT, SEVERAL].join("\n") };
    let functions = program.functions.as_str();
    [REFERENCE, &look_ups(requirements, rows), &state, &networks, functions, &program.source].join("\n")
}

/// The kernel that stores the states of rows and their weights.
pub(crate) fn trajectories(program: &Program, shape: KernelConfig) -> String {
    let states = program.states;
    let stores: String = (0..states).map(|i| format!("    partials[at + {i}u] = x.x{i};\n")).collect();
    let point = format!(
        "const POINT = {}u;\nfn put_point(at: u32, x: State, weight: f32) {{\n{stores}    \
         partials[at + {states}u] = weight;\n}}\n",
        states + 1
    );
    let trajectories = filter::over_time(shape.filter.as_ref(), TRAJECTORIES);
    let rows = Rows::One;
    [&*drawing(shape, rows), &proposal(shape, rows, shape.steps()), &model(program, rows), &point, &trajectories]
        .join("\n")
}

/// The kernel that combines the costs of rows in all scenarios.
pub(crate) fn risk() -> String {
    [UPDATE, &Rows::One.definitions(), KEYS, RISK].join("\n")
}

/// The kernels that draw and score rows of a policy.
pub(crate) fn episodes(program: &Program, shape: KernelConfig) -> String {
    let (layout, controls) = (shape.layout, shape.layout.controls);
    let rows = if side_by_side_episodes(program, shape) > 1 { Rows::Pair } else { Rows::One };
    let mut code = places(layout);
    code.push_str(&flags(shape.flags));
    let (states, saved) = (program.states, saved(layout));
    let entry = states + layout.params;
    let _ = writeln!(code, "const STATES = {states}u;\nconst ENTRY = {entry}u;\nconst KEPT = {saved}u;");
    code.push_str(&control(controls));
    let _ = write!(
        code,
        "fn initial_state() -> State {{\n    return State({});\n}}\n\
         fn param(i: u32) -> F {{\n    return {};\n}}\n\
         fn control_of(u: array<F, {controls}>) -> Control {{\n    return Control({});\n}}\n\
         fn values_of(u: Control) -> array<F, {controls}> {{\n    return array<F, {controls}>({});\n}}\n",
        list(states, |i| rows.each("F", |of| format!("inputs[start_at{of} + {i}u]"))),
        rows.each("F", |of| format!("inputs[start_at{of} + STATES + i]")),
        list(controls, |m| format!("u[{m}]")),
        list(controls, |m| format!("u.u{m}")),
    );
    let put: String = (0..states)
        .map(|i| (i, format!("x.x{i}")))
        .chain((0..controls).map(|m| (states + m, format!("u.u{m}"))))
        .map(|(i, value)| format!("    put_scores(at + {i}u * padded_rows(), {value});\n"))
        .collect();
    let saved = |i: usize| format!("scores_at(at + {i}u * padded_rows())");
    let _ = write!(
        code,
        "fn scores_at(at: U) -> F {{\n    return {};\n}}\nfn put_scores(at: U, value: F) {{\n{}}}\n\
         fn keep(at: U, x: State, u: Control) {{\n{put}}}\n\
         fn saved_state(at: U) -> State {{\n    return State({});\n}}\n\
         fn saved_control(at: U) -> Control {{\n    return Control({});\n}}\n",
        rows.each("F", |of| format!("scores[at{of}]")),
        rows.statements(|of| format!("scores[at{of}] = value{of};")),
        list(states, saved),
        list(controls, |m| saved(states + m)),
    );
    // The loop ends with the only episode of an invocation, but not with the first of two.
    let after = match rows {
        Rows::One => "next".to_owned(),
        _ => format!("State({})", list(states, |i| format!("select(x.x{i}, next.x{i}, running)"))),
    };
    let _ = writeln!(code, "fn state_after(x: State, next: State, running: B) -> State {{\n    return {after};\n}}");
    // Unrolled, the loops of a network are tens of thousands of instructions. (RADV, scored episodes of two layers of
    // 64 units, before units were computed several at a time: 57,000 instructions and 47 s instead of 6,200 and 0.6 s.)
    code.push_str(SEVERAL);
    // Only one of the two is called, but WGSL requires both to be defined.
    code.push_str(if shape.flags & SCORED != 0 {
        "fn policy_act(t: u32, x: State) -> Control {\n    return Control();\n}\n"
    } else {
        "fn policy_vjp(t: u32, x: State, v: Control) -> Control {\n    return v;\n}\n"
    });
    let weights = if program.requirements.networks.is_empty() { "" } else { TASK_WEIGHT };
    let look_ups = look_ups(&program.requirements, rows);
    let model = [REFERENCE, &look_ups, program.functions.as_str(), weights, &program.source].join("\n");
    [&drawing(shape, rows), &code, &model, KEYS, EPISODE].join("\n")
}

/// The episodes that an invocation runs side by side: two, if a row has several. They share the parameters of the row.
pub(crate) fn side_by_side_episodes(program: &Program, shape: KernelConfig) -> u32 {
    if shape.repeated && suits(program, Rows::Pair) { 2 } else { 1 }
}

/// The size of an unfinished episode's saved state: its state and last control, its cost with its Kahan compensation,
/// and whether it is still running.
pub(crate) fn saved(layout: Layout) -> usize {
    layout.states + layout.controls + 3
}

/// The weighted mean of a group of rows that are drawn again, with their weights computed in the same kernel.
pub(crate) fn mean_of_draws(shape: KernelConfig) -> String {
    let (sums, rows) = (weighed(shape, Rows::Four), Rows::Four);
    let lanes = lanes(8, shape.software);
    let weigh = [REDUCE, WEIGH, WEIGHED, GROUP].join("\n");
    [&drawing(shape, rows), &proposal(shape, rows, shape.steps()), &sums, &lanes, &weigh, MEAN_OF_DRAWS].join("\n")
}

/// The kernel that runs a whole pass of few rows.
pub(crate) fn whole(program: &Program, shape: KernelConfig, solves_temperature: bool) -> String {
    // Its mean draws any rows side by side, so none are pairs.
    let rows = side_by_side(program, shape);
    // The search is left out where it is never called, but WGSL requires the name to be defined.
    let find =
        if solves_temperature { [SEARCH, TEMPERATURE].join("\n") } else { "fn find_temperature(lane: u32) {}".into() };
    let temperature = format!("const SEARCHED = {solves_temperature};\n{find}");
    let lanes = lanes(16, shape.software);
    let reduce = [&lanes, REDUCE, WEIGH, WEIGHED, GROUP, MEAN_OF_DRAWS].join("\n");
    let filtered = filter::step(shape.filter.as_ref());
    let rollout = rollout_of(program, shape, rows, shape.steps());
    [&rollout, &weighed(shape, rows), &reduce, &filtered, STEP, &temperature, WHOLE].join("\n")
}

/// The rows that an invocation computes: four on a software adapter, else one.
fn side_by_side(program: &Program, shape: KernelConfig) -> Rows {
    Rows::one_or_four(shape.software && suits(program, Rows::Four))
}

/// Whether an invocation can compute several rows of a program: hand-written functions are scalar, and the units of its
/// networks must fit the memory of an invocation.
fn suits(program: &Program, rows: Rows) -> bool {
    let requirements = &program.requirements;
    let fits = requirements.networks.is_empty() || requirements.units * rows.count() <= NETWORK_NUMBERS;
    program.functions.is_empty() && fits
}

/// The largest number of units of a network in an invocation: WGSL guarantees 8,192 bytes for the variables of a
/// function.
pub(crate) const NETWORK_NUMBERS: usize = 8192 / 4;

/// The kernel that stores the rows.
pub(crate) fn draw(shape: KernelConfig) -> String {
    let stores: String =
        (0..shape.layout.controls).map(|m| format!("    rows[address(k, t * CONTROLS + {m}u)] = u.u{m};\n")).collect();
    let stored = format!("fn stored(k: u32, t: u32, u: Control) {{\n{stores}}}\n");
    let draw = filter::over_time(shape.filter.as_ref(), DRAW);
    [&*drawing(shape, Rows::One), &proposal(shape, Rows::One, shape.steps()), &stored, &draw].join("\n")
}

/// The look-up functions for the fields that a model reads.
fn look_ups(requirements: &Requirements, rows: Rows) -> String {
    if requirements.fields == 0 {
        return "fn read_fields() {\n}\n".into();
    }
    let count = format!("const FIELDS = {}u;", requirements.fields);
    let plain = [&*count, INTERPOLATION, FIELD, &rows.look_ups()].join("\n");
    if requirements.looks_up_channels() {
        [&*plain, CHANNELS, &rows.channel_look_ups()].join("\n")
    } else {
        [&*plain, NO_CHANNELS].join("\n")
    }
}

/// The part of `shaders/score/field_channels.wgsl` that `read_fields` calls, for models without such look-ups.
const NO_CHANNELS: &str = "fn read_channels(i: u32) {\n}\n";

/// Locates the inputs and the noise of a problem.
fn problem_inputs(fleet: bool) -> &'static str {
    if fleet { FLEET_INPUTS } else { SHARED_INPUTS }
}

/// The functions of `shaders/fleet.wgsl` for problems that share all inputs.
const SHARED_INPUTS: &str = "const inputs_at = 0u;
fn find_inputs() {}
fn find_rollout(z: u32) {
    start_problem(z);
}
fn scenario_scores() -> u32 {
    return 0u;
}
fn noise_seed() -> vec2<u32> {
    return uniforms.seed;
}
fn noise_number() -> u32 {
    return uniforms.number;
}
fn noise_chain() -> u32 {
    return problem;
}";

/// The sources that draw normals.
fn drawing(shape: KernelConfig, rows: Rows) -> String {
    let inputs = problem_inputs(shape.flags & FLEET != 0);
    [UPDATE, &rows.definitions(), inputs, &rows.noise(shape.int64)].join("\n")
}

/// The kernel that weighs rows.
pub(crate) fn weigh() -> String {
    [UPDATE, &Rows::One.definitions(), WEIGH].join("\n")
}

/// The kernel that computes what weighing needs from all rows: see `find_temperature`.
pub(crate) fn temperature(software: bool) -> String {
    // At least 64 lanes on a software adapter, since it limits the loop iterations per lane.
    let lanes = lanes(if software { 8 } else { 16 }, false);
    [UPDATE, &Rows::One.definitions(), &lanes, REDUCE, WEIGH, SEARCH, TEMPERATURE].join("\n")
}

/// The weighted mean of a group of rows that are in memory.
pub(crate) fn mean_of_rows(software: bool) -> String {
    [UPDATE, &Rows::Four.definitions(), &lanes(16, software), REDUCE, WEIGHED_BEFORE, GROUP, MEAN_OF_ROWS].join("\n")
}

/// The kernel that merges the partial results of all groups.
pub(crate) fn merge(software: bool) -> String {
    let finish = "fn finish(d: u32, mean: f32, second: f32, there: bool) {\n    if there {\n        \
                  put_moments(d, mean, second);\n    }\n}\nfn finish_all(lane: u32, there: bool) {}\n\
                  fn close() {}\n";
    let head = [UPDATE, &Rows::One.definitions(), &lanes(16, software)].join("\n");
    [&head, REDUCE, WEIGHED_BEFORE, GROUP, MOMENTS, finish, MERGE].join("\n")
}

/// The kernel that merges the partial results of all groups and steps toward the mean. Of the model it depends only on
/// the offsets of the limits. The second moment is stored where the host requests it.
pub(crate) fn merge_and_step(layout: Layout, filter: Option<Filter>, fleet: bool, software: bool) -> String {
    let finish = "fn finish(d: u32, mean: f32, second: f32, there: bool) {\n    if there && has(FLAG_SECOND_MOMENT) {\n        \
                  put_moments(d, mean, second);\n    }\n    step_coordinate(d, mean, second, there);\n}\n\
                  fn finish_all(lane: u32, there: bool) {\n    step_controls(lane, there);\n}\n\
                  fn close() {\n    close_summary();\n}\n";
    let noise = [problem_inputs(fleet), &Rows::One.noise(false)].join("\n");
    let head = [UPDATE, &Rows::One.definitions(), &noise, &places(layout), &lanes(16, software)].join("\n");
    let filtered = format!("const FILTERED = {};\n{}", filter.is_some(), filter::step(filter.as_ref()));
    [&head, REDUCE, WEIGHED_BEFORE, GROUP, MOMENTS, finish, &filtered, STEP, MERGE].join("\n")
}

/// Log-weights that are loaded from memory.
const WEIGHED_BEFORE: &str = "const WEIGHS = false;
fn log_weight_of(k: u32) -> f32 {
    return log_weights[log_weight_address(k)];
}";

/// Log-weights that are computed from the scores.
const WEIGHED: &str = "const WEIGHS = true;
fn log_weight_of(k: u32) -> f32 {
    return weighed_row(k);
}";

/// A kernel that evaluates a traced function of `inputs` numbers for every row of a buffer.
pub(crate) fn map(Traced { functions, body, names, requirements }: &Traced, inputs: usize) -> String {
    let read: String = (0..inputs).map(|i| format!("    let x{i} = inputs[k * {inputs}u + {i}u];\n")).collect();
    let write: String =
        (0..names.len()).map(|o| format!("    rows[k * {}u + {o}u] = {};\n", names.len(), names[o])).collect();
    let mapped =
        format!("{functions}\nfn mapped(k: u32) {{\n    read_fields();\n    let t = 0u;\n{read}{body}{write}}}\n");
    [UPDATE, &Rows::One.definitions(), &look_ups(requirements, Rows::One), &mapped, MAP].join("\n")
}

/// A kernel `map` that calls whatever `mapped` does, one row or four an invocation.
#[cfg(test)]
pub(crate) fn probe(mapped: &str, four: bool) -> String {
    let rows = Rows::one_or_four(four);
    [UPDATE, &rows.definitions(), SHARED_INPUTS, &rows.noise(false), mapped, MAP].join("\n")
}

/// The offsets of the sections of the inputs, as constants.
fn places(layout: Layout) -> String {
    let places = [
        ("CONTROLS", layout.controls),
        ("LOW", layout.low()),
        ("HIGH", layout.high()),
        ("FACTOR", layout.factor()),
        ("PRECISION", layout.precision()),
        ("CHANGE_LOW", layout.change_low()),
        ("CHANGE_HIGH", layout.change_high()),
        ("JERK_LOW", layout.jerk_low()),
        ("JERK_HIGH", layout.jerk_high()),
        ("LAST", layout.last()),
        ("LAST_CHANGE", layout.last_change()),
        ("PARAMS", layout.params_at()),
    ];
    places.iter().map(|(name, at)| format!("const {name} = {at}u;\n")).collect()
}

/// The size of a workgroup that reduces, given its square root. On a software adapter the cost of a barrier is
/// proportional to the number of invocations, so there are only as many as fill its vector registers.
fn lanes(root: u32, software: bool) -> String {
    let root = if software { 4 } else { root };
    format!("const LANES = {}u;\nconst ROOT = {root}u;\n", root * root)
}

/// `n` items with commas between them.
pub(super) fn list(n: usize, item: impl Fn(usize) -> String) -> String {
    (0..n).map(item).collect::<Vec<_>>().join(", ")
}

/// The offset of a time step's row in the reference table.
const REFERENCE: &str = "fn reference_at(t: u32) -> u32 {
    return inputs_at + pass_references + min(t, pass_last_reference) * pass_reference_columns;
}";

/// A weight of the task's, which are stored after the inputs of all problems.
const TASK_WEIGHT: &str = "fn task_weight(i: u32) -> f32 {
    return inputs[uniforms.weights + i];
}";

/// The trip count of a loop, hidden from drivers that unroll loops.
const SEVERAL: &str = "fn several(count: u32) -> u32 {\n    return count + pass_zero;\n}\n";

/// The operations of `shaders/score/rollout.wgsl` on a state, unrolled so that all of it stays in registers.
fn state(states: usize) -> String {
    format!(
        "fn param(i: u32) -> f32 {{\n    return inputs[inputs_at + PARAMS + i];\n}}\n\
         fn initial_state() -> State {{\n    return State({});\n}}\n",
        list(states, |i| format!("F(inputs[inputs_at + {i}u])"))
    )
}

/// The flags that kernels are specialized to, as constants.
fn flags(flags: u32) -> String {
    SPECIALIZED.iter().map(|(name, flag)| format!("const {name} = {};\n", flags & flag != 0)).collect()
}

/// The control of a time step.
fn control(controls: usize) -> String {
    format!("struct Control {{\n{}}}\n", (0..controls).map(|m| format!("    u{m}: F,\n")).collect::<String>())
}

/// The functions that draw, clamp and weigh the controls of a row, likewise unrolled over the controls.
fn proposal(shape: KernelConfig, rows: Rows, steps: usize) -> String {
    let (layout, controls) = (shape.layout, shape.layout.controls);
    let mut code = places(layout);
    code.push_str(&flags(shape.flags));
    let _ = writeln!(code, "const STEPS = {steps}u;");
    let mut add = |text: String| code.push_str(&text);

    add(control(controls));
    add(format!(
        "fn last_control() -> Control {{\n    return Control({});\n}}\n",
        list(controls, |m| format!("F(inputs[inputs_at + LAST + {m}u])"))
    ));
    add(format!(
        "fn last_change() -> Control {{\n    return Control({});\n}}\n",
        list(controls, |m| format!("F(inputs[inputs_at + LAST_CHANGE + {m}u])"))
    ));

    // Inputs that the time loop reads, loaded once: the driver has to assume that storing rows may alias the inputs.
    let mut members = String::new();
    let mut values = Vec::new();
    let mut keep = |name: String, value: String| {
        let _ = writeln!(members, "    {name}: F,");
        values.push(format!("F({value})"));
    };
    for m in 0..controls {
        keep(format!("low{m}"), format!("inputs[inputs_at + LOW + {m}u]"));
        keep(format!("high{m}"), format!("inputs[inputs_at + HIGH + {m}u]"));
        if shape.flags & RATE_LIMITED != 0 {
            keep(format!("change_low{m}"), format!("inputs[inputs_at + CHANGE_LOW + {m}u]"));
            keep(format!("change_high{m}"), format!("inputs[inputs_at + CHANGE_HIGH + {m}u]"));
        }
        if shape.flags & JERK_LIMITED != 0 {
            keep(format!("jerk_low{m}"), format!("inputs[inputs_at + JERK_LOW + {m}u]"));
            keep(format!("jerk_high{m}"), format!("inputs[inputs_at + JERK_HIGH + {m}u]"));
        }
    }
    for (i, j) in pairs(controls, shape.diagonal) {
        let at = i * controls + j;
        if j <= i {
            keep(format!("factor{at}"), format!("uniforms.scale * inputs[inputs_at + FACTOR + {at}u]"));
        }
        keep(format!("precision{at}"), format!("inputs[inputs_at + PRECISION + {at}u]"));
    }
    add(format!("struct SampleWidth {{\n{members}}}\n"));
    add(format!("fn proposal() -> SampleWidth {{\n    return SampleWidth({});\n}}\n", values.join(", ")));

    // `Block`: the controls of as many time steps (of filtered rows, as many innovations) as consume whole Philox
    // blocks, since these give four normals at a time. They are drawn as standard normals, shaped by the factor of the
    // covariance, around the nominal. (Drawing under an `if` inside the time loop would suffice on a GPU, but a
    // software adapter always computes both branches.)
    let held = steps * controls;
    add(format!("struct Block {{\n{}}}\n", (0..held).map(|i| format!("    v{i}: F,\n")).collect::<String>()));
    let time = |i: usize| format!("min(start + {}u, innovations() - 1u)", i / controls);
    // The center that they are drawn around, and the factor on the noise of each.
    add("struct Draw {\n    center: Block,\n    factors: Block,\n}\n".into());
    let block = |i: usize| format!("{} * CONTROLS + {}u", time(i), i % controls);
    add(format!(
        "fn centered(start: u32, nominal_block: u32, factor_block: u32) -> Draw {{\n    \
         let x = nominal_at(nominal_block);\n    var d: Draw;\n    if !FILTERED {{\n        d.center = Block({});\n    }}\n    \
         if STD_SCALE {{\n        let f = factors_at(factor_block);\n        d.factors = Block({});\n    }}\n    return d;\n}}\n",
        list(held, |i| format!("F(nominal[x + {}])", block(i))),
        list(held, |i| format!("F(nominal[f + {}])", block(i)))
    ));
    let mut body = String::new();
    for block in 0..held / 4 {
        let _ = writeln!(body, "    let z{block} = normals(draws.row, start * CONTROLS / 4u + {block}u);");
    }
    let normal = |i: usize| format!("spread_over(z{}.{})", i / 4, ["x", "y", "z", "w"][i % 4]);
    let noise = |i: usize| {
        let (step, m) = (i / controls, i % controls);
        let first = if shape.diagonal { m } else { 0 };
        let term = |j: usize| (normal(step * controls + j), m * controls + j);
        (first..=m).map(term).fold(String::from("F(0.0)"), |sum, (z, at)| format!("fma({z}, p.factor{at}, {sum})"))
    };
    let mirrored = |i: usize| {
        let noise = noise(i);
        let scaled = if shape.flags & STD_SCALE != 0 { format!("({noise}) * d.factors.v{i}") } else { noise };
        if shape.flags & ANTITHETIC != 0 { format!("draws.sign * ({scaled})") } else { scaled }
    };
    // `Draws`: for some rows, the draws that they use, the sign of these, and whether the row is the nominal itself.
    add(rows.draws().into());
    add("struct Draws {\n    k: U,\n    row: PhiloxRow,\n    sign: F,\n    still: B,\n}\n\
         fn draws_of(k: U) -> Draws {\n    \
         return Draws(k, row_of_draws(k), signs_of(k), (k == U(0u)) & B(NOMINAL_FIRST));\n}\n"
        .into());
    add(format!(
        "fn drawn(p: SampleWidth, d: Draw, draws: Draws, start: u32) -> Block {{\n{body}    return Block({});\n}}\n",
        list(held, |i| {
            let center = if shape.filter.is_some() { String::new() } else { format!("d.center.v{i} + ") };
            format!("{center}select({}, F(0.0), draws.still)", mirrored(i))
        })
    ));
    add(format!(
        "fn given(k: U, start: u32) -> Block {{\n    return Block({});\n}}\n",
        list(held, |i| format!("row_values(k, {} * CONTROLS + {}u)", time(i), i % controls))
    ));
    add(format!(
        "fn limited(p: SampleWidth, c: Block) -> Block {{\n    return Block({});\n}}\n",
        list(held, |i| format!("clamp(c.v{i}, p.low{}, p.high{})", i % controls, i % controls))
    ));
    add("fn coordinates_from(p: SampleWidth, d: Draw, draws: Draws, start: u32) -> Block {\n    var c: Block;\n    \
         if GIVEN {\n        c = given(draws.k, start);\n    } else {\n        c = drawn(p, d, draws, start);\n    }\n    \
         if LIMITED && !FILTERED {\n        c = limited(p, c);\n    }\n    return c;\n}\n"
        .into());
    let (first, rest) =
        (list(controls, |m| format!("c.v{m}")), list(held, |i| format!("c.v{}", (i + controls) % held)));
    add(format!("fn first_of(c: Block) -> Control {{\n    return Control({first});\n}}\n"));
    add(format!("fn rest_of(c: Block) -> Block {{\n    return Block({rest});\n}}\n"));
    add(filter::rows(shape.filter.as_ref(), shape.flags, controls));
    // Uᵀ Σ⁻¹ ε of one time step, with U the control that was drawn around and ε the perturbation after clamping to the
    // limits.
    let mut body = String::from("    var sum = F(0.0);\n");
    for (i, j) in pairs(controls, shape.diagonal) {
        let weight = format!("about.u{i} * p.precision{}", i * controls + j);
        let _ = writeln!(body, "    sum = fma(u.u{j} - about.u{j}, {weight}, sum);");
    }
    add(format!("fn control_cost(p: SampleWidth, about: Control, u: Control) -> F {{\n{body}    return sum;\n}}\n"));
    code
}

/// The functions that accumulate weighted controls, and that sum the rows of an invocation to one number each.
fn weighed(shape: KernelConfig, rows: Rows) -> String {
    let controls = shape.layout.controls;
    let mut code = format!(
        "fn chosen_rows(k: U) -> U {{\n    return {};\n}}\nfn weights_of(k: U) -> F {{\n    return {};\n}}\n",
        rows.each("U", |of| format!("chosen[k{of}]")),
        rows.each("F", |of| format!("weight(k{of})"))
    );
    let held = shape.steps() * controls;
    code.push_str(&format!(
        "fn weighed(sum: Block, w: F, c: Block) -> Block {{\n    return Block({});\n}}\n",
        list(held, |i| format!("fma(w, c.v{i}, sum.v{i})"))
    ));
    code.push_str(&format!(
        "fn squared(sum: Block, w: F, c: Block, d: Draw) -> Block {{\n    return Block({});\n}}\n",
        list(held, |i| {
            let off = format!("(c.v{i} - d.center.v{i})");
            format!("fma(w * {off}, {off}, sum.v{i})")
        })
    ));
    let mut body = String::new();
    for i in (0..held).step_by(4) {
        let four = list(4, |j| format!("total(c.v{})", i + j));
        let _ = writeln!(body, "    if i == {i}u {{\n        return vec4<f32>({four});\n    }}");
    }
    code.push_str(&format!("fn four_of(c: Block, i: u32) -> vec4<f32> {{\n{body}    return vec4<f32>();\n}}\n"));
    code
}

/// The indices of the entries of an M × M matrix that may be nonzero.
fn pairs(controls: usize, diagonal: bool) -> impl Iterator<Item = (usize, usize)> {
    let all = (0..controls * controls).map(move |at| (at / controls, at % controls));
    all.filter(move |(i, j)| i == j || !diagonal)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kernels::pass::PERTURBED;
    use crate::kernels::propose::shape::{Interpolation, NoiseShape};
    use crate::lang::math::Math;
    use crate::model::Model;
    use crate::model::policies::*;
    use crate::model::policy::Policy;
    use crate::model::systems::*;
    use crate::runtime::gpu::device::{WORKGROUP, WORKGROUP_BYTES};
    use crate::runtime::program::PolicyRows;

    const KNOTS: NoiseShape = NoiseShape::Knots { every: 5, interpolation: Interpolation::Cubic };
    const COLORED: NoiseShape = NoiseShape::Colored { exponent: 1.0 };

    /// Parses and validates a kernel with naga, which needs no driver, for a device with or without 64-bit integers.
    fn validate(name: &str, source: &str, int64: bool) -> (naga::Module, naga::valid::ModuleInfo) {
        let module = match naga::front::wgsl::parse_str(source) {
            Ok(module) => module,
            Err(error) => panic!("{name}: {}", error.emit_to_string(source)),
        };
        let flags = naga::valid::ValidationFlags::all();
        let capabilities =
            if int64 { naga::valid::Capabilities::SHADER_INT64 } else { naga::valid::Capabilities::empty() };
        let mut validator = naga::valid::Validator::new(flags, capabilities);
        let info = match validator.validate(&module) {
            Ok(info) => info,
            Err(error) => panic!("{name}: {}", error.emit_to_string(source)),
        };
        // `Engine::from_wgpu` refuses devices with lower limits.
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).expect("it is valid");
        let shared = module.global_variables.iter().filter(|(_, of)| of.space == naga::AddressSpace::WorkGroup);
        let bytes: u32 = shared.map(|(_, of)| layouter[of.ty].size.next_multiple_of(16)).sum();
        let largest = module.entry_points.iter().map(|entry| entry.workgroup_size[0]).max();
        assert!(bytes <= WORKGROUP_BYTES && largest <= Some(WORKGROUP), "{name}: {bytes} bytes, {largest:?}");
        (module, info)
    }

    /// Validates a kernel for GPUs, and translates it for Vulkan, Metal and DX12 as well.
    fn translate(name: &str, source: &str, int64: bool) {
        use naga::back::{hlsl, msl, spv};

        let (module, info) = validate(name, source, int64);
        if let Err(error) = spv::write_vec(&module, &info, &spv::Options::default(), None) {
            panic!("{name} in SPIR-V: {error}");
        }
        // The oldest sufficient versions: those with 64-bit integers, where these are used.
        let options = msl::Options { lang_version: if int64 { (2, 3) } else { (2, 0) }, ..Default::default() };
        if let Err(error) = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default()) {
            panic!("{name} in Metal's language: {error}");
        }
        let shader_model = if int64 { hlsl::ShaderModel::V6_0 } else { hlsl::ShaderModel::V5_1 };
        let options = hlsl::Options { shader_model, ..Default::default() };
        let (mut text, pipeline) = (String::new(), hlsl::PipelineOptions::default());
        if let Err(error) = hlsl::Writer::new(&mut text, &options, &pipeline).write(&module, &info, None) {
            panic!("{name} in HLSL: {error}");
        }
    }

    /// Kernels for software adapters run on Vulkan only, and other tests run them on an actual driver.
    fn check(shape: KernelConfig, name: &str, source: &str) {
        if shape.software {
            validate(name, source, shape.int64);
        } else {
            translate(name, source, shape.int64);
        }
    }

    fn validate_model<const N: usize, const M: usize>(name: &str, model: impl Model<N, M>) {
        let layout = Layout { states: N, controls: M, params: 3, reference_rows: 2, reference_columns: 4 };
        let model = Arc::new(model);
        for math in [Math::Shared, Math::Native] {
            let program = Program::new::<N, M, _>(&model, math).expect("a shipped model traces");
            for (flags, diagonal) in [
                (0, true),
                (NOMINAL_FIRST | LIMITED | CONTROL_COST, false),
                (GIVEN | LIMITED, true),
                (STD_SCALE | SECOND_MOMENT | ANTITHETIC | DEMONSTRATED, false),
                (FLEET | LIMITED, true),
                (FILTERED | LIMITED | NOMINAL_FIRST, true),
                (FILTERED | STD_SCALE | SECOND_MOMENT | ANTITHETIC, false),
                (FILTERED | LIMITED | RATE_LIMITED | JERK_LIMITED | DELAYED, true),
            ] {
                let noise = if diagonal { COLORED } else { KNOTS };
                let filter = noise.filter(50).expect("valid").filter(|_| flags & FILTERED != 0);
                for (int64, software) in [(false, false), (false, true), (true, false), (true, true)] {
                    let shape = KernelConfig {
                        layout,
                        flags,
                        scenarios: false,
                        diagonal,
                        int64,
                        software,
                        repeated: false,
                        filter,
                    };
                    check(shape, name, &rollout(&program, shape));
                    check(shape, name, &mean_of_draws(shape));
                    // Models that call hand-written functions are never compiled to a whole-pass kernel.
                    if program.functions.is_empty() {
                        check(shape, name, &whole(&program, shape, int64));
                    }
                    check(shape, name, &draw(shape));
                    // Its parts are those of the kernels above.
                    if math == Math::Shared && !int64 && !software {
                        translate(name, &trajectories(&program, shape), false);
                    }
                }
            }
        }
        for fleet in [false, true] {
            for noise in [NoiseShape::White, KNOTS, COLORED] {
                let filter = noise.filter(50).expect("valid");
                translate(name, &merge_and_step(layout, filter, fleet, false), false);
                validate(name, &merge_and_step(layout, filter, fleet, true), false);
            }
        }
    }

    fn validate_policy<const N: usize, const M: usize, P: Policy<N, M>>(
        name: &str,
        model: impl Model<N, M>,
        policy: P,
    ) {
        let layout = Layout { states: N, controls: M, params: 3, reference_rows: 2, reference_columns: 4 };
        let (model, policy) = (Arc::new(model), Arc::new(policy));
        for math in [Math::Shared, Math::Native] {
            for (scheme, flag) in [(PolicyRows::ParameterSpace, PERTURBED), (PolicyRows::ScoreFunction, SCORED)] {
                for (flags, int64, software, repeated) in [
                    (0, true, true, true),
                    (0, true, false, true),
                    (LIMITED | ANTITHETIC | STD_SCALE | NOMINAL_FIRST, false, false, false),
                ] {
                    let program = Program::for_policy::<N, M, _, _>(&model, &policy, scheme, math, software);
                    let program = program.expect("it traces");
                    let flags = specialized(flag | flags);
                    let shape = KernelConfig {
                        layout,
                        flags,
                        scenarios: false,
                        diagonal: true,
                        int64,
                        software,
                        repeated: repeated && scheme == PolicyRows::ParameterSpace,
                        filter: None,
                    };
                    check(shape, name, &episodes(&program, shape));
                }
            }
        }
    }

    #[test]
    fn every_shipped_policy_becomes_valid_wgsl() {
        validate_policy("open loop", CartPole::default(), OpenLoop { horizon: 7 });
        validate_policy("linear feedback", Quadrotor::default(), LinearFeedback);
        validate_policy("time-varying feedback", DoubleIntegrator::default(), TimeVaryingFeedback { horizon: 7 });
        for activation in [Activation::Tanh, Activation::Relu, Activation::Gelu, Activation::Sin] {
            let mlp = |hidden: &[usize]| Mlp::<6, 2>::new(hidden, activation).expect("valid");
            validate_policy("affine map", PlanarQuadrotor::default(), mlp(&[]));
            validate_policy("one hidden layer", PlanarQuadrotor::default(), mlp(&[64]));
            let squashed = mlp(&[9, 8, 7]).squashed([-1.0, 0.0], [1.0, 1e-9]).expect("valid");
            validate_policy("three hidden layers", PlanarQuadrotor::default(), squashed);
            let clipped = mlp(&[16, 16]).clipped([-1.0; 2], [1e9; 2]).expect("valid");
            validate_policy("two hidden layers", PlanarQuadrotor::default(), clipped);
        }
    }

    #[test]
    fn the_size_of_a_network_does_not_grow_its_kernel() {
        let layout = Layout { states: 6, controls: 2, params: 0, reference_rows: 0, reference_columns: 0 };
        let length = |hidden: usize, scheme, flags| {
            let policy = Arc::new(Mlp::<6, 2>::new(&[hidden, hidden], Activation::Tanh).expect("valid"));
            let program =
                Program::for_policy(&Arc::new(PlanarQuadrotor::default()), &policy, scheme, Math::Shared, false);
            episodes(
                &program.expect("it traces"),
                KernelConfig {
                    layout,
                    flags,
                    scenarios: false,
                    diagonal: true,
                    int64: true,
                    software: false,
                    repeated: false,
                    filter: None,
                },
            )
            .len()
        };
        for (scheme, flags) in [(PolicyRows::ParameterSpace, 0), (PolicyRows::ScoreFunction, SCORED)] {
            // Larger numbers have more digits.
            assert!(length(4096, scheme, flags) < length(512, scheme, flags) + 300);
        }
    }

    #[test]
    fn hand_written_kernels_are_valid_wgsl() {
        let layout = Layout { states: 1, controls: 1, params: 0, reference_rows: 0, reference_columns: 0 };
        let shape = KernelConfig {
            layout,
            flags: GIVEN,
            scenarios: false,
            diagonal: true,
            int64: false,
            software: false,
            repeated: false,
            filter: None,
        };
        for software in [false, true] {
            let shape = KernelConfig { software, ..shape };
            check(shape, "weigh", &weigh());
            check(shape, "risk", &risk());
            check(shape, "temperature", &temperature(software));
            check(shape, "mean of rows", &mean_of_rows(software));
            check(shape, "merge", &merge(software));
        }
        translate("distance", &rollout(&Program::distance(), shape), false);
    }

    #[test]
    fn every_shipped_model_becomes_valid_wgsl() {
        validate_model("cart-pole", CartPole::default());
        validate_model("pendulum", Pendulum::default());
        validate_model("double integrator", DoubleIntegrator::default());
        validate_model("unicycle", Unicycle::default());
        validate_model("differential drive", DifferentialDrive::default());
        validate_model("bicycle", Bicycle::default());
        validate_model("planar quadrotor", PlanarQuadrotor::default());
        validate_model("quadrotor", Quadrotor::default());
    }

    /// Covers every operation that a model can use, so that a user's model never is the first to emit one.
    #[test]
    fn every_operation_becomes_valid_wgsl() {
        use crate::lang::{Mask, Real, StepContext, WgslFn};

        const TWICE: WgslFn<1> =
            WgslFn { name: "twice", source: "fn twice(x: f32) -> f32 { return x + x; }", twin: |[x]| x + x };
        /// With a network whose inner loops are unrolled, and leave some units.
        struct Everything(Network);
        impl Model<2, 1> for Everything {
            fn step<R: Real>(&self, at: &StepContext<R>, [a, b]: [R; 2], [u]: [R; 1]) -> [R; 2] {
                let (s, c) = a.sin_cos();
                let mut sum = s.abs() + c.min(b).max(0.0) + a.mul_add(b, u).sqrt() + b.floor() + a.exp() + b.ln();
                sum += a.atan2(b) + a.asin() + a.acos() + a.tanh() + a.tan() + a.powi(-3) + -a;
                sum += a.rem_euclid(3.0) + a.wrap_angle() + a.sign() + a.clamp(-1.0, b) + TWICE.call([a]);
                sum += at.index() + at.dt() + at.param(2) + at.reference(3) + at.sample(1, a, b);
                let mask =
                    (a.lt(b) & a.le(1.0)) | (!a.cmp_eq(b) & a.gt(0.0)) | (a.ge(b) & a.ne(2.0)) | Mask::splat(false);
                let ([_], [[gx, gy]]) = R::look_up_slopes(&at.inputs, 0, 0, [a, b]);
                let [first, _, third] = at.look_up(2, [a]);
                sum += first + third + at.channel(3, 1, [a, b]) + at.channel(4, 2, [a, b, u]);
                let ([_], [[by_a]]) = R::look_up_slopes(&at.inputs, 2, 1, [b]);
                let ([_], [[by_x, by_y]]) = R::look_up_slopes(&at.inputs, 3, 1, [a, b]);
                let ([_], [[_, _, by_z]]) = R::look_up_slopes(&at.inputs, 4, 0, [a, b, u]);
                let [learned] = at.network(&self.0, [a, b, u]);
                sum += learned;
                [R::select(mask, sum, a / b - u * 2.0), gx + gy + by_a + by_x + by_y + by_z]
            }
            fn cost<R: Real>(&self, _: &StepContext<R>, [a, b]: [R; 2], _: [R; 1]) -> R {
                a * b
            }
            fn terminal<R: Real>(&self, at: &StepContext<R>, [a, _]: [R; 2]) -> R {
                a * at.index()
            }
            fn demonstration_cost<R: Real>(&self, at: &StepContext<R>, [a, _]: [R; 2]) -> R {
                (a - at.reference(0)).square()
            }
            fn done<R: Real>(&self, _: &StepContext<R>, [a, _]: [R; 2]) -> R::Mask {
                a.gt(100.0)
            }
        }
        for activation in [Activation::Tanh, Activation::Gelu] {
            let network = Network::new(0, &[3, 40, 37, 1], activation).and_then(|n| n.squashed(&[-1.0], &[2.0]));
            validate_model("everything", Everything(network.expect("valid")));
        }
        let network = Network::new(0, &[3, 1], Activation::Sin).and_then(|n| n.clipped(&[-1.0], &[2.0]));
        validate_model("everything", Everything(network.expect("valid")));
    }

    /// Returns the names and offsets of the members of a struct in WGSL, and its size.
    fn members(module: &naga::Module, name: &str) -> (Vec<(String, usize)>, usize) {
        let mut named = module.types.iter().filter(|(_, ty)| ty.name.as_deref() == Some(name));
        let Some(naga::TypeInner::Struct { members, span }) = named.next().map(|(_, ty)| &ty.inner) else {
            panic!("{name} is not a struct");
        };
        let member = |member: &naga::StructMember| (member.name.clone().unwrap_or_default(), member.offset as usize);
        (members.iter().map(member).collect(), *span as usize)
    }

    #[test]
    fn the_structs_of_a_pass_have_the_members_that_the_shader_declares() {
        use std::mem::offset_of;

        use crate::kernels::pass::{Pass, Sums};
        use crate::runtime::gpu::workspace::SUMMARY;

        let module = naga::front::wgsl::parse_str(UPDATE).expect("valid");
        let named = |members: &[(&str, usize)]| members.iter().map(|(name, at)| ((*name).into(), *at)).collect();
        // `target` is reserved in WGSL.
        let pass = named(&[
            ("seed", offset_of!(Pass, seed)),
            ("number", offset_of!(Pass, number)),
            ("rows", offset_of!(Pass, rows)),
            ("horizon", offset_of!(Pass, horizon)),
            ("width", offset_of!(Pass, width)),
            ("flags", offset_of!(Pass, flags)),
            ("dt", offset_of!(Pass, dt)),
            ("coordinate_stride", offset_of!(Pass, coordinate_stride)),
            ("row_stride", offset_of!(Pass, row_stride)),
            ("references", offset_of!(Pass, references)),
            ("reference_rows", offset_of!(Pass, reference_rows)),
            ("reference_columns", offset_of!(Pass, reference_columns)),
            ("cost_scale", offset_of!(Pass, cost_scale)),
            ("control_scaled", offset_of!(Pass, control_scaled)),
            ("control_fixed", offset_of!(Pass, control_fixed)),
            ("temperature", offset_of!(Pass, temperature)),
            ("search", offset_of!(Pass, search)),
            ("target_value", offset_of!(Pass, target)),
            ("a", offset_of!(Pass, a)),
            ("b", offset_of!(Pass, b)),
            ("c", offset_of!(Pass, c)),
            ("scale", offset_of!(Pass, scale)),
            ("problems", offset_of!(Pass, problems)),
            ("episodes", offset_of!(Pass, episodes)),
            ("demonstrated", offset_of!(Pass, demonstrated)),
            ("zero", offset_of!(Pass, zero)),
            ("rows_stride", offset_of!(Pass, rows_stride)),
            ("starts", offset_of!(Pass, starts)),
            ("floor", offset_of!(Pass, floor)),
            ("begin", offset_of!(Pass, begin)),
            ("end", offset_of!(Pass, end)),
            ("chains", offset_of!(Pass, chains)),
            ("inputs_stride", offset_of!(Pass, inputs_stride)),
            ("coordinates", offset_of!(Pass, coordinates)),
            ("delay", offset_of!(Pass, delay)),
            ("scenarios", offset_of!(Pass, scenarios)),
            ("risk", offset_of!(Pass, risk)),
            ("risk_value", offset_of!(Pass, risk_value)),
            ("weights", offset_of!(Pass, weights)),
        ]);
        assert_eq!(members(&module, "Pass"), (pass, size_of::<Pass>()));
        let sums = named(&[
            ("max", offset_of!(Sums, max)),
            ("sum", offset_of!(Sums, sum)),
            ("squares", offset_of!(Sums, squares)),
            ("logs", offset_of!(Sums, logs)),
            ("valid", offset_of!(Sums, valid)),
            ("temperature", offset_of!(Sums, temperature)),
            ("reference", offset_of!(Sums, reference)),
            ("mean", offset_of!(Sums, mean)),
        ]);
        assert_eq!(members(&module, "Sums"), (sums, size_of::<Sums>()));
        assert_eq!(members(&module, "Summary").1 as u64, SUMMARY);
    }

    #[test]
    fn the_constants_of_a_pass_are_those_of_the_shader() {
        use crate::kernels::pass::{
            self, ADAPT, CLAMPED, DIVERGENCE, EFFECTIVE, ELITE, FIXED, INVALID, MASKED, SIGNED, STANDARDISED, TILE,
        };

        let mut expected = [
            ("TILE", TILE as u32),
            ("GROUP", pass::GROUP as u32),
            ("FLAG_SECOND_MOMENT", SECOND_MOMENT),
            ("FLAG_CLAMPED", CLAMPED),
            ("FLAG_STD_SCALE", STD_SCALE),
            ("FLAG_ADAPT", ADAPT),
            ("FLAG_DEMONSTRATED", DEMONSTRATED),
            ("FLAG_SIGNED", SIGNED),
            ("FLAG_PERTURBED", PERTURBED),
            ("FIXED", FIXED),
            ("EFFECTIVE", EFFECTIVE),
            ("DIVERGENCE", DIVERGENCE),
            ("STANDARDISED", STANDARDISED),
            ("ELITE", ELITE),
            ("TAIL", pass::TAIL),
            ("ENTROPIC", pass::ENTROPIC),
        ]
        .map(|(name, value)| (name.to_string(), naga::Literal::U32(value)))
        .to_vec();
        let sentinels = [("MASKED", MASKED), ("INVALID", INVALID)];
        expected.extend(sentinels.map(|(name, value)| (name.into(), naga::Literal::F32(value))));

        let module = naga::front::wgsl::parse_str(UPDATE).expect("valid");
        let found = module.constants.iter().map(|(_, constant)| {
            let naga::Expression::Literal(value) = module.global_expressions[constant.init] else {
                panic!("{:?} is not a number", constant.name);
            };
            (constant.name.clone().unwrap_or_default(), value)
        });
        // The blocks of the nominals are addressed by the shader alone.
        let own = ["NOMINAL", "NOMINAL_BEFORE", "FACTORS", "FACTORS_BEFORE"];
        let found: Vec<_> = found.filter(|(name, _)| !own.contains(&name.as_str())).collect();
        assert_eq!(found, expected);
    }
}
