//! A namespace as a block device.

use crate::channel::NvmeChannel;
use crate::controller::Inner;
use crate::identity::{Identity, NamespaceIdentity};
use crate::namespace::Namespace;
use bdev::{Bdev, Channel, Geometry, OpenCx, OpenError};
use std::sync::Arc;

/// A namespace of a controller. Each reactor opens a queue pair of its own.
pub struct NvmeBdev {
    inner: Arc<Inner>,
    namespace: Arc<Namespace>,
    transfer_bytes: u32,
    zeroes_bytes: Option<u64>,
}

impl NvmeBdev {
    pub(crate) fn new(
        inner: Arc<Inner>,
        namespace: Arc<Namespace>,
        controller: &Identity,
    ) -> NvmeBdev {
        let Identity { transfer_bytes, zeroes_bytes, .. } = *controller;
        NvmeBdev { inner, namespace, transfer_bytes, zeroes_bytes }
    }

    /// What the namespace says of itself.
    pub fn identity(&self) -> NamespaceIdentity {
        self.namespace.identity()
    }
}

impl Bdev for NvmeBdev {
    fn geometry(&self) -> Geometry {
        self.namespace.geometry()
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        let opened = self.inner.admin().open_queue(cx.memory)?;
        let sizes = (self.transfer_bytes, self.zeroes_bytes);
        let (inner, namespace) = (self.inner.clone(), self.namespace.clone());
        Ok(Box::new(NvmeChannel::new(inner, namespace, opened, sizes, cx)))
    }
}
