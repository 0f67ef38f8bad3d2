//! Subsystems and their namespaces, as hosts see them.

use super::Node;
use crate::channels;
use bdev::Bdev;
use nvmf::namespace::Namespace;
use nvmf::subsystem::Hosts;
use reactor::thread;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use uuid::Uuid;
use wanted::Subsystem;

/// Who may connect.
pub(super) fn hosts(subsystem: &Subsystem) -> Hosts {
    match subsystem.allow_any_host {
        true => Hosts::Any,
        false => Hosts::Listed(subsystem.hosts.iter().cloned().collect()),
    }
}

pub(super) use super::attach::open_configured as open_bdevs;

/// How long a request waits for the last command of a namespace that it removed.
const DRAIN: Duration = Duration::from_secs(10);

/// Subsystems and namespaces, as hosts see them.
#[derive(Clone, Copy)]
pub(crate) struct Exports<'a> {
    pub(super) node: &'a Node,
}

impl Exports<'_> {
    /// Adds a subsystem of the configuration, with those of its namespaces whose devices are there.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn open_configured(self, subsystem: &Subsystem) -> Result<(), String> {
        self.make_subsystem(subsystem)?;
        let wanted = self.node.wanted();
        let declared = wanted.namespaces_of(&subsystem.nqn).filter(|one| one.is_configured());
        for namespace in declared {
            if self.lacks(namespace, &|_| None, &|_| None).is_none() {
                self.open_wanted(namespace)
                    .map_err(|why| format!("{} cannot be opened: {why}", namespace.source))?;
                tracing::info!(nqn = subsystem.nqn, nsid = namespace.nsid, "namespace added");
            }
        }
        Ok(())
    }

    /// Makes a subsystem without namespaces.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn make_subsystem(self, subsystem: &Subsystem) -> Result<(), String> {
        let Subsystem { nqn, serial, .. } = subsystem;
        let made = subsystem_config(nqn, serial.clone(), hosts(subsystem));
        let added = self.node.registry.add_subsystem(made, thread::clock_ns());
        added.map(drop).map_err(|error| error.to_string())
    }

    /// Removes a subsystem: its hosts are disconnected, its namespaces closed.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn remove_subsystem(self, nqn: &str) -> Result<(), String> {
        let subsystem = self.node.registry.subsystem(nqn);
        let namespaces = subsystem.map(|s| s.namespaces()).unwrap_or_default();
        self.node.registry.remove_subsystem(nqn).map_err(|error| error.to_string())?;
        let begun: Vec<_> = namespaces.iter().map(|n| (n.nsid(), self.drain(nqn, n))).collect();
        begun.into_iter().try_for_each(|(nsid, ended)| wait_for(nsid, &ended))
    }

    /// Adds a namespace over `bdev`, opens it on every reactor, and tells the hosts.
    ///
    /// # Errors
    /// Why not; nothing of it is left then.
    pub(super) fn open_namespace(
        self,
        nqn: &str,
        nsid: u32,
        uuid: Uuid,
        bdev: Arc<dyn Bdev>,
    ) -> Result<(), String> {
        let uuid = Some(uuid.into_bytes());
        let made = nvmf::namespace::NamespaceConfig { nsid, uuid, nguid: None, eui64: None, bdev };
        let added = self.node.registry.add_namespace(nqn, made);
        let namespace = added.map_err(|error| error.to_string())?;
        channels::open(&namespace, &self.node.handles()).inspect_err(|_| {
            // It is there: it was added just now.
            let _ = self.node.registry.remove_namespace(nqn, nsid);
            let source = self.name_of(namespace.bdev());
            let _ = self.node.drains.begin(&namespace, nqn, source, || ()).recv_timeout(DRAIN);
        })
    }

    /// Removes a namespace, tells the hosts, and closes its bdev's channels once its last command
    /// has ended.
    ///
    /// # Errors
    /// A sentence: there is none; or its last command has not ended yet. It is removed then, and
    /// closed later.
    pub(crate) fn remove_namespace(self, nqn: &str, nsid: u32) -> Result<(), String> {
        let removed = self.node.registry.remove_namespace(nqn, nsid).map_err(|e| e.to_string())?;
        tracing::info!(nqn, nsid, "namespace removed");
        wait_for(nsid, &self.drain(nqn, &removed))
    }

    /// Has a namespace closed that was removed, and its device released.
    fn drain(self, nqn: &str, namespace: &Arc<Namespace>) -> Receiver<()> {
        let nsid = namespace.nsid();
        let device = self.node.bdevs.name_of(namespace.bdev());
        let source = self.name_of(namespace.bdev());
        if let Some(device) = &device {
            let since = super::time_of(std::time::Instant::now());
            let user = format!(
                "namespace {nsid} of {nqn}, which was removed at {since} and waits for commands on \
                 it to end"
            );
            self.node.bdevs.used_by(device, Some(user));
        }
        let node = self.node.me.clone();
        self.node.drains.begin(namespace, nqn, source, move || {
            if let (Some(node), Some(device)) = (node.upgrade(), device) {
                node.bdevs.release(&device);
            }
        })
    }

    /// Looks at the size of a bdev again and tells the hosts of its namespace. Returns its blocks.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn rescan(self, bdev: &str) -> Result<u64, String> {
        let blocks = self.node.bdevs.rescan(bdev)?;
        let device = self.node.bdevs.get(bdev)?;
        self.tell_of(&device)?;
        Ok(blocks)
    }

    /// Tells the hosts what the namespaces of a bdev are like now.
    pub(crate) fn tell_of(self, bdev: &Arc<dyn Bdev>) -> Result<(), String> {
        for subsystem in self.node.registry.subsystems() {
            for namespace in subsystem.namespaces() {
                if Arc::ptr_eq(namespace.bdev(), bdev) {
                    let (nqn, nsid) = (subsystem.nqn(), namespace.nsid());
                    let told = self.node.registry.refresh_namespace(nqn, nsid);
                    told.map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }
}

/// Waits until a namespace is closed, for as long as a request may.
fn wait_for(nsid: u32, ended: &Receiver<()>) -> Result<(), String> {
    ended.recv_timeout(DRAIN).map_err(|_| {
        format!(
            "Namespace {nsid} is removed, but commands on it do not end; its bdev stays in use \
             until they do."
        )
    })
}

pub(super) fn subsystem_config(
    nqn: &str,
    serial: Option<String>,
    hosts: Hosts,
) -> nvmf::subsystem::SubsystemConfig {
    nvmf::subsystem::SubsystemConfig {
        nqn: nqn.into(),
        serial: serial.unwrap_or_else(|| serial_of(nqn)),
        model: "Forebay".into(),
        firmware: env!("CARGO_PKG_VERSION").into(),
        hosts,
        cntlids: 1..=nvmf::limits::CNTLID_MAX,
    }
}

/// A serial number that is the same on every start and on every node: a hash of the name.
fn serial_of(nqn: &str) -> String {
    // FNV-1a, 64 bits: stable by definition, which the hashes of the standard library are not.
    let hash = nqn.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("FB{hash:016X}")
}
