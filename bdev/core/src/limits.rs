//! Every size in one place, each a sum with its terms.

/// Largest transfer of one command, in bytes: the Maximum Data Transfer Size that is reported.
pub const MAX_TRANSFER_BYTES: u32 = 1 << 20;

/// Commands that one reactor executes at once for hosts on NVMe/TCP, over all their connections.
/// Past it, connections wait to be read.
pub const TCP_REQUESTS: u32 = 8192;

/// Commands that one reactor executes at once for hosts on NVMe/RDMA, over all their queue pairs:
/// queues of 128 entries of 16 hosts that are busy at once. Past it, capsules wait where they were
/// received.
pub const RDMA_REQUESTS: u32 = 16 * 128;

/// Commands that one reactor executes at once: those of each fabric.
pub const REQUESTS_PER_REACTOR: u32 = TCP_REQUESTS + RDMA_REQUESTS;

/// Operations one request can have at once in a channel: one, or the read of a compare next to
/// the write that follows it, or the ranges of a deallocate, which go one after another.
pub const IOS_PER_REQUEST: u32 = 1;

/// Operations outstanding in one channel:
/// one for each request of its reactor,
/// and a quarter as many again for what layers above do on their own.
pub const IOS_PER_CHANNEL: u32 = REQUESTS_PER_REACTOR * IOS_PER_REQUEST + REQUESTS_PER_REACTOR / 4;

/// Completions that can wait at once in a stack without the queue growing: the operations of two
/// ranks over one full channel.
pub const DONES_PER_TURN: usize = 2 * IOS_PER_CHANNEL as usize;

/// Reactors in one process.
pub const REACTORS: usize = 64;
