//! How many connections each reactor has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// One connection in its reactor's count, as long as it is open.
#[derive(Debug)]
pub(crate) struct Load(Arc<AtomicU32>);

impl Load {
    pub(crate) fn one_more(count: &Arc<AtomicU32>) -> Load {
        count.fetch_add(1, Ordering::Relaxed);
        Load(count.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
