//! What a configuration declares, as a part of what is wanted.

use super::{BdevConfig, BdevKind, Config, SubsystemConfig};
use std::collections::BTreeSet;
use uuid::Uuid;
use wanted::{
    DeclaredBy, Device, DeviceSpec, Drive, Item, Listener, NAMESPACES, Namespace, RemoteNamespace,
    Source, Subsystem, Wanted,
};

impl BdevConfig {
    /// The device that it declares.
    pub(crate) fn device(&self) -> Device {
        let spec = match self.kind.clone() {
            BdevKind::Ram { size, block } => {
                DeviceSpec::Memory { bytes: size.0, block_bytes: block }
            }
            BdevKind::Null { size, block } => {
                DeviceSpec::Null { bytes: size.0, block_bytes: block }
            }
            BdevKind::File { path, size, block } => {
                let make_bytes = size.map(|size| size.0);
                DeviceSpec::File { path, make_bytes, block_bytes: Some(block) }
            }
            BdevKind::Nvme { drive, force, unsafe_no_iommu } => {
                let place = drive.to_string();
                DeviceSpec::Drive(Drive { place, serial: None, unsafe_no_iommu, force })
            }
            BdevKind::Remote {
                address,
                transport,
                subsystem,
                nsid,
                host,
                header_digest,
                data_digest,
            } => DeviceSpec::Remote(RemoteNamespace {
                address,
                transport,
                subsystem,
                nsid,
                host,
                header_digest,
                data_digest,
            }),
            BdevKind::Delay { base, read_us, write_us } => {
                DeviceSpec::Delay { base, read_us, write_us }
            }
            BdevKind::Error { base, rules } => DeviceSpec::Error { base, rules },
        };
        Device { name: self.name.clone(), spec }
    }
}

impl SubsystemConfig {
    fn subsystem(&self) -> Subsystem {
        Subsystem {
            nqn: self.nqn.clone(),
            serial: self.serial.clone(),
            own: false,
            hosts: self.hosts.iter().cloned().collect(),
            allow_any_host: self.allow_any_host,
        }
    }

    /// Its namespaces. Numbers that it leaves out are the first that are free, those of `kept` being
    /// taken.
    fn namespaces(&self, kept: &[Item]) -> Result<Vec<Namespace>, String> {
        let nqn = &self.nqn;
        let known = kept.iter().filter_map(|item| match item {
            Item::Namespace(namespace) if namespace.subsystem == *nqn => Some(namespace.nsid),
            _ => None,
        });
        let mut taken: BTreeSet<u32> = known.collect();
        let each = |declared: &super::NamespaceConfig| {
            let mut free = 1..=NAMESPACES;
            let nsid = declared.nsid.or_else(|| free.find(|nsid| !taken.contains(nsid)));
            let nsid =
                nsid.ok_or_else(|| format!("{nqn} has as many namespaces as there can be."))?;
            taken.insert(nsid);
            let uuid = match declared.uuid.as_deref().map(Uuid::parse_str) {
                Some(Ok(uuid)) => uuid,
                Some(Err(error)) => return Err(format!("The UUID is not valid: {error}.")),
                None => Uuid::from_bytes(nvmf::namespace::derived_uuid(nqn, nsid)),
            };
            let source = Source::Device { name: declared.bdev.clone() };
            Ok(Namespace { subsystem: nqn.clone(), nsid, uuid, source })
        };
        self.namespaces.iter().map(each).collect()
    }
}

impl Config {
    /// What it declares, beside what is kept of what was asked for. A listener whose port is chosen
    /// when it is opened has no address to be known by, and is left out.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn declared(&self, kept: &[Item]) -> Result<Wanted, String> {
        let mut items: Vec<Item> = Vec::new();
        items.extend(self.bdevs.iter().map(|bdev| Item::Device(bdev.device())));
        for subsystem in &self.subsystems {
            items.push(Item::Subsystem(subsystem.subsystem()));
            items.extend(subsystem.namespaces(kept)?.into_iter().map(Item::Namespace));
        }
        let listeners = self.listeners.iter().filter(|listener| listener.address.port() != 0);
        items.extend(listeners.map(|listener| {
            Item::Listener(Listener {
                address: listener.address,
                discovery_only: listener.discovery_only,
                transport: listener.transport,
            })
        }));
        let changes: Vec<_> =
            items.into_iter().map(|item| item.appears(DeclaredBy::Configuration)).collect();
        Ok(Wanted::default().with(&changes))
    }
}
