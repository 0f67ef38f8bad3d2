//! A pool goes from process to process and from machine to machine, which end in order, are killed, and
//! lose their power, also in the midst of opening it. Whoever has it has it alone, and nothing that was
//! answered is missing without a loss that was counted since.

use crate::disk::{Action, Disk, Image, Kills, PowerCuts, Rack};
use crate::journals::{LEFT, TapeJournals};
use crate::life::{close, make, open, read, write};
use crate::machine::{Machine, host_without_reactors, member};
use crate::support::chance::Chance;
use bdev::{Addr, Bdev, Noted, Op};
use bdev_pool::{FORMAT_2, Held, Kind, Opening, Owner, Pool};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

const MIB: u64 = 1 << 20;
const DEVICES: [(u64, u32); 2] = [(17 * MIB + 10 * MIB, 512), (17 * MIB + 10 * MIB, 4096)];
const HOSTS: u128 = 20;
const BLOCKS: [u64; 5] = [0, 1, 255, 256, 700];

/// A write that was asked for, and when it was answered.
#[derive(Clone, Copy, Debug)]
struct Written {
    host: u128,
    block: u64,
    value: u64,
    asked: u64,
    /// `u64::MAX` if it never was.
    answered: u64,
    /// Losses that were counted then.
    losses: u64,
}

/// A machine on which processes have the pool.
#[derive(Clone)]
struct Place {
    machine: u128,
    boot: u128,
    /// What the last process left in memory.
    left: Vec<Vec<u64>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    opened: u64,
    refused: u64,
    killed: u64,
    cut: u64,
    closed: u64,
    taken: u64,
    missing: u64,
    losses: u64,
    told: u64,
}

struct World {
    rack: Arc<Mutex<Rack>>,
    disks: Vec<Arc<Disk>>,
    places: Vec<Place>,
    /// Who has it by the model: the place, whether its process ended in order.
    holder: Option<usize>,
    chance: Chance,
    written: Vec<Written>,
    value: u64,
    processes: u128,
    now_s: u64,
    /// What was certainly on the devices when the log began.
    durable: Vec<Image>,
    /// The last end was in order, and so many losses were counted then.
    in_order: Option<u64>,
    /// Hosts that have ever been noted, perhaps.
    ever: BTreeSet<u128>,
    tally: Tally,
}

fn owner(place: &Place, process: u128) -> Owner {
    Owner {
        machine: Uuid::from_u128(place.machine),
        name: format!("machine{}", place.machine),
        boot: Uuid::from_u128(place.boot),
        process: Uuid::from_u128(process),
    }
}

impl World {
    fn new(seed: u64) -> World {
        let rack = Arc::new(Mutex::new(Rack::new(4096)));
        let disks: Vec<_> = DEVICES.iter().map(|device| Rack::add(&rack, *device)).collect();
        let place = |machine| Place { machine, boot: machine << 32, left: Vec::new() };
        let places = vec![place(1), place(2)];
        let mut uuids = 1 << 50;
        let uuid = || {
            uuids += 1;
            Uuid::from_u128(uuids)
        };
        let host = host_without_reactors(TapeJournals::new(rack.clone(), Vec::new()));
        let members = disks.iter().map(member).collect();
        let opening = Opening { owner: owner(&places[0], 1), now_s: 50, ..Opening::default() };
        let pool = Pool::make(("tank", FORMAT_2), members, opening, host, uuid).unwrap();
        pool.close().unwrap();
        rack.lock().unwrap().log.clear();
        let durable = rack.lock().unwrap().images();
        let mut world = World {
            rack,
            disks,
            places,
            holder: None,
            chance: Chance::new(seed),
            written: Vec::new(),
            value: 0,
            processes: 1,
            now_s: 100,
            durable,
            in_order: Some(0),
            ever: BTreeSet::new(),
            tally: Tally::default(),
        };
        let (_, mut machine) = world.open();
        let a = make(&mut machine, "a", 4 * MIB);
        close(&machine, a);
        world.end_in_order(&machine);
        world
    }

    /// Somebody opens it: the last one again, or another, who has to force it where it is held.
    fn open(&mut self) -> (usize, Machine) {
        let at = self.chance.below(2) as usize;
        self.processes += 1;
        self.now_s += 100;
        let is_elsewhere = self.holder.is_some_and(|holder| holder != at);
        let place = self.places[at].clone();
        let opening = |force| {
            let owner = owner(&place, self.processes);
            Opening { owner, now_s: self.now_s, force, ..Opening::default() }
        };
        if is_elsewhere {
            let before = self.rack.lock().unwrap().log.len();
            let refused =
                Machine::open(&self.rack, &self.disks, place.left.clone(), opening(false));
            let error = refused.err().expect("another machine has it");
            assert_eq!(error.kind, Kind::InUse, "{error}");
            let holder = self.places[self.holder.unwrap()].machine;
            assert!(error.message.contains(&format!("machine{holder}")), "{error}");
            assert_eq!(self.rack.lock().unwrap().log.len(), before, "nothing was written");
            self.tally.refused += 1;
            self.tally.taken += 1;
        }
        let machine =
            Machine::open(&self.rack, &self.disks, place.left.clone(), opening(is_elsewhere));
        self.holder = Some(at);
        self.tally.opened += 1;
        let machine = machine.unwrap();
        if let Some(losses) = self.in_order.take() {
            assert_eq!(machine.pool.directory().tenure().losses, losses, "it was let go of");
        }
        (at, machine)
    }

    fn end_in_order(&mut self, machine: &Machine) {
        machine.pool.close().unwrap();
        let tenure = machine.pool.directory().tenure();
        assert!(matches!(tenure.held, Held::LetGo { .. }));
        (self.holder, self.in_order) = (None, Some(tenure.losses));
        self.places.iter_mut().for_each(|place| place.left.clear());
        self.tally.closed += 1;
        // What was closed is durable.
        let mut rack = self.rack.lock().unwrap();
        rack.log.clear();
        self.durable = rack.images();
    }

    /// Whatever was answered is there, or a loss was counted since.
    fn check(&mut self, machine: &Machine, a: Addr) {
        let losses = machine.pool.directory().tenure().losses;
        let mut lied_to = BTreeSet::new();
        for block in BLOCKS {
            let found = read(machine, a, block, 1)[0];
            let of_it = self.written.iter().filter(|written| written.block == block);
            let mut missing: Option<Written> = None;
            for written in of_it.rev() {
                if written.value == found {
                    break;
                }
                if written.answered != u64::MAX {
                    lied_to.extend((written.host != 0).then_some(written.host));
                    missing = Some(missing.map_or(*written, |m| Written {
                        losses: m.losses.max(written.losses),
                        ..m
                    }));
                }
            }
            if let Some(missing) = missing {
                self.tally.missing += 1;
                assert!(
                    losses > missing.losses,
                    "block {block} holds {found}: {missing:?} is missing, and {losses} losses were \
                     counted"
                );
            }
        }
        self.tally.losses = self.tally.losses.max(losses);
        let witness = machine.pool.volume("a").unwrap().witness().unwrap();
        for host in 1..=HOSTS {
            let told = witness.take_loss(host);
            assert!(told || !lied_to.contains(&host), "host {host} is not told: {lied_to:?}");
            assert!(!told || self.ever.contains(&host), "host {host} came later");
            assert!(!witness.take_loss(host), "once");
            self.tally.told += u64::from(told);
        }
        // What is missing will be missed no more, and what was under way is what it is.
        for block in BLOCKS {
            let found = read(machine, a, block, 1)[0];
            self.written.retain(|written| written.block != block);
            let (asked, answered) = (0, 0);
            let host = 0;
            self.written.push(Written { host, block, value: found, asked, answered, losses });
        }
    }

    /// A host that is noted before it writes. A new one now and then.
    fn host(&mut self, machine: &Machine) -> u128 {
        let host = 1 + u128::from(self.chance.below(HOSTS as u64));
        let witness = machine.pool.volume("a").unwrap().witness().unwrap();
        let is_new = self.ever.insert(host);
        while witness.note(host, "nqn.host") != Noted::Yes {
            machine.turn();
        }
        assert!(!is_new || !witness.take_loss(host), "host {host} came later");
        host
    }

    fn use_it(&mut self, machine: &Machine, a: Addr) {
        for _ in 0..self.chance.below(12) {
            match self.chance.below(8) {
                0 => {
                    let flushed = machine.one(a, Op::Flush, (0, 0, 4096), &[]);
                    assert!(flushed.status.is_success());
                }
                1 => machine.pool.checkpoint(self.now_s + 1).unwrap(),
                _ => {
                    self.value += 1;
                    let host = self.host(machine);
                    let block = BLOCKS[self.chance.below(BLOCKS.len() as u64) as usize];
                    let losses = machine.pool.directory().tenure().losses;
                    let asked = self.rack.lock().unwrap().tick();
                    assert!(write(machine, a, block, 1, self.value).is_success());
                    let answered = self.rack.lock().unwrap().tick();
                    let value = self.value;
                    self.written.push(Written { host, block, value, asked, answered, losses });
                }
            }
        }
    }

    /// Nothing that came after `tick` has happened.
    fn forget_after(&mut self, tick: u64) {
        self.written.retain(|written| written.asked <= tick);
        let late = self.written.iter_mut().filter(|written| written.answered > tick);
        late.for_each(|written| written.answered = u64::MAX);
    }

    /// The process ends, or its machine does, at any moment since it began to open the pool.
    fn end_badly(&mut self, at: usize, began: usize) {
        let log = std::mem::take(&mut self.rack.lock().unwrap().log);
        let done = began + self.chance.below((log.len() - began) as u64 + 1) as usize;
        let tick = log.get(done).map_or(u64::MAX - 1, |next| next.0 - 1);
        self.forget_after(tick);
        let images = if self.chance.below(2) == 0 {
            self.tally.killed += 1;
            // Journals are of this process alone.
            let own: Vec<_> = log[began..done].to_vec();
            let mut kills = Kills::new(&log, DEVICES.len()).with(&self.durable);
            let (images, _) = kills.at(done, &mut self.chance);
            let (_, left) = Kills::new(&own, DEVICES.len()).at(own.len(), &mut self.chance);
            let is_discard =
                |(_, _, action): &(u64, usize, Action)| matches!(action, Action::Journal(LEFT, _));
            if own.iter().any(is_discard) {
                self.places[at].left = left;
            }
            // Of what is in caches nothing is lost: it stays pending.
            self.rack.lock().unwrap().log = log[..done].to_vec();
            images
        } else {
            self.tally.cut += 1;
            let mut cuts = PowerCuts::new(&log, DEVICES.len(), 4096).with(&self.durable);
            let images = cuts.images(done, &mut self.chance);
            self.places[at].boot += 1;
            self.places[at].left.clear();
            self.durable = images.clone();
            images
        };
        self.rack.lock().unwrap().put(images);
        self.in_order = None;
    }

    fn session(&mut self) {
        // A killed process that was opening may have left the pool as it was before.
        let began = self.rack.lock().unwrap().log.len();
        let (at, machine) = self.open();
        let a = open(&machine, "a");
        self.check(&machine, a);
        self.use_it(&machine, a);
        close(&machine, a);
        if self.chance.below(3) == 0 {
            return self.end_in_order(&machine);
        }
        drop(machine);
        self.end_badly(at, began);
        self.holder = self.holder_now();
    }

    /// Who has it as the devices say: an opening that was cut off may have changed nothing.
    fn holder_now(&self) -> Option<usize> {
        let found = self.disks.iter().map(|disk| bdev_pool::Superblock::read(&**disk).unwrap());
        let newest = found.max_by_key(|block| block.metadata_generation).unwrap();
        let Held::By { owner, .. } = newest.tenure.held else { return None };
        let is_it = |place: &Place| Uuid::from_u128(place.machine) == owner.machine;
        self.places.iter().position(is_it)
    }
}

#[test]
fn whoever_has_a_pool_has_it_alone_and_no_loss_is_hidden() {
    let mut all = Tally::default();
    for seed in 1..=crate::env("TENURE_SEEDS", 60) {
        let mut world = World::new(seed);
        (0..12).for_each(|_| world.session());
        let Tally { opened, refused, killed, cut, closed, taken, missing, losses, told } =
            world.tally;
        all.opened += opened;
        all.refused += refused;
        all.killed += killed;
        all.cut += cut;
        all.closed += closed;
        all.taken += taken;
        all.missing += missing;
        all.losses += losses;
        all.told += told;
    }
    println!("{all:?}");
    let happened = [all.killed, all.cut, all.closed, all.missing, all.losses, all.told];
    assert!(happened.iter().all(|count| *count > 10), "everything happens: {all:?}");
}
