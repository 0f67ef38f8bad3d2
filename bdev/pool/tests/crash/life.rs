//! What an operator does with a pool, one thing after the other.

use crate::disk::{Disk, Kills, Rack};
use crate::journals::TapeJournals;
use crate::machine::{Machine, host_without_reactors, member, new_reactor, pattern, values};
use crate::support::chance::Chance;
use bdev::{Addr, Bdev, Op};
use bdev_pool::{
    DeviceState, Found, Kind, Limits, Medium, NewVolume, Pool, PoolError, PoolStatus, probe,
};
use nvme_spec::Status;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uuid::Uuid;

const MIB: u64 = 1 << 20;

/// A device with so many slots.
const fn device(slots: u64) -> (u64, u32) {
    ((17 + slots) * MIB, 512)
}

pub fn new_volume(machine: &mut Machine, name: &str, bytes: u64) -> NewVolume {
    NewVolume {
        name: name.to_owned(),
        uuid: machine.uuid(),
        bytes,
        block_bytes: Some(4096),
        thick: false,
        limits: Limits::default(),
        made_s: 0,
    }
}

pub fn make(machine: &mut Machine, name: &str, bytes: u64) -> Addr {
    let new = new_volume(machine, name, bytes);
    machine.pool.create_volume(new).unwrap();
    open(machine, name)
}

pub fn open(machine: &Machine, name: &str) -> Addr {
    let bdev: Arc<dyn Bdev> = machine.pool.volume(name).unwrap();
    machine.reactor.lock().unwrap().open(&bdev)
}

pub fn close(machine: &Machine, addr: Addr) {
    machine.reactor.lock().unwrap().close(addr);
}

/// Writes blocks of one value.
pub fn write(machine: &Machine, to: Addr, lba: u64, blocks: u32, value: u64) -> Status {
    let data = pattern(std::iter::repeat_n(value, blocks as usize * 8));
    machine.one(to, Op::Write, (lba, blocks, 4096), &data).status
}

/// The value of each block.
pub fn read(machine: &Machine, from: Addr, lba: u64, blocks: u32) -> Vec<u64> {
    let ended = machine.one(from, Op::Read, (lba, blocks, 4096), &[]);
    assert_eq!(ended.status, Status::SUCCESS);
    values(&ended.data).into_iter().step_by(8).collect()
}

fn status(machine: &Machine) -> PoolStatus {
    machine.pool.status()
}

pub fn refused<T>(result: Result<T, PoolError>, kind: Kind, says: &str) {
    let error = result.err().expect("it is refused");
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.message.contains(says) && error.message.ends_with('.'), "{error}");
}

/// What goes on by itself comes to its end.
fn end_jobs(machine: &Machine) {
    while machine.turn() {}
    machine.turn();
    machine.turn();
}

#[test]
fn a_volume_is_written_and_read_and_is_there_again() {
    let mut machine = Machine::new(&[device(24), device(24)], 4096);
    let a = make(&mut machine, "a", 64 * MIB);
    assert_eq!(read(&machine, a, 0, 4), [0; 4]);
    assert!(write(&machine, a, 254, 4, 7).is_success());
    assert_eq!(read(&machine, a, 252, 8), [0, 0, 7, 7, 7, 7, 0, 0]);
    let now = status(&machine);
    assert_eq!(now.space.used, 2 * MIB);
    // What waits with the volume to be written to is not used yet.
    assert_eq!(now.devices.iter().map(|device| device.used).sum::<u64>(), 2 * MIB);
    refused(machine.pool.close(), Kind::InUse, "Volume \"a\" is still open");
    close(&machine, a);
    machine.pool.close().unwrap();
    let (reactor, host) = new_reactor(&machine.rack, TapeJournals::default());
    // All but what was written was never told: closing made it durable.
    machine.reactor = reactor;
    let members = machine.disks.iter().map(member).collect();
    machine.pool = Pool::import(members, host).unwrap();
    let a = open(&machine, "a");
    assert_eq!(read(&machine, a, 252, 8), [0, 0, 7, 7, 7, 7, 0, 0]);
    assert_eq!(status(&machine).space.used, 2 * MIB);
}

#[test]
fn names_that_are_taken_and_things_that_are_not_there_are_said() {
    let mut machine = Machine::new(&[device(24)], 4096);
    let new = new_volume(&mut machine, "a", MIB);
    machine.pool.create_volume(new.clone()).unwrap();
    refused(machine.pool.create_volume(new.clone()), Kind::Exists, "\"a\"");
    refused(machine.pool.volume("b"), Kind::NotFound, "\"b\"");
    refused(machine.pool.rename_volume("a", "-x"), Kind::Invalid, "\"-x\"");
    for (bytes, says) in [(0, "no size"), (4097, "multiple of 4096"), (1 << 51, "1 PiB")] {
        let new = NewVolume { name: "c".to_owned(), bytes, ..new.clone() };
        refused(machine.pool.create_volume(new), Kind::Invalid, says);
    }
    let odd = NewVolume { name: "c".to_owned(), block_bytes: Some(1024), ..new };
    refused(machine.pool.create_volume(odd), Kind::Invalid, "512 or 4096");
    let both = ["a".to_owned(), "a".to_owned()];
    refused(machine.pool.snapshot(&both, "s", 0), Kind::Invalid, "named twice");
    machine.pool.snapshot(&both[..1], "s", 0).unwrap();
    refused(machine.pool.snapshot(&both[..1], "s", 0), Kind::Exists, "\"s\"");
    refused(machine.pool.delete_snapshot("a", "t"), Kind::NotFound, "\"t\"");
    refused(machine.pool.promote("a"), Kind::Invalid, "no clone");
    refused(machine.pool.delete_volume("a", false), Kind::Refused, "(s)");
    refused(machine.pool.resize_volume("a", 4096, false), Kind::Refused, "throws away");
    let a = open(&machine, "a");
    refused(machine.pool.delete_volume("a", true), Kind::InUse, "exported");
    close(&machine, a);
    machine.pool.delete_volume("a", true).unwrap();
    refused(machine.pool.drain_device("disk0"), Kind::Full, "add a device");
    refused(machine.pool.drain_device("disk7"), Kind::NotFound, "\"disk7\"");
}

#[test]
fn a_full_pool_fails_what_needs_space_and_heals() {
    let mut machine = Machine::new(&[device(8), device(24)], 4096);
    machine.pool.drain_device("disk1").unwrap();
    end_jobs(&machine);
    let a = make(&mut machine, "a", 64 * MIB);
    let b = make(&mut machine, "b", 64 * MIB);
    let written = (0..20).filter(|extent| write(&machine, a, extent * 256, 1, 5).is_success());
    assert_eq!(written.count(), 8, "all of it, whatever is in stock");
    assert_eq!(write(&machine, b, 0, 1, 6), Status::CAPACITY_EXCEEDED);
    assert!(status(&machine).full && status(&machine).space.free == 0);
    assert!(write(&machine, a, 1, 3, 9).is_success(), "what is there is overwritten");
    assert_eq!(read(&machine, a, 0, 4), [5, 9, 9, 9]);
    assert_eq!(read(&machine, b, 0, 1), [0]);
    let zeroes = machine.one(a, Op::WriteZeroes, (8 * 256, 256, 4096), &[]);
    assert!(zeroes.status.is_success(), "what is zeros takes none");
    assert!(machine.one(a, Op::Deallocate, (0, 512, 4096), &[]).status.is_success());
    assert!(machine.one(a, Op::Flush, (0, 0, 4096), &[]).status.is_success());
    machine.turn();
    assert!(write(&machine, b, 0, 1, 6).is_success(), "space was given back");
    assert!(write(&machine, b, 256, 1, 6).is_success());
    assert_eq!(write(&machine, b, 512, 1, 6), Status::CAPACITY_EXCEEDED);
    let (more, uuid) = (member(&machine.disks[1]), machine.uuid());
    machine.pool.add_device(more, uuid, false).unwrap();
    assert!(write(&machine, b, 512, 1, 6).is_success(), "a device was added");
    assert!(!status(&machine).full);
    assert_eq!(read(&machine, b, 511, 2), [0, 6]);
}

#[test]
fn the_last_slot_does_not_go_to_and_fro_between_two_who_need_more() {
    let mut machine = Machine::new(&[device(1)], 4096);
    let (a, b) = (make(&mut machine, "a", 4 * MIB), make(&mut machine, "b", 4 * MIB));
    // Each over the end of an extent.
    let data = pattern(std::iter::repeat_n(7, 2 * 8));
    for to in [a, b] {
        let mut reactor = machine.reactor.lock().unwrap();
        reactor.ask(to, Op::Write, bdev::IoFlags::NONE, (255, 2, 4096), &data);
    }
    machine.settle();
    for ended in machine.reactor.lock().unwrap().ended.drain(..) {
        assert_eq!(ended.status, Status::CAPACITY_EXCEEDED);
    }
    assert!(write(&machine, a, 255, 1, 7).is_success(), "one is there for whom it is enough");
    assert_eq!(read(&machine, a, 255, 2), [7, 0]);
}

#[test]
fn what_is_promised_to_a_thick_volume_is_kept_for_it() {
    let mut machine = Machine::new(&[device(10), device(10)], 4096);
    let thick = NewVolume { thick: true, ..new_volume(&mut machine, "thick", 12 * MIB) };
    machine.pool.create_volume(thick.clone()).unwrap();
    let space = status(&machine).space;
    assert_eq!((space.free, space.reserved, space.used), (8 * MIB, 12 * MIB, 0));
    let other = NewVolume { name: "other".to_owned(), bytes: 9 * MIB, ..thick };
    refused(machine.pool.create_volume(other), Kind::Full, "takes 9 MiB, and 8 MiB");
    let thin = make(&mut machine, "thin", 64 * MIB);
    let written = (0..20).filter(|extent| write(&machine, thin, extent * 256, 1, 5).is_success());
    assert_eq!(written.count(), 8);
    let thick = open(&machine, "thick");
    for extent in 0..12 {
        assert!(write(&machine, thick, extent * 256, 256, extent + 1).is_success());
    }
    let space = status(&machine).space;
    assert_eq!((space.free, space.reserved, space.used), (0, 0, 20 * MIB));
    let name = ["thick".to_owned()];
    refused(machine.pool.snapshot(&name, "s", 0), Kind::Full, "thick volumes");
    assert!(machine.one(thin, Op::Deallocate, (0, 8 * 256, 4096), &[]).status.is_success());
    assert!(machine.one(thin, Op::Flush, (0, 0, 4096), &[]).status.is_success());
    refused(machine.pool.snapshot(&name, "s", 0), Kind::Full, "12 MiB");
    refused(machine.pool.resize_volume("thick", 22 * MIB, false), Kind::Full, "10 MiB");
    machine.pool.resize_volume("thick", 14 * MIB, false).unwrap();
    assert_eq!(status(&machine).space.reserved, 2 * MIB);
}

#[test]
fn limits_hold_and_change_while_it_runs() {
    let mut machine = Machine::new(&[device(24)], 4096);
    let a = make(&mut machine, "a", 4 * MIB);
    assert!(write(&machine, a, 0, 8, 1).is_success());
    // A turn is a millisecond.
    let ended = |machine: &Machine, iops: u64| {
        let limits = Limits { iops, ..Limits::default() };
        machine.pool.set_limits("a", limits).unwrap();
        for _ in 0..500 {
            let mut reactor = machine.reactor.lock().unwrap();
            reactor.ask(a, Op::Read, bdev::IoFlags::NONE, (0, 1, 4096), &[]);
        }
        for _ in 0..1000 {
            machine.turn();
        }
        let ended = machine.reactor.lock().unwrap().ended.drain(..).count();
        machine.pool.set_limits("a", Limits::default()).unwrap();
        machine.settle();
        machine.reactor.lock().unwrap().ended.clear();
        ended
    };
    let slow = ended(&machine, 100);
    assert!((90..=110).contains(&slow), "{slow}");
    let fast = ended(&machine, 400);
    assert!((360..=440).contains(&fast), "{fast}");
    assert_eq!(ended(&machine, 0), 500);
}

#[test]
fn snapshots_clones_and_what_they_take() {
    let mut machine = Machine::new(&[device(24)], 4096);
    let a = make(&mut machine, "a", 8 * MIB);
    assert!(write(&machine, a, 0, 256, 1).is_success());
    assert!(write(&machine, a, 256, 8, 2).is_success());
    machine.pool.snapshot(&["a".to_owned()], "s", 77).unwrap();
    assert!(write(&machine, a, 0, 4, 3).is_success());
    let now = status(&machine);
    let (snapshot, volume) = (&now.snapshots[0], &now.volumes[0]);
    assert_eq!((snapshot.volume.as_str(), snapshot.taken_s), ("a", 77));
    assert_eq!((volume.usage.own, volume.usage.behind), (MIB, 2 * MIB));
    assert_eq!((now.space.used, now.space.shared, now.space.reclaimable), (3 * MIB, 2 * MIB, 0));
    let new = new_volume(&mut machine, "c", 0);
    machine.pool.clone_snapshot("a", "s", new).unwrap();
    let c = open(&machine, "c");
    assert_eq!(read(&machine, c, 0, 5), [1, 1, 1, 1, 1]);
    assert!(write(&machine, c, 1, 1, 4).is_success());
    assert_eq!(read(&machine, a, 0, 5), [3, 3, 3, 3, 1], "its origin is as it was");
    let snapshot: Arc<dyn Bdev> = machine.pool.snapshot_of("a", "s").unwrap();
    assert!(snapshot.geometry().read_only);
    let s = machine.reactor.lock().unwrap().open(&snapshot);
    assert_eq!(read(&machine, s, 0, 2), [1, 1]);
    assert_eq!(write(&machine, s, 0, 1, 9).code(), Status::WRITE_PROTECTED);
    refused(machine.pool.delete_snapshot("a", "s"), Kind::InUse, "exported");
    close(&machine, s);
    assert_eq!(status(&machine).volumes[1].origin, Some(("a".to_owned(), "s".to_owned())));
    machine.pool.promote("c").unwrap();
    let now = status(&machine);
    assert_eq!(now.snapshots[0].volume, "c");
    assert_eq!(now.volumes[0].origin, Some(("c".to_owned(), "s".to_owned())));
    machine.pool.roll_back("c", "s").unwrap();
    assert_eq!(read(&machine, c, 0, 2), [1, 1], "what came after is gone");
    machine.pool.delete_snapshot("c", "s").unwrap();
    end_jobs(&machine);
    let now = status(&machine);
    assert_eq!((now.snapshots.len(), now.jobs.len()), (0, 0));
    assert_eq!(now.space.used, 3 * MIB, "two read what was the snapshot's");
    close(&machine, c);
    machine.pool.delete_volume("c", false).unwrap();
    end_jobs(&machine);
    let now = status(&machine);
    assert_eq!((now.space.used, now.space.shared, now.space.reclaimable), (2 * MIB, 0, 0));
    assert_eq!(read(&machine, a, 0, 5), [3, 3, 3, 3, 1]);
    assert_eq!(read(&machine, a, 256, 9), [2, 2, 2, 2, 2, 2, 2, 2, 0]);
}

#[test]
fn a_size_goes_up_and_down_and_shows_nothing_old() {
    let mut machine = Machine::new(&[device(24)], 4096);
    let a = make(&mut machine, "a", 4 * MIB);
    assert!(write(&machine, a, 100, 4, 1).is_success());
    machine.pool.snapshot(&["a".to_owned()], "s", 0).unwrap();
    assert_eq!(machine.pool.resize_volume("a", 102 * 4096, true).unwrap(), 102 * 4096);
    let past = machine.one(a, Op::Read, (101, 2, 4096), &[]);
    assert_eq!(past.status.code(), Status::LBA_OUT_OF_RANGE);
    machine.pool.resize_volume("a", 4 * MIB, false).unwrap();
    assert_eq!(read(&machine, a, 99, 6), [0, 1, 1, 0, 0, 0]);
    machine.pool.roll_back("a", "s").unwrap();
    assert_eq!(read(&machine, a, 99, 6), [0, 1, 1, 1, 1, 0]);
}

#[test]
fn a_device_is_drained_with_the_metadata_on_it_and_can_be_used_again() {
    let mut machine = Machine::new(&[device(10), device(30)], 4096);
    let a = make(&mut machine, "a", 16 * MIB);
    for extent in 0..8 {
        assert!(write(&machine, a, extent * 256, 3, extent + 1).is_success());
    }
    machine.pool.snapshot(&["a".to_owned()], "s", 0).unwrap();
    assert!(write(&machine, a, 0, 1, 9).is_success());
    let before = status(&machine);
    assert!(before.devices[0].has_metadata && before.devices[0].used > 0);
    machine.pool.drain_device("disk0").unwrap();
    assert_eq!(status(&machine).devices[0].state, DeviceState::Draining);
    end_jobs(&machine);
    let after = status(&machine);
    assert_eq!(after.devices.len(), 1);
    assert!(after.devices[0].has_metadata && after.stopped.is_none());
    assert_eq!((after.space.used, after.space.total), (before.space.used, 30 * MIB));
    assert_eq!(probe(&*machine.disks[0]), Found::Empty);
    let told = |machine: &Machine, a| {
        assert_eq!(read(machine, a, 0, 4), [9, 1, 1, 0]);
        (1..8).for_each(|extent| assert_eq!(read(machine, a, extent * 256, 1), [extent + 1]));
    };
    told(&machine, a);
    close(&machine, a);
    machine.pool.close().unwrap();
    let (reactor, host) = new_reactor(&machine.rack, TapeJournals::default());
    machine.reactor = reactor;
    machine.pool = Pool::import(vec![member(&machine.disks[1])], host).unwrap();
    let a = open(&machine, "a");
    told(&machine, a);
    let (again, uuid) = (member(&machine.disks[0]), machine.uuid());
    machine.pool.add_device(again, uuid, false).unwrap();
    *machine.disks[1].bytes.lock().unwrap() += 5 * MIB;
    machine.pool.grow_device("disk1").unwrap();
    assert_eq!(status(&machine).space.total, 45 * MIB);
}

#[test]
fn blocks_are_no_larger_than_what_devices_write_atomically() {
    let mut machine = Machine::new(&[device(10)], 512);
    let new = new_volume(&mut machine, "a", MIB);
    refused(machine.pool.create_volume(new.clone()), Kind::Invalid, "write 512 bytes atomically");
    machine.pool.create_volume(NewVolume { block_bytes: None, ..new }).unwrap();
    let geometry = machine.pool.volume("a").unwrap().geometry();
    assert_eq!((geometry.block_bytes, geometry.atomic_blocks), (512, 1));

    let mut machine = Machine::new(&[device(10)], 4096);
    let new = new_volume(&mut machine, "a", MIB);
    machine.pool.create_volume(NewVolume { block_bytes: None, ..new }).unwrap();
    let geometry = machine.pool.volume("a").unwrap().geometry();
    assert_eq!((geometry.block_bytes, geometry.atomic_blocks), (4096, 1));
    machine.rack.lock().unwrap().atomic_bytes = 512;
    let other = Rack::add(&machine.rack, device(10));
    let uuid = machine.uuid();
    refused(machine.pool.add_device(member(&other), uuid, false), Kind::Invalid, "blocks of 4096");
}

#[test]
fn a_device_that_is_half_drained_can_stay() {
    let mut machine = Machine::new(&[device(100), device(100)], 4096);
    let a = make(&mut machine, "a", 96 * MIB);
    for extent in 0..90 {
        assert!(write(&machine, a, extent * 256, 3, 1 + extent).is_success());
    }
    let before = status(&machine);
    machine.pool.drain_device("disk0").unwrap();
    // Its first transaction: most of what the device has.
    machine.pool.step();
    let half = status(&machine);
    assert!(half.devices[1].used > before.devices[1].used, "{half:?}");
    assert_eq!(half.jobs[0].device.as_deref(), Some("disk0"));
    machine.pool.keep_device("disk0").unwrap();
    machine.pool.keep_device("disk1").unwrap();
    refused(machine.pool.keep_device("disk7"), Kind::NotFound, "\"disk7\"");
    end_jobs(&machine);
    let after = status(&machine);
    assert_eq!(after.devices.len(), 2);
    assert!(after.devices.iter().all(|device| device.state == DeviceState::Member));
    assert!(after.jobs.is_empty() && after.devices[0].used > 0);
    assert_eq!((after.space.used, after.space.total), (before.space.used, before.space.total));
    (0..90).for_each(|extent| assert_eq!(read(&machine, a, extent * 256, 1), [1 + extent]));
    close(&machine, a);
    let b = make(&mut machine, "b", 128 * MIB);
    let written = (0..105).filter(|extent| write(&machine, b, extent * 256, 1, 5).is_success());
    assert_eq!(written.count(), 105, "the device is written to again");
    close(&machine, b);
    machine.pool.close().unwrap();
    let (reactor, host) = new_reactor(&machine.rack, TapeJournals::default());
    machine.reactor = reactor;
    let members = machine.disks.iter().map(member).collect();
    machine.pool = Pool::import(members, host).unwrap();
    let again = status(&machine);
    assert!(again.devices.iter().all(|device| device.state == DeviceState::Member));
}

#[test]
fn a_journal_counts_for_the_session_after_its_own_and_no_other() {
    let devices = [device(10)];
    let mut machine = Machine::new(&devices, 4096);
    let a = make(&mut machine, "a", MIB);
    assert!(write(&machine, a, 0, 1, 1).is_success());
    let log = std::mem::take(&mut machine.rack.lock().unwrap().log);
    let (images, left) = Kills::new(&log, 1).at(log.len(), &mut Chance::new(1));

    let killed = Machine::import(&devices, images.clone(), left.clone());
    assert_eq!(read(&killed, open(&killed, "a"), 0, 1), [1]);

    // Without power meanwhile, a device may not have what the journal speaks of.
    let cut = Machine::import_after(1, &devices, images.clone(), left.clone());
    assert_eq!(read(&cut, open(&cut, "a"), 0, 1), [0]);

    // Opened on another machine, which does not have the journal, it goes on without.
    let elsewhere = Machine::import(&devices, images, Vec::new());
    let a = open(&elsewhere, "a");
    assert_eq!(read(&elsewhere, a, 0, 1), [0]);
    assert!(write(&elsewhere, a, 0, 1, 2).is_success());
    assert!(elsewhere.one(a, Op::Flush, (0, 0, 4096), &[]).status.is_success());
    let images = elsewhere.rack.lock().unwrap().images();
    let back = Machine::import(&devices, images, left);
    assert_eq!(read(&back, open(&back, "a"), 0, 1), [2]);
}

#[test]
fn a_damaged_journal_keeps_the_pool_closed_and_says_so() {
    let devices = [device(10)];
    let mut machine = Machine::new(&devices, 4096);
    let a = make(&mut machine, "a", MIB);
    let b = make(&mut machine, "b", MIB);
    assert!(write(&machine, a, 0, 1, 1).is_success());
    assert!(write(&machine, b, 0, 1, 1).is_success());
    let log = std::mem::take(&mut machine.rack.lock().unwrap().log);
    let (images, mut left) = Kills::new(&log, 1).at(log.len(), &mut Chance::new(1));
    // Both say that they have the same slot.
    let line = left[0][8..].to_vec();
    left[1][16..8 + line.len()].copy_from_slice(&line[8..]);
    let host = host_without_reactors(TapeJournals::new(machine.rack.clone(), left));
    machine.rack.lock().unwrap().put(images);
    let devices = machine.disks.iter().map(member).collect();
    refused(Pool::import(devices, host), Kind::Device, "named by");
}

#[test]
fn devices_that_are_not_ours_are_left_alone() {
    let machine = Machine::new(&[device(10), device(10)], 4096);
    let rack = machine.rack.clone();
    let create = |disks: &[&Arc<Disk>], force: bool| {
        let (_, host) = new_reactor(&rack, TapeJournals::default());
        let mut uuids = 1000;
        let uuid = || {
            uuids += 1;
            Uuid::from_u128(uuids)
        };
        Pool::create("other", disks.iter().map(|disk| member(disk)).collect(), force, host, uuid)
    };
    let foreign = Rack::add(&rack, (40 * MIB, 512));
    foreign.write(&[(8192, &[7; 4096])]).unwrap();
    refused(create(&[&foreign], false), Kind::Refused, "not a pool's");
    refused(create(&[&machine.disks[0]], false), Kind::Refused, "part of pool \"tank\"");
    let small = Rack::add(&rack, (17 * MIB, 512));
    refused(create(&[&small], false), Kind::Invalid, "18 MiB or more");
    assert_eq!(probe(&*foreign), Found::Foreign, "nothing was written");
    // Data behind an empty beginning; what DRBD and RAID leave at the end.
    for at in [2 * MIB, 20 * MIB, 39 * MIB, 40 * MIB - 4096] {
        let used = Rack::add(&rack, (40 * MIB, 512));
        used.write(&[(at, &[7; 4096])]).unwrap();
        refused(create(&[&used], false), Kind::Refused, "holds data behind that");
        create(&[&used], true).unwrap().close().unwrap();
        assert!(matches!(probe(&*used), Found::Pool(..)));
        bdev_pool::give_up(&*used).unwrap();
        assert_eq!(probe(&*used), Found::Empty);
        create(&[&used], false).unwrap();
    }
    let fresh = Rack::add(&rack, (40 * MIB, 512));
    refused(create(&[&fresh, &foreign], false), Kind::Refused, "--force");
    assert_eq!(probe(&*fresh), Found::Empty, "nothing was written");
    create(&[&foreign], true).unwrap();
    let import = |disks: &[&Arc<Disk>]| {
        let (_, host) = new_reactor(&rack, TapeJournals::default());
        Pool::import(disks.iter().map(|disk| member(disk)).collect(), host)
    };
    refused(import(&[&machine.disks[0]]), Kind::NotFound, "device 1");
    refused(import(&[&machine.disks[1]]), Kind::Device, "name all devices");
    refused(import(&[&machine.disks[0], &foreign]), Kind::Invalid, "leave it out");
    refused(import(&[&fresh]), Kind::Device, "empty");
    refused(import(&[]), Kind::Invalid, "No device");
    import(&[&foreign]).unwrap();
}

#[test]
fn a_device_that_fails_is_said_and_nothing_is_told_durable() {
    let mut machine = Machine::new(&[device(10)], 4096);
    let a = make(&mut machine, "a", 16 * MIB);
    assert!(write(&machine, a, 0, 1, 1).is_success());
    assert!(machine.one(a, Op::Flush, (0, 0, 4096), &[]).status.is_success());
    machine.disks[0].fails.store(true, Ordering::Relaxed);
    assert_eq!(write(&machine, a, 1, 1, 2), Status::WRITE_FAULT);
    assert_eq!(read(&machine, a, 0, 2), [1, 0], "what failed does not count");
    machine.disks[0].fails.store(false, Ordering::Relaxed);
    assert!(write(&machine, a, 1, 1, 2).is_success());
    machine.disks[0].fails.store(true, Ordering::Relaxed);
    assert_eq!(machine.one(a, Op::Flush, (0, 0, 4096), &[]).status, Status::INTERNAL_ERROR);
    machine.disks[0].fails.store(false, Ordering::Relaxed);
    let why = status(&machine).failed.unwrap();
    assert!(why.contains("worn out") && why.contains("exported by force"), "{why}");
    assert_eq!(machine.one(a, Op::Flush, (0, 0, 4096), &[]).status, Status::INTERNAL_ERROR);
    assert_eq!(write(&machine, a, 2, 1, 3), Status::INTERNAL_ERROR);
    assert_eq!(read(&machine, a, 0, 2), [1, 2], "what was written is read");
    let new = new_volume(&mut machine, "b", MIB);
    refused(machine.pool.create_volume(new), Kind::Device, "exported by force");
}
