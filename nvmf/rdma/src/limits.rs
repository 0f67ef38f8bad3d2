//! Every size of the transport in one place, each a sum with its terms.

use nvme_spec::{Cqe, Sqe};

/// Commands under way in one transport: what the reactor keeps for this fabric.
pub const REQUESTS: u32 = bdev::limits::RDMA_REQUESTS;

/// Places for queue pairs of one transport:
/// the queues of 480 hosts on this reactor,
/// and those that are ending or have just come.
pub const QPAIRS: u16 = 480 + 32;

/// Devices that one transport uses.
pub const PORTS: usize = 8;

/// Data in a capsule, in bytes: a block of 4 KiB, in a page of its own, so that it is written from
/// where it was received.
pub const IN_CAPSULE_BYTES: u32 = 4096;

/// Receives of one port that wait for capsules:
/// queues of 128 entries of 8 hosts that are busy at once. Past it the network card tells hosts to
/// try again in a moment (RNR).
pub const RECEIVES: u16 = 8 * 128;

/// With fewer receives than this a port is not opened: a queue of the common depth.
pub const LEAST_RECEIVES: u16 = 128;

/// Capsules without their data, in bytes, for all receives of a port.
pub const SQE_BYTES: usize = size_of::<Sqe>();

/// An answer, in bytes.
pub const CQE_BYTES: usize = size_of::<Cqe>();

/// What is asked of the memory pool at once for the data of receives, in bytes: 32 of them.
pub const DATA_BUFFER_BYTES: usize = 32 * IN_CAPSULE_BYTES as usize;

/// Entries of the completion queue of a port:
/// one for each receive,
/// for each command a WRITE that failed and a SEND, or a READ,
/// and as much again of queue pairs that were destroyed and whose completions nobody has seen yet.
pub const COMPLETIONS: u32 = RECEIVES as u32 + 2 * 2 * REQUESTS;

/// Work requests of one queue pair for each entry of the host's queue: a READ and then a WRITE with
/// its SEND, where the READ has ended before the other two begin; and an answer that the host has
/// and of which we do not know that.
pub const WORK_PER_ENTRY: u32 = 2 + 2;

/// Work requests in one post: one doorbell.
pub const CHAIN: usize = 64;

/// Completions taken at once.
pub const BATCH: usize = 32;

/// Batches of completions of one port in one turn, before the others have theirs.
pub const BATCHES: u32 = 8;

/// Turns without a completion after which the next one is to raise an interrupt.
pub const QUIET_TURNS: u32 = 64;

/// Turns between two looks at the connection manager, which cost a system call.
pub const MANAGER_TURNS: u32 = 32;

/// How long the last answers of a queue pair that is to end may take, in ns.
pub const LINGER_NS: u64 = 3_000_000_000;

/// Attempts of a host's SENDs when we have no receive for them, as the target tells it to (each
/// side tells the other): without end (7), for the receives that hosts share may all be in use for
/// a while. Commands have a timeout.
pub const HOST_RNR_RETRIES: u8 = 7;

/// Attempts of a target's answers when we have no receive for them, as the initiator tells it to;
/// then the queue pair is broken. We always have one.
pub const TARGET_RNR_RETRIES: u8 = 6;

/// Attempts of a packet that is not acknowledged.
pub const RETRIES: u8 = 7;

/// What a host waits when we have no receive for it: 0.24 ms, in the code of the InfiniBand
/// architecture (the default of 0 is 655 ms).
pub const RNR_TIMER: u8 = 9;

const _: () = assert!(RECEIVES >= LEAST_RECEIVES);
const _: () = assert!((RECEIVES as usize).is_multiple_of(DATA_BUFFER_BYTES / 4096));
