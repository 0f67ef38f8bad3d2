//! Subsystems and their namespaces, as hosts see them.

use super::Node;
use crate::channels;
use crate::config::{NamespaceConfig, SubsystemConfig};
use bdev::Bdev;
use nvmf::namespace::Namespace;
use nvmf::subsystem::Hosts;
use reactor::thread;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// Who may connect.
pub(crate) fn hosts(any: bool, listed: impl IntoIterator<Item = String>) -> Hosts {
    match any {
        true => Hosts::Any,
        false => Hosts::Listed(listed.into_iter().collect()),
    }
}

impl Node {
    /// Adds a subsystem with its namespaces.
    ///
    /// # Errors
    /// A sentence; nothing of it is left then.
    pub fn add_subsystem(&mut self, config: &SubsystemConfig) -> Result<(), String> {
        let hosts = hosts(config.allow_any_host, config.hosts.iter().cloned());
        let serial = config.serial.clone().unwrap_or_else(|| serial_of(&config.nqn));
        let made = subsystem_config(&config.nqn, serial, hosts);
        let now_ns = thread::clock_ns();
        self.registry.add_subsystem(made, now_ns).map_err(|error| error.to_string())?;
        for namespace in &config.namespaces {
            if let Err(why) = self.add_namespace(&config.nqn, namespace) {
                self.remove_subsystem(&config.nqn)?;
                return Err(why);
            }
        }
        Ok(())
    }

    /// Removes a subsystem: its hosts are disconnected, its namespaces closed.
    ///
    /// # Errors
    /// A sentence.
    pub fn remove_subsystem(&mut self, nqn: &str) -> Result<(), String> {
        let subsystem = self.registry.subsystem(nqn);
        let namespaces = subsystem.map(|s| s.namespaces()).unwrap_or_default();
        self.registry.remove_subsystem(nqn).map_err(|error| error.to_string())?;
        namespaces.iter().try_for_each(|namespace| self.close(namespace))
    }

    /// Adds a namespace and tells the hosts. Returns its number.
    ///
    /// # Errors
    /// A sentence; nothing of it is left then.
    pub fn add_namespace(&mut self, nqn: &str, config: &NamespaceConfig) -> Result<u32, String> {
        let nsid = match config.nsid {
            Some(nsid) => nsid,
            None => self.free_nsid(nqn)?,
        };
        let uuid = match config.uuid.as_deref().map(Uuid::parse_str) {
            Some(Ok(uuid)) => Some(uuid),
            Some(Err(error)) => return Err(format!("The UUID is not valid: {error}.")),
            None => None,
        };
        let bdev = self.bdevs.claim(&config.bdev, &format!("namespace {nsid} of {nqn}"))?;
        let opened = self.open_namespace(nqn, nsid, uuid, bdev);
        opened.map_err(|why| {
            self.bdevs.release(&config.bdev);
            format!("bdev \"{}\" cannot be opened: {why}", config.bdev)
        })?;
        tracing::info!(nqn, nsid, bdev = config.bdev, "namespace added");
        Ok(nsid)
    }

    /// Adds a namespace over `bdev`, opens it on every reactor, and tells the hosts.
    ///
    /// # Errors
    /// Why not; nothing of it is left then.
    pub(crate) fn open_namespace(
        &mut self,
        nqn: &str,
        nsid: u32,
        uuid: Option<Uuid>,
        bdev: Arc<dyn Bdev>,
    ) -> Result<(), String> {
        let uuid = uuid.map(Uuid::into_bytes);
        let made = nvmf::namespace::NamespaceConfig { nsid, uuid, nguid: None, eui64: None, bdev };
        let handles = self.handles();
        let added = self.registry.add_namespace(nqn, made);
        let namespace = added.map_err(|error| error.to_string())?;
        channels::open(&namespace, &handles).inspect_err(|_| {
            // It is there: it was added just now.
            let _ = self.registry.remove_namespace(nqn, nsid);
            channels::close(&namespace, &handles);
        })
    }

    /// The first number that is free in a subsystem, also of namespaces that wait for their device.
    pub(crate) fn free_nsid(&self, nqn: &str) -> Result<u32, String> {
        let subsystem = self.registry.subsystem(nqn);
        let subsystem = subsystem.ok_or_else(|| format!("There is no subsystem {nqn}."))?;
        let mut taken: BTreeSet<u32> = subsystem.namespaces().iter().map(|n| n.nsid()).collect();
        let known = self.state.get().namespaces.iter().filter(|known| known.subsystem == nqn);
        taken.extend(known.map(|known| known.nsid));
        (1..=nvmf::limits::NAMESPACES)
            .find(|nsid| !taken.contains(nsid))
            .ok_or_else(|| format!("{nqn} has as many namespaces as there can be."))
    }

    /// Removes a namespace, tells the hosts, and closes its bdev's channels once its last command
    /// has ended.
    ///
    /// # Errors
    /// A sentence.
    pub fn remove_namespace(&mut self, nqn: &str, nsid: u32) -> Result<(), String> {
        let removed = self.registry.remove_namespace(nqn, nsid).map_err(|e| e.to_string())?;
        tracing::info!(nqn, nsid, "namespace removed");
        self.close(&removed)
    }

    fn close(&mut self, namespace: &Arc<Namespace>) -> Result<(), String> {
        if !channels::close(namespace, &self.handles()) {
            return Err(format!(
                "Namespace {} is removed, but commands on it do not end; its bdev stays in use.",
                namespace.nsid()
            ));
        }
        if let Some(name) = self.bdevs.name_of(namespace.bdev()).map(str::to_owned) {
            self.bdevs.release(&name);
        }
        Ok(())
    }

    /// Looks at the size of a bdev again and tells the hosts of its namespace. Returns its blocks.
    ///
    /// # Errors
    /// A sentence.
    pub fn rescan(&mut self, bdev: &str) -> Result<u64, String> {
        let blocks = self.bdevs.rescan(bdev)?;
        let device = self.bdevs.get(bdev)?;
        self.tell_of(&device)?;
        Ok(blocks)
    }

    /// Tells the hosts what the namespaces of a bdev are like now.
    pub(crate) fn tell_of(&self, bdev: &Arc<dyn Bdev>) -> Result<(), String> {
        for subsystem in self.registry.subsystems() {
            for namespace in subsystem.namespaces() {
                if Arc::ptr_eq(namespace.bdev(), bdev) {
                    let told = self.registry.refresh_namespace(subsystem.nqn(), namespace.nsid());
                    told.map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn subsystem_config(
    nqn: &str,
    serial: String,
    hosts: Hosts,
) -> nvmf::subsystem::SubsystemConfig {
    nvmf::subsystem::SubsystemConfig {
        nqn: nqn.into(),
        serial,
        model: "Forebay".into(),
        firmware: env!("CARGO_PKG_VERSION").into(),
        hosts,
        cntlids: 1..=nvmf::limits::CNTLID_MAX,
    }
}

/// A serial number that is the same on every start and on every node: a hash of the name.
pub(super) fn serial_of(nqn: &str) -> String {
    // FNV-1a, 64 bits: stable by definition, which the hashes of the standard library are not.
    let hash = nqn.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("FB{hash:016X}")
}
