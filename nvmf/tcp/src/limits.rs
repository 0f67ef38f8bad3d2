//! Every size of the transport in one place, each a sum with its terms.

use nvmf_wire::digest::DIGEST_BYTES;
use nvmf_wire::pdu::{MAX_DATA_OFFSET, MAX_HEADER_BYTES, PduType, TERM_BYTES, TERM_MAX_DATA};

/// Commands under way in one transport: as many as the reactor executes at once for this fabric.
pub const REQUESTS: u32 = bdev::limits::TCP_REQUESTS;

/// Places for connections of one transport:
/// 1,000 hosts' queues that do nothing,
/// and the busy ones, those that are ending, and those that have just come.
pub const QPAIRS: u32 = 1000 + 24;

/// Commands under way on one connection; past it the connection is not read:
/// the largest queue, in entries.
pub const COMMANDS_PER_QPAIR: u32 = 1024;

/// Data in a capsule, in bytes: two blocks of 4 KiB.
pub const IN_CAPSULE_BYTES: u32 = 2 * 4096;

/// Data in one H2CData, in bytes: the largest transfer, so that it is never cut.
pub const MAX_H2C_DATA_BYTES: u32 = bdev::limits::MAX_TRANSFER_BYTES;

/// R2Ts outstanding for one command: what remains of a 16-bit transfer tag beside 13 bits for the
/// number of the command, within reason.
pub const R2TS_PER_COMMAND: u32 = 4;

/// Bits of a transfer tag that name the command.
pub const TTAG_REQUEST_BITS: u32 = 13;

const _: () = assert!(REQUESTS <= 1 << TTAG_REQUEST_BITS);
const _: () = assert!(R2TS_PER_COMMAND <= 1 << (16 - TTAG_REQUEST_BITS));

/// The longest capsule: header and padding, data, and the data's digest.
pub const MAX_CAPSULE_BYTES: usize = MAX_DATA_OFFSET + IN_CAPSULE_BYTES as usize + DIGEST_BYTES;

/// Capsules of one connection that are put off, in bytes, while there is no place for them and the
/// data that would make places free stands behind them:
/// a queue of commands without data in their capsules,
/// and the one that goes past it.
pub const PUT_OFF_BYTES: usize = COMMANDS_PER_QPAIR as usize * MAX_HEADER_BYTES + MAX_CAPSULE_BYTES;

/// The shortest PDU that takes a place for a command.
pub const MIN_COMMAND_BYTES: usize = PduType::CapsuleCmd.header_bytes();

/// A receive buffer, in bytes: about 30 writes of 4 KiB with their commands. Past 64 KiB a larger
/// one gains nothing (measured at 4 KiB, depths 32 and 128).
pub const ARENA_BYTES: usize = 128 << 10;

/// A receive buffer with less room than this is not received into any more:
/// what a started capsule needs, and half of the whole.
pub const ARENA_LEAST_BYTES: usize = MAX_CAPSULE_BYTES + ARENA_BYTES / 2;

/// Receive buffers of one transport, 4 MiB: one that is received into, and those that hold the
/// data of commands not yet answered. With all of them in use, data in capsules is copied.
pub const ARENAS: usize = 1 + 31;

/// What is received beside a large payload, in bytes: the digest, and the header of what follows.
/// Small, so that the next payload, too, goes straight to where it belongs.
pub const BESIDE_PAYLOAD_BYTES: usize = DIGEST_BYTES + MAX_HEADER_BYTES + 432;

/// Payloads at least this long are received straight into their memory; for shorter ones it is
/// worth more to get many PDUs with one call.
pub const DIRECT_BYTES: u32 = 16 << 10;

/// What one connection may receive in one turn, in bytes, before the others have theirs:
/// one payload of the largest size, and what stands around it.
pub const TURN_BYTES: usize = MAX_H2C_DATA_BYTES as usize + ARENA_BYTES;

/// Calls that one connection may make in one turn.
pub const TURN_CALLS: u32 = 8;

/// Pieces in one send: what the kernel takes (UIO_MAXIOV).
pub const SEND_PIECES: usize = 1024;

/// Headers gathered for one send, in bytes: for each pair of pieces (headers, payload) the
/// completion of one command with the digest of its data, and the data header of the next; the end of
/// one block; and the headers of one PDU, with as much room behind them.
pub const SEND_HEADER_BYTES: usize =
    SEND_PIECES / 2 * (2 * MAX_HEADER_BYTES) + BLOCK_BYTES + 2 * MAX_PDU_HEADERS_BYTES;

/// The largest block, in bytes: what of a device's own memory is sent in one piece or copied.
pub const BLOCK_BYTES: usize = 4096;

const _: () = assert!(BLOCK_BYTES <= MAX_CAPSULE_BYTES);

/// Everything but the payload of one answer: padded data header, digest of the data, completion;
/// or a TermReq.
pub const MAX_PDU_HEADERS_BYTES: usize =
    MAX_DATA_OFFSET + DIGEST_BYTES + MAX_HEADER_BYTES + TERM_BYTES + TERM_MAX_DATA;

const _: () = assert!(SEND_HEADER_BYTES <= ARENA_BYTES);

/// Bytes given to the kernel in one turn, in equal parts for the connections that have something to
/// send: four of the largest transfers. What is left goes in the next turn, after the others.
pub const SEND_BYTES: usize = 4 << 20;

/// Bytes given to the kernel for one connection in one turn while many have something to send, at
/// least: what is a good call.
pub const SEND_BYTES_LEAST: usize = 256 << 10;

/// Connections received from without asking epoll.
pub const HOT_QPAIRS: usize = 8;

/// Turns without a byte after which a connection is left to epoll.
pub const HOT_TURNS: u32 = 512;

/// Turns between two questions to epoll while hot connections keep the reactor busy.
pub const EPOLL_TURNS: u32 = 16;

/// Events taken from epoll at once.
pub const EPOLL_EVENTS: usize = 128;

/// Bytes thrown away from a connection that is ending, before it is cut off.
pub const LINGER_BYTES: usize = 16 << 20;
