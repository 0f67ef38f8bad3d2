//! Killed between what is wanted and what is done for it: what was noted is carried out at the next
//! start, or says why not, and what was being made and is not there leaves nothing behind.

use crate::appliance::{Appliance, PATIENCE, at, host, name, new_volume, open_to_all, snapshot_at};
use crate::host::Host;
use std::path::Path;
use std::time::Instant;
use wanted::{FileStore, Ledger, Request, Seen, SeenVolume, Shown, Uuid, Wanted};
use webui_model::{
    Address, Control, DiscardMode, ExportSet, Fabric, Limits, ListenerCreate, PoolImport, Status,
    SubsystemCreate,
};

const MIB: u64 = 1 << 20;
const SHARED: &str = "nqn.2026-01.org.example:shared";

/// What ran when it was killed: volumes by name.
struct Ran(Vec<(&'static str, Uuid)>);

impl Seen for Ran {
    fn volume(&self, _pool: &str, volume: &str) -> Option<SeenVolume> {
        let (_, uuid) = self.0.iter().find(|(name, _)| *name == volume)?;
        Some(SeenVolume {
            uuid: *uuid,
            bytes: 8 * MIB,
            block_bytes: 4096,
            thick: false,
            limits: Limits::default(),
            origin: None,
        })
    }
}

/// Notes what is asked for, as an appliance does that is killed then.
fn note(folder: &Path, ran: &Ran, requests: &[Request]) {
    let store = Box::new(FileStore::new(folder));
    let ledger = Ledger::open(store, |_| Ok(Wanted::default())).unwrap();
    for request in requests {
        let edited = ledger.edit(request, ran).unwrap();
        assert!(!edited.is_as_before(), "{request:?}");
    }
}

/// Stops an appliance, notes what is asked for, and starts it again.
fn cut(mut node: Appliance, ran: &Ran, requests: &[Request]) -> Appliance {
    let (dir, address) = (node.dir.clone(), node.address);
    node.stop();
    note(dir.path(), ran, requests);
    let node = Appliance::start(dir, address);
    let until = Instant::now() + PATIENCE;
    while !node.alerts().unwrap().is_empty() {
        assert!(Instant::now() < until, "{:?}", node.alerts());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    node
}

fn volume(node: &Appliance, volume: &'static str) -> (&'static str, Uuid) {
    let shown = node.make_volume("tank", volume, 8 * MIB);
    (volume, shown.uuid.parse().unwrap())
}

fn subsystem() -> SubsystemCreate {
    SubsystemCreate { nqn: SHARED.parse().unwrap(), hosts: vec![], allow_any_host: true }
}

#[test]
fn what_was_noted_is_carried_out_at_the_next_start() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 128 * MIB);
    let ran = Ran(vec![volume(&node, "a"), volume(&node, "b"), volume(&node, "c")]);
    node.unexport_volume(&at("tank", "b")).unwrap();
    let address = "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap();
    let free = std::net::TcpListener::bind(address).unwrap().local_addr().unwrap();
    let export = |volume: &str, set| Request::Export {
        what: Shown::Volume(at("tank", volume)),
        set,
        uuid: Uuid::nil(),
    };
    let within = ExportSet { subsystem: Some(SHARED.parse().unwrap()), ..ExportSet::default() };
    let listener =
        ListenerCreate { transport: Fabric::Tcp, address: Address(free), discovery_only: false };
    let node = cut(
        node,
        &ran,
        &[
            Request::CreateSubsystem(subsystem()),
            Request::Unexport(Shown::Volume(at("tank", "a"))),
            export("b", open_to_all()),
            // From a subsystem of its own to one for several.
            export("c", within),
            Request::CreateListener(listener),
            Request::SetDiscard { pool: "tank".into(), mode: DiscardMode::Off },
        ],
    );
    let exports = |volume| node.volume(&at("tank", volume)).unwrap().export;
    assert_eq!(exports("a"), None);
    assert!(exports("b").is_some_and(|export| export.own && export.allow_any_host));
    assert_eq!(exports("c").unwrap().subsystem.as_str(), SHARED);
    assert_eq!(node.subsystems().unwrap().len(), 2, "that of c alone is gone");
    assert_eq!(node.pool(&name("tank")).unwrap().discard, DiscardMode::Off);
    for (nqn, nsid) in [("nqn.2026-01.io.forebay:tank:b", 1), (SHARED, 1)] {
        let mut host = Host::connect(free, nqn, nsid);
        host.write(1, 0, MIB);
        host.end();
    }
    let why = Host::with(crate::host::options(free, "nqn.2026-01.io.forebay:tank:a", 5), 1).err();
    assert!(why.is_some(), "what was unexported is not there");

    // And back: what goes away is not there either.
    let mut others = subsystem();
    (others.hosts, others.allow_any_host) = (vec![host("nqn.2026-01.org.example:h")], false);
    let node = cut(
        node,
        &ran,
        &[
            Request::SetHosts(others),
            Request::RemoveNamespace { nqn: SHARED.into(), nsid: 1 },
            Request::DeleteListener { transport: Fabric::Tcp, address: Address(free) },
            Request::DeleteVolume { volume: at("tank", "b"), force: true },
        ],
    );
    assert_eq!(node.listeners().unwrap().len(), 1);
    let shared = node.subsystem(&SHARED.parse().unwrap()).unwrap();
    assert!(shared.namespaces.is_empty() && shared.hosts.len() == 1 && !shared.allow_any_host);
    // It was not deleted yet: it is there, nobody sees it, and it can be deleted.
    assert_eq!(node.volume(&at("tank", "b")).unwrap().status, Status::Offline);
    node.delete_volume(&at("tank", "b"), false).unwrap();
}

#[test]
fn what_was_noted_and_never_made_is_forgotten() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 128 * MIB);
    node.create_subsystem(subsystem()).unwrap();
    let ran = Ran(Vec::new());
    let create = |volume: &str, subsystem: Option<&str>| {
        let mut create = new_volume(volume, 8 * MIB);
        create.subsystem = subsystem.map(|nqn| nqn.parse().unwrap());
        create.allow_any_host = subsystem.is_none();
        Request::CreateVolume { pool: "tank".into(), create, uuid: Uuid::from_u128(7) }
    };
    let node = cut(node, &ran, &[create("v", None)]);
    assert!(node.volumes(None).unwrap().is_empty());
    assert_eq!(node.subsystems().unwrap().len(), 1, "its own one is gone");
    let node = cut(node, &ran, &[create("v", Some(SHARED))]);
    assert!(node.subsystem(&SHARED.parse().unwrap()).unwrap().namespaces.is_empty());
    // The same is made as if nothing had been.
    node.make_volume("tank", "v", 8 * MIB);
    let node = node.again();
    assert_eq!(node.volumes(None).unwrap().len(), 1);
}

/// A pool that was exported, but for the note of it, comes back; a device that was detached does not.
#[test]
fn what_was_done_and_not_noted_is_as_it_was() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    node.make_volume("tank", "v", 8 * MIB);
    let spare = node.make("b.img", 64 * MIB);
    let attach = webui_model::DeviceAttach { path: Some(spare), ..Default::default() };
    node.attach_device(attach).unwrap();
    let log = std::fs::read(node.file("wanted.log")).unwrap();
    node.export_pool(&name("tank"), false).unwrap();
    let mut node = node;
    node.stop();
    std::fs::write(node.file("wanted.log"), log).unwrap();
    let node = Appliance::start(node.dir.clone(), node.address);
    node.eventually("the pool is back", |node| {
        node.pool(&name("tank")).is_ok_and(|pool| pool.status == Status::Ok)
    });
    assert!(node.volume(&at("tank", "v")).unwrap().export.is_some());
    let node = cut(node, &Ran(Vec::new()), &[Request::DetachDevice("b.img".into())]);
    assert_eq!(node.devices().unwrap().len(), 1);
    let spare = node.make("b.img", 64 * MIB);
    node.attach_device(webui_model::DeviceAttach { path: Some(spare), ..Default::default() })
        .unwrap();
}

/// Snapshots that a clone took over are found, though that was not noted.
#[test]
fn a_snapshot_that_was_taken_over_is_exported_still() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    node.make_volume("tank", "v", 8 * MIB);
    let create = webui_model::SnapshotCreate { name: name("s") };
    node.create_snapshot(&at("tank", "v"), create).unwrap();
    let of = snapshot_at("tank", "v", "s");
    node.export_snapshot(&of, open_to_all()).unwrap();
    let clone = webui_model::VolumeClone {
        name: name("c"),
        limits: Limits::default(),
        subsystem: None,
        hosts: Vec::new(),
        allow_any_host: true,
    };
    node.clone_snapshot(&of, clone).unwrap();
    let log = std::fs::read(node.file("wanted.log")).unwrap();
    node.promote(&at("tank", "c")).unwrap();
    let mut node = node;
    node.stop();
    std::fs::write(node.file("wanted.log"), log).unwrap();
    let node = Appliance::start(node.dir.clone(), node.address);
    let export = node.snapshot(&snapshot_at("tank", "c", "s")).unwrap().export;
    assert!(export.is_some_and(|export| export.allow_any_host));
}

/// What a state file of an earlier version says is what is wanted.
#[test]
fn a_state_file_of_an_earlier_version_is_taken_over_and_left() {
    let mut node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    let made = node.make_volume("tank", "v", 8 * MIB);
    let pool = node.pool(&name("tank")).unwrap().uuid;
    node.stop();
    let path = node.file("a.img");
    let export = made.export.unwrap();
    let (uuid, nqn) = (made.uuid, export.subsystem);
    let text = format!(
        r#"{{"version":1,
            "devices":[{{"name":"a.img","place":{{"path":"{}"}}}}],
            "pools":[{{"name":"tank","uuid":"{pool}","devices":["a.img"]}}],
            "subsystems":[{{"nqn":"{nqn}","own":true,"hosts":[],"allow_any_host":true}}],
            "namespaces":[{{"subsystem":"{nqn}","nsid":1,"uuid":"{uuid}",
                "source":{{"volume":{{"pool":"tank","uuid":"{uuid}","name":"v"}}}}}}],
            "listeners":[]}}"#,
        path.display()
    );
    std::fs::remove_file(node.file("wanted.log")).unwrap();
    std::fs::write(node.file("state.json"), &text).unwrap();
    let node = Appliance::start(node.dir.clone(), node.address);
    let mut host = Host::connect(node.address, nqn.as_str(), 1);
    host.write(1, 0, MIB);
    host.end();
    node.export_pool(&name("tank"), true).unwrap();
    let node = node.again();
    assert!(node.pools().unwrap().is_empty(), "what was changed since counts");
    assert_eq!(
        std::fs::read_to_string(node.file("state.json")).unwrap(),
        text,
        "it stays as it is"
    );
    node.import_pool(PoolImport { name: Some(name("tank")), ..PoolImport::default() }).unwrap();
    // An older program that ran since has changed its own file: that is the last word then.
    let mut node = node;
    node.stop();
    let older = text.replace(r#""allow_any_host":true"#, r#""allow_any_host":false"#);
    std::fs::write(node.file("state.json"), older).unwrap();
    let node = Appliance::start(node.dir.clone(), node.address);
    assert!(!node.subsystem(&nqn).unwrap().allow_any_host);
    assert!(node.file("wanted.log.before").exists());
}
