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

/// Calls `job(i, a_i)` for the i-th chunk of a slice. What a job does may not depend on the order of jobs.
pub(crate) fn for_each<A: Send>(a: &mut [A], of_a: usize, job: impl Fn(usize, &mut [A]) + Sync + Send) {
    #[cfg(feature = "rayon")]
    if a.len().div_ceil(of_a) > ALONE && count() > 1 {
        use rayon::prelude::*;
        return a.par_chunks_mut(of_a).enumerate().for_each(|(i, a)| job(i, a));
    }
    for (i, a) in a.chunks_mut(of_a).enumerate() {
        job(i, a);
    }
}

/// Calls `job(i, a_i, b_i, c_i)` for the i-th chunks of three slices.
pub(crate) fn for_each_of_three<A: Send, B: Send, C: Send>(
    (a, of_a): (&mut [A], usize),
    (b, of_b): (&mut [B], usize),
    (c, of_c): (&mut [C], usize),
    job: impl Fn(usize, &mut [A], &mut [B], &mut [C]) + Sync + Send,
) {
    #[cfg(feature = "rayon")]
    if a.len().div_ceil(of_a) > ALONE && count() > 1 {
        use rayon::prelude::*;
        let chunks = a.par_chunks_mut(of_a).zip(b.par_chunks_mut(of_b)).zip(c.par_chunks_mut(of_c));
        return chunks.enumerate().for_each(|(i, ((a, b), c))| job(i, a, b, c));
    }
    let chunks = a.chunks_mut(of_a).zip(b.chunks_mut(of_b)).zip(c.chunks_mut(of_c));
    for (i, ((a, b), c)) in chunks.enumerate() {
        job(i, a, b, c);
    }
}
