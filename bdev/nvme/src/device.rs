//! A namespace as a block device.

use crate::channel::NvmeChannel;
use crate::command::Sizes;
use crate::controller::Inner;
use crate::identity::{Identity, NamespaceIdentity};
use crate::namespace::Namespace;
use bdev::{Bdev, Channel, Discards, Geometry, OpenCx, OpenError};
use std::sync::Arc;

/// A namespace of a controller. Each reactor opens a queue pair of its own.
pub struct NvmeBdev {
    inner: Arc<Inner>,
    namespace: Arc<Namespace>,
    sizes: Sizes,
    discards: Discards,
}

impl NvmeBdev {
    pub(crate) fn new(
        inner: Arc<Inner>,
        namespace: Arc<Namespace>,
        controller: &Identity,
    ) -> NvmeBdev {
        let discards = controller.discards(&namespace.geometry());
        NvmeBdev { inner, namespace, sizes: Sizes::of(controller), discards }
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

    fn discards(&self) -> Discards {
        self.discards.clone()
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        let opened = self.inner.admin().open_queue(cx.memory)?;
        let (inner, namespace) = (self.inner.clone(), self.namespace.clone());
        Ok(Box::new(NvmeChannel::new(inner, namespace, opened, self.sizes, cx)))
    }
}
