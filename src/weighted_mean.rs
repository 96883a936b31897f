//! The weighted mean of any rows and its statistics, as a stand-alone operation: all drivers share its kernel.

use std::task::Poll;

use crate::error::{EngineError, InvalidValue, PlanError};
use crate::kernels::pass::{INVALID, MASKED, Pass, SECOND_MOMENT, Sums};
use crate::lang::float_env;
use crate::runtime::{Averager, Calls, Engine, Wait, Waiter, blocking, completed, drained, finished, span};

/// Averages rows under their log-weights: m = Σ_k w_k r_k with w = softmax(ℓ).
///
/// One pass over the rows computes an online softmax (each group of rows relative to its own largest log-weight, groups
/// merged in a fixed order), so log-weights may have any magnitude and the same input gives the same bits. Buffers are
/// reused from call to call.
///
/// # Example
///
/// ```
/// use gibbs::{Engine, WeightedMean};
///
/// let mut average = WeightedMean::new(&Engine::new()?);
/// let rows = [0.0, 10.0, 1.0, 20.0, 2.0, 30.0]; // three rows of two coordinates
/// let result = average.compute(&rows, &[0.0, f32::NEG_INFINITY, 0.0])?;
/// assert_eq!(result.mean(), [1.0, 20.0]);
/// assert_eq!(result.effective_samples(), 2.0);
/// # Ok::<(), gibbs::Error>(())
/// ```
pub struct WeightedMean {
    averager: Averager,
    second_moment: bool,
    average: Average,
    pending: Option<PendingCall>,
}

/// A call that has been started and not finished.
#[derive(Debug, Clone, Copy)]
struct PendingCall {
    /// The amount that the log-weights were shifted by.
    shift: Option<f32>,
    /// The number of rows that the kernels count as invalid because their log-weight equals the sentinel.
    marked: u32,
}

/// The result of [`WeightedMean::compute`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Average {
    moments: Vec<f32>,
    width: usize,
    rows: usize,
    sums: Sums,
}

impl WeightedMean {
    /// Creates an averager on the device of an engine. On a GPU its kernels are compiled here, so that the first call
    /// takes as long as the second. If that fails, the first call tries again, and returns the error. In a browser they
    /// are compiled in the background, and the first [`compute_async`](Self::compute_async) waits for that.
    pub fn new(engine: &Engine) -> Self {
        let average = Average { moments: Vec::new(), width: 0, rows: 0, sums: Sums::NONE };
        Self { averager: engine.averager(), second_moment: false, average, pending: None }
    }

    /// Also computes Σ_k w_k r_k² for every coordinate.
    pub fn with_second_moment(mut self) -> Self {
        self.second_moment = true;
        self
    }

    /// Computes the weighted mean of K rows of D coordinates, stored one after the other in `rows`; K is the number of
    /// log-weights.
    ///
    /// Any finite log-weight is valid, whatever its magnitude. A log-weight of −∞ is a weight of zero. A log-weight of
    /// NaN or +∞ makes its row *invalid*: the row gets weight zero and is counted. The contents of a row without weight
    /// do not matter.
    ///
    /// # Errors
    ///
    /// If there are no rows, `rows` is not a whole number of rows, no row has a finite log-weight, a row with a
    /// positive weight is not finite, a call is [pending](Self::start), or the device fails.
    pub fn compute(&mut self, rows: &[f32], log_weights: &[f32]) -> Result<&Average, PlanError> {
        span!(DEBUG, "average", rows = log_weights.len(), numbers = rows.len());
        blocking(self.drain(Wait::Blocking))?;
        let is_shifted = self.submit(rows, log_weights)?;
        self.finish()?;
        let sums = &mut self.average.sums;
        if !is_shifted && (sums.valid as usize) < log_weights.len() {
            sums.valid += marked(log_weights);
        }
        Ok(&self.average)
    }

    /// Starts a call of [`compute`](Self::compute) without waiting for it. The work is submitted to the device here.
    /// [`poll`](Self::poll) returns the average once it is available, [`finish`](Self::finish) waits for it, and
    /// [`cancel`](Self::cancel) gives it up. The CPU backend computes here, so that the first `poll` returns the
    /// average.
    ///
    /// # Errors
    ///
    /// [`PlanError::Busy`] if a call is pending, or one that was canceled or timed out still runs on the device;
    /// otherwise as [`compute`](Self::compute), except for errors in the result, which `poll` and `finish` return.
    pub fn start(&mut self, rows: &[f32], log_weights: &[f32]) -> Result<(), PlanError> {
        let is_shifted = self.submit(rows, log_weights)?;
        if let (Some(call), false) = (&mut self.pending, is_shifted) {
            call.marked = marked(log_weights);
        }
        Ok(())
    }

    /// Submits a call, and returns whether the log-weights were shifted.
    fn submit(&mut self, rows: &[f32], log_weights: &[f32]) -> Result<bool, PlanError> {
        if self.is_pending() {
            return Err(PlanError::Busy);
        }
        let count = log_weights.len();
        if count == 0 || count > i32::MAX as usize {
            let expected = format_args!("between 1 and {} of them", i32::MAX);
            return Err(InvalidValue::new("log_weights", format_args!("{count} numbers"), expected).into());
        }
        if rows.is_empty() || !rows.len().is_multiple_of(count) || rows.len() > u32::MAX as usize {
            let expected =
                format_args!("one or more numbers for each of the {count} log-weights, below 2³² altogether");
            return Err(InvalidValue::new("rows", format_args!("{} numbers", rows.len()), expected).into());
        }
        let width = rows.len() / count;
        let pass = Pass {
            rows: count as u32,
            width: width as u32,
            coordinates: width as u32,
            coordinate_stride: 1,
            row_stride: width as u32,
            problems: 1,
            flags: if self.second_moment { SECOND_MOMENT } else { 0 },
            ..bytemuck::Zeroable::zeroed()
        };
        let average = &mut self.average;
        average.moments.resize(width * if self.second_moment { 2 } else { 1 }, 0.0);
        (average.width, average.rows) = (width, count);
        // Kernels mark excluded rows by log-weights near `f32::MIN`. If all finite ones are that small, shift them;
        // otherwise they weigh nothing anyway.
        if log_weights.iter().any(|l| *l > MASKED && l.is_finite()) {
            self.averager.submit(&pass, rows, log_weights, &mut average.moments)?;
            self.pending = Some(PendingCall { shift: None, marked: 0 });
            return Ok(false);
        }
        let finite = log_weights.iter().copied().filter(|l| l.is_finite());
        let Some(most) = finite.reduce(f32::max) else {
            return Err(PlanError::NoFiniteRow { rows: count });
        };
        let shift = |l: &f32| if l.is_finite() { l - most } else { *l };
        let shifted: Vec<f32> = float_env::standard(|| log_weights.iter().map(shift).collect());
        self.averager.submit(&pass, rows, &shifted, &mut average.moments)?;
        self.pending = Some(PendingCall { shift: Some(most), marked: 0 });
        Ok(true)
    }

    /// Returns the average of the pending call if it is available, without blocking. Returns `None` if it is not, or if
    /// no call is pending.
    ///
    /// # Errors
    ///
    /// As [`compute`](Self::compute). Then no call is pending.
    pub fn poll(&mut self) -> Result<Option<&Average>, PlanError> {
        let is_over = self.complete(Wait::Polling)?;
        Ok(is_over.then_some(&self.average))
    }

    /// Waits for the average of the pending call.
    ///
    /// # Errors
    ///
    /// As [`compute`](Self::compute), and if no call is pending.
    pub fn finish(&mut self) -> Result<&Average, PlanError> {
        finished(self)?;
        Ok(&self.average)
    }

    /// Whether a call has been started and not finished.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Gives up the pending call, if there is one. A GPU still runs it, and [`start`](Self::start) returns
    /// [`PlanError::Busy`] until it has completed.
    pub fn cancel(&mut self) {
        if self.pending.take().is_some() {
            self.averager.abandon();
        }
    }

    /// As [`compute`](Self::compute), without blocking the thread: see
    /// [`Planner::plan_async`](crate::control::planner::Planner::plan_async).
    ///
    /// # Errors
    ///
    /// As [`compute`](Self::compute).
    pub async fn compute_async(&mut self, rows: &[f32], log_weights: &[f32]) -> Result<&Average, PlanError> {
        drained(self, Waiter::Task).await?;
        self.start(rows, log_weights)?;
        completed(self, Waiter::Task).await?;
        Ok(&self.average)
    }
}

/// The number of log-weights that are finite and equal the sentinel of invalid rows.
fn marked(log_weights: &[f32]) -> u32 {
    log_weights.iter().filter(|l| **l == INVALID).count() as u32
}

impl Calls for WeightedMean {
    fn may_block(&self) -> Result<(), EngineError> {
        self.averager.may_block()
    }

    fn drain(&mut self, wait: Wait<'_>) -> Poll<Result<(), EngineError>> {
        self.averager.drain(wait)
    }

    fn complete(&mut self, wait: Wait<'_>) -> Result<bool, PlanError> {
        let Some(call) = self.pending else { return Ok(false) };
        let average = &mut self.average;
        let Poll::Ready(sums) = self.averager.finish(wait, &mut average.moments) else { return Ok(false) };
        self.pending = None;
        average.sums = sums?;
        average.sums.valid += call.marked;
        if let Some(most) = call.shift {
            average.sums.max = most;
        }
        if !average.moments.iter().all(|m| m.is_finite()) {
            return Err(PlanError::NonFiniteMean);
        }
        Ok(true)
    }

    fn cancel(&mut self) {
        Self::cancel(self);
    }
}

/// Makes a second averager on the same device, with buffers of its own. A [pending](WeightedMean::start) call stays
/// with the averager that started it.
impl Clone for WeightedMean {
    fn clone(&self) -> Self {
        let Self { averager, second_moment, average, .. } = self;
        Self { averager: averager.another(), second_moment: *second_moment, average: average.clone(), pending: None }
    }
}

impl std::fmt::Debug for WeightedMean {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeightedMean").field("second_moment", &self.second_moment).finish_non_exhaustive()
    }
}

impl Average {
    /// Σ_k w_k r_k; D numbers.
    pub fn mean(&self) -> &[f32] {
        &self.moments[..self.width]
    }

    /// Σ_k w_k r_k² by coordinate, if [`with_second_moment`](WeightedMean::with_second_moment) was called; D numbers.
    pub fn second_moment(&self) -> Option<&[f32]> {
        Some(&self.moments[self.width..]).filter(|second| !second.is_empty())
    }

    /// The weighted variance Σ_k w_k r_k² − m² by coordinate, if the second moment is there. It loses precision where
    /// the mean is large compared with the standard deviation.
    pub fn variance(&self) -> Option<Vec<f32>> {
        let variance = |(s, m): (&f32, &f32)| (s - m * m).max(0.0);
        let all = |second: &[f32]| second.iter().zip(self.mean()).map(variance).collect();
        self.second_moment().map(|second| float_env::standard(|| all(second)))
    }

    /// log Z = log (1/K) Σ_k e^ℓ_k, over all K rows.
    pub fn log_z(&self) -> f32 {
        float_env::standard(|| (f64::from(self.sums.max) + (f64::from(self.sums.sum) / self.rows as f64).ln()) as f32)
    }

    /// The effective sample size (Σw)²/Σw², between 1 and K.
    pub fn effective_samples(&self) -> f32 {
        float_env::standard(|| self.sums.sum * self.sums.sum / self.sums.squares)
    }

    /// The largest log-weight.
    pub fn max_log_weight(&self) -> f32 {
        self.sums.max
    }

    /// K, the number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Rows whose log-weight is finite or −∞.
    pub fn valid_rows(&self) -> usize {
        self.sums.valid as usize
    }

    /// Rows whose log-weight is NaN or +∞.
    pub fn invalid_rows(&self) -> usize {
        self.rows - self.sums.valid as usize
    }
}
