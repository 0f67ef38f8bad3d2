//! Values that are replaced as a whole.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was published last. Readers get it at once, whoever is making the next: the lock is held
/// for as long as it takes to copy a pointer, or to change a table.
#[derive(Debug, Default)]
pub(crate) struct Published<T>(Mutex<Arc<T>>);

impl<T> Published<T> {
    /// The first one.
    pub(crate) fn new(value: T) -> Published<T> {
        Published(Mutex::new(Arc::new(value)))
    }

    fn lock(&self) -> MutexGuard<'_, Arc<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last one.
    pub(crate) fn get(&self) -> Arc<T> {
        self.lock().clone()
    }

    /// Publishes the next one. The one before is dropped outside of the lock.
    pub(crate) fn set(&self, value: T) {
        let before = std::mem::replace(&mut *self.lock(), Arc::new(value));
        drop(before);
    }
}

impl<T: Clone> Published<T> {
    /// Publishes what `change` makes of a copy. It must not wait for anything.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut now = self.lock();
        let mut next = T::clone(&now);
        let done = change(&mut next);
        let before = std::mem::replace(&mut *now, Arc::new(next));
        drop(now);
        drop(before);
        done
    }
}
