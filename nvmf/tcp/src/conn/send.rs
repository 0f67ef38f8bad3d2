//! Answers, gathered and sent.
#![allow(unsafe_code)]

use super::{Conn, Out, Shared};
use crate::limits::{
    BLOCK_BYTES, MAX_PDU_HEADERS_BYTES, SEND_BYTES, SEND_BYTES_LEAST, SEND_HEADER_BYTES,
    SEND_PIECES,
};
use crate::request::{Answer, Tcp, r2t_sent, ttag};
use crate::socket::{Moved, Socket};
use crate::sys;
use bdev::{DmaBuf, DmaSlice};
use nvmf::transport::{CloseReason, Command, Event, Stage};
use nvmf_wire::digest::{DIGEST_BYTES, DataDigest};
use nvmf_wire::pdu::{
    C2hEnd, Framing, IC_BYTES, PduType, encode_c2h_data, encode_capsule_resp, encode_icresp,
    encode_r2t,
};

/// What a turn of sending came to.
#[derive(Debug)]
pub(crate) enum Sending {
    /// Everything is with the kernel.
    Done,
    /// There is more, for the next turn.
    More,
    /// The kernel has no room.
    Blocked,
    /// The connection is over.
    Gone(CloseReason),
}

/// Where a send is put together: headers in memory of their own, payloads where they lie.
pub(crate) struct Outgoing {
    headers: DmaBuf,
    used: usize,
    /// The last piece is headers.
    joins: bool,
    pieces: Vec<DmaSlice>,
    /// Bytes of each PDU, or PDUs, of one entry of the queue.
    lengths: Vec<u32>,
    bytes: usize,
    /// Bytes that one send may have.
    most: usize,
}

impl Outgoing {
    /// With memory for headers: [`SEND_HEADER_BYTES`].
    pub(crate) fn new(headers: DmaBuf) -> Outgoing {
        assert!(headers.len() >= SEND_HEADER_BYTES, "room for the headers of one send");
        Outgoing {
            headers,
            used: 0,
            joins: false,
            pieces: Vec::with_capacity(SEND_PIECES),
            lengths: Vec::with_capacity(SEND_PIECES),
            bytes: 0,
            most: SEND_BYTES,
        }
    }

    /// So many connections have something to send in this turn: each gets an equal part.
    pub(crate) fn divide(&mut self, connections: usize) {
        self.most = (SEND_BYTES / connections.max(1)).max(SEND_BYTES_LEAST);
    }

    /// The memory, to be given back.
    pub(crate) fn into_headers(self) -> DmaBuf {
        self.headers
    }

    fn clear(&mut self) {
        self.used = 0;
        self.joins = false;
        self.bytes = 0;
        self.pieces.clear();
        self.lengths.clear();
    }

    fn is_full(&self) -> bool {
        self.pieces.len() + 6 > SEND_PIECES
            || self.lengths.len() == SEND_PIECES
            || self.used + 2 * MAX_PDU_HEADERS_BYTES > SEND_HEADER_BYTES
            || self.bytes >= self.most
    }

    /// Adds header bytes, at most [`MAX_PDU_HEADERS_BYTES`]: `write` writes them and says how many
    /// they are. They go to the last piece, if that is the headers just before them.
    fn put(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        let start = self.used;
        let room = self.headers.slice().sub(start, MAX_PDU_HEADERS_BYTES);
        // SAFETY: the memory is this send's own, and the kernel reads it only within the call.
        let bytes = write(unsafe { room.as_bytes_mut() });
        match self.pieces.last_mut() {
            Some(last) if self.joins => {
                let len = last.len() + bytes;
                *last = self.headers.slice().sub(start + bytes - len, len);
            }
            _ => self.pieces.push(room.sub(0, bytes)),
        }
        self.joins = true;
        self.used += bytes;
        self.bytes += bytes;
    }

    /// Adds bytes of a payload that are not in DMA memory, at most [`BLOCK_BYTES`].
    fn put_copy(&mut self, bytes: &[u8]) {
        let to = self.headers.slice().sub(self.used, bytes.len());
        to.copy_in(0, bytes);
        self.used += bytes.len();
        self.put_payload(to);
    }

    fn put_payload(&mut self, payload: DmaSlice) {
        self.pieces.push(payload);
        self.joins = false;
        self.bytes += payload.len();
    }

    /// Leaves out the first `bytes` bytes, which are sent already.
    fn skip(&mut self, mut bytes: usize) {
        let mut whole = 0;
        for piece in &mut self.pieces {
            if bytes < piece.len() {
                *piece = piece.sub(bytes, piece.len() - bytes);
                break;
            }
            bytes -= piece.len();
            whole += 1;
        }
        self.pieces.drain(..whole);
    }
}

impl<S: Socket> Conn<S> {
    /// Sends what is queued, as much as one call takes.
    pub(crate) fn send(
        &mut self,
        outgoing: &mut Outgoing,
        shared: &mut Shared,
        out: &mut Vec<Event>,
    ) -> Sending {
        outgoing.clear();
        for index in 0..self.out.len() {
            if outgoing.is_full() {
                break;
            }
            let before = outgoing.bytes;
            self.gather(index, outgoing, shared);
            outgoing.lengths.push((outgoing.bytes - before) as u32);
        }
        if outgoing.bytes == 0 {
            return Sending::Done;
        }
        let whole = outgoing.bytes - self.front_sent;
        outgoing.skip(self.front_sent);
        match self.socket.send(&outgoing.pieces) {
            Moved::Bytes(bytes) => {
                self.counters.sends += 1;
                self.counters.tx_bytes += bytes as u64;
                self.sent(bytes, &outgoing.lengths, shared, out);
                match bytes < whole {
                    true => Sending::Blocked,
                    false if self.out.is_empty() => Sending::Done,
                    false => Sending::More,
                }
            }
            Moved::Blocked => {
                self.counters.full_sends += 1;
                Sending::Blocked
            }
            Moved::Ended => Sending::Gone(CloseReason::Peer),
            Moved::Failed(error) => Sending::Gone(CloseReason::Network(error.to_string())),
        }
    }

    /// Writes entry `index` of the queue.
    fn gather(&self, index: usize, outgoing: &mut Outgoing, shared: &mut Shared) {
        match self.out[index] {
            Out::Answer { req } => {
                let cut = index == 0 && !self.tail.is_empty();
                self.gather_answer(shared.requests.get_mut(req), cut, outgoing);
            }
            Out::R2t { req, number } => {
                let request = shared.requests.get(req);
                let Stage::Pulling { pull, .. } = &request.stage else {
                    unreachable!("what is asked for has not come")
                };
                let r2t = pull.r2ts[usize::from(number)].expect("an R2T stands until answered");
                let (tag, len) = (ttag(req, usize::from(number)), r2t.end - r2t.next);
                let cid = request.capsule.cid;
                outgoing.put(|to| encode_r2t(to, self.framing, cid, tag, r2t.next, len));
            }
            Out::IcResp => {
                let most = shared.config.max_h2c_data_bytes;
                let Framing { hdgst, ddgst, .. } = self.framing;
                outgoing.put(|to| {
                    let to = to.first_chunk_mut().expect("headers have room for an ICResp");
                    encode_icresp(to, 0, hdgst, ddgst, most);
                    IC_BYTES
                });
            }
            Out::Term => {
                let (len, bytes) = &**self.term.as_ref().expect("written with the fault");
                outgoing.put(|to| {
                    to[..*len].copy_from_slice(&bytes[..*len]);
                    *len
                });
            }
        }
    }

    /// Writes an answer: data, or a completion, or both.
    fn gather_answer(&self, request: &mut Command<Tcp>, cut: bool, outgoing: &mut Outgoing) {
        let Stage::Answering(Answer { response, digest }) = &mut request.stage else {
            unreachable!("only answers are sent as answers")
        };
        if let Some(data) = response.data.filter(|data| !data.is_empty()) {
            let implied = response.cqe_may_be_implied;
            let end = if implied { C2hEnd::LastSuccess } else { C2hEnd::Last };
            let (cid, len) = (request.capsule.cid, data.len() as u32);
            outgoing.put(|to| encode_c2h_data(to, self.framing, cid, 0, len, end));
            if cut {
                self.gather_around_tail(data, outgoing);
            } else {
                outgoing.put_payload(data);
            }
            if self.framing.ddgst {
                let digest = digest.get_or_insert_with(|| {
                    let mut whole = DataDigest::new();
                    sys::digest(&mut whole, data);
                    whole.bytes()
                });
                outgoing.put(|to| {
                    to[..DIGEST_BYTES].copy_from_slice(digest);
                    DIGEST_BYTES
                });
            }
            if implied {
                return;
            }
        }
        outgoing.put(|to| encode_capsule_resp(to, self.framing, &response.cqe));
    }

    /// The kernel has taken `bytes` bytes more.
    fn sent(&mut self, bytes: usize, lengths: &[u32], shared: &mut Shared, out: &mut Vec<Event>) {
        let mut bytes = self.front_sent + bytes;
        let queued = self.out.len();
        for length in lengths {
            let length = *length as usize;
            if bytes < length {
                break;
            }
            bytes -= length;
            self.counters.tx_pdus += 1;
            match self.out.pop_front() {
                Some(Out::Answer { req }) => {
                    self.command_left(&mut shared.crowd);
                    shared.requests.sent(req, out);
                }
                Some(Out::R2t { req, number }) => {
                    r2t_sent(&mut shared.requests, req, number.into());
                }
                Some(Out::IcResp | Out::Term) | None => {}
            }
        }
        self.front_sent = bytes;
        if !self.tail.is_empty() && self.out.len() < queued {
            self.drop_tail(shared);
        }
        if bytes > 0 {
            self.keep_tail(shared);
        }
    }

    /// Keeps the rest of the block in which the first answer is cut off, if its data is lent: the
    /// block may have changed when there is room for more.
    fn keep_tail(&mut self, shared: &mut Shared) {
        let Some(Out::Answer { req }) = self.out.front() else { return };
        let Stage::Answering(Answer { response, .. }) = &shared.requests.get(*req).stage else {
            unreachable!("only answers are sent as answers")
        };
        let header = self.framing.data_offset(PduType::C2hData);
        let (Some(data), Some(at)) =
            (response.data.filter(|_| response.lent), self.front_sent.checked_sub(header))
        else {
            return;
        };
        let kept = self.tail_at..self.tail_at + self.tail.len();
        let end = at.next_multiple_of(BLOCK_BYTES).min(data.len());
        if at < end && !kept.contains(&at) {
            if self.tail.capacity() == 0 {
                self.tail = shared.carry();
            }
            self.tail_at = at;
            self.tail.resize(end - at, 0);
            data.sub(at, end - at).copy_out(0, &mut self.tail);
        }
    }

    /// Writes the data of the first answer, with what was kept of it in its place.
    fn gather_around_tail(&self, data: DmaSlice, outgoing: &mut Outgoing) {
        let after = self.tail_at + self.tail.len();
        outgoing.put_payload(data.sub(0, self.tail_at));
        outgoing.put_copy(&self.tail);
        if after < data.len() {
            outgoing.put_payload(data.sub(after, data.len() - after));
        }
    }
}
