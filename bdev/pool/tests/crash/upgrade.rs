//! A pool of format 1 becomes one of format 2, with the power going at each write and flush.

use crate::disk::{Action, Disk, Image, Left, PowerCuts, Rack};
use crate::format1::{DEVICES, golden, life, shows};
use crate::life::{close, open, write};
use crate::machine::Machine;
use crate::support::chance::Chance;
use bdev::Op;
use bdev_pool::{
    Contents, FORMAT_1, FORMAT_2, Held, Medium, NodeState, Opening, Owner, Store, Superblock,
};
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// A pool on one device: nothing else is of format 2 when its metadata device becomes it.
const ONE: [(u64, u32); 1] = [(17 * (1 << 20) + 32 * (1 << 20), 512)];

fn devices(images: &[Image]) -> &'static [(u64, u32)] {
    if images.len() == 1 { &ONE } else { &DEVICES }
}

/// Devices with these images, all of them.
fn rack(images: &[Image]) -> (Arc<Mutex<Rack>>, Vec<Arc<Disk>>) {
    let rack = Arc::new(Mutex::new(Rack::new(4096)));
    let disks = devices(images).iter().map(|device| Rack::add(&rack, *device)).collect();
    rack.lock().unwrap().put(images.to_vec());
    (rack, disks)
}

fn owner(boot: u128) -> Owner {
    let (machine, process) = (Uuid::from_u128(7), Uuid::from_u128(9));
    Owner { machine, name: "box".to_owned(), boot: Uuid::from_u128(boot), process }
}

fn uuids() -> impl FnMut() -> Uuid + Send {
    let mut last = 1 << 40;
    move || {
        last += 1;
        Uuid::from_u128(last)
    }
}

fn opening(boot: u128) -> Opening {
    let uuids: bdev_pool::Uuids = Box::new(uuids());
    Opening { owner: owner(boot), now_s: 1000, uuids: Some(uuids), ..Opening::default() }
}

fn media(images: &[Image]) -> Vec<Arc<dyn Medium>> {
    let left = |(image, (bytes, _)): (&Image, &(u64, u32))| {
        Arc::new(Left::new(image.clone(), *bytes)) as Arc<dyn Medium>
    };
    images.iter().zip(devices(images)).map(left).collect()
}

fn newest(media: &[Arc<dyn Medium>]) -> (usize, Superblock) {
    let blocks = media.iter().map(|medium| Superblock::read(&**medium).unwrap()).enumerate();
    blocks.max_by_key(|(_, block)| block.metadata_generation).unwrap()
}

fn contents(images: &[Image]) -> Contents {
    let media = media(images);
    let (at, block) = newest(&media);
    Store::open(media[at].clone(), block).unwrap().load().unwrap()
}

/// A device as the releases before read it: of the copies that they know the newer one, and a format
/// that they do not know only where there is no other. The sequence and the length of the store; none if
/// it is refused.
fn read_before(medium: &dyn Medium) -> Option<(u64, u64)> {
    let mut copies = vec![0; 8192];
    medium.read(0, &mut copies).unwrap();
    let u64_at =
        |block: &[u8], at: usize| u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
    let of_format_1 = copies.chunks(4096).filter(|block| {
        let crc = u32::from_le_bytes(block[4092..].try_into().unwrap());
        let is_whole = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &block[..4092]);
        block.starts_with(b"FOREBAY\0") && is_whole as u32 == crc && block[8..12] == [1, 0, 0, 0]
    });
    let newer = of_format_1.max_by_key(|block| u64_at(block, 48))?;
    Some((u64_at(newer, 48), u64_at(newer, 88)))
}

fn is_of_format_1(contents: &Contents) -> bool {
    let plain = |state: &NodeState| !matches!(state, NodeState::Snapshot { uuid: Some(_), .. });
    contents.records.is_empty()
        && contents.writers.is_empty()
        && contents.volumes.values().all(|volume| volume.kind.is_plain())
        && contents.nodes.values().all(|node| plain(&node.state))
}

#[test]
fn a_pool_that_the_release_before_made_opens_is_upgraded_and_opens_again() {
    let (rack, disks) = rack(&golden());
    let machine = Machine::open(&rack, &disks, Vec::new(), opening(1)).unwrap();
    assert_eq!(machine.pool.directory().format(), FORMAT_1);
    shows(&machine);
    machine.pool.close().unwrap();
    let machine = Machine::open(&rack, &disks, Vec::new(), opening(2)).unwrap();
    assert_eq!(machine.pool.directory().tenure().losses, 0, "format 1 counts none");
    machine.pool.upgrade(2000, uuids()).unwrap();
    assert_eq!(machine.pool.directory().format(), FORMAT_2);
    shows(&machine);
    let numbered = machine.pool.directory().snapshot_named("a", "s").unwrap().uuid;
    assert!(numbered.is_some(), "snapshots have numbers");
    machine.pool.upgrade(2001, uuids()).unwrap();
    assert_eq!(machine.pool.directory().snapshot_named("a", "s").unwrap().uuid, numbered);
    machine.pool.snapshot(&["a".to_owned()], "later", 5).unwrap();
    assert!(machine.pool.directory().snapshot_named("a", "later").unwrap().uuid.is_some());
    machine.pool.close().unwrap();
    assert!(media(&rack.lock().unwrap().images()).iter().all(|m| read_before(&**m).is_none()));
    let machine = Machine::open(&rack, &disks, Vec::new(), opening(3)).unwrap();
    assert_eq!(machine.pool.directory().format(), FORMAT_2);
    assert_eq!(machine.pool.directory().tenure().losses, 0, "it was closed in order");
    shows(&machine);
}

#[test]
fn what_a_pool_of_format_1_holds_is_what_the_release_before_wrote() {
    let now = life(&DEVICES).rack.lock().unwrap().images();
    assert_eq!(contents(&now), contents(&golden()));
    for (now, before) in media(&now).iter().zip(media(&golden())) {
        let length = |medium: &dyn Medium| read_before(medium).map(|(_, length)| length);
        assert_eq!(length(&**now), length(&*before));
        let mut blocks = vec![0; 1 << 20];
        now.read(0, &mut blocks).unwrap();
        assert!(blocks[168..4092].iter().all(|byte| *byte == 0), "nothing of format 2");
    }
}

/// A pool of format 1 is opened, upgraded, changed, closed, opened once more and changed. What was done
/// to its devices.
fn upgraded(images: &[Image]) -> (Vec<(u64, usize, Action)>, u64) {
    let (rack, disks) = rack(images);
    let machine = Machine::open(&rack, &disks, Vec::new(), opening(1)).unwrap();
    machine.pool.upgrade(2000, uuids()).unwrap();
    let upgraded = rack.lock().unwrap().tick();
    let c = open(&machine, "c");
    assert!(write(&machine, c, 600, 1, 6).is_success());
    assert!(machine.one(c, Op::Flush, (0, 0, 4096), &[]).status.is_success());
    close(&machine, c);
    machine.pool.snapshot(&["c".to_owned()], "later", 5).unwrap();
    machine.pool.close().unwrap();
    drop(machine);
    let machine = Machine::open(&rack, &disks, Vec::new(), opening(2)).unwrap();
    machine.pool.snapshot(&["a".to_owned()], "last", 6).unwrap();
    drop(machine);
    let log = std::mem::take(&mut rack.lock().unwrap().log);
    (log, upgraded)
}

/// Of what is left after a power cut: this version opens it, whatever the format, and upgrades it; the
/// release before is refused, or finds a pool that it knows all of.
fn look(images: &[Image], must_be_2: bool) -> (bool, bool) {
    let media = media(images);
    let (with, block) = newest(&media);
    let found = contents(images);
    let before: Vec<_> = media.iter().map(|medium| read_before(&**medium)).collect();
    let opens_before = before.iter().all(Option::is_some);
    if opens_before {
        assert!(is_of_format_1(&found), "the release before would not know all of it");
        let (_, length) = before[with].expect("all are");
        assert_eq!(length, block.metadata_length, "the release before has a store of this length");
    }
    assert!(!must_be_2 || (block.format == FORMAT_2 && !opens_before));
    let (rack, disks) = rack(images);
    let machine = Machine::open(&rack, &disks, Vec::new(), opening(5)).unwrap();
    shows(&machine);
    machine.pool.upgrade(3000, uuids()).unwrap();
    machine.pool.snapshot(&["t".to_owned()], "after", 8).unwrap();
    let images = rack.lock().unwrap().images();
    assert!(self::media(&images).iter().all(|medium| read_before(&**medium).is_none()));
    machine.pool.close().unwrap();
    let machine = Machine::open(&rack, &disks, Vec::new(), opening(6)).unwrap();
    shows(&machine);
    assert!(matches!(machine.pool.directory().tenure().held, Held::By { .. }));
    (opens_before, block.format == FORMAT_2)
}

/// Cuts the power at each moment of it. How many images the release before opens or not, and are of
/// format 1 or 2.
fn cut(images: &[Image]) -> [u64; 4] {
    let (log, upgraded) = upgraded(images);
    let mut cuts = PowerCuts::new(&log, images.len(), 4096).with(images);
    let mut chance = Chance::new(4);
    let mut seen = [0; 4];
    for done in 0..=log.len() {
        let tick = log.get(done).map_or(u64::MAX, |next| next.0);
        for _ in 0..3 {
            let (before, now) = look(&cuts.images(done, &mut chance), tick > upgraded);
            seen[2 * usize::from(before) + usize::from(now)] += 1;
        }
    }
    println!("{} actions, {seen:?}", log.len());
    seen
}

#[test]
fn the_power_goes_at_every_moment_of_an_upgrade() {
    let seen = cut(&golden());
    assert!(seen[..3].iter().all(|count| *count > 0), "{seen:?}");
    assert_eq!(seen[3], 0, "another device is of format 2 before");
    let seen = cut(&life(&ONE).rack.lock().unwrap().images());
    assert!(seen[1..].iter().all(|count| *count > 0), "{seen:?}");
}
