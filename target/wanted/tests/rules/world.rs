//! Pools and hosts as the rules see them, and random requests.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use uuid::Uuid;
use wanted::{
    Change, Declared, Device, DeviceSpec, ListenAt, Listener, Namespace, Pool, Request, Seen,
    SeenVolume, Shown, Source, Subsystem, Wanted,
};
use webui_model::{
    Address, DeviceAttach, DiscardMode, ExportSet, Fabric, HostNqn, Limits, ListenerCreate, Name,
    NamespaceAdd, NamespaceSource, Nqn, PoolCreate, SnapshotRef, SubsystemCreate, VolumeClone,
    VolumeCreate, VolumeRef,
};

pub const CONFIGURED: &str = "nqn.2026-01.org.example:configured";
const SHARED: [&str; 3] =
    ["nqn.2026-01.org.example:one", "nqn.2026-01.org.example:two", CONFIGURED];
const HOSTS: [&str; 2] = ["nqn.2026-01.org.example:h0", "nqn.2026-01.org.example:h1"];
pub const POOLS: [&str; 2] = ["p0", "p1"];
const VOLUMES: [&str; 3] = ["a", "b", "c"];
const SNAPSHOTS: [&str; 2] = ["s", "t"];
const DEVICES: [&str; 5] = ["d0", "d1", "d2", "ram", "slow"];
const ADDRESSES: [&str; 4] = ["10.0.0.1:1", "0.0.0.0:1", "[::]:1", "127.0.0.1:2"];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct FakeVolume {
    pub uuid: Uuid,
    pub snapshots: Vec<String>,
    pub origin: Option<(String, String)>,
}

/// What lies in pools, wherever they are, and which hosts are connected.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub volumes: BTreeMap<String, BTreeMap<String, FakeVolume>>,
    pub hosts: BTreeMap<String, Vec<String>>,
    pub api: Option<SocketAddr>,
}

impl Seen for World {
    fn volume(&self, pool: &str, volume: &str) -> Option<SeenVolume> {
        let found = self.volumes.get(pool)?.get(volume)?;
        Some(SeenVolume {
            uuid: found.uuid,
            bytes: 1 << 20,
            block_bytes: 4096,
            thick: false,
            limits: Limits::default(),
            origin: found.origin.clone(),
        })
    }

    fn has_snapshot(&self, pool: &str, volume: &str, snapshot: &str) -> bool {
        self.snapshots(pool, volume).iter().any(|name| name == snapshot)
    }

    fn snapshots(&self, pool: &str, volume: &str) -> Vec<String> {
        let found = self.volumes.get(pool).and_then(|volumes| volumes.get(volume));
        found.map(|volume| volume.snapshots.clone()).unwrap_or_default()
    }

    fn volumes(&self, pool: &str, most: usize) -> (usize, Vec<String>) {
        let Some(volumes) = self.volumes.get(pool) else { return (0, Vec::new()) };
        (volumes.len(), volumes.keys().take(most).cloned().collect())
    }

    fn hosts(&self, nqn: &str) -> Vec<String> {
        self.hosts.get(nqn).cloned().unwrap_or_default()
    }

    fn api(&self) -> Option<SocketAddr> {
        self.api
    }
}

/// What the configuration declares.
pub fn configured() -> Wanted {
    let mut wanted = Wanted::default();
    let memory = DeviceSpec::Memory { bytes: 1 << 20, block_bytes: 4096 };
    let slow = DeviceSpec::Delay { base: "ram".into(), read_us: 1, write_us: 1 };
    let device = |name: &str, spec| wanted::Item::Device(Device { name: name.into(), spec });
    let nqn = CONFIGURED.to_owned();
    let subsystem = Subsystem {
        nqn: nqn.clone(),
        serial: Some("S".into()),
        own: false,
        hosts: [HOSTS[0].to_owned()].into(),
        allow_any_host: false,
    };
    let source = Source::Device { name: "slow".into() };
    let namespace = Namespace { subsystem: nqn, nsid: 2, uuid: Uuid::from_u128(1), source };
    let address = "127.0.0.1:2".parse().unwrap();
    let listener = Listener { address, discovery_only: false, transport: Fabric::Tcp };
    for item in [
        device("ram", memory),
        device("slow", slow),
        wanted::Item::Subsystem(subsystem),
        wanted::Item::Namespace(namespace),
        wanted::Item::Listener(listener),
    ] {
        assert!(wanted.add(Declared::configured(item)));
    }
    wanted
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn at(pool: usize, volume: usize) -> VolumeRef {
    VolumeRef { pool: name(POOLS[pool]), volume: name(VOLUMES[volume]) }
}

pub fn snapshot_at(pool: usize, volume: usize, snapshot: usize) -> SnapshotRef {
    let VolumeRef { pool, volume } = at(pool, volume);
    SnapshotRef { pool, volume, snapshot: name(SNAPSHOTS[snapshot]) }
}

fn hosts(bits: usize) -> Vec<HostNqn> {
    (0..2).filter(|bit| bits >> bit & 1 == 1).map(|bit| HOSTS[bit].parse().unwrap()).collect()
}

fn set(kind: usize) -> ExportSet {
    match kind {
        0..3 => {
            ExportSet { subsystem: Some(SHARED[kind].parse().unwrap()), ..ExportSet::default() }
        }
        3 => ExportSet { allow_any_host: true, ..ExportSet::default() },
        4 => ExportSet {
            subsystem: Some(Nqn::of_volume(&name(POOLS[0]), &name(VOLUMES[0]))),
            ..ExportSet::default()
        },
        _ => ExportSet { hosts: hosts(kind), ..ExportSet::default() },
    }
}

fn source(kind: usize, pool: usize, volume: usize, snapshot: usize) -> NamespaceSource {
    match kind % 3 {
        0 => NamespaceSource::Volume(at(pool, volume)),
        1 => NamespaceSource::Snapshot(snapshot_at(pool, volume, snapshot)),
        _ => NamespaceSource::Device(name(DEVICES[(kind + volume) % 5])),
    }
}

pub fn create_volume(pool: usize, volume: usize, set: &ExportSet, uuid: Uuid) -> Request {
    let create = VolumeCreate {
        name: name(VOLUMES[volume]),
        bytes: 1 << 20,
        block_bytes: None,
        thick: false,
        limits: Limits::default(),
        subsystem: set.subsystem.clone(),
        hosts: set.hosts.clone(),
        allow_any_host: set.allow_any_host,
    };
    Request::CreateVolume { pool: POOLS[pool].into(), create, uuid }
}

/// Random requests, after some that lay a ground: devices, pools, a subsystem, a volume.
pub fn requests(most: usize) -> impl Strategy<Value = Vec<Request>> {
    let device = |number: usize| {
        let (name, bytes) = (Some(name(DEVICES[number])), Some(1 << 20));
        Request::AttachDevice(DeviceAttach { name, bytes, ..DeviceAttach::default() })
    };
    let ground = [
        device(0),
        device(1),
        create_pool(0, false),
        create_pool(1, true),
        Request::CreateSubsystem(SubsystemCreate {
            nqn: SHARED[0].parse().unwrap(),
            hosts: hosts(1),
            allow_any_host: false,
        }),
        create_volume(0, 0, &set(3), Uuid::from_u128(100)),
    ];
    prop::collection::vec(request(), 1..most)
        .prop_map(move |random| [&ground[..], &random].concat())
}

/// A pool that is made again is the same one: as if it were imported.
fn create_pool(pool: usize, discard: bool) -> Request {
    Request::CreatePool {
        create: PoolCreate {
            name: name(POOLS[pool]),
            devices: Vec::new(),
            force: false,
            discard: discard.then_some(DiscardMode::On),
        },
        devices: vec![DEVICES[pool].into()],
        uuid: Uuid::from_u128(pool as u128 + 10),
    }
}

/// A random request to a subsystem or a listener.
fn of_subsystem(
    kind: usize,
    nqn: String,
    (pool, volume, snapshot, how): (usize, usize, usize, usize),
    force: bool,
    uuid: Uuid,
) -> Request {
    match kind {
        12 | 13 => Request::CreateSubsystem(SubsystemCreate {
            nqn: SHARED[volume].parse().unwrap(),
            hosts: hosts(how),
            allow_any_host: hosts(how).is_empty(),
        }),
        14 => Request::DeleteSubsystem(nqn),
        15 => Request::AddHost { nqn, host: HOSTS[pool].parse().unwrap() },
        16 => Request::RemoveHost { nqn, host: HOSTS[pool].parse().unwrap() },
        17 | 18 => Request::AddNamespace {
            nqn,
            add: NamespaceAdd {
                source: source(kind + how, pool, volume, snapshot),
                nsid: force.then_some(how as u32),
            },
            uuid,
        },
        19 => Request::RemoveNamespace { nqn, nsid: how as u32 },
        20 => Request::CreateListener(ListenerCreate {
            transport: Fabric::Tcp,
            address: Address(ADDRESSES[how % 4].parse().unwrap()),
            discovery_only: force,
        }),
        _ => Request::DeleteListener {
            transport: Fabric::Tcp,
            address: Address(ADDRESSES[how % 4].parse().unwrap()),
        },
    }
}

/// A random request. UUIDs are numbers that are not used twice, but now and then.
fn request() -> impl Strategy<Value = Request> {
    let numbers = (0..28_usize, 0..2_usize, 0..3_usize, 0..2_usize, 0..8_usize, 0..u128::MAX);
    (numbers, any::<bool>()).prop_map(|((kind, pool, volume, snapshot, how, number), force)| {
        let uuid = Uuid::from_u128(number | 1 << 64);
        let of = POOLS[pool].to_owned();
        let shown = match force {
            true => Shown::Volume(at(pool, volume)),
            false => Shown::Snapshot(snapshot_at(pool, volume, snapshot)),
        };
        let nqn = match how {
            0..3 => SHARED[how].to_owned(),
            _ => Nqn::of_volume(&name(&of), &name(VOLUMES[volume])).to_string(),
        };
        match kind {
            0..5 => create_volume(pool, volume, &set(how), uuid),
            5 => Request::CloneSnapshot {
                snapshot: snapshot_at(pool, volume, snapshot),
                clone: VolumeClone {
                    name: name(VOLUMES[how % 3]),
                    limits: Limits::default(),
                    subsystem: None,
                    hosts: Vec::new(),
                    allow_any_host: true,
                },
                uuid,
            },
            6 => Request::DeleteVolume { volume: at(pool, volume), force },
            7..10 => Request::Export { what: shown, set: set(how), uuid },
            10 => Request::Unexport(shown),
            11 => Request::DeleteSnapshot(snapshot_at(pool, volume, snapshot)),
            12..22 => of_subsystem(kind, nqn, (pool, volume, snapshot, how), force, uuid),
            22 => Request::AttachDevice(DeviceAttach {
                name: Some(name(DEVICES[how % 5])),
                bytes: Some(1 << 20),
                ..DeviceAttach::default()
            }),
            23 => Request::DetachDevice(DEVICES[how % 5].into()),
            24 => Request::ExportPool { pool: of, force },
            25 => Request::SetDiscard {
                pool: of,
                mode: if force { DiscardMode::On } else { DiscardMode::Off },
            },
            _ => create_pool(pool, force),
        }
    })
}

impl World {
    /// What a request that was carried out does to pools: as the pool would.
    pub fn carry_out(&mut self, request: &Request) {
        match request {
            Request::CreateVolume { pool, create, uuid } => {
                let volumes = self.volumes.entry(pool.clone()).or_default();
                let new = FakeVolume { uuid: *uuid, ..FakeVolume::default() };
                let volume = volumes.entry(create.name.to_string()).or_insert(new);
                // So that there are some.
                if volume.snapshots.is_empty() && create.allow_any_host {
                    volume.snapshots.push(SNAPSHOTS[0].into());
                }
            }
            Request::CloneSnapshot { snapshot, clone, uuid } => {
                let volumes = self.volumes.entry(snapshot.pool.to_string()).or_default();
                let origin = Some((snapshot.volume.to_string(), snapshot.snapshot.to_string()));
                let new = FakeVolume { uuid: *uuid, snapshots: Vec::new(), origin };
                volumes.entry(clone.name.to_string()).or_insert(new);
            }
            Request::DeleteVolume { volume, .. } => {
                if let Some(volumes) = self.volumes.get_mut(volume.pool.as_str()) {
                    volumes.remove(volume.volume.as_str());
                }
            }
            Request::DeleteSnapshot(at) => {
                let volumes = self.volumes.entry(at.pool.to_string()).or_default();
                if let Some(volume) = volumes.get_mut(at.volume.as_str()) {
                    volume.snapshots.retain(|name| name != at.snapshot.as_str());
                }
            }
            _ => {}
        }
    }

    /// Whether what a namespace shows is there.
    pub fn has(&self, source: &Source) -> bool {
        match source {
            Source::Device { .. } => true,
            Source::Volume { pool, uuid, .. } => {
                self.volumes.get(pool).is_some_and(|all| all.values().any(|v| v.uuid == *uuid))
            }
            Source::Snapshot { pool, uuid, snapshot, .. } => {
                self.volumes.get(pool).is_some_and(|all| {
                    all.values().any(|v| v.uuid == *uuid && v.snapshots.contains(snapshot))
                })
            }
        }
    }
}

/// Whether what is wanted is whole: a sentence, if not.
pub fn broken(wanted: &Wanted) -> Option<String> {
    for namespace in wanted.namespaces() {
        let Namespace { subsystem, nsid, source, .. } = &namespace.item;
        if wanted.subsystem(subsystem).is_none() {
            return Some(format!("namespace {nsid} is in {subsystem}, which is not there"));
        }
        let shown = wanted.namespace_of(source).map(|one| (&one.subsystem, one.nsid));
        if shown != Some((subsystem, *nsid)) {
            return Some(format!("{source} is namespace {nsid} of {subsystem}, and {shown:?}"));
        }
        if !(1..=wanted::NAMESPACES).contains(nsid) {
            return Some(format!("{source} has number {nsid}"));
        }
        match source {
            Source::Device { name } if wanted.device(name).is_none() => {
                return Some(format!("{source} is shown, and not there"));
            }
            Source::Volume { pool, .. } | Source::Snapshot { pool, .. }
                if wanted.pool(pool).is_none() =>
            {
                return Some(format!("{source} is shown, and its pool is not there"));
            }
            _ => {}
        }
    }
    for subsystem in wanted.subsystems().filter(|subsystem| subsystem.own) {
        let number = wanted.namespaces_of(&subsystem.nqn).count();
        if number != 1 {
            return Some(format!("{} is one's own and has {number} namespaces", subsystem.nqn));
        }
    }
    for pool in wanted.pools() {
        if let Some(device) = pool.devices.iter().find(|name| wanted.device(name).is_none()) {
            return Some(format!("pool {} is on {device}, which is not there", pool.name));
        }
    }
    beside(wanted)
}

/// Two listeners of which one takes in the other.
fn beside(wanted: &Wanted) -> Option<String> {
    let all: Vec<ListenAt> = wanted.listeners().map(|listener| listener.at()).collect();
    let addresses = || all.iter().map(|at| at.address);
    for one in &all {
        let leaves = wanted::leaves_ipv4(one.address, addresses());
        if let Some(two) = addresses().find(|two| wanted::takes_in(one.address, leaves, *two)) {
            return Some(format!("{one} takes in {two}"));
        }
    }
    None
}

/// Whether a change can be carried out on what runs: a sentence, if not.
pub fn obstacle(running: &Wanted, change: &Change) -> Option<String> {
    let lacks = |source: &Source| match source {
        Source::Device { name } => running.device(name).is_none(),
        Source::Volume { pool, .. } | Source::Snapshot { pool, .. } => running.pool(pool).is_none(),
    };
    match change {
        Change::Device(step) => match &step.to {
            None => user(running, &step.item().name),
            Some(device) => {
                let base = device.spec.base().filter(|base| running.device(base).is_none());
                base.map(|base| format!("{} stands on {base}", device.name))
            }
        },
        Change::Pool(step) => {
            let Pool { name, devices, .. } = step.item();
            let missing = devices.iter().find(|device| running.device(device).is_none());
            match (step.is_end(), running.exports_of(name).next(), missing) {
                (true, Some(shown), _) => Some(format!("{} is shown", shown.source)),
                (false, _, Some(device)) => Some(format!("pool {name} has no {device}")),
                _ => None,
            }
        }
        Change::Subsystem(step) if step.is_end() => {
            let shown = running.namespaces_of(&step.item().nqn).next();
            shown.map(|shown| format!("{} shows {}", shown.subsystem, shown.source))
        }
        Change::Namespace(step) if !step.is_end() => {
            let Namespace { subsystem, source, .. } = step.item();
            let no_subsystem = running.subsystem(subsystem).is_none();
            (no_subsystem || lacks(source)).then(|| format!("{source} in {subsystem}"))
        }
        _ => None,
    }
}

fn user(running: &Wanted, device: &str) -> Option<String> {
    let of_pool = running.pools().find(|pool| pool.devices.iter().any(|name| name == device));
    running.user_of(device).or_else(|| of_pool.map(|pool| pool.name.clone()))
}
