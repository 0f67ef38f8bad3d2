//! The appliance at one moment.

use crate::bdevs::Table;
use crate::node::{Draining, Missing, Node, OpenListener, PoolTable, time_of};
use crate::pool::OpenPool;
use std::sync::Arc;
use wanted::{Namespace, Source, Wanted};
use webui_model::{Export, HostNqn, Name, Nqn, Refusal, RefusalKind};

/// The appliance, as its parts have published it.
pub(super) struct View<'a> {
    pub node: &'a Node,
    pub wanted: Wanted,
    pub bdevs: Arc<Table>,
    pub pools: Arc<PoolTable>,
    pub listeners: Arc<Vec<Arc<OpenListener>>>,
    pub missing: Arc<Missing>,
    pub draining: Arc<Vec<Draining>>,
}

/// A name that was checked when it came in.
pub(super) fn name(text: &str) -> Result<Name, Refusal> {
    text.parse().map_err(|error| Refusal::new(RefusalKind::Internal, format!("{error}")))
}

/// An NQN that was checked when it came in.
pub(super) fn nqn(text: &str) -> Result<Nqn, Refusal> {
    text.parse().map_err(|error| Refusal::new(RefusalKind::Internal, format!("{error}")))
}

/// Names of hosts; those that were configured otherwise than the API knows them are left out.
pub(super) fn host_names(hosts: impl IntoIterator<Item = String>) -> Vec<HostNqn> {
    hosts.into_iter().filter_map(|host| host.parse().ok()).collect()
}

impl<'a> View<'a> {
    pub(super) fn of(node: &'a Node) -> View<'a> {
        View {
            node,
            wanted: node.wanted(),
            bdevs: node.bdevs.table(),
            pools: node.pools.get(),
            listeners: node.listeners.get(),
            missing: node.supervisor().missing(),
            draining: node.drains.list(),
        }
    }

    /// Why a device does not answer, as the end of a sentence.
    pub(super) fn stall_of(&self, device: &str) -> Option<String> {
        let stall = self.missing.stalls.get(device)?;
        let waiting = webui_model::count(stall.under_way as usize, "operation");
        Some(format!("it has not answered since {}: {waiting} under way", time_of(stall.since)))
    }

    /// Which devices of a pool do not answer, as the end of a sentence.
    pub(super) fn stalls_of(&self, pool: &OpenPool) -> Option<String> {
        if self.missing.stalls.is_empty() {
            return None;
        }
        pool.devices().into_iter().find_map(|device| {
            let why = self.stall_of(&device)?;
            Some(format!("it waits for device {device}: {why}"))
        })
    }

    /// Controllers that are connected to a subsystem.
    pub(super) fn controllers_of(&self, nqn: &str) -> u32 {
        let subsystem = self.node.registry.subsystem(nqn);
        subsystem.map_or(0, |subsystem| subsystem.live_controllers().len() as u32)
    }

    /// How something is exported.
    pub(super) fn export_of(&self, source: &Source) -> Result<Option<Export>, Refusal> {
        let export = self.wanted.export_of(source)?;
        Ok(export.map(|export| {
            let controllers = self.controllers_of(export.subsystem.as_str());
            Export { controllers, ..export }
        }))
    }

    /// Why a namespace that is wanted is not served.
    pub(super) fn trouble_of(&self, known: &Namespace) -> Option<&str> {
        let place = (known.subsystem.clone(), known.nsid);
        self.missing.namespaces.get(&place).map(String::as_str)
    }
}
