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

    /// The same for jobs each of which is work enough for a thread.
    pub(crate) fn share_long<T: Send>(self, items: impl ExactSizeIterator<Item = T> + Send, job: impl Fn(T) + Sync) {
        self.together(&mut vec![(); self.size()], items, |(), item| job(item));
    }

    /// The same, with something that each thread has for itself: one for every member of the team.
    ///
    /// The calling thread does the first job, which says how long the others will take, and wakes other threads if that is long
    /// enough.
    pub(crate) fn share_with<S: Send, T: Send>(
        self,
        own: &mut [S],
        mut items: impl ExactSizeIterator<Item = T> + Send,
        job: impl Fn(&mut S, T) + Sync,
    ) {
        #[cfg(feature = "rayon")]
        if let (Self::All, Some(first), true) = (self, own.first_mut(), items.len() > 1) {
            let clock = std::time::Instant::now();
            if let Some(item) = items.next() {
                job(first, item);
            }
            if clock.elapsed() * items.len() as u32 <= WAKING {
                return items.for_each(|item| job(first, item));
            }
        }
        self.together(own, items, job);
    }

    /// The calling thread begins at once, and the others join in as they wake up. (A parallel iterator would put the caller to
    /// sleep and have strangers do its work.)
    fn together<S: Send, T: Send>(
        self,
        own: &mut [S],
        items: impl ExactSizeIterator<Item = T> + Send,
        job: impl Fn(&mut S, T) + Sync,
    ) {
        let Some((mine, others)) = own.split_first_mut() else { return };
        #[cfg(feature = "rayon")]
        if self == Self::All && !others.is_empty() {
            let more = items.len().saturating_sub(1).min(others.len());
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
        let _ = others;
        items.for_each(|item| job(mine, item));
    }
}

/// The next item of a list that several threads take from.
#[cfg(feature = "rayon")]
fn next<T>(items: &std::sync::Mutex<impl Iterator<Item = T>>) -> Option<T> {
    items.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next()
}
