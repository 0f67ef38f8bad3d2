//! The devices of a pool as one reactor sees them: one address space below all of its volumes.

use crate::entry::{BLOCKS_PER_EXTENT, Slot};
use crate::superblock::EXTENT_BYTES;
use bdev::{Addr, Bdev, Channel, Cx, DmaSlice, Done, Geometry, Io, IoFlags, Op, OpenCx, OpenError};
use bdev::{Slab, Tag};
use nvme_spec::Status;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that a device writes atomically: at least a sector, which all devices do.
pub(crate) fn atomic_bytes(geometry: &Geometry) -> u32 {
    (geometry.atomic_blocks * geometry.block_bytes).max(SECTOR_BYTES)
}

/// Devices that a pool can have at once.
pub const DEVICES: u32 = 64;

/// The unit of addresses here, in bytes: the smallest block that a volume shows.
pub(crate) const SECTOR_BYTES: u32 = 512;

/// Sectors in a block of the pool.
pub(crate) const BLOCK_SECTORS: u32 =
    (EXTENT_BYTES / BLOCKS_PER_EXTENT as u64) as u32 / SECTOR_BYTES;

const EXTENT_SECTORS: u64 = EXTENT_BYTES / SECTOR_BYTES as u64;
const DEVICE_SHIFT: u32 = 48;

/// Operations of all volumes of one reactor that are under way on one device:
/// as many as its channel takes, less those of the thread that keeps the metadata, and of flushes.
pub(crate) const CREDITS: u32 = bdev::limits::IOS_PER_CHANNEL - 256;

/// Blocks of each reactor that a pool has for parts of blocks.
pub const BOUNCE_BLOCKS: usize = 16;

/// The address of sector `sector` of `slot`.
pub(crate) fn address(slot: Slot, sector: u64) -> u64 {
    u64::from(slot.device) << DEVICE_SHIFT | (slot.number * EXTENT_SECTORS + sector)
}

/// One device below the volumes.
#[derive(Clone)]
pub(crate) struct Child {
    pub number: u16,
    pub bdev: Arc<dyn Bdev>,
    /// Where its slots begin, in bytes.
    pub data_offset: u64,
}

/// What the volumes of one reactor share.
struct Share {
    credits: AtomicU32,
    bounces: Mutex<Vec<DmaSlice>>,
}

/// The devices of a pool.
pub(crate) struct Devices {
    children: Mutex<Vec<Child>>,
    shares: Vec<Share>,
}

impl Devices {
    /// `children`, below the volumes on as many reactors as there is memory for bounces: for each
    /// a slice that only this pool uses.
    pub(crate) fn new(children: Vec<Child>, memory: &[DmaSlice]) -> Devices {
        let block = (BLOCK_SECTORS * SECTOR_BYTES) as usize;
        let share = |memory: &DmaSlice| Share {
            credits: AtomicU32::new(CREDITS),
            bounces: Mutex::new(
                (0..memory.len() / block).map(|at| memory.sub(at * block, block)).collect(),
            ),
        };
        Devices { children: Mutex::new(children), shares: memory.iter().map(share).collect() }
    }

    fn children(&self) -> MutexGuard<'_, Vec<Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, to be opened below each open channel next.
    pub(crate) fn add(&self, child: Child) {
        self.children().push(child);
    }

    /// One less. Each open channel is told.
    pub(crate) fn remove(&self, number: u16) {
        self.children().retain(|child| child.number != number);
    }

    /// Whether a device takes whole blocks of the pool only.
    pub(crate) fn wants_blocks(&self) -> bool {
        self.children().iter().any(|child| child.bdev.geometry().block_bytes > SECTOR_BYTES)
    }

    /// Bytes that every device writes atomically, at their places in a slot.
    pub(crate) fn atomic_bytes(&self) -> u32 {
        let children = self.children();
        let atomic = children.iter().map(|child| {
            let geometry = child.bdev.geometry();
            atomic_bytes(&geometry)
        });
        atomic.min().unwrap_or(SECTOR_BYTES)
    }

    /// What data has to be aligned to.
    pub(crate) fn align_bytes(&self) -> u32 {
        let children = self.children();
        children.iter().map(|child| child.bdev.geometry().align_bytes).max().unwrap_or(1)
    }

    /// Takes leave to put one operation under way on `reactor`.
    pub(crate) fn take_credit(&self, reactor: usize) -> bool {
        // One reactor has one writer: no locked instruction is needed.
        let credits = &self.shares[reactor].credits;
        let left = credits.load(Ordering::Relaxed);
        if left > 0 {
            credits.store(left - 1, Ordering::Relaxed);
        }
        left > 0
    }

    pub(crate) fn give_credit(&self, reactor: usize) {
        let credits = &self.shares[reactor].credits;
        credits.store(credits.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// A block of memory for part of a block; none if all are in use.
    pub(crate) fn take_bounce(&self, reactor: usize) -> Option<DmaSlice> {
        // Of one reactor: never contended.
        self.shares[reactor].bounces.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(crate) fn give_bounce(&self, reactor: usize, bounce: DmaSlice) {
        let bounces = &self.shares[reactor].bounces;
        bounces.lock().unwrap_or_else(PoisonError::into_inner).push(bounce);
    }
}

/// [`Devices`] as a bdev: its blocks are sectors, at [`address`].
pub(crate) struct DevicesBdev(pub Arc<Devices>);

impl Bdev for DevicesBdev {
    fn geometry(&self) -> Geometry {
        Geometry::plain(SECTOR_BYTES, u64::MAX >> 16)
    }

    fn children(&self) -> Vec<Arc<dyn Bdev>> {
        self.0.children().iter().map(|child| child.bdev.clone()).collect()
    }

    /// For each device that is added, itself and a layer over it.
    fn room(&self) -> u32 {
        2 * DEVICES
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        if cx.reactor >= self.0.shares.len() {
            return Err(OpenError(format!("the pool was not opened for reactor {}", cx.reactor)));
        }
        let mut channel = DevicesChannel {
            devices: self.0.clone(),
            places: Vec::new(),
            flushes: Slab::growing(cx.limit),
        };
        cx.children.iter().for_each(|child| channel.add_child(*child));
        Ok(Box::new(channel))
    }
}

/// A device as this reactor reaches it.
#[derive(Clone, Copy)]
struct Place {
    addr: Addr,
    data_sectors: u64,
    /// Sectors in its block, as a power of two.
    shift: u32,
    volatile_cache: bool,
}

struct Flush {
    reply: (Addr, Tag),
    left: u32,
    status: Status,
}

struct DevicesChannel {
    devices: Arc<Devices>,
    /// By number.
    places: Vec<Option<Place>>,
    flushes: Slab<Flush>,
}

impl DevicesChannel {
    fn flush(&mut self, io: Io, cx: &mut Cx<'_>) {
        let caches = || self.places.iter().flatten().filter(|place| place.volatile_cache);
        let left = caches().count() as u32;
        if left == 0 {
            return cx.complete(io, Status::SUCCESS);
        }
        let flush = Flush { reply: io.into_parts(), left, status: Status::SUCCESS };
        let place = self.flushes.insert(flush).unwrap_or_else(|_| panic!("more than the limit"));
        let tag = Tag(u64::from(place));
        for device in caches() {
            cx.submit(device.addr, Op::Flush, IoFlags::NONE, 0, 0, DmaSlice::EMPTY, tag);
        }
    }
}

impl Channel for DevicesChannel {
    fn submit(&mut self, mut io: Io, cx: &mut Cx<'_>) {
        if io.op == Op::Flush {
            return self.flush(io, cx);
        }
        let number = (io.lba >> DEVICE_SHIFT) as usize;
        let Some(Some(place)) = self.places.get(number) else {
            return cx.complete(io, Status::INTERNAL_ERROR);
        };
        let sector = (io.lba & ((1 << DEVICE_SHIFT) - 1)) + place.data_sectors;
        io.lba = sector >> place.shift;
        io.blocks >>= place.shift;
        cx.forward(place.addr, io);
    }

    fn complete(&mut self, done: Done, cx: &mut Cx<'_>) {
        let place = done.tag.0 as u32;
        let flush = self.flushes.get_mut(place).expect("ends after the last device's");
        flush.left -= 1;
        if !done.status.is_success() {
            flush.status = done.status;
        }
        if flush.left == 0 {
            let Flush { reply, status, .. } = self.flushes.remove(place).expect("as above");
            cx.complete_parts(reply.0, reply.1, status);
        }
    }

    fn add_child(&mut self, addr: Addr) {
        let is_new = |child: &&Child| {
            self.places.get(usize::from(child.number)).is_none_or(|place| place.is_none())
        };
        let child = self.devices.children().iter().find(is_new).cloned();
        let child = child.expect("the device was added to the pool before");
        let geometry = child.bdev.geometry();
        let number = usize::from(child.number);
        self.places.resize(self.places.len().max(number + 1), None);
        self.places[number] = Some(Place {
            addr,
            data_sectors: child.data_offset / u64::from(SECTOR_BYTES),
            shift: (geometry.block_bytes / SECTOR_BYTES).trailing_zeros(),
            volatile_cache: geometry.volatile_cache,
        });
    }

    fn remove_child(&mut self, addr: Addr) {
        for place in &mut self.places {
            if place.is_some_and(|place| place.addr == addr) {
                *place = None;
            }
        }
    }

    fn outstanding(&self) -> u32 {
        self.flushes.len()
    }
}
