//! What one process exports: subsystems, namespaces, hosts and listeners, shared by all reactors.

use crate::export::controller::{EndReason, Notice};
use crate::export::counters::ReactorCounters;
pub use crate::export::directory::Directory;
pub use crate::export::listener::{Listener, Serves};
use crate::export::namespace::{Namespace, NamespaceConfig, NamespaceIds};
use crate::export::refused::RefusedHosts;
use crate::export::subsystem::{Hosts, Subsystem, SubsystemConfig, SubsystemKind};
use crate::limits;
use nvme_spec::log::AnaState;
use nvmf_wire::Nqn;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};

/// The NQN under which every discovery subsystem answers.
pub const DISCOVERY_NQN: &str = nvmf_wire::nqn::DISCOVERY;

/// Why a change is refused, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryError {
    /// There is no such subsystem.
    NoSubsystem(String),
    /// The NQN is taken.
    SubsystemExists(String),
    /// There is no such namespace.
    NoNamespace(u32),
    /// The identifier is taken.
    NamespaceExists(u32),
    /// The identifier is 0 or above [`limits::NAMESPACES`].
    BadNsid(u32),
    /// The bdev cannot be a namespace.
    BadBdev(String),
    /// A field of the configuration cannot be reported.
    BadField(&'static str, String),
    /// The host is on the list already, or the list is open to all.
    HostExists(String),
    /// The host is not on the list.
    NoHost(String),
}

impl std::fmt::Display for RegistryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RegistryError::NoSubsystem(nqn) => write!(f, "there is no subsystem {nqn}"),
            RegistryError::SubsystemExists(nqn) => write!(f, "there is a subsystem {nqn} already"),
            RegistryError::NoNamespace(nsid) => write!(f, "there is no namespace {nsid}"),
            RegistryError::NamespaceExists(nsid) => {
                write!(f, "there is a namespace {nsid} already")
            }
            RegistryError::BadNsid(nsid) => {
                write!(f, "namespace identifiers are 1 to {}, not {nsid}", limits::NAMESPACES)
            }
            RegistryError::BadBdev(why) => f.write_str(why),
            RegistryError::BadField(field, why) => write!(f, "the {field} {why}"),
            RegistryError::HostExists(nqn) => write!(f, "the host {nqn} may connect already"),
            RegistryError::NoHost(nqn) => write!(f, "the host {nqn} is not on the list"),
        }
    }
}

impl std::error::Error for RegistryError {}

/// What a registry is made of.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Reactors that will serve it.
    pub reactors: usize,
    /// The discovery subsystem; it answers to [`DISCOVERY_NQN`] besides its own NQN.
    pub discovery: SubsystemConfig,
    /// Now, in ns of the reactors' clock.
    pub now_ns: u64,
}

/// What one process exports.
#[derive(Debug)]
pub struct Registry {
    reactors: usize,
    counters: Box<[Arc<ReactorCounters>]>,
    directory: Arc<Directory>,
    discovery: Arc<Subsystem>,
    /// Held by whoever changes something: changes come one after another.
    changes: Mutex<Names>,
    refused: RefusedHosts,
}

/// Whose each name of a namespace is: hosts take two namespaces of one name for two paths to the same
/// blocks.
#[derive(Debug, Default)]
struct Names(HashMap<Name, (String, u32)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Name {
    Uuid([u8; 16]),
    Nguid([u8; 16]),
    Eui64([u8; 8]),
}

impl Names {
    /// Each with what it is called.
    fn of(ids: &NamespaceIds) -> impl Iterator<Item = (&'static str, Name)> {
        let eui64 = ids.eui64.map(|eui64| ("EUI-64", Name::Eui64(eui64)));
        [("UUID", Name::Uuid(ids.uuid)), ("NGUID", Name::Nguid(ids.nguid))].into_iter().chain(eui64)
    }

    /// Refuses names that say nothing, or are another namespace's.
    fn check(&self, ids: &NamespaceIds) -> Result<(), RegistryError> {
        if let Some(name) = ids.unset() {
            return Err(RegistryError::BadField(name, "is not all zeroes".into()));
        }
        match Names::of(ids).find_map(|(field, name)| Some((field, self.0.get(&name)?))) {
            Some((field, (nqn, nsid))) => {
                let why = format!("is that of namespace {nsid} of {nqn} already");
                Err(RegistryError::BadField(field, why))
            }
            None => Ok(()),
        }
    }

    fn add(&mut self, ids: &NamespaceIds, nqn: &str, nsid: u32) {
        self.0.extend(Names::of(ids).map(|(_, name)| (name, (nqn.to_owned(), nsid))));
    }

    fn remove(&mut self, ids: &NamespaceIds) {
        Names::of(ids).for_each(|(_, name)| drop(self.0.remove(&name)));
    }
}

impl Registry {
    /// A registry without subsystems other than discovery.
    ///
    /// # Errors
    /// When a field of the discovery subsystem cannot be reported.
    pub fn new(config: RegistryConfig) -> Result<Registry, RegistryError> {
        check_subsystem(&config.discovery)?;
        let directory = Arc::new(Directory::default());
        let discovery = Subsystem::new(
            config.discovery,
            SubsystemKind::Discovery(directory.clone()),
            config.reactors,
            config.now_ns,
        );
        Ok(Registry {
            reactors: config.reactors,
            counters: (0..config.reactors).map(|_| Default::default()).collect(),
            directory,
            discovery: Arc::new(discovery),
            changes: Mutex::default(),
            refused: RefusedHosts::default(),
        })
    }

    /// Reactors that serve it.
    pub fn reactors(&self) -> usize {
        self.reactors
    }

    /// What the target has done on `reactor`; only it writes.
    pub fn reactor_counters(&self, reactor: usize) -> &Arc<ReactorCounters> {
        &self.counters[reactor]
    }

    /// The hosts that were refused lately, or given up.
    pub fn refused(&self) -> &RefusedHosts {
        &self.refused
    }

    /// What discovery tells of.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The discovery subsystem.
    pub fn discovery(&self) -> &Arc<Subsystem> {
        &self.discovery
    }

    /// The subsystem that answers to `nqn`, discovery included.
    pub fn subsystem(&self, nqn: &str) -> Option<Arc<Subsystem>> {
        if nqn == DISCOVERY_NQN || nqn == self.discovery.nqn() {
            return Some(self.discovery.clone());
        }
        self.directory.subsystem(nqn)
    }

    /// Every subsystem but discovery.
    pub fn subsystems(&self) -> Vec<Arc<Subsystem>> {
        self.directory.subsystems()
    }

    /// Adds a subsystem.
    ///
    /// # Errors
    /// When the NQN is taken, or a field cannot be reported.
    pub fn add_subsystem(
        &self,
        config: SubsystemConfig,
        now_ns: u64,
    ) -> Result<Arc<Subsystem>, RegistryError> {
        check_subsystem(&config)?;
        let _changing = self.changing();
        let nqn = config.nqn.clone();
        if self.subsystem(&nqn).is_some() {
            return Err(RegistryError::SubsystemExists(nqn));
        }
        let subsystem = Arc::new(Subsystem::new(config, SubsystemKind::Nvm, self.reactors, now_ns));
        self.directory.insert(subsystem.clone());
        self.discovery_changed();
        Ok(subsystem)
    }

    /// Removes a subsystem: its controllers end, its namespaces are removed.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove_subsystem(&self, nqn: &str) -> Result<Arc<Subsystem>, RegistryError> {
        let mut names = self.changing();
        let removed = self.directory.remove(nqn);
        let subsystem = removed.ok_or_else(|| RegistryError::NoSubsystem(nqn.into()))?;
        subsystem.close(EndReason::SubsystemRemoved);
        for namespace in subsystem.namespaces() {
            subsystem.remove_namespace(namespace.nsid());
            names.remove(namespace.ids());
        }
        self.discovery_changed();
        Ok(subsystem)
    }

    /// Adds a namespace. It serves I/O on a reactor once its channel is set there.
    ///
    /// # Errors
    /// When there is no such subsystem, the identifier is taken or out of range, or the bdev
    /// cannot be a namespace.
    pub fn add_namespace(
        &self,
        nqn: &str,
        config: NamespaceConfig,
    ) -> Result<Arc<Namespace>, RegistryError> {
        let nsid = config.nsid;
        if nsid == 0 || nsid > limits::NAMESPACES {
            return Err(RegistryError::BadNsid(nsid));
        }
        let geometry = config.bdev.geometry();
        if !matches!(geometry.block_bytes, 512 | 4096) {
            let why = format!("blocks are 512 or 4096 bytes, not {}", geometry.block_bytes);
            return Err(RegistryError::BadBdev(why));
        }
        if geometry.blocks == 0 {
            return Err(RegistryError::BadBdev("a namespace has at least one block".into()));
        }
        let mut names = self.changing();
        let subsystem = self.nvm_subsystem(nqn)?;
        if subsystem.namespace(nsid).is_some() {
            return Err(RegistryError::NamespaceExists(nsid));
        }
        names.check(&config.ids(nqn))?;
        let added = subsystem.add_namespace(config).ok_or(RegistryError::NamespaceExists(nsid))?;
        names.add(added.ids(), nqn, nsid);
        Ok(added)
    }

    /// Removes a namespace: no command starts on it any more.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove_namespace(&self, nqn: &str, nsid: u32) -> Result<Arc<Namespace>, RegistryError> {
        let mut names = self.changing();
        let subsystem = self.nvm_subsystem(nqn)?;
        let removed = subsystem.remove_namespace(nsid).ok_or(RegistryError::NoNamespace(nsid))?;
        names.remove(removed.ids());
        Ok(removed)
    }

    /// Takes over what the bdev of a namespace says now, and tells the hosts if that is new.
    /// Returns whether it was.
    ///
    /// # Errors
    /// When there is no such namespace.
    pub fn refresh_namespace(&self, nqn: &str, nsid: u32) -> Result<bool, RegistryError> {
        let _changing = self.changing();
        let subsystem = self.nvm_subsystem(nqn)?;
        let namespace = subsystem.namespace(nsid).ok_or(RegistryError::NoNamespace(nsid))?;
        let changed = namespace.refresh();
        if changed {
            subsystem.namespace_changed(nsid);
        }
        Ok(changed)
    }

    /// Sets how this node reaches the namespaces of a subsystem.
    ///
    /// # Errors
    /// When there is no such subsystem.
    pub fn set_ana_state(&self, nqn: &str, state: AnaState) -> Result<(), RegistryError> {
        let _changing = self.changing();
        self.nvm_subsystem(nqn)?.set_ana_state(state);
        Ok(())
    }

    /// Lets a host connect.
    ///
    /// # Errors
    /// When there is no such subsystem, the host may connect already, or no host can have the
    /// name.
    pub fn add_host(&self, nqn: &str, host: &str) -> Result<(), RegistryError> {
        check_host(host)?;
        let _changing = self.changing();
        let subsystem = self.nvm_subsystem(nqn)?;
        let Hosts::Listed(mut nqns) = subsystem.hosts() else {
            return Err(RegistryError::HostExists(host.into()));
        };
        if !nqns.insert(host.into()) {
            return Err(RegistryError::HostExists(host.into()));
        }
        subsystem.set_hosts(Hosts::Listed(nqns));
        self.discovery_changed();
        Ok(())
    }

    /// Takes a host off the list; its controllers end.
    ///
    /// # Errors
    /// When there is no such subsystem, or the host is not on its list.
    pub fn remove_host(&self, nqn: &str, host: &str) -> Result<(), RegistryError> {
        let _changing = self.changing();
        let subsystem = self.nvm_subsystem(nqn)?;
        let Hosts::Listed(mut nqns) = subsystem.hosts() else {
            return Err(RegistryError::NoHost(host.into()));
        };
        if !nqns.remove(host) {
            return Err(RegistryError::NoHost(host.into()));
        }
        subsystem.set_hosts(Hosts::Listed(nqns));
        self.discovery_changed();
        Ok(())
    }

    /// Sets who may connect to a subsystem; controllers of other hosts end.
    ///
    /// # Errors
    /// When there is no such subsystem, or no host can have one of the names.
    pub fn set_hosts(&self, nqn: &str, hosts: Hosts) -> Result<(), RegistryError> {
        check_hosts(&hosts)?;
        let _changing = self.changing();
        self.nvm_subsystem(nqn)?.set_hosts(hosts);
        self.discovery_changed();
        Ok(())
    }

    /// Says that the target listens on an address.
    pub fn add_listener(&self, listener: Listener) {
        if self.directory.add_listener(listener) {
            self.discovery_changed();
        }
    }

    /// Says that the target listens on an address no more.
    pub fn remove_listener(&self, listener: &Listener) {
        if self.directory.remove_listener(listener) {
            self.discovery_changed();
        }
    }

    /// Ends every controller and refuses new ones: the target goes down.
    pub fn shut_down(&self) {
        for subsystem in self.subsystems() {
            subsystem.close(EndReason::Shutdown);
        }
        self.discovery.close(EndReason::Shutdown);
    }

    fn changing(&self) -> MutexGuard<'_, Names> {
        self.changes.lock().expect("no panic under this lock")
    }

    fn nvm_subsystem(&self, nqn: &str) -> Result<Arc<Subsystem>, RegistryError> {
        self.directory.subsystem(nqn).ok_or_else(|| RegistryError::NoSubsystem(nqn.into()))
    }

    /// The discovery log has changed.
    fn discovery_changed(&self) {
        self.directory.note_change();
        self.discovery.raise(Notice::Discovery);
    }
}

/// Whether every field of a subsystem can be reported as it is.
fn check_subsystem(config: &SubsystemConfig) -> Result<(), RegistryError> {
    let ascii = |field, text: &str, most: usize| {
        let printable = text.bytes().all(|b| (0x20..=0x7e).contains(&b));
        if text.is_empty() || text.len() > most || !printable {
            let why = format!("is 1 to {most} printable ASCII characters, not \"{text}\"");
            return Err(RegistryError::BadField(field, why));
        }
        Ok(())
    };
    if let Err(why) = Nqn::new(&config.nqn) {
        return Err(RegistryError::BadField("NQN", why.to_string()));
    }
    ascii("serial number", &config.serial, 20)?;
    ascii("model number", &config.model, 40)?;
    ascii("firmware revision", &config.firmware, 8)?;
    check_hosts(&config.hosts)?;
    check_cntlids(&config.cntlids)
}

fn check_hosts(hosts: &Hosts) -> Result<(), RegistryError> {
    match hosts {
        Hosts::Any => Ok(()),
        Hosts::Listed(nqns) => nqns.iter().try_for_each(|nqn| check_host(nqn)),
    }
}

/// Hosts are known by whatever name they send.
fn check_host(nqn: &str) -> Result<(), RegistryError> {
    match Nqn::lenient(nqn) {
        Ok(_) => Ok(()),
        Err(why) => Err(RegistryError::BadField("NQN of a host", why.to_string())),
    }
}

fn check_cntlids(cntlids: &RangeInclusive<u16>) -> Result<(), RegistryError> {
    let last = limits::CNTLID_MAX;
    if cntlids.is_empty() || *cntlids.start() == 0 || *cntlids.end() > last {
        let why = format!("is a part of 1 to {last}, not {cntlids:?}");
        return Err(RegistryError::BadField("range of controller identifiers", why));
    }
    Ok(())
}
