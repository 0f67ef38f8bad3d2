//! An appliance in memory: the rules of pools, volumes, snapshots, subsystems and jobs, without
//! devices, hosts and data.

mod control;
mod declare;
mod drives;
mod exports;
mod pools;
mod snapshots;
mod volumes;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard};
use webui_model::*;

pub const MIB: u64 = 1 << 20;

#[derive(Clone)]
pub struct DeviceState {
    pub kind: DeviceKind,
    pub path: Option<String>,
    pub bytes: u64,
    /// Holds data that is not ours.
    pub foreign: bool,
    pub pool: Option<PoolMember>,
}

#[derive(Clone)]
pub struct MemberDevice {
    pub device: Name,
    pub bytes: u64,
    pub state: MemberState,
}

#[derive(Clone)]
pub struct SnapshotState {
    pub bytes: u64,
    pub order: u64,
}

#[derive(Clone)]
pub struct VolumeState {
    pub uuid: String,
    pub bytes: u64,
    pub block_bytes: u32,
    pub thick: bool,
    pub limits: Limits,
    /// The volume and snapshot it was cloned from.
    pub origin: Option<(Name, Name)>,
    pub snapshots: BTreeMap<Name, SnapshotState>,
}

#[derive(Clone)]
pub struct PoolState {
    pub uuid: String,
    pub imported: bool,
    pub members: BTreeMap<u32, MemberDevice>,
    pub next_number: u32,
    pub discard: DiscardMode,
    pub volumes: BTreeMap<Name, VolumeState>,
}

#[derive(Clone)]
pub struct SubsystemState {
    pub own: bool,
    pub hosts: Vec<HostNqn>,
    pub any: bool,
    pub namespaces: BTreeMap<u32, (String, NamespaceSource)>,
}

/// Everything the appliance knows; cloned to try a declaration.
#[derive(Clone, Default)]
pub struct State {
    pub devices: BTreeMap<Name, DeviceState>,
    pub pools: BTreeMap<Name, PoolState>,
    pub subsystems: BTreeMap<Nqn, SubsystemState>,
    pub controllers: BTreeMap<(Nqn, u16), HostNqn>,
    pub listeners: BTreeMap<(Fabric, Address), bool>,
    pub jobs: BTreeMap<u64, Job>,
    pub counter: u64,
    /// Bytes of an update that have come, and whether one is in the other slot.
    pub staged: u64,
    pub installed: bool,
    /// What was done, to be published.
    pub happened: Vec<(EventKind, Object, String)>,
}

impl State {
    pub fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub fn uuid(&mut self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.next())
    }

    pub fn tell(&mut self, kind: EventKind, what: ObjectKind, name: impl ToString, says: &str) {
        let object = Object::new(what, name.to_string());
        let message = format!("{object} {says}.");
        self.happened.push((kind, object, message));
    }
}

/// The appliance.
pub struct Appliance {
    state: Mutex<State>,
    log: EventLog,
    pub ready: Mutex<Ready>,
    /// What the API said of itself.
    pub api_alerts: Mutex<Vec<Alert>>,
    /// Called before each change.
    pub before_change: Mutex<Option<Box<dyn Fn() + Send>>>,
    /// How often it was asked whether it is ready; each answer waits for `ready`.
    pub asked: AtomicU64,
}

impl Appliance {
    pub fn new() -> Self {
        let ready = Ready { ready: true, reason: "It serves.".into() };
        Self {
            state: Mutex::default(),
            log: EventLog::new(256, 1_000),
            ready: Mutex::new(ready),
            api_alerts: Mutex::default(),
            before_change: Mutex::default(),
            asked: AtomicU64::new(0),
        }
    }

    /// One with memory devices `d0` to `d3`, a pool, a volume, a snapshot, a clone, a host that is
    /// connected, a listener and a job.
    pub fn furnished() -> Self {
        use webui_model::Control;
        let appliance = Self::new();
        let declaration = Declaration::from_toml(FURNITURE).unwrap();
        appliance.apply(declaration, false).unwrap();
        let volume = VolumeRef { pool: name("tank"), volume: name("a") };
        appliance.create_snapshot(&volume, SnapshotCreate { name: name("s") }).unwrap();
        let snapshot = SnapshotRef { pool: name("tank"), volume: name("a"), snapshot: name("s") };
        let clone = serde_json::from_str(r#"{"name": "c", "allow_any_host": true}"#).unwrap();
        appliance.clone_snapshot(&snapshot, clone).unwrap();
        appliance.connect(&Nqn::of_volume(&name("tank"), &name("a")), HOST);
        appliance.drain_device(&name("tank"), 1).unwrap();
        appliance
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A host connects to a subsystem.
    pub fn connect(&self, nqn: &Nqn, host: &str) {
        let mut state = self.lock();
        let cntlid = u16::try_from(state.next()).unwrap();
        state.controllers.insert((nqn.clone(), cntlid), host.parse().unwrap());
    }

    /// Changes the state, or leaves it as it is, and publishes what happened.
    fn change<T>(&self, how: impl FnOnce(&mut State) -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.before_change.lock().unwrap().iter().for_each(|see| see());
        let mut state = self.lock();
        let before = state.clone();
        let result = how(&mut state);
        if result.is_err() {
            *state = before;
        }
        for (kind, object, message) in std::mem::take(&mut state.happened) {
            self.log.publish(state.counter, kind, Severity::Info, object, message);
        }
        result
    }
}

pub const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001";

const FURNITURE: &str = r#"
[[device]]
name = "d0"
bytes = 1073741824
[[device]]
name = "d1"
bytes = 1073741824
[[device]]
name = "d2"
bytes = 1073741824
[[device]]
name = "d3"
bytes = 1073741824
[[pool]]
name = "tank"
devices = ["d0", "d1"]
[[pool.volume]]
name = "a"
bytes = "64MiB"
hosts = ["nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"]
[[pool.volume]]
name = "b"
bytes = "32MiB"
thick = true
block_bytes = 512
subsystem = "nqn.2026-01.org.example:shared"
[[subsystem]]
nqn = "nqn.2026-01.org.example:shared"
allow_any_host = true
[[listener]]
address = "127.0.0.1:4420"
"#;

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}
