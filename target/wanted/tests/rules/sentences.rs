//! Why something is refused, kind and sentence.

use crate::world::{
    CONFIGURED, FakeVolume, World, at, configured, create_volume, name, snapshot_at,
};
use uuid::Uuid;
use wanted::{Edited, Request, Seen, Shown, Wanted, edit};
use webui_model::{
    DeviceAttach, ExportSet, Fabric, ListenerCreate, NamespaceAdd, NamespaceSource, PoolCreate,
    Refusal, RefusalKind, SubsystemCreate,
};

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

struct Desk {
    wanted: Wanted,
    world: World,
}

impl Desk {
    /// A pool of one device with a volume, its snapshot, and both exported.
    fn new() -> Desk {
        let mut desk = Desk { wanted: configured(), world: World::default() };
        let bytes = Some(1 << 20);
        let attach = DeviceAttach { name: Some(name("d0")), bytes, ..DeviceAttach::default() };
        desk.good(Request::AttachDevice(attach));
        desk.good(pool("p0", &["d0"]));
        desk.good(create_volume(0, 0, &ExportSet::default(), id(20)));
        let volume =
            FakeVolume { uuid: id(20), snapshots: vec!["s".into()], ..FakeVolume::default() };
        desk.world.volumes.insert("p0".into(), [("a".to_owned(), volume)].into());
        desk
    }

    fn ask(&self, request: &Request) -> Result<Edited, Refusal> {
        edit(&self.wanted, request, &self.world)
    }

    fn good(&mut self, request: Request) {
        let edited = self.ask(&request).unwrap_or_else(|why| panic!("{request:?}: {why}"));
        self.wanted = edited.wanted;
    }

    #[track_caller]
    fn bad(&self, request: Request, kind: RefusalKind, says: &str) {
        let refusal = self.ask(&request).expect_err("it is refused");
        assert_eq!(refusal.kind, kind, "{refusal}");
        assert_eq!(refusal.message, says);
    }
}

fn pool(of: &str, devices: &[&str]) -> Request {
    let create = PoolCreate { name: name(of), devices: vec![], force: false, discard: None };
    let devices = devices.iter().map(ToString::to_string).collect();
    Request::CreatePool { create, devices, uuid: id(10) }
}

fn subsystem(nqn: &str, any: bool) -> SubsystemCreate {
    SubsystemCreate { nqn: nqn.parse().unwrap(), hosts: vec![], allow_any_host: any }
}

fn in_subsystem(nqn: &str) -> ExportSet {
    ExportSet { subsystem: Some(nqn.parse().unwrap()), ..ExportSet::default() }
}

const OWN: &str = "nqn.2026-01.io.forebay:p0:a";
const OTHER: &str = "nqn.2026-01.org.example:other";

#[test]
fn volumes_and_exports() {
    let desk = Desk::new();
    use RefusalKind::{Exists, NotFound, Refused};
    let volume = Shown::Volume(at(0, 0));
    let export = |what: &Shown, set| Request::Export { what: what.clone(), set, uuid: id(99) };
    desk.bad(
        create_volume(0, 0, &ExportSet { allow_any_host: true, ..ExportSet::default() }, id(21)),
        Exists,
        "Volume p0/a is there already, and only hosts that are listed may connect.",
    );
    desk.bad(create_volume(1, 0, &ExportSet::default(), id(21)), NotFound, "There is no pool p1.");
    desk.bad(
        export(&Shown::Volume(at(0, 1)), ExportSet::default()),
        NotFound,
        "Pool p0 has no volume b.",
    );
    desk.bad(
        export(&volume, in_subsystem(OTHER)),
        NotFound,
        "There is no subsystem nqn.2026-01.org.example:other.",
    );
    desk.bad(
        create_volume(0, 1, &in_subsystem(OWN), id(21)),
        Refused,
        "Subsystem nqn.2026-01.io.forebay:p0:a is that of one volume or snapshot: make another one \
         for several.",
    );
}

#[test]
fn what_is_in_use_is_not_deleted() {
    let mut desk = Desk::new();
    use RefusalKind::{Exists, InUse, NotFound, Refused};
    let snapshot = Shown::Snapshot(snapshot_at(0, 0, 0));
    desk.bad(Request::Unexport(snapshot), NotFound, "The snapshot p0/a@s is not exported.");
    desk.bad(
        Request::Unexport(Shown::Snapshot(snapshot_at(0, 0, 1))),
        NotFound,
        "Volume p0/a has no snapshot t.",
    );
    let delete = |force| Request::DeleteVolume { volume: at(0, 0), force };
    desk.bad(delete(true), InUse, "Volume p0/a has 1 snapshot (s): delete it first.");
    desk.world.volumes.get_mut("p0").unwrap().get_mut("a").unwrap().snapshots.clear();
    desk.world.hosts.insert(OWN.into(), vec!["nqn.2026-01.org.example:h0".into()]);
    desk.bad(
        delete(false),
        InUse,
        "nqn.2026-01.org.example:h0 is connected to volume p0/a: disconnect it there, or force the \
         deletion.",
    );
    desk.bad(
        Request::ExportPool { pool: "p0".into(), force: false },
        InUse,
        "nqn.2026-01.org.example:h0 is connected to volume p0/a: disconnect it there, or force the \
         export.",
    );
    assert!(desk.ask(&delete(true)).unwrap().wanted.subsystem(OWN).is_none());
    desk.bad(
        Request::DeletePool("p0".into()),
        InUse,
        "Pool p0 has 1 volume (a): delete them first.",
    );
    desk.bad(
        Request::Promote(at(0, 0)),
        Refused,
        "Volume p0/a is no clone: there is nothing to take over.",
    );
    // What keeps its own subsystem under a new name stands in the way of the next of that name.
    let names = [(id(20), "z".to_owned())].into();
    desk.good(Request::LearnNames { pool: "p0".into(), names });
    desk.world.volumes.get_mut("p0").unwrap().clear();
    desk.bad(
        create_volume(0, 0, &ExportSet::default(), id(21)),
        Exists,
        "There is a subsystem nqn.2026-01.io.forebay:p0:a already, of something else: export volume \
         p0/a in it or in another one by naming it.",
    );
}

#[test]
fn what_the_configuration_declares_is_changed_there() {
    let desk = Desk::new();
    let refused = RefusalKind::Refused;
    let host = "nqn.2026-01.org.example:h1".parse().unwrap();
    let of = || CONFIGURED.to_owned();
    desk.bad(
        Request::DetachDevice("ram".into()),
        refused,
        "The configuration file declares device ram: take it out there.",
    );
    desk.bad(
        Request::AddHost { nqn: of(), host },
        refused,
        "The configuration file says who may connect to nqn.2026-01.org.example:configured: change \
         it there.",
    );
    desk.bad(
        Request::RemoveNamespace { nqn: of(), nsid: 2 },
        refused,
        "The configuration file declares namespace 2 of nqn.2026-01.org.example:configured: take it \
         out there.",
    );
    desk.bad(
        Request::DeleteSubsystem(of()),
        RefusalKind::InUse,
        "Subsystem nqn.2026-01.org.example:configured shows device slow: remove its namespaces \
         first.",
    );
    let address = "127.0.0.1:2".parse().unwrap();
    desk.bad(
        Request::DeleteListener { transport: Fabric::Tcp, address },
        refused,
        "127.0.0.1:2 comes from the configuration file or the command line: take it out there.",
    );
}

#[test]
fn subsystems_devices_and_pools() {
    let mut desk = Desk::new();
    use RefusalKind::{Exists, InUse, NotFound, Refused};
    desk.good(Request::CreateSubsystem(subsystem(OTHER, true)));
    desk.bad(
        Request::CreateSubsystem(subsystem(OTHER, false)),
        Exists,
        "Subsystem nqn.2026-01.org.example:other is there already, and any host may connect.",
    );
    desk.bad(
        Request::CreateSubsystem(subsystem(wanted::DISCOVERY_NQN, false)),
        Exists,
        "That is the name of the discovery subsystem.",
    );
    desk.bad(
        Request::AddHost { nqn: OTHER.into(), host: "nqn.2026-01.org.example:h1".parse().unwrap() },
        Refused,
        "Subsystem nqn.2026-01.org.example:other is open to any host: close it first, by listing \
         its hosts.",
    );
    let add = |source, nsid| {
        let add = NamespaceAdd { source, nsid };
        Request::AddNamespace { nqn: OTHER.into(), add, uuid: id(30) }
    };
    let device = |of| NamespaceSource::Device(name(of));
    desk.bad(add(device("dx"), None), NotFound, "There is no device dx.");
    desk.bad(
        add(device("d0"), None),
        InUse,
        "The device d0 cannot be exported: bdev \"d0\" is in use by pool \"p0\".",
    );
    desk.bad(
        add(device("ram"), None),
        InUse,
        "The device ram cannot be exported: bdev \"ram\" is in use by bdev \"slow\".",
    );
    desk.bad(
        add(NamespaceSource::Volume(at(0, 0)), None),
        InUse,
        "The volume p0/a is namespace 1 of nqn.2026-01.io.forebay:p0:a already.",
    );
}

#[test]
fn what_is_there_otherwise_is_not_made_again() {
    let mut desk = Desk::new();
    use RefusalKind::{Exists, InUse, NotFound};
    desk.good(Request::CreateSubsystem(subsystem(OTHER, true)));
    let source = NamespaceSource::Snapshot(snapshot_at(0, 0, 0));
    let add = NamespaceAdd { source, nsid: Some(7) };
    desk.good(Request::AddNamespace { nqn: OTHER.into(), add, uuid: id(30) });
    desk.bad(
        Request::DeleteSubsystem(OTHER.into()),
        InUse,
        "Subsystem nqn.2026-01.org.example:other shows snapshot p0/a@s: remove its namespaces first.",
    );
    let nqn = || OTHER.to_owned();
    desk.bad(
        Request::RemoveNamespace { nqn: nqn(), nsid: 8 },
        NotFound,
        "nqn.2026-01.org.example:other has no namespace 8.",
    );
    desk.bad(Request::DetachDevice("d0".into()), InUse, "Device d0 is in use by pool \"p0\".");
    desk.bad(
        pool("p0", &["d1"]),
        Exists,
        "There is a pool p0 already, and it is on other devices: d0.",
    );
    desk.bad(
        pool("p1", &["d1"]),
        NotFound,
        "There is no device d1: attach it first, or give its path.",
    );
    let attach =
        DeviceAttach { name: Some(name("d0")), bytes: Some(2 << 20), ..DeviceAttach::default() };
    desk.bad(
        Request::AttachDevice(attach),
        Exists,
        "Device d0 is there already, and it has 1.00 MiB.",
    );
}

/// A pool that is wanted, and not imported.
struct Away;

impl Seen for Away {
    fn pool_away(&self, _: &str) -> Option<String> {
        Some("its device is missing.".into())
    }
}

#[test]
fn what_is_in_a_pool_that_is_away_waits_for_it() {
    let desk = Desk::new();
    let away = |request| edit(&desk.wanted, &request, &Away).unwrap_err();
    let says = "Pool p0 is not imported: its device is missing.";
    for request in [
        create_volume(0, 1, &ExportSet::default(), id(40)),
        Request::Unexport(Shown::Volume(at(0, 0))),
        Request::DeletePool("p0".into()),
    ] {
        let refusal = away(request);
        assert_eq!((refusal.kind, refusal.message.as_str()), (RefusalKind::Unavailable, says));
    }
    assert_eq!(
        away(Request::DetachDevice("d0".into())).message,
        "Device d0 is part of pool p0, which waits for it: export the pool first."
    );
    // It can be let go of, and comes back as it was.
    let request = Request::ExportPool { pool: "p0".into(), force: false };
    let gone = edit(&desk.wanted, &request, &Away).unwrap().wanted;
    assert!(gone.pool("p0").is_none() && gone.subsystem(OWN).is_none());
    let there = desk.wanted.pool("p0").unwrap().item.clone();
    let back = edit(&gone, &Request::KeepPool(there), &()).unwrap().wanted;
    assert_eq!(back, desk.wanted);
}

#[test]
fn listeners_stand_in_each_others_way() {
    let mut desk = Desk::new();
    let listen = |address: &str, discovery_only| {
        let address = address.parse().unwrap();
        Request::CreateListener(ListenerCreate { transport: Fabric::Tcp, address, discovery_only })
    };
    desk.good(listen("0.0.0.0:4420", false));
    desk.bad(
        listen("0.0.0.0:4420", true),
        RefusalKind::Exists,
        "0.0.0.0:4420 listens already, and serves every subsystem: delete that listener first.",
    );
    desk.bad(
        listen("10.0.0.1:4420", false),
        RefusalKind::InUse,
        "0.0.0.0:4420, where this appliance listens already, takes in what comes to 10.0.0.1:4420: \
         there is nothing to add. For a listener of its own choose another port.",
    );
    desk.good(listen("[::1]:4420", false));
    desk.bad(
        listen("[::]:4420", false),
        RefusalKind::InUse,
        "This appliance listens on [::1]:4420 already, which is one of the addresses of [::]:4420: \
         delete that listener first, or choose another port.",
    );
    desk.world.api = Some("127.0.0.1:4480".parse().unwrap());
    desk.bad(
        listen("0.0.0.0:4480", false),
        RefusalKind::InUse,
        "127.0.0.1:4480 is where the API of this appliance is: choose another port.",
    );
    let address = "10.9.9.9:1".parse().unwrap();
    desk.bad(
        Request::DeleteListener { transport: Fabric::Tcp, address },
        RefusalKind::NotFound,
        "Nothing listens on tcp 10.9.9.9:1.",
    );
}
