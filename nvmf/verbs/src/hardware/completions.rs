//! A completion queue that is polled, and announces the next completion once it was quiet for a
//! while.

use super::devices::{Device, failed};
use super::sys::check_ptr;
use crate::limits::{BATCH, QUIET_TURNS};
use crate::nic::{NicError, Outcome};
use rdma_mummy_sys as v;
use rustix::io::ioctl_fionbio;
use std::os::fd::BorrowedFd;

/// Whether the next completion makes the descriptor readable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Notice {
    /// It does not.
    Off,
    /// It does, or has.
    On,
}

/// A completion queue with its channel.
pub(super) struct Completions {
    channel: *mut v::ibv_comp_channel,
    cq: *mut v::ibv_cq,
    notice: Notice,
    quiet_turns: u32,
}

impl Drop for Completions {
    fn drop(&mut self) {
        // SAFETY: ours, no queue pair uses them, and every event was acknowledged.
        unsafe {
            if !self.cq.is_null() {
                v::ibv_destroy_cq(self.cq);
            }
            v::ibv_destroy_comp_channel(self.channel);
        }
    }
}

impl Completions {
    /// A queue of `entries` entries, or as many as the device has, on interrupt `vector`.
    pub(super) fn open(
        device: &Device,
        entries: u32,
        vector: usize,
    ) -> Result<Completions, NicError> {
        // SAFETY: an open context.
        let channel = check_ptr(unsafe { v::ibv_create_comp_channel(device.ctx) })
            .map_err(|error| failed("no completion channel", error))?;
        let cq = std::ptr::null_mut();
        let mut completions = Completions { channel, cq, notice: Notice::Off, quiet_turns: 0 };
        ioctl_fionbio(completions.fd(), true)
            .map_err(|error| failed("no completion channel", error.into()))?;
        let entries = entries.min(device.max_completions) as libc::c_int;
        // SAFETY: the context and the channel are open; the vector is one that the device has.
        completions.cq = check_ptr(unsafe {
            let vectors = (*device.ctx).num_comp_vectors.max(1) as usize;
            let vector = (vector % vectors) as libc::c_int;
            v::ibv_create_cq(device.ctx, entries, std::ptr::null_mut(), channel, vector)
        })
        .map_err(|error| failed("no completion queue", error))?;
        Ok(completions)
    }

    pub(super) fn raw(&self) -> *mut v::ibv_cq {
        self.cq
    }

    /// Readable after a completion that was asked to be announced.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: an open channel, which closes its descriptor when it is destroyed.
        unsafe { BorrowedFd::borrow_raw((*self.channel).fd) }
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
}

/// How a work request ended.
pub(super) fn outcome_of(wc: &v::ibv_wc) -> Outcome {
    match wc.status {
        v::ibv_wc_status::IBV_WC_SUCCESS => Outcome::Done,
        v::ibv_wc_status::IBV_WC_WR_FLUSH_ERR => Outcome::Flushed,
        code => Outcome::Failed(code),
    }
}
