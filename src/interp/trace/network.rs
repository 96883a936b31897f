//! The twin of `src/lang/network.rs` in WGSL: loops over the weight buffer, so that the length of the code does not
//! depend on the sizes of the layers.
//!
//! The code calls `weight(i)`, `accumulate(i, value)` and other functions of `shaders/score/episode.wgsl`, or
//! `task_weight(i)`, and `several(n)`, which returns n; both are defined in `src/runtime/gpu/source.rs`. Hidden units
//! are stored in per-invocation arrays, [`ABREAST`] at a time, so that each is loaded once for as many units of the
//! next layer. Without derivatives the last hidden layer needs no array: each of its units is added to the sums of the
//! outputs as soon as it is computed. With derivatives, those by the sums of a layer's units replace the units.
//!
//! The networks of a task are evaluated by rollouts, whose invocations may compute four rows (`F`), all of whose time
//! steps share the loop iterations that a software adapter allows. So their inner loops are unrolled by [`UNROLL`].

use std::fmt::Write;

use crate::interp::literal::Literal;
use crate::lang::WeightsOf;
use crate::lang::math::Math;
use crate::lang::network::{Activation, Bound, Bounds, GELU, GELU_END, Network, middle};

/// The layer of `inputs` and `outputs` whose parameters start at `first`.
#[derive(Clone, Copy)]
struct Layer {
    first: usize,
    inputs: usize,
    outputs: usize,
}

impl Layer {
    fn biases(self) -> usize {
        self.first + self.inputs * self.outputs
    }
}

impl Network {
    fn layers(&self) -> Vec<Layer> {
        let mut first = self.first;
        let layer = |sizes: &[usize]| {
            let layer = Layer { first, inputs: sizes[0], outputs: sizes[1] };
            first = layer.biases() + layer.outputs;
            layer
        };
        self.sizes.windows(2).map(layer).collect()
    }

    /// Upper bounds on the loop iterations of one call: of the function below that returns the outputs, and of the one
    /// that also accumulates derivatives.
    pub(crate) fn loop_iterations(&self) -> [u64; 2] {
        let layers = self.sizes.windows(2).map(|sizes| [sizes[0] as u64 + 2, sizes[1] as u64 + 2]);
        let forward = layers.clone().map(|[inputs, outputs]| inputs * outputs).sum();
        let back = layers.map(|[inputs, outputs]| (2 * inputs + 2) * outputs).sum();
        [forward, back]
    }

    /// An upper bound on the loop iterations of one call of the function for the networks of a task.
    pub(crate) fn unrolled_iterations(&self) -> u64 {
        let around = |count: usize| if count / UNROLL > 1 { (count / UNROLL) as u64 + 1 } else { 0 };
        if let [inputs, outputs] = self.sizes[..] {
            return outputs as u64 * (1 + around(inputs)) + 1;
        }
        let layers = self.sizes[1..].windows(2).enumerate().map(|(l, sizes)| {
            let each = around(sizes[1]) + if l == 0 { around(self.sizes[0]) } else { 0 };
            around(sizes[1]) + sizes[0] as u64 * (1 + each) + 1
        });
        layers.sum()
    }

    /// Prints the functions of network `number` that are called: one returns the outputs; the other, of the network of
    /// a policy, also accumulates the derivatives of its outputs times `v`. On a software adapter the latter are short:
    /// see [`blocks`].
    pub(crate) fn wgsl(
        &self,
        of: WeightsOf,
        number: usize,
        math: Math,
        software: bool,
        [calls, derives]: [bool; 2],
    ) -> String {
        let (inputs, outputs) = (self.sizes[0], self.outputs());
        let shared = math == Math::Shared;
        let tanh = if shared { "gibbs_tanh" } else { "tanh" };
        let mut code = String::new();
        let activation = self.activation_functions(&mut code, number, shared, derives);
        if calls {
            let _ = writeln!(code, "fn network_{number}(x: array<F, {inputs}>) -> array<F, {outputs}> {{");
            match of {
                WeightsOf::Task => self.unrolled(&mut code, &activation),
                WeightsOf::Policy => self.forward(&mut code, &activation, software, false, None),
            }
            self.bound(&mut code, tanh, false);
            code.push_str("    return y;\n}\n");
        }
        if derives {
            let _ = writeln!(
                code,
                "fn network_back_{number}(x: array<F, {inputs}>, v: array<F, {outputs}>) -> array<F, {outputs}> {{"
            );
            self.back(&mut code, tanh, &activation, software, number);
            code.push_str("    return y;\n}\n");
        }
        code
    }

    /// Returns the name of the activation function of network `number`, and prints it, unless it is predefined. If
    /// `derived` is set and its derivative is no function of its result, prints `rate_…` as well.
    fn activation_functions(&self, code: &mut String, number: usize, shared: bool, derived: bool) -> String {
        let tanh = if shared { "gibbs_tanh" } else { "tanh" };
        let name = format!("activation_{number}");
        let (value, rate) = match self.activation {
            Activation::Tanh => return tanh.into(),
            Activation::Relu => ("    return max(s, F(0.0));\n".to_owned(), None),
            Activation::Sin if shared => {
                ("    return gibbs_sin_cos(s).x;\n".into(), Some("    return gibbs_sin_cos(s).y;\n".into()))
            }
            Activation::Sin => ("    return sin(s);\n".into(), Some("    return cos(s);\n".into())),
            Activation::Gelu => {
                let end = Literal(GELU_END);
                let [linear, cubic, thrice] = [GELU[0], GELU[1], 3.0 * GELU[1]].map(Literal);
                let common = format!(
                    "    let x = clamp(s, F(-{end}), F({end}));\n    let z = x * x;\n    \
                     let t = {tanh}(x * fma(z, F({cubic}), F({linear})));\n    let half = max(s, F(-{end})) * 0.5;\n"
                );
                let rate = format!(
                    "{common}    let slope = half * ((1.0 - t) * (t + 1.0)) * fma(z, F({thrice}), F({linear}));\n    \
                     return fma(t, F(0.5), slope + 0.5);\n"
                );
                (format!("{common}    return fma(half, t, half);\n"), Some(rate))
            }
        };
        let _ = write!(code, "fn {name}(s: F) -> F {{\n{value}}}\n");
        if let (Some(rate), true) = (rate, derived) {
            let _ = write!(code, "fn rate_{number}(s: F) -> F {{\n{rate}}}\n");
        }
        name
    }

    /// Prints the function for the networks of a task.
    fn unrolled(&self, code: &mut String, activation: &str) {
        let layers = self.layers();
        code.push_str("    var inputs_0 = x;\n");
        let outputs = self.outputs();
        // The sum of unit j of the first layer.
        let sum = |code: &mut String, layer: Layer| {
            let _ = writeln!(code, "        var sum = F(task_weight({}u + j));", layer.biases());
            let row = format!("{}u + j * {}u", layer.first, layer.inputs);
            unroll(code, "        ", "i", layer.inputs, |i| {
                format!("sum = fma(F(task_weight({row} + {i})), inputs_0[{i}], sum);")
            });
        };
        if let [only] = layers[..] {
            let _ = write!(
                code,
                "    var y: array<F, {outputs}>;\n    for (var j = 0u; j < several({outputs}u); j++) {{\n"
            );
            sum(code, only);
            code.push_str("        y[j] = sum;\n    }\n");
        }
        for (l, pair) in layers.windows(2).enumerate() {
            let [here, above] = [pair[0], pair[1]];
            let sums = if l + 2 == layers.len() { "y".to_owned() } else { format!("sums_{}", l + 1) };
            let _ = writeln!(code, "    var {sums}: array<F, {}>;", above.outputs);
            unroll(code, "    ", "o", above.outputs, |o| {
                format!("{sums}[{o}] = F(task_weight({}u + {o}));", above.biases())
            });
            let _ = writeln!(code, "    for (var j = 0u; j < several({}u); j++) {{", above.inputs);
            if l == 0 {
                sum(code, here);
            } else {
                let _ = writeln!(code, "        let sum = sums_{l}[j];");
            }
            let _ = writeln!(code, "        let unit = {activation}(sum);");
            unroll(code, "        ", "o", above.outputs, |o| {
                let at = format!("{}u + ({o}) * {}u + j", above.first, above.inputs);
                format!("{sums}[{o}] = fma(F(task_weight({at})), unit, {sums}[{o}]);")
            });
            code.push_str("    }\n");
        }
    }

    /// Prints statements that bound `y[o]`, the sum of output o; if `rates` is set, its derivative is stored in
    /// `rates[o]`.
    fn bound(&self, code: &mut String, tanh: &str, rates: bool) {
        for (o, (bound, low, high)) in self.bounds().enumerate() {
            let (value, rate) = match bound {
                Bound::Squashed => {
                    let (middle, half) = middle(low, high);
                    let (middle, half) = (Literal(middle), Literal(half));
                    let _ = writeln!(code, "    let squashed_{o} = {tanh}(y[{o}]);");
                    let rate = format!("(1.0 - squashed_{o}) * (squashed_{o} + 1.0) * {half}");
                    (format!("fma(squashed_{o}, F({half}), F({middle}))"), rate)
                }
                Bound::Clipped => {
                    let (low, high) = (Literal(low), Literal(high));
                    (
                        format!("clamp(y[{o}], F({low}), F({high}))"),
                        format!("select(0.0, 1.0, y[{o}] > {low} && y[{o}] < {high})"),
                    )
                }
            };
            if rates {
                let _ = writeln!(code, "    rates[{o}] = {rate};");
            }
            let _ = writeln!(code, "    y[{o}] = {value};");
        }
    }

    fn bounds(&self) -> impl Iterator<Item = (Bound, f32, f32)> {
        let all = |b: &Bounds| b.low.iter().zip(&b.high).map(|(l, h)| (b.bound, *l, *h)).collect::<Vec<_>>();
        self.bounds.as_ref().map(all).unwrap_or_default().into_iter()
    }

    /// Prints statements that compute the outputs `y` from `x`. The units of all hidden layers are stored in `units`,
    /// one layer after the other. Those of the last one are added to the sums of the outputs as soon as they are
    /// computed, and are stored only if `keeps` is set. `rate` names the function whose results are stored in
    /// `unit_rates`.
    fn forward(&self, code: &mut String, activation: &str, software: bool, keeps: bool, rate: Option<&str>) {
        let layers = self.layers();
        let (last, hidden) = layers.split_last().expect("`Network::new` refuses a network without layers");
        let most = if software { 1 } else { ABREAST };
        let Layer { first, inputs, outputs } = *last;
        let _ = write!(code, "    var inputs_0 = x;\n    var y: array<F, {outputs}>;\n");
        if hidden.is_empty() {
            blocks(code, "o", outputs, inputs, most, |code, width| {
                last.sums(code, None, width);
                for k in 0..width {
                    let _ = writeln!(code, "        y[o + {k}u] = sum_{k};");
                }
            });
        } else {
            let biases = last.biases();
            let _ = write!(
                code,
                "    for (var p = 0u; p < {outputs}u; p++) {{\n        y[p] = weight({biases}u + p);\n    }}\n"
            );
        }
        let stored = &hidden[..hidden.len() - usize::from(!keeps && !hidden.is_empty())];
        if !stored.is_empty() {
            let length = stored.iter().map(|layer| layer.outputs).sum::<usize>().max(IN_REGISTERS + 1);
            let _ = writeln!(code, "    var units: array<F, {length}>;");
            if rate.is_some() {
                let _ = writeln!(code, "    var unit_rates: array<F, {length}>;");
            }
        }
        let (mut below, mut at) = (None, 0);
        for (l, layer) in hidden.iter().enumerate() {
            let is_last = l + 1 == hidden.len();
            blocks(code, "o", layer.outputs, layer.inputs, most, |code, width| {
                layer.sums(code, below, width);
                for k in 0..width {
                    let _ = writeln!(code, "        let unit_{k} = {activation}(sum_{k});");
                }
                for k in (0..width).filter(|_| keeps || !is_last) {
                    let _ = writeln!(code, "        units[o + {}u] = unit_{k};", at + k);
                    if let Some(rate) = rate {
                        let _ = writeln!(code, "        unit_rates[o + {}u] = {rate}(sum_{k});", at + k);
                    }
                }
                if is_last {
                    let _ = writeln!(code, "        for (var p = 0u; p < {outputs}u; p++) {{");
                    for k in 0..width {
                        let weight = format!("weight({first}u + p * {inputs}u + o + {k}u)");
                        let _ = writeln!(code, "            y[p] = fma({weight}, unit_{k}, y[p]);");
                    }
                    code.push_str("        }\n");
                }
            });
            (below, at) = (Some(at), at + layer.outputs);
        }
    }

    /// Prints statements that compute the outputs `y` from `x`, and accumulate their derivatives times `v`. The
    /// derivatives by the sums of a layer's units replace the units in `units`.
    fn back(&self, code: &mut String, tanh: &str, activation: &str, software: bool, number: usize) {
        let stores_rates = !self.activation.has_rate_of_output();
        let rate = format!("rate_{number}");
        self.forward(code, activation, software, true, stores_rates.then_some(&*rate));
        let most = if software { 1 } else { FOUR };
        let layers = self.layers();
        let (last, outputs) = (layers[layers.len() - 1], self.outputs());
        code.push_str("    var slopes = v;\n");
        if self.bounds.is_some() {
            let _ = writeln!(code, "    var rates: array<F, {outputs}>;");
            self.bound(code, tanh, true);
            let _ = write!(
                code,
                "    for (var o = 0u; o < {outputs}u; o++) {{\n        slopes[o] = slopes[o] * rates[o];\n    }}\n"
            );
        }
        let _ = write!(
            code,
            "    for (var o = 0u; o < {outputs}u; o++) {{\n        accumulate({}u + o, slopes[o]);\n    }}\n",
            last.biases()
        );
        if let [only] = layers[..] {
            blocks(code, "o", outputs, only.inputs, most, |code, width| {
                let _ = writeln!(code, "        let slope = {};", elements("slopes", 0, "o", width));
                only.accumulate_inputs(code, "o", width);
            });
        }
        let hidden = layers.len() - 1;
        let mut at: usize = layers[..hidden].iter().map(|layer| layer.outputs).sum();
        // The derivatives by the sums of the layer above: an array, and where they begin in it.
        let mut above = ("slopes", 0);
        for l in (1..=hidden).rev() {
            let (layer, below) = (layers[l], layers[l - 1]);
            at -= layer.inputs;
            blocks(code, "i", layer.inputs, layer.outputs, most, |code, width| {
                let _ = writeln!(code, "        let unit = {};", elements("units", at, "i", width));
                layer.sum_slopes(code, above, width);
                let kind = kind(width);
                let rate = match self.activation {
                    Activation::Tanh => format!("({kind}(1.0) - unit) * (unit + {kind}(1.0))"),
                    Activation::Relu => format!("select({kind}(0.0), {kind}(1.0), unit > {kind}(0.0))"),
                    Activation::Gelu | Activation::Sin => elements("unit_rates", at, "i", width),
                };
                let bias = format!("{}u + i", below.biases());
                let _ = write!(
                    code,
                    "        let slope = sum * ({rate});\n        {};\n",
                    accumulate(&bias, 1, "slope", width)
                );
                if l == 1 {
                    return below.accumulate_inputs(code, "i", width);
                }
                for k in 0..width {
                    let element = if width == 1 { String::new() } else { format!("[{k}]") };
                    let _ = writeln!(code, "        units[i + {}u] = slope{element};", at + k);
                }
            });
            above = ("units", at);
        }
    }
}

impl Layer {
    /// Prints statements that compute `sum_0` and so on, the sums of `width` units from `o` on. The layer's inputs are
    /// in `units` from some index on, or those of the network.
    fn sums(self, code: &mut String, from: Option<usize>, width: usize) {
        let Self { first, inputs, .. } = self;
        for k in 0..width {
            let _ = writeln!(code, "        var sum_{k} = weight({}u + o + {k}u);", self.biases());
        }
        let _ = writeln!(code, "        let row = {first}u + o * {inputs}u;");
        // Drivers unroll the loop over the inputs of a network, which are in registers.
        let step = if from.is_some() && width > 1 { FOUR } else { 1 };
        let whole = inputs - inputs % step;
        for (begin, end, step) in [(0, whole, step), (whole, inputs, 1)] {
            if begin < end {
                let trips = if from.is_some() { loop_iterations(end, FOUR) } else { format!("{end}u") };
                let _ = writeln!(code, "        for (var i = {begin}u; i < {trips}; i += {step}u) {{");
                for offset in 0..step {
                    let input = match from {
                        None => "inputs_0[i]".to_owned(),
                        Some(at) => format!("units[i + {}u]", at + offset),
                    };
                    let _ = writeln!(code, "            let input_{offset} = {input};");
                    for k in 0..width {
                        let weight = format!("weight(row + i + {}u)", k * inputs + offset);
                        let _ = writeln!(code, "            sum_{k} = fma({weight}, input_{offset}, sum_{k});");
                    }
                }
                code.push_str("        }\n");
            }
        }
    }

    /// Prints statements that compute `sum`, the derivative by `unit`, which is `width` inputs of the layer from `i`
    /// on, and that accumulate the derivatives by their weights. Those by the sums of the layer's units are in an
    /// array.
    fn sum_slopes(self, code: &mut String, (slopes, from): (&str, usize), width: usize) {
        let Self { first, inputs, outputs } = self;
        let kind = kind(width);
        let at = format!("let at = {first}u + o * {inputs}u + i;");
        let _ = writeln!(code, "        var sum = {kind}(0.0);");
        let whole = if width == FOUR { outputs - outputs % FOUR } else { 0 };
        if whole > 0 {
            let trips = loop_iterations(whole, FOUR);
            let _ = write!(
                code,
                "        for (var o = 0u; o < {trips}; o += {FOUR}u) {{\n            let slope = {};\n            \
                 {at}\n            accumulate_products(at, {inputs}u, slope, unit);\n",
                elements(slopes, from, "o", FOUR)
            );
            for k in 0..FOUR {
                let weights = format!("weights(at + {}u)", k * inputs);
                let _ = writeln!(code, "            sum = fma({weights}, {kind}(slope[{k}]), sum);");
            }
            code.push_str("        }\n");
        }
        if whole < outputs {
            let weight = if width == FOUR { "weights" } else { "weight" };
            let _ = write!(
                code,
                "        for (var o = {whole}u; o < {outputs}u; o++) {{\n            \
                 let slope = {slopes}[o + {from}u];\n            {at}\n            {};\n            \
                 sum = fma({weight}(at), {kind}(slope), sum);\n        }}\n",
                accumulate("at", 1, "slope * unit", width)
            );
        }
    }

    /// Prints statements that accumulate the derivatives by the weights of the network's inputs in `width` units from
    /// `index` on, where those by the sums of the units are `slope`.
    fn accumulate_inputs(self, code: &mut String, index: &str, width: usize) {
        let Self { first, inputs, .. } = self;
        let _ = writeln!(code, "        let row = {first}u + {index} * {inputs}u;");
        let whole = if width == FOUR { inputs - inputs % FOUR } else { 0 };
        if whole > 0 {
            let _ = write!(
                code,
                "        for (var j = 0u; j < {whole}u; j += {FOUR}u) {{\n            \
                 accumulate_products(row + j, {inputs}u, slope, {});\n        }}\n",
                elements("inputs_0", 0, "j", FOUR)
            );
        }
        if whole < inputs {
            let accumulate = accumulate("row + j", inputs, "slope * inputs_0[j]", width);
            let _ = write!(
                code,
                "        for (var j = {whole}u; j < {inputs}u; j++) {{\n            {accumulate};\n        }}\n"
            );
        }
    }
}

/// How many units are computed at once. Their sums are in registers, and each input that is loaded is used for all of
/// them.
const ABREAST: usize = 8;

/// How many units are differentiated at once, each by as many of the layer above: a vector of WGSL.
const FOUR: usize = 4;

/// The length of the longest array that Mesa's driver for AMD keeps in registers (256 bytes). It selects an element by
/// branches, which takes longer than to load it, so the units are stored in a longer one.
const IN_REGISTERS: usize = 64;

/// Prints a loop over `most` of `count` values of an index at a time, and one over those that remain. `body` prints the
/// statements for some number of values. `each` is the number of iterations of the loops inside.
///
/// On a software adapter there is one value at a time: with several, lavapipe takes 16 s instead of 6 to compile scored
/// episodes of two layers of 64 units, which are not faster.
fn blocks(code: &mut String, index: &str, count: usize, each: usize, most: usize, body: impl Fn(&mut String, usize)) {
    let whole = count - count % most;
    for (begin, end, width) in [(0, whole, most), (whole, count, 1)] {
        if begin < end {
            let trips = loop_iterations(end, each.max(FOUR));
            let _ = writeln!(code, "    for (var {index} = {begin}u; {index} < {trips}; {index} += {width}u) {{");
            body(code, width);
            code.push_str("    }\n");
        }
    }
}

/// The type of [`FOUR`] numbers, or of one.
fn kind(width: usize) -> &'static str {
    if width == FOUR { "vec4<f32>" } else { "f32" }
}

/// Prints [`FOUR`] elements of an array, or one.
fn elements(array: &str, at: usize, index: &str, width: usize) -> String {
    let elements: Vec<_> = (0..width).map(|k| format!("{array}[{index} + {}u]", at + k)).collect();
    format!("{}({})", kind(width), elements.join(", "))
}

/// Prints a statement that adds [`FOUR`] values to the derivatives by parameters `stride` apart, or one value.
fn accumulate(at: &str, stride: usize, value: &str, width: usize) -> String {
    match width {
        FOUR => format!("accumulate_four({at}, {stride}u, {value})"),
        _ => format!("accumulate({at}, {value})"),
    }
}

/// How many iterations of an inner loop become one, for the networks of a task.
const UNROLL: usize = 16;

/// Prints statements for each of `count` values of an index: a loop over [`UNROLL`] of them at a time, unless there are
/// few, and those that remain.
fn unroll(code: &mut String, indent: &str, index: &str, count: usize, statement: impl Fn(&str) -> String) {
    let mut whole = count - count % UNROLL;
    if whole > UNROLL {
        let _ = writeln!(code, "{indent}for (var {index} = 0u; {index} < {whole}u; {index} += {UNROLL}u) {{");
        for i in 0..UNROLL {
            let _ = writeln!(code, "{indent}    {}", statement(&format!("{index} + {i}u")));
        }
        let _ = writeln!(code, "{indent}}}");
    } else {
        whole = 0;
    }
    for i in whole..count {
        let _ = writeln!(code, "{indent}{}", statement(&format!("{i}u")));
    }
}

/// Prints the trip count of a loop whose inner loop has `each` iterations. Some drivers unroll every loop that they can
/// (Mesa's software adapters unroll up to 32 iterations) and would compile for minutes; `several` hides a large count
/// from them.
fn loop_iterations(count: usize, each: usize) -> String {
    const MOST: usize = 64;
    if count * each > MOST { format!("several({count}u)") } else { format!("{count}u") }
}
