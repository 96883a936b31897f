//! The description of a compiled kernel, for tools that examine what is compiled.

/// The source of some kernels that an engine has compiled. See [`Engine::kernels`](crate::runtime::Engine::kernels).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelSource {
    /// The names of the entry points that are run.
    pub entries: Vec<&'static str>,
    /// The module, in WGSL.
    pub wgsl: String,
    /// Whether it is compiled with run-time checks of indices and loops. That is so for models that call hand-written
    /// WGSL ([`WgslFn`](crate::lang::WgslFn)).
    pub bounds_checks: bool,
}
