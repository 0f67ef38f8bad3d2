//! One reactor with a target on it: what the script plays on.

use super::disk::{Disk, Knobs};
use super::transport::{QPAIRS, Script};
use bdev::dma::{ClassPlan, PoolPlan};
use bdev::{Addr, Bdev, DmaPool, Done, Edge, EdgeCx, Memory, Stack};
use nvme_spec::Fabric;
use nvmf::Target;
use nvmf::namespace::NamespaceConfig;
use nvmf::registry::{Listener, Registry, RegistryConfig, Serves};
use nvmf::subsystem::{Hosts, SubsystemConfig};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

/// The subsystem open to every host.
pub const OPEN: &str = "nqn.2014-08.com.example:open";
/// The subsystem of one host.
pub const CLOSED: &str = "nqn.2014-08.com.example:closed";
/// The host of [`CLOSED`].
pub const HOST: &str = "nqn.2014-08.com.example:host";

/// Few buffers, so that commands wait for them.
const PLAN: PoolPlan = PoolPlan([
    ClassPlan { bytes: 4 << 10, count: 2 },
    ClassPlan { bytes: 16 << 10, count: 1 },
    ClassPlan { bytes: 128 << 10, count: 1 },
    ClassPlan { bytes: 1 << 20, count: 1 },
]);

/// Region 0 for buffers, region 1 for what comes in capsules, region 2 for disks. Mapped once for
/// all scripts.
static MEMORY: LazyLock<Arc<Memory>> =
    LazyLock::new(|| Arc::new(Memory::map(3, PLAN.bytes()).expect("a few MiB of memory")));

/// A reactor, a target and two disks.
pub struct World {
    stack: Stack,
    pool: DmaPool,
    /// The target, with the script as its fabric.
    pub target: Target<Script>,
    /// What it exports.
    pub registry: Arc<Registry>,
    disks: [Arc<dyn Bdev>; 2],
    /// What the script changes of the disks.
    pub knobs: [Arc<Knobs>; 2],
    /// Now, in ns.
    pub now_ns: u64,
    arrived: Vec<Done>,
}

fn subsystem(nqn: &str, hosts: Hosts) -> SubsystemConfig {
    SubsystemConfig {
        nqn: nqn.into(),
        serial: "FUZZ".into(),
        model: "Forebay".into(),
        firmware: "1".into(),
        hosts,
        cntlids: 1..=8,
    }
}

impl World {
    /// Both subsystems with their first namespaces, and no host.
    pub fn new() -> World {
        let discovery = subsystem("nqn.2014-08.com.example:discovery", Hosts::Any);
        let config = RegistryConfig { reactors: 1, discovery, now_ns: 0 };
        let registry = Arc::new(Registry::new(config).expect("the names are valid"));
        let one = Hosts::Listed([HOST.to_owned()].into());
        for (nqn, hosts) in [(OPEN, Hosts::Any), (CLOSED, one)] {
            registry.add_subsystem(subsystem(nqn, hosts), 0).expect("the names are valid");
        }
        let disks = [Disk::new(0, true), Disk::new(1, false)];
        let knobs = [disks[0].knobs.clone(), disks[1].knobs.clone()];
        let mut world = World {
            stack: Stack::new(0, MEMORY.clone()),
            pool: DmaPool::new(MEMORY.clone(), 0, &PLAN),
            target: Target::new(Script::new(MEMORY.clone()), registry.clone(), 0),
            registry,
            disks: disks.map(|disk| Arc::new(disk) as Arc<dyn Bdev>),
            knobs,
            now_ns: 0,
            arrived: Vec::new(),
        };
        world.listen();
        world.add_namespace(OPEN, 1);
        world.add_namespace(OPEN, 2);
        world.add_namespace(CLOSED, 1);
        world
    }

    /// Says that the target listens.
    pub fn listen(&self) {
        self.registry.add_listener(self.listener());
    }

    /// Says that the target listens no more.
    pub fn stop_listening(&self) {
        self.registry.remove_listener(&self.listener());
    }

    fn listener(&self) -> Listener {
        Listener {
            fabric: Fabric::Tcp,
            addr: ([0, 0, 0, 0], 4420).into(),
            only_ipv6: false,
            port_id: 1,
            serves: Serves::Everything,
        }
    }

    /// Adds namespace `nsid`, if it is not there; odd ones lie on the second disk, even ones
    /// on the first, which is memory.
    pub fn add_namespace(&mut self, nqn: &str, nsid: u32) {
        let bdev = self.disks[nsid as usize & 1].clone();
        let config = NamespaceConfig {
            nsid,
            uuid: None,
            nguid: None,
            eui64: Some([1; 8]),
            bdev: bdev.clone(),
        };
        if let Ok(namespace) = self.registry.add_namespace(nqn, config) {
            let channel = self.stack.open(&bdev, self.now_ns).expect("the disk opens");
            namespace.set_channel(0, Some(channel));
        }
    }

    /// One turn of the reactor.
    pub fn turn(&mut self) {
        let World { stack, pool, target, now_ns, arrived, .. } = self;
        let (now_ns, me) = (*now_ns, Addr::edge(0));
        target.poll(&mut EdgeCx { me, stack, pool, now_ns });
        stack.poll(now_ns);
        for _ in 0..4 {
            stack.deliver(now_ns, arrived);
            for done in arrived.drain(..) {
                target.done(done, &mut EdgeCx { me, stack, pool, now_ns });
            }
        }
        target.flush(&mut EdgeCx { me, stack, pool, now_ns });
    }

    /// The hosts go, the disks end what they have: after that nothing may be left.
    pub fn drain(mut self) {
        for knobs in &self.knobs {
            knobs.let_go.store(u32::MAX, Ordering::Relaxed);
        }
        let transport = self.target.transport_mut();
        transport.hold_pulls = false;
        for at in 0..QPAIRS {
            transport.hang_up(at);
        }
        let mut turns = 0;
        while !self.is_idle() {
            self.turn();
            self.now_ns += 20_000_000;
            turns += 1;
            assert!(turns < 2000, "something never ends");
        }
        assert_eq!(self.pool.taken(), [0; 4], "buffers are lost");
        let subsystems = self.registry.subsystems();
        for subsystem in subsystems.iter().chain([self.registry.discovery()]) {
            assert!(subsystem.live_controllers().is_empty(), "a controller without a host");
        }
    }

    fn is_idle(&self) -> bool {
        let target = &self.target;
        target.transport().is_idle()
            && target.commands() == 0
            && target.queue_pairs() == 0
            && !self.stack.has_dones()
    }
}
