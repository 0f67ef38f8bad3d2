//! The RDMA devices of the machine, and the memory registered with them.

use super::sys::{check_code, check_ptr, has_library};
use bdev::dma::Region;
use bdev::{DmaSlice, Memory};
use rdma_mummy_sys as v;
use std::ffi::CStr;
use std::io;
use std::sync::Arc;

/// A device.
pub(super) struct Device {
    pub ctx: *mut v::ibv_context,
    pub pd: *mut v::ibv_pd,
    /// By number of the region.
    regions: Vec<*mut v::ibv_mr>,
    pub name: String,
    /// Work requests of a queue pair.
    pub max_work: u32,
    pub max_completions: u32,
    /// RDMA READs of a queue pair at a time.
    pub max_reads: u8,
    /// RDMA READs of its memory that it answers at a time.
    pub max_answers: u8,
    /// It can invalidate a key at the other side.
    pub invalidates: bool,
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: made by `Device::open`, and nothing uses them any more: queue pairs hold the
        // Hardware that holds this.
        unsafe {
            for mr in &self.regions {
                v::ibv_dereg_mr(*mr);
            }
            v::ibv_dealloc_pd(self.pd);
        }
    }
}

impl Device {
    /// Opens a device, with no memory registered yet.
    pub(super) fn open(ctx: *mut v::ibv_context) -> Result<Device, String> {
        // SAFETY: a context of the connection manager's, open until the process ends; the name
        // ends with a zero.
        let (name, kind) = unsafe {
            let device = (*ctx).device;
            let name = CStr::from_ptr(v::ibv_get_device_name(device)).to_string_lossy();
            (name.into_owned(), (*device).transport_type)
        };
        if kind != v::ibv_transport_type::IBV_TRANSPORT_IB {
            return Err(format!("{name} is neither InfiniBand nor RoCE"));
        }
        // SAFETY: all fields may be zero; the call fills them.
        let attr = unsafe {
            let mut attr: v::ibv_device_attr = std::mem::zeroed();
            let asked = check_code(v::ibv_query_device(ctx, &mut attr));
            asked.map_err(|error| format!("{name} does not say what it can do: {error}"))?;
            attr
        };
        let at_least_0 = |n: libc::c_int| u32::try_from(n).unwrap_or(0);
        let flag = v::ibv_device_cap_flags::IBV_DEVICE_MEM_MGT_EXTENSIONS.0;
        // SAFETY: an open context.
        let pd = check_ptr(unsafe { v::ibv_alloc_pd(ctx) })
            .map_err(|error| format!("{name} has no protection domain left: {error}"))?;
        Ok(Device {
            ctx,
            pd,
            regions: Vec::new(),
            name,
            max_work: at_least_0(attr.max_qp_wr),
            max_completions: at_least_0(attr.max_cqe),
            max_reads: at_least_0(attr.max_qp_init_rd_atom).min(255) as u8,
            max_answers: at_least_0(attr.max_qp_rd_atom).min(255) as u8,
            invalidates: attr.device_cap_flags & flag != 0,
        })
    }

    /// Opens a device for the memory that all queue pairs of the target use. Hosts name their own
    /// memory, never this: it allows no access from outside.
    fn open_for(ctx: *mut v::ibv_context, memory: &Memory) -> Result<Device, String> {
        let mut device = Device::open(ctx)?;
        for region in memory.regions() {
            let mr = device.register(region, v::ibv_access_flags::IBV_ACCESS_LOCAL_WRITE)?;
            device.regions.push(mr);
        }
        Ok(device)
    }

    /// Registers a region, whose holder gives the registration back before the device.
    pub(super) fn register(
        &self,
        region: &Region,
        access: v::ibv_access_flags,
    ) -> Result<*mut v::ibv_mr, String> {
        // SAFETY: mapped for as long as the Memory that the holder of the registration holds.
        let mr = check_ptr(unsafe {
            let access = access.0 as libc::c_int;
            v::ibv_reg_mr(self.pd, region.as_ptr().cast(), region.len(), access)
        });
        mr.map_err(|error| match error.raw_os_error() {
            Some(libc::ENOMEM | libc::EAGAIN) => format!(
                "{} cannot have the reactors' memory: the limit of locked memory is too low \
                 (RLIMIT_MEMLOCK; LimitMEMLOCK=infinity in a unit of systemd)",
                self.name
            ),
            _ => format!("{} cannot have the reactors' memory: {error}", self.name),
        })
    }

    /// The key under which the device reaches `slice`.
    pub(super) fn lkey(&self, slice: DmaSlice) -> u32 {
        let mr = self.regions[usize::from(slice.region())];
        // SAFETY: registered, and so until the device is dropped.
        unsafe { (*mr).lkey }
    }
}

/// The connection manager's list of contexts.
pub(super) struct List {
    list: *mut *mut v::ibv_context,
    count: usize,
}

// SAFETY: the list does not change, and contexts may be used by any thread.
unsafe impl Send for List {}
// SAFETY: as above.
unsafe impl Sync for List {}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: it came from `rdma_get_devices`, and its holder dropped every device before.
        unsafe { v::rdma_free_devices(self.list) };
    }
}

impl List {
    /// Looks for devices.
    fn open() -> Result<List, String> {
        for name in [c"libibverbs.so.1", c"librdmacm.so.1"] {
            if !has_library(name) {
                let name = name.to_string_lossy();
                return Err(format!(
                    "the library {name} is not installed (on Debian: libibverbs1, librdmacm1 and \
                     ibverbs-providers)."
                ));
            }
        }
        if count_devices() == 0 {
            return Err("this machine has no RDMA device, or no driver of one is loaded.".into());
        }
        let mut count = 0;
        // SAFETY: the count is ours; the list is given back when it is dropped.
        let list = check_ptr(unsafe { v::rdma_get_devices(&mut count) }).map_err(|error| {
            format!(
                "the connection manager cannot be reached: {error}. Load the kernel's module \
                 rdma_ucm, and see that /dev/infiniband may be opened."
            )
        })?;
        Ok(List { list, count: usize::try_from(count).unwrap_or(0) })
    }

    /// Opens every device with `open`, and says why if it can open none.
    pub(super) fn devices(
        open: impl Fn(*mut v::ibv_context) -> Result<Device, String>,
    ) -> Result<(Vec<Device>, List), String> {
        let list = List::open()?;
        let (mut devices, mut refusals) = (Vec::new(), Vec::new());
        for at in 0..list.count {
            // SAFETY: the list has that many entries.
            match open(unsafe { *list.list.add(at) }) {
                Ok(device) if devices.len() < crate::limits::PORTS => devices.push(device),
                Ok(device) => refusals.push(format!("{} is one device too many", device.name)),
                Err(why) => refusals.push(why),
            }
        }
        match (devices.is_empty(), refusals.is_empty()) {
            (true, true) => Err("the connection manager knows no device.".into()),
            (true, false) => Err(format!("{}.", refusals.join("; "))),
            _ => Ok((devices, list)),
        }
    }
}

/// The RDMA devices of the machine, with the reactors' memory registered.
pub struct Hardware {
    /// Before the list that their contexts are of.
    devices: Vec<Device>,
    _list: List,
    _memory: Arc<Memory>,
}

// SAFETY: contexts, protection domains and memory regions may be used by any thread at once (the
// verbs library locks where it has to).
unsafe impl Send for Hardware {}
// SAFETY: as above.
unsafe impl Sync for Hardware {}

impl Hardware {
    /// Looks for devices, and registers `memory` with them, once, before the first I/O.
    ///
    /// # Errors
    /// Why there is no RDMA, as the end of the sentence "RDMA is off: ".
    pub fn open(memory: &Arc<Memory>) -> Result<Arc<Hardware>, String> {
        let (devices, list) = List::devices(|ctx| Device::open_for(ctx, memory))?;
        Ok(Arc::new(Hardware { devices, _list: list, _memory: memory.clone() }))
    }

    /// The names of the devices that are used.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().map(|device| device.name.as_str())
    }

    pub(super) fn device(&self, at: u8) -> &Device {
        &self.devices[usize::from(at)]
    }

    /// The place of the device with this context.
    pub(super) fn find(&self, ctx: *mut v::ibv_context) -> Option<u8> {
        self.devices.iter().position(|device| device.ctx == ctx).map(|at| at as u8)
    }
}

fn count_devices() -> libc::c_int {
    let mut count = 0;
    // SAFETY: the count is ours; the list is given back at once.
    unsafe {
        let list = v::ibv_get_device_list(&mut count);
        if list.is_null() {
            return 0;
        }
        v::ibv_free_device_list(list);
    }
    count
}

/// What the kernel said, with what was tried.
pub(super) fn failed(what: &str, error: io::Error) -> crate::nic::NicError {
    crate::nic::NicError(format!("{what}: {error}"))
}
