//! A fake target and the pipe to it, in one socket.

use super::Fake;
use crate::Socket;
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};

/// Cuts the stream wherever it is told to.
pub(crate) struct Pipe {
    pub(crate) fake: Fake,
    pub(crate) to_host: VecDeque<u8>,
    /// Sizes of what the pipe takes and gives, over and over; 0: nothing now.
    pub(crate) cuts: Vec<usize>,
    pub(crate) turns: [usize; 2],
    /// Flips bits of the byte at this place of the stream to the host.
    pub(crate) flip: Option<(usize, u8)>,
    /// The stream ends after this many bytes to the host.
    pub(crate) ends_after: usize,
    /// What the target says is dropped.
    pub(crate) mute: bool,
    given: usize,
}

impl Pipe {
    pub(crate) fn new(fake: Fake, cuts: Vec<usize>) -> Pipe {
        Pipe {
            fake,
            to_host: VecDeque::new(),
            cuts,
            turns: [0; 2],
            flip: None,
            ends_after: usize::MAX,
            mute: false,
            given: 0,
        }
    }

    fn cut(&mut self, direction: usize) -> usize {
        self.turns[direction] += 1;
        self.cuts[self.turns[direction] % self.cuts.len()]
    }
}

impl Socket for Pipe {
    fn recv(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<Option<usize>> {
        while let Some(pdu) = self.fake.next_pdu() {
            if !self.mute {
                self.to_host.extend(pdu);
            }
        }
        let left = self.ends_after.saturating_sub(self.given);
        if left == 0 {
            return Ok(Some(0));
        }
        let most = self.cut(0).min(self.to_host.len()).min(left);
        if most == 0 {
            return Ok(None);
        }
        let mut got = 0;
        for piece in into {
            for byte in piece.iter_mut().take(most - got) {
                *byte = self.to_host.pop_front().unwrap();
                if let Some((at, bits)) = self.flip
                    && at == self.given
                {
                    *byte ^= bits;
                }
                self.given += 1;
                got += 1;
            }
        }
        Ok(Some(got))
    }

    fn send(&mut self, from: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        if self.given >= self.ends_after {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let most = self.cut(1);
        if most == 0 {
            return Ok(None);
        }
        let all: Vec<u8> = from.iter().flat_map(|piece| piece.iter().copied()).collect();
        let sent = most.min(all.len());
        self.fake.receive(&all[..sent]);
        Ok(Some(sent))
    }
}
