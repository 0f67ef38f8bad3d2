//! An appliance in memory: what is asked of it is the appliance's own model with its rules (`wanted`);
//! pools, volumes, snapshots and jobs are made up, without devices, hosts and data.

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
use wanted::{DeviceSpec, Edited, Request, Seen, SeenVolume, Source, Uuid, Wanted};
use webui_model::*;

pub const MIB: u64 = 1 << 20;

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
    pub uuid: Uuid,
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
    pub uuid: Uuid,
    pub members: BTreeMap<u32, MemberDevice>,
    pub next_number: u32,
    pub volumes: BTreeMap<Name, VolumeState>,
    /// It is of the newest format.
    pub upgraded: bool,
}

/// Everything the appliance knows; cloned to try a declaration.
#[derive(Clone, Default)]
pub struct State {
    pub wanted: Wanted,
    /// What lies on devices, of pools that are not imported, too.
    pub pools: BTreeMap<Name, PoolState>,
    pub controllers: BTreeMap<(Nqn, u16), HostNqn>,
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

    pub fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(0x4000 << 64 | 0x8000 << 48 | u128::from(self.next()))
    }

    /// Asks the rules.
    pub fn ask(&mut self, request: &Request) -> Result<Edited, Refusal> {
        let edited = wanted::edit(&self.wanted, request, &*self)?;
        self.wanted = edited.wanted.clone();
        // Hosts that may not be connected any more are not.
        let wanted = &self.wanted;
        self.controllers.retain(|(nqn, _), host| {
            wanted.subsystem(nqn.as_str()).is_some_and(|subsystem| {
                subsystem.allow_any_host || subsystem.hosts.contains(host.as_str())
            })
        });
        Ok(edited)
    }

    pub fn tell(&mut self, kind: EventKind, what: ObjectKind, name: impl ToString, says: &str) {
        let object = Object::new(what, name.to_string());
        let message = format!("{object} {says}.");
        self.happened.push((kind, object, message));
    }
}

impl Seen for State {
    fn volume(&self, pool: &str, volume: &str) -> Option<SeenVolume> {
        let found = self.pools.get(&name(pool))?.volumes.get(&name(volume))?;
        let origin = found.origin.as_ref().map(|(v, s)| (v.to_string(), s.to_string()));
        let VolumeState { uuid, bytes, block_bytes, thick, limits, .. } = *found;
        Some(SeenVolume { uuid, bytes, block_bytes, thick, limits, origin })
    }

    fn has_snapshot(&self, pool: &str, volume: &str, snapshot: &str) -> bool {
        Seen::snapshots(self, pool, volume).iter().any(|name| name == snapshot)
    }

    fn snapshots(&self, pool: &str, volume: &str) -> Vec<String> {
        let pool = self.pools.get(&name(pool));
        let volume = pool.and_then(|pool| pool.volumes.get(&name(volume)));
        volume.map_or_else(Vec::new, |volume| {
            volume.snapshots.keys().map(ToString::to_string).collect()
        })
    }

    fn volumes(&self, pool: &str, most: usize) -> (usize, Vec<String>) {
        let Some(pool) = self.pools.get(&name(pool)) else { return (0, Vec::new()) };
        (pool.volumes.len(), pool.volumes.keys().take(most).map(ToString::to_string).collect())
    }

    fn hosts(&self, nqn: &str) -> Vec<String> {
        let here = self.controllers.iter().filter(|((of, _), _)| of.as_str() == nqn);
        here.map(|(_, host)| host.to_string()).collect()
    }

    fn device_at(&self, place: &DeviceRef) -> Option<String> {
        let is_it = |spec: &DeviceSpec| spec.place().as_deref() == Some(place.as_str());
        let mut devices = self.wanted.devices();
        devices.find(|device| is_it(&device.spec)).map(|device| device.name.clone())
    }

    fn device_bytes(&self, device: &str) -> Option<u64> {
        self.bytes_of(device)
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

/// Something exported as the rules know it.
pub fn source_of(source: &NamespaceSource, uuid: Uuid) -> Source {
    match source.clone() {
        NamespaceSource::Volume(v) => {
            Source::Volume { pool: v.pool.into(), uuid, name: v.volume.into() }
        }
        NamespaceSource::Snapshot(s) => Source::Snapshot {
            pool: s.pool.into(),
            uuid,
            name: s.volume.into(),
            snapshot: s.snapshot.into(),
        },
        NamespaceSource::Device(name) => Source::Device { name: name.into() },
    }
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}
