//! A ring for one producer and one consumer, without locks: how reactors hand messages to each
//! other. Checked with loom (`cargo test -p bdev --lib --features loom loom`).
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

#[cfg(feature = "loom")]
use loom::{
    cell::UnsafeCell,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
};
#[cfg(not(feature = "loom"))]
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// std's cell with loom's interface, so that the ring is written once.
#[cfg(not(feature = "loom"))]
struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(feature = "loom"))]
impl<T> UnsafeCell<T> {
    fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Its own cache line, so that the two sides do not fight over one.
#[repr(align(128))]
struct Line<T>(T);

struct Shared<T> {
    /// Next place to take from; written by the consumer.
    head: Line<AtomicUsize>,
    /// Next place to put into; written by the producer.
    tail: Line<AtomicUsize>,
    places: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a place is touched by the producer before it publishes `tail` past it and by the
// consumer after it has seen that, and the other way round for `head`; values only move across.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

/// The side that puts in.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    head_seen: usize,
}

/// The side that takes out.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    tail_seen: usize,
}

/// A ring of `limit` places, a power of two.
///
/// # Panics
/// If `limit` is not a power of two.
pub fn ring<T: Send>(limit: usize) -> (Producer<T>, Consumer<T>) {
    assert!(limit.is_power_of_two(), "a ring's length is a power of two");
    let shared = Arc::new(Shared {
        head: Line(AtomicUsize::new(0)),
        tail: Line(AtomicUsize::new(0)),
        places: (0..limit).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    let consumer = Consumer { shared: shared.clone(), head: 0, tail_seen: 0 };
    (Producer { shared, tail: 0, head_seen: 0 }, consumer)
}

impl<T: Send> Producer<T> {
    /// Puts `value` in, or gives it back when the ring is full.
    pub fn push(&mut self, value: T) -> Result<(), T> {
        let places = &self.shared.places;
        if self.tail.wrapping_sub(self.head_seen) == places.len() {
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) == places.len() {
                return Err(value);
            }
        }
        places[self.tail & (places.len() - 1)].with_mut(|place| {
            // SAFETY: the place is free: the consumer is past it (head_seen, acquired) and only
            // this side puts in.
            unsafe { (*place).write(value) };
        });
        self.tail = self.tail.wrapping_add(1);
        self.shared.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }
}

impl<T: Send> Consumer<T> {
    /// Takes the oldest value out.
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        let places = &self.shared.places;
        let value = places[self.head & (places.len() - 1)].with_mut(|place| {
            // SAFETY: the producer has written the place (tail_seen, acquired) and leaves it
            // alone until head passes it.
            unsafe { (*place).assume_init_read() }
        });
        self.head = self.head.wrapping_add(1);
        self.shared.head.0.store(self.head, Ordering::Release);
        Some(value)
    }

    /// Whether nothing is there at this moment.
    pub fn is_empty(&self) -> bool {
        self.head == self.shared.tail.0.load(Ordering::Acquire)
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tail = self.tail.0.load(Ordering::Acquire);
        let mut head = self.head.0.load(Ordering::Acquire);
        while head != tail {
            self.places[head & (self.places.len() - 1)].with_mut(|place| {
                // SAFETY: both sides are gone; what lies between head and tail was written.
                unsafe { (*place).assume_init_drop() }
            });
            head = head.wrapping_add(1);
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_says_when_it_is_full() {
        let (mut tx, mut rx) = ring(4);
        for round in 0..10 {
            for i in 0..4 {
                tx.push(round * 4 + i).unwrap();
            }
            assert_eq!(tx.push(99), Err(99));
            for i in 0..4 {
                assert_eq!(rx.pop(), Some(round * 4 + i));
            }
            assert!(rx.pop().is_none() && rx.is_empty());
        }
    }

    #[test]
    fn values_left_inside_are_dropped() {
        let value = std::sync::Arc::new(());
        let (mut tx, rx) = ring(4);
        tx.push(value.clone()).unwrap();
        tx.push(value.clone()).unwrap();
        drop((tx, rx));
        assert_eq!(std::sync::Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_million_values_cross_threads_in_order() {
        let (mut tx, mut rx) = ring(64);
        let sender = std::thread::spawn(move || {
            for i in 0..1_000_000u64 {
                while tx.push(i).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        for i in 0..1_000_000u64 {
            let got = loop {
                match rx.pop() {
                    Some(value) => break value,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(got, i);
        }
        sender.join().unwrap();
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use super::*;

    #[test]
    fn spsc_every_interleaving_keeps_order() {
        loom::model(|| {
            let (mut tx, mut rx) = ring(2);
            let sender = loom::thread::spawn(move || {
                for i in 0..3u32 {
                    while tx.push(i).is_err() {
                        loom::thread::yield_now();
                    }
                }
            });
            for i in 0..3u32 {
                let got = loop {
                    match rx.pop() {
                        Some(value) => break value,
                        None => loom::thread::yield_now(),
                    }
                };
                assert_eq!(got, i);
            }
            sender.join().unwrap();
        });
    }
}
