//! The power goes, or the process is killed, at every moment of a world's life.

use crate::disk::{Action, Disk, Image, Kills, Left, PowerCuts, Rack, SECTOR};
use crate::journals::TapeJournals;
use crate::machine::{host_without_reactors, member, new_reactor, values};
use crate::model::Span;
use crate::support::chance::Chance;
use crate::world::{DEVICES, Tally, World};
use bdev::{Bdev, IoFlags, Op};
use bdev_pool::{Contents, Medium, NodeMap, NodeState, Pool, Source, Store, Superblock, Volume};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// One image in so many is opened as a pool.
const REOPEN: u64 = 150;

/// After one action to a device in so many, and after each to a journal, the process is killed.
const KILL: u64 = 8;

fn node_map(contents: &Contents, node: u64) -> NodeMap {
    let rows = contents.rows.range((node, 0)..=(node, u32::MAX));
    NodeMap::new(rows.map(|((_, chunk), row)| (*chunk, row.clone())))
}

/// What a node shows.
fn open(contents: &Contents, node: u64) -> Volume {
    let parent = |node: &u64| contents.nodes[node].parent;
    let chain = std::iter::successors(parent(&node), parent);
    let chain = chain.map(|node| (node, Arc::new(node_map(contents, node))));
    Volume::new(node, node_map(contents, node), chain.collect())
}

/// What has ended the world.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The power went: what was flushed has to be there.
    PowerCut,
    /// The process was killed: whatever has ended has to be there.
    Kill,
}

/// Devices after a power cut.
struct Wreck {
    media: Vec<Arc<dyn Medium>>,
    /// By number in the pool: where slots begin, and the device.
    places: BTreeMap<u16, (u64, usize)>,
    contents: Contents,
}

impl Wreck {
    fn new(images: &[Image]) -> Wreck {
        let left = |(image, (bytes, _)): (&Image, (u64, u32))| {
            Arc::new(Left::new(image.clone(), bytes)) as Arc<dyn Medium>
        };
        let media: Vec<_> = images.iter().zip(DEVICES).map(left).collect();
        let found = media.iter().enumerate();
        let blocks: Vec<(usize, Superblock)> = found
            .filter_map(|(at, medium)| Some((at, Superblock::read(&**medium).ok()?)))
            .collect();
        let (at, best) = blocks.iter().max_by_key(|(_, block)| block.metadata_generation).unwrap();
        let contents = Store::open(media[*at].clone(), best.clone()).unwrap().load().unwrap();
        contents.check().expect("every commit keeps it");
        let mut places = BTreeMap::new();
        for (number, record) in &contents.devices {
            let (at, block) = blocks.iter().find(|(_, block)| block.uuid == record.uuid).unwrap();
            assert!(record.slots <= block.slots);
            places.insert(*number as u16, (block.data_offset, *at));
        }
        Wreck { media, places, contents }
    }

    fn value(&self, map: &Volume, sector: u64) -> u64 {
        let (extent, inside) = (sector / 2048, sector % 2048);
        let Source::Slot(slot) = map.find(extent, (inside / 8) as usize) else { return 0 };
        let (offset, device) = self.places[&slot.device];
        let mut block = vec![0; 4096];
        let at = offset + (slot.number << 20) + inside / 8 * 4096;
        self.media[device].read(at, &mut block).unwrap();
        values(&block)[(inside % 8) as usize]
    }
}

/// Whether something that was made and perhaps deleted has to be there, and may be.
fn presence(made: Span, deleted: Option<Span>, tick: u64) -> (bool, bool) {
    let (certainly, maybe) = made.at(tick);
    let (gone, going) = deleted.map_or((false, false), |deleted| deleted.at(tick));
    (certainly && !going, maybe && !gone)
}

/// Everything that is durable is there, and nothing else.
fn check(world: &World, wreck: &Wreck, tick: u64, end: End) {
    let contents = &wreck.contents;
    for volume in &world.volumes {
        let found = contents.volumes.values().find(|r| r.uuid.as_u128() == volume.uuid);
        let (must, may) = presence(volume.made, volume.deleted, tick);
        assert!(found.is_some() || !must, "{} is lost", volume.name);
        let Some(record) = found else { continue };
        assert!(may, "{} came back", volume.name);
        let bytes = contents.nodes[&record.node].bytes;
        assert!(volume.may_have(bytes, tick), "{} has {bytes} bytes", volume.name);
        let map = open(contents, record.node);
        let flushed = match end {
            End::PowerCut => volume.flushed(tick),
            End::Kill => tick + 1,
        };
        let mut first = 0;
        for (number, sector) in volume.sectors.range(..bytes / SECTOR as u64) {
            let value = wreck.value(&map, *number);
            if number % (u64::from(volume.block_bytes) / SECTOR as u64) == 0 {
                first = value;
            }
            assert_eq!(value, first, "a block of {} is torn at sector {number}", volume.name);
            assert!(
                sector.may_hold(value, tick, flushed),
                "sector {number} of {} holds {value} at {tick}, flushed {flushed}: {sector:?}",
                volume.name
            );
        }
    }
    let kept = |name: &str| contents.records.get(&(0, name.to_owned()));
    assert_eq!(kept("a"), kept("b"), "both names or none");
    let kept = kept("a").map_or(0, |bytes| u64::from_le_bytes(bytes[..].try_into().unwrap()));
    let must = world.records.iter().rfind(|(_, span)| span.at(tick).0).map_or(0, |last| last.0);
    let may = world.records.iter().rfind(|(_, span)| span.at(tick).1).map_or(0, |last| last.0);
    assert!((must..=may).contains(&kept), "{kept} is kept, of {must} to {may}");
    for (uuid, host, _) in world.noted.iter().filter(|(.., noted)| *noted <= tick) {
        let of = contents.volumes.iter().find(|(_, record)| record.uuid.as_u128() == *uuid);
        let is_noted = |(number, _): (&u64, _)| contents.writers.contains_key(&(*number, *host));
        assert!(of.is_none_or(is_noted), "host {host} is forgotten");
    }
    for snapshot in &world.snapshots {
        let (must, may) = presence(snapshot.made, snapshot.deleted, tick);
        // Those of a group have one name: what they hold says which it is.
        let mut found = contents.nodes.iter().filter(|(_, node)| {
            matches!(&node.state, NodeState::Snapshot { name, .. } if *name == snapshot.name)
        });
        let is_it = |node: u64, bytes: u64| {
            let map = open(contents, node);
            bytes == snapshot.bytes
                && snapshot.holds.iter().all(|(at, value)| wreck.value(&map, *at) == *value)
        };
        let is_there = found.any(|(node, record)| is_it(*node, record.bytes));
        assert!(is_there || !must, "snapshot {} is lost or has changed", snapshot.name);
        let alone = world.snapshots.iter().filter(|s| s.name == snapshot.name).count() == 1;
        assert!(!is_there || may || !alone, "snapshot {} came back", snapshot.name);
    }
}

/// The pool is imported from what is left: it shows the same, is cleaned up, and shows the same.
fn reopen(images: Vec<Image>, wreck: &Wreck, atomic_bytes: u32) {
    let rack = Arc::new(Mutex::new(Rack::new(atomic_bytes)));
    let disks: Vec<Arc<Disk>> = DEVICES.iter().map(|device| Rack::add(&rack, *device)).collect();
    rack.lock().unwrap().put(images);
    let (reactor, host) = new_reactor(&rack, TapeJournals::default());
    let members = wreck.places.values().map(|(_, device)| member(&disks[*device])).collect();
    let pool = Pool::import(members, host).unwrap();
    let named = wreck.contents.rows.values().flat_map(|row| row.entries());
    let named = named.filter(|entry| entry.slot().is_some()).count() as u64;
    let status = pool.status();
    assert_eq!(status.space.used, named << 20, "space is exact");
    let on_devices: u64 = status.devices.iter().map(|device| device.used).sum();
    assert_eq!(on_devices, status.space.used, "on each device, too");
    for round in 0..2 {
        for record in wreck.contents.volumes.values() {
            let map = open(&wreck.contents, record.node);
            let bdev: Arc<dyn Bdev> = pool.volume(&record.name).unwrap();
            let addr = reactor.lock().unwrap().open(&bdev);
            let blocks = bdev.geometry().bytes() / 4096;
            for block in
                [0, 1, 254, 255, 256, 257, 600, 601, 602].into_iter().filter(|b| *b < blocks)
            {
                let per = 4096 / u64::from(record.block_bytes);
                let at = (block * per, per as u32, record.block_bytes);
                let tag = reactor.lock().unwrap().ask(addr, Op::Read, IoFlags::NONE, at, &[]);
                while !reactor.lock().unwrap().is_idle() {
                    reactor.lock().unwrap().turn();
                    pool.step();
                }
                let ended = reactor.lock().unwrap().ended.pop().unwrap();
                assert_eq!(ended.tag, tag);
                for (number, value) in (block * 8..).zip(values(&ended.data)) {
                    assert_eq!(value, wreck.value(&map, number), "round {round}, sector {number}");
                }
            }
            reactor.lock().unwrap().close(addr);
        }
        while pool.step() {
            reactor.lock().unwrap().turn();
        }
    }
    let status = pool.status();
    assert_eq!((status.failed, status.stopped), (None, None));
    pool.close().unwrap();
}

/// The pool is imported after the process was killed. Returns what is on the devices then, and what
/// was done to them.
fn import_killed(
    world: &World,
    images: Vec<Image>,
    journals: Vec<Vec<u64>>,
) -> (Vec<Image>, Vec<(u64, usize, Action)>) {
    let rack = Arc::new(Mutex::new(Rack::default()));
    let disks: Vec<Arc<Disk>> = DEVICES.iter().map(|device| Rack::add(&rack, *device)).collect();
    let ours = world.machine.disks.iter().zip(&disks);
    let is_ours = |image: &Image| Superblock::read(&Left::new(image.clone(), 1 << 20)).is_ok();
    let members = ours.zip(&images).filter(|(_, image)| is_ours(image));
    let members: Vec<_> = members.map(|((_, disk), _)| member(disk)).collect();
    rack.lock().unwrap().put(images);
    let host = host_without_reactors(TapeJournals::new(rack.clone(), journals));
    drop(Pool::import(members, host).unwrap());
    let mut rack = rack.lock().unwrap();
    (rack.images(), std::mem::take(&mut rack.log))
}

/// The process is killed after the first `done` actions; now and then the power goes while the pool
/// is imported after that.
fn kill(
    world: &World,
    log: &[(u64, usize, Action)],
    (done, kills): (usize, &mut Kills<'_>),
    chance: &mut Chance,
) {
    // All that was asked for before the next action may have happened.
    let tick = log.get(done).map_or(log[done - 1].0, |next| next.0 - 1);
    let (images, journals) = kills.at(done, chance);
    let (after, imported) = import_killed(world, images, journals);
    check(world, &Wreck::new(&after), tick, End::Kill);
    if chance.below(REOPEN) == 0 {
        let both: Vec<_> = log[..done].iter().chain(&imported).cloned().collect();
        let mut cuts = PowerCuts::new(&both, DEVICES.len(), world.atomic_bytes);
        for cut in done..=both.len() {
            let wreck = Wreck::new(&cuts.images(cut, chance));
            check(world, &wreck, tick, End::PowerCut);
        }
    }
}

/// Says on the way out of a panic how to see it again.
struct Again {
    seed: u64,
    image: usize,
}

impl Drop for Again {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "CRASH_FIRST={} CRASH_SEEDS=1 CRASH_IMAGE={} shows it again",
                self.seed, self.image
            );
        }
    }
}

/// Lives a life of `steps`, and looks at every image of its devices: at one alone where `only` says so.
pub fn run(seed: u64, steps: u64, only: Option<u64>, prepare: impl FnOnce(&World)) -> Tally {
    let mut world = World::new(seed);
    let from = world.machine.rack.lock().unwrap().log.len();
    prepare(&world);
    (0..steps).for_each(|_| world.step());
    world.finish();
    let log = std::mem::take(&mut world.machine.rack.lock().unwrap().log);
    let is_discard = |(_, _, action): &&(u64, usize, Action)| matches!(action, Action::Discard(..));
    world.tally.discards = log.iter().filter(is_discard).count() as u64;
    let tears = world.machine.rack.lock().unwrap().tears;
    let unit = if tears { SECTOR as u32 } else { world.atomic_bytes };
    let mut cuts = PowerCuts::new(&log, DEVICES.len(), unit);
    let mut kills = Kills::new(&log, DEVICES.len());
    let mut again = Again { seed, image: from };
    for done in from..=log.len() {
        again.image = done;
        let mut chance = Chance::new(seed ^ 0xdead ^ ((done as u64) << 32));
        if only.is_some_and(|only| only != done as u64) {
            continue;
        }
        let is_journal = matches!(log[done - 1].2, Action::Journal(..));
        if is_journal || chance.below(KILL) == 0 {
            kill(&world, &log, (done, &mut kills), &mut chance);
            world.tally.kills += 1;
        }
        if is_journal {
            continue;
        }
        let images = cuts.images(done, &mut chance);
        let tick = log[done - 1].0;
        let wreck = Wreck::new(&images);
        check(&world, &wreck, tick, End::PowerCut);
        world.tally.images += 1;
        if chance.below(REOPEN) == 0 {
            reopen(images, &wreck, world.atomic_bytes);
            world.tally.reopened += 1;
        }
    }
    world.tally
}
