//! Received bytes.
//!
//! Small PDUs arrive many at a time in a staging buffer and are copied from there. The rest of a
//! large payload is received where it belongs, with only the next header behind it staged, so that
//! a large read is copied once, by the kernel.
#![allow(unsafe_code)]

use crate::Socket;
use bdev::DmaSlice;
use nvmf_wire::digest::DataDigest;
use std::io::{self, IoSliceMut};

/// Staging buffer. Measured with the bare TCP pair: less than 64 KiB halves the rate at 4 KiB,
/// more than 256 KiB gains nothing.
const STAGING_BYTES: usize = 256 << 10;

/// Payload that is received directly, if at least this much of it is missing.
pub(super) const DIRECT_BYTES: usize = 16 << 10;

/// Staged behind a direct payload: the next headers and a little data.
const BEHIND_BYTES: usize = 512;

/// What one receive brought.
pub(super) struct Got {
    /// Bytes that went to `direct`.
    pub(super) direct: usize,
    /// Bytes in all; zero when the peer has ended the stream.
    pub(super) bytes: usize,
    /// Nothing more fitted, so there may be more.
    pub(super) full: bool,
}

/// Bytes received and not yet looked at.
pub(super) struct Inbox {
    staging: Box<[u8]>,
    start: usize,
    end: usize,
    /// The last payload was large: the next one probably is, and is better received directly.
    expect_large: bool,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        let staging = vec![0; STAGING_BYTES].into_boxed_slice();
        Inbox { staging, start: 0, end: 0, expect_large: false }
    }

    /// What is there.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.staging[self.start..self.end]
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Drops `bytes` bytes from the front.
    #[inline]
    pub(super) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        assert!(self.start <= self.end, "consumed what is not there");
    }

    /// Tells the size of the payload that is being received.
    #[inline]
    pub(super) fn payload_of(&mut self, bytes: usize) {
        self.expect_large = bytes >= 2 * DIRECT_BYTES;
    }

    /// Receives once: into `direct`, if it is given, and behind that into staging.
    pub(super) fn fill(
        &mut self,
        socket: &mut impl Socket,
        direct: Option<DmaSlice>,
    ) -> io::Result<Option<Got>> {
        self.staging.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = self.staging.len() - self.end;
        let room =
            if direct.is_some() || self.expect_large { room.min(BEHIND_BYTES) } else { room };
        assert!(room > 0, "no PDU is waited for with the buffer full");
        let behind = &mut self.staging[self.end..self.end + room];
        let (asked, got) = match direct {
            None => (room, socket.recv(&mut [IoSliceMut::new(behind)])?),
            Some(data) => {
                // SAFETY: the operation's memory is left alone by its submitter until it
                // completes, and nothing else of ours uses it during this call.
                let first = unsafe { data.as_bytes_mut() };
                let mut list = [IoSliceMut::new(first), IoSliceMut::new(behind)];
                (data.len() + room, socket.recv(&mut list)?)
            }
        };
        let Some(bytes) = got else { return Ok(None) };
        let direct = bytes.min(direct.map_or(0, DmaSlice::len));
        self.end += bytes - direct;
        assert!(self.end <= self.staging.len(), "a socket brought more than there was room for");
        Ok(Some(Got { direct, bytes, full: bytes == asked }))
    }
}

/// Goes on with `digest` over payload that was received directly.
pub(super) fn digest_over(digest: &mut DataDigest, data: DmaSlice) {
    // SAFETY: as in fill: during this call nobody writes the operation's memory.
    digest.update(unsafe { data.as_bytes() });
}
