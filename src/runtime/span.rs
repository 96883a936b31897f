//! Spans of `tracing`, for profilers; nothing is compiled without the feature `tracing`. The documentation of the crate
//! lists them.

/// Opens a span until the end of the enclosing block: `span!(DEBUG, "plan", rows = 256)`. With `in parent`, a
/// [`Parent`], it is a part of that span, whatever thread it is on.
#[cfg(feature = "tracing")]
macro_rules! span {
    (in $parent:expr, $level:ident, $name:literal $($fields:tt)*) => {
        let _open =
            tracing::span!(target: "gibbs", parent: &$parent.0, tracing::Level::$level, $name $($fields)*).entered();
    };
    ($level:ident, $name:literal $($fields:tt)*) => {
        let _open = tracing::span!(target: "gibbs", tracing::Level::$level, $name $($fields)*).entered();
    };
}

#[cfg(not(feature = "tracing"))]
macro_rules! span {
    ($($all:tt)*) => {};
}

pub(crate) use span;

/// The span that is open on a thread, for spans of other threads that are parts of it.
pub(crate) struct Parent(#[cfg(feature = "tracing")] pub(crate) tracing::Span);

impl Parent {
    /// The innermost span that is open on this thread.
    pub(crate) fn current() -> Self {
        Self(
            #[cfg(feature = "tracing")]
            tracing::Span::current(),
        )
    }
}
