//! The twin of `src/lang/network.rs` in WGSL: loops over the weight buffer, so that the length of the code does not
//! depend on the sizes of the layers.
//!
//! The code calls `weight(i)` and `accumulate(i, value)`, defined in `shaders/score/episode.wgsl`, and `several(n)`,
//! which returns n and is defined in `src/runtime/gpu/source.rs`. Hidden units are stored in per-invocation arrays.
//! Without derivatives the first hidden layer needs no array: each of its units is added to the sums of the next layer
//! as soon as it is computed.

use std::fmt::Write;

use crate::interp::literal::Literal;
use crate::lang::math::Math;
use crate::lang::network::{Activation, Bound, Bounds, Network, middle};

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

    /// Prints two functions: one returns the outputs of network `number`, the other also accumulates the derivatives of
    /// its outputs times `v`.
    pub(crate) fn wgsl(&self, number: usize, math: Math) -> String {
        let (inputs, outputs) = (self.sizes[0], self.outputs());
        let tanh = if math == Math::Shared { "gibbs_tanh" } else { "tanh" };
        let mut code = format!("fn network_{number}(x: array<f32, {inputs}>) -> array<f32, {outputs}> {{\n");
        self.forward(&mut code, tanh);
        let _ = write!(
            code,
            "}}\nfn network_back_{number}(x: array<f32, {inputs}>, v: array<f32, {outputs}>) -> array<f32, {outputs}> {{\n"
        );
        self.back(&mut code, tanh);
        code.push_str("}\n");
        code
    }

    fn activation(&self, tanh: &str, sum: &str) -> String {
        match self.activation {
            Activation::Tanh => format!("{tanh}({sum})"),
            Activation::Relu => format!("max({sum}, 0.0)"),
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
                    (format!("fma(squashed_{o}, {half}, {middle})"), rate)
                }
                Bound::Clipped => {
                    let (low, high) = (Literal(low), Literal(high));
                    (
                        format!("clamp(y[{o}], {low}, {high})"),
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

    fn forward(&self, code: &mut String, tanh: &str) {
        let layers = self.layers();
        code.push_str("    var inputs_0 = x;\n");
        let outputs = self.outputs();
        if let [only] = layers[..] {
            let _ = writeln!(code, "    var y: array<f32, {outputs}>;");
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
                "    var {sums}: array<f32, {n}>;\n    for (var o = 0u; o < {n}u; o++) {{\n        \
                 {sums}[o] = weight({}u + o);\n    }}\n    for (var j = 0u; j < {}; j++) {{\n{unit}        \
                 let unit = {};\n        for (var o = 0u; o < {n}u; o++) {{\n            \
                 {sums}[o] = fma(weight({}u + o * {h}u + j), unit, {sums}[o]);\n        }}\n    }}\n",
                above.biases(),
                loop_iterations(above.inputs, above.outputs + if l == 0 { here.inputs } else { 0 }),
                self.activation(tanh, "sum"),
                above.first,
                n = above.outputs,
                h = above.inputs,
            );
        }
        self.bound(code, tanh, false);
        code.push_str("    return y;\n");
    }

    fn back(&self, code: &mut String, tanh: &str) {
        let layers = self.layers();
        let outputs = self.outputs();
        let last = layers.len() - 1;
        code.push_str("    var units_0 = x;\n");
        for (l, layer) in layers.iter().enumerate() {
            if l == last {
                let _ = writeln!(code, "    var y: array<f32, {outputs}>;");
                Self::pull(code, *layer, &format!("units_{l}"), "y", str::to_owned);
            } else {
                let to = format!("units_{}", l + 1);
                let _ = writeln!(code, "    var {to}: array<f32, {}>;", layer.outputs);
                Self::pull(code, *layer, &format!("units_{l}"), &to, |sum| self.activation(tanh, sum));
            }
        }
        // `slopes_l`: the derivatives by the sums of layer l.
        let _ = writeln!(code, "    var slopes_{last} = v;");
        if self.bounds.is_some() {
            let _ = writeln!(code, "    var rates: array<f32, {outputs}>;");
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
                let _ = writeln!(code, "    var slopes_{}: array<f32, {inputs}>;", l - 1);
                begin.push_str("        var sum = 0.0;\n");
                let _ = writeln!(within, "            sum = fma(weight(at), slopes_{l}[o], sum);");
                let rate = match self.activation {
                    Activation::Tanh => "(1.0 - unit) * (unit + 1.0)",
                    Activation::Relu => "select(0.0, 1.0, unit > 0.0)",
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

/// Prints the trip count of a loop whose inner loop has `each` iterations. Some drivers unroll every loop that they can
/// (Mesa's software adapters unroll up to 32 iterations) and would compile for minutes; `several` hides a large count
/// from them, where `episodes` in src/runtime/gpu/source.rs finds that necessary.
fn loop_iterations(count: usize, each: usize) -> String {
    const MOST: usize = 64;
    if count * each > MOST { format!("several({count}u)") } else { format!("{count}u") }
}
