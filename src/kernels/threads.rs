//! Distributes jobs over threads: all cores with the `rayon` feature, else the calling thread only.

use std::sync::atomic::AtomicU64;
#[cfg(feature = "rayon")]
use std::sync::atomic::Ordering;

#[cfg(feature = "rayon")]
use crate::lang::clock::Instant;
#[cfg(feature = "rayon")]
use crate::lang::float_env;

/// The approximate latency of waking other threads; shorter work is not distributed.
#[cfg(feature = "rayon")]
const WAKING: std::time::Duration = std::time::Duration::from_micros(60);

/// The last duration of a job of some list, in nanoseconds, capped at twice the one before; 0 if there was none.
/// Affects scheduling only, never results.
#[derive(Debug, Default)]
pub(crate) struct DurationEstimate(
    #[cfg_attr(not(feature = "rayon"), expect(dead_code, reason = "one thread needs no pace"))] AtomicU64,
);

#[cfg(feature = "rayon")]
impl DurationEstimate {
    /// Runs a job and records its duration. Preemption can make a short job appear long, which should not cause other
    /// threads to be woken; hence the cap on any increase.
    fn time(&self, job: impl FnOnce()) {
        let clock = Instant::now();
        job();
        let most = match self.0.load(Ordering::Relaxed) {
            0 => u64::MAX,
            last => last.saturating_mul(2),
        };
        self.0.store(most.min(clock.elapsed().as_nanos() as u64 | 1), Ordering::Relaxed);
    }

    fn of(&self, jobs: usize) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.load(Ordering::Relaxed).saturating_mul(jobs as u64))
    }
}

/// The number of threads that may run at once.
pub(crate) fn count() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    return 1;
}

/// How a list of jobs is parallelized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parallelism {
    /// On the calling thread only; the others run other problems.
    Caller,
    /// On all threads.
    Pool,
}

impl Parallelism {
    /// The number of threads.
    pub(crate) fn size(self) -> usize {
        if self == Self::Pool { count() } else { 1 }
    }

    /// Calls `job` for every item of a list. Results must not depend on the order of the calls.
    pub(crate) fn for_each<T: Send>(
        self,
        estimate: &DurationEstimate,
        items: impl ExactSizeIterator<Item = T> + Send,
        job: impl Fn(T) + Sync,
    ) {
        self.for_each_with(estimate, &mut vec![(); self.size()], items, |(), item| job(item));
    }

    /// [`for_each`](Self::for_each) for jobs of which each is long enough for a thread.
    pub(crate) fn for_each_long<T: Send>(self, items: impl ExactSizeIterator<Item = T> + Send, job: impl Fn(T) + Sync) {
        self.on_threads(&DurationEstimate::default(), &mut vec![(); self.size()], items, |(), item| job(item));
    }

    /// [`for_each`](Self::for_each) with per-thread scratch: `own` has one entry for every thread.
    ///
    /// Other threads are woken if the jobs are estimated to take long enough. The estimate is that of the last call; in
    /// the first call, it is the duration of the first job, which the calling thread runs alone.
    pub(crate) fn for_each_with<S: Send, T: Send>(
        self,
        estimate: &DurationEstimate,
        own: &mut [S],
        items: impl ExactSizeIterator<Item = T> + Send,
        job: impl Fn(&mut S, T) + Sync,
    ) {
        #[cfg(feature = "rayon")]
        let mut items = items;
        #[cfg(feature = "rayon")]
        if let (Self::Pool, Some(mine), true) = (self, own.first_mut(), items.len() > 1)
            && estimate.of(items.len()) <= WAKING
        {
            if let Some(item) = items.next() {
                estimate.time(|| job(mine, item));
            }
            if estimate.of(items.len()) <= WAKING {
                return items.for_each(|item| job(mine, item));
            }
        }
        self.on_threads(estimate, own, items, job);
    }

    /// The calling thread begins immediately, and the others join as they wake up. (A parallel iterator would block the
    /// caller while pool threads do its work.) Pool threads have arbitrary floating-point environments, so each sets
    /// the standard one; the caller has already set its own.
    fn on_threads<S: Send, T: Send>(
        self,
        estimate: &DurationEstimate,
        own: &mut [S],
        items: impl ExactSizeIterator<Item = T> + Send,
        job: impl Fn(&mut S, T) + Sync,
    ) {
        let Some((mine, others)) = own.split_first_mut() else { return };
        #[cfg(feature = "rayon")]
        if self == Self::Pool && !others.is_empty() {
            let more = items.len().saturating_sub(1).min(others.len());
            let items = std::sync::Mutex::new(items);
            let work = |own: &mut S| {
                while let Some(item) = next(&items) {
                    job(own, item);
                }
            };
            return rayon::in_place_scope(|scope| {
                for own in &mut others[..more] {
                    scope.spawn(|_| float_env::standard(|| work(own)));
                }
                if let Some(item) = next(&items) {
                    estimate.time(|| job(mine, item));
                }
                work(mine);
            });
        }
        let _ = (others, estimate);
        items.for_each(|item| job(mine, item));
    }
}

/// Takes the next item of a list that threads share.
#[cfg(feature = "rayon")]
fn next<T>(items: &std::sync::Mutex<impl Iterator<Item = T>>) -> Option<T> {
    items.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_done_once_whatever_the_pace() {
        let estimate = DurationEstimate::default();
        for (round, length) in [0, 1, 2, 3, 50, 1000].into_iter().cycle().take(30).enumerate() {
            let mut done = vec![0; length];
            let job = |(i, count): (usize, &mut usize)| {
                // Alternates between short jobs and jobs long enough that other threads are woken the next time.
                let turns = if round % 2 == 0 { 10_000 } else { 1 };
                *count += 1 + std::hint::black_box((0..turns).map(|t| (t * i) % 2).sum::<usize>()) * 2;
            };
            Parallelism::Pool.for_each(&estimate, done.iter_mut().enumerate(), job);
            assert!(done.iter().all(|count| count % 2 == 1), "round {round}");
            let mut done = vec![0; length];
            Parallelism::Pool.for_each_long(done.iter_mut(), |count| *count += 1);
            Parallelism::Caller.for_each(&estimate, done.iter_mut(), |count| *count += 1);
            assert!(done.iter().all(|count| *count == 2), "round {round}");
        }
    }
}
