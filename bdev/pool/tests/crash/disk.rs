//! Devices that remember everything that was done to them, in one order, and what is left of them
//! when the power goes at any moment.

use crate::support::chance::Chance;
use bdev::{Addr, Bdev, Channel, Cx, DmaSlice, Geometry, Io, IoFlags, Op, OpenCx, OpenError, Tag};
use bdev_pool::Medium;
use nvme_spec::Status;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

pub const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// The length of a packed page that is a word over and over.
const REPEATED: usize = PAGE + 1;

type Page = Box<[u8; PAGE]>;

/// What a device holds: pages that are not zeros.
#[derive(Clone, Default)]
pub struct Image(BTreeMap<u64, Arc<Page>>);

impl Image {
    /// Images from bytes: of each how many pages, then for each its number, how long it is without the
    /// zeros at its end, and what it holds; of one that is a word over and over, that word.
    pub fn unpack(mut bytes: &[u8]) -> Vec<Image> {
        fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
            let (taken, left) = bytes.split_at(length);
            *bytes = left;
            taken
        }
        fn number(bytes: &mut &[u8]) -> usize {
            u32::from_le_bytes(take(bytes, 4).try_into().unwrap()) as usize
        }
        let mut images = Vec::new();
        while !bytes.is_empty() {
            let mut image = Image::default();
            for _ in 0..number(&mut bytes) {
                let (at, length) = (number(&mut bytes), number(&mut bytes));
                let mut page = Box::new([0; PAGE]);
                match length {
                    REPEATED => {
                        let word = take(&mut bytes, 8);
                        page.chunks_mut(8).for_each(|to| to.copy_from_slice(word));
                    }
                    _ => page[..length].copy_from_slice(take(&mut bytes, length)),
                }
                image.0.insert(at as u64, Arc::new(page));
            }
            images.push(image);
        }
        images
    }

    fn read(&self, at: u64, into: &mut [u8]) {
        for (number, part) in into.chunks_mut(SECTOR).enumerate() {
            let at = at + (number * SECTOR) as u64;
            let inside = (at % PAGE as u64) as usize;
            match self.0.get(&(at / PAGE as u64)) {
                Some(page) => part.copy_from_slice(&page[inside..inside + SECTOR]),
                None => part.fill(0),
            }
        }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        for (number, part) in bytes.chunks(SECTOR).enumerate() {
            let at = at + (number * SECTOR) as u64;
            let inside = (at % PAGE as u64) as usize;
            let page =
                self.0.entry(at / PAGE as u64).or_insert_with(|| Arc::new(Box::new([0; PAGE])));
            Arc::make_mut(page)[inside..inside + SECTOR].copy_from_slice(part);
        }
    }

    /// Pages that are not zeros, of so many bytes from `at` on.
    fn pages(&self, at: u64, bytes: u64) -> Vec<u64> {
        let pages = at / PAGE as u64..(at + bytes).div_ceil(PAGE as u64);
        self.0.range(pages).map(|(page, _)| *page).collect()
    }

    /// What was in a page is something else from now on, that nobody wrote.
    fn spoil(&mut self, page: u64) {
        static GARBAGE: LazyLock<Arc<Page>> = LazyLock::new(|| Arc::new(Box::new([0xdd; PAGE])));
        self.0.insert(page, GARBAGE.clone());
    }

    fn discard(&mut self, at: u64, bytes: u64) {
        self.pages(at, bytes).into_iter().for_each(|page| self.spoil(page));
    }
}

/// Something that was done to a device.
#[derive(Clone)]
pub enum Action {
    /// Where, what, and whether it is durable at once.
    Write(u64, Vec<u8>, bool),
    Flush,
    /// Where, and how many bytes: what they hold is undefined from now on.
    Discard(u64, u64),
    /// Nothing was done to the device, but to the journal of a volume.
    Journal(u64, Entry),
}

/// Something that was done to a journal.
#[derive(Clone)]
pub enum Entry {
    /// It has so many words from now on.
    Sized(usize),
    /// Where, and what.
    Stored(usize, Vec<u64>),
    Discarded,
}

/// All devices, and what was done to them, with the time of each.
#[derive(Default)]
pub struct Rack {
    images: Vec<Image>,
    pub log: Vec<(u64, usize, Action)>,
    pub tick: u64,
    /// What the devices that are added say that they write atomically.
    pub atomic_bytes: u32,
    /// How often the devices were switched on.
    pub power: u64,
    /// The bug: they write sectors of 512 bytes atomically, whatever they say.
    pub tears: bool,
    /// The bug: flushes of devices do nothing.
    pub lies: bool,
    /// The bug: flushes end before writes that ended before them are durable: the last one is not.
    pub hurries: bool,
    /// The bug: discards take place some time after they have ended.
    pub dawdles: bool,
    /// When, to which device, and what.
    late: Vec<(u64, usize, Action)>,
}

/// Ticks until a discard takes place where devices dawdle.
const DAWDLE: u64 = 30;

impl Rack {
    /// Without devices; those that are added say that they write `atomic_bytes` or a block
    /// atomically.
    pub fn new(atomic_bytes: u32) -> Rack {
        Rack { atomic_bytes, ..Rack::default() }
    }

    pub fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    pub fn act(&mut self, device: usize, action: Action) {
        let due = self.late.extract_if(.., |(due, ..)| *due <= self.tick);
        for (_, device, action) in due.collect::<Vec<_>>() {
            self.done(device, action);
        }
        match action {
            Action::Discard(..) if self.dawdles => {
                self.late.push((self.tick + DAWDLE, device, action));
            }
            action => self.done(device, action),
        }
    }

    fn done(&mut self, device: usize, action: Action) {
        match &action {
            Action::Write(at, bytes, _) => self.images[device].write(*at, bytes),
            Action::Discard(at, bytes) => self.images[device].discard(*at, *bytes),
            Action::Flush if self.lies => return,
            Action::Flush | Action::Journal(..) => {}
        }
        let tick = self.tick();
        self.log.push((tick, device, action));
        let last = self.log.len() - 1;
        if self.hurries
            && last > 0
            && let [(_, before, Action::Write(..)), (_, now, Action::Flush)] = &self.log[last - 1..]
            && before == now
        {
            let (write, flush) = (self.log[last - 1].2.clone(), self.log[last].2.clone());
            (self.log[last - 1].2, self.log[last].2) = (flush, write);
        }
    }

    /// What is on the devices.
    pub fn images(&self) -> Vec<Image> {
        self.images.clone()
    }

    /// Puts something else on the devices.
    pub fn put(&mut self, images: Vec<Image>) {
        self.images = images;
    }

    /// Adds a device, with zeros on it.
    pub fn add(rack: &Arc<Mutex<Rack>>, (bytes, block_bytes): (u64, u32)) -> Arc<Disk> {
        let mut inner = rack.lock().unwrap();
        inner.images.push(Image::default());
        let number = inner.images.len() - 1;
        let atomic_bytes = inner.atomic_bytes.max(block_bytes);
        let (rack, bytes) = (rack.clone(), Mutex::new(bytes));
        let (fails, beside) = (AtomicBool::new(false), Mutex::new(None));
        Arc::new(Disk { rack, number, bytes, block_bytes, atomic_bytes, fails, beside })
    }
}

/// One device of a rack.
pub struct Disk {
    pub rack: Arc<Mutex<Rack>>,
    pub number: usize,
    pub bytes: Mutex<u64>,
    pub block_bytes: u32,
    /// What a power cut leaves whole, as the disk says.
    atomic_bytes: u32,
    /// Writes fail.
    pub fails: AtomicBool,
    /// What goes on while the keeper waits for it.
    pub beside: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

impl Disk {
    fn wait(&self) {
        if let Some(beside) = &mut *self.beside.lock().unwrap() {
            beside();
        }
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "disk {}", self.number)
    }
}

impl Medium for Disk {
    fn bytes(&self) -> u64 {
        *self.bytes.lock().unwrap()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.rack.lock().unwrap().images[self.number].read(at, into);
        Ok(())
    }

    fn write(&self, pieces: &[(u64, &[u8])]) -> io::Result<()> {
        for (at, bytes) in pieces {
            self.wait();
            if self.fails.load(Ordering::Relaxed) {
                return Err(io::Error::other("a worn out device"));
            }
            assert!(*at + bytes.len() as u64 <= *self.bytes.lock().unwrap(), "past the end");
            let action = Action::Write(*at, bytes.to_vec(), false);
            self.rack.lock().unwrap().act(self.number, action);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.wait();
        self.rack.lock().unwrap().act(self.number, Action::Flush);
        Ok(())
    }

    fn discard(&self, at: u64, bytes: u64) -> io::Result<()> {
        self.wait();
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("a worn out device"));
        }
        assert!(at + bytes <= *self.bytes.lock().unwrap(), "past the end");
        self.rack.lock().unwrap().act(self.number, Action::Discard(at, bytes));
        Ok(())
    }
}

/// A [`Disk`] below volumes.
pub struct DiskBdev(pub Arc<Disk>);

impl Bdev for DiskBdev {
    fn geometry(&self) -> Geometry {
        let blocks = self.0.bytes() / u64::from(self.0.block_bytes);
        let atomic_blocks = self.0.atomic_bytes / self.0.block_bytes;
        let plain = Geometry::plain(self.0.block_bytes, blocks);
        Geometry { volatile_cache: true, deallocates: true, atomic_blocks, ..plain }
    }

    fn power_session(&self) -> u64 {
        self.0.rack.lock().unwrap().power
    }

    fn open(&self, _cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        let chance = Chance::new(self.0.number as u64 + 77);
        Ok(Box::new(DiskChannel { disk: self.0.clone(), queue: Vec::new(), chance }))
    }
}

struct Queued {
    op: Op,
    fua: bool,
    at: u64,
    bytes: usize,
    data: DmaSlice,
    reply: (Addr, Tag),
}

/// Ends what it was given in any order; a write takes place when it ends.
struct DiskChannel {
    disk: Arc<Disk>,
    queue: Vec<Queued>,
    chance: Chance,
}

impl Channel for DiskChannel {
    fn submit(&mut self, io: Io, _cx: &mut Cx<'_>) {
        let block = u64::from(self.disk.block_bytes);
        let (op, data, fua) = (io.op, io.data, io.flags.has(IoFlags::FUA));
        let (at, bytes) = (io.lba * block, io.blocks as usize * block as usize);
        assert!(at + bytes as u64 <= self.disk.bytes(), "past the end of {:?}", self.disk);
        let reply = io.into_parts();
        self.queue.push(Queued { op, fua, at, bytes, data, reply });
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> u32 {
        let mut ended = 0;
        while !self.queue.is_empty() && self.chance.below(3) > 0 {
            let which = self.chance.below(self.queue.len() as u64) as usize;
            let Queued { op, fua, at, bytes, data, reply } = self.queue.swap_remove(which);
            let mut rack = self.disk.rack.lock().unwrap();
            let mut buffer = vec![0; bytes];
            let fails = self.disk.fails.load(Ordering::Relaxed);
            if fails && matches!(op, Op::Write | Op::WriteZeroes) {
                cx.complete_parts(reply.0, reply.1, Status::WRITE_FAULT);
                ended += 1;
                continue;
            }
            match op {
                Op::Read => {
                    rack.images[self.disk.number].read(at, &mut buffer);
                    data.copy_in(0, &buffer);
                }
                Op::Write => {
                    data.copy_out(0, &mut buffer);
                    rack.act(self.disk.number, Action::Write(at, buffer, fua));
                }
                Op::WriteZeroes => rack.act(self.disk.number, Action::Write(at, buffer, fua)),
                Op::Flush => rack.act(self.disk.number, Action::Flush),
                Op::Deallocate => panic!("volumes give nothing back: the keeper does"),
            }
            cx.complete_parts(reply.0, reply.1, Status::SUCCESS);
            ended += 1;
        }
        ended + self.queue.len() as u32
    }

    fn polled(&self) -> bool {
        true
    }

    fn outstanding(&self) -> u32 {
        self.queue.len() as u32
    }
}

/// Power cuts, one after the other along a log.
pub struct PowerCuts<'a> {
    log: &'a [(u64, usize, Action)],
    durable: Vec<Image>,
    /// By device: writes that are not durable, in their order.
    pending: Vec<Vec<&'a Action>>,
    next: usize,
    /// What is written whole or not at all, at multiples of it.
    unit: u64,
}

/// Pieces of a write at `at`, cut at multiples of `unit`: where, and what.
fn units(at: u64, bytes: &[u8], unit: u64) -> impl Iterator<Item = (u64, &[u8])> {
    let (mut at, mut left) = (at, bytes);
    std::iter::from_fn(move || {
        let length = ((unit - at % unit) as usize).min(left.len());
        let (piece, rest) = left.split_at(length);
        let here = at;
        (at, left) = (at + length as u64, rest);
        (!piece.is_empty()).then_some((here, piece))
    })
}

impl<'a> PowerCuts<'a> {
    /// Of devices that write `unit` bytes atomically.
    pub fn new(log: &'a [(u64, usize, Action)], devices: usize, unit: u32) -> PowerCuts<'a> {
        let (durable, pending) = (vec![Image::default(); devices], vec![Vec::new(); devices]);
        PowerCuts { log, durable, pending, next: 0, unit: unit.into() }
    }

    /// The same, where the devices held something before.
    pub fn with(self, images: &[Image]) -> PowerCuts<'a> {
        PowerCuts { durable: images.to_vec(), ..self }
    }

    /// What the devices may be when the power goes after the first `done` actions: of what was not
    /// flushed, any unit may be there or not. `done` never goes back.
    pub fn images(&mut self, done: usize, chance: &mut Chance) -> Vec<Image> {
        for (_, device, action) in &self.log[self.next..done] {
            match action {
                Action::Write(..) | Action::Discard(..) => self.pending[*device].push(action),
                Action::Journal(..) => {}
                Action::Flush => {
                    for action in self.pending[*device].drain(..) {
                        match action {
                            Action::Write(at, bytes, _) => self.durable[*device].write(*at, bytes),
                            Action::Discard(at, bytes) => {
                                self.durable[*device].discard(*at, *bytes)
                            }
                            Action::Flush | Action::Journal(..) => unreachable!(),
                        }
                    }
                }
            }
        }
        self.next = done;
        let mut images = self.durable.clone();
        for (image, pending) in images.iter_mut().zip(&self.pending) {
            // Now and then all of it, or nothing.
            let odds = [0, 1, 1, 2][chance.below(4) as usize];
            for action in pending {
                match action {
                    Action::Write(at, bytes, forced) => {
                        for (at, piece) in units(*at, bytes, self.unit) {
                            if chance.below(2) < odds || *forced {
                                image.write(at, piece);
                            }
                        }
                    }
                    // Blocks that are given back may come back with the power.
                    Action::Discard(at, bytes) => {
                        for page in image.pages(*at, *bytes) {
                            if chance.below(2) < odds {
                                image.spoil(page);
                            }
                        }
                    }
                    Action::Flush | Action::Journal(..) => unreachable!(),
                }
            }
        }
        images
    }
}

/// The ends of a process, one after the other along a log: what it had done to the devices and to
/// its journals stays.
pub struct Kills<'a> {
    log: &'a [(u64, usize, Action)],
    images: Vec<Image>,
    journals: BTreeMap<u64, Vec<u64>>,
    next: usize,
}

impl<'a> Kills<'a> {
    pub fn new(log: &'a [(u64, usize, Action)], devices: usize) -> Kills<'a> {
        Kills { log, images: vec![Image::default(); devices], journals: BTreeMap::new(), next: 0 }
    }

    /// The same, where the devices held something before.
    pub fn with(self, images: &[Image]) -> Kills<'a> {
        Kills { images: images.to_vec(), ..self }
    }

    /// What is left when the process ends after the first `done` actions, and in the midst of the
    /// next one if that is to a journal. `done` never goes back.
    pub fn at(&mut self, done: usize, chance: &mut Chance) -> (Vec<Image>, Vec<Vec<u64>>) {
        for (_, device, action) in &self.log[self.next..done] {
            match action {
                Action::Write(at, bytes, _) => self.images[*device].write(*at, bytes),
                Action::Discard(at, bytes) => self.images[*device].discard(*at, *bytes),
                Action::Flush => {}
                Action::Journal(volume, Entry::Discarded) => drop(self.journals.remove(volume)),
                Action::Journal(volume, Entry::Sized(words)) => {
                    self.journals.entry(*volume).or_default().resize(*words, 0);
                }
                Action::Journal(volume, Entry::Stored(at, words)) => {
                    let journal = self.journals.get_mut(volume).expect("it was made");
                    journal[*at..*at + words.len()].copy_from_slice(words);
                }
            }
        }
        self.next = done;
        let mut journals = self.journals.clone();
        if let Some((_, _, Action::Journal(volume, Entry::Stored(at, words)))) = self.log.get(done)
        {
            let some = chance.below(words.len() as u64 + 1) as usize;
            let journal = journals.get_mut(volume).expect("it was made");
            journal[*at..*at + some].copy_from_slice(&words[..some]);
        }
        (self.images.clone(), journals.into_values().collect())
    }
}

/// A device after a power cut.
pub struct Left {
    image: Mutex<Image>,
    bytes: u64,
}

impl Left {
    pub fn new(image: Image, bytes: u64) -> Left {
        Left { image: Mutex::new(image), bytes }
    }
}

impl std::fmt::Debug for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a device after a power cut")
    }
}

impl Medium for Left {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.image.lock().unwrap().read(at, into);
        Ok(())
    }

    fn write(&self, pieces: &[(u64, &[u8])]) -> io::Result<()> {
        let mut image = self.image.lock().unwrap();
        pieces.iter().for_each(|(at, bytes)| image.write(*at, bytes));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, at: u64, bytes: u64) -> io::Result<()> {
        self.image.lock().unwrap().discard(at, bytes);
        Ok(())
    }
}
