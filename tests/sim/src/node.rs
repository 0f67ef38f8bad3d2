//! One storage node: production reactors, target and transport over a simulated drive and network.

use crate::elsewhere::SlowElsewhere;
use crate::network::{SharedNet, SimPoller, Watched, locked};
use crate::plan::{Plan, Planted};
use crate::rng::Rng;
use crate::{Failure, Kind};
use bdev::dma::{ClassPlan, PoolPlan};
use bdev::{Addr, Bdev, DmaPool, Done, Edge, EdgeCx, Memory, Stack};
use bdev_mem::{ErrorInjector, Null, OpSet, Rule, Times};
use nvme_spec::Status;
use nvmf::Target;
use nvmf::counters::ReactorCounts;
use nvmf::namespace::{Namespace, NamespaceConfig};
use nvmf::registry::{Registry, RegistryConfig};
use nvmf::subsystem::{Hosts, SubsystemConfig};
use nvmf_tcp::{Config, TcpTransport};
use reactor::{Handle, Reactor};
use std::sync::{Arc, Mutex, MutexGuard};

/// The subsystem.
pub const NQN: &str = "nqn.2024-01.io.forebay:sim";
/// Its namespace.
pub const NSID: u32 = 1;
/// Another one, which is there to be asked about and to be removed.
pub const SPARE_NSID: u32 = 2;
/// Data in a capsule, in bytes.
pub const IN_CAPSULE_BYTES: u32 = 8192;

type SimTarget = Target<TcpTransport<SimPoller>>;

/// How a reactor's or host's memory is divided where there is enough.
pub fn pool_plan() -> PoolPlan {
    PoolPlan::for_bytes(8 << 20)
}

/// How a reactor's memory is divided where there is little: enough for any one command and for the
/// transport, not for all commands at once.
fn small_pool_plan() -> PoolPlan {
    let class = |bytes, count| ClassPlan { bytes, count };
    PoolPlan([class(4 << 10, 4), class(16 << 10, 2), class(128 << 10, 4), class(1 << 20, 1)])
}

/// A target that the simulation can look into while a reactor runs it.
#[derive(Clone)]
struct Visible(Arc<Mutex<SimTarget>>);

impl Visible {
    fn get(&self) -> MutexGuard<'_, SimTarget> {
        self.0.lock().expect("one thread runs a simulation")
    }
}

impl Edge for Visible {
    fn poll(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        self.get().poll(cx)
    }

    fn done(&mut self, done: Done, cx: &mut EdgeCx<'_>) {
        self.get().done(done, cx);
    }

    fn flush(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        self.get().flush(cx)
    }

    fn closed(&mut self, stack: &mut Stack) {
        self.get().closed(stack);
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.get().next_deadline_ns()
    }
}

/// Takes one buffer and keeps it.
struct BufferThief(bool);

impl Edge for BufferThief {
    fn poll(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        if !std::mem::replace(&mut self.0, true) {
            // Not given back: lost to the pool.
            let _ = cx.pool.take(4096);
        }
        0
    }

    fn done(&mut self, _done: Done, _cx: &mut EdgeCx<'_>) {}
}

/// One reactor of the node. It sleeps as a real one does: until its network is ready or its
/// deadline has come.
struct Core {
    reactor: Reactor,
    target: Visible,
    channel: Addr,
    spare: Addr,
    watched: Arc<Mutex<Watched>>,
    asleep: bool,
}

/// A node that runs.
pub struct Node {
    cores: Vec<Core>,
    spare: Arc<Namespace>,
    registry: Arc<Registry>,
    net: SharedNet,
}

fn subsystem(nqn: &str) -> SubsystemConfig {
    SubsystemConfig {
        nqn: nqn.to_owned(),
        serial: "SIM1".to_owned(),
        model: "Forebay".to_owned(),
        firmware: "1".to_owned(),
        hosts: Hosts::Any,
        cntlids: 1..=0xff,
    }
}

impl Node {
    /// Starts a node over `device`. Region `n` of `memory` is reactor `n`'s.
    pub fn start(
        plan: &Plan,
        memory: &Arc<Memory>,
        device: &Arc<dyn Bdev>,
        net: &SharedNet,
        now_ns: u64,
    ) -> Node {
        let discovery = subsystem("nqn.2024-01.io.forebay:discovery");
        let config = RegistryConfig { reactors: plan.reactors, discovery, now_ns };
        let registry = Arc::new(Registry::new(config).expect("fixed values"));
        registry.add_subsystem(subsystem(NQN), now_ns).expect("the first");
        let bdev = layered(device, plan);
        let (uuid, nguid, eui64) = (None, None, None);
        let namespace = NamespaceConfig { nsid: NSID, uuid, nguid, eui64, bdev: bdev.clone() };
        let namespace = registry.add_namespace(NQN, namespace).expect("the first");
        let other: Arc<dyn Bdev> = Arc::new(Null::new(1 << 20, 4096).expect("a size"));
        let config = NamespaceConfig { nsid: SPARE_NSID, uuid, nguid, eui64, bdev: other.clone() };
        let spare = registry.add_namespace(NQN, config).expect("the second");
        let bdevs = [bdev, other];
        let core = |number| {
            let core = Core::start(number, plan, memory, &registry, &bdevs, net, now_ns);
            namespace.set_channel(number, Some(core.channel));
            spare.set_channel(number, Some(core.spare));
            core
        };
        let cores = (0..plan.reactors).map(core).collect();
        locked(net).set_listening(true);
        Node { cores, spare, registry, net: net.clone() }
    }

    /// Takes the spare namespace out, if it is there; its channels are closed when nobody holds it.
    pub fn remove_spare(&self) {
        let _ = self.registry.remove_namespace(NQN, SPARE_NSID);
    }

    /// Number of reactors.
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// Lets one reactor take a step, unless it sleeps. Returns how much it did.
    pub fn step(&mut self, number: usize, now_ns: u64) -> u32 {
        let core = &mut self.cores[number];
        if core.asleep {
            let due = core.reactor.next_deadline_ns().is_some_and(|at_ns| at_ns <= now_ns);
            let watched = core.watched.lock().expect("one thread runs a simulation").clone();
            if !due && !locked(&self.net).is_ready(number, &watched) {
                return 0;
            }
        }
        if self.spare.is_removed()
            && !self.spare.is_held(number)
            && let Some(channel) = self.spare.take_channel(number)
        {
            core.reactor.stack.close(channel);
        }
        let work = core.reactor.turn(now_ns);
        core.asleep = work == 0;
        work
    }

    /// When some reactor has to be looked at.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.cores.iter().filter_map(|core| core.reactor.next_deadline_ns()).min()
    }

    /// Whether no connection, command or queue pair is left.
    pub fn is_idle(&self) -> bool {
        let idle = |core: &Core| {
            let target = core.target.get();
            target.queue_pairs() == 0
                && target.commands() == 0
                && target.transport().connections() == 0
        };
        self.cores.iter().all(idle)
    }

    /// What each reactor has counted.
    pub fn counts(&self) -> impl Iterator<Item = ReactorCounts> + '_ {
        (0..self.cores.len()).map(|number| self.registry.reactor_counters(number).read())
    }

    /// What is left, for a person.
    pub fn left(&self) -> String {
        let each = self.cores.iter().map(|core| {
            let target = core.target.get();
            format!(
                "{} queue pairs, {} commands, {} connections, {} operations, buffers {:?}",
                target.queue_pairs(),
                target.commands(),
                target.transport().connections(),
                core.reactor.stack.outstanding(core.channel),
                core.reactor.pool.taken()
            )
        });
        each.collect::<Vec<_>>().join("; ")
    }

    /// The power goes, or the process is killed: nothing is said to anybody.
    pub fn die(self) {
        let mut net = locked(&self.net);
        net.set_listening(false);
        net.reset_all();
        // The sockets lock the network when they are dropped.
        drop(net);
    }

    /// Shuts the idle node down.
    ///
    /// # Errors
    /// Something was left behind.
    pub fn shut_down(mut self) -> Result<(), Failure> {
        let leak = |what: String| Err(Failure::new(Kind::Leak, what));
        locked(&self.net).set_listening(false);
        let live: usize =
            self.registry.subsystems().iter().map(|s| s.live_controllers().len()).sum();
        if live > 0 {
            return leak(format!("{live} controllers have no queue pair and live"));
        }
        self.registry.remove_namespace(NQN, NSID).expect("it was there");
        self.remove_spare();
        for (number, core) in self.cores.iter_mut().enumerate() {
            let reactor = &mut core.reactor;
            let outstanding = reactor.stack.outstanding(core.channel);
            if outstanding > 0 {
                return leak(format!("reactor {number} has {outstanding} operations under way"));
            }
            reactor.stack.close(core.channel);
            if let Some(channel) = self.spare.take_channel(number) {
                reactor.stack.close(channel);
            }
            let (open, taken) = (reactor.stack.channels(), reactor.pool.taken());
            if open > 0 {
                return leak(format!("reactor {number} has {open} channels open"));
            }
            if taken != [0; 4] {
                return leak(format!("reactor {number} has buffers on loan: {taken:?}"));
            }
        }
        Ok(())
    }
}

/// A drive gets a layer that fails some operations before they reach it.
fn layered(device: &Arc<dyn Bdev>, plan: &Plan) -> Arc<dyn Bdev> {
    if plan.memory {
        return device.clone();
    }
    let layer = ErrorInjector::new(device.clone());
    if plan.errors > 0 {
        let times = Times::OneIn { n: plan.errors, seed: plan.seed };
        let rule =
            Rule { ops: OpSet::ALL, lbas: 0..plan.blocks, status: Status::INTERNAL_ERROR, times };
        layer.add(rule).expect("a rule that can fail something");
    }
    Arc::new(layer)
}

impl Core {
    fn start(
        number: usize,
        plan: &Plan,
        memory: &Arc<Memory>,
        registry: &Arc<Registry>,
        [bdev, other]: &[Arc<dyn Bdev>; 2],
        net: &SharedNet,
        now_ns: u64,
    ) -> Core {
        let handle = Handle::new(number).expect("a descriptor");
        let stack = Stack::new(number, memory.clone());
        let division = if plan.few_buffers { small_pool_plan() } else { pool_plan() };
        let pool = DmaPool::new(memory.clone(), number as u16, &division);
        let mut reactor = Reactor::new(handle, stack, pool);
        let channel = reactor.stack.open(bdev, now_ns).expect("a simulated drive opens");
        let spare = reactor.stack.open(other, now_ns).expect("nothing opens");
        let watched = Arc::new(Mutex::new(Watched::new()));
        let poller = SimPoller::new(net.clone(), number, watched.clone());
        let config = Config {
            qpairs: 16,
            requests: 96,
            in_capsule_bytes: IN_CAPSULE_BYTES,
            ..Config::default()
        };
        let target = Target::new(TcpTransport::new(poller, config), registry.clone(), number);
        let rng = Rng::new(plan.seed ^ now_ns ^ number as u64).part("elsewhere");
        let mut target = target.with_elsewhere(Box::new(SlowElsewhere::new(plan, rng)));
        if plan.planted == Some(Planted::EndlessPatience) {
            target = target.with_stall_limit(u64::MAX);
        }
        let target = Visible(Arc::new(Mutex::new(target)));
        reactor.add_edge(Box::new(target.clone()));
        match plan.planted {
            Some(Planted::LeakedBuffer) => {
                reactor.add_edge(Box::new(BufferThief(false)));
            }
            Some(Planted::LeakedChannel) => {
                reactor.stack.open(bdev, now_ns).expect("it is open already");
            }
            _ => {}
        }
        Core { reactor, target, channel, spare, watched, asleep: false }
    }
}
