//! The nouns of the API: its objects and requests, why something is refused, the log of events, the
//! statistics as Prometheus reads them, [`Control`], the appliance behind it, and where one of the
//! same machine says how it is reached ([`data_dir`]). The server, the command line and the appliance
//! itself speak them; of the project this crate knows the terms of NVMe only.
//!
//! Every object has a `status` for programs and a `reason` in a person's words. Capacities are in
//! bytes, times in milliseconds since 1970-01-01 UTC unless a name says otherwise.

#![forbid(unsafe_code)]

mod appliance;
mod audit_record;
mod control;
mod counters;
pub mod data_dir;
mod declaration;
mod device;
mod drive;
mod event;
mod event_log;
mod history;
mod host;
mod job;
mod listener;
mod metrics;
mod name;
mod pool;
mod refusal;
mod reloaded;
mod size;
mod snapshot;
mod statistics;
mod status;
mod subsystem;
mod token;
mod volume;
mod words;

pub use appliance::{
    Appliance, Certificate, Interface, Ready, Slot, SlotState, Slots, UpdateInstall, UpdatePiece,
};
pub use audit_record::AuditRecord;
pub use control::{Control, Made};
pub use counters::{
    BdevCounters, ConnectionCounters, ControllerCounters, Counters, NamespaceCounters,
    QueueCounters, ReactorCounters, SubsystemCounters,
};
pub use declaration::{
    Applied, Change, ChangeAction, Declaration, DeclaredPool, DeclaredSubsystem, DeclaredVolume,
};
pub use device::{Device, DeviceAttach, DeviceKind, NvmeDrive, PoolMember};
pub use drive::{
    BlockFormat, Drive, DriveError, DriveFormat, DriveHealth, DriveSanitize, FirmwareSlot,
    SanitizeAction, SecureErase,
};
pub use event::{Alert, Event, EventKind, Severity};
pub use event_log::{EventLog, EventPage};
pub use history::{History, HistoryKind, HistoryQuery};
pub use host::{Controller, ControllerQueue, Host, HostRefusal};
pub use job::{Job, JobKind, JobStatus};
pub use listener::{Listener, ListenerCreate, fabric_schema};
pub use metrics::render as render_metrics;
pub use name::{Address, DeviceRef, DriveAddress, HostNqn, Name, NameError, Nqn};
pub use nvme_spec::Fabric;
pub use pool::{
    DeviceAdd, DeviceDiscard, DiscardMode, DiscardSet, ImportablePool, MemberState, Pool,
    PoolCreate, PoolDevice, PoolImport, Space,
};
pub use refusal::{ErrorBody, Refusal, RefusalKind};
pub use reloaded::Reloaded;
pub use size::Size;
pub use snapshot::{GroupSnapshotCreate, Snapshot, SnapshotCreate, SnapshotRef};
pub use statistics::{
    DeviceStatistics, HostStatistics, IoStatistics, LatencyHistogram, PoolStatistics,
    ReactorStatistics, Statistics, VolumeStatistics,
};
pub use status::{Object, ObjectKind, Status};
pub use subsystem::{
    HostAdd, Namespace, NamespaceAdd, NamespaceSource, Subsystem, SubsystemCreate,
};
pub use token::{NewToken, Role, Session, SessionCode, Token, TokenCreate};
pub use volume::{
    ConnectAddress, ConnectInfo, Export, ExportSet, Limits, PromoteOutcome, Rename, Resize,
    RollBack, Volume, VolumeClone, VolumeCreate, VolumeRef, VolumeSpace,
};
pub use words::count;

/// The largest capacity the API takes, in bytes: 1 PiB, as much as a volume can have.
pub const MAX_BYTES: u64 = 1 << 50;
