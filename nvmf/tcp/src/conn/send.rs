//! Answers, gathered and sent.

use super::{Conn, Out, Shared};
use crate::limits::{MAX_PDU_HEADERS_BYTES, SEND_BYTES, SEND_HEADER_BYTES, SEND_PIECES};
use crate::request::{Request, State as RequestState, ttag};
use crate::socket::{Moved, Socket};
use crate::sys;
use bdev::{DmaBuf, DmaSlice};
use nvmf::transport::{CloseReason, Event};
use nvmf_wire::digest::DataDigest;
use nvmf_wire::pdu::{
    C2hEnd, IC_BYTES, encode_c2h_data, encode_capsule_resp, encode_icresp, encode_r2t,
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
    pieces: Vec<DmaSlice>,
    /// Bytes of each PDU, or PDUs, of one entry of the queue.
    lengths: Vec<u32>,
    bytes: usize,
}

impl Outgoing {
    /// With memory for headers: [`SEND_HEADER_BYTES`].
    pub(crate) fn new(headers: DmaBuf) -> Outgoing {
        assert!(headers.len() >= SEND_HEADER_BYTES, "room for the headers of one send");
        Outgoing {
            headers,
            used: 0,
            pieces: Vec::with_capacity(SEND_PIECES),
            lengths: Vec::with_capacity(SEND_PIECES),
            bytes: 0,
        }
    }

    /// The memory, to be given back.
    pub(crate) fn into_headers(self) -> DmaBuf {
        self.headers
    }

    fn clear(&mut self) {
        self.used = 0;
        self.bytes = 0;
        self.pieces.clear();
        self.lengths.clear();
    }

    fn is_full(&self) -> bool {
        self.pieces.len() + 4 > SEND_PIECES
            || self.lengths.len() == SEND_PIECES
            || self.used + MAX_PDU_HEADERS_BYTES > SEND_HEADER_BYTES
            || self.bytes >= SEND_BYTES
    }

    /// Adds header bytes: to the last piece, if that is the headers just before them.
    fn put(&mut self, bytes: &[u8]) {
        let to = self.headers.slice().sub(self.used, bytes.len());
        to.copy_in(0, bytes);
        match self.pieces.last_mut() {
            Some(last)
                if self.used > 0 && last.as_ptr().wrapping_add(last.len()) == to.as_ptr() =>
            {
                let start = self.used - last.len();
                let whole = last.len() + bytes.len();
                *last = self.headers.slice().sub(start, whole);
            }
            _ => self.pieces.push(to),
        }
        self.used += bytes.len();
        self.bytes += bytes.len();
    }

    fn put_payload(&mut self, payload: DmaSlice) {
        self.pieces.push(payload);
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
            self.gather(self.out[index], outgoing, shared);
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

    /// Writes one entry of the queue.
    fn gather(&self, entry: Out, outgoing: &mut Outgoing, shared: &mut Shared) {
        let mut bytes = [0; MAX_PDU_HEADERS_BYTES];
        match entry {
            Out::Answer { req } => {
                self.gather_answer(shared.requests.get(req), outgoing, &mut bytes);
            }
            Out::R2t { req, number } => {
                let request = shared.requests.get(req);
                let RequestState::Pulling(pull) = &request.state else {
                    unreachable!("what is asked for has not come")
                };
                let r2t = pull.r2ts[usize::from(number)].expect("an R2T stands until answered");
                let (tag, len) = (ttag(req, usize::from(number)), r2t.end - r2t.next);
                let len = encode_r2t(&mut bytes, self.framing, request.cid, tag, r2t.next, len);
                outgoing.put(&bytes[..len]);
            }
            Out::IcResp => {
                let mut bytes = [0; IC_BYTES];
                let most = shared.config.max_h2c_data_bytes;
                encode_icresp(&mut bytes, 0, self.framing.hdgst, self.framing.ddgst, most);
                outgoing.put(&bytes);
            }
            Out::Term => {
                let (len, bytes) = &**self.term.as_ref().expect("written with the fault");
                outgoing.put(&bytes[..*len]);
            }
        }
    }

    /// Writes an answer: data, or a completion, or both.
    fn gather_answer(&self, request: &mut Request, outgoing: &mut Outgoing, bytes: &mut [u8]) {
        let RequestState::Answering { response, digest } = &mut request.state else {
            unreachable!("only answers are sent as answers")
        };
        if let Some(data) = response.data.filter(|data| !data.is_empty()) {
            let implied = response.cqe_may_be_implied;
            let end = if implied { C2hEnd::LastSuccess } else { C2hEnd::Last };
            let (cid, len) = (request.cid, data.len() as u32);
            let offset = encode_c2h_data(bytes, self.framing, cid, 0, len, end);
            outgoing.put(&bytes[..offset]);
            outgoing.put_payload(data);
            if self.framing.ddgst {
                let digest = digest.get_or_insert_with(|| {
                    let mut whole = DataDigest::new();
                    sys::digest(&mut whole, data);
                    whole.bytes()
                });
                outgoing.put(&digest[..]);
            }
            if implied {
                return;
            }
        }
        let len = encode_capsule_resp(bytes, self.framing, &response.cqe);
        outgoing.put(&bytes[..len]);
    }

    /// The kernel has taken `bytes` bytes more.
    fn sent(&mut self, bytes: usize, lengths: &[u32], shared: &mut Shared, out: &mut Vec<Event>) {
        let mut bytes = self.front_sent + bytes;
        for length in lengths {
            let length = *length as usize;
            if bytes < length {
                break;
            }
            bytes -= length;
            self.counters.tx_pdus += 1;
            match self.out.pop_front() {
                Some(Out::Answer { req }) => {
                    self.outstanding -= 1;
                    shared.requests.remove(req);
                    out.push(Event::Sent { req });
                }
                Some(Out::R2t { req, number }) => shared.requests.r2t_sent(req, number.into()),
                Some(Out::IcResp | Out::Term) | None => {}
            }
        }
        self.front_sent = bytes;
    }
}
