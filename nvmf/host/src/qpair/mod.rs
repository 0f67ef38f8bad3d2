//! One queue pair over a byte stream, after its connection is initialised: commands in, completions
//! out. No clock and no thread; the socket is a trait. `rdma` has the same over RDMA.

mod broken;
mod inbox;
mod outbox;
mod rdma;
mod receive;
mod slot;
#[cfg(test)]
mod tests;

pub use broken::Broken;
pub use rdma::{RdmaQpair, Ring};
pub use slot::{Ended, Payload};

use crate::Socket;
use inbox::Inbox;
use nvme_spec::opcode::fabrics;
use nvme_spec::{Sgl, Sqe};
use nvmf_wire::pdu::{self, Framing, Params, Phase, Side, encode_capsule_cmd, encode_h2c_data};
use outbox::{Held, Outbox};
use receive::State;
use slot::{Slots, Stage};
use std::collections::VecDeque;
use std::os::fd::RawFd;

/// R2Ts that a controller may have open for one command: what our ICReq says.
pub const MAX_R2T: u32 = 4;

/// How often the deadlines of commands are looked at, in ns.
const DEADLINE_CHECK_NS: u64 = 100_000_000;

/// How soon to try again when the socket takes no more, in ns.
const BLOCKED_RETRY_NS: u64 = 20_000;

/// What a connection agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueParams {
    /// How PDUs to the controller are laid out.
    pub framing: Framing,
    /// The most bytes of data in one H2CData PDU (MAXH2CDATA).
    pub max_h2c_data: u32,
    /// The most bytes of data in a command capsule.
    pub in_capsule_bytes: u32,
    /// Commands outstanding at once, 1 to 65,534.
    pub depth: u16,
}

/// What has to be sent, in order.
enum Job {
    /// The capsule of the command in this slot.
    Command(u16),
    /// Data that an R2T asked for.
    Transfer { slot: u16, ttag: u16, offset: u32, left: u32 },
}

/// A queue pair. `T` is the caller's name for a command.
pub struct Qpair<S, T> {
    socket: S,
    params: QueueParams,
    expect: Params,
    slots: Slots<T>,
    jobs: VecDeque<Job>,
    outbox: Outbox,
    inbox: Inbox,
    state: State,
    blocked: bool,
    next_check_ns: u64,
    now_ns: u64,
}

impl<S: Socket, T: Copy> Qpair<S, T> {
    /// A queue pair over `socket`, whose ICReq and ICResp have been exchanged.
    pub fn new(socket: S, params: QueueParams) -> Qpair<S, T> {
        let expect = Params {
            receiver: Side::Host,
            phase: Phase::Ready,
            hdgst: params.framing.hdgst,
            ddgst: params.framing.ddgst,
            pda: 0,
            max_capsule_data: 0,
            max_data: u32::MAX,
        };
        let jobs = usize::from(params.depth) * (1 + MAX_R2T as usize);
        Qpair {
            socket,
            params,
            expect,
            slots: Slots::new(params.depth),
            jobs: VecDeque::with_capacity(jobs),
            outbox: Outbox::new(),
            inbox: Inbox::new(),
            state: State::Header,
            blocked: false,
            next_check_ns: 0,
            now_ns: 0,
        }
    }

    /// What the connection agreed on.
    pub fn params(&self) -> &QueueParams {
        &self.params
    }

    /// Whether one more command may be submitted.
    pub fn has_room(&self) -> bool {
        self.slots.has_free()
    }

    /// Commands submitted and not ended.
    pub fn outstanding(&self) -> u32 {
        self.slots.used()
    }

    /// Takes a command; it leaves with the next [`Qpair::poll`]. The command identifier is set
    /// here; so is the data pointer, unless `sqe` has one, and PSDT, unless it is nonzero.
    ///
    /// The memory of `payload` belongs to the command until its ticket comes back.
    ///
    /// # Panics
    /// If there is no room.
    #[inline]
    pub fn submit(&mut self, ticket: T, mut sqe: Sqe, payload: Payload, deadline_ns: u64) {
        let (index, slot) = self.slots.take().expect("the caller asks for room first");
        sqe.cid = slot.cid.into();
        if sqe.flags >> 6 == 0 {
            sqe.flags |= Sqe::FLAGS_SGL;
        }
        if sqe.dptr.kind == 0 && sqe.dptr == Sgl::default() {
            sqe.dptr = data_pointer(&payload, self.params.in_capsule_bytes);
        }
        slot.ticket = Some(ticket);
        slot.payload = payload;
        slot.received = 0;
        slot.damaged = false;
        slot.deadline_ns = deadline_ns;
        if self.jobs.is_empty() && self.outbox.has_room() {
            slot.stage = Stage::Sent;
            self.put_command(index, &sqe);
        } else {
            slot.stage = Stage::Queued;
            slot.sqe = sqe;
            self.jobs.push_back(Job::Command(index));
        }
    }

    /// Sends what waits, takes what is there, and answers it. `end` hears of each command that
    /// ended. Returns how much was done.
    ///
    /// # Errors
    /// Why the connection is lost. Commands that have not ended are still held: see
    /// [`Qpair::drain`].
    pub fn poll(&mut self, now_ns: u64, mut end: impl FnMut(T, Ended)) -> Result<u32, Broken> {
        self.now_ns = now_ns;
        let mut work = self.flush(&mut end)?;
        work += self.receive(&mut end)?;
        if !self.jobs.is_empty() && !self.blocked {
            work += self.flush(&mut end)?;
        }
        if now_ns >= self.next_check_ns {
            self.next_check_ns = now_ns.saturating_add(DEADLINE_CHECK_NS);
            if self.slots.earliest_deadline_ns().is_some_and(|deadline| deadline <= now_ns) {
                return Err(Broken::Timeout);
            }
        }
        Ok(work)
    }

    /// Puts PDUs into the outbox and sends it, until nothing is left or the socket is full.
    fn flush(&mut self, end: &mut impl FnMut(T, Ended)) -> Result<u32, Broken> {
        let mut sent = 0;
        loop {
            while self.outbox.has_room() {
                let Some(job) = self.jobs.pop_front() else { break };
                match job {
                    Job::Command(index) => {
                        let slot = self.slots.at(index);
                        slot.stage = Stage::Sent;
                        let sqe = slot.sqe;
                        self.put_command(index, &sqe);
                    }
                    Job::Transfer { slot, ttag, offset, left } => {
                        self.put_data(slot, ttag, offset, left);
                    }
                }
            }
            if self.outbox.is_empty() {
                self.blocked = false;
                return Ok(sent);
            }
            let Qpair { outbox, socket, slots, .. } = self;
            let bytes = outbox
                .send(socket, |slot| {
                    slots.at(slot).sending -= 1;
                    finish_if_ended(slots, slot, end);
                })
                .map_err(Broken::Network)?;
            sent += u32::from(bytes > 0);
            if !self.outbox.is_empty() {
                self.blocked = true;
                return Ok(sent);
            }
        }
    }

    /// The command's capsule, with its data where that fits.
    #[inline]
    fn put_command(&mut self, index: u16, sqe: &Sqe) {
        let QueueParams { framing, in_capsule_bytes, .. } = self.params;
        if sqe.dptr.kind != Sgl::IN_CAPSULE {
            self.outbox.put_header(|out| encode_capsule_cmd(out, framing, sqe, 0));
            return;
        }
        // Fabrics commands bring their data in the capsule on every queue.
        let most =
            if sqe.opcode == fabrics::FABRICS { pdu::ADMIN_CAPSULE_DATA } else { in_capsule_bytes };
        let slot = self.slots.at(index);
        let bytes = match slot.payload {
            Payload::ToController(data) if data.len() <= most as usize => data.len() as u32,
            Payload::Range(range) if range.len() <= most as usize => range.len() as u32,
            _ => 0,
        };
        self.outbox.put_header(|out| encode_capsule_cmd(out, framing, sqe, bytes));
        if bytes > 0 {
            put_payload(&mut self.outbox, slot.payload, 0, bytes, index, framing.ddgst, || {
                slot.sending += 1;
            });
        }
    }

    /// One H2CData of a transfer; what is left goes to the front again.
    fn put_data(&mut self, index: u16, ttag: u16, offset: u32, left: u32) {
        let QueueParams { framing, max_h2c_data, .. } = self.params;
        let slot = self.slots.at(index);
        let bytes = left.min(max_h2c_data);
        let last = bytes == left;
        let cid = slot.cid;
        self.outbox.put_header(|out| encode_h2c_data(out, framing, cid, ttag, offset, bytes, last));
        put_payload(&mut self.outbox, slot.payload, offset, bytes, index, framing.ddgst, || {
            slot.sending += 1;
        });
        if last {
            slot.transfers -= 1;
        } else {
            let (offset, left) = (offset + bytes, left - bytes);
            self.jobs.push_front(Job::Transfer { slot: index, ttag, offset, left });
        }
    }

    /// Commands wait because the socket takes no more.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// A descriptor that becomes readable when there is something to receive.
    pub fn fd(&self) -> Option<RawFd> {
        self.socket.fd()
    }

    /// When to poll even if nothing arrives.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        if self.blocked {
            return Some(self.now_ns + BLOCKED_RETRY_NS);
        }
        if !self.jobs.is_empty() || !self.outbox.is_empty() {
            return Some(self.now_ns);
        }
        (self.slots.used() > 0).then_some(self.next_check_ns)
    }

    /// Takes back every command that has not ended, after the connection was lost.
    pub fn drain(&mut self, each: impl FnMut(T)) {
        self.slots.drain(each);
        self.jobs.clear();
    }

    /// Tells the controller which PDU was at fault, as far as the socket takes it now.
    pub fn terminate(&mut self, error: pdu::WireError) {
        if !self.outbox.is_empty() {
            return;
        }
        let mut out = [0; pdu::TERM_BYTES + pdu::TERM_MAX_DATA];
        let bytes = pdu::encode_term_req(&mut out, Side::Host, error.fes, error.fei, &[]);
        // The connection is closed next: whether this arrived makes no difference to us.
        let _ = self.socket.send(&[std::io::IoSlice::new(&out[..bytes])]);
    }

    /// Whether nothing is under way, so that the socket can be handed on.
    pub fn is_quiet(&self) -> bool {
        self.slots.used() == 0 && self.outbox.is_empty() && self.inbox.len() == 0
    }

    /// The socket, which is to be used no more beside this queue pair.
    pub(crate) fn socket(&self) -> &S {
        &self.socket
    }
}

/// Where a command's data is: in its capsule, if it goes to the controller and fits.
#[inline]
fn data_pointer(payload: &Payload, in_capsule: u32) -> Sgl {
    let bytes = u32::try_from(payload.len()).expect("payloads are below 4 GiB");
    match payload {
        Payload::ToController(_) | Payload::Range(_) if bytes > 0 && bytes <= in_capsule => {
            Sgl::in_capsule(0, bytes)
        }
        _ => Sgl::transport(bytes),
    }
}

/// Puts `bytes` bytes at `offset` of a payload that goes to the controller into the outbox.
fn put_payload(
    outbox: &mut Outbox,
    payload: Payload,
    offset: u32,
    bytes: u32,
    index: u16,
    digest: bool,
    held: impl FnOnce(),
) {
    let (offset, bytes) = (offset as usize, bytes as usize);
    match payload {
        Payload::ToController(data) => {
            if outbox.put_payload(data.sub(offset, bytes), index, digest) == Held::Yes {
                held();
            }
        }
        Payload::Range(range) => outbox.put_bytes(&range[offset..offset + bytes], digest),
        Payload::None | Payload::ToHost(_) => unreachable!("only outgoing data is sent"),
    }
}

/// Ends a command that waited for its memory to be sent.
fn finish_if_ended<T>(slots: &mut Slots<T>, index: u16, end: &mut impl FnMut(T, Ended)) {
    let slot = slots.at(index);
    if let Stage::Ended(ended) = slot.stage
        && !slot.is_sending()
    {
        let ticket = slots.free(index).expect("a slot in use has a ticket");
        end(ticket, ended);
    }
}
