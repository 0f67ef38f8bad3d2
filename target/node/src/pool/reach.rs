//! How a pool reaches the reactors.

use bdev::{Bdev, DmaBuf, DmaSlice};
use bdev_pool::{MEMORY_BYTES, Reactors};
use reactor::{Handle, Reactor};
use std::sync::Arc;
use std::time::Duration;

/// The reactors that a pool's volumes live on.
pub(crate) struct Reach(pub Vec<Handle>);

impl Reactors for Reach {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn wake(&self, reactor: usize) {
        self.0[reactor].wake();
    }

    fn add_child(&self, parent: &Arc<dyn Bdev>, child: &Arc<dyn Bdev>) -> Result<(), String> {
        for handle in &self.0 {
            let (parent, child) = (parent.clone(), child.clone());
            let added = handle.call(move |reactor: &mut Reactor| {
                let Some(place) = reactor.stack.place_of(&parent) else { return Ok(()) };
                reactor.stack.add_child(place, &child, reactor.now_ns()).map(drop)
            });
            // A reactor that has ended uses nothing any more.
            added.unwrap_or(Ok(())).map_err(|error| error.0)?;
        }
        Ok(())
    }

    fn remove_child(&self, parent: &Arc<dyn Bdev>, child: &Arc<dyn Bdev>) {
        for handle in &self.0 {
            let closed = || {
                let (parent, child) = (parent.clone(), child.clone());
                let closed = handle.call(move |reactor: &mut Reactor| {
                    let place = reactor.stack.place_of(&parent);
                    place.is_none_or(|place| reactor.stack.remove_child(place, &child))
                });
                closed.unwrap_or(true)
            };
            while !closed() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Memory of each reactor that a pool has for as long as it is open.
pub(crate) struct Lease {
    taken: Vec<(Handle, DmaBuf)>,
}

impl Lease {
    /// Takes [`MEMORY_BYTES`] of each reactor.
    ///
    /// # Errors
    /// A sentence, when one has none; nothing is taken then.
    pub(crate) fn take(handles: &[Handle]) -> Result<Lease, String> {
        let mut lease = Lease { taken: Vec::new() };
        for handle in handles {
            let taken = handle.call(|reactor: &mut Reactor| reactor.pool.take(MEMORY_BYTES));
            match taken.flatten() {
                Some(buf) => lease.taken.push((handle.clone(), buf)),
                None => {
                    lease.give_back();
                    return Err(format!(
                        "Reactor {} has no memory left for a pool: raise reactors.memory.",
                        handle.number()
                    ));
                }
            }
        }
        Ok(lease)
    }

    /// The memory, by reactor.
    pub(crate) fn slices(&self) -> Vec<DmaSlice> {
        self.taken.iter().map(|(_, buf)| buf.slice().sub(0, MEMORY_BYTES)).collect()
    }

    /// Gives it back: nobody uses it any more.
    pub(crate) fn give_back(self) {
        for (handle, buf) in self.taken {
            handle.call(move |reactor: &mut Reactor| reactor.pool.give(buf));
        }
    }
}
