//! Bytes from the socket, taken apart into commands and data.

use super::land::{Landing, Split};
use super::{Conn, Cx, Incoming, Out, Rx, Shared, State};
use crate::arena::Spare;
use crate::limits::{
    BESIDE_PAYLOAD_BYTES, DIRECT_BYTES, LINGER_BYTES, MAX_CAPSULE_BYTES, MIN_COMMAND_BYTES,
    R2TS_PER_COMMAND, TURN_BYTES, TURN_CALLS,
};
use crate::request::{Answer, Capsule, Home, untag};
use crate::socket::{Moved, Socket};
use crate::stats::Stats;
use crate::sys;
use bdev::DmaSlice;
use nvme_spec::{Sqe, Status};
use nvmf::transport::{CloseReason, Event, InCapsule, ReqId, Stage};
use nvmf_wire::digest::{DIGEST_BYTES, DataDigest, crc32c};
use nvmf_wire::pdu::{
    Fes, Framed, Framing, H2cData, IcReq, MAX_HEADER_BYTES, Pdu, Peek, Phase, WireError, flags,
    peek,
};
use std::collections::VecDeque;
use std::mem::offset_of;

/// Bytes received at once while data in capsules has to be copied out.
const SCARCE_BYTES: usize = 16 << 10;

/// What a turn of receiving came to.
#[derive(Debug)]
pub(crate) enum Received {
    /// Nothing was there.
    Nothing,
    /// Something was.
    Bytes,
    /// Something is, but it has to wait for a place or for memory.
    Held,
    /// The connection is over.
    Gone(CloseReason),
}

/// What was made of the bytes at hand.
enum Taken {
    /// So many are done with.
    Bytes(usize),
    /// More are needed.
    Need,
    /// The rest does not count any more.
    Stop,
    /// The connection is over.
    Gone(CloseReason),
}

/// A header, out of the receive buffer.
enum Head {
    IcReq { hpda: u8, hdgst: bool, ddgst: bool, maxr2t: u32 },
    Command { sqe: Sqe, offset: u32, bytes: u32, total: u32, digest: bool },
    Data { pdu: H2cData, offset: u32, bytes: u32, digest: bool },
    Term { fes: u16, fei: u32 },
}

impl Head {
    fn of(framed: &Framed<'_>) -> Head {
        let Framed { data_offset: offset, data_len: bytes, total_len: total, .. } = *framed;
        let digest = framed.data_digest;
        match framed.pdu {
            Pdu::IcReq(pdu) => Head::IcReq {
                hpda: pdu.hpda,
                hdgst: pdu.hdgst(),
                ddgst: pdu.ddgst(),
                maxr2t: pdu.maxr2t.get(),
            },
            Pdu::CapsuleCmd(pdu) => Head::Command { sqe: pdu.sqe, offset, bytes, total, digest },
            Pdu::H2cData(pdu) => Head::Data { pdu: *pdu, offset, bytes, digest },
            Pdu::TermReq(pdu) => Head::Term { fes: pdu.fes.get(), fei: pdu.fei.get() },
            Pdu::IcResp(_) | Pdu::CapsuleResp(_) | Pdu::C2hData(_) | Pdu::R2t(_) => {
                unreachable!("a controller is not sent this, which peek checks")
            }
        }
    }
}

impl<S: Socket> Conn<S> {
    /// Receives what is there, within what one turn allows.
    pub(crate) fn receive(&mut self, cx: &mut Cx<'_>) -> Received {
        if let State::Lingering { .. } = self.state {
            return self.discard(cx);
        }
        if !matches!(self.state, State::Greeting { .. } | State::Ready) {
            return Received::Nothing;
        }
        let before = self.counters.rx_bytes;
        if !self.put_off.is_empty() {
            self.take_up(cx);
        }
        for _ in 0..TURN_CALLS {
            let again = self.receive_once(cx);
            let bytes = (self.counters.rx_bytes - before) as usize;
            match again {
                Ok(true) if bytes < TURN_BYTES => {}
                Ok(_) if bytes > 0 => return Received::Bytes,
                Ok(_) => return Received::Nothing,
                Err(end) => return end,
            }
        }
        Received::Bytes
    }

    /// One call. Whether more may be there, and there is reason to ask at once: the call was kept
    /// small so that a payload can go straight to its place.
    fn receive_once(&mut self, cx: &mut Cx<'_>) -> Result<bool, Received> {
        let Some(spare) = cx.shared.arenas.spare(cx.pool) else { return Err(Received::Held) };
        let carried = self.carry.len();
        spare.slice.copy_in(0, &self.carry);
        let (room, small) = self.room(cx.shared, spare.slice.len() - carried);
        if room == 0 && !matches!(self.rx, Rx::Payload(_)) {
            return Err(Received::Held);
        }
        let Split { head, direct, room } = self.split(room);
        let (front, back) = (carried, carried + head);
        let moved = match &self.rx {
            Rx::Payload(incoming) if direct > 0 => {
                let straight = incoming.rest.sub(back, direct);
                let pieces = [spare.slice.sub(front, head), straight, spare.slice.sub(back, room)];
                self.socket.recv(if head > 0 { &pieces } else { &pieces[1..] })
            }
            _ => self.socket.recv(&[spare.slice.sub(front, head + room)]),
        };
        let bytes = match moved {
            Moved::Bytes(bytes) => bytes,
            Moved::Blocked => {
                self.counters.empty_recvs += 1;
                return if self.put_off.is_empty() { Ok(false) } else { Err(Received::Held) };
            }
            Moved::Ended => return Err(Received::Gone(CloseReason::Peer)),
            Moved::Failed(error) => {
                return Err(Received::Gone(CloseReason::Network(error.to_string())));
            }
        };
        self.counters.recvs += 1;
        self.counters.rx_bytes += bytes as u64;
        let straight = bytes.saturating_sub(head).min(direct);
        let mut done = 0;
        if straight > 0 {
            if back > 0 {
                self.land(spare.slice.sub(0, back), cx);
            }
            self.arrived(straight, cx);
            done = back;
        }
        self.parse(spare, done..carried + bytes - straight, cx)?;
        if self.put_off.is_empty() {
            Ok(small && bytes == head + direct + room)
        } else {
            Err(Received::Held)
        }
    }

    /// How many bytes to receive behind what is carried, and whether that is little on purpose:
    /// not more commands than there are places for, and not the payloads that have a place of
    /// their own.
    fn room(&self, shared: &Shared, most: usize) -> (usize, bool) {
        let places = self.places(shared) as usize;
        let bytes = match places {
            0 => SCARCE_BYTES,
            _ => ((places + 1) * MIN_COMMAND_BYTES - 1).max(MAX_CAPSULE_BYTES),
        };
        if (places == 0 || !self.put_off.is_empty()) && !self.reads_on() {
            return (0, false);
        }
        let most = most.min(bytes - self.carry.len());
        let large = match &self.rx {
            Rx::Payload(incoming) => incoming.rest.len() >= DIRECT_BYTES as usize,
            Rx::Header | Rx::Trailer(_) => self.large_pulls > 0,
        };
        if large && most > BESIDE_PAYLOAD_BYTES {
            return (BESIDE_PAYLOAD_BYTES, true);
        }
        if shared.arenas.scarce() { (most.min(SCARCE_BYTES), false) } else { (most, large) }
    }

    /// Takes bytes `bytes` of `spare` apart, and carries what is left over.
    fn parse(
        &mut self,
        spare: Spare,
        bytes: std::ops::Range<usize>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Received> {
        let std::ops::Range { start: mut at, end } = bytes;
        let taken = loop {
            let rest = spare.slice.sub(at, end - at);
            let taken = match &mut self.rx {
                _ if rest.is_empty() => break Taken::Need,
                Rx::Header => self.header(spare, at, rest, cx),
                Rx::Payload(incoming) if incoming.lands.is_some() => match self.land(rest, cx) {
                    0 => Taken::Need,
                    bytes => Taken::Bytes(bytes),
                },
                Rx::Payload(incoming) => {
                    let piece = rest.sub(0, rest.len().min(incoming.rest.len()));
                    incoming.rest.copy_from(piece);
                    self.arrived(piece.len(), cx);
                    Taken::Bytes(piece.len())
                }
                Rx::Trailer(_) => self.trailer(rest, cx),
            };
            match taken {
                Taken::Bytes(more) => at += more,
                end => break end,
            }
        };
        self.carry_over(spare.slice.sub(at, end - at), cx.shared);
        self.note_progress(cx.shared.now_ns);
        match taken {
            Taken::Bytes(_) | Taken::Need => Ok(()),
            Taken::Stop => {
                self.drop_carry(cx.shared);
                Err(Received::Bytes)
            }
            Taken::Gone(why) => Err(Received::Gone(why)),
        }
    }

    /// Keeps the beginning of a PDU for the next time.
    fn carry_over(&mut self, rest: DmaSlice, shared: &mut Shared) {
        if rest.is_empty() {
            return self.drop_carry(shared);
        }
        if self.carry.capacity() == 0 {
            self.carry = shared.carry();
        }
        self.carry.clear();
        self.carry.extend_from_slice(shared.arenas.bytes(rest));
    }

    /// Remembers since when a PDU has been under way.
    fn note_progress(&mut self, now_ns: u64) {
        let under_way = !self.carry.is_empty() || !matches!(self.rx, Rx::Header);
        let pdu = self.counters.rx_pdus;
        match self.begun {
            Some((same, _)) if under_way && same == pdu => {}
            _ => self.begun = under_way.then_some((pdu, now_ns)),
        }
    }

    /// A PDU that starts at byte `at` of `spare`.
    fn header(&mut self, spare: Spare, at: usize, rest: DmaSlice, cx: &mut Cx<'_>) -> Taken {
        let bytes = cx.shared.arenas.bytes(rest);
        let head = match peek(bytes, &self.params) {
            Ok(Peek::NeedMore(_)) => return Taken::Need,
            Ok(Peek::Pdu(framed)) => Head::of(&framed),
            Err(error) => {
                let header = bytes[..bytes.len().min(MAX_HEADER_BYTES)].to_vec();
                self.fail(error, &header, cx.shared);
                return Taken::Stop;
            }
        };
        match head {
            Head::Command { sqe, offset, bytes, total, digest } => {
                if rest.len() < total as usize {
                    return Taken::Need;
                }
                let data = at + offset as usize..at + (offset + bytes) as usize;
                if !self.put_off.is_empty() || !self.command(spare, sqe, data, digest, cx) {
                    let capsule = rest.sub(0, total as usize);
                    self.put_off.extend(cx.shared.arenas.bytes(capsule));
                }
                Taken::Bytes(total as usize)
            }
            Head::Data { pdu, offset, bytes, digest } => {
                if rest.len() < offset as usize {
                    return Taken::Need;
                }
                if let Err(error) = self.data(&pdu, bytes, digest, cx.shared) {
                    let header = zerocopy::IntoBytes::as_bytes(&pdu);
                    self.fail(error, header, cx.shared);
                    return Taken::Stop;
                }
                Taken::Bytes(offset as usize)
            }
            Head::IcReq { hpda, hdgst, ddgst, maxr2t } => {
                self.greet(hpda, hdgst, ddgst, maxr2t, cx);
                Taken::Bytes(size_of::<IcReq>())
            }
            Head::Term { fes, fei } => {
                self.counters.rx_pdus += 1;
                let text = Fes::from_code(fes).map_or("unknown status", Fes::text);
                let why = format!("it sent a TermReq: {text} (FES {fes:#x}, FEI {fei:#x})");
                Taken::Gone(CloseReason::Protocol(why))
            }
        }
    }

    /// ICReq: what the host wants is what it gets.
    fn greet(&mut self, hpda: u8, hdgst: bool, ddgst: bool, maxr2t: u32, cx: &mut Cx<'_>) {
        let config = &cx.shared.config;
        self.params.phase = Phase::Ready;
        self.params.hdgst = hdgst;
        self.params.ddgst = ddgst;
        self.params.max_capsule_data = config.in_capsule_bytes;
        self.params.max_data = config.max_h2c_data_bytes;
        self.framing = Framing { hdgst, ddgst, pda: hpda };
        self.maxr2t = maxr2t.saturating_add(1).min(R2TS_PER_COMMAND) as usize;
        self.state = State::Ready;
        self.announced = true;
        self.counters.rx_pdus += 1;
        self.out.push_back(Out::IcResp);
        let (qpair, origin) = (self.id, self.origin.clone());
        // A digest would be of what the blocks were when it was computed.
        let direct = !ddgst;
        cx.out.push(Event::Connected { qpair, origin, direct });
    }

    /// Takes up capsules that were put off, as far as there are places and memory now.
    fn take_up(&mut self, cx: &mut Cx<'_>) {
        while !self.put_off.is_empty() {
            let Some(spare) = cx.shared.arenas.spare(cx.pool) else { return };
            let bytes = self.put_off.make_contiguous();
            let Ok(Peek::Pdu(framed)) = peek(bytes, &self.params) else {
                unreachable!("what is put off was looked at before")
            };
            let total = framed.total_len as usize;
            let Head::Command { sqe, offset, bytes: len, digest, .. } = Head::of(&framed) else {
                unreachable!("only commands are put off")
            };
            spare.slice.copy_in(0, &bytes[..total]);
            let data = offset as usize..(offset + len) as usize;
            if !self.command(spare, sqe, data, digest, cx) {
                return;
            }
            self.put_off.drain(..total);
        }
        self.put_off = VecDeque::new();
    }

    /// Hands over a command capsule that is all there; its data is bytes `data` of `spare`. False
    /// when there is no place or no memory for it.
    fn command(
        &mut self,
        spare: Spare,
        sqe: Sqe,
        data: std::ops::Range<usize>,
        digest: bool,
        cx: &mut Cx<'_>,
    ) -> bool {
        if self.places(cx.shared) == 0 {
            return false;
        }
        let Shared { requests, arenas, stats, crowd, .. } = &mut *cx.shared;
        let (home, in_capsule) = if data.is_empty() {
            (Home::None, InCapsule::None)
        } else {
            let slice = spare.slice.sub(data.start, data.len());
            let after = digest
                .then(|| spare.slice.sub(data.end, DIGEST_BYTES))
                .map(|trailer| arenas.bytes(trailer));
            if after.is_some_and(|sent| crc32c(arenas.bytes(slice)).to_le_bytes() != *sent) {
                Stats::add(&stats.digest_errors, 1);
                (Home::None, InCapsule::Damaged)
            } else if arenas.scarce() {
                let Some(buf) = cx.pool.take(slice.len()) else { return false };
                buf.slice().copy_from(slice);
                let copy = buf.slice().sub(0, slice.len());
                (Home::Own(buf), InCapsule::Data(copy))
            } else {
                arenas.hold(spare, data.end);
                (Home::Arena(spare.arena), InCapsule::Data(slice))
            }
        };
        let req = requests.insert(self.id, Capsule { cid: sqe.cid(), home });
        self.command_came(crowd);
        self.counters.rx_pdus += 1;
        self.counters.commands += 1;
        cx.out.push(Event::Command { qpair: self.id, req, sqe, in_capsule });
        true
    }

    /// The header of an H2CData: it must answer an R2T of ours, in order.
    fn data(
        &mut self,
        pdu: &H2cData,
        bytes: u32,
        digest: bool,
        shared: &mut Shared,
    ) -> Result<(), WireError> {
        const TTAG: u32 = offset_of!(H2cData, ttag) as u32;
        const CCCID: u32 = offset_of!(H2cData, cccid) as u32;
        const DATAO: u32 = offset_of!(H2cData, datao) as u32;
        const DATAL: u32 = offset_of!(H2cData, datal) as u32;
        const FLAGS: u32 = 1;
        let range = |fei| WireError { fes: Fes::DataOutOfRange, fei };
        let (index, number) = untag(pdu.ttag.get());
        let request = shared.requests.find(index).filter(|request| request.qpair == self.id);
        let request = request.ok_or(WireError::field(TTAG))?;
        let Stage::Pulling { pull, .. } = &request.stage else {
            return Err(WireError::field(TTAG));
        };
        let r2t = pull.r2ts.get(number).copied().flatten().filter(|r2t| r2t.sent);
        let r2t = r2t.ok_or(WireError::field(TTAG))?;
        if pdu.cccid.get() != request.capsule.cid {
            return Err(WireError::field(CCCID));
        }
        if pdu.datao.get() != r2t.next {
            return Err(range(DATAO));
        }
        if bytes > r2t.end - r2t.next {
            return Err(range(DATAL));
        }
        if (pdu.ch.flags & flags::LAST != 0) != (r2t.next + bytes == r2t.end) {
            return Err(WireError::field(FLAGS));
        }
        let rest = pull.into.sub(r2t.next as usize, bytes as usize);
        let lands = pull.lands.then(|| Landing {
            at: r2t.next as usize,
            last: r2t.next + bytes == pull.into.len() as u32,
        });
        let digest = digest.then(DataDigest::new);
        let req = ReqId(index);
        self.rx = Rx::Payload(Incoming { req, number, rest, bytes, lands, digest });
        Ok(())
    }

    /// `bytes` bytes of payload are in their place.
    pub(super) fn arrived(&mut self, bytes: usize, cx: &mut Cx<'_>) {
        let Rx::Payload(incoming) = &mut self.rx else { unreachable!("a payload is under way") };
        if let Some(digest) = &mut incoming.digest {
            sys::digest(digest, incoming.rest.sub(0, bytes));
        }
        incoming.rest = incoming.rest.sub(bytes, incoming.rest.len() - bytes);
        if let Some(landing) = &mut incoming.lands {
            landing.at += bytes;
        }
        if incoming.rest.is_empty() {
            match std::mem::replace(&mut self.rx, Rx::Header) {
                Rx::Payload(incoming) if incoming.digest.is_some() => {
                    self.rx = Rx::Trailer(incoming);
                }
                Rx::Payload(incoming) => self.complete(incoming, true, cx),
                Rx::Header | Rx::Trailer(_) => unreachable!("a payload was under way"),
            }
        }
    }

    /// The digest of a payload.
    fn trailer(&mut self, rest: DmaSlice, cx: &mut Cx<'_>) -> Taken {
        if rest.len() < DIGEST_BYTES {
            return Taken::Need;
        }
        let mut sent = [0; DIGEST_BYTES];
        rest.copy_out(0, &mut sent);
        let Rx::Trailer(incoming) = std::mem::replace(&mut self.rx, Rx::Header) else {
            unreachable!("a digest is under way")
        };
        let good = incoming.digest.is_some_and(|digest| digest.matches(sent));
        if !good {
            Stats::add(&cx.shared.stats.digest_errors, 1);
        }
        self.complete(incoming, good, cx);
        Taken::Bytes(DIGEST_BYTES)
    }

    /// An H2CData is complete, and maybe all the data of its command.
    fn complete(&mut self, incoming: Incoming, good: bool, cx: &mut Cx<'_>) {
        self.counters.rx_pdus += 1;
        let Incoming { req, number, bytes, .. } = incoming;
        let requests = &mut cx.shared.requests;
        let pull = requests.pull(req).expect("the command of a payload waits for it");
        pull.damaged |= !good;
        pull.received += bytes;
        let r2t = pull.r2ts[number].as_mut().expect("a payload answers an R2T");
        r2t.next += bytes;
        if r2t.next < r2t.end {
            return;
        }
        pull.r2ts[number] = None;
        if (pull.received as usize) < pull.into.len() {
            return self.ask(req, cx.shared);
        }
        self.pulls -= 1;
        self.large_pulls -= u32::from(pull.into.len() >= DIRECT_BYTES as usize);
        self.landings -= u32::from(pull.lands);
        let damaged = pull.damaged;
        match requests.end_pull(req) {
            Some(response) => {
                requests.answer(req, Answer::from(response));
                self.answer(req);
            }
            None => {
                let status = if damaged { Status::TRANSIENT_TRANSPORT } else { Status::SUCCESS };
                cx.out.push(Event::Pulled { req, status });
            }
        }
    }

    /// Throws away what comes after the end.
    fn discard(&mut self, cx: &mut Cx<'_>) -> Received {
        let State::Lingering { received, .. } = &mut self.state else {
            unreachable!("only what lingers is thrown away")
        };
        let Some(spare) = cx.shared.arenas.spare(cx.pool) else { return Received::Nothing };
        match self.socket.recv(&[spare.slice]) {
            Moved::Bytes(bytes) => {
                *received += bytes;
                if *received > LINGER_BYTES {
                    let why = "it goes on sending after the end".to_string();
                    return Received::Gone(CloseReason::Network(why));
                }
                Received::Bytes
            }
            Moved::Blocked => Received::Nothing,
            Moved::Ended => Received::Gone(CloseReason::Peer),
            Moved::Failed(error) => Received::Gone(CloseReason::Network(error.to_string())),
        }
    }
}
