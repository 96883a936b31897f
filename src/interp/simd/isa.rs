//! Selection of the CPU backend's vector instructions at run time.

use std::fmt;

use pulp::{Arch, Simd, WithSimd};

use crate::lang::float_env;

/// The vector instructions that the CPU backend may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Instructions {
    /// The widest set available: AVX-512, AVX2 with FMA, NEON, or scalar code. In WebAssembly: simd128, if the program
    /// was compiled with that target feature.
    #[default]
    Best,
    /// AVX2 with FMA at most (on x86), for comparison.
    Avx2,
    /// None: one number at a time and no fused multiply-add, for comparison. (In WebAssembly, as [`Best`](Self::Best):
    /// a module holds the code for one set.)
    Scalar,
}

/// The selected instruction set; chosen once per engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Isa(Arch);

impl Isa {
    pub(crate) fn new(at_most: Instructions) -> Self {
        #[cfg(not(target_arch = "wasm32"))]
        let best = Arch::new();
        // A module with one instruction that a browser does not have is refused as a whole, so nothing is left to
        // choose at run time. Code for a second set would only make it larger.
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        let best = pulp::wasm::Simd128::try_new().map_or(Arch::Scalar, Arch::Simd128);
        #[cfg(all(target_arch = "wasm32", not(target_feature = "simd128")))]
        let best = Arch::Scalar;
        Self(match at_most {
            Instructions::Best => best,
            #[cfg(target_arch = "wasm32")]
            Instructions::Scalar => best,
            #[cfg(not(target_arch = "wasm32"))]
            Instructions::Scalar => Arch::Scalar,
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Instructions::Avx2 => match best {
                Arch::V4(wide) => Arch::V3(*wide),
                other => other,
            },
            #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
            Instructions::Avx2 => best,
        })
    }

    /// Runs a job compiled for these instructions. Must be called inside [`float_env::standard`].
    #[inline(always)]
    pub(crate) fn run<W: WithSimd>(self, job: W) -> W::Output {
        debug_assert!(float_env::is_standard(), "results must not depend on who computes them");
        self.dispatch(job)
    }

    /// Runs a job that computes with a model.
    #[inline(always)]
    pub(crate) fn run_with<D, W: WithModel<D>>(self, job: W, model: &D, inputs: &[f32]) -> W::Output {
        debug_assert!(float_env::is_standard(), "results must not depend on who computes them");
        match self.0 {
            // SAFETY: a token of `pulp` proves that the processor has its instructions.
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V4(simd) => unsafe { with_avx512(job, simd, model, inputs) },
            // SAFETY: as above.
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V3(simd) => unsafe { with_avx2(job, simd, model, inputs) },
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            _ => with(job, pulp::Scalar, model, inputs),
            // The vector instructions of other targets (NEON, simd128) are part of the baseline.
            #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
            _ => self.dispatch(Whichever { job, model, inputs }),
        }
    }

    /// Runs a job compiled for these instructions.
    #[cfg(not(target_arch = "wasm32"))]
    #[inline(always)]
    fn dispatch<W: WithSimd>(self, job: W) -> W::Output {
        self.0.dispatch(job)
    }

    /// Runs a job compiled for these instructions. (`Arch::dispatch` would compile it for instructions that the target
    /// does not have, too.)
    #[cfg(target_arch = "wasm32")]
    #[inline(always)]
    fn dispatch<W: WithSimd>(self, job: W) -> W::Output {
        match self.0 {
            #[cfg(target_feature = "simd128")]
            Arch::Simd128(simd) => Simd::vectorize(simd, job),
            #[cfg(not(target_feature = "simd128"))]
            Arch::Scalar => Simd::vectorize(pulp::Scalar, job),
            _ => unreachable!("a module holds the code for one set"),
        }
    }
}

/// A job that computes with a model.
///
/// Model and inputs are arguments, and not fields of the job as with [`WithSimd`]: `&` arguments are `noalias` and
/// `readonly`, so LLVM hoists loop-invariant work out of the time loop. Hence the functions below are separate and
/// never inlined.
pub(crate) trait WithModel<D> {
    type Output;

    fn with_simd<S: Simd>(self, simd: S, model: &D, inputs: &[f32]) -> Self::Output;
}

/// Runs the job with the instructions of `pulp`'s V4.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[inline(never)]
#[target_feature(enable = "sse,sse2,fxsr,sse3,ssse3,sse4.1,sse4.2,popcnt,avx,avx2,bmi1,bmi2,fma,lzcnt")]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
fn with_avx512<D, W: WithModel<D>>(job: W, simd: pulp::x86::V4, model: &D, inputs: &[f32]) -> W::Output {
    job.with_simd(simd, model, inputs)
}

/// Runs the job with the instructions of `pulp`'s V3.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[inline(never)]
#[target_feature(enable = "sse,sse2,fxsr,sse3,ssse3,sse4.1,sse4.2,popcnt,avx,avx2,bmi1,bmi2,fma,lzcnt")]
fn with_avx2<D, W: WithModel<D>>(job: W, simd: pulp::x86::V3, model: &D, inputs: &[f32]) -> W::Output {
    job.with_simd(simd, model, inputs)
}

#[inline(never)]
fn with<S: Simd, D, W: WithModel<D>>(job: W, simd: S, model: &D, inputs: &[f32]) -> W::Output {
    job.with_simd(simd, model, inputs)
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
struct Whichever<'a, D, W> {
    job: W,
    model: &'a D,
    inputs: &'a [f32],
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
impl<D, W: WithModel<D>> WithSimd for Whichever<'_, D, W> {
    type Output = W::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> W::Output {
        with(self.job, simd, self.model, self.inputs)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An architecture may have instruction sets that are not named here.
        #[allow(unreachable_patterns, reason = "the set of variants depends on the architecture")]
        f.write_str(match self.0 {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V4(_) => "AVX-512",
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V3(_) => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(_) => "NEON",
            #[cfg(target_arch = "wasm32")]
            Arch::Simd128(_) => "simd128",
            _ => "no vector instructions",
        })
    }
}

#[cfg(all(test, any(target_arch = "x86", target_arch = "x86_64")))]
mod tests {
    use std::collections::BTreeSet;

    use pulp::x86::{V3, V4};

    /// The instruction sets that a function of this file is compiled with.
    fn enabled(function: &str) -> BTreeSet<String> {
        let source = include_str!("isa.rs");
        let function = source.find(&format!("\nfn {function}<")).expect("it is in this file");
        let attributes = &source[..function];
        let attributes = &attributes[attributes.rfind("#[inline(never)]").expect("its attributes begin with this")..];
        let lists = attributes
            .lines()
            .filter_map(|line| line.strip_prefix("#[target_feature(enable = \"")?.strip_suffix("\")]"));
        lists.flat_map(|list| list.split(',')).map(str::to_owned).collect()
    }

    /// The instruction sets that a token of `pulp` guarantees. Fails to compile unless all of them are named here.
    macro_rules! sets {
        ($Token:ident: $($set:ident)*) => {{
            fn _all($Token { $($set: _),* }: $Token) {}
            BTreeSet::from([$(stringify!($set).replace('_', ".")),*])
        }};
    }

    #[test]
    fn functions_are_compiled_with_the_instructions_of_their_tokens() {
        let narrow = sets!(V3: sse sse2 fxsr sse3 ssse3 sse4_1 sse4_2 popcnt avx avx2 bmi1 bmi2 fma lzcnt);
        let wide = sets!(
            V4: sse sse2 fxsr sse3 ssse3 sse4_1 sse4_2 popcnt avx avx2 bmi1 bmi2 fma lzcnt
                avx512f avx512bw avx512cd avx512dq avx512vl
        );
        assert_eq!(enabled("with_avx2"), narrow);
        assert_eq!(enabled("with_avx512"), wide);
    }
}
