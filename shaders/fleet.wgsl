// Inputs and noise of the problems of a fleet. Each group of `chains` consecutive problems shares one section of the
// inputs, which ends with the seed and the pass number of its noise. Twins: Pass::group_and_chain and NoiseId in
// src/kernels/pass.rs. Kernels without a fleet have SHARED_INPUTS (src/runtime/gpu/source.rs) instead of this file.

// The number of floats that seed and pass number occupy at the end of a group's inputs: three 32-bit integers, 16 bits
// per float.
const NOISE_ID = 6u;

// The offset of this problem's inputs, and the seed and the first pass number of its noise.
var<private> inputs_at: u32;
var<private> own_seed: vec2<u32>;
var<private> first_number: u32;

// Locates the inputs of `problem`. Must be called before inputs are read or noise is drawn.
fn find_inputs() {
    inputs_at = problem / uniforms.chains * uniforms.inputs_stride;
    let at = inputs_at + uniforms.inputs_stride - NOISE_ID;
    own_seed = vec2<u32>(integer_at(at), integer_at(at + 2u));
    first_number = integer_at(at + 4u);
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
