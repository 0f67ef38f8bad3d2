//! Sends messages of one shape: everything that is ready in one call.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

/// Pieces in one call: the kernel's UIO_MAXIOV is 1024.
const PIECES: usize = 512;

struct Pending<const H: usize> {
    header: [u8; H],
    place: usize,
}

enum Queue<const H: usize> {
    /// Everything copied into one buffer; `head..tail` is not yet sent.
    Staged { buf: Box<[u8]>, head: usize, tail: usize },
    /// Messages sent from where they lie; `sent` bytes of the first are out.
    Pieces { queue: VecDeque<Pending<H>>, sent: usize },
}

/// The sending half of one connection.
pub struct Outbound<const H: usize> {
    payload: usize,
    queue: Queue<H>,
}

impl<const H: usize> Outbound<H> {
    /// Holds up to `depth` messages of `H` header and `payload` bytes, staged or in pieces.
    #[must_use]
    pub fn new(depth: usize, payload: usize, staged: bool) -> Self {
        let queue = if staged || payload == 0 {
            let bytes = depth * (H + payload);
            Queue::Staged { buf: vec![0; bytes].into_boxed_slice(), head: 0, tail: 0 }
        } else {
            Queue::Pieces { queue: VecDeque::with_capacity(depth), sent: 0 }
        };
        Self { payload, queue }
    }

    /// Adds one message whose payload lies at `place` of `memory`.
    pub fn push(&mut self, header: [u8; H], memory: &[u8], place: usize) {
        match &mut self.queue {
            Queue::Staged { buf, head, tail } => {
                if *tail + H + self.payload > buf.len() {
                    buf.copy_within(*head..*tail, 0);
                    *tail -= *head;
                    *head = 0;
                }
                let (front, rest) = buf[*tail..].split_at_mut(H);
                front.copy_from_slice(&header);
                rest[..self.payload].copy_from_slice(&memory[place..place + self.payload]);
                *tail += H + self.payload;
            }
            Queue::Pieces { queue, .. } => queue.push_back(Pending { header, place }),
        }
    }

    /// Sends what is ready, in one call where the socket takes it all.
    ///
    /// # Errors
    /// Returns the socket's error; a full socket is no error, the rest stays queued.
    pub fn flush(&mut self, socket: &mut impl Write, memory: &[u8]) -> io::Result<()> {
        loop {
            let outcome = match &mut self.queue {
                Queue::Staged { head, tail, .. } if head == tail => return Ok(()),
                Queue::Staged { buf, head, tail } => socket.write(&buf[*head..*tail]),
                Queue::Pieces { queue, .. } if queue.is_empty() => return Ok(()),
                Queue::Pieces { queue, sent } => {
                    write_pieces(socket, queue, *sent, memory, self.payload)
                }
            };
            match outcome {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn advance(&mut self, bytes: usize) {
        match &mut self.queue {
            Queue::Staged { head, tail, .. } => {
                *head += bytes;
                if head == tail {
                    (*head, *tail) = (0, 0);
                }
            }
            Queue::Pieces { queue, sent } => {
                *sent += bytes;
                let whole = *sent / (H + self.payload);
                queue.drain(..whole);
                *sent %= H + self.payload;
            }
        }
    }
}

fn write_pieces<const H: usize>(
    socket: &mut impl Write,
    queue: &VecDeque<Pending<H>>,
    sent: usize,
    memory: &[u8],
    payload: usize,
) -> io::Result<usize> {
    let mut pieces: [IoSlice<'_>; PIECES] = std::array::from_fn(|_| IoSlice::new(&[]));
    let mut used = 0;
    for (pending, slots) in queue.iter().zip(pieces.chunks_exact_mut(2)) {
        slots[0] = IoSlice::new(&pending.header);
        slots[1] = IoSlice::new(&memory[pending.place..pending.place + payload]);
        used += 2;
    }
    let mut pieces = &mut pieces[..used];
    IoSlice::advance_slices(&mut pieces, sent);
    socket.write_vectored(pieces)
}
