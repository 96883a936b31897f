//! [`Network`], the dense layers of a policy or of a model: an intrinsic for any layer sizes.
//!
//! This module evaluates them on numbers, lanes and dual numbers; `src/interp/trace/network.rs` prints the same
//! computation as loops over the weight buffer. Both sum in the same order.

use super::cache_line::CacheLine;
use super::params::MAX_INDEX;
use super::random::Random;
use super::register::Register;
use super::{GradSink, NetworkScratch, ParamView, Real};
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
    /// The Gaussian error linear unit in its form with tanh, s/2 · (1 + tanh(√(2/π) (s + 0.044715 s³))) (Hendrycks and
    /// Gimpel 2016, arXiv:1606.08415). In PyTorch this is `GELU(approximate='tanh')`; its default, s Φ(s), differs by
    /// up to 5·10⁻⁴.
    Gelu,
    /// sin(s), s in radians, as in SIREN (Sitzmann et al. 2020, arXiv:2006.09661), whose factor ω₀ belongs to the
    /// weights.
    Sin,
}

/// √(2/π), and 0.044715 times it.
pub(crate) const GELU: [f32; 2] = [0.797_884_56, 0.035_677_408];

/// From this size on, tanh in [`Activation::Gelu`] is ±1 to within a rounding. Its argument is limited to it, so that
/// the square neither overflows nor, times 0, becomes NaN.
pub(crate) const GELU_END: f32 = 10.0;

/// [`Activation::Gelu`] and its derivative.
#[cfg_attr(optimized, inline(always))]
fn gelu<R: Real>(s: R) -> (R, R) {
    let [linear, cubic] = GELU;
    let x = s.clamp(-GELU_END, GELU_END);
    let z = x * x;
    let tanh = (x * z.mul_add(cubic, linear)).tanh();
    // Where tanh is not quite −1, the product with a large number would not be small.
    let half = s.max(-GELU_END) * 0.5;
    let value = half.mul_add(tanh, half);
    let slope = half * ((-tanh + 1.0) * (tanh + 1.0)) * z.mul_add(3.0 * cubic, linear);
    (value, tanh.mul_add(0.5, slope + 0.5))
}

impl Activation {
    /// Replaces sums by the units' outputs.
    #[cfg_attr(optimized, inline(always))]
    fn apply<R: Real>(self, units: &mut [R]) {
        // Each has a loop of its own, so that none branches. (A closure may not be inlined.)
        macro_rules! each {
            ($unit:ident => $value:expr) => {
                for $unit in units {
                    *$unit = $value;
                }
            };
        }
        match self {
            Self::Tanh => each!(unit => unit.tanh()),
            Self::Relu => each!(unit => unit.max(0.0)),
            Self::Gelu => each!(unit => gelu(*unit).0),
            Self::Sin => each!(unit => unit.sin()),
        }
    }

    /// Whether the derivative is a function of the unit's output. Otherwise it has to be stored.
    pub(crate) fn has_rate_of_output(self) -> bool {
        matches!(self, Self::Tanh | Self::Relu)
    }

    /// Stores the derivatives by the sums, where they are no functions of the outputs.
    #[cfg_attr(optimized, inline(always))]
    fn store_rates<R: Real>(self, sums: &[R], rates: &mut [R]) {
        for (sum, rate) in sums.iter().zip(rates) {
            *rate = if self == Self::Sin { sum.cos() } else { gelu(*sum).1 };
        }
    }

    /// The derivative, as a function of the unit's output.
    #[inline(always)]
    fn rate_of_output<R: Real>(self, unit: R) -> R {
        match self {
            Self::Relu => R::select(unit.gt(0.0), 1.0, 0.0),
            _ => (-unit + 1.0) * (unit + 1.0),
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
/// parameters of a policy ([`Params::network`](crate::Params::network)), or the weights of a task, for a model that is
/// learned ([`StepContext::network`](crate::StepContext::network)).
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

    /// One more than the index of its last parameter: where the parameters of another network can begin.
    pub fn end(&self) -> usize {
        self.first + self.parameters()
    }

    /// The number of its parameters.
    pub fn parameters(&self) -> usize {
        self.sizes.windows(2).map(|layer| (layer[0] + 1) * layer[1]).sum()
    }

    /// Random initial parameters: weights with standard deviation 1/√inputs (√(2/inputs) for ReLU and GELU); in the
    /// last layer
    /// 0.1/√inputs, so that the outputs start near 0; biases 0.
    pub fn initial(&self, random: &mut Random) -> Vec<f32> {
        let mut parameters = Vec::with_capacity(self.parameters());
        let last = self.sizes.len() - 2;
        for (layer, sizes) in self.sizes.windows(2).enumerate() {
            let gain = match self.activation {
                _ if layer == last => 0.1,
                Activation::Tanh | Activation::Sin => 1.0,
                Activation::Relu | Activation::Gelu => std::f32::consts::SQRT_2,
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

    /// The numbers that an evaluation with derivatives stores: inputs, units, and rates of hidden units that are no
    /// functions of their outputs.
    #[inline(always)]
    pub(crate) fn numbers(&self) -> usize {
        let hidden = self.units() - self.sizes[0] - self.outputs();
        self.units() + if self.activation.has_rate_of_output() { 0 } else { hidden }
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
    #[cfg_attr(optimized, inline(always))]
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

/// The least number of rows of which several episodes are computed side by side, with shared parameters. The
/// parameters of fewer rows may fit a nearer cache, but take more instructions to load.
pub(crate) const LEAST_ROWS: usize = 4;

/// The sums of a layer's units, whose parameters begin at `first`: b + Σ w x, each in the order of x.
#[cfg_attr(optimized, inline(always))]
pub(crate) fn layer<R: Real>(source: &ParamView<'_>, first: usize, x: &[R], sums: &mut [R]) {
    let biases = first + x.len() * sums.len();
    for (o, sum) in sums.iter_mut().enumerate() {
        *sum = R::weight(source, biases + o);
        for (i, value) in x.iter().enumerate() {
            *sum = R::weight(source, first + o * x.len() + i).mul_add(*value, *sum);
        }
    }
}

/// As [`layer`], with weights that all lanes share, which begin at the first one given: a product of a matrix with the
/// matrix of all lanes. Every weight that is loaded is multiplied by a whole [`Register`], every register of x by the
/// weights of several units, whose sums stay in registers.
#[inline(always)]
pub(crate) fn shared_layer<V: Register>(weights: &[f32], x: &[V], sums: &mut [V]) {
    let (weights, biases) = weights[..(x.len() + 1) * sums.len()].split_at(x.len() * sums.len());
    let mut o = 0;
    if const { V::UNITS == 8 } {
        o = shared_tiles::<V, 8>(weights, biases, x, sums, o);
    } else if const { V::UNITS == 6 } {
        o = shared_tiles::<V, 6>(weights, biases, x, sums, o);
    }
    o = shared_tiles::<V, ABREAST>(weights, biases, x, sums, o);
    shared_tiles::<V, 1>(weights, biases, x, sums, o);
}

/// Computes units from `o` on, `U` at a time, and returns the first of those that remain.
#[cfg_attr(optimized, inline(always))]
fn shared_tiles<V: Register, const U: usize>(
    weights: &[f32],
    biases: &[f32],
    x: &[V],
    sums: &mut [V],
    mut o: usize,
) -> usize {
    while o + U <= sums.len() {
        let mut found = [V::from(0.0); U];
        for u in 0..U {
            found[u] = V::from(biases[o + u]);
        }
        // Bounds are checked before the loop: inside it, the checks would take longer than the products.
        let weights = &weights[o * x.len()..][..U * x.len()];
        for i in 0..x.len() {
            for u in 0..U {
                // SAFETY: `u` is below `U`, and `i` below x.len().
                let weight = unsafe { *weights.get_unchecked(u * x.len() + i) };
                found[u] = V::from(weight).fma(x[i], found[u]);
            }
        }
        sums[o..o + U].copy_from_slice(&found);
        o += U;
    }
    o
}

/// As [`layer`], where every row has its own weights. The lanes of several episodes of a row share them.
#[inline(always)]
pub(crate) fn own_layer<V: Register>(source: &ParamView<'_>, first: usize, x: &[V], sums: &mut [V]) {
    // Each number of episodes has loops of its own, so that the distances between weights are constants.
    if !source.repeated {
        own_units::<V, 1>(source, first, x, sums);
    } else if const { V::COUNT >= 8 * LEAST_ROWS } && source.stride * 8 == V::COUNT {
        own_units::<V, 8>(source, first, x, sums);
    } else if const { V::COUNT >= 4 * LEAST_ROWS } && source.stride * 4 == V::COUNT {
        own_units::<V, 4>(source, first, x, sums);
    } else if const { V::COUNT >= 2 * LEAST_ROWS } {
        own_units::<V, 2>(source, first, x, sums);
    }
}

#[inline(always)]
fn own_units<V: Register, const E: usize>(source: &ParamView<'_>, first: usize, x: &[V], sums: &mut [V]) {
    let mut o = 0;
    // Weights that are used once are limited by the L2 cache, and more of them at a time do not help.
    if const { E > 1 && V::UNITS == 8 } {
        o = own_tiles::<V, E, 8>(source, first, x, sums, o);
    } else if const { E > 1 && V::UNITS == 6 } {
        o = own_tiles::<V, E, 6>(source, first, x, sums, o);
    }
    o = own_tiles::<V, E, ABREAST>(source, first, x, sums, o);
    own_tiles::<V, E, 1>(source, first, x, sums, o);
}

/// Computes units from `o` on, `U` at a time, and returns the first of those that remain. `E` lanes share a weight.
#[cfg_attr(optimized, inline(always))]
fn own_tiles<V: Register, const E: usize, const U: usize>(
    source: &ParamView<'_>,
    first: usize,
    x: &[V],
    sums: &mut [V],
    mut o: usize,
) -> usize {
    let rows = const { V::COUNT / E };
    let biases = first + x.len() * sums.len();
    while o + U <= sums.len() {
        let mut found = [V::from(0.0); U];
        for u in 0..U {
            found[u] = V::load_repeated::<E>(&source.values[(biases + o + u) * rows..]);
        }
        // Bounds are checked before the loop: inside it, the checks would take longer than the products and force the
        // sums to be spilled.
        let values = &source.values[(first + o * x.len()) * rows..][..U * x.len() * rows];
        for i in 0..x.len() {
            for u in 0..U {
                let at = (u * x.len() + i) * rows;
                // SAFETY: `at` is at most (U · x.len() − 1) · rows.
                let weight = V::load_repeated::<E>(unsafe { values.get_unchecked(at..at + rows) });
                found[u] = weight.fma(x[i], found[u]);
            }
        }
        sums[o..o + U].copy_from_slice(&found);
        o += U;
    }
    o
}

/// Memory for the units of a network that has no scratch.
struct Memory<R> {
    /// Enough for most networks in plain numbers.
    lines: [CacheLine; 64],
    numbers: Vec<R>,
}

impl<R: Real> Memory<R> {
    const NEW: Self = Self { lines: [CacheLine::ZERO; 64], numbers: Vec::new() };

    #[inline(always)]
    fn numbers(&mut self, count: usize) -> &mut [R] {
        if count * size_of::<R>() <= size_of_val(&self.lines) {
            // SAFETY: the lines are borrowed for as long as the result, and have no other slice.
            return unsafe { NetworkScratch::new(&mut self.lines).numbers(count) };
        }
        self.numbers.resize(count, R::from(0.0));
        &mut self.numbers
    }
}

/// Returns space for `count` numbers: of the scratch of `source` or, without it, of `memory`.
///
/// # Safety
///
/// The numbers of another network in the same scratch must no longer be in use.
#[inline(always)]
unsafe fn space<'a, R: Real>(source: &ParamView<'a>, memory: &'a mut Memory<R>, count: usize) -> &'a mut [R] {
    match source.network_scratch {
        // SAFETY: by the caller's guarantee.
        Some(network_scratch) => unsafe { network_scratch.numbers(count) },
        None => memory.numbers(count),
    }
}

/// Computes the units of all layers, inputs first; the last ones are the sums of the outputs. With `DERIVED`, `rates`
/// receives the rates of hidden units, if these are no functions of the outputs.
#[cfg_attr(optimized, inline(always))]
fn forward_units<R: Real, const DERIVED: bool>(
    source: &ParamView<'_>,
    network: &Network,
    x: &[R],
    units: &mut [R],
    rates: &mut [R],
) {
    units[..x.len()].copy_from_slice(x);
    let (mut first, mut from) = (network.first, 0);
    let last = network.sizes.len() - 2;
    for layer in 0..=last {
        let [inputs, outputs] = [network.sizes[layer], network.sizes[layer + 1]];
        let (below, above) = units[from..from + inputs + outputs].split_at_mut(inputs);
        R::layer(source, first, below, above);
        if layer < last {
            if DERIVED && !network.activation.has_rate_of_output() {
                // Hidden units are stored after the inputs, their rates from 0 on.
                network.activation.store_rates(above, &mut rates[from + inputs - x.len()..][..outputs]);
            }
            network.activation.apply(above);
        }
        first += (inputs + 1) * outputs;
        from += inputs;
    }
}

/// The outputs of a network.
#[cfg_attr(optimized, inline(always))]
pub(crate) fn forward<R: Real, const I: usize, const O: usize>(
    source: &ParamView<'_>,
    network: &Network,
    x: [R; I],
) -> [R; O] {
    let mut memory = Memory::NEW;
    // SAFETY: networks do not nest, and no operation on numbers evaluates one.
    let units = unsafe { space::<R>(source, &mut memory, network.units()) };
    forward_units::<R, false>(source, network, &x, units, &mut []);
    let sums = &units[units.len() - O..];
    let mut outputs = [R::from(0.0); O];
    for o in 0..O {
        outputs[o] = network.output(o, sums[o]).0;
    }
    outputs
}

/// Returns the outputs of a network, and adds (∂y/∂θ)ᵀ v to the sink.
#[cfg_attr(optimized, inline(always))]
pub(crate) fn back<R: Real, const I: usize, const O: usize>(
    source: &ParamView<'_>,
    sink: &mut GradSink<'_>,
    network: &Network,
    x: [R; I],
    v: [R; O],
) -> [R; O] {
    let mut memory = Memory::NEW;
    let count = network.units();
    // Inputs and units, the derivatives by the sums of the units, and rates of hidden units.
    let all = network.numbers() + count - I;
    let stored = match &mut sink.history {
        Some(history) => history.store::<R>(network, all),
        None => None,
    };
    // SAFETY: networks do not nest, and no operation on numbers evaluates one. Each step of a history has its own.
    let numbers = unsafe {
        match stored {
            Some((memory, start)) => &mut memory.numbers::<R>(start + all)[start..],
            None => space::<R>(source, &mut memory, all),
        }
    };
    let (units, numbers) = numbers.split_at_mut(count);
    let (slopes, rates) = numbers.split_at_mut(count - I);
    forward_units::<R, true>(source, network, &x, units, rates);
    let last = network.sizes.len() - 2;
    let mut to = units.len() - O;
    let mut outputs = [R::from(0.0); O];
    for o in 0..O {
        let (output, rate) = network.output(o, units[to + o]);
        outputs[o] = output;
        slopes[to - I + o] = v[o] * rate;
    }
    let mut first = network.end();
    for layer in (1..=last).rev() {
        let [inputs, outputs] = [network.sizes[layer], network.sizes[layer + 1]];
        first -= (inputs + 1) * outputs;
        let from = to - inputs;
        let (below, above) = slopes[from - I..][..inputs + outputs].split_at_mut(inputs);
        R::layer_back(source, first, above, below);
        for (i, (slope, unit)) in below.iter_mut().zip(&units[from..]).enumerate() {
            let rate = if rates.is_empty() { network.activation.rate_of_output(*unit) } else { rates[from - I + i] };
            *slope *= rate;
        }
        to = from;
    }
    if stored.is_none() {
        let (mut first, mut from) = (network.first, 0);
        for layer in network.sizes.windows(2) {
            let [inputs, outputs] = [layer[0], layer[1]];
            let (below, above) = (&units[from..][..inputs], &slopes[from + inputs - I..][..outputs]);
            for (o, slope) in above.iter().enumerate() {
                R::accumulate(sink, first + inputs * outputs + o, *slope);
                R::accumulate_products(sink, first + o * inputs, *slope, below);
            }
            first += (inputs + 1) * outputs;
            from += inputs;
        }
    }
    outputs
}

/// The derivatives by the outputs of a layer below, Σ w s in the order of the slopes s of the units above, whose
/// parameters begin at `first`.
#[cfg_attr(optimized, inline(always))]
pub(crate) fn layer_back<R: Real>(source: &ParamView<'_>, first: usize, slopes: &[R], sums: &mut [R]) {
    let inputs = sums.len();
    for (i, sum) in sums.iter_mut().enumerate() {
        *sum = R::from(0.0);
        for (o, slope) in slopes.iter().enumerate() {
            *sum = R::weight(source, first + o * inputs + i).mul_add(*slope, *sum);
        }
    }
}

/// As [`layer_back`], with weights that all lanes share, which begin at the first one given.
#[inline(always)]
pub(crate) fn shared_layer_back<V: Register>(weights: &[f32], slopes: &[V], sums: &mut [V]) {
    let weights = &weights[..slopes.len() * sums.len()];
    let i = shared_tiles_back::<V, ABREAST>(weights, slopes, sums, 0);
    shared_tiles_back::<V, 1>(weights, slopes, sums, i);
}

/// As [`shared_tiles`], for the units below a layer.
#[cfg_attr(optimized, inline(always))]
fn shared_tiles_back<V: Register, const U: usize>(
    weights: &[f32],
    slopes: &[V],
    sums: &mut [V],
    mut i: usize,
) -> usize {
    let inputs = sums.len();
    assert!(weights.len() == slopes.len() * inputs, "the weights of a layer");
    while i + U <= inputs {
        let mut found = [V::from(0.0); U];
        for (o, slope) in slopes.iter().enumerate() {
            for u in 0..U {
                // SAFETY: `o` is below the number of slopes, and `i + u` below that of inputs.
                let weight = unsafe { *weights.get_unchecked(o * inputs + i + u) };
                found[u] = V::from(weight).fma(*slope, found[u]);
            }
        }
        sums[i..i + U].copy_from_slice(&found);
        i += U;
    }
    i
}

/// See [`NetworkHistory::STEPS`].
const STEPS: usize = 4;

/// A network's units and the derivatives by their sums in the last few time steps, before their products are added to
/// the derivatives by the parameters: a sum is then loaded and stored once for all of these steps.
#[derive(Debug)]
pub(crate) struct NetworkHistory<'a> {
    memory: NetworkScratch<'a>,
    /// The index of the network's first parameter, and the sizes of its layers.
    first: usize,
    sizes: [usize; NetworkHistory::LAYERS],
    layers: usize,
    /// The numbers stored for each step.
    numbers: usize,
    /// The size of each number.
    bytes: usize,
    /// The steps before the current one.
    steps: usize,
    is_stored: bool,
}

impl<'a> NetworkHistory<'a> {
    /// The largest number of steps.
    pub(crate) const STEPS: usize = STEPS;
    /// The largest number of layers, the inputs included.
    const LAYERS: usize = 8;

    /// Creates an empty history in memory for [`STEPS`](Self::STEPS) evaluations of numbers of type `R`.
    #[inline(always)]
    pub(crate) fn new<R>(memory: NetworkScratch<'a>) -> Self {
        let bytes = size_of::<R>();
        Self { memory, first: 0, sizes: [0; Self::LAYERS], layers: 0, numbers: 0, bytes, steps: 0, is_stored: false }
    }

    /// Stores the evaluation of a network with `count` numbers. Returns the memory and the index of the first number.
    /// Only the first evaluation of a time step is stored, and only if it is of the network of the steps before.
    #[inline(always)]
    fn store<R>(&mut self, network: &Network, count: usize) -> Option<(NetworkScratch<'a>, usize)> {
        let layers = network.sizes.len();
        if self.is_stored || layers > Self::LAYERS || size_of::<R>() != self.bytes {
            return None;
        }
        if self.steps == 0 {
            (self.first, self.numbers, self.layers) = (network.first, count, layers);
            self.sizes[..layers].copy_from_slice(&network.sizes);
        } else if self.first != network.first || self.sizes[..self.layers] != network.sizes {
            return None;
        }
        self.is_stored = true;
        Some((self.memory, self.steps * count))
    }

    /// Ends a time step. Returns whether the history is full.
    #[inline(always)]
    pub(crate) fn end_step(&mut self) -> bool {
        self.steps += usize::from(std::mem::take(&mut self.is_stored));
        self.steps == Self::STEPS
    }

    /// Adds the products of all steps to `values`, in the order of the steps, and forgets these.
    #[inline(always)]
    pub(crate) fn add_to<V: Register>(&mut self, values: &mut [f32]) {
        assert!(self.bytes == size_of::<V>(), "the numbers that were stored");
        match std::mem::take(&mut self.steps) {
            0 => {}
            1 => self.add::<V, 1>(values),
            2 => self.add::<V, 2>(values),
            3 => self.add::<V, 3>(values),
            _ => self.add::<V, STEPS>(values),
        }
    }

    #[inline(always)]
    fn add<V: Register, const T: usize>(&self, values: &mut [f32]) {
        // SAFETY: no step is in progress, so that nothing else uses the numbers.
        let numbers = unsafe { self.memory.numbers::<V>(T * self.numbers) };
        let sizes = &self.sizes[..self.layers];
        let count: usize = sizes.iter().sum();
        let (mut first, mut from) = (self.first, 0);
        for layer in sizes.windows(2) {
            let [inputs, outputs] = [layer[0], layer[1]];
            let mut steps: [(&[V], &[V]); T] = [(&[], &[]); T];
            for t in 0..T {
                let (units, slopes) = numbers[t * self.numbers..][..self.numbers].split_at(count);
                steps[t] = (&units[from..][..inputs], &slopes[from + inputs - sizes[0]..][..outputs]);
            }
            for o in 0..outputs {
                let mut slopes = [V::from(0.0); T];
                for t in 0..T {
                    slopes[t] = steps[t].1[o];
                }
                let bias = &mut values[(first + inputs * outputs + o) * V::COUNT..];
                let mut sum = V::load(bias);
                for t in 0..T {
                    sum += slopes[t];
                }
                sum.store(bias);
                let sums = &mut values[(first + o * inputs) * V::COUNT..][..inputs * V::COUNT];
                for (i, to) in sums.chunks_exact_mut(V::COUNT).enumerate() {
                    let mut sum = V::load(to);
                    for t in 0..T {
                        // SAFETY: there are as many units as sums.
                        sum = slopes[t].fma(unsafe { *steps[t].0.get_unchecked(i) }, sum);
                    }
                    sum.store(to);
                }
            }
            first += (inputs + 1) * outputs;
            from += inputs;
        }
    }
}
