//! The devices as one reactor uses them.

use super::accept::{Inbox, Load, Request, Waiting};
use super::cm::{CmEvent, CmId, place_of};
use super::completions::outcome_of;
use super::devices::{Device, Hardware, failed};
use super::port::Port;
use super::sys::{Watch, check, check_code};
use crate::limits::{BATCH, BATCHES, CHAIN, CQE_BYTES, MANAGER_TURNS, PORTS};
use crate::limits::{HOST_RNR_RETRIES, RETRIES, RNR_TIMER};
use crate::nic::{
    Accepted, Capacity, Completion, ConnectionEvent, Gone, Nic, NicError, PortId, Receive, Remote,
    Sizes, What, Work,
};
use crate::private_data::{Ask, accept_data};
use bdev::DmaSlice;
use nvmf_wire::rdma::Reject;
use rdma_mummy_sys as v;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use v::rdma_cm_event_type as kind;
use zerocopy::IntoBytes;

/// Kinds of work requests, in the two highest bits of their identifiers; a tag leaves them free.
const RECEIVE: u64 = 0;
const READ: u64 = 1;
const WRITE: u64 = 2;
const SEND: u64 = 3;
const KIND_SHIFT: u32 = 62;
const TAG_MASK: u64 = (1 << KIND_SHIFT) - 1;

/// A connection.
struct Conn {
    id: CmId,
    number: u32,
    port: PortId,
    /// Answers go with the work request itself.
    inline: bool,
    _load: Load,
}

/// The RDMA devices of the machine, for one reactor.
pub struct VerbsNic<A> {
    /// Before ports and hardware: queue pairs are destroyed first.
    conns: Vec<Option<Conn>>,
    ports: [Option<Port>; PORTS],
    /// Numbers of queue pairs with their ports, in order, and their places.
    numbers: Vec<((PortId, u32), u16)>,
    wcs: Box<[v::ibv_wc; BATCH]>,
    wrs: Vec<v::ibv_send_wr>,
    sges: Vec<v::ibv_sge>,
    reactor: usize,
    /// Entries of the completion queue of a port.
    completions: u32,
    turns: u32,
    /// The connection manager had something when it was asked last.
    manager_busy: bool,
    watch: Watch,
    inbox: Arc<Inbox<A>>,
    hardware: Arc<Hardware>,
}

// SAFETY: used by one thread at a time; the libraries allow any.
unsafe impl<A: Send> Send for VerbsNic<A> {}

impl<A> VerbsNic<A> {
    /// For reactor `reactor`, whose connections come by `inbox`.
    ///
    /// # Errors
    /// The kernel's, when it is out of descriptors.
    pub fn new(
        hardware: Arc<Hardware>,
        inbox: Arc<Inbox<A>>,
        reactor: usize,
        capacity: Capacity,
    ) -> io::Result<VerbsNic<A>> {
        let watch = Watch::new()?;
        watch.add(&inbox.signal)?;
        watch.add(inbox.channel.fd())?;
        Ok(VerbsNic {
            conns: (0..capacity.qpairs).map(|_| None).collect(),
            ports: Default::default(),
            numbers: Vec::with_capacity(usize::from(capacity.qpairs)),
            // SAFETY: all fields of a completion may be zero.
            wcs: Box::new(unsafe { std::mem::zeroed() }),
            wrs: Vec::with_capacity(CHAIN),
            sges: Vec::with_capacity(CHAIN),
            reactor,
            completions: capacity.completions,
            turns: 0,
            manager_busy: false,
            watch,
            inbox,
            hardware,
        })
    }

    /// What an event of the connection manager means here.
    fn understood(&self, event: &CmEvent) -> Option<ConnectionEvent<Request, A>> {
        let place = place_of(event)?;
        let broken = |what: &str| Gone::Broken(format!("{what} (status {})", event.status));
        let why = match event.kind {
            kind::RDMA_CM_EVENT_DISCONNECTED => Gone::Disconnected,
            kind::RDMA_CM_EVENT_DEVICE_REMOVAL => broken("the RDMA device was removed"),
            kind::RDMA_CM_EVENT_CONNECT_ERROR => broken("the connection was not made"),
            kind::RDMA_CM_EVENT_UNREACHABLE => broken("the host does not answer"),
            kind::RDMA_CM_EVENT_REJECTED => broken("the host gave up"),
            _ => return None,
        };
        Some(ConnectionEvent::Gone { place, why })
    }

    /// Makes the queue pair, with answers inline if the device can.
    fn make_queue_pair(&self, id: &CmId, port: PortId, work: u32) -> io::Result<bool> {
        let (device, at) = (self.hardware.device(port), self.port(port));
        let mut last = Ok(());
        for inline in [CQE_BYTES as u32, 0] {
            let cap = v::ibv_qp_cap {
                max_send_wr: work,
                max_recv_wr: 0,
                max_send_sge: 1,
                max_recv_sge: 0,
                max_inline_data: inline,
            };
            let mut attr = v::ibv_qp_init_attr {
                qp_context: std::ptr::null_mut(),
                send_cq: at.completions.raw(),
                recv_cq: at.completions.raw(),
                srq: at.srq,
                cap,
                qp_type: v::ibv_qp_type::IBV_QPT_RC,
                sq_sig_all: 0,
            };
            // SAFETY: the queues and the protection domain are open, and belong to the device that
            // the identifier was given.
            last = check(unsafe { v::rdma_create_qp(id.raw(), device.pd, &mut attr) });
            if last.is_ok() {
                return Ok(inline > 0);
            }
        }
        last.map(|()| false)
    }

    fn port(&self, port: PortId) -> &Port {
        self.ports[usize::from(port)].as_ref().expect("opened before its queue pairs")
    }

    fn completion(&self, port: PortId, wc: &v::ibv_wc) -> Completion {
        let outcome = outcome_of(wc);
        let tag = wc.wr_id & TAG_MASK;
        let what = match wc.wr_id >> KIND_SHIFT {
            RECEIVE => What::Received(tag as u16, wc.byte_len),
            READ => What::Read(tag),
            WRITE => What::Write(tag),
            _ => What::Sent(tag),
        };
        let key = (port, wc.qp_num);
        let found = self.numbers.binary_search_by_key(&key, |(number, _)| *number);
        let place = found.ok().map(|at| self.numbers[at].1);
        Completion { port, place, outcome, what }
    }
}

/// The parameters that accept a connection.
fn conn_param(device: &Device, ask: &Ask, private: &[u8]) -> v::rdma_conn_param {
    v::rdma_conn_param {
        private_data: private.as_ptr().cast(),
        private_data_len: private.len() as u8,
        // Hosts read nothing of ours.
        responder_resources: 0,
        initiator_depth: ask.reads.min(device.max_reads),
        flow_control: 1,
        retry_count: RETRIES,
        rnr_retry_count: HOST_RNR_RETRIES,
        srq: 1,
        qp_num: 0,
    }
}

/// Shortens the time that a host waits when we have no receive for it. The default is long, and
/// works too.
fn set_rnr_timer(id: &CmId) {
    // SAFETY: all attributes may be zero; only the one named is looked at.
    unsafe {
        let mut attr: v::ibv_qp_attr = std::mem::zeroed();
        attr.min_rnr_timer = RNR_TIMER;
        let mask = v::ibv_qp_attr_mask::IBV_QP_MIN_RNR_TIMER.0 as libc::c_int;
        v::ibv_modify_qp((*id.raw()).qp, &mut attr, mask);
    }
}

/// A work request, but for its memory and its successor.
fn work_request(work: &Work, conn: &Conn, device: &Device) -> (v::ibv_send_wr, DmaSlice) {
    // SAFETY: all fields may be zero.
    let mut wr: v::ibv_send_wr = unsafe { std::mem::zeroed() };
    let signaled = v::ibv_send_flags::IBV_SEND_SIGNALED.0;
    let inline = if conn.inline { v::ibv_send_flags::IBV_SEND_INLINE.0 } else { 0 };
    let remote = |remote: Remote| v::rdma_t { remote_addr: remote.addr, rkey: remote.rkey };
    wr.num_sge = 1;
    let slice = match *work {
        Work::Read { tag, into, from } => {
            wr.wr_id = READ << KIND_SHIFT | tag;
            wr.opcode = v::ibv_wr_opcode::IBV_WR_RDMA_READ;
            wr.send_flags = signaled;
            wr.wr.rdma = remote(from);
            into
        }
        Work::Write { tag, from, into } => {
            wr.wr_id = WRITE << KIND_SHIFT | tag;
            wr.opcode = v::ibv_wr_opcode::IBV_WR_RDMA_WRITE;
            wr.wr.rdma = remote(into);
            from
        }
        Work::Send { tag, cqe, invalidate } => {
            wr.wr_id = SEND << KIND_SHIFT | tag;
            wr.opcode = v::ibv_wr_opcode::IBV_WR_SEND;
            wr.send_flags = signaled | inline;
            if let Some(rkey) = invalidate.filter(|_| device.invalidates) {
                wr.opcode = v::ibv_wr_opcode::IBV_WR_SEND_WITH_INV;
                wr.imm_data_invalidated_rkey_union.invalidated_rkey = rkey;
            }
            cqe
        }
    };
    (wr, slice)
}

impl<A: Send> Nic for VerbsNic<A> {
    type Request = Request;
    type Admission = A;

    fn connection_event(&mut self) -> Option<ConnectionEvent<Request, A>> {
        if let Some(Waiting { request, port, ask, admission }) = self.inbox.take() {
            return Some(ConnectionEvent::Asks { request, port, ask, admission });
        }
        self.turns += 1;
        if !self.manager_busy && self.turns < MANAGER_TURNS {
            return None;
        }
        self.turns = 0;
        loop {
            let event = self.inbox.channel.next();
            self.manager_busy = event.is_some();
            let understood = self.understood(&event?);
            if understood.is_some() {
                return understood;
            }
        }
    }

    fn open_port(&mut self, port: PortId, receives: u16) -> Result<(), NicError> {
        let opened =
            Port::open(self.hardware.device(port), receives, self.completions, self.reactor)?;
        self.watch.add(opened.fd()).map_err(|error| failed("no descriptor", error))?;
        self.ports[usize::from(port)] = Some(opened);
        Ok(())
    }

    fn close_port(&mut self, port: PortId) {
        self.ports[usize::from(port)] = None;
    }

    fn accept(
        &mut self,
        place: u16,
        port: PortId,
        request: Request,
        ask: &Ask,
        sizes: Sizes,
    ) -> Result<Accepted, NicError> {
        let Request { id, load } = request;
        let work = sizes.work.min(self.hardware.device(port).max_work);
        let made = self.make_queue_pair(&id, port, work);
        let inline = made.map_err(|error| {
            id.reject(Reject::NoResources.private_data().as_bytes());
            failed("no queue pair", error)
        })?;
        id.set_place(place);
        let private = accept_data(sizes.receives);
        let mut param = conn_param(self.hardware.device(port), ask, private.as_bytes());
        // SAFETY: the queue pair is there; the parameters and their private data are copied.
        check(unsafe { v::rdma_accept(id.raw(), &mut param) })
            .map_err(|error| failed("not accepted", error))?;
        set_rnr_timer(&id);
        // SAFETY: just made.
        let number = unsafe { (*(*id.raw()).qp).qp_num };
        let key = (port, number);
        let at = self.numbers.partition_point(|(other, _)| *other < key);
        self.numbers.insert(at, (key, place));
        self.conns[usize::from(place)] = Some(Conn { id, number, port, inline, _load: load });
        Ok(Accepted { work })
    }

    fn reject(&mut self, request: Request, why: Reject) {
        request.id.reject(why.private_data().as_bytes());
    }

    fn release(&mut self, place: u16) {
        if let Some(conn) = self.conns[usize::from(place)].take() {
            self.numbers.retain(|(key, _)| *key != (conn.port, conn.number));
            conn.id.disconnect();
        }
    }

    fn post(&mut self, place: u16, work: &[Work]) -> Result<(), NicError> {
        let conn = self.conns[usize::from(place)].as_ref().expect("accepted before");
        let device = self.hardware.device(conn.port);
        self.wrs.clear();
        self.sges.clear();
        for one in work {
            let (wr, slice) = work_request(one, conn, device);
            let (addr, length) = (slice.as_ptr() as u64, slice.len() as u32);
            self.sges.push(v::ibv_sge { addr, length, lkey: device.lkey(slice) });
            self.wrs.push(wr);
        }
        let (first, sges) = (self.wrs.as_mut_ptr(), self.sges.as_mut_ptr());
        let mut bad = std::ptr::null_mut();
        // SAFETY: the entries link to one another within the lists. Their memory is registered,
        // and the transport leaves it alone until their completion or the end of the queue pair.
        check_code(unsafe {
            for at in 0..work.len() {
                (*first.add(at)).sg_list = sges.add(at);
                if at > 0 {
                    (*first.add(at - 1)).next = first.add(at);
                }
            }
            v::ibv_post_send((*conn.id.raw()).qp, first, &mut bad)
        })
        .map_err(|error| failed("work was not taken", error))
    }

    fn receive(&mut self, port: PortId, receives: &[Receive]) {
        let at = self.ports[usize::from(port)].as_mut().expect("opened before");
        at.receive(self.hardware.device(port), receives);
    }

    fn poll(&mut self, out: &mut Vec<Completion>) {
        for port in 0..PORTS {
            for _ in 0..BATCHES {
                let Some(at) = self.ports[port].as_mut() else { break };
                let count = at.poll(&mut self.wcs);
                let wcs = &self.wcs[..count];
                out.extend(wcs.iter().map(|wc| self.completion(port as PortId, wc)));
                if count < BATCH {
                    break;
                }
            }
        }
    }

    fn may_sleep(&self) -> bool {
        self.ports.iter().flatten().all(Port::is_armed)
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.watch.fd())
    }
}
