//! What can be asked for.

use crate::Source;
use crate::item::{Device, Pool};
use std::collections::BTreeMap;
use uuid::Uuid;
use webui_model::{
    DeviceAttach, DiscardMode, ExportSet, Fabric, HostNqn, ListenerCreate, NamespaceAdd,
    PoolCreate, SnapshotRef, SubsystemCreate, VolumeClone, VolumeCreate, VolumeRef,
};

/// What is exported: a volume or a snapshot, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A volume.
    Volume(VolumeRef),
    /// A snapshot, read only.
    Snapshot(SnapshotRef),
}

/// Something that is asked for. UUIDs that something new gets come with it.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Attach a device. What is not known before it is open, a drive's serial number, is added with
    /// [`Request::KeepDevice`].
    AttachDevice(DeviceAttach),
    /// Note a device that was opened just now.
    KeepDevice(Device),
    /// Let go of a device that nobody uses.
    DetachDevice(String),
    /// Make a pool of these devices, by name. What is known of it once it is made is added with
    /// [`Request::KeepPool`].
    CreatePool {
        /// As it was asked for.
        create: PoolCreate,
        /// The names of its devices.
        devices: Vec<String>,
        /// What it is known by.
        uuid: Uuid,
    },
    /// Note a pool that was made or imported just now, or what it is on by now. How it was exported
    /// when it was here before is wanted again, but for what has taken its place.
    KeepPool(Pool),
    /// Add a device to a pool. What is known of it by then is added with [`Request::KeepPool`].
    AddDevice {
        /// Which pool.
        pool: String,
        /// The device's name.
        device: String,
    },
    /// Let go of a pool; with force also while hosts are connected.
    ExportPool {
        /// Which.
        pool: String,
        /// Whatever hosts do.
        force: bool,
    },
    /// Delete a pool without volumes.
    DeletePool(String),
    /// Say whether a pool's devices are given back what nobody needs.
    SetDiscard {
        /// Which pool.
        pool: String,
        /// Which devices.
        mode: DiscardMode,
    },
    /// Make a volume and export it.
    CreateVolume {
        /// Where.
        pool: String,
        /// What.
        create: VolumeCreate,
        /// What it is known by.
        uuid: Uuid,
    },
    /// Make a volume of a snapshot and export it.
    CloneSnapshot {
        /// Which snapshot.
        snapshot: SnapshotRef,
        /// What.
        clone: VolumeClone,
        /// What the volume is known by.
        uuid: Uuid,
    },
    /// Delete a volume; with force also while hosts are connected.
    DeleteVolume {
        /// Which.
        volume: VolumeRef,
        /// Whatever hosts do.
        force: bool,
    },
    /// Bring a volume back to one of its snapshots; with force also while hosts are connected.
    RollBack {
        /// Which.
        volume: VolumeRef,
        /// Its snapshot.
        snapshot: String,
        /// Whatever hosts do.
        force: bool,
    },
    /// Turn the line between a clone and its origin round.
    Promote(VolumeRef),
    /// Snapshots are another volume's now.
    MoveSnapshots {
        /// The pool of both.
        pool: String,
        /// The volume that had them.
        from: Uuid,
        /// The volume that has them, and its name.
        to: (Uuid, String),
        /// Their names.
        snapshots: Vec<String>,
    },
    /// Volumes of a pool have these names now.
    LearnNames {
        /// The pool.
        pool: String,
        /// By UUID.
        names: BTreeMap<Uuid, String>,
    },
    /// Delete a snapshot that no host is connected to.
    DeleteSnapshot(SnapshotRef),
    /// Export something so, however it is exported now.
    Export {
        /// What.
        what: Shown,
        /// How.
        set: ExportSet,
        /// What hosts know a snapshot by; a volume has a UUID.
        uuid: Uuid,
    },
    /// Export something no more.
    Unexport(Shown),
    /// What a namespace shows is gone: the namespace goes, if there is one.
    Forget(Source),
    /// Make a subsystem.
    CreateSubsystem(SubsystemCreate),
    /// Say who may connect to a subsystem: these and no others.
    SetHosts(SubsystemCreate),
    /// The configuration says now who may connect to a subsystem that it declares.
    SetConfiguredHosts {
        /// Which.
        nqn: String,
        /// Hosts that may connect.
        hosts: Vec<String>,
        /// Any host may.
        allow_any_host: bool,
    },
    /// Delete a subsystem without namespaces.
    DeleteSubsystem(String),
    /// Let a host connect.
    AddHost {
        /// To which subsystem.
        nqn: String,
        /// Which host.
        host: HostNqn,
    },
    /// Let a host connect no more.
    RemoveHost {
        /// To which subsystem.
        nqn: String,
        /// Which host.
        host: HostNqn,
    },
    /// Add a namespace to a subsystem.
    AddNamespace {
        /// Which.
        nqn: String,
        /// What it shows.
        add: NamespaceAdd,
        /// What hosts know it by, unless it is a volume, which has a UUID.
        uuid: Uuid,
    },
    /// Remove a namespace from a subsystem.
    RemoveNamespace {
        /// Which subsystem.
        nqn: String,
        /// Its number there.
        nsid: u32,
    },
    /// Listen on an address.
    CreateListener(ListenerCreate),
    /// Listen there no more.
    DeleteListener {
        /// The fabric.
        transport: Fabric,
        /// The address.
        address: webui_model::Address,
    },
}
