//! The appliance at one moment.

use super::{Statuses, statuses};
use crate::node::Node;
use crate::state::{KnownNamespace, Source};
use webui_model::{Export, HostNqn, Name, Nqn, Refusal, RefusalKind};

/// The appliance, and what its pools say of themselves.
pub(super) struct View<'a> {
    pub node: &'a Node,
    pub statuses: Statuses,
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
    pub(super) fn of(node: &'a Node) -> Result<View<'a>, Refusal> {
        Ok(View { node, statuses: statuses(node)? })
    }

    /// Who may connect to a subsystem: those listed, and whether any.
    pub(super) fn access(&self, nqn: &str) -> (Vec<HostNqn>, bool) {
        use nvmf::subsystem::Hosts;
        match self.node.registry.subsystem(nqn).map(|subsystem| subsystem.hosts()) {
            Some(Hosts::Any) => (Vec::new(), true),
            Some(Hosts::Listed(hosts)) => (host_names(hosts), false),
            None => match self.node.state().subsystem(nqn) {
                Some(known) => (host_names(known.hosts.clone()), known.allow_any_host),
                None => (Vec::new(), false),
            },
        }
    }

    /// Controllers that are connected to a subsystem.
    pub(super) fn controllers_of(&self, nqn: &str) -> u32 {
        let subsystem = self.node.registry.subsystem(nqn);
        subsystem.map_or(0, |subsystem| subsystem.live_controllers().len() as u32)
    }

    /// How something is exported.
    pub(super) fn export_of(&self, source: &Source) -> Result<Option<Export>, Refusal> {
        let Some(known) = self.node.state().namespace_of(source) else { return Ok(None) };
        let (hosts, allow_any_host) = self.access(&known.subsystem);
        Ok(Some(Export {
            subsystem: nqn(&known.subsystem)?,
            nsid: known.nsid,
            own: self.node.state().subsystem(&known.subsystem).is_some_and(|s| s.own),
            hosts,
            allow_any_host,
            controllers: self.controllers_of(&known.subsystem),
        }))
    }

    /// Why a namespace that is wanted is not served.
    pub(super) fn trouble_of(&self, known: &KnownNamespace) -> Option<&str> {
        let place = (known.subsystem.clone(), known.nsid);
        self.node.troubles.namespaces.get(&place).map(String::as_str)
    }
}
