//! One device as one reactor uses it: a completion queue, and the receives that all queue pairs
//! share.

use super::completions::Completions;
use super::devices::{Device, failed};
use super::sys::{check_code, check_ptr};
use crate::limits::BATCH;
use crate::nic::{NicError, Receive};
use rdma_mummy_sys as v;
use std::os::fd::BorrowedFd;

pub(super) struct Port {
    pub srq: *mut v::ibv_srq,
    pub completions: Completions,
    wrs: Vec<v::ibv_recv_wr>,
    sges: Vec<[v::ibv_sge; 2]>,
}

impl Drop for Port {
    fn drop(&mut self) {
        // SAFETY: ours, and no queue pair uses it.
        unsafe { v::ibv_destroy_srq(self.srq) };
    }
}

impl Port {
    pub(super) fn open(
        device: &Device,
        receives: u16,
        completions: u32,
        vector: usize,
    ) -> Result<Port, NicError> {
        let completions = Completions::open(device, completions, vector)?;
        let mut attr = v::ibv_srq_init_attr {
            srq_context: std::ptr::null_mut(),
            attr: v::ibv_srq_attr { max_wr: u32::from(receives), max_sge: 2, srq_limit: 0 },
        };
        // SAFETY: the protection domain is the device's, the attributes are ours.
        let srq = check_ptr(unsafe { v::ibv_create_srq(device.pd, &mut attr) })
            .map_err(|error| failed("no shared receive queue", error))?;
        let receives = usize::from(receives);
        let (wrs, sges) = (Vec::with_capacity(receives), Vec::with_capacity(receives));
        Ok(Port { srq, completions, wrs, sges })
    }

    /// Readable after a completion that was asked to be announced.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.completions.fd()
    }

    pub(super) fn is_armed(&self) -> bool {
        self.completions.is_armed()
    }

    /// Takes completions, as many as there is room for.
    pub(super) fn poll(&mut self, wcs: &mut [v::ibv_wc; BATCH]) -> usize {
        self.completions.poll(wcs)
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
