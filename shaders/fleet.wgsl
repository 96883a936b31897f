// The inputs and the noise of a problem in a fleet: `chains` consecutive problems share them, and each such group has its own. Twins:
// Pass::group_and_chain and NoiseId in src/kernels/pass.rs. Without a fleet, SHARED_INPUTS in src/runtime/gpu/source.rs takes its place.

// The length of the noise section at the end of a group's inputs: three integers, 16 bits per float.
const NOISE_ID = 6u;

// The offset of this problem's inputs; the seed and the first update number of its noise.
var<private> inputs_at: u32;
var<private> own_seed: vec2<u32>;
var<private> first_number: u32;

// Kernels call it before they read inputs or draw.
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

// The part of the noise counter that distinguishes problems of the same seed.
fn noise_chain() -> u32 {
    return problem % uniforms.chains;
}
