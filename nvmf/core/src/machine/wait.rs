//! Requests that wait for buffers, first come first served within a size class.

use std::collections::VecDeque;

/// Upper ends of the size classes, in bytes; the last one takes everything.
const CLASS_BYTES: [u32; 3] = [4 << 10, 16 << 10, 128 << 10];

/// The waiting requests. Sized so that every request can wait without allocation.
pub(crate) struct BufferQueue {
    classes: [VecDeque<u32>; 4],
    len: u32,
}

impl BufferQueue {
    /// Room for `requests` requests.
    pub(crate) fn new(requests: u32) -> BufferQueue {
        BufferQueue {
            classes: std::array::from_fn(|_| VecDeque::with_capacity(requests as usize)),
            len: 0,
        }
    }

    /// The class of a request that waits for a buffer of `bytes`.
    pub(crate) fn class(bytes: u32) -> usize {
        CLASS_BYTES.iter().position(|limit| bytes <= *limit).unwrap_or(CLASS_BYTES.len())
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether nobody waits in `class`: only then may a request take a buffer without queueing.
    pub(crate) fn is_class_empty(&self, class: usize) -> bool {
        self.classes[class].is_empty()
    }

    /// The request that is next in `class`.
    pub(crate) fn front(&self, class: usize) -> Option<u32> {
        self.classes[class].front().copied()
    }

    /// Takes the request that is next in `class` out.
    pub(crate) fn pop(&mut self, class: usize) -> Option<u32> {
        let req = self.classes[class].pop_front()?;
        self.len -= 1;
        Some(req)
    }

    /// Queues a request in `class`.
    pub(crate) fn push(&mut self, class: usize, req: u32) {
        self.classes[class].push_back(req);
        self.len += 1;
    }

    /// Takes a request out, wherever it waits. True if it did.
    pub(crate) fn remove(&mut self, req: u32) -> bool {
        for class in &mut self.classes {
            if let Some(at) = class.iter().position(|other| *other == req) {
                class.remove(at);
                self.len -= 1;
                return true;
            }
        }
        false
    }

    /// The classes, largest first: a large buffer that came back goes to who needs a large one
    /// before a small request can take it.
    pub(crate) fn by_size() -> impl Iterator<Item = usize> {
        (0..=CLASS_BYTES.len()).rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_keeps_its_order_and_lets_go_of_anyone() {
        let mut queue = BufferQueue::new(8);
        for (req, bytes) in [(1, 512), (2, 4096), (3, 4097), (4, 1 << 20), (5, 1)] {
            queue.push(BufferQueue::class(bytes), req);
        }
        assert_eq!(BufferQueue::by_size().collect::<Vec<_>>(), [3, 2, 1, 0]);
        assert!(queue.remove(2) && !queue.remove(2));
        assert_eq!((queue.pop(0), queue.front(0)), (Some(1), Some(5)));
        assert_eq!((queue.pop(1), queue.pop(2), queue.pop(3)), (Some(3), None, Some(4)));
        assert!(queue.is_class_empty(3) && !queue.is_empty());
        assert_eq!(queue.pop(0), Some(5));
        assert!(queue.is_empty());
    }
}
