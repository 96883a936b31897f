//! The WGSL of the kernels, put together: hand-written files from `shaders/`, and around the model's own source what depends
//! on its sizes.

use std::fmt::Write;

use crate::engine::program::Program;
use crate::update::Layout;

const UPDATE: &str = include_str!("../../../shaders/update.wgsl");
const MATH: &str = include_str!("../../../shaders/math.wgsl");
const PHILOX: &str = include_str!("../../../shaders/philox.wgsl");
const NORMAL: &str = include_str!("../../../shaders/normal.wgsl");
const FIELD: &str = include_str!("../../../shaders/field.wgsl");
const ROLLOUT: &str = include_str!("../../../shaders/rollout.wgsl");
const WEIGH: &str = include_str!("../../../shaders/weigh.wgsl");
const WEIGHTED_MEAN: &str = include_str!("../../../shaders/weighted_mean.wgsl");
const STEP: &str = include_str!("../../../shaders/step.wgsl");
const MAP: &str = include_str!("../../../shaders/map.wgsl");

/// The kernel that draws and scores rows of a model. `diagonal`: whether the covariance is.
pub(crate) fn rollout(program: &Program, layout: Layout, diagonal: bool) -> String {
    let glue = glue(program.states, program.controls, layout, diagonal);
    [UPDATE, MATH, PHILOX, NORMAL, FIELD, &glue, &program.source, ROLLOUT].join("\n")
}

/// The kernels that know of no model: weigh, temperature.
pub(crate) fn weigh() -> String {
    [UPDATE, MATH, WEIGH].join("\n")
}

/// The weighted mean and its merge.
pub(crate) fn weighted_mean() -> String {
    [UPDATE, MATH, WEIGHTED_MEAN].join("\n")
}

/// The step. It knows of the model only where the limits stand.
pub(crate) fn step(layout: Layout) -> String {
    [UPDATE, MATH, PHILOX, NORMAL, &places(layout), STEP].join("\n")
}

/// A traced function of `inputs` numbers, for every row of a buffer.
pub(crate) fn map((functions, body, names): (&str, &str, &[String]), inputs: usize) -> String {
    let read: String =
        (0..inputs).map(|i| format!("    let x{i} = inputs[k * {inputs}u + {i}u];\n")).collect();
    let write: String = (0..names.len())
        .map(|o| format!("    rows[k * {}u + {o}u] = {};\n", names.len(), names[o]))
        .collect();
    let mapped = format!("{functions}\nfn mapped(k: u32) {{\n    let t = 0u;\n{read}{body}{write}}}\n");
    [UPDATE, MATH, FIELD, &mapped, MAP].join("\n")
}

/// Where things stand in the inputs.
fn places(layout: Layout) -> String {
    let places = [
        ("CONTROLS", layout.controls),
        ("LOW", layout.low()),
        ("HIGH", layout.high()),
        ("FACTOR", layout.factor()),
        ("PRECISION", layout.precision()),
        ("PARAMS", layout.params_at()),
    ];
    places.iter().map(|(name, at)| format!("const {name} = {at}u;\n")).collect()
}

/// What lies between the model and `shaders/rollout.wgsl`, unrolled over states and controls so that all of them stay in
/// registers.
fn glue(states: usize, controls: usize, layout: Layout, diagonal: bool) -> String {
    let list = |n: usize, item: &dyn Fn(usize) -> String| (0..n).map(item).collect::<Vec<_>>().join(", ");
    let mut code = places(layout);
    let mut add = |text: String| code.push_str(&text);

    add("fn reference_at(t: u32) -> u32 {\n    \
         return update.references + min(t, max(update.reference_rows, 1u) - 1u) * update.reference_columns;\n}\n"
        .into());
    add(format!("fn initial_state() -> State {{\n    return State({});\n}}\n", list(states, &|i| format!("inputs[{i}]"))));
    add(format!(
        "fn frozen(moves: bool, before: State, after: State) -> State {{\n    return State({});\n}}\n",
        list(states, &|i| format!("select(before.x{i}, after.x{i}, moves)"))
    ));

    // Draw: standard normals, shaped by the factor of the covariance, around the nominal.
    let mut body = String::new();
    for m in 0..controls {
        // Writing to a String cannot fail.
        let _ = writeln!(body, "    let z{m} = next_normal(k, t * CONTROLS + {m}u, held);");
    }
    let noise = |m: usize| {
        let first = if diagonal { m } else { 0 };
        let mut sum = String::from("0.0");
        for j in first..=m {
            sum = format!("fma(z{j}, inputs[FACTOR + {}u], {sum})", m * controls + j);
        }
        sum
    };
    add(format!(
        "fn drawn(k: u32, t: u32, held: ptr<function, vec4<f32>>) -> Control {{\n{body}    \
         let still = k == 0u && has(NOMINAL_FIRST);\n    let at = t * CONTROLS;\n    return Control({});\n}}\n",
        list(controls, &|m| format!("nominal[at + {m}u] + select({}, 0.0, still)", noise(m)))
    ));
    add(format!(
        "fn given(k: u32, t: u32) -> Control {{\n    let at = t * CONTROLS;\n    return Control({});\n}}\n",
        list(controls, &|m| format!("rows[address(k, at + {m}u)]"))
    ));
    add(format!(
        "fn limited(u: Control) -> Control {{\n    return Control({});\n}}\n",
        list(controls, &|m| format!("clamp(u.u{m}, inputs[LOW + {m}u], inputs[HIGH + {m}u])"))
    ));
    let stores: String =
        (0..controls).map(|m| format!("    rows[address(k, t * CONTROLS + {m}u)] = u.u{m};\n")).collect();
    add(format!("fn stored(k: u32, t: u32, u: Control) {{\n{stores}}}\n"));

    // Uᵀ Σ⁻¹ ε of one time step, with ε what the limits have left of the perturbation.
    let mut body = String::from("    let at = t * CONTROLS;\n    var sum = 0.0;\n");
    for i in 0..controls {
        for j in 0..controls {
            if i == j || !diagonal {
                let weight = format!("nominal[at + {i}u] * inputs[PRECISION + {}u]", i * controls + j);
                let _ = writeln!(body, "    sum = fma(u.u{j} - nominal[at + {j}u], {weight}, sum);");
            }
        }
    }
    add(format!("fn control_cost(t: u32, u: Control) -> f32 {{\n{body}    return sum;\n}}\n"));
    code
}
