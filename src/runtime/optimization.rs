//! Detects whether rollouts are compiled with optimization, and warns if they are not.
//!
//! A rollout is generic over its model, so it is compiled in the crate that names the model, with the settings of that
//! crate and not of this one. That crate may be unoptimized while its dependencies are optimized. No `cfg` of this
//! crate reveals this; code that is generic over the same model does.

use std::hint::black_box;
use std::sync::Once;

/// The type of the two stack slots that are compared.
type Filler = [u8; 512];

/// Whether code that is generic over `D` is compiled without optimization, in whichever crate that is.
///
/// Optimized builds give two values with disjoint lifetimes the same stack slot; unoptimized builds do not. Compilers
/// do not guarantee either, so only a warning depends on it.
#[expect(clippy::extra_unused_type_parameters, reason = "it has this function compiled where the rollouts of `D` are")]
#[inline(never)]
pub(crate) fn is_missing_in<D: ?Sized>() -> bool {
    let first = {
        let mut filler: Filler = [1; _];
        black_box(black_box(&mut filler).as_ptr().addr())
    };
    let second = {
        let mut filler: Filler = [2; _];
        black_box(black_box(&mut filler).as_ptr().addr())
    };
    first != second
}

/// Warns, once per process, that the CPU backend runs without optimization.
pub(crate) fn warn_that_it_is_missing() {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        log::warn!(
            "rollouts on the CPU are compiled without optimization, and take hundreds of times as long: build with --release, or \
             set opt-level = 1 in [profile.dev] of your own workspace (see \"Debug builds\" in the documentation of gibbs)"
        );
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn optimization_is_missing_where_the_build_script_says_so() {
        struct Anything;
        assert_eq!(super::is_missing_in::<Anything>(), !cfg!(optimized));
    }
}
