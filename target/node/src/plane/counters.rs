//! Counters of reactors, queues and transports.

use crate::bdevs::Slot;
use crate::node::{Node, ReactorEntry, ask_all};
use nvmf::controller::Controller;
use nvmf::counters::IoCounts;
use nvmf::namespace::Namespace;
use nvmf::subsystem::{Hosts, Subsystem};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use webui_model::{
    BdevCounters, ConnectionCounters, ControllerCounters, Counters, NamespaceCounters,
    QueueCounters, ReactorCounters, Refusal, SubsystemCounters,
};

/// Counters by name.
type Counts = BTreeMap<String, u64>;

/// Buffers of each size that are taken, and channels: what only the reactor knows.
type Inside = ([u32; 4], u32);

/// How long a reactor may take to tell its own.
const PATIENCE: Duration = Duration::from_secs(5);

/// The counters of this moment.
///
/// # Errors
/// A reactor does not answer.
pub(super) fn counters(node: &Node) -> Result<Counters, Refusal> {
    let inside =
        ask_all(node, PATIENCE, |reactor| (reactor.pool.taken(), reactor.stack.channels() as u32));
    let mut reactors = Vec::new();
    for (entry, inside) in node.reactors.iter().zip(inside) {
        let inside = inside.ok_or_else(|| {
            let number = entry.handle.number();
            Refusal::unavailable(format!("Reactor {number} does not answer."))
        })?;
        reactors.push(reactor_counters(entry, inside));
    }
    Ok(Shown { node }.counters(reactors))
}

/// Counters that are shared.
struct Shown<'a> {
    node: &'a Node,
}

impl Shown<'_> {
    fn counters(&self, reactors: Vec<ReactorCounters>) -> Counters {
        let mut subsystems = self.node.registry.subsystems();
        subsystems.push(self.node.registry.discovery().clone());
        let subsystems: Vec<_> = subsystems.iter().map(|s| self.subsystem_counters(s)).collect();
        Counters {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_s: self.node.started.elapsed().as_secs_f64(),
            memory: self.node.backing.to_string(),
            listeners: self.node.listeners.get().iter().map(|open| open.at().to_string()).collect(),
            rdma: self.node.rdma_in_words(),
            connections: ConnectionCounters {
                open: self.node.connections.open(),
                limit: self.node.connections.limit(),
                refused: self.node.connections.refused(),
            },
            reactors,
            hosts: by_host(&subsystems),
            subsystems,
            bdevs: self.bdev_counters(),
        }
    }

    fn bdev_counters(&self) -> Vec<BdevCounters> {
        let counters = |(name, slot): (&String, &Slot)| {
            let geometry = slot.entry.bdev.geometry();
            BdevCounters {
                name: name.clone(),
                bytes: geometry.bytes(),
                block_bytes: geometry.block_bytes,
                user: slot.user.clone(),
            }
        };
        self.node.bdevs.table().iter().map(counters).collect()
    }

    fn subsystem_counters(&self, subsystem: &Subsystem) -> SubsystemCounters {
        SubsystemCounters {
            nqn: subsystem.nqn().into(),
            hosts: match subsystem.hosts() {
                Hosts::Any => None,
                Hosts::Listed(nqns) => Some(nqns.into_iter().collect()),
            },
            namespaces: subsystem.namespaces().iter().map(|n| self.namespace_counters(n)).collect(),
            controllers: subsystem
                .live_controllers()
                .iter()
                .map(|c| controller_counters(c))
                .collect(),
        }
    }

    fn namespace_counters(&self, namespace: &Namespace) -> NamespaceCounters {
        let geometry = namespace.geometry();
        NamespaceCounters {
            nsid: namespace.nsid(),
            uuid: uuid::Uuid::from_bytes(namespace.ids().uuid).to_string(),
            bdev: self.node.exports().name_of(namespace.bdev()),
            blocks: geometry.blocks,
            block_bytes: geometry.block_bytes,
            counts: named(IoCounts::sum(namespace.counts())),
        }
    }
}

fn named(counts: IoCounts) -> Counts {
    counts.named().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn by_host(subsystems: &[SubsystemCounters]) -> BTreeMap<String, Counts> {
    let mut hosts: BTreeMap<String, Counts> = BTreeMap::new();
    for controller in subsystems.iter().flat_map(|subsystem| &subsystem.controllers) {
        let sums = hosts.entry(controller.host.clone()).or_default();
        for (name, count) in controller.queues.iter().flat_map(|queue| &queue.counts) {
            *sums.entry(name.clone()).or_default() += count;
        }
    }
    hosts
}

fn controller_counters(controller: &Controller) -> ControllerCounters {
    let queue = |used: nvmf::controller::QueueUse| QueueCounters {
        qid: used.qid,
        reactor: used.reactor as u32,
        entries: used.entries,
        counts: named(controller.queue_counters(used.qid).read()),
    };
    ControllerCounters {
        cntlid: controller.cntlid(),
        host: controller.association().host_nqn.clone(),
        keep_alive_ms: controller.kato_ms(),
        errors: controller.error_count(),
        queues: controller.queue_uses().into_iter().map(queue).collect(),
    }
}

fn reactor_counters(entry: &ReactorEntry, (taken, channels): Inside) -> ReactorCounters {
    let stats = entry.handle.stats().read();
    let counts = [
        ("turns", stats.turns),
        ("busy_turns", stats.busy_turns),
        ("busy_ns", stats.busy_ns),
        ("sleeps", stats.sleeps),
        ("tasks", stats.messages),
    ];
    ReactorCounters {
        number: entry.handle.number() as u32,
        core: entry.core.map(|core| core as u32),
        counts: counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        buffers_taken: taken.to_vec(),
        channels,
        tcp: tcp_counts(&entry.tcp),
        rdma: entry
            .rdma
            .as_ref()
            .map(|stats| stats.named().map(|(name, count)| (name.to_owned(), count)).collect()),
    }
}

fn tcp_counts(tcp: &nvmf_tcp::Stats) -> Counts {
    let count = |name: &str, value: &AtomicU64| (name.to_owned(), value.load(Ordering::Relaxed));
    [
        count("rx_bytes", &tcp.rx_bytes),
        count("tx_bytes", &tcp.tx_bytes),
        count("rx_pdus", &tcp.rx_pdus),
        count("tx_pdus", &tcp.tx_pdus),
        count("recvs", &tcp.recvs),
        count("empty_recvs", &tcp.empty_recvs),
        count("sends", &tcp.sends),
        count("full_sends", &tcp.full_sends),
        count("commands", &tcp.commands),
        count("opened", &tcp.opened),
        count("closed", &tcp.closed),
        count("refused", &tcp.refused),
        count("protocol_errors", &tcp.protocol_errors),
        count("digest_errors", &tcp.digest_errors),
        count("held_back", &tcp.held_back),
    ]
    .into()
}
