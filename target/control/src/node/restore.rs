//! Brings back what is wanted: at the start, and whenever something that was missing may be there.

use super::{DoorPlace, Node, hosts};
use crate::config::{BdevConfig, SubsystemConfig};
use crate::state::{KnownNamespace, KnownPool};
use std::collections::BTreeMap;
use std::time::Instant;
use webui_model::RefusalKind;

/// Why what is wanted is not there, in sentences.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// By name.
    pub devices: BTreeMap<String, String>,
    /// By name.
    pub pools: BTreeMap<String, String>,
    /// By NQN.
    pub subsystems: BTreeMap<String, String>,
    /// By NQN and number.
    pub namespaces: BTreeMap<(String, u32), String>,
    /// By fabric and address.
    pub listeners: BTreeMap<DoorPlace, String>,
}

/// Notes how bringing something back ended.
fn note<K: Ord + std::fmt::Display>(
    troubles: &mut BTreeMap<K, String>,
    key: K,
    what: &str,
    ended: Result<(), String>,
) {
    match ended {
        Ok(()) => {
            if troubles.remove(&key).is_some() {
                tracing::info!("{what} {key} is there again");
            }
        }
        Err(why) => {
            if troubles.get(&key) != Some(&why) {
                tracing::error!("{what} {key} is missing: {why}");
            }
            troubles.insert(key, why);
        }
    }
}

impl Node {
    /// Brings back everything that is wanted and not there, but listeners.
    pub(crate) fn restore(&mut self) {
        self.restore_devices();
        self.restore_pools();
        self.restore_subsystems();
        self.restore_namespaces();
    }

    /// Brings back what was missing, if it is there now. Returns whether anything came back.
    pub(crate) fn retry(&mut self) -> bool {
        let before = (self.bdevs.iter().count(), self.doors.len());
        self.restore_devices();
        self.restore_listeners();
        let pools = self.pools.len();
        if self.bdevs.iter().count() != before.0 {
            self.backoff.forget_all();
        }
        if self.bdevs.iter().count() != before.0 || self.pools.len() < self.state().pools.len() {
            self.restore();
        }
        before != (self.bdevs.iter().count(), self.doors.len()) || pools != self.pools.len()
    }

    fn restore_devices(&mut self) {
        for known in self.state().devices.clone() {
            if self.bdevs.get(&known.name).is_ok() {
                self.troubles.devices.remove(&known.name);
                continue;
            }
            let (name, kind) = (known.name.clone(), known.place.kind());
            let opened = self.bdevs.add_on(&BdevConfig { name, kind }, &known.place.terms());
            note(&mut self.troubles.devices, known.name, "device", opened);
        }
    }

    /// Pools that failed wait for their time.
    pub(super) fn restore_pools(&mut self) {
        for known in self.state().pools.clone() {
            if !self.pools.contains_key(&known.name) && !self.waiting.contains(&known.name) {
                self.restore_pool(&known);
            }
        }
    }

    /// Brings back a pool, or notes why not.
    pub(super) fn restore_pool(&mut self, known: &KnownPool) {
        let imported = self.import_known(known);
        match &imported {
            Ok(()) => {
                self.learn_names(&known.name);
                self.find_moved(&known.name);
            }
            // Its devices are there, and one does not do what it should.
            Err(refusal) if refusal.kind == RefusalKind::Device => {
                if self.waiting.insert(known.name.clone()) {
                    self.backoff.tried(&known.name, Instant::now());
                }
            }
            Err(_) => {}
        }
        let imported = imported.map_err(|refusal| refusal.message);
        note(&mut self.troubles.pools, known.name.clone(), "pool", imported);
    }

    pub(crate) fn restore_subsystems(&mut self) {
        for known in self.state().subsystems.clone() {
            if self.registry.subsystem(&known.nqn).is_some() {
                self.troubles.subsystems.remove(&known.nqn);
                continue;
            }
            let who = hosts(known.allow_any_host, known.hosts.clone());
            let added = self.make_subsystem(&known.nqn, who);
            note(&mut self.troubles.subsystems, known.nqn, "subsystem", added);
        }
    }

    pub(crate) fn restore_namespaces(&mut self) {
        for known in self.state().namespaces.clone() {
            if self.is_served(&known) {
                self.troubles.namespaces.remove(&(known.subsystem, known.nsid));
                continue;
            }
            if self.is_gone(&known) {
                self.drop_namespace(&known);
                continue;
            }
            let opened = self.open_known(&known);
            let KnownNamespace { subsystem, nsid, .. } = known;
            match opened {
                Ok(()) => drop(self.troubles.namespaces.remove(&(subsystem, nsid))),
                Err(why) => {
                    let key = (subsystem, nsid);
                    if self.troubles.namespaces.get(&key) != Some(&why) {
                        tracing::error!(nqn = key.0, nsid, why, "a namespace is missing");
                    }
                    self.troubles.namespaces.insert(key, why);
                }
            }
        }
    }

    /// Of a volume or snapshot that its pool does not have: it was deleted, or never made, when the
    /// appliance was killed.
    fn drop_namespace(&mut self, known: &KnownNamespace) {
        tracing::warn!(nqn = known.subsystem, nsid = known.nsid, source = %known.source,
            "what a namespace showed is gone, and so is the namespace");
        let dropped = self.forget_namespace(known);
        if let Err(refusal) = dropped {
            tracing::error!("{refusal}");
        }
    }

    /// Opens the listeners that are wanted and not open.
    pub(crate) fn restore_listeners(&mut self) {
        for known in self.state().listeners.clone() {
            let place = known.place();
            if !self.is_open(place) {
                let opened = self.listen_on(place, known.discovery_only);
                note(&mut self.troubles.listeners, place, "listener", opened);
            }
        }
        // Those that the configuration declares for TCP are there, or nothing is.
        for declared in self.config.listeners.clone() {
            let place = declared.place();
            if !declared.transport.is_tcp() && !self.is_open(place) {
                let opened = self.open_rdma_door(place.address, declared.discovery_only, true);
                note(&mut self.troubles.listeners, place, "listener", opened);
            }
        }
    }

    /// Makes a subsystem without namespaces.
    pub(crate) fn make_subsystem(
        &mut self,
        nqn: &str,
        who: nvmf::subsystem::Hosts,
    ) -> Result<(), String> {
        let (hosts, allow_any_host) = match who {
            nvmf::subsystem::Hosts::Any => (Vec::new(), true),
            nvmf::subsystem::Hosts::Listed(nqns) => (nqns.into_iter().collect(), false),
        };
        let (nqn, serial, namespaces) = (nqn.to_owned(), None, Vec::new());
        self.add_subsystem(&SubsystemConfig { nqn, serial, hosts, allow_any_host, namespaces })
    }
}
