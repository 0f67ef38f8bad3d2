//! A volume or a snapshot as a bdev.

use crate::channel::VolumeChannel;
use crate::devices::Devices;
use crate::state::{Traffic, View};
use crate::superblock::EXTENT_BYTES;
use bdev::{Bdev, Channel, Geometry, Home, OpenCx, OpenError, Witness};
use std::sync::Arc;

/// A volume or a snapshot as a bdev. Two of the same volume are not open at once.
pub struct VolumeBdev {
    view: Arc<View>,
    devices: Arc<Devices>,
    below: Arc<dyn Bdev>,
}

impl VolumeBdev {
    pub(crate) fn new(view: Arc<View>, devices: Arc<Devices>, below: Arc<dyn Bdev>) -> VolumeBdev {
        VolumeBdev { view, devices, below }
    }

    /// What it has done since the pool was opened.
    pub fn traffic(&self) -> &Traffic {
        &self.view.traffic
    }
}

impl Bdev for VolumeBdev {
    fn geometry(&self) -> Geometry {
        let block_bytes = self.view.block_bytes;
        Geometry {
            optimal_blocks: (EXTENT_BYTES / u64::from(block_bytes)) as u32,
            // Of more than one, some may be there and others not: then they do not become durable
            // together.
            atomic_blocks: 1,
            align_bytes: self.devices.align_bytes(),
            volatile_cache: true,
            deallocates: true,
            read_only: self.view.read_only,
            ..Geometry::plain(block_bytes, self.view.bytes() / u64::from(block_bytes))
        }
    }

    fn witness(&self) -> Option<Arc<dyn Witness>> {
        let writers: Arc<dyn Witness> = self.view.writers.clone();
        (!self.view.read_only).then_some(writers)
    }

    fn home(&self) -> Home {
        Home::One(self.view.home)
    }

    fn children(&self) -> Vec<Arc<dyn Bdev>> {
        vec![self.below.clone()]
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        let taken = self.view.take();
        let state = taken.ok_or_else(|| OpenError("it is open already, or was deleted".into()))?;
        let (view, devices) = (self.view.clone(), self.devices.clone());
        let channel =
            VolumeChannel::new(view, state, devices, cx.children[0], cx.reactor, cx.limit);
        Ok(Box::new(channel))
    }
}
