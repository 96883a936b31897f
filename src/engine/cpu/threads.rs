//! Jobs shared out among threads: all cores with the `rayon` feature, the calling one without.

/// Up to this many jobs, waking other threads costs more than it brings.
#[cfg(feature = "rayon")]
const ALONE: usize = 3;

/// How many threads may work at once.
pub(crate) fn count() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    return 1;
}

/// Who works on a list of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Team {
    /// The calling thread; the others have problems of their own.
    Alone,
    /// Every thread there is.
    All,
}

impl Team {
    /// Calls `job` for every item of a list. What a job does may not depend on the order of jobs.
    pub(crate) fn share<T: Send>(self, items: impl ExactSizeIterator<Item = T> + Send, job: impl Fn(T) + Sync) {
        self.share_with(&mut vec![(); self.size()], items, |(), item| job(item));
    }

    /// The same for jobs that are work enough for a thread of their own, however few there are.
    pub(crate) fn share_few<T: Send>(self, items: impl ExactSizeIterator<Item = T> + Send, job: impl Fn(T) + Sync) {
        self.run(&mut vec![(); self.size()], 1, items, |(), item| job(item));
    }

    /// The same, with something that each thread has for itself: one for every member of the team.
    pub(crate) fn share_with<S: Send, T: Send>(
        self,
        own: &mut [S],
        items: impl ExactSizeIterator<Item = T> + Send,
        job: impl Fn(&mut S, T) + Sync,
    ) {
        #[cfg(feature = "rayon")]
        let alone = ALONE;
        #[cfg(not(feature = "rayon"))]
        let alone = 0;
        self.run(own, alone, items, job);
    }

    /// How many threads it has.
    pub(crate) fn size(self) -> usize {
        if self == Self::All { count() } else { 1 }
    }

    /// The calling thread begins at once and takes job after job; others join in as they wake up. (A parallel iterator would
    /// put the caller to sleep and have strangers do its work.)
    fn run<S: Send, T: Send>(
        self,
        own: &mut [S],
        alone: usize,
        items: impl ExactSizeIterator<Item = T> + Send,
        job: impl Fn(&mut S, T) + Sync,
    ) {
        let Some((mine, others)) = own.split_first_mut() else { return };
        #[cfg(feature = "rayon")]
        if self == Self::All && items.len() > alone && !others.is_empty() {
            let more = others.len().min(items.len() - 1);
            let items = std::sync::Mutex::new(items);
            let work = |own: &mut S| {
                while let Some(item) = next(&items) {
                    job(own, item);
                }
            };
            return rayon::in_place_scope(|scope| {
                for own in &mut others[..more] {
                    scope.spawn(|_| work(own));
                }
                work(mine);
            });
        }
        let _ = (others, alone);
        items.for_each(|item| job(mine, item));
    }
}

/// The next item of a list that several threads take from.
#[cfg(feature = "rayon")]
fn next<T>(items: &std::sync::Mutex<impl Iterator<Item = T>>) -> Option<T> {
    items.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next()
}
