//! What waits to be sent: headers in a staging buffer, payloads where they are.
//!
//! Everything of a turn leaves in one call. A payload is not copied: the kernel takes it from the
//! operation's own memory, which the slot keeps until the piece is gone.
#![allow(unsafe_code)]

use crate::Socket;
use bdev::DmaSlice;
use nvmf_wire::digest::{DIGEST_BYTES, DataDigest};
use nvmf_wire::pdu::MAX_DATA_OFFSET;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// Payloads up to this many bytes are copied next to their header: a piece of its own costs more.
const COPY_BYTES: usize = 512;

/// Staging taken by one PDU at most: its header, a copied payload and two digests.
const PDU_BYTES: usize = MAX_DATA_OFFSET + COPY_BYTES + 2 * DIGEST_BYTES;

/// Staging buffer: the headers of more commands than two calls carry, and one PDU to spare.
const STAGING_BYTES: usize = (64 << 10) + PDU_BYTES;

/// Pieces that wait at once: three for each of 256 data PDUs (header, payload, digest).
const PIECES: usize = 768;

/// Pieces in one call. The kernel's own limit is 1024; past 128 PDUs a call, nothing is gained.
const PIECES_PER_CALL: usize = 256;

#[derive(Clone, Copy)]
enum Piece {
    /// Bytes of the staging buffer.
    Staged { at: usize, bytes: usize },
    /// Payload of the operation in `slot`.
    Payload { data: DmaSlice, slot: u16 },
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Piece::Staged { bytes, .. } => *bytes,
            Piece::Payload { data, .. } => data.len(),
        }
    }
}

/// PDUs on their way out.
pub(super) struct Outbox {
    staging: Box<[u8]>,
    used: usize,
    pieces: VecDeque<Piece>,
}

/// Whether the payload is referred to, so that its memory is needed until it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    No,
    Yes,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox {
            staging: vec![0; STAGING_BYTES].into_boxed_slice(),
            used: 0,
            pieces: VecDeque::with_capacity(PIECES),
        }
    }

    /// Whether one more PDU fits.
    pub(super) fn has_room(&self) -> bool {
        self.staging.len() - self.used >= PDU_BYTES && self.pieces.len() + 3 <= PIECES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Puts a PDU in that consists of what `header` writes.
    #[inline]
    pub(super) fn put_header(&mut self, header: impl FnOnce(&mut [u8]) -> usize) {
        let bytes = header(&mut self.staging[self.used..]);
        self.staged(bytes);
    }

    /// Puts in the payload that follows a header, and its digest if there is to be one.
    #[inline]
    pub(super) fn put_payload(&mut self, data: DmaSlice, slot: u16, digest: bool) -> Held {
        let held = if data.len() <= COPY_BYTES {
            data.copy_out(0, &mut self.staging[self.used..self.used + data.len()]);
            self.staged(data.len());
            Held::No
        } else {
            self.pieces.push_back(Piece::Payload { data, slot });
            Held::Yes
        };
        if digest {
            // SAFETY: the operation's memory is left alone by its submitter until it completes,
            // and nothing of ours writes the payload of a command that sends it.
            self.put_digest(unsafe { data.as_bytes() });
        }
        held
    }

    /// As [`Outbox::put_payload`], for bytes that are always copied.
    pub(super) fn put_bytes(&mut self, bytes: &[u8], digest: bool) {
        self.staging[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.staged(bytes.len());
        if digest {
            self.put_digest(bytes);
        }
    }

    fn put_digest(&mut self, bytes: &[u8]) {
        let mut digest = DataDigest::new();
        digest.update(bytes);
        let end = self.used + DIGEST_BYTES;
        self.staging[self.used..end].copy_from_slice(&digest.bytes());
        self.staged(DIGEST_BYTES);
    }

    /// `bytes` more bytes of staging are filled: one piece with what stands before them.
    #[inline]
    fn staged(&mut self, bytes: usize) {
        let start = self.used;
        self.used += bytes;
        if let Some(Piece::Staged { at, bytes: before }) = self.pieces.back_mut()
            && *at + *before == start
        {
            *before += bytes;
            return;
        }
        self.pieces.push_back(Piece::Staged { at: start, bytes });
    }

    /// Sends until all is gone or the socket takes no more. `released` hears the slot of each
    /// payload that has left. Returns how many bytes went.
    pub(super) fn send(
        &mut self,
        socket: &mut impl Socket,
        mut released: impl FnMut(u16),
    ) -> io::Result<usize> {
        let mut total = 0;
        while !self.pieces.is_empty() {
            let (asked, sent) = self.send_once(socket)?;
            let Some(sent) = sent else { break };
            total += sent;
            self.advance(sent, &mut released);
            if sent < asked {
                break;
            }
        }
        if self.pieces.is_empty() {
            self.used = 0;
        }
        Ok(total)
    }

    fn send_once(&self, socket: &mut impl Socket) -> io::Result<(usize, Option<usize>)> {
        if let [Piece::Staged { at, bytes }] = *self.pieces.as_slices().0
            && self.pieces.len() == 1
        {
            let sent = socket.send(&[IoSlice::new(&self.staging[at..at + bytes])])?;
            return Ok((bytes, sent));
        }
        // A short list is cheaper to fill than a long one.
        if self.pieces.len() <= 8 {
            self.send_list::<8>(socket)
        } else {
            self.send_list::<PIECES_PER_CALL>(socket)
        }
    }

    fn send_list<const N: usize>(
        &self,
        socket: &mut impl Socket,
    ) -> io::Result<(usize, Option<usize>)> {
        let mut list = [IoSlice::new(&[]); N];
        let (mut count, mut asked) = (0, 0);
        for (place, piece) in list.iter_mut().zip(&self.pieces) {
            let bytes = match piece {
                Piece::Staged { at, bytes } => &self.staging[*at..at + bytes],
                // SAFETY: as in put_payload; the slot holds the memory until `advance` says that
                // the piece has left.
                Piece::Payload { data, .. } => unsafe { data.as_bytes() },
            };
            *place = IoSlice::new(bytes);
            asked += bytes.len();
            count += 1;
        }
        Ok((asked, socket.send(&list[..count])?))
    }

    /// Drops `sent` bytes from the front.
    fn advance(&mut self, mut sent: usize, released: &mut impl FnMut(u16)) {
        while let Some(piece) = self.pieces.front_mut() {
            let bytes = piece.len();
            if sent < bytes {
                match piece {
                    Piece::Staged { at, bytes } => {
                        *at += sent;
                        *bytes -= sent;
                    }
                    Piece::Payload { data, .. } => *data = data.sub(sent, bytes - sent),
                }
                return;
            }
            sent -= bytes;
            if let Piece::Payload { slot, .. } = *piece {
                released(slot);
            }
            self.pieces.pop_front();
        }
        assert!(sent == 0, "a socket sent more than it was given");
    }
}
