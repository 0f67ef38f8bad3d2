//! Every size in one place, each a sum with its terms.

use bdev::limits::MAX_TRANSFER_BYTES;

/// A memory page, CC.MPS = 0, in bytes.
pub const PAGE_BYTES: usize = 4096;

/// Entries of an I/O submission queue and of its completion queue, where the controller has as
/// many. One stays free: a full ring is told from an empty one.
pub const IO_ENTRIES: u32 = 1024;

/// Commands of one channel that are in its queue at once; more wait in memory.
pub const IO_COMMANDS: u32 = IO_ENTRIES - 1;

/// Bits of a command identifier that say the place of its command; the rest count its uses.
pub const PLACE_BITS: u32 = 10;
const _: () = assert!(IO_COMMANDS < 1 << PLACE_BITS, "the last identifier, FFFFh, is not used");

/// PRP entries of a list: the pages of the largest transfer that starts within a page, less the
/// first, which is in PRP1.
pub const LIST_ENTRIES: usize = MAX_TRANSFER_BYTES as usize / PAGE_BYTES;

/// Bytes of a list: half a page, so that no list needs a second one.
pub const LIST_BYTES: usize = LIST_ENTRIES * 8;
const _: () = assert!(PAGE_BYTES.is_multiple_of(LIST_BYTES));

/// Memory of one channel, in bytes:
/// its submission entries,
/// its completion entries,
/// a list for each command,
/// and a page of zeros to write from.
pub const CHANNEL_BYTES: usize = IO_ENTRIES as usize * 64
    + IO_ENTRIES as usize * 16
    + IO_ENTRIES as usize * LIST_BYTES
    + PAGE_BYTES;

/// Asynchronous event requests that wait in the controller.
pub const EVENT_REQUESTS: u8 = 4;

/// Abort commands under way at once.
pub const ABORTS: u8 = 4;

/// Commands of operators under way at once.
pub const REQUESTS: u8 = 8;

/// Admin commands at once:
/// asynchronous event requests,
/// aborts,
/// commands of operators,
/// a step of the survey,
/// a step in making or deleting a queue,
/// and one that reads the log of an event.
pub const ADMIN_COMMANDS: u32 = EVENT_REQUESTS as u32 + ABORTS as u32 + REQUESTS as u32 + 3;

/// Entries of the admin queues.
pub const ADMIN_ENTRIES: u32 = 32;
const _: () = assert!(ADMIN_COMMANDS < ADMIN_ENTRIES);

/// Memory of the admin queue, in bytes:
/// a page for each ring,
/// two for doorbells in memory,
/// and one for the data of each command.
pub const ADMIN_BYTES: usize = (2 + 2 + ADMIN_COMMANDS as usize) * PAGE_BYTES;

/// Namespaces of a controller that are looked at; more are passed over.
pub const NAMESPACES: usize = 256;

/// Events kept until somebody takes them; the oldest go first.
pub const EVENTS: usize = 64;
