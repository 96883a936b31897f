//! Which vector instructions the CPU backend uses, chosen at run time.

use std::fmt;

use pulp::{Arch, WithSimd};

/// Vector instructions to use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Instructions {
    /// The widest that the processor has: AVX-512, AVX2 with FMA, NEON, or none.
    #[default]
    Best,
    /// AVX2 with FMA at most (on x86), for comparison.
    Avx2,
    /// None: one number at a time and no fused multiply-add, for comparison.
    Scalar,
}

/// The choice made, once per engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Isa(Arch);

impl Isa {
    pub(crate) fn new(at_most: Instructions) -> Self {
        let best = Arch::new();
        Self(match at_most {
            Instructions::Best => best,
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

    /// Runs a job with these instructions switched on.
    #[inline(always)]
    pub(crate) fn run<W: WithSimd>(self, job: W) -> W::Output {
        self.0.dispatch(job)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An architecture may have sets that this crate has no name for.
        #[allow(unreachable_patterns, reason = "the set of variants depends on the architecture")]
        f.write_str(match self.0 {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V4(_) => "AVX-512",
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V3(_) => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(_) => "NEON",
            _ => "no vector instructions",
        })
    }
}
