//! What comes from the controller.

use super::inbox::{DIRECT_BYTES, Inbox, digest_over};
use super::slot::{Ended, Payload, Slot, Slots, Stage};
use super::{Broken, Job, MAX_R2T, Qpair};
use crate::Socket;
use bdev::DmaSlice;
use nvme_spec::{Cqe, Status};
use nvmf_wire::digest::{DIGEST_BYTES, DataDigest};
use nvmf_wire::pdu::{C2hData, Pdu, Peek, R2t, peek};
use std::collections::VecDeque;

/// Receives in one poll. Each brings up to a staging buffer full, or a large payload.
const RECEIVES_PER_POLL: usize = 16;

/// What the next bytes are.
pub(super) enum State {
    /// A PDU.
    Header,
    /// The rest of a C2HData.
    Data(Incoming),
}

/// A C2HData under way.
pub(super) struct Incoming {
    slot: u16,
    /// Padding before the data that has not arrived.
    skip: usize,
    /// Where the rest of the data goes.
    rest: DmaSlice,
    /// The digest so far, where there is to be one.
    digest: Option<DataDigest>,
    /// The command ends with this data.
    success: bool,
}

impl<S: Socket, T: Copy> Qpair<S, T> {
    /// Takes what is there. Returns how much was done.
    pub(super) fn receive(&mut self, end: &mut impl FnMut(T, Ended)) -> Result<u32, Broken> {
        let mut work = 0;
        for _ in 0..RECEIVES_PER_POLL {
            let direct = match &self.state {
                State::Data(incoming)
                    if incoming.skip == 0
                        && incoming.rest.len() >= DIRECT_BYTES
                        && self.inbox.len() == 0 =>
                {
                    Some(incoming.rest)
                }
                _ => None,
            };
            let got = self.inbox.fill(&mut self.socket, direct).map_err(Broken::Network)?;
            let Some(got) = got else { break };
            if got.bytes == 0 {
                return Err(Broken::Ended);
            }
            if let State::Data(incoming) = &mut self.state {
                incoming.arrived(got.direct);
            }
            self.parse(end)?;
            work += 1;
            if !got.full {
                break;
            }
        }
        Ok(work)
    }

    /// Takes apart what is staged.
    fn parse(&mut self, end: &mut impl FnMut(T, Ended)) -> Result<(), Broken> {
        let Qpair { inbox, slots, jobs, state, expect, .. } = self;
        loop {
            if let State::Data(incoming) = state {
                if !incoming.take(inbox, slots) {
                    return Ok(());
                }
                if incoming.success {
                    let index = incoming.slot;
                    let cqe = Cqe::new(slots.at(index).cid, Status::SUCCESS);
                    finish(slots, index, cqe, end);
                }
                *state = State::Header;
            }
            let framed = match peek(inbox.bytes(), expect)? {
                Peek::NeedMore(_) => return Ok(()),
                Peek::Pdu(framed) => framed,
            };
            let header = framed.header_len as usize;
            match framed.pdu {
                Pdu::CapsuleResp(pdu) => {
                    let cqe = pdu.cqe;
                    let (index, _) = slots
                        .sent(cqe.cid.get())
                        .ok_or(Broken::Protocol("a response to no command"))?;
                    finish(slots, index, cqe, end);
                }
                Pdu::C2hData(pdu) => {
                    let mut incoming = begin_data(slots, pdu)?;
                    let (start, bytes) = (framed.data_offset as usize, framed.data_len as usize);
                    let digest = framed.data_digest;
                    if !digest && let Some(data) = inbox.bytes().get(start..start + bytes) {
                        // All of it is there, as nearly always with small payloads.
                        incoming.rest.copy_in(0, data);
                        if incoming.success {
                            let cqe = Cqe::new(slots.at(incoming.slot).cid, Status::SUCCESS);
                            finish(slots, incoming.slot, cqe, end);
                        }
                        inbox.payload_of(bytes);
                        inbox.consume(start + bytes);
                        continue;
                    }
                    incoming.skip = start - header;
                    incoming.digest = digest.then(DataDigest::new);
                    inbox.payload_of(bytes);
                    *state = State::Data(incoming);
                }
                Pdu::R2t(pdu) => accept_r2t(slots, jobs, pdu)?,
                Pdu::TermReq(pdu) => {
                    return Err(Broken::Terminated { fes: pdu.fes.get(), fei: pdu.fei.get() });
                }
                Pdu::IcReq(_) | Pdu::IcResp(_) | Pdu::CapsuleCmd(_) | Pdu::H2cData(_) => {
                    return Err(Broken::Protocol("a PDU that only a host sends"));
                }
            }
            inbox.consume(header);
        }
    }
}

impl Incoming {
    /// `bytes` bytes were received where they belong.
    fn arrived(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        if let Some(digest) = &mut self.digest {
            digest_over(digest, self.rest.sub(0, bytes));
        }
        self.rest = self.rest.sub(bytes, self.rest.len() - bytes);
    }

    /// Takes what is staged of padding, data and digest. Whether it was all of it.
    #[inline]
    fn take<T>(&mut self, inbox: &mut Inbox, slots: &mut Slots<T>) -> bool {
        if self.skip > 0 {
            let skip = self.skip.min(inbox.len());
            inbox.consume(skip);
            self.skip -= skip;
        }
        let bytes = self.rest.len().min(inbox.len());
        if bytes > 0 {
            let from = &inbox.bytes()[..bytes];
            self.rest.copy_in(0, from);
            if let Some(digest) = &mut self.digest {
                digest.update(from);
            }
            self.rest = self.rest.sub(bytes, self.rest.len() - bytes);
            inbox.consume(bytes);
        }
        if self.skip > 0 || !self.rest.is_empty() {
            return false;
        }
        let Some(digest) = self.digest else { return true };
        let Some(received) = inbox.bytes().first_chunk::<DIGEST_BYTES>() else { return false };
        if !digest.matches(*received) {
            slots.at(self.slot).damaged = true;
        }
        inbox.consume(DIGEST_BYTES);
        true
    }
}

/// Checks a C2HData against its command.
fn begin_data<T>(slots: &mut Slots<T>, pdu: &C2hData) -> Result<Incoming, Broken> {
    let (index, slot) =
        slots.sent(pdu.cccid.get()).ok_or(Broken::Protocol("data for no command"))?;
    let Payload::ToHost(memory) = slot.payload else {
        return Err(Broken::Protocol("data for a command that reads none"));
    };
    let (offset, bytes) = (pdu.datao.get(), pdu.datal.get());
    if offset != slot.received {
        return Err(Broken::Protocol("data out of order"));
    }
    let end = offset.checked_add(bytes).filter(|end| *end as usize <= memory.len());
    slot.received = end.ok_or(Broken::Protocol("more data than the command reads"))?;
    Ok(Incoming {
        slot: index,
        skip: 0,
        rest: memory.sub(offset as usize, bytes as usize),
        digest: None,
        success: pdu.success(),
    })
}

/// Checks an R2T against its command and takes it.
fn accept_r2t<T>(slots: &mut Slots<T>, jobs: &mut VecDeque<Job>, pdu: &R2t) -> Result<(), Broken> {
    let (index, slot) =
        slots.sent(pdu.cccid.get()).ok_or(Broken::Protocol("an R2T for no command"))?;
    let (offset, left) = (pdu.r2to.get(), pdu.r2tl.get());
    if left == 0 || !wants(slot, offset, left) {
        return Err(Broken::Protocol("an R2T for data that the command does not have"));
    }
    if slot.transfers == MAX_R2T {
        return Err(Broken::Protocol("more R2Ts for a command than we take"));
    }
    slot.transfers += 1;
    jobs.push_back(Job::Transfer { slot: index, ttag: pdu.ttag.get(), offset, left });
    Ok(())
}

/// Whether the command has `bytes` bytes at `offset` to send.
fn wants<T>(slot: &Slot<T>, offset: u32, bytes: u32) -> bool {
    let outgoing = matches!(slot.payload, Payload::ToController(_) | Payload::Range(_));
    let end = u64::from(offset) + u64::from(bytes);
    outgoing && end <= slot.payload.len() as u64
}

/// Ends a command: at once, or when its memory is no longer sent from.
#[inline]
fn finish<T>(slots: &mut Slots<T>, index: u16, cqe: Cqe, end: &mut impl FnMut(T, Ended)) {
    let slot = slots.at(index);
    let ended = slot.ended(cqe);
    if slot.is_sending() {
        slot.stage = Stage::Ended(ended);
        return;
    }
    let ticket = slots.free(index).expect("a slot in use has a ticket");
    end(ticket, ended);
}
