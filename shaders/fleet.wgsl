// Inputs and noise of the problems of a fleet. Each group of `chains` consecutive problems shares one section of the
// inputs, which ends with the seed and the pass number of its noise. With scenarios, it is followed by a section for
// each scenario, which ends with the same. Twins: Pass::group_and_chain and NoiseId in src/kernels/pass.rs. Kernels
// without a fleet have SHARED_INPUTS (src/runtime/gpu/source.rs) instead of this file.

// The number of floats that seed and pass number occupy at the end of a group's inputs: three 32-bit integers, 16 bits
// per float.
const NOISE_ID = 6u;

// The section of the problem's inputs that is read: 0, or 1 and more for a scenario.
var<private> section: u32;
// The offset of this section, and the seed and the first pass number of its noise.
var<private> inputs_at: u32;
var<private> own_seed: vec2<u32>;
var<private> first_number: u32;

// Locates the inputs of `problem`. Must be called before inputs are read or noise is drawn.
fn find_inputs() {
    let sections = 1u + uniforms.scenarios;
    inputs_at = (problem / uniforms.chains * sections + section) * uniforms.inputs_stride;
    let at = inputs_at + uniforms.inputs_stride - NOISE_ID;
    own_seed = vec2<u32>(integer_at(at), integer_at(at + 2u));
    first_number = integer_at(at + 4u);
}

// Locates the problem, and with scenarios the scenario, of a rollout. The third dimension of its dispatch has all
// problems, for one scenario after the other.
fn find_rollout(z: u32) {
    start_problem(z % uniforms.problems);
    section = min(1u + z / uniforms.problems, uniforms.scenarios);
    find_inputs();
}

// The offset of the scores of this rollout's scenario. Combined scores overwrite those of scenario 0.
fn scenario_scores() -> u32 {
    return (max(section, 1u) - 1u) * uniforms.problems * 3u * padded_rows();
}

fn integer_at(at: u32) -> u32 {
    return u32(inputs[at]) | (u32(inputs[at + 1u]) << 16u);
}

fn noise_seed() -> vec2<u32> {
    return own_seed;
}

fn noise_number() -> u32 {
    return first_number + uniforms.number;
}

// The part of the noise counter that distinguishes problems with the same seed.
fn noise_chain() -> u32 {
    return problem % uniforms.chains;
}
