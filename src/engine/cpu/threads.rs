//! Jobs shared out among threads: all cores with the `rayon` feature, the calling one without.

/// What waking other threads takes, about: work that is done sooner is not shared.
#[cfg(feature = "rayon")]
const WAKING: std::time::Duration = std::time::Duration::from_micros(60);

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
    /// How many threads it has.
    pub(crate) fn size(self) -> usize {
        if self == Self::All { count() } else { 1 }
    }

    /// Calls `job` for every item of a list. What a job does may not depend on the order of jobs.
    pub(crate) fn share<T: Send>(self, items: impl ExactSizeIterator<Item = T> + Send, job: impl Fn(T) + Sync) {
        self.share_with(&mut vec![(); self.size()], items, |(), item| job(item));
    }

    /// The same, with something that each thread has for itself: one for every member of the team.
    ///
    /// The calling thread does the first job, which says how long the others will take. If that is long enough it wakes others,
    /// and goes on at once; they join in as they come. (A parallel iterator would put the caller to sleep and have strangers do
    /// its work.)
    pub(crate) fn share_with<S: Send, T: Send>(
        self,
        own: &mut [S],
        mut items: impl ExactSizeIterator<Item = T> + Send,
        job: impl Fn(&mut S, T) + Sync,
    ) {
        let Some((mine, others)) = own.split_first_mut() else { return };
        #[cfg(feature = "rayon")]
        if self == Self::All && items.len() > 1 && !others.is_empty() {
            let clock = std::time::Instant::now();
            if let Some(first) = items.next() {
                job(mine, first);
            }
            let left = items.len();
            if clock.elapsed() * left as u32 > WAKING {
                let items = std::sync::Mutex::new(items);
                let work = |own: &mut S| {
                    while let Some(item) = next(&items) {
                        job(own, item);
                    }
                };
                return rayon::in_place_scope(|scope| {
                    for own in others.iter_mut().take(left) {
                        scope.spawn(|_| work(own));
                    }
                    work(mine);
                });
            }
        }
        let _ = others;
        items.by_ref().for_each(|item| job(mine, item));
    }
}

/// The next item of a list that several threads take from.
#[cfg(feature = "rayon")]
fn next<T>(items: &std::sync::Mutex<impl Iterator<Item = T>>) -> Option<T> {
    items.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next()
}
