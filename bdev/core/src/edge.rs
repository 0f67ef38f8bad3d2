//! What stands on top of a stack: a target, a load generator, a local client.

use crate::{Addr, DmaPool, Done, Io, Stack};
use std::os::fd::RawFd;

/// The top of a reactor: takes work from outside, submits it to the stack, gets the completions.
pub trait Edge: Send {
    /// Takes what is there from outside and submits it. Returns how much was done.
    fn poll(&mut self, cx: &mut EdgeCx<'_>) -> u32;

    /// An operation submitted by this edge ended.
    fn done(&mut self, done: Done, cx: &mut EdgeCx<'_>);

    /// Sends what this turn produced, once, after all completions of the turn were handed over.
    fn flush(&mut self, _cx: &mut EdgeCx<'_>) -> u32 {
        0
    }

    /// The edge was taken off its reactor: closes the channels it opened.
    fn closed(&mut self, _stack: &mut Stack) {}

    /// A descriptor that becomes readable when `poll` has something to do.
    fn wake_fd(&self) -> Option<RawFd> {
        None
    }

    /// When `poll` has to be called even if nothing happens, in ns of the reactor's clock.
    fn next_deadline_ns(&self) -> Option<u64> {
        None
    }
}

/// What an edge may reach while it runs.
pub struct EdgeCx<'a> {
    /// This edge's own address, for `Io::reply_to`.
    pub me: Addr,
    /// The channels below.
    pub stack: &'a mut Stack,
    /// The reactor's DMA memory.
    pub pool: &'a mut DmaPool,
    /// Now, in ns of the reactor's clock.
    pub now_ns: u64,
}

impl EdgeCx<'_> {
    /// Submits an operation to channel `to`.
    pub fn submit(&mut self, to: Addr, io: Io) {
        self.stack.submit(to, io, self.now_ns);
    }
}
