//! The trait: each method hands on to where its subject is.

use super::counters::counters;
use super::devices::Devices;
use super::drives::Drives;
use super::exports::Exports;
use super::listeners::Listeners;
use super::machine::Machine;
use super::pools::Pools;
use super::recording;
use super::snapshots::Snapshots;
use super::subsystems::Subsystems;
use super::volumes::Volumes;
use super::{ControlPlane, locked, now_ms};
use webui_model::*;

type Answer<T> = Result<T, Refusal>;

impl Control for ControlPlane {
    fn event_log(&self) -> &EventLog {
        &self.log
    }

    fn ready(&self) -> Ready {
        let down = self.is_up().is_err();
        let reason = if down { "on its way down" } else { "serves" };
        Ready { ready: !down, reason: reason.to_owned() }
    }

    fn appliance(&self) -> Answer<Appliance> {
        let alerts = locked(&self.seen).alerts.list();
        self.with(|node| {
            let worst = alerts.iter().max_by_key(|alert| alert.severity);
            let status = match worst.map(|alert| alert.severity) {
                Some(Severity::Critical | Severity::Warning) => Status::Degraded,
                Some(Severity::Info) | None => Status::Ok,
            };
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            Ok(Appliance {
                name: host.trim().to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started_at_ms: self.started_ms,
                reactors: node.reactors.len() as u32,
                memory: node.backing.to_string(),
                rdma: node.rdma_in_words(),
                connections: node.connections.open(),
                status,
                reason: worst.map_or_else(|| "it serves".to_owned(), |a| a.message.clone()),
            })
        })
    }

    fn slots(&self) -> Answer<Slots> {
        Machine(self).slots()
    }

    fn stage_update(&self, piece: UpdatePiece) -> Answer<Slots> {
        Machine(self).stage_update(&piece)
    }

    fn install_update(&self, install: UpdateInstall) -> Answer<Slots> {
        Machine(self).install_update(&install)
    }

    fn end_machine(&self, restart: bool) -> Answer<()> {
        Machine(self).end(restart)
    }

    fn statistics(&self) -> Answer<Statistics> {
        recording::count(self)
    }

    fn history(&self, query: &HistoryQuery) -> Answer<History> {
        self.past.answer(query, now_ms())
    }

    fn interfaces(&self) -> Answer<Vec<Interface>> {
        crate::node::interfaces_of_machine().map_err(Refusal::device)
    }

    fn subsystem_statistics(&self, nqn: &Nqn) -> Answer<Vec<HostStatistics>> {
        self.view(|view| view.subsystem_statistics(nqn))
    }

    fn counters(&self) -> Answer<Counters> {
        self.with(counters)
    }

    fn alerts(&self) -> Answer<Vec<Alert>> {
        Ok(locked(&self.seen).alerts.list())
    }

    fn reload(&self) -> Result<Reloaded, Refusal> {
        self.read_again().ok_or_else(|| {
            Refusal::unavailable("The appliance is starting: its files have just been read.")
        })
    }

    fn set_api_alerts(&self, alerts: Vec<Alert>) {
        *locked(&self.api_alerts) = alerts;
    }

    fn devices(&self) -> Answer<Vec<Device>> {
        self.view(|view| view.devices())
    }

    fn device(&self, device: &Name) -> Answer<Device> {
        self.view(|view| view.device(device.as_str()))
    }

    fn attach_device(&self, request: DeviceAttach) -> Answer<Made<Device>> {
        Devices(self).attach(request)
    }

    fn detach_device(&self, device: &Name) -> Answer<()> {
        Devices(self).detach(device)
    }

    fn rescan_device(&self, device: &Name) -> Answer<Device> {
        Devices(self).rescan(device)
    }

    fn device_health(&self, device: &Name) -> Answer<DriveHealth> {
        Drives(self).health(device)
    }

    fn drives(&self) -> Answer<Vec<Drive>> {
        Drives(self).list()
    }

    fn format_drive(&self, drive: &DriveAddress, request: DriveFormat) -> Answer<Job> {
        Drives(self).format(drive, &request)
    }

    fn sanitize_drive(&self, drive: &DriveAddress, request: DriveSanitize) -> Answer<Job> {
        Drives(self).sanitize(drive, &request)
    }

    fn pools(&self) -> Answer<Vec<Pool>> {
        self.view(|view| view.pools())
    }

    fn pool(&self, pool: &Name) -> Answer<Pool> {
        self.view(|view| view.pool(pool.as_str()))
    }

    fn create_pool(&self, request: PoolCreate) -> Answer<Made<Pool>> {
        Pools(self).create(request)
    }

    fn importable_pools(&self) -> Answer<Vec<ImportablePool>> {
        Pools(self).importable()
    }

    fn import_pool(&self, request: PoolImport) -> Answer<Made<Pool>> {
        Pools(self).import(request)
    }

    fn export_pool(&self, pool: &Name, force: bool) -> Answer<()> {
        Pools(self).export(pool, force)
    }

    fn delete_pool(&self, pool: &Name) -> Answer<()> {
        Pools(self).delete(pool)
    }

    fn upgrade_pool(&self, pool: &Name) -> Answer<Pool> {
        Pools(self).upgrade(pool)
    }

    fn set_discard(&self, pool: &Name, request: DiscardSet) -> Answer<Pool> {
        Pools(self).set_discard(pool, request.mode)
    }

    fn add_device(&self, pool: &Name, request: DeviceAdd) -> Answer<Made<PoolDevice>> {
        Pools(self).add_device(pool, request)
    }

    fn pool_device(&self, pool: &Name, number: u32) -> Answer<PoolDevice> {
        self.view(|view| view.pool_device(pool.as_str(), number))
    }

    fn grow_device(&self, pool: &Name, number: u32) -> Answer<PoolDevice> {
        Pools(self).grow_device(pool, number)
    }

    fn drain_device(&self, pool: &Name, number: u32) -> Answer<Job> {
        Pools(self).drain_device(pool, number)
    }

    fn remove_device(&self, pool: &Name, number: u32) -> Answer<()> {
        Pools(self).remove_device(pool, number)
    }

    fn volumes(&self, pool: Option<&Name>) -> Answer<Vec<Volume>> {
        self.view(|view| view.volumes(pool))
    }

    fn volume(&self, volume: &VolumeRef) -> Answer<Volume> {
        self.view(|view| view.volume(volume))
    }

    fn create_volume(&self, pool: &Name, request: VolumeCreate) -> Answer<Made<Volume>> {
        Volumes(self).create(pool, request)
    }

    fn delete_volume(&self, volume: &VolumeRef, force: bool) -> Answer<()> {
        Volumes(self).delete(volume, force)
    }

    fn rename_volume(&self, volume: &VolumeRef, request: Rename) -> Answer<Volume> {
        Volumes(self).rename(volume, &request)
    }

    fn resize_volume(&self, volume: &VolumeRef, request: Resize) -> Answer<Volume> {
        Volumes(self).resize(volume, request)
    }

    fn set_limits(&self, volume: &VolumeRef, limits: Limits) -> Answer<Volume> {
        Volumes(self).set_limits(volume, limits)
    }

    fn export_volume(&self, volume: &VolumeRef, request: ExportSet) -> Answer<Volume> {
        Exports(self).export_volume(volume, request)
    }

    fn unexport_volume(&self, volume: &VolumeRef) -> Answer<()> {
        Exports(self).unexport_volume(volume)
    }

    fn connect_info(&self, volume: &VolumeRef) -> Answer<ConnectInfo> {
        Exports(self).connect_info(volume)
    }

    fn roll_back(&self, volume: &VolumeRef, request: RollBack) -> Answer<Volume> {
        Volumes(self).roll_back(volume, request)
    }

    fn promote(&self, volume: &VolumeRef) -> Answer<PromoteOutcome> {
        Volumes(self).promote(volume)
    }

    fn snapshots(&self, pool: &Name, volume: Option<&Name>) -> Answer<Vec<Snapshot>> {
        self.view(|view| view.snapshots(pool, volume))
    }

    fn snapshot(&self, snapshot: &SnapshotRef) -> Answer<Snapshot> {
        self.view(|view| view.snapshot(snapshot))
    }

    fn create_snapshot(
        &self,
        volume: &VolumeRef,
        request: SnapshotCreate,
    ) -> Answer<Made<Snapshot>> {
        Snapshots(self).create(volume, &request)
    }

    fn create_group_snapshot(
        &self,
        pool: &Name,
        request: GroupSnapshotCreate,
    ) -> Answer<Vec<Snapshot>> {
        Snapshots(self).create_group(pool, request)
    }

    fn delete_snapshot(&self, snapshot: &SnapshotRef) -> Answer<()> {
        Snapshots(self).delete(snapshot)
    }

    fn clone_snapshot(&self, snapshot: &SnapshotRef, request: VolumeClone) -> Answer<Made<Volume>> {
        Volumes(self).clone_snapshot(snapshot, request)
    }

    fn export_snapshot(&self, snapshot: &SnapshotRef, request: ExportSet) -> Answer<Snapshot> {
        Exports(self).export_snapshot(snapshot, request)
    }

    fn unexport_snapshot(&self, snapshot: &SnapshotRef) -> Answer<()> {
        Exports(self).unexport_snapshot(snapshot)
    }

    fn snapshot_connect_info(&self, snapshot: &SnapshotRef) -> Answer<ConnectInfo> {
        Exports(self).snapshot_connect_info(snapshot)
    }

    fn subsystems(&self) -> Answer<Vec<Subsystem>> {
        self.view(|view| view.subsystems())
    }

    fn subsystem(&self, nqn: &Nqn) -> Answer<Subsystem> {
        self.view(|view| view.subsystem(nqn.as_str()))
    }

    fn create_subsystem(&self, request: SubsystemCreate) -> Answer<Made<Subsystem>> {
        Subsystems(self).create(request)
    }

    fn delete_subsystem(&self, nqn: &Nqn) -> Answer<()> {
        Subsystems(self).delete(nqn)
    }

    fn add_host(&self, nqn: &Nqn, request: HostAdd) -> Answer<Subsystem> {
        Subsystems(self).add_host(nqn, &request.host)
    }

    fn remove_host(&self, nqn: &Nqn, host: &HostNqn) -> Answer<Subsystem> {
        Subsystems(self).remove_host(nqn, host)
    }

    fn add_namespace(&self, nqn: &Nqn, request: NamespaceAdd) -> Answer<Made<Namespace>> {
        Subsystems(self).add_namespace(nqn, request)
    }

    fn remove_namespace(&self, nqn: &Nqn, nsid: u32) -> Answer<()> {
        Subsystems(self).remove_namespace(nqn, nsid)
    }

    fn hosts(&self) -> Answer<Vec<Host>> {
        self.view(|view| Ok(view.hosts()))
    }

    fn host(&self, host: &HostNqn) -> Answer<Host> {
        let found = self.hosts()?.into_iter().find(|other| other.nqn == *host);
        found.ok_or_else(|| {
            let why = format!("No host {host} is listed or connected, or was refused lately.");
            Refusal::not_found(why)
        })
    }

    fn controllers(&self) -> Answer<Vec<Controller>> {
        self.view(|view| Ok(view.controllers()))
    }

    fn controller(&self, nqn: &Nqn, cntlid: u16) -> Answer<Controller> {
        let is_it = |c: &Controller| (&c.subsystem, c.cntlid) == (nqn, cntlid);
        let found = self.controllers()?.into_iter().find(is_it);
        found.ok_or_else(|| Refusal::not_found(format!("{nqn} has no controller {cntlid}.")))
    }

    fn listeners(&self) -> Answer<Vec<Listener>> {
        self.view(|view| Ok(view.listeners()))
    }

    fn listener(&self, transport: Fabric, address: Address) -> Answer<Listener> {
        self.view(|view| view.listener(transport, address))
    }

    fn create_listener(&self, request: ListenerCreate) -> Answer<Made<Listener>> {
        Listeners(self).create(request)
    }

    fn delete_listener(&self, transport: Fabric, address: Address) -> Answer<()> {
        Listeners(self).delete(transport, address)
    }

    fn jobs(&self) -> Answer<Vec<Job>> {
        self.look();
        Ok(locked(&self.seen).jobs.list())
    }

    fn job(&self, id: u64) -> Answer<Job> {
        self.look();
        let found = locked(&self.seen).jobs.get(id);
        found.ok_or_else(|| Refusal::not_found(format!("There is no job {id}.")))
    }

    fn cancel_job(&self, id: u64) -> Answer<Job> {
        Pools(self).cancel_job(id)
    }

    fn apply(&self, declaration: Declaration, dry_run: bool) -> Answer<Applied> {
        self.apply_declaration(&declaration, dry_run)
    }

    fn declaration(&self) -> Answer<Declaration> {
        self.declared()
    }
}
