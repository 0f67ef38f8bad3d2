//! Data for the memory of a device: received straight into it, block by block.
//!
//! A block is written when all of it is here. What the socket has for certain is known before it
//! is asked, so the whole blocks of that go straight to their places, and the beginning of the
//! next one to the receive buffer, where it is carried as the beginning of a PDU is. Of a block
//! that a host cuts over two PDUs the first part is kept with the command.

use super::{Conn, Cx, Rx};
use crate::limits::BLOCK_BYTES;
use crate::request::Pull;
use crate::socket::Socket;
use bdev::DmaSlice;

/// How far the data of a command is that lands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Landing {
    /// Bytes of it in front of what is left of the PDU.
    pub at: usize,
    /// The PDU ends it.
    pub last: bool,
}

/// Where a receive puts what it gets, in bytes, in this order.
pub(super) struct Split {
    /// Behind what is carried: the rest of a block that has begun.
    pub head: usize,
    /// Straight to its place, behind what is carried and `head` of the payload.
    pub direct: usize,
    /// To the receive buffer again.
    pub room: usize,
}

impl<S: Socket> Conn<S> {
    /// Divides a receive, where `room` bytes may come beside a payload.
    pub(super) fn split(&self, room: usize) -> Split {
        let Rx::Payload(incoming) = &self.rx else { return Split { head: 0, direct: 0, room } };
        let (rest, carried) = (incoming.rest.len(), self.carry.len());
        let Some(Landing { at, last }) = incoming.lands else {
            return Split { head: 0, direct: rest, room };
        };
        let into_block = at % BLOCK_BYTES;
        let begun = carried > 0 || into_block > 0;
        let head = if begun { (BLOCK_BYTES - into_block).min(rest) - carried } else { 0 };
        let tail = if last { 0 } else { (at + rest) % BLOCK_BYTES };
        let whole = rest.saturating_sub(carried + head + tail);
        let there = self.socket.waiting().saturating_sub(head);
        if there >= whole {
            return Split { head, direct: whole, room };
        }
        let direct = there - there % BLOCK_BYTES;
        Split { head, direct, room: BLOCK_BYTES.min(rest - carried - head - direct) }
    }

    /// Writes what is whole at the beginning of `piece`, which is payload and what follows it.
    /// Returns how many bytes are done with.
    pub(super) fn land(&mut self, piece: DmaSlice, cx: &mut Cx<'_>) -> usize {
        let Rx::Payload(incoming) = &self.rx else { unreachable!("a payload is under way") };
        let Some(Landing { at, last }) = incoming.lands else { unreachable!("one that lands") };
        let rest = incoming.rest;
        let end = at + piece.len().min(rest.len());
        let bytes = match piece.len() >= rest.len() {
            true => rest.len(),
            false => (end - end % BLOCK_BYTES).saturating_sub(at),
        };
        if bytes == 0 {
            return 0;
        }
        let end = at + bytes;
        let head = (at.next_multiple_of(BLOCK_BYTES) - at).min(bytes);
        let tail = match last && bytes == rest.len() {
            true => 0,
            false => (end % BLOCK_BYTES).min(bytes - head),
        };
        let middle = bytes - head - tail;
        rest.sub(head, middle).copy_from(piece.sub(head, middle));
        let pull = cx.shared.requests.pull(incoming.req);
        let pull = pull.expect("the command of a payload waits for it");
        for (at, part) in [(at, piece.sub(0, head)), (end - tail, piece.sub(bytes - tail, tail))] {
            keep_part(pull, at, cx.shared.arenas.bytes(part));
        }
        self.arrived(bytes, cx);
        bytes
    }
}

/// Keeps a part of the block that the data of `pull` comes to at byte `at`, and writes the block
/// if that is the end of it.
fn keep_part(pull: &mut Pull, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let start = at - pull.part.len();
    pull.part.extend_from_slice(bytes);
    let end = start + pull.part.len();
    if end.is_multiple_of(BLOCK_BYTES) || end == pull.into.len() {
        pull.into.sub(start, pull.part.len()).copy_in(0, &pull.part);
        pull.part = Vec::new();
    }
}
