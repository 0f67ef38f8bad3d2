//! The reactors: cores, memory, threads.

use super::Node;
use crate::config::{Config, PollMode};
use bdev::dma::PoolPlan;
use bdev::{DmaPool, Memory, Stack};
use nvmf::Target;
use nvmf_tcp::{EpollPoller, Inbox, Stats, TcpTransport};
use reactor::{Handle, Poll, Reactor, thread};
use std::sync::Arc;

/// What is known of one reactor.
pub struct ReactorEntry {
    /// How it is reached.
    pub handle: Handle,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// Its TCP transport's counters.
    pub tcp: Arc<Stats>,
    /// Its RDMA transport's, if there is one.
    pub rdma: Option<Arc<nvmf_rdma::Stats>>,
}

impl Node {
    pub(super) fn start_reactor(
        &mut self,
        number: usize,
        core: Option<usize>,
        memory: &Arc<Memory>,
        plan: &PoolPlan,
    ) -> Result<(), String> {
        let kernel = |error: std::io::Error| format!("reactor {number} cannot start: {error}");
        let handle = Handle::new(number).map_err(kernel)?;
        let inbox = Inbox::new().map_err(kernel)?;
        let poller = EpollPoller::new(inbox.clone()).map_err(kernel)?;
        let transport = TcpTransport::new(poller, nvmf_tcp::Config::default());
        let tcp = transport.stats().clone();
        let target = Target::new(transport, self.registry.clone(), number);
        let over_rdma = self.rdma_target(number).map_err(kernel)?;
        let rdma = over_rdma.as_ref().map(|target| target.transport().stats().clone());
        let pool = DmaPool::new(memory.clone(), number as u16, plan);
        let (own, memory) = (handle.clone(), memory.clone());
        let spawned = reactor::spawn(handle.clone(), core, self.poll(), move || {
            let mut reactor = Reactor::new(own, Stack::new(number, memory), pool);
            reactor.add_edge(Box::new(target));
            if let Some(target) = over_rdma {
                reactor.add_edge(Box::new(target));
            }
            reactor
        });
        let thread = spawned.map_err(|error| match core {
            Some(core) => format!(
                "reactor {number} cannot run on core {core}: {error}. The cores of this process \
                 are {:?}.",
                thread::allowed_cores()
            ),
            None => kernel(error),
        })?;
        self.threads.push(thread);
        self.reactors.push(ReactorEntry { handle, core, tcp, rdma });
        self.inboxes.push(inbox);
        Ok(())
    }

    fn poll(&self) -> Poll {
        let reactors = &self.config.reactors;
        match reactors.poll {
            PollMode::Busy => Poll::Busy,
            PollMode::Adaptive => Poll::Adaptive { spin_ns: reactors.spin_us.saturating_mul(1000) },
        }
    }

    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.reactors.iter().map(|entry| entry.handle.clone()).collect()
    }

    pub(super) fn end_threads(&mut self) {
        self.reactors.iter().for_each(|entry| entry.handle.stop());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reactor ended with a panic");
            }
        }
    }
}

/// The core of each reactor.
pub(super) fn cores(config: &Config) -> Result<Vec<Option<usize>>, String> {
    let allowed = thread::allowed_cores();
    let chosen = &config.reactors.cores;
    if chosen.is_empty() {
        let count = allowed.len().min(bdev::limits::REACTORS);
        return Ok(vec![None; count]);
    }
    match chosen.iter().find(|core| !allowed.contains(core)) {
        Some(core) => {
            Err(format!("There is no core {core} for this process: choose among {allowed:?}."))
        }
        None => Ok(chosen.iter().copied().map(Some).collect()),
    }
}
