//! Subsystems, hosts and who is connected.

use super::{State, source_of};
use wanted::{Namespace as Shows, Request, Shown, Source, Uuid};
use webui_model::*;

/// What a namespace shows, in the words of the API.
fn shown(source: &Source) -> NamespaceSource {
    let name = |text: &String| text.parse().expect("a name");
    match source {
        Source::Volume { pool, name: volume, .. } => {
            NamespaceSource::Volume(VolumeRef { pool: name(pool), volume: name(volume) })
        }
        Source::Snapshot { pool, name: volume, snapshot, .. } => {
            let (pool, volume, snapshot) = (name(pool), name(volume), name(snapshot));
            NamespaceSource::Snapshot(SnapshotRef { pool, volume, snapshot })
        }
        Source::Device { name: device } => NamespaceSource::Device(name(device)),
    }
}

impl State {
    fn shows(&self, source: &NamespaceSource) -> Option<&Shows> {
        let uuid = match source {
            NamespaceSource::Volume(volume) => self.volume_state(volume).ok()?.uuid,
            NamespaceSource::Snapshot(SnapshotRef { pool, volume, .. }) => {
                let volume = VolumeRef { pool: pool.clone(), volume: volume.clone() };
                self.volume_state(&volume).ok()?.uuid
            }
            NamespaceSource::Device(_) => Uuid::nil(),
        };
        self.wanted.namespace_of(&source_of(source, uuid)).map(|shows| &shows.item)
    }

    pub fn export_of(&self, source: &NamespaceSource) -> Option<Export> {
        let shows = self.shows(source)?;
        let export = self.wanted.export_of(&shows.source).expect("a name of the API")?;
        let controllers = self.controllers_of(&export.subsystem);
        Some(Export { controllers, ..export })
    }

    fn controllers_of(&self, nqn: &Nqn) -> u32 {
        self.controllers.keys().filter(|(of, _)| of == nqn).count() as u32
    }

    pub fn export(&mut self, what: Shown, set: ExportSet) -> Result<(), Refusal> {
        let uuid = self.uuid();
        self.ask(&Request::Export { what, set, uuid }).map(drop)
    }

    fn namespace(&self, shows: &Shows) -> Namespace {
        let source = shown(&shows.source);
        let (bytes, block_bytes) = match &source {
            NamespaceSource::Volume(v) => self.volume_state(v).map(|v| (v.bytes, v.block_bytes)),
            NamespaceSource::Snapshot(s) => self.snapshot(s).map(|s| (s.bytes, 4096)),
            NamespaceSource::Device(d) => self.device(d).map(|d| (d.bytes, d.block_bytes)),
        }
        .unwrap_or((0, 4096));
        Namespace {
            nsid: shows.nsid,
            uuid: shows.uuid.to_string(),
            read_only: matches!(source, NamespaceSource::Snapshot(_)),
            source,
            bytes,
            block_bytes,
            status: Status::Ok,
            reason: "It serves.".into(),
        }
    }

    pub fn subsystems(&self) -> Result<Vec<Subsystem>, Refusal> {
        let names = self.wanted.subsystems().map(|known| known.nqn.parse().expect("an NQN"));
        names.map(|nqn: Nqn| self.subsystem(&nqn)).collect()
    }

    pub fn subsystem(&self, nqn: &Nqn) -> Result<Subsystem, Refusal> {
        let known = self.wanted.subsystem(nqn.as_str());
        let known =
            known.ok_or_else(|| Refusal::not_found(format!("There is no subsystem {nqn}.")))?;
        let namespaces = self.wanted.namespaces_of(nqn.as_str());
        Ok(Subsystem {
            nqn: nqn.clone(),
            own: known.own,
            hosts: known.host_nqns(),
            allow_any_host: known.allow_any_host,
            namespaces: namespaces.map(|shows| self.namespace(shows)).collect(),
            controllers: self.controllers_of(nqn),
            status: Status::Ok,
            reason: "It serves.".into(),
        })
    }

    pub fn create_subsystem(
        &mut self,
        request: SubsystemCreate,
    ) -> Result<Made<Subsystem>, Refusal> {
        let nqn = request.nqn.clone();
        if self.ask(&Request::CreateSubsystem(request))?.is_as_before() {
            return self.subsystem(&nqn).map(Made::Existing);
        }
        self.tell(EventKind::Created, ObjectKind::Subsystem, &nqn, "is new");
        self.subsystem(&nqn).map(Made::New)
    }

    /// Changes a subsystem, and shows it.
    pub fn change_subsystem(
        &mut self,
        nqn: &Nqn,
        request: &Request,
        says: &str,
    ) -> Result<Subsystem, Refusal> {
        self.ask(request)?;
        self.tell(EventKind::Changed, ObjectKind::Subsystem, nqn, says);
        self.subsystem(nqn)
    }

    pub fn delete_subsystem(&mut self, nqn: &Nqn) -> Result<(), Refusal> {
        self.ask(&Request::DeleteSubsystem(nqn.to_string()))?;
        self.tell(EventKind::Deleted, ObjectKind::Subsystem, nqn, "is deleted");
        Ok(())
    }

    pub fn add_namespace(
        &mut self,
        nqn: &Nqn,
        request: NamespaceAdd,
    ) -> Result<Made<Namespace>, Refusal> {
        let (uuid, source) = (self.uuid(), request.source.clone());
        let asked = Request::AddNamespace { nqn: nqn.to_string(), add: request, uuid };
        let is_new = !self.ask(&asked)?.is_as_before();
        let shows = self.shows(&source).expect("it is shown now");
        let namespace = self.namespace(shows);
        if !is_new {
            return Ok(Made::Existing(namespace));
        }
        self.tell(EventKind::Changed, ObjectKind::Subsystem, nqn, "has another namespace");
        Ok(Made::New(namespace))
    }

    pub fn remove_namespace(&mut self, nqn: &Nqn, nsid: u32) -> Result<(), Refusal> {
        self.ask(&Request::RemoveNamespace { nqn: nqn.to_string(), nsid })?;
        self.tell(EventKind::Changed, ObjectKind::Subsystem, nqn, "has a namespace less");
        Ok(())
    }

    pub fn connect_info(&self, source: &NamespaceSource) -> Result<ConnectInfo, Refusal> {
        let export = self.export_of(source).ok_or_else(|| {
            Refusal::not_found(format!("The {source} is not exported: PUT its export first."))
        })?;
        let uuid = self.shows(source).expect("it is exported").uuid.to_string();
        let serving = self.wanted.listeners().filter(|listener| !listener.discovery_only);
        let addresses: Vec<ConnectAddress> = serving
            .map(|listener| ConnectAddress {
                transport: listener.transport,
                address: Address(listener.address),
            })
            .collect();
        let nobody = export.hosts.is_empty() && !export.allow_any_host;
        Ok(ConnectInfo {
            lines: ConnectInfo::lines(&export.subsystem, &uuid, &addresses),
            uuid,
            subsystem: export.subsystem,
            nsid: export.nsid,
            hosts: export.hosts,
            allow_any_host: export.allow_any_host,
            addresses,
            warning: nobody.then(|| "No host may connect: list one.".into()),
        })
    }

    pub fn hosts(&self) -> Vec<Host> {
        let listed = self.wanted.subsystems().flat_map(|known| known.host_nqns());
        let all: std::collections::BTreeSet<HostNqn> =
            listed.chain(self.controllers.values().cloned()).collect();
        all.iter().map(|nqn| self.host(nqn)).collect()
    }

    fn host(&self, nqn: &HostNqn) -> Host {
        let lists = self.wanted.subsystems().filter(|s| s.hosts.contains(nqn.as_str()));
        let controllers = self.controllers.values().filter(|h| *h == nqn).count() as u32;
        let (status, reason) = match controllers {
            0 => (Status::Offline, "Not connected."),
            _ => (Status::Ok, "Connected."),
        };
        Host {
            nqn: nqn.clone(),
            subsystems: lists.map(|known| known.nqn.parse().expect("an NQN")).collect(),
            controllers,
            addresses: vec![],
            status,
            reason: reason.into(),
            last_refusal: None,
        }
    }
}
