//! What the appliance says of itself: counters per reactor, queue, host and namespace.

use crate::node::{Node, ReactorEntry};
use nvmf::controller::Controller;
use nvmf::counters::IoCounts;
use nvmf::namespace::Namespace;
use nvmf::subsystem::{Hosts, Subsystem};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters by name.
pub type Counts = BTreeMap<String, u64>;

/// Everything, at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: f64,
    /// What the DMA memory is made of.
    pub memory: String,
    /// Addresses listened on.
    pub listeners: Vec<String>,
    /// RDMA devices, or why there is no RDMA.
    pub rdma: String,
    /// Connections open, allowed, and turned away so far.
    pub connections: Connections,
    /// One entry a reactor.
    pub reactors: Vec<ReactorReport>,
    /// One entry a subsystem, discovery last.
    pub subsystems: Vec<SubsystemReport>,
    /// Sums by host NQN over the controllers that are connected.
    pub hosts: BTreeMap<String, Counts>,
    /// Every bdev.
    pub bdevs: Vec<BdevReport>,
}

/// Connections of the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connections {
    /// Open now.
    pub open: u32,
    /// Allowed at once.
    pub limit: u32,
    /// Turned away since the start.
    pub refused: u64,
}

/// One reactor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReactorReport {
    /// Its number.
    pub number: usize,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// Steps, time spent in busy ones, sleeps.
    pub counts: Counts,
    /// DMA buffers on loan, by class from 4 KiB to 1 MiB.
    pub buffers_taken: Vec<u32>,
    /// Channels open.
    pub channels: usize,
    /// Its TCP transport.
    pub tcp: Counts,
    /// Its RDMA transport, where there is RDMA.
    pub rdma: Option<Counts>,
}

/// One subsystem.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubsystemReport {
    /// Its name.
    pub nqn: String,
    /// Hosts that may connect; nothing: any.
    pub hosts: Option<Vec<String>>,
    /// Its namespaces.
    pub namespaces: Vec<NamespaceReport>,
    /// Its controllers.
    pub controllers: Vec<ControllerReport>,
}

/// One namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NamespaceReport {
    /// Its number.
    pub nsid: u32,
    /// Its UUID.
    pub uuid: String,
    /// The bdev behind it.
    pub bdev: String,
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_bytes: u32,
    /// Sums over the reactors.
    pub counts: Counts,
}

/// One controller.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ControllerReport {
    /// Its identifier.
    pub cntlid: u16,
    /// The host.
    pub host: String,
    /// Keep alive timeout in milliseconds; 0: none.
    pub keep_alive_ms: u32,
    /// Entries in its error log so far.
    pub errors: u64,
    /// Its queues.
    pub queues: Vec<QueueReport>,
}

/// One queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueueReport {
    /// Its identifier; 0 is the admin queue.
    pub qid: u16,
    /// The reactor that serves it.
    pub reactor: usize,
    /// Entries.
    pub entries: u16,
    /// What was done on it.
    pub counts: Counts,
}

/// One bdev.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BdevReport {
    /// Its name.
    pub name: String,
    /// Capacity in bytes.
    pub bytes: u64,
    /// Bytes in a block.
    pub block_bytes: u32,
    /// Who uses it.
    pub user: Option<String>,
}

impl Node {
    /// The report of this moment.
    pub fn report(&self) -> Report {
        let mut subsystems = self.registry.subsystems();
        subsystems.push(self.registry.discovery().clone());
        let subsystems: Vec<_> = subsystems.iter().map(|s| self.subsystem_report(s)).collect();
        Report {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs_f64(),
            memory: self.backing.to_string(),
            listeners: self.doors.iter().map(|door| door.place().to_string()).collect(),
            rdma: self.rdma_in_words(),
            connections: Connections {
                open: self.connections.open(),
                limit: self.connections.limit(),
                refused: self.connections.refused(),
            },
            reactors: self.reactors.iter().map(reactor_report).collect(),
            hosts: by_host(&subsystems),
            subsystems,
            bdevs: self.bdev_reports(),
        }
    }

    fn bdev_reports(&self) -> Vec<BdevReport> {
        let report = |(name, bdev, user): (&str, &std::sync::Arc<dyn bdev::Bdev>, Option<&str>)| {
            let geometry = bdev.geometry();
            BdevReport {
                name: name.into(),
                bytes: geometry.bytes(),
                block_bytes: geometry.block_bytes,
                user: user.map(str::to_owned),
            }
        };
        self.bdevs.iter().map(report).collect()
    }

    fn subsystem_report(&self, subsystem: &Subsystem) -> SubsystemReport {
        SubsystemReport {
            nqn: subsystem.nqn().into(),
            hosts: match subsystem.hosts() {
                Hosts::Any => None,
                Hosts::Listed(nqns) => Some(nqns.into_iter().collect()),
            },
            namespaces: subsystem.namespaces().iter().map(|n| self.namespace_report(n)).collect(),
            controllers: subsystem
                .live_controllers()
                .iter()
                .map(|c| controller_report(c))
                .collect(),
        }
    }

    fn namespace_report(&self, namespace: &Namespace) -> NamespaceReport {
        let geometry = namespace.geometry();
        NamespaceReport {
            nsid: namespace.nsid(),
            uuid: uuid::Uuid::from_bytes(namespace.ids().uuid).to_string(),
            bdev: self.name_of(namespace.bdev()),
            blocks: geometry.blocks,
            block_bytes: geometry.block_bytes,
            counts: named(IoCounts::sum(namespace.counts())),
        }
    }
}

fn named(counts: IoCounts) -> Counts {
    counts.named().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn by_host(subsystems: &[SubsystemReport]) -> BTreeMap<String, Counts> {
    let mut hosts: BTreeMap<String, Counts> = BTreeMap::new();
    for controller in subsystems.iter().flat_map(|subsystem| &subsystem.controllers) {
        let sums = hosts.entry(controller.host.clone()).or_default();
        for (name, count) in controller.queues.iter().flat_map(|queue| &queue.counts) {
            *sums.entry(name.clone()).or_default() += count;
        }
    }
    hosts
}

fn controller_report(controller: &Controller) -> ControllerReport {
    let queue = |used: nvmf::controller::QueueUse| QueueReport {
        qid: used.qid,
        reactor: used.reactor,
        entries: used.entries,
        counts: named(controller.queue_counters(used.qid).read()),
    };
    ControllerReport {
        cntlid: controller.cntlid(),
        host: controller.association().host_nqn.clone(),
        keep_alive_ms: controller.kato_ms(),
        errors: controller.error_count(),
        queues: controller.queue_uses().into_iter().map(queue).collect(),
    }
}

fn reactor_report(entry: &ReactorEntry) -> ReactorReport {
    let stats = entry.handle.stats().read();
    let counts = [
        ("turns", stats.turns),
        ("busy_turns", stats.busy_turns),
        ("busy_ns", stats.busy_ns),
        ("sleeps", stats.sleeps),
        ("tasks", stats.messages),
    ];
    let inside = entry.handle.call(|reactor| (reactor.pool.taken(), reactor.stack.channels()));
    let (taken, channels) = inside.unwrap_or_default();
    ReactorReport {
        number: entry.handle.number(),
        core: entry.core,
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
