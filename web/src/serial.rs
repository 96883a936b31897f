//! What the shared modules call of `indicatif` and `rayon`, for a page: it has no terminal and one thread.

/// A progress bar that is not shown.
pub struct ProgressBar;

impl ProgressBar {
    pub fn hidden() -> Self {
        Self
    }

    pub fn set_message(&self, _: String) {}
}

/// Stands in for `rayon::prelude`.
pub mod prelude {
    pub use super::{Collection, Slice};
}

/// Where `rayon` has a parallel iterator: a serial one with the same functions.
pub struct Serial<I>(I);

impl<I: Iterator> Serial<I> {
    pub fn copied<'a, T: Copy + 'a>(self) -> Serial<impl Iterator<Item = T>>
    where
        I: Iterator<Item = &'a T>,
    {
        Serial(self.0.copied())
    }

    pub fn enumerate(self) -> Serial<impl Iterator<Item = (usize, I::Item)>> {
        Serial(self.0.enumerate())
    }

    pub fn filter(self, keep: impl FnMut(&I::Item) -> bool) -> Serial<impl Iterator<Item = I::Item>> {
        Serial(self.0.filter(keep))
    }

    pub fn map<T>(self, to: impl FnMut(I::Item) -> T) -> Serial<impl Iterator<Item = T>> {
        Serial(self.0.map(to))
    }

    pub fn rev(self) -> Serial<impl Iterator<Item = I::Item>>
    where
        I: DoubleEndedIterator,
    {
        Serial(self.0.rev())
    }

    pub fn zip<J: Iterator>(self, other: Serial<J>) -> Serial<impl Iterator<Item = (I::Item, J::Item)>> {
        Serial(self.0.zip(other.0))
    }

    pub fn collect<C: FromIterator<I::Item>>(self) -> C {
        self.0.collect()
    }

    pub fn count(self) -> usize {
        self.0.count()
    }

    pub fn for_each(self, work: impl FnMut(I::Item)) {
        self.0.for_each(work);
    }

    pub fn for_each_init<S>(self, init: impl FnOnce() -> S, mut work: impl FnMut(&mut S, I::Item)) {
        let mut scratch = init();
        self.0.for_each(|item| work(&mut scratch, item));
    }

    pub fn reduce(self, identity: impl FnOnce() -> I::Item, merge: impl FnMut(I::Item, I::Item) -> I::Item) -> I::Item {
        self.0.fold(identity(), merge)
    }
}

/// Slices as `rayon` divides them.
pub trait Slice<T> {
    fn par_chunks(&self, size: usize) -> Serial<std::slice::Chunks<'_, T>>;
    fn par_chunks_mut(&mut self, size: usize) -> Serial<std::slice::ChunksMut<'_, T>>;
    fn par_iter(&self) -> Serial<std::slice::Iter<'_, T>>;
}

impl<T> Slice<T> for [T] {
    fn par_chunks(&self, size: usize) -> Serial<std::slice::Chunks<'_, T>> {
        Serial(self.chunks(size))
    }

    fn par_chunks_mut(&mut self, size: usize) -> Serial<std::slice::ChunksMut<'_, T>> {
        Serial(self.chunks_mut(size))
    }

    fn par_iter(&self) -> Serial<std::slice::Iter<'_, T>> {
        Serial(self.iter())
    }
}

/// Collections that `rayon` consumes.
pub trait Collection: IntoIterator + Sized {
    fn into_par_iter(self) -> Serial<Self::IntoIter> {
        Serial(self.into_iter())
    }
}

impl<T> Collection for Vec<T> {}
