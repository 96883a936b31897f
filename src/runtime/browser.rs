//! What differs in a browser: a page has one thread, which may not block, because the page's GPU reports results and
//! errors to it as events. So whatever waits has an `async` variant, and the others refuse to wait.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::error::EngineError;

/// Whether this is a page in a browser.
pub(crate) const BROWSER: bool = cfg!(all(target_family = "wasm", target_os = "unknown"));

/// Returns an error where the thread may not block until a GPU has done its work.
pub(crate) fn may_block() -> Result<(), EngineError> {
    if BROWSER { Err(EngineError::WouldBlock) } else { Ok(()) }
}

/// Blocks until a future is ready. In a browser it must be ready at once.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, EngineError> {
    if !BROWSER {
        return Ok(pollster::block_on(future));
    }
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(EngineError::WouldBlock),
    }
}
