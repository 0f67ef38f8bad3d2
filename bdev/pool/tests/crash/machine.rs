//! One reactor's stack with volumes of a pool open on it, and a host above that asks one thing after
//! the other or many at once.

use crate::disk::{Disk, DiskBdev, Image, Rack, SECTOR};
use crate::journals::TapeJournals;
use crate::support::chance::Chance;
use bdev::dma::PoolPlan;
use bdev::{Addr, Bdev, DmaBuf, DmaPool, Done, Io, IoFlags, Memory, Op, Stack, Tag};
use bdev_pool::FORMAT_1;
use bdev_pool::{DiscardMode, Host, MEMORY_BYTES, NewMember, Opening, Pool, PoolError, Reactors};
use nvme_spec::Status;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// What the host has asked for and not been told the end of.
pub struct Asked {
    buffer: Option<DmaBuf>,
    bytes: usize,
}

/// The end of it.
pub struct Ended {
    pub tag: u64,
    pub tick: u64,
    pub status: Status,
    /// What was read.
    pub data: Vec<u8>,
}

/// The stack, shared with whoever waits for it.
pub struct Reactor {
    stack: Stack,
    memory: DmaPool,
    rack: Arc<Mutex<Rack>>,
    asked: HashMap<u64, Asked>,
    pub ended: Vec<Ended>,
    dones: Vec<Done>,
    next: u64,
    now_ns: u64,
}

impl Reactor {
    pub fn turn(&mut self) {
        self.now_ns += 1_000_000;
        self.stack.poll(self.now_ns);
        self.stack.deliver(self.now_ns, &mut self.dones);
        for done in self.dones.drain(..) {
            let Asked { buffer, bytes } = self.asked.remove(&done.tag.0).expect("ends once");
            let mut data = vec![0; bytes];
            if let Some(buffer) = buffer {
                buffer.slice().copy_out(0, &mut data);
                self.memory.give(buffer);
            }
            let tick = self.rack.lock().unwrap().tick();
            self.ended.push(Ended { tag: done.tag.0, tick, status: done.status, data });
        }
    }

    /// Asks for something; returns its number.
    pub fn ask(
        &mut self,
        to: Addr,
        op: Op,
        flags: IoFlags,
        at: (u64, u32, u32),
        data: &[u8],
    ) -> u64 {
        let (lba, blocks, block_bytes) = at;
        let bytes = match op {
            Op::Read | Op::Write => blocks as usize * block_bytes as usize,
            _ => 0,
        };
        let buffer = (bytes > 0).then(|| self.memory.take(bytes).expect("enough for the test"));
        let slice = buffer.as_ref().map_or(bdev::DmaSlice::EMPTY, |b| b.slice().sub(0, bytes));
        if op == Op::Write {
            slice.copy_in(0, data);
        }
        self.next += 1;
        let tag = self.next;
        self.asked.insert(tag, Asked { buffer, bytes: if op == Op::Read { bytes } else { 0 } });
        let (reply_to, reply_tag) = (Addr::edge(0), Tag(tag));
        let io = Io { op, flags, lba, blocks, data: slice, reply_to, reply_tag };
        self.stack.submit(to, io, self.now_ns);
        tag
    }

    pub fn open(&mut self, bdev: &Arc<dyn Bdev>) -> Addr {
        self.stack.open(bdev, self.now_ns).expect("it can be opened")
    }

    pub fn close(&mut self, addr: Addr) {
        self.stack.close(addr);
    }

    pub fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }
}

/// The reactor as a pool reaches it.
struct One(Arc<Mutex<Reactor>>);

impl Reactors for One {
    fn count(&self) -> usize {
        1
    }

    fn wake(&self, _reactor: usize) {}

    fn add_child(&self, parent: &Arc<dyn Bdev>, child: &Arc<dyn Bdev>) -> Result<(), String> {
        let mut reactor = self.0.lock().unwrap();
        let now_ns = reactor.now_ns;
        if let Some(addr) = reactor.stack.place_of(parent) {
            reactor.stack.add_child(addr, child, now_ns).map_err(|error| error.0)?;
        }
        Ok(())
    }

    fn remove_child(&self, parent: &Arc<dyn Bdev>, child: &Arc<dyn Bdev>) {
        loop {
            let mut reactor = self.0.lock().unwrap();
            let Some(addr) = reactor.stack.place_of(parent) else { return };
            if reactor.stack.remove_child(addr, child) {
                return;
            }
            reactor.turn();
        }
    }
}

struct Nobody;

impl Reactors for Nobody {
    fn count(&self) -> usize {
        1
    }

    fn wake(&self, _reactor: usize) {}

    fn add_child(&self, _parent: &Arc<dyn Bdev>, _child: &Arc<dyn Bdev>) -> Result<(), String> {
        Ok(())
    }

    fn remove_child(&self, _parent: &Arc<dyn Bdev>, _child: &Arc<dyn Bdev>) {}
}

/// A host on which nothing is opened.
pub fn host_without_reactors(journals: TapeJournals) -> Host {
    Host {
        reactors: Arc::new(Nobody),
        memory: vec![bdev::DmaSlice::EMPTY],
        journals: Some(Arc::new(journals)),
        discard: DiscardMode::Auto,
        stepped: Some(Box::new(|| {})),
    }
}

/// A machine with devices and a pool on them.
pub struct Machine {
    pub rack: Arc<Mutex<Rack>>,
    pub disks: Vec<Arc<Disk>>,
    pub reactor: Arc<Mutex<Reactor>>,
    pub pool: Pool,
    /// There is no memory for journals now.
    pub no_journals: Arc<AtomicBool>,
    uuids: u128,
}

pub fn member(disk: &Arc<Disk>) -> NewMember {
    NewMember {
        name: format!("disk{}", disk.number),
        bdev: Arc::new(DiskBdev(disk.clone())),
        medium: disk.clone(),
    }
}

pub fn new_reactor(rack: &Arc<Mutex<Rack>>, journals: TapeJournals) -> (Arc<Mutex<Reactor>>, Host) {
    let plan = PoolPlan::for_bytes(32 << 20);
    let memory = Arc::new(Memory::map(1, plan.bytes()).unwrap());
    let mut pool = DmaPool::new(memory.clone(), 0, &plan);
    let bounces = pool.take(MEMORY_BYTES).unwrap().slice();
    let reactor = Arc::new(Mutex::new(Reactor {
        stack: Stack::new(0, memory),
        memory: pool,
        rack: rack.clone(),
        asked: HashMap::new(),
        ended: Vec::new(),
        dones: Vec::new(),
        next: 0,
        now_ns: 1,
    }));
    let pumped = reactor.clone();
    let host = Host {
        reactors: Arc::new(One(reactor.clone())),
        memory: vec![bounces.sub(0, MEMORY_BYTES)],
        journals: Some(Arc::new(journals)),
        discard: DiscardMode::Auto,
        stepped: Some(Box::new(move || pumped.lock().unwrap().turn())),
    };
    (reactor, host)
}

impl Machine {
    /// With a pool on devices of so many bytes, and blocks of so many, which write `atomic_bytes`
    /// or a block atomically.
    pub fn new(devices: &[(u64, u32)], atomic_bytes: u32) -> Machine {
        Machine::of(FORMAT_1, devices, atomic_bytes)
    }

    /// The same, of a format.
    pub fn of(format: u32, devices: &[(u64, u32)], atomic_bytes: u32) -> Machine {
        let rack = Arc::new(Mutex::new(Rack::new(atomic_bytes)));
        let disks: Vec<_> = devices.iter().map(|device| Rack::add(&rack, *device)).collect();
        let journals = TapeJournals::new(rack.clone(), Vec::new());
        let no_journals = journals.is_full.clone();
        let (reactor, host) = new_reactor(&rack, journals);
        // The others can be added.
        let members = disks.iter().take(2).map(member).collect();
        let mut uuids = 1;
        let uuid = || {
            uuids += 1;
            Uuid::from_u128(uuids)
        };
        let opening = Opening { now_s: 1, ..Opening::default() };
        let pool = Pool::make(("tank", format), members, opening, host, uuid).unwrap();
        for disk in &disks {
            // Every other time the reactor goes on while the keeper waits for a device.
            let (beside, mut chance) = (reactor.clone(), Chance::new(disk.number as u64 + 5));
            let turn = move || {
                if chance.below(2) == 0 {
                    beside.lock().unwrap().turn();
                }
            };
            *disk.beside.lock().unwrap() = Some(Box::new(turn));
        }
        Machine { rack, disks, reactor, pool, no_journals, uuids }
    }

    /// With the pool that is on devices like these, and what a process before left in memory.
    pub fn import(devices: &[(u64, u32)], images: Vec<Image>, left: Vec<Vec<u64>>) -> Machine {
        Machine::import_after(0, devices, images, left)
    }

    /// [`Machine::import`], where the devices were switched on so many times meanwhile.
    pub fn import_after(
        power: u64,
        devices: &[(u64, u32)],
        images: Vec<Image>,
        left: Vec<Vec<u64>>,
    ) -> Machine {
        let rack = Arc::new(Mutex::new(Rack::new(4096)));
        rack.lock().unwrap().power = power;
        let disks: Vec<_> = devices.iter().map(|device| Rack::add(&rack, *device)).collect();
        rack.lock().unwrap().put(images);
        let journals = TapeJournals::new(rack.clone(), left);
        let no_journals = journals.is_full.clone();
        let (reactor, host) = new_reactor(&rack, journals);
        let pool = Pool::import(disks.iter().map(member).collect(), host).unwrap();
        Machine { rack, disks, reactor, pool, no_journals, uuids: 1 << 32 }
    }

    /// With the pool that is on devices, opened for somebody, with what a process before left in memory.
    pub fn open(
        rack: &Arc<Mutex<Rack>>,
        disks: &[Arc<Disk>],
        left: Vec<Vec<u64>>,
        opening: Opening,
    ) -> Result<Machine, PoolError> {
        let (rack, disks) = (rack.clone(), disks.to_vec());
        let journals = TapeJournals::new(rack.clone(), left);
        let no_journals = journals.is_full.clone();
        let (reactor, host) = new_reactor(&rack, journals);
        let pool = Pool::open(disks.iter().map(member).collect(), opening, host)?;
        Ok(Machine { rack, disks, reactor, pool, no_journals, uuids: 1 << 32 })
    }

    pub fn uuid(&mut self) -> Uuid {
        self.uuids += 1;
        Uuid::from_u128(self.uuids)
    }

    /// One turn of everything.
    pub fn turn(&self) -> bool {
        self.reactor.lock().unwrap().turn();
        self.pool.step()
    }

    /// Turns until the host has been told of everything.
    pub fn settle(&self) {
        for turns in 0.. {
            self.turn();
            if self.reactor.lock().unwrap().is_idle() {
                return;
            }
            assert!(turns < 100_000, "something never ends");
        }
    }

    /// Asks for one thing and waits for it.
    pub fn one(&self, to: Addr, op: Op, at: (u64, u32, u32), data: &[u8]) -> Ended {
        let tag = self.reactor.lock().unwrap().ask(to, op, IoFlags::NONE, at, data);
        self.settle();
        let mut reactor = self.reactor.lock().unwrap();
        let which = reactor.ended.iter().position(|ended| ended.tag == tag).expect("settled");
        reactor.ended.swap_remove(which)
    }
}

/// Sectors that each hold one value.
pub fn pattern(values: impl Iterator<Item = u64>) -> Vec<u8> {
    values
        .flat_map(|value| std::iter::repeat_n(value.to_le_bytes(), SECTOR / 8))
        .flatten()
        .collect()
}

/// The value of each sector.
///
/// # Panics
/// If a sector is mixed.
pub fn values(bytes: &[u8]) -> Vec<u64> {
    let sector = |sector: &[u8]| {
        let value = u64::from_le_bytes(sector[..8].try_into().unwrap());
        assert!(sector.chunks(8).all(|word| word == value.to_le_bytes()), "a sector is mixed");
        value
    };
    bytes.chunks(SECTOR).map(sector).collect()
}
