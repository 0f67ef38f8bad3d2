//! Every size of the transport in one place, each a sum with its terms.

use nvmf::limits::{IO_QUEUES, QUEUE_ENTRIES};
use verbs::{Capacity, Queues};

/// Commands under way in one transport: what the reactor keeps for this fabric.
pub const REQUESTS: u32 = bdev::limits::RDMA_REQUESTS;

/// Places for queue pairs of one transport:
/// the queues of 480 hosts on this reactor,
/// and those that are ending or have just come.
pub const QPAIRS: u16 = 480 + 32;

/// Data in a capsule, in bytes: a block of 4 KiB, in a page of its own, so that it is written from
/// where it was received.
pub const IN_CAPSULE_BYTES: u32 = 4096;

/// Receives of one port that wait for capsules:
/// queues of 128 entries of 8 hosts that are busy at once. Past it the network card tells hosts to
/// try again in a moment (RNR).
pub const RECEIVES: u16 = 8 * 128;

/// With fewer receives than this a port is not opened: a queue of the common depth.
pub const LEAST_RECEIVES: u16 = 128;

/// What is asked of the memory pool at once for the data of receives, in bytes: 32 of them.
pub const DATA_BUFFER_BYTES: usize = 32 * IN_CAPSULE_BYTES as usize;

/// Entries of the completion queue of a port:
/// one for each receive,
/// for each command a WRITE that failed and a SEND, or a READ,
/// and as much again of queue pairs that were destroyed and whose completions nobody has seen yet.
pub const COMPLETIONS: u32 = RECEIVES as u32 + 2 * 2 * REQUESTS;

/// What the hardware is told to have room for.
pub const CAPACITY: Capacity = Capacity { qpairs: QPAIRS, completions: COMPLETIONS };

/// The queues that hosts may connect.
pub const QUEUES: Queues = Queues { io: IO_QUEUES, entries: QUEUE_ENTRIES };

/// Work requests of one queue pair for each entry of the host's queue: a READ and then a WRITE with
/// its SEND, where the READ has ended before the other two begin; and an answer that the host has
/// and of which we do not know that.
pub const WORK_PER_ENTRY: u32 = 2 + 2;

/// How long the last answers of a queue pair that is to end may take, in ns.
pub const LINGER_NS: u64 = 3_000_000_000;

const _: () = assert!(RECEIVES >= LEAST_RECEIVES);
const _: () = assert!((RECEIVES as usize).is_multiple_of(DATA_BUFFER_BYTES / 4096));
