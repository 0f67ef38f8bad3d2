//! The devices that an initiator uses, and the memory that is registered with them.

use super::devices::{Device, List};
use bdev::{DmaSlice, Memory};
use rdma_mummy_sys as v;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Devices, and the memory registered with them.
pub(super) struct Devices {
    /// Before the list that their contexts are of.
    devices: Vec<Device>,
    _list: List,
    registered: Mutex<Vec<Weak<Registered>>>,
}

// SAFETY: contexts, protection domains and memory regions may be used by any thread at once (the
// verbs library locks where it has to).
unsafe impl Send for Devices {}
// SAFETY: as above.
unsafe impl Sync for Devices {}

/// Memory that a controller may read and write, on one device.
pub(super) struct Registered {
    /// By number of the region.
    regions: Vec<*mut v::ibv_mr>,
    port: usize,
    memory: Arc<Memory>,
    devices: Arc<Devices>,
}

// SAFETY: as for the devices.
unsafe impl Send for Registered {}
// SAFETY: as above.
unsafe impl Sync for Registered {}

impl Drop for Registered {
    fn drop(&mut self) {
        for mr in &self.regions {
            // SAFETY: made by `Devices::register`; queue pairs that use it hold this.
            unsafe { v::ibv_dereg_mr(*mr) };
        }
    }
}

impl Registered {
    /// The device's key and the controller's key for `slice`.
    pub(super) fn keys(&self, slice: DmaSlice) -> (u32, u32) {
        let mr = self.regions[usize::from(slice.region())];
        // SAFETY: registered, and so until this is dropped.
        unsafe { ((*mr).lkey, (*mr).rkey) }
    }

    pub(super) fn device(&self) -> &Device {
        self.devices.device(self.port)
    }

    /// Other memory, on the same device.
    pub(super) fn beside(&self, memory: &Arc<Memory>) -> Result<Arc<Registered>, String> {
        self.devices.register(self.port, memory)
    }
}

impl Devices {
    /// Looks for devices, and says why if there are none.
    pub(super) fn open() -> Result<Arc<Devices>, String> {
        let (devices, list) = List::devices(Device::open)?;
        Ok(Arc::new(Devices { devices, _list: list, registered: Mutex::default() }))
    }

    pub(super) fn device(&self, port: usize) -> &Device {
        &self.devices[port]
    }

    /// The place of the device with this context.
    pub(super) fn find(&self, ctx: *mut v::ibv_context) -> Option<usize> {
        self.devices.iter().position(|device| device.ctx == ctx)
    }

    /// Registers memory, once for all connections that use it at a time.
    pub(super) fn register(
        self: &Arc<Self>,
        port: usize,
        memory: &Arc<Memory>,
    ) -> Result<Arc<Registered>, String> {
        let mut all = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.strong_count() > 0);
        let known = all.iter().filter_map(Weak::upgrade);
        let same = |one: &Arc<Registered>| one.port == port && Arc::ptr_eq(&one.memory, memory);
        if let Some(known) = known.into_iter().find(same) {
            return Ok(known);
        }
        let (memory, devices) = (memory.clone(), self.clone());
        let mut made = Registered { regions: Vec::new(), port, memory, devices };
        let access = v::ibv_access_flags::IBV_ACCESS_LOCAL_WRITE
            | v::ibv_access_flags::IBV_ACCESS_REMOTE_READ
            | v::ibv_access_flags::IBV_ACCESS_REMOTE_WRITE;
        for region in made.memory.regions() {
            made.regions.push(self.devices[port].register(region, access)?);
        }
        let made = Arc::new(made);
        all.push(Arc::downgrade(&made));
        Ok(made)
    }
}
