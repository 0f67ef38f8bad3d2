//! Subsystems, hosts and who is connected.

use super::{State, SubsystemState};
use webui_model::*;

fn own_nqn(source: &NamespaceSource) -> Option<Nqn> {
    match source {
        NamespaceSource::Volume(v) => Some(Nqn::of_volume(&v.pool, &v.volume)),
        NamespaceSource::Snapshot(s) => Some(Nqn::of_snapshot(&s.pool, &s.volume, &s.snapshot)),
        NamespaceSource::Device(_) => None,
    }
}

impl State {
    fn place_of(&self, source: &NamespaceSource) -> Option<(Nqn, u32)> {
        self.subsystems.iter().find_map(|(nqn, subsystem)| {
            let found = subsystem.namespaces.iter().find(|(_, (_, s))| s == source);
            found.map(|(nsid, _)| (nqn.clone(), *nsid))
        })
    }

    pub fn export_of(&self, source: &NamespaceSource) -> Option<Export> {
        let (nqn, nsid) = self.place_of(source)?;
        let subsystem = &self.subsystems[&nqn];
        Some(Export {
            nsid,
            own: subsystem.own,
            hosts: subsystem.hosts.clone(),
            allow_any_host: subsystem.any,
            controllers: self.controllers.keys().filter(|(n, _)| *n == nqn).count() as u32,
            subsystem: nqn,
        })
    }

    pub fn export(&mut self, source: &NamespaceSource, set: &ExportSet) -> Result<(), Refusal> {
        let place = self.place_of(source);
        let target = match (&set.subsystem, &place) {
            (Some(nqn), _) => {
                if self.subsystem_state(nqn)?.own {
                    return Err(Refusal::refused(format!("{nqn} is a volume's own.")));
                }
                nqn.clone()
            }
            // What has a subsystem of its own keeps it, also under a new name.
            (None, Some((nqn, _))) if self.subsystems[nqn].own => nqn.clone(),
            (None, _) => own_nqn(source).expect("devices are not exported this way"),
        };
        if set.subsystem.is_none() {
            let own = self
                .subsystems
                .get(&target)
                .filter(|_| place.as_ref().is_none_or(|(nqn, _)| *nqn != target));
            if own.is_some() {
                return Err(Refusal::exists(format!("{target} is taken by something else.")));
            }
            let (hosts, any) = (set.hosts.clone(), set.allow_any_host);
            let fresh =
                || SubsystemState { own: true, hosts: vec![], any, namespaces: Default::default() };
            let subsystem = self.subsystems.entry(target.clone()).or_insert_with(fresh);
            subsystem.hosts = hosts;
            subsystem.hosts.sort();
            subsystem.hosts.dedup();
            subsystem.any = any;
        }
        if place.is_some_and(|(nqn, _)| nqn == target) {
            return Ok(());
        }
        self.unexport(source);
        let uuid = self.uuid();
        let subsystem = self.subsystems.get_mut(&target).expect("it is there");
        let nsid = (1..).find(|n| !subsystem.namespaces.contains_key(n)).expect("numbers");
        subsystem.namespaces.insert(nsid, (uuid, source.clone()));
        Ok(())
    }

    pub fn unexport(&mut self, source: &NamespaceSource) -> bool {
        let Some((nqn, nsid)) = self.place_of(source) else { return false };
        let subsystem = self.subsystems.get_mut(&nqn).expect("it was found");
        subsystem.namespaces.remove(&nsid);
        if subsystem.own {
            self.subsystems.remove(&nqn);
            self.controllers.retain(|(n, _), _| *n != nqn);
        }
        true
    }

    /// Disconnects the hosts of a volume's own subsystem, if that is forced.
    pub fn disconnect(&mut self, volume: &VolumeRef, force: bool) -> Result<(), Refusal> {
        let export = self.export_of(&NamespaceSource::Volume(volume.clone()));
        let Some(export) = export.filter(|export| export.controllers > 0) else { return Ok(()) };
        if !force {
            return Err(Refusal::in_use(format!(
                "{} controllers are connected to {volume}: disconnect them, or give force.",
                export.controllers
            )));
        }
        self.controllers.retain(|(nqn, _), _| *nqn != export.subsystem);
        Ok(())
    }

    pub fn subsystem_state(&self, nqn: &Nqn) -> Result<&SubsystemState, Refusal> {
        self.subsystems
            .get(nqn)
            .ok_or_else(|| Refusal::not_found(format!("There is no subsystem {nqn}.")))
    }

    fn namespace(&self, nsid: u32, uuid: &str, source: &NamespaceSource) -> Namespace {
        let (bytes, block_bytes) = match source {
            NamespaceSource::Volume(v) => self.volume_state(v).map(|v| (v.bytes, v.block_bytes)),
            NamespaceSource::Snapshot(s) => self.snapshot(s).map(|s| (s.bytes, 4096)),
            NamespaceSource::Device(d) => self.device(d).map(|d| (d.bytes, d.block_bytes)),
        }
        .unwrap_or((0, 4096));
        Namespace {
            nsid,
            uuid: uuid.to_owned(),
            source: source.clone(),
            bytes,
            block_bytes,
            read_only: matches!(source, NamespaceSource::Snapshot(_)),
            status: Status::Ok,
            reason: "It serves.".into(),
        }
    }

    pub fn subsystem(&self, nqn: &Nqn) -> Result<Subsystem, Refusal> {
        let state = self.subsystem_state(nqn)?;
        let namespaces = state.namespaces.iter();
        Ok(Subsystem {
            nqn: nqn.clone(),
            own: state.own,
            hosts: state.hosts.clone(),
            allow_any_host: state.any,
            namespaces: namespaces.map(|(n, (u, s))| self.namespace(*n, u, s)).collect(),
            controllers: self.controllers.keys().filter(|(n, _)| n == nqn).count() as u32,
            status: Status::Ok,
            reason: "It serves.".into(),
        })
    }

    pub fn create_subsystem(
        &mut self,
        request: SubsystemCreate,
    ) -> Result<Made<Subsystem>, Refusal> {
        let nqn = request.nqn.clone();
        if let Ok(there) = self.subsystem(&nqn) {
            let differences = request.differences(&there);
            if differences.is_empty() {
                return Ok(Made::Existing(there));
            }
            let sentence = format!("{nqn} is there, and {}.", differences.join(", and "));
            return Err(Refusal::exists(sentence));
        }
        let (mut hosts, any) = (request.hosts, request.allow_any_host);
        hosts.sort();
        hosts.dedup();
        let state = SubsystemState { own: false, hosts, any, namespaces: Default::default() };
        self.subsystems.insert(nqn.clone(), state);
        self.tell(EventKind::Created, ObjectKind::Subsystem, &nqn, "is new");
        self.subsystem(&nqn).map(Made::New)
    }

    pub fn delete_subsystem(&mut self, nqn: &Nqn) -> Result<(), Refusal> {
        if let Some((_, source)) = self.subsystem_state(nqn)?.namespaces.values().next() {
            return Err(Refusal::in_use(format!("{nqn} shows {source}.")));
        }
        self.subsystems.remove(nqn);
        self.controllers.retain(|(n, _), _| n != nqn);
        self.tell(EventKind::Deleted, ObjectKind::Subsystem, nqn, "is deleted");
        Ok(())
    }

    pub fn add_host(&mut self, nqn: &Nqn, host: HostNqn) -> Result<Subsystem, Refusal> {
        if self.subsystem_state(nqn)?.any {
            return Err(Refusal::refused(format!("{nqn} is open to any host.")));
        }
        let state = self.subsystems.get_mut(nqn).expect("it was found");
        state.hosts.push(host);
        state.hosts.sort();
        state.hosts.dedup();
        self.tell(EventKind::Changed, ObjectKind::Subsystem, nqn, "has another host");
        self.subsystem(nqn)
    }

    pub fn remove_host(&mut self, nqn: &Nqn, host: &HostNqn) -> Result<Subsystem, Refusal> {
        if !self.subsystem_state(nqn)?.hosts.contains(host) {
            return Err(Refusal::not_found(format!("{nqn} does not list {host}.")));
        }
        self.subsystems.get_mut(nqn).expect("it was found").hosts.retain(|h| h != host);
        self.controllers.retain(|(n, _), h| n != nqn || h != host);
        self.tell(EventKind::Changed, ObjectKind::Subsystem, nqn, "has a host less");
        self.subsystem(nqn)
    }

    pub fn add_namespace(
        &mut self,
        nqn: &Nqn,
        request: NamespaceAdd,
    ) -> Result<Made<Namespace>, Refusal> {
        if self.subsystem_state(nqn)?.own {
            return Err(Refusal::refused(format!("{nqn} is a volume's own.")));
        }
        match &request.source {
            NamespaceSource::Volume(volume) => self.volume_state(volume).map(drop)?,
            NamespaceSource::Snapshot(snapshot) => self.snapshot(snapshot).map(drop)?,
            NamespaceSource::Device(device) => {
                if let Some(member) = self.device(device)?.pool {
                    return Err(Refusal::in_use(format!("{device} is in pool {}.", member.pool)));
                }
            }
        }
        if let Some((there, nsid)) = self.place_of(&request.source) {
            if there == *nqn && request.nsid.is_none_or(|n| n == nsid) {
                let (uuid, source) = &self.subsystems[nqn].namespaces[&nsid];
                return Ok(Made::Existing(self.namespace(nsid, uuid, source)));
            }
            return Err(Refusal::in_use(format!("{} is shown in {there}.", request.source)));
        }
        let uuid = self.uuid();
        let subsystem = self.subsystems.get_mut(nqn).expect("it was found");
        let free = (1..).find(|n| !subsystem.namespaces.contains_key(n)).expect("numbers");
        let nsid = request.nsid.unwrap_or(free);
        if let Some((_, there)) = subsystem.namespaces.get(&nsid) {
            return Err(Refusal::exists(format!("Number {nsid} is taken by {there}.")));
        }
        subsystem.namespaces.insert(nsid, (uuid.clone(), request.source.clone()));
        self.tell(EventKind::Changed, ObjectKind::Subsystem, nqn, "has another namespace");
        Ok(Made::New(self.namespace(nsid, &uuid, &request.source)))
    }

    pub fn remove_namespace(&mut self, nqn: &Nqn, nsid: u32) -> Result<(), Refusal> {
        let found = self.subsystem_state(nqn)?.namespaces.get(&nsid).cloned();
        let none = || Refusal::not_found(format!("{nqn} has no namespace {nsid}."));
        let (_, source) = found.ok_or_else(none)?;
        self.unexport(&source);
        self.tell(EventKind::Changed, ObjectKind::Subsystem, nqn, "has a namespace less");
        Ok(())
    }

    pub fn connect_info(&self, source: &NamespaceSource) -> Result<ConnectInfo, Refusal> {
        let export = self.export_of(source).ok_or_else(|| {
            Refusal::not_found(format!("The {source} is not exported: PUT its export first."))
        })?;
        let (uuid, _) = &self.subsystems[&export.subsystem].namespaces[&export.nsid];
        let serving = self.listeners.iter().filter(|(_, discovery)| !**discovery);
        let addresses: Vec<ConnectAddress> = serving
            .map(|((transport, address), _)| ConnectAddress {
                transport: *transport,
                address: *address,
            })
            .collect();
        let nobody = export.hosts.is_empty() && !export.allow_any_host;
        Ok(ConnectInfo {
            lines: ConnectInfo::lines(&export.subsystem, uuid, &addresses),
            uuid: uuid.clone(),
            subsystem: export.subsystem,
            nsid: export.nsid,
            hosts: export.hosts,
            allow_any_host: export.allow_any_host,
            addresses,
            warning: nobody.then(|| "No host may connect: list one.".into()),
        })
    }

    pub fn hosts(&self) -> Vec<Host> {
        let listed = self.subsystems.values().flat_map(|s| s.hosts.iter());
        let all: std::collections::BTreeSet<&HostNqn> =
            listed.chain(self.controllers.values()).collect();
        all.into_iter().map(|nqn| self.host(nqn)).collect()
    }

    fn host(&self, nqn: &HostNqn) -> Host {
        let lists = self.subsystems.iter().filter(|(_, s)| s.hosts.contains(nqn));
        let controllers = self.controllers.values().filter(|h| *h == nqn).count() as u32;
        let (status, reason) = match controllers {
            0 => (Status::Offline, "Not connected."),
            _ => (Status::Ok, "Connected."),
        };
        Host {
            nqn: nqn.clone(),
            subsystems: lists.map(|(n, _)| n.clone()).collect(),
            controllers,
            addresses: vec![],
            status,
            reason: reason.into(),
            last_refusal: None,
        }
    }
}
