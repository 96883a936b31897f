//! Submitted work, and the three ways to wait for its completion: block, poll, or have a task woken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::device::{Device, lock};
use crate::error::{EngineError, PlanError};
use crate::lang::clock::Instant;
use crate::runtime::browser::{BROWSER, may_block};
use crate::runtime::{Wait, span};

/// The state that the callbacks of a call's submissions write. They run on whichever thread polls the device.
#[derive(Default)]
struct Report {
    /// The number of completed submissions.
    completed: usize,
    /// The result of mapping the read-back buffer, which follows the last submission.
    mapped: Option<Result<(), wgpu::BufferAsyncError>>,
    /// Wakes the task that waits for the next change.
    waker: Option<Waker>,
    /// Whether a job of the watcher is outstanding.
    watched: bool,
}

#[derive(Default)]
struct Reports(Mutex<Report>);

impl Reports {
    fn change(&self, change: impl FnOnce(&mut Report)) {
        let waker = {
            let mut report = lock(&self.0);
            change(&mut report);
            report.waker.take()
        };
        // The lock is released first, because some executors run the task inside `wake`.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Submissions in flight. The last one maps a buffer for reading.
pub(crate) struct Pending {
    /// Submissions whose completion has not been observed yet.
    submissions: VecDeque<wgpu::SubmissionIndex>,
    /// The total number of submissions.
    count: usize,
    reports: Arc<Reports>,
    /// The start of the front submission's time limit, and the warm-up counts at that time.
    since: (Instant, [u64; 2]),
}

impl Pending {
    pub(crate) fn new(device: &Device) -> Self {
        let since = (Instant::now(), device.warm_ups.count());
        Self { submissions: VecDeque::new(), count: 0, reports: Arc::default(), since }
    }

    /// Submits one part of the work, which is not the last.
    pub(crate) fn submit(&mut self, device: &Device, encoder: wgpu::CommandEncoder) {
        let reports = Arc::clone(&self.reports);
        encoder.on_submitted_work_done(move || reports.change(|report| report.completed += 1));
        self.push(device, encoder);
    }

    /// Submits the rest of the work, followed by mapping `back` for reading.
    pub(crate) fn submit_last(&mut self, device: &Device, encoder: wgpu::CommandEncoder, back: &wgpu::Buffer) {
        let reports = Arc::clone(&self.reports);
        encoder.map_buffer_on_submit(back, wgpu::MapMode::Read, .., move |mapped| {
            reports.change(|report| report.mapped = Some(mapped));
        });
        self.push(device, encoder);
    }

    fn push(&mut self, device: &Device, encoder: wgpu::CommandEncoder) {
        self.submissions.push_back(device.queue.submit([encoder.finish()]));
        self.count += 1;
    }

    /// Restarts the time limit, which applies to each submission separately.
    fn restart(&mut self, device: &Device) {
        self.since = (Instant::now(), device.warm_ups.count());
    }

    /// Returns `Ready` once all submissions have completed and the read-back buffer is mapped, or have failed.
    pub(crate) fn finish(&mut self, device: &Device, wait: Wait<'_>) -> Poll<Result<(), EngineError>> {
        match wait {
            Wait::Blocking => Poll::Ready(self.wait(device)),
            Wait::Polling => self.poll(device, None),
            Wait::Woken(waker) => self.poll(device, Some(waker)),
        }
    }

    fn wait(&mut self, device: &Device) -> Result<(), EngineError> {
        span!(DEBUG, "wait", submissions = self.submissions.len());
        while let Some(submission) = self.submissions.front() {
            device.wait(submission)?;
            self.submissions.pop_front();
        }
        // If another thread polled the device, its callback may not have run yet, but the buffer is already mapped.
        let mapped = lock(&self.reports.0).mapped.clone();
        mapped.map_or(Ok(()), |mapped| mapped.map_err(|error| device.failure(error)))
    }

    fn poll(&mut self, device: &Device, waker: Option<&Waker>) -> Poll<Result<(), EngineError>> {
        if let Some(waker) = waker {
            // Registered before the device is polled, so that no callback is missed.
            lock(&self.reports.0).waker = Some(waker.clone());
        }
        device.poll()?;
        let (completed, mapped) = {
            let report = lock(&self.reports.0);
            (report.completed, report.mapped.clone())
        };
        if let Some(mapped) = mapped {
            self.submissions.clear();
            return Poll::Ready(mapped.map_err(|error| device.failure(error)));
        }
        while self.count - self.submissions.len() < completed && self.submissions.pop_front().is_some() {
            self.restart(device);
        }
        if self.is_late(device) {
            return Poll::Ready(Err(EngineError::Timeout { after: device.timeout }));
        }
        if let (Some(_), Some(submission)) = (waker, self.submissions.front()) {
            device.watcher.watch(&device.device, submission, device.timeout, &self.reports);
        }
        Poll::Pending
    }

    /// Whether the front submission has exceeded the time limit. As in [`Device::wait`], time in which the device
    /// generates machine code does not count.
    fn is_late(&mut self, device: &Device) -> bool {
        let (since, [begun, ended]) = (self.since.0, device.warm_ups.count());
        if since.elapsed() <= device.timeout {
            return false;
        }
        let compiled = begun > ended || [begun, ended] != self.since.1;
        if compiled {
            self.restart(device);
        }
        !compiled
    }
}

/// A driver's call on its device, of which there is at most one, with the data that its completion needs.
pub(crate) struct Call<T>(Option<InFlight<T>>);

struct InFlight<T> {
    pending: Pending,
    back: wgpu::Buffer,
    /// False once the results have been given up.
    wanted: bool,
    data: T,
}

impl<T> Call<T> {
    pub(crate) const NONE: Self = Self(None);

    /// Returns [`PlanError::Busy`] while a call is in flight.
    pub(crate) fn is_free(&mut self, device: &Device) -> Result<(), PlanError> {
        match self.drain(device, Wait::Polling) {
            // A call that was given up may take longer than the time limit. A caller that tries again is told the same
            // as before.
            Poll::Ready(Err(EngineError::Timeout { .. })) => Err(PlanError::Busy),
            Poll::Ready(Err(error)) => Err(error.into()),
            Poll::Ready(Ok(())) if self.0.is_none() => Ok(()),
            _ => Err(PlanError::Busy),
        }
    }

    pub(crate) fn begin(&mut self, pending: Pending, back: &wgpu::Buffer, data: T) {
        self.0 = Some(InFlight { pending, back: back.clone(), wanted: true, data });
    }

    /// Returns the data of the call once it has completed; the read-back buffer is mapped then. An error abandons the
    /// call.
    pub(crate) fn finish(&mut self, device: &Device, wait: Wait<'_>) -> Poll<Result<T, EngineError>> {
        let Some(call) = self.0.as_mut().filter(|call| call.wanted) else {
            return Poll::Ready(Err(EngineError::Driver { message: "no call is pending".into() }));
        };
        match call.pending.finish(device, wait) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                self.abandon(device);
                return Poll::Ready(Err(error));
            }
        }
        match self.0.take() {
            Some(call) => Poll::Ready(Ok(call.data)),
            None => Poll::Pending,
        }
    }

    /// Gives up the results of the call, if there is one.
    pub(crate) fn abandon(&mut self, device: &Device) {
        if let Some(call) = &mut self.0 {
            call.wanted = false;
            call.pending.restart(device);
        }
    }

    /// Waits for an abandoned call to leave the device.
    pub(crate) fn drain(&mut self, device: &Device, wait: Wait<'_>) -> Poll<Result<(), EngineError>> {
        if let (Wait::Blocking, Err(refused)) = (wait, may_block()) {
            return Poll::Ready(Err(refused));
        }
        let Some(call) = self.0.as_mut().filter(|call| !call.wanted) else { return Poll::Ready(Ok(())) };
        let drained = call.pending.finish(device, wait);
        match &drained {
            Poll::Pending | Poll::Ready(Err(EngineError::Timeout { .. })) => return drained,
            Poll::Ready(Ok(())) => {
                let back = &call.back;
                let unmap = || {
                    back.unmap();
                    Ok::<_, EngineError>(())
                };
                // The next call runs into the same error and returns it.
                if BROWSER { unmap() } else { device.guard(unmap) }.ok();
            }
            // The mapping has failed, so there is nothing to unmap.
            Poll::Ready(Err(_)) => {}
        }
        self.0 = None;
        drained
    }
}

/// A thread that waits for submissions on behalf of tasks. It is started when a task first has to be woken.
///
/// Natively, callbacks run only when some thread polls the device. In a browser no thread may block, and callbacks run
/// from its event loop.
#[derive(Default)]
pub(crate) struct Watcher(Mutex<Option<Watching>>);

struct Watching {
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

/// A submission to wait for. Dropping the job wakes the task: after the wait, whatever its result, and also if the
/// thread panics or cannot be started.
struct Job {
    submission: wgpu::SubmissionIndex,
    limit: Duration,
    reports: Arc<Reports>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.reports.change(|report| report.watched = false);
    }
}

impl Watcher {
    /// Wakes the task when the submission has completed or the limit has passed.
    fn watch(
        &self,
        device: &wgpu::Device,
        submission: &wgpu::SubmissionIndex,
        limit: Duration,
        reports: &Arc<Reports>,
    ) {
        if BROWSER || std::mem::replace(&mut lock(&reports.0).watched, true) {
            return;
        }
        let job = Job { submission: submission.clone(), limit, reports: Arc::clone(reports) };
        let mut watching = lock(&self.0);
        if watching.as_ref().is_none_or(|watching| watching.thread.is_finished()) {
            *watching = Watching::start(device.clone());
        }
        let refused = match &*watching {
            Some(watching) => watching.jobs.send(job).err().map(|refused| refused.0),
            None => Some(job),
        };
        drop(watching);
        // Dropped after the lock, because it wakes the task.
        drop(refused);
    }
}

impl Watching {
    fn start(device: wgpu::Device) -> Option<Self> {
        let (jobs, incoming) = mpsc::channel::<Job>();
        let watch = move || {
            for job in incoming {
                let submission_index = Some(job.submission.clone());
                // The task polls again and finds the result, or the error.
                device.poll(wgpu::PollType::Wait { submission_index, timeout: Some(job.limit) }).ok();
            }
        };
        let thread = thread::Builder::new().name("gibbs".into()).spawn(watch);
        let thread = thread.inspect_err(|error| log::warn!("no thread to wait for a device: {error}")).ok()?;
        Some(Self { jobs, thread })
    }
}

impl Drop for Watcher {
    /// Joins the thread, which holds the device. A woken task may drop the last engine on that very thread, which
    /// cannot join itself.
    fn drop(&mut self) {
        let Some(Watching { jobs, thread }) = lock(&self.0).take() else { return };
        drop(jobs);
        if thread.thread().id() != thread::current().id() {
            thread.join().ok();
        }
    }
}
