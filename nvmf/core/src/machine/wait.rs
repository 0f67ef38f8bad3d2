//! Requests that wait for buffers, or for their next step: in each class connection after connection,
//! and of each the oldest first.

use std::collections::VecDeque;

/// Upper ends of the size classes, in bytes; the last one takes everything.
const CLASS_BYTES: [u32; 3] = [4 << 10, 16 << 10, 128 << 10];

const CLASSES: usize = CLASS_BYTES.len() + 1;

/// In place of a request: none.
const NONE: u32 = u32::MAX;

/// The requests of one connection that wait in one class: the first and the last of a list.
#[derive(Clone, Copy)]
struct Line {
    first: u32,
    last: u32,
}

const EMPTY: Line = Line { first: NONE, last: NONE };

/// The waiting requests. Sized so that every request can wait without allocation.
pub(crate) struct FairQueue {
    /// By class: connections with requests that wait, in the order of their turns.
    turns: [VecDeque<u32>; CLASSES],
    /// By connection.
    lines: Vec<[Line; CLASSES]>,
    /// By request: the next one in its line.
    next: Box<[u32]>,
    len: u32,
}

impl FairQueue {
    /// Room for `requests` requests of `connections` connections.
    pub(crate) fn new(requests: u32, connections: u32) -> FairQueue {
        FairQueue {
            turns: std::array::from_fn(|_| VecDeque::with_capacity(connections as usize)),
            lines: vec![[EMPTY; CLASSES]; connections as usize],
            next: vec![NONE; requests as usize].into(),
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

    /// Whether nobody of connection `key` waits in `class`: only then may a request of it take a
    /// buffer without queueing.
    pub(crate) fn may_pass(&self, class: usize) -> bool {
        self.turns[class].is_empty()
    }

    /// Connections that wait in `class`.
    pub(crate) fn connections(&self, class: usize) -> usize {
        self.turns[class].len()
    }

    /// Whether a request of another connection than `key` waits.
    pub(crate) fn others_wait(&self, key: u32) -> bool {
        self.turns.iter().flatten().any(|other| *other != key)
    }

    /// The request whose turn it is in `class`.
    pub(crate) fn front(&self, class: usize) -> Option<u32> {
        let key = *self.turns[class].front()?;
        Some(self.lines[key as usize][class].first)
    }

    /// Takes the request whose turn it is in `class` out; its connection goes behind the others.
    pub(crate) fn pop(&mut self, class: usize) -> Option<u32> {
        let key = self.turns[class].pop_front()?;
        let line = &mut self.lines[key as usize][class];
        let at = line.first;
        line.first = std::mem::replace(&mut self.next[at as usize], NONE);
        if line.first == NONE {
            line.last = NONE;
        } else {
            self.turns[class].push_back(key);
        }
        self.len -= 1;
        Some(at)
    }

    /// The connection whose turn it is in `class` lets the others go before it.
    pub(crate) fn pass_on(&mut self, class: usize) {
        self.turns[class].rotate_left(1);
    }

    /// Queues a request of connection `key` in `class`.
    pub(crate) fn push(&mut self, class: usize, key: u32, at: u32) {
        let line = &mut self.lines[key as usize][class];
        match line.last {
            NONE => {
                line.first = at;
                self.turns[class].push_back(key);
            }
            last => self.next[last as usize] = at,
        }
        line.last = at;
        self.len += 1;
    }

    /// Takes a request of connection `key` out, wherever it waits. True if it did.
    pub(crate) fn remove(&mut self, key: u32, at: u32) -> bool {
        (0..CLASSES).any(|class| self.remove_from(class, key, at))
    }

    fn remove_from(&mut self, class: usize, key: u32, at: u32) -> bool {
        let line = &mut self.lines[key as usize][class];
        let (mut before, mut here) = (NONE, line.first);
        while here != NONE && here != at {
            (before, here) = (here, self.next[here as usize]);
        }
        if here == NONE {
            return false;
        }
        let after = std::mem::replace(&mut self.next[at as usize], NONE);
        match before {
            NONE => line.first = after,
            before => self.next[before as usize] = after,
        }
        if line.last == at {
            line.last = before;
        }
        if line.first == NONE {
            self.turns[class].retain(|other| *other != key);
        }
        self.len -= 1;
        true
    }

    /// The classes, largest first: a large buffer that came back goes to who needs a large one
    /// before a small request can take it.
    pub(crate) fn by_size() -> impl Iterator<Item = usize> {
        (0..CLASSES).rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn connections_take_turns_and_each_keeps_its_order() {
        let mut queue = FairQueue::new(16, 4);
        for (key, at) in [(1, 1), (1, 2), (1, 3), (2, 4), (3, 5)] {
            queue.push(FairQueue::class(1 << 20), key, at);
        }
        assert_eq!((queue.front(3), queue.others_wait(1)), (Some(1), true));
        assert!(queue.may_pass(0) && !queue.may_pass(3));
        assert!(queue.remove(2, 4) && !queue.remove(2, 4));
        let order: Vec<u32> = std::iter::from_fn(|| queue.pop(3)).collect();
        assert_eq!(order, [1, 5, 2, 3]);
        assert!(queue.is_empty() && !queue.others_wait(1));
        queue.push(0, 1, 1);
        queue.push(0, 2, 2);
        queue.pass_on(0);
        assert_eq!((queue.pop(0), queue.pop(0), queue.pop(0)), (Some(2), Some(1), None));
    }

    proptest! {
        #[test]
        fn behaves_like_a_queue_for_each_connection(
            ops in proptest::collection::vec((0u8..4, 0u32..3, 0usize..CLASSES), 1..200),
        ) {
            let mut queue = FairQueue::new(200, 3);
            let mut model: Vec<(usize, u32, u32)> = Vec::new();
            for (at, (op, key, class)) in ops.into_iter().enumerate() {
                match op {
                    0 | 1 => {
                        queue.push(class, key, at as u32);
                        model.push((class, key, at as u32));
                    }
                    2 => {
                        let popped = queue.pop(class);
                        let place = model.iter().position(|one| Some(one.2) == popped);
                        if let Some(place) = place {
                            let (class, key, _) = model.remove(place);
                            let older = model[..place].iter().any(|one| (one.0, one.1) == (class, key));
                            prop_assert!(!older, "the oldest of its connection");
                        } else {
                            prop_assert!(popped.is_none() && model.iter().all(|one| one.0 != class));
                        }
                    }
                    _ => {
                        let some = model.iter().position(|one| one.1 == key);
                        if let Some(place) = some {
                            let (_, key, at) = model.remove(place);
                            prop_assert!(queue.remove(key, at));
                        }
                    }
                }
                prop_assert_eq!(queue.len as usize, model.len());
                for class in 0..CLASSES {
                    let mut waiting: Vec<u32> =
                        model.iter().filter(|one| one.0 == class).map(|one| one.1).collect();
                    waiting.sort_unstable();
                    waiting.dedup();
                    prop_assert_eq!(queue.connections(class), waiting.len());
                }
            }
        }
    }
}
