//! The ceiling: a bare TCP pair in the shape of NVMe/TCP and nothing else in it.
//!
//! Reads are 72-byte commands in and 24-byte headers plus payload out, the payload
//! from a random place of a populated region; writes are the mirror image. Both
//! halves poll nonblocking sockets, take everything that is there in one receive
//! and send everything that is ready in one call. The asking half copies each
//! payload to its slot and asks again at once.

pub mod client;
pub mod frame;
pub mod inbound;
pub mod outbound;
pub mod server;

use std::io;

use clap::{Args, ValueEnum};

use crate::sample::{Op, Workload};

/// How payload reaches the sending call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Gather {
    /// `copy` up to 16 KiB of payload, `pieces` above.
    Auto,
    /// Headers and payloads are copied into one staging buffer, sent as one piece.
    Copy,
    /// Headers and payloads are sent from where they lie, two pieces a message.
    Pieces,
}

/// How a half moves its bytes.
#[derive(Args, Clone, Debug)]
pub struct Movement {
    /// Bytes of the receive buffer.
    #[arg(long, default_value_t = 256 << 10)]
    pub rxbuf: usize,
    /// How payload reaches the sending call.
    #[arg(long, value_enum, default_value = "auto")]
    pub gather: Gather,
    /// Payload with at least so many bytes outstanding is received straight into its place.
    #[arg(long, default_value_t = 16 << 10)]
    pub direct_min: usize,
    /// Messages handled before what is ready is sent; 0 means all that were received.
    #[arg(long, default_value_t = 0)]
    pub batch: usize,
    /// Bytes of the region payloads come from and go to.
    #[arg(long, default_value_t = 512 << 20)]
    pub region: usize,
    /// Verify every payload against the pattern of its place.
    #[arg(long)]
    pub check: bool,
}

impl Movement {
    /// Whether payloads of `payload` bytes are staged rather than sent from where they lie.
    #[must_use]
    pub fn stages(&self, payload: usize) -> bool {
        match self.gather {
            Gather::Auto => payload <= 16 << 10,
            Gather::Copy => true,
            Gather::Pieces => false,
        }
    }
}

/// Payload that follows a command and a response of `workload`, in bytes.
#[must_use]
pub fn payloads(workload: &Workload) -> (usize, usize) {
    match workload.op {
        Op::Read => (0, workload.payload),
        Op::Write => (workload.payload, 0),
    }
}

/// Refuses workloads that the region or the 16-bit tags cannot hold.
///
/// # Errors
/// `InvalidInput` with the reason.
pub fn validate(workload: &Workload, movement: &Movement) -> io::Result<()> {
    let reason = if workload.payload == 0 || !workload.payload.is_multiple_of(8) {
        "payload must be a multiple of 8 bytes"
    } else if workload.payload > movement.region || movement.region > u32::MAX as usize {
        "payload must fit in the region, the region below 4 GiB"
    } else if workload.depth == 0 || workload.depth > 1 << 16 {
        "depth must be 1 to 65536"
    } else if workload.connections == 0 {
        "there must be a connection"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// Fills `bytes`, which lie at `place` of the region, with the pattern of their place.
pub fn fill(bytes: &mut [u8], place: usize) {
    for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&word_at(place + 8 * index).to_le_bytes());
    }
}

/// Whether `bytes` hold the pattern of `place`.
#[must_use]
pub fn holds(bytes: &[u8], place: usize) -> bool {
    bytes
        .chunks_exact(8)
        .enumerate()
        .all(|(index, word)| word == word_at(place + 8 * index).to_le_bytes())
}

fn word_at(place: usize) -> u64 {
    (place as u64 ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
