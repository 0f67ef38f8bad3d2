//! A host and an operator who do things by chance, and what came of them.

use crate::disk::SECTOR;
use crate::machine::{Ended, Machine, member, pattern, values};
use crate::model::{Change, Sector, Size, Snapshot, Span, Volume};
use crate::support::chance::Chance;
use bdev::{Addr, Bdev, IoFlags, Noted, Op};
use bdev_pool::{FORMAT_1, FORMAT_2, Kind, Limits, NewVolume, VolumeKind};
use nvme_spec::Status;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub const MIB: u64 = 1 << 20;
const BLOCK_SECTORS: u64 = 8;
const EXTENT_SECTORS: u64 = MIB / SECTOR as u64;

/// Blocks of a volume that are ever used: around the ends of extents, and of the volume.
const SPOTS: [(u64, u64); 4] = [(0, 2), (254, 4), (600, 3), (1022, 2)];

/// Bytes of a volume when it is made.
const BYTES: u64 = 4 * MIB;

/// Devices: a pool begins with the first two.
pub const DEVICES: [(u64, u32); 4] =
    [(28 * MIB, 512), (27 * MIB, 4096), (33 * MIB, 512), (30 * MIB, 512)];

/// Something the host has asked for.
enum Asked {
    Read { volume: u128, sectors: Range<u64>, asked: u64 },
    Change,
    Flush { volume: u128, asked: u64 },
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub images: u64,
    pub kills: u64,
    pub reopened: u64,
    pub full: u64,
    pub snapshots: u64,
    pub clones: u64,
    pub rolled_back: u64,
    pub promoted: u64,
    pub shrunk: u64,
    pub drained: u64,
    pub added: u64,
    pub deleted: u64,
    pub discards: u64,
    pub filled: u64,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.images += other.images;
        self.kills += other.kills;
        self.reopened += other.reopened;
        self.full += other.full;
        self.snapshots += other.snapshots;
        self.clones += other.clones;
        self.rolled_back += other.rolled_back;
        self.promoted += other.promoted;
        self.shrunk += other.shrunk;
        self.drained += other.drained;
        self.added += other.added;
        self.deleted += other.deleted;
        self.discards += other.discards;
        self.filled += other.filled;
    }
}

pub struct World {
    pub machine: Machine,
    pub atomic_bytes: u32,
    chance: Chance,
    pub volumes: Vec<Volume>,
    pub snapshots: Vec<Snapshot>,
    open: HashMap<u128, (Addr, Arc<dyn Bdev>)>,
    asked: HashMap<u64, Asked>,
    values: u64,
    pub tally: Tally,
    /// Devices of the pool.
    pub devices: Vec<usize>,
    /// What was kept with the pool, under two names at once.
    pub records: Vec<(u64, Span)>,
    /// Hosts that were noted: the volume, the host, and when that was certain.
    pub noted: Vec<(u128, u128, u64)>,
}

fn spots() -> impl Iterator<Item = u64> {
    SPOTS
        .into_iter()
        .flat_map(|(block, count)| block * BLOCK_SECTORS..(block + count) * BLOCK_SECTORS)
}

impl World {
    pub fn new(seed: u64) -> World {
        // The blocks of volumes are as large as what the devices write atomically, or smaller.
        let atomic_bytes = if seed.is_multiple_of(2) { 4096 } else { 512 };
        // Two of three are of format 2.
        let format = if seed.is_multiple_of(3) { FORMAT_1 } else { FORMAT_2 };
        let machine = Machine::of(format, &DEVICES, atomic_bytes);
        let mut world = World {
            machine,
            atomic_bytes,
            chance: Chance::new(seed),
            volumes: Vec::new(),
            snapshots: Vec::new(),
            open: HashMap::new(),
            asked: HashMap::new(),
            values: 0,
            tally: Tally::default(),
            devices: vec![0, 1],
            records: Vec::new(),
            noted: Vec::new(),
        };
        world.make_volume();
        world
    }

    pub fn tick(&self) -> u64 {
        self.machine.rack.lock().unwrap().tick()
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.chance.below(n) == 0
    }

    fn value(&mut self) -> u64 {
        self.values += 1;
        self.values
    }

    /// Calls the pool; `None` if it refused for lack of space.
    fn operate<R>(
        &mut self,
        what: impl FnOnce(&Machine) -> Result<R, bdev_pool::PoolError>,
    ) -> (Span, Option<R>) {
        let asked = self.tick();
        let result = what(&self.machine);
        let ended = self.tick();
        match result {
            Ok(result) => (Span { asked, ended }, Some(result)),
            Err(error) if error.kind == Kind::Full => (Span { asked, ended }, None),
            Err(error) => panic!("{error}"),
        }
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.volumes.len()).filter(|at| self.volumes[*at].deleted.is_none()).collect()
    }

    fn some_volume(&mut self) -> Option<usize> {
        let alive = self.alive();
        (!alive.is_empty()).then(|| alive[self.chance.below(alive.len() as u64) as usize])
    }

    fn some_snapshot(&mut self) -> Option<usize> {
        let there: Vec<usize> =
            (0..self.snapshots.len()).filter(|at| self.snapshots[*at].deleted.is_none()).collect();
        (!there.is_empty()).then(|| there[self.chance.below(there.len() as u64) as usize])
    }

    fn name_of(&self, uuid: u128) -> String {
        let owner = self.volumes.iter().find(|volume| volume.uuid == uuid);
        owner.expect("it was made").name.clone()
    }

    fn new_volume(&mut self) -> NewVolume {
        let uuid = self.machine.uuid();
        NewVolume {
            name: format!("v{}", uuid.as_u128()),
            uuid,
            bytes: BYTES,
            block_bytes: Some(if self.one_in(2) { 512 } else { self.atomic_bytes }),
            thick: self.one_in(4),
            limits: Limits::default(),
            made_s: 0,
        }
    }

    fn make_volume(&mut self) {
        let new = self.new_volume();
        let kind = match self.is_format_2() {
            true => VolumeKind { filled: self.one_in(6), hidden: self.one_in(6), home: None },
            false => VolumeKind::default(),
        };
        let (made, done) = self.operate(|machine| machine.pool.create_volume_of(new.clone(), kind));
        if done.is_some() {
            self.tally.filled += u64::from(kind.filled);
            let sectors = spots().map(|sector| (sector, Sector::default())).collect();
            self.keep_volume(&new, made, sectors, BYTES);
        }
    }

    fn is_format_2(&self) -> bool {
        self.machine.pool.directory().format() == FORMAT_2
    }

    /// Keeps one value under two names.
    fn keep(&mut self) {
        let value = self.value();
        let bytes = Some(value.to_le_bytes().to_vec());
        let changes = vec![("a".to_owned(), bytes.clone()), ("b".to_owned(), bytes)];
        let (span, done) = self.operate(|machine| machine.pool.set_records(None, changes));
        done.expect("takes no space");
        self.records.push((value, span));
    }

    /// A host is about to write.
    fn note_host(&mut self) {
        let Some(volume) = self.some_volume() else { return };
        let Volume { uuid, name, .. } = &self.volumes[volume];
        let (uuid, host) = (*uuid, u128::from(1 + self.chance.below(3)));
        let witness = self.machine.pool.volume(name).unwrap().witness().expect("it has one");
        while witness.note(host, "nqn.host") != Noted::Yes {
            self.machine.turn();
        }
        let tick = self.tick();
        self.noted.push((uuid, host, tick));
    }

    fn is_filled(&self, volume: usize) -> bool {
        let status = self.machine.pool.directory().volume_named(&self.volumes[volume].name);
        status.expect("it is there").kind.filled
    }

    fn keep_volume(
        &mut self,
        new: &NewVolume,
        made: Span,
        sectors: BTreeMap<u64, Sector>,
        bytes: u64,
    ) {
        let uuid = new.uuid.as_u128();
        self.volumes.push(Volume {
            uuid,
            name: new.name.clone(),
            block_bytes: new.block_bytes.expect("asked for"),
            made,
            deleted: None,
            sizes: vec![Size { bytes, span: made }],
            sectors,
            flushes: Vec::new(),
        });
        if !self.one_in(8) {
            self.open_volume(self.volumes.len() - 1);
        }
    }

    fn open_volume(&mut self, volume: usize) -> Addr {
        let Volume { uuid, name, .. } = &self.volumes[volume];
        if let Some((addr, _)) = self.open.get(uuid) {
            return *addr;
        }
        let bdev: Arc<dyn Bdev> = self.machine.pool.volume(name).unwrap();
        let addr = self.machine.reactor.lock().unwrap().open(&bdev);
        self.open.insert(*uuid, (addr, bdev));
        addr
    }

    fn close_volume(&mut self, volume: usize) {
        self.settle();
        if let Some((addr, _)) = self.open.remove(&self.volumes[volume].uuid) {
            self.machine.reactor.lock().unwrap().close(addr);
        }
    }

    /// One thing, by chance.
    pub fn step(&mut self) {
        match self.chance.below(1000) {
            0..430 => self.write(),
            430..520 => self.read(),
            520..600 => self.zero(),
            600..680 => self.flush(),
            680..700 => self.snapshot(),
            700..712 => self.delete_snapshot(),
            712..722 => self.clone_snapshot(),
            722..727 => self.roll_back(),
            727..736 => self.promote(),
            736..743 if self.alive().len() < 4 => self.make_volume(),
            743..748 if self.alive().len() > 1 => self.delete_volume(),
            748..756 => self.resize(),
            756..759 => self.rename(),
            759..764 => self.close_or_open(),
            764..769 => self.limit(),
            769..772 => self.add_device(),
            775..779 => {
                let none = self.one_in(2);
                self.machine.no_journals.store(none, Ordering::Relaxed);
            }
            772..775 => self.drain_device(),
            779..783 if self.is_format_2() => self.keep(),
            783..790 if self.is_format_2() => self.note_host(),
            _ => {
                self.machine.turn();
            }
        }
        if self.one_in(3) {
            self.machine.turn();
        }
        self.hear();
    }

    /// What has ended.
    fn hear(&mut self) {
        let ended: Vec<Ended> = self.machine.reactor.lock().unwrap().ended.drain(..).collect();
        for Ended { tag, tick, status, data } in ended {
            let full = status == Status::CAPACITY_EXCEEDED;
            assert!(status.is_success() || full, "{status}");
            match self.asked.remove(&tag).expect("it was asked for") {
                Asked::Read { volume, sectors, asked } => {
                    let read = Span { asked, ended: tick };
                    self.check_read(volume, sectors, read, &values(&data));
                }
                Asked::Flush { volume, asked } => {
                    assert!(!full, "a flush takes no space");
                    let volume = self.volumes.iter_mut().find(|v| v.uuid == volume);
                    volume.unwrap().flushes.push(Span { asked, ended: tick });
                }
                Asked::Change => {
                    self.tally.full += u64::from(full);
                    let changes = self.volumes.iter_mut().flat_map(|volume| {
                        volume.sectors.values_mut().filter_map(|sector| sector.0.last_mut())
                    });
                    for change in changes.filter(|change| change.by == tag) {
                        change.span.ended = tick;
                        change.maybe = full;
                    }
                }
            }
        }
    }

    fn check_read(&self, volume: u128, sectors: Range<u64>, read: Span, found: &[u64]) {
        let volume = self.volumes.iter().find(|other| other.uuid == volume).unwrap();
        for (number, value) in sectors.zip(found) {
            if let Some(sector) = volume.sectors.get(&number) {
                assert!(
                    sector.may_show(*value, read),
                    "sector {number} of {} shows {value} at {read:?}: {sector:?}",
                    volume.name
                );
            }
        }
    }

    pub fn settle(&mut self) {
        self.machine.settle();
        self.hear();
    }

    /// Some of the blocks that are used, or part of them, that nobody is changing.
    fn some_sectors(&mut self, volume: usize) -> Option<Range<u64>> {
        let (block, count) = SPOTS[self.chance.below(SPOTS.len() as u64) as usize];
        let per_block = u64::from(self.volumes[volume].block_bytes) / SECTOR as u64;
        let units = count * BLOCK_SECTORS / per_block;
        let first = self.chance.below(units);
        let count = 1 + self.chance.below(units - first);
        let start = block * BLOCK_SECTORS + first * per_block;
        let sectors = start..start + count * per_block;
        (sectors.end <= self.volumes[volume].end_sector()).then_some(sectors)
    }

    /// Whether nobody changes a block that these sectors touch.
    fn is_quiet(&mut self, volume: usize, sectors: &Range<u64>) -> bool {
        let from = sectors.start / BLOCK_SECTORS * BLOCK_SECTORS;
        let to = sectors.end.next_multiple_of(BLOCK_SECTORS);
        let mut touched = self.volumes[volume].within(from..to);
        touched.all(|(_, sector)| sector.0.last().is_none_or(|last| last.span.ended != u64::MAX))
    }

    fn ask(
        &mut self,
        volume: usize,
        op: Op,
        flags: IoFlags,
        sectors: &Range<u64>,
        data: &[u8],
    ) -> u64 {
        let to = self.open_volume(volume);
        let block_bytes = self.volumes[volume].block_bytes;
        let per_block = u64::from(block_bytes) / SECTOR as u64;
        let at = (sectors.start / per_block, ((sectors.end - sectors.start) / per_block) as u32);
        let mut reactor = self.machine.reactor.lock().unwrap();
        reactor.ask(to, op, flags, (at.0, at.1, block_bytes), data)
    }

    fn change(&mut self, volume: usize, sectors: Range<u64>, op: Op, value: u64) {
        let durable = self.one_in(8);
        let flags = if durable { IoFlags::FUA } else { IoFlags::NONE };
        let count = (sectors.end - sectors.start) as usize;
        let data = match op {
            Op::Write => pattern(std::iter::repeat_n(value, count)),
            _ => Vec::new(),
        };
        let asked = self.tick();
        let by = self.ask(volume, op, flags, &sectors, &data);
        let change = Change { value, span: Span::from(asked), durable, maybe: false, by };
        for (_, sector) in self.volumes[volume].within(sectors) {
            sector.0.push(change);
        }
        self.asked.insert(by, Asked::Change);
    }

    fn write(&mut self) {
        let Some(volume) = self.some_volume() else { return };
        let Some(sectors) = self.some_sectors(volume) else { return };
        if self.is_quiet(volume, &sectors) {
            let value = self.value();
            self.change(volume, sectors, Op::Write, value);
        }
    }

    fn zero(&mut self) {
        let Some(volume) = self.some_volume() else { return };
        let end = self.volumes[volume].end_sector();
        let (op, sectors) = match self.chance.below(3) {
            0 => {
                let extents = end / EXTENT_SECTORS;
                let first = self.chance.below(extents.max(1));
                let count = 1 + self.chance.below(2);
                let to = ((first + count) * EXTENT_SECTORS).min(end);
                // A filled volume keeps its blocks, and what is in them.
                let filled = self.is_filled(volume);
                let op = if filled { Op::WriteZeroes } else { Op::Deallocate };
                (op, first * EXTENT_SECTORS..to)
            }
            _ => match self.some_sectors(volume) {
                Some(sectors) => (Op::WriteZeroes, sectors),
                None => return,
            },
        };
        if sectors.start < sectors.end && self.is_quiet(volume, &sectors) {
            self.change(volume, sectors, op, 0);
        }
    }

    fn read(&mut self) {
        let Some(volume) = self.some_volume() else { return };
        let Some(sectors) = self.some_sectors(volume) else { return };
        let asked = self.tick();
        let by = self.ask(volume, Op::Read, IoFlags::NONE, &sectors, &[]);
        let volume = self.volumes[volume].uuid;
        self.asked.insert(by, Asked::Read { volume, sectors, asked });
    }

    fn flush(&mut self) {
        let Some(volume) = self.some_volume() else { return };
        let asked = self.tick();
        let by = self.ask(volume, Op::Flush, IoFlags::NONE, &(0..0), &[]);
        self.asked.insert(by, Asked::Flush { volume: self.volumes[volume].uuid, asked });
    }

    /// A snapshot of one volume, or of all at one instant.
    fn snapshot(&mut self) {
        let there = self.snapshots.iter().filter(|snapshot| snapshot.deleted.is_none()).count();
        let Some(one) = self.some_volume() else { return };
        let mut group = if self.one_in(3) { self.alive() } else { vec![one] };
        group.retain(|volume| !self.is_filled(*volume));
        if group.is_empty() {
            return;
        }
        if there + group.len() > 7 {
            return;
        }
        let name = format!("s{}", self.value());
        let names: Vec<String> = group.iter().map(|at| self.volumes[*at].name.clone()).collect();
        let (made, done) = self.operate(|machine| machine.pool.snapshot(&names, &name, 0));
        if done.is_none() {
            return;
        }
        self.tally.snapshots += 1;
        for at in group {
            let holds = self.read_snapshot(at, &name, made);
            let (owner, bytes) = (self.volumes[at].uuid, self.volumes[at].bytes());
            let name = name.clone();
            self.snapshots.push(Snapshot { name, owner, bytes, made, deleted: None, holds });
        }
    }

    /// What a new snapshot holds: each sector what it may have held at that time.
    fn read_snapshot(&mut self, at: usize, name: &str, made: Span) -> BTreeMap<u64, u64> {
        let bdev: Arc<dyn Bdev> =
            self.machine.pool.snapshot_of(&self.volumes[at].name, name).unwrap();
        let addr = self.machine.reactor.lock().unwrap().open(&bdev);
        let mut holds = BTreeMap::new();
        let block_bytes = self.volumes[at].block_bytes;
        let per_block = u64::from(block_bytes) / SECTOR as u64;
        let end = self.volumes[at].end_sector();
        for (block, count) in SPOTS {
            let sectors = block * BLOCK_SECTORS..((block + count) * BLOCK_SECTORS).min(end);
            if sectors.is_empty() {
                continue;
            }
            let count = sectors.end - sectors.start;
            let lba = (sectors.start / per_block, (count / per_block) as u32);
            let read = self.machine.one(addr, Op::Read, (lba.0, lba.1, block_bytes), &[]);
            self.hear();
            assert_eq!(read.status, Status::SUCCESS);
            for (number, value) in sectors.zip(values(&read.data)) {
                let sector = &self.volumes[at].sectors[&number];
                assert!(
                    sector.may_show(value, made),
                    "{number} in a snapshot: {value}, {sector:?}"
                );
                holds.insert(number, value);
            }
        }
        self.machine.reactor.lock().unwrap().close(addr);
        holds
    }

    fn delete_snapshot(&mut self) {
        let Some(at) = self.some_snapshot() else { return };
        let (owner, name) =
            (self.name_of(self.snapshots[at].owner), self.snapshots[at].name.clone());
        let (span, done) = self.operate(|machine| machine.pool.delete_snapshot(&owner, &name));
        done.expect("takes no space");
        self.snapshots[at].deleted = Some(span);
    }

    fn clone_snapshot(&mut self) {
        let Some(at) = self.some_snapshot() else { return };
        if self.alive().len() >= 5 {
            return;
        }
        let Snapshot { owner, name, bytes, holds, .. } = self.snapshots[at].clone();
        let of = self.name_of(owner);
        let mut new = self.new_volume();
        let origin = self.volumes.iter().find(|volume| volume.uuid == owner).unwrap();
        new.block_bytes = Some(origin.block_bytes);
        let (made, done) =
            self.operate(|machine| machine.pool.clone_snapshot(&of, &name, new.clone()));
        if done.is_none() {
            return;
        }
        self.tally.clones += 1;
        let sector = |number: u64| {
            let value = holds.get(&number).copied().unwrap_or(0);
            let span = Span::ALWAYS;
            Sector(vec![Change { value, span, durable: true, maybe: false, by: 0 }])
        };
        let sectors = spots().map(|number| (number, sector(number))).collect();
        self.keep_volume(&new, made, sectors, bytes);
    }

    fn roll_back(&mut self) {
        let Some(at) = self.some_snapshot() else { return };
        let Snapshot { owner, name, bytes, holds, .. } = self.snapshots[at].clone();
        self.settle();
        let volume = self.name_of(owner);
        let (span, done) = self.operate(|machine| machine.pool.roll_back(&volume, &name));
        if done.is_none() {
            return;
        }
        self.tally.rolled_back += 1;
        let volume = self.volumes.iter_mut().find(|volume| volume.uuid == owner).unwrap();
        volume.sizes.push(Size { bytes, span });
        for (number, sector) in &mut volume.sectors {
            let value = holds.get(number).copied().unwrap_or(0);
            sector.0.push(Change { value, span, durable: true, maybe: false, by: 0 });
        }
    }

    fn promote(&mut self) {
        let Some(at) = self.some_volume() else { return };
        let (name, uuid) = (self.volumes[at].name.clone(), self.volumes[at].uuid);
        if self.machine.pool.promote(&name).is_ok() {
            self.tally.promoted += 1;
            let status = self.machine.pool.status();
            let owned = |owner: &str, name: &str| {
                status.snapshots.iter().any(|s| s.volume == owner && s.name == name)
            };
            for at in 0..self.snapshots.len() {
                let Snapshot { owner, name, deleted, .. } = &self.snapshots[at];
                if deleted.is_none() && !owned(&self.name_of(*owner), name) {
                    self.snapshots[at].owner = uuid;
                }
            }
        }
    }

    fn delete_volume(&mut self) {
        let Some(at) = self.some_volume() else { return };
        self.close_volume(at);
        let (name, uuid) = (self.volumes[at].name.clone(), self.volumes[at].uuid);
        let (span, done) = self.operate(|machine| machine.pool.delete_volume(&name, true));
        done.expect("takes no space");
        self.tally.deleted += 1;
        self.volumes[at].deleted = Some(span);
        let there = self.snapshots.iter_mut().filter(|snapshot| snapshot.deleted.is_none());
        there.filter(|s| s.owner == uuid).for_each(|snapshot| snapshot.deleted = Some(span));
    }

    fn resize(&mut self) {
        let Some(at) = self.some_volume().filter(|at| !self.is_filled(*at)) else { return };
        self.settle();
        let bytes = [MIB, 2 * MIB + 64 * 4096, 4 * MIB, 6 * MIB, 1017 * 4096, 255 * 4096];
        let bytes = bytes[self.chance.below(bytes.len() as u64) as usize];
        let name = self.volumes[at].name.clone();
        let before = self.volumes[at].bytes();
        let (span, done) = self.operate(|machine| machine.pool.resize_volume(&name, bytes, true));
        // Of what failed for lack of space, some may have been done.
        let maybe = done.is_none();
        self.tally.shrunk += u64::from(bytes < before && !maybe);
        if maybe && bytes < before {
            // The size on its way back is not shown; what lies behind may be gone.
        } else if !maybe {
            self.volumes[at].sizes.push(Size { bytes, span });
        }
        if bytes < before {
            let gone = Change { value: 0, span, durable: true, maybe, by: 0 };
            let behind = bytes / SECTOR as u64..u64::MAX;
            self.volumes[at].within(behind).for_each(|(_, sector)| sector.0.push(gone));
        }
    }

    fn rename(&mut self) {
        let Some(at) = self.some_volume() else { return };
        let (name, to) = (self.volumes[at].name.clone(), format!("r{}", self.value()));
        self.operate(|machine| machine.pool.rename_volume(&name, &to)).1.expect("takes no space");
        self.volumes[at].name = to;
    }

    fn close_or_open(&mut self) {
        let Some(at) = self.some_volume() else { return };
        match self.open.contains_key(&self.volumes[at].uuid) {
            true => self.close_volume(at),
            false => drop(self.open_volume(at)),
        }
    }

    fn limit(&mut self) {
        let Some(at) = self.some_volume() else { return };
        let iops = [0, 0, 50, 2000][self.chance.below(4) as usize];
        let limits = Limits { iops, burst_ms: 100, bytes_per_second: 0 };
        let name = self.volumes[at].name.clone();
        self.operate(|machine| machine.pool.set_limits(&name, limits)).1.expect("takes no space");
    }

    fn add_device(&mut self) {
        let free = (0..DEVICES.len()).find(|number| !self.devices.contains(number));
        let Some(number) = free else { return };
        let (new, uuid) = (member(&self.machine.disks[number]), self.machine.uuid());
        let (_, done) = self.operate(|machine| machine.pool.add_device(new, uuid, false));
        done.expect("takes no space");
        self.tally.added += 1;
        self.devices.push(number);
    }

    fn drain_device(&mut self) {
        if self.devices.len() < 2 {
            return;
        }
        let which = self.chance.below(self.devices.len() as u64) as usize;
        let name = format!("disk{}", self.devices[which]);
        if self.operate(|machine| machine.pool.drain_device(&name)).1.is_none() {
            return;
        }
        let called_off = self.one_in(4).then(|| self.chance.below(20));
        // Operations go on meanwhile, and until it is done.
        for steps in 0.. {
            if called_off == Some(steps) {
                self.operate(|machine| machine.pool.keep_device(&name)).1.expect("takes no space");
                return;
            }
            self.write();
            self.machine.turn();
            self.hear();
            let status = self.machine.pool.status();
            assert_eq!(status.stopped, None);
            if !status.devices.iter().any(|device| device.name == name) {
                break;
            }
            assert!(steps < 100_000, "it never ends");
        }
        self.tally.drained += 1;
        self.devices.remove(which);
    }

    /// Everything ends, and space is where it should be.
    pub fn finish(&mut self) {
        self.settle();
        while self.machine.pool.step() {
            self.machine.turn();
        }
        let status = self.machine.pool.status();
        assert_eq!((status.failed, status.stopped), (None, None));
    }
}
