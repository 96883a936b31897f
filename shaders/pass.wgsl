// Definitions shared by all kernels: the pass that they execute and the buffers that they access. Twin:
// src/kernels/pass.rs.
//
// One bind group serves all kernels, so that nothing is rebound between them. The rows of a plan, where they are in
// memory at all (given by the caller, or fetched), are stored in tiles of 64: within a tile, one coordinate of all 64
// rows, then the next coordinate, so that the 64 invocations of a workgroup access consecutive addresses. Scores are
// stored the same way.
//
// The third dimension of a dispatch is the problem index; every buffer holds the data of one problem after the other.

const TILE = 64u;
const GROUP = 1024u;

// Flags of a pass that are read at run time. Flags that select how rows are drawn and scored are constants of the
// rollout kernel instead, whose names have no prefix.
const FLAG_SECOND_MOMENT = 16u;
const FLAG_CLAMPED = 32u;
const FLAG_STD_SCALE = 64u;
const FLAG_ADAPT = 128u;
const FLAG_DEMONSTRATED = 256u;
const FLAG_SIGNED = 512u;
const FLAG_PERTURBED = 2048u;

// Rules for finding the temperature.
const FIXED = 0u;
const EFFECTIVE = 1u;
const DIVERGENCE = 2u;
const STANDARDISED = 3u;
const ELITE = 4u;

// Rules for combining the costs of a row in all scenarios.
const TAIL = 0u;
const ENTROPIC = 1u;

// The log-weights of a row of zero weight and of an invalid row: finite, because WGSL may assume that there are no
// infinities.
const MASKED = -3.0e38f;
const INVALID = -3.4e38f;

struct Pass {
    seed: vec2<u32>,
    number: u32,
    rows: u32,
    horizon: u32,
    width: u32,
    flags: u32,
    dt: f32,
    coordinate_stride: u32,
    row_stride: u32,
    references: u32,
    reference_rows: u32,
    reference_columns: u32,
    cost_scale: f32,
    control_scaled: f32,
    control_fixed: f32,
    temperature: f32,
    search: u32,
    target_value: f32,
    a: f32,
    b: f32,
    c: f32,
    scale: f32,
    problems: u32,
    episodes: u32,
    demonstrated: f32,
    zero: u32,
    rows_stride: u32,
    starts: u32,
    floor: f32,
    begin: u32,
    end: u32,
    chains: u32,
    inputs_stride: u32,
    coordinates: u32,
    delay: u32,
    scenarios: u32,
    risk: u32,
    risk_value: f32,
    weights: u32,
}

// The sums behind a weighted mean, relative to the largest log-weight. Twin: Sums in src/kernels/pass.rs.
struct Sums {
    max: f32,
    sum: f32,
    squares: f32,
    logs: f32,
    valid: u32,
    temperature: f32,
    reference: f32,
    mean: f32,
}

// The reduction over all rows of a problem: the best and the worst cost and the smallest second score, as integers that
// sort alike (see `ordered`), and what `temperature` computed. Twin: WeightParams in src/kernels/weigh/log_weights.rs.
struct Summary {
    sums: Sums,
    best: atomic<u32>,
    worst: atomic<u32>,
    nearest: atomic<u32>,
    temperature: f32,
    mean: f32,
    shift: f32,
    threshold: f32,
    padding: u32,
}

@group(0) @binding(0) var<uniform> uniforms: Pass;
@group(0) @binding(1) var<storage, read> inputs: array<f32>;
@group(0) @binding(2) var<storage, read> fields: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> rows: array<f32>;
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;
@group(0) @binding(5) var<storage, read_write> log_weights: array<f32>;
@group(0) @binding(6) var<storage, read_write> partials: array<f32>;
// Two blocks of problems × width: the nominal, and the nominal before the last step. Then two blocks of problems ×
// coordinates: the standard-deviation scale, and that before the last step.
@group(0) @binding(7) var<storage, read_write> nominal: array<f32>;
@group(0) @binding(8) var<storage, read_write> summary: array<Summary>;

// The problem index of this invocation.
var<private> problem: u32;
// Members of the pass that are loaded once: a loop would reload them in each of its turns, and wait. Browsers assume
// that private variables differ between invocations, so no barrier may depend on them. The last row of the table of
// references is 0 if it has none.
var<private> pass_dt: f32;
var<private> pass_horizon: u32;
var<private> pass_width: u32;
var<private> pass_references: u32;
var<private> pass_last_reference: u32;
var<private> pass_reference_columns: u32;
// 0, which compilers cannot evaluate.
var<private> pass_zero: u32;

// Every kernel calls this first, with its problem index.
fn start_problem(number: u32) {
    problem = number;
    pass_dt = uniforms.dt;
    pass_horizon = uniforms.horizon;
    pass_width = uniforms.width;
    pass_references = uniforms.references;
    pass_last_reference = max(uniforms.reference_rows, 1u) - 1u;
    pass_reference_columns = uniforms.reference_columns;
    pass_zero = uniforms.zero;
}

const NOMINAL = 0u;
const NOMINAL_BEFORE = 1u;
const FACTORS = 0u;
const FACTORS_BEFORE = 1u;

// The start of this problem's part of a block of nominals.
fn nominal_at(which: u32) -> u32 {
    return (which * uniforms.problems + problem) * pass_width;
}

// The start of this problem's part of a block of standard-deviation scales.
fn factors_at(which: u32) -> u32 {
    return 2u * uniforms.problems * uniforms.width + (which * uniforms.problems + problem) * uniforms.coordinates;
}

// The number of rows, rounded up to whole tiles.
fn padded_rows() -> u32 {
    return (uniforms.rows + TILE - 1u) / TILE * TILE;
}

// The address of coordinate d of row k, in either row layout. Twin: Pass::address in src/kernels/pass.rs.
fn address(k: u32, d: u32) -> u32 {
    return problem * uniforms.rows_stride
        + (k / TILE) * TILE * uniforms.width + (k % TILE) * uniforms.row_stride + d * uniforms.coordinate_stride;
}

fn has(flag: u32) -> bool {
    return (uniforms.flags & flag) != 0u;
}

// Whether a row can be weighed from its own scores and the best cost alone.
fn simple() -> bool {
    return uniforms.search == FIXED && !has(FLAG_SIGNED);
}

// The address of the cost of row k; its Kahan compensation follows TILE further on, its second score 2 TILE further on.
fn score_address(k: u32) -> u32 {
    return problem * 3u * padded_rows() + (k / TILE) * 3u * TILE + (k % TILE);
}

fn log_weight_address(k: u32) -> u32 {
    return problem * padded_rows() + k;
}

// Whether a number is neither NaN nor infinite. Tests the bits, since a compiler may fold comparisons under the
// assumption that there are no NaNs.
fn finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// Maps floats to integers that sort the same way, for atomicMin and atomicMax.
fn ordered(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return bits ^ select(0x80000000u, 0xffffffffu, (bits >> 31u) == 1u);
}

fn from_ordered(key: u32) -> f32 {
    return bitcast<f32>(key ^ select(0xffffffffu, 0x80000000u, (key >> 31u) == 1u));
}
