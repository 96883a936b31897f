//! Errors of a device's work. Natively an error scope returns them when it is closed; a browser reports them later.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::device::lock;
use crate::error::{BuildError, EngineError};
use crate::runtime::Wait;

type Check = Pin<Box<dyn Future<Output = Result<(), BuildError>> + Send>>;

/// Work whose errors a browser has not reported yet; always empty natively.
#[derive(Default)]
pub(crate) struct Checks(Mutex<Vec<Check>>);

impl Checks {
    pub(crate) fn push(&self, check: impl Future<Output = Result<(), BuildError>> + Send + 'static) {
        lock(&self.0).push(Box::pin(check));
    }

    /// Moves all checks of `from` to the end of these.
    pub(crate) fn append(&mut self, from: &Self) {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).append(&mut lock(&from.0));
    }

    pub(crate) fn clear(&self) {
        lock(&self.0).clear();
    }

    /// Returns `Ready` once all work is known to be free of errors, or with the first error. After an error no checks
    /// are left.
    pub(crate) fn poll(&self, wait: Wait<'_>) -> Poll<Result<(), BuildError>> {
        let waker = match wait {
            Wait::Woken(waker) => waker,
            Wait::Blocking | Wait::Polling => Waker::noop(),
        };
        let mut context = Context::from_waker(waker);
        let mut checks = lock(&self.0);
        while let Some(first) = checks.first_mut() {
            match first.as_mut().poll(&mut context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => drop(checks.remove(0)),
                Poll::Ready(Err(error)) => {
                    checks.clear();
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// When the result of closing error scopes is known.
pub(crate) enum Closed {
    /// Natively: the error that they caught, if any.
    Now(Option<wgpu::Error>),
    /// In a browser: as one of the checks.
    Later,
}

impl Closed {
    /// The error, if it is known already.
    pub(crate) fn error(self) -> Option<wgpu::Error> {
        match self {
            Self::Now(error) => error,
            Self::Later => None,
        }
    }
}

/// Open error scopes of one device.
pub(crate) struct Scopes<const K: usize>([wgpu::ErrorScopeGuard; K]);

impl Scopes<1> {
    /// For errors in what the device is asked to do.
    pub(crate) fn validation(device: &wgpu::Device) -> Self {
        Self([device.push_error_scope(wgpu::ErrorFilter::Validation)])
    }
}

impl Scopes<3> {
    /// For all kinds of errors.
    pub(crate) fn new(device: &wgpu::Device) -> Self {
        let filters = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal];
        Self(filters.map(|filter| device.push_error_scope(filter)))
    }
}

impl<const K: usize> Scopes<K> {
    /// Closes all scopes in reverse order. If their result is not known at once, `later` is given it and becomes one
    /// of the checks.
    pub(crate) fn close(
        self,
        checks: &Checks,
        later: impl FnOnce(Option<wgpu::Error>) -> Result<(), BuildError> + Send + 'static,
    ) -> Closed {
        let mut popped = self.0;
        popped.reverse();
        // The scopes are closed here; only their results come later.
        let results = popped.map(wgpu::ErrorScopeGuard::pop);
        let mut caught = Box::pin(async move {
            let mut caught = None;
            for result in results {
                if let Some(error) = result.await {
                    caught = Some(error);
                }
            }
            caught
        });
        match caught.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(error) => Closed::Now(error),
            Poll::Pending => {
                checks.push(async move { later(caught.await) });
                Closed::Later
            }
        }
    }

    /// Closes all scopes and ignores what they caught.
    pub(crate) fn ignore(self) {
        self.0.into_iter().rev().for_each(|scope| drop(scope.pop()));
    }
}

/// The result of work without a model, of which an error is not expected.
pub(crate) fn unexpected(error: Option<wgpu::Error>) -> Result<(), BuildError> {
    error.map_or(Ok(()), |error| Err(EngineError::Driver { message: error.to_string() }.into()))
}

/// Waits, as a task, for all work that was submitted to a queue so far.
pub(crate) fn work_done(queue: &wgpu::Queue) -> impl Future<Output = ()> + Send + 'static {
    let state = Arc::new(Mutex::new((false, None::<Waker>)));
    let told = Arc::clone(&state);
    queue.on_submitted_work_done(move || {
        let waker = {
            let mut state = lock(&told);
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    });
    poll_fn(move |context| {
        let mut state = lock(&state);
        if state.0 {
            return Poll::Ready(());
        }
        state.1 = Some(context.waker().clone());
        Poll::Pending
    })
}
