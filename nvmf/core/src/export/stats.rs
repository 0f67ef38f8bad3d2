//! What has been done, for a person: readings of all counters.

use crate::export::controller::{Controller, QueueUse};
use crate::export::counters::{IoCounts, ReactorCounts};
use crate::export::registry::Registry;
use crate::export::subsystem::Subsystem;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A reading of everything that a registry counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// What the target has done on each reactor, whatever it was for.
    pub reactors: Vec<ReactorCounts>,
    /// Subsystems in the order of their NQNs, discovery last.
    pub subsystems: Vec<SubsystemStats>,
}

/// What a subsystem has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsystemStats {
    /// NVMe Qualified Name.
    pub nqn: String,
    /// Time with I/O under way, in ns.
    pub busy_ns: u64,
    /// On all namespaces, those that have been removed included.
    pub total: IoCounts,
    /// Namespaces in the order of their identifiers.
    pub namespaces: Vec<NamespaceStats>,
    /// Controllers in the order of their identifiers.
    pub controllers: Vec<ControllerStats>,
}

/// What was done on a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceStats {
    /// Identifier.
    pub nsid: u32,
    /// By reactor.
    pub reactors: Vec<IoCounts>,
}

/// What a controller has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerStats {
    /// Identifier.
    pub cntlid: u16,
    /// NQN of the host.
    pub host_nqn: String,
    /// The host's end of the admin queue.
    pub peer: SocketAddr,
    /// Whether it takes commands.
    pub ready: bool,
    /// Keep Alive Timeout in ms; 0 is off.
    pub kato_ms: u32,
    /// Commands in the error log so far.
    pub errors: u64,
    /// The connected queues in the order of their identifiers.
    pub queues: Vec<QueueStats>,
}

/// What a queue pair has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStats {
    /// Which, and where.
    pub queue: QueueUse,
    /// What it did.
    pub counts: IoCounts,
}

impl Stats {
    /// Reads every counter of `registry`. Counters go on while they are read.
    pub fn read(registry: &Registry) -> Stats {
        let mut subsystems = registry.subsystems();
        subsystems.push(registry.discovery().clone());
        let reactors = 0..registry.reactors();
        Stats {
            reactors: reactors.map(|reactor| registry.reactor_counters(reactor).read()).collect(),
            subsystems: subsystems.iter().map(|s| SubsystemStats::read(s)).collect(),
        }
    }

    /// What each host has done on the controllers that it has now.
    pub fn hosts(&self) -> BTreeMap<&str, IoCounts> {
        let mut hosts: BTreeMap<&str, IoCounts> = BTreeMap::new();
        for controller in self.subsystems.iter().flat_map(|s| &s.controllers) {
            let counts = hosts.entry(&controller.host_nqn).or_default();
            controller.queues.iter().for_each(|queue| *counts += queue.counts);
        }
        hosts
    }

    /// The I/O that each reactor has done on the namespaces that are there now.
    pub fn io_by_reactor(&self) -> Vec<IoCounts> {
        let mut reactors = Vec::new();
        for namespace in self.subsystems.iter().flat_map(|s| &s.namespaces) {
            reactors.resize(namespace.reactors.len(), IoCounts::default());
            reactors.iter_mut().zip(&namespace.reactors).for_each(|(sum, one)| *sum += *one);
        }
        reactors
    }
}

impl SubsystemStats {
    fn read(subsystem: &Subsystem) -> SubsystemStats {
        let namespaces = subsystem.namespaces();
        SubsystemStats {
            nqn: subsystem.nqn().into(),
            busy_ns: subsystem.busy_ns(),
            total: subsystem.counts(),
            namespaces: namespaces
                .iter()
                .map(|ns| NamespaceStats { nsid: ns.nsid(), reactors: ns.counts().collect() })
                .collect(),
            controllers: subsystem
                .live_controllers()
                .iter()
                .map(|controller| ControllerStats::read(controller))
                .collect(),
        }
    }
}

impl ControllerStats {
    fn read(controller: &Controller) -> ControllerStats {
        let association = controller.association();
        ControllerStats {
            cntlid: controller.cntlid(),
            host_nqn: association.host_nqn.clone(),
            peer: association.peer,
            ready: controller.is_ready(),
            kato_ms: controller.kato_ms(),
            errors: controller.error_count(),
            queues: controller
                .queue_uses()
                .into_iter()
                .map(|queue| QueueStats {
                    queue,
                    counts: controller.queue_counters(queue.qid).read(),
                })
                .collect(),
        }
    }
}
