//! The appliance behind the API.

use super::Appliance;
use super::declare::listener;
use std::sync::atomic::Ordering;
use wanted::{ListenAt, Request, Shown};
use webui_model::*;

fn job_not_found(id: u64) -> Refusal {
    Refusal::not_found(format!("There is no job {id}: GET /api/v1/jobs."))
}

fn slots_of(state: &super::State) -> Slots {
    let slot = |name: &str, state, title: Option<&str>| Slot {
        slot: name.into(),
        state,
        title: title.map(str::to_owned),
    };
    let other = match state.installed {
        true => slot("b", SlotState::Trial, Some("Forebay 2")),
        false => slot("b", SlotState::Empty, None),
    };
    Slots {
        running: Some("a".into()),
        slots: vec![slot("a", SlotState::Good, Some("Forebay 1")), other],
        staged_bytes: state.staged,
        reason: "It starts.".into(),
    }
}

fn io(n: u64) -> IoStatistics {
    let latency = LatencyHistogram {
        bounds_ns: vec![10_000, 100_000, 1_000_000],
        counts: vec![n, 2, 1, 0],
        sum_ns: 12_345,
    };
    IoStatistics {
        reads: n,
        read_bytes: n * 4096,
        read_latency: latency.clone(),
        write_latency: latency,
        ..IoStatistics::default()
    }
}

impl Control for Appliance {
    fn event_log(&self) -> &EventLog {
        &self.log
    }
    fn ready(&self) -> Ready {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.ready.lock().unwrap().clone()
    }
    fn appliance(&self) -> Result<webui_model::Appliance, Refusal> {
        Ok(webui_model::Appliance {
            name: "model".into(),
            version: "0".into(),
            started_at_ms: 0,
            reactors: 2,
            memory: "nothing".into(),
            rdma: "off: this is a fake".into(),
            connections: self.lock().controllers.len() as u32,
            status: Status::Ok,
            reason: "It serves.".into(),
        })
    }
    fn slots(&self) -> Result<Slots, Refusal> {
        Ok(slots_of(&self.lock()))
    }
    fn stage_update(&self, piece: UpdatePiece) -> Result<Slots, Refusal> {
        let mut state = self.lock();
        if piece.offset != 0 && piece.offset != state.staged {
            return Err(Refusal::new(RefusalKind::Refused, "Another piece is due."));
        }
        // As a text, whatever is in it: three bytes in four characters.
        state.staged = piece.offset + piece.data.trim_end_matches('=').len() as u64 * 3 / 4;
        Ok(slots_of(&state))
    }
    fn install_update(&self, install: UpdateInstall) -> Result<Slots, Refusal> {
        let mut state = self.lock();
        if state.staged == 0 || install.signature.trim() != "signed" {
            return Err(Refusal::new(RefusalKind::Refused, "It is not signed, or not there."));
        }
        (state.staged, state.installed) = (0, true);
        Ok(slots_of(&state))
    }
    fn end_machine(&self, _: bool) -> Result<(), Refusal> {
        Ok(())
    }
    fn statistics(&self) -> Result<Statistics, Refusal> {
        let state = self.lock();
        let volumes = state.volumes(None)?.into_iter();
        let reactor = ReactorStatistics {
            reactor: 0,
            core: Some(3),
            busy_ns: 250,
            total_ns: 1000,
            turns: 7,
            sleeps: 1,
            queue_depth: 0,
            buffer_bytes: 4096,
        };
        let pools = state.imported().map(|name| (name, &state.pools[name])).map(|(name, pool)| {
            let space = super::State::space(pool);
            PoolStatistics {
                pool: name.clone(),
                space,
                commits: 5,
                full_errors: 0,
                discarded_bytes: 3,
                discard_waiting_bytes: 0,
            }
        });
        Ok(Statistics {
            at_ms: 1,
            uptime_ms: 1500,
            connections: 1,
            connections_refused: 0,
            volumes: volumes
                .map(|v| VolumeStatistics { pool: Some(v.pool), volume: v.name, io: io(3) })
                .collect(),
            hosts: state
                .controllers
                .values()
                .map(|h| HostStatistics { host: h.clone(), controllers: 1, io: io(4) })
                .collect(),
            devices: state
                .device_names()
                .map(|device| DeviceStatistics { device, io: io(5) })
                .collect(),
            pools: pools.collect(),
            reactors: vec![reactor],
        })
    }
    fn history(&self, query: &HistoryQuery) -> Result<History, Refusal> {
        let known = match (query.kind, &query.name) {
            (HistoryKind::Appliance, None) => true,
            (HistoryKind::Appliance, Some(_)) | (_, None) => {
                return Err(Refusal::invalid("name and kind do not go together."));
            }
            (HistoryKind::Pool, Some(name)) => name == "tank",
            (_, Some(_)) => false,
        };
        if !known {
            return Err(Refusal::not_found("Nothing is known of it."));
        }
        Ok(History {
            kind: query.kind,
            name: query.name.clone(),
            step_s: query.step_s.unwrap_or(1),
            reason: "Steps of 1 second, kept for an hour in memory.".into(),
            at_ms: vec![query.from_ms.unwrap_or(0), 2000],
            reads: vec![3, 4],
            writes: vec![0, 0],
            read_bytes: vec![12_288, 16_384],
            write_bytes: vec![0, 0],
            errors: vec![0, 1],
            queue_depth: vec![0.0, 1.5],
            read_p50_ns: vec![Some(10_000), None],
            read_p99_ns: vec![Some(100_000), None],
            write_p50_ns: vec![None, None],
            write_p99_ns: vec![None, None],
        })
    }
    fn interfaces(&self) -> Result<Vec<Interface>, Refusal> {
        Ok(vec![Interface {
            name: "eth0".into(),
            mac: Some("02:00:00:00:00:01".into()),
            up: true,
            speed_mbps: Some(100_000),
            mtu: Some(9000),
            addresses: vec!["10.0.0.5/24".into()],
        }])
    }
    fn subsystem_statistics(&self, nqn: &Nqn) -> Result<Vec<HostStatistics>, Refusal> {
        self.subsystem(nqn)?;
        let hosts = self.statistics()?.hosts;
        Ok(hosts)
    }
    fn counters(&self) -> Result<Counters, Refusal> {
        let counts: std::collections::BTreeMap<String, u64> =
            [("turns".to_owned(), 7), ("commands".to_owned(), 9)].into();
        Ok(Counters {
            version: "0".into(),
            pid: 1,
            uptime_s: 2.5,
            memory: "nothing".into(),
            listeners: Vec::new(),
            rdma: "off: this is a fake".into(),
            connections: ConnectionCounters { open: 1, limit: 2, refused: 3 },
            reactors: vec![ReactorCounters {
                number: 0,
                core: None,
                counts: counts.clone(),
                buffers_taken: vec![0; 4],
                channels: 1,
                tcp: counts.clone(),
                rdma: None,
            }],
            subsystems: Vec::new(),
            hosts: [("nqn.2014-08.org.example:h0".to_owned(), counts)].into(),
            bdevs: Vec::new(),
        })
    }
    fn reload(&self) -> Result<Reloaded, Refusal> {
        Ok(Reloaded { done: vec!["All is as it was.".into()], left: Vec::new() })
    }

    fn set_api_alerts(&self, alerts: Vec<Alert>) {
        *self.api_alerts.lock().unwrap() = alerts;
    }

    fn alerts(&self) -> Result<Vec<Alert>, Refusal> {
        Ok(vec![Alert {
            id: "model".into(),
            since_ms: 1,
            severity: Severity::Warning,
            object: Object::new(ObjectKind::Appliance, "model"),
            message: "This appliance is a model.".into(),
            advice: "Store nothing on it.".into(),
        }])
    }

    fn devices(&self) -> Result<Vec<Device>, Refusal> {
        let state = self.lock();
        state.device_names().map(|name| state.device(&name)).collect()
    }
    fn device(&self, device: &Name) -> Result<Device, Refusal> {
        self.lock().device(device)
    }
    fn attach_device(&self, request: DeviceAttach) -> Result<Made<Device>, Refusal> {
        self.change(|state| state.attach(request))
    }
    fn detach_device(&self, device: &Name) -> Result<(), Refusal> {
        self.change(|state| state.detach(device))
    }
    fn rescan_device(&self, device: &Name) -> Result<Device, Refusal> {
        self.lock().device(device)
    }

    fn device_health(&self, device: &Name) -> Result<DriveHealth, Refusal> {
        self.lock().device(device).map(|_| super::drives::health())
    }
    fn drives(&self) -> Result<Vec<Drive>, Refusal> {
        Ok(self.lock().drives())
    }
    fn format_drive(&self, drive: &DriveAddress, request: DriveFormat) -> Result<Job, Refusal> {
        self.change(|state| state.erase(drive, JobKind::Format, request.force))
    }
    fn sanitize_drive(&self, drive: &DriveAddress, request: DriveSanitize) -> Result<Job, Refusal> {
        self.change(|state| state.erase(drive, JobKind::Sanitize, request.force))
    }

    fn pools(&self) -> Result<Vec<Pool>, Refusal> {
        let state = self.lock();
        state.imported().map(|name| state.pool(name)).collect()
    }
    fn pool(&self, pool: &Name) -> Result<Pool, Refusal> {
        self.lock().pool(pool)
    }
    fn create_pool(&self, request: PoolCreate) -> Result<Made<Pool>, Refusal> {
        self.change(|state| state.create_pool(request))
    }
    fn importable_pools(&self) -> Result<Vec<ImportablePool>, Refusal> {
        Ok(self.lock().importable())
    }
    fn import_pool(&self, request: PoolImport) -> Result<Made<Pool>, Refusal> {
        self.change(|state| state.import_pool(&request))
    }
    fn export_pool(&self, pool: &Name, force: bool) -> Result<(), Refusal> {
        self.change(|state| state.export_pool(pool, force))
    }
    fn delete_pool(&self, pool: &Name) -> Result<(), Refusal> {
        self.change(|state| state.delete_pool(pool))
    }
    fn upgrade_pool(&self, pool: &Name) -> Result<Pool, Refusal> {
        self.change(|state| state.upgrade_pool(pool))
    }
    fn add_device(&self, pool: &Name, request: DeviceAdd) -> Result<Made<PoolDevice>, Refusal> {
        self.change(|state| state.add_device(pool, &request))
    }
    fn pool_device(&self, pool: &Name, number: u32) -> Result<PoolDevice, Refusal> {
        self.lock().pool_device(pool, number)
    }
    fn grow_device(&self, pool: &Name, number: u32) -> Result<PoolDevice, Refusal> {
        self.lock().pool_device(pool, number)
    }
    fn set_discard(&self, pool: &Name, request: DiscardSet) -> Result<Pool, Refusal> {
        self.change(|state| state.set_discard(pool, request))
    }
    fn drain_device(&self, pool: &Name, number: u32) -> Result<Job, Refusal> {
        self.change(|state| state.drain(pool, number))
    }
    fn remove_device(&self, pool: &Name, number: u32) -> Result<(), Refusal> {
        self.change(|state| state.remove_device(pool, number))
    }

    fn volumes(&self, pool: Option<&Name>) -> Result<Vec<Volume>, Refusal> {
        self.lock().volumes(pool)
    }
    fn volume(&self, volume: &VolumeRef) -> Result<Volume, Refusal> {
        self.lock().volume(volume)
    }
    fn create_volume(&self, pool: &Name, request: VolumeCreate) -> Result<Made<Volume>, Refusal> {
        self.change(|state| state.create_volume(pool, &request))
    }
    fn delete_volume(&self, volume: &VolumeRef, force: bool) -> Result<(), Refusal> {
        self.change(|state| state.delete_volume(volume, force))
    }
    fn rename_volume(&self, volume: &VolumeRef, request: Rename) -> Result<Volume, Refusal> {
        self.change(|state| state.rename_volume(volume, &request.name))
    }
    fn resize_volume(&self, volume: &VolumeRef, request: Resize) -> Result<Volume, Refusal> {
        self.change(|state| state.resize_volume(volume, request))
    }
    fn set_limits(&self, volume: &VolumeRef, limits: Limits) -> Result<Volume, Refusal> {
        self.change(|state| state.set_limits(volume, limits))
    }
    fn export_volume(&self, volume: &VolumeRef, request: ExportSet) -> Result<Volume, Refusal> {
        self.change(|state| {
            state.export(Shown::Volume(volume.clone()), request)?;
            state.tell(EventKind::Changed, ObjectKind::Volume, volume, "is exported");
            state.volume(volume)
        })
    }
    fn unexport_volume(&self, volume: &VolumeRef) -> Result<(), Refusal> {
        let request = Request::Unexport(Shown::Volume(volume.clone()));
        self.change(|state| state.ask(&request).map(drop))
    }
    fn connect_info(&self, volume: &VolumeRef) -> Result<ConnectInfo, Refusal> {
        let state = self.lock();
        state.volume(volume)?;
        state.connect_info(&NamespaceSource::Volume(volume.clone()))
    }
    fn roll_back(&self, volume: &VolumeRef, request: RollBack) -> Result<Volume, Refusal> {
        self.change(|state| state.roll_back(volume, &request))
    }
    fn promote(&self, volume: &VolumeRef) -> Result<PromoteOutcome, Refusal> {
        self.change(|state| state.promote(volume))
    }

    fn snapshots(&self, pool: &Name, volume: Option<&Name>) -> Result<Vec<Snapshot>, Refusal> {
        self.lock().snapshots(pool, volume)
    }
    fn snapshot(&self, snapshot: &SnapshotRef) -> Result<Snapshot, Refusal> {
        self.lock().snapshot(snapshot)
    }
    fn create_snapshot(
        &self,
        volume: &VolumeRef,
        request: SnapshotCreate,
    ) -> Result<Made<Snapshot>, Refusal> {
        self.change(|state| state.create_snapshot(volume, &request.name))
    }
    fn create_group_snapshot(
        &self,
        pool: &Name,
        request: GroupSnapshotCreate,
    ) -> Result<Vec<Snapshot>, Refusal> {
        self.change(|state| state.create_group(pool, &request))
    }
    fn delete_snapshot(&self, snapshot: &SnapshotRef) -> Result<(), Refusal> {
        self.change(|state| state.delete_snapshot(snapshot))
    }
    fn clone_snapshot(
        &self,
        snapshot: &SnapshotRef,
        request: VolumeClone,
    ) -> Result<Made<Volume>, Refusal> {
        self.change(|state| state.clone_snapshot(snapshot, &request))
    }
    fn export_snapshot(
        &self,
        snapshot: &SnapshotRef,
        request: ExportSet,
    ) -> Result<Snapshot, Refusal> {
        self.change(|state| {
            state.export(Shown::Snapshot(snapshot.clone()), request)?;
            state.snapshot(snapshot)
        })
    }
    fn unexport_snapshot(&self, snapshot: &SnapshotRef) -> Result<(), Refusal> {
        let request = Request::Unexport(Shown::Snapshot(snapshot.clone()));
        self.change(|state| state.ask(&request).map(drop))
    }
    fn snapshot_connect_info(&self, snapshot: &SnapshotRef) -> Result<ConnectInfo, Refusal> {
        let state = self.lock();
        state.snapshot(snapshot)?;
        state.connect_info(&NamespaceSource::Snapshot(snapshot.clone()))
    }

    fn subsystems(&self) -> Result<Vec<Subsystem>, Refusal> {
        self.lock().subsystems()
    }
    fn subsystem(&self, nqn: &Nqn) -> Result<Subsystem, Refusal> {
        self.lock().subsystem(nqn)
    }
    fn create_subsystem(&self, request: SubsystemCreate) -> Result<Made<Subsystem>, Refusal> {
        self.change(|state| state.create_subsystem(request))
    }
    fn delete_subsystem(&self, nqn: &Nqn) -> Result<(), Refusal> {
        self.change(|state| state.delete_subsystem(nqn))
    }
    fn add_host(&self, nqn: &Nqn, request: HostAdd) -> Result<Subsystem, Refusal> {
        let request = Request::AddHost { nqn: nqn.to_string(), host: request.host };
        self.change(|state| state.change_subsystem(nqn, &request, "has another host"))
    }
    fn remove_host(&self, nqn: &Nqn, host: &HostNqn) -> Result<Subsystem, Refusal> {
        let request = Request::RemoveHost { nqn: nqn.to_string(), host: host.clone() };
        self.change(|state| state.change_subsystem(nqn, &request, "has a host less"))
    }
    fn add_namespace(&self, nqn: &Nqn, request: NamespaceAdd) -> Result<Made<Namespace>, Refusal> {
        self.change(|state| state.add_namespace(nqn, request))
    }
    fn remove_namespace(&self, nqn: &Nqn, nsid: u32) -> Result<(), Refusal> {
        self.change(|state| state.remove_namespace(nqn, nsid))
    }

    fn hosts(&self) -> Result<Vec<Host>, Refusal> {
        Ok(self.lock().hosts())
    }
    fn host(&self, host: &HostNqn) -> Result<Host, Refusal> {
        let found = self.lock().hosts().into_iter().find(|h| h.nqn == *host);
        found.ok_or_else(|| Refusal::not_found(format!("No subsystem knows {host}.")))
    }
    fn controllers(&self) -> Result<Vec<Controller>, Refusal> {
        let shown = |((nqn, cntlid), host): (&(Nqn, u16), &HostNqn)| Controller {
            subsystem: nqn.clone(),
            cntlid: *cntlid,
            host: host.to_string(),
            address: None,
            transport: Fabric::Tcp,
            keep_alive_ms: 5000,
            errors: 0,
            queues: vec![ControllerQueue { qid: 0, reactor: 0, entries: 32, outstanding: 0 }],
            status: Status::Ok,
            reason: "Connected.".into(),
        };
        Ok(self.lock().controllers.iter().map(shown).collect())
    }
    fn controller(&self, nqn: &Nqn, cntlid: u16) -> Result<Controller, Refusal> {
        let all = self.controllers()?;
        let found = all.into_iter().find(|c| c.subsystem == *nqn && c.cntlid == cntlid);
        found.ok_or_else(|| Refusal::not_found(format!("{nqn} has no controller {cntlid}.")))
    }

    fn listeners(&self) -> Result<Vec<Listener>, Refusal> {
        let state = self.lock();
        let shown = |known: &wanted::Listener| {
            listener((known.transport, Address(known.address)), known.discovery_only)
        };
        Ok(state.wanted.listeners().map(|known| shown(known)).collect())
    }
    fn listener(&self, transport: Fabric, address: Address) -> Result<Listener, Refusal> {
        let at = ListenAt { transport, address: address.0 };
        let found = self.lock().wanted.listener(at).map(|known| known.discovery_only);
        found
            .map(|only| listener((transport, address), only))
            .ok_or_else(|| Refusal::not_found(format!("Nothing listens on {address}.")))
    }
    fn create_listener(&self, request: ListenerCreate) -> Result<Made<Listener>, Refusal> {
        self.change(|state| state.create_listener(request))
    }
    fn delete_listener(&self, transport: Fabric, address: Address) -> Result<(), Refusal> {
        self.change(|state| {
            state.ask(&Request::DeleteListener { transport, address })?;
            state.tell(EventKind::Deleted, ObjectKind::Listener, address, "listens no more");
            Ok(())
        })
    }

    fn jobs(&self) -> Result<Vec<Job>, Refusal> {
        Ok(self.lock().jobs.values().cloned().collect())
    }
    fn job(&self, id: u64) -> Result<Job, Refusal> {
        self.lock().jobs.get(&id).cloned().ok_or_else(|| job_not_found(id))
    }
    fn cancel_job(&self, id: u64) -> Result<Job, Refusal> {
        self.change(|state| {
            let job = state.jobs.get_mut(&id).ok_or_else(|| job_not_found(id))?;
            if job.status != JobStatus::Running {
                return Err(Refusal::refused(format!("Job {id} has ended already.")));
            }
            job.status = JobStatus::Cancelled;
            job.ended_at_ms = Some(job.started_at_ms);
            job.reason = "Somebody asked.".into();
            Ok(job.clone())
        })
    }

    fn apply(&self, declaration: Declaration, dry_run: bool) -> Result<Applied, Refusal> {
        if dry_run {
            return self.lock().clone().apply(&declaration, true);
        }
        self.change(|state| state.apply(&declaration, false))
    }
    fn declaration(&self) -> Result<Declaration, Refusal> {
        Ok(self.lock().declaration())
    }
}
