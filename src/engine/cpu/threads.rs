//! Loops over disjoint chunks: on all cores with the `rayon` feature, on this one without.

/// Up to this many chunks, waking other threads costs more than it brings.
#[cfg(feature = "rayon")]
const ALONE: usize = 3;

/// How many threads such a loop may use.
pub(crate) fn count() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    return 1;
}

/// Who works on a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Team {
    /// The calling thread; the others have problems of their own.
    Alone,
    /// Every thread there is.
    All,
}

impl Team {
    #[cfg(feature = "rayon")]
    fn shares(self, chunks: usize) -> bool {
        self == Self::All && chunks > ALONE && count() > 1
    }

    /// Calls `job(i, a_i)` for the i-th chunk of a slice. What a job does may not depend on the order of jobs.
    pub(crate) fn for_each<A: Send>(self, a: &mut [A], of_a: usize, job: impl Fn(usize, &mut [A]) + Sync + Send) {
        #[cfg(feature = "rayon")]
        if self.shares(a.len().div_ceil(of_a)) {
            use rayon::prelude::*;
            return a.par_chunks_mut(of_a).enumerate().for_each(|(i, a)| job(i, a));
        }
        for (i, a) in a.chunks_mut(of_a).enumerate() {
            job(i, a);
        }
    }

    /// Calls `job(a)` for each item of a slice, however few there are: each is work enough for a thread.
    pub(crate) fn for_each_item<A: Send>(self, a: &mut [A], job: impl Fn(&mut A) + Sync + Send) {
        #[cfg(feature = "rayon")]
        if self == Self::All && a.len() > 1 {
            use rayon::prelude::*;
            return a.par_iter_mut().for_each(job);
        }
        a.iter_mut().for_each(job);
    }

    /// Calls `job(i, a_i, b_i, c_i)` for the i-th chunks of three slices.
    pub(crate) fn for_each_of_three<A: Send, B: Send, C: Send>(
        self,
        (a, of_a): (&mut [A], usize),
        (b, of_b): (&mut [B], usize),
        (c, of_c): (&mut [C], usize),
        job: impl Fn(usize, &mut [A], &mut [B], &mut [C]) + Sync + Send,
    ) {
        #[cfg(feature = "rayon")]
        if self.shares(a.len().div_ceil(of_a)) {
            use rayon::prelude::*;
            let chunks = a.par_chunks_mut(of_a).zip(b.par_chunks_mut(of_b)).zip(c.par_chunks_mut(of_c));
            return chunks.enumerate().for_each(|(i, ((a, b), c))| job(i, a, b, c));
        }
        let chunks = a.chunks_mut(of_a).zip(b.chunks_mut(of_b)).zip(c.chunks_mut(of_c));
        for (i, ((a, b), c)) in chunks.enumerate() {
            job(i, a, b, c);
        }
    }
}
