//! What only pools of format 2 have: kinds of volumes, what layers above keep, snapshots with UUIDs,
//! orders from a reactor, hosts that are told of a loss.

use crate::journals::TapeJournals;
use crate::life::{close, make, new_volume, open, read, refused, write};
use crate::machine::{Machine, host_without_reactors, member};
use bdev::{Bdev, Home, IoFlags, Noted, Op};
use bdev_pool::{
    Cause, FORMAT_1, FORMAT_2, Held, Host, Kind, Opening, Order, Owner, Pool, Reactors, VolumeKind,
};
use std::sync::Arc;
use std::sync::mpsc;
use uuid::Uuid;

const MIB: u64 = 1 << 20;
const DEVICES: [(u64, u32); 1] = [(17 * MIB + 24 * MIB, 512)];

fn machine() -> Machine {
    Machine::of(FORMAT_2, &DEVICES, 4096)
}

fn again(machine: Machine, opening: Opening) -> Machine {
    let (rack, disks) = (machine.rack.clone(), machine.disks.clone());
    drop(machine);
    Machine::open(&rack, &disks, Vec::new(), opening).unwrap()
}

#[test]
fn format_1_has_none_of_it_and_says_what_to_do() {
    let mut machine = Machine::of(FORMAT_1, &DEVICES, 4096);
    let a = make(&mut machine, "a", MIB);
    close(&machine, a);
    let new = new_volume(&mut machine, "b", MIB);
    let says = "forebay pool upgrade tank";
    let hidden = VolumeKind { hidden: true, ..VolumeKind::default() };
    refused(machine.pool.create_volume_of(new.clone(), hidden), Kind::Refused, says);
    let change = vec![("x".to_owned(), Some(vec![1]))];
    refused(machine.pool.set_records(None, change.clone()), Kind::Refused, says);
    let snapshot = [("a".to_owned(), Uuid::from_u128(5))];
    refused(machine.pool.snapshot_as(&snapshot, "s", 0), Kind::Refused, says);
    let witness = machine.pool.volume("a").unwrap().witness().unwrap();
    assert_eq!(witness.note(1, "nqn.host"), Noted::Needless, "nobody keeps account");
    assert!(!witness.take_loss(1));
    machine.pool.upgrade(1, || Uuid::from_u128(9)).unwrap();
    assert_eq!(witness.note(1, "nqn.host"), Noted::Pending, "from the upgrade on");
    machine.turn();
    assert_eq!(witness.note(1, "nqn.host"), Noted::Yes);
    machine.pool.create_volume_of(new, hidden).unwrap();
    machine.pool.set_records(None, change).unwrap();
    machine.pool.snapshot_as(&snapshot, "s", 0).unwrap();
    let of_it = machine.pool.directory().snapshot_named("a", "s").unwrap();
    assert_eq!(of_it.uuid, Some(Uuid::from_u128(5)));
}

#[test]
fn a_hidden_volume_is_in_no_list_and_can_be_opened() {
    let mut machine = machine();
    let new = new_volume(&mut machine, "log", MIB);
    let kind = VolumeKind { hidden: true, ..VolumeKind::default() };
    machine.pool.create_volume_of(new.clone(), kind).unwrap();
    let directory = machine.pool.directory().clone();
    assert!(directory.volumes().is_empty() && directory.status().volumes.is_empty());
    assert_eq!((directory.counts(), directory.hidden()), ((0, 0), vec!["log".to_owned()]));
    let log = open(&machine, "log");
    assert!(write(&machine, log, 3, 1, 7).is_success());
    refused(machine.pool.create_volume(new), Kind::Exists, "log");
    close(&machine, log);
    machine.pool.close().unwrap();
    let machine = again(machine, Opening::default());
    assert_eq!(machine.pool.directory().hidden(), ["log"]);
    assert_eq!(read(&machine, open(&machine, "log"), 3, 1), [7]);
}

#[test]
fn a_filled_volume_has_all_its_blocks_and_keeps_them() {
    let mut machine = machine();
    let new = new_volume(&mut machine, "log", 3 * MIB);
    let kind = VolumeKind { filled: true, ..VolumeKind::default() };
    machine.pool.create_volume_of(new, kind).unwrap();
    assert_eq!(machine.pool.status().space.used, 3 * MIB);
    let log = open(&machine, "log");
    assert_eq!(read(&machine, log, 255, 3), [0, 0, 0]);
    // A write that is durable when it is answered needs no commit.
    let durable = |machine: &Machine, lba: u64| {
        let before = machine.pool.directory().condition().commits;
        let data = crate::machine::pattern(std::iter::repeat_n(lba, 8));
        let mut reactor = machine.reactor.lock().unwrap();
        reactor.ask(log, Op::Write, IoFlags::FUA, (lba, 1, 4096), &data);
        drop(reactor);
        machine.settle();
        let ended = machine.reactor.lock().unwrap().ended.pop().unwrap();
        assert!(ended.status.is_success());
        assert_eq!(machine.pool.directory().condition().commits, before, "no commit");
    };
    durable(&machine, 5);
    for (op, lba, blocks) in
        [(Op::Deallocate, 0, 768), (Op::WriteZeroes, 0, 300), (Op::WriteZeroes, 256, 512)]
    {
        assert!(machine.one(log, op, (lba, blocks, 4096), &[]).status.is_success());
        durable(&machine, 600);
    }
    assert_eq!(read(&machine, log, 4, 3), [0, 0, 0], "they are zeros");
    assert_eq!(machine.pool.status().space.used, 3 * MIB, "none is given up");
    refused(machine.pool.snapshot(&["log".to_owned()], "s", 0), Kind::Invalid, "filled");
    refused(machine.pool.resize_volume("log", 4 * MIB, false), Kind::Invalid, "filled");
    let large = new_volume(&mut machine, "large", 300 * MIB);
    refused(machine.pool.create_volume_of(large.clone(), kind), Kind::Full, "MiB");
    let large = bdev_pool::NewVolume { bytes: 22 * MIB, ..large };
    refused(machine.pool.create_volume_of(large, kind), Kind::Full, "MiB");
    assert_eq!(machine.pool.status().space.used, 3 * MIB);
    close(&machine, log);
    machine.pool.close().unwrap();
    let machine = again(machine, Opening::default());
    assert_eq!(machine.pool.status().space.used, 3 * MIB);
    assert_eq!(read(&machine, open(&machine, "log"), 600, 1), [600]);
}

struct Four;

impl Reactors for Four {
    fn count(&self) -> usize {
        4
    }

    fn wake(&self, _reactor: usize) {}

    fn add_child(&self, _: &Arc<dyn Bdev>, _: &Arc<dyn Bdev>) -> Result<(), String> {
        Ok(())
    }

    fn remove_child(&self, _: &Arc<dyn Bdev>, _: &Arc<dyn Bdev>) {}
}

#[test]
fn a_volume_lives_where_it_was_wished() {
    let mut machine = machine();
    for (name, home) in [("a", None), ("b", Some(2)), ("c", None), ("d", Some(2)), ("e", Some(9))] {
        let new = new_volume(&mut machine, name, MIB);
        let kind = VolumeKind { home, ..VolumeKind::default() };
        machine.pool.create_volume_of(new, kind).unwrap();
    }
    machine.pool.close().unwrap();
    let host = host_without_reactors(TapeJournals::default());
    let host = Host { reactors: Arc::new(Four), memory: vec![bdev::DmaSlice::EMPTY; 4], ..host };
    let pool = Pool::import(machine.disks.iter().map(member).collect(), host).unwrap();
    let home = |name: &str| match pool.volume(name).unwrap().home() {
        Home::One(home) => home,
        Home::Every => panic!("a volume lives on one"),
    };
    assert_eq!(["a", "b", "c", "d", "e"].map(home), [0, 2, 1, 2, 2], "9 is none: the next one");
}

#[test]
fn what_is_kept_changes_as_a_whole_and_goes_with_its_volume() {
    let mut machine = machine();
    let a = make(&mut machine, "a", MIB);
    close(&machine, a);
    let some = |name: &str, byte: u8| (name.to_owned(), Some(vec![byte; 3]));
    machine.pool.set_records(None, vec![some("x", 1), some("y", 2)]).unwrap();
    machine.pool.set_records(Some("a"), vec![some("r", 3)]).unwrap();
    machine.pool.set_records(None, vec![("x".to_owned(), None), some("z", 4)]).unwrap();
    let large = vec![("l".to_owned(), Some(vec![0; 65_537]))];
    refused(machine.pool.set_records(None, large), Kind::Full, "65536 bytes");
    let sum = (0..5).map(|at| (format!("{at}"), Some(vec![0; 60_000]))).collect();
    refused(machine.pool.set_records(Some("a"), sum), Kind::Full, "262144");
    refused(machine.pool.set_records(None, vec![some("", 1)]), Kind::Full, "1 to 128");
    refused(machine.pool.set_records(Some("b"), vec![some("r", 1)]), Kind::NotFound, "\"b\"");
    let machine = again(machine, Opening::default());
    let keys = |of| machine.pool.records(of).unwrap().into_keys().collect::<Vec<_>>();
    assert_eq!(keys(None), ["y", "z"]);
    assert_eq!(machine.pool.records(Some("a")).unwrap()["r"], [3; 3]);
    machine.pool.rename_volume("a", "b").unwrap();
    assert_eq!(keys(Some("b")), ["r"]);
    machine.pool.delete_volume("b", false).unwrap();
    machine.pool.close().unwrap();
    let mut machine = again(machine, Opening::default());
    let b = make(&mut machine, "b", MIB);
    close(&machine, b);
    assert!(machine.pool.records(Some("b")).unwrap().is_empty());
}

#[test]
fn an_order_is_answered_by_message_and_nobody_waits() {
    let mut machine = machine();
    let a = make(&mut machine, "a", 2 * MIB);
    let (tell, told) = mpsc::channel();
    let order = |order: Order| {
        let tell = tell.clone();
        machine.pool.order(order, move |done| tell.send(done).unwrap());
    };
    let volumes = vec![("a".to_owned(), Uuid::from_u128(77))];
    order(Order::Snapshot { volumes, name: "s".to_owned(), now_s: 4 });
    order(Order::Resize { volume: "a".to_owned(), bytes: MIB, may_shrink: false });
    order(Order::Resize { volume: "a".to_owned(), bytes: 3 * MIB, may_shrink: false });
    order(Order::Delete { volume: "a".to_owned(), snapshots: true });
    assert!(told.try_recv().is_err(), "nothing is done yet");
    machine.turn();
    let done: Vec<_> = told.try_iter().map(|done| done.map_err(|error| error.kind)).collect();
    assert_eq!(done, [Ok(()), Err(Kind::Refused), Ok(()), Err(Kind::InUse)]);
    let snapshot = machine.pool.directory().snapshot_named("a", "s").unwrap();
    assert_eq!((snapshot.uuid, snapshot.taken_s), (Some(Uuid::from_u128(77)), 4));
    close(&machine, a);
    order(Order::Delete { volume: "a".to_owned(), snapshots: true });
    machine.turn();
    assert_eq!(told.try_recv(), Ok(Ok(())));
}

fn owner(boot: u128) -> Owner {
    let machine = Uuid::from_u128(7);
    Owner { machine, boot: Uuid::from_u128(boot), ..Owner::default() }
}

fn opening(boot: u128, now_s: u64) -> Opening {
    Opening { owner: owner(boot), now_s, ..Opening::default() }
}

#[test]
fn each_host_that_wrote_is_told_of_a_loss_once_and_one_that_came_later_never() {
    let mut machine = machine();
    let a = make(&mut machine, "a", MIB);
    close(&machine, a);
    machine.pool.close().unwrap();
    let machine = again(machine, opening(1, 100));
    let witness = |machine: &Machine| machine.pool.volume("a").unwrap().witness().unwrap();
    let note = |machine: &Machine, host: u128| {
        while witness(machine).note(host, "nqn.host") != Noted::Yes {
            machine.turn();
        }
    };
    note(&machine, 1);
    machine.pool.checkpoint(150).unwrap();
    // The process is killed: its journals are there, and nothing is lost.
    let machine = again(machine, opening(1, 200));
    assert_eq!(machine.pool.directory().tenure().losses, 0);
    note(&machine, 2);
    assert!(![1, 2, 3].map(|host| witness(&machine).take_loss(host)).contains(&true));
    // The power goes.
    let machine = again(machine, opening(2, 300));
    let tenure = machine.pool.directory().tenure();
    let last = tenure.last.unwrap();
    assert_eq!((tenure.losses, last.cause), (1, Cause::Restart));
    assert_eq!((last.noticed_s, last.since_s), (300, 150), "what was answered before is there");
    note(&machine, 3);
    assert_eq!([1, 2, 3].map(|host| witness(&machine).take_loss(host)), [true, true, false]);
    assert_eq!([1, 2, 3].map(|host| witness(&machine).take_loss(host)), [false; 3], "once");
    machine.turn();
    machine.pool.close().unwrap();
    let machine = again(machine, opening(3, 400));
    assert_eq!(machine.pool.directory().tenure().losses, 1, "it was closed in order");
    assert_eq!([1, 2, 3].map(|host| witness(&machine).take_loss(host)), [false; 3]);
    // Closed in order with one that was not told yet: it still is.
    note(&machine, 4);
    let machine = again(machine, opening(4, 500));
    machine.pool.close().unwrap();
    let machine = again(machine, opening(5, 600));
    assert_eq!([1, 4].map(|host| witness(&machine).take_loss(host)), [false, true]);
}

#[test]
fn hosts_beyond_those_that_have_a_record_share_one() {
    let mut machine = machine();
    let a = make(&mut machine, "a", MIB);
    close(&machine, a);
    machine.pool.close().unwrap();
    let machine = again(machine, opening(1, 100));
    let witness = machine.pool.volume("a").unwrap().witness().unwrap();
    for host in 1..=1100 {
        witness.note(host, "nqn.host");
    }
    machine.turn();
    assert!((1..=1100).all(|host| witness.note(host, "nqn.host") == Noted::Yes));
    let machine = again(machine, opening(2, 200));
    let witness = machine.pool.volume("a").unwrap().witness().unwrap();
    assert!((1..=1100).all(|host| witness.take_loss(host)), "each is told");
    assert!(!(1..=1100).any(|host| witness.take_loss(host)), "once");
}

#[test]
fn a_device_that_was_out_and_one_that_was_without_power_are_losses() {
    let machine = machine();
    machine.pool.close().unwrap();
    let machine = again(machine, opening(1, 100));
    machine.rack.lock().unwrap().power += 1;
    let machine = again(machine, opening(1, 200));
    let tenure = machine.pool.directory().tenure();
    assert_eq!((tenure.losses, tenure.last.unwrap().cause), (1, Cause::DevicePower));
    // A pool that was let go of loses nothing with the power of its devices.
    machine.pool.close().unwrap();
    machine.rack.lock().unwrap().power += 1;
    let machine = again(machine, opening(1, 300));
    assert_eq!(machine.pool.directory().tenure().losses, 1);
    let Held::By { owner, since_s, journals } = machine.pool.directory().tenure().held else {
        panic!("it is open")
    };
    assert_eq!((owner, since_s, journals), (self::owner(1), 300, true));
}

#[test]
fn an_opening_that_fails_leaves_the_pool_as_it_was_and_a_loss_is_counted_once() {
    let devices = [DEVICES[0], DEVICES[0]];
    let machine = Machine::of(FORMAT_2, &devices, 4096);
    machine.pool.close().unwrap();
    let (rack, disks) = (machine.rack.clone(), machine.disks.clone());
    let some = |from: usize, opening| Machine::open(&rack, &disks[..from], Vec::new(), opening);
    refused(some(1, opening(1, 100)), Kind::NotFound, "device 1");
    let other = Owner { machine: Uuid::from_u128(8), ..owner(9) };
    let by_other =
        |force| Opening { owner: other.clone(), now_s: 300, force, ..Opening::default() };
    drop(some(2, by_other(false)).expect("it is as it was: let go of"));
    drop(some(2, Opening { force: true, ..opening(1, 400) }).unwrap());
    // The machine has started anew, and tries with one device for some time.
    for attempt in 0..5 {
        refused(some(1, opening(2, 500 + attempt)), Kind::NotFound, "device 1");
        refused(some(2, by_other(false)), Kind::InUse, "use --force");
    }
    let machine = some(2, opening(2, 600)).unwrap();
    let tenure = machine.pool.directory().tenure();
    // The other one did not let go of it, and the machine started anew.
    assert_eq!((tenure.losses, tenure.last.unwrap().cause), (2, Cause::Restart));
    assert_eq!(tenure.last.unwrap().noticed_s, 500);
}
