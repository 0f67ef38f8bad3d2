//! Receives messages of one shape: a header of `H` bytes, then payload of a fixed size.

use std::io::{self, IoSliceMut, Read};

/// A whole message: its tag, and where in memory its payload lies or is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Tag of the message.
    pub tag: u16,
    /// Byte offset of its place in the memory given to [`Inbound::next`].
    pub place: usize,
}

/// What one receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Some bytes.
    Bytes,
    /// Nothing is there now.
    Nothing,
    /// The peer has closed.
    End,
}

struct Body {
    message: Message,
    got: usize,
}

/// The receiving half of one connection.
pub struct Inbound<const H: usize> {
    buf: Box<[u8]>,
    head: usize,
    tail: usize,
    payload: usize,
    direct_min: usize,
    body: Option<Body>,
}

impl<const H: usize> Inbound<H> {
    /// Receives through a buffer of `rxbuf` bytes (at least one header); `payload` bytes follow
    /// each header. Once `direct_min` or more of them are outstanding they bypass the buffer.
    #[must_use]
    pub fn new(rxbuf: usize, payload: usize, direct_min: usize) -> Self {
        Self {
            buf: vec![0; rxbuf.max(H)].into_boxed_slice(),
            head: 0,
            tail: 0,
            payload,
            direct_min: direct_min.max(1),
            body: None,
        }
    }

    /// One receive: into the buffer, or into the outstanding payload's place in `memory` and
    /// then the buffer. Call it when [`Self::next`] has no more messages.
    ///
    /// # Errors
    /// Returns the socket's error; an empty socket is [`Arrival::Nothing`].
    pub fn receive(&mut self, socket: &mut impl Read, memory: &mut [u8]) -> io::Result<Arrival> {
        if self.head > 0 {
            self.buf.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.head = 0;
        }
        let outcome = match &mut self.body {
            Some(body) if self.payload - body.got >= self.direct_min => {
                let from = body.message.place + body.got;
                let rest = self.payload - body.got;
                // Only the next header follows, so that the next payload goes straight too.
                let mut pieces = [
                    IoSliceMut::new(&mut memory[from..from + rest]),
                    IoSliceMut::new(&mut self.buf[self.tail..self.tail + H]),
                ];
                socket.read_vectored(&mut pieces).inspect(|bytes| {
                    body.got += rest.min(*bytes);
                    self.tail += bytes.saturating_sub(rest);
                })
            }
            _ => socket.read(&mut self.buf[self.tail..]).inspect(|bytes| self.tail += bytes),
        };
        match outcome {
            Ok(0) => Ok(Arrival::End),
            Ok(_) => Ok(Arrival::Bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Arrival::Nothing),
            Err(error) => Err(error),
        }
    }

    /// The next whole message; its payload has been copied to its place in `memory`.
    /// `locate` reads a header and says where its payload belongs.
    ///
    /// # Errors
    /// `InvalidData` where `locate` refuses the header or the place lies outside `memory`.
    pub fn next(
        &mut self,
        memory: &mut [u8],
        locate: impl Fn(&[u8; H]) -> Option<Message>,
    ) -> io::Result<Option<Message>> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => {
                let Some(header) = self.buf[self.head..self.tail].first_chunk::<H>() else {
                    return Ok(None);
                };
                let message = locate(header).ok_or(io::ErrorKind::InvalidData)?;
                if message.place.checked_add(self.payload).is_none_or(|end| end > memory.len()) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                self.head += H;
                Body { message, got: 0 }
            }
        };
        let bytes = (self.payload - body.got).min(self.tail - self.head);
        let from = body.message.place + body.got;
        memory[from..from + bytes].copy_from_slice(&self.buf[self.head..self.head + bytes]);
        self.head += bytes;
        body.got += bytes;
        if body.got == self.payload {
            return Ok(Some(body.message));
        }
        self.body = Some(body);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::{self, Read};

    use proptest::prelude::*;

    use super::{Arrival, Inbound, Message};
    use crate::ceiling::outbound::Outbound;

    /// A stream that gives and takes a few bytes at a time, as a full socket does.
    struct Trickle {
        bytes: VecDeque<u8>,
        chunks: Vec<usize>,
        /// Reads and writes so far, each going through the chunks on their own: with one count for
        /// both, one of them can meet the empty chunks for ever.
        turns: [usize; 2],
    }

    impl Trickle {
        fn allowance(&mut self, side: usize) -> usize {
            self.turns[side] += 1;
            self.chunks[self.turns[side] % self.chunks.len()]
        }
    }

    impl Read for Trickle {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.read_vectored(&mut [io::IoSliceMut::new(buf)])
        }

        fn read_vectored(&mut self, bufs: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
            let allowed = self.allowance(0).min(self.bytes.len());
            if allowed == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let mut done = 0;
            for slot in bufs.iter_mut().flat_map(|buf| buf.iter_mut()).take(allowed) {
                *slot = self.bytes.pop_front().expect("counted");
                done += 1;
            }
            Ok(done)
        }
    }

    impl io::Write for Trickle {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[io::IoSlice::new(buf)])
        }

        fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
            let allowed = self.allowance(1);
            if allowed == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let before = self.bytes.len();
            self.bytes.extend(bufs.iter().flat_map(|buf| buf.iter()).take(allowed));
            Ok(self.bytes.len() - before)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn locate(header: &[u8; 4]) -> Option<Message> {
        let tag = u16::from_le_bytes([header[0], header[1]]);
        Some(Message { tag, place: usize::from(header[2]) * 8 })
    }

    proptest! {
        /// However the stream is cut, every message arrives once, in order, its payload in place.
        #[test]
        fn whole_messages_whatever_the_cuts(
            places in proptest::collection::vec(0u8..32, 1..40),
            payload_words in 0usize..12,
            mut chunks in proptest::collection::vec(0usize..60, 1..8),
            rxbuf in 4usize..80,
            direct_min in 1usize..64,
            staged: bool,
        ) {
            chunks.push(1);
            let payload = payload_words * 8;
            let source: Vec<u8> = (0..32 * 8 + payload).map(|i| (i * 7 + i / 251) as u8).collect();
            let mut stream = Trickle { bytes: VecDeque::new(), chunks, turns: [0; 2] };
            let mut outbound = Outbound::<4>::new(4, payload, staged);
            let mut inbound = Inbound::<4>::new(rxbuf, payload, direct_min);
            let (mut pushed, mut got) = (0, Vec::new());
            for _ in 0..100_000 {
                if pushed < places.len() && pushed < got.len() + 4 {
                    let tag = (pushed as u16).to_le_bytes();
                    outbound.push([tag[0], tag[1], places[pushed], 0], &source, usize::from(places[pushed]) * 8);
                    pushed += 1;
                }
                outbound.flush(&mut stream, &source).expect("flush");
                let mut memory = vec![0u8; source.len()];
                // The same memory must be given until a message is whole.
                while got.len() < pushed {
                    match inbound.receive(&mut stream, &mut memory).expect("receive") {
                        Arrival::Bytes => {}
                        Arrival::Nothing => outbound.flush(&mut stream, &source).expect("flush"),
                        Arrival::End => unreachable!("the stream has no end"),
                    }
                    while let Some(message) = inbound.next(&mut memory, locate).expect("next") {
                        let at = message.place..message.place + payload;
                        prop_assert_eq!(&memory[at.clone()], &source[at]);
                        got.push(message);
                    }
                }
                if got.len() == places.len() {
                    break;
                }
            }
            let wanted: Vec<Message> = places.iter().enumerate()
                .map(|(tag, &place)| Message { tag: tag as u16, place: usize::from(place) * 8 })
                .collect();
            prop_assert_eq!(got, wanted);
        }
    }

    #[test]
    fn a_place_outside_memory_is_refused() {
        let bytes = VecDeque::from(vec![0, 0, 31, 0]);
        let mut stream = Trickle { bytes, chunks: vec![4], turns: [0; 2] };
        let mut inbound = Inbound::<4>::new(64, 8, 1);
        let mut memory = vec![0; 255];
        assert_eq!(inbound.receive(&mut stream, &mut memory).expect("receive"), Arrival::Bytes);
        let refused = inbound.next(&mut memory, locate).expect_err("outside");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }
}
