//! One queue pair of an initiator.

use super::cm::{CmId, EventChannel};
use super::completions::{Completions, outcome_of};
use super::devices::failed;
use super::registered::Registered;
use super::sys::{Watch, check, check_code};
use crate::initiator::{Cutter, Ending, Landing, Link, Lost, Send};
use crate::limits::{BATCH, BATCHES, MANAGER_TURNS, SQE_BYTES};
use crate::nic::NicError;
use bdev::{DmaSlice, Memory};
use rdma_mummy_sys as v;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use v::rdma_cm_event_type as kind;

/// The kind of a work request, in the highest bit of its identifier.
const SEND: u64 = 1 << 63;

/// What another thread may end. Its queue pair is destroyed with the identifier.
struct Connection {
    /// Before the channel: destroyed first.
    id: Mutex<Option<CmId>>,
    channel: EventChannel,
}

impl Connection {
    fn id(&self) -> MutexGuard<'_, Option<CmId>> {
        self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct VerbsCutter(Arc<Connection>);

impl Cutter for VerbsCutter {
    fn cut(&self) {
        if let Some(id) = self.0.id().as_ref() {
            id.disconnect();
        }
    }
}

/// A queue pair.
pub(super) struct VerbsLink {
    connection: Arc<Connection>,
    /// Of the identifier; null once that is gone.
    qp: *mut v::ibv_qp,
    /// Commands without data go with the work request itself.
    inline: bool,
    turns: u32,
    wcs: Box<[v::ibv_wc; BATCH]>,
    sends: Vec<(v::ibv_send_wr, [v::ibv_sge; 2])>,
    receives: Vec<(v::ibv_recv_wr, v::ibv_sge)>,
    watch: Watch,
    completions: Completions,
    own: Arc<Registered>,
    lent: Arc<Registered>,
}

// SAFETY: used by one thread at a time; the libraries allow any.
unsafe impl std::marker::Send for VerbsLink {}

impl Drop for VerbsLink {
    fn drop(&mut self) {
        self.close();
    }
}

impl VerbsLink {
    /// Makes the queue pair of an identifier that knows its device, for `depth` SENDs and
    /// `receives` receives. Returns the identifier, too, to be connected while the link is held.
    pub(super) fn new(
        id: CmId,
        channel: EventChannel,
        own: Arc<Registered>,
        depth: u16,
        receives: usize,
    ) -> Result<(VerbsLink, *mut v::rdma_cm_id), NicError> {
        let sends = u32::from(depth) + 1;
        let completions = Completions::open(own.device(), sends + receives as u32, 0)?;
        let inline = make_queue_pair(&id, &own, &completions, sends, receives as u32)
            .map_err(|error| failed("no queue pair", error))?;
        let watch = Watch::new().map_err(|error| failed("no descriptor", error))?;
        for fd in [completions.fd(), channel.fd()] {
            watch.add(fd).map_err(|error| failed("no descriptor", error))?;
        }
        let raw = id.raw();
        // SAFETY: just made.
        let qp = unsafe { (*raw).qp };
        let link = VerbsLink {
            connection: Arc::new(Connection { id: Mutex::new(Some(id)), channel }),
            qp,
            inline,
            turns: 0,
            // SAFETY: all fields of a completion may be zero.
            wcs: Box::new(unsafe { std::mem::zeroed() }),
            sends: Vec::with_capacity(sends as usize),
            receives: Vec::with_capacity(receives),
            watch,
            completions,
            lent: own.clone(),
            own,
        };
        Ok((link, raw))
    }

    pub(super) fn channel(&self) -> &EventChannel {
        &self.connection.channel
    }

    /// Looks for the end of the connection.
    fn manager(&mut self) -> Result<(), Lost> {
        while let Some(event) = self.connection.channel.next() {
            match event.kind {
                kind::RDMA_CM_EVENT_DISCONNECTED => return Err(Lost::Disconnected),
                kind::RDMA_CM_EVENT_DEVICE_REMOVAL => {
                    return Err(Lost::Broken("the RDMA device was removed".into()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Makes the queue pair, with commands inline if the device can.
fn make_queue_pair(
    id: &CmId,
    own: &Registered,
    completions: &Completions,
    sends: u32,
    receives: u32,
) -> io::Result<bool> {
    let mut last = Ok(());
    for inline in [SQE_BYTES as u32, 0] {
        let cap = v::ibv_qp_cap {
            max_send_wr: sends,
            max_recv_wr: receives,
            max_send_sge: 2,
            max_recv_sge: 1,
            max_inline_data: inline,
        };
        let mut attr = v::ibv_qp_init_attr {
            qp_context: std::ptr::null_mut(),
            send_cq: completions.raw(),
            recv_cq: completions.raw(),
            srq: std::ptr::null_mut(),
            cap,
            qp_type: v::ibv_qp_type::IBV_QPT_RC,
            sq_sig_all: 1,
        };
        // SAFETY: the queue and the protection domain are open, and belong to the device that the
        // identifier was given.
        last = check(unsafe { v::rdma_create_qp(id.raw(), own.device().pd, &mut attr) });
        if last.is_ok() {
            return Ok(inline > 0);
        }
    }
    last.map(|()| false)
}

fn sge(slice: DmaSlice, keys: &Registered) -> v::ibv_sge {
    let (addr, length) = (slice.as_ptr() as u64, slice.len() as u32);
    v::ibv_sge { addr, length, lkey: keys.keys(slice).0 }
}

fn ending(wc: &v::ibv_wc) -> Ending {
    let outcome = outcome_of(wc);
    let slot = wc.wr_id as u16;
    if wc.wr_id & SEND != 0 {
        return Ending::Sent { slot, outcome };
    }
    let invalidates = wc.wc_flags & v::ibv_wc_flags::IBV_WC_WITH_INV.0 != 0;
    // SAFETY: every value of the field is valid.
    let key = unsafe { wc.imm_data_invalidated_rkey_union.invalidated_rkey };
    Ending::Received { slot, outcome, bytes: wc.byte_len, invalidated: invalidates.then_some(key) }
}

impl Link for VerbsLink {
    fn lend(&mut self, memory: &Arc<Memory>) -> Result<(), NicError> {
        self.lent = self.own.beside(memory).map_err(NicError)?;
        Ok(())
    }

    fn key(&self, payload: DmaSlice) -> u32 {
        self.lent.keys(payload).1
    }

    fn own_key(&self) -> u32 {
        self.own.keys(DmaSlice::EMPTY).1
    }

    fn receive(&mut self, landings: &[Landing]) -> Result<(), NicError> {
        if landings.is_empty() || self.qp.is_null() {
            return Ok(());
        }
        self.receives.clear();
        self.receives.extend(landings.iter().map(|one| {
            let (next, sg_list) = (std::ptr::null_mut(), std::ptr::null_mut());
            let wr = v::ibv_recv_wr { wr_id: u64::from(one.slot), next, sg_list, num_sge: 1 };
            (wr, sge(one.cqe, &self.own))
        }));
        let first = self.receives.as_mut_ptr();
        let mut bad = std::ptr::null_mut();
        // SAFETY: the entries link to one another within the list; their memory is registered,
        // and is nobody else's until its completion.
        check_code(unsafe {
            for at in 0..landings.len() {
                (*first.add(at)).0.sg_list = &raw mut (*first.add(at)).1;
                if at > 0 {
                    (*first.add(at - 1)).0.next = &raw mut (*first.add(at)).0;
                }
            }
            v::ibv_post_recv(self.qp, &raw mut (*first).0, &mut bad)
        })
        .map_err(|error| failed("receives were not taken", error))
    }

    fn send(&mut self, sends: &[Send]) -> Result<(), NicError> {
        if sends.is_empty() || self.qp.is_null() {
            return Ok(());
        }
        self.sends.clear();
        for one in sends {
            // SAFETY: all fields may be zero.
            let mut wr: v::ibv_send_wr = unsafe { std::mem::zeroed() };
            wr.wr_id = SEND | u64::from(one.slot);
            wr.opcode = v::ibv_wr_opcode::IBV_WR_SEND;
            wr.send_flags = v::ibv_send_flags::IBV_SEND_SIGNALED.0;
            wr.num_sge = 1 + libc::c_int::from(one.data.is_some());
            if self.inline && one.data.is_none() && one.capsule.len() <= SQE_BYTES {
                wr.send_flags |= v::ibv_send_flags::IBV_SEND_INLINE.0;
            }
            let data = one.data.map_or(sge(one.capsule, &self.own), |data| sge(data, &self.lent));
            self.sends.push((wr, [sge(one.capsule, &self.own), data]));
        }
        let first = self.sends.as_mut_ptr();
        let mut bad = std::ptr::null_mut();
        // SAFETY: the entries link to one another within the list. Their memory is registered, and
        // is left alone until their completion or the end of the queue pair.
        check_code(unsafe {
            for at in 0..sends.len() {
                (*first.add(at)).0.sg_list = (&raw mut (*first.add(at)).1).cast();
                if at > 0 {
                    (*first.add(at - 1)).0.next = &raw mut (*first.add(at)).0;
                }
            }
            v::ibv_post_send(self.qp, &raw mut (*first).0, &mut bad)
        })
        .map_err(|error| failed("commands were not taken", error))
    }

    fn poll(&mut self, out: &mut Vec<Ending>) -> Result<(), Lost> {
        if self.qp.is_null() {
            return Err(Lost::Disconnected);
        }
        for _ in 0..BATCHES {
            let count = self.completions.poll(&mut self.wcs);
            out.extend(self.wcs[..count].iter().map(ending));
            if count < BATCH {
                break;
            }
        }
        self.turns += 1;
        if self.turns < MANAGER_TURNS {
            return Ok(());
        }
        self.turns = 0;
        self.manager()
    }

    fn close(&mut self) {
        self.qp = std::ptr::null_mut();
        if let Some(id) = self.connection.id().take() {
            id.disconnect();
        }
    }

    fn cutter(&self) -> Box<dyn Cutter> {
        Box::new(VerbsCutter(self.connection.clone()))
    }

    fn may_sleep(&self) -> bool {
        self.completions.is_armed()
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.watch.fd())
    }
}
