//! The reactors: cores, memory, threads.

use super::Node;
use super::rdma::Rdma;
use crate::config::{Config, PollMode};
use bdev::dma::PoolPlan;
use bdev::{DmaPool, Memory, Stack};
use nvmf::Target;
use nvmf::elsewhere::{Clerk, Elsewhere};
use nvmf::registry::Registry;
use nvmf_tcp::{EpollPoller, Inbox, Stats, TcpTransport};
use reactor::{Handle, Poll, Reactor, thread};
use std::sync::{Arc, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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

/// Reactors that run.
#[derive(Default)]
pub(super) struct ReactorSet {
    pub entries: Vec<ReactorEntry>,
    pub threads: Vec<JoinHandle<()>>,
    pub inboxes: Vec<Arc<Inbox>>,
}

/// What reactors share.
#[derive(Clone, Copy)]
pub(super) struct Room<'a> {
    pub memory: &'a Arc<Memory>,
    pub plan: &'a PoolPlan,
    pub registry: &'a Arc<Registry>,
}

impl ReactorSet {
    /// Starts one on each of `cores`.
    pub(super) fn start(
        &mut self,
        config: &Config,
        cores: &[Option<usize>],
        room: Room<'_>,
        rdma: &mut Result<Rdma, String>,
    ) -> Result<(), String> {
        let mut cores = cores.iter().copied().enumerate();
        cores.try_for_each(|(number, core)| self.start_one(config, (number, core), room, rdma))
    }

    fn start_one(
        &mut self,
        config: &Config,
        (number, core): (usize, Option<usize>),
        room: Room<'_>,
        rdma: &mut Result<Rdma, String>,
    ) -> Result<(), String> {
        let kernel = |error: std::io::Error| format!("reactor {number} cannot start: {error}");
        let handle = Handle::new(number).map_err(kernel)?;
        let inbox = Inbox::new().map_err(kernel)?;
        let poller = EpollPoller::new(inbox.clone()).map_err(kernel)?;
        let stall_ns = config.tcp.stall_ns();
        let over_tcp = nvmf_tcp::Config { stall_ns, ..nvmf_tcp::Config::default() };
        let transport = TcpTransport::new(poller, over_tcp);
        let tcp = transport.stats().clone();
        // Log pages that take long are put together on a thread beside the reactor.
        let clerk = Clerk::start().map_err(kernel)?;
        let window = || -> Box<dyn Elsewhere> {
            let reactor = handle.clone();
            Box::new(clerk.window(move || reactor.wake()))
        };
        let target = Target::new(transport, room.registry.clone(), number)
            .with_elsewhere(window())
            .with_stall_limit(stall_ns);
        let over_rdma = rdma.as_mut().ok().map(|rdma| rdma.target(room.registry, number, stall_ns));
        let over_rdma = over_rdma.transpose().map_err(kernel)?;
        let over_rdma = over_rdma.map(|target| target.with_elsewhere(window()));
        let stats = over_rdma.as_ref().map(|target| target.transport().stats().clone());
        let pool = DmaPool::new(room.memory.clone(), number as u16, room.plan);
        let (own, memory) = (handle.clone(), room.memory.clone());
        let spawned = reactor::spawn(handle.clone(), core, poll(config), move || {
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
        self.entries.push(ReactorEntry { handle, core, tcp, rdma: stats });
        self.inboxes.push(inbox);
        Ok(())
    }

    pub(super) fn handles(&self) -> Vec<Handle> {
        self.entries.iter().map(|entry| entry.handle.clone()).collect()
    }

    /// Ends them, and waits for that.
    pub(super) fn end(&mut self) {
        end(&self.entries, std::mem::take(&mut self.threads));
    }
}

fn end(entries: &[ReactorEntry], threads: Vec<JoinHandle<()>>) {
    entries.iter().for_each(|entry| entry.handle.stop());
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a reactor ended with a panic");
        }
    }
}

fn poll(config: &Config) -> Poll {
    match config.reactors.poll {
        PollMode::Busy => Poll::Busy,
        PollMode::Adaptive => {
            Poll::Adaptive { spin_ns: config.reactors.spin_us.saturating_mul(1000) }
        }
    }
}

impl Node {
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.reactors.iter().map(|entry| entry.handle.clone()).collect()
    }

    pub(super) fn end_threads(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        end(&self.reactors, std::mem::take(&mut *threads));
    }
}

/// How long whoever asks for counters waits for what only a reactor knows.
pub(crate) const SOON: Duration = Duration::from_millis(20);

/// Asks every reactor at once, and waits for their answers for so long. `None` of one that is too busy
/// to give one.
pub(crate) fn ask_all<R: Send + 'static>(
    node: &Node,
    patience: Duration,
    question: impl Fn(&mut Reactor) -> R + Send + Sync + 'static,
) -> Vec<Option<R>> {
    let (tell, told) = mpsc::channel();
    let question = Arc::new(question);
    for (place, entry) in node.reactors.iter().enumerate() {
        let (tell, question) = (tell.clone(), question.clone());
        entry.handle.send(Box::new(move |reactor| {
            // Whoever asked may have given up.
            let _ = tell.send((place, question(reactor)));
        }));
    }
    drop(tell);
    let until = Instant::now() + patience;
    let mut answers: Vec<Option<R>> = node.reactors.iter().map(|_| None).collect();
    while let Ok((place, answer)) =
        told.recv_timeout(until.saturating_duration_since(Instant::now()))
    {
        answers[place] = Some(answer);
    }
    answers
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
