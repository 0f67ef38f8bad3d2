//! What a declaration asks for, checked as a whole.

use crate::world::{World, configured};
use std::collections::BTreeSet;
use wanted::{Act, Pool, Request, Shown, Uuid, Wanted, edit, plan};
use webui_model::{Declaration, DeviceRef, RefusalKind, VolumeRef};

const DECLARED: &str = r#"
[[device]]
name = "d0"
bytes = 1048576
[[pool]]
name = "p0"
devices = ["d0"]
discard = "on"
[[pool.volume]]
name = "a"
bytes = "1MiB"
hosts = ["nqn.2026-01.org.example:h0"]
[[pool.volume]]
name = "b"
bytes = "1MiB"
subsystem = "nqn.2026-01.org.example:one"
[[pool.volume]]
name = "c"
bytes = "1MiB"
exported = false
[[subsystem]]
nqn = "nqn.2026-01.org.example:one"
allow_any_host = true
[[subsystem.namespace]]
source = { device = "d9" }
nsid = 9
[[device]]
name = "d9"
bytes = 1048576
[[listener]]
address = "10.0.0.1:1"
"#;

struct Desk {
    wanted: Wanted,
    world: World,
    made: u128,
}

impl Desk {
    fn new() -> Desk {
        Desk { wanted: configured(), world: World::default(), made: 1 << 70 }
    }

    fn plan(&self, text: &str) -> Result<Vec<wanted::Planned>, webui_model::Refusal> {
        let declaration = Declaration::from_toml(text).unwrap();
        plan(&self.wanted, &declaration, &self.world, &BTreeSet::new())
    }

    fn ask(&mut self, request: Request) {
        let edited = edit(&self.wanted, &request, &self.world);
        self.wanted = edited.unwrap_or_else(|why| panic!("{request:?}: {why}")).wanted;
        self.world.carry_out(&request);
    }

    /// Carries a step out, as the appliance would.
    fn perform(&mut self, act: Act) {
        self.made += 1;
        let uuid = Uuid::from_u128(self.made);
        let shown = |volume: VolumeRef| Shown::Volume(volume);
        match act {
            Act::AttachDevice(attach) => self.ask(Request::AttachDevice(attach)),
            Act::CreateSubsystem(create) => self.ask(Request::CreateSubsystem(create)),
            Act::SetHosts(set) => self.ask(Request::SetHosts(set)),
            Act::CreatePool(create) => {
                let devices = create.devices.iter().map(DeviceRef::to_string).collect();
                self.ask(Request::CreatePool { create, devices, uuid });
            }
            Act::SetDiscard(pool, mode) => {
                self.ask(Request::SetDiscard { pool: pool.to_string(), mode });
            }
            Act::AddDevice(pool, add) => {
                let there = self.wanted.pool(pool.as_str()).unwrap().item.clone();
                let devices = [&there.devices[..], &[add.device.to_string()]].concat();
                self.ask(Request::KeepPool(Pool { devices, ..there }));
            }
            Act::CreateVolume(pool, create, exported) => {
                let volume = VolumeRef { pool, volume: create.name.clone() };
                self.ask(Request::CreateVolume { pool: volume.pool.to_string(), create, uuid });
                if !exported {
                    self.ask(Request::Unexport(shown(volume)));
                }
            }
            Act::ExportVolume(volume, set) => {
                self.ask(Request::Export { what: shown(volume), set, uuid });
            }
            Act::UnexportVolume(volume) => self.ask(Request::Unexport(shown(volume))),
            Act::AddNamespace(nqn, add) => {
                self.ask(Request::AddNamespace { nqn: nqn.to_string(), add, uuid });
            }
            Act::CreateListener(create) => self.ask(Request::CreateListener(create)),
            act @ (Act::ImportPool(_) | Act::ResizeVolume(..) | Act::SetLimits(..)) => {
                panic!("{act:?} changes nothing that is wanted")
            }
        }
    }

    /// Makes what is declared so.
    fn apply(&mut self, text: &str) -> Vec<String> {
        let planned = self.plan(text).unwrap();
        let said = planned.iter().map(|step| step.change.message.clone()).collect();
        planned.into_iter().for_each(|step| self.perform(step.act));
        said
    }
}

#[test]
fn what_was_applied_is_as_declared() {
    let mut desk = Desk::new();
    let said = desk.apply(DECLARED);
    assert_eq!(said.len(), 9, "{said:#?}");
    assert_eq!(desk.plan(DECLARED).unwrap(), []);
    assert!(desk.wanted.namespace("nqn.2026-01.org.example:one", 9).is_some());
    let c = desk.world.volumes["p0"]["c"].uuid;
    assert_eq!(desk.wanted.exports_of_volume("p0", c).count(), 0);
}

#[test]
fn changes_say_from_what_and_to_what() {
    let mut desk = Desk::new();
    desk.apply(DECLARED);
    let other = DECLARED
        .replace("discard = \"on\"", "discard = \"off\"")
        .replace("allow_any_host = true", "hosts = [\"nqn.2026-01.org.example:h1\"]")
        .replace("subsystem = \"nqn.2026-01.org.example:one\"\n[[pool.volume]]", "[[pool.volume]]")
        .replace(
            "\"nqn.2026-01.org.example:h0\"]",
            "\"nqn.2026-01.org.example:h0\", \"nqn.2026-01.org.example:h1\"]",
        )
        .replace(
            "name = \"c\"\nbytes = \"1MiB\"\nexported = false",
            "name = \"c\"\nbytes = \"1MiB\"",
        );
    let planned = desk.plan(&other).unwrap();
    let values = planned.iter().map(|step| {
        let value = |text: &Option<String>| text.clone().unwrap_or_default();
        (value(&step.change.from), value(&step.change.to))
    });
    let expected = [
        ("any host", "nqn.2026-01.org.example:h1"),
        ("on", "off"),
        (
            "exported to nqn.2026-01.org.example:h0",
            "exported to nqn.2026-01.org.example:h0, nqn.2026-01.org.example:h1",
        ),
        ("exported in nqn.2026-01.org.example:one", "exported to no host"),
        ("not exported", "exported to no host"),
    ];
    let expected = expected.map(|(from, to)| (from.to_owned(), to.to_owned()));
    assert_eq!(values.collect::<Vec<_>>(), expected);
    assert!(planned[1].change.message.contains("changes from on to off"), "{planned:?}");
    desk.apply(&other);
    assert_eq!(desk.plan(&other).unwrap(), []);
    assert!(!desk.plan(DECLARED).unwrap().is_empty());
}

/// Whatever is in the way, wherever it stands, is found before anything is done.
#[test]
fn what_cannot_be_is_found_before_anything_is_done() {
    use RefusalKind::{Exists, InUse, NotFound, Refused};
    let desk = Desk::new();
    let with = |more: &str| desk.plan(&format!("{DECLARED}\n{more}"));
    assert_eq!(with("").unwrap().len(), 9);
    for (more, kind, says) in [
        ("[[listener]]\naddress = \"0.0.0.0:1\"", InUse, "one of the addresses"),
        (
            "[[listener]]\naddress = \"127.0.0.1:2\"\ndiscovery_only = true",
            Exists,
            "listens already",
        ),
        (
            "[[subsystem]]\nnqn = \"nqn.2026-01.org.example:two\"\n[[subsystem.namespace]]\n\
             source = { device = \"d0\" }",
            InUse,
            "in use by pool",
        ),
        (
            "[[subsystem]]\nnqn = \"nqn.2026-01.org.example:two\"\n[[subsystem.namespace]]\n\
             source = { volume = { pool = \"p0\", volume = \"a\" } }",
            InUse,
            "already",
        ),
        (
            "[[subsystem]]\nnqn = \"nqn.2026-01.org.example:configured\"\nallow_any_host = true",
            Refused,
            "change it there",
        ),
        ("[[pool]]\nname = \"p1\"\ndevices = [\"d0\"]", InUse, "in use by pool"),
        ("[[pool]]\nname = \"p1\"\ndevices = [\"d7\"]", NotFound, "no device d7"),
        ("[[device]]\nname = \"ram\"\nbytes = 4194304", Exists, "Device ram is there already"),
        (
            "[[pool]]\nname = \"p1\"\ndevices = [\"d9\"]\n[[pool.volume]]\nname = \"x\"\n\
             bytes = \"1MiB\"\nsubsystem = \"nqn.2026-01.org.example:none\"",
            NotFound,
            "no subsystem",
        ),
    ] {
        let refusal = with(more).expect_err(more);
        assert!(refusal.kind == kind && refusal.message.contains(says), "{more}: {refusal:?}");
    }
}

#[test]
fn a_volume_never_shrinks_unless_that_is_said_and_its_blocks_never_change() {
    let mut desk = Desk::new();
    desk.apply(DECLARED);
    let larger =
        DECLARED.replace("name = \"a\"\nbytes = \"1MiB\"", "name = \"a\"\nbytes = \"2MiB\"");
    let planned = desk.plan(&larger).unwrap();
    assert_eq!(planned[0].change.message, "Volume p0/a grows from 1MiB to 2MiB.");
    let smaller = larger.replace("2MiB", "512KiB");
    let refusal = desk.plan(&smaller).unwrap_err();
    assert!(refusal.message.contains("say may_shrink"), "{refusal}");
    let blocks = DECLARED.replace("name = \"a\"\n", "name = \"a\"\nblock_bytes = 512\n");
    let refusal = desk.plan(&blocks).unwrap_err();
    assert!(refusal.message.contains("that never changes"), "{refusal}");
}

/// A pool that is on the devices is imported; what is in it is known only then.
#[test]
fn a_pool_that_is_on_devices_is_imported_first() {
    let mut desk = Desk::new();
    desk.apply(DECLARED);
    desk.ask(Request::ExportPool { pool: "p0".into(), force: false });
    let declaration = Declaration::from_toml(DECLARED).unwrap();
    let found = BTreeSet::from(["p0".to_owned()]);
    let planned = plan(&desk.wanted, &declaration, &desk.world, &found).unwrap();
    assert!(matches!(planned[0].act, Act::ImportPool(_)), "{planned:?}");
    assert_eq!(planned.len(), 4, "the volumes as if there were none: {planned:?}");
    // Once it is here there is nothing to do.
    let gone = desk.wanted.gone_pools().next().unwrap().item.clone();
    let known = Pool {
        name: "p0".into(),
        uuid: gone.uuid,
        devices: vec!["d0".into()],
        identities: gone.identities,
        discard: gone.discard,
    };
    desk.ask(Request::KeepPool(known));
    assert_eq!(desk.plan(DECLARED).unwrap(), []);
}
