//! Every size of the hardware floor in one place.

use nvme_spec::{Cqe, Sqe};

/// Devices that are used at once.
pub const PORTS: usize = 8;

/// A capsule without its data, in bytes.
pub const SQE_BYTES: usize = size_of::<Sqe>();

/// An answer, in bytes.
pub const CQE_BYTES: usize = size_of::<Cqe>();

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
