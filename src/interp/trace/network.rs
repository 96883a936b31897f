//! The twin of `src/lang/network.rs` in WGSL: loops over the weight buffer, so that the length of the code does not
//! depend on the sizes of the layers.
//!
//! The code calls `weight(i)` and `accumulate(i, value)`, defined in `shaders/score/episode.wgsl`, or `task_weight(i)`,
//! and `several(n)`, which returns n; both are defined in `src/runtime/gpu/source.rs`. Hidden units are stored in
//! per-invocation arrays. Without derivatives the first hidden layer needs no array: each of its units is added to the
//! sums of the next layer as soon as it is computed.
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

    /// Prints the function that returns the outputs of network `number`; for the network of a policy also one that
    /// accumulates the derivatives of its outputs times `v`.
    pub(crate) fn wgsl(&self, of: WeightsOf, number: usize, math: Math) -> String {
        let (inputs, outputs) = (self.sizes[0], self.outputs());
        let shared = math == Math::Shared;
        let tanh = if shared { "gibbs_tanh" } else { "tanh" };
        let mut code = String::new();
        let activation = self.activation_functions(&mut code, number, shared, of == WeightsOf::Policy);
        let _ = writeln!(code, "fn network_{number}(x: array<F, {inputs}>) -> array<F, {outputs}> {{");
        if of == WeightsOf::Task {
            self.unrolled(&mut code, tanh, &activation);
            code.push_str("}\n");
            return code;
        }
        self.forward(&mut code, tanh, &activation);
        let _ = write!(
            code,
            "}}\nfn network_back_{number}(x: array<F, {inputs}>, v: array<F, {outputs}>) -> array<F, {outputs}> {{\n"
        );
        self.back(&mut code, tanh, &activation, number);
        code.push_str("}\n");
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
    fn unrolled(&self, code: &mut String, tanh: &str, activation: &str) {
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
        self.bound(code, tanh, false);
        code.push_str("    return y;\n");
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

    /// Prints a loop that computes the sums of a layer's units from `from`, applies `finish` and stores the results in
    /// `to`.
    fn pull(code: &mut String, layer: Layer, from: &str, to: &str, finish: impl Fn(&str) -> String) {
        let Layer { first, inputs, outputs } = layer;
        let _ = write!(
            code,
            "    for (var o = 0u; o < {}; o++) {{\n        var sum = weight({}u + o);\n        \
             for (var i = 0u; i < {inputs}u; i++) {{\n            \
             sum = fma(weight({first}u + o * {inputs}u + i), {from}[i], sum);\n        }}\n        {to}[o] = {};\n    }}\n",
            loop_iterations(outputs, inputs),
            layer.biases(),
            finish("sum")
        );
    }

    fn forward(&self, code: &mut String, tanh: &str, activation: &str) {
        let layers = self.layers();
        code.push_str("    var inputs_0 = x;\n");
        let outputs = self.outputs();
        if let [only] = layers[..] {
            let _ = writeln!(code, "    var y: array<F, {outputs}>;");
            Self::pull(code, only, "inputs_0", "y", str::to_owned);
        }
        // Each hidden unit is added to the sums of the next layer as soon as it is computed.
        for (l, pair) in layers.windows(2).enumerate() {
            let [here, above] = [pair[0], pair[1]];
            let sums = if l + 2 == layers.len() { "y".to_owned() } else { format!("sums_{}", l + 1) };
            let unit = if l == 0 {
                format!(
                    "        var sum = weight({}u + j);\n        for (var i = 0u; i < {}u; i++) {{\n            \
                     sum = fma(weight({}u + j * {}u + i), inputs_0[i], sum);\n        }}\n",
                    here.biases(),
                    here.inputs,
                    here.first,
                    here.inputs
                )
            } else {
                format!("        let sum = sums_{l}[j];\n")
            };
            let _ = write!(
                code,
                "    var {sums}: array<F, {n}>;\n    for (var o = 0u; o < {n}u; o++) {{\n        \
                 {sums}[o] = weight({}u + o);\n    }}\n    for (var j = 0u; j < {}; j++) {{\n{unit}        \
                 let unit = {};\n        for (var o = 0u; o < {n}u; o++) {{\n            \
                 {sums}[o] = fma(weight({}u + o * {h}u + j), unit, {sums}[o]);\n        }}\n    }}\n",
                above.biases(),
                loop_iterations(above.inputs, above.outputs + if l == 0 { here.inputs } else { 0 }),
                format_args!("{activation}(sum)"),
                above.first,
                n = above.outputs,
                h = above.inputs,
            );
        }
        self.bound(code, tanh, false);
        code.push_str("    return y;\n");
    }

    fn back(&self, code: &mut String, tanh: &str, activation: &str, number: usize) {
        let layers = self.layers();
        let stores_rates = !self.activation.has_rate_of_output();
        let outputs = self.outputs();
        let last = layers.len() - 1;
        code.push_str("    var units_0 = x;\n");
        for (l, layer) in layers.iter().enumerate() {
            if l == last {
                let _ = writeln!(code, "    var y: array<F, {outputs}>;");
                Self::pull(code, *layer, &format!("units_{l}"), "y", str::to_owned);
            } else {
                let to = format!("units_{}", l + 1);
                let _ = writeln!(code, "    var {to}: array<F, {}>;", layer.outputs);
                if stores_rates {
                    let _ = writeln!(code, "    var rates_{}: array<F, {}>;", l + 1, layer.outputs);
                }
                Self::pull(code, *layer, &format!("units_{l}"), &to, |sum| match stores_rates {
                    true => format!("{activation}({sum});\n        rates_{}[o] = rate_{number}({sum})", l + 1),
                    false => format!("{activation}({sum})"),
                });
            }
        }
        // `slopes_l`: the derivatives by the sums of layer l.
        let _ = writeln!(code, "    var slopes_{last} = v;");
        if self.bounds.is_some() {
            let _ = writeln!(code, "    var rates: array<F, {outputs}>;");
            self.bound(code, tanh, true);
            let _ = writeln!(
                code,
                "    for (var o = 0u; o < {outputs}u; o++) {{\n        slopes_{last}[o] = slopes_{last}[o] * rates[o];\n    }}"
            );
        }
        for (l, layer) in layers.iter().enumerate().rev() {
            let Layer { first, inputs, outputs } = *layer;
            let _ = write!(
                code,
                "    for (var o = 0u; o < {outputs}u; o++) {{\n        accumulate({}u + o, slopes_{l}[o]);\n    }}\n",
                layer.biases()
            );
            let (mut begin, mut within, mut end) = (String::new(), String::new(), String::new());
            if l > 0 {
                let _ = writeln!(code, "    var slopes_{}: array<F, {inputs}>;", l - 1);
                begin.push_str("        var sum = 0.0;\n");
                let _ = writeln!(within, "            sum = fma(weight(at), slopes_{l}[o], sum);");
                let rate = match self.activation {
                    Activation::Tanh => "(1.0 - unit) * (unit + 1.0)".to_owned(),
                    Activation::Relu => "select(0.0, 1.0, unit > 0.0)".to_owned(),
                    Activation::Gelu | Activation::Sin => format!("rates_{l}[i]"),
                };
                let _ = writeln!(end, "        slopes_{}[i] = sum * ({rate});", l - 1);
            }
            let _ = write!(
                code,
                "    for (var i = 0u; i < {}; i++) {{\n        let unit = units_{l}[i];\n{begin}        \
                 for (var o = 0u; o < {outputs}u; o++) {{\n            let at = {first}u + o * {inputs}u + i;\n            \
                 accumulate(at, slopes_{l}[o] * unit);\n{within}        }}\n{end}    }}\n",
                loop_iterations(inputs, outputs)
            );
        }
        code.push_str("    return y;\n");
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
/// from them, where `episodes` in src/runtime/gpu/source.rs finds that necessary.
fn loop_iterations(count: usize, each: usize) -> String {
    const MOST: usize = 64;
    if count * each > MOST { format!("several({count}u)") } else { format!("{count}u") }
}
