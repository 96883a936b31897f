//! [`Network`], the dense layers of a policy: an intrinsic for any layer sizes.
//!
//! This module evaluates them on numbers, lanes and dual numbers; `src/interp/trace/network.rs` prints the same
//! computation as loops over the weight buffer. Both sum in the same order.

use super::params::MAX_INDEX;
use super::random::Random;
use super::{GradSink, ParamView, Real};
use crate::error::InvalidValue;

/// The activation function of a [`Network`]'s hidden units, applied to their sum s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Activation {
    /// tanh(s).
    #[default]
    Tanh,
    /// max(s, 0).
    Relu,
}

impl Activation {
    #[inline(always)]
    fn apply<R: Real>(self, sum: R) -> R {
        match self {
            Self::Tanh => sum.tanh(),
            Self::Relu => sum.max(0.0),
        }
    }

    /// The derivative, as a function of the unit's output.
    #[inline(always)]
    fn rate<R: Real>(self, unit: R) -> R {
        match self {
            Self::Tanh => (-unit + 1.0) * (unit + 1.0),
            Self::Relu => R::select(unit.gt(0.0), 1.0, 0.0),
        }
    }
}

/// How outputs are kept within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bound {
    Squashed,
    Clipped,
}

/// Bounds of the outputs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) bound: Bound,
    pub(crate) low: Vec<f32>,
    pub(crate) high: Vec<f32>,
}

/// The shape of a dense (fully connected) network: layer sizes, activation, bounds of its outputs. Its weights are
/// parameters of a policy.
///
/// The parameters of each layer, in order, are its weights (outputs × inputs, row by row) and then its biases (one per
/// output). Every hidden unit is `activation(b + Σ w x)`; the outputs are their sums, unchanged, squashed or clipped.
///
/// # Example
///
/// ```
/// use gibbs::{Params, policies::{Activation, Network}};
///
/// // One hidden unit: y = 2 tanh(0.5 x + 1) − 1.
/// let network = Network::new(0, &[1, 1, 1], Activation::Tanh)?;
/// let [y] = Params::<f32>::new(&[0.5, 1.0, 2.0, -1.0]).network(&network, [3.0]);
/// assert!((y - (2.0 * 2.5_f32.tanh() - 1.0)).abs() < 1e-6);
/// # Ok::<(), gibbs::InvalidValue>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    pub(crate) first: usize,
    pub(crate) sizes: Vec<usize>,
    pub(crate) activation: Activation,
    pub(crate) bounds: Option<Bounds>,
}

impl Network {
    /// Creates a network with the given layer sizes, inputs first and outputs last, whose parameters start at index
    /// `first`. Without hidden layers it is an affine map.
    ///
    /// # Errors
    ///
    /// If there are fewer than two sizes, one is 0 or above 65,536, or a parameter index reaches 2³¹.
    pub fn new(first: usize, sizes: &[usize], activation: Activation) -> Result<Self, InvalidValue> {
        if sizes.len() < 2 {
            let expected = "at least two: the number of inputs and that of outputs";
            return Err(InvalidValue::new("sizes", format_args!("{} long", sizes.len()), expected));
        }
        if let Some(size) = sizes.iter().find(|size| !(1..=65_536).contains(*size)) {
            return Err(InvalidValue::new("sizes", size, "between 1 and 65536 in each layer"));
        }
        // Offsets into a kernel's buffers are 32 bits wide.
        let counts = sizes.windows(2).map(|layer| (layer[0] as u64 + 1) * layer[1] as u64);
        let parameters = counts.fold(0, u64::saturating_add);
        if parameters > MAX_INDEX as u64 {
            let value = format_args!("{sizes:?}, which makes {parameters} parameters,");
            return Err(InvalidValue::new("sizes", value, format_args!("so small that it makes at most {MAX_INDEX}")));
        }
        let most = MAX_INDEX - parameters as usize;
        if first > most {
            let expected = format_args!("at most {most}, so that the last of the {parameters} parameters has a number");
            return Err(InvalidValue::new("first", first, expected));
        }
        Ok(Self { first, sizes: sizes.to_vec(), activation, bounds: None })
    }

    /// Returns this network with outputs between `low` and `high`: output y becomes (low + high)/2 + (high − low)/2 ·
    /// tanh y.
    ///
    /// # Errors
    ///
    /// If a low value is not below the high one, a difference is not finite, or `low` or `high` does not have one value
    /// per output.
    pub fn squashed(self, low: &[f32], high: &[f32]) -> Result<Self, InvalidValue> {
        self.bounded(Bound::Squashed, low, high)
    }

    /// Returns this network with outputs clipped to [`low`, `high`]. Where an output is clipped its derivative is 0.
    ///
    /// # Errors
    ///
    /// As for [`squashed`](Self::squashed).
    pub fn clipped(self, low: &[f32], high: &[f32]) -> Result<Self, InvalidValue> {
        self.bounded(Bound::Clipped, low, high)
    }

    fn bounded(mut self, bound: Bound, low: &[f32], high: &[f32]) -> Result<Self, InvalidValue> {
        let outputs = self.outputs();
        if low.len() != outputs || high.len() != outputs {
            let value = format_args!("{} low and {} high values", low.len(), high.len());
            return Err(InvalidValue::new("bounds", value, format_args!("one of each for the {outputs} outputs")));
        }
        for (o, (l, h)) in low.iter().zip(high).enumerate() {
            if !(l < h && (h - l).is_finite()) {
                let value = format_args!("[{l}, {h}] for output {o}");
                return Err(InvalidValue::new("bounds", value, "finite, the low value below the high one"));
            }
        }
        self.bounds = Some(Bounds { bound, low: low.to_vec(), high: high.to_vec() });
        Ok(self)
    }

    /// Layer sizes, inputs first and outputs last.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The index of its first parameter.
    pub fn first(&self) -> usize {
        self.first
    }

    /// The number of its parameters.
    pub fn parameters(&self) -> usize {
        self.sizes.windows(2).map(|layer| (layer[0] + 1) * layer[1]).sum()
    }

    /// Random initial parameters: weights with standard deviation 1/√inputs (√(2/inputs) for ReLU); in the last layer
    /// 0.1/√inputs, so that the outputs start near 0; biases 0.
    pub fn initial(&self, random: &mut Random) -> Vec<f32> {
        let mut parameters = Vec::with_capacity(self.parameters());
        let last = self.sizes.len() - 2;
        for (layer, sizes) in self.sizes.windows(2).enumerate() {
            let gain = match self.activation {
                _ if layer == last => 0.1,
                Activation::Tanh => 1.0,
                Activation::Relu => std::f32::consts::SQRT_2,
            };
            let scale = gain / (sizes[0] as f32).sqrt();
            parameters.extend((0..sizes[0] * sizes[1]).map(|_| random.normal() * scale));
            parameters.resize(parameters.len() + sizes[1], 0.0);
        }
        parameters
    }

    /// The number of its inputs plus the units of all layers.
    #[inline(always)]
    pub(crate) fn units(&self) -> usize {
        self.sizes.iter().sum()
    }

    pub(crate) fn outputs(&self) -> usize {
        self.sizes[self.sizes.len() - 1]
    }

    #[inline(always)]
    pub(crate) fn check_sizes(&self, inputs: usize, outputs: usize) {
        let sizes = [self.sizes[0], self.outputs()];
        assert!(
            sizes == [inputs, outputs],
            "a network of {sizes:?} inputs and outputs, called with [{inputs}, {outputs}]"
        );
    }

    /// Output `o` and its derivative by the unit's sum.
    #[inline(always)]
    fn output<R: Real>(&self, o: usize, sum: R) -> (R, R) {
        let Some(Bounds { bound, low, high }) = &self.bounds else { return (sum, R::from(1.0)) };
        let (low, high) = (low[o], high[o]);
        match bound {
            Bound::Squashed => {
                let (middle, half) = middle(low, high);
                let tanh = sum.tanh();
                (tanh.mul_add(half, middle), (-tanh + 1.0) * (tanh + 1.0) * half)
            }
            Bound::Clipped => {
                let inside = sum.gt(low) & sum.lt(high);
                (sum.clamp(low, high), R::select(inside, 1.0, 0.0))
            }
        }
    }
}

/// The midpoint of an interval, and half its length.
pub(crate) fn middle(low: f32, high: f32) -> (f32, f32) {
    (low + (high - low) * 0.5, (high - low) * 0.5)
}

/// The number of units whose sums are interleaved, to hide the latency of each chain of additions.
const ABREAST: usize = 4;

/// The sums of `U` units from `o` on, in a layer whose parameters start at `first`: b + Σ w x, each in the order of x.
#[inline(always)]
fn sums<R: Real, const U: usize>(
    source: &ParamView<'_>,
    first: usize,
    [inputs, outputs]: [usize; 2],
    o: usize,
    x: &[R],
) -> [R; U] {
    let mut biases = [R::from(0.0); U];
    for u in 0..U {
        biases[u] = R::weight(source, first + inputs * outputs + o + u);
    }
    R::weighted_sums(source, first + o * inputs, x, biases)
}

/// Computes the units of all layers, inputs first; the last ones are the sums of the outputs. They are stored in the
/// scratch of `source` or, without it, in `memory`.
///
/// # Safety
///
/// The units of another network in the same scratch must no longer be in use.
#[inline(always)]
unsafe fn units<'a, R: Real>(
    source: &ParamView<'a>,
    memory: &'a mut Vec<R>,
    network: &Network,
    x: &[R],
) -> &'a mut [R] {
    let units = match source.network_scratch {
        // SAFETY: by the caller's guarantee.
        Some(network_scratch) => unsafe { network_scratch.numbers(network.units()) },
        None => {
            memory.resize(network.units(), R::from(0.0));
            memory
        }
    };
    units[..x.len()].copy_from_slice(x);
    let (mut first, mut from) = (network.first, 0);
    let last = network.sizes.len() - 2;
    for layer in 0..=last {
        let [inputs, outputs] = [network.sizes[layer], network.sizes[layer + 1]];
        let (below, above) = units[from..from + inputs + outputs].split_at_mut(inputs);
        let whole = outputs - outputs % ABREAST;
        for o in (0..whole).step_by(ABREAST) {
            let found = sums::<R, ABREAST>(source, first, [inputs, outputs], o, below);
            above[o..o + ABREAST].copy_from_slice(&found);
        }
        for o in whole..outputs {
            [above[o]] = sums::<R, 1>(source, first, [inputs, outputs], o, below);
        }
        if layer < last {
            for unit in above {
                *unit = network.activation.apply(*unit);
            }
        }
        first += (inputs + 1) * outputs;
        from += inputs;
    }
    units
}

/// The outputs of a network.
#[inline(always)]
pub(crate) fn forward<R: Real, const I: usize, const O: usize>(
    source: &ParamView<'_>,
    network: &Network,
    x: [R; I],
) -> [R; O] {
    let mut memory = Vec::new();
    // SAFETY: networks do not nest, and no operation on numbers evaluates one.
    let units = unsafe { units(source, &mut memory, network, &x) };
    let sums = &units[units.len() - O..];
    let mut outputs = [R::from(0.0); O];
    for o in 0..O {
        outputs[o] = network.output(o, sums[o]).0;
    }
    outputs
}

/// Returns the outputs of a network, and adds (∂y/∂θ)ᵀ v to the sink.
#[inline(always)]
pub(crate) fn back<R: Real, const I: usize, const O: usize>(
    source: &ParamView<'_>,
    sink: &mut GradSink<'_>,
    network: &Network,
    x: [R; I],
    v: [R; O],
) -> [R; O] {
    let mut memory = Vec::new();
    // SAFETY: networks do not nest, and no operation on numbers evaluates one.
    let units = unsafe { units(source, &mut memory, network, &x) };
    let last = network.sizes.len() - 2;
    let mut to = units.len() - O;
    let mut outputs = [R::from(0.0); O];
    for o in 0..O {
        let (output, rate) = network.output(o, units[to + o]);
        outputs[o] = output;
        // From here on, the derivatives by a layer's sums replace its units.
        units[to + o] = v[o] * rate;
    }
    let mut first = network.first + network.parameters();
    for layer in (0..=last).rev() {
        let [inputs, outputs] = [network.sizes[layer], network.sizes[layer + 1]];
        first -= (inputs + 1) * outputs;
        let from = to - inputs;
        let (below, above) = units.split_at_mut(to);
        let (below, above) = (&mut below[from..], &above[..outputs]);
        for (o, slope) in above.iter().enumerate() {
            R::accumulate(sink, first + inputs * outputs + o, *slope);
            R::accumulate_products(sink, first + o * inputs, *slope, below);
        }
        if layer > 0 {
            for (i, unit) in below.iter_mut().enumerate() {
                let mut sum = R::from(0.0);
                for (o, slope) in above.iter().enumerate() {
                    sum = R::weight(source, first + o * inputs + i).mul_add(*slope, sum);
                }
                *unit = sum * network.activation.rate(*unit);
            }
        }
        to = from;
    }
    outputs
}
