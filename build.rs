//! Tells the crate whether it is optimized: `cfg(optimized)`.
//!
//! Where nothing is optimized, all that is inlined into a function has a place of its own in that function's frame, and of
//! several registers of rollouts side by side that is more than a thread's stack.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(optimized)");
    if std::env::var("OPT_LEVEL").is_ok_and(|level| level != "0") {
        println!("cargo::rustc-cfg=optimized");
    }
}
