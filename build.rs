//! Sets `cfg(optimized)` in optimized builds.
//!
//! In unoptimized builds every inlined call keeps its own slots in the frame of the calling function; with several
//! registers of rollouts interleaved, or with all parts of a time step inlined, the frame would exceed a thread's
//! stack. Hence `#[cfg_attr(optimized, inline(always))]` on large functions of the kernels.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(optimized)");
    if std::env::var("OPT_LEVEL").is_ok_and(|level| level != "0") {
        println!("cargo::rustc-cfg=optimized");
    }
}
