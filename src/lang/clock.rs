//! The clock that measures durations. In a browser `std::time::Instant` panics, and `web_time` reads the page's clock.

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub(crate) use std::time::Instant;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub(crate) use web_time::Instant;
