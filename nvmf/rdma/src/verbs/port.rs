//! One device as one reactor uses it: a completion queue, and the receives that all queue pairs
//! share.

use super::hardware::{Device, failed};
use super::sys::{check_code, check_ptr, set_nonblocking};
use crate::limits::{BATCH, COMPLETIONS, QUIET_TURNS};
use crate::nic::{NicError, Receive};
use rdma_mummy_sys as v;
use std::os::fd::RawFd;

/// Whether the next completion makes the descriptor readable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Notice {
    /// It does not.
    Off,
    /// It does, or has.
    On,
}

pub(super) struct Port {
    channel: *mut v::ibv_comp_channel,
    pub cq: *mut v::ibv_cq,
    pub srq: *mut v::ibv_srq,
    notice: Notice,
    quiet_turns: u32,
    wrs: Vec<v::ibv_recv_wr>,
    sges: Vec<[v::ibv_sge; 2]>,
}

impl Drop for Port {
    fn drop(&mut self) {
        // SAFETY: ours, no queue pair uses them, and every event was acknowledged.
        unsafe {
            if !self.srq.is_null() {
                v::ibv_destroy_srq(self.srq);
            }
            if !self.cq.is_null() {
                v::ibv_destroy_cq(self.cq);
            }
            v::ibv_destroy_comp_channel(self.channel);
        }
    }
}

impl Port {
    pub(super) fn open(device: &Device, receives: u16, vector: usize) -> Result<Port, NicError> {
        // SAFETY: an open context.
        let channel = check_ptr(unsafe { v::ibv_create_comp_channel(device.ctx) })
            .map_err(|error| failed("no completion channel", error))?;
        let mut port = Port {
            channel,
            cq: std::ptr::null_mut(),
            srq: std::ptr::null_mut(),
            notice: Notice::Off,
            quiet_turns: 0,
            wrs: Vec::with_capacity(usize::from(receives)),
            sges: Vec::with_capacity(usize::from(receives)),
        };
        set_nonblocking(port.fd()).map_err(|error| failed("no completion channel", error))?;
        let entries = COMPLETIONS.min(device.max_completions) as libc::c_int;
        // SAFETY: the context and the channel are open; the vector is one that the device has.
        port.cq = check_ptr(unsafe {
            let vectors = (*device.ctx).num_comp_vectors.max(1) as usize;
            let vector = (vector % vectors) as libc::c_int;
            v::ibv_create_cq(device.ctx, entries, std::ptr::null_mut(), channel, vector)
        })
        .map_err(|error| failed("no completion queue", error))?;
        let mut attr = v::ibv_srq_init_attr {
            srq_context: std::ptr::null_mut(),
            attr: v::ibv_srq_attr { max_wr: u32::from(receives), max_sge: 2, srq_limit: 0 },
        };
        // SAFETY: the protection domain is the device's, the attributes are ours.
        port.srq = check_ptr(unsafe { v::ibv_create_srq(device.pd, &mut attr) })
            .map_err(|error| failed("no shared receive queue", error))?;
        Ok(port)
    }

    /// Readable after a completion that was asked to be announced.
    pub(super) fn fd(&self) -> RawFd {
        // SAFETY: an open channel.
        unsafe { (*self.channel).fd }
    }

    pub(super) fn is_armed(&self) -> bool {
        self.notice == Notice::On
    }

    /// Takes completions, as many as there is room for. Once there have been none for a while,
    /// the next one is asked to be announced.
    pub(super) fn poll(&mut self, wcs: &mut [v::ibv_wc; BATCH]) -> usize {
        let count = self.take(wcs);
        if count > 0 {
            self.quiet_turns = 0;
            self.forget_notice();
            return count;
        }
        self.quiet_turns = self.quiet_turns.saturating_add(1);
        if self.notice == Notice::Off && self.quiet_turns >= QUIET_TURNS {
            // SAFETY: an open queue.
            if unsafe { v::ibv_req_notify_cq(self.cq, 0) } == 0 {
                self.notice = Notice::On;
            }
            // What came before it was asked for is not announced.
            return self.take(wcs);
        }
        0
    }

    fn take(&mut self, wcs: &mut [v::ibv_wc; BATCH]) -> usize {
        // SAFETY: an open queue, and room for that many completions.
        let count = unsafe { v::ibv_poll_cq(self.cq, BATCH as i32, wcs.as_mut_ptr()) };
        usize::try_from(count).unwrap_or(0)
    }

    /// Takes an announcement back, if it has come: an event that is left makes the descriptor
    /// readable for nothing.
    fn forget_notice(&mut self) {
        if self.notice == Notice::Off {
            return;
        }
        let (mut cq, mut context) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the channel does not wait; an event is acknowledged at once.
        unsafe {
            if v::ibv_get_cq_event(self.channel, &mut cq, &mut context) == 0 {
                v::ibv_ack_cq_events(cq, 1);
                self.notice = Notice::Off;
            }
        }
    }

    /// Posts receives as one chain.
    pub(super) fn receive(&mut self, device: &Device, receives: &[Receive]) {
        self.wrs.clear();
        self.sges.clear();
        let sge = |slice: bdev::DmaSlice| v::ibv_sge {
            addr: slice.as_ptr() as u64,
            length: slice.len() as u32,
            lkey: device.lkey(slice),
        };
        self.sges.extend(receives.iter().map(|one| [sge(one.sqe), sge(one.data)]));
        for (one, sges) in receives.iter().zip(self.sges.iter_mut()) {
            self.wrs.push(v::ibv_recv_wr {
                wr_id: u64::from(one.slot),
                next: std::ptr::null_mut(),
                sg_list: sges.as_mut_ptr(),
                num_sge: 2,
            });
        }
        let first = self.wrs.as_mut_ptr();
        let mut bad = std::ptr::null_mut();
        // SAFETY: the entries link to one another within the list; their memory is registered,
        // and is nobody else's until its completion.
        let posted = check_code(unsafe {
            for at in 1..self.wrs.len() {
                (*first.add(at - 1)).next = first.add(at);
            }
            v::ibv_post_srq_recv(self.srq, first, &mut bad)
        });
        // There is room for all of them: the queue was made for as many as there are. A device that
        // has failed says so; its queue pairs learn it from the connection manager.
        debug_assert!(posted.is_ok(), "{posted:?}");
    }
}
