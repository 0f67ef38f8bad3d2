//! A layer that makes a bdev slow.

use bdev::{Addr, Bdev, Channel, Cx, Geometry, Home, Io, Op, OpenCx, OpenError};
use std::cmp::Ordering as Order;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long each kind of operation is held, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DelaysNs {
    /// Reads.
    pub read: u64,
    /// Writes.
    pub write: u64,
    /// Write Zeroes.
    pub write_zeroes: u64,
    /// Deallocate.
    pub deallocate: u64,
    /// Flush.
    pub flush: u64,
}

impl DelaysNs {
    /// The same for every operation.
    pub fn all(ns: u64) -> DelaysNs {
        DelaysNs { read: ns, write: ns, write_zeroes: ns, deallocate: ns, flush: ns }
    }
}

/// The delays that channels look at, in the order of [`index`].
#[derive(Default)]
struct Shared([AtomicU64; 5]);

fn index(op: Op) -> usize {
    match op {
        Op::Read => 0,
        Op::Write => 1,
        Op::WriteZeroes => 2,
        Op::Deallocate => 3,
        Op::Flush => 4,
    }
}

/// Holds each operation for a time, then passes it on: an operation of delay `d` completes `d`
/// later than it would have. Operations of the same delay keep their order.
pub struct Delay {
    child: Arc<dyn Bdev>,
    delays: Arc<Shared>,
}

impl Delay {
    /// A layer over `child`.
    pub fn new(child: Arc<dyn Bdev>, delays: DelaysNs) -> Delay {
        let layer = Delay { child, delays: Arc::default() };
        layer.set(delays);
        layer
    }

    /// Changes the delays, of operations submitted from now on, on every reactor.
    pub fn set(&self, delays: DelaysNs) {
        let DelaysNs { read, write, write_zeroes, deallocate, flush } = delays;
        for (cell, ns) in self.delays.0.iter().zip([read, write, write_zeroes, deallocate, flush]) {
            cell.store(ns, Ordering::Relaxed);
        }
    }
}

impl Bdev for Delay {
    fn geometry(&self) -> Geometry {
        Geometry { direct_access: false, ..self.child.geometry() }
    }

    fn home(&self) -> Home {
        self.child.home()
    }

    fn children(&self) -> Vec<Arc<dyn Bdev>> {
        vec![self.child.clone()]
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        Ok(Box::new(DelayChannel {
            child: cx.children[0],
            delays: self.delays.clone(),
            held: BinaryHeap::with_capacity(cx.limit as usize),
            limit: cx.limit as usize,
            sequence: 0,
        }))
    }
}

/// An operation that waits, ordered so that the one due first is the greatest.
struct Held {
    due_ns: u64,
    sequence: u64,
    io: Io,
}

impl Ord for Held {
    fn cmp(&self, other: &Held) -> Order {
        (other.due_ns, other.sequence).cmp(&(self.due_ns, self.sequence))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Held) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Held) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Held {}

struct DelayChannel {
    child: Addr,
    delays: Arc<Shared>,
    held: BinaryHeap<Held>,
    limit: usize,
    sequence: u64,
}

impl Channel for DelayChannel {
    fn submit(&mut self, io: Io, cx: &mut Cx<'_>) {
        let delay_ns = self.delays.0[index(io.op)].load(Ordering::Relaxed);
        if delay_ns == 0 {
            return cx.forward(self.child, io);
        }
        assert!(self.held.len() < self.limit, "more operations than the channel was opened for");
        let due_ns = cx.now_ns().saturating_add(delay_ns);
        self.held.push(Held { due_ns, sequence: self.sequence, io });
        self.sequence += 1;
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> u32 {
        let mut passed = 0;
        while self.held.peek().is_some_and(|first| first.due_ns <= cx.now_ns()) {
            let first = self.held.pop().expect("just looked at");
            cx.forward(self.child, first.io);
            passed += 1;
        }
        passed
    }

    fn polled(&self) -> bool {
        true
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.held.peek().map(|first| first.due_ns)
    }

    fn outstanding(&self) -> u32 {
        self.held.len() as u32
    }
}
