//! What stands behind the API.

use crate::event_log::EventLog;
use crate::{Address, Refusal, Reloaded};
use crate::{
    Alert, Appliance, Applied, ConnectInfo, Controller, Counters, Declaration, Device, DeviceAdd,
    DeviceAttach, DiscardSet, Drive, DriveAddress, DriveFormat, DriveHealth, DriveSanitize,
    ExportSet, GroupSnapshotCreate, History, HistoryQuery, Host, HostAdd, HostNqn, HostStatistics,
    ImportablePool, Interface, Job, Limits, Listener, ListenerCreate, Name, Namespace,
    NamespaceAdd, Nqn, Pool, PoolCreate, PoolDevice, PoolImport, PromoteOutcome, Ready, Rename,
    Resize, RollBack, Slots, Snapshot, SnapshotCreate, SnapshotRef, Statistics, Subsystem,
    SubsystemCreate, UpdateInstall, UpdatePiece, Volume, VolumeClone, VolumeCreate, VolumeRef,
};
use nvme_spec::Fabric;

/// What a create did.
#[derive(Clone, Debug, PartialEq)]
pub enum Made<T> {
    /// It is new.
    New(T),
    /// It was there already, with the properties asked for.
    Existing(T),
}

impl<T> Made<T> {
    /// The object.
    pub fn into_inner(self) -> T {
        match self {
            Self::New(object) | Self::Existing(object) => object,
        }
    }
}

/// The appliance as the API sees it. Every method may block: the server calls each from a thread of
/// its own, and many at once. A method returns when what it did is durable; what takes longer than a
/// request is a [`Job`]. The server has checked the role of whoever asks, and sizes, limits and the
/// access fields with the `check` of the request's type.
///
/// Creates are idempotent: what is there already with the same properties is [`Made::Existing`]
/// (`differences` of the request's type says whether it is), with others a refusal of kind
/// `Exists` that says which. Deleting what is not there is `NotFound`.
#[allow(clippy::missing_errors_doc)] // Every method refuses with a kind and a sentence.
pub trait Control: Send + Sync + 'static {
    /// The log into which the implementation publishes every change.
    fn event_log(&self) -> &EventLog;
    /// Whether the appliance serves; must not block for long.
    fn ready(&self) -> Ready;
    /// The appliance.
    fn appliance(&self) -> Result<Appliance, Refusal>;
    /// The slots of the image that it was started from, if it was.
    fn slots(&self) -> Result<Slots, Refusal>;
    /// Takes in a piece of an update. `Refused` where there are no slots, or another piece is due.
    fn stage_update(&self, piece: UpdatePiece) -> Result<Slots, Refusal>;
    /// Puts the update that has come into the other slot, to be tried at the next start. `Refused`
    /// if it is not signed with the key of this appliance.
    fn install_update(&self, install: UpdateInstall) -> Result<Slots, Refusal>;
    /// Stops everything, and then the machine: to start it again, or to switch it off. `Refused`
    /// where the machine is not the appliance's own.
    fn end_machine(&self, restart: bool) -> Result<(), Refusal>;
    /// All counters that somebody would watch.
    fn statistics(&self) -> Result<Statistics, Refusal>;
    /// How an object performed over time. `NotFound` where nothing is known of it.
    fn history(&self, query: &HistoryQuery) -> Result<History, Refusal>;
    /// Counters of reactors, transports and queues.
    fn counters(&self) -> Result<Counters, Refusal>;
    /// Network interfaces of the machine, by name.
    fn interfaces(&self) -> Result<Vec<Interface>, Refusal>;
    /// Alerts whose cause is there now.
    fn alerts(&self) -> Result<Vec<Alert>, Refusal>;

    /// Reads the configuration file and the certificate of the API again, as SIGHUP has it done.
    fn reload(&self) -> Result<Reloaded, Refusal>;
    /// Takes over the alerts of the API itself, such as that of its certificate. Those that it told of
    /// before are over, unless they are among these.
    fn set_api_alerts(&self, alerts: Vec<Alert>);

    /// Devices that are attached, by name.
    fn devices(&self) -> Result<Vec<Device>, Refusal>;
    /// One device.
    fn device(&self, device: &Name) -> Result<Device, Refusal>;
    /// Attaches a device.
    fn attach_device(&self, request: DeviceAttach) -> Result<Made<Device>, Refusal>;
    /// Lets go of a device that nobody uses. A file stays.
    fn detach_device(&self, device: &Name) -> Result<(), Refusal>;
    /// Looks at a device's size again.
    fn rescan_device(&self, device: &Name) -> Result<Device, Refusal>;

    /// What the NVMe drive below a device says of its health. `NotFound` for other devices.
    fn device_health(&self, device: &Name) -> Result<DriveHealth, Refusal>;
    /// NVMe drives of the machine, attached or not, by address.
    fn drives(&self) -> Result<Vec<Drive>, Refusal>;
    /// Formats a namespace of a drive. `InUse` while a device of it is attached or the machine uses
    /// it; `Refused` if it is not empty, or that cannot be told, and `force` is not given.
    fn format_drive(&self, drive: &DriveAddress, request: DriveFormat) -> Result<Job, Refusal>;
    /// Sanitizes a drive; likewise.
    fn sanitize_drive(&self, drive: &DriveAddress, request: DriveSanitize) -> Result<Job, Refusal>;

    /// Pools that are imported, by name.
    fn pools(&self) -> Result<Vec<Pool>, Refusal>;
    /// One pool.
    fn pool(&self, pool: &Name) -> Result<Pool, Refusal>;
    /// Makes a pool. `Refused` if a device holds data and `force` is not given.
    fn create_pool(&self, request: PoolCreate) -> Result<Made<Pool>, Refusal>;
    /// Pools on attached devices that are not imported.
    fn importable_pools(&self) -> Result<Vec<ImportablePool>, Refusal>;
    /// Brings in a pool.
    fn import_pool(&self, request: PoolImport) -> Result<Made<Pool>, Refusal>;
    /// Lets go of a pool, so that another machine can import it. `InUse` while hosts are connected
    /// to its volumes, unless forced.
    fn export_pool(&self, pool: &Name, force: bool) -> Result<(), Refusal>;
    /// Deletes a pool. `InUse` while it has volumes.
    fn delete_pool(&self, pool: &Name) -> Result<(), Refusal>;
    /// Says whether its devices are given back what nobody needs, from now on.
    fn set_discard(&self, pool: &Name, request: DiscardSet) -> Result<Pool, Refusal>;
    /// Makes it one of the newest format. Earlier releases do not open it then.
    fn upgrade_pool(&self, pool: &Name) -> Result<Pool, Refusal>;
    /// Adds a device.
    fn add_device(&self, pool: &Name, request: DeviceAdd) -> Result<Made<PoolDevice>, Refusal>;
    /// One device of a pool.
    fn pool_device(&self, pool: &Name, number: u32) -> Result<PoolDevice, Refusal>;
    /// Takes in what a device has grown.
    fn grow_device(&self, pool: &Name, number: u32) -> Result<PoolDevice, Refusal>;
    /// Moves the data of a device to the others.
    fn drain_device(&self, pool: &Name, number: u32) -> Result<Job, Refusal>;
    /// Takes a device that holds nothing out of its pool. `InUse` while it holds data.
    fn remove_device(&self, pool: &Name, number: u32) -> Result<(), Refusal>;

    /// Volumes of a pool, or of all, by name.
    fn volumes(&self, pool: Option<&Name>) -> Result<Vec<Volume>, Refusal>;
    /// One volume.
    fn volume(&self, volume: &VolumeRef) -> Result<Volume, Refusal>;
    /// Makes a volume and exports it.
    fn create_volume(&self, pool: &Name, request: VolumeCreate) -> Result<Made<Volume>, Refusal>;
    /// Deletes a volume. `InUse` while a host is connected to it, unless forced, and while it has
    /// snapshots.
    fn delete_volume(&self, volume: &VolumeRef, force: bool) -> Result<(), Refusal>;
    /// Renames a volume. The name of its own subsystem stays until it is exported anew.
    fn rename_volume(&self, volume: &VolumeRef, request: Rename) -> Result<Volume, Refusal>;
    /// Resizes a volume. `Refused` if it would shrink and `may_shrink` is not given.
    fn resize_volume(&self, volume: &VolumeRef, request: Resize) -> Result<Volume, Refusal>;
    /// Sets its limits, at once.
    fn set_limits(&self, volume: &VolumeRef, limits: Limits) -> Result<Volume, Refusal>;
    /// Exports it, or exports it otherwise. Hosts that stay allowed stay connected.
    fn export_volume(&self, volume: &VolumeRef, request: ExportSet) -> Result<Volume, Refusal>;
    /// Exports it no more.
    fn unexport_volume(&self, volume: &VolumeRef) -> Result<(), Refusal>;
    /// What to type on a host.
    fn connect_info(&self, volume: &VolumeRef) -> Result<ConnectInfo, Refusal>;
    /// Brings a volume back to one of its snapshots. `InUse` while a host is connected, unless
    /// forced.
    fn roll_back(&self, volume: &VolumeRef, request: RollBack) -> Result<Volume, Refusal>;
    /// Turns the line between a clone and its origin round. `Refused` for a volume that is no clone.
    fn promote(&self, volume: &VolumeRef) -> Result<PromoteOutcome, Refusal>;

    /// Snapshots of a pool, of a volume if one is named, by volume and time.
    fn snapshots(&self, pool: &Name, volume: Option<&Name>) -> Result<Vec<Snapshot>, Refusal>;
    /// One snapshot.
    fn snapshot(&self, snapshot: &SnapshotRef) -> Result<Snapshot, Refusal>;
    /// Takes a snapshot.
    fn create_snapshot(
        &self,
        volume: &VolumeRef,
        request: SnapshotCreate,
    ) -> Result<Made<Snapshot>, Refusal>;
    /// Takes a snapshot of many volumes at one instant: of all or of none. `Exists` if one of them
    /// has a snapshot of that name.
    fn create_group_snapshot(
        &self,
        pool: &Name,
        request: GroupSnapshotCreate,
    ) -> Result<Vec<Snapshot>, Refusal>;
    /// Deletes a snapshot, also one that has clones. `InUse` while a host is connected to it.
    fn delete_snapshot(&self, snapshot: &SnapshotRef) -> Result<(), Refusal>;
    /// Clones a snapshot into a volume of the same pool.
    fn clone_snapshot(
        &self,
        snapshot: &SnapshotRef,
        request: VolumeClone,
    ) -> Result<Made<Volume>, Refusal>;
    /// Exports a snapshot, read only.
    fn export_snapshot(
        &self,
        snapshot: &SnapshotRef,
        request: ExportSet,
    ) -> Result<Snapshot, Refusal>;
    /// Exports it no more.
    fn unexport_snapshot(&self, snapshot: &SnapshotRef) -> Result<(), Refusal>;
    /// What to type on a host.
    fn snapshot_connect_info(&self, snapshot: &SnapshotRef) -> Result<ConnectInfo, Refusal>;

    /// Subsystems, by name.
    fn subsystems(&self) -> Result<Vec<Subsystem>, Refusal>;
    /// One subsystem.
    fn subsystem(&self, nqn: &Nqn) -> Result<Subsystem, Refusal>;
    /// What each host that is connected did in a subsystem, by host.
    fn subsystem_statistics(&self, nqn: &Nqn) -> Result<Vec<HostStatistics>, Refusal>;
    /// Makes a subsystem.
    fn create_subsystem(&self, request: SubsystemCreate) -> Result<Made<Subsystem>, Refusal>;
    /// Deletes a subsystem. `InUse` while it has namespaces.
    fn delete_subsystem(&self, nqn: &Nqn) -> Result<(), Refusal>;
    /// Lets a host connect. A subsystem that was open to any host is `Refused`.
    fn add_host(&self, nqn: &Nqn, request: HostAdd) -> Result<Subsystem, Refusal>;
    /// Lets a host connect no more, and disconnects it.
    fn remove_host(&self, nqn: &Nqn, host: &HostNqn) -> Result<Subsystem, Refusal>;
    /// Adds a namespace.
    fn add_namespace(&self, nqn: &Nqn, request: NamespaceAdd) -> Result<Made<Namespace>, Refusal>;
    /// Removes a namespace.
    fn remove_namespace(&self, nqn: &Nqn, nsid: u32) -> Result<(), Refusal>;

    /// Hosts that are listed somewhere or connected, by name.
    fn hosts(&self) -> Result<Vec<Host>, Refusal>;
    /// One host.
    fn host(&self, host: &HostNqn) -> Result<Host, Refusal>;
    /// Controllers that are connected.
    fn controllers(&self) -> Result<Vec<Controller>, Refusal>;
    /// One controller.
    fn controller(&self, nqn: &Nqn, cntlid: u16) -> Result<Controller, Refusal>;

    /// Listeners.
    fn listeners(&self) -> Result<Vec<Listener>, Refusal>;
    /// One listener.
    fn listener(&self, transport: Fabric, address: Address) -> Result<Listener, Refusal>;
    /// Listens on an address.
    fn create_listener(&self, request: ListenerCreate) -> Result<Made<Listener>, Refusal>;
    /// Listens there no more. Connections that are open stay.
    fn delete_listener(&self, transport: Fabric, address: Address) -> Result<(), Refusal>;

    /// Jobs: those under way, and those that ended a while ago, newest last.
    fn jobs(&self) -> Result<Vec<Job>, Refusal>;
    /// One job.
    fn job(&self, id: u64) -> Result<Job, Refusal>;
    /// Ends a job that drains a device: the device stays in its pool, and what has moved stays where
    /// it is. `Refused` for a job that has ended, for one that reclaims space: what was deleted is
    /// gone, and without the job its space would be nobody's, and for drives that erase themselves.
    fn cancel_job(&self, id: u64) -> Result<Job, Refusal>;

    /// Makes what is declared so, or says what it would do. Stops at the first thing that is
    /// refused: what was done before stays and applying again goes on from there.
    fn apply(&self, declaration: Declaration, dry_run: bool) -> Result<Applied, Refusal>;
    /// What is there, as a declaration.
    fn declaration(&self) -> Result<Declaration, Refusal>;
}
