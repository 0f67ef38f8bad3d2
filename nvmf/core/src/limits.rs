//! Every size of the target in one place, each a sum with its terms.

use bdev::limits::MAX_TRANSFER_BYTES;

/// Entries of the largest queue: CAP.MQES plus one.
pub const QUEUE_ENTRIES: u16 = 1024;

/// I/O queues of one controller: one for each core of a large host.
pub const IO_QUEUES: u16 = 128;

/// Queue pairs of one controller: the admin queue and the I/O queues.
pub const QUEUES: u16 = 1 + IO_QUEUES;

/// Asynchronous Event Requests held for one controller: one for each kind of event that can be
/// raised (namespaces, asymmetric access, discovery, health).
pub const ASYNC_EVENTS: u8 = 4;

/// Abort commands of one controller at once: aborts are executed one by one as they arrive, so
/// this is the smallest number that the specification recommends.
pub const ABORTS: u8 = 4;

/// Entries of the error log of one controller: the largest that ELPE can say is 256; this many
/// fill two pages.
pub const ERROR_ENTRIES: usize = 128;

/// Namespaces of one subsystem, and their largest identifier: one Identify list.
pub const NAMESPACES: u32 = 1024;

/// Data of one admin command: a log page of the largest transfer.
pub const MAX_ADMIN_BYTES: u32 = MAX_TRANSFER_BYTES;

/// Controllers of one subsystem: one for each path of 512 hosts with two paths.
pub const CONTROLLERS: usize = 512 * 2;

/// Controllers of the discovery subsystem: any host may have one.
pub const DISCOVERY_CONTROLLERS: usize = 64;

/// Discovery controllers of one address: of 16 hosts behind one, or of one that starts 16 times
/// within [`DISCOVERY_KATO_MS`].
pub const DISCOVERY_CONTROLLERS_EACH: usize = 16;

/// Controllers of one subsystem that have ended and are kept until somebody has asked for what they
/// did: one reconnect of each of 32 hosts with two paths.
pub const ENDED_CONTROLLERS: usize = 32 * 2;

/// Largest controller identifier; those above are reserved.
pub const CNTLID_MAX: u16 = 0xffef;

/// Granularity of the Keep Alive Timer, in units of 100 ms.
pub const KEEP_ALIVE_UNITS: u16 = 1;

/// Keep Alive Timeout of a discovery controller whose host asked for none, in ms: it is cleaned
/// up after this much silence.
pub const DISCOVERY_KATO_MS: u32 = 120_000;

/// Blocks that a fused Compare and Write can hold still at once, in bytes.
pub const COMPARE_AND_WRITE_BYTES: u32 = 128 << 10;

/// Source ranges of one Copy: those that fill a page of 4 KiB.
pub const COPY_RANGES: u32 = 4096 / 32;

/// Bytes that one Copy moves at most: as much as a host would have under way by Reads and Writes.
pub const COPY_BYTES: u32 = 16 * MAX_TRANSFER_BYTES;

/// MSSRL: blocks of one source range of a Copy.
pub fn copy_range_blocks(block_bytes: u32) -> u16 {
    u16::try_from(COPY_BYTES / block_bytes).unwrap_or(u16::MAX)
}

/// Bytes that a Copy has in a buffer at once; more where more is written atomically.
pub const COPY_PIECE_BYTES: u32 = 128 << 10;

/// DMRL: ranges of one Dataset Management. The field can say no more than 255, and the ranges fill half
/// a page.
pub const DATASET_RANGES: u8 = 128;

/// DMRSL: blocks of one range of a Dataset Management: 1 GiB of 512 B, 8 GiB of 4 KiB.
pub const DATASET_RANGE_BLOCKS: u32 = 1 << 21;

/// DMSL: blocks of one Dataset Management: all its ranges, since hosts (Linux) keep to the other two
/// limits and know nothing of this one.
pub const DATASET_BLOCKS: u64 = DATASET_RANGES as u64 * DATASET_RANGE_BLOCKS as u64;

/// Bytes that are deallocated at once, on boundaries of this size: 64 extents of a pool.
pub const DEALLOCATE_PIECE_BYTES: u32 = 64 << 20;

/// What commands of several steps (Verify, Copy, Dataset Management) may do in one turn of a reactor,
/// in bytes: two of the largest transfers. The rest goes in the next turn, connection after connection.
pub const STEP_BYTES_PER_TURN: u32 = 2 * MAX_TRANSFER_BYTES;

/// What each step counts as at least, in bytes.
pub const STEP_BYTES_LEAST: u32 = 16 << 10;

/// What the deallocation of a piece counts as, in bytes.
pub const DEALLOCATE_STEP_BYTES: u32 = 128 << 10;

/// Time in which a connection has to bring its Connect, in ns.
pub const CONNECT_NS: u64 = 10_000_000_000;

/// How long a connection may hold buffers and not move while others wait for some, in ns, unless
/// the target is told otherwise: a transfer of the largest size on a line of 2 Mbit/s.
pub const STALL_NS: u64 = 5_000_000_000;

/// Time between two passes over the queue pairs of a reactor, in ns: how late an event that was
/// raised on another reactor, or the end of a controller, is noticed at worst.
pub const TICK_NS: u64 = 10_000_000;

/// MDTS: [`MAX_TRANSFER_BYTES`] as a power of two of the page of 4 KiB.
pub const MDTS: u8 = (MAX_TRANSFER_BYTES / 4096).ilog2() as u8;

const _: () = assert!(4096 << MDTS == MAX_TRANSFER_BYTES);
const _: () = assert!(NAMESPACES <= 1024, "one Identify list holds all of them");
const _: () = assert!(ERROR_ENTRIES <= 256);
