//! The step that everything runs in.

use crate::Handle;
use bdev::{Addr, DmaPool, Done, Edge, EdgeCx, Stack};
use std::os::fd::RawFd;

/// Completions are handed to edges, which submit again, at most this often in one step; what is
/// left waits for the next, so that no edge can keep the others from being polled.
const ROUNDS: usize = 4;

/// One core's share of the appliance: the channels, the edges above them, and the memory both use.
pub struct Reactor {
    handle: Handle,
    /// The channels.
    pub stack: Stack,
    /// The memory.
    pub pool: DmaPool,
    edges: Vec<Option<Box<dyn Edge>>>,
    arrived: Vec<Done>,
    now_ns: u64,
}

impl Reactor {
    /// A reactor with nothing on it.
    pub fn new(handle: Handle, stack: Stack, pool: DmaPool) -> Reactor {
        let arrived = Vec::with_capacity(bdev::limits::DONES_PER_TURN);
        Reactor { handle, stack, pool, edges: Vec::new(), arrived, now_ns: 0 }
    }

    /// How others reach it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The time of the current step, in ns of the reactor's clock.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Puts an edge on top. Returns its address.
    pub fn add_edge(&mut self, edge: Box<dyn Edge>) -> Addr {
        let index = self.edges.iter().position(Option::is_none).unwrap_or(self.edges.len());
        if index == self.edges.len() {
            self.edges.push(None);
        }
        self.edges[index] = Some(edge);
        Addr::edge(index as u32)
    }

    /// Takes an edge off, which closes the channels it has open. It has no operation outstanding:
    /// a completion for an edge that is gone is a broken invariant.
    pub fn remove_edge(&mut self, addr: Addr) -> Option<Box<dyn Edge>> {
        let mut edge = self.edges.get_mut(addr.as_edge()? as usize)?.take()?;
        edge.closed(&mut self.stack);
        Some(edge)
    }

    /// One step: messages, edges, leaves, completions, and what the edges have to send. Never
    /// blocks. Returns how much was done; zero means that sleeping loses nothing.
    pub fn turn(&mut self, now_ns: u64) -> u32 {
        self.now_ns = now_ns;
        let mut work = self.run_tasks();
        work += self.each_edge(|edge, cx| edge.poll(cx));
        work += self.stack.poll(now_ns);
        for _ in 0..ROUNDS {
            if self.stack.deliver(now_ns, &mut self.arrived) == 0 {
                break;
            }
            work += self.arrived.len() as u32;
            self.hand_over();
        }
        work += self.each_edge(|edge, cx| edge.flush(cx));
        work + u32::from(self.stack.has_dones())
    }

    fn run_tasks(&mut self) -> u32 {
        if !self.handle.has_tasks() {
            return 0;
        }
        let tasks = self.handle.take_tasks();
        let count = tasks.len();
        self.handle.stats().messages(count as u64);
        for task in tasks {
            task(self);
        }
        count as u32
    }

    fn each_edge(&mut self, mut f: impl FnMut(&mut dyn Edge, &mut EdgeCx<'_>) -> u32) -> u32 {
        let Reactor { stack, pool, edges, now_ns, .. } = self;
        let mut work = 0;
        for (index, edge) in edges.iter_mut().enumerate() {
            if let Some(edge) = edge {
                let me = Addr::edge(index as u32);
                work += f(edge.as_mut(), &mut EdgeCx { me, stack, pool, now_ns: *now_ns });
            }
        }
        work
    }

    fn hand_over(&mut self) {
        let Reactor { stack, pool, edges, now_ns, arrived, .. } = self;
        for done in arrived.drain(..) {
            let index = done.to.as_edge().expect("the stack hands up what is for an edge");
            let edge = edges[index as usize].as_mut().expect("an edge outlives its operations");
            edge.done(done, &mut EdgeCx { me: done.to, stack, pool, now_ns: *now_ns });
        }
    }

    /// The descriptors that wake this reactor when it sleeps.
    pub fn wake_fds(&self, into: &mut Vec<RawFd>) {
        into.clear();
        into.push(self.handle.signal().fd());
        into.extend(self.edges.iter().flatten().filter_map(|edge| edge.wake_fd()));
        into.extend(self.stack.wake_fds());
    }

    /// The earliest time that something has to be looked at.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let edges = self.edges.iter().flatten().filter_map(|edge| edge.next_deadline_ns());
        edges.chain(self.stack.next_deadline_ns()).min()
    }
}
